#include "archive/archive_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define CHUNK ((size_t)128 * 1024) /* what is read and written at once */
/* Files up to this size are read before their header is written, which then tells what was read:
 * what /proc and /sys say of their files' sizes is not true. */
#define SMALL ((size_t)64 * 1024)
#define ODD_FILE_MAX ((size_t)4 * 1024 * 1024) /* of a file that says it is empty */
#define XATTR_NAMES_MAX 65536                  /* XATTR_LIST_MAX and XATTR_SIZE_MAX of Linux */
#define XATTR_VALUE_MAX 65536
#define XATTR_BYTES_MAX (TAR_EXTENDED_MAX / 2)

struct pack {
    const struct archive_pack *params;
    struct links *links;
    struct buf out;
    struct buf name;  /* of the member, with a NUL */
    struct buf small; /* content of a small file */
    struct buf xattr_names, xattr_values, xattrs, extents;
    bool link_table_full;
    int failed;      /* something was reported */
    int write_error; /* -errno: nobody takes the stream any more */
};

static const char *path_of(const struct pack *p)
{
    return (const char *)buf_head(&p->name);
}

static void fail(struct pack *p, const char *path, const char *what, int error)
{
    p->failed = 1;
    archive_fail(p->params->report, p->params->arg, path, what, error);
}

static void empty(struct buf *b)
{
    b->start = b->len = 0; /* keeps the memory: the next file needs it again */
}

/* The stream ------------------------------------------------------------------------------------
 */

static void flush(struct pack *p)
{
    while (p->out.len > 0 && p->write_error == 0) {
        ssize_t n = write(p->params->out_fd, buf_head(&p->out), p->out.len);

        if (n >= 0) {
            p->out.start += (size_t)n;
            p->out.len -= (size_t)n;
        } else if (errno != EINTR) {
            p->write_error = -errno;
        }
    }
    empty(&p->out);
}

static void flush_if_full(struct pack *p)
{
    if (p->out.len >= CHUNK) {
        flush(p);
    }
}

static void put_header(struct pack *p, const struct tar_entry *e, const char *path)
{
    int r = tar_put_entry(&p->out, e);

    if (r < 0) {
        fail(p, path, "its attributes are too many or its name too long", 0);
    }
}

/* Attributes ------------------------------------------------------------------------------------
 */

static bool add_xattr(struct pack *p, int fd, const char *name, const char *path)
{
    size_t room = buf_room(&p->xattr_values);
    size_t most = room < XATTR_VALUE_MAX ? room : XATTR_VALUE_MAX;
    uint8_t *value = buf_reserve(&p->xattr_values, most);
    ssize_t n = fgetxattr(fd, name, value, most);
    const struct tar_xattr x = {.name = name, .value = value, .len = n > 0 ? (size_t)n : 0};

    if (n < 0 && errno == ENODATA) {
        return true; /* gone since it was listed */
    }
    if (n < 0 || buf_append(&p->xattrs, &x, sizeof(x)) < 0) {
        fail(p, path, "its extended attributes cannot be copied", n < 0 ? errno : E2BIG);
        return false;
    }
    buf_commit(&p->xattr_values, x.len);
    return true;
}

/* Of most files there are none. */
static void get_xattrs(struct pack *p, int fd, const char *path, struct tar_entry *e)
{
    uint8_t *names = buf_reserve(&p->xattr_names, XATTR_NAMES_MAX);
    ssize_t len = flistxattr(fd, (char *)names, XATTR_NAMES_MAX);

    empty(&p->xattr_values);
    empty(&p->xattrs);
    if (len > 0) {
        /* All at once, so that it never moves and values may be pointed to. */
        (void)buf_reserve(&p->xattr_values, XATTR_BYTES_MAX);
    }
    if (len < 0 && errno != ENOTSUP) {
        fail(p, path, "its extended attributes cannot be copied", errno);
    }
    for (const char *at = (char *)names; len > 0;) {
        size_t n = strlen(at) + 1;

        if (archive_wants_xattr(at, p->params->keep_ids) && !add_xattr(p, fd, at, path)) {
            break;
        }
        at += n;
        len -= (ssize_t)n;
    }
    e->xattrs = (const void *)buf_head(&p->xattrs);
    e->xattr_count = p->xattrs.len / sizeof(*e->xattrs);
}

