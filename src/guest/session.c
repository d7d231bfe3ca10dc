/*
 * Lock hierarchy: registry->lock is a leaf. It guards the list and the records; nothing that waits
 * or sends is called under it. Stream state is the guest loop's thread only.
 */
#include "guest/guest_priv.h"

#include "base/clock.h"
#include "base/str.h"
#include "base/test_point.h"
#include "codec/api.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct session_registry *session_registry_new(const struct session_registry_params *params)
{
    struct session_registry *r = x_calloc(1, sizeof(*r));

    r->loop = params->loop;
    r->fn = params->fn;
    r->arg = params->arg;
    r->clock = params->clock ? params->clock : &clock_system;
    r->random = params->random ? params->random : random_bytes;
    lock_init(&r->lock);
    list_init(&r->sessions);
    return r;
}

void session_registry_free(struct session_registry *r)
{
    if (!r) {
        return;
    }
    list_for_each (it, &r->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, node);

        list_remove(&s->node);
        session_put(s);
    }
    lock_done(&r->lock);
    free(r);
}

struct session *session_new(struct session_registry *r, const char *vm_id, const json_t *spec)
{
    struct session *s = x_calloc(1, sizeof(*s));

    s->registry = r;
    id_generate_from(r->random, s->id);
    (void)snprintf(s->vm_id, sizeof(s->vm_id), "%s", vm_id);
    s->spec = json_deep_copy(spec);
    s->files = json_object_get(spec, "files") != NULL;
    s->report =
        frame_files_is_report((int)json_int(json_object_get(spec, "files"), "direction", 0));
    s->refs = 1;
    s->exit_code = -1;
    s->started_ms = r->clock->real_ms();
    list_init(&s->waiters);
    if (!s->spec) {
        abort();
    }
    return s;
}

static void session_free(struct session *s)
{
    json_decref(s->spec);
    free(s->failure);
    free(s);
}

struct session *session_get(struct session *s)
{
    leaf_lock(&s->registry->lock);
    s->refs++;
    leaf_unlock(&s->registry->lock);
    return s;
}

void session_put(struct session *s)
{
    int refs;

    if (!s) {
        return;
    }
    leaf_lock(&s->registry->lock);
    refs = --s->refs;
    leaf_unlock(&s->registry->lock);
    if (refs == 0) {
        session_free(s);
    }
}
static bool has_started(enum session_state state)
{
    return state != SESSION_STARTING;
}

/* Made by who waits, not by every session: a descriptor each would be thousands. */
struct waiter {
    struct list node; /* in session->waiters */
    struct latch changed;
};

static void wake_waiters_locked(struct session *s)
{
    list_for_each (it, &s->waiters) {
        list_remove(it);
        latch_set(&LIST_ENTRY(it, struct waiter, node)->changed);
    }
}

/* 0, -ECANCELED or -ETIMEDOUT. */
static int wait_until(struct session *s, bool (*is_over)(enum session_state state),
                      struct cancel *cancel, int64_t deadline_ms)
{
    int r = 0;

    while (r == 0) {
        struct waiter w = {0};
        bool over;

        latch_init(&w.changed);
        leaf_lock(&s->registry->lock);
        over = is_over(s->state);
        if (!over) {
            list_append(&s->waiters, &w.node);
        }
        leaf_unlock(&s->registry->lock);
        if (!over) {
            r = latch_wait(&w.changed, cancel, deadline_ms);
            leaf_lock(&s->registry->lock);
            list_remove(&w.node);
            leaf_unlock(&s->registry->lock);
        }
        latch_done(&w.changed);
        if (over) {
            return 0;
        }
    }
    return r;
}

void session_set_readers(struct session *s, unsigned readers)
{
    leaf_lock(&s->registry->lock);
    s->readers = readers;
    leaf_unlock(&s->registry->lock);
}

void session_tell(struct session *s, enum session_event event)
{
    s->registry->fn(s->registry->arg, event, s->vm_id, s->id);
}

static void remove_session(struct session_registry *r, struct session *s)
{
    bool linked;

    leaf_lock(&r->lock);
    linked = list_is_linked(&s->node);
    list_remove(&s->node);
    leaf_unlock(&r->lock);
    if (linked) {
        session_put(s);
    }
}

