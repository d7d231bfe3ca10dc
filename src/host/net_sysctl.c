#include "host/net_sysctl.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>

#define FILE_NAME "network.sysctls"
#define FILE_MAX 65536U
#define ENTRIES_MAX 512U
#define VALUE_MAX 2U
#define ALL_IPV6 "net/ipv6/conf/all/forwarding"

struct entry {
    char *name;
    int value; /* before us */
};

struct sysctls {
    char *root, *runtime_dir;
    uid_t owner;
    struct entry entries[ENTRIES_MAX];
    size_t count;
};

struct sysctls *sysctls_new(const char *root, const char *runtime_dir, uid_t owner)
{
    struct sysctls *s = x_calloc(1, sizeof(*s));

    s->root = x_strdup(root);
    s->runtime_dir = x_strdup(runtime_dir);
    s->owner = owner;
    return s;
}

void sysctls_free(struct sysctls *s)
{
    if (s) {
        for (size_t i = 0; i < s->count; i++) {
            free(s->entries[i].name);
        }
        free(s->root);
        free(s->runtime_dir);
        free(s);
    }
}

/* Names ---------------------------------------------------------------------------------------- */

/* net/FAMILY/conf/INTERFACE/SWITCH; the three parts, or false. */
static bool split(const char *name, char ret_interface[IFNAMSIZ], bool *ret_ipv6,
                  const char **ret_switch)
{
    static const char v4[] = "net/ipv4/conf/", v6[] = "net/ipv6/conf/";
    const char *interface = name + sizeof(v4) - 1, *end;

    *ret_ipv6 = str_starts_with(name, v6);
    if (!*ret_ipv6 && !str_starts_with(name, v4)) {
        return false;
    }
    end = strchr(interface, '/');
    if (!end || end == interface || end - interface >= IFNAMSIZ) {
        return false;
    }
    (void)snprintf(ret_interface, IFNAMSIZ, "%.*s", (int)(end - interface), interface);
    *ret_switch = end + 1;
    return !str_eq(ret_interface, ".") && !str_eq(ret_interface, "..");
}

/* Of the closed set. */
static bool is_ours_to_change(const char *name)
{
    char interface[IFNAMSIZ];
    const char *which;
    bool ipv6;

    if (!split(name, interface, &ipv6, &which)) {
        return false;
    }
    if (str_eq(interface, "all") || str_eq(interface, "default")) {
        return ipv6 && str_eq(which, "forwarding");
    }
    return str_eq(which, "forwarding") ||
           (ipv6 && (str_eq(which, "force_forwarding") || str_eq(which, "accept_ra")));
}

/* An interface's own switch, unlike those that all/forwarding changes, too. */
static bool is_of_interface(const char *name, char ret_interface[IFNAMSIZ])
{
    const char *which;
    bool ipv6;

    return split(name, ret_interface, &ipv6, &which) && !(ipv6 && str_eq(which, "forwarding"));
}

/* Values --------------------------------------------------------------------------------------- */

int sysctls_read(struct sysctls *s, const char *name, int *ret_value)
{
    _cleanup_free_ char *path = x_asprintf("%s/%s", s->root, name);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char text[16];
    uint64_t value;
    ssize_t n;

    if (fd < 0) {
        return -errno;
    }
    n = read(fd, text, sizeof(text) - 1);
    if (n < 0) {
        return -errno;
    }
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    if (str_to_u64(text, INT_MAX, &value) < 0) {
        return -EPROTO;
    }
    *ret_value = (int)value;
    return 0;
}

int sysctls_write(struct sysctls *s, const char *name, int value)
{
    _cleanup_free_ char *path = x_asprintf("%s/%s", s->root, name);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    char text[16];
    int n = snprintf(text, sizeof(text), "%d\n", value);

    return fd < 0 ? -errno : fs_write_all(fd, text, (size_t)n);
}

/* The record ----------------------------------------------------------------------------------- */

/* The runtime directory is its owner's and nobody else's, root's neither without one more
 * capability; so for this thread and moment we are who owns it. */
static void become_owner(const struct sysctls *s)
{
    (void)setfsuid(s->owner);
}

static void become_root(void)
{
    (void)setfsuid(geteuid());
}

