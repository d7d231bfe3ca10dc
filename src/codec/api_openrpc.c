/*
 * The tables as an OpenRPC 1.2 document (https://spec.open-rpc.org) with JSON Schema draft 7
 * (https://json-schema.org/draft-07). Every object is a component that allows no other members.
 */
#include "base/str.h"
#include "codec/api.h"

#include <string.h>

static json_t *typed(const char *type)
{
    json_t *schema = json_object();

    json_put_str(schema, "type", type);
    return schema;
}

static json_t *reference(const char *name)
{
    _cleanup_free_ char *path = x_asprintf("#/components/schemas/%s", name);
    json_t *schema = json_object();

    json_put_str(schema, "$ref", path);
    return schema;
}

static json_t *list_of(json_t *items)
{
    json_t *schema = typed("array");

    json_put(schema, "items", items);
    return schema;
}

static json_t *matching(const char *pattern)
{
    json_t *schema = typed("string");

    json_put_str(schema, "pattern", pattern);
    return schema;
}

static json_t *nullable(json_t *schema)
{
    json_t *either = json_object(), *both = json_array();

    json_array_append_new(both, schema);
    json_array_append_new(both, typed("null"));
    json_put(either, "anyOf", both);
    return either;
}

static json_t *choices_array(const char *choices)
{
    json_t *values = json_array();

    while (*choices) {
        size_t len = strcspn(choices, "|");

        json_array_append_new(values, json_stringn(choices, len));
        choices += len + (choices[len] == '|');
    }
    return values;
}

static json_t *bytes_schema(void)
{
    json_t *schema = json_object(), *either = json_array(), *object = typed("object");
    json_t *properties = json_object(), *required = json_array(), *base64 = typed("string");

    json_put_str(base64, "contentEncoding", "base64");
    json_put(properties, "base64", base64);
    json_array_append_new(required, json_string("base64"));
    json_put(object, "properties", properties);
    json_put(object, "required", required);
    json_put_bool(object, "additionalProperties", false);
    json_array_append_new(either, typed("string"));
    json_array_append_new(either, object);
    json_put_str(schema, "description", "Any bytes but NUL; a string where they are UTF-8.");
    json_put(schema, "oneOf", either);
    return schema;
}

/* JSON Schema counts characters, the table bytes: a longer text is for the daemon to refuse. */
static json_t *string_schema(const struct api_param *p)
{
    json_t *schema = typed("string");

    if (p->choices) {
        json_put(schema, "enum", choices_array(p->choices));
    } else if (p->max > 0) {
        json_put_int(schema, "minLength", p->min > 0);
        json_put_int(schema, "maxLength", p->max);
    }
    return schema;
}

static json_t *int_schema(const struct api_param *p)
{
    json_t *schema = typed("integer");

    json_put_int(schema, "minimum", p->min);
    json_put_int(schema, "maximum", p->max);
    return schema;
}

static json_t *labels_schema(const struct api_param *p)
{
    json_t *schema = typed("object"), *value = typed("string"), *names = typed("string");

    json_put_int(value, "maxLength", 256);
    json_put_int(names, "minLength", 1);
    json_put_int(names, "maxLength", 64);
    json_put(schema, "additionalProperties", value);
    json_put(schema, "propertyNames", names);
    json_put_int(schema, "maxProperties", p->max);
    return schema;
}

static json_t *counts_schema(const struct api_param *p)
{
    json_t *schema = typed("object"), *value = typed("integer"), *names = json_object();

    json_put_int(value, "minimum", 0);
    json_put(schema, "additionalProperties", value);
    json_put(names, "enum", choices_array(p->choices));
    json_put(schema, "propertyNames", names);
    return schema;
}

static json_t *one_of_schema(const struct api_param *p)
{
    json_t *schema = json_object(), *either = json_array();

    for (const struct api_object *const *o = p->objects; *o; o++) {
        json_array_append_new(either, reference((*o)->name));
    }
    json_put(schema, "oneOf", either);
    return schema;
}

static json_t *scalar_schema(void)
{
    json_t *schema = json_object(), *either = json_array();

    json_array_append_new(either, reference("Bytes"));
    json_array_append_new(either, typed("integer"));
    json_array_append_new(either, typed("boolean"));
    json_put(schema, "anyOf", either);
    return schema;
}

static json_t *call_id_schema(void)
{
    json_t *schema = json_object(), *types = json_array();

    json_array_append_new(types, json_string("integer"));
    json_array_append_new(types, json_string("string"));
    json_put(schema, "type", types);
    return schema;
}

static json_t *bounded_list(const struct api_param *p, json_t *items)
{
    json_t *schema = list_of(items);

    if (p->max > 0) {
        json_put_int(schema, "minItems", p->min);
        json_put_int(schema, "maxItems", p->max);
    }
    return schema;
}

static json_t *names_schema(const struct api_object *o)
{
    json_t *schema = typed("string"), *names = json_array();

    for (const struct api_param *p = o->members; p->name; p++) {
        const struct api_param *inner = p->type == API_OBJECT ? p->object->members : NULL;

        json_array_append_new(names, json_string(p->name));
        for (; inner && inner->name; inner++) {
            json_array_append_new(names, json_sprintf("%s.%s", p->name, inner->name));
        }
    }
    json_put(schema, "enum", names);
    return schema;
}

