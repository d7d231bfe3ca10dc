/*
 * The root-disk writer: turns tar streams into one read-only ext4 image, in process and without
 * any right (owners, devices and attributes exist only inside the image). The same tar gives the
 * same bytes: UUID, hash seed and filesystem times are fixed.
 *
 * Owns: a temporary file beside the final path, which rootdisk_finish() syncs and renames over it;
 * rootdisk_free() removes it if that did not happen. So the final path is never half written.
 * Threads: one rootdisk belongs to one thread at a time; several may be built side by side.
 * Blocks: on the tar's fd, the disk, and a run of mke2fs (at most 60 s); cancel_fd ends the waits.
 * Processes: spawns mke2fs(8) once, on the empty file.
 * Fails: with a message that names the tar entry. After a failure only rootdisk_free() is allowed.
 * The caller should ignore SIGXFSZ if it has a file size limit.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

#define ROOTDISK_SIZE_DEFAULT (8ULL << 30)
#define ROOTDISK_SIZE_MIN (4ULL << 20)
#define ROOTDISK_SIZE_MAX (1ULL << 40)
#define ROOTDISK_ENTRIES_MAX 1000000u

struct rootdisk;

struct rootdisk_params {
    const char *out_path; /* where the image appears; its directory must exist */
    uint64_t size_bytes;  /* most that the filesystem may become; 0 = ROOTDISK_SIZE_DEFAULT */
    int cancel_fd;        /* becomes readable to stop the build (ERR_CANCELLED); -1 = none */
};

struct rootdisk_info {
    uint64_t size_bytes; /* apparent size of the image, a multiple of 4096 */
    uint32_t entries;    /* tar entries read */
    uint32_t inodes;     /* inodes in use, without the reserved ones */
};

/* Makes the temporary file and an empty filesystem in it. */
int rootdisk_new(const struct rootdisk_params *params, struct rootdisk **ret_disk, struct err *err);

/* Reads one tar (plain, gzip, zstd or xz) from tar_fd to its end and adds it. The fd stays the
 * caller's. One layer for now: a second call fails. */
int rootdisk_add_tar(struct rootdisk *disk, int tar_fd, struct err *err);

/* Writes the directories, cuts the image to what it needs, syncs it and moves it to out_path.
 * ret_info may be NULL. */
int rootdisk_finish(struct rootdisk *disk, struct rootdisk_info *ret_info, struct err *err);

/* Of a finished image: the program that it boots with, or NULL. Static text. */
int rootdisk_find_init(const char *path, const char **ret_init, struct err *err);

void rootdisk_free(struct rootdisk *disk);

DEFINE_CLEANUP(struct rootdisk *, rootdisk_free);
#define _cleanup_rootdisk_ _cleanup_(rootdisk_free_p)
