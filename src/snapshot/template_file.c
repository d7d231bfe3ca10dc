#include "snapshot/template_priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/test_point.h"
#include "sys/reflink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK 4096
#define CHUNK (256 * BLOCK)

void template_loaded_done(struct template_loaded *l)
{
    close_p(&l->memory_fd);
    free(STEAL_PTR(l->devices));
    l->devices_len = 0;
}

/* ERR_IO is what is wrong with the template; that there are no more descriptors, or no memory, is
 * not. */
static int fail(struct err *err, int r, const char *what)
{
    bool ours = r == -EMFILE || r == -ENFILE || r == -ENOMEM;

    return err_set_errno(err, ours ? ERR_LIMIT : ERR_IO, r, "its %s", what);
}

/* ---- digests ---- */

static void add_number(struct sha256 *h, uint64_t n)
{
    uint8_t bytes[8];

    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(n >> (8 * i));
    }
    sha256_add(h, bytes, sizeof(bytes));
}

static void add_blocks(struct sha256 *h, const uint8_t *data, size_t len, uint64_t at)
{
    static const uint8_t zeroes[BLOCK];

    for (size_t i = 0; i < len; i += BLOCK) {
        size_t n = len - i < BLOCK ? len - i : BLOCK;

        if (memcmp(data + i, zeroes, n) != 0) {
            add_number(h, (at + i) / BLOCK);
            sha256_add(h, data + i, n);
        }
    }
}

/* From a boundary of blocks on, as where data begins and ends depends on the filesystem. */
static int add_data(struct sha256 *h, int fd, uint8_t *chunk, off_t at, off_t end,
                    struct cancel *cancel)
{
    at -= at % BLOCK;
    while (at < end) {
        size_t want = end - at < CHUNK ? (size_t)(end - at) : CHUNK;
        ssize_t n;

        want += (BLOCK - want % BLOCK) % BLOCK;
        n = pread(fd, chunk, want, at);
        if (n <= 0) {
            return n < 0 ? -errno : 0;
        }
        if (cancel_requested(cancel)) {
            return -ECANCELED;
        }
        add_blocks(h, chunk, (size_t)n, (uint64_t)at);
        at += n;
    }
    return 0;
}

static int digest(struct sha256 *h, int fd, struct cancel *cancel)
{
    _cleanup_free_ uint8_t *chunk = x_calloc(1, CHUNK);
    struct stat st;
    off_t at = 0, done = 0;
    int r = fstat(fd, &st) < 0 ? -errno : FAULT_POINT("template.read");

    add_number(h, r == 0 ? (uint64_t)st.st_size : 0);
    while (r == 0 && at < st.st_size) {
        off_t data = lseek(fd, at, SEEK_DATA), hole;

        if (data < 0) {
            return errno == ENXIO ? 0 : -errno;
        }
        hole = lseek(fd, data, SEEK_HOLE);
        if (hole < 0) {
            return -errno;
        }
        /* No block twice. */
        hole += (BLOCK - hole % BLOCK) % BLOCK;
        r = add_data(h, fd, chunk, data < done ? done : data, hole, cancel);
        at = done = hole;
    }
    return r;
}

int template_digest(int fd, struct cancel *cancel, char ret_hex[SHA256_HEX_SIZE], struct err *err)
{
    struct sha256 *h = sha256_new();
    int r = digest(h, fd, cancel);

    sha256_end(h, ret_hex);
    return r < 0 ? err_set_errno(err, r == -ECANCELED ? ERR_CANCELLED : ERR_IO, r, "digest") : 0;
}

static int compare(int fd, const char *what, const char *expected, struct cancel *cancel,
                   struct err *err)
{
    char hex[SHA256_HEX_SIZE];

    if (template_digest(fd, cancel, hex, err) < 0) {
        return err_wrap(err, "its %s", what);
    }
    return str_eq(hex, expected)
               ? 0
               : err_set(err, ERR_IO, "its %s is not what was saved: the file has changed", what);
}

/* ---- loading ---- */

