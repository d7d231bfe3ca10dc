/* The tables of methods and objects, what is checked by them, and what is printed from them. */
#include "api_example.h"
#include "base/fs.h"
#include "base/str.h"
#include "codec/api.h"
#include "codec/frame.h"
#include "store/store.h"

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
        assert_true(m->doc && *m->doc && m->result.object);
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
    check("vm.list", "{\"members\":[\"name\",\"state\"]}", NULL);
    check("vm.list", "{\"members\":[\"nam\"]}", "did you mean 'name'?");
    check("vm.list", "{\"members\":[\"\\u001b\"]}", "'members': unknown member '\\x1b' of 'VM'");
    check("vm.list", "{\"members\":[1]}", "'members' must be a string");
    check("vm.list", "{\"members\":\"name\"}", "'members' must be an array");
    check("vm.list", "{\"after\":{\"id\":\"x\",\"created_at\":\"2026-11-23T16:02:03.004Z\"}}",
          "'id' must be an id");
    check("vm.list", "{\"after\":{\"id\":\"0123456789abcdef0123456789abcdef\"}}", "created_at");
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

static void defaults_fill_what_a_request_leaves_out(void **state)
{
    const struct api_method *create = api_method_find("vm.create.begin");
    _cleanup_json_ json_t *params =
        json_pack("{s:i, s:{s:[s]}}", "vcpus", 3, "main", "command", "true");

    (void)state;
    api_fill_defaults(create, params);
    assert_int_equal(api_int(params, "vcpus"), 3);
    assert_int_equal(api_int(params, "memory_mib"), 512);
    assert_string_equal(api_str(params, "vmm"), "auto");
    assert_true(api_flag(params, "start"));
    assert_false(api_flag(params, "hold"));
    assert_null(api_str(params, "name"));
    assert_string_equal(api_str(json_object_get(params, "main"), "user"), "root");
    assert_string_equal(api_str(json_object_get(params, "main"), "stdin"), "closed");
    assert_null(json_object_get(json_object_get(params, "main"), "tty"));
}

static void what_is_filled_in_is_valid_and_leaves_no_flag_or_number_open(void **state)
{
    (void)state;
    for (const struct api_method *m = api_methods; m->name; m++) {
        _cleanup_json_ json_t *params = json_object();
        struct err err;

        for (const struct api_param *p = m->params; p->name; p++) {
            if (p->required) {
                json_put(params, p->name, api_example_value(p));
            } else if ((p->type == API_BOOL || p->type == API_INT) && !p->fallback &&
                       !p->nullable) {
                fail_msg("%s: handlers cannot tell that '%s' is absent", m->name, p->name);
            }
        }
        api_fill_defaults(m, params);
        if (api_validate(m, params, &err) < 0) {
            fail_msg("%s: %s", m->name, err.message);
        }
    }
}

/* Replies ---------------------------------------------------------------------------------------*/

static bool is_listed(const struct api_object *object)
{
    for (const struct api_object *const *o = api_objects; *o; o++) {
        if (*o == object) {
            return true;
        }
    }
    return false;
}

static void check_object(const struct api_object *o)
{
    if (!is_listed(o)) {
        fail_msg("api_objects lacks %s", o->name);
    }
    assert_true(o->doc && *o->doc);
    for (const struct api_param *p = o->members; p && p->name; p++) {
        bool nests = p->type == API_OBJECT || p->type == API_LIST;

        if (!p->doc || !*p->doc || nests != (p->object != NULL) ||
            (p->type == API_ONE_OF) != (p->objects != NULL) ||
            (p->type == API_INT && p->min == 0 && p->max == 0) ||
            (p->type == API_COUNTS && !p->choices) || p->min > p->max) {
            fail_msg("%s.%s is described badly", o->name, p->name);
        }
        if (p->object) {
            check_object(p->object);
        }
        for (const struct api_object *const *either = p->objects; either && *either; either++) {
            check_object(*either);
        }
    }
}

static void each_object_that_is_used_is_listed_and_described(void **state)
{
    (void)state;
    for (const struct api_method *m = api_methods; m->name; m++) {
        check_object(m->result.object);
        for (const struct api_param *p = m->params; p->name; p++) {
            if (p->object) {
                check_object(p->object);
            }
        }
    }
    for (const struct api_notification *n = api_notifications; n->name; n++) {
        check_object(n->params);
        assert_true(n->doc && *n->doc);
        assert_true(api_method_find(n->method)->flags & API_NOTIFIES);
    }
    for (const struct api_object *const *o = api_objects; *o; o++) {
        for (const struct api_object *const *other = o + 1; *other; other++) {
            assert_string_not_equal((*o)->name, (*other)->name);
        }
    }
}

