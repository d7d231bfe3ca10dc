#include "cli/session.h"

#include "base/clock.h"
#include "base/str.h"
#include "cli/attach.h"
#include "cli/output.h"
#include "cli/signals.h"
#include "cli/terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* How long another daemon is looked for when one ended under us. */
#define RECONNECT_MS 15000

/* A stdin that somebody prepared for the command: neither a terminal nor /dev/null. */
static bool stdin_is_data(void)
{
    struct stat st;

    if (fstat(STDIN_FILENO, &st) < 0 || isatty(STDIN_FILENO)) {
        return false;
    }
    return !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3);
}

/* Without a command a terminal gets a shell, as with ssh. */
static int find_streams(const struct cli *cli, const struct cli_args *args,
                        struct session_streams *ret, struct err *err)
{
    bool detach = cli_arg(args, "detach") != NULL;
    bool interactive = cli_arg(args, "interactive") != NULL;
    bool on_terminal = !cli->stdin_closed && isatty(STDIN_FILENO);
    bool shell = args->command_count == 0 && !detach && on_terminal;

    if (detach && interactive) {
        return err_set(err, ERR_INVALID, "--detach and --interactive exclude each other");
    }
    ret->tty = shell || cli_arg(args, "tty") != NULL;
    ret->stdin_open = shell || interactive || (!detach && !cli->stdin_closed && stdin_is_data());
    ret->raw = ret->tty && ret->stdin_open && on_terminal;
    return 0;
}

static json_t *find_tty(void)
{
    struct terminal_size size = {.rows = 24, .columns = 80};
    json_t *tty = json_object();

    (void)terminal_size(&size);
    json_put_int(tty, "rows", size.rows);
    json_put_int(tty, "columns", size.columns);
    return tty;
}

json_t *session_spec(const struct cli *cli, const struct cli_args *args,
                     struct session_streams *ret_streams, struct err *err)
{
    _cleanup_json_ json_t *spec = json_object();
    struct session_streams streams;

    if (find_streams(cli, args, &streams, err) < 0) {
        return NULL;
    }
    json_put(spec, "command", cli_args_command(args));
    if (cli_args_params(args, "session.start", spec, err) < 0) {
        return NULL;
    }
    json_put_str(spec, "stdin", streams.stdin_open ? "pipe" : "closed");
    if (streams.tty) {
        json_put(spec, "tty", find_tty());
        if (!json_object_get(spec, "env")) {
            json_put(spec, "env", json_array());
        }
        terminal_put_env(json_object_get(spec, "env"), getenv);
    }
    *ret_streams = streams;
    return STEAL_PTR(spec);
}

int session_wake(void *arg)
{
    struct session_wake *w = arg;
    int number = signals_read(w->signals_fd);

    w->signal = number ? number : w->signal;
    return number ? -1 : 0;
}

/* Attaching, and coming back --------------------------------------------------------------------*/

struct attaching {
    struct cli *cli;
    const struct session_attach *params;
    int signal; /* that ended a wait */
    struct terminal terminal;
};

/* A call about the session, which signals end. */
static int call_watched(struct attaching *at, struct client *c, const char *method, struct err *err)
{
    struct session_wake wake = {.signals_fd = at->params->signals_fd};
    struct client_watch watch = {
        .wake_fd = at->params->signals_fd, .wake = session_wake, .arg = &wake};
    _cleanup_json_ json_t *session = NULL;
    json_t *request = json_object();
    int r;

    json_put_str(request, "vm", at->params->vm);
    json_put_str(request, "session", at->params->session);
    r = client_call_watched(c, method, request, &watch, &session, err);
    at->signal = wake.signal ? wake.signal : at->signal;
    return r;
}

static int attach_once(struct attaching *at, int *ret_fd, struct buf *ret_rest, struct err *err)
{
    _cleanup_client_ struct client *c = NULL;

    if (cli_connect(at->cli, false, &c, err) < 0 ||
        call_watched(at, c, "session.attach", err) < 0) {
        return -1;
    }
    if (client_daemon_pid(c) != client_daemon_pid(*at->params->holder)) {
        return err_set(err, ERR_IO, "the daemon ended"); /* and the hold with it */
    }
    *ret_fd = client_take_over(c, ret_rest);
    return 0;
}

