/* The TOML subset: what is understood, and where and why the rest is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/str.h"
#include "codec/toml.h"

#include <stdio.h>
#include <string.h>

/* Tables show in their keys' names. */
static int print_key(void *arg, const char *name, const struct toml_value *v, struct err *err)
{
    struct buf *out = arg;
    int r;

    (void)err;
    if (v->type == TOML_TABLE) {
        return 0;
    }
    r = buf_printf(out, "%s@%u:%u=", name, v->line, v->column);
    switch (v->type) {
    case TOML_TABLE:
        break;
    case TOML_STRING:
        r |= buf_printf(out, "<%s>", v->string);
        break;
    case TOML_INT:
        r |= buf_printf(out, "%lld", (long long)v->integer);
        break;
    case TOML_BOOL:
        r |= buf_printf(out, "%s", v->boolean ? "yes" : "no");
        break;
    case TOML_STRINGS:
        r |= buf_printf(out, "%zu[", v->count);
        for (size_t i = 0; i < v->count; i++) {
            r |= buf_printf(out, "<%s>", v->strings[i]);
        }
        r |= buf_printf(out, "]");
        break;
    }
    return r | buf_printf(out, "\n");
}

static int parse(const char *text, size_t len, struct buf *out, struct err *err)
{
    _cleanup_free_ char *exact = malloc(len ? len : 1);

    /* Exactly as long as the text: what is read behind it is seen by ASan. */
    memcpy(exact, text, len);
    return toml_parse(exact, len, print_key, out, err);
}

static void check(const char *text, const char *want)
{
    _cleanup_buf_ struct buf out;
    _cleanup_free_ char *got = NULL;
    struct err err = {0};

    buf_init(&out, 1024 * 1024);
    if (parse(text, strlen(text), &out, &err) < 0) {
        fail_msg("%s: %s", text, err.message);
    }
    got = buf_steal_str(&out);
    assert_string_equal(got, want);
}

static void refuse_bytes(const char *text, size_t len, const char *why)
{
    _cleanup_buf_ struct buf out;
    struct err err = {0};

    buf_init(&out, 1024 * 1024);
    if (parse(text, len, &out, &err) == 0) {
        fail_msg("understood: %s", text);
    }
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.message, why);
}

static void refuse(const char *text, const char *why)
{
    refuse_bytes(text, strlen(text), why);
}

static void every_kind_of_value_is_understood(void **state)
{
    (void)state;
    check("", "");
    check("\n\r\n \t# only this", "");
    check("a = \"x\"", "a@1:1=<x>\n");
    check("a=''#c\n b-_1 = 'C:\\x'\r\n", "a@1:1=<>\nb-_1@2:2=<C:\\x>\n");
    check("s = \"\\b\\t\\n\\f\\r\\\"\\\\\\u00e9\\U0001F600\"",
          "s@1:1=<\b\t\n\f\r\"\\\xc3\xa9\xf0\x9f\x98\x80>\n");
    check("n = 0\nm = -17\np = +1_000\nmax = 9223372036854775807",
          "n@1:1=0\nm@2:1=-17\np@3:1=1000\nmax@4:1=9223372036854775807\n");
    check("t = true # x\nf=false", "t@1:1=yes\nf@2:1=no\n");
    check("l = []\nm = ['a', \"b\",]\nn = [ # c\n 'x'\n , 'y' ]",
          "l@1:1=0[]\nm@2:1=2[<a><b>]\nn@3:1=2[<x><y>]\n");
    check("a = 1\n[ net.dns ] # c\na = 2\n[x]\na = 3", "a@1:1=1\nnet.dns.a@3:1=2\nx.a@5:1=3\n");
}

