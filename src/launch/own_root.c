/*
 * A mount namespace with nothing in it but what was asked for, read-only. The sources are taken as
 * detached trees before anything is mounted, so that nothing can hide them. And namespaces with
 * nothing in them at all for System V objects and for the network: what the VMM may reach it has
 * got as descriptors.
 */
#include "launch/launch_priv.h"

#include "base/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#define DETACH 2 /* MNT_DETACH: <sys/mount.h> and <linux/mount.h> do not go together */
/* Where the new root is put together; everything has it. */
#define STAGE "/proc"
#define KVM_DEVICE "/dev/kvm"

static int write_text(const char *path, const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

int launch_user_namespace(void)
{
    char uid_map[48], gid_map[48];
    int r;

    (void)snprintf(uid_map, sizeof(uid_map), "%u %u 1", geteuid(), geteuid());
    (void)snprintf(gid_map, sizeof(gid_map), "%u %u 1", getegid(), getegid());
    if (syscall(SYS_unshare, CLONE_NEWUSER) < 0) {
        return -errno;
    }
    r = write_text("/proc/self/setgroups", "deny");
    if (r == 0) {
        r = write_text("/proc/self/uid_map", uid_map);
    }
    return r < 0 ? r : write_text("/proc/self/gid_map", gid_map);
}

/* Makes what leads to a relative path, and then the path itself: a directory or an empty file. */
static int make_target(const char *path, bool directory)
{
    char copy[PATH_MAX];
    int fd;

    if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy)) {
        return -ENAMETOOLONG;
    }
    for (char *slash = strchr(copy, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST) {
            return -errno;
        }
        *slash = '/';
    }
    if (directory) {
        return mkdir(copy, 0755) < 0 && errno != EEXIST ? -errno : 0;
    }
    fd = open(copy, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);
    if (fd < 0) {
        return -errno;
    }
    (void)close(fd);
    return 0;
}

static int restrict_tree(int fd, uint64_t attributes)
{
    struct mount_attr attr = {.attr_set = attributes};

    return syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0
               ? -errno
               : 0;
}

/* One thing of the new root: a tree that is still detached, or the target of a symbolic link. */
struct piece {
    const char *path; /* relative; NULL = nothing */
    int tree_fd;
    bool directory;
    uint64_t attributes;
    char link[PATH_MAX];
};

static int take(const char *path, const char *as, uint64_t attributes, struct piece *ret)
{
    struct stat st;
    ssize_t n;

    *ret = (struct piece){.tree_fd = -1, .attributes = attributes};
    if (lstat(path, &st) < 0) {
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    }
    /* "/lib" is one where all is below /usr; "/proc/self" is one as well, and meant to be followed.
     */
    if (S_ISLNK(st.st_mode) && strcmp(path, "/proc/self") != 0) {
        n = readlink(path, ret->link, sizeof(ret->link) - 1);
        if (n < 0) {
            return -errno;
        }
        ret->link[n] = '\0';
    } else {
        ret->tree_fd = (int)syscall(SYS_open_tree, AT_FDCWD, path,
                                    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (ret->tree_fd < 0) {
            return -errno;
        }
        ret->directory = S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode);
    }
    ret->path = as + 1;
    return 0;
}

static int place(const struct piece *p)
{
    int r;

    if (!p->path) {
        return 0;
    }
    r = make_target(p->path, p->directory);
    if (r < 0) {
        return r;
    }
    if (p->tree_fd < 0) {
        return unlink(p->path) < 0 || symlink(p->link, p->path) < 0 ? -errno : 0;
    }
    r = restrict_tree(p->tree_fd, p->attributes);
    if (r < 0) {
        return r;
    }
    return syscall(SYS_move_mount, p->tree_fd, "", AT_FDCWD, p->path, MOVE_MOUNT_F_EMPTY_PATH) < 0
               ? -errno
               : 0;
}

/* A device file of the VMM's own, so that the host's need not be open to its uid. */
static int make_kvm(const struct launch_options *o)
{
    struct stat st;

    if (stat(KVM_DEVICE, &st) < 0) {
        return 0; /* the VMM will say so */
    }
    if (mkdir("dev", 0755) < 0 && errno != EEXIST) {
        return -errno;
    }
    if (mknod("dev/kvm", S_IFCHR | 0600, st.st_rdev) < 0 || chown("dev/kvm", o->uid, o->gid) < 0) {
        return -errno;
    }
    return 0;
}

static int enter(void)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};

    if (syscall(SYS_pivot_root, ".", ".") < 0 || syscall(SYS_umount2, ".", DETACH) < 0 ||
        chdir("/") < 0) {
        return -errno;
    }
    return syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

/* Two more than the binds: our own directory of /proc, by which the VMM opens some descriptors, and
 * the host's /dev/kvm where we may not make one. */
#define PIECES_MAX (LAUNCH_BINDS_MAX + 2)

static int take_all(const struct launch_options *o, struct piece pieces[PIECES_MAX],
                    size_t *ret_count)
{
    const uint64_t sealed = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    size_t n = 0;
    int r = take("/proc/self", "/proc/self", sealed | MOUNT_ATTR_NOEXEC, &pieces[n++]);

    for (size_t i = 0; i < o->bind_count && r == 0; i++) {
        r = take(o->binds[i], o->binds[i], sealed, &pieces[n++]);
    }
    if (r == 0 && o->kvm && !o->has_ids) {
        r = take(KVM_DEVICE, KVM_DEVICE, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, &pieces[n++]);
    }
    *ret_count = n;
    return r;
}

static int stage(const struct launch_options *o, const struct piece *pieces, size_t count)
{
    int r = 0;

    if (syscall(SYS_mount, "banger", STAGE, "tmpfs", MS_NOSUID | MS_NOEXEC,
                "size=64k,nr_inodes=256,mode=755") < 0 ||
        chdir(STAGE) < 0) {
        return -errno;
    }
    for (size_t i = 0; i < count && r == 0; i++) {
        r = place(&pieces[i]);
    }
    if (r == 0 && o->kvm && o->has_ids) {
        r = make_kvm(o);
    }
    return r < 0 ? r : enter();
}

int launch_own_root(const struct launch_options *o)
{
    static struct piece pieces[PIECES_MAX];
    mode_t before = umask(022); /* the VMM's uid is not who makes its directories */
    size_t count = 0;
    int r;

    if (syscall(SYS_unshare, CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET) < 0 ||
        syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        return -errno;
    }
    r = take_all(o, pieces, &count);
    if (r == 0) {
        r = stage(o, pieces, count);
    }
    for (size_t i = 0; i < count; i++) {
        close_p(&pieces[i].tree_fd);
    }
    (void)umask(before);
    return r;
}
