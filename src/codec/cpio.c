#include "codec/cpio.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* A header is the magic and 13 fields of 8 hexadecimal digits. Name and data start at multiples of
 * 4 bytes from the start of the archive. */
#define HEADER_SIZE 110
#define FIELDS 13
#define TRAILER "TRAILER!!!"

static const char magic[6] = {'0', '7', '0', '7', '0', '1'};

enum field {
    F_INO,
    F_MODE,
    F_UID,
    F_GID,
    F_NLINK,
    F_MTIME,
    F_FILESIZE,
    F_DEV_MAJOR,
    F_DEV_MINOR,
    F_RDEV_MAJOR,
    F_RDEV_MINOR,
    F_NAMESIZE,
    F_CHECK,
};

static uint64_t align4(uint64_t n)
{
    return (n + 3) & ~(uint64_t)3;
}

void cpio_writer_init(struct cpio_writer *w, struct buf *out)
{
    *w = (struct cpio_writer){.out = out};
}

static uint8_t *put_hex(uint8_t *p, uint32_t v)
{
    static const char digits[] = "0123456789ABCDEF";

    for (int shift = 28; shift >= 0; shift -= 4) {
        *p++ = (uint8_t)digits[(v >> shift) & 15];
    }
    return p;
}

static int put_entry(struct cpio_writer *w, const char *name, uint32_t fields[FIELDS],
                     const void *data, size_t len)
{
    size_t name_size = strlen(name) + 1;
    uint64_t data_at, size;
    uint8_t *start, *p;

    if (len > UINT32_MAX) {
        return -EFBIG;
    }
    data_at = align4(w->offset + HEADER_SIZE + name_size) - w->offset;
    size = align4(w->offset + data_at + len) - w->offset;
    if (size > buf_room(w->out)) {
        return -ENOBUFS;
    }
    start = p = buf_reserve(w->out, size);
    memset(p, 0, size);
    memcpy(p, magic, sizeof(magic));
    p += sizeof(magic);
    fields[F_NAMESIZE] = (uint32_t)name_size;
    fields[F_FILESIZE] = (uint32_t)len;
    for (int i = 0; i < FIELDS; i++) {
        p = put_hex(p, fields[i]);
    }
    memcpy(p, name, name_size);
    if (len > 0) {
        memcpy(start + data_at, data, len);
    }
    buf_commit(w->out, size);
    w->offset += size;
    return 0;
}

static int put_node(struct cpio_writer *w, const char *name, uint32_t type, uint32_t mode,
                    const uint32_t rdev[2], const void *data, size_t len)
{
    uint32_t fields[FIELDS] = {
        [F_INO] = w->ino + 1,
        [F_MODE] = type | mode,
        [F_NLINK] = type == S_IFDIR ? 2 : 1,
        [F_RDEV_MAJOR] = rdev ? rdev[0] : 0,
        [F_RDEV_MINOR] = rdev ? rdev[1] : 0,
    };
    int r;

    if (name[0] == '\0' || name[0] == '/' || strnlen(name, CPIO_NAME_MAX + 1) > CPIO_NAME_MAX ||
        strcmp(name, TRAILER) == 0 || (mode & ~07777U)) {
        return -EINVAL;
    }
    r = put_entry(w, name, fields, data, len);
    if (r < 0) {
        return r;
    }
    w->ino++;
    return 0;
}

int cpio_put_dir(struct cpio_writer *w, const char *name, uint32_t mode)
{
    return put_node(w, name, S_IFDIR, mode, NULL, NULL, 0);
}

int cpio_put_file(struct cpio_writer *w, const char *name, uint32_t mode, const void *data,
                  size_t len)
{
    return put_node(w, name, S_IFREG, mode, NULL, data, len);
}

int cpio_put_char_device(struct cpio_writer *w, const char *name, uint32_t mode, uint32_t major,
                         uint32_t minor)
{
    return put_node(w, name, S_IFCHR, mode, (uint32_t[2]){major, minor}, NULL, 0);
}

