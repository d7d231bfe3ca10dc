/* One request: checked, handed to its handler on the thread that it is meant for, and answered. */
#include "rpc/rpc_priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/thread.h"
#include "codec/rpc.h"

#include <assert.h>
#include <string.h>

#define CALLS_PER_CONNECTION_MAX 256
#define SLOW_CALLS_MAX 2048
/* What rpc_result_end appends. */
#define RESULT_END 2

void call_free(struct rpc_call *call)
{
    json_decref(call->id);
    json_decref(call->params);
    cancel_put(call->cancel);
    loop_source_free(call->timer);
    free(call->writer);
    buf_done(&call->line);
    free(call->reply);
    free(call);
}

static void give_up(struct rpc_call *call, enum err_code why)
{
    struct err err;

    if (call->later.give_up && call->later.give_up(call->later.arg, why, &err)) {
        rpc_call_answer(call, NULL, &err);
    }
}

static void call_cancel(struct rpc_call *call)
{
    if (call->cancel) {
        cancel_trigger(call->cancel);
    } else {
        give_up(call, ERR_CANCELLED);
    }
}

void calls_cancel(struct connection *c)
{
    list_for_each (it, &c->calls) {
        call_cancel(LIST_ENTRY(it, struct rpc_call, node));
    }
}

void call_refuse(struct connection *c, const json_t *id, const struct err *err)
{
    _cleanup_free_ char *line = rpc_error(id, err, NULL, NULL);

    (void)connection_send(c, line);
}

static void deliver(void *arg)
{
    struct rpc_call *call = arg;
    struct connection *c = call->connection;
    struct rpc_server *s = c->server;
    bool takes_over = call->take_over && !call->failed;

    list_remove(&call->node);
    c->call_count--;
    s->call_count--;
    s->slow_count -= call->method->flags & API_SLOW ? 1 : 0;
    if (call->later.done) {
        call->later.done(call->later.arg);
    }
    if (takes_over) {
        c->taker = call;
    }
    if (c->fd < 0) {
        if (takes_over) {
            connection_hand_over(c, -1);
        } else {
            call_free(call);
        }
        connection_free_if_done(c);
    } else {
        _cleanup_free_ char *line = STEAL_PTR(call->reply);
        bool sent = call->sent;
        bool resume =
            c->paused && !takes_over && !s->closing && (call->method->flags & API_TAKES_OVER);

        if (!takes_over) {
            call_free(call);
        }
        c->paused = c->paused && !resume;
        if ((sent ? connection_flush(c) : connection_send(c, line)) && resume) {
            connection_process(c);
        }
    }
    server_check_drained(s);
}

/* Room was kept for it. */
static void must_fit(int r)
{
    assert(r == 0);
}

/* Makes the line of a result. What the table does not allow, and what clients would not read, is
 * not sent. */
static int make_reply(struct rpc_call *call, json_t *result, struct err *err)
{
    if (call->writer) {
        if (api_write_end(call->writer, err) < 0) {
            return -1;
        }
        call->line.max += RESULT_END;
        must_fit(rpc_result_end(&call->line));
        call->reply = buf_steal_str(&call->line);
        return 0;
    }
    if (api_check_result(call->method, result, err) < 0) {
        return -1;
    }
    call->reply = rpc_result(call->id, result ? json_incref(result) : json_object());
    if (strlen(call->reply) > RPC_LINE_MAX + 1) {
        free(STEAL_PTR(call->reply));
        return err_set(err, ERR_LIMIT, "the reply to '%s' is longer than a line may be",
                       call->method->name);
    }
    return 0;
}

static void set_reply(struct rpc_call *call, json_t *result, const struct err *err)
{
    struct err why;

    if (!err && make_reply(call, result, &why) < 0) {
        err = &why;
        log_error("%s", err->message);
        if (call->take_over) {
            call->take_over(call->take_over_arg, -1, NULL, 0);
            call->take_over = NULL;
        }
    }
    json_decref(result);
    if (err) {
        call->failed = true;
        call->reply = rpc_error(call->id, err, NULL, NULL);
    }
}

struct api_writer *rpc_call_writer(struct rpc_call *call, const json_t *members)
{
    assert(!call->writer && !(call->method->flags & API_LATER));
    call->writer = x_calloc(1, sizeof(*call->writer));
    buf_init(&call->line, RPC_LINE_MAX + 1 - RESULT_END);
    must_fit(rpc_result_begin(&call->line, call->id));
    api_write_begin(call->writer, &call->line, call->method, members);
    return call->writer;
}

static void call_main(void *arg)
{
    struct rpc_call *call = arg;
    struct rpc_server *s = call->connection->server;
    json_t *result = NULL;
    struct err err = {0};
    int r = call->fn(call, s->ctx, call->params, &result, &err);

    set_reply(call, result, r < 0 ? &err : NULL);
    loop_post(s->loop, deliver, call);
}

static void on_deadline(void *arg)
{
    give_up(arg, ERR_TIMEOUT);
}

/* On the loop's thread. The answer may be there before the handler returns, but is delivered
 * after this. */
