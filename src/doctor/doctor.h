/*
 * Checks of what banger needs of its host, as tables: each part has those that it knows about in a
 * file of its own (`doctor_*.c`) and adds them, with what they look at, to one list. `banger
 * doctor` runs them all; those that gate the start of a VM are its preflight too, so that both say
 * the same.
 * A check only looks. It waits for nothing, runs no program, depends on no other check, and tells
 * no secrets. Threads: adding is one thread's, before the list is used; running is anybody's.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum doctor_status { DOCTOR_PASS, DOCTOR_WARN, DOCTOR_FAIL };
const char *doctor_status_name(enum doctor_status status); /* "pass", "warn", "fail" */

/* What a check found. Texts are cut where they do not fit, at whole characters. */
struct doctor_finding {
    enum doctor_status status;
    enum err_code code;  /* of a start that this prevents; ERR_NONE = ERR_UNSUPPORTED */
    char summary[256];   /* one line: lower case, no full stop */
    char evidence[1024]; /* what was looked at: path and value */
    char fix[512];       /* a command or a setting; "" when there is nothing to do */
};

enum doctor_flags {
    DOCTOR_GATES_START = 1 << 0, /* no VM can start where this fails; takes microseconds */
};

struct doctor_check {
    const char *id; /* a word: a-z 0-9 - */
    const char *title;
    unsigned flags; /* of enum doctor_flags */
    void (*fn)(const void *ctx, struct doctor_finding *ret);
};

struct doctor;

struct doctor *doctor_new(void);
void doctor_free(struct doctor *d); /* accepts NULL */
DEFINE_CLEANUP(struct doctor *, doctor_free);
#define _cleanup_doctor_ _cleanup_(doctor_free_p)

/* Adds a table, which ends with a NULL id. Table and ctx (what its checks are called with) are
 * borrowed for the list's life. */
void doctor_add(struct doctor *d, const struct doctor_check *table, const void *ctx);

/* Checks by index, in the order in which they were added; NULL at the end. */
const struct doctor_check *doctor_at(const struct doctor *d, size_t index);

/* Runs one. */
void doctor_run(const struct doctor *d, size_t index, struct doctor_finding *ret);

/* Runs those with the flag until one fails, which is the error: its summary, with the fix as the
 * hint. */
int doctor_gate(const struct doctor *d, unsigned flag, struct err *err);

/* ---- for checks ---- */

/* Sets status and summary; evidence and fix are set by the two below, or left empty. */
void doctor_pass(struct doctor_finding *f, const char *fmt, ...) _printf_(2, 3);
void doctor_warn(struct doctor_finding *f, const char *fmt, ...) _printf_(2, 3);
void doctor_fail(struct doctor_finding *f, const char *fmt, ...) _printf_(2, 3);
void doctor_evidence(struct doctor_finding *f, const char *fmt, ...) _printf_(2, 3);
void doctor_fix(struct doctor_finding *f, const char *fmt, ...) _printf_(2, 3);
/* A failure with an error's message, code and hint. */
void doctor_fail_err(struct doctor_finding *f, const struct err *err);

/* A small file, as of /proc, without the newline at its end, as text; NULL: it cannot be read, see
 * errno. root is put before the path: "" but in tests. Free it. */
char *doctor_read(const char *root, const char *path);
/* The same as a number; false: there is none. */
bool doctor_read_number(const char *root, const char *path, uint64_t *ret);
/* Whether there is such a file. */
bool doctor_exists(const char *root, const char *path);
/* The version that a program of ours carries (BANGER_VERSION_MARK); NULL: none. Free it. */
char *doctor_program_version(const char *path);
