#include "daemon_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"

#include <dirent.h>
#include <libgen.h>
#include <string.h>
#include <unistd.h>

char *world_path(const struct world *w, const char *name)
{
    return x_asprintf("%s/%s", w->dir.path, name);
}

void world_new(struct world *w)
{
    char self[4000] = "";
    struct err err;

    *w = (struct world){.dir = scratch_new()};
    w->paths = (struct paths){.config = world_path(w, "config"),
                              .state_dir = world_path(w, "state"),
                              .cache_dir = world_path(w, "cache"),
                              .runtime_dir = world_path(w, "run"),
                              .socket = world_path(w, "run/banger.sock"),
                              .owner_uid = geteuid()};
    assert_int_equal(config_parse("", "", 0, &w->config, &err), 0);
    w->host = host_fake_new(&(struct host_fake_params){.program = "/bin/false"});
    /* It lies beside this program. */
    assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    (void)snprintf(w->fakevmm, sizeof(w->fakevmm), "%s/banger-fakevmm", dirname(self));
    w->params = (struct daemon_params){.paths = &w->paths,
                                       .config = &w->config,
                                       .vmm = &vmm_fake_ops,
                                       .host = w->host,
                                       .listen_fd = -1,
                                       .fakevmm_path = w->fakevmm,
                                       .agent_path = "/bin/false",
                                       .mkroot_path = "/bin/false",
                                       .helper_path = "/bin/false",
                                       .launcher_path = "/bin/false"};
}

void world_done(struct world *w)
{
    host_free(w->host);
    config_done(&w->config);
    paths_done(&w->paths);
    scratch_done(&w->dir);
}

unsigned count_entries(const char *path)
{
    DIR *dir = opendir(path);
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir)) {
        count++;
    }
    (void)closedir(dir);
    return count;
}
