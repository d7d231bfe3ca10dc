#include "agent/boot_id.h"

#include "base/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PATH "/proc/sys/kernel/random/boot_id"
/* Where the file is made, for that long: in a filesystem of its own, which is memory, whatever the
 * disk and others have room for. Known again by its size. */
#define NEW_DIR "/dev/.banger.boot_id"
#define NEW_PATH NEW_DIR "/boot_id"
#define NEW_BLOCKS 1
#define NEW_INODES 16
#define NEW_OPTIONS "mode=755,size=4096,nr_inodes=16" /* the same */
#define NEW_FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC)

bool boot_id_valid(const uint8_t *id, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? id[i] != '-'
                 : !(id[i] >= '0' && id[i] <= '9') && !(id[i] >= 'a' && id[i] <= 'f')) {
            return false;
        }
    }
    return len == BOOT_ID_LEN;
}

int boot_id_get(char ret_id[BOOT_ID_LEN + 1])
{
    _cleanup_close_ int fd = open(PATH, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, ret_id, BOOT_ID_LEN);

    ret_id[n < 0 ? 0 : n] = 0;
    if (n < 0) {
        return -errno;
    }
    return boot_id_valid((const uint8_t *)ret_id, (size_t)n) ? 0 : -ENODATA;
}

static bool is_ours(void)
{
    struct statfs fs;

    return statfs(PATH, &fs) == 0 && fs.f_type == TMPFS_MAGIC && fs.f_blocks == NEW_BLOCKS &&
           fs.f_files == NEW_INODES;
}

static int write_line(int fd, const char id[BOOT_ID_LEN + 1])
{
    char line[BOOT_ID_LEN + 1];
    ssize_t n;

    memcpy(line, id, BOOT_ID_LEN);
    line[BOOT_ID_LEN] = '\n';
    n = write(fd, line, sizeof(line));
    return n < 0 ? -errno : n < (ssize_t)sizeof(line) ? -EIO : 0;
}

static int write_new(const char id[BOOT_ID_LEN + 1])
{
    _cleanup_close_ int fd = open(NEW_PATH, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);

    return fd < 0 || fchmod(fd, 0444) < 0 ? -errno : write_line(fd, id);
}

/* Into the file that is there: a fork's, which was set in its template. A third of the work of
 * another one, of which a guest that was just restored does each step for the first time. */
static int write_again(const char id[BOOT_ID_LEN + 1])
{
    int fd, r;

    if (mount(NULL, PATH, NULL, MS_REMOUNT | NEW_FLAGS, NEW_OPTIONS) < 0) {
        return -errno;
    }
    fd = open(PATH, O_WRONLY | O_CLOEXEC);
    r = fd < 0 ? -errno : write_line(fd, id);
    close_p(&fd);
    return mount(NULL, PATH, NULL, MS_REMOUNT | MS_RDONLY | NEW_FLAGS, NEW_OPTIONS) < 0 ? -errno
                                                                                        : r;
}

/* The filesystem, too, is read-only then: the file is, to root and in every namespace. */
static int mount_new(void)
{
    if (mount(NULL, NEW_DIR, NULL, MS_REMOUNT | MS_RDONLY | NEW_FLAGS, NEW_OPTIONS) < 0 ||
        (is_ours() && umount2(PATH, MNT_DETACH) < 0) ||
        mount(NEW_PATH, PATH, NULL, MS_BIND, NULL) < 0) {
        return -errno;
    }
    return 0;
}

int boot_id_set(const char id[BOOT_ID_LEN + 1])
{
    int r;

    if (is_ours() && write_again(id) == 0) {
        return 0;
    }
    if ((mkdir(NEW_DIR, 0700) < 0 && errno != EEXIST) ||
        mount("banger", NEW_DIR, "tmpfs", NEW_FLAGS, NEW_OPTIONS) < 0) {
        r = -errno;
        (void)rmdir(NEW_DIR);
        return r;
    }
    r = write_new(id);
    if (r == 0) {
        r = mount_new();
    }
    /* The file keeps its name in there. One without could not be bound, nor another over it. */
    (void)umount2(NEW_DIR, MNT_DETACH);
    (void)rmdir(NEW_DIR);
    return r;
}
