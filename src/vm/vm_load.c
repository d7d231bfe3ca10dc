/* What a daemon finds when it starts: VMs that run on, VMs that do not, halves of VMs. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void add_entry(struct vms *v, const struct vm_row *row)
{
    leaf_lock(&v->table);
    (void)vm_add_locked(v, row);
    leaf_unlock(&v->table);
}

bool vm_is_half(const struct vm_row *row)
{
    /* Nobody makes a template any more, nor has a pool, when this is asked. */
    return row->role != VM_ROLE_USER || str_starts_with(row->reason, VM_REASON_CREATING) ||
           str_starts_with(row->reason, VM_REASON_DELETING);
}

static int adopt_capabilities(struct vm_run *run, const struct vm_row *row, struct err *err)
    REQUIRES(rank_vm)
{
    const struct vm_hook h = {.vms = run->vms, .row = row, .ops = run->ops, .run = run};

    return vm_caps_adopt(&run->caps, &h, err);
}

/* Takes over a VM that an earlier daemon started; its row stays as it is. */
static int adopt(struct vms *v, const char *id, struct err *err) REQUIRES(rank_vm)
{
    _cleanup_vm_row_ struct vm_row row = {0};
    _cleanup_vm_run_ struct vm_run *run = NULL;
    _cleanup_free_ char *run_dir = NULL;
    struct vmm_process process = {0};
    struct vm_entry *e;
    int fd;

    if (vm_get_row(v, id, &row, err) < 0) {
        return -1;
    }
    if (!vm_process_from_object(vm_row_object(&row, OBJECT_PROCESS), &process)) {
        return err_set(err, ERR_NOT_FOUND, "its process was not noted");
    }
    if (!vm_ops(v, row.vmm)) {
        return err_set(err, ERR_UNSUPPORTED, "this build cannot run VMs with '%s'", row.vmm);
    }
    run = vm_run_new(v, &row, vm_ops(v, row.vmm)); /* also one that is refused by now */
    run->run_fd = fs_open_dir(v->params.run_fd, id, false);
    if (run->run_fd < 0) {
        return err_set_errno(err, run->run_fd == -ENOENT ? ERR_NOT_FOUND : ERR_IO, run->run_fd,
                             "the run directory cannot be opened");
    }
    run_dir = x_asprintf("%s/%s", v->run_dir, id);
    if (run->ops->adopt(v->params.control_loop, v->params.host, run_dir, run->run_fd, &process,
                        vm_on_vmm_event, run, &run->vmm, err) < 0) {
        return -1;
    }
    fd = v->seams.dial(run->run_fd);
    if (fd == -ENOENT || fd == -ECONNREFUSED) {
        struct vmm_exit unused;

        /* Somebody removed its socket: nobody will ever reach it, and it must not go on without an
         * owner. */
        if (vm_end_vmm(run->ops, run->vmm, &unused, err) < 0) {
            return -1;
        }
        return err_set_errno(err, ERR_NOT_FOUND, fd,
                             "cannot connect to the VM's agent port, so its process was ended");
    }
    if (fd < 0) {
        return err_set_errno(err, ERR_VMM, fd, "cannot connect to the VM's agent port");
    }
    if (adopt_capabilities(run, &row, err) < 0) {
        close_p(&fd);
        return -1;
    }
    vm_begin_grace(run);
    vm_run_link(run, fd, true);
    vm_adopt_paused(run, &row);
    if (row.state == VM_STOPPING) {
        (void)snprintf(run->asked, sizeof(run->asked), "%.15s", row.reason);
    }
    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    e->run = STEAL_PTR(run);
    leaf_unlock(&v->table);
    return 0;
}

/* What runs on is taken over; -1 when it does not run, or cannot be (then err is another code). */
static int take_over(struct vms *v, const struct vm_row *row, struct err *err) REQUIRES(rank_vm)
{
    const struct vm_object *process = vm_row_object(row, OBJECT_PROCESS);
    int r;

    if (!process || !process->boot_id[0]) {
        return err_set(err, ERR_NOT_FOUND, "its process was not noted");
    }
    if (!str_eq(process->boot_id, v->boot_id)) {
        return err_set(err, ERR_NOT_FOUND, "the host has rebooted");
    }
    r = adopt(v, row->id, err);
    log_info("VM %.12s '%s': %s", row->id, row->name,
             r == 0 ? "still runs, adopted" : err->message);
    return r;
}

