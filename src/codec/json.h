/*
 * JSON through jansson, the strict way. Values are jansson's; ownership follows jansson's names:
 * json_X_new steals, everything else borrows. Depth and size are bounded before parsing.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define JSON_DEPTH_MAX 32

DEFINE_CLEANUP(json_t *, json_decref);
#define _cleanup_json_ _cleanup_(json_decref_p)

/* Parses one whole value. Duplicate keys, trailing text, NUL and depth over JSON_DEPTH_MAX are
 * errors (ERR_INVALID, with the position). The caller owns *ret. */
int json_parse(const char *text, size_t len, json_t **ret, struct err *err);

/* Compact, keys in insertion order. Free it. */
char *json_print(const json_t *value);

/* Any bytes as a JSON value: a string where they are UTF-8 without NUL, else {"base64": "..."}. */
json_t *json_bytes_new(const void *data, size_t len);
/* The reverse. *ret is NUL-terminated beyond *ret_len; free it. 0 or -EINVAL. */
int json_bytes_get(const json_t *value, char **ret, size_t *ret_len);

/* Members of an object, or the fallback when absent or of another type. Borrowed. */
const char *json_str(const json_t *object, const char *key, const char *fallback);
long long json_int(const json_t *object, const char *key, long long fallback);
bool json_flag(const json_t *object, const char *key, bool fallback);

/* Sets a member, stealing value; aborts on lack of memory. */
void json_put(json_t *object, const char *key, json_t *value);
void json_put_str(json_t *object, const char *key, const char *value_or_null);
void json_put_int(json_t *object, const char *key, long long value);
void json_put_bool(json_t *object, const char *key, bool value);
