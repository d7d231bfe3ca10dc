/*
 * A ring of the bytes of one channel that the host has not acknowledged, addressed by their
 * absolute offsets. They lie in pieces, each with room for a frame's header in front and for its
 * trailer behind: a whole piece is sent from where it lies, and so again to the next host. It grows
 * up to RING_MAX; once all rings together hold RING_POOL_MAX, a ring grows only to RING_SMALL.
 * Running out of memory is the same as being full.
 */
#pragma once

#include "base/attr.h"
#include "codec/frame.h"

#include <stdint.h>
#include <sys/types.h>

/* In pieces of FRAME_MAX. Five hold FRAME_ACK_EVERY: less would never be acknowledged. */
#define RING_PIECES_SMALL 5
#define RING_PIECES_MAX 20
#define RING_SMALL ((size_t)RING_PIECES_SMALL * FRAME_MAX)
#define RING_MAX ((size_t)RING_PIECES_MAX * FRAME_MAX)
#define RING_POOL_MAX ((size_t)64 * 1024 * 1024)

struct ring_pool {
    size_t allocated; /* by all rings */
};

struct ring {
    struct ring_pool *pool;
    uint8_t *data;
    size_t unit;    /* bytes that a piece holds */
    size_t count;   /* pieces, or 0 */
    uint64_t start; /* offset of the first byte that is held */
    uint64_t end;   /* offset behind the last one */
};

void ring_init(struct ring *r, struct ring_pool *pool);
void ring_done(struct ring *r);

/* Reads from fd once, at most `most` bytes. Count, 0 at the end of the file, -ENOBUFS when full,
 * -errno. *ret_short: the count is less than there was room for. */
ssize_t ring_read_fd(struct ring *r, int fd, size_t most, bool *ret_short);

/* The bytes at the offset (start ≤ offset ≤ end) that lie in one piece; 0 at the end. */
size_t ring_peek(const struct ring *r, uint64_t offset, const uint8_t **ret_data);

/* The place of a frame whose payload is the FRAME_PAYLOAD_MAX bytes from the offset on; NULL when
 * they do not lie in one piece, or there are not as many. */
uint8_t *ring_frame(const struct ring *r, uint64_t offset);

/* Drops the bytes before the offset (start ≤ offset ≤ end). */
void ring_drop(struct ring *r, uint64_t offset);