static int open_file(int dir_fd, const char *name, struct err *err)
{
    int r = FAULT_POINT("template.open");
    int fd = r < 0 ? r : openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    return fd >= 0 ? fd : fail(err, r < 0 ? r : -errno, name);
}

static int seal(int fd, struct err *err)
{
    return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0
               ? err_set_errno(err, ERR_INTERNAL, errno, "cannot seal a template's memory")
               : 0;
}

/* What is compared is the copy, once nobody can change it. */
static int load_memory(int dir_fd, const struct template_row *row, struct cancel *cancel,
                       struct template_loaded *l, struct err *err)
{
    _cleanup_close_ int fd = open_file(dir_fd, TEMPLATE_MEMORY, err);
    int r;

    if (fd < 0) {
        return -1;
    }
    l->memory_fd = memfd_create("banger-template", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (l->memory_fd < 0) {
        return err_set_errno(err, ERR_LIMIT, errno, "cannot make the template's memory");
    }
    r = reflink_or_copy(fd, l->memory_fd);
    if (r < 0) {
        return fail(err, r == -ENOSPC ? -ENOMEM : r, TEMPLATE_MEMORY);
    }
    return seal(l->memory_fd, err) < 0
               ? -1
               : compare(l->memory_fd, TEMPLATE_MEMORY, row->memory_digest, cancel, err);
}

static int load_devices(int dir_fd, const struct template_row *row, struct template_loaded *l,
                        struct err *err)
{
    int r =
        fs_read_file(dir_fd, TEMPLATE_DEVICES, TEMPLATE_DEVICES_MAX, &l->devices, &l->devices_len);
    char hex[SHA256_HEX_SIZE];

    if (r < 0) {
        return fail(err, r, TEMPLATE_DEVICES);
    }
    sha256_of(l->devices, l->devices_len, hex);
    return str_eq(hex, row->devices_digest)
               ? 0
               : err_set(err, ERR_IO, "its " TEMPLATE_DEVICES " is not what was saved");
}

/* The stat is of before: a change while it is read is one that is seen the next time. */
static int load_disk(int dir_fd, const struct template_row *row, struct cancel *cancel,
                     struct stat *ret_stat, struct err *err)
{
    _cleanup_close_ int fd = open_file(dir_fd, TEMPLATE_DISK, err);

    if (fd < 0) {
        return -1;
    }
    if (fstat(fd, ret_stat) < 0) {
        return err_set_errno(err, ERR_IO, errno, "its " TEMPLATE_DISK);
    }
    return compare(fd, TEMPLATE_DISK, row->disk_digest, cancel, err);
}

int template_load(struct templates *t, const struct template_row *row, struct cancel *cancel,
                  struct template_loaded *ret, struct err *err)
{
    _cleanup_(template_loaded_done) struct template_loaded l = {.memory_fd = -1};
    _cleanup_close_ int dir = fs_open_dir(t->dir_fd, row->id, false);

    if (dir < 0) {
        return fail(err, dir, "directory");
    }
    if (load_devices(dir, row, &l, err) < 0 || load_disk(dir, row, cancel, &l.disk, err) < 0 ||
        load_memory(dir, row, cancel, &l, err) < 0) {
        return -1;
    }
    *ret = l;
    l = (struct template_loaded){.memory_fd = -1};
    return 0;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

int template_check_disk(struct templates *t, struct template *one, struct cancel *cancel,
                        struct err *err)
{
    _cleanup_close_ int dir = fs_open_dir(t->dir_fd, one->row.id, false);
    struct stat now, seen;

