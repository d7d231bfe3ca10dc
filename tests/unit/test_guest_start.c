/* Sessions of a guest: how they are started, and found by their names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "link_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Then there is the record (test_guest_resume.c), and nothing else. */
static void assert_is_record(struct frame_reader *r)
{
    const uint8_t *value;
    uint32_t len;
    uint8_t tag;

    assert_int_equal(frame_take_tlv(r, &tag, &value, &len), 1);
    assert_int_equal(tag, FRAME_TAG_RECORD);
    assert_in_range(len, 2, FRAME_RECORD_MAX);
    assert_int_equal(r->left, 0);
}

static void exec_carries_the_whole_spec(void **state)
{
    struct fixture *f = *state;
    struct task t = {.spec = json_pack("{s:[s,{s:s},s], s:[s], s:s, s:s, s:s, s:{s:i,s:i}}",
                                       "command", "printf", "base64", "/w==", "", "env", "A=b",
                                       "cwd", "/tmp", "user", "ann:users", "stdin", "pipe", "tty",
                                       "rows", 300, "columns", 80)};
    static const struct {
        uint8_t tag;
        const char *value;
        uint32_t len;
    } want[] = {
        {FRAME_TAG_ARG, "printf", 6}, {FRAME_TAG_ARG, "\xff", 1},
        {FRAME_TAG_ARG, "", 0},       {FRAME_TAG_ENV, "A=b", 3},
        {FRAME_TAG_CWD, "/tmp", 4},   {FRAME_TAG_USER, "ann:users", 9},
        {FRAME_TAG_STDIN, "\1", 1},   {FRAME_TAG_TTY, "\x2c\x01\x50\x00", 4},
    };
    struct frame_reader r;
    struct frame exec;

    task_begin(&t, f, do_start);
    exec = peer_expect(&f->agent, FRAME_EXEC);
    assert_int_equal(exec.stream, 1);
    assert_int_equal(exec.flags, 0);
    r = frame_reader(&exec);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        const uint8_t *value;
        uint32_t len;
        uint8_t tag;

        assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 1);
        assert_int_equal(tag, want[i].tag);
        assert_int_equal(len, want[i].len);
        assert_memory_equal(value, want[i].value, len);
    }
    assert_is_record(&r);
    agent_send_u32(f, FRAME_STARTED, exec.stream, 42);
    assert_int_equal(task_end(&t), 0);
    assert_state(f, t.id, "running");
    assert_int_equal(session_count_running(f->sessions, VM), 1);
    assert_int_equal(session_count_running(f->sessions, "other"), 0);
}

static void a_large_exec_comes_in_pieces(void **state)
{
    struct fixture *f = *state;
    struct task t = {.spec = json_pack("{s:[s]}", "command", "x")};
    char *large = malloc(100001);
    _cleanup_buf_ struct buf got;
    struct frame_reader r;
    struct frame exec;

    memset(large, 'a', 100000);
    large[100000] = '\0';
    json_array_append_new(json_object_get(t.spec, "command"), json_string(large));
    free(large);
    buf_init(&got, FRAME_SPEC_MAX);
    task_begin(&t, f, do_start);
    do {
        exec = peer_expect(&f->agent, FRAME_EXEC);
        assert_int_equal(buf_append(&got, exec.payload, exec.length), 0);
    } while (exec.flags & FRAME_MORE);
    buf_consume(&got, 6 + 5 + 100000 + 6);
    r = (struct frame_reader){.p = buf_head(&got), .left = got.len};
    assert_is_record(&r);
    agent_send_u32(f, FRAME_STARTED, exec.stream, 42);
    assert_int_equal(task_end(&t), 0);
}

