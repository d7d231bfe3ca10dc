/* JSON: strict parsing, any bytes as values. */
#include "codec/json.h"

#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *text, struct err *err)
{
    _cleanup_json_ json_t *value = NULL;

    return json_parse(text, strlen(text), &value, err);
}

static void accepts_any_single_value(void **state)
{
    static const char *const good[] = {
        "{}", "[]", "1", "null", "\"x\"", " true ", "{\"a\":[1,{\"b\":\"\\u00e9\"}]}"};
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(parse(good[i], &err), 0);
    }
}

static void refuses_what_is_no_json(void **state)
{
    static const char *const bad[] = {
        "",         "{",     "[1,]",     "{\"a\":1,\"a\":2}",
        "{} {}",    "'x'",   "nul",      "\"\\u0000\"",
        "\"\xff\"", "[1] x", "\"a\nb\"", "1e999",
    };
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (parse(bad[i], &err) == 0) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void refuses_depth_before_it_recurses(void **state)
{
    _cleanup_free_ char *deep = x_calloc(2 * 100000 + 1, 1);
    char just[2 * JSON_DEPTH_MAX + 1] = "";
    struct err err;

    (void)state;
    memset(just, '[', JSON_DEPTH_MAX);
    memset(just + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    assert_int_equal(parse(just, &err), 0);
    memset(deep, '[', 100000);
    memset(deep + 100000, ']', 100000);
    assert_int_equal(parse(deep, &err), -1);
    assert_non_null(strstr(err.message, "deeper"));
    /* Brackets in strings do not count, escaped quotes do not end one. */
    memset(deep, '[', 1000);
    memcpy(deep, "\"\\\"", 3);
    memcpy(deep + 1000, "\"", 2);
    assert_int_equal(parse(deep, &err), 0);
}

static void bytes_go_there_and_back(void **state)
{
    uint8_t data[600];

    (void)state;
    for (size_t len = 0; len < sizeof(data); len++) {
        _cleanup_json_ json_t *value = NULL;
        _cleanup_free_ char *back = NULL;
        size_t back_len;

        data[len] = (uint8_t)(len * 37 + 200);
        value = json_bytes_new(data, len);
        assert_int_equal(json_bytes_get(value, &back, &back_len), 0);
        assert_int_equal(back_len, len);
        assert_memory_equal(back, data, len);
        assert_int_equal(back[back_len], 0);
    }
}

static void bytes_that_are_text_are_a_string(void **state)
{
    _cleanup_json_ json_t *text = json_bytes_new("h\xc3\xa9", 3);
    _cleanup_json_ json_t *other = json_bytes_new("a\0b", 3);

    (void)state;
    assert_string_equal(json_string_value(text), "h\xc3\xa9");
    assert_string_equal(json_str(other, "base64", ""), "YQBi");
}

static void malformed_bytes_are_refused(void **state)
{
    static const char *const bad[] = {
        "1",
        "null",
        "{}",
        "[]",
        "{\"base64\":1}",
        "{\"base64\":\"YQ==\",\"x\":1}",
        "{\"base64\":\"YQ\"}",
        "{\"base64\":\"Y===\"}",
        "{\"base64\":\"YR==\"}",
        "{\"base64\":\"YQ==YQ==\"}",
        "{\"base64\":\"Y\\nQ=\"}",
        "{\"base64\":\"=YQ=\"}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        _cleanup_json_ json_t *value = NULL;
        _cleanup_free_ char *data = NULL;
        struct err err;
        size_t len;

        assert_int_equal(json_parse(bad[i], strlen(bad[i]), &value, &err), 0);
        if (json_bytes_get(value, &data, &len) == 0) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
}

static void members_fall_back_when_absent_or_of_another_type(void **state)
{
    _cleanup_json_ json_t *o = json_object();

    (void)state;
    json_put_str(o, "s", "text");
    json_put_int(o, "i", 7);
    json_put_bool(o, "b", true);
    json_put_str(o, "n", NULL);
    assert_string_equal(json_str(o, "s", "x"), "text");
    assert_string_equal(json_str(o, "i", "x"), "x");
    assert_null(json_str(o, "n", NULL));
    assert_int_equal(json_int(o, "i", 1), 7);
    assert_int_equal(json_int(o, "s", 1), 1);
    assert_true(json_flag(o, "b", false));
    assert_true(json_flag(o, "none", true));
    assert_string_equal(json_str(NULL, "s", "x"), "x");
}

static void text_that_is_no_utf8_is_escaped(void **state)
{
    _cleanup_json_ json_t *o = json_object();

    (void)state;
    json_put_str(o, "s", "a\xff");
    assert_string_equal(json_str(o, "s", ""), "a\\xff");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_any_single_value),
        cmocka_unit_test(refuses_what_is_no_json),
        cmocka_unit_test(refuses_depth_before_it_recurses),
        cmocka_unit_test(bytes_go_there_and_back),
        cmocka_unit_test(bytes_that_are_text_are_a_string),
        cmocka_unit_test(malformed_bytes_are_refused),
        cmocka_unit_test(members_fall_back_when_absent_or_of_another_type),
        cmocka_unit_test(text_that_is_no_utf8_is_escaped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
