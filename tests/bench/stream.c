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

#define BYTES_MAX (1L << 40)
#define ROUNDS_MAX 1000
#define USAGE "ROUNDS BYTES FD... -- QEMU... --out OUT... --in IN..."

static uint8_t piece[PIECE];

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
    out = next_command(m.argv, "--out", USAGE);
    in = next_command(out, "--in", USAGE);
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
