#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "vm/vm_priv.h"

#include <arpa/inet.h>
#include <string.h>

/* More than any VM needs: 64 labels of 320 bytes, each of which may be written as six. */
#define VM_JSON_MAX (256 * 1024)

static void write_time(struct api_writer *w, const char *key, int64_t ms)
{
    char time[CLOCK_RFC3339_SIZE];

    if (api_write_wants(w, key)) {
        clock_format_rfc3339(ms, time);
        api_write_str(w, key, time[0] ? time : NULL);
    }
}

static void write_artifact(struct api_writer *w, const char *key, const char *name,
                           const char *digest)
{
    api_write_open(w, key);
    api_write_str(w, "name", name);
    api_write_str(w, "digest", digest);
    api_write_close(w);
}

static void write_vmm(struct api_writer *w, const struct vm_row *row)
{
    api_write_open(w, "vmm");
    api_write_str(w, "name", row->vmm);
    api_write_str(w, "version", row->vmm_version[0] ? row->vmm_version : NULL);
    api_write_str(w, "accel", row->accel[0] ? row->accel : NULL);
    api_write_str(w, "why", row->accel_why[0] ? row->accel_why : NULL);
    api_write_close(w);
}

/* Most VMs have none. */
static void write_labels(struct api_writer *w, const char *text)
{
    _cleanup_json_ json_t *labels = NULL;
    struct err ignored; /* our own text */

    if (!api_write_wants(w, "labels")) {
        return;
    }
    if (str_eq(text, "{}") || json_parse(text, strlen(text), &labels, &ignored) < 0) {
        labels = json_object();
    }
    api_write_json(w, "labels", labels);
}

static void write_network(const struct vms *v, const struct vm_row *row, struct api_writer *w)
{
    char ipv4[INET_ADDRSTRLEN], ipv6[INET6_ADDRSTRLEN], name[sizeof(row->name) + 8] = "";
    bool nat = vm_has_cards(v) && str_eq(row->net_mode, VM_NET_NAT);
    bool placed = nat && row->net_slot > 0;

    api_write_open(w, "network");
    api_write_str(w, "mode", nat ? VM_NET_NAT : VM_NET_NONE);
    if (placed) {
        struct host_nic nic = nets_slot_nic(v->params.net, row->net_slot);
        struct in_addr in = {.s_addr = htonl(nic.ipv4)};

        (void)inet_ntop(AF_INET, &in, ipv4, sizeof(ipv4));
        (void)inet_ntop(AF_INET6, nic.ipv6, ipv6, sizeof(ipv6));
    }
    api_write_str(w, "ipv4", placed ? ipv4 : NULL);
    api_write_str(w, "ipv6", placed && nets_has_ipv6(v->params.net) ? ipv6 : NULL);
    if (nat && v->params.dns) {
        (void)snprintf(name, sizeof(name), "%s." VM_DOMAIN, row->name);
    }
    api_write_str(w, "dns_name", name[0] ? name : NULL);
    api_write_open_list(w, "ports");
    api_write_close_list(w);
    api_write_close(w);
}

static void write_number(struct api_writer *w, const char *key, bool there, long long value)
{
    if (there) {
        api_write_int(w, key, value);
    } else {
        api_write_null(w, key);
    }
}

static void write_exit(struct api_writer *w, const struct vm_row *row)
{
    if (row->exit_code < 0 && row->exit_signal == 0) {
        api_write_null(w, "exit");
        return;
    }
    api_write_open(w, "exit");
    write_number(w, "code", row->exit_code >= 0, row->exit_code);
    write_number(w, "signal", row->exit_signal != 0, row->exit_signal);
    api_write_close(w);
}

static bool differs(uint64_t configured, uint64_t running)
{
    return running != 0 && configured != running;
}

/* What was changed while it was up. */
static void write_pending(struct api_writer *w, const struct vm_row *row)
{
    bool up = row->state == VM_RUNNING || row->state == VM_PAUSED || row->state == VM_STOPPING;
    json_t *names;

    if (!api_write_wants(w, "pending")) {
        return;
    }
    names = json_array();
    if (up && differs(row->vcpus, row->run_vcpus)) {
        json_array_append_new(names, json_string("vcpus"));
    }
    if (up && differs(row->memory_mib, row->run_memory_mib)) {
        json_array_append_new(names, json_string("memory_mib"));
    }
    if (up && differs(row->disk_bytes, row->run_disk_bytes)) {
        json_array_append_new(names, json_string("disk_bytes"));
    }
    api_write_json(w, "pending", names);
    json_decref(names);
}

