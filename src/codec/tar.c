#include "codec/tar.h"

#include "codec/tar_priv.h"

#include <errno.h>
#include <string.h>

enum state { S_HEADER, S_BODY, S_OLD_MAP, S_MAP, S_MAP_PADDING, S_BEGIN, S_DATA, S_PADDING, S_END };

static int bad(struct tar_reader *r, int error, const char *why)
{
    r->why = why;
    return -error;
}

void tar_reader_init(struct tar_reader *r)
{
    *r = (struct tar_reader){.state = S_HEADER};
    buf_init(&r->extended, TAR_EXTENDED_MAX);
    buf_init(&r->global, TAR_EXTENDED_MAX);
    buf_init(&r->long_path, TAR_PATH_MAX + 1);
    buf_init(&r->long_target, TAR_PATH_MAX + 1);
    buf_init(&r->path, TAR_PATH_MAX + 1);
    buf_init(&r->target, TAR_PATH_MAX + 1);
    buf_init(&r->extents, TAR_EXTENTS_MAX * sizeof(struct tar_extent));
    buf_init(&r->xattrs, TAR_XATTRS_MAX * sizeof(struct tar_xattr));
}

void tar_reader_done(struct tar_reader *r)
{
    buf_done(&r->extended);
    buf_done(&r->global);
    buf_done(&r->long_path);
    buf_done(&r->long_target);
    buf_done(&r->path);
    buf_done(&r->target);
    buf_done(&r->extents);
    buf_done(&r->xattrs);
}

static void empty(struct buf *b)
{
    buf_consume(b, b->len);
}

bool tar_is_complete(const struct tar_reader *r)
{
    return r->state == S_END || (r->state == S_HEADER && r->zero && r->have == 0);
}

static uint64_t padding_of(uint64_t size)
{
    return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}

/* Names -----------------------------------------------------------------------------------------
 */

/* Puts a name into b, with a NUL. An empty one, or one with a NUL inside, is none. */
static int set_name(struct tar_reader *r, struct buf *b, const uint8_t *s, size_t len)
{
    static const uint8_t nul;

    if (len > TAR_PATH_MAX) {
        return bad(r, E2BIG, "a name that is too long");
    }
    if (memchr(s, 0, len)) {
        return bad(r, EPROTO, "a name with a NUL byte");
    }
    empty(b);
    if (buf_append(b, s, len) < 0 || buf_append(b, &nul, 1) < 0) {
        return bad(r, E2BIG, "a name that is too long");
    }
    return 0;
}

/* Sparse maps -----------------------------------------------------------------------------------
 */

static int add_extent(struct tar_reader *r, uint64_t offset, uint64_t length)
{
    const struct tar_extent e = {.offset = offset, .length = length};
    const struct tar_extent *last = NULL;

    if (offset > TAR_SIZE_MAX || length > TAR_SIZE_MAX - offset) {
        return bad(r, EPROTO, "a sparse file whose pieces do not fit");
    }
    if (r->extents.len > 0) {
        last = (const void *)(buf_head(&r->extents) + r->extents.len - sizeof(e));
    }
    if (last && offset < last->offset + last->length) {
        return bad(r, EPROTO, "a sparse file whose pieces overlap");
    }
    if (length == 0) {
        return 0; /* marks the end of the file */
    }
    return buf_append(&r->extents, &e, sizeof(e)) < 0
               ? bad(r, E2BIG, "a sparse file of too many pieces")
               : 0;
}

/* 24-byte pairs of an old GNU header; a pair of zeros in the first byte ends them. */
static int add_old_extents(struct tar_reader *r, const uint8_t *pairs, size_t count)
{
    for (size_t i = 0; i < count && pairs[i * 24]; i++) {
        uint64_t offset, length;

        if (tar_parse_unsigned(pairs + i * 24, 12, &offset) < 0 ||
            tar_parse_unsigned(pairs + i * 24 + 12, 12, &length) < 0) {
            return bad(r, EPROTO, "a bad number in the map of a sparse file");
        }
        if (add_extent(r, offset, length) < 0) {
            return -EPROTO;
        }
    }
    return 0;
}

