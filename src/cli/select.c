#include "cli/select.h"

#include "base/str.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_MAX 64
#define TEXT_SIZE 32

/* Keys ------------------------------------------------------------------------------------------*/

static const struct api_param *find_member(const struct api_object *object, const char *name,
                                           size_t len)
{
    for (const struct api_param *p = object->members; p && p->name; p++) {
        if (strlen(p->name) == len && strncmp(p->name, name, len) == 0) {
            return p;
        }
    }
    return NULL;
}

static int unknown_key(const struct api_object *object, const char *key, struct err *err)
{
    _cleanup_free_ char *safe = str_escape(key, strlen(key), 64);
    const char *names[KEYS_MAX], *near;
    size_t count = 0;

    for (const struct api_param *p = object->members; p && p->name && count < KEYS_MAX; p++) {
        names[count++] = p->name;
    }
    err_set(err, ERR_INVALID, "nothing that is listed has a '%s'", safe);
    near = str_nearest(key, names, count);
    return near ? err_hint(err, "did you mean '%s'?", near)
                : err_hint(err, "--format json shows what there is");
}

static int check_key(const struct api_object *object, const char *key, struct err *err)
{
    const char *rest = key;

    for (const struct api_object *o = object; o;) {
        size_t len = strcspn(rest, ".");
        const struct api_param *p = find_member(o, rest, len);

        if (!p) {
            return unknown_key(o, rest, err);
        }
        if (rest[len] == '\0' || p->type == API_LABELS) {
            return 0;
        }
        rest += len + 1;
        o = p->type == API_OBJECT ? p->object : NULL;
    }
    return unknown_key(object, key, err);
}

/* "image.name": what is there in the row, or NULL. Names of labels may have dots. */
static const json_t *value_of(const json_t *row, const char *key)
{
    for (;;) {
        size_t len = strcspn(key, ".");
        _cleanup_free_ char *name = x_strndup(key, len);
        const json_t *whole = json_object_get(row, key), *part = json_object_get(row, name);

        if (whole || key[len] == '\0') {
            return whole;
        }
        row = part;
        key += len + 1;
    }
}

/* Flags -----------------------------------------------------------------------------------------*/

static int add_filter(struct select *s, const char *text, const struct api_object *object,
                      struct err *err)
{
    struct select_filter *f = &s->filters[s->filter_count];
    const char *equals = strchr(text, '=');
    size_t len;

    if (!equals || equals == text) {
        _cleanup_free_ char *safe = str_escape(text, strlen(text), 64);

        err_set(err, ERR_INVALID, "--filter: '%s' is not KEY=PATTERN", safe);
        return err_hint(err, "for example: --filter state=running");
    }
    f->negated = equals[-1] == '!';
    len = (size_t)(equals - text) - f->negated;
    f->key = x_strndup(text, len);
    f->pattern = equals + 1;
    s->filter_count++;
    return check_key(object, f->key, err);
}

int select_parse(const struct cli_args *args, const char *method, struct select *ret,
                 struct err *err)
{
    const struct api_object *object = api_method_find(method)->result.object;

    *ret = (struct select){.filters = x_calloc(args->given_count + 1, sizeof(*ret->filters))};
    for (size_t i = 0; i < args->given_count; i++) {
        const struct cli_given *g = &args->given[i];

        if (str_eq(g->flag->name, "filter") && add_filter(ret, g->value, object, err) < 0) {
            return -1;
        }
    }
    ret->sort = cli_arg(args, "sort");
    ret->reverse = cli_arg(args, "reverse") != NULL;
    return ret->sort ? check_key(object, ret->sort, err) : 0;
}

void select_done(struct select *s)
{
    for (size_t i = 0; i < s->filter_count; i++) {
        free(s->filters[i].key);
    }
    free(STEAL_PTR(s->filters));
    s->filter_count = 0;
}

bool select_is_all(const struct select *s)
{
    return s->filter_count == 0 && !s->sort && !s->reverse;
}

