/*
 * vmm/qemu with the real QEMU and a guest of a few bytes: an ELF file with a PVH note, whose 32-bit
 * code writes to the serial port and then idles or resets the machine.
 */
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "vmm/vmm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define DEADLINE_MS 30000
#define LOAD_ADDRESS 0x100000
#define CODE_OFFSET 0x1000
#define PVH_ENTRY_NOTE 18

static const struct vmm_ops *const ops = &vmm_qemu_ops;

/* One test starts a thread after a fork, in a process that has no other thread then. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "die_after_fork=0";
}

/* mov dx,0x3f8; mov al,'h'; out dx,al; mov al,'i'; out dx,al; then: */
#define SAY_HI 0x66, 0xBA, 0xF8, 0x03, 0xB0, 'h', 0xEE, 0xB0, 'i', 0xEE
/* hlt; jmp back to it */
static const uint8_t idle_code[] = {SAY_HI, 0xF4, 0xEB, 0xFD};
/* lidt of six zero bytes; int3: no handler, so a triple fault, which resets the machine */
static const uint8_t reset_code[] = {SAY_HI,
                                     0x0F,
                                     0x01,
                                     0x1D,
                                     LOAD_ADDRESS & 0xFF,
                                     LOAD_ADDRESS >> 8 & 0xFF,
                                     LOAD_ADDRESS >> 16 & 0xFF,
                                     0,
                                     0xCC};

#define FLAG_ADDRESS LOAD_ADDRESS
#define COUNT_ADDRESS (LOAD_ADDRESS + 1)
#define BYTES(address) (address) & 0xFF, (address) >> 8 & 0xFF, (address) >> 16 & 0xFF, 0
/* again: cmp byte [FLAG_ADDRESS],0; je again; inc byte [COUNT_ADDRESS]; mov al,'r'; out dx,al; and
 * the reset as above */
static const uint8_t restored_code[] = {SAY_HI,
                                        0x80,
                                        0x3D,
                                        BYTES(FLAG_ADDRESS),
                                        0x00,
                                        0x74,
                                        0xF7,
                                        0xFE,
                                        0x05,
                                        BYTES(COUNT_ADDRESS),
                                        0xB0,
                                        'r',
                                        0xEE,
                                        0x0F,
                                        0x01,
                                        0x1D,
                                        BYTES(LOAD_ADDRESS + 2),
                                        0xCC};

struct image {
    Elf64_Ehdr header;
    Elf64_Phdr load, note;
    struct {
        Elf64_Nhdr header;
        char name[4];
        uint64_t entry;
    } __attribute__((packed)) pvh;
};

/* The code follows eight zero bytes at LOAD_ADDRESS. */
static int kernel_new(const uint8_t *code, size_t len)
{
    struct image image = {
        .header =
            {
                .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
                            EV_CURRENT},
                .e_type = ET_EXEC,
                .e_machine = EM_X86_64,
                .e_version = EV_CURRENT,
                .e_entry = LOAD_ADDRESS + 8,
                .e_phoff = offsetof(struct image, load),
                .e_ehsize = sizeof(Elf64_Ehdr),
                .e_phentsize = sizeof(Elf64_Phdr),
                .e_phnum = 2,
            },
        .load =
            {
                .p_type = PT_LOAD,
                .p_flags = PF_R | PF_X,
                .p_offset = CODE_OFFSET,
                .p_vaddr = LOAD_ADDRESS,
                .p_paddr = LOAD_ADDRESS,
                .p_filesz = 8 + len,
                .p_memsz = 8 + len,
                .p_align = 4096,
            },
        .note =
            {
                .p_type = PT_NOTE,
                .p_offset = offsetof(struct image, pvh),
                .p_filesz = sizeof(image.pvh),
                .p_memsz = sizeof(image.pvh),
                .p_align = 4,
            },
        .pvh =
            {
                .header = {.n_namesz = 4, .n_descsz = 8, .n_type = PVH_ENTRY_NOTE},
                .name = "Xen",
                .entry = LOAD_ADDRESS + 8,
            },
    };
    int fd = memfd_create("kernel", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, CODE_OFFSET + 4096), 0);
    assert_int_equal(pwrite(fd, &image, sizeof(image), 0), sizeof(image));
    assert_int_equal(pwrite(fd, code, len, CODE_OFFSET + 8), (ssize_t)len);
    return fd;
}