static json_t *type_schema(const struct api_param *p)
{
    switch (p->type) {
    case API_STRING:
        return string_schema(p);
    case API_BYTES:
        return reference("Bytes");
    case API_BOOL:
        return typed("boolean");
    case API_INT:
        return int_schema(p);
    case API_BYTES_LIST:
        return bounded_list(p, reference("Bytes"));
    case API_LABELS:
        return labels_schema(p);
    case API_OBJECT:
        return reference(p->object->name);
    case API_CALL_ID:
        return call_id_schema();
    case API_ID:
        return matching("^[0-9a-f]{32}$");
    case API_DIGEST:
        return matching("^sha256:[0-9a-f]{64}$");
    case API_TIME:
        return matching("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$");
    case API_STRINGS:
        return bounded_list(p, typed("string"));
    case API_MEMBERS:
        return bounded_list(p, names_schema(p->object));
    case API_COUNTS:
        return counts_schema(p);
    case API_LIST:
        return bounded_list(p, reference(p->object->name));
    case API_ONE_OF:
        return one_of_schema(p);
    case API_SCALAR:
        return scalar_schema();
    }
    abort();
}

static json_t *param_schema(const struct api_param *p)
{
    json_t *schema = p->nullable ? nullable(type_schema(p)) : type_schema(p);

    if (p->fallback) {
        json_put(schema, "default", api_default(p));
    }
    return schema;
}

static json_t *object_schema(const struct api_object *o)
{
    json_t *schema = typed("object"), *properties = NULL, *required = NULL;

    json_put_str(schema, "description", o->doc);
    if (!o->members) {
        return schema;
    }
    properties = json_object();
    required = json_array();
    for (const struct api_param *p = o->members; p->name; p++) {
        json_t *member = param_schema(p);

        /* Draft 7 ignores what stands beside a reference. */
        if (!json_object_get(member, "$ref")) {
            json_put_str(member, "description", p->doc);
        }
        json_put(properties, p->name, member);
        if (p->required) {
            json_array_append_new(required, json_string(p->name));
        }
    }
    json_put(schema, "properties", properties);
    json_put(schema, "required", required);
    json_put_bool(schema, "additionalProperties", false);
    return schema;
}

/* Any of its members, and the id; any of the members of those. */
static json_t *partial_schema(const struct api_object *o)
{
    json_t *schema = object_schema(o), *required = json_array(),
           *properties = json_object_get(schema, "properties");

    json_array_append_new(required, json_string("id"));
    json_put(schema, "required", required);
    for (const struct api_param *p = o->members; p->name; p++) {
        if (p->type == API_OBJECT && p->object->members) {
            json_t *inner = object_schema(p->object);

            json_object_del(inner, "required");
            json_put(properties, p->name, p->nullable ? nullable(inner) : inner);
        }
    }
    return schema;
}

static json_t *result_schema(const struct api_result *r)
{
    json_t *schema = r->partial ? partial_schema(r->object) : reference(r->object->name);

    schema = r->list ? list_of(schema) : schema;
    return r->nullable ? nullable(schema) : schema;
}

static json_t *method_document(const struct api_method *m)
{
    json_t *method = json_object(), *params = json_array(), *result = json_object();

    for (const struct api_param *p = m->params; p->name; p++) {
        json_t *param = json_object();

        json_put_str(param, "name", p->name);
        json_put_str(param, "description", p->doc);
        json_put_bool(param, "required", p->required);
        json_put(param, "schema", param_schema(p));
        json_array_append_new(params, param);
    }
    json_put_str(result, "name", "result");
    json_put(result, "schema", result_schema(&m->result));
    json_put_str(method, "name", m->name);
    json_put_str(method, "description", m->doc);
    json_put_str(method, "paramStructure", "by-name");
    json_put(method, "params", params);
    json_put(method, "result", result);
    /* What OpenRPC has no word for. */
    json_put_bool(method, "x-notifies", m->flags & API_NOTIFIES);
    json_put_bool(method, "x-takes-over", m->flags & API_TAKES_OVER);
    return method;
}

/* OpenRPC knows no notifications of a server. */
static json_t *notifications(void)
{
    json_t *all = json_array();

    for (const struct api_notification *n = api_notifications; n->name; n++) {
        json_t *o = json_object();

        json_put_str(o, "name", n->name);
        json_put_str(o, "description", n->doc);
        json_put_str(o, "method", n->method);
        json_put(o, "params", reference(n->params->name));
        json_array_append_new(all, o);
    }
    return all;
}

static json_t *components(void)
{
    json_t *all = json_object(), *schemas = json_object(), *errors = json_object();

    json_put(schemas, "Bytes", bytes_schema());
    for (const struct api_object *const *o = api_objects; *o; o++) {
        json_put(schemas, (*o)->name, object_schema(*o));
    }
    for (unsigned code = ERR_NONE + 1; code < ERR_CODE_COUNT; code++) {
        json_t *error = json_object();

        json_put_int(error, "code", err_code_number((enum err_code)code));
        json_put_str(error, "message", err_code_name((enum err_code)code));
        json_put(errors, err_code_name((enum err_code)code), error);
    }
    json_put(all, "schemas", schemas);
    json_put(all, "errors", errors);
    return all;
}

json_t *api_openrpc(const char *version)
{
    json_t *root = json_object(), *info = json_object(), *methods = json_array();

    json_put_str(info, "title", "banger");
    json_put_str(info, "version", version);
    for (const struct api_method *m = api_methods; m->name; m++) {
        json_array_append_new(methods, method_document(m));
    }
    json_put_str(root, "openrpc", "1.2.6");
    json_put(root, "info", info);
    json_put(root, "methods", methods);
    json_put(root, "components", components());
    json_put(root, "x-notifications", notifications());
    return root;
}
