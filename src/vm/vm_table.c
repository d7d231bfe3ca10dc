/* Lock hierarchy: vms->table is a leaf; the store's lock is one too, so rows are copied out first.
 */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

/* How long an agent that ran before may take to answer a HELLO. */
#define HELLO_MS 10000

struct watcher {
    struct list node; /* in vms->watchers */
    int fd;           /* eventfd */
};

static struct vm_seams seams(const struct vm_seams *given)
{
    return (struct vm_seams){
        .clock = given->clock ? given->clock : &clock_system,
        .random = given->random ? given->random : random_bytes,
        .spawn = given->spawn ? given->spawn : spawn_process,
        .dial = given->dial ? given->dial : vm_dial,
        .wait_agent = given->wait_agent ? given->wait_agent : guest_link_wait_hello,
        .start_session = given->start_session ? given->start_session : session_start,
    };
}

struct vms *vms_new(const struct vms_params *params)
{
    struct vms *v = x_calloc(1, sizeof(*v));
    v->params = *params;
    v->params.capabilities = params->capabilities ? params->capabilities : vm_capabilities;
    v->run_dir = x_strdup(params->run_dir);
    v->default_image = x_strdup(params->default_image);
    v->default_kernel = x_strdup(params->default_kernel);
    v->seams = seams(&params->seams);
    v->sessions =
        session_registry_new(&(struct session_registry_params){.loop = params->guest_loop,
                                                               .fn = vm_on_session_event,
                                                               .arg = v,
                                                               .clock = v->seams.clock,
                                                               .random = v->seams.random});
    v->locks = vm_locks_new();
    v->consoles = console_watcher_new(params->control_loop);
    if (!v->consoles) {
        log_error("no inotify descriptor is left: consoles are not kept short");
    }
    v->slots = boot_slots_new(params->boot_slots);
    v->probe = boot_slots_new(1);
    lock_init(&v->create);
    lock_init(&v->table);
    list_init(&v->entries);
    for (int i = 0; i < VM_BUCKETS; i++) {
        list_init(&v->by_id[i]);
        list_init(&v->by_name[i]);
    }
    list_init(&v->watchers);
    latch_init(&v->idle);
    v->loading = true;
    (void)process_boot_id(v->boot_id); /* vms_load refuses "" */
    vm_describe_cpu(&v->cpu);
    return v;
}

void vms_stop_serving(struct vms *v)
{
    leaf_lock(&v->table);
    v->closing = true;
    leaf_unlock(&v->table);
}

void vms_free(struct vms *v)
{
    bool idle;

    if (!v) {
        return;
    }
    leaf_lock(&v->table);
    v->closing = true;
    idle = v->workers == 0;
    list_for_each (it, &v->entries) {
        struct cancel *cancel = LIST_ENTRY(it, struct vm_entry, node)->policy_acts;

        if (cancel) {
            cancel_trigger(cancel);
        }
    }
    leaf_unlock(&v->table);
    if (!idle) {
        (void)latch_wait(&v->idle, NULL, -1);
        leaf_lock(&v->table); /* the last worker may still be giving it back */
        leaf_unlock(&v->table);
    }
    list_for_each (it, &v->entries) {
        struct vm_entry *e = LIST_ENTRY(it, struct vm_entry, node);

        vm_take_locked(e);
        if (e->run && e->run->link) {
            guest_link_end(e->run->link, NULL);
        }
        if (e->run) {
            vm_run_clean_up(e->run);
        }
        vm_run_put(e->run);
        vm_entry_free(e);
    }
    vm_space_done(v);
    vm_policy_done(v);
    session_registry_free(v->sessions);
    vm_locks_free(v->locks);
    console_watcher_free(v->consoles);
    boot_slots_free(v->slots);
    boot_slots_free(v->probe);
    latch_done(&v->idle);
    lock_done(&v->create);
    lock_done(&v->table);
    free(v->run_dir);
    free(v->default_image);
    free(v->default_kernel);
    free(v);
}

struct session_registry *vms_sessions(struct vms *v)
{
    return v->sessions;
}