/* Of a file transfer that has ended and has no client. The caller has a reference. */
static void forget(struct session *s)
{
    session_release(s);
    remove_session(s->registry, s);
}

/* The first end counts. Loop thread; the owner hears of it after the lock is released. */
static void mark_ended(struct session *s, enum session_state state, int code, int sig,
                       const char *failure)
{
    bool first;

    leaf_lock(&s->registry->lock);
    first = !session_state_ended(s->state);
    if (first) {
        s->state = state;
        s->exit_code = code;
        s->exit_signal = sig;
        s->failure = x_strdup(failure);
        s->ended_ms = s->registry->clock->real_ms();
        wake_waiters_locked(s);
    }
    leaf_unlock(&s->registry->lock);
    if (first) {
        session_tell(s, SESSION_ENDED);
    }
    if (first && s->abandoned) {
        forget(s);
    }
}

void session_release(struct session *s)
{
    struct guest_link *link = s->link;

    if (!link) {
        return;
    }
    list_remove(&s->stream_node);
    s->link = NULL;
    if (frame_put(&link->out, &(struct frame){.type = FRAME_RELEASE, .stream = s->stream}) < 0) {
        link_break(link, "the agent does not read");
    } else {
        link_kick(link);
    }
    session_put(s);
}

void session_on_link_lost(struct session *s, const char *why)
{
    s->link = NULL;
    mark_ended(s, SESSION_LOST, -1, 0, why ? why : "the daemon is stopping; the VM goes on");
    if (s->client && why) {
        attach_end(s->client, why);
    } else if (s->client) {
        attach_drop(s->client);
    }
    session_put(s);
}

int session_take_how(const struct frame *f, size_t skip, int *ret_code, int *ret_signal)
{
    struct frame_reader r = frame_reader(f);
    const uint8_t *skipped;
    uint32_t status;
    uint8_t how;

    if (frame_take_bytes(&r, skip, &skipped) < 0 || frame_take_u8(&r, &how) < 0 ||
        frame_take_u32(&r, &status) < 0 || how > 1 || status > (how ? 127 : 255)) {
        return -EPROTO;
    }
    *ret_code = how ? -1 : (int)status;
    *ret_signal = how ? (int)status : 0;
    return 0;
}

static int on_failed(struct session *s, const struct frame *f)
{
    struct frame_reader r = frame_reader(f);
    _cleanup_free_ char *text = NULL;
    uint32_t status, errnum;

    if (frame_take_u32(&r, &status) < 0 || frame_take_u32(&r, &errnum) < 0 || status > 255) {
        return -EPROTO;
    }
    /* What an agent says that looks for a command (codec/frame.h, FRAME_TAG_FILES). */
    text = s->files && errnum == EINVAL ? x_strdup(SESSION_NO_FILES)
                                        : str_escape((const char *)r.p, r.left, 1024);
    mark_ended(s, SESSION_FAILED, (int)status, 0, text);
    return 0;
}

static int on_stdin_window(struct session *s, const struct frame *f)
{
    struct frame_reader r = frame_reader(f);
    uint64_t limit;

    if (f->channel != FRAME_STDIN || frame_take_u64(&r, &limit) < 0 || f->offset > limit ||
        f->offset > s->stdin_offset || limit - f->offset > FRAME_WINDOW_MAX ||
        limit < s->stdin_limit) {
        return -EPROTO;
    }
    s->stdin_acked = f->offset;
    s->stdin_limit = limit;
    return 0;
}

/* Everything up to `end` has been taken, and more may come. */
static void drain_to(struct session *s, uint8_t channel, uint64_t end)
{
    uint64_t limit = end + FRAME_WINDOW_MAX / 2;

    s->acked[channel] = end;
    s->granted[channel] = limit > s->granted[channel] ? limit : s->granted[channel];
    if (frame_put_window(&s->link->out, s->stream, channel, end, limit) == 0) {
        link_kick(s->link);
    }
}

/* Without a client: takes what has come up to `end`, when that is worth a frame. */
static void drain(struct session *s, uint8_t channel, uint64_t end)
{
    if (s->drain && !s->client && s->link &&
        (s->granted[channel] == 0 || end - s->acked[channel] >= FRAME_ACK_EVERY / 2)) {
        drain_to(s, channel, end);
    }
}

