#include "codec/toml.h"

#include "base/buf.h"
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_BYTES 256
#define KEYS_MAX 4096

struct parser {
    const char *p, *end, *line_start;
    unsigned line;
    char table[NAME_MAX_BYTES];
    char **seen; /* full names, to refuse duplicates */
    size_t seen_count;
    struct err *err;
};

static unsigned column(const struct parser *t)
{
    return (unsigned)(t->p - t->line_start) + 1;
}

static int fail(struct parser *t, const char *fmt, ...) _printf_(2, 3);
static int fail(struct parser *t, const char *fmt, ...)
{
    char why[256];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    return err_set(t->err, ERR_INVALID, "line %u column %u: %s", t->line, column(t), why);
}

static bool at_end(const struct parser *t)
{
    return t->p == t->end;
}

static char peek(const struct parser *t)
{
    return at_end(t) ? '\0' : *t->p;
}

static void skip_blanks(struct parser *t)
{
    while (peek(t) == ' ' || peek(t) == '\t') {
        t->p++;
    }
}

static void next_line(struct parser *t)
{
    t->p++;
    t->line++;
    t->line_start = t->p;
}

static void skip_comment(struct parser *t)
{
    while (!at_end(t) && *t->p != '\n') {
        t->p++;
    }
}

/* Blanks, comments and line ends: between the elements of an array. */
static void skip_space(struct parser *t)
{
    for (;;) {
        skip_blanks(t);
        if (peek(t) == '\r' && t->p + 1 < t->end && t->p[1] == '\n') {
            t->p++;
        }
        if (peek(t) == '#') {
            skip_comment(t);
        }
        if (at_end(t) || *t->p != '\n') {
            return;
        }
        next_line(t);
    }
}

static int end_of_line(struct parser *t)
{
    skip_blanks(t);
    if (peek(t) == '#') {
        skip_comment(t);
    }
    if (peek(t) == '\r' && t->p + 1 < t->end && t->p[1] == '\n') {
        t->p++;
    }
    if (at_end(t)) {
        return 0;
    }
    if (*t->p != '\n') {
        return fail(t, "unexpected text after the value");
    }
    next_line(t);
    return 0;
}

static bool is_bare(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

/* bare ('.' bare)*, appended to name after `used` bytes. */
static int read_name(struct parser *t, char *name, size_t used, bool dotted)
{
    size_t n = used;

    for (;;) {
        size_t start = n;

        while (is_bare(peek(t)) && n + 2 < NAME_MAX_BYTES) {
            name[n++] = *t->p++;
        }
        if (n == start || is_bare(peek(t))) {
            return fail(t, n == start ? "a name of letters, digits, _ and - is expected"
                                      : "the name is too long");
        }
        if (!dotted || peek(t) != '.') {
            name[n] = '\0';
            return 0;
        }
        name[n++] = *t->p++;
    }
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static int put_utf8(struct parser *t, struct buf *out, uint32_t c)
{
    uint8_t b[4];
    size_t n;

    if (c == 0 || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
        return fail(t, "not a Unicode character");
    }
    if (c < 0x80) {
        b[0] = (uint8_t)c;
        n = 1;
    } else if (c < 0x800) {
        b[0] = (uint8_t)(0xC0 | c >> 6);
        n = 2;
    } else if (c < 0x10000) {
        b[0] = (uint8_t)(0xE0 | c >> 12);
        n = 3;
    } else {
        b[0] = (uint8_t)(0xF0 | c >> 18);
        n = 4;
    }
    for (size_t i = 1; i < n; i++) {
        b[i] = (uint8_t)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3F));
    }
    return buf_append(out, b, n);
}

