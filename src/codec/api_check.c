/* Validation against the tables in api.c and api_objects.c: of params, and of what is returned. */
#include "base/clock.h"
#include "base/str.h"
#include "codec/api.h"
#include "codec/api_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* What an error calls a value, and which object it is missed in. */
struct context {
    const char *word;  /* "parameter" or "member" */
    const char *where; /* method or object */
};

static int check_members(const struct api_param *specs, const struct context *c,
                         const json_t *object, struct err *err);
const struct api_method *api_method_find(const char *name)
{
    for (const struct api_method *m = api_methods; m->name; m++) {
        if (str_eq(m->name, name)) {
            return m;
        }
    }
    return NULL;
}

const struct api_param *api_member_find(const struct api_param *specs, const char *name)
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
    return api_member_find(m->params, name);
}

const struct api_param *api_param_in(const struct api_object *o, const char *name)
{
    return o->members ? api_member_find(o->members, name) : NULL;
}

int api_must(const struct api_param *spec, const char *word, struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "%s '%s' must be %s", word, spec->name, what);
}

int api_check_length(const struct api_param *spec, const char *word, size_t n, const char *unit,
                     struct err *err)
{
    if (spec->max > 0 && (n < (size_t)spec->min || n > (size_t)spec->max)) {
        return err_set(err, ERR_INVALID, "%s '%s' must have %lld to %lld %s, not %zu", word,
                       spec->name, spec->min, spec->max, unit, n);
    }
    return 0;
}

static int check_choice(const struct api_param *spec, const char *word, const char *text,
                        struct err *err)
{
    if (spec->choices && !str_is_choice(spec->choices, text)) {
        _cleanup_free_ char *safe = str_escape(text, strlen(text), 64);

        return err_set(err, ERR_INVALID, "%s '%s' must be one of %s, not '%s'", word, spec->name,
                       spec->choices, safe);
    }
    return 0;
}

static bool is_hex(const char *text, size_t len)
{
    return text && strspn(text, "0123456789abcdef") == len && text[len] == '\0';
}

int api_check_text(const struct api_param *spec, const char *word, const char *text, size_t len,
                   struct err *err)
{
    switch (spec->type) {
    case API_STRING:
    case API_BYTES:
    case API_SCALAR:
        if (memchr(text, 0, len)) {
            return err_set(err, ERR_INVALID, "%s '%s' contains a NUL byte", word, spec->name);
        }
        return api_check_length(spec, word, len, "bytes", err) < 0
                   ? -1
                   : check_choice(spec, word, text, err);
    case API_ID:
        return is_hex(text, 32) ? 0 : api_must(spec, word, err, "an id");
    case API_DIGEST:
        return str_starts_with(text, "sha256:") && is_hex(text + strlen("sha256:"), 64)
                   ? 0
                   : api_must(spec, word, err, "a digest");
    case API_TIME:
        return clock_is_rfc3339(text) ? 0 : api_must(spec, word, err, "a time");
    default:
        return api_must(spec, word, err, api_type_name(spec->type));
    }
}

/* Whatever the type's texts are. */
static int check_text(const struct api_param *spec, const char *word, const json_t *value,
                      struct err *err)
{
    return json_is_string(value) ? api_check_text(spec, word, json_string_value(value),
                                                  json_string_length(value), err)
                                 : api_must(spec, word, err, "a string");
}

static int check_bytes(const struct api_param *spec, const char *word, const json_t *value,
                       struct err *err)
{
    _cleanup_free_ char *bytes = NULL;
    size_t len;

    if (json_is_string(value)) {
        return check_text(spec, word, value, err);
    }
    if (json_bytes_get(value, &bytes, &len) < 0 || memchr(bytes, 0, len)) {
        return api_must(spec, word, err, "a string or {\"base64\": \"...\"} without NUL");
    }
    return api_check_length(spec, word, len, "bytes", err);
}

