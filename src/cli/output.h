/* What commands print: errors, one object, listings; escaped where guests had a say. */
#pragma once

#include "cli/cli.h"

/* `banger: <what>: <why>` and the hint on stderr; what may be NULL. c (or NULL) names the operation
 * with --debug. Returns EXIT_FAILED. */
int out_error(const struct cli *cli, const struct client *c, const char *what,
              const struct err *err);

/* An error of usage, with a hint at the verb's help when it has none. Returns EXIT_USAGE. */
int out_usage(const struct cli *cli, const char *verb, struct err *err);

enum out_column_flags {
    OUT_RIGHT = 1 << 0, /* aligned to the right */
    OUT_WHOLE = 1 << 1, /* never cut for a narrow terminal; cell_id and cell_name never are */
};

struct out_column {
    const char *title;
    char *(*cell)(const json_t *row); /* allocated; escaped by out_list; NULL = empty */
    unsigned flags;                   /* of enum out_column_flags */
};

/* A listing in the format that was asked for; with -q only ids. Returns 0. */
int out_list(const struct cli *cli, const json_t *rows, const struct out_column *columns,
             size_t count);

/* A listing whose rows come a few at a time, as a table. */
struct out_rows;
struct out_rows *out_rows_new(const struct out_column *columns, size_t count);
void out_rows_add(struct out_rows *rows, const json_t *array);
void out_rows_print(const struct cli *cli, struct out_rows *rows);
void out_rows_free(struct out_rows *rows); /* accepts NULL */
DEFINE_CLEANUP(struct out_rows *, out_rows_free);

/* One object: its members below each other, or JSON. Returns 0. */
int out_object(const struct cli *cli, const json_t *object);

/* One value as JSON in the format's shape. */
void out_json(const struct cli *cli, const json_t *value);

/* Guest bytes that come in pieces: as they are, or escaped but for the ends of lines. */
struct out_text {
    bool escape;  /* stdout is a terminal */
    bool midline; /* the last line has no end so far */
    char held[4]; /* the beginning of what the next piece decides */
    size_t held_len;
};
void out_text(struct out_text *t, const char *text, size_t len);
/* What was held, and the end of the last line. */
void out_text_end(struct out_text *t);
/* All of it at once, escaped when stdout is a terminal. */
void out_guest_text(const struct cli *cli, const char *text, size_t len);

/* "1.5G", "512M"; "3 min ago" of an RFC 3339 time. Allocated. */
char *out_size(long long bytes);
char *out_age(const char *rfc3339, int64_t now_ms);

/* Cells that several listings have. */
char *cell_id(const json_t *row);   /* id or digest, short */
char *cell_name(const json_t *row); /* name, or names joined */
char *cell_state(const json_t *row);
char *cell_created(const json_t *row);
/* An array of bytes, as words. */
char *out_words(const json_t *array);
