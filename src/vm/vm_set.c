/* Changing a VM. First a plan is made of all that was asked for, by the core and the capabilities;
 * then, unless a part of it is refused, all of it is done in one commit. What a VM that runs is to
 * notice of it at once, the capabilities do after that. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"
#include "codec/api.h"

#include <stdio.h>
#include <string.h>

static void plan_done(struct vm_plan *p)
{
    vm_row_done(&p->row);
    json_decref(p->changes);
}

json_t *vm_plan_change(struct vm_plan *p, const char *field, const char *from, const char *to,
                       const char *applies)
{
    json_t *change = json_object();

    json_put_str(change, "field", field);
    json_put_str(change, "from", from);
    json_put_str(change, "to", to);
    json_put_str(change, "applies", applies);
    json_put(change, "note", json_null());
    json_array_append_new(p->changes, change);
    return change;
}

void vm_plan_refuse(struct vm_plan *p, json_t *change, const struct err *err)
{
    json_put_str(change, "applies", "refused");
    json_put_str(change, "note", err->message);
    if (!p->refused) {
        p->refusal = *err;
    }
    p->refused = true;
}

static json_t *find_change(const struct vm_plan *p, const char *field)
{
    json_t *change;
    size_t i;

    json_array_foreach (p ? p->changes : NULL, i, change) {
        if (str_eq(json_str(change, "field", ""), field)) {
            return change;
        }
    }
    return NULL;
}

void vm_plan_note(struct vm_plan *p, const char *field, const char *note)
{
    json_t *change = find_change(p, field);

    if (change) {
        json_put_str(change, "note", note);
    }
}

void vm_plan_live(json_t *change)
{
    json_put_str(change, "applies", "live");
}

void vm_plan_postpone(struct vm_plan *p, const char *field, const char *note)
{
    json_t *change = find_change(p, field);

    if (change) {
        json_put_str(change, "applies", "next_start");
        json_put_str(change, "note", note);
    }
}

static int name_taken(const char *name, struct err *err)
{
    err_set(err, ERR_ALREADY_EXISTS, "VM '%s' exists already", name);
    return err_hint(err, "choose another name");
}

static void plan_name(struct vm_plan *p)
{
    const char *name = api_str(p->params, "name");
    json_t *change;
    struct err err;

    if (!name || str_eq(name, p->row.name)) {
        return;
    }
    change = vm_plan_change(p, "name", p->row.name, name, "live");
    if (vm_check_name(name, &err) < 0) {
        vm_plan_refuse(p, change, &err);
    } else if (vm_name_taken(p->v, name)) {
        (void)name_taken(name, &err);
        vm_plan_refuse(p, change, &err);
    } else {
        (void)snprintf(p->row.name, sizeof(p->row.name), "%s", name);
    }
}

static void plan_description(struct vm_plan *p)
{
    const char *text = api_str(p->params, "description");

    if (text && !str_eq(text, p->row.description)) {
        (void)vm_plan_change(p, "description", p->row.description, text, "live");
        free(p->row.description);
        p->row.description = x_strdup(text);
    }
}

static void remove_labels(json_t *labels, const json_t *names)
{
    const json_t *item;
    size_t i;

    json_array_foreach ((json_t *)names, i, item) {
        _cleanup_free_ char *name = NULL;
        size_t len;

        if (json_bytes_get(item, &name, &len) == 0) {
            (void)json_object_del(labels, name);
        }
    }
}

static void plan_labels(struct vm_plan *p)
{
    _cleanup_json_ json_t *labels = NULL;
    _cleanup_free_ char *text = NULL;
    json_t *change;
    struct err err;

    if (json_parse(p->row.labels, strlen(p->row.labels), &labels, &err) < 0) {
        labels = json_object();
    }
    remove_labels(labels, json_object_get(p->params, "unlabel"));
    (void)json_object_update(labels, json_object_get(p->params, "labels"));
    text = json_print(labels);
    if (str_eq(text, p->row.labels)) {
        return;
    }
    change = vm_plan_change(p, "labels", p->row.labels, text, "live");
    if (json_object_size(labels) > API_VM_LABELS_MAX) {
        err_set(&err, ERR_LIMIT, "a VM has at most %d labels", API_VM_LABELS_MAX);
        err_hint(&err, "remove some: --unlabel NAME");
        vm_plan_refuse(p, change, &err);
        return;
    }
    free(p->row.labels);
    p->row.labels = STEAL_PTR(text);
}

json_t *vm_plan_number(struct vm_plan *p, const char *field, uint64_t now, uint64_t wanted)
{
    char from[32], to[32];

    if (!json_is_integer(json_object_get(p->params, field)) || now == wanted) {
        return NULL;
    }
    (void)snprintf(from, sizeof(from), "%llu", (unsigned long long)now);
    (void)snprintf(to, sizeof(to), "%llu", (unsigned long long)wanted);
    return vm_plan_change(p, field, from, to, "next_start");
}

static void plan_machine(struct vm_plan *p)
{
    uint64_t vcpus = (uint64_t)json_int(p->params, "vcpus", 0);
    uint64_t memory = (uint64_t)json_int(p->params, "memory_mib", 0);

    if (vm_plan_number(p, "vcpus", p->row.vcpus, vcpus)) {
        p->row.vcpus = (unsigned)vcpus;
    }
    if (vm_plan_number(p, "memory_mib", p->row.memory_mib, memory)) {
        p->row.memory_mib = memory;
    }
}

/* ---- doing it ---- */

