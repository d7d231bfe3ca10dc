/* host/net.h, done by this process: what all VMs share. */
#include "base/log.h"
#include "base/str.h"
#include "host/host_priv.h"
#include "host/net_priv.h"
#include "sys/privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>

struct net *net_new(const struct net_params *params)
{
    struct net *n = x_calloc(1, sizeof(*n));

    pthread_mutex_init(&n->mutex, NULL);
    n->runtime_dir = x_strdup(params->runtime_dir);
    n->alias = x_asprintf(NET_ALIAS "%s", params->runtime_dir);
    n->owner = params->owner;
    n->spawn = params->spawn;
    n->lock_fd = -1;
    return n;
}

void net_free(struct net *n)
{
    if (n) {
        netlink_free(n->route);
        netlink_free(n->filter);
        sysctls_free(n->sysctls);
        close_p(&n->lock_fd);
        free(n->runtime_dir);
        free(n->alias);
        free(n->nics);
        free(n->inherited);
        pthread_mutex_destroy(&n->mutex);
        free(n);
    }
}

struct rtnl_prefix net_gateway4(const struct host_subnet *s)
{
    return rtnl_ipv4(s->ipv4 | 1, 32);
}

struct rtnl_prefix net_gateway6(const struct host_subnet *s)
{
    struct rtnl_prefix p = rtnl_ipv6(s->ipv6, 128);

    p.bytes[15] = 1;
    return p;
}

struct rtnl_prefix net_subnet4(const struct host_subnet *s)
{
    return rtnl_ipv4(s->ipv4, s->ipv4_bits);
}

struct rtnl_prefix net_subnet6(const struct host_subnet *s)
{
    return rtnl_ipv6(s->ipv6, 64);
}

/* Failures ------------------------------------------------------------------------------------- */

static int no_rights(struct err *err)
{
    (void)err_set(err, ERR_UNSUPPORTED,
                  "networks of VMs need root, which this daemon was not "
                  "started with");
    return err_hint(err, "stop it and start it with sudo: banger daemon stop; sudo banger ...");
}

int net_refused(const struct netlink *nl, int r, struct err *err, const char *fmt, ...)
{
    const char *text = nl ? netlink_text(nl) : "";
    char what[256];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    (void)err_set_errno(err, r == -EPERM || r == -EACCES ? ERR_UNSUPPORTED : ERR_IO, r, "%s", what);
    if (text[0]) {
        (void)err_append(err, " (%s)", text);
    }
    return -1;
}

int net_need_open(const struct net *n, struct err *err)
{
    return n->is_open ? 0 : err_set(err, ERR_CONFLICT, "the network of VMs is not open");
}

/* Beginning ------------------------------------------------------------------------------------ */

static int check_tun(struct err *err)
{
    _cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        (void)err_set_errno(err, ERR_UNSUPPORTED, errno, "cannot open '/dev/net/tun'");
        return err_hint(err, "load the kernel's module: modprobe tun; a container must be given "
                             "the device");
    }
    return 0;
}

/* Rights, sockets, the record: what every verb needs. Once it is there it stays. */
static int prepare(struct net *n, struct err *err)
{
    int r = 0;

    if (!privileges_has(CAP_NET_ADMIN)) {
        return no_rights(err);
    }
    if (!n->route) {
        r = netlink_open(NETLINK_ROUTE, &n->route);
    }
    if (r == 0 && !n->filter) {
        r = netlink_open(NETLINK_NETFILTER, &n->filter);
    }
    if (r < 0) {
        return err_set_errno(err, ERR_UNSUPPORTED, r, "cannot ask the kernel for networks");
    }
    if (n->lock_fd < 0 && net_lock(n->runtime_dir, &n->lock_fd, err) < 0) {
        return -1;
    }
    if (!n->sysctls) {
        _cleanup_(sysctls_free_p) struct sysctls *s =
            sysctls_new(NET_SYSCTL_ROOT, n->runtime_dir, n->owner);

        r = sysctls_load(s);
        if (r < 0) {
            return err_set_errno(err, ERR_IO, r, "cannot read what is to be put back, in '%s'",
                                 n->runtime_dir);
        }
        n->sysctls = STEAL_PTR(s);
    }
    return 0;
}

static void look_at_kernel(struct net *n)
{
    int value = 1;

    /* On lo it is off where the host has none: the gateway's address could not be there. */
    n->ipv6 = sysctls_read(n->sysctls, "net/ipv6/conf/lo/disable_ipv6", &value) == 0 && value == 0;
    n->forwards_each = sysctls_read(n->sysctls, "net/ipv6/conf/lo/force_forwarding", &value) == 0;
    if (!n->ipv6) {
        log_info("VMs get no IPv6: this host has none");
    }
}

static void forget_nics(struct net *n)
{
    free(n->nics);
    free(n->inherited);
    n->nics = x_calloc(HOST_TAPS_MAX, sizeof(*n->nics));
    n->inherited = x_calloc(HOST_TAPS_MAX, sizeof(*n->inherited));
}

