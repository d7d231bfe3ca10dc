/*
 * Inside of the root-disk writer, for src/disk/rootdisk*.c only.
 *
 * While tars are read, file data goes straight into the image (one allocation cursor, ever upward)
 * and each inode is written once it is complete. Names live only in the tree below. Directories
 * are written at the end, when their size is known. Nothing may use libext2fs's own name functions:
 * they are slow (linear scans) and keep neither link counts nor an index.
 */
#pragma once

#include "disk/rootdisk.h"

#include <ext2fs/ext2fs.h>
#include <stdbool.h>
#include <stdint.h>

#define RD_BLOCK 4096u
#define RD_NAME_MAX 255u
#define RD_PATH_MAX 32768u
#define RD_TARGET_MAX 4095u
#define RD_LINKS_MAX 65000u /* EXT4_LINK_MAX of the kernel */
#define RD_NONE UINT32_MAX
#define RD_ROOT 0u

/* Every filesystem time, and the mtime of directories that the tar does not name: 2000-01-01. It
 * is long past, so that no clock can call the superblock's times "in the future". */
#define RD_EPOCH 946684800

/* ---- rootdisk_tree.c: names. Pure memory; returns 0 or -errno. --------------------------------
 */

struct rd_node {
    uint32_t parent;    /* the root's is itself */
    uint32_t hash_next; /* chain in tree.buckets */
    uint32_t prev;      /* siblings */
    uint32_t next;      /* siblings; in a free node: the next free one */
    uint32_t child;     /* directory: first child */
    uint32_t children;  /* directory: their number */
    uint32_t name;      /* offset in tree.text, not terminated */
    uint32_t target;    /* symlink: offset in tree.text, terminated */
    uint32_t ino;       /* 0 = free node */
    uint16_t layer;     /* which tar put it there; for whiteouts */
    uint8_t name_len;
    uint8_t type; /* EXT2_FT_* */
};

struct rd_tree {
    struct rd_node *nodes; /* nodes[RD_ROOT] is the root directory */
    uint32_t count;        /* used and free nodes */
    uint32_t capacity;
    uint32_t free_head;
    uint32_t *buckets;
    uint32_t bucket_mask;
    char *text;
    uint32_t text_len;
    uint32_t text_capacity;
    uint32_t seed[4]; /* random, so that a hostile tar cannot make chains; never in the output */
};

struct rd_name {
    const char *s;
    size_t len;
};

int rd_tree_init(struct rd_tree *tree, uint32_t root_ino);
void rd_tree_done(struct rd_tree *tree);
uint32_t rd_tree_find(const struct rd_tree *tree, uint32_t dir, struct rd_name name);
/* -ENOSPC past the limit on nodes or on text. ret_node is valid until rd_tree_remove. */
int rd_tree_add(struct rd_tree *tree, uint32_t dir, struct rd_name name, uint32_t *ret_node);
int rd_tree_set_target(struct rd_tree *tree, uint32_t node, const char *target);
/* The node must have no children. */
void rd_tree_remove(struct rd_tree *tree, uint32_t node);

/* ---- rootdisk_inode.c: inodes, blocks, file data ----------------------------------------------
 */

struct rd_meta {
    uint16_t mode; /* type and permission bits */
    uint32_t uid;
    uint32_t gid;
    int64_t mtime;
    uint32_t mtime_nsec;
    uint32_t rdev_major;
    uint32_t rdev_minor;
    uint64_t size; /* regular files */
};

struct rd_extent {
    uint32_t lblk;
    uint32_t len;
    blk64_t pblk;
};

/* The file that is being written: data not yet in the image, and where the rest went. */
struct rd_file {
    uint8_t *buf;
    uint64_t buf_off; /* of buf[0] in the file, block aligned */
    size_t buf_len;
    struct rd_extent *extents;
    size_t extent_count;
    size_t extent_capacity;
    uint64_t blocks;
};

struct rootdisk {
    char *out_path;
    char *tmp_path; /* NULL once published */
    int fd;
    int cancel_fd;
    uint64_t size_bytes;
    ext2_filsys fs;
    int write_errno;    /* the first failed write inside libext2fs, which may swallow it */
    uint32_t next_ino;  /* inodes are handed out upward and never again */
    blk64_t free_start; /* current free run: allocation cursor */
    blk64_t free_end;
    struct rd_file file;
    struct rd_tree tree;
    char *path; /* RD_PATH_MAX: the entry's path, cleaned */
    char *walk; /* RD_WALK_SIZE: what is left to walk, at the end of the buffer */
    uint32_t entries;
    uint32_t inodes;
    uint16_t layers;
};

