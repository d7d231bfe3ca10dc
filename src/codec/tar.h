/*
 * tar archives: headers and data to structs and back. Pure, no I/O, libc only: the agent and the
 * CLI share it. Sources: POSIX.1-2017 pax(1) ("ustar" and "pax Interchange Format"), and the GNU
 * tar manual, "Basic Tar Format" and "Storing Sparse Files".
 *
 * Written is POSIX pax: ustar headers, and in front of them an extended header where ustar cannot
 * say it: long names, large numbers, sub-second times, SCHILY.xattr.*, and sparse files as
 * GNU.sparse 1.0. GNU tar, bsdtar and Python read all of it.
 *
 * Read are ustar, pax (x, X, g), GNU (L and K names, base-256 numbers, S and GNU.sparse 0.0, 0.1,
 * 1.0) and the format before POSIX. An archive is untrusted: every size is bounded, but names are
 * only checked for their form. Whoever makes files of them must mind "..", "/x" and symlinks.
 * Threads: the owner's.
 */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define TAR_BLOCK 512
#define TAR_PATH_MAX 65535           /* bytes of a name or a link's target */
#define TAR_EXTENDED_MAX (1 << 20)   /* bytes of an extended header, and of all global ones */
#define TAR_EXTENTS_MAX (256 * 1024) /* pieces of data of a sparse file */
#define TAR_XATTRS_MAX 1024          /* extended attributes of one file */
#define TAR_SIZE_MAX INT64_MAX

enum tar_type {
    TAR_FILE,
    TAR_HARD_LINK,
    TAR_SYMLINK,
    TAR_CHAR_DEVICE,
    TAR_BLOCK_DEVICE,
    TAR_DIRECTORY,
    TAR_FIFO,
    TAR_UNKNOWN, /* only read: what it is meant to be nobody knows; its data is to be skipped */
};

struct tar_extent {
    uint64_t offset;
    uint64_t length; /* at least 1 */
};

struct tar_xattr {
    const char *name; /* "user.x", not empty */
    const uint8_t *value;
    size_t len;
};

/* One member. When read, everything is borrowed from the reader until its next entry. */
struct tar_entry {
    enum tar_type type;
    const char *path;   /* not empty; as it stands in the archive */
    const char *target; /* of links, else "" */
    uint32_t mode;      /* permission bits, 07777 */
    uint32_t uid, gid;
    int64_t mtime_s;
    uint32_t mtime_ns;
    uint64_t size; /* of a file, holes included */
    uint32_t major, minor;
    bool sparse; /* only the extents have data, in rising order; the rest are holes */
    const struct tar_extent *extents;
    size_t extent_count;
    const struct tar_xattr *xattrs;
    size_t xattr_count;
};

/* Reading ---------------------------------------------------------------------------------------
 */

enum tar_event {
    TAR_MORE,      /* all input is consumed */
    TAR_ENTRY,     /* reader->entry is the next member */
    TAR_DATA,      /* a piece of its data; not for TAR_UNKNOWN and links, whose data is skipped */
    TAR_ENTRY_END, /* there is no more of it */
    TAR_END,       /* the end mark; what follows is of no interest */
};

struct tar_piece {
    const uint8_t *data; /* borrowed from the input */
    size_t len;
    uint64_t offset; /* in the file */
};

struct tar_reader {
    struct tar_entry entry;
    const char *why; /* after -EPROTO and -E2BIG: what is wrong, a literal */

    /* private */
    int state;
    bool any;  /* a header was understood */
    bool zero; /* the last block was a zero one */
    uint8_t block[TAR_BLOCK];
    size_t have;       /* bytes in block, or of the number in a sparse map */
    uint8_t body_type; /* whose body is collected: x, g, L or K */
    uint64_t left;     /* bytes of the body or the data that are still to come */
    uint64_t padding;  /* bytes to skip behind it */
    uint64_t at;       /* place in the data, without holes */
    size_t extent;     /* the current one */
    uint64_t done;     /* bytes of it that have come */
    bool skipped;      /* nobody wants this data */
    struct buf extended, global, long_path, long_target;
    struct buf path, target, extents, xattrs;
    uint64_t map_count, map_seen; /* of a map in the data: numbers, and how many were read */
    uint64_t map_bytes, map_value;
    bool has_offset; /* GNU.sparse 0.0: an offset waits for its length */
    uint64_t offset;
    int sparse_major, sparse_minor;
    bool pax_size, has_sparse_name;
};

void tar_reader_init(struct tar_reader *r);
void tar_reader_done(struct tar_reader *r);

/* Consumes from the front of *data until there is something to tell. Returns an enum tar_event
 * (TAR_DATA fills *ret_piece), or -EPROTO or -E2BIG, and then the archive cannot be followed. */
int tar_read(struct tar_reader *r, const uint8_t **data, size_t *len,
             struct tar_piece *ret_piece) _must_check_;

/* Whether the input may end here: the end mark, or the half of it that some write, has come. */
bool tar_is_complete(const struct tar_reader *r);

/* Writing ---------------------------------------------------------------------------------------
 */

/* Appends the headers of a member. Behind them come tar_data_size bytes of data: the file, or of a
 * sparse one its extents; then tar_put_padding. Returns 0, -ENOBUFS, or -EINVAL when a name is
 * empty or longer than TAR_PATH_MAX, an attribute's name holds '=', or the size is above
 * TAR_SIZE_MAX. On failure nothing is appended. */
int tar_put_entry(struct buf *out, const struct tar_entry *entry) _must_check_;
uint64_t tar_data_size(const struct tar_entry *entry);

/* Fills the last block behind `size` bytes of data. 0 or -ENOBUFS. */
int tar_put_padding(struct buf *out, uint64_t size) _must_check_;
int tar_put_end(struct buf *out) _must_check_;
