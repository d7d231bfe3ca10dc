/*
 * The guest's side of tests/bench/floor.c: the least that a guest can do.
 *
 * As /init it takes orders from the agent's port, 16 bytes each, little endian: u8 what, 7 bytes of
 * nothing, u64 count. 'o' writes as many bytes to the port, 'i' reads as many and then writes one.
 * 'O' and 'I' do the same with a pipe to another process in between, which makes the bytes or takes
 * them: what a command and its agent cannot do without. 'x' is 'I' into `tar x` in /files, a tmpfs,
 * where /busybox is the tar; the byte is its exit status. 'c' is 'O' from `tar c` of /files. 's'
 * writes how many bytes `tar c` makes, as u64, and 'd' empties /files, then writes one byte.
 *
 * In a guest that runs, `floor spawn COUNT COMMAND...` starts and awaits the command as often, and
 * prints the milliseconds of each. `floor produce COUNT` writes as many bytes to stdout, and `floor
 * consume COUNT` reads them from stdin, as the other end of the pipe does for 'O' and 'I'.
 */
#include "port.h"

#include <errno.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>

#define PIECE (64 * 1024)
#define ORDER_SIZE 16

extern char **environ;

static void read_all(int port, uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = read(port, data, len);

        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
}

static uint8_t piece[PIECE];

static void copy(int from, int to, uint64_t left)
{
    while (left > 0) {
        ssize_t n = read(from, piece, left < sizeof(piece) ? (size_t)left : sizeof(piece));

        if (n > 0) {
            write_all(to, piece, (size_t)n);
            left -= (uint64_t)n;
        }
    }
}

static void produce(int to, uint64_t left)
{
    while (left > 0) {
        size_t n = left < sizeof(piece) ? (size_t)left : sizeof(piece);

        write_all(to, piece, n);
        left -= n;
    }
}

static void consume(int from, uint64_t left)
{
    while (left > 0) {
        ssize_t n = read(from, piece, left < sizeof(piece) ? (size_t)left : sizeof(piece));

        left -= n > 0 ? (uint64_t)n : 0;
    }
}

/* The other end of the pipe: a command, or what makes or takes bytes. */
static _Noreturn void be_other_end(const int fds[2], bool out, uint64_t count, char **argv)
{
    if (argv) {
        (void)dup2(out ? fds[1] : fds[0], out ? STDOUT_FILENO : STDIN_FILENO);
        (void)execv(argv[0], argv);
        _exit(127);
    } else if (out) {
        produce(fds[1], count);
    } else {
        consume(fds[0], count);
    }
    _exit(0);
}

static uint64_t count_until_end(int fd)
{
    uint64_t count = 0;
    ssize_t n;

    while ((n = read(fd, piece, sizeof(piece))) > 0) {
        count += (uint64_t)n;
    }
    return count;
}

/* port < 0: *count becomes how many bytes come out. Returns 0 if the other process did well. */
static uint8_t with_pipe(int port, bool out, uint64_t *count, char **argv)
{
    int status = 0;
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return 1;
    }
    pid = fork();
    if (pid == 0) {
        be_other_end(fds, out, *count, argv);
    }
    if (port < 0) {
        (void)close(fds[1]);
        *count = count_until_end(fds[0]);
    } else if (out) {
        copy(fds[0], port, *count);
    } else {
        copy(port, fds[1], *count);
    }
    (void)close(fds[0]);
    if (port >= 0) {
        (void)close(fds[1]);
    }
    return pid < 0 || waitpid(pid, &status, 0) != pid || status != 0;
}

static uint8_t run(char **argv)
{
    int status;
    pid_t pid;

    return posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0 ||
           waitpid(pid, &status, 0) != pid || status != 0;
}

static void obey(int port, uint8_t what, uint64_t count)
{
    static char *unpack[] = {"/busybox", "tar", "x", "-C", "/files", NULL};
    static char *pack[] = {"/busybox", "tar", "c", "-C", "/files", "tree", NULL};
    static char *empty[] = {"/busybox", "rm", "-rf", "/files/tree", NULL};
    uint8_t status = 0;

    switch (what) {
    case 'o':
        produce(port, count);
        return;
    case 'O':
    case 'c':
        (void)with_pipe(port, true, &count, what == 'c' ? pack : NULL);
        return;
    case 's':
        (void)with_pipe(-1, true, &count, pack);
        write_all(port, &count, sizeof(count)); /* both ends are little endian */
        return;
    case 'i':
        consume(port, count);
        break;
    case 'd':
        status = run(empty);
        break;
    default:
        status = with_pipe(port, false, &count, what == 'x' ? unpack : NULL);
        break;
    }
    write_all(port, &status, 1);
}

static _Noreturn void serve(int port)
{
    for (;;) {
        uint8_t order[ORDER_SIZE];
        uint64_t count = 0;

        read_all(port, order, sizeof(order));
        for (int i = 0; i < 8; i++) {
            count |= (uint64_t)order[8 + i] << (8 * i);
        }
        obey(port, order[0], count);
    }
}

static int64_t now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int spawn(long count, char **argv)
{
    for (long i = 0; i < count; i++) {
        int64_t begin = now_ns();
        int status;
        pid_t pid;

        if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0 ||
            waitpid(pid, &status, 0) != pid || status != 0) {
            dprintf(STDERR_FILENO, "floor: '%s' did not run well\n", argv[0]);
            return 1;
        }
        (void)printf("%.4f\n", (double)(now_ns() - begin) / 1e6);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (getpid() == 1) {
        mount_devices();
        load_modules();
        (void)mkdir("/files", 0755);
        (void)mount("tmpfs", "/files", "tmpfs", 0, "size=90%");
        serve(open_port());
    }
    if (argc > 3 && strcmp(argv[1], "spawn") == 0) {
        return spawn(strtol(argv[2], NULL, 10), argv + 3);
    }
    if (argc == 3 && strcmp(argv[1], "produce") == 0) {
        produce(STDOUT_FILENO, strtoull(argv[2], NULL, 10));
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "consume") == 0) {
        consume(STDIN_FILENO, strtoull(argv[2], NULL, 10));
        return 0;
    }
    dprintf(STDERR_FILENO, "usage: floor spawn COUNT COMMAND... | produce COUNT | consume COUNT\n");
    return 2;
}
