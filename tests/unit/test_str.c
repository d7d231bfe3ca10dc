/* Strings: numbers, sizes, labels, UTF-8, escaping, suggestions. And errors, which are text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/id.h"
#include "base/str.h"

#include <errno.h>
#include <string.h>

static void numbers_are_whole_strings(void **state)
{
    static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "1x", "0x1", "1.0"};
    uint64_t v = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(str_to_u64(bad[i], UINT64_MAX, &v), -EINVAL);
    }
    assert_int_equal(str_to_u64(NULL, 1, &v), -EINVAL);
    assert_int_equal(str_to_u64("18446744073709551616", UINT64_MAX, &v), -ERANGE);
    assert_int_equal(str_to_u64("11", 10, &v), -ERANGE);
    assert_int_equal(v, 7);
    assert_int_equal(str_to_u64("18446744073709551615", UINT64_MAX, &v), 0);
    assert_true(v == UINT64_MAX);
    assert_int_equal(str_to_u64("0010", 10, &v), 0);
    assert_int_equal(v, 10);
}

static void sizes_have_units_of_1024(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},           {"17", 17},          {"17B", 17},
        {"1k", 1024},       {"2K", 2048},        {"3KB", 3072},
        {"3KiB", 3072},     {"1M", 1 << 20},     {"1MiB", 1 << 20},
        {"8G", 8ull << 30}, {"1Tb", 1ull << 40}, {"16777215T", 16777215ull << 40},
    };
    static const char *const bad[] = {"",     "B",   "K",   "-1",  "1X",    "1 K",
                                      "1.5G", "1Ki", "1KK", "1BB", "1KiBB", "1iB"};
    uint64_t v = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(str_to_size(good[i].text, &v), 0);
        assert_true(v == good[i].bytes);
    }
    v = 7;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(str_to_size(bad[i], &v), -EINVAL);
    }
    assert_int_equal(str_to_size(NULL, &v), -EINVAL);
    assert_int_equal(str_to_size("16777216T", &v), -ERANGE);
    assert_int_equal(str_to_size("18446744073709551616", &v), -ERANGE);
    assert_int_equal(str_to_size("111111111111111111111111111111", &v), -ERANGE);
    assert_int_equal(v, 7);
}

static void labels_are_those_of_dns(void **state)
{
    char longest[65];

    (void)state;
    memset(longest, 'a', 64);
    longest[64] = '\0';
    assert_false(str_is_dns_label(longest));
    longest[63] = '\0';
    assert_true(str_is_dns_label(longest));
    assert_true(str_is_dns_label("a-1"));
    assert_true(str_is_dns_label("1"));
    assert_false(str_is_dns_label(""));
    assert_false(str_is_dns_label("-a"));
    assert_false(str_is_dns_label("a-"));
    assert_false(str_is_dns_label("A"));
    assert_false(str_is_dns_label("a.b"));
    assert_false(str_is_dns_label("a_b"));
}

static void choices_are_whole_words(void **state)
{
    (void)state;
    assert_true(str_is_choice("a|bc|d", "a"));
    assert_true(str_is_choice("a|bc|d", "bc"));
    assert_true(str_is_choice("a|bc|d", "d"));
    assert_false(str_is_choice("a|bc|d", "b"));
    assert_false(str_is_choice("a|bc|d", "c"));
    assert_false(str_is_choice("a|bc|d", ""));
    assert_false(str_is_choice("a|bc|d", "a|bc"));
    assert_false(str_is_choice("", ""));
}

static void utf8_is_as_rfc_3629_has_it(void **state)
{
    static const char *const good[] = {"",
                                       "ascii",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2\x41",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xe1\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "a\xf0\x90\x80"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(str_is_utf8(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(str_is_utf8(bad[i], strlen(bad[i])));
    }
    assert_false(str_is_utf8("a\0b", 3));
}

static void check_escape(const char *s, size_t len, size_t max, const char *want)
{
    _cleanup_free_ char *got = str_escape(s, len, max);

    assert_string_equal(got, want);
    assert_true(str_is_utf8(got, strlen(got)));
}

static void what_a_terminal_obeys_is_escaped(void **state)
{
    (void)state;
    check_escape("plain \xc3\xa9", 8, 100, "plain \xc3\xa9");
    check_escape("a\nb\tc\r\x1b[0m\x7f", 11, 100, "a\\nb\\tc\\x0d\\x1b[0m\\x7f");
    check_escape("\0x", 2, 100, "\\x00x");
    check_escape("\xc2\x9b", 2, 100, "\\xc2\\x9b"); /* C1: another CSI */
    check_escape("\xff\xc3", 2, 100, "\\xff\\xc3");
    check_escape("abcdef", 6, 3, "abc");
    check_escape("a\xc3\xa9", 3, 2, "a"); /* not cut in the middle of a character */
    check_escape("a\xc3", 2, 2, "a\\xc3");
    check_escape("\xe2\x80\xae", 3, 9, "\\xe2\\x80\\xae");          /* right-to-left override */
    check_escape("\xe2\x81\xa6x", 4, 9, "\\xe2\\x81\\xa6x");        /* isolate */
    check_escape("\xe2\x80\xa8", 3, 9, "\\xe2\\x80\\xa8");          /* line separator */
    check_escape("\xf3\xa0\x81\xa1", 4, 9, "\\xf3\\xa0\\x81\\xa1"); /* tag */
    check_escape("\xe2\x80\x8d\xe2\x82\xac", 6, 9, "\xe2\x80\x8d\xe2\x82\xac"); /* joiner, euro */
    check_escape("", 0, 10, "");
}

