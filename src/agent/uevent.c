#include "agent/uevent.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int uevent_open(void)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        int error = errno;

        (void)close(fd);
        return -error;
    }
    return fd < 0 ? -errno : fd;
}

int64_t uevent_now_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

bool uevent_wait(int fd, int64_t deadline_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int64_t left = deadline_ms - uevent_now_ms();
    char event[2048];

    if (left <= 0 || (poll(&p, 1, (int)left) < 0 && errno != EINTR)) {
        return false;
    }
    while (recv(fd, event, sizeof(event), 0) >= 0) {
    }
    return true;
}
