#include "host/cgroup.h"

#include "base/fs.h"
#include "base/str.h"
#include "host/host_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CONTROLLERS_MAX 4096

/* Where cgroup v2 is mounted; NULL if it is not. */
static char *find_mount(void)
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    const struct mntent *m = NULL;
    char *path;

    while (mounts && (m = getmntent(mounts)) && !str_eq(m->mnt_type, "cgroup2")) {
    }
    path = m ? x_strdup(m->mnt_dir) : NULL;
    if (mounts) {
        (void)endmntent(mounts);
    }
    return path;
}

/* Whether `word` is one of those in a file that lists some. */
static bool lists(const char *dir, const char *file, const char *word)
{
    _cleanup_free_ char *path = x_asprintf("%s/%s", dir, file);
    _cleanup_free_ char *text = NULL;
    char *rest, *one;
    size_t len;

    if (fs_read_file(AT_FDCWD, path, CONTROLLERS_MAX, &text, &len) < 0) {
        return false;
    }
    rest = text;
    while ((one = strsep(&rest, " \n"))) {
        if (str_eq(one, word)) {
            return true;
        }
    }
    return false;
}

/* Lets the groups below dir have both controllers. 0 or -errno. */
static int hand_down(const char *dir)
{
    static const char both[] = "+memory +pids";
    _cleanup_free_ char *path = x_asprintf("%s/cgroup.subtree_control", dir);
    _cleanup_close_ int fd = -1;

    if (lists(dir, "cgroup.subtree_control", "memory") &&
        lists(dir, "cgroup.subtree_control", "pids")) {
        return 0;
    }
    /* O_CREAT changes nothing where it is the kernel's file. */
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : fs_write_all(fd, both, sizeof(both) - 1);
}

char *cgroup_open(const char *root, const char *daemon_name, char ret_why[CGROUP_WHY_SIZE])
{
    _cleanup_free_ char *top = root ? x_strdup(root) : find_mount();
    _cleanup_free_ char *dir = NULL;
    int r;

    if (!top) {
        (void)snprintf(ret_why, CGROUP_WHY_SIZE, "cgroup v2 is not mounted");
        return NULL;
    }
    if (!lists(top, "cgroup.controllers", "memory") || !lists(top, "cgroup.controllers", "pids")) {
        (void)snprintf(ret_why, CGROUP_WHY_SIZE,
                       "cgroup v2 at '%.80s' has not both controllers, memory and pids", top);
        return NULL;
    }
    dir = x_asprintf("%s/banger-%016llx", top, (unsigned long long)host_hash(daemon_name));
    r = hand_down(top);
    if (r == 0 && mkdir(dir, 0755) < 0 && errno != EEXIST) {
        r = -errno;
    }
    if (r == 0) {
        r = hand_down(dir);
    }
    if (r < 0) {
        (void)snprintf(ret_why, CGROUP_WHY_SIZE, "'%.80s': %s", dir, strerror(-r));
        (void)rmdir(dir);
        return NULL;
    }
    return STEAL_PTR(dir);
}

void cgroup_sweep(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;

    if (!d) {
        return;
    }
    while ((entry = readdir(d))) {
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
            (void)unlinkat(dirfd(d), entry->d_name, AT_REMOVEDIR);
        }
    }
    (void)closedir(d);
}

void cgroup_close(char *dir)
{
    if (dir) {
        cgroup_sweep(dir);
        (void)rmdir(dir);
        free(dir);
    }
}
