/* The ledger in the database, the migration that made it, and what verify finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "scratch.h"
#include "store/store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The ids in tests/data/store-v2.sql. */
#define UP "11111111111111111111111111111111"
#define DOWN "22222222222222222222222222222222"

struct fixture {
    struct scratch dir;
    struct store *store;
};

static void run_sql(struct fixture *f, const char *sql)
{
    _cleanup_free_ char *path = x_asprintf("%s/banger.db", f->dir.path);
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* In the source tree, which is where the tests run. */
static void make_version_2(struct fixture *f)
{
    _cleanup_free_ char *sql = NULL;
    size_t len;

    assert_int_equal(fs_read_file(AT_FDCWD, "tests/data/store-v2.sql", 65536, &sql, &len), 0);
    run_sql(f, sql);
}

static void open_store(struct fixture *f)
{
    struct err err;

    assert_int_equal(store_open(f->dir.fd, &f->store, &err), 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->dir = scratch_new();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    store_close(f->store);
    scratch_done(&f->dir);
    free(f);
    return 0;
}

static struct vm_row *list(struct fixture *f, size_t want)
{
    struct vm_row *rows;
    size_t count;
    struct err err;

    assert_int_equal(store_vm_list(f->store, &rows, &count, &err), 0);
    assert_int_equal(count, want);
    return rows;
}

static void free_rows(struct vm_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        vm_row_done(&rows[i]);
    }
    free(rows);
}

static void assert_object(const struct vm_row *row, size_t i, enum object_kind kind,
                          const char *name, uint64_t incarnation, const char *boot_id)
{
    assert_true(i < row->object_count);
    assert_int_equal(row->objects[i].kind, kind);
    assert_string_equal(row->objects[i].name, name);
    assert_int_equal(row->objects[i].incarnation, incarnation);
    assert_string_equal(row->objects[i].boot_id, boot_id);
}

/* ---- migration ---- */

static void a_store_without_ledger_gets_one_and_a_copy_is_kept(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ char *copy = x_asprintf("%s/banger.db.v2", f->dir.path);
    struct vm_row *rows;
    struct stat st;
    sqlite3_stmt *stmt;
    sqlite3 *db;

    make_version_2(f);
    open_store(f);
    rows = list(f, 2);
    assert_int_equal(rows[0].object_count, 3);
    assert_object(&rows[0], 0, OBJECT_STATE_DIR, UP, 0, "");
    assert_object(&rows[0], 1, OBJECT_RUN_DIR, UP, 3, "");
    assert_object(&rows[0], 2, OBJECT_PROCESS, "4711:99", 3, "boot");
    assert_int_equal(rows[1].object_count, 1);
    assert_object(&rows[1], 0, OBJECT_STATE_DIR, DOWN, 0, "");
    free_rows(rows, 2);
    assert_int_equal(stat(copy, &st), 0);
    assert_int_equal(sqlite3_open(copy, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT pid FROM vm WHERE id = '" UP "'", -1, &stmt, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(stmt, 0), 4711);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
}

static void a_new_store_leaves_no_copy(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ char *copy = x_asprintf("%s/banger.db.v0", f->dir.path);

    open_store(f);
    assert_int_equal(access(copy, F_OK), -1);
}

static void an_older_copy_is_replaced(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ char *copy = x_asprintf("%s/banger.db.v2", f->dir.path);
    FILE *file = fopen(copy, "w");
    struct stat st;

    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    make_version_2(f);
    open_store(f);
    assert_int_equal(stat(copy, &st), 0);
    assert_true(st.st_size > 0);
}

/* ---- objects ---- */

static void objects_are_written_with_the_row_and_go_with_it(void **state)
{
    struct fixture *f = *state;
    struct vm_object process = {.kind = OBJECT_PROCESS, .name = "1:2", .incarnation = 2};
    struct vm_row *rows;
    struct err err;

    make_version_2(f);
    open_store(f);
    rows = list(f, 2);
    vm_row_put_object(&rows[1], &process);
    assert_true(rows[1].objects_changed);
    assert_int_equal(store_vm_update(f->store, &rows[1], &err), 0);
    free_rows(rows, 2);
    rows = list(f, 2);
    assert_int_equal(rows[1].object_count, 2);
    assert_object(&rows[1], 1, OBJECT_PROCESS, "1:2", 2, "");
    /* Not changed: not written. */
    rows[1].object_count = 0;
    assert_int_equal(store_vm_update(f->store, &rows[1], &err), 0);
    free_rows(rows, 2);
    rows = list(f, 2);
    assert_int_equal(rows[1].object_count, 2);
    vm_row_drop_object(&rows[1], OBJECT_PROCESS);
    assert_int_equal(store_vm_update(f->store, &rows[1], &err), 0);
    free_rows(rows, 2);
    rows = list(f, 2);
    assert_int_equal(rows[1].object_count, 1);
    free_rows(rows, 2);
    assert_int_equal(store_vm_delete(f->store, UP, &err), 0);
    assert_int_equal(store_vm_delete(f->store, DOWN, &err), 0);
    free_rows(list(f, 0), 0);
}

static void an_object_is_replaced_by_the_next_of_its_kind_and_run(void **state)
{
    struct vm_row row = {.id = "x"}, copy;
    struct vm_object o = {.kind = OBJECT_RUN_DIR, .name = "a", .incarnation = 1};

    (void)state;
    vm_row_put_object(&row, &o);
    (void)snprintf(o.name, sizeof(o.name), "b");
    vm_row_put_object(&row, &o);
    assert_int_equal(row.object_count, 1);
    o.incarnation = 2;
    vm_row_put_object(&row, &o);
    assert_int_equal(row.object_count, 2);
    assert_string_equal(vm_row_object(&row, OBJECT_RUN_DIR)->name, "b");
    assert_null(vm_row_object(&row, OBJECT_PROCESS));
    vm_row_copy(&copy, &row);
    vm_row_drop_object(&row, OBJECT_RUN_DIR);
    assert_int_equal(row.object_count, 0);
    assert_int_equal(copy.object_count, 2);
    row.objects_changed = false;
    vm_row_drop_object(&row, OBJECT_RUN_DIR);
    assert_false(row.objects_changed);
    vm_row_done(&row);
    vm_row_done(&copy);
}

static void an_object_of_unknown_kind_is_told(void **state)
{
    struct fixture *f = *state;
    struct vm_row *rows;
    size_t count;
    struct err err;

    make_version_2(f);
    open_store(f);
    run_sql(f, "UPDATE object SET kind = 'gizmo' WHERE kind = 'run_dir'");
    assert_int_equal(store_vm_list(f->store, &rows, &count, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.message, "gizmo"));
}

/* ---- verify ---- */

static void add_problem(void *arg, const char *text)
{
    char *all = arg;
    size_t len = strlen(all);

    (void)snprintf(all + len, 4096 - len, "%s\n", text);
}

static void assert_problem(struct fixture *f, const char *want)
{
    char all[4096] = "";
    struct err err;

    assert_int_equal(store_verify(f->store, add_problem, all, &err), 0);
    if (!want) {
        assert_string_equal(all, "");
    } else if (!strstr(all, want)) {
        fail_msg("'%s' is not in: %s", want, all);
    }
}

static void verify_finds_nothing_in_a_sound_store(void **state)
{
    struct fixture *f = *state;

    make_version_2(f);
    open_store(f);
    assert_problem(f, NULL);
}

static void verify_finds_what_cannot_be(void **state)
{
    static const struct {
        const char *sql, *want;
    } cases[] = {
        {"PRAGMA foreign_keys = OFF; DELETE FROM kernel", "table vm refers to a kernel"},
        {"UPDATE vm SET state = 'sleeping' WHERE id = '" UP "'",
         "VM one (111111111111) is in an unknown state"},
        {"DELETE FROM object WHERE vm_id = '" DOWN "'",
         "VM two (222222222222) has no state directory"},
        {"UPDATE object SET kind = 'gizmo' WHERE kind = 'run_dir'", "unknown kind: gizmo"},
        {"UPDATE vm SET state = 'stopped' WHERE id = '" UP "'", "is stopped and has a process"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        make_version_2(f);
        open_store(f);
        run_sql(f, cases[i].sql);
        assert_problem(f, cases[i].want);
        store_close(STEAL_PTR(f->store));
        scratch_done(&f->dir);
        f->dir = scratch_new();
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_store_without_ledger_gets_one_and_a_copy_is_kept),
        TEST(a_new_store_leaves_no_copy),
        TEST(an_older_copy_is_replaced),
        TEST(objects_are_written_with_the_row_and_go_with_it),
        TEST(an_object_is_replaced_by_the_next_of_its_kind_and_run),
        TEST(an_object_of_unknown_kind_is_told),
        TEST(verify_finds_nothing_in_a_sound_store),
        TEST(verify_finds_what_cannot_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
