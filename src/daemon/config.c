#include "daemon/config.h"

#include "base/fs.h"
#include "base/str.h"
#include "codec/toml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum key_type { KEY_STRING, KEY_INT };

struct key {
    const char *name;
    enum key_type type;
    size_t offset;       /* in struct config */
    const char *choices; /* '|'-separated, or NULL */
    int64_t min, max;
    const char *string_default;
    int64_t int_default;
};

#define AT(member) offsetof(struct config, member)

static const struct key keys[] = {
    {"accel", KEY_STRING, AT(accel), "auto|kvm|tcg", 0, 0, "auto", 0},
    {"default_image", KEY_STRING, AT(default_image), NULL, 1, 128, "debian", 0},
    {"default_kernel", KEY_STRING, AT(default_kernel), NULL, 0, 128, "", 0},
    {"boot_slots", KEY_INT, AT(boot_slots), NULL, 0, 256, NULL, 0},
    {"boot_timeout_s", KEY_INT, AT(boot_timeout_s), NULL, 1, 3600, NULL, 120},
    {"boot_silence_s", KEY_INT, AT(boot_silence_s), NULL, 1, 3600, NULL, 20},
};

struct loading {
    const char *path;
    struct config *config;
};

static char **string_at(struct config *c, const struct key *k)
{
    return (char **)(void *)((char *)c + k->offset);
}

static int64_t *int_at(struct config *c, const struct key *k)
{
    return (int64_t *)(void *)((char *)c + k->offset);
}

static int unknown(const struct loading *l, const char *name, const struct toml_value *v,
                   struct err *err)
{
    const char *names[ARRAY_LEN(keys)];
    const char *near;

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        names[i] = keys[i].name;
    }
    err_set(err, ERR_INVALID, "%s:%u:%u: unknown key '%s'", l->path, v->line, v->column, name);
    near = str_nearest(name, names, ARRAY_LEN(names));
    return near ? err_hint(err, "did you mean '%s'?", near)
                : err_hint(err, "remove the line; docs/CONFIG.md lists the keys");
}

static int set_string(const struct loading *l, const struct key *k, const struct toml_value *v,
                      struct err *err)
{
    size_t n;

    if (v->type != TOML_STRING) {
        return err_set(err, ERR_INVALID, "%s:%u:%u: '%s' must be a string", l->path, v->line,
                       v->column, k->name);
    }
    n = strlen(v->string);
    if (k->choices ? !str_is_choice(k->choices, v->string)
                   : n < (size_t)k->min || n > (size_t)k->max) {
        return k->choices ? err_set(err, ERR_INVALID, "%s:%u:%u: '%s' must be one of %s", l->path,
                                    v->line, v->column, k->name, k->choices)
                          : err_set(err, ERR_INVALID, "%s:%u:%u: '%s' must have %lld to %lld bytes",
                                    l->path, v->line, v->column, k->name, (long long)k->min,
                                    (long long)k->max);
    }
    free(*string_at(l->config, k));
    *string_at(l->config, k) = x_strdup(v->string);
    return 0;
}

static int set_int(const struct loading *l, const struct key *k, const struct toml_value *v,
                   struct err *err)
{
    if (v->type != TOML_INT || v->integer < k->min || v->integer > k->max) {
        return err_set(err, ERR_INVALID, "%s:%u:%u: '%s' must be a whole number from %lld to %lld",
                       l->path, v->line, v->column, k->name, (long long)k->min, (long long)k->max);
    }
    *int_at(l->config, k) = v->integer;
    return 0;
}

static int on_key(void *arg, const char *name, const struct toml_value *v, struct err *err)
{
    const struct loading *l = arg;

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (str_eq(keys[i].name, name)) {
            return keys[i].type == KEY_STRING ? set_string(l, &keys[i], v, err)
                                              : set_int(l, &keys[i], v, err);
        }
    }
    return unknown(l, name, v, err);
}

static void set_defaults(struct config *c)
{
    *c = (struct config){0};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (keys[i].type == KEY_STRING) {
            *string_at(c, &keys[i]) = x_strdup(keys[i].string_default);
        } else {
            *int_at(c, &keys[i]) = keys[i].int_default;
        }
    }
}

void config_done(struct config *c)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (keys[i].type == KEY_STRING) {
            free(STEAL_PTR(*string_at(c, &keys[i])));
        }
    }
}

int config_parse(const char *path, const char *text, size_t len, struct config *ret_config,
                 struct err *err)
{
    struct config c;
    struct loading l = {.path = path, .config = &c};

    set_defaults(&c);
    if (toml_parse(text, len, on_key, &l, err) < 0) {
        if (!str_starts_with(err->message, path)) {
            unsigned line, col;
            int n = 0;

            /* The parser's "line L column C: why" in the form that editors follow. */
            if (sscanf(err->message, "line %u column %u: %n", &line, &col, &n) == 2 && n > 0) {
                char why[sizeof(err->message)];

                (void)snprintf(why, sizeof(why), "%s", err->message + n);
                (void)snprintf(err->message, sizeof(err->message), "%.512s:%u:%u: %.1024s", path,
                               line, col, why);
            } else {
                err_wrap(err, "%s", path);
            }
        }
        config_done(&c);
        return -1;
    }
    *ret_config = c;
    return 0;
}

int config_load(const char *path, struct config *ret_config, struct err *err)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    int r = fs_read_file(AT_FDCWD, path, TOML_TEXT_MAX, &text, &len);

    if (r < 0 && r != -ENOENT) {
        return err_set_errno(err, ERR_IO, r, "cannot read the configuration '%s'", path);
    }
    return config_parse(path, text ? text : "", len, ret_config, err);
}
