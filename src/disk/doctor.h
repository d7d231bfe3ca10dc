/* Room and properties of the filesystems that we write to, and the program that formats disks. */
#pragma once

#include "doctor/doctor.h"

#include <sys/statfs.h>

/* All borrowed. */
struct disk_doctor {
    const char *state_dir, *cache_dir, *runtime_dir;
    uint64_t min_free_bytes;                            /* of the configuration */
    int (*statfs)(const char *path, struct statfs *st); /* statfs(2), but in tests */
};

/* With a struct disk_doctor. */
extern const struct doctor_check disk_checks[];
