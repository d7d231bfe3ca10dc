/* Taking back what the ledger says a VM has on the host. Each kind of object has one undo, which
 * finds it by its name and is content when it is gone already; so it does not matter whether the
 * object was ever made, or by which daemon. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "base/test_point.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EXIT_WAIT_MS 10000

/* ---- processes ---- */

void vm_process_name(const struct vmm_process *process, char ret_name[OBJECT_NAME_SIZE])
{
    (void)snprintf(ret_name, OBJECT_NAME_SIZE, "%d:%llu", process->pid,
                   (unsigned long long)process->start_ticks);
}

bool vm_process_from_object(const struct vm_object *o, struct vmm_process *ret_process)
{
    struct vmm_process p = {0};
    char pid_text[OBJECT_NAME_SIZE];
    const char *colon = o ? strchr(o->name, ':') : NULL;
    uint64_t pid;

    if (!colon) {
        return false;
    }
    (void)snprintf(pid_text, sizeof(pid_text), "%.*s", (int)(colon - o->name), o->name);
    if (str_to_u64(pid_text, INT32_MAX, &pid) < 0 || pid == 0 ||
        str_to_u64(colon + 1, UINT64_MAX, &p.start_ticks) < 0) {
        return false;
    }
    p.pid = (pid_t)pid;
    memcpy(p.boot_id, o->boot_id, sizeof(p.boot_id));
    *ret_process = p;
    return true;
}

static void ignore_event(void *arg, enum vmm_event event)
{
    (void)arg;
    (void)event;
}

int vm_end_vmm(const struct vmm_ops *ops, struct vmm *vmm, struct vmm_exit *ret_exit,
               struct err *err)
{
    int pid = ops->process(vmm)->pid, r;

    if (ops->kill(vmm, err) < 0) {
        return err_wrap(err, "process %d does not end", pid);
    }
    r = ops->wait_exit(vmm, NULL, clock_mono_ms() + EXIT_WAIT_MS, ret_exit);
    return r < 0 ? err_set_errno(err, ERR_VMM, r, "process %d does not end", pid) : 0;
}

int vm_end_process(struct vms *v, const struct vmm_ops *ops, const char *name,
                   const struct vmm_process *process, struct err *err)
{
    _cleanup_free_ char *run_dir = x_asprintf("%s/%s", v->run_dir, name);
    _cleanup_close_ int fd = fs_open_dir(v->params.run_fd, name, false);
    struct vmm_exit unused;
    struct vmm *vmm;
    int r;

    if (ops->adopt(v->params.control_loop, v->params.host, run_dir, fd, process, ignore_event, NULL,
                   &vmm, err) < 0) {
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    }
    r = vm_end_vmm(ops, vmm, &unused, err);
    ops->free(vmm);
    return r;
}

struct found {
    struct vms *v;
    const char *id;
    struct err *err;
    int result;
};

static void end_found(void *arg, const struct vmm_process *process, const struct vmm_ops *ops,
                      const char *name)
{
    struct found *f = arg;
    struct err err;

    if (str_eq(name, f->id) && vm_end_process(f->v, ops, name, process, &err) < 0 &&
        f->result == 0) {
        *f->err = err;
        f->result = -1;
    }
}

/* One that a daemon started, and died before it could note it, is found by its command line. */
static int undo_process(struct vms *v, const struct vm_row *row, const struct vm_object *o,
                        struct err *err)
{
    const struct vmm_ops *ops = vm_ops(v, row->vmm);
    struct found f = {.v = v, .id = row->id, .err = err};
    struct vmm_process process;
    int r;

    /* It died with the kernel that ran it. */
    if (o->boot_id[0] && !str_eq(o->boot_id, v->boot_id)) {
        return 0;
    }
    if (!ops) {
        return err_set(err, ERR_UNSUPPORTED, "this build cannot end a process of '%s'", row->vmm);
    }
    if (vm_process_from_object(o, &process)) {
        return vm_end_process(v, ops, row->id, &process, err);
    }
    r = process_find_all(v->run_dir, end_found, &f);
    return r < 0 ? err_set_errno(err, ERR_IO, r, "cannot look for its process in /proc") : f.result;
}

/* ---- directories ---- */

static int undo_run_dir(struct vms *v, const struct vm_row *row, const struct vm_object *o,
                        struct err *err)
{
    int r = fs_remove_tree(v->params.run_fd, o->name);

    (void)row;
    return r < 0 ? err_set_errno(err, ERR_IO, r, "cannot remove its run directory") : 0;
}

static int undo_state_dir(struct vms *v, const struct vm_row *row, const struct vm_object *o,
                          struct err *err)
{
    char path[OBJECT_NAME_SIZE + 8];
    int r;

    (void)row;
    (void)snprintf(path, sizeof(path), "vms/%s", o->name);
    r = fs_remove_tree(v->params.state_fd, path);
    return r < 0 ? err_set_errno(err, ERR_IO, r, "cannot remove its files") : 0;
}

/* ---- all ---- */

typedef int (*undo_fn)(struct vms *v, const struct vm_row *row, const struct vm_object *o,
                       struct err *err);

static const undo_fn undo[OBJECT_KIND_COUNT] = {
    [OBJECT_STATE_DIR] = undo_state_dir,
    [OBJECT_RUN_DIR] = undo_run_dir,
    [OBJECT_TAP] = vm_undo_tap,
    [OBJECT_PROCESS] = undo_process,
};

int vm_undo(struct vms *v, const char *id, enum vm_undo_scope scope, struct err *err)
{
    _cleanup_vm_row_ struct vm_row row = {0};
    struct err one;
    int r = 0;

    if (vm_get_row(v, id, &row, err) < 0) {
        return -1;
    }
    for (size_t i = row.object_count; i-- > 0;) {
        const struct vm_object *o = &row.objects[i];

        if (scope == VM_UNDO_RUN && o->incarnation == 0) {
            continue;
        }
        CRASH_POINT("undo.object");
        if (undo[o->kind](v, &row, o, &one) == 0) {
            continue;
        }
        if (r == 0) {
            *err = one;
            r = -1;
        } else {
            err_append(err, "; and %s", one.message);
        }
    }
    return r;
}

void vm_row_drop_run(struct vm_row *row)
{
    vm_row_drop_object(row, OBJECT_PROCESS);
    vm_row_drop_object(row, OBJECT_TAP);
    vm_row_drop_object(row, OBJECT_RUN_DIR);
}

void vm_row_enter_run(struct vm_row *row)
{
    struct vm_object dir = {.kind = OBJECT_RUN_DIR, .incarnation = row->incarnation};
    struct vm_object tap = {.kind = OBJECT_TAP, .incarnation = row->incarnation};
    struct vm_object process = {.kind = OBJECT_PROCESS, .incarnation = row->incarnation};

    vm_row_drop_run(row);
    (void)snprintf(dir.name, sizeof(dir.name), "%s", row->id);
    vm_row_put_object(row, &dir);
    if (row->net_slot > 0) {
        vm_row_put_object(row, &tap);
    }
    vm_row_put_object(row, &process);
}
