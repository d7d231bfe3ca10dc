/* A local tar or ext4 file becomes an image. */
#include "image/image_priv.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/spawn.h"
#include "base/str.h"
#include "sys/reflink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define EXT4_MAGIC_OFFSET 1080 /* s_magic: superblock at 1024, field at 56 (kernel ext4 docs) */

static bool is_ext4(int fd)
{
    uint8_t magic[2];

    return pread(fd, magic, 2, EXT4_MAGIC_OFFSET) == 2 && magic[0] == 0x53 && magic[1] == 0xEF;
}

/* The superblock says how large the filesystem is: a shorter file was cut. */
static int check_ext4_size(int fd, const char *path, struct err *err)
{
    uint8_t sb[1024];
    uint64_t blocks, bytes;
    uint32_t log_size;
    struct stat st;

    if (pread(fd, sb, sizeof(sb), 1024) != (ssize_t)sizeof(sb) || fstat(fd, &st) < 0) {
        err_set(err, ERR_INVALID, "'%s' is cut short: not a whole ext4 image", path);
        return err_hint(err, "copy it again, or check it with: e2fsck -fn FILE");
    }
    log_size = sb[24] | (uint32_t)sb[25] << 8 | (uint32_t)sb[26] << 16 | (uint32_t)sb[27] << 24;
    blocks = sb[4] | (uint64_t)sb[5] << 8 | (uint64_t)sb[6] << 16 | (uint64_t)sb[7] << 24;
    blocks |= (uint64_t)sb[0x150] << 32 | (uint64_t)sb[0x151] << 40;
    if (log_size > 6 || blocks > UINT64_MAX >> 17) {
        err_set(err, ERR_INVALID, "'%s' has a damaged ext4 superblock", path);
        return err_hint(err, "check it with: e2fsck -fn FILE");
    }
    bytes = blocks << (10 + log_size);
    if ((uint64_t)st.st_size < bytes) {
        err_set(err, ERR_INVALID,
                "'%s' is cut short: its ext4 filesystem has %llu bytes, the file %lld", path,
                (unsigned long long)bytes, (long long)st.st_size);
        return err_hint(err, "copy it again");
    }
    return 0;
}

static int copy_ext4(int from, const char *path, int dir_fd, const char *temp, struct err *err)
{
    _cleanup_close_ int to = -1;
    int r;

    if (check_ext4_size(from, path, err) < 0) {
        return -1;
    }
    to = openat(dir_fd, temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot make the image");
    }
    r = reflink_or_copy(from, to);
    if (r == 0 && fsync(to) < 0) {
        r = -errno;
    }
    return r < 0 ? err_set_errno(err, ERR_IO, r, "cannot copy '%s'", path) : 0;
}

