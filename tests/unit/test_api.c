/* The method table, what is checked by it, and what is printed from it. */
#include "base/fs.h"
#include "base/str.h"
#include "codec/api.h"
#include "codec/frame.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Checks a request; expected NULL = fine, else part of the message. */
static void check(const char *method, const char *params, const char *expected)
{
    const struct api_method *m = api_method_find(method);
    _cleanup_json_ json_t *value = NULL;
    struct err err = {0};
    int r;

    assert_non_null(m);
    assert_int_equal(json_parse(params, strlen(params), &value, &err), 0);
    r = api_validate(m, value, &err);
    if (!expected) {
        if (r < 0) {
            fail_msg("%s %s: %s", method, params, err.message);
        }
        return;
    }
    if (r == 0) {
        fail_msg("%s accepted %s", method, params);
    }
    assert_int_equal(err.code, ERR_INVALID);
    if (!strstr(err.message, expected) && !strstr(err.hint, expected)) {
        fail_msg("%s %s: %s (%s)", method, params, err.message, err.hint);
    }
}

static void each_method_and_parameter_is_described_once(void **state)
{
    (void)state;
    for (const struct api_method *m = api_methods; m->name; m++) {
        assert_ptr_equal(api_method_find(m->name), m);
        assert_true(m->doc && *m->doc && m->result && *m->result);
        for (const struct api_param *p = m->params; p->name; p++) {
            assert_ptr_equal(api_param_find(m, p->name), p);
            assert_true(p->doc && *p->doc && *api_type_name(p->type));
            assert_true(p->min <= p->max || p->max == 0);
            assert_false(p->required && p->fallback);
        }
    }
    assert_null(api_method_find("vm.lost"));
    assert_null(api_method_find(""));
}

static void defaults_are_within_their_own_limits(void **state)
{
    (void)state;
    for (const struct api_method *m = api_methods; m->name; m++) {
        for (const struct api_param *p = m->params; p->name; p++) {
            struct api_param just[] = {*p, {0}};
            struct api_method one = {.name = "test", .params = just};
            _cleanup_free_ char *text = NULL;
            _cleanup_json_ json_t *value = NULL;
            struct err err;

            if (p->fallback) {
                text = p->type == API_STRING ? x_asprintf("{\"%s\":\"%s\"}", p->name, p->fallback)
                                             : x_asprintf("{\"%s\":%s}", p->name, p->fallback);
                assert_int_equal(json_parse(text, strlen(text), &value, &err), 0);
                if (api_validate(&one, value, &err) < 0) {
                    fail_msg("%s: %s", m->name, err.message);
                }
            }
        }
    }
}

static void requests_are_checked_by_the_table(void **state)
{
    (void)state;
    check("vm.list", "{}", NULL);
    check("vm.list", "{\"all\":false}", NULL);
    check("vm.list", "{\"all\":0}", "true or false");
    check("vm.list", "{\"al\":true}", "did you mean 'all'?");
    check("vm.list", "{\"\\u001b\":true}", "\\x1b");
    check("vm.show", "{}", "'vm' of 'vm.show' is missing");
    check("vm.show", "{\"vm\":\"\"}", "1 to 64 bytes, not 0");
    check("vm.show", "{\"vm\":7}", "must be a string");
    check("vm.stop", "{\"vm\":\"a\",\"timeout_ms\":-1}", "0 to 86400000");
    check("vm.stop", "{\"vm\":\"a\",\"timeout_ms\":1.5}", "integer");
    check("vm.wait", "{\"vm\":\"a\",\"until\":\"run\"}", "one of running|stopped|deleted");
    check("vm.wait", "{\"vm\":\"a\",\"until\":\"running|stopped\"}", "one of");
    check("vm.wait", "{\"vm\":\"a\",\"until\":\"\"}", "one of");
    check("vm.wait", "{\"vm\":\"a\",\"until\":\"stopped\"}", NULL);
    check("vm.create.begin", "{\"vcpus\":65}", "1 to 64");
    check("vm.create.begin", "{\"labels\":{\"a\":\"b\"}}", NULL);
    check("vm.create.begin", "{\"labels\":{\"\":\"b\"}}", "1 to 64 bytes");
    check("vm.create.begin", "{\"labels\":{\"a\":1}}", "string");
    check("vm.create.begin", "{\"labels\":[]}", "object");
}

static void commands_are_any_bytes(void **state)
{
    (void)state;
    check("session.start", "{\"vm\":\"a\",\"command\":[\"x\",{\"base64\":\"/w==\"}]}", NULL);
    check("session.start", "{\"vm\":\"a\",\"command\":[{\"base64\":\"AA==\"}]}", "NUL");
    check("session.start", "{\"vm\":\"a\",\"command\":[{\"base64\":\"x\"}]}", "base64");
    check("session.start", "{\"vm\":\"a\",\"command\":[1]}", "base64");
    check("session.start", "{\"vm\":\"a\",\"command\":\"x\"}", "array");
    check("session.start", "{\"vm\":\"a\"}", "'command'");
    check("session.start", "{\"vm\":\"a\",\"command\":[],\"stdin\":\"tty\"}", "closed|pipe");
    check("session.start", "{\"vm\":\"a\",\"command\":[],\"tty\":{\"rows\":1,\"columns\":1}}",
          NULL);
    check("session.start", "{\"vm\":\"a\",\"command\":[],\"tty\":{\"rows\":0,\"columns\":1}}",
          "1 to 65535");
    check("session.start", "{\"vm\":\"a\",\"command\":[],\"tty\":{\"rows\":1}}", "columns");
}

