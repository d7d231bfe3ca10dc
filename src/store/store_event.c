/* Numbered events. Triggers write them in the commit of what they tell (store_schema.c), so
 * that there is none of what did not happen and none is missing of what did. */
#include "store/store_priv.h"

#include "base/str.h"

static void on_change(void *arg, int operation, const char *database, const char *table,
                      sqlite3_int64 rowid)
{
    struct store *s = arg;

    (void)database;
    if (operation == SQLITE_INSERT && str_eq(table, "event")) {
        s->event_written = (uint64_t)rowid;
    }
}

void store_events_open(struct store *s)
{
    (void)sqlite3_update_hook(s->db, on_change, s);
}

void store_on_event(struct store *s, store_event_fn fn, void *arg)
{
    s->event_fn = fn;
    s->event_arg = arg;
}

void store_events_end(struct store *s, bool committed)
{
    if (committed && s->event_written > 0) {
        atomic_store(&s->event_committed, s->event_written);
    }
    s->event_written = 0;
}

void store_events_tell(struct store *s)
{
    /* Also that of another thread, whose turn finds nothing then. */
    uint64_t number = atomic_exchange(&s->event_committed, 0);

    if (number > 0 && s->event_fn) {
        s->event_fn(s->event_arg, number);
    }
}

static int range_locked(struct store *s, uint64_t *ret_first, uint64_t *ret_last, struct err *err)
{
    sqlite3_stmt *stmt =
        store_prepare(s, "SELECT ifnull(min(seq), 0), ifnull(max(seq), 0) FROM event", err);
    int r = stmt ? sqlite3_step(stmt) : SQLITE_ERROR;

    if (r != SQLITE_ROW) {
        r = stmt ? store_fail(s, err, "number of events") : -1;
        sqlite3_finalize(stmt);
        return r;
    }
    *ret_first = (uint64_t)sqlite3_column_int64(stmt, 0);
    *ret_last = (uint64_t)sqlite3_column_int64(stmt, 1);
    store_keep(s, stmt);
    return 0;
}

int store_event_range(struct store *s, uint64_t *ret_first, uint64_t *ret_last, struct err *err)
{
    int r;

    leaf_lock(&s->lock);
    r = range_locked(s, ret_first, ret_last, err);
    leaf_unlock(&s->lock);
    return r;
}

static void read_event(sqlite3_stmt *stmt, struct event_row *e)
{
    e->number = (uint64_t)sqlite3_column_int64(stmt, 0);
    e->time_ms = sqlite3_column_int64(stmt, 1);
    store_column_text(stmt, 2, e->kind, sizeof(e->kind));
    store_column_text(stmt, 3, e->object, sizeof(e->object));
    store_column_text(stmt, 4, e->name, sizeof(e->name));
    store_column_text(stmt, 5, e->reason, sizeof(e->reason));
}

int store_event_list(struct store *s, uint64_t since, struct event_row *rows, size_t max,
                     size_t *ret_count, struct err *err)
{
    sqlite3_stmt *stmt;
    size_t count = 0;
    int r = SQLITE_ERROR;

    leaf_lock(&s->lock);
    stmt = store_prepare(s,
                         "SELECT seq, time_ms, kind, object, name, reason FROM event"
                         " WHERE seq > ?1 ORDER BY seq LIMIT ?2",
                         err);
    if (stmt) {
        sqlite3_bind_int64(stmt, 1, (sqlite3_int64)since);
        sqlite3_bind_int64(stmt, 2, (sqlite3_int64)max);
        while ((r = sqlite3_step(stmt)) == SQLITE_ROW && count < max) {
            read_event(stmt, &rows[count++]);
        }
    }
    if (r == SQLITE_DONE) {
        store_keep(s, stmt);
        r = 0;
    } else {
        r = stmt ? store_fail(s, err, "list events") : -1;
        sqlite3_finalize(stmt);
    }
    leaf_unlock(&s->lock);
    *ret_count = count;
    return r;
}
