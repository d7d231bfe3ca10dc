#include "disk/data_disk.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/spawn.h"
#include "sys/reflink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

/* meta_bg instead of resize_inode: 172 KB when empty, and it still grows while mounted. A small
 * journal, because a VM may be killed at any time. */
static const char *const features = "^resize_inode,meta_bg";
static const char *const extended = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";

static int run_mke2fs(int dir_fd, const char *name, struct cancel *cancel, struct err *err)
{
    char path[64 + NAME_MAX];
    const char *argv[] = {"mke2fs", "-q",      "-F", "-t",     "ext4", "-b",     "4096", "-m", "0",
                          "-J",     "size=16", "-O", features, "-E",   extended, path,   NULL};
    struct spawn_fd dir = {.fd = dir_fd, .as = 3};
    _cleanup_close_ int pidfd = -1;
    int r, status = 0;
    pid_t pid;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/3/%s", name);
    r = spawn_process(&(struct spawn_params){.argv = argv, .fds = &dir, .fd_count = 1}, &pid,
                      &pidfd);
    if (r < 0) {
        err_set_errno(err, r == -ENOENT ? ERR_UNSUPPORTED : ERR_IO, r, "cannot run mke2fs");
        return err_hint(err, "install e2fsprogs: apt-get install e2fsprogs");
    }
    r = cancel_wait_fd(cancel, pidfd, POLLIN, clock_mono_ms() + 120000);
    if (r < 0) {
        (void)kill(pid, SIGKILL);
    }
    (void)waitpid(pid, &status, 0);
    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "format of a data disk");
    }
    if (status != 0) {
        err_set(err, ERR_IO, "mke2fs could not format a data disk (status %d)",
                WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        return err_hint(err, "is the filesystem of the cache directory full?");
    }
    return 0;
}

/* Formats a file and publishes it in the cache under `cached`. Two makers may race: the files are
 * equal, and the last rename wins. */
static int fill_cache(int cache_fd, const char *cached, uint64_t bytes, struct cancel *cancel,
                      struct err *err)
{
    char id[ID_SIZE], temp[NAME_MAX];
    _cleanup_close_ int fd = -1;
    int r = 0;

    id_generate(id);
    (void)snprintf(temp, sizeof(temp), "%s.%.12s.tmp", cached, id);
    fd = openat(cache_fd, temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0) {
        r = err_set_errno(err, ERR_IO, errno, "cannot make a data disk of %llu bytes",
                          (unsigned long long)bytes);
    }
    if (r == 0) {
        r = run_mke2fs(cache_fd, temp, cancel, err);
    }
    if (r == 0 && fsync(fd) < 0) {
        r = err_set_errno(err, ERR_IO, errno, "cannot write '%s' in the cache", cached);
    }
    if (r == 0 && renameat(cache_fd, temp, cache_fd, cached) < 0) {
        r = err_set_errno(err, ERR_IO, errno, "cannot publish '%s' in the cache", cached);
    }
    if (r < 0) {
        (void)unlinkat(cache_fd, temp, 0);
    }
    return r;
}

int data_disk_create(int cache_fd, int dir_fd, const char *name, uint64_t bytes,
                     struct cancel *cancel, struct err *err)
{
    _cleanup_close_ int from = -1, to = -1;
    char cached[64];
    int r;

    if (bytes < DATA_DISK_MIN_BYTES || bytes > DATA_DISK_MAX_BYTES || bytes % 4096 != 0) {
        return err_set(err, ERR_INVALID, "a data disk cannot have %llu bytes",
                       (unsigned long long)bytes);
    }
    (void)snprintf(cached, sizeof(cached), "data-disk-%llu.ext4", (unsigned long long)bytes);
    from = openat(cache_fd, cached, O_RDONLY | O_CLOEXEC);
    if (from < 0) {
        if (fill_cache(cache_fd, cached, bytes, cancel, err) < 0) {
            return -1;
        }
        from = openat(cache_fd, cached, O_RDONLY | O_CLOEXEC);
        if (from < 0) {
            return err_set_errno(err, ERR_IO, errno, "cannot open '%s' in the cache", cached);
        }
    }
    to = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot make the data disk");
    }
    r = reflink_or_copy(from, to);
    if (r < 0) {
        (void)unlinkat(dir_fd, name, 0);
        return err_set_errno(err, ERR_IO, r, "cannot copy the empty data disk");
    }
    return 0;
}
