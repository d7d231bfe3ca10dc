/* Lock hierarchy: registry->lock is a leaf; nothing is waited for or called under it. */
#include "ops/op.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/spare.h"
#include "base/str.h"
#include "codec/rpc.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#define STAGES_MAX 16
#define SPARE_THREADS 1
/* Ended operations that are kept for those who ask late; and for those who began so many at once
 * that none of their ends was asked for yet. */
#define ENDED_MAX 100
#define UNTOLD_MAX 1024

enum op_state { OP_RUNNING, OP_DONE, OP_FAILED, OP_CANCELLED };

struct stage {
    char name[32];
    int64_t ms;
    uint64_t bytes, total;
};

struct op {
    /* immutable */
    struct op_registry *registry;
    char id[ID_SIZE];
    struct cancel *cancel;
    op_fn fn;
    void *arg;

    /* registry lock */
    struct list node;
    int refs; /* the registry, the thread, watches */
    char target[160];
    enum op_state state;
    bool told; /* its end, to somebody */
    struct stage stages[STAGES_MAX];
    unsigned stage_count;
    int64_t stage_start_ms;
    char note[256];
    json_t *error, *result;
    struct list watches;
};

struct op_watch {
    struct op *op;
    struct list node; /* in op->watches, registry lock */
    int fd;           /* eventfd: something changed */
    bool progress;    /* or else only its end counts */
};

struct op_registry {
    /* immutable */
    char kind[32];
    unsigned running_max;
    struct spare *threads;

    /* under lock */
    struct lock lock;
    struct list ops; /* oldest first */
    unsigned running, ended;
    bool closing;
    struct latch idle; /* set once closing and nothing runs */
};

static const char *const state_names[] = {"running", "done", "failed", "cancelled"};

struct op_registry *op_registry_new(const char *kind, unsigned running_max)
{
    struct op_registry *r = x_calloc(1, sizeof(*r));

    (void)snprintf(r->kind, sizeof(r->kind), "%s", kind);
    r->running_max = running_max;
    r->threads = spare_new("op", 256, SPARE_THREADS);
    lock_init(&r->lock);
    list_init(&r->ops);
    latch_init(&r->idle);
    return r;
}

static void put_locked(struct op *op)
{
    if (--op->refs > 0) {
        return;
    }
    cancel_put(op->cancel);
    json_decref(op->error);
    json_decref(op->result);
    free(op);
}

void op_registry_free(struct op_registry *r)
{
    bool idle;

    if (!r) {
        return;
    }
    leaf_lock(&r->lock);
    r->closing = true;
    idle = r->running == 0;
    list_for_each (it, &r->ops) {
        struct op *op = LIST_ENTRY(it, struct op, node);

        if (op->state == OP_RUNNING) {
            cancel_trigger(op->cancel);
        }
    }
    leaf_unlock(&r->lock);
    if (!idle) {
        (void)latch_wait(&r->idle, NULL, -1);
    }
    spare_free(r->threads);
    leaf_lock(&r->lock);
    list_for_each (it, &r->ops) {
        struct op *op = LIST_ENTRY(it, struct op, node);

        list_remove(&op->node);
        put_locked(op);
    }
    leaf_unlock(&r->lock);
    latch_done(&r->idle);
    lock_done(&r->lock);
    free(r);
}

static void changed_locked(struct op *op)
{
    list_for_each (it, &op->watches) {
        struct op_watch *w = LIST_ENTRY(it, struct op_watch, node);

        if (w->progress || op->state != OP_RUNNING) {
            (void)eventfd_write(w->fd, 1);
        }
    }
}

static void end_stage_locked(struct op *op)
{
    int64_t now = clock_mono_ms();

    if (op->stage_count > 0) {
        op->stages[op->stage_count - 1].ms = now - op->stage_start_ms;
    }
    op->stage_start_ms = now;
}

static void prune_locked(struct op_registry *r)
{
    list_for_each (it, &r->ops) {
        struct op *op = LIST_ENTRY(it, struct op, node);

        if (r->ended <= ENDED_MAX) {
            return;
        }
        if (op->state != OP_RUNNING && (op->told || r->ended > UNTOLD_MAX)) {
            list_remove(&op->node);
            r->ended--;
            put_locked(op);
        }
    }
}

