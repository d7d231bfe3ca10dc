#include "vm/doctor.h"

#include "base/str.h"
#include "vm/vm_priv.h"
#include "vmm/process_find.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define RECONCILE_FIX "banger daemon reconcile"

struct rows {
    struct vm_row *list;
    size_t count;
};

static void rows_done(struct rows *r)
{
    for (size_t i = 0; i < r->count; i++) {
        vm_row_done(&r->list[i]);
    }
    free(r->list);
}

static bool knows(const struct rows *rows, const char *id)
{
    for (size_t i = 0; i < rows->count; i++) {
        if (str_eq(rows->list[i].id, id)) {
            return true;
        }
    }
    return false;
}

struct stale {
    const struct rows *rows;
    unsigned count;
    char first[200];
};

static void note_process(void *arg, const struct vmm_process *process, const struct vmm_ops *ops,
                         const char *name)
{
    struct stale *s = arg;

    if (!knows(s->rows, name) && s->count++ == 0) {
        (void)snprintf(s->first, sizeof(s->first), "process %d (%s): no VM has it", process->pid,
                       ops->program);
    }
}

static void note_dirs(struct stale *s, const char *run_dir)
{
    DIR *dir = opendir(run_dir);
    struct dirent *e;

    while (dir && (e = readdir(dir))) {
        if (e->d_name[0] != '.' && !knows(s->rows, e->d_name) && s->count++ == 0) {
            (void)snprintf(s->first, sizeof(s->first), "directory %.100s/%.64s: no VM has it",
                           run_dir, e->d_name);
        }
    }
    if (dir) {
        (void)closedir(dir);
    }
}

/* By what a daemon would mend. */
static int ask_daemon(const struct vm_doctor *d, struct stale *s, struct err *err)
{
    _cleanup_json_ json_t *list = NULL;
    const json_t *first;

    if (vms_reconcile(d->vms, true, &list, err) < 0) {
        return -1;
    }
    s->count = (unsigned)json_array_size(list);
    first = json_array_get(list, 0);
    if (first) {
        (void)snprintf(s->first, sizeof(s->first), "%.100s: %.90s", json_str(first, "object", ""),
                       json_str(first, "problem", ""));
    }
    return 0;
}

static int look(const struct vm_doctor *d, struct stale *s, struct err *err)
{
    _cleanup_(rows_done) struct rows rows = {0};
    int r;

    if (d->vms) {
        return ask_daemon(d, s, err);
    }
    if (d->store && store_vm_list(d->store, &rows.list, &rows.count, err) < 0) {
        return -1;
    }
    s->rows = &rows;
    r = process_find_all(d->run_dir, note_process, s);
    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot list processes");
    }
    note_dirs(s, d->run_dir);
    return 0;
}

static void check_stale(const void *ctx, struct doctor_finding *f)
{
    const struct vm_doctor *d = ctx;
    struct stale s = {0};
    struct err err;

    if (look(d, &s, &err) < 0) {
        doctor_warn(f, "what earlier VMs left cannot be looked for");
        doctor_evidence(f, "%s", err.message);
        doctor_fix(f, RECONCILE_FIX " --dry-run");
    } else if (s.count > 0) {
        doctor_warn(f, "%u object%s of VMs on the host %s not as known", s.count,
                    s.count == 1 ? "" : "s", s.count == 1 ? "is" : "are");
        doctor_evidence(f, "%s", s.first);
        doctor_fix(f, RECONCILE_FIX);
    } else {
        doctor_pass(f, "nothing is left of VMs that are gone");
        doctor_evidence(f, "processes, and directories in %s", d->run_dir);
    }
}

static void check_vms(const void *ctx, struct doctor_finding *f)
{
    const struct vm_doctor *d = ctx;
    _cleanup_(rows_done) struct rows rows = {0};
    const struct vm_row *bad = NULL;
    struct err err;
    unsigned count = 0;

    if (d->store && store_vm_list(d->store, &rows.list, &rows.count, &err) < 0) {
        doctor_fail_err(f, &err);
        doctor_fix(f, "banger daemon verify-store");
        return;
    }
    for (size_t i = 0; i < rows.count; i++) {
        const struct vm_row *row = &rows.list[i];

        if (row->state == VM_ERROR ||
            (row->state == VM_PAUSED && str_eq(row->reason, VM_REASON_DISK_FULL))) {
            bad = bad ? bad : row;
            count++;
        }
    }
    if (!bad) {
        doctor_evidence(f, "VMs: %zu", rows.count);
        doctor_pass(f, "no VM is in trouble");
        return;
    }
    doctor_evidence(f, "VM '%s' is %s: %s", bad->name, vm_state_name(bad->state), bad->reason);
    if (bad->state == VM_ERROR) {
        doctor_warn(f, "%u VM%s in trouble", count, count == 1 ? " is" : "s are");
        doctor_fix(f, "banger start %s (tries again), or: banger rm --force %s", bad->name,
                   bad->name);
    } else {
        doctor_warn(f, "%u VM%s for room on the disk", count, count == 1 ? " waits" : "s wait");
        doctor_fix(f, "make room on the filesystem of the state directory");
    }
}

struct older {
    unsigned running, count;
    char name[64], version[GUEST_VERSION_SIZE]; /* of the first */
};

/* A VM that runs keeps the agent that it has booted with. */
static void count_agents(const struct vm_doctor *d, struct older *ret)
{
    struct vms *v = d->vms;

    leaf_lock(&v->table);
    list_for_each (it, &v->entries) {
        const struct vm_entry *e = LIST_ENTRY(it, struct vm_entry, node);
        char version[GUEST_VERSION_SIZE];

        if (!e->run || !e->run->link) {
            continue;
        }
        guest_link_agent_version(e->run->link, version);
        ret->running++;
        if (version[0] && !str_eq(version, d->version) && ret->count++ == 0) {
            memcpy(ret->name, e->row.name, sizeof(ret->name));
            memcpy(ret->version, version, sizeof(ret->version));
        }
    }
    leaf_unlock(&v->table);
}

static void check_agents(const void *ctx, struct doctor_finding *f)
{
    const struct vm_doctor *d = ctx;
    struct older older = {0};

    if (d->vms) {
        count_agents(d, &older);
    }
    if (older.count == 0) {
        doctor_evidence(f, "VMs that run: %u", older.running);
        doctor_pass(f, "no VM runs an agent of another version");
        return;
    }
    doctor_evidence(f, "VM '%s': agent %s; daemon: %s", older.name, older.version, d->version);
    doctor_warn(f, "%u VM%s an agent of another version", older.count,
                older.count == 1 ? " runs" : "s run");
    doctor_fix(f, "banger restart %s, when it may be interrupted", older.name);
}

const struct doctor_check vm_checks[] = {
    {"stale-objects", "What VMs left on the host", 0, check_stale},
    {"vms", "VMs in trouble", 0, check_vms},
    {"agents", "Agents of VMs that run", 0, check_agents},
    {0},
};
