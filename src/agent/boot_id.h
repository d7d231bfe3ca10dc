/*
 * /proc/sys/kernel/random/boot_id of the guest, random(4). The kernel makes it once a boot, so that
 * guests forked from one template have the same; another lies over it as a mount of a file that is
 * nowhere else. It is seen wherever the guest's own /proc is, not in a container's.
 * Threads: one. 0 or -errno.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOOT_ID_LEN 36 /* lower-case hex digits and dashes, 8-4-4-4-12 */

bool boot_id_valid(const uint8_t *id, size_t len);

/* In the place of the one that was set before. When it fails, the kernel's may be there again. */
int boot_id_set(const char id[BOOT_ID_LEN + 1]);

/* What stands there: -ENODATA when it is no id. */
int boot_id_get(char ret_id[BOOT_ID_LEN + 1]);
