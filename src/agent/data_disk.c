#include "agent/data_disk.h"

#include "agent/uevent.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BLOCK 4096 /* of the filesystem: disk/data_disk.c */
#define SIZE_MS 10000
/* Grows a mounted ext4 to so many blocks (fs/ext4/ext4.h of the kernel). */
#ifndef EXT4_IOC_RESIZE_FS
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)
#endif

/* The kernel tells of a device's new size when it has heard of it. */
static int await_size(int disk_fd, uint64_t bytes, uint64_t *ret_size)
{
    int64_t deadline_ms = uevent_now_ms() + SIZE_MS;
    int fd = bytes > 0 ? uevent_open() : -1, r = 0;

    if (bytes > 0 && fd < 0) {
        return fd;
    }
    for (;;) {
        if (ioctl(disk_fd, BLKGETSIZE64, ret_size) < 0) {
            r = -errno;
            break;
        }
        if (*ret_size >= bytes) {
            break;
        }
        if (!uevent_wait(fd, deadline_ms)) {
            r = -ETIMEDOUT;
            break;
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return r;
}

int data_disk_grow(int data_fd, int disk_fd, uint64_t bytes)
{
    uint64_t size, blocks;
    int r = await_size(disk_fd, bytes, &size);

    if (r < 0) {
        return r;
    }
    blocks = size / BLOCK;
    return ioctl(data_fd, EXT4_IOC_RESIZE_FS, &blocks) < 0 ? -errno : 0;
}
