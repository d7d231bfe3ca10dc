/* The event loop, cancellation and latches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/loop.h"
#include "base/thread.h"
#include "scratch.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

static void await(struct latch *l)
{
    assert_int_equal(latch_wait(l, NULL, test_deadline()), 0);
}

/* ---- cancel and latch ---- */

static void a_latch_stays_set(void **state)
{
    struct latch l;

    (void)state;
    latch_init(&l);
    assert_false(latch_is_set(&l));
    assert_int_equal(latch_wait(&l, NULL, clock_mono_ms()), -ETIMEDOUT);
    latch_set(&l);
    for (int i = 0; i < 10; i++) {
        assert_true(latch_is_set(&l));
        assert_int_equal(latch_wait(&l, NULL, -1), 0);
    }
    latch_set(&l); /* again is nothing */
    assert_true(latch_is_set(&l));
    latch_done(&l);
}

struct waiting {
    struct latch latch, begun;
    struct cancel *cancel;
    int result, plain;
};

static void *wait_on_thread(void *arg)
{
    struct waiting *w = arg;

    latch_set(&w->begun);
    w->result = latch_wait(&w->latch, w->cancel, test_deadline());
    w->plain++; /* written before the latch was set, on the other thread */
    return NULL;
}

static void a_wait_ends_by_latch_or_cancel(void **state)
{
    (void)state;
    for (int cancels = 0; cancels < 2; cancels++) {
        struct waiting w = {.cancel = cancel_new()};
        pthread_t thread;

        latch_init(&w.latch);
        latch_init(&w.begun);
        assert_int_equal(thread_start(&thread, "wait", 256, wait_on_thread, &w), 0);
        await(&w.begun);
        if (cancels) {
            cancel_trigger(w.cancel);
        } else {
            w.plain = 1;
            latch_set(&w.latch);
        }
        pthread_join(thread, NULL);
        assert_int_equal(w.result, cancels ? -ECANCELED : 0);
        assert_int_equal(w.plain, cancels ? 1 : 2);
        latch_done(&w.latch);
        latch_done(&w.begun);
        cancel_put(w.cancel);
    }
}

static void *set_later(void *arg)
{
    latch_set(arg);
    return NULL;
}

/* Waiting makes a descriptor while another thread sets the latch: whichever comes first, the wait
 * ends, and the latch may be freed at once. Sanitizers see who touches it afterwards. */
static void a_latch_may_be_freed_once_the_wait_is_over(void **state)
{
    (void)state;
    for (int i = 0; i < 2000; i++) {
        struct latch *l = malloc(sizeof(*l));
        pthread_t thread;

        latch_init(l);
        assert_int_equal(thread_start(&thread, "set", 256, set_later, l), 0);
        if (i % 2 == 0) {
            await(l);
        } else {
            while (!latch_is_set(l)) {
            }
        }
        latch_done(l);
        free(l);
        pthread_join(thread, NULL);
    }
}

static int lowest_free_fd(void)
{
    int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);

    close(fd);
    return fd;
}

static void what_nobody_waits_for_has_no_descriptor(void **state)
{
    _cleanup_cancel_ struct cancel *c = cancel_new();
    int before = lowest_free_fd();
    struct latch l;

    (void)state;
    latch_init(&l);
    latch_set(&l);
    assert_int_equal(latch_wait(&l, c, -1), 0);
    cancel_trigger(c);
    assert_int_equal(latch_wait(&l, c, -1), -ECANCELED);
    assert_int_equal(lowest_free_fd(), before);
    latch_done(&l);
}

