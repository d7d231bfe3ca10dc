/* Handlers of daemon.*, config.* and op.*, and the table of all handlers. */
#include "base/clock.h"
#include "base/str.h"
#include "daemon/daemon_priv.h"
#include "doctor/report.h"
#include "version.h"

#include <string.h>

const struct rpc_handler daemon_handlers[] = {
    {"daemon.ping", rpc_daemon_ping},
    {"daemon.status", rpc_daemon_status},
    {"daemon.stop", rpc_daemon_stop},
    {"daemon.reconcile", rpc_daemon_reconcile},
    {"daemon.verify_store", rpc_daemon_verify_store},
    {"config.show", rpc_config_show},
    {"doctor", rpc_doctor},
    {"vm.create.begin", rpc_vm_create_begin},
    {"vm.list", rpc_vm_list},
    {"vm.show", rpc_vm_show},
    {"vm.start", rpc_vm_start},
    {"vm.stop", rpc_vm_stop},
    {"vm.restart", rpc_vm_restart},
    {"vm.kill", rpc_vm_kill},
    {"vm.pause", rpc_vm_pause},
    {"vm.resume", rpc_vm_resume},
    {"vm.set", rpc_vm_set},
    {"vm.touch", rpc_vm_touch},
    {"vm.timeline", rpc_vm_timeline},
    {"vm.prune", rpc_vm_prune},
    {"vm.delete", rpc_vm_delete},
    {"vm.wait", rpc_vm_wait},
    {"vm.logs", rpc_vm_logs},
    {"vm.stats", rpc_vm_stats},
    {"vm.top", rpc_vm_top},
    {"vm.ports", rpc_vm_ports},
    {"vm.ping", rpc_vm_ping},
    {"file.put", rpc_file_put},
    {"file.get", rpc_file_get},
    {"session.start", rpc_session_start},
    {"session.hold", rpc_session_hold},
    {"session.attach", rpc_session_attach},
    {"session.list", rpc_session_list},
    {"session.wait", rpc_session_wait},
    {"session.connect", rpc_session_connect},
    {"op.list", rpc_op_list},
    {"op.status", rpc_op_status},
    {"op.watch", rpc_op_watch},
    {"op.cancel", rpc_op_cancel},
    {"events.list", rpc_events_list},
    {"events.subscribe", rpc_events_subscribe},
    {"template.list", rpc_template_list},
    {"template.show", rpc_template_show},
    {"template.create.begin", rpc_template_create_begin},
    {"template.delete", rpc_template_delete},
    {"template.pool", rpc_template_pool},
    {"template.verify", rpc_template_verify},
    {"template.prune", rpc_template_prune},
    {"image.list", rpc_image_list},
    {"image.register.begin", rpc_image_register_begin},
    {"kernel.list", rpc_kernel_list},
    {"kernel.import.begin", rpc_kernel_import_begin},
    {0},
};

HANDLER(rpc_daemon_ping)
{
    (void)call;
    (void)ctx;
    (void)params;
    (void)err;
    *ret_result = json_object();
    return 0;
}

static json_t *describe_network(struct nets *net)
{
    const char *why = nets_why_not(net);
    struct nets_counts c = nets_count(net);
    char ipv4[NET_TEXT_SIZE], ipv6[NET_TEXT_SIZE];
    json_t *o = json_object();

    nets_subnets(net, ipv4, ipv6);
    json_put_str(o, "mode", why ? "none" : "nat");
    json_put(o, "why", why ? json_string(why) : json_null());
    json_put(o, "ipv4", why ? json_null() : json_string(ipv4));
    json_put(o, "ipv6", why ? json_null() : json_string(ipv6));
    json_put_int(o, "addresses", c.slots);
    json_put_int(o, "addresses_used", c.slots_used);
    json_put_int(o, "taps_ready", c.taps_ready);
    json_put_int(o, "taps_used", c.taps_used);
    return o;
}

