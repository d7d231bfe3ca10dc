/*
 * One client on one session: frames of stream 0 between the client's socket and the session's
 * stream on the link. All on the guest loop's thread. The client is a user of the daemon, but its
 * frames are checked like anybody's; what is wrong ends its connection and nothing else.
 *
 * Memory: output is passed on only as far as the client's windows allow, so `out` holds at most
 * what it asked for; input is read only while the link has room (LINK_DATA_HIGH).
 */
#include "guest/guest_priv.h"

#include "base/str.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#define SMALL_MAX 256                        /* payload of what is small */
#define LINK_SMALL_HIGH (2 * LINK_DATA_HIGH) /* small frames stop here */

struct attach {
    struct loop *loop;
    int fd;
    struct loop_source *source;
    struct buf in, out;
    struct session *session;       /* a reference; NULL once it only flushes `out` */
    struct list starved;           /* in link->starved */
    uint64_t next[FRAME_CHANNELS]; /* offset that the client gets next */
    bool synced[FRAME_CHANNELS];   /* it has said what it holds */
    bool ended[FRAME_CHANNELS];    /* it has been told the end */
    bool stdin_ended;
    bool end_sent; /* EXITED or FAILED is in `out`, or written */
    bool dead;     /* freed once the current callback is over: it may be on the stack */
};

struct attach *attach_of_starved(struct list *node)
{
    return LIST_ENTRY(node, struct attach, starved);
}

static void leave_session(struct attach *a)
{
    struct session *s = a->session;

    list_remove(&a->starved);
    if (s) {
        a->session = NULL;
        if (s->client == a) {
            s->client = NULL;
            session_set_readers(s, 0);
            session_on_client_left(s);
        }
        session_put(s);
    }
}

static void free_later(void *arg)
{
    struct attach *a = arg;

    buf_done(&a->in);
    buf_done(&a->out);
    free(a);
}

static void attach_free(struct attach *a)
{
    if (a->dead) {
        return;
    }
    a->dead = true;
    leave_session(a);
    loop_source_free(STEAL_PTR(a->source));
    close_p(&a->fd);
    loop_post(a->loop, free_later, a);
}

/* Writes what it can, and ends `a` when the client is gone. */
static void flush(struct attach *a)
{
    uint32_t events;

    if (a->dead) {
        return;
    }
    while (a->out.len > 0) {
        ssize_t n = buf_write_fd(&a->out, a->fd);

        if (n == -EAGAIN) {
            break;
        }
        if (n < 0) {
            attach_free(a);
            return;
        }
    }
    if (a->session && a->end_sent && a->out.len == 0) {
        struct session *s = session_get(a->session);

        leave_session(a);
        session_on_delivered(s);
        session_put(s);
    }
    if (!a->session && a->out.len == 0) {
        attach_free(a);
        return;
    }
    events = a->out.len > 0 ? EPOLLOUT : 0;
    events |= a->session && !list_is_linked(&a->starved) ? EPOLLIN : 0;
    loop_source_set_events(a->source, events);
}

void attach_end(struct attach *a, const char *why)
{
    size_t len = strnlen(why, 512);

    (void)!frame_put(&a->out, &(struct frame){.type = FRAME_FATAL,
                                              .payload = (const uint8_t *)why,
                                              .length = (uint32_t)len});
    leave_session(a);
    flush(a);
}

void attach_drop(struct attach *a)
{
    attach_free(a);
}

/* The first one says where this client's stdin begins: behind what others have written. */
static int put_stdin_window(struct attach *a, uint64_t offset)
{
    return frame_put_window(&a->out, 0, FRAME_STDIN, offset, a->session->stdin_limit);
}

/* What the agent sent before it knew of this client (and where it is) comes again after ATTACH:
 * only what is next in order is passed on. */
