#include "agent/boot.h"

#include "agent/data_disk.h"
#include "agent/uevent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define PORT_NAME "banger.0"
#define ROOT_SERIAL "banger-root"
#define DATA_SERIAL "banger-data"
/* They are all there when the modules are loaded, unless the kernel is not as we think. */
#define PORT_TIMEOUT_MS 10000
#define DISK_TIMEOUT_MS 2000
#define ORDER_MAX 65536
#define NAME_LEN_MAX 64
#define DEVICE_PATH_MAX 300

int boot_fail(struct boot *b, int error, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(b->why, sizeof(b->why), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(b->why)) {
        (void)snprintf(b->why + n, sizeof(b->why) - (size_t)n, ": %s", strerror(error));
    }
    return -error;
}

void boot_init(struct boot *b)
{
    *b = (struct boot){.port_fd = -1, .data_fd = -1, .disk_fd = -1, .uevent_fd = -1};
}

/* A small file as a string; "" when it cannot be read. */
static size_t read_text(const char *path, char *ret, size_t size)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n;

    while (fd >= 0 && len + 1 < size && (n = read(fd, ret + len, size - 1 - len)) > 0) {
        len += (size_t)n;
    }
    ret[len] = 0;
    return len;
}

void boot_param(const struct boot *b, const char *name, char *ret, size_t size)
{
    size_t name_len = strlen(name);

    ret[0] = 0;
    for (const char *p = b->cmdline; *p;) {
        size_t len = strcspn(p, " \n");

        if (len > name_len && p[name_len] == '=' && strncmp(p, name, name_len) == 0) {
            (void)snprintf(ret, size, "%.*s", (int)(len - name_len - 1), p + name_len + 1);
        }
        p += len;
        p += strspn(p, " \n");
    }
}

