/*
 * The one error object. Low layers (base, codec, sys) return 0, a count, or -errno; owners fill a
 * `struct err`. It is set if and only if the function returned a negative number.
 * Messages: lower case, no full stop, the subject in quotes, then why. The hint says what to do.
 * Threads: a struct err belongs to one thread. No allocation, so an error path cannot fail.
 */
#pragma once

#include "base/attr.h"

#include <stdarg.h>

/* The codes of docs/PROTOCOL.md; err.c holds their names and JSON-RPC numbers in one table. */
enum err_code {
    ERR_NONE = 0,
    ERR_INVALID,
    ERR_NOT_FOUND,
    ERR_ALREADY_EXISTS,
    ERR_CONFLICT,
    ERR_NOT_RUNNING,
    ERR_BUSY,
    ERR_UNSUPPORTED,
    ERR_LIMIT,
    ERR_TIMEOUT,
    ERR_CANCELLED,
    ERR_NO_SPACE,
    ERR_GUEST,
    ERR_VMM,
    ERR_REGISTRY,
    ERR_AUTH,
    ERR_DENIED,
    ERR_IO,
    ERR_INTERNAL,
    ERR_CODE_COUNT,
};

struct err {
    enum err_code code;
    int errnum;         /* errno behind it, 0 if none */
    char message[2048]; /* what and why; cut at a UTF-8 boundary when longer */
    char hint[512];     /* what to do, or "" */
};

/* Sets *err and returns -1, so that an error is set and returned in one statement. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) _printf_(3, 4);

/* As err_set, with ": <strerror(errnum)>" appended; errnum is positive or negative. ENOSPC and
 * EDQUOT turn ERR_IO into ERR_NO_SPACE, ECANCELED into ERR_CANCELLED, ETIMEDOUT into ERR_TIMEOUT.
 */
int err_set_errno(struct err *err, enum err_code code, int errnum, const char *fmt, ...)
    _printf_(4, 5);

/* Sets the hint of an error that is set; returns -1. */
int err_hint(struct err *err, const char *fmt, ...) _printf_(2, 3);

/* Puts "<outer>: " before the message of an error that is set; returns -1. */
int err_wrap(struct err *err, const char *fmt, ...) _printf_(2, 3);

/* Appends to the message (a joined second error, a console tail); returns -1. */
int err_append(struct err *err, const char *fmt, ...) _printf_(2, 3);

/* Wire name ("not_found") and JSON-RPC number (-32001) of a code; code of a wire name, or
 * ERR_INTERNAL for one that is unknown (a newer peer). */
const char *err_code_name(enum err_code code);
int err_code_number(enum err_code code);
enum err_code err_code_from_name(const char *name);
