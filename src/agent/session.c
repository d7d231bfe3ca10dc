#include "agent/session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

static void signal_group(pid_t group, int sig)
{
    (void)kill(-group, sig);
}

const struct session_ops session_real_ops = {
    .start = child_start,
    .signal = signal_group,
};

void sessions_init(struct sessions *all, struct poller *poller, const struct session_ops *ops)
{
    *all = (struct sessions){.ops = ops};
    stream_env_init(&all->streams, poller);
    buf_init(&all->spec, FRAME_SPEC_MAX);
}

static struct session **bucket_of(struct sessions *all, uint32_t id)
{
    return &all->buckets[id % SESSION_BUCKETS];
}

static struct session *find(struct sessions *all, uint32_t id)
{
    struct session *s = *bucket_of(all, id);

    while (s && s->id != id) {
        s = s->next_in_bucket;
    }
    return s;
}

/* Those that wait to send --------------------------------------------------------------------- */

static void enter(struct session *s, struct ready_list *list)
{
    if (s->ready || !(s->attached || s->list_due)) {
        return;
    }
    s->ready = list;
    s->next_ready = NULL;
    if (list->last) {
        list->last->next_ready = s;
    } else {
        list->first = s;
    }
    list->last = s;
}

static void session_wake(struct session *s)
{
    enter(s, &s->all->fresh);
}

static void on_wake(struct stream_owner *owner)
{
    session_wake((struct session *)owner);
}

static struct session *take_ready(struct sessions *all)
{
    struct ready_list *list = all->fresh.first ? &all->fresh : &all->busy;
    struct session *s = list->first;

    if (s) {
        list->first = s->next_ready;
        if (!list->first) {
            list->last = NULL;
        }
        s->ready = NULL;
    }
    return s;
}

/* Only when a session is released: the lists are short, for they empty at every turn of the loop.
 */
static void forget_ready(struct session *s)
{
    struct ready_list *list = s->ready;
    struct session *before = NULL;

    if (!list) {
        return;
    }
    for (struct session *at = list->first; at != s; at = at->next_ready) {
        before = at;
    }
    if (before) {
        before->next_ready = s->next_ready;
    } else {
        list->first = s->next_ready;
    }
    if (list->last == s) {
        list->last = before;
    }
    s->ready = NULL;
}

static bool put(struct buf *out, const struct session *s, struct frame f)
{
    f.stream = s->id;
    return frame_put(out, &f) == 0;
}

static bool put_failed(struct buf *out, uint32_t id, const struct failure *failure)
{
    uint8_t payload[8 + FAILURE_TEXT_MAX];
    _cleanup_buf_ struct buf b;

    buf_init(&b, sizeof(payload));
    return buf_append_le32(&b, failure->status) == 0 && buf_append_le32(&b, failure->error) == 0 &&
           buf_append_str(&b, failure->text) == 0 &&
           frame_put(out, &(struct frame){.type = FRAME_FAILED,
                                          .stream = id,
                                          .payload = buf_head(&b),
                                          .length = (uint32_t)b.len}) == 0;
}

/* The u8 and u32 of EXITED. */
static void fill_status(const struct session *s, uint8_t ret[5])
{
    bool ended = s->state == FRAME_SESSION_EXITED;
    bool killed = ended && WIFSIGNALED(s->status);

    ret[0] = killed;
    ret[1] = (uint8_t)(!ended ? 0 : killed ? WTERMSIG(s->status) : WEXITSTATUS(s->status));
}

/* SESSION, or EXITED, which lacks the state in front. */
static bool put_summary(struct buf *out, const struct session *s, uint8_t type)
{
    uint8_t payload[6] = {(uint8_t)s->state};
    unsigned skip = type == FRAME_EXITED ? 1 : 0;

    fill_status(s, payload + 1);
    return put(out, s,
               (struct frame){.type = type,
                              .payload = payload + skip,
                              .length = (uint32_t)sizeof(payload) - skip});
}

