/* What VMs do with nobody asking: they start again after they have died, start with the host, stop
 * when nobody uses them, and are deleted when their time is over.
 *
 * What is due follows from a VM's row, and so it is the same for the next daemon, whatever this one
 * dies of; only since when it is idle, and that an attempt has just failed, is known to the table
 * alone. One timer of the control loop stands for the first that is due. Whoever changes a row
 * (vm_update) has it set anew; what is due is done by a worker that holds the VM's token, and looks
 * once more then. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"

#include <stdio.h>
#include <string.h>

#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MAX_MS 60000
/* Who runs for so long has been started well. */
#define GOOD_WHILE_MS 10000
#define IDLE_STOP_MS 120000
/* After a deletion or a stop that failed, and to look whether it is still in use. */
#define AGAIN_MS 60000
#define IN_USE_MS 1000
/* The timer does not count while the host sleeps, but the time of day does. */
#define LOOK_MAX_MS 60000
#define NOTHING_DUE_MS 3600000
#define RESTARTS_MAX 1000000

/* ---- what a row says ---- */

int vm_restart_parse(const char *text, struct vm_restart *ret, struct err *err)
{
    static const char limited[] = "on-failure:";
    uint64_t max = 0;

    if (str_eq(text, VM_RESTART_NO) || str_eq(text, "always") || str_eq(text, "on-failure")) {
        *ret = (struct vm_restart){.on_failure = text[0] != 'n', .always = text[0] == 'a'};
        return 0;
    }
    if (str_starts_with(text, limited) && strlen(text) < STORE_RESTART_SIZE &&
        str_to_u64(text + strlen(limited), RESTARTS_MAX, &max) == 0 && max > 0) {
        *ret = (struct vm_restart){.on_failure = true, .max = (unsigned)max};
        return 0;
    }
    {
        _cleanup_free_ char *safe = str_escape(text, strlen(text), 64);

        err_set(err, ERR_INVALID, "restart: '%s' is no restart policy", safe);
    }
    return err_hint(err,
                    "one of no, on-failure, on-failure:N (N times in a row at most, 1 to %d), "
                    "always",
                    RESTARTS_MAX);
}

static bool begins_with_any(const char *reason, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (str_starts_with(reason, words[i])) {
            return true;
        }
    }
    return false;
}

/* What a VM ends of that nobody wanted. A guest that reboots is among it: it wants to go on. */
static bool has_failed(const struct vm_row *row)
{
    static const char *const words[] = {"vmm_died", "guest_panic", "guest_reset",
                                        "start interrupted"};

    /* One that a user has started knows that it has failed. */
    return begins_with_any(row->reason, words, ARRAY_LEN(words)) ||
           (row->restart_count > 0 && str_starts_with(row->reason, "start failed"));
}

static bool is_restarted(const struct vm_row *row)
{
    struct vm_restart policy;
    struct err none;

    if (row->state != VM_STOPPED || row->auto_remove ||
        vm_restart_parse(row->restart[0] ? row->restart : VM_RESTART_NO, &policy, &none) < 0) {
        return false;
    }
    if (policy.max > 0 && row->restart_count >= policy.max) {
        return false;
    }
    return policy.on_failure &&
           (has_failed(row) || (policy.always && str_eq(row->reason, VM_REASON_GUEST_POWEROFF)));
}

int64_t vm_restart_wait_ms(unsigned count)
{
    /* 1 s, 2 s … 32 s, 60 s */
    return count < 6 ? (int64_t)BACKOFF_FIRST_MS << count : BACKOFF_MAX_MS;
}

int64_t vm_restart_at(const struct vm_row *row)
{
    return is_restarted(row) ? row->state_since_ms + vm_restart_wait_ms(row->restart_count) : 0;
}

static bool starts_with_host(const struct vm_row *row, const char *host_boot)
{
    return row->autostart && !row->auto_remove && !str_eq(row->host_boot, host_boot) &&
           (row->state == VM_STOPPED || row->state == VM_CREATED);
}

