/*
 * Clients of a guest's sessions: what they read and write goes through the link, whose other end is
 * an agent that a test plays (link_fixture.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "link_fixture.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

static void output_reaches_the_client_and_the_end_releases(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *o = NULL;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "closed", id);
    struct frame end;
    struct err err;

    attach_client(f, id, &client);
    peer_expect_window(&client, FRAME_STDIN, 0, 0);
    assert_int_equal(peer_expect(&f->agent, FRAME_ATTACH).stream, stream);
    agent_send_u32(f, FRAME_STARTED, stream, 42); /* again, as ATTACH asks for; not passed on */
    peer_send_window(&client, 0, FRAME_STDOUT, 0, 8);
    peer_send_window(&client, 0, FRAME_STDERR, 0, 8);
    peer_expect_window(&f->agent, FRAME_STDOUT, 0, 8);
    peer_expect_window(&f->agent, FRAME_STDERR, 0, 8);
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 0, "hello");
    peer_send_data(&f->agent, stream, FRAME_STDERR, 0, "oops");
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 5, "you");
    peer_expect_data(&client, FRAME_STDOUT, 0, "hello");
    peer_expect_data(&client, FRAME_STDERR, 0, "oops");
    peer_expect_data(&client, FRAME_STDOUT, 5, "you");
    peer_send_window(&client, 0, FRAME_STDOUT, 8, 16);
    peer_expect_window(&f->agent, FRAME_STDOUT, 8, 16);
    peer_send_end(&f->agent, stream, FRAME_STDOUT, 8);
    peer_send_end(&f->agent, stream, FRAME_STDERR, 4);
    agent_send_exited(f, stream, 0, 3);
    assert_int_equal(peer_expect(&client, FRAME_END).offset, 8);
    assert_int_equal(peer_expect(&client, FRAME_END).offset, 4);
    end = peer_expect(&client, FRAME_EXITED);
    assert_memory_equal(end.payload, "\0\3\0\0\0", 5);
    peer_expect_eof(&client);
    peer_done(&client);
    assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
    wait_for(f, NOTED_ENDED);
    wait_for(f, NOTED_DELIVERED);
    assert_int_equal(session_show(f->sessions, VM, id, &o, &err), 0);
    assert_string_equal(json_str(o, "state", ""), "exited");
    assert_int_equal(json_int(json_object_get(o, "bytes"), "out", -1), 8);
    assert_int_equal(json_int(json_object_get(o, "bytes"), "err", -1), 4);
    assert_int_equal(json_int(json_object_get(o, "exit"), "code", -1), 3);
    assert_int_equal(json_int(o, "readers", -1), 0);
    assert_link_up(f);
    assert_false(was_noted(f, NOTED_DELIVERED));
    assert_false(was_noted(f, NOTED_ENDED));
}

static void an_end_nobody_sees_waits_for_the_next_client(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "closed", id);
    struct frame end;

    peer_send_end(&f->agent, stream, FRAME_STDOUT, 0);
    peer_send_end(&f->agent, stream, FRAME_STDERR, 0);
    agent_send_exited(f, stream, 1, 9);
    wait_for(f, NOTED_ENDED);
    assert_link_up(f); /* nothing but the ping came: no RELEASE */
    attach_client(f, id, &client);
    peer_expect_window(&client, FRAME_STDIN, 0, 0);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&client, 0, FRAME_STDOUT, 0, 100);
    peer_expect_window(&f->agent, FRAME_STDOUT, 0, 100);
    peer_send_end(&f->agent, stream, FRAME_STDOUT, 0);
    peer_send_end(&f->agent, stream, FRAME_STDERR, 0);
    agent_send_exited(f, stream, 1, 9);
    (void)peer_expect(&client, FRAME_END);
    (void)peer_expect(&client, FRAME_END);
    end = peer_expect(&client, FRAME_EXITED);
    assert_memory_equal(end.payload, "\1\x09\0\0\0", 5);
    peer_expect_eof(&client);
    peer_done(&client);
    assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
    /* And from the record, now that the agent has forgotten it. */
    attach_client(f, id, &client);
    end = peer_expect(&client, FRAME_EXITED);
    assert_memory_equal(end.payload, "\1\x09\0\0\0", 5);
    peer_expect_eof(&client);
    peer_done(&client);
}