static void write_timeline(struct api_writer *w, const struct vm_phase *phases, unsigned count)
{
    api_write_open_list(w, "timeline");
    for (unsigned i = 0; i < count; i++) {
        api_write_open(w, NULL);
        api_write_str(w, "phase", phases[i].name);
        api_write_int(w, "ms", phases[i].ms);
        api_write_close(w);
    }
    api_write_close_list(w);
}

static void write_start(struct api_writer *w, const struct vm_row *row)
{
    if (row->started_ms == 0) {
        api_write_null(w, "start");
        return;
    }
    api_write_open(w, "start");
    api_write_str(w, "how", !row->template_id[0] ? "boot" : vm_was_claimed(row) ? "pool" : "fork");
    api_write_str(w, "template", row->template_id[0] ? row->template_id : NULL);
    api_write_str(w, "why", row->start_why[0] ? row->start_why : NULL);
    api_write_close(w);
}

void vm_row_write(const struct vms *v, const struct vm_row *row, unsigned sessions,
                  struct api_writer *w)
{
    api_write_open(w, NULL);
    api_write_str(w, "id", row->id);
    api_write_str(w, "name", row->name);
    api_write_str(w, "state", vm_state_name(row->state));
    api_write_str(w, "reason", row->reason[0] ? row->reason : NULL);
    write_time(w, "state_since", row->state_since_ms);
    api_write_int(w, "incarnation", (long long)row->incarnation);
    write_artifact(w, "image", row->image_name, row->image_digest);
    write_artifact(w, "kernel", row->kernel_name, row->kernel_digest);
    write_vmm(w, row);
    api_write_int(w, "vcpus", row->vcpus);
    api_write_int(w, "memory_mib", (long long)row->memory_mib);
    api_write_int(w, "disk_bytes", (long long)row->disk_bytes);
    write_pending(w, row);
    api_write_str(w, "init", vm_init_name(row));
    api_write_str(w, "description", row->description);
    write_labels(w, row->labels);
    write_network(v, row, w);
    api_write_int(w, "sessions", sessions);
    write_time(w, "created_at", row->created_ms);
    write_time(w, "started_at", row->started_ms);
    write_start(w, row);
    write_exit(w, row);
    api_write_bool(w, "auto_remove", row->auto_remove);
    api_write_str(w, "restart", row->restart);
    api_write_int(w, "restart_count", row->restart_count);
    write_time(w, "restart_at", vm_restart_at(row));
    api_write_bool(w, "autostart", row->autostart);
    api_write_int(w, "auto_stop_after_ms", row->auto_stop_after_ms);
    api_write_int(w, "expires_after_ms", row->expires_after_ms);
    write_time(w, "expires_at", row->expires_ms);
    api_write_null(w, "workspace");
    write_timeline(w, row->timeline, row->phase_count);
    api_write_close(w);
}

int vm_row_json(const struct vms *v, const struct vm_row *row, unsigned sessions, json_t **ret,
                struct err *err)
{
    _cleanup_buf_ struct buf text;
    struct api_writer w;

    buf_init(&text, VM_JSON_MAX);
    api_write_begin(&w, &text, api_method_find("vm.show"), NULL);
    vm_row_write(v, row, sessions, &w);
    if (api_write_end(&w, err) < 0) {
        log_error("%s", err->message);
        return -1;
    }
    return json_parse((const char *)buf_head(&text), text.len, ret, err);
}

static json_t *start_json(const struct vm_start *start)
{
    char time[CLOCK_RFC3339_SIZE];
    json_t *o = json_object(), *phases = json_array();
    long long ms = 0;

    for (unsigned i = 0; i < start->phase_count; i++) {
        json_t *phase = json_object();

        json_put_str(phase, "phase", start->timeline[i].name);
        json_put_int(phase, "ms", start->timeline[i].ms);
        json_array_append_new(phases, phase);
        ms += start->timeline[i].ms;
    }
    clock_format_rfc3339(start->started_ms, time);
    json_put_int(o, "incarnation", (long long)start->incarnation);
    json_put_str(o, "started_at", time);
    json_put_str(o, "accel", start->accel[0] ? start->accel : NULL);
    json_put_int(o, "ms", ms);
    json_put(o, "timeline", phases);
    return o;
}

int vms_timeline(struct vms *v, const char *ref, json_t **ret, struct err *err)
{
    _cleanup_free_ struct vm_start *starts = NULL;
    char id[ID_SIZE];
    size_t count;

    if (vms_resolve(v, ref, id, err) < 0 ||
        store_vm_starts(v->params.store, id, &starts, &count, err) < 0) {
        return -1;
    }
    *ret = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(*ret, start_json(&starts[i]));
    }
    return 0;
}