static void main_session_is_checked_as_a_session(void **state)
{
    (void)state;
    check("vm.create.begin", "{\"main\":{\"command\":[],\"env\":[\"A=b\"]}}", NULL);
    check("vm.create.begin", "{\"main\":{}}", "'command' of 'main' is missing");
    check("vm.create.begin", "{\"main\":{\"command\":[],\"vm\":\"x\"}}", "unknown");
    check("vm.create.begin", "{\"main\":[]}", "'main' must be an object");
}

static const json_t *method_of(const json_t *document, const char *name)
{
    const json_t *method;
    size_t i;

    json_array_foreach (json_object_get(document, "methods"), i, method) {
        if (str_eq(json_str(method, "name", NULL), name)) {
            return method;
        }
    }
    return NULL;
}

static void openrpc_has_every_method_with_its_parameters(void **state)
{
    _cleanup_json_ json_t *document = api_openrpc("1.2.3");

    (void)state;
    assert_string_equal(json_str(document, "openrpc", ""), "1.2.6");
    assert_string_equal(json_str(json_object_get(document, "info"), "version", ""), "1.2.3");
    for (const struct api_method *m = api_methods; m->name; m++) {
        const json_t *params = json_object_get(method_of(document, m->name), "params");
        size_t i = 0;

        for (const struct api_param *p = m->params; p->name; p++, i++) {
            const json_t *param = json_array_get(params, i);

            assert_string_equal(json_str(param, "name", ""), p->name);
            assert_true(json_is_object(json_object_get(param, "schema")));
            assert_int_equal(json_flag(param, "required", false), p->required);
        }
        assert_int_equal(json_array_size(params), i);
    }
}

/* Every "$ref" of the document leads to something. */
static void check_references(const json_t *schemas, const json_t *value)
{
    const char *key;
    json_t *member;
    size_t i;

    json_array_foreach ((json_t *)value, i, member) {
        check_references(schemas, member);
    }
    json_object_foreach ((json_t *)value, key, member) {
        if (str_eq(key, "$ref")) {
            const char *path = json_string_value(member);

            assert_true(str_starts_with(path, "#/components/schemas/"));
            assert_non_null(json_object_get(schemas, strrchr(path, '/') + 1));
        }
        check_references(schemas, member);
    }
}

static void openrpc_references_lead_somewhere(void **state)
{
    _cleanup_json_ json_t *document = api_openrpc("1");
    const json_t *components = json_object_get(document, "components");

    (void)state;
    assert_int_equal(json_object_size(json_object_get(components, "errors")), ERR_CODE_COUNT - 1);
    check_references(json_object_get(components, "schemas"), document);
}

static void markdown_names_every_method_parameter_and_code(void **state)
{
    _cleanup_free_ char *text = api_markdown();

    (void)state;
    for (const struct api_method *m = api_methods; m->name; m++) {
        _cleanup_free_ char *title = x_asprintf("\n### %s\n", m->name);
        const char *section = strstr(text, title);

        assert_non_null(section);
        for (const struct api_param *p = m->params; p->name; p++) {
            _cleanup_free_ char *row = x_asprintf("| `%s`", p->name);

            assert_non_null(strstr(section, row));
        }
    }
    for (unsigned code = ERR_NONE + 1; code < ERR_CODE_COUNT; code++) {
        _cleanup_free_ char *row = x_asprintf("| `%s` | %d | ", err_code_name((enum err_code)code),
                                              err_code_number((enum err_code)code));

        assert_non_null(strstr(text, row));
    }
    assert_null(strstr(text, "(null)"));
}

static void protocol_document_is_what_the_table_prints(void **state)
{
    _cleanup_free_ char *text = api_markdown();
    _cleanup_free_ char *file = NULL;
    size_t len;
    int r = fs_read_file(AT_FDCWD, "docs/PROTOCOL.md", 1 << 20, &file, &len);

    (void)state;
    if (r < 0) {
        fail_msg("docs/PROTOCOL.md: %s (tests run in the project's directory)", strerror(-r));
    }
    if (!str_eq(text, file)) {
        fail_msg("docs/PROTOCOL.md is old: banger internal protocol >docs/PROTOCOL.md");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_method_and_parameter_is_described_once),
        cmocka_unit_test(defaults_are_within_their_own_limits),
        cmocka_unit_test(requests_are_checked_by_the_table),
        cmocka_unit_test(commands_are_any_bytes),
        cmocka_unit_test(main_session_is_checked_as_a_session),
        cmocka_unit_test(openrpc_has_every_method_with_its_parameters),
        cmocka_unit_test(openrpc_references_lead_somewhere),
        cmocka_unit_test(markdown_names_every_method_parameter_and_code),
        cmocka_unit_test(protocol_document_is_what_the_table_prints),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
