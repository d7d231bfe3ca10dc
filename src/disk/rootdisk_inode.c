#include "disk/rootdisk_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_BUF (256u << 10)
#define EXTENT_LEN_MAX 32768u
#define FAST_SYMLINK_MAX 59u

/* The time that 34 bits hold. e2fsck takes later ones for damaged times from before 1970. */
#define TIME_MIN (-(1LL << 31))
#define TIME_MAX ((5LL << 31) - 1)

_Static_assert(FILE_BUF % RD_BLOCK == 0, "the buffer holds whole blocks");

/* ---- blocks -----------------------------------------------------------------------------------
 */

/* Moves the cursor to the next free run. */
static errcode_t next_run(struct rootdisk *disk)
{
    blk64_t last = ext2fs_blocks_count(disk->fs->super) - 1;
    blk64_t start = 0, end = 0;
    errcode_t code;

    if (disk->free_end > last) {
        return EXT2_ET_BLOCK_ALLOC_FAIL;
    }
    code = ext2fs_find_first_zero_block_bitmap2(disk->fs->block_map, disk->free_end, last, &start);
    if (code) {
        return code == ENOENT ? EXT2_ET_BLOCK_ALLOC_FAIL : code;
    }
    code = ext2fs_find_first_set_block_bitmap2(disk->fs->block_map, start, last, &end);
    if (code && code != ENOENT) {
        return code;
    }
    disk->free_start = start;
    disk->free_end = code == ENOENT ? last + 1 : end;
    return 0;
}

/* libext2fs asks for its extent and attribute blocks here, and accounts for them itself. */
static errcode_t alloc_one(ext2_filsys fs, blk64_t goal _unused_, blk64_t *ret_block)
{
    struct rootdisk *disk = fs->priv_data;
    errcode_t code = disk->free_start < disk->free_end ? 0 : next_run(disk);

    if (!code) {
        *ret_block = disk->free_start++;
    }
    return code;
}

/* Up to `want` blocks in a row. */
static errcode_t alloc_run(struct rootdisk *disk, uint32_t want, blk64_t *ret_start,
                           uint32_t *ret_count)
{
    errcode_t code = disk->free_start < disk->free_end ? 0 : next_run(disk);
    blk64_t left;

    if (code) {
        return code;
    }
    left = disk->free_end - disk->free_start;
    *ret_count = left < want ? (uint32_t)left : want;
    *ret_start = disk->free_start;
    disk->free_start += *ret_count;
    ext2fs_block_alloc_stats_range(disk->fs, *ret_start, (blk_t)*ret_count, +1);
    return 0;
}

static errcode_t note_write_error(io_channel channel, unsigned long block _unused_,
                                  int count _unused_, const void *data _unused_,
                                  size_t size _unused_, int written _unused_, errcode_t error)
{
    struct rootdisk *disk = channel->app_data;

    if (!disk->write_errno) {
        disk->write_errno = error > 0 && error < 256 ? (int)error : EIO;
    }
    return error;
}

void rd_inode_attach(struct rootdisk *disk)
{
    disk->fs->priv_data = disk;
    ext2fs_set_alloc_block_callback(disk->fs, alloc_one, NULL);
    disk->fs->io->app_data = disk;
    disk->fs->io->write_error = note_write_error;
}

/* ---- file data --------------------------------------------------------------------------------
 */

void rd_file_reset(struct rd_file *file)
{
    file->buf_off = 0;
    file->buf_len = 0;
    file->extent_count = 0;
    file->blocks = 0;
}

static int add_extent(struct rd_file *file, uint32_t lblk, blk64_t pblk, uint32_t len)
{
    struct rd_extent *last = file->extent_count ? &file->extents[file->extent_count - 1] : NULL;

    file->blocks += len;
    if (last && last->lblk + last->len == lblk && last->pblk + last->len == pblk) {
        uint32_t room = EXTENT_LEN_MAX - last->len;
        uint32_t part = len < room ? len : room;

        last->len += part;
        lblk += part;
        pblk += part;
        len -= part;
    }
    while (len > 0) {
        uint32_t part = len < EXTENT_LEN_MAX ? len : EXTENT_LEN_MAX;

        if (file->extent_count == file->extent_capacity) {
            size_t capacity = file->extent_capacity ? file->extent_capacity * 2 : 64;
            struct rd_extent *more = realloc(file->extents, capacity * sizeof(*more));

            if (!more) {
                return -ENOMEM;
            }
            file->extents = more;
            file->extent_capacity = capacity;
        }
        file->extents[file->extent_count++] =
            (struct rd_extent){.lblk = lblk, .len = part, .pblk = pblk};
        lblk += part;
        pblk += part;
        len -= part;
    }
    return 0;
}

