/* The database: VMs, images and kernels, what happens to it on bad disks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "scratch.h"
#include "store/store.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define DIGEST_A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST_B "sha256:aaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define DIGEST_C "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

struct fixture {
    struct scratch dir;
    struct store *store;
};

static void publish(struct store *s, enum store_kind kind, const char *digest, const char *name)
{
    char config[] = "{\"cmd\":[\"sh\"]}";
    struct artifact_row row = {
        .created_ms = digest[7] + digest[20], .size_bytes = 5, .version = "6.1", .config = config};
    struct err err;

    (void)snprintf(row.digest, sizeof(row.digest), "%s", digest);
    assert_int_equal(store_artifact_publish(s, kind, &row, name, &err), 0);
}

static struct vm_row vm_row_make(const char *id, const char *name)
{
    struct vm_row row = {.state = VM_CREATED,
                         .reason = "user",
                         .state_since_ms = 1,
                         .incarnation = 3,
                         .image_name = "debian",
                         .image_digest = DIGEST_A,
                         .kernel_name = "k",
                         .kernel_digest = DIGEST_C,
                         .vmm = "qemu",
                         .vmm_version = "7.2",
                         .accel = "tcg",
                         .accel_why = "no /dev/kvm",
                         .vcpus = 2,
                         .memory_mib = 512,
                         .disk_bytes = 1ull << 33,
                         .run_vcpus = 3,
                         .run_memory_mib = 513,
                         .run_disk_bytes = 1ull << 34,
                         .own_init = true,
                         .net_mode = "nat",
                         .auto_remove = true,
                         .restart = "on-failure:3",
                         .restart_count = 2,
                         .autostart = true,
                         .auto_stop_after_ms = 1ll << 33,
                         .expires_after_ms = 1ll << 34,
                         .expires_ms = 1ll << 42,
                         .host_boot = "0f1e2d3c-0000-0000-0000-000000000000",
                         .created_ms = 100,
                         .started_ms = 200,
                         .exit_code = -1,
                         .exit_signal = 9,
                         .timeline = {{"kernel", 5}, {"agent", 70}},
                         .phase_count = 2};

    (void)snprintf(row.id, sizeof(row.id), "%s", id);
    (void)snprintf(row.name, sizeof(row.name), "%s", name);
    return row;
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
    open_store(f);
    publish(f->store, STORE_IMAGE, DIGEST_A, "debian");
    publish(f->store, STORE_KERNEL, DIGEST_C, "k");
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

static void free_rows(struct vm_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        vm_row_done(&rows[i]);
    }
    free(rows);
}

static void assert_names(struct store *s, const char *want)
{
    char got[256] = "";
    struct vm_row *rows;
    size_t count, n = 0;
    struct err err;

    assert_int_equal(store_vm_list(s, &rows, &count, &err), 0);
    for (size_t i = 0; i < count; i++) {
        n += (size_t)snprintf(got + n, sizeof(got) - n, "%s%s", i ? " " : "", rows[i].name);
    }
    free_rows(rows, count);
    assert_string_equal(got, want);
}

/* ---- VMs ---- */

