/* The JSON-RPC server, through its socket: lines, requests and replies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "codec/rpc.h"
#include "rpc_fixture.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static void a_line_may_come_in_pieces_and_many_at_once(void **state)
{
    _cleanup_client_ struct client c = client_new(*state);
    static const char line[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.ping\"}\n";

    for (size_t i = 0; i < strlen(line); i++) {
        send_bytes(&c, line + i, 1);
    }
    expect_empty(&c, 1);
    send_text(&c, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"nope\"}\n"
                  "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"nope\"}\n"
                  "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"daemon.ping\"}\n{\"json");
    expect_error(&c, 2, "invalid", "unknown method 'nope'", NULL);
    expect_error(&c, 3, "invalid", NULL, NULL);
    expect_empty(&c, 4);
    send_text(&c, "rpc\":\"2.0\",\"id\":5,\"method\":\"daemon.ping\"}\n");
    expect_empty(&c, 5);
}

static void what_is_no_request_is_answered_with_an_error(void **state)
{
    _cleanup_client_ struct client c = client_new(*state);

    send_text(&c, "not json\n");
    expect_error(&c, -1, "invalid", NULL, NULL);
    send_text(&c, "\n");
    expect_error(&c, -1, "invalid", NULL, NULL);
    send_text(&c, "[]\n");
    expect_error(&c, -1, "invalid", NULL, NULL);
    send_text(&c, "{\"jsonrpc\":\"2.0\",\"method\":\"daemon.ping\"}\n");
    expect_error(&c, -1, "invalid", "only requests with an id are understood here", NULL);
    request(&c, 1, "daemon.pong", "{}");
    expect_error(&c, 1, "invalid", "unknown method 'daemon.pong'", "did you mean 'daemon.ping'?");
    request(&c, 2, "vm.show", "{\"wm\":\"x\"}");
    expect_error(&c, 2, "invalid", NULL, "did you mean 'vm'?");
    request(&c, 3, "vm.show", "{}");
    expect_error(&c, 3, "invalid", NULL, NULL);
    request(&c, 4, "vm.show", "{\"vm\":\"x\"}");
    expect_error(&c, 4, "not_found", "no VM 'x'", "see: banger ps -a");
    send_text(&c, "{\"jsonrpc\":\"2.0\",\"id\":\"five\",\"method\":\"daemon.ping\"}\n");
    {
        _cleanup_json_ json_t *m = next_message(&c);

        assert_string_equal(json_str(m, "id", ""), "five");
    }
}

static void a_line_of_the_longest_length_is_read_and_a_longer_one_ends_the_connection(void **state)
{
    _cleanup_client_ struct client c = client_new(*state);
    static const char head[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.ping\"}";
    _cleanup_free_ char *line = malloc(RPC_LINE_MAX + 2);

    memset(line, ' ', RPC_LINE_MAX + 2);
    memcpy(line, head, strlen(head));
    line[RPC_LINE_MAX] = '\n';
    send_bytes(&c, line, RPC_LINE_MAX + 1);
    expect_empty(&c, 1);
    line[RPC_LINE_MAX] = ' ';
    line[RPC_LINE_MAX + 1] = '\n';
    send_bytes(&c, line, RPC_LINE_MAX + 2);
    expect_error(&c, -1, "limit", "a line longer than 1048576 bytes", NULL);
    expect_eof(&c);
    {
        _cleanup_client_ struct client other = client_new(*state);

        request(&other, 1, "daemon.ping", "{}");
        expect_empty(&other, 1);
    }
}

static void discover_lists_every_method(void **state)
{
    _cleanup_client_ struct client c = client_new(*state);
    _cleanup_json_ json_t *doc = NULL;
    size_t count = 0;

    request(&c, 1, "rpc.discover", "{}");
    doc = expect_result(&c, 1);
    for (const struct api_method *m = api_methods; m->name; m++) {
        count++;
    }
    assert_int_equal(json_array_size(json_object_get(doc, "methods")), count);
    assert_string_equal(json_str(json_object_get(doc, "info"), "version", ""), "1.2.3");
}

static void replies_come_as_they_are_ready(void **state)
{
    struct fixture *f = *state;
    _cleanup_client_ struct client c = client_new(f);
    _cleanup_json_ json_t *held = NULL;

    request(&c, 1, "vm.stop", VM_PARAMS);
    take(f->entered);
    request(&c, 2, "daemon.ping", "{}");
    expect_empty(&c, 2);
    (void)eventfd_write(f->go, 1);
    held = expect_result(&c, 1);
    assert_string_equal(json_str(held, "state", ""), "created");
}

static void notifications_come_before_the_reply(void **state)
{
    _cleanup_client_ struct client c = client_new(*state);

    request(&c, 7, "op.watch", "{\"op\":\"x\"}");
    for (int i = 0; i < 3; i++) {
        _cleanup_json_ json_t *m = next_message(&c);

        assert_null(json_object_get(m, "id"));
        assert_string_equal(json_str(m, "method", ""), "op.progress");
        assert_int_equal(json_str(json_object_get(m, "params"), "message", "-")[0] - '0', i);
    }
    expect_answer(&c, 7);
}

/* Nor notifications: the first thing to come is the error. */
static void replies_that_break_the_protocol_are_not_sent(void **state)
{
    _cleanup_client_ struct client c = client_new(*state);

    request(&c, 1, "vm.start", VM_PARAMS);
    expect_error(&c, 1, "internal",
                 "the reply to 'vm.start' breaks the protocol: member 'vcpus' must be an integer",
                 "this is a bug in banger");
    request(&c, 2, "daemon.ping", "{}");
    expect_empty(&c, 2);
}

