/* Files, directories and sockets by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/temp_file.h"
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>

static unsigned count_entries(int dir_fd)
{
    DIR *dir = fdopendir(dup(dir_fd));
    unsigned n = 0;

    rewinddir(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n - 2;
}

static void missing_parents_are_made(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_free_ char *path = x_asprintf("%s/a/b//c/", s.path);
    struct stat st;

    (void)state;
    assert_int_equal(fs_mkdir_p(path, 0700), 0);
    assert_int_equal(fs_mkdir_p(path, 0755), 0);
    assert_int_equal(fstatat(s.fd, "a/b/c", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    scratch_write(&s, "file", "");
    free(STEAL_PTR(path));
    path = x_asprintf("%s/file/x", s.path);
    assert_int_equal(fs_mkdir_p(path, 0700), -ENOTDIR);
}

static void a_directory_is_opened_or_made(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    int fd;

    (void)state;
    assert_int_equal(fs_open_dir(s.fd, "d", false), -ENOENT);
    fd = fs_open_dir(s.fd, "d", true);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    (void)close(fd);
    fd = fs_open_dir(s.fd, "d", true);
    assert_true(fd >= 0);
    (void)close(fd);
    scratch_write(&s, "file", "");
    assert_int_equal(fs_open_dir(s.fd, "file", true), -ENOTDIR);
}

static void whole_files_are_read_up_to_a_limit(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    char *data = NULL;
    size_t len = 0;

    (void)state;
    scratch_write(&s, "f", "hello");
    assert_int_equal(fs_read_file(s.fd, "f", 5, &data, &len), 0);
    assert_int_equal(len, 5);
    assert_string_equal(data, "hello");
    free(data);
    assert_int_equal(fs_read_file(s.fd, "f", 4, &data, &len), -EFBIG);
    assert_int_equal(fs_read_file(s.fd, "none", 4, &data, &len), -ENOENT);
    assert_int_equal(fs_read_file(s.fd, ".", 4, &data, &len), -EISDIR);
    assert_int_equal(mkfifoat(s.fd, "fifo", 0600), 0);
    assert_int_equal(fs_read_file(s.fd, "fifo", 4, &data, &len), -EINVAL); /* and no wait */
    scratch_write(&s, "empty", "");
    assert_int_equal(fs_read_file(s.fd, "empty", 0, &data, &len), 0);
    assert_int_equal(len, 0);
    free(data);
    /* Its size is said to be 0. */
    assert_int_equal(fs_read_file(AT_FDCWD, "/proc/self/status", 65536, &data, &len), 0);
    assert_true(len > 100 && strlen(data) == len);
    free(data);
    assert_int_equal(fs_read_file(AT_FDCWD, "/proc/self/status", 100, &data, &len), -EFBIG);
}

