/* vmm/fake with its real program: what the daemon's verbs do not show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cancel.h"
#include "base/str.h"
#include "scratch.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static const struct vmm_ops *const ops = &vmm_fake_ops;

struct fixture {
    struct scratch scratch;
    struct loop *loop;
    int console_fd, said_fd; /* a pipe */
    int log_fd;
    char program[4096];
    atomic_int exited, resumed;
};

static void on_event(void *arg, enum vmm_event event)
{
    struct fixture *f = arg;

    f->exited += event == VMM_EXITED;
    f->resumed += event == VMM_RESUMED;
}

static void fixture_init(struct fixture *f)
{
    char self[4000] = "";
    int console[2];

    memset(f, 0, sizeof(*f));
    f->scratch = scratch_new();
    assert_int_equal(loop_new("control", &f->loop), 0);
    assert_int_equal(pipe2(console, O_CLOEXEC), 0);
    f->console_fd = console[1];
    f->log_fd = openat(f->scratch.fd, "vmm.log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    f->said_fd = console[0];
    /* It lies beside this program. */
    assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    (void)snprintf(f->program, sizeof(f->program), "%s/banger-fakevmm", dirname(self));
}

static void fixture_done(struct fixture *f)
{
    close_p(&f->console_fd);
    close_p(&f->log_fd);
    close_p(&f->said_fd);
    loop_free(f->loop);
    scratch_done(&f->scratch);
}

static struct vmm *launch(struct fixture *f, const char *faults)
{
    struct vmm_spec spec = {
        .name = "x",
        .run_dir = f->scratch.path,
        .run_dir_fd = f->scratch.fd,
        .program = f->program,
        .faults = faults,
        .kernel_fd = -1,
        .initramfs_fd = -1,
        .root_disk_fd = -1,
        .data_disk_fd = -1,
        .memory_fd = -1,
        .state_fd = -1,
        .tap_fd = -1,
        .console_fd = f->console_fd,
        .log_fd = f->log_fd,
    };
    struct vmm *vmm = NULL;
    struct err err;
    char c;

    assert_int_equal(ops->launch(f->loop, &spec, on_event, f, &vmm, &err), 0);
    /* The kernel lets us go on a moment before a new program has its command line. */
    assert_int_equal(cancel_wait_fd(NULL, f->said_fd, POLLIN, test_deadline()), 0);
    assert_int_equal(read(f->said_fd, &c, 1), 1);
    return vmm;
}

static struct vmm_exit await_exit(struct vmm *vmm)
{
    struct vmm_exit ended = {0};

    assert_int_equal(ops->wait_exit(vmm, NULL, test_deadline(), &ended), 0);
    return ended;
}

static void its_exit_is_told(void **state)
{
    struct fixture f;
    struct vmm_exit ended;
    struct vmm *vmm;

    (void)state;
    fixture_init(&f);
    vmm = launch(&f, "exit@boot");
    ended = await_exit(vmm);
    assert_int_equal(ended.code, 3);
    assert_int_equal(ended.signal, 0);
    ops->free(vmm);
    assert_int_equal(f.exited, 1);
    fixture_done(&f);

    fixture_init(&f);
    vmm = launch(&f, NULL);
    assert_int_equal(ops->wait_exit(vmm, NULL, 1, &ended), -ETIMEDOUT);
    assert_int_equal(ops->kill(vmm, &(struct err){0}), 0);
    ended = await_exit(vmm);
    assert_int_equal(ended.code, -1);
    assert_int_equal(ended.signal, SIGKILL);
    assert_int_equal(ops->kill(vmm, &(struct err){0}), 0); /* too late is no error */
    ops->free(vmm);
    ops->free(NULL);
    fixture_done(&f);
}

static void a_paused_one_stops_and_goes_on(void **state)
{
    struct fixture f;
    struct vmm *vmm;
    siginfo_t info;
    struct err err;
    id_t pid;

    (void)state;
    fixture_init(&f);
    vmm = launch(&f, NULL);
    pid = (id_t)ops->process(vmm)->pid;
    assert_int_equal(ops->pause(vmm, NULL, test_deadline(), &err), 0);
    assert_int_equal(waitid(P_PID, pid, &info, WSTOPPED), 0);
    assert_int_equal(info.si_status, SIGSTOP);
    assert_int_equal(f.resumed, 0);
    assert_int_equal(ops->resume(vmm, NULL, test_deadline(), &err), 0);
    assert_int_equal(waitid(P_PID, pid, &info, WCONTINUED), 0);
    assert_int_equal(f.resumed, 1);
    assert_int_equal(ops->kill(vmm, &(struct err){0}), 0);
    (void)await_exit(vmm);
    assert_int_equal(ops->pause(vmm, NULL, test_deadline(), &err), -1);
    assert_int_equal(err.code, ERR_NOT_RUNNING);
    ops->free(vmm);
    fixture_done(&f);
}

static void an_adopted_one_is_watched_and_killed(void **state)
{
    struct vmm_process process;
    struct fixture f;
    struct vmm *vmm, *adopted;
    struct vmm_exit ended;
    struct err err;

    (void)state;
    fixture_init(&f);
    vmm = launch(&f, NULL);
    process = *ops->process(vmm);
    assert_int_equal(ops->adopt(f.loop, NULL, f.scratch.path, f.scratch.fd, &process, on_event, &f,
                                &adopted, &err),
                     0);
    assert_int_equal(ops->kill(adopted, &(struct err){0}), 0);
    /* Whoever is first takes the exit of our child; for the other one it is not its own. */
    ended = await_exit(adopted);
    assert_true(ended.signal == SIGKILL || await_exit(vmm).signal == SIGKILL);
    (void)await_exit(vmm);
    ops->free(adopted);
    ops->free(vmm);
    assert_int_equal(f.exited, 2);
    assert_int_equal(ops->adopt(f.loop, NULL, f.scratch.path, f.scratch.fd, &process, on_event, &f,
                                &adopted, &err),
                     -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    fixture_done(&f);
}

static void back_ends_are_found_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(vmm_ops_find("fake"), &vmm_fake_ops);
    assert_ptr_equal(vmm_ops_find("qemu"), &vmm_qemu_ops);
    assert_null(vmm_ops_find("auto"));
    assert_null(vmm_ops_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_exit_is_told),
        cmocka_unit_test(a_paused_one_stops_and_goes_on),
        cmocka_unit_test(an_adopted_one_is_watched_and_killed),
        cmocka_unit_test(back_ends_are_found_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
