/* Rows of templates, what events tell of them, and the rows of machines that are nobody's VMs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "scratch.h"
#include "store/store.h"

#include <stdio.h>
#include <string.h>

#define DIGEST_IMAGE "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST_KERNEL "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define HEX_MEMORY "1111111111111111111111111111111111111111111111111111111111111111"
#define HEX_DEVICES "2222222222222222222222222222222222222222222222222222222222222222"
#define HEX_DISK "3333333333333333333333333333333333333333333333333333333333333333"
#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID_C "cccccccccccccccccccccccccccccccc"

struct fixture {
    struct scratch dir;
    struct store *store;
    uint64_t told; /* the number of the last event that the store told of */
    unsigned times_told;
};

static void on_event(void *arg, uint64_t number)
{
    struct fixture *f = arg;

    f->told = number;
    f->times_told++;
}

static void open_store(struct fixture *f)
{
    struct err err;

    assert_int_equal(store_open(f->dir.fd, &f->store, &err), 0);
    store_on_event(f->store, on_event, f);
}

static void reopen_store(struct fixture *f)
{
    store_close(STEAL_PTR(f->store));
    open_store(f);
}

static void publish(struct store *s, enum store_kind kind, const char *digest, const char *name)
{
    char config[] = "{}";
    struct artifact_row row = {.created_ms = 1, .size_bytes = 5, .config = config};
    struct err err;

    (void)snprintf(row.digest, sizeof(row.digest), "%s", digest);
    assert_int_equal(store_artifact_publish(s, kind, &row, name, &err), 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->dir = scratch_new();
    open_store(f);
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

/* Without ingredients: those are the caller's string. */
static struct template_row make(const char *id, int64_t created_ms)
{
    struct template_row row = {.created_ms = created_ms,
                               .used_ms = created_ms + 1,
                               .uses = 1ull << 40,
                               .image_name = "debian",
                               .image_digest = DIGEST_IMAGE,
                               .kernel_digest = DIGEST_KERNEL,
                               .tsc_khz = UINT32_MAX,
                               .size_bytes = 1ull << 41,
                               .memory_digest = HEX_MEMORY,
                               .devices_digest = HEX_DEVICES,
                               .disk_digest = HEX_DISK};

    (void)snprintf(row.id, sizeof(row.id), "%s", id);
    return row;
}

static void put(struct fixture *f, const char *id, int64_t created_ms)
{
    char ingredients[] = "{\"vcpus\":1}";
    struct template_row row = make(id, created_ms);
    struct err err;

    row.ingredients = ingredients;
    row.pool_size = -1;
    assert_int_equal(store_template_put(f->store, &row, &err), 0);
}

static struct template_row *list(struct fixture *f, size_t want)
{
    struct template_row *rows;
    size_t count;
    struct err err;

    assert_int_equal(store_template_list(f->store, &rows, &count, &err), 0);
    assert_int_equal(count, want);
    return rows;
}

static void free_rows(struct template_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        template_row_done(&rows[i]);
    }
    free(rows);
}

/* The first letters of all ids, in their order. */
static void assert_ids(struct fixture *f, const char *want)
{
    size_t count = strlen(want);
    struct template_row *rows = list(f, count);

    for (size_t i = 0; i < count; i++) {
        assert_int_equal(rows[i].id[0], want[i]);
    }
    free_rows(rows, count);
}

/* The kinds of all events behind `since`, with what they are about; the store told of the last. */
static void assert_events(struct fixture *f, uint64_t since, const char *want)
{
    struct event_row rows[16];
    char got[1024] = "";
    size_t count, n = 0;
    struct err err;

    assert_int_equal(store_event_list(f->store, since, rows, ARRAY_LEN(rows), &count, &err), 0);
    for (size_t i = 0; i < count; i++) {
        n += (size_t)snprintf(got + n, sizeof(got) - n, "%s%s %.1s %s", i ? ", " : "", rows[i].kind,
                              rows[i].object, rows[i].name);
        assert_string_equal(rows[i].reason, "");
    }
    assert_string_equal(got, want);
    if (count > 0) {
        assert_int_equal(f->told, rows[count - 1].number);
    }
}

/* ---- rows ---- */

static void every_field_comes_back(void **state)
{
    struct fixture *f = *state;
    char ingredients[] = "{\"a\":\"it's \\\"said\\\"\",\"z\":{}}";
    struct template_row row = make(ID_A, 100), *rows;
    struct err err;

    row.ingredients = ingredients;
    assert_int_equal(store_template_put(f->store, &row, &err), 0);
    reopen_store(f);
    rows = list(f, 1);
    assert_string_equal(rows[0].ingredients, ingredients);
    assert_string_equal(rows[0].id, row.id);
    assert_int_equal(rows[0].created_ms, row.created_ms);
    assert_int_equal(rows[0].used_ms, row.used_ms);
    assert_int_equal(rows[0].uses, row.uses);
    assert_string_equal(rows[0].image_name, row.image_name);
    assert_string_equal(rows[0].image_digest, row.image_digest);
    assert_string_equal(rows[0].kernel_digest, row.kernel_digest);
    assert_int_equal(rows[0].tsc_khz, row.tsc_khz);
    assert_int_equal(rows[0].size_bytes, row.size_bytes);
    assert_int_equal(rows[0].pool_size, row.pool_size);
    assert_string_equal(rows[0].memory_digest, row.memory_digest);
    assert_string_equal(rows[0].devices_digest, row.devices_digest);
    assert_string_equal(rows[0].disk_digest, row.disk_digest);
    free_rows(rows, 1);
}

static void templates_are_listed_by_age(void **state)
{
    struct fixture *f = *state;

    assert_ids(f, "");
    put(f, ID_C, 2);
    put(f, ID_A, 3);
    put(f, ID_B, 1);
    assert_ids(f, "bca");
    put(f, ID_B, 3);
    assert_ids(f, "cab"); /* of the same age: by id */
    reopen_store(f);
    assert_ids(f, "cab");
}

static void one_takes_the_place_of_that_with_its_id(void **state)
{
    struct fixture *f = *state;
    struct template_row row = make(ID_A, 7), *rows;
    char ingredients[] = "{\"vcpus\":2}";
    struct err err;

    put(f, ID_A, 5);
    put(f, ID_B, 6);
    row.ingredients = ingredients;
    row.uses = 0;
    row.size_bytes = 3;
    assert_int_equal(store_template_put(f->store, &row, &err), 0);
    rows = list(f, 2);
    assert_string_equal(rows[1].id, ID_A);
    assert_string_equal(rows[1].ingredients, ingredients);
    assert_int_equal(rows[1].created_ms, 7);
    assert_int_equal(rows[1].uses, 0);
    assert_int_equal(rows[1].size_bytes, 3);
    free_rows(rows, 2);
}

static void use_is_written_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct template_row *rows;
    struct err err;

    put(f, ID_A, 1);
    put(f, ID_B, 2);
    assert_int_equal(store_template_used(f->store, ID_A, 1ll << 42, 12, &err), 0);
    /* One that was removed in the meantime is not made by it. */
    assert_int_equal(store_template_used(f->store, ID_C, 9, 9, &err), 0);
    reopen_store(f);
    rows = list(f, 2);
    assert_int_equal(rows[0].used_ms, 1ll << 42);
    assert_int_equal(rows[0].uses, 12);
    assert_int_equal(rows[0].created_ms, 1);
    assert_int_equal(rows[0].size_bytes, 1ull << 41);
    assert_int_equal(rows[1].used_ms, 3);
    assert_int_equal(rows[1].uses, 1ull << 40);
    free_rows(rows, 2);
}

