/* Who holds a session: a client's connection, in this daemon or in the one before. Whoever does not
 * hold it any more, or sends it a signal, does so here. */
#include "guest/guest_priv.h"

#include "base/str.h"
#include "codec/api.h"

#include <string.h>

struct signalling {
    struct session *session;
    unsigned signal; /* 0: none */
    bool let_go;
};

static void signal_on_loop(void *arg)
{
    struct signalling *sig = arg;
    struct session *s = sig->session;
    struct guest_link *link = s->link;

    if (link && sig->signal > 0 &&
        frame_put_u32(&link->out, FRAME_SIGNAL, s->stream, sig->signal) == 0) {
        link_kick(link);
    }
    if (sig->let_go) {
        s->drain = true;
        if (!s->client) {
            session_on_client_left(s);
        }
    }
}

void session_signal(struct session_registry *r, const char *vm_id, const char *session_id,
                    unsigned signal)
{
    struct err ignored; /* gone: nothing to signal */
    _cleanup_(session_put_p) struct session *s = session_find(r, vm_id, session_id, &ignored);

    if (s) {
        loop_call(r->loop, signal_on_loop, &(struct signalling){.session = s, .signal = signal});
    }
}

void session_let_go(struct session_registry *r, const char *vm_id, const char *session_id)
{
    struct err ignored; /* gone: nobody cares */
    _cleanup_(session_put_p) struct session *s = session_find(r, vm_id, session_id, &ignored);

    if (s) {
        bool hang_up = str_eq(api_str(s->spec, "stdin"), "pipe");

        loop_call(r->loop, signal_on_loop,
                  &(struct signalling){
                      .session = s, .signal = hang_up ? GUEST_SIGHUP : 0, .let_go = true});
    }
}

int session_take_hold(struct session_registry *r, const char *vm_id, const char *ref,
                      char ret_id[ID_SIZE], struct err *err)
{
    struct session *s = session_find(r, vm_id, ref, err);

    if (!s) {
        return -1;
    }
    leaf_lock(&r->lock);
    s->orphaned = false;
    leaf_unlock(&r->lock);
    memcpy(ret_id, s->id, ID_SIZE);
    session_put(s);
    return 0;
}

/* One that nobody holds and that has not been dealt with; a reference, or NULL. */
static struct session *next_orphan(struct session_registry *r, const char *vm_id)
{
    struct session *found = NULL;

    leaf_lock(&r->lock);
    list_for_each (it, &r->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, node);

        if (!found && s->orphaned && str_eq(s->vm_id, vm_id)) {
            s->orphaned = false;
            s->refs++;
            found = s;
        }
    }
    leaf_unlock(&r->lock);
    return found;
}

unsigned session_let_go_orphans(struct session_registry *r, const char *vm_id)
{
    struct session *s;
    unsigned count = 0;

    while ((s = next_orphan(r, vm_id))) {
        session_let_go(r, vm_id, s->id);
        session_put(s);
        count++;
    }
    return count;
}
