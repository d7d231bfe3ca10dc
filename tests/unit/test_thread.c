/* The order of locks is asserted: what breaks it dies, in a child, by SIGABRT. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/spare.h"
#include "base/thread.h"
#include "scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

static struct lock locks[2];

/* The child's: an abort that says nothing and leaves no file. */
static void be_quiet(void)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

    (void)dup2(fd, STDERR_FILENO);
    (void)signal(SIGABRT, SIG_DFL);
}

static int in_order(void *arg) NO_TS_ANALYSIS
{
    (void)arg;
    for (int i = 0; i < 2; i++) {
        rank_push(&rank_vm);
        create_lock(&locks[0]);
        leaf_lock(&locks[1]);
        leaf_unlock(&locks[1]);
        create_unlock(&locks[0]);
        image_lock(&locks[0]);
        rank_assert_may_wait();
        leaf_lock(&locks[1]);
        leaf_unlock(&locks[1]);
        image_unlock(&locks[0]);
        rank_pop(&rank_vm);
    }
    return 0;
}

static int leaf_in_leaf(void *arg) NO_TS_ANALYSIS
{
    (void)arg;
    be_quiet();
    leaf_lock(&locks[0]);
    leaf_lock(&locks[1]);
    return 0;
}

static int create_in_leaf(void *arg) NO_TS_ANALYSIS
{
    (void)arg;
    be_quiet();
    leaf_lock(&locks[0]);
    create_lock(&locks[1]);
    return 0;
}

static int image_in_create(void *arg) NO_TS_ANALYSIS
{
    (void)arg;
    be_quiet();
    create_lock(&locks[0]);
    image_lock(&locks[1]);
    return 0;
}

static int token_in_create(void *arg) NO_TS_ANALYSIS
{
    (void)arg;
    be_quiet();
    create_lock(&locks[0]);
    rank_push(&rank_vm);
    return 0;
}

static int two_tokens(void *arg)
{
    (void)arg;
    be_quiet();
    rank_push(&rank_vm);
    rank_push(&rank_vm);
    return 0;
}

static int release_out_of_order(void *arg) NO_TS_ANALYSIS
{
    (void)arg;
    be_quiet();
    create_lock(&locks[0]);
    leaf_lock(&locks[1]);
    create_unlock(&locks[0]);
    return 0;
}

static int release_nothing(void *arg)
{
    (void)arg;
    be_quiet();
    rank_pop(&rank_vm);
    return 0;
}

static int wait_in_leaf(void *arg) NO_TS_ANALYSIS
{
    struct latch l;

    (void)arg;
    be_quiet();
    latch_init(&l);
    latch_set(&l);
    leaf_lock(&locks[0]);
    (void)latch_wait(&l, NULL, clock_mono_ms());
    return 0;
}

static void the_right_order_is_fine(void **state)
{
    (void)state;
    assert_int_equal(in_order(NULL), 0);
}

static void every_wrong_order_aborts(void **state)
{
    static int (*const wrong[])(void *arg) = {
        leaf_in_leaf, create_in_leaf,       image_in_create, token_in_create,
        two_tokens,   release_out_of_order, release_nothing, wait_in_leaf,
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        int status = test_child(wrong[i], NULL, false);

        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
    }
}

struct counting {
    struct lock lock;
    struct latch go;
    unsigned count;
    atomic_bool signals_open;
};

static void *count_up(void *arg)
{
    struct counting *c = arg;
    sigset_t blocked;

    if (pthread_sigmask(SIG_SETMASK, NULL, &blocked) != 0 || !sigismember(&blocked, SIGTERM)) {
        atomic_store(&c->signals_open, true);
    }
    (void)latch_wait(&c->go, NULL, test_deadline());
    for (int i = 0; i < 1000; i++) {
        leaf_lock(&c->lock);
        c->count++;
        leaf_unlock(&c->lock);
    }
    return NULL;
}

static void a_lock_excludes_and_threads_block_signals(void **state)
{
    struct counting c = {0};
    pthread_t threads[4];
    char name[16];

    (void)state;
    lock_init(&c.lock);
    latch_init(&c.go);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(thread_start(&threads[i], "counter", 256, count_up, &c), 0);
    }
    assert_int_equal(pthread_getname_np(threads[0], name, sizeof(name)), 0);
    assert_string_equal(name, "counter");
    latch_set(&c.go);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(c.count, 4000);
    assert_false(atomic_load(&c.signals_open));
    latch_done(&c.go);
    lock_done(&c.lock);
}

static void *set_latch(void *arg)
{
    latch_set(arg);
    return NULL;
}

static void detached_threads_run(void **state)
{
    struct latch l;

    (void)state;
    latch_init(&l);
    assert_int_equal(thread_start_detached("alone", 256, set_latch, &l), 0);
    assert_int_equal(latch_wait(&l, NULL, test_deadline()), 0);
    latch_done(&l);
}

/* Jobs of a spare. */
struct jobs {
    struct latch begun, go;
    atomic_int count;
};

static void wait_for_go(void *arg)
{
    struct jobs *j = arg;

    if (atomic_fetch_add(&j->count, 1) == 19) {
        latch_set(&j->begun);
    }
    assert_int_equal(latch_wait(&j->go, NULL, test_deadline()), 0);
    atomic_fetch_sub(&j->count, 1);
}

static void count_one(void *arg)
{
    struct jobs *j = arg;

    atomic_fetch_add(&j->count, 1);
}

static void spare_threads_run_each_job_at_once(void **state)
{
    struct spare *s = spare_new("spare", 256, 2);
    struct jobs j = {.count = 0};

    (void)state;
    latch_init(&j.begun);
    latch_init(&j.go);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(spare_run(s, wait_for_go, &j), 0);
    }
    assert_int_equal(latch_wait(&j.begun, NULL, test_deadline()), 0); /* all of them run */
    latch_set(&j.go);
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(spare_run(s, count_one, &j), 0);
    }
    spare_free(s); /* waits for them */
    assert_int_equal(atomic_load(&j.count), 2000);
    spare_free(NULL);
    latch_done(&j.begun);
    latch_done(&j.go);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_right_order_is_fine),
        cmocka_unit_test(every_wrong_order_aborts),
        cmocka_unit_test(a_lock_excludes_and_threads_block_signals),
        cmocka_unit_test(detached_threads_run),
        cmocka_unit_test(spare_threads_run_each_job_at_once),
    };

    lock_init(&locks[0]);
    lock_init(&locks[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
