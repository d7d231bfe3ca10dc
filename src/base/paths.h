/*
 * Where one owner's files and socket are: the same answer for the daemon and for every client.
 * Who: with euid 0 and SUDO_UID set, that user; else the euid. Root has system paths, others have
 * paths in their home. Each path can be overridden by a variable (BANGER_CONFIG, BANGER_STATE_DIR,
 * BANGER_CACHE_DIR, BANGER_RUNTIME_DIR, BANGER_SOCKET).
 * paths_resolve asks its struct paths_env alone, so it is a pure function of that.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>

struct paths {
    char *config;
    char *state_dir;
    char *cache_dir;
    char *runtime_dir;
    char *socket;
    uid_t owner_uid;
};

/* The world that paths_resolve sees. Command-line flags that override a path answer in get. */
struct paths_env {
    uid_t euid;
    const char *(*get)(void *arg, const char *name); /* a variable, or NULL */
    char *(*home)(void *arg, uid_t uid);             /* by the user database, allocated, or NULL */
    bool (*is_dir)(void *arg, const char *path, uid_t owner); /* a directory of that owner? */
    void *arg;
};

/* ERR_INVALID for a malformed SUDO_UID or a relative path, ERR_NOT_FOUND without a home. */
int paths_resolve(const struct paths_env *env, struct paths *ret_paths, struct err *err);
/* Becomes the owner for good (uid, gid, groups), when root was asked to act for somebody (sudo):
 * what this process makes and reads from then on is as if he had run it. Before any thread starts.
 * Nothing to do otherwise. */
int paths_become_owner(const struct paths *p, struct err *err);
/* The same, but with a way back, for a command that may have to start a daemon that has root. */
int paths_act_as_owner(const struct paths *p, struct err *err);
/* That way: is root again, if it was, until paths_act_as_owner. Whether it is. */
bool paths_be_root_again(void);
void paths_done(struct paths *p);
#define _cleanup_paths_ _cleanup_(paths_done)

/* This process's world: getenv, the user database, the file system. get may be replaced. */
struct paths_env paths_process_env(void);

/* Makes a directory of the owner's, 0700, with its parents, and opens it. One that exists must be
 * the owner's (or root's), as must be a link to it, and others may not write to it: ERR_DENIED.
 * The fd or -1. */
int paths_open_dir(const struct paths *p, const char *path, struct err *err);
