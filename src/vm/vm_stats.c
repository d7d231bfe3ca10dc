/*
 * What VMs use, measured on the host, and what their guests say. The capabilities add what they
 * know. No token: a reference to the run.
 * Each caller waits for its own VM, so that a guest that does not answer holds up nobody else.
 */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/report.h"
#include "guest/report.h"

#include <errno.h>

static json_t *parse(enum frame_files what, const char *text, size_t len)
{
    switch (what) {
    case FRAME_FILES_STATS:
        return report_parse_stats(text, len);
    case FRAME_FILES_PROCESSES:
        return report_parse_processes(text, len);
    case FRAME_FILES_LISTENERS:
        return report_parse_listeners(text, len);
    case FRAME_FILES_GET:
    case FRAME_FILES_PUT:
    case FRAME_FILES_CONNECT:
        break;
    }
    return NULL;
}

static int ask(struct vms *v, struct vm_run *run, enum frame_files what, struct cancel *cancel,
               int64_t deadline_ms, json_t **ret, struct err *err)
{
    _cleanup_buf_ struct buf text = {.max = REPORT_MAX_BYTES};
    const struct guest_report params = {.sessions = v->sessions,
                                        .link = run->link,
                                        .vm_id = run->vm_id,
                                        .what = what,
                                        .cancel = cancel,
                                        .deadline_ms = deadline_ms};

    if (v->seams.wait_agent(run->link, cancel, deadline_ms, err) < 0 ||
        guest_report_read(&params, &text, err) < 0) {
        return -1;
    }
    *ret = parse(what, (const char *)buf_head(&text), text.len);
    return *ret ? 0 : err_set(err, ERR_GUEST, "the guest gave an answer that makes no sense");
}

/* Only a cancelled call fails. */
static int put_guest(json_t *o, struct vms *v, struct vm_run *run, bool awake,
                     const struct vms_stats *what, struct cancel *cancel, struct err *err)
{
    json_t *guest = NULL;
    int r = -1;

    if (!awake) {
        err_set(err, ERR_NOT_RUNNING, "the VM is paused");
    } else {
        r = ask(v, run, FRAME_FILES_STATS, cancel, clock_mono_ms() + what->timeout_ms, &guest, err);
    }
    if (r < 0 && err->code == ERR_CANCELLED) {
        return -1;
    }
    json_put(o, "guest", guest ? guest : json_null());
    json_put_str(o, "guest_why", r < 0 ? err->message : NULL);
    return 0;
}

static int await_time(struct cancel *cancel, int64_t at_ms, struct err *err)
{
    struct latch never;
    int r;

    latch_init(&never);
    r = latch_wait(&never, cancel, at_ms);
    latch_done(&never);
    return r == -ETIMEDOUT ? 0 : err_set_errno(err, ERR_INTERNAL, r, "measuring");
}

static int measure(json_t *o, struct vms *v, struct vm_run *run, bool awake,
                   const struct vms_stats *what, struct cancel *cancel, struct err *err)
{
    pid_t pid = run->ops->process(run->vmm)->pid;
    int64_t start_ms = clock_mono_ms(), before = vm_cpu_ms(pid), after, took;

    if (put_guest(o, v, run, awake, what, cancel, err) < 0 ||
        await_time(cancel, start_ms + what->interval_ms, err) < 0) {
        return -1;
    }
    after = vm_cpu_ms(pid);
    took = clock_mono_ms() - start_ms;
    json_put_int(o, "interval_ms", took);
    json_put(o, "cpu_ms", after >= 0 ? json_integer(after) : json_null());
    json_put(o, "cpu_permille",
             before >= 0 && after >= before && took > 0
                 ? json_integer((after - before) * 1000 / took)
                 : json_null());
    vm_caps_add_stats(v->params.capabilities, run, o);
    json_put(o, "net", json_null());
    return 0;
}

/* What was read of a process that has ended may be another's. */
static bool has_ended(struct vms *v, struct vm_run *run)
{
    bool ended;

    leaf_lock(&v->table);
    ended = run->exited;
    leaf_unlock(&v->table);
    return ended;
}

int vms_stats(struct vms *v, const struct vms_stats *what, struct cancel *cancel, json_t **ret,
              struct err *err)
{
    _cleanup_vm_run_ struct vm_run *run = NULL;
    _cleanup_vm_row_ struct vm_row row = {0};
    _cleanup_json_ json_t *o = json_object();
    char id[ID_SIZE];

    if (vms_resolve(v, what->ref, id, err) < 0 || vm_get_row(v, id, &row, err) < 0) {
        return -1;
    }
    run = vm_run_get(v, id, err);
    if (!run) {
        return -1;
    }
    json_put_str(o, "id", id);
    json_put_str(o, "name", row.name);
    if (measure(o, v, run, row.state != VM_PAUSED, what, cancel, err) < 0) {
        return -1;
    }
    if (has_ended(v, run)) {
        return err_set(err, ERR_NOT_RUNNING, "VM '%s' has ended", row.name);
    }
    *ret = STEAL_PTR(o);
    return 0;
}

static int ask_by_name(struct vms *v, const char *ref, enum frame_files what, struct cancel *cancel,
                       int64_t deadline_ms, json_t **ret, struct err *err)
{
    _cleanup_vm_run_ struct vm_run *run = NULL;
    char id[ID_SIZE];

    if (vms_resolve(v, ref, id, err) < 0) {
        return -1;
    }
    run = vm_run_get_awake(v, id, err);
    return run ? ask(v, run, what, cancel, deadline_ms, ret, err) : -1;
}

int vms_top(struct vms *v, const char *ref, struct cancel *cancel, int64_t deadline_ms,
            json_t **ret, struct err *err)
{
    return ask_by_name(v, ref, FRAME_FILES_PROCESSES, cancel, deadline_ms, ret, err);
}

int vms_ports(struct vms *v, const char *ref, struct cancel *cancel, int64_t deadline_ms,
              json_t **ret, struct err *err)
{
    return ask_by_name(v, ref, FRAME_FILES_LISTENERS, cancel, deadline_ms, ret, err);
}
