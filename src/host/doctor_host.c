/* Doctor: the kernel, confinement and the programs that start VMMs. */
#include "host/doctor.h"

#include "base/clock.h"
#include "base/str.h"
#include "launch/launch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The oldest that we are tried on, Debian 11's. */
#define KERNEL_MAJOR 5
#define KERNEL_MINOR 10
#define YEAR_2025_MS 1735689600000LL
#define YEAR_2100_MS 4102444800000LL

static void check_kernel(const void *ctx, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *release = doctor_read(h->root, "/proc/sys/kernel/osrelease");
    unsigned major = 0, minor = 0;

    doctor_evidence(f, "/proc/sys/kernel/osrelease: %s", release ? release : strerror(errno));
    if (!release || sscanf(release, "%u.%u", &major, &minor) != 2) {
        doctor_warn(f, "the host's kernel cannot be told");
        doctor_fix(f, "mount /proc: mount -t proc proc /proc");
    } else if (major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR)) {
        doctor_fail(f, "the host's kernel is too old: %u.%u", major, minor);
        doctor_fix(f, "boot the host with Linux %u.%u or newer", KERNEL_MAJOR, KERNEL_MINOR);
    } else {
        doctor_pass(f, "the host runs Linux %u.%u", major, minor);
    }
}

static void check_proc(const void *ctx, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *mounts = doctor_read(h->root, "/proc/self/mountinfo");
    char *rest = mounts, *line, *at;

    if (!mounts) {
        doctor_evidence(f, "/proc/self/mountinfo: %s", strerror(errno));
        doctor_fail(f, "/proc is not mounted, and processes cannot be told apart");
        doctor_fix(f, "mount -t proc proc /proc");
        return;
    }
    while ((line = strsep(&rest, "\n"))) {
        at = strstr(line, " - proc ");
        if (at && (at = strstr(at, "hidepid=")) && !str_starts_with(at, "hidepid=0") &&
            !str_starts_with(at, "hidepid=off")) {
            doctor_evidence(f, "/proc is mounted with %.*s", (int)strcspn(at, ", "), at);
            doctor_warn(f, "processes of other users are hidden, those of VMs among them");
            doctor_fix(f, "mount -o remount,hidepid=0 /proc");
            return;
        }
    }
    doctor_evidence(f, "/proc/self/mountinfo");
    doctor_pass(f, "/proc shows all processes");
}

static void check_clock(const void *ctx, struct doctor_finding *f)
{
    static const char file[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *source = doctor_read(h->root, file);
    int64_t now_ms = h->now_ms ? h->now_ms : clock_real_ms();
    char time[CLOCK_RFC3339_SIZE];

    clock_format_rfc3339(now_ms, time);
    doctor_evidence(f, "time %s; clock source %s", time, source ? source : "unknown");
    if (now_ms < YEAR_2025_MS || now_ms > YEAR_2100_MS) {
        doctor_fail(f, "the host's clock is wrong, and guests take their time from it");
        doctor_fix(f, "set it: timedatectl set-ntp true, or date -s");
    } else if (str_eq(source, "hpet") || str_eq(source, "acpi_pm") || str_eq(source, "jiffies")) {
        doctor_warn(f, "the host tells time by a slow clock: %s", source);
        doctor_fix(f, "see why the kernel does not trust the TSC: dmesg | grep -i tsc");
    } else {
        doctor_pass(f, "the host's clock is plausible");
    }
}

static void check_entropy(const void *ctx, struct doctor_finding *f)
{
    static const char file[] = "/proc/sys/kernel/random/entropy_avail";
    const struct host_doctor *h = ctx;
    uint64_t bits = 0;
    bool known = doctor_read_number(h->root, file, &bits);

    if (!known || bits < 128) {
        doctor_evidence(f, "%s: %llu", file, (unsigned long long)bits);
        doctor_warn(f, "the host has little entropy for the keys of new guests");
        doctor_fix(f, "give it a source: apt-get install rng-tools5, or a virtio-rng device");
        return;
    }
    doctor_evidence(f, "%s: %llu", file, (unsigned long long)bits);
    doctor_pass(f, "the host's random generator is seeded");
}

/* Confinement ---------------------------------------------------------------------------------- */

static void check_seccomp(const void *ctx, struct doctor_finding *f)
{
    static const char file[] = "/proc/sys/kernel/seccomp/actions_avail";
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *actions = doctor_read(h->root, file);

    doctor_evidence(f, "%s: %s", file, actions ? actions : strerror(errno));
    if (!actions || !strstr(actions, "errno") || !strstr(actions, "kill_process")) {
        doctor_fail(f, "the kernel has no seccomp filters, which VMMs are confined by");
        doctor_fix(f, "boot a kernel with CONFIG_SECCOMP_FILTER=y");
    } else {
        doctor_pass(f, "the kernel has seccomp filters");
    }
}

static void check_user_namespaces(const void *ctx, struct doctor_finding *f)
{
    static const struct {
        const char *file, *fix;
        uint64_t bad;
    } settings[] = {
        {"/proc/sys/user/max_user_namespaces", "sysctl -w user.max_user_namespaces=10000", 0},
        {"/proc/sys/kernel/unprivileged_userns_clone",
         "sysctl -w kernel.unprivileged_userns_clone=1", 0},
        {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
         "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0", 1},
    };
    const struct host_doctor *h = ctx;

    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        uint64_t value;
        bool known = doctor_read_number(h->root, settings[i].file, &value);

        if ((known && value == settings[i].bad) || (!known && i == 0)) {
            doctor_evidence(f, "%s: %s", settings[i].file, known ? i == 2 ? "1" : "0" : "missing");
            doctor_fix(f, "%s", settings[i].fix);
            if (h->has_root) {
                doctor_pass(f, "no user namespaces for users without root; with root none is "
                               "needed");
                f->fix[0] = '\0';
            } else {
                doctor_warn(f, "VMs are not kept from this user's files: no user namespaces");
            }
            return;
        }
    }
    doctor_evidence(f, "%s", settings[0].file);
    doctor_pass(f, "users without root may have user namespaces");
}

