/* vm/vm_capability: hooks of capabilities run in the order of their list; what fails is undone in
 * reverse. The capabilities are fakes that write down what is done to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "vm/capability.h"

#include <stdio.h>
#include <string.h>

#define COUNT 4

/* What happened: "prepare0 prepare1 …". */
static struct {
    char log[1024];
    unsigned fails;   /* bits: those whose hook fails */
    unsigned leaves;  /* those whose cleanup fails */
    unsigned stays;   /* those whose change cannot be taken back */
    int value[COUNT]; /* what each one's state points to */
    bool with_a_plan; /* apply was called with one, the last time */
} seen;

static void note(const char *what, int i)
{
    size_t at = strlen(seen.log);

    (void)snprintf(seen.log + at, sizeof(seen.log) - at, "%s%s%d", at ? " " : "", what, i);
}

static int result(unsigned bits, const char *what, int i, struct err *err)
{
    return bits >> i & 1 ? err_set(err, ERR_IO, "%s%d failed", what, i) : 0;
}

static int prepare(int i, const struct vm_hook *h, struct err *err)
{
    note("prepare", i);
    assert_null(*h->state);
    if (result(seen.fails, "prepare", i, err) < 0) {
        return -1;
    }
    *h->state = &seen.value[i];
    return 0;
}

static int with_state(const char *what, int i, const struct vm_hook *h, struct err *err)
{
    note(what, i);
    assert_ptr_equal(*h->state, &seen.value[i]);
    return result(seen.fails, what, i, err);
}

static int cleanup(int i, void *state, struct err *err)
{
    note("cleanup", i);
    assert_ptr_equal(state, &seen.value[i]);
    return result(seen.leaves, "cleanup", i, err);
}

static int apply(int i, const struct vm_hook *h, const struct vm_row *was, struct vm_plan *p,
                 struct err *err)
{
    seen.with_a_plan = p != NULL;
    note(strcmp(h->row->name, "new") == 0 ? "apply" : "back", i);
    assert_string_not_equal(h->row->name, was->name);
    return p ? result(seen.fails, "apply", i, err) : result(seen.stays, "back", i, err);
}

#define FAKE(i)                                                                                    \
    static int create_preflight##i(const struct vm_hook *h, struct err *err)                       \
    {                                                                                              \
        (void)h;                                                                                   \
        note("create", i);                                                                         \
        return result(seen.fails, "create", i, err);                                               \
    }                                                                                              \
    static int start_preflight##i(const struct vm_hook *h, struct err *err)                        \
    {                                                                                              \
        (void)h;                                                                                   \
        note("start", i);                                                                          \
        return result(seen.fails, "start", i, err);                                                \
    }                                                                                              \
    static int prepare##i(const struct vm_hook *h, struct err *err)                                \
    {                                                                                              \
        return prepare(i, h, err);                                                                 \
    }                                                                                              \
    static int machine##i(const struct vm_hook *h, struct vm_machine *m, struct err *err)          \
    {                                                                                              \
        vm_machine_add_word(m, "word" #i);                                                         \
        return with_state("machine", i, h, err);                                                   \
    }                                                                                              \
    static int guest##i(const struct vm_hook *h, struct guest_configure *c, struct err *err)       \
    {                                                                                              \
        c->time_ns = c->time_ns * 10 + i;                                                          \
        return with_state("guest", i, h, err);                                                     \
    }                                                                                              \
    static int post_start##i(const struct vm_hook *h, struct err *err)                             \
    {                                                                                              \
        return with_state("post", i, h, err);                                                      \
    }                                                                                              \
    static int cleanup##i(void *state, struct err *err)                                            \
    {                                                                                              \
        return cleanup(i, state, err);                                                             \
    }                                                                                              \
    static void plan##i(struct vm_plan *p)                                                         \
    {                                                                                              \
        note("plan", i);                                                                           \
        p->renews = true;                                                                          \
    }                                                                                              \
    static int apply##i(const struct vm_hook *h, const struct vm_row *was, struct vm_plan *p,      \
                        struct err *err)                                                           \
    {                                                                                              \
        return apply(i, h, was, p, err);                                                           \
    }                                                                                              \
    static void stats##i(const struct vm_run *run, json_t *o)                                      \
    {                                                                                              \
        (void)run;                                                                                 \
        json_put_int(o, "of" #i, i);                                                               \
    }                                                                                              \
    static const struct doctor_check checks##i[] = {{"check-" #i, "A check", 0, NULL}, {0}};       \
    static const struct vm_capability fake##i = {                                                  \
        .name = "fake" #i,                                                                         \
        .create_preflight = create_preflight##i,                                                   \
        .start_preflight = start_preflight##i,                                                     \
        .prepare_host = prepare##i,                                                                \
        .machine_config = machine##i,                                                              \
        .guest_config = guest##i,                                                                  \
        .post_start = post_start##i,                                                               \
        .adopt = prepare##i,                                                                       \
        .cleanup = cleanup##i,                                                                     \
        .plan_config_change = plan##i,                                                             \
        .apply_config_change = apply##i,                                                           \
        .add_stats = stats##i,                                                                     \
        .doctor_checks = checks##i,                                                                \
    }

