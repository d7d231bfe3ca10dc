/* Which paths and which owner, from a made-up environment. */
#include "base/paths.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* "NAME=value" entries and a NULL. */
struct world {
    const char *const *variables;
    bool run_user; /* /run/user/<uid> exists */
};

static const char *get(void *arg, const char *name)
{
    const struct world *w = arg;
    size_t len = strlen(name);

    for (const char *const *v = w->variables; *v; v++) {
        if (strncmp(*v, name, len) == 0 && (*v)[len] == '=') {
            return *v + len + 1;
        }
    }
    return NULL;
}

static char *home(void *arg, uid_t uid)
{
    (void)arg;
    return uid == 1000 ? x_strdup("/home/user") : NULL;
}

static bool is_dir(void *arg, const char *path, uid_t owner)
{
    const struct world *w = arg;

    (void)owner;
    return w->run_user && str_starts_with(path, "/run/user/");
}

static int resolve(uid_t euid, bool run_user, const char *const *variables, struct paths *p,
                   struct err *err)
{
    struct world w = {variables, run_user};

    return paths_resolve(
        &(struct paths_env){.euid = euid, .get = get, .home = home, .is_dir = is_dir, .arg = &w}, p,
        err);
}

static void check(const struct paths *p, uid_t uid, const char *config, const char *state_dir,
                  const char *cache_dir, const char *socket)
{
    assert_int_equal(p->owner_uid, uid);
    assert_string_equal(p->config, config);
    assert_string_equal(p->state_dir, state_dir);
    assert_string_equal(p->cache_dir, cache_dir);
    assert_string_equal(p->socket, socket);
}

#define VARS(...)                                                                                  \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }
#define NO_VARS                                                                                    \
    (const char *const[])                                                                          \
    {                                                                                              \
        NULL                                                                                       \
    }

static void root_has_system_paths(void **state)
{
    _cleanup_paths_ struct paths p = {0};
    struct err err;

    (void)state;
    assert_int_equal(resolve(0, true, VARS("HOME=/root", "XDG_RUNTIME_DIR=/run/user/0"), &p, &err),
                     0);
    check(&p, 0, "/etc/banger/config.toml", "/var/lib/banger", "/var/cache/banger",
          "/run/banger/banger.sock");
}

static void a_user_has_paths_in_the_home(void **state)
{
    _cleanup_paths_ struct paths p = {0};
    struct err err;

    (void)state;
    assert_int_equal(resolve(1000, true, VARS("HOME=/h", "XDG_RUNTIME_DIR=/run/x"), &p, &err), 0);
    check(&p, 1000, "/h/.config/banger/config.toml", "/h/.local/state/banger", "/h/.cache/banger",
          "/run/x/banger/banger.sock");
    assert_string_equal(p.runtime_dir, "/run/x/banger");
}

static void without_xdg_the_runtime_directory_is_in_tmp(void **state)
{
    static const char *const cases[][2] = {
        {NULL, NULL}, {"XDG_RUNTIME_DIR=", NULL}, {"XDG_RUNTIME_DIR=relative", NULL}};
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_paths_ struct paths p = {0};

        assert_int_equal(resolve(1000, true, cases[i], &p, &err), 0);
        check(&p, 1000, "/home/user/.config/banger/config.toml", "/home/user/.local/state/banger",
              "/home/user/.cache/banger", "/tmp/banger-1000/banger.sock");
    }
}

static void sudo_means_the_user_who_called_it(void **state)
{
    _cleanup_paths_ struct paths with = {0}, without = {0}, other = {0};
    struct err err;

    (void)state;
    assert_int_equal(resolve(0, true, VARS("SUDO_UID=1000", "HOME=/root"), &with, &err), 0);
    check(&with, 1000, "/home/user/.config/banger/config.toml", "/home/user/.local/state/banger",
          "/home/user/.cache/banger", "/run/user/1000/banger/banger.sock");
    assert_int_equal(resolve(0, false, VARS("SUDO_UID=1000"), &without, &err), 0);
    assert_string_equal(without.socket, "/tmp/banger-1000/banger.sock");
    /* The variable is believed by root alone. */
    assert_int_equal(resolve(1000, false, VARS("SUDO_UID=0"), &other, &err), 0);
    assert_int_equal(other.owner_uid, 1000);
}

static void malformed_sudo_uid_is_an_error(void **state)
{
    static const char *const bad[] = {"SUDO_UID=x", "SUDO_UID=-1", "SUDO_UID=4294967295",
                                      "SUDO_UID=1 "};
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct paths p;

        assert_int_equal(resolve(0, false, VARS(bad[i]), &p, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void each_path_can_be_overridden(void **state)
{
    _cleanup_paths_ struct paths all = {0}, runtime = {0}, socket = {0};
    struct err err;

    (void)state;
    /* A user without a home (12) needs all three of these. */
    assert_int_equal(resolve(12, false,
                             VARS("BANGER_CONFIG=/c", "BANGER_STATE_DIR=/s", "BANGER_CACHE_DIR=/k",
                                  "BANGER_RUNTIME_DIR=/r", "BANGER_SOCKET=/x/y"),
                             &all, &err),
                     0);
    check(&all, 12, "/c", "/s", "/k", "/x/y");
    assert_string_equal(all.runtime_dir, "/r");
    assert_int_equal(resolve(0, false, VARS("BANGER_RUNTIME_DIR=/r"), &runtime, &err), 0);
    check(&runtime, 0, "/etc/banger/config.toml", "/var/lib/banger", "/var/cache/banger",
          "/r/banger.sock");
    assert_int_equal(resolve(0, false, VARS("BANGER_SOCKET=/y"), &socket, &err), 0);
    assert_string_equal(socket.runtime_dir, "/run/banger");
}

static void relative_overrides_and_missing_homes_are_errors(void **state)
{
    struct paths p;
    struct err err;

    (void)state;
    assert_int_equal(resolve(0, false, VARS("BANGER_STATE_DIR=here"), &p, &err), -1);
    assert_non_null(strstr(err.message, "BANGER_STATE_DIR"));
    assert_int_equal(resolve(12, false, NO_VARS, &p, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(root_has_system_paths),
        cmocka_unit_test(a_user_has_paths_in_the_home),
        cmocka_unit_test(without_xdg_the_runtime_directory_is_in_tmp),
        cmocka_unit_test(sudo_means_the_user_who_called_it),
        cmocka_unit_test(malformed_sudo_uid_is_an_error),
        cmocka_unit_test(each_path_can_be_overridden),
        cmocka_unit_test(relative_overrides_and_missing_homes_are_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
