#include "agent/ring.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#define RING_FIRST ((size_t)4096) /* the first piece is one of so many bytes: most say little */
_Static_assert(FRAME_ACK_EVERY <= RING_PIECES_SMALL * FRAME_PAYLOAD_MAX, "waits for ever");
#define AROUND (FRAME_HEADER_SIZE + FRAME_TRAILER_SIZE)

void ring_init(struct ring *r, struct ring_pool *pool)
{
    *r = (struct ring){.pool = pool};
}

static size_t ring_bytes(const struct ring *r)
{
    return r->count * (r->unit + AROUND);
}

void ring_done(struct ring *r)
{
    r->pool->allocated -= ring_bytes(r);
    free(r->data);
    r->data = NULL;
    r->count = 0;
    r->start = r->end;
}

static size_t ring_room(const struct ring *r)
{
    return r->count * r->unit - (size_t)(r->end - r->start);
}

static uint8_t *place_of(const struct ring *r, uint64_t offset)
{
    return r->data + (size_t)(offset / r->unit % r->count) * (r->unit + AROUND) +
           FRAME_HEADER_SIZE + (size_t)(offset % r->unit);
}

/* How many bytes from the offset on, of `left`, its piece has a place for. */
static size_t in_piece(const struct ring *r, uint64_t offset, size_t left)
{
    size_t n = r->unit - (size_t)(offset % r->unit);

    return n < left ? n : left;
}

size_t ring_peek(const struct ring *r, uint64_t offset, const uint8_t **ret_data)
{
    size_t left = (size_t)(r->end - offset);

    if (left == 0) {
        return 0;
    }
    *ret_data = place_of(r, offset);
    return in_piece(r, offset, left);
}

uint8_t *ring_frame(const struct ring *r, uint64_t offset)
{
    if (r->count == 0 || r->unit != FRAME_PAYLOAD_MAX || offset % r->unit != 0 ||
        r->end - offset < r->unit) {
        return NULL;
    }
    return place_of(r, offset) - FRAME_HEADER_SIZE;
}

/* The next larger one, without bytes; what it has grown to is not counted yet. */
static struct ring larger(const struct ring *r)
{
    struct ring to = *r;

    if (r->count == 0) {
        to.unit = RING_FIRST - AROUND;
        to.count = 1;
        return to;
    }
    to.unit = FRAME_PAYLOAD_MAX;
    to.count = r->unit < to.unit ? 1 : r->count * 2;
    if (r->count < RING_PIECES_SMALL && to.count > RING_PIECES_SMALL) {
        to.count = RING_PIECES_SMALL;
    }
    return to;
}

static void ring_grow(struct ring *r)
{
    struct ring to = larger(r);
    size_t bytes = ring_bytes(&to);

    if (bytes > (r->pool->allocated < RING_POOL_MAX ? RING_MAX : RING_SMALL)) {
        return;
    }
    to.data = malloc(bytes);
    if (!to.data) {
        return;
    }
    for (uint64_t offset = r->start; offset < r->end;) {
        const uint8_t *from;
        size_t n = in_piece(&to, offset, ring_peek(r, offset, &from));

        memcpy(place_of(&to, offset), from, n);
        offset += n;
    }
    free(r->data);
    r->pool->allocated += bytes - ring_bytes(r);
    *r = to;
}

ssize_t ring_read_fd(struct ring *r, int fd, size_t most, bool *ret_short)
{
    struct iovec iov[RING_PIECES_MAX + 1];
    size_t room, count = 0;
    ssize_t n;

    if (ring_room(r) == 0) {
        ring_grow(r);
    }
    room = ring_room(r);
    if (room > most) {
        room = most;
    }
    if (room == 0) {
        return -ENOBUFS;
    }
    for (size_t at = 0; at < room; at += iov[count++].iov_len) {
        iov[count] = (struct iovec){.iov_base = place_of(r, r->end + at),
                                    .iov_len = in_piece(r, r->end + at, room - at)};
    }
    do {
        n = readv(fd, iov, (int)count);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    r->end += (uint64_t)n;
    *ret_short = (size_t)n < room;
    return n;
}

void ring_drop(struct ring *r, uint64_t offset)
{
    r->start = offset;
}
