/* Stopping, deleting, and what follows a VM's own end. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EXIT_WAIT_MS 10000
/* What an image's init does after all processes have ended: file systems, and so on. */
#define INIT_EXIT_WAIT_MS 30000
/* How long a guest whose agent is gone may take to end by itself: a panic takes a moment. */
#define LAST_BREATH_MS 5000

#define FULL_HINT                                                                                  \
    "it goes on when there is room on the filesystem of the state directory; banger stop --force " \
    "ends it, and loses what the guest has not written yet"
#define FORCE_HINT "banger stop --force ends it, and loses what the guest has not written yet"

/* Takes the run out of the table; the caller gets the table's reference. */
static struct vm_run *unpublish(struct vms *v, const char *id)
{
    struct vm_run *run = NULL;
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        run = STEAL_PTR(e->run);
    }
    leaf_unlock(&v->table);
    return run;
}

struct stopped {
    const struct vm_ending *end;
    int64_t now_ms;
};

static void set_stopped(struct vm_row *row, void *arg)
{
    const struct stopped *stopped = arg;
    const struct vm_ending *end = stopped->end;

    vm_policy_note_end(row, stopped->now_ms);
    row->state = VM_STOPPED;
    (void)snprintf(row->reason, sizeof(row->reason), "%s", end->reason);
    row->state_since_ms = stopped->now_ms;
    row->exit_code = end->exit.code;
    row->exit_signal = end->exit.signal;
    vm_row_drop_run(row);
}

/* What remains is in the error, and stays in the ledger. A deletion stays one: the next daemon goes
 * on with it. */
static void set_error(struct vms *v, const char *id, bool deleting, const struct err *err)
{
    _cleanup_free_ char *reason =
        x_asprintf("%s%.200s", deleting ? VM_REASON_DELETING ": " : "", err->message);
    struct err none;

    (void)vm_set_state(v, id, VM_ERROR, reason, &none);
}

int vm_clean_up(struct vms *v, const char *id, const struct vm_ending *end, struct err *err)
{
    _cleanup_vm_run_ struct vm_run *run = unpublish(v, id);

    if (run && run->link) {
        guest_link_end(run->link, "the VM has stopped");
    }
    if (run) {
        vm_run_clean_up(run);
    }
    CRASH_POINT("stop.exited");
    if (vm_undo(v, id, VM_UNDO_RUN, err) < 0) {
        /* What remains stays in the ledger, for the next that tries. */
        set_error(v, id, str_eq(end->reason, VM_REASON_DELETING), err);
        err_wrap(err, "the VM has ended, but not all of it could be removed");
        return err_hint(err, "banger stop --force tries once more");
    }
    CRASH_POINT("stop.undone");
    if (vm_update(v, id, set_stopped,
                  &(struct stopped){.end = end, .now_ms = v->seams.clock->real_ms()}, err) < 0) {
        if (err->code != ERR_NO_SPACE) {
            return -1;
        }
        /* It has stopped all the same, and from the old row the next daemon sees that too. */
        log_error("VM %.12s: its end is not written down: %s", id, err->message);
    }
    CRASH_POINT("stop.done");
    return 0;
}

static bool is_lost(struct vm_run *run)
{
    bool lost;

    leaf_lock(&run->vms->table);
    lost = run->lost;
    leaf_unlock(&run->vms->table);
    return lost;
}

static bool is_going_down(struct vm_run *run)
{
    bool down;

    leaf_lock(&run->vms->table);
    down = run->going_down;
    leaf_unlock(&run->vms->table);
    return down;
}

static void begin_killing(struct vm_run *run)
{
    leaf_lock(&run->vms->table);
    run->killing = true;
    leaf_unlock(&run->vms->table);
}

/* It did not end in time: from now on others may look after its end, and what came so far has been
 * left to us. */
static void give_up_killing(struct vm_run *run)
{
    bool lost;

    leaf_lock(&run->vms->table);
    run->killing = false;
    lost = run->lost;
    leaf_unlock(&run->vms->table);
    if (lost) {
        vm_run_ended(run);
    }
}

int vm_kill(struct vms *v, const char *id, const char *reason, struct err *err)
{
    struct vm_ending end = {.reason = reason, .exit = {.code = -1}};
    struct err none;
    _cleanup_vm_run_ struct vm_run *run = vm_run_get(v, id, &none);

    if (run) {
        begin_killing(run);
        if (vm_end_vmm(run->ops, run->vmm, &end.exit, err) < 0) {
            set_error(v, id, str_eq(reason, VM_REASON_DELETING), err);
            give_up_killing(run);
            return -1;
        }
    }
    return vm_clean_up(v, id, &end, err);
}

