#include "snapshot/template_priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DIRECTORY "templates"
/* They take turns; the others wait. */
#define MAKING_MAX 8
/* How exactly the store knows when one was last used. */
#define USED_EVERY_MS 60000
/* The guest counts time by the rate that it booted with: one part in so many is what measuring it
 * once more may differ by, and 9 seconds a day. */
#define TSC_TOLERANCE 10000

/* ---- the table ---- */

static struct template *find_locked(struct templates *t, const char *id)
{
    list_for_each (it, &t->list) {
        struct template *one = LIST_ENTRY(it, struct template, node);

        if (str_eq(one->row.id, id)) {
            return one;
        }
    }
    return NULL;
}

struct template *template_get(struct templates *t, const char *id)
{
    struct template *one;

    leaf_lock(&t->table);
    one = find_locked(t, id);
    if (one) {
        one->refs++;
    }
    leaf_unlock(&t->table);
    return one;
}

void template_put(struct templates *t, struct template *one)
{
    int refs;

    if (!one) {
        return;
    }
    leaf_lock(&t->table);
    refs = --one->refs;
    leaf_unlock(&t->table);
    if (refs == 0) {
        template_row_done(&one->row);
        template_loaded_done(&one->loaded);
        free(one);
    }
}

/* False when somebody else has. The table's reference is the caller's then. */
static bool take_out(struct templates *t, struct template *one)
{
    bool there;

    leaf_lock(&t->table);
    there = !one->gone;
    if (there) {
        list_remove(&one->node);
        one->gone = true;
        while (!list_is_empty(&one->members)) {
            struct list *member = one->members.next;

            list_remove(member);
            list_append(&t->orphans, member);
        }
        one->member_count = 0;
    }
    leaf_unlock(&t->table);
    return there;
}

void template_add(struct templates *t, const struct template_row *row,
                  struct template_loaded *loaded)
{
    struct template *one = x_calloc(1, sizeof(*one)), *old = template_get(t, row->id);

    template_row_copy(&one->row, row);
    list_init(&one->members);
    one->refs = 1;
    one->written_ms = row->used_ms;
    one->loaded.memory_fd = -1;
    if (loaded) {
        one->loaded = *loaded;
        one->is_loaded = true;
        *loaded = (struct template_loaded){.memory_fd = -1};
    }
    if (old && take_out(t, old)) {
        template_put(t, old);
    }
    template_put(t, old);
    leaf_lock(&t->table);
    list_append(&t->list, &one->node);
    leaf_unlock(&t->table);
    template_pool_look(t);
}

int template_remove(struct templates *t, struct template *one, struct err *err)
{
    int r;

    if (store_template_delete(t->params.store, one->row.id, err) < 0) {
        return -1;
    }
    CRASH_POINT("template.deleted");
    if (!take_out(t, one)) {
        return 0;
    }
    r = fs_remove_tree(t->dir_fd, one->row.id);
    template_put(t, one);
    if (r < 0) {
        err_set_errno(err, ERR_IO, r, "the files of template %.12s cannot be removed", one->row.id);
        return err_hint(err, "the daemon removes them when it starts");
    }
    return 0;
}

/* References to all, in the order of the table. The caller puts each and frees the list. */
static struct template **get_all(struct templates *t, size_t *ret_count)
{
    struct template **all;
    size_t count = 0;

    leaf_lock(&t->table);
    list_for_each (it, &t->list) {
        (void)it;
        count++;
    }
    all = x_calloc(count + 1, sizeof(struct template *));
    count = 0;
    list_for_each (it, &t->list) {
        all[count] = LIST_ENTRY(it, struct template, node);
        all[count++]->refs++;
    }
    leaf_unlock(&t->table);
    *ret_count = count;
    return all;
}

static void put_all(struct templates *t, struct template **all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        template_put(t, all[i]);
    }
    free(all);
}

void template_id_of(const json_t *ingredients, char ret_id[ID_SIZE])
{
    char *text = json_dumps(ingredients, JSON_COMPACT | JSON_SORT_KEYS);
    char hex[SHA256_HEX_SIZE];

    if (!text) {
        abort();
    }
    sha256_of(text, strlen(text), hex);
    memcpy(ret_id, hex, ID_SIZE - 1);
    ret_id[ID_SIZE - 1] = '\0';
    free(text);
}

