/* codec/tar: what the writer writes and the reader makes of it, whatever the pieces it comes in;
 * and of bytes that nobody should trust. Archives of other programs are in tests/fuzz/corpus/tar.
 */
#include "codec/tar.h"

#include "codec/tar_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#define MAX ((size_t)4 << 20)

static const struct tar_xattr xattrs[] = {
    {.name = "user.a", .value = (const uint8_t *)"\0=\n", .len = 3},
    {.name = "user.empty", .value = (const uint8_t *)"", .len = 0},
};
static const struct tar_extent extents[] = {{.offset = 0, .length = 3},
                                            {.offset = 1000000, .length = 600}};

static char long_path[3000], long_target[4000];

static const struct tar_entry samples[] = {
    {.type = TAR_FILE, .path = "a", .target = "", .mode = 0644, .size = 5, .mtime_s = 1},
    {.type = TAR_FILE, .path = "empty", .target = "", .mode = 07777, .uid = 7, .gid = 8},
    {.type = TAR_DIRECTORY, .path = "d", .target = "", .mode = 0755, .mtime_s = -2, .mtime_ns = 5},
    {.type = TAR_SYMLINK, .path = "s", .target = "x/y", .mode = 0777},
    {.type = TAR_SYMLINK, .path = "s2", .target = long_target, .mode = 0777},
    {.type = TAR_HARD_LINK, .path = "h", .target = "a", .mode = 0644},
    {.type = TAR_FIFO, .path = "p", .target = "", .mode = 0600, .mtime_ns = 999999999},
    {.type = TAR_CHAR_DEVICE,
     .path = "c",
     .target = "",
     .mode = 0666,
     .major = 4095,
     .minor = 1048575},
    {.type = TAR_BLOCK_DEVICE, .path = "b", .target = "", .mode = 0660, .major = 8},
    {.type = TAR_FILE,
     .path = long_path,
     .target = "",
     .mode = 0600,
     .uid = UINT32_MAX - 1,
     .gid = 3000000,
     .mtime_s = 90000000000,
     .mtime_ns = 120000000,
     .size = 1025,
     .xattrs = xattrs,
     .xattr_count = 2},
    {.type = TAR_FILE,
     .path =
         "not/\xff\xfe/utf-8-in-a-name-that-is-longer-than-the-hundred-bytes-of-a-header-and-so-"
         "comes-in-an-extended-one",
     .target = "",
     .mode = 0644},
    {.type = TAR_FILE,
     .path = "dir/sparse",
     .target = "",
     .mode = 0644,
     .size = 2000000,
     .sparse = true,
     .extents = extents,
     .extent_count = 2},
    {.type = TAR_FILE, .path = "hole", .target = "", .mode = 0644, .size = 77, .sparse = true},
};

static void fill(void)
{
    memset(long_path, 'p', sizeof(long_path) - 1);
    memset(long_target, 't', sizeof(long_target) - 1);
    for (size_t i = 90; i < sizeof(long_path) - 1; i += 91) {
        long_path[i] = '/';
    }
}

static uint8_t byte_at(uint64_t offset)
{
    return (uint8_t)(offset % 251);
}

static void put_samples(struct buf *b)
{
    fill();
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        const struct tar_entry *e = &samples[i];

        assert_int_equal(tar_put_entry(b, e), 0);
        for (uint64_t at = 0; at < e->size && !e->sparse; at++) {
            assert_int_equal(buf_append_u8(b, byte_at(at)), 0);
        }
        for (size_t x = 0; x < e->extent_count; x++) {
            for (uint64_t at = 0; at < e->extents[x].length; at++) {
                assert_int_equal(buf_append_u8(b, byte_at(e->extents[x].offset + at)), 0);
            }
        }
        assert_int_equal(tar_put_padding(b, tar_data_size(e)), 0);
        assert_int_equal(b->len % TAR_BLOCK, 0);
    }
    assert_int_equal(tar_put_end(b), 0);
}

static void assert_entry(const struct tar_entry *got, const struct tar_entry *want)
{
    assert_int_equal(got->type, want->type);
    assert_string_equal(got->path, want->path);
    assert_string_equal(got->target, want->target);
    assert_int_equal(got->mode, want->mode);
    assert_int_equal(got->uid, want->uid);
    assert_int_equal(got->gid, want->gid);
    assert_int_equal(got->mtime_s, want->mtime_s);
    assert_int_equal(got->mtime_ns, want->mtime_ns);
    assert_int_equal(got->size, want->size);
    assert_int_equal(got->major, want->major);
    assert_int_equal(got->minor, want->minor);
    assert_int_equal(got->sparse, want->sparse);
    assert_int_equal(got->extent_count, want->extent_count);
    for (size_t i = 0; i < want->extent_count; i++) {
        assert_int_equal(got->extents[i].offset, want->extents[i].offset);
        assert_int_equal(got->extents[i].length, want->extents[i].length);
    }
    assert_int_equal(got->xattr_count, want->xattr_count);
    for (size_t i = 0; i < want->xattr_count; i++) {
        assert_string_equal(got->xattrs[i].name, want->xattrs[i].name);
        assert_int_equal(got->xattrs[i].len, want->xattrs[i].len);
        assert_memory_equal(got->xattrs[i].value, want->xattrs[i].value, want->xattrs[i].len);
    }
}

