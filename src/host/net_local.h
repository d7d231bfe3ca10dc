/* The verbs of net.h done by this process, for local.c; each is what host.h says of its verb. One
 * at a time is done, and others wait for it. */
#pragma once

#include "base/spawn.h"
#include "host/net.h"

struct net;

/* Copied. */
struct net_params {
    const char *runtime_dir; /* of the daemon: what is to be put back is noted there */
    uid_t owner;             /* whose it is */
    spawn_fn spawn;
};

struct net *net_new(const struct net_params *params);
/* What is there stays. */
void net_free(struct net *n);

int net_open(struct net *n, const struct host_subnet *subnet, unsigned *ret_mtu, struct err *err);
int net_refresh(struct net *n, unsigned *ret_mtu, struct err *err);
int net_close(struct net *n, struct err *err);
int net_dns(struct net *n, int ret_fds[HOST_DNS_SOCKETS], struct err *err);
int net_tap_open(struct net *n, unsigned tap, int *ret_fd, struct err *err);
int net_tap_delete(struct net *n, const unsigned *taps, size_t count, struct err *err);
int net_tap_list(struct net *n, unsigned **ret_taps, size_t *ret_count, struct err *err);
int net_attach(struct net *n, const struct host_nic *nic, struct err *err);
int net_detach(struct net *n, const struct host_nic *nic, struct err *err);
