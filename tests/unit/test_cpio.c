/* codec/cpio: what the writer writes, and what the reader makes of bytes that it should not trust.
 */
#include "codec/cpio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define MAX (1U << 20)

/* One of each kind. */
static void put_sample(struct buf *b)
{
    struct cpio_writer w;

    cpio_writer_init(&w, b);
    assert_int_equal(cpio_put_dir(&w, "dev", 0755), 0);
    assert_int_equal(cpio_put_char_device(&w, "dev/console", 0600, 5, 1), 0);
    assert_int_equal(cpio_put_file(&w, "init", 0755, "hello", 5), 0);
    assert_int_equal(cpio_put_symlink(&w, "sbin", "usr/sbin"), 0);
    assert_int_equal(cpio_put_file(&w, "empty", 0644, NULL, 0), 0);
    assert_int_equal(cpio_put_end(&w), 0);
}

static void what_is_written_is_read_again(void **state)
{
    static const struct {
        const char *name;
        uint32_t mode;
        const char *data;
    } want[] = {
        {"dev", S_IFDIR | 0755, ""},       {"dev/console", S_IFCHR | 0600, ""},
        {"init", S_IFREG | 0755, "hello"}, {"sbin", S_IFLNK | 0777, "usr/sbin"},
        {"empty", S_IFREG | 0644, ""},
    };
    _cleanup_buf_ struct buf b;
    struct cpio_reader r;
    struct cpio_entry e;

    (void)state;
    buf_init(&b, MAX);
    put_sample(&b);
    cpio_reader_init(&r, buf_head(&b), b.len);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_int_equal(cpio_next(&r, &e), 1);
        assert_string_equal(e.name, want[i].name);
        assert_int_equal(e.name_len, strlen(want[i].name));
        assert_int_equal(e.mode, want[i].mode);
        assert_int_equal(e.ino, i + 1);
        assert_int_equal(e.mtime | e.uid | e.gid, 0);
        assert_int_equal(e.len, strlen(want[i].data));
        if (e.len > 0) {
            assert_memory_equal(e.data, want[i].data, e.len);
        }
        assert_int_equal(e.rdev_major, i == 1 ? 5 : 0);
        assert_int_equal(e.rdev_minor, i == 1 ? 1 : 0);
    }
    assert_int_equal(cpio_next(&r, &e), 0);
    assert_int_equal(cpio_next(&r, &e), 0);
}

/* The bytes themselves, from the kernel's description of the format. */
static void an_entry_has_the_documented_bytes(void **state)
{
    static const char want[] = "070701"
                               "00000001" /* ino */
                               "000081A4" /* mode */
                               "00000000" /* uid */
                               "00000000" /* gid */
                               "00000001" /* nlink */
                               "00000000" /* mtime */
                               "00000003" /* file size */
                               "00000000" /* device */
                               "00000000"
                               "00000000" /* rdev */
                               "00000000"
                               "00000002" /* name size */
                               "00000000" /* checksum */
                               "a\0"
                               "xyz\0";
    _cleanup_buf_ struct buf b;
    struct cpio_writer w;

    (void)state;
    buf_init(&b, MAX);
    cpio_writer_init(&w, &b);
    assert_int_equal(cpio_put_file(&w, "a", 0644, "xyz", 3), 0);
    assert_int_equal(b.len, sizeof(want) - 1);
    assert_memory_equal(buf_head(&b), want, sizeof(want) - 1);
}

static void the_same_calls_give_the_same_bytes(void **state)
{
    _cleanup_buf_ struct buf a, b;

    (void)state;
    buf_init(&a, MAX);
    buf_init(&b, MAX);
    put_sample(&a);
    /* Alignment counts from the start of the archive, not of the buffer. */
    assert_int_equal(buf_append(&b, "xyz", 3), 0);
    put_sample(&b);
    assert_int_equal(b.len, a.len + 3);
    assert_memory_equal(buf_head(&b) + 3, buf_head(&a), a.len);
}

