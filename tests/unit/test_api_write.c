/* Results that are written as text: what comes out is what the table allows, and nothing else. */
#include "api_example.h"
#include "base/str.h"
#include "codec/api_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define ROOM (64 * 1024)
#define ID "0123456789abcdef0123456789abcdef"

static void write_member(struct api_writer *w, const struct api_object *o, const char *key,
                         const json_t *value);

static void write_members(struct api_writer *w, const struct api_object *o, const json_t *object)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)object, key, value) {
        write_member(w, o, key, value);
    }
}

/* As somebody would who knows the value and not the table. */
static void write_member(struct api_writer *w, const struct api_object *o, const char *key,
                         const json_t *value)
{
    const struct api_param *spec = api_param_in(o, key);
    const struct api_object *inner =
        spec && spec->object && spec->object->members ? spec->object : NULL;
    const json_t *element;
    size_t i;

    if (json_is_null(value)) {
        api_write_null(w, key);
    } else if (json_is_string(value)) {
        api_write_str(w, key, json_string_value(value));
    } else if (json_is_integer(value)) {
        api_write_int(w, key, json_integer_value(value));
    } else if (json_is_boolean(value)) {
        api_write_bool(w, key, json_is_true(value));
    } else if (json_is_object(value) && inner) {
        api_write_open(w, key);
        write_members(w, inner, value);
        api_write_close(w);
    } else if (json_is_array(value) && inner) {
        api_write_open_list(w, key);
        json_array_foreach (value, i, element) {
            api_write_open(w, NULL);
            write_members(w, inner, element);
            api_write_close(w);
        }
        api_write_close_list(w);
    } else {
        api_write_json(w, key, value);
    }
}

static int write_result(const struct api_method *m, const json_t *result, const json_t *members,
                        struct buf *out, struct err *err)
{
    const json_t *element;
    struct api_writer w;
    size_t i;

    api_write_begin(&w, out, m, members);
    if (m->result.list) {
        json_array_foreach (result, i, element) {
            api_write_open(&w, NULL);
            write_members(&w, m->result.object, element);
            api_write_close(&w);
            assert_true(api_write_fits(&w));
        }
    } else {
        api_write_open(&w, NULL);
        write_members(&w, m->result.object, result);
        api_write_close(&w);
    }
    return api_write_end(&w, err);
}

/* Writer and check of trees say the same, and what is written is the tree. */
static void compare(const struct api_method *m, const json_t *result)
{
    _cleanup_buf_ struct buf out;
    struct err ours = {0}, theirs = {0};
    int r;

    buf_init(&out, ROOM);
    r = write_result(m, result, NULL, &out, &ours);
    if (api_check_result(m, result, &theirs) != r) {
        fail_msg("%s: written %d (%s), checked %s", m->name, r, ours.message, theirs.message);
    }
    if (r < 0) {
        assert_int_equal(ours.code, theirs.code);
        assert_string_equal(ours.hint, theirs.hint);
        assert_non_null(strstr(ours.message, "breaks the protocol"));
    } else {
        _cleanup_free_ char *printed = json_print(result);

        assert_int_equal(out.len, strlen(printed));
        assert_memory_equal(buf_head(&out), printed, out.len);
    }
}

/* Each member of the object: gone, null, of all types, and one too many. */
static void spoil(const struct api_method *m, json_t *result, json_t *object,
                  const struct api_object *o)
{
    json_t *others[] = {json_null(),
                        json_true(),
                        json_integer(-1),
                        json_integer(INT64_MAX),
                        json_string(""),
                        json_string(ID),
                        json_string("2026-11-23T16:02:03.004Z"),
                        json_array(),
                        json_object(),
                        json_pack("[i]", 1),
                        json_pack("[{s:s}]", "phase", "x"),
                        json_pack("{s:n}", "no such member")};

    for (const struct api_param *p = o->members; p->name; p++) {
        _cleanup_json_ json_t *value = json_incref(json_object_get(object, p->name));

        for (size_t i = 0; i < ARRAY_LEN(others); i++) {
            json_object_set(object, p->name, others[i]);
            compare(m, result);
        }
        json_object_del(object, p->name);
        compare(m, result);
        if (value) {
            json_object_set(object, p->name, value);
        }
    }
    json_object_set(object, "no such member", others[0]);
    compare(m, result);
    json_object_del(object, "no such member");
    compare(m, result);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        json_decref(others[i]);
    }
}

static void writer_and_check_agree_about_everything_wrong(void **state)
{
    (void)state;
    for (const struct api_method *m = api_methods; m->name; m++) {
        const struct api_object *o = m->result.object;
        _cleanup_json_ json_t *result = o->members ? api_example_result(m) : NULL;
        json_t *first = m->result.list ? json_array_get(result, 0) : result;

        if (!o->members) {
            continue;
        }
        spoil(m, result, first, o);
        for (const struct api_param *p = o->members; p->name; p++) {
            if (p->type == API_OBJECT && p->object->members) {
                json_put(first, p->name, api_example_object(p->object));
                spoil(m, result, json_object_get(first, p->name), p->object);
            } else if (p->type == API_LIST && p->object->members) {
                json_put(first, p->name, json_pack("[o]", api_example_object(p->object)));
                spoil(m, result, json_array_get(json_object_get(first, p->name), 0), p->object);
            }
        }
    }
}

