/* The list, and the report of a process that is no daemon. */
#include "daemon/doctor.h"

#include "base/str.h"
#include "boot/tsc.h"
#include "daemon/daemon.h"
#include "disk/doctor.h"
#include "doctor/report.h"
#include "host/doctor.h"
#include "image/doctor.h"
#include "store/doctor.h"
#include "version.h"
#include "vm/capability.h"
#include "vm/doctor.h"
#include "vmm/doctor.h"

struct daemon_doctor {
    struct daemon_doctor_params params;
    char *run_dir;
    struct host_doctor host;
    struct disk_doctor disk;
    struct vmm_doctor vmm;
    struct image_doctor image;
    struct store_doctor store;
    struct vm_doctor vm;
    struct doctor *list;
};

static void fill(struct daemon_doctor *d)
{
    const struct daemon_doctor_params *p = &d->params;

    d->host = (struct host_doctor){.root = p->root,
                                   .has_root = p->has_root,
                                   .uid_first = (uid_t)p->config->vmm_uid_first,
                                   .uid_count = (uid_t)p->config->vmm_uid_count,
                                   .launcher = p->launcher,
                                   .helper = p->helper,
                                   .now_ms = p->now_ms};
    d->disk = (struct disk_doctor){.state_dir = p->paths->state_dir,
                                   .cache_dir = p->paths->cache_dir,
                                   .runtime_dir = p->paths->runtime_dir,
                                   .min_free_bytes = (uint64_t)p->config->min_free_mib << 20,
                                   .statfs = p->statfs};
    d->vmm = (struct vmm_doctor){.root = p->root,
                                 .ops = p->vmm,
                                 .cache_dir = p->paths->cache_dir,
                                 .accel = p->config->accel,
                                 .tsc_khz = p->tsc_khz,
                                 .has_root = p->has_root};
    d->image = (struct image_doctor){.store = p->store,
                                     .state_dir = p->paths->state_dir,
                                     .default_image = p->config->default_image,
                                     .default_kernel = p->config->default_kernel};
    d->store = (struct store_doctor){
        .store = p->store, .why = p->store_err, .state_dir = p->paths->state_dir};
    d->vm = (struct vm_doctor){.vms = p->vms,
                               .store = p->store,
                               .state_dir = p->paths->state_dir,
                               .run_dir = d->run_dir,
                               .version = BANGER_VERSION};
}

struct daemon_doctor *daemon_doctor_new(const struct daemon_doctor_params *params)
{
    struct daemon_doctor *d = x_calloc(1, sizeof(*d));

    d->params = *params;
    d->params.root = params->root ? params->root : "";
    d->params.statfs = params->statfs ? params->statfs : statfs;
    d->run_dir = x_asprintf("%s/vms", params->paths->runtime_dir);
    fill(d);
    d->list = doctor_new();
    doctor_add(d->list, daemon_file_checks, &d->params);
    doctor_add(d->list, daemon_program_checks, &d->params);
    doctor_add(d->list, host_checks, &d->host);
    doctor_add(d->list, vmm_checks, &d->vmm);
    doctor_add(d->list, disk_checks, &d->disk);
    doctor_add(d->list, host_limit_checks, &d->host);
    doctor_add(d->list, store_checks, &d->store);
    doctor_add(d->list, image_checks, &d->image);
    doctor_add(d->list, vm_checks, &d->vm);
    vm_caps_add_doctor_checks(vm_capabilities, d->list, &d->vm);
    doctor_add(d->list, host_network_checks, &d->host);
    return d;
}

void daemon_doctor_free(struct daemon_doctor *d)
{
    if (d) {
        doctor_free(d->list);
        free(d->run_dir);
        free(d);
    }
}

const struct doctor *daemon_doctor_list(const struct daemon_doctor *d)
{
    return d->list;
}

void daemon_doctor_set_vms(struct daemon_doctor *d, struct vms *vms)
{
    d->params.vms = vms;
    d->vm.vms = vms;
}

json_t *daemon_doctor(const struct daemon_params *params, const struct err *config_err)
{
    _cleanup_(daemon_doctor_free_p) struct daemon_doctor *d = NULL;
    struct daemon_doctor_params p = {.paths = params->paths,
                                     .config = params->config,
                                     .config_err = config_err,
                                     .vmm = params->vmm,
                                     .helper = params->helper_path,
                                     .launcher = params->launcher_path,
                                     .agent = params->agent_path,
                                     .mkroot = params->mkroot_path,
                                     .has_root = params->has_root};
    struct err store_err = {0};
    json_t *report;

    p.store_err = &store_err;
    (void)store_open_read_only(params->paths->state_dir, &p.store, &store_err);
    if (tsc_host_khz(&p.tsc_khz) < 0) {
        p.tsc_khz = 0;
    }
    d = daemon_doctor_new(&p);
    report = doctor_report(d->list);
    store_close(p.store);
    return report;
}
