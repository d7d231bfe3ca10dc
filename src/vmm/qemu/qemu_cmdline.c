#include "vmm/qemu/qemu_cmdline.h"

#include "base/buf.h"
#include "base/str.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>

#define VCPUS_MAX 255
#define MEMORY_MIB_MAX (1024U * 1024)
#define QEMU_TEXT_MAX 65536

static void add(struct qemu_cmdline *c, char *arg)
{
    assert(c->count < QEMU_ARGS_MAX);
    c->argv[c->count++] = arg;
}

static void option(struct qemu_cmdline *c, const char *name, const char *value)
{
    add(c, x_strdup(name));
    if (value) {
        add(c, x_strdup(value));
    }
}

static void option_f(struct qemu_cmdline *c, const char *name, const char *fmt, ...) _printf_(3, 4);

static void option_f(struct qemu_cmdline *c, const char *name, const char *fmt, ...)
{
    char *value;
    va_list ap;

    add(c, x_strdup(name));
    va_start(ap, fmt);
    if (vasprintf(&value, fmt, ap) < 0) {
        abort();
    }
    va_end(ap);
    add(c, value);
}

static int check(const struct vmm_spec *spec, struct err *err)
{
    if (!str_is_dns_label(spec->name)) {
        return err_set(err, ERR_INVALID, "a VM's name must be a DNS label");
    }
    if (spec->run_dir[0] != '/') {
        return err_set(err, ERR_INVALID, "the run directory must be an absolute path");
    }
    if (spec->vcpus < 1 || spec->vcpus > VCPUS_MAX) {
        return err_set(err, ERR_INVALID, "%u vcpus: must be 1 to %u", spec->vcpus, VCPUS_MAX);
    }
    if (spec->memory_mib < 1 || spec->memory_mib > MEMORY_MIB_MAX) {
        return err_set(err, ERR_INVALID, "%llu MiB of memory: must be 1 to %u",
                       (unsigned long long)spec->memory_mib, MEMORY_MIB_MAX);
    }
    return 0;
}

/*
 * The machine: no PIT and no PIC, because the kernel's calibration against an emulated PIT is what
 * hangs boots; the RTC stays, without it the kernel waits a second for one. No option ROMs: qboot
 * starts a PVH kernel by itself. Guest memory has no place in a core dump.
 */
static void add_machine(struct qemu_cmdline *c, const struct vmm_spec *spec)
{
    bool kvm = spec->accel == VMM_ACCEL_KVM;

    option_f(c, "-machine",
             "microvm,acpi=on,rtc=on,pit=off,pic=off,x-option-roms=off,dump-guest-core=off%s",
             spec->memory_fd >= 0 ? ",memory-backend=ram" : "");
    if (kvm) {
        option(c, "-accel", "kvm");
    } else {
        /* Less than 32 MiB of translated code thrashes under work; more is just memory. */
        option_f(c, "-accel", "tcg,tb-size=%d", spec->memory_mib >= 512 ? 64 : 32);
    }
    /* `max` has x86-64-v3, which some distributions now expect, and boots as fast as less. Without
     * erms, because the guest would then copy with `rep movsb`, which TCG does byte by byte: 2 to 6
     * times slower (QEMU 7.2). */
    option(c, "-cpu", kvm ? "host" : "max,-erms");
    option_f(c, "-smp", "%u", spec->vcpus);
    option_f(c, "-m", "%lluM", (unsigned long long)spec->memory_mib);
}

/* QEMU 7.2 opens the file for writing in any case (share=off alone would do with less): its seal,
 * and not a mode, keeps one clone's memory out of the others'. */
static void add_memory(struct qemu_cmdline *c, const struct vmm_spec *spec)
{
    if (spec->memory_fd >= 0) {
        option_f(c, "-object",
                 "memory-backend-file,id=ram,mem-path=/proc/self/fd/%d,size=%lluM,share=%s",
                 QEMU_FD_MEMORY, (unsigned long long)spec->memory_mib,
                 spec->state_fd >= 0 ? "off" : "on");
    }
}

static void add_boot(struct qemu_cmdline *c, const struct vmm_spec *spec)
{
    /* `migrate-incoming` says from where: x-ignore-shared has to be set before. */
    if (spec->state_fd >= 0) {
        option(c, "-incoming", "defer");
        return;
    }
    option(c, "-S", NULL); /* the CPUs start when we listen to QMP */
    option_f(c, "-kernel", "/proc/self/fd/%d", QEMU_FD_KERNEL);
    option_f(c, "-initrd", "/proc/self/fd/%d", QEMU_FD_INITRAMFS);
    option(c, "-append", spec->cmdline);
}

/* Locks are by file, and the root disk is shared by many; who writes a data disk is our business.
 * A guest's discards and zeroes give the host its space back. */