static void the_nearest_word_is_suggested(void **state)
{
    static const char *const words[] = {"start", "stop", "status", "ps"};

    (void)state;
    assert_string_equal(str_nearest("stopp", words, 4), "stop");
    assert_string_equal(str_nearest("strat", words, 4), "start");
    assert_string_equal(str_nearest("pz", words, 4), "ps");
    assert_string_equal(str_nearest("sp", words, 4), "ps");
    assert_string_equal(str_nearest("tsop", words, 4), "stop");
    assert_string_equal(str_nearest("sta", words, 4), "start");
    assert_string_equal(str_nearest("stat", words, 4), "start");
    assert_null(str_nearest("s", words, 3));
    assert_null(str_nearest("", words, 4));
    assert_null(str_nearest("delete", words, 4));
    assert_null(str_nearest("xy", words, 4));
    assert_null(str_nearest("start", words, 0));
    assert_null(str_nearest("a-word-that-is-longer-than-thirty-one-bytes", words, 4));
}

static void allocations_of_nothing_are_something(void **state)
{
    _cleanup_free_ void *p = x_calloc(0, 0);
    _cleanup_free_ char *s = x_strdup("x"), *n = x_strndup("abc", 2),
                        *f = x_asprintf("%d-%s", 1, "y");

    (void)state;
    assert_non_null(p);
    assert_null(x_strdup(NULL));
    assert_string_equal(s, "x");
    assert_string_equal(n, "ab");
    assert_string_equal(f, "1-y");
    assert_false(str_eq(NULL, NULL));
    assert_false(str_eq("a", NULL));
    assert_true(str_starts_with("abc", "ab"));
    assert_false(str_starts_with("a", "ab"));
}

static void all_ones(void *buf, size_t len)
{
    memset(buf, 0xff, len);
}

static void all_zeros(void *buf, size_t len)
{
    memset(buf, 0, len);
}

static void in_order(void *buf, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        ((unsigned char *)buf)[i] = (unsigned char)(0x11 * i);
    }
}

