#include "disk/rootdisk_priv.h"

#include <string.h>

/*
 * Directories: one block when that is enough, else an index (htree) of one or two levels over
 * leaves that are sorted by name hash. Offsets and limits are those of a 4096-byte block with
 * metadata checksums: 12 bytes at the end of a leaf, 8 at the end of an index block.
 */
#define LEAF_USABLE (RD_BLOCK - 12u)
#define ROOT_INFO_OFF 24u
#define ROOT_ENTRIES_OFF 32u
#define ROOT_ENTRIES_MAX ((RD_BLOCK - ROOT_ENTRIES_OFF - 8u) / 8u) /* 507 */
#define NODE_ENTRIES_OFF 8u
#define NODE_ENTRIES_MAX ((RD_BLOCK - NODE_ENTRIES_OFF - 8u) / 8u) /* 510 */

struct dir_entry {
    uint32_t hash;
    uint32_t minor;
    uint32_t node;
};

struct dir_leaf {
    uint32_t first; /* index into entries */
    uint32_t hash;  /* lowest hash; bit 0: the hash began in the leaf before */
};

struct dir_writer {
    struct rootdisk *disk;
    uint32_t ino;
    uint32_t parent_ino;
    struct dir_entry *entries;
    uint32_t entry_count;
    uint32_t entry_capacity;
    struct dir_leaf *leaves;
    uint32_t leaf_count;
    uint32_t leaf_capacity;
    uint32_t subdirs;
};

static uint32_t record_size(uint32_t name_len)
{
    return (8u + name_len + 3u) & ~3u;
}

static int compare_entries(const void *a, const void *b, void *arg)
{
    const struct dir_entry *x = a, *y = b;
    const struct rd_tree *tree = arg;
    const struct rd_node *m, *n;
    size_t len;
    int r;

    if (x->hash != y->hash) {
        return x->hash < y->hash ? -1 : 1;
    }
    if (x->minor != y->minor) {
        return x->minor < y->minor ? -1 : 1;
    }
    m = &tree->nodes[x->node];
    n = &tree->nodes[y->node];
    len = m->name_len < n->name_len ? m->name_len : n->name_len;
    r = memcmp(tree->text + m->name, tree->text + n->name, len);
    return r ? r : (int)m->name_len - (int)n->name_len;
}

static int collect(struct dir_writer *w, uint32_t dir, struct err *err)
{
    const struct rd_tree *tree = &w->disk->tree;
    const struct ext2_super_block *super = w->disk->fs->super;
    int version = super->s_def_hash_version;

    if (version <= EXT2_HASH_TEA && (super->s_flags & EXT2_FLAGS_UNSIGNED_HASH)) {
        version += 3;
    }
    if (tree->nodes[dir].children > w->entry_capacity) {
        uint32_t capacity = tree->nodes[dir].children + tree->nodes[dir].children / 2;
        struct dir_entry *entries = realloc(w->entries, (size_t)capacity * sizeof(*entries));

        if (!entries) {
            return rd_err_ext2(err, ENOMEM, "directory");
        }
        w->entries = entries;
        w->entry_capacity = capacity;
    }
    w->entry_count = 0;
    w->subdirs = 0;
    for (uint32_t i = tree->nodes[dir].child; i != RD_NONE; i = tree->nodes[i].next) {
        struct dir_entry *e = &w->entries[w->entry_count++];
        errcode_t code;

        e->node = i;
        code = ext2fs_dirhash2(version, tree->text + tree->nodes[i].name, tree->nodes[i].name_len,
                               NULL, 0, super->s_hash_seed, &e->hash, &e->minor);
        if (code) {
            return rd_err_ext2(err, code, "directory");
        }
        w->subdirs += tree->nodes[i].type == EXT2_FT_DIR;
    }
    if (w->entry_count > 1) {
        qsort_r(w->entries, w->entry_count, sizeof(*w->entries), compare_entries, (void *)tree);
    }
    return 0;
}

static uint32_t entry_size(const struct dir_writer *w, uint32_t i)
{
    return record_size(w->disk->tree.nodes[w->entries[i].node].name_len);
}

static bool fits_one_block(const struct dir_writer *w)
{
    uint32_t used = record_size(1) + record_size(2);

    for (uint32_t i = 0; i < w->entry_count && used <= LEAF_USABLE; i++) {
        used += entry_size(w, i);
    }
    return used <= LEAF_USABLE;
}

