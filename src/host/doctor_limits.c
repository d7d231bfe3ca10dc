/* Doctor: limits of processes and of memory. */
#include "host/doctor.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MIB (1024ULL * 1024)
#define UNLIMITED UINT64_MAX
#define LIMITS_FILE "/proc/self/limits"

/* The hard limit of a line "Max open files   1024   4096   files". */
static bool hard_limit(const char *root, const char *name, uint64_t *ret)
{
    _cleanup_free_ char *text = doctor_read(root, LIMITS_FILE);
    const char *line = text ? strstr(text, name) : NULL;
    char soft[24], hard[24];

    if (!line || sscanf(line + strlen(name), "%23s %23s", soft, hard) != 2) {
        return false;
    }
    *ret = UNLIMITED;
    return str_eq(hard, "unlimited") || str_to_u64(hard, UINT64_MAX, ret) == 0;
}

/* One limit, and the least that it must be. */
struct want {
    const char *line, *what;
    uint64_t least;
    enum doctor_status otherwise;
    const char *because, *fix;
};

static void check_limit(const void *ctx, const struct want *w, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;
    uint64_t hard;
    bool known = hard_limit(h->root, w->line, &hard);

    if (!known) {
        doctor_evidence(f, LIMITS_FILE ": no '%s'", w->line);
        doctor_pass(f, "no limit on %s is known", w->what);
        return;
    }
    if (hard == UNLIMITED) {
        doctor_evidence(f, LIMITS_FILE ": %s: unlimited", w->line);
    } else {
        doctor_evidence(f, LIMITS_FILE ": %s: %llu", w->line, (unsigned long long)hard);
    }
    if (hard >= w->least) {
        doctor_pass(f, "the limit on %s is high enough", w->what);
        return;
    }
    if (w->otherwise == DOCTOR_FAIL) {
        doctor_fail(f, "the limit on %s is too low: %s", w->what, w->because);
    } else {
        doctor_warn(f, "the limit on %s is low: %s", w->what, w->because);
    }
    doctor_fix(f, "%s", w->fix);
}

static void check_open_files(const void *ctx, struct doctor_finding *f)
{
    check_limit(ctx,
                &(struct want){"Max open files", "open files", 4096, DOCTOR_WARN,
                               "a VM takes about ten",
                               "ulimit -Hn 65536 before the daemon starts, or 'nofile' in "
                               "/etc/security/limits.conf"},
                f);
}

static void check_processes(const void *ctx, struct doctor_finding *f)
{
    check_limit(ctx,
                &(struct want){"Max processes", "processes and threads", 1024, DOCTOR_WARN,
                               "a VM takes up to 128 threads",
                               "ulimit -Hu 16384 before the daemon starts, or 'nproc' in "
                               "/etc/security/limits.conf"},
                f);
}

static void check_locked(const void *ctx, struct doctor_finding *f)
{
    check_limit(ctx,
                &(struct want){"Max locked memory", "locked memory", 65536, DOCTOR_WARN,
                               "io_uring of a VMM needs some",
                               "ulimit -Hl 65536 before the daemon starts, or 'memlock' in "
                               "/etc/security/limits.conf"},
                f);
}

static void check_address_space(const void *ctx, struct doctor_finding *f)
{
    check_limit(ctx,
                &(struct want){"Max address space", "address space", 9216 * MIB, DOCTOR_FAIL,
                               "a VMM is given 8 GiB beside the guest's memory",
                               "ulimit -Hv unlimited before the daemon starts, or no 'as' in "
                               "/etc/security/limits.conf"},
                f);
}

static void check_file_size(const void *ctx, struct doctor_finding *f)
{
    check_limit(ctx,
                &(struct want){"Max file size", "the size of a file", 8192 * MIB, DOCTOR_FAIL,
                               "data disks of VMs are larger",
                               "ulimit -Hf unlimited before the daemon starts, or no 'fsize' in "
                               "/etc/security/limits.conf"},
                f);
}

/* Of the whole host ---------------------------------------------------------------------------- */

static void check_pids(const void *ctx, struct doctor_finding *f)
{
    static const char *const files[] = {"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"};
    const struct host_doctor *h = ctx;
    uint64_t value[2] = {0, 0};

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        if (!doctor_read_number(h->root, files[i], &value[i])) {
            doctor_evidence(f, "%s: %s", files[i], strerror(errno));
            doctor_warn(f, "how many processes the host may have cannot be told");
            doctor_fix(f, "mount /proc: mount -t proc proc /proc");
            return;
        }
    }
    doctor_evidence(f, "%s: %llu, %s: %llu", files[0], (unsigned long long)value[0], files[1],
                    (unsigned long long)value[1]);
    if (value[0] < 4096 || value[1] < 4096) {
        doctor_warn(f, "the host may have few processes");
        doctor_fix(f, "sysctl -w kernel.%s=65536", value[0] < 4096 ? "pid_max" : "threads-max");
    } else {
        doctor_pass(f, "the host may have enough processes");
    }
}

