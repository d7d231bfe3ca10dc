/*
 * Who started the daemon, when that is systemd, or what speaks like it: the listening socket comes
 * from there (sd_listen_fds(3)), and what the daemon is about is told (sd_notify(3)). Nothing here
 * does anything for a daemon that was started otherwise.
 * Threads: main, before there are others, but for the telling.
 */
#pragma once

#include "base/err.h"

/* The socket that was passed, listening on `path`, or -1 when none was. ERR_INVALID: what was
 * passed is not that one socket. Takes the variables out of the environment. */
int supervisor_take_socket(const char *path, int *ret_fd, struct err *err);

/* Clients are served. */
void supervisor_ready(const char *version);
/* It ends; why: a word for the status. */
void supervisor_stopping(const char *why);
/* It could not start, or not go on. */
void supervisor_failed(const char *message);
