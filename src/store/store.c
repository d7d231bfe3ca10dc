/* Opening, pragmas, migrating. The schema: store_schema.c. Queries: store_vm.c, store_artifact.c.
 */
#include "store/store_priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/test_point.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_duplicate(sqlite3 *db)
{
    int code = sqlite3_extended_errcode(db);

    return code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY;
}

int store_fail(struct store *s, struct err *err, const char *what)
{
    int code = sqlite3_errcode(s->db);
    enum err_code e = code == SQLITE_FULL   ? ERR_NO_SPACE
                      : is_duplicate(s->db) ? ERR_ALREADY_EXISTS
                                            : ERR_IO;

    err_set(err, e, "store: %s: %s", what, sqlite3_errmsg(s->db));
    if (code == SQLITE_FULL) {
        err_hint(err, "free some space on the filesystem of the state directory");
    } else if (code == SQLITE_READONLY || code == SQLITE_CANTOPEN) {
        err_hint(err, "the state directory must be writable");
    }
    return -1;
}

sqlite3_stmt *store_prepare(struct store *s, const char *sql, struct err *err)
{
    sqlite3_stmt *stmt = NULL;

    for (size_t i = 0; i < STORE_KEPT_MAX; i++) {
        if (s->kept[i] && str_eq(sqlite3_sql(s->kept[i]), sql)) {
            return STEAL_PTR(s->kept[i]);
        }
    }
    if (sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK) {
        (void)store_fail(s, err, "prepare");
        return NULL;
    }
    return stmt;
}

/* Parsing them takes longer than running the short ones. */
void store_keep(struct store *s, sqlite3_stmt *stmt)
{
    if (!stmt) {
        return;
    }
    (void)sqlite3_reset(stmt);
    (void)sqlite3_clear_bindings(stmt);
    for (size_t i = 0; i < STORE_KEPT_MAX; i++) {
        if (!s->kept[i]) {
            s->kept[i] = stmt;
            return;
        }
    }
    sqlite3_finalize(stmt);
}

int store_run(struct store *s, sqlite3_stmt *stmt, const char *what, struct err *err)
{
    int r;

    if (!stmt) {
        return -1;
    }
    r = FAULT_POINT("store");
    if (r < 0) {
        sqlite3_finalize(stmt);
        return err_set_errno(err, ERR_IO, r, "store: %s", what);
    }
    r = sqlite3_step(stmt);
    if (r != SQLITE_DONE) {
        (void)store_fail(s, err, what);
        sqlite3_finalize(stmt);
        return -1;
    }
    store_keep(s, stmt);
    return 0;
}

int store_run_for(struct store *s, const char *sql, const char *id, const char *what,
                  struct err *err)
{
    sqlite3_stmt *stmt = store_prepare(s, sql, err);

    if (stmt) {
        sqlite3_bind_text(stmt, 1, id, -1, SQLITE_TRANSIENT);
    }
    return store_run(s, stmt, what, err);
}

int store_exec(struct store *s, const char *sql, struct err *err)
{
    int r = FAULT_POINT("store");

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "store: execute");
    }
    if (sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        return store_fail(s, err, "execute");
    }
    return 0;
}

int store_do(struct store *s, const char *sql, struct err *err)
{
    return store_run(s, store_prepare(s, sql, err), "execute", err);
}

void store_column_text(sqlite3_stmt *stmt, int column, char *field, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);

    (void)snprintf(field, size, "%s", text ? text : "");
}

static int read_version(struct store *s, int *ret, struct err *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = store_prepare(s, "PRAGMA user_version", err);

    if (!stmt) {
        return -1;
    }
    if (sqlite3_step(stmt) != SQLITE_ROW) {
        return store_fail(s, err, "read version");
    }
    *ret = sqlite3_column_int(stmt, 0);
    return 0;
}

static int too_new(int version, struct err *err)
{
    err_set(err, ERR_UNSUPPORTED,
            "store: the state directory was written by a newer banger (schema %d, this build "
            "knows %d)",
            version, store_migration_count);
    return err_hint(err, "install the newer banger again, or use another state directory");
}

