/*
 * What banger's speed is measured against: the least that a host can do for the same result. One
 * thread, blocking reads with a deadline, nothing of banger but the codec of its frames.
 *
 *   bench-floor boot FD... -- QEMU ARG...
 *       starts QEMU, configures the guest, runs `true` in it, kills and reaps QEMU
 *   bench-floor share FD... -- QEMU ARG...
 *       the same, but for the times; prints the memory that QEMU has, by share
 *   bench-floor ping SOCKET VM ROUNDS COUNT FD... -- QEMU ARG...
 *       boots the same way, then in turn a ping straight to that guest, a vm.ping to the daemon at
 *       SOCKET (for its guest VM) and a daemon.ping (which asks no guest), COUNT times; then COUNT
 *       of the first in a burst and COUNT of the second; each round prints its medians
 *   bench-floor run DAEMON_PID -- COMMAND...
 *       runs COMMAND, then waits until every QEMU that the daemon has is gone
 *   bench-floor spawn ROUNDS -- COMMAND... -- COMMAND...
 *       starts and awaits the two in turn
 *
 * An FD says what a descriptor of QEMU is: N=r:FILE (for reading), N=w:FILE (for reading and
 * writing), N=a:FILE (to append to), N=listen (a socket nobody uses), N=agent (the agent's),
 * N=restore (QMP's, by which a QEMU with `-incoming defer` is told to restore from descriptor 11).
 * Each mode prints one line of JSON; times are fractions of milliseconds. Any surprise ends it
 * with status 1 and a sentence, after QEMU has been killed and reaped.
 */
#include "machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define COMMANDS_MAX 2
#define ROUNDS_MAX 100000
#define CHILDREN_MAX 64
#define EXEC_STREAM 1

/* Runs `true` and returns its exit status. */
static uint32_t execute_true(struct machine *m)
{
    const uint8_t closed = FRAME_STDIN_CLOSED;
    _cleanup_buf_ struct buf body, out;
    struct frame_reader r;
    size_t frame_bytes;
    struct frame f;
    uint32_t status;
    uint8_t how;

    buf_init(&body, 1024);
    buf_init(&out, FRAME_MAX);
    must_fit(frame_put_tlv(&body, FRAME_TAG_ARG, "true", 4));
    must_fit(frame_put_tlv(&body, FRAME_TAG_STDIN, &closed, 1));
    must_fit(frame_put_body(&out, FRAME_EXEC, EXEC_STREAM, buf_head(&body), body.len));
    write_all(m->agent, &out);
    f = await_frame(m, FRAME_EXITED, EXEC_STREAM, &frame_bytes);
    r = frame_reader(&f);
    if (frame_take_u8(&r, &how) < 0 || how != 0 || frame_take_u32(&r, &status) < 0) {
        fail("'true' was killed in the guest");
    }
    buf_consume(&m->in, frame_bytes);
    return status;
}

/* Of what QEMU has in memory, shared pages by share (proc(5), smaps_rollup); 0: not known. */
static long pss_kib(pid_t pid)
{
    char path[64], line[256];
    long kib = 0;
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        (void)sscanf(line, "Pss: %ld kB", &kib);
    }
    if (f) {
        (void)fclose(f);
    }
    return kib;
}

static int mode_boot(char **args)
{
    double hello_ms, configured_ms, exited_ms, reaped_ms;
    struct machine m;
    char agent[64];
    uint32_t status;
    int64_t begin;
    pid_t pid;

    machine_init(&m, args);
    begin = now_ns();
    machine_start(&m);
    pid = qemu_pid;
    say_hello(&m, agent, sizeof(agent));
    hello_ms = since_ms(begin);
    configure(&m);
    configured_ms = since_ms(begin);
    status = execute_true(&m);
    exited_ms = since_ms(begin);
    end_qemu();
    reaped_ms = since_ms(begin);
    machine_done(&m);
    (void)printf("{\"agent\": \"%s\", \"pid\": %d, \"status\": %" PRIu32 ", \"hello_ms\": %.3f, "
                 "\"configured_ms\": %.3f, \"exited_ms\": %.3f, \"reaped_ms\": %.3f}\n",
                 agent, pid, status, hello_ms, configured_ms, exited_ms, reaped_ms);
    return 0;
}

static int mode_share(char **args)
{
    struct machine m;
    char agent[64];
    long kib;

    machine_init(&m, args);
    machine_start(&m);
    say_hello(&m, agent, sizeof(agent));
    configure(&m);
    (void)execute_true(&m);
    kib = pss_kib(qemu_pid);
    end_qemu();
    machine_done(&m);
    (void)printf("{\"pss_kib\": %ld}\n", kib);
    return 0;
}

/* Pings --------------------------------------------------------------------------------------- */

static void ping_agent(struct machine *m, uint32_t request)
{
    _cleanup_buf_ struct buf out;
    size_t frame_bytes;

    buf_init(&out, FRAME_MAX);
    must_fit(frame_put(&out, &(struct frame){.type = FRAME_PING, .stream = request}));
    write_all(m->agent, &out);
    (void)await_frame(m, FRAME_PONG, request, &frame_bytes);
    buf_consume(&m->in, frame_bytes);
}

