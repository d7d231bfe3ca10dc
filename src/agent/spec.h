/*
 * What an EXEC asks for, out of its TLVs; and why a session could not start.
 * Bounds: FRAME_SPEC_MAX bytes, FRAME_ARGS_MAX arguments and variables. Threads: one.
 */
#pragma once

#include "agent/user.h"
#include "base/attr.h"
#include "codec/frame.h"

#include <stdbool.h>

#define FAILURE_TEXT_MAX 512

/* Exit statuses of commands that did not start. */
enum {
    FAILURE_AGENT = 125, /* what surrounds the command: its directory, its user, a limit */
    FAILURE_NOT_EXECUTABLE = 126,
    FAILURE_NOT_FOUND = 127,
};

struct failure {
    uint32_t status;
    uint32_t error; /* errno */
    char text[FAILURE_TEXT_MAX];
};

/* Fills *f, with ": <strerror(error)>" appended to the text, and returns -error. */
int failure_set(struct failure *f, uint32_t status, int error, const char *fmt, ...) _printf_(4, 5);

#define SPEC_DEFAULTS 6 /* variables that spec_set_defaults may add */

/* What this program is called with for FRAME_TAG_FILES: then what to do, flags, paths (files.h). */
#define SPEC_FILES_ARG "--files"
#define SPEC_FILES_ARGS 4

struct spec {
    bool files;  /* run this program itself: argv begins with its name and SPEC_FILES_ARG */
    char **argv; /* NULL-terminated, like envp; the pointed-to bytes live in memory. Empty: the
                  * user's login shell */
    char **envp;
    size_t envc;
    const char *cwd;  /* or NULL */
    const char *user; /* or NULL */
    bool stdin_pipe;
    bool tty;
    uint16_t rows;
    uint16_t columns;
    const uint8_t *record; /* the host's, in the body that was parsed; or NULL */
    size_t record_len;
    char *memory;
    char *defaults[SPEC_DEFAULTS];
    char flags[4]; /* of SPEC_FILES_ARG, as text */
};

/* 0, or negative with *ret_failure set. On success the caller calls spec_done. */
int spec_parse(struct spec *spec, const uint8_t *body, size_t len,
               struct failure *ret_failure) _must_check_;
void spec_done(struct spec *spec);

/* Adds PATH, HOME, USER, LOGNAME, SHELL and, on a terminal, TERM, where they are not given. */
void spec_set_defaults(struct spec *spec, const struct user *user);

/* The value of a variable, or NULL. */
const char *spec_getenv(const struct spec *spec, const char *name);