/* expected NULL = fine, else part of the message. */
static void check_reply(const char *method, const json_t *reply, const char *expected)
{
    const struct api_method *m = api_method_find(method);
    struct err err = {0};
    int r = api_check_result(m, reply, &err);

    if (!expected) {
        if (r < 0) {
            fail_msg("%s: %s", method, err.message);
        }
        return;
    }
    assert_int_equal(r, -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    if (!strstr(err.message, expected) || !strstr(err.message, method)) {
        fail_msg("%s: %s", method, err.message);
    }
}

static void smallest_reply_of_each_method_is_fine(void **state)
{
    (void)state;
    for (const struct api_method *m = api_methods; m->name; m++) {
        _cleanup_json_ json_t *reply = api_example_result(m);
        _cleanup_json_ json_t *null = json_null();
        struct err err;

        check_reply(m->name, reply, NULL);
        assert_int_equal(api_check_result(m, null, &err), m->result.nullable ? 0 : -1);
    }
}

/* Each member of the object: gone, null, of another type, and one too many. */
static void spoil(const struct api_method *m, json_t *reply, json_t *object,
                  const struct api_object *o)
{
    _cleanup_json_ json_t *stranger = json_pack("{s:n}", "no such type");

    for (const struct api_param *p = o->members; p && p->name; p++) {
        json_t *value = json_incref(json_object_get(object, p->name));

        json_object_set(object, p->name, stranger);
        check_reply(m->name, reply, p->type == API_OBJECT && !p->object->members ? NULL : "");
        json_object_set_new(object, p->name, json_null());
        check_reply(m->name, reply, p->nullable ? NULL : p->name);
        json_object_del(object, p->name);
        check_reply(m->name, reply, p->required ? p->name : NULL);
        if (value) {
            json_object_set_new(object, p->name, value);
        }
    }
    json_object_set(object, "no such member", stranger);
    check_reply(m->name, reply, o->members ? "'no such member'" : NULL);
    json_object_del(object, "no such member");
    check_reply(m->name, reply, NULL);
}

static void reply_with_anything_wrong_is_not_sent(void **state)
{
    (void)state;
    for (const struct api_method *m = api_methods; m->name; m++) {
        _cleanup_json_ json_t *reply = api_example_result(m);
        const struct api_object *o = m->result.object;
        json_t *first = m->result.list ? json_array_get(reply, 0) : reply;

        spoil(m, reply, first, o);
        for (const struct api_param *p = o->members; p && p->name; p++) {
            if (p->type == API_OBJECT) {
                json_put(first, p->name, api_example_object(p->object));
                spoil(m, reply, json_object_get(first, p->name), p->object);
            }
        }
    }
}

static void values_of_replies_are_checked(void **state)
{
    static const struct {
        const char *method, *member, *value, *expected; /* expected NULL = fine */
    } cases[] = {
        {"vm.show", "state", "\"asleep\"", "created|starting"},
        {"vm.show", "id", "\"0123456789ABCDEF0123456789abcdef\"", "an id"},
        {"vm.show", "id", "\"0123\"", "an id"},
        {"vm.show", "created_at", "\"2026-11-23T16:02:03Z\"", "a time"},
        {"vm.show", "created_at", "\"2026-11-23 16:02:03.004Z\"", "a time"},
        {"vm.show", "created_at", "\"2026-11-23T16:02:03.004Zx\"", "a time"},
        {"vm.show", "vcpus", "-1", "'vcpus'"},
        {"vm.show", "vcpus", "1.0", "an integer"},
        {"vm.show", "labels", "{\"a\":1}", "'labels'"},
        {"vm.show", "timeline", "[{\"phase\":\"x\",\"ms\":1}]", NULL},
        {"vm.show", "timeline", "[{\"phase\":\"x\",\"ms\":\"1\"}]", "'ms'"},
        {"vm.show", "timeline", "[[]]", "'timeline' must be an object"},
        {"vm.show", "image", "{\"name\":\"x\",\"digest\":\"sha256:00\"}", "a digest"},
        {"session.wait", "command", "[\"x\",{\"base64\":\"/w==\"}]", NULL},
        {"session.wait", "command", "[]", NULL},
        {"session.wait", "command", "[\"x\",{\"base64\":1}]", "base64"},
        {"session.wait", "exit", "{\"code\":256,\"signal\":null}", "0 to 255"},
        {"op.status", "result", "{}", "one of the objects"},
        {"op.status", "result", "[]", "one of the objects"},
        {"daemon.status", "vms", "{\"running\":2}", NULL},
        {"daemon.status", "vms", "{\"flying\":2}", "'flying'"},
        {"daemon.status", "vms", "{\"running\":-2}", "from 0"},
        {"daemon.status", "vms", "[]", "an object of integers"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct api_method *m = api_method_find(cases[i].method);
        _cleanup_json_ json_t *reply = api_example_result(m);
        json_t *value = NULL;
        struct err err;

        assert_int_equal(json_parse(cases[i].value, strlen(cases[i].value), &value, &err), 0);
        json_put(reply, cases[i].member, value);
        check_reply(m->name, reply, cases[i].expected);
    }
}

static void operations_result_is_one_of_what_operations_make(void **state)
{
    const struct api_object *const *either = api_param_in(&api_operation, "result")->objects;

    (void)state;
    for (; *either; either++) {
        _cleanup_json_ json_t *operation = api_example_object(&api_operation);
        struct err err;

        json_put(operation, "result", api_example_object(*either));
        check_reply("op.status", operation, NULL);
        assert_int_equal(api_check_notification("op.progress", operation, &err), 0);
        json_object_del(json_object_get(operation, "result"), "id");
        json_object_del(json_object_get(operation, "result"), "vm");
        check_reply("op.status", operation, "'result'");
        assert_int_equal(api_check_notification("op.progress", operation, &err), -1);
        assert_int_equal(api_check_notification("op.progess", operation, &err), -1);
        assert_int_equal(err.code, ERR_INTERNAL);
    }
}

static void vm_states_of_the_table_are_those_of_the_code(void **state)
{
    const char *choices = api_param_in(&api_vm, "state")->choices;
    size_t count = 1;

    (void)state;
    for (const char *c = choices; *c; c++) {
        count += *c == '|';
    }
    assert_int_equal(count, VM_STATE_COUNT);
    for (int i = 0; i < VM_STATE_COUNT; i++) {
        assert_true(str_is_choice(choices, vm_state_name((enum vm_state)i)));
    }
}

/* Documents -------------------------------------------------------------------------------------*/

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

static void openrpc_has_every_object_and_allows_no_other_members(void **state)
{
    _cleanup_json_ json_t *document = api_openrpc("1");
    const json_t *schemas = json_object_get(json_object_get(document, "components"), "schemas");

    (void)state;
    for (const struct api_object *const *o = api_objects; *o; o++) {
        const json_t *schema = json_object_get(schemas, (*o)->name);

        assert_string_equal(json_str(schema, "type", ""), "object");
        assert_true(!(*o)->members || !json_flag(schema, "additionalProperties", true));
        for (const struct api_param *p = (*o)->members; p && p->name; p++) {
            assert_non_null(json_object_get(json_object_get(schema, "properties"), p->name));
        }
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
    for (const struct api_object *const *o = api_objects; *o; o++) {
        _cleanup_free_ char *title = x_asprintf("\n### %s\n", (*o)->name);
        const char *section = strstr(text, title);

        assert_non_null(section);
        for (const struct api_param *p = (*o)->members; p && p->name; p++) {
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
        cmocka_unit_test(defaults_fill_what_a_request_leaves_out),
        cmocka_unit_test(what_is_filled_in_is_valid_and_leaves_no_flag_or_number_open),
        cmocka_unit_test(each_object_that_is_used_is_listed_and_described),
        cmocka_unit_test(smallest_reply_of_each_method_is_fine),
        cmocka_unit_test(reply_with_anything_wrong_is_not_sent),
        cmocka_unit_test(values_of_replies_are_checked),
        cmocka_unit_test(operations_result_is_one_of_what_operations_make),
        cmocka_unit_test(vm_states_of_the_table_are_those_of_the_code),
        cmocka_unit_test(openrpc_has_every_method_with_its_parameters),
        cmocka_unit_test(openrpc_has_every_object_and_allows_no_other_members),
        cmocka_unit_test(openrpc_references_lead_somewhere),
        cmocka_unit_test(markdown_names_every_method_parameter_and_code),
        cmocka_unit_test(protocol_document_is_what_the_table_prints),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
