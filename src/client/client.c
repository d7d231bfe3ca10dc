#include "client/client.h"

#include "base/clock.h"
#include "base/str.h"
#include "client/client_priv.h"
#include "codec/api.h"
#include "codec/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* For writing a request, and for the answer to a method that does not wait for anything. */
#define ANSWER_MS 60000
#define READ_CHUNK 65536
#define AT_ONCE 64 /* calls on their way; the daemon takes 256 of a connection */

struct client {
    int fd;
    pid_t daemon_pid;
    long long last_id;
    int64_t sent_us; /* when the last request was */
    struct buf in;
    size_t scanned; /* bytes of in that are known to have no newline */
    bool trace;
    char error_op[64];
};

/* Where systemd listens for a daemon that does not run yet, and starts it for us, the kernel sees
 * who called listen last behind our connection: systemd, or a daemon that has ended. */
static bool is_no_daemon(pid_t pid)
{
    char path[40], comm[16] = "";
    _cleanup_close_ int fd = -1;

    (void)snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!read(fd, comm, sizeof(comm) - 1);
    }
    return pid <= 1 || comm[0] == '\0' || str_eq(comm, "systemd\n");
}

static int ask_pid(struct client *c, struct err *err)
{
    _cleanup_json_ json_t *status = NULL;

    if (client_call(c, "daemon.status", NULL, &status, err) < 0) {
        return err_wrap(err, "the daemon that systemd is to start");
    }
    c->daemon_pid = (pid_t)json_int(status, "pid", -1);
    return 0;
}

int client_connect(const struct client_params *params, struct client **ret_client, struct err *err)
{
    struct client *c;
    pid_t pid = -1;
    int fd = client_open(params->paths, &pid, err);

    if (fd < 0 && err->code == ERR_NOT_RUNNING && params->start) {
        fd = client_start_daemon(params->paths, &pid, err);
    }
    if (fd < 0) {
        return -1;
    }
    c = x_calloc(1, sizeof(*c));
    c->fd = fd;
    c->daemon_pid = pid;
    c->trace = params->trace;
    buf_init(&c->in, RPC_LINE_MAX + READ_CHUNK);
    if (is_no_daemon(pid) && ask_pid(c, err) < 0) {
        client_free(c);
        return -1;
    }
    *ret_client = c;
    return 0;
}

void client_free(struct client *c)
{
    if (!c) {
        return;
    }
    close_p(&c->fd);
    buf_done(&c->in);
    free(c);
}

pid_t client_daemon_pid(const struct client *c)
{
    return c->daemon_pid;
}

const char *client_error_op(const struct client *c)
{
    return c->error_op;
}

static int wait_writable(int fd, int64_t deadline_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int64_t left = deadline_ms - clock_mono_ms();
    int r = poll(&p, 1, left > 0 ? (int)left : 0);

    return r > 0 || (r < 0 && errno == EINTR) ? 0 : r == 0 ? -ETIMEDOUT : -errno;
}

static int lost(struct err *err, int r)
{
    if (r == 0 || r == -ECONNRESET || r == -EPIPE) {
        err_set(err, ERR_IO, "the daemon closed the connection");
        return err_hint(err, "its log may say why: bangerd.log in the state directory");
    }
    return err_set_errno(err, ERR_IO, r, "lost the connection to the daemon");
}

static int send_line(struct client *c, const char *line, struct err *err)
{
    struct buf out;
    int64_t deadline = clock_mono_ms() + ANSWER_MS;
    ssize_t r;

    if (strlen(line) > RPC_LINE_MAX) {
        return err_set(err, ERR_LIMIT, "the request is larger than %d bytes", RPC_LINE_MAX);
    }
    buf_init(&out, RPC_LINE_MAX);
    r = buf_append_str(&out, line);
    while (r >= 0 && out.len > 0) {
        r = buf_write_fd(&out, c->fd);
        if (r == -EAGAIN) {
            r = wait_writable(c->fd, deadline);
        }
    }
    buf_done(&out);
    return r < 0 ? lost(err, (int)r) : 0;
}

static int send_request(struct client *c, const char *method, json_t *params, struct err *err)
{
    _cleanup_free_ char *line = rpc_request(++c->last_id, method, params);

    c->error_op[0] = '\0';
    c->sent_us = clock_mono_us();
    return send_line(c, line, err);
}

