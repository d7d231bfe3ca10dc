#include "api_example.h"

#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define ID "0123456789abcdef0123456789abcdef"

static json_t *example_list(const struct api_param *p, json_t *(*element)(const struct api_param *))
{
    json_t *list = json_array();

    while (json_array_size(list) < (size_t)p->min) {
        json_array_append_new(list, element(p));
    }
    return list;
}

static json_t *example_string(const struct api_param *p)
{
    if (p->type == API_STRING && p->choices) {
        return json_stringn(p->choices, strcspn(p->choices, "|"));
    }
    return p->type == API_STRING && p->min > 1 ? json_stringn(ID, (size_t)p->min)
                                               : json_string("x");
}

static json_t *example_member(const struct api_param *p)
{
    return api_example_object(p->object);
}

json_t *api_example_value(const struct api_param *p)
{
    switch (p->type) {
    case API_STRING:
    case API_BYTES:
        return example_string(p);
    case API_SCALAR:
    case API_BOOL:
        return json_false();
    case API_CALL_ID:
    case API_INT:
        return json_integer(p->min);
    case API_BYTES_LIST:
    case API_STRINGS:
        return example_list(p, example_string);
    case API_LABELS:
    case API_COUNTS:
        return json_object();
    case API_MEMBERS:
        return json_array();
    case API_OBJECT:
        return example_member(p);
    case API_ID:
        return json_string(ID);
    case API_DIGEST:
        return json_string("sha256:" ID ID);
    case API_TIME:
        return json_string("2026-11-23T16:02:03.004Z");
    case API_LIST:
        return example_list(p, example_member);
    case API_ONE_OF:
        return api_example_object(p->objects[0]);
    }
    abort();
}

json_t *api_example_object(const struct api_object *o)
{
    json_t *object = json_object();

    for (const struct api_param *p = o->members; p && p->name; p++) {
        if (p->required) {
            json_put(object, p->name, p->nullable ? json_null() : api_example_value(p));
        }
    }
    return object;
}

json_t *api_example_result(const struct api_method *m)
{
    json_t *list;

    if (!m->result.list) {
        return api_example_object(m->result.object);
    }
    list = json_array();
    json_array_append_new(list, api_example_object(m->result.object));
    return list;
}
