/* What run and exec share: a session's spec from the flags, and our streams as the session's. */
#pragma once

#include "cli/cli.h"

/* What of ours is the session's. */
struct session_streams {
    bool stdin_open; /* our stdin is forwarded */
    bool tty;        /* the command is on a terminal */
    bool raw;        /* and ours, which is our stdin, becomes that one */
};

/* Params of session.start from flags and command: command, env, cwd, user, stdin, tty. Without a
 * command, on a terminal, it is the login shell's. NULL with ERR_INVALID. */
json_t *session_spec(const struct cli *cli, const struct cli_args *args,
                     struct session_streams *ret_streams, struct err *err);

struct session_attach {
    const char *vm;
    const char *session;
    int signals_fd;
    struct session_streams streams;
    struct client **holder; /* the connection that holds the session; after a daemon's end, the one
                             * to the next daemon */
};

/* Attaches on a connection of its own, carries bytes until the end, prints errors. When the daemon
 * ends meanwhile, goes on with the next one, which is started. The exit status.
 * *ret_left tells that we ended before the command: the holder is to be closed now. */
int session_attach(struct cli *cli, const struct session_attach *params, bool *ret_left);

/* After an ERR_IO: connects to the daemon that runs now, or starts one once the one that *holder
 * was connected to has ended, and has *holder be that connection. */
int session_next_daemon(struct cli *cli, struct client **holder, int64_t deadline_ms,
                        struct err *err);

/* For waits that any signal ends: client_watch.wake; arg points to struct session_wake. */
struct session_wake {
    int signals_fd;
    int signal; /* which came, or 0 */
};
int session_wake(void *arg);
