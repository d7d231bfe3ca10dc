/* JSON-RPC messages. */
#include "codec/rpc.h"

#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *line, struct rpc_message *m, struct err *err)
{
    return rpc_parse(line, strlen(line), m, err);
}

static void requests_notifications_and_replies_are_told_apart(void **state)
{
    struct rpc_message m;
    struct err err;

    (void)state;
    assert_int_equal(
        parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"vm.list\",\"params\":{\"all\":true}}", &m,
              &err),
        0);
    assert_string_equal(m.method, "vm.list");
    assert_int_equal(json_integer_value(m.id), 1);
    assert_true(json_flag(m.params, "all", false));
    rpc_message_done(&m);

    assert_int_equal(parse("{\"jsonrpc\":\"2.0\",\"method\":\"x\"}", &m, &err), 0);
    assert_null(m.id);
    assert_true(json_is_object(m.params));
    rpc_message_done(&m);

    assert_int_equal(parse("{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"result\":null}", &m, &err), 0);
    assert_null(m.method);
    assert_true(json_is_null(m.result));
    assert_string_equal(json_string_value(m.id), "a");
    rpc_message_done(&m);

    assert_int_equal(parse("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":1}}", &m, &err),
                     0);
    assert_null(m.id);
    assert_non_null(m.error);
    rpc_message_done(&m);
}

static void malformed_messages_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "1",
        "[]",
        "{}",
        "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}]",
        "{\"id\":1,\"method\":\"x\"}",
        "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"x\"}",
        "{\"jsonrpc\":2.0,\"id\":1,\"method\":\"x\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"x\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"x\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"x\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":[]}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":null}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"result\":1}",
        "{\"jsonrpc\":\"2.0\",\"id\":1}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":\"x\"}",
        "{\"jsonrpc\":\"2.0\",\"result\":1}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct rpc_message m;
        struct err err;

        if (parse(bad[i], &m, &err) == 0) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_int_equal(err.code, ERR_INVALID);
        rpc_message_done(&m);
    }
}

static void id_of_a_malformed_request_can_be_answered(void **state)
{
    struct rpc_message m;
    struct err err;

    (void)state;
    assert_int_equal(
        parse("{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"x\",\"params\":[1]}", &m, &err), -1);
    assert_int_equal(json_integer_value(m.id), 9);
    rpc_message_done(&m);
}

static void what_is_printed_is_one_line_that_parses(void **state)
{
    struct rpc_message m;
    json_t *params = json_object();
    _cleanup_free_ char *line = NULL;
    struct err err;

    (void)state;
    json_put_str(params, "text", "a\nb\x01");
    line = rpc_request(3, "vm.show", params);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    assert_int_equal(parse(line, &m, &err), 0);
    assert_string_equal(json_str(m.params, "text", ""), "a\nb\x01");
    rpc_message_done(&m);
}

static void errors_survive_the_wire(void **state)
{
    struct err out, in;

    (void)state;
    for (unsigned code = ERR_NONE + 1; code < ERR_CODE_COUNT; code++) {
        _cleanup_free_ char *line = NULL;
        struct rpc_message m;
        struct err err;

        err_set(&out, (enum err_code)code, "no VM 'x'");
        err_hint(&out, "try y");
        line = rpc_error(NULL, &out, "op1", NULL);
        assert_int_equal(parse(line, &m, &err), 0);
        assert_string_equal(json_str(json_object_get(m.error, "data"), "op", ""), "op1");
        assert_int_equal(json_int(m.error, "code", 0), err_code_number((enum err_code)code));
        rpc_error_read(m.error, &in);
        assert_int_equal(in.code, code);
        assert_string_equal(in.message, "no VM 'x'");
        assert_string_equal(in.hint, "try y");
        rpc_message_done(&m);
    }
}

static void error_of_a_newer_daemon_is_internal(void **state)
{
    _cleanup_json_ json_t *object = json_object();
    struct err err;

    (void)state;
    rpc_error_read(object, &err);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_true(strlen(err.message) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_notifications_and_replies_are_told_apart),
        cmocka_unit_test(malformed_messages_are_refused),
        cmocka_unit_test(id_of_a_malformed_request_can_be_answered),
        cmocka_unit_test(what_is_printed_is_one_line_that_parses),
        cmocka_unit_test(errors_survive_the_wire),
        cmocka_unit_test(error_of_a_newer_daemon_is_internal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
