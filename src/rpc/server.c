/*
 * Connections and calls are the loop thread's; a handler's thread sees only its call's immutable
 * part and the connection's outlet (which has the only lock), and posts everything else.
 *
 * A connection lives until it is closed and its last call has been delivered. `slow` calls run on
 * detached threads; rpc_server_free waits until the loop has taken delivery of all calls.
 */
#include "rpc/rpc_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define CONNECTIONS_MAX 2048
#define POOL_THREADS 8
#define SPARE_THREADS 1
#define ACCEPT_PAUSE_MS 100

/* Closing goes in this order: no new calls, the last replies, the connections, their hooks. */
void server_check_drained(struct rpc_server *s)
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
    connection_new(s, fd);
}

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
        if (!str_starts_with(m->name, "rpc.") && !call_find_handler(s, m->name)) {
            free(s);
            close_p(&listen_fd);
            return err_set(err, ERR_INTERNAL, "method '%s' has no handler", m->name);
        }
    }
    s->loop = loop;
    s->pool = pool_new("rpc", POOL_THREADS);
    s->slow = spare_new("rpc-slow", 256, SPARE_THREADS);
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
        calls_cancel(c);
    }
    server_check_drained(s);
}

void rpc_server_free(struct rpc_server *s)
{
    struct latch drained;

    if (!s) {
        return;
    }
    latch_init(&drained);
    s->drained = &drained;
    loop_call(s->loop, close_on_loop, s);
    (void)latch_wait(&drained, NULL, -1);
    latch_done(&drained);
    pool_free(s->pool);
    spare_free(s->slow);
    free(s);
}
