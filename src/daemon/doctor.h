/*
 * All checks of a daemon, in one list: those of each part and its own (files, programs,
 * configuration). The same list serves `banger doctor`, with a daemon or without one, and gates
 * the start of VMs.
 */
#pragma once

#include "base/paths.h"
#include "codec/config.h"
#include "doctor/doctor.h"
#include "store/store.h"
#include "vm/vm.h"
#include "vmm/vmm.h"

#include <sys/statfs.h>

/* All borrowed for the list's life. */
struct daemon_doctor_params {
    const struct paths *paths;
    const struct config *config;
    const struct err *config_err; /* NULL: it is valid; else config has the defaults */
    const struct vmm_ops *vmm;
    const char *helper, *launcher, *agent, *mkroot; /* programs */
    bool has_root;
    uint32_t tsc_khz;
    struct store *store;         /* NULL: it cannot be opened */
    const struct err *store_err; /* then: why */
    struct vms *vms;             /* NULL: no daemon runs */
    /* What tests put something else for; zero is what there is. */
    const char *root; /* before the paths of the system's files */
    int (*statfs)(const char *path, struct statfs *st);
    int64_t now_ms;
};

struct daemon_doctor;

struct daemon_doctor *daemon_doctor_new(const struct daemon_doctor_params *params);
void daemon_doctor_free(struct daemon_doctor *d); /* accepts NULL */
DEFINE_CLEANUP(struct daemon_doctor *, daemon_doctor_free);

/* Its list; borrowed. */
const struct doctor *daemon_doctor_list(const struct daemon_doctor *d);

/* Once there are VMs. Before the list is run. */
void daemon_doctor_set_vms(struct daemon_doctor *d, struct vms *vms);

/* doctor_files.c, with a struct daemon_doctor_params */
extern const struct doctor_check daemon_file_checks[], daemon_program_checks[];
