#include "cli/redact.h"

#include "base/buf.h"
#include "base/str.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define VALUE_LEAST 4 /* a shorter one is found everywhere */
#define TOKEN_LEAST 16

struct redact {
    const char **values; /* of the environment; borrowed */
    size_t count;
};

/* Names -----------------------------------------------------------------------------------------*/

static bool contains(const char *text, size_t len, const char *word)
{
    size_t n = strlen(word);

    for (size_t i = 0; i + n <= len; i++) {
        if (strncasecmp(text + i, word, n) == 0) {
            return true;
        }
    }
    return false;
}

static bool ends_with(const char *text, size_t len, const char *word)
{
    size_t n = strlen(word);

    return len >= n && strncasecmp(text + len - n, word, n) == 0;
}

bool redact_is_secret_name(const char *name, size_t len)
{
    static const char *const words[] = {"token",      "secret",      "password",   "passwd",
                                        "passphrase", "apikey",      "api-key",    "access-key",
                                        "accesskey",  "private-key", "privatekey", "credential",
                                        "auth-key",   "cookie",      "session-id", "authorization"};
    static const char *const ends[] = {"_key", "_auth", "_pwd", "_pass", "_pat"};
    char plain[64];

    if (len == 0 || len >= sizeof(plain)) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        plain[i] = name[i] == '_' || name[i] == '.' ? '-' : name[i];
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (contains(plain, len, words[i])) {
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        if (ends_with(name, len, ends[i])) {
            return true;
        }
    }
    return (len == 4 && strncasecmp(name, "auth", 4) == 0) ||
           (len == 6 && strncasecmp(name, "--auth", 6) == 0);
}

/* Text ------------------------------------------------------------------------------------------*/

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.';
}

static bool is_token(char c)
{
    return is_word(c) || c == '/' || c == '+' || c == '=' || c == '~';
}

static bool is_quote(char c)
{
    return c == '"' || c == '\'' || c == '`';
}

