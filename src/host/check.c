/*
 * What the helper lets its daemon have: everything is checked here once more, by somebody who does
 * not trust it.
 */
#include "base/str.h"
#include "host/host_priv.h"
#include "host/net.h"

#include <ctype.h>
#include <string.h>
#include <sys/un.h>

#define TEXT_MAX 8192U
#define RUN_DIR_MAX 4096U

enum kind {
    KIND_FLAG,    /* has no value */
    KIND_EXACT,   /* the value is the text */
    KIND_BEGINS,  /* it begins with one of the texts, '|'-separated; is one that ends with '$' */
    KIND_RUN_DIR, /* it is the run directory */
    KIND_TEXT,    /* anything: it is for the guest */
};

/*
 * QEMU's options, closed. Paths of files are in none of them but as descriptors, so that what QEMU
 * opens is what the daemon had opened. Each of `must` is there.
 */
static const struct option {
    const char *name;
    enum kind kind;
    const char *text;
    bool must;
} options[] = {
    {"-name", KIND_BEGINS, "guest=", false},
    {"-L", KIND_RUN_DIR, NULL, true},
    {"-sandbox", KIND_EXACT, HOST_QEMU_SANDBOX, true},
    {"-nodefaults", KIND_FLAG, NULL, true},
    {"-no-user-config", KIND_FLAG, NULL, true},
    {"-display", KIND_EXACT, "none", true},
    {"-no-reboot", KIND_FLAG, NULL, false},
    {"-S", KIND_FLAG, NULL, false},
    {"-machine", KIND_BEGINS, "microvm,", true},
    {"-accel", KIND_BEGINS, "kvm|tcg,", true},
    {"-cpu", KIND_BEGINS, "host|max", false},
    {"-smp", KIND_BEGINS, "", false},
    {"-m", KIND_BEGINS, "", false},
    {"-kernel", KIND_BEGINS, "/proc/self/fd/", false},
    {"-initrd", KIND_BEGINS, "/proc/self/fd/", false},
    {"-object", KIND_BEGINS, "memory-backend-file,id=ram,mem-path=/proc/self/fd/", false},
    {"-incoming", KIND_EXACT, "defer", false},
    {"-append", KIND_TEXT, NULL, false},
    {"-add-fd", KIND_BEGINS, "fd=", false},
    {"-blockdev", KIND_BEGINS, "driver=raw,", false},
    {"-device", KIND_BEGINS,
     "virtio-blk-device,|virtio-serial-device,|virtserialport,|" HOST_QEMU_CARD "$", false},
    {"-netdev", KIND_EXACT, HOST_QEMU_NETDEV, false},
    {"-chardev", KIND_BEGINS, "file,id=console,|socket,id=qmp,fd=|socket,id=agent,fd=", false},
    {"-serial", KIND_EXACT, "chardev:console", false},
    {"-mon", KIND_EXACT, "chardev=qmp,mode=control", false},
};

/* No path but that of a descriptor, or of a set of them. */
static bool has_no_path(const char *value)
{
    static const char set[] = "/dev/fdset/", fd[] = "/proc/self/fd/";

    for (const char *p = strchr(value, '/'); p; p = strchr(p, '/')) {
        p += str_starts_with(p, set)  ? sizeof(set) - 1
             : str_starts_with(p, fd) ? sizeof(fd) - 1
                                      : 0;
        if (!isdigit((unsigned char)p[0])) {
            return false;
        }
    }
    return true;
}

static bool begins(const char *value, const char *texts)
{
    for (;;) {
        size_t n = strcspn(texts, "|"), len = n;
        bool whole = n > 0 && texts[n - 1] == '$';

        len -= whole;
        if (strncmp(value, texts, len) == 0 && (!whole || value[len] == '\0')) {
            return has_no_path(value);
        }
        if (texts[n] == '\0') {
            return false;
        }
        texts += n + 1;
    }
}

static bool value_is_fine(const struct option *o, const char *value, const char *run_dir)
{
    if (strlen(value) > TEXT_MAX) {
        return false;
    }
    switch (o->kind) {
    case KIND_EXACT:
        return str_eq(value, o->text);
    case KIND_BEGINS:
        return begins(value, o->text);
    case KIND_RUN_DIR:
        return str_eq(value, run_dir);
    case KIND_TEXT:
        return true;
    case KIND_FLAG:
        break;
    }
    return false;
}

static const struct option *find_option(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (str_eq(options[i].name, name)) {
            return &options[i];
        }
    }
    return NULL;
}

/* What is wrong with an argument list, or NULL. */
static const char *check_arguments(const char *const *argv, const char *run_dir)
{
    bool seen[ARRAY_LEN(options)] = {false};

    if (!str_eq(argv[0], HOST_QEMU_PROGRAM)) {
        return "the program";
    }
    for (const char *const *arg = argv + 1; *arg; arg++) {
        const struct option *o = find_option(*arg);

        if (!o) {
            return "an option that is not in the table";
        }
        seen[o - options] = true;
        if (o->kind == KIND_FLAG) {
            continue;
        }
        arg++;
        if (!*arg || !value_is_fine(o, *arg, run_dir)) {
            return o->name;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (options[i].must && !seen[i]) {
            return options[i].name;
        }
    }
    return NULL;
}

/* DIRECTORY/vms/NAME, where NAME is a VM's id or the like. */
static bool is_run_dir(const char *path, const char *runtime_dir)
{
    static const char middle[] = "/vms/";
    size_t n = strlen(runtime_dir);
    const char *name;

    if (strlen(path) > RUN_DIR_MAX || strncmp(path, runtime_dir, n) != 0 ||
        strncmp(path + n, middle, sizeof(middle) - 1) != 0) {
        return false;
    }
    name = path + n + sizeof(middle) - 1;
    return isalnum((unsigned char)name[0]) && strlen(name) <= 64 &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-")] == '\0';
}

static bool descriptors_are_fine(const struct host_launch *p)
{
    uint64_t used = 0;

    for (size_t i = 0; i < p->fd_count; i++) {
        int as = p->fds[i].as;

        if (as < 1 || as >= HOST_FD_MAX || (used & (1ULL << as))) {
            return false;
        }
        used |= 1ULL << as;
    }
    return p->fd_count < SPAWN_FDS_MAX; /* room for the launcher's report */
}

const char *host_check_launch(const struct host_launch *p, const char *runtime_dir)
{
    if (!is_run_dir(p->run_dir, runtime_dir)) {
        return "the run directory";
    }
    if (p->memory_mib < 1 || p->memory_mib > HOST_MEMORY_MIB_MAX) {
        return "the memory";
    }
    if (p->vcpus < 1 || p->vcpus > HOST_VCPUS_MAX) {
        return "the vcpus";
    }
    if (p->disk_bytes > HOST_DISK_BYTES_MAX) {
        return "the disk";
    }
    if (!descriptors_are_fine(p)) {
        return "the descriptors";
    }
    return p->argv[0] ? check_arguments(p->argv, p->run_dir) : "the program";
}

const char *host_check_vmm(const struct vmm_process *process, const char *run_dir,
                           uint64_t disk_bytes, const char *runtime_dir)
{
    return process->pid <= 1                   ? "the process"
           : !is_run_dir(run_dir, runtime_dir) ? "the run directory"
           : disk_bytes > HOST_DISK_BYTES_MAX  ? "the disk"
                                               : NULL;
}