/* GNU.sparse.map of 0.1: "offset,length,offset,length". */
static int add_map(struct tar_reader *r, const uint8_t *s, size_t len)
{
    while (len > 0) {
        uint64_t v[2];

        for (int i = 0; i < 2; i++) {
            const uint8_t *comma = memchr(s, ',', len);
            size_t n = comma ? (size_t)(comma - s) : len;

            if (tar_parse_decimal(s, n, &v[i]) < 0) {
                return bad(r, EPROTO, "a bad number in the map of a sparse file");
            }
            n += comma != NULL;
            s += n;
            len -= n;
        }
        if (add_extent(r, v[0], v[1]) < 0) {
            return -EPROTO;
        }
    }
    return 0;
}

/* One byte of a map in front of the data (1.0): decimal numbers, each with a newline. */
static int take_map_byte(struct tar_reader *r, uint8_t c)
{
    if (r->left == 0) {
        return bad(r, EPROTO, "the map of a sparse file does not end");
    }
    r->left--;
    r->map_bytes++;
    if (c >= '0' && c <= '9' && r->map_value <= (TAR_SIZE_MAX - 9) / 10) {
        r->map_value = r->map_value * 10 + (uint64_t)(c - '0');
        r->have++;
        return 0;
    }
    if (c != '\n' || r->have == 0) {
        return bad(r, EPROTO, "a bad number in the map of a sparse file");
    }
    if (r->map_seen == 0) {
        if (r->map_value > TAR_EXTENTS_MAX + 1) {
            return bad(r, E2BIG, "a sparse file of too many pieces");
        }
        r->map_count = r->map_value * 2;
    } else if (r->map_seen % 2) {
        r->offset = r->map_value;
    } else if (add_extent(r, r->offset, r->map_value) < 0) {
        return -EPROTO;
    }
    r->map_seen++;
    r->map_value = 0;
    r->have = 0;
    if (r->map_seen == r->map_count + 1) {
        uint64_t padding = padding_of(r->map_bytes);

        if (padding > r->left) {
            return bad(r, EPROTO, "the map of a sparse file does not end");
        }
        r->left -= padding;
        r->at = padding;
        r->state = S_MAP_PADDING;
    }
    return 0;
}

/* Extended headers ------------------------------------------------------------------------------
 */

static bool is_key(const uint8_t *key, size_t len, const char *name)
{
    return strlen(name) == len && memcmp(key, name, len) == 0;
}

static int take_sparse_record(struct tar_reader *r, const uint8_t *key, size_t key_len,
                              const uint8_t *value, size_t len)
{
    struct tar_entry *e = &r->entry;
    uint64_t v;

    if (is_key(key, key_len, "name")) {
        r->has_sparse_name = true;
        return set_name(r, &r->path, value, len);
    }
    if (is_key(key, key_len, "map")) {
        e->sparse = true;
        return add_map(r, value, len);
    }
    if (is_key(key, key_len, "numblocks")) {
        return 0;
    }
    if (tar_parse_decimal(value, len, &v) < 0) {
        return bad(r, EPROTO, "a bad number about a sparse file");
    }
    if (is_key(key, key_len, "major") || is_key(key, key_len, "minor")) {
        if (v > 99) {
            return bad(r, EPROTO, "an unknown kind of sparse file");
        }
        *(key[1] == 'a' ? &r->sparse_major : &r->sparse_minor) = (int)v;
    } else if (is_key(key, key_len, "size") || is_key(key, key_len, "realsize")) {
        e->sparse = true;
        e->size = v;
    } else if (is_key(key, key_len, "offset")) {
        r->offset = v;
        r->has_offset = true;
    } else if (is_key(key, key_len, "numbytes")) {
        if (!r->has_offset) {
            return bad(r, EPROTO, "a bad map of a sparse file");
        }
        r->has_offset = false;
        return add_extent(r, r->offset, v);
    }
    return 0;
}