static int write_all(int fd, const uint8_t *data, size_t len, uint64_t off)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, (off_t)off);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        data += n;
        len -= (size_t)n;
        off += (uint64_t)n;
    }
    return 0;
}

/* Data goes past libext2fs's block cache: no cached block is ever a data block, because blocks are
 * never handed out twice. */
int rd_file_flush(struct rootdisk *disk, struct err *err)
{
    struct rd_file *file = &disk->file;
    uint32_t blocks = (uint32_t)((file->buf_len + RD_BLOCK - 1) / RD_BLOCK);
    uint32_t lblk = (uint32_t)(file->buf_off / RD_BLOCK);
    uint32_t done = 0;

    if (blocks == 0) {
        return 0;
    }
    memset(file->buf + file->buf_len, 0, (size_t)blocks * RD_BLOCK - file->buf_len);
    while (done < blocks) {
        blk64_t start = 0;
        uint32_t count = 0;
        errcode_t code = alloc_run(disk, blocks - done, &start, &count);
        int r;

        if (code) {
            return rd_err_ext2(err, code, "file data");
        }
        r = write_all(disk->fd, file->buf + (size_t)done * RD_BLOCK, (size_t)count * RD_BLOCK,
                      start * RD_BLOCK);
        r = r < 0 ? r : add_extent(file, lblk + done, start, count);
        if (r < 0) {
            return err_set_errno(err, ERR_IO, r, "file data");
        }
        done += count;
    }
    file->buf_off += (uint64_t)blocks * RD_BLOCK;
    file->buf_len = 0;
    return 0;
}

/* Makes `off` the end of the buffer: zeros inside a block, a hole over whole ones. */
static int seek_to(struct rootdisk *disk, uint64_t off, struct err *err)
{
    struct rd_file *file = &disk->file;
    uint64_t end = file->buf_off + file->buf_len;
    size_t pad;

    if (off == end) {
        return 0;
    }
    if (off < end) {
        return err_set(err, ERR_INVALID, "data that goes backwards");
    }
    if (off / RD_BLOCK != end / RD_BLOCK || file->buf_len == 0) {
        if (file->buf_len > 0 && rd_file_flush(disk, err) < 0) {
            return -1;
        }
        file->buf_off = off - off % RD_BLOCK;
    }
    pad = (size_t)(off - file->buf_off) - file->buf_len;
    memset(file->buf + file->buf_len, 0, pad);
    file->buf_len += pad;
    return 0;
}

