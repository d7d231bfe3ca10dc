/*
 * What the programs that measure floors share: a QEMU started by hand, the frames of its guest's
 * agent, processes and figures. One thread; any surprise ends the program (fail), after the QEMU
 * has been killed and reaped.
 */
#pragma once

#include "base/attr.h"
#include "base/buf.h"
#include "codec/frame.h"

#include <spawn.h>
#include <stdint.h>
#include <sys/un.h>

#define DEADLINE_MS 60000
#define INPUT_MAX (64 * 1024)
#define MACHINE_FDS_MAX 16
#define PIECE (64 * 1024)

extern char **environ;

extern pid_t qemu_pid; /* -1: none */

int64_t now_ns(void);
double since_ms(int64_t start_ns);

/* Kills and reaps the QEMU, if there is one. */
void end_qemu(void);

/* Ends the program with status 1 and this sentence. */
_noreturn_ void fail(const char *fmt, ...) _printf_(1, 2);
void must_fit(int r);

/* A number from least to most. */
long number(const char *text, long least, long most);

pid_t start(char **argv, const posix_spawn_file_actions_t *actions);
/* Exit status, or 128 + signal. */
int await_exit(pid_t pid);
/* With our pipe, *ret_fd, as one of its streams; the other of stdin and stdout is /dev/null. */
pid_t start_piped(char **argv, int stream, int *ret_fd);
/* Any other end than status 0 ends the program. */
void await_success(char **argv, pid_t pid);
/* The command behind this word of args, which becomes the end of the one before. */
char **next_command(char **args, const char *word, const char *usage);

struct given_fd {
    int fd, as;
};

struct machine {
    struct given_fd fds[MACHINE_FDS_MAX];
    size_t fd_count;
    char **argv;
    int agent; /* connected to its agent port */
    int qmp;   /* connected to its QMP socket when it is to be restored, else -1 */
    struct buf in;
};

/* Takes FD... -- QEMU ARG... (floor.c says what an FD is); argv is the rest of args. */
void machine_init(struct machine *m, char **args);
void machine_start(struct machine *m);
void machine_done(struct machine *m);

int connect_to(const struct sockaddr_un *address, socklen_t len);
/* Appends what comes next, within DEADLINE_MS. */
void read_more(int fd, struct buf *in);
void write_all(int fd, struct buf *out);

/* Waits for a frame of the type on this stream; others of the protocol are passed over. The payload
 * is valid until the next call, and *ret_size bytes are to be consumed. */
struct frame await_frame(struct machine *m, uint8_t type, uint32_t stream, size_t *ret_size);

/* HELLO and its answer; the agent's version is copied to ret_version. */
void say_hello(struct machine *m, char *ret_version, size_t size);
void configure(struct machine *m);

/* Without frames: the guest is tests/guest/floor.c, which says what the orders are. */
void order(int port, uint8_t what, long count);
void read_bytes(int fd, long left);
/* Reads and writes that take longer than DEADLINE_MS fail. */
void set_deadline(int fd);

/* `count` zeros, to be freed. */
double *doubles(size_t count);
/* Sorts them. */
double median(double *values, size_t count);
/* "name": [...], and `end`. */
void print_list(const char *name, const double *values, size_t count, const char *end);
