/*
 * The subset of TOML 1.0 (https://toml.io/en/v1.0.0) that config.toml is written in: tables
 * ([name], [name.name]), bare keys, basic and literal strings on one line, decimal integers,
 * booleans, arrays of strings, comments. Everything else is an error with line and column. Pure.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOML_TEXT_MAX (1024 * 1024)
#define TOML_ARRAY_MAX 1024

enum toml_type { TOML_STRING, TOML_INT, TOML_BOOL, TOML_STRINGS, TOML_TABLE };

struct toml_value {
    enum toml_type type;
    const char *string; /* TOML_STRING */
    int64_t integer;
    bool boolean;
    const char **strings; /* TOML_STRINGS; count of them */
    size_t count;
    unsigned line, column; /* of the key or the table's name, from 1 */
    unsigned value_column; /* of the value, on the same line */
};

/* Called for each key in order; name is "table.key" or "key". Also for each [table], with its name
 * and TOML_TABLE. Everything is borrowed for the call. A negative return, with err set, ends the
 * parse. */
typedef int (*toml_fn)(void *arg, const char *name, const struct toml_value *value,
                       struct err *err);

/* ERR_INVALID as "line L column C: why" for what is malformed, a key or table given twice included.
 */
int toml_parse(const char *text, size_t len, toml_fn fn, void *arg, struct err *err);
