/* The JSON-RPC server: calls and connections that end before their time, or that are taken over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "rpc_fixture.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static void a_request_is_cancelled_by_its_id(void **state)
{
    struct fixture *f = *state;
    _cleanup_client_ struct client c = client_new(f);
    _cleanup_json_ json_t *yes = NULL, *no = NULL;

    request(&c, 1, "vm.wait", WAIT_PARAMS);
    request(&c, 2, "vm.wait", WAIT_PARAMS);
    take(f->entered);
    take(f->entered);
    request(&c, 3, "rpc.cancel", "{\"id\":99}");
    no = expect_result(&c, 3);
    assert_false(json_flag(no, "cancelled", true));
    request(&c, 4, "rpc.cancel", "{\"id\":1}");
    yes = expect_result(&c, 4);
    assert_true(json_flag(yes, "cancelled", false));
    expect_error(&c, 1, "cancelled", NULL, NULL);
    assert_int_equal(atomic_load(&f->cancelled), 1); /* the other one goes on */
    request(&c, 5, "rpc.cancel", "{\"id\":2}");
    json_decref(expect_result(&c, 5));
    expect_error(&c, 2, "cancelled", NULL, NULL);
}

static void a_call_that_is_answered_later_needs_no_thread(void **state)
{
    struct fixture *f = *state;
    _cleanup_client_ struct client c = client_new(f);

    request(&c, 1, "vm.ping", "{\"vm\":\"fail\"}");
    expect_error(&c, 1, "not_running", "it is not running", NULL);
    assert_int_equal(atomic_load(&f->later_done), 0); /* it never began */
    for (int id = 2; id < 50; id++) {
        _cleanup_json_ json_t *result = NULL;

        request(&c, id, "vm.ping", "{\"vm\":\"answered\"}");
        result = expect_result(&c, id);
        assert_int_equal(json_int(result, "us", 0), 7);
        take(f->entered);
        take(f->over);
    }
    request(&c, 50, "vm.ping", "{\"vm\":\"expired\"}");
    expect_error(&c, 50, "timeout", "given up", NULL);
    take(f->over);
    assert_int_equal(atomic_load(&f->later_done), 49);
}

static void a_call_that_is_answered_later_is_cancelled(void **state)
{
    struct fixture *f = *state;
    _cleanup_client_ struct client c = client_new(f);
    struct client other = client_new(f);

    request(&other, 1, "vm.ping", "{\"vm\":\"never\"}");
    take(f->entered);
    request(&c, 1, "vm.ping", "{\"vm\":\"never\"}");
    take(f->entered);
    request(&c, 2, "rpc.cancel", "{\"id\":1}");
    expect_error(&c, 1, "cancelled", "given up", NULL);
    json_decref(expect_result(&c, 2));
    take(f->over);
    assert_int_equal(atomic_load(&f->later_done), 1); /* the other one goes on */
    client_done(&other);
    take(f->over);
    request(&c, 3, "vm.ping", "{\"vm\":\"never\"}");
    take(f->entered);
    rpc_server_free(f->server);
    f->server = NULL;
    expect_error(&c, 3, "cancelled", "given up", NULL);
    expect_eof(&c);
    assert_int_equal(atomic_load(&f->later_done), 3);
}

static void a_client_that_hangs_up_cancels_its_requests(void **state)
{
    struct fixture *f = *state;
    struct client c = client_new(f);
    _cleanup_client_ struct client other = client_new(f);

    request(&c, 1, "daemon.status", "{}");
    expect_answer(&c, 1);
    request(&other, 1, "vm.stop", VM_PARAMS);
    take(f->entered);
    request(&c, 2, "vm.wait", WAIT_PARAMS);
    request(&c, 3, "vm.wait", WAIT_PARAMS);
    take(f->entered);
    take(f->entered);
    client_done(&c);
    take(f->closed);
    (void)eventfd_write(f->go, 1);
    json_decref(expect_result(&other, 1)); /* not of this client */
    rpc_server_free(f->server);            /* waits for both */
    f->server = NULL;
    assert_int_equal(atomic_load(&f->cancelled), 2);
}

