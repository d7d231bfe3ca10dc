/* The JSON-RPC server, through its socket. Handlers run on the server's threads: they only note. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api_example.h"
#include "base/clock.h"
#include "base/str.h"
#include "base/thread.h"
#include "codec/rpc.h"
#include "rpc/server.h"
#include "scratch.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define VM_PARAMS "{\"vm\":\"x\"}"
#define WAIT_PARAMS "{\"vm\":\"x\",\"until\":\"stopped\"}"
#define ATTACH_PARAMS "{\"vm\":\"x\",\"session\":\"abc\"}"

struct fixture {
    struct scratch dir;
    struct loop *loop;
    struct rpc_server *server;
    int entered; /* eventfd, a semaphore: a waiting handler has begun */
    int closed;  /* the same: a connection's hook ran */
    int over;    /* the same: a take-over ran */
    int go;      /* handlers of vm.stop wait for it */
    atomic_int cancelled;
    atomic_int later_done;
    pthread_t answerer;
    int taken_fd; /* before `over` */
    char early[64];
    size_t early_len;
};

struct client {
    int fd;
    struct buf in;
};

static void take(int fd)
{
    eventfd_t value;

    assert_int_equal(cancel_wait_fd(NULL, fd, POLLIN, test_deadline()), 0);
    assert_int_equal(eventfd_read(fd, &value), 0);
}

/* ---- handlers ---- */

static int do_nothing(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                      struct err *err)
{
    (void)call;
    (void)ctx;
    (void)params;
    (void)ret_result;
    (void)err;
    return 0;
}

static json_t *reply_to(const char *method)
{
    return api_example_result(api_method_find(method));
}

static int do_fail(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                   struct err *err)
{
    (void)call;
    (void)ctx;
    (void)ret_result;
    err_set(err, ERR_NOT_FOUND, "no VM '%s'", json_str(params, "vm", ""));
    return err_hint(err, "see: banger ps -a");
}

/* Waits until it is cancelled. */
static int do_wait(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                   struct err *err)
{
    struct fixture *f = ctx;
    struct latch never;
    int r;

    (void)params;
    (void)ret_result;
    if (latch_init(&never) < 0) {
        abort();
    }
    (void)eventfd_write(f->entered, 1);
    r = latch_wait(&never, rpc_call_cancel(call), test_deadline());
    latch_done(&never);
    atomic_fetch_add(&f->cancelled, r == -ECANCELED);
    return err_set_errno(err, ERR_INTERNAL, r, "wait");
}

/* Waits until the test says so. */
static int do_hold(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                   struct err *err)
{
    struct fixture *f = ctx;
    eventfd_t value;

    (void)call;
    (void)params;
    (void)err;
    (void)eventfd_write(f->entered, 1);
    (void)cancel_wait_fd(NULL, f->go, POLLIN, test_deadline());
    (void)eventfd_read(f->go, &value);
    *ret_result = reply_to("vm.stop");
    return 0;
}

static int do_defaults(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                       struct err *err)
{
    (void)call;
    (void)ctx;
    (void)ret_result;
    return err_set(err, ERR_NOT_FOUND, "%s %lld", api_str(params, "source"),
                   api_int(params, "tail_bytes"));
}

static int do_break(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                    struct err *err)
{
    (void)ctx;
    (void)params;
    (void)err;
    rpc_call_notify(call, "op.progress", json_pack("{s:s}", "state", "unheard of"));
    rpc_call_notify(call, "op.unheard", json_object());
    *ret_result = reply_to("vm.start");
    json_object_set_new(*ret_result, "vcpus", json_string("two"));
    return 0;
}

/* Writes `limit` VMs; with all false, what no VM is. */
static int do_write(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                    struct err *err)
{
    struct api_writer *w = rpc_call_writer(call, json_object_get(params, "members"));

    (void)ctx;
    (void)ret_result;
    (void)err;
    for (long long i = 0; i < api_int(params, "limit"); i++) {
        api_write_open(w, NULL);
        api_write_str(w, "id", "0123456789abcdef0123456789abcdef");
        api_write_str(w, "state", api_flag(params, "all") ? "running" : "unheard of");
        api_write_close(w);
        (void)api_write_fits(w);
    }
    return 0;
}

static int do_notify(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                     struct err *err)
{
    (void)ctx;
    (void)params;
    (void)err;
    for (int i = 0; i < 3; i++) {
        json_t *op = reply_to("op.watch");

        json_object_set_new(op, "message", json_sprintf("%d", i));
        rpc_call_notify(call, "op.progress", op);
    }
    *ret_result = reply_to("op.watch");
    return 0;
}

static void on_closed(void *arg)
{
    (void)eventfd_write(((struct fixture *)arg)->closed, 1);
}

