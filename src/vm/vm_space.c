/* The host's disk is full: admission before work, and guests that wait for room.
 *
 * A guest whose write finds no space is stopped by its VMM (VMM_IO_STOPPED) before it notices, and
 * goes on when there is room again. The kernel has no event for that: inotify and fanotify tell of
 * files and not of space, and what makes room need not be a file of ours. So, and only while a
 * guest waits, a timer of the control loop has the filesystem asked twice a second, by a worker, as
 * that may block. A guest that is stopped again at once waits longer each time. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "disk/data_disk.h"

#include <stdio.h>

#define LOOK_EVERY_MS 500
/* Stopped again so soon after it went on: then it waits, from the first to the last of these. */
#define AGAIN_MS 10000
#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MAX_MS 60000
#define RESUME_MS 10000

/* ---- admission ---- */

void vm_promise_done(struct vm_promise *p)
{
    space_claim_end(STEAL_PTR(p->disk));
    space_claim_end(STEAL_PTR(p->cache));
}

int vm_admit_create(struct vms *v, const struct vm_row *row, const struct vmm_ops *ops, bool start,
                    int from_fd, struct vm_promise *ret_promise, struct err *err)
{
    const struct vms_params *p = &v->params;
    _cleanup_free_ char *what =
        row->name[0] ? x_asprintf("VM '%s'", row->name) : x_strdup("a new VM");
    _cleanup_(vm_promise_done) struct vm_promise promise = {0};
    uint64_t disk = 0, cache = 0;

    if (ops->features & VMM_BOOTS_KERNEL) {
        if (from_fd >= 0) {
            disk = data_disk_occupies(from_fd);
        } else {
            data_disk_estimate(p->cache_fd, row->disk_bytes, &disk, &cache);
        }
        disk += start ? SPACE_BOOT_BYTES : 0;
    }
    if (space_claim(p->space, p->state_fd, what, disk, &promise.disk, err) < 0 ||
        (cache > 0 && space_claim(p->space, p->cache_fd, what, cache, &promise.cache, err) < 0)) {
        return -1;
    }
    *ret_promise = promise;
    promise = (struct vm_promise){0};
    return 0;
}

/* ---- what the row says ---- */

static void set_paused(struct vm_row *row)
{
    row->state = VM_PAUSED;
    (void)snprintf(row->reason, sizeof(row->reason), "%s", VM_REASON_DISK_FULL);
}

static bool is_paused_row(const struct vm_row *row)
{
    return row->state == VM_PAUSED && str_eq(row->reason, VM_REASON_DISK_FULL);
}

struct up {
    struct vm_run *run;
    const char *reason;
};

static void change_up(struct vm_row *row, void *arg)
{
    const struct up *up = arg;

    row->state = VM_RUNNING;
    (void)snprintf(row->reason, sizeof(row->reason), "%s", up->reason);
    row->state_since_ms = up->run->vms->seams.clock->real_ms();
    vm_mark_paused_locked(up->run, row);
}

void vm_mark_paused_locked(const struct vm_run *run, struct vm_row *row)
{
    if (run->io_stopped) {
        set_paused(row);
    }
}

int vm_set_up(struct vms *v, struct vm_run *run, const char *reason, struct err *err)
{
    return vm_update(v, run->vm_id, change_up, &(struct up){.run = run, .reason = reason}, err);
}

/* Not the row of a VM that is started or stopped: who does that looks for himself in the end. */
static bool is_behind(const struct vm_run *run, const struct vm_row *row)
{
    return run->io_stopped ? row->state == VM_RUNNING : is_paused_row(row);
}

static void change_if_behind(struct vm_row *row, void *arg)
{
    const struct up *up = arg;

    if (is_behind(up->run, row)) {
        change_up(row, arg);
    }
}

int vm_record_paused(struct vms *v, const char *id, struct err *err)
{
    _cleanup_vm_run_ struct vm_run *run = NULL;
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e && e->run && is_behind(e->run, &e->row)) {
        run = e->run;
        run->refs++;
    }
    leaf_unlock(&v->table);
    return run ? vm_update(v, id, change_if_behind, &(struct up){.run = run, .reason = ""}, err)
               : 0;
}

static void record(struct vms *v, const char *id)
{
    struct err err;

    if (vm_record_paused(v, id, &err) < 0) {
        log_error("VM %.12s: %s", id, err.message);
    }
}

/* ---- waiting for room ---- */

static void arm(void *arg);

bool vm_is_io_stopped(struct vm_run *run)
{
    bool stopped;

    leaf_lock(&run->vms->table);
    stopped = run->io_stopped;
    leaf_unlock(&run->vms->table);
    return stopped;
}

