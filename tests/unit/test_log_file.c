/* Places in a log stay where they are while its beginning is cut off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/str.h"
#include "vm/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A file without a name, on a filesystem that can drop the beginning of files, or cannot. */
static int open_log(const char *directory)
{
    int fd = open(directory, O_RDWR | O_TMPFILE | O_APPEND | O_CLOEXEC, 0600);

    if (fd < 0) {
        printf("skip %s: no file can be made there\n", directory);
        skip();
    }
    return fd;
}

/* Bytes that tell their own place. */
static void append(int fd, uint64_t from, uint64_t to)
{
    _cleanup_free_ char *text = malloc(to - from + 1);
    size_t len = 0;

    assert_true(from % 16 == 0 && to % 16 == 0);
    for (uint64_t at = from; at < to; at += 16) {
        (void)snprintf(text + len, 17, "%015u\n", (unsigned)at);
        len += 16;
    }
    assert_int_equal(fs_write_all(fd, text, len), 0);
}

static void check(const struct log_page *page, uint64_t from, uint64_t to)
{
    char want[17];

    assert_int_equal(page->len, to - from);
    assert_int_equal(page->position, to);
    (void)snprintf(want, sizeof(want), "%015u\n", (unsigned)from / 16 * 16);
    assert_memory_equal(page->data, want + from % 16,
                        page->len < 16 - from % 16 ? page->len : 16 - from % 16);
}

static void cut(const char *directory)
{
    _cleanup_close_ int fd = open_log(directory);
    struct log_file *log = log_file_new();
    uint64_t end = LOG_MAX_BYTES + 4096, kept;
    struct log_page page;
    struct stat st;

    assert_int_equal(log_file_read(log, fd, 0, 100, &page), 0);
    check(&page, 0, 0);
    free(page.data);
    append(fd, 0, LOG_MAX_BYTES);
    log_file_shorten(log, fd);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, LOG_MAX_BYTES); /* no longer than it may be */
    append(fd, LOG_MAX_BYTES, end);
    for (int i = 0; i < 3; i++) {
        log_file_shorten(log, fd);
        assert_int_equal(fstat(fd, &st), 0);
        assert_true(st.st_size >= LOG_KEEP_BYTES && st.st_size < LOG_KEEP_BYTES + 65536);
        kept = end - (uint64_t)st.st_size;
        /* From a place that is still there, and from one that is not. */
        assert_int_equal(log_file_read(log, fd, end - 100, 1000, &page), 0);
        check(&page, end - 100, end);
        assert_int_equal(page.skipped, 0);
        free(page.data);
        assert_int_equal(log_file_read(log, fd, kept - 5, 32, &page), 0);
        check(&page, kept, kept + 32);
        assert_int_equal(page.skipped, 5);
        free(page.data);
        assert_int_equal(log_file_read_end(log, fd, 64, &page), 0);
        check(&page, end - 64, end);
        free(page.data);
        assert_int_equal(log_file_read(log, fd, end, 64, &page), 0);
        check(&page, end, end);
        free(page.data);
        assert_int_equal(log_file_read(log, fd, end + 1, 64, &page), -ERANGE);
        append(fd, end, end + LOG_MAX_BYTES);
        end += LOG_MAX_BYTES;
    }
    assert_int_equal(log_file_read_end(log, fd, LOG_MAX_BYTES * 4, &page), 0);
    check(&page, kept, end);
    free(page.data);
    log_file_put(log);
    log_file_put(NULL);
}

static void places_outlast_a_cut_in_one_step(void **state)
{
    (void)state;
    cut("/tmp");
}

static void places_outlast_a_rewritten_file(void **state)
{
    (void)state;
    cut("/dev/shm"); /* tmpfs cannot drop the beginning of a file */
}

static void a_closed_file_is_an_error(void **state)
{
    struct log_file *log = log_file_new();
    struct log_page page;

    (void)state;
    assert_int_equal(log_file_read(log, -1, 0, 10, &page), -EBADF);
    log_file_shorten(log, -1);
    log_file_put(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_outlast_a_cut_in_one_step),
        cmocka_unit_test(places_outlast_a_rewritten_file),
        cmocka_unit_test(a_closed_file_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
