/*
 * A ring of the bytes of one channel that the host has not acknowledged, addressed by their
 * absolute offsets. It grows by doubling up to RING_MAX; once all rings together hold
 * RING_POOL_MAX, a ring grows only to RING_SMALL. Running out of memory is the same as being full.
 */
#pragma once

#include "base/attr.h"

#include <stdint.h>
#include <sys/types.h>

#define RING_MAX ((size_t)256 * 1024)
#define RING_SMALL ((size_t)64 * 1024) /* FRAME_ACK_EVERY: less would never be acknowledged */
#define RING_POOL_MAX ((size_t)64 * 1024 * 1024)

struct ring_pool {
    size_t allocated; /* by all rings */
};

struct ring {
    struct ring_pool *pool;
    uint8_t *data;
    size_t capacity; /* a power of two, or 0 */
    uint64_t start;  /* offset of the first byte that is held */
    uint64_t end;    /* offset behind the last one */
};

void ring_init(struct ring *r, struct ring_pool *pool);
void ring_done(struct ring *r);

/* Reads from fd once, at most `most` bytes. Count, 0 at the end of the file, -ENOBUFS when full,
 * -errno. */
ssize_t ring_read_fd(struct ring *r, int fd, size_t most);

/* The bytes at the offset (start ≤ offset ≤ end) that lie in one piece; 0 at the end. */
size_t ring_peek(const struct ring *r, uint64_t offset, const uint8_t **ret_data);

/* Drops the bytes before the offset (start ≤ offset ≤ end). */
void ring_drop(struct ring *r, uint64_t offset);
