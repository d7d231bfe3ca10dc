/* Lock hierarchy: link->wire, a leaf, held over a send that does not wait; all other state is the
 * guest loop's (see guest_priv.h). */
#include "guest/guest_priv.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"
#include "base/test_point.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Most bytes read per wake-up, so that one guest cannot keep the loop for itself. */
#define WAKEUP_BUDGET (256 * 1024)
#define IDLE_CAPACITY 4096
#define FIRST_READ 1024
/* Bytes in the socket to the VMM (the kernel takes twice as much, with its own part). */
#define SOCKET_QUEUE (64 * 1024)

/* A request is in link->requests, under the wire lock, until it is answered, lost or withdrawn;
 * who takes it out of there owns it. */
struct request {
    struct list node;
    uint32_t id;
    uint8_t type;
    void (*ended)(struct request *r); /* answered or lost; on the loop's thread, may free it */
    bool lost;
    uint32_t errnum;
    char text[256];
    uint8_t told[GUEST_TOLD_MAX]; /* behind the errno, as it came */
    size_t told_len;
};

/* One that a thread waits for. */
struct waited {
    struct request request;
    struct latch done;
};

struct ping {
    struct request request;
    guest_ping_fn fn;
    void *arg;
    int64_t start_us;
};

static void process_input(struct guest_link *link);

struct session *link_find_stream(struct guest_link *link, uint32_t stream)
{
    struct list *bucket = &link->streams[stream % SESSION_BUCKETS];

    list_for_each (it, bucket) {
        struct session *s = LIST_ENTRY(it, struct session, stream_node);

        if (s->stream == stream) {
            return s;
        }
    }
    return NULL;
}

void link_add_stream(struct guest_link *link, struct session *s, uint32_t stream)
{
    s->link = link;
    s->stream = stream;
    list_append(&link->streams[s->stream % SESSION_BUCKETS], &s->stream_node);
}

static void lose_request(const struct guest_link *link, struct request *r)
{
    r->lost = true;
    (void)snprintf(r->text, sizeof(r->text), "%s",
                   link->why[0] ? link->why : "the connection to the guest's agent ended");
    r->ended(r);
}

/* The first of the list, taken out; or NULL. */
static struct request *take_request(struct guest_link *link)
{
    struct request *r = NULL;

    leaf_lock(&link->wire);
    if (!list_is_empty(&link->requests)) {
        r = LIST_ENTRY(link->requests.next, struct request, node);
        list_remove(&r->node);
        link->request_count--;
    }
    leaf_unlock(&link->wire);
    return r;
}

/* Once the link has ended no other comes. */
static void lose_requests(struct guest_link *link)
{
    struct request *r;

    while ((r = take_request(link))) {
        lose_request(link, r);
    }
}

/* Takes out the one with that id, and with the type when that is not 0; or NULL. */
static struct request *find_request(struct guest_link *link, uint32_t id, uint8_t answer)
{
    struct request *found = NULL;

    leaf_lock(&link->wire);
    list_for_each (it, &link->requests) {
        struct request *r = LIST_ENTRY(it, struct request, node);

        if (r->id == id && (answer == 0 || (answer == FRAME_PONG) == (r->type == FRAME_PING))) {
            found = r;
            list_remove(&r->node);
            link->request_count--;
            break;
        }
    }
    leaf_unlock(&link->wire);
    return found;
}

static void lose_sessions(struct guest_link *link)
{
    for (unsigned i = 0; i < SESSION_BUCKETS; i++) {
        list_for_each (it, &link->streams[i]) {
            struct session *s = LIST_ENTRY(it, struct session, stream_node);

            list_remove(&s->stream_node);
            session_on_link_lost(s, link->let_go ? NULL : link->why);
        }
    }
}

/* Ends it without telling the owner. */
static void end(struct guest_link *link, const char *why)
{
    if (link->fd < 0) {
        return;
    }
    link->let_go = !why;
    (void)snprintf(link->why, sizeof(link->why), "%s", why ? why : "the daemon is stopping");
    loop_source_free(STEAL_PTR(link->source));
    leaf_lock(&link->wire);
    close_p(&link->fd);
    leaf_unlock(&link->wire);
    link->up = false;
    list_for_each (it, &link->starved) {
        list_remove(it); /* clients outlive the link: they still write what they have */
    }
    lose_requests(link);
    lose_sessions(link);
    latch_set(&link->hello);
}