static int do_hook(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                   struct err *err)
{
    (void)params;
    (void)err;
    rpc_call_on_close(call, on_closed, ctx);
    *ret_result = reply_to("daemon.status");
    return 0;
}

/* As do_hook, but the client is gone before. */
static int do_hook_late(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                        struct err *err)
{
    (void)do_wait(call, ctx, params, ret_result, err);
    rpc_call_on_close(call, on_closed, ctx);
    return -1;
}

static void on_over(void *arg, int fd, const void *early, size_t len)
{
    struct fixture *f = arg;

    f->taken_fd = fd;
    f->early_len = len;
    if (len > 0 && len < sizeof(f->early)) {
        memcpy(f->early, early, len);
    }
    (void)eventfd_write(f->over, 1);
}

/* Takes over, or fails for the session 'fail'; for 'hold' it waits first. */
static int do_attach(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                     struct err *err)
{
    const char *session = json_str(params, "session", "");

    if (str_eq(session, "fail")) {
        return err_set(err, ERR_NOT_FOUND, "no session");
    }
    if (str_eq(session, "hold")) {
        (void)do_hold(call, ctx, params, ret_result, err);
    }
    rpc_call_take_over(call, on_over, ctx);
    json_decref(*ret_result);
    *ret_result = reply_to("session.attach");
    return 0;
}

/* ---- answered later ---- */

static bool give_up_later(void *arg, enum err_code why, struct err *err)
{
    (void)arg;
    (void)err_set(err, why, "given up");
    return true;
}

static bool too_late(void *arg, enum err_code why, struct err *err)
{
    (void)arg;
    (void)why;
    (void)err;
    return false;
}

static void later_done(void *arg)
{
    struct fixture *f = arg;

    atomic_fetch_add(&f->later_done, 1);
    (void)eventfd_write(f->over, 1);
}

static void *answer_main(void *arg)
{
    rpc_call_answer(arg, json_pack("{s:i}", "us", 7), NULL);
    return NULL;
}

/* By the VM's name: fail, never, expired, or answered by a thread before the handler returns. */
static int do_later(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                    struct err *err)
{
    struct fixture *f = ctx;
    const char *vm = json_str(params, "vm", "");
    bool answered = str_eq(vm, "answered");

    (void)ret_result;
    rpc_call_later(call,
                   &(struct rpc_later){.deadline_ms = str_eq(vm, "expired") ? clock_mono_ms() : -1,
                                       .arg = f,
                                       .give_up = answered ? too_late : give_up_later,
                                       .done = later_done});
    if (str_eq(vm, "fail")) {
        return err_set(err, ERR_NOT_RUNNING, "it is not running");
    }
    if (answered) {
        if (thread_start(&f->answerer, "answer", 256, answer_main, call) < 0) {
            abort();
        }
        pthread_join(f->answerer, NULL);
    }
    (void)eventfd_write(f->entered, 1);
    return 0;
}

static const struct rpc_handler special[] = {
    {"vm.show", do_fail},          {"vm.wait", do_wait},       {"vm.stop", do_hold},
    {"op.watch", do_notify},       {"daemon.status", do_hook}, {"session.wait", do_hook_late},
    {"session.attach", do_attach}, {"vm.ping", do_later},      {"vm.start", do_break},
    {"vm.list", do_write},         {"vm.logs", do_defaults},   {NULL, NULL},
};
static struct rpc_handler handlers[64];

static void fill_handlers(void)
{
    size_t n = 0;

    for (const struct api_method *m = api_methods; m->name; m++) {
        if (str_starts_with(m->name, "rpc.")) {
            continue;
        }
        assert_true(n + 1 < ARRAY_LEN(handlers));
        handlers[n] = (struct rpc_handler){m->name, do_nothing};
        for (const struct rpc_handler *h = special; h->method; h++) {
            handlers[n] = str_eq(h->method, m->name) ? *h : handlers[n];
        }
        n++;
    }
    handlers[n] = (struct rpc_handler){NULL, NULL};
}

/* ---- set-up ---- */

static int event_new(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;
    int fd;

    fill_handlers();
    f->dir = scratch_new();
    f->entered = event_new();
    f->closed = event_new();
    f->over = event_new();
    f->go = event_new();
    f->taken_fd = -2;
    assert_int_equal(loop_new("control", &f->loop), 0);
    fd = fs_unix_listen(f->dir.fd, "s", 64);
    assert_true(fd >= 0);
    assert_int_equal(rpc_server_new(f->loop, fd, geteuid(), "1.2.3", handlers, f, &f->server, &err),
                     0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    rpc_server_free(f->server);
    loop_free(f->loop);
    close_p(&f->taken_fd);
    (void)close(f->entered);
    (void)close(f->closed);
    (void)close(f->over);
    (void)close(f->go);
    scratch_done(&f->dir);
    free(f);
    return 0;
}

static void client_done(struct client *c)
{
    close_p(&c->fd);
    buf_done(&c->in);
}
#define _cleanup_client_ _cleanup_(client_done)

static struct client client_new(struct fixture *f)
{
    struct client c = {.fd = fs_unix_connect(f->dir.fd, "s")};

    assert_true(c.fd >= 0);
    buf_init(&c.in, 4 * RPC_LINE_MAX);
    return c;
}

static void send_bytes(struct client *c, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);

        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            assert_int_equal(cancel_wait_fd(NULL, c->fd, POLLOUT, test_deadline()), 0);
            continue;
        }
        bytes += n;
        len -= (size_t)n;
    }
}

