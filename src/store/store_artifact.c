/* Images and kernels have one shape; the table names are the only difference. */
#include "store/store_priv.h"

#include "base/str.h"

#include <string.h>

static const char *table_of(enum store_kind kind)
{
    return kind == STORE_IMAGE ? "image" : "kernel";
}

void artifact_row_done(struct artifact_row *row)
{
    free(STEAL_PTR(row->config));
    free(STEAL_PTR(row->names));
}

/* Table names cannot be bound; they come from table_of alone. */
static sqlite3_stmt *prepare_for(struct store *s, enum store_kind kind, const char *format,
                                 struct err *err)
{
    char *sql = sqlite3_mprintf(format, table_of(kind));
    sqlite3_stmt *stmt;

    if (!sql) {
        abort();
    }
    stmt = store_prepare(s, sql, err);
    sqlite3_free(sql);
    return stmt;
}

static int publish_locked(struct store *s, enum store_kind kind, const struct artifact_row *row,
                          const char *name, struct err *err)
{
    sqlite3_stmt *stmt;

    stmt = prepare_for(s, kind,
                       "INSERT INTO %s (digest, created_ms, size_bytes, version, config)"
                       " VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (digest) DO NOTHING",
                       err);
    if (!stmt) {
        return -1;
    }
    sqlite3_bind_text(stmt, 1, row->digest, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(stmt, 2, row->created_ms);
    sqlite3_bind_int64(stmt, 3, (int64_t)row->size_bytes);
    sqlite3_bind_text(stmt, 4, row->version, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, 5, row->config ? row->config : "{}", -1, SQLITE_TRANSIENT);
    if (store_run(s, stmt, "publish", err) < 0) {
        return -1;
    }
    stmt = prepare_for(s, kind,
                       "INSERT INTO %s_name (name, digest) VALUES (?1, ?2)"
                       " ON CONFLICT (name) DO UPDATE SET digest = excluded.digest",
                       err);
    if (!stmt) {
        return -1;
    }
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, 2, row->digest, -1, SQLITE_TRANSIENT);
    return store_run(s, stmt, "publish name", err);
}

