/*
 * Any bytes of a guest's agent to the daemon's end of the link. The loop and the registry are made
 * once; each input is a link of its own, with a real HELLO before the bytes. The first byte of the
 * input: bit 0: an earlier daemon spoke on the port; bit 1: the hello says that two sessions are
 * listed, which are registered if bit 0 is set; bit 2: a command was started (its stream is 1); bit
 * 3: and a client is attached to it, with windows open; bit 4: no HELLO_OK: the bytes come instead.
 */
#include "base/cancel.h"
#include "base/clock.h"
#include "codec/api.h"
#include "guest/guest_priv.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#define VM "0123456789abcdef0123456789abcdef"
#define PATIENCE_MS 10000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct guest_link *link;
    struct latch broken;
    int agent, client;
    pthread_t starter;
    char id[ID_SIZE];
    int start_result;
};

static struct loop *loop;
static struct session_registry *sessions;

static int64_t deadline(void)
{
    return clock_mono_ms() + PATIENCE_MS;
}

static void on_link(void *arg, enum guest_link_event event, const char *text)
{
    struct run *r = arg;

    assert(strlen(text) < 256);
    if (event == GUEST_LINK_BROKEN) {
        latch_set(&r->broken);
    }
}

static void on_session(void *arg, enum session_event event, const char *vm_id,
                       const char *session_id)
{
    (void)arg;
    (void)event;
    assert(strlen(vm_id) > 0 && strlen(session_id) == ID_SIZE - 1);
}

static void write_all(int fd, const void *data, size_t len)
{
    const uint8_t *at = data;

    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

        if (n < 0) {
            if (errno != EAGAIN || cancel_wait_fd(NULL, fd, POLLOUT, deadline()) < 0) {
                return; /* the link has been broken by what came before */
            }
            continue;
        }
        at += n;
        len -= (size_t)n;
    }
}

/* Reads until there are `want` bytes; they may already be there. */
static void read_some(int fd, struct buf *in, size_t want)
{
    while (in->len < want) {
        ssize_t n = buf_read_fd(in, fd, 65536);

        if (n == -EAGAIN) {
            n = cancel_wait_fd(NULL, fd, POLLIN, deadline()) == 0 ? 1 : -1;
        }
        if (n <= 0) {
            abort();
        }
    }
}

static void take_hello(struct run *r, bool adopted, uint8_t nonce[FRAME_NONCE_SIZE])
{
    size_t zeros = adopted ? FRAME_MAX : 0;
    _cleanup_buf_ struct buf in;

    buf_init(&in, 4 * FRAME_MAX);
    read_some(r->agent, &in, zeros + frame_size(FRAME_NONCE_SIZE + 4));
    assert(buf_head(&in)[zeros] == FRAME_MAGIC && buf_head(&in)[zeros + 1] == FRAME_HELLO);
    memcpy(nonce, buf_head(&in) + zeros + FRAME_HEADER_SIZE, FRAME_NONCE_SIZE);
}

static void send_hello_ok(struct run *r, const uint8_t *nonce, uint8_t listed)
{
    uint8_t p[FRAME_NONCE_SIZE + 6] = {[FRAME_NONCE_SIZE] = FRAME_PROTO_MAX,
                                       [FRAME_NONCE_SIZE + 2] = listed};
    _cleanup_buf_ struct buf out;

    memcpy(p, nonce, FRAME_NONCE_SIZE);
    buf_init(&out, FRAME_MAX);
    if (frame_put(&out,
                  &(struct frame){.type = FRAME_HELLO_OK, .payload = p, .length = sizeof(p)}) < 0) {
        abort();
    }
    write_all(r->agent, buf_head(&out), out.len);
}

static void *start_main(void *arg)
{
    struct run *r = arg;
    _cleanup_json_ json_t *spec =
        json_pack("{s:[s], s:s, s:s}", "command", "x", "stdin", "pipe", "user", "root");
    struct err err;

    r->start_result =
        session_start(sessions,
                      &(struct session_start_params){
                          .link = r->link, .vm_id = VM, .spec = spec, .deadline_ms = deadline()},
                      r->id, &err);
    return NULL;
}

