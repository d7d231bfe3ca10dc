/*
 * Connections and calls are the loop thread's; a handler's thread sees only its call's immutable
 * part and the connection's outlet (which has the only lock), and posts everything else.
 *
 * A connection lives until it is closed and its last call has been delivered. `slow` calls run on
 * detached threads; rpc_server_free waits until the loop has taken delivery of all calls.
 */
#include "rpc/server.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/str.h"
#include "base/thread.h"
#include "codec/rpc.h"
#include "rpc/outlet.h"
#include "rpc/pool.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define CONNECTIONS_MAX 2048
#define CALLS_PER_CONNECTION_MAX 256
#define SLOW_CALLS_MAX 2048
#define OUT_MAX (16 * 1024 * 1024)
#define NOTIFY_OUT_MAX (1024 * 1024)
#define POOL_THREADS 8
#define ACCEPT_PAUSE_MS 100

struct rpc_server {
    /* immutable */
    struct loop *loop;
    struct pool *pool;
    uid_t owner;
    const char *version;
    const struct rpc_handler *handlers;
    void *ctx;

    /* loop thread */
    int listen_fd;
    struct loop_source *listen_source, *listen_again;
    struct list connections;
    unsigned connection_count, slow_count, call_count, hook_count;
    bool closing;
    struct latch *drained; /* set when closing and nothing of ours is left */
};

struct hook {
    struct list node;
    struct rpc_server *server;
    rpc_closed_fn fn;
    void *arg;
};

struct connection {
    /* any thread */
    struct outlet out;

    /* loop thread */
    struct list node;
    struct rpc_server *server; /* immutable */
    int fd;                    /* -1 once closed */
    struct loop_source *source;
    struct buf in;
    struct list calls;
    unsigned call_count;
    struct list hooks;
    bool dead;              /* its free is posted */
    bool paused;            /* a take-over is being decided: the rest of `in` may be frames */
    struct rpc_call *taker; /* its reply is in `out`: hand over when that is written */
};

struct rpc_call {
    /* immutable */
    struct connection *connection;
    const struct api_method *method;
    rpc_fn fn;
    json_t *id, *params;
    struct cancel *cancel;  /* NULL with API_LATER */
    struct rpc_later later; /* with API_LATER; set by the handler */

    /* who answers, then loop thread */
    char *reply;
    bool sent; /* `reply` has gone to the outlet */
    bool failed;
    rpc_takeover_fn take_over;
    void *take_over_arg;

    /* loop thread */
    struct list node;
    struct loop_source *timer; /* later.deadline_ms */
};

static void process_lines(struct connection *c);

static void call_free(struct rpc_call *call)
{
    json_decref(call->id);
    json_decref(call->params);
    cancel_put(call->cancel);
    loop_source_free(call->timer);
    free(call->reply);
    free(call);
}

static void connection_close(struct connection *c);

/* Closing goes in this order: no new calls, the last replies, the connections, their hooks. */
static void check_drained(struct rpc_server *s)
{
    if (!s->closing || s->call_count > 0) {
        return;
    }
    list_for_each (it, &s->connections) {
        connection_close(LIST_ENTRY(it, struct connection, node));
    }
    if (s->connection_count == 0 && s->hook_count == 0) {
        latch_set(s->drained);
    }
}

static void connection_free(void *arg)
{
    struct connection *c = arg;
    struct rpc_server *s = c->server;

    list_remove(&c->node);
    buf_done(&c->in);
    outlet_done(&c->out);
    free(c);
    s->connection_count--;
    check_drained(s);
}

/* Freed once the current callback is over: callers up the stack still look at c->fd. */
static void connection_free_if_done(struct connection *c)
{
    if (c->fd < 0 && c->call_count == 0 && !c->taker && !c->dead) {
        c->dead = true;
        loop_post(c->server->loop, connection_free, c);
    }
}

static void hook_done(void *arg)
{
    struct hook *h = arg;
    struct rpc_server *s = h->server;

    free(h);
    s->hook_count--;
    check_drained(s);
}

static void *hook_main(void *arg)
{
    struct hook *h = arg;

    h->fn(h->arg);
    loop_post(h->server->loop, hook_done, h);
    return NULL;
}