/* The name is ended with a NUL in place of its '=': records are read once. */
static int take_xattr(struct tar_reader *r, uint8_t *name, size_t name_len, const uint8_t *value,
                      size_t len)
{
    const struct tar_xattr x = {.name = (const char *)name, .value = value, .len = len};

    if (name_len == 0 || memchr(name, 0, name_len)) {
        return bad(r, EPROTO, "an extended attribute without a name");
    }
    name[name_len] = 0;
    return buf_append(&r->xattrs, &x, sizeof(x)) < 0 ? bad(r, E2BIG, "too many extended attributes")
                                                     : 0;
}

static int take_id(struct tar_reader *r, const uint8_t *value, size_t len, uint32_t *ret)
{
    uint64_t v;

    if (tar_parse_decimal(value, len, &v) < 0 || v >= UINT32_MAX) {
        return bad(r, EPROTO, "an owner out of range");
    }
    *ret = (uint32_t)v;
    return 0;
}

/* One record; an empty value takes back what a global header said, which is the header's own. */
static int take_record(struct tar_reader *r, bool global, uint8_t *key, size_t key_len,
                       const uint8_t *value, size_t len)
{
    static const char xattr[] = "SCHILY.xattr.", sparse[] = "GNU.sparse.";
    struct tar_entry *e = &r->entry;
    size_t x = sizeof(xattr) - 1, s = sizeof(sparse) - 1;

    if (key_len >= x && memcmp(key, xattr, x) == 0) {
        return global ? 0 : take_xattr(r, key + x, key_len - x, value, len);
    }
    if (len == 0) {
        return 0;
    }
    if (key_len > s && memcmp(key, sparse, s) == 0) {
        return global ? 0 : take_sparse_record(r, key + s, key_len - s, value, len);
    }
    if (is_key(key, key_len, "path")) {
        /* Of two, GNU.sparse.name is the true one. */
        return r->has_sparse_name ? 0 : set_name(r, &r->path, value, len);
    }
    if (is_key(key, key_len, "linkpath")) {
        return set_name(r, &r->target, value, len);
    }
    if (is_key(key, key_len, "uid")) {
        return take_id(r, value, len, &e->uid);
    }
    if (is_key(key, key_len, "gid")) {
        return take_id(r, value, len, &e->gid);
    }
    if (is_key(key, key_len, "mtime")) {
        return tar_parse_time(value, len, &e->mtime_s, &e->mtime_ns) < 0
                   ? bad(r, EPROTO, "a bad time")
                   : 0;
    }
    if (is_key(key, key_len, "size")) {
        r->pax_size = true;
        return tar_parse_decimal(value, len, &r->left) < 0 ? bad(r, EPROTO, "a bad size") : 0;
    }
    return 0;
}

/* "LENGTH KEY=VALUE\n", LENGTH counting all of it. */
static int take_records(struct tar_reader *r, bool global, struct buf *b)
{
    uint8_t *p = b->data ? b->data + b->start : NULL;
    size_t left = b->len;

    while (left > 0) {
        size_t length = 0, digits = 0;
        uint8_t *key, *sign;
        int n;

        while (digits < left && p[digits] >= '0' && p[digits] <= '9' && length < TAR_EXTENDED_MAX) {
            length = length * 10 + (size_t)(p[digits++] - '0');
        }
        if (digits == 0 || length > left || length < digits + 4 || p[digits] != ' ' ||
            p[length - 1] != '\n') {
            return bad(r, EPROTO, "a bad record in an extended header");
        }
        key = p + digits + 1;
        sign = memchr(key, '=', length - digits - 2);
        if (!sign || sign == key) {
            return bad(r, EPROTO, "a bad record in an extended header");
        }
        n = take_record(r, global, key, (size_t)(sign - key), sign + 1,
                        (size_t)(p + length - 1 - (sign + 1)));
        if (n < 0) {
            return n;
        }
        p += length;
        left -= length;
    }
    return 0;
}

