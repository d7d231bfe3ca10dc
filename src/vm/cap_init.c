/* An image's own init, in the place of the agent as the guest's first process. */
#include "vm/capability.h"

#include "base/str.h"
#include "vm/vm_priv.h"

#include <stdio.h>

/* Words of the kernel's command line. */
struct init {
    char init[IMAGE_INIT_SIZE + 32], hostname[96], machine_id[64];
};

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
    struct init *i;

    if (!h->row->own_init || !(h->ops->features & VMM_BOOTS_KERNEL)) {
        return 0;
    }
    if (find(h, path, err) < 0) {
        return -1;
    }
    i = x_calloc(1, sizeof(*i));
    (void)snprintf(i->init, sizeof(i->init), "banger.init=%s", path);
    /* For systemd, which looks before the agent is asked to write them. */
    (void)snprintf(i->hostname, sizeof(i->hostname), "systemd.hostname=%s", h->row->name);
    (void)snprintf(i->machine_id, sizeof(i->machine_id), "systemd.machine_id=%s", h->row->id);
    *h->state = i;
    return 0;
}

static int add_words(const struct vm_hook *h, struct vm_machine *m, struct err *err)
{
    const struct init *i = *h->state;

    (void)err;
    if (i) {
        vm_machine_add_word(m, i->init);
        vm_machine_add_word(m, i->hostname);
        vm_machine_add_word(m, i->machine_id);
    }
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
    .machine_config = add_words,
    .post_start = is_booted,
    .cleanup = forget,
};
