/* The ledger's rows. */
#include "store/store_priv.h"

#include "base/str.h"

#include <string.h>

static const char *const kind_names[OBJECT_KIND_COUNT] = {
    [OBJECT_STATE_DIR] = "state_dir",
    [OBJECT_RUN_DIR] = "run_dir",
    [OBJECT_TAP] = "tap",
    [OBJECT_PROCESS] = "process",
};

const char *object_kind_name(enum object_kind kind)
{
    return kind_names[kind];
}

/* OBJECT_KIND_COUNT for a name that is none. */
static enum object_kind kind_from_name(const char *name)
{
    int kind = 0;

    while (kind < OBJECT_KIND_COUNT && !str_eq(kind_names[kind], name)) {
        kind++;
    }
    return (enum object_kind)kind;
}

/* ---- in a row ---- */

static struct vm_object *append(struct vm_row *row)
{
    row->objects = reallocarray(row->objects, row->object_count + 1, sizeof(*row->objects));
    if (!row->objects) {
        abort();
    }
    return &row->objects[row->object_count++];
}

void vm_row_put_object(struct vm_row *row, const struct vm_object *object)
{
    struct vm_object *place = NULL;

    for (size_t i = 0; i < row->object_count; i++) {
        if (row->objects[i].kind == object->kind &&
            row->objects[i].incarnation == object->incarnation) {
            place = &row->objects[i];
        }
    }
    place = place ? place : append(row);
    *place = *object;
    row->objects_changed = true;
}

void vm_row_drop_object(struct vm_row *row, enum object_kind kind)
{
    size_t kept = 0;

    for (size_t i = 0; i < row->object_count; i++) {
        if (row->objects[i].kind != kind) {
            row->objects[kept++] = row->objects[i];
        }
    }
    row->objects_changed |= kept != row->object_count;
    row->object_count = kept;
}

const struct vm_object *vm_row_object(const struct vm_row *row, enum object_kind kind)
{
    for (size_t i = 0; i < row->object_count; i++) {
        if (row->objects[i].kind == kind) {
            return &row->objects[i];
        }
    }
    return NULL;
}

/* ---- in the database ---- */

static void bind_object(sqlite3_stmt *stmt, const struct vm_row *row, const struct vm_object *o)
{
    sqlite3_bind_text(stmt, 1, row->id, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, 2, kind_names[o->kind], -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 3, o->name, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(stmt, 4, (int64_t)o->incarnation);
    sqlite3_bind_text(stmt, 5, o->boot_id, -1, SQLITE_TRANSIENT);
}

int store_objects_write(struct store *s, const struct vm_row *row, struct err *err)
{
    if (store_run_for(s, "DELETE FROM object WHERE vm_id = ?1", row->id, "update objects", err) <
        0) {
        return -1;
    }
    for (size_t i = 0; i < row->object_count; i++) {
        sqlite3_stmt *stmt =
            store_prepare(s,
                          "INSERT INTO object (vm_id, kind, name, incarnation, boot_id)"
                          " VALUES (?1, ?2, ?3, ?4, ?5)",
                          err);

        if (stmt) {
            bind_object(stmt, row, &row->objects[i]);
        }
        if (store_run(s, stmt, "insert object", err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int read_one(struct store *s, sqlite3_stmt *stmt, struct vm_row *row, struct err *err)
{
    int r;

    sqlite3_bind_text(stmt, 1, row->id, -1, SQLITE_TRANSIENT);
    while ((r = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct vm_object *o = append(row);
        char kind[24];

        store_column_text(stmt, 0, kind, sizeof(kind));
        o->kind = kind_from_name(kind);
        if (o->kind == OBJECT_KIND_COUNT) {
            return err_set(err, ERR_IO, "store: VM '%s' has an object of unknown kind '%s'",
                           row->name, kind);
        }
        store_column_text(stmt, 1, o->name, sizeof(o->name));
        o->incarnation = (uint64_t)sqlite3_column_int64(stmt, 2);
        store_column_text(stmt, 3, o->boot_id, sizeof(o->boot_id));
    }
    if (r != SQLITE_DONE) {
        return store_fail(s, err, "list objects");
    }
    (void)sqlite3_reset(stmt);
    return 0;
}

int store_objects_read(struct store *s, struct vm_row *rows, size_t count, struct err *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt =
        store_prepare(s,
                      "SELECT kind, name, incarnation, boot_id FROM object WHERE vm_id = ?1"
                      " ORDER BY seq",
                      err);

    for (size_t i = 0; stmt && i < count; i++) {
        if (read_one(s, stmt, &rows[i], err) < 0) {
            return -1;
        }
    }
    return stmt ? 0 : -1;
}
