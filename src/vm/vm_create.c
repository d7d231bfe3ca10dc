/* Creating a VM: resolve with no lock, reserve under the create lock, build under its token. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"
#include "codec/api.h"
#include "disk/data_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define SESSION_START_MS 30000

/* A connection that holds a VM's main session, or another session. Two references: the
 * connection's hook, and the operation while it runs. */
struct vm_hold {
    struct vms *vms;
    struct op_registry *ops;
    char op_id[ID_SIZE]; /* written before the hook is set */

    /* table lock */
    int refs;
    bool closed, done;
    char vm_id[ID_SIZE], session_id[ID_SIZE]; /* once done */
    bool remove;                              /* the VM goes with the connection */
};

struct create {
    struct vms *v;
    json_t *params;
    struct vm_hold *hold; /* a reference, or NULL */
    struct vm_row row;
    const struct vmm_ops *vmm;
    bool named; /* the row has its name */
    bool start;
    struct vm_fork fork; /* what it is forked from */
    bool claims;         /* it takes over the pool's member, whose id it has */
    bool unfit;          /* which could not be used */
    bool spoilt;         /* the template's disk was not what it had been */
    char session_id[ID_SIZE];
};

static struct vm_hold *hold_new(struct vms *v, int refs)
{
    struct vm_hold *h = x_calloc(1, sizeof(*h));

    h->vms = v;
    h->refs = refs;
    return h;
}

static void hold_put(struct vm_hold *h)
{
    int refs;

    if (!h) {
        return;
    }
    leaf_lock(&h->vms->table);
    refs = --h->refs;
    leaf_unlock(&h->vms->table);
    if (refs == 0) {
        free(h);
    }
}

void vms_hold_closed(void *arg)
{
    struct vm_hold *h = arg;
    struct vms *v = h->vms;
    struct err ignored; /* what is gone need not be ended */
    bool done, closing;

    leaf_lock(&v->table);
    h->closed = true;
    done = h->done;
    closing = v->closing;
    leaf_unlock(&v->table);
    if (!done) {
        (void)op_request_cancel(h->ops, h->op_id, &ignored);
    } else if (closing) {
        /* It is us who ended the connection: the client may go on with the next daemon. */
    } else if (h->remove) {
        vm_run_worker(v, h->vm_id, vm_auto_remove);
    } else if (h->session_id[0]) {
        session_let_go(v->sessions, h->vm_id, h->session_id);
    }
    hold_put(h);
}

/* ---- checks, before anything is made ---- */

int vm_check_name(const char *name, struct err *err)
{
    if (name && !str_is_dns_label(name)) {
        _cleanup_free_ char *safe = str_escape(name, strlen(name), 63);

        err_set(err, ERR_INVALID, "'%s' is not a name for a VM", safe);
        return err_hint(err, "use 1 to 63 of a-z 0-9 and -, with no - at either end");
    }
    return 0;
}

/* NAME=value, the name not empty. */
static int check_env(const json_t *main, struct err *err)
{
    const json_t *value;
    size_t i;

    json_array_foreach (json_object_get(main, "env"), i, value) {
        _cleanup_free_ char *entry = NULL;
        size_t len;

        if (json_bytes_get(value, &entry, &len) < 0 || !strchr(entry, '=') || entry[0] == '=') {
            /* The entry itself may be a secret. */
            return err_set(err, ERR_INVALID, "environment entry %zu is not NAME=value", i + 1);
        }
    }
    return 0;
}

static int check_cwd(const json_t *main, struct err *err)
{
    _cleanup_free_ char *cwd = NULL;
    size_t len;

    if (json_object_get(main, "cwd") &&
        (json_bytes_get(json_object_get(main, "cwd"), &cwd, &len) < 0 || cwd[0] != '/')) {
        err_set(err, ERR_INVALID, "the working directory must be an absolute path");
        return err_hint(err, "it is one in the guest, such as --workdir /root");
    }
    return 0;
}

static int check_spec(const json_t *spec, struct err *err)
{
    if (json_array_size(json_object_get(spec, "command")) == 0 && !json_object_get(spec, "tty")) {
        err_set(err, ERR_INVALID, "no command given");
        return err_hint(err, "put the command after --, for example: banger run -- uname -a");
    }
    return check_env(spec, err) < 0 ? -1 : check_cwd(spec, err);
}

