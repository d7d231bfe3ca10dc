/* The network: one row. */
#include "store/store_priv.h"

#include "base/str.h"

#include <string.h>

int store_network_get(struct store *s, struct network_row *ret_row, struct err *err)
{
    sqlite3_stmt *stmt;
    int r = -1;

    *ret_row = (struct network_row){0};
    leaf_lock(&s->lock);
    stmt = store_prepare(s, "SELECT ipv4, ipv4_bits, ipv6 FROM network", err);
    if (stmt) {
        int step = sqlite3_step(stmt);

        if (step == SQLITE_ROW && sqlite3_column_bytes(stmt, 2) == sizeof(ret_row->ipv6)) {
            ret_row->ipv4 = (uint32_t)sqlite3_column_int64(stmt, 0);
            ret_row->ipv4_bits = (unsigned)sqlite3_column_int(stmt, 1);
            memcpy(ret_row->ipv6, sqlite3_column_blob(stmt, 2), sizeof(ret_row->ipv6));
        }
        r = step == SQLITE_ROW || step == SQLITE_DONE ? 0 : store_fail(s, err, "read the network");
    }
    store_keep(s, stmt);
    leaf_unlock(&s->lock);
    return r;
}

int store_network_put(struct store *s, const struct network_row *row, struct err *err)
{
    sqlite3_stmt *stmt;
    int r;

    leaf_lock(&s->lock);
    r = store_begin(s, true, err);
    if (r == 0) {
        stmt = store_prepare(s,
                             "INSERT INTO network (one, ipv4, ipv4_bits, ipv6)"
                             " VALUES (1, ?1, ?2, ?3) ON CONFLICT DO UPDATE SET"
                             " ipv4 = excluded.ipv4, ipv4_bits = excluded.ipv4_bits,"
                             " ipv6 = excluded.ipv6",
                             err);
        if (stmt) {
            sqlite3_bind_int64(stmt, 1, row->ipv4);
            sqlite3_bind_int(stmt, 2, (int)row->ipv4_bits);
            sqlite3_bind_blob(stmt, 3, row->ipv6, sizeof(row->ipv6), SQLITE_TRANSIENT);
        }
        r = store_run(s, stmt, "write the network", err);
    }
    r = store_end(s, true, r, err);
    leaf_unlock(&s->lock);
    return r;
}
