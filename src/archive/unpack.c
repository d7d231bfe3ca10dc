#include "archive/archive_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define CHUNK ((size_t)128 * 1024)
#define TEMP_NAME_MAX 40
/* Directories whose mode and times are set at the end: what is remembered of them. */
#define DIRS_BYTES_MAX ((size_t)64 << 20)

#ifndef RENAME_NOREPLACE /* musl 1.2.3 has no renameat2 */
#define RENAME_NOREPLACE 1
#endif

/* What is to be set when nothing in the directory changes any more; its path follows, with a NUL.
 */
struct dir_record {
    uint32_t size; /* of the record, rounded up */
    uint32_t mode, uid, gid, mtime_ns;
    int64_t mtime_s;
};

struct unpack {
    const struct archive_unpack *params;
    struct tar_reader reader;
    struct place place;
    int root_fd;
    bool is_root;
    char *rename_to;   /* what the one name becomes, or NULL */
    struct buf path;   /* of the member, normalised and renamed, with a NUL */
    struct buf target; /* of a hard link, as well */
    struct buf shown;  /* a path for people */
    struct buf dirs;   /* struct dir_record, in the order of their making */
    bool dirs_full;
    int failed;
    bool stop; /* nothing more can be written */

    /* The file that is being written. */
    int file_fd;           /* -1: none, or what comes is not wanted */
    int file_dir_fd;       /* of its parent, borrowed from place, which does not move meanwhile */
    const char *file_name; /* in path */
    char temp[TEMP_NAME_MAX];
    uint64_t file_end; /* written up to here */
    uint64_t secret;   /* of temporary names */
    unsigned count;
};

static void fail_at(struct unpack *u, const char *path, const char *what, int error)
{
    u->failed = 1;
    archive_fail(u->params->report, u->params->arg, path, what, error);
    if (error == ENOSPC || error == EDQUOT || error == EROFS || error == EIO) {
        u->stop = true; /* the rest would fail as well */
    }
}

/* "dst/a/b": where it was to be. */
static const char *shown(struct unpack *u, const char *path)
{
    static const char slash = '/';
    const char *root = u->params->path;
    size_t len = strlen(root);
    bool add = path[0] && strcmp(path, ".") != 0;

    u->shown.start = u->shown.len = 0;
    if (u->rename_to && add) {
        /* The path starts with the destination's own name: show that as it was given. */
        path += strcspn(path, "/");
        path += *path == '/';
        add = *path;
    }
    if (buf_append(&u->shown, root, len) < 0 ||
        (add && len > 0 && root[len - 1] != '/' && buf_append(&u->shown, &slash, 1) < 0) ||
        buf_append(&u->shown, add ? path : "", add ? strlen(path) + 1 : 1) < 0) {
        return root;
    }
    return (const char *)buf_head(&u->shown);
}

/* About the current member. */
static void fail(struct unpack *u, const char *what, int error)
{
    fail_at(u, shown(u, (const char *)buf_head(&u->path)), what, error);
}

static const char *path_of(const struct unpack *u)
{
    return (const char *)buf_head(&u->path);
}

/* The destination -------------------------------------------------------------------------------
 */

static int open_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

static int refuse(struct unpack *u, const char *path, const char *why, int error, const char *hint)
{
    char text[ARCHIVE_WHY_MAX];

    (void)snprintf(text, sizeof(text), "%s%s%s", why ? why : "", why && error ? ": " : "",
                   error ? strerror(error) : "");
    u->params->report(u->params->arg, path, text, hint);
    return -1;
}

/* `path` (it may be changed) is to be a name in its parent. */
static int open_parent(struct unpack *u, char *path)
{
    char *slash;

    for (size_t len = strlen(path); len > 1 && path[len - 1] == '/'; len--) {
        path[len - 1] = 0;
    }
    slash = strrchr(path, '/');
    u->rename_to = strdup(slash ? slash + 1 : path);
    if (!u->rename_to) {
        abort();
    }
    if (slash) {
        slash[slash == path ? 1 : 0] = 0;
    }
    u->root_fd = open_dir(slash ? path : ".");
    if (u->root_fd < 0) {
        return refuse(u, u->params->path, "its directory cannot be opened", -u->root_fd,
                      u->root_fd == -ENOENT ? "make the directory first" : "");
    }
    return 0;
}