static void run_hook(struct rpc_server *s, struct hook *h)
{
    h->server = s;
    s->hook_count++;
    if (thread_start_detached("rpc-hook", 256, hook_main, h) < 0) {
        abort(); /* bounded by the connections; a daemon without threads is of no use */
    }
}

static void run_hooks(struct connection *c)
{
    list_for_each (it, &c->hooks) {
        struct hook *h = LIST_ENTRY(it, struct hook, node);

        list_remove(&h->node);
        run_hook(c->server, h);
    }
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

static void cancel_all(struct connection *c)
{
    list_for_each (it, &c->calls) {
        call_cancel(LIST_ENTRY(it, struct rpc_call, node));
    }
}

/* A connection that is handed over keeps its fd; otherwise it ends here. */
static void connection_detach(struct connection *c)
{
    loop_source_free(STEAL_PTR(c->source));
    outlet_close(&c->out);
    cancel_all(c);
    run_hooks(c);
}

struct handing_over {
    rpc_takeover_fn fn;
    void *arg;
    int fd;
    struct buf early;
};

static void hand_over_job(void *arg)
{
    struct handing_over *h = arg;

    h->fn(h->arg, h->fd, h->early.len ? buf_head(&h->early) : NULL, h->early.len);
    buf_done(&h->early);
    free(h);
}

static void hand_over(struct connection *c, int fd)
{
    struct rpc_call *call = STEAL_PTR(c->taker);
    struct handing_over *h = x_calloc(1, sizeof(*h));

    h->fn = call->take_over;
    h->arg = call->take_over_arg;
    h->fd = fd;
    h->early = c->in;
    buf_init(&c->in, 0);
    pool_run(c->server->pool, hand_over_job, h);
    call_free(call);
}

static void connection_close(struct connection *c)
{
    if (c->fd < 0) {
        return;
    }
    connection_detach(c);
    close_p(&c->fd);
    if (c->taker) {
        hand_over(c, -1);
    }
    connection_free_if_done(c);
}

/* After something was sent, or tried to be. False when the connection ended. */
static bool after_send(struct connection *c, int r, bool unsent)
{
    if (r < 0) {
        connection_close(c); /* a client that does not read, or is gone */
        return false;
    }
    if (c->taker && !unsent) {
        int fd = STEAL_FD(c->fd);

        connection_detach(c);
        hand_over(c, fd);
        connection_free_if_done(c);
        return false;
    }
    loop_source_set_events(c->source, (c->paused ? 0 : EPOLLIN) | (unsent ? EPOLLOUT : 0));
    return true;
}

static bool flush(struct connection *c)
{
    bool unsent;
    int r = outlet_flush(&c->out, &unsent);

    return after_send(c, r, unsent);
}

static bool send_line(struct connection *c, const char *line)
{
    bool unsent;
    int r = outlet_send(&c->out, line, &unsent);

    return after_send(c, r, unsent);
}

static void refuse(struct connection *c, const json_t *id, const struct err *err)
{
    _cleanup_free_ char *line = rpc_error(id, err, NULL, NULL);

    (void)send_line(c, line);
}

/* ---- the end of a call ---- */

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
            hand_over(c, -1);
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
        if ((sent ? flush(c) : send_line(c, line)) && resume) {
            process_lines(c);
        }
    }
    check_drained(s);
}

/* What the table does not allow is not sent. */
static bool keeps_promise(const struct rpc_call *call, const json_t *result, struct err *err)
{
    if (api_check_result(call->method, result, err) == 0) {
        return true;
    }
    log_error("%s", err->message);
    return false;
}

static void set_reply(struct rpc_call *call, json_t *result, const struct err *err)
{
    struct err broken;

    if (!err && !keeps_promise(call, result, &broken)) {
        json_decref(result);
        err = &broken;
        if (call->take_over) {
            call->take_over(call->take_over_arg, -1, NULL, 0);
            call->take_over = NULL;
        }
    }
    if (err) {
        call->failed = true;
        call->reply = rpc_error(call->id, err, NULL, NULL);
    } else {
        call->reply = rpc_result(call->id, result ? result : json_object());
    }
}