/* The name that was asked for, else one that the kernel has. */
static void copy_kernel_name(struct vm_row *row, const char *ref, const struct artifact_row *kernel)
{
    _cleanup_json_ json_t *names = NULL;
    struct err ignored; /* our own text */
    const char *name = ref;

    if (!name && json_parse(kernel->names, strlen(kernel->names), &names, &ignored) == 0) {
        name = json_string_value(json_array_get(names, 0));
    }
    (void)snprintf(row->kernel_name, sizeof(row->kernel_name), "%s", name ? name : kernel->version);
}

static int preflight(struct create *c, struct cancel *cancel, struct err *err)
{
    const struct vm_hook h = {.vms = c->v, .row = &c->row, .ops = c->vmm, .cancel = cancel};

    return vm_caps_create_preflight(c->v->params.capabilities, &h, err);
}

static int copy_policy(struct create *c, struct err *err)
{
    const json_t *p = c->params;
    struct vm_row *row = &c->row;
    struct vm_restart policy;

    if (vm_restart_parse(api_str(p, "restart"), &policy, err) < 0) {
        return -1;
    }
    (void)snprintf(row->restart, sizeof(row->restart), "%s", api_str(p, "restart"));
    row->autostart = api_flag(p, "autostart");
    row->auto_stop_after_ms = api_int(p, "auto_stop_after_ms");
    row->expires_after_ms = api_int(p, "expires_after_ms");
    memcpy(row->host_boot, c->v->boot_id, sizeof(row->host_boot));
    return vm_policy_check(row, err) ? 0 : -1;
}

static int resolve(struct create *c, struct err *err)
{
    _cleanup_artifact_row_ struct artifact_row image = {0}, kernel = {0};
    const json_t *p = c->params, *labels = json_object_get(p, "labels");
    const char *image_ref = api_str(p, "image") ?: c->v->default_image;
    const char *kernel_ref = api_str(p, "kernel") ?: c->v->default_kernel;
    const char *name = api_str(p, "name") ?: "";
    struct vm_row *row = &c->row;

    c->named = api_str(p, "name") != NULL;
    c->start = api_flag(p, "start");
    if (vm_check_name(api_str(p, "name"), err) < 0 ||
        vm_find_vmm(c->v, api_str(p, "vmm"), &c->vmm, err) < 0 ||
        (json_object_get(p, "main") && check_spec(json_object_get(p, "main"), err) < 0) ||
        image_find(c->v->params.images, STORE_IMAGE, image_ref, &image, err) < 0 ||
        kernel_find_default(c->v->params.images, kernel_ref, &kernel, err) < 0) {
        return -1;
    }
    id_generate_from(c->v->seams.random, row->id);
    row->state = VM_CREATED;
    (void)snprintf(row->reason, sizeof(row->reason), VM_REASON_CREATING);
    (void)snprintf(row->name, sizeof(row->name), "%s", name);
    (void)snprintf(row->image_name, sizeof(row->image_name), "%s", image_ref);
    memcpy(row->image_digest, image.digest, sizeof(row->image_digest));
    copy_kernel_name(row, kernel_ref, &kernel);
    memcpy(row->kernel_digest, kernel.digest, sizeof(row->kernel_digest));
    (void)snprintf(row->vmm, sizeof(row->vmm), "%s", c->vmm->name);
    row->vcpus = (unsigned)api_int(p, "vcpus");
    row->memory_mib = (uint64_t)api_int(p, "memory_mib");
    row->disk_bytes = (uint64_t)api_int(p, "disk_bytes") & ~4095ull;
    row->description = x_strdup(api_str(p, "description"));
    row->auto_remove = api_flag(p, "auto_remove");
    row->own_init = str_eq(api_str(p, "init"), VM_INIT_IMAGE);
    if (vm_choose_net(c->v, api_str(p, "net") ?: "auto", row, err) < 0) {
        return -1;
    }
    row->held = c->hold != NULL;
    row->exit_code = -1;
    row->labels = labels ? json_print(labels) : x_strdup("{}");
    return copy_policy(c, err);
}

/* ---- reserve ---- */

bool vm_name_taken(struct vms *v, const char *name)
{
    bool taken;

    leaf_lock(&v->table);
    taken = vm_find_name_locked(v, name) != NULL;
    leaf_unlock(&v->table);
    return taken;
}