/* Not a directory: where the file itself is, when `path` is a symlink, as cp does it. */
static int open_file_place(struct unpack *u, const char *path, const struct stat *st)
{
    char resolved[PATH_MAX];

    if (!S_ISREG(st->st_mode)) {
        return refuse(u, path, "is neither a file nor a directory", 0, "");
    }
    if (!realpath(path, resolved)) {
        return refuse(u, path, NULL, errno, "");
    }
    return open_parent(u, resolved);
}

static bool ends_with_slash(const char *path)
{
    size_t len = strlen(path);

    return len > 0 && path[len - 1] == '/';
}

static int open_destination(struct unpack *u)
{
    const struct archive_unpack *params = u->params;
    const char *path = params->path;
    bool directory = params->directory || params->name_count != 1 || ends_with_slash(path);
    char copy[PATH_MAX];
    struct stat st;

    if (!path[0] || strlen(path) >= sizeof(copy)) {
        return refuse(u, path, NULL, path[0] ? ENAMETOOLONG : ENOENT, "");
    }
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode)) {
            u->root_fd = open_dir(path);
            return u->root_fd < 0 ? refuse(u, path, NULL, -u->root_fd, "") : 0;
        }
        return directory ? refuse(u, path, NULL, ENOTDIR, "") : open_file_place(u, path, &st);
    }
    if (errno != ENOENT || directory) {
        /* "dir/" of something recursive may be its new name. */
        bool new_name =
            errno == ENOENT && params->recursive && !params->directory && params->name_count == 1;

        if (!new_name) {
            return refuse(u, path, NULL, errno, errno == ENOENT ? "make the directory first" : "");
        }
    }
    if (lstat(path, &st) == 0) {
        return refuse(u, path, "is a symlink to what does not exist", 0, "");
    }
    memcpy(copy, path, strlen(path) + 1);
    return open_parent(u, copy);
}

/* Names -----------------------------------------------------------------------------------------
 */

static bool may_come(const struct unpack *u, const char *path)
{
    size_t len = strcspn(path, "/");

    for (size_t i = 0; i < u->params->name_count; i++) {
        const char *name = u->params->names[i];

        if (strcmp(name, ".") == 0 || (strlen(name) == len && memcmp(name, path, len) == 0)) {
            return true;
        }
    }
    return u->params->name_count == 0;
}

/* From a name in the archive to a path below root_fd, in b. False: reported. */
static bool take_name(struct unpack *u, struct buf *b, const char *name, const char *what)
{
    static const char slash = '/', nul = 0;
    int r = place_normalise(b, name);
    const char *path = (const char *)buf_head(b);
    char *rest;
    bool ok;

    if (r == -EXDEV) {
        fail_at(u, name, "is refused: the name leads out of the destination", 0);
        return false;
    }
    if (r < 0) {
        fail_at(u, name, what, -r);
        return false;
    }
    if (!may_come(u, path)) {
        fail_at(u, name, "is refused: nobody asked for it", 0);
        return false;
    }
    if (!u->rename_to) {
        return true;
    }
    /* Only the name that was asked for is renamed; "." has no component of its own. */
    if (strcmp(u->params->names[0], ".") != 0) {
        path += strcspn(path, "/");
        path += *path == '/';
    } else if (strcmp(path, ".") == 0) {
        path = "";
    }
    rest = strdup(path);
    if (!rest) {
        abort();
    }
    b->start = b->len = 0;
    ok = buf_append(b, u->rename_to, strlen(u->rename_to)) == 0 &&
         (!rest[0] || buf_append(b, &slash, 1) == 0) && buf_append(b, rest, strlen(rest)) == 0 &&
         buf_append(b, &nul, 1) == 0;
    free(rest);
    if (!ok) {
        fail_at(u, name, what, ENAMETOOLONG);
    }
    return ok;
}

/* The parent of the current member. */
static int find_parent(struct unpack *u, const char *path, int *ret_dir, const char **ret_name)
{
    int r = place_find(&u->place, path, true, ret_dir, ret_name);

    if (r == -ELOOP || r == -ENOTDIR) {
        fail(u, "is refused: something on its way is no directory (symlinks are not followed)", 0);
    } else if (r < 0) {
        fail(u, "its directory", -r);
    }
    return r;
}

