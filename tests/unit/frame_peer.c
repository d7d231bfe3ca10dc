#include "frame_peer.h"

#include "base/cancel.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

void peer_pair(struct peer *p, int *ret_other)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    p->fd = fds[0];
    p->taken = 0;
    buf_init(&p->in, 8 * FRAME_MAX);
    *ret_other = fds[1];
}

void peer_done(struct peer *p)
{
    close_p(&p->fd);
    buf_done(&p->in);
}

void peer_write(struct peer *p, const void *data, size_t len)
{
    const uint8_t *at = data;

    while (len > 0) {
        ssize_t n = send(p->fd, at, len, MSG_NOSIGNAL);

        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            assert_int_equal(cancel_wait_fd(NULL, p->fd, POLLOUT, test_deadline()), 0);
            continue;
        }
        at += n;
        len -= (size_t)n;
    }
}

void peer_send(struct peer *p, const struct frame *f)
{
    _cleanup_buf_ struct buf out;

    buf_init(&out, FRAME_MAX);
    assert_int_equal(frame_put(&out, f), 0);
    peer_write(p, buf_head(&out), out.len);
}

void peer_send_window(struct peer *p, uint32_t stream, uint8_t channel, uint64_t acked,
                      uint64_t limit)
{
    _cleanup_buf_ struct buf out;

    buf_init(&out, FRAME_MAX);
    assert_int_equal(frame_put_window(&out, stream, channel, acked, limit), 0);
    peer_write(p, buf_head(&out), out.len);
}

void peer_send_data(struct peer *p, uint32_t stream, uint8_t channel, uint64_t offset,
                    const char *text)
{
    peer_send(p, &(struct frame){.type = FRAME_DATA,
                                 .stream = stream,
                                 .channel = channel,
                                 .offset = offset,
                                 .payload = (const uint8_t *)text,
                                 .length = (uint32_t)strlen(text)});
}

void peer_send_end(struct peer *p, uint32_t stream, uint8_t channel, uint64_t offset)
{
    peer_send(p, &(struct frame){
                     .type = FRAME_END, .stream = stream, .channel = channel, .offset = offset});
}

ssize_t peer_fill(struct peer *p)
{
    for (;;) {
        ssize_t n = buf_read_fd(&p->in, p->fd, 65536);

        if (n != -EAGAIN) {
            assert_true(n >= 0 || n == -ECONNRESET);
            return n < 0 ? 0 : n;
        }
        assert_int_equal(cancel_wait_fd(NULL, p->fd, POLLIN, test_deadline()), 0);
    }
}

struct frame peer_next_or_end(struct peer *p)
{
    struct frame f = {0};
    int n;

    buf_consume(&p->in, p->taken);
    p->taken = 0;
    while ((n = frame_parse(buf_head(&p->in), p->in.len, &f)) == 0) {
        if (peer_fill(p) == 0) {
            return (struct frame){0};
        }
    }
    assert_true(n > 0);
    p->taken = (size_t)n;
    return f;
}

struct frame peer_next(struct peer *p)
{
    struct frame f = peer_next_or_end(p);

    assert_int_not_equal(f.type, 0);
    return f;
}

struct frame peer_expect(struct peer *p, uint8_t type)
{
    struct frame f = peer_next(p);

    assert_int_equal(f.type, type);
    return f;
}

void peer_expect_text(struct peer *p, uint8_t type, const char *text)
{
    struct frame f = peer_expect(p, type);

    assert_int_equal(f.length, strlen(text));
    assert_memory_equal(f.payload, text, f.length);
}

static uint64_t window_limit(const struct frame *f)
{
    struct frame_reader r = frame_reader(f);
    uint64_t limit = 0;

    assert_int_equal(frame_take_u64(&r, &limit), 0);
    return limit;
}

struct frame peer_expect_window(struct peer *p, uint8_t channel, uint64_t acked, uint64_t limit)
{
    struct frame f = peer_expect(p, FRAME_WINDOW);

    assert_int_equal(f.channel, channel);
    assert_int_equal(f.offset, acked);
    assert_int_equal(window_limit(&f), limit);
    return f;
}

void peer_expect_data(struct peer *p, uint8_t channel, uint64_t offset, const char *text)
{
    struct frame f = peer_expect(p, FRAME_DATA);

    assert_int_equal(f.channel, channel);
    assert_int_equal(f.offset, offset);
    assert_int_equal(f.length, strlen(text));
    assert_memory_equal(f.payload, text, f.length);
}

void peer_expect_eof(struct peer *p)
{
    buf_consume(&p->in, p->taken);
    p->taken = 0;
    assert_int_equal(p->in.len, 0);
    assert_int_equal(peer_fill(p), 0);
}
