#include "store/store_priv.h"

#include "base/str.h"
#include "base/test_point.h"
#include "codec/json.h"

#include <string.h>

static const char *const state_names[VM_STATE_COUNT] = {
    [VM_CREATED] = "created",   [VM_STARTING] = "starting", [VM_RESTORING] = "restoring",
    [VM_RUNNING] = "running",   [VM_PAUSED] = "paused",     [VM_SUSPENDED] = "suspended",
    [VM_STOPPING] = "stopping", [VM_STOPPED] = "stopped",   [VM_POOLED] = "pooled",
    [VM_ERROR] = "error",
};

const char *vm_state_name(enum vm_state state)
{
    return state_names[state];
}

static enum vm_state state_from_name(const char *name)
{
    for (int i = 0; i < VM_STATE_COUNT; i++) {
        if (str_eq(name, state_names[i])) {
            return (enum vm_state)i;
        }
    }
    return VM_ERROR;
}

static const char *const role_names[VM_ROLE_COUNT] = {
    [VM_ROLE_USER] = "",
    [VM_ROLE_TEMPLATE] = "template",
    [VM_ROLE_POOL] = "pool",
};

/* One that we do not know is of a later version: nobody's VM. */
static enum vm_role role_from_name(const char *name)
{
    return str_eq(name, role_names[VM_ROLE_POOL]) ? VM_ROLE_POOL
           : name[0]                              ? VM_ROLE_TEMPLATE
                                                  : VM_ROLE_USER;
}

const char *vm_init_name(const struct vm_row *row)
{
    return row->own_init ? VM_INIT_IMAGE : "agent";
}

void vm_row_copy(struct vm_row *to, const struct vm_row *from)
{
    *to = *from;
    to->labels = x_strdup(from->labels ? from->labels : "{}");
    to->description = x_strdup(from->description ? from->description : "");
    to->objects = NULL;
    if (from->object_count > 0) {
        to->objects = x_calloc(from->object_count, sizeof(*to->objects));
        memcpy(to->objects, from->objects, from->object_count * sizeof(*to->objects));
    }
}

void vm_row_done(struct vm_row *row)
{
    free(STEAL_PTR(row->labels));
    free(STEAL_PTR(row->description));
    free(STEAL_PTR(row->objects));
    row->object_count = 0;
}

static char *timeline_text(const struct vm_row *row)
{
    _cleanup_json_ json_t *list = json_array();

    for (unsigned i = 0; i < row->phase_count; i++) {
        json_t *phase = json_object();

        json_put_str(phase, "phase", row->timeline[i].name);
        json_put_int(phase, "ms", row->timeline[i].ms);
        json_array_append_new(list, phase);
    }
    return json_print(list);
}

static unsigned read_timeline(const char *text, struct vm_phase phases[STORE_PHASES_MAX])
{
    _cleanup_json_ json_t *list = NULL;
    struct err ignored;
    unsigned count = 0;
    json_t *phase;
    size_t i;

    if (!text || json_parse(text, strlen(text), &list, &ignored) < 0) {
        return 0;
    }
    json_array_foreach (list, i, phase) {
        if (count < STORE_PHASES_MAX) {
            struct vm_phase *p = &phases[count++];

            (void)snprintf(p->name, sizeof(p->name), "%s", json_str(phase, "phase", ""));
            p->ms = json_int(phase, "ms", 0);
        }
    }
    return count;
}

/* In the order of bind_row and read_row. */
#define VM_COLUMNS                                                                                 \
    "id, name, state, reason, state_since_ms, incarnation, image_name, image_digest,"              \
    " kernel_name, kernel_digest, vmm, vmm_version, accel, accel_why, vcpus, memory_mib,"          \
    " disk_bytes, auto_remove, created_ms, started_ms, exit_code, exit_signal, timeline, labels,"  \
    " held, description, run_vcpus, run_memory_mib, run_disk_bytes, init, restart, restart_count," \
    " autostart, auto_stop_after_ms, expires_after_ms, expires_ms, host_boot, role, template_id,"  \
    " start_why, net_mode, net_slot"
#define VM_VALUES                                                                                  \
    "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,"   \
    " ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37,"        \
    " ?38, ?39, ?40, ?41, ?42"