static void each_byte_is_written_as_jansson_does(void **state)
{
    const struct api_method *m = api_method_find("vm.show");
    _cleanup_json_ json_t *vm = api_example_result(m);

    (void)state;
    for (int c = 1; c < 0x80; c++) {
        char text[] = {'<', (char)c, '>', '\0'};

        json_put_str(vm, "reason", text);
        compare(m, vm);
    }
    json_put_str(vm, "reason", "\u00e9\u20ac\U0001f600\"\\");
    compare(m, vm);
}

static void text_that_is_no_utf8_is_escaped(void **state)
{
    const struct api_method *m = api_method_find("vm.show");
    _cleanup_json_ json_t *vm = api_example_result(m), *back = NULL;
    _cleanup_buf_ struct buf out;
    struct api_writer w;
    struct err err;

    (void)state;
    json_object_del(vm, "reason");
    buf_init(&out, ROOM);
    api_write_begin(&w, &out, m, NULL);
    api_write_open(&w, NULL);
    write_members(&w, m->result.object, vm);
    api_write_str(&w, "reason", "a\xff\x1b[2J");
    api_write_close(&w);
    assert_int_equal(api_write_end(&w, &err), 0);
    assert_int_equal(json_parse((const char *)buf_head(&out), out.len, &back, &err), 0);
    assert_string_equal(json_str(back, "reason", ""), "a\\xff\\x1b[2J");
}

static void member_that_is_written_twice_breaks_the_writer(void **state)
{
    const struct api_method *m = api_method_find("vm.ping");
    _cleanup_buf_ struct buf out;
    struct api_writer w;
    struct err err;

    (void)state;
    buf_init(&out, ROOM);
    api_write_begin(&w, &out, m, NULL);
    api_write_open(&w, NULL);
    api_write_int(&w, "us", 1);
    api_write_int(&w, "us", 1);
    api_write_close(&w);
    assert_int_equal(api_write_end(&w, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_non_null(strstr(err.message, "'us' of 'Ping' twice"));
}

static void list_has_only_the_members_that_are_wanted(void **state)
{
    const struct api_method *m = api_method_find("vm.list");
    _cleanup_json_ json_t *vms = api_example_result(m),
                          *members = json_pack("[sss]", "vmm", "state", "image.name");
    _cleanup_free_ char *text = NULL;
    _cleanup_buf_ struct buf out;
    struct err err;

    (void)state;
    buf_init(&out, ROOM);
    json_put(json_array_get(vms, 0), "timeline", json_pack("[{s:s, s:i}]", "phase", "x", "ms", 1));
    assert_int_equal(write_result(m, vms, members, &out, &err), 0);
    text = buf_steal_str(&out);
    assert_string_equal(
        text, "[{\"id\":\"" ID
              "\",\"state\":\"created\",\"image\":{\"name\":\"x\"},\"vmm\":{\"name\":\"qemu\","
              "\"version\":null,\"accel\":null,\"why\":null}}]");
    /* What is not wanted is missed by nobody; what is wanted must be there. */
    json_object_del(json_array_get(vms, 0), "network");
    assert_int_equal(write_result(m, vms, members, &out, &err), 0);
    json_object_del(json_array_get(vms, 0), "state");
    assert_int_equal(write_result(m, vms, members, &out, &err), -1);
    assert_non_null(strstr(err.message, "'state' of 'VM' is missing"));
}

/* For any room: a list of as many as fit, or the error. */
static void what_does_not_fit_is_taken_back(void **state)
{
    const struct api_method *m = api_method_find("vm.list");
    _cleanup_json_ json_t *vms = api_example_result(m);
    const json_t *vm = json_array_get(vms, 0);
    _cleanup_free_ char *one = json_print(vm);
    size_t len = strlen(one);

    (void)state;
    for (size_t room = 2; room < 3 * len + 10; room++) {
        _cleanup_json_ json_t *back = NULL;
        _cleanup_buf_ struct buf out;
        struct api_writer w;
        struct err err;
        size_t count = 0;
        bool fits = true;

        buf_init(&out, room);
        api_write_begin(&w, &out, m, NULL);
        for (int i = 0; i < 4 && fits; i++) {
            api_write_open(&w, NULL);
            write_members(&w, m->result.object, vm);
            api_write_close(&w);
            fits = api_write_fits(&w);
            count += fits;
        }
        assert_int_equal(api_write_end(&w, &err), 0);
        assert_int_equal(json_parse((const char *)buf_head(&out), out.len, &back, &err), 0);
        assert_int_equal(json_array_size(back), count);
        /* Brackets, and commas between. */
        assert_int_equal(count, (room - 1) / (len + 1));
    }
    {
        const struct api_method *show = api_method_find("vm.show");
        _cleanup_buf_ struct buf out;
        struct err err;

        buf_init(&out, len - 1);
        assert_int_equal(write_result(show, vm, NULL, &out, &err), -1);
        assert_int_equal(err.code, ERR_LIMIT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writer_and_check_agree_about_everything_wrong),
        cmocka_unit_test(each_byte_is_written_as_jansson_does),
        cmocka_unit_test(text_that_is_no_utf8_is_escaped),
        cmocka_unit_test(member_that_is_written_twice_breaks_the_writer),
        cmocka_unit_test(list_has_only_the_members_that_are_wanted),
        cmocka_unit_test(what_does_not_fit_is_taken_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