/* Headers ---------------------------------------------------------------------------------------
 */

static bool checksum_fits(const uint8_t *h)
{
    uint32_t sum = 0;
    int32_t sum_of_signed = 0;
    int64_t said;

    for (size_t i = 0; i < TAR_BLOCK; i++) {
        uint8_t c = i >= TAR_AT_CHECKSUM && i < TAR_AT_CHECKSUM + 8 ? ' ' : h[i];

        sum += c;
        sum_of_signed += (int8_t)c; /* as some computed it before POSIX */
    }
    return tar_parse_number(h + TAR_AT_CHECKSUM, 8, &said) == 0 &&
           (said == sum || said == sum_of_signed);
}

static int take_numbers(struct tar_reader *r, const uint8_t *h)
{
    struct tar_entry *e = &r->entry;
    uint64_t mode, uid, gid, major = 0, minor = 0;

    if (tar_parse_unsigned(h + TAR_AT_MODE, 8, &mode) < 0 ||
        tar_parse_unsigned(h + TAR_AT_SIZE, 12, &r->left) < 0 ||
        tar_parse_number(h + TAR_AT_MTIME, 12, &e->mtime_s) < 0) {
        return bad(r, EPROTO, "a bad number in a header");
    }
    if (tar_parse_unsigned(h + TAR_AT_UID, 8, &uid) < 0 ||
        tar_parse_unsigned(h + TAR_AT_GID, 8, &gid) < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX) {
        return bad(r, EPROTO, "an owner out of range");
    }
    if ((e->type == TAR_CHAR_DEVICE || e->type == TAR_BLOCK_DEVICE) &&
        (tar_parse_unsigned(h + TAR_AT_MAJOR, 8, &major) < 0 ||
         tar_parse_unsigned(h + TAR_AT_MINOR, 8, &minor) < 0 || major > UINT32_MAX ||
         minor > UINT32_MAX)) {
        return bad(r, EPROTO, "a device number out of range");
    }
    e->mode = (uint32_t)mode & 07777;
    e->uid = (uint32_t)uid;
    e->gid = (uint32_t)gid;
    e->major = (uint32_t)major;
    e->minor = (uint32_t)minor;
    return 0;
}

static size_t field_len(const uint8_t *field, size_t size)
{
    return strnlen((const char *)field, size);
}

static int take_names(struct tar_reader *r, const uint8_t *h)
{
    /* GNU has other things where POSIX has the prefix, and an older tar nothing. */
    bool posix = memcmp(h + TAR_AT_MAGIC, "ustar", 6) == 0;
    size_t prefix = posix ? field_len(h + TAR_AT_PREFIX, 155) : 0;
    size_t name = field_len(h, 100);
    uint8_t joined[155 + 1 + 100];
    size_t len = 0;
    int n;

    if (prefix > 0) {
        memcpy(joined, h + TAR_AT_PREFIX, prefix);
        joined[prefix] = '/';
        len = prefix + 1;
    }
    memcpy(joined + len, h, name);
    len += name;
    n = r->long_path.len > 0 ? set_name(r, &r->path, buf_head(&r->long_path),
                                        field_len(buf_head(&r->long_path), r->long_path.len))
                             : set_name(r, &r->path, joined, len);
    if (n < 0) {
        return n;
    }
    return r->long_target.len > 0
               ? set_name(r, &r->target, buf_head(&r->long_target),
                          field_len(buf_head(&r->long_target), r->long_target.len))
               : set_name(r, &r->target, h + TAR_AT_TARGET, field_len(h + TAR_AT_TARGET, 100));
}

