/* Agents and clients that break the rules, against the link to a guest and its sessions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "link_fixture.h"

#include <stdio.h>
#include <sys/socket.h>

static void a_link_that_lists_too_much_does_not_come_up(void **state)
{
    struct fixture *f = *state;
    struct err err;

    agent_hello_ok(f, SESSIONS_PER_VM_MAX + 1);
    agent_send_u32(f, FRAME_FATAL, 0, 0);
    assert_int_equal(shutdown(f->agent.fd, SHUT_WR), 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), -1);
    assert_int_equal(err.code, ERR_GUEST);
}

static void break_with(struct fixture *f, const struct frame *frame, const char *why)
{
    struct err err;

    if (!f->link) {
        open_link(f, false);
        agent_take_hello(f);
        agent_hello_ok(f, 0);
        assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    }
    peer_send(&f->agent, frame);
    assert_broken(f, why);
    guest_link_free(f->link);
    f->link = NULL;
    peer_done(&f->agent);
}

static void what_is_no_protocol_breaks_the_link(void **state)
{
    struct fixture *f = *state;
    static const uint8_t byte = 0;
    struct task t = {0};
    struct err err;

    break_with(f, &(struct frame){.type = 99}, "the agent broke the protocol: frame type 99");
    break_with(f, &(struct frame){.type = FRAME_EXEC},
               "the agent broke the protocol: frame type 16");
    open_link(f, false);
    agent_take_hello(f);
    agent_hello_ok(f, 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    peer_write(&f->agent, "x", 1);
    assert_broken(f, "the agent broke the protocol: malformed frame");
    guest_link_free(f->link);
    f->link = NULL;
    peer_done(&f->agent);
    open_link(f, false);
    agent_take_hello(f);
    agent_hello_ok(f, 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    task_begin(&t, f, do_sync);
    peer_send(&f->agent, &(struct frame){.type = FRAME_REPLY,
                                         .stream = peer_expect(&f->agent, FRAME_SYNC).stream,
                                         .payload = &byte,
                                         .length = 1});
    assert_broken(f, "the agent sent a malformed reply");
    assert_int_equal(task_end(&t), -1);
}

static void session_frames_are_checked(void **state)
{
    struct fixture *f = *state;
    static const uint8_t u64[8] = {5};
    static const uint8_t bad_how[5] = {2, 1}, bad_signal[5] = {1, 128}, bad_code[5] = {0, 0, 1};
    static const uint8_t bad_session[6] = {FRAME_SESSION_EXITED, 9};
    static const struct {
        struct frame frame;
        const char *why;
    } cases[] = {
        {{.type = FRAME_EXITED, .payload = bad_how, .length = 5}, "malformed session frame"},
        {{.type = FRAME_EXITED, .payload = bad_signal, .length = 5}, "malformed session frame"},
        {{.type = FRAME_EXITED, .payload = bad_code, .length = 5}, "malformed session frame"},
        {{.type = FRAME_EXITED, .payload = bad_how, .length = 4}, "malformed session frame"},
        {{.type = FRAME_FAILED, .payload = u64, .length = 7}, "malformed session frame"},
        {{.type = FRAME_SESSION, .payload = bad_session, .length = 6}, "malformed session frame"},
        {{.type = FRAME_END, .channel = FRAME_STDIN}, "malformed session frame"},
        {{.type = FRAME_DATA, .channel = FRAME_STDIN, .payload = u64, .length = 1},
         "session bytes beyond the window"},
        {{.type = FRAME_DATA, .channel = FRAME_STDOUT, .payload = u64, .length = 1},
         "session bytes beyond the window"},
        {{.type = FRAME_DATA,
          .channel = FRAME_STDERR,
          .offset = UINT64_MAX,
          .payload = u64,
          .length = 2},
         "session bytes beyond the window"},
        {{.type = FRAME_WINDOW, .channel = FRAME_STDOUT, .payload = u64, .length = 8},
         "a window that goes backwards or too far"},
        {{.type = FRAME_WINDOW, .offset = 1, .payload = u64, .length = 8},
         "a window that goes backwards or too far"}, /* acknowledges what was not sent */
        {{.type = FRAME_WINDOW, .payload = (const uint8_t *)"\1\0\x10\0\0\0\0\0", .length = 8},
         "a window that goes backwards or too far"}, /* 1 MiB and a byte */
        {{.type = FRAME_WINDOW, .payload = u64, .length = 7},
         "a window that goes backwards or too far"},
    };

    guest_link_free(f->link);
    f->link = NULL;
    peer_done(&f->agent);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct frame frame = cases[i].frame;
        char id[ID_SIZE], why[128];
        struct err err;

        open_link(f, false);
        agent_take_hello(f);
        agent_hello_ok(f, 0);
        assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
        frame.stream = start_session(f, "pipe", id);
        (void)snprintf(why, sizeof(why), "the agent broke the protocol: %s", cases[i].why);
        break_with(f, &frame, why);
        assert_state(f, id, "lost");
    }
}

