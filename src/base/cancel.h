/*
 * Cancellation and waiting. Every blocking call takes a `struct cancel`: it ends with -ECANCELED
 * when somebody triggers it, with -ETIMEDOUT at its deadline. A latch is a one-shot event that
 * another thread or the loop sets. No wait may be made while holding a leaf lock (asserted).
 * Threads: any.
 */
#pragma once

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct cancel;

/* A reference-counted cancellation source; not triggered, no deadline. */
struct cancel *cancel_new(void);
struct cancel *cancel_get(struct cancel *c);
void cancel_put(struct cancel *c);
DEFINE_CLEANUP(struct cancel *, cancel_put);
#define _cleanup_cancel_ _cleanup_(cancel_put_p)

void cancel_trigger(struct cancel *c);
bool cancel_requested(const struct cancel *c);

/* Waits for poll(2) events on fd. deadline_ms: clock_mono_ms() value, or -1 for none. c may be
 * NULL (undo work is not cancellable). 0, -ECANCELED, -ETIMEDOUT or -errno. */
int cancel_wait_fd(struct cancel *c, int fd, short events, int64_t deadline_ms);

/* What was written before latch_set may be read after the wait, or after latch_is_set said so; and
 * the latch may then be done with. */
struct latch {
    atomic_int state; /* unset, set, or the eventfd that is to be made readable */
    atomic_int fd;    /* of those who wait, or -1 */
};

void latch_init(struct latch *l);
void latch_done(struct latch *l);
void latch_set(struct latch *l);
bool latch_is_set(const struct latch *l);
int latch_wait(struct latch *l, struct cancel *c, int64_t deadline_ms);
