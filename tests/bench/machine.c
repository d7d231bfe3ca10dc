#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#define ORDER_SIZE 16
#define TARGET_FD_MAX 63

pid_t qemu_pid = -1;

int64_t now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

double since_ms(int64_t start_ns)
{
    return (double)(now_ns() - start_ns) / 1e6;
}

void end_qemu(void)
{
    if (qemu_pid > 0) {
        (void)kill(qemu_pid, SIGKILL);
        while (waitpid(qemu_pid, NULL, 0) < 0 && errno == EINTR) {
        }
        qemu_pid = -1;
    }
}

_noreturn_ void fail(const char *fmt, ...)
{
    va_list ap;

    end_qemu();
    va_start(ap, fmt);
    (void)fprintf(stderr, "%s: ", program_invocation_short_name);
    (void)vfprintf(stderr, fmt, ap);
    (void)fprintf(stderr, "\n");
    va_end(ap);
    exit(1);
}

long number(const char *text, long least, long most)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end || n < least || n > most) {
        fail("'%s' is not a number from %ld to %ld", text, least, most);
    }
    return n;
}

/* Processes ----------------------------------------------------------------------------------- */

pid_t start(char **argv, const posix_spawn_file_actions_t *actions)
{
    pid_t pid;
    int r = posix_spawnp(&pid, argv[0], actions, NULL, argv, environ);

    if (r != 0) {
        fail("cannot start '%s': %s", argv[0], strerror(r));
    }
    return pid;
}

int await_exit(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            fail("waitpid: %s", strerror(errno));
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The QEMU of a guest made by hand ------------------------------------------------------------ */

static int listen_anywhere(struct sockaddr_un *ret_address, socklen_t *ret_len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(a);

    /* Without a name the kernel chooses one, and no file is left. */
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(sa_family_t)) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0) {
        fail("cannot listen: %s", strerror(errno));
    }
    *ret_address = a;
    *ret_len = len;
    return fd;
}

int connect_to(const struct sockaddr_un *address, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)address, len) < 0) {
        fail("cannot connect: %s", strerror(errno));
    }
    return fd;
}

static int open_given(struct machine *m, const char *what)
{
    static const struct {
        const char *prefix;
        int flags;
    } kinds[] = {
        {"r:", O_RDONLY},
        {"w:", O_RDWR},
        {"a:", O_WRONLY | O_CREAT | O_APPEND | O_TRUNC},
    };
    struct sockaddr_un address;
    socklen_t len;
    int fd;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strncmp(what, kinds[i].prefix, 2) == 0) {
            fd = open(what + 2, kinds[i].flags | O_CLOEXEC, 0600);
            if (fd < 0) {
                fail("'%s': %s", what + 2, strerror(errno));
            }
            return fd;
        }
    }
    if (strcmp(what, "listen") != 0 && strcmp(what, "agent") != 0 && strcmp(what, "restore") != 0) {
        fail("'%s' is no descriptor", what);
    }
    fd = listen_anywhere(&address, &len);
    if (what[0] == 'a') {
        /* It waits in the queue until QEMU accepts, and so does what is written to it. */
        m->agent = connect_to(&address, len);
    } else if (what[0] == 'r') {
        m->qmp = connect_to(&address, len);
    }
    return fd;
}

void machine_init(struct machine *m, char **args)
{
    *m = (struct machine){.agent = -1, .qmp = -1};
    buf_init(&m->in, INPUT_MAX);
    for (; *args && strcmp(*args, "--") != 0; args++) {
        char *equals = strchr(*args, '=');
        struct given_fd *g = &m->fds[m->fd_count++];
        int fd;

        if (!equals || m->fd_count > MACHINE_FDS_MAX) {
            fail("'%s' is no descriptor, or one too many", *args);
        }
        *equals = '\0';
        g->as = (int)number(*args, 3, TARGET_FD_MAX);
        fd = open_given(m, equals + 1);
        /* Above all targets, so that no dup2 overwrites a later source. */
        g->fd = fcntl(fd, F_DUPFD_CLOEXEC, TARGET_FD_MAX + 1);
        if (g->fd < 0) {
            fail("fcntl: %s", strerror(errno));
        }
        close_p(&fd);
    }
    if (!args[0] || !args[1]) {
        fail("no command line of QEMU");
    }
    m->argv = args + 1;
    if (m->agent < 0) {
        fail("no descriptor is the agent's");
    }
}

