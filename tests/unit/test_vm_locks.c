/* The operation token per VM: order, waiting, who holds it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"
/* Its source, not its header: that a thread has joined the queue can be seen nowhere else. */
#include "vm/vm_locks.c"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define THREADS 8
#define ROUNDS 50

/* A thread that takes the token, notes its turn, and holds it until it is told. */
struct holder {
    struct vm_locks *locks;
    const char *id, *what;
    struct cancel *own;
    int64_t deadline_ms;
    struct latch held, let_go;
    pthread_t thread;
    atomic_int *turns;
    int turn, result;
    struct err err;
};

static void *hold(void *arg) NO_TS_ANALYSIS
{
    struct holder *h = arg;
    struct vm_token *token;

    h->result = vm_locks_acquire(h->locks, h->id, h->what, h->own, h->deadline_ms, &token, &h->err);
    if (h->result == 0) {
        h->turn = atomic_fetch_add(h->turns, 1);
        latch_set(&h->held);
        (void)latch_wait(&h->let_go, h->own, test_deadline());
        vm_locks_release(token);
    }
    return NULL;
}

static void holder_begin(struct holder *h)
{
    h->turn = -1;
    h->deadline_ms = h->deadline_ms ? h->deadline_ms : test_deadline();
    latch_init(&h->held);
    latch_init(&h->let_go);
    assert_int_equal(thread_start(&h->thread, h->what, 256, hold, h), 0);
}

static void holder_end(struct holder *h)
{
    latch_set(&h->let_go);
    pthread_join(h->thread, NULL);
    latch_done(&h->held);
    latch_done(&h->let_go);
}

static void await_held(struct holder *h)
{
    assert_int_equal(latch_wait(&h->held, NULL, test_deadline()), 0);
}

/* An attempt from this thread that gives up at once: who holds the token? */
static void assert_busy_with(struct vm_locks *l, const char *id, const char *what) NO_TS_ANALYSIS
{
    struct vm_token *token;
    char want[128];
    struct err err;

    assert_int_equal(vm_locks_acquire(l, id, "probe", NULL, clock_mono_ms(), &token, &err), -1);
    assert_int_equal(err.code, ERR_BUSY);
    (void)snprintf(want, sizeof(want), "the VM is busy: '%s' has been running for 0 s", what);
    assert_string_equal(err.message, want);
    assert_string_equal(err.hint, "wait, or cancel it: banger op list");
}

static void a_token_is_held_by_one_and_says_by_whom(void **state) NO_TS_ANALYSIS
{
    struct vm_locks *l = vm_locks_new();
    atomic_int turns = 0;
    struct holder a = {.locks = l, .id = "a", .what = "stop", .turns = &turns};
    struct vm_token *token;
    struct err err;

    (void)state;
    holder_begin(&a);
    await_held(&a);
    assert_busy_with(l, "a", "stop");
    /* Another VM is not concerned. */
    assert_int_equal(vm_locks_acquire(l, "b", "start", NULL, test_deadline(), &token, &err), 0);
    vm_locks_release(token);
    holder_end(&a);
    assert_int_equal(vm_locks_acquire(l, "a", "start", NULL, test_deadline(), &token, &err), 0);
    vm_locks_release(token);
    vm_locks_free(l);
}

/* Returns when so many hold or wait for the token of the VM. */
static void await_queued(struct vm_locks *l, const char *id, unsigned want)
{
    int64_t deadline = test_deadline();
    unsigned count;

    do {
        struct queue *q;

        assert_true(clock_mono_ms() < deadline);
        sched_yield();
        count = 0;
        leaf_lock(&l->lock);
        q = find_locked(l, id);
        if (q) {
            list_for_each (it, &q->tokens) {
                count++;
            }
        }
        leaf_unlock(&l->lock);
    } while (count != want);
}

