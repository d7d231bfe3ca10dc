/* VMs, and what they left on the host. */
#pragma once

#include "doctor/doctor.h"
#include "store/store.h"
#include "vm/vm.h"

/* All borrowed. */
struct vm_doctor {
    struct vms *vms;     /* NULL: no daemon runs, and the store is looked at alone */
    struct store *store; /* NULL: there is none */
    const char *state_dir;
    const char *run_dir; /* <runtime dir>/vms */
    const char *version; /* ours, and that of the agent beside us */
};

/* With a struct vm_doctor. Capabilities have more: vm_caps_add_doctor_checks. */
extern const struct doctor_check vm_checks[];