/* Not longer than it was to take: the host's clock may have been set back. */
static int64_t time_to(int64_t at_ms, int64_t now_ms, int64_t most_ms)
{
    int64_t left = at_ms - now_ms;

    return left < 0 ? 0 : left > most_ms ? most_ms : left;
}

struct vm_due vm_policy_due(const struct vm_row *row, const struct vm_policy_clock *clock)
{
    struct vm_due due = {VM_DUE_NOTHING, INT64_MAX};

    /* Somebody creates or deletes it; or its deletion has failed, and it is time again. */
    if (vm_is_half(row) && row->state != VM_ERROR) {
        return due;
    }
    if (starts_with_host(row, clock->host_boot)) {
        due = (struct vm_due){VM_DUE_AUTOSTART, 0};
    } else if (is_restarted(row)) {
        due = (struct vm_due){VM_DUE_RESTART, time_to(vm_restart_at(row), clock->real_ms,
                                                      vm_restart_wait_ms(row->restart_count))};
    } else if (row->state == VM_RUNNING && row->auto_stop_after_ms > 0) {
        due = (struct vm_due){VM_DUE_IDLE_STOP,
                              time_to(row->auto_stop_after_ms, clock->unused_ms, INT64_MAX)};
    }
    if (row->expires_ms > 0) {
        if (clock->expires_in_ms <= due.in_ms) {
            due = (struct vm_due){VM_DUE_EXPIRE, clock->expires_in_ms};
        }
    }
    return due;
}

bool vm_policy_check(const struct vm_row *row, struct err *err)
{
    struct vm_restart policy;

    if (vm_restart_parse(row->restart, &policy, err) < 0) {
        return false;
    }
    if (row->auto_remove && (policy.on_failure || row->autostart)) {
        err_set(err, ERR_INVALID,
                "%s: the VM is deleted when it stops (--rm), so it cannot start again",
                policy.on_failure ? "restart" : "autostart");
        err_hint(err, "create it without --rm");
        return false;
    }
    return true;
}

void vm_policy_set_expiry(struct vm_row *row, int64_t now_ms)
{
    row->expires_ms = row->expires_after_ms > 0 ? now_ms + row->expires_after_ms : 0;
}

void vm_policy_note_end(struct vm_row *row, int64_t now_ms)
{
    if (row->started_ms > 0 && !vm_is_starting(row) && now_ms - row->started_ms >= GOOD_WHILE_MS) {
        row->restart_count = 0;
    }
}

bool vm_policy_pending(const struct vms *v, const struct vm_row *row)
{
    return is_restarted(row) || starts_with_host(row, v->boot_id);
}

/* ---- the timer ---- */

/* The time of day says when it is over only once, when that is set or a daemon starts: from then on
 * it is counted, so that a host whose clock is set right does not lose VMs. */
static int64_t expires_in_locked(const struct vms *v, struct vm_entry *e)
{
    int64_t now = v->seams.clock->boot_ms();

    if (e->expires_ms != e->row.expires_ms) {
        e->expires_ms = e->row.expires_ms;
        e->expires_boot_ms =
            now + time_to(e->row.expires_ms, v->seams.clock->real_ms(), e->row.expires_after_ms);
    }
    return time_to(e->expires_boot_ms, now, INT64_MAX);
}

static struct vm_due due_locked(const struct vms *v, struct vm_entry *e)
{
    int64_t now = v->seams.clock->mono_ms();
    struct vm_due due =
        vm_policy_due(&e->row, &(struct vm_policy_clock){.real_ms = v->seams.clock->real_ms(),
                                                         .unused_ms = now - e->used_ms,
                                                         .expires_in_ms = expires_in_locked(v, e),
                                                         .host_boot = v->boot_id});

    if (due.what != VM_DUE_NOTHING && e->policy_at_ms - now > due.in_ms) {
        due.in_ms = e->policy_at_ms - now;
    }
    return due;
}

static void act(struct vms *v, const char *id);

