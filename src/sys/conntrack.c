#include "sys/conntrack.h"

#include "base/buf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdbool.h>
#include <string.h>

/* A tuple is far less. */
#define TUPLE_MAX 256U
/* Of what is found in one walk; another follows when there is more. */
#define FOUND_MAX (16U * 1024 * 1024)
#define FOUND_MOST (FOUND_MAX / sizeof(struct entry))
#define WALKS_MAX 16
/* Bit of CTA_FILTER_*_FLAGS, which the kernel has in a header of its own
 * (net/netfilter/nf_internals.h): the tuple's source counts. */
#define FILTER_SOURCE 1U

struct walk {
    int family;
    const uint8_t *address, *spare;
    enum conntrack_side side;
    struct buf found; /* struct entry, one after the other */
};

/* Names a connection for CT_DELETE. */
struct entry {
    uint32_t id;
    uint16_t zone, tuple_len;
    bool has_zone;
    uint8_t tuple[TUPLE_MAX];
};

static void walk_done(struct walk *w)
{
    buf_done(&w->found);
}

static size_t bytes_of(int family)
{
    return family == AF_INET ? 4 : 16;
}

static struct nlmsghdr *put(struct netlink *n, uint16_t message, uint16_t flags, int family,
                            enum netlink_forgive forgive)
{
    struct nlmsghdr *m =
        netlink_request(n, (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | message), flags, forgive);
    struct nfgenmsg *g = mnl_nlmsg_put_extra_header(m, sizeof(*g));

    g->nfgen_family = (uint8_t)family;
    g->version = NFNETLINK_V0;
    return m;
}

/* The addresses of a tuple; whether it has both. */
static bool take_addresses(const struct nlattr *tuple, int family, const uint8_t **ret_from,
                           const uint8_t **ret_to)
{
    const struct nlattr *part, *attr;

    *ret_from = *ret_to = NULL;
    netlink_each_in (part, tuple) {
        if (mnl_attr_get_type(part) != CTA_TUPLE_IP) {
            continue;
        }
        netlink_each_in (attr, part) {
            uint16_t type = mnl_attr_get_type(attr);

            if (mnl_attr_get_payload_len(attr) != bytes_of(family)) {
                return false;
            }
            if (type == (family == AF_INET ? CTA_IP_V4_SRC : CTA_IP_V6_SRC)) {
                *ret_from = mnl_attr_get_payload(attr);
            } else if (type == (family == AF_INET ? CTA_IP_V4_DST : CTA_IP_V6_DST)) {
                *ret_to = mnl_attr_get_payload(attr);
            }
        }
    }
    return *ret_from && *ret_to;
}

static bool is_side(const struct walk *w, enum conntrack_side side, const struct nlattr *tuple)
{
    size_t len = bytes_of(w->family);
    const uint8_t *from, *to;

    return (w->side & side) && take_addresses(tuple, w->family, &from, &to) &&
           memcmp(from, w->address, len) == 0 && !(w->spare && memcmp(to, w->spare, len) == 0);
}

static int on_entry(const struct nlmsghdr *m, void *arg)
{
    const struct nlattr *attr, *began = NULL, *answer = NULL;
    struct walk *w = arg;
    struct entry e = {0};

    if (mnl_nlmsg_get_payload_len(m) < sizeof(struct nfgenmsg)) {
        return -EPROTO;
    }
    netlink_each (attr, m, sizeof(struct nfgenmsg)) {
        switch (mnl_attr_get_type(attr)) {
        case CTA_TUPLE_ORIG:
            began = attr;
            break;
        case CTA_TUPLE_REPLY:
            answer = attr;
            break;
        case CTA_ID:
            e.id = mnl_attr_validate(attr, MNL_TYPE_U32) < 0 ? 0 : mnl_attr_get_u32(attr);
            break;
        case CTA_ZONE:
            e.has_zone = mnl_attr_validate(attr, MNL_TYPE_U16) == 0;
            e.zone = e.has_zone ? mnl_attr_get_u16(attr) : 0;
            break;
        default:
            break;
        }
    }
    if (!began || !answer || mnl_attr_get_payload_len(began) > TUPLE_MAX) {
        return -EPROTO;
    }
    if (!is_side(w, CONNTRACK_BEGAN, began) && !is_side(w, CONNTRACK_ANSWERS, answer)) {
        return 0;
    }
    e.tuple_len = mnl_attr_get_payload_len(began);
    memcpy(e.tuple, mnl_attr_get_payload(began), e.tuple_len);
    /* What has no room is found by the next walk. */
    (void)!buf_append(&w->found, &e, sizeof(e));
    return 0;
}

