/* Each check of the daemon's list, in a world of files where all is well until one thing is broken:
 * then that check, and what it says of evidence and fix. A check that no case breaks is a failure.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "daemon/doctor.h"
#include "host/process.h"
#include "scratch.h"
#include "version.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define HEX_IMAGE "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_KERNEL "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define VM_ID "0123456789abcdef0123456789abcdef"
#define OTHER_USER 4242
#define LIMITS                                                                                     \
    "Limit                     Soft Limit           Hard Limit           Units     \n"             \
    "Max file size             unlimited            unlimited            bytes     \n"             \
    "Max processes             96364                96364                processes \n"             \
    "Max open files            1024                 1048576              files     \n"             \
    "Max locked memory         8388608              8388608              bytes     \n"             \
    "Max address space         unlimited            unlimited            bytes     \n"
#define MOUNTS                                                                                     \
    "22 21 0:20 / /proc rw,relatime - proc proc rw\n"                                              \
    "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"

struct world {
    struct scratch dir;
    struct paths paths;
    struct config config;
    struct err config_err, store_err;
    struct daemon_doctor_params params;
    char *bin, *helper, *launcher, *agent, *mkroot, *root;
    struct store *store;
    pid_t child;
};

/* What statfs says of every filesystem. */
static struct statfs filesystem;

static int fake_statfs(const char *path, struct statfs *st)
{
    if (access(path, F_OK) < 0) {
        return -1;
    }
    *st = filesystem;
    return 0;
}

/* The world ------------------------------------------------------------------------------------ */

static void put_mode(const struct world *w, const char *name, const char *text, mode_t mode)
{
    _cleanup_free_ char *path = x_asprintf("%s/%s", w->dir.path, name);
    _cleanup_free_ char *above = x_strdup(path);
    int fd;

    *strrchr(above, '/') = '\0';
    assert_int_equal(fs_mkdir_p(above, 0700), 0);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(fs_write_all(fd, text, strlen(text)), 0);
    assert_int_equal(fchmod(fd, mode), 0);
    (void)close(fd);
}

static void put(const struct world *w, const char *name, const char *text)
{
    put_mode(w, name, text, 0600);
}

static void gone(const struct world *w, const char *name)
{
    assert_int_equal(fs_remove_tree(w->dir.fd, name), 0);
}

static void mode(const struct world *w, const char *name, mode_t mode)
{
    assert_int_equal(fchmodat(w->dir.fd, name, mode, 0), 0);
}

static void put_program(const struct world *w, const char *name)
{
    put_mode(w, name, "#!/bin/sh\n# " BANGER_VERSION_KEY BANGER_VERSION, 0755);
    /* The version ends with a NUL, as in a program. */
    _cleanup_close_ int fd = openat(w->dir.fd, name, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "", 1), 1);
}

static void publish(const struct world *w, enum store_kind kind, const char *hex, const char *name)
{
    char config[] = "{}";
    struct artifact_row row = {
        .created_ms = 1, .size_bytes = 5, .version = "6.1.0", .config = config};
    struct err err;

    (void)snprintf(row.digest, sizeof(row.digest), "sha256:%s", hex);
    assert_int_equal(store_artifact_publish(w->store, kind, &row, name, &err), 0);
}

static void put_system(const struct world *w)
{
    static const struct {
        const char *name, *text;
    } files[] = {
        {"proc/sys/kernel/osrelease", "6.1.0\n"},
        {"proc/self/mountinfo", MOUNTS},
        {"proc/self/limits", LIMITS},
        {"proc/self/uid_map", "         0          0 4294967295\n"},
        {"proc/sys/kernel/random/entropy_avail", "256\n"},
        {"proc/sys/kernel/seccomp/actions_avail", "kill_process errno allow\n"},
        {"proc/sys/user/max_user_namespaces", "10000\n"},
        {"proc/sys/kernel/pid_max", "32768\n"},
        {"proc/sys/kernel/threads-max", "65536\n"},
        {"proc/sys/fs/file-nr", "1000\t0\t100000\n"},
        {"proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n"},
        {"proc/sys/vm/overcommit_memory", "0\n"},
        {"proc/sys/vm/max_map_count", "65530\n"},
        {"proc/sys/net/ipv4/conf/all/forwarding", "0\n"},
        {"proc/net/route",
         "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
         "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
         "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"},
        {"proc/net/udp", "  sl  local_address rem_address\n"
                         "  12: 0100007F:0035 00000000:0000 07\n"},
        {"proc/modules", "nf_tables 290816 0 - Live 0x0\n"},
        {"sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"},
        {"sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"},
        {"sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n"},
        {"run/systemd/resolve/io.systemd.Resolve", ""},
        {"dev/net/tun", ""},
        {"dev/kvm", ""},
    };

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        _cleanup_free_ char *name = x_asprintf("root/%s", files[i].name);

        put(w, name, files[i].text);
    }
}