static struct template *resolve(struct templates *t, const char *ref, struct err *err)
{
    struct template *found = NULL;
    unsigned matches = 0;

    leaf_lock(&t->table);
    list_for_each (it, &t->list) {
        struct template *one = LIST_ENTRY(it, struct template, node);

        if (id_is_prefix(ref) && str_starts_with(one->row.id, ref)) {
            found = one;
            matches++;
        }
    }
    if (matches == 1) {
        found->refs++;
    }
    leaf_unlock(&t->table);
    if (matches == 1) {
        return found;
    }
    if (matches > 1) {
        err_set(err, ERR_CONFLICT, "'%.64s' is ambiguous: %u template ids start so", ref, matches);
        (void)err_hint(err, "give more of the id: banger template list");
    } else {
        _cleanup_free_ char *safe = str_escape(ref, strlen(ref), 64);

        err_set(err, ERR_NOT_FOUND, "no template '%s'", safe);
        (void)err_hint(err, "banger template list shows those that there are");
    }
    return NULL;
}

/* ---- forks ---- */

/* Loads it unless it is. One thread at a time, which may take a tenth of a second. */
static int load(struct templates *t, struct template *one, struct cancel *cancel, struct err *err)
{
    bool is_loaded;
    int r;

    leaf_lock(&t->table);
    is_loaded = one->is_loaded;
    leaf_unlock(&t->table);
    if (is_loaded) {
        return 0;
    }
    r = boot_slots_acquire(t->loading, cancel, -1);
    if (r < 0) {
        return err_set_errno(err, ERR_CANCELLED, r, "loading a template");
    }
    leaf_lock(&t->table);
    is_loaded = one->is_loaded;
    leaf_unlock(&t->table);
    if (!is_loaded) {
        r = template_load(t, &one->row, cancel, &one->loaded, err);
        leaf_lock(&t->table);
        one->is_loaded = r == 0;
        leaf_unlock(&t->table);
    }
    boot_slots_release(t->loading);
    return r;
}

static int devices_new(const struct template_loaded *l, struct err *err)
{
    int fd = memfd_create("banger-devices", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : fs_write_all(fd, l->devices, l->devices_len);

    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0) {
        r = -errno;
    }
    if (r < 0) {
        close_p(&fd);
        return err_set_errno(err, ERR_LIMIT, r, "a fork's devices");
    }
    return fd;
}

int template_open_fork(struct templates *t, struct template *one, struct cancel *cancel,
                       struct vm_fork *ret, struct err *err)
{
    _cleanup_(vm_fork_done) struct vm_fork f = VM_FORK_NONE;
    char path[ID_SIZE + sizeof(TEMPLATE_DISK) + 1];