static int add_leaf(struct dir_writer *w, uint32_t first, struct err *err)
{
    uint32_t hash = w->entries[first].hash;

    if (w->leaf_count == w->leaf_capacity) {
        uint32_t capacity = w->leaf_capacity ? w->leaf_capacity * 2 : 64;
        struct dir_leaf *leaves = realloc(w->leaves, (size_t)capacity * sizeof(*leaves));

        if (!leaves) {
            return rd_err_ext2(err, ENOMEM, "directory");
        }
        w->leaves = leaves;
        w->leaf_capacity = capacity;
    }
    if (first > 0 && w->entries[first - 1].hash == hash) {
        hash |= 1;
    }
    w->leaves[w->leaf_count++] = (struct dir_leaf){.first = first, .hash = hash};
    return 0;
}

static int split_leaves(struct dir_writer *w, struct err *err)
{
    uint32_t used = LEAF_USABLE + 1;

    w->leaf_count = 0;
    for (uint32_t i = 0; i < w->entry_count; i++) {
        uint32_t size = entry_size(w, i);

        if (used + size > LEAF_USABLE) {
            if (add_leaf(w, i, err) < 0) {
                return -1;
            }
            used = 0;
        }
        used += size;
    }
    return 0;
}

/* Directories are written in one go, so their blocks are a few long extents. */
static blk64_t map_block(const struct dir_writer *w, uint32_t lblk)
{
    const struct rd_extent *e = w->disk->file.extents;

    while (lblk >= e->lblk + e->len) {
        e++;
    }
    return e->pblk + (lblk - e->lblk);
}

static int write_block(const struct dir_writer *w, uint32_t lblk, uint8_t *block, struct err *err)
{
    errcode_t code = ext2fs_write_dir_block4(w->disk->fs, map_block(w, lblk), block, 0, w->ino);

    return code ? rd_err_ext2(err, code, "directory") : 0;
}

static uint32_t put_record(uint8_t *at, uint32_t ino, struct rd_name name, uint8_t type,
                           uint32_t size)
{
    struct ext2_dir_entry_2 head = {
        .inode = ino,
        .rec_len = (uint16_t)size,
        .name_len = (uint8_t)name.len,
        .file_type = type,
    };

    memcpy(at, &head, 8);
    memcpy(at + 8, name.s, name.len);
    return size;
}

static uint32_t put_dots(const struct dir_writer *w, uint8_t *block, uint32_t dotdot_size)
{
    struct rd_name dot = {.s = ".", .len = 1}, dotdot = {.s = "..", .len = 2};
    uint32_t used = put_record(block, w->ino, dot, EXT2_FT_DIR, record_size(1));

    return used + put_record(block + used, w->parent_ino, dotdot, EXT2_FT_DIR, dotdot_size);
}

/* Fills a leaf from `used` on with entries [first, end); the last one takes the space left. */
static void fill_leaf(const struct dir_writer *w, uint8_t *block, uint32_t used, uint32_t first,
                      uint32_t end)
{
    const struct rd_tree *tree = &w->disk->tree;

    for (uint32_t i = first; i < end; i++) {
        const struct rd_node *n = &tree->nodes[w->entries[i].node];
        struct rd_name name = {.s = tree->text + n->name, .len = n->name_len};
        uint32_t size = i + 1 < end ? record_size(n->name_len) : LEAF_USABLE - used;

        used += put_record(block + used, n->ino, name, n->type, size);
    }
    ext2fs_initialize_dirent_tail(w->disk->fs, EXT2_DIRENT_TAIL(block, RD_BLOCK));
}

static int write_linear(struct dir_writer *w, struct err *err)
{
    _Alignas(8) uint8_t block[RD_BLOCK] = {0};
    bool empty = w->entry_count == 0;
    uint32_t used = put_dots(w, block, empty ? LEAF_USABLE - record_size(1) : record_size(2));

    if (rd_file_reserve(w->disk, 1, err) < 0 ||
        rd_inode_set_dir(w->disk, w->ino, false, w->subdirs + 2, err) < 0) {
        return -1;
    }
    fill_leaf(w, block, used, 0, w->entry_count);
    return write_block(w, 0, block, err);
}