static void an_exit_is_known_before_the_output_is_read(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "closed", id);
    struct err err;

    assert_int_equal(session_wait(f->sessions, VM, id, NULL, clock_mono_ms(), &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    agent_send_session(f, stream, FRAME_SESSION_RUNNING, 0, 0);
    agent_send_session(f, stream, FRAME_SESSION_EXITED, 0, 7);
    assert_int_equal(session_wait(f->sessions, VM, id, NULL, test_deadline(), &err), 0);
    wait_for(f, NOTED_ENDED);
    assert_state(f, id, "exited");
    assert_int_equal(session_count_running(f->sessions, VM), 0);
    attach_client(f, id, &client);
    peer_expect_window(&client, FRAME_STDIN, 0, 0);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&client, 0, FRAME_STDOUT, 0, 5);
    (void)peer_expect(&f->agent, FRAME_WINDOW);
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 0, "still");
    peer_expect_data(&client, FRAME_STDOUT, 0, "still");
    peer_send_end(&f->agent, stream, FRAME_STDOUT, 5);
    peer_send_end(&f->agent, stream, FRAME_STDERR, 0);
    agent_send_exited(f, stream, 0, 7);
    (void)peer_expect(&client, FRAME_END);
    (void)peer_expect(&client, FRAME_END);
    assert_int_equal(peer_expect(&client, FRAME_EXITED).payload[1], 7);
    peer_expect_eof(&client);
    peer_done(&client);
    assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
}

static void the_next_client_takes_over_where_the_last_was(void **state)
{
    struct fixture *f = *state;
    struct peer first, second;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);

    attach_client(f, id, &first);
    peer_expect_window(&first, FRAME_STDIN, 0, 0);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&f->agent, stream, FRAME_STDIN, 0, 100);
    peer_expect_window(&first, FRAME_STDIN, 0, 100);
    peer_send_data(&first, 0, FRAME_STDIN, 0, "in1");
    peer_expect_data(&f->agent, FRAME_STDIN, 0, "in1");
    peer_send_window(&first, 0, FRAME_STDOUT, 0, 100);
    (void)peer_expect(&f->agent, FRAME_WINDOW);
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 0, "hello");
    peer_expect_data(&first, FRAME_STDOUT, 0, "hello");
    peer_send_window(&first, 0, FRAME_STDOUT, 2, 100);
    peer_expect_window(&f->agent, FRAME_STDOUT, 2, 100);

    attach_client(f, id, &second);
    peer_expect_text(&first, FRAME_FATAL, "another client took over the session");
    peer_expect_eof(&first);
    peer_done(&first);
    /* Its stdin begins behind what others have written. */
    peer_expect_window(&second, FRAME_STDIN, 3, 100);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&second, 0, FRAME_STDOUT, 0, 100);
    peer_expect_window(&f->agent, FRAME_STDOUT, 0, 100);
    /* What the first acknowledged is gone; the rest comes again. */
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 2, "llo");
    peer_expect_data(&second, FRAME_STDOUT, 2, "llo");
    peer_send_data(&second, 0, FRAME_STDIN, 3, "in2");
    peer_expect_data(&f->agent, FRAME_STDIN, 3, "in2");
    peer_send_window(&f->agent, stream, FRAME_STDIN, 5, 110);
    peer_expect_window(&second, FRAME_STDIN, 5, 110);
    peer_done(&second);
}

