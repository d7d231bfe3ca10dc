#include "codec/json.h"

#include "base/str.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

/* jansson recurses; its own limit of 2,048 levels is more stack than our threads want to spend. */
static bool too_deep(const char *text, size_t len)
{
    bool in_string = false;
    int depth = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_DEPTH_MAX) {
                return true;
            }
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return false;
}

int json_parse(const char *text, size_t len, json_t **ret, struct err *err)
{
    json_error_t at;
    json_t *value;

    if (too_deep(text, len)) {
        return err_set(err, ERR_INVALID, "JSON nested deeper than %d levels", JSON_DEPTH_MAX);
    }
    value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &at);
    if (!value) {
        _cleanup_free_ char *safe = str_escape(at.text, strlen(at.text), sizeof(at.text));

        return err_set(err, ERR_INVALID, "malformed JSON at line %d column %d: %s", at.line,
                       at.column, safe);
    }
    *ret = value;
    return 0;
}

char *json_print(const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

    if (!text) {
        abort();
    }
    return text;
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *base64_encode(const uint8_t *data, size_t len)
{
    char *out = x_calloc((len + 2) / 3 * 4 + 1, 1);
    char *o = out;

    for (size_t i = 0; i < len; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16;

        v |= i + 1 < len ? (uint32_t)data[i + 1] << 8 : 0;
        v |= i + 2 < len ? data[i + 2] : 0;
        *o++ = base64_digits[v >> 18];
        *o++ = base64_digits[v >> 12 & 63];
        *o++ = i + 1 < len ? base64_digits[v >> 6 & 63] : '=';
        *o++ = i + 2 < len ? base64_digits[v & 63] : '=';
    }
    return out;
}

/* Strict RFC 4648 §4: padded, no other characters, no stray bits. */
static int base64_decode(const char *text, size_t len, char **ret, size_t *ret_len)
{
    _cleanup_free_ char *out = x_calloc(len / 4 * 3 + 1, 1);
    size_t n = 0;

    if (len % 4 != 0) {
        return -EINVAL;
    }
    for (size_t i = 0; i < len; i += 4) {
        bool last = i + 4 == len;
        int pad = last ? (text[i + 3] == '=') + (text[i + 3] == '=' && text[i + 2] == '=') : 0;
        uint32_t v = 0;

        for (int j = 0; j < 4; j++) {
            const char *at =
                j >= 4 - pad ? base64_digits : memchr(base64_digits, text[i + (size_t)j], 64);

            if (!at) {
                return -EINVAL;
            }
            v = v << 6 | (uint32_t)(at - base64_digits);
        }
        if ((pad == 1 && (v & 0xFF)) || (pad == 2 && (v & 0xFFFF))) {
            return -EINVAL;
        }
        out[n++] = (char)(v >> 16);
        if (pad < 2) {
            out[n++] = (char)(v >> 8);
        }
        if (pad < 1) {
            out[n++] = (char)v;
        }
    }
    *ret = STEAL_PTR(out);
    *ret_len = n;
    return 0;
}

json_t *json_bytes_new(const void *data, size_t len)
{
    _cleanup_free_ char *text = NULL;

    if (str_is_utf8(data, len)) {
        return json_stringn_nocheck(data, len);
    }
    text = base64_encode(data, len);
    return json_pack("{s:s}", "base64", text);
}

int json_bytes_get(const json_t *value, char **ret, size_t *ret_len)
{
    const json_t *encoded;

    if (json_is_string(value)) {
        size_t len = json_string_length(value);

        if (memchr(json_string_value(value), 0, len)) {
            return -EINVAL;
        }
        *ret = x_strndup(json_string_value(value), len);
        *ret_len = len;
        return 0;
    }
    encoded = json_object_get(value, "base64");
    if (!json_is_string(encoded) || json_object_size(value) != 1) {
        return -EINVAL;
    }
    return base64_decode(json_string_value(encoded), json_string_length(encoded), ret, ret_len);
}

const char *json_str(const json_t *object, const char *key, const char *fallback)
{
    const json_t *v = json_object_get(object, key);

    return json_is_string(v) ? json_string_value(v) : fallback;
}

long long json_int(const json_t *object, const char *key, long long fallback)
{
    const json_t *v = json_object_get(object, key);

    return json_is_integer(v) ? json_integer_value(v) : fallback;
}

bool json_flag(const json_t *object, const char *key, bool fallback)
{
    const json_t *v = json_object_get(object, key);

    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

void json_put(json_t *object, const char *key, json_t *value)
{
    if (!value || json_object_set_new_nocheck(object, key, value) < 0) {
        abort();
    }
}

void json_put_str(json_t *object, const char *key, const char *value_or_null)
{
    json_t *v = json_null();

    if (value_or_null) {
        /* Text of ours is UTF-8; text of others may not be, and must not abort us. */
        v = str_is_utf8(value_or_null, strlen(value_or_null)) ? json_string(value_or_null) : NULL;
        if (!v) {
            _cleanup_free_ char *safe =
                str_escape(value_or_null, strlen(value_or_null), strlen(value_or_null));

            v = json_string(safe);
        }
    }
    json_put(object, key, v);
}

void json_put_int(json_t *object, const char *key, long long value)
{
    json_put(object, key, json_integer(value));
}

void json_put_bool(json_t *object, const char *key, bool value)
{
    json_put(object, key, json_boolean(value));
}