static struct tar_entry entry_of(const struct pack *p, enum tar_type type, const struct stat *st)
{
    return (struct tar_entry){
        .type = type,
        .path = path_of(p),
        .target = "",
        .mode = (uint32_t)st->st_mode & 07777,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .mtime_s = st->st_mtim.tv_sec,
        .mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
        .major = major(st->st_rdev),
        .minor = minor(st->st_rdev),
    };
}

/* Regular files ---------------------------------------------------------------------------------
 */

/* Reads `size` bytes at `offset` to the stream. A file that became shorter meanwhile is filled up
 * with zeros, for its size stands in the stream already. */
static void put_range(struct pack *p, int fd, const char *path, uint64_t offset, uint64_t size)
{
    bool complained = false;

    while (size > 0 && p->write_error == 0) {
        size_t most = size < CHUNK ? (size_t)size : CHUNK;
        uint8_t *to = buf_reserve(&p->out, most);
        ssize_t n = complained ? 0 : pread(fd, to, most, (off_t)offset);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            if (!complained) {
                fail(p, path, n < 0 ? "cannot be read" : "became shorter while it was read",
                     n < 0 ? errno : 0);
                complained = true;
            }
            memset(to, 0, most);
            n = (ssize_t)most;
        }
        buf_commit(&p->out, (size_t)n);
        offset += (uint64_t)n;
        size -= (uint64_t)n;
        flush_if_full(p);
    }
}

/* Where a file with holes has data. After TAR_EXTENTS_MAX pieces the rest counts as data. */
static void find_extents(struct pack *p, int fd, struct tar_entry *e)
{
    off_t size = (off_t)e->size, at = 0;

    empty(&p->extents);
    while (at < size) {
        off_t data = lseek(fd, at, SEEK_DATA);
        off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
        bool last = p->extents.len / sizeof(struct tar_extent) + 1 >= TAR_EXTENTS_MAX;
        struct tar_extent extent;

        if (data < 0 && errno == ENXIO) {
            break; /* holes to the end */
        }
        if (data < 0) {
            data = at; /* a file system that knows no holes, or lost the file */
        }
        if (data >= size) {
            break;
        }
        hole = hole < 0 || hole > size || last ? size : hole;
        extent = (struct tar_extent){.offset = (uint64_t)data, .length = (uint64_t)(hole - data)};
        if (extent.length == 0 || buf_append(&p->extents, &extent, sizeof(extent)) < 0) {
            break;
        }
        at = hole;
    }
    e->extents = (const void *)buf_head(&p->extents);
    e->extent_count = p->extents.len / sizeof(*e->extents);
    e->sparse = e->extent_count != 1 || e->extents[0].length != e->size;
}

static void put_large(struct pack *p, int fd, const char *path, const struct tar_entry *e)
{
    size_t before = p->out.len;

    put_header(p, e, path);
    if (p->out.len == before) {
        return;
    }
    if (!e->sparse) {
        put_range(p, fd, path, 0, e->size);
    }
    for (size_t i = 0; e->sparse && i < e->extent_count; i++) {
        put_range(p, fd, path, e->extents[i].offset, e->extents[i].length);
    }
    (void)!tar_put_padding(&p->out, tar_data_size(e));
}

