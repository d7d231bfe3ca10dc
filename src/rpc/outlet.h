/*
 * The sending half of a connection: whole lines to a non-blocking socket, from any thread, in the
 * order of the calls. What the socket does not take at once is kept until the loop that watches the
 * socket flushes it.
 *
 * Lock hierarchy: one leaf lock, held over a send that does not wait.
 */
#pragma once

#include "base/buf.h"
#include "base/thread.h"

#include <stdbool.h>

struct outlet {
    struct lock lock;
    /* under lock */
    int fd; /* borrowed; -1 once closed */
    struct buf unsent;
};

/* max: bytes that may wait for the peer to read. */
void outlet_init(struct outlet *o, int fd, size_t max);
void outlet_done(struct outlet *o);

/* After it returns nobody uses the fd any more. */
void outlet_close(struct outlet *o) EXCLUDES(rank_leaf);

/* Sends, or keeps, all of it. *ret_unsent: whether anything waits for a flush. 0; -EPIPE after the
 * close; -ENOBUFS when the peer lags by max; -errno of the socket. */
int outlet_send(struct outlet *o, const char *text, bool *ret_unsent) EXCLUDES(rank_leaf);

/* Sends what is kept as far as the socket takes it. 0 or -errno. */
int outlet_flush(struct outlet *o, bool *ret_unsent) EXCLUDES(rank_leaf);

/* How many bytes wait. */
size_t outlet_unsent(struct outlet *o) EXCLUDES(rank_leaf);
