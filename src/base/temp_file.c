#include "base/temp_file.h"

#include "base/id.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID_DIGITS 12
#define SUFFIX ".tmp"
#define TRIES 16

static int make_name(const char *name, char ret_temp[NAME_MAX + 1])
{
    char id[ID_SIZE];

    id_generate(id);
    return snprintf(ret_temp, NAME_MAX + 1, "%s.%.*s" SUFFIX, name, ID_DIGITS, id) > NAME_MAX
               ? -ENAMETOOLONG
               : 0;
}

static bool is_temp_name(const char *name)
{
    size_t len = strlen(name);
    size_t tail = 1 + ID_DIGITS + strlen(SUFFIX);

    return len > tail && name[len - tail] == '.' &&
           strspn(name + len - tail + 1, "0123456789abcdef") == ID_DIGITS &&
           strcmp(name + len - strlen(SUFFIX), SUFFIX) == 0;
}

/* 1: ours; 0: a sweeper took it for a dead one's before the lock was there. */
static int lock_named(int fd)
{
    struct stat st;

    if (flock(fd, LOCK_EX) < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    return st.st_nlink > 0;
}

static int open_named(struct temp_file *t, const char *name, mode_t mode)
{
    for (int i = 0; i < TRIES; i++) {
        int r = make_name(name, t->name);

        if (r < 0) {
            return r;
        }
        t->fd = openat(t->dir_fd, t->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (t->fd < 0) {
            return -errno;
        }
        r = lock_named(t->fd);
        if (r != 0) {
            return r < 0 ? r : 0;
        }
        close_p(&t->fd);
    }
    return -EBUSY;
}

int temp_file_open(struct temp_file *t, int dir_fd, const char *name, mode_t mode)
{
    char unused[NAME_MAX + 1];
    int r = make_name(name, unused);

    *t = (struct temp_file){.dir_fd = dir_fd, .fd = -1};
    if (r < 0) {
        return r;
    }
    t->fd = openat(dir_fd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, mode);
    if (t->fd >= 0) {
        /* For the name that it may have for a moment. */
        r = flock(t->fd, LOCK_EX) < 0 ? -errno : 0;
    } else if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL) {
        r = open_named(t, name, mode);
    } else {
        r = -errno;
    }
    if (r < 0) {
        temp_file_done(t);
    }
    return r;
}

static int link_as(const struct temp_file *t, const char *name)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", t->fd);
    return linkat(AT_FDCWD, path, t->dir_fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

int temp_file_publish(struct temp_file *t, const char *name)
{
    if (!t->name[0]) {
        char temp[NAME_MAX + 1];
        int r = link_as(t, name);

        if (r != -EEXIST) {
            return r;
        }
        r = make_name(name, temp);
        if (r == 0) {
            r = link_as(t, temp);
        }
        if (r < 0) {
            return r;
        }
        memcpy(t->name, temp, sizeof(temp));
    }
    if (renameat(t->dir_fd, t->name, t->dir_fd, name) < 0) {
        return -errno;
    }
    t->name[0] = '\0';
    return 0;
}

void temp_file_done(struct temp_file *t)
{
    if (t->fd >= 0 && t->name[0]) {
        (void)unlinkat(t->dir_fd, t->name, 0);
    }
    close_p(&t->fd);
}

/* Whoever holds the lock is writing it. */
static bool remove_dead(int dir_fd, const char *name)
{
    _cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
           flock(fd, LOCK_EX | LOCK_NB) == 0 && unlinkat(dir_fd, name, 0) == 0;
}

int temp_file_sweep(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    int count = 0;

    if (!dir) {
        count = -errno;
        close_p(&fd);
        return count;
    }
    while ((e = readdir(dir))) {
        count += is_temp_name(e->d_name) && remove_dead(dir_fd, e->d_name);
    }
    closedir(dir);
    return count;
}
