/* What VMMs, and we, need of the host's kernel and its limits; and what a network will need. */
#pragma once

#include "doctor/doctor.h"

#include <sys/types.h>

/* All borrowed. */
struct host_doctor {
    const char *root;           /* before each path of the system: "" but in tests */
    bool has_root;              /* a helper starts VMMs, with root */
    uid_t uid_first, uid_count; /* then: what they run as */
    const char *launcher, *helper;
    int64_t now_ms; /* CLOCK_REALTIME; 0 = what it is */
};

/* With a struct host_doctor. */
extern const struct doctor_check host_checks[], host_limit_checks[], host_network_checks[];
