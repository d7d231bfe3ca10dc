/* Any line to the daemon: parsed, checked by the method table, answered. */
#include "base/attr.h"
#include "codec/api.h"
#include "codec/rpc.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_answer(const struct rpc_message *m, const struct err *err)
{
    _cleanup_free_ char *line = rpc_error(m->id, err, NULL, NULL);
    _cleanup_rpc_message_ struct rpc_message back = {0};
    struct err again;

    /* What we answer is one line, and we can read it. */
    assert(strchr(line, '\n') == line + strlen(line) - 1);
    assert(rpc_parse(line, strlen(line), &back, &again) == 0);
    rpc_error_read(back.error, &again);
    assert(again.code == err->code);
}

static void check_bytes(const json_t *list)
{
    const json_t *item;
    size_t i;

    json_array_foreach ((json_t *)list, i, item) {
        _cleanup_free_ char *bytes = NULL;
        _cleanup_json_ json_t *back = NULL;
        size_t len;

        assert(json_bytes_get(item, &bytes, &len) == 0);
        assert(strlen(bytes) == len);
        back = json_bytes_new(bytes, len);
        assert(back);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_rpc_message_ struct rpc_message m = {0};
    const struct api_method *method;
    struct err err = {0};

    if (rpc_parse((const char *)data, size, &m, &err) < 0) {
        check_answer(&m, &err);
        return 0;
    }
    if (m.error) {
        rpc_error_read(m.error, &err);
    }
    method = m.method ? api_method_find(m.method) : NULL;
    if (!method) {
        return 0;
    }
    if (api_validate(method, m.params, &err) < 0) {
        check_answer(&m, &err);
    } else {
        api_fill_defaults(method, m.params);
        assert(api_validate(method, m.params, &err) == 0);
        check_bytes(json_object_get(m.params, "command"));
        check_bytes(json_object_get(m.params, "env"));
    }
    return 0;
}