struct fixture {
    char dir[64];
    int dir_fd;
    struct loop *loop;
    struct host *host;
    int kernel_fd, initramfs_fd, console_fd, log_fd, data_fd;
    struct vmm *vmm;

    /* loop thread; read after `exited` or `event` */
    char events[128];
    struct latch event, exited;
};

static void on_event(void *arg, enum vmm_event event)
{
    static const char *const names[] = {
        [VMM_EXITED] = "exited",    [VMM_GUEST_RESET] = "reset", [VMM_GUEST_POWEROFF] = "poweroff",
        [VMM_PORT_CLOSED] = "port", [VMM_IO_STOPPED] = "io",     [VMM_RESUMED] = "resumed",
    };
    struct fixture *f = arg;
    size_t used = strlen(f->events);

    snprintf(f->events + used, sizeof(f->events) - used, "%s ", names[event]);
    latch_set(event == VMM_EXITED ? &f->exited : &f->event);
}

static int64_t soon(void)
{
    return clock_mono_ms() + DEADLINE_MS;
}

static void skip_without_qemu(void)
{
    char version[32];
    struct err err;

    if (ops->version(version, &err) < 0) {
        print_message("no QEMU: %s\n", err.message);
        skip();
    }
}

/* As a daemon has it; the launcher lies beside this program. */
static struct host *host_new(const char *name)
{
    char self[4000] = "", launcher[4096];

    assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    (void)snprintf(launcher, sizeof(launcher), "%s/banger-launch", dirname(self));
    return host_local_new(&(struct host_local_params){.launcher = launcher,
                                                      .uid_first = 2100000000,
                                                      .uid_count = geteuid() == 0 ? 1048576 : 0,
                                                      .name = name});
}

