/* host/: what daemon and helper say to each other, what the helper allows, and who learns of ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cancel.h"
#include "base/str.h"
#include "host/helper.h"
#include "host/host_priv.h"
#include "host/wire.h"
#include "scratch.h"
#include "vmm/qemu/qemu_cmdline.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define RUNTIME_DIR "/run/banger"
#define RUN_DIR RUNTIME_DIR "/vms/0123abcd"

/* A VM as the QEMU back end starts it; with state_fd one that was saved. */
static struct qemu_cmdline cmdline_of(enum vmm_accel accel, int memory_fd, int state_fd)
{
    const struct vmm_spec spec = {
        .name = "web-1",
        .run_dir = RUN_DIR,
        .accel = accel,
        .vcpus = 2,
        .memory_mib = 512,
        .cmdline = "console=ttyS0 path=/any/thing",
        .root_disk_fd = 5,
        .data_disk_fd = 6,
        .memory_fd = memory_fd,
        .state_fd = state_fd,
        .tap_fd = 7,
    };
    struct qemu_cmdline c;
    struct err err;

    assert_int_equal(qemu_cmdline_build(&spec, &c, &err), 0);
    return c;
}

static struct qemu_cmdline cmdline(enum vmm_accel accel)
{
    return cmdline_of(accel, -1, -1);
}

static const struct spawn_fd some_fds[] = {{0, 1}, {0, 3}, {0, 9}};

static struct host_launch launch_of(const struct qemu_cmdline *c)
{
    return (struct host_launch){
        .argv = (const char *const *)c->argv,
        .fds = some_fds,
        .fd_count = ARRAY_LEN(some_fds),
        .run_dir = RUN_DIR,
        .memory_mib = 512,
        .vcpus = 2,
        .disk_bytes = 8ULL << 30,
        .kvm = true,
    };
}

static void a_launch_arrives_as_it_was_sent(void **state)
{
    _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};
    struct qemu_cmdline c = cmdline(VMM_ACCEL_TCG);
    struct host_launch sent = launch_of(&c);
    struct wire_request got;

    (void)state;
    assert_int_equal(wire_put_launch(&b, &sent), 0);
    assert_int_equal(wire_parse(buf_head(&b), b.len, &got), 0);
    assert_int_equal(got.verb, WIRE_LAUNCH);
    assert_string_equal(got.launch.run_dir, RUN_DIR);
    assert_int_equal(got.launch.memory_mib, 512);
    assert_int_equal(got.launch.vcpus, 2);
    assert_true(got.launch.disk_bytes == 8ULL << 30 && got.launch.kvm);
    assert_int_equal(got.launch.fd_count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(got.launch.fds[i].as, some_fds[i].as);
    }
    for (size_t i = 0; i <= c.count; i++) {
        assert_true(i == c.count ? !got.launch.argv[i] : str_eq(got.launch.argv[i], c.argv[i]));
    }
    qemu_cmdline_done(&c);
}

static void what_is_about_a_vmm_arrives_as_it_was_sent(void **state)
{
    static const enum wire_verb verbs[] = {WIRE_KILL, WIRE_ALLOW_DISK};
    const struct vmm_process process = {4711, 1ULL << 40, "00000000-1111-2222-3333-444444444444"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};
        struct wire_request got;

        assert_int_equal(wire_put_vmm(&b, verbs[i], &process, RUN_DIR, i << 40), 0);
        assert_int_equal(wire_parse(buf_head(&b), b.len, &got), 0);
        assert_int_equal(got.verb, verbs[i]);
        assert_int_equal(got.process.pid, 4711);
        assert_true(got.process.start_ticks == 1ULL << 40);
        assert_string_equal(got.process.boot_id, process.boot_id);
        assert_string_equal(got.run_dir, RUN_DIR);
        assert_true(got.disk_bytes == i << 40 && got.launch.fd_count == 0);
    }
}

/* Parses a copy of exactly that size, so that a sanitizer sees a read beyond it. */
static int parse_copy(const uint8_t *data, size_t len)
{
    _cleanup_free_ uint8_t *copy = x_calloc(1, len ? len : 1);
    struct wire_request got;

    memcpy(copy, data, len);
    return wire_parse(copy, len, &got);
}

