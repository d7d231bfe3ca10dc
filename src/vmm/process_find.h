/*
 * The VMMs on this host, whoever started them: for who looks for processes that no row names.
 * Stateless; any thread; 0 or -errno.
 */
#pragma once

#include "vmm/vmm.h"

/* Calls fn for each process that is a VMM of a run directory below run_dirs: its program is one of
 * a back end, and run_dirs/NAME is on its command line. Zombies are none. 0 or -errno: not all
 * could be looked at. */
typedef void (*process_found_fn)(void *arg, const struct vmm_process *process,
                                 const struct vmm_ops *ops, const char *name);
int process_find_all(const char *run_dirs, process_found_fn fn, void *arg);
