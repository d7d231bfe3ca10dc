#include "agent/request.h"

#include "agent/boot_id.h"
#include "agent/data_disk.h"
#include "agent/hostname.h"
#include "agent/machine_id.h"
#include "agent/network.h"
#include "agent/resolver.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/random.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#define ENTROPY_MIN 32
#define ENTROPY_MAX 512
#define NS_PER_S 1000000000ULL

static bool put_reply_bytes(struct buf *out, uint32_t stream, int error, const void *data,
                            size_t len)
{
    uint8_t payload[4 + REQUEST_TOLD_MAX];

    for (int i = 0; i < 4; i++) {
        payload[i] = (uint8_t)((uint32_t)error >> (8 * i));
    }
    len = len < REQUEST_TOLD_MAX ? len : REQUEST_TOLD_MAX;
    memcpy(payload + 4, data, len);
    return frame_put(out, &(struct frame){.type = FRAME_REPLY,
                                          .stream = stream,
                                          .payload = payload,
                                          .length = (uint32_t)(4 + len)}) == 0;
}

static bool put_reply(struct buf *out, uint32_t stream, int error, const char *text)
{
    return put_reply_bytes(out, stream, error, text, strlen(text));
}

/* Configure ----------------------------------------------------------------------------------- */

struct configuration {
    const uint8_t *entropy;
    uint32_t entropy_len;
    bool has_time;
    uint64_t time_ns;
    uint64_t received_ns; /* CLOCK_MONOTONIC */
    char hostname[HOSTNAME_LEN_MAX + 1];
    char machine_id[MACHINE_ID_LEN + 1];
    char boot_id[BOOT_ID_LEN + 1];
    bool has_network;
    struct frame_network network;
    struct resolvers resolvers;
    bool init;
};

static uint64_t mono_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* What is wrong with it, or NULL. */
static const char *parse_item(struct configuration *c, uint8_t tag, const uint8_t *value,
                              uint32_t len)
{
    struct frame_reader v = {.p = value, .left = len};

    switch (tag) {
    case FRAME_TAG_ENTROPY:
        c->entropy = value;
        c->entropy_len = len;
        return len < ENTROPY_MIN || len > ENTROPY_MAX ? "entropy" : NULL;
    case FRAME_TAG_TIME:
        c->has_time = len == 8 && frame_take_u64(&v, &c->time_ns) == 0 && c->time_ns <= INT64_MAX;
        return c->has_time ? NULL : "time";
    case FRAME_TAG_HOSTNAME:
        if (!hostname_valid(value, len)) {
            return "hostname";
        }
        memcpy(c->hostname, value, len);
        c->hostname[len] = 0;
        return NULL;
    case FRAME_TAG_MACHINE_ID:
        if (!machine_id_valid(value, len)) {
            return "machine-id";
        }
        memcpy(c->machine_id, value, len);
        return NULL;
    case FRAME_TAG_BOOT_ID:
        if (!boot_id_valid(value, len)) {
            return "boot_id";
        }
        memcpy(c->boot_id, value, len);
        return NULL;
    case FRAME_TAG_NETWORK:
        c->has_network =
            frame_take_network(value, len, &c->network) == 0 && network_valid(&c->network);
        return c->has_network ? NULL : "network";
    case FRAME_TAG_RESOLVER:
        return resolvers_add(&c->resolvers, value, len) ? NULL : "resolver";
    case FRAME_TAG_INIT:
        c->init = true;
        return NULL;
    default: /* of a newer host */
        return NULL;
    }
}

/* Everything is checked before anything is changed. */
static int parse_configuration(const struct frame *f, struct configuration *c, const char **ret_bad)
{
    struct frame_reader r = frame_reader(f);
    const uint8_t *value;
    uint32_t len;
    uint8_t tag;
    int n;

    *c = (struct configuration){.received_ns = mono_ns()};
    while ((n = frame_take_tlv(&r, &tag, &value, &len)) > 0) {
        *ret_bad = parse_item(c, tag, value, len);
        if (*ret_bad) {
            return -EINVAL;
        }
    }
    *ret_bad = "format";
    return n;
}

