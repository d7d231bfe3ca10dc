/* An image's own init, in the place of the agent as the guest's first process. */
#include "vm/capability.h"

#include "base/str.h"
#include "vm/vm_priv.h"

static int find(const struct vm_hook *h, char ret_path[IMAGE_INIT_SIZE], struct err *err)
{
    return image_find_init(h->vms->params.images, h->row->image_digest, h->row->image_name,
                           h->cancel, ret_path, err);
}

/* Nothing is made for a VM that could not boot. */
static int check(const struct vm_hook *h, struct err *err)
{
    char path[IMAGE_INIT_SIZE];

    if (!h->row->own_init) {
        return 0;
    }
    if (!(h->ops->features & VMM_BOOTS_KERNEL)) {
        err_set(err, ERR_UNSUPPORTED, "'%s' VMs boot no init", h->ops->name);
        return err_hint(err, "use --init agent");
    }
    return find(h, path, err);
}

static int prepare(const struct vm_hook *h, struct err *err)
{
    char path[IMAGE_INIT_SIZE];

    if (!h->row->own_init || !(h->ops->features & VMM_BOOTS_KERNEL)) {
        return 0;
    }
    if (find(h, path, err) < 0) {
        return -1;
    }
    *h->state = x_asprintf("banger.init=%s", path);
    return 0;
}

static int add_word(const struct vm_hook *h, struct vm_machine *m, struct err *err)
{
    (void)err;
    if (*h->state) {
        vm_machine_add_word(m, *h->state);
    }
    return 0;
}

/* In a template, and in what is kept ready of it, init is yet to begin: so it finds a guest that
 * knows who it is, and nobody has to tell it later. */
static int begin(const struct vm_hook *h, struct guest_configure *c, struct err *err)
{
    (void)err;
    c->begin_init = h->row->own_init && h->row->role == VM_ROLE_USER;
    return 0;
}

static int forget(void *state, struct err *err)
{
    (void)err;
    free(state);
    return 0;
}

static int is_booted(const struct vm_hook *h, struct err *err)
{
    return forget(STEAL_PTR(*h->state), err);
}

const struct vm_capability vm_cap_init = {
    .name = "init",
    .create_preflight = check,
    .prepare_host = prepare,
    .machine_config = add_word,
    .guest_config = begin,
    .post_start = is_booted,
    .cleanup = forget,
};
