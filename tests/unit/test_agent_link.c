/* The agent's link with frames that are lent: they are written from where they lie, and what does
 * not go out at once is the link's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define PIECES 8
#define STREAM 7

struct sender {
    struct poller poller;
    struct link link;
    int host;      /* the other end */
    struct buf in; /* what the host has read, */
    size_t taken;  /* and looked at */
    uint64_t sent;
    unsigned left; /* pieces to lend */
    bool small;    /* a small frame goes ahead of each piece */
    uint8_t piece[LINK_PIECE_MAX];
};

static uint8_t byte_at(uint64_t offset)
{
    return (uint8_t)(offset * 31 + (offset >> 9));
}

static void on_frame(void *ctx, const struct frame *frame, struct buf *out)
{
    (void)ctx;
    (void)frame;
    (void)out;
}

static void on_ended(void *ctx)
{
    /* Memory of a session may go with its host. */
    memset(((struct sender *)ctx)->piece, 0xEE, LINK_PIECE_MAX);
}

static unsigned no_sessions(void *ctx)
{
    (void)ctx;
    return 0;
}

static bool next(void *ctx, struct buf *out, struct link_piece *piece)
{
    struct sender *s = ctx;

    /* What was lent before must not be looked at any more. */
    memset(s->piece, 0xEE, sizeof(s->piece));
    if (s->left == 0 || (!piece && !s->small)) {
        return false;
    }
    if (s->small || !piece) {
        s->small = false;
        return frame_put_u32(out, FRAME_STARTED, STREAM, 1) == 0;
    }
    for (size_t at = 0; at < LINK_PIECE_MAX; at += FRAME_MAX) {
        struct frame f = {.type = FRAME_DATA,
                          .channel = FRAME_STDOUT,
                          .stream = STREAM,
                          .offset = s->sent,
                          .length = FRAME_PAYLOAD_MAX};

        for (size_t i = 0; i < f.length; i++) {
            s->piece[at + FRAME_HEADER_SIZE + i] = byte_at(s->sent + i);
        }
        frame_seal(s->piece + at, &f);
        s->sent += f.length;
    }
    *piece = (struct link_piece){.data = s->piece, .len = LINK_PIECE_MAX};
    s->left--;
    s->small = true;
    return true;
}

static const struct link_ops ops = {
    .frame = on_frame,
    .ended = on_ended,
    .sessions = no_sessions,
    .next = next,
};

/* A port that takes less than a frame at a time. */
static void sender_init(struct sender *s)
{
    const int queued = 4608;
    int fds[2];

    *s = (struct sender){.left = PIECES};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &queued, sizeof(queued)), 0);
    assert_int_equal(poller_init(&s->poller), 0);
    link_init(&s->link, &ops, s, "test");
    assert_int_equal(link_open(&s->link, &s->poller, fds[0]), 0);
    s->host = fds[1];
    buf_init(&s->in, 4 * 1024 * 1024);
}

static void sender_done(struct sender *s)
{
    link_done(&s->link, &s->poller);
    buf_done(&s->in);
    (void)close(s->host);
    (void)close(s->poller.epoll_fd);
}

static void greet(struct sender *s, uint8_t who)
{
    uint8_t nonce[FRAME_NONCE_SIZE];
    _cleanup_buf_ struct buf b;

    memset(nonce, who, sizeof(nonce));
    buf_init(&b, 2 * FRAME_MAX);
    assert_int_equal(frame_put_hello(&b, nonce), 0);
    assert_int_equal(buf_write_fd(&b, s->host), FRAME_HEADER_SIZE + 20 + FRAME_TRAILER_SIZE);
}

static void turn(struct sender *s)
{
    assert_int_equal(poller_turn(&s->poller, 0), 0);
    while (link_turn(&s->link)) {
        assert_int_equal(poller_turn(&s->poller, 0), 0);
    }
}

/* Until nothing comes any more. */
static void read_all(struct sender *s)
{
    ssize_t n;

    do {
        n = buf_read_fd(&s->in, s->host, 65536);
        turn(s);
    } while (n > 0);
    assert_int_equal(n, -EAGAIN);
}

static struct frame take(struct sender *s)
{
    struct frame f;
    int n = frame_parse(buf_head(&s->in) + s->taken, s->in.len - s->taken, &f);

    assert_true(n > 0);
    s->taken += (size_t)n;
    return f;
}

static void check_data(const struct frame *f, uint64_t offset)
{
    assert_int_equal(f->type, FRAME_DATA);
    assert_int_equal(f->offset, offset);
    assert_int_equal(f->length, FRAME_PAYLOAD_MAX);
    for (size_t i = 0; i < f->length; i++) {
        if (f->payload[i] != byte_at(offset + i)) {
            fail_msg("byte %zu of the frame at %llu", i, (unsigned long long)offset);
        }
    }
}

static void check_hello(const struct frame *f, uint8_t who)
{
    assert_int_equal(f->type, FRAME_HELLO_OK);
    assert_int_equal(f->payload[0], who);
}

static void lent_frames_arrive_whole_and_in_order_through_a_port_that_is_full(void **state)
{
    struct sender s;
    uint64_t offset = 0;
    struct frame f;

    (void)state;
    sender_init(&s);
    greet(&s, 1);
    turn(&s);
    read_all(&s);
    f = take(&s);
    check_hello(&f, 1);
    for (unsigned i = 0; i < PIECES; i++) {
        for (size_t at = 0; at < LINK_PIECE_MAX; at += FRAME_MAX) {
            f = take(&s);
            check_data(&f, offset);
            offset += f.length;
        }
        if (i + 1 < PIECES) {
            f = take(&s);
            assert_int_equal(f.type, FRAME_STARTED);
        }
    }
    assert_int_equal(s.in.len, s.taken);
    sender_done(&s);
}

static void a_lent_frame_that_has_begun_is_finished_for_the_next_host(void **state)
{
    struct sender s;
    struct frame f;

    (void)state;
    sender_init(&s);
    greet(&s, 1);
    turn(&s);
    assert_true(s.link.begun > 0 && s.link.begun < FRAME_MAX);
    s.left = 0;
    greet(&s, 2);
    turn(&s);
    read_all(&s);
    f = take(&s);
    check_hello(&f, 1);
    f = take(&s);
    check_data(&f, 0);
    f = take(&s);
    check_hello(&f, 2);
    assert_int_equal(s.in.len, s.taken);
    sender_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lent_frames_arrive_whole_and_in_order_through_a_port_that_is_full),
        cmocka_unit_test(a_lent_frame_that_has_begun_is_finished_for_the_next_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
