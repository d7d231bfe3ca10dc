/* Sessions that an earlier daemon started: the agent lists them, and the registry knows them again.
 * Those that were held by a client of that daemon wait a while for it to come back. */
#include "guest/guest_priv.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <string.h>

/* A listing, beyond the status that every SESSION frame has. */
struct listing {
    uint8_t state;
    uint64_t stdin_received;
    uint64_t start[FRAME_CHANNELS], end[FRAME_CHANNELS]; /* [0] is not used */
    struct frame_reader record;
};

/* 1, 0 when an older agent said no more than the state, or -EPROTO. */
static int take_listing(const struct frame *f, struct listing *ret)
{
    struct frame_reader r = frame_reader(f);
    const uint8_t *status;

    if (frame_take_u8(&r, &ret->state) < 0 || frame_take_bytes(&r, 5, &status) < 0 ||
        ret->state < FRAME_SESSION_RUNNING || ret->state > FRAME_SESSION_FAILED) {
        return -EPROTO;
    }
    if (r.left == 0) {
        return 0;
    }
    if (frame_take_u64(&r, &ret->stdin_received) < 0) {
        return -EPROTO;
    }
    for (unsigned c = FRAME_STDOUT; c <= FRAME_STDERR; c++) {
        if (frame_take_u64(&r, &ret->start[c]) < 0 || frame_take_u64(&r, &ret->end[c]) < 0 ||
            ret->start[c] > ret->end[c] || ret->end[c] > INT64_MAX) {
            return -EPROTO;
        }
    }
    ret->record = r;
    return ret->stdin_received > INT64_MAX ? -EPROTO : 1;
}

static bool id_is_taken(struct session_registry *r, const char *vm_id, const char *id)
{
    bool taken = false;

    leaf_lock(&r->lock);
    list_for_each (it, &r->sessions) {
        const struct session *s = LIST_ENTRY(it, struct session, node);

        taken = taken || (str_eq(s->vm_id, vm_id) && str_eq(s->id, id));
    }
    leaf_unlock(&r->lock);
    return taken;
}

/* Takes record->spec. */
static struct session *from_record(struct guest_link *link, const struct listing *l)
{
    int64_t now_ms = link->sessions->clock->real_ms();
    struct session_record record;
    struct session *s;

    session_record_parse(l->record.p, l->record.left, now_ms, &record);
    if (record.id[0] && id_is_taken(link->sessions, link->vm_id, record.id)) {
        json_decref(record.spec);
        session_record_parse(NULL, 0, now_ms, &record);
    }
    s = session_new(link->sessions, link->vm_id, record.spec);
    json_decref(record.spec);
    if (record.id[0]) {
        memcpy(s->id, record.id, ID_SIZE);
    }
    s->started_ms = record.started_ms;
    s->main = record.main;
    s->hold = s->orphaned = record.hold;
    s->drain = record.drain;
    s->shortened = record.shortened;
    s->stdin_offset = s->stdin_acked = s->stdin_limit = l->stdin_received;
    for (unsigned c = FRAME_STDOUT; c <= FRAME_STDERR; c++) {
        s->acked[c] = s->granted[c] = l->start[c];
        s->out_bytes[c] = l->end[c];
    }
    return s;
}

int session_adopt(struct guest_link *link, const struct frame *f, const char **ret_why)
{
    struct listing l = {0};
    struct session *s;
    struct err full; /* the agent has no more than there is room for, unless it lies */
    int r = take_listing(f, &l);
    int code, sig;

    if (r < 0 || (l.state == FRAME_SESSION_EXITED && session_take_how(f, 1, &code, &sig) < 0)) {
        *ret_why = "malformed session frame";
        return -EPROTO;
    }
    if (r == 0) {
        return 0;
    }
    s = from_record(link, &l);
    /* One that could not be started says why when it is attached. */
    s->state = l.state == FRAME_SESSION_EXITED    ? SESSION_EXITED
               : l.state == FRAME_SESSION_RUNNING ? SESSION_RUNNING
                                                  : SESSION_STARTING;
    if (s->state == SESSION_EXITED) {
        s->exit_code = code;
        s->exit_signal = sig;
        s->ended_ms = link->sessions->clock->real_ms();
    }
    if (session_add(link->sessions, s, &full) < 0) {
        session_put(s);
        return 0;
    }
    link_add_stream(link, s, f->stream); /* takes our reference */
    /* Without it the agent would not tell of the command's end. */
    if (frame_put(&link->out, &(struct frame){.type = FRAME_ATTACH, .stream = s->stream}) < 0) {
        *ret_why = "the agent does not read";
        return -ENOBUFS;
    }
    s->unsettled++;
    session_on_client_left(s);
    return 0;
}

bool session_find_main(struct session_registry *r, const char *vm_id, char ret_id[ID_SIZE])
{
    bool found = false;

    leaf_lock(&r->lock);
    list_for_each (it, &r->sessions) {
        const struct session *s = LIST_ENTRY(it, struct session, node);

        if (!found && s->main && str_eq(s->vm_id, vm_id)) {
            memcpy(ret_id, s->id, ID_SIZE);
            found = true;
        }
    }
    leaf_unlock(&r->lock);
    return found;
}

bool session_is_over(struct session_registry *r, const char *vm_id, const char *id)
{
    bool over = true;

    leaf_lock(&r->lock);
    list_for_each (it, &r->sessions) {
        const struct session *s = LIST_ENTRY(it, struct session, node);

        if (str_eq(s->vm_id, vm_id) && str_eq(s->id, id)) {
            over = s->state >= SESSION_EXITED;
        }
    }
    leaf_unlock(&r->lock);
    return over;
}