static void output_beyond_the_window_breaks_the_link(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "closed", id);

    attach_client(f, id, &client);
    peer_expect_window(&client, FRAME_STDIN, 0, 0);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&client, 0, FRAME_STDOUT, 0, 5);
    (void)peer_expect(&f->agent, FRAME_WINDOW);
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 0, "hello");
    peer_expect_data(&client, FRAME_STDOUT, 0, "hello");
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 5, "!");
    assert_broken(f, "the agent broke the protocol: session bytes beyond the window");
    peer_expect_text(&client, FRAME_FATAL,
                     "the agent broke the protocol: session bytes beyond the window");
    peer_expect_eof(&client);
    peer_done(&client);
    assert_state(f, id, "lost");
}

static void a_clients_garbage_ends_only_the_client(void **state)
{
    struct fixture *f = *state;
    static const uint8_t zero[8];
    static const uint8_t far[8] = {[3] = 1};
    static const struct frame bad[] = {
        {.type = FRAME_HELLO},
        {.type = FRAME_EXEC},
        {.type = FRAME_DATA, .channel = FRAME_STDOUT},
        {.type = FRAME_DATA, .payload = zero, .length = 1}, /* beyond the window */
        {.type = FRAME_DATA, .offset = 3},                  /* not what is next */
        {.type = FRAME_END, .payload = zero, .length = 1},  /* with bytes */
        {.type = FRAME_SIGNAL, .payload = zero, .length = 3},
        {.type = FRAME_RESIZE, .payload = zero, .length = 8},
        {.type = FRAME_WINDOW, .payload = zero, .length = 8}, /* of stdin */
        {.type = FRAME_WINDOW, .channel = FRAME_STDOUT, .payload = far, .length = 8},
        {.type = FRAME_WINDOW, .channel = FRAME_STDOUT, .payload = zero, .length = 7},
        {.type = FRAME_WINDOW, .channel = FRAME_STDERR, .offset = 9, .payload = zero, .length = 8},
    };
    struct peer client;
    char id[ID_SIZE];

    (void)start_session(f, "pipe", id);
    for (size_t i = 0; i <= ARRAY_LEN(bad); i++) {
        attach_client(f, id, &client);
        (void)peer_expect(&client, FRAME_WINDOW);
        (void)peer_expect(&f->agent, FRAME_ATTACH);
        if (i < ARRAY_LEN(bad)) {
            peer_send(&client, &bad[i]);
        } else {
            peer_write(&client, "GET / HTTP/1.1\r\n", 16);
        }
        peer_expect_text(&client, FRAME_FATAL, "the client broke the protocol");
        peer_expect_eof(&client);
        peer_done(&client);
        assert_link_up(f);
    }
    /* One that just goes away, in the middle of a frame. */
    attach_client(f, id, &client);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_write(&client, "\xB5\x20", 2);
    peer_done(&client);
    assert_link_up(f);
    assert_state(f, id, "running");
}

static unsigned count_readers(struct fixture *f, const char *id)
{
    _cleanup_json_ json_t *o = NULL;
    struct err err;

    assert_int_equal(session_show(f->sessions, VM, id, &o, &err), 0);
    return (unsigned)json_int(o, "readers", 9);
}

static void a_client_that_grants_without_reading_ends_alone(void **state)
{
    struct fixture *f = *state;
    static uint8_t bytes[16000];
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);
    uint64_t at = 0;
    int round;

    attach_client(f, id, &client);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    for (round = 0; round < 16 && count_readers(f, id) > 0; round++) {
        peer_send_window(&client, 0, FRAME_STDOUT, at, at + FRAME_WINDOW_MAX);
        peer_expect_window(&f->agent, FRAME_STDOUT, at, at + FRAME_WINDOW_MAX);
        for (int i = 0; i < 64; i++) {
            peer_send(&f->agent, &(struct frame){.type = FRAME_DATA,
                                                 .stream = stream,
                                                 .channel = FRAME_STDOUT,
                                                 .offset = at,
                                                 .payload = bytes,
                                                 .length = sizeof(bytes)});
            at += sizeof(bytes);
        }
        assert_link_up(f);
    }
    assert_true(round < 16);
    peer_done(&client);
    assert_link_up(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_FRESH(a_link_that_lists_too_much_does_not_come_up),
        TEST_BARE(what_is_no_protocol_breaks_the_link),
        TEST(session_frames_are_checked),
        TEST(output_beyond_the_window_breaks_the_link),
        TEST(a_clients_garbage_ends_only_the_client),
        TEST(a_client_that_grants_without_reading_ends_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
