/* Deleting VMs that nobody has started for a while. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* Not one that starts by itself, or of which something is still there: that is for `rm`. */
static bool is_prunable(const struct vms *v, const struct vm_row *row, int64_t before_ms)
{
    return (row->state == VM_STOPPED || row->state == VM_CREATED) && !vm_is_half(row) &&
           !row->autostart && !vm_policy_pending(v, row) && row->state_since_ms <= before_ms;
}

/* What its files occupy. */
static uint64_t size_of(const struct vms *v, const char *id)
{
    static const char *const names[] = {"data.ext4", VM_LOG_CONSOLE, VM_LOG_VMM};
    uint64_t bytes = 0;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[VM_LOG_PATH_SIZE];
        struct stat st;

        vm_log_path(id, names[i], path);
        if (fstatat(v->params.state_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            bytes += (uint64_t)st.st_blocks * 512;
        }
    }
    return bytes;
}

static json_t *pruned_json(const struct vms *v, const struct vm_row *row)
{
    char time[CLOCK_RFC3339_SIZE];
    json_t *o = json_object();

    clock_format_rfc3339(row->state_since_ms, time);
    json_put_str(o, "id", row->id);
    json_put_str(o, "name", row->name);
    json_put_str(o, "state", vm_state_name(row->state));
    json_put_str(o, "state_since", time);
    json_put_int(o, "bytes", (long long)size_of(v, row->id));
    json_put(o, "error", json_null());
    return o;
}

/* The ids of all, to be looked at one by one. */
static char (*list_ids(struct vms *v, size_t *ret_count))[ID_SIZE]
{
    size_t count = 0;
    char(*ids)[ID_SIZE];

    leaf_lock(&v->table);
    list_for_each (it, &v->entries) {
        count++;
    }
    ids = x_calloc(count + 1, sizeof(*ids));
    count = 0;
    list_for_each (it, &v->entries) {
        memcpy(ids[count++], LIST_ENTRY(it, struct vm_entry, node)->row.id, ID_SIZE);
    }
    leaf_unlock(&v->table);
    *ret_count = count;
    return ids;
}

/* 1: it is deleted, or would be; 0: it is to stay. */
static int prune_locked(struct vms *v, const char *id, const struct vms_prune *what, json_t **ret)
    REQUIRES(rank_vm)
{
    _cleanup_vm_row_ struct vm_row row = {0};
    struct err err;

    if (vm_get_row(v, id, &row, &err) < 0 ||
        !is_prunable(v, &row, v->seams.clock->real_ms() - what->stopped_for_ms)) {
        return 0;
    }
    *ret = pruned_json(v, &row);
    if (!what->dry_run) {
        CRASH_POINT("prune.delete");
        if (vm_remove(v, id, &err) < 0) {
            log_error("VM %.12s '%s': %s", id, row.name, err.message);
            json_put_str(*ret, "error", err.message);
        } else {
            log_info("VM %.12s '%s': pruned", id, row.name);
        }
    }
    return 1;
}

int vms_prune(struct vms *v, const struct vms_prune *what, struct cancel *cancel, json_t **ret_list,
              struct err *err)
{
    size_t count;
    _cleanup_free_ char(*ids)[ID_SIZE] = list_ids(v, &count);
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++) {
        struct vm_token *token;
        json_t *pruned = NULL;
        struct err busy;

        if (cancel_requested(cancel)) {
            json_decref(list);
            return err_set_errno(err, ERR_CANCELLED, ECANCELED, "prune");
        }
        /* Who is worked on is in use. */
        if (vm_locks_acquire(v->locks, ids[i], "prune", NULL, clock_mono_ms(), &token, &busy)) {
            continue;
        }
        if (prune_locked(v, ids[i], what, &pruned)) {
            json_array_append_new(list, pruned);
        }
        vm_locks_release(token);
    }
    *ret_list = list;
    return 0;
}