static void no_part_of_a_request_is_one_and_no_more_than_one_is(void **state)
{
    _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};
    struct qemu_cmdline c = cmdline(VMM_ACCEL_TCG);
    struct host_launch sent = launch_of(&c);

    (void)state;
    assert_int_equal(wire_put_launch(&b, &sent), 0);
    for (size_t n = 0; n < b.len; n++) {
        assert_int_equal(parse_copy(buf_head(&b), n), -EPROTO);
    }
    assert_int_equal(parse_copy(buf_head(&b), b.len), 0);
    assert_int_equal(buf_append_u8(&b, 0), 0);
    assert_int_equal(parse_copy(buf_head(&b), b.len), -EPROTO);
    qemu_cmdline_done(&c);
}

static void unknown_verbs_are_no_requests(void **state)
{
    (void)state;
    for (uint32_t verb = 0; verb < 32; verb++) {
        bool plain = verb == WIRE_STATUS || verb == WIRE_NET_REFRESH || verb == WIRE_NET_CLOSE ||
                     verb == WIRE_NET_DNS || verb == WIRE_TAP_LIST;
        _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};

        assert_int_equal(wire_put_plain(&b, WIRE_STATUS), 0);
        b.data[4] = (uint8_t)verb;
        assert_int_equal(parse_copy(buf_head(&b), b.len), plain ? 0 : -EPROTO);
        b.data[0] ^= 1;
        assert_int_equal(parse_copy(buf_head(&b), b.len), -EPROTO);
    }
}

static void a_command_line_that_has_no_room_is_refused_by_the_sender(void **state)
{
    _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};
    const char *argv[HOST_ARGS_MAX + 2];
    struct host_launch p = {.argv = argv, .run_dir = RUN_DIR};

    (void)state;
    for (size_t i = 0; i <= HOST_ARGS_MAX; i++) {
        argv[i] = "x";
    }
    argv[HOST_ARGS_MAX + 1] = NULL;
    assert_int_equal(wire_put_launch(&b, &p), -ENOBUFS);
}

/* What the helper allows ------------------------------------------------------------------------
 */

static void what_the_qemu_back_end_asks_for_is_allowed(void **state)
{
    static const enum vmm_accel accels[] = {VMM_ACCEL_TCG, VMM_ACCEL_KVM};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(accels); i++) {
        for (int saved = 0; saved < 3; saved++) {
            struct qemu_cmdline c = cmdline_of(accels[i], saved > 0 ? 7 : -1, saved > 1 ? 8 : -1);
            struct host_launch p = launch_of(&c);

            assert_null(host_check_launch(&p, RUNTIME_DIR));
            qemu_cmdline_done(&c);
        }
    }
}

/* With the value of one option exchanged, or (value NULL) the option, the list is refused. */
static void assert_refused(const char *option, const char *value)
{
    struct qemu_cmdline c = str_eq(option, "-incoming") ? cmdline_of(VMM_ACCEL_TCG, 7, 8)
                                                        : cmdline_of(VMM_ACCEL_TCG, 7, -1);
    struct host_launch p = launch_of(&c);
    size_t i = 0;

    while (i < c.count && !str_eq(c.argv[i], option)) {
        i++;
    }
    assert_true(i < c.count);
    if (value) {
        i++;
    }
    free(c.argv[i]);
    c.argv[i] = x_strdup(value ? value : "-nothing");
    assert_non_null(host_check_launch(&p, RUNTIME_DIR));
    qemu_cmdline_done(&c);
}

