/*
 * The guest's side of tests/bench/floor.c: the least that a guest can do.
 *
 * As /init it takes orders from the agent's port, 16 bytes each, little endian: u8 what, 7 bytes of
 * nothing, u64 count. 'o' writes as many bytes to the port, 'i' reads as many and then writes one.
 * 'O' and 'I' do the same with a pipe to another process in between, which makes the bytes or takes
 * them: what a command and its agent cannot do without.
 *
 * In a guest that runs, `floor spawn COUNT COMMAND...` starts and awaits the command as often, and
 * prints the milliseconds of each.
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

static void with_pipe(int port, bool out, uint64_t count)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return;
    }
    pid = fork();
    if (pid == 0) {
        if (out) {
            produce(fds[1], count);
        } else {
            consume(fds[0], count);
        }
        _exit(0);
    }
    if (out) {
        copy(fds[0], port, count);
    } else {
        copy(port, fds[1], count);
    }
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)waitpid(pid, NULL, 0);
}

static _Noreturn void serve(int port)
{
    for (;;) {
        uint8_t order[ORDER_SIZE];
        uint64_t left = 0;

        read_all(port, order, sizeof(order));
        for (int i = 0; i < 8; i++) {
            left |= (uint64_t)order[8 + i] << (8 * i);
        }
        switch (order[0]) {
        case 'o':
            produce(port, left);
            break;
        case 'i':
            consume(port, left);
            break;
        default:
            with_pipe(port, order[0] == 'O', left);
            break;
        }
        if (order[0] == 'i' || order[0] == 'I') {
            write_all(port, piece, 1);
        }
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
        serve(open_port());
    }
    if (argc > 3 && strcmp(argv[1], "spawn") == 0) {
        return spawn(strtol(argv[2], NULL, 10), argv + 3);
    }
    dprintf(STDERR_FILENO, "usage: floor spawn COUNT COMMAND...\n");
    return 2;
}
