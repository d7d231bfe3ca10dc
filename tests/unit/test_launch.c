/* banger-launch: its command line, and its groups, in a directory that stands for cgroup v2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/spawn.h"
#include "base/str.h"
#include "host/cgroup.h"
#include "host/host_priv.h"
#include "launch/launch.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static int parse(struct launch_options *ret, const char **ret_wrong, const char *const *args)
{
    static char *argv[32]; /* what is parsed borrows it */
    int argc = 1;

    argv[0] = (char *)LAUNCH_PROGRAM;
    for (; args[argc - 1]; argc++) {
        argv[argc] = (char *)args[argc - 1];
    }
    argv[argc] = NULL;
    return launch_parse(argc, argv, ret, ret_wrong);
}
#define PARSE(o, wrong, ...) parse(o, wrong, (const char *const[]){__VA_ARGS__, NULL})

static void every_option_is_read(void **state)
{
    struct launch_options o;
    const char *wrong;

    (void)state;
    assert_int_equal(PARSE(&o, &wrong, "report=10", "uid=5", "gid=6", "userns=1", "root=1", "kvm=1",
                           "bind=/lib", "bind=/usr/share/qemu", "as=1", "fsize=2", "nproc=3",
                           "nofile=4", "cgroup=/c", "cgroup_memory=9223372036854775807", "--",
                           "/bin/true", "true", "--", "x=y"),
                     0);
    assert_null(wrong);
    assert_int_equal(o.report_fd, 10);
    assert_true(o.has_ids && o.user_namespace && o.own_root && o.kvm);
    assert_int_equal(o.uid, 5);
    assert_int_equal(o.gid, 6);
    assert_int_equal(o.bind_count, 2);
    assert_string_equal(o.binds[1], "/usr/share/qemu");
    assert_int_equal(o.memory_bytes, 1);
    assert_int_equal(o.file_bytes, 2);
    assert_int_equal(o.tasks, 3);
    assert_int_equal(o.files, 4);
    assert_string_equal(o.cgroup, "/c");
    assert_true(o.cgroup_memory == INT64_MAX);
    assert_string_equal(o.program, "/bin/true");
    assert_string_equal(o.argv[0], "true");
    assert_string_equal(o.argv[2], "x=y");
}

static void nothing_that_is_wrong_or_missing_is_accepted(void **state)
{
    static const char *const args[] = {
        "uid=0",   "uid=4294967294", "uid=-1",     "uid=",
        "gid=x",   "report=2",       "report=256", "kvm=2",
        "kvm=yes", "bind=lib",       "as=1x",      "as=0x10",
        "as= 1",   "nosuch=1",       "cgroup=",    "nofile=1k",
        "userns",  "root=-0",        "/bin/true",  "",
        "uid=1",   "gid=1",          "nproc=10",   "as=9223372036854775808",
    };
    struct launch_options o;
    const char *wrong;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(args); i++) {
        assert_int_equal(PARSE(&o, &wrong, "report=10", args[i], "--", "/bin/true", "true"), -1);
        assert_non_null(wrong);
    }
    assert_int_equal(PARSE(&o, &wrong, "root=1", "--", "/bin/true", "true"), -1);
    assert_string_equal(wrong, "report=");
    assert_int_equal(o.report_fd, -1);
    assert_int_equal(PARSE(&o, &wrong, "report=10"), -1);
    assert_int_equal(PARSE(&o, &wrong, "report=10", "--", "true", "true"), -1);
    assert_int_equal(PARSE(&o, &wrong, "report=10", "--", "/bin/true"), -1);
    /* Who waits is told in spite of it. */
    assert_int_equal(PARSE(&o, &wrong, "what=1", "report=10", "--", "/bin/true", "true"), -1);
    assert_string_equal(wrong, "what=1");
    assert_int_equal(o.report_fd, 10);
}

static void there_are_no_more_binds_than_have_room(void **state)
{
    const char *args[LAUNCH_BINDS_MAX + 6] = {"report=10"};
    struct launch_options o;
    const char *wrong;
    size_t n = 1;

    (void)state;
    while (n <= LAUNCH_BINDS_MAX) {
        args[n++] = "bind=/lib";
    }
    args[n] = "--";
    args[n + 1] = "/bin/true";
    args[n + 2] = "true";
    assert_int_equal(parse(&o, &wrong, args), 0);
    args[n++] = "bind=/lib";
    args[n] = "--";
    args[n + 1] = "/bin/true";
    args[n + 2] = "true";
    assert_int_equal(parse(&o, &wrong, args), -1);
}

