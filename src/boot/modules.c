#include "boot/modules.h"

#include "base/buf.h"
#include "boot/decompress.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LIST_FILE_MAX (8U << 20) /* modules.order and modules.builtin: 40 KB in practice */
#define TREE_DEPTH_MAX 16
#define CHAIN_MAX 24 /* modules that need modules that need … */
#define LIST_BYTES_MAX (192U << 20)
#define PATH_SIZE 512

static const struct {
    const char *suffix;
    enum compression kind;
} suffixes[] = {
    {".ko", COMPRESSION_NONE},
    {".ko.xz", COMPRESSION_XZ},
    {".ko.zst", COMPRESSION_ZSTD},
    {".ko.gz", COMPRESSION_GZIP},
};

/* One call of modules_resolve. */
struct resolver {
    int dir_fd;
    struct buf order;   /* paths, one a line, as in modules.order */
    struct buf builtin; /* the same of modules.builtin */
    struct buf tree;    /* the same from a walk, made when first needed */
    bool walked;
    struct module_list list;
    size_t bytes;
    const char *chain[CHAIN_MAX]; /* being resolved now, outermost first */
    unsigned chain_len;
    struct err ignored; /* why a soft dependency could not be had */
};

static void resolver_done(struct resolver *r)
{
    buf_done(&r->order);
    buf_done(&r->builtin);
    buf_done(&r->tree);
    module_list_done(&r->list);
}

void module_list_done(struct module_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].data);
    }
    free(list->items);
    *list = (struct module_list){0};
}

/* Opens a path below the directory that neither it nor any link in it leaves. */
static int open_below(int dir_fd, const char *path, uint64_t flags)
{
    struct open_how how = {
        .flags = flags | O_CLOEXEC | O_RDONLY | O_NONBLOCK | O_NOCTTY,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));

    return fd < 0 ? -errno : (int)fd;
}

/* Appends a regular file to b: 0, -EFBIG beyond b's maximum, -errno. */
static int read_below(int dir_fd, const char *path, struct buf *b)
{
    _cleanup_close_ int fd = open_below(dir_fd, path, 0);
    struct stat st;
    ssize_t n;

    if (fd < 0) {
        return fd;
    }
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return -EINVAL;
    }
    do {
        n = buf_read_fd(b, fd, 1U << 20);
    } while (n > 0);
    /* A buffer that is exactly full counts as too small: nobody needs that byte. */
    return n == -ENOBUFS ? -EFBIG : (int)n;
}

static char fold(char c)
{
    return c == '-' ? '_' : c;
}

/* Whether the file name is name + a known suffix, '-' and '_' equal. */
static bool file_is(const char *file, size_t len, const char *name)
{
    size_t n = strlen(name);

    if (len <= n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (fold(file[i]) != fold(name[i])) {
            return false;
        }
    }
    for (unsigned i = 0; i < ARRAY_LEN(suffixes); i++) {
        if (strlen(suffixes[i].suffix) == len - n &&
            memcmp(file + n, suffixes[i].suffix, len - n) == 0) {
            return true;
        }
    }
    return false;
}

/* The line of `lines` whose last component is the module's file: true and a copy of it. */
static bool find_line(const struct buf *lines, const char *name, char ret[PATH_SIZE])
{
    const char *p = lines->len ? (const char *)buf_head(lines) : "";
    const char *end = p + lines->len;

    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((nl ? nl : end) - p);
        const char *slash = memrchr(p, '/', len);
        const char *file = slash ? slash + 1 : p;

        if (len < PATH_SIZE && file_is(file, len - (size_t)(file - p), name)) {
            memcpy(ret, p, len);
            ret[len] = '\0';
            return true;
        }
        p += len + 1;
    }
    return false;
}

/* Adds the module files below the directory to r->tree. Links are not followed: `build` and
 * `source` lead out. */