static void send_text(struct client *c, const char *text)
{
    send_bytes(c, text, strlen(text));
}

static void request(struct client *c, int id, const char *method, const char *params)
{
    _cleanup_free_ char *line = x_asprintf(
        "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"%s\",\"params\":%s}\n", id, method, params);

    send_text(c, line);
}

/* The count, or 0 at the end. */
static ssize_t fill(struct client *c)
{
    for (;;) {
        ssize_t n = buf_read_fd(&c->in, c->fd, 65536);

        if (n != -EAGAIN) {
            assert_true(n >= 0 || n == -ECONNRESET);
            return n < 0 ? 0 : n;
        }
        assert_int_equal(cancel_wait_fd(NULL, c->fd, POLLIN, test_deadline()), 0);
    }
}

static json_t *next_message(struct client *c)
{
    struct err err;
    json_t *m = NULL;
    const char *line, *end;

    while (!(c->in.len > 0 && memchr(buf_head(&c->in), '\n', c->in.len))) {
        assert_true(fill(c) > 0);
    }
    line = (const char *)buf_head(&c->in);
    end = memchr(line, '\n', c->in.len);
    assert_int_equal(json_parse(line, (size_t)(end - line), &m, &err), 0);
    buf_consume(&c->in, (size_t)(end - line) + 1);
    return m;
}

static json_t *expect_result(struct client *c, int id)
{
    _cleanup_json_ json_t *m = next_message(c);

    assert_int_equal(json_int(m, "id", -1), id);
    assert_non_null(json_object_get(m, "result"));
    return json_incref(json_object_get(m, "result"));
}

static void expect_empty(struct client *c, int id)
{
    _cleanup_json_ json_t *result = expect_result(c, id);

    assert_int_equal(json_object_size(result), 0);
}

static void expect_answer(struct client *c, int id)
{
    json_decref(expect_result(c, id));
}

static void expect_error(struct client *c, int id, const char *code, const char *message,
                         const char *hint)
{
    _cleanup_json_ json_t *m = next_message(c);
    const json_t *error = json_object_get(m, "error");

    assert_int_equal(json_int(m, "id", -1), id);
    assert_string_equal(json_str(json_object_get(error, "data"), "code", ""), code);
    if (message) {
        assert_string_equal(json_str(error, "message", ""), message);
    }
    if (hint) {
        assert_string_equal(json_str(json_object_get(error, "data"), "hint", ""), hint);
    }
}

static void expect_eof(struct client *c)
{
    assert_int_equal(c->in.len, 0);
    assert_int_equal(fill(c), 0);
}

/* ---- lines ---- */

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

/* ---- calls ---- */

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

/* ---- connections that turn into frames ---- */

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

/* ---- the end, and who may come ---- */

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_line_may_come_in_pieces_and_many_at_once),
        TEST(what_is_no_request_is_answered_with_an_error),
        TEST(a_line_of_the_longest_length_is_read_and_a_longer_one_ends_the_connection),
        TEST(discover_lists_every_method),
        TEST(replies_come_as_they_are_ready),
        TEST(a_request_is_cancelled_by_its_id),
        TEST(a_call_that_is_answered_later_needs_no_thread),
        TEST(a_call_that_is_answered_later_is_cancelled),
        TEST(a_client_that_hangs_up_cancels_its_requests),
        TEST(hooks_run_once_when_the_connection_ends),
        TEST(notifications_come_before_the_reply),
        TEST(replies_that_break_the_protocol_are_not_sent),
        TEST(written_replies_are_held_to_the_protocol_too),
        TEST(handlers_find_defaults_in_their_params),
        TEST(too_many_requests_at_once_are_refused),
        TEST(taking_over_hands_on_what_came_after_the_request),
        TEST(a_take_over_that_fails_leaves_the_connection_as_it_was),
        TEST(a_take_over_of_a_client_that_left_gets_no_descriptor),
        TEST(freeing_cancels_what_runs_and_answers_it),
        TEST(other_users_are_hung_up_on),
        TEST(every_method_needs_a_handler),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
