/* host/process, vmm/vmm: telling our processes from others, and their last words. */
#include "base/fs.h"
#include "host/process.h"
#include "vmm/vmm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#define REST " S 1 2 3 0 -1 4194560 5 6 7 8 9 10 11 12 20 0 1 0 "

static void start_ticks_are_found_behind_any_name(void **state)
{
    uint64_t ticks = 0;

    (void)state;
    assert_int_equal(process_parse_start_ticks("12 (qemu)" REST "4711 99 1", &ticks), 0);
    assert_int_equal(ticks, 4711);
    assert_int_equal(process_parse_start_ticks("12 (a) S 1 (b c)" REST "4712 99\n", &ticks), 0);
    assert_int_equal(ticks, 4712);
    assert_int_equal(process_parse_start_ticks("12 (()) )" REST "18446744073709551615\n", &ticks),
                     0);
    assert_int_equal(ticks, UINT64_MAX);
}

static void a_malformed_stat_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "12 qemu S 1",
        "12 (qemu)",
        "12 (qemu) S 1 2",
        "12 (qemu)" REST,
        "12 (qemu)" REST "-1 0",
        "12 (qemu)" REST "x 0",
        "12 (qemu)" REST "18446744073709551616 0",
    };
    uint64_t ticks = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(process_parse_start_ticks(bad[i], &ticks), -EPROTO);
    }
    assert_int_equal(ticks, 7);
}

static bool has(const char *cmdline, size_t size, const char *path)
{
    return process_cmdline_has_path(cmdline, size, path);
}
#define HAS(cmdline, path) has(cmdline, sizeof(cmdline), path)

static void a_path_counts_only_as_a_whole(void **state)
{
    (void)state;
    assert_true(HAS("qemu\0-L\0/run/a", "/run/a"));
    assert_true(HAS("qemu\0/run/a", "/run/a"));
    assert_true(HAS("qemu\0path=/run/a/x,y", "/run/a"));
    assert_true(HAS("qemu\0x,/run/a,y", "/run/a"));
    assert_true(HAS("qemu\0/run/ab\0/run/a", "/run/a"));
    assert_true(has("/run/a", 6, "/run/a"));
    assert_false(HAS("qemu\0/run/ab", "/run/a"));
    assert_false(HAS("qemu\0/var/run/a", "/run/a"));
    assert_false(HAS("qemu\0/run\0/a", "/run/a"));
    assert_false(HAS("qemu", ""));
    assert_false(has("", 0, "/run/a"));
}

static void this_process_is_recognised(void **state)
{
    struct vmm_process me, other;
    char self[PATH_MAX] = {0};
    int fd;

    (void)state;
    assert_int_equal(process_identify(getpid(), &me), 0);
    assert_int_equal(me.pid, getpid());
    assert_true(me.start_ticks > 0);
    assert_int_equal(strlen(me.boot_id), 36);
    /* The first argument is the program's path. */
    fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    assert_true(read(fd, self, sizeof(self) - 1) > 0);
    close(fd);

    fd = process_open(&me, self);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(process_open(&me, "/no/such/run/dir"), -ESRCH);
    other = me;
    other.start_ticks++;
    assert_int_equal(process_open(&other, self), -ESRCH);
    other = me;
    other.boot_id[0] ^= 1;
    assert_int_equal(process_open(&other, self), -ESRCH);
    other = me;
    other.pid = 0;
    assert_int_equal(process_open(&other, self), -ESRCH);
    other.pid = INT_MAX;
    assert_int_equal(process_open(&other, self), -ESRCH);
}

static void the_log_tail_is_escaped_and_bounded(void **state)
{
    char template[] = "/tmp/test-vmm-XXXXXX";
    char *dir = mkdtemp(template);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), log;
    char *tail;

    (void)state;
    assert_true(fd >= 0);
    log = openat(fd, "vmm.log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(log >= 0);
    tail = vmm_log_tail(log, 100);
    assert_string_equal(tail, "");
    free(tail);
    assert_int_equal(fs_write_all(log, "first\nlast \033[31mred\n", 20), 0);
    tail = vmm_log_tail(log, 100);
    assert_string_equal(tail, "first\\nlast \\x1b[31mred");
    free(tail);
    tail = vmm_log_tail(log, 4);
    assert_string_equal(tail, "red");
    free(tail);
    close(log);
    close(fd);
    assert_int_equal(fs_remove_tree(AT_FDCWD, dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(start_ticks_are_found_behind_any_name),
        cmocka_unit_test(a_malformed_stat_is_refused),
        cmocka_unit_test(a_path_counts_only_as_a_whole),
        cmocka_unit_test(this_process_is_recognised),
        cmocka_unit_test(the_log_tail_is_escaped_and_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
