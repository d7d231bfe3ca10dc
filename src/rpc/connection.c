/* One client: its lines, what is sent to it, what hangs off its end. */
#include "rpc/rpc_priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/thread.h"
#include "codec/rpc.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define READ_MAX 65536 /* bytes of a client per wake-up */
#define OUT_MAX (16 * 1024 * 1024)
#define NOTIFY_OUT_MAX (1024 * 1024)

struct hook {
    struct list node;
    struct rpc_server *server;
    rpc_closed_fn fn;
    void *arg;
};

static void connection_free(void *arg)
{
    struct connection *c = arg;
    struct rpc_server *s = c->server;

    list_remove(&c->node);
    buf_done(&c->in);
    outlet_done(&c->out);
    free(c);
    s->connection_count--;
    server_check_drained(s);
}

/* Freed once the current callback is over: callers up the stack still look at c->fd. */
void connection_free_if_done(struct connection *c)
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
    server_check_drained(s);
}

static void hook_main(void *arg)
{
    struct hook *h = arg;

    h->fn(h->arg);
    loop_post(h->server->loop, hook_done, h);
}

static void run_hook(struct rpc_server *s, struct hook *h)
{
    h->server = s;
    s->hook_count++;
    if (spare_run(s->slow, hook_main, h) < 0) {
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

/* A connection that is handed over keeps its fd; otherwise it ends here. */
static void connection_detach(struct connection *c)
{
    loop_source_free(STEAL_PTR(c->source));
    outlet_close(&c->out);
    calls_cancel(c);
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

void connection_hand_over(struct connection *c, int fd)
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

void connection_close(struct connection *c)
{
    if (c->fd < 0) {
        return;
    }
    connection_detach(c);
    close_p(&c->fd);
    if (c->taker) {
        connection_hand_over(c, -1);
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
        connection_hand_over(c, fd);
        connection_free_if_done(c);
        return false;
    }
    loop_source_set_events(c->source, (c->paused ? 0 : EPOLLIN) | (unsent ? EPOLLOUT : 0));
    return true;
}

bool connection_flush(struct connection *c)
{
    bool unsent;
    int r = outlet_flush(&c->out, &unsent);

    return after_send(c, r, unsent);
}

bool connection_send(struct connection *c, const char *line)
{
    bool unsent;
    int r = outlet_send(&c->out, line, &unsent);

    return after_send(c, r, unsent);
}

void connection_process(struct connection *c)
{
    while (!c->paused && c->fd >= 0 && c->in.len > 0) {
        const char *line = (const char *)buf_head(&c->in);
        const char *end = memchr(line, '\n', c->in.len);
        size_t len = end ? (size_t)(end - line) : c->in.len;

        if (len > RPC_LINE_MAX) {
            struct err err;

            /* Where the next line begins cannot be known: answered once, and let go. */
            err_set(&err, ERR_LIMIT, "a line longer than %d bytes", RPC_LINE_MAX);
            call_refuse(c, NULL, &err);
            connection_close(c);
            return;
        }
        if (!end) {
            return;
        }
        call_on_message(c, line, len);
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
        if (!connection_flush(c)) {
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
        n = buf_read_fd(&c->in, c->fd, READ_MAX);
        if (n == -EAGAIN) {
            return;
        }
        if (n <= 0) {
            connection_close(c);
            return;
        }
        connection_process(c);
    }
}

void connection_new(struct rpc_server *s, int fd)
{
    struct connection *c = x_calloc(1, sizeof(*c));

    c->server = s;
    c->fd = fd;
    /* A line, its newline, and what is read at once. */
    buf_init(&c->in, RPC_LINE_MAX + READ_MAX + 1);
    outlet_init(&c->out, fd, OUT_MAX);
    list_init(&c->calls);
    list_init(&c->hooks);
    list_append(&s->connections, &c->node);
    s->connection_count++;
    c->source = loop_add_io(s->loop, fd, EPOLLIN, on_io, c);
}

struct notice {
    struct rpc_call *call;
    char *line;
    bool sent;
};

static void notify_on_loop(void *arg)
{
    struct notice *n = arg;
    struct connection *c = n->call->connection;

    n->sent = c->fd >= 0 && outlet_unsent(&c->out) < NOTIFY_OUT_MAX && connection_send(c, n->line);
}

bool rpc_call_notify(struct rpc_call *call, const char *method, json_t *params)
{
    struct notice n = {.call = call};
    struct err err;

    if (api_check_notification(method, params, &err) < 0) {
        log_error("%s", err.message);
        json_decref(params);
        return false;
    }
    n.line = rpc_notification(method, params);
    loop_call(call->connection->server->loop, notify_on_loop, &n);
    free(n.line);
    return n.sent;
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
