/* How long a guest that found the host's disk full waits before it goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vm/vm_priv.h"

static void one_that_is_stopped_again_at_once_waits_longer_each_time(void **state)
{
    static const int64_t want_ms[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    int64_t ms = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(want_ms); i++) {
        ms = vm_next_backoff_ms(ms, 100);
        assert_int_equal(ms, want_ms[i]);
    }
}

static void one_that_ran_for_a_while_begins_anew(void **state)
{
    (void)state;
    assert_int_equal(vm_next_backoff_ms(32000, 9999), 60000);
    assert_int_equal(vm_next_backoff_ms(32000, 10000), 0);
}

static void one_that_never_went_on_does_not_wait(void **state)
{
    (void)state;
    assert_int_equal(vm_next_backoff_ms(0, -1), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_stopped_again_at_once_waits_longer_each_time),
        cmocka_unit_test(one_that_ran_for_a_while_begins_anew),
        cmocka_unit_test(one_that_never_went_on_does_not_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
