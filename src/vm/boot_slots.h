/*
 * Boot slots: how many guests boot at once (one per core: more only slows all of them down), first
 * come first served. Threads: any. Lock: a leaf.
 */
#pragma once

#include "base/cancel.h"
#include "base/thread.h"

struct boot_slots;

struct boot_slots *boot_slots_new(unsigned count);
void boot_slots_free(struct boot_slots *s);

/* 0, -ECANCELED or -ETIMEDOUT. */
int boot_slots_acquire(struct boot_slots *s, struct cancel *cancel, int64_t deadline_ms)
    EXCLUDES(rank_leaf);
void boot_slots_release(struct boot_slots *s) EXCLUDES(rank_leaf);