/* Both calls are needed: without the second, forks of one template give the same numbers. */
static int add_entropy(const struct configuration *c)
{
    union {
        struct rand_pool_info info;
        uint8_t bytes[sizeof(struct rand_pool_info) + ENTROPY_MAX];
    } pool = {.info = {.entropy_count = (int)c->entropy_len * 8, .buf_size = (int)c->entropy_len}};
    _cleanup_close_ int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);

    memcpy(pool.bytes + offsetof(struct rand_pool_info, buf), c->entropy, c->entropy_len);
    if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0) {
        return -errno;
    }
    return 0;
}

/* It was so late when the request came: in a guest that was just restored, what stands before this
 * takes a while. */
static int set_time(const struct configuration *c)
{
    uint64_t now_ns = c->time_ns + (mono_ns() - c->received_ns);
    struct timespec ts = {.tv_sec = (time_t)(now_ns / NS_PER_S),
                          .tv_nsec = (long)(now_ns % NS_PER_S)};

    return clock_settime(CLOCK_REALTIME, &ts) < 0 ? -errno : 0;
}

/* What comes of it is known at once, and stands in its place. */
static int apply_network(struct requests *q, struct configuration *c, const char **ret_bad)
{
    const struct frame_network wanted = c->network;
    int r = network_set(&wanted, q->gateway4, &c->network, ret_bad);

    if (r == 0) {
        memcpy(q->gateway4, wanted.gateway4, sizeof(q->gateway4));
    }
    return r;
}

static int apply_configuration(struct requests *q, struct configuration *c, const char **ret_bad)
{
    int r = 0;

    *ret_bad = "entropy";
    if (c->entropy) {
        r = add_entropy(c);
    }
    if (r == 0 && c->has_time) {
        *ret_bad = "time";
        r = set_time(c);
    }
    if (r == 0 && c->boot_id[0]) {
        *ret_bad = "boot_id";
        r = boot_id_set(c->boot_id);
    }
    if (r == 0 && c->hostname[0]) {
        *ret_bad = "hostname";
        r = hostname_set(c->hostname);
    }
    if (r == 0 && c->machine_id[0]) {
        /* A guest whose disk is full has to come up all the same; the host is told. */
        (void)machine_id_set(c->machine_id);
    }
    if (r == 0 && c->has_network) {
        r = apply_network(q, c, ret_bad);
    }
    /* The same: it will be missing in what is read back. */
    if (r == 0 && c->resolvers.count > 0 && resolvers_set(RESOLVER_PATH, &c->resolvers) < 0) {
        c->resolvers.count = 0;
    }
    return r;
}

/* As it is now, and not as it was asked for. */
static int read_back(struct configuration *c, const char **ret_bad)
{
    struct timespec ts;

    if (c->has_time) {
        (void)clock_gettime(CLOCK_REALTIME, &ts);
        c->time_ns = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
    }
    if (c->machine_id[0] && machine_id_get(c->machine_id) < 0) {
        c->machine_id[0] = 0;
    }
    if (c->boot_id[0] && boot_id_get(c->boot_id) < 0) {
        c->boot_id[0] = 0;
    }
    if (c->resolvers.count > 0 && resolvers_get(RESOLVER_PATH, &c->resolvers) < 0) {
        c->resolvers.count = 0;
    }
    *ret_bad = "hostname";
    return c->hostname[0] && gethostname(c->hostname, sizeof(c->hostname)) < 0 ? -errno : 0;
}

