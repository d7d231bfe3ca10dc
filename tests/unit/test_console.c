/* The guest's console file: kept bounded, and its end shown to people. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cancel.h"
#include "base/str.h"
#include "scratch.h"
#include "vm/console.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

/* Some filesystems drop whole blocks only. */
#define KEPT_MAX (LOG_KEEP_BYTES + 64 * 1024)

static int open_console(const struct scratch *s)
{
    int fd = openat(s->fd, "console", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    return fd;
}

static void append(int fd, size_t bytes, char c)
{
    _cleanup_free_ char *block = malloc(bytes);

    memset(block, c, bytes);
    assert_int_equal(fs_write_all(fd, block, bytes), 0);
}

static off_t size_of(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return st.st_size;
}

/* Waits for changes of the file until it is no longer than `most`. */
static void await_shorter(int fd, int inotify_fd, off_t most)
{
    int64_t deadline = test_deadline();
    char events[4096];

    while (size_of(fd) > most || size_of(fd) == 0) {
        assert_int_equal(cancel_wait_fd(NULL, inotify_fd, POLLIN, deadline), 0);
        (void)!read(inotify_fd, events, sizeof(events));
    }
}

static void a_console_that_grows_is_shortened_to_its_end(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_close_ int fd = open_console(&s), in = -1;
    _cleanup_free_ char *path = x_asprintf("%s/console", s.path);
    char tail[8] = {0};
    struct log_file *log = log_file_new();
    struct console_watcher *watcher;
    struct console_watch *w;
    struct loop *loop;

    (void)state;
    assert_int_equal(loop_new("control", &loop), 0);
    append(fd, LOG_MAX_BYTES, 'a');
    watcher = console_watcher_new(loop);
    w = console_watch_new(watcher, log, open_console(&s));
    assert_non_null(w);
    in = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    assert_true(inotify_add_watch(in, path, IN_MODIFY) >= 0);
    append(fd, 1000, 'b');
    assert_int_equal(fs_write_all(fd, "the end", 7), 0);
    await_shorter(fd, in, KEPT_MAX);
    assert_true(size_of(fd) >= LOG_KEEP_BYTES);
    assert_int_equal(pread(fd, tail, 7, size_of(fd) - 7), 7);
    assert_string_equal(tail, "the end");
    /* What the VMM appends goes on behind it. */
    assert_int_equal(fs_write_all(fd, "!", 1), 0);
    assert_int_equal(pread(fd, tail, 7, size_of(fd) - 7), 7);
    assert_string_equal(tail, "he end!");
    console_watch_free(w);
    console_watch_free(NULL);
    console_watcher_free(watcher);
    console_watcher_free(NULL);
    loop_free(loop);
    log_file_put(log);
}

static void many_consoles_are_told_apart(void **state)
{
    enum { COUNT = 300 };
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_close_ int in = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    static struct console_watch *w[COUNT];
    static int fds[COUNT];
    struct log_file *log = log_file_new();
    struct console_watcher *watcher;
    struct loop *loop;

    (void)state;
    assert_int_equal(loop_new("control", &loop), 0);
    watcher = console_watcher_new(loop);
    for (int i = 0; i < COUNT; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "console%d", i);
        fds[i] = openat(s.fd, name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        assert_true(fds[i] >= 0);
        assert_int_equal(ftruncate(fds[i], LOG_MAX_BYTES), 0);
        w[i] = console_watch_new(watcher, log, fcntl(fds[i], F_DUPFD_CLOEXEC, 3));
        assert_non_null(w[i]);
    }
    for (int i = 0; i < COUNT; i += 100) {
        _cleanup_free_ char *path = x_asprintf("%s/console%d", s.path, i);

        assert_true(inotify_add_watch(in, path, IN_MODIFY) >= 0);
        append(fds[i], 1, 'x');
    }
    for (int i = 0; i < COUNT; i += 100) {
        await_shorter(fds[i], in, KEPT_MAX);
    }
    for (int i = 0; i < COUNT; i++) {
        if (i % 100) {
            assert_int_equal(size_of(fds[i]), LOG_MAX_BYTES);
        } else {
            assert_true(size_of(fds[i]) <= KEPT_MAX);
        }
        console_watch_free(w[i]);
        (void)close(fds[i]);
    }
    console_watcher_free(watcher);
    loop_free(loop);
    log_file_put(log);
}

static void a_console_within_its_bounds_is_left_alone(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_close_ int fd = open_console(&s);
    struct log_file *log = log_file_new();
    struct console_watcher *watcher;
    struct console_watch *w;
    struct loop *loop;

    (void)state;
    assert_int_equal(loop_new("control", &loop), 0);
    watcher = console_watcher_new(loop);
    w = console_watch_new(watcher, log, open_console(&s));
    append(fd, LOG_MAX_BYTES, 'a');
    console_watch_free(w);
    console_watcher_free(watcher);
    assert_int_equal(size_of(fd), LOG_MAX_BYTES);
    loop_free(loop);
    log_file_put(log);
}

static void what_cannot_be_watched_is_null(void **state)
{
    struct log_file *log = log_file_new();
    struct console_watcher *watcher;
    struct loop *loop;

    (void)state;
    assert_int_equal(loop_new("control", &loop), 0);
    watcher = console_watcher_new(loop);
    assert_null(console_watch_new(watcher, log, -1));
    assert_null(console_watch_new(NULL, log, -1));
    console_watcher_free(watcher);
    loop_free(loop);
    log_file_put(log);
}

static void check_tail(const char *text, size_t len, size_t most, const char *want)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_close_ int fd = open_console(&s);
    _cleanup_free_ char *got = NULL;

    assert_int_equal(fs_write_all(fd, text, len), 0);
    got = console_tail(fd, most);
    assert_string_equal(got, want);
}

