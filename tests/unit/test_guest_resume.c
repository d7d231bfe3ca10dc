/*
 * Sessions that outlive a daemon, on the host's side: the record that the agent keeps, and what the
 * next daemon makes of a list of sessions. The agent is the other end of a socketpair here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "codec/api.h"
#include "frame_peer.h"
#include "guest/guest_priv.h"
#include "scratch.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define VM "0123456789abcdef0123456789abcdef"
#define ID "00112233445566778899aabbccddeeff"
#define RECORD(id)                                                                                 \
    "{\"id\":\"" id "\",\"started_ms\":1700000000000,\"hold\":true,\"spec\":{\"command\":["        \
    "\"cat\",\"-\"],\"cwd\":\"/tmp\",\"stdin\":\"pipe\"}}"

/* ---- the record ---- */

static json_t *spec_filled(json_t *spec)
{
    const struct api_method *start = api_method_find("session.start");
    struct err err;

    json_put_str(spec, "vm", "x");
    assert_int_equal(api_validate(start, spec, &err), 0);
    api_fill_defaults(start, spec);
    (void)json_object_del(spec, "vm");
    return spec;
}

/* Of a session with this spec (taken): what the next daemon gets. */
static struct session_record pass_on(json_t *spec)
{
    struct session s = {.id = ID,
                        .spec = spec_filled(spec),
                        .started_ms = clock_real_ms() - 5,
                        .main = true,
                        .hold = true};
    _cleanup_free_ char *text = session_record_encode(&s);
    struct session_record record;

    assert_true(strlen(text) <= FRAME_RECORD_MAX);
    session_record_parse(text, strlen(text), clock_real_ms(), &record);
    assert_string_equal(record.id, ID);
    assert_int_equal(record.started_ms, s.started_ms);
    assert_true(record.main && record.hold && !record.drain);
    json_decref(s.spec);
    return record;
}

static void a_record_says_what_there_was_but_the_environment(void **state)
{
    json_t *spec =
        json_pack("{s:[s,{s:s},s], s:[s], s:s, s:s, s:s, s:{s:i,s:i}}", "command", "printf",
                  "base64", "/w==", "", "env", "SECRET=b", "cwd", "/tmp", "user", "ann:users",
                  "stdin", "pipe", "tty", "rows", 300, "columns", 80);
    _cleanup_json_ json_t *want = json_deep_copy(spec);
    struct session_record record = pass_on(spec);

    (void)state;
    (void)json_object_del(want, "env");
    assert_false(record.shortened);
    assert_true(json_equal(record.spec, want));
    json_decref(record.spec);
}

static json_t *repeated(const char *piece, size_t count)
{
    _cleanup_buf_ struct buf b;

    buf_init(&b, 1 << 20);
    while (count-- > 0) {
        assert_int_equal(buf_append_str(&b, piece), 0);
    }
    return json_stringn((const char *)buf_head(&b), b.len);
}

static void a_long_command_is_shortened_and_marked(void **state)
{
    static const char *const pieces[] = {"x", "\x01", "\xc3\xa4", "\xf0\x9f\x98\x80", "\"", "\x7f"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        json_t *spec = json_object(), *command = json_array();
        struct session_record record;
        const char *kept;

        json_array_append_new(command, json_string("sh"));
        json_array_append_new(command, repeated(pieces[i], 9000));
        json_array_append_new(command, json_string("not any more"));
        json_put(spec, "command", command);
        json_put(spec, "cwd", json_pack("s+", "/", "\x01\x01\x01"));
        json_put_str(spec, "user", "\x01\x01\x01");
        record = pass_on(spec);
        assert_true(record.shortened);
        command = json_object_get(record.spec, "command");
        assert_int_equal(json_array_size(command), 2);
        kept = json_string_value(json_array_get(command, 1));
        assert_true(strlen(kept) > 300 && strlen(kept) % strlen(pieces[i]) == 0);
        json_decref(record.spec);
    }
}

/* As long as session.start takes them, and of what is printed longest. */
static void the_longest_record_fits(void **state)
{
    json_t *spec = json_object(), *command = json_array();
    struct session_record record;
    json_t *cwd = repeated("\x01", 4094), *slash = json_string("/");

    (void)state;
    for (int i = 0; i < 4096; i++) {
        json_array_append_new(command, json_pack("{s:s}", "base64", "/w=="));
    }
    json_put(spec, "command", command);
    json_put(spec, "cwd", json_pack("s++", json_string_value(slash), json_string_value(cwd), ""));
    json_put(spec, "user", repeated("\x01", 128));
    json_put_str(spec, "stdin", "pipe");
    json_put(spec, "tty", json_pack("{s:i,s:i}", "rows", 65535, "columns", 65535));
    json_decref(cwd);
    json_decref(slash);
    record = pass_on(spec);
    assert_true(record.shortened);
    assert_null(json_object_get(record.spec, "cwd"));
    json_decref(record.spec);
}

