/* Pool members (snapshot/pool.c): forks that are nobody's yet. Restored, rehearsed, stopped; a
 * create that claims one gives it a name and an identity, and lets it go on: vm_create.c. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/str.h"
#include "base/test_point.h"

#include <stdio.h>
#include <string.h>

#define PAUSE_MS 10000
#define WAKE_MS 10000

static int make_member(struct vms *v, struct vm_row *row, const struct vm_fork *fork,
                       struct cancel *cancel, struct err *err) REQUIRES(rank_vm)
{
    const struct vm_boot_params params = {.cancel = cancel, .fork = fork, .memory_fd = -1};
    struct vm_run *run;
    struct err undo;
    int r;

    if (vm_make_hidden(v, row, &params, err) < 0) {
        return -1;
    }
    run = vm_run_get(v, row->id, err);
    r = run && vm_rehearse(run, cancel, err) == 0 &&
                run->ops->pause(run->vmm, cancel, clock_mono_ms() + PAUSE_MS, err) == 0 &&
                vm_set_state(v, row->id, VM_POOLED, "", err) == 0
            ? 0
            : -1;
    vm_run_put(run);
    CRASH_POINT("pool.added");
    if (r < 0 && vm_remove(v, row->id, &undo) < 0) {
        err_append(err, "; and the undo failed: %s", undo.message);
    }
    return r;
}

int vms_pool_add(struct vms *v, const struct vm_row *like, const struct vm_fork *fork,
                 struct cancel *cancel, char ret_id[ID_SIZE], struct err *err)
{
    _cleanup_vm_row_ struct vm_row row;
    struct vm_token *token;
    int r;

    vm_hidden_row(v, like, VM_ROLE_POOL, &row);
    r = vm_locks_acquire(v->locks, row.id, "pool", cancel, -1, &token, err);
    if (r == 0) {
        r = make_member(v, &row, fork, cancel, err);
        vm_locks_release(token);
    }
    memcpy(ret_id, row.id, ID_SIZE);
    return r == 0 ? 0 : -1;
}

int vms_pool_remove(struct vms *v, const char *id, struct err *err)
{
    _cleanup_vm_row_ struct vm_row row = {0};
    struct vm_token *token;
    int r;

    if (vm_locks_acquire(v->locks, id, "pool", NULL, -1, &token, err)) {
        return -1;
    }
    r = vm_get_row(v, id, &row, err) < 0 || row.role != VM_ROLE_POOL ? 0 : vm_remove(v, id, err);
    vm_locks_release(token);
    return r;
}

/* ---- claiming one ---- */

/* What the member is stays, who it is becomes what was asked for. */
static int merge_row(struct vms *v, struct vm_row *row, struct err *err)
{
    _cleanup_vm_row_ struct vm_row member = {0};

    if (vm_get_row(v, row->id, &member, err) < 0) {
        return -1;
    }
    if (member.role != VM_ROLE_POOL || member.state != VM_POOLED) {
        return err_set(err, ERR_NOT_RUNNING, "the pool's member has ended");
    }
    row->state = VM_RESTORING;
    row->incarnation = member.incarnation;
    row->run_vcpus = member.run_vcpus;
    row->run_memory_mib = member.run_memory_mib;
    row->run_disk_bytes = member.run_disk_bytes;
    row->net_slot = member.net_slot;
    memcpy(row->accel, member.accel, sizeof(row->accel));
    memcpy(row->accel_why, member.accel_why, sizeof(row->accel_why));
    memcpy(row->vmm_version, member.vmm_version, sizeof(row->vmm_version));
    memcpy(row->template_id, member.template_id, sizeof(row->template_id));
    (void)snprintf(row->start_why, sizeof(row->start_why), "pool of template %.12s",
                   row->template_id);
    free(row->objects);
    row->objects = STEAL_PTR(member.objects);
    row->object_count = member.object_count;
    row->objects_changed = false;
    member.object_count = 0;
    return 0;
}

static void exchange_row(struct vms *v, const struct vm_row *row)
{
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, row->id); /* there: we hold its token */
    vm_row_done(&e->row);
    vm_row_copy(&e->row, row);
    vm_reindex_locked(v, e);
    e->used_ms = v->seams.clock->mono_ms();
    vm_changed_locked(v);
    leaf_unlock(&v->table);
}

int vm_pool_claim(struct vms *v, struct vm_row *row, bool named, struct err *err)
{
    int r;

    if (merge_row(v, row, err) < 0) {
        return -1;
    }
    create_lock(&v->create);
    vm_name_and_date(v, row, named);
    r = store_vm_update(v->params.store, row, err);
    if (r == 0) {
        exchange_row(v, row);
    }
    create_unlock(&v->create);
    CRASH_POINT("pool.claimed");
    return r;
}

struct waking {
    struct vms *v;
    struct vm_run *run;
    int64_t claim_ms, configure_ms;
};

static void set_awake(struct vm_row *row, void *arg)
{
    const struct waking *w = arg;

    row->state = VM_RUNNING;
    row->reason[0] = '\0';
    row->state_since_ms = row->started_ms = w->v->seams.clock->real_ms();
    row->phase_count = 2;
    row->timeline[0] = (struct vm_phase){.name = VM_PHASE_CLAIM, .ms = w->claim_ms};
    row->timeline[1] = (struct vm_phase){.name = "configure", .ms = w->configure_ms};
    vm_mark_paused_locked(w->run, row);
}

int vm_pool_wake(struct vms *v, const struct vm_row *row, struct op *op, struct err *err)
{
    _cleanup_vm_run_ struct vm_run *run = vm_run_get(v, row->id, err);
    struct waking w = {.v = v, .run = run};
    int64_t start_ms = clock_mono_ms(), awake_ms;

    op_stage(op, VM_PHASE_CLAIM);
    if (!run || run->ops->resume(run->vmm, op_cancel(op), start_ms + WAKE_MS, err) < 0) {
        return -1;
    }
    awake_ms = clock_mono_ms();
    w.claim_ms = awake_ms - start_ms;
    op_stage(op, "configure");
    if (vm_configure(run, row, op_cancel(op), err) < 0) {
        return -1;
    }
    w.configure_ms = clock_mono_ms() - awake_ms;
    vm_publish_name(v, row);
    return vm_update(v, row->id, set_awake, &w, err);
}