/* FNV-1a. Names are the owner's own: nobody gains by a collision. */
static unsigned bucket_of(const char *text)
{
    uint32_t hash = 2166136261;

    for (const char *p = text; *p; p++) {
        hash = (hash ^ (uint8_t)*p) * 16777619;
    }
    return hash % VM_BUCKETS;
}

struct vm_entry *vm_find_locked(struct vms *v, const char *id)
{
    list_for_each (it, &v->by_id[bucket_of(id)]) {
        struct vm_entry *e = LIST_ENTRY(it, struct vm_entry, by_id);

        if (str_eq(e->row.id, id)) {
            return e;
        }
    }
    return NULL;
}

struct vm_entry *vm_find_name_locked(struct vms *v, const char *name)
{
    list_for_each (it, &v->by_name[bucket_of(name)]) {
        struct vm_entry *e = LIST_ENTRY(it, struct vm_entry, by_name);

        if (str_eq(e->row.name, name)) {
            return e;
        }
    }
    return NULL;
}

bool vm_is_behind(const struct vm_row *row, int64_t created_ms, const char *id)
{
    return row->created_ms != created_ms ? row->created_ms > created_ms : strcmp(row->id, id) > 0;
}

/* The last one but where the host's clock was set back. */
static struct list *place_of_locked(struct vms *v, const struct vm_row *row)
{
    struct list *before = v->entries.prev;

    while (before != &v->entries && vm_is_behind(&LIST_ENTRY(before, struct vm_entry, node)->row,
                                                 row->created_ms, row->id)) {
        before = before->prev;
    }
    return before;
}

struct vm_entry *vm_add_locked(struct vms *v, const struct vm_row *row)
{
    struct vm_entry *e = x_calloc(1, sizeof(*e));

    vm_row_copy(&e->row, row);
    e->console = log_file_new();
    e->vmm_log = log_file_new();
    e->used_ms = v->seams.clock->mono_ms();
    list_append(place_of_locked(v, row)->next, &e->node);
    list_append(&v->by_id[bucket_of(row->id)], &e->by_id);
    list_append(&v->by_name[bucket_of(row->name)], &e->by_name);
    return e;
}

void vm_reindex_locked(struct vms *v, struct vm_entry *e)
{
    list_remove(&e->by_name);
    list_append(&v->by_name[bucket_of(e->row.name)], &e->by_name);
    list_remove(&e->node);
    list_append(place_of_locked(v, &e->row)->next, &e->node);
}

void vm_take_locked(struct vm_entry *e)
{
    list_remove(&e->node);
    list_remove(&e->by_id);
    list_remove(&e->by_name);
}

void vm_entry_free(struct vm_entry *e)
{
    if (e) {
        vm_row_done(&e->row);
        log_file_put(e->console);
        log_file_put(e->vmm_log);
        cancel_put(e->policy_acts);
        free(e);
    }
}

void vm_changed_locked(struct vms *v)
{
    list_for_each (it, &v->watchers) {
        (void)eventfd_write(LIST_ENTRY(it, struct watcher, node)->fd, 1);
    }
}

static int gone(const char *id, struct err *err)
{
    err_set(err, ERR_NOT_FOUND, "no VM '%.64s'", id);
    return err_hint(err, "see what there is with: banger ps -a");
}

int vm_get_row(struct vms *v, const char *id, struct vm_row *ret_row, struct err *err)
{
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        vm_row_copy(ret_row, &e->row);
    }
    leaf_unlock(&v->table);
    return e ? 0 : gone(id, err);
}

/* The next update writes what this one could not. */
static void owe_objects(struct vms *v, const char *id, const struct vm_row *unwritten)
{
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        e->row.objects_changed |= unwritten->objects_changed;
    }
    leaf_unlock(&v->table);
}

int vm_update(struct vms *v, const char *id, vm_change_fn change, void *arg, struct err *err)
{
    _cleanup_vm_row_ struct vm_row copy = {0};
    struct vm_entry *e;
    bool look = false;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        change(&e->row, arg);
        vm_row_copy(&copy, &e->row);
        e->row.objects_changed = false;
        vm_changed_locked(v);
        look = vm_policy_wants_look_locked(v, e);
    }
    leaf_unlock(&v->table);
    if (!e) {
        return gone(id, err);
    }
    if (look) {
        vm_policy_look(v);
    }
    if (store_vm_update(v->params.store, &copy, err) < 0) {
        owe_objects(v, id, &copy);
        return -1;
    }
    return 0;
}

