/*
 * The pools: of each template that is in use, a few forks are kept ready, restored, rehearsed and
 * stopped, so that a create need only give one its identity. One thread adds what is missing, and
 * gives back what nobody needs, or the host has no memory for; the memory of templates too. Members
 * are rows of the VM table that are nobody's; a daemon that starts removes those of the one before.
 */
#include "snapshot/template_priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Not used for so long, it has none. */
#define IN_USE_MS (600 * 1000)
/* How often that, and the host's memory, is looked at while there are any. */
#define LOOK_MS 15000
/* After one that failed. */
#define RETRY_MS 60000
/* Of the host's memory this is left to others. */
#define MEMORY_LEFT_PERCENT 15
#define STACK_KIB 256

/* ---- members ---- */

unsigned template_pool_size_locked(const struct templates *t, const struct template *one)
{
    return one->row.pool_size < 0 ? t->params.pool_size : (unsigned)one->row.pool_size;
}

bool template_take_member(struct templates *t, struct template *one, char ret_id[ID_SIZE])
{
    struct member *m = NULL;

    leaf_lock(&t->table);
    if (!list_is_empty(&one->members)) {
        m = LIST_ENTRY(one->members.next, struct member, node);
        list_remove(&m->node);
        one->member_count--;
        memcpy(ret_id, m->id, ID_SIZE);
    }
    leaf_unlock(&t->table);
    free(m);
    return m != NULL;
}

static unsigned count_of(struct templates *t, const struct template *one)
{
    unsigned count;

    leaf_lock(&t->table);
    count = one->member_count;
    leaf_unlock(&t->table);
    return count;
}

/* All but so many. */
static void give_up(struct templates *t, struct template *one, unsigned but, const char *why)
{
    char id[ID_SIZE];
    struct err err;

    while (count_of(t, one) > but && template_take_member(t, one, id)) {
        log_info("template %.12s: a member of its pool is given up: %s", one->row.id, why);
        if (vms_pool_remove(t->params.vms, id, &err) < 0) {
            log_error("template %.12s: a member of its pool: %s", one->row.id, err.message);
        }
    }
}

void template_drain(struct templates *t)
{
    for (;;) {
        struct member *m = NULL;
        struct err err;

        leaf_lock(&t->table);
        if (!list_is_empty(&t->orphans)) {
            m = LIST_ENTRY(t->orphans.next, struct member, node);
            list_remove(&m->node);
        }
        leaf_unlock(&t->table);
        if (!m) {
            return;
        }
        if (vms_pool_remove(t->params.vms, m->id, &err) < 0) {
            log_error("a fork that was ready is left: %s", err.message);
        }
        free(m);
    }
}

/* False when it has been taken out meanwhile. */
static bool keep_member(struct templates *t, struct template *one, const char *id)
{
    struct member *m = x_calloc(1, sizeof(*m));
    bool kept;

    memcpy(m->id, id, ID_SIZE);
    leaf_lock(&t->table);
    kept = !one->gone;
    if (kept) {
        list_append(&one->members, &m->node);
        one->member_count++;
    }
    leaf_unlock(&t->table);
    if (kept) {
        log_info("template %.12s: a fork is ready", one->row.id);
    } else {
        free(m);
    }
    return kept;
}

/* ---- the thread ---- */

static bool memory_is_low(void)
{
    _cleanup_free_ char *text = NULL;
    unsigned long long total, available;
    const char *at;
    size_t len;

    if (FAULT_POINT("pool.memory") < 0) {
        return true;
    }
    return fs_read_file(AT_FDCWD, "/proc/meminfo", 65536, &text, &len) == 0 &&
           sscanf(text, "MemTotal: %llu kB", &total) == 1 && (at = strstr(text, "MemAvailable:")) &&
           sscanf(at, "MemAvailable: %llu kB", &available) == 1 &&
           available * 100 < total * MEMORY_LEFT_PERCENT;
}

static bool in_use_locked(const struct templates *t, const struct template *one)
{
    int64_t ms = t->clock->real_ms() - one->row.used_ms;

    return ms >= 0 && ms < IN_USE_MS;
}

/* A reference to one whose pool wants another member, or NULL. */
static struct template *next_short(struct templates *t)
{
    struct template *found = NULL;

    leaf_lock(&t->table);
    list_for_each (it, &t->list) {
        struct template *one = LIST_ENTRY(it, struct template, node);

        if (!found && one->member_count < template_pool_size_locked(t, one) &&
            in_use_locked(t, one) &&
            (one->pool_failed_ms == 0 || clock_mono_ms() - one->pool_failed_ms >= RETRY_MS)) {
            found = one;
            found->refs++;
        }
    }
    leaf_unlock(&t->table);
    return found;
}

/* How many members one may keep, now. */
static unsigned allowed_locked(const struct templates *t, const struct template *one, bool low)
{
    return low || !in_use_locked(t, one) ? 0 : template_pool_size_locked(t, one);
}

/* A reference to one that has more than that, or NULL. */
static struct template *next_over(struct templates *t, bool low, unsigned *ret_allowed)
{
    struct template *found = NULL;

    leaf_lock(&t->table);
    list_for_each (it, &t->list) {
        struct template *one = LIST_ENTRY(it, struct template, node);

        if (!found && one->member_count > allowed_locked(t, one, low)) {
            found = one;
            found->refs++;
            *ret_allowed = allowed_locked(t, one, low);
        }
    }
    leaf_unlock(&t->table);
    return found;
}