/* SESSION as a new host needs it: where each stream is, and the old host's record. */
static bool put_listing(struct buf *out, struct session *s)
{
    uint8_t status[6] = {(uint8_t)s->state};
    uint8_t payload[sizeof(status) + 5 * sizeof(uint64_t) + FRAME_RECORD_MAX];
    _cleanup_buf_ struct buf b;

    fill_status(s, status + 1);
    buf_init(&b, sizeof(payload));
    if (buf_append(&b, status, sizeof(status)) || buf_append_le64(&b, s->in.received) ||
        buf_append_le64(&b, s->out[0].ring.start) || buf_append_le64(&b, s->out[0].ring.end) ||
        buf_append_le64(&b, s->out[1].ring.start) || buf_append_le64(&b, s->out[1].ring.end) ||
        (s->record_len > 0 && buf_append(&b, s->record, s->record_len))) {
        return false;
    }
    s->list_due = !put(
        out, s,
        (struct frame){.type = FRAME_SESSION, .payload = buf_head(&b), .length = (uint32_t)b.len});
    return !s->list_due;
}

static bool put_state(struct buf *out, struct session *s)
{
    s->state_due = false;
    if (s->state == FRAME_SESSION_FAILED) {
        return put_failed(out, s->id, s->failure);
    }
    return frame_put_u32(out, FRAME_STARTED, s->id, (uint32_t)s->pid) == 0;
}

/* One frame, in the order in which the host must see them. False: nothing to send now. */
static bool session_next(struct session *s, struct buf *out, struct link_piece *piece)
{
    if (s->list_due) {
        return put_listing(out, s);
    }
    if (!s->attached) {
        return false;
    }
    if (s->state_due) {
        return put_state(out, s);
    }
    if (s->state == FRAME_SESSION_FAILED) {
        return false;
    }
    if (s->end_due) {
        s->end_due = false;
        return put_summary(out, s, FRAME_SESSION);
    }
    if (input_put(&s->in, s->id, out)) {
        return true;
    }
    for (int i = 0; i < 2; i++) {
        struct channel *c = &s->out[s->turn];
        uint8_t number = s->turn ? FRAME_STDERR : FRAME_STDOUT;

        s->turn = !s->turn;
        if (channel_put(c, s->id, number, out, piece)) {
            return true;
        }
    }
    if (s->state == FRAME_SESSION_EXITED && s->out[0].end_sent && s->out[1].end_sent &&
        !s->exit_sent) {
        s->exit_sent = true;
        return put_summary(out, s, FRAME_EXITED);
    }
    return false;
}

bool sessions_next(struct sessions *all, struct buf *out, struct link_piece *piece)
{
    struct session *s;

    while ((s = take_ready(all))) {
        bool alone = !all->fresh.first && !all->busy.first;

        if (session_next(s, out, alone ? piece : NULL)) {
            /* Also when that was all: who has left `busy` has let the others have their turn. */
            enter(s, &all->busy);
            return true;
        }
    }
    return false;
}

/* Life and death ------------------------------------------------------------------------------ */

static void session_free(struct session *s)
{
    struct sessions *all = s->all;

    forget_ready(s);
    input_done(&s->in);
    channel_done(&s->out[0]);
    channel_done(&s->out[1]);
    free(s->failure);
    free(s->record);
    free(s);
    all->count--;
}

void sessions_done(struct sessions *all)
{
    for (size_t i = 0; i <= SESSION_BUCKETS; i++) {
        struct session **list = i < SESSION_BUCKETS ? &all->buckets[i] : &all->released;

        while (*list) {
            struct session *s = *list;

            *list = s->next_in_bucket;
            session_free(s);
        }
    }
    stream_env_done(&all->streams);
    buf_done(&all->spec);
}

static void refuse(const struct frame *f, int error, const char *text, struct buf *out)
{
    struct failure failure;

    (void)failure_set(&failure, FAILURE_AGENT, error, "%s", text);
    (void)!put_failed(out, f->stream, &failure);
}

static void session_begin(struct session *s, const struct child *child)
{
    s->state = FRAME_SESSION_RUNNING;
    s->pid = child->pid;
    s->all->running++;
    input_open(&s->in, child->in, s->tty);
    channel_open(&s->out[0], child->out, s->tty);
    channel_open(&s->out[1], child->err, s->tty);
}

static struct session *session_new(struct sessions *all, uint32_t id)
{
    struct session *s = calloc(1, sizeof(*s));

