#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_done(struct buf *b)
{
    free(b->data);
    *b = (struct buf){.max = b->max};
}

uint8_t *buf_reserve(struct buf *b, size_t len)
{
    size_t want, capacity;
    uint8_t *data;

    if (len > b->max - b->len) {
        return NULL;
    }
    want = b->len + len;
    if (b->start + want <= b->capacity) {
        return b->data + b->start + b->len;
    }
    /* Moving is cheaper than growing when at least half of the allocation is consumed bytes. */
    if (want <= b->capacity && b->start >= b->capacity / 2) {
        memmove(b->data, b->data + b->start, b->len);
        b->start = 0;
        return b->data + b->len;
    }
    capacity = b->capacity < 256 ? 256 : b->capacity;
    while (capacity < want) {
        capacity *= 2;
    }
    if (b->start > 0) {
        memmove(b->data, b->data + b->start, b->len);
    }
    /* Large ones are moved by the kernel, without a copy. */
    data = realloc(b->data, capacity);
    if (!data) {
        abort();
    }
    b->data = data;
    b->start = 0;
    b->capacity = capacity;
    return b->data + b->len;
}

void buf_commit(struct buf *b, size_t len)
{
    b->len += len;
}

int buf_append(struct buf *b, const void *data, size_t len)
{
    uint8_t *p;

    if (len == 0) {
        return 0; /* data may be NULL, and so may what an empty buffer reserves */
    }
    p = buf_reserve(b, len);
    if (!p) {
        return -ENOBUFS;
    }
    memcpy(p, data, len);
    b->len += len;
    return 0;
}

int buf_append_str(struct buf *b, const char *s)
{
    return buf_append(b, s, strlen(s));
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    uint8_t *p;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        return -EINVAL;
    }
    p = buf_reserve(b, (size_t)n + 1);
    if (!p) {
        return -ENOBUFS;
    }
    va_start(ap, fmt);
    (void)vsnprintf((char *)p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return 0;
}

int buf_append_u8(struct buf *b, uint8_t v)
{
    return buf_append(b, &v, 1);
}

int buf_append_le16(struct buf *b, uint16_t v)
{
    uint8_t p[2] = {(uint8_t)v, (uint8_t)(v >> 8)};

    return buf_append(b, p, sizeof(p));
}

int buf_append_le32(struct buf *b, uint32_t v)
{
    uint8_t p[4];

    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
    return buf_append(b, p, sizeof(p));
}

int buf_append_le64(struct buf *b, uint64_t v)
{
    uint8_t p[8];

    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
    return buf_append(b, p, sizeof(p));
}

void buf_consume(struct buf *b, size_t len)
{
    b->start += len;
    b->len -= len;
    if (b->len == 0) {
        b->start = 0;
        /* An idle buffer keeps no more than a page: thousands of them may be idle. */
        if (b->capacity > 65536) {
            free(b->data);
            b->data = NULL;
            b->capacity = 0;
        }
    }
}

ssize_t buf_read_fd(struct buf *b, int fd, size_t most)
{
    size_t room = buf_room(b);
    size_t want = most < room ? most : room;
    uint8_t *p;
    ssize_t n;

    if (want == 0) {
        return -ENOBUFS;
    }
    p = buf_reserve(b, want);
    do {
        n = read(fd, p, want);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    b->len += (size_t)n;
    return n;
}

static ssize_t write_once(int fd, const void *data, size_t len)
{
    ssize_t n;

    do {
        n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == ENOTSOCK) {
            n = write(fd, data, len);
        }
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t buf_write_fd(struct buf *b, int fd)
{
    ssize_t n = b->len > 0 ? write_once(fd, buf_head(b), b->len) : 0;

    if (n > 0) {
        buf_consume(b, (size_t)n);
    }
    return n;
}

int buf_write_through(struct buf *b, int fd, const void *data, size_t len)
{
    ssize_t n = 1;

    while (b->len > 0 && n > 0) {
        n = buf_write_fd(b, fd);
    }
    while (len > 0 && n > 0) {
        n = write_once(fd, data, len);
        if (n > 0) {
            data = (const uint8_t *)data + n;
            len -= (size_t)n;
        }
    }
    return n < 0 && n != -EAGAIN ? (int)n : buf_append(b, data, len);
}

char *buf_steal_str(struct buf *b)
{
    uint8_t *p;
    char *s;

    b->max = b->len + 1 > b->max ? b->len + 1 : b->max;
    p = buf_reserve(b, 1);
    *p = 0;
    if (b->start > 0) {
        memmove(b->data, b->data + b->start, b->len + 1);
    }
    s = realloc(b->data, b->len + 1);
    if (!s) {
        abort();
    }
    *b = (struct buf){.max = b->max};
    return s;
}
