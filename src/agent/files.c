#include "agent/files.h"

#include "agent/connect.h"
#include "agent/report.h"
#include "archive/archive.h"
#include "codec/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

static int null_fd = -1;

/* The host has gone: both its streams end here and now, and so what was begun is undone. This way
 * it does not matter whether a read has just been entered. */
static void on_end(int sig)
{
    int error = errno;

    (void)sig;
    (void)dup2(null_fd, STDIN_FILENO);
    (void)dup2(null_fd, STDERR_FILENO);
    errno = error;
}

static int catch_ends(void)
{
    static const int signals[] = {SIGHUP, SIGINT, SIGTERM};
    struct sigaction action = {.sa_handler = on_end}; /* no SA_RESTART: a read returns */

    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0) {
        return -errno;
    }
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        (void)sigaction(signals[i], &action, NULL);
    }
    return 0;
}

static void put_all(const char *s, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, s, len);

        if (n < 0 && errno != EINTR) {
            return; /* nobody listens; the status tells it all the same */
        }
        if (n > 0) {
            s += n;
            len -= (size_t)n;
        }
    }
}

static void report(void *arg, const char *path, const char *why, const char *hint)
{
    (void)arg;
    put_all(path, strlen(path) + 1);
    put_all(why, strlen(why) + 1);
    put_all(hint, strlen(hint) + 1);
}

static size_t count(char **list)
{
    size_t n = 0;

    while (list[n]) {
        n++;
    }
    return n;
}

static int get(char **paths, unsigned long flags)
{
    int r = archive_pack(&(struct archive_pack){
        .out_fd = STDOUT_FILENO,
        .paths = (const char *const *)paths,
        .path_count = count(paths),
        .recursive = flags & FRAME_FILES_RECURSIVE,
        .keep_ids = flags & FRAME_FILES_KEEP_IDS,
        .report = report,
    });

    return r != 0;
}

static int put(char **paths, unsigned long flags)
{
    int r = catch_ends();

    if (r < 0) {
        report(NULL, "/dev/null", strerror(-r), "");
        return 1;
    }
    return archive_unpack(&(struct archive_unpack){
        .in_fd = STDIN_FILENO,
        .path = paths[0],
        .names = (const char *const *)paths + 1,
        .name_count = count(paths) - 1,
        .recursive = flags & FRAME_FILES_RECURSIVE,
        .keep_ids = flags & FRAME_FILES_KEEP_IDS,
        .directory = flags & FRAME_FILES_DIRECTORY,
        .report = report,
    });
}

/* To where the one path says. */
static int connect_one(const char *to)
{
    int error = connect_and_carry(to);

    if (error != 0) {
        report(NULL, to, strerror(error),
               error == ECONNREFUSED ? "nobody listens there; who listens where: banger vm ports VM"
                                     : "");
    }
    return error != 0;
}

int files_main(char **args)
{
    unsigned long flags = strtoul(args[1], NULL, 10);

    if (strcmp(args[0], "stats") == 0) {
        return report_stats();
    }
    if (strcmp(args[0], "processes") == 0) {
        return report_processes();
    }
    if (strcmp(args[0], "listeners") == 0) {
        return report_listeners();
    }
    if (strcmp(args[0], "connect") == 0) {
        return connect_one(args[2]);
    }
    return strcmp(args[0], "get") == 0 ? get(args + 2, flags) : put(args + 2, flags);
}