static void forget_entry(struct vms *v, const char *id)
{
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        vm_take_locked(e);
        vm_changed_locked(v);
    }
    leaf_unlock(&v->table);
    vm_entry_free(e);
}

int vm_remove(struct vms *v, const char *id, struct err *err)
{
    _cleanup_vm_row_ struct vm_row row = {0};

    if (vm_get_row(v, id, &row, err) < 0) {
        return -1;
    }
    /* Said first: a daemon that dies in the middle leaves a VM that the next one goes on
     * deleting, never half of one. */
    if (vm_kill(v, id, VM_REASON_DELETING, err) < 0 && err->code != ERR_NO_SPACE) {
        return -1;
    }
    CRASH_POINT("delete.begun");
    /* Without room even for that note, the files go all the same: deleting is what makes room. */
    session_forget_vm(v->sessions, id);
    if (vm_undo(v, id, VM_UNDO_ALL, err) < 0) {
        set_error(v, id, true, err);
        return err_hint(err, "banger rm --force tries once more, and so does the next daemon");
    }
    CRASH_POINT("delete.undone");
    if (store_vm_delete(v->params.store, id, err) < 0) {
        return -1;
    }
    CRASH_POINT("delete.done");
    vm_give_slot(v, &row);
    forget_entry(v, id);
    return 0;
}

/* ---- verbs ---- */

static void forget_attempts(struct vm_row *row, void *unused)
{
    (void)unused;
    row->restart_count = 0;
}

static int start_anew(struct vms *v, const char *id, struct cancel *cancel, struct err *err)
    REQUIRES(rank_vm)
{
    vm_note(v, id, forget_attempts, NULL); /* the start writes it down */
    return vm_boot_plain(v, id, cancel, err);
}

int vms_start(struct vms *v, const char *ref, struct cancel *cancel, struct err *err)
{
    struct vm_token *token;
    char id[ID_SIZE];
    int r;

    if (vm_acquire(v, ref, "start", false, cancel, clock_mono_ms() + VM_TOKEN_WAIT_MS, &token, id,
                   err)) {
        return -1;
    }
    r = start_anew(v, id, cancel, err);
    vm_locks_release(token);
    return r;
}

static int is_full(struct err *err)
{
    err_set(err, ERR_NO_SPACE,
            "the VM is paused because the host's disk is full: its guest cannot "
            "write what it has to before it ends");
    return err_hint(err, FULL_HINT);
}

/* Nothing of the guest's is lost without consent. */
static int keeps_running(struct vms *v, struct vm_run *run, struct err *err)
{
    bool full = vm_is_io_stopped(run);
    struct err none;

    (void)vm_set_up(v, run, "stop failed", &none);
    if (err->code == ERR_CANCELLED) {
        return -1;
    }
    if (full) {
        return is_full(err);
    }
    err_wrap(err, "the VM keeps running");
    return err_hint(err, FORCE_HINT);
}

/* A guest that is paused, or waits for room on the disk, cannot even hear that it is to stop. */
static int let_go_on(struct vms *v, const struct vm_row *row, struct cancel *cancel,
                     struct err *err) REQUIRES(rank_vm)
{
    _cleanup_vm_run_ struct vm_run *run = vm_run_get(v, row->id, err);

    if (!run) {
        return -1;
    }
    if (vm_is_io_stopped(run) && !space_has_room(v->params.space, v->params.state_fd)) {
        return is_full(err);
    }
    if (vm_is_paused_by_user(row)) {
        return vm_go_on(v, row->id, cancel, err);
    }
    return vm_is_io_stopped(run) ? vm_resume(run, cancel, err) : 0;
}

/* To QEMU a panic is a reset; only the console tells them apart. */
static bool console_shows_panic(const struct vms *v, const char *id)
{
    _cleanup_free_ char *tail = vm_log_tail(v, id, VM_LOG_CONSOLE, 16384);

    return strstr(console_since_boot(tail), "Kernel panic");
}