/* Reads a file whose size is small or not known. False: it is larger than that, or unreadable. */
static bool read_small(struct pack *p, int fd, uint64_t size, int *ret_error)
{
    size_t most = size > 0 ? (size_t)size : ODD_FILE_MAX;

    empty(&p->small);
    *ret_error = 0;
    while (p->small.len < most) {
        size_t want = size > 0 ? most - p->small.len : SMALL;
        uint8_t *to = buf_reserve(&p->small, want);
        ssize_t n = to ? read(fd, to, want) : 0;

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            *ret_error = errno;
            return false;
        }
        if (n == 0) {
            break;
        }
        buf_commit(&p->small, (size_t)n);
    }
    return true;
}

static void put_small(struct pack *p, int fd, const char *path, struct tar_entry *e)
{
    int error;

    if (!read_small(p, fd, e->size, &error)) {
        fail(p, path, "cannot be read", error);
        return;
    }
    e->size = p->small.len;
    put_header(p, e, path);
    if (p->small.len > 0 && (buf_append(&p->out, buf_head(&p->small), p->small.len) < 0 ||
                             tar_put_padding(&p->out, p->small.len) < 0)) {
        p->write_error = -ENOBUFS;
    }
}

/* True when the file was seen under another name, and is now in the stream as a link to that. */
static bool put_hard_link(struct pack *p, const struct stat *st, const char *path,
                          struct tar_entry *e)
{
    bool full = false;
    const char *before;

    if (st->st_nlink < 2) {
        return false;
    }
    before = links_seen(p->links, st->st_dev, st->st_ino, path_of(p), &full);
    if (full && !p->link_table_full) {
        p->link_table_full = true;
        fail(p, path, "too many hard links: from here on they become files of their own", 0);
    }
    if (!before) {
        return false;
    }
    e->type = TAR_HARD_LINK;
    e->target = before;
    put_header(p, e, path);
    return true;
}

/* fd is open on a regular file. */
static void put_file(struct pack *p, int fd, const char *path, const struct stat *st)
{
    struct tar_entry e = entry_of(p, TAR_FILE, st);

    if (put_hard_link(p, st, path, &e)) {
        return;
    }
    e.size = (uint64_t)st->st_size;
    get_xattrs(p, fd, path, &e);
    if (st->st_blocks < st->st_size / 512) {
        find_extents(p, fd, &e);
    }
    if (e.sparse || e.size > SMALL) {
        put_large(p, fd, path, &e);
    } else {
        put_small(p, fd, path, &e);
    }
}

/* Other kinds -----------------------------------------------------------------------------------
 */

static void put_symlink(struct pack *p, int dir_fd, const char *name, const char *path,
                        const struct stat *st)
{
    struct tar_entry e = entry_of(p, TAR_SYMLINK, st);
    char target[PATH_MAX];
    ssize_t n = readlinkat(dir_fd, name, target, sizeof(target));

    if (n < 0 || n == sizeof(target)) {
        fail(p, path, "cannot read the link", n < 0 ? errno : ENAMETOOLONG);
        return;
    }
    target[n] = 0;
    e.target = target;
    put_header(p, &e, path);
}

static void put_special(struct pack *p, const char *path, const struct stat *st)
{
    enum tar_type type = S_ISFIFO(st->st_mode)  ? TAR_FIFO
                         : S_ISCHR(st->st_mode) ? TAR_CHAR_DEVICE
                         : S_ISBLK(st->st_mode) ? TAR_BLOCK_DEVICE
                                                : TAR_UNKNOWN;
    struct tar_entry e = entry_of(p, type, st);

    if (type == TAR_UNKNOWN) {
        fail(p, path, "is a socket, which cannot be copied", 0);
    } else if (!put_hard_link(p, st, path, &e)) {
        put_header(p, &e, path);
    }
}

/* The tree --------------------------------------------------------------------------------------
 */

/* Where the walk is: the member's name in p->name, the path for people in `path`. */
struct at {
    struct pack *pack;
    struct buf path;
    unsigned depth;
};

static int put_tree(struct at *at, int dir_fd, const char *name, unsigned char kind);

