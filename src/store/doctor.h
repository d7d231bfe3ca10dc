/* The database. */
#pragma once

#include "doctor/doctor.h"
#include "store/store.h"

/* All borrowed. */
struct store_doctor {
    struct store *store;   /* NULL: it could not be opened */
    const struct err *why; /* then: why */
    const char *state_dir;
};

/* With a struct store_doctor. */
extern const struct doctor_check store_checks[];
