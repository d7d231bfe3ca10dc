#include "sys/tap.h"

#include "base/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>

/*
 * Whoever had it before may have changed all of these, also a QEMU without rights: the kernel asks
 * for none once a queue is open. Without an owner anybody who may open /dev/net/tun could take a
 * persistent TAP that nobody has open (tun_not_capable in drivers/net/tun.c); so it is root's.
 */
static int reset(int fd)
{
    int header = sizeof(struct virtio_net_hdr), all = INT_MAX, on = 1, none = -1;

    if (ioctl(fd, TUNSETOWNER, 0) < 0 || ioctl(fd, TUNSETGROUP, 0) < 0 ||
        ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 || ioctl(fd, TUNSETOFFLOAD, 0) < 0 ||
        ioctl(fd, TUNSETSNDBUF, &all) < 0) {
        return -errno;
    }
    /* Of later kernels, or without effect where nothing was set. */
    (void)ioctl(fd, TUNDETACHFILTER, 0);
    (void)ioctl(fd, TUNSETFILTEREBPF, &none);
    (void)ioctl(fd, TUNSETSTEERINGEBPF, &none);
    (void)ioctl(fd, TUNSETCARRIER, &on);
    return 0;
}

int tap_open(const char *name, int *ret_fd)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    _cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    int r;

    if (fd < 0) {
        return -errno;
    }
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (ioctl(fd, TUNSETIFF, &request) < 0) {
        return -errno;
    }
    r = reset(fd);
    if (r < 0) {
        return r;
    }
    *ret_fd = STEAL_FD(fd);
    return 0;
}

int tap_keep(int fd)
{
    return ioctl(fd, TUNSETPERSIST, 1) < 0 ? -errno : 0;
}