int image_wait_child(pid_t pid, int pidfd, int said_fd, struct cancel *cancel, struct buf *said)
{
    int status = 0, r;

    do {
        r = cancel_wait_fd(cancel, said_fd, POLLIN, -1);
        if (r < 0) {
            (void)kill(pid, SIGKILL);
            break;
        }
        r = (int)buf_read_fd(said, said_fd, 1024);
    } while (r > 0);
    (void)cancel_wait_fd(NULL, pidfd, POLLIN, -1);
    (void)waitpid(pid, &status, 0);
    if (r == -ECANCELED) {
        return r;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_mkroot(const struct image_build *b, struct err *err)
{
    char out[64 + NAME_MAX];
    const char *argv[] = {b->mkroot_path, out, NULL};
    _cleanup_close_ int pidfd = -1, said_fd = -1, child_fd = -1;
    _cleanup_free_ char *safe = NULL;
    _cleanup_buf_ struct buf said;
    int status, spawned;
    int pipe_fds[2];
    pid_t pid;

    (void)snprintf(out, sizeof(out), "/proc/self/fd/3/%s", b->name);
    buf_init(&said, 1024);
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot make a pipe");
    }
    said_fd = pipe_fds[0];
    child_fd = pipe_fds[1];
    spawned = b->spawn(
        &(struct spawn_params){
            .argv = argv,
            .fds = (struct spawn_fd[]){{b->from_fd, 0}, {child_fd, 2}, {b->dir_fd, 3}},
            .fd_count = 3},
        &pid, &pidfd);
    if (spawned < 0) {
        err_set_errno(err, ERR_IO, spawned, "cannot run '%s'", b->mkroot_path);
        return err_hint(err, "is banger installed completely?");
    }
    close_p(&child_fd);
    status = image_wait_child(pid, pidfd, said_fd, b->cancel, &said);
    if (status == 0) {
        return 0;
    }
    if (status < 0) {
        return err_set_errno(err, ERR_CANCELLED, status, "unpacking '%s'", b->path);
    }
    while (said.len > 0 && buf_head(&said)[said.len - 1] == '\n') {
        said.len--;
    }
    safe = str_escape(said.len ? (const char *)buf_head(&said) : "", said.len, 1024);
    err_set(err, strstr(safe, "No space left") ? ERR_NO_SPACE : ERR_INVALID,
            "cannot make an image of '%s': %s", b->path,
            str_starts_with(safe, "banger-mkroot: ") ? safe + strlen("banger-mkroot: ") : safe);
    return err_hint(err, "it must be a whole tar of a root filesystem (plain, gzip, xz or zstd) or "
                         "an ext4 image");
}

int image_build_root(const struct image_build *b, struct err *err)
{
    return is_ext4(b->from_fd) ? copy_ext4(b->from_fd, b->path, b->dir_fd, b->name, err)
                               : run_mkroot(b, err);
}

/* What it will be at the least: nobody knows before it is unpacked what a packed tar holds. */
static int claim(struct image_registry *r, const char *name, const struct stat *st,
                 struct space_claim **ret_claim, struct err *err)
{
    uint64_t size = (uint64_t)st->st_size, used = (uint64_t)st->st_blocks * 512;
    _cleanup_free_ char *what = x_asprintf("image '%s'", name);

    return space_claim(r->space, r->images_fd, what, size < used ? size : used, ret_claim, err);
}

static int build(struct image_registry *r, const char *name, const char *path, const char *temp,
                 const struct image_progress *progress, struct err *err)
{
    _cleanup_space_claim_ struct space_claim *promise = NULL;
    _cleanup_close_ int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (from < 0 || fstat(from, &st) < 0) {
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno,
                             "cannot open '%s'", path);
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(err, ERR_INVALID, "'%s' is not a regular file", path);
        return err_hint(err, "pack a directory with: tar -C DIR -cf ROOTFS.tar .");
    }
    if (claim(r, name, &st, &promise, err) < 0) {
        return -1;
    }
    image_stage(progress, "unpack");
    return r->build(&(struct image_build){.mkroot_path = r->mkroot_path,
                                          .spawn = r->spawn,
                                          .from_fd = from,
                                          .path = path,
                                          .dir_fd = r->images_fd,
                                          .name = temp,
                                          .cancel = progress->cancel},
                    err);
}

static int finish(struct image_registry *r, const char *name, const char *temp,
                  const struct image_progress *progress, struct artifact_row *row, struct err *err)
{
    _cleanup_close_ int fd = openat(r->images_fd, temp, O_RDONLY | O_CLOEXEC);
    char hex[SHA256_HEX_SIZE], final[SHA256_HEX_SIZE + 8];
    struct stat st;

    image_stage(progress, "digest");
    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot open the new image");
    }
    if (image_hash_fd(fd, progress->cancel, hex, err) < 0) {
        return -1;
    }
    (void)snprintf(row->digest, sizeof(row->digest), "sha256:%s", hex);
    (void)snprintf(final, sizeof(final), "%s" IMAGE_SUFFIX, hex);
    row->size_bytes = (uint64_t)st.st_blocks * 512;
    image_stage(progress, "publish");
    (void)fchmod(fd, 0400);
    return image_publish(r, STORE_IMAGE, r->images_fd, temp, final, row, name, err);
}

int image_register(struct image_registry *r, const char *name, const char *path,
                   const struct image_progress *progress, json_t **ret_json, struct err *err)
{
    _cleanup_artifact_row_ struct artifact_row row = {0};
    char id[ID_SIZE], temp[ID_SIZE + 16];

    if (image_check_name("an image", name, err) < 0) {
        return -1;
    }
    if (path[0] != '/') {
        return err_set(err, ERR_INVALID, "'%s' is not an absolute path", path);
    }
    id_generate(id);
    (void)snprintf(temp, sizeof(temp), "tmp-%s.ext4", id);
    if (build(r, name, path, temp, progress, err) < 0 ||
        finish(r, name, temp, progress, &row, err) < 0) {
        (void)fs_remove_tree(r->images_fd, temp);
        return -1;
    }
    artifact_row_done(&row);
    if (image_find(r, STORE_IMAGE, name, &row, err) < 0) {
        return -1;
    }
    *ret_json = image_row_json(STORE_IMAGE, &row);
    return 0;
}