static size_t span(const char *s, size_t len, bool (*is)(char c))
{
    size_t n = 0;

    while (n < len && is(s[n])) {
        n++;
    }
    return n;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Up to the quote that ends it, or the end. One that began with a backslash is within another text,
 * and ends as it began. */
static size_t quoted(const char *s, size_t len, char quote, bool escaped)
{
    size_t n = 0;

    while (n < len && s[n] != quote) {
        if (s[n] == '\\' && escaped && n + 1 < len && s[n + 1] == quote) {
            break;
        }
        n += s[n] == '\\' && n + 1 < len ? 2 : 1;
    }
    return n;
}

/* Up to a blank or a quote. */
static size_t bare(const char *s, size_t len)
{
    size_t n = 0;

    while (n < len && !is_blank(s[n]) && !is_quote(s[n])) {
        n++;
    }
    return n;
}

static size_t to_quote(const char *s, size_t len)
{
    size_t n = 0;

    while (n < len && !is_quote(s[n])) {
        n++;
    }
    return n;
}

/* Where the value of a secret name begins, behind it, and how long it is. False: there is none.
 * name=V, name: V, "name": "V", \"name\":\"V\", --name V. */
static bool find_value(const char *s, size_t len, bool flag, size_t *ret_at, size_t *ret_len)
{
    size_t at = 0;
    char quote = 0;
    bool colon, escaped = false;

    while (at < len && (is_quote(s[at]) || s[at] == '\\')) {
        at++;
    }
    at += span(s + at, len - at, is_blank);
    if (at < len && (s[at] == '=' || s[at] == ':')) {
        colon = s[at++] == ':';
    } else if (flag && at > 0) {
        colon = false;
    } else {
        return false;
    }
    at += span(s + at, len - at, is_blank);
    while (at < len && (is_quote(s[at]) || s[at] == '\\')) {
        escaped |= s[at] == '\\';
        quote = is_quote(s[at]) ? s[at] : quote;
        at++;
    }
    *ret_at = at;
    *ret_len = quote   ? quoted(s + at, len - at, quote, escaped)
               : colon ? to_quote(s + at, len - at)
                       : bare(s + at, len - at);
    return *ret_len > 0;
}

/* What is known to be a token by how it begins. */
static bool is_known_token(const char *s, size_t len)
{
    static const char *const begins[] = {"ghp_",  "gho_",  "ghu_",  "ghs_",  "ghr_", "github_pat_",
                                         "glpat", "xoxb-", "xoxp-", "xoxa-", "sk-",  "sk_live_",
                                         "npm_",  "hf_",   "pypi-", "AKIA",  "ASIA", "dckr_pat_"};

    for (size_t i = 0; len >= TOKEN_LEAST && i < ARRAY_LEN(begins); i++) {
        if (strncmp(s, begins[i], strlen(begins[i])) == 0) {
            return true;
        }
    }
    /* A JSON Web Token: {" in base64, and two dots. */
    return len >= TOKEN_LEAST && strncmp(s, "eyJ", 3) == 0 && memchr(s, '.', len);
}

/* "Bearer X", "Basic X": X has something that words have not. */
static size_t scheme_value(const char *s, size_t word, size_t len)
{
    size_t at = word + span(s + word, len - word, is_blank), n;

    if (at == word || !((word == 6 && strncasecmp(s, "bearer", 6) == 0) ||
                        (word == 5 && strncasecmp(s, "basic", 5) == 0))) {
        return 0;
    }
    n = span(s + at, len - at, is_token);
    for (size_t i = 0; i < n && (n >= 8 || word == 6); i++) {
        char c = s[at + i];

        if (isdigit((unsigned char)c) || isupper((unsigned char)c) || c == '=' || n >= 12) {
            return at + n;
        }
    }
    return 0;
}

/* "://USER:PASSWORD@": where the '@' is, or 0. A '/' ends it, but not where what is behind a ':' is
 * no port: then it is in a password that should have been written otherwise. */
static size_t user_info(const char *s, size_t len)
{
    size_t found = 0, colon = 0;
    bool number = true;

    for (size_t i = 3; i < len && !is_blank(s[i]) && !is_quote(s[i]); i++) {
        if (s[i] == '@') {
            found = i;
        } else if (strchr("/?#", s[i])) {
            if (found > 0 || colon == 0 || number) {
                break;
            }
        } else if (s[i] == ':') {
            colon = colon > 0 ? colon : i;
        } else if (colon > 0 && !isdigit((unsigned char)s[i])) {
            number = false;
        }
    }
    return found;
}

/* A value of the environment that begins here: its length, or 0. */
static size_t known_value(const struct redact *r, const char *s, size_t len)
{
    size_t longest = 0;

    for (size_t i = 0; i < r->count; i++) {
        size_t n = strlen(r->values[i]);

        if (n > longest && n <= len && memcmp(s, r->values[i], n) == 0) {
            longest = n;
        }
    }
    return longest;
}

static void put(struct buf *out, const char *s, size_t len)
{
    if (buf_append(out, s, len) < 0) {
        abort(); /* it has room for twice the text and more */
    }
}

/* Handles what begins at s, at the start of a word or not: how much was taken, 0 = nothing. */
static size_t take(const struct redact *r, const char *s, size_t len, bool at_word, struct buf *out)
{
    size_t n = known_value(r, s, len), at, value;

    if (n == 0 && len > 3 && strncmp(s, "://", 3) == 0 && (n = user_info(s, len)) > 0) {
        put(out, "://", 3);
    }
    if (n > 0) {
        put(out, REDACTED, strlen(REDACTED));
        return n;
    }
    n = at_word ? span(s, len, is_word) : 0;
    if (n == 0) {
        return 0;
    }
    if (is_known_token(s, n)) {
        put(out, REDACTED, strlen(REDACTED));
        return span(s, len, is_token);
    }
    if (redact_is_secret_name(s, n) && find_value(s + n, len - n, *s == '-', &at, &value)) {
        put(out, s, n + at);
        put(out, REDACTED, strlen(REDACTED));
        return n + at + value;
    }
    value = scheme_value(s, n, len);
    if (value > 0) {
        put(out, s, n + 1);
        put(out, REDACTED, strlen(REDACTED));
        return value;
    }
    return 0;
}

static void put_line(const struct redact *r, const char *s, size_t len, struct buf *out)
{
    for (size_t i = 0; i < len;) {
        size_t n = take(r, s + i, len - i, i == 0 || !is_word(s[i - 1]), out);

        if (n == 0) {
            put(out, s + i, 1);
            n = 1;
        }
        i += n;
    }
}

/* The length up to the end of a private key that s is in, or that begins in s; 0: none does. */
static const char *key_end(const char *s, size_t len)
{
    static const char mark[] = "PRIVATE KEY-----";
    const char *end = memmem(s, len, mark, sizeof(mark) - 1);

    return end ? end + sizeof(mark) - 1 : NULL;
}

char *redact_text(const struct redact *r, const char *text, size_t len)
{
    static const char begin[] = "-----BEGIN ", end_mark[] = "-----END ";
    const char *at = text, *stop = text + len;
    struct buf out;

    buf_init(&out, len * (sizeof(REDACTED) + 1) + 64);
    while (at < stop) {
        const char *newline = memchr(at, '\n', (size_t)(stop - at));
        const char *line_end = newline ? newline : stop;
        const char *key = key_end(at, (size_t)(line_end - at));

        if (key && memmem(at, (size_t)(line_end - at), begin, sizeof(begin) - 1)) {
            /* To the line of its end, or all that there is. */
            const char *close = memmem(key, (size_t)(stop - key), end_mark, sizeof(end_mark) - 1);
            const char *last = close ? key_end(close, (size_t)(stop - close)) : NULL;

            put(&out, REDACTED, strlen(REDACTED));
            at = last ? last : stop;
            continue;
        }
        if (key && memmem(at, (size_t)(line_end - at), end_mark, sizeof(end_mark) - 1)) {
            /* Its begin was cut off: so is all that may belong to it. */
            buf_consume(&out, out.len);
            put(&out, REDACTED, strlen(REDACTED));
            at = key;
            continue;
        }
        put_line(r, at, (size_t)(line_end - at), &out);
        if (newline) {
            put(&out, "\n", 1);
        }
        at = newline ? newline + 1 : stop;
    }
    return buf_steal_str(&out);
}

/* JSON ------------------------------------------------------------------------------------------*/

static json_t *text_of(const struct redact *r, const json_t *value)
{
    _cleanup_free_ char *text = redact_text(r, json_string_value(value), json_string_length(value));

    return json_string(text);
}

/* The words of a command: what follows a flag with a secret name is one. */
static json_t *list(const struct redact *r, const json_t *value)
{
    json_t *out = json_array(), *item;
    bool secret = false;
    size_t i;

    json_array_foreach ((json_t *)value, i, item) {
        const char *word = json_string_value(item);

        json_array_append_new(out, secret && word ? json_string(REDACTED) : redact_json(r, item));
        secret = word && word[0] == '-' && redact_is_secret_name(word, strlen(word));
    }
    return out;
}

/* "NAME=VALUE" entries, or members: names alone stay. */
static json_t *environment(const json_t *value)
{
    json_t *out = json_is_object(value) ? json_object() : json_array(), *item;
    const char *name;
    size_t i;

    json_object_foreach ((json_t *)value, name, item) {
        json_put_str(out, name, REDACTED);
    }
    json_array_foreach ((json_t *)value, i, item) {
        const char *text = json_string_value(item), *equals = text ? strchr(text, '=') : NULL;
        _cleanup_free_ char *kept =
            equals ? x_asprintf("%.*s=" REDACTED, (int)(equals - text), text) : x_strdup(REDACTED);

        json_array_append_new(out, json_string(kept));
    }
    return out;
}

static json_t *object(const struct redact *r, const json_t *value)
{
    /* {"key": "x_token", "value": ...}, as of settings. */
    const char *named = json_str(value, "key", json_str(value, "name", ""));
    bool pair = redact_is_secret_name(named, strlen(named));
    json_t *out = json_object(), *item;
    const char *key;

    json_object_foreach ((json_t *)value, key, item) {
        bool secret = redact_is_secret_name(key, strlen(key)) ||
                      (pair && (str_eq(key, "value") || str_eq(key, "default")));
        _cleanup_free_ char *name = redact_text(r, key, strlen(key));

        json_put(out, name,
                 secret && !json_is_null(item)               ? json_string(REDACTED)
                 : str_eq(key, "env") && !json_is_null(item) ? environment(item)
                                                             : redact_json(r, item));
    }
    return out;
}

json_t *redact_json(const struct redact *r, const json_t *value)
{
    return json_is_object(value)   ? object(r, value)
           : json_is_array(value)  ? list(r, value)
           : json_is_string(value) ? text_of(r, value)
                                   : json_deep_copy(value);
}

/* -----------------------------------------------------------------------------------------------*/

struct redact *redact_new(const char *const *env)
{
    struct redact *r = x_calloc(1, sizeof(*r));
    size_t count = 0;

    while (env[count]) {
        count++;
    }
    r->values = x_calloc(count + 1, sizeof(*r->values));
    for (size_t i = 0; i < count; i++) {
        const char *equals = strchr(env[i], '=');

        if (equals && strlen(equals + 1) >= VALUE_LEAST &&
            redact_is_secret_name(env[i], (size_t)(equals - env[i]))) {
            r->values[r->count++] = equals + 1;
        }
    }
    return r;
}

void redact_free(struct redact *r)
{
    if (r) {
        free(r->values);
        free(r);
    }
}