/* Attributes ------------------------------------------------------------------------------------
 */

static bool keeps_owner(const struct unpack *u)
{
    return u->params->keep_ids && u->is_root;
}

static uint32_t mode_of(const struct unpack *u, const struct tar_entry *e)
{
    bool his = keeps_owner(u) || (u->params->keep_ids && e->uid == geteuid());

    return his ? e->mode : e->mode & 01777;
}

static void times_of(const struct tar_entry *e, struct timespec ret[2])
{
    ret[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
    ret[1] = (struct timespec){.tv_sec = e->mtime_s, .tv_nsec = (long)e->mtime_ns};
}

static void set_xattrs(struct unpack *u, int fd, const struct tar_entry *e)
{
    for (size_t i = 0; i < e->xattr_count; i++) {
        const struct tar_xattr *x = &e->xattrs[i];

        if (!archive_wants_xattr(x->name, keeps_owner(u)) ||
            fsetxattr(fd, x->name, x->value, x->len, 0) == 0) {
            continue;
        }
        /* Where a file system has none, cp leaves them out as well, unless it was asked for. */
        if (errno != ENOTSUP || u->params->keep_ids) {
            char what[ARCHIVE_WHY_MAX];

            (void)snprintf(what, sizeof(what), "cannot set its attribute %.100s", x->name);
            fail(u, what, errno);
        }
    }
}

/* Owner first: changing it takes set-id bits and capabilities away. */
static int set_attributes(struct unpack *u, int fd, const struct tar_entry *e)
{
    struct timespec times[2];

    times_of(e, times);
    if (keeps_owner(u) && fchown(fd, e->uid, e->gid) < 0) {
        return -errno;
    }
    if (e->xattr_count > 0) {
        set_xattrs(u, fd, e);
    }
    if (fchmod(fd, mode_of(u, e)) < 0 || futimens(fd, times) < 0) {
        return -errno;
    }
    return 0;
}

/* The same for what cannot be opened. */
static int set_attributes_at(struct unpack *u, int dir_fd, const char *name,
                             const struct tar_entry *e)
{
    struct timespec times[2];

    times_of(e, times);
    if (keeps_owner(u) && fchownat(dir_fd, name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    if (e->type != TAR_SYMLINK && fchmodat(dir_fd, name, mode_of(u, e), 0) < 0) {
        return -errno;
    }
    return utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* Temporary names -------------------------------------------------------------------------------
 */

static void next_temp(struct unpack *u)
{
    (void)snprintf(u->temp, sizeof(u->temp), ".banger-%016llx-%x", (unsigned long long)u->secret,
                   ++u->count);
}

static int rename_noreplace(int dir_fd, const char *from, const char *to)
{
    return syscall(SYS_renameat2, dir_fd, from, dir_fd, to, RENAME_NOREPLACE) < 0 ? -errno : 0;
}

/* The complete u->temp becomes `name`. What it may replace: a file or a symlink, or its like. */
static int install(struct unpack *u, int dir_fd, const char *name, mode_t type)
{
    struct stat st;
    int r = rename_noreplace(dir_fd, u->temp, name);

    if (r == 0) {
        return 0;
    }
    if (r != -EEXIST && r != -EINVAL && r != -ENOSYS) {
        return r;
    }
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT && renameat(dir_fd, u->temp, dir_fd, name) == 0 ? 0 : -errno;
    }
    if (S_ISDIR(st.st_mode)) {
        return -EISDIR;
    }
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode) && (st.st_mode & S_IFMT) != type) {
        return -EEXIST;
    }
    return renameat(dir_fd, u->temp, dir_fd, name) < 0 ? -errno : 0;
}

/* Regular files ---------------------------------------------------------------------------------
 */

static void drop_file(struct unpack *u)
{
    if (u->file_fd >= 0) {
        close_p(&u->file_fd);
        (void)unlinkat(u->file_dir_fd, u->temp, 0);
    }
}

static void begin_file(struct unpack *u)
{
    if (find_parent(u, path_of(u), &u->file_dir_fd, &u->file_name) < 0) {
        return;
    }
    next_temp(u);
    u->file_fd =
        openat(u->file_dir_fd, u->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    u->file_end = 0;
    if (u->file_fd < 0) {
        fail(u, NULL, errno);
    }
}

static void take_data(struct unpack *u, const struct tar_piece *piece)
{
    const uint8_t *data = piece->data;
    size_t len = piece->len;
    uint64_t offset = piece->offset;

    while (len > 0 && u->file_fd >= 0) {
        /* Mostly it is where the file ends; only behind a hole must it be said. */
        ssize_t n = offset == u->file_end ? write(u->file_fd, data, len)
                                          : pwrite(u->file_fd, data, len, (off_t)offset);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            fail(u, NULL, errno);
            drop_file(u);
            return;
        }
        if (offset == u->file_end) {
            u->file_end += (uint64_t)n;
        }
        data += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
}

static void end_file(struct unpack *u)
{
    const struct tar_entry *e = &u->reader.entry;
    int r = 0;

    if (u->file_fd < 0) {
        return;
    }
    if (e->sparse && ftruncate(u->file_fd, (off_t)e->size) < 0) {
        r = -errno;
    }
    if (r == 0) {
        r = set_attributes(u, u->file_fd, e);
    }
    if (r == 0) {
        r = install(u, u->file_dir_fd, u->file_name, S_IFREG);
    }
    if (r < 0) {
        fail(u, r == -EEXIST ? "is there and is no file" : NULL, r == -EEXIST ? 0 : -r);
        drop_file(u);
    } else if (close(STEAL_FD(u->file_fd)) < 0) {
        fail(u, NULL, errno); /* NFS may say only now that there is no space */
    }
}

/* Directories -----------------------------------------------------------------------------------
 */

static void remember_dir(struct unpack *u, const struct tar_entry *e)
{
    size_t len = strlen(path_of(u)) + 1;
    struct dir_record d = {
        .size = (uint32_t)((sizeof(d) + len + 7) / 8 * 8),
        .mode = mode_of(u, e),
        .uid = e->uid,
        .gid = e->gid,
        .mtime_s = e->mtime_s,
        .mtime_ns = e->mtime_ns,
    };
    uint8_t *to;

    if (d.size > buf_room(&u->dirs)) {
        if (!u->dirs_full) {
            fail(u, "too many directories: their modes and times are not set from here on", 0);
        }
        u->dirs_full = true;
        return;
    }
    to = buf_reserve(&u->dirs, d.size);
    memset(to, 0, d.size);
    memcpy(to, &d, sizeof(d));
    memcpy(to + sizeof(d), path_of(u), len);
    buf_commit(&u->dirs, d.size);
}

static void set_dir_xattrs(struct unpack *u, int dir_fd, const char *name,
                           const struct tar_entry *e)
{
    _cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0) {
        fail(u, NULL, errno);
    } else {
        set_xattrs(u, fd, e);
    }
}

/* A directory that is there stays as it is, but with keep_ids; then it becomes like the member. */
static void put_directory(struct unpack *u, const struct tar_entry *e)
{
    const char *name;
    bool made = true;
    struct stat st;
    int dir_fd;

    if (strcmp(path_of(u), ".") == 0) {
        if (u->params->keep_ids) {
            remember_dir(u, e);
        }
        return;
    }
    if (find_parent(u, path_of(u), &dir_fd, &name) < 0) {
        return;
    }
    if (mkdirat(dir_fd, name, 0700) < 0) {
        made = false;
        if (errno != EEXIST || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            fail(u, NULL, errno);
            return;
        }
        if (!S_ISDIR(st.st_mode)) {
            fail(u, "is there and is no directory", 0);
            return;
        }
    }
    if (made || u->params->keep_ids) {
        if (e->xattr_count > 0) {
            set_dir_xattrs(u, dir_fd, name, e);
        }
        remember_dir(u, e);
    }
}

static void set_dir(struct unpack *u, const struct dir_record *d, const char *path)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      {.tv_sec = d->mtime_s, .tv_nsec = (long)d->mtime_ns}};
    _cleanup_close_ int fd = -1;
    const char *name = ".";
    int dir_fd = u->root_fd;

    if (strcmp(path, ".") != 0 && place_find(&u->place, path, false, &dir_fd, &name) < 0) {
        return; /* somebody took it away */
    }
    fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    if ((keeps_owner(u) && fchown(fd, d->uid, d->gid) < 0) || fchmod(fd, d->mode) < 0 ||
        futimens(fd, times) < 0) {
        fail_at(u, shown(u, path), "cannot set its mode and times", errno);
    }
}

