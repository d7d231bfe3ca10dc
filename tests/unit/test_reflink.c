/* Copies of sparse files: the same bytes, and no more blocks than there is data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"
#include "sys/reflink.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#define SIZE (64 * 1024 * 1024)

static int make(const struct scratch *s, const char *name)
{
    int fd = openat(s->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    return fd;
}

static void put(int fd, off_t at, char c)
{
    char block[8192];

    memset(block, c, sizeof(block));
    assert_int_equal(pwrite(fd, block, sizeof(block), at), sizeof(block));
}

static void assert_block(int fd, off_t at, char c)
{
    char block[8192];

    assert_int_equal(pread(fd, block, sizeof(block), at), sizeof(block));
    for (size_t i = 0; i < sizeof(block); i++) {
        assert_int_equal(block[i], c);
    }
}

static void check_copy(int from, int to)
{
    struct stat a, b;

    assert_int_equal(ftruncate(from, SIZE), 0);
    put(from, 0, 'a');
    put(from, 10 * 1024 * 1024, 'b');
    put(from, SIZE - 8192, 'c');
    assert_int_equal(reflink_or_copy(from, to), 0);
    assert_int_equal(fstat(from, &a), 0);
    assert_int_equal(fstat(to, &b), 0);
    assert_int_equal(b.st_size, SIZE);
    assert_true(b.st_blocks <= a.st_blocks + 64);
    assert_true(b.st_blocks * 512 < 1024 * 1024);
    assert_block(to, 0, 'a');
    assert_block(to, 8192, 0);
    assert_block(to, 10 * 1024 * 1024, 'b');
    assert_block(to, SIZE - 8192, 'c');
    /* They are two files. */
    put(to, 0, 'z');
    assert_block(from, 0, 'a');
}

static void a_copy_has_the_data_and_the_holes(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_close_ int from = make(&s, "from"), to = make(&s, "to");

    (void)state;
    check_copy(from, to);
}

static void a_copy_crosses_filesystems(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_close_ int from = memfd_create("from", MFD_CLOEXEC), to = make(&s, "to");

    (void)state;
    assert_true(from >= 0);
    check_copy(from, to);
}

static void files_without_data_are_copied(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_close_ int from = make(&s, "from"), empty = make(&s, "empty"), hole = make(&s, "hole");
    struct stat st;

    (void)state;
    assert_int_equal(reflink_or_copy(from, empty), 0);
    assert_int_equal(fstat(empty, &st), 0);
    assert_int_equal(st.st_size, 0);
    assert_int_equal(ftruncate(from, SIZE), 0);
    assert_int_equal(reflink_or_copy(from, hole), 0);
    assert_int_equal(fstat(hole, &st), 0);
    assert_int_equal(st.st_size, SIZE);
    assert_int_equal(st.st_blocks, 0);
}

static void what_cannot_be_written_is_an_error(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_close_ int from = make(&s, "from"), to = make(&s, "to"), read_only = -1;

    (void)state;
    put(from, 0, 'a');
    read_only = openat(s.fd, "to", O_RDONLY | O_CLOEXEC);
    assert_int_equal(reflink_or_copy(from, read_only), -EINVAL);
    assert_int_equal(reflink_or_copy(-1, to), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_has_the_data_and_the_holes),
        cmocka_unit_test(a_copy_crosses_filesystems),
        cmocka_unit_test(files_without_data_are_copied),
        cmocka_unit_test(what_cannot_be_written_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