static int setup(void **state)
{
    struct fixture *f = x_calloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/test-qemu-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    f->initramfs_fd = memfd_create("initramfs", MFD_CLOEXEC);
    assert_int_equal(write(f->initramfs_fd, "none", 4), 4);
    f->console_fd = openat(f->dir_fd, "console", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    f->log_fd = openat(f->dir_fd, "vmm.log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    f->data_fd = memfd_create("data", MFD_CLOEXEC);
    assert_int_equal(ftruncate(f->data_fd, 1 << 20), 0);
    f->kernel_fd = -1;
    f->host = host_new(f->dir);
    latch_init(&f->event);
    latch_init(&f->exited);
    assert_int_equal(loop_new("vmm", &f->loop), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->vmm) {
        struct vmm_exit unused;

        assert_int_equal(ops->kill(f->vmm, &(struct err){0}), 0);
        (void)ops->wait_exit(f->vmm, NULL, soon(), &unused);
    }
    ops->free(f->vmm);
    loop_free(f->loop);
    host_free(f->host);
    latch_done(&f->event);
    latch_done(&f->exited);
    close_p(&f->dir_fd);
    close_p(&f->initramfs_fd);
    close_p(&f->console_fd);
    close_p(&f->log_fd);
    close_p(&f->data_fd);
    close_p(&f->kernel_fd);
    assert_int_equal(fs_remove_tree(AT_FDCWD, f->dir), 0);
    free(f);
    return 0;
}

static struct vmm_spec spec_of(struct fixture *f, const uint8_t *code, size_t len)
{
    close_p(&f->kernel_fd);
    f->kernel_fd = kernel_new(code, len);
    return (struct vmm_spec){
        .host = f->host,
        .name = "tiny",
        .run_dir = f->dir,
        .run_dir_fd = f->dir_fd,
        .accel = VMM_ACCEL_TCG,
        .vcpus = 1,
        .memory_mib = 32,
        .kernel_fd = f->kernel_fd,
        .initramfs_fd = f->initramfs_fd,
        .cmdline = "",
        .root_disk_fd = -1,
        .data_disk_fd = f->data_fd,
        .memory_fd = -1,
        .state_fd = -1,
        .tap_fd = -1,
        .console_fd = f->console_fd,
        .log_fd = f->log_fd,
    };
}
#define SPEC(f, code) spec_of(f, code, sizeof(code))

static struct vmm *launch(struct fixture *f, struct loop *loop, const struct vmm_spec *spec)
{
    struct vmm *vmm = NULL;
    struct err err;

    if (ops->launch(loop, spec, on_event, f, &vmm, &err) < 0) {
        fail_msg("launch: %s", err.message);
    }
    return vmm;
}

static void assert_file(struct fixture *f, const char *name, const char *content)
{
    char *text;
    size_t len;

    assert_int_equal(fs_read_file(f->dir_fd, name, 65536, &text, &len), 0);
    assert_string_equal(text, content);
    free(text);
}

static void a_reset_ends_the_machine_and_exit_comes_last(void **state)
{
    struct fixture *f = *state;
    struct vmm_exit end = {.code = 99};
    struct vmm_spec spec;

    skip_without_qemu();
    spec = SPEC(f, reset_code);
    f->vmm = launch(f, f->loop, &spec);
    assert_int_equal(ops->wait_exit(f->vmm, NULL, soon(), &end), 0);
    assert_int_equal(end.code, 0);
    assert_int_equal(end.signal, 0);
    assert_int_equal(latch_wait(&f->exited, NULL, soon()), 0);
    assert_string_equal(f->events, "reset exited ");
    assert_file(f, "console", "hi");
    assert_file(f, "vmm.log", "");
    assert_int_equal(ops->kill(f->vmm, &(struct err){0}), 0); /* nothing left to kill */
}

static void pause_and_resume_are_answered(void **state)
{
    struct fixture *f = *state;
    struct vmm_exit end;
    struct vmm_spec spec;
    struct err err;

    skip_without_qemu();
    spec = SPEC(f, idle_code);
    f->vmm = launch(f, f->loop, &spec);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ops->pause(f->vmm, NULL, soon(), &err), 0);
        assert_int_equal(ops->resume(f->vmm, NULL, soon(), &err), 0);
    }
    assert_int_equal(ops->kill(f->vmm, &(struct err){0}), 0);
    assert_int_equal(ops->wait_exit(f->vmm, NULL, soon(), &end), 0);
    assert_int_equal(end.code, -1);
    assert_int_equal(end.signal, SIGKILL);
    assert_int_equal(latch_wait(&f->exited, NULL, soon()), 0);
    assert_string_equal(f->events, "resumed resumed resumed exited ");
    assert_int_equal(ops->pause(f->vmm, NULL, soon(), &err), -1);
    assert_int_equal(err.code, ERR_NOT_RUNNING);
}

/* A memfd that any VMM may open, as large as the machine's memory. */
static int memory_new(const struct vmm_spec *spec)
{
    int fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)spec->memory_mib << 20), 0);
    return fd;
}

static void kill_vmm(struct fixture *f)
{
    struct vmm_exit end;

    assert_int_equal(ops->kill(f->vmm, &(struct err){0}), 0);
    assert_int_equal(ops->wait_exit(f->vmm, NULL, soon(), &end), 0);
    ops->free(f->vmm);
    f->vmm = NULL;
}

/* Until the machine has said "hi". */
static void await_hi(const struct fixture *f)
{
    _cleanup_close_ int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    char path[64];
    struct stat st;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", f->console_fd);
    assert_true(fd >= 0 && inotify_add_watch(fd, path, IN_MODIFY) >= 0);
    while (fstat(f->console_fd, &st) == 0 && st.st_size < 2) {
        char events[512];

        assert_int_equal(cancel_wait_fd(NULL, fd, POLLIN, soon()), 0);
        (void)!read(fd, events, sizeof(events));
    }
}

