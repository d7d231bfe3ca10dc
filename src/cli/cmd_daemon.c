#include "base/attr.h"
#include "cli/cli.h"
#include "cli/output.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>

#define STOP_MS 30000

int cmd_daemon_status(struct cli *cli, const struct cli_args *args)
{
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *status = NULL;
    struct err err;

    (void)args;
    if (cli_connect(cli, false, &c, &err) < 0 ||
        client_call(c, "daemon.status", NULL, &status, &err) < 0) {
        return out_error(cli, c, NULL, &err);
    }
    return out_object(cli, status);
}

/* Its answer comes before its end; the next command must not meet a daemon that is ending. */
static int await_end(struct cli *cli, int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    struct err err;
    int r;

    do {
        r = poll(&p, 1, STOP_MS);
    } while (r < 0 && errno == EINTR);
    if (r != 0) {
        return 0;
    }
    err_set(&err, ERR_TIMEOUT, "the daemon is still ending after %d s", STOP_MS / 1000);
    return out_error(cli, NULL, NULL, &err);
}

int cmd_daemon_stop(struct cli *cli, const struct cli_args *args)
{
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *ignored = NULL;
    _cleanup_close_ int pidfd = -1;
    struct err err;

    (void)args;
    if (cli_connect(cli, false, &c, &err) < 0) {
        if (err.code == ERR_NOT_RUNNING) {
            (void)fputs("banger: the daemon is not running\n", stderr);
            return 0;
        }
        return out_error(cli, NULL, NULL, &err);
    }
    pidfd = pidfd_open(client_daemon_pid(c), 0);
    if (client_call(c, "daemon.stop", NULL, &ignored, &err) < 0 && err.code != ERR_IO) {
        return out_error(cli, c, NULL, &err);
    }
    return pidfd >= 0 ? await_end(cli, pidfd) : 0;
}