bool select_filters(const struct select *s, const char *key)
{
    for (size_t i = 0; i < s->filter_count; i++) {
        if (str_eq(s->filters[i].key, key)) {
            return true;
        }
    }
    return false;
}

static void add_member(char **members, const char *key)
{
    size_t len = strcspn(key, ".");
    _cleanup_free_ char *before = *members;

    for (const char *p = before; *p; p += p[strcspn(p, "|")] == '|') {
        if (strcspn(p, "|") == len && strncmp(p, key, len) == 0) {
            before = NULL; /* it is there, and stays */
            return;
        }
        p += strcspn(p, "|");
    }
    *members = x_asprintf("%s|%.*s", before, (int)len, key);
}

char *select_members(const struct select *s, const char *shown)
{
    char *members = x_strdup(shown);

    for (size_t i = 0; i < s->filter_count; i++) {
        add_member(&members, s->filters[i].key);
    }
    if (s->sort) {
        add_member(&members, s->sort);
    }
    return members;
}

/* Rows ------------------------------------------------------------------------------------------*/

/* A single value as JSON writes it, but a string without its quotes; null is "". */
static const char *text_of(const json_t *value, char number[TEXT_SIZE])
{
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_STRING:
        return json_string_value(value);
    case JSON_INTEGER:
        (void)snprintf(number, TEXT_SIZE, "%lld", (long long)json_integer_value(value));
        return number;
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    default:
        return "";
    }
}

/* Of a list, one of its values. */
static bool matches(const json_t *value, const char *pattern)
{
    char number[TEXT_SIZE];

    for (size_t i = 0; i < json_array_size(value); i++) {
        if (matches(json_array_get(value, i), pattern)) {
            return true;
        }
    }
    return !json_is_array(value) && !json_is_object(value) &&
           fnmatch(pattern, text_of(value, number), 0) == 0;
}

static bool is_shown(const struct select *s, const json_t *row)
{
    for (size_t i = 0; i < s->filter_count; i++) {
        const struct select_filter *f = &s->filters[i];
        bool holds = false;

        if (f->negated) {
            if (matches(value_of(row, f->key), f->pattern)) {
                return false;
            }
            continue;
        }
        for (size_t k = 0; k < s->filter_count; k++) {
            const struct select_filter *other = &s->filters[k];

            holds = holds || (!other->negated && str_eq(other->key, f->key) &&
                              matches(value_of(row, other->key), other->pattern));
        }
        if (!holds) {
            return false;
        }
    }
    return true;
}

struct sorted {
    json_t *row;
    const struct select *select;
    size_t at; /* where it came: equals keep their order */
};

static int compare(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    char one[TEXT_SIZE], two[TEXT_SIZE];
    int order = 0;

    if (x->select->sort) {
        const json_t *v = value_of(x->row, x->select->sort);
        const json_t *w = value_of(y->row, x->select->sort);
        long long n = json_integer_value(v), m = json_integer_value(w);

        order = json_is_integer(v) && json_is_integer(w) ? (n > m) - (n < m)
                                                         : strcmp(text_of(v, one), text_of(w, two));
    }
    if (order == 0) {
        order = (x->at > y->at) - (x->at < y->at);
    }
    return x->select->reverse ? -order : order;
}

json_t *select_rows(const struct select *s, const json_t *rows)
{
    size_t count = 0, size = json_array_size(rows);
    struct sorted *sorted = x_calloc(size + 1, sizeof(*sorted));
    json_t *array = json_array();

    for (size_t i = 0; i < size; i++) {
        json_t *row = json_array_get(rows, i);

        if (is_shown(s, row)) {
            sorted[count] = (struct sorted){.row = row, .select = s, .at = count};
            count++;
        }
    }
    qsort(sorted, count, sizeof(*sorted), compare);
    for (size_t i = 0; i < count; i++) {
        json_array_append(array, sorted[i].row);
    }
    free(sorted);
    return array;
}
