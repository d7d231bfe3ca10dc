/* The archive of `banger debug-bundle`, in memory until it is whole: named texts, and what could
 * not be had. Bounded: what does not fit any more is told as missing. One thread. */
#pragma once

#include "base/buf.h"
#include "cli/redact.h"

struct bundle {
    struct buf tar;
    struct redact *redact;
    json_t *files;   /* {name, bytes} */
    json_t *missing; /* {name, why} */
};

void bundle_init(struct bundle *b);
void bundle_done(struct bundle *b);

/* Adds a file, without the secrets in it. */
void bundle_text(struct bundle *b, const char *name, const char *text, size_t len);
void bundle_json(struct bundle *b, const char *name, const json_t *value);
/* Notes that there is none, and why. */
void bundle_missing(struct bundle *b, const char *name, const char *why);
/* Adds the end of a file, whole lines of at most `most` bytes; one that is not there is passed
 * over. */
void bundle_tail(struct bundle *b, const char *name, int dir_fd, const char *path, size_t most);
/* Adds the list of what is missing, and the archive's end. */
void bundle_end(struct bundle *b);