/* From the last to the first, so that none is closed to us before what is in it is done. */
static void set_dirs(struct unpack *u)
{
    size_t count = 0, i = 0;
    const uint8_t *at = buf_head(&u->dirs), *end = at + u->dirs.len;
    size_t *offsets;

    for (const uint8_t *p = at; p < end; p += ((const struct dir_record *)(const void *)p)->size) {
        count++;
    }
    offsets = malloc((count + 1) * sizeof(*offsets));
    if (!offsets) {
        fail_at(u, u->params->path, "modes and times of directories", ENOMEM);
        return;
    }
    for (const uint8_t *p = at; p < end; p += ((const struct dir_record *)(const void *)p)->size) {
        offsets[i++] = (size_t)(p - at);
    }
    while (i > 0) {
        const struct dir_record *d = (const void *)(at + offsets[--i]);

        set_dir(u, d, (const char *)(d + 1));
    }
    free(offsets);
}

/* Links and special files -----------------------------------------------------------------------
 */

static int make_node(struct unpack *u, int dir_fd, const struct tar_entry *e)
{
    const char *name = u->temp;
    int target_dir, r;

    switch (e->type) {
    case TAR_SYMLINK:
        return symlinkat(e->target, dir_fd, name) < 0 ? -errno : 0;
    case TAR_FIFO:
        return mknodat(dir_fd, name, S_IFIFO | 0600, 0) < 0 ? -errno : 0;
    case TAR_CHAR_DEVICE:
    case TAR_BLOCK_DEVICE:
        return mknodat(dir_fd, name, (e->type == TAR_CHAR_DEVICE ? S_IFCHR : S_IFBLK) | 0600,
                       makedev(e->major, e->minor)) < 0
                   ? -errno
                   : 0;
    default: { /* TAR_HARD_LINK; its own place, for u->place is the new name's */
        _cleanup_(place_done) struct place place;
        const char *target;

        place_init(&place, u->root_fd);
        r = place_find(&place, (const char *)buf_head(&u->target), false, &target_dir, &target);
        return r < 0 || linkat(target_dir, target, dir_fd, name, 0) == 0 ? r : -errno;
    }
    }
}