static void put_programs(const struct world *w)
{
    static const char *const tools[] = {"mke2fs", "nft", "pasta"};
    static const char *const ours[] = {"helper", "launch", "agent", "mkroot"};

    for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
        _cleanup_free_ char *name = x_asprintf("bin/%s", tools[i]);

        put_mode(w, name, "#!/bin/sh\n", 0755);
    }
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        _cleanup_free_ char *name = x_asprintf("own/%s", ours[i]);

        put_program(w, name);
    }
    put_mode(w, "bin/qemu-system-x86_64", "#!/bin/sh\necho QEMU emulator version 7.2.22\n", 0755);
}

static char *below(const struct world *w, const char *name)
{
    return x_asprintf("%s/%s", w->dir.path, name);
}

static void open_store(struct world *w)
{
    _cleanup_close_ int fd = open(w->paths.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err err;

    assert_int_equal(store_open(fd, &w->store, &err), 0);
    publish(w, STORE_IMAGE, HEX_IMAGE, "debian");
    publish(w, STORE_KERNEL, HEX_KERNEL, "k");
    store_close(w->store);
    w->store = NULL;
}

static void world_init(struct world *w)
{
    struct err err;

    *w = (struct world){.dir = scratch_new()};
    w->paths = (struct paths){.config = below(w, "config.toml"),
                              .state_dir = below(w, "s"),
                              .cache_dir = below(w, "c"),
                              .runtime_dir = below(w, "r"),
                              .socket = below(w, "r/banger.sock"),
                              .owner_uid = geteuid()};
    for (const char *const *d = (const char *const[]){"s", "c", "r", NULL}; *d; d++) {
        assert_int_equal(mkdirat(w->dir.fd, *d, 0700), 0);
    }
    put_system(w);
    put_programs(w);
    open_store(w);
    put(w, "s/images/" HEX_IMAGE ".ext4", "x");
    put(w, "s/kernels/" HEX_KERNEL "/vmlinux", "x");
    put(w, "s/kernels/" HEX_KERNEL "/order", "virtio\nvirtio_blk\n");
    put(w, "s/kernels/" HEX_KERNEL "/virtio", "x");
    put(w, "s/kernels/" HEX_KERNEL "/virtio_blk", "x");
    w->bin = below(w, "bin");
    w->root = below(w, "root");
    w->helper = below(w, "own/helper");
    w->launcher = below(w, "own/launch");
    w->agent = below(w, "own/agent");
    w->mkroot = below(w, "own/mkroot");
    assert_int_equal(config_parse(w->paths.config, "", 0, &w->config, &err), 0);
    filesystem = (struct statfs){.f_type = EXT4_SUPER_MAGIC,
                                 .f_bsize = 4096,
                                 .f_blocks = 1 << 24,
                                 .f_bavail = 1 << 23,
                                 .f_files = 1 << 20,
                                 .f_ffree = 1 << 19};
    w->params = (struct daemon_doctor_params){.paths = &w->paths,
                                              .config = &w->config,
                                              .vmm = &vmm_qemu_ops,
                                              .helper = w->helper,
                                              .launcher = w->launcher,
                                              .agent = w->agent,
                                              .mkroot = w->mkroot,
                                              .has_root = true,
                                              .tsc_khz = 2000000,
                                              .root = w->root,
                                              .statfs = fake_statfs};
    (void)setenv("PATH", w->bin, 1);
}

static void world_done(struct world *w)
{
    if (w->child > 0) {
        (void)kill(w->child, SIGKILL);
        (void)waitpid(w->child, NULL, 0);
    }
    store_close(w->store);
    config_done(&w->config);
    paths_done(&w->paths);
    free(w->bin);
    free(w->root);
    free(w->helper);
    free(w->launcher);
    free(w->agent);
    free(w->mkroot);
    scratch_done(&w->dir);
}

/* Runs the check of that name, or, without one, all: those that do not pass are counted. */
static unsigned run(struct world *w, const char *id, struct doctor_finding *ret)
{
    _cleanup_(daemon_doctor_free_p) struct daemon_doctor *d = NULL;
    const struct doctor_check *c;
    unsigned bad = 0, seen = 0;

    if (store_open_read_only(w->paths.state_dir, &w->params.store, &w->store_err) < 0) {
        w->params.store = NULL;
    }
    w->params.store_err = &w->store_err;
    d = daemon_doctor_new(&w->params);
    for (size_t i = 0; (c = doctor_at(daemon_doctor_list(d), i)); i++) {
        struct doctor_finding f;

        if (id && !str_eq(id, c->id)) {
            continue;
        }
        doctor_run(daemon_doctor_list(d), i, &f);
        seen++;
        *ret = f;
        if (f.status != DOCTOR_PASS) {
            bad++;
            if (!id) {
                print_message("%s: %s (%s)\n", c->id, f.summary, f.evidence);
            }
        }
    }
    assert_true(seen > 0);
    store_close(w->params.store);
    return bad;
}

/* What is broken ------------------------------------------------------------------------------- */

#define PUT(fn, file, text)                                                                        \
    static void fn(struct world *w)                                                                \
    {                                                                                              \
        put(w, file, text);                                                                        \
    }
#define GONE(fn, file)                                                                             \
    static void fn(struct world *w)                                                                \
    {                                                                                              \
        gone(w, file);                                                                             \
    }
#define DO(fn, ...)                                                                                \
    static void fn(struct world *w)                                                                \
    {                                                                                              \
        (void)w;                                                                                   \
        __VA_ARGS__;                                                                               \
    }

static void bad_config(struct world *w)
{
    (void)err_set(&w->config_err, ERR_INVALID, "config.toml:1:1: unknown key 'acel'");
    w->params.config_err = &w->config_err;
}

static void open_config(struct world *w)
{
    put_mode(w, "config.toml", "", 0666);
}

/* One VM's row; its image and kernel are there. */
static void put_vm(struct world *w, enum vm_state state, const char *reason)
{
    _cleanup_close_ int fd = open(w->paths.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char labels[] = "{}", description[] = "";
    struct vm_object disk = {.kind = OBJECT_STATE_DIR, .name = VM_ID};
    struct vm_row row = {.id = VM_ID,
                         .name = "one",
                         .state = state,
                         .image_digest = "sha256:" HEX_IMAGE,
                         .kernel_digest = "sha256:" HEX_KERNEL,
                         .vmm = "qemu",
                         .labels = labels,
                         .description = description,
                         .objects = &disk,
                         .object_count = 1};
    struct err err;

    (void)snprintf(row.reason, sizeof(row.reason), "%s", reason);
    assert_int_equal(store_open(fd, &w->store, &err), 0);
    assert_int_equal(store_vm_insert(w->store, &row, &err), 0);
    store_close(w->store);
    w->store = NULL;
}

DO(vm_in_error, put_vm(w, VM_ERROR, "its process cannot be ended"))
DO(vm_without_room, put_vm(w, VM_PAUSED, "disk_full"))
DO(vm_without_disk, put_vm(w, VM_STOPPED, "user"))

/* A process that has a run directory of ours on its command line, and the name of a VMM. */
static void stray(struct world *w)
{
    _cleanup_free_ char *log = x_asprintf("%s/vms/" VM_ID "/vmm.log", w->paths.runtime_dir);
    int ends[2];
    char byte;

    put(w, "r/vms/" VM_ID "/vmm.log", "");
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    w->child = fork();
    if (w->child == 0) {
        (void)execl("/usr/bin/tail", "qemu-system-x86_64", "-f", log, (char *)NULL);
        _exit(1);
    }
    (void)close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 0); /* it has been executed */
    (void)close(ends[0]);
}

PUT(stray_dir, "r/vms/" VM_ID "/agent.sock", "")

static void open_socket(struct world *w)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", w->paths.socket);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    mode(w, "r/banger.sock", 0666);
}

