#include "agent/report.h"

#include "agent/user.h"
#include "base/attr.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <mntent.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DISKS_MAX 32
#define PROCESSES_MAX 1000
#define LISTENERS_MAX 1000
#define COMMAND_MAX 128
#define NAMES_MAX 256

/* The beginning of a file below a directory as text; its length, or 0. */
static size_t read_text(int dir_fd, const char *path, char *text, size_t size)
{
    int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

    if (fd >= 0) {
        (void)close(fd);
    }
    n = n < 0 ? 0 : n;
    text[n] = 0;
    return (size_t)n;
}

static int finish(void)
{
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}

/* What is shown on one line. */
static void put_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        (void)putchar(c < 0x20 || c == 0x7f ? '?' : c);
    }
}

/* Stats --------------------------------------------------------------------------------------- */

static void put_load(void)
{
    double load[3];

    if (getloadavg(load, 3) == 3) {
        (void)printf("load %.0f %.0f %.0f\n", load[0] * 1000, load[1] * 1000, load[2] * 1000);
    }
}

static unsigned long long kilobytes(const char *meminfo, const char *name)
{
    const char *at = strstr(meminfo, name);

    return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

static void put_memory(void)
{
    char text[4096];

    if (read_text(AT_FDCWD, "/proc/meminfo", text, sizeof(text)) > 0) {
        (void)printf("memory %llu %llu\n", kilobytes(text, "MemTotal:"),
                     kilobytes(text, "MemAvailable:"));
    }
}

/* One that has a device, or is the root; each device once. */
static void put_disk(const struct mntent *m, dev_t *seen, size_t *count)
{
    struct statvfs fs;
    struct stat st;

    if ((m->mnt_fsname[0] != '/' && strcmp(m->mnt_dir, "/") != 0) || *count == DISKS_MAX ||
        stat(m->mnt_dir, &st) < 0) {
        return;
    }
    for (size_t i = 0; i < *count; i++) {
        if (seen[i] == st.st_dev) {
            return;
        }
    }
    if (statvfs(m->mnt_dir, &fs) < 0 || fs.f_blocks == 0) {
        return;
    }
    seen[(*count)++] = st.st_dev;
    (void)printf("disk %llu %llu %llu ", (unsigned long long)fs.f_blocks * fs.f_frsize,
                 (unsigned long long)(fs.f_blocks - fs.f_bfree) * fs.f_frsize,
                 (unsigned long long)fs.f_bavail * fs.f_frsize);
    put_text(m->mnt_dir, strlen(m->mnt_dir));
    (void)putchar('\n');
}

int report_stats(void)
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    dev_t seen[DISKS_MAX];
    const struct mntent *m;
    size_t count = 0;

    put_load();
    put_memory();
    (void)fflush(stdout);
    while (mounts && (m = getmntent(mounts))) {
        put_disk(m, seen, &count);
    }
    if (mounts) {
        (void)endmntent(mounts);
    }
    return finish();
}

/* Processes ----------------------------------------------------------------------------------- */

struct names {
    struct {
        uid_t uid;
        char name[32];
    } list[NAMES_MAX];
    size_t count;
};

/* Of /etc/passwd, once; a uid without a name is shown as a number. */
static void read_names(struct names *names)
{
    FILE *file = fopen("/etc/passwd", "re");
    const struct passwd *p;

    while (file && names->count < NAMES_MAX && (p = fgetpwent(file))) {
        names->list[names->count].uid = p->pw_uid;
        (void)snprintf(names->list[names->count].name, sizeof(names->list[0].name), "%s",
                       p->pw_name);
        names->count++;
    }
    if (file) {
        (void)fclose(file);
    }
}

static void put_user(const struct names *names, uid_t uid)
{
    for (size_t i = 0; i < names->count; i++) {
        const char *name = names->list[i].name;

        if (names->list[i].uid == uid && name[0] && !strpbrk(name, " \t\n")) {
            put_text(name, strlen(name));
            return;
        }
    }
    (void)printf("%u", uid);
}

