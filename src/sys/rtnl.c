#include "sys/rtnl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

/* Prefixes ------------------------------------------------------------------------------------- */

static size_t bytes_of(int family)
{
    return family == AF_INET ? 4 : 16;
}

struct rtnl_prefix rtnl_ipv4(uint32_t address, unsigned bits)
{
    struct rtnl_prefix p = {.family = AF_INET, .bits = bits};
    uint32_t wire = htonl(address);

    memcpy(p.bytes, &wire, sizeof(wire));
    return p;
}

struct rtnl_prefix rtnl_ipv6(const uint8_t address[16], unsigned bits)
{
    struct rtnl_prefix p = {.family = AF_INET6, .bits = bits};

    memcpy(p.bytes, address, sizeof(p.bytes));
    return p;
}

bool rtnl_overlap(const struct rtnl_prefix *a, const struct rtnl_prefix *b)
{
    unsigned bits = a->bits < b->bits ? a->bits : b->bits;
    unsigned rest = bits % 8;

    return a->family == b->family && memcmp(a->bytes, b->bytes, bits / 8) == 0 &&
           (rest == 0 || (a->bytes[bits / 8] ^ b->bytes[bits / 8]) >> (8 - rest) == 0);
}

bool rtnl_same(const struct rtnl_prefix *a, const struct rtnl_prefix *b)
{
    return a->family == b->family && a->bits == b->bits &&
           memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

const char *rtnl_prefix_text(const struct rtnl_prefix *p, char ret_text[RTNL_PREFIX_SIZE])
{
    char address[INET6_ADDRSTRLEN];

    (void)inet_ntop(p->family, p->bytes, address, sizeof(address));
    (void)snprintf(ret_text, RTNL_PREFIX_SIZE, "%s/%u", address, p->bits);
    return ret_text;
}

static void put_bytes(struct nlmsghdr *m, uint16_t type, const struct rtnl_prefix *p)
{
    mnl_attr_put(m, type, bytes_of(p->family), p->bytes);
}

/* -EPROTO unless it is an address of the family. */
static int take_bytes(const struct nlattr *attr, int family, struct rtnl_prefix *ret)
{
    if (mnl_attr_get_payload_len(attr) != bytes_of(family)) {
        return -EPROTO;
    }
    memcpy(ret->bytes, mnl_attr_get_payload(attr), bytes_of(family));
    return 0;
}

static int take_u32(const struct nlattr *attr, uint32_t *ret)
{
    if (mnl_attr_validate(attr, MNL_TYPE_U32) < 0) {
        return -EPROTO;
    }
    *ret = mnl_attr_get_u32(attr);
    return 0;
}

/* Links ---------------------------------------------------------------------------------------- */

/* A text that has no room is as none. */
static int take_text(const struct nlattr *attr, char *ret, size_t size)
{
    size_t len = mnl_attr_get_payload_len(attr);

    if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) < 0) {
        return -EPROTO;
    }
    (void)snprintf(ret, size, "%s", len <= size ? mnl_attr_get_str(attr) : "");
    return 0;
}