static void every_field_of_a_vm_comes_back(void **state)
{
    struct fixture *f = *state;
    struct vm_row row = vm_row_make("id1", "box"), *rows;
    char labels[] = "{\"a\":\"b\"}", description[] = "it's \"said\"";
    size_t count;
    struct err err;

    row.labels = labels;
    row.description = description;
    row.net_slot = 7;
    assert_int_equal(store_vm_insert(f->store, &row, &err), 0);
    store_close(f->store);
    open_store(f);
    assert_int_equal(store_vm_list(f->store, &rows, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_string_equal(rows[0].labels, "{\"a\":\"b\"}");
    assert_string_equal(rows[0].description, description);
    free(rows[0].labels);
    free(rows[0].description);
    rows[0].labels = row.labels;
    rows[0].description = row.description;
    assert_memory_equal(&rows[0], &row, sizeof(row));
    free(rows);
}

static void the_network_is_kept_and_a_place_is_one_vms(void **state)
{
    struct fixture *f = *state;
    struct network_row net = {.ipv4 = 0xAC1D0000, .ipv4_bits = 16, .ipv6 = {0xFD, 1, 2}}, got;
    struct vm_row a = vm_row_make("a", "first"), b = vm_row_make("b", "second");
    struct err err;

    assert_int_equal(store_network_get(f->store, &got, &err), 0);
    assert_int_equal(got.ipv4, 0);
    assert_int_equal(store_network_put(f->store, &(struct network_row){.ipv4 = 1}, &err), 0);
    assert_int_equal(store_network_put(f->store, &net, &err), 0);
    store_close(f->store);
    open_store(f);
    assert_int_equal(store_network_get(f->store, &got, &err), 0);
    assert_memory_equal(&got, &net, sizeof(net));
    a.net_slot = b.net_slot = 3;
    assert_int_equal(store_vm_insert(f->store, &a, &err), 0);
    assert_int_equal(store_vm_insert(f->store, &b, &err), -1);
    b.net_slot = 0;
    assert_int_equal(store_vm_insert(f->store, &b, &err), 0);
}

static void vms_are_updated_listed_by_age_and_deleted(void **state)
{
    struct fixture *f = *state;
    struct vm_row a = vm_row_make("a", "first"), b = vm_row_make("b", "second"), *rows;
    size_t count;
    struct err err;

    a.created_ms = 2;
    b.created_ms = 1;
    assert_int_equal(store_vm_insert(f->store, &a, &err), 0);
    assert_int_equal(store_vm_insert(f->store, &b, &err), 0);
    assert_names(f->store, "second first");
    a.state = VM_ERROR;
    (void)snprintf(a.reason, sizeof(a.reason), "it's; \"DROP\"");
    assert_int_equal(store_vm_update(f->store, &a, &err), 0);
    assert_int_equal(store_vm_list(f->store, &rows, &count, &err), 0);
    assert_int_equal(rows[1].state, VM_ERROR);
    assert_string_equal(rows[1].reason, "it's; \"DROP\"");
    assert_string_equal(rows[1].labels, "{}");
    free_rows(rows, count);
    assert_int_equal(store_vm_delete(f->store, "b", &err), 0);
    assert_names(f->store, "first");
    assert_int_equal(store_vm_delete(f->store, "a", &err), 0);
    assert_names(f->store, "");
}

static void a_name_is_used_once(void **state)
{
    struct fixture *f = *state;
    struct vm_row a = vm_row_make("a", "box"), b = vm_row_make("b", "box");
    struct err err;

    assert_int_equal(store_vm_insert(f->store, &a, &err), 0);
    assert_int_equal(store_vm_insert(f->store, &b, &err), -1);
    assert_int_equal(err.code, ERR_ALREADY_EXISTS);
    assert_string_equal(err.message, "VM 'box' exists already");
    assert_string_equal(err.hint, "choose another --name, or delete it with: banger rm box");
    assert_names(f->store, "box");
    assert_int_equal(store_vm_delete(f->store, "a", &err), 0);
    assert_int_equal(store_vm_insert(f->store, &b, &err), 0);
}

static void many_vms_are_listed(void **state)
{
    struct fixture *f = *state;
    struct vm_row *rows;
    size_t count;
    struct err err;

    for (int i = 0; i < 40; i++) {
        char name[16];
        struct vm_row row;

        (void)snprintf(name, sizeof(name), "vm-%d", i);
        row = vm_row_make(name, name);
        row.created_ms = i;
        assert_int_equal(store_vm_insert(f->store, &row, &err), 0);
    }
    assert_int_equal(store_vm_list(f->store, &rows, &count, &err), 0);
    assert_int_equal(count, 40);
    assert_string_equal(rows[39].name, "vm-39");
    free_rows(rows, count);
}

static void a_copy_of_a_row_owns_its_labels(void **state)
{
    struct vm_row row = vm_row_make("a", "box"), copy;
    char labels[] = "{\"x\":\"y\"}";

    (void)state;
    vm_row_copy(&copy, &row);
    assert_string_equal(copy.labels, "{}");
    row.labels = labels;
    vm_row_done(&copy);
    vm_row_copy(&copy, &row);
    assert_ptr_not_equal(copy.labels, row.labels);
    assert_string_equal(copy.labels, row.labels);
    vm_row_done(&copy);
}

/* ---- images and kernels ---- */

static void assert_found(struct store *s, const char *ref, const char *digest)
{
    _cleanup_artifact_row_ struct artifact_row row = {0};
    struct err err;

    assert_int_equal(store_artifact_find(s, STORE_IMAGE, ref, &row, &err), 0);
    assert_string_equal(row.digest, digest);
}

static void assert_not_found(struct store *s, const char *ref, enum err_code code,
                             const char *message)
{
    struct artifact_row row;
    struct err err;

    assert_int_equal(store_artifact_find(s, STORE_IMAGE, ref, &row, &err), -1);
    assert_int_equal(err.code, code);
    assert_string_equal(err.message, message);
}

static void images_are_found_by_name_digest_and_unique_prefix(void **state)
{
    struct store *s = ((struct fixture *)*state)->store;

    publish(s, STORE_IMAGE, DIGEST_B, "other");
    publish(s, STORE_IMAGE, DIGEST_C, "cccccc"); /* a name that looks like a prefix */
    publish(s, STORE_IMAGE, DIGEST_A, "aaaaaabbb");
    assert_found(s, "debian", DIGEST_A);
    assert_found(s, DIGEST_A, DIGEST_A);
    assert_found(s, &DIGEST_B[7], DIGEST_B);
    assert_found(s, "sha256:aaaaaaaa", DIGEST_A);
    assert_found(s, "aaaaaabb", DIGEST_B);
    assert_found(s, "aaaaaabbb", DIGEST_A); /* names first */
    assert_found(s, "cccccc", DIGEST_C);
    assert_not_found(s, "aaaaaa", ERR_CONFLICT,
                     "image 'aaaaaa' is ambiguous: more than one digest starts so");
    assert_not_found(s, "aaaaa", ERR_NOT_FOUND, "no image 'aaaaa'"); /* too short */
    assert_not_found(s, "aaaaaa*", ERR_NOT_FOUND, "no image 'aaaaaa*'");
    assert_not_found(s, "AAAAAAAA", ERR_NOT_FOUND, "no image 'AAAAAAAA'");
    assert_not_found(s, "ddd\x1b", ERR_NOT_FOUND, "no image 'ddd\\x1b'");
    assert_not_found(s, "", ERR_NOT_FOUND, "no image ''");
    assert_not_found(s, "k", ERR_NOT_FOUND, "no image 'k'"); /* that is a kernel */
}

static void a_name_moves_to_what_is_published_last(void **state)
{
    struct fixture *f = *state;
    struct artifact_row *rows;
    size_t count;
    struct err err;

    publish(f->store, STORE_IMAGE, DIGEST_B, "debian");
    publish(f->store, STORE_IMAGE, DIGEST_B, "second");
    assert_found(f->store, "debian", DIGEST_B);
    assert_int_equal(store_artifact_list(f->store, STORE_IMAGE, &rows, &count, &err), 0);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < count; i++) {
        bool a = str_eq(rows[i].digest, DIGEST_A);

        assert_int_equal(rows[i].size_bytes, 5);
        assert_string_equal(rows[i].config, "{\"cmd\":[\"sh\"]}");
        assert_true(str_eq(rows[i].names, a ? "[]" : "[\"debian\",\"second\"]"));
        artifact_row_done(&rows[i]);
    }
    free(rows);
    assert_int_equal(store_artifact_list(f->store, STORE_KERNEL, &rows, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_string_equal(rows[0].version, "6.1");
    artifact_row_done(&rows[0]);
    free(rows);
}

/* ---- the file ---- */

static void the_file_is_private(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    assert_int_equal(fstatat(f->dir.fd, "banger.db", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void run_sql(struct fixture *f, const char *sql)
{
    _cleanup_free_ char *path = x_asprintf("%s/banger.db", f->dir.path);
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void assert_open_fails(struct fixture *f, enum err_code code, const char *part)
{
    struct store *s = NULL;
    struct err err;

    assert_int_equal(store_open(f->dir.fd, &s, &err), -1);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.message, part));
    assert_null(s);
}

static void a_newer_schema_is_refused_and_left_alone(void **state)
{
    struct fixture *f = *state;

    store_close(STEAL_PTR(f->store));
    run_sql(f, "PRAGMA user_version = 1000");
    assert_open_fails(f, ERR_UNSUPPORTED, "written by a newer banger (schema 1000, ");
    assert_open_fails(f, ERR_UNSUPPORTED, "newer banger");
}

static void a_damaged_file_is_an_error(void **state)
{
    struct fixture *f = *state;
    char junk[8192];

    store_close(STEAL_PTR(f->store));
    memset(junk, 'x', sizeof(junk));
    assert_int_equal(fs_write_atomic(f->dir.fd, "banger.db", junk, sizeof(junk), 0600, false), 0);
    assert_open_fails(f, ERR_IO, "not a database");
}

static void a_damaged_page_is_an_error_when_it_is_read(void **state)
{
    struct fixture *f = *state;
    struct vm_row row = vm_row_make("a", "name-of-it"), *rows;
    _cleanup_close_ int fd = -1;
    char page[4096], junk[4096];
    unsigned damaged = 0;
    size_t count;
    struct err err;

    assert_int_equal(store_vm_insert(f->store, &row, &err), 0);
    store_close(STEAL_PTR(f->store));
    memset(junk, 0x5a, sizeof(junk));
    fd = openat(f->dir.fd, "banger.db", O_RDWR | O_CLOEXEC);
    /* Those of the VM; the schema has pages of its own. */
    for (off_t at = 0; pread(fd, page, sizeof(page), at) == sizeof(page); at += sizeof(page)) {
        if (memmem(page, sizeof(page), row.name, strlen(row.name))) {
            assert_int_equal(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
            damaged++;
        }
    }
    assert_true(damaged > 0);
    open_store(f);
    assert_int_equal(store_vm_list(f->store, &rows, &count, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.message, "malformed"));
}

/* What the child found, as its exit status: which error code, or 50 when all went well. */
static int open_in_child(void *arg)
{
    struct fixture *f = arg;
    struct store *s;
    struct err err;

    if (store_open(f->dir.fd, &s, &err) == 0) {
        store_close(s);
        return 50;
    }
    return err.hint[0] ? (int)err.code : 60;
}

static void a_directory_that_cannot_be_written_is_an_error(void **state)
{
    struct fixture *f = *state;
    int status;

    store_close(STEAL_PTR(f->store));
    assert_int_equal(fchmod(f->dir.fd, 0555), 0);
    status = test_child(open_in_child, f, true);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ERR_IO);
    assert_int_equal(unlinkat(f->dir.fd, "banger.db", 0), 0);
    status = test_child(open_in_child, f, true);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ERR_IO);
    assert_int_equal(fchmod(f->dir.fd, 0700), 0);
}

/* A file may not grow: what is written fails, what was there stays. */
static int fill_in_child(void *arg)
{
    struct fixture *f = arg;
    struct rlimit limit = {.rlim_cur = 256 * 1024, .rlim_max = 256 * 1024};
    struct vm_row *rows;
    struct err err;
    size_t count;
    int i;

    (void)signal(SIGXFSZ, SIG_IGN);
    if (store_open(f->dir.fd, &f->store, &err) < 0 || setrlimit(RLIMIT_FSIZE, &limit) < 0) {
        return 51;
    }
    for (i = 0; i < 2000; i++) {
        char name[16];
        struct vm_row row;

        (void)snprintf(name, sizeof(name), "vm-%04d", i);
        row = vm_row_make(name, name);
        if (store_vm_insert(f->store, &row, &err) < 0) {
            break;
        }
    }
    if (i == 2000) {
        return 52;
    }
    if (err.code != ERR_IO && err.code != ERR_NO_SPACE) {
        return 53;
    }
    if (store_vm_list(f->store, &rows, &count, &err) < 0 || count != (size_t)i) {
        return 54;
    }
    free_rows(rows, count);
    store_close(f->store);
    return 0;
}

static void a_full_disk_fails_the_write_and_keeps_the_rest(void **state)
{
    struct fixture *f = *state;
    struct vm_row row = vm_row_make("late", "late"), *rows;
    size_t count;
    struct err err;
    int status;

    store_close(STEAL_PTR(f->store));
    status = test_child(fill_in_child, f, false);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    open_store(f);
    assert_int_equal(store_vm_list(f->store, &rows, &count, &err), 0);
    assert_true(count > 10);
    free_rows(rows, count);
    assert_int_equal(store_vm_insert(f->store, &row, &err), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_field_of_a_vm_comes_back),
        TEST(the_network_is_kept_and_a_place_is_one_vms),
        TEST(vms_are_updated_listed_by_age_and_deleted),
        TEST(a_name_is_used_once),
        TEST(many_vms_are_listed),
        TEST(a_copy_of_a_row_owns_its_labels),
        TEST(images_are_found_by_name_digest_and_unique_prefix),
        TEST(a_name_moves_to_what_is_published_last),
        TEST(the_file_is_private),
        TEST(a_newer_schema_is_refused_and_left_alone),
        TEST(a_damaged_file_is_an_error),
        TEST(a_damaged_page_is_an_error_when_it_is_read),
        TEST(a_directory_that_cannot_be_written_is_an_error),
        TEST(a_full_disk_fails_the_write_and_keeps_the_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
