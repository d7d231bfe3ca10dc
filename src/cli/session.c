#include "cli/session.h"

#include "base/str.h"
#include "cli/attach.h"
#include "cli/output.h"
#include "cli/signals.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A stdin that somebody prepared for the command: neither a terminal nor /dev/null. */
static bool stdin_is_data(void)
{
    struct stat st;

    if (fstat(STDIN_FILENO, &st) < 0 || isatty(STDIN_FILENO)) {
        return false;
    }
    return !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3);
}

json_t *session_spec(const struct cli *cli, const struct cli_args *args, bool *ret_stdin,
                     struct err *err)
{
    _cleanup_json_ json_t *spec = json_object();
    bool detach = cli_arg(args, "detach") != NULL;
    bool interactive = cli_arg(args, "interactive") != NULL;
    bool forward = interactive || (!detach && !cli->stdin_closed && stdin_is_data());

    if (detach && interactive) {
        err_set(err, ERR_INVALID, "--detach and --interactive exclude each other");
        return NULL;
    }
    json_put(spec, "command", cli_args_command(args));
    if (cli_args_params(args, "session.start", spec, err) < 0) {
        return NULL;
    }
    json_put_str(spec, "stdin", forward ? "pipe" : "closed");
    *ret_stdin = forward;
    return STEAL_PTR(spec);
}

int session_wake(void *arg)
{
    struct session_wake *w = arg;
    int number = signals_read(w->signals_fd);

    w->signal = number ? number : w->signal;
    return number ? -1 : 0;
}

int session_attach(struct cli *cli, const struct session_attach *params)
{
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *session = NULL;
    _cleanup_buf_ struct buf rest = {0};
    _cleanup_close_ int fd = -1;
    struct session_wake wake = {.signals_fd = params->signals_fd};
    struct client_watch watch = {.wake_fd = params->signals_fd, .wake = session_wake, .arg = &wake};
    int status = EXIT_BANGER;
    json_t *request;
    struct err err;

    if (cli_connect(cli, false, &c, &err) < 0) {
        (void)out_error(cli, NULL, NULL, &err);
        return EXIT_BANGER;
    }
    request = json_object();
    json_put_str(request, "vm", params->vm);
    json_put_str(request, "session", params->session);
    if (client_call_watched(c, "session.attach", request, &watch, &session, &err) < 0) {
        if (wake.signal) {
            return 128 + wake.signal;
        }
        (void)out_error(cli, c, NULL, &err);
        return EXIT_BANGER;
    }
    fd = client_take_over(c, &rest);
    if (attach_run(&(struct attach_params){.fd = fd,
                                           .rest = &rest,
                                           .signals_fd = params->signals_fd,
                                           .stdin_open = params->stdin_open},
                   &status, &err) < 0) {
        (void)out_error(cli, NULL, NULL, &err);
    }
    return status;
}
