#include "agent/agent.h"

#include "version.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NOFILE_AGENT 65536 /* 1,024 sessions with three descriptors each, and drained pipes */
#define NOFILE_SOFT 1024   /* for commands, as everywhere */
#define NOFILE_HARD 524288

static void reap(struct agent *a)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        sessions_reaped(&a->sessions, pid, status);
        requests_reaped(&a->requests, pid, status);
    }
    requests_idle(&a->requests, pid < 0 && errno == ECHILD);
}

static void on_signals(struct source *source, uint32_t events)
{
    struct agent *a = source->owner;
    struct signalfd_siginfo info;

    (void)events;
    while (read(source->fd, &info, sizeof(info)) > 0) {
        /* From init, whichever it is, that is the end of all processes. From anybody else, such as
         * `kill -1`, it is none of our business. */
        if (info.ssi_signo == SIGTERM && info.ssi_pid == 1) {
            requests_init_ends(&a->requests);
        }
    }
    reap(a);
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

static bool next_frame(void *ctx, struct buf *out, struct link_piece *piece)
{
    struct agent *a = ctx;

    return requests_next(&a->requests, out) || sessions_next(&a->sessions, out, piece) ||
           requests_farewell(&a->requests, out);
}

const struct link_ops agent_link_ops = {
    .frame = on_frame,
    .ended = on_ended,
    .sessions = list_sessions,
    .next = next_frame,
};

/* Children get SIGPIPE and the mask back as they should be; every other signal is at its default
 * from here on, whatever we were started with. PID 1 is sent none that it does not handle. */
static int set_signals(struct agent *a, bool own_init)
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
    if (own_init) {
        (void)sigaddset(&mask, SIGTERM);
    }
    if (sigprocmask(SIG_SETMASK, &mask, NULL) < 0) {
        return -errno;
    }
    fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    a->signals = (struct source){.fd = -1, .handle = on_signals, .owner = a};
    return fd < 0 ? -errno : poller_add(&a->poller, &a->signals, fd, EPOLLIN);
}

static void set_limits(struct agent *a)
{
    struct rlimit now, wanted = {.rlim_cur = NOFILE_AGENT, .rlim_max = NOFILE_HARD};

    (void)getrlimit(RLIMIT_NOFILE, &now);
    a->sessions.env.nofile = now;
    /* In a guest we may become anybody. Elsewhere uid 0 alone does not say so. */
    a->sessions.env.keep_user = geteuid() != 0 || prctl(PR_CAPBSET_READ, CAP_SETUID, 0, 0, 0) != 1;
    if (a->live) {
        a->sessions.env.nofile = (struct rlimit){.rlim_cur = NOFILE_SOFT, .rlim_max = NOFILE_HARD};
    } else {
        wanted = (struct rlimit){.rlim_cur = now.rlim_max, .rlim_max = now.rlim_max};
    }
    if (setrlimit(RLIMIT_NOFILE, &wanted) < 0) {
        a->sessions.env.nofile = now;
    }
}

void agent_set_descriptors(void)
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

int agent_init(struct agent *a, const struct agent_params *params)
{
    int r;

    *a = (struct agent){.live = params->live};
    link_init(&a->link, params->link_ops ? params->link_ops : &agent_link_ops, a, BANGER_VERSION);
    r = poller_init(&a->poller);
    sessions_init(&a->sessions, &a->poller,
                  params->session_ops ? params->session_ops : &session_real_ops);
    if (r == 0) {
        r = requests_init(&a->requests, &a->poller, &a->sessions);
    }
    if (r == 0) {
        r = set_signals(a, params->init != NULL);
    }
    a->requests.live = params->live;
    a->requests.init = params->init;
    set_limits(a);
    /* By descriptor: /proc is the user's to change, and our file's name is gone with the initramfs.
     */
    a->sessions.env.self_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    return r;
}

void agent_done(struct agent *a)
{
    sessions_signal(&a->sessions, SIGKILL);
    sessions_done(&a->sessions);
    requests_done(&a->requests);
    link_done(&a->link, &a->poller);
}

int agent_serve(struct agent *a)
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