static void stdin_keeps_to_the_window_and_ends(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);

    attach_client(f, id, &client);
    peer_expect_window(&client, FRAME_STDIN, 0, 0);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&f->agent, stream, FRAME_STDIN, 0, 5);
    peer_expect_window(&client, FRAME_STDIN, 0, 5);
    peer_send_data(&client, 0, FRAME_STDIN, 0, "hello");
    peer_expect_data(&f->agent, FRAME_STDIN, 0, "hello");
    peer_send_window(&f->agent, stream, FRAME_STDIN, 5, 10);
    peer_expect_window(&client, FRAME_STDIN, 5, 10);
    peer_send_end(&client, 0, FRAME_STDIN, 5);
    assert_int_equal(peer_expect(&f->agent, FRAME_END).offset, 5);
    /* Nothing may come behind the end. */
    peer_send_data(&client, 0, FRAME_STDIN, 5, "x");
    peer_expect_text(&client, FRAME_FATAL, "the client broke the protocol");
    peer_expect_eof(&client);
    peer_done(&client);
    assert_link_up(f);
    assert_state(f, id, "running");
}

static void the_clients_signal_and_size_reach_the_agent(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);
    struct frame got;

    attach_client(f, id, &client);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send(&client, &(struct frame){.type = FRAME_SIGNAL,
                                       .payload = (const uint8_t *)"\x0f\0\0\0",
                                       .length = 4});
    got = peer_expect(&f->agent, FRAME_SIGNAL);
    assert_int_equal(got.stream, stream);
    assert_int_equal(got.payload[0], 15);
    peer_send(&client, &(struct frame){.type = FRAME_RESIZE,
                                       .payload = (const uint8_t *)"\x18\0\x50\0",
                                       .length = 4});
    got = peer_expect(&f->agent, FRAME_RESIZE);
    assert_memory_equal(got.payload, "\x18\0\x50\0", 4);
    peer_done(&client);
    session_signal(f->sessions, VM, id, 9);
    got = peer_expect(&f->agent, FRAME_SIGNAL);
    assert_int_equal(got.stream, stream);
    assert_int_equal(got.payload[0], 9);
    session_signal(f->sessions, VM, "ffffffffffff", 9); /* nothing */
    assert_link_up(f);
}

static void a_drained_session_never_waits_for_a_reader(void **state)
{
    struct fixture *f = *state;
    struct task t = {.spec = spec_new("closed"), .drain = true};
    uint64_t half = FRAME_WINDOW_MAX / 2;
    struct peer client;
    uint32_t stream;

    task_begin(&t, f, do_start);
    stream = peer_expect(&f->agent, FRAME_EXEC).stream;
    peer_expect_window(&f->agent, FRAME_STDOUT, 0, half);
    peer_expect_window(&f->agent, FRAME_STDERR, 0, half);
    agent_send_u32(f, FRAME_STARTED, stream, 42);
    assert_int_equal(task_end(&t), 0);
    for (uint64_t at = 0; at < FRAME_ACK_EVERY / 2; at += 8192) {
        static const uint8_t bytes[8192];

        peer_send(&f->agent, &(struct frame){.type = FRAME_DATA,
                                             .stream = stream,
                                             .channel = FRAME_STDOUT,
                                             .offset = at,
                                             .payload = bytes,
                                             .length = sizeof(bytes)});
    }
    peer_expect_window(&f->agent, FRAME_STDOUT, FRAME_ACK_EVERY / 2, FRAME_ACK_EVERY / 2 + half);
    /* A client that goes away leaves it as it was before it came. */
    attach_client(f, t.id, &client);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&client, 0, FRAME_STDOUT, 0, FRAME_ACK_EVERY / 2 + 3);
    (void)peer_expect(&f->agent, FRAME_WINDOW);
    peer_send_data(&f->agent, stream, FRAME_STDOUT, FRAME_ACK_EVERY / 2, "abc");
    (void)peer_expect(&client, FRAME_WINDOW);
    peer_expect_data(&client, FRAME_STDOUT, FRAME_ACK_EVERY / 2, "abc");
    peer_done(&client);
    peer_expect_window(&f->agent, FRAME_STDOUT, FRAME_ACK_EVERY / 2 + 3,
                       FRAME_ACK_EVERY / 2 + 3 + half);
    peer_expect_window(&f->agent, FRAME_STDERR, 0, half);
    assert_link_up(f);
}