static enum tar_type type_of(const uint8_t *h)
{
    switch (h[TAR_AT_TYPE]) {
    case 0:
    case '0':
    case '7':
    case 'S':
        return TAR_FILE;
    case '1':
        return TAR_HARD_LINK;
    case '2':
        return TAR_SYMLINK;
    case '3':
        return TAR_CHAR_DEVICE;
    case '4':
        return TAR_BLOCK_DEVICE;
    case '5':
        return TAR_DIRECTORY;
    case '6':
        return TAR_FIFO;
    default:
        return TAR_UNKNOWN;
    }
}

/* Header and extended headers are in; is there a map in the data? */
static int choose_map(struct tar_reader *r, const uint8_t *h)
{
    struct tar_entry *e = &r->entry;

    if (h[TAR_AT_TYPE] == 'S') {
        e->sparse = true;
        if (tar_parse_unsigned(h + TAR_AT_OLD_REALSIZE, 12, &e->size) < 0) {
            return bad(r, EPROTO, "a bad size of a sparse file");
        }
        r->state = h[TAR_AT_OLD_MORE] ? S_OLD_MAP : S_BEGIN;
        return add_old_extents(r, h + TAR_AT_OLD_MAP, 4);
    }
    r->state = S_BEGIN;
    if (r->sparse_major >= 1) {
        if (e->type != TAR_FILE || r->sparse_major != 1 || r->sparse_minor != 0 || !e->sparse) {
            return bad(r, EPROTO, "an unknown kind of sparse file");
        }
        r->state = S_MAP;
        r->have = 0;
        r->map_seen = r->map_bytes = r->map_value = r->map_count = 0;
    } else if (!e->sparse) {
        e->size = r->left;
    }
    return 0;
}

/* A header that is not about the next one. */
static int begin_entry(struct tar_reader *r, const uint8_t *h)
{
    struct tar_entry *e = &r->entry;
    int n;

    *e = (struct tar_entry){.type = type_of(h)};
    empty(&r->extents);
    empty(&r->xattrs);
    r->has_offset = r->pax_size = r->has_sparse_name = false;
    r->sparse_major = r->sparse_minor = 0;
    n = take_numbers(r, h);
    if (n == 0) {
        n = take_names(r, h);
    }
    if (n == 0) {
        n = take_records(r, true, &r->global);
    }
    if (n == 0) {
        n = take_records(r, false, &r->extended);
    }
    if (n == 0 && e->type == TAR_HARD_LINK && !r->pax_size && r->extended.len == 0) {
        r->left = 0; /* before pax it was the size of the file, whose data did not follow */
    }
    if (n == 0 && e->type != TAR_FILE && e->type != TAR_HARD_LINK && e->type != TAR_UNKNOWN) {
        r->left = 0; /* POSIX: no data, whatever the size says */
    }
    if (n == 0 && r->left > TAR_SIZE_MAX - TAR_BLOCK) {
        n = bad(r, EPROTO, "a bad size");
    }
    r->padding = padding_of(r->left);
    return n < 0 ? n : choose_map(r, h);
}

/* Of x, g, L and K the body is collected. */
static int begin_body(struct tar_reader *r, const uint8_t *h)
{
    uint64_t size;

    r->body_type = h[TAR_AT_TYPE] == 'X' ? 'x' : h[TAR_AT_TYPE];
    if (tar_parse_unsigned(h + TAR_AT_SIZE, 12, &size) < 0) {
        return bad(r, EPROTO, "a bad size");
    }
    if (size > (r->body_type == 'L' || r->body_type == 'K' ? TAR_PATH_MAX + 1 : TAR_EXTENDED_MAX)) {
        return bad(r, E2BIG, "an extended header that is too long");
    }
    if (r->body_type == 'x') {
        empty(&r->extended);
    } else if (r->body_type != 'g') {
        empty(r->body_type == 'L' ? &r->long_path : &r->long_target);
    }
    r->left = size;
    r->padding = padding_of(size);
    r->state = S_BODY;
    return 0;
}