/* The first that is due and that nobody works on, or none, and *ret_next_ms: when to look again. */
static bool take_due(struct vms *v, char ret_id[ID_SIZE], int64_t *ret_next_ms)
{
    bool found = false;

    *ret_next_ms = INT64_MAX;
    leaf_lock(&v->table);
    v->policy_posted = false;
    list_for_each (it, &v->entries) {
        struct vm_entry *e = LIST_ENTRY(it, struct vm_entry, node);
        struct vm_due due = e->policy_acts ? (struct vm_due){0} : due_locked(v, e);

        if (due.what == VM_DUE_NOTHING) {
            continue;
        }
        if (due.in_ms == 0) {
            e->policy_acts = cancel_new();
            found = true;
            memcpy(ret_id, e->row.id, ID_SIZE);
            break;
        }
        *ret_next_ms = due.in_ms < *ret_next_ms ? due.in_ms : *ret_next_ms;
    }
    leaf_unlock(&v->table);
    return found;
}

/* Control loop. */
static void look(void *arg)
{
    struct vms *v = arg;
    char id[ID_SIZE];
    int64_t next_ms;

    while (take_due(v, id, &next_ms)) {
        vm_run_worker(v, id, act);
    }
    if (next_ms == INT64_MAX) {
        next_ms = NOTHING_DUE_MS;
    } else if (next_ms > LOOK_MAX_MS) {
        next_ms = LOOK_MAX_MS;
    }
    next_ms += clock_mono_ms();
    if (v->policy_timer) {
        loop_source_set_deadline(v->policy_timer, next_ms);
    } else {
        v->policy_timer = loop_add_timer(v->params.control_loop, next_ms, look, v);
    }
}

bool vm_policy_wants_look_locked(struct vms *v, struct vm_entry *e)
{
    if (v->policy_posted || v->loading || due_locked(v, e).what == VM_DUE_NOTHING) {
        return false;
    }
    v->policy_posted = true;
    return true;
}

void vm_policy_look(struct vms *v)
{
    loop_post(v->params.control_loop, look, v);
}

void vm_policy_begin(struct vms *v)
{
    leaf_lock(&v->table);
    v->loading = false;
    v->policy_posted = true;
    leaf_unlock(&v->table);
    vm_policy_look(v);
}

void vm_used(struct vms *v, const char *id)
{
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        e->used_ms = v->seams.clock->mono_ms();
    }
    leaf_unlock(&v->table);
}

static void free_timer(void *arg)
{
    struct vms *v = arg;

    loop_source_free(STEAL_PTR(v->policy_timer));
}

void vm_policy_done(struct vms *v)
{
    loop_call(v->params.control_loop, free_timer, v);
}

/* ---- doing it: workers ---- */

static void note_attempt(struct vm_row *row, void *unused)
{
    (void)unused;
    row->restart_count++;
}

static void note_autostarted(struct vm_row *row, void *arg)
{
    const struct vms *v = arg;

    memcpy(row->host_boot, v->boot_id, sizeof(row->host_boot));
}

static void start_again(struct vms *v, const struct vm_row *row, enum vm_due_what what,
                        struct cancel *cancel) REQUIRES(rank_vm)
{
    struct err err, ignored;

    log_info("VM %.12s '%s': %s", row->id, row->name,
             what == VM_DUE_AUTOSTART ? "starts with the host" : "is started again");
    vm_note(v, row->id, note_attempt, NULL); /* the start writes it down */
    CRASH_POINT("policy.start");
    if (vm_boot_plain(v, row->id, cancel, &err) == 0) {
        return;
    }
    log_error("VM %.12s '%s': %s", row->id, row->name, err.message);
    /* A daemon that ends leaves it to the next one; else once is enough, but for its restart
     * policy. */
    if (what == VM_DUE_AUTOSTART && err.code != ERR_CANCELLED &&
        vm_update(v, row->id, note_autostarted, v, &ignored) < 0) {
        log_error("VM %.12s: %s", row->id, ignored.message);
    }
}

static void not_before(struct vms *v, const char *id, int64_t in_ms)
{
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        e->policy_at_ms = v->seams.clock->mono_ms() + in_ms;
    }
    leaf_unlock(&v->table);
}