/* "INSIDE OUTSIDE COUNT" a line, user_namespaces(7). */
static bool has_uids(char *map, uint64_t first, uint64_t count)
{
    char *rest = map, *line;

    while ((line = strsep(&rest, "\n"))) {
        unsigned long long inside, outside, n;

        if (sscanf(line, "%llu %llu %llu", &inside, &outside, &n) == 3 && first >= inside &&
            first + count <= inside + n) {
            return true;
        }
    }
    return false;
}

static void check_uids(const void *ctx, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *map = NULL;

    if (!h->has_root) {
        doctor_evidence(f, "no root");
        doctor_pass(f, "VMs run as this user");
        return;
    }
    map = doctor_read(h->root, "/proc/self/uid_map");
    doctor_evidence(f, "vmm_uid_first %u, vmm_uid_count %u; /proc/self/uid_map: %s", h->uid_first,
                    h->uid_count, map ? map : strerror(errno));
    if (map && !has_uids(map, h->uid_first, h->uid_count)) {
        doctor_fail(f, "this machine or container does not have the uids that VMs run as");
        doctor_fix(f, "set vmm_uid_first and vmm_uid_count in config.toml to a range that it has");
    } else {
        doctor_pass(f, "each VM has a uid of its own");
    }
}

/* Where cgroup v2 is mounted, or NULL. */
static char *cgroup_mount(const struct host_doctor *h)
{
    _cleanup_free_ char *mounts = doctor_read(h->root, "/proc/self/mountinfo");
    char *rest = mounts, *line, path[4096];

    while ((line = strsep(&rest, "\n"))) {
        if (strstr(line, " - cgroup2 ") && sscanf(line, "%*s %*s %*s %*s %4095s", path) == 1) {
            return x_strdup(path);
        }
    }
    return NULL;
}

static bool has_word(const char *text, const char *word)
{
    size_t len = strlen(word);

    for (const char *at = text; (at = strstr(at, word)); at += len) {
        if ((at == text || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0')) {
            return true;
        }
    }
    return false;
}

static void check_cgroup(const void *ctx, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *mount = cgroup_mount(h);
    _cleanup_free_ char *file = x_asprintf("%s/cgroup.controllers", mount ? mount : "");
    _cleanup_free_ char *controllers = mount ? doctor_read(h->root, file) : NULL;

    if (!mount) {
        doctor_evidence(f, "/proc/self/mountinfo: no cgroup2");
    } else {
        doctor_evidence(f, "%s: %s", file, controllers ? controllers : strerror(errno));
    }
    if (!controllers || !has_word(controllers, "memory") || !has_word(controllers, "pids")) {
        doctor_warn(f, "VMs get no cgroup: there are not both controllers of v2, memory and pids");
        doctor_fix(f, "boot the host with systemd.unified_cgroup_hierarchy=1");
    } else {
        doctor_pass(f, "cgroup v2 has the controllers memory and pids");
    }
}

/* Programs ------------------------------------------------------------------------------------- */

static void check_launcher(const void *ctx, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;

    if (access(h->launcher, X_OK) < 0) {
        doctor_evidence(f, "%s: %s", h->launcher, strerror(errno));
        doctor_fail(f, "'%s' is not installed", h->launcher);
        doctor_fix(f, LAUNCH_PROGRAM " belongs beside bangerd, or in ../libexec/banger");
        return;
    }
    doctor_evidence(f, "%s", h->launcher);
    doctor_pass(f, "the program that confines VMMs is there");
}

static void check_helper(const void *ctx, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;

    if (access(h->helper, X_OK) < 0) {
        doctor_evidence(f, "%s: %s", h->helper, strerror(errno));
        doctor_fix(f, "banger-helper belongs beside bangerd, or in ../libexec/banger");
        if (h->has_root) {
            doctor_fail(f, "'%s' is not installed: a daemon cannot be started by root", h->helper);
        } else {
            doctor_warn(f, "'%s' is not installed; without root it is not needed", h->helper);
        }
        return;
    }
    doctor_evidence(f, "%s", h->helper);
    doctor_pass(f, "the helper that keeps root is there");
}

const struct doctor_check host_checks[] = {
    {"host-kernel", "Version of the host's kernel", 0, check_kernel},
    {"proc", "Processes can be looked at", 0, check_proc},
    {"clock", "Time of the host", 0, check_clock},
    {"entropy", "Random numbers", 0, check_entropy},
    {"seccomp", "System call filters", 0, check_seccomp},
    {"user-namespaces", "User namespaces", 0, check_user_namespaces},
    {"vmm-uids", "The uids that VMs run as", 0, check_uids},
    {"cgroup", "Controllers of cgroup v2", 0, check_cgroup},
    {"launcher", "The program that starts VMMs", DOCTOR_GATES_START, check_launcher},
    {"helper", "The program that keeps root", 0, check_helper},
    {0},
};
