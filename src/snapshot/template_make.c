/* Making templates: an operation boots a machine that nobody sees, saves it, and publishes that. */
#include "snapshot/template_priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"
#include "codec/api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* What failed is tried again by itself after so long. */
#define RETRY_MS (600 * 1000)
/* What a guest has in memory that has just booted, and has written to its disk; and of its memory
 * the part in which its kernel keeps book of the whole (a 64th). */
#define GUEST_BYTES (256ull << 20)
#define BOOK_PART 64

struct make {
    struct templates *t;
    struct vm_row like;
    json_t *params; /* of whom wants it; NULL: like is a VM's row */
};

static void make_free(struct make *m)
{
    vm_row_done(&m->like);
    json_decref(m->params);
    free(m);
}

/* ---- what failed ---- */

static struct failure *find_locked(struct templates *t, const char *id)
{
    list_for_each (it, &t->failures) {
        struct failure *f = LIST_ENTRY(it, struct failure, node);

        if (str_eq(f->id, id)) {
            return f;
        }
    }
    return NULL;
}

static void note_failure(struct templates *t, const char *id)
{
    struct failure *f;

    leaf_lock(&t->table);
    f = find_locked(t, id);
    if (!f) {
        f = x_calloc(1, sizeof(*f));
        memcpy(f->id, id, ID_SIZE);
        list_append(&t->failures, &f->node);
    }
    f->at_ms = clock_mono_ms();
    leaf_unlock(&t->table);
}

static void forget_failure(struct templates *t, const char *id)
{
    struct failure *f;

    leaf_lock(&t->table);
    f = find_locked(t, id);
    if (f) {
        list_remove(&f->node);
    }
    leaf_unlock(&t->table);
    free(f);
}

static bool failed_lately(struct templates *t, const char *id)
{
    const struct failure *f;
    bool lately;

    leaf_lock(&t->table);
    f = find_locked(t, id);
    lately = f && clock_mono_ms() - f->at_ms < RETRY_MS;
    leaf_unlock(&t->table);
    return lately;
}

/* ---- making ---- */

static int open_file(int dir_fd, const char *name, struct err *err)
{
    int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    return fd < 0 ? err_set_errno(err, ERR_IO, errno, "cannot make the template's %s", name) : fd;
}

static int make_dir(struct templates *t, const char *id, struct err *err)
{
    char temp[ID_SIZE + sizeof(TEMPLATE_TEMP)];
    int r;

    (void)snprintf(temp, sizeof(temp), TEMPLATE_TEMP "%s", id);
    r = fs_remove_tree(t->dir_fd, temp);
    r = r < 0 ? r : fs_open_dir(t->dir_fd, temp, true);
    return r < 0 ? err_set_errno(err, ERR_IO, r, "cannot make the template's directory") : r;
}

static void remove_dir(struct templates *t, const char *id)
{
    char temp[ID_SIZE + sizeof(TEMPLATE_TEMP)];
    int r;

    (void)snprintf(temp, sizeof(temp), TEMPLATE_TEMP "%s", id);
    r = fs_remove_tree(t->dir_fd, temp);
    if (r < 0) {
        log_error("templates/%s: %s", temp, strerror(-r));
    }
}

static int save(struct make *m, struct op *op, int dir_fd, struct template_row *row,
                struct err *err)
{
    struct vm_saved saved = {.memory_fd = -1, .devices_fd = -1, .disk_fd = -1};
    struct template_loaded loaded = {.memory_fd = -1};
    struct templates *t = m->t;
    int r = -1;

    saved.devices_fd = open_file(dir_fd, TEMPLATE_DEVICES, err);
    saved.disk_fd = saved.devices_fd < 0 ? -1 : open_file(dir_fd, TEMPLATE_DISK, err);
    if (saved.disk_fd >= 0 && vms_save_new(t->params.vms, &m->like, op, &saved, err) == 0) {
        op_stage(op, "publish");
        row->created_ms = row->used_ms = t->clock->real_ms();
        r = template_publish(t, dir_fd, STEAL_FD(saved.memory_fd), row, op_cancel(op), &loaded,
                             err);
    }
    close_p(&saved.memory_fd);
    close_p(&saved.devices_fd);
    close_p(&saved.disk_fd);
    if (r == 0) {
        r = store_template_put(t->params.store, row, err);
        CRASH_POINT("template.published");
        if (r == 0) {
            template_add(t, row, &loaded);
        } else {
            (void)fs_remove_tree(t->dir_fd, row->id);
        }
    }
    template_loaded_done(&loaded);
    return r;
}

/* The least recently used make room for it. */
static void keep_budget(struct templates *t)
{
    const struct templates_prune prune = {.unused_for_ms = INT64_MAX / 2,
                                          .keep_bytes = t->params.budget_bytes};
    json_t *list = NULL;
    struct err err;

    if (templates_prune(t, &prune, &list, &err) < 0) {
        log_error("templates: %s", err.message);
    }
    json_decref(list);
}

/* Else it would be the first to go, and be made again with the next VM. */
static int too_large(struct templates *t, const struct template_row *row, struct err *err)
{
    struct template *one = template_get(t, row->id);
    struct err left;

    if (one && template_remove(t, one, &left) < 0) {
        log_error("template %.12s: %s", row->id, left.message);
    }
    template_put(t, one);
    err_set(err, ERR_LIMIT, "a template of '%s' takes %llu MiB, and all may take %llu",
            row->image_name, (unsigned long long)row->size_bytes >> 20,
            (unsigned long long)t->params.budget_bytes >> 20);
    return err_hint(err, "set template_disk_mib in config.toml to more, or templates to off");
}