static int walk(struct resolver *r, const char *path, unsigned depth)
{
    _cleanup_close_ int fd = open_below(r->dir_fd, path, O_DIRECTORY | O_NOFOLLOW);
    struct dirent *d;
    int result = 0;
    DIR *dir;

    if (fd < 0) {
        return fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
    }
    dir = fdopendir(fd);
    if (!dir) {
        return -errno;
    }
    STEAL_FD(fd);
    while (result == 0 && (d = readdir(dir))) {
        char sub[PATH_SIZE];
        int n = snprintf(sub, sizeof(sub), "%s/%s", path, d->d_name);

        if (d->d_name[0] == '.' || n >= (int)sizeof(sub) || strchr(d->d_name, '\n')) {
            continue;
        }
        if (d->d_type == DT_DIR || d->d_type == DT_UNKNOWN) {
            result = depth < TREE_DEPTH_MAX ? walk(r, sub, depth + 1) : 0;
        }
        if (result == 0 && d->d_type != DT_DIR && strstr(d->d_name, ".ko")) {
            result = buf_printf(&r->tree, "%s\n", sub);
        }
    }
    (void)closedir(dir);
    return result;
}

/* A list file names x.ko even where x.ko.xz is installed, or the other way round. */
static int read_module(struct resolver *r, char path[PATH_SIZE], struct buf *b)
{
    char *ext = strstr(strrchr(path, '/') ? strrchr(path, '/') : path, ".ko");
    int result = read_below(r->dir_fd, path, b);

    for (unsigned i = 0; i < ARRAY_LEN(suffixes) && result == -ENOENT; i++) {
        if ((size_t)(ext - path) + strlen(suffixes[i].suffix) < PATH_SIZE) {
            memcpy(ext, suffixes[i].suffix, strlen(suffixes[i].suffix) + 1);
            result = read_below(r->dir_fd, path, b);
        }
    }
    return result;
}

/* By content, not by suffix: what is compressed says so. */
static int unpack_module(struct buf *b, struct boot_module *ret)
{
    enum compression kind = compression_detect(buf_head(b), b->len);

    if (kind != COMPRESSION_NONE) {
        return decompress_blob(kind, buf_head(b), b->len, MODULE_BYTES_MAX, &ret->data, &ret->len);
    }
    ret->data = malloc(b->len);
    if (!ret->data) {
        return -ENOMEM;
    }
    ret->len = b->len;
    memcpy(ret->data, buf_head(b), b->len);
    return 0;
}

static int load_failed(struct err *err, int errnum, const char *name, const char *path)
{
    switch (-errnum) {
    case EPROTO:
    case EINVAL:
    case EXDEV:
    case ELOOP:
        err_set(err, ERR_INVALID, "kernel module '%s': '%s' is damaged or no module", name, path);
        return err_hint(err, "unpack the kernel package again");
    case EFBIG:
        return err_set(err, ERR_LIMIT, "kernel module '%s': '%s' has more than %u MiB", name, path,
                       MODULE_BYTES_MAX >> 20);
    case EOPNOTSUPP:
        return err_set(err, ERR_UNSUPPORTED,
                       "kernel module '%s': compression of '%s' is not supported", name, path);
    default:
        return err_set_errno(err, ERR_IO, errnum, "kernel module '%s': cannot read '%s'", name,
                             path);
    }
}

/* 1, *ret with its bytes and *info with its needs; 0 when there is no such file; -1 and *err. */
static int load_module(struct resolver *r, const char *name, struct boot_module *ret,
                       struct module_info *info, struct err *err)
{
    _cleanup_buf_ struct buf b;
    char path[PATH_SIZE];
    int result;

    buf_init(&b, MODULE_BYTES_MAX);
    if (!find_line(&r->order, name, path)) {
        if (!r->walked) {
            result = walk(r, ".", 0);
            if (result < 0) {
                return err_set_errno(err, result == -ENOBUFS ? ERR_LIMIT : ERR_IO, result,
                                     "cannot list the kernel's module directory");
            }
            r->walked = true;
        }
        if (!find_line(&r->tree, name, path)) {
            return 0;
        }
    }
    result = read_module(r, path, &b);
    if (result == -ENOENT) {
        return 0;
    }
    if (result == 0 && b.len == 0) {
        result = -EPROTO;
    }
    if (result == 0) {
        result = unpack_module(&b, ret);
    }
    if (result == 0) {
        result = module_info(ret->data, ret->len, info);
    }
    if (result < 0) {
        return load_failed(err, result, name, path);
    }
    for (size_t i = 0; i <= strlen(name); i++) {
        ret->name[i] = fold(name[i]);
    }
    return 1;
}

static bool have(const struct resolver *r, const char *name)
{
    char path[PATH_SIZE];

    for (size_t i = 0; i < r->list.count; i++) {
        if (strcmp(r->list.items[i].name, name) == 0) {
            return true;
        }
    }
    return find_line(&r->builtin, name, path);
}

