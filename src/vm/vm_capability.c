/* Running the hooks of a list of capabilities, and undoing them. */
#include "vm/capability.h"

#include "base/test_point.h"

#include <assert.h>

const struct vm_capability *const vm_capabilities[] = {
    &vm_cap_disks, &vm_cap_init,   &vm_cap_logs,  &vm_cap_identity,
    &vm_cap_net,   &vm_cap_policy, &vm_cap_stats, NULL,
};

void vm_machine_add_word(struct vm_machine *m, const char *word)
{
    assert(m->word_count < VM_CMDLINE_WORDS_MAX);
    m->words[m->word_count++] = word;
}

/* ---- helpers ---- */

static struct vm_hook with_state(struct vm_caps *caps, size_t i, const struct vm_hook *h)
{
    struct vm_hook hook = *h;

    assert(i < VM_CAPABILITIES_MAX);
    hook.state = &caps->state[i];
    return hook;
}

/* fault: what a test point says. */
static int failed(int fault, const struct vm_capability *c, const char *hook, struct err *err)
{
    return err_set_errno(err, ERR_INTERNAL, fault, "%s of '%s'", hook, c->name);
}

/* One more error, behind those before it. */
static int join(int r, const struct err *one, struct err *err)
{
    if (r == 0) {
        *err = *one;
        return -1;
    }
    return err_append(err, "; and %s", one->message);
}

/* After a failure that err tells of. */
static int roll_back(struct vm_caps *caps, struct err *err)
{
    struct err undo;

    return vm_caps_cleanup(caps, &undo) < 0 ? join(-1, &undo, err) : -1;
}

/* ---- before anything is made ---- */

int vm_caps_create_preflight(const struct vm_capability *const *list, const struct vm_hook *h,
                             struct err *err)
{
    for (; *list; list++) {
        if ((*list)->create_preflight && (*list)->create_preflight(h, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int vm_caps_start_preflight(const struct vm_capability *const *list, const struct vm_hook *h,
                            struct err *err)
{
    for (; *list; list++) {
        if ((*list)->start_preflight && (*list)->start_preflight(h, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- a run ---- */

static int prepare_one(const struct vm_capability *c, const struct vm_hook *h, struct err *err)
{
    int fault = c->prepare_host ? FAULT_POINT("capability.prepare") : 0;

    if (fault < 0) {
        return failed(fault, c, "prepare_host", err);
    }
    return c->prepare_host ? c->prepare_host(h, err) : 0;
}

int vm_caps_prepare_host(struct vm_caps *caps, const struct vm_hook *h, struct err *err)
{
    for (; caps->list[caps->held]; caps->held++) {
        struct vm_hook hook = with_state(caps, caps->held, h);

        if (prepare_one(caps->list[caps->held], &hook, err) < 0) {
            return roll_back(caps, err);
        }
    }
    return 0;
}

static int adopt_one(const struct vm_capability *c, const struct vm_hook *h, struct err *err)
{
    int fault = c->adopt ? FAULT_POINT("capability.adopt") : 0;

    if (fault < 0) {
        return failed(fault, c, "adopt", err);
    }
    return c->adopt ? c->adopt(h, err) : 0;
}

int vm_caps_adopt(struct vm_caps *caps, const struct vm_hook *h, struct err *err)
{
    for (; caps->list[caps->held]; caps->held++) {
        struct vm_hook hook = with_state(caps, caps->held, h);

        if (adopt_one(caps->list[caps->held], &hook, err) < 0) {
            return roll_back(caps, err);
        }
    }
    return 0;
}

int vm_caps_machine_config(struct vm_caps *caps, const struct vm_hook *h, struct vm_machine *m,
                           struct err *err)
{
    for (size_t i = 0; caps->list[i]; i++) {
        const struct vm_capability *c = caps->list[i];
        struct vm_hook hook = with_state(caps, i, h);

        if (c->machine_config && c->machine_config(&hook, m, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int vm_caps_guest_config(struct vm_caps *caps, const struct vm_hook *h, struct guest_configure *g,
                         struct err *err)
{
    for (size_t i = 0; caps->list[i]; i++) {
        const struct vm_capability *c = caps->list[i];
        struct vm_hook hook = with_state(caps, i, h);

        if (c->guest_config && c->guest_config(&hook, g, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int vm_caps_post_start(struct vm_caps *caps, const struct vm_hook *h, struct err *err)
{
    for (size_t i = 0; caps->list[i]; i++) {
        const struct vm_capability *c = caps->list[i];
        struct vm_hook hook = with_state(caps, i, h);
        int fault = c->post_start ? FAULT_POINT("capability.post_start") : 0;

        if (fault < 0) {
            return failed(fault, c, "post_start", err);
        }
        if (c->post_start && c->post_start(&hook, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int vm_caps_cleanup(struct vm_caps *caps, struct err *err)
{
    struct err one;
    int r = 0;

    while (caps->held > 0) {
        const struct vm_capability *c = caps->list[--caps->held];

        if (c->cleanup && c->cleanup(caps->state[caps->held], &one) < 0) {
            r = join(r, &one, err);
        }
        caps->state[caps->held] = NULL;
    }
    return r;
}

/* ---- vm.set ---- */

void vm_caps_plan_config_change(const struct vm_capability *const *list, struct vm_plan *p)
{
    for (; *list; list++) {
        if ((*list)->plan_config_change) {
            (*list)->plan_config_change(p);
        }
    }
}

/* The `count` first ones, in reverse: h->row is `was` again. */
static int take_back(struct vm_caps *caps, const struct vm_hook *h, const struct vm_row *was,
                     size_t count, struct err *err)
{
    struct vm_hook back = *h;
    struct err one;

    back.row = was;
    while (count-- > 0) {
        const struct vm_capability *c = caps->list[count];
        struct vm_hook hook = with_state(caps, count, &back);

        if (c->apply_config_change && c->apply_config_change(&hook, h->row, NULL, &one) < 0) {
            (void)join(-1, &one, err);
        }
    }
    return -1;
}

int vm_caps_apply_config_change(struct vm_caps *caps, const struct vm_hook *h,
                                const struct vm_row *was, struct vm_plan *p, struct err *err)
{
    for (size_t i = 0; caps->list[i]; i++) {
        const struct vm_capability *c = caps->list[i];
        struct vm_hook hook = with_state(caps, i, h);
        int fault = c->apply_config_change ? FAULT_POINT("capability.apply") : 0;

        if (fault < 0) {
            (void)failed(fault, c, "apply_config_change", err);
            return take_back(caps, h, was, i, err);
        }
        if (c->apply_config_change && c->apply_config_change(&hook, was, p, err) < 0) {
            return take_back(caps, h, was, i, err);
        }
    }
    return 0;
}

/* ---- the rest ---- */

void vm_caps_add_stats(const struct vm_capability *const *list, const struct vm_run *run, json_t *o)
{
    for (; *list; list++) {
        if ((*list)->add_stats) {
            (*list)->add_stats(run, o);
        }
    }
}

void vm_caps_add_doctor_checks(const struct vm_capability *const *list, struct doctor *doctor,
                               const void *ctx)
{
    for (; *list; list++) {
        if ((*list)->doctor_checks) {
            doctor_add(doctor, (*list)->doctor_checks, ctx);
        }
    }
}