/* Nobody will read or write any more: the transfer undoes what it has begun, and ends. */
static void abandon(struct session *s)
{
    bool ended;

    leaf_lock(&s->registry->lock);
    ended = session_state_ended(s->state);
    leaf_unlock(&s->registry->lock);
    s->abandoned = true;
    if (ended) {
        forget(s);
    } else if (s->link &&
               frame_put_u32(&s->link->out, FRAME_SIGNAL, s->stream, GUEST_SIGHUP) == 0) {
        link_kick(s->link);
    }
}

void session_on_client_left(struct session *s)
{
    if (s->files) {
        abandon(s);
        return;
    }
    for (uint8_t c = FRAME_STDOUT; c <= FRAME_STDERR && s->drain && s->link; c++) {
        uint64_t end;

        leaf_lock(&s->registry->lock);
        end = s->out_bytes[c];
        leaf_unlock(&s->registry->lock);
        drain_to(s, c, end > s->acked[c] ? end : s->acked[c]);
    }
}

static int on_data(struct session *s, const struct frame *f)
{
    uint64_t end = f->offset + f->length;

    if (f->channel == FRAME_STDIN || end < f->offset || end > s->granted[f->channel]) {
        return -EPROTO;
    }
    leaf_lock(&s->registry->lock);
    if (end > s->out_bytes[f->channel]) {
        s->out_bytes[f->channel] = end;
    }
    leaf_unlock(&s->registry->lock);
    drain(s, f->channel, end);
    return 0;
}

int session_on_frame(struct session *s, const struct frame *f, const char **ret_why)
{
    int code = -1, sig = 0;
    int r = 0;

    session_get(s); /* the end of the session may drop the link's reference */
    if (s->unsettled > 0 && (f->type == FRAME_STARTED || f->type == FRAME_FAILED)) {
        s->unsettled--;
    }
    switch (f->type) {
    case FRAME_STARTED:
        leaf_lock(&s->registry->lock);
        s->state = s->state == SESSION_STARTING ? SESSION_RUNNING : s->state;
        wake_waiters_locked(s);
        leaf_unlock(&s->registry->lock);
        break;
    case FRAME_FAILED:
        r = on_failed(s, f);
        break;
    case FRAME_SESSION:
        if (f->length >= 6 && f->payload[0] == FRAME_SESSION_EXITED) {
            r = session_take_how(f, 1, &code, &sig);
            if (r == 0) {
                mark_ended(s, SESSION_EXITED, code, sig, NULL);
            }
        }
        break;
    case FRAME_EXITED:
        r = session_take_how(f, 0, &code, &sig);
        if (r == 0) {
            mark_ended(s, SESSION_EXITED, code, sig, NULL);
        }
        break;
    case FRAME_WINDOW:
        r = on_stdin_window(s, f);
        break;
    case FRAME_DATA:
        r = on_data(s, f);
        break;
    default: /* FRAME_END */
        r = f->channel == FRAME_STDIN ? -EPROTO : 0;
        break;
    }
    if (r == 0 && s->client && attach_is_lied_to(s->client, f)) {
        *ret_why = "session frames out of order";
        session_put(s);
        return -EPROTO;
    }
    if (r == 0 && s->client && f->type != FRAME_SESSION) {
        attach_forward(s->client, f);
    }
    if (r < 0) {
        *ret_why = f->type == FRAME_DATA     ? "session bytes beyond the window"
                   : f->type == FRAME_WINDOW ? "a window that goes backwards or too far"
                                             : "malformed session frame";
    } else if (f->type == FRAME_FAILED) {
        session_release(s);
    }
    session_put(s);
    return r;
}

void session_on_delivered(struct session *s)
{
    session_tell(s, SESSION_DELIVERED);
    session_release(s);
}

void session_put_end_frames(struct session *s, struct buf *out)
{
    uint8_t p[1100] = {0};
    struct frame f = {.payload = p};

    leaf_lock(&s->registry->lock);
    if (s->state == SESSION_EXITED) {
        uint32_t status = (uint32_t)(s->exit_signal ? s->exit_signal : s->exit_code);

        p[0] = s->exit_signal ? 1 : 0;
        p[1] = (uint8_t)status;
        f.type = FRAME_EXITED;
        f.length = 5;
    } else {
        const char *text = s->failure ? s->failure : "the session was lost";
        size_t len = strnlen(text, 1024);

        p[0] = (uint8_t)(s->state == SESSION_FAILED ? s->exit_code : 125);
        memcpy(p + 8, text, len);
        f.type = FRAME_FAILED;
        f.length = (uint32_t)(8 + len);
    }
    leaf_unlock(&s->registry->lock);
    (void)!frame_put(out, &f); /* a fresh client's buffer has room */
}

