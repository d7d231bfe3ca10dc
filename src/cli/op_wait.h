/* Waiting for an operation with progress on stderr; interrupting it cancels the operation. */
#pragma once

#include "cli/cli.h"

struct op_wait {
    int signals_fd;       /* of signals_open */
    long long timeout_ms; /* cancel the operation after this time; 0 = never */
    int signal;           /* out: the signal that interrupted it, or 0 */
    char op[64];          /* out: the operation's id */
};

/* Waits until the operation (as *.begin returned it) has ended. A signal or the timeout asks the
 * daemon to cancel it and waits on; a second signal does not wait. The caller owns *ret_result, the
 * operation's result. Its own error, or ERR_CANCELLED, ERR_TIMEOUT. */
int op_wait(struct cli *cli, struct client *c, const json_t *op, struct op_wait *w,
            json_t **ret_result, struct err *err);

/* Calls a *.begin method and waits for its operation, on a connection of its own. Prints errors:
 * the result, owned by the caller, or NULL with the exit status. */
json_t *op_run(struct cli *cli, const char *method, json_t *params, int *ret_status);