static void other_options_and_values_are_refused(void **state)
{
    static const struct {
        const char *option, *value;
    } cases[] = {
        {"qemu-system-x86_64", NULL},
        {"-nodefaults", NULL},
        {"-sandbox", NULL},
        {"-sandbox", "off"},
        {"-sandbox", "on"},
        {"-L", "/"},
        {"-L", RUN_DIR "/"},
        {"-name", "process=x"},
        {"-display", "vnc=:1"},
        {"-machine", "q35"},
        {"-machine", "microvm,firmware=/etc/shadow"},
        {"-accel", "tcg"},
        {"-kernel", "/etc/shadow"},
        {"-kernel", "/proc/self/fd/../environ"},
        {"-initrd", "/proc/self/fd/"},
        {"-blockdev", "driver=raw,node-name=root,file.driver=file,file.filename=/dev/sda"},
        {"-blockdev", "driver=raw,file.filename=/dev/fdset/5,file.filename=/dev/fdset/../sda"},
        {"-blockdev", "driver=host_device,filename=/dev/fdset/5"},
        {"-chardev", "socket,id=qmp,host=10.0.0.1,port=80"},
        {"-chardev", "pty,id=console"},
        {"-chardev", "file,id=console,path=/tmp/x"},
        {"-device", "vfio-pci,host=0"},
        {"-device", "virtio-net-device,netdev=net,mac=02:ba:17:00:00:01"},
        {"-device", "virtio-net-device,netdev=net,mac=02:ba:17:00:00:02,romfile=x"},
        {"-device", "virtio-net-device,netdev=net"},
        {"-netdev", "tap,id=net,fd=12"},
        {"-netdev", "tap,id=net,fd=12,vhost=on"},
        {"-netdev", "tap,id=net,fd=12,vhost=off,script=x"},
        {"-netdev", "tap,id=net,ifname=eth0,vhost=off"},
        {"-netdev", "user,id=net"},
        {"-netdev", "bridge,id=net,br=x"},
        {"-serial", "tcp:10.0.0.1:80"},
        {"-mon", "chardev=agent,mode=control"},
        {"-add-fd", "set=1,opaque=/x"},
        {"-object", "memory-backend-file,id=ram,mem-path=/dev/shm/x"},
        {"-object", "memory-backend-file,id=ram,mem-path=/proc/self/fd/1/../../maps"},
        {"-object", "secret,id=x,file=/proc/self/fd/3"},
        {"-incoming", "exec:true"},
        {"-incoming", "fd:8"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_refused(cases[i].option, cases[i].value);
    }
}

static void an_option_without_its_value_is_refused(void **state)
{
    const char *const argv[] = {HOST_QEMU_PROGRAM, "-m", NULL};
    const char *const nothing[] = {NULL};
    struct host_launch p = {
        .argv = argv, .run_dir = RUN_DIR, .memory_mib = 1, .vcpus = 1, .disk_bytes = 0};

    (void)state;
    assert_string_equal(host_check_launch(&p, RUNTIME_DIR), "-m");
    p.argv = nothing;
    assert_string_equal(host_check_launch(&p, RUNTIME_DIR), "the program");
}

static void numbers_beyond_their_limits_are_refused(void **state)
{
    static const struct spawn_fd bad[][2] = {
        {{0, 0}, {0, 3}}, {{0, 3}, {0, 3}}, {{0, HOST_FD_MAX}, {0, 3}}, {{0, -1}, {0, 3}}};
    struct qemu_cmdline c = cmdline(VMM_ACCEL_TCG);
    const struct host_launch good = launch_of(&c);
    struct host_launch p;

    (void)state;
#define REFUSED(member, value)                                                                     \
    p = good;                                                                                      \
    p.member = value;                                                                              \
    assert_non_null(host_check_launch(&p, RUNTIME_DIR))
    REFUSED(memory_mib, 0);
    REFUSED(memory_mib, HOST_MEMORY_MIB_MAX + 1);
    REFUSED(vcpus, 0);
    REFUSED(vcpus, HOST_VCPUS_MAX + 1);
    REFUSED(disk_bytes, HOST_DISK_BYTES_MAX + 1);
    p = good;
    p.fd_count = 2;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        p.fds = bad[i];
        assert_string_equal(host_check_launch(&p, RUNTIME_DIR), "the descriptors");
    }
    qemu_cmdline_done(&c);
}

