/*
 * The first thing that a daemon with root does: it starts the helper, which keeps root, and goes on
 * as its owner, with no capability and no way to any.
 */
#pragma once

#include "base/paths.h"
#include "codec/config.h"
#include "host/host.h"

/* With root: starts `helper` (a path), becomes the owner, and hands out a host that asks it. Before
 * any thread. Whose the uids of VMs are is root's to say: a configuration that others can write is
 * not read here. */
int split_from_helper(const struct paths *paths, const char *helper, struct host **ret_host,
                      struct err *err);

/* Without root: gains nothing any more. */
int split_not(struct err *err);

/* Whether the uids of VMs are those of the configuration. ERR_INVALID, ERR_DENIED. */
int split_check_uids(struct host *host, const struct config *config, struct err *err);
