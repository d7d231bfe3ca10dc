/*
 * What a daemon with many VMs is measured with, and against.
 *
 *   bench-scale calls SOCKET METHOD PARAMS COUNT DEPTH
 *       COUNT calls of METHOD on one connection, DEPTH of them at once; prints how long each took
 *       and all together. A NUMBER in PARAMS that is "%" stands for the number of the call
 *   bench-scale fetch SOCKET BYTES
 *       sends a line, reads one, prints the first BYTES of it: the least that a listing does
 *   bench-scale processes FILE
 *       looks at each process whose id is a line of FILE, as one does who takes it over: a pidfd,
 *       its start time, its command line
 *
 * Times are fractions of milliseconds. Any surprise ends it with status 1 and a sentence.
 */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>

#define CALLS_MAX 1000000
#define LINE_MAX_BYTES (8 * 1024 * 1024)

static int connect_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path)) {
        fail("the path of the socket is too long");
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    return connect_to(&address, sizeof(address));
}

/* Calls --------------------------------------------------------------------------------------- */

struct calling {
    int fd;
    const char *method, *params; /* params: a "%" in it is the number of the call */
    struct buf in;
    int64_t *begun;
    double *took;
};

static void send_call(struct calling *c, size_t i)
{
    const char *mark = strchr(c->params, '%');
    size_t before = mark ? (size_t)(mark - c->params) : strlen(c->params);
    _cleanup_buf_ struct buf out;

    buf_init(&out, 4096);
    must_fit(buf_printf(&out, "{\"jsonrpc\":\"2.0\",\"id\":%zu,\"method\":\"%s\",\"params\":%.*s",
                        i, c->method, (int)before, c->params));
    must_fit(mark ? buf_printf(&out, "%zu%s", i, mark + 1) : 0);
    must_fit(buf_append_str(&out, "}\n"));
    c->begun[i] = now_ns();
    write_all(c->fd, &out);
}

/* The number of the call that the next line answers. */
static size_t next_answer(struct calling *c, size_t count)
{
    static const char id[] = "\"id\":";
    const char *line, *end, *at;
    size_t i;

    while (!(end = c->in.len > 0 ? memchr(buf_head(&c->in), '\n', c->in.len) : NULL)) {
        read_more(c->fd, &c->in);
    }
    line = (const char *)buf_head(&c->in);
    at = memmem(line, (size_t)(end - line), id, strlen(id));
    if (!at || !memmem(line, (size_t)(end - line), "\"result\"", 8)) {
        fail("%s: %.*s", c->method, (int)(end - line), line);
    }
    i = strtoul(at + strlen(id), NULL, 10);
    if (i >= count) {
        fail("%s: an answer to call %zu", c->method, i);
    }
    buf_consume(&c->in, (size_t)(end - line) + 1);
    return i;
}

static int mode_calls(char **args)
{
    struct calling c = {0};
    size_t count, depth, sent = 0;
    int64_t begin;
    double all_ms;

    for (size_t i = 0; i < 5; i++) {
        if (!args[i]) {
            fail("calls SOCKET METHOD PARAMS COUNT DEPTH");
        }
    }
    count = (size_t)number(args[3], 1, CALLS_MAX);
    depth = (size_t)number(args[4], 1, 256);
    c.fd = connect_path(args[0]);
    c.method = args[1];
    c.params = args[2];
    c.took = doubles(count);
    c.begun = calloc(count, sizeof(*c.begun));
    if (!c.begun) {
        fail("no memory");
    }
    buf_init(&c.in, LINE_MAX_BYTES);
    begin = now_ns();
    while (sent < count && sent < depth) {
        send_call(&c, sent++);
    }
    for (size_t done = 0; done < count; done++) {
        size_t i = next_answer(&c, count);

        c.took[i] = since_ms(c.begun[i]);
        if (sent < count) {
            send_call(&c, sent++);
        }
    }
    all_ms = since_ms(begin);
    (void)printf("{\"all_ms\": %.3f, ", all_ms);
    print_list("each_ms", c.took, count, "}\n");
    close_p(&c.fd);
    buf_done(&c.in);
    free(c.took);
    free(c.begun);
    return 0;
}

/* Floors -------------------------------------------------------------------------------------- */

static int mode_fetch(char **args)
{
    _cleanup_buf_ struct buf in, out;
    const char *end = NULL;
    size_t bytes;
    int fd;

    if (!args[0] || !args[1]) {
        fail("fetch SOCKET BYTES");
    }
    bytes = (size_t)number(args[1], 0, LINE_MAX_BYTES);
    fd = connect_path(args[0]);
    buf_init(&in, LINE_MAX_BYTES);
    buf_init(&out, 16);
    must_fit(buf_append_str(&out, "\n"));
    write_all(fd, &out);
    for (size_t seen = 0; !end; seen = in.len) {
        read_more(fd, &in);
        end = memchr((const char *)buf_head(&in) + seen, '\n', in.len - seen);
    }
    if (fwrite(buf_head(&in), 1, bytes < in.len ? bytes : in.len, stdout) == 0 && bytes > 0) {
        fail("cannot print");
    }
    close_p(&fd);
    return 0;
}

static void read_file(pid_t pid, const char *name)
{
    char path[64], text[65536];
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, text, sizeof(text));
    if (n <= 0) {
        fail("'%s': %s", path, strerror(errno));
    }
    close_p(&fd);
}

static int mode_processes(char **args)
{
    FILE *f = fopen(args[0] ? args[0] : "", "re");
    char line[32];

    if (!f) {
        fail("processes FILE");
    }
    while (fgets(line, sizeof(line), f)) {
        pid_t pid = (pid_t)strtol(line, NULL, 10);
        int fd = pidfd_open(pid, 0);

        if (fd < 0) {
            fail("no process %d", pid);
        }
        read_file(pid, "stat");
        read_file(pid, "cmdline");
        close_p(&fd);
    }
    (void)fclose(f);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(char **args);
    } modes[] = {
        {"calls", mode_calls},
        {"fetch", mode_fetch},
        {"processes", mode_processes},
    };

    for (size_t i = 0; i < ARRAY_LEN(modes) && argc > 1; i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            return modes[i].run(argv + 2);
        }
    }
    fail("usage: bench-scale calls|fetch|processes ... (see tests/bench/scale.c)");
}
