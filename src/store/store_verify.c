/* What is wrong with the database beyond what SQLite refuses: for `daemon verify-store`, and a copy
 * of it before it is migrated. */
#include "store/store_priv.h"

#include "base/str.h"

#include <errno.h>
#include <string.h>

struct check {
    const char *sql;  /* rows of one text column, a problem each */
    const char *fine; /* the row that means that there is none, or NULL */
};

static const struct check checks[] = {
    {"PRAGMA integrity_check(100)", "ok"},
    {"SELECT 'a row of table ' || \"table\" || ' refers to a ' || parent || ' that is not there'"
     " FROM pragma_foreign_key_check",
     NULL},
    {"SELECT 'VM ' || name || ' (' || substr(id, 1, 12) || ') is in an unknown state: ' || state"
     " FROM vm WHERE state NOT IN ('created', 'starting', 'restoring', 'running', 'paused',"
     " 'suspended', 'stopping', 'stopped', 'pooled', 'error')",
     NULL},
    {"SELECT 'VM ' || name || ' (' || substr(id, 1, 12) || ') has no state directory in the ledger'"
     " FROM vm WHERE NOT EXISTS (SELECT 1 FROM object o WHERE o.vm_id = vm.id"
     " AND o.kind = 'state_dir')",
     NULL},
    {"SELECT 'VM ' || vm.name || ' (' || substr(vm.id, 1, 12) || ') has an object of unknown kind:"
     " ' || o.kind FROM object o JOIN vm ON vm.id = o.vm_id"
     " WHERE o.kind NOT IN ('state_dir', 'run_dir', 'tap', 'process')",
     NULL},
    {"SELECT 'VM ' || vm.name || ' (' || substr(vm.id, 1, 12) || ') is ' || vm.state"
     " || ' and has a ' || o.kind || ' in the ledger' FROM object o JOIN vm ON vm.id = o.vm_id"
     " WHERE vm.state IN ('stopped', 'created') AND o.incarnation <> 0",
     NULL},
};

static int run_check(struct store *s, const struct check *c, store_problem_fn fn, void *arg,
                     struct err *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = store_prepare(s, c->sql, err);
    int r = stmt ? SQLITE_ROW : SQLITE_ERROR;

    while (stmt && (r = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);

        if (text && (!c->fine || !str_eq(text, c->fine))) {
            fn(arg, text);
        }
    }
    return r == SQLITE_DONE ? 0 : stmt ? store_fail(s, err, "verify") : -1;
}

int store_verify(struct store *s, store_problem_fn fn, void *arg, struct err *err)
{
    int r = 0;

    leaf_lock(&s->lock);
    for (size_t i = 0; i < ARRAY_LEN(checks) && r == 0; i++) {
        r = run_check(s, &checks[i], fn, arg, err);
    }
    leaf_unlock(&s->lock);
    return r;
}

int store_back_up(struct store *s, int version, struct err *err)
{
    _cleanup_free_ char *path = x_asprintf("%s.v%d", sqlite3_db_filename(s->db, "main"), version);
    sqlite3_stmt *stmt;

    if (unlink(path) < 0 && errno != ENOENT) {
        return err_set_errno(err, ERR_IO, errno, "store: cannot replace the copy '%s'", path);
    }
    stmt = store_prepare(s, "VACUUM INTO ?1", err);
    if (stmt) {
        sqlite3_bind_text(stmt, 1, path, -1, SQLITE_TRANSIENT);
    }
    if (store_run(s, stmt, "copy before migrating", err) < 0) {
        (void)unlink(path);
        return err_hint(err, "a new version needs room for a copy of banger.db in the state "
                             "directory before it changes it");
    }
    return 0;
}