void link_break(struct guest_link *link, const char *fmt, ...)
{
    char why[256];
    va_list ap;

    if (link->fd < 0) {
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    end(link, why);
    link->fn(link->arg, GUEST_LINK_BROKEN, link->why);
}

/* n bytes from head on have been written, `len` were there: notes how much of the last frame is
 * missing. */
static void note_written(struct guest_link *link, const uint8_t *head, size_t len, size_t n)
{
    size_t at = link->frame_left; /* end of the frame that the n-th byte belongs to */

    while (at < n) {
        struct frame f;
        int size = frame_parse(head + at, len - at, &f);

        assert(size > 0); /* we made it */
        at += (size_t)size;
    }
    link->frame_left = at - n;
}

/* Requests go before session bytes, wherever one of their frames ends. */
static ssize_t write_some(struct guest_link *link) REQUIRES(rank_leaf)
{
    const uint8_t *head = buf_head(&link->out);
    size_t len = link->out.len;
    ssize_t n;

    if (link->urgent.len > 0 && link->frame_left == 0) {
        return buf_write_fd(&link->urgent, link->fd);
    }
    if (len == 0) {
        return -EAGAIN;
    }
    n = buf_write_fd(&link->out, link->fd);
    if (n == (ssize_t)len) {
        link->frame_left = 0;
    } else if (n > 0) {
        note_written(link, head, len, (size_t)n);
    }
    return n;
}

/* A thousand quiet links must not keep a thousand buffers of what once was much. */
static void shrink(struct buf *b)
{
    size_t max = b->max;

    if (b->len == 0 && b->capacity > IDLE_CAPACITY) {
        buf_done(b);
        buf_init(b, max);
    }
}

void link_kick(struct guest_link *link)
{
    ssize_t n = 1;
    bool unsent;

    if (link->fd < 0) {
        return;
    }
    leaf_lock(&link->wire);
    while (n > 0) {
        n = write_some(link);
    }
    if (n == -EPIPE || n == -ECONNRESET) {
        /* The VM has ended, but its last words (a reply, GOING_DOWN) may still be unread: the end
         * is for the reading side to find. */
        buf_consume(&link->urgent, link->urgent.len);
        buf_consume(&link->out, link->out.len);
        link->frame_left = 0;
        n = -EAGAIN;
    }
    unsent = link->urgent.len > 0 || link->out.len > 0;
    shrink(&link->urgent);
    leaf_unlock(&link->wire);
    if (n != -EAGAIN) {
        link_break(link, "write to the agent failed: %s", strerror((int)-n));
        return;
    }
    /* Who waits for room has it when the socket has. */
    unsent = unsent || !list_is_empty(&link->starved);
    loop_source_set_events(link->source, EPOLLIN | (unsent ? EPOLLOUT : 0));
}

/* Clients that waited for room go on in the order in which they began to wait. */
static void feed_starved(struct guest_link *link)
{
    while (link->fd >= 0 && link->out.len < LINK_DATA_HIGH && !list_is_empty(&link->starved)) {
        struct list *node = link->starved.next;

        list_remove(node);
        attach_resume(attach_of_starved(node));
    }
}

static void on_reply(struct guest_link *link, const struct frame *f)
{
    struct frame_reader reader = frame_reader(f);
    struct request *r;
    uint32_t errnum = 0;

    if (f->type == FRAME_REPLY && frame_take_u32(&reader, &errnum) < 0) {
        link_break(link, "the agent sent a malformed reply");
        return;
    }
    r = find_request(link, f->stream, f->type);
    if (!r) {
        return; /* the answer to a call that gave up */
    }
    r->errnum = errnum;
    if (f->type == FRAME_REPLY) {
        _cleanup_free_ char *text = str_escape((const char *)reader.p, reader.left, 200);

        (void)snprintf(r->text, sizeof(r->text), "%s", text);
        r->told_len = reader.left < sizeof(r->told) ? reader.left : sizeof(r->told);
        memcpy(r->told, reader.p, r->told_len);
    }
    r->ended(r);
}

/* Once more than was announced has come, the link is up. */
static bool is_listing(const struct guest_link *link, const struct frame *f)
{
    return link->adopted && !link->up && f->type == FRAME_SESSION;
}

static void on_frame(struct guest_link *link, const struct frame *f)
{
    struct session *s;
    const char *why = NULL;

    switch (f->type) {
    case FRAME_REPLY:
    case FRAME_PONG:
        on_reply(link, f);
        return;
    case FRAME_HELLO_OK:
        return; /* of an earlier hello on this link */
    case FRAME_FATAL: {
        _cleanup_free_ char *text = str_escape((const char *)f->payload, f->length, 200);

        link_break(link, "the guest's agent gave up: %s", text);
        return;
    }
    case FRAME_GOING_DOWN:
        link->fn(link->arg, GUEST_LINK_GOING_DOWN, "");
        return;
    case FRAME_STARTED:
    case FRAME_FAILED:
    case FRAME_EXITED:
    case FRAME_SESSION:
    case FRAME_DATA:
    case FRAME_END:
    case FRAME_WINDOW:
        s = link_find_stream(link, f->stream);
        /* Unknown: a session of an earlier daemon (which is listed first), or one that was
         * released. Its number is taken. */
        link->last_stream = f->stream > link->last_stream ? f->stream : link->last_stream;
        if (s ? session_on_frame(s, f, &why) < 0
              : is_listing(link, f) && session_adopt(link, f, &why) < 0) {
            link_break(link, "the agent broke the protocol: %s", why);
        }
        return;
    default:
        link_break(link, "the agent broke the protocol: frame type %u", f->type);
    }
}

static int take_greeting(struct guest_link *link, const struct frame *f)
{
    struct frame_reader r = frame_reader(f);
    const uint8_t *nonce;
    uint16_t version;
    uint32_t listed;

    if (frame_take_bytes(&r, FRAME_NONCE_SIZE, &nonce) < 0 || frame_take_u16(&r, &version) < 0 ||
        frame_take_u32(&r, &listed) < 0 || version < FRAME_PROTO_MIN || version > FRAME_PROTO_MAX ||
        listed > SESSIONS_PER_VM_MAX) {
        return -EPROTO;
    }
    link->to_be_listed = listed;
    link->proto = version;
    (void)snprintf(link->agent_version, sizeof(link->agent_version), "%.*s", (int)r.left,
                   r.left > 0 ? (const char *)r.p : "");
    return 0;
}

/* Part of a FATAL may have come. */
static bool may_be_fatal(const struct guest_link *link)
{
    const uint8_t *head = buf_head(&link->in);
    struct frame f;

    return link->in.len >= 2 && head[1] == FRAME_FATAL && frame_parse(head, link->in.len, &f) == 0;
}

/* Looks for HELLO_OK with our nonce: what comes before it was meant for somebody else, and may
 * begin in the middle of a frame. True when it was found and consumed. */
static bool find_hello(struct guest_link *link)
{
    const uint8_t *head = buf_head(&link->in);
    const uint8_t *at =
        link->in.len > 0 ? memmem(head, link->in.len, link->nonce, FRAME_NONCE_SIZE) : NULL;
    struct frame f;
    int n;

    if (!at || at - head < FRAME_HEADER_SIZE) {
        size_t keep = FRAME_HEADER_SIZE + FRAME_NONCE_SIZE;

        if (!at && link->in.len > keep && !may_be_fatal(link)) {
            buf_consume(&link->in, link->in.len - keep);
        } else if (at) {
            buf_consume(&link->in, (size_t)(at - head) + 1);
        }
        return false;
    }
    buf_consume(&link->in, (size_t)(at - head) - FRAME_HEADER_SIZE);
    n = frame_parse(buf_head(&link->in), link->in.len, &f);
    if (n == 0) {
        return false;
    }
    if (n < 0 || f.type != FRAME_HELLO_OK || take_greeting(link, &f) < 0) {
        buf_consume(&link->in, FRAME_HEADER_SIZE + 1);
        return false;
    }
    buf_consume(&link->in, (size_t)n);
    return true;
}

/* FATAL may come instead of HELLO_OK (no root disk): then it is the first thing on a fresh port. */
static void find_early_fatal(struct guest_link *link)
{
    struct frame f;
    int n = link->in.len > 0 ? frame_parse(buf_head(&link->in), link->in.len, &f) : 0;

    if (n > 0 && f.type == FRAME_FATAL) {
        on_frame(link, &f);
        buf_consume(&link->in, (size_t)n);
    }
}

/* The link is up once the agent has listed the sessions that it has: their numbers are taken. */
static void note_listed(struct guest_link *link)
{
    if (!link->up && link->to_be_listed == 0) {
        link->up = true;
        if (link->adopted) {
            link->fn(link->arg, GUEST_LINK_LISTED, "");
        }
        latch_set(&link->hello);
    }
}

static void process_input(struct guest_link *link)
{
    if (!link->greeted) {
        find_early_fatal(link);
        if (link->fd < 0 || !find_hello(link)) {
            return;
        }
        link->greeted = true;
        note_listed(link);
    }
    while (link->fd >= 0) {
        struct frame f;
        int n = frame_parse(buf_head(&link->in), link->in.len, &f);

        if (n == 0) {
            return;
        }
        if (n < 0) {
            link_break(link, "the agent broke the protocol: malformed frame");
            return;
        }
        on_frame(link, &f);
        if (link->fd >= 0) {
            link->to_be_listed -= f.type == FRAME_SESSION && link->to_be_listed > 0;
            note_listed(link);
            buf_consume(&link->in, (size_t)n);
        }
    }
}

static void on_readable(struct guest_link *link)
{
    size_t budget = WAKEUP_BUDGET;
    /* Little comes from most guests: a thousand that answer at once need no large buffers. */
    size_t most = FIRST_READ;

    while (link->fd >= 0 && budget > 0) {
        ssize_t n = buf_read_fd(&link->in, link->fd, most);

        if (n == -EAGAIN) {
            /* Not while it streams. */
            if (WAKEUP_BUDGET - budget <= IDLE_CAPACITY) {
                shrink(&link->in);
            }
            return;
        }
        if (n <= 0) {
            link_break(link, "%s",
                       n == 0 || n == -ECONNRESET ? "the VM went down" : strerror((int)-n));
            return;
        }
        most = (size_t)n == most ? LINK_IN_MAX : most;
        budget -= (size_t)n < budget ? (size_t)n : budget;
        process_input(link);
    }
}

static void on_io(void *arg, uint32_t events)
{
    struct guest_link *link = arg;

    if (events & EPOLLOUT) {
        link_kick(link);
    }
    if (link->fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        on_readable(link);
    }
    feed_starved(link);
    if (link->fd >= 0) {
        link_kick(link);
    }
}

static void start_on_loop(void *arg)
{
    struct guest_link *link = arg;

    link->source = loop_add_io(link->loop, link->fd, EPOLLIN, on_io, link);
    link_kick(link);
}

struct guest_link *guest_link_open(const struct guest_link_params *params)
{
    struct guest_link *link = x_calloc(1, sizeof(*link));
    const int queued = SOCKET_QUEUE;

    link->loop = params->loop;
    link->sessions = params->sessions;
    link->fn = params->fn;
    link->arg = params->arg;
    link->fd = params->fd;
    link->adopted = params->adopted;
    (void)snprintf(link->vm_id, sizeof(link->vm_id), "%s", params->vm_id ? params->vm_id : "");
    /* What is queued here is ahead of the next key press. Best effort: it is only slower. */
    (void)setsockopt(link->fd, SOL_SOCKET, SO_SNDBUF, &queued, sizeof(queued));
    link->random = params->random ? params->random : random_bytes;
    link->random(link->nonce, sizeof(link->nonce));
    latch_init(&link->hello);
    buf_init(&link->in, LINK_IN_MAX);
    buf_init(&link->out, LINK_OUT_MAX);
    lock_init(&link->wire);
    buf_init(&link->urgent, LINK_URGENT_MAX);
    list_init(&link->requests);
    list_init(&link->starved);
    for (unsigned i = 0; i < SESSION_BUCKETS; i++) {
        list_init(&link->streams[i]);
    }
    /* Ahead of any request, and into an empty buffer, where it fits. The zeros are no frame, so
     * they cannot go to `out`. */
    (void)!(link->adopted && frame_put_resync(&link->urgent));
    (void)!frame_put_hello(&link->urgent, link->nonce);
    loop_post(link->loop, start_on_loop, link);
    return link;
}

struct closing {
    struct guest_link *link;
    const char *why;
};

static void close_on_loop(void *arg)
{
    struct closing *c = arg;

    end(c->link, c->why);
}

void guest_link_end(struct guest_link *link, const char *why)
{
    loop_call(link->loop, close_on_loop, &(struct closing){.link = link, .why = why});
}

void guest_link_free(struct guest_link *link)
{
    if (!link) {
        return;
    }
    guest_link_end(link, "");
    buf_done(&link->in);
    buf_done(&link->out);
    buf_done(&link->urgent);
    lock_done(&link->wire);
    latch_done(&link->hello);
    free(link);
}

static int wait_error(int r, const char *what, struct err *err)
{
    if (r == -ETIMEDOUT) {
        return err_set(err, ERR_TIMEOUT, "the guest did not answer in time: %s", what);
    }
    return err_set_errno(err, ERR_INTERNAL, r, "%s", what);
}

struct up_query {
    struct guest_link *link;
    bool up;
    char why[256];
};

static void query_up(void *arg)
{
    struct up_query *q = arg;

    q->up = q->link->up;
    memcpy(q->why, q->link->why, sizeof(q->why));
}

bool guest_link_is_up(struct guest_link *link)
{
    struct up_query q = {.link = link};

    loop_call(link->loop, query_up, &q);
    return q.up;
}

void guest_link_agent_version(const struct guest_link *link, char ret[GUEST_VERSION_SIZE])
{
    (void)snprintf(ret, GUEST_VERSION_SIZE, "%s",
                   latch_is_set(&link->hello) ? link->agent_version : "");
}

int guest_link_wait_hello(struct guest_link *link, struct cancel *cancel, int64_t deadline_ms,
                          struct err *err)
{
    struct up_query q = {.link = link};
    int r = FAULT_POINT("agent.hello") ?: latch_wait(&link->hello, cancel, deadline_ms);

    if (r < 0) {
        return wait_error(r, "hello", err);
    }
    loop_call(link->loop, query_up, &q);
    return q.up ? 0 : err_set(err, ERR_GUEST, "the guest's agent is not there: %s", q.why);
}

void guest_link_wait_decided(struct guest_link *link, struct cancel *cancel, int64_t deadline_ms)
{
    (void)!latch_wait(&link->hello, cancel, deadline_ms);
}

static void kick_on_loop(void *arg)
{
    link_kick(arg);
}

/* Any thread: enters the request and sends it, or leaves it to the loop when the socket has no room
 * for it at once. When this fails, with
 * ERR_GUEST, r is not entered; otherwise it may have ended before this returns. */
static int send_request(struct guest_link *link, struct request *r, const uint8_t *body, size_t len,
                        uint32_t *ret_id, struct err *err) EXCLUDES(rank_leaf)
{
    _cleanup_buf_ struct buf frames;
    bool gone, full = false, unsent = false;

    buf_init(&frames, LINK_URGENT_MAX);
    leaf_lock(&link->wire);
    gone = link->fd < 0;
    if (!gone) {
        r->id = ++link->last_request;
        full = link->request_count >= LINK_REQUESTS_MAX ||
               frame_put_body(&frames, r->type, r->id, body, len) < 0 ||
               buf_append(&link->urgent, buf_head(&frames), frames.len) < 0;
    }
    if (!gone && !full) {
        *ret_id = r->id;
        list_append(&link->requests, &r->node);
        link->request_count++;
        if (link->frame_left == 0) {
            (void)buf_write_fd(&link->urgent, link->fd);
        }
        unsent = link->urgent.len > 0;
    }
    leaf_unlock(&link->wire);
    if (unsent) {
        loop_post(link->loop, kick_on_loop, link);
    }
    if (gone) {
        return err_set(err, ERR_GUEST, "%s",
                       link->why[0] ? link->why : "the connection to the guest's agent ended");
    }
    return full ? err_set(err, ERR_GUEST, "the guest takes no more requests") : 0;
}

static void waited_ended(struct request *r)
{
    latch_set(&LIST_ENTRY(r, struct waited, request)->done);
}

int guest_link_call(struct guest_link *link, uint8_t type, const char *what, const uint8_t *body,
                    size_t len, struct buf *told, struct cancel *cancel, int64_t deadline_ms,
                    struct err *err)
{
    struct waited w = {.request = {.type = type, .ended = waited_ended}};
    struct err why;
    uint32_t id;
    int r = FAULT_POINT("agent.request");

    if (r < 0) {
        return err_set_errno(err, ERR_GUEST, r, "%s", what);
    }
    latch_init(&w.done);
    if (send_request(link, &w.request, body, len, &id, &why) < 0) {
        latch_done(&w.done);
        return err_set(err, ERR_GUEST, "%s: %s", what, why.message);
    }
    r = latch_wait(&w.done, cancel, deadline_ms);
    if (r < 0 && !find_request(link, id, 0)) {
        /* The loop has it already, and is about to set the latch. */
        r = latch_wait(&w.done, NULL, -1);
    }
    latch_done(&w.done);
    if (r < 0) {
        return wait_error(r, what, err);
    }
    if (w.request.lost) {
        return err_set(err, ERR_GUEST, "%s: %s", what, w.request.text);
    }
    if (w.request.errnum != 0) {
        return err_set(err, ERR_GUEST, "%s: the guest answered: %s", what, w.request.text);
    }
    if (told && buf_append(told, w.request.told, w.request.told_len) < 0) {
        return err_set(err, ERR_GUEST, "%s: the guest's answer is too long", what);
    }
    return 0;
}

int guest_link_sync(struct guest_link *link, struct cancel *cancel, int64_t deadline_ms,
                    struct err *err)
{
    return guest_link_call(link, FRAME_SYNC, "sync", NULL, 0, NULL, cancel, deadline_ms, err);
}

bool guest_link_can_grow_disk(const struct guest_link *link)
{
    return latch_is_set(&link->hello) && link->proto >= FRAME_PROTO_GROW;
}

int guest_link_grow_disk(struct guest_link *link, uint64_t bytes, struct cancel *cancel,
                         int64_t deadline_ms, struct err *err)
{
    _cleanup_buf_ struct buf body;

    buf_init(&body, sizeof(bytes));
    if (buf_append_le64(&body, bytes) < 0) {
        return err_set(err, ERR_INTERNAL, "grow the disk");
    }
    return guest_link_call(link, FRAME_GROW, "grow the disk", buf_head(&body), body.len, NULL,
                           cancel, deadline_ms, err);
}

int guest_link_poweroff(struct guest_link *link, struct cancel *cancel, int64_t deadline_ms,
                        struct err *err)
{
    return guest_link_call(link, FRAME_POWEROFF, "power off", NULL, 0, NULL, cancel, deadline_ms,
                           err);
}

static void ping_ended(struct request *r)
{
    struct ping *p = LIST_ENTRY(r, struct ping, request);
    struct err err;

    if (r->lost) {
        (void)err_set(&err, ERR_GUEST, "ping: %s", r->text);
    }
    p->fn(p->arg, clock_mono_us() - p->start_us, r->lost ? &err : NULL);
    free(p);
}

int guest_link_ping(struct guest_link *link, guest_ping_fn fn, void *arg, uint32_t *ret_id,
                    struct err *err)
{
    struct ping *p = x_calloc(1, sizeof(*p));
    struct err why;

    p->request.type = FRAME_PING;
    p->request.ended = ping_ended;
    p->fn = fn;
    p->arg = arg;
    p->start_us = clock_mono_us();
    if (send_request(link, &p->request, NULL, 0, ret_id, &why) < 0) {
        free(p);
        return err_set(err, ERR_GUEST, "ping: %s", why.message);
    }
    return 0;
}

bool guest_link_forget_ping(struct guest_link *link, uint32_t id)
{
    struct request *r = find_request(link, id, FRAME_PONG);

    if (r) {
        free(LIST_ENTRY(r, struct ping, request));
    }
    return r != NULL;
}
