/* What the kernel remembers of connections (nf_conntrack), over ctnetlink
 * (linux/netfilter/nfnetlink_conntrack.h). */
#pragma once

#include "sys/netlink.h"

/* Which connections: those that the address began, those in which it answers. */
enum conntrack_side {
    CONNTRACK_BEGAN = 1,
    CONNTRACK_ANSWERS = 2,
    CONNTRACK_ALL = CONNTRACK_BEGAN | CONNTRACK_ANSWERS,
};

/*
 * Forgets the connections of an address, of 4 or 16 bytes of the network's byte order, by a walk
 * over all that the kernel knows, for each side of IPv4. Those to `spare` (of the same kind, or
 * NULL) are left. n is of NETLINK_NETFILTER. How many they were, or -errno; -EOPNOTSUPP: the kernel
 * has no ctnetlink.
 */
int conntrack_forget(struct netlink *n, int family, const uint8_t *address,
                     enum conntrack_side side, const uint8_t *spare);
