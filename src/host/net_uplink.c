/*
 * Uplinks, by which guests reach what is beyond the host: the interfaces of default routes. They
 * must forward, which is switched on for each alone; where the kernel has no such switch for IPv6
 * (before 6.17), for all.
 */
#include "base/log.h"
#include "base/str.h"
#include "host/net_priv.h"

#include <assert.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#define MTU_DEFAULT 1500U
#define MTU_MIN 1280U /* of IPv6 (RFC 8200); an uplink with less is left to fragments */

static_assert(NET_UPLINKS_MAX * 2 <= NFT_ELEMENTS_MAX, "all may change in one transaction");

/* Which there are ------------------------------------------------------------------------------ */

struct indexes {
    int all[NET_UPLINKS_MAX];
    size_t count;
};

/* The halves of everything (0.0.0.0/1 and 128.0.0.0/1, 2000::/3) are how VPNs go before the default
 * route. */
static int on_route(const struct rtnl_route *route, void *arg)
{
    struct indexes *found = arg;

    if (route->to.bits > (route->to.family == AF_INET ? 1U : 3U) || route->type != RTN_UNICAST ||
        route->index <= 0 || found->count == NET_UPLINKS_MAX) {
        return 0;
    }
    for (size_t i = 0; i < found->count; i++) {
        if (found->all[i] == route->index) {
            return 0;
        }
    }
    found->all[found->count++] = route->index;
    return 0;
}

static int find_uplinks(struct net *n, struct net_uplinks *ret)
{
    struct indexes found = {.count = 0};
    int r = rtnl_each_route(n->route, AF_INET, on_route, &found);

    if (r == 0 && n->ipv6) {
        r = rtnl_each_route(n->route, AF_INET6, on_route, &found);
    }
    ret->count = 0;
    for (size_t i = 0; i < found.count && r == 0; i++) {
        struct rtnl_link link;

        r = rtnl_find_index(n->route, found.all[i], &link);
        if (r == -ENODEV) {
            r = 0; /* gone meanwhile */
        } else if (r == 0 && !(link.flags & IFF_LOOPBACK) && !net_is_tap(&link)) {
            struct net_uplink *u = &ret->all[ret->count++];

            u->index = link.index;
            u->mtu = link.mtu;
            (void)snprintf(u->name, sizeof(u->name), "%s", link.name);
        }
    }
    return r;
}

static bool has(const struct net_uplinks *all, const char *name)
{
    for (size_t i = 0; i < all->count; i++) {
        if (str_eq(all->all[i].name, name)) {
            return true;
        }
    }
    return false;
}

static bool keep_uplink(const char *interface, void *arg)
{
    return has(arg, interface);
}

/* Forwarding ----------------------------------------------------------------------------------- */

/* A switch that is not there (IPv6 is off on that interface) is none to set. */
static int change(struct net *n, const char *family, const char *name, const char *which, int value)
{
    _cleanup_free_ char *path = x_asprintf("net/%s/conf/%s/%s", family, name, which);
    int r = sysctls_change(n->sysctls, path, value);

    return r == -ENOENT ? 0 : r;
}

/* all/forwarding changes that of each interface: what is not off is noted, so that it is not after
 * all is off again. */
static int on_link(const struct rtnl_link *link, void *arg)
{
    struct net *n = arg;
    _cleanup_free_ char *path = x_asprintf("net/ipv6/conf/%s/forwarding", link->name);
    int value, r = net_is_tap(link) ? -ENOENT : sysctls_read(n->sysctls, path, &value);

    if (r < 0 || value == 0) {
        return r == -ENOENT ? 0 : r;
    }
    return sysctls_note(n->sysctls, path);
}

static int forward_all(struct net *n)
{
    int value, r = sysctls_read(n->sysctls, "net/ipv6/conf/all/forwarding", &value);

    if (r < 0 || value != 0) {
        return r;
    }
    r = sysctls_read(n->sysctls, "net/ipv6/conf/default/forwarding", &value);
    if (r == 0 && value != 0) {
        r = sysctls_note(n->sysctls, "net/ipv6/conf/default/forwarding");
    }
    if (r == 0) {
        r = rtnl_each_link(n->route, on_link, n);
    }
    return r < 0 ? r : change(n, "ipv6", "all", "forwarding", 1);
}

/* A host that forwards takes no router's word any more, and would lose its own default route,
 * unless accept_ra is 2. */
static int keep_advertisements(struct net *n, const char *name)
{
    _cleanup_free_ char *path = x_asprintf("net/ipv6/conf/%s/accept_ra", name);
    int value, r = sysctls_read(n->sysctls, path, &value);

    if (r < 0 || value != 1) {
        return r == -ENOENT ? 0 : r;
    }
    return change(n, "ipv6", name, "accept_ra", 2);
}

int net_forward_uplink(struct net *n, const char *name)
{
    int r = change(n, "ipv4", name, "forwarding", 1);

    if (r < 0 || !n->ipv6) {
        return r;
    }
    if (n->forwards_each) {
        return change(n, "ipv6", name, "force_forwarding", 1);
    }
    r = keep_advertisements(n, name);
    return r < 0 ? r : forward_all(n);
}

/* Changes -------------------------------------------------------------------------------------- */

static int change_set(struct net *n, const struct net_uplinks *now)
{
    struct nft_element elements[NFT_ELEMENTS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < now->count; i++) {
        if (!has(&n->uplinks, now->all[i].name)) {
            elements[count++] = net_element(NFT_INET, "uplinks", now->all[i].name, NULL, 0, false);
        }
    }
    for (size_t i = 0; i < n->uplinks.count; i++) {
        if (!has(now, n->uplinks.all[i].name)) {
            elements[count++] =
                net_element(NFT_INET, "uplinks", n->uplinks.all[i].name, NULL, 0, true);
        }
    }
    return count > 0 ? nft_change(n->filter, elements, count) : 0;
}

static unsigned least_mtu(const struct net_uplinks *all)
{
    unsigned mtu = 0;

    for (size_t i = 0; i < all->count; i++) {
        if (mtu == 0 || all->all[i].mtu < mtu) {
            mtu = all->all[i].mtu;
        }
    }
    return mtu == 0 ? MTU_DEFAULT : mtu < MTU_MIN ? MTU_MIN : mtu;
}

int net_update_uplinks(struct net *n, unsigned *ret_mtu, struct err *err)
{
    struct net_uplinks now;
    int r = find_uplinks(n, &now);

    if (r < 0) {
        return net_refused(n->route, r, err, "cannot find the default routes of this host");
    }
    for (size_t i = 0; i < now.count; i++) {
        r = net_forward_uplink(n, now.all[i].name);
        if (r < 0) {
            return net_refused(NULL, r, err, "cannot let '%s' forward", now.all[i].name);
        }
    }
    r = change_set(n, &now);
    if (r < 0) {
        return net_refused(n->filter, r, err, "cannot tell the rules for VMs which are uplinks");
    }
    n->uplinks = now;
    r = sysctls_restore_others(n->sysctls, keep_uplink, &now);
    if (r < 0) {
        return net_refused(NULL, r, err, "cannot put back the switches of former uplinks");
    }
    *ret_mtu = least_mtu(&now);
    return 0;
}
