/* Templates: rows only, their files are not looked at. */
#include "store/store_priv.h"

#include "base/str.h"

#include <string.h>

#define COLUMNS                                                                                     \
    "id, created_ms, used_ms, uses, image_name, image_digest, kernel_digest, ingredients, tsc_khz," \
    " size_bytes, memory_digest, devices_digest, disk_digest, pool_size"

void template_row_copy(struct template_row *to, const struct template_row *from)
{
    *to = *from;
    to->ingredients = x_strdup(from->ingredients ? from->ingredients : "{}");
}

void template_row_done(struct template_row *row)
{
    free(STEAL_PTR(row->ingredients));
}

static void bind_row(sqlite3_stmt *stmt, const struct template_row *row)
{
    int n = 1;

    sqlite3_bind_text(stmt, n++, row->id, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(stmt, n++, row->created_ms);
    sqlite3_bind_int64(stmt, n++, row->used_ms);
    sqlite3_bind_int64(stmt, n++, (int64_t)row->uses);
    sqlite3_bind_text(stmt, n++, row->image_name, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, n++, row->image_digest, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, n++, row->kernel_digest, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, n++, row->ingredients, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(stmt, n++, row->tsc_khz);
    sqlite3_bind_int64(stmt, n++, (int64_t)row->size_bytes);
    sqlite3_bind_text(stmt, n++, row->memory_digest, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, n++, row->devices_digest, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, n++, row->disk_digest, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int(stmt, n++, row->pool_size);
}

static void read_row(sqlite3_stmt *stmt, struct template_row *row)
{
    int c = 0;

    *row = (struct template_row){0};
    store_column_text(stmt, c++, row->id, sizeof(row->id));
    row->created_ms = sqlite3_column_int64(stmt, c++);
    row->used_ms = sqlite3_column_int64(stmt, c++);
    row->uses = (uint64_t)sqlite3_column_int64(stmt, c++);
    store_column_text(stmt, c++, row->image_name, sizeof(row->image_name));
    store_column_text(stmt, c++, row->image_digest, sizeof(row->image_digest));
    store_column_text(stmt, c++, row->kernel_digest, sizeof(row->kernel_digest));
    row->ingredients = x_strdup((const char *)sqlite3_column_text(stmt, c++));
    row->tsc_khz = (uint32_t)sqlite3_column_int64(stmt, c++);
    row->size_bytes = (uint64_t)sqlite3_column_int64(stmt, c++);
    store_column_text(stmt, c++, row->memory_digest, sizeof(row->memory_digest));
    store_column_text(stmt, c++, row->devices_digest, sizeof(row->devices_digest));
    store_column_text(stmt, c++, row->disk_digest, sizeof(row->disk_digest));
    row->pool_size = sqlite3_column_int(stmt, c++);
}

int store_template_put(struct store *s, const struct template_row *row, struct err *err)
{
    sqlite3_stmt *stmt;
    int r;

    leaf_lock(&s->lock);
    r = store_begin(s, true, err);
    /* Not REPLACE, whose deletes fire no trigger. */
    if (r == 0) {
        r = store_run_for(s, "DELETE FROM template WHERE id = ?1", row->id, "delete template", err);
    }
    if (r == 0) {
        stmt = store_prepare(s,
                             "INSERT INTO template (" COLUMNS
                             ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,"
                             " ?14)",
                             err);
        if (stmt) {
            bind_row(stmt, row);
        }
        r = store_run(s, stmt, "insert template", err);
    }
    r = store_end(s, true, r, err);
    leaf_unlock(&s->lock);
    store_events_tell(s);
    return r;
}

int store_template_used(struct store *s, const char *id, int64_t used_ms, uint64_t uses,
                        struct err *err)
{
    sqlite3_stmt *stmt;
    int r;

    leaf_lock(&s->lock);
    stmt = store_prepare(s, "UPDATE template SET used_ms = ?2, uses = ?3 WHERE id = ?1", err);
    if (stmt) {
        sqlite3_bind_text(stmt, 1, id, -1, SQLITE_TRANSIENT);
        sqlite3_bind_int64(stmt, 2, used_ms);
        sqlite3_bind_int64(stmt, 3, (int64_t)uses);
    }
    r = store_run(s, stmt, "update template", err);
    leaf_unlock(&s->lock);
    return r;
}

int store_template_pool(struct store *s, const char *id, int pool_size, struct err *err)
{
    sqlite3_stmt *stmt;
    int r;

    leaf_lock(&s->lock);
    stmt = store_prepare(s, "UPDATE template SET pool_size = ?2 WHERE id = ?1", err);
    if (stmt) {
        sqlite3_bind_text(stmt, 1, id, -1, SQLITE_TRANSIENT);
        sqlite3_bind_int(stmt, 2, pool_size);
    }
    r = store_run(s, stmt, "update template", err);
    leaf_unlock(&s->lock);
    return r;
}

int store_template_delete(struct store *s, const char *id, struct err *err)
{
    int r;

    leaf_lock(&s->lock);
    r = store_begin(s, true, err);
    if (r == 0) {
        r = store_run_for(s, "DELETE FROM template WHERE id = ?1", id, "delete template", err);
    }
    r = store_end(s, true, r, err);
    leaf_unlock(&s->lock);
    store_events_tell(s);
    return r;
}

int store_template_list(struct store *s, struct template_row **ret_rows, size_t *ret_count,
                        struct err *err)
{
    size_t count = 0, capacity = 8;
    struct template_row *rows = x_calloc(capacity, sizeof(*rows));
    sqlite3_stmt *stmt;
    int r;

    leaf_lock(&s->lock);
    stmt = store_prepare(s, "SELECT " COLUMNS " FROM template ORDER BY created_ms, id", err);
    while (stmt && (r = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (count == capacity) {
            capacity *= 2;
            rows = reallocarray(rows, capacity, sizeof(*rows));
            if (!rows) {
                abort();
            }
        }
        read_row(stmt, &rows[count++]);
    }
    r = !stmt ? -1 : r == SQLITE_DONE ? 0 : store_fail(s, err, "list templates");
    sqlite3_finalize(stmt);
    leaf_unlock(&s->lock);
    if (r < 0) {
        while (count > 0) {
            template_row_done(&rows[--count]);
        }
        free(rows);
        return -1;
    }
    *ret_rows = rows;
    *ret_count = count;
    return 0;
}