    if (dir < 0) {
        return fail(err, dir, "directory");
    }
    leaf_lock(&t->table);
    seen = one->loaded.disk;
    leaf_unlock(&t->table);
    if (fstatat(dir, TEMPLATE_DISK, &now, AT_SYMLINK_NOFOLLOW) == 0 && is_same_file(&seen, &now)) {
        return 0;
    }
    if (load_disk(dir, &one->row, cancel, &now, err) < 0) {
        return -1;
    }
    leaf_lock(&t->table);
    one->loaded.disk = now;
    leaf_unlock(&t->table);
    return 0;
}

/* ---- publishing ---- */

static int sync_file(int fd, const char *what, struct err *err)
{
    int r = FAULT_POINT("template.sync");

    return r < 0 || fsync(fd) < 0 ? err_set_errno(err, ERR_IO, r < 0 ? r : errno,
                                                  "cannot write the template's %s", what)
                                  : 0;
}

static int write_memory(int dir_fd, int memory_fd, struct template_row *row, struct cancel *cancel,
                        struct err *err)
{
    _cleanup_close_ int fd =
        openat(dir_fd, TEMPLATE_MEMORY, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : reflink_or_copy(memory_fd, fd);

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot write the template's memory");
    }
    return template_digest(memory_fd, cancel, row->memory_digest, err) < 0
               ? -1
               : sync_file(fd, TEMPLATE_MEMORY, err);
}

static int take_devices(int dir_fd, struct template_row *row, struct template_loaded *l,
                        struct err *err)
{
    _cleanup_close_ int fd = open_file(dir_fd, TEMPLATE_DEVICES, err);
    int r;

    if (fd < 0 || sync_file(fd, TEMPLATE_DEVICES, err) < 0) {
        return -1;
    }
    r = fs_read_file(dir_fd, TEMPLATE_DEVICES, TEMPLATE_DEVICES_MAX, &l->devices, &l->devices_len);
    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot read the template's devices");
    }
    sha256_of(l->devices, l->devices_len, row->devices_digest);
    return 0;
}

static int take_disk(int dir_fd, struct template_row *row, struct cancel *cancel,
                     struct template_loaded *l, struct err *err)
{
    _cleanup_close_ int fd = open_file(dir_fd, TEMPLATE_DISK, err);

    if (fd < 0 || sync_file(fd, TEMPLATE_DISK, err) < 0) {
        return -1;
    }
    if (fstat(fd, &l->disk) < 0) {
        return err_set_errno(err, ERR_IO, errno, "the template's disk");
    }
    return template_digest(fd, cancel, row->disk_digest, err);
}

static uint64_t occupied(int dir_fd)
{
    static const char *const names[] = {TEMPLATE_MEMORY, TEMPLATE_DEVICES, TEMPLATE_DISK};
    uint64_t bytes = 0;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct stat st;

        if (fstatat(dir_fd, names[i], &st, AT_SYMLINK_NOFOLLOW) == 0) {
            bytes += (uint64_t)st.st_blocks * 512;
        }
    }
    return bytes;
}

/* Once it has its name its row is written; one without a row is removed by the next daemon. */
static int give_name(struct templates *t, const char *id, struct err *err)
{
    char temp[ID_SIZE + sizeof(TEMPLATE_TEMP)];
    int r;

    (void)snprintf(temp, sizeof(temp), TEMPLATE_TEMP "%s", id);
    r = fs_remove_tree(t->dir_fd, id);
    if (r == 0 && (renameat(t->dir_fd, temp, t->dir_fd, id) < 0 || fsync(t->dir_fd) < 0)) {
        r = -errno;
    }
    CRASH_POINT("template.named");
    return r < 0 ? err_set_errno(err, ERR_IO, r, "cannot publish the template") : 0;
}

int template_publish(struct templates *t, int dir_fd, int memory_fd, struct template_row *row,
                     struct cancel *cancel, struct template_loaded *ret, struct err *err)
{
    _cleanup_(template_loaded_done) struct template_loaded l = {.memory_fd = memory_fd};

    if (seal(l.memory_fd, err) < 0 || write_memory(dir_fd, l.memory_fd, row, cancel, err) < 0 ||
        take_devices(dir_fd, row, &l, err) < 0 || take_disk(dir_fd, row, cancel, &l, err) < 0) {
        return -1;
    }
    if (fsync(dir_fd) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot write the template");
    }
    row->size_bytes = occupied(dir_fd);
    CRASH_POINT("template.written");
    if (give_name(t, row->id, err) < 0) {
        return -1;
    }
    *ret = l;
    l = (struct template_loaded){.memory_fd = -1};
    return 0;
}