static bool is_zero(const uint8_t *block)
{
    return block[0] == 0 && memcmp(block, block + 1, TAR_BLOCK - 1) == 0;
}

static int take_header(struct tar_reader *r, const uint8_t *h)
{
    if (is_zero(h)) {
        r->state = r->zero ? S_END : S_HEADER;
        r->zero = true;
        return 0;
    }
    r->zero = false;
    if (!checksum_fits(h)) {
        return bad(r, EPROTO, r->any ? "a damaged header" : "this is not a tar archive");
    }
    r->any = true;
    switch (h[TAR_AT_TYPE]) {
    case 'x':
    case 'X':
    case 'g':
    case 'L':
    case 'K':
        return begin_body(r, h);
    default:
        return begin_entry(r, h);
    }
}

static int take_old_map(struct tar_reader *r, const uint8_t *block)
{
    r->state = block[21 * 24] ? S_OLD_MAP : S_BEGIN;
    return add_old_extents(r, block, 21);
}

/* The map is complete: does it fit the sizes, and the names the type? */
static int check_entry(struct tar_reader *r)
{
    struct tar_entry *e = &r->entry;
    const struct tar_extent *extents = (const void *)buf_head(&r->extents);
    size_t count = r->extents.len / sizeof(*extents);
    size_t path_len;
    uint64_t sum = 0;

    e->path = (const char *)buf_head(&r->path);
    e->target = (const char *)buf_head(&r->target);
    path_len = strlen(e->path);
    if (path_len == 0) {
        return bad(r, EPROTO, "a member without a name");
    }
    if (e->type == TAR_FILE && !e->sparse && e->path[path_len - 1] == '/') {
        e->type = TAR_DIRECTORY; /* how the tar before POSIX said it */
    }
    if (e->type != TAR_HARD_LINK && e->type != TAR_SYMLINK) {
        e->target = "";
    } else if (!e->target[0]) {
        return bad(r, EPROTO, "a link without a target");
    }
    e->xattrs = (const void *)buf_head(&r->xattrs);
    e->xattr_count = r->xattrs.len / sizeof(*e->xattrs);
    r->skipped = e->type != TAR_FILE;
    if (e->type != TAR_FILE) {
        e->size = 0;
        e->sparse = false;
    }
    if (e->sparse) {
        for (size_t i = 0; i < count; i++) {
            sum += extents[i].length;
        }
        if (sum != r->left ||
            (count > 0 && extents[count - 1].offset + extents[count - 1].length > e->size)) {
            return bad(r, EPROTO, "a sparse file whose pieces do not fit");
        }
        e->extents = extents;
        e->extent_count = count;
    }
    return 0;
}

static void end_entry(struct tar_reader *r)
{
    empty(&r->extended);
    empty(&r->long_path);
    empty(&r->long_target);
}

/* The state machine -----------------------------------------------------------------------------
 */

/* A whole block: in place when it is there, else collected. NULL: more is needed. */
static const uint8_t *take_block(struct tar_reader *r, const uint8_t **data, size_t *len)
{
    const uint8_t *whole = *data;
    size_t n = TAR_BLOCK - r->have;

    n = n < *len ? n : *len;
    if (r->have > 0 || n < TAR_BLOCK) {
        if (n > 0) {
            memcpy(r->block + r->have, *data, n);
        }
        r->have += n;
        whole = r->have == TAR_BLOCK ? r->block : NULL;
    }
    *data += n;
    *len -= n;
    if (whole) {
        r->have = 0;
    }
    return whole;
}

