#include "codec/tar.h"

#include "codec/tar_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NAME_SIZE 100
#define PREFIX_SIZE 155
#define OCTAL_7 07777777      /* most in a field of 8 bytes */
#define OCTAL_11 077777777777 /* most in a field of 12 bytes */
/* In front of a sparse file's name, so that what knows no sparse files unpacks it beside. */
#define SPARSE_DIR "GNUSparseFile.0/"

/* Records ---------------------------------------------------------------------------------------
 */

static size_t digits_of(uint64_t n)
{
    size_t digits = 1;

    for (; n >= 10; n /= 10) {
        digits++;
    }
    return digits;
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts its own digits. */
static int put_record(struct buf *out, const char *prefix, const char *key, const void *value,
                      size_t len)
{
    size_t rest = 1 + strlen(prefix) + strlen(key) + 1 + len + 1;
    size_t length = rest + digits_of(rest);

    length = rest + digits_of(length);
    if (buf_printf(out, "%zu %s%s=", length, prefix, key) < 0 || buf_append(out, value, len) < 0) {
        return -ENOBUFS;
    }
    return buf_append(out, "\n", 1);
}

static int put_text(struct buf *out, const char *key, const char *value)
{
    return put_record(out, "", key, value, strlen(value));
}

static int put_decimal(struct buf *out, const char *key, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return put_text(out, key, text);
}

static int put_time(struct buf *out, const char *key, int64_t s, uint32_t ns)
{
    bool negative = s < 0;
    uint64_t whole = negative ? (uint64_t)0 - (uint64_t)s : (uint64_t)s;
    char text[40];
    size_t len;

    if (negative && ns > 0) {
        whole--;
        ns = 1000000000 - ns;
    }
    (void)snprintf(text, sizeof(text), "%s%llu.%09u", negative ? "-" : "",
                   (unsigned long long)whole, ns);
    len = strlen(text);
    while (text[len - 1] == '0') {
        text[--len] = 0;
    }
    if (text[len - 1] == '.') {
        text[--len] = 0;
    }
    return put_record(out, "", key, text, len);
}

/* UTF-8 as RFC 3629 has it: no long forms, no surrogates, nothing above U+10FFFF. */
static bool is_utf8(const char *text)
{
    const uint8_t *s = (const uint8_t *)text;

    while (*s) {
        unsigned more = *s < 0x80 ? 0 : *s < 0xe0 ? 1 : *s < 0xf0 ? 2 : 3;
        uint8_t first = *s++, low = 0x80, high = 0xbf;

        if (first >= 0x80 && (first < 0xc2 || first > 0xf4)) {
            return false;
        }
        low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : low;
        high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : high;
        for (; more > 0; more--) {
            if (*s < low || *s > high) {
                return false;
            }
            s++;
            low = 0x80;
            high = 0xbf;
        }
    }
    return true;
}

/* A name that is not UTF-8 must be announced, or bsdtar refuses it. */
static int put_names(struct buf *out, const struct tar_entry *e, bool path, bool target)
{
    int r = 0;

    if ((path && !is_utf8(e->path)) || (target && !is_utf8(e->target))) {
        r = put_text(out, "hdrcharset", "BINARY");
    }
    if (r == 0 && path) {
        r = put_text(out, e->sparse ? "GNU.sparse.name" : "path", e->path);
    }
    if (r == 0 && target) {
        r = put_text(out, "linkpath", e->target);
    }
    return r;
}

/* Sizes -----------------------------------------------------------------------------------------
 */

/* A file that ends with a hole has a last, empty piece at its end: GNU tar takes the size from it.
 */
static bool ends_with_hole(const struct tar_entry *e)
{
    const struct tar_extent *last = e->extent_count > 0 ? &e->extents[e->extent_count - 1] : NULL;

    return !last || last->offset + last->length < e->size;
}

/* Of the map in front of a sparse file's data, without its padding. */
static size_t map_len(const struct tar_entry *e)
{
    bool hole = ends_with_hole(e);
    size_t len = digits_of(e->extent_count + hole) + 1;

    for (size_t i = 0; i < e->extent_count; i++) {
        len += digits_of(e->extents[i].offset) + 1 + digits_of(e->extents[i].length) + 1;
    }
    return len + (hole ? digits_of(e->size) + 3 : 0);
}

static uint64_t padded(uint64_t size)
{
    return (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

uint64_t tar_data_size(const struct tar_entry *e)
{
    uint64_t size = 0;

    if (e->type != TAR_FILE) {
        return 0;
    }
    if (!e->sparse) {
        return e->size;
    }
    for (size_t i = 0; i < e->extent_count; i++) {
        size += e->extents[i].length;
    }
    return size;
}

/* What the size field says. */
static uint64_t stored_size(const struct tar_entry *e)
{
    return tar_data_size(e) + (e->sparse ? padded(map_len(e)) : 0);
}

static int put_zeros(struct buf *out, size_t len)
{
    uint8_t *p = buf_reserve(out, len);

    if (!p) {
        return -ENOBUFS;
    }
    memset(p, 0, len);
    buf_commit(out, len);
    return 0;
}

int tar_put_padding(struct buf *out, uint64_t size)
{
    size_t len = (size_t)(padded(size) - size);

    return len > 0 ? put_zeros(out, len) : 0;
}

int tar_put_end(struct buf *out)
{
    return put_zeros(out, 2 * TAR_BLOCK);
}

/* Headers ---------------------------------------------------------------------------------------
 */

/* What one header says; numbers that do not fit are 0, for the extended header has them. */
struct header {
    char type;
    const char *name, *target;
    size_t prefix_len; /* of the name, with its slash, that goes to the prefix */
    uint64_t mode, uid, gid, size, mtime, major, minor;
};

static void put_octal(uint8_t *field, size_t size, uint64_t v)
{
    field[size - 1] = 0;
    for (size_t i = size - 1; i > 0; i--) {
        field[i - 1] = (uint8_t)('0' + (v & 7));
        v >>= 3;
    }
}

/* Copies a string that need not be ended when it fills its field. */
static void put_field(uint8_t *field, size_t size, const char *s, size_t len)
{
    memcpy(field, s, len < size ? len : size);
}

static int put_header(struct buf *out, const struct header *h)
{
    uint8_t *p = buf_reserve(out, TAR_BLOCK);
    uint32_t sum = 0;

    if (!p) {
        return -ENOBUFS;
    }
    memset(p, 0, TAR_BLOCK);
    put_field(p, NAME_SIZE, h->name + h->prefix_len, strlen(h->name + h->prefix_len));
    if (h->prefix_len > 0) {
        put_field(p + TAR_AT_PREFIX, PREFIX_SIZE, h->name, h->prefix_len - 1);
    }
    put_octal(p + TAR_AT_MODE, 8, h->mode);
    put_octal(p + TAR_AT_UID, 8, h->uid);
    put_octal(p + TAR_AT_GID, 8, h->gid);
    put_octal(p + TAR_AT_SIZE, 12, h->size);
    put_octal(p + TAR_AT_MTIME, 12, h->mtime);
    p[TAR_AT_TYPE] = (uint8_t)h->type;
    put_field(p + TAR_AT_TARGET, NAME_SIZE, h->target, strlen(h->target));
    memcpy(p + TAR_AT_MAGIC, "ustar\00000", 8);
    put_octal(p + TAR_AT_MAJOR, 8, h->major);
    put_octal(p + TAR_AT_MINOR, 8, h->minor);
    memset(p + TAR_AT_CHECKSUM, ' ', 8);
    for (size_t i = 0; i < TAR_BLOCK; i++) {
        sum += p[i];
    }
    put_octal(p + TAR_AT_CHECKSUM, 7, sum);
    buf_commit(out, TAR_BLOCK);
    return 0;
}

/* Where a long name can be cut at a slash: 0 = it fits the name field, -1 = it cannot. */
static int find_prefix(const char *path)
{
    size_t len = strlen(path);

    if (len <= NAME_SIZE) {
        return 0;
    }
    if (len > PREFIX_SIZE + 1 + NAME_SIZE) {
        return -1;
    }
    for (size_t at = len - NAME_SIZE - 1; at <= PREFIX_SIZE && at + 1 < len; at++) {
        if (path[at] == '/' && at > 0) {
            return (int)at + 1;
        }
    }
    return -1;
}

static int put_sparse_records(struct buf *out, const struct tar_entry *e)
{
    int r = put_decimal(out, "GNU.sparse.major", 1);

    if (r == 0) {
        r = put_decimal(out, "GNU.sparse.minor", 0);
    }
    return r < 0 ? r : put_decimal(out, "GNU.sparse.realsize", e->size);
}

/* The records for what the header h cannot say, which is taken out of h. */
static int put_records(struct buf *out, const struct tar_entry *e, struct header *h)
{
    int prefix = find_prefix(e->path);
    bool long_path = prefix < 0 || e->sparse;
    bool long_target = strlen(e->target) > NAME_SIZE;
    int r = put_names(out, e, long_path, long_target);

    h->prefix_len = prefix > 0 ? (size_t)prefix : 0;
    if (r == 0 && e->sparse) {
        r = put_sparse_records(out, e);
    }
    if (r == 0 && h->size > OCTAL_11) {
        r = put_decimal(out, "size", h->size);
        h->size = 0;
    }
    if (r == 0 && h->uid > OCTAL_7) {
        r = put_decimal(out, "uid", h->uid);
        h->uid = 0;
    }
    if (r == 0 && h->gid > OCTAL_7) {
        r = put_decimal(out, "gid", h->gid);
        h->gid = 0;
    }
    if (r == 0 && (e->mtime_ns > 0 || h->mtime > OCTAL_11)) {
        r = put_time(out, "mtime", e->mtime_s, e->mtime_ns);
        h->mtime = h->mtime > OCTAL_11 ? 0 : h->mtime;
    }
    for (size_t i = 0; r == 0 && i < e->xattr_count; i++) {
        const struct tar_xattr *x = &e->xattrs[i];

        r = put_record(out, "SCHILY.xattr.", x->name, x->value, x->len);
    }
    return r;
}

static int put_map(struct buf *out, const struct tar_entry *e)
{
    size_t len = map_len(e);

    bool hole = ends_with_hole(e);

    if (buf_printf(out, "%zu\n", e->extent_count + hole) < 0) {
        return -ENOBUFS;
    }
    for (size_t i = 0; i < e->extent_count; i++) {
        if (buf_printf(out, "%llu\n%llu\n", (unsigned long long)e->extents[i].offset,
                       (unsigned long long)e->extents[i].length) < 0) {
            return -ENOBUFS;
        }
    }
    if (hole && buf_printf(out, "%llu\n0\n", (unsigned long long)e->size) < 0) {
        return -ENOBUFS;
    }
    return tar_put_padding(out, len);
}

static bool is_writable(const struct tar_entry *e)
{
    bool fits = e->path[0] && strlen(e->path) <= TAR_PATH_MAX &&
                strlen(e->target) <= TAR_PATH_MAX && e->size <= TAR_SIZE_MAX &&
                e->extent_count <= TAR_EXTENTS_MAX && e->xattr_count <= TAR_XATTRS_MAX &&
                e->type != TAR_UNKNOWN;

    for (size_t i = 0; fits && i < e->xattr_count; i++) {
        fits = e->xattrs[i].name[0] && !strchr(e->xattrs[i].name, '=');
    }
    return fits;
}

/* Header, and behind it the map. */
static int put_member(struct buf *out, const struct tar_entry *e, const struct header *h)
{
    int r = put_header(out, h);

    return r == 0 && e->sparse ? put_map(out, e) : r;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

int tar_put_entry(struct buf *out, const struct tar_entry *e)
{
    static const char type_chars[] = {
        [TAR_FILE] = '0',        [TAR_HARD_LINK] = '1',    [TAR_SYMLINK] = '2',
        [TAR_CHAR_DEVICE] = '3', [TAR_BLOCK_DEVICE] = '4', [TAR_DIRECTORY] = '5',
        [TAR_FIFO] = '6',
    };
    struct header h = {.name = e->path, .target = e->target, .mode = e->mode};
    struct header x = {.type = 'x', .name = "././@PaxHeader", .target = "", .mode = 0644};
    char sparse_name[NAME_SIZE + 1];
    _cleanup_buf_ struct buf records = {.max = TAR_EXTENDED_MAX};
    size_t before = out->len;
    int r;

    if (!is_writable(e)) {
        return -EINVAL;
    }
    h.type = type_chars[e->type];
    h.uid = e->uid;
    h.gid = e->gid;
    h.major = e->major;
    h.minor = e->minor;
    h.size = stored_size(e);
    h.mtime = e->mtime_s < 0 ? UINT64_MAX : (uint64_t)e->mtime_s;
    r = put_records(&records, e, &h);
    if (e->sparse) {
        (void)snprintf(sparse_name, sizeof(sparse_name), SPARSE_DIR "%.80s", last_part(e->path));
        h.name = sparse_name;
        h.prefix_len = 0;
    }
    if (r == 0 && records.len > 0) {
        x.size = records.len;
        r = put_header(out, &x);
        if (r == 0) {
            r = buf_append(out, buf_head(&records), records.len);
        }
        if (r == 0) {
            r = tar_put_padding(out, records.len);
        }
    }
    if (r == 0) {
        r = put_member(out, e, &h);
    }
    if (r < 0) {
        out->len = before;
    }
    return r;
}