static void add_disks(struct qemu_cmdline *c, const struct vmm_spec *spec)
{
    if (spec->root_disk_fd >= 0) {
        option_f(c, "-add-fd", "fd=%d,set=%d", QEMU_FD_ROOT_DISK, QEMU_FD_ROOT_DISK);
        option_f(c, "-blockdev",
                 "driver=raw,node-name=root,read-only=on,file.driver=file,"
                 "file.filename=/dev/fdset/%d,file.locking=off",
                 QEMU_FD_ROOT_DISK);
        option(c, "-device", "virtio-blk-device,drive=root,serial=banger-root");
    }
    if (spec->data_disk_fd >= 0) {
        option_f(c, "-add-fd", "fd=%d,set=%d", QEMU_FD_DATA_DISK, QEMU_FD_DATA_DISK);
        option_f(c, "-blockdev",
                 "driver=raw,node-name=" QEMU_NODE_DATA
                 ",discard=unmap,detect-zeroes=unmap,file.driver=file,"
                 "file.filename=/dev/fdset/%d,file.locking=off",
                 QEMU_FD_DATA_DISK);
        /* A full host disk stops the guest, which loses nothing, instead of failing its writes. */
        option(c, "-device",
               "virtio-blk-device,drive=" QEMU_NODE_DATA
               ",serial=banger-data,werror=stop,rerror=report");
    }
}

static void add_channels(struct qemu_cmdline *c)
{
    option_f(c, "-add-fd", "fd=%d,set=%d", QEMU_FD_CONSOLE, QEMU_FD_CONSOLE);
    option_f(c, "-chardev", "file,id=console,path=/dev/fdset/%d,append=on", QEMU_FD_CONSOLE);
    option(c, "-serial", "chardev:console");
    option_f(c, "-chardev", "socket,id=qmp,fd=%d,server=on,wait=off", QEMU_FD_QMP);
    option(c, "-mon", "chardev=qmp,mode=control");
    option_f(c, "-chardev", "socket,id=agent,fd=%d,server=on,wait=off", QEMU_FD_AGENT);
    option(c, "-device", "virtio-serial-device,max_ports=2");
    /* The id makes QEMU report when the guest opens and closes the port. */
    option(c, "-device", "virtserialport,chardev=agent,name=banger.0,id=agent");
}

/* Behind all others, whose places on the bus are the same without it. */
static void add_card(struct qemu_cmdline *c, const struct vmm_spec *spec)
{
    if (spec->tap_fd >= 0) {
        option(c, "-netdev", HOST_QEMU_NETDEV);
        option(c, "-device", HOST_QEMU_CARD);
    }
}

int qemu_cmdline_build(const struct vmm_spec *spec, struct qemu_cmdline *ret, struct err *err)
{
    struct qemu_cmdline c = {0};

    if (check(spec, err) < 0) {
        return -1;
    }
    option(&c, QEMU_PROGRAM, NULL);
    option_f(&c, "-name", "guest=%s,debug-threads=on", spec->name);
    /* Where firmware would be looked for first, and is not: by it the process is known to be ours.
     */
    option(&c, "-L", spec->run_dir);
    option(&c, "-sandbox", HOST_QEMU_SANDBOX);
    option(&c, "-nodefaults", NULL);
    option(&c, "-no-user-config", NULL);
    option(&c, "-display", "none");
    option(&c, "-no-reboot", NULL);
    add_machine(&c, spec);
    add_memory(&c, spec);
    add_boot(&c, spec);
    add_disks(&c, spec);
    add_channels(&c);
    add_card(&c, spec);
    *ret = c;
    return 0;
}

char *qemu_cmdline_describe(const struct vmm_spec *spec)
{
    struct qemu_cmdline c = {0};
    struct buf text;

    buf_init(&text, QEMU_TEXT_MAX);
    option(&c, QEMU_PROGRAM, NULL);
    add_machine(&c, spec);
    add_disks(&c, spec);
    add_channels(&c);
    add_card(&c, spec);
    for (size_t i = 0; i < c.count; i++) {
        /* All of it is ours, and short. */
        if (buf_append_str(&text, c.argv[i]) < 0 || buf_append_str(&text, "\n") < 0) {
            abort();
        }
    }
    qemu_cmdline_done(&c);
    return buf_steal_str(&text);
}

void qemu_cmdline_done(struct qemu_cmdline *c)
{
    for (size_t i = 0; i < c->count; i++) {
        free(c->argv[i]);
    }
    *c = (struct qemu_cmdline){0};
}

int qemu_parse_version(const char *text, char *ret_version, size_t size)
{
    static const char before[] = "QEMU emulator version ";
    const char *p = strstr(text, before);
    size_t n;

    if (!p) {
        return -EPROTO;
    }
    p += strlen(before);
    n = strspn(p, "0123456789.");
    if (n == 0 || n >= size || !isdigit((unsigned char)p[0])) {
        return -EPROTO;
    }
    memcpy(ret_version, p, n);
    ret_version[n] = '\0';
    return 0;
}