static int read_escape(struct parser *t, struct buf *out)
{
    static const char from[] = "btnfr\"\\e", to[] = "\b\t\n\f\r\"\\\x1b";
    const char *at;
    char c = peek(t);
    int digits = c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t v = 0;

    if (at_end(t)) {
        return fail(t, "the string does not end");
    }
    if (digits == 0) {
        at = c ? strchr(from, c) : NULL;
        if (!at) {
            return fail(t, "unknown escape");
        }
        t->p++;
        return buf_append_u8(out, (uint8_t)to[at - from]);
    }
    t->p++;
    for (int i = 0; i < digits; i++) {
        int h = hex_value(peek(t));

        if (h < 0) {
            return fail(t, "%d hexadecimal digits are expected", digits);
        }
        v = v << 4 | (uint32_t)h;
        t->p++;
    }
    return put_utf8(t, out, v);
}

static int read_string(struct parser *t, char **ret)
{
    _cleanup_buf_ struct buf out;
    char quote = *t->p++;

    buf_init(&out, TOML_TEXT_MAX + 8);
    for (;;) {
        char c = peek(t);

        if (at_end(t) || c == '\n') {
            return fail(t, "the string does not end on its line");
        }
        if (((unsigned char)c < 0x20 && c != '\t') || c == 0x7F) {
            return fail(t, "control character in a string");
        }
        t->p++;
        if (c == quote) {
            break;
        }
        if ((c == '\\' && quote == '"' ? read_escape(t, &out) : buf_append_u8(&out, (uint8_t)c)) <
            0) {
            return -1;
        }
    }
    if (out.len > 0 && !str_is_utf8((const char *)buf_head(&out), out.len)) {
        return fail(t, "the string is not UTF-8");
    }
    *ret = buf_steal_str(&out);
    return 0;
}

static int read_int(struct parser *t, int64_t *ret)
{
    bool negative = peek(t) == '-';
    uint64_t v = 0;
    const char *start;

    t->p += negative || peek(t) == '+';
    start = t->p;
    while ((peek(t) >= '0' && peek(t) <= '9') || (peek(t) == '_' && t->p > start)) {
        if (*t->p != '_' && (__builtin_mul_overflow(v, 10, &v) ||
                             __builtin_add_overflow(v, *t->p - '0', &v) || v > INT64_MAX)) {
            return fail(t, "the number is too large");
        }
        t->p++;
    }
    if (t->p == start) {
        return fail(t, "a string, number, true, false or array is expected");
    }
    if (is_bare(peek(t)) || peek(t) == '.' || peek(t) == ':' || t->p[-1] == '_' ||
        (*start == '0' && t->p - start > 1)) {
        return fail(t, "only whole decimal numbers are understood");
    }
    *ret = negative ? -(int64_t)v : (int64_t)v;
    return 0;
}

static int read_array(struct parser *t, struct toml_value *v)
{
    t->p++;
    v->type = TOML_STRINGS;
    v->strings = x_calloc(TOML_ARRAY_MAX, sizeof(*v->strings));
    for (;;) {
        char *s = NULL;

        skip_space(t);
        if (peek(t) == ']') {
            t->p++;
            return 0;
        }
        if (peek(t) != '"' && peek(t) != '\'') {
            return fail(t, "a string or ] is expected");
        }
        if (v->count == TOML_ARRAY_MAX) {
            return fail(t, "the array has more than %d elements", TOML_ARRAY_MAX);
        }
        if (read_string(t, &s) < 0) {
            return -1;
        }
        v->strings[v->count++] = s;
        skip_space(t);
        if (peek(t) == ',') {
            t->p++;
        } else if (peek(t) != ']') {
            return fail(t, ", or ] is expected");
        }
    }
}

static bool take_word(struct parser *t, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n) != 0 ||
        (t->p + n < t->end && is_bare(t->p[n]))) {
        return false;
    }
    t->p += n;
    return true;
}