/* The arguments, or the kernel's name of a process that has none. */
static void put_command(int fd, const char *comm, size_t comm_len)
{
    char text[COMMAND_MAX + 1];
    size_t len = read_text(fd, "cmdline", text, sizeof(text));

    while (len > 0 && !text[len - 1]) {
        len--;
    }
    if (len == 0) {
        (void)putchar('[');
        put_text(comm, comm_len);
        (void)putchar(']');
        return;
    }
    for (size_t i = 0; i < len; i++) {
        text[i] = text[i] ? text[i] : ' ';
    }
    put_text(text, len);
}

static unsigned long long uptime_ms(void)
{
    char text[64];

    (void)read_text(AT_FDCWD, "/proc/uptime", text, sizeof(text));
    return (unsigned long long)(strtod(text, NULL) * 1000);
}

struct process {
    const char *comm;
    size_t comm_len;
    char state;
    long ppid, rss_pages;
    unsigned long long utime, stime, start;
};

/* proc(5): the name may hold anything, a parenthesis too. */
static bool parse_stat(const char *text, struct process *p)
{
    const char *open = strchr(text, '('), *close = strrchr(text, ')');

    if (!open || !close || close < open) {
        return false;
    }
    p->comm = open + 1;
    p->comm_len = (size_t)(close - open - 1);
    return sscanf(close + 1,
                  " %c %ld %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d "
                  "%*d %llu %*u %ld",
                  &p->state, &p->ppid, &p->utime, &p->stime, &p->start, &p->rss_pages) == 6;
}