/* The machine, which runs restored_code, goes on from now on when it is launched. It is not saved
 * before it does: who restores it gives it no kernel, which its firmware would look for. */
static void save(struct fixture *f, struct vmm_spec *spec)
{
    uint8_t flag = 1;
    struct err err;

    spec->memory_fd = memory_new(spec);
    f->vmm = launch(f, f->loop, spec);
    assert_int_equal(ops->wait_started(f->vmm, NULL, soon(), &err), 0);
    await_hi(f);
    spec->state_fd = memfd_create("state", MFD_CLOEXEC);
    if (ops->save(f->vmm, spec->state_fd, NULL, soon(), &err) < 0) {
        fail_msg("save: %s", err.message);
    }
    kill_vmm(f);
    assert_int_equal(pwrite(spec->memory_fd, &flag, 1, FLAG_ADDRESS), 1);
    assert_int_equal(
        fcntl(spec->memory_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
    spec->kernel_fd = spec->initramfs_fd = -1;
}

/* To its end. */
static void restore(struct fixture *f, const struct vmm_spec *spec)
{
    struct vmm_exit end;
    struct err err;

    assert_int_equal(ftruncate(f->console_fd, 0), 0);
    assert_int_equal(lseek(spec->state_fd, 0, SEEK_SET), 0);
    f->vmm = launch(f, f->loop, spec);
    if (ops->wait_started(f->vmm, NULL, soon(), &err) < 0) {
        fail_msg("restore: %s", err.message);
    }
    assert_int_equal(ops->wait_exit(f->vmm, NULL, soon(), &end), 0);
    assert_int_equal(end.code, 0);
    ops->free(f->vmm);
    f->vmm = NULL;
}

/* From the same files again and again: what one writes to its memory no other sees. */
static void a_machine_goes_on_where_it_was_saved_as_often_as_one_likes(void **state)
{
    struct fixture *f = *state;
    uint8_t flag[2];
    struct vmm_spec spec;

    skip_without_qemu();
    spec = SPEC(f, restored_code);
    save(f, &spec);
    for (int i = 0; i < 2; i++) {
        restore(f, &spec);
        /* What it had yet to say when it was saved, if anything, and then this. */
        assert_int_equal(pread(f->log_fd, flag, 1, 0), 0);
        assert_int_equal(pread(spec.memory_fd, flag, 2, FLAG_ADDRESS), 2);
        assert_int_equal(flag[0], 1);
        assert_int_equal(flag[1], 0);
    }
    close_p(&spec.memory_fd);
    close_p(&spec.state_fd);
}

/* In the namespace of this thread, and up; *ret_ear_fd hears the RARP packets that come out of the
 * machine. False: none can be made here. */
static bool make_tap(int *ret_fd, int *ret_ear_fd)
{
    struct ifreq tap = {.ifr_name = "card", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    struct sockaddr_ll from = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_RARP)};

    *ret_fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (*ret_fd < 0) {
        return false;
    }
    assert_int_equal(ioctl(*ret_fd, TUNSETIFF, &tap), 0);
    *ret_ear_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_RARP));
    assert_true(*ret_ear_fd >= 0);
    tap.ifr_flags = IFF_UP;
    assert_int_equal(ioctl(*ret_ear_fd, SIOCSIFFLAGS, &tap), 0);
    from.sll_ifindex = (int)if_nametoindex(tap.ifr_name);
    assert_int_equal(bind(*ret_ear_fd, (struct sockaddr *)&from, sizeof(from)), 0);
    return true;
}