/* Index entries: {hash, block} pairs, the first hash being replaced by {limit, count}. */
static void put_index(uint8_t *at, uint32_t i, uint32_t hash, uint32_t lblk)
{
    const struct ext2_dx_entry entry = {.hash = hash, .block = lblk};

    memcpy(at + (size_t)i * sizeof(entry), &entry, sizeof(entry));
}

static void put_countlimit(uint8_t *at, uint32_t limit, uint32_t count)
{
    const struct ext2_dx_countlimit head = {.limit = (uint16_t)limit, .count = (uint16_t)count};

    memcpy(at, &head, sizeof(head));
}

/* The second level: one block for each NODE_ENTRIES_MAX leaves, in blocks 1..nodes. */
static int write_nodes(struct dir_writer *w, uint32_t nodes, struct err *err)
{
    for (uint32_t i = 0; i < nodes; i++) {
        _Alignas(8) uint8_t block[RD_BLOCK] = {0};
        uint32_t first = i * NODE_ENTRIES_MAX;
        uint32_t count = w->leaf_count - first;

        count = count < NODE_ENTRIES_MAX ? count : NODE_ENTRIES_MAX;
        (void)put_record(block, 0, (struct rd_name){.s = "", .len = 0}, 0, RD_BLOCK);
        for (uint32_t j = 0; j < count; j++) {
            put_index(block + NODE_ENTRIES_OFF, j, w->leaves[first + j].hash,
                      1 + nodes + first + j);
        }
        put_countlimit(block + NODE_ENTRIES_OFF, NODE_ENTRIES_MAX, count);
        if (write_block(w, 1 + i, block, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int write_root(struct dir_writer *w, uint32_t nodes, struct err *err)
{
    _Alignas(8) uint8_t block[RD_BLOCK] = {0};
    const struct ext2_dx_root_info info = {
        .hash_version = w->disk->fs->super->s_def_hash_version,
        .info_length = 8,
        .indirect_levels = nodes ? 1 : 0,
    };
    uint32_t count = nodes ? nodes : w->leaf_count;

    (void)put_dots(w, block, RD_BLOCK - record_size(1));
    memcpy(block + ROOT_INFO_OFF, &info, sizeof(info));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t leaf = nodes ? i * NODE_ENTRIES_MAX : i;

        put_index(block + ROOT_ENTRIES_OFF, i, w->leaves[leaf].hash, 1 + i);
    }
    put_countlimit(block + ROOT_ENTRIES_OFF, ROOT_ENTRIES_MAX, count);
    return write_block(w, 0, block, err);
}

static int write_indexed(struct dir_writer *w, struct err *err)
{
    uint32_t nodes = 0;

    if (split_leaves(w, err) < 0) {
        return -1;
    }
    if (w->leaf_count > ROOT_ENTRIES_MAX) {
        nodes = (w->leaf_count + NODE_ENTRIES_MAX - 1) / NODE_ENTRIES_MAX;
    }
    if (nodes > ROOT_ENTRIES_MAX) {
        return err_set(err, ERR_LIMIT, "a directory with %u names", w->entry_count);
    }
    if (rd_file_reserve(w->disk, 1 + nodes + w->leaf_count, err) < 0 ||
        rd_inode_set_dir(w->disk, w->ino, true, w->subdirs + 2, err) < 0 ||
        write_root(w, nodes, err) < 0 || write_nodes(w, nodes, err) < 0) {
        return -1;
    }
    for (uint32_t i = 0; i < w->leaf_count; i++) {
        _Alignas(8) uint8_t block[RD_BLOCK] = {0};
        uint32_t end = i + 1 < w->leaf_count ? w->leaves[i + 1].first : w->entry_count;

        fill_leaf(w, block, 0, w->leaves[i].first, end);
        if (write_block(w, 1 + nodes + i, block, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int rd_dirs_write(struct rootdisk *disk, struct err *err)
{
    struct dir_writer w = {.disk = disk};
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < disk->tree.count; i++) {
        const struct rd_node *n = &disk->tree.nodes[i];

        if (n->ino == 0 || n->type != EXT2_FT_DIR) {
            continue;
        }
        w.ino = n->ino;
        w.parent_ino = disk->tree.nodes[n->parent].ino;
        r = collect(&w, i, err);
        if (r == 0) {
            r = fits_one_block(&w) ? write_linear(&w, err) : write_indexed(&w, err);
        }
        rd_file_reset(&disk->file);
    }
    free(w.entries);
    free(w.leaves);
    return r;
}