static void put_configuration(const struct configuration *c, uint32_t stream, struct buf *out)
{
    _cleanup_buf_ struct buf told;
    uint8_t time[8];
    bool full = false;

    buf_init(&told, REQUEST_TOLD_MAX);
    for (int i = 0; i < 8; i++) {
        time[i] = (uint8_t)(c->time_ns >> (8 * i));
    }
    if (c->has_time) {
        full |= frame_put_tlv(&told, FRAME_TAG_TIME, time, sizeof(time)) < 0;
    }
    if (c->hostname[0]) {
        full |= frame_put_tlv(&told, FRAME_TAG_HOSTNAME, c->hostname, strlen(c->hostname)) < 0;
    }
    if (c->machine_id[0]) {
        full |= frame_put_tlv(&told, FRAME_TAG_MACHINE_ID, c->machine_id, MACHINE_ID_LEN) < 0;
    }
    if (c->boot_id[0]) {
        full |= frame_put_tlv(&told, FRAME_TAG_BOOT_ID, c->boot_id, BOOT_ID_LEN) < 0;
    }
    if (c->has_network) {
        full |= frame_put_network(&told, &c->network) < 0;
    }
    for (unsigned i = 0; i < c->resolvers.count; i++) {
        const char *address = c->resolvers.address[i];

        full |= frame_put_tlv(&told, FRAME_TAG_RESOLVER, address, strlen(address)) < 0;
    }
    if (c->init) {
        full |= frame_put_tlv(&told, FRAME_TAG_INIT, "", 0) < 0;
    }
    if (full) {
        (void)put_reply(out, stream, ENOMEM, "configure: what is so");
        return;
    }
    (void)put_reply_bytes(out, stream, 0, buf_head(&told), told.len);
}

static int begin_init(struct requests *q, struct configuration *c, struct buf *out, uint32_t stream)
{
    char text[REQUEST_TEXT_MAX];
    int r = q->init ? init_begin(q->init) : 0;

    c->init = q->init && q->init->begun;
    if (r < 0) {
        (void)snprintf(text, sizeof(text), "cannot run the image's init '%.120s': %s",
                       q->init->path, strerror(-r));
        (void)put_reply(out, stream, -r, text);
    }
    return r;
}

/* It is asked to end the machine once it has begun. */
static bool has_init(const struct requests *q)
{
    return q->init && q->init->begun;
}

static void on_configure(struct requests *q, const struct frame *f, struct buf *out)
{
    struct configuration c;
    const char *bad;
    char text[REQUEST_TEXT_MAX] = "";
    int r = parse_configuration(f, &c, &bad);

    if (r == 0 && q->live) {
        r = apply_configuration(q, &c, &bad);
    }
    if (r == 0 && q->live) {
        r = read_back(&c, &bad);
    }
    /* Last, and after what it might change again has been read. */
    if (r == 0 && q->live && c.init && begin_init(q, &c, out, f->stream) < 0) {
        return;
    }
    if (r == 0) {
        put_configuration(&c, f->stream, out);
        return;
    }
    (void)snprintf(text, sizeof(text), "configure: %s: %s", bad, strerror(-r));
    (void)put_reply(out, f->stream, -r, text);
}

/* Jobs ----------------------------------------------------------------------------------------
 * Each in a child, because it may take seconds. It lives longer than a vfork could. */

static void begin(struct requests *q, const struct frame *f,
                  int (*job)(const struct requests *q, const struct frame *f), struct buf *out)
{
    for (int i = 0; i < REQUEST_JOBS_MAX; i++) {
        struct job *j = &q->jobs[i];

        if (j->pid > 0 || j->done) {
            continue;
        }
        j->pid = fork();
        if (j->pid == 0) {
            _exit(job(q, f));
        }
        if (j->pid < 0) {
            (void)put_reply(out, f->stream, errno, "cannot make a process");
            j->pid = 0;
        }
        j->stream = f->stream;
        j->silent = false;
        return;
    }
    (void)put_reply(out, f->stream, EAGAIN, "too many requests at once");
}

static int do_sync(const struct requests *q, const struct frame *f)
{
    (void)f;
    if (q->live) {
        sync();
    }
    return 0;
}