static void bad_entries_are_refused_and_leave_nothing(void **state)
{
    static char long_name[CPIO_NAME_MAX + 2];
    _cleanup_buf_ struct buf b;
    struct cpio_writer w;

    (void)state;
    memset(long_name, 'a', sizeof(long_name) - 1);
    buf_init(&b, 8192);
    cpio_writer_init(&w, &b);
    assert_int_equal(cpio_put_dir(&w, "", 0755), -EINVAL);
    assert_int_equal(cpio_put_dir(&w, "/dev", 0755), -EINVAL);
    assert_int_equal(cpio_put_dir(&w, "TRAILER!!!", 0755), -EINVAL);
    assert_int_equal(cpio_put_dir(&w, long_name, 0755), -EINVAL);
    assert_int_equal(cpio_put_dir(&w, "dev", 010000), -EINVAL);
    assert_int_equal(cpio_put_symlink(&w, "a", ""), -EINVAL);
    assert_int_equal(cpio_put_symlink(&w, "a", long_name), -EINVAL);
    assert_int_equal(cpio_put_file(&w, "a", 0644, long_name, (size_t)1 << 32), -EFBIG);
    assert_int_equal(cpio_put_file(&w, "a", 0644, long_name, 4000), 0);
    assert_int_equal(cpio_put_file(&w, "b", 0644, long_name, 4090), -ENOBUFS);
    assert_int_equal(b.len, 112 + 4000);
    long_name[CPIO_NAME_MAX] = '\0';
    b.max = MAX;
    assert_int_equal(cpio_put_file(&w, long_name, 0644, NULL, 0), 0);
}

static int read_all(const uint8_t *data, size_t len)
{
    struct cpio_reader r;
    struct cpio_entry e;
    int n = 0, result;

    cpio_reader_init(&r, data, len);
    while ((result = cpio_next(&r, &e)) > 0) {
        n++;
    }
    return result < 0 ? result : n;
}

static void an_archive_cut_short_is_refused(void **state)
{
    _cleanup_buf_ struct buf b;

    (void)state;
    buf_init(&b, MAX);
    put_sample(&b);
    assert_int_equal(read_all(buf_head(&b), b.len), 5);
    for (size_t len = 0; len < b.len; len++) {
        /* On the heap, exactly as large: a sanitizer sees a read behind it. */
        uint8_t *copy = malloc(len ? len : 1);
        int n;

        memcpy(copy, buf_head(&b), len);
        n = read_all(copy, len);
        free(copy);
        /* Only the padding of the trailer may be missing. */
        assert_int_equal(n, len >= b.len - 3 ? 5 : -EPROTO);
    }
}

static void malformed_archives_are_refused(void **state)
{
    /* Each spoils the first entry, whose name is "dev". */
    static const struct {
        size_t at;
        const char *bytes;
        size_t len;
    } spoilt[] = {
        {0, "070702", 6},    /* another magic: the form with checksums */
        {0, "070707", 6},    /* the old ASCII form */
        {14, "0000x1ED", 8}, /* no hexadecimal digit */
        {54, "FFFFFFFF", 8}, /* more data than there is */
        {94, "00000000", 8}, /* no name */
        {94, "00000001", 8}, /* an empty name */
        {94, "00001001", 8}, /* a name too long */
        {94, "FFFFFFFF", 8}, /* more name than there is */
        {94, "00000003", 8}, /* not terminated */
        {110, "d\0v", 3},    /* a NUL inside */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(spoilt); i++) {
        _cleanup_buf_ struct buf b;

        buf_init(&b, MAX);
        put_sample(&b);
        memcpy(b.data + b.start + spoilt[i].at, spoilt[i].bytes, spoilt[i].len);
        assert_int_equal(read_all(buf_head(&b), b.len), -EPROTO);
    }
}

static void lower_case_digits_are_read(void **state)
{
    _cleanup_buf_ struct buf b;
    struct cpio_reader r;
    struct cpio_entry e;

    (void)state;
    buf_init(&b, MAX);
    put_sample(&b);
    memcpy(b.data + b.start + 14, "000041ed", 8);
    cpio_reader_init(&r, buf_head(&b), b.len);
    assert_int_equal(cpio_next(&r, &e), 1);
    assert_int_equal(e.mode, S_IFDIR | 0755);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(an_entry_has_the_documented_bytes),
        cmocka_unit_test(the_same_calls_give_the_same_bytes),
        cmocka_unit_test(bad_entries_are_refused_and_leave_nothing),
        cmocka_unit_test(an_archive_cut_short_is_refused),
        cmocka_unit_test(malformed_archives_are_refused),
        cmocka_unit_test(lower_case_digits_are_read),
    };

    return cmocka_run_group_tests_name("cpio", tests, NULL, NULL);
}