static bool put_process(int proc_fd, const char *pid, const struct names *names,
                        unsigned long long now_ms)
{
    unsigned long long hz = (unsigned long long)sysconf(_SC_CLK_TCK);
    int fd = openat(proc_fd, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct process p = {0};
    unsigned long long start_ms;
    char text[1024];
    struct stat st;
    bool put = false;

    if (fd < 0) {
        return false;
    }
    if (fstat(fd, &st) == 0 && read_text(fd, "stat", text, sizeof(text)) > 0 &&
        parse_stat(text, &p)) {
        start_ms = p.start * 1000 / hz;
        (void)printf("process %s %ld %llu %llu %llu %c ", pid, p.ppid,
                     (p.utime + p.stime) * 1000 / hz, now_ms > start_ms ? now_ms - start_ms : 0,
                     (unsigned long long)p.rss_pages * (unsigned long long)sysconf(_SC_PAGESIZE),
                     p.state);
        put_user(names, st.st_uid);
        (void)putchar(' ');
        put_command(fd, p.comm, p.comm_len);
        (void)putchar('\n');
        put = true;
    }
    (void)close(fd);
    return put;
}

int report_processes(void)
{
    static struct names names;
    unsigned long long now_ms = uptime_ms();
    DIR *proc = opendir("/proc");
    unsigned count = 0, more = 0;
    const struct dirent *e;

    read_names(&names);
    while (proc && (e = readdir(proc))) {
        if (!isdigit((unsigned char)e->d_name[0])) {
            continue;
        }
        if (count == PROCESSES_MAX) {
            more++;
        } else {
            count += put_process(dirfd(proc), e->d_name, &names, now_ms);
        }
    }
    if (proc) {
        (void)closedir(proc);
    }
    (void)printf("more %u\n", more);
    return finish();
}

/* Listeners ----------------------------------------------------------------------------------- */

struct listener {
    const char *protocol;
    uint8_t address[sizeof(struct in6_addr)];
    int family;
    unsigned port, uid;
    unsigned long inode;
    long pid; /* 0: nobody's that we found */
};

struct listeners {
    struct listener list[LISTENERS_MAX];
    size_t count, more;
};

/* The kernel's tables, proc(5): addresses as words of the host's byte order. */
static const struct table {
    const char *path, *protocol;
    int family;
    unsigned state; /* of one that takes what comes: TCP_LISTEN, or for UDP "not connected" */
} tables[] = {
    {"/proc/net/tcp", "tcp", AF_INET, 0x0a},
    {"/proc/net/tcp6", "tcp", AF_INET6, 0x0a},
    {"/proc/net/udp", "udp", AF_INET, 0x07},
    {"/proc/net/udp6", "udp", AF_INET6, 0x07},
};

static bool parse_listener(const char *line, const struct table *table, struct listener *l)
{
    char address[33];
    unsigned state;
    size_t words;

    *l = (struct listener){.protocol = table->protocol, .family = table->family};
    if (sscanf(line, " %*u: %32[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %u %*u %lu", address,
               &l->port, &state, &l->uid, &l->inode) != 5 ||
        state != table->state) {
        return false;
    }
    words = strlen(address) / 8;
    if (words != (table->family == AF_INET ? 1 : 4)) {
        return false;
    }
    for (size_t i = 0; i < words; i++) {
        char word[9] = "";
        uint32_t value;

        memcpy(word, address + 8 * i, 8);
        value = (uint32_t)strtoul(word, NULL, 16);
        memcpy(l->address + 4 * i, &value, 4);
    }
    return true;
}

static void read_listeners(const struct table *table, struct listeners *all)
{
    FILE *file = fopen(table->path, "re");
    struct listener l;
    char line[512];

    while (file && fgets(line, sizeof(line), file)) {
        if (!parse_listener(line, table, &l)) {
            continue;
        }
        if (all->count == LISTENERS_MAX) {
            all->more++;
        } else {
            all->list[all->count++] = l;
        }
    }
    if (file) {
        (void)fclose(file);
    }
}

/* Of the descriptors of a process, those that are among the listeners. */
static void find_owner(struct listeners *all, int proc_fd, const char *pid)
{
    char path[64], target[64];
    const struct dirent *e;
    DIR *dir;
    int fd;

    (void)snprintf(path, sizeof(path), "%.20s/fd", pid);
    fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dir = fd >= 0 ? fdopendir(fd) : NULL;
    while (dir && (e = readdir(dir))) {
        ssize_t n = readlinkat(fd, e->d_name, target, sizeof(target) - 1);
        unsigned long inode;

        target[n < 0 ? 0 : n] = 0;
        if (sscanf(target, "socket:[%lu]", &inode) != 1) {
            continue;
        }
        for (size_t i = 0; i < all->count; i++) {
            if (all->list[i].inode == inode && all->list[i].pid == 0) {
                all->list[i].pid = strtol(pid, NULL, 10);
            }
        }
    }
    if (dir) {
        (void)closedir(dir);
    } else if (fd >= 0) {
        (void)close(fd);
    }
}

static int by_port(const void *a, const void *b)
{
    const struct listener *x = a, *y = b;
    int protocol = strcmp(x->protocol, y->protocol);

    return x->port != y->port ? (x->port < y->port ? -1 : 1)
           : protocol != 0    ? protocol
                              : memcmp(x->address, y->address, sizeof(x->address));
}

static void put_listener(const struct listener *l, int proc_fd, const struct names *names)
{
    char pid[24], comm[64], address[INET6_ADDRSTRLEN] = "?";
    size_t len;
    int fd;

    (void)snprintf(pid, sizeof(pid), "%ld", l->pid);
    (void)inet_ntop(l->family, l->address, address, sizeof(address));
    (void)printf("listener %s %u %s ", l->protocol, l->port, pid);
    put_user(names, l->uid);
    (void)printf(" %s ", address);
    fd = l->pid > 0 ? openat(proc_fd, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        len = read_text(fd, "comm", comm, sizeof(comm));
        put_command(fd, comm, len > 0 && comm[len - 1] == '\n' ? len - 1 : len);
        (void)close(fd);
    }
    (void)putchar('\n');
}

int report_listeners(void)
{
    static struct listeners all;
    static struct names names;
    DIR *proc = opendir("/proc");
    const struct dirent *e;

    read_names(&names);
    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        read_listeners(&tables[i], &all);
    }
    while (proc && all.count > 0 && (e = readdir(proc))) {
        if (isdigit((unsigned char)e->d_name[0])) {
            find_owner(&all, dirfd(proc), e->d_name);
        }
    }
    qsort(all.list, all.count, sizeof(all.list[0]), by_port);
    for (size_t i = 0; proc && i < all.count; i++) {
        put_listener(&all.list[i], dirfd(proc), &names);
    }
    if (proc) {
        (void)closedir(proc);
    }
    (void)printf("more %zu\n", all.more);
    return finish();
}
