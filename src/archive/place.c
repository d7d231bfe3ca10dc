#include "archive/archive_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

void place_init(struct place *p, int root_fd)
{
    *p = (struct place){.root_fd = root_fd, .dir_fd = -1};
    buf_init(&p->dir, TAR_PATH_MAX + 2);
}

void place_done(struct place *p)
{
    close_p(&p->dir_fd);
    buf_done(&p->dir);
}

int place_normalise(struct buf *b, const char *name)
{
    static const char slash = '/', nul = 0, dot = '.';

    buf_consume(b, b->len);
    if (name[0] == '/') {
        return -EXDEV;
    }
    while (*name) {
        size_t len = strcspn(name, "/");

        if (len == 2 && name[0] == '.' && name[1] == '.') {
            return -EXDEV;
        }
        if (len > NAME_MAX) {
            return -ENAMETOOLONG;
        }
        if (len > 0 && !(len == 1 && name[0] == '.')) {
            if ((b->len > 0 && buf_append(b, &slash, 1) < 0) || buf_append(b, name, len) < 0) {
                return -ENAMETOOLONG;
            }
        }
        name += len + (name[len] == '/');
    }
    if (b->len == 0 && buf_append(b, &dot, 1) < 0) {
        return -ENAMETOOLONG;
    }
    return buf_append(b, &nul, 1) < 0 ? -ENAMETOOLONG : 0;
}

/* One step down. Only a directory itself, never what a symlink names. */
static int step(int dir_fd, const char *name, bool create)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT && create) {
        if (mkdirat(dir_fd, name, 0777) < 0 && errno != EEXIST) {
            return -errno;
        }
        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    return fd < 0 ? -errno : fd;
}

/* The directory `dir` (len bytes, normalised) below the root. */
static int walk(int root_fd, const char *dir, size_t len, bool create)
{
    _cleanup_close_ int fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
    char name[NAME_MAX + 1];

    if (fd < 0) {
        return -errno;
    }
    while (len > 0) {
        const char *slash = memchr(dir, '/', len);
        size_t n = slash ? (size_t)(slash - dir) : len;
        int next;

        memcpy(name, dir, n);
        name[n] = 0;
        next = step(fd, name, create);
        if (next < 0) {
            return next;
        }
        (void)close(fd);
        fd = next;
        n += slash != NULL;
        dir += n;
        len -= n;
    }
    return STEAL_FD(fd);
}

int place_find(struct place *p, const char *path, bool create, int *ret_dir, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    int fd;

    *ret_name = slash ? slash + 1 : path;
    if (!slash) {
        *ret_dir = p->root_fd;
        return 0;
    }
    if (p->dir_fd >= 0 && p->dir.len == len && memcmp(buf_head(&p->dir), path, len) == 0) {
        *ret_dir = p->dir_fd;
        return 0;
    }
    fd = walk(p->root_fd, path, len, create);
    if (fd < 0) {
        return fd;
    }
    close_p(&p->dir_fd);
    buf_consume(&p->dir, p->dir.len);
    if (buf_append(&p->dir, path, len) < 0) {
        (void)close(fd);
        return -ENAMETOOLONG;
    }
    *ret_dir = p->dir_fd = fd;
    return 0;
}
