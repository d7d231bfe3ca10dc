/* What a machine boots from: kernel, initramfs, the image's root disk and the VM's data disk. */
#include "vm/capability.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "vm/doctor.h"
#include "vm/vm_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 64
#define GROW_MS 30000
#define HELLO_MS 2000 /* of an agent that a new daemon has just greeted; ms are enough for one */

/* Until the machine has them. */
struct disks {
    int kernel_fd, initramfs_fd, root_fd, data_fd;
};

static void disks_free(struct disks *d)
{
    if (d) {
        close_p(&d->kernel_fd);
        close_p(&d->initramfs_fd);
        close_p(&d->root_fd);
        close_p(&d->data_fd);
        free(d);
    }
}
DEFINE_CLEANUP(struct disks *, disks_free);

static void data_disk_path(const char *id, char ret_path[PATH_SIZE])
{
    (void)snprintf(ret_path, PATH_SIZE, "vms/%s/data.ext4", id);
}

static int find_data_disk(const struct vm_hook *h, struct err *err)
{
    char path[PATH_SIZE];
    struct stat st;

    data_disk_path(h->row->id, path);
    if ((h->ops->features & VMM_BOOTS_KERNEL) &&
        fstatat(h->vms->params.state_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return err_set_errno(err, ERR_IO, errno, "the VM's data disk cannot be opened");
    }
    return 0;
}

/* To what vm.set has made of its size; the agent grows the filesystem, when it is started if not
 * now. */
static int grow(int fd, uint64_t bytes, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || ((uint64_t)st.st_size < bytes && ftruncate(fd, (off_t)bytes) < 0)) {
        return err_set_errno(err, ERR_IO, errno, "the VM's data disk cannot be grown");
    }
    return 0;
}

static int open_data_disk(const struct vm_hook *h, int *ret_fd, struct err *err)
{
    char path[PATH_SIZE];

    data_disk_path(h->row->id, path);
    *ret_fd = openat(h->vms->params.state_fd, path, O_RDWR | O_CLOEXEC);
    return *ret_fd < 0 ? err_set_errno(err, ERR_IO, errno, "the VM's data disk cannot be opened")
                       : 0;
}

static int open_disks(const struct vm_hook *h, struct err *err)
{
    const struct vms_params *p = &h->vms->params;
    const struct vm_row *row = h->row;
    _cleanup_(disks_free_p) struct disks *d = NULL;

    if (!(h->ops->features & VMM_BOOTS_KERNEL)) {
        return 0;
    }
    d = x_calloc(1, sizeof(*d));
    *d = (struct disks){-1, -1, -1, -1};
    if (kernel_open(p->images, row->kernel_digest, &d->kernel_fd, &d->initramfs_fd, err) < 0 ||
        image_open_disk(p->images, row->image_digest, &d->root_fd, err) < 0) {
        return -1;
    }
    if (open_data_disk(h, &d->data_fd, err) < 0 || grow(d->data_fd, row->disk_bytes, err) < 0) {
        return -1;
    }
    *h->state = STEAL_PTR(d);
    return 0;
}

static int add_disks(const struct vm_hook *h, struct vm_machine *m, struct err *err)
{
    const struct disks *d = *h->state;

    (void)err;
    if (d) {
        m->spec.kernel_fd = d->kernel_fd;
        m->spec.initramfs_fd = d->initramfs_fd;
        m->spec.root_disk_fd = d->root_fd;
        m->spec.data_disk_fd = d->data_fd;
        /* For the agent: a data disk that is missing is an error, not a reason to use memory. */
        vm_machine_add_word(m, "banger.data=disk");
    }
    return 0;
}

static int close_disks(void *state, struct err *err)
{
    (void)err;
    disks_free(state);
    return 0;
}

static int machine_has_them(const struct vm_hook *h, struct err *err)
{
    return close_disks(STEAL_PTR(*h->state), err);
}

/* The run whose disk can grow as it is, or NULL. */
static struct vm_run *get_growing(struct vms *v, const char *id)
{
    struct err ignored;
    struct vm_run *run = vm_run_get_awake(v, id, &ignored);

    if (run) {
        guest_link_wait_decided(run->link, NULL, clock_mono_ms() + HELLO_MS);
    }
    if (run && (!run->ops->grow_disk || !guest_link_can_grow_disk(run->link))) {
        vm_run_put(run);
        return NULL;
    }
    return run;
}

