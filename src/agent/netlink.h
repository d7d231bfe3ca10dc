/*
 * rtnetlink(7), many requests in one write. The kernel does them one after the other while they are
 * written, so nothing here waits. What is asked for has no acknowledgement: a request that fails
 * says so by itself, and the last one is a dump, whose end is the end of all of them.
 * What comes back is bounded, as others with root in the guest might have written it. Threads: one.
 */
#pragma once

#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

#define NETLINK_OUT_MAX 4096

struct netlink {
    int fd;
    uint32_t seq; /* of the last message */
    size_t len;   /* of what is to be written */
    size_t last;  /* where the last message begins in it */
    _Alignas(NLMSG_ALIGNTO) uint8_t out[NETLINK_OUT_MAX];
};

/* 0 or -errno; close n->fd. */
int netlink_open(struct netlink *n);

/* Begins a request whose fixed part has `size` bytes; they are zero, and the caller's to fill. With
 * n->seq it is known again. The requests of one write have room in NETLINK_OUT_MAX: asserted. */
void *netlink_begin(struct netlink *n, uint16_t type, uint16_t flags, size_t size);

/* An attribute of the last request; data may be NULL when len is 0. */
void netlink_put(struct netlink *n, uint16_t type, const void *data, size_t len);

/* Attributes until netlink_unnest are inside of this one. Returns its place, for that. */
size_t netlink_nest(struct netlink *n, uint16_t type);
void netlink_unnest(struct netlink *n, size_t place);

/* A message of a dump, or the answer to a RTM_GET. */
typedef void (*netlink_fn)(void *arg, const struct nlmsghdr *message);
/* A request failed: 0 to think nothing of it, else what netlink_run is to return. */
typedef int (*netlink_failed_fn)(void *arg, uint32_t seq, int error);

/* Writes all that was begun since the last time, of which the last is a dump, and reads all the
 * answers. 0, or -errno: that of the first failure that matters, or of the socket. */
int netlink_run(struct netlink *n, netlink_fn fn, netlink_failed_fn failed, void *arg);

/* The first attribute of a type behind the fixed part of a message (or NULL), with at least
 * min_len bytes. */
const void *netlink_find(const struct nlmsghdr *message, size_t fixed, uint16_t type,
                         size_t min_len, size_t *ret_len);
/* The same inside of another attribute. */
const void *netlink_find_in(const void *attrs, size_t len, uint16_t type, size_t min_len,
                            size_t *ret_len);
