/*
 * The composition root: owns the infrastructure (layout, configuration, store, loops, lock), builds
 * the owners, hands each its collaborators, and tears them down in reverse. Its whole surface is
 * below; all else is reached through the RPC method table.
 */
#pragma once

#include "base/err.h"
#include "base/paths.h"
#include "codec/config.h"
#include "image/image.h"
#include "rpc/server.h"
#include "vm/vm.h"
#include "vmm/vmm.h"

struct daemon;

/* What may be stood in for: what is NULL is ours. The VMM and the host are below. */
struct daemon_seams {
    struct vm_seams vm;                 /* its clock and spawner are the images' as well */
    image_build_fn build_image;         /* image_build_root */
    const struct rpc_handler *handlers; /* daemon_handlers; ctx is the daemon */
};

struct daemon_params {
    const struct paths *paths; /* borrowed for its life */
    json_t *path_settings;     /* where they are from (path_settings_json); it takes a reference */
    const struct config *config; /* borrowed for its life */
    const struct vmm_ops *vmm;
    struct host *host; /* borrowed for its life */
    int listen_fd;     /* a passed socket, taken; its file belongs to who passed it. -1: make one */
    const char *fakevmm_path;             /* borrowed for its life; NULL = fake VMs are refused */
    const char *agent_path, *mkroot_path; /* helper programs, absolute; copied */
    const char *helper_path, *launcher_path; /* the same, for checks; borrowed for its life */
    bool has_root;                           /* VMMs are started by root */
    struct daemon_seams seams;
};

/* Opens everything, adopts running VMs, and listens. A failed open closes exactly what it opened.
 * ERR_BUSY "already running (pid N)" when another daemon has the state directory. */
int daemon_open(const struct daemon_params *params, struct daemon **ret_daemon, struct err *err);

/* Serves until daemon.stop, SIGTERM or SIGINT, which must be blocked in all threads. */
int daemon_serve(struct daemon *d, struct err *err);

/* Stops serving, cancels operations, lets go of the VMs. Accepts NULL and a half-open daemon. */
void daemon_close(struct daemon *d);

/* The checks of a daemon that would be opened with these, host aside: an array of Finding objects.
 * Makes and changes nothing. config_err: why params->config has only the defaults, or NULL. New. */
json_t *daemon_doctor(const struct daemon_params *params, const struct err *config_err);