static void a_run_directory_is_one_of_the_daemons(void **state)
{
    static const char *const wrong[] = {
        "",
        "/",
        RUNTIME_DIR,
        RUNTIME_DIR "/vms",
        RUNTIME_DIR "/vms/",
        RUNTIME_DIR "/vms/..",
        RUNTIME_DIR "/vms/.",
        RUNTIME_DIR "/vms/a/b",
        RUNTIME_DIR "/vms/a b",
        RUNTIME_DIR "/vms/A",
        RUNTIME_DIR "/other/a",
        "/run/bangers/vms/a",
        "/run/banger/../x/vms/a",
        "run/banger/vms/a",
    };
    const struct vmm_process process = {.pid = 100};

    (void)state;
    assert_null(host_check_vmm(&process, RUN_DIR, HOST_DISK_BYTES_MAX, RUNTIME_DIR));
    assert_null(host_check_vmm(&process, RUNTIME_DIR "/vms/kvm-probe.0123", 0, RUNTIME_DIR));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_string_equal(host_check_vmm(&process, wrong[i], 0, RUNTIME_DIR),
                            "the run directory");
    }
    assert_string_equal(host_check_vmm(&(struct vmm_process){.pid = 1}, RUN_DIR, 0, RUNTIME_DIR),
                        "the process");
    assert_string_equal(host_check_vmm(&process, RUN_DIR, HOST_DISK_BYTES_MAX + 1, RUNTIME_DIR),
                        "the disk");
}

/* Both ends -------------------------------------------------------------------------------------
 */

/* A helper in a child process; the host that asks it. */
struct pair {
    struct scratch scratch; /* the runtime directory */
    struct host *host;
    pid_t pid;
    int fd; /* the proxy's */
    struct qemu_cmdline cmdline;
    struct host_launch launch;
    char run_dir[100];
    char program[100];
};

static _noreturn_ void serve(const struct pair *p, int fd, const struct err *fail)
{
    unsigned kills = 0;
    struct err err;
    int r;

    r = helper_serve(
        &(struct helper_params){.host = host_fake_new(&(struct host_fake_params){
                                    .program = p->program, .fail = fail, .kills = &kills}),
                                .runtime_dir = p->scratch.path,
                                .status = {.pid = getpid(), .uid_first = 7, .uid_count = 9},
                                .fd = fd},
        &err);
    _exit(r < 0 ? 3 : 0);
}

/* VMs run a shell script with this text. */
static void pair_init(struct pair *p, const char *script, const struct err *fail)
{
    struct vmm_spec spec = {.name = "x",
                            .vcpus = 1,
                            .memory_mib = 1,
                            .cmdline = "",
                            .root_disk_fd = -1,
                            .data_disk_fd = -1,
                            .memory_fd = -1,
                            .state_fd = -1,
                            .tap_fd = -1};
    _cleanup_free_ char *text = x_asprintf("#!/bin/sh\n%s\n", script);
    struct err err;
    int ends[2];

    memset(p, 0, sizeof(*p));
    p->scratch = scratch_new();
    (void)snprintf(p->run_dir, sizeof(p->run_dir), "%s/vms/a", p->scratch.path);
    (void)snprintf(p->program, sizeof(p->program), "%s/script", p->scratch.path);
    scratch_write(&p->scratch, "script", text);
    assert_int_equal(fchmodat(p->scratch.fd, "script", 0700, 0), 0);
    spec.run_dir = p->run_dir;
    assert_int_equal(qemu_cmdline_build(&spec, &p->cmdline, &err), 0);
    p->launch = (struct host_launch){.argv = (const char *const *)p->cmdline.argv,
                                     .run_dir = p->run_dir,
                                     .memory_mib = 1,
                                     .vcpus = 1};
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        (void)close(ends[0]);
        serve(p, ends[1], fail);
    }
    (void)close(ends[1]);
    p->fd = ends[0];
    p->host = host_proxy_new(ends[0]);
}