/* Appends "/name" to a path that ends with a NUL. */
static int path_push(struct buf *b, const char *name)
{
    size_t len = strlen(name) + 1;
    bool slash = b->len >= 2 && buf_head(b)[b->len - 2] == '/';

    if (buf_room(b) < len + 1) {
        return -ENAMETOOLONG;
    }
    b->len--;
    if ((!slash && buf_append(b, "/", 1) < 0) || buf_append(b, name, len) < 0) {
        return -ENAMETOOLONG;
    }
    return 0;
}

static void path_pop(struct buf *b, size_t len)
{
    b->len = len;
    b->data[b->start + len - 1] = 0;
}

static void put_child(struct at *at, int dir_fd, const char *name, unsigned char kind)
{
    struct pack *p = at->pack;
    size_t path_len = at->path.len, name_len = p->name.len;

    if (path_push(&at->path, name) < 0 || path_push(&p->name, name) < 0) {
        fail(p, (const char *)buf_head(&at->path), "a path in it is too long", 0);
    } else {
        (void)put_tree(at, dir_fd, name, kind);
    }
    path_pop(&at->path, path_len);
    path_pop(&p->name, name_len);
}

static void closedir_p(DIR **dir)
{
    if (*dir) {
        (void)closedir(*dir);
    }
}

/* fd is the directory, and taken. */
static void put_directory(struct at *at, int fd, const struct stat *st)
{
    _cleanup_close_ int owned = fd;
    _cleanup_(closedir_p) DIR *dir = NULL;
    struct pack *p = at->pack;
    const char *path = (const char *)buf_head(&at->path);
    struct tar_entry e = entry_of(p, TAR_DIRECTORY, st);
    struct dirent *d;

    get_xattrs(p, fd, path, &e);
    put_header(p, &e, path);
    if (at->depth >= ARCHIVE_DEPTH_MAX) {
        fail(p, path, "directories this deep are not copied", 0);
        return;
    }
    dir = fdopendir(owned);
    if (!dir) {
        fail(p, path, NULL, errno);
        return;
    }
    (void)STEAL_FD(owned);
    at->depth++;
    while (p->write_error == 0 && (errno = 0, d = readdir(dir))) {
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0) {
            put_child(at, fd, d->d_name, d->d_type);
            flush_if_full(p);
        }
    }
    if (p->write_error == 0 && errno != 0) {
        fail(p, (const char *)buf_head(&at->path), "cannot be read to its end", errno);
    }
    at->depth--;
}

/* Opens what was seen as a file or a directory, and looks again: it may have been exchanged. */
static int open_same(int dir_fd, const char *name, int flags, struct stat *st)
{
    _cleanup_close_ int fd =
        openat(dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
    mode_t type = st->st_mode & S_IFMT;

    if (fd < 0 || fstat(fd, st) < 0) {
        return -errno;
    }
    return (st->st_mode & S_IFMT) == type ? STEAL_FD(fd) : -ESTALE;
}

/* One member and what is below it. A symlink is not followed. `kind` is what readdir said: of files
 * and directories it saves one look. */
static int put_tree(struct at *at, int dir_fd, const char *name, unsigned char kind)
{
    struct pack *p = at->pack;
    const char *path = (const char *)buf_head(&at->path);
    struct stat st;
    int fd;

    if (kind == DT_REG || kind == DT_DIR) {
        st.st_mode = DTTOIF(kind);
    } else if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        fail(p, path, NULL, errno);
        return -1;
    }
    if (S_ISLNK(st.st_mode)) {
        put_symlink(p, dir_fd, name, path, &st);
        return 0;
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        put_special(p, path, &st);
        return 0;
    }
    fd = open_same(dir_fd, name, O_NOFOLLOW, &st);
    if (fd < 0) {
        fail(p, path, NULL, -fd);
        return -1;
    }
    if (S_ISDIR(st.st_mode)) {
        put_directory(at, fd, &st);
    } else {
        put_file(p, fd, path, &st);
        (void)close(fd);
    }
    return 0;
}

