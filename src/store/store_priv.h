/* Shared by the files of store/ only. */
#pragma once

#include "store/store.h"

#include <sqlite3.h>
#include <stdatomic.h>

/* All that a create and a delete run, and some to spare. */
#define STORE_KEPT_MAX 28

struct store {
    struct lock lock; /* rank leaf */
    sqlite3 *db;      /* under lock */
    int dir_fd;       /* the state directory, borrowed */
    int db_fd;        /* of the database, closed after SQLite's: closing one ends its locks */

    /* lock; store_reserve.c */
    int reserve_fd;
    bool reserve_held;
    unsigned reserve_commits; /* since its free pages were looked at */

    /* store_event.c: number of the last event of the transaction (lock), and of the last one that
     * was committed and not told of; 0 = none */
    uint64_t event_written;
    atomic_uint_fast64_t event_committed;
    store_event_fn event_fn; /* who is told; set before there are threads */
    void *event_arg;

    /* lock: statements that ran before, to be run again */
    sqlite3_stmt *kept[STORE_KEPT_MAX];
};

/* Fills err from the connection's last error, with what was being done. Returns -1. */
int store_fail(struct store *s, struct err *err, const char *what);

/* Prepares sql, or takes it from those that are kept; the statement, the caller's, or NULL with err
 * set. */
sqlite3_stmt *store_prepare(struct store *s, const char *sql, struct err *err);

/* Steps a statement that returns no rows and keeps or finalizes it (NULL is passed through as
 * failure). */
int store_run(struct store *s, sqlite3_stmt *stmt, const char *what, struct err *err);

/* Keeps a statement that the caller is done with, whatever became of it; NULL is passed over. */
void store_keep(struct store *s, sqlite3_stmt *stmt);

/* Several statements, or one that is run once. */
int store_exec(struct store *s, const char *sql, struct err *err);
/* One statement that is run often and has no parameters. */
int store_do(struct store *s, const char *sql, struct err *err);

/* Runs a statement whose ?1 is id. */
int store_run_for(struct store *s, const char *sql, const char *id, const char *what,
                  struct err *err);

/* One transaction. durable: synchronous=FULL, for what a power cut must not undo. */
int store_begin(struct store *s, bool durable, struct err *err);
/* r: how it went so far; its result, or that of the commit. Then, without the lock,
 * store_events_tell. */
int store_end(struct store *s, bool durable, int r, struct err *err);

/* ---- store_schema.c: number n brings user_version from n to n + 1 ---- */

extern const char *const store_migrations[];
extern const int store_migration_count;

/* ---- store_verify.c ---- */

/* Copies the database to banger.db.v<version> beside it, in the place of an older copy. */
int store_back_up(struct store *s, int version, struct err *err);

/* ---- store_event.c ---- */

void store_events_open(struct store *s);
/* After a transaction, under the lock. */
void store_events_end(struct store *s, bool committed);
/* Tells of those that were committed; without the lock. */
void store_events_tell(struct store *s) EXCLUDES(rank_leaf);

/* ---- store_object.c, in the caller's transaction ---- */

/* The objects of the row in the place of those that are stored. */
int store_objects_write(struct store *s, const struct vm_row *row, struct err *err);
/* Fills in those of rows that have none. */
int store_objects_read(struct store *s, struct vm_row *rows, size_t count, struct err *err);
/* ---- store_reserve.c: room for what must be written on a full disk ---- */

/* Before the database is opened; without room even for that, the reserve is given up. */
void store_reserve_open(struct store *s);
/* Makes it, or makes it again, if it is not there and the disk has room. After a commit. */
void store_reserve_fill(struct store *s);
/* After a commit that failed with ERR_NO_SPACE: makes what room there can be, to try once more. */
void store_reserve_use(struct store *s);

/* Copies a text column into a fixed field, cut if longer (we wrote it, so it is not). */
void store_column_text(sqlite3_stmt *stmt, int column, char *field, size_t size);

DEFINE_CLEANUP(sqlite3_stmt *, sqlite3_finalize);
#define _cleanup_stmt_ _cleanup_(sqlite3_finalize_p)