static int append(struct resolver *r, struct boot_module *m, struct err *err)
{
    struct boot_module *items;

    if (r->list.count == MODULES_MAX || m->len > LIST_BYTES_MAX - r->bytes) {
        return err_set(err, ERR_LIMIT, "too many kernel modules (at most %u files, %u MiB)",
                       MODULES_MAX, LIST_BYTES_MAX >> 20);
    }
    items = realloc(r->list.items, (r->list.count + 1) * sizeof(*items));
    if (!items) {
        abort();
    }
    r->list.items = items;
    r->bytes += m->len;
    items[r->list.count++] = *m;
    m->data = NULL;
    return 0;
}

static int not_found(const struct resolver *r, const char *name, struct err *err)
{
    if (r->chain_len > 0) {
        err_set(err, ERR_NOT_FOUND,
                "kernel module '%s', which '%s' needs, is neither built in nor a file", name,
                r->chain[r->chain_len - 1]);
    } else {
        err_set(err, ERR_NOT_FOUND, "kernel module '%s' is neither built in nor a file", name);
    }
    return err_hint(err, "use a kernel that has it, with its whole lib/modules directory");
}

static void boot_module_done(struct boot_module *m)
{
    free(m->data);
}

static int resolve(struct resolver *r, const char *name, struct err *err);

/* The dependencies of a module whose name is the last of the chain. */
static int resolve_deps(struct resolver *r, const struct module_info *info, struct err *err)
{
    for (size_t i = 0; i < info->dep_count; i++) {
        const struct module_dep *dep = &info->deps[i];

        if (dep->soft) {
            (void)resolve(r, dep->name, &r->ignored);
        } else if (resolve(r, dep->name, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static bool in_chain(const struct resolver *r, const char *name)
{
    for (unsigned i = 0; i < r->chain_len; i++) {
        if (strcmp(r->chain[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Recursion is CHAIN_MAX deep at most and keeps no buffers on the stack. */
static int resolve(struct resolver *r, const char *name, struct err *err)
{
    _cleanup_(boot_module_done) struct boot_module m = {0};
    _cleanup_(module_info_done) struct module_info info = {0};
    int result;

    if (have(r, name)) {
        return 0;
    }
    if (in_chain(r, name) || r->chain_len == CHAIN_MAX) {
        return err_set(err, ERR_INVALID, "kernel module '%s' needs itself or too many others",
                       name);
    }
    result = load_module(r, name, &m, &info, err);
    if (result == 0) {
        return not_found(r, name, err);
    }
    if (result < 0) {
        return -1;
    }
    r->chain[r->chain_len++] = m.name;
    result = resolve_deps(r, &info, err);
    r->chain_len--;
    return result < 0 ? -1 : append(r, &m, err);
}

static int read_lists(struct resolver *r, struct err *err)
{
    static const char *const names[] = {"modules.order", "modules.builtin"};
    struct buf *const bufs[] = {&r->order, &r->builtin};

    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        int result = read_below(r->dir_fd, names[i], bufs[i]);

        if (result < 0 && result != -ENOENT) {
            return err_set_errno(err, result == -EFBIG ? ERR_LIMIT : ERR_IO, result,
                                 "cannot read the kernel's '%s'", names[i]);
        }
    }
    return 0;
}

int modules_resolve(int dir_fd, const char *const wanted[], size_t count,
                    struct module_list *ret_list, struct err *err)
{
    _cleanup_(resolver_done) struct resolver r = {.dir_fd = dir_fd};

    buf_init(&r.order, LIST_FILE_MAX);
    buf_init(&r.builtin, LIST_FILE_MAX);
    buf_init(&r.tree, LIST_FILE_MAX);
    if (read_lists(&r, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        char name[MODULE_NAME_SIZE];

        if (!module_name_valid(wanted[i])) {
            return err_set(err, ERR_INVALID, "'%.64s' is no module name", wanted[i]);
        }
        for (size_t k = 0; k <= strlen(wanted[i]); k++) {
            name[k] = fold(wanted[i][k]);
        }
        if (resolve(&r, name, err) < 0) {
            return -1;
        }
    }
    *ret_list = r.list;
    r.list = (struct module_list){0};
    return 0;
}