    if (load(t, one, cancel, err) < 0 || template_check_disk(t, one, cancel, err) < 0) {
        return -1;
    }
    (void)snprintf(path, sizeof(path), "%s/" TEMPLATE_DISK, one->row.id);
    f.disk_fd = openat(t->dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (f.disk_fd < 0) {
        return err_set_errno(err, errno == ENOENT ? ERR_IO : ERR_LIMIT, errno,
                             "its " TEMPLATE_DISK);
    }
    f.memory_fd = fcntl(one->loaded.memory_fd, F_DUPFD_CLOEXEC, 3);
    if (f.memory_fd < 0) {
        return err_set_errno(err, ERR_LIMIT, errno, "its memory");
    }
    f.devices_fd = devices_new(&one->loaded, err);
    if (f.devices_fd < 0) {
        return -1;
    }
    leaf_lock(&t->table);
    f.disk_bytes = one->loaded.disk.st_size;
    f.disk_mtime = one->loaded.disk.st_mtim;
    leaf_unlock(&t->table);
    memcpy(f.id, one->row.id, ID_SIZE);
    *ret = f;
    f = VM_FORK_NONE;
    return 0;
}

static void note_used(struct templates *t, struct template *one)
{
    int64_t now_ms = t->clock->real_ms();
    uint64_t uses;
    struct err err;
    bool write;

    leaf_lock(&t->table);
    uses = ++one->row.uses;
    one->row.used_ms = now_ms;
    write = !one->gone && (now_ms < one->written_ms || now_ms - one->written_ms >= USED_EVERY_MS);
    if (write) {
        one->written_ms = now_ms;
    }
    leaf_unlock(&t->table);
    if (write && store_template_used(t->params.store, one->row.id, now_ms, uses, &err) < 0) {
        log_warn("template %.12s: %s", one->row.id, err.message);
    }
}

static bool same_rate(uint32_t a, uint32_t b)
{
    uint32_t difference = a > b ? a - b : b - a;

    return (uint64_t)difference * TSC_TOLERANCE <= a;
}

static void discard(struct templates *t, struct template *one, const char *why)
{
    struct err err;

    log_warn("template %.12s of '%s' is removed: %s", one->row.id, one->row.image_name, why);
    if (template_remove(t, one, &err) < 0) {
        log_error("template %.12s: %s", one->row.id, err.message);
    }
}

static void take(void *arg, const struct vm_row *row, struct cancel *cancel, struct vm_fork *ret,
                 char why[STORE_WHY_SIZE])
{
    struct templates *t = arg;
    _cleanup_json_ json_t *ingredients = NULL;
    struct template *one;
    char id[ID_SIZE];
    struct err err;

    *ret = VM_FORK_NONE;
    if (vms_ingredients(t->params.vms, row, cancel, &ingredients, &err) < 0) {
        (void)snprintf(why, STORE_WHY_SIZE, "%.150s", err.message);
        return;
    }
    template_id_of(ingredients, id);
    one = template_get(t, id);
    if (!one) {
        (void)snprintf(why, STORE_WHY_SIZE, "no template of this image, kernel, machine and host");
        return;
    }
    if (!same_rate(one->row.tsc_khz, t->params.tsc_khz)) {
        (void)snprintf(why, STORE_WHY_SIZE,
                       "template %.12s is of a host with another TSC rate (%u kHz, now %u)", id,
                       one->row.tsc_khz, t->params.tsc_khz);
        discard(t, one, why);
        template_drain(t);
    } else if (template_open_fork(t, one, cancel, ret, &err) == 0) {
        if (vms_pool_fits(t->params.vms, row)) {
            (void)template_take_member(t, one, ret->member);
        }
        (void)snprintf(why, STORE_WHY_SIZE, "template %.12s", id);
        note_used(t, one);
        template_pool_look(t);
    } else {
        (void)snprintf(why, STORE_WHY_SIZE, "template %.12s: %.120s", id, err.message);
        /* Whatever else failed is no fault of the template's. */
        if (err.code == ERR_IO) {
            discard(t, one, err.message);
            template_drain(t);
        } else {
            log_warn("template %.12s cannot be used: %s", id, err.message);
        }
    }
    template_put(t, one);
}

/* Who says so has the VM's token: its pool is for the thread of the pools. */
static void broken(void *arg, const char *id, const struct err *why)
{
    struct templates *t = arg;
    struct template *one = template_get(t, id);

    if (one) {
        discard(t, one, why->message);
        template_put(t, one);
        template_pool_look(t);
    }
}

struct vm_templates templates_for_vms(struct templates *t)
{
    return (struct vm_templates){
        .take = take, .wanted = template_wanted, .broken = broken, .arg = t};
}

struct op_registry *templates_ops(struct templates *t)
{
    return t->ops;
}

/* ---- looking, deleting ---- */

static void put_time(json_t *o, const char *key, int64_t ms)
{
    char time[CLOCK_RFC3339_SIZE];

    clock_format_rfc3339(ms, time);
    json_put_str(o, key, time[0] ? time : NULL);
}

json_t *template_json(struct templates *t, struct template *one)
{
    _cleanup_json_ json_t *ingredients = NULL;
    json_t *o = json_object(), *image = json_object();
    struct err ignored; /* our own text */
    int64_t used_ms;
    uint64_t uses;
    unsigned ready, pool_size;
    bool is_loaded;

    leaf_lock(&t->table);
    ready = one->member_count;
    pool_size = template_pool_size_locked(t, one);
    used_ms = one->row.used_ms;
    uses = one->row.uses;
    is_loaded = one->is_loaded;
    leaf_unlock(&t->table);
    (void)json_parse(one->row.ingredients, strlen(one->row.ingredients), &ingredients, &ignored);
    json_put_str(o, "id", one->row.id);
    json_put_str(image, "name", one->row.image_name);
    json_put_str(image, "digest", one->row.image_digest);
    json_put(o, "image", image);
    json_put_str(o, "kernel", one->row.kernel_digest);
    json_put_str(o, "vmm", json_str(ingredients, "vmm", ""));
    json_put_int(o, "vcpus", json_int(ingredients, "vcpus", 0));
    json_put_int(o, "memory_mib", json_int(ingredients, "memory_mib", 0));
    json_put_int(o, "disk_bytes", json_int(ingredients, "disk_bytes", 0));
    json_put_str(o, "init", json_str(ingredients, "init", ""));
    json_put_int(o, "tsc_khz", one->row.tsc_khz);
    json_put_int(o, "size_bytes", (long long)one->row.size_bytes);
    json_put(o, "loaded", json_boolean(is_loaded));
    json_put_int(o, "pool_size", pool_size);
    json_put_int(o, "ready", ready);
    json_put_int(o, "uses", (long long)uses);
    put_time(o, "created_at", one->row.created_ms);
    put_time(o, "used_at", used_ms);
    return o;
}

int templates_list(struct templates *t, json_t **ret, struct err *err)
{
    size_t count;
    struct template **all = get_all(t, &count);

    (void)err;
    *ret = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(*ret, template_json(t, all[i]));
    }
    put_all(t, all, count);
    return 0;
}

