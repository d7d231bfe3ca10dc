/*
 * banger-agent: the first and last process of a guest. Boots it, then serves the host over one
 * byte stream until it is told to end the machine. One thread, one epoll loop, nothing blocks.
 *
 * With an image's own init it ends as PID 1 before it serves, and goes on as a child of init.
 *
 * With --test-fd N (never as PID 1) it serves the stream on that socket, boots nothing, and leaves
 * clock, name, disks and foreign processes alone.
 */
#include "agent/agent.h"
#include "agent/boot.h"
#include "agent/files.h"
#include "agent/init.h"
#include "version.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>

BANGER_VERSION_MARK;

static int test_main(int fd)
{
    static struct agent a;
    int flags = fcntl(fd, F_GETFL);
    int r;

    agent_set_descriptors();
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        dprintf(STDERR_FILENO, "banger-agent: descriptor %d: %s\n", fd, strerror(errno));
        return 2;
    }
    r = agent_init(&a, &(struct agent_params){.live = false});
    a.link.one_host = true;
    if (r == 0) {
        r = link_open(&a.link, &a.poller, fd);
    }
    if (r == 0) {
        r = agent_serve(&a);
    }
    agent_done(&a);
    if (r < 0) {
        dprintf(STDERR_FILENO, "banger-agent: %s\n", strerror(-r));
    }
    return r < 0 ? 1 : 0;
}

/* To an image's own init, if there is to be one. Before anything is open or changed that it should
 * not have, and in the process that goes on: 0, or -errno with boot->why. */
static int give_up_pid_1(struct boot *boot, struct init *init)
{
    int r;

    boot_param(boot, "banger.init", init->path, sizeof(init->path));
    if (init->path[0] != '/') {
        return 0;
    }
    r = boot_root(boot);
    return r < 0 ? r : init_fork(boot, init);
}

static _noreturn_ void guest_main(void)
{
    static struct agent a;
    static struct init init;
    struct boot boot;
    bool own_init;
    int r, forked = 0;

    boot_init(&boot);
    agent_set_descriptors();
    r = boot_port(&boot);
    (void)umask(022);
    if (r == 0) {
        forked = give_up_pid_1(&boot, &init);
    }
    own_init = init.path[0] == '/';
    if (agent_init(&a, &(struct agent_params){.live = true, .init = own_init ? &init : NULL}) < 0) {
        dprintf(STDERR_FILENO, "banger-agent: cannot begin: %s\n", strerror(errno));
    } else if (r < 0) {
        dprintf(STDERR_FILENO, "banger-agent: %s\n", boot.why);
    } else {
        r = link_open(&a.link, &a.poller, STEAL_FD(boot.port_fd));
        if (r == 0 && (own_init ? forked : boot_root(&boot)) < 0) {
            dprintf(STDERR_FILENO, "banger-agent: %s\n", boot.why);
            link_fail(&a.link, boot.why);
        }
        a.requests.data_fd = boot.data_fd;
        a.requests.disk_fd = boot.disk_fd;
        dprintf(STDERR_FILENO, "banger-agent: " BANGER_VERSION " is up\n");
        r = agent_serve(&a);
        if (r < 0) {
            dprintf(STDERR_FILENO, "banger-agent: %s\n", strerror(-r));
        }
    }
    if (a.requests.by_init) {
        _exit(0); /* the machine's end is init's */
    }
    /* Not a power-off: there are kernels here that only halt then, and QEMU waits for ever. */
    (void)reboot(RB_AUTOBOOT);
    for (;;) {
        (void)pause();
    }
}

int main(int argc, char **argv)
{
    if (getpid() == 1) {
        guest_main();
    }
    if (argc >= SPEC_FILES_ARGS && strcmp(argv[1], SPEC_FILES_ARG) == 0) {
        return files_main(argv + 2);
    }
    if (argc == 3 && strcmp(argv[1], "--test-fd") == 0) {
        char *end;
        long fd = strtol(argv[2], &end, 10);

        if (*argv[2] && !*end && fd > 2 && fd < 65536) {
            return test_main((int)fd);
        }
    }
    dprintf(STDERR_FILENO, "usage: banger-agent runs as a guest's /init; --test-fd N for tests\n");
    return 2;
}
