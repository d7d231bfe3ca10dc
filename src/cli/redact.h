/*
 * Takes secrets out of what is to be given away: logs, command lines, JSON. It goes by names
 * (token, password, ..., Authorization:), by the form of URLs, keys and well-known tokens, and by
 * the values of variables of this process whose names say that they are secret. What looks like one
 * and is none goes as well. Pure but for that; libc and jansson.
 */
#pragma once

#include "codec/json.h"

#define REDACTED "[redacted]"

struct redact;

/* env: "NAME=VALUE" strings, ends with NULL; borrowed for its life. */
struct redact *redact_new(const char *const *env);
void redact_free(struct redact *r); /* accepts NULL */
DEFINE_CLEANUP(struct redact *, redact_free);

/* Whether a variable, a member or a flag of this name has a secret. */
bool redact_is_secret_name(const char *name, size_t len);

/* A copy of the text without secrets; any bytes but NUL. The caller frees it. */
char *redact_text(const struct redact *r, const char *text, size_t len);

/* The same of a JSON value: values of members with such names, of all variables below "env", and
 * what is in strings. New. */
json_t *redact_json(const struct redact *r, const json_t *value);