    if (!s) {
        return NULL;
    }
    s->owner.wake = on_wake;
    s->all = all;
    s->id = id;
    s->attached = true;
    s->state_due = true;
    input_init(&s->in, &all->streams, &s->owner);
    channel_init(&s->out[0], &all->streams, &s->owner);
    channel_init(&s->out[1], &all->streams, &s->owner);
    s->next_in_bucket = *bucket_of(all, id);
    *bucket_of(all, id) = s;
    all->count++;
    return s;
}

static int session_start(struct session *s, const uint8_t *body, size_t len)
{
    struct spec spec = {0};
    struct child child;
    int r = spec_parse(&spec, body, len, s->failure);

    if (r == 0 && spec.record_len > 0) {
        s->record = malloc(spec.record_len);
        if (!s->record) {
            r = failure_set(s->failure, FAILURE_AGENT, ENOMEM, "cannot start a command");
        } else {
            memcpy(s->record, spec.record, spec.record_len);
            s->record_len = spec.record_len;
        }
    }
    if (r == 0) {
        s->tty = spec.tty;
        s->files = spec.files;
        s->in.enabled = s->in.window_due = spec.stdin_pipe;
        r = s->all->ops->start(&spec, &s->all->env, &child, s->failure);
    }
    spec_done(&spec);
    if (r == 0) {
        session_begin(s, &child);
    }
    return r;
}

static void start(struct sessions *all, const struct frame *f, struct buf *out)
{
    struct failure *failure = calloc(1, sizeof(*failure));
    struct session *s = failure ? session_new(all, f->stream) : NULL;

    if (!s) {
        free(failure);
        refuse(f, ENOMEM, "cannot start a command", out);
        return;
    }
    s->failure = failure;
    if (session_start(s, all->spec.len > 0 ? buf_head(&all->spec) : NULL, all->spec.len) < 0) {
        s->state = FRAME_SESSION_FAILED;
    } else {
        free(STEAL_PTR(s->failure));
    }
    session_wake(s);
}

static void on_exec(struct sessions *all, const struct frame *f, struct buf *out)
{
    bool known = find(all, f->stream) != NULL;

    if (all->spec_id != f->stream) {
        all->spec_id = f->stream;
        buf_done(&all->spec);
        all->spec_too_long = false;
    }
    if (!known && !all->spec_too_long && f->length > 0 &&
        buf_append(&all->spec, f->payload, f->length) < 0) {
        all->spec_too_long = true;
    }
    if (f->flags & FRAME_MORE) {
        return;
    }
    all->spec_id = 0;
    if (known) {
        /* The host repeats itself, and will ATTACH when it wants to hear the answer again. */
    } else if (all->closed) {
        refuse(f, ESHUTDOWN, "the machine is going down", out);
    } else if (all->count >= SESSION_MAX) {
        refuse(f, EAGAIN, "the guest has 1024 sessions already", out);
    } else if (all->spec_too_long) {
        refuse(f, E2BIG, "the request to start a command", out);
    } else {
        start(all, f, out);
    }
    buf_done(&all->spec);
}

static void on_attach(struct session *s)
{
    s->attached = true;
    s->state_due = true;
    s->exit_sent = false;
    input_tell(&s->in);
    channel_rewind(&s->out[0]);
    channel_rewind(&s->out[1]);
    session_wake(s);
}

/* Nobody wants it any more; a running command gets the signal, and is forgotten when it ends. */
static void release(struct session *s, int sig)
{
    struct sessions *all = s->all;
    struct session **at = bucket_of(all, s->id);

    while (*at != s) {
        at = &(*at)->next_in_bucket;
    }
    *at = s->next_in_bucket;
    if (s->state != FRAME_SESSION_RUNNING) {
        session_free(s);
        return;
    }
    all->ops->signal(s->pid, sig);
    s->released = true;
    forget_ready(s);
    s->attached = false;
    s->next_in_bucket = all->released;
    all->released = s;
    input_close(&s->in);
    channel_abandon(&s->out[0]);
    channel_abandon(&s->out[1]);
}

static void on_signal(struct session *s, const struct frame *f)
{
    struct frame_reader r = frame_reader(f);
    uint32_t sig;

    if (frame_take_u32(&r, &sig) == 0 && sig > 0 && sig <= 64 &&
        s->state == FRAME_SESSION_RUNNING) {
        s->all->ops->signal(s->pid, (int)sig);
    }
}