static mode_t type_bits(enum tar_type type)
{
    static const mode_t bits[] = {
        [TAR_FILE] = S_IFREG,        [TAR_HARD_LINK] = S_IFREG,    [TAR_SYMLINK] = S_IFLNK,
        [TAR_CHAR_DEVICE] = S_IFCHR, [TAR_BLOCK_DEVICE] = S_IFBLK, [TAR_DIRECTORY] = S_IFDIR,
        [TAR_FIFO] = S_IFIFO,
    };

    return bits[type];
}

static void put_node(struct unpack *u, const struct tar_entry *e)
{
    const char *name;
    int dir_fd, r;

    if ((e->type == TAR_CHAR_DEVICE || e->type == TAR_BLOCK_DEVICE) && !keeps_owner(u)) {
        fail(u, "is a device, which is made only for root and with --archive", 0);
        return;
    }
    if (e->type == TAR_HARD_LINK && !take_name(u, &u->target, e->target, "the link's target")) {
        return;
    }
    if (find_parent(u, path_of(u), &dir_fd, &name) < 0) {
        return;
    }
    next_temp(u);
    r = make_node(u, dir_fd, e);
    if (r < 0) {
        fail(u, e->type == TAR_HARD_LINK ? "cannot be linked" : NULL, -r);
        return;
    }
    if (e->type != TAR_HARD_LINK) {
        r = set_attributes_at(u, dir_fd, u->temp, e);
    }
    if (r == 0) {
        r = install(u, dir_fd, name, type_bits(e->type));
    }
    if (r < 0) {
        fail(u, r == -EEXIST ? "is there and is no file" : NULL, r == -EEXIST ? 0 : -r);
    }
    if (r < 0 || e->type == TAR_HARD_LINK) {
        /* Renaming one name of a file to another one of it does nothing, and leaves both. */
        (void)unlinkat(dir_fd, u->temp, 0);
    }
}