static int stop_unused(struct vms *v, const struct vm_row *row, struct cancel *cancel)
    REQUIRES(rank_vm)
{
    struct err err;

    log_info("VM %.12s '%s': nobody uses it: stopped", row->id, row->name);
    CRASH_POINT("policy.stop");
    if (vm_stop_for(v, row->id, VM_REASON_IDLE, cancel, clock_mono_ms() + IDLE_STOP_MS, &err) < 0) {
        log_warn("VM %.12s '%s': %s", row->id, row->name, err.message);
        return -1;
    }
    return 0;
}

/* Sessions that an earlier daemon began are known once the agent has told of them: while it has
 * not, somebody may work in there. */
static void stop_if_unused(struct vms *v, const struct vm_row *row, struct cancel *cancel)
    REQUIRES(rank_vm)
{
    int64_t again_ms = AGAIN_MS;
    struct err err;
    _cleanup_vm_run_ struct vm_run *run = vm_run_get_up(v, row->id, cancel, &err);

    if (!run) {
        log_warn("VM %.12s '%s': whether somebody uses it cannot be told: %s", row->id, row->name,
                 err.message);
    } else if (session_count_running(v->sessions, row->id) > 0) {
        again_ms = IN_USE_MS;
    } else if (stop_unused(v, row, cancel) == 0) {
        return;
    }
    vm_used(v, row->id);
    not_before(v, row->id, again_ms);
}

static void expire(struct vms *v, const struct vm_row *row) REQUIRES(rank_vm)
{
    struct err err;

    log_info("VM %.12s '%s': its time is over: deleted", row->id, row->name);
    CRASH_POINT("policy.expire");
    if (vm_remove(v, row->id, &err) == 0) {
        return;
    }
    log_error("VM %.12s '%s': %s", row->id, row->name, err.message);
    not_before(v, row->id, AGAIN_MS);
}

static void act_locked(struct vms *v, const char *id, struct cancel *cancel) REQUIRES(rank_vm)
{
    _cleanup_vm_row_ struct vm_row row = {0};
    struct vm_due due = {VM_DUE_NOTHING, 0};
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        due = due_locked(v, e);
        vm_row_copy(&row, &e->row);
    }
    leaf_unlock(&v->table);
    if (due.in_ms > 0) {
        return;
    }
    switch (due.what) {
    case VM_DUE_RESTART:
    case VM_DUE_AUTOSTART:
        start_again(v, &row, due.what, cancel);
        break;
    case VM_DUE_IDLE_STOP:
        stop_if_unused(v, &row, cancel);
        break;
    case VM_DUE_EXPIRE:
        expire(v, &row);
        break;
    case VM_DUE_NOTHING:
        break;
    }
}

/* Of the worker for this VM, which it gives back; NULL when the VM is gone. */
static struct cancel *cancel_of(struct vms *v, const char *id)
{
    struct cancel *cancel = NULL;
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e && e->policy_acts) {
        cancel = cancel_get(e->policy_acts);
    }
    leaf_unlock(&v->table);
    return cancel;
}

static void act(struct vms *v, const char *id)
{
    _cleanup_cancel_ struct cancel *cancel = cancel_of(v, id);
    struct vm_token *token;
    struct vm_entry *e;
    struct err err;

    if (cancel && vm_locks_acquire(v->locks, id, "policy", cancel, -1, &token, &err) == 0) {
        act_locked(v, id, cancel);
        vm_locks_release(token);
    }
    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        cancel_put(STEAL_PTR(e->policy_acts));
    }
    v->policy_posted = true;
    leaf_unlock(&v->table);
    vm_policy_look(v);
}

/* ---- verbs ---- */

static void touch(struct vm_row *row, void *arg)
{
    const struct vms *v = arg;

    vm_policy_set_expiry(row, v->seams.clock->real_ms());
}

int vms_touch(struct vms *v, const char *ref, struct cancel *cancel, struct err *err)
{
    struct vm_token *token;
    char id[ID_SIZE];
    int r;

    /* With its token it is either deleted by now, or will not be. */
    if (vm_acquire(v, ref, "touch", false, cancel, clock_mono_ms() + VM_TOKEN_WAIT_MS, &token, id,
                   err)) {
        return -1;
    }
    vm_used(v, id);
    r = vm_update(v, id, touch, v, err);
    vm_locks_release(token);
    return r;
}
