/* Lock hierarchy: the table lock inside vm_run_get; nothing here waits. */
#include "base/str.h"
#include "vm/vm_priv.h"

struct vm_ping {
    struct vm_run *run;
    uint32_t id;
};

int vms_ping(struct vms *v, const char *ref, guest_ping_fn fn, void *arg, struct vm_ping **ret_ping,
             struct err *err)
{
    struct vm_run *run;
    char vm_id[ID_SIZE];

    if (vms_resolve(v, ref, vm_id, err) < 0) {
        return -1;
    }
    run = vm_run_get_awake(v, vm_id, err);
    if (!run) {
        return -1;
    }
    *ret_ping = x_calloc(1, sizeof(**ret_ping));
    (*ret_ping)->run = run;
    if (guest_link_ping(run->link, fn, arg, &(*ret_ping)->id, err) < 0) {
        vms_ping_free(STEAL_PTR(*ret_ping));
        return -1;
    }
    return 0;
}

bool vms_ping_forget(struct vm_ping *ping)
{
    return guest_link_forget_ping(ping->run->link, ping->id);
}

void vms_ping_free(struct vm_ping *ping)
{
    vm_run_put_later(ping->run);
    free(ping);
}