int vm_resume(struct vm_run *run, struct cancel *cancel, struct err *err)
{
    struct vms *v = run->vms;
    int r;

    /* Before it goes on: when it is stopped again, that is said before the command is answered. */
    leaf_lock(&v->table);
    run->io_stopped = false;
    run->resumed_ms = clock_mono_ms();
    leaf_unlock(&v->table);
    r = run->ops->resume(run->vmm, cancel, clock_mono_ms() + RESUME_MS, err);
    if (r < 0) {
        leaf_lock(&v->table);
        run->io_stopped = true;
        leaf_unlock(&v->table);
        loop_post(v->params.control_loop, arm, v);
    }
    return r;
}

static void go_on(struct vm_run *run)
{
    struct err err;

    log_info("VM %.12s: there is room on the disk again: it goes on", run->vm_id);
    if (vm_resume(run, NULL, &err) < 0) {
        log_warn("VM %.12s: %s", run->vm_id, err.message);
    }
    record(run->vms, run->vm_id);
}

/* One that somebody paused on purpose stays as it is. */
static bool waits_for_room(const struct vm_entry *e)
{
    return e->run && e->run->io_stopped && (e->row.state != VM_PAUSED || is_paused_row(&e->row));
}

/* The next whose time has come, with a reference, and what it is; *ret_waiting: there are any. */
static struct vm_run *next_due(struct vms *v, bool *ret_waiting)
{
    int64_t now = clock_mono_ms();
    struct vm_run *due = NULL;

    *ret_waiting = false;
    leaf_lock(&v->table);
    list_for_each (it, &v->entries) {
        const struct vm_entry *e = LIST_ENTRY(it, struct vm_entry, node);

        if (waits_for_room(e)) {
            *ret_waiting = true;
            if (!due && e->run->resume_at_ms <= now) {
                due = e->run;
                due->refs++;
            }
        }
    }
    leaf_unlock(&v->table);
    return due;
}

/* Worker. Each has some time of its own before it is due again, so this ends. */
static void look_for_room(struct vms *v, const char *unused)
{
    struct vm_run *due;
    bool waiting;

    (void)unused;
    while ((due = next_due(v, &waiting)) && space_has_room(v->params.space, v->params.state_fd)) {
        leaf_lock(&v->table);
        due->resume_at_ms = clock_mono_ms() + BACKOFF_FIRST_MS;
        leaf_unlock(&v->table);
        go_on(due);
        vm_run_put(STEAL_PTR(due));
    }
    vm_run_put(due);
    if (waiting) {
        loop_post(v->params.control_loop, arm, v);
    }
}

static void on_timer(void *arg)
{
    struct vms *v = arg;

    v->space_armed = false;
    vm_run_worker(v, "", look_for_room);
}

static void arm(void *arg)
{
    struct vms *v = arg;
    int64_t at = clock_mono_ms() + LOOK_EVERY_MS;

    if (v->space_armed) {
        return;
    }
    v->space_armed = true;
    if (v->space_timer) {
        loop_source_set_deadline(v->space_timer, at);
    } else {
        v->space_timer = loop_add_timer(v->params.control_loop, at, on_timer, v);
    }
}

int64_t vm_next_backoff_ms(int64_t last_ms, int64_t ran_ms)
{
    if (ran_ms < 0 || ran_ms >= AGAIN_MS) {
        return 0;
    }
    if (last_ms == 0) {
        return BACKOFF_FIRST_MS;
    }
    return last_ms * 2 < BACKOFF_MAX_MS ? last_ms * 2 : BACKOFF_MAX_MS;
}

void vm_on_io_stopped(struct vm_run *run)
{
    struct vms *v = run->vms;
    int64_t now = clock_mono_ms();

    leaf_lock(&v->table);
    run->backoff_ms =
        vm_next_backoff_ms(run->backoff_ms, run->resumed_ms > 0 ? now - run->resumed_ms : -1);
    run->resume_at_ms = now + run->backoff_ms;
    run->io_stopped = true;
    leaf_unlock(&v->table);
    log_warn("VM %.12s: a disk write failed on the host: paused", run->vm_id);
    arm(v);
    vm_run_worker(v, run->vm_id, record);
}

void vm_on_resumed(struct vm_run *run)
{
    leaf_lock(&run->vms->table);
    run->io_stopped = false;
    leaf_unlock(&run->vms->table);
    vm_run_worker(run->vms, run->vm_id, record);
}

void vm_adopt_paused(struct vm_run *run, const struct vm_row *row)
{
    struct vms *v = run->vms;

    if (is_paused_row(row)) {
        leaf_lock(&v->table);
        run->io_stopped = true;
        leaf_unlock(&v->table);
        loop_post(v->params.control_loop, arm, v);
    }
}

static void free_timer(void *arg)
{
    struct vms *v = arg;

    loop_source_free(STEAL_PTR(v->space_timer));
}

void vm_space_done(struct vms *v)
{
    loop_call(v->params.control_loop, free_timer, v);
}