/* The stream ------------------------------------------------------------------------------------
 */

static void begin_entry(struct unpack *u)
{
    const struct tar_entry *e = &u->reader.entry;

    if (!take_name(u, &u->path, e->path, NULL)) {
        return;
    }
    if (e->type == TAR_UNKNOWN) {
        fail(u, "is of a kind that is not known", 0);
    } else if (!u->params->recursive && e->type != TAR_FILE) {
        fail(u, "is refused: a file was asked for", 0);
    } else if (e->type == TAR_DIRECTORY) {
        put_directory(u, e);
    } else if (strcmp(path_of(u), ".") == 0) {
        fail(u, "is refused: it would replace the destination itself", 0);
    } else if (e->type == TAR_FILE) {
        begin_file(u);
    } else {
        put_node(u, e);
    }
}

static int take_input(struct unpack *u, const uint8_t *data, size_t len)
{
    struct tar_piece piece;

    while (!u->stop) {
        int event = tar_read(&u->reader, &data, &len, &piece);

        if (event < 0) {
            char what[ARCHIVE_WHY_MAX];

            (void)snprintf(what, sizeof(what), "the archive cannot be read: %s", u->reader.why);
            fail_at(u, u->params->path, what, 0);
            return event;
        }
        if (event == TAR_MORE || event == TAR_END) {
            return event;
        }
        if (event == TAR_ENTRY) {
            begin_entry(u);
        } else if (event == TAR_DATA) {
            take_data(u, &piece);
        } else {
            end_file(u);
        }
    }
    return TAR_END;
}

/* Reads to the end of the input, not only of the archive: its writer need not see a broken pipe. */
static void drain(int fd)
{
    uint8_t rest[4096];
    ssize_t n;

    do {
        n = read(fd, rest, sizeof(rest));
    } while (n > 0 || (n < 0 && errno == EINTR));
}

static void read_stream(struct unpack *u)
{
    uint8_t *chunk = malloc(CHUNK);
    int r = chunk ? TAR_MORE : -ENOMEM;

    if (!chunk) {
        fail_at(u, u->params->path, NULL, ENOMEM);
    }
    while (r == TAR_MORE) {
        ssize_t n = read(u->params->in_fd, chunk, CHUNK);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n > 0) {
            r = take_input(u, chunk, (size_t)n);
            continue;
        }
        if (n < 0) {
            fail_at(u, u->params->path, "the archive cannot be read", errno);
        } else if (!tar_is_complete(&u->reader)) {
            fail_at(u, u->params->path, "the archive ends too early: copying was not finished", 0);
        }
        break;
    }
    drop_file(u);
    if (r == TAR_END && !u->stop) {
        drain(u->params->in_fd);
    }
    free(chunk);
}

int archive_unpack(const struct archive_unpack *params)
{
    struct unpack u = {.params = params, .root_fd = -1, .file_fd = -1, .is_root = geteuid() == 0};

    buf_init(&u.path, TAR_PATH_MAX + NAME_MAX + 2);
    buf_init(&u.target, TAR_PATH_MAX + NAME_MAX + 2);
    buf_init(&u.shown, 2 * TAR_PATH_MAX + PATH_MAX);
    buf_init(&u.dirs, DIRS_BYTES_MAX);
    if (getrandom(&u.secret, sizeof(u.secret), 0) < 0) {
        u.secret = (uint64_t)getpid();
    }
    if (open_destination(&u) < 0) {
        u.failed = 1;
    } else {
        tar_reader_init(&u.reader);
        place_init(&u.place, u.root_fd);
        read_stream(&u);
        set_dirs(&u);
        place_done(&u.place);
        tar_reader_done(&u.reader);
    }
    close_p(&u.root_fd);
    free(u.rename_to);
    buf_done(&u.path);
    buf_done(&u.target);
    buf_done(&u.shown);
    buf_done(&u.dirs);
    return u.failed;
}
