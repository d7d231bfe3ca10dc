/*
 * Trees of files to tar streams and back, for `banger cp`: the CLI runs it on the host's files, the
 * agent on the guest's. libc only. Blocking; each call has a thread or a process of its own.
 *
 * What goes over: regular files with their holes, directories, symlinks, hard links among what is
 * copied, FIFOs and devices; mode, modification time to the nanosecond, extended attributes.
 * Owners, set-id bits and attributes beyond user.* only with `keep_ids`: a set-id bit means its
 * owner's rights, and so does not travel without him.
 *
 * The stream comes from somebody else. Whatever is written lies below the destination: names with
 * "..", absolute names and ways through symlinks are refused. A file appears under its name
 * when it is complete, by rename; what was there before stays until then.
 *
 * A failure of one file is reported, and the rest goes on. Threads: any, no shared state.
 */
#pragma once

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>

#define ARCHIVE_DEPTH_MAX 512 /* directories below each other that are packed */

/* Tells about one failure: path (raw bytes), why, and what to do about it ("": nothing). */
typedef void (*archive_report_fn)(void *arg, const char *path, const char *why, const char *hint);

struct archive_pack {
    int out_fd;               /* borrowed, blocking */
    const char *const *paths; /* relative ones are from the working directory */
    size_t path_count;
    bool recursive; /* else only regular files, and symlinks to them are followed */
    bool keep_ids;
    archive_report_fn report;
    void *arg;
};

/* Each path gets the name archive_name gives it. 0; 1 when something was reported and left out;
 * -errno when the stream could not be written to its end. */
int archive_pack(const struct archive_pack *params) _must_check_;

struct archive_unpack {
    int in_fd;        /* borrowed, blocking */
    const char *path; /* where to; relative to the working directory */
    /* What may come, by first component. None: anything, and `path` must be a directory. With one
     * name `path` may be the new name of it. */
    const char *const *names;
    size_t name_count;
    bool directory; /* path must be a directory */
    bool recursive; /* else only regular files at the top are taken */
    bool keep_ids;  /* owners, where we may; and device nodes */
    archive_report_fn report;
    void *arg;
};

/* Reads to the end mark. 0; 1 when something was reported and is missing. */
int archive_unpack(const struct archive_unpack *params) _must_check_;

/* The last component of a path: "c" of "/a/b/c//". "." when that is no name ("", "/", "a/.", ".."):
 * then what is below the path is meant. The caller frees. */
char *archive_name(const char *path);