static void bind_row(sqlite3_stmt *stmt, const struct vm_row *row)
{
    const char *labels = row->labels ? row->labels : "{}";
    const char *texts[] = {row->id, row->name, vm_state_name(row->state), row->reason};
    const char *texts2[] = {row->image_name,    row->image_digest, row->kernel_name,
                            row->kernel_digest, row->vmm,          row->vmm_version,
                            row->accel,         row->accel_why};
    const int64_t numbers[] = {
        (int64_t)row->vcpus, (int64_t)row->memory_mib, (int64_t)row->disk_bytes,
        row->auto_remove,    row->created_ms,          row->started_ms,
    };
    int n = 1;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        sqlite3_bind_text(stmt, n++, texts[i], -1, SQLITE_TRANSIENT);
    }
    sqlite3_bind_int64(stmt, n++, row->state_since_ms);
    sqlite3_bind_int64(stmt, n++, (int64_t)row->incarnation);
    for (size_t i = 0; i < ARRAY_LEN(texts2); i++) {
        sqlite3_bind_text(stmt, n++, texts2[i], -1, SQLITE_TRANSIENT);
    }
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        sqlite3_bind_int64(stmt, n++, numbers[i]);
    }
    sqlite3_bind_int(stmt, n++, row->exit_code);
    sqlite3_bind_int(stmt, n++, row->exit_signal);
    sqlite3_bind_text(stmt, n++, timeline_text(row), -1, free);
    sqlite3_bind_text(stmt, n++, labels, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int(stmt, n++, row->held);
    sqlite3_bind_text(stmt, n++, row->description ? row->description : "", -1, SQLITE_TRANSIENT);
    sqlite3_bind_int(stmt, n++, (int)row->run_vcpus);
    sqlite3_bind_int64(stmt, n++, (int64_t)row->run_memory_mib);
    sqlite3_bind_int64(stmt, n++, (int64_t)row->run_disk_bytes);
    sqlite3_bind_text(stmt, n++, vm_init_name(row), -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, n++, row->restart[0] ? row->restart : VM_RESTART_NO, -1,
                      SQLITE_TRANSIENT);
    sqlite3_bind_int(stmt, n++, (int)row->restart_count);
    sqlite3_bind_int(stmt, n++, row->autostart);
    sqlite3_bind_int64(stmt, n++, row->auto_stop_after_ms);
    sqlite3_bind_int64(stmt, n++, row->expires_after_ms);
    sqlite3_bind_int64(stmt, n++, row->expires_ms);
    sqlite3_bind_text(stmt, n++, row->host_boot, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, n++, role_names[row->role], -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, n++, row->template_id, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, n++, row->start_why, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(stmt, n++, row->net_mode[0] ? row->net_mode : VM_NET_NONE, -1,
                      SQLITE_TRANSIENT);
    sqlite3_bind_int(stmt, n++, (int)row->net_slot);
}

static void read_row(sqlite3_stmt *stmt, struct vm_row *row)
{
    char state[16], init[16], role[16];
    int c = 0;

    *row = (struct vm_row){0};
    store_column_text(stmt, c++, row->id, sizeof(row->id));
    store_column_text(stmt, c++, row->name, sizeof(row->name));
    store_column_text(stmt, c++, state, sizeof(state));
    row->state = state_from_name(state);
    store_column_text(stmt, c++, row->reason, sizeof(row->reason));
    row->state_since_ms = sqlite3_column_int64(stmt, c++);
    row->incarnation = (uint64_t)sqlite3_column_int64(stmt, c++);
    store_column_text(stmt, c++, row->image_name, sizeof(row->image_name));
    store_column_text(stmt, c++, row->image_digest, sizeof(row->image_digest));
    store_column_text(stmt, c++, row->kernel_name, sizeof(row->kernel_name));
    store_column_text(stmt, c++, row->kernel_digest, sizeof(row->kernel_digest));
    store_column_text(stmt, c++, row->vmm, sizeof(row->vmm));
    store_column_text(stmt, c++, row->vmm_version, sizeof(row->vmm_version));
    store_column_text(stmt, c++, row->accel, sizeof(row->accel));
    store_column_text(stmt, c++, row->accel_why, sizeof(row->accel_why));
    row->vcpus = (unsigned)sqlite3_column_int(stmt, c++);
    row->memory_mib = (uint64_t)sqlite3_column_int64(stmt, c++);
    row->disk_bytes = (uint64_t)sqlite3_column_int64(stmt, c++);
    row->auto_remove = sqlite3_column_int(stmt, c++) != 0;
    row->created_ms = sqlite3_column_int64(stmt, c++);
    row->started_ms = sqlite3_column_int64(stmt, c++);
    row->exit_code = sqlite3_column_int(stmt, c++);
    row->exit_signal = sqlite3_column_int(stmt, c++);
    row->phase_count = read_timeline((const char *)sqlite3_column_text(stmt, c++), row->timeline);
    row->labels = x_strdup((const char *)sqlite3_column_text(stmt, c++));
    row->held = sqlite3_column_int(stmt, c++) != 0;
    row->description = x_strdup((const char *)sqlite3_column_text(stmt, c++));
    row->run_vcpus = (unsigned)sqlite3_column_int(stmt, c++);
    row->run_memory_mib = (uint64_t)sqlite3_column_int64(stmt, c++);
    row->run_disk_bytes = (uint64_t)sqlite3_column_int64(stmt, c++);
    store_column_text(stmt, c++, init, sizeof(init));
    row->own_init = str_eq(init, VM_INIT_IMAGE);
    store_column_text(stmt, c++, row->restart, sizeof(row->restart));
    row->restart_count = (unsigned)sqlite3_column_int(stmt, c++);
    row->autostart = sqlite3_column_int(stmt, c++) != 0;
    row->auto_stop_after_ms = sqlite3_column_int64(stmt, c++);
    row->expires_after_ms = sqlite3_column_int64(stmt, c++);
    row->expires_ms = sqlite3_column_int64(stmt, c++);
    store_column_text(stmt, c++, row->host_boot, sizeof(row->host_boot));
    store_column_text(stmt, c++, role, sizeof(role));
    row->role = role_from_name(role);
    store_column_text(stmt, c++, row->template_id, sizeof(row->template_id));
    store_column_text(stmt, c++, row->start_why, sizeof(row->start_why));
    store_column_text(stmt, c++, row->net_mode, sizeof(row->net_mode));
    row->net_slot = (unsigned)sqlite3_column_int(stmt, c++);
}

static int insert_locked(struct store *s, const struct vm_row *row, struct err *err)
{
    sqlite3_stmt *stmt =
        store_prepare(s, "INSERT INTO vm (" VM_COLUMNS ") VALUES (" VM_VALUES ")", err);

    if (stmt) {
        bind_row(stmt, row);
    }
    return store_run(s, stmt, "insert VM", err) < 0 ? -1 : store_objects_write(s, row, err);
}

/* What a constraint means that failed. */
static int name_is_taken(const struct vm_row *row, struct err *err)
{
    if (err->code == ERR_ALREADY_EXISTS) {
        err_set(err, ERR_ALREADY_EXISTS, "VM '%s' exists already", row->name);
        return err_hint(err, "choose another --name, or delete it with: banger rm %s", row->name);
    }
    return -1;
}

int store_vm_insert(struct store *s, const struct vm_row *row, struct err *err)
{
    int r;

    leaf_lock(&s->lock);
    r = store_begin(s, true, err);
    r = store_end(s, true, r < 0 ? r : insert_locked(s, row, err), err);
    leaf_unlock(&s->lock);
    store_events_tell(s);
    return r < 0 ? name_is_taken(row, err) : 0;
}

static int update_locked(struct store *s, const struct vm_row *row, struct err *err)
{
    sqlite3_stmt *stmt =
        store_prepare(s, "UPDATE vm SET (" VM_COLUMNS ") = (" VM_VALUES ") WHERE id = ?1", err);

    if (stmt) {
        bind_row(stmt, row);
    }
    return store_run(s, stmt, "update VM", err);
}

static int commit_update_locked(struct store *s, const struct vm_row *row, struct err *err)
{
    int r = store_begin(s, false, err);

    if (r == 0) {
        r = update_locked(s, row, err);
    }
    if (r == 0 && row->objects_changed) {
        r = store_objects_write(s, row, err);
    }
    return store_end(s, false, r, err);
}

int store_vm_update(struct store *s, const struct vm_row *row, struct err *err)
{
    int r;

    leaf_lock(&s->lock);
    r = commit_update_locked(s, row, err);
    if (r < 0 && err->code == ERR_NO_SPACE) {
        store_reserve_use(s);
        r = commit_update_locked(s, row, err);
    } else {
        store_reserve_fill(s);
    }
    leaf_unlock(&s->lock);
    store_events_tell(s);
    return r < 0 ? name_is_taken(row, err) : 0;
}

static int commit_delete_locked(struct store *s, const char *id, struct err *err)
{
    int r = store_begin(s, true, err);

    if (r == 0) {
        r = store_run_for(s, "DELETE FROM object WHERE vm_id = ?1", id, "delete objects", err);
    }
    if (r == 0) {
        r = store_run_for(s, "DELETE FROM vm WHERE id = ?1", id, "delete VM", err);
    }
    return store_end(s, true, r, err);
}

int store_vm_delete(struct store *s, const char *id, struct err *err)
{
    int r;

    leaf_lock(&s->lock);
    r = commit_delete_locked(s, id, err);
    if (r < 0 && err->code == ERR_NO_SPACE) {
        store_reserve_use(s);
        r = commit_delete_locked(s, id, err);
    } else {
        store_reserve_fill(s);
    }
    leaf_unlock(&s->lock);
    store_events_tell(s);
    return r;
}

int store_vm_list(struct store *s, struct vm_row **ret_rows, size_t *ret_count, struct err *err)
{
    size_t count = 0, capacity = 16;
    struct vm_row *rows = x_calloc(capacity, sizeof(*rows));
    sqlite3_stmt *stmt;
    int r;

    leaf_lock(&s->lock);
    stmt = store_prepare(s, "SELECT " VM_COLUMNS " FROM vm ORDER BY created_ms, id", err);
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
    if (!stmt || r != SQLITE_DONE) {
        r = stmt ? store_fail(s, err, "list VMs") : -1;
    } else {
        r = store_objects_read(s, rows, count, err);
    }
    if (r < 0) {
        while (count > 0) {
            vm_row_done(&rows[--count]);
        }
        free(STEAL_PTR(rows));
    }
    sqlite3_finalize(stmt);
    leaf_unlock(&s->lock);
    if (r == 0) {
        *ret_rows = rows;
        *ret_count = count;
    }
    return r;
}

static void read_start(sqlite3_stmt *stmt, struct vm_start *start)
{
    *start = (struct vm_start){
        .incarnation = (uint64_t)sqlite3_column_int64(stmt, 0),
        .started_ms = sqlite3_column_int64(stmt, 1),
    };
    store_column_text(stmt, 2, start->accel, sizeof(start->accel));
    start->phase_count = read_timeline((const char *)sqlite3_column_text(stmt, 3), start->timeline);
}

int store_vm_starts(struct store *s, const char *id, struct vm_start **ret_starts,
                    size_t *ret_count, struct err *err)
{
    struct vm_start *starts = x_calloc(STORE_STARTS_MAX, sizeof(*starts));
    int r = SQLITE_ERROR;
    sqlite3_stmt *stmt;
    size_t count = 0;

    leaf_lock(&s->lock);
    stmt = store_prepare(s,
                         "SELECT incarnation, started_ms, accel, timeline FROM vm_start"
                         " WHERE vm_id = ?1 ORDER BY incarnation",
                         err);
    if (stmt) {
        sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
        while (count < STORE_STARTS_MAX && (r = sqlite3_step(stmt)) == SQLITE_ROW) {
            read_start(stmt, &starts[count++]);
        }
    }
    if (r == SQLITE_DONE || r == SQLITE_ROW) {
        store_keep(s, stmt);
        r = 0;
    } else {
        r = stmt ? store_fail(s, err, "list starts") : -1;
        sqlite3_finalize(stmt);
    }
    leaf_unlock(&s->lock);
    if (r < 0) {
        free(starts);
        return -1;
    }
    *ret_starts = starts;
    *ret_count = count;
    return 0;
}
