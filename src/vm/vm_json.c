#include "base/clock.h"
#include "base/str.h"
#include "vm/vm_priv.h"

#include <string.h>

static void put_time(json_t *o, const char *key, int64_t ms)
{
    char time[CLOCK_RFC3339_SIZE];

    clock_format_rfc3339(ms, time);
    json_put_str(o, key, time[0] ? time : NULL);
}

static json_t *named(const char *name, const char *digest)
{
    json_t *o = json_object();

    json_put_str(o, "name", name);
    json_put_str(o, "digest", digest);
    return o;
}

static json_t *vmm_json(const struct vm_row *row)
{
    json_t *o = json_object();

    json_put_str(o, "name", row->vmm);
    json_put_str(o, "version", row->vmm_version[0] ? row->vmm_version : NULL);
    json_put_str(o, "accel", row->accel[0] ? row->accel : NULL);
    json_put_str(o, "why", row->accel_why[0] ? row->accel_why : NULL);
    return o;
}

static json_t *network_json(void)
{
    json_t *o = json_object();

    json_put_str(o, "mode", "none");
    json_put(o, "ipv4", json_null());
    json_put(o, "ipv6", json_null());
    json_put(o, "dns_name", json_null());
    json_put(o, "ports", json_array());
    return o;
}

static json_t *exit_json(const struct vm_row *row)
{
    json_t *o;

    if (row->exit_code < 0 && row->exit_signal == 0) {
        return json_null();
    }
    o = json_object();
    json_put(o, "code", row->exit_code >= 0 ? json_integer(row->exit_code) : json_null());
    json_put(o, "signal", row->exit_signal ? json_integer(row->exit_signal) : json_null());
    return o;
}

json_t *vm_row_json(const struct vm_row *row, unsigned sessions)
{
    json_t *o = json_object(), *timeline = json_array(), *labels = NULL;
    struct err ignored; /* our own text */

    json_put_str(o, "id", row->id);
    json_put_str(o, "name", row->name);
    json_put_str(o, "state", vm_state_name(row->state));
    json_put_str(o, "reason", row->reason[0] ? row->reason : NULL);
    put_time(o, "state_since", row->state_since_ms);
    json_put_int(o, "incarnation", (long long)row->incarnation);
    json_put(o, "image", named(row->image_name, row->image_digest));
    json_put(o, "kernel", named(row->kernel_name, row->kernel_digest));
    json_put(o, "vmm", vmm_json(row));
    json_put_int(o, "vcpus", row->vcpus);
    json_put_int(o, "memory_mib", (long long)row->memory_mib);
    json_put_int(o, "disk_bytes", (long long)row->disk_bytes);
    json_put_str(o, "init", "agent");
    if (json_parse(row->labels, strlen(row->labels), &labels, &ignored) < 0) {
        labels = json_object();
    }
    json_put(o, "labels", labels);
    json_put(o, "network", network_json());
    json_put_int(o, "sessions", sessions);
    put_time(o, "created_at", row->created_ms);
    put_time(o, "started_at", row->started_ms);
    json_put(o, "exit", exit_json(row));
    json_put_bool(o, "auto_remove", row->auto_remove);
    json_put(o, "workspace", json_null());
    for (unsigned i = 0; i < row->phase_count; i++) {
        json_t *phase = json_object();

        json_put_str(phase, "phase", row->timeline[i].name);
        json_put_int(phase, "ms", row->timeline[i].ms);
        json_array_append_new(timeline, phase);
    }
    json_put(o, "timeline", timeline);
    return o;
}
