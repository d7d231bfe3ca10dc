/* What the kernel remembers of connections (nf_conntrack), over ctnetlink
 * (linux/netfilter/nfnetlink_conntrack.h). */
#pragma once

#include "sys/netlink.h"

/*
 * Forgets the connections, of any protocol, that have exactly this mark (not 0), which a rule has
 * given them: one walk of the kernel's own over its table. By addresses it would be a dump of the
 * table instead, which takes ten times as long; and the kernel's filter of IPv6 addresses lets
 * through just the wrong ones (seen on 6.18). n is of NETLINK_NETFILTER. 0 or -errno;
 * -EOPNOTSUPP: the kernel has no ctnetlink.
 */
int conntrack_forget(struct netlink *n, uint32_t mark);