#define RD_WALK_SIZE (4u * RD_PATH_MAX)

/* Sets err from a libext2fs code (an errno or EXT2_ET_*); returns -1. */
int rd_err_ext2(struct err *err, errcode_t code, const char *what);
/* A path for messages: shortened, control bytes escaped. */
#define RD_SHOW_SIZE 320
const char *rd_show(const char *path, char show[RD_SHOW_SIZE]);

/* Takes the allocation callback of disk->fs. */
void rd_inode_attach(struct rootdisk *disk);
int rd_inode_new(struct rootdisk *disk, bool is_dir, uint32_t *ret_ino, struct err *err);
/* Writes a whole new inode with the extents of disk->file (which it empties), or, for a fast
 * symlink, with target inside. links = i_links_count. */
int rd_inode_write(struct rootdisk *disk, uint32_t ino, const struct rd_meta *meta,
                   const char *target, struct err *err);
/* Gives a directory's inode its blocks (disk->file, which stays), flags and link count. */
int rd_inode_set_dir(struct rootdisk *disk, uint32_t ino, bool indexed, uint32_t links,
                     struct err *err);
/* One more or one less name; at none the inode and its blocks are freed. */
int rd_inode_link(struct rootdisk *disk, uint32_t ino, struct err *err);
int rd_inode_unlink(struct rootdisk *disk, uint32_t ino, bool is_dir, struct err *err);
/* Frees the attribute block of an inode that is about to be written anew. */
int rd_inode_drop_xattrs(struct rootdisk *disk, uint32_t ino, struct err *err);

/* Appends at an offset that must not go backwards; gaps of whole blocks become holes. */
int rd_file_data(struct rootdisk *disk, uint64_t off, const void *data, size_t len,
                 struct err *err);
int rd_file_flush(struct rootdisk *disk, struct err *err);
/* Adds `blocks` allocated, unwritten blocks at the end (directories). */
int rd_file_reserve(struct rootdisk *disk, uint32_t blocks, struct err *err);
void rd_file_reset(struct rd_file *file);

/* ---- rootdisk_xattr.c -------------------------------------------------------------------------
 */

struct archive_entry;
/* Attributes and ACLs of the entry onto an inode that is written already. */
int rd_xattr_apply(struct rootdisk *disk, uint32_t ino, struct archive_entry *entry,
                   struct err *err);

/* ---- rootdisk_path.c: places in the tree ------------------------------------------------------
 */

struct rd_place {
    uint32_t dir;
    struct rd_name name; /* into disk->path; empty: the root itself */
};

/* Finds where a tar path belongs, following symlinks inside the image in all but its last part.
 * create: makes missing directories. Without it a missing one is ERR_NOT_FOUND. */
int rd_place_find(struct rootdisk *disk, const char *path, bool create, struct rd_place *ret_place,
                  struct err *err);
/* Removes a name and everything below it. */
int rd_place_clear(struct rootdisk *disk, uint32_t node, struct err *err);
/* Adds a name for an inode. */
int rd_place_add(struct rootdisk *disk, struct rd_place place, uint32_t ino, uint8_t type,
                 uint32_t *ret_node, struct err *err);

/* ---- the rest ---------------------------------------------------------------------------------
 */

/* rootdisk_mkfs.c: an empty filesystem in the file at path, size_bytes long. */
int rd_mkfs(const char *path, uint64_t size_bytes, struct err *err);
/* rootdisk_tar.c: reads one tar into the tree. */
int rd_tar_apply(struct rootdisk *disk, int tar_fd, struct err *err);
/* rootdisk_dir.c: writes all directories. */
int rd_dirs_write(struct rootdisk *disk, struct err *err);
/* rootdisk_shrink.c: drops the groups at the end that hold nothing; then gives free blocks back
 * to the host (after the filesystem's own buffers were written). */
int rd_shrink(struct rootdisk *disk, struct err *err);
void rd_punch_free(struct rootdisk *disk);
