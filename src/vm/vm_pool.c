/* Pool members (snapshot/pool.c): forks that are nobody's yet. Restored, rehearsed, stopped; a
 * create that claims one gives it a name and an identity, and lets it go on: vm_create.c. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/str.h"
#include "base/test_point.h"

#include <stdio.h>
#include <string.h>

#define PAUSE_MS 10000

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
