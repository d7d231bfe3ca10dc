#include "codec/rpc.h"

#include "base/str.h"

#include <stdlib.h>
#include <string.h>

static int check_shape(const json_t *root, struct rpc_message *m, struct err *err)
{
    const json_t *id = json_object_get(root, "id");
    const json_t *method = json_object_get(root, "method");
    const json_t *params = json_object_get(root, "params");
    const json_t *result = json_object_get(root, "result");
    const json_t *error = json_object_get(root, "error");

    if (id && !json_is_integer(id) && !json_is_string(id) && !(json_is_null(id) && error)) {
        return err_set(err, ERR_INVALID, "request id must be an integer or a string");
    }
    if (json_is_string(id) && json_string_length(id) > RPC_ID_MAX) {
        return err_set(err, ERR_INVALID, "request id is longer than %d bytes", RPC_ID_MAX);
    }
    if (id && !json_is_null(id)) {
        m->id = json_incref((json_t *)id);
    }
    if (!str_eq(json_str(root, "jsonrpc", NULL), "2.0")) {
        return err_set(err, ERR_INVALID, "not a JSON-RPC 2.0 message");
    }
    if (method) {
        if (!json_is_string(method) || json_string_length(method) > 64 || result || error) {
            return err_set(err, ERR_INVALID, "malformed JSON-RPC request");
        }
        if (params && !json_is_object(params)) {
            return err_set(err, ERR_INVALID, "params must be an object");
        }
        m->method = x_strdup(json_string_value(method));
        m->params = params ? json_incref((json_t *)params) : json_object();
        return 0;
    }
    if (!!result == !!error || (error && !json_is_object(error)) || !id) {
        return err_set(err, ERR_INVALID, "neither a JSON-RPC request nor a reply");
    }
    m->result = json_incref((json_t *)result);
    m->error = json_incref((json_t *)error);
    return 0;
}

int rpc_parse(const char *line, size_t len, struct rpc_message *ret_message, struct err *err)
{
    _cleanup_json_ json_t *root = NULL;

    *ret_message = (struct rpc_message){0};
    if (json_parse(line, len, &root, err) < 0) {
        return -1;
    }
    if (!json_is_object(root)) {
        return err_set(err, ERR_INVALID, "a JSON-RPC message must be an object (no batches)");
    }
    return check_shape(root, ret_message, err);
}

void rpc_message_done(struct rpc_message *m)
{
    json_decref(m->id);
    free(m->method);
    json_decref(m->params);
    json_decref(m->result);
    json_decref(m->error);
    *m = (struct rpc_message){0};
}

static char *print_line(json_t *root)
{
    _cleanup_free_ char *text = json_print(root);
    size_t len = strlen(text);
    char *line = realloc(text, len + 2);

    if (!line) {
        abort();
    }
    (void)STEAL_PTR(text);
    json_decref(root);
    memcpy(line + len, "\n", 2);
    return line;
}

static json_t *message_new(void)
{
    json_t *root = json_object();

    json_put_str(root, "jsonrpc", "2.0");
    return root;
}

char *rpc_request(long long id, const char *method, json_t *params)
{
    json_t *root = message_new();

    json_put_int(root, "id", id);
    json_put_str(root, "method", method);
    json_put(root, "params", params ? params : json_object());
    return print_line(root);
}

char *rpc_notification(const char *method, json_t *params)
{
    json_t *root = message_new();

    json_put_str(root, "method", method);
    json_put(root, "params", params);
    return print_line(root);
}

int rpc_result_begin(struct buf *line, const json_t *id)
{
    _cleanup_free_ char *text = json_print(id);

    return buf_printf(line, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":", text);
}

int rpc_result_end(struct buf *line)
{
    return buf_append_str(line, "}\n");
}

char *rpc_result(const json_t *id, json_t *result)
{
    json_t *root = message_new();

    json_put(root, "id", json_incref((json_t *)id));
    json_put(root, "result", result ? result : json_null());
    return print_line(root);
}

json_t *rpc_error_object(const struct err *e, const char *op, const char *object)
{
    json_t *error = json_object();
    json_t *data = json_object();

    json_put_int(error, "code", err_code_number(e->code));
    json_put_str(error, "message", e->message);
    json_put_str(data, "code", err_code_name(e->code));
    json_put_str(data, "hint", e->hint[0] ? e->hint : NULL);
    json_put_str(data, "op", op);
    json_put_str(data, "object", object);
    json_put(error, "data", data);
    return error;
}

char *rpc_error(const json_t *id, const struct err *e, const char *op, const char *object)
{
    json_t *root = message_new();

    json_put(root, "id", id ? json_incref((json_t *)id) : json_null());
    json_put(root, "error", rpc_error_object(e, op, object));
    return print_line(root);
}

void rpc_error_read(const json_t *object, struct err *ret_err)
{
    const json_t *data = json_object_get(object, "data");
    const char *hint = json_str(data, "hint", "");

    err_set(ret_err, err_code_from_name(json_str(data, "code", "internal")), "%s",
            json_str(object, "message", "the daemon gave no message"));
    if (hint[0]) {
        err_hint(ret_err, "%s", hint);
    }
}
