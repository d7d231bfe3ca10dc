#include "vmm/qemu/qmp.h"

#include "base/buf.h"
#include "base/list.h"
#include "base/str.h"
#include "base/test_point.h"
#include "vmm/qemu/qmp_message.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Per wake-up, so that one chatty VM does not keep the loop from the others. */
#define READ_BUDGET 16384
/* A dead peer's socket holds no more than its send buffer. */
#define DRAIN_ROUNDS 256

struct pending {
    struct list node;
    uint64_t id;
    qmp_reply_fn fn;
    void *arg;
};

struct qmp {
    /* immutable */
    struct loop *loop;
    struct qmp_handler handler;

    /* loop thread only */
    int fd;                     /* -1 once ended */
    struct loop_source *source; /* NULL once ended */
    struct buf in, out;
    size_t scanned; /* bytes at the head of `in` that hold no newline */
    bool greeted, calling_back;
    uint64_t first_id, last_id; /* immutable; and of the last command */
    struct list pending;        /* struct pending, oldest first */
    size_t pending_count;
    struct err end; /* why it ended */
};

static void pending_reply(struct qmp *q, struct pending *p, const json_t *result,
                          const struct err *err)
{
    bool outer = q->calling_back;

    list_remove(&p->node);
    q->pending_count--;
    if (p->fn) {
        q->calling_back = true;
        p->fn(p->arg, result, err);
        q->calling_back = outer;
    }
    free(p);
}

static void fail_pending(struct qmp *q, const struct err *err)
{
    while (!list_is_empty(&q->pending)) {
        pending_reply(q, LIST_ENTRY(q->pending.next, struct pending, node), NULL, err);
    }
}

static void disconnect(struct qmp *q)
{
    loop_source_free(q->source);
    q->source = NULL;
    close_p(&q->fd);
}

/* q->end says why. */
static void end(struct qmp *q)
{
    disconnect(q);
    fail_pending(q, &q->end);
    if (q->handler.closed) {
        q->calling_back = true;
        q->handler.closed(q->handler.arg, &q->end);
        q->calling_back = false;
    }
}

static void update_interest(struct qmp *q)
{
    loop_source_set_events(q->source, EPOLLIN | (q->out.len > 0 ? EPOLLOUT : 0U));
}

/* A peer that has gone is noticed by reading, after its last words; so is one that cannot be
 * written to. */
static void flush(struct qmp *q)
{
    while (q->out.len > 0) {
        ssize_t n = FAULT_POINT("qmp.write");

        n = n < 0 ? n : buf_write_fd(&q->out, q->fd);
        if (n < 0) {
            if (n != -EAGAIN) {
                /* Nothing that is lost waits for an answer for ever. */
                buf_consume(&q->out, q->out.len);
                (void)shutdown(q->fd, SHUT_RDWR);
            }
            break;
        }
    }
    update_interest(q);
}

static struct pending *find_pending(struct qmp *q, uint64_t id)
{
    list_for_each (it, &q->pending) {
        struct pending *p = LIST_ENTRY(it, struct pending, node);

        if (p->id == id) {
            return p;
        }
    }
    return NULL;
}

static int handle_reply(struct qmp *q, const struct qmp_message *m)
{
    struct pending *p = find_pending(q, m->id);
    struct err err;
    int r;

    if (m->id != 0 && (m->id < q->first_id || m->id > q->last_id)) {
        return 0; /* an earlier connection's */
    }
    if (!p) {
        return err_set(&q->end, ERR_VMM, "QMP: an answer to a question that was not asked");
    }
    r = FAULT_POINT("qmp.reply");
    if (r < 0) {
        err_set_errno(&err, ERR_VMM, r, "QEMU");
        pending_reply(q, p, NULL, &err);
    } else if (m->kind == QMP_ERROR) {
        _cleanup_free_ char *text = str_escape(m->text, strlen(m->text), 512);

        (void)err_set(&err, ERR_VMM, "QEMU: %s", text);
        pending_reply(q, p, NULL, &err);
    } else {
        pending_reply(q, p, m->data, NULL);
    }
    return 0;
}

static int handle_line(struct qmp *q, const char *line, size_t len)
{
    struct qmp_message m;
    int r = 0;

    if (qmp_message_parse(line, len, &m, &q->end) < 0) {
        return -1;
    }
    if ((m.kind == QMP_GREETING) == q->greeted) {
        r = err_set(&q->end, ERR_VMM, "QMP: no greeting at the start, or one later");
    } else if (m.kind == QMP_GREETING) {
        q->greeted = true;
        if (q->handler.greeting) {
            q->handler.greeting(q->handler.arg, m.data);
        }
    } else if (m.kind == QMP_EVENT) {
        if (q->handler.event) {
            q->calling_back = true;
            q->handler.event(q->handler.arg, m.name, m.data);
            q->calling_back = false;
        }
    } else {
        r = handle_reply(q, &m);
    }
    qmp_message_done(&m);
    return r;
}

