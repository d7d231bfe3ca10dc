/* The composition root: what open makes is closed by close, and a failed open closes exactly what
 * it opened, wherever it fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/test_point.h"
#include "base/thread.h"
#include "daemon_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES 20

/* Descriptors, and threads; those that have nothing more to do may need a moment to be gone. */
static void assert_as_before(unsigned fds, unsigned threads)
{
    int64_t deadline = test_deadline();

    assert_int_equal(count_entries("/proc/self/fd"), fds);
    while (count_entries("/proc/self/task") != threads) {
        assert_true(test_deadline() < deadline + TEST_PATIENCE_MS);
        (void)sched_yield();
    }
}

/* Nobody else could open it otherwise. */
static void assert_unlocked(const struct world *w)
{
    _cleanup_free_ char *path = world_path(w, "state/daemon.lock");
    _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    }
    assert_int_equal(access(w->paths.socket, F_OK), -1);
}

static void what_is_opened_is_closed_and_can_be_opened_again(void **state)
{
    struct world w;
    unsigned fds = 0, threads = 0;

    (void)state;
    world_new(&w);
    for (int i = 0; i < 4; i++) {
        struct daemon *d = NULL;
        struct err err = {0};

        if (i == 1) { /* what the libraries keep is there by now */
            fds = count_entries("/proc/self/fd");
            threads = count_entries("/proc/self/task");
        }
        assert_int_equal(daemon_open(&w.params, &d, &err), 0);
        assert_int_equal(access(w.paths.socket, F_OK), 0);
        daemon_close(d);
        assert_unlocked(&w);
        if (i > 0) {
            assert_as_before(fds, threads);
        }
    }
    daemon_close(NULL);
    world_done(&w);
}

/* One after the other, what does not depend on points in the sources. */
static void what_is_not_as_it_should_be_is_told_and_all_else_closed(void **state)
{
    static const struct {
        const char *path; /* what stands there is a directory, or with a "/" at its end a file */
        const char *said;
    } cases[] = {
        {"state/", "state"},
        {"cache/", "cache"},
        {"run/", "run"},
        {"run/vms/", "vms"},
        {"state/banger.db", "banger.db"},
        {"state/daemon.lock", "lock"},
        {"state/images/", "image"},
        {"state/kernels/", "image"},
        {"run/banger.sock", "banger.sock"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t len = strlen(cases[i].path);
        _cleanup_free_ char *path = NULL;
        struct daemon *d = NULL;
        struct err err = {0};
        unsigned fds, threads;
        struct world w;

        world_new(&w);
        path = world_path(&w, cases[i].path);
        for (char *p = path + strlen(w.dir.path) + 1; (p = strchr(p, '/')) && p[1]; p++) {
            *p = '\0';
            assert_int_equal(mkdir(path, 0700), 0);
            *p = '/';
        }
        if (cases[i].path[len - 1] == '/') {
            path[strlen(path) - 1] = '\0';
            assert_int_equal(close(creat(path, 0600)), 0);
        } else {
            _cleanup_free_ char *inside = x_asprintf("%s/file", path);

            assert_int_equal(mkdir(path, 0700), 0);
            assert_int_equal(close(creat(inside, 0600)), 0);
        }
        fds = count_entries("/proc/self/fd");
        threads = count_entries("/proc/self/task");
        assert_int_equal(daemon_open(&w.params, &d, &err), -1);
        assert_non_null(strstr(err.message, cases[i].said));
        assert_as_before(fds, threads);
        world_done(&w);
    }
}

static void one_that_is_open_keeps_others_out_and_stays_as_it_is(void **state)
{
    struct daemon *first = NULL, *second = NULL;
    struct err err = {0};
    unsigned fds, threads;
    struct world w;

    (void)state;
    world_new(&w);
    assert_int_equal(daemon_open(&w.params, &first, &err), 0);
    fds = count_entries("/proc/self/fd");
    threads = count_entries("/proc/self/task");
    for (int i = 0; i < TRIES; i++) {
        assert_int_equal(daemon_open(&w.params, &second, &err), -1);
        assert_int_equal(err.code, ERR_BUSY);
    }
    /* The first one's own threads may have opened something in the meantime, but not so much. */
    assert_in_range(count_entries("/proc/self/fd"), 1, fds + TRIES / 2);
    assert_in_range(count_entries("/proc/self/task"), 1, threads + TRIES / 2);
    assert_int_equal(access(w.paths.socket, F_OK), 0);
    daemon_close(first);
    assert_unlocked(&w);
    world_done(&w);
}

#ifdef BANGER_TEST_POINTS
static void arm(const char *spec)
{
    int fd = open(getenv("BANGER_FAULTS"), O_WRONLY | O_TRUNC | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, spec, strlen(spec)), (ssize_t)strlen(spec));
    assert_int_equal(close(fd), 0);
}

/* Some that fail are done without. */
static void any_call_may_fail(void **state)
{
    unsigned failed = 0;

    (void)state;
    for (unsigned n = 1; n <= 60; n++) {
        _cleanup_free_ char *spec = x_asprintf("* %u %d\n", n, EIO);
        struct daemon *d = NULL;
        struct err err = {0};
        unsigned fds, threads;
        struct world w;

        world_new(&w);
        fds = count_entries("/proc/self/fd");
        threads = count_entries("/proc/self/task");
        arm(spec);
        if (daemon_open(&w.params, &d, &err) < 0) {
            failed++;
            assert_true(err.message[0]);
        }
        arm("");
        daemon_close(d);
        assert_unlocked(&w);
        assert_as_before(fds, threads);
        /* And the next one is well. */
        assert_int_equal(daemon_open(&w.params, &d, &err), 0);
        daemon_close(d);
        assert_as_before(fds, threads);
        world_done(&w);
    }
    assert_in_range(failed, 20, 59);
}
#endif

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_opened_is_closed_and_can_be_opened_again),
        cmocka_unit_test(what_is_not_as_it_should_be_is_told_and_all_else_closed),
        cmocka_unit_test(one_that_is_open_keeps_others_out_and_stays_as_it_is),
#ifdef BANGER_TEST_POINTS
        cmocka_unit_test(any_call_may_fail),
#endif
    };

    char faults[] = "/tmp/banger-test-faults-XXXXXX";
    int fd = mkstemp(faults), failed;

    /* It is opened once, by the first call that may fail. */
    (void)setenv("BANGER_FAULTS", faults, 1);
    failed = fd < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
    close_p(&fd);
    (void)unlink(faults);
    return failed;
}