void vm_note(struct vms *v, const char *id, vm_change_fn change, void *arg)
{
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        change(&e->row, arg);
        vm_changed_locked(v);
    }
    leaf_unlock(&v->table);
}

struct state_change {
    int64_t now_ms;
    enum vm_state state;
    const char *reason;
};

static void change_state(struct vm_row *row, void *arg)
{
    const struct state_change *c = arg;

    row->state = c->state;
    (void)snprintf(row->reason, sizeof(row->reason), "%s", c->reason);
    row->state_since_ms = c->now_ms;
    if (c->state == VM_STOPPED) {
        vm_row_drop_run(row);
    }
}

int vm_set_state(struct vms *v, const char *id, enum vm_state state, const char *reason,
                 struct err *err)
{
    return vm_update(v, id, change_state,
                     &(struct state_change){
                         .now_ms = v->seams.clock->real_ms(), .state = state, .reason = reason},
                     err);
}

/* awake: not one that is paused by its user. */
static struct vm_run *run_get(struct vms *v, const char *id, bool awake, struct err *err)
{
    enum vm_state state = VM_STOPPED;
    char name[sizeof(((struct vm_row *)NULL)->name)] = "";
    struct vm_run *run = NULL;
    struct vm_entry *e;
    bool asleep = false;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        state = e->row.state;
        memcpy(name, e->row.name, sizeof(name));
        asleep = awake && vm_is_paused_by_user(&e->row);
        run = asleep ? NULL : e->run;
        if (run) {
            run->refs++;
        }
    }
    leaf_unlock(&v->table);
    if (!e) {
        (void)gone(id, err);
    } else if (asleep) {
        err_set(err, ERR_NOT_RUNNING, "VM '%s' is paused", name);
        err_hint(err, "let it go on with: banger resume %s", name);
    } else if (!run) {
        err_set(err, ERR_NOT_RUNNING, "VM '%s' is not running (it is %s)", name,
                vm_state_name(state));
        err_hint(err, "start it with: banger start %s", name);
    }
    return run;
}

struct vm_run *vm_run_get(struct vms *v, const char *id, struct err *err)
{
    return run_get(v, id, false, err);
}

struct vm_run *vm_run_get_awake(struct vms *v, const char *id, struct err *err)
{
    return run_get(v, id, true, err);
}

struct vm_run *vm_run_get_up(struct vms *v, const char *id, struct cancel *cancel, struct err *err)
{
    _cleanup_vm_run_ struct vm_run *run = vm_run_get_awake(v, id, err);

    if (!run || v->seams.wait_agent(run->link, cancel, clock_mono_ms() + HELLO_MS, err) < 0) {
        return NULL;
    }
    return STEAL_PTR(run);
}

struct vm_run *vm_run_new(struct vms *v, const struct vm_row *row, const struct vmm_ops *ops)
{
    struct vm_run *run = x_calloc(1, sizeof(*run));

    run->vms = v;
    run->ops = ops;
    run->refs = 1;
    run->run_fd = -1;
    run->caps.list = v->params.capabilities;
    memcpy(run->vm_id, row->id, ID_SIZE);
    run->incarnation = row->incarnation;
    return run;
}

const struct vmm_ops *vm_ops(const struct vms *v, const char *name)
{
    return str_eq(name, v->params.vmm->name) ? v->params.vmm : vmm_ops_find(name);
}

int vm_dial(int run_fd)
{
    return fs_unix_connect(run_fd, "agent.sock");
}

void vm_run_link(struct vm_run *run, int fd, bool adopted)
{
    run->link = guest_link_open(&(struct guest_link_params){.loop = run->vms->params.guest_loop,
                                                            .fd = fd,
                                                            .adopted = adopted,
                                                            .vm_id = run->vm_id,
                                                            .sessions = run->vms->sessions,
                                                            .fn = vm_on_link_event,
                                                            .arg = run,
                                                            .random = run->vms->seams.random});
}