static void early_bytes_of_a_client_count(void **state)
{
    struct fixture *f = *state;
    _cleanup_buf_ struct buf early;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "closed", id);
    struct err err;
    int fd;

    buf_init(&early, FRAME_MAX);
    assert_int_equal(frame_put_window(&early, 0, FRAME_STDOUT, 0, 5), 0);
    peer_pair(&client, &fd);
    assert_int_equal(session_attach(f->sessions, VM, id, fd, buf_head(&early), early.len - 4, &err),
                     0);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_write(&client, buf_head(&early) + early.len - 4, 4);
    peer_expect_window(&f->agent, FRAME_STDOUT, 0, 5);
    peer_expect_window(&client, FRAME_STDIN, 0, 0);
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 0, "early");
    peer_expect_data(&client, FRAME_STDOUT, 0, "early");
    peer_done(&client);
}

static void the_end_of_the_link_is_told_to_everybody(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    struct task t = {0};
    _cleanup_json_ json_t *o = NULL;
    struct frame end;
    struct err err;

    (void)start_session(f, "pipe", id);
    attach_client(f, id, &client);
    (void)peer_expect(&client, FRAME_WINDOW);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    task_begin(&t, f, do_sync);
    (void)peer_expect(&f->agent, FRAME_SYNC);
    guest_link_end(f->link, "the VM was stopped");
    guest_link_end(f->link, "again");
    assert_int_equal(task_end(&t), -1);
    peer_expect_text(&client, FRAME_FATAL, "the VM was stopped");
    peer_expect_eof(&client);
    peer_done(&client);
    wait_for(f, NOTED_ENDED);
    assert_false(was_noted(f, NOTED_BROKEN)); /* who ends it needs no telling */
    assert_int_equal(session_show(f->sessions, VM, id, &o, &err), 0);
    assert_string_equal(json_str(o, "state", ""), "lost");
    assert_string_equal(json_str(o, "error", ""), "the VM was stopped");
    assert_int_equal(session_wait(f->sessions, VM, id, NULL, test_deadline(), &err), 0);
    attach_client(f, id, &client); /* a late one */
    end = peer_expect(&client, FRAME_FAILED);
    assert_int_equal(end.payload[0], 125);
    assert_memory_equal(end.payload + 8, "the VM was stopped", end.length - 8);
    peer_expect_eof(&client);
    peer_done(&client);
    session_signal(f->sessions, VM, id, 15); /* nothing */
    session_forget_vm(f->sessions, VM);
    assert_int_equal(session_show(f->sessions, VM, id, &o, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

struct writer {
    struct peer *client;
    size_t total;
    pthread_t thread;
    int failed;
};

/* Not peer_write: assertions are for the main thread. */
static void *write_stdin(void *arg)
{
    struct writer *w = arg;
    static uint8_t bytes[8192];

    for (size_t at = 0; at < w->total && !w->failed; at += sizeof(bytes)) {
        _cleanup_buf_ struct buf out;

        buf_init(&out, FRAME_MAX);
        memset(bytes, (int)(at / sizeof(bytes)), sizeof(bytes));
        w->failed = frame_put(
            &out, &(struct frame){
                      .type = FRAME_DATA, .offset = at, .payload = bytes, .length = sizeof(bytes)});
        while (out.len > 0 && !w->failed) {
            ssize_t n = buf_write_fd(&out, w->client->fd);

            w->failed = n == -EAGAIN ? cancel_wait_fd(NULL, w->client->fd, POLLOUT, test_deadline())
                        : n < 0      ? (int)n
                                     : 0;
        }
    }
    return NULL;
}

static void a_client_waits_while_the_agent_does_not_read(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);
    struct writer w = {.client = &client, .total = 1024 * 1024};

    attach_client(f, id, &client);
    (void)peer_expect(&client, FRAME_WINDOW);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&f->agent, stream, FRAME_STDIN, 0, w.total);
    (void)peer_expect(&client, FRAME_WINDOW);
    assert_int_equal(thread_start(&w.thread, "writer", 256, write_stdin, &w), 0);
    for (size_t at = 0; at < w.total; at += 8192) {
        struct frame data = peer_expect(&f->agent, FRAME_DATA);

        assert_int_equal(data.offset, at);
        assert_int_equal(data.length, 8192);
        assert_int_equal(data.payload[0], (uint8_t)(at / 8192));
    }
    pthread_join(w.thread, NULL);
    assert_int_equal(w.failed, 0);
    peer_done(&client);
    assert_link_up(f);
}

/* Sends `total` bytes of stdin, which sockets and buffers must be able to hold. */
static void send_stdin(struct fixture *f, struct peer *client, size_t total)
{
    struct writer w = {.client = client, .total = total};

    assert_int_equal(thread_start(&w.thread, "writer", 256, write_stdin, &w), 0);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.failed, 0);
    settle(f);
}

