/* Shared by net*.c and their unit tests. Functions here are called with n->mutex held. */
#pragma once

#include "host/net_local.h"
#include "host/net_sysctl.h"
#include "sys/nft.h"
#include "sys/rtnl.h"

#include <pthread.h>

#define NET_TABLE "banger"
/* And the TAP's number: the mark of connections of its guest. */
#define NET_MARK 0x62670000U
/* And then the runtime directory of the daemon that it is of. */
#define NET_ALIAS "banger "
/* Of our TAPs; and of those that are about to be deleted, all in one go. */
#define NET_GROUP 0x62677200U
#define NET_GROUP_DOOMED 0x62677201U
/* Before the rules of everybody else that is known (wg-quick, Tailscale, VRFs: 1000 and up). */
#define NET_RULE_PREF 60U
#define NET_UPLINKS_MAX 12U
/* Of one VM at once; a guest that opens more is refused. */
#define NET_FLOWS_MAX 4096U
#define NET_DNS_PORT 53U
/* Every TAP's, and so every guest's gateway of IPv6. */
#define NET_LINK_LOCAL "fe80::1"
#define NET_SYSCTL_ROOT "/proc/sys"

struct net_uplink {
    int index;
    char name[IFNAMSIZ];
    uint32_t mtu;
};

struct net_uplinks {
    struct net_uplink all[NET_UPLINKS_MAX];
    size_t count;
};

struct net {
    /* Over each verb, waits and all: so it has no rank, and nothing is taken while it is held. */
    pthread_mutex_t mutex;
    /* immutable */
    char *runtime_dir;
    char *alias; /* of our TAPs */
    uid_t owner;
    spawn_fn spawn;

    /* From the first verb on. */
    struct netlink *route, *filter;
    struct sysctls *sysctls;
    int lock_fd; /* says that the network of this namespace is ours */

    bool is_open;
    bool ipv6;          /* the host has it */
    bool forwards_each; /* force_forwarding: IPv6 can be forwarded by interface (Linux 6.17) */
    struct host_subnet subnet;
    struct net_uplinks uplinks;
    struct host_nic *nics; /* HOST_TAPS_MAX, by TAP: who is attached; ipv4 0: nobody */
    bool *inherited;       /* likewise: a daemon before this one may have attached somebody */
};

/* The gateway's addresses, and the subnets. */
struct rtnl_prefix net_gateway4(const struct host_subnet *s);
struct rtnl_prefix net_gateway6(const struct host_subnet *s);
struct rtnl_prefix net_subnet4(const struct host_subnet *s);
struct rtnl_prefix net_subnet6(const struct host_subnet *s);

/* Sets err for what the kernel has refused, r and what nl says, and returns -1. */
int net_refused(const struct netlink *nl, int r, struct err *err, const char *fmt, ...)
    _printf_(4, 5);
/* ERR_CONFLICT unless it is open. */
int net_need_open(const struct net *n, struct err *err);

/* net_lock.c: one daemon per network namespace. That of a daemon before this one, by its runtime
 * directory, is given the time to end. */
int net_lock(const char *runtime_dir, int *ret_fd, struct err *err);

/* net_subnet.c: ERR_CONFLICT with whose the subnet is. */
int net_check_free(struct net *n, const struct host_subnet *subnet, struct err *err);
/* Gateway addresses and rules. */
int net_put_subnet(struct net *n, const struct host_subnet *subnet, struct err *err);
/* Removes ours, whatever subnet they are of, but those of `but` (or NULL). */
int net_drop_subnets(struct net *n, const struct host_subnet *but, struct err *err);

/* net_rules.c: loads both tables, in the place of what is there, unless that is the same: then it
 * is kept, with its elements. */
int net_load_rules(struct net *n, const struct host_subnet *subnet, bool *ret_kept,
                   struct err *err);
int net_drop_rules(struct net *n, struct err *err);
/* A key of an interface's name and (len > 0) an address. */
struct nft_element net_element(enum nft_family family, const char *set, const char *interface,
                               const uint8_t *address, size_t len, bool remove);

/* net_uplink.c: looks which there are, lets them forward, and those that are none any more not. */
int net_update_uplinks(struct net *n, unsigned *ret_mtu, struct err *err);
int net_forward_uplink(struct net *n, const char *name);

/* net_tap.c */
bool net_is_tap(const struct rtnl_link *link); /* of a daemon, this or another */
int net_tap_number(const struct net *n, const struct rtnl_link *link); /* -1: it is none of ours */
/* ERR_CONFLICT: VMs of another daemon, which may be dead, have TAPs here, and rules. */
int net_check_alone(struct net *n, struct err *err);
void net_tap_name(unsigned tap, char ret_name[HOST_TAP_NAME_SIZE]);
/* One that there is and that is ours; ERR_NOT_FOUND. */
int net_find_tap(struct net *n, unsigned tap, struct rtnl_link *ret, struct err *err);
/* Each that there is into ret_there, of HOST_TAPS_MAX. */
int net_see_taps(struct net *n, bool *ret_there, struct err *err);
int net_delete_taps(struct net *n, const unsigned *taps, size_t count, struct err *err);

/* net_nic.c */
/* Who is attached by what the tables have: n->nics. Elements of TAPs that are not there go. */
int net_see_nics(struct net *n, const bool *there, struct err *err);
int net_detach_nic(struct net *n, const struct host_nic *nic, struct err *err);