void vm_run_clean_up(struct vm_run *run)
{
    struct err err;

    /* What must not be lost is in the ledger. */
    if (vm_caps_cleanup(&run->caps, &err) < 0) {
        log_error("VM %.12s: %s", run->vm_id, err.message);
    }
}

static bool run_unref(struct vm_run *run)
{
    struct vms *v = run->vms;
    int refs;

    leaf_lock(&v->table);
    refs = --run->refs;
    leaf_unlock(&v->table);
    return refs == 0;
}

static void run_free(struct vm_run *run)
{
    guest_link_free(run->link);
    vm_end_grace(run);
    run->ops->free(run->vmm);
    assert(run->caps.held == 0);
    close_p(&run->run_fd);
    free(run);
}

void vm_run_put(struct vm_run *run)
{
    if (run && run_unref(run)) {
        run_free(run);
    }
}

/* ---- workers ---- */

struct worker {
    struct vms *vms;
    char id[ID_SIZE];
    vm_worker_fn fn;
};

static void worker_done(struct vms *v)
{
    leaf_lock(&v->table);
    v->workers--;
    if (v->closing && v->workers == 0) {
        latch_set(&v->idle);
    }
    leaf_unlock(&v->table);
}

static void start_worker(void *(*fn)(void *arg), void *arg)
{
    if (thread_start_detached("vm-worker", 256, fn, arg) < 0) {
        abort();
    }
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct vms *v = w->vms;

    w->fn(v, w->id);
    free(w);
    worker_done(v);
    return NULL;
}

void vm_run_worker(struct vms *v, const char *id, vm_worker_fn fn)
{
    struct worker *w = x_calloc(1, sizeof(*w));
    bool closing;

    w->vms = v;
    w->fn = fn;
    (void)snprintf(w->id, sizeof(w->id), "%s", id);
    leaf_lock(&v->table);
    closing = v->closing;
    v->workers += !closing;
    leaf_unlock(&v->table);
    /* A daemon that ends leaves this to the next one's start. */
    if (closing) {
        free(w);
    } else {
        start_worker(worker_main, w);
    }
}

static void *free_main(void *arg)
{
    struct vm_run *run = arg;
    struct vms *v = run->vms;

    run_free(run);
    worker_done(v);
    return NULL;
}

void vm_run_put_later(struct vm_run *run)
{
    struct vms *v = run->vms;

    if (run_unref(run)) {
        leaf_lock(&v->table);
        v->workers++;
        leaf_unlock(&v->table);
        start_worker(free_main, run);
    }
}

/* ---- looking ---- */

int vms_resolve(struct vms *v, const char *ref, char ret_id[ID_SIZE], struct err *err)
{
    unsigned matches = 0;
    struct vm_entry *e;

    leaf_lock(&v->table);
    /* A name wins over an id that starts alike. */
    e = vm_find_name_locked(v, ref);
    e = e ? e : vm_find_locked(v, ref);
    if (e && vm_is_visible(&e->row)) {
        matches = 1;
        memcpy(ret_id, e->row.id, ID_SIZE);
    } else if (id_is_prefix(ref)) {
        list_for_each (it, &v->entries) {
            const struct vm_row *row = &LIST_ENTRY(it, struct vm_entry, node)->row;

            if (vm_is_visible(row) && str_starts_with(row->id, ref)) {
                matches++;
                memcpy(ret_id, row->id, ID_SIZE);
            }
        }
    }
    leaf_unlock(&v->table);
    if (matches == 1) {
        return 0;
    }
    if (matches > 1) {
        err_set(err, ERR_CONFLICT, "'%.64s' is ambiguous: %u VM ids start so", ref, matches);
        return err_hint(err, "give more of the id, or the name: banger ps -a");
    }
    {
        _cleanup_free_ char *safe = str_escape(ref, strlen(ref), 64);

        return gone(safe, err);
    }
}

