/*
 * A file that is written whole before it has its name. Where the filesystem can (O_TMPFILE) it has
 * no name at all until then, so that a writer that is killed leaves nothing; elsewhere, and for the
 * moment in which it takes the place of a file that is there, it is NAME.<12 hex digits>.tmp. Its
 * writer holds a lock on it (flock, which children share), so temp_file_sweep can tell what a dead
 * one has left from what another daemon is writing.
 * All return 0 or -errno. Threads: an object belongs to one thread.
 */
#pragma once

#include "base/attr.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct temp_file {
    int dir_fd;              /* borrowed */
    int fd;                  /* read-write */
    char name[NAME_MAX + 1]; /* "" while it has none */
};

/* Makes the empty file that is to become dir_fd/name. -ENAMETOOLONG for a name that leaves no room
 * for what a temporary one adds. */
int temp_file_open(struct temp_file *t, int dir_fd, const char *name, mode_t mode);

/* Gives it its name, in the place of the file that has it. The caller syncs file and directory. */
int temp_file_publish(struct temp_file *t, const char *name);

/* Closes it, and removes what was not published. Accepts {.fd = -1}. */
void temp_file_done(struct temp_file *t);
#define _cleanup_temp_file_ _cleanup_(temp_file_done)

/* Removes the temporary files in dir_fd whose writers are dead. Returns how many. */
int temp_file_sweep(int dir_fd);