static void what_is_no_record_makes_a_session_without_command(void **state)
{
    static const char *const texts[] = {
        "",
        "x",
        "[]",
        "null",
        "{}",
        "{\"id\":\"" ID "\"}",
        "{\"id\":\"" ID "\",\"spec\":[]}",
        "{\"id\":\"" ID "\",\"spec\":{}}",
        "{\"id\":\"" ID "\",\"spec\":{\"command\":\"x\"}}",
        "{\"id\":\"" ID "\",\"spec\":{\"command\":[1]}}",
        "{\"id\":\"" ID "\",\"spec\":{\"command\":[\"a\\u0000b\"]}}",
        "{\"id\":\"" ID "\",\"spec\":{\"command\":[\"x\"],\"env\":[\"A=b\"]}}",
        "{\"id\":\"" ID "\",\"spec\":{\"command\":[\"x\"],\"vm\":\"y\"}}",
        "{\"id\":\"" ID "\",\"spec\":{\"command\":[\"x\"],\"hold\":true}}",
        "{\"id\":\"" ID "\",\"spec\":{\"command\":[\"x\"],\"stdin\":\"file\"}}",
        "{\"id\":\"" ID "\",\"spec\":{\"command\":[\"x\"],\"tty\":{\"rows\":0,\"columns\":1}}}",
        "{\"id\":\"" ID "0\",\"spec\":{\"command\":[\"x\"]}}",
        "{\"id\":\"abc\",\"spec\":{\"command\":[\"x\"]}}",
        "{\"id\":\"00112233445566778899AABBCCDDEEFF\",\"spec\":{\"command\":[\"x\"]}}",
        "{\"id\":7,\"spec\":{\"command\":[\"x\"]}}",
        "{\"id\":\"" ID "\",\"spec\":{\"command\":[\"x\"]}}}",
    };
    _cleanup_json_ json_t *large = repeated("{\"a\":", FRAME_RECORD_MAX);
    struct session_record record;

    (void)state;
    for (size_t i = 0; i <= ARRAY_LEN(texts); i++) {
        const char *text = i < ARRAY_LEN(texts) ? texts[i] : json_string_value(large);
        json_t *command;

        session_record_parse(text, strlen(text), clock_real_ms(), &record);
        command = json_object_get(record.spec, "command");
        assert_string_equal(record.id, "");
        assert_true(json_is_array(command) && json_array_size(command) == 0);
        assert_false(record.main || record.hold || record.drain || record.shortened);
        json_decref(record.spec);
    }
}

static void times_of_a_record_are_not_in_the_future(void **state)
{
    static const char *const times[] = {"-1", "9000000000000000000", "\"x\"", "0"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        int64_t before = clock_real_ms();
        struct session_record record;
        char text[256];

        (void)snprintf(text, sizeof(text),
                       "{\"id\":\"" ID "\",\"started_ms\":%s,\"spec\":{\"command\":[]}}", times[i]);
        session_record_parse(text, strlen(text), clock_real_ms(), &record);
        assert_string_equal(record.id, ID);
        assert_in_range(record.started_ms, before, clock_real_ms());
        json_decref(record.spec);
    }
}

/* ---- the list ---- */

struct fixture {
    struct loop *loop;
    struct session_registry *sessions;
    struct guest_link *link;
    struct peer agent;
    int64_t listed; /* the event came; guest loop, then after a call to it */
    struct latch broken, delivered;
    char why[256];
};

static void on_link(void *arg, enum guest_link_event event, const char *text)
{
    struct fixture *f = arg;

    f->listed += event == GUEST_LINK_LISTED;
    if (event == GUEST_LINK_BROKEN) {
        (void)snprintf(f->why, sizeof(f->why), "%s", text);
        latch_set(&f->broken);
    }
}

static void on_session(void *arg, enum session_event event, const char *vm_id,
                       const char *session_id)
{
    struct fixture *f = arg;

    (void)vm_id;
    (void)session_id;
    if (event == SESSION_DELIVERED) {
        latch_set(&f->delivered);
    }
}

