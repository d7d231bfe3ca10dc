#include "disk/rootdisk_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define LOST_FOUND_INO 11u

/* ---- errors -----------------------------------------------------------------------------------
 */

int rd_err_ext2(struct err *err, errcode_t code, const char *what)
{
    switch (code) {
    case EXT2_ET_BLOCK_ALLOC_FAIL:
        err_set(err, ERR_NO_SPACE, "%s: the image is full", what);
        return err_hint(err, "allow a larger image");
    case EXT2_ET_NO_MEMORY:
        return err_set_errno(err, ERR_IO, ENOMEM, "%s", what);
    default:
        if (code > 0 && code < 256) {
            return err_set_errno(err, ERR_IO, (int)code, "%s", what);
        }
        return err_set(err, ERR_IO, "%s: %s", what, error_message(code));
    }
}

const char *rd_show(const char *path, char show[RD_SHOW_SIZE])
{
    size_t used = 0;

    for (; *path; path++) {
        unsigned char c = (unsigned char)*path;

        if (used + 8 > RD_SHOW_SIZE) {
            memcpy(show + used, "...", 3);
            used += 3;
            break;
        }
        if (c < 0x20 || c >= 0x7f || c == '\\') {
            used += (size_t)snprintf(show + used, RD_SHOW_SIZE - used, "\\x%02x", c);
        } else {
            show[used++] = (char)c;
        }
    }
    show[used] = '\0';
    return show;
}

/* A write that libext2fs lost (it may drop the error of a block pushed out of its cache). */
static int check_writes(const struct rootdisk *disk, struct err *err)
{
    if (disk->write_errno) {
        return err_set_errno(err, ERR_IO, disk->write_errno, "writing '%s'", disk->out_path);
    }
    return 0;
}

/* ---- start ------------------------------------------------------------------------------------
 */

static int make_temporary(struct rootdisk *disk, struct err *err)
{
    char *path = NULL;

    if (asprintf(&path, "%s.tmp-XXXXXX", disk->out_path) < 0) {
        return err_set_errno(err, ERR_IO, ENOMEM, "'%s'", disk->out_path);
    }
    disk->fd = mkostemp(path, O_CLOEXEC);
    if (disk->fd < 0) {
        int errnum = errno;

        free(path);
        return err_set_errno(err, ERR_IO, errnum, "'%s'", disk->out_path);
    }
    disk->tmp_path = path;
    if (ftruncate(disk->fd, (off_t)disk->size_bytes) < 0) {
        return err_set_errno(err, ERR_IO, errno, "'%s': making it %llu bytes large", disk->out_path,
                             (unsigned long long)disk->size_bytes);
    }
    return 0;
}

/* mke2fs makes a root and lost+found with blocks of their own. The root is written anew at the
 * end like any directory; lost+found goes, because the image is to hold what the tar holds. */
static int clear_template(struct rootdisk *disk, struct err *err)
{
    const struct rd_meta meta = {.mode = S_IFDIR | 0755, .mtime = RD_EPOCH};
    struct ext2_inode inode;
    errcode_t code = ext2fs_read_inode(disk->fs, EXT2_ROOT_INO, &inode);

    code = code ? code : ext2fs_punch(disk->fs, EXT2_ROOT_INO, &inode, NULL, 0, ~0ULL);
    if (code) {
        return rd_err_ext2(err, code, "root directory");
    }
    disk->inodes = 2;
    if (rd_inode_unlink(disk, LOST_FOUND_INO, true, err) < 0) {
        return -1;
    }
    disk->next_ino = EXT2_FIRST_INO(disk->fs->super);
    return rd_inode_write(disk, EXT2_ROOT_INO, &meta, NULL, err);
}

static int open_filesystem(struct rootdisk *disk, struct err *err)
{
    errcode_t code;

    initialize_ext2_error_table();
    code = ext2fs_open(disk->tmp_path, EXT2_FLAG_RW | EXT2_FLAG_64BITS, 0, 0, unix_io_manager,
                       &disk->fs);
    if (code) {
        return rd_err_ext2(err, code, "opening the new filesystem");
    }
    disk->fs->now = RD_EPOCH;
    rd_inode_attach(disk);
    code = ext2fs_read_bitmaps(disk->fs);
    if (code) {
        return rd_err_ext2(err, code, "bitmaps");
    }
    if (disk->fs->blocksize != RD_BLOCK || disk->fs->super->s_first_data_block != 0 ||
        EXT2_FIRST_INO(disk->fs->super) != LOST_FOUND_INO) {
        return err_set(err, ERR_INTERNAL, "mke2fs made another filesystem than it was told to");
    }
    return 0;
}

