#include "agent/data_disk.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <time.h>

#define BLOCK 4096 /* of the filesystem: disk/data_disk.c */
#define TRIES 1000
#define TRY_NS 10000000
/* Grows a mounted ext4 to so many blocks (fs/ext4/ext4.h of the kernel). */
#ifndef EXT4_IOC_RESIZE_FS
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)
#endif

/* There is no event to wait for but uevents, which are not for a guest that runs. */
static int await_size(int disk_fd, uint64_t bytes, uint64_t *ret_size)
{
    const struct timespec pause = {.tv_nsec = TRY_NS};

    for (unsigned i = 0; i < TRIES; i++) {
        if (ioctl(disk_fd, BLKGETSIZE64, ret_size) < 0) {
            return -errno;
        }
        if (*ret_size >= bytes) {
            return 0;
        }
        (void)nanosleep(&pause, NULL);
    }
    return -ETIMEDOUT;
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
