/* Strings from people and guests: allocation that aborts, strict parsing, escaping. */
#pragma once

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

/* Allocate or abort (STYLE 9). x_strdup(NULL) is NULL. */
void *x_calloc(size_t count, size_t size);
char *x_strdup(const char *s);
char *x_strndup(const char *s, size_t len);
char *x_asprintf(const char *fmt, ...) _printf_(1, 2);

static inline bool str_eq(const char *a, const char *b)
{
    return a && b && __builtin_strcmp(a, b) == 0;
}
bool str_starts_with(const char *s, const char *prefix);

/* Whole strings only: no sign, no space, no trailing text. 0, -EINVAL, -ERANGE. */
int str_to_u64(const char *s, uint64_t max, uint64_t *ret);

/* A byte count: digits and an optional unit B, K, M, G, T (also KB, KiB…; powers of 1024).
 * 0, -EINVAL, -ERANGE. */
int str_to_size(const char *s, uint64_t *ret_bytes);

/* A DNS label (RFC 1123, lower case): 1 to 63 of a-z 0-9 -, no - at either end. */
bool str_is_dns_label(const char *s);

/* Whether value is one of the '|'-separated choices. */
bool str_is_choice(const char *choices, const char *value);

/* Valid UTF-8 (no surrogates, no overlong forms, no NUL) of len bytes. */
bool str_is_utf8(const char *s, size_t len);

/* A copy that is safe on a terminal and in a log: control characters, DEL, C1, what changes the
 * direction of text (UAX #9) and invalid UTF-8 become \xNN, newline \n, tab \t. At most max source
 * bytes, whole characters. Free it. */
char *str_escape(const char *s, size_t len, size_t max);

/* The candidate nearest to word by edits (two at most, one for words of up to three bytes), else
 * the first that begins with it, else NULL: none is close enough to suggest. */
const char *str_nearest(const char *word, const char *const *candidates, size_t count);

/* A size for people: "12.3 MiB". Returns ret_text. */
#define STR_BYTES_SIZE 32
const char *str_bytes(uint64_t bytes, char ret_text[STR_BYTES_SIZE]);
