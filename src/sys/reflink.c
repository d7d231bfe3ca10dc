#include "sys/reflink.h"

#include "base/fs.h"
#include "base/test_point.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* copy_file_range refuses some pairs of filesystems (EXDEV from tmpfs to ext4). */
static int copy_by_hand(int from_fd, int to_fd, off_t at, off_t end)
{
    _cleanup_free_ char *chunk = malloc(256 * 1024);

    if (!chunk) {
        return -ENOMEM;
    }
    while (at < end) {
        size_t want = end - at < 256 * 1024 ? (size_t)(end - at) : 256 * 1024;
        ssize_t n = pread(from_fd, chunk, want, at);
        ssize_t done = 0;

        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        while (done < n) {
            ssize_t w = pwrite(to_fd, chunk + done, (size_t)(n - done), at + done);

            if (w < 0) {
                return -errno;
            }
            done += w;
        }
        at += n;
    }
    return 0;
}

static int copy_range(int from_fd, int to_fd, off_t at, off_t end)
{
    while (at < end) {
        off_t in = at, out = at;
        ssize_t n = copy_file_range(from_fd, &in, to_fd, &out, (size_t)(end - at), 0);

        if (n > 0) {
            at += n;
        } else if (n < 0 && errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP &&
                   errno != ENOSYS) {
            return -errno;
        } else {
            return copy_by_hand(from_fd, to_fd, at, end);
        }
    }
    return 0;
}

int reflink_or_copy(int from_fd, int to_fd)
{
    struct stat st;
    off_t at = 0;
    int r = FAULT_POINT("copy");

    if (r < 0) {
        return r;
    }
    if (ioctl(to_fd, FICLONE, from_fd) == 0) {
        return 0;
    }
    if (fstat(from_fd, &st) < 0 || ftruncate(to_fd, st.st_size) < 0) {
        return -errno;
    }
    while (at < st.st_size && r == 0) {
        off_t data = lseek(from_fd, at, SEEK_DATA);
        off_t hole;

        if (data < 0) {
            return errno == ENXIO ? 0 : -errno;
        }
        hole = lseek(from_fd, data, SEEK_HOLE);
        if (hole < 0) {
            return -errno;
        }
        r = copy_range(from_fd, to_fd, data, hole);
        at = hole;
    }
    return r;
}