static void files_are_replaced_as_a_whole(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    char *data, name[300];
    struct stat st;
    size_t len;

    (void)state;
    assert_int_equal(fs_write_atomic(s.fd, "f", "one", 3, 0640, true), 0);
    assert_int_equal(fs_write_atomic(s.fd, "f", "two!", 4, 0600, false), 0);
    assert_int_equal(fs_read_file(s.fd, "f", 100, &data, &len), 0);
    assert_string_equal(data, "two!");
    free(data);
    assert_int_equal(fstatat(s.fd, "f", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(mkdirat(s.fd, "d", 0700), 0);
    assert_int_equal(fs_write_atomic(s.fd, "d", "x", 1, 0600, false), -EISDIR);
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(fs_write_atomic(s.fd, name, "x", 1, 0600, false), -ENAMETOOLONG);
    assert_int_equal(count_entries(s.fd), 2); /* nothing half-written is left */
}

static void trees_are_removed_without_following_links(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_free_ char *deep = x_asprintf("%s/tree/a/b/c", s.path);

    (void)state;
    scratch_write(&s, "keep", "x");
    assert_int_equal(mkdirat(s.fd, "keep.d", 0700), 0);
    assert_int_equal(fs_mkdir_p(deep, 0700), 0);
    scratch_write(&s, "moved", "x");
    assert_int_equal(renameat(s.fd, "moved", s.fd, "tree/a/file"), 0);
    assert_int_equal(symlinkat("../../keep", s.fd, "tree/a/link"), 0);
    assert_int_equal(symlinkat("../../keep.d", s.fd, "tree/a/dirlink"), 0);
    assert_int_equal(fs_remove_tree(s.fd, "tree"), 0);
    assert_int_equal(fs_remove_tree(s.fd, "tree"), 0);
    assert_int_equal(count_entries(s.fd), 2);
    assert_int_equal(fs_remove_tree(s.fd, "keep"), 0);
    assert_int_equal(count_entries(s.fd), 1);
}

static void free_space_is_known(void **state)
{
    uint64_t bytes = 0;

    (void)state;
    assert_int_equal(fs_free_bytes(-1, &bytes), -EBADF);
    {
        _cleanup_scratch_ struct scratch s = scratch_new();

        assert_int_equal(fs_free_bytes(s.fd, &bytes), 0);
        assert_true(bytes > 0);
    }
}

static void sockets_work_at_any_depth(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_close_ int listening = -1, client = -1, server = -1, again = -1, deep = -1;
    _cleanup_free_ char *path = NULL;
    char part[101];
    struct stat st;

    (void)state;
    memset(part, 'p', 100);
    part[100] = '\0';
    path = x_asprintf("%s/%s/%s", s.path, part, part); /* more than sun_path holds */
    assert_int_equal(fs_mkdir_p(path, 0700), 0);
    deep = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(fs_unix_connect(deep, "s"), -ENOENT);
    listening = fs_unix_listen(deep, "s", 5);
    assert_true(listening >= 0);
    assert_int_equal(fstatat(deep, "s", &st, 0), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0600);
    client = fs_unix_connect(deep, "s");
    assert_true(client >= 0);
    server = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    assert_true(server >= 0);
    close_p(&listening);
    assert_int_equal(fs_unix_connect(deep, "s"), -ECONNREFUSED);
    again = fs_unix_listen(deep, "s", 5); /* a stale one is replaced */
    assert_true(again >= 0);
    assert_int_equal(fs_unix_listen(AT_FDCWD, path, 5), -ENAMETOOLONG);
}

static int write_half_and_die(void *arg)
{
    const struct scratch *s = arg;
    struct temp_file t;

    if (temp_file_open(&t, s->fd, "f", 0600) == 0 && fs_write_all(t.fd, "half", 4) == 0) {
        (void)raise(SIGKILL);
    }
    return 1;
}

static void a_killed_writer_leaves_nothing(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    int status = test_child(write_half_and_die, &s, false);

    (void)state;
    assert_true(WIFSIGNALED(status));
    (void)temp_file_sweep(s.fd);
    assert_int_equal(count_entries(s.fd), 0);
}

static void a_file_has_its_name_when_it_is_whole(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    char *data = NULL;
    struct temp_file t;
    size_t len = 0;

    (void)state;
    for (int i = 0; i < 2; i++) { /* the second takes the place of the first */
        assert_int_equal(temp_file_open(&t, s.fd, "f", 0640), 0);
        assert_int_equal(fs_write_all(t.fd, i ? "new" : "old", 3), 0);
        assert_int_equal(fs_read_file(s.fd, "f", 9, &data, &len), i ? 0 : -ENOENT);
        assert_int_equal(temp_file_publish(&t, "f"), 0);
        temp_file_done(&t);
        free(STEAL_PTR(data));
        assert_int_equal(fs_read_file(s.fd, "f", 9, &data, &len), 0);
        assert_string_equal(data, i ? "new" : "old");
        free(STEAL_PTR(data));
        assert_int_equal(count_entries(s.fd), 1);
    }
}

static void what_is_not_published_is_removed(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    char longest[NAME_MAX + 1];
    struct temp_file t;

    (void)state;
    assert_int_equal(temp_file_open(&t, s.fd, "f", 0600), 0);
    temp_file_done(&t);
    memset(longest, 'x', NAME_MAX);
    longest[NAME_MAX] = '\0';
    assert_int_equal(temp_file_open(&t, s.fd, longest, 0600), -ENAMETOOLONG);
    temp_file_done(&t);
    assert_int_equal(count_entries(s.fd), 0);
}

static void only_what_dead_writers_left_is_swept(void **state)
{
    static const char *const kept[] = {"f.tmp", "f.0123456789aX.tmp", "0123456789ab.tmp",
                                       "f.0123456789abc.tmp", "f.0123456789ab.tmp2"};
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_close_ int living = -1;
    struct stat st;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        scratch_write(&s, kept[i], "x");
    }
    scratch_write(&s, "data-disk-8.ext4.0123456789ab.tmp", "dead");
    scratch_write(&s, "f.ffffffffffff.tmp", "living");
    assert_int_equal(mkdirat(s.fd, "d.0123456789ab.tmp", 0700), 0);
    living = openat(s.fd, "f.ffffffffffff.tmp", O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(living, LOCK_EX), 0);
    assert_int_equal(temp_file_sweep(s.fd), 1);
    assert_int_equal(fstatat(s.fd, "data-disk-8.ext4.0123456789ab.tmp", &st, 0), -1);
    assert_int_equal(count_entries(s.fd), ARRAY_LEN(kept) + 2);
    close_p(&living);
    assert_int_equal(temp_file_sweep(s.fd), 1);
    assert_int_equal(count_entries(s.fd), ARRAY_LEN(kept) + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_parents_are_made),
        cmocka_unit_test(a_directory_is_opened_or_made),
        cmocka_unit_test(whole_files_are_read_up_to_a_limit),
        cmocka_unit_test(files_are_replaced_as_a_whole),
        cmocka_unit_test(a_file_has_its_name_when_it_is_whole),
        cmocka_unit_test(what_is_not_published_is_removed),
        cmocka_unit_test(a_killed_writer_leaves_nothing),
        cmocka_unit_test(only_what_dead_writers_left_is_swept),
        cmocka_unit_test(trees_are_removed_without_following_links),
        cmocka_unit_test(free_space_is_known),
        cmocka_unit_test(sockets_work_at_any_depth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