static void damaged_store(struct world *w)
{
    put_mode(w, "s/banger.db", "this is no database, whatever its name says it is", 0600);
}

static void large_log(struct world *w)
{
    put(w, "s/bangerd.log", "");
    _cleanup_close_ int fd = openat(w->dir.fd, "s/bangerd.log", O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 1 << 30), 0);
}

/* The verdict of an earlier start, of this boot of the host. */
static void kvm_failed(struct world *w)
{
    char boot_id[BOOT_ID_SIZE];
    _cleanup_free_ char *text = NULL;

    assert_int_equal(process_boot_id(boot_id), 0);
    text =
        x_asprintf("{\"key\":\"%s qemu 7.2.22 k\",\"accel\":\"tcg\",\"why\":\"it died\"}", boot_id);
    put(w, "c/accel.json", text);
}

static void kvm_wanted(struct world *w)
{
    free(w->config.accel);
    w->config.accel = x_strdup("kvm");
    gone(w, "root/dev/kvm");
}

static void tcg_without_tsc(struct world *w)
{
    free(w->config.accel);
    w->config.accel = x_strdup("tcg");
    w->params.tsc_khz = 0;
}

static void other_kernel(struct world *w)
{
    free(w->config.default_kernel);
    w->config.default_kernel = x_strdup("nosuch");
}

