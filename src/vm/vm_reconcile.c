/*
 * Comparing what the table and its ledger say with what the host has, and mending the difference:
 * at start-up, and when asked to (daemon.reconcile). Only what carries our mark is touched: VMMs
 * whose command line names our runtime directory, and what lies in our own directories. Each thing
 * is looked at again under its VM's token, so what somebody works on is left to them.
 *
 * A directory with a disk whose VM is not in the store is told and kept: no daemon of ours leaves
 * one behind, so it is there because the store is an older one, and it may hold somebody's work.
 */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* How they are called in the runtime directory (vmm/accel.c). */
#define PROBE_PREFIX "kvm-probe."

struct sweep {
    struct vms *v;
    bool dry_run;
    json_t *list; /* of Discrepancy objects */
};

static bool is_id(const char *name)
{
    return strlen(name) == ID_SIZE - 1 && id_is_prefix(name);
}

static void tell(struct sweep *s, const char *vm, const char *object, const char *problem,
                 const char *action, const struct err *err)
{
    json_t *o = json_object();

    json_put_str(o, "object", object);
    json_put(o, "vm", vm && vm[0] ? json_string(vm) : json_null());
    json_put_str(o, "problem", problem);
    json_put_str(o, "action", action);
    json_put(o, "error", err ? json_string(err->message) : json_null());
    json_array_append_new(s->list, o);
    if (!s->dry_run) {
        log_warn("reconcile: %s%s%s: %s: %s%s%s", object, vm && vm[0] ? " of VM " : "",
                 vm ? vm : "", problem, action, err ? " failed: " : "", err ? err->message : "");
    }
}

/* The token, unless somebody has it: then what looks wrong is their work under way. */
static int try_token(struct sweep *s, const char *id, struct vm_token **ret_token)
    ACQUIRES_IF_ZERO(rank_vm)
{
    struct err busy;

    return vm_locks_acquire(s->v->locks, id, "reconcile", NULL, clock_mono_ms(), ret_token, &busy);
}

/* What the table says of an id, under its token. */
struct known {
    bool there, has_run;
    struct vm_row row;
};

static void known_done(struct known *k)
{
    vm_row_done(&k->row);
}

static void look_up(struct vms *v, const char *id, struct known *ret)
{
    struct vm_entry *e;

    *ret = (struct known){0};
    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        ret->there = true;
        ret->has_run = e->run != NULL;
        vm_row_copy(&ret->row, &e->row);
    }
    leaf_unlock(&v->table);
}

/* ---- VMs that claim a run which nobody holds ---- */

static bool process_lives(struct vms *v, const struct vm_row *row)
{
    _cleanup_free_ char *run_dir = x_asprintf("%s/%s", v->run_dir, row->id);
    struct vmm_process process;
    _cleanup_close_ int fd = -1;

    if (!vm_process_from_object(vm_row_object(row, OBJECT_PROCESS), &process)) {
        return false;
    }
    fd = process_open(&process, run_dir);
    return fd >= 0;
}

static void mend_run(struct sweep *s, const struct vm_row *row) REQUIRES(rank_vm)
{
    bool half = vm_is_half(row), lives = process_lives(s->v, row);
    _cleanup_free_ char *problem = x_asprintf("is %s, and %s", vm_state_name(row->state),
                                              half    ? "was not made or deleted completely"
                                              : lives ? "runs without us"
                                                      : "what it had while it ran is still there");
    struct err err;
    /* A template's machine is nobody's once its maker has let go of it, whether it runs or not. */
    int r = s->dry_run                      ? 0
            : row->role == VM_ROLE_TEMPLATE ? vm_remove(s->v, row->id, &err)
                                            : vm_settle(s->v, row, &err);

    tell(s, row->name, "vm", problem,
         half    ? "remove"
         : lives ? "adopt"
                 : "stop",
         r < 0 ? &err : NULL);
}

