/* TAPs: persistent, told from others' by name, group and alias, all three. */
#include "base/str.h"
#include "host/host_priv.h"
#include "host/net_priv.h"
#include "sys/tap.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/ether.h>
#include <stdio.h>
#include <string.h>

void net_tap_name(unsigned tap, char ret_name[HOST_TAP_NAME_SIZE])
{
    (void)snprintf(ret_name, HOST_TAP_NAME_SIZE, HOST_TAP_PREFIX "%u", tap);
}

bool net_is_tap(const struct rtnl_link *link)
{
    return (link->group == NET_GROUP || link->group == NET_GROUP_DOOMED) &&
           str_starts_with(link->alias, NET_ALIAS) && str_starts_with(link->name, HOST_TAP_PREFIX);
}

int net_tap_number(const struct net *n, const struct rtnl_link *link)
{
    char name[HOST_TAP_NAME_SIZE];
    uint64_t number;

    if (!net_is_tap(link) || !str_eq(link->alias, n->alias) ||
        str_to_u64(link->name + sizeof(HOST_TAP_PREFIX) - 1, HOST_TAPS_MAX - 1, &number) < 0) {
        return -1;
    }
    net_tap_name((unsigned)number, name);
    return str_eq(name, link->name) ? (int)number : -1; /* not 007 */
}

/* Making --------------------------------------------------------------------------------------- */

/* What a TAP must not believe, and that it forwards. */
static int set_switches(struct net *n, const char *name)
{
    static const struct {
        const char *family, *name;
        int value;
    } switches[] = {
        {"ipv4", "forwarding", 1},       {"ipv4", "rp_filter", 1},
        {"ipv4", "accept_redirects", 0}, {"ipv4", "send_redirects", 0},
        {"ipv6", "disable_ipv6", 0},     {"ipv6", "accept_ra", 0},
        {"ipv6", "accept_redirects", 0}, {"ipv6", "force_forwarding", 1},
    };
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(switches) && r == 0; i++) {
        bool ipv6 = str_eq(switches[i].family, "ipv6");
        _cleanup_free_ char *path = NULL;

        /* Without force_forwarding all/forwarding is on, and a new TAP's with it. */
        if (ipv6 &&
            (!n->ipv6 || (!n->forwards_each && str_eq(switches[i].name, "force_forwarding")))) {
            continue;
        }
        path = x_asprintf("net/%s/conf/%s/%s", switches[i].family, name, switches[i].name);
        r = sysctls_write(n->sysctls, path, switches[i].value);
    }
    return r;
}

/* Down first where it was up: so what somebody had on it before goes, routes and all. */
static int set_up(struct net *n, const struct rtnl_link *link, struct err *err)
{
    struct ether_addr mac;
    struct rtnl_prefix local = {.family = AF_INET6, .bits = 64};
    const struct rtnl_identity identity = {
        .alias = n->alias, .group = NET_GROUP, .mac = mac.ether_addr_octet};
    int r;

    (void)ether_aton_r(HOST_TAP_MAC, &mac);
    (void)inet_pton(AF_INET6, NET_LINK_LOCAL, local.bytes);
    if (link->flags & IFF_UP) {
        rtnl_put_up(n->route, link->index, false);
    }
    rtnl_put_identity(n->route, link->index, &identity);
    r = netlink_run(n->route);
    if (r == 0) {
        r = set_switches(n, link->name);
    }
    if (r == 0) {
        if (n->ipv6) {
            rtnl_put_address(n->route, link->index, &local, false);
        }
        rtnl_put_up(n->route, link->index, true);
        r = netlink_run(n->route);
    }
    return r < 0 ? net_refused(n->route, r, err, "cannot set up '%s'", link->name) : 0;
}

static int open_device(const char *name, int *ret_fd, struct err *err)
{
    int r = tap_open(name, ret_fd);

    if (r == -EBUSY) {
        return err_set(err, ERR_BUSY, "a VM has '%s'", name);
    }
    return r < 0 ? net_refused(NULL, r, err, "cannot open '%s'", name) : 0;
}

