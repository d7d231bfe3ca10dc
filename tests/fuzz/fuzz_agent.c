/*
 * Any bytes as a host's input to the agent's link, requests and sessions. Nothing is executed or
 * signalled: a "command" is a pipe with some output in it, and dies when it is killed.
 * The first byte of the input: bit 0: greet first; the rest: the size of the pieces to feed.
 */
#include "agent/link.h"
#include "agent/request.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#define DOOMED_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct host {
    struct poller poller;
    struct link link;
    struct sessions sessions;
    struct requests requests;
};

/* The seam has no context: what commands there were, of the one input at a time. */
static struct {
    pid_t next_pid;
    unsigned doomed_count;
    pid_t doomed[DOOMED_MAX];
} commands;

static int fake_start(struct spec *spec, const struct child_env *env, struct child *ret,
                      struct failure *ret_failure)
{
    static const uint8_t output[40000]; /* two frames that are lent, and a rest */
    int out[2], in[2];

    (void)env;
    assert(spec->argv[0]);
    if (spec->argv[0][0] == 0) {
        return failure_set(ret_failure, FAILURE_NOT_FOUND, ENOENT, "'%s'", spec->argv[0]);
    }
    if (pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(in, O_CLOEXEC | O_NONBLOCK) < 0) {
        abort();
    }
    (void)!write(out[1], output, sizeof(output));
    (void)close(out[1]);
    /* Odd commands read their stdin as far as a pipe holds, even ones have closed it. */
    if (commands.next_pid % 2 == 0) {
        (void)close(in[0]);
    } else {
        static int held = -1;

        close_p(&held);
        held = in[0];
    }
    *ret = (struct child){.pid = commands.next_pid++, .in = in[1], .out = out[0], .err = -1};
    return 0;
}

static void fake_signal(pid_t group, int sig)
{
    assert(group > 0 && sig > 0);
    if ((sig == SIGKILL || sig == SIGTERM) && commands.doomed_count < DOOMED_MAX) {
        commands.doomed[commands.doomed_count++] = group;
    }
}

static const struct session_ops fake_ops = {.start = fake_start, .signal = fake_signal};

static void on_frame(void *ctx, const struct frame *f, struct buf *out)
{
    struct host *h = ctx;
    size_t before = out->len;

    if (f->type >= FRAME_EXEC) {
        sessions_frame(&h->sessions, f, out);
    } else if (f->type != FRAME_SYNC) { /* it forks; GROW would, with a disk */
        requests_frame(&h->requests, f, out);
    }
    assert(out->len - before <= LINK_ANSWER_MAX);
}

static void on_ended(void *ctx)
{
    struct host *h = ctx;

    sessions_detach(&h->sessions);
    requests_detach(&h->requests);
}

static unsigned list_sessions(void *ctx)
{
    return sessions_list(&((struct host *)ctx)->sessions);
}

static bool next_frame(void *ctx, struct buf *out, struct link_piece *piece)
{
    struct host *h = ctx;

    return requests_next(&h->requests, out) || sessions_next(&h->sessions, out, piece) ||
           requests_farewell(&h->requests, out);
}

static const struct link_ops ops = {
    .frame = on_frame,
    .ended = on_ended,
    .sessions = list_sessions,
    .next = next_frame,
};

/* All that the agent says is whole frames. */
static void take_output(struct host *h)
{
    struct frame f;

    link_fill(&h->link);
    while (h->link.out.len > 0) {
        int n = frame_parse(buf_head(&h->link.out), h->link.out.len, &f);

        assert(n > 0);
        buf_consume(&h->link.out, (size_t)n);
    }
}

static void feed(struct host *h, const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t n = link_feed(&h->link, data, size);

        link_process(&h->link);
        take_output(h);
        data += n;
        size -= n;
    }
    if (poller_turn(&h->poller, 0) < 0) {
        abort();
    }
    while (commands.doomed_count > 0) {
        sessions_reaped(&h->sessions, commands.doomed[--commands.doomed_count], SIGKILL);
    }
    take_output(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t nonce[FRAME_NONCE_SIZE] = {1};
    static struct host h;
    _cleanup_buf_ struct buf hello = {0}; /* also of an empty input */
    size_t piece;

    if (size == 0) {
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    commands.next_pid = 100;
    commands.doomed_count = 0;
    buf_init(&hello, FRAME_MAX);
    if (poller_init(&h.poller) < 0) {
        abort();
    }
    sessions_init(&h.sessions, &h.poller, &fake_ops);
    if (requests_init(&h.requests, &h.poller, &h.sessions) < 0) {
        abort();
    }
    link_init(&h.link, &ops, &h, "fuzz");
    if (data[0] & 1 && frame_put_hello(&hello, nonce) == 0) {
        feed(&h, buf_head(&hello), hello.len);
    }
    piece = data[0] >> 1 ? (size_t)(data[0] >> 1) * 64 : size;
    for (size_t at = 1; at < size; at += piece) {
        feed(&h, data + at, size - at < piece ? size - at : piece);
    }
    link_done(&h.link, &h.poller);
    sessions_done(&h.sessions);
    requests_done(&h.requests);
    assert(h.sessions.count == 0 && h.sessions.streams.pool.allocated == 0);
    (void)close(h.poller.epoll_fd);
    return 0;
}
