/*
 * Files through a guest's port, as tar without frames and by banger, in turn.
 *
 *   bench-copy ROUNDS TAR FD... -- QEMU ARG... --clean CLEAN ARG... --in IN ARG... --out OUT ARG...
 *              --unpack UNPACK ARG...
 *
 * Starts QEMU (see floor.c), whose guest is tests/guest/floor.c, and then, ROUNDS times: runs
 * CLEAN, which removes what the round before has made, and has the guest do the same; measures the
 * file TAR to the port, until the guest's tar has unpacked it; the command IN, until it has ended;
 * the guest's tar of the same files from the port into UNPACK, until that has ended; the command
 * OUT. Every other round has the commands first. Prints one line of JSON with the milliseconds of
 * each.
 */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ROUNDS_MAX 1000
#define BYTES_MAX (1UL << 40)
#define USAGE                                                                                      \
    "ROUNDS TAR FD... -- QEMU... --clean CLEAN... --in IN... --out OUT... --unpack UNPACK..."

enum { TAR_IN, IN, TAR_OUT, OUT, COUNT };

struct copying {
    struct machine machine;
    const char *tar;
    char **clean, **in, **out, **unpack;
    long tar_bytes;    /* of the file */
    long packed_bytes; /* of what the guest's tar makes of the same files; 0: not known yet */
};

static uint8_t piece[PIECE];

static void copy_bytes(int from, int to, long left)
{
    while (left > 0) {
        ssize_t n = read(from, piece, left < PIECE ? (size_t)left : PIECE);

        if (n <= 0) {
            fail("%ld bytes are missing: %s", left, n == 0 ? "end" : strerror(errno));
        }
        for (ssize_t done = 0; done < n;) {
            ssize_t w = write(to, piece + done, (size_t)(n - done));

            if (w < 0) {
                fail("%ld bytes cannot be written: %s", left, strerror(errno));
            }
            done += w;
        }
        left -= n;
    }
}

/* Of an order that answers with it. */
static void expect_success(int port, const char *what)
{
    uint8_t status;

    if (read(port, &status, 1) != 1) {
        fail("the guest does not answer");
    } else if (status != 0) {
        fail("the guest cannot %s", what);
    }
}

static double run(char **argv)
{
    int64_t begin = now_ns();
    int unused;

    await_success(argv, start_piped(argv, STDIN_FILENO, &unused));
    (void)close(unused);
    return since_ms(begin);
}

static double tar_in(struct copying *c)
{
    int64_t begin = now_ns();
    _cleanup_close_ int fd = open(c->tar, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        fail("'%s': %s", c->tar, strerror(errno));
    }
    order(c->machine.agent, 'x', c->tar_bytes);
    copy_bytes(fd, c->machine.agent, c->tar_bytes);
    expect_success(c->machine.agent, "unpack");
    return since_ms(begin);
}

static double tar_out(struct copying *c)
{
    int64_t begin = now_ns();
    pid_t pid;
    int fd;

    order(c->machine.agent, 'c', c->packed_bytes);
    pid = start_piped(c->unpack, STDIN_FILENO, &fd);
    copy_bytes(c->machine.agent, fd, c->packed_bytes);
    (void)close(fd);
    await_success(c->unpack, pid);
    return since_ms(begin);
}

/* A port's bytes have no end, so it must be known beforehand how many there are. */
static void measure_packed(struct copying *c)
{
    uint8_t le[8];
    uint64_t bytes = 0;

    order(c->machine.agent, 's', 0);
    for (size_t i = 0; i < sizeof(le); i++) {
        if (read(c->machine.agent, &le[i], 1) != 1) {
            fail("the guest does not answer");
        }
        bytes |= (uint64_t)le[i] << (8 * i);
    }
    if (bytes == 0 || bytes > BYTES_MAX) {
        fail("the guest cannot pack");
    }
    c->packed_bytes = (long)bytes;
}

static void clean(struct copying *c)
{
    (void)run(c->clean);
    order(c->machine.agent, 'd', 0);
    expect_success(c->machine.agent, "remove its files");
}

static double measure(struct copying *c, int what)
{
    switch (what) {
    case TAR_IN:
        return tar_in(c);
    case TAR_OUT:
        return tar_out(c);
    case IN:
        return run(c->in);
    default:
        return run(c->out);
    }
}

static void measure_round(struct copying *c, double *times[COUNT], size_t i)
{
    int odd = (int)(i & 1);

    clean(c);
    for (int k = TAR_IN; k <= IN; k++) {
        times[k ^ odd][i] = measure(c, k ^ odd);
    }
    if (c->packed_bytes == 0) {
        measure_packed(c);
    }
    for (int k = TAR_OUT; k <= OUT; k++) {
        times[k ^ odd][i] = measure(c, k ^ odd);
    }
}

static void copying_init(struct copying *c, char **argv)
{
    struct stat st;

    *c = (struct copying){.tar = argv[2]};
    if (stat(c->tar, &st) < 0) {
        fail("'%s': %s", c->tar, strerror(errno));
    }
    c->tar_bytes = (long)st.st_size;
    machine_init(&c->machine, argv + 3);
    c->clean = next_command(c->machine.argv, "--clean", USAGE);
    c->in = next_command(c->clean, "--in", USAGE);
    c->out = next_command(c->in, "--out", USAGE);
    c->unpack = next_command(c->out, "--unpack", USAGE);
}

int main(int argc, char **argv)
{
    static const char *const names[COUNT] = {"tar_in_ms", "in_ms", "tar_out_ms", "out_ms"};
    double *times[COUNT];
    struct copying c;
    size_t rounds;

    if (argc < 4) {
        fail(USAGE);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    rounds = (size_t)number(argv[1], 1, ROUNDS_MAX);
    copying_init(&c, argv);
    for (int i = 0; i < COUNT; i++) {
        times[i] = doubles(rounds + 1);
    }
    machine_start(&c.machine);
    set_deadline(c.machine.agent);
    /* The first is not counted: the guest boots, and its code is translated. */
    for (size_t i = 0; i <= rounds; i++) {
        measure_round(&c, times, i);
    }
    end_qemu();
    machine_done(&c.machine);
    (void)printf("{");
    for (int i = 0; i < COUNT; i++) {
        print_list(names[i], times[i] + 1, rounds, i + 1 < COUNT ? ", " : "}\n");
        free(times[i]);
    }
    return 0;
}
