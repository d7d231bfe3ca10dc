/* Between the files of client/. */
#pragma once

#include "base/paths.h"

/* Connects to a listening daemon and checks whose it is. The fd, or -1 with ERR_NOT_RUNNING when
 * none listens. */
int client_open(const struct paths *paths, pid_t *ret_pid, struct err *err);

/* Starts the daemon, unless another process does so first, waits until it listens and connects. */
int client_start_daemon(const struct paths *paths, pid_t *ret_pid, struct err *err);

/* The environment of a daemon of these paths: ours, with their socket. Free it with the other. */
char **client_daemon_environment(const struct paths *paths);
void client_environment_free(char **env);
