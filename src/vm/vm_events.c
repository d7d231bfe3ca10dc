/* What the VMM, the agent's link and sessions report. On the loops' threads: note it, wake a
 * worker, wait for nothing. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/str.h"

#include <stdio.h>

void vm_on_vmm_event(void *arg, enum vmm_event event)
{
    struct vm_run *run = arg;
    struct vms *v = run->vms;

    switch (event) {
    case VMM_EXITED:
        leaf_lock(&v->table);
        run->exited = true;
        leaf_unlock(&v->table);
        vm_run_ended(run);
        break;
    case VMM_PORT_CLOSED:
        vm_run_ended(run);
        break;
    case VMM_GUEST_RESET: /* the exit follows */
        leaf_lock(&v->table);
        run->was_reset = true;
        leaf_unlock(&v->table);
        break;
    case VMM_GUEST_POWEROFF:
        leaf_lock(&v->table);
        run->going_down = true;
        leaf_unlock(&v->table);
        break;
    case VMM_IO_STOPPED:
        vm_on_io_stopped(run);
        break;
    case VMM_RESUMED:
        vm_on_resumed(run);
        break;
    }
}

void vm_on_link_event(void *arg, enum guest_link_event event, const char *text)
{
    struct vm_run *run = arg;
    struct vms *v = run->vms;

    if (event == GUEST_LINK_LISTED) {
        vm_on_listed(run);
        return;
    }
    leaf_lock(&v->table);
    if (event == GUEST_LINK_GOING_DOWN) {
        run->going_down = true;
    } else {
        (void)snprintf(run->why, sizeof(run->why), "%s", text);
    }
    leaf_unlock(&v->table);
    if (event == GUEST_LINK_BROKEN) {
        vm_run_ended(run);
    }
}

void vm_on_session_event(void *arg, enum session_event event, const char *vm_id,
                         const char *session_id)
{
    struct vms *v = arg;
    struct vm_entry *e;
    bool remove;

    leaf_lock(&v->table);
    e = vm_find_locked(v, vm_id);
    if (e) {
        e->used_ms = v->seams.clock->mono_ms();
    }
    remove = e && e->row.auto_remove && str_eq(e->main_session, session_id) &&
             (event == SESSION_DELIVERED || !e->row.held);
    leaf_unlock(&v->table);
    if (remove) {
        vm_run_worker(v, vm_id, vm_auto_remove);
    }
}