static bool is_next(struct attach *a, const struct frame *f)
{
    uint8_t c = f->channel;

    switch (f->type) {
    case FRAME_DATA:
        return a->synced[c] && !a->ended[c] && f->offset == a->next[c];
    case FRAME_END:
        return !a->ended[c] && f->offset == a->next[c];
    case FRAME_EXITED:
        return a->ended[FRAME_STDOUT] && a->ended[FRAME_STDERR] && !a->end_sent;
    case FRAME_STARTED:
        return false; /* the client knows from session.start */
    default:
        return true;
    }
}

bool attach_is_lied_to(const struct attach *a, const struct frame *f)
{
    uint8_t c = f->channel;

    /* Until the answer to ATTACH there may be frames on the way that were meant for another. */
    if (!a->session || a->session->unsettled > 0) {
        return false;
    }
    switch (f->type) {
    case FRAME_DATA:
        return a->synced[c] && (a->ended[c] || f->offset > a->next[c]);
    case FRAME_END:
        return a->synced[c] && !a->ended[c] && f->offset != a->next[c];
    case FRAME_EXITED:
        return a->synced[FRAME_STDOUT] && a->synced[FRAME_STDERR] &&
               !(a->ended[FRAME_STDOUT] && a->ended[FRAME_STDERR]);
    default:
        return false;
    }
}

void attach_forward(struct attach *a, const struct frame *f)
{
    struct frame to = *f;
    int r;

    if (!is_next(a, f)) {
        return;
    }
    to.stream = 0;
    a->next[f->channel] += f->type == FRAME_DATA ? f->length : 0;
    a->ended[f->channel] = a->ended[f->channel] || f->type == FRAME_END;
    r = f->type == FRAME_WINDOW ? put_stdin_window(a, a->session->stdin_acked)
                                : frame_put(&a->out, &to);
    a->end_sent = a->end_sent || f->type == FRAME_EXITED || f->type == FRAME_FAILED;
    if (r < 0) {
        attach_end(a, "the client does not read what it asks for");
        return;
    }
    flush(a); /* may be the last that is heard of `a` */
}

/* ---- frames of the client; -1 ends its connection ---- */

static uint64_t bytes_so_far(struct session *s, uint8_t channel)
{
    uint64_t bytes;

    leaf_lock(&s->registry->lock);
    bytes = s->out_bytes[channel];
    leaf_unlock(&s->registry->lock);
    return bytes;
}

static int on_window(struct attach *a, const struct frame *f)
{
    struct frame_reader r = frame_reader(f);
    struct session *s = a->session;
    struct guest_link *link = s->link;
    uint8_t c = f->channel;
    uint64_t limit;

    if (c == FRAME_STDIN || frame_take_u64(&r, &limit) < 0 || limit < f->offset ||
        limit - f->offset > FRAME_WINDOW_MAX ||
        f->offset > (a->synced[c] ? a->next[c] : bytes_so_far(s, c))) {
        return -EPROTO;
    }
    if (!a->synced[c]) {
        /* What was acknowledged before is gone from the agent. */
        a->next[c] = f->offset > s->acked[c] ? f->offset : s->acked[c];
        a->synced[c] = true;
    }
    s->acked[c] = f->offset > s->acked[c] ? f->offset : s->acked[c];
    s->granted[c] = limit > s->granted[c] ? limit : s->granted[c];
    if (link && frame_put_window(&link->out, s->stream, c, f->offset, limit) < 0) {
        return -EPROTO;
    }
    return 0;
}

static int on_stdin(struct attach *a, const struct frame *f)
{
    struct session *s = a->session;
    struct guest_link *link = s->link;
    struct frame to = *f;

    if (f->channel != FRAME_STDIN || a->stdin_ended || f->offset != s->stdin_offset ||
        s->stdin_offset + f->length > s->stdin_limit) {
        return -EPROTO;
    }
    if (f->type == FRAME_END) {
        a->stdin_ended = true;
    }
    if (!link) {
        return 0;
    }
    to.stream = s->stream;
    s->stdin_offset += f->length;
    return frame_put(&link->out, &to);
}