static void *call_main(void *arg)
{
    struct rpc_call *call = arg;
    struct rpc_server *s = call->connection->server;
    json_t *result = NULL;
    struct err err = {0};
    int r = call->fn(call, s->ctx, call->params, &result, &err);

    set_reply(call, result, r < 0 ? &err : NULL);
    loop_post(s->loop, deliver, call);
    return NULL;
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

static void call_job(void *arg)
{
    (void)call_main(arg);
}

/* ---- requests ---- */

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
    (void)send_line(c, line);
}

static rpc_fn find_handler(const struct rpc_server *s, const char *method)
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
    } else if (!slow || thread_start_detached("rpc-slow", 256, call_main, call) < 0) {
        pool_run(s->pool, call_job, call);
    }
}

static void on_message(struct connection *c, const char *line, size_t len)
{
    _cleanup_rpc_message_ struct rpc_message m;
    const struct api_method *method;
    struct rpc_server *s = c->server;
    rpc_fn fn = NULL;
    struct err err;
    int r;

    if (rpc_parse(line, len, &m, &err) < 0) {
        refuse(c, m.id, &err);
        return;
    }
    if (!m.method || !m.id) {
        err_set(&err, ERR_INVALID, "only requests with an id are understood here");
        refuse(c, m.id, &err);
        return;
    }
    method = api_method_find(m.method);
    fn = method ? find_handler(s, m.method) : NULL;
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
        refuse(c, m.id, &err);
    } else if (!fn) {
        cancel_by_id(c, m.id, m.params);
    } else {
        start_call(c, &m, method, fn);
    }
}

static void process_lines(struct connection *c)
{
    while (!c->paused && c->fd >= 0 && c->in.len > 0) {
        const char *line = (const char *)buf_head(&c->in);
        const char *end = memchr(line, '\n', c->in.len);
        size_t len = end ? (size_t)(end - line) : c->in.len;

        if (len > RPC_LINE_MAX) {
            struct err err;

            /* Where the next line begins cannot be known: answered once, and let go. */
            err_set(&err, ERR_LIMIT, "a line longer than %d bytes", RPC_LINE_MAX);
            refuse(c, NULL, &err);
            connection_close(c);
            return;
        }
        if (!end) {
            return;
        }
        on_message(c, line, len);
        if (c->fd >= 0) {
            buf_consume(&c->in, len + 1);
        }
    }
}

static void on_io(void *arg, uint32_t events)
{
    struct connection *c = arg;
    ssize_t n;

    if (events & EPOLLOUT) {
        if (!flush(c)) {
            return;
        }
    }
    if (c->paused) {
        if (events & (EPOLLHUP | EPOLLERR)) {
            connection_close(c);
        }
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        n = buf_read_fd(&c->in, c->fd, 65536);
        if (n == -EAGAIN) {
            return;
        }
        if (n <= 0) {
            connection_close(c);
            return;
        }
        process_lines(c);
    }
}

static bool peer_allowed(const struct rpc_server *s, int fd)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
        return false;
    }
    if (cred.uid == 0 || cred.uid == s->owner) {
        return true;
    }
    log_warn("refused a connection of uid %u", (unsigned)cred.uid);
    return false;
}

static void listen_again(void *arg)
{
    struct rpc_server *s = arg;

    loop_source_set_events(s->listen_source, EPOLLIN);
}

static void on_accept(void *arg, uint32_t events)
{
    struct rpc_server *s = arg;
    struct connection *c;
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0) {
        /* Out of descriptors, the socket stays readable: look again when some may be free. */
        if (errno == EMFILE || errno == ENFILE) {
            log_warn("no descriptor left for a new connection");
            loop_source_set_events(s->listen_source, 0);
            loop_source_set_deadline(s->listen_again, clock_mono_ms() + ACCEPT_PAUSE_MS);
        }
        return;
    }
    if (s->connection_count >= CONNECTIONS_MAX || !peer_allowed(s, fd)) {
        close_p(&fd);
        return;
    }
    c = x_calloc(1, sizeof(*c));
    c->server = s;
    c->fd = fd;
    /* A line, its newline, and what is read at once. */
    buf_init(&c->in, RPC_LINE_MAX + 65536 + 1);
    outlet_init(&c->out, fd, OUT_MAX);
    list_init(&c->calls);
    list_init(&c->hooks);
    list_append(&s->connections, &c->node);
    s->connection_count++;
    c->source = loop_add_io(s->loop, fd, EPOLLIN, on_io, c);
}

