/*
 * The filesystem of the guest's data disk, which grows with its disk while it is mounted.
 * Threads: any.
 */
#pragma once

#include <stdint.h>

/* Grows the filesystem of data_fd to so many bytes, once disk_fd, its block device, has them: the
 * kernel may hear of that later than we do. 0 or -errno: -ETIMEDOUT when the device stays smaller.
 * bytes 0: to what the device has now. The kernel does nothing when it is that large already. */
int data_disk_grow(int data_fd, int disk_fd, uint64_t bytes);
