#include "disk/rootdisk_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define MKFS_TIMEOUT_MS 60000

/* The image is read only and its UUID names nothing outside it, so one for all is enough. */
#define MKFS_UUID "c0ffee00-6261-4e67-8572-726f6f740001"
#define MKFS_HASH_SEED "c0ffee00-6261-4e67-8572-726f6f740002"

/*
 * All features are listed, so that the host's mke2fs.conf has no say. Neither flex_bg nor packed
 * metadata: each group keeps its own tables, so that unused groups can be cut off at the end (see
 * rootdisk_shrink.c). No backup superblocks and no resize inode for the same reason. The inode
 * tables stay unwritten (lazy_itable_init), which is what makes a large filesystem cost nothing.
 */
#define MKFS_FEATURES                                                                              \
    "none,64bit,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,huge_file,large_file,"    \
    "metadata_csum,sparse_super2"
#define MKFS_EXTENDED                                                                              \
    "lazy_itable_init=1,num_backup_sb=0,nodiscard,root_owner=0:0,hash_seed=" MKFS_HASH_SEED

static const char *mkfs_program(void)
{
    static const char *const places[] = {"/sbin/mke2fs", "/usr/sbin/mke2fs"};

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (access(places[i], X_OK) == 0) {
            return places[i];
        }
    }
    return NULL;
}

static int spawn_quiet(const char *const argv[], int err_fd, pid_t *ret_pid)
{
    char fake_time[64];
    char *envp[] = {(char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, (char[]){"LC_ALL=C"},
                    (char[]){"MKE2FS_CONFIG=/dev/null"}, fake_time, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, usual;
    int r;

    (void)snprintf(fake_time, sizeof(fake_time), "E2FSPROGS_FAKE_TIME=%d", RD_EPOCH);
    (void)sigemptyset(&none);
    (void)sigemptyset(&usual);
    (void)sigaddset(&usual, SIGPIPE);
    if (posix_spawn_file_actions_init(&actions) != 0) {
        return -ENOMEM;
    }
    if (posix_spawnattr_init(&attr) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return -ENOMEM;
    }
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &usual);
    r = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
    r = r ? r : posix_spawn_file_actions_adddup2(&actions, 0, 1);
    r = r ? r : posix_spawn_file_actions_adddup2(&actions, err_fd, 2);
    r = r ? r : posix_spawn(ret_pid, argv[0], &actions, &attr, (char *const *)argv, envp);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    return -r;
}

static int64_t now_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Reads what the child says until it closes its end. -ETIMEDOUT when it does not. The first line
 * is kept. */
static int read_text(int fd, char *text, size_t size)
{
    int64_t deadline = now_ms() + MKFS_TIMEOUT_MS;
    size_t used = 0;

    for (;;) {
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        int64_t left = deadline - now_ms();
        char chunk[512];
        ssize_t n;
        int r = left > 0 ? poll(&pfd, 1, (int)left) : 0;

        if (r == 0) {
            return -ETIMEDOUT;
        }
        if (r < 0 && errno == EINTR) {
            continue;
        }
        n = r < 0 ? -1 : read(fd, chunk, sizeof(chunk));
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        for (ssize_t i = 0; i < n && used + 1 < size; i++) {
            text[used++] = chunk[i];
        }
    }
    text[used] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return 0;
}

int rd_mkfs(const char *path, uint64_t size_bytes, struct err *err)
{
    char blocks[32], inodes[32], text[512] = "";
    _cleanup_close_ int out_fd = -1, in_fd = -1;
    const char *program = mkfs_program();
    uint64_t inode_count = size_bytes / RD_BLOCK;
    int fds[2], status = 0, r;
    pid_t pid = -1;

    if (!program) {
        err_set(err, ERR_UNSUPPORTED, "mke2fs is not installed");
        return err_hint(err, "install e2fsprogs");
    }
    inode_count = inode_count < ROOTDISK_ENTRIES_MAX ? inode_count : ROOTDISK_ENTRIES_MAX;
    (void)snprintf(inodes, sizeof(inodes), "%" PRIu64, inode_count);
    (void)snprintf(blocks, sizeof(blocks), "%" PRIu64, size_bytes / RD_BLOCK);
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return err_set_errno(err, ERR_IO, errno, "mke2fs");
    }
    in_fd = fds[0];
    out_fd = fds[1];
    const char *const argv[] = {program,   "-F",   "-q",          "-b", "4096",        "-I",
                                "256",     "-m",   "0",           "-N", inodes,        "-U",
                                MKFS_UUID, "-O",   MKFS_FEATURES, "-E", MKFS_EXTENDED, "--",
                                path,      blocks, NULL};

    r = spawn_quiet(argv, out_fd, &pid);
    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "'%s'", program);
    }
    close_p(&out_fd);
    r = read_text(in_fd, text, sizeof(text));
    if (r < 0) {
        (void)kill(pid, SIGKILL);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "'%s'", program);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return err_set(err, ERR_IO, "'%s' failed: %s", program, *text ? text : "it said nothing");
    }
    return 0;
}