static int start(struct rootdisk *disk, struct err *err)
{
    int r;

    if (make_temporary(disk, err) < 0 || rd_mkfs(disk->tmp_path, disk->size_bytes, err) < 0 ||
        open_filesystem(disk, err) < 0) {
        return -1;
    }
    r = rd_tree_init(&disk->tree, EXT2_ROOT_INO);
    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "name tree");
    }
    disk->path = malloc(RD_PATH_MAX);
    disk->walk = malloc(RD_WALK_SIZE);
    if (!disk->path || !disk->walk) {
        return err_set_errno(err, ERR_IO, ENOMEM, "name tree");
    }
    return clear_template(disk, err);
}

int rootdisk_new(const struct rootdisk_params *params, struct rootdisk **ret_disk, struct err *err)
{
    uint64_t size = params->size_bytes ? params->size_bytes : ROOTDISK_SIZE_DEFAULT;
    _cleanup_rootdisk_ struct rootdisk *disk = NULL;

    if (size < ROOTDISK_SIZE_MIN || size > ROOTDISK_SIZE_MAX) {
        return err_set(err, ERR_INVALID, "image size %llu: not between %llu and %llu bytes",
                       (unsigned long long)size, ROOTDISK_SIZE_MIN, ROOTDISK_SIZE_MAX);
    }
    disk = calloc(1, sizeof(*disk));
    if (!disk) {
        abort();
    }
    disk->fd = -1;
    disk->cancel_fd = params->cancel_fd;
    disk->size_bytes = size - size % RD_BLOCK;
    disk->out_path = strdup(params->out_path);
    if (!disk->out_path) {
        abort();
    }
    if (start(disk, err) < 0) {
        return -1;
    }
    *ret_disk = STEAL_PTR(disk);
    return 0;
}

/* ---- content and end --------------------------------------------------------------------------
 */

int rootdisk_add_tar(struct rootdisk *disk, int tar_fd, struct err *err)
{
    if (disk->layers > 0) {
        return err_set(err, ERR_UNSUPPORTED, "more than one layer");
    }
    if (rd_tar_apply(disk, tar_fd, err) < 0) {
        return -1;
    }
    disk->layers++;
    return check_writes(disk, err);
}

/* Leaves the file complete but for its length and the sync. */
static int close_filesystem(struct rootdisk *disk, struct rootdisk_info *ret_info, struct err *err)
{
    errcode_t code;

    if (rd_dirs_write(disk, err) < 0 || rd_shrink(disk, err) < 0) {
        return -1;
    }
    code = ext2fs_flush2(disk->fs, EXT2_FLAG_FLUSH_NO_SYNC);
    code = code ? code : io_channel_flush(disk->fs->io);
    if (code) {
        return rd_err_ext2(err, code, "writing the filesystem");
    }
    if (check_writes(disk, err) < 0) {
        return -1;
    }
    *ret_info = (struct rootdisk_info){
        .size_bytes = ext2fs_blocks_count(disk->fs->super) * RD_BLOCK,
        .entries = disk->entries,
        .inodes = disk->inodes,
    };
    rd_punch_free(disk);
    code = ext2fs_close2(disk->fs, EXT2_FLAG_FLUSH_NO_SYNC);
    if (code) {
        return rd_err_ext2(err, code, "writing the filesystem");
    }
    disk->fs = NULL;
    return check_writes(disk, err);
}

static int sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    _cleanup_close_ int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int publish(struct rootdisk *disk, uint64_t size_bytes, struct err *err)
{
    int r;

    if (ftruncate(disk->fd, (off_t)size_bytes) < 0 || fsync(disk->fd) < 0) {
        return err_set_errno(err, ERR_IO, errno, "writing '%s'", disk->out_path);
    }
    if (rename(disk->tmp_path, disk->out_path) < 0) {
        return err_set_errno(err, ERR_IO, errno, "'%s'", disk->out_path);
    }
    free(disk->tmp_path);
    disk->tmp_path = NULL;
    r = sync_parent(disk->out_path);
    return r < 0 ? err_set_errno(err, ERR_IO, r, "'%s': syncing its directory", disk->out_path) : 0;
}

int rootdisk_finish(struct rootdisk *disk, struct rootdisk_info *ret_info, struct err *err)
{
    struct rootdisk_info info = {0};

    if (close_filesystem(disk, &info, err) < 0 || publish(disk, info.size_bytes, err) < 0) {
        return -1;
    }
    if (ret_info) {
        *ret_info = info;
    }
    return 0;
}

void rootdisk_free(struct rootdisk *disk)
{
    if (!disk) {
        return;
    }
    if (disk->fs) {
        ext2fs_free(disk->fs);
    }
    if (disk->tmp_path) {
        (void)unlink(disk->tmp_path);
    }
    close_p(&disk->fd);
    rd_tree_done(&disk->tree);
    free(disk->file.buf);
    free(disk->file.extents);
    free(disk->path);
    free(disk->walk);
    free(disk->tmp_path);
    free(disk->out_path);
    free(disk);
}
