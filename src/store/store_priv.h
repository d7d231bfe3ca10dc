/* Shared by the files of store/ only. */
#pragma once

#include "store/store.h"

#include <sqlite3.h>

struct store {
    struct lock lock; /* rank leaf */
    sqlite3 *db;      /* under lock */
};

/* Fills err from the connection's last error, with what was being done. Returns -1. */
int store_fail(struct store *s, struct err *err, const char *what);

/* Prepares sql; the statement or NULL with err set. */
sqlite3_stmt *store_prepare(struct store *s, const char *sql, struct err *err);

/* Steps a statement that returns no rows and finalizes it (NULL is passed through as failure). */
int store_run(struct store *s, sqlite3_stmt *stmt, const char *what, struct err *err);

int store_exec(struct store *s, const char *sql, struct err *err);

/* Copies a text column into a fixed field, cut if longer (we wrote it, so it is not). */
void store_column_text(sqlite3_stmt *stmt, int column, char *field, size_t size);

DEFINE_CLEANUP(sqlite3_stmt *, sqlite3_finalize);
#define _cleanup_stmt_ _cleanup_(sqlite3_finalize_p)