static void tokens_go_to_whoever_came_first(void **state)
{
    struct vm_locks *l = vm_locks_new();
    atomic_int turns = 0;
    struct holder h[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        h[i] = (struct holder){.locks = l, .id = "a", .what = "start", .turns = &turns};
        holder_begin(&h[i]);
        await_queued(l, "a", (unsigned)i + 1);
    }
    for (int i = 0; i < 4; i++) {
        await_held(&h[i]);
        assert_int_equal(h[i].turn, i);
        holder_end(&h[i]);
    }
    assert_true(list_is_empty(&l->queues));
    vm_locks_free(l);
}

static void waiting_ends_with_its_own_cancel(void **state)
{
    _cleanup_cancel_ struct cancel *cancel = cancel_new();
    struct vm_locks *l = vm_locks_new();
    atomic_int turns = 0;
    struct holder a = {.locks = l, .id = "a", .what = "stop", .turns = &turns};
    struct holder b = {.locks = l, .id = "a", .what = "start", .turns = &turns, .own = cancel};
    struct holder c = {.locks = l, .id = "a", .what = "delete", .turns = &turns};

    (void)state;
    holder_begin(&a);
    await_held(&a);
    holder_begin(&b);
    await_queued(l, "a", 2);
    holder_begin(&c);
    await_queued(l, "a", 3);
    cancel_trigger(cancel);
    holder_end(&b);
    assert_int_equal(b.result, -1);
    assert_int_equal(b.err.code, ERR_CANCELLED);
    assert_busy_with(l, "a", "stop");
    holder_end(&a);
    await_held(&c); /* the one behind it is not lost */
    holder_end(&c);
    vm_locks_free(l);
}

static void the_holder_can_be_asked_to_give_up(void **state)
{
    _cleanup_cancel_ struct cancel *cancel = cancel_new();
    struct vm_locks *l = vm_locks_new();
    atomic_int turns = 0;
    struct holder a = {.locks = l, .id = "a", .what = "start", .turns = &turns, .own = cancel};
    struct holder b = {.locks = l, .id = "a", .what = "delete", .turns = &turns};

    (void)state;
    vm_locks_cancel_holder(l, "a"); /* nobody */
    holder_begin(&a);
    await_held(&a);
    holder_begin(&b);
    assert_false(cancel_requested(cancel));
    vm_locks_cancel_holder(l, "b");
    assert_false(cancel_requested(cancel));
    vm_locks_cancel_holder(l, "a");
    assert_true(cancel_requested(cancel));
    await_held(&b);                 /* a has let go without being told by us */
    vm_locks_cancel_holder(l, "a"); /* has no cancel: nothing happens */
    holder_end(&a);
    holder_end(&b);
    vm_locks_free(l);
}

struct crowd {
    struct vm_locks *locks;
    unsigned in[2], most; /* under the tokens of VM 0 and 1 */
    struct cancel *triggered;
    atomic_int failed, given_up;
};

static void *join_crowd(void *arg) NO_TS_ANALYSIS
{
    struct crowd *c = arg;

    for (int i = 0; i < ROUNDS; i++) {
        int vm = i % 2;
        bool gives_up = i % 5 == 0;
        struct vm_token *token;
        struct err err;

        if (vm_locks_acquire(c->locks, vm ? "one" : "zero", "work", NULL,
                             gives_up ? clock_mono_ms() : test_deadline(), &token, &err) < 0) {
            atomic_fetch_add(gives_up && err.code == ERR_BUSY ? &c->given_up : &c->failed, 1);
            continue;
        }
        /* Plain memory: ThreadSanitizer sees when two hold the token. */
        c->in[vm]++;
        vm_locks_release(token);
    }
    return NULL;
}

static void many_threads_exclude_each_other(void **state)
{
    struct crowd c = {.locks = vm_locks_new()};
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(thread_start(&threads[i], "crowd", 256, join_crowd, &c), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&c.failed), 0);
    assert_int_equal(c.in[0] + c.in[1] + (unsigned)atomic_load(&c.given_up), THREADS * ROUNDS);
    vm_locks_free(c.locks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_held_by_one_and_says_by_whom),
        cmocka_unit_test(tokens_go_to_whoever_came_first),
        cmocka_unit_test(waiting_ends_with_its_own_cancel),
        cmocka_unit_test(the_holder_can_be_asked_to_give_up),
        cmocka_unit_test(many_threads_exclude_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