FAKE(0);
FAKE(1);
FAKE(2);
FAKE(3);

/* One without any hook stands among them: none is needed. */
static const struct vm_capability bare = {.name = "bare"};
static const struct vm_capability *const fakes[] = {&fake0, &fake1, &fake2, &fake3, NULL};
static const struct vm_capability *const bares[] = {&bare, &bare, NULL};

static const struct vm_row new_row = {.name = "new"}, old_row = {.name = "old"};
static const struct vm_hook hook = {.row = &new_row};

static void clear(void)
{
    memset(&seen, 0, sizeof(seen));
}

/* "prepare0 prepare1 prepare2 cleanup1 cleanup0" */
static void expect(const char *up, int ups, const char *down, int downs)
{
    char want[sizeof(seen.log)] = "";
    size_t at = 0;

    for (int i = 0; i < ups; i++) {
        at += (size_t)snprintf(want + at, sizeof(want) - at, "%s%s%d", at ? " " : "", up, i);
    }
    for (int i = downs - 1; i >= 0; i--) {
        at += (size_t)snprintf(want + at, sizeof(want) - at, " %s%d", down, i);
    }
    assert_string_equal(seen.log, want);
}

static struct vm_caps prepared(void)
{
    struct vm_caps caps = {.list = fakes};
    struct err err;

    clear();
    assert_int_equal(vm_caps_prepare_host(&caps, &hook, &err), 0);
    expect("prepare", COUNT, "", 0);
    seen.log[0] = '\0';
    return caps;
}

/* The tests ------------------------------------------------------------------------------------ */

static void preflights_end_at_the_first_that_fails(void **state)
{
    struct err err;

    (void)state;
    for (int i = 0; i <= COUNT; i++) {
        char want[32];

        (void)snprintf(want, sizeof(want), "create%d failed", i);
        clear();
        seen.fails = 1u << i;
        assert_int_equal(vm_caps_create_preflight(fakes, &hook, &err), i < COUNT ? -1 : 0);
        assert_true(i == COUNT || strcmp(err.message, want) == 0);
        expect("create", i < COUNT ? i + 1 : COUNT, "", 0);
        clear();
        seen.fails = 1u << i;
        assert_int_equal(vm_caps_start_preflight(fakes, &hook, &err), i < COUNT ? -1 : 0);
        expect("start", i < COUNT ? i + 1 : COUNT, "", 0);
    }
}

/* Both ways to come to hold something. */
static void those_before_one_that_fails_are_undone_in_reverse(void **state)
{
    static int (*const begin[])(struct vm_caps *, const struct vm_hook *,
                                struct err *) = {vm_caps_prepare_host, vm_caps_adopt};

    (void)state;
    for (size_t how = 0; how < ARRAY_LEN(begin); how++) {
        for (int i = 0; i < COUNT; i++) {
            struct vm_caps caps = {.list = fakes};
            char want[32];
            struct err err;

            (void)snprintf(want, sizeof(want), "prepare%d failed", i);
            clear();
            seen.fails = 1u << i;
            assert_int_equal(begin[how](&caps, &hook, &err), -1);
            assert_string_equal(err.message, want);
            assert_int_equal(err.code, ERR_IO);
            expect("prepare", i + 1, "cleanup", i);
            assert_int_equal(caps.held, 0);
            for (int k = 0; k < COUNT; k++) {
                assert_null(caps.state[k]);
            }
            /* It can be tried again. */
            seen.fails = 0;
            assert_int_equal(begin[how](&caps, &hook, &err), 0);
            assert_int_equal(caps.held, COUNT);
        }
    }
}