static void a_deleted_one_is_gone(void **state)
{
    struct fixture *f = *state;
    struct err err;

    put(f, ID_A, 1);
    put(f, ID_B, 2);
    assert_int_equal(store_template_delete(f->store, ID_A, &err), 0);
    assert_ids(f, "b");
    assert_int_equal(store_template_delete(f->store, ID_A, &err), 0); /* there is none: fine */
    reopen_store(f);
    assert_ids(f, "b");
    assert_int_equal(store_template_delete(f->store, ID_B, &err), 0);
    assert_ids(f, "");
}

static void many_are_listed(void **state)
{
    struct fixture *f = *state;
    struct template_row *rows;

    for (int i = 0; i < 40; i++) {
        char id[ID_SIZE];

        (void)snprintf(id, sizeof(id), "%032d", i);
        put(f, id, i);
    }
    rows = list(f, 40);
    assert_int_equal(rows[39].created_ms, 39);
    free_rows(rows, 40);
}

static void a_copy_of_a_row_owns_its_ingredients(void **state)
{
    struct template_row row = make(ID_A, 1), copy;
    char ingredients[] = "{\"x\":\"y\"}";

    (void)state;
    template_row_copy(&copy, &row);
    assert_string_equal(copy.ingredients, "{}");
    template_row_done(&copy);
    row.ingredients = ingredients;
    template_row_copy(&copy, &row);
    assert_ptr_not_equal(copy.ingredients, row.ingredients);
    assert_string_equal(copy.ingredients, row.ingredients);
    template_row_done(&copy);
    template_row_done(&copy); /* again is fine */
}

/* ---- events ---- */

