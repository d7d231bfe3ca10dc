/* A guest's CPUs stopped by the user, until he lets them go on. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"

#define PAUSE_MS 10000

bool vm_is_paused_by_user(const struct vm_row *row)
{
    return row->state == VM_PAUSED && str_eq(row->reason, VM_REASON_USER);
}

static int pause_run(struct vm_run *run, struct cancel *cancel, struct err *err)
{
    return run->ops->pause(run->vmm, cancel, clock_mono_ms() + PAUSE_MS, err);
}

static int pause_locked(struct vms *v, const char *id, struct cancel *cancel, struct err *err)
    REQUIRES(rank_vm)
{
    _cleanup_vm_run_ struct vm_run *run = vm_run_get(v, id, err);
    struct err none;

    if (!run) {
        return -1;
    }
    /* Written first: a daemon that dies in between leaves a VM that says that it is paused, and can
     * be resumed; the other way round it would say that it runs, and answer nobody. One that waits
     * for room on the disk waits for its user from now on. */
    if (vm_set_state(v, id, VM_PAUSED, VM_REASON_USER, err) < 0) {
        (void)vm_set_up(v, run, "", &none);
        return -1;
    }
    CRASH_POINT("pause.begun");
    if (pause_run(run, cancel, err) < 0) {
        /* It may have heard it all the same. */
        if (vm_resume(run, NULL, &none) < 0) {
            (void)err_wrap(err, "the VM may go on or not");
            return err_hint(err, "banger resume lets it go on, banger kill ends it");
        }
        (void)vm_set_up(v, run, "", &none);
        return err_wrap(err, "the VM goes on");
    }
    CRASH_POINT("pause.done");
    return 0;
}

int vm_go_on(struct vms *v, const char *id, struct cancel *cancel, struct err *err)
{
    _cleanup_vm_run_ struct vm_run *run = vm_run_get(v, id, err);

    if (!run || vm_resume(run, cancel, err) < 0) {
        return -1;
    }
    CRASH_POINT("resume.done");
    return vm_set_up(v, run, "", err);
}

static int change_locked(struct vms *v, const char *id, bool pause, struct cancel *cancel,
                         struct err *err) REQUIRES(rank_vm)
{
    _cleanup_vm_row_ struct vm_row row = {0};

    if (vm_get_row(v, id, &row, err) < 0) {
        return -1;
    }
    if (row.state != VM_RUNNING && row.state != VM_PAUSED) {
        err_set(err, ERR_NOT_RUNNING, "VM '%s' is not running (it is %s)", row.name,
                vm_state_name(row.state));
        return err_hint(err, "start it with: banger start %s", row.name);
    }
    if (pause) {
        return vm_is_paused_by_user(&row) ? 0 : pause_locked(v, id, cancel, err);
    }
    return row.state == VM_RUNNING ? 0 : vm_go_on(v, id, cancel, err);
}

static int change(struct vms *v, const char *ref, bool pause, struct cancel *cancel,
                  struct err *err)
{
    struct vm_token *token;
    char id[ID_SIZE];
    int r;

    if (vm_acquire(v, ref, pause ? "pause" : "resume", false, cancel,
                   clock_mono_ms() + VM_TOKEN_WAIT_MS, &token, id, err)) {
        return -1;
    }
    r = change_locked(v, id, pause, cancel, err);
    vm_locks_release(token);
    return r;
}

int vms_pause(struct vms *v, const char *ref, struct cancel *cancel, struct err *err)
{
    return change(v, ref, true, cancel, err);
}

int vms_resume(struct vms *v, const char *ref, struct cancel *cancel, struct err *err)
{
    return change(v, ref, false, cancel, err);
}

/* Worker: the daemon that wrote "paused" may have died before the CPUs stopped. */
static void pause_again(struct vms *v, const char *id)
{
    _cleanup_vm_run_ struct vm_run *run = NULL;
    _cleanup_vm_row_ struct vm_row row = {0};
    struct vm_token *token;
    struct err err;

    if (vm_locks_acquire(v->locks, id, "adopt", NULL, -1, &token, &err)) {
        return;
    }
    run = vm_run_get(v, id, &err);
    if (run && vm_get_row(v, id, &row, &err) == 0 && vm_is_paused_by_user(&row) &&
        pause_run(run, NULL, &err) < 0) {
        log_warn("VM %.12s: cannot be paused: %s", id, err.message);
    }
    vm_locks_release(token);
}

void vm_keep_paused(struct vms *v, const char *id)
{
    vm_run_worker(v, id, pause_again);
}
