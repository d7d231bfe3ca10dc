/*
 * cpio archives in the "newc" form that Linux unpacks as an initramfs. Pure, no I/O.
 *
 * The writer appends to a struct buf whose maximum bounds the archive. What it writes depends on
 * the calls alone: time 0, owner 0:0, inode numbers counted from 1. Parents come before children;
 * that is the caller's business, as is calling cpio_put_end once at the end.
 *
 * The reader walks an untrusted archive without copying. It checks the form only: a name may well
 * be "../x" or absolute, so a caller who makes files of it must check that.
 */
#pragma once

#include "base/buf.h"

#include <stdbool.h>

#define CPIO_NAME_MAX 4095 /* without the NUL; Linux's PATH_MAX */

struct cpio_writer {
    struct buf *out; /* borrowed */
    uint64_t offset; /* bytes of this archive so far: alignment counts from its start */
    uint32_t ino;    /* last inode number given */
};

void cpio_writer_init(struct cpio_writer *w, struct buf *out);

/* Each appends one entry, or nothing: 0, -EINVAL for a bad name ("", absolute, too long, the name
 * of the trailer) or a mode beyond 07777, -EFBIG for 4 GiB of data and more, -ENOBUFS when the
 * buffer's maximum is reached. */
int cpio_put_dir(struct cpio_writer *w, const char *name, uint32_t mode) _must_check_;
int cpio_put_file(struct cpio_writer *w, const char *name, uint32_t mode, const void *data,
                  size_t len) _must_check_;
int cpio_put_char_device(struct cpio_writer *w, const char *name, uint32_t mode, uint32_t major,
                         uint32_t minor) _must_check_;
int cpio_put_symlink(struct cpio_writer *w, const char *name, const char *target) _must_check_;
int cpio_put_end(struct cpio_writer *w) _must_check_;

struct cpio_entry {
    const char *name; /* NUL-terminated, not empty, no NUL inside; borrowed */
    size_t name_len;
    uint32_t ino;
    uint32_t mode; /* st_mode: type and permissions */
    uint32_t uid, gid;
    uint32_t nlink;
    uint32_t mtime;
    uint32_t rdev_major, rdev_minor;
    const uint8_t *data; /* file content or link target (not NUL-terminated); borrowed */
    size_t len;
};

struct cpio_reader {
    const uint8_t *data;
    size_t len;
    size_t at;
    bool ended;
};

void cpio_reader_init(struct cpio_reader *r, const uint8_t *data, size_t len);

/* The next entry: 1, 0 after the trailer (bytes behind it are not looked at), or -EPROTO when the
 * archive is malformed or cut short; after that every call says -EPROTO again. */
int cpio_next(struct cpio_reader *r, struct cpio_entry *ret_entry) _must_check_;
