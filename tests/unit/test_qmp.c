/* vmm/qemu/qmp: the client against a mock server at the other end of a socketpair. */
#include "base/cancel.h"
#include "base/clock.h"
#include "base/str.h"
#include "codec/json.h"
#include "vmm/qemu/qmp.h"
#include "vmm/qemu/qmp_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"
#define DEADLINE_MS 20000

/* Everything but `closed`, `fd` and `loop` belongs to the loop's thread. */
struct fixture {
    struct loop *loop;
    int fd; /* the server's end */
    int client_fd;
    struct qmp *qmp;
    char events[512]; /* names and data, joined */
    struct err why;
    struct latch closed, event;
};

struct answer {
    char *result; /* as text, or NULL */
    struct err err;
    struct latch done;
};

static void on_event(void *arg, const char *name, const json_t *data)
{
    struct fixture *f = arg;
    _cleanup_free_ char *text = data ? json_print(data) : x_strdup("-");
    size_t used = strlen(f->events);

    snprintf(f->events + used, sizeof(f->events) - used, "%s %s;", name, text);
    latch_set(&f->event);
}

static void on_closed(void *arg, const struct err *why)
{
    struct fixture *f = arg;

    f->why = *why;
    latch_set(&f->closed);
}

static void on_reply(void *arg, const json_t *result, const struct err *err)
{
    struct answer *a = arg;

    assert_true((result == NULL) == (err != NULL));
    if (result) {
        a->result = json_print(result);
    } else {
        a->err = *err;
    }
    latch_set(&a->done);
}

static void make(void *arg)
{
    struct fixture *f = arg;
    struct qmp_handler handler = {.event = on_event, .closed = on_closed, .arg = f};

    f->qmp = qmp_new(f->loop, f->client_fd, 1, &handler);
}

static void unmake(void *arg)
{
    struct fixture *f = arg;

    qmp_free(f->qmp);
    f->qmp = NULL;
}

