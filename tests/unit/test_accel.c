/* vmm/accel: the probe's verdicts, with a back end whose "guest" is a listening socket. */
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "base/thread.h"
#include "vmm/accel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#define LONG_MS 20000

enum behaviour {
    ANSWERS, /* a byte comes */
    SILENT,
    DIES, /* with something in its log */
    CANNOT_START,
};

/* The back end has no argument of its own, so the tests of this program share one. */
static struct {
    enum behaviour behaviour;
    const char *version;
    int launches, alive;
} fake;

struct vmm {
    int listen_fd, peer_fd;
    pthread_t guest;
    bool has_guest;
};

/* Reads what it is sent, as a guest does, and says something. */
static void *guest_main(void *arg)
{
    struct vmm *vmm = arg;
    char hello[64];

    (void)cancel_wait_fd(NULL, vmm->listen_fd, POLLIN, clock_mono_ms() + LONG_MS);
    vmm->peer_fd = accept4(vmm->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (vmm->peer_fd >= 0 && read(vmm->peer_fd, hello, sizeof(hello)) > 0) {
        (void)send(vmm->peer_fd, "x", 1, MSG_NOSIGNAL);
    }
    return NULL;
}

static int fake_version(char *ret_version, struct err *err)
{
    (void)err;
    snprintf(ret_version, 32, "%s", fake.version);
    return 0;
}

static int fake_launch(struct loop *loop, const struct vmm_spec *spec, vmm_event_fn fn, void *arg,
                       struct vmm **ret_vmm, struct err *err)
{
    struct vmm *vmm;

    (void)loop;
    (void)fn;
    (void)arg;
    assert_int_equal(spec->accel, VMM_ACCEL_KVM);
    assert_int_equal(spec->root_disk_fd, -1);
    assert_int_equal(spec->data_disk_fd, -1);
    if (fake.behaviour == CANNOT_START) {
        return err_set(err, ERR_UNSUPPORTED, "not installed");
    }
    vmm = x_calloc(1, sizeof(*vmm));
    vmm->peer_fd = -1;
    vmm->listen_fd = fs_unix_listen(spec->run_dir_fd, "agent.sock", 1);
    assert_true(vmm->listen_fd >= 0);
    fake.launches++;
    fake.alive++;
    if (fake.behaviour == ANSWERS) {
        assert_int_equal(thread_start(&vmm->guest, "guest", 256, guest_main, vmm), 0);
        vmm->has_guest = true;
    } else if (fake.behaviour == DIES) {
        assert_int_equal(fs_write_all(spec->log_fd, "no \xc3\xa4 MSR\n", 10), 0);
        close_p(&vmm->listen_fd);
    }
    *ret_vmm = vmm;
    return 0;
}

static int fake_kill(struct vmm *vmm, struct err *err)
{
    (void)vmm;
    (void)err;
    return 0;
}

static int fake_wait_exit(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms,
                          struct vmm_exit *ret_exit)
{
    (void)vmm;
    (void)cancel;
    (void)deadline_ms;
    *ret_exit = (struct vmm_exit){.signal = 9};
    return 0;
}

static void fake_free(struct vmm *vmm)
{
    if (vmm->has_guest) {
        pthread_join(vmm->guest, NULL);
    }
    close_p(&vmm->listen_fd);
    close_p(&vmm->peer_fd);
    free(vmm);
    fake.alive--;
}

static const struct vmm_ops fake_ops = {
    .name = "fake",
    .version = fake_version,
    .launch = fake_launch,
    .kill = fake_kill,
    .wait_exit = fake_wait_exit,
    .free = fake_free,
};

struct fixture {
    char dir[64];
    int dir_fd;
    struct loop *loop;
    struct vmm_probe_params params;
    enum vmm_accel accel;
    char why[ACCEL_WHY_SIZE];
    struct err err;
};

static int setup(void **state)
{
    struct fixture *f = x_calloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/test-accel-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(loop_new("vmm", &f->loop), 0);
    f->params = (struct vmm_probe_params){
        .kernel_fd = -1,
        .initramfs_fd = -1,
        .cmdline = "",
        .kernel_key = "k1",
        .cache_dir_fd = f->dir_fd,
        .work_dir = f->dir,
        .work_dir_fd = f->dir_fd,
        .timeout_ms = LONG_MS,
        .kvm_path = "/dev/null",
    };
    fake.behaviour = ANSWERS;
    fake.version = "1.0";
    fake.launches = fake.alive = 0;
    *state = f;
    return 0;
}

/* Nothing stays but the cache. */
static int teardown(void **state)
{
    struct fixture *f = *state;
    struct dirent *e;
    DIR *dir = opendir(f->dir);

    assert_int_equal(fake.alive, 0);
    while ((e = readdir(dir))) {
        assert_true(e->d_name[0] == '.' || str_eq(e->d_name, ACCEL_CACHE_FILE));
    }
    closedir(dir);
    loop_free(f->loop);
    close_p(&f->dir_fd);
    assert_int_equal(fs_remove_tree(AT_FDCWD, f->dir), 0);
    free(f);
    return 0;
}

static int probe(struct fixture *f, struct cancel *cancel)
{
    memset(f->why, 'x', sizeof(f->why));
    return vmm_accel_probe(f->loop, &fake_ops, &f->params, cancel, &f->accel, f->why, &f->err);
}

static void assert_tcg(struct fixture *f, const char *why)
{
    assert_int_equal(probe(f, NULL), 0);
    assert_int_equal(f->accel, VMM_ACCEL_TCG);
    if (!strstr(f->why, why)) {
        fail_msg("'%s' is not in '%s'", why, f->why);
    }
}

static void a_guest_that_answers_proves_kvm(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(probe(f, NULL), 0);
    assert_int_equal(f->accel, VMM_ACCEL_KVM);
    assert_string_equal(f->why, "");
}

static void without_the_device_nothing_is_started(void **state)
{
    struct fixture *f = *state;

    f->params.kvm_path = "/no/kvm";
    assert_tcg(f, "/no/kvm: No such file or directory");
    assert_int_equal(fake.launches, 0);
}

static void a_silent_guest_is_tcg_at_the_deadline(void **state)
{
    struct fixture *f = *state;

    fake.behaviour = SILENT;
    f->params.timeout_ms = 50;
    assert_tcg(f, "did not answer within 0.05 s");
}

static void a_vmm_that_ends_is_tcg_with_its_last_words(void **state)
{
    struct fixture *f = *state;

    fake.behaviour = DIES;
    assert_tcg(f, "fake ended under KVM: no ?? MSR");
}

static void a_vmm_that_cannot_start_is_no_verdict(void **state)
{
    struct fixture *f = *state;

    fake.behaviour = CANNOT_START;
    assert_int_equal(probe(f, NULL), -1);
    assert_int_equal(f->err.code, ERR_UNSUPPORTED);
    fake.behaviour = ANSWERS;
    assert_int_equal(probe(f, NULL), 0);
    assert_int_equal(f->accel, VMM_ACCEL_KVM);
}

static void a_cancelled_probe_is_no_verdict(void **state)
{
    struct fixture *f = *state;
    struct cancel *cancel = cancel_new();

    fake.behaviour = SILENT;
    cancel_trigger(cancel);
    assert_int_equal(probe(f, cancel), -1);
    assert_int_equal(f->err.code, ERR_CANCELLED);
    cancel_put(cancel);
    assert_int_equal(faccessat(f->dir_fd, ACCEL_CACHE_FILE, F_OK, 0), -1);
}

static void a_verdict_is_kept_until_version_or_kernel_change(void **state)
{
    struct fixture *f = *state;

    fake.behaviour = DIES;
    assert_tcg(f, "MSR");
    assert_tcg(f, "MSR");
    assert_int_equal(fake.launches, 1);
    fake.version = "1.1";
    assert_tcg(f, "MSR");
    assert_int_equal(fake.launches, 2);
    f->params.kernel_key = "k2";
    fake.behaviour = ANSWERS;
    assert_int_equal(probe(f, NULL), 0);
    assert_int_equal(f->accel, VMM_ACCEL_KVM);
    assert_int_equal(probe(f, NULL), 0);
    assert_int_equal(f->accel, VMM_ACCEL_KVM);
    assert_int_equal(fake.launches, 3);
}

static void a_damaged_cache_is_done_again(void **state)
{
    static const char *const bad[] = {"", "{", "[]", "{\"key\": 1}", "{\"accel\": \"kvm\"}"};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(
            fs_write_atomic(f->dir_fd, ACCEL_CACHE_FILE, bad[i], strlen(bad[i]), 0600, false), 0);
        assert_int_equal(probe(f, NULL), 0);
        assert_int_equal(f->accel, VMM_ACCEL_KVM);
        assert_int_equal(fake.launches, (int)i + 1);
    }
}

int main(void)
{
#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH(a_guest_that_answers_proves_kvm),
        WITH(without_the_device_nothing_is_started),
        WITH(a_silent_guest_is_tcg_at_the_deadline),
        WITH(a_vmm_that_ends_is_tcg_with_its_last_words),
        WITH(a_vmm_that_cannot_start_is_no_verdict),
        WITH(a_cancelled_probe_is_no_verdict),
        WITH(a_verdict_is_kept_until_version_or_kernel_change),
        WITH(a_damaged_cache_is_done_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
