/*
 * Objects of the tables (api.h) as JSON text, written member by member into a buffer and held to
 * the table while that is done: a member that is unknown, written twice, missing or not of its type
 * breaks the writer, which then writes nothing more and says so at the end. So what came to a good
 * end is what api_check_result would let pass, and no tree of it was ever made.
 *
 * One whole is written: the result of a method, an object or a list of objects. Of the objects in a
 * partial list only the members that were asked for are written; the others may be put all the same
 * and are passed over.
 * What does not fit into the buffer is no mistake: see api_write_fits.
 *
 * Threads: the owner's.
 */
#pragma once

#include "base/buf.h"
#include "codec/api.h"

#define API_WRITE_DEPTH 6

/* An object or a list that is open. */
struct api_level {
    const struct api_param *members; /* of an object; NULL: a list */
    const struct api_param *spec;    /* the member that this is; NULL for the whole */
    const struct api_object *object; /* what it is, or what is in it */
    uint64_t seen;                   /* a bit for each of members */
    size_t next;                     /* the member that is expected next */
    size_t count;                    /* how many were written into it */
};

struct api_writer {
    struct buf *out;
    const struct api_method *method;
    const struct api_result *result; /* of the method */
    struct api_level levels[API_WRITE_DEPTH];
    unsigned depth;         /* of levels; 0: the whole is yet to be opened, or closed */
    unsigned passing;       /* levels that are open and not written */
    uint64_t wanted;        /* of the members of objects of a list that is the whole */
    uint64_t wanted_in[64]; /* of the members of each of these that is an object itself */
    size_t fitting;         /* bytes of out up to the last object that is known to fit */
    bool full;
    bool whole;        /* a whole object has been written */
    struct err broken; /* code ERR_NONE: it is not */
};

/* Begins the result of a method. out is borrowed; its maximum is the bound. members: for a method
 * whose result is partial, an array of names of members (API_MEMBERS), of which those and `id` are
 * written; NULL = all. */
void api_write_begin(struct api_writer *w, struct buf *out, const struct api_method *m,
                     const json_t *members);
/* Ends it. ERR_INTERNAL when what was written breaks the table, as from api_check_result; ERR_LIMIT
 * when it does not fit. */
int api_write_end(struct api_writer *w, struct err *err);

/* An object: the whole one, the next one of a list (key NULL), or a member. */
void api_write_open(struct api_writer *w, const char *key);
void api_write_close(struct api_writer *w);
/* A member that is a list of objects. */
void api_write_open_list(struct api_writer *w, const char *key);
void api_write_close_list(struct api_writer *w);

/* Members. Text that is no UTF-8 is escaped first, as by json_put_str; NULL = null. */
void api_write_str(struct api_writer *w, const char *key, const char *text_or_null);
void api_write_int(struct api_writer *w, const char *key, long long value);
void api_write_bool(struct api_writer *w, const char *key, bool value);
void api_write_null(struct api_writer *w, const char *key);
/* Any value of the member's type. Borrowed. */
void api_write_json(struct api_writer *w, const char *key, const json_t *value);

/* Whether such a member is written at all: what is costly to find out need not be found out. */
bool api_write_wants(const struct api_writer *w, const char *key);

/* After an object of a list that is the whole: whether it fits into the buffer. If not it is taken
 * back, and the list may be ended as it was before. */
bool api_write_fits(struct api_writer *w);
