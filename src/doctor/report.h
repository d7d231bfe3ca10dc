/* Findings as JSON: the Finding objects of codec/api_objects.c. */
#pragma once

#include "codec/json.h"
#include "doctor/doctor.h"

/* Runs all checks: an array. New. */
json_t *doctor_report(const struct doctor *d);
