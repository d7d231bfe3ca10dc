/* What a VM does with nobody asking, as its row says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/str.h"
#include "vm/vm_priv.h"

#define NOW 1000000000000
#define BOOT "this-boot"

static struct vm_row ended(const char *policy, const char *reason, unsigned count)
{
    struct vm_row row = {.state = VM_STOPPED, .state_since_ms = NOW, .restart_count = count};

    (void)snprintf(row.restart, sizeof(row.restart), "%s", policy);
    (void)snprintf(row.reason, sizeof(row.reason), "%s", reason);
    (void)snprintf(row.host_boot, sizeof(row.host_boot), BOOT);
    return row;
}

static struct vm_due expires_in(const struct vm_row *row, int64_t expires_in_ms)
{
    return vm_policy_due(row, &(struct vm_policy_clock){.real_ms = NOW,
                                                        .expires_in_ms = expires_in_ms,
                                                        .host_boot = BOOT});
}

static struct vm_due due_at(const struct vm_row *row, int64_t real_ms, int64_t unused_ms)
{
    return vm_policy_due(row, &(struct vm_policy_clock){
                                  .real_ms = real_ms, .unused_ms = unused_ms, .host_boot = BOOT});
}

static void policies_are_read(void **state)
{
    static const char *const wrong[] = {"",
                                        "never",
                                        "on-failure:",
                                        "on-failure:0",
                                        "No",
                                        "on-failure:x",
                                        "on-failure:-1",
                                        "always:3",
                                        "no ",
                                        "on-failure:1000001",
                                        "on-failures",
                                        "on-failure:99999999999999999999"};
    struct vm_restart r;
    struct err err;

    (void)state;
    assert_int_equal(vm_restart_parse("no", &r, &err), 0);
    assert_true(!r.on_failure && !r.always && r.max == 0);
    assert_int_equal(vm_restart_parse("on-failure", &r, &err), 0);
    assert_true(r.on_failure && !r.always && r.max == 0);
    assert_int_equal(vm_restart_parse("on-failure:1000000", &r, &err), 0);
    assert_true(r.on_failure && !r.always && r.max == 1000000);
    assert_int_equal(vm_restart_parse("always", &r, &err), 0);
    assert_true(r.on_failure && r.always && r.max == 0);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(vm_restart_parse(wrong[i], &r, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void only_ends_that_nobody_wanted_are_mended(void **state)
{
    static const struct {
        const char *policy, *reason;
        unsigned count;
        bool again;
    } cases[] = {
        {"no", "vmm_died", 0, false},
        {"on-failure", "vmm_died: killed by signal 9", 0, true},
        {"on-failure", "guest_panic", 0, true},
        {"on-failure", "guest_reset", 0, true},
        {"on-failure", "start interrupted", 0, true},
        {"on-failure", "guest_poweroff", 0, false},
        {"always", "guest_poweroff", 0, true},
        {"always", "vmm_died", 0, true},
        {"always", "user", 0, false},
        {"always", "idle", 0, false},
        {"always", "host_reboot", 0, false},
        {"always", "deleting", 0, false},
        /* The first start is somebody's, who sees that it fails. */
        {"always", "start failed: no room", 0, false},
        {"on-failure", "start failed: no room", 1, true},
        {"on-failure:2", "vmm_died", 1, true},
        {"on-failure:2", "vmm_died", 2, false},
        {"on-failure:2", "start failed: x", 2, false},
        {"of another version", "vmm_died", 0, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct vm_row row = ended(cases[i].policy, cases[i].reason, cases[i].count);
        struct vm_due due = due_at(&row, NOW, 0);

        assert_int_equal(due.what, cases[i].again ? VM_DUE_RESTART : VM_DUE_NOTHING);
        assert_int_equal(vm_restart_at(&row),
                         cases[i].again ? NOW + vm_restart_wait_ms(cases[i].count) : 0);
        row.state = VM_RUNNING;
        assert_int_equal(due_at(&row, NOW, 0).what, VM_DUE_NOTHING);
        row.state = VM_ERROR;
        assert_int_equal(due_at(&row, NOW, 0).what, VM_DUE_NOTHING);
        row.state = VM_STOPPED;
        row.auto_remove = true;
        assert_int_equal(due_at(&row, NOW, 0).what, VM_DUE_NOTHING);
    }
}

static void each_restart_in_a_row_waits_longer(void **state)
{
    static const int64_t want_ms[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(want_ms); i++) {
        struct vm_row row = ended("always", "vmm_died", i);

        assert_int_equal(due_at(&row, NOW, 0).in_ms, want_ms[i]);
        assert_int_equal(due_at(&row, NOW + want_ms[i] - 1, 0).in_ms, 1);
        assert_int_equal(due_at(&row, NOW + want_ms[i], 0).in_ms, 0);
        assert_int_equal(due_at(&row, NOW + 1000000, 0).in_ms, 0);
        /* The host's clock was set back by a day. */
        assert_int_equal(due_at(&row, NOW - 86400000, 0).in_ms, want_ms[i]);
    }
    assert_int_equal(vm_restart_wait_ms(4000000000), 60000);
}