/* Runs the real program; its report, with errnum 0 when there was none. */
static struct launch_report run(const char *const *options, const char *program)
{
    char self[4000] = "", launcher[4096];
    struct launch_report report = {{0}, 0};
    const char *argv[32] = {launcher};
    int fds[2], pidfd = -1, status;
    size_t n = 1;
    pid_t pid;

    assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    (void)snprintf(launcher, sizeof(launcher), "%s/banger-launch", dirname(self));
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    argv[n++] = "report=3";
    for (; *options; options++) {
        argv[n++] = *options;
    }
    argv[n++] = "--";
    argv[n++] = program;
    argv[n++] = program;
    assert_int_equal(spawn_process(&(struct spawn_params){.argv = argv,
                                                          .fds = &(struct spawn_fd){fds[1], 3},
                                                          .fd_count = 1},
                                   &pid, &pidfd),
                     0);
    (void)close(fds[1]);
    assert_true(read(fds[0], &report, sizeof(report)) >= 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status == 0, report.errnum == 0);
    (void)close(fds[0]);
    (void)close(pidfd);
    return report;
}
#define RUN(program, ...) run((const char *const[]){__VA_ARGS__, NULL}, program)

static void a_step_that_fails_is_reported_with_its_error(void **state)
{
    struct launch_report report;

    (void)state;
    assert_int_equal(RUN("/bin/true", "kvm=0").errnum, 0);
    report = RUN("/nonexistent", "kvm=0");
    assert_int_equal(report.errnum, ENOENT);
    assert_string_equal(report.step, "start of /nonexistent");
    report = RUN("/bin/true", "nonsense");
    assert_int_equal(report.errnum, EINVAL);
    assert_string_equal(report.step, "argument nonsense");
    report = RUN("/bin/true", "cgroup=/nonexistent/group");
    assert_int_equal(report.errnum, ENOENT);
    assert_string_equal(report.step, "cgroup");
}

/* Runs a shell command in a confined process: its status, 0 when it was allowed to. */
static int run_inside(const char *command)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_free_ char *script = x_asprintf("#!/bin/sh\n%s\n", command);
    _cleanup_free_ char *path = x_asprintf("%s/script", s.path);
    char self[4000] = "", launcher[4096];
    int status, pidfd;
    pid_t child;

    scratch_write(&s, "script", script);
    assert_int_equal(fchmodat(s.fd, "script", 0700, 0), 0);
    assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    (void)snprintf(launcher, sizeof(launcher), "%s/banger-launch", dirname(self));
    assert_int_equal(
        spawn_process(&(struct spawn_params){.argv = (const char *const[]){launcher, "report=3",
                                                                           "--", path, path, NULL},
                                             .fds = &(struct spawn_fd){STDERR_FILENO, 3},
                                             .fd_count = 1},
                      &child, &pidfd),
        0);
    (void)close(pidfd);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void no_other_process_can_be_signalled(void **state)
{
    char parent[32];

    (void)state;
    (void)snprintf(parent, sizeof(parent), "kill -0 %d", getpid());
    assert_int_equal(run_inside("kill -0 $$"), 0);
    assert_int_not_equal(run_inside(parent), 0);
    assert_int_not_equal(run_inside("kill -0 0"), 0);
    assert_int_not_equal(run_inside("kill -0 -1"), 0);
}

static void no_file_becomes_writable(void **state)
{
    (void)state;
    assert_int_equal(run_inside("test -x $0"), 0);
    assert_int_not_equal(run_inside("chmod 0777 $0"), 0);
    assert_int_not_equal(run_inside("chown 0 $0"), 0);
}

static void no_limit_changes(void **state)
{
    (void)state;
    assert_int_equal(run_inside("ulimit -f && ulimit -H -f"), 0);
    assert_int_not_equal(run_inside("ulimit -S -f 1000"), 0);
    assert_int_not_equal(run_inside("ulimit -n 10"), 0);
    assert_int_not_equal(run_inside("prlimit --pid $$ --fsize=1000:"), 0);
}

