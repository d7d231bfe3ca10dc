/* Handlers of session.*. */
#include "base/clock.h"
#include "base/str.h"
#include "daemon/daemon_priv.h"

#include <stdio.h>
#include <string.h>

HANDLER(rpc_session_start)
{
    struct daemon *d = ctx;
    struct vm_hold *hold = NULL;
    _cleanup_json_ json_t *spec = json_copy((json_t *)params);

    (void)json_object_del(spec, "vm");
    (void)json_object_del(spec, "hold");
    if (vms_session_start(d->vms, api_str(params, "vm"), spec, rpc_call_cancel(call), ret_result,
                          api_flag(params, "hold") ? &hold : NULL, err) < 0) {
        return -1;
    }
    if (hold) {
        rpc_call_on_close(call, vms_hold_closed, hold);
    }
    return 0;
}

HANDLER(rpc_session_hold)
{
    struct daemon *d = ctx;
    struct vm_hold *hold;

    if (vms_session_hold(d->vms, api_str(params, "vm"), api_str(params, "session"),
                         rpc_call_cancel(call), ret_result, &hold, err) < 0) {
        return -1;
    }
    rpc_call_on_close(call, vms_hold_closed, hold);
    return 0;
}

struct attaching {
    struct session_registry *sessions;
    char vm_id[ID_SIZE], session_id[ID_SIZE];
};

static void take_over(void *arg, int fd, const void *early, size_t early_len)
{
    struct attaching *a = arg;
    struct err ignored; /* forgotten in between: the client sees its connection end */

    if (fd >= 0) {
        (void)session_attach(a->sessions, a->vm_id, a->session_id, fd, early, early_len, &ignored);
    }
    free(a);
}

HANDLER(rpc_session_attach)
{
    struct daemon *d = ctx;
    struct attaching *a;
    char id[ID_SIZE];

    if (vms_resolve_listed(d->vms, api_str(params, "vm"), rpc_call_cancel(call), id, err) < 0 ||
        session_show(vms_sessions(d->vms), id, api_str(params, "session"), ret_result, err) < 0) {
        return -1;
    }
    a = x_calloc(1, sizeof(*a));
    a->sessions = vms_sessions(d->vms);
    memcpy(a->vm_id, id, sizeof(id));
    (void)snprintf(a->session_id, sizeof(a->session_id), "%s", json_str(*ret_result, "id", ""));
    rpc_call_take_over(call, take_over, a);
    return 0;
}

HANDLER(rpc_session_list)
{
    struct daemon *d = ctx;
    char id[ID_SIZE];

    if (vms_resolve_listed(d->vms, api_str(params, "vm"), rpc_call_cancel(call), id, err) < 0) {
        return -1;
    }
    *ret_result = session_list(vms_sessions(d->vms), id);
    return 0;
}

HANDLER(rpc_session_wait)
{
    struct daemon *d = ctx;
    long long ms = api_int(params, "timeout_ms");
    const char *session = api_str(params, "session");
    char id[ID_SIZE];

    if (vms_resolve_listed(d->vms, api_str(params, "vm"), rpc_call_cancel(call), id, err) < 0 ||
        session_wait(vms_sessions(d->vms), id, session, rpc_call_cancel(call),
                     ms > 0 ? clock_mono_ms() + ms : -1, err) < 0) {
        return -1;
    }
    return session_show(vms_sessions(d->vms), id, session, ret_result, err);
}
