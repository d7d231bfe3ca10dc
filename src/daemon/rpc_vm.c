/* Handlers of vm.*: read params, call the owner, hand back its answer. */
#include "base/clock.h"
#include "base/signal_name.h"
#include "base/str.h"
#include "daemon/daemon_priv.h"
#include "vm/log_file.h"

#include <signal.h>
#include <string.h>

/* For whoever works on the VM and does not give up at once. */
#define KILL_WAIT_MS 60000

/* On CLOCK_MONOTONIC; -1 = none. */
static int64_t deadline(const json_t *params)
{
    long long ms = api_int(params, "timeout_ms");

    return ms > 0 ? clock_mono_ms() + ms : -1;
}

static int show(struct daemon *d, const json_t *params, json_t **ret_result, struct err *err)
{
    return vms_show(d->vms, api_str(params, "vm"), ret_result, err);
}

HANDLER(rpc_vm_create_begin)
{
    struct daemon *d = ctx;
    bool held = api_flag(params, "hold");
    struct vm_hold *hold = NULL;
    char op[ID_SIZE];

    if (vms_create_begin(d->vms, d->vm_creates, params, op, held ? &hold : NULL, err) < 0) {
        return -1;
    }
    if (hold) {
        rpc_call_on_close(call, vms_hold_closed, hold);
    }
    return op_show(d->vm_creates, op, ret_result, err);
}

HANDLER(rpc_vm_list)
{
    struct daemon *d = ctx;
    const json_t *after = json_object_get(params, "after");
    struct vms_query query = {
        .all = api_flag(params, "all"),
        .limit = (size_t)api_int(params, "limit"),
        .after_id = json_str(after, "id", NULL),
    };

    (void)ret_result; /* written */
    if (after) {
        (void)clock_parse_rfc3339(api_str(after, "created_at"), &query.after_ms); /* checked */
    }
    return vms_list(d->vms, &query, rpc_call_writer(call, json_object_get(params, "members")), err);
}

HANDLER(rpc_vm_show)
{
    (void)call;
    return show(ctx, params, ret_result, err);
}

HANDLER(rpc_vm_start)
{
    struct daemon *d = ctx;

    if (vms_start(d->vms, api_str(params, "vm"), rpc_call_cancel(call), err) < 0) {
        return -1;
    }
    return show(d, params, ret_result, err);
}

static int stop(struct daemon *d, const json_t *params, bool force, int64_t deadline_ms,
                struct cancel *cancel, json_t **ret_result, struct err *err)
{
    char id[ID_SIZE];

    if (vms_resolve(d->vms, api_str(params, "vm"), id, err) < 0 ||
        vms_stop(d->vms, id, force, cancel, deadline_ms, err) < 0) {
        return -1;
    }
    if (vms_show(d->vms, id, ret_result, err) < 0) {
        *ret_result = json_null(); /* auto_remove: it is gone */
    }
    return 0;
}

HANDLER(rpc_vm_stop)
{
    return stop(ctx, params, api_flag(params, "force"), deadline(params), rpc_call_cancel(call),
                ret_result, err);
}

HANDLER(rpc_vm_restart)
{
    struct daemon *d = ctx;

    if (vms_restart(d->vms, api_str(params, "vm"), api_flag(params, "force"), rpc_call_cancel(call),
                    deadline(params), err) < 0) {
        return -1;
    }
    return show(d, params, ret_result, err);
}

HANDLER(rpc_vm_kill)
{
    struct daemon *d = ctx;
    const char *name = api_str(params, "signal");
    int signal = signal_parse(name);

    if (signal < 0) {
        err_set(err, ERR_INVALID, "signal: no signal is called '%s'", name);
        return err_hint(err, "kill -l lists them");
    }
    if (signal == SIGKILL) {
        return stop(d, params, true, clock_mono_ms() + KILL_WAIT_MS, rpc_call_cancel(call),
                    ret_result, err);
    }
    if (vms_signal(d->vms, api_str(params, "vm"), (unsigned)signal, err) < 0) {
        return -1;
    }
    return show(d, params, ret_result, err);
}

HANDLER(rpc_vm_pause)
{
    struct daemon *d = ctx;

    if (vms_pause(d->vms, api_str(params, "vm"), rpc_call_cancel(call), err) < 0) {
        return -1;
    }
    return show(d, params, ret_result, err);
}

HANDLER(rpc_vm_resume)
{
    struct daemon *d = ctx;

    if (vms_resume(d->vms, api_str(params, "vm"), rpc_call_cancel(call), err) < 0) {
        return -1;
    }
    return show(d, params, ret_result, err);
}

HANDLER(rpc_vm_set)
{
    struct daemon *d = ctx;

    return vms_set(d->vms, api_str(params, "vm"), params, rpc_call_cancel(call), ret_result, err);
}