static int do_grow(const struct requests *q, const struct frame *f)
{
    struct frame_reader r = frame_reader(f);
    uint64_t bytes;

    return frame_take_u64(&r, &bytes) < 0 ? EPROTO : -data_disk_grow(q->data_fd, q->disk_fd, bytes);
}

static void on_grow(struct requests *q, const struct frame *f, struct buf *out)
{
    if (q->data_fd < 0 || q->disk_fd < 0) {
        (void)put_reply(out, f->stream, ENODEV, "there is no data disk");
        return;
    }
    begin(q, f, do_grow, out);
}

void requests_reaped(struct requests *q, pid_t pid, int status)
{
    for (int i = 0; i < REQUEST_JOBS_MAX; i++) {
        struct job *j = &q->jobs[i];

        if (j->pid == pid) {
            j->pid = 0;
            j->done = !j->silent;
            j->error = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
        }
    }
    if (q->asker == pid) {
        q->asker = 0;
        q->refused = status;
    }
}

/* Poweroff ------------------------------------------------------------------------------------ */

static void arm(struct requests *q, unsigned ms)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}};

    (void)timerfd_settime(q->timer.fd, 0, &when, NULL);
}

/* To all processes but this one; only to our own in a test, and where there is an init: either it
 * does the same itself, or it might end when all its children do, which is a panic. */
static void signal_all(struct requests *q, int sig)
{
    if (q->live && !has_init(q)) {
        (void)kill(-1, sig);
    } else {
        sessions_signal(q->sessions, sig);
    }
}

/* Nobody is left who could write. A frozen filesystem has an empty journal: it is clean. */
static void leave(struct requests *q)
{
    if (q->live) {
        sync();
        /* init goes on: it has file systems to write to. */
        if (q->data_fd >= 0 && !q->by_init) {
            (void)ioctl(q->data_fd, FIFREEZE, 0);
        }
    }
    q->power = POWER_LEAVING;
    q->reply_due = q->farewell_due = true;
    arm(q, REQUEST_FLUSH_MS);
}

static void go_down(struct requests *q)
{
    q->power = POWER_TERMINATING;
    q->sessions->closed = true;
    /* Shells ignore SIGTERM, not SIGHUP; a stopped process hears neither without SIGCONT. */
    signal_all(q, SIGTERM);
    signal_all(q, SIGHUP);
    signal_all(q, SIGCONT);
    arm(q, REQUEST_TERM_MS);
}

/* Where there is no way to ask init, the machine ends under it, with all that is written on the
 * disk. */
static void ask_init(struct requests *q)
{
    if (q->asker > 0) {
        arm(q, REQUEST_ASK_MS);
        return;
    }
    q->asks++;
    q->refused = 0;
    switch (init_ask_poweroff(&q->asker)) {
    case INIT_TOLD:
    case INIT_ASKING:
        q->power = POWER_ASKED;
        arm(q, REQUEST_ASK_MS);
        break;
    case INIT_NONE:
        go_down(q);
        break;
    }
}

/* A signal that PID 1 has no handler for yet is lost, and so it is told again. A program that was
 * heard is not run again: what it asked for may take as long as it wants. */
static void ask_again(struct requests *q)
{
    bool told = q->asker == 0 && q->refused == 0;

    if (q->asks < REQUEST_ASKS && !(told && access("/run/systemd/system", F_OK) < 0)) {
        ask_init(q);
    } else if (q->refused != 0) {
        q->power = POWER_ON;
        q->refusal_due = !q->power_silent;
    }
}

static void on_poweroff(struct requests *q, const struct frame *f)
{
    q->power_stream = f->stream;
    q->power_silent = false;
    if (q->power != POWER_ON && q->power != POWER_ASKED) {
        return;
    }
    q->asks = 0;
    if (has_init(q)) {
        ask_init(q);
    } else {
        go_down(q);
    }
}

