/*
 * Our stdin, stdout and stderr as those of a session in a guest: frames of session.attach on one
 * side, plain descriptors on the other. Never changes the descriptors' flags, which they share with
 * other processes.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include "cli/terminal.h"

#include <stdbool.h>

/* The connection ended before the session: connects to the next daemon and attaches there. 0, the
 * number of a signal that ended the attempt, or -1 with an error. */
typedef int (*attach_reconnect_fn)(void *arg, int *ret_fd, struct buf *ret_rest, struct err *err);

struct attach_params {
    int fd;                    /* of client_take_over, borrowed */
    struct buf *rest;          /* of client_take_over, consumed */
    int signals_fd;            /* of signals_open */
    bool stdin_open;           /* forward our stdin */
    bool tty;                  /* the session has a terminal: it follows the size of ours */
    struct terminal *terminal; /* in raw mode, when our stdin is that terminal; else NULL */
    attach_reconnect_fn reconnect;
    void *reconnect_arg;
};

struct attach_result {
    int status;  /* the command's exit status, or 128+n when signal n ended us */
    bool left;   /* we ended before the command */
    bool killed; /* and had it killed */
};

/* Carries bytes until the session has ended and all its output is written, and signals as they
 * come: SIGINT or SIGTERM for the second time kills the command, and we leave. A terminal that
 * hangs up hangs the command up, and we leave. A daemon that ends meanwhile is followed by the next
 * one, to which both sides say where they are: no byte is lost or comes twice. -1 when the status
 * could not be found out (it is 125 then, or what a command that did not start has), or the output
 * not be written. */
int attach_run(const struct attach_params *params, struct attach_result *ret, struct err *err);

/* Adds what to do to the error of a command that could not be started with this status; returns
 * -1. */
int attach_hint_failed(struct err *err, int status);