/* All that is going to be made, in one commit with the row. */
static void enter_objects(struct create *c)
{
    struct vm_object dir = {.kind = OBJECT_STATE_DIR};

    (void)snprintf(dir.name, sizeof(dir.name), "%s", c->row.id);
    vm_row_put_object(&c->row, &dir);
    if (c->start) {
        c->row.incarnation = 1;
        vm_row_enter_run(&c->row);
        c->row.incarnation = 0;
    }
}

void vm_name_and_date(struct vms *v, struct vm_row *row, bool named)
{
    while (row->name[0] == '\0' || (!named && vm_name_taken(v, row->name))) {
        vm_generate_name(v->seams.random, row->name);
    }
    row->created_ms = row->state_since_ms = v->seams.clock->real_ms();
    vm_policy_set_expiry(row, row->created_ms);
}

/* The name is checked, and taken by the row, in one hold of the create lock. */
static int reserve(struct create *c, struct err *err)
{
    struct vms *v = c->v;
    int r = 0;

    if (vm_take_slot(v, &c->row, err) < 0) {
        return -1;
    }
    create_lock(&v->create);
    vm_name_and_date(v, &c->row, c->named);
    enter_objects(c);
    r = store_vm_insert(v->params.store, &c->row, err);
    if (r < 0) {
        vm_give_slot(v, &c->row);
        c->row.net_slot = 0;
    } else {
        leaf_lock(&v->table);
        (void)vm_add_locked(v, &c->row);
        vm_changed_locked(v);
        leaf_unlock(&v->table);
    }
    create_unlock(&v->create);
    return r;
}

/* ---- build ---- */

/* In the place of a disk that nobody reads. */
static int make_hole(int dir_fd, uint64_t bytes, struct err *err)
{
    _cleanup_close_ int fd =
        openat(dir_fd, "data.ext4", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int r = FAULT_POINT("copy");

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot make the VM's data disk");
    }
    return fd < 0 || ftruncate(fd, (off_t)bytes) < 0
               ? err_set_errno(err, ERR_IO, errno, "cannot make the VM's data disk")
               : 0;
}

/* One that has changed while it was copied is not what was compared with its digest. */
static int copy_disk(struct create *c, int dir_fd, struct err *err)
{
    const struct vm_fork *f = &c->fork;
    int r = data_disk_copy(f->disk_fd, dir_fd, "data.ext4", err);
    struct stat now;

    if (fstat(f->disk_fd, &now) == 0 && now.st_size == f->disk_bytes &&
        now.st_mtim.tv_sec == f->disk_mtime.tv_sec &&
        now.st_mtim.tv_nsec == f->disk_mtime.tv_nsec) {
        return r;
    }
    c->spoilt = true;
    return err_set(err, ERR_IO, "its disk has changed while it was copied");
}

static int make_disk(struct create *c, struct cancel *cancel, struct err *err)
{
    struct vms *v = c->v;
    _cleanup_close_ int vms_fd = -1, dir = -1;

    vms_fd = fs_open_dir(v->params.state_fd, "vms", true);
    dir = vms_fd < 0 ? vms_fd : fs_open_dir(vms_fd, c->row.id, true);
    if (dir < 0) {
        return err_set_errno(err, ERR_IO, dir, "cannot make the VM's directory");
    }
    CRASH_POINT("create.dir");
    if (!(c->vmm->features & VMM_BOOTS_KERNEL)) {
        return make_hole(dir, c->row.disk_bytes, err);
    }
    return c->fork.disk_fd >= 0 ? copy_disk(c, dir, err)
                                : data_disk_create(v->params.cache_fd, dir, "data.ext4",
                                                   c->row.disk_bytes, v->seams.spawn, cancel, err);
}

/* All that a VM is: on success it runs, if it is to be started. On failure what was made is for the
 * caller to remove. */
static int make(struct create *c, const struct vm_boot_params *params, struct err *err)
    REQUIRES(rank_vm)
{
    if (params->op) {
        op_stage(params->op, "disk");
    }
    if (make_disk(c, params->cancel, err) < 0) {
        return -1;
    }
    CRASH_POINT("create.disk");
    return c->start ? vm_boot(c->v, c->row.id, params, err)
                    : vm_set_state(c->v, c->row.id, VM_CREATED, "", err);
}

/* In one step with the reservation of what it may write. */
static int admit(struct create *c, struct vm_promise *promise, struct err *err)
{
    if (vm_admit_create(c->v, &c->row, c->vmm, c->start, c->fork.disk_fd, promise, err) < 0 ||
        reserve(c, err) < 0) {
        return -1;
    }
    CRASH_POINT("create.reserved");
    return 0;
}

