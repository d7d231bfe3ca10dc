/* Lock hierarchy: boot_slots->lock is a leaf. */
#include "vm/boot_slots.h"

#include "base/list.h"
#include "base/str.h"

struct waiter {
    struct list node; /* unlinked once granted */
    struct latch granted;
};

struct boot_slots {
    struct lock lock;
    unsigned free;
    struct list waiters;
};

struct boot_slots *boot_slots_new(unsigned count)
{
    struct boot_slots *s = x_calloc(1, sizeof(*s));

    s->free = count;
    lock_init(&s->lock);
    list_init(&s->waiters);
    return s;
}

void boot_slots_free(struct boot_slots *s)
{
    if (s) {
        lock_done(&s->lock);
        free(s);
    }
}

int boot_slots_acquire(struct boot_slots *s, struct cancel *cancel, int64_t deadline_ms)
{
    struct waiter w = {0};
    bool granted;
    int r;

    leaf_lock(&s->lock);
    granted = s->free > 0;
    if (granted) {
        s->free--;
    } else {
        latch_init(&w.granted);
        list_append(&s->waiters, &w.node);
    }
    leaf_unlock(&s->lock);
    if (granted) {
        return 0;
    }
    r = latch_wait(&w.granted, cancel, deadline_ms);
    leaf_lock(&s->lock);
    granted = !list_is_linked(&w.node); /* it may have come while we gave up */
    list_remove(&w.node);
    leaf_unlock(&s->lock);
    latch_done(&w.granted);
    if (r < 0 && granted) {
        boot_slots_release(s);
    }
    return r;
}

void boot_slots_release(struct boot_slots *s)
{
    leaf_lock(&s->lock);
    if (list_is_empty(&s->waiters)) {
        s->free++;
    } else {
        struct waiter *w = LIST_ENTRY(s->waiters.next, struct waiter, node);

        list_remove(&w->node);
        latch_set(&w->granted);
    }
    leaf_unlock(&s->lock);
}
