#include "disk/data_disk.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/spawn.h"
#include "base/temp_file.h"
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

static int run_mke2fs(int fd, spawn_fn spawn, struct cancel *cancel, struct err *err)
{
    static const char *const argv[] = {
        "mke2fs", "-q", "-F",      "-t", "ext4",   "-b", "4096",   "-m",
        "0",      "-J", "size=16", "-O", features, "-E", extended, "/proc/self/fd/3",
        NULL};
    struct spawn_fd disk = {.fd = fd, .as = 3};
    _cleanup_close_ int pidfd = -1;
    int r, status = 0;
    pid_t pid;

    r = spawn(&(struct spawn_params){.argv = argv, .fds = &disk, .fd_count = 1}, &pid, &pidfd);
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
 * equal, and the last one wins. */
static int fill_cache(int cache_fd, const char *cached, uint64_t bytes, spawn_fn spawn,
                      struct cancel *cancel, struct err *err)
{
    _cleanup_temp_file_ struct temp_file t = {.fd = -1};
    int r = temp_file_open(&t, cache_fd, cached, 0600);

    if (r == 0 && ftruncate(t.fd, (off_t)bytes) < 0) {
        r = -errno;
    }
    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot make a data disk of %llu bytes",
                             (unsigned long long)bytes);
    }
    if (run_mke2fs(t.fd, spawn, cancel, err) < 0) {
        return -1;
    }
    if (fsync(t.fd) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot write '%s' in the cache", cached);
    }
    r = temp_file_publish(&t, cached);
    return r < 0 ? err_set_errno(err, ERR_IO, r, "cannot publish '%s' in the cache", cached) : 0;
}

/* Measured with mke2fs 1.47: 104 KiB for 64 MiB, 172 KiB for 8 GiB, 3.7 MiB for 1 TiB. */
static uint64_t guess_empty_bytes(uint64_t bytes)
{
    return (256ull << 10) + bytes / (256 << 10);
}

static void name_cached(uint64_t bytes, char ret_name[64])
{
    (void)snprintf(ret_name, 64, "data-disk-%llu.ext4", (unsigned long long)bytes);
}

void data_disk_estimate(int cache_fd, uint64_t bytes, uint64_t *ret_disk_bytes,
                        uint64_t *ret_cache_bytes)
{
    char cached[64];
    struct stat st;

    name_cached(bytes, cached);
    if (fstatat(cache_fd, cached, &st, 0) == 0) {
        *ret_disk_bytes = (uint64_t)st.st_blocks * 512;
        *ret_cache_bytes = 0;
    } else {
        *ret_disk_bytes = *ret_cache_bytes = guess_empty_bytes(bytes);
    }
}

uint64_t data_disk_occupies(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

int data_disk_copy(int from_fd, int dir_fd, const char *name, struct err *err)
{
    _cleanup_close_ int to = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int r;

    if (to < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot make the data disk");
    }
    r = reflink_or_copy(from_fd, to);
    if (r < 0) {
        (void)unlinkat(dir_fd, name, 0);
        return err_set_errno(err, ERR_IO, r, "cannot copy the data disk");
    }
    return 0;
}

int data_disk_create(int cache_fd, int dir_fd, const char *name, uint64_t bytes, spawn_fn spawn,
                     struct cancel *cancel, struct err *err)
{
    _cleanup_close_ int from = -1;
    char cached[64];

    if (bytes < DATA_DISK_MIN_BYTES || bytes > DATA_DISK_MAX_BYTES || bytes % 4096 != 0) {
        return err_set(err, ERR_INVALID, "a data disk cannot have %llu bytes",
                       (unsigned long long)bytes);
    }
    name_cached(bytes, cached);
    from = openat(cache_fd, cached, O_RDONLY | O_CLOEXEC);
    if (from < 0) {
        if (fill_cache(cache_fd, cached, bytes, spawn, cancel, err) < 0) {
            return -1;
        }
        from = openat(cache_fd, cached, O_RDONLY | O_CLOEXEC);
        if (from < 0) {
            return err_set_errno(err, ERR_IO, errno, "cannot open '%s' in the cache", cached);
        }
    }
    return data_disk_copy(from, dir_fd, name, err);
}
