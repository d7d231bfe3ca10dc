#include "disk/rootdisk_priv.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#define READ_BUF (256u << 10)
#define FILE_SIZE_MAX ((uint64_t)(UINT32_MAX - 1) * RD_BLOCK)
#define TAR_BLOCK 512
/* Padding after the end mark is read, so that a writer before us gets no SIGPIPE. */
#define PADDING_MAX (64ULL << 20)

struct tar_source {
    int fd;
    int cancel_fd;
    uint8_t *buf;
    int errnum; /* why reading failed */
};

/* ---- input ------------------------------------------------------------------------------------
 */

static int wait_readable(const struct tar_source *source)
{
    struct pollfd fds[2] = {
        {.fd = source->fd, .events = POLLIN},
        {.fd = source->cancel_fd, .events = POLLIN},
    };

    while (poll(fds, 2, -1) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return fds[1].revents ? -ECANCELED : 0;
}

static ssize_t source_read(struct tar_source *source)
{
    for (;;) {
        int r = wait_readable(source);
        ssize_t n = r < 0 ? r : read(source->fd, source->buf, READ_BUF);

        if (n < 0 && r == 0) {
            n = -errno;
        }
        if (n != -EINTR && n != -EAGAIN) {
            return n;
        }
    }
}

static la_ssize_t read_callback(struct archive *a, void *data, const void **ret_buffer)
{
    struct tar_source *source = data;
    ssize_t n = source_read(source);

    *ret_buffer = source->buf;
    if (n < 0) {
        source->errnum = (int)-n;
        archive_set_error(a, (int)-n, "read failed");
        return ARCHIVE_FATAL;
    }
    return n;
}

static int read_failed(const struct tar_source *source, struct archive *a, struct err *err)
{
    char show[RD_SHOW_SIZE];
    const char *text = archive_error_string(a);

    if (source->errnum) {
        return err_set_errno(err, ERR_IO, source->errnum, "reading the tar stream");
    }
    return err_set(err, ERR_INVALID, "bad tar stream: %s",
                   text ? rd_show(text, show) : "unknown error");
}

static int drain(struct tar_source *source, struct err *err)
{
    uint64_t total = 0;
    ssize_t n = 1;

    while (n > 0 && total < PADDING_MAX) {
        n = source_read(source);
        total += n > 0 ? (uint64_t)n : 0;
    }
    return n < 0 ? err_set_errno(err, ERR_IO, (int)n, "reading the tar stream") : 0;
}

/* ---- one entry --------------------------------------------------------------------------------
 */

static int get_meta(struct archive_entry *entry, struct rd_meta *ret_meta, struct err *err)
{
    int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);
    int64_t size = archive_entry_size(entry);
    uint64_t major = archive_entry_rdevmajor(entry), minor = archive_entry_rdevminor(entry);
    mode_t type = archive_entry_filetype(entry);

    if (uid < 0 || uid > UINT32_MAX || gid < 0 || gid > UINT32_MAX) {
        return err_set(err, ERR_INVALID, "owner %" PRId64 ":%" PRId64 " out of range", uid, gid);
    }
    if (type != S_IFREG && type != S_IFDIR && type != S_IFLNK && type != S_IFCHR &&
        type != S_IFBLK && type != S_IFIFO) {
        return err_set(err, ERR_INVALID, "unknown kind of file");
    }
    if ((type == S_IFCHR || type == S_IFBLK) && (major > 0xfff || minor > 0xfffff)) {
        return err_set(err, ERR_INVALID, "device number out of range");
    }
    if (type == S_IFREG && (size < 0 || (uint64_t)size > FILE_SIZE_MAX)) {
        return err_set(err, ERR_LIMIT, "file of %" PRId64 " bytes", size);
    }
    *ret_meta = (struct rd_meta){
        .mode = (uint16_t)(type | (type == S_IFLNK ? 0777 : archive_entry_perm(entry) & 07777)),
        .uid = (uint32_t)uid,
        .gid = (uint32_t)gid,
        .mtime = archive_entry_mtime(entry),
        .mtime_nsec = (uint32_t)archive_entry_mtime_nsec(entry) % 1000000000u,
        .rdev_major = (uint32_t)major,
        .rdev_minor = (uint32_t)minor,
        .size = type == S_IFREG ? (uint64_t)size : 0,
    };
    return 0;
}

static uint8_t node_type(uint16_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return EXT2_FT_DIR;
    case S_IFLNK:
        return EXT2_FT_SYMLINK;
    case S_IFCHR:
        return EXT2_FT_CHRDEV;
    case S_IFBLK:
        return EXT2_FT_BLKDEV;
    case S_IFIFO:
        return EXT2_FT_FIFO;
    default:
        return EXT2_FT_REG_FILE;
    }
}

