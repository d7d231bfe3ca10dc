/* Shared by the files of net/ only. */
#pragma once

#include "base/cancel.h"
#include "base/loop.h"
#include "net/net.h"

#include <stdatomic.h>

#define NET_SLOTS_MAX 65023U /* of a /16 */

struct ready_tap {
    unsigned tap;
    int fd;
};

struct nets {
    /* immutable */
    struct host *host;
    char *why_not; /* or NULL */
    struct host_subnet subnet;
    bool has_ipv6; /* the host */
    unsigned slots;
    char gateway[16]; /* as text */
    unsigned pool_size;
    struct cancel *stop;

    /* tap_pool.c; set before its thread runs */
    pthread_t thread;
    bool runs;
    int wake; /* eventfd, or -1 */
    struct loop *loop;
    struct loop_source *uplink_source; /* the loop's thread; NULL = nobody watches */
    int uplink_fd;
    atomic_bool uplinks_changed;

    struct lock lock; /* a leaf */
    unsigned mtu;

    /* slot.c */
    uint8_t *slot_used;   /* bits */
    uint32_t *free_slots; /* a ring, made by the first take */
    unsigned free_head, free_count, slots_used;
    unsigned last_slot; /* the greatest that a stored VM has */

    /* tap_pool.c: numbers, each in one of these, or a VM's */
    unsigned *no_taps, *idle, *doomed; /* stacks: not there; there, not open; to be deleted */
    unsigned no_tap_count, idle_count, doomed_count, used_count;
    bool *tap_used;          /* by number: a VM has it */
    struct ready_tap *ready; /* a stack of pool_size */
    unsigned ready_count;
};

/* ---- slot.c ---- */
void nets_slots_init(struct nets *net);
void nets_slots_done(struct nets *net);

/* ---- uplink.c ---- */

/* A socket on which the kernel tells of its routes and interfaces; or -errno. */
int nets_uplink_open(void);
/* Reads all that it has told. Never waits. */
bool nets_uplink_changed(int fd);

/* ---- tap_pool.c ---- */

/* What the host has is idle until a VM says that it has it. */
int nets_taps_init(struct nets *net, struct err *err);
void nets_taps_done(struct nets *net);
/* No VM takes one any more: the thread ends, and what nobody has is deleted. */
void nets_taps_end(struct nets *net) EXCLUDES(rank_leaf);