static void uuids_are_of_version_4(void **state)
{
    char a[UUID_SIZE], b[UUID_SIZE];

    (void)state;
    id_generate_uuid(all_ones, a);
    assert_string_equal(a, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    id_generate_uuid(all_zeros, a);
    assert_string_equal(a, "00000000-0000-4000-8000-000000000000");
    id_generate_uuid(in_order, a);
    assert_string_equal(a, "00112233-4455-4677-8899-aabbccddeeff");
    id_generate_uuid(random_bytes, a);
    id_generate_uuid(random_bytes, b);
    assert_string_not_equal(a, b);
}

static void ids_are_32_hex_digits(void **state)
{
    char a[ID_SIZE], b[ID_SIZE];

    (void)state;
    id_generate(a);
    id_generate(b);
    assert_int_equal(strlen(a), 32);
    assert_true(id_is_prefix(a));
    assert_string_not_equal(a, b);
    assert_true(id_is_prefix("0"));
    assert_false(id_is_prefix(""));
    assert_false(id_is_prefix("A"));
    assert_false(id_is_prefix("0123456789abcdef0123456789abcdef0"));
}

static void errors_say_what_why_and_what_to_do(void **state)
{
    struct err err;
    char filler[3000];

    (void)state;
    assert_int_equal(err_set(&err, ERR_NOT_FOUND, "no '%s'", "x"), -1);
    assert_int_equal(err_hint(&err, "see %d", 1), -1);
    assert_int_equal(err_wrap(&err, "outer"), -1);
    assert_int_equal(err_append(&err, " (%s)", "more"), -1);
    assert_string_equal(err.message, "outer: no 'x' (more)");
    assert_string_equal(err.hint, "see 1");
    assert_int_equal(err_set_errno(&err, ERR_IO, -ENOSPC, "write"), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    assert_string_equal(err.message, "write: No space left on device");
    assert_string_equal(err.hint, "");
    (void)err_set_errno(&err, ERR_VMM, ENOSPC, "write");
    assert_int_equal(err.code, ERR_VMM);
    (void)err_set_errno(&err, ERR_INTERNAL, -ECANCELED, "wait");
    assert_int_equal(err.code, ERR_CANCELLED);
    (void)err_set_errno(&err, ERR_IO, ETIMEDOUT, "wait");
    assert_int_equal(err.code, ERR_TIMEOUT);
    /* Cut at a character, wherever that falls. */
    for (size_t lead = 0; lead < 3; lead++) {
        memset(filler, 'a', lead);
        for (size_t i = lead; i + 3 < sizeof(filler); i += 3) {
            memcpy(filler + i, "\xe2\x82\xac", 3);
            filler[i + 3] = '\0';
        }
        (void)err_set(&err, ERR_IO, "%s", filler);
        assert_true(str_is_utf8(err.message, strlen(err.message)));
        assert_true(strlen(err.message) > sizeof(err.message) - 5);
        (void)err_wrap(&err, "x");
        assert_true(str_is_utf8(err.message, strlen(err.message)));
        (void)err_hint(&err, "%s", filler);
        assert_true(str_is_utf8(err.hint, strlen(err.hint)));
    }
}

static void every_code_has_a_name_and_a_number(void **state)
{
    (void)state;
    for (int c = ERR_INVALID; c < ERR_CODE_COUNT; c++) {
        assert_int_equal(err_code_from_name(err_code_name((enum err_code)c)), c);
        assert_true(err_code_number((enum err_code)c) < -32000);
    }
    assert_int_equal(err_code_from_name("newer"), ERR_INTERNAL);
    assert_int_equal(err_code_from_name(NULL), ERR_INTERNAL);
    assert_string_equal(err_code_name(ERR_CODE_COUNT), "internal");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_whole_strings),
        cmocka_unit_test(sizes_have_units_of_1024),
        cmocka_unit_test(labels_are_those_of_dns),
        cmocka_unit_test(choices_are_whole_words),
        cmocka_unit_test(utf8_is_as_rfc_3629_has_it),
        cmocka_unit_test(what_a_terminal_obeys_is_escaped),
        cmocka_unit_test(the_nearest_word_is_suggested),
        cmocka_unit_test(allocations_of_nothing_are_something),
        cmocka_unit_test(ids_are_32_hex_digits),
        cmocka_unit_test(uuids_are_of_version_4),
        cmocka_unit_test(errors_say_what_why_and_what_to_do),
        cmocka_unit_test(every_code_has_a_name_and_a_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
