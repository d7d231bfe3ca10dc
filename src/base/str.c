#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void *x_calloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);

    if (!p) {
        abort();
    }
    return p;
}

char *x_strndup(const char *s, size_t len)
{
    char *copy = strndup(s, len);

    if (!copy) {
        abort();
    }
    return copy;
}

char *x_strdup(const char *s)
{
    return s ? x_strndup(s, strlen(s)) : NULL;
}

char *x_asprintf(const char *fmt, ...)
{
    va_list ap;
    char *s;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&s, fmt, ap);
    va_end(ap);
    if (n < 0) {
        abort();
    }
    return s;
}

bool str_starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

int str_to_u64(const char *s, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;

    if (!s || !*s) {
        return -EINVAL;
    }
    for (; *s; s++) {
        if (*s < '0' || *s > '9') {
            return -EINVAL;
        }
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s - '0', &v) ||
            v > max) {
            return -ERANGE;
        }
    }
    *ret = v;
    return 0;
}

int str_to_size(const char *s, uint64_t *ret_bytes)
{
    static const char units[] = "KMGT";
    size_t digits = s ? strspn(s, "0123456789") : 0;
    char number[24];
    const char *unit, *at;
    uint64_t v;
    int shift = 0, r;

    if (digits == 0) {
        return -EINVAL;
    }
    if (digits >= sizeof(number)) {
        return -ERANGE;
    }
    memcpy(number, s, digits);
    number[digits] = '\0';
    r = str_to_u64(number, UINT64_MAX, &v);
    if (r < 0) {
        return r;
    }
    unit = s + digits;
    if (*unit && (at = strchr(units, toupper((unsigned char)*unit)))) {
        shift = 10 * (int)(at - units + 1);
        unit++;
        if (*unit == 'i' && unit[1] == 'B') {
            unit++;
        }
    }
    if (*unit == 'B' || *unit == 'b') {
        unit++;
    }
    if (*unit) {
        return -EINVAL;
    }
    if (shift > 0 && v >> (64 - shift)) {
        return -ERANGE;
    }
    *ret_bytes = v << shift;
    return 0;
}

bool str_is_dns_label(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-");

    return n >= 1 && n <= 63 && s[n] == '\0' && s[0] != '-' && s[n - 1] != '-';
}

bool str_is_choice(const char *choices, const char *value)
{
    size_t len = strlen(value);
    const char *p = choices;

    while (len > 0 && p) {
        size_t choice = strcspn(p, "|");

        if (choice == len && strncmp(p, value, len) == 0) {
            return true;
        }
        p = p[choice] ? p + choice + 1 : NULL;
    }
    return false;
}

/* Length of the valid UTF-8 sequence at s, or 0. RFC 3629. */
static size_t utf8_sequence(const unsigned char *s, size_t len)
{
    unsigned char c = s[0];
    unsigned char low = 0x80, high = 0xBF;
    size_t n;

    if (c < 0x80) {
        return c ? 1 : 0;
    }
    if (c < 0xC2 || c > 0xF4) {
        return 0;
    }
    n = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (n > len) {
        return 0;
    }
    low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : low;
    high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : high;
    for (size_t i = 1; i < n; i++) {
        if (s[i] < low || s[i] > high) {
            return 0;
        }
        low = 0x80;
        high = 0xBF;
    }
    return n;
}

bool str_is_utf8(const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s;

    while (len > 0) {
        size_t n = utf8_sequence(p, len);

        if (n == 0) {
            return false;
        }
        p += n;
        len -= n;
    }
    return true;
}

/* A character that moves the cursor, changes the terminal or the order of what is shown: C0, DEL
 * and C1, line and paragraph separators, the bidirectional controls of UAX #9, the byte order mark,
 * annotations and tags. Joiners stay: scripts and emoji need them. */
static bool is_control(const unsigned char *s, size_t n)
{
    uint32_t c = n == 1   ? s[0]
                 : n == 2 ? (s[0] & 0x1FU) << 6 | (s[1] & 0x3FU)
                 : n == 3 ? (s[0] & 0x0FU) << 12 | (s[1] & 0x3FU) << 6 | (s[2] & 0x3FU)
                          : (s[0] & 0x07U) << 18 | (s[1] & 0x3FU) << 12 | (s[2] & 0x3FU) << 6 |
                                (s[3] & 0x3FU);

    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x061C || c == 0x200E || c == 0x200F ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF ||
           (c >= 0xFFF9 && c <= 0xFFFB) || (c >= 0xE0000 && c <= 0xE007F);
}

/* Most text is. */
static bool is_printable_ascii(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (s[i] < ' ' || s[i] > '~') {
            return false;
        }
    }
    return true;
}

char *str_escape(const char *s, size_t len, size_t max)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t left = len < max ? len : max;
    bool plain = is_printable_ascii(s, left);
    char *out = x_calloc(plain ? left + 1 : left * 4 + 4, 1);
    char *o = out;

    if (plain) {
        /* It need not end with NUL, and nothing at all may be NULL. */
        return left > 0 ? memcpy(out, s, left) : out;
    }
    while (left > 0) {
        size_t n = utf8_sequence(p, len);

        if (n > left) {
            break;
        }
        if (n == 0 || is_control(p, n)) {
            n = n ? n : 1;
            for (size_t i = 0; i < n; i++) {
                o += *p == '\n'   ? snprintf(o, 5, "\\n")
                     : *p == '\t' ? snprintf(o, 5, "\\t")
                                  : snprintf(o, 5, "\\x%02x", p[i]);
            }
        } else {
            memcpy(o, p, n);
            o += n;
        }
        p += n;
        left -= n;
        len -= n;
    }
    *o = '\0';
    return out;
}

#define WORD_MAX 31

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Edits between two words of up to WORD_MAX bytes: insert, delete, replace, swap neighbours
 * ("optimal string alignment"). */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned rows[3][WORD_MAX + 1];
    size_t la = strlen(a), lb = strlen(b);

    if (la > WORD_MAX || lb > WORD_MAX) {
        return UINT_MAX;
    }
    for (unsigned j = 0; j <= lb; j++) {
        rows[0][j] = j;
    }
    for (unsigned i = 1; i <= la; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];

        row[0] = i;
        for (unsigned j = 1; j <= lb; j++) {
            row[j] = least(above[j - 1] + (a[i - 1] != b[j - 1]), least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = least(row[j], above2[j - 2] + 1);
            }
        }
    }
    return rows[la % 3][lb];
}

const char *str_nearest(const char *word, const char *const *candidates, size_t count)
{
    size_t len = strlen(word);
    unsigned best = len <= 3 ? 2 : 3;
    const char *found = NULL;

    for (size_t i = 0; i < count; i++) {
        unsigned d = edit_distance(word, candidates[i]);

        if (d < best) {
            best = d;
            found = candidates[i];
        }
    }
    for (size_t i = 0; !found && len > 1 && i < count; i++) {
        found = str_starts_with(candidates[i], word) ? candidates[i] : NULL;
    }
    return found;
}

const char *str_bytes(uint64_t bytes, char ret_text[STR_BYTES_SIZE])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(ret_text, STR_BYTES_SIZE, "%.*f %s", unit > 0, value, units[unit]);
    return ret_text;
}