static void written_replies_are_held_to_the_protocol_too(void **state)
{
    _cleanup_client_ struct client c = client_new(*state);
    json_t *list;

    request(&c, 1, "vm.list", "{\"members\":[\"state\"],\"limit\":2}");
    list = expect_result(&c, 1);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_str(json_array_get(list, 1), "state", ""), "running");
    json_decref(list);
    request(&c, 2, "vm.list", "{\"members\":[\"state\"],\"limit\":2,\"all\":false}");
    expect_error(&c, 2, "internal", NULL, "this is a bug in banger");
    request(&c, 3, "vm.list", "{\"limit\":1}"); /* and where is the name? */
    expect_error(&c, 3, "internal",
                 "the reply to 'vm.list' breaks the protocol: member 'name' of 'VM' is missing",
                 "this is a bug in banger");
    request(&c, 4, "daemon.ping", "{}");
    expect_empty(&c, 4);
}

/* do_defaults answers with an error that holds what it got. */
static void handlers_find_defaults_in_their_params(void **state)
{
    _cleanup_client_ struct client c = client_new(*state);

    request(&c, 1, "vm.logs", VM_PARAMS);
    expect_error(&c, 1, "not_found", "console 65536", NULL);
    request(&c, 2, "vm.logs", "{\"vm\":\"x\",\"source\":\"vmm\",\"tail_bytes\":7}");
    expect_error(&c, 2, "not_found", "vmm 7", NULL);
}

static void too_many_requests_at_once_are_refused(void **state)
{
    struct fixture *f = *state;
    _cleanup_client_ struct client c = client_new(f);

    for (int i = 0; i < 256; i++) {
        request(&c, i, "vm.wait", WAIT_PARAMS);
    }
    request(&c, 256, "daemon.ping", "{}");
    expect_error(&c, 256, "limit", "too many requests at once", NULL);
    for (int i = 0; i < 256; i++) {
        take(f->entered);
    }
}

static int connect_and_ping(void *arg)
{
    static const char line[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.ping\"}\n";
    int fd = fs_unix_connect(((struct fixture *)arg)->dir.fd, "s");
    char c;

    if (fd < 0) {
        return 3;
    }
    (void)!send(fd, line, strlen(line), MSG_NOSIGNAL);
    (void)cancel_wait_fd(NULL, fd, POLLIN, test_deadline());
    return read(fd, &c, 1) == 1 ? 0 : 1; /* answered, or hung up on */
}

static void other_users_are_hung_up_on(void **state)
{
    struct fixture *f = *state;

    if (geteuid() != 0) {
        print_message("skip other_users_are_hung_up_on: needs root to be somebody else\n");
        skip();
    }
    assert_int_equal(fchmod(f->dir.fd, 0755), 0);
    assert_int_equal(fchmodat(f->dir.fd, "s", 0666, 0), 0);
    assert_int_equal(test_child(connect_and_ping, f, true), 1 << 8);
    assert_int_equal(test_child(connect_and_ping, f, false), 0);
}

static void every_method_needs_a_handler(void **state)
{
    struct fixture *f = *state;
    static const struct rpc_handler few[] = {{"daemon.ping", do_nothing}, {NULL, NULL}};
    struct rpc_server *s = NULL;
    struct err err;
    int fd = fs_unix_listen(f->dir.fd, "other", 1);

    assert_int_equal(rpc_server_new(f->loop, fd, geteuid(), "1", few, f, &s, &err), -1);
    assert_string_equal(err.message, "method 'daemon.status' has no handler");
    assert_null(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_line_may_come_in_pieces_and_many_at_once),
        TEST(what_is_no_request_is_answered_with_an_error),
        TEST(a_line_of_the_longest_length_is_read_and_a_longer_one_ends_the_connection),
        TEST(discover_lists_every_method),
        TEST(replies_come_as_they_are_ready),
        TEST(notifications_come_before_the_reply),
        TEST(replies_that_break_the_protocol_are_not_sent),
        TEST(written_replies_are_held_to_the_protocol_too),
        TEST(handlers_find_defaults_in_their_params),
        TEST(too_many_requests_at_once_are_refused),
        TEST(other_users_are_hung_up_on),
        TEST(every_method_needs_a_handler),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