/* A running command of stream 1. */
static void start_session(struct run *r)
{
    _cleanup_buf_ struct buf in, out;

    buf_init(&in, 4 * FRAME_MAX);
    buf_init(&out, FRAME_MAX);
    if (thread_start(&r->starter, "start", 256, start_main, r) < 0) {
        abort();
    }
    read_some(r->agent, &in, 1); /* EXEC */
    if (frame_put_u32(&out, FRAME_STARTED, 1, 42) < 0) {
        abort();
    }
    write_all(r->agent, buf_head(&out), out.len);
    pthread_join(r->starter, NULL);
    assert(r->start_result == 0);
}

static void attach_client(struct run *r)
{
    _cleanup_buf_ struct buf early;
    struct err err;
    int fds[2];

    buf_init(&early, FRAME_MAX);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0 ||
        frame_put_window(&early, 0, FRAME_STDOUT, 0, 65536) < 0 ||
        frame_put_window(&early, 0, FRAME_STDERR, 0, 100) < 0) {
        abort();
    }
    r->client = fds[0];
    if (session_attach(sessions, VM, r->id, fds[1], buf_head(&early), early.len, &err) < 0) {
        abort();
    }
}

/* What reached the client is whole frames, and then the end. */
static void drain_client(struct run *r)
{
    _cleanup_buf_ struct buf in;
    struct frame f;
    ssize_t n;
    int size;

    buf_init(&in, 4 * FRAME_MAX);
    for (;;) {
        n = buf_read_fd(&in, r->client, 65536);
        if (n == -EAGAIN) {
            if (cancel_wait_fd(NULL, r->client, POLLIN, deadline()) < 0) {
                abort(); /* it was not told that the link ended */
            }
            continue;
        }
        if (n <= 0) {
            break;
        }
        while ((size = frame_parse(buf_head(&in), in.len, &f)) > 0) {
            assert(f.stream == 0);
            buf_consume(&in, (size_t)size);
        }
        assert(size == 0);
    }
    assert(in.len == 0);
    close_p(&r->client);
}

static void make_shared(void)
{
    if (!loop) {
        if (loop_new("fuzz", &loop) < 0) {
            abort();
        }
        sessions =
            session_registry_new(&(struct session_registry_params){.loop = loop, .fn = on_session});
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run r = {.agent = -1, .client = -1};
    uint8_t nonce[FRAME_NONCE_SIZE], how;
    bool greets, starts;
    json_t *list;
    struct err err;
    int fds[2];

    if (size == 0) {
        return 0;
    }
    make_shared();
    how = data[0];
    greets = !(how & 16);
    starts = greets && (how & 4) && !(how & 2);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
        abort();
    }
    latch_init(&r.broken);
    r.agent = fds[0];
    r.link = guest_link_open(&(struct guest_link_params){.loop = loop,
                                                         .fd = fds[1],
                                                         .adopted = (how & 1) != 0,
                                                         .vm_id = VM,
                                                         .sessions = sessions,
                                                         .fn = on_link,
                                                         .arg = &r});
    take_hello(&r, (how & 1) != 0, nonce);
    if (greets) {
        send_hello_ok(&r, nonce, how & 2 ? 2 : 0);
    }
    if (starts) {
        if (guest_link_wait_hello(r.link, NULL, deadline(), &err) < 0) {
            abort();
        }
        start_session(&r);
        if (how & 8) {
            attach_client(&r);
        }
    }
    write_all(r.agent, data + 1, size - 1);
    (void)shutdown(r.agent, SHUT_WR);
    if (latch_wait(&r.broken, NULL, deadline()) < 0) {
        abort(); /* the end of the stream always ends the link */
    }
    guest_link_end(r.link, "over");
    assert(!guest_link_is_up(r.link));
    if (r.client >= 0) {
        drain_client(&r);
    }
    assert(session_count_running(sessions, VM) == 0);
    list = session_list(sessions, VM);
    assert(json_array_size(list) <= (starts ? 1 : (how & 3) == 3 && greets ? 2 : 0));
    assert(json_array_size(list) >= (starts ? 1 : 0));
    if (api_check_result(api_method_find("session.list"), list, &err) < 0) {
        abort(); /* what a guest says of its sessions is fit to be told to clients */
    }
    json_decref(list);
    (void)session_let_go_orphans(sessions, VM);
    session_forget_vm(sessions, VM);
    guest_link_free(r.link);
    latch_done(&r.broken);
    close_p(&r.agent);
    return 0;
}