static int setup(void **state)
{
    struct fixture *f = x_calloc(1, sizeof(*f));
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    f->fd = fds[0];
    f->client_fd = fds[1];
    latch_init(&f->closed);
    latch_init(&f->event);
    assert_int_equal(loop_new("qmp", &f->loop), 0);
    loop_call(f->loop, make, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    loop_call(f->loop, unmake, f);
    loop_free(f->loop);
    close_p(&f->fd);
    latch_done(&f->closed);
    latch_done(&f->event);
    free(f);
    return 0;
}

static void say(struct fixture *f, const char *text)
{
    size_t len = strlen(text);

    assert_int_equal(send(f->fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Reads one line from the client. */
static void expect(struct fixture *f, const char *line)
{
    char got[512];
    size_t len = 0;

    for (;;) {
        assert_int_equal(cancel_wait_fd(NULL, f->fd, POLLIN, clock_mono_ms() + DEADLINE_MS), 0);
        assert_int_equal(read(f->fd, got + len, 1), 1);
        if (got[len] == '\n') {
            break;
        }
        len++;
        assert_true(len < sizeof(got));
    }
    got[len] = '\0';
    assert_string_equal(got, line);
}

static void wait_for(struct latch *l)
{
    assert_int_equal(latch_wait(l, NULL, clock_mono_ms() + DEADLINE_MS), 0);
}

struct asking {
    struct fixture *f;
    const char *command;
    json_t *arguments;
    struct answer *answer;
    struct err err;
    int result;
};

static void ask_on_loop(void *arg)
{
    struct asking *a = arg;

    a->result = qmp_execute(a->f->qmp, a->command, a->arguments, on_reply, a->answer, &a->err);
}

static int ask(struct fixture *f, const char *command, json_t *arguments, struct answer *answer,
               struct err *ret_err)
{
    struct asking a = {.f = f, .command = command, .arguments = arguments, .answer = answer};

    *answer = (struct answer){0};
    latch_init(&answer->done);
    loop_call(f->loop, ask_on_loop, &a);
    *ret_err = a.err;
    return a.result;
}

static void answer_done(struct answer *a)
{
    free(a->result);
    latch_done(&a->done);
}

static void assert_closed(struct fixture *f, const char *why)
{
    wait_for(&f->closed);
    assert_int_equal(f->why.code, ERR_VMM);
    if (!strstr(f->why.message, why)) {
        fail_msg("'%s' is not in '%s'", why, f->why.message);
    }
}

static void commands_may_be_sent_before_the_greeting(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    struct err err;

    assert_int_equal(ask(f, "stop", NULL, &a, &err), 0);
    expect(f, "{\"execute\":\"qmp_capabilities\",\"id\":1}");
    expect(f, "{\"execute\":\"stop\",\"id\":2}");
    say(f, GREETING "{\"return\": {}, \"id\": 1}\r\n{\"return\": {\"a\": 1}, \"id\": 2}\r\n");
    wait_for(&a.done);
    assert_string_equal(a.result, "{\"a\":1}");
    answer_done(&a);
}

static void replies_find_their_command_in_any_order(void **state)
{
    struct fixture *f = *state;
    struct answer a, b;
    struct err err;

    assert_int_equal(ask(f, "first", json_pack("{s:i}", "x", 5), &a, &err), 0);
    assert_int_equal(ask(f, "second", NULL, &b, &err), 0);
    expect(f, "{\"execute\":\"qmp_capabilities\",\"id\":1}");
    expect(f, "{\"execute\":\"first\",\"id\":2,\"arguments\":{\"x\":5}}");
    expect(f, "{\"execute\":\"second\",\"id\":3}");
    say(f, GREETING "{\"return\": [2], \"id\": 3}\n");
    wait_for(&b.done);
    assert_string_equal(b.result, "[2]");
    assert_false(latch_is_set(&a.done));
    say(f, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"bad\\u001b[1m\"}, \"id\": 2}\n");
    wait_for(&a.done);
    assert_null(a.result);
    assert_int_equal(a.err.code, ERR_VMM);
    assert_string_equal(a.err.message, "QEMU: bad\\x1b[1m");
    answer_done(&a);
    answer_done(&b);
}

static void events_arrive_with_their_data(void **state)
{
    struct fixture *f = *state;

    say(f,
        GREETING "{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\n");
    say(f, "{\"event\": \"VSERPORT_CHANGE\", \"da");
    wait_for(&f->event);
    say(f, "ta\": {\"open\": true, \"id\": \"agent\"}}\n");
    shutdown(f->fd, SHUT_WR);
    assert_closed(f, "closed its control socket");
    assert_string_equal(f->events, "STOP -;VSERPORT_CHANGE {\"open\":true,\"id\":\"agent\"};");
}

static void the_end_of_the_connection_fails_what_waits(void **state)
{
    struct fixture *f = *state;
    struct answer a, b;
    struct err err;

    say(f, GREETING);
    assert_int_equal(ask(f, "stop", NULL, &a, &err), 0);
    shutdown(f->fd, SHUT_RDWR);
    wait_for(&a.done);
    assert_int_equal(a.err.code, ERR_VMM);
    wait_for(&f->closed);
    assert_int_equal(ask(f, "cont", NULL, &b, &err), -1);
    assert_int_equal(err.code, ERR_VMM);
    answer_done(&a);
    answer_done(&b);
}

static void giving_up_fails_what_waits_as_cancelled(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    struct err err;

    assert_int_equal(ask(f, "stop", NULL, &a, &err), 0);
    loop_call(f->loop, unmake, f);
    wait_for(&a.done);
    assert_int_equal(a.err.code, ERR_CANCELLED);
    assert_false(latch_is_set(&f->closed));
    answer_done(&a);
}

static void waiting_commands_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct answer a[QMP_PENDING_MAX];
    struct err err;
    int sent = 0;

    while (sent < QMP_PENDING_MAX && ask(f, "x", NULL, &a[sent], &err) == 0) {
        sent++;
    }
    assert_int_equal(sent, QMP_PENDING_MAX - 1); /* qmp_capabilities is one */
    assert_int_equal(err.code, ERR_BUSY);
    loop_call(f->loop, unmake, f);
    for (int i = 0; i <= sent; i++) {
        answer_done(&a[i]);
    }
}

static void garbage(struct fixture *f, const char *text, const char *why)
{
    say(f, text);
    assert_closed(f, why);
}

static void garbage_ends_the_connection(void **state)
{
    garbage(*state,
            GREETING "\x7f"
                     "ELF\n",
            "malformed JSON");
}

static void a_missing_greeting_ends_the_connection(void **state)
{
    garbage(*state, "{\"return\": {}, \"id\": 1}\n", "greeting");
}

static void a_second_greeting_ends_the_connection(void **state)
{
    garbage(*state, GREETING GREETING, "greeting");
}

static void replies_to_an_earlier_connection_are_dropped(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    struct err err;

    assert_int_equal(ask(f, "stop", NULL, &a, &err), 0);
    say(f, GREETING "{\"return\": {\"no\": 1}, \"id\": 77}\n"
                    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 3}\n"
                    "{\"return\": {}, \"id\": 1}\n{\"return\": {\"a\": 1}, \"id\": 2}\n");
    wait_for(&a.done);
    assert_string_equal(a.result, "{\"a\":1}");
    answer_done(&a);
}

static void an_unasked_reply_ends_the_connection(void **state)
{
    garbage(*state, GREETING "{\"return\": {}}\n", "not asked");
}

static void a_reply_given_twice_ends_the_connection(void **state)
{
    garbage(*state, GREETING "{\"return\": {}, \"id\": 1}\n{\"return\": {}, \"id\": 1}\n",
            "not asked");
}

static void an_endless_line_ends_the_connection(void **state)
{
    struct fixture *f = *state;
    char block[4096];
    size_t sent = 0;

    memset(block, ' ', sizeof(block));
    say(f, GREETING);
    while (!latch_is_set(&f->closed)) {
        ssize_t n = send(f->fd, block, sizeof(block), MSG_NOSIGNAL);

        if (n < 0) {
            break;
        }
        sent += (size_t)n;
        assert_true(sent < 4 * QMP_LINE_MAX);
    }
    assert_closed(f, "bytes");
    assert_true(sent >= QMP_LINE_MAX);
}

static void deep_nesting_ends_the_connection(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ char *deep = x_calloc(1, 5002);

    memset(deep, '[', 5000);
    deep[5000] = '\n';
    say(f, GREETING);
    garbage(f, deep, "nested");
}

static void a_long_line_in_small_pieces_is_one_message(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ char *line = NULL, *filler = x_calloc(1, 300001);
    struct answer a;
    struct err err;
    size_t len;

    memset(filler, 'z', 300000);
    line = x_asprintf("{\"return\": \"%s\", \"id\": 2}\n", filler);
    say(f, GREETING);
    assert_int_equal(ask(f, "big", NULL, &a, &err), 0);
    len = strlen(line);
    for (size_t at = 0; at < len; at += 977) {
        size_t n = len - at < 977 ? len - at : 977;

        assert_int_equal(send(f->fd, line + at, n, MSG_NOSIGNAL), (ssize_t)n);
    }
    wait_for(&a.done);
    assert_int_equal(strlen(a.result), 300002);
    answer_done(&a);
}

static void malformed_messages_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "1",
        "[]",
        "{}",
        "null",
        "{\"QMP\": 1}",
        "{\"event\": 1}",
        "{\"event\": \"X\", \"data\": []}",
        "{\"error\": \"x\"}",
        "{\"error\": {\"class\": \"x\"}}",
        "{\"error\": {\"class\": \"x\", \"desc\": 2}}",
        "{\"return\": {}, \"id\": \"1\"}",
        "{\"return\": {}, \"id\": -1}",
        "{\"return\": {}, \"id\": 0}",
        "{\"return\": {}, \"id\": 1.5}",
        "{\"return\": {}, \"return\": {}}",
        "{\"return\": {}} {}",
        "{\"event\": \"a\\u0000b\"}",
        "{\"event\": \"\xff\"}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct qmp_message m;
        struct err err;

        assert_int_equal(qmp_message_parse(bad[i], strlen(bad[i]), &m, &err), -1);
        assert_int_equal(err.code, ERR_VMM);
    }
}

int main(void)
{
#define WITH_PEER(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_PEER(commands_may_be_sent_before_the_greeting),
        WITH_PEER(replies_find_their_command_in_any_order),
        WITH_PEER(events_arrive_with_their_data),
        WITH_PEER(the_end_of_the_connection_fails_what_waits),
        WITH_PEER(giving_up_fails_what_waits_as_cancelled),
        WITH_PEER(waiting_commands_are_bounded),
        WITH_PEER(garbage_ends_the_connection),
        WITH_PEER(a_missing_greeting_ends_the_connection),
        WITH_PEER(a_second_greeting_ends_the_connection),
        WITH_PEER(replies_to_an_earlier_connection_are_dropped),
        WITH_PEER(an_unasked_reply_ends_the_connection),
        WITH_PEER(a_reply_given_twice_ends_the_connection),
        WITH_PEER(an_endless_line_ends_the_connection),
        WITH_PEER(deep_nesting_ends_the_connection),
        WITH_PEER(a_long_line_in_small_pieces_is_one_message),
        cmocka_unit_test(malformed_messages_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