static int save(const struct sysctls *s)
{
    _cleanup_buf_ struct buf text = {.max = FILE_MAX};
    _cleanup_close_ int dir_fd = -1;
    int r = 0;

    for (size_t i = 0; i < s->count && r == 0; i++) {
        r = buf_printf(&text, "%s %d\n", s->entries[i].name, s->entries[i].value);
    }
    if (r < 0) {
        return r;
    }
    become_owner(s);
    dir_fd = open(s->runtime_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        r = -errno;
    } else if (s->count == 0) {
        r = unlinkat(dir_fd, FILE_NAME, 0) < 0 && errno != ENOENT ? -errno : 0;
    } else {
        r = fs_write_atomic(dir_fd, FILE_NAME, buf_head(&text), text.len, 0600, false);
    }
    become_root();
    return r;
}

static struct entry *find(struct sysctls *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++) {
        if (str_eq(s->entries[i].name, name)) {
            return &s->entries[i];
        }
    }
    return NULL;
}

static void drop(struct sysctls *s, struct entry *e)
{
    free(e->name);
    s->count--;
    memmove(e, e + 1, (size_t)(s->entries + s->count - e) * sizeof(*e));
}

/* "NAME VALUE", or it is nothing. */
static bool take_line(struct sysctls *s, char *line)
{
    char *space = strchr(line, ' ');
    uint64_t value;

    if (!space) {
        return false;
    }
    *space = '\0';
    if (!is_ours_to_change(line) || str_to_u64(space + 1, VALUE_MAX, &value) < 0 ||
        s->count == ENTRIES_MAX || find(s, line)) {
        return false;
    }
    s->entries[s->count++] = (struct entry){.name = x_strdup(line), .value = (int)value};
    return true;
}

int sysctls_load(struct sysctls *s)
{
    _cleanup_free_ char *path = x_asprintf("%s/" FILE_NAME, s->runtime_dir);
    _cleanup_free_ char *text = NULL;
    char *rest, *line;
    unsigned ignored = 0;
    size_t len;
    int r;

    become_owner(s);
    r = fs_read_file(AT_FDCWD, path, FILE_MAX, &text, &len);
    become_root();
    if (r < 0) {
        return r == -ENOENT ? 0 : r;
    }
    rest = text;
    while ((line = strsep(&rest, "\n"))) {
        ignored += line[0] && !take_line(s, line);
    }
    if (ignored > 0) {
        log_warn("%u lines of '%s' are not what banger has written", ignored, path);
    }
    return 0;
}

static int note_value(struct sysctls *s, const char *name, int value)
{
    int r;

    if (!is_ours_to_change(name)) {
        return -EINVAL;
    }
    if (find(s, name)) {
        return 0;
    }
    if (s->count == ENTRIES_MAX) {
        return -ENOBUFS;
    }
    s->entries[s->count++] = (struct entry){.name = x_strdup(name), .value = value};
    r = save(s);
    if (r < 0) {
        drop(s, &s->entries[s->count - 1]);
    }
    return r;
}

int sysctls_note(struct sysctls *s, const char *name)
{
    int value, r = sysctls_read(s, name, &value);

    return r < 0 ? r : note_value(s, name, value);
}

int sysctls_change(struct sysctls *s, const char *name, int value)
{
    int now, r = sysctls_read(s, name, &now);

    if (r < 0 || now == value) {
        return r;
    }
    r = note_value(s, name, now);
    return r < 0 ? r : sysctls_write(s, name, value);
}

/* Back ----------------------------------------------------------------------------------------- */

static int restore(struct sysctls *s, const struct entry *e)
{
    int r = sysctls_write(s, e->name, e->value);

    return r == -ENOENT ? 0 : r;
}

int sysctls_restore_others(struct sysctls *s, bool (*keep)(const char *interface, void *arg),
                           void *arg)
{
    size_t before = s->count;
    int first = 0, r;

    for (size_t i = 0; i < s->count;) {
        struct entry *e = &s->entries[i];
        char interface[IFNAMSIZ];

        if (!is_of_interface(e->name, interface) || keep(interface, arg)) {
            i++;
            continue;
        }
        r = restore(s, e);
        if (r < 0) {
            first = first ?: r;
            i++;
        } else {
            drop(s, e);
        }
    }
    r = s->count < before ? save(s) : 0;
    return first ?: r;
}

int sysctls_restore_all(struct sysctls *s)
{
    const struct entry *all = find(s, ALL_IPV6);
    /* First, as it changes those of the interfaces. */
    int first = all ? restore(s, all) : 0, r;

    for (size_t i = s->count; i-- > 0;) {
        struct entry *e = &s->entries[i];

        r = str_eq(e->name, ALL_IPV6) ? first : restore(s, e);
        if (r == 0) {
            drop(s, e);
        }
        first = first ?: r;
    }
    r = save(s);
    return first ?: r;
}