static int open_locked(struct net *n, unsigned tap, int *ret_fd, struct err *err)
{
    _cleanup_close_ int fd = -1;
    char name[HOST_TAP_NAME_SIZE];
    struct rtnl_link link;
    int r;

    assert(tap < HOST_TAPS_MAX);
    if (net_need_open(n, err) < 0) {
        return -1;
    }
    net_tap_name(tap, name);
    r = rtnl_find_link(n->route, name, &link);
    if (r == 0 && net_tap_number(n, &link) < 0) {
        return err_set(err, ERR_CONFLICT, "the interface '%s' is not banger's", name);
    }
    if (r < 0 && r != -ENODEV) {
        return net_refused(n->route, r, err, "cannot look for '%s'", name);
    }
    if (open_device(name, &fd, err) < 0) {
        return -1;
    }
    if (n->nics[tap].ipv4 != 0 && net_detach_nic(n, &n->nics[tap], err) < 0) {
        return -1;
    }
    r = rtnl_find_link(n->route, name, &link);
    if (r < 0) {
        return net_refused(n->route, r, err, "cannot look for '%s'", name);
    }
    if (set_up(n, &link, err) < 0) {
        return -1;
    }
    /* The last step: one that is half made goes with its descriptor. */
    r = tap_keep(fd);
    if (r < 0) {
        return net_refused(NULL, r, err, "cannot keep '%s'", name);
    }
    n->inherited[tap] = false;
    *ret_fd = STEAL_FD(fd);
    return 0;
}

int net_tap_open(struct net *n, unsigned tap, int *ret_fd, struct err *err)
{
    int r;

    pthread_mutex_lock(&n->mutex);
    r = open_locked(n, tap, ret_fd, err);
    pthread_mutex_unlock(&n->mutex);
    return r;
}

/* Which there are ------------------------------------------------------------------------------ */

int net_find_tap(struct net *n, unsigned tap, struct rtnl_link *ret, struct err *err)
{
    char name[HOST_TAP_NAME_SIZE];
    int r;

    net_tap_name(tap, name);
    r = rtnl_find_link(n->route, name, ret);
    if (r == -ENODEV || (r == 0 && net_tap_number(n, ret) < 0)) {
        return err_set(err, ERR_NOT_FOUND, "there is no '%s' of banger's", name);
    }
    return r < 0 ? net_refused(n->route, r, err, "cannot look for '%s'", name) : 0;
}

struct look {
    const struct net *n;
    bool *there;             /* of ours; or NULL */
    struct rtnl_link others; /* one that is another daemon's; index 0: there is none */
};

static int on_link(const struct rtnl_link *link, void *arg)
{
    struct look *l = arg;
    int number = net_tap_number(l->n, link);

    if (number >= 0 && l->there) {
        l->there[number] = true;
    } else if (number < 0 && net_is_tap(link)) {
        l->others = *link;
    }
    return 0;
}

int net_check_alone(struct net *n, struct err *err)
{
    struct look l = {.n = n};
    int r = rtnl_each_link(n->route, on_link, &l);

    if (r < 0) {
        return net_refused(n->route, r, err, "cannot list the interfaces of this host");
    }
    if (l.others.index == 0) {
        return 0;
    }
    (void)err_set(err, ERR_CONFLICT, "another daemon's VMs have the network: '%s' is of '%s'",
                  l.others.name, l.others.alias + sizeof(NET_ALIAS) - 1);
    return err_hint(err,
                    "start that daemon and stop its VMs; or, if they are gone: ip link delete %s",
                    l.others.name);
}

int net_see_taps(struct net *n, bool *ret_there, struct err *err)
{
    struct look l = {.n = n, .there = ret_there};
    int r = rtnl_each_link(n->route, on_link, &l);

    return r < 0 ? net_refused(n->route, r, err, "cannot list the interfaces of this host") : 0;
}

