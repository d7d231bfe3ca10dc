#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "cli/session.h"
#include "cli/signals.h"

static int start_session(struct cli *cli, struct client *c, json_t *params, int signals_fd,
                         json_t **ret_session)
{
    struct session_wake wake = {.signals_fd = signals_fd};
    struct client_watch watch = {.wake_fd = signals_fd, .wake = session_wake, .arg = &wake};
    struct err err;

    if (client_call_watched(c, "session.start", params, &watch, ret_session, &err) == 0) {
        return 0;
    }
    if (wake.signal) {
        return 128 + wake.signal;
    }
    (void)out_error(cli, c, NULL, &err);
    return EXIT_BANGER;
}

int cmd_exec(struct cli *cli, const struct cli_args *args)
{
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *session = NULL;
    _cleanup_json_ json_t *params = NULL;
    _cleanup_close_ int signals_fd = -1;
    struct session_streams streams;
    bool left;
    struct err err;
    int status;

    params = session_spec(cli, args, &streams, &err);
    if (params && args->command_count == 0 && !streams.tty) {
        err_set(&err, ERR_INVALID, "exec: COMMAND is missing");
        err_hint(&err, "banger exec %s -- COMMAND..., or on a terminal for a shell",
                 args->operands[0]);
        return out_usage(cli, "exec", &err);
    }
    if (!params) {
        return out_usage(cli, "exec", &err);
    }
    json_put_str(params, "vm", args->operands[0]);
    json_put_bool(params, "hold", true);
    if (cli_connect(cli, true, &c, &err) < 0) {
        (void)out_error(cli, NULL, NULL, &err);
        return EXIT_BANGER;
    }
    signals_fd = signals_open();
    status = start_session(cli, c, STEAL_PTR(params), signals_fd, &session);
    if (status != 0) {
        return status;
    }
    return session_attach(cli,
                          &(struct session_attach){.vm = args->operands[0],
                                                   .session = json_str(session, "id", ""),
                                                   .signals_fd = signals_fd,
                                                   .streams = streams,
                                                   .holder = &c},
                          &left);
}
