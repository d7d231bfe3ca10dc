/* Machines for templates (snapshot/): what they have in common with VMs, and how one is saved. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/spawn.h"
#include "base/str.h"
#include "base/test_point.h"
#include "codec/frame.h"
#include "guest/report.h"
#include "sys/reflink.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* To be counted up when what is in a saved guest changes without any of its ingredients. */
#define FORMAT 1
#define REHEARSE_MS 30000
#define SYNC_MS 60000
#define SAVE_MS 60000
#define REPORT_MAX 65536

void vm_fork_done(struct vm_fork *f)
{
    close_p(&f->memory_fd);
    close_p(&f->devices_fd);
    close_p(&f->disk_fd);
    *f = VM_FORK_NONE;
}

void vms_set_templates(struct vms *v, const struct vm_templates *templates)
{
    v->templates = *templates;
}

/* ---- ingredients ---- */

/* Leaf 1's ebx is of the core that we run on, and bit 27 of ecx of the kernel. */
void vm_describe_cpu(struct vm_cpu *ret)
{
    unsigned r[12] = {0}, f[8] = {0};
    char features[SHA256_HEX_SIZE];

    for (unsigned i = 0; i < 3; i++) {
        (void)__get_cpuid(0x80000002 + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
    }
    *ret = (struct vm_cpu){0};
    memcpy(ret->name, r, sizeof(r));
    (void)__get_cpuid(1, &f[0], &f[1], &f[2], &f[3]);
    (void)__get_cpuid_count(7, 0, &f[4], &f[5], &f[6], &f[7]);
    f[1] = 0;
    f[2] &= ~(1U << 27);
    sha256_of(f, sizeof(f), features);
    memcpy(ret->features, features, sizeof(ret->features) - 1);
}

/* The VMM by its file: asking it for its version takes as long as a restore. */
static int put_vmm(json_t *o, const struct vmm_ops *ops, struct err *err)
{
    _cleanup_free_ char *path = spawn_find_program(ops->program), *file = NULL;
    struct stat st;

    if (!path || stat(path, &st) < 0) {
        return err_set(err, ERR_UNSUPPORTED, "'%s' is not installed", ops->program);
    }
    file = x_asprintf("%s %lld %lld.%09ld", path, (long long)st.st_size,
                      (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    json_put_str(o, "vmm", ops->name);
    json_put_str(o, "vmm_file", file);
    return 0;
}

/* What the machine is made of, and its kernel's command line but for words of the VM's own. */
static int put_machine(json_t *o, struct vms *v, const struct vm_row *row,
                       const struct vmm_ops *ops, enum vmm_accel accel, struct err *err)
{
    struct vm_machine m = {.spec = {.accel = accel,
                                    .vcpus = row->vcpus,
                                    .memory_mib = row->memory_mib,
                                    .kernel_fd = -1,
                                    .initramfs_fd = -1,
                                    .state_fd = -1,
                                    .tap_fd = vm_has_cards(v) ? 0 : -1}};
    _cleanup_free_ char *machine = NULL, *all = NULL;
    char cmdline[CMDLINE_SIZE], digest[SHA256_HEX_SIZE];

    if (vm_cmdline_of(v, accel, VM_TSC_ANY, &m, cmdline, err) < 0) {
        return -1;
    }
    machine = ops->describe(&m.spec);
    all = x_asprintf("%s%s", machine, cmdline);
    sha256_of(all, strlen(all), digest);
    json_put_str(o, "accel", vmm_accel_name(accel));
    json_put(o, "machine", json_stringn(digest, 16));
    return 0;
}

/* What has not been seen to work is left alone. */
static int check_supported(const struct vms *v, const struct vmm_ops *ops, struct err *err)
{
    if (!(ops->features & VMM_RESTORES)) {
        err_set(err, ERR_UNSUPPORTED, "VMs of '%s' cannot be saved", ops->name);
        return err_hint(err, "use --vmm %s", v->params.vmm->name);
    }
    return 0;
}

int vms_ingredients(struct vms *v, const struct vm_row *row, struct cancel *cancel, json_t **ret,
                    struct err *err)
{
    _cleanup_json_ json_t *o = json_object();
    char agent[SHA256_HEX_SIZE];
    const struct vmm_ops *ops;
    enum vmm_accel accel;

    if (vm_find_vmm(v, row->vmm, &ops, err) < 0 || check_supported(v, ops, err) < 0 ||
        vm_accel_know(v, ops, row->kernel_digest, cancel, &accel, err) < 0) {
        return -1;
    }
    if (accel != VMM_ACCEL_TCG) {
        err_set(err, ERR_UNSUPPORTED, "no forks under KVM yet");
        return err_hint(err, "nothing is to be done: VMs boot");
    }
    if (image_agent_digest(v->params.images, agent, err) < 0 || put_vmm(o, ops, err) < 0 ||
        put_machine(o, v, row, ops, accel, err) < 0) {
        return -1;
    }
    json_put(o, "cpu", json_string(v->cpu.name) ?: json_string("?"));
    json_put_str(o, "cpu_features", v->cpu.features);
    json_put_str(o, "image", row->image_digest);
    json_put_str(o, "kernel", row->kernel_digest);
    json_put(o, "agent", json_stringn(agent, 16));
    json_put_int(o, "agent_protocol", FRAME_PROTO_MAX);
    json_put_int(o, "vcpus", row->vcpus);
    json_put_int(o, "memory_mib", (long long)row->memory_mib);
    json_put_int(o, "disk_bytes", (long long)row->disk_bytes);
    json_put_str(o, "init", vm_init_name(row));
    json_put_int(o, "format", FORMAT);
    *ret = STEAL_PTR(o);
    return 0;
}

/* ---- saving ---- */

void vm_hidden_row(struct vms *v, const struct vm_row *like, enum vm_role role, struct vm_row *row)
{
    struct err none;

    *row = (struct vm_row){
        .role = role,
        .state = VM_CREATED,
        .vcpus = like->vcpus,
        .memory_mib = like->memory_mib,
        .disk_bytes = like->disk_bytes,
        .own_init = like->own_init,
        .exit_code = -1,
        .labels = x_strdup("{}"),
        .description = x_strdup(""),
    };
    id_generate_from(v->seams.random, row->id);
    (void)snprintf(row->name, sizeof(row->name), "%s", row->id);
    (void)snprintf(row->reason, sizeof(row->reason), VM_REASON_CREATING);
    (void)snprintf(row->restart, sizeof(row->restart), VM_RESTART_NO);
    (void)vm_choose_net(v, "auto", row, &none); /* takes what there is */
    memcpy(row->image_name, like->image_name, sizeof(row->image_name));
    memcpy(row->image_digest, like->image_digest, sizeof(row->image_digest));
    memcpy(row->kernel_name, like->kernel_name, sizeof(row->kernel_name));
    memcpy(row->kernel_digest, like->kernel_digest, sizeof(row->kernel_digest));
    memcpy(row->vmm, like->vmm, sizeof(row->vmm));
    memcpy(row->host_boot, v->boot_id, sizeof(row->host_boot));
}

static int ask(struct vm_run *run, const char *command, struct cancel *cancel, struct err *err)
{
    const struct guest_report report = {.sessions = run->vms->sessions,
                                        .link = run->link,
                                        .vm_id = run->vm_id,
                                        .what = FRAME_FILES_STATS,
                                        .command = command,
                                        .cancel = cancel,
                                        .deadline_ms = clock_mono_ms() + REHEARSE_MS};
    _cleanup_buf_ struct buf text;

    buf_init(&text, REPORT_MAX);
    return guest_report_read(&report, &text, err);
}

/* A report is what every agent can give; a command is what users run, but an image may have none.
 */
int vm_rehearse(struct vm_run *run, struct cancel *cancel, struct err *err)
{
    struct err none;

    if (ask(run, NULL, cancel, err) < 0) {
        return -1;
    }
    if (ask(run, "true", cancel, &none) < 0 && none.code != ERR_GUEST) {
        *err = none;
        return -1;
    }
    return 0;
}

static int copy_disk(struct vms *v, const char *id, int to_fd, struct err *err)
{
    _cleanup_free_ char *path = x_asprintf("vms/%s/data.ext4", id);
    _cleanup_close_ int fd = openat(v->params.state_fd, path, O_RDONLY | O_CLOEXEC);
    int r = fd < 0 ? -errno : reflink_or_copy(fd, to_fd);

    return r < 0 ? err_set_errno(err, ERR_IO, r, "cannot copy the template's disk") : 0;
}

/* Its port is quiet before it is saved: its clones' daemons begin with a HELLO as this one did. */
static int save(struct vms *v, struct vm_run *run, struct op *op, const struct vm_saved *saved,
                struct err *err)
{
    struct cancel *cancel = op_cancel(op);

    op_stage(op, "rehearse");
    /* Its clones find it in their memory. */
    if (vm_rehearse(run, cancel, err) < 0 ||
        guest_link_sync(run->link, cancel, clock_mono_ms() + SYNC_MS, err) < 0) {
        return -1;
    }
    op_stage(op, "save");
    guest_link_end(run->link, NULL);
    if (run->ops->save(run->vmm, saved->devices_fd, cancel, clock_mono_ms() + SAVE_MS, err) < 0) {
        return -1;
    }
    CRASH_POINT("template.saved");
    return copy_disk(v, run->vm_id, saved->disk_fd, err);
}

static int make_and_save(struct vms *v, struct vm_row *row, struct op *op, struct vm_saved *saved,
                         struct err *err) REQUIRES(rank_vm)
{
    const struct vm_boot_params params = {
        .op = op, .cancel = op_cancel(op), .memory_fd = saved->memory_fd};
    struct vm_run *run;
    struct err undo;
    int r;

    if (vm_make_hidden(v, row, &params, err) < 0) {
        return -1;
    }
    run = vm_run_get(v, row->id, err);
    r = run ? save(v, run, op, saved, err) : -1;
    vm_run_put(run);
    /* Its process must be gone before its memory can be sealed. */
    if (vm_remove(v, row->id, &undo) < 0) {
        r = r < 0 ? err_append(err, "; and the undo failed: %s", undo.message) : (*err = undo, -1);
    }
    return r;
}

/* Of those whose undoing failed. */
static void remove_leftovers(struct vms *v)
{
    char(*ids)[ID_SIZE];
    size_t count = 0;

    leaf_lock(&v->table);
    list_for_each (it, &v->entries) {
        count += LIST_ENTRY(it, struct vm_entry, node)->row.role == VM_ROLE_TEMPLATE;
    }
    ids = x_calloc(count + 1, sizeof(*ids));
    count = 0;
    list_for_each (it, &v->entries) {
        const struct vm_row *row = &LIST_ENTRY(it, struct vm_entry, node)->row;

        if (row->role == VM_ROLE_TEMPLATE) {
            memcpy(ids[count++], row->id, ID_SIZE);
        }
    }
    leaf_unlock(&v->table);
    for (size_t i = 0; i < count; i++) {
        struct vm_token *token;
        struct err err;

        if (vm_locks_acquire(v->locks, ids[i], "template", NULL, clock_mono_ms(), &token, &err)) {
            continue;
        }
        if (vm_remove(v, ids[i], &err) < 0 && err.code != ERR_NOT_FOUND) {
            log_error("a template's machine is left: %s", err.message);
        }
        vm_locks_release(token);
    }
    free(ids);
}

int vms_save_new(struct vms *v, const struct vm_row *like, struct op *op, struct vm_saved *saved,
                 struct err *err)
{
    _cleanup_vm_row_ struct vm_row row;
    struct vm_token *token;
    int r;

    remove_leftovers(v);
    vm_hidden_row(v, like, VM_ROLE_TEMPLATE, &row);
    saved->memory_fd = memfd_create("banger-template", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (saved->memory_fd < 0 || ftruncate(saved->memory_fd, (off_t)row.memory_mib << 20) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot make the template's memory");
    }
    r = vm_locks_acquire(v->locks, row.id, "template", op_cancel(op), -1, &token, err);
    if (r == 0) {
        r = make_and_save(v, &row, op, saved, err);
        vm_locks_release(token);
    }
    return r == 0 ? 0 : -1;
}
