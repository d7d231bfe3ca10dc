/*
 * config.toml: one table of keys with type, limits, default and text, from which the file is
 * checked, `banger config show` answers, and docs/CONFIG.md is printed. Unknown keys and tables are
 * errors that name the nearest known one. The values are immutable once loaded.
 */
#pragma once

#include "base/err.h"
#include "codec/json.h"

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_KEYS_MAX 64

enum config_type { CONFIG_STRING, CONFIG_INT };

struct config_key {
    const char *name; /* "key", or "table.key" */
    enum config_type type;
    size_t offset;       /* in struct config: char * or int64_t */
    const char *choices; /* '|'-separated, or NULL */
    int64_t min, max;    /* bytes of a string, values of a number */
    const char *string_default;
    int64_t int_default;
    bool secret; /* shown as "(set)" */
    const char *doc;
};

extern const struct config_key config_keys[]; /* ends with a NULL name */

struct config {
    char *accel;          /* auto, kvm or tcg */
    char *default_image;  /* used when no --image is given */
    char *default_kernel; /* "" = the newest */
    int64_t boot_slots;   /* guests that boot at once; 0 = one per core */
    int64_t boot_timeout_s, boot_silence_s;
    int64_t min_free_mib;      /* of the disk, for what fills it */
    char *templates;           /* auto, manual or off */
    int64_t template_disk_mib; /* of the disk, for all of them */
    int64_t pool_size;         /* forks ready, of each that is in use */
    char *network;             /* auto, nat or none */
    char *subnet;              /* auto, or of IPv4 */
    int64_t tap_pool_size;
    int64_t dns_port;                     /* on 127.0.0.1; 0 = none */
    char *resolv_conf;                    /* whom other names are asked from */
    int64_t vmm_uid_first, vmm_uid_count; /* of the VMMs of a daemon that has root */

    char *path;                      /* of the file, which need not exist */
    unsigned lines[CONFIG_KEYS_MAX]; /* where in it each key is; 0 = it is not */
};

/* Defaults, then what the file at path says; a file that does not exist is an empty one. Mistakes
 * are ERR_INVALID with a line "PATH:LINE:COLUMN: why" each, as many as fit; what cannot be parsed
 * is the last of them. */
int config_load(const char *path, struct config *ret_config, struct err *err);
/* The same from memory. */
int config_parse(const char *path, const char *text, size_t len, struct config *ret_config,
                 struct err *err);
void config_done(struct config *c);
#define _cleanup_config_ _cleanup_(config_done)

/* One Setting as of codec/api_objects.c. value and fallback are stolen; origin is default, file,
 * flag or environment; source says where exactly, or is NULL. New. */
json_t *config_setting(const char *key, json_t *value, json_t *fallback, const char *origin,
                       const char *source);
/* The text of a string key as it is shown: of a secret only that it is set. New. */
json_t *config_text_value(const struct config_key *k, const char *text);
/* All keys as an array of them, in the order of the table. New. */
json_t *config_settings(const struct config *c);

/* docs/CONFIG.md. Free it. */
char *config_markdown(void);
