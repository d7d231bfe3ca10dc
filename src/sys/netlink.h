/*
 * A netlink socket (netlink(7), the kernel's Documentation/userspace-api/netlink/intro.rst) and the
 * requests on it: several go out at once, and each is answered. What the messages mean is in
 * rtnl.h, nft.h and conntrack.h. Built on libmnl. Only the kernel is listened to. Threads: an
 * object belongs to one thread at a time. All return 0, a count or -errno; what the kernel says
 * beside the number is netlink_text.
 */
#pragma once

#include "base/attr.h"

#include <libmnl/libmnl.h>
#include <stddef.h>
#include <stdint.h>

/* Requests that go out together: as many as have answers that fit the socket's buffer. */
#define NETLINK_BATCH_MAX 64U
/* Of one request, header and all. */
#define NETLINK_REQUEST_MAX 1024U

struct netlink;

/* bus: NETLINK_ROUTE or NETLINK_NETFILTER, of the network namespace of the calling thread. */
int netlink_open(int bus, struct netlink **ret);
void netlink_free(struct netlink *n);
DEFINE_CLEANUP(struct netlink *, netlink_free);

/* Which failures are none. */
enum netlink_forgive {
    NETLINK_STRICT = 0,
    NETLINK_MAY_BE_GONE = 1,  /* what is to be deleted is not there */
    NETLINK_MAY_BE_THERE = 2, /* what is to be made is there */
};

/* Begins a request after those that are waiting, with room for NETLINK_REQUEST_MAX: the caller adds
 * to it by mnl_nlmsg_put_extra_header and mnl_attr_put. flags: NLM_F_REQUEST is understood, and
 * without NLM_F_ACK only a failure is answered. At most NETLINK_BATCH_MAX may wait. */
struct nlmsghdr *netlink_request(struct netlink *n, uint16_t type, uint16_t flags,
                                 enum netlink_forgive forgive);

/* How many more may wait. */
size_t netlink_room(const struct netlink *n);

/* Sends what waits, and reads each answer. The first failure that is not forgiven; the kernel has
 * tried the others, but in a transaction of nft. None wait afterwards. */
int netlink_run(struct netlink *n);

/* Drops what waits. */
void netlink_forget(struct netlink *n);

/* Called with each message of a dump, whole. A negative return ends it. */
typedef int (*netlink_fn)(const struct nlmsghdr *message, void *arg);

/* Sends the one request that waits, which must be of a dump (NLM_F_DUMP) or have one message as its
 * answer, and calls fn with what comes. A dump that was not consistent is asked for once more, so
 * fn sees only one that was. */
int netlink_ask(struct netlink *n, netlink_fn fn, void *arg);

/* The attributes of a message behind a header of `offset` bytes, or in one of them: those of libmnl
 * do not compile with -Wconversion. */
#define netlink_each(attr, message, offset)                                                        \
    for ((attr) = mnl_nlmsg_get_payload_offset(message, offset);                                   \
         mnl_attr_ok(attr, (int)((const char *)mnl_nlmsg_get_payload_tail(message) -               \
                                 (const char *)(attr)));                                           \
         (attr) = mnl_attr_next(attr))
#define netlink_each_in(attr, nest)                                                                \
    for ((attr) = mnl_attr_get_payload(nest);                                                      \
         mnl_attr_ok(attr, (int)((const char *)mnl_attr_get_payload(nest) +                        \
                                 mnl_attr_get_payload_len(nest) - (const char *)(attr)));          \
         (attr) = mnl_attr_next(attr))

/* What the kernel said about the last failure (NLMSGERR_ATTR_MSG), or "". */
const char *netlink_text(const struct netlink *n);