static void an_undo_that_fails_stops_no_other_and_is_told(void **state)
{
    struct vm_caps caps = {.list = fakes};
    struct err err;

    (void)state;
    clear();
    seen.fails = 1u << 3;
    seen.leaves = 1u << 0 | 1u << 2;
    assert_int_equal(vm_caps_prepare_host(&caps, &hook, &err), -1);
    expect("prepare", 4, "cleanup", 3);
    assert_string_equal(err.message, "prepare3 failed; and cleanup2 failed; and cleanup0 failed");
}

static void what_the_machine_and_the_guest_get_comes_in_order(void **state)
{
    struct vm_caps caps = prepared();
    struct guest_configure c = {.time_ns = 7};
    struct vm_machine m = {0};
    struct err err;

    (void)state;
    assert_int_equal(vm_caps_machine_config(&caps, &hook, &m, &err), 0);
    expect("machine", COUNT, "", 0);
    assert_int_equal(m.word_count, COUNT);
    assert_string_equal(m.words[0], "word0");
    assert_string_equal(m.words[3], "word3");
    seen.log[0] = '\0';
    assert_int_equal(vm_caps_guest_config(&caps, &hook, &c, &err), 0);
    expect("guest", COUNT, "", 0);
    assert_int_equal(c.time_ns, 70123);
}

/* The process is ended before, so it is for the caller to clean up: all that was prepared. */
static void later_hooks_end_at_the_first_that_fails_and_all_is_cleaned_up(void **state)
{
    (void)state;
    for (int what = 0; what < 3; what++) {
        for (int i = 0; i < COUNT; i++) {
            static const char *const names[] = {"machine", "guest", "post"};
            struct vm_caps caps = prepared();
            struct guest_configure c = {0};
            struct vm_machine m = {0};
            struct err err;

            seen.fails = 1u << i;
            assert_int_equal(what == 0   ? vm_caps_machine_config(&caps, &hook, &m, &err)
                             : what == 1 ? vm_caps_guest_config(&caps, &hook, &c, &err)
                                         : vm_caps_post_start(&caps, &hook, &err),
                             -1);
            expect(names[what], i + 1, "", 0);
            assert_int_equal(caps.held, COUNT);
            assert_int_equal(vm_caps_cleanup(&caps, &err), 0);
            expect(names[what], i + 1, "cleanup", COUNT);
        }
    }
}

static void all_are_cleaned_up_whichever_fail_and_once(void **state)
{
    (void)state;
    for (unsigned leaves = 0; leaves < 1u << COUNT; leaves++) {
        struct vm_caps caps = prepared();
        char want[256] = "";
        size_t at = 0;
        struct err err;

        seen.leaves = leaves;
        note("run", 0);
        assert_int_equal(vm_caps_cleanup(&caps, &err), leaves ? -1 : 0);
        expect("run", 1, "cleanup", COUNT);
        for (int i = COUNT - 1; i >= 0; i--) {
            if (leaves >> i & 1) {
                at += (size_t)snprintf(want + at, sizeof(want) - at, "%scleanup%d failed",
                                       at ? "; and " : "", i);
            }
        }
        assert_true(!leaves || strcmp(err.message, want) == 0);
        assert_int_equal(vm_caps_cleanup(&caps, &err), 0);
        expect("run", 1, "cleanup", COUNT);
    }
}

static void a_change_that_fails_is_taken_back_in_reverse(void **state)
{
    struct vm_plan plan = {0};

    (void)state;
    for (int i = 0; i <= COUNT; i++) {
        struct vm_caps caps = {.list = fakes};
        char want[32];
        struct err err;

        (void)snprintf(want, sizeof(want), "apply%d failed", i);
        clear();
        seen.fails = 1u << i;
        assert_int_equal(vm_caps_apply_config_change(&caps, &hook, &old_row, &plan, &err),
                         i < COUNT ? -1 : 0);
        assert_true(i == COUNT || strcmp(err.message, want) == 0);
        expect("apply", i < COUNT ? i + 1 : COUNT, "back", i < COUNT ? i : 0);
        assert_int_equal(seen.with_a_plan, i == 0 || i == COUNT);
    }
}