int rd_file_data(struct rootdisk *disk, uint64_t off, const void *data, size_t len, struct err *err)
{
    struct rd_file *file = &disk->file;
    const uint8_t *from = data;

    if (len == 0) {
        return 0;
    }
    if (!file->buf) {
        file->buf = malloc(FILE_BUF);
        if (!file->buf) {
            return err_set_errno(err, ERR_IO, ENOMEM, "file data");
        }
    }
    if (seek_to(disk, off, err) < 0) {
        return -1;
    }
    while (len > 0) {
        size_t room = FILE_BUF - file->buf_len;
        size_t part = len < room ? len : room;

        memcpy(file->buf + file->buf_len, from, part);
        file->buf_len += part;
        from += part;
        len -= part;
        if (file->buf_len == FILE_BUF && rd_file_flush(disk, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int rd_file_reserve(struct rootdisk *disk, uint32_t blocks, struct err *err)
{
    uint32_t done = 0;

    while (done < blocks) {
        blk64_t start = 0;
        uint32_t count = 0;
        errcode_t code = alloc_run(disk, blocks - done, &start, &count);

        code = code ? code : -add_extent(&disk->file, done, start, count);
        if (code) {
            return rd_err_ext2(err, code, "directory");
        }
        done += count;
    }
    return 0;
}

/* ---- inodes -----------------------------------------------------------------------------------
 */

int rd_inode_new(struct rootdisk *disk, bool is_dir, uint32_t *ret_ino, struct err *err)
{
    if (disk->next_ino > disk->fs->super->s_inodes_count) {
        err_set(err, ERR_LIMIT, "more than %u files do not fit into an image of this size",
                disk->fs->super->s_inodes_count - EXT2_FIRST_INO(disk->fs->super) + 1);
        return -1;
    }
    *ret_ino = disk->next_ino++;
    ext2fs_inode_alloc_stats2(disk->fs, *ret_ino, +1, is_dir);
    disk->inodes++;
    return 0;
}

static void set_times(struct ext2_inode_large *inode, int64_t sec, uint32_t nsec)
{
    int64_t t = sec < TIME_MIN ? TIME_MIN : sec > TIME_MAX ? TIME_MAX : sec;
    uint32_t low = (uint32_t)(t & 0xffffffff);
    uint32_t epoch = (uint32_t)((t - (int32_t)low) >> 32) & 3;
    uint32_t extra = epoch | (t == sec ? nsec << 2 : 0);

    /* The tar has one time; a ctime from the clock would make every image different. */
    inode->i_mtime = inode->i_ctime = inode->i_atime = inode->i_crtime = low;
    inode->i_mtime_extra = inode->i_ctime_extra = inode->i_atime_extra = extra;
    inode->i_crtime_extra = extra;
}

static void set_device(struct ext2_inode_large *inode, uint32_t major, uint32_t minor)
{
    if (major < 256 && minor < 256) {
        inode->i_block[0] = major << 8 | minor;
    } else {
        inode->i_block[1] = (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
    }
}

/* An extent tree's root in i_block, with up to four extents in it. */
static void set_extent_root(uint32_t i_block[EXT2_N_BLOCKS], const struct rd_extent *extents,
                            size_t count)
{
    struct ext3_extent_header *header = (struct ext3_extent_header *)i_block;
    struct ext3_extent *entry = (struct ext3_extent *)(header + 1);

    memset(i_block, 0, EXT2_N_BLOCKS * sizeof(*i_block));
    header->eh_magic = EXT3_EXT_MAGIC;
    header->eh_max = 4;
    header->eh_entries = (uint16_t)count;
    for (size_t i = 0; i < count; i++) {
        entry[i].ee_block = extents[i].lblk;
        entry[i].ee_len = (uint16_t)extents[i].len;
        entry[i].ee_start = (uint32_t)extents[i].pblk;
        entry[i].ee_start_hi = (uint16_t)(extents[i].pblk >> 32);
    }
}

/* More than four extents: the library builds the tree, onto the inode that is written already. */
static errcode_t insert_extents(struct rootdisk *disk, uint32_t ino)
{
    ext2_extent_handle_t handle = NULL;
    errcode_t code = ext2fs_extent_open(disk->fs, ino, &handle);

    for (size_t i = 0; !code && i < disk->file.extent_count; i++) {
        struct ext2fs_extent extent = {
            .e_lblk = disk->file.extents[i].lblk,
            .e_len = disk->file.extents[i].len,
            .e_pblk = disk->file.extents[i].pblk,
        };

        code = ext2fs_extent_insert(handle, i ? EXT2_EXTENT_INSERT_AFTER : 0, &extent);
    }
    if (handle) {
        ext2fs_extent_free(handle);
    }
    return code;
}

static errcode_t write_large(struct rootdisk *disk, uint32_t ino, struct ext2_inode_large *inode)
{
    return ext2fs_write_inode_full(disk->fs, ino, (struct ext2_inode *)inode, sizeof(*inode));
}

static errcode_t read_large(struct rootdisk *disk, uint32_t ino, struct ext2_inode_large *inode)
{
    return ext2fs_read_inode_full(disk->fs, ino, (struct ext2_inode *)inode, sizeof(*inode));
}

/* Writes the inode with the extents of disk->file; i_blocks must not count them yet. */
static errcode_t write_with_extents(struct rootdisk *disk, uint32_t ino,
                                    struct ext2_inode_large *inode)
{
    struct rd_file *file = &disk->file;
    bool inside = file->extent_count <= 4;
    errcode_t code;

    inode->i_flags |= EXT4_EXTENTS_FL;
    set_extent_root(inode->i_block, file->extents, inside ? file->extent_count : 0);
    if (!inside) {
        code = write_large(disk, ino, inode);
        code = code ? code : insert_extents(disk, ino);
        code = code ? code : read_large(disk, ino, inode);
        if (code) {
            return code;
        }
    }
    code = ext2fs_iblk_add_blocks(disk->fs, (struct ext2_inode *)inode, file->blocks);
    return code ? code : write_large(disk, ino, inode);
}

static void set_meta(struct ext2_inode_large *inode, const struct rd_meta *meta)
{
    inode->i_mode = meta->mode;
    inode->i_uid = (uint16_t)meta->uid;
    inode->i_gid = (uint16_t)meta->gid;
    ext2fs_set_i_uid_high(*inode, (uint16_t)(meta->uid >> 16));
    ext2fs_set_i_gid_high(*inode, (uint16_t)(meta->gid >> 16));
    inode->i_links_count = S_ISDIR(meta->mode) ? 2 : 1;
    inode->i_extra_isize = sizeof(*inode) - EXT2_GOOD_OLD_INODE_SIZE;
    set_times(inode, meta->mtime, meta->mtime_nsec);
}

static int write_symlink(struct rootdisk *disk, uint32_t ino, struct ext2_inode_large *inode,
                         const char *target, struct err *err)
{
    size_t len = strlen(target);
    errcode_t code;

    inode->i_size = (uint32_t)len;
    if (len <= FAST_SYMLINK_MAX) {
        memcpy(inode->i_block, target, len);
        code = write_large(disk, ino, inode);
    } else {
        if (rd_file_data(disk, 0, target, len, err) < 0 || rd_file_flush(disk, err) < 0) {
            return -1;
        }
        code = write_with_extents(disk, ino, inode);
        rd_file_reset(&disk->file);
    }
    return code ? rd_err_ext2(err, code, "symlink") : 0;
}

int rd_inode_write(struct rootdisk *disk, uint32_t ino, const struct rd_meta *meta,
                   const char *target, struct err *err)
{
    struct ext2_inode_large inode = {0};
    errcode_t code;

    set_meta(&inode, meta);
    if (S_ISLNK(meta->mode)) {
        return write_symlink(disk, ino, &inode, target, err);
    }
    if (S_ISREG(meta->mode)) {
        inode.i_size = (uint32_t)meta->size;
        inode.i_size_high = (uint32_t)(meta->size >> 32);
    }
    if (S_ISREG(meta->mode) || S_ISDIR(meta->mode)) {
        code = write_with_extents(disk, ino, &inode);
        rd_file_reset(&disk->file);
    } else {
        if (S_ISCHR(meta->mode) || S_ISBLK(meta->mode)) {
            set_device(&inode, meta->rdev_major, meta->rdev_minor);
        }
        code = write_large(disk, ino, &inode);
    }
    return code ? rd_err_ext2(err, code, "inode") : 0;
}

int rd_inode_set_dir(struct rootdisk *disk, uint32_t ino, bool indexed, uint32_t links,
                     struct err *err)
{
    struct ext2_inode_large inode = {0};
    errcode_t code = read_large(disk, ino, &inode);

    if (code) {
        return rd_err_ext2(err, code, "directory inode");
    }
    inode.i_size = (uint32_t)(disk->file.blocks * RD_BLOCK);
    inode.i_size_high = (uint32_t)((disk->file.blocks * RD_BLOCK) >> 32);
    inode.i_links_count = links < RD_LINKS_MAX ? (uint16_t)links : 1; /* dir_nlink: 1 = many */
    inode.i_flags |= indexed ? EXT2_INDEX_FL : 0;
    code = write_with_extents(disk, ino, &inode);
    return code ? rd_err_ext2(err, code, "directory inode") : 0;
}

int rd_inode_link(struct rootdisk *disk, uint32_t ino, struct err *err)
{
    struct ext2_inode inode;
    errcode_t code = ext2fs_read_inode(disk->fs, ino, &inode);

    if (!code && inode.i_links_count >= RD_LINKS_MAX) {
        return err_set(err, ERR_LIMIT, "more than %u hard links to one file", RD_LINKS_MAX);
    }
    inode.i_links_count++;
    code = code ? code : ext2fs_write_inode(disk->fs, ino, &inode);
    return code ? rd_err_ext2(err, code, "hard link") : 0;
}

int rd_inode_drop_xattrs(struct rootdisk *disk, uint32_t ino, struct err *err)
{
    errcode_t code = ext2fs_free_ext_attr(disk->fs, ino, NULL);

    return code ? rd_err_ext2(err, code, "attributes") : 0;
}

int rd_inode_unlink(struct rootdisk *disk, uint32_t ino, bool is_dir, struct err *err)
{
    struct ext2_inode_large inode = {0};
    struct ext2_inode *small = (struct ext2_inode *)&inode;
    errcode_t code = read_large(disk, ino, &inode);

    if (!code && !is_dir && inode.i_links_count > 1) {
        inode.i_links_count--;
        code = write_large(disk, ino, &inode);
        return code ? rd_err_ext2(err, code, "inode") : 0;
    }
    code = code ? code : ext2fs_free_ext_attr(disk->fs, ino, &inode);
    if (!code && ext2fs_inode_has_valid_blocks2(disk->fs, small)) {
        code = ext2fs_punch(disk->fs, ino, small, NULL, 0, ~0ULL);
    }
    if (!code) {
        inode = (struct ext2_inode_large){0};
        code = write_large(disk, ino, &inode);
    }
    if (code) {
        return rd_err_ext2(err, code, "inode");
    }
    ext2fs_inode_alloc_stats2(disk->fs, ino, -1, is_dir);
    disk->inodes--;
    return 0;
}