static int on_client_frame(struct attach *a, const struct frame *f)
{
    struct guest_link *link = a->session->link;
    struct frame to = *f;

    if (f->stream != 0) {
        return -EPROTO;
    }
    switch (f->type) {
    case FRAME_WINDOW:
        return on_window(a, f);
    case FRAME_DATA:
        return on_stdin(a, f);
    case FRAME_END:
        return f->length == 0 ? on_stdin(a, f) : -EPROTO;
    case FRAME_SIGNAL:
    case FRAME_RESIZE:
        if (f->length != 4) {
            return -EPROTO;
        }
        to.stream = a->session->stream;
        return link ? frame_put(&link->out, &to) : 0;
    default:
        return -EPROTO;
    }
}

/* Whether the link takes the frame now. Who has much waits for those who wait already, and sends a
 * frame when it is its turn. What is small (keys, windows, signals) waits for nobody's bulk. */
static bool may_send(const struct guest_link *link, const struct frame *f, bool its_turn)
{
    if (f->length <= SMALL_MAX) {
        return link->out.len < LINK_SMALL_HIGH;
    }
    return link->out.len < LINK_DATA_HIGH && (its_turn || list_is_empty(&link->starved));
}

/* Takes frames from `in` while the link takes them. */
static void process(struct attach *a, bool its_turn)
{
    while (a->session) {
        struct guest_link *link = a->session->link;
        struct frame f;
        int n = frame_parse(buf_head(&a->in), a->in.len, &f);

        if (n == 0) {
            break;
        }
        if (n > 0 && link && !may_send(link, &f, its_turn)) {
            if (!list_is_linked(&a->starved)) {
                list_append(&link->starved, &a->starved);
            }
            break;
        }
        if (n < 0 || on_client_frame(a, &f) < 0) {
            attach_end(a, "the client broke the protocol");
            return;
        }
        its_turn = its_turn && f.length <= SMALL_MAX;
        buf_consume(&a->in, (size_t)n);
        if (link) {
            link_kick(link); /* may break the link, and with it the session and `a` */
        }
    }
    flush(a);
}

void attach_resume(struct attach *a)
{
    process(a, true);
}

static void on_io(void *arg, uint32_t events)
{
    struct attach *a = arg;
    ssize_t n;

    if (!a->session) {
        if (events & (EPOLLHUP | EPOLLERR)) {
            attach_free(a);
        } else {
            flush(a);
        }
        return;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        flush(a);
        return;
    }
    /* First what it has said (a last signal, of a client that is gone), then what it may not take.
     */
    n = buf_read_fd(&a->in, a->fd, LINK_IN_MAX);
    if (n == 0 || (n < 0 && n != -EAGAIN && n != -ENOBUFS)) {
        attach_free(a);
        return;
    }
    if (n == -ENOBUFS && (events & (EPOLLHUP | EPOLLERR))) {
        attach_free(a); /* gone while we had no room for more */
        return;
    }
    process(a, false);
}

void attach_new(struct loop *loop, struct session *s, int fd, const void *early, size_t len)
{
    struct attach *a = x_calloc(1, sizeof(*a));

    a->loop = loop;
    a->fd = fd;
    a->session = session_get(s);
    memcpy(a->next, s->acked, sizeof(a->next));
    buf_init(&a->in, LINK_IN_MAX);
    buf_init(&a->out, 4 * 1024 * 1024);
    a->source = loop_add_io(loop, fd, EPOLLIN, on_io, a);
    s->client = a;
    session_set_readers(s, 1);
    if (!s->link) {
        session_put_end_frames(s, &a->out);
        a->end_sent = true;
        flush(a);
        return;
    }
    if (put_stdin_window(a, s->stdin_offset) < 0 ||
        frame_put(&s->link->out, &(struct frame){.type = FRAME_ATTACH, .stream = s->stream}) < 0 ||
        buf_append(&a->in, early, len) < 0) {
        attach_end(a, "no room for another client");
        return;
    }
    s->unsettled++;
    link_kick(s->link);
    process(a, false);
}