/* Reads all samples from pieces of `chunk` bytes. */
static void read_samples(const struct buf *b, size_t chunk)
{
    size_t entry = 0, left = 0, at = 0;
    const uint8_t *p = NULL;
    struct tar_piece piece;
    struct tar_reader r;
    uint64_t bytes = 0;
    int event;

    tar_reader_init(&r);
    while ((event = tar_read(&r, &p, &left, &piece)) != TAR_END) {
        switch (event) {
        case TAR_MORE:
            assert_true(at < b->len);
            assert_int_equal(left, 0);
            p = buf_head(b) + at;
            left = b->len - at < chunk ? b->len - at : chunk;
            at += left;
            break;
        case TAR_ENTRY:
            assert_true(entry < ARRAY_LEN(samples));
            assert_entry(&r.entry, &samples[entry]);
            bytes = 0;
            break;
        case TAR_DATA:
            for (size_t i = 0; i < piece.len; i++) {
                assert_int_equal(piece.data[i], byte_at(piece.offset + i));
            }
            bytes += piece.len;
            break;
        case TAR_ENTRY_END:
            assert_int_equal(bytes, tar_data_size(&samples[entry]));
            entry++;
            break;
        default:
            fail_msg("%s", r.why);
        }
    }
    assert_int_equal(entry, ARRAY_LEN(samples));
    assert_true(tar_is_complete(&r));
    tar_reader_done(&r);
}

static void what_is_written_is_read_again_in_any_pieces(void **state)
{
    static const size_t chunks[] = {1, 7, 511, 512, 513, 4096, MAX};
    _cleanup_buf_ struct buf b;

    (void)state;
    buf_init(&b, MAX);
    put_samples(&b);
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        read_samples(&b, chunks[i]);
    }
}

static void what_cannot_be_written_leaves_no_trace(void **state)
{
    static const struct tar_xattr bad_xattr = {
        .name = "user.a=b", .value = (const uint8_t *)"", .len = 0};
    struct tar_entry e = {.type = TAR_FILE, .path = "", .target = "", .mode = 0644};
    _cleanup_buf_ struct buf b;

    (void)state;
    buf_init(&b, 1000);
    assert_int_equal(tar_put_entry(&b, &e), -EINVAL);
    e.path = "a";
    e.size = UINT64_MAX;
    assert_int_equal(tar_put_entry(&b, &e), -EINVAL);
    e.size = 0;
    e.xattrs = &bad_xattr;
    e.xattr_count = 1;
    assert_int_equal(tar_put_entry(&b, &e), -EINVAL);
    /* The extended header fits, the header behind it does not. */
    e.xattr_count = 0;
    e.mtime_ns = 1;
    assert_int_equal(tar_put_entry(&b, &e), -ENOBUFS);
    assert_int_equal(b.len, 0);
}

/* Makes the header's checksum right again. */
static void seal(uint8_t *h)
{
    unsigned sum = 0;

    memset(h + TAR_AT_CHECKSUM, ' ', 8);
    for (size_t i = 0; i < TAR_BLOCK; i++) {
        sum += h[i];
    }
    (void)snprintf((char *)h + TAR_AT_CHECKSUM, 8, "%06o", sum);
}

/* What the reader says of these bytes: the last event, or the error. */
static int outcome(const uint8_t *data, size_t len)
{
    struct tar_piece piece;
    struct tar_reader r;
    int event;

    tar_reader_init(&r);
    do {
        event = tar_read(&r, &data, &len, &piece);
    } while (event > TAR_MORE && event != TAR_END);
    if (event < 0) {
        assert_non_null(r.why);
    } else if (event == TAR_MORE) {
        event = tar_is_complete(&r) ? TAR_END : TAR_MORE;
    }
    tar_reader_done(&r);
    return event;
}

static void put_header_of(uint8_t *h, char type, const char *size)
{
    memset(h, 0, TAR_BLOCK);
    memcpy(h, "name", 4);
    memcpy(h + TAR_AT_MODE, "0000644", 8);
    memcpy(h + TAR_AT_SIZE, size, strlen(size));
    memcpy(h + TAR_AT_MAGIC, "ustar", 6);
    h[TAR_AT_TYPE] = (uint8_t)type;
    seal(h);
}