static int copy_data(struct rootdisk *disk, const struct tar_source *source, struct archive *a,
                     uint64_t size, struct err *err)
{
    for (;;) {
        const void *data = NULL;
        size_t len = 0;
        la_int64_t off = 0;
        int r = archive_read_data_block(a, &data, &len, &off);

        if (r == ARCHIVE_EOF) {
            return rd_file_flush(disk, err);
        }
        if (r == ARCHIVE_RETRY) {
            continue;
        }
        if (r != ARCHIVE_OK) {
            return read_failed(source, a, err);
        }
        if (off < 0 || (uint64_t)off > size || len > size - (uint64_t)off) {
            return err_set(err, ERR_INVALID, "data after the end of the file");
        }
        if (rd_file_data(disk, (uint64_t)off, data, len, err) < 0) {
            return -1;
        }
    }
}

/* The target is looked up as a tar path: its parents may be symlinks, itself it is not followed.
 * A body that some writers give to hard links repeats the file's data and is skipped. */
static int apply_hardlink(struct rootdisk *disk, const char *path, const char *target,
                          struct err *err)
{
    struct rd_place place = {0};
    uint32_t from, existing, ino, text;
    uint32_t node = RD_NONE;
    uint8_t type;

    if (rd_place_find(disk, target, false, &place, err) < 0) {
        return err_wrap(err, "hard link");
    }
    from = place.name.len ? rd_tree_find(&disk->tree, place.dir, place.name) : RD_ROOT;
    if (from == RD_NONE) {
        char show[RD_SHOW_SIZE];

        return err_set(err, ERR_INVALID, "hard link to '%s', which does not exist",
                       rd_show(target, show));
    }
    ino = disk->tree.nodes[from].ino;
    type = disk->tree.nodes[from].type;
    text = disk->tree.nodes[from].target;
    if (type == EXT2_FT_DIR) {
        return err_set(err, ERR_INVALID, "hard link to a directory");
    }
    if (rd_place_find(disk, path, true, &place, err) < 0) {
        return -1;
    }
    existing = place.name.len ? rd_tree_find(&disk->tree, place.dir, place.name) : RD_ROOT;
    if (existing == RD_ROOT) {
        return err_set(err, ERR_INVALID, "the root is not a directory");
    }
    if (existing == from) {
        return 0;
    }
    if (rd_inode_link(disk, ino, err) < 0 ||
        (existing != RD_NONE && rd_place_clear(disk, existing, err) < 0)) {
        return -1;
    }
    /* `from` may have been below what was replaced and be gone; its inode lives on through the
     * count, and text is never dropped. */
    if (rd_place_add(disk, place, ino, type, &node, err) < 0) {
        return -1;
    }
    disk->tree.nodes[node].target = text;
    return 0;
}

static int get_target(struct archive_entry *entry, const char **ret_target, struct err *err)
{
    const char *target = archive_entry_symlink(entry);

    if (!target || !*target || strlen(target) > RD_TARGET_MAX) {
        return err_set(err, ERR_INVALID, "symlink target is empty or longer than %u bytes",
                       RD_TARGET_MAX);
    }
    *ret_target = target;
    return 0;
}

/* A directory that exists already keeps its content and takes the new owner, mode and so on. */
static int update_dir(struct rootdisk *disk, uint32_t node, const struct rd_meta *meta,
                      struct archive_entry *entry, struct err *err)
{
    uint32_t ino = disk->tree.nodes[node].ino;

    if (rd_inode_drop_xattrs(disk, ino, err) < 0 ||
        rd_inode_write(disk, ino, meta, NULL, err) < 0) {
        return -1;
    }
    return rd_xattr_apply(disk, ino, entry, err);
}

static int apply_file(struct rootdisk *disk, const struct tar_source *source, struct archive *a,
                      struct archive_entry *entry, const char *path, struct err *err)
{
    uint32_t existing, ino = 0, node = 0;
    struct rd_place place = {0};
    struct rd_meta meta = {0};
    const char *target = NULL;
    bool is_dir;

