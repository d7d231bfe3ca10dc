/* The daemon's paths: the flag and the variable that override each, and where its value is from. */
#pragma once

#include "base/paths.h"
#include "codec/json.h"

#define PATH_SETTINGS 5

struct path_setting {
    const char *key, *flag, *variable;
    size_t offset; /* of a char * in struct paths */
};

extern const struct path_setting path_settings[PATH_SETTINGS];

/* An array of Setting (codec/api_objects.c). env is the world that p was resolved in; given has a
 * bit for each of path_settings whose flag was given (flags are variables by then). A value that
 * would be the same without its variable is a default. New. */
json_t *path_settings_json(const struct paths_env *env, const struct paths *p, unsigned given);
