/*
 * Operations: long jobs with begin, status, watch, cancel, stages and a result. One generic
 * registry; one instance per kind (VM creates, image registrations, kernel imports). An operation
 * runs on a thread of its own and hangs off no request; the registry bounds how many run at once.
 * Lock: the registry's, a leaf. Threads: any; functions that take a `struct op` are for the
 * operation's own thread.
 */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/id.h"
#include "base/thread.h"
#include "codec/json.h"

#include <stdint.h>

struct op;
struct op_registry;
struct op_watch;

/* Does the work; waits with op_cancel(op). On success *ret_result is the operation's result (new,
 * or NULL). On failure everything that was made is undone before it returns. Owns arg. */
typedef int (*op_fn)(struct op *op, void *arg, json_t **ret_result, struct err *err);

/* kind: e.g. "vm.create"; at most `running_max` at once. */
struct op_registry *op_registry_new(const char *kind, unsigned running_max);
/* Cancels what runs, waits for it, and frees. Accepts NULL. */
void op_registry_free(struct op_registry *r);

/* Starts fn(op, arg) on its own thread. target: what it works on, for people. When it fails
 * (ERR_LIMIT), arg stays the caller's. */
int op_begin(struct op_registry *r, const char *target, op_fn fn, void *arg, char ret_id[ID_SIZE],
             struct err *err) EXCLUDES(rank_leaf);

/* Whether op_show would find it. */
bool op_is_known(struct op_registry *r, const char *id) EXCLUDES(rank_leaf);
/* Sets ERR_NOT_FOUND. */
int op_not_found(const char *id, struct err *err);

/* The Operation object of docs/PROTOCOL.md, or ERR_NOT_FOUND. id may be a unique prefix. */
int op_show(struct op_registry *r, const char *id, json_t **ret, struct err *err)
    EXCLUDES(rank_leaf);
/* Appends all Operation objects to list, oldest first. */
void op_list(struct op_registry *r, json_t *list) EXCLUDES(rank_leaf);
int op_request_cancel(struct op_registry *r, const char *id, struct err *err) EXCLUDES(rank_leaf);

/* Watches one operation: each call waits for a change since the last (without progress: for its
 * end) and returns the object; true in *ret_ended for the last one. */
int op_watch_begin(struct op_registry *r, const char *id, bool progress,
                   struct op_watch **ret_watch, struct err *err) EXCLUDES(rank_leaf);
int op_watch_next(struct op_watch *w, struct cancel *cancel, json_t **ret_op, bool *ret_ended,
                  struct err *err) EXCLUDES(rank_leaf);
void op_watch_end(struct op_watch *w) EXCLUDES(rank_leaf);
DEFINE_CLEANUP(struct op_watch *, op_watch_end);

/* ---- from the operation's own thread ---- */

struct cancel *op_cancel(struct op *op); /* borrowed */
const char *op_id(const struct op *op);
void op_set_target(struct op *op, const char *target) EXCLUDES(rank_leaf);
/* Ends the current stage and begins the next. */
void op_stage(struct op *op, const char *name) EXCLUDES(rank_leaf);
/* Bytes done of the current stage; total 0 = unknown. */
void op_progress(struct op *op, uint64_t bytes, uint64_t total) EXCLUDES(rank_leaf);
/* Something that a person should see now, e.g. that a boot is tried again. */
void op_note(struct op *op, const char *fmt, ...) _printf_(2, 3) EXCLUDES(rank_leaf);