    if (get_meta(entry, &meta, err) < 0 || rd_place_find(disk, path, true, &place, err) < 0 ||
        (S_ISLNK(meta.mode) && get_target(entry, &target, err) < 0)) {
        return -1;
    }
    is_dir = S_ISDIR(meta.mode);
    existing = place.name.len ? rd_tree_find(&disk->tree, place.dir, place.name) : RD_ROOT;
    if (existing != RD_NONE && is_dir && disk->tree.nodes[existing].type == EXT2_FT_DIR) {
        return update_dir(disk, existing, &meta, entry, err);
    }
    if (existing == RD_ROOT) {
        return err_set(err, ERR_INVALID, "the root is not a directory");
    }
    if ((existing != RD_NONE && rd_place_clear(disk, existing, err) < 0) ||
        rd_inode_new(disk, is_dir, &ino, err) < 0 ||
        (S_ISREG(meta.mode) && copy_data(disk, source, a, meta.size, err) < 0) ||
        rd_inode_write(disk, ino, &meta, target, err) < 0 ||
        rd_xattr_apply(disk, ino, entry, err) < 0 ||
        rd_place_add(disk, place, ino, node_type(meta.mode), &node, err) < 0) {
        return -1;
    }
    if (target && rd_tree_set_target(&disk->tree, node, target) < 0) {
        return err_set(err, ERR_LIMIT, "too many names in one image");
    }
    return 0;
}

static int apply_entry(struct rootdisk *disk, const struct tar_source *source, struct archive *a,
                       struct archive_entry *entry, struct err *err)
{
    const char *path = archive_entry_pathname(entry);
    const char *hardlink = archive_entry_hardlink(entry);
    char show[RD_SHOW_SIZE];
    int r;

    if (!path) {
        return err_set(err, ERR_INVALID, "entry without a name");
    }
    if (disk->entries >= ROOTDISK_ENTRIES_MAX) {
        return err_set(err, ERR_LIMIT, "more than %u entries", ROOTDISK_ENTRIES_MAX);
    }
    disk->entries++;
    r = hardlink ? apply_hardlink(disk, path, hardlink, err)
                 : apply_file(disk, source, a, entry, path, err);
    return r < 0 ? err_wrap(err, "'%s'", rd_show(path, show)) : 0;
}

/* ---- the archive ------------------------------------------------------------------------------
 */

/* In the C locale libarchive leaves every name as it is and warns that it could not convert it.
 * Any other warning means that something of the entry was lost. */
static bool is_charset_warning(struct archive *a)
{
    const char *text = archive_error_string(a);

    return text && strstr(text, "can't be converted") != NULL;
}

static int read_entries(struct rootdisk *disk, const struct tar_source *source, struct archive *a,
                        struct err *err)
{
    la_int64_t end = 0;

    for (;;) {
        struct archive_entry *entry = NULL;
        int r = archive_read_next_header(a, &entry);

        if (r == ARCHIVE_EOF) {
            /* libarchive forgives a missing end mark; for us it is a stream that was cut. */
            if (archive_filter_bytes(a, 0) < end + TAR_BLOCK) {
                return err_set(err, ERR_INVALID, "bad tar stream: it ends without an end mark");
            }
            return 0;
        }
        if (r == ARCHIVE_RETRY) {
            continue;
        }
        if (r != ARCHIVE_OK && !(r == ARCHIVE_WARN && is_charset_warning(a))) {
            return read_failed(source, a, err);
        }
        if (apply_entry(disk, source, a, entry, err) < 0) {
            return -1;
        }
        if (archive_read_data_skip(a) != ARCHIVE_OK) {
            return read_failed(source, a, err);
        }
        end = archive_filter_bytes(a, 0);
    }
}

static int read_archive(struct rootdisk *disk, struct tar_source *source, struct archive *a,
                        struct err *err)
{
    /* A filter that is not built in would run a program: not that. */
    if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
        archive_read_support_filter_gzip(a) != ARCHIVE_OK ||
        archive_read_support_filter_xz(a) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(a) != ARCHIVE_OK) {
        return err_set(err, ERR_UNSUPPORTED, "libarchive was built without gzip, xz or zstd");
    }
    if (archive_read_open(a, source, NULL, read_callback, NULL) != ARCHIVE_OK) {
        return read_failed(source, a, err);
    }
    if (read_entries(disk, source, a, err) < 0) {
        return -1;
    }
    return drain(source, err);
}

int rd_tar_apply(struct rootdisk *disk, int tar_fd, struct err *err)
{
    struct tar_source source = {.fd = tar_fd, .cancel_fd = disk->cancel_fd};
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    struct archive *a = archive_read_new();
    locale_t old;
    int r;

    source.buf = malloc(READ_BUF);
    if (!a || !source.buf || !c_locale) {
        r = err_set_errno(err, ERR_IO, ENOMEM, "tar reader");
    } else {
        /* In a UTF-8 locale libarchive would turn decomposed names into composed ones, and so
         * write two files into one. Only this thread's locale is changed. */
        old = uselocale(c_locale);
        r = read_archive(disk, &source, a, err);
        (void)uselocale(old);
    }
    if (a) {
        (void)archive_read_free(a);
    }
    if (c_locale) {
        freelocale(c_locale);
    }
    free(source.buf);
    return r;
}