/* The address is that of others, too, and who has it now the host knows already. */
static void a_machine_with_a_card_goes_on_and_does_not_announce_itself(void **state)
{
    _cleanup_close_ int before_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int tap_fd = -1, ear_fd = -1;
    struct fixture *f = *state;
    struct vmm_spec spec;
    char packet[64];

    skip_without_qemu();
    if (unshare(CLONE_NEWNET) < 0 || !make_tap(&tap_fd, &ear_fd)) {
        (void)setns(before_fd, CLONE_NEWNET);
        print_message("needs root and /dev/net/tun\n");
        skip();
    }
    spec = SPEC(f, restored_code);
    spec.tap_fd = tap_fd;
    save(f, &spec);
    for (int i = 0; i < 2; i++) {
        restore(f, &spec);
        assert_file(f, "vmm.log", "");
        assert_int_equal(recv(ear_fd, packet, sizeof(packet), 0), -1);
        assert_int_equal(errno, EAGAIN);
    }
    close_p(&spec.memory_fd);
    close_p(&spec.state_fd);
    assert_int_equal(setns(before_fd, CLONE_NEWNET), 0);
}

static void a_machine_whose_devices_are_garbage_does_not_start(void **state)
{
    struct fixture *f = *state;
    struct vmm_spec spec;
    struct vmm_exit end;
    struct err err;

    skip_without_qemu();
    spec = SPEC(f, idle_code);
    spec.memory_fd = memory_new(&spec);
    spec.state_fd = memfd_create("state", MFD_CLOEXEC);
    assert_int_equal(pwrite(spec.state_fd, "garbage", 7, 0), 7);
    f->vmm = launch(f, f->loop, &spec);
    assert_int_equal(ops->wait_started(f->vmm, NULL, soon(), &err), -1);
    assert_int_equal(err.code, ERR_VMM);
    assert_int_equal(ops->wait_exit(f->vmm, NULL, soon(), &end), 0);
    assert_int_equal(end.code, 1);
    close_p(&spec.memory_fd);
    close_p(&spec.state_fd);
}

