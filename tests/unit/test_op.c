/* Operations: their life, watches, cancellation, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ops/op.h"
#include "scratch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What an operation of these tests does, step by step as the test says. */
struct job {
    struct latch begun, proceed, done;
    bool fails;
    bool cancellable;
    int result;
};

static void job_init(struct job *j)
{
    *j = (struct job){.cancellable = true};
    latch_init(&j->begun);
    latch_init(&j->proceed);
    latch_init(&j->done);
}

static void job_done(struct job *j)
{
    latch_done(&j->begun);
    latch_done(&j->proceed);
    latch_done(&j->done);
}
#define _cleanup_job_ _cleanup_(job_done)

static int run_job(struct op *op, void *arg, json_t **ret_result, struct err *err)
{
    struct job *j = arg;

    op_stage(op, "first");
    op_progress(op, 10, 100);
    op_note(op, "note %d", 1);
    latch_set(&j->begun);
    j->result = latch_wait(&j->proceed, j->cancellable ? op_cancel(op) : NULL, test_deadline());
    if (j->result < 0) {
        return err_set_errno(err, ERR_INTERNAL, j->result, "first");
    }
    op_set_target(op, "renamed");
    op_stage(op, "second");
    if (j->fails) {
        return err_set(err, ERR_NO_SPACE, "no room");
    }
    *ret_result = json_pack("{s:s}", "op", op_id(op));
    return 0;
}

static int run_nothing(struct op *op, void *arg, json_t **ret_result, struct err *err)
{
    (void)op;
    (void)arg;
    (void)ret_result;
    (void)err;
    return 0;
}

static void await(struct latch *l)
{
    assert_int_equal(latch_wait(l, NULL, test_deadline()), 0);
}

/* The operation as it is when it has ended. */
static json_t *await_end(struct op_registry *r, const char *id)
{
    struct op_watch *w;
    json_t *o = NULL;
    bool ended = false;
    struct err err;

    assert_int_equal(op_watch_begin(r, id, true, &w, &err), 0);
    while (!ended) {
        json_decref(o);
        assert_int_equal(op_watch_next(w, NULL, &o, &ended, &err), 0);
    }
    op_watch_end(w);
    return o;
}

static const char *stage_name(const json_t *o, size_t i)
{
    return json_str(json_array_get(json_object_get(o, "stages"), i), "name", "");
}

static void an_operation_runs_through_its_stages(void **state)
{
    struct op_registry *r = op_registry_new("vm.create", 4);
    _cleanup_json_ json_t *running = NULL, *done = NULL;
    _cleanup_job_ struct job j;
    const json_t *stage;
    char id[ID_SIZE], prefix[8];
    struct err err;

    (void)state;
    job_init(&j);
    assert_int_equal(op_begin(r, "box", run_job, &j, id, &err), 0);
    await(&j.begun);
    (void)snprintf(prefix, sizeof(prefix), "%.7s", id);
    assert_int_equal(op_show(r, prefix, &running, &err), 0);
    assert_string_equal(json_str(running, "id", ""), id);
    assert_string_equal(json_str(running, "kind", ""), "vm.create");
    assert_string_equal(json_str(running, "target", ""), "box");
    assert_string_equal(json_str(running, "state", ""), "running");
    assert_string_equal(json_str(running, "stage", ""), "first");
    assert_string_equal(json_str(running, "message", ""), "note 1");
    stage = json_array_get(json_object_get(running, "stages"), 0);
    assert_int_equal(json_int(stage, "bytes", -1), 10);
    assert_int_equal(json_int(stage, "total", -1), 100);
    assert_true(json_is_null(json_object_get(running, "result")));
    latch_set(&j.proceed);
    done = await_end(r, id);
    assert_string_equal(json_str(done, "state", ""), "done");
    assert_string_equal(json_str(done, "target", ""), "renamed");
    assert_string_equal(stage_name(done, 0), "first");
    assert_string_equal(stage_name(done, 1), "second");
    assert_string_equal(json_str(json_object_get(done, "result"), "op", ""), id);
    assert_true(json_is_null(json_object_get(done, "error")));
    op_registry_free(r);
}

static json_t *list_of(struct op_registry *r)
{
    json_t *list = json_array();

    op_list(r, list);
    return list;
}