HANDLER(rpc_vm_touch)
{
    struct daemon *d = ctx;

    if (vms_touch(d->vms, api_str(params, "vm"), rpc_call_cancel(call), err) < 0) {
        return -1;
    }
    return show(d, params, ret_result, err);
}

HANDLER(rpc_vm_timeline)
{
    struct daemon *d = ctx;

    (void)call;
    return vms_timeline(d->vms, api_str(params, "vm"), ret_result, err);
}

HANDLER(rpc_vm_prune)
{
    struct daemon *d = ctx;
    const struct vms_prune what = {
        .stopped_for_ms = api_int(params, "stopped_for_ms"),
        .dry_run = api_flag(params, "dry_run"),
    };

    return vms_prune(d->vms, &what, rpc_call_cancel(call), ret_result, err);
}

HANDLER(rpc_vm_delete)
{
    struct daemon *d = ctx;

    (void)ret_result;
    return vms_delete(d->vms, api_str(params, "vm"), api_flag(params, "force"),
                      rpc_call_cancel(call), err);
}

HANDLER(rpc_vm_wait)
{
    struct daemon *d = ctx;
    const char *until = api_str(params, "until");
    enum vm_wait_for what = str_eq(until, "running")   ? VM_WAIT_RUNNING
                            : str_eq(until, "stopped") ? VM_WAIT_STOPPED
                                                       : VM_WAIT_DELETED;

    (void)ret_result;
    return vms_wait(d->vms, api_str(params, "vm"), what, rpc_call_cancel(call), deadline(params),
                    err);
}

HANDLER(rpc_vm_logs)
{
    struct daemon *d = ctx;
    const struct vms_log what = {
        .ref = api_str(params, "vm"),
        .source = api_str(params, "source"),
        .tail_bytes = (size_t)api_int(params, "tail_bytes"),
        .after = api_given(params, "after") ? api_int(params, "after") : -1,
        .wait = api_flag(params, "wait"),
    };
    struct log_page page;

    if (vms_log_read(d->vms, &what, rpc_call_cancel(call), &page, err) < 0) {
        return -1;
    }
    *ret_result = json_object();
    json_put(*ret_result, "text", json_bytes_new(page.data, page.len));
    json_put_int(*ret_result, "position", (long long)page.position);
    json_put_int(*ret_result, "skipped", (long long)page.skipped);
    free(page.data);
    return 0;
}

HANDLER(rpc_vm_stats)
{
    struct daemon *d = ctx;

    return vms_stats(d->vms,
                     &(struct vms_stats){.ref = api_str(params, "vm"),
                                         .interval_ms = api_int(params, "interval_ms"),
                                         .timeout_ms = api_int(params, "timeout_ms")},
                     rpc_call_cancel(call), ret_result, err);
}

HANDLER(rpc_vm_top)
{
    struct daemon *d = ctx;

    return vms_top(d->vms, api_str(params, "vm"), rpc_call_cancel(call), deadline(params),
                   ret_result, err);
}

HANDLER(rpc_vm_ports)
{
    struct daemon *d = ctx;

    return vms_ports(d->vms, api_str(params, "vm"), rpc_call_cancel(call), deadline(params),
                     ret_result, err);
}

/* The control loop's, but for on_pong. */
struct ping_call {
    struct rpc_call *call;
    struct vm_ping *ping;
};

static void on_pong(void *arg, int64_t us, const struct err *err)
{
    struct ping_call *p = arg;
    json_t *result = err ? NULL : json_object();

    if (result) {
        json_put_int(result, "us", us);
    }
    rpc_call_answer(p->call, result, err);
}

static bool ping_give_up(void *arg, enum err_code why, struct err *err)
{
    struct ping_call *p = arg;

    if (!vms_ping_forget(p->ping)) {
        return false;
    }
    err_set(err, why, "%s",
            why == ERR_TIMEOUT ? "the guest did not answer in time: ping" : "cancelled");
    return true;
}

static void ping_done(void *arg)
{
    struct ping_call *p = arg;

    vms_ping_free(p->ping);
    free(p);
}

HANDLER(rpc_vm_ping)
{
    struct daemon *d = ctx;
    struct ping_call *p = x_calloc(1, sizeof(*p));

    (void)ret_result;
    p->call = call;
    rpc_call_later(call, &(struct rpc_later){.deadline_ms = deadline(params),
                                             .arg = p,
                                             .give_up = ping_give_up,
                                             .done = ping_done});
    if (vms_ping(d->vms, api_str(params, "vm"), on_pong, p, &p->ping, err) < 0) {
        free(p);
        return -1;
    }
    return 0;
}
