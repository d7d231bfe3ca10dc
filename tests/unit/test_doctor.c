/* The list of checks: order, gates, texts that are cut, what checks read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "doctor/report.h"
#include "scratch.h"
#include "version.h"

#include <string.h>

static void fine(const void *ctx, struct doctor_finding *f)
{
    doctor_evidence(f, "%s", (const char *)ctx);
    doctor_pass(f, "fine");
}

static void doubtful(const void *ctx, struct doctor_finding *f)
{
    (void)ctx;
    doctor_warn(f, "doubtful");
    doctor_fix(f, "think");
}

static void full(const void *ctx, struct doctor_finding *f)
{
    (void)ctx;
    doctor_fail(f, "it is full");
    doctor_fix(f, "make room");
    f->code = ERR_NO_SPACE;
}

static void bad(const void *ctx, struct doctor_finding *f)
{
    (void)ctx;
    doctor_fail(f, "it is bad");
}

static void findings_come_in_order_with_what_was_looked_at(void **state)
{
    static const struct doctor_check one[] = {{"a", "A", 0, fine}, {"b", "B", 0, doubtful}, {0}};
    static const struct doctor_check two[] = {{"c", "C", 0, full}, {0}};
    _cleanup_doctor_ struct doctor *d = doctor_new();
    _cleanup_json_ json_t *report = NULL;
    _cleanup_free_ char *text = NULL;

    (void)state;
    doctor_add(d, one, "here");
    doctor_add(d, two, NULL);
    assert_string_equal(doctor_at(d, 2)->id, "c");
    assert_null(doctor_at(d, 3));
    report = doctor_report(d);
    text = json_print(report);
    assert_string_equal(
        text, "[{\"id\":\"a\",\"status\":\"pass\",\"summary\":\"fine\",\"evidence\":\"here\","
              "\"fix\":null},{\"id\":\"b\",\"status\":\"warn\",\"summary\":\"doubtful\","
              "\"evidence\":null,\"fix\":\"think\"},{\"id\":\"c\",\"status\":\"fail\","
              "\"summary\":\"it is full\",\"evidence\":null,\"fix\":\"make room\"}]");
}

static void the_first_failure_with_the_flag_is_the_error(void **state)
{
    static const struct doctor_check table[] = {{"a", "A", 0, bad},
                                                {"b", "B", DOCTOR_GATES_START, doubtful},
                                                {"c", "C", DOCTOR_GATES_START, full},
                                                {"d", "D", DOCTOR_GATES_START, bad},
                                                {0}};
    _cleanup_doctor_ struct doctor *d = doctor_new(), *other = doctor_new();
    struct err err = {0};

    (void)state;
    doctor_add(d, table, NULL);
    assert_int_equal(doctor_gate(d, DOCTOR_GATES_START, &err), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    assert_string_equal(err.message, "it is full");
    assert_string_equal(err.hint, "make room");
    /* One that names no code. */
    doctor_add(other, table + 3, NULL);
    assert_int_equal(doctor_gate(other, DOCTOR_GATES_START, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_string_equal(err.hint, "");
}

static void nothing_gates_an_empty_list(void **state)
{
    _cleanup_doctor_ struct doctor *d = doctor_new();
    struct err err;

    (void)state;
    assert_int_equal(doctor_gate(d, DOCTOR_GATES_START, &err), 0);
}

static void texts_are_escaped_and_cut_at_characters(void **state)
{
    struct doctor_finding f = {0};
    char wide[sizeof(f.summary) + 8];

    (void)state;
    doctor_pass(&f, "a\nb\033");
    assert_string_equal(f.summary, "a\\nb\\x1b");
    memset(wide, 'a', sizeof(wide));
    /* Two bytes each, from an odd place on: the field ends within one. */
    for (size_t i = 1; i + 1 < sizeof(wide); i += 2) {
        memcpy(wide + i, "\xc3\xa4", 2);
    }
    wide[sizeof(wide) - 1] = '\0';
    doctor_pass(&f, "a%s", wide);
    assert_true(str_is_utf8(f.summary, strlen(f.summary)));
    assert_in_range(strlen(f.summary), sizeof(f.summary) - 3, sizeof(f.summary) - 1);
}

static void files_are_read_below_the_root_without_their_last_newline(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_free_ char *text = NULL;
    uint64_t value;

    (void)state;
    scratch_write(&s, "number", "12\n");
    scratch_write(&s, "word", "twelve");
    text = doctor_read(s.path, "/word");
    assert_string_equal(text, "twelve");
    assert_true(doctor_read_number(s.path, "/number", &value));
    assert_int_equal(value, 12);
    assert_false(doctor_read_number(s.path, "/word", &value));
    assert_null(doctor_read(s.path, "/nosuch"));
    assert_true(doctor_exists(s.path, "/word"));
    assert_false(doctor_exists(s.path, "/nosuch"));
}

static void a_program_tells_its_version_by_the_mark(void **state)
{
    static const char data[] = "x\0" BANGER_VERSION_KEY "\0y" BANGER_VERSION_KEY "1.2+g3";
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_free_ char *path = x_asprintf("%s/program", s.path);
    _cleanup_free_ char *version = NULL;

    (void)state;
    assert_int_equal(fs_write_atomic(s.fd, "program", data, sizeof(data), 0700, false), 0);
    version = doctor_program_version(path);
    assert_string_equal(version, "1.2+g3");
    scratch_write(&s, "program", "nothing");
    assert_null(doctor_program_version(path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(findings_come_in_order_with_what_was_looked_at),
        cmocka_unit_test(the_first_failure_with_the_flag_is_the_error),
        cmocka_unit_test(nothing_gates_an_empty_list),
        cmocka_unit_test(texts_are_escaped_and_cut_at_characters),
        cmocka_unit_test(files_are_read_below_the_root_without_their_last_newline),
        cmocka_unit_test(a_program_tells_its_version_by_the_mark),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
