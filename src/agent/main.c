/*
 * banger-agent: the first and last process of a guest. Boots it, then serves the host over one
 * byte stream until it is told to end the machine. One thread, one epoll loop, nothing blocks.
 *
 * With --test-fd N (never as PID 1) it serves the stream on that socket, boots nothing, and leaves
 * clock, name, disks and foreign processes alone.
 */
#include "agent/boot.h"
#include "agent/files.h"
#include "agent/link.h"
#include "agent/request.h"
#include "agent/session.h"

#include "version.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NOFILE_AGENT 65536 /* 1,024 sessions with three descriptors each, and drained pipes */
#define NOFILE_SOFT 1024   /* for commands, as everywhere */
#define NOFILE_HARD 524288

struct agent {
    bool live; /* a guest's PID 1 */
    struct poller poller;
    struct link link;
    struct sessions sessions;
    struct requests requests;
    struct source children;
};

static void reap(struct agent *a)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        sessions_reaped(&a->sessions, pid, status);
        requests_reaped(&a->requests, pid);
    }
    requests_idle(&a->requests, pid < 0 && errno == ECHILD);
}

static void on_children(struct source *source, uint32_t events)
{
    struct signalfd_siginfo info;

    (void)events;
    while (read(source->fd, &info, sizeof(info)) > 0) {
    }
    reap(source->owner);
}

static void on_frame(void *ctx, const struct frame *f, struct buf *out)
{
    struct agent *a = ctx;

    if (f->type >= FRAME_EXEC) {
        sessions_frame(&a->sessions, f, out);
        return;
    }
    requests_frame(&a->requests, f, out);
    if (f->type == FRAME_POWEROFF) {
        /* There may be nobody to wait for. */
        reap(a);
    }
}

static void on_ended(void *ctx)
{
    struct agent *a = ctx;

    sessions_detach(&a->sessions);
    requests_detach(&a->requests);
}

static unsigned list_sessions(void *ctx)
{
    struct agent *a = ctx;

    return sessions_list(&a->sessions);
}

static bool next_frame(void *ctx, struct buf *out)
{
    struct agent *a = ctx;

    return requests_next(&a->requests, out) || sessions_next(&a->sessions, out) ||
           requests_farewell(&a->requests, out);
}

static const struct link_ops link_ops = {
    .frame = on_frame,
    .ended = on_ended,
    .sessions = list_sessions,
    .next = next_frame,
};

/* Children get SIGPIPE and the mask back as they should be; every other signal is at its default
 * from here on, whatever we were started with. PID 1 is sent none that it does not handle. */
static int set_signals(struct agent *a)
{
    sigset_t mask;
    int fd;

    /* By hand, for musl keeps 32 to 34 to itself and leaves them as they are. SIG_DFL is zero, as
     * are the rest of the kernel's struct (rt_sigaction(2)). */
    for (int sig = 1; sig < NSIG; sig++) {
        static const unsigned long by_default[4];

        (void)syscall(SYS_rt_sigaction, sig, by_default, NULL, 8);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, SIGCHLD);
    if (sigprocmask(SIG_SETMASK, &mask, NULL) < 0) {
        return -errno;
    }
    fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    a->children = (struct source){.fd = -1, .handle = on_children, .owner = a};
    return fd < 0 ? -errno : poller_add(&a->poller, &a->children, fd, EPOLLIN);
}

static void set_limits(struct agent *a)
{
    struct rlimit now, wanted = {.rlim_cur = NOFILE_AGENT, .rlim_max = NOFILE_HARD};

    (void)getrlimit(RLIMIT_NOFILE, &now);
    a->sessions.env.nofile = now;
    a->sessions.env.keep_user = geteuid() != 0;
    if (a->live) {
        a->sessions.env.nofile = (struct rlimit){.rlim_cur = NOFILE_SOFT, .rlim_max = NOFILE_HARD};
    } else {
        wanted = (struct rlimit){.rlim_cur = now.rlim_max, .rlim_max = now.rlim_max};
    }
    if (setrlimit(RLIMIT_NOFILE, &wanted) < 0) {
        a->sessions.env.nofile = now;
    }
}

/* 0, 1 and 2 exist, and no child inherits anything else. */
static void set_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd <= 2);
    close_p(&fd);
    for (fd = 0; fd <= 2; fd++) {
        (void)fcntl(fd, F_SETFD, 0);
    }
    (void)syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
}

static int agent_init(struct agent *a, bool live)
{
    int r;

    *a = (struct agent){.live = live};
    link_init(&a->link, &link_ops, a, BANGER_VERSION);
    r = poller_init(&a->poller);
    sessions_init(&a->sessions, &a->poller, &session_real_ops);
    if (r == 0) {
        r = requests_init(&a->requests, &a->poller, &a->sessions);
    }
    if (r == 0) {
        r = set_signals(a);
    }
    a->requests.live = live;
    set_limits(a);
    /* By descriptor: /proc is the user's to change, and our file's name is gone with the initramfs.
     */
    a->sessions.env.self_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    return r;
}

/* Until the machine is to end; negative: the loop itself is broken. */
static int agent_serve(struct agent *a)
{
    while (a->requests.power != POWER_OFF) {
        bool more = link_turn(&a->link);
        int r;

        if (a->link.ended) {
            return 0;
        }
        if (a->link.out.len == 0) {
            requests_flushed(&a->requests);
            if (a->requests.power == POWER_OFF) {
                return 0;
            }
        }
        r = poller_turn(&a->poller, more ? 0 : -1);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int test_main(int fd)
{
    static struct agent a;
    int flags = fcntl(fd, F_GETFL);
    int r;

    set_descriptors();
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        dprintf(STDERR_FILENO, "banger-agent: descriptor %d: %s\n", fd, strerror(errno));
        return 2;
    }
    r = agent_init(&a, false);
    a.link.one_host = true;
    if (r == 0) {
        r = link_open(&a.link, &a.poller, fd);
    }
    if (r == 0) {
        r = agent_serve(&a);
    }
    sessions_signal(&a.sessions, SIGKILL);
    sessions_done(&a.sessions);
    requests_done(&a.requests);
    link_done(&a.link, &a.poller);
    if (r < 0) {
        dprintf(STDERR_FILENO, "banger-agent: %s\n", strerror(-r));
    }
    return r < 0 ? 1 : 0;
}

static _noreturn_ void guest_main(void)
{
    static struct agent a;
    struct boot boot;
    int r;

    boot_init(&boot);
    set_descriptors();
    r = boot_port(&boot);
    (void)umask(022);
    if (agent_init(&a, true) < 0) {
        dprintf(STDERR_FILENO, "banger-agent: cannot begin: %s\n", strerror(errno));
    } else if (r < 0) {
        dprintf(STDERR_FILENO, "banger-agent: %s\n", boot.why);
    } else {
        r = link_open(&a.link, &a.poller, STEAL_FD(boot.port_fd));
        if (r == 0 && boot_root(&boot) < 0) {
            dprintf(STDERR_FILENO, "banger-agent: %s\n", boot.why);
            link_fail(&a.link, boot.why);
        }
        a.requests.data_fd = boot.data_fd;
        r = agent_serve(&a);
        if (r < 0) {
            dprintf(STDERR_FILENO, "banger-agent: %s\n", strerror(-r));
        }
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
    if (argc > SPEC_FILES_ARGS && strcmp(argv[1], SPEC_FILES_ARG) == 0) {
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