int net_tap_list(struct net *n, unsigned **ret_taps, size_t *ret_count, struct err *err)
{
    _cleanup_free_ bool *there = x_calloc(HOST_TAPS_MAX, sizeof(*there));
    _cleanup_free_ unsigned *taps = x_calloc(HOST_TAPS_MAX, sizeof(*taps));
    size_t count = 0;
    int r;

    pthread_mutex_lock(&n->mutex);
    r = net_need_open(n, err) < 0 ? -1 : net_see_taps(n, there, err);
    pthread_mutex_unlock(&n->mutex);
    if (r < 0) {
        return -1;
    }
    for (unsigned i = 0; i < HOST_TAPS_MAX; i++) {
        if (there[i]) {
            taps[count++] = i;
        }
    }
    *ret_taps = STEAL_PTR(taps);
    *ret_count = count;
    return 0;
}

/* Deleting ------------------------------------------------------------------------------------- */

struct indexes {
    int *all;
    size_t count;
};

/* Those of the list that there are. */
static int find_all(struct net *n, const unsigned *taps, size_t count, struct indexes *ret)
{
    for (size_t i = 0; i < count; i++) {
        char name[HOST_TAP_NAME_SIZE];
        struct rtnl_link link;
        int r;

        net_tap_name(taps[i], name);
        r = rtnl_find_link(n->route, name, &link);
        if (r < 0 && r != -ENODEV) {
            return r;
        }
        if (r == 0 && net_tap_number(n, &link) >= 0) {
            ret->all[ret->count++] = link.index;
        }
    }
    return 0;
}

struct doomed {
    const struct net *n;
    bool foreign;
};

static int on_doomed(const struct rtnl_link *link, void *arg)
{
    struct doomed *d = arg;

    d->foreign |= link->group == NET_GROUP_DOOMED && net_tap_number(d->n, link) < 0;
    return 0;
}

/* Each takes the kernel tens of milliseconds, or all of a group together. */
static int delete_links(struct net *n, const struct indexes *links)
{
    struct doomed d = {.n = n, .foreign = links->count < 2};
    int r = d.foreign ? 0 : rtnl_each_link(n->route, on_doomed, &d);

    for (size_t i = 0; i < links->count && r == 0; i++) {
        if (d.foreign) {
            rtnl_put_delete_link(n->route, links->all[i]);
        } else {
            rtnl_put_group(n->route, links->all[i], NET_GROUP_DOOMED, NETLINK_MAY_BE_GONE);
        }
        if (netlink_room(n->route) == 0 || i + 1 == links->count) {
            r = netlink_run(n->route);
        }
    }
    if (r == 0 && !d.foreign) {
        rtnl_put_delete_group(n->route, NET_GROUP_DOOMED);
        r = netlink_run(n->route);
    }
    return r;
}

int net_delete_taps(struct net *n, const unsigned *taps, size_t count, struct err *err)
{
    struct indexes links = {.count = 0};
    _cleanup_free_ int *all = x_calloc(count ? count : 1, sizeof(*all));
    int r;

    links.all = all;
    for (size_t i = 0; i < count && n->nics; i++) {
        struct host_nic *nic = &n->nics[taps[i]];

        if (nic->ipv4 != 0 && net_detach_nic(n, nic, err) < 0) {
            return -1;
        }
        n->inherited[taps[i]] = false;
    }
    r = find_all(n, taps, count, &links);
    if (r == 0) {
        r = delete_links(n, &links);
    }
    return r < 0 ? net_refused(n->route, r, err, "cannot delete TAPs") : 0;
}

int net_tap_delete(struct net *n, const unsigned *taps, size_t count, struct err *err)
{
    int r;

    pthread_mutex_lock(&n->mutex);
    r = net_need_open(n, err);
    if (r == 0) {
        r = net_delete_taps(n, taps, count, err);
    }
    pthread_mutex_unlock(&n->mutex);
    return r;
}
