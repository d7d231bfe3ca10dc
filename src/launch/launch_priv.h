/* Shared by the files of launch/ only. */
#pragma once

#include "launch/launch.h"

/* A user namespace in which we are who we were, with all capabilities in it. 0 or -errno. */
int launch_user_namespace(void);

/* No system call that acts on other processes or raises a limit, from here on. Needs no_new_privs.
 * 0 or -errno. */
int launch_filter(void);

/* The root directory that the options ask for. Needs CAP_SYS_ADMIN. 0 or -errno. */
int launch_own_root(const struct launch_options *o);