static void too_large_and_empty_commands_are_refused(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *empty = json_pack("{s:[]}", "command");
    _cleanup_json_ json_t *large = json_pack("{s:[s]}", "command", "x");
    char *text = malloc(FRAME_SPEC_MAX + 1), id[ID_SIZE];
    struct err err;

    memset(text, 'a', FRAME_SPEC_MAX);
    text[FRAME_SPEC_MAX] = '\0';
    json_array_append_new(json_object_get(large, "command"), json_string(text));
    free(text);
    assert_int_equal(start_refused(f, empty, id, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(start_refused(f, large, id, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_string_equal(err.message, "command and environment are larger than 512 KiB together");
    assert_link_up(f);
}

static void a_command_that_cannot_start_is_a_failed_session(void **state)
{
    struct fixture *f = *state;
    struct task t = {.spec = spec_new("closed")};
    _cleanup_json_ json_t *o = NULL;
    struct peer client;
    uint32_t stream;
    struct frame end;
    struct err err;

    task_begin(&t, f, do_start);
    stream = peer_expect(&f->agent, FRAME_EXEC).stream;
    agent_send_failed(f, stream, 127, ENOENT, "no 'echo'\n");
    assert_int_equal(task_end(&t), 0);
    assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
    wait_for(f, NOTED_ENDED);
    assert_int_equal(session_show(f->sessions, VM, t.id, &o, &err), 0);
    assert_string_equal(json_str(o, "state", ""), "failed");
    assert_string_equal(json_str(o, "error", ""), "no 'echo'\\n");
    assert_int_equal(json_int(json_object_get(o, "exit"), "code", -1), 127);
    assert_int_equal(session_wait(f->sessions, VM, t.id, NULL, test_deadline(), &err), 0);
    /* Who attaches now is told. */
    attach_client(f, t.id, &client);
    end = peer_expect(&client, FRAME_FAILED);
    assert_int_equal(end.payload[0], 127);
    assert_memory_equal(end.payload + 8, "no 'echo'\\n", end.length - 8);
    peer_expect_eof(&client);
    wait_for(f, NOTED_DELIVERED);
    peer_done(&client);
    assert_link_up(f);
}

static void a_start_ends_at_deadline_or_cancel_and_is_taken_back(void **state)
{
    struct fixture *f = *state;
    _cleanup_cancel_ struct cancel *cancel = cancel_new();
    struct task t = {.spec = spec_new("closed"), .deadline_ms = clock_mono_ms()};
    uint32_t stream;

    task_begin(&t, f, do_start);
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_TIMEOUT);
    stream = peer_expect(&f->agent, FRAME_EXEC).stream;
    assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
    agent_send_u32(f, FRAME_STARTED, stream, 1); /* too late, and harmless */
    t = (struct task){.spec = spec_new("closed"), .cancel = cancel};
    task_begin(&t, f, do_start);
    stream = peer_expect(&f->agent, FRAME_EXEC).stream;
    cancel_trigger(cancel);
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_CANCELLED);
    assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
    assert_int_equal(session_count_running(f->sessions, VM), 0);
    assert_link_up(f);
}

static void no_session_starts_before_hello_or_after_the_end(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *spec = spec_new("closed"), *list = NULL;
    char id[ID_SIZE];
    struct err err;

    assert_int_equal(start_refused(f, spec, id, &err), -1);
    assert_int_equal(err.code, ERR_GUEST);
    guest_link_end(f->link, "stopped");
    assert_int_equal(start_refused(f, spec, id, &err), -1);
    list = session_list(f->sessions, VM);
    assert_int_equal(json_array_size(list), 0);
}

static void sessions_are_found_by_unique_prefix(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *o = NULL, *list = NULL;
    char ids[17][ID_SIZE], prefix[2];
    unsigned first[16] = {0};
    struct peer peer;
    struct err err;
    int fd;

    /* 17 ids share 16 first digits. */
    for (int i = 0; i < 17; i++) {
        const char *digits = "0123456789abcdef";

        (void)start_session(f, "closed", ids[i]);
        first[strchr(digits, ids[i][0]) - digits]++;
    }
    assert_int_equal(session_show(f->sessions, VM, ids[3], &o, &err), 0);
    for (int i = 0; i < 16; i++) {
        if (first[i] > 1) {
            (void)snprintf(prefix, sizeof(prefix), "%x", i);
        }
    }
    peer_pair(&peer, &fd);
    assert_int_equal(session_attach(f->sessions, VM, prefix, fd, NULL, 0, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    (void)peer_expect(&peer, FRAME_FATAL); /* it is told why */
    peer_expect_eof(&peer);
    peer_done(&peer);
    peer_pair(&peer, &fd);
    assert_int_equal(session_attach(f->sessions, "other", ids[0], fd, NULL, 0, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    peer_done(&peer);
    list = session_list(f->sessions, VM);
    assert_int_equal(json_array_size(list), 17);
    assert_string_equal(json_str(json_array_get(list, 16), "id", ""), ids[16]);
}

static void the_oldest_ended_session_makes_room(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *list = NULL;
    char first[ID_SIZE], id[ID_SIZE];
    struct err err;
    json_t *o = NULL;
    uint32_t stream = start_session(f, "closed", first);

    for (int i = 1; i < SESSIONS_PER_VM_MAX; i++) {
        (void)start_session(f, "closed", id);
    }
    {
        _cleanup_json_ json_t *spec = spec_new("closed");

        assert_int_equal(start_refused(f, spec, id, &err), -1);
        assert_int_equal(err.code, ERR_LIMIT);
    }
    agent_send_session(f, stream, FRAME_SESSION_EXITED, 0, 0);
    wait_for(f, NOTED_ENDED);
    {
        struct task t = {.spec = spec_new("closed")};
        uint32_t started;

        task_begin(&t, f, do_start);
        assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
        started = peer_expect(&f->agent, FRAME_EXEC).stream;
        agent_send_u32(f, FRAME_STARTED, started, 42);
        assert_int_equal(task_end(&t), 0);
    }
    assert_int_equal(session_show(f->sessions, VM, first, &o, &err), -1);
    list = session_list(f->sessions, VM);
    assert_int_equal(json_array_size(list), SESSIONS_PER_VM_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(exec_carries_the_whole_spec),
        TEST(a_large_exec_comes_in_pieces),
        TEST(too_large_and_empty_commands_are_refused),
        TEST(a_command_that_cannot_start_is_a_failed_session),
        TEST(a_start_ends_at_deadline_or_cancel_and_is_taken_back),
        TEST_FRESH(no_session_starts_before_hello_or_after_the_end),
        TEST(sessions_are_found_by_unique_prefix),
        TEST(the_oldest_ended_session_makes_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
