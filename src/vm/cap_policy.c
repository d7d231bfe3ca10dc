/* What a VM does with nobody asking (vm_policy.c): when that begins, and changing it. */
#include "vm/capability.h"

#include "base/str.h"
#include "codec/api.h"
#include "vm/vm_priv.h"

#include <stdio.h>
#include <string.h>

/* From now on it is idle unless it is used. */
static int begin_idle(const struct vm_hook *h, struct err *err)
{
    (void)err;
    vm_used(h->vms, h->row->id);
    return 0;
}

static void plan_restart(struct vm_plan *p)
{
    const char *text = api_str(p->params, "restart");
    struct vm_row wanted = p->row; /* borrows */
    json_t *change;
    struct err err;

    if (!text || str_eq(text, p->row.restart)) {
        return;
    }
    change = vm_plan_change(p, "restart", p->row.restart, text, "live");
    (void)snprintf(wanted.restart, sizeof(wanted.restart), "%s", text);
    if (!vm_policy_check(&wanted, &err)) {
        vm_plan_refuse(p, change, &err);
        return;
    }
    memcpy(p->row.restart, wanted.restart, sizeof(p->row.restart));
    p->row.restart_count = 0;
}

static void plan_autostart(struct vm_plan *p)
{
    bool given = api_given(p->params, "autostart");
    bool wanted = given && api_flag(p->params, "autostart"), now = p->row.autostart;
    json_t *change;
    struct err err;

    if (!given || wanted == now) {
        return;
    }
    change = vm_plan_change(p, "autostart", now ? "yes" : "no", wanted ? "yes" : "no", "live");
    p->row.autostart = wanted;
    if (!vm_policy_check(&p->row, &err)) {
        p->row.autostart = now;
        vm_plan_refuse(p, change, &err);
        return;
    }
    /* With the next boot of the host, not at once. */
    memcpy(p->row.host_boot, p->v->boot_id, sizeof(p->row.host_boot));
}

static bool plan_time(struct vm_plan *p, const char *field, int64_t *ms)
{
    char from[32], to[32];
    int64_t wanted;

    if (!api_given(p->params, field)) {
        return false;
    }
    wanted = api_int(p->params, field);
    if (wanted != *ms) {
        (void)snprintf(from, sizeof(from), "%lld", (long long)*ms);
        (void)snprintf(to, sizeof(to), "%lld", (long long)wanted);
        (void)vm_plan_change(p, field, from, to, "live");
        *ms = wanted;
    }
    return true;
}

static void plan_policy(struct vm_plan *p)
{
    plan_restart(p);
    plan_autostart(p);
    (void)plan_time(p, "auto_stop_after_ms", &p->row.auto_stop_after_ms);
    p->renews = plan_time(p, "expires_after_ms", &p->row.expires_after_ms);
    if (p->renews) {
        vm_policy_set_expiry(
            &p->row,
            p->v->seams.clock->real_ms()); /* from now on, also when it is as long as before */
    }
}

const struct vm_capability vm_cap_policy = {
    .name = "policy",
    .post_start = begin_idle,
    .plan_config_change = plan_policy,
};
