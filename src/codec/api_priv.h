/* Between api_check.c, which holds values to the table, and api_write.c, which does so while it
 * writes. `word` is what an error calls a value: "parameter" or "member". All fail with
 * ERR_INVALID. */
#pragma once

#include "codec/api.h"

/* The row of that name, or NULL. */
const struct api_param *api_member_find(const struct api_param *specs, const char *name);

/* What an entry of API_MEMBERS names: a member of o ("image"; *ret_inner NULL), or a member of one
 * that is an object ("image.name"). False: there is none such. */
bool api_members_find(const struct api_object *o, const char *entry,
                      const struct api_param **ret_member, const struct api_param **ret_inner);

/* What breaks our own promise is our fault: makes err ERR_INTERNAL, and says that the `what` of
 * that name breaks the protocol: -1. */
int api_broken(const char *what, const char *name, struct err *err);

/* "must be what", as an error: -1. */
int api_must(const struct api_param *spec, const char *word, struct err *err, const char *what);
/* n against min..max. */
int api_check_length(const struct api_param *spec, const char *word, size_t n, const char *unit,
                     struct err *err);
/* A text of len bytes, NUL-terminated behind them: whether the type has texts, and this one. */
int api_check_text(const struct api_param *spec, const char *word, const char *text, size_t len,
                   struct err *err);
int api_check_int(const struct api_param *spec, const char *word, long long v, struct err *err);
/* Any value. */
int api_check_value(const struct api_param *spec, const char *word, const json_t *value,
                    struct err *err);
