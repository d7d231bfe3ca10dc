/*
 * What rtnetlink(7) is asked for here. The `put` functions begin requests on a netlink of
 * NETLINK_ROUTE, which netlink_run sends; the others send and read by themselves.
 * IPv4 addresses are of the host's byte order, as everywhere in banger. All that is made has
 * RTNL_PROTOCOL as its origin where the kernel keeps one, by which it is told from others'.
 */
#pragma once

#include "sys/netlink.h"

#include <net/if.h>
#include <stdbool.h>

/* Not among those of iproute2's etc/iproute2/rt_protos. */
#define RTNL_PROTOCOL 177

/* An address or the first bits of one. */
struct rtnl_prefix {
    int family;        /* AF_INET or AF_INET6 */
    uint8_t bytes[16]; /* of the network's byte order; the first 4 of IPv4 */
    unsigned bits;
};

struct rtnl_prefix rtnl_ipv4(uint32_t address, unsigned bits);
struct rtnl_prefix rtnl_ipv6(const uint8_t address[16], unsigned bits);
/* Whether any address is in both. */
bool rtnl_overlap(const struct rtnl_prefix *a, const struct rtnl_prefix *b);
bool rtnl_same(const struct rtnl_prefix *a, const struct rtnl_prefix *b);
/* "10.201.0.0/16". Returns ret_text. */
#define RTNL_PREFIX_SIZE 64
const char *rtnl_prefix_text(const struct rtnl_prefix *p, char ret_text[RTNL_PREFIX_SIZE]);

/* Links ---------------------------------------------------------------------------------------- */

#define RTNL_ALIAS_SIZE 256 /* IFALIASZ of linux/if.h */

struct rtnl_link {
    int index;
    char name[IFNAMSIZ];
    char alias[RTNL_ALIAS_SIZE]; /* "" when it has none, or a longer one */
    uint32_t group;
    uint32_t mtu;
    unsigned flags; /* IFF_* */
};

typedef int (*rtnl_link_fn)(const struct rtnl_link *link, void *arg);

/* -ENODEV when there is none. */
int rtnl_find_link(struct netlink *n, const char *name, struct rtnl_link *ret);
/* -ENODEV likewise. */
int rtnl_find_index(struct netlink *n, int index, struct rtnl_link *ret);
int rtnl_each_link(struct netlink *n, rtnl_link_fn fn, void *arg);

/* What makes a TAP one of ours, before it is up: its address, and that IPv6 gives it none
 * (IN6_ADDR_GEN_MODE_NONE). */
struct rtnl_identity {
    const char *alias;
    uint32_t group;
    const uint8_t *mac;
};
void rtnl_put_identity(struct netlink *n, int index, const struct rtnl_identity *identity);
void rtnl_put_group(struct netlink *n, int index, uint32_t group, enum netlink_forgive forgive);
/* Down loses its routes, neighbours and IPv6 addresses. */
void rtnl_put_up(struct netlink *n, int index, bool up);
void rtnl_put_delete_link(struct netlink *n, int index);
/* All of a group in one go, which is many times faster than one by one. */
void rtnl_put_delete_group(struct netlink *n, uint32_t group);

/* Addresses, routes, neighbours, rules --------------------------------------------------------- */

/* remove is of what was put so; missing then is fine, and so is what is there already. No duplicate
 * address detection. */
void rtnl_put_address(struct netlink *n, int index, const struct rtnl_prefix *address, bool remove);
/* To `to` by the link, from the address of `from`; takes the place of another to the same. */
void rtnl_put_route(struct netlink *n, int index, const struct rtnl_prefix *to,
                    const struct rtnl_prefix *from, bool remove);
/* Permanent: the kernel neither asks nor learns. */
void rtnl_put_neighbour(struct netlink *n, int index, const struct rtnl_prefix *address,
                        const uint8_t mac[6], bool remove);
/* What goes to `to` is looked up in the main table; the lower pref the sooner. */
void rtnl_put_rule(struct netlink *n, const struct rtnl_prefix *to, uint32_t pref, bool remove);

struct rtnl_route {
    struct rtnl_prefix to;
    int index; /* of the link, the first of several; 0 for none (unreachable and its like) */
    uint32_t table;
    uint8_t protocol, type; /* RTPROT_*, RTN_* */
};
typedef int (*rtnl_route_fn)(const struct rtnl_route *route, void *arg);
/* Of all tables; a route by several links comes once for each. */
int rtnl_each_route(struct netlink *n, int family, rtnl_route_fn fn, void *arg);

struct rtnl_address {
    struct rtnl_prefix prefix; /* the address, with the bits of its network */
    int index;
};
typedef int (*rtnl_address_fn)(const struct rtnl_address *address, void *arg);
int rtnl_each_address(struct netlink *n, int family, rtnl_address_fn fn, void *arg);

struct rtnl_rule {
    struct rtnl_prefix to; /* bits 0 when it is for all */
    uint32_t pref;
    uint8_t protocol;
};
typedef int (*rtnl_rule_fn)(const struct rtnl_rule *rule, void *arg);
int rtnl_each_rule(struct netlink *n, int family, rtnl_rule_fn fn, void *arg);
