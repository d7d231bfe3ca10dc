#include "agent/boot.h"
#include "agent/hostname.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Kept on the data disk itself: container engines cannot work on an overlay. */
static const char *const direct[] = {"docker", "containerd", "containers", "buildkit"};

/* Makes a directory of the writable layer; new ones get the mode and owner of `like`. */
static int make_layer(struct boot *b, const char *path, const char *like)
{
    struct stat st;

    if (mkdir(path, 0755) < 0) {
        return errno == EEXIST ? 0 : boot_fail(b, errno, "mkdir %s", path);
    }
    /* The overlay's root shows the upper directory's attributes. */
    if (like && stat(like, &st) == 0 &&
        (chown(path, st.st_uid, st.st_gid) < 0 || chmod(path, st.st_mode & 07777) < 0)) {
        return boot_fail(b, errno, "set the mode of %s", path);
    }
    return 0;
}

int root_join(struct boot *b)
{
    static const char layers[] = "lowerdir=/lower,upperdir=/data/upper,workdir=/data/work";
    char options[256];
    int r = make_layer(b, "/data/upper", "/lower");

    if (r == 0) {
        r = make_layer(b, "/data/work", NULL);
    }
    if (r < 0) {
        return r;
    }
    (void)mkdir("/new", 0755);
    /* rename of an image's directory, cheap chmod, one st_dev: none of them is a default. */
    (void)snprintf(options, sizeof(options), "%s,redirect_dir=on,metacopy=on,xino=on", layers);
    if (mount("overlay", "/new", "overlay", 0, options) < 0 &&
        (errno != EINVAL || mount("overlay", "/new", "overlay", 0, layers) < 0)) {
        return boot_fail(b, errno, "mount the overlay");
    }
    return 0;
}

static bool is_empty(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool empty = true;

    while (dir && empty && (entry = readdir(dir))) {
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    }
    if (dir) {
        (void)closedir(dir);
    }
    return empty;
}

/* Where an image brings content of its own, that stays visible instead. */
static void bind_direct(void)
{
    if (mkdir("/data/direct", 0755) < 0 && errno != EEXIST) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(direct); i++) {
        char from[64], to[64];

        (void)snprintf(from, sizeof(from), "/data/direct/%s", direct[i]);
        (void)snprintf(to, sizeof(to), "/new/var/lib/%s", direct[i]);
        (void)mkdir(from, 0711);
        (void)mkdir(to, 0711);
        if (is_empty(to)) {
            (void)mount(from, to, NULL, MS_BIND, NULL);
        }
    }
}

static int enter(struct boot *b)
{
    static const char *const moved[] = {"/dev", "/proc", "/sys"};

    for (size_t i = 0; i < ARRAY_LEN(moved); i++) {
        char to[64];

        (void)snprintf(to, sizeof(to), "/new%s", moved[i]);
        (void)mkdir(to, 0755);
        if (mount(moved[i], to, NULL, MS_MOVE, NULL) < 0) {
            return boot_fail(b, errno, "move %s", moved[i]);
        }
    }
    /* pivot_root does not work from the initramfs. */
    if (chdir("/new") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0) {
        return boot_fail(b, errno, "enter the new root");
    }
    return 0;
}

/* No failure here is worth a guest that does not start: a command that needs it will say so. */
static void mount_rest(void)
{
    const struct {
        const char *type;
        const char *where;
        unsigned long flags;
        const char *options;
        mode_t mode;
    } mounts[] = {
        {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666", 0755},
        {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777", 01777},
        {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755", 0755},
        {"cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate", 0755},
    };

    for (size_t i = 0; i < ARRAY_LEN(mounts); i++) {
        (void)mkdir(mounts[i].where, mounts[i].mode);
        if (mount(mounts[i].type, mounts[i].where, mounts[i].type, mounts[i].flags,
                  mounts[i].options) < 0) {
            dprintf(STDERR_FILENO, "banger-agent: mount %s: %s\n", mounts[i].where,
                    strerror(errno));
        }
    }
}

static void make_paths(void)
{
    struct stat st;

    if (mkdir("/run/lock", 01777) == 0) {
        (void)chmod("/run/lock", 01777);
    }
    if (lstat("/tmp", &st) < 0 && mkdir("/tmp", 01777) == 0) {
        (void)chmod("/tmp", 01777);
    }
    (void)mkdir("/etc", 0755);
    (void)mkdir("/root", 0700);
    (void)!symlink("/proc/self/fd", "/dev/fd");
    (void)!symlink("/proc/self/fd/0", "/dev/stdin");
    (void)!symlink("/proc/self/fd/1", "/dev/stdout");
    (void)!symlink("/proc/self/fd/2", "/dev/stderr");
}

/* By ioctl and not for long: a template must not have opened what carries secrets. */
static void loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0) {
        dprintf(STDERR_FILENO, "banger-agent: loopback: %s\n", strerror(errno));
    }
}

int root_enter(struct boot *b)
{
    int r;

    if (b->data_fd >= 0) {
        bind_direct();
    }
    r = enter(b);
    if (r < 0) {
        return r;
    }
    mount_rest();
    make_paths();
    loopback_up();
    (void)sethostname(HOSTNAME_DEFAULT, strlen(HOSTNAME_DEFAULT));
    return 0;
}