int vm_acquire(struct vms *v, const char *ref, const char *what, bool cut, struct cancel *cancel,
               int64_t deadline_ms, struct vm_token **ret_token, char ret_id[ID_SIZE],
               struct err *err)
{
    if (vms_resolve(v, ref, ret_id, err) < 0) {
        return -1;
    }
    if (cut) {
        vm_locks_cancel_holder(v->locks, ret_id);
    }
    return vm_locks_acquire(v->locks, ret_id, what, cancel, deadline_ms, ret_token, err);
}

int vms_resolve_listed(struct vms *v, const char *ref, struct cancel *cancel, char ret_id[ID_SIZE],
                       struct err *err)
{
    _cleanup_vm_run_ struct vm_run *run = NULL;
    struct err none; /* no run: what is known of its sessions is all there is */

    if (vms_resolve(v, ref, ret_id, err) < 0) {
        return -1;
    }
    run = vm_run_get(v, ret_id, &none);
    if (run) {
        guest_link_wait_decided(run->link, cancel, clock_mono_ms() + HELLO_MS);
    }
    return 0;
}

int vms_show(struct vms *v, const char *ref, json_t **ret, struct err *err)
{
    _cleanup_vm_row_ struct vm_row row = {0};
    char id[ID_SIZE];

    if (vms_resolve(v, ref, id, err) < 0 || vm_get_row(v, id, &row, err) < 0) {
        return -1;
    }
    return vm_row_json(v, &row, session_count_running(v->sessions, id), ret, err);
}

json_t *vms_count_by_state(struct vms *v)
{
    unsigned counts[VM_STATE_COUNT] = {0};
    json_t *o = json_object();

    leaf_lock(&v->table);
    list_for_each (it, &v->entries) {
        const struct vm_row *row = &LIST_ENTRY(it, struct vm_entry, node)->row;

        /* Those of pools are there, and take memory. */
        counts[row->state] += vm_is_visible(row) || row->state == VM_POOLED;
    }
    leaf_unlock(&v->table);
    for (int i = 0; i < VM_STATE_COUNT; i++) {
        if (counts[i] > 0) {
            json_put_int(o, vm_state_name((enum vm_state)i), counts[i]);
        }
    }
    return o;
}

static bool wait_is_over(struct vms *v, const char *id, enum vm_wait_for what, enum vm_state *state)
{
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    *state = e ? e->row.state : VM_STATE_COUNT;
    leaf_unlock(&v->table);
    switch (what) {
    case VM_WAIT_RUNNING:
        return *state == VM_RUNNING;
    case VM_WAIT_STOPPED:
        return *state == VM_STOPPED || *state == VM_CREATED || *state == VM_STATE_COUNT;
    default:
        return *state == VM_STATE_COUNT;
    }
}

int vms_wait(struct vms *v, const char *ref, enum vm_wait_for what, struct cancel *cancel,
             int64_t deadline_ms, struct err *err)
{
    struct watcher w = {0};
    enum vm_state state;
    char id[ID_SIZE];
    eventfd_t value;
    int r = 0;

    if (vms_resolve(v, ref, id, err) < 0) {
        return what == VM_WAIT_DELETED && err->code == ERR_NOT_FOUND ? 0 : -1;
    }
    w.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w.fd < 0) {
        return err_set_errno(err, ERR_LIMIT, errno, "cannot wait for a VM");
    }
    leaf_lock(&v->table);
    list_append(&v->watchers, &w.node);
    leaf_unlock(&v->table);
    while (r == 0 && !wait_is_over(v, id, what, &state)) {
        if (state == VM_STATE_COUNT) {
            r = gone(ref, err);
            break;
        }
        r = cancel_wait_fd(cancel, w.fd, POLLIN, deadline_ms);
        (void)eventfd_read(w.fd, &value);
        if (r < 0) {
            err_set_errno(err, ERR_INTERNAL, r, "VM '%.64s' is still %s", ref,
                          vm_state_name(state));
        }
    }
    leaf_lock(&v->table);
    list_remove(&w.node);
    leaf_unlock(&v->table);
    close_p(&w.fd);
    return r < 0 ? -1 : 0;
}