/* All but the TAPs, of which a guest may be using one. Goes on after a failure; the first. */
static int drop_shared(struct net *n, struct err *err)
{
    struct err later;
    int first = net_drop_subnets(n, NULL, err), r;

    r = net_drop_rules(n, first < 0 ? &later : err);
    first = first < 0 ? first : r;
    r = sysctls_restore_all(n->sysctls);
    if (r < 0 && first == 0) {
        first = err_set_errno(err, ERR_IO, r, "cannot put back what the kernel's switches were");
    }
    n->is_open = false;
    n->uplinks.count = 0;
    return first;
}

static int open_all(struct net *n, const struct host_subnet *subnet, unsigned *ret_mtu,
                    struct err *err)
{
    bool *there = n->inherited, kept;

    if (net_see_taps(n, there, err) < 0 || net_put_subnet(n, subnet, err) < 0 ||
        net_load_rules(n, subnet, &kept, err) < 0) {
        return -1;
    }
    n->subnet = *subnet;
    if (kept) {
        int r = nft_empty(n->filter, NFT_INET, NET_TABLE, "uplinks");

        if (r < 0) {
            return net_refused(n->filter, r, err, "cannot forget the uplinks of before");
        }
        if (net_see_nics(n, there, err) < 0) {
            return -1;
        }
    }
    n->uplinks.count = 0; /* the tables have none */
    return net_update_uplinks(n, ret_mtu, err);
}

static int open_locked(struct net *n, const struct host_subnet *subnet, unsigned *ret_mtu,
                       struct err *err)
{
    const char *wrong = host_check_subnet(subnet);
    struct err undoing;
    bool had_lock = n->lock_fd >= 0;

    if (wrong) {
        return err_set(err, ERR_INVALID, "%s cannot be that of VMs", wrong);
    }
    if (n->is_open && memcmp(subnet, &n->subnet, sizeof(*subnet)) != 0) {
        return err_set(err, ERR_CONFLICT, "the network of VMs is open with another subnet");
    }
    if (prepare(n, err) < 0) {
        return -1;
    }
    look_at_kernel(n);
    if (check_tun(err) < 0 || net_check_alone(n, err) < 0 || net_drop_subnets(n, subnet, err) < 0 ||
        net_check_free(n, subnet, err) < 0) {
        if (!had_lock) {
            close_p(&n->lock_fd);
        }
        return -1;
    }
    forget_nics(n);
    if (open_all(n, subnet, ret_mtu, err) < 0) {
        if (drop_shared(n, &undoing) < 0) {
            log_warn("%s", undoing.message);
        }
        close_p(&n->lock_fd);
        return -1;
    }
    n->is_open = true;
    return 0;
}

int net_open(struct net *n, const struct host_subnet *subnet, unsigned *ret_mtu, struct err *err)
{
    int r;

    pthread_mutex_lock(&n->mutex);
    r = open_locked(n, subnet, ret_mtu, err);
    pthread_mutex_unlock(&n->mutex);
    return r;
}

int net_refresh(struct net *n, unsigned *ret_mtu, struct err *err)
{
    int r;

    pthread_mutex_lock(&n->mutex);
    r = net_need_open(n, err);
    if (r == 0) {
        r = net_update_uplinks(n, ret_mtu, err);
    }
    pthread_mutex_unlock(&n->mutex);
    return r;
}

/* End ------------------------------------------------------------------------------------------ */

static int drop_taps(struct net *n, struct err *err)
{
    _cleanup_free_ bool *there = x_calloc(HOST_TAPS_MAX, sizeof(*there));
    _cleanup_free_ unsigned *taps = x_calloc(HOST_TAPS_MAX, sizeof(*taps));
    size_t count = 0;

    if (net_see_taps(n, there, err) < 0) {
        return -1;
    }
    for (unsigned i = 0; i < HOST_TAPS_MAX; i++) {
        if (there[i]) {
            taps[count++] = i;
        }
    }
    return net_delete_taps(n, taps, count, err);
}

static int close_locked(struct net *n, struct err *err)
{
    struct err later;
    bool had_lock = n->lock_fd >= 0;
    int r, last;

    if (prepare(n, err) < 0) {
        return -1;
    }
    if (net_check_alone(n, err) < 0) {
        if (!had_lock) {
            close_p(&n->lock_fd);
        }
        return -1;
    }
    look_at_kernel(n);
    forget_nics(n); /* one by one their connections would take long, and the tables go as a whole */
    r = drop_taps(n, err);
    last = drop_shared(n, r < 0 ? &later : err);
    if (r == 0 && last == 0) {
        close_p(&n->lock_fd);
    }
    return r < 0 ? r : last;
}

int net_close(struct net *n, struct err *err)
{
    int r;

    pthread_mutex_lock(&n->mutex);
    r = close_locked(n, err);
    pthread_mutex_unlock(&n->mutex);
    return r;
}