int templates_show(struct templates *t, const char *ref, json_t **ret, struct err *err)
{
    struct template *one = resolve(t, ref, err);

    if (!one) {
        return -1;
    }
    *ret = template_json(t, one);
    template_put(t, one);
    return 0;
}

int templates_delete(struct templates *t, const char *ref, struct err *err)
{
    struct template *one = resolve(t, ref, err);
    int r = one ? template_remove(t, one, err) : -1;

    template_put(t, one);
    template_drain(t);
    return r;
}

int templates_set_pool(struct templates *t, const char *ref, int size, json_t **ret,
                       struct err *err)
{
    struct template *one = resolve(t, ref, err);
    int r;

    if (!one) {
        return -1;
    }
    r = store_template_pool(t->params.store, one->row.id, size, err);
    if (r == 0) {
        leaf_lock(&t->table);
        one->row.pool_size = size;
        leaf_unlock(&t->table);
        template_pool_look(t);
        *ret = template_json(t, one);
    }
    template_put(t, one);
    return r;
}

/* What is on the disk, whatever is loaded. -1: it could not be found out. */
static int verify(struct templates *t, struct template *one, struct cancel *cancel, json_t *list,
                  struct err *err)
{
    struct template_loaded l = {.memory_fd = -1};
    int r = template_load(t, &one->row, cancel, &l, err);
    json_t *o;

    template_loaded_done(&l);
    if (r < 0 && err->code != ERR_IO) {
        return -1;
    }
    o = json_object();
    json_put_str(o, "id", one->row.id);
    json_put_str(o, "image", one->row.image_name);
    json_put_str(o, "problem", r < 0 ? err->message : NULL);
    json_array_append_new(list, o);
    if (r < 0) {
        discard(t, one, err->message);
    }
    return 0;
}

int templates_verify(struct templates *t, const char *ref, struct cancel *cancel, json_t **ret,
                     struct err *err)
{
    struct template *one = ref ? resolve(t, ref, err) : NULL, **all = NULL;
    size_t count = 0;
    json_t *list;
    int r = 0;

    if (ref && !one) {
        return -1;
    }
    list = json_array();
    if (one) {
        r = verify(t, one, cancel, list, err);
        template_put(t, one);
    } else {
        all = get_all(t, &count);
        for (size_t i = 0; i < count && r == 0; i++) {
            r = verify(t, all[i], cancel, list, err);
        }
        put_all(t, all, count);
    }
    template_drain(t);
    if (r < 0) {
        json_decref(list);
        return -1;
    }
    *ret = list;
    return 0;
}

/* ---- pruning ---- */

/* As it was when the pruning began. */
struct candidate {
    struct template *one;
    int64_t used_ms;
};

static int by_use(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    return x->used_ms < y->used_ms ? -1 : x->used_ms > y->used_ms;
}

/* The least recently used first. The caller frees the list. */
static struct candidate *sort_by_use(struct templates *t, struct template **all, size_t count)
{
    struct candidate *list = x_calloc(count + 1, sizeof(*list));

    leaf_lock(&t->table);
    for (size_t i = 0; i < count; i++) {
        list[i] = (struct candidate){.one = all[i], .used_ms = all[i]->row.used_ms};
    }
    leaf_unlock(&t->table);
    qsort(list, count, sizeof(*list), by_use);
    return list;
}