/* The next one cannot start before the last one has ended. */
static void await_end(pid_t pid, int64_t deadline_ms)
{
    _cleanup_close_ int fd = pidfd_open(pid, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int64_t left = deadline_ms - clock_mono_ms();

    while (fd >= 0 && left > 0 && poll(&p, 1, (int)left) < 0 && errno == EINTR) {
        left = deadline_ms - clock_mono_ms();
    }
}

int session_next_daemon(struct cli *cli, struct client **holder, int64_t deadline_ms,
                        struct err *err)
{
    struct client *next = NULL;

    if (cli_connect(cli, false, &next, err) < 0) {
        if (err->code != ERR_NOT_RUNNING) {
            return -1;
        }
        await_end(client_daemon_pid(*holder), deadline_ms);
        if (cli_connect(cli, true, &next, err) < 0) {
            return -1;
        }
    }
    client_free(*holder);
    *holder = next;
    return 0;
}

/* Takes the session's hold over, and attaches. */
static int come_back(struct attaching *at, int64_t deadline_ms, int *ret_fd, struct buf *ret_rest,
                     struct err *err)
{
    if (session_next_daemon(at->cli, at->params->holder, deadline_ms, err) < 0 ||
        call_watched(at, *at->params->holder, "session.hold", err) < 0) {
        return -1;
    }
    return attach_once(at, ret_fd, ret_rest, err);
}

static int reconnect(void *arg, int *ret_fd, struct buf *ret_rest, struct err *err)
{
    struct attaching *at = arg;
    int64_t deadline = clock_mono_ms() + RECONNECT_MS;
    int r;

    terminal_pause(&at->terminal);
    /* What goes wrong with a connection may go better with the next one: that daemon may have ended
     * as well. */
    do {
        r = come_back(at, deadline, ret_fd, ret_rest, err);
    } while (r < 0 && !at->signal && (err->code == ERR_IO || err->code == ERR_NOT_RUNNING) &&
             clock_mono_ms() < deadline);
    terminal_resume(&at->terminal);
    if (r < 0) {
        return at->signal ? at->signal : -1;
    }
    /* The screen of a terminal is the guest's. */
    if (!at->cli->quiet && !at->terminal.raw) {
        (void)fputs("banger: the daemon ended; going on with the new one\n", stderr);
    }
    return 0;
}

/* Not to a terminal that is stuck: whoever wants us to end must not wait for it. */
static void say_killed(const struct cli *cli, int number)
{
    struct pollfd now = {.fd = STDERR_FILENO, .events = POLLOUT};

    if (!cli->quiet && poll(&now, 1, 0) > 0) {
        (void)fprintf(stderr, "banger: %s for the second time: killed the command\n",
                      number == SIGINT ? "SIGINT" : "SIGTERM");
    }
}

/* Bytes both ways, in raw mode if need be. */
static int carry(struct attaching *at, int fd, struct buf *rest, bool *ret_left)
{
    const struct session_attach *params = at->params;
    const struct session_streams *streams = &params->streams;
    struct attach_result result;
    struct err err;
    int r = streams->raw ? terminal_raw(&at->terminal, STDIN_FILENO) : 0;

    if (r < 0) {
        err_set_errno(&err, ERR_IO, r, "cannot change the modes of the terminal");
        (void)out_error(at->cli, NULL, NULL, &err);
        return EXIT_BANGER;
    }
    r = attach_run(&(struct attach_params){.fd = fd,
                                           .rest = rest,
                                           .signals_fd = params->signals_fd,
                                           .stdin_open = streams->stdin_open,
                                           .tty = streams->tty,
                                           .terminal = streams->raw ? &at->terminal : NULL,
                                           .reconnect = reconnect,
                                           .reconnect_arg = at},
                   &result, &err);
    terminal_restore(&at->terminal);
    if (r < 0) {
        (void)out_error(at->cli, NULL, NULL, &err);
    } else if (result.killed) {
        say_killed(at->cli, result.status - 128);
    }
    *ret_left = result.left;
    return result.status;
}

int session_attach(struct cli *cli, const struct session_attach *params, bool *ret_left)
{
    struct attaching at = {.cli = cli, .params = params, .terminal.fd = -1};
    _cleanup_buf_ struct buf rest = {0};
    _cleanup_close_ int fd = -1;
    struct err err;
    int r = attach_once(&at, &fd, &rest, &err);

    *ret_left = true;
    if (r < 0 && !at.signal && (err.code == ERR_IO || err.code == ERR_NOT_RUNNING)) {
        r = reconnect(&at, &fd, &rest, &err);
    }
    if (at.signal) {
        return 128 + at.signal;
    }
    if (r < 0) {
        (void)out_error(cli, NULL, NULL, &err);
        return EXIT_BANGER;
    }
    return carry(&at, fd, &rest, ret_left);
}