int vm_make_hidden(struct vms *v, struct vm_row *row, const struct vm_boot_params *params,
                   struct err *err)
{
    _cleanup_(vm_promise_done) struct vm_promise promise = {0};
    struct create c = {.v = v, .row = *row, .named = true, .start = true, .fork = VM_FORK_NONE};
    struct err undo;
    int r;

    if (params->fork) {
        c.fork = *params->fork; /* borrowed */
    }
    if (vm_find_vmm(v, row->vmm, &c.vmm, err) < 0) {
        return -1;
    }
    r = admit(&c, &promise, err);
    if (r == 0 && make(&c, params, err) < 0) {
        if (vm_remove(v, row->id, &undo) < 0) {
            err_append(err, "; and the undo failed: %s", undo.message);
        }
        r = -1;
    }
    *row = c.row; /* with its objects */
    return r;
}

static int start_main(struct create *c, struct op *op, struct err *err)
{
    struct vms *v = c->v;
    _cleanup_vm_run_ struct vm_run *run = NULL;
    struct vm_entry *e;

    op_stage(op, "session");
    run = vm_run_get(v, c->row.id, err);
    if (!run || v->seams.start_session(v->sessions,
                                       &(struct session_start_params){
                                           .link = run->link,
                                           .vm_id = c->row.id,
                                           .spec = json_object_get(c->params, "main"),
                                           .drain = !c->hold,
                                           .main = true,
                                           .hold = c->hold != NULL,
                                           .cancel = op_cancel(op),
                                           .deadline_ms = clock_mono_ms() + SESSION_START_MS},
                                       c->session_id, err) < 0) {
        return -1;
    }
    leaf_lock(&v->table);
    e = vm_find_locked(v, c->row.id);
    memcpy(e->main_session, c->session_id, ID_SIZE);
    leaf_unlock(&v->table);
    return 0;
}

/* The connection may have ended while the last step ran: then nobody wants the VM. */
static int finish_hold(struct create *c, struct err *err)
{
    struct vm_hold *h = c->hold;
    bool closed;

    if (!h) {
        return 0;
    }
    leaf_lock(&c->v->table);
    closed = h->closed;
    h->done = !closed;
    h->remove = c->row.auto_remove;
    memcpy(h->vm_id, c->row.id, ID_SIZE);
    memcpy(h->session_id, c->session_id, ID_SIZE);
    leaf_unlock(&c->v->table);
    return closed ? err_set_errno(err, ERR_CANCELLED, ECANCELED, "the client went away") : 0;
}

static int build(struct create *c, struct op *op, struct err *err) REQUIRES(rank_vm)
{
    const struct vm_boot_params params = {.op = op,
                                          .cancel = op_cancel(op),
                                          .fork = c->fork.id[0] ? &c->fork : NULL,
                                          .memory_fd = -1};

    if ((c->claims ? vm_pool_wake(c->v, &c->row, op, err) : make(c, &params, err)) < 0) {
        c->unfit = c->claims;
        return -1;
    }
    if (c->start && json_object_get(c->params, "main") && start_main(c, op, err) < 0) {
        return -1;
    }
    CRASH_POINT("create.done");
    return finish_hold(c, err);
}

static int result_json(struct create *c, json_t **ret_result, struct err *err)
{
    json_t *vm = NULL, *session = NULL, *result;

    if (vms_show(c->v, c->row.id, &vm, err) < 0) {
        return -1;
    }
    if (c->session_id[0] &&
        session_show(c->v->sessions, c->row.id, c->session_id, &session, err) < 0) {
        json_decref(vm);
        return -1;
    }
    result = json_object();
    json_put(result, "vm", vm);
    json_put(result, "session", session ? session : json_null());
    *ret_result = result;
    return 0;
}

/* A detached auto_remove VM whose command was over before anybody noted its session. */
static void check_early_end(struct create *c)
{
    if (c->row.auto_remove && !c->hold && c->session_id[0] &&
        session_count_running(c->v->sessions, c->row.id) == 0) {
        vm_run_worker(c->v, c->row.id, vm_auto_remove);
    }
}