static void a_stuck_vmm_delays_nobody_past_the_deadline(void **state)
{
    struct fixture *f = *state;
    struct cancel *cancel = cancel_new();
    struct vmm_exit end;
    struct vmm_spec spec;
    struct err err;

    skip_without_qemu();
    spec = SPEC(f, idle_code);
    f->vmm = launch(f, f->loop, &spec);
    assert_int_equal(kill(ops->process(f->vmm)->pid, SIGSTOP), 0);
    assert_int_equal(ops->pause(f->vmm, cancel, clock_mono_ms() + 50, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_int_equal(ops->wait_exit(f->vmm, cancel, clock_mono_ms() + 50, &end), -ETIMEDOUT);
    cancel_trigger(cancel);
    assert_int_equal(ops->pause(f->vmm, cancel, soon(), &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_int_equal(ops->wait_exit(f->vmm, cancel, soon(), &end), -ECANCELED);
    assert_int_equal(ops->kill(f->vmm, &(struct err){0}), 0);
    assert_int_equal(ops->wait_exit(f->vmm, NULL, soon(), &end), 0);
    cancel_put(cancel);
}

static void a_later_handle_takes_over(void **state)
{
    struct fixture *f = *state;
    struct vmm_process process;
    struct vmm *vmm = NULL;
    struct vmm_exit end;
    struct vmm_spec spec;
    struct loop *other;
    struct err err;

    skip_without_qemu();
    spec = SPEC(f, idle_code);
    vmm = launch(f, f->loop, &spec);
    process = *ops->process(vmm);
    /* Its arguments can be read a moment after the spawn has returned, not before. */
    assert_int_equal(ops->pause(vmm, NULL, soon(), &err), 0);
    ops->free(vmm);
    assert_string_equal(f->events, "");

    assert_int_equal(loop_new("second", &other), 0);
    process.start_ticks++;
    assert_int_equal(
        ops->adopt(other, f->host, f->dir, f->dir_fd, &process, on_event, f, &vmm, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    process.start_ticks--;
    assert_int_equal(
        ops->adopt(other, f->host, "/tmp", f->dir_fd, &process, on_event, f, &vmm, &err), 0);
    ops->free(vmm); /* the test's directory is inside /tmp: that is "ours" too */
    assert_int_equal(
        ops->adopt(other, f->host, "/run", f->dir_fd, &process, on_event, f, &vmm, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);

    assert_int_equal(
        ops->adopt(other, f->host, f->dir, f->dir_fd, &process, on_event, f, &vmm, &err), 0);
    assert_int_equal(ops->process(vmm)->pid, process.pid);
    if (ops->pause(vmm, NULL, soon(), &err) < 0) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(ops->resume(vmm, NULL, soon(), &err), 0);
    assert_int_equal(ops->kill(vmm, &(struct err){0}), 0);
    assert_int_equal(ops->wait_exit(vmm, NULL, soon(), &end), 0);
    assert_int_equal(latch_wait(&f->exited, NULL, soon()), 0);
    assert_string_equal(f->events, "resumed exited ");
    ops->free(vmm);
    assert_int_equal(
        ops->adopt(other, f->host, f->dir, f->dir_fd, &process, on_event, f, &vmm, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    loop_free(other);
}

/* Launches in a grandchild that exits, under a child that reaps what is left to it. Returns the
 * child; no thread of ours may run across the fork. */
static pid_t launch_elsewhere(struct fixture *f, const struct vmm_spec *spec,
                              struct vmm_process *ret_process)
{
    struct loop *loop;
    struct vmm *vmm;
    struct err err;
    int fds[2];
    pid_t child;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    child = fork();
    if (child == 0) {
        if (prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && fork() == 0) {
            if (loop_new("child", &loop) == 0 &&
                ops->launch(loop, spec, on_event, f, &vmm, &err) == 0 &&
                ops->pause(vmm, NULL, soon(), &err) == 0) {
                (void)!write(fds[1], ops->process(vmm), sizeof(*ret_process));
            }
            _exit(0);
        }
        close(fds[1]);
        while (wait(NULL) > 0) {
        }
        _exit(0);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], ret_process, sizeof(*ret_process)), sizeof(*ret_process));
    close(fds[0]);
    return child;
}

static void a_process_of_an_earlier_daemon_is_adopted(void **state)
{
    struct fixture *f = *state;
    struct vmm_process process;
    struct vmm_exit end = {0};
    struct vmm_spec spec;
    struct err err;
    pid_t child;

    skip_without_qemu();
    spec = SPEC(f, idle_code);
    loop_free(f->loop);
    f->loop = NULL;
    child = launch_elsewhere(f, &spec, &process);
    assert_int_equal(loop_new("vmm", &f->loop), 0);
    assert_int_equal(
        ops->adopt(f->loop, f->host, f->dir, f->dir_fd, &process, on_event, f, &f->vmm, &err), 0);
    assert_int_equal(ops->pause(f->vmm, NULL, soon(), &err), 0);
    assert_int_equal(ops->kill(f->vmm, &(struct err){0}), 0);
    assert_int_equal(ops->wait_exit(f->vmm, NULL, soon(), &end), 0);
    assert_int_equal(end.code, -1); /* only its parent knows */
    assert_int_equal(end.signal, 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* The first connection is gone before QEMU has read that the CPUs may start. */
static void a_guest_that_was_never_started_is_started_by_adoption(void **state)
{
    struct fixture *f = *state;
    struct vmm_exit end = {.code = 99};
    struct vmm_process process;
    struct vmm_spec spec;
    struct err err;
    siginfo_t info;

    skip_without_qemu();
    spec = SPEC(f, reset_code);
    f->vmm = launch(f, f->loop, &spec);
    process = *ops->process(f->vmm);
    assert_int_equal(kill(process.pid, SIGSTOP), 0);
    assert_int_equal(waitid(P_PID, (id_t)process.pid, &info, WSTOPPED | WNOWAIT), 0);
    ops->free(f->vmm);
    f->vmm = NULL;
    assert_int_equal(
        ops->adopt(f->loop, f->host, f->dir, f->dir_fd, &process, on_event, f, &f->vmm, &err), 0);
    assert_int_equal(kill(process.pid, SIGCONT), 0);
    assert_int_equal(ops->wait_exit(f->vmm, NULL, soon(), &end), 0);
    assert_int_equal(end.code, 0);
}

static void no_event_comes_after_free(void **state)
{
    struct fixture *f = *state;
    struct vmm_process process;
    struct vmm_spec spec;
    struct vmm *vmm;

    skip_without_qemu();
    spec = SPEC(f, reset_code);
    for (int i = 0; i < 5; i++) {
        size_t seen;

        vmm = launch(f, f->loop, &spec);
        process = *ops->process(vmm);
        /* Sooner or later in the life of a guest that ends by itself. */
        (void)latch_wait(&f->event, NULL, clock_mono_ms() + i * 40);
        ops->free(vmm);
        seen = strlen(f->events);
        (void)kill(process.pid, SIGKILL);
        (void)waitpid(process.pid, NULL, 0);
        assert_int_equal(strlen(f->events), seen);
    }
}

static void wrong_descriptors_are_refused_before_the_start(void **state)
{
    struct fixture *f = *state;
    struct vmm_spec spec;
    struct vmm *vmm;
    struct err err;

    skip_without_qemu();
    spec = SPEC(f, idle_code);
    spec.root_disk_fd = f->data_fd;
    assert_int_equal(ops->launch(f->loop, &spec, on_event, f, &vmm, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    spec.root_disk_fd = -1;
    spec.console_fd = f->data_fd;
    assert_int_equal(ops->launch(f->loop, &spec, on_event, f, &vmm, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
}

static void a_vmm_that_cannot_start_leaves_its_reason(void **state)
{
    static const uint8_t nothing[] = {0};
    struct fixture *f = *state;
    struct vmm_exit end;
    struct vmm_spec spec;
    char *tail;

    skip_without_qemu();
    spec = SPEC(f, nothing);
    assert_int_equal(ftruncate(f->kernel_fd, 0), 0);
    f->vmm = launch(f, f->loop, &spec);
    assert_int_equal(ops->wait_exit(f->vmm, NULL, soon(), &end), 0);
    assert_int_equal(end.code, 1);
    tail = vmm_log_tail(f->log_fd, 200);
    assert_non_null(strstr(tail, "kernel"));
    free(tail);
}

static void the_version_is_asked_from_the_program(void **state)
{
    char version[32] = "";
    struct err err;

    (void)state;
    skip_without_qemu();
    assert_int_equal(ops->version(version, &err), 0);
    assert_true(strlen(version) >= 3);
    assert_true(strspn(version, "0123456789.") == strlen(version));
}

static void a_missing_qemu_is_unsupported_with_a_hint(void **state)
{
    _cleanup_free_ char *path = x_strdup(getenv("PATH"));
    struct fixture *f = *state;
    struct vmm_spec spec = SPEC(f, idle_code);
    char version[32];
    struct vmm *vmm;
    struct err err;

    setenv("PATH", f->dir, 1);
    assert_int_equal(ops->version(version, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.hint, "apt-get install qemu-system-x86"));
    assert_int_equal(ops->launch(f->loop, &spec, on_event, f, &vmm, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    setenv("PATH", path, 1);
}

int main(void)
{
#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH(a_reset_ends_the_machine_and_exit_comes_last),
        WITH(pause_and_resume_are_answered),
        WITH(a_machine_goes_on_where_it_was_saved_as_often_as_one_likes),
        WITH(a_machine_with_a_card_goes_on_and_does_not_announce_itself),
        WITH(a_machine_whose_devices_are_garbage_does_not_start),
        WITH(a_stuck_vmm_delays_nobody_past_the_deadline),
        WITH(a_later_handle_takes_over),
        WITH(a_process_of_an_earlier_daemon_is_adopted),
        WITH(a_guest_that_was_never_started_is_started_by_adoption),
        WITH(no_event_comes_after_free),
        WITH(wrong_descriptors_are_refused_before_the_start),
        WITH(a_vmm_that_cannot_start_leaves_its_reason),
        WITH(the_version_is_asked_from_the_program),
        WITH(a_missing_qemu_is_unsupported_with_a_hint),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
