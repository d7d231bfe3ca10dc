/* A directory for a daemon, and what it is opened with: VMs are fake, other programs are not there.
 */
#pragma once

#include "daemon/daemon.h"
#include "host/host.h"
#include "scratch.h"

struct world {
    struct scratch dir;
    struct paths paths;
    struct config config;
    struct host *host;
    char fakevmm[4096];
    struct daemon_params params;
};

void world_new(struct world *w);
void world_done(struct world *w);

/* The path of a file in it. Free it. */
char *world_path(const struct world *w, const char *name);

/* Of a directory, with "." and "..". */
unsigned count_entries(const char *path);