int cpio_put_symlink(struct cpio_writer *w, const char *name, const char *target)
{
    size_t len = strnlen(target, CPIO_NAME_MAX + 1);

    if (len == 0 || len > CPIO_NAME_MAX) {
        return -EINVAL;
    }
    return put_node(w, name, S_IFLNK, 0777, NULL, target, len);
}

int cpio_put_end(struct cpio_writer *w)
{
    uint32_t fields[FIELDS] = {[F_NLINK] = 1};

    return put_entry(w, TRAILER, fields, NULL, 0);
}

void cpio_reader_init(struct cpio_reader *r, const uint8_t *data, size_t len)
{
    *r = (struct cpio_reader){.data = data, .len = len};
}

static int take_hex(const uint8_t *p, uint32_t *ret)
{
    uint32_t v = 0;

    for (int i = 0; i < 8; i++) {
        uint8_t c = p[i];
        uint32_t d;

        if (c >= '0' && c <= '9') {
            d = (uint32_t)(c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            d = (uint32_t)((c | 0x20) - 'a') + 10;
        } else {
            return -EPROTO;
        }
        v = v << 4 | d;
    }
    *ret = v;
    return 0;
}

static int take_header(const struct cpio_reader *r, uint32_t fields[FIELDS])
{
    const uint8_t *p = r->data + r->at;

    if (r->len - r->at < HEADER_SIZE || memcmp(p, magic, sizeof(magic)) != 0) {
        return -EPROTO;
    }
    for (int i = 0; i < FIELDS; i++) {
        if (take_hex(p + sizeof(magic) + 8 * i, &fields[i]) < 0) {
            return -EPROTO;
        }
    }
    return 0;
}

/* Reads the entry at r->at and returns the offset behind it (which may lie in padding that the
 * archive no longer has; harmless, as every read checks), or 0 when it is malformed. */
static uint64_t take_entry(const struct cpio_reader *r, struct cpio_entry *ret)
{
    uint32_t fields[FIELDS];
    uint64_t name_at = r->at + HEADER_SIZE, data_at, data_end;
    uint32_t name_size;
    const char *name;

    if (take_header(r, fields) < 0) {
        return 0;
    }
    name_size = fields[F_NAMESIZE];
    if (name_size < 2 || name_size > CPIO_NAME_MAX + 1 || name_size > r->len - name_at) {
        return 0;
    }
    name = (const char *)r->data + name_at;
    if (strnlen(name, name_size) != name_size - 1) {
        return 0;
    }
    data_at = align4(name_at + name_size);
    data_end = data_at + fields[F_FILESIZE];
    if (fields[F_FILESIZE] > 0 && data_end > r->len) {
        return 0;
    }
    *ret = (struct cpio_entry){
        .name = name,
        .name_len = name_size - 1,
        .ino = fields[F_INO],
        .mode = fields[F_MODE],
        .uid = fields[F_UID],
        .gid = fields[F_GID],
        .nlink = fields[F_NLINK],
        .mtime = fields[F_MTIME],
        .rdev_major = fields[F_RDEV_MAJOR],
        .rdev_minor = fields[F_RDEV_MINOR],
        .data = fields[F_FILESIZE] > 0 ? r->data + data_at : NULL,
        .len = fields[F_FILESIZE],
    };
    return align4(data_end);
}

int cpio_next(struct cpio_reader *r, struct cpio_entry *ret_entry)
{
    struct cpio_entry entry;
    uint64_t next;

    if (r->ended) {
        return 0;
    }
    next = take_entry(r, &entry);
    if (next == 0) {
        return -EPROTO;
    }
    if (strcmp(entry.name, TRAILER) == 0) {
        r->ended = true;
        return 0;
    }
    /* Padding may be missing at the very end only; then the next call finds no header. */
    r->at = next < r->len ? (size_t)next : r->len;
    *ret_entry = entry;
    return 1;
}
