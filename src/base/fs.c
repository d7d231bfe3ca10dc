#include "base/fs.h"

#include "base/temp_file.h"
#include "base/test_point.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>

int fs_mkdir_p(const char *path, mode_t mode)
{
    _cleanup_free_ char *copy = strdup(path);
    struct stat st;

    if (!copy) {
        abort();
    }
    for (char *p = copy + 1; *copy; p++) {
        char c = *p;

        if (c == '/' || c == '\0') {
            *p = '\0';
            if (mkdir(copy, mode) < 0 && errno != EEXIST) {
                return -errno;
            }
            *p = c;
        }
        if (c == '\0') {
            break;
        }
    }
    if (stat(path, &st) < 0) {
        return -errno;
    }
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int fs_open_dir(int dir_fd, const char *name, bool create)
{
    int fd = FAULT_POINT("fs.open_dir");

    if (fd < 0) {
        return fd;
    }
    if (create && mkdirat(dir_fd, name, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int fs_read_file(int dir_fd, const char *path, size_t max, char **ret_data, size_t *ret_len)
{
    _cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    _cleanup_free_ char *data = NULL;
    size_t len = 0, capacity;
    struct stat st;
    int r = FAULT_POINT("fs.read");

    if (r < 0) {
        return r;
    }
    if (fd < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    }
    if ((uint64_t)st.st_size > max) {
        return -EFBIG;
    }
    /* Files of /proc and /sys say 0; for others one read more than the size sees the end. */
    capacity = st.st_size > 0 ? (size_t)st.st_size + 1 : (max < 65536 ? max + 1 : 65536);
    data = malloc(capacity + 1);
    if (!data) {
        return -ENOMEM;
    }
    for (;;) {
        ssize_t n = read(fd, data + len, capacity - len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
        if (len > max) {
            return -EFBIG;
        }
        if (len == capacity) {
            char *more = realloc(data, capacity * 2 + 1);

            if (!more) {
                return -ENOMEM;
            }
            data = more;
            capacity *= 2;
        }
    }
    data[len] = '\0';
    *ret_data = STEAL_PTR(data);
    *ret_len = len;
    return 0;
}

int fs_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;
    int r = FAULT_POINT("fs.write");

    if (r < 0) {
        return r;
    }
    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int fs_write_atomic(int dir_fd, const char *name, const void *data, size_t len, mode_t mode,
                    bool sync)
{
    _cleanup_temp_file_ struct temp_file t = {.fd = -1};
    int r = temp_file_open(&t, dir_fd, name, mode);

    if (r == 0) {
        r = fs_write_all(t.fd, data, len);
    }
    if (r == 0 && sync && fsync(t.fd) < 0) {
        r = -errno;
    }
    if (r == 0) {
        r = temp_file_publish(&t, name);
    }
    if (r == 0 && sync && dir_fd >= 0 && fsync(dir_fd) < 0) {
        r = -errno;
    }
    return r;
}

static void keep_first(int *result, int r)
{
    if (r < 0 && *result == 0) {
        *result = r;
    }
}

int fs_remove_tree(int dir_fd, const char *name)
{
    int fd, result = FAULT_POINT("fs.remove");
    struct dirent *e;
    DIR *dir;

    CRASH_POINT("fs.remove");
    if (result < 0) {
        return result;
    }
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) {
        return -errno;
    }
    fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    dir = fdopendir(fd);
    if (!dir) {
        close_p(&fd);
        return -ENOMEM;
    }
    while ((e = readdir(dir))) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            keep_first(&result, fs_remove_tree(fd, e->d_name));
        }
    }
    closedir(dir);
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
        keep_first(&result, -errno);
    }
    return result;
}

int fs_free_bytes(int fd, uint64_t *ret_bytes)
{
    struct statvfs st;

    if (fstatvfs(fd, &st) < 0) {
        return -errno;
    }
    *ret_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

/* /proc/self/fd/N/name is short whatever the directory's own path is. */
static int unix_address(int dir_fd, const char *name, struct sockaddr_un *ret_addr)
{
    int n;

    *ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    n = dir_fd == AT_FDCWD ? snprintf(ret_addr->sun_path, sizeof(ret_addr->sun_path), "%s", name)
                           : snprintf(ret_addr->sun_path, sizeof(ret_addr->sun_path),
                                      "/proc/self/fd/%d/%s", dir_fd, name);
    return n >= (int)sizeof(ret_addr->sun_path) ? -ENAMETOOLONG : 0;
}

int fs_unix_listen(int dir_fd, const char *name, int backlog)
{
    _cleanup_close_ int fd = -1;
    struct sockaddr_un addr;
    int r = FAULT_POINT("fs.listen") ?: unix_address(dir_fd, name, &addr);

    if (r < 0) {
        return r;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    /* The mode of the inode that bind makes is the socket's own, less the umask. */
    if (fchmod(fd, 0600) < 0) {
        return -errno;
    }
    if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT) {
        return -errno;
    }
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, backlog) < 0) {
        return -errno;
    }
    return STEAL_FD(fd);
}

int fs_unix_connect(int dir_fd, const char *name)
{
    _cleanup_close_ int fd = -1;
    struct sockaddr_un addr;
    int r = FAULT_POINT("fs.connect") ?: unix_address(dir_fd, name, &addr);

    if (r < 0) {
        return r;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return -errno;
    }
    return STEAL_FD(fd);
}

void fs_raise_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}
