#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/signal_name.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

static void names_are_with_and_without_sig_in_any_case(void **state)
{
    (void)state;
    assert_int_equal(signal_parse("KILL"), SIGKILL);
    assert_int_equal(signal_parse("SIGTERM"), SIGTERM);
    assert_int_equal(signal_parse("sigterm"), SIGTERM);
    assert_int_equal(signal_parse("Usr1"), SIGUSR1);
    assert_int_equal(signal_parse("winch"), SIGWINCH);
}

static void numbers_are_those_of_the_kernel(void **state)
{
    char text[16];

    (void)state;
    for (int number = 1; number <= 64; number++) {
        (void)snprintf(text, sizeof(text), "%d", number);
        assert_int_equal(signal_parse(text), number);
    }
    assert_int_equal(signal_parse("09"), 9);
}

static void anything_else_is_no_signal(void **state)
{
    static const char *const bad[] = {
        "",   "0",   "65",   "99",    "100", "-1",         "1 ",  " 1",
        "1x", "SIG", "SIG9", "KILLX", "KIL", "SIGSIGKILL", "0x9", "00000000000009"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(signal_parse(bad[i]), -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_with_and_without_sig_in_any_case),
        cmocka_unit_test(numbers_are_those_of_the_kernel),
        cmocka_unit_test(anything_else_is_no_signal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