static void check_disk(struct sweep *s, const struct vm_row *row)
{
    _cleanup_free_ char *path = x_asprintf("vms/%s/data.ext4", row->id);
    struct stat st;

    if (fstatat(s->v->params.state_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT) {
        tell(s, row->name, "data disk", "is missing", "none", NULL);
    }
}

static void check_vm(struct sweep *s, const char *id)
{
    _cleanup_(known_done) struct known k = {0};
    struct vm_token *token;

    if (try_token(s, id, &token)) {
        return;
    }
    look_up(s->v, id, &k);
    if (k.there && (!k.has_run || k.row.role == VM_ROLE_TEMPLATE)) {
        if (vm_row_object(&k.row, OBJECT_RUN_DIR) || vm_row_object(&k.row, OBJECT_PROCESS) ||
            vm_is_half(&k.row)) {
            mend_run(s, &k.row);
        } else {
            check_disk(s, &k.row);
        }
    }
    vm_locks_release(token);
}

static void check_vms(struct sweep *s)
{
    struct vms *v = s->v;
    char(*ids)[ID_SIZE];
    size_t count = 0, i = 0;

    leaf_lock(&v->table);
    list_for_each (it, &v->entries) {
        (void)it;
        count++;
    }
    ids = x_calloc(count + 1, sizeof(*ids));
    list_for_each (it, &v->entries) {
        memcpy(ids[i++], LIST_ENTRY(it, struct vm_entry, node)->row.id, ID_SIZE);
    }
    leaf_unlock(&v->table);
    for (i = 0; i < count; i++) {
        check_vm(s, ids[i]);
    }
    free(ids);
}

/* ---- processes ---- */

struct stray {
    struct vmm_process process;
    const struct vmm_ops *ops;
    char name[ID_SIZE + sizeof(PROBE_PREFIX)]; /* of its run directory */
};

struct strays {
    struct stray *list;
    size_t count;
};

static void note_stray(void *arg, const struct vmm_process *process, const struct vmm_ops *ops,
                       const char *name)
{
    struct strays *all = arg;
    struct stray *one;

    if (strlen(name) >= sizeof(one->name)) {
        return; /* no name that we give */
    }
    all->list = reallocarray(all->list, all->count + 1, sizeof(*all->list));
    if (!all->list) {
        abort();
    }
    one = &all->list[all->count++];
    *one = (struct stray){.process = *process, .ops = ops};
    (void)snprintf(one->name, sizeof(one->name), "%s", name);
}

static void end_stray(struct sweep *s, const struct stray *stray, const char *vm,
                      const char *problem)
{
    _cleanup_free_ char *object = x_asprintf("process %d", stray->process.pid);
    struct err err;
    int r = 0;

    if (!s->dry_run) {
        CRASH_POINT("reconcile.process");
        r = vm_end_process(s->v, stray->ops, stray->name, &stray->process, &err);
    }
    tell(s, vm, object, problem, "kill", r < 0 ? &err : NULL);
}

static void check_process(struct sweep *s, const struct stray *stray)
{
    _cleanup_(known_done) struct known k = {0};
    struct vm_token *token;

    if (try_token(s, stray->name, &token)) {
        return;
    }
    look_up(s->v, stray->name, &k);
    /* A VM that could not be taken over keeps its process: it is in the ledger. */
    if (!k.there) {
        end_stray(s, stray, NULL, "no VM has it");
    } else if (!k.has_run && !vm_row_object(&k.row, OBJECT_PROCESS)) {
        end_stray(s, stray, k.row.name, "the VM does not run");
    }
    vm_locks_release(token);
}

/* ---- directories ---- */

static void remove_dir(struct sweep *s, const char *name, const char *vm, const char *problem)
{
    _cleanup_free_ char *object = x_asprintf("directory %s/%s", s->v->run_dir, name);
    struct err err;
    int r = 0;

    if (!s->dry_run) {
        r = fs_remove_tree(s->v->params.run_fd, name);
        CRASH_POINT("reconcile.removed");
    }
    if (r < 0) {
        err_set_errno(&err, ERR_IO, r, "cannot remove it");
    }
    tell(s, vm, object, problem, "remove", r < 0 ? &err : NULL);
}

static void check_run_dir(struct sweep *s, const char *name)
{
    _cleanup_(known_done) struct known k = {0};
    struct vm_token *token;

    if (!is_id(name) || try_token(s, name, &token)) {
        return;
    }
    look_up(s->v, name, &k);
    if (!k.there) {
        remove_dir(s, name, NULL, "no VM has it");
    } else if (!k.has_run && !vm_row_object(&k.row, OBJECT_RUN_DIR)) {
        remove_dir(s, name, k.row.name, "the VM does not run");
    }
    vm_locks_release(token);
}

static void check_state_dir(struct sweep *s, const char *name)
{
    _cleanup_free_ char *object = x_asprintf("directory vms/%s of the state directory", name);
    _cleanup_(known_done) struct known k = {0};
    struct vm_token *token;

    if (!is_id(name) || try_token(s, name, &token)) {
        return;
    }
    look_up(s->v, name, &k);
    if (!k.there) {
        tell(s, NULL, object, "no VM has it; it may hold work, and is kept", "none", NULL);
    }
    vm_locks_release(token);
}

/* Calls fn for each name in a directory; one that is not there is empty. */
static int each_name(int dir_fd, const char *path, struct sweep *s,
                     void (*fn)(struct sweep *s, const char *name), struct err *err)
{
    int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!dir) {
        close_p(&fd);
        return errno == ENOENT ? 0 : err_set_errno(err, ERR_IO, errno, "cannot list '%s'", path);
    }
    while ((e = readdir(dir))) {
        if (e->d_name[0] != '.') {
            fn(s, e->d_name);
        }
    }
    (void)closedir(dir);
    return 0;
}