/* The kernel passes over all others by itself; before Linux 5.8 it does not, so what comes is
 * looked at in any case. Of IPv6 addresses it passes over just the one that was asked for, instead
 * of the others (seen on 6.18; ctnetlink_filter_match_tuple takes ipv6_addr_cmp for its opposite).
 */
static void put_filter(struct nlmsghdr *m, const struct walk *w)
{
    bool began = w->side == CONNTRACK_BEGAN;
    struct nlattr *tuple, *ip, *filter;

    tuple = mnl_attr_nest_start(m, began ? CTA_TUPLE_ORIG : CTA_TUPLE_REPLY);
    ip = mnl_attr_nest_start(m, CTA_TUPLE_IP);
    mnl_attr_put(m, CTA_IP_V4_SRC, 4, w->address);
    mnl_attr_nest_end(m, ip);
    mnl_attr_nest_end(m, tuple);
    filter = mnl_attr_nest_start(m, CTA_FILTER);
    mnl_attr_put_u32(m, CTA_FILTER_ORIG_FLAGS, began ? FILTER_SOURCE : 0);
    mnl_attr_put_u32(m, CTA_FILTER_REPLY_FLAGS, began ? 0 : FILTER_SOURCE);
    mnl_attr_nest_end(m, filter);
}

static int find(struct netlink *n, struct walk *w)
{
    struct nlmsghdr *m = put(n, IPCTNL_MSG_CT_GET, NLM_F_DUMP, w->family, NETLINK_STRICT);

    if (w->family == AF_INET) {
        put_filter(m, w);
    }
    return netlink_ask(n, on_entry, w);
}

static void put_delete(struct netlink *n, int family, const struct entry *e)
{
    struct nlmsghdr *m = put(n, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, family, NETLINK_MAY_BE_GONE);

    mnl_attr_put(m, CTA_TUPLE_ORIG | NLA_F_NESTED, e->tuple_len, e->tuple);
    mnl_attr_put_u32(m, CTA_ID, e->id); /* as it came: not another of the same ends */
    if (e->has_zone) {
        mnl_attr_put_u16(m, CTA_ZONE, e->zone);
    }
}

static int delete_found(struct netlink *n, struct walk *w)
{
    int r = 0;

    while (r == 0 && w->found.len > 0) {
        while (netlink_room(n) > 0 && w->found.len > 0) {
            struct entry e;

            memcpy(&e, buf_head(&w->found), sizeof(e));
            put_delete(n, w->family, &e);
            buf_consume(&w->found, sizeof(e));
        }
        r = netlink_run(n);
    }
    return r;
}

static int forget(struct netlink *n, int family, const uint8_t *address, enum conntrack_side side,
                  const uint8_t *spare)
{
    _cleanup_(walk_done) struct walk w = {.family = family,
                                          .address = address,
                                          .spare = spare,
                                          .side = side,
                                          .found = {.max = FOUND_MAX}};
    size_t total = 0, count = FOUND_MOST;
    int r = 0;

    for (int i = 0; i < WALKS_MAX && count >= FOUND_MOST; i++) {
        r = find(n, &w);
        count = w.found.len / sizeof(struct entry);
        if (r == 0) {
            r = delete_found(n, &w);
        }
        if (r < 0) {
            /* nfnetlink's way to say that it has no such part is EINVAL. */
            return r == -EINVAL ? -EOPNOTSUPP : r;
        }
        total += count;
    }
    return (int)total;
}

int conntrack_forget(struct netlink *n, int family, const uint8_t *address,
                     enum conntrack_side side, const uint8_t *spare)
{
    int began, answers;

    if (family != AF_INET || side != CONNTRACK_ALL) {
        return forget(n, family, address, side, spare);
    }
    began = forget(n, family, address, CONNTRACK_BEGAN, spare);
    answers = began < 0 ? began : forget(n, family, address, CONNTRACK_ANSWERS, spare);
    return answers < 0 ? answers : began + answers;
}
