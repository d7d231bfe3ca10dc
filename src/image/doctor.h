/* What VMs boot from: kernels with their modules, images, and the agent. */
#pragma once

#include "doctor/doctor.h"
#include "store/store.h"

/* All borrowed. */
struct image_doctor {
    struct store *store; /* NULL: there is none */
    const char *state_dir;
    const char *default_image, *default_kernel; /* of the configuration; default_kernel may be "" */
};

/* With a struct image_doctor. */
extern const struct doctor_check image_checks[];