/* The VM that all its members are like. */
static int like_row(const struct template *one, struct vm_row *ret, struct err *err)
{
    _cleanup_json_ json_t *o = NULL;

    if (json_parse(one->row.ingredients, strlen(one->row.ingredients), &o, err) < 0) {
        return -1;
    }
    *ret = (struct vm_row){
        .vcpus = (unsigned)json_int(o, "vcpus", 1),
        .memory_mib = (uint64_t)json_int(o, "memory_mib", 0),
        .disk_bytes = (uint64_t)json_int(o, "disk_bytes", 0),
        .own_init = str_eq(json_str(o, "init", ""), VM_INIT_IMAGE),
    };
    memcpy(ret->image_name, one->row.image_name, sizeof(ret->image_name));
    memcpy(ret->image_digest, one->row.image_digest, sizeof(ret->image_digest));
    memcpy(ret->kernel_digest, one->row.kernel_digest, sizeof(ret->kernel_digest));
    (void)snprintf(ret->kernel_name, sizeof(ret->kernel_name), "%s", one->row.kernel_digest);
    (void)snprintf(ret->vmm, sizeof(ret->vmm), "%s", json_str(o, "vmm", ""));
    return 0;
}

static int add_member(struct templates *t, struct template *one, struct err *err)
{
    _cleanup_(vm_fork_done) struct vm_fork fork = VM_FORK_NONE;
    struct vm_row like;
    char id[ID_SIZE];

    if (like_row(one, &like, err) < 0 || template_open_fork(t, one, t->pool_stop, &fork, err) < 0 ||
        vms_pool_add(t->params.vms, &like, &fork, t->pool_stop, id, err) < 0) {
        return -1;
    }
    return keep_member(t, one, id) ? 0 : vms_pool_remove(t->params.vms, id, err);
}

static void fill(struct templates *t)
{
    struct template *one;
    struct err err;

    while (!cancel_requested(t->pool_stop) && !memory_is_low() && (one = next_short(t))) {
        bool failed = add_member(t, one, &err) < 0;

        if (failed && err.code != ERR_CANCELLED) {
            log_warn("template %.12s: no member for its pool: %s", one->row.id, err.message);
        }
        leaf_lock(&t->table);
        one->pool_failed_ms = failed ? clock_mono_ms() : 0;
        leaf_unlock(&t->table);
        template_put(t, one);
    }
}

/* Whoever uses one has a reference; its files are read once more when it is used again. */
static bool take_loaded(struct templates *t, bool low, struct template_loaded *ret)
{
    bool taken = false;

    leaf_lock(&t->table);
    list_for_each (it, &t->list) {
        struct template *one = LIST_ENTRY(it, struct template, node);

        if (!taken && one->is_loaded && one->refs == 1 && one->member_count == 0 &&
            (low || !in_use_locked(t, one))) {
            *ret = one->loaded;
            one->loaded = (struct template_loaded){.memory_fd = -1};
            one->is_loaded = false;
            taken = true;
        }
    }
    leaf_unlock(&t->table);
    return taken;
}

static void give_back(struct templates *t)
{
    struct template_loaded loaded;
    bool low = memory_is_low();
    struct template *one;
    unsigned allowed;

    template_drain(t);
    while ((one = next_over(t, low, &allowed))) {
        give_up(t, one, allowed, low ? "the host has little memory left" : "it is not needed");
        template_put(t, one);
    }
    while (take_loaded(t, low, &loaded)) {
        template_loaded_done(&loaded);
    }
}

/* Whether there is anything to be given back, or tried again, later. */
static bool has_anything(struct templates *t)
{
    bool any = false;

    leaf_lock(&t->table);
    list_for_each (it, &t->list) {
        const struct template *one = LIST_ENTRY(it, struct template, node);

        any |= one->member_count > 0 || one->pool_failed_ms != 0 || one->is_loaded;
    }
    leaf_unlock(&t->table);
    return any;
}

static void *pool_main(void *arg)
{
    struct templates *t = arg;

    do {
        eventfd_t ignored;
        int64_t deadline_ms;

        give_back(t);
        fill(t);
        deadline_ms = has_anything(t) ? clock_mono_ms() + LOOK_MS : -1;
        (void)cancel_wait_fd(t->pool_stop, t->pool_wake, POLLIN, deadline_ms);
        (void)eventfd_read(t->pool_wake, &ignored);
    } while (!cancel_requested(t->pool_stop));
    return NULL;
}

void template_pool_look(struct templates *t)
{
    if (t->pool_runs) {
        (void)eventfd_write(t->pool_wake, 1);
    }
}

int templates_start_pools(struct templates *t, struct err *err)
{
    int r;

    t->pool_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = t->pool_wake < 0 ? -errno : thread_start(&t->pool_thread, "pool", STACK_KIB, pool_main, t);
    if (r < 0) {
        return err_set_errno(err, ERR_LIMIT, r, "cannot start the thread of the pools");
    }
    t->pool_runs = true;
    return 0;
}

void template_pools_end(struct templates *t)
{
    cancel_trigger(t->pool_stop);
    if (t->pool_runs) {
        (void)pthread_join(t->pool_thread, NULL);
        t->pool_runs = false;
    }
    list_for_each (it, &t->list) {
        give_up(t, LIST_ENTRY(it, struct template, node), 0, "the daemon ends");
    }
    template_drain(t);
}