/* Those who wait find no descriptor left, and wait all the same. */
static void a_wait_without_descriptors_ends_as_any(void **state)
{
    struct rlimit usual, none;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
    for (int cancels = 0; cancels < 2; cancels++) {
        struct waiting w = {.cancel = cancel_new()};
        pthread_t thread;

        latch_init(&w.latch);
        latch_init(&w.begun);
        none = (struct rlimit){.rlim_cur = (rlim_t)lowest_free_fd(), .rlim_max = usual.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        assert_int_equal(latch_wait(&w.latch, w.cancel, clock_mono_ms() + 1), -ETIMEDOUT);
        assert_int_equal(latch_wait(&w.latch, NULL, clock_mono_ms()), -ETIMEDOUT);
        assert_int_equal(thread_start(&thread, "wait", 256, wait_on_thread, &w), 0);
        await(&w.begun);
        if (cancels) {
            cancel_trigger(w.cancel);
        } else {
            latch_set(&w.latch);
        }
        pthread_join(thread, NULL);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
        assert_int_equal(w.result, cancels ? -ECANCELED : 0);
        latch_done(&w.latch);
        latch_done(&w.begun);
        cancel_put(w.cancel);
    }
}

static void cancelled_stays_cancelled(void **state)
{
    _cleanup_cancel_ struct cancel *c = cancel_new();
    struct cancel *second = cancel_get(c);
    struct latch l;

    (void)state;
    latch_init(&l);
    assert_false(cancel_requested(c));
    assert_false(cancel_requested(NULL));
    assert_null(cancel_get(NULL));
    cancel_put(NULL);
    cancel_trigger(c);
    cancel_trigger(c);
    cancel_put(second);
    assert_true(cancel_requested(c));
    latch_set(&l); /* too late: who was cancelled gives up */
    assert_int_equal(latch_wait(&l, c, -1), -ECANCELED);
    latch_done(&l);
}

static void a_wait_is_for_the_events_it_names(void **state)
{
    _cleanup_close_ int in = -1, out = -1;
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    in = fds[0];
    out = fds[1];
    assert_int_equal(cancel_wait_fd(NULL, in, POLLIN, clock_mono_ms()), -ETIMEDOUT);
    assert_int_equal(cancel_wait_fd(NULL, out, POLLOUT, clock_mono_ms() - 1000), 0);
    close_p(&out);
    assert_int_equal(cancel_wait_fd(NULL, in, POLLIN, -1), 0); /* the end is an event */
}

/* ---- loop ---- */

static int set_up(void **state)
{
    struct loop *l;

    assert_int_equal(loop_new("test", &l), 0);
    *state = l;
    return 0;
}

static int tear_down(void **state)
{
    loop_free(*state);
    return 0;
}

struct order {
    struct loop *loop;
    char text[64];
    size_t len;
};

struct step {
    struct order *order;
    char c;
};

static void write_step(void *arg)
{
    struct step *s = arg;

    s->order->text[s->order->len++] = s->c;
}

static struct step inner = {.c = 'I'};

static void write_and_post(void *arg)
{
    struct step *s = arg;

    write_step(s);
    inner.order = s->order;
    loop_post(s->order->loop, write_step, &inner);
}

static void what_is_posted_runs_in_order(void **state)
{
    struct order o = {.loop = *state};
    struct step a = {&o, 'a'}, b = {&o, 'b'}, c = {&o, 'c'}, d = {&o, 'd'}, e = {&o, 'e'};

    loop_post(o.loop, write_step, &a);
    loop_post(o.loop, write_step, &b);
    loop_call(o.loop, write_and_post, &c);
    loop_call(o.loop, write_step, &d);
    assert_string_equal(o.text, "abcId");
    loop_post(o.loop, write_step, &e);
    loop_free(*state); /* runs it first */
    assert_string_equal(o.text, "abcIde");
    (void)set_up(state);
}

static void call_again(void *arg)
{
    struct step *s = arg;

    assert(loop_is_current(s->order->loop));
    loop_call(s->order->loop, write_step, s); /* at once */
    write_step(s);
}

static void a_call_on_the_loop_runs_at_once(void **state)
{
    struct order o = {.loop = *state};
    struct step a = {&o, 'a'};

    assert_false(loop_is_current(o.loop));
    loop_call(o.loop, call_again, &a);
    assert_string_equal(o.text, "aa");
}

struct poster {
    struct loop *loop;
    unsigned *count; /* of the loop's thread */
    pthread_t thread;
};

static void count_one(void *arg)
{
    ++*(unsigned *)arg;
}

static void *post_many(void *arg)
{
    struct poster *p = arg;

    for (int i = 0; i < 200; i++) {
        if (i % 10) {
            loop_post(p->loop, count_one, p->count);
        } else {
            loop_call(p->loop, count_one, p->count);
        }
    }
    return NULL;
}

static void many_threads_may_post(void **state)
{
    struct poster p[4];
    unsigned count = 0;

    for (int i = 0; i < 4; i++) {
        p[i] = (struct poster){.loop = *state, .count = &count};
        assert_int_equal(thread_start(&p[i].thread, "poster", 256, post_many, &p[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(p[i].thread, NULL);
    }
    loop_free(*state);
    assert_int_equal(count, 800);
    (void)set_up(state);
}

struct watch {
    struct loop *loop;
    int fds[2];
    struct loop_source *source;
    struct latch got[2];
    char bytes[2];
    int count;
};

static void on_readable(void *arg, uint32_t events)
{
    struct watch *w = arg;

    if (events & EPOLLIN && w->count < 2 && read(w->fds[0], &w->bytes[w->count], 1) == 1) {
        latch_set(&w->got[w->count++]);
        if (w->count == 2) {
            loop_source_free(w->source); /* from its own callback */
            w->source = NULL;
        }
    }
}

static void add_watch(void *arg)
{
    struct watch *w = arg;

    w->source = loop_add_io(w->loop, w->fds[0], 0, on_readable, w);
}

static void start_watch(void *arg)
{
    loop_source_set_events(((struct watch *)arg)->source, EPOLLIN);
}

static void a_watched_descriptor_is_reported_when_wanted(void **state)
{
    struct watch w = {.loop = *state};

    assert_int_equal(pipe2(w.fds, O_CLOEXEC | O_NONBLOCK), 0);
    latch_init(&w.got[0]);
    latch_init(&w.got[1]);
    loop_call(w.loop, add_watch, &w);
    assert_int_equal(write(w.fds[1], "xyz", 3), 3);
    /* The loop has gone round, and not looked. */
    loop_call(w.loop, count_one, &w.count);
    loop_call(w.loop, count_one, &w.count);
    assert_int_equal(w.count, 2);
    assert_false(latch_is_set(&w.got[0]));
    w.count = 0;
    loop_call(w.loop, start_watch, &w);
    await(&w.got[0]);
    await(&w.got[1]);
    assert_memory_equal(w.bytes, "xy", 2);
    loop_call(w.loop, count_one, &w.count); /* after the callback */
    assert_null(w.source);
    latch_done(&w.got[0]);
    latch_done(&w.got[1]);
    (void)close(w.fds[0]);
    (void)close(w.fds[1]);
}

struct alarms {
    struct loop *loop;
    struct loop_source *timers[3];
    struct latch last;
    char text[8];
    size_t len;
    int64_t asked_ms, rang_ms;
    bool again;
};

static void on_first(void *arg)
{
    struct alarms *a = arg;

    a->text[a->len++] = '1';
}

static void on_second(void *arg)
{
    struct alarms *a = arg;

    a->text[a->len++] = '2';
    a->rang_ms = clock_mono_ms();
    if (!a->again) {
        a->again = true;
        a->asked_ms = clock_mono_ms() + 5;
        loop_source_set_deadline(a->timers[1], a->asked_ms);
    } else {
        latch_set(&a->last);
    }
}

static void on_never(void *arg)
{
    struct alarms *a = arg;

    a->text[a->len++] = 'x';
}

static void add_timers(void *arg)
{
    struct alarms *a = arg;
    int64_t now = clock_mono_ms();

    a->timers[1] = loop_add_timer(a->loop, now + 10, on_second, a);
    a->timers[0] = loop_add_timer(a->loop, now, on_first, a);
    a->timers[2] = loop_add_timer(a->loop, now, on_never, a);
    loop_source_set_deadline(a->timers[2], -1);
}

static void free_timers(void *arg)
{
    struct alarms *a = arg;

    for (int i = 0; i < 3; i++) {
        loop_source_free(a->timers[i]);
    }
    loop_source_free(NULL);
}

static void timers_ring_in_order_once_and_not_before(void **state)
{
    struct alarms a = {.loop = *state};

    latch_init(&a.last);
    loop_call(a.loop, add_timers, &a);
    await(&a.last);
    loop_call(a.loop, free_timers, &a);
    assert_string_equal(a.text, "122");
    assert_true(a.rang_ms >= a.asked_ms);
    latch_done(&a.last);
}

static void times_are_written_as_rfc_3339(void **state)
{
    char text[CLOCK_RFC3339_SIZE];

    (void)state;
    clock_format_rfc3339(1795450922004, text);
    assert_string_equal(text, "2026-11-23T16:22:02.004Z");
    clock_format_rfc3339(1, text);
    assert_string_equal(text, "1970-01-01T00:00:00.001Z");
    clock_format_rfc3339(0, text);
    assert_string_equal(text, "");
    assert_true(clock_mono_us() / 1000 <= clock_mono_ms());
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_latch_stays_set),
        cmocka_unit_test(a_wait_ends_by_latch_or_cancel),
        cmocka_unit_test(a_latch_may_be_freed_once_the_wait_is_over),
        cmocka_unit_test(what_nobody_waits_for_has_no_descriptor),
        cmocka_unit_test(a_wait_without_descriptors_ends_as_any),
        cmocka_unit_test(cancelled_stays_cancelled),
        cmocka_unit_test(a_wait_is_for_the_events_it_names),
        TEST(what_is_posted_runs_in_order),
        TEST(a_call_on_the_loop_runs_at_once),
        TEST(many_threads_may_post),
        TEST(a_watched_descriptor_is_reported_when_wanted),
        TEST(timers_ring_in_order_once_and_not_before),
        cmocka_unit_test(times_are_written_as_rfc_3339),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
