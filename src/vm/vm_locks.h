/*
 * One operation token per VM id: the outermost rank. Create, start, stop and delete hold it across
 * slow work; waiting for it is cancellable, first come first served, and says who holds it and
 * since when. Threads: any. The table's own lock is a leaf.
 */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/thread.h"

struct vm_locks;
struct vm_token; /* held by one thread */

struct vm_locks *vm_locks_new(void);
void vm_locks_free(struct vm_locks *l);

/* what: "stop", for those who wait. own: this holder's cancel, which vm_locks_cancel_holder
 * triggers; waiting ends with it too, or at deadline_ms (then ERR_BUSY naming the holder). */
int vm_locks_acquire(struct vm_locks *l, const char *vm_id, const char *what, struct cancel *own,
                     int64_t deadline_ms, struct vm_token **ret_token, struct err *err)
    ACQUIRES_IF_ZERO(rank_vm);
void vm_locks_release(struct vm_token *token) RELEASES(rank_vm);

/* Asks the current holder, if any, to give up: for kill, delete --force, cancel. */
void vm_locks_cancel_holder(struct vm_locks *l, const char *vm_id) EXCLUDES(rank_leaf);