int store_artifact_publish(struct store *s, enum store_kind kind, const struct artifact_row *row,
                           const char *name, struct err *err)
{
    int r;

    leaf_lock(&s->lock);
    r = store_exec(s, "PRAGMA synchronous = FULL; BEGIN IMMEDIATE", err);
    if (r == 0) {
        r = publish_locked(s, kind, row, name, err);
        if (r == 0) {
            r = store_exec(s, "COMMIT", err);
        }
        if (r < 0) {
            (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
        }
    }
    store_events_end(s, r == 0);
    (void)sqlite3_exec(s->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
    leaf_unlock(&s->lock);
    store_events_tell(s);
    return r;
}

#define ARTIFACT_SELECT                                                                            \
    "SELECT a.digest, a.created_ms, a.size_bytes, a.version, a.config,"                            \
    " (SELECT json_group_array(n.name) FROM %1$s_name n WHERE n.digest = a.digest)"                \
    " FROM %1$s a"

static sqlite3_stmt *prepare_select(struct store *s, enum store_kind kind, const char *where,
                                    struct err *err)
{
    char sql[512];

    (void)snprintf(sql, sizeof(sql), ARTIFACT_SELECT " %2$s", table_of(kind), where);
    return store_prepare(s, sql, err);
}

static void read_artifact(sqlite3_stmt *stmt, struct artifact_row *row)
{
    *row = (struct artifact_row){0};
    store_column_text(stmt, 0, row->digest, sizeof(row->digest));
    row->created_ms = sqlite3_column_int64(stmt, 1);
    row->size_bytes = (uint64_t)sqlite3_column_int64(stmt, 2);
    store_column_text(stmt, 3, row->version, sizeof(row->version));
    row->config = x_strdup((const char *)sqlite3_column_text(stmt, 4));
    row->names = x_strdup((const char *)sqlite3_column_text(stmt, 5));
}

/* 1 found, 0 not, -1 error (also when a second row matches). */
static int read_one(struct store *s, sqlite3_stmt *stmt, enum store_kind kind, const char *ref,
                    struct artifact_row *ret_row, struct err *err)
{
    int r = sqlite3_step(stmt);

    if (r == SQLITE_DONE) {
        return 0;
    }
    if (r != SQLITE_ROW) {
        return store_fail(s, err, "find");
    }
    read_artifact(stmt, ret_row);
    if (sqlite3_step(stmt) == SQLITE_ROW) {
        artifact_row_done(ret_row);
        return err_set(err, ERR_CONFLICT, "%s '%s' is ambiguous: more than one digest starts so",
                       table_of(kind), ref);
    }
    return 1;
}

static int find_one_locked(struct store *s, enum store_kind kind, const char *where,
                           const char *value, const char *ref, struct artifact_row *ret_row,
                           struct err *err)
{
    sqlite3_stmt *stmt = prepare_select(s, kind, where, err);
    int r;

    if (!stmt) {
        return -1;
    }
    sqlite3_bind_text(stmt, 1, value, -1, SQLITE_TRANSIENT);
    r = read_one(s, stmt, kind, ref, ret_row, err);
    store_keep(s, stmt);
    return r;
}

static bool is_digest_prefix(const char *s)
{
    size_t n = strspn(s, "0123456789abcdef");

    return n >= 6 && n <= 64 && s[n] == '\0';
}

static int find_locked(struct store *s, enum store_kind kind, const char *ref,
                       struct artifact_row *ret_row, struct err *err)
{
    const char *hex = str_starts_with(ref, "sha256:") ? ref + 7 : ref;
    _cleanup_free_ char *pattern = NULL;
    char by_name[128];
    int r;

    (void)snprintf(by_name, sizeof(by_name),
                   "WHERE a.digest = (SELECT digest FROM %s_name WHERE name = ?1)", table_of(kind));
    r = find_one_locked(s, kind, by_name, ref, ref, ret_row, err);
    if (r != 0 || !is_digest_prefix(hex)) {
        return r;
    }
    pattern = x_asprintf("sha256:%s*", hex);
    return find_one_locked(s, kind, "WHERE a.digest GLOB ?1", pattern, ref, ret_row, err);
}

int store_artifact_find(struct store *s, enum store_kind kind, const char *ref,
                        struct artifact_row *ret_row, struct err *err)
{
    int r;

    leaf_lock(&s->lock);
    r = find_locked(s, kind, ref, ret_row, err);
    leaf_unlock(&s->lock);
    if (r == 0) {
        _cleanup_free_ char *safe = str_escape(ref, strlen(ref), STORE_NAME_MAX);

        err_set(err, ERR_NOT_FOUND, "no %s '%s'", table_of(kind), safe);
        return err_hint(err, "see what there is with: banger %s list", table_of(kind));
    }
    return r < 0 ? -1 : 0;
}

int store_artifact_list(struct store *s, enum store_kind kind, struct artifact_row **ret_rows,
                        size_t *ret_count, struct err *err)
{
    size_t count = 0, capacity = 16;
    struct artifact_row *rows = x_calloc(capacity, sizeof(*rows));
    sqlite3_stmt *stmt;
    int r = SQLITE_ERROR;

    leaf_lock(&s->lock);
    stmt = prepare_select(s, kind, "ORDER BY a.created_ms, a.digest", err);
    while (stmt && (r = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (count == capacity) {
            capacity *= 2;
            rows = reallocarray(rows, capacity, sizeof(*rows));
            if (!rows) {
                abort();
            }
        }
        read_artifact(stmt, &rows[count++]);
    }
    if (stmt && r != SQLITE_DONE) {
        (void)store_fail(s, err, "list");
    }
    store_keep(s, stmt);
    leaf_unlock(&s->lock);
    if (r != SQLITE_DONE) {
        while (count > 0) {
            artifact_row_done(&rows[--count]);
        }
        free(rows);
        return -1;
    }
    *ret_rows = rows;
    *ret_count = count;
    return 0;
}