/* Without -r: a regular file, also behind a symlink. */
static void put_single(struct pack *p, const char *path)
{
    _cleanup_close_ int fd = -1;
    struct stat st;

    if (stat(path, &st) < 0) {
        fail(p, path, NULL, errno);
        return;
    }
    if (S_ISDIR(st.st_mode)) {
        p->failed = 1;
        p->params->report(p->params->arg, path, "is a directory", "copy directories with -r");
        return;
    }
    if (!S_ISREG(st.st_mode)) {
        p->failed = 1;
        p->params->report(p->params->arg, path, "is not a regular file",
                          "-r copies a device or a pipe as what it is");
        return;
    }
    fd = open_same(AT_FDCWD, path, 0, &st);
    if (fd < 0) {
        fail(p, path, NULL, -fd);
        return;
    }
    put_file(p, fd, path, &st);
}

/* True when the path names what is behind a symlink: "a/", "a/.". */
static bool is_through(const char *path)
{
    size_t len = strlen(path);

    return path[len - 1] == '/' || (path[len - 1] == '.' && (len == 1 || path[len - 2] == '/')) ||
           (len >= 2 && path[len - 1] == '.' && path[len - 2] == '.' &&
            (len == 2 || path[len - 3] == '/'));
}

static void put_root(struct pack *p, const char *path)
{
    _cleanup_free_ char *name = archive_name(path);
    struct at at = {.pack = p};

    empty(&p->name);
    if (!path[0] || strlen(path) > PATH_MAX || buf_append(&p->name, name, strlen(name) + 1) < 0) {
        fail(p, path, NULL, path[0] ? ENAMETOOLONG : ENOENT);
        return;
    }
    if (!p->params->recursive) {
        put_single(p, path);
        return;
    }
    buf_init(&at.path, 2 * TAR_PATH_MAX);
    if (buf_append(&at.path, path, strlen(path) + 1) == 0) {
        if (is_through(path)) {
            struct stat st = {.st_mode = S_IFDIR};
            int fd = open_same(AT_FDCWD, path, O_DIRECTORY, &st);

            if (fd < 0) {
                fail(p, path, NULL, -fd);
            } else {
                put_directory(&at, fd, &st);
            }
        } else {
            (void)put_tree(&at, AT_FDCWD, path, DT_UNKNOWN);
        }
    }
    buf_done(&at.path);
}

int archive_pack(const struct archive_pack *params)
{
    _cleanup_(links_free_p) struct links *links = links_new();
    struct pack p = {.params = params, .links = links};

    /* Room for a chunk behind one that waits, and for the headers and the map of one member. */
    buf_init(&p.out, 4 * CHUNK + 2 * TAR_EXTENDED_MAX + (size_t)TAR_EXTENTS_MAX * 40);
    buf_init(&p.name, TAR_PATH_MAX + 1);
    buf_init(&p.small, ODD_FILE_MAX + SMALL);
    buf_init(&p.xattr_names, XATTR_NAMES_MAX);
    buf_init(&p.xattr_values, XATTR_BYTES_MAX);
    buf_init(&p.xattrs, TAR_XATTRS_MAX * sizeof(struct tar_xattr));
    buf_init(&p.extents, TAR_EXTENTS_MAX * sizeof(struct tar_extent));
    for (size_t i = 0; i < params->path_count && p.write_error == 0; i++) {
        put_root(&p, params->paths[i]);
    }
    if (p.write_error == 0 && tar_put_end(&p.out) == 0) {
        flush(&p);
    }
    buf_done(&p.out);
    buf_done(&p.name);
    buf_done(&p.small);
    buf_done(&p.xattr_names);
    buf_done(&p.xattr_values);
    buf_done(&p.xattrs);
    buf_done(&p.extents);
    return p.write_error < 0 ? p.write_error : p.failed;
}