static void ends_that_nobody_asked_for_are_kept_longer(void **state)
{
    enum { COUNT = 300 };
    struct op_registry *r = op_registry_new("k", COUNT);
    static char ids[COUNT][ID_SIZE];
    static struct job jobs[COUNT];
    json_t *list;
    struct err err;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        job_init(&jobs[i]);
        latch_set(&jobs[i].proceed);
        assert_int_equal(op_begin(r, "t", run_job, &jobs[i], ids[i], &err), 0);
    }
    for (int i = 0; i < COUNT; i++) {
        json_decref(await_end(r, ids[i]));
    }
    /* The next one's end finds that all have been told. */
    {
        _cleanup_job_ struct job j;
        char id[ID_SIZE];

        job_init(&j);
        latch_set(&j.proceed);
        assert_int_equal(op_begin(r, "t", run_job, &j, id, &err), 0);
        json_decref(await_end(r, id));
        assert_int_equal(op_show(r, ids[0], &list, &err), -1);
        assert_int_equal(err.code, ERR_NOT_FOUND);
    }
    list = list_of(r);
    assert_int_equal(json_array_size(list), 100);
    json_decref(list);
    for (int i = 0; i < COUNT; i++) {
        job_done(&jobs[i]);
    }
    op_registry_free(r);
}

static void a_failed_operation_keeps_its_error(void **state)
{
    struct op_registry *r = op_registry_new("k", 4);
    _cleanup_json_ json_t *o = NULL;
    _cleanup_job_ struct job j;
    char id[ID_SIZE];
    struct err err;

    (void)state;
    job_init(&j);
    j.fails = true;
    latch_set(&j.proceed);
    assert_int_equal(op_begin(r, "t", run_job, &j, id, &err), 0);
    o = await_end(r, id);
    assert_string_equal(json_str(o, "state", ""), "failed");
    assert_string_equal(json_str(json_object_get(o, "error"), "message", ""), "no room");
    assert_string_equal(json_str(json_object_get(json_object_get(o, "error"), "data"), "op", ""),
                        id);
    op_registry_free(r);
}