/* ---- what a probe for KVM left ---- */

static void check_probe_dir(struct sweep *s, const char *name)
{
    if (str_starts_with(name, PROBE_PREFIX)) {
        remove_dir(s, name, NULL, "a test of KVM left it");
    }
}

/* Nobody probes while we have the slot. */
static int check_probes(struct sweep *s, const struct strays *strays, struct err *err)
{
    int r;

    if (boot_slots_acquire(s->v->probe, NULL, clock_mono_ms()) < 0) {
        return 0;
    }
    for (size_t i = 0; i < strays->count; i++) {
        if (str_starts_with(strays->list[i].name, PROBE_PREFIX)) {
            end_stray(s, &strays->list[i], NULL, "a test of KVM left it");
        }
    }
    r = each_name(s->v->params.run_fd, ".", s, check_probe_dir, err);
    boot_slots_release(s->v->probe);
    return r;
}

/* ---- all ---- */

static int sweep_host(struct sweep *s, struct err *err)
{
    struct strays strays = {0};
    int r = process_find_all(s->v->run_dir, note_stray, &strays);

    if (r < 0) {
        r = err_set_errno(err, ERR_IO, r, "cannot list processes");
    }
    for (size_t i = 0; r == 0 && i < strays.count; i++) {
        if (is_id(strays.list[i].name)) {
            check_process(s, &strays.list[i]);
        }
    }
    r = r < 0 ? r : check_probes(s, &strays, err);
    r = r < 0 ? r : each_name(s->v->params.run_fd, ".", s, check_run_dir, err);
    r = r < 0 ? r : each_name(s->v->params.state_fd, "vms", s, check_state_dir, err);
    free(strays.list);
    return r;
}

int vm_sweep(struct vms *v, struct err *err)
{
    struct sweep s = {.v = v, .list = json_array()};
    int r = sweep_host(&s, err);

    json_decref(s.list);
    return r;
}

int vms_reconcile(struct vms *v, bool dry_run, json_t **ret_list, struct err *err)
{
    struct sweep s = {.v = v, .dry_run = dry_run, .list = json_array()};

    check_vms(&s);
    if (sweep_host(&s, err) < 0) {
        json_decref(s.list);
        return -1;
    }
    *ret_list = s.list;
    return 0;
}
