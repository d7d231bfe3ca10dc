/* What programs do that run as a guest's /init in the place of the agent: find the agent's port. */
#pragma once

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DEVICES_MAX 8
#define PORTS_MAX 4

static inline void mount_devices(void)
{
    (void)mkdir("/dev", 0755);
    (void)mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
}

static inline void load_modules(void)
{
    static char order[65536];
    int fd = open("/modules/order", O_RDONLY | O_CLOEXEC);
    char *rest = order, *name;

    (void)!read(fd, order, sizeof(order) - 1);
    (void)close(fd);
    while ((name = strsep(&rest, "\n")) && *name) {
        char path[300];

        (void)snprintf(path, sizeof(path), "/modules/%s", name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        (void)syscall(SYS_finit_module, fd, "", 0);
        (void)close(fd);
    }
}

/* Devices appear a little after their modules. */
static inline int open_port(void)
{
    const struct timespec moment = {.tv_nsec = 10 * 1000 * 1000};

    for (;;) {
        (void)nanosleep(&moment, NULL);
        for (int i = 0; i < DEVICES_MAX * PORTS_MAX; i++) {
            char path[32];
            int port;

            (void)snprintf(path, sizeof(path), "/dev/vport%dp%d", i / PORTS_MAX, i % PORTS_MAX);
            port = open(path, O_RDWR | O_CLOEXEC);
            if (port >= 0) {
                return port;
            }
        }
    }
}

/* A port takes as much as it likes. */
static inline void write_all(int port, const void *data, size_t len)
{
    const uint8_t *p = data;

    while (len > 0) {
        ssize_t n = write(port, p, len);

        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
}
