/* Validation of a request's params against the table in api.c. */
#include "base/str.h"
#include "codec/api.h"

#include <string.h>

static int check_params(const struct api_param *specs, const char *where, const json_t *params,
                        struct err *err);

const struct api_method *api_method_find(const char *name)
{
    for (const struct api_method *m = api_methods; m->name; m++) {
        if (str_eq(m->name, name)) {
            return m;
        }
    }
    return NULL;
}

static const struct api_param *find(const struct api_param *specs, const char *name)
{
    for (; specs->name; specs++) {
        if (str_eq(specs->name, name)) {
            return specs;
        }
    }
    return NULL;
}

const struct api_param *api_param_find(const struct api_method *m, const char *name)
{
    return find(m->params, name);
}

static int check_text(const struct api_param *spec, const json_t *value, struct err *err)
{
    size_t len = 0;

    if (spec->type == API_STRING && !json_is_string(value)) {
        return err_set(err, ERR_INVALID, "parameter '%s' must be a string", spec->name);
    }
    if (json_is_string(value)) {
        len = json_string_length(value);
        if (memchr(json_string_value(value), 0, len)) {
            return err_set(err, ERR_INVALID, "parameter '%s' contains a NUL byte", spec->name);
        }
    } else {
        _cleanup_free_ char *bytes = NULL;

        if (json_bytes_get(value, &bytes, &len) < 0 || memchr(bytes, 0, len)) {
            return err_set(err, ERR_INVALID,
                           "parameter '%s' must be a string or {\"base64\": \"...\"} without NUL",
                           spec->name);
        }
    }
    if (spec->max > 0 && (len < (size_t)spec->min || len > (size_t)spec->max)) {
        return err_set(err, ERR_INVALID, "parameter '%s' must have %lld to %lld bytes, not %zu",
                       spec->name, spec->min, spec->max, len);
    }
    if (spec->choices && !str_is_choice(spec->choices, json_string_value(value))) {
        _cleanup_free_ char *safe = str_escape(json_string_value(value), len, 64);

        return err_set(err, ERR_INVALID, "parameter '%s' must be one of %s, not '%s'", spec->name,
                       spec->choices, safe);
    }
    return 0;
}

static int check_list(const struct api_param *spec, const json_t *value, struct err *err)
{
    const struct api_param item = {.name = spec->name, .type = API_BYTES};
    const json_t *element;
    size_t i;

    if (!json_is_array(value)) {
        return err_set(err, ERR_INVALID, "parameter '%s' must be an array", spec->name);
    }
    if (json_array_size(value) > (size_t)spec->max || json_array_size(value) < (size_t)spec->min) {
        return err_set(err, ERR_INVALID, "parameter '%s' must have %lld to %lld entries, not %zu",
                       spec->name, spec->min, spec->max, json_array_size(value));
    }
    json_array_foreach (value, i, element) {
        if (check_text(&item, element, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int check_labels(const struct api_param *spec, const json_t *value, struct err *err)
{
    const struct api_param item = {.name = spec->name, .type = API_STRING, .max = 256};
    const char *key;
    json_t *element;

    if (!json_is_object(value) || json_object_size(value) > (size_t)spec->max) {
        return err_set(err, ERR_INVALID, "parameter '%s' must be an object of at most %lld strings",
                       spec->name, spec->max);
    }
    json_object_foreach ((json_t *)value, key, element) {
        size_t len = strlen(key);

        if (len < 1 || len > 64) {
            return err_set(err, ERR_INVALID, "a name in '%s' must have 1 to 64 bytes", spec->name);
        }
        if (check_text(&item, element, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int check_int(const struct api_param *spec, const json_t *value, struct err *err)
{
    long long v = json_integer_value(value);

    if (!json_is_integer(value)) {
        return err_set(err, ERR_INVALID, "parameter '%s' must be an integer", spec->name);
    }
    if (v < spec->min || v > spec->max) {
        return err_set(err, ERR_INVALID, "parameter '%s' must be %lld to %lld, not %lld",
                       spec->name, spec->min, spec->max, v);
    }
    return 0;
}

static int check_value(const struct api_param *spec, const json_t *value, struct err *err)
{
    static const struct api_param tty[] = {
        {.name = "rows", .type = API_INT, .required = true, .min = 1, .max = 65535},
        {.name = "columns", .type = API_INT, .required = true, .min = 1, .max = 65535},
        {0},
    };

    switch (spec->type) {
    case API_STRING:
    case API_BYTES:
        return check_text(spec, value, err);
    case API_BOOL:
        return json_is_boolean(value)
                   ? 0
                   : err_set(err, ERR_INVALID, "parameter '%s' must be true or false", spec->name);
    case API_INT:
        return check_int(spec, value, err);
    case API_BYTES_LIST:
        return check_list(spec, value, err);
    case API_LABELS:
        return check_labels(spec, value, err);
    case API_MAIN:
        return check_params(api_session_params, "main", value, err);
    case API_TTY:
        return check_params(tty, "tty", value, err);
    }
    return err_set(err, ERR_INTERNAL, "parameter '%s' has no type", spec->name);
}

static int unknown_param(const struct api_param *specs, const char *where, const char *key,
                         struct err *err)
{
    _cleanup_free_ char *safe = str_escape(key, strlen(key), 64);
    const char *names[64];
    const char *near;
    size_t n = 0;

    for (; specs->name && n < ARRAY_LEN(names); specs++) {
        names[n++] = specs->name;
    }
    err_set(err, ERR_INVALID, "unknown parameter '%s' of '%s'", safe, where);
    near = str_nearest(key, names, n);
    return near ? err_hint(err, "did you mean '%s'?", near) : -1;
}

static int check_params(const struct api_param *specs, const char *where, const json_t *params,
                        struct err *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(params)) {
        return err_set(err, ERR_INVALID, "'%s' must be an object", where);
    }
    json_object_foreach ((json_t *)params, key, value) {
        const struct api_param *spec = find(specs, key);

        if (!spec) {
            return unknown_param(specs, where, key, err);
        }
        if (check_value(spec, value, err) < 0) {
            return -1;
        }
    }
    for (; specs->name; specs++) {
        if (specs->required && !json_object_get(params, specs->name)) {
            return err_set(err, ERR_INVALID, "parameter '%s' of '%s' is missing", specs->name,
                           where);
        }
    }
    return 0;
}

int api_validate(const struct api_method *m, const json_t *params, struct err *err)
{
    if (check_params(m->params, m->name, params, err) == 0) {
        return 0;
    }
    return err->hint[0] ? -1 : err_hint(err, "docs/PROTOCOL.md describes the call '%s'", m->name);
}
