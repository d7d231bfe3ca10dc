#include "agent/ring.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#define RING_FIRST ((size_t)4096)

void ring_init(struct ring *r, struct ring_pool *pool)
{
    *r = (struct ring){.pool = pool};
}

void ring_done(struct ring *r)
{
    r->pool->allocated -= r->capacity;
    free(r->data);
    r->data = NULL;
    r->capacity = 0;
    r->start = r->end;
}

static size_t ring_used(const struct ring *r)
{
    return (size_t)(r->end - r->start);
}

size_t ring_peek(const struct ring *r, uint64_t offset, const uint8_t **ret_data)
{
    size_t at = offset & (r->capacity - 1);
    size_t left = (size_t)(r->end - offset);

    if (left == 0) {
        return 0;
    }
    *ret_data = r->data + at;
    return left < r->capacity - at ? left : r->capacity - at;
}

static void ring_grow(struct ring *r)
{
    size_t capacity = r->capacity ? r->capacity * 2 : RING_FIRST;
    uint8_t *data;

    if (capacity > (r->pool->allocated < RING_POOL_MAX ? RING_MAX : RING_SMALL)) {
        return;
    }
    data = malloc(capacity);
    if (!data) {
        return;
    }
    for (uint64_t offset = r->start; offset < r->end;) {
        const uint8_t *piece;
        size_t n = ring_peek(r, offset, &piece);

        /* A piece never wraps in the larger ring: it is cut where the smaller one ends. */
        memcpy(data + (offset & (capacity - 1)), piece, n);
        offset += n;
    }
    free(r->data);
    r->pool->allocated += capacity - r->capacity;
    r->data = data;
    r->capacity = capacity;
}

ssize_t ring_read_fd(struct ring *r, int fd, size_t most)
{
    struct iovec iov[2];
    size_t room, at, first;
    ssize_t n;

    if (ring_used(r) == r->capacity) {
        ring_grow(r);
    }
    room = r->capacity - ring_used(r);
    if (room > most) {
        room = most;
    }
    if (room == 0) {
        return -ENOBUFS;
    }
    at = r->end & (r->capacity - 1);
    first = room < r->capacity - at ? room : r->capacity - at;
    iov[0] = (struct iovec){.iov_base = r->data + at, .iov_len = first};
    iov[1] = (struct iovec){.iov_base = r->data, .iov_len = room - first};
    do {
        n = readv(fd, iov, room > first ? 2 : 1);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    r->end += (uint64_t)n;
    return n;
}

void ring_drop(struct ring *r, uint64_t offset)
{
    r->start = offset;
}