/* An array, each element as `item` says. */
static int check_list(const struct api_param *spec, const struct api_param *item, const char *word,
                      const json_t *value, struct err *err)
{
    const json_t *element;
    size_t i;

    if (!json_is_array(value)) {
        return api_must(spec, word, err, "an array");
    }
    if (api_check_length(spec, word, json_array_size(value), "entries", err) < 0) {
        return -1;
    }
    json_array_foreach (value, i, element) {
        if (api_check_value(item, word, element, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int check_labels(const struct api_param *spec, const char *word, const json_t *value,
                        struct err *err)
{
    const struct api_param item = {.name = spec->name, .type = API_STRING, .max = 256};
    const char *key;
    json_t *element;

    if (!json_is_object(value) || json_object_size(value) > (size_t)spec->max) {
        return err_set(err, ERR_INVALID, "%s '%s' must be an object of at most %lld strings", word,
                       spec->name, spec->max);
    }
    json_object_foreach ((json_t *)value, key, element) {
        size_t len = strlen(key);

        if (len < 1 || len > 64) {
            return err_set(err, ERR_INVALID, "a name in '%s' must have 1 to 64 bytes", spec->name);
        }
        if (check_text(&item, word, element, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int check_counts(const struct api_param *spec, const char *word, const json_t *value,
                        struct err *err)
{
    const char *key;
    json_t *element;

    if (!json_is_object(value)) {
        return api_must(spec, word, err, "an object of integers");
    }
    json_object_foreach ((json_t *)value, key, element) {
        if (!json_is_integer(element) || json_integer_value(element) < 0) {
            return api_must(spec, word, err, "an object of integers from 0");
        }
        if (check_choice(spec, word, key, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int api_check_int(const struct api_param *spec, const char *word, long long v, struct err *err)
{
    if (v < spec->min || v > spec->max) {
        return err_set(err, ERR_INVALID, "%s '%s' must be %lld to %lld, not %lld", word, spec->name,
                       spec->min, spec->max, v);
    }
    return 0;
}

static int unknown_member(const struct api_param *specs, const struct context *c, const char *key,
                          struct err *err)
{
    _cleanup_free_ char *safe = str_escape(key, strlen(key), 64);
    const char *names[64];
    const char *near;
    size_t n = 0;

    for (; specs->name && n < ARRAY_LEN(names); specs++) {
        names[n++] = specs->name;
    }
    err_set(err, ERR_INVALID, "unknown %s '%s' of '%s'", c->word, safe, c->where);
    near = str_nearest(key, names, n);
    return near ? err_hint(err, "did you mean '%s'?", near) : -1;
}

bool api_members_find(const struct api_object *o, const char *entry,
                      const struct api_param **ret_member, const struct api_param **ret_inner)
{
    const char *dot = strchr(entry, '.');
    _cleanup_free_ char *outer = dot ? x_strndup(entry, (size_t)(dot - entry)) : x_strdup(entry);
    const struct api_param *member = api_member_find(o->members, outer), *inner = NULL;

    if (dot && member && member->type == API_OBJECT && member->object->members) {
        inner = api_member_find(member->object->members, dot + 1);
    }
    if (!member || (dot && !inner)) {
        return false;
    }
    *ret_member = member;
    *ret_inner = inner;
    return true;
}

/* An array of strings. */
static int check_member_names(const struct api_param *spec, const char *word, const json_t *names,
                              struct err *err)
{
    const struct api_param *member, *inner;
    const json_t *name;
    size_t i;

    json_array_foreach (names, i, name) {
        if (!api_members_find(spec->object, json_string_value(name), &member, &inner)) {
            (void)unknown_member(spec->object->members,
                                 &(struct context){"member", spec->object->name},
                                 json_string_value(name), err);
            return err_wrap(err, "%s '%s'", word, spec->name);
        }
    }
    return 0;
}

static int check_one_of(const struct api_param *spec, const char *word, const json_t *value,
                        struct err *err)
{
    for (const struct api_object *const *o = spec->objects; *o; o++) {
        struct err ignored; /* another one may fit */

        if (check_members((*o)->members, &(struct context){word, (*o)->name}, value, &ignored) ==
            0) {
            return 0;
        }
    }
    return api_must(spec, word, err, "one of the objects that it may be");
}

int api_check_value(const struct api_param *spec, const char *word, const json_t *value,
                    struct err *err)
{
    struct api_param item = {.name = spec->name, .object = spec->object};

    if (spec->nullable && json_is_null(value)) {
        return 0;
    }
    switch (spec->type) {
    case API_STRING:
    case API_ID:
    case API_DIGEST:
    case API_TIME:
        return check_text(spec, word, value, err);
    case API_BYTES:
        return check_bytes(spec, word, value, err);
    case API_BOOL:
        return json_is_boolean(value) ? 0 : api_must(spec, word, err, "true or false");
    case API_INT:
        return json_is_integer(value) ? api_check_int(spec, word, json_integer_value(value), err)
                                      : api_must(spec, word, err, "an integer");
    case API_BYTES_LIST:
        item.type = API_BYTES;
        return check_list(spec, &item, word, value, err);
    case API_LABELS:
        return check_labels(spec, word, value, err);
    case API_OBJECT:
        return check_members(spec->object->members, &(struct context){word, spec->name}, value,
                             err);
    case API_MEMBERS:
        item.type = API_STRING;
        return check_list(spec, &item, word, value, err) < 0
                   ? -1
                   : check_member_names(spec, word, value, err);
    case API_CALL_ID:
        return json_is_integer(value) || json_is_string(value)
                   ? 0
                   : api_must(spec, word, err, "an integer or a string");
    case API_STRINGS:
        item.type = API_STRING;
        return check_list(spec, &item, word, value, err);
    case API_COUNTS:
        return check_counts(spec, word, value, err);
    case API_LIST:
        item.type = API_OBJECT;
        return check_list(spec, &item, word, value, err);
    case API_ONE_OF:
        return check_one_of(spec, word, value, err);
    case API_SCALAR:
        return json_is_boolean(value) || json_is_integer(value)
                   ? 0
                   : check_bytes(spec, word, value, err);
    }
    return err_set(err, ERR_INTERNAL, "%s '%s' has no type", word, spec->name);
}

/* specs NULL: any object will do. */
static int check_members(const struct api_param *specs, const struct context *c,
                         const json_t *object, struct err *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(object)) {
        return err_set(err, ERR_INVALID, "'%s' must be an object", c->where);
    }
    if (!specs) {
        return 0;
    }
    json_object_foreach ((json_t *)object, key, value) {
        const struct api_param *spec = api_member_find(specs, key);

        if (!spec) {
            return unknown_member(specs, c, key, err);
        }
        if (api_check_value(spec, c->word, value, err) < 0) {
            return -1;
        }
    }
    for (; specs->name; specs++) {
        if (specs->required && !json_object_get(object, specs->name)) {
            return err_set(err, ERR_INVALID, "%s '%s' of '%s' is missing", c->word, specs->name,
                           c->where);
        }
    }
    return 0;
}

int api_validate(const struct api_method *m, const json_t *params, struct err *err)
{
    if (check_members(m->params, &(struct context){"parameter", m->name}, params, err) == 0) {
        return 0;
    }
    return err->hint[0] ? -1 : err_hint(err, "docs/PROTOCOL.md describes the call '%s'", m->name);
}

/* Replies ---------------------------------------------------------------------------------------*/

int api_broken(const char *what, const char *name, struct err *err)
{
    err->code = ERR_INTERNAL;
    err_hint(err, "this is a bug in banger");
    return err_wrap(err, "the %s '%s' breaks the protocol", what, name);
}

int api_check_result(const struct api_method *m, const json_t *result, struct err *err)
{
    const struct api_param whole = {.name = m->result.object->name,
                                    .type = m->result.list ? API_LIST : API_OBJECT,
                                    .object = m->result.object,
                                    .nullable = m->result.nullable};
    _cleanup_json_ json_t *empty = result ? NULL : json_object();

    return api_check_value(&whole, "member", result ? result : empty, err) == 0
               ? 0
               : api_broken("reply to", m->name, err);
}

int api_check_notification(const char *name, const json_t *params, struct err *err)
{
    for (const struct api_notification *n = api_notifications; n->name; n++) {
        if (str_eq(n->name, name)) {
            return check_members(n->params->members, &(struct context){"member", n->params->name},
                                 params, err) == 0
                       ? 0
                       : api_broken("notification", name, err);
        }
    }
    err_set(err, ERR_INVALID, "there is no such notification");
    return api_broken("notification", name, err);
}

/* Defaults --------------------------------------------------------------------------------------*/

json_t *api_default(const struct api_param *p)
{
    switch (p->type) {
    case API_BOOL:
        return json_boolean(str_eq(p->fallback, "true"));
    case API_INT:
        return json_integer(strtoll(p->fallback, NULL, 10));
    default:
        assert(p->type == API_STRING);
        return json_string(p->fallback);
    }
}

static void fill(const struct api_param *specs, json_t *object)
{
    for (; specs && specs->name; specs++) {
        json_t *value = json_object_get(object, specs->name);

        if (!value && specs->fallback) {
            json_put(object, specs->name, api_default(specs));
        } else if (value && specs->type == API_OBJECT) {
            fill(specs->object->members, value);
        }
    }
}

void api_fill_defaults(const struct api_method *m, json_t *params)
{
    fill(m->params, params);
}

bool api_given(const json_t *params, const char *name)
{
    const json_t *value = json_object_get(params, name);

    return value && !json_is_null(value);
}

const char *api_str(const json_t *params, const char *name)
{
    const json_t *value = json_object_get(params, name);

    assert(!value || json_is_string(value));
    return json_string_value(value);
}

long long api_int(const json_t *params, const char *name)
{
    const json_t *value = json_object_get(params, name);

    assert(json_is_integer(value));
    return json_integer_value(value);
}

bool api_flag(const json_t *params, const char *name)
{
    const json_t *value = json_object_get(params, name);

    assert(json_is_boolean(value));
    return json_is_true(value);
}
