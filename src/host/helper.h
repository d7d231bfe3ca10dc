/*
 * The helper: keeps root, and does what a daemon without rights asks of it (wire.h), one thing at a
 * time. It trusts nothing that comes: what breaks the protocol, or asks for what check.c does not
 * allow, ends it. It ends with the daemon, too; VMMs go on.
 */
#pragma once

#include "host/host.h"

struct helper_params {
    struct host *host;         /* who does it */
    const char *runtime_dir;   /* of the daemon: run directories are in its vms/ */
    struct host_status status; /* what it says about itself */
    int fd;                    /* the daemon's end is elsewhere; SOCK_SEQPACKET */
};

/* Serves until the daemon closes its end: 0. A request that must not be is -1 with what it was, and
 * so is whatever keeps it from serving. One thread; SIGPIPE must be ignored, and all children
 * be its own VMMs. SIGCHLD is blocked from then on. */
int helper_serve(const struct helper_params *params, struct err *err);
