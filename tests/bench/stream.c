/*
 * Bytes through a guest's port, raw and through banger, in turn.
 *
 *   bench-stream ROUNDS BYTES FD... -- QEMU ARG... --out OUT ARG... --in IN ARG...
 *
 * Starts QEMU (see floor.c), whose guest is tests/guest/floor.c, and then measures, ROUNDS times:
 * BYTES from the guest's port by blocking reads; the same, when in the guest they come through a
 * pipe of another process; the command OUT, until it has ended and the BYTES of its output are read
 * from a pipe; BYTES to the port by blocking writes, until the guest says that it has read them;
 * the same with a pipe there; the command IN, to whose pipe BYTES are written, until it has ended.
 * Prints one line of JSON with the milliseconds of each.
 */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define BYTES_MAX (1L << 40)
#define ROUNDS_MAX 1000
#define PIECE (64 * 1024)
#define ORDER_SIZE 16

static uint8_t piece[PIECE];

#define USAGE "ROUNDS BYTES FD... -- QEMU... --out OUT... --in IN..."

/* The command behind this word, which becomes the end of the one before. */
static char **next_command(char **args, const char *word)
{
    while (*args && strcmp(*args, word) != 0) {
        args++;
    }
    if (!args[0] || !args[1]) {
        fail(USAGE);
    }
    *args = NULL;
    return args + 1;
}

static void read_bytes(int fd, long left)
{
    while (left > 0) {
        ssize_t n = read(fd, piece, left < PIECE ? (size_t)left : PIECE);

        if (n <= 0) {
            fail("%ld bytes are missing: %s", left, n == 0 ? "end" : strerror(errno));
        }
        left -= n;
    }
}

static void write_bytes(int fd, long left)
{
    while (left > 0) {
        ssize_t n = write(fd, piece, left < PIECE ? (size_t)left : PIECE);

        if (n < 0) {
            fail("%ld bytes cannot be written: %s", left, strerror(errno));
        }
        left -= n;
    }
}

static void order(int port, uint8_t what, long bytes)
{
    uint8_t o[ORDER_SIZE] = {what};

    for (int i = 0; i < 8; i++) {
        o[8 + i] = (uint8_t)((uint64_t)bytes >> (8 * i));
    }
    if (write(port, o, sizeof(o)) != sizeof(o)) {
        fail("the guest takes no order: %s", strerror(errno));
    }
}

static double raw_out(int port, uint8_t what, long bytes)
{
    int64_t begin = now_ns();

    order(port, what, bytes);
    read_bytes(port, bytes);
    return since_ms(begin);
}

static double raw_in(int port, uint8_t what, long bytes)
{
    int64_t begin = now_ns();

    order(port, what, bytes);
    write_bytes(port, bytes);
    read_bytes(port, 1);
    return since_ms(begin);
}

/* Starts a command with our pipe as one of its streams, the others at /dev/null. */
static pid_t start_piped(char **argv, int stream, int *ret_fd)
{
    posix_spawn_file_actions_t actions;
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        fail("pipe: %s", strerror(errno));
    }
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd <= 2; fd++) {
        if (fd == stream) {
            posix_spawn_file_actions_adddup2(&actions, ends[fd == STDIN_FILENO ? 0 : 1], fd);
        } else if (fd != STDERR_FILENO) {
            posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
        }
    }
    pid = start(argv, &actions);
    posix_spawn_file_actions_destroy(&actions);
    *ret_fd = ends[stream == STDIN_FILENO ? 1 : 0];
    (void)close(ends[stream == STDIN_FILENO ? 0 : 1]);
    return pid;
}

static void await_success(char **argv, pid_t pid)
{
    int status = await_exit(pid);

    if (status != 0) {
        fail("'%s' ended with status %d", argv[0], status);
    }
}

static double command_out(char **argv, long bytes)
{
    int64_t begin = now_ns();
    int fd;
    pid_t pid = start_piped(argv, STDOUT_FILENO, &fd);

    read_bytes(fd, bytes);
    await_success(argv, pid);
    (void)close(fd);
    return since_ms(begin);
}

static double command_in(char **argv, long bytes)
{
    int64_t begin = now_ns();
    int fd;
    pid_t pid = start_piped(argv, STDIN_FILENO, &fd);

    write_bytes(fd, bytes);
    (void)close(fd);
    await_success(argv, pid);
    return since_ms(begin);
}

static void set_deadline(int fd)
{
    const struct timeval deadline = {.tv_sec = DEADLINE_MS / 1000};

    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof(deadline)) < 0) {
        fail("setsockopt: %s", strerror(errno));
    }
}

int main(int argc, char **argv)
{
    enum { RAW_OUT, PIPE_OUT, OUT, RAW_IN, PIPE_IN, IN, COUNT };
    static const char *const names[COUNT] = {"raw_out_ms", "pipe_out_ms", "out_ms",
                                             "raw_in_ms",  "pipe_in_ms",  "in_ms"};
    double *times[COUNT];
    char **out, **in;
    struct machine m;
    size_t rounds;
    long bytes;

    if (argc < 4) {
        fail(USAGE);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    rounds = (size_t)number(argv[1], 1, ROUNDS_MAX);
    bytes = number(argv[2], 1, BYTES_MAX);
    machine_init(&m, argv + 3);
    out = next_command(m.argv, "--out");
    in = next_command(out, "--in");
    for (int i = 0; i < COUNT; i++) {
        times[i] = doubles(rounds);
    }
    machine_start(&m);
    set_deadline(m.agent);
    /* Not counted: the guest boots, and its code is translated. */
    (void)raw_out(m.agent, 'o', PIECE);
    (void)raw_out(m.agent, 'O', PIECE);
    (void)raw_in(m.agent, 'i', PIECE);
    (void)raw_in(m.agent, 'I', PIECE);
    for (size_t i = 0; i < rounds; i++) {
        times[RAW_OUT][i] = raw_out(m.agent, 'o', bytes);
        times[PIPE_OUT][i] = raw_out(m.agent, 'O', bytes);
        times[OUT][i] = command_out(out, bytes);
        times[RAW_IN][i] = raw_in(m.agent, 'i', bytes);
        times[PIPE_IN][i] = raw_in(m.agent, 'I', bytes);
        times[IN][i] = command_in(in, bytes);
    }
    end_qemu();
    machine_done(&m);
    (void)printf("{");
    for (int i = 0; i < COUNT; i++) {
        print_list(names[i], times[i], rounds, i + 1 < COUNT ? ", " : "}\n");
        free(times[i]);
    }
    return 0;
}