static void the_tail_is_whole_lines_and_safe_on_a_terminal(void **state)
{
    _cleanup_free_ char *none = console_tail(-1, 100);

    (void)state;
    assert_string_equal(none, "");
    check_tail("", 0, 100, "");
    check_tail("one\r\ntwo\n", 9, 100, "one\ntwo\n");
    check_tail("one\r\ntwo", 8, 100, "one\ntwo");
    check_tail("first\nsecond\nthird\n", 19, 10, "third\n");
    check_tail("a-line-longer-than-that", 23, 4, "that");
    check_tail("\x1b[31mred\tx\n\0y\xff\n", 15, 100, "\\x1b[31mred\\tx\n\\x00y\\xff\n");
    check_tail("\n\n\nx\n", 5, 100, "\n\n\nx\n");
    {
        char worst[1000], want[4001];

        memset(worst, 0x01, sizeof(worst));
        for (size_t i = 0; i < sizeof(worst); i++) {
            memcpy(want + 4 * i, "\\x01", 5);
        }
        check_tail(worst, sizeof(worst), sizeof(worst), want);
    }
}

static void only_the_last_boot_is_looked_at(void **state)
{
    static const char two[] =
        "old\n" CONSOLE_MARK "boot 1\nold panic\n" CONSOLE_MARK "boot 2\nnew\n";

    (void)state;
    assert_string_equal(console_since_boot("no mark\n"), "no mark\n");
    assert_null(strstr(console_since_boot(two), "old"));
    assert_non_null(strstr(console_since_boot(two), "new\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_console_that_grows_is_shortened_to_its_end),
        cmocka_unit_test(many_consoles_are_told_apart),
        cmocka_unit_test(a_console_within_its_bounds_is_left_alone),
        cmocka_unit_test(what_cannot_be_watched_is_null),
        cmocka_unit_test(the_tail_is_whole_lines_and_safe_on_a_terminal),
        cmocka_unit_test(only_the_last_boot_is_looked_at),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