static struct frame agent_take(struct fixture *f, uint8_t type, uint32_t stream)
{
    struct frame frame = peer_next(&f->agent);

    assert_int_equal(frame.type, type);
    assert_int_equal(frame.stream, stream);
    return frame;
}

static void agent_expect_window(struct fixture *f, uint32_t stream, uint8_t channel, uint64_t acked,
                                uint64_t limit)
{
    assert_int_equal(peer_expect_window(&f->agent, channel, acked, limit).stream, stream);
}

struct listing {
    uint32_t stream;
    uint8_t state, how, status;
    uint64_t in, out_start, out_end, err_start, err_end;
    const char *record;
};

static void put_listing(struct fixture *f, const struct listing *l)
{
    uint8_t status[6] = {l->state, l->how, l->status};
    _cleanup_buf_ struct buf b;

    buf_init(&b, FRAME_MAX);
    assert_int_equal(buf_append(&b, status, sizeof(status)), 0);
    assert_int_equal(buf_append_le64(&b, l->in), 0);
    assert_int_equal(buf_append_le64(&b, l->out_start), 0);
    assert_int_equal(buf_append_le64(&b, l->out_end), 0);
    assert_int_equal(buf_append_le64(&b, l->err_start), 0);
    assert_int_equal(buf_append_le64(&b, l->err_end), 0);
    assert_int_equal(buf_append_str(&b, l->record ? l->record : ""), 0);
    peer_send(&f->agent, &(struct frame){.type = FRAME_SESSION,
                                         .stream = l->stream,
                                         .payload = buf_head(&b),
                                         .length = (uint32_t)b.len});
}

/* A link, adopted or not, whose agent has said how many sessions it will list. */
static void greet(struct fixture *f, bool adopted, uint32_t listed)
{
    _cleanup_buf_ struct buf b;
    struct frame hello;
    int fd;

    peer_pair(&f->agent, &fd);
    f->link = guest_link_open(&(struct guest_link_params){.loop = f->loop,
                                                          .fd = fd,
                                                          .adopted = adopted,
                                                          .vm_id = VM,
                                                          .sessions = f->sessions,
                                                          .fn = on_link,
                                                          .arg = f});
    while (adopted && f->agent.in.len < FRAME_MAX) {
        ssize_t n = buf_read_fd(&f->agent.in, f->agent.fd, FRAME_MAX - f->agent.in.len);

        assert_true(n > 0 ||
                    cancel_wait_fd(NULL, f->agent.fd, POLLIN, test_deadline()) == 0); /* zeros */
    }
    f->agent.taken = adopted ? FRAME_MAX : 0;
    hello = agent_take(f, FRAME_HELLO, 0);
    buf_init(&b, 64);
    assert_int_equal(buf_append(&b, hello.payload, FRAME_NONCE_SIZE), 0);
    assert_int_equal(buf_append_le16(&b, FRAME_PROTO_MAX), 0);
    assert_int_equal(buf_append_le32(&b, listed), 0);
    peer_send(&f->agent, &(struct frame){.type = FRAME_HELLO_OK,
                                         .payload = buf_head(&b),
                                         .length = (uint32_t)b.len});
}

static void await_up(struct fixture *f)
{
    struct err err;

    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    assert_true(guest_link_is_up(f->link));
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_int_equal(loop_new("guest", &f->loop), 0);
    f->sessions = session_registry_new(
        &(struct session_registry_params){.loop = f->loop, .fn = on_session, .arg = f});
    latch_init(&f->broken);
    latch_init(&f->delivered);
    f->agent.fd = -1;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    guest_link_free(f->link);
    session_registry_free(f->sessions);
    loop_free(f->loop);
    latch_done(&f->broken);
    latch_done(&f->delivered);
    peer_done(&f->agent);
    free(f);
    return 0;
}

