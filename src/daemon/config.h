/*
 * config.toml: one table of keys with type, limits and default. Unknown keys are errors that name
 * the nearest known one. The values are immutable once loaded.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct config {
    char *accel;          /* auto, kvm or tcg */
    char *default_image;  /* used when no --image is given */
    char *default_kernel; /* "" = the newest */
    int64_t boot_slots;   /* guests that boot at once; 0 = one per core */
    int64_t boot_timeout_s, boot_silence_s;
};

/* Defaults, then what the file at path says; a file that does not exist is an empty one. Errors
 * are "PATH:LINE:COLUMN: why". */
int config_load(const char *path, struct config *ret_config, struct err *err);
/* The same from memory. */
int config_parse(const char *path, const char *text, size_t len, struct config *ret_config,
                 struct err *err);
void config_done(struct config *c);
#define _cleanup_config_ _cleanup_(config_done)