/* ---- for handlers ---- */

struct cancel *rpc_call_cancel(struct rpc_call *call)
{
    return call->cancel;
}

struct notice {
    struct rpc_call *call;
    char *line;
};

static void notify_on_loop(void *arg)
{
    struct notice *n = arg;
    struct connection *c = n->call->connection;

    if (c->fd >= 0 && outlet_unsent(&c->out) < NOTIFY_OUT_MAX) {
        (void)send_line(c, n->line);
    }
    free(n->line);
    free(n);
}

void rpc_call_notify(struct rpc_call *call, const char *method, json_t *params)
{
    struct notice *n;
    struct err err;

    if (api_check_notification(method, params, &err) < 0) {
        log_error("%s", err.message);
        json_decref(params);
        return;
    }
    n = x_calloc(1, sizeof(*n));
    n->call = call; /* outlives the notice: its own delivery is posted later */
    n->line = rpc_notification(method, params);
    loop_post(call->connection->server->loop, notify_on_loop, n);
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

struct hooking {
    struct connection *connection;
    struct hook *hook;
};

static void hook_on_loop(void *arg)
{
    struct hooking *h = arg;

    if (h->connection->fd < 0) {
        run_hook(h->connection->server, h->hook);
    } else {
        list_append(&h->connection->hooks, &h->hook->node);
    }
}

void rpc_call_on_close(struct rpc_call *call, rpc_closed_fn fn, void *arg)
{
    struct hook *h = x_calloc(1, sizeof(*h));

    h->fn = fn;
    h->arg = arg;
    loop_call(call->connection->server->loop, hook_on_loop,
              &(struct hooking){.connection = call->connection, .hook = h});
}

void rpc_call_take_over(struct rpc_call *call, rpc_takeover_fn fn, void *arg)
{
    assert(call->method->flags & API_TAKES_OVER);
    call->take_over = fn;
    call->take_over_arg = arg;
}

/* ---- the server ---- */

static void listen_on_loop(void *arg)
{
    struct rpc_server *s = arg;

    s->listen_source = loop_add_io(s->loop, s->listen_fd, EPOLLIN, on_accept, s);
    s->listen_again = loop_add_timer(s->loop, -1, listen_again, s);
}

int rpc_server_new(struct loop *loop, int listen_fd, uid_t owner, const char *version,
                   const struct rpc_handler *handlers, void *ctx, struct rpc_server **ret_server,
                   struct err *err)
{
    struct rpc_server *s = x_calloc(1, sizeof(*s));

    s->handlers = handlers;
    for (const struct api_method *m = api_methods; m->name; m++) {
        if (!str_starts_with(m->name, "rpc.") && !find_handler(s, m->name)) {
            free(s);
            close_p(&listen_fd);
            return err_set(err, ERR_INTERNAL, "method '%s' has no handler", m->name);
        }
    }
    s->loop = loop;
    s->pool = pool_new("rpc", POOL_THREADS);
    s->owner = owner;
    s->version = version;
    s->ctx = ctx;
    s->listen_fd = listen_fd;
    list_init(&s->connections);
    loop_call(loop, listen_on_loop, s);
    *ret_server = s;
    return 0;
}

static void close_on_loop(void *arg)
{
    struct rpc_server *s = arg;

    s->closing = true;
    loop_source_free(STEAL_PTR(s->listen_source));
    loop_source_free(STEAL_PTR(s->listen_again));
    close_p(&s->listen_fd);
    list_for_each (it, &s->connections) {
        struct connection *c = LIST_ENTRY(it, struct connection, node);

        c->paused = true;
        cancel_all(c);
    }
    check_drained(s);
}

void rpc_server_free(struct rpc_server *s)
{
    struct latch drained;

    if (!s) {
        return;
    }
    if (latch_init(&drained) < 0) {
        abort();
    }
    s->drained = &drained;
    loop_call(s->loop, close_on_loop, s);
    (void)latch_wait(&drained, NULL, -1);
    latch_done(&drained);
    pool_free(s->pool);
    free(s);
}