static int create_with_token(struct create *c, struct op *op, json_t **ret_result, struct err *err)
    REQUIRES(rank_vm)
{
    _cleanup_(vm_promise_done) struct vm_promise promise = {0};
    struct err undo;

    if (c->claims && vm_pool_claim(c->v, &c->row, c->named, err) < 0) {
        c->unfit = err->code != ERR_ALREADY_EXISTS;
        return -1;
    }
    if (!c->claims && admit(c, &promise, err) < 0) {
        return -1;
    }
    op_set_target(op, c->row.name);
    if (build(c, op, err) < 0 || result_json(c, ret_result, err) < 0) {
        if (vm_remove(c->v, c->row.id, &undo) < 0) {
            err_append(err, "; and the undo failed: %s", undo.message);
        }
        return -1;
    }
    check_early_end(c);
    return 0;
}

/* What it is to be forked from, and why from nothing. */
static void find_template(struct create *c, struct cancel *cancel)
{
    const struct vm_templates *t = &c->v->templates;
    char *why = c->row.start_why;

    /* One that is not going to be created takes nothing. */
    if (!c->start || !t->take || !(c->vmm->features & VMM_RESTORES) ||
        (c->named && vm_name_taken(c->v, c->row.name))) {
        return;
    }
    if (api_flag(c->params, "cold")) {
        (void)snprintf(why, STORE_WHY_SIZE, "it was to boot (cold)");
        return;
    }
    t->take(t->arg, &c->row, cancel, &c->fork, why);
}

/* Also when it was to be a fork, and the template was broken. */
static void tell_wanted(const struct create *c)
{
    const struct vm_templates *t = &c->v->templates;
    bool booted = !c->fork.id[0];
    struct vm_entry *e;

    if (!c->start || !t->take || !(c->vmm->features & VMM_RESTORES) ||
        api_flag(c->params, "cold")) {
        return;
    }
    leaf_lock(&c->v->table);
    e = vm_find_locked(c->v, c->row.id);
    booted |= e && !e->row.template_id[0];
    leaf_unlock(&c->v->table);
    if (booted) {
        t->wanted(t->arg, &c->row);
    }
}

static int create_once(struct create *c, struct op *op, json_t **ret_result, struct err *err)
{
    struct vm_token *token;
    int r;

    if (vm_locks_acquire(c->v->locks, c->row.id, "create", op_cancel(op), -1, &token, err)) {
        return -1;
    }
    r = create_with_token(c, op, ret_result, err);
    vm_locks_release(token);
    return r;
}

/* As it was before it was created. */
static void begin_again(struct create *c, const char *id)
{
    memcpy(c->row.id, id, ID_SIZE);
    c->row.state = VM_CREATED;
    c->row.incarnation = 0;
    c->row.template_id[0] = '\0';
    c->row.object_count = 0;
    c->row.net_slot = 0; /* it went with the row */
}

/* When there is something wrong with the template's disk it boots. */
static int create_new(struct create *c, struct op *op, json_t **ret_result, struct err *err)
{
    const struct vm_templates *t = &c->v->templates;
    char id[ID_SIZE];

    if (create_once(c, op, ret_result, err) == 0) {
        return 0;
    }
    if (!c->spoilt || err->code == ERR_CANCELLED) {
        return -1;
    }
    t->broken(t->arg, c->fork.id, err);
    (void)snprintf(c->row.start_why, sizeof(c->row.start_why), "template %.12s: %.120s", c->fork.id,
                   err->message);
    vm_fork_done(&c->fork);
    id_generate_from(c->v->seams.random, id);
    begin_again(c, id);
    return create_once(c, op, ret_result, err);
}

/* By the pool's member that is ready; when that is not fit for it, of its own. */
static int create_any(struct create *c, struct op *op, json_t **ret_result, struct err *err)
{
    char id[ID_SIZE];
    struct err left;

    if (!c->fork.member[0]) {
        return create_new(c, op, ret_result, err);
    }
    memcpy(id, c->row.id, ID_SIZE);
    memcpy(c->row.id, c->fork.member, ID_SIZE);
    c->claims = true;
    if (create_once(c, op, ret_result, err) == 0) {
        return 0;
    }
    /* Unless it became the VM, which is gone then, it is nobody's. */
    if (vms_pool_remove(c->v, c->fork.member, &left) < 0) {
        log_error("template %.12s: a member of its pool: %s", c->fork.id, left.message);
    }
    if (!c->unfit || err->code == ERR_CANCELLED) {
        return -1;
    }
    log_warn("a member of template %.12s's pool could not be used: %s", c->fork.id, err->message);
    c->claims = false;
    begin_again(c, id);
    (void)snprintf(c->row.start_why, sizeof(c->row.start_why), "template %.12s", c->fork.id);
    return create_new(c, op, ret_result, err);
}