/* ---- starting ---- */

struct starting {
    struct guest_link *link;
    struct session *session;
    const struct buf *body;
    bool refused;
};

static void start_on_loop(void *arg)
{
    struct starting *st = arg;
    struct guest_link *link = st->link;

    if (link->fd < 0 || !link->up) {
        st->refused = true;
        return;
    }
    link_add_stream(link, session_get(st->session), ++link->last_stream);
    if (frame_put_body(&link->out, FRAME_EXEC, st->session->stream, buf_head(st->body),
                       st->body->len) < 0) {
        list_remove(&st->session->stream_node);
        st->session->link = NULL;
        st->refused = true;
        session_put(st->session);
        return;
    }
    st->session->unsettled++;
    drain(st->session, FRAME_STDOUT, 0);
    drain(st->session, FRAME_STDERR, 0);
    link_kick(link);
}

static void release_on_loop(void *arg)
{
    session_release(arg);
}

int session_add(struct session_registry *r, struct session *s, struct err *err)
{
    struct session *drop = NULL;
    unsigned count = 0;
    bool full;

    leaf_lock(&r->lock);
    list_for_each (it, &r->sessions) {
        struct session *other = LIST_ENTRY(it, struct session, node);

        if (str_eq(other->vm_id, s->vm_id)) {
            count++;
            drop = !drop && session_state_ended(other->state) && other->readers == 0 ? other : drop;
        }
    }
    full = count >= SESSIONS_PER_VM_MAX && !drop;
    drop = count >= SESSIONS_PER_VM_MAX ? drop : NULL;
    if (drop) {
        list_remove(&drop->node);
    }
    if (!full) {
        s->refs++;
        list_append(&r->sessions, &s->node);
    }
    leaf_unlock(&r->lock);
    if (drop) {
        loop_call(r->loop, release_on_loop, drop);
        session_put(drop);
    }
    if (full) {
        err_set(err, ERR_LIMIT, "the VM has %d running sessions already", SESSIONS_PER_VM_MAX);
        return err_hint(err, "end some of them: banger session list %.12s", s->vm_id);
    }
    return 0;
}

static int put_record(struct buf *body, const struct session *s, struct err *err)
{
    _cleanup_free_ char *record = session_record_encode(s);

    return frame_put_tlv(body, FRAME_TAG_RECORD, record, strlen(record)) < 0
               ? exec_spec_too_large(s->spec, err)
               : 0;
}

int session_start(struct session_registry *r, const struct session_start_params *params,
                  char ret_id[ID_SIZE], struct err *err)
{
    _cleanup_(session_put_p) struct session *s = NULL;
    _cleanup_buf_ struct buf body = {.max = FRAME_SPEC_MAX};
    struct starting st;
    int waited;

    if (exec_spec_encode(params->spec, &body, err) < 0) {
        return -1;
    }
    s = session_new(r, params->vm_id, params->spec);
    s->drain = params->drain;
    s->main = params->main;
    s->hold = params->hold;
    if (!s->files && put_record(&body, s, err) < 0) {
        return -1;
    }
    if (session_add(r, s, err) < 0) {
        return -1;
    }
    st = (struct starting){.link = params->link, .session = s, .body = &body};
    loop_call(r->loop, start_on_loop, &st);
    if (st.refused) {
        remove_session(r, s);
        return err_set(err, ERR_GUEST, "the guest's agent takes no commands");
    }
    waited = FAULT_POINT("agent.start")
                 ?: wait_until(s, has_started, params->cancel, params->deadline_ms);
    if (waited < 0) {
        loop_call(r->loop, release_on_loop, s);
        remove_session(r, s);
        return waited == -ETIMEDOUT
                   ? err_set(err, ERR_TIMEOUT, "the guest did not start the command in time")
                   : err_set_errno(err, ERR_INTERNAL, waited, "start of the command");
    }
    memcpy(ret_id, s->id, ID_SIZE);
    return 0;
}