static void clients_with_much_take_turns_and_a_key_press_passes_them(void **state)
{
    enum { FIRST, SECOND, KEYS, COUNT };
    const size_t much = 160 * 1024;
    struct fixture *f = *state;
    struct peer clients[COUNT];
    uint32_t streams[COUNT];
    char id[ID_SIZE];
    size_t before_key = 0, in_a_row = 0, got[COUNT] = {0};

    for (int i = 0; i < COUNT; i++) {
        streams[i] = start_session(f, "pipe", id);
        attach_client(f, id, &clients[i]);
        (void)peer_expect(&clients[i], FRAME_WINDOW);
        (void)peer_expect(&f->agent, FRAME_ATTACH);
        peer_send_window(&f->agent, streams[i], FRAME_STDIN, 0, much);
        (void)peer_expect(&clients[i], FRAME_WINDOW);
    }
    /* Nobody reads what the link sends. */
    send_stdin(f, &clients[FIRST], much);
    send_stdin(f, &clients[SECOND], much);
    peer_send_data(&clients[KEYS], 0, FRAME_STDIN, 0, "x");
    settle(f);
    while (got[FIRST] + got[SECOND] < 2 * much || !got[KEYS]) {
        struct frame data = peer_expect(&f->agent, FRAME_DATA);
        int from = data.stream == streams[FIRST]    ? FIRST
                   : data.stream == streams[SECOND] ? SECOND
                                                    : KEYS;

        before_key += got[KEYS] ? 0 : data.length;
        got[from] += data.length;
        /* Once the second waits too, the first has no more at once than the link holds. */
        in_a_row = from == SECOND ? 0 : in_a_row + data.length;
        assert_true(!got[SECOND] || in_a_row <= LINK_DATA_HIGH);
    }
    /* Ahead of the key were what the link and the socket held. */
    assert_true(before_key <= (size_t)LINK_DATA_HIGH + 4 * FRAME_MAX);
    for (int i = 0; i < COUNT; i++) {
        peer_done(&clients[i]);
    }
    assert_link_up(f);
}