static void a_cancelled_operation_ends_cancelled(void **state)
{
    struct op_registry *r = op_registry_new("k", 4);
    _cleanup_json_ json_t *o = NULL;
    _cleanup_job_ struct job j;
    char id[ID_SIZE];
    struct err err;

    (void)state;
    job_init(&j);
    assert_int_equal(op_begin(r, "t", run_job, &j, id, &err), 0);
    await(&j.begun);
    assert_int_equal(op_request_cancel(r, "ffff0000ffff", &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(op_request_cancel(r, id, &err), 0);
    o = await_end(r, id);
    assert_string_equal(json_str(o, "state", ""), "cancelled");
    assert_int_equal(op_request_cancel(r, id, &err), 0); /* too late is no error */
    op_registry_free(r);
}

static void a_watch_sees_every_change_and_then_the_end(void **state)
{
    struct op_registry *r = op_registry_new("k", 4);
    _cleanup_cancel_ struct cancel *cancel = cancel_new();
    _cleanup_job_ struct job j;
    struct op_watch *w;
    char id[ID_SIZE];
    bool ended = true;
    json_t *o;
    struct err err;

    (void)state;
    job_init(&j);
    assert_int_equal(op_watch_begin(r, "00", true, &w, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(op_begin(r, "t", run_job, &j, id, &err), 0);
    await(&j.begun);
    assert_int_equal(op_watch_begin(r, id, true, &w, &err), 0);
    assert_int_equal(op_watch_next(w, NULL, &o, &ended, &err), 0); /* how it is now */
    assert_false(ended);
    json_decref(o);
    cancel_trigger(cancel);
    assert_int_equal(op_watch_next(w, cancel, &o, &ended, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    latch_set(&j.proceed);
    while (!ended) {
        assert_int_equal(op_watch_next(w, NULL, &o, &ended, &err), 0);
        assert_string_equal(json_str(o, "state", ""), ended ? "done" : "running");
        json_decref(o);
    }
    op_watch_end(w);
    op_registry_free(r);
}

static void no_more_run_than_the_limit(void **state)
{
    struct op_registry *r = op_registry_new("vm.create", 1);
    _cleanup_job_ struct job j;
    char id[ID_SIZE], other[ID_SIZE];
    struct err err;

    (void)state;
    job_init(&j);
    assert_int_equal(op_begin(r, "t", run_job, &j, id, &err), 0);
    assert_int_equal(op_begin(r, "t", run_nothing, NULL, other, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_string_equal(err.message, "1 operations of kind 'vm.create' run already");
    latch_set(&j.proceed);
    json_decref(await_end(r, id));
    assert_int_equal(op_begin(r, "t", run_nothing, NULL, other, &err), 0);
    json_decref(await_end(r, other));
    op_registry_free(r);
}

static void the_oldest_ended_ones_are_forgotten(void **state)
{
    struct op_registry *r = op_registry_new("k", 4);
    _cleanup_json_ json_t *list = json_array();
    char first[ID_SIZE], id[ID_SIZE];
    _cleanup_job_ struct job j;
    struct op_watch *w;
    json_t *o = NULL;
    bool ended;
    struct err err;

    (void)state;
    job_init(&j);
    assert_int_equal(op_begin(r, "running", run_job, &j, id, &err), 0);
    assert_int_equal(op_begin(r, "first", run_nothing, NULL, first, &err), 0);
    json_decref(await_end(r, first));
    assert_int_equal(op_watch_begin(r, first, true, &w, &err), 0);
    for (int i = 0; i < 110; i++) {
        char other[ID_SIZE];

        assert_int_equal(op_begin(r, "t", run_nothing, NULL, other, &err), 0);
        json_decref(await_end(r, other));
    }
    op_list(r, list);
    assert_int_equal(json_array_size(list), 101);
    assert_string_equal(json_str(json_array_get(list, 0), "target", ""), "running");
    assert_int_equal(op_show(r, first, &o, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    /* Who watches it still has it. */
    assert_int_equal(op_watch_next(w, NULL, &o, &ended, &err), 0);
    assert_true(ended);
    assert_string_equal(json_str(o, "id", ""), first);
    json_decref(o);
    op_watch_end(w);
    op_registry_free(r);
    assert_int_equal(j.result, -ECANCELED);
}

static void freeing_cancels_and_waits(void **state)
{
    _cleanup_job_ struct job a, b;
    struct op_registry *r = op_registry_new("k", 4);
    char id[ID_SIZE];
    struct err err;

    (void)state;
    job_init(&a);
    job_init(&b);
    assert_int_equal(op_begin(r, "a", run_job, &a, id, &err), 0);
    assert_int_equal(op_begin(r, "b", run_job, &b, id, &err), 0);
    await(&a.begun);
    op_registry_free(r);
    assert_int_equal(a.result, -ECANCELED);
    assert_int_equal(b.result, -ECANCELED);
    op_registry_free(NULL);
    op_registry_free(op_registry_new("k", 1));
}

static int run_many_stages(struct op *op, void *arg, json_t **ret_result, struct err *err)
{
    (void)arg;
    (void)ret_result;
    (void)err;
    op_progress(op, 1, 1); /* before any stage: ignored */
    for (int i = 0; i < 40; i++) {
        op_stage(op, "a stage whose name is longer than what is kept of it");
    }
    return 0;
}

static void a_watch_without_progress_sees_the_end_alone(void **state)
{
    struct op_registry *r = op_registry_new("k", 4);
    _cleanup_job_ struct job j;
    char id[ID_SIZE];
    struct err err;

    (void)state;
    job_init(&j);
    assert_int_equal(op_begin(r, "t", run_job, &j, id, &err), 0);
    await(&j.begun);
    for (int late = 0; late < 2; late++) {
        _cleanup_json_ json_t *o = NULL;
        struct op_watch *w;
        bool ended = false;

        assert_int_equal(op_watch_begin(r, id, false, &w, &err), 0);
        latch_set(&j.proceed); /* more stages, and the end */
        assert_int_equal(op_watch_next(w, NULL, &o, &ended, &err), 0);
        assert_true(ended);
        assert_string_equal(json_str(o, "state", ""), "done");
        op_watch_end(w);
    }
    op_registry_free(r);
}

static void stages_are_bounded(void **state)
{
    struct op_registry *r = op_registry_new("k", 4);
    _cleanup_json_ json_t *o = NULL;
    char id[ID_SIZE];
    struct err err;

    (void)state;
    assert_int_equal(op_begin(r, "t", run_many_stages, NULL, id, &err), 0);
    o = await_end(r, id);
    assert_int_equal(json_array_size(json_object_get(o, "stages")), 16);
    op_registry_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_operation_runs_through_its_stages),
        cmocka_unit_test(ends_that_nobody_asked_for_are_kept_longer),
        cmocka_unit_test(a_failed_operation_keeps_its_error),
        cmocka_unit_test(a_cancelled_operation_ends_cancelled),
        cmocka_unit_test(a_watch_sees_every_change_and_then_the_end),
        cmocka_unit_test(a_watch_without_progress_sees_the_end_alone),
        cmocka_unit_test(no_more_run_than_the_limit),
        cmocka_unit_test(the_oldest_ended_ones_are_forgotten),
        cmocka_unit_test(freeing_cancels_and_waits),
        cmocka_unit_test(stages_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
