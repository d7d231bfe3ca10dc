/* tar archives: the reader sees the input whole and in small pieces and must tell the same of it;
 * what it tells is within its bounds, and the writer's words for it are read back as the same. */
#include "codec/tar.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds) {
        __builtin_trap();
    }
}

static void check_entry(const struct tar_entry *e)
{
    uint64_t end = 0;

    check(e->path[0] && strlen(e->path) <= TAR_PATH_MAX && strlen(e->target) <= TAR_PATH_MAX);
    check(e->mode <= 07777 && e->mtime_ns < 1000000000 && e->size <= TAR_SIZE_MAX);
    check(e->extent_count <= TAR_EXTENTS_MAX && e->xattr_count <= TAR_XATTRS_MAX);
    for (size_t i = 0; i < e->extent_count; i++) {
        check(e->extents[i].offset >= end && e->extents[i].length > 0);
        end = e->extents[i].offset + e->extents[i].length;
        check(end <= e->size);
    }
    for (size_t i = 0; i < e->xattr_count; i++) {
        check(e->xattrs[i].name[0] && e->xattrs[i].len <= TAR_EXTENDED_MAX);
    }
}

static bool same_entry(const struct tar_entry *a, const struct tar_entry *b)
{
    return a->type == b->type && strcmp(a->path, b->path) == 0 &&
           strcmp(a->target, b->target) == 0 && a->mode == b->mode && a->uid == b->uid &&
           a->gid == b->gid && a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns &&
           a->size == b->size && a->extent_count == b->extent_count &&
           a->xattr_count == b->xattr_count;
}

/* What a member is written as must be read as that member. */
static void write_and_read(const struct tar_entry *e)
{
    struct tar_reader r;
    struct tar_piece piece;
    _cleanup_buf_ struct buf out;
    const uint8_t *at;
    size_t left;

    buf_init(&out, (size_t)4 << 20);
    if (tar_put_entry(&out, e) < 0) {
        return;
    }
    at = buf_head(&out);
    left = out.len;
    tar_reader_init(&r);
    check(tar_read(&r, &at, &left, &piece) == TAR_ENTRY);
    check(same_entry(e, &r.entry) && left == 0);
    tar_reader_done(&r);
}

struct sum {
    uint64_t entries, bytes, hash;
    int end;
};

static struct sum run(const uint8_t *data, size_t size, size_t chunk, bool again)
{
    struct sum s = {0};
    struct tar_reader r;
    struct tar_piece piece;
    uint64_t in_file = 0;

    tar_reader_init(&r);
    for (size_t at = 0; s.end == 0 && at < size; at += chunk) {
        const uint8_t *p = data + at;
        size_t left = size - at < chunk ? size - at : chunk;

        while (s.end == 0) {
            int event = tar_read(&r, &p, &left, &piece);

            if (event == TAR_MORE) {
                check(left == 0);
                break;
            }
            if (event == TAR_ENTRY) {
                check_entry(&r.entry);
                s.entries++;
                in_file = 0;
                if (again && r.entry.type != TAR_UNKNOWN) {
                    write_and_read(&r.entry);
                }
            } else if (event == TAR_DATA) {
                check(piece.len > 0 && piece.data >= data && piece.data + piece.len <= data + size);
                check(r.entry.type == TAR_FILE && piece.offset + piece.len <= r.entry.size);
                check(piece.offset >= in_file);
                in_file = piece.offset + piece.len;
                s.bytes += piece.len;
                for (size_t i = 0; i < piece.len; i++) {
                    s.hash = s.hash * 31 + piece.data[i] + (piece.offset + i);
                }
            } else if (event != TAR_ENTRY_END) {
                check(event == TAR_END || (event < 0 && r.why));
                s.end = event == TAR_END ? 1 : -1;
            }
        }
    }
    tar_reader_done(&r);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sum whole = run(data, size, size + 1, true);

    for (size_t chunk = 1; chunk < 2000; chunk = chunk * 7 + 1) {
        struct sum s = run(data, size, chunk, false);

        check(s.entries == whole.entries && s.bytes == whole.bytes && s.hash == whole.hash &&
              s.end == whole.end);
    }
    return 0;
}