static void damaged_headers_are_refused(void **state)
{
    uint8_t h[TAR_BLOCK];

    (void)state;
    put_header_of(h, '0', "0");
    assert_int_equal(outcome(h, sizeof(h)), TAR_MORE);
    h[0] ^= 1;
    assert_int_equal(outcome(h, sizeof(h)), -EPROTO); /* the checksum */
    put_header_of(h, '0', "99999999999");
    assert_int_equal(outcome(h, sizeof(h)), -EPROTO); /* no octal digits */
    put_header_of(h, '0', "0");
    memset(h, 0, 100);
    seal(h);
    assert_int_equal(outcome(h, sizeof(h)), -EPROTO); /* no name */
    put_header_of(h, '2', "0");
    assert_int_equal(outcome(h, sizeof(h)), -EPROTO); /* a link to nothing */
    put_header_of(h, 'x', "77777777777");
    assert_int_equal(outcome(h, sizeof(h)), -E2BIG);
    put_header_of(h, 'L', "1000000");
    assert_int_equal(outcome(h, sizeof(h)), -E2BIG);
    put_header_of(h, '0', "0");
    memset(h + TAR_AT_SIZE, 0xff, 12); /* base-256: -1 */
    seal(h);
    assert_int_equal(outcome(h, sizeof(h)), -EPROTO);
    memset(h + TAR_AT_SIZE, 0x80, 1);
    memset(h + TAR_AT_SIZE + 1, 0xff, 11);
    seal(h);
    assert_int_equal(outcome(h, sizeof(h)), -EPROTO); /* beyond 64 bits */
}

static void bad_records_are_refused(void **state)
{
    static const char *const records[] = {
        "0 a=b\n",
        "5 a=b",
        "6 a=b\nx",
        "99 a=b\n",
        "7  =b\n ",
        "6 =b\n\n",
        "6 ab\n\n",
        "a=b\n",
        "-6 a=b\n",
        "11 mtime=x\n",
        "10 uid=-1\n",
        "18 uid=4294967295\n",
        "12 size=1e9\n",
        "19 SCHILY.xattr.=x\n",
        "26 GNU.sparse.map=1,2,x,4\n",
        "24 GNU.sparse.map=9,9,1\n",
        "26 GNU.sparse.map=9,9,1,1\n",
        "22 GNU.sparse.major=2\n22 GNU.sparse.minor=0\n",
        "25 GNU.sparse.numbytes=1\n",
    };
    uint8_t b[3 * TAR_BLOCK];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(records); i++) {
        char size[32];

        memset(b, 0, sizeof(b));
        (void)snprintf(size, sizeof(size), "%zo", strlen(records[i]));
        put_header_of(b, 'x', size);
        memcpy(b + TAR_BLOCK, records[i], strlen(records[i]));
        put_header_of(b + 2 * TAR_BLOCK, '0', "0");
        if (outcome(b, sizeof(b)) != -EPROTO) {
            fail_msg("accepted: %s", records[i]);
        }
    }
}

static void an_archive_cut_short_is_not_complete(void **state)
{
    _cleanup_buf_ struct buf b;

    (void)state;
    buf_init(&b, MAX);
    put_samples(&b);
    for (size_t len = 0; len < b.len - 2 * (size_t)TAR_BLOCK; len += 97) {
        assert_int_equal(outcome(buf_head(&b), len), TAR_MORE);
    }
    /* Some write one block of zeros for two, and much padding behind them. */
    assert_int_equal(outcome(buf_head(&b), b.len - TAR_BLOCK), TAR_END);
    assert_int_equal(tar_put_end(&b), 0);
    assert_int_equal(outcome(buf_head(&b), b.len), TAR_END);
}

static void numbers_are_octal_or_base_256(void **state)
{
    int64_t v = 0;
    uint32_t ns = 0;

    (void)state;
    assert_int_equal(tar_parse_number((const uint8_t *)"  644 \0x", 8, &v), 0);
    assert_int_equal(v, 0644);
    assert_int_equal(tar_parse_number((const uint8_t *)"77777777", 8, &v), 0);
    assert_int_equal(v, 077777777);
    assert_int_equal(tar_parse_number((const uint8_t *)"\x80\0\0\0\0\0\x01\x02", 8, &v), 0);
    assert_int_equal(v, 0x102);
    assert_int_equal(tar_parse_number((const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xfe", 8, &v),
                     0);
    assert_int_equal(v, -2);
    assert_int_equal(tar_parse_number((const uint8_t *)"64x     ", 8, &v), -EPROTO);
    assert_int_equal(tar_parse_time((const uint8_t *)"-1.5", 4, &v, &ns), 0);
    assert_int_equal(v, -2);
    assert_int_equal(ns, 500000000);
    assert_int_equal(tar_parse_time((const uint8_t *)"1.0000000019", 12, &v, &ns), 0);
    assert_int_equal(ns, 1);
    assert_int_equal(tar_parse_time((const uint8_t *)"1.x", 3, &v, &ns), -EPROTO);
    assert_int_equal(tar_parse_time((const uint8_t *)".5", 2, &v, &ns), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again_in_any_pieces),
        cmocka_unit_test(what_cannot_be_written_leaves_no_trace),
        cmocka_unit_test(damaged_headers_are_refused),
        cmocka_unit_test(bad_records_are_refused),
        cmocka_unit_test(an_archive_cut_short_is_not_complete),
        cmocka_unit_test(numbers_are_octal_or_base_256),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