static void older_qemu(struct world *w)
{
    put_mode(w, "bin/qemu-system-x86_64", "#!/bin/sh\necho QEMU emulator version 5.2.0\n", 0755);
}

static void mute_qemu(struct world *w)
{
    put_mode(w, "bin/qemu-system-x86_64", "#!/bin/sh\n", 0755);
}

static void older_agent(struct world *w)
{
    put_mode(w, "own/agent", "x" BANGER_VERSION_KEY "0.0.1", 0755);
}

DO(nobody_owner, w->paths.owner_uid = OTHER_USER)
DO(open_state, mode(w, "s", 0777))
DO(seen_state, mode(w, "s", 0755))
DO(open_cache, mode(w, "c", 0770))
DO(open_runtime, mode(w, "r", 0777))
DO(state_is_a_file, gone(w, "s"); put(w, "s", ""))
DO(open_database, mode(w, "s/banger.db", 0644))
GONE(no_agent, "own/agent")
GONE(no_mkroot, "own/mkroot")
GONE(no_launcher, "own/launch")
GONE(no_helper, "own/helper")
DO(no_helper_no_root, gone(w, "own/helper"); w->params.has_root = false)
DO(open_program, mode(w, "own/launch", 0777))
PUT(old_kernel, "root/proc/sys/kernel/osrelease", "4.19.0-27-amd64\n")
PUT(hidden, "root/proc/self/mountinfo", "22 21 0:20 / /proc rw - proc proc rw,hidepid=2\n")
GONE(no_mounts, "root/proc/self/mountinfo")
DO(year_1970, w->params.now_ms = 1000)
PUT(slow_clock, "root/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n")
PUT(no_entropy, "root/proc/sys/kernel/random/entropy_avail", "12\n")
GONE(no_seccomp, "root/proc/sys/kernel/seccomp")
DO(no_namespaces, put(w, "root/proc/sys/user/max_user_namespaces", "0\n");
   w->params.has_root = false)
