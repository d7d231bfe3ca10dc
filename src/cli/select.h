/*
 * Which rows of a listing are shown, and in which order: the flags --filter KEY=PATTERN,
 * --filter KEY!=PATTERN and --sort KEY. A key is a member of what is listed, or one within it:
 * "state", "image.name", "labels.team"; so all that JSON shows can be asked for. One thread.
 */
#pragma once

#include "cli/cli.h"
#include "codec/api.h"

struct select_filter {
    char *key;
    const char *pattern; /* of fnmatch(3); argv's */
    bool negated;
};

struct select {
    struct select_filter *filters;
    size_t filter_count;
    const char *sort; /* or NULL: as they come */
    bool reverse;
};

/* Reads the flags that were given, and checks the keys against the objects that the method lists.
 * ERR_INVALID. */
int select_parse(const struct cli_args *args, const char *method, struct select *ret,
                 struct err *err);
void select_done(struct select *s);
#define _cleanup_select_ _cleanup_(select_done)

bool select_is_all(const struct select *s);
/* Whether a filter looks at this key. */
bool select_filters(const struct select *s, const char *key);

/* Names of members, separated by '|': those given and what the flags look at. Allocated. */
char *select_members(const struct select *s, const char *shown);

/* A new array of the rows that are shown. Filters of one key are alternatives, but for negated
 * ones; else all of them must hold. */
json_t *select_rows(const struct select *s, const json_t *rows);
