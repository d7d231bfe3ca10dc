/* Handlers of file.*: a session of the agent's own, and at once the connection becomes its streams.
 */
#include "base/str.h"
#include "codec/frame.h"
#include "daemon/daemon_priv.h"

#include <stdio.h>
#include <string.h>

/* The spec of session_start for a transfer; command is what listings show meanwhile. */
static json_t *make_spec(const json_t *params, enum frame_files direction, json_t *paths)
{
    bool put = direction == FRAME_FILES_PUT;
    json_t *spec = json_object(), *files = json_object();
    json_t *command = json_pack("[ss]", "banger-agent", put ? "put" : "get");
    int flags = 0;

    flags |= api_flag(params, "recursive") ? FRAME_FILES_RECURSIVE : 0;
    flags |= api_flag(params, "archive") ? FRAME_FILES_KEEP_IDS : 0;
    flags |= put && api_flag(params, "directory") ? FRAME_FILES_DIRECTORY : 0;
    json_array_extend(command, paths);
    json_put(spec, "command", command);
    json_put_int(files, "direction", direction);
    json_put_int(files, "flags", flags);
    json_put(files, "paths", paths);
    json_put(spec, "files", files);
    json_put_str(spec, "stdin", put ? "pipe" : "closed");
    json_put_str(spec, "user", api_str(params, "user"));
    return spec;
}

struct transfer {
    struct session_registry *sessions;
    char vm_id[ID_SIZE], session_id[ID_SIZE];
};

static void take_over(void *arg, int fd, const void *early, size_t early_len)
{
    struct transfer *t = arg;
    struct err ignored; /* gone in between: the client sees its connection end */

    if (fd < 0) {
        session_abandon(t->sessions, t->vm_id, t->session_id);
    } else {
        (void)session_attach(t->sessions, t->vm_id, t->session_id, fd, early, early_len, &ignored);
    }
    free(t);
}

static int refuse(struct daemon *d, const json_t *session, struct err *err)
{
    const char *why = json_str(session, "error", "the guest did not start the transfer");

    session_abandon(vms_sessions(d->vms), json_str(session, "vm", ""), json_str(session, "id", ""));
    if (str_eq(why, SESSION_NO_FILES)) {
        err_set(err, ERR_UNSUPPORTED, "%s", why);
        return err_hint(err, "stop and start the VM: it then gets this banger's agent");
    }
    return err_set(err, ERR_GUEST, "%s", why);
}

static int start_transfer(struct rpc_call *call, struct daemon *d, const json_t *params,
                          const json_t *spec, json_t **ret_result, struct err *err)
{
    _cleanup_json_ json_t *session = NULL;
    struct transfer *t;

    if (vms_session_start(d->vms, api_str(params, "vm"), spec, rpc_call_cancel(call), &session,
                          NULL, err) < 0) {
        return -1;
    }
    if (str_eq(json_str(session, "state", ""), "failed")) {
        return refuse(d, session, err);
    }
    t = x_calloc(1, sizeof(*t));
    t->sessions = vms_sessions(d->vms);
    (void)snprintf(t->vm_id, sizeof(t->vm_id), "%s", json_str(session, "vm", ""));
    (void)snprintf(t->session_id, sizeof(t->session_id), "%s", json_str(session, "id", ""));
    rpc_call_take_over(call, take_over, t);
    *ret_result = STEAL_PTR(session);
    return 0;
}

HANDLER(rpc_file_put)
{
    _cleanup_json_ json_t *spec = NULL;
    json_t *paths = json_pack("[O]", json_object_get(params, "path"));

    json_array_extend(paths, json_object_get(params, "names"));
    spec = make_spec(params, FRAME_FILES_PUT, paths);
    return start_transfer(call, ctx, params, spec, ret_result, err);
}

HANDLER(rpc_file_get)
{
    json_t *paths = json_copy(json_object_get(params, "paths"));
    _cleanup_json_ json_t *spec = make_spec(params, FRAME_FILES_GET, paths);

    return start_transfer(call, ctx, params, spec, ret_result, err);
}