static int mount_kernel_filesystems(struct boot *b)
{
    const struct {
        const char *type;
        const char *where;
        unsigned long flags;
        const char *options;
    } mounts[] = {
        {"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
        {"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
        {"devtmpfs", "/dev", MS_NOSUID, "mode=755"},
    };

    for (size_t i = 0; i < ARRAY_LEN(mounts); i++) {
        (void)mkdir(mounts[i].where, 0755);
        if (mount(mounts[i].type, mounts[i].where, mounts[i].type, mounts[i].flags,
                  mounts[i].options) < 0 &&
            errno != EBUSY) {
            return boot_fail(b, errno, "mount %s", mounts[i].where);
        }
    }
    (void)read_text("/proc/cmdline", b->cmdline, sizeof(b->cmdline));
    return 0;
}

/* A module that fails may be one that this kernel does not need: what is missing shows later. */
static void load_module(const char *name)
{
    char path[DEVICE_PATH_MAX];
    _cleanup_close_ int fd = -1;

    (void)snprintf(path, sizeof(path), "/modules/%s", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)) {
        dprintf(STDERR_FILENO, "banger-agent: module %s: %s\n", name, strerror(errno));
        return;
    }
    /* It is in the kernel now, the file is memory. */
    (void)unlink(path);
}

static void load_modules(void)
{
    _cleanup_free_ char *order = malloc(ORDER_MAX);
    char *rest = order, *name;

    if (!order || read_text("/modules/order", order, ORDER_MAX) == 0) {
        return;
    }
    while ((name = strsep(&rest, "\n"))) {
        if (*name && !strchr(name, '/')) {
            load_module(name);
        }
    }
}

/* Waiting for devices ------------------------------------------------------------------------- */

static int watch_uevents(struct boot *b)
{
    b->uevent_fd = uevent_open();
    return b->uevent_fd < 0 ? boot_fail(b, -b->uevent_fd, "listen for devices") : 0;
}

/* Looks at `directory`/<entry>/`attribute` for the value; gives the entry's name. */
static bool find_device(const char *directory, const char *attribute, const char *value,
                        char ret[NAME_LEN_MAX])
{
    DIR *dir = opendir(directory);
    struct dirent *entry;
    bool found = false;

    while (dir && !found && (entry = readdir(dir))) {
        char path[DEVICE_PATH_MAX], text[NAME_LEN_MAX];

        if (entry->d_name[0] == '.' || strlen(entry->d_name) >= NAME_LEN_MAX) {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%s/%s/%s", directory, entry->d_name, attribute);
        (void)read_text(path, text, sizeof(text));
        text[strcspn(text, "\n")] = 0;
        if (strcmp(text, value) == 0) {
            memcpy(ret, entry->d_name, strlen(entry->d_name) + 1);
            found = true;
        }
    }
    if (dir) {
        (void)closedir(dir);
    }
    return found;
}

/* As find_device, until the kernel has told of it. False: it did not come in time. */
static bool await_device(struct boot *b, const char *directory, const char *attribute,
                         const char *value, int timeout_ms, char ret[NAME_LEN_MAX])
{
    int64_t deadline = uevent_now_ms() + timeout_ms;

    while (!find_device(directory, attribute, value, ret)) {
        if (!uevent_wait(b->uevent_fd, deadline)) {
            return false;
        }
    }
    return true;
}

int boot_port(struct boot *b)
{
    char name[NAME_LEN_MAX], path[DEVICE_PATH_MAX];
    int r = mount_kernel_filesystems(b);

    if (r == 0) {
        r = watch_uevents(b);
    }
    if (r < 0) {
        return r;
    }
    load_modules();
    if (!await_device(b, "/sys/class/virtio-ports", "name", PORT_NAME, PORT_TIMEOUT_MS, name)) {
        return boot_fail(b, ENODEV, "no virtio-serial port '%s'", PORT_NAME);
    }
    (void)snprintf(path, sizeof(path), "/dev/%s", name);
    b->port_fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    return b->port_fd < 0 ? boot_fail(b, errno, "open %s", path) : 0;
}

/* Disks --------------------------------------------------------------------------------------- */

static int mount_disk(struct boot *b, const char *name, const char *where, unsigned long flags,
                      const char *options)
{
    char path[DEVICE_PATH_MAX];

    (void)snprintf(path, sizeof(path), "/dev/%s", name);
    (void)mkdir(where, 0755);
    if (mount(path, where, "ext4", flags, options) < 0) {
        return boot_fail(b, errno, "mount %s on %s", path, where);
    }
    return 0;
}

/* To the size of its disk, which may have grown since the last boot. A guest with less room than it
 * might have is better than none. */
static void grow_data(struct boot *b, const char *name)
{
    char path[DEVICE_PATH_MAX];
    int r;

    (void)snprintf(path, sizeof(path), "/dev/%s", name);
    b->disk_fd = open(path, O_RDONLY | O_CLOEXEC);
    r = b->disk_fd < 0 ? -errno : data_disk_grow(b->data_fd, b->disk_fd, 0);
    if (r < 0) {
        dprintf(STDERR_FILENO, "banger-agent: grow the data disk: %s\n", strerror(-r));
    }
}

/* The writable layer. Disks are all found by the time that the first one is: a missing data disk
 * means memory, unless the host says that there must be one. */
static int mount_data(struct boot *b)
{
    char name[NAME_LEN_MAX], kind[16];
    bool found;
    int r;

    boot_param(b, "banger.data", kind, sizeof(kind));
    if (strcmp(kind, "disk") == 0) {
        found = await_device(b, "/sys/block", "serial", DATA_SERIAL, DISK_TIMEOUT_MS, name);
        if (!found) {
            return boot_fail(b, ENODEV, "no disk with the serial '%s'", DATA_SERIAL);
        }
    } else {
        found =
            strcmp(kind, "memory") != 0 && find_device("/sys/block", "serial", DATA_SERIAL, name);
    }
    if (!found) {
        (void)mkdir("/data", 0755);
        return mount("data", "/data", "tmpfs", 0, "mode=755") < 0
                   ? boot_fail(b, errno, "mount memory on /data")
                   : 0;
    }
    r = mount_disk(b, name, "/data", 0, "noinit_itable");
    if (r < 0) {
        return r;
    }
    b->data_fd = open("/data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (b->data_fd < 0) {
        return boot_fail(b, errno, "open /data");
    }
    grow_data(b, name);
    return 0;
}

int boot_root(struct boot *b)
{
    char name[NAME_LEN_MAX];
    int r;

    if (!await_device(b, "/sys/block", "serial", ROOT_SERIAL, DISK_TIMEOUT_MS, name)) {
        return boot_fail(b, ENODEV, "no disk with the serial '%s'", ROOT_SERIAL);
    }
    r = mount_disk(b, name, "/lower", MS_RDONLY, NULL);
    if (r == 0) {
        r = mount_data(b);
    }
    if (r == 0) {
        r = root_join(b);
    }
    if (r == 0) {
        r = root_enter(b);
    }
    close_p(&b->uevent_fd);
    return r;
}