static int migrate(struct store *s, struct err *err)
{
    int version = 0;

    if (read_version(s, &version, err) < 0) {
        return -1;
    }
    if (version > store_migration_count) {
        return too_new(version, err);
    }
    if (version > 0 && version < store_migration_count && store_back_up(s, version, err) < 0) {
        return -1;
    }
    for (; version < store_migration_count; version++) {
        char bump[64];

        (void)snprintf(bump, sizeof(bump), "PRAGMA user_version = %d", version + 1);
        if (store_exec(s, "BEGIN IMMEDIATE", err) < 0) {
            return -1;
        }
        if (store_exec(s, store_migrations[version], err) < 0 || store_exec(s, bump, err) < 0) {
            (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
            return err_wrap(err, "migration %d", version + 1);
        }
        CRASH_POINT("store.migrate");
        if (store_exec(s, "COMMIT", err) < 0) {
            (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
            return err_wrap(err, "migration %d", version + 1);
        }
    }
    return 0;
}

int store_open(int dir_fd, struct store **ret_store, struct err *err)
{
    _cleanup_free_ char *path = x_asprintf("/proc/self/fd/%d/banger.db", dir_fd);
    _cleanup_close_ int fd = -1;
    struct store *s;
    char real[4200];
    ssize_t n;

    /* Made by us first, so that its mode is 0600 from birth whatever the umask. */
    fd = openat(dir_fd, "banger.db", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_set_errno(err, ERR_IO, errno, "store: cannot open 'banger.db' in the state directory");
        return err_hint(err, "the state directory must be writable and have free space");
    }
    free(STEAL_PTR(path));
    path = x_asprintf("/proc/self/fd/%d", fd);
    n = readlink(path, real, sizeof(real) - 1);
    if (n < 0) {
        return err_set_errno(err, ERR_IO, errno, "store: cannot resolve 'banger.db'");
    }
    real[n] = '\0';
    s = x_calloc(1, sizeof(*s));
    lock_init(&s->lock);
    s->dir_fd = dir_fd;
    s->db_fd = STEAL_FD(fd);
    store_reserve_open(s);
    if (sqlite3_open_v2(real, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK) {
        (void)store_fail(s, err, "open");
        store_close(s);
        return -1;
    }
    (void)sqlite3_busy_timeout(s->db, 5000);
    (void)sqlite3_extended_result_codes(s->db, 0);
    if (store_exec(s,
                   "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                   "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;"
                   "PRAGMA journal_size_limit = 4194304",
                   err) < 0 ||
        migrate(s, err) < 0) {
        store_close(s);
        return -1;
    }
    store_events_open(s);
    store_reserve_fill(s);
    *ret_store = s;
    return 0;
}

int store_open_read_only(const char *dir, struct store **ret_store, struct err *err)
{
    _cleanup_free_ char *path = x_asprintf("%s/banger.db", dir);
    _cleanup_free_ char *wal = x_asprintf("%s-wal", path);
    _cleanup_free_ char *uri = NULL;
    struct store *s;
    int version = 0, r;
    struct stat st;

    if (access(path, R_OK) < 0) {
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_DENIED, errno,
                             "store: '%s'", path);
    }
    /* Without a log there is nothing in it but what the file says, and with `immutable` SQLite
     * makes no files beside it. In a URI these mean something. */
    if (strpbrk(path, "?#%")) {
        return err_set(err, ERR_UNSUPPORTED, "store: '%s' has characters of URIs in it", path);
    }
    uri =
        x_asprintf("file:%s%s", path, stat(wal, &st) < 0 || st.st_size == 0 ? "?immutable=1" : "");
    s = x_calloc(1, sizeof(*s));
    lock_init(&s->lock);
    s->dir_fd = s->db_fd = s->reserve_fd = -1;
    if (sqlite3_open_v2(uri, &s->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI,
                        NULL) != SQLITE_OK) {
        (void)store_fail(s, err, "open");
        store_close(s);
        return -1;
    }
    (void)sqlite3_busy_timeout(s->db, 1000);
    r = read_version(s, &version, err);
    if (r == 0 && version > store_migration_count) {
        r = too_new(version, err);
    } else if (r == 0 && version < store_migration_count) {
        r = err_set(err, ERR_CONFLICT, "store: schema %d is older than this build's, %d", version,
                    store_migration_count);
    }
    if (r < 0) {
        store_close(s);
        return -1;
    }
    *ret_store = s;
    return 0;
}

void store_close(struct store *s)
{
    if (s) {
        for (size_t i = 0; i < STORE_KEPT_MAX; i++) {
            sqlite3_finalize(s->kept[i]);
        }
        (void)sqlite3_close(s->db);
        close_p(&s->db_fd);
        close_p(&s->reserve_fd);
        lock_done(&s->lock);
        free(s);
    }
}

int store_begin(struct store *s, bool durable, struct err *err)
{
    if (durable) {
        (void)sqlite3_exec(s->db, "PRAGMA synchronous = FULL", NULL, NULL, NULL);
    }
    return store_do(s, "BEGIN IMMEDIATE", err);
}

int store_end(struct store *s, bool durable, int r, struct err *err)
{
    if (r == 0) {
        CRASH_POINT("store.commit");
        r = store_do(s, "COMMIT", err);
    }
    if (r < 0) {
        (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    }
    store_events_end(s, r == 0);
    if (durable) {
        (void)sqlite3_exec(s->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
    }
    return r;
}