/* Its exit status. */
static int pair_done(struct pair *p)
{
    int status = -1;

    host_free(p->host);
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    qemu_cmdline_done(&p->cmdline);
    scratch_done(&p->scratch);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void start(struct pair *p, struct host_vmm *ret)
{
    struct err err;

    if (p->host->ops->launch(p->host, &p->launch, ret, &err) < 0) {
        fail_msg("%s", err.message);
    }
    assert_true(ret->pidfd >= 0 && ret->exit_fd >= 0);
}

static void vmm_done(struct host_vmm *v)
{
    close_p(&v->pidfd);
    close_p(&v->exit_fd);
}

static void the_helper_says_who_it_is_and_ends_with_the_daemon(void **state)
{
    struct host_status status;
    struct pair p;
    struct err err;

    (void)state;
    pair_init(&p, "exit 0", NULL);
    assert_int_equal(p.host->ops->status(p.host, &status, &err), 0);
    assert_int_equal(status.pid, p.pid);
    assert_int_equal(status.uid_first, 7);
    assert_int_equal(status.uid_count, 9);
    assert_int_equal(status.vmms, 0);
    assert_int_equal(pair_done(&p), 0);
}

static void how_a_vmm_ended_reaches_the_daemon(void **state)
{
    static const struct {
        const char *script;
        int code, signal;
    } cases[] = {{"exit 7", 7, 0}, {"kill -TERM $$", -1, SIGTERM}, {"exit 0", 0, 0}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct vmm_exit ended = {99, 99};
        struct host_vmm vmm;
        struct pair p;

        pair_init(&p, cases[i].script, NULL);
        start(&p, &vmm);
        assert_int_equal(cancel_wait_fd(NULL, vmm.exit_fd, POLLIN, test_deadline()), 0);
        assert_true(host_take_exit(vmm.exit_fd, &ended));
        assert_int_equal(ended.code, cases[i].code);
        assert_int_equal(ended.signal, cases[i].signal);
        vmm_done(&vmm);
        assert_int_equal(pair_done(&p), 0);
    }
}

static void a_vmm_is_killed_and_counted(void **state)
{
    struct vmm_exit ended = {99, 99};
    struct host_status status;
    struct host_vmm vmm;
    struct pair p;
    struct err err;

    (void)state;
    pair_init(&p, "exec sleep 1000", NULL);
    start(&p, &vmm);
    assert_int_equal(p.host->ops->status(p.host, &status, &err), 0);
    assert_int_equal(status.vmms, 1);
    assert_int_equal(p.host->ops->kill(p.host, &vmm.process, p.run_dir, &err), 0);
    assert_int_equal(cancel_wait_fd(NULL, vmm.exit_fd, POLLIN, test_deadline()), 0);
    assert_true(host_take_exit(vmm.exit_fd, &ended));
    assert_int_equal(ended.signal, SIGKILL);
    vmm_done(&vmm);
    assert_int_equal(pair_done(&p), 0);
}

static void a_failed_launch_brings_the_helpers_error(void **state)
{
    struct err fail = {0}, err = {0};
    struct host_vmm vmm;
    struct pair p;

    (void)state;
    (void)err_set(&fail, ERR_UNSUPPORTED, "no such thing");
    (void)err_hint(&fail, "get one");
    pair_init(&p, "exit 0", &fail);
    assert_int_equal(p.host->ops->launch(p.host, &p.launch, &vmm, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_string_equal(err.message, "no such thing");
    assert_string_equal(err.hint, "get one");
    assert_int_equal(pair_done(&p), 0);
}

static void a_killed_helper_is_noticed_and_its_vmms_go_on(void **state)
{
    struct vmm_exit ended;
    struct host_vmm vmm;
    struct pair p;
    struct err err;

    (void)state;
    pair_init(&p, "exec sleep 1000", NULL);
    start(&p, &vmm);
    assert_int_equal(kill(p.pid, SIGKILL), 0);
    assert_int_equal(cancel_wait_fd(NULL, p.host->ops->watch_fd(p.host), POLLIN, test_deadline()),
                     0);
    assert_int_equal(cancel_wait_fd(NULL, vmm.exit_fd, POLLIN, test_deadline()), 0);
    assert_false(host_take_exit(vmm.exit_fd, &ended));
    assert_int_equal(kill(vmm.process.pid, 0), 0);
    assert_int_equal(p.host->ops->kill(p.host, &vmm.process, p.run_dir, &err), -1);
    assert_non_null(strstr(err.message, "the helper that has root is gone"));
    assert_int_equal(p.host->ops->launch(p.host, &p.launch, &vmm, &err), -1);
    assert_int_equal(kill(vmm.process.pid, SIGKILL), 0);
    vmm_done(&vmm);
    assert_int_equal(pair_done(&p), -1);
}

static void a_request_that_must_not_be_ends_the_helper(void **state)
{
    static const char *const dirs[] = {"/etc", "/vms/a"};
    struct host_vmm vmm;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        struct pair p;

        pair_init(&p, "exit 0", NULL);
        p.launch.run_dir = dirs[i];
        assert_int_equal(p.host->ops->launch(p.host, &p.launch, &vmm, &err), -1);
        assert_non_null(strstr(err.message, "is gone"));
        assert_int_equal(pair_done(&p), 3);
    }
}

static void what_is_no_request_ends_the_helper(void **state)
{
    static const char garbage[WIRE_REQUEST_MAX + 10] = "hello";
    static const size_t sizes[] = {1, 5, 4096, sizeof(garbage)};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct pair p;

        pair_init(&p, "exit 0", NULL);
        assert_int_equal(wire_send(p.fd, garbage, sizes[i], &p.scratch.fd, 1), 0);
        assert_int_equal(cancel_wait_fd(NULL, p.fd, POLLIN, test_deadline()), 0);
        assert_int_equal(pair_done(&p), 3);
    }
}

static void a_request_without_a_way_to_reply_ends_the_helper(void **state)
{
    _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};
    int fds[3] = {0, 1, 2};

    (void)state;
    assert_int_equal(wire_put_plain(&b, WIRE_STATUS), 0);
    for (size_t count = 0; count <= 3; count += 2) { /* none, and more than there should be */
        struct pair p;

        pair_init(&p, "exit 0", NULL);
        assert_int_equal(wire_send(p.fd, buf_head(&b), b.len, fds, count), 0);
        assert_int_equal(pair_done(&p), 3);
    }
}

