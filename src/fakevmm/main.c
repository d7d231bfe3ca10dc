/*
 * banger-fakevmm: stands in for QEMU in tests of scale and of faults. No machine and no sandbox:
 * the agent's own code serves the host on the socket that QEMU would have, and commands are
 * processes of this host, as this user. vmm/fake/fake_process.h says how it is started,
 * fakevmm/fault.h what it can be told to do wrong. One thread.
 */
#include "agent/agent.h"
#include "agent/files.h"
#include "fakevmm/fault.h"
#include "fakevmm/keeper.h"
#include "fakevmm/liar.h"
#include "version.h"
#include "vmm/fake/fake_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* One per process. The agent's callbacks have no other way here. */
static struct fake {
    struct agent agent;
    struct link_ops link_ops;
    struct source listener; /* not watched while there is a host */
    struct keeper keeper;
    struct faults faults;
    bool due[FAULT_POINT_COUNT]; /* happens when what was answered has been written */
} fake;

static void say(const char *format, const char *word)
{
    (void)dprintf(FAKE_FD_CONSOLE, format, word);
}

/* Faults -------------------------------------------------------------------------------------- */

static _noreturn_ void hang(void)
{
    for (;;) {
        (void)pause();
    }
}

/* Until a line "go" comes. */
static void wait_for_go(void)
{
    static const char go[] = "go\n";
    size_t matched = 0;
    char c;

    while (matched < sizeof(go) - 1) {
        ssize_t n = read(FAKE_FD_CONTROL, &c, 1);

        if (n < 0 && errno != EINTR) {
            hang(); /* a test that went wrong: not to be taken for one that goes on */
        }
        if (n == 1) {
            matched = c == go[matched] ? matched + 1 : c == go[0] ? 1 : 0;
        }
    }
}

static void act(enum fault_action action, enum fault_point point)
{
    switch (action) {
    case FAULT_HANG:
        say("fakevmm: hangs at %s\n", fault_point_name(point));
        hang();
    case FAULT_WAIT:
        say("fakevmm: waits at %s\n", fault_point_name(point));
        wait_for_go();
        say("fakevmm: goes on at %s\n", fault_point_name(point));
        break;
    case FAULT_EXIT:
        say("fakevmm: exits at %s\n", fault_point_name(point));
        (void)dprintf(STDERR_FILENO, "told to exit at %s\n", fault_point_name(point));
        _exit(FAULT_STATUS);
    case FAULT_DIE:
        say("fakevmm: dies at %s\n", fault_point_name(point));
        (void)kill(getpid(), SIGKILL);
        break;
    default:
        break;
    }
}

/* Whether what brought us to the point is to be ignored. */
static bool reach(enum fault_point point)
{
    const struct faults *f = &fake.faults;
    bool ignore = false;

    for (size_t i = 0; i < f->count; i++) {
        if (f->list[i].point == point) {
            act(f->list[i].action, point);
            ignore |= f->list[i].action == FAULT_IGNORE;
        }
    }
    return ignore;
}

/* A point that is reached once everything up to now has been written. */
static void flushed(void)
{
    for (int point = 0; point < FAULT_POINT_COUNT; point++) {
        if (fake.due[point]) {
            fake.due[point] = false;
            (void)reach((enum fault_point)point);
        }
    }
}

/* The agent, with faults between ----------------------------------------------------------------
 */

static unsigned on_hello(void *ctx)
{
    (void)reach(FAULT_AT_HELLO);
    fake.due[FAULT_AT_GREETED] = true;
    return agent_link_ops.sessions(ctx);
}

