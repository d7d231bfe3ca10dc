/*
 * Networks of VMs, from the daemon's side: which subnets their addresses are of, which VM has which
 * place in them, and which TAPs there are. What is done to the host is host/net.h.
 *
 * A place (slot) is a number that a VM keeps from its creation to its deletion; its addresses
 * follow from it and the subnets, so they move only when the subnets do. A TAP is anybody's: a VM
 * has one while it runs. Where the host cannot have networks of VMs, there is a struct nets all the
 * same, and it says why.
 *
 * Threads: any. One leaf lock, never held over a call of host/.
 */
#pragma once

#include "base/err.h"
#include "base/id.h"
#include "base/loop.h"
#include "base/thread.h"
#include "host/host.h"
#include "host/net.h"
#include "store/store.h"

struct nets;

struct nets_params {
    struct host *host;
    struct store *store;
    const char *mode;       /* "auto", "nat" or "none" of the configuration */
    const char *subnet;     /* "auto", or IPv4 ADDRESS/BITS */
    unsigned tap_pool_size; /* TAPs that are ready; 0 = each is made when it is wanted */
    random_fn random;       /* NULL = random_bytes */
};

/* Chooses the subnets, or takes those of the store again, and opens the host's network. Fails only
 * when the configuration is wrong, says "nat" and there is none, or the store fails. */
int nets_new(const struct nets_params *params, struct nets **ret_net, struct err *err);
/* Once it was started: TAPs that no VM has are deleted, and when no VM runs all that was made of
 * the host. Accepts NULL. */
void nets_free(struct nets *net) EXCLUDES(rank_leaf);

/* Once all VMs of an earlier daemon have said what they have: nets_slot_keep, nets_tap_keep.
 * Deletes TAPs that nobody has, but for tap_pool_size of them; from now on makes some ready, and
 * follows the host's uplinks, on that loop. */
int nets_start(struct nets *net, struct loop *loop, struct err *err) EXCLUDES(rank_leaf);

/* NULL, or why VMs have no network here. */
const char *nets_why_not(const struct nets *net);
/* "10.201.0.0/16", and of IPv6; "" when there is none. */
#define NET_TEXT_SIZE 64
void nets_subnets(const struct nets *net, char ret_ipv4[NET_TEXT_SIZE],
                  char ret_ipv6[NET_TEXT_SIZE]);
const struct host_subnet *nets_subnet(const struct nets *net); /* when there is one */
/* What guests are told of it. */
struct host_nic nets_gateway(const struct nets *net);  /* tap and nat are not set */
const char *nets_gateway_text(const struct nets *net); /* of IPv4 */
bool nets_has_ipv6(const struct nets *net);
unsigned nets_mtu(struct nets *net) EXCLUDES(rank_leaf);

/* ---- places ---- */

/* The one that has been free for longest; 0 when all are taken, or there is no network. */
unsigned nets_slot_take(struct nets *net) EXCLUDES(rank_leaf);
void nets_slot_give(struct nets *net, unsigned slot) EXCLUDES(rank_leaf);
/* A VM of the store has it. False: the subnet has no such place (any more). */
bool nets_slot_keep(struct nets *net, unsigned slot) EXCLUDES(rank_leaf);
/* Its addresses, of IPv6 also where the host has none; tap and nat are not set. */
struct host_nic nets_slot_nic(const struct nets *net, unsigned slot);

/* ---- TAPs ---- */

/* One that is up, for a VMM; *ret_fd is the caller's. */
int nets_tap_take(struct nets *net, unsigned *ret_tap, int *ret_fd, struct err *err)
    EXCLUDES(rank_leaf);
/* No VMM has it any more, and it is detached. */
void nets_tap_give(struct nets *net, unsigned tap) EXCLUDES(rank_leaf);
/* A VM that runs has it. */
void nets_tap_keep(struct nets *net, unsigned tap) EXCLUDES(rank_leaf);

/* For `daemon.status`. */
struct nets_counts {
    unsigned slots, slots_used, taps_ready, taps_used;
};
struct nets_counts nets_count(struct nets *net) EXCLUDES(rank_leaf);
