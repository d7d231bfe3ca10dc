/* Free space and promises of it. The directory's filesystem is whatever /tmp is on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "disk/space.h"
#include "scratch.h"

#include <string.h>

#define TIB (1ull << 40)
#define MIB (1ull << 20)

static uint64_t free_bytes(int fd)
{
    uint64_t bytes = 0;

    assert_int_equal(fs_free_bytes(fd, &bytes), 0);
    return bytes;
}

/* Others may write to /tmp at the same time: what is compared is far larger than that. */
static void what_fits_is_admitted_once(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    struct space *space = space_new(0);
    struct space_claim *first, *second = NULL;
    uint64_t most = free_bytes(s.fd) / 3 * 2;
    struct err err;

    (void)state;
    assert_int_equal(space_claim(space, s.fd, "image 'a'", most, &first, &err), 0);
    assert_int_equal(space_claim(space, s.fd, "image 'b'", most, &second, &err), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    assert_null(second);
    assert_non_null(strstr(err.message, s.path));
    assert_non_null(strstr(err.message, "is too full for image 'b': "));
    assert_non_null(strstr(err.message, " promised to others, and "));
    assert_null(strstr(err.message, "kept free"));
    assert_true(err.hint[0]);
    /* What is refused is not promised. */
    assert_int_equal(space_claim(space, s.fd, "c", 0, &second, &err), 0);
    space_claim_end(second);
    space_claim_end(first);
    assert_int_equal(space_claim(space, s.fd, "image 'b'", most, &second, &err), 0);
    space_claim_end(second);
    space_free(space);
}

static void other_filesystems_have_promises_of_their_own(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    _cleanup_close_ int shm = fs_open_dir(-1, "/dev/shm", false);
    struct space *space = space_new(0);
    struct space_claim *first, *second;
    struct stat a, b;
    struct err err;

    (void)state;
    if (shm < 0 || fstat(shm, &a) < 0 || fstat(s.fd, &b) < 0 || a.st_dev == b.st_dev ||
        free_bytes(shm) < MIB) {
        print_message("skip %s: /dev/shm is no other filesystem\n", __func__);
        space_free(space);
        skip();
    }
    assert_int_equal(space_claim(space, s.fd, "a", free_bytes(s.fd) / 3 * 2, &first, &err), 0);
    assert_int_equal(space_claim(space, shm, "b", free_bytes(shm) / 3 * 2, &second, &err), 0);
    space_claim_end(first);
    space_claim_end(second);
    space_free(space);
}

static void the_reserve_is_at_most_a_twentieth(void **state)
{
    _cleanup_scratch_ struct scratch s = scratch_new();
    struct space *space = space_new(1024 * TIB);
    struct space_claim *claim;
    struct err err;

    (void)state;
    assert_int_equal(space_claim(space, s.fd, "a", free_bytes(s.fd), &claim, &err), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    assert_non_null(strstr(err.message, " kept free, and "));
    assert_non_null(strstr(err.hint, "min_free_mib"));
    if (space_has_room(space, s.fd)) { /* or this machine's disk is nearly full */
        assert_int_equal(space_claim(space, s.fd, "a", 0, &claim, &err), 0);
        space_claim_end(claim);
    }
    space_free(space);
}

static void a_filesystem_that_cannot_be_asked_has_no_room(void **state)
{
    struct space *space = space_new(0);
    struct space_claim *claim;
    struct err err;

    (void)state;
    assert_false(space_has_room(space, -1));
    assert_int_equal(space_claim(space, -1, "a", 0, &claim, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    space_free(space);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_is_admitted_once),
        cmocka_unit_test(other_filesystems_have_promises_of_their_own),
        cmocka_unit_test(the_reserve_is_at_most_a_twentieth),
        cmocka_unit_test(a_filesystem_that_cannot_be_asked_has_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
