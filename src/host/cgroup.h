/*
 * A directory of cgroup v2 in which each VMM gets a group of its own (made by banger-launch).
 * For host/local.c; one thread at a time.
 */
#pragma once

#include "base/attr.h"

#define CGROUP_WHY_SIZE 200

/* The directory for one daemon's VMMs below root (NULL = where cgroup v2 is mounted), with the
 * controllers memory and pids handed down to it. Free it. NULL, and why in one line, where there
 * are no such controllers or we may not. */
char *cgroup_open(const char *root, const char *daemon_name, char ret_why[CGROUP_WHY_SIZE]);

/* Removes the groups of VMMs that have ended: one with a process in it cannot be removed. */
void cgroup_sweep(const char *dir);

/* As cgroup_sweep, and the directory itself once it is empty. Frees dir; accepts NULL. */
void cgroup_close(char *dir);
