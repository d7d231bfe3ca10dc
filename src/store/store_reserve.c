/* A full disk must not keep us from writing down that a VM has stopped, or is deleted. So two
 * things are held while there is room. A file beside the database has RESERVE_BYTES that nobody
 * else can have: when a commit finds no room, the write-ahead log gets them; when it has used them
 * up, what it holds is moved into the database and it is written over from its beginning. And the
 * database has free pages for what becomes more, its events, of which fewer are kept once those are
 * needed. Both are made again by a commit that finds enough. */
#include "store/store_priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define RESERVE_FILE "banger.reserve"
#define RESERVE_BYTES (1024 * 1024)
#define RESERVE_LEAST_BYTES (64 * 1024)
/* The database's free pages hold 2000 events or so; between two looks at them it takes far fewer.
 */
#define ROOM_BYTES (256 * 1024)
#define ROOM_LOOK_COMMITS 64
/* On a full disk: more than are written between two checkpoints go, until EVENTS_KEPT are left. */
#define EVENTS_KEPT 1000
#define EVENTS_AT_ONCE 300
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

static int64_t number(const struct store *s, const char *pragma)
{
    sqlite3_stmt *stmt = NULL;
    int64_t n = 0;

    if (sqlite3_prepare_v2(s->db, pragma, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        n = sqlite3_column_int64(stmt, 0);
    }
    sqlite3_finalize(stmt);
    return n;
}

static void checkpoint(const struct store *s)
{
    (void)sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
}

/* Pages of a table that is gone are used before the file grows. A copy of the file may have holes
 * where they are. */
static void make_room_in_database(const struct store *s)
{
    struct stat st;

    if (number(s, "PRAGMA freelist_count") * number(s, "PRAGMA page_size") < ROOM_BYTES / 2) {
        (void)sqlite3_exec(s->db,
                           "BEGIN IMMEDIATE; CREATE TABLE room (bytes BLOB);"
                           "INSERT INTO room VALUES (zeroblob(" STR_OF((ROOM_BYTES)) ")); COMMIT",
                           NULL, NULL, NULL);
        (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
        (void)sqlite3_exec(s->db, "DROP TABLE IF EXISTS room", NULL, NULL, NULL);
        checkpoint(s); /* now they are of the file */
    }
    if (fstat(s->db_fd, &st) == 0 && st.st_blocks * 512 < st.st_size &&
        fallocate(s->db_fd, 0, 0, st.st_size) < 0) {
        /* Then a commit on a full disk may fail sooner, and says so. */
    }
}

void store_reserve_fill(struct store *s)
{
    int r;

    if (s->reserve_fd < 0 || (s->reserve_held && ++s->reserve_commits < ROOM_LOOK_COMMITS) ||
        !has_free(s, 2 * RESERVE_BYTES)) {
        return;
    }
    s->reserve_commits = 0;
    make_room_in_database(s);
    if (s->reserve_held) {
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
    for (off_t bytes = RESERVE_BYTES; bytes >= RESERVE_LEAST_BYTES; bytes /= 2) {
        if (fallocate(wal, FALLOC_FL_KEEP_SIZE, st.st_size, bytes) == 0 || errno != ENOSPC) {
            return;
        }
    }
}

/* What fails here fails again in the commit that is tried next, and is told there. */
void store_reserve_use(struct store *s)
{
    if (s->reserve_held) {
        s->reserve_held = false;
        empty(s);
        give_to_wal(s);
        return;
    }
    checkpoint(s);
    (void)sqlite3_exec(s->db,
                       "DELETE FROM event WHERE seq <= (SELECT min(seq) FROM event)"
                       " + " STR_OF(EVENTS_AT_ONCE) " AND seq <= (SELECT max(seq) FROM event)"
                                                    " - " STR_OF(EVENTS_KEPT),
                       NULL, NULL, NULL);
}
