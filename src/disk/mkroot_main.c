/* banger-mkroot: a root filesystem tar on standard input becomes an ext4 image. */
#include "disk/rootdisk.h"

#include "version.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

BANGER_VERSION_MARK;

static const char usage_text[] =
    "usage: banger-mkroot [--size BYTES] OUT < rootfs.tar\n"
    "Makes the read-only ext4 image OUT from a tar (plain, gzip, zstd or xz).\n"
    "       banger-mkroot --find-init < IMAGE\n"
    "--size is the most that the image may become (default 8 GiB); it is cut to what it needs.\n"
    "--find-init prints the path of the init in an image, or nothing when it has none.\n";

static int fail(const struct err *err)
{
    (void)fprintf(stderr, "banger-mkroot: %s", err->message);
    if (err->hint[0]) {
        (void)fprintf(stderr, " (%s)", err->hint);
    }
    (void)fputc('\n', stderr);
    return 1;
}

static int usage(void)
{
    (void)fputs(usage_text, stderr);
    return 2;
}

static bool parse_size(const char *s, uint64_t *ret_size)
{
    unsigned long long v;
    char *end = NULL;

    if (*s < '0' || *s > '9') {
        return false;
    }
    errno = 0;
    v = strtoull(s, &end, 10);
    if (errno || *end || v == 0) {
        return false;
    }
    *ret_size = v;
    return true;
}

/* The signals that end us become a readable fd, so that the temporary file is removed. */
static int block_signals(void)
{
    sigset_t set;

    (void)signal(SIGXFSZ, SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) {
        return -errno;
    }
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int build(const struct rootdisk_params *params)
{
    _cleanup_rootdisk_ struct rootdisk *disk = NULL;
    struct err err = {0};

    if (rootdisk_new(params, &disk, &err) < 0 || rootdisk_add_tar(disk, STDIN_FILENO, &err) < 0 ||
        rootdisk_finish(disk, NULL, &err) < 0) {
        return fail(&err);
    }
    return 0;
}

static int find_init(void)
{
    const char *path;
    struct err err = {0};

    if (rootdisk_find_init("/proc/self/fd/0", &path, &err) < 0) {
        return fail(&err);
    }
    return path ? puts(path) < 0 : 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"size", required_argument, NULL, 's'},
        {"find-init", no_argument, NULL, 'i'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct rootdisk_params params = {.cancel_fd = -1};
    _cleanup_close_ int signal_fd = -1;
    bool init = false;
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (c == 'h') {
            return fputs(usage_text, stdout) < 0;
        }
        if (c == 'i') {
            init = true;
            continue;
        }
        if (c != 's' || !parse_size(optarg, &params.size_bytes)) {
            return usage();
        }
    }
    if (init) {
        return optind == argc ? find_init() : usage();
    }
    if (optind != argc - 1 || argv[optind][0] == '\0' || isatty(STDIN_FILENO)) {
        return usage();
    }
    params.out_path = argv[optind];
    signal_fd = block_signals();
    params.cancel_fd = signal_fd;
    return build(&params);
}