static void on_frame(void *ctx, const struct frame *f, struct buf *out)
{
    static const struct {
        uint8_t type;
        enum fault_point point;
        int then; /* or 0 */
    } frames[] = {
        {FRAME_CONFIGURE, FAULT_AT_CONFIGURE, FAULT_AT_CONFIGURED},
        {FRAME_EXEC, FAULT_AT_EXEC, FAULT_AT_STARTED},
        {FRAME_SYNC, FAULT_AT_SYNC, 0},
        {FRAME_POWEROFF, FAULT_AT_POWEROFF, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
        if (f->type == frames[i].type) {
            if (reach(frames[i].point)) {
                return;
            }
            if (frames[i].then) {
                fake.due[frames[i].then] = true;
            }
        }
    }
    agent_link_ops.frame(ctx, f, out);
}

static int start_command(struct spec *spec, const struct child_env *env, struct child *ret,
                         struct failure *ret_failure)
{
    int r = keeper_start(&fake.keeper);

    if (r < 0) {
        return failure_set(ret_failure, FAILURE_AGENT, -r,
                           "a fake VM needs a PID namespace for its commands");
    }
    return session_real_ops.start(spec, env, ret, ret_failure);
}

/* Hosts --------------------------------------------------------------------------------------- */

static int watch_listener(void)
{
    return poller_add(&fake.agent.poller, &fake.listener, FAKE_FD_AGENT, EPOLLIN);
}

/* One host at a time, as with QEMU: the next one waits in the socket's queue. */
static void on_host(struct source *source, uint32_t events)
{
    struct agent *a = &fake.agent;
    int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0) {
        return; /* it has gone again */
    }
    (void)poller_steal(&a->poller, source);
    if (link_open(&a->link, &a->poller, fd) < 0) {
        a->link.ended = true;
    }
}

/* Nothing is left to end but the keeper and what commands left behind. */
static void end_left_behind(void)
{
    const struct agent *a = &fake.agent;

    if ((a->requests.power == POWER_TERMINATING || a->requests.power == POWER_KILLING) &&
        a->sessions.running == 0) {
        keeper_stop(&fake.keeper);
    }
}

/* Until it is switched off. 0 or -errno. */
static int serve(void)
{
    struct agent *a = &fake.agent;
    int r = watch_listener();

    while (r == 0 && a->requests.power != POWER_OFF) {
        bool more = link_turn(&a->link);

        if (a->link.ended) {
            link_close(&a->link, &a->poller);
            r = watch_listener();
            more = false;
        }
        end_left_behind();
        if (a->link.out.len == 0) {
            flushed();
            requests_flushed(&a->requests);
        }
        if (r == 0 && a->requests.power != POWER_OFF) {
            r = poller_turn(&a->poller, more ? 0 : -1);
        }
    }
    (void)reach(FAULT_AT_FAREWELL);
    return r;
}

static _noreturn_ void lie(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int fd = accept4(FAKE_FD_AGENT, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0) {
            liar_serve(fd, true, fake.faults.lie);
            close_p(&fd);
        }
    }
}

static int honest(void)
{
    struct session_ops session_ops;
    int r;

    session_ops = session_real_ops;
    session_ops.start = start_command;
    fake.link_ops = agent_link_ops;
    fake.link_ops.frame = on_frame;
    fake.link_ops.sessions = on_hello;
    fake.listener = (struct source){.fd = -1, .handle = on_host};
    r = agent_init(&fake.agent,
                   &(struct agent_params){.link_ops = &fake.link_ops, .session_ops = &session_ops});
    fake.agent.link.one_host = true;
    if (r == 0) {
        r = serve();
    }
    /* Only those of sessions whose host never said POWEROFF are left, and end with the keeper. */
    agent_done(&fake.agent);
    keeper_stop(&fake.keeper);
    return r;
}

int main(int argc, char **argv)
{
    int r;

    /* As the agent's, the session of a copy is this program again. */
    if (argc >= SPEC_FILES_ARGS && strcmp(argv[1], SPEC_FILES_ARG) == 0) {
        return files_main(argv + 2);
    }
    if (argc < 3 || argc > 4) {
        (void)dprintf(STDERR_FILENO, "usage: banger-fakevmm NAME RUN-DIR [FAULTS]\n");
        return 2;
    }
    keeper_init(&fake.keeper);
    agent_set_descriptors();
    if (argc == 4 && faults_parse(argv[3], &fake.faults) < 0) {
        (void)dprintf(STDERR_FILENO, "label " FAKE_LABEL ": '%.200s' names no faults\n", argv[3]);
        return 2;
    }
    say("fakevmm: Linux it is not; %s boots\n", argv[1]);
    (void)reach(FAULT_AT_BOOT);
    if (fake.faults.lie[0]) {
        say("fakevmm: the agent lies: %s\n", fake.faults.lie);
        lie();
    }
    say("fakevmm: the agent %s serves\n", BANGER_VERSION);
    r = honest();
    if (r < 0) {
        (void)dprintf(STDERR_FILENO, "banger-fakevmm: %s\n", strerror(-r));
    }
    return r < 0 ? 1 : 0;
}
