#include "disk/doctor.h"

#include "base/spawn.h"
#include "base/str.h"
#include "disk/space.h"

#include <errno.h>
#include <linux/magic.h>
#include <string.h>

#define RESERVE_PART 20 /* as in space.c */
#define RUNTIME_LEAST_BYTES (4ull << 20)
#define INODES_LEAST 1000

/* The filesystem of a directory, or of the nearest one above it that exists: it may be made yet. */
static bool look(const struct disk_doctor *d, const char *dir, struct statfs *ret,
                 struct doctor_finding *f)
{
    _cleanup_free_ char *path = x_strdup(dir);
    char *slash;

    while (d->statfs(path, ret) < 0) {
        slash = strrchr(path, '/');
        if (errno != ENOENT || !slash || slash == path) {
            doctor_evidence(f, "%s: %s", path, strerror(errno));
            doctor_fail(f, "the filesystem of '%s' cannot be asked", dir);
            doctor_fix(f, "see whether it is mounted: findmnt -T %s", dir);
            f->code = ERR_IO;
            return false;
        }
        *slash = '\0';
    }
    return true;
}

static uint64_t bytes(const struct statfs *st, uint64_t blocks)
{
    return blocks * (uint64_t)(st->f_frsize > 0 ? st->f_frsize : st->f_bsize);
}

static uint64_t free_bytes(const struct statfs *st)
{
    return bytes(st, st->f_bavail);
}

static void tell_room(const char *dir, const struct statfs *st, struct doctor_finding *f)
{
    char is[STR_BYTES_SIZE], all[STR_BYTES_SIZE];

    doctor_evidence(f, "%s: %s free of %s", dir, str_bytes(free_bytes(st), is),
                    str_bytes(bytes(st, st->f_blocks), all));
}

/* What is kept free of it, for guests that run. */
static uint64_t reserve(const struct disk_doctor *d, const struct statfs *st)
{
    uint64_t part = bytes(st, st->f_blocks) / RESERVE_PART;

    return d->min_free_bytes < part ? d->min_free_bytes : part;
}

/* A start fails where what it writes itself does not fit; a VM is created only above the reserve.
 */
static void check_state_space(const void *ctx, struct doctor_finding *f)
{
    const struct disk_doctor *d = ctx;
    char need[STR_BYTES_SIZE], is[STR_BYTES_SIZE];
    struct statfs st;

    if (!look(d, d->state_dir, &st, f)) {
        return;
    }
    tell_room(d->state_dir, &st, f);
    if (free_bytes(&st) < SPACE_BOOT_BYTES) {
        doctor_fail(f,
                    "the filesystem of '%.100s' is too full for the start of a VM: %s needed at "
                    "least, and %s free",
                    d->state_dir, str_bytes(SPACE_BOOT_BYTES, need),
                    str_bytes(free_bytes(&st), is));
        f->code = ERR_NO_SPACE;
        doctor_fix(f, "make room there, or delete VMs that are not needed (banger ps -a)");
    } else if (free_bytes(&st) < reserve(d, &st)) {
        doctor_warn(f, "no VM can be created: less is free than is kept free, %s",
                    str_bytes(reserve(d, &st), need));
        doctor_fix(f, "make room there, delete VMs (banger ps -a), or set a smaller min_free_mib "
                      "in config.toml");
    } else {
        doctor_pass(f, "there is room for VMs");
    }
}

static void check_cache_space(const void *ctx, struct doctor_finding *f)
{
    const struct disk_doctor *d = ctx;
    struct statfs st;

    if (!look(d, d->cache_dir, &st, f)) {
        return;
    }
    tell_room(d->cache_dir, &st, f);
    if (free_bytes(&st) < reserve(d, &st)) {
        doctor_warn(f, "less is free for the cache than is kept free");
        doctor_fix(f, "make room there; what is in '%.200s' may be deleted while no VM starts",
                   d->cache_dir);
    } else {
        doctor_pass(f, "there is room for the cache");
    }
}

static void check_runtime_space(const void *ctx, struct doctor_finding *f)
{
    const struct disk_doctor *d = ctx;
    struct statfs st;

    if (!look(d, d->runtime_dir, &st, f)) {
        return;
    }
    tell_room(d->runtime_dir, &st, f);
    if (free_bytes(&st) < RUNTIME_LEAST_BYTES) {
        doctor_warn(f, "there is little room for the logs of VMMs that run");
        doctor_fix(f, "make room there, or name another place with BANGER_RUNTIME_DIR");
    } else {
        doctor_pass(f, "there is room for what belongs to VMs that run");
    }
}