static void what_is_malformed_is_refused_where_it_is(void **state)
{
    (void)state;
    refuse("= 1", "line 1 column 1: a name of letters, digits, _ and - is expected");
    refuse("a", "line 1 column 2: = is expected");
    refuse("a 1", "line 1 column 3: = is expected");
    refuse("\"a\" = 1", "line 1 column 1: a name of letters, digits, _ and - is expected");
    refuse("a.b = 1", "line 1 column 2: = is expected");
    refuse("a =", "line 1 column 4: a string, number, true, false or array is expected");
    refuse("a = x", "line 1 column 5: a string, number, true, false or array is expected");
    refuse("a = truex", "line 1 column 5: a string, number, true, false or array is expected");
    refuse("a = {}", "line 1 column 5: a string, number, true, false or array is expected");
    refuse("\n\n  a = 'x' y", "line 3 column 11: unexpected text after the value");
    refuse("a = 1 b = 2", "line 1 column 7: unexpected text after the value");
    refuse("a = 'x\n'", "line 1 column 7: the string does not end on its line");
    refuse("a = \"x", "line 1 column 7: the string does not end on its line");
    refuse("a = \"x\\", "line 1 column 8: the string does not end");
    refuse("a = \"\\q\"", "line 1 column 7: unknown escape");
    refuse("a = \"\\u12g4\"", "line 1 column 10: 4 hexadecimal digits are expected");
    refuse("a = \"\\U0011\"", "line 1 column 12: 8 hexadecimal digits are expected");
    refuse("a = \"\\u0000\"", "line 1 column 12: not a Unicode character");
    refuse("a = \"\\ud800\"", "line 1 column 12: not a Unicode character");
    refuse("a = \"\\UFFFFFFFF\"", "line 1 column 16: not a Unicode character");
    refuse("a = 'x\x01'", "line 1 column 7: control character in a string");
    refuse("a = \"x\x7f\"", "line 1 column 7: control character in a string");
    refuse("a = '\xff'", "line 1 column 8: the string is not UTF-8");
    refuse("a = '''x'''", "line 1 column 5: strings over several lines are not understood");
    refuse("a = \"\"\"x", "line 1 column 5: strings over several lines are not understood");
    refuse("a = 9223372036854775808", "line 1 column 23: the number is too large");
    refuse("a = 99999999999999999999", "line 1 column 23: the number is too large");
    refuse("a = 1.5", "line 1 column 6: only whole decimal numbers are understood");
    refuse("a = 0x10", "line 1 column 6: only whole decimal numbers are understood");
    refuse("a = 010", "line 1 column 8: only whole decimal numbers are understood");
    refuse("a = 1_", "line 1 column 7: only whole decimal numbers are understood");
    refuse("a = 10:30", "line 1 column 7: only whole decimal numbers are understood");
    refuse("a = -", "line 1 column 6: a string, number, true, false or array is expected");
    refuse("a = [1]", "line 1 column 6: a string or ] is expected");
    refuse("a = ['x' 'y']", "line 1 column 10: , or ] is expected");
    refuse("a = ['x'", "line 1 column 9: , or ] is expected");
    refuse("a = [\n\n,]", "line 3 column 1: a string or ] is expected");
    refuse("[[a]]", "line 1 column 2: arrays of tables are not understood");
    refuse("[a", "line 1 column 3: ] is expected");
    refuse("[a b]", "line 1 column 4: ] is expected");
    refuse("[a.]", "line 1 column 4: a name of letters, digits, _ and - is expected");
    refuse("[]", "line 1 column 2: a name of letters, digits, _ and - is expected");
    refuse("[a] b = 1", "line 1 column 5: unexpected text after the value");
    refuse("a = 1\rb = 2", "line 1 column 6: unexpected text after the value");
}

static void a_key_is_given_once(void **state)
{
    (void)state;
    refuse("a = 1\na = 2", "line 2 column 2: 'a' is given twice");
    refuse("[t]\nab = 1\n[t]\nab = 2", "line 3 column 3: '[t]' is given twice");
    refuse("[ t.u ]\n[t]\n[t.u]", "line 3 column 5: '[t.u]' is given twice");
    check("a = 1\n[a]\na = 2", "a@1:1=1\na.a@3:1=2\n");
}

static void nul_bytes_are_no_end(void **state)
{
    (void)state;
    refuse_bytes("a = 'x\0'", 8, "line 1 column 7: control character in a string");
    refuse_bytes("a = 1\0", 6, "line 1 column 6: unexpected text after the value");
    refuse_bytes("\0", 1, "line 1 column 1: a name of letters, digits, _ and - is expected");
    refuse_bytes("a = \"\\\0\"", 8, "line 1 column 7: unknown escape");
}

static void sizes_are_bounded(void **state)
{
    size_t large = 1024 * 1024 + 1;
    _cleanup_free_ char *text = malloc(large);
    _cleanup_buf_ struct buf out, many;
    struct err err;

    (void)state;
    buf_init(&out, 64 * 1024 * 1024);
    buf_init(&many, 1024 * 1024);
    memset(text, '\n', large);
    assert_int_equal(toml_parse(text, large, print_key, &out, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(toml_parse(text, large - 1, print_key, &out, &err), 0);
    memset(text, 'n', 1000);
    refuse_bytes(text, 1000, "line 1 column 255: the name is too long");
    memcpy(text + 999, "=1", 2);
    text[0] = '[';
    text[200] = ']';
    text[201] = '\n';
    refuse_bytes(text, 1001, "line 2 column 1: the table's name is too long");
    for (int i = 0; i < 1025; i++) {
        assert_int_equal(buf_printf(&many, "%s'x'", i ? "," : "a=["), 0);
    }
    refuse_bytes((const char *)buf_head(&many), many.len,
                 "line 1 column 4100: the array has more than 1024 elements");
    buf_consume(&many, many.len);
    for (int i = 0; i < 4097; i++) {
        assert_int_equal(buf_printf(&many, "k%d=1\n", i), 0);
    }
    refuse_bytes((const char *)buf_head(&many), many.len,
                 "line 4097 column 6: more than 4096 keys");
}

static int stop(void *arg, const char *name, const struct toml_value *v, struct err *err)
{
    (void)v;
    ++*(int *)arg;
    return err_set(err, ERR_CONFLICT, "no '%s'", name);
}

static void the_callback_can_end_it(void **state)
{
    int calls = 0;
    struct err err;

    (void)state;
    assert_int_equal(toml_parse("a = 1\nb = ?", 11, stop, &calls, &err), -1);
    assert_int_equal(calls, 1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_string_equal(err.message, "no 'a'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_understood),
        cmocka_unit_test(what_is_malformed_is_refused_where_it_is),
        cmocka_unit_test(a_key_is_given_once),
        cmocka_unit_test(nul_bytes_are_no_end),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(the_callback_can_end_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