static void reason_of(struct vms *v, const struct vm_row *row, struct vm_run *run,
                      const struct vmm_exit *ended, char ret_reason[STORE_REASON_SIZE])
{
    bool going_down, was_reset;
    char why[256], asked[sizeof(run->asked)];

    leaf_lock(&v->table);
    going_down = run->going_down;
    was_reset = run->was_reset;
    memcpy(why, run->why, sizeof(why));
    memcpy(asked, run->asked, sizeof(asked));
    leaf_unlock(&v->table);
    if (asked[0] && !ended->signal && ended->code <= 0) {
        (void)snprintf(ret_reason, STORE_REASON_SIZE, "%s", asked);
    } else if (going_down && row->own_init && was_reset) {
        /* Our agent ends a guest by a reset, an init does not. */
        (void)snprintf(ret_reason, STORE_REASON_SIZE, "guest_reset");
    } else if (going_down) {
        (void)snprintf(ret_reason, STORE_REASON_SIZE, VM_REASON_GUEST_POWEROFF);
    } else if (ended->signal) {
        (void)snprintf(ret_reason, STORE_REASON_SIZE, "vmm_died: killed by signal %d",
                       ended->signal);
    } else if (ended->code > 0) {
        (void)snprintf(ret_reason, STORE_REASON_SIZE, "vmm_died: ended with status %d",
                       ended->code);
    } else {
        (void)snprintf(ret_reason, STORE_REASON_SIZE,
                       console_shows_panic(v, run->vm_id) ? "guest_panic" : "guest_reset");
    }
}

/* Whether it has ended by itself, rather than go down as it was told; an exit follows at once when
 * the agent's connection breaks. */
static bool has_died(const struct vm_row *row, struct vm_run *run, struct cancel *cancel,
                     struct vmm_exit *ret_exit)
{
    int64_t wait_ms = LAST_BREATH_MS;

    if (row->own_init && is_lost(run)) {
        /* An init may kill the agent before it can answer, and go on to the end. */
        wait_ms = INIT_EXIT_WAIT_MS;
    } else if (guest_link_is_up(run->link)) {
        return false;
    }
    return run->ops->wait_exit(run->vmm, cancel, clock_mono_ms() + wait_ms, ret_exit) == 0;
}

/* It is as stopped as was asked for; what its guest had not written, though, is gone. */
static int clean_up_dead(struct vms *v, const struct vm_row *row, struct vm_run *run,
                         const struct vmm_exit *ended, struct err *err) REQUIRES(rank_vm)
{
    char reason[STORE_REASON_SIZE];
    struct vm_ending end = {.reason = reason, .exit = *ended};

    reason_of(v, row, run, ended, reason);
    if (vm_clean_up(v, row->id, &end, err) < 0) {
        return -1;
    }
    if (str_eq(reason, VM_REASON_GUEST_POWEROFF)) {
        return 0; /* its guest was faster */
    }
    if (row->auto_remove && vm_remove(v, row->id, err) < 0) {
        return -1;
    }
    err_set(err, ERR_GUEST, "the VM has ended before its guest had written everything: %s", reason);
    return err_hint(err, "what the guest had synced is on its disk; banger logs shows its console");
}

/* A word for those who look, and for the next daemon, which the store may lack. */
static void say_stopping(struct vms *v, const char *id, const char *reason)
{
    struct err err;

    if (vm_set_state(v, id, VM_STOPPING, reason, &err) < 0) {
        log_warn("VM %.12s: %s", id, err.message);
    }
    CRASH_POINT("stop.begun");
}

/* The guest syncs and goes down by itself. */
static int stop_gently(struct vms *v, const struct vm_row *row, const char *reason,
                       struct cancel *cancel, int64_t deadline_ms, struct err *err)
    REQUIRES(rank_vm)
{
    int64_t wait_ms = row->own_init ? INIT_EXIT_WAIT_MS : EXIT_WAIT_MS;
    const char *id = row->id;
    struct vm_ending end = {.reason = reason, .exit = {.code = -1}};
    _cleanup_vm_run_ struct vm_run *run = vm_run_get_up(v, id, cancel, err);

    if (!run) {
        return err_hint(err, FORCE_HINT);
    }
    say_stopping(v, id, reason);
    if (guest_link_poweroff(run->link, cancel, deadline_ms, err) < 0) {
        return has_died(row, run, cancel, &end.exit) ? clean_up_dead(v, row, run, &end.exit, err)
                                                     : keeps_running(v, run, err);
    }
    CRASH_POINT("stop.agreed");
    if (run->ops->wait_exit(run->vmm, NULL, clock_mono_ms() + wait_ms, &end.exit) < 0) {
        log_warn("VM %.12s: has synced, but its process does not end: killed", id);
        return vm_kill(v, id, reason, err);
    }
    return vm_clean_up(v, id, &end, err);
}

