/*
 * An event loop on a thread of its own (sd-event inside). Callbacks run on the loop's thread, never
 * block, and own nothing but their arg. Sources are made, changed and freed on the loop's thread
 * only (asserted); loop_post and loop_call are how other threads get there.
 * Failure: making a source aborts on lack of memory or descriptors, which admission bounds.
 */
#pragma once

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_source;

typedef void (*loop_fn)(void *arg);
typedef void (*loop_io_fn)(void *arg, uint32_t events /* EPOLL* */);

/* Starts the loop's thread; name ≤ 15 bytes. 0 or -errno. */
int loop_new(const char *name, struct loop **ret_loop);
/* Ends the thread after the callback that is running and all that was posted. All sources must
 * have been freed, and nobody may post any more. */
void loop_free(struct loop *l);

bool loop_is_current(const struct loop *l);

/* Runs fn(arg) on the loop's thread, in order of posting; returns at once. Any thread. */
void loop_post(struct loop *l, loop_fn fn, void *arg);
/* The same, and waits until it ran; on the loop's own thread it runs at once. Not under a leaf
 * lock. */
void loop_call(struct loop *l, loop_fn fn, void *arg);

/* Watches fd (borrowed; a pidfd or an inotify fd too) for EPOLL* events. */
struct loop_source *loop_add_io(struct loop *l, int fd, uint32_t events, loop_io_fn fn, void *arg);
void loop_source_set_events(struct loop_source *s, uint32_t events);

/* Runs fn(arg) once at deadline_ms (clock_mono_ms() value); re-arm with loop_source_set_deadline,
 * -1 = off. */
struct loop_source *loop_add_timer(struct loop *l, int64_t deadline_ms, loop_fn fn, void *arg);
void loop_source_set_deadline(struct loop_source *s, int64_t deadline_ms);

/* Accepts NULL; may be called from the source's own callback. */
void loop_source_free(struct loop_source *s);