static void op_main(void *arg)
{
    struct op *op = arg;
    struct op_registry *r = op->registry;
    struct err err = {0};
    json_t *result = NULL;
    int failed = op->fn(op, op->arg, &result, &err);
    bool last;

    leaf_lock(&r->lock);
    end_stage_locked(op);
    if (failed < 0) {
        op->state = err.code == ERR_CANCELLED ? OP_CANCELLED : OP_FAILED;
        op->error = rpc_error_object(&err, op->id, op->target);
    } else {
        op->state = OP_DONE;
        op->result = result;
    }
    changed_locked(op);
    r->running--;
    r->ended++;
    prune_locked(r);
    put_locked(op);
    last = r->closing && r->running == 0;
    /* Set under the lock: op_registry_free frees the registry as soon as it has the lock again. */
    if (last) {
        latch_set(&r->idle);
    }
    leaf_unlock(&r->lock);
}

int op_begin(struct op_registry *r, const char *target, op_fn fn, void *arg, char ret_id[ID_SIZE],
             struct err *err)
{
    struct op *op = x_calloc(1, sizeof(*op));
    int started = -EAGAIN;
    bool full;

    op->registry = r;
    id_generate(op->id);
    op->cancel = cancel_new();
    op->fn = fn;
    op->arg = arg;
    op->refs = 2;
    op->stage_start_ms = clock_mono_ms();
    (void)snprintf(op->target, sizeof(op->target), "%s", target);
    list_init(&op->watches);
    memcpy(ret_id, op->id, ID_SIZE);
    leaf_lock(&r->lock);
    full = r->closing || r->running >= r->running_max;
    if (!full) {
        r->running++;
        list_append(&r->ops, &op->node);
        started = spare_run(r->threads, op_main, op);
        if (started < 0) {
            r->running--;
            list_remove(&op->node);
        }
    }
    if (started < 0) {
        op->refs = 1;
        put_locked(op);
    }
    leaf_unlock(&r->lock);
    if (full) {
        err_set(err, ERR_LIMIT, "%u operations of kind '%s' run already", r->running_max, r->kind);
        return err_hint(err, "wait for some to end: banger op list");
    }
    return started < 0 ? err_set_errno(err, ERR_LIMIT, started, "cannot start an operation") : 0;
}

static json_t *op_json_locked(const struct op *op)
{
    json_t *o = json_object(), *stages = json_array();

    json_put_str(o, "id", op->id);
    json_put_str(o, "kind", op->registry->kind);
    json_put_str(o, "target", op->target);
    json_put_str(o, "state", state_names[op->state]);
    json_put_str(o, "stage", op->stage_count ? op->stages[op->stage_count - 1].name : NULL);
    for (unsigned i = 0; i < op->stage_count; i++) {
        const struct stage *s = &op->stages[i];
        bool current = i + 1 == op->stage_count && op->state == OP_RUNNING;
        json_t *stage = json_object();

        json_put_str(stage, "name", s->name);
        json_put_int(stage, "ms", current ? clock_mono_ms() - op->stage_start_ms : s->ms);
        json_put_int(stage, "bytes", (long long)s->bytes);
        json_put_int(stage, "total", (long long)s->total);
        json_array_append_new(stages, stage);
    }
    json_put(o, "stages", stages);
    json_put_str(o, "message", op->note[0] ? op->note : NULL);
    json_put(o, "error", op->error ? json_deep_copy(op->error) : json_null());
    json_put(o, "result", op->result ? json_deep_copy(op->result) : json_null());
    return o;
}

static struct op *find_locked(struct op_registry *r, const char *id)
{
    struct op *found = NULL;

    list_for_each (it, &r->ops) {
        struct op *op = LIST_ENTRY(it, struct op, node);

        if (id_is_prefix(id) && str_starts_with(op->id, id)) {
            if (found) {
                return NULL;
            }
            found = op;
        }
    }
    return found;
}

int op_not_found(const char *id, struct err *err)
{
    _cleanup_free_ char *safe = str_escape(id, strlen(id), 64);

    err_set(err, ERR_NOT_FOUND, "no operation '%s'", safe);
    return err_hint(err, "see what there is with: banger op list");
}

bool op_is_known(struct op_registry *r, const char *id)
{
    bool known;

    leaf_lock(&r->lock);
    known = find_locked(r, id) != NULL;
    leaf_unlock(&r->lock);
    return known;
}

