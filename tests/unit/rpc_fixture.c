#include "rpc_fixture.h"

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

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

void take(int fd)
{
    eventfd_t value;

    assert_int_equal(cancel_wait_fd(NULL, fd, POLLIN, test_deadline()), 0);
    assert_int_equal(eventfd_read(fd, &value), 0);
}

int do_nothing(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
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
    latch_init(&never);
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

static int event_new(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
}

int rpc_set_up(void **state)
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

int rpc_tear_down(void **state)
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

void client_done(struct client *c)
{
    close_p(&c->fd);
    buf_done(&c->in);
}

struct client client_new(struct fixture *f)
{
    struct client c = {.fd = fs_unix_connect(f->dir.fd, "s")};

    assert_true(c.fd >= 0);
    buf_init(&c.in, 4 * RPC_LINE_MAX);
    return c;
}

void send_bytes(struct client *c, const char *bytes, size_t len)
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

void send_text(struct client *c, const char *text)
{
    send_bytes(c, text, strlen(text));
}

void request(struct client *c, int id, const char *method, const char *params)
{
    _cleanup_free_ char *line = x_asprintf(
        "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"%s\",\"params\":%s}\n", id, method, params);

    send_text(c, line);
}

ssize_t fill(struct client *c)
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

json_t *next_message(struct client *c)
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

json_t *expect_result(struct client *c, int id)
{
    _cleanup_json_ json_t *m = next_message(c);

    assert_int_equal(json_int(m, "id", -1), id);
    assert_non_null(json_object_get(m, "result"));
    return json_incref(json_object_get(m, "result"));
}

void expect_empty(struct client *c, int id)
{
    _cleanup_json_ json_t *result = expect_result(c, id);

    assert_int_equal(json_object_size(result), 0);
}

void expect_answer(struct client *c, int id)
{
    json_decref(expect_result(c, id));
}

void expect_error(struct client *c, int id, const char *code, const char *message, const char *hint)
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

void expect_eof(struct client *c)
{
    assert_int_equal(c->in.len, 0);
    assert_int_equal(fill(c), 0);
}