static int create_run(struct op *op, void *arg, json_t **ret_result, struct err *err)
{
    struct create *c = arg;
    int r = -1;

    if (resolve(c, err) == 0 && preflight(c, op_cancel(op), err) == 0) {
        find_template(c, op_cancel(op));
        r = create_any(c, op, ret_result, err);
        if (r == 0) {
            tell_wanted(c);
        }
    }
    vm_fork_done(&c->fork);
    hold_put(c->hold);
    vm_row_done(&c->row);
    json_decref(c->params);
    free(c);
    return r;
}

int vms_create_begin(struct vms *v, struct op_registry *ops, const json_t *params,
                     char ret_op[ID_SIZE], struct vm_hold **ret_hold, struct err *err)
{
    struct create *c = x_calloc(1, sizeof(*c));
    struct vm_hold *hold = ret_hold ? hold_new(v, 2) : NULL;

    c->v = v;
    c->params = json_deep_copy(params);
    c->hold = hold;
    c->fork = VM_FORK_NONE;
    if (op_begin(ops, api_str(params, "name") ?: "", create_run, c, ret_op, err) < 0) {
        json_decref(c->params);
        free(hold);
        free(c);
        return -1;
    }
    if (hold) {
        hold->ops = ops;
        memcpy(hold->op_id, ret_op, ID_SIZE);
        *ret_hold = hold;
    }
    return 0;
}

int vms_resolve_create(struct vms *v, const json_t *params, struct cancel *cancel,
                       struct vm_row *ret_row, struct err *err)
{
    struct create c = {.v = v, .params = (json_t *)params, .fork = VM_FORK_NONE};

    if (resolve(&c, err) < 0 || preflight(&c, cancel, err) < 0) {
        vm_row_done(&c.row);
        return -1;
    }
    *ret_row = c.row;
    return 0;
}

static struct vm_hold *hold_of_session(struct vms *v, const char *id, const char *session_id)
{
    struct vm_hold *h = hold_new(v, 1);

    h->done = true;
    memcpy(h->vm_id, id, ID_SIZE);
    memcpy(h->session_id, session_id, ID_SIZE);
    return h;
}

int vms_session_start(struct vms *v, const char *ref, const json_t *spec, struct cancel *cancel,
                      json_t **ret_session, struct vm_hold **ret_hold, struct err *err)
{
    _cleanup_vm_run_ struct vm_run *run = NULL;
    char id[ID_SIZE], session_id[ID_SIZE];

    if (check_spec(spec, err) < 0 || vms_resolve(v, ref, id, err) < 0) {
        return -1;
    }
    run = vm_run_get_up(v, id, cancel, err);
    if (!run || v->seams.start_session(v->sessions,
                                       &(struct session_start_params){
                                           .link = run->link,
                                           .vm_id = id,
                                           .spec = spec,
                                           .hold = ret_hold != NULL,
                                           .cancel = cancel,
                                           .deadline_ms = clock_mono_ms() + SESSION_START_MS},
                                       session_id, err) < 0) {
        return -1;
    }
    if (session_show(v->sessions, id, session_id, ret_session, err) < 0) {
        return -1;
    }
    if (ret_hold) {
        *ret_hold = hold_of_session(v, id, session_id);
    }
    return 0;
}

int vms_session_hold(struct vms *v, const char *ref, const char *session, struct cancel *cancel,
                     json_t **ret_session, struct vm_hold **ret_hold, struct err *err)
{
    char id[ID_SIZE], session_id[ID_SIZE];
    struct vm_hold *h;
    struct vm_entry *e;

    if (vms_resolve_listed(v, ref, cancel, id, err) < 0 ||
        session_take_hold(v->sessions, id, session, session_id, err) < 0 ||
        session_show(v->sessions, id, session_id, ret_session, err) < 0) {
        return -1;
    }
    h = hold_of_session(v, id, session_id);
    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e && str_eq(e->main_session, session_id)) {
        e->orphaned = false;
        h->remove = e->row.auto_remove && e->row.held;
    }
    leaf_unlock(&v->table);
    *ret_hold = h;
    return 0;
}