static void hooks_run_once_when_the_connection_ends(void **state)
{
    struct fixture *f = *state;
    struct client c = client_new(f);
    eventfd_t value;

    request(&c, 1, "daemon.status", "{}");
    request(&c, 2, "daemon.status", "{}");
    json_decref(next_message(&c));
    json_decref(next_message(&c));
    assert_int_equal(eventfd_read(f->closed, &value), -1);
    client_done(&c);
    take(f->closed);
    take(f->closed);
    c = client_new(f);
    request(&c, 1, "session.wait", ATTACH_PARAMS); /* its hook is set when the client is gone */
    take(f->entered);
    client_done(&c);
    take(f->closed);
    rpc_server_free(f->server);
    f->server = NULL;
    assert_int_equal(eventfd_read(f->closed, &value), -1);
}

static void taking_over_hands_on_what_came_after_the_request(void **state)
{
    struct fixture *f = *state;
    _cleanup_client_ struct client c = client_new(f);

    send_text(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"session.attach\",\"params\":"
                  "{\"vm\":\"x\",\"session\":\"abc\"}}\n\xB5{not a line}\n");
    expect_answer(&c, 1);
    take(f->over);
    assert_true(f->taken_fd >= 0);
    assert_int_equal(f->early_len, 14);
    assert_memory_equal(f->early, "\xB5{not a line}\n", 14);
    assert_int_equal(send(f->taken_fd, "frames", 6, 0), 6);
    while (c.in.len < 6) {
        assert_true(fill(&c) > 0);
    }
    assert_memory_equal(buf_head(&c.in), "frames", 6);
    /* The connection is no longer the server's. */
    rpc_server_free(f->server);
    f->server = NULL;
    buf_consume(&c.in, 6);
    assert_int_equal(send(f->taken_fd, "still", 5, 0), 5);
    while (c.in.len < 5) {
        assert_true(fill(&c) > 0);
    }
}

static void a_take_over_that_fails_leaves_the_connection_as_it_was(void **state)
{
    struct fixture *f = *state;
    _cleanup_client_ struct client c = client_new(f);

    send_text(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"session.attach\",\"params\":"
                  "{\"vm\":\"x\",\"session\":\"fail\"}}\n"
                  "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"daemon.ping\"}\n");
    expect_error(&c, 1, "not_found", NULL, NULL);
    expect_answer(&c, 2);
    request(&c, 3, "vm.wait", WAIT_PARAMS);
    take(f->entered);
    request(&c, 4, "session.attach", ATTACH_PARAMS);
    expect_error(&c, 4, "conflict", "'session.attach' needs a connection of its own", NULL);
}

static void a_take_over_of_a_client_that_left_gets_no_descriptor(void **state)
{
    struct fixture *f = *state;
    struct client c = client_new(f);

    request(&c, 1, "session.attach", "{\"vm\":\"x\",\"session\":\"hold\"}");
    take(f->entered);
    client_done(&c);
    {
        /* The server has seen it go when it serves the next. */
        struct client other = client_new(f);

        request(&other, 1, "daemon.status", "{}");
        expect_answer(&other, 1);
        client_done(&other);
        take(f->closed);
    }
    (void)eventfd_write(f->go, 1);
    take(f->over);
    assert_int_equal(f->taken_fd, -1);
}

static void freeing_cancels_what_runs_and_answers_it(void **state)
{
    struct fixture *f = *state;
    _cleanup_client_ struct client c = client_new(f), idle = client_new(f);

    request(&c, 1, "daemon.status", "{}");
    expect_answer(&c, 1);
    request(&c, 2, "vm.wait", WAIT_PARAMS);
    request(&idle, 1, "daemon.ping", "{}");
    expect_empty(&idle, 1);
    take(f->entered);
    rpc_server_free(f->server);
    f->server = NULL;
    expect_error(&c, 2, "cancelled", NULL, NULL);
    expect_eof(&c);
    expect_eof(&idle);
    take(f->closed);
    assert_int_equal(fs_unix_connect(f->dir.fd, "s"), -ECONNREFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_request_is_cancelled_by_its_id),
        TEST(a_call_that_is_answered_later_needs_no_thread),
        TEST(a_call_that_is_answered_later_is_cancelled),
        TEST(a_client_that_hangs_up_cancels_its_requests),
        TEST(hooks_run_once_when_the_connection_ends),
        TEST(taking_over_hands_on_what_came_after_the_request),
        TEST(a_take_over_that_fails_leaves_the_connection_as_it_was),
        TEST(a_take_over_of_a_client_that_left_gets_no_descriptor),
        TEST(freeing_cancels_what_runs_and_answers_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
