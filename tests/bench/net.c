/*
 * What attaching guests to the network costs when there are many, without any VM.
 *
 *   bench-net COUNT
 *
 * As root. In a network namespace of its own: opens the network, makes COUNT TAPs, attaches a guest
 * to each, detaches each, deletes all. Prints one line of JSON with the medians, in microseconds,
 * of the first and of the last hundred of each step. Any surprise ends it with status 1.
 */
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "host/host.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define SAMPLE 100U

static const struct host_subnet subnet = {
    .ipv4 = 0x0AC90000, .ipv4_bits = 16, .ipv6 = {0xfd, 0, 2, 1}};

enum step { TAP, ATTACH, DETACH, STEPS };
static const char *const step_names[] = {"tap_open", "attach", "detach"};

static _noreturn_ void give_up(const char *what)
{
    (void)fprintf(stderr, "bench-net: %s\n", what);
    exit(1);
}

static void must(int r, const struct err *err)
{
    if (r < 0) {
        give_up(err->message);
    }
}

static void enter(void)
{
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    _cleanup_close_ int fd = -1;

    if (unshare(CLONE_NEWNET) < 0) {
        give_up("no network namespace");
    }
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0) {
        give_up("lo");
    }
}

/* Without any connection the kernel does not look for those to forget. Lasts half a minute. */
static void connect_once(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0 ||
        sendto(fd, "x", 1, 0, (struct sockaddr *)&a, len) != 1) {
        give_up("no connection");
    }
}

static void do_step(struct host *host, enum step step, unsigned i)
{
    struct host_nic nic = {
        .tap = i, .ipv4 = subnet.ipv4 + 2 + i, .ipv6 = {0xfd, 0, 2, 1}, .nat = true};
    struct err err;
    int fd = -1;

    nic.ipv6[14] = (uint8_t)((i + 2) >> 8);
    nic.ipv6[15] = (uint8_t)(i + 2);
    switch (step) {
    case TAP:
        must(host_tap_open(host, i, &fd, &err), &err);
        break; /* held, as QEMU would */
    case ATTACH:
        must(host_nic_attach(host, &nic, &err), &err);
        break;
    default:
        must(host_nic_detach(host, &nic, &err), &err);
    }
}

static int compare(const void *a, const void *b)
{
    return *(const int64_t *)a < *(const int64_t *)b ? -1
                                                     : *(const int64_t *)a > *(const int64_t *)b;
}

static long long median(int64_t *times)
{
    qsort(times, SAMPLE, sizeof(*times), compare);
    return times[SAMPLE / 2];
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/bench-net-XXXXXX";
    _cleanup_free_ int64_t *times = NULL;
    struct host *host;
    uint64_t count;
    struct err err;
    unsigned mtu;

    if (argc != 2 || str_to_u64(argv[1], HOST_TAPS_MAX, &count) < 0 || count < 2 * SAMPLE ||
        !mkdtemp(dir)) {
        give_up("usage: bench-net COUNT, of at least 200");
    }
    fs_raise_limit();
    enter();
    host = host_local_new(&(struct host_local_params){
        .launcher = "/none", .name = dir, .cgroup_root = "/nonexistent"});
    must(host_net_open(host, &subnet, &mtu, &err), &err);
    times = x_calloc(count, sizeof(*times));
    for (enum step step = 0; step < STEPS; step++) {
        connect_once();
        for (unsigned i = 0; i < count; i++) {
            int64_t begun_us = clock_mono_us();

            do_step(host, step, i);
            times[i] = clock_mono_us() - begun_us;
        }
        (void)printf("%s\"%s\": [%lld, ", step == 0 ? "{" : ", ", step_names[step], median(times));
        (void)printf("%lld]", median(times + count - SAMPLE));
    }
    {
        int64_t begun_us = clock_mono_us();

        must(host_net_close(host, &err), &err);
        (void)printf(", \"close\": %lld}\n", (long long)(clock_mono_us() - begun_us));
    }
    host_free(host);
    (void)fs_remove_tree(AT_FDCWD, dir);
    return 0;
}