/* The port takes a part of a frame, then nothing: pings go as soon as that frame is whole. */
static void a_ping_overtakes_session_bytes_and_splits_no_frame(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);
    struct writer w = {.client = &client, .total = 1024 * 1024};
    struct task pings[8];
    unsigned pinged = 0;

    attach_client(f, id, &client);
    (void)peer_expect(&client, FRAME_WINDOW);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&f->agent, stream, FRAME_STDIN, 0, w.total);
    (void)peer_expect(&client, FRAME_WINDOW);
    assert_int_equal(thread_start(&w.thread, "writer", 256, write_stdin, &w), 0);
    (void)peer_expect(&f->agent, FRAME_DATA);
    for (unsigned i = 0; i < ARRAY_LEN(pings); i++) {
        ping_begin(&pings[i], f);
    }
    for (uint64_t at = 8192; at < w.total;) {
        struct frame got = peer_next(&f->agent);

        if (got.type == FRAME_PING) {
            pinged++;
            peer_send(&f->agent, &(struct frame){.type = FRAME_PONG, .stream = got.stream});
            continue;
        }
        assert_int_equal(got.type, FRAME_DATA);
        assert_int_equal(got.offset, at);
        at += got.length;
        /* Sockets and buffers on the way hold some; a megabyte they do not. */
        assert_true(pinged == ARRAY_LEN(pings) || at < w.total / 2);
    }
    pthread_join(w.thread, NULL);
    assert_int_equal(w.failed, 0);
    for (unsigned i = 0; i < ARRAY_LEN(pings); i++) {
        assert_int_equal(ping_end(&pings[i]), 0);
    }
    peer_done(&client);
    assert_link_up(f);
}

/* A client that waits for room on the link, and does not read: its session ends and is released,
 * then the link goes; nothing may point to it any more when the client goes. */
static void a_waiting_client_outlives_the_link(void **state)
{
    struct fixture *f = *state;
    static uint8_t bytes[16000];
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);
    struct writer w = {.client = &client, .total = 192 * 1024};

    attach_client(f, id, &client);
    (void)peer_expect(&client, FRAME_WINDOW);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&client, 0, FRAME_STDOUT, 0, FRAME_WINDOW_MAX);
    (void)peer_expect(&f->agent, FRAME_WINDOW);
    peer_send_window(&f->agent, stream, FRAME_STDIN, 0, w.total);
    (void)peer_expect(&client, FRAME_WINDOW);
    /* All that it may, so that its socket is full and bytes for it are kept. */
    for (uint64_t at = 0; at + sizeof(bytes) <= FRAME_WINDOW_MAX; at += sizeof(bytes)) {
        peer_send(&f->agent, &(struct frame){.type = FRAME_DATA,
                                             .stream = stream,
                                             .channel = FRAME_STDOUT,
                                             .offset = at,
                                             .payload = bytes,
                                             .length = sizeof(bytes)});
    }
    assert_int_equal(thread_start(&w.thread, "writer", 256, write_stdin, &w), 0);
    pthread_join(w.thread, NULL); /* the link's buffer and the client's socket take it */
    assert_int_equal(w.failed, 0);
    settle(f);
    peer_send_end(&f->agent, stream, FRAME_STDOUT, FRAME_WINDOW_MAX / 16000 * 16000);
    peer_send_end(&f->agent, stream, FRAME_STDERR, 0);
    agent_send_exited(f, stream, 0, 0);
    wait_for(f, NOTED_ENDED);
    guest_link_free(f->link);
    f->link = NULL;
    while (peer_fill(&client) > 0) {
        buf_consume(&client.in, client.in.len);
        client.taken = 0;
    }
    peer_done(&client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(output_reaches_the_client_and_the_end_releases),
        TEST(an_end_nobody_sees_waits_for_the_next_client),
        TEST(an_exit_is_known_before_the_output_is_read),
        TEST(the_next_client_takes_over_where_the_last_was),
        TEST(stdin_keeps_to_the_window_and_ends),
        TEST(the_clients_signal_and_size_reach_the_agent),
        TEST(a_drained_session_never_waits_for_a_reader),
        TEST(early_bytes_of_a_client_count),
        TEST(the_end_of_the_link_is_told_to_everybody),
        TEST(a_client_waits_while_the_agent_does_not_read),
        TEST_NARROW(clients_with_much_take_turns_and_a_key_press_passes_them),
        TEST_NARROW(a_waiting_client_outlives_the_link),
        TEST_NARROW(a_ping_overtakes_session_bytes_and_splits_no_frame),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
