#include "agent/replace.h"

#include "base/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A page at most, which no reader sees half of. */
#define IN_PLACE_MAX 4096

static bool write_over(const char *path, const void *data, size_t len)
{
    _cleanup_close_ int fd = -1;
    struct stat st;

    if (len > IN_PLACE_MAX || lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1 ||
        st.st_size < (off_t)len) {
        return false;
    }
    fd = open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd >= 0 && write(fd, data, len) == (ssize_t)len &&
           (st.st_size == (off_t)len || ftruncate(fd, (off_t)len) == 0);
}

static int make_new(const char *path, const char *new_path, const void *data, size_t len,
                    mode_t mode)
{
    _cleanup_close_ int fd =
        open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    ssize_t n;

    if (fd < 0 || fchmod(fd, mode) < 0) {
        return -errno;
    }
    n = write(fd, data, len);
    if (n >= 0 && n < (ssize_t)len) {
        return -ENOSPC;
    }
    return n < 0 || rename(new_path, path) < 0 ? -errno : 0;
}

int replace_file(const char *path, const void *data, size_t len, mode_t mode)
{
    char new_path[PATH_MAX];
    int r;

    if (write_over(path, data, len)) {
        return 0;
    }
    if (snprintf(new_path, sizeof(new_path), "%s.banger", path) >= (int)sizeof(new_path)) {
        return -ENAMETOOLONG;
    }
    r = make_new(path, new_path, data, len, mode);
    if (r < 0) {
        (void)unlink(new_path);
    }
    return r;
}