static void what_becomes_of_a_template_is_told(void **state)
{
    struct fixture *f = *state;
    uint64_t first;
    struct err err;

    put(f, ID_A, 1);
    assert_events(f, 0, "template.created a debian");
    assert_int_equal(f->times_told, 1);
    first = f->told;
    /* Use is nothing that becomes of it. */
    assert_int_equal(store_template_used(f->store, ID_A, 9, 9, &err), 0);
    assert_events(f, first, "");
    put(f, ID_A, 2);
    assert_events(f, first, "template.deleted a debian, template.created a debian");
    assert_int_equal(f->times_told, 2); /* of a commit, not of each */
    first = f->told;
    assert_int_equal(store_template_delete(f->store, ID_A, &err), 0);
    assert_events(f, first, "template.deleted a debian");
    first = f->told;
    assert_int_equal(store_template_delete(f->store, ID_A, &err), 0);
    assert_events(f, first, "");
    assert_int_equal(f->times_told, 3);
}

/* Created, started, set, stopped and deleted. */
static void live(struct fixture *f, enum vm_role role)
{
    struct vm_row row = {.id = "v1",
                         .name = "box",
                         .role = role,
                         .state = VM_CREATED,
                         .image_name = "debian",
                         .image_digest = DIGEST_IMAGE,
                         .kernel_name = "k",
                         .kernel_digest = DIGEST_KERNEL,
                         .vmm = "qemu",
                         .restart = "no",
                         .vcpus = 1,
                         .exit_code = -1};
    struct err err;

    assert_int_equal(store_vm_insert(f->store, &row, &err), 0);
    row.state = VM_RUNNING;
    row.incarnation = 1;
    row.started_ms = 5;
    assert_int_equal(store_vm_update(f->store, &row, &err), 0);
    row.vcpus = 2;
    assert_int_equal(store_vm_update(f->store, &row, &err), 0);
    row.state = VM_STOPPED;
    assert_int_equal(store_vm_update(f->store, &row, &err), 0);
    assert_int_equal(store_vm_delete(f->store, "v1", &err), 0);
}

static void a_machine_that_becomes_a_template_makes_no_events(void **state)
{
    struct fixture *f = *state;
    uint64_t first;
    unsigned times;

    publish(f->store, STORE_IMAGE, DIGEST_IMAGE, "debian");
    publish(f->store, STORE_KERNEL, DIGEST_KERNEL, "k");
    first = f->told;
    times = f->times_told;
    live(f, VM_ROLE_TEMPLATE);
    assert_events(f, first, "");
    assert_int_equal(f->times_told, times);
    live(f, VM_ROLE_USER);
    assert_events(f, first,
                  "vm.created v box, vm.running v box, vm.set v box, vm.stopped v box, "
                  "vm.deleted v box");
}

static void role_and_origin_of_a_vm_come_back(void **state)
{
    struct fixture *f = *state;
    struct vm_row a = {.id = "v1",
                       .name = "a",
                       .role = VM_ROLE_TEMPLATE,
                       .image_digest = DIGEST_IMAGE,
                       .kernel_digest = DIGEST_KERNEL,
                       .created_ms = 1},
                  b = a, *rows;
    size_t count;
    struct err err;

    publish(f->store, STORE_IMAGE, DIGEST_IMAGE, "debian");
    publish(f->store, STORE_KERNEL, DIGEST_KERNEL, "k");
    (void)snprintf(b.id, sizeof(b.id), "v2");
    (void)snprintf(b.name, sizeof(b.name), "b");
    b.role = VM_ROLE_USER;
    b.created_ms = 2;
    (void)snprintf(b.template_id, sizeof(b.template_id), ID_A);
    (void)snprintf(b.start_why, sizeof(b.start_why), "template 'of it'");
    assert_int_equal(store_vm_insert(f->store, &a, &err), 0);
    assert_int_equal(store_vm_insert(f->store, &b, &err), 0);
    reopen_store(f);
    assert_int_equal(store_vm_list(f->store, &rows, &count, &err), 0);
    assert_int_equal(count, 2);
    assert_int_equal(rows[0].role, VM_ROLE_TEMPLATE);
    assert_string_equal(rows[0].template_id, "");
    assert_string_equal(rows[0].start_why, "");
    assert_int_equal(rows[1].role, VM_ROLE_USER);
    /* The template itself need not be there. */
    assert_string_equal(rows[1].template_id, ID_A);
    assert_string_equal(rows[1].start_why, "template 'of it'");
    vm_row_done(&rows[0]);
    vm_row_done(&rows[1]);
    free(rows);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_field_comes_back),
        TEST(templates_are_listed_by_age),
        TEST(one_takes_the_place_of_that_with_its_id),
        TEST(use_is_written_and_nothing_else),
        TEST(a_deleted_one_is_gone),
        TEST(many_are_listed),
        cmocka_unit_test(a_copy_of_a_row_owns_its_ingredients),
        TEST(what_becomes_of_a_template_is_told),
        TEST(a_machine_that_becomes_a_template_makes_no_events),
        TEST(role_and_origin_of_a_vm_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