/* A VM that had a process, whose process is not there. */
static int set_ended(struct vms *v, const struct vm_row *row, struct err *err) REQUIRES(rank_vm)
{
    const struct vm_object *process = vm_row_object(row, OBJECT_PROCESS);
    bool same_boot = !process || !process->boot_id[0] || str_eq(process->boot_id, v->boot_id);
    /* One that was told to stop has done so. */
    const struct vm_ending end = {.reason = row->state == VM_STOPPING ? row->reason
                                            : vm_is_starting(row)     ? "start interrupted"
                                            : same_boot               ? "vmm_died"
                                                                      : "host_reboot",
                                  .exit = {.code = -1}};

    return vm_clean_up(v, row->id, &end, err);
}

/* It is ours whether that can be written down or not. */
static void write_adopted(struct vms *v, const struct vm_row *row)
{
    bool as_it_was =
        (row->state == VM_RUNNING && !row->reason[0]) || str_eq(row->reason, VM_REASON_DISK_FULL);
    struct err err;
    _cleanup_vm_run_ struct vm_run *run = vm_run_get(v, row->id, &err);

    if (vm_is_paused_by_user(row)) {
        vm_keep_paused(v, row->id);
        return;
    }
    /* Mostly nothing is to be written then, and it is as long in its state as it was. */
    if (run && (as_it_was ? vm_record_paused(v, row->id, &err) : vm_set_up(v, run, "", &err)) < 0) {
        log_error("VM %.12s: %s", row->id, err.message);
    }
}

int vm_settle(struct vms *v, const struct vm_row *row, struct err *err)
{
    bool adopted = false, boots;

    if (vm_row_object(row, OBJECT_PROCESS)) {
        adopted = take_over(v, row, err) == 0;
        if (!adopted && err->code != ERR_NOT_FOUND && !vm_is_half(row)) {
            /* It may run on; the guest's work is not for us to end. */
            _cleanup_free_ char *reason = x_asprintf("cannot be taken over: %.200s", err->message);
            struct err none;

            (void)vm_set_state(v, row->id, VM_ERROR, reason, &none);
            return -1;
        }
    }
    CRASH_POINT("reconcile.adopted");
    boots = adopted && vm_is_starting(row); /* nobody waits for it any more */
    /* An auto_remove VM is there for its main session; vm_resume.c looks after one that runs. */
    if (vm_is_half(row) || (row->auto_remove && (!adopted || boots))) {
        return vm_remove(v, row->id, err);
    }
    /* What is on the disk is the user's. */
    if (boots) {
        return vm_kill(v, row->id, "start interrupted", err);
    }
    if (adopted) {
        write_adopted(v, row);
        return 0;
    }
    if (row->state == VM_CREATED ||
        (row->state == VM_STOPPED && !vm_row_object(row, OBJECT_RUN_DIR))) {
        return 0;
    }
    return set_ended(v, row, err);
}

static void settle_logged(struct vms *v, const struct vm_row *row)
{
    struct vm_token *token;
    struct err err;

    if (vm_locks_acquire(v->locks, row->id, "adopt", NULL, -1, &token, &err)) {
        return;
    }
    if (vm_settle(v, row, &err) < 0) {
        log_error("VM %.12s '%s': %s", row->id, row->name, err.message);
    }
    vm_locks_release(token);
}

int vms_load(struct vms *v, struct err *err)
{
    struct vm_row *rows;
    size_t count;

    /* Without it every VM would seem to be of an earlier boot, and dead. */
    if (!v->boot_id[0]) {
        err_set(err, ERR_IO, "the host's boot id cannot be read");
        return err_hint(err, "it is in /proc/sys/kernel/random/boot_id: is /proc mounted?");
    }
    if (store_vm_list(v->params.store, &rows, &count, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        vm_keep_net(v, &rows[i]);
        add_entry(v, &rows[i]);
    }
    for (size_t i = 0; i < count; i++) {
        settle_logged(v, &rows[i]);
        vm_row_done(&rows[i]);
    }
    free(rows);
    if (vm_sweep(v, err) < 0) {
        return -1;
    }
    vm_policy_begin(v);
    return 0;
}
