#include "daemon/path_settings.h"

#include "base/str.h"
#include "codec/config.h"

#include <stddef.h>
#include <string.h>

const struct path_setting path_settings[PATH_SETTINGS] = {
    {"config", "config", "BANGER_CONFIG", offsetof(struct paths, config)},
    {"state_dir", "state-dir", "BANGER_STATE_DIR", offsetof(struct paths, state_dir)},
    {"cache_dir", "cache-dir", "BANGER_CACHE_DIR", offsetof(struct paths, cache_dir)},
    {"runtime_dir", "runtime-dir", "BANGER_RUNTIME_DIR", offsetof(struct paths, runtime_dir)},
    {"socket", "socket", "BANGER_SOCKET", offsetof(struct paths, socket)},
};

/* The same world without one variable. */
struct without {
    const struct paths_env *env;
    const char *variable;
};

static const char *get_without(void *arg, const char *name)
{
    const struct without *w = arg;

    return str_eq(name, w->variable) ? NULL : w->env->get(w->env->arg, name);
}

static const char *path_at(const struct paths *p, const struct path_setting *s)
{
    return *(char *const *)(const void *)((const char *)p + s->offset);
}

/* What the path would be without flag and variable; false where it would not be known. */
static bool resolve_default(const struct paths_env *env, const struct path_setting *s,
                            struct paths *ret)
{
    struct without w = {.env = env, .variable = s->variable};
    struct paths_env other = *env;
    struct err ignored; /* such as: there is no home directory */

    other.get = get_without;
    other.arg = &w;
    return paths_resolve(&other, ret, &ignored) == 0;
}

static json_t *bytes(const char *text)
{
    return json_bytes_new(text, strlen(text));
}

static json_t *setting_json(const struct paths_env *env, const struct paths *p,
                            const struct path_setting *s, bool given)
{
    _cleanup_free_ char *flag = x_asprintf("--%s", s->flag);
    _cleanup_paths_ struct paths without = {0};
    bool known = resolve_default(env, s, &without);
    const char *value = path_at(p, s);
    const char *origin = "default", *source = NULL;

    if (given) {
        origin = "flag";
        source = flag;
    } else if (!known || !str_eq(path_at(&without, s), value)) {
        origin = "environment";
        source = s->variable;
    }
    return config_setting(s->key, bytes(value), known ? bytes(path_at(&without, s)) : json_null(),
                          origin, source);
}

json_t *path_settings_json(const struct paths_env *env, const struct paths *p, unsigned given)
{
    json_t *list = json_array();

    for (size_t i = 0; i < PATH_SETTINGS; i++) {
        json_array_append_new(list, setting_json(env, p, &path_settings[i], given >> i & 1));
    }
    return list;
}