int vm_stop_for(struct vms *v, const char *id, const char *reason, struct cancel *cancel,
                int64_t deadline_ms, struct err *err)
{
    _cleanup_vm_row_ struct vm_row row = {0};

    if (vm_get_row(v, id, &row, err) < 0 || let_go_on(v, &row, cancel, err) < 0 ||
        stop_gently(v, &row, reason, cancel, deadline_ms, err) < 0) {
        return -1;
    }
    return row.auto_remove ? vm_remove(v, id, err) : 0;
}

/* It was going to start by itself. */
static void stay_stopped(struct vm_row *row, void *arg)
{
    const struct vms *v = arg;

    (void)snprintf(row->reason, sizeof(row->reason), "%s", VM_REASON_USER);
    memcpy(row->host_boot, v->boot_id, sizeof(row->host_boot));
}

static int stop_locked(struct vms *v, const char *id, bool force, struct cancel *cancel,
                       int64_t deadline_ms, struct err *err) REQUIRES(rank_vm)
{
    _cleanup_vm_row_ struct vm_row row = {0};

    if (vm_get_row(v, id, &row, err) < 0) {
        return -1;
    }
    if (row.state == VM_STOPPED || row.state == VM_CREATED) {
        return vm_policy_pending(v, &row) ? vm_update(v, id, stay_stopped, v, err) : 0;
    }
    if (!force) {
        return vm_stop_for(v, id, VM_REASON_USER, cancel, deadline_ms, err);
    }
    if (row.state != VM_ERROR) {
        say_stopping(v, id, VM_REASON_USER);
    }
    if (vm_kill(v, id, VM_REASON_USER, err) < 0) {
        return -1;
    }
    return row.auto_remove ? vm_remove(v, id, err) : 0;
}

int vms_stop(struct vms *v, const char *ref, bool force, struct cancel *cancel, int64_t deadline_ms,
             struct err *err)
{
    struct vm_token *token;
    char id[ID_SIZE];
    int r;

    if (vm_acquire(v, ref, "stop", force, cancel, deadline_ms, &token, id, err)) {
        return -1;
    }
    r = stop_locked(v, id, force, cancel, deadline_ms, err);
    vm_locks_release(token);
    return r;
}

/* ---- restart, kill ---- */

static int restart_locked(struct vms *v, const char *id, bool force, struct cancel *cancel,
                          int64_t deadline_ms, struct err *err) REQUIRES(rank_vm)
{
    _cleanup_vm_row_ struct vm_row row = {0};

    if (vm_get_row(v, id, &row, err) < 0) {
        return -1;
    }
    if (row.auto_remove) {
        err_set(err, ERR_CONFLICT, "VM '%s' is deleted when it stops (--rm)", row.name);
        return err_hint(err, "a VM that was created without --rm can be restarted");
    }
    if (stop_locked(v, id, force, cancel, deadline_ms, err) < 0) {
        return -1;
    }
    CRASH_POINT("restart.stopped");
    return start_anew(v, id, cancel, err);
}

int vms_restart(struct vms *v, const char *ref, bool force, struct cancel *cancel,
                int64_t deadline_ms, struct err *err)
{
    struct vm_token *token;
    char id[ID_SIZE];
    int r;

    if (vm_acquire(v, ref, "restart", force, cancel, deadline_ms, &token, id, err)) {
        return -1;
    }
    r = restart_locked(v, id, force, cancel, deadline_ms, err);
    vm_locks_release(token);
    return r;
}

int vms_signal(struct vms *v, const char *ref, unsigned signal, struct err *err)
{
    _cleanup_vm_run_ struct vm_run *run = NULL;
    char id[ID_SIZE], session[ID_SIZE] = "";
    struct vm_entry *e;

    if (vms_resolve(v, ref, id, err) < 0) {
        return -1;
    }
    run = vm_run_get_awake(v, id, err);
    if (!run) {
        return -1;
    }
    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        memcpy(session, e->main_session, sizeof(session));
    }
    leaf_unlock(&v->table);
    if (!session[0] || session_is_over(v->sessions, id, session)) {
        err_set(err, ERR_CONFLICT, "it has no main session that runs");
        return err_hint(err, "without --signal the VM itself is ended");
    }
    session_signal(v->sessions, id, session, signal);
    return 0;
}