int client_send(struct client *c, const char *method, json_t *params, struct err *err)
{
    return send_request(c, method, params, err);
}

/* Takes one line from the buffer into *ret_message: 1, 0 when there is no whole line, or -1. */
static int next_message(struct client *c, struct rpc_message *ret_message, struct err *err)
{
    const uint8_t *head = buf_head(&c->in);
    const uint8_t *end =
        c->in.len > c->scanned ? memchr(head + c->scanned, '\n', c->in.len - c->scanned) : NULL;
    int r;

    if (!end) {
        c->scanned = c->in.len;
        if (c->in.len > RPC_LINE_MAX) {
            return err_set(err, ERR_IO, "the daemon sent a line of more than %d bytes",
                           RPC_LINE_MAX);
        }
        return 0;
    }
    r = rpc_parse((const char *)head, (size_t)(end - head), ret_message, err);
    buf_consume(&c->in, (size_t)(end - head) + 1);
    c->scanned = 0;
    if (r < 0) {
        rpc_message_done(ret_message);
        err->code = ERR_IO;
        err_wrap(err, "the daemon sent what is no JSON-RPC message");
        return err_hint(err, "is something else listening on this socket?");
    }
    return 1;
}

/* Waits for input, or for what the watch waits for. 0 or -1. */
static int wait_input(struct client *c, const struct client_watch *w, int64_t deadline,
                      struct err *err)
{
    struct pollfd p[2] = {
        {.fd = c->fd, .events = POLLIN},
        {.fd = w && w->wake ? w->wake_fd : -1, .events = POLLIN},
    };
    int timeout = w && w->tick ? w->tick(w->arg) : -1;
    ssize_t n;

    if (deadline >= 0) {
        int64_t left = deadline - clock_mono_ms();

        if (left <= 0) {
            return err_set(err, ERR_TIMEOUT, "the daemon did not answer within %d s",
                           ANSWER_MS / 1000);
        }
        timeout = timeout < 0 || timeout > left ? (int)left : timeout;
    }
    if (poll(p, 2, timeout) < 0) {
        return errno == EINTR ? 0 : err_set_errno(err, ERR_INTERNAL, errno, "poll failed");
    }
    if (p[1].revents && w->wake(w->arg) < 0) {
        return err_set(err, ERR_CANCELLED, "interrupted");
    }
    if (!p[0].revents) {
        return 0;
    }
    n = buf_read_fd(&c->in, c->fd, READ_CHUNK);
    return n > 0 || n == -EAGAIN ? 0 : lost(err, (int)n);
}

static int read_error(struct client *c, const json_t *error, struct err *err)
{
    const char *op = json_str(json_object_get(error, "data"), "op", "");

    rpc_error_read(error, err);
    (void)snprintf(c->error_op, sizeof(c->error_op), "%s", op);
    return -1;
}

/* 1: this is the answer to id, and the call ends with *ret_result or the error. */
static int handle(struct client *c, const struct rpc_message *m, long long id,
                  const struct client_watch *w, json_t **ret_result, struct err *err)
{
    if (m->method) {
        if (w && w->notify && !m->id) {
            w->notify(w->arg, m->method, m->params);
        }
        return 0;
    }
    /* An error without id: the daemon could not even read the request. */
    if (m->error && !m->id) {
        return read_error(c, m->error, err);
    }
    if (!json_is_integer(m->id) || json_integer_value(m->id) != id) {
        return 0;
    }
    if (m->error) {
        return read_error(c, m->error, err);
    }
    *ret_result = json_incref(m->result);
    return 1;
}

static int await_reply(struct client *c, long long id, int64_t deadline,
                       const struct client_watch *w, json_t **ret_result, struct err *err)
{
    for (;;) {
        _cleanup_rpc_message_ struct rpc_message m = {0};
        int r = next_message(c, &m, err);

        if (r > 0) {
            r = handle(c, &m, id, w, ret_result, err);
            if (r != 0) {
                return r < 0 ? -1 : 0;
            }
        } else if (r < 0 || wait_input(c, w, deadline, err) < 0) {
            return -1;
        }
    }
}