/* ---- records ---- */

struct session *session_find(struct session_registry *r, const char *vm_id, const char *ref,
                             struct err *err)
{
    struct session *found = NULL;
    unsigned matches = 0;

    leaf_lock(&r->lock);
    list_for_each (it, &r->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, node);

        if (str_eq(s->vm_id, vm_id) && id_is_prefix(ref) && str_starts_with(s->id, ref)) {
            found = s;
            matches++;
        }
    }
    if (matches == 1) {
        found->refs++;
    }
    leaf_unlock(&r->lock);
    if (matches == 1) {
        return found;
    }
    err_set(err, matches ? ERR_CONFLICT : ERR_NOT_FOUND,
            matches ? "session '%.64s' is ambiguous" : "no session '%.64s'", ref);
    err_hint(err, "see what there is with: banger session list %.12s", vm_id);
    return NULL;
}

int session_wait(struct session_registry *r, const char *vm_id, const char *ref,
                 struct cancel *cancel, int64_t deadline_ms, struct err *err)
{
    _cleanup_(session_put_p) struct session *s = session_find(r, vm_id, ref, err);
    int waited;

    if (!s) {
        return -1;
    }
    waited = wait_until(s, session_state_ended, cancel, deadline_ms);
    if (waited == -ETIMEDOUT) {
        return err_set(err, ERR_TIMEOUT, "session '%s' still runs", s->id);
    }
    return waited < 0 ? err_set_errno(err, ERR_INTERNAL, waited, "wait for session") : 0;
}

struct attaching {
    struct session *session;
    int fd;
    const void *early;
    size_t early_len;
};

static void attach_on_loop(void *arg)
{
    struct attaching *a = arg;
    struct session *s = a->session;

    if (s->client) {
        attach_end(s->client, "another client took over the session");
    }
    attach_new(s->registry->loop, s, a->fd, a->early, a->early_len);
}

/* Best effort: the client that cannot be told sees its connection end. */
static void refuse_client(int fd, const char *why)
{
    size_t len = strnlen(why, 512);
    _cleanup_buf_ struct buf out;

    buf_init(&out, FRAME_MAX);
    if (frame_put(&out, &(struct frame){.type = FRAME_FATAL,
                                        .payload = (const uint8_t *)why,
                                        .length = (uint32_t)len}) == 0) {
        (void)!buf_write_fd(&out, fd);
    }
    close_p(&fd);
}

int session_attach(struct session_registry *r, const char *vm_id, const char *ref, int fd,
                   const void *early, size_t early_len, struct err *err)
{
    _cleanup_(session_put_p) struct session *s = session_find(r, vm_id, ref, err);

    if (!s) {
        refuse_client(fd, err->message);
        return -1;
    }
    loop_call(r->loop, attach_on_loop,
              &(struct attaching){.session = s, .fd = fd, .early = early, .early_len = early_len});
    return 0;
}

static void abandon_on_loop(void *arg)
{
    struct session *s = arg;

    if (!s->client) {
        abandon(s);
    }
}

void session_abandon(struct session_registry *r, const char *vm_id, const char *session_id)
{
    struct err ignored; /* gone: nothing to end */
    _cleanup_(session_put_p) struct session *s = session_find(r, vm_id, session_id, &ignored);

    if (s) {
        loop_call(r->loop, abandon_on_loop, s);
    }
}

unsigned session_count_running(struct session_registry *r, const char *vm_id)
{
    unsigned count = 0;

    leaf_lock(&r->lock);
    list_for_each (it, &r->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, node);

        count += str_eq(s->vm_id, vm_id) && !s->report && !session_state_ended(s->state);
    }
    leaf_unlock(&r->lock);
    return count;
}

void session_forget_vm(struct session_registry *r, const char *vm_id)
{
    struct list dropped;

    list_init(&dropped);
    leaf_lock(&r->lock);
    list_for_each (it, &r->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, node);

        if (str_eq(s->vm_id, vm_id)) {
            list_remove(&s->node);
            list_append(&dropped, &s->node);
        }
    }
    leaf_unlock(&r->lock);
    list_for_each (it, &dropped) {
        struct session *s = LIST_ENTRY(it, struct session, node);

        list_remove(&s->node);
        session_put(s);
    }
}