static void check_host_files(const void *ctx, struct doctor_finding *f)
{
    static const char file[] = "/proc/sys/fs/file-nr";
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *text = doctor_read(h->root, file);
    unsigned long long used = 0, unused, most = 0;

    doctor_evidence(f, "%s: %s", file, text ? text : strerror(errno));
    if (text && sscanf(text, "%llu %llu %llu", &used, &unused, &most) == 3 &&
        used > most - most / 10) {
        doctor_warn(f, "the host has nearly as many open files as it may have");
        doctor_fix(f, "sysctl -w fs.file-max=%llu", most > UINT64_MAX / 2 ? most : most * 2);
    } else {
        doctor_pass(f, "the host may open more files");
    }
}

static void check_memory(const void *ctx, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *text = doctor_read(h->root, "/proc/meminfo");
    const char *line = text ? strstr(text, "MemAvailable:") : NULL;
    unsigned long long kib = 0;
    char size[STR_BYTES_SIZE];

    if (!line || sscanf(line, "MemAvailable: %llu", &kib) != 1) {
        doctor_evidence(f, "/proc/meminfo: no MemAvailable");
        doctor_warn(f, "how much memory is free cannot be told");
        doctor_fix(f, "mount /proc: mount -t proc proc /proc");
        return;
    }
    doctor_evidence(f, "/proc/meminfo: MemAvailable %llu kB", kib);
    if (kib < 1024 * 1024) {
        doctor_warn(f, "little memory is available: %s", str_bytes(kib * 1024, size));
        doctor_fix(f, "stop VMs (banger ps), or give them less: --memory 256M");
    } else {
        doctor_pass(f, "%s of memory are available", str_bytes(kib * 1024, size));
    }
}

static void check_overcommit(const void *ctx, struct doctor_finding *f)
{
    static const char file[] = "/proc/sys/vm/overcommit_memory";
    const struct host_doctor *h = ctx;
    uint64_t value = 0;
    bool known = doctor_read_number(h->root, file, &value);

    doctor_evidence(f, "%s: %llu", file, (unsigned long long)value);
    if (known && value == 2) {
        doctor_warn(f, "memory is never overcommitted: each VM takes all of its memory at once");
        doctor_fix(f, "sysctl -w vm.overcommit_memory=0");
    } else {
        doctor_pass(f, "guests take the memory that they use");
    }
}

static void check_map_count(const void *ctx, struct doctor_finding *f)
{
    static const char file[] = "/proc/sys/vm/max_map_count";
    const struct host_doctor *h = ctx;
    uint64_t value = UNLIMITED;
    bool known = doctor_read_number(h->root, file, &value);

    if (!known || value >= 16384) {
        doctor_evidence(f, "%s", file);
        doctor_pass(f, "processes may have enough mappings");
        return;
    }
    doctor_evidence(f, "%s: %llu", file, (unsigned long long)value);
    doctor_warn(f, "processes may have few mappings, and each thread of the daemon takes two");
    doctor_fix(f, "sysctl -w vm.max_map_count=65530");
}

static void check_huge_pages(const void *ctx, struct doctor_finding *f)
{
    static const char file[] = "/sys/kernel/mm/transparent_hugepage/enabled";
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *text = doctor_read(h->root, file);

    doctor_evidence(f, "%s: %s", file, text ? text : strerror(errno));
    if (text && strstr(text, "[never]")) {
        doctor_warn(f, "no transparent huge pages: guests are slower than they could be");
        doctor_fix(f, "echo madvise >%s", file);
    } else {
        doctor_pass(f, text ? "guests may have huge pages" : "this kernel has no huge pages");
    }
}

const struct doctor_check host_limit_checks[] = {
    {"open-files", "Limit on open files", 0, check_open_files},
    {"processes", "Limit on processes", 0, check_processes},
    {"locked-memory", "Limit on locked memory", 0, check_locked},
    {"address-space", "Limit on address space", 0, check_address_space},
    {"file-size", "Limit on the size of files", 0, check_file_size},
    {"pids", "Processes of the host", 0, check_pids},
    {"host-files", "Open files of the host", 0, check_host_files},
    {"memory", "Free memory", 0, check_memory},
    {"overcommit", "Overcommitted memory", 0, check_overcommit},
    {"mappings", "Limit on mappings", 0, check_map_count},
    {"huge-pages", "Transparent huge pages", 0, check_huge_pages},
    {0},
};
