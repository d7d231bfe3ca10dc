/*
 * Who waits for the next numbered event. The events themselves are rows of the store
 * (store/store_event.c), written in the commit that they tell of; here is only how far they go.
 * Owner of the number and of those who wait; lock: leaf. Threads: any.
 */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/thread.h"

#include <stdint.h>

struct events;

struct events *events_new(uint64_t last_number);
/* When nobody waits. Accepts NULL. */
void events_free(struct events *ev);

/* There are events up to this number. arg: the struct events; a store_event_fn. */
void events_note(void *arg, uint64_t number) EXCLUDES(rank_leaf);

/* Waits until there is an event with a number above `seen`. 0, or ERR_CANCELLED. */
int events_wait(struct events *ev, uint64_t seen, struct cancel *cancel, struct err *err)
    EXCLUDES(rank_leaf);
