/* The VMM and its accelerator. */
#pragma once

#include "doctor/doctor.h"
#include "vmm/vmm.h"

/* All borrowed. */
struct vmm_doctor {
    const char *root; /* before each path of the system: "" but in tests */
    const struct vmm_ops *ops;
    const char *cache_dir; /* where the verdict of the probe boot is */
    const char *accel;     /* of the configuration */
    uint32_t tsc_khz;      /* of the host; 0 = not constant */
    bool has_root;         /* VMMs get /dev/kvm though we may not open it */
};

/* With a struct vmm_doctor. */
extern const struct doctor_check vmm_checks[];
