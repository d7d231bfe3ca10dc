#include "sys/nft.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

static struct nlmsghdr *put(struct netlink *n, uint16_t type, uint16_t flags, int family,
                            uint16_t resource, enum netlink_forgive forgive)
{
    struct nlmsghdr *m = netlink_request(n, type, flags, forgive);
    struct nfgenmsg *g = mnl_nlmsg_put_extra_header(m, sizeof(*g));

    g->nfgen_family = (uint8_t)family;
    g->version = NFNETLINK_V0;
    g->res_id = htons(resource);
    return m;
}

static void put_edge(struct netlink *n, uint16_t type)
{
    (void)put(n, type, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, NETLINK_STRICT);
}

static struct nlmsghdr *put_nft(struct netlink *n, uint16_t message, uint16_t flags, int family)
{
    return put(n, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | message), flags, family, 0,
               NETLINK_STRICT);
}

static void put_element(struct netlink *n, const struct nft_element *e, uint16_t message,
                        uint16_t flags)
{
    struct nlmsghdr *m = put_nft(n, message, flags, e->family);
    struct nlattr *list, *element, *key, *data;

    mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_TABLE, e->table);
    mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_SET, e->set);
    list = mnl_attr_nest_start(m, NFTA_SET_ELEM_LIST_ELEMENTS);
    element = mnl_attr_nest_start(m, NFTA_LIST_ELEM);
    key = mnl_attr_nest_start(m, NFTA_SET_ELEM_KEY);
    mnl_attr_put(m, NFTA_DATA_VALUE, e->key_len, e->key);
    mnl_attr_nest_end(m, key);
    if (e->data != 0) {
        data = mnl_attr_nest_start(m, NFTA_SET_ELEM_DATA);
        mnl_attr_put_u32(m, NFTA_DATA_VALUE, e->data);
        mnl_attr_nest_end(m, data);
    }
    mnl_attr_nest_end(m, element);
    mnl_attr_nest_end(m, list);
}

int nft_change(struct netlink *n, const struct nft_element *elements, size_t count)
{
    assert(count > 0 && count <= NFT_ELEMENTS_MAX);
    put_edge(n, NFNL_MSG_BATCH_BEGIN);
    for (size_t i = 0; i < count; i++) {
        const struct nft_element *e = &elements[i];
        /* The last is answered when all is done; what fails is answered in any case. */
        uint16_t ack = i + 1 == count ? NLM_F_ACK : 0;

        /* Deleting what is not there would undo the whole transaction: so it is there. Nobody sees
         * it, as all of a transaction is at once. */
        put_element(n, e, NFT_MSG_NEWSETELEM, NLM_F_CREATE | (e->remove ? 0 : ack));
        if (e->remove) {
            put_element(n, e, NFT_MSG_DELSETELEM, ack);
        }
    }
    put_edge(n, NFNL_MSG_BATCH_END);
    return netlink_run(n);
}

int nft_delete_table(struct netlink *n, enum nft_family family, const char *name)
{
    struct nlmsghdr *m;

    put_edge(n, NFNL_MSG_BATCH_BEGIN);
    m = put(n, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE, NLM_F_ACK, family, 0,
            NETLINK_MAY_BE_GONE);
    mnl_attr_put_strz(m, NFTA_TABLE_NAME, name);
    put_edge(n, NFNL_MSG_BATCH_END);
    return netlink_run(n);
}

static int ignore(const struct nlmsghdr *m, void *arg)
{
    (void)m;
    (void)arg;
    return 0;
}

int nft_has_set(struct netlink *n, enum nft_family family, const char *table, const char *set)
{
    struct nlmsghdr *m = put_nft(n, NFT_MSG_GETSET, 0, family);
    int r;

    mnl_attr_put_strz(m, NFTA_SET_TABLE, table);
    mnl_attr_put_strz(m, NFTA_SET_NAME, set);
    r = netlink_ask(n, ignore, NULL);
    return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

struct key_call {
    nft_key_fn fn;
    void *arg;
};

/* NFTA_SET_ELEM_KEY of one element. */
static void take_key(const struct nlattr *element, const struct key_call *call)
{
    const struct nlattr *part, *value;

    netlink_each_in (part, element) {
        if (mnl_attr_get_type(part) != NFTA_SET_ELEM_KEY) {
            continue;
        }
        netlink_each_in (value, part) {
            if (mnl_attr_get_type(value) == NFTA_DATA_VALUE) {
                call->fn(mnl_attr_get_payload(value), mnl_attr_get_payload_len(value), call->arg);
            }
        }
    }
}

static int on_elements(const struct nlmsghdr *m, void *arg)
{
    const struct nlattr *attr, *element;

    netlink_each (attr, m, sizeof(struct nfgenmsg)) {
        if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_LIST_ELEMENTS) {
            netlink_each_in (element, attr) {
                take_key(element, arg);
            }
        }
    }
    return 0;
}

int nft_each(struct netlink *n, enum nft_family family, const char *table, const char *set,
             nft_key_fn fn, void *arg)
{
    struct key_call call = {fn, arg};
    struct nlmsghdr *m = put_nft(n, NFT_MSG_GETSETELEM, NLM_F_DUMP, family);

    mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_TABLE, table);
    mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_SET, set);
    return netlink_ask(n, on_elements, &call);
}

int nft_empty(struct netlink *n, enum nft_family family, const char *table, const char *set)
{
    struct nlmsghdr *m;

    put_edge(n, NFNL_MSG_BATCH_BEGIN);
    m = put_nft(n, NFT_MSG_DELSETELEM, NLM_F_ACK, family);
    mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_TABLE, table);
    mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_SET, set);
    put_edge(n, NFNL_MSG_BATCH_END);
    return netlink_run(n);
}