/* The listed sessions, which are fit to be sent to a client. */
static json_t *list(struct fixture *f)
{
    json_t *all = session_list(f->sessions, VM);
    struct err err = {0};

    if (api_check_result(api_method_find("session.list"), all, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return all;
}

static void listed_sessions_are_known_again(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *all = NULL;
    const json_t *s;
    char main_id[ID_SIZE];

    greet(f, true, 2);
    put_listing(f, &(struct listing){.stream = 4,
                                     .state = FRAME_SESSION_RUNNING,
                                     .in = 5,
                                     .out_start = 7,
                                     .out_end = 9,
                                     .record = RECORD(ID)});
    assert_false(guest_link_is_up(f->link));
    put_listing(f, &(struct listing){.stream = 9,
                                     .state = FRAME_SESSION_EXITED,
                                     .how = 1,
                                     .status = 15,
                                     .err_end = 3,
                                     .record = "{\"id\":\"" ID "\",\"spec\":{\"command\":[]}}"});
    await_up(f);
    assert_int_equal(f->listed, 1);
    /* So that it hears of their ends. */
    (void)agent_take(f, FRAME_ATTACH, 4);
    (void)agent_take(f, FRAME_ATTACH, 9);
    all = list(f);
    assert_int_equal(json_array_size(all), 2);
    s = json_array_get(all, 0);
    assert_string_equal(json_str(s, "id", ""), ID);
    assert_string_equal(json_str(s, "state", ""), "running");
    assert_string_equal(json_str(s, "cwd", ""), "/tmp");
    assert_string_equal(json_str(s, "started_at", ""), "2023-11-14T22:13:20.000Z");
    assert_int_equal(json_array_size(json_object_get(s, "command")), 2);
    assert_int_equal(json_int(json_object_get(s, "bytes"), "out", -1), 9);
    s = json_array_get(all, 1);
    assert_string_not_equal(json_str(s, "id", ""), ID); /* which is taken */
    assert_string_equal(json_str(s, "state", ""), "exited");
    assert_int_equal(json_int(json_object_get(s, "exit"), "signal", -1), 15);
    assert_int_equal(json_int(json_object_get(s, "bytes"), "err", -1), 3);
    assert_false(session_find_main(f->sessions, VM, main_id));
    assert_false(session_is_over(f->sessions, VM, ID));
    assert_int_equal(session_count_running(f->sessions, VM), 1);
}

static void an_older_agent_lists_numbers_alone(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *all = NULL;

    greet(f, true, 1);
    peer_send(&f->agent, &(struct frame){.type = FRAME_SESSION,
                                         .stream = 3,
                                         .payload = (const uint8_t *)"\1\0\0\0\0\0",
                                         .length = 6});
    await_up(f);
    all = list(f);
    assert_int_equal(json_array_size(all), 0);
    assert_int_equal(f->listed, 1);
}

static void a_fresh_guest_has_no_sessions_to_list(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *all = NULL;

    greet(f, false, 1);
    put_listing(
        f, &(struct listing){.stream = 1, .state = FRAME_SESSION_RUNNING, .record = RECORD(ID)});
    await_up(f);
    all = list(f);
    assert_int_equal(json_array_size(all), 0);
    assert_int_equal(f->listed, 0);
}

static void a_listing_that_cannot_be_breaks_the_link(void **state)
{
    static const struct listing cases[] = {
        {.stream = 1, .state = 0},
        {.stream = 1, .state = 4},
        {.stream = 1, .state = FRAME_SESSION_EXITED, .how = 2},
        {.stream = 1, .state = FRAME_SESSION_EXITED, .how = 1, .status = 200},
        {.stream = 1, .state = FRAME_SESSION_RUNNING, .out_start = 2, .out_end = 1},
        {.stream = 1, .state = FRAME_SESSION_RUNNING, .err_end = UINT64_MAX},
        {.stream = 1, .state = FRAME_SESSION_RUNNING, .in = UINT64_MAX},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture *f;

        assert_int_equal(set_up(state), 0);
        f = *state;
        greet(f, true, 1);
        put_listing(f, &cases[i]);
        assert_int_equal(latch_wait(&f->broken, NULL, test_deadline()), 0);
        assert_string_equal(f->why, "the agent broke the protocol: malformed session frame");
        assert_int_equal(tear_down(state), 0);
    }
}

static void attach(struct fixture *f, const char *id, struct peer *client)
{
    struct err err;
    int fd;

    peer_pair(client, &fd);
    assert_int_equal(session_attach(f->sessions, VM, id, fd, NULL, 0, &err), 0);
}

static void list_one(struct fixture *f)
{
    greet(f, true, 1);
    put_listing(f, &(struct listing){.stream = 4,
                                     .state = FRAME_SESSION_RUNNING,
                                     .in = 5,
                                     .out_start = 7,
                                     .out_end = 20,
                                     .record = RECORD(ID)});
    await_up(f);
    (void)agent_take(f, FRAME_ATTACH, 4);
}

static void a_client_goes_on_at_its_offsets(void **state)
{
    struct fixture *f = *state;
    _cleanup_(peer_done) struct peer client = {.fd = -1};
    struct frame frame;

    list_one(f);
    attach(f, ID, &client);
    /* Its stdin goes on where the agent's is. */
    peer_expect_window(&client, FRAME_STDIN, 5, 5);
    (void)agent_take(f, FRAME_ATTACH, 4);
    peer_send_window(&f->agent, 4, FRAME_STDIN, 5, 100);
    peer_expect_window(&client, FRAME_STDIN, 5, 100);
    peer_send(&client,
              &(struct frame){
                  .type = FRAME_DATA, .offset = 5, .payload = (const uint8_t *)"abc", .length = 3});
    frame = agent_take(f, FRAME_DATA, 4);
    assert_int_equal(frame.offset, 5);
    /* It has three bytes more than were acknowledged. */
    peer_send_window(&client, 0, FRAME_STDOUT, 10, 100);
    agent_expect_window(f, 4, FRAME_STDOUT, 10, 100);
    peer_send(&f->agent, &(struct frame){.type = FRAME_DATA,
                                         .stream = 4,
                                         .channel = FRAME_STDOUT,
                                         .offset = 10,
                                         .payload = (const uint8_t *)"xyz",
                                         .length = 3});
    frame = peer_next_or_end(&client);
    assert_int_equal(frame.type, FRAME_DATA);
    assert_int_equal(frame.offset, 10);
}

static void a_client_that_has_more_than_there_was_is_refused(void **state)
{
    struct fixture *f = *state;
    _cleanup_(peer_done) struct peer client = {.fd = -1};

    list_one(f);
    attach(f, ID, &client);
    peer_send_window(&client, 0, FRAME_STDOUT, 21, 100);
    assert_int_equal(peer_next_or_end(&client).type, FRAME_WINDOW);
    assert_int_equal(peer_next_or_end(&client).type, FRAME_FATAL);
    assert_int_equal(peer_next_or_end(&client).type, 0);
}

static void a_drained_session_is_drained_on(void **state)
{
    struct fixture *f = *state;

    greet(f, true, 1);
    put_listing(f, &(struct listing){.stream = 2,
                                     .state = FRAME_SESSION_RUNNING,
                                     .out_start = 10,
                                     .out_end = 50,
                                     .record = "{\"id\":\"" ID "\",\"main\":true,\"drain\":true,"
                                               "\"spec\":{\"command\":[\"x\"]}}"});
    await_up(f);
    (void)agent_take(f, FRAME_ATTACH, 2);
    agent_expect_window(f, 2, FRAME_STDOUT, 50, 50 + FRAME_WINDOW_MAX / 2);
    agent_expect_window(f, 2, FRAME_STDERR, 0, FRAME_WINDOW_MAX / 2);
}

static void one_that_could_not_start_says_why(void **state)
{
    static const uint8_t failed[] = "\x7f\0\0\0\2\0\0\0no such program";
    struct fixture *f = *state;
    _cleanup_json_ json_t *o = NULL;
    struct err err;

    greet(f, true, 1);
    put_listing(
        f, &(struct listing){.stream = 2, .state = FRAME_SESSION_FAILED, .record = RECORD(ID)});
    (void)agent_take(f, FRAME_ATTACH, 2);
    peer_send(&f->agent, &(struct frame){.type = FRAME_FAILED,
                                         .stream = 2,
                                         .payload = failed,
                                         .length = sizeof(failed) - 1});
    (void)agent_take(f, FRAME_RELEASE, 2);
    assert_int_equal(session_show(f->sessions, VM, ID, &o, &err), 0);
    assert_string_equal(json_str(o, "state", ""), "failed");
    assert_string_equal(json_str(o, "error", ""), "no such program");
}

static void orphans_are_hung_up_unless_they_are_held_again(void **state)
{
    static const char other[] = "{\"id\":\"ffeeddccbbaa99887766554433221100\",\"hold\":true,"
                                "\"spec\":{\"command\":[\"x\"]}}";
    static const char third[] =
        "{\"id\":\"ffffffffffffffffffffffffffffffff\",\"spec\":{\"command\":[\"x\"]}}";
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct err err;

    greet(f, true, 3);
    put_listing(
        f, &(struct listing){.stream = 1, .state = FRAME_SESSION_RUNNING, .record = RECORD(ID)});
    put_listing(f, &(struct listing){.stream = 2, .state = FRAME_SESSION_RUNNING, .record = other});
    put_listing(f, &(struct listing){.stream = 3, .state = FRAME_SESSION_RUNNING, .record = third});
    await_up(f);
    for (uint32_t stream = 1; stream <= 3; stream++) {
        (void)agent_take(f, FRAME_ATTACH, stream);
    }
    assert_int_equal(session_take_hold(f->sessions, VM, "ffee", id, &err), 0);
    assert_string_equal(id, "ffeeddccbbaa99887766554433221100");
    assert_int_equal(session_take_hold(f->sessions, VM, "abc", id, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(session_let_go_orphans(f->sessions, VM), 1);
    assert_int_equal(agent_take(f, FRAME_SIGNAL, 1).payload[0], 1);
    assert_int_equal(session_let_go_orphans(f->sessions, VM), 0);
}

static void a_daemon_that_ends_lets_its_clients_go_without_a_word(void **state)
{
    struct fixture *f = *state;
    _cleanup_(peer_done) struct peer client = {.fd = -1};

    list_one(f);
    attach(f, ID, &client);
    assert_int_equal(peer_next_or_end(&client).type, FRAME_WINDOW);
    guest_link_end(f->link, NULL);
    assert_int_equal(peer_next_or_end(&client).type, 0);
}

/* A daemon that dies has only delivered what is in the client's socket. */
static void the_agent_keeps_a_session_until_its_client_has_all_of_it(void **state)
{
    static const uint8_t exited[5] = {0, 3};
    const uint64_t total = 48 * (uint64_t)FRAME_PAYLOAD_MAX;
    static uint8_t data[FRAME_PAYLOAD_MAX];
    struct fixture *f = *state;
    _cleanup_(peer_done) struct peer client = {.fd = -1};
    uint64_t got = 0;
    struct frame frame;

    list_one(f);
    attach(f, ID, &client);
    (void)agent_take(f, FRAME_ATTACH, 4);
    peer_send_window(&client, 0, FRAME_STDOUT, 7, 7 + FRAME_WINDOW_MAX);
    (void)agent_take(f, FRAME_WINDOW, 4);
    for (uint64_t at = 7; at < 7 + total; at += sizeof(data)) {
        peer_send(&f->agent, &(struct frame){.type = FRAME_DATA,
                                             .stream = 4,
                                             .channel = FRAME_STDOUT,
                                             .offset = at,
                                             .payload = data,
                                             .length = sizeof(data)});
    }
    peer_send(&f->agent,
              &(struct frame){
                  .type = FRAME_END, .stream = 4, .channel = FRAME_STDOUT, .offset = 7 + total});
    peer_send(&f->agent, &(struct frame){.type = FRAME_END, .stream = 4, .channel = FRAME_STDERR});
    peer_send(&f->agent,
              &(struct frame){.type = FRAME_EXITED, .stream = 4, .payload = exited, .length = 5});
    /* All of it is handled when an answer to what came behind it is there. */
    peer_send(&f->agent, &(struct frame){.type = FRAME_FATAL, .stream = 0});
    assert_int_equal(latch_wait(&f->broken, NULL, test_deadline()), 0);
    assert_int_equal(peer_next_or_end(&f->agent).type, 0); /* no RELEASE */
    assert_false(latch_is_set(&f->delivered));
    do {
        frame = peer_next_or_end(&client);
        got += frame.type == FRAME_DATA ? frame.length : 0;
    } while (frame.type != 0);
    assert_int_equal(got, total);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_says_what_there_was_but_the_environment),
        cmocka_unit_test(a_long_command_is_shortened_and_marked),
        cmocka_unit_test(the_longest_record_fits),
        cmocka_unit_test(what_is_no_record_makes_a_session_without_command),
        cmocka_unit_test(times_of_a_record_are_not_in_the_future),
        TEST(listed_sessions_are_known_again),
        TEST(an_older_agent_lists_numbers_alone),
        TEST(a_fresh_guest_has_no_sessions_to_list),
        cmocka_unit_test(a_listing_that_cannot_be_breaks_the_link),
        TEST(a_client_goes_on_at_its_offsets),
        TEST(a_client_that_has_more_than_there_was_is_refused),
        TEST(a_drained_session_is_drained_on),
        TEST(one_that_could_not_start_says_why),
        TEST(orphans_are_hung_up_unless_they_are_held_again),
        TEST(a_daemon_that_ends_lets_its_clients_go_without_a_word),
        TEST(the_agent_keeps_a_session_until_its_client_has_all_of_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
