/*
 * Our stdin, stdout and stderr as those of a session in a guest: frames of session.attach on one
 * side, plain descriptors on the other. Never changes the descriptors' flags, which they share with
 * other processes.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

/* The connection ended before the session: connects to the next daemon and attaches there. 0, the
 * number of a signal that ended the attempt, or -1 with an error. */
typedef int (*attach_reconnect_fn)(void *arg, int *ret_fd, struct buf *ret_rest, struct err *err);

struct attach_params {
    int fd;           /* of client_take_over, borrowed */
    struct buf *rest; /* of client_take_over, consumed */
    int signals_fd;   /* of signals_open */
    bool stdin_open;  /* forward our stdin */
    attach_reconnect_fn reconnect;
    void *reconnect_arg;
};

/* Carries bytes until the session has ended and all its output is written. A daemon that ends
 * meanwhile is followed by the next one, to which both sides say where they are: no byte is lost or
 * comes twice. *ret_status is the
 * exit status of the command. -1 when that could not be found out, or the output not be written. */
int attach_run(const struct attach_params *params, int *ret_status, struct err *err);

/* Adds what to do to the error of a command that could not be started with this status; returns
 * -1. */
int attach_hint_failed(struct err *err, int status);