static int make_new(struct make *m, struct op *op, const json_t *ingredients, const char *id,
                    struct err *err)
{
    struct templates *t = m->t;
    _cleanup_space_claim_ struct space_claim *claim = NULL;
    _cleanup_(template_row_done) struct template_row row = {.tsc_khz = t->params.tsc_khz,
                                                            .pool_size = -1};
    _cleanup_free_ char *what = x_asprintf("a template of image '%s'", m->like.image_name);
    _cleanup_close_ int dir_fd = -1;
    int r;

    memcpy(row.id, id, ID_SIZE);
    memcpy(row.image_name, m->like.image_name, sizeof(row.image_name));
    memcpy(row.image_digest, m->like.image_digest, sizeof(row.image_digest));
    memcpy(row.kernel_digest, m->like.kernel_digest, sizeof(row.kernel_digest));
    row.ingredients = json_print(ingredients);
    if (space_claim(t->params.space, t->params.state_fd, what,
                    GUEST_BYTES + (m->like.memory_mib << 20) / BOOK_PART, &claim, err) < 0) {
        return -1;
    }
    dir_fd = make_dir(t, id, err);
    if (dir_fd < 0) {
        return -1;
    }
    CRASH_POINT("template.begun");
    r = save(m, op, dir_fd, &row, err);
    if (r == 0 && row.size_bytes > t->params.budget_bytes) {
        r = too_large(t, &row, err);
    }
    if (r < 0) {
        remove_dir(t, id);
    } else {
        log_info("template %.12s of '%s' is made: %llu MiB", id, row.image_name,
                 (unsigned long long)row.size_bytes >> 20);
        keep_budget(t);
    }
    return r;
}

/* One at a time, so that nobody makes what somebody else is about to have made. */
static int make_in_turn(struct make *m, struct op *op, const json_t *ingredients, const char *id,
                        struct err *err)
{
    struct templates *t = m->t;
    struct template *one;
    int r;

    op_stage(op, "queue");
    r = boot_slots_acquire(t->making, op_cancel(op), -1);
    if (r < 0) {
        return err_set_errno(err, ERR_CANCELLED, r, "waiting for others that are made");
    }
    one = template_get(t, id);
    template_put(t, one);
    r = one ? 0 : make_new(m, op, ingredients, id, err);
    boot_slots_release(t->making);
    if (r == 0) {
        forget_failure(t, id);
    } else if (err->code != ERR_CANCELLED) {
        note_failure(t, id);
    }
    return r;
}

static int run_make(struct make *m, struct op *op, json_t **ret_result, struct err *err)
{
    struct templates *t = m->t;
    _cleanup_json_ json_t *ingredients = NULL;
    struct template *one;
    char id[ID_SIZE];

    if ((m->params &&
         vms_resolve_create(t->params.vms, m->params, op_cancel(op), &m->like, err) < 0) ||
        vms_ingredients(t->params.vms, &m->like, op_cancel(op), &ingredients, err) < 0) {
        return -1;
    }
    template_id_of(ingredients, id);
    if (!m->params && failed_lately(t, id)) {
        return err_set(err, ERR_BUSY, "it failed some minutes ago, and is not tried again yet");
    }
    one = template_get(t, id);
    if (!one) {
        if (make_in_turn(m, op, ingredients, id, err) < 0) {
            return -1;
        }
        one = template_get(t, id);
    }
    /* It may have gone since. */
    *ret_result = one ? template_json(t, one) : NULL;
    template_put(t, one);
    return 0;
}

static int make(struct op *op, void *arg, json_t **ret_result, struct err *err)
{
    struct make *m = arg;
    int r = run_make(m, op, ret_result, err);

    if (r < 0 && !m->params && err->code != ERR_CANCELLED && err->code != ERR_BUSY &&
        err->code != ERR_UNSUPPORTED) {
        log_warn("no template of '%s' could be made: %s", m->like.image_name, err->message);
    }
    make_free(m);
    return r;
}

int templates_create_begin(struct templates *t, const json_t *params, char ret_op[ID_SIZE],
                           struct err *err)
{
    struct make *m = x_calloc(1, sizeof(*m));

    m->t = t;
    /* Of those params that a VM has more, what it is without them. */
    m->params = json_deep_copy(params);
    api_fill_defaults(api_method_find("vm.create.begin"), m->params);
    if (op_begin(t->ops, api_str(params, "image") ?: "", make, m, ret_op, err) < 0) {
        make_free(m);
        return -1;
    }
    return 0;
}

void template_wanted(void *arg, const struct vm_row *row)
{
    struct templates *t = arg;
    char op[ID_SIZE];
    struct make *m;
    struct err err;

    if (!t->params.automatic) {
        return;
    }
    m = x_calloc(1, sizeof(*m));
    m->t = t;
    vm_row_copy(&m->like, row);
    /* When others are being made, the next VM like this one asks again. */
    if (op_begin(t->ops, row->image_name, make, m, op, &err) < 0) {
        log_debug("no template of '%s' now: %s", row->image_name, err.message);
        make_free(m);
    }
}