static void call_later(struct rpc_call *call)
{
    struct rpc_server *s = call->connection->server;
    json_t *result = NULL;
    struct err err = {0};

    if (call->fn(call, s->ctx, call->params, &result, &err) < 0) {
        call->later = (struct rpc_later){0};
        set_reply(call, NULL, &err);
        deliver(call);
        return;
    }
    if (call->later.deadline_ms >= 0) {
        call->timer = loop_add_timer(s->loop, call->later.deadline_ms, on_deadline, call);
    }
}

static int discover(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                    struct err *err)
{
    (void)ctx;
    (void)params;
    (void)err;
    *ret_result = api_openrpc(call->connection->server->version);
    return 0;
}

static void cancel_by_id(struct connection *c, const json_t *id, const json_t *params)
{
    const json_t *target = json_object_get(params, "id");
    _cleanup_free_ char *line = NULL;
    json_t *result = json_object();
    bool found = false;

    list_for_each (it, &c->calls) {
        struct rpc_call *call = LIST_ENTRY(it, struct rpc_call, node);

        if (json_equal(call->id, target)) {
            call_cancel(call);
            found = true;
        }
    }
    json_put_bool(result, "cancelled", found);
    line = rpc_result(id, result);
    (void)connection_send(c, line);
}

rpc_fn call_find_handler(const struct rpc_server *s, const char *method)
{
    if (str_eq(method, "rpc.discover")) {
        return discover;
    }
    for (const struct rpc_handler *h = s->handlers; h->method; h++) {
        if (str_eq(h->method, method)) {
            return h->fn;
        }
    }
    return NULL;
}

static int unknown_method(const char *name, struct err *err)
{
    _cleanup_free_ char *safe = str_escape(name, strlen(name), 64);
    const char *names[128];
    const char *near;
    size_t n = 0;

    for (const struct api_method *m = api_methods; m->name && n < ARRAY_LEN(names); m++) {
        names[n++] = m->name;
    }
    err_set(err, ERR_INVALID, "unknown method '%s'", safe);
    near = str_nearest(name, names, n);
    return near ? err_hint(err, "did you mean '%s'?", near)
                : err_hint(err, "rpc.discover lists the methods");
}

static void start_call(struct connection *c, struct rpc_message *m, const struct api_method *method,
                       rpc_fn fn)
{
    struct rpc_server *s = c->server;
    struct rpc_call *call = x_calloc(1, sizeof(*call));
    bool slow = (method->flags & API_SLOW) != 0;

    call->connection = c;
    call->method = method;
    call->fn = fn;
    call->id = STEAL_PTR(m->id);
    call->params = STEAL_PTR(m->params);
    api_fill_defaults(method, call->params);
    call->cancel = method->flags & API_LATER ? NULL : cancel_new();
    list_append(&c->calls, &call->node);
    c->call_count++;
    s->call_count++;
    s->slow_count += slow;
    c->paused = c->paused || (method->flags & API_TAKES_OVER);
    if (method->flags & API_LATER) {
        call_later(call);
    } else if (!slow || spare_run(s->slow, call_main, call) < 0) {
        pool_run(s->pool, call_main, call);
    }
}

void call_on_message(struct connection *c, const char *line, size_t len)
{
    _cleanup_rpc_message_ struct rpc_message m;
    const struct api_method *method;
    struct rpc_server *s = c->server;
    rpc_fn fn = NULL;
    struct err err;
    int r;

    if (rpc_parse(line, len, &m, &err) < 0) {
        call_refuse(c, m.id, &err);
        return;
    }
    if (!m.method || !m.id) {
        err_set(&err, ERR_INVALID, "only requests with an id are understood here");
        call_refuse(c, m.id, &err);
        return;
    }
    method = api_method_find(m.method);
    fn = method ? call_find_handler(s, m.method) : NULL;
    if (!method || (!fn && !str_eq(m.method, "rpc.cancel"))) {
        r = unknown_method(m.method, &err);
    } else if (c->call_count >= CALLS_PER_CONNECTION_MAX ||
               ((method->flags & API_SLOW) && s->slow_count >= SLOW_CALLS_MAX)) {
        r = err_set(&err, ERR_LIMIT, "too many requests at once");
    } else if ((method->flags & API_TAKES_OVER) && c->call_count > 0) {
        r = err_set(&err, ERR_CONFLICT, "'%s' needs a connection of its own", m.method);
    } else {
        r = api_validate(method, m.params, &err);
    }
    if (r < 0) {
        call_refuse(c, m.id, &err);
    } else if (!fn) {
        cancel_by_id(c, m.id, m.params);
    } else {
        start_call(c, &m, method, fn);
    }
}

struct cancel *rpc_call_cancel(struct rpc_call *call)
{
    return call->cancel;
}

void rpc_call_later(struct rpc_call *call, const struct rpc_later *later)
{
    assert(call->method->flags & API_LATER);
    call->later = *later;
}

void rpc_call_answer(struct rpc_call *call, json_t *result, const struct err *err)
{
    struct connection *c = call->connection;
    bool unsent;

    set_reply(call, result, err);
    /* Whatever goes wrong here is found by the loop, which looks at the outlet again. */
    (void)outlet_send(&c->out, call->reply, &unsent);
    call->sent = true;
    loop_post(c->server->loop, deliver, call);
}

void rpc_call_take_over(struct rpc_call *call, rpc_takeover_fn fn, void *arg)
{
    assert(call->method->flags & API_TAKES_OVER);
    call->take_over = fn;
    call->take_over_arg = arg;
}
