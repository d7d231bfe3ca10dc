/* Boot slots: how many at once, in which order, giving up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "scratch.h"
/* Its source, not its header: that a thread has joined the queue can be seen nowhere else. */
#include "vm/boot_slots.c"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>

#define THREADS 8
#define ROUNDS 50
#define SLOTS 3

struct asker {
    struct boot_slots *slots;
    struct cancel *cancel;
    pthread_t thread;
    struct latch granted;
    int result;
};

static void *wait_for_slot(void *arg)
{
    struct asker *w = arg;

    w->result = boot_slots_acquire(w->slots, w->cancel, test_deadline());
    latch_set(&w->granted);
    return NULL;
}

static void asker_begin(struct asker *w)
{
    latch_init(&w->granted);
    assert_int_equal(thread_start(&w->thread, "waiter", 256, wait_for_slot, w), 0);
}

static void asker_end(struct asker *w)
{
    pthread_join(w->thread, NULL);
    latch_done(&w->granted);
}

/* Returns when so many wait. */
static void await_queued(struct boot_slots *s, unsigned want)
{
    int64_t deadline = test_deadline();
    unsigned count;

    do {
        assert_true(clock_mono_ms() < deadline);
        sched_yield();
        count = 0;
        leaf_lock(&s->lock);
        list_for_each (it, &s->waiters) {
            count++;
        }
        leaf_unlock(&s->lock);
    } while (count != want);
}

static void slots_go_to_whoever_came_first(void **state)
{
    struct boot_slots *s = boot_slots_new(1);
    struct asker a[3];

    (void)state;
    assert_int_equal(boot_slots_acquire(s, NULL, -1), 0);
    for (int i = 0; i < 3; i++) {
        a[i] = (struct asker){.slots = s};
        asker_begin(&a[i]);
        await_queued(s, (unsigned)i + 1);
    }
    for (int i = 0; i < 3; i++) {
        boot_slots_release(s);
        assert_int_equal(latch_wait(&a[i].granted, NULL, test_deadline()), 0);
        for (int later = i + 1; later < 3; later++) {
            assert_false(latch_is_set(&a[later].granted));
        }
        asker_end(&a[i]);
        assert_int_equal(a[i].result, 0);
    }
    boot_slots_release(s);
    boot_slots_free(s);
}

static void no_more_than_the_count_are_given(void **state)
{
    struct boot_slots *s = boot_slots_new(2);
    struct asker w = {.slots = s};

    (void)state;
    assert_int_equal(boot_slots_acquire(s, NULL, clock_mono_ms()), 0);
    assert_int_equal(boot_slots_acquire(s, NULL, clock_mono_ms()), 0);
    assert_int_equal(boot_slots_acquire(s, NULL, clock_mono_ms()), -ETIMEDOUT);
    asker_begin(&w);
    boot_slots_release(s);
    assert_int_equal(latch_wait(&w.granted, NULL, test_deadline()), 0);
    asker_end(&w);
    assert_int_equal(w.result, 0);
    boot_slots_release(s);
    boot_slots_release(s);
    boot_slots_free(s);
    boot_slots_free(NULL);
}

static void who_gives_up_leaves_the_slot_to_the_next(void **state)
{
    _cleanup_cancel_ struct cancel *cancel = cancel_new();
    struct boot_slots *s = boot_slots_new(1);
    struct asker a = {.slots = s, .cancel = cancel}, b = {.slots = s};

    (void)state;
    assert_int_equal(boot_slots_acquire(s, NULL, -1), 0);
    asker_begin(&a);
    await_queued(s, 1);
    asker_begin(&b);
    await_queued(s, 2);
    cancel_trigger(cancel);
    asker_end(&a);
    assert_int_equal(a.result, -ECANCELED);
    boot_slots_release(s);
    asker_end(&b);
    assert_int_equal(b.result, 0);
    assert_int_equal(boot_slots_acquire(s, NULL, clock_mono_ms()), -ETIMEDOUT);
    boot_slots_release(s);
    assert_int_equal(boot_slots_acquire(s, NULL, clock_mono_ms()), 0);
    boot_slots_release(s);
    boot_slots_free(s);
}

struct crowd {
    struct boot_slots *slots;
    atomic_int in, most, failed;
};

static void *join_crowd(void *arg)
{
    struct crowd *c = arg;

    for (int i = 0; i < ROUNDS; i++) {
        /* Some give up just when a slot may come. */
        int64_t deadline = i % 3 ? test_deadline() : clock_mono_ms();
        int r = boot_slots_acquire(c->slots, NULL, deadline);
        int in, most;

        if (r < 0) {
            atomic_fetch_add(&c->failed, r != -ETIMEDOUT || i % 3);
            continue;
        }
        in = atomic_fetch_add(&c->in, 1) + 1;
        most = atomic_load(&c->most);
        while (in > most && !atomic_compare_exchange_weak(&c->most, &most, in)) {
        }
        atomic_fetch_sub(&c->in, 1);
        boot_slots_release(c->slots);
    }
    return NULL;
}

static void a_crowd_never_takes_more_and_loses_none(void **state)
{
    struct crowd c = {.slots = boot_slots_new(SLOTS)};
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(thread_start(&threads[i], "crowd", 256, join_crowd, &c), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&c.failed), 0);
    assert_true(atomic_load(&c.most) <= SLOTS);
    for (int i = 0; i < SLOTS; i++) {
        assert_int_equal(boot_slots_acquire(c.slots, NULL, clock_mono_ms()), 0);
    }
    assert_int_equal(boot_slots_acquire(c.slots, NULL, clock_mono_ms()), -ETIMEDOUT);
    boot_slots_free(c.slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_more_than_the_count_are_given),
        cmocka_unit_test(slots_go_to_whoever_came_first),
        cmocka_unit_test(who_gives_up_leaves_the_slot_to_the_next),
        cmocka_unit_test(a_crowd_never_takes_more_and_loses_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
