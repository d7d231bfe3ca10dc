/* Data disks: formatted once per size, copied from then on, sparse and clean. Needs e2fsprogs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/spawn.h"
#include "base/str.h"
#include "disk/data_disk.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define MIB (1ull << 20)

struct fixture {
    struct scratch cache, vm;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->cache = scratch_new();
    f->vm = scratch_new();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    scratch_done(&f->cache);
    scratch_done(&f->vm);
    free(f);
    return 0;
}

static bool have_mke2fs(const char *test)
{
    const char *const argv[] = {"mke2fs", "-V", NULL};
    int pidfd = -1;
    pid_t pid;

    if (spawn_process(&(struct spawn_params){.argv = argv}, &pid, &pidfd) < 0) {
        print_message("skip %s: mke2fs is not installed\n", test);
        return false;
    }
    (void)waitpid(pid, NULL, 0);
    (void)close(pidfd);
    return true;
}

static void assert_clean(const struct scratch *dir, const char *name)
{
    _cleanup_free_ char *path = x_asprintf("%s/%s", dir->path, name);
    const char *const argv[] = {"e2fsck", "-fn", path, NULL};
    int pidfd = -1, status = -1;
    pid_t pid;

    assert_int_equal(spawn_process(&(struct spawn_params){.argv = argv}, &pid, &pidfd), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    (void)close(pidfd);
    assert_int_equal(status, 0);
}

static void a_disk_is_sparse_private_and_clean(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    struct err err;

    if (!have_mke2fs(__func__)) {
        skip();
    }
    assert_int_equal(
        data_disk_create(f->cache.fd, f->vm.fd, "d", 8192 * MIB, spawn_process, NULL, &err), 0);
    assert_int_equal(fstatat(f->vm.fd, "d", &st, 0), 0);
    assert_true((uint64_t)st.st_size == 8192 * MIB);
    assert_true(st.st_blocks * 512 < (blkcnt_t)(4 * MIB));
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_clean(&f->vm, "d");
}

static void the_second_disk_of_a_size_is_a_copy(void **state)
{
    struct fixture *f = *state;
    _cleanup_close_ int fd = -1;
    struct stat first, second;
    struct err err;

    if (!have_mke2fs(__func__)) {
        skip();
    }
    assert_int_equal(
        data_disk_create(f->cache.fd, f->vm.fd, "a", 64 * MIB, spawn_process, NULL, &err), 0);
    assert_int_equal(fstatat(f->cache.fd, "data-disk-67108864.ext4", &first, 0), 0);
    /* The first one is used; what the cache has is not touched by that. */
    fd = openat(f->vm.fd, "a", O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "spoiled", 7, 1024), 7);
    assert_int_equal(
        data_disk_create(f->cache.fd, f->vm.fd, "b", 64 * MIB, spawn_process, NULL, &err), 0);
    assert_int_equal(fstatat(f->cache.fd, "data-disk-67108864.ext4", &second, 0), 0);
    assert_int_equal(first.st_ino, second.st_ino); /* not made again */
    assert_clean(&f->vm, "b");
    /* The next needs no mke2fs, a third of the name is refused. */
    assert_int_equal(
        data_disk_create(f->cache.fd, f->vm.fd, "b", 64 * MIB, spawn_process, NULL, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(err.errnum, EEXIST);
    assert_clean(&f->vm, "b");
}

static unsigned count_cached(const struct fixture *f)
{
    DIR *dir = opendir(f->cache.path);
    unsigned n = 0;

    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n - 2;
}

/* Before the first of its size there is a guess, after that the cache knows. */
static void what_a_disk_takes_is_known_before_it_is_made(void **state)
{
    static const uint64_t sizes[] = {64 * MIB, 8192 * MIB, MIB * MIB};
    struct fixture *f = *state;

    if (!have_mke2fs(__func__)) {
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint64_t guess, disk, cache;
        struct stat st;
        struct err err;

        data_disk_estimate(f->cache.fd, sizes[i], &guess, &cache);
        assert_true(guess == cache && guess < 8 * MIB);
        assert_int_equal(
            data_disk_create(f->cache.fd, f->vm.fd, "d", sizes[i], spawn_process, NULL, &err), 0);
        data_disk_estimate(f->cache.fd, sizes[i], &disk, &cache);
        assert_true(disk > 0 && disk <= guess && cache == 0);
        assert_int_equal(fstatat(f->vm.fd, "d", &st, 0), 0);
        assert_true((uint64_t)st.st_blocks * 512 <= disk);
        assert_int_equal(unlinkat(f->vm.fd, "d", 0), 0);
    }
}

static void sizes_that_cannot_be_are_errors_and_leave_nothing(void **state)
{
    static const uint64_t sizes[] = {0, 4096, UINT64_MAX - 4095, 1ull << 62};
    struct fixture *f = *state;
    struct stat st;
    struct err err;

    if (!have_mke2fs(__func__)) {
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_int_equal(
            data_disk_create(f->cache.fd, f->vm.fd, "d", sizes[i], spawn_process, NULL, &err), -1);
        assert_int_equal(fstatat(f->vm.fd, "d", &st, 0), -1);
        assert_int_equal(count_cached(f), 0);
    }
}

static void a_cancelled_format_leaves_nothing(void **state)
{
    _cleanup_cancel_ struct cancel *cancel = cancel_new();
    struct fixture *f = *state;
    struct err err;

    if (!have_mke2fs(__func__)) {
        skip();
    }
    cancel_trigger(cancel);
    assert_int_equal(
        data_disk_create(f->cache.fd, f->vm.fd, "d", 64 * MIB, spawn_process, cancel, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_int_equal(count_cached(f), 0);
}

static void without_mke2fs_the_package_is_named(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ char *path = x_strdup(getenv("PATH"));
    struct err err;

    assert_int_equal(setenv("PATH", f->vm.path, 1), 0);
    assert_int_equal(
        data_disk_create(f->cache.fd, f->vm.fd, "d", 64 * MIB, spawn_process, NULL, &err), -1);
    assert_int_equal(setenv("PATH", path ? path : "/usr/bin:/usr/sbin", 1), 0);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_string_equal(err.hint, "install e2fsprogs: apt-get install e2fsprogs");
    assert_int_equal(count_cached(f), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_disk_is_sparse_private_and_clean),
        TEST(the_second_disk_of_a_size_is_a_copy),
        TEST(what_a_disk_takes_is_known_before_it_is_made),
        TEST(sizes_that_cannot_be_are_errors_and_leave_nothing),
        TEST(a_cancelled_format_leaves_nothing),
        TEST(without_mke2fs_the_package_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