HANDLER(rpc_daemon_status)
{
    struct daemon *d = ctx;
    char time[CLOCK_RFC3339_SIZE];
    json_t *o = json_object(), *helper = json_object();

    (void)call;
    (void)params;
    (void)err;
    json_put_int(o, "pid", getpid());
    json_put_str(o, "version", BANGER_VERSION);
    json_put_str(o, "socket", d->params.paths->socket);
    json_put_str(o, "state_dir", d->params.paths->state_dir);
    json_put(o, "dns", d->dns_port ? json_sprintf("127.0.0.1:%u", d->dns_port) : json_null());
    json_put(o, "web_url", json_null());
    json_put_int(o, "owner", d->params.paths->owner_uid);
    json_put_str(helper, "mode", d->params.host->ops->mode);
    json_put(o, "helper", helper);
    json_put(o, "network", describe_network(d->net));
    json_put(o, "vms", vms_count_by_state(d->vms));
    clock_format_rfc3339(d->started_ms, time);
    json_put_str(o, "started_at", time);
    *ret_result = o;
    return 0;
}

HANDLER(rpc_config_show)
{
    struct daemon *d = ctx;

    (void)call;
    (void)params;
    (void)err;
    *ret_result = json_object();
    json_put(*ret_result, "settings", config_settings(d->params.config));
    json_put(*ret_result, "paths", json_deep_copy(d->params.path_settings));
    return 0;
}

HANDLER(rpc_daemon_stop)
{
    struct daemon *d = ctx;

    (void)call;
    (void)params;
    (void)ret_result;
    (void)err;
    cancel_trigger(d->stop);
    return 0;
}

HANDLER(rpc_daemon_reconcile)
{
    struct daemon *d = ctx;

    (void)call;
    return vms_reconcile(d->vms, api_flag(params, "dry_run"), ret_result, err);
}

static void add_problem(void *list, const char *text)
{
    json_array_append_new(list, json_string(text));
}

HANDLER(rpc_daemon_verify_store)
{
    struct daemon *d = ctx;
    json_t *problems = json_array();

    (void)call;
    (void)params;
    if (store_verify(d->store, add_problem, problems, err) < 0) {
        json_decref(problems);
        return -1;
    }
    *ret_result = json_object();
    json_put(*ret_result, "problems", problems);
    return 0;
}

HANDLER(rpc_doctor)
{
    struct daemon *d = ctx;

    (void)call;
    (void)params;
    (void)err;
    *ret_result = doctor_report(daemon_doctor_list(d->doctor));
    return 0;
}

/* ---- operations ---- */

void daemon_op_registries(struct daemon *d, struct op_registry *ret_list[5])
{
    ret_list[0] = d->vm_creates;
    ret_list[1] = d->image_ops;
    ret_list[2] = d->kernel_ops;
    ret_list[3] = d->templates ? templates_ops(d->templates) : NULL;
    ret_list[4] = NULL;
}

/* The registry that knows the operation. */
static struct op_registry *registry_of(struct daemon *d, const char *id, struct err *err)
{
    struct op_registry *list[5];

    daemon_op_registries(d, list);
    for (struct op_registry **r = list; *r; r++) {
        if (op_is_known(*r, id)) {
            return *r;
        }
    }
    (void)op_not_found(id, err);
    return NULL;
}

HANDLER(rpc_op_list)
{
    struct op_registry *list[5];
    json_t *ops = json_array();

    (void)call;
    (void)params;
    (void)err;
    daemon_op_registries(ctx, list);
    for (struct op_registry **r = list; *r; r++) {
        op_list(*r, ops);
    }
    *ret_result = ops;
    return 0;
}

HANDLER(rpc_op_status)
{
    const char *id = api_str(params, "op");
    struct op_registry *r = registry_of(ctx, id, err);

    (void)call;
    return r ? op_show(r, id, ret_result, err) : -1;
}

HANDLER(rpc_op_cancel)
{
    const char *id = api_str(params, "op");
    struct op_registry *r = registry_of(ctx, id, err);

    (void)call;
    return r && op_request_cancel(r, id, err) == 0 ? op_show(r, id, ret_result, err) : -1;
}

HANDLER(rpc_op_watch)
{
    const char *id = api_str(params, "op");
    struct op_registry *r = registry_of(ctx, id, err);
    _cleanup_(op_watch_end_p) struct op_watch *w = NULL;
    bool ended = false;

    if (!r || op_watch_begin(r, id, api_flag(params, "progress"), &w, err) < 0) {
        return -1;
    }
    for (;;) {
        json_t *op = NULL;

        if (op_watch_next(w, rpc_call_cancel(call), &op, &ended, err) < 0) {
            return -1;
        }
        if (ended) {
            *ret_result = op;
            return 0;
        }
        (void)rpc_call_notify(call, "op.progress", op); /* the next one says it too */
    }
}