/* In one write, which QEMU reads when it is ready. */
static void restore(const struct machine *m)
{
    static const char commands[] =
        "{\"execute\":\"qmp_capabilities\"}\n"
        "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":"
        "[{\"capability\":\"x-ignore-shared\",\"state\":true}]}}\n"
        "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"announce-rounds\":0}}\n"
        "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:11\"}}\n";

    if (write(m->qmp, commands, sizeof(commands) - 1) != (ssize_t)sizeof(commands) - 1) {
        fail("cannot write to QMP: %s", strerror(errno));
    }
}

void machine_start(struct machine *m)
{
    posix_spawn_file_actions_t actions;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    /* What it says goes to our stderr: stdout is for the figures. */
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    for (size_t i = 0; i < m->fd_count; i++) {
        posix_spawn_file_actions_adddup2(&actions, m->fds[i].fd, m->fds[i].as);
    }
    qemu_pid = start(m->argv, &actions);
    posix_spawn_file_actions_destroy(&actions);
    /* Else the end of QEMU would not be seen on the agent's connection. */
    for (size_t i = 0; i < m->fd_count; i++) {
        close_p(&m->fds[i].fd);
    }
    if (m->qmp >= 0) {
        restore(m);
    }
}

void machine_done(struct machine *m)
{
    close_p(&m->agent);
    close_p(&m->qmp);
    buf_done(&m->in);
}

/* The agent ----------------------------------------------------------------------------------- */

void read_more(int fd, struct buf *in)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, DEADLINE_MS);
    ssize_t got;

    if (n <= 0) {
        fail("no answer: %s", n == 0 ? "it took too long" : strerror(errno));
    }
    got = buf_read_fd(in, fd, INPUT_MAX);
    if (got <= 0) {
        fail("no answer: %s", got == 0 ? "the other side has ended" : strerror((int)-got));
    }
}

void write_all(int fd, struct buf *out)
{
    while (out->len > 0) {
        ssize_t n = buf_write_fd(out, fd);

        if (n < 0) {
            fail("cannot write: %s", strerror((int)-n));
        }
    }
}

struct frame await_frame(struct machine *m, uint8_t type, uint32_t stream, size_t *ret_size)
{
    for (;;) {
        struct frame f;
        int n = m->in.len > 0 ? frame_parse(buf_head(&m->in), m->in.len, &f) : 0;

        if (n < 0) {
            fail("the agent sent what is no frame");
        } else if (n == 0) {
            read_more(m->agent, &m->in);
            continue;
        }
        if (f.type == FRAME_FATAL || f.type == FRAME_FAILED) {
            fail("the agent refused (frame type %u)", f.type);
        }
        if (f.type == type && f.stream == stream) {
            *ret_size = (size_t)n;
            return f;
        }
        buf_consume(&m->in, (size_t)n);
    }
}

void must_fit(int r)
{
    if (r < 0) {
        fail("a frame does not fit: %s", strerror(-r));
    }
}

void say_hello(struct machine *m, char *ret_version, size_t size)
{
    _cleanup_buf_ struct buf out;
    const uint8_t *nonce, *skipped, *text;
    struct frame_reader r;
    size_t frame_bytes;
    struct frame f;
    uint8_t own[FRAME_NONCE_SIZE];

    if (getrandom(own, sizeof(own), 0) != (ssize_t)sizeof(own)) {
        fail("getrandom: %s", strerror(errno));
    }
    buf_init(&out, FRAME_MAX);
    must_fit(frame_put_hello(&out, own));
    write_all(m->agent, &out);
    f = await_frame(m, FRAME_HELLO_OK, 0, &frame_bytes);
    r = frame_reader(&f);
    if (frame_take_bytes(&r, FRAME_NONCE_SIZE, &nonce) < 0 ||
        memcmp(nonce, own, FRAME_NONCE_SIZE) != 0 || frame_take_bytes(&r, 6, &skipped) < 0) {
        fail("the agent's hello is not an answer to ours");
    }
    /* Into JSON: whatever a guest says is not to be trusted. */
    text = r.p;
    (void)snprintf(ret_version, size, "%.*s", (int)r.left, (const char *)text);
    for (char *p = ret_version; *p; p++) {
        *p = *p < ' ' || *p > '~' || *p == '"' || *p == '\\' ? '?' : *p;
    }
    buf_consume(&m->in, frame_bytes);
}

