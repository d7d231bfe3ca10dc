/*
 * A growing byte buffer with a maximum, consumed from the front. Whoever makes one says how large
 * it may become; past that the append fails and changes nothing. libc only: the agent uses it.
 * Threads: the owner's. Allocation failure aborts (STYLE 9): the maximum is the bound on size.
 */
#pragma once

#include "base/attr.h"

#include <stdint.h>
#include <sys/types.h>

struct buf {
    uint8_t *data;   /* data + start is the first unread byte */
    size_t start;    /* consumed bytes */
    size_t len;      /* unread bytes */
    size_t capacity; /* allocated bytes */
    size_t max;      /* most unread bytes */
};

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);

/* First unread byte, or NULL when nothing was ever stored; valid until the next append. */
static inline const uint8_t *buf_head(const struct buf *b)
{
    return b->data ? b->data + b->start : NULL;
}

/* Bytes that may still be appended. */
static inline size_t buf_room(const struct buf *b)
{
    return b->max - b->len;
}

/* 0, or -ENOBUFS when it would exceed the maximum. */
int buf_append(struct buf *b, const void *data, size_t len) _must_check_;
int buf_append_str(struct buf *b, const char *s) _must_check_;
int buf_printf(struct buf *b, const char *fmt, ...) _printf_(2, 3) _must_check_;
int buf_append_u8(struct buf *b, uint8_t v) _must_check_;
int buf_append_le16(struct buf *b, uint16_t v) _must_check_;
int buf_append_le32(struct buf *b, uint32_t v) _must_check_;
int buf_append_le64(struct buf *b, uint64_t v) _must_check_;

/* Space for len more bytes at the tail, or NULL past the maximum; publish with buf_commit. */
uint8_t *buf_reserve(struct buf *b, size_t len);
void buf_commit(struct buf *b, size_t len);

/* Drops len (≤ b->len) bytes from the front. */
void buf_consume(struct buf *b, size_t len);

/* Reads once from fd, at most `most` bytes and no more than fits.
 * Returns the count, 0 at the end of the stream, -errno (-EAGAIN, -ENOBUFS when full). */
ssize_t buf_read_fd(struct buf *b, int fd, size_t most);

/* Writes once to fd (a socket: without SIGPIPE) and consumes. Count or -errno. */
ssize_t buf_write_fd(struct buf *b, int fd);

/* Writes what b holds and then data, as far as fd takes it without waiting; b holds the rest.
 * 0, -errno of the descriptor, -ENOBUFS when the rest is more than the maximum. */
int buf_write_through(struct buf *b, int fd, const void *data, size_t len) _must_check_;

/* The content as a C string that the caller frees; the buffer is left empty. */
char *buf_steal_str(struct buf *b);

#define _cleanup_buf_ _cleanup_(buf_done)