void requests_init_ends(struct requests *q)
{
    if (q->power == POWER_ON) {
        q->power_silent = true; /* nobody asked */
    }
    if (q->power == POWER_ON || q->power == POWER_ASKED) {
        q->by_init = true;
        go_down(q);
    }
}

void requests_idle(struct requests *q, bool no_children)
{
    if (no_children && (q->power == POWER_TERMINATING || q->power == POWER_KILLING)) {
        leave(q);
    }
}

static void on_timer(struct source *source, uint32_t events)
{
    struct requests *q = source->owner;
    uint64_t expirations;

    (void)events;
    (void)!read(source->fd, &expirations, sizeof(expirations));
    switch (q->power) {
    case POWER_ASKED:
        ask_again(q);
        break;
    case POWER_TERMINATING:
        q->power = POWER_KILLING;
        signal_all(q, SIGKILL);
        arm(q, REQUEST_KILL_MS);
        break;
    case POWER_KILLING:
        leave(q);
        break;
    case POWER_LEAVING:
        q->power = POWER_OFF;
        break;
    default:
        break;
    }
}

/* All together -------------------------------------------------------------------------------- */

int requests_init(struct requests *q, struct poller *poller, struct sessions *sessions)
{
    int fd;

    *q = (struct requests){
        .poller = poller,
        .sessions = sessions,
        .data_fd = -1,
        .disk_fd = -1,
        .timer = {.fd = -1, .handle = on_timer, .owner = q},
    };
    fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return fd < 0 ? -errno : poller_add(poller, &q->timer, fd, EPOLLIN);
}

void requests_done(struct requests *q)
{
    poller_close(q->poller, &q->timer);
}

void requests_frame(struct requests *q, const struct frame *f, struct buf *out)
{
    switch (f->type) {
    case FRAME_CONFIGURE:
        on_configure(q, f, out);
        break;
    case FRAME_SYNC:
        begin(q, f, do_sync, out);
        break;
    case FRAME_GROW:
        on_grow(q, f, out);
        break;
    case FRAME_POWEROFF:
        on_poweroff(q, f);
        break;
    default:
        break;
    }
}

void requests_detach(struct requests *q)
{
    q->power_silent = true;
    q->refusal_due = false;
    for (int i = 0; i < REQUEST_JOBS_MAX; i++) {
        q->jobs[i].silent = true;
        q->jobs[i].done = false;
    }
}

static bool put_refusal(struct requests *q, struct buf *out)
{
    char text[REQUEST_TEXT_MAX];

    q->refusal_due = false;
    if (WIFSIGNALED(q->refused)) {
        (void)snprintf(text, sizeof(text), "the guest's poweroff was killed by signal %d",
                       WTERMSIG(q->refused));
    } else {
        (void)snprintf(text, sizeof(text), "the guest's poweroff ended with status %d",
                       WEXITSTATUS(q->refused));
    }
    return put_reply(out, q->power_stream, EIO, text);
}

bool requests_next(struct requests *q, struct buf *out)
{
    if (q->refusal_due) {
        return put_refusal(q, out);
    }
    for (int i = 0; i < REQUEST_JOBS_MAX; i++) {
        struct job *j = &q->jobs[i];

        if (j->done) {
            j->done = false;
            return put_reply(out, j->stream, j->error, j->error ? strerror(j->error) : "");
        }
    }
    return false;
}

bool requests_farewell(struct requests *q, struct buf *out)
{
    if (q->reply_due) {
        q->reply_due = false;
        if (!q->power_silent) {
            return put_reply(out, q->power_stream, 0, "");
        }
    }
    if (q->farewell_due) {
        q->farewell_due = false;
        return frame_put(out, &(struct frame){.type = FRAME_GOING_DOWN}) == 0;
    }
    return false;
}

void requests_flushed(struct requests *q)
{
    if (q->power == POWER_LEAVING && !q->farewell_due) {
        q->power = POWER_OFF;
    }
}
