/*
 * What VMs' networks need of the host, in the terms of ARCHITECTURE.md, "Network": one TAP per VM,
 * routed; the gateway's addresses on lo; two nft tables. Part of struct host_ops: as for those, any
 * thread, and no lock is held over a call. One daemon has the network of a network namespace: the
 * first that opened it, until its helper ends.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct host;

/* TAPs are numbered, and called HOST_TAP_PREFIX and the number. */
#define HOST_TAPS_MAX 16384U
#define HOST_TAP_PREFIX "bgr-"
#define HOST_TAP_NAME_SIZE 16
/* The same on every TAP, and on every guest's card: a link of two has nobody else. */
#define HOST_TAP_MAC "02:ba:17:00:00:01"
#define HOST_GUEST_MAC "02:ba:17:00:00:02"
/* As QEMU is told of the TAP, which is this descriptor of its, and of the card. The host's kernel
 * is not to take packets out of a guest's memory by itself. */
#define HOST_QEMU_TAP_FD 12
#define HOST_QEMU_NETDEV "tap,id=net,fd=12,vhost=off"
#define HOST_QEMU_CARD "virtio-net-device,netdev=net,mac=" HOST_GUEST_MAC

/* The subnets that guests' addresses are of; the first address of each is the gateway's. */
struct host_subnet {
    uint32_t ipv4;      /* host byte order, such as 0x0AC90000; private (RFC 1918, RFC 6598) */
    unsigned ipv4_bits; /* 8 to 24 */
    uint8_t ipv6[16];   /* of /64, of fd00::/8 (RFC 4193) */
};

/* A guest's place in it. */
struct host_nic {
    unsigned tap;
    uint32_t ipv4; /* host byte order */
    uint8_t ipv6[16];
    bool nat; /* may reach what is beyond the host */
};

/* Makes what all VMs share: the gateway's addresses, the rule for the subnet, the tables, the
 * forwarding of uplinks. What a daemon of this runtime directory has left is taken over: its guests
 * stay attached as they are, unless the rules of this version are others, so each that runs is
 * attached again, and TAPs that nobody has are deleted or opened anew. Idempotent. ERR_UNSUPPORTED,
 * with a hint: no rights, no nft, no /dev/net/tun; ERR_CONFLICT: another daemon has it, or VMs of
 * another that has died, or the subnet is somebody's, or it is open with another; ERR_INVALID: the
 * subnet is not of private addresses.
 * Until then, and after a close, all other verbs but close are ERR_CONFLICT. *ret_mtu: of the
 * uplinks, the least; 1500 without any. */
int host_net_open(struct host *host, const struct host_subnet *subnet, unsigned *ret_mtu,
                  struct err *err);

/* The uplinks, which are the interfaces of default routes, may be others now. */
int host_net_refresh(struct host *host, unsigned *ret_mtu, struct err *err);

/* Removes all that open, tap_open and attach have made, and sets each sysctl back. Guests that run
 * lose their network. 0 when there was nothing. */
int host_net_close(struct host *host, struct err *err);

/* Sockets for a nameserver that guests reach: bound to port 53 of the gateway's IPv4 address, UDP
 * and TCP, which listens, then the same of IPv6, or -1 where the host has none. The caller's.
 * ERR_CONFLICT: somebody has the port. */
#define HOST_DNS_SOCKETS 4
int host_net_dns(struct host *host, int ret_fds[HOST_DNS_SOCKETS], struct err *err);

/* Makes the TAP, or opens one that is there and that no VMM has: up, without addresses of guests.
 * *ret_fd is the caller's, for one queue with vnet headers, as QEMU's -netdev tap,fd= takes it.
 * ERR_BUSY: a VMM has it. */
int host_tap_open(struct host *host, unsigned tap, int *ret_fd, struct err *err);

/* Deletes TAPs; those that are not there are no failure. At most HOST_TAPS_AT_ONCE. */
#define HOST_TAPS_AT_ONCE 1024U
int host_tap_delete(struct host *host, const unsigned *taps, size_t count, struct err *err);

/* The numbers of the TAPs that there are, ascending; the caller frees *ret_taps. */
int host_tap_list(struct host *host, unsigned **ret_taps, size_t *ret_count, struct err *err);

/* From then on packets go: routes and neighbours of the guest, and its elements in the tables. Once
 * more with another value of nat changes that, for connections that are open, too; with other
 * addresses it is another guest in the first one's place. ERR_NOT_FOUND: there is no such TAP;
 * ERR_INVALID: addresses that are not of the subnet, or the gateway's. */
int host_nic_attach(struct host *host, const struct host_nic *nic, struct err *err);

/* Nothing goes any more, and what the kernel remembers of its connections beyond the host is
 * forgotten. 0 when it was not attached. */
int host_nic_detach(struct host *host, const struct host_nic *nic, struct err *err);