static void plan_size(struct vm_plan *p)
{
    uint64_t wanted = (uint64_t)json_int(p->params, "disk_bytes", 0) & ~4095ull;
    json_t *change = vm_plan_number(p, "disk_bytes", p->row.disk_bytes, wanted);

    if (change && wanted < p->row.disk_bytes) {
        struct err err;

        err_set(&err, ERR_INVALID, "disk_bytes: a disk cannot shrink");
        err_hint(&err, "copy what matters into a new VM: banger cp -r");
        vm_plan_refuse(p, change, &err);
    } else if (change) {
        _cleanup_vm_run_ struct vm_run *run = get_growing(p->v, p->row.id);

        p->row.disk_bytes = wanted;
        if (run) {
            vm_plan_live(change);
        }
    }
}

/* The file, then the machine, then the filesystem. */
static int grow_live(const struct vm_hook *h, struct vm_run *run, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + GROW_MS;
    uint64_t bytes = h->row->disk_bytes;
    _cleanup_close_ int fd = -1;

    return open_data_disk(h, &fd, err) < 0 || grow(fd, bytes, err) < 0 ||
                   run->ops->grow_disk(run->vmm, bytes, h->cancel, deadline_ms, err) < 0
               ? -1
               : guest_link_grow_disk(run->link, bytes, h->cancel, deadline_ms, err);
}

static void note_size(struct vm_row *row, void *arg)
{
    (void)arg;
    row->run_disk_bytes = row->disk_bytes;
}

/* What fails here is done by the next start, and pending until then. */
static int apply_size(const struct vm_hook *h, const struct vm_row *was, struct vm_plan *p,
                      struct err *err)
{
    _cleanup_vm_run_ struct vm_run *run =
        h->row->disk_bytes > was->disk_bytes ? get_growing(h->vms, h->row->id) : NULL;
    struct err why;

    if (!run) {
        return 0;
    }
    if (grow_live(h, run, &why) == 0) {
        return vm_update(h->vms, h->row->id, note_size, NULL, err);
    }
    log_warn("VM %.12s '%s': its disk does not grow while it runs: %s", h->row->id, h->row->name,
             why.message);
    vm_plan_postpone(p, "disk_bytes", why.message);
    return 0;
}

static void add_stats(const struct vm_run *run, json_t *o)
{
    json_t *disk = NULL;
    char path[PATH_SIZE];
    struct stat st;

    data_disk_path(run->vm_id, path);
    if (fstatat(run->vms->params.state_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        disk = json_object();
        json_put_int(disk, "apparent_bytes", st.st_size);
        json_put_int(disk, "allocated_bytes", (long long)st.st_blocks * 512);
    }
    json_put(o, "disk", disk ? disk : json_null());
}

/* ---- doctor ---- */

static bool has_data_disk(const struct vm_doctor *d, const char *id)
{
    char path[PATH_SIZE];
    _cleanup_free_ char *whole = NULL;

    data_disk_path(id, path);
    whole = x_asprintf("%s/%s", d->state_dir, path);
    return doctor_exists("", whole);
}

static void check_data_disks(const void *ctx, struct doctor_finding *f)
{
    const struct vm_doctor *d = ctx;
    struct vm_row *rows = NULL;
    size_t count = 0, missing = 0;
    struct err err;

    if (d->store && store_vm_list(d->store, &rows, &count, &err) < 0) {
        doctor_fail_err(f, &err);
        doctor_fix(f, "banger daemon verify-store");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const struct vm_row *row = &rows[i];

        /* Half a VM has not got it yet, or not any more. */
        if (!vm_is_half(row) && !has_data_disk(d, row->id) && missing++ == 0) {
            doctor_evidence(f, "VM '%s': %s/vms/%s/data.ext4 is missing", row->name, d->state_dir,
                            row->id);
            doctor_fix(f, "put it back, or: banger rm --force %s", row->name);
        }
    }
    if (missing > 0) {
        doctor_warn(f, "%zu VM%s no data disk", missing, missing == 1 ? " has" : "s have");
    } else {
        doctor_pass(f, "every VM has its data disk");
        doctor_evidence(f, "VMs: %zu", count);
    }
    for (size_t i = 0; i < count; i++) {
        vm_row_done(&rows[i]);
    }
    free(rows);
}

static const struct doctor_check checks[] = {
    {"data-disks", "Data disks of VMs", 0, check_data_disks},
    {0},
};

const struct vm_capability vm_cap_disks = {
    .name = "disks",
    .start_preflight = find_data_disk,
    .prepare_host = open_disks,
    .machine_config = add_disks,
    .post_start = machine_has_them,
    .cleanup = close_disks,
    .plan_config_change = plan_size,
    .apply_config_change = apply_size,
    .add_stats = add_stats,
    .doctor_checks = checks,
};
