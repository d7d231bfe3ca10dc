/* What a guest calls itself, and what time it takes it to be. */
#include "vm/capability.h"

#include "base/clock.h"
#include "base/str.h"
#include "vm/vm_priv.h"

#define HOSTNAME_MS 5000

void vm_tell_identity(const struct vm_hook *h, struct guest_configure *c)
{
    c->hostname = h->row->name;
    c->machine_id = h->row->id;
    c->time_ns = (uint64_t)h->vms->seams.clock->real_ms() * 1000000;
}

/* The kernel makes its boot id once, and a fork's did that before it was saved. A template's
 * machine gets one so that its forks need only write theirs. */
static int add_boot_id(const struct vm_hook *h, struct guest_configure *c, struct err *err)
{
    if (h->row->template_id[0] || h->row->role == VM_ROLE_TEMPLATE) {
        char *boot_id = *h->state ? *h->state : x_calloc(1, UUID_SIZE);

        id_generate_uuid(h->vms->seams.random, boot_id);
        c->boot_id = *h->state = boot_id;
    }
    (void)err;
    vm_tell_identity(h, c);
    return 0;
}

static int forget(void *state, struct err *err)
{
    (void)err;
    free(state);
    return 0;
}

static int tell_guest(const struct vm_hook *h, struct err *err)
{
    struct guest_configure c = {0};
    _cleanup_vm_run_ struct vm_run *run = vm_run_get_awake(h->vms, h->row->id, err);

    vm_tell_identity(h, &c);
    return run ? guest_link_configure(run->link, &c, h->cancel, clock_mono_ms() + HOSTNAME_MS, err)
               : -1;
}

/* The VM has its name whatever the guest says to it; one that does not run learns of it when it is
 * started. */
static int rename_guest(const struct vm_hook *h, const struct vm_row *was, struct vm_plan *p,
                        struct err *err)
{
    (void)err;
    if (h->run && !str_eq(h->row->name, was->name)) {
        struct err why;

        if (tell_guest(h, &why) < 0) {
            _cleanup_free_ char *note = x_asprintf(
                "the guest calls itself '%s' until its next start: %s", was->name, why.message);

            vm_plan_note(p, "name", note);
        }
    }
    return 0;
}

const struct vm_capability vm_cap_identity = {
    .name = "identity",
    .guest_config = add_boot_id,
    .cleanup = forget,
    .apply_config_change = rename_guest,
};