static int read_value(struct parser *t, struct toml_value *v)
{
    char *s = NULL;

    if (peek(t) == '"' || peek(t) == '\'') {
        if (t->end - t->p >= 3 && t->p[1] == t->p[0] && t->p[2] == t->p[0]) {
            return fail(t, "strings over several lines are not understood");
        }
        v->type = TOML_STRING;
        if (read_string(t, &s) < 0) {
            return -1;
        }
        v->string = s;
        return 0;
    }
    if (peek(t) == '[') {
        return read_array(t, v);
    }
    if (take_word(t, "true") || take_word(t, "false")) {
        v->type = TOML_BOOL;
        v->boolean = t->p[-2] == 'u';
        return 0;
    }
    v->type = TOML_INT;
    return read_int(t, &v->integer);
}

static void value_done(struct toml_value *v)
{
    free((void *)v->string);
    for (size_t i = 0; i < v->count; i++) {
        free((void *)v->strings[i]);
    }
    free(v->strings);
}

static int note_name(struct parser *t, const char *name)
{
    for (size_t i = 0; i < t->seen_count; i++) {
        if (str_eq(t->seen[i], name)) {
            return fail(t, "'%s' is given twice", name);
        }
    }
    if (t->seen_count == KEYS_MAX) {
        return fail(t, "more than %d keys", KEYS_MAX);
    }
    t->seen[t->seen_count++] = x_strdup(name);
    return 0;
}

static int read_table(struct parser *t, toml_fn fn, void *arg)
{
    struct toml_value v = {.type = TOML_TABLE, .line = t->line};
    char header[NAME_MAX_BYTES + 2];

    t->p++;
    if (peek(t) == '[') {
        return fail(t, "arrays of tables are not understood");
    }
    skip_blanks(t);
    v.column = v.value_column = column(t);
    if (read_name(t, t->table, 0, true) < 0) {
        return -1;
    }
    /* A key cannot have such a name, so that both can be kept in one list. */
    (void)snprintf(header, sizeof(header), "[%s]", t->table);
    if (note_name(t, header) < 0) {
        return -1;
    }
    skip_blanks(t);
    if (peek(t) != ']') {
        return fail(t, "] is expected");
    }
    t->p++;
    return end_of_line(t) < 0 ? -1 : fn(arg, t->table, &v, t->err);
}

static int read_key(struct parser *t, toml_fn fn, void *arg)
{
    _cleanup_(value_done) struct toml_value v = {.line = t->line, .column = column(t)};
    size_t used = strlen(t->table);
    char name[2 * NAME_MAX_BYTES];

    (void)snprintf(name, sizeof(name), "%s%s", t->table, used ? "." : "");
    if (used > NAME_MAX_BYTES / 2) {
        return fail(t, "the table's name is too long");
    }
    if (read_name(t, name, used + (used > 0), false) < 0 || note_name(t, name) < 0) {
        return -1;
    }
    skip_blanks(t);
    if (peek(t) != '=') {
        return fail(t, "= is expected");
    }
    t->p++;
    skip_blanks(t);
    v.value_column = column(t);
    if (read_value(t, &v) < 0 || end_of_line(t) < 0) {
        return -1;
    }
    return fn(arg, name, &v, t->err);
}

int toml_parse(const char *text, size_t len, toml_fn fn, void *arg, struct err *err)
{
    struct parser t = {.p = text, .end = text + len, .line_start = text, .line = 1, .err = err};
    int r = 0;

    if (len > TOML_TEXT_MAX) {
        return err_set(err, ERR_LIMIT, "larger than %d bytes", TOML_TEXT_MAX);
    }
    t.seen = x_calloc(KEYS_MAX, sizeof(*t.seen));
    skip_space(&t);
    while (r == 0 && !at_end(&t)) {
        r = peek(&t) == '[' ? read_table(&t, fn, arg) : read_key(&t, fn, arg);
        if (r == 0) {
            skip_space(&t);
        }
    }
    for (size_t i = 0; i < t.seen_count; i++) {
        free(t.seen[i]);
    }
    free(t.seen);
    return r;
}