/* Only what vm.set is about: what the VM does meanwhile is written by others. */
static void take_over(struct vm_row *row, void *arg)
{
    const struct vm_plan *p = arg;
    const struct vm_row *from = &p->row;

    free(row->description);
    row->description = x_strdup(from->description);
    free(row->labels);
    row->labels = x_strdup(from->labels);
    row->vcpus = from->vcpus;
    row->memory_mib = from->memory_mib;
    row->disk_bytes = from->disk_bytes;
    memcpy(row->net_mode, from->net_mode, sizeof(row->net_mode));
    memcpy(row->restart, from->restart, sizeof(row->restart));
    row->restart_count = from->restart_count;
    row->autostart = from->autostart;
    row->auto_stop_after_ms = from->auto_stop_after_ms;
    row->expires_after_ms = from->expires_after_ms;
    row->expires_ms = from->expires_ms;
    memcpy(row->host_boot, from->host_boot, sizeof(row->host_boot));
    if (!str_eq(row->name, from->name)) {
        memcpy(row->name, from->name, sizeof(row->name));
        vm_reindex_locked(p->v, LIST_ENTRY(row, struct vm_entry, row));
    }
}

static bool renames(const struct vm_plan *p, const struct vm_row *before)
{
    return !str_eq(p->row.name, before->name);
}

/* A name is free, and taken, in one hold of the create lock. */
static int commit(struct vm_plan *p, const struct vm_row *before, struct err *err) REQUIRES(rank_vm)
{
    struct vm_plan back = {.v = p->v, .row = *before};
    struct vms *v = p->v;
    struct err none;
    int r = 0;

    create_lock(&v->create);
    if (renames(p, before) && vm_name_taken(v, p->row.name)) {
        r = name_taken(p->row.name, err);
    } else {
        r = vm_update(v, before->id, take_over, p, err);
        if (r < 0) {
            /* All or nothing, in the table as in the store. */
            (void)vm_update(v, before->id, take_over, &back, &none);
        }
    }
    create_unlock(&v->create);
    CRASH_POINT("set.done");
    return r;
}

