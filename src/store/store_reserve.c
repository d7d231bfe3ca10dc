/* A full disk must not keep us from writing down that a VM has stopped, or is deleted. So a file
 * beside the database holds RESERVE_BYTES that nobody else can have. When a commit finds no room
 * they become the write-ahead log's, and what it holds is moved into the database, so that it is
 * written over from its beginning. The file is made again by the first commit that finds enough. */
#include "store/store_priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define RESERVE_FILE "banger.reserve"
#define RESERVE_BYTES (1024 * 1024)
#define RESERVE_LEAST_BYTES (64 * 1024)
#define WAL_FILE "banger.db-wal"

static bool has_free(const struct store *s, uint64_t bytes)
{
    uint64_t free_bytes;

    return fs_free_bytes(s->dir_fd, &free_bytes) == 0 && free_bytes >= bytes;
}

/* For filesystems without fallocate. */
static int write_out(int fd)
{
    _cleanup_free_ char *block = x_calloc(1, RESERVE_BYTES);

    memset(block, 'r', RESERVE_BYTES);
    return lseek(fd, 0, SEEK_SET) < 0 ? -errno : fs_write_all(fd, block, RESERVE_BYTES);
}

static void empty(const struct store *s)
{
    if (ftruncate(s->reserve_fd, 0) < 0) {
        /* Then it is as full as before, and the commit fails as it would have. */
    }
}

void store_reserve_fill(struct store *s)
{
    int r;

    if (s->reserve_fd < 0 || s->reserve_held || !has_free(s, 2 * RESERVE_BYTES)) {
        return;
    }
    r = fallocate(s->reserve_fd, 0, 0, RESERVE_BYTES) < 0 ? -errno : 0;
    if (r == -EOPNOTSUPP) {
        r = write_out(s->reserve_fd);
    }
    s->reserve_held = r == 0;
    if (r < 0) {
        empty(s); /* somebody was quicker: another time */
    }
}

void store_reserve_open(struct store *s)
{
    struct stat st;

    s->reserve_fd = openat(s->dir_fd, RESERVE_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    s->reserve_held =
        s->reserve_fd >= 0 && fstat(s->reserve_fd, &st) == 0 && st.st_blocks * 512 >= RESERVE_BYTES;
    /* SQLite makes files as it opens the database. */
    if (s->reserve_held && !has_free(s, RESERVE_BYTES)) {
        s->reserve_held = false;
        empty(s);
    }
}

/* As quick as can be, and as much as nobody else has taken by then. Not SQLite's own descriptor,
 * but it locks this file by no lock that closing ours would release. */
static void give_to_wal(const struct store *s)
{
    _cleanup_close_ int wal = openat(s->dir_fd, WAL_FILE, O_WRONLY | O_CLOEXEC);
    struct stat st;

    if (wal < 0 || fstat(wal, &st) < 0) {
        return;
    }
    empty(s);
    for (off_t bytes = RESERVE_BYTES; bytes >= RESERVE_LEAST_BYTES; bytes /= 2) {
        if (fallocate(wal, FALLOC_FL_KEEP_SIZE, st.st_size, bytes) == 0 || errno != ENOSPC) {
            return;
        }
    }
}

void store_reserve_use(struct store *s)
{
    if (s->reserve_held) {
        s->reserve_held = false;
        give_to_wal(s);
    }
    (void)sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
}
