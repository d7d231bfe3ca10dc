/* fakevmm/fault: what a fake VM is told to do wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/attr.h"
#include "fakevmm/fault.h"

#include <errno.h>

static void faults_keep_their_order(void **state)
{
    struct faults f;

    (void)state;
    assert_int_equal(faults_parse("wait@boot,die@exec,ignore@poweroff,exit@boot", &f), 0);
    assert_int_equal(f.count, 4);
    assert_int_equal(f.list[0].action, FAULT_WAIT);
    assert_int_equal(f.list[0].point, FAULT_AT_BOOT);
    assert_int_equal(f.list[1].action, FAULT_DIE);
    assert_int_equal(f.list[1].point, FAULT_AT_EXEC);
    assert_int_equal(f.list[2].action, FAULT_IGNORE);
    assert_int_equal(f.list[2].point, FAULT_AT_POWEROFF);
    assert_int_equal(f.list[3].action, FAULT_EXIT);
    assert_string_equal(f.lie, "");
}

static void every_point_has_a_name_that_is_understood(void **state)
{
    (void)state;
    for (int point = 0; point < FAULT_POINT_COUNT; point++) {
        char text[64] = "hang@";
        struct faults f;

        for (size_t i = 0; i <= strlen(fault_point_name((enum fault_point)point)); i++) {
            text[5 + i] = fault_point_name((enum fault_point)point)[i];
        }
        assert_int_equal(faults_parse(text, &f), 0);
        assert_int_equal(f.list[0].point, point);
    }
}

static void a_lie_needs_no_point(void **state)
{
    struct faults f;

    (void)state;
    assert_int_equal(faults_parse("greedy", &f), 0);
    assert_string_equal(f.lie, "greedy");
    assert_int_equal(faults_parse("wait@boot,deaf", &f), 0);
    assert_string_equal(f.lie, "deaf");
    assert_int_equal(f.count, 1);
}

static void other_texts_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        ",",
        "die",
        "@boot",
        "die@",
        "die@boot,",
        "none@boot",
        "die@nowhere",
        "die@boot@",
        "ignore@boot",
        "ignore@hello",
        "greedy,deaf",
        "dying@boot",
        " die@boot",
        "DIE@boot",
        "di@boot",
        "die@boo",
        "averylongwordthatisnolie",
    };
    struct faults f = {.count = 7};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(faults_parse(bad[i], &f), -EINVAL);
    }
    assert_int_equal(faults_parse("die@exec,die@exec,die@exec,die@exec,die@exec,die@exec,die@exec,"
                                  "die@exec,die@exec",
                                  &f),
                     -E2BIG);
    assert_int_equal(f.count, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_keep_their_order),
        cmocka_unit_test(every_point_has_a_name_that_is_understood),
        cmocka_unit_test(a_lie_needs_no_point),
        cmocka_unit_test(other_texts_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
