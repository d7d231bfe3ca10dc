/* Sessions that outlived a daemon. What a client of that daemon held (a session; a VM with
 * auto_remove) waits GRACE_MS for it from the moment the agent has listed its sessions; after that
 * it is as if the client's connection had ended. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>

#define GRACE_MS 10000
/* For an agent that does not answer, or takes its time. */
#define LISTING_MS 20000

static void look_after(struct vms *v, const char *id)
{
    char main_session[ID_SIZE] = "";
    bool orphaned = false, detached = false;
    struct vm_entry *e;
    unsigned count;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e && e->row.auto_remove) {
        orphaned = e->orphaned;
        detached = !e->row.held;
        memcpy(main_session, e->main_session, ID_SIZE);
    }
    leaf_unlock(&v->table);
    /* Whether it goes with its client is what the store says, not the guest. */
    if (orphaned ||
        (detached && main_session[0] && session_is_over(v->sessions, id, main_session))) {
        log_info("VM %.12s: nobody came back to its command: removed", id);
        vm_auto_remove(v, id);
        return;
    }
    count = session_let_go_orphans(v->sessions, id);
    if (count > 0) {
        log_info("VM %.12s: nobody came back to %u of its sessions", id, count);
    }
}

static void on_grace_over(void *arg)
{
    struct vm_run *run = arg;

    vm_run_worker(run->vms, run->vm_id, look_after);
}

static void make_timer(void *arg)
{
    struct vm_run *run = arg;

    run->grace = loop_add_timer(run->vms->params.guest_loop, clock_mono_ms() + LISTING_MS,
                                on_grace_over, run);
}

void vm_begin_grace(struct vm_run *run)
{
    struct vms *v = run->vms;
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, run->vm_id);
    e->orphaned = e->row.auto_remove && e->row.held;
    leaf_unlock(&v->table);
    run->has_grace = true;
    loop_post(v->params.guest_loop, make_timer, run);
}

static void free_timer(void *arg)
{
    struct vm_run *run = arg;

    loop_source_free(STEAL_PTR(run->grace));
}

void vm_end_grace(struct vm_run *run)
{
    if (run->has_grace) {
        loop_call(run->vms->params.guest_loop, free_timer, run);
    }
}

void vm_on_listed(struct vm_run *run)
{
    struct vms *v = run->vms;
    char main_session[ID_SIZE] = "";
    bool found = session_find_main(v->sessions, run->vm_id, main_session);
    struct vm_entry *e;
    bool remove;

    loop_source_set_deadline(run->grace, clock_mono_ms() + GRACE_MS);
    leaf_lock(&v->table);
    run->asked[0] = '\0'; /* its guest is not going down */
    e = vm_find_locked(v, run->vm_id);
    remove = e && e->row.auto_remove && !found;
    if (e) {
        memcpy(e->main_session, main_session, ID_SIZE);
    }
    leaf_unlock(&v->table);
    /* Its command has been delivered to the client, or was never started. */
    if (remove) {
        vm_run_worker(v, run->vm_id, vm_auto_remove);
    }
}