int templates_prune(struct templates *t, const struct templates_prune *what, json_t **ret,
                    struct err *err)
{
    int64_t before_ms = t->clock->real_ms() - what->unused_for_ms;
    uint64_t kept = 0;
    size_t count;
    struct template **all = get_all(t, &count);
    _cleanup_free_ struct candidate *list = sort_by_use(t, all, count);
    json_t *pruned = json_array();
    int r = 0;

    for (size_t i = 0; i < count; i++) {
        kept += all[i]->row.size_bytes;
    }
    for (size_t i = 0; i < count && r == 0; i++) {
        struct template *one = list[i].one;

        if (list[i].used_ms > before_ms && kept <= what->keep_bytes) {
            continue;
        }
        kept -= one->row.size_bytes;
        json_array_append_new(pruned, template_json(t, one));
        if (!what->dry_run) {
            r = template_remove(t, one, err);
        }
    }
    put_all(t, all, count);
    template_drain(t);
    if (r < 0) {
        json_decref(pruned);
        return -1;
    }
    *ret = pruned;
    return 0;
}

/* ---- opening ---- */

static int read_rows(struct templates *t, struct err *err)
{
    struct template_row *rows;
    size_t count;

    if (store_template_list(t->params.store, &rows, &count, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        struct stat st;
        struct err left;

        if (fstatat(t->dir_fd, rows[i].id, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            template_add(t, &rows[i], NULL);
        } else {
            log_warn("template %.12s: its files are gone", rows[i].id);
            if (store_template_delete(t->params.store, rows[i].id, &left) < 0) {
                log_error("template %.12s: %s", rows[i].id, left.message);
            }
        }
        template_row_done(&rows[i]);
    }
    free(rows);
    return 0;
}

/* What is without a row was not finished, or not deleted completely. */
static void sweep(struct templates *t)
{
    int fd = openat(t->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!dir) {
        close_p(&fd);
        return;
    }
    while ((e = readdir(dir))) {
        struct template *one;
        int r;

        if (e->d_name[0] == '.') {
            continue;
        }
        one = template_get(t, e->d_name);
        if (one) {
            template_put(t, one);
            continue;
        }
        r = fs_remove_tree(t->dir_fd, e->d_name);
        log_info("templates/%s, which no template has, is removed%s%s", e->d_name,
                 r < 0 ? ": " : "", r < 0 ? strerror(-r) : "");
    }
    (void)closedir(dir);
}

int templates_new(const struct templates_params *params, struct templates **ret, struct err *err)
{
    struct templates *t = x_calloc(1, sizeof(*t));

    t->params = *params;
    t->clock = params->clock ? params->clock : &clock_system;
    list_init(&t->list);
    list_init(&t->failures);
    list_init(&t->orphans);
    lock_init(&t->table);
    t->loading = boot_slots_new(1);
    t->making = boot_slots_new(1);
    t->ops = op_registry_new("template.create", MAKING_MAX);
    t->pool_stop = cancel_new();
    t->pool_wake = -1;
    t->dir_fd = fs_open_dir(params->state_fd, DIRECTORY, true);
    if (t->dir_fd < 0) {
        err_set_errno(err, ERR_IO, t->dir_fd, "cannot make the directory of templates");
    } else if (read_rows(t, err) == 0) {
        sweep(t);
        *ret = t;
        return 0;
    }
    templates_stop(t);
    templates_free(t);
    return -1;
}

void templates_stop(struct templates *t)
{
    if (t) {
        op_registry_free(STEAL_PTR(t->ops));
        template_pools_end(t);
    }
}

static void free_failures(struct list *list)
{
    while (!list_is_empty(list)) {
        struct failure *f = LIST_ENTRY(list->next, struct failure, node);

        list_remove(&f->node);
        free(f);
    }
}

void templates_free(struct templates *t)
{
    if (!t) {
        return;
    }
    while (!list_is_empty(&t->list)) {
        struct template *one = LIST_ENTRY(t->list.next, struct template, node);

        (void)take_out(t, one);
        template_put(t, one);
    }
    free_failures(&t->failures);
    boot_slots_free(t->loading);
    boot_slots_free(t->making);
    close_p(&t->dir_fd);
    close_p(&t->pool_wake);
    cancel_put(t->pool_stop);
    lock_done(&t->table);
    free(t);
}