static void a_good_while_ends_the_row_of_restarts(void **state)
{
    struct vm_row row = ended("always", "", 5);

    (void)state;
    row.state = VM_RUNNING;
    row.started_ms = 1; /* long ago */
    vm_policy_note_end(&row, clock_real_ms());
    assert_int_equal(row.restart_count, 0);
    row.restart_count = 5;
    row.state = VM_STARTING; /* what started long ago was another run */
    vm_policy_note_end(&row, clock_real_ms());
    assert_int_equal(row.restart_count, 5);
    row.state = VM_RUNNING;
    row.started_ms = INT64_MAX / 2; /* or the clock was set back */
    vm_policy_note_end(&row, clock_real_ms());
    assert_int_equal(row.restart_count, 5);
}

static void autostart_is_once_for_each_boot_of_the_host(void **state)
{
    struct vm_row row = ended("no", "user", 0);

    (void)state;
    row.autostart = true;
    assert_int_equal(due_at(&row, NOW, 0).what, VM_DUE_NOTHING);
    (void)snprintf(row.host_boot, sizeof(row.host_boot), "an-earlier-boot");
    assert_int_equal(due_at(&row, NOW, 0).what, VM_DUE_AUTOSTART);
    assert_int_equal(due_at(&row, NOW, 0).in_ms, 0);
    row.state = VM_CREATED;
    assert_int_equal(due_at(&row, NOW, 0).what, VM_DUE_AUTOSTART);
    row.state = VM_RUNNING;
    assert_int_equal(due_at(&row, NOW, 0).what, VM_DUE_NOTHING);
    row.state = VM_STOPPED;
    row.autostart = false;
    assert_int_equal(due_at(&row, NOW, 0).what, VM_DUE_NOTHING);
}

static void only_a_running_vm_is_idle(void **state)
{
    struct vm_row row = {.state = VM_RUNNING, .auto_stop_after_ms = 60000};

    (void)state;
    assert_int_equal(due_at(&row, NOW, 0).what, VM_DUE_IDLE_STOP);
    assert_int_equal(due_at(&row, NOW, 0).in_ms, 60000);
    assert_int_equal(due_at(&row, NOW, 59999).in_ms, 1);
    assert_int_equal(due_at(&row, NOW, 60000).in_ms, 0);
    assert_int_equal(due_at(&row, NOW, INT64_MAX).in_ms, 0);
    row.state = VM_PAUSED;
    assert_int_equal(due_at(&row, NOW, INT64_MAX).what, VM_DUE_NOTHING);
    row.state = VM_RUNNING;
    row.auto_stop_after_ms = 0;
    assert_int_equal(due_at(&row, NOW, INT64_MAX).what, VM_DUE_NOTHING);
}

static void what_expires_does_so_in_any_state(void **state)
{
    static const enum vm_state states[] = {VM_CREATED, VM_RUNNING, VM_PAUSED, VM_STOPPED, VM_ERROR};
    struct vm_row row = {.expires_after_ms = 5000, .expires_ms = NOW + 5000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        row.state = states[i];
        assert_int_equal(expires_in(&row, 5000).what, VM_DUE_EXPIRE);
        assert_int_equal(expires_in(&row, 5000).in_ms, 5000);
        assert_int_equal(expires_in(&row, 0).in_ms, 0);
    }
    /* One that is created or deleted is somebody's already. */
    (void)snprintf(row.reason, sizeof(row.reason), VM_REASON_DELETING);
    row.state = VM_STOPPED;
    assert_int_equal(expires_in(&row, 0).what, VM_DUE_NOTHING);
    /* But for one that could not be deleted. */
    row.state = VM_ERROR;
    assert_int_equal(expires_in(&row, 0).what, VM_DUE_EXPIRE);
    row.expires_ms = 0;
    assert_int_equal(expires_in(&row, 0).what, VM_DUE_NOTHING);
}

static void the_first_that_is_due_is_done(void **state)
{
    struct vm_row row = ended("always", "vmm_died", 0);

    (void)state;
    row.expires_after_ms = 5000;
    row.expires_ms = NOW + 5000;
    assert_int_equal(expires_in(&row, 5000).what, VM_DUE_RESTART);
    assert_int_equal(expires_in(&row, 1000).what, VM_DUE_EXPIRE);
}

static void what_does_not_go_together_is_refused(void **state)
{
    struct vm_row row = ended("always", "", 0);
    struct err err;

    (void)state;
    assert_true(vm_policy_check(&row, &err));
    row.auto_remove = true;
    assert_false(vm_policy_check(&row, &err));
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.message, "restart: "));
    (void)snprintf(row.restart, sizeof(row.restart), VM_RESTART_NO);
    assert_true(vm_policy_check(&row, &err));
    row.autostart = true;
    assert_false(vm_policy_check(&row, &err));
    assert_non_null(strstr(err.message, "autostart: "));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(policies_are_read),
        cmocka_unit_test(only_ends_that_nobody_wanted_are_mended),
        cmocka_unit_test(each_restart_in_a_row_waits_longer),
        cmocka_unit_test(a_good_while_ends_the_row_of_restarts),
        cmocka_unit_test(autostart_is_once_for_each_boot_of_the_host),
        cmocka_unit_test(only_a_running_vm_is_idle),
        cmocka_unit_test(what_expires_does_so_in_any_state),
        cmocka_unit_test(the_first_that_is_due_is_done),
        cmocka_unit_test(what_does_not_go_together_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