/* The store may lag behind, and somebody may have taken the name. */
static int take_back(struct vm_plan *p, const struct vm_row *before, struct err *err)
    REQUIRES(rank_vm)
{
    struct vm_plan back = {.v = p->v, .row = *before};
    struct vms *v = p->v;
    int r;

    create_lock(&v->create);
    r = renames(p, before) && vm_name_taken(v, before->name)
            ? name_taken(before->name, err)
            : vm_update(v, before->id, take_over, &back, err);
    create_unlock(&v->create);
    return r;
}

static int apply(struct vm_plan *p, const struct vm_row *before, struct cancel *cancel,
                 struct err *err) REQUIRES(rank_vm)
{
    struct vms *v = p->v;
    struct err none;
    _cleanup_vm_run_ struct vm_run *run = vm_run_get(v, before->id, &none);
    struct vm_caps stopped = {.list = v->params.capabilities};
    const struct vm_hook h = {
        .vms = v, .row = &p->row, .ops = vm_ops(v, p->row.vmm), .run = run, .cancel = cancel};

    return vm_caps_apply_config_change(run ? &run->caps : &stopped, &h, before, p, err);
}

static int carry_out(struct vm_plan *p, const struct vm_row *before, struct cancel *cancel,
                     struct err *err) REQUIRES(rank_vm)
{
    struct err undo;

    if (commit(p, before, err) < 0) {
        return -1;
    }
    if (apply(p, before, cancel, err) < 0) {
        if (take_back(p, before, &undo) < 0) {
            err_append(err, "; and the undo failed: %s", undo.message);
        }
        return -1;
    }
    if (renames(p, before)) {
        log_info("VM %.12s '%s' is '%s' now", before->id, before->name, p->row.name);
    }
    return 0;
}

static int set_locked(struct vms *v, const char *id, const json_t *params, struct cancel *cancel,
                      json_t **ret, struct err *err) REQUIRES(rank_vm)
{
    _cleanup_vm_row_ struct vm_row row = {0};
    _cleanup_(plan_done) struct vm_plan p = {.v = v, .params = params, .changes = json_array()};
    json_t *vm = NULL;

    if (vm_get_row(v, id, &row, err) < 0) {
        return -1;
    }
    vm_row_copy(&p.row, &row);
    plan_name(&p);
    plan_description(&p);
    plan_labels(&p);
    plan_machine(&p);
    vm_caps_plan_config_change(v->params.capabilities, &p);
    if (!api_flag(params, "dry_run")) {
        if (p.refused) {
            *err = p.refusal;
            return -1;
        }
        if ((json_array_size(p.changes) > 0 || p.renews) && carry_out(&p, &row, cancel, err) < 0) {
            return -1;
        }
    }
    if (vms_show(v, id, &vm, err) < 0) {
        return -1;
    }
    *ret = json_object();
    json_put(*ret, "vm", vm);
    json_put(*ret, "changes", json_incref(p.changes));
    return 0;
}

static bool asks_for_something(const json_t *params)
{
    static const char *const fields[] = {
        "name",      "description",        "labels",           "unlabel",
        "vcpus",     "memory_mib",         "disk_bytes",       "restart",
        "autostart", "auto_stop_after_ms", "expires_after_ms", "net"};

    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        const json_t *value = json_object_get(params, fields[i]);

        if (value && !json_is_null(value)) {
            return true;
        }
    }
    return false;
}

int vms_set(struct vms *v, const char *ref, const json_t *params, struct cancel *cancel,
            json_t **ret, struct err *err)
{
    struct vm_token *token;
    char id[ID_SIZE];
    int r;

    if (!asks_for_something(params)) {
        err_set(err, ERR_INVALID, "nothing to set");
        return err_hint(err, "for example: banger vm set VM --memory 2G");
    }
    if (vm_acquire(v, ref, "set", false, cancel, clock_mono_ms() + VM_TOKEN_WAIT_MS, &token, id,
                   err)) {
        return -1;
    }
    r = set_locked(v, id, params, cancel, ret, err);
    vm_locks_release(token);
    return r;
}