void configure(struct machine *m)
{
    _cleanup_buf_ struct buf body, out;
    uint8_t entropy[64], time_le[8];
    struct frame_reader r;
    struct timespec ts;
    size_t frame_bytes;
    struct frame f;
    uint32_t error;
    uint64_t ns;

    buf_init(&body, 1024);
    buf_init(&out, FRAME_MAX);
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    ns = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
    for (size_t i = 0; i < sizeof(time_le); i++) {
        time_le[i] = (uint8_t)(ns >> (8 * i));
    }
    if (getrandom(entropy, sizeof(entropy), 0) != (ssize_t)sizeof(entropy)) {
        fail("getrandom: %s", strerror(errno));
    }
    must_fit(frame_put_tlv(&body, FRAME_TAG_ENTROPY, entropy, sizeof(entropy)));
    must_fit(frame_put_tlv(&body, FRAME_TAG_TIME, time_le, sizeof(time_le)));
    must_fit(frame_put_tlv(&body, FRAME_TAG_HOSTNAME, "floor", 5));
    if (m->qmp >= 0) {
        static const char id[] = "0123456789abcdef0123456789abcdef";
        static const char boot_id[] = "01234567-89ab-cdef-0123-456789abcdef";

        must_fit(frame_put_tlv(&body, FRAME_TAG_MACHINE_ID, id, sizeof(id) - 1));
        must_fit(frame_put_tlv(&body, FRAME_TAG_BOOT_ID, boot_id, sizeof(boot_id) - 1));
    }
    must_fit(frame_put_body(&out, FRAME_CONFIGURE, 1, buf_head(&body), body.len));
    write_all(m->agent, &out);
    f = await_frame(m, FRAME_REPLY, 1, &frame_bytes);
    r = frame_reader(&f);
    if (frame_take_u32(&r, &error) < 0 || error != 0) {
        fail("the agent could not configure the guest");
    }
    buf_consume(&m->in, frame_bytes);
}

pid_t start_piped(char **argv, int stream, int *ret_fd)
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

/* The guest of tests/guest/floor.c --------------------------------------------------------------
 */

char **next_command(char **args, const char *word, const char *usage)
{
    while (*args && strcmp(*args, word) != 0) {
        args++;
    }
    if (!args[0] || !args[1]) {
        fail("%s", usage);
    }
    *args = NULL;
    return args + 1;
}

void await_success(char **argv, pid_t pid)
{
    int status = await_exit(pid);

    if (status != 0) {
        fail("'%s' ended with status %d", argv[0], status);
    }
}

void order(int port, uint8_t what, long bytes)
{
    uint8_t o[ORDER_SIZE] = {what};

    for (int i = 0; i < 8; i++) {
        o[8 + i] = (uint8_t)((uint64_t)bytes >> (8 * i));
    }
    if (write(port, o, sizeof(o)) != sizeof(o)) {
        fail("the guest takes no order: %s", strerror(errno));
    }
}

void read_bytes(int fd, long left)
{
    static uint8_t piece[PIECE];

    while (left > 0) {
        ssize_t n = read(fd, piece, left < PIECE ? (size_t)left : PIECE);

        if (n <= 0) {
            fail("%ld bytes are missing: %s", left, n == 0 ? "end" : strerror(errno));
        }
        left -= n;
    }
}

void set_deadline(int fd)
{
    const struct timeval deadline = {.tv_sec = DEADLINE_MS / 1000};

    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof(deadline)) < 0) {
        fail("setsockopt: %s", strerror(errno));
    }
}

/* Figures ------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

double *doubles(size_t count)
{
    double *values = calloc(count, sizeof(*values));

    if (!values) {
        fail("out of memory");
    }
    return values;
}

double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), by_size);
    return values[count / 2];
}

void print_list(const char *name, const double *values, size_t count, const char *end)
{
    (void)printf("\"%s\": [", name);
    for (size_t i = 0; i < count; i++) {
        (void)printf("%s%.4f", i ? ", " : "", values[i]);
    }
    (void)printf("]%s", end);
}
