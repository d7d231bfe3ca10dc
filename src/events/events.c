#include "events/events.h"

#include "base/list.h"
#include "base/str.h"

struct events {
    struct lock lock;    /* rank leaf */
    uint64_t last;       /* number of the last event */
    struct list waiters; /* struct waiter */
};

struct waiter {
    struct list node;
    struct latch told;
};

struct events *events_new(uint64_t last_number)
{
    struct events *ev = x_calloc(1, sizeof(*ev));

    lock_init(&ev->lock);
    ev->last = last_number;
    list_init(&ev->waiters);
    return ev;
}

void events_free(struct events *ev)
{
    if (ev) {
        lock_done(&ev->lock);
        free(ev);
    }
}

void events_note(void *arg, uint64_t number)
{
    struct events *ev = arg;

    leaf_lock(&ev->lock);
    if (number > ev->last) {
        ev->last = number;
        list_for_each (it, &ev->waiters) {
            list_remove(it);
            latch_set(&LIST_ENTRY(it, struct waiter, node)->told);
        }
    }
    leaf_unlock(&ev->lock);
}

int events_wait(struct events *ev, uint64_t seen, struct cancel *cancel, struct err *err)
{
    struct waiter w = {0};
    bool there;
    int r = 0;

    latch_init(&w.told);
    leaf_lock(&ev->lock);
    there = ev->last > seen;
    if (!there) {
        list_append(&ev->waiters, &w.node);
    }
    leaf_unlock(&ev->lock);
    if (!there) {
        r = latch_wait(&w.told, cancel, -1);
        leaf_lock(&ev->lock);
        list_remove(&w.node);
        leaf_unlock(&ev->lock);
    }
    latch_done(&w.told);
    return r < 0 ? err_set_errno(err, ERR_INTERNAL, r, "wait for an event") : 0;
}