static int delete_locked(struct vms *v, const char *id, bool force, struct err *err)
    REQUIRES(rank_vm)
{
    _cleanup_vm_row_ struct vm_row row = {0};

    if (vm_get_row(v, id, &row, err) < 0) {
        /* What force cut short was its creation, which is undone by now. */
        return force && err->code == ERR_NOT_FOUND ? 0 : -1;
    }
    if (!force && row.state != VM_STOPPED && row.state != VM_CREATED && row.state != VM_ERROR) {
        err_set(err, ERR_CONFLICT, "VM '%s' is %s", row.name, vm_state_name(row.state));
        return err_hint(err, "stop it first (banger stop %s), or delete it with --force", row.name);
    }
    return vm_remove(v, id, err);
}

int vms_delete(struct vms *v, const char *ref, bool force, struct cancel *cancel, struct err *err)
{
    struct vm_token *token;
    char id[ID_SIZE];
    int r;

    if (vm_acquire(v, ref, "delete", force, cancel, clock_mono_ms() + VM_TOKEN_WAIT_MS, &token, id,
                   err)) {
        return -1;
    }
    r = delete_locked(v, id, force, err);
    vm_locks_release(token);
    return r;
}

/* ---- workers ---- */

void vm_auto_remove(struct vms *v, const char *id)
{
    struct vm_token *token;
    struct err err;

    if (vm_locks_acquire(v->locks, id, "remove", NULL, -1, &token, &err)) {
        return;
    }
    if (vm_remove(v, id, &err) < 0 && err.code != ERR_NOT_FOUND) {
        log_error("VM %.12s: cannot be removed: %s", id, err.message);
    }
    vm_locks_release(token);
}

/* It is as good as off: its guest has synced, and nobody can reach it any more. */
static void end_idle_machine(struct vms *v, const struct vm_row *row) REQUIRES(rank_vm)
{
    struct err err;

    log_warn("VM %.12s: its guest has gone down, but its process does not end: killed", row->id);
    if (vm_kill(v, row->id, VM_REASON_GUEST_POWEROFF, &err) < 0 ||
        (row->auto_remove && vm_remove(v, row->id, &err) < 0)) {
        log_error("VM %.12s: %s", row->id, err.message);
    }
}

static void exit_locked(struct vms *v, const char *id) REQUIRES(rank_vm)
{
    struct err err;
    _cleanup_vm_run_ struct vm_run *run = vm_run_get(v, id, &err);
    _cleanup_vm_row_ struct vm_row row = {0};
    char reason[STORE_REASON_SIZE];
    struct vm_ending end = {.reason = reason, .exit = {.code = -1}};
    int64_t wait_ms;

    /* Whoever held the token may have stopped it, and a restart has started it again: that run has
     * nothing to do with the end that was told. */
    if (!run || !is_lost(run) || vm_get_row(v, id, &row, &err) < 0) {
        return;
    }
    wait_ms = row.own_init && is_going_down(run) ? INIT_EXIT_WAIT_MS : LAST_BREATH_MS;
    if (run->ops->wait_exit(run->vmm, NULL, clock_mono_ms() + wait_ms, &end.exit) < 0) {
        if (row.own_init && is_going_down(run)) {
            end_idle_machine(v, &row);
            return;
        }
        /* The machine runs without its agent: the user decides (stop --force). */
        (void)snprintf(reason, sizeof(reason), "agent_lost: %.200s", run->why);
        log_warn("VM %.12s: %s", id, reason);
        if (vm_set_state(v, id, row.state, reason, &err) < 0) {
            log_error("VM %.12s: %s", id, err.message);
        }
        return;
    }
    reason_of(v, &row, run, &end.exit, reason);
    log_info("VM %.12s '%s' ended: %s", id, row.name, reason);
    if (vm_clean_up(v, id, &end, &err) < 0 || (row.auto_remove && vm_remove(v, id, &err) < 0)) {
        log_error("VM %.12s: %s", id, err.message);
    }
}

static void look_after_end(struct vms *v, const char *id)
{
    struct vm_token *token;
    struct err err;

    if (vm_locks_acquire(v->locks, id, "clean up", NULL, -1, &token, &err)) {
        return;
    }
    exit_locked(v, id);
    vm_locks_release(token);
}

void vm_run_ended(struct vm_run *run)
{
    struct vms *v = run->vms;
    bool killing;

    leaf_lock(&v->table);
    killing = run->killing;
    run->lost = true;
    leaf_unlock(&v->table);
    if (!killing) {
        vm_run_worker(v, run->vm_id, look_after_end);
    }
}