static int handle_lines(struct qmp *q)
{
    for (;;) {
        const uint8_t *head = buf_head(&q->in);
        const uint8_t *newline =
            q->in.len > q->scanned ? memchr(head + q->scanned, '\n', q->in.len - q->scanned) : NULL;
        size_t len;

        if (!newline) {
            q->scanned = q->in.len;
            return 0;
        }
        len = (size_t)(newline - head);
        if (handle_line(q, (const char *)head, len) < 0) {
            return -1;
        }
        buf_consume(&q->in, len + 1);
        q->scanned = 0;
    }
}

/* Reads once. 1 = there may be more, 0 = nothing more for now, -1 = it must end, as q->end says. */
static int receive(struct qmp *q)
{
    ssize_t n = FAULT_POINT("qmp.read");

    n = n < 0 ? n : buf_read_fd(&q->in, q->fd, READ_BUDGET);
    if (n == -EAGAIN) {
        return 0;
    }
    if (n == -ENOBUFS) {
        return err_set(&q->end, ERR_VMM, "QMP: a line of more than %u bytes", QMP_LINE_MAX);
    }
    if (n == 0 || n == -ECONNRESET) {
        return err_set(&q->end, ERR_VMM, "QEMU closed its control socket");
    }
    if (n < 0) {
        return err_set_errno(&q->end, ERR_VMM, (int)n, "QMP");
    }
    return handle_lines(q) < 0 ? -1 : 1;
}

static void on_io(void *arg, uint32_t events)
{
    struct qmp *q = arg;

    if (events & EPOLLOUT) {
        flush(q);
    }
    if ((events & ~(uint32_t)EPOLLOUT) && receive(q) < 0) {
        end(q);
    }
}

struct qmp *qmp_new(struct loop *loop, int fd, uint64_t first_id, const struct qmp_handler *handler)
{
    struct qmp *q = x_calloc(1, sizeof(*q));
    struct err err;

    q->loop = loop;
    q->handler = *handler;
    q->fd = fd;
    q->first_id = first_id;
    q->last_id = first_id - 1;
    buf_init(&q->in, QMP_LINE_MAX);
    buf_init(&q->out, QMP_LINE_MAX);
    list_init(&q->pending);
    q->source = loop_add_io(loop, fd, EPOLLIN, on_io, q);
    /* An empty queue takes it; should the server refuse it, so will it all that follows. */
    (void)qmp_execute(q, "qmp_capabilities", NULL, NULL, NULL, &err);
    return q;
}

void qmp_free(struct qmp *q)
{
    struct err err;

    if (!q) {
        return;
    }
    assert(loop_is_current(q->loop) && !q->calling_back);
    disconnect(q);
    (void)err_set(&err, ERR_CANCELLED, "the connection to QEMU was given up");
    fail_pending(q, &err);
    buf_done(&q->in);
    buf_done(&q->out);
    free(q);
}

bool qmp_has_ended(const struct qmp *q)
{
    return q->fd < 0;
}

int qmp_execute(struct qmp *q, const char *command, json_t *arguments, qmp_reply_fn fn, void *arg,
                struct err *err)
{
    _cleanup_json_ json_t *root = json_object();
    _cleanup_json_ json_t *args = arguments;
    _cleanup_free_ char *text = NULL;
    struct pending *p;

    assert(loop_is_current(q->loop));
    if (q->fd < 0) {
        *err = q->end;
        return -1;
    }
    if (q->pending_count >= QMP_PENDING_MAX) {
        return err_set(err, ERR_BUSY, "QEMU has not answered %zu commands", q->pending_count);
    }
    json_put_str(root, "execute", command);
    json_put_int(root, "id", (long long)(q->last_id + 1));
    if (args) {
        json_put(root, "arguments", STEAL_PTR(args));
    }
    text = json_print(root);
    if (buf_room(&q->out) < strlen(text) + 1 || buf_append_str(&q->out, text) < 0 ||
        buf_append_str(&q->out, "\n") < 0) {
        return err_set(err, ERR_BUSY, "QEMU does not read its control socket");
    }
    p = x_calloc(1, sizeof(*p));
    p->id = ++q->last_id;
    p->fn = fn;
    p->arg = arg;
    list_append(&q->pending, &p->node);
    q->pending_count++;
    flush(q);
    return 0;
}

/* With a blank, which means nothing between commands. */
int qmp_send_fd(struct qmp *q, int fd, struct err *err)
{
    char blank[] = " ";
    struct iovec data = {.iov_base = blank, .iov_len = 1};
    union {
        struct cmsghdr header;
        uint8_t room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    const struct msghdr message = {.msg_iov = &data,
                                   .msg_iovlen = 1,
                                   .msg_control = &control,
                                   .msg_controllen = CMSG_LEN(sizeof(int))};

    assert(loop_is_current(q->loop));
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    if (q->fd < 0) {
        *err = q->end;
        return -1;
    }
    if (q->out.len > 0) {
        return err_set(err, ERR_BUSY, "QEMU does not read its control socket");
    }
    return sendmsg(q->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1
               ? 0
               : err_set_errno(err, ERR_VMM, errno, "QEMU's control socket");
}

void qmp_drain(struct qmp *q)
{
    assert(loop_is_current(q->loop));
    for (int i = 0; i < DRAIN_ROUNDS && q->fd >= 0; i++) {
        int r = receive(q);

        if (r < 0) {
            end(q);
        }
        if (r <= 0) {
            break;
        }
    }
}