/* Some filesystems have as many as are wanted, and say that they have none. */
static void check_inodes(const struct disk_doctor *d, const char *dir, struct doctor_finding *f)
{
    struct statfs st;

    if (!look(d, dir, &st, f)) {
        return;
    }
    if (st.f_files == 0) {
        doctor_evidence(f, "%s: no limit", dir);
    } else {
        doctor_evidence(f, "%s: %llu inodes free of %llu", dir, (unsigned long long)st.f_ffree,
                        (unsigned long long)st.f_files);
    }
    if (st.f_files > 0 && st.f_ffree < INODES_LEAST) {
        doctor_warn(f, "few files can be made: %llu inodes are free",
                    (unsigned long long)st.f_ffree);
        doctor_fix(f,
                   "delete files that are not needed on that filesystem; where they are: du "
                   "--inodes -x -d2 %.200s",
                   dir);
    } else {
        doctor_pass(f, "there are inodes for new files");
    }
}

static void check_state_inodes(const void *ctx, struct doctor_finding *f)
{
    const struct disk_doctor *d = ctx;

    check_inodes(d, d->state_dir, f);
}

static void check_cache_inodes(const void *ctx, struct doctor_finding *f)
{
    const struct disk_doctor *d = ctx;

    check_inodes(d, d->cache_dir, f);
}

static void check_runtime_inodes(const void *ctx, struct doctor_finding *f)
{
    const struct disk_doctor *d = ctx;

    check_inodes(d, d->runtime_dir, f);
}

/* SQLite's locks and shared memory, and sparse files, need a local one. */
static void check_filesystem(const void *ctx, struct doctor_finding *f)
{
    static const struct {
        long magic;
        const char *name;
    } poor[] = {
        {NFS_SUPER_MAGIC, "NFS"},     {SMB_SUPER_MAGIC, "SMB"}, {SMB2_SUPER_MAGIC, "SMB"},
        {CIFS_SUPER_MAGIC, "CIFS"},   {V9FS_MAGIC, "9p"},       {MSDOS_SUPER_MAGIC, "FAT"},
        {EXFAT_SUPER_MAGIC, "exFAT"}, {RAMFS_MAGIC, "ramfs"},
    };
    const struct disk_doctor *d = ctx;
    struct statfs st;

    if (!look(d, d->state_dir, &st, f)) {
        return;
    }
    doctor_evidence(f, "%s: type 0x%lx", d->state_dir, (unsigned long)st.f_type);
    for (size_t i = 0; i < ARRAY_LEN(poor); i++) {
        if ((long)st.f_type == poor[i].magic) {
            doctor_warn(f, "disks and database are on %s, which is not made for them",
                        poor[i].name);
            doctor_fix(f, "name a directory on ext4, xfs or btrfs with BANGER_STATE_DIR");
            return;
        }
    }
    doctor_pass(f, "the filesystem of the state directory will do");
}

static void check_mke2fs(const void *ctx, struct doctor_finding *f)
{
    _cleanup_free_ char *program = spawn_find_program("mke2fs");

    (void)ctx;
    doctor_evidence(f, "mke2fs: %s", program ? program : "not in PATH");
    if (program) {
        doctor_pass(f, "mke2fs is there");
    } else {
        doctor_fail(f, "mke2fs, which formats disks, is not installed");
        doctor_fix(f, "apt-get install e2fsprogs");
    }
}

const struct doctor_check disk_checks[] = {
    {"state-space", "Room for VMs", DOCTOR_GATES_START, check_state_space},
    {"cache-space", "Room for the cache", 0, check_cache_space},
    {"runtime-space", "Room for what runs", 0, check_runtime_space},
    {"state-inodes", "Inodes for VMs", 0, check_state_inodes},
    {"cache-inodes", "Inodes for the cache", 0, check_cache_inodes},
    {"runtime-inodes", "Inodes for what runs", 0, check_runtime_inodes},
    {"filesystem", "Kind of filesystem", 0, check_filesystem},
    {"mke2fs", "The program that formats disks", 0, check_mke2fs},
    {0},
};
