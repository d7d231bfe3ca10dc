/*
 * Ranked locks and threads. The order (docs/LOCKING.md) is vm token -> {create, image} -> leaf.
 * It is checked twice: by clang's -Wthread-safety through the rank tokens below, and at run time by
 * a per-thread stack of held ranks that asserts. In C `guarded_by` cannot name a sibling field, so
 * the capability is the rank, not the lock object: at most one lock of a rank per thread.
 *
 * Threads: all functions from any thread. Failure: none (a broken order is our bug: assert).
 */
#pragma once

#include "base/attr.h"

#include <pthread.h>
#include <stdbool.h>

#if defined(__clang__)
#define TS_ATTR(x) __attribute__((x))
#else
#define TS_ATTR(x)
#endif

#define ACQUIRES(...) TS_ATTR(acquire_capability(__VA_ARGS__))
#define RELEASES(...) TS_ATTR(release_capability(__VA_ARGS__))
#define ACQUIRES_IF_ZERO(...) TS_ATTR(try_acquire_capability(0, __VA_ARGS__))
#define REQUIRES(...) TS_ATTR(requires_capability(__VA_ARGS__))
/* The caller must not hold these: the function takes them, or waits. */
#define EXCLUDES(...) TS_ATTR(locks_excluded(__VA_ARGS__))
#define NO_TS_ANALYSIS TS_ATTR(no_thread_safety_analysis)

struct TS_ATTR(capability("rank")) lock_rank {
    int level; /* taken in rising order */
    const char *name;
};

extern const struct lock_rank rank_vm;
extern const struct lock_rank rank_create TS_ATTR(acquired_after(rank_vm));
extern const struct lock_rank rank_image TS_ATTR(acquired_after(rank_vm));
extern const struct lock_rank rank_leaf TS_ATTR(acquired_after(rank_vm, rank_create, rank_image));

struct lock {
    pthread_mutex_t mutex;
};

void lock_init(struct lock *l);
void lock_done(struct lock *l);

void leaf_lock(struct lock *l) ACQUIRES(rank_leaf);
void leaf_unlock(struct lock *l) RELEASES(rank_leaf);
void create_lock(struct lock *l) ACQUIRES(rank_create);
void create_unlock(struct lock *l) RELEASES(rank_create);
void image_lock(struct lock *l) ACQUIRES(rank_image);
void image_unlock(struct lock *l) RELEASES(rank_image);

/* For owners of tokens that are not mutexes (vm/vm_locks): note that this thread now holds, or no
 * longer holds, a token of the rank. Asserts the order. */
void rank_push(const struct lock_rank *rank);
void rank_pop(const struct lock_rank *rank);

/* Asserts that this thread holds no leaf lock: called before every wait on a guest, VMM, network,
 * child or disk sync. */
void rank_assert_may_wait(void);

/* Starts a thread with `stack_kib` of stack and all signals blocked; name ≤ 15 bytes.
 * 0 or -errno. Detached threads own their arg. */
int thread_start(pthread_t *ret_thread, const char *name, unsigned stack_kib,
                 void *(*fn)(void *arg), void *arg);
int thread_start_detached(const char *name, unsigned stack_kib, void *(*fn)(void *arg), void *arg);