static int take_body(struct tar_reader *r, const uint8_t **data, size_t *len)
{
    struct buf *b = r->body_type == 'x'   ? &r->extended
                    : r->body_type == 'g' ? &r->global
                    : r->body_type == 'L' ? &r->long_path
                                          : &r->long_target;
    size_t n = r->left < *len ? (size_t)r->left : *len;

    if (buf_append(b, *data, n) < 0) {
        return bad(r, E2BIG, "global headers that are too long");
    }
    *data += n;
    *len -= n;
    r->left -= n;
    if (r->left == 0) {
        r->state = S_PADDING;
    }
    return 0;
}

static void skip(uint64_t *left, const uint8_t **data, size_t *len)
{
    size_t n = *left < *len ? (size_t)*left : *len;

    *left -= n;
    *data += n;
    *len -= n;
}

static int take_data(struct tar_reader *r, const uint8_t **data, size_t *len,
                     struct tar_piece *ret_piece)
{
    const struct tar_entry *e = &r->entry;
    const struct tar_extent *extent = e->sparse ? &e->extents[r->extent] : NULL;
    uint64_t n = r->left < *len ? r->left : *len;

    if (extent && n > extent->length - r->done) {
        n = extent->length - r->done;
    }
    *ret_piece = (struct tar_piece){
        .data = *data,
        .len = (size_t)n,
        .offset = extent ? extent->offset + r->done : r->at,
    };
    *data += n;
    *len -= (size_t)n;
    r->left -= n;
    r->at += n;
    r->done += n;
    if (extent && r->done == extent->length) {
        r->extent++;
        r->done = 0;
    }
    return TAR_DATA;
}

/* One step; an event, or -1 for "go on" in *ret_quiet. */
static int step(struct tar_reader *r, const uint8_t **data, size_t *len,
                struct tar_piece *ret_piece, bool *ret_quiet)
{
    const uint8_t *block;

    *ret_quiet = true;
    switch ((enum state)r->state) {
    case S_HEADER:
    case S_OLD_MAP:
        block = take_block(r, data, len);
        if (!block) {
            return 0;
        }
        return r->state == S_HEADER ? take_header(r, block) : take_old_map(r, block);
    case S_BODY:
        return take_body(r, data, len);
    case S_MAP:
        (*data)++;
        (*len)--;
        return take_map_byte(r, (*data)[-1]);
    case S_MAP_PADDING:
        skip(&r->at, data, len);
        r->state = r->at == 0 ? S_BEGIN : S_MAP_PADDING;
        return 0;
    case S_BEGIN:
        r->state = S_DATA;
        r->at = r->done = 0;
        r->extent = 0;
        *ret_quiet = false;
        return check_entry(r) < 0 ? -EPROTO : TAR_ENTRY;
    case S_DATA:
        if (r->left > 0 && r->skipped) {
            skip(&r->left, data, len);
            return 0;
        }
        *ret_quiet = false;
        if (r->left > 0) {
            return take_data(r, data, len, ret_piece);
        }
        end_entry(r);
        r->state = S_PADDING;
        return TAR_ENTRY_END;
    case S_PADDING:
        skip(&r->padding, data, len);
        r->state = r->padding == 0 ? S_HEADER : S_PADDING;
        return 0;
    default: /* S_END */
        *len = 0;
        *ret_quiet = false;
        return TAR_END;
    }
}

/* Can this state move on without input? */
static bool is_due(const struct tar_reader *r)
{
    return r->state == S_BEGIN || r->state == S_END || (r->state == S_DATA && r->left == 0) ||
           (r->state == S_PADDING && r->padding == 0) || (r->state == S_BODY && r->left == 0) ||
           (r->state == S_MAP_PADDING && r->at == 0);
}

int tar_read(struct tar_reader *r, const uint8_t **data, size_t *len, struct tar_piece *ret_piece)
{
    bool quiet = true;
    int n = 0;

    while (n == 0 && quiet) {
        if (*len == 0 && !is_due(r)) {
            return TAR_MORE;
        }
        n = step(r, data, len, ret_piece, &quiet);
    }
    return n;
}
