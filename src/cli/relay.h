/*
 * Carries bytes between a connection that somebody made here and a service in a VM, through the
 * agent (session.connect). Each direction ends by itself. Threads: one for each connection; cli is
 * only read, and must have connected before.
 */
#pragma once

#include "cli/cli.h"
#include "cli/forward_spec.h"

/* fd: a connected stream socket, non-blocking; taken. When the service cannot be reached, or the
 * connection to it breaks, the cause is printed and whoever is connected here sees a reset. */
void relay_run(struct cli *cli, const char *vm, const struct forward_target *target, int fd);
