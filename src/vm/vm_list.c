/* Listing VMs. Lock hierarchy: the table's lock, and the session registry's, leaves, one after the
 * other: rows are copied out a few at a time. */
#include "base/str.h"
#include "vm/vm_priv.h"

#include <stdio.h>
#include <string.h>

#define ROWS 32

/* Rows that were copied, and behind which VM the next ones are. */
struct rows {
    struct vm_row row[ROWS];
    size_t count;
    char after_id[ID_SIZE];
    int64_t after_ms;
};

/* The first one behind that place: by id, which need not exist any more. */
static struct list *first_behind_locked(struct vms *v, const struct rows *rows)
{
    struct vm_entry *e = rows->after_id[0] ? vm_find_locked(v, rows->after_id) : NULL;
    struct list *it = v->entries.next;

    if (e && e->row.created_ms == rows->after_ms) {
        return e->node.next;
    }
    while (it != &v->entries && !vm_is_behind(&LIST_ENTRY(it, struct vm_entry, node)->row,
                                              rows->after_ms, rows->after_id)) {
        it = it->next;
    }
    return it;
}

static void copy_rows(struct vms *v, bool all, size_t most, struct rows *rows)
{
    rows->count = 0;
    leaf_lock(&v->table);
    for (struct list *it = first_behind_locked(v, rows);
         it != &v->entries && rows->count < ROWS && rows->count < most; it = it->next) {
        const struct vm_row *row = &LIST_ENTRY(it, struct vm_entry, node)->row;

        if (vm_is_visible(row) && (all || row->state != VM_STOPPED)) {
            vm_row_copy(&rows->row[rows->count++], row);
        }
    }
    leaf_unlock(&v->table);
    if (rows->count > 0) {
        const struct vm_row *last = &rows->row[rows->count - 1];

        memcpy(rows->after_id, last->id, ID_SIZE);
        rows->after_ms = last->created_ms;
    }
}

/* False when it did not fit. */
static bool write_row(struct vms *v, const struct vm_row *row, struct api_writer *w)
{
    unsigned sessions =
        api_write_wants(w, "sessions") ? session_count_running(v->sessions, row->id) : 0;

    vm_row_write(v, row, sessions, w);
    return api_write_fits(w);
}

static int does_not_fit(struct err *err)
{
    err_set(err, ERR_LIMIT, "the VMs do not fit into one line");
    return err_hint(err, "ask for fewer members, or for a page at a time: limit and after");
}

int vms_list(struct vms *v, const struct vms_query *query, struct api_writer *w, struct err *err)
{
    _cleanup_free_ struct rows *rows = x_calloc(1, sizeof(*rows));
    size_t left = query->limit ? query->limit : SIZE_MAX;
    bool fits = true;

    if (query->after_id) {
        (void)snprintf(rows->after_id, ID_SIZE, "%s", query->after_id);
        rows->after_ms = query->after_ms;
    }
    do {
        copy_rows(v, query->all, left, rows);
        left -= rows->count;
        for (size_t i = 0; i < rows->count; i++) {
            fits = fits && write_row(v, &rows->row[i], w);
            vm_row_done(&rows->row[i]);
        }
    } while (fits && rows->count > 0 && left > 0);
    return fits || query->limit ? 0 : does_not_fit(err);
}
