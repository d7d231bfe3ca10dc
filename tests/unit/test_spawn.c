/* Children: their descriptors, environment, signals and ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cancel.h"
#include "base/spawn.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* Runs a script with the pipe as its descriptor 5; what it wrote there, and its wait status. */
static int run_script(const char *script, const char *const *env, bool session, struct buf *out)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    _cleanup_close_ int in = -1, pidfd = -1;
    struct spawn_fd fd = {.as = 5};
    int fds[2], status = -1;
    pid_t pid = -1;
    ssize_t n;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    in = fds[0];
    fd.fd = fds[1];
    assert_int_equal(
        spawn_process(
            &(struct spawn_params){
                .argv = argv, .env = env, .fds = &fd, .fd_count = 1, .new_session = session},
            &pid, &pidfd),
        0);
    (void)close(fds[1]);
    while ((n = buf_read_fd(out, in, 4096)) > 0) {
    }
    assert_int_equal(n, 0);
    assert_int_equal(cancel_wait_fd(NULL, pidfd, POLLIN, test_deadline()), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
    return status;
}

static void check(const char *script, const char *const *env, const char *want)
{
    struct buf out;
    char *got;
    int status;

    buf_init(&out, 65536);
    status = run_script(script, env, false, &out);
    got = buf_steal_str(&out);
    assert_string_equal(got, want);
    assert_int_equal(status, 0);
    free(got);
}

static void a_child_has_just_the_given_descriptors(void **state)
{
    _cleanup_close_ int leaked = open("/dev/null", O_RDONLY); /* not even close-on-exec */

    (void)state;
    assert_true(leaked >= 0);
    check("for f in 0 1 2 3 4 5 6 7 8 9; do "
          "[ -e /proc/$$/fd/$f ] && echo $f $([ /proc/$$/fd/$f -ef /dev/null ] && echo null); "
          "done >&5; :",
          NULL, "0 null\n1\n2 null\n5\n");
}

static void the_environment_is_the_given_one(void **state)
{
    static const char *const env[] = {"A=b c", NULL};

    (void)state;
    check("echo \"$A,$HOME,$LC_ALL\" >&5", env, "b c,,\n");
    check("echo \"$HOME,$PATH\" >&5", NULL,
          ",/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
}

static void the_signal_mask_is_empty_and_nothing_is_ignored(void **state)
{
    sigset_t all, old;

    (void)state;
    sigfillset(&all);
    (void)signal(SIGUSR1, SIG_IGN);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    /* glibc 2.36 leaves its own two signals, 32 and 33, ignored. */
    check("while read -r name value; do case $name in "
          "SigBlk:|SigIgn:) echo $name $((0x$value & 0x7fffffff)) >&5;; esac; "
          "done </proc/self/status",
          NULL, "SigBlk: 0\nSigIgn: 0\n");
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)signal(SIGUSR1, SIG_DFL);
}

static void a_new_session_is_one(void **state)
{
    static const char script[] = "read -r a b c d e session rest </proc/self/stat; "
                                 "[ $session = $$ ] && echo own >&5 || echo ours >&5";
    struct buf out;
    char *got;

    (void)state;
    buf_init(&out, 100);
    assert_int_equal(run_script(script, NULL, true, &out), 0);
    got = buf_steal_str(&out);
    assert_string_equal(got, "own\n");
    free(got);
    check(script, NULL, "ours\n");
}

static void ends_are_told(void **state)
{
    struct buf out;
    int status;

    (void)state;
    buf_init(&out, 100);
    status = run_script("exit 7", NULL, false, &out);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    status = run_script("kill -TERM $$", NULL, false, &out);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    buf_done(&out);
}

static void a_program_that_is_not_there_is_an_error(void **state)
{
    const char *const path[] = {"/no/such/program", NULL}, *const name[] = {"no-such-program",
                                                                            NULL};
    const char *const dir[] = {"/tmp", NULL};
    int pidfd = -1;
    pid_t pid = -1;

    (void)state;
    assert_int_equal(spawn_process(&(struct spawn_params){.argv = path}, &pid, &pidfd), -ENOENT);
    assert_int_equal(spawn_process(&(struct spawn_params){.argv = name}, &pid, &pidfd), -ENOENT);
    assert_int_equal(spawn_process(&(struct spawn_params){.argv = dir}, &pid, &pidfd), -EACCES);
    assert_int_equal(pid, -1);
    assert_int_equal(pidfd, -1);
}

/* 3 becomes 4 and 4 becomes 3, whatever numbers ours have. */
static void descriptors_may_swap_their_numbers(void **state)
{
    const char *const argv[] = {"/bin/sh", "-c", "echo three >&3; echo four >&4", NULL};
    struct spawn_fd fds[2];
    int a[2], b[2], pidfd = -1, low, high;
    char text[16] = {0};
    pid_t pid;

    (void)state;
    assert_int_equal(pipe2(a, O_CLOEXEC), 0);
    assert_int_equal(pipe2(b, O_CLOEXEC), 0);
    low = a[1] < b[1] ? a[1] : b[1];
    high = a[1] < b[1] ? b[1] : a[1];
    fds[0] = (struct spawn_fd){.fd = high, .as = 3};
    fds[1] = (struct spawn_fd){.fd = low, .as = 4};
    assert_int_equal(spawn_process(&(struct spawn_params){.argv = argv, .fds = fds, .fd_count = 2},
                                   &pid, &pidfd),
                     0);
    (void)waitpid(pid, NULL, 0);
    assert_int_equal(read(high == a[1] ? a[0] : b[0], text, sizeof(text)), 6);
    assert_memory_equal(text, "three\n", 6);
    assert_int_equal(read(low == a[1] ? a[0] : b[0], text, sizeof(text)), 5);
    assert_memory_equal(text, "four\n", 5);
    (void)close(pidfd);
    for (int i = 0; i < 2; i++) {
        (void)close(a[i]);
        (void)close(b[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_has_just_the_given_descriptors),
        cmocka_unit_test(the_environment_is_the_given_one),
        cmocka_unit_test(the_signal_mask_is_empty_and_nothing_is_ignored),
        cmocka_unit_test(a_new_session_is_one),
        cmocka_unit_test(ends_are_told),
        cmocka_unit_test(a_program_that_is_not_there_is_an_error),
        cmocka_unit_test(descriptors_may_swap_their_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