struct rpc {
    int fd;
    unsigned id;
    struct buf in;
};

/* params: "" or JSON. */
static void call_daemon(struct rpc *rpc, const char *method, const char *params)
{
    _cleanup_buf_ struct buf out;
    const char *line, *end;

    buf_init(&out, 4096);
    must_fit(buf_printf(&out, "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"%s\"%s%s}\n", ++rpc->id,
                        method, params[0] ? ",\"params\":" : "", params));
    write_all(rpc->fd, &out);
    do {
        read_more(rpc->fd, &rpc->in);
        line = (const char *)buf_head(&rpc->in);
        end = memchr(line, '\n', rpc->in.len);
    } while (!end);
    if (!memmem(line, (size_t)(end - line), "\"result\"", 8)) {
        fail("%s: %.*s", method, (int)(end - line), line);
    }
    buf_consume(&rpc->in, (size_t)(end - line) + 1);
}

enum pinged { PING_AGENT, PING_VM, PING_DAEMON, PINGED_COUNT };

struct pinging {
    struct machine *machine;
    struct rpc rpc;
    char vm_params[256];
    uint32_t request;
};

static void ping(struct pinging *p, enum pinged which)
{
    switch (which) {
    case PING_AGENT:
        ping_agent(p->machine, ++p->request);
        break;
    case PING_VM:
        call_daemon(&p->rpc, "vm.ping", p->vm_params);
        break;
    case PING_DAEMON:
    case PINGED_COUNT:
        call_daemon(&p->rpc, "daemon.ping", "");
        break;
    }
}

/* One round: `count` times those kinds in turn; the median of each goes to ret. */
static void ping_in_turn(struct pinging *p, const enum pinged *kinds, size_t kind_count,
                         size_t count, double *ret)
{
    double *each[PINGED_COUNT];

    for (size_t k = 0; k < kind_count; k++) {
        each[k] = doubles(count);
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < kind_count; k++) {
            int64_t begin = now_ns();

            ping(p, kinds[k]);
            each[k][i] = since_ms(begin);
        }
    }
    for (size_t k = 0; k < kind_count; k++) {
        ret[k] = median(each[k], count);
        free(each[k]);
    }
}

/* Fills p for the daemon at `path` and its guest. */
static void pinging_init(struct pinging *p, struct machine *m, const char *path, const char *vm)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *p = (struct pinging){.machine = m, .request = 1};
    if (strlen(path) >= sizeof(address.sun_path) || strpbrk(vm, "\"\\")) {
        fail("the path of the socket is too long, or '%s' is no name", vm);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    (void)snprintf(p->vm_params, sizeof(p->vm_params), "{\"vm\":\"%s\"}", vm);
    p->rpc.fd = connect_to(&address, sizeof(address));
    buf_init(&p->rpc.in, INPUT_MAX);
}

/* What a round has: all in turn, then bursts. A guest that is pinged again at once has not gone to
 * sleep yet and answers sooner, so a burst to it is another thing than one ping now and then. */
enum { COLUMN_TURN, COLUMN_AGENT_BURST = PINGED_COUNT, COLUMN_VM_BURST, COLUMN_COUNT };

static const char *const column_names[COLUMN_COUNT] = {
    "agent_ms", "vm_ping_ms", "daemon_ping_ms", "agent_burst_ms", "vm_ping_burst_ms",
};

static void ping_round(struct pinging *p, size_t count, double ret[COLUMN_COUNT])
{
    static const enum pinged kinds[] = {PING_AGENT, PING_VM, PING_DAEMON};

    ping_in_turn(p, kinds, ARRAY_LEN(kinds), count, ret + COLUMN_TURN);
    ping_in_turn(p, &kinds[PING_AGENT], 1, count, ret + COLUMN_AGENT_BURST);
    ping_in_turn(p, &kinds[PING_VM], 1, count, ret + COLUMN_VM_BURST);
}

static void ping_rounds(struct pinging *p, size_t rounds, size_t count)
{
    double *columns[COLUMN_COUNT];
    double round[COLUMN_COUNT];

    for (size_t c = 0; c < COLUMN_COUNT; c++) {
        columns[c] = doubles(rounds);
    }
    /* Not counted: the first translate guest code and fault in pages. */
    ping_round(p, count, round);
    for (size_t i = 0; i < rounds; i++) {
        ping_round(p, count, round);
        for (size_t c = 0; c < COLUMN_COUNT; c++) {
            columns[c][i] = round[c];
        }
    }
    (void)printf("{");
    for (size_t c = 0; c < COLUMN_COUNT; c++) {
        print_list(column_names[c], columns[c], rounds, c + 1 < COLUMN_COUNT ? ", " : "}\n");
        free(columns[c]);
    }
}