DO(apparmor, put(w, "root/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
   w->params.has_root = false)
PUT(few_uids, "root/proc/self/uid_map", "0 100000 65536\n")
PUT(no_memory_controller, "root/sys/fs/cgroup/cgroup.controllers", "cpu io pids\n")
PUT(no_cgroup, "root/proc/self/mountinfo", "22 21 0:20 / /proc rw - proc proc rw\n")
GONE(no_qemu, "bin/qemu-system-x86_64")
GONE(no_kvm, "root/dev/kvm")
DO(no_tsc, w->params.tsc_khz = 0)
DO(full, filesystem.f_bavail = 10)
DO(nearly_full, filesystem.f_bavail = 1000)
DO(no_inodes, filesystem.f_ffree = 3)
DO(nfs, filesystem.f_type = NFS_SUPER_MAGIC)
GONE(no_mke2fs, "bin/mke2fs")
#define LIMIT(fn, line) PUT(fn, "root/proc/self/limits", line)
LIMIT(few_files, "Max open files 256 256 files\n")
LIMIT(few_processes, "Max processes 100 100 processes\n")
LIMIT(no_locked, "Max locked memory 0 0 bytes\n")
LIMIT(small_space, "Max address space 1073741824 1073741824 bytes\n")
LIMIT(small_files, "Max file size 1048576 1048576 bytes\n")
PUT(few_pids, "root/proc/sys/kernel/pid_max", "1000\n")
PUT(many_files, "root/proc/sys/fs/file-nr", "99000\t0\t100000\n")
PUT(no_memory, "root/proc/meminfo", "MemAvailable: 300000 kB\n")
PUT(strict, "root/proc/sys/vm/overcommit_memory", "2\n")
PUT(few_mappings, "root/proc/sys/vm/max_map_count", "1000\n")
PUT(no_huge, "root/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n")
GONE(no_vmlinux, "s/kernels/" HEX_KERNEL "/vmlinux")
GONE(no_database, "s/banger.db")
GONE(no_module, "s/kernels/" HEX_KERNEL "/virtio_blk")
GONE(no_order, "s/kernels/" HEX_KERNEL "/order")
GONE(no_disk, "s/images/" HEX_IMAGE ".ext4")
GONE(no_tun, "root/dev/net/tun")
GONE(no_nft, "bin/nft")
GONE(no_nf_tables, "root/proc/modules")
GONE(no_forwarding, "root/proc/sys/net")
PUT(taken, "root/proc/net/route",
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    "vpn0\t0005C90A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n")
PUT(docker, "root/sys/class/net/docker0/address", "")
PUT(firewalld, "root/run/firewalld/x", "")
PUT(ufw, "root/etc/ufw/ufw.conf", "ENABLED=yes\n")
PUT(legacy, "root/proc/net/ip_tables_names", "filter\n")
PUT(dns, "root/proc/net/udp", "  sl  local_address\n  12: 00000000:0035 00000000:0000 07\n")
GONE(no_resolved, "root/run/systemd")
DO(no_pasta, gone(w, "bin/pasta"); w->params.has_root = false)

static const struct {
    const char *id;
    void (*break_it)(struct world *w);
    enum doctor_status status;
    const char *evidence, *fix;
} cases[] = {
    {"config", bad_config, DOCTOR_FAIL, "/config.toml", "edit /"},
    {"config", open_config, DOCTOR_WARN, "mode 666", "chmod go-w '/"},
    {"owner", nobody_owner, DOCTOR_WARN, "owner 4242", "useradd -u 4242"},
    {"state-dir", open_state, DOCTOR_FAIL, "/s: owner", "chmod 700 '/"},
    {"state-dir", seen_state, DOCTOR_WARN, "mode 755", "chmod 700 '/"},
    {"state-dir", state_is_a_file, DOCTOR_FAIL, "/s: owner", "mv '/"},
    {"cache-dir", open_cache, DOCTOR_FAIL, "/c: owner", "chmod 700 '/"},
    {"runtime-dir", open_runtime, DOCTOR_FAIL, "/r: owner", "chmod 700 '/"},
    {"socket", open_socket, DOCTOR_FAIL, "/r/banger.sock: owner", "chmod 600 '/"},
    {"files", open_database, DOCTOR_WARN, "/s/banger.db: mode 644", "chmod 600 '/"},
    {"log", large_log, DOCTOR_WARN, "/s/bangerd.log: 1073741824", "truncate -s 0 '/"},
    {"agent", no_agent, DOCTOR_FAIL, "/own/agent: No such file", "install banger again"},
    {"mkroot", no_mkroot, DOCTOR_FAIL, "/own/mkroot: No such file", "install banger again"},
    {"programs", open_program, DOCTOR_WARN, "/own/launch: mode 777", "chmod go-w '/"},
    {"programs-version", older_agent, DOCTOR_WARN,
     "/own/agent: version 0.0.1; bangerd: ", "install banger again"},
    {"host-kernel", old_kernel, DOCTOR_FAIL, "4.19.0-27-amd64", "Linux 5.10 or newer"},
    {"proc", hidden, DOCTOR_WARN, "hidepid=2", "mount -o remount,hidepid=0 /proc"},
    {"proc", no_mounts, DOCTOR_FAIL, "/proc/self/mountinfo: No such", "mount -t proc proc /proc"},
    {"clock", year_1970, DOCTOR_FAIL, "1970-01-01", "timedatectl"},
    {"clock", slow_clock, DOCTOR_WARN, "clock source hpet", "dmesg"},
    {"entropy", no_entropy, DOCTOR_WARN, "entropy_avail: 12", "rng"},
    {"seccomp", no_seccomp, DOCTOR_FAIL, "actions_avail: No such", "CONFIG_SECCOMP_FILTER=y"},
    {"user-namespaces", no_namespaces, DOCTOR_WARN, "max_user_namespaces: 0",
     "sysctl -w user.max_user_namespaces="},
    {"user-namespaces", apparmor, DOCTOR_WARN, "apparmor_restrict_unprivileged_userns: 1",
     "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
    {"vmm-uids", few_uids, DOCTOR_FAIL, "0 100000 65536", "vmm_uid_first"},
    {"cgroup", no_memory_controller, DOCTOR_WARN, "cgroup.controllers: cpu io pids",
     "unified_cgroup_hierarchy"},
    {"cgroup", no_cgroup, DOCTOR_WARN, "no cgroup2", "unified_cgroup_hierarchy"},
    {"launcher", no_launcher, DOCTOR_FAIL, "/own/launch: No such file", "beside bangerd"},
    {"helper", no_helper, DOCTOR_FAIL, "/own/helper: No such file", "beside bangerd"},
    {"helper", no_helper_no_root, DOCTOR_WARN, "/own/helper: No such file", "beside bangerd"},
    {"vmm", no_qemu, DOCTOR_FAIL, "qemu-system-x86_64: not in PATH", "qemu-system-x86"},
    {"vmm-version", older_qemu, DOCTOR_WARN, "--version: 5.2.0", "qemu-system-x86"},
    {"vmm-version", mute_qemu, DOCTOR_FAIL, "qemu-system-x86_64 --version", "--version"},
    {"kvm", no_kvm, DOCTOR_WARN, "/dev/kvm: No such file", "modprobe kvm_intel"},
    {"kvm", kvm_failed, DOCTOR_WARN, "a guest was tried with it: it died", "/c/accel.json"},
    {"kvm", kvm_wanted, DOCTOR_FAIL, "/dev/kvm: No such file", "modprobe kvm_intel"},
    {"tsc", no_tsc, DOCTOR_WARN, "0 kHz", "constant_tsc"},
    {"tsc", tcg_without_tsc, DOCTOR_FAIL, "0 kHz", "constant_tsc"},
    {"state-space", full, DOCTOR_FAIL, "/s: 40.0 KiB free", "make room"},
    {"state-space", nearly_full, DOCTOR_WARN, "/s: 3.9 MiB free", "min_free_mib"},
    {"cache-space", nearly_full, DOCTOR_WARN, "/c: 3.9 MiB free", "make room"},
    {"runtime-space", full, DOCTOR_WARN, "/r: 40.0 KiB free", "BANGER_RUNTIME_DIR"},
    {"state-inodes", no_inodes, DOCTOR_WARN, "/s: 3 inodes free", "du --inodes"},
    {"cache-inodes", no_inodes, DOCTOR_WARN, "/c: 3 inodes free", "du --inodes"},
    {"runtime-inodes", no_inodes, DOCTOR_WARN, "/r: 3 inodes free", "du --inodes"},
    {"filesystem", nfs, DOCTOR_WARN, "/s: type 0x6969", "BANGER_STATE_DIR"},
    {"mke2fs", no_mke2fs, DOCTOR_FAIL, "mke2fs: not in PATH", "apt-get install e2fsprogs"},
    {"open-files", few_files, DOCTOR_WARN, "Max open files: 256", "ulimit -Hn"},
    {"processes", few_processes, DOCTOR_WARN, "Max processes: 100", "ulimit -Hu"},
    {"locked-memory", no_locked, DOCTOR_WARN, "Max locked memory: 0", "ulimit -Hl"},
    {"address-space", small_space, DOCTOR_FAIL, "Max address space: 1073741824", "ulimit -Hv"},
    {"file-size", small_files, DOCTOR_FAIL, "Max file size: 1048576", "ulimit -Hf"},
    {"pids", few_pids, DOCTOR_WARN, "pid_max: 1000", "sysctl -w kernel.pid_max="},
    {"host-files", many_files, DOCTOR_WARN, "file-nr: 99000", "sysctl -w fs.file-max=200000"},
    {"memory", no_memory, DOCTOR_WARN, "MemAvailable 300000 kB", "banger ps"},
    {"overcommit", strict, DOCTOR_WARN, "overcommit_memory: 2", "vm.overcommit_memory=0"},
    {"mappings", few_mappings, DOCTOR_WARN, "max_map_count: 1000", "vm.max_map_count="},
    {"huge-pages", no_huge, DOCTOR_WARN, "[never]", "echo madvise >/sys/"},
    {"store", damaged_store, DOCTOR_FAIL, "/s/banger.db: ", "verify-store"},
    {"kernel", no_vmlinux, DOCTOR_FAIL, "/vmlinux: No such file", "banger kernel import"},
    {"kernel", other_kernel, DOCTOR_FAIL, "nosuch", "default_kernel"},
    {"kernel", no_database, DOCTOR_WARN, "no kernel in ", "banger kernel import"},
    {"modules", no_module, DOCTOR_FAIL, "/virtio_blk: missing", "banger kernel import"},
    {"modules", no_order, DOCTOR_FAIL, "/order: No such file", "banger kernel import"},
    {"image", no_disk, DOCTOR_FAIL, HEX_IMAGE ".ext4: missing", "banger image register debian"},
    {"image", no_database, DOCTOR_WARN, "default_image = \"debian\"", "banger image register"},
    {"stale-objects", stray, DOCTOR_WARN, "(qemu-system-x86_64): no VM has it",
     "banger daemon reconcile"},
    {"stale-objects", stray_dir, DOCTOR_WARN, "/r/vms/" VM_ID, "banger daemon reconcile"},
    {"vms", vm_in_error, DOCTOR_WARN, "VM 'one' is error: its process", "banger start one"},
    {"data-disks", vm_without_disk, DOCTOR_WARN, "VM 'one': ", "put it back"},
    {"vms", vm_without_room, DOCTOR_WARN, "VM 'one' is paused: disk_full", "make room"},
    {"tun", no_tun, DOCTOR_WARN, "/dev/net/tun: No such file", "modprobe tun"},
    {"nft", no_nft, DOCTOR_WARN, "nft: not in PATH", "apt-get install nftables"},
    {"nft", no_nf_tables, DOCTOR_WARN, "no nf_tables", "modprobe nf_tables"},
    {"forwarding", no_forwarding, DOCTOR_WARN, "forwarding: No such file", "mount"},
    {"subnet", taken, DOCTOR_WARN, "10.201.5.0 by vpn0", "ip route show dev vpn0"},
    {"firewall", docker, DOCTOR_WARN, "docker0", "DOCKER-USER"},
    {"firewall", firewalld, DOCTOR_WARN, "/run/firewalld", "firewall-cmd"},
    {"firewall", ufw, DOCTOR_WARN, "/etc/ufw/ufw.conf", "ufw route allow"},
    {"firewall", legacy, DOCTOR_WARN, "ip_tables_names", "iptables-legacy -I FORWARD"},
    {"dns-port", dns, DOCTOR_WARN, "/proc/net/udp: port 53", "ss -lunp"},
    {"resolver", no_resolved, DOCTOR_WARN, "io.systemd.Resolve: missing",
     "server=/vm/127.0.0.1#5354"},
    {"pasta", no_pasta, DOCTOR_WARN, "pasta: not in PATH", "sudo banger"},
};

/* Those that look at VMs that run: system/test_doctor.py breaks them. */
static const char *const elsewhere[] = {"agents"};

/* Tests ---------------------------------------------------------------------------------------- */

static void all_checks_pass_where_all_is_well(void **state)
{
    struct world w;
    struct doctor_finding last;

    (void)state;
    world_init(&w);
    assert_int_equal(run(&w, NULL, &last), 0);
    world_done(&w);
}

static void what_is_broken_is_told_with_evidence_and_fix(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct doctor_finding f;
        struct world w;

        world_init(&w);
        cases[i].break_it(&w);
        (void)run(&w, cases[i].id, &f);
        if (f.status != cases[i].status || !strstr(f.evidence, cases[i].evidence) ||
            !strstr(f.fix, cases[i].fix)) {
            print_error("case %zu, %s: %s: %s\n  evidence: %s\n  fix: %s\n", i, cases[i].id,
                        doctor_status_name(f.status), f.summary, f.evidence, f.fix);
            fail();
        }
        world_done(&w);
    }
}

static void every_check_has_a_case_that_breaks_it(void **state)
{
    _cleanup_(daemon_doctor_free_p) struct daemon_doctor *d = NULL;
    const struct doctor_check *c;
    struct world w;
    unsigned count = 0;

    (void)state;
    world_init(&w);
    d = daemon_doctor_new(&w.params);
    for (size_t i = 0; (c = doctor_at(daemon_doctor_list(d), i)); i++) {
        bool found = false;

        for (size_t j = 0; j < ARRAY_LEN(cases); j++) {
            found |= str_eq(cases[j].id, c->id);
        }
        for (size_t j = 0; j < ARRAY_LEN(elsewhere); j++) {
            found |= str_eq(elsewhere[j], c->id);
        }
        if (!found) {
            fail_msg("no case breaks the check '%s'", c->id);
        }
        assert_true(c->title && c->title[0]);
        count++;
    }
    assert_true(count >= 30);
    world_done(&w);
}

/* What a start needs is what `doctor` says of it, and its code is what a start has always had. */
static void checks_that_gate_the_start_are_its_errors(void **state)
{
    static const struct {
        void (*break_it)(struct world *w);
        enum err_code code;
        const char *message, *hint;
    } gates[] = {
        {no_qemu, ERR_UNSUPPORTED, "'qemu-system-x86_64' is not installed", "apt-get install"},
        {no_launcher, ERR_UNSUPPORTED, "/own/launch' is not installed", "beside bangerd"},
        {no_agent, ERR_IO, "cannot read the guest agent", "install banger again"},
        {full, ERR_NO_SPACE, "too full for the start of a VM: 1.0 MiB needed", "make room"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(gates); i++) {
        struct daemon_doctor *d;
        struct world w;
        struct err err;

        world_init(&w);
        d = daemon_doctor_new(&w.params);
        assert_int_equal(doctor_gate(daemon_doctor_list(d), DOCTOR_GATES_START, &err), 0);
        gates[i].break_it(&w);
        assert_int_equal(doctor_gate(daemon_doctor_list(d), DOCTOR_GATES_START, &err), -1);
        assert_int_equal(err.code, gates[i].code);
        assert_non_null(strstr(err.message, gates[i].message));
        assert_non_null(strstr(err.hint, gates[i].hint));
        daemon_doctor_free(d);
        world_done(&w);
    }
}

/* Below the reserve no VM is created, but what is in those that exist must stay within reach. */
static void a_start_is_let_through_below_the_reserve(void **state)
{
    struct daemon_doctor *d;
    struct world w;
    struct err err;

    (void)state;
    world_init(&w);
    nearly_full(&w);
    d = daemon_doctor_new(&w.params);
    assert_int_equal(doctor_gate(daemon_doctor_list(d), DOCTOR_GATES_START, &err), 0);
    daemon_doctor_free(d);
    world_done(&w);
}

/* Nothing is made in directories that are not there, nor beside the database. */
static void checks_change_nothing(void **state)
{
    struct doctor_finding last;
    struct world w;

    (void)state;
    world_init(&w);
    gone(&w, "s");
    gone(&w, "c");
    gone(&w, "r");
    (void)run(&w, NULL, &last);
    for (const char *const *d = (const char *const[]){"s", "c", "r", NULL}; *d; d++) {
        assert_int_equal(faccessat(w.dir.fd, *d, F_OK, 0), -1);
    }
    world_done(&w);
    world_init(&w);
    (void)run(&w, NULL, &last);
    assert_int_equal(faccessat(w.dir.fd, "s/banger.db-wal", F_OK, 0), -1);
    assert_int_equal(faccessat(w.dir.fd, "s/banger.db-shm", F_OK, 0), -1);
    world_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_checks_pass_where_all_is_well),
        cmocka_unit_test(what_is_broken_is_told_with_evidence_and_fix),
        cmocka_unit_test(every_check_has_a_case_that_breaks_it),
        cmocka_unit_test(checks_that_gate_the_start_are_its_errors),
        cmocka_unit_test(a_start_is_let_through_below_the_reserve),
        cmocka_unit_test(checks_change_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
