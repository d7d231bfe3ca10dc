/* Sessions as JSON. Lock hierarchy: the registry's lock, a leaf. */
#include "guest/guest_priv.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/api.h"

static const char *const state_names[] = {
    [SESSION_STARTING] = "starting", [SESSION_RUNNING] = "running", [SESSION_EXITED] = "exited",
    [SESSION_FAILED] = "failed",     [SESSION_LOST] = "lost",
};

static json_t *session_json_locked(const struct session *s)
{
    char time[CLOCK_RFC3339_SIZE];
    json_t *o = json_object(), *exit = json_object(), *bytes = json_object();
    const json_t *command = json_object_get(s->spec, "command");

    json_put_str(o, "id", s->id);
    json_put_str(o, "vm", s->vm_id);
    json_put(o, "name", json_null());
    json_put_str(o, "state", state_names[s->state]);
    json_put(o, "command", json_deep_copy(command));
    json_put_bool(o, "command_shortened", s->shortened);
    json_put(o, "cwd",
             json_object_get(s->spec, "cwd") ? json_deep_copy(json_object_get(s->spec, "cwd"))
                                             : json_null());
    json_put_str(o, "user", api_str(s->spec, "user"));
    json_put_bool(o, "tty", json_object_get(s->spec, "tty") != NULL);
    json_put_str(o, "stdin", api_str(s->spec, "stdin"));
    json_put(o, "tags", json_object());
    json_put(exit, "code", s->exit_code >= 0 ? json_integer(s->exit_code) : json_null());
    json_put(exit, "signal", s->exit_signal ? json_integer(s->exit_signal) : json_null());
    json_put(o, "exit", session_state_ended(s->state) ? exit : json_null());
    if (!session_state_ended(s->state)) {
        json_decref(exit);
    }
    json_put_str(o, "error", s->failure);
    clock_format_rfc3339(s->started_ms, time);
    json_put_str(o, "started_at", time);
    clock_format_rfc3339(s->ended_ms, time);
    json_put_str(o, "ended_at", time[0] ? time : NULL);
    json_put_int(o, "readers", s->readers);
    json_put_bool(o, "writer", s->readers > 0);
    json_put_int(bytes, "out", (long long)s->out_bytes[FRAME_STDOUT]);
    json_put_int(bytes, "err", (long long)s->out_bytes[FRAME_STDERR]);
    json_put(o, "bytes", bytes);
    return o;
}

int session_show(struct session_registry *r, const char *vm_id, const char *ref, json_t **ret,
                 struct err *err)
{
    _cleanup_(session_put_p) struct session *s = session_find(r, vm_id, ref, err);

    if (!s) {
        return -1;
    }
    leaf_lock(&r->lock);
    *ret = session_json_locked(s);
    leaf_unlock(&r->lock);
    return 0;
}

json_t *session_list(struct session_registry *r, const char *vm_id)
{
    json_t *list = json_array();

    leaf_lock(&r->lock);
    list_for_each (it, &r->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, node);

        if (str_eq(s->vm_id, vm_id) && !s->report) {
            json_array_append_new(list, session_json_locked(s));
        }
    }
    leaf_unlock(&r->lock);
    return list;
}