static int mode_ping(char **args)
{
    size_t rounds, count;
    struct pinging p;
    struct machine m;
    char agent[64];

    for (size_t i = 0; i < 4; i++) {
        if (!args[i]) {
            fail("ping SOCKET VM ROUNDS COUNT FD... -- QEMU...");
        }
    }
    rounds = (size_t)number(args[2], 1, ROUNDS_MAX);
    count = (size_t)number(args[3], 1, ROUNDS_MAX);
    machine_init(&m, args + 4);
    pinging_init(&p, &m, args[0], args[1]);
    machine_start(&m);
    say_hello(&m, agent, sizeof(agent));
    configure(&m);
    (void)execute_true(&m);
    ping_rounds(&p, rounds, count);
    end_qemu();
    close_p(&p.rpc.fd);
    buf_done(&p.rpc.in);
    machine_done(&m);
    return 0;
}

/* Commands ------------------------------------------------------------------------------------ */

static void quiet_actions(posix_spawn_file_actions_t *actions)
{
    posix_spawn_file_actions_init(actions);
    posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
}

/* The children of one thread of a process (each is listed at the thread that made it). */
static size_t children_of_thread(pid_t pid, const char *tid, pid_t *ret, size_t room)
{
    char path[64], text[CHILDREN_MAX * 12];
    char *p = text, *end;
    size_t count = 0;
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/children", pid, tid);
    f = fopen(path, "re");
    if (!f) {
        return 0; /* the thread is gone */
    }
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    (void)fclose(f);
    for (long child; (child = strtol(p, &end, 10)) > 0 && end != p && count < room; p = end) {
        ret[count++] = (pid_t)child;
    }
    return count;
}

static size_t children_of(pid_t pid, pid_t *ret, size_t room)
{
    size_t count = 0;
    struct dirent *e;
    char path[64];
    DIR *dir;

    (void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
    dir = opendir(path);
    if (!dir) {
        fail("no process %d", pid);
    }
    while ((e = readdir(dir))) {
        if (e->d_name[0] != '.') {
            count += children_of_thread(pid, e->d_name, ret + count, room - count);
        }
    }
    (void)closedir(dir);
    return count;
}

/* Returns how many children there still were. */
static size_t await_children(pid_t pid)
{
    pid_t children[CHILDREN_MAX];
    size_t count = children_of(pid, children, ARRAY_LEN(children));

    for (size_t i = 0; i < count; i++) {
        _cleanup_close_ int fd = pidfd_open(children[i], 0);
        struct pollfd p = {.fd = fd, .events = POLLIN};

        if (fd >= 0 && poll(&p, 1, DEADLINE_MS) <= 0) {
            fail("process %d does not end", children[i]);
        }
    }
    return count;
}

static int mode_run(char **args)
{
    posix_spawn_file_actions_t actions;
    double exited_ms, gone_ms;
    int64_t begin;
    pid_t daemon;
    size_t late;
    int status;

    if (!args[0] || !args[1] || strcmp(args[1], "--") != 0 || !args[2]) {
        fail("run DAEMON_PID -- COMMAND...");
    }
    daemon = (pid_t)number(args[0], 1, INT32_MAX);
    quiet_actions(&actions);
    begin = now_ns();
    status = await_exit(start(args + 2, &actions));
    exited_ms = since_ms(begin);
    late = await_children(daemon);
    gone_ms = late ? since_ms(begin) : exited_ms;
    posix_spawn_file_actions_destroy(&actions);
    (void)printf("{\"status\": %d, \"exited_ms\": %.3f, \"gone_ms\": %.3f, \"late\": %zu}\n",
                 status, exited_ms, gone_ms, late);
    return 0;
}

static int mode_spawn(char **args)
{
    static const char *const names[COMMANDS_MAX] = {"a_ms", "b_ms"};
    char **commands[COMMANDS_MAX];
    double *times[COMMANDS_MAX];
    posix_spawn_file_actions_t actions;
    size_t rounds, count = 0;

    rounds = (size_t)number(args[0] ? args[0] : "", 1, ROUNDS_MAX);
    for (args++; *args; args++) {
        if (strcmp(*args, "--") == 0 && count < COMMANDS_MAX && args[1]) {
            times[count] = doubles(rounds);
            commands[count++] = args + 1;
            *args = NULL;
        } else if (count == 0) {
            fail("spawn ROUNDS -- COMMAND... -- COMMAND...");
        }
    }
    quiet_actions(&actions);
    for (size_t i = 0; i < rounds; i++) {
        for (size_t k = 0; k < count; k++) {
            int64_t begin = now_ns();
            int status = await_exit(start(commands[k], &actions));

            times[k][i] = since_ms(begin);
            if (status != 0) {
                fail("'%s' ended with status %d", commands[k][0], status);
            }
        }
    }
    posix_spawn_file_actions_destroy(&actions);
    (void)printf("{");
    for (size_t k = 0; k < count; k++) {
        print_list(names[k], times[k], rounds, k + 1 < count ? ", " : "}\n");
        free(times[k]);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(char **args);
    } modes[] = {
        {"boot", mode_boot}, {"share", mode_share}, {"ping", mode_ping},
        {"run", mode_run},   {"spawn", mode_spawn},
    };

    for (size_t i = 0; i < ARRAY_LEN(modes) && argc > 1; i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            return modes[i].run(argv + 2);
        }
    }
    fail("usage: bench-floor boot|share|ping|run|spawn ... (see tests/bench/floor.c)");
}