static void on_resize(struct session *s, const struct frame *f)
{
    struct frame_reader r = frame_reader(f);
    struct winsize size = {0};

    if (s->tty && s->in.source.fd >= 0 && frame_take_u16(&r, &size.ws_row) == 0 &&
        frame_take_u16(&r, &size.ws_col) == 0) {
        (void)ioctl(s->in.source.fd, TIOCSWINSZ, &size);
    }
}

static void on_session_frame(struct session *s, const struct frame *f)
{
    struct frame_reader r = frame_reader(f);
    uint64_t limit;

    switch (f->type) {
    case FRAME_SIGNAL:
        on_signal(s, f);
        break;
    case FRAME_RESIZE:
        on_resize(s, f);
        break;
    case FRAME_ATTACH:
        on_attach(s);
        break;
    case FRAME_RELEASE:
        release(s, SIGKILL);
        break;
    case FRAME_DATA:
        if (f->channel == FRAME_STDIN) {
            input_data(&s->in, f->offset, f->payload, f->length);
        }
        break;
    case FRAME_END:
        if (f->channel == FRAME_STDIN) {
            input_end(&s->in, f->offset);
        }
        break;
    case FRAME_WINDOW:
        if (f->channel != FRAME_STDIN && s->attached && s->pid > 0 &&
            frame_take_u64(&r, &limit) == 0) {
            channel_window(&s->out[f->channel - FRAME_STDOUT], f->offset, limit);
        }
        break;
    default:
        break;
    }
}

void sessions_frame(struct sessions *all, const struct frame *f, struct buf *out)
{
    struct session *s;

    if (f->stream == 0) {
        return;
    }
    if (f->type == FRAME_EXEC) {
        on_exec(all, f, out);
        return;
    }
    s = find(all, f->stream);
    if (s) {
        on_session_frame(s, f);
    } else if (f->type == FRAME_ATTACH) {
        refuse(f, ESRCH, "the guest does not know this session", out);
    }
}

/* The whole table --------------------------------------------------------------------------- */

void sessions_detach(struct sessions *all)
{
    while (take_ready(all)) {
    }
    for (size_t i = 0; i < SESSION_BUCKETS; i++) {
        struct session *next;

        for (struct session *s = all->buckets[i]; s; s = next) {
            next = s->next_in_bucket;
            s->attached = false;
            s->list_due = false;
            if (s->files) {
                release(s, SIGHUP);
            }
        }
    }
    all->spec_id = 0;
    buf_done(&all->spec);
}

unsigned sessions_list(struct sessions *all)
{
    unsigned n = 0;

    for (size_t i = 0; i < SESSION_BUCKETS; i++) {
        for (struct session *s = all->buckets[i]; s; s = s->next_in_bucket) {
            s->list_due = true;
            session_wake(s);
            n++;
        }
    }
    return n;
}

static void session_reaped(struct session *s, int status)
{
    s->all->running--;
    s->status = status;
    s->state = FRAME_SESSION_EXITED;
    s->end_due = true;
    input_close(&s->in);
    channel_finish(&s->out[0]);
    channel_finish(&s->out[1]);
    session_wake(s);
}

void sessions_reaped(struct sessions *all, pid_t pid, int status)
{
    for (size_t i = 0; i < SESSION_BUCKETS; i++) {
        for (struct session *s = all->buckets[i]; s; s = s->next_in_bucket) {
            if (s->pid == pid && s->state == FRAME_SESSION_RUNNING) {
                session_reaped(s, status);
                return;
            }
        }
    }
    for (struct session **at = &all->released; *at; at = &(*at)->next_in_bucket) {
        struct session *s = *at;

        if (s->pid == pid) {
            *at = s->next_in_bucket;
            all->running--;
            session_free(s);
            return;
        }
    }
}

void sessions_signal(struct sessions *all, int sig)
{
    for (size_t i = 0; i <= SESSION_BUCKETS; i++) {
        struct session *s = i < SESSION_BUCKETS ? all->buckets[i] : all->released;

        for (; s; s = s->next_in_bucket) {
            if (s->state == FRAME_SESSION_RUNNING) {
                all->ops->signal(s->pid, sig);
            }
        }
    }
}