static int await_watched(struct client *c, const char *method, const struct client_watch *watch,
                         json_t **ret_result, struct err *err)
{
    const struct api_method *m = api_method_find(method);
    bool slow = m && m->flags & API_SLOW;
    int64_t sent_us = c->sent_us; /* the watch may send another */
    int r =
        await_reply(c, c->last_id, slow ? -1 : clock_mono_ms() + ANSWER_MS, watch, ret_result, err);

    if (c->trace) {
        /* Never parameters: they may hold secrets. */
        (void)fprintf(stderr, "debug: %s: %s in %.1f ms\n", method,
                      r < 0 ? err_code_name(err->code) : "done",
                      (double)(clock_mono_us() - sent_us) / 1000);
    }
    return r;
}

int client_await(struct client *c, const char *method, json_t **ret_result, struct err *err)
{
    return await_watched(c, method, NULL, ret_result, err);
}

int client_call_watched(struct client *c, const char *method, json_t *params,
                        const struct client_watch *watch, json_t **ret_result, struct err *err)
{
    return send_request(c, method, params, err) < 0
               ? -1
               : await_watched(c, method, watch, ret_result, err);
}

/* The reply to one of the calls with ids from first_id on, of which `sent` were sent. 1 if it was
 * one, 0 if not, -1 when the daemon understood nothing. */
static int take_reply(struct client *c, const struct rpc_message *m, long long first_id,
                      size_t sent, struct client_reply *replies, struct err *err)
{
    struct client_reply *reply;
    long long number;

    if (m->method) {
        return 0;
    }
    if (m->error && !m->id) {
        return read_error(c, m->error, err);
    }
    number = json_is_integer(m->id) ? json_integer_value(m->id) - first_id : -1;
    if (number < 0 || number >= (long long)sent || replies[number].answered) {
        return 0;
    }
    reply = &replies[number];
    reply->answered = true;
    if (m->error) {
        rpc_error_read(m->error, &reply->err);
    } else {
        reply->result = json_incref(m->result);
    }
    return 1;
}

/* Each time one has been answered the next is sent. */
static int call_all(struct client *c, const char *method, json_t **params, size_t count,
                    struct client_reply *replies, struct err *err)
{
    const struct api_method *m = api_method_find(method);
    bool slow = m && m->flags & API_SLOW;
    long long first_id = c->last_id + 1;
    size_t sent = 0, answered = 0;
    int64_t deadline = -1;
    bool open = true;

    while (answered < count) {
        _cleanup_rpc_message_ struct rpc_message reply = {0};
        int r;

        /* What cannot be sent any more ends this as soon as all that was answered is read. */
        while (open && sent < count && sent - answered < AT_ONCE) {
            open = send_request(c, method, STEAL_PTR(params[sent]), err) == 0;
            sent += open;
            deadline = slow && open ? -1 : clock_mono_ms() + ANSWER_MS;
        }
        if (!open && answered == sent) {
            return -1;
        }
        r = next_message(c, &reply, err);
        if (r > 0) {
            r = take_reply(c, &reply, first_id, sent, replies, err);
            answered += r > 0;
        } else if (r == 0) {
            r = wait_input(c, NULL, deadline, err);
        }
        if (r < 0) {
            return -1;
        }
    }
    return 0;
}

int client_call_all(struct client *c, const char *method, json_t **params, size_t count,
                    struct client_reply *replies, struct err *err)
{
    int64_t start_us = clock_mono_us();
    int r;

    c->error_op[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        replies[i] = (struct client_reply){0};
    }
    r = call_all(c, method, params, count, replies, err);
    for (size_t i = 0; i < count; i++) {
        json_decref(STEAL_PTR(params[i])); /* of those that were not sent */
    }
    if (c->trace) {
        (void)fprintf(stderr, "debug: %s: %zu calls in %.1f ms\n", method, count,
                      (double)(clock_mono_us() - start_us) / 1000);
    }
    return r;
}

int client_call(struct client *c, const char *method, json_t *params, json_t **ret_result,
                struct err *err)
{
    return client_call_watched(c, method, params, NULL, ret_result, err);
}

int client_take_over(struct client *c, struct buf *ret_rest)
{
    *ret_rest = c->in;
    buf_init(&c->in, 0);
    return STEAL_FD(c->fd);
}