static void a_change_that_cannot_be_taken_back_stops_no_other_and_is_told(void **state)
{
    struct vm_caps caps = {.list = fakes};
    struct vm_plan plan = {0};
    struct err err;

    (void)state;
    clear();
    seen.fails = 1u << 2;
    seen.stays = 1u << 1;
    assert_int_equal(vm_caps_apply_config_change(&caps, &hook, &old_row, &plan, &err), -1);
    expect("apply", 3, "back", 2);
    assert_string_equal(err.message, "apply2 failed; and back1 failed");
}

static void plans_stats_and_checks_are_those_of_all(void **state)
{
    _cleanup_doctor_ struct doctor *doctor = doctor_new();
    _cleanup_json_ json_t *o = json_object();
    struct vm_plan plan = {0};

    (void)state;
    clear();
    vm_caps_plan_config_change(fakes, &plan);
    expect("plan", COUNT, "", 0);
    assert_true(plan.renews);
    vm_caps_add_stats(fakes, NULL, o);
    assert_int_equal(json_object_size(o), COUNT);
    vm_caps_add_doctor_checks(fakes, doctor, NULL);
    assert_string_equal(doctor_at(doctor, 0)->id, "check-0");
    assert_string_equal(doctor_at(doctor, 3)->id, "check-3");
    assert_null(doctor_at(doctor, 4));
}

static void no_hook_is_needed(void **state)
{
    _cleanup_doctor_ struct doctor *doctor = doctor_new();
    _cleanup_json_ json_t *o = json_object();
    struct vm_caps caps = {.list = bares}, adopted = {.list = bares};
    struct guest_configure c = {0};
    struct vm_machine m = {0};
    struct vm_plan plan = {0};
    struct err err;

    (void)state;
    assert_int_equal(vm_caps_create_preflight(bares, &hook, &err), 0);
    assert_int_equal(vm_caps_start_preflight(bares, &hook, &err), 0);
    assert_int_equal(vm_caps_prepare_host(&caps, &hook, &err), 0);
    assert_int_equal(vm_caps_machine_config(&caps, &hook, &m, &err), 0);
    assert_int_equal(vm_caps_guest_config(&caps, &hook, &c, &err), 0);
    assert_int_equal(vm_caps_post_start(&caps, &hook, &err), 0);
    vm_caps_plan_config_change(bares, &plan);
    assert_int_equal(vm_caps_apply_config_change(&caps, &hook, &old_row, &plan, &err), 0);
    assert_int_equal(vm_caps_cleanup(&caps, &err), 0);
    assert_int_equal(vm_caps_adopt(&adopted, &hook, &err), 0);
    assert_int_equal(vm_caps_cleanup(&adopted, &err), 0);
    vm_caps_add_stats(bares, NULL, o);
    vm_caps_add_doctor_checks(bares, doctor, NULL);
    assert_int_equal(json_object_size(o), 0);
    assert_null(doctor_at(doctor, 0));
}

static void those_that_there_are_have_names_of_their_own_and_something_to_do(void **state)
{
    size_t count = 0;

    (void)state;
    for (; vm_capabilities[count]; count++) {
        const struct vm_capability *c = vm_capabilities[count];
        struct vm_capability empty = {.name = c->name};

        assert_memory_not_equal(c, &empty, sizeof(empty));
        for (size_t i = 0; i < count; i++) {
            assert_string_not_equal(c->name, vm_capabilities[i]->name);
        }
        /* What is held is let go of. */
        assert_true(c->cleanup || (!c->prepare_host && !c->adopt));
    }
    assert_in_range(count, 1, VM_CAPABILITIES_MAX);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(preflights_end_at_the_first_that_fails),
        cmocka_unit_test(those_before_one_that_fails_are_undone_in_reverse),
        cmocka_unit_test(an_undo_that_fails_stops_no_other_and_is_told),
        cmocka_unit_test(what_the_machine_and_the_guest_get_comes_in_order),
        cmocka_unit_test(later_hooks_end_at_the_first_that_fails_and_all_is_cleaned_up),
        cmocka_unit_test(all_are_cleaned_up_whichever_fail_and_once),
        cmocka_unit_test(a_change_that_fails_is_taken_back_in_reverse),
        cmocka_unit_test(a_change_that_cannot_be_taken_back_stops_no_other_and_is_told),
        cmocka_unit_test(plans_stats_and_checks_are_those_of_all),
        cmocka_unit_test(no_hook_is_needed),
        cmocka_unit_test(those_that_there_are_have_names_of_their_own_and_something_to_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
