/* Handlers of file.* and session.connect: a session of the agent's own, and at once the connection
 * becomes its streams. */
#include "base/str.h"
#include "codec/frame.h"
#include "daemon/daemon_priv.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* The spec of session_start; paths is stolen, and with the verb it is what listings show. */
static json_t *make_spec(enum frame_files what, int flags, const char *user, json_t *paths)
{
    static const char *const verbs[] = {
        [FRAME_FILES_GET] = "get", [FRAME_FILES_PUT] = "put", [FRAME_FILES_CONNECT] = "connect"};
    json_t *spec = json_object(), *files = json_object();
    json_t *command = json_pack("[ss]", "banger-agent", verbs[what]);

    json_array_extend(command, paths);
    json_put(spec, "command", command);
    json_put_int(files, "direction", what);
    json_put_int(files, "flags", flags);
    json_put(files, "paths", paths);
    json_put(spec, "files", files);
    json_put_str(spec, "stdin", what == FRAME_FILES_GET ? "closed" : "pipe");
    json_put_str(spec, "user", user);
    return spec;
}

static json_t *make_transfer_spec(const json_t *params, enum frame_files what, json_t *paths)
{
    int flags = 0;

    flags |= api_flag(params, "recursive") ? FRAME_FILES_RECURSIVE : 0;
    flags |= api_flag(params, "archive") ? FRAME_FILES_KEEP_IDS : 0;
    flags |= what == FRAME_FILES_PUT && api_flag(params, "directory") ? FRAME_FILES_DIRECTORY : 0;
    return make_spec(what, flags, api_str(params, "user"), paths);
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

/* How codec/frame.h wants it. Free it. */
static char *connect_target(const json_t *params)
{
    const char *path = api_str(params, "path");
    const char *host = api_str(params, "host");
    int port = (int)api_int(params, "port");

    if (path) {
        return x_strdup(path);
    }
    return x_asprintf(strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
}

static int check_connect(const json_t *params, struct err *err)
{
    const char *path = api_str(params, "path");
    const char *host = api_str(params, "host");
    bool port = json_is_integer(json_object_get(params, "port"));
    struct in6_addr address;

    if (port == (path != NULL)) {
        err_set(err, ERR_INVALID, "either port or path says where to connect to");
        return -1;
    }
    if (path && path[0] != '/') {
        return err_set(err, ERR_INVALID, "path %s: it must be absolute", path);
    }
    if (!path && !str_eq(host, "localhost") && inet_pton(AF_INET, host, &address) != 1 &&
        inet_pton(AF_INET6, host, &address) != 1) {
        err_set(err, ERR_INVALID, "host %s: neither localhost nor an address", host);
        return err_hint(err, "the guest's names are not known here: give the IPv4 or IPv6 address");
    }
    return 0;
}

HANDLER(rpc_session_connect)
{
    _cleanup_free_ char *target = NULL;
    _cleanup_json_ json_t *spec = NULL;

    if (check_connect(params, err) < 0) {
        return -1;
    }
    target = connect_target(params);
    spec = make_spec(FRAME_FILES_CONNECT, 0, "root", json_pack("[s]", target));
    return start_transfer(call, ctx, params, spec, ret_result, err);
}

HANDLER(rpc_file_put)
{
    _cleanup_json_ json_t *spec = NULL;
    json_t *paths = json_pack("[O]", json_object_get(params, "path"));

    json_array_extend(paths, json_object_get(params, "names"));
    spec = make_transfer_spec(params, FRAME_FILES_PUT, paths);
    return start_transfer(call, ctx, params, spec, ret_result, err);
}

HANDLER(rpc_file_get)
{
    json_t *paths = json_copy(json_object_get(params, "paths"));
    _cleanup_json_ json_t *spec = make_transfer_spec(params, FRAME_FILES_GET, paths);

    return start_transfer(call, ctx, params, spec, ret_result, err);
}
