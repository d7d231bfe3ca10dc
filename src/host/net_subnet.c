/* The subnets of VMs: whether they are free, the gateway's addresses, the rules that lead there. */
#include "base/str.h"
#include "host/net_priv.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>

#define LOOPBACK_INDEX 1
/* What nobody can have more of than by mistake: subnets that daemons before left. */
#define OLD_MAX 16U

/* Conflicts ------------------------------------------------------------------------------------ */

/* Up to here a route is for everything else: the default route, and the halves of one by which
 * VPNs go before it. */
static bool is_default(const struct rtnl_prefix *to)
{
    return to->bits <= (to->family == AF_INET ? 1 : 3);
}

struct search {
    const struct rtnl_prefix *subnet, *gateway;
    bool found, is_address;
    struct rtnl_prefix what;
    int index;
    uint32_t table;
};

static int on_route(const struct rtnl_route *route, void *arg)
{
    struct search *s = arg;

    if (s->found || route->protocol == RTNL_PROTOCOL || is_default(&route->to) ||
        !rtnl_overlap(&route->to, s->subnet) || rtnl_same(&route->to, s->gateway)) {
        return 0;
    }
    s->found = true;
    s->what = route->to;
    s->index = route->index;
    s->table = route->table;
    return 0;
}

/* Those of interfaces that are down have no routes yet. */
static int on_address(const struct rtnl_address *address, void *arg)
{
    struct search *s = arg;

    if (s->found || !rtnl_overlap(&address->prefix, s->subnet) ||
        (address->index == LOOPBACK_INDEX && rtnl_same(&address->prefix, s->gateway))) {
        return 0;
    }
    s->found = s->is_address = true;
    s->what = address->prefix;
    s->index = address->index;
    return 0;
}

static int conflict(struct net *n, const struct search *s, struct err *err)
{
    char subnet[RTNL_PREFIX_SIZE], what[RTNL_PREFIX_SIZE];
    struct rtnl_link link = {.name = "?"};

    (void)rtnl_prefix_text(s->subnet, subnet);
    (void)rtnl_prefix_text(&s->what, what);
    if (s->index > 0 && rtnl_find_index(n->route, s->index, &link) < 0) {
        (void)snprintf(link.name, sizeof(link.name), "?");
    }
    if (s->is_address) {
        (void)err_set(err, ERR_CONFLICT, "the subnet of VMs, %s, is in use: '%s' has %s", subnet,
                      link.name, what);
    } else if (s->index > 0) {
        (void)err_set(err, ERR_CONFLICT,
                      "the subnet of VMs, %s, is in use: %s is routed to '%s' (table %u)", subnet,
                      what, link.name, s->table);
    } else {
        (void)err_set(err, ERR_CONFLICT,
                      "the subnet of VMs, %s, is in use: there is a route for %s (table %u)",
                      subnet, what, s->table);
    }
    return err_hint(err, "give VMs another subnet, or remove what uses this one");
}

static int check_one(struct net *n, const struct rtnl_prefix *subnet,
                     const struct rtnl_prefix *gateway, struct err *err)
{
    struct search s = {.subnet = subnet, .gateway = gateway};
    int r = rtnl_each_address(n->route, subnet->family, on_address, &s);

    if (r == 0 && !s.found) {
        r = rtnl_each_route(n->route, subnet->family, on_route, &s);
    }
    if (r < 0) {
        return net_refused(n->route, r, err, "cannot read the routes of this host");
    }
    return s.found ? conflict(n, &s, err) : 0;
}

int net_check_free(struct net *n, const struct host_subnet *subnet, struct err *err)
{
    struct rtnl_prefix four = net_subnet4(subnet), six = net_subnet6(subnet);
    struct rtnl_prefix gateway4 = net_gateway4(subnet), gateway6 = net_gateway6(subnet);

    if (check_one(n, &four, &gateway4, err) < 0) {
        return -1;
    }
    return n->ipv6 ? check_one(n, &six, &gateway6, err) : 0;
}

/* Ours ----------------------------------------------------------------------------------------- */

struct old {
    struct rtnl_prefix all[OLD_MAX];
    size_t count;
};

static int on_rule(const struct rtnl_rule *rule, void *arg)
{
    struct old *old = arg;

    if (rule->protocol == RTNL_PROTOCOL && rule->pref == NET_RULE_PREF && rule->to.bits > 0 &&
        old->count < OLD_MAX) {
        old->all[old->count++] = rule->to;
    }
    return 0;
}

/* The rule tells what its subnet was, and so the gateway: it comes first and goes last. */
static void put_both(struct netlink *n, const struct rtnl_prefix *subnet, bool remove)
{
    struct rtnl_prefix gateway = *subnet;

    gateway.bits = subnet->family == AF_INET ? 32 : 128;
    gateway.bytes[subnet->family == AF_INET ? 3 : 15] |= 1;
    if (!remove) {
        rtnl_put_rule(n, subnet, NET_RULE_PREF, false);
    }
    rtnl_put_address(n, LOOPBACK_INDEX, &gateway, remove);
    if (remove) {
        rtnl_put_rule(n, subnet, NET_RULE_PREF, true);
    }
}

int net_drop_subnets(struct net *n, const struct host_subnet *but, struct err *err)
{
    const int families[] = {AF_INET, AF_INET6};
    struct old old = {.count = 0};
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(families) && r == 0; i++) {
        r = families[i] == AF_INET6 && !n->ipv6
                ? 0
                : rtnl_each_rule(n->route, families[i], on_rule, &old);
    }
    if (r < 0) {
        return net_refused(n->route, r, err, "cannot read the routing rules of this host");
    }
    for (size_t i = 0; i < old.count; i++) {
        struct rtnl_prefix mine4 = {0}, mine6 = {0};

        if (but) {
            mine4 = net_subnet4(but);
            mine6 = net_subnet6(but);
        }
        if (!rtnl_same(&old.all[i], &mine4) && !rtnl_same(&old.all[i], &mine6)) {
            put_both(n->route, &old.all[i], true);
        }
    }
    r = netlink_run(n->route);
    return r < 0 ? net_refused(n->route, r, err, "cannot remove the gateway of VMs") : 0;
}

int net_put_subnet(struct net *n, const struct host_subnet *subnet, struct err *err)
{
    struct rtnl_prefix four = net_subnet4(subnet), six = net_subnet6(subnet);
    int r;

    put_both(n->route, &four, false);
    if (n->ipv6) {
        put_both(n->route, &six, false);
    }
    r = netlink_run(n->route);
    return r < 0 ? net_refused(n->route, r, err, "cannot make the gateway of VMs") : 0;
}
