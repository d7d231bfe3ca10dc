/* Lock hierarchy: vm_locks->lock is a leaf; the tokens themselves are rank vm. */
#include "vm/vm_locks.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/list.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>

struct vm_token {
    struct list node; /* in its queue, under lock */
    struct queue *queue;
    const char *what;
    struct cancel *own;
    bool waits; /* it had somebody before it: there is a latch */
    struct latch granted;

    /* lock */
    bool holds;
    int64_t since_ms;
};

/* All tokens asked for of one VM: the first one is the holder. */
struct queue {
    struct list node;
    struct vm_locks *locks;
    char vm_id[ID_SIZE];
    struct list tokens;
};

struct vm_locks {
    struct lock lock;
    struct list queues; /* only those with tokens */
};

struct vm_locks *vm_locks_new(void)
{
    struct vm_locks *l = x_calloc(1, sizeof(*l));

    lock_init(&l->lock);
    list_init(&l->queues);
    return l;
}

void vm_locks_free(struct vm_locks *l)
{
    if (l) {
        lock_done(&l->lock);
        free(l);
    }
}

static struct queue *find_locked(struct vm_locks *l, const char *vm_id)
{
    list_for_each (it, &l->queues) {
        struct queue *q = LIST_ENTRY(it, struct queue, node);

        if (str_eq(q->vm_id, vm_id)) {
            return q;
        }
    }
    return NULL;
}

static struct queue *find_or_add_locked(struct vm_locks *l, const char *vm_id)
{
    struct queue *q = find_locked(l, vm_id);

    if (!q) {
        q = x_calloc(1, sizeof(*q));
        q->locks = l;
        (void)snprintf(q->vm_id, sizeof(q->vm_id), "%s", vm_id);
        list_init(&q->tokens);
        list_append(&l->queues, &q->node);
    }
    return q;
}

static struct vm_token *holder_locked(struct queue *q)
{
    return LIST_ENTRY(q->tokens.next, struct vm_token, node);
}

static void grant_locked(struct vm_token *t)
{
    t->holds = true;
    t->since_ms = clock_mono_ms();
}

/* Takes the token out of its queue and grants the next. */
static void leave(struct vm_token *t)
{
    struct queue *q = t->queue;
    struct vm_locks *l = q->locks;

    leaf_lock(&l->lock);
    list_remove(&t->node);
    if (list_is_empty(&q->tokens)) {
        list_remove(&q->node);
        free(q);
    } else {
        struct vm_token *next = holder_locked(q);

        if (!next->holds) {
            grant_locked(next);
            latch_set(&next->granted);
        }
    }
    leaf_unlock(&l->lock);
    if (t->waits) {
        latch_done(&t->granted);
    }
    cancel_put(t->own);
    free(t);
}

static int not_granted(struct vm_token *t, int r, struct err *err)
{
    struct vm_locks *l = t->queue->locks;
    const char *what;
    int64_t held_ms;

    if (r != -ETIMEDOUT) {
        return err_set_errno(err, ERR_CANCELLED, r, "waiting for the VM");
    }
    leaf_lock(&l->lock);
    what = holder_locked(t->queue)->what; /* a literal */
    held_ms = clock_mono_ms() - holder_locked(t->queue)->since_ms;
    leaf_unlock(&l->lock);
    err_set(err, ERR_BUSY, "the VM is busy: '%s' has been running for %lld s", what,
            (long long)held_ms / 1000);
    return err_hint(err, "wait, or cancel it: banger op list");
}

/* Into the queue. True when nobody is before it: then there is no latch, which is a descriptor. */
static bool enter(struct vm_locks *l, const char *vm_id, struct vm_token *t)
{
    bool holds;

    leaf_lock(&l->lock);
    t->queue = find_or_add_locked(l, vm_id);
    list_append(&t->queue->tokens, &t->node);
    if (holder_locked(t->queue) == t) {
        grant_locked(t);
    } else {
        t->waits = true;
        latch_init(&t->granted);
    }
    holds = t->holds;
    leaf_unlock(&l->lock);
    return holds;
}

int vm_locks_acquire(struct vm_locks *l, const char *vm_id, const char *what, struct cancel *own,
                     int64_t deadline_ms, struct vm_token **ret_token,
                     struct err *err) NO_TS_ANALYSIS
{
    struct vm_token *t = x_calloc(1, sizeof(*t));
    int r = 0;

    t->what = what;
    t->own = cancel_get(own);
    if (!enter(l, vm_id, t)) {
        r = latch_wait(&t->granted, own, deadline_ms);
    } else if (cancel_requested(own)) {
        r = -ECANCELED;
    }
    if (r == -ETIMEDOUT && latch_is_set(&t->granted)) {
        r = 0; /* granted as the deadline passed */
    }
    if (r < 0) {
        (void)not_granted(t, r, err);
        leave(t);
        return -1;
    }
    rank_push(&rank_vm);
    *ret_token = t;
    return 0;
}

void vm_locks_release(struct vm_token *token) NO_TS_ANALYSIS
{
    rank_pop(&rank_vm);
    leave(token);
}

void vm_locks_cancel_holder(struct vm_locks *l, const char *vm_id)
{
    struct queue *q;

    leaf_lock(&l->lock);
    q = find_locked(l, vm_id);
    if (q && holder_locked(q)->own) {
        cancel_trigger(holder_locked(q)->own);
    }
    leaf_unlock(&l->lock);
}