static int parse_link(const struct nlmsghdr *m, struct rtnl_link *ret)
{
    const struct ifinfomsg *info = mnl_nlmsg_get_payload(m);
    const struct nlattr *attr;
    int r = 0;

    if (m->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(m) < sizeof(*info)) {
        return -EPROTO;
    }
    *ret = (struct rtnl_link){.index = info->ifi_index, .flags = info->ifi_flags};
    netlink_each (attr, m, sizeof(*info)) {
        switch (mnl_attr_get_type(attr)) {
        case IFLA_IFNAME:
            r = take_text(attr, ret->name, sizeof(ret->name));
            break;
        case IFLA_IFALIAS:
            r = take_text(attr, ret->alias, sizeof(ret->alias));
            break;
        case IFLA_GROUP:
            r = take_u32(attr, &ret->group);
            break;
        case IFLA_MTU:
            r = take_u32(attr, &ret->mtu);
            break;
        default:
            break;
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static struct ifinfomsg *put_link(struct netlink *n, uint16_t type, int index, uint16_t flags,
                                  enum netlink_forgive forgive, struct nlmsghdr **ret)
{
    struct nlmsghdr *m = netlink_request(n, type, flags, forgive);
    struct ifinfomsg *info = mnl_nlmsg_put_extra_header(m, sizeof(*info));

    info->ifi_family = AF_UNSPEC;
    info->ifi_index = index;
    *ret = m;
    return info;
}

struct link_call {
    rtnl_link_fn fn;
    void *arg;
};

static int on_link(const struct nlmsghdr *m, void *arg)
{
    const struct link_call *call = arg;
    struct rtnl_link link;
    int r = parse_link(m, &link);

    return r < 0 ? r : call->fn(&link, call->arg);
}

static int take_link(const struct nlmsghdr *m, void *arg)
{
    return parse_link(m, arg);
}

int rtnl_find_link(struct netlink *n, const char *name, struct rtnl_link *ret)
{
    struct nlmsghdr *m;

    (void)put_link(n, RTM_GETLINK, 0, 0, NETLINK_STRICT, &m);
    mnl_attr_put_strz(m, IFLA_IFNAME, name);
    mnl_attr_put_u32(m, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    return netlink_ask(n, take_link, ret);
}

int rtnl_find_index(struct netlink *n, int index, struct rtnl_link *ret)
{
    struct nlmsghdr *m;

    (void)put_link(n, RTM_GETLINK, index, 0, NETLINK_STRICT, &m);
    mnl_attr_put_u32(m, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    return netlink_ask(n, take_link, ret);
}

int rtnl_each_link(struct netlink *n, rtnl_link_fn fn, void *arg)
{
    struct link_call call = {fn, arg};
    struct nlmsghdr *m;

    (void)put_link(n, RTM_GETLINK, 0, NLM_F_DUMP, NETLINK_STRICT, &m);
    mnl_attr_put_u32(m, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    return netlink_ask(n, on_link, &call);
}

void rtnl_put_identity(struct netlink *n, int index, const struct rtnl_identity *identity)
{
    struct nlattr *families, *ipv6;
    struct nlmsghdr *m;

    (void)put_link(n, RTM_NEWLINK, index, NLM_F_ACK, NETLINK_STRICT, &m);
    mnl_attr_put(m, IFLA_ADDRESS, 6, identity->mac);
    mnl_attr_put_str(m, IFLA_IFALIAS, identity->alias);
    mnl_attr_put_u32(m, IFLA_GROUP, identity->group);
    families = mnl_attr_nest_start(m, IFLA_AF_SPEC);
    ipv6 = mnl_attr_nest_start(m, AF_INET6);
    mnl_attr_put_u8(m, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
    mnl_attr_nest_end(m, ipv6);
    mnl_attr_nest_end(m, families);
}

void rtnl_put_group(struct netlink *n, int index, uint32_t group, enum netlink_forgive forgive)
{
    struct nlmsghdr *m;

    (void)put_link(n, RTM_NEWLINK, index, NLM_F_ACK, forgive, &m);
    mnl_attr_put_u32(m, IFLA_GROUP, group);
}

void rtnl_put_up(struct netlink *n, int index, bool up)
{
    struct nlmsghdr *m;
    struct ifinfomsg *info = put_link(n, RTM_NEWLINK, index, NLM_F_ACK, NETLINK_STRICT, &m);

    info->ifi_flags = up ? IFF_UP : 0;
    info->ifi_change = IFF_UP;
}

void rtnl_put_delete_link(struct netlink *n, int index)
{
    struct nlmsghdr *m;

    (void)put_link(n, RTM_DELLINK, index, NLM_F_ACK, NETLINK_MAY_BE_GONE, &m);
}

void rtnl_put_delete_group(struct netlink *n, uint32_t group)
{
    struct nlmsghdr *m;

    (void)put_link(n, RTM_DELLINK, 0, NLM_F_ACK, NETLINK_MAY_BE_GONE, &m);
    mnl_attr_put_u32(m, IFLA_GROUP, group);
}

/* Addresses ------------------------------------------------------------------------------------ */

static struct nlmsghdr *put_change(struct netlink *n, bool remove, uint16_t new_type,
                                   uint16_t delete_type, uint16_t new_flags)
{
    return remove ? netlink_request(n, delete_type, NLM_F_ACK, NETLINK_MAY_BE_GONE)
                  : netlink_request(n, new_type, NLM_F_ACK | new_flags, NETLINK_MAY_BE_THERE);
}

void rtnl_put_address(struct netlink *n, int index, const struct rtnl_prefix *address, bool remove)
{
    struct nlmsghdr *m = put_change(n, remove, RTM_NEWADDR, RTM_DELADDR, NLM_F_CREATE | NLM_F_EXCL);
    struct ifaddrmsg *a = mnl_nlmsg_put_extra_header(m, sizeof(*a));
    bool local = address->bytes[0] == 0xfe && address->bytes[1] == 0x80;

    a->ifa_family = (uint8_t)address->family;
    a->ifa_prefixlen = (uint8_t)address->bits;
    a->ifa_flags = address->family == AF_INET6 ? IFA_F_NODAD : 0;
    a->ifa_scope = address->family == AF_INET6 && local ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    a->ifa_index = (uint32_t)index;
    put_bytes(m, IFA_LOCAL, address);
    put_bytes(m, IFA_ADDRESS, address);
}

static int parse_address(const struct nlmsghdr *m, struct rtnl_address *ret)
{
    const struct ifaddrmsg *a = mnl_nlmsg_get_payload(m);
    const struct nlattr *attr;

    if (m->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(m) < sizeof(*a) ||
        (a->ifa_family != AF_INET && a->ifa_family != AF_INET6)) {
        return -EPROTO;
    }
    *ret = (struct rtnl_address){.prefix = {.family = a->ifa_family, .bits = a->ifa_prefixlen},
                                 .index = (int)a->ifa_index};
    netlink_each (attr, m, sizeof(*a)) {
        /* Of a link of two IFA_ADDRESS is the other end, and its network is what counts. */
        if (mnl_attr_get_type(attr) == IFA_ADDRESS &&
            take_bytes(attr, a->ifa_family, &ret->prefix) < 0) {
            return -EPROTO;
        }
    }
    return 0;
}

struct address_call {
    rtnl_address_fn fn;
    void *arg;
};

static int on_address(const struct nlmsghdr *m, void *arg)
{
    const struct address_call *call = arg;
    struct rtnl_address address;
    int r = parse_address(m, &address);

    return r < 0 ? r : call->fn(&address, call->arg);
}

int rtnl_each_address(struct netlink *n, int family, rtnl_address_fn fn, void *arg)
{
    struct address_call call = {fn, arg};
    struct nlmsghdr *m = netlink_request(n, RTM_GETADDR, NLM_F_DUMP, NETLINK_STRICT);
    struct ifaddrmsg *a = mnl_nlmsg_put_extra_header(m, sizeof(*a));

    a->ifa_family = (uint8_t)family;
    return netlink_ask(n, on_address, &call);
}

/* Neighbours ----------------------------------------------------------------------------------- */

void rtnl_put_neighbour(struct netlink *n, int index, const struct rtnl_prefix *address,
                        const uint8_t mac[6], bool remove)
{
    struct nlmsghdr *m =
        put_change(n, remove, RTM_NEWNEIGH, RTM_DELNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
    struct ndmsg *d = mnl_nlmsg_put_extra_header(m, sizeof(*d));

    d->ndm_family = (uint8_t)address->family;
    d->ndm_ifindex = index;
    d->ndm_state = NUD_PERMANENT;
    put_bytes(m, NDA_DST, address);
    if (!remove) {
        mnl_attr_put(m, NDA_LLADDR, 6, mac);
    }
}

/* Routes --------------------------------------------------------------------------------------- */

void rtnl_put_route(struct netlink *n, int index, const struct rtnl_prefix *to,
                    const struct rtnl_prefix *from, bool remove)
{
    struct nlmsghdr *m =
        put_change(n, remove, RTM_NEWROUTE, RTM_DELROUTE, NLM_F_CREATE | NLM_F_REPLACE);
    struct rtmsg *t = mnl_nlmsg_put_extra_header(m, sizeof(*t));

    t->rtm_family = (uint8_t)to->family;
    t->rtm_dst_len = (uint8_t)to->bits;
    t->rtm_table = RT_TABLE_MAIN;
    t->rtm_protocol = RTNL_PROTOCOL;
    t->rtm_scope = to->family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    t->rtm_type = RTN_UNICAST;
    put_bytes(m, RTA_DST, to);
    put_bytes(m, RTA_PREFSRC, from);
    mnl_attr_put_u32(m, RTA_OIF, (uint32_t)index);
}

struct route_call {
    rtnl_route_fn fn;
    void *arg;
};

/* One call for each link of a route by several (struct rtnexthop). */
static int each_hop(const struct nlattr *attr, struct rtnl_route *route,
                    const struct route_call *call)
{
    const struct rtnexthop *hop = mnl_attr_get_payload(attr);
    size_t left = mnl_attr_get_payload_len(attr);
    int r = 0;

    while (r >= 0 && left >= sizeof(*hop) && hop->rtnh_len >= sizeof(*hop) &&
           hop->rtnh_len <= left) {
        size_t step = MNL_ALIGN(hop->rtnh_len);

        route->index = hop->rtnh_ifindex;
        r = call->fn(route, call->arg);
        left -= step < left ? step : left;
        hop = (const struct rtnexthop *)((const char *)hop + step);
    }
    return r;
}

static int on_route(const struct nlmsghdr *m, void *arg)
{
    const struct route_call *call = arg;
    const struct rtmsg *t = mnl_nlmsg_get_payload(m);
    const struct nlattr *attr, *hops = NULL;
    struct rtnl_route route = {0};
    uint32_t index = 0;
    int r = 0;

    if (m->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(m) < sizeof(*t)) {
        return -EPROTO;
    }
    if (t->rtm_family != AF_INET && t->rtm_family != AF_INET6) {
        return 0; /* of multicast routing */
    }
    route.to.family = t->rtm_family;
    route.to.bits = t->rtm_dst_len;
    route.table = t->rtm_table;
    route.protocol = t->rtm_protocol;
    route.type = t->rtm_type;
    netlink_each (attr, m, sizeof(*t)) {
        switch (mnl_attr_get_type(attr)) {
        case RTA_DST:
            r = take_bytes(attr, t->rtm_family, &route.to);
            break;
        case RTA_OIF:
            r = take_u32(attr, &index);
            break;
        case RTA_TABLE:
            r = take_u32(attr, &route.table);
            break;
        case RTA_MULTIPATH:
            hops = attr;
            break;
        default:
            break;
        }
        if (r < 0) {
            return r;
        }
    }
    route.index = (int)index;
    return hops ? each_hop(hops, &route, call) : call->fn(&route, call->arg);
}

int rtnl_each_route(struct netlink *n, int family, rtnl_route_fn fn, void *arg)
{
    struct route_call call = {fn, arg};
    struct nlmsghdr *m = netlink_request(n, RTM_GETROUTE, NLM_F_DUMP, NETLINK_STRICT);
    struct rtmsg *t = mnl_nlmsg_put_extra_header(m, sizeof(*t));

    t->rtm_family = (uint8_t)family;
    return netlink_ask(n, on_route, &call);
}

/* Rules ---------------------------------------------------------------------------------------- */

void rtnl_put_rule(struct netlink *n, const struct rtnl_prefix *to, uint32_t pref, bool remove)
{
    struct nlmsghdr *m = put_change(n, remove, RTM_NEWRULE, RTM_DELRULE, NLM_F_CREATE | NLM_F_EXCL);
    struct fib_rule_hdr *h = mnl_nlmsg_put_extra_header(m, sizeof(*h));

    h->family = (uint8_t)to->family;
    h->dst_len = (uint8_t)to->bits;
    h->table = RT_TABLE_MAIN;
    h->action = FR_ACT_TO_TBL;
    put_bytes(m, FRA_DST, to);
    mnl_attr_put_u32(m, FRA_PRIORITY, pref);
    mnl_attr_put_u8(m, FRA_PROTOCOL, RTNL_PROTOCOL);
}

struct rule_call {
    rtnl_rule_fn fn;
    void *arg;
    int family;
};

static int on_rule(const struct nlmsghdr *m, void *arg)
{
    const struct rule_call *call = arg;
    const struct fib_rule_hdr *h = mnl_nlmsg_get_payload(m);
    struct rtnl_rule rule = {0};
    const struct nlattr *attr;
    int r = 0;

    if (m->nlmsg_type != RTM_NEWRULE || mnl_nlmsg_get_payload_len(m) < sizeof(*h) ||
        h->family != call->family) {
        return -EPROTO;
    }
    rule.to.family = h->family;
    rule.to.bits = h->dst_len;
    netlink_each (attr, m, sizeof(*h)) {
        switch (mnl_attr_get_type(attr)) {
        case FRA_DST:
            r = take_bytes(attr, h->family, &rule.to);
            break;
        case FRA_PRIORITY:
            r = take_u32(attr, &rule.pref);
            break;
        case FRA_PROTOCOL:
            r = mnl_attr_validate(attr, MNL_TYPE_U8) < 0 ? -EPROTO : 0;
            rule.protocol = r == 0 ? mnl_attr_get_u8(attr) : 0;
            break;
        default:
            break;
        }
        if (r < 0) {
            return r;
        }
    }
    return call->fn(&rule, call->arg);
}

int rtnl_each_rule(struct netlink *n, int family, rtnl_rule_fn fn, void *arg)
{
    struct rule_call call = {fn, arg, family};
    struct nlmsghdr *m = netlink_request(n, RTM_GETRULE, NLM_F_DUMP, NETLINK_STRICT);
    struct fib_rule_hdr *h = mnl_nlmsg_put_extra_header(m, sizeof(*h));

    h->family = (uint8_t)family;
    return netlink_ask(n, on_rule, &call);
}
