/*
 * Our stdin, stdout and stderr as those of a session in a guest: frames of session.attach on one
 * side, plain descriptors on the other. Never changes the descriptors' flags, which they share with
 * other processes.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

struct attach_params {
    int fd;           /* of client_take_over, borrowed */
    struct buf *rest; /* of client_take_over, consumed */
    int signals_fd;   /* of signals_open */
    bool stdin_open;  /* forward our stdin */
};

/* Carries bytes until the session has ended and all its output is written. *ret_status is the
 * exit status of the command. -1 when that could not be found out, or the output not be written. */
int attach_run(const struct attach_params *params, int *ret_status, struct err *err);

/* Adds what to do to the error of a command that could not be started with this status; returns
 * -1. */
int attach_hint_failed(struct err *err, int status);