#define THREADS 8
#define LAUNCHES 10

static void *launch_many(void *arg)
{
    struct pair *p = arg;

    for (int i = 0; i < LAUNCHES; i++) {
        struct vmm_exit ended = {0};
        struct host_vmm vmm;
        struct err err;

        if (p->host->ops->launch(p->host, &p->launch, &vmm, &err) < 0 ||
            cancel_wait_fd(NULL, vmm.exit_fd, POLLIN, test_deadline()) < 0 ||
            !host_take_exit(vmm.exit_fd, &ended) || ended.code != 5) {
            return p;
        }
        vmm_done(&vmm);
    }
    return NULL;
}

static void many_threads_ask_at_once(void **state)
{
    pthread_t threads[THREADS];
    struct pair p;
    void *failed;

    (void)state;
    pair_init(&p, "exit 5", NULL);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, launch_many, &p), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_int_equal(pair_done(&p), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_launch_arrives_as_it_was_sent),
        cmocka_unit_test(what_is_about_a_vmm_arrives_as_it_was_sent),
        cmocka_unit_test(no_part_of_a_request_is_one_and_no_more_than_one_is),
        cmocka_unit_test(unknown_verbs_are_no_requests),
        cmocka_unit_test(a_command_line_that_has_no_room_is_refused_by_the_sender),
        cmocka_unit_test(what_the_qemu_back_end_asks_for_is_allowed),
        cmocka_unit_test(other_options_and_values_are_refused),
        cmocka_unit_test(an_option_without_its_value_is_refused),
        cmocka_unit_test(numbers_beyond_their_limits_are_refused),
        cmocka_unit_test(a_run_directory_is_one_of_the_daemons),
        cmocka_unit_test(the_helper_says_who_it_is_and_ends_with_the_daemon),
        cmocka_unit_test(how_a_vmm_ended_reaches_the_daemon),
        cmocka_unit_test(a_vmm_is_killed_and_counted),
        cmocka_unit_test(a_failed_launch_brings_the_helpers_error),
        cmocka_unit_test(a_killed_helper_is_noticed_and_its_vmms_go_on),
        cmocka_unit_test(a_request_that_must_not_be_ends_the_helper),
        cmocka_unit_test(what_is_no_request_ends_the_helper),
        cmocka_unit_test(a_request_without_a_way_to_reply_ends_the_helper),
        cmocka_unit_test(many_threads_ask_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