static void assert_file(const struct scratch *s, const char *path, const char *content)
{
    _cleanup_free_ char *text = NULL;
    size_t len;

    assert_int_equal(fs_read_file(s->fd, path, 1000, &text, &len), 0);
    assert_string_equal(text, content);
}

static void a_vmm_gets_a_group_with_limits(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_free_ char *option = NULL, *name = NULL, *file = NULL;
    char why[CGROUP_WHY_SIZE], *dir;

    (void)state;
    scratch_write(&s, "cgroup.controllers", "cpu memory pids\n");
    dir = cgroup_open(s.path, "/run/banger", why);
    assert_non_null(dir);
    assert_file(&s, "cgroup.subtree_control", "+memory +pids");
    name = x_strdup(dir + strlen(s.path) + 1);
    file = x_asprintf("%s/cgroup.subtree_control", name);
    assert_file(&s, file, "+memory +pids");
    option = x_asprintf("cgroup=%s/abc", dir);
    assert_int_equal(RUN("/bin/true", option, "cgroup_memory=1234567").errnum, 0);
    free(file);
    file = x_asprintf("%s/abc/memory.max", name);
    assert_file(&s, file, "1234567");
    free(file);
    file = x_asprintf("%s/abc/cgroup.procs", name);
    assert_file(&s, file, "0"); /* who writes is meant */
    cgroup_close(dir);
}

static void groups_are_removed_when_nobody_is_in_them(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_free_ char *empty = NULL, *used = NULL, *inside = NULL;
    char why[CGROUP_WHY_SIZE], *dir;

    (void)state;
    scratch_write(&s, "cgroup.controllers", "memory pids\n");
    scratch_write(&s, "cgroup.subtree_control", "pids memory\n");
    dir = cgroup_open(s.path, "x", why);
    assert_non_null(dir);
    assert_file(&s, "cgroup.subtree_control", "pids memory\n"); /* as it was */
    empty = x_asprintf("%s/empty", dir);
    used = x_asprintf("%s/used", dir);
    inside = x_asprintf("%s/used/inside", dir);
    assert_int_equal(mkdir(empty, 0700), 0);
    assert_int_equal(fs_mkdir_p(inside, 0700), 0);
    cgroup_sweep(dir);
    assert_int_equal(access(empty, F_OK), -1);
    assert_int_equal(access(used, F_OK), 0);
    cgroup_close(dir);
}

static void without_the_controllers_there_is_a_reason(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    char why[CGROUP_WHY_SIZE];

    (void)state;
    assert_null(cgroup_open(s.path, "x", why));
    assert_non_null(strstr(why, "has not both controllers"));
    scratch_write(&s, "cgroup.controllers", "hugetlb memory\n");
    assert_null(cgroup_open(s.path, "x", why));
    assert_non_null(strstr(why, s.path));
}

static void uids_follow_from_the_run_directory_and_stay_in_their_range(void **state)
{
    uid_t first = host_vmm_uid("/run/banger/vms/a", 0, 1000, 50);

    (void)state;
    assert_int_equal(host_vmm_uid("/run/banger/vms/a", 0, 1000, 50), first);
    assert_int_not_equal(host_vmm_uid("/run/banger/vms/b", 0, 1000, 1000000),
                         host_vmm_uid("/run/banger/vms/a", 0, 1000, 1000000));
    for (unsigned i = 0; i < 50; i++) {
        uid_t uid = host_vmm_uid("/run/banger/vms/a", i, 1000, 50);

        assert_in_range(uid, 1000, 1049);
        assert_int_equal((uid - 1000 + 50 - i) % 50, first - 1000); /* each once */
    }
    assert_int_equal(host_vmm_uid("/x", 7, 4294967293U, 1), 4294967293U);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option_is_read),
        cmocka_unit_test(nothing_that_is_wrong_or_missing_is_accepted),
        cmocka_unit_test(there_are_no_more_binds_than_have_room),
        cmocka_unit_test(a_step_that_fails_is_reported_with_its_error),
        cmocka_unit_test(no_other_process_can_be_signalled),
        cmocka_unit_test(no_file_becomes_writable),
        cmocka_unit_test(no_limit_changes),
        cmocka_unit_test(a_vmm_gets_a_group_with_limits),
        cmocka_unit_test(groups_are_removed_when_nobody_is_in_them),
        cmocka_unit_test(without_the_controllers_there_is_a_reason),
        cmocka_unit_test(uids_follow_from_the_run_directory_and_stay_in_their_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