int op_show(struct op_registry *r, const char *id, json_t **ret, struct err *err)
{
    json_t *json = NULL;
    struct op *op;

    leaf_lock(&r->lock);
    op = find_locked(r, id);
    if (op) {
        json = op_json_locked(op);
        op->told |= op->state != OP_RUNNING;
    }
    leaf_unlock(&r->lock);
    if (!json) {
        return op_not_found(id, err);
    }
    *ret = json;
    return 0;
}

void op_list(struct op_registry *r, json_t *list)
{
    leaf_lock(&r->lock);
    list_for_each (it, &r->ops) {
        json_array_append_new(list, op_json_locked(LIST_ENTRY(it, struct op, node)));
    }
    leaf_unlock(&r->lock);
}

int op_request_cancel(struct op_registry *r, const char *id, struct err *err)
{
    struct op *op;

    leaf_lock(&r->lock);
    op = find_locked(r, id);
    if (op && op->state == OP_RUNNING) {
        cancel_trigger(op->cancel);
    }
    leaf_unlock(&r->lock);
    return op ? 0 : op_not_found(id, err);
}

int op_watch_begin(struct op_registry *r, const char *id, bool progress,
                   struct op_watch **ret_watch, struct err *err)
{
    struct op_watch *w = x_calloc(1, sizeof(*w));
    struct op *op;

    w->progress = progress;
    w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->fd < 0) {
        free(w);
        return err_set_errno(err, ERR_LIMIT, errno, "cannot watch an operation");
    }
    leaf_lock(&r->lock);
    op = find_locked(r, id);
    if (op) {
        op->refs++;
        w->op = op;
        list_append(&op->watches, &w->node);
        if (progress || op->state != OP_RUNNING) {
            (void)eventfd_write(w->fd, 1); /* the first look is a change */
        }
    }
    leaf_unlock(&r->lock);
    if (!op) {
        close_p(&w->fd);
        free(w);
        return op_not_found(id, err);
    }
    *ret_watch = w;
    return 0;
}

int op_watch_next(struct op_watch *w, struct cancel *cancel, json_t **ret_op, bool *ret_ended,
                  struct err *err)
{
    struct op_registry *r = w->op->registry;
    int waited = cancel_wait_fd(cancel, w->fd, POLLIN, -1);
    eventfd_t value;

    if (waited < 0) {
        return err_set_errno(err, ERR_INTERNAL, waited, "watch of an operation");
    }
    (void)eventfd_read(w->fd, &value);
    leaf_lock(&r->lock);
    *ret_op = op_json_locked(w->op);
    *ret_ended = w->op->state != OP_RUNNING;
    w->op->told |= *ret_ended;
    leaf_unlock(&r->lock);
    return 0;
}

void op_watch_end(struct op_watch *w)
{
    struct op_registry *r = w->op->registry;

    leaf_lock(&r->lock);
    list_remove(&w->node);
    put_locked(w->op);
    leaf_unlock(&r->lock);
    close_p(&w->fd);
    free(w);
}

struct cancel *op_cancel(struct op *op)
{
    return op->cancel;
}

const char *op_id(const struct op *op)
{
    return op->id;
}

void op_set_target(struct op *op, const char *target)
{
    leaf_lock(&op->registry->lock);
    (void)snprintf(op->target, sizeof(op->target), "%s", target);
    changed_locked(op);
    leaf_unlock(&op->registry->lock);
}

void op_stage(struct op *op, const char *name)
{
    leaf_lock(&op->registry->lock);
    end_stage_locked(op);
    if (op->stage_count < STAGES_MAX) {
        struct stage *s = &op->stages[op->stage_count++];

        (void)snprintf(s->name, sizeof(s->name), "%s", name);
    }
    changed_locked(op);
    leaf_unlock(&op->registry->lock);
}

void op_progress(struct op *op, uint64_t bytes, uint64_t total)
{
    leaf_lock(&op->registry->lock);
    if (op->stage_count > 0) {
        op->stages[op->stage_count - 1].bytes = bytes;
        op->stages[op->stage_count - 1].total = total;
        changed_locked(op);
    }
    leaf_unlock(&op->registry->lock);
}

void op_note(struct op *op, const char *fmt, ...)
{
    va_list ap;

    leaf_lock(&op->registry->lock);
    va_start(ap, fmt);
    (void)vsnprintf(op->note, sizeof(op->note), fmt, ap);
    va_end(ap);
    changed_locked(op);
    leaf_unlock(&op->registry->lock);
}
