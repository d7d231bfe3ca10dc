/*
 * The host's end of the agent protocol: link, sessions and clients, against an agent and clients
 * that are the other ends of socketpairs here. Callbacks of the loop only note what they are told;
 * each wait is for a frame, an event or the end of a stream.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "guest/guest_priv.h"
#include "scratch.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define VM "0123456789abcdef0123456789abcdef"

/* One end of a stream of frames. */
struct peer {
    int fd;
    struct buf in;
    size_t taken; /* bytes of the frame that was returned last */
};

enum noted { NOTED_BROKEN, NOTED_DOWN, NOTED_ENDED, NOTED_DELIVERED, NOTED_COUNT };

struct fixture {
    struct loop *loop;
    struct session_registry *sessions;
    struct guest_link *link;
    struct peer agent;
    uint8_t nonce[FRAME_NONCE_SIZE];
    int noted[NOTED_COUNT]; /* eventfds */
    char why[512];          /* written before NOTED_BROKEN */
    int send_buffer;        /* of the link's socket; 0 = the usual one */
};

static void note(int fd)
{
    (void)eventfd_write(fd, 1);
}

static void wait_for(struct fixture *f, enum noted what)
{
    eventfd_t value;

    assert_int_equal(cancel_wait_fd(NULL, f->noted[what], POLLIN, test_deadline()), 0);
    assert_int_equal(eventfd_read(f->noted[what], &value), 0);
}

static bool was_noted(struct fixture *f, enum noted what)
{
    eventfd_t value;

    return eventfd_read(f->noted[what], &value) == 0;
}

static void on_link(void *arg, enum guest_link_event event, const char *text)
{
    struct fixture *f = arg;

    if (event == GUEST_LINK_BROKEN) {
        (void)snprintf(f->why, sizeof(f->why), "%s", text);
    }
    note(f->noted[event == GUEST_LINK_BROKEN ? NOTED_BROKEN : NOTED_DOWN]);
}

static void on_session(void *arg, enum session_event event, const char *vm_id,
                       const char *session_id)
{
    struct fixture *f = arg;

    (void)vm_id;
    (void)session_id;
    note(f->noted[event == SESSION_ENDED ? NOTED_ENDED : NOTED_DELIVERED]);
}

/* ---- peers ---- */

static void peer_pair(struct peer *p, int *ret_other)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    p->fd = fds[0];
    p->taken = 0;
    buf_init(&p->in, 8 * FRAME_MAX);
    *ret_other = fds[1];
}

static void peer_done(struct peer *p)
{
    close_p(&p->fd);
    buf_done(&p->in);
}

static void peer_write(struct peer *p, const void *data, size_t len)
{
    const uint8_t *at = data;

    while (len > 0) {
        ssize_t n = send(p->fd, at, len, MSG_NOSIGNAL);

        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            assert_int_equal(cancel_wait_fd(NULL, p->fd, POLLOUT, test_deadline()), 0);
            continue;
        }
        at += n;
        len -= (size_t)n;
    }
}

static void peer_send(struct peer *p, const struct frame *f)
{
    _cleanup_buf_ struct buf out;

    buf_init(&out, FRAME_MAX);
    assert_int_equal(frame_put(&out, f), 0);
    peer_write(p, buf_head(&out), out.len);
}

static void peer_send_window(struct peer *p, uint32_t stream, uint8_t channel, uint64_t acked,
                             uint64_t limit)
{
    _cleanup_buf_ struct buf out;

    buf_init(&out, FRAME_MAX);
    assert_int_equal(frame_put_window(&out, stream, channel, acked, limit), 0);
    peer_write(p, buf_head(&out), out.len);
}

static void peer_send_data(struct peer *p, uint32_t stream, uint8_t channel, uint64_t offset,
                           const char *text)
{
    peer_send(p, &(struct frame){.type = FRAME_DATA,
                                 .stream = stream,
                                 .channel = channel,
                                 .offset = offset,
                                 .payload = (const uint8_t *)text,
                                 .length = (uint32_t)strlen(text)});
}

static void peer_send_end(struct peer *p, uint32_t stream, uint8_t channel, uint64_t offset)
{
    peer_send(p, &(struct frame){
                     .type = FRAME_END, .stream = stream, .channel = channel, .offset = offset});
}

/* Reads more; the count, or 0 at the end of the stream (also when the other end reset it). */
static ssize_t peer_fill(struct peer *p)
{
    for (;;) {
        ssize_t n = buf_read_fd(&p->in, p->fd, 65536);

        if (n != -EAGAIN) {
            assert_true(n >= 0 || n == -ECONNRESET);
            return n < 0 ? 0 : n;
        }
        assert_int_equal(cancel_wait_fd(NULL, p->fd, POLLIN, test_deadline()), 0);
    }
}

/* The next frame, valid until the next call. */
static struct frame peer_next(struct peer *p)
{
    struct frame f;
    int n;

    buf_consume(&p->in, p->taken);
    p->taken = 0;
    while ((n = frame_parse(buf_head(&p->in), p->in.len, &f)) == 0) {
        assert_true(peer_fill(p) > 0);
    }
    assert_true(n > 0);
    p->taken = (size_t)n;
    return f;
}

static struct frame peer_expect(struct peer *p, uint8_t type)
{
    struct frame f = peer_next(p);

    assert_int_equal(f.type, type);
    return f;
}

static void peer_expect_text(struct peer *p, uint8_t type, const char *text)
{
    struct frame f = peer_expect(p, type);

    assert_int_equal(f.length, strlen(text));
    assert_memory_equal(f.payload, text, f.length);
}

static uint64_t window_limit(const struct frame *f)
{
    struct frame_reader r = frame_reader(f);
    uint64_t limit = 0;

    assert_int_equal(frame_take_u64(&r, &limit), 0);
    return limit;
}

static void peer_expect_window(struct peer *p, uint8_t channel, uint64_t acked, uint64_t limit)
{
    struct frame f = peer_expect(p, FRAME_WINDOW);

    assert_int_equal(f.channel, channel);
    assert_int_equal(f.offset, acked);
    assert_int_equal(window_limit(&f), limit);
}

static void peer_expect_data(struct peer *p, uint8_t channel, uint64_t offset, const char *text)
{
    struct frame f = peer_expect(p, FRAME_DATA);

    assert_int_equal(f.channel, channel);
    assert_int_equal(f.offset, offset);
    assert_int_equal(f.length, strlen(text));
    assert_memory_equal(f.payload, text, f.length);
}

static void peer_expect_eof(struct peer *p)
{
    buf_consume(&p->in, p->taken);
    p->taken = 0;
    assert_int_equal(p->in.len, 0);
    assert_int_equal(peer_fill(p), 0);
}

/* ---- the agent ---- */

static void agent_take_hello(struct fixture *f)
{
    struct frame hello = peer_expect(&f->agent, FRAME_HELLO);

    assert_int_equal(hello.length, FRAME_NONCE_SIZE + 4);
    memcpy(f->nonce, hello.payload, FRAME_NONCE_SIZE);
}

static size_t put_hello_ok(struct buf *out, const uint8_t *nonce, uint32_t listed)
{
    _cleanup_buf_ struct buf p;

    buf_init(&p, 64);
    assert_int_equal(buf_append(&p, nonce, FRAME_NONCE_SIZE), 0);
    assert_int_equal(buf_append_le16(&p, FRAME_PROTO_MAX), 0);
    assert_int_equal(buf_append_le32(&p, listed), 0);
    assert_int_equal(buf_append_str(&p, "test"), 0);
    assert_int_equal(frame_put(out, &(struct frame){.type = FRAME_HELLO_OK,
                                                    .payload = buf_head(&p),
                                                    .length = (uint32_t)p.len}),
                     0);
    return out->len;
}

static void agent_hello_ok(struct fixture *f, uint32_t listed)
{
    _cleanup_buf_ struct buf out;

    buf_init(&out, FRAME_MAX);
    (void)put_hello_ok(&out, f->nonce, listed);
    peer_write(&f->agent, buf_head(&out), out.len);
}

static void agent_send_u32(struct fixture *f, uint8_t type, uint32_t stream, uint32_t value)
{
    uint8_t p[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                    (uint8_t)(value >> 24)};

    peer_send(&f->agent,
              &(struct frame){.type = type, .stream = stream, .payload = p, .length = 4});
}

static void agent_send_session(struct fixture *f, uint32_t stream, uint8_t state, uint8_t how,
                               uint8_t status)
{
    uint8_t p[6] = {state, how, status};

    peer_send(&f->agent,
              &(struct frame){.type = FRAME_SESSION, .stream = stream, .payload = p, .length = 6});
}

static void agent_send_exited(struct fixture *f, uint32_t stream, uint8_t how, uint8_t status)
{
    uint8_t p[5] = {how, status};

    peer_send(&f->agent,
              &(struct frame){.type = FRAME_EXITED, .stream = stream, .payload = p, .length = 5});
}

static void agent_send_failed(struct fixture *f, uint32_t stream, uint8_t status, uint8_t errnum,
                              const char *text)
{
    uint8_t p[128] = {status, [4] = errnum};
    size_t len = strlen(text);

    memcpy(p + 8, text, len);
    peer_send(&f->agent, &(struct frame){.type = FRAME_FAILED,
                                         .stream = stream,
                                         .payload = p,
                                         .length = (uint32_t)(8 + len)});
}

/* ---- set-up ---- */

static void open_link(struct fixture *f, bool adopted)
{
    int fd;

    peer_pair(&f->agent, &fd);
    f->link = guest_link_open(&(struct guest_link_params){.loop = f->loop,
                                                          .fd = fd,
                                                          .adopted = adopted,
                                                          .sessions = f->sessions,
                                                          .fn = on_link,
                                                          .arg = f});
    /* The link has set its own. */
    if (f->send_buffer) {
        assert_int_equal(
            setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &f->send_buffer, sizeof(f->send_buffer)), 0);
    }
}

static int set_up_bare(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    for (int i = 0; i < NOTED_COUNT; i++) {
        f->noted[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    }
    assert_int_equal(loop_new("guest", &f->loop), 0);
    f->sessions = session_registry_new(f->loop, on_session, f);
    f->agent.fd = -1;
    buf_init(&f->agent.in, FRAME_MAX);
    *state = f;
    return 0;
}

static int set_up_fresh(void **state)
{
    (void)set_up_bare(state);
    open_link(*state, false);
    agent_take_hello(*state);
    return 0;
}

static int set_up(void **state)
{
    struct fixture *f;
    struct err err;

    (void)set_up_fresh(state);
    f = *state;
    agent_hello_ok(f, 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    return 0;
}

/* The agent's end holds little of what the link sends: it is soon kept back. */
static int set_up_narrow(void **state)
{
    struct fixture *f;
    struct err err;

    (void)set_up_bare(state);
    f = *state;
    f->send_buffer = 8192;
    open_link(f, false);
    agent_take_hello(f);
    agent_hello_ok(f, 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    guest_link_free(f->link);
    session_registry_free(f->sessions);
    loop_free(f->loop);
    peer_done(&f->agent);
    for (int i = 0; i < NOTED_COUNT; i++) {
        (void)close(f->noted[i]);
    }
    free(f);
    return 0;
}

/* Calls that wait for the agent run on a thread while the test is the agent. */
struct task {
    struct fixture *f;
    pthread_t thread;
    int (*fn)(struct task *t);
    struct cancel *cancel;
    int64_t deadline_ms;
    json_t *spec;
    bool drain;
    int64_t us;
    uint32_t ping;
    struct latch pinged;
    int result;
    char id[ID_SIZE];
    struct err err;
};

static void *task_main(void *arg)
{
    struct task *t = arg;

    t->result = t->fn(t);
    return NULL;
}

static void task_begin(struct task *t, struct fixture *f, int (*fn)(struct task *t))
{
    *t = (struct task){.f = f,
                       .fn = fn,
                       .cancel = t->cancel,
                       .spec = t->spec,
                       .drain = t->drain,
                       .deadline_ms = t->deadline_ms ? t->deadline_ms : test_deadline()};
    assert_int_equal(thread_start(&t->thread, "task", 256, task_main, t), 0);
}

static int task_end(struct task *t)
{
    pthread_join(t->thread, NULL);
    json_decref(t->spec);
    return t->result;
}

static int do_start(struct task *t)
{
    return session_start(t->f->sessions,
                         &(struct session_start_params){.link = t->f->link,
                                                        .vm_id = VM,
                                                        .spec = t->spec,
                                                        .drain = t->drain,
                                                        .cancel = t->cancel,
                                                        .deadline_ms = t->deadline_ms},
                         t->id, &t->err);
}

static void on_ping(void *arg, int64_t us, const struct err *err)
{
    struct task *t = arg;

    t->us = us;
    if (err) {
        t->err = *err;
        t->result = -1;
    }
    latch_set(&t->pinged);
}

/* A ping needs no thread. */
static void ping_begin(struct task *t, struct fixture *f)
{
    *t = (struct task){.f = f};
    assert_int_equal(latch_init(&t->pinged), 0);
    t->result = guest_link_ping(f->link, on_ping, t, &t->ping, &t->err);
}

static int ping_end(struct task *t)
{
    if (t->ping != 0) {
        assert_int_equal(latch_wait(&t->pinged, NULL, test_deadline()), 0);
    }
    latch_done(&t->pinged);
    return t->result;
}

static int do_sync(struct task *t)
{
    return guest_link_sync(t->f->link, t->cancel, t->deadline_ms, &t->err);
}

static int do_poweroff(struct task *t)
{
    return guest_link_poweroff(t->f->link, t->cancel, t->deadline_ms, &t->err);
}

static int do_configure(struct task *t)
{
    return guest_link_configure(
        t->f->link, &(struct guest_configure){.hostname = "vm", .time_ns = 0x0102030405060708},
        t->cancel, t->deadline_ms, &t->err);
}

static json_t *spec_new(const char *stdin_mode)
{
    return json_pack("{s:[s,s], s:s}", "command", "echo", "hi", "stdin", stdin_mode);
}

/* For what is refused at once, without the agent. */
static int start_refused(struct fixture *f, const json_t *spec, char ret_id[ID_SIZE],
                         struct err *err)
{
    return session_start(f->sessions,
                         &(struct session_start_params){
                             .link = f->link, .vm_id = VM, .spec = spec, .deadline_ms = -1},
                         ret_id, err);
}

/* A running session; its stream. */
static uint32_t start_session(struct fixture *f, const char *stdin_mode, char ret_id[ID_SIZE])
{
    struct task t = {.spec = spec_new(stdin_mode)};
    struct frame exec;
    uint32_t stream;

    task_begin(&t, f, do_start);
    exec = peer_expect(&f->agent, FRAME_EXEC);
    stream = exec.stream;
    agent_send_u32(f, FRAME_STARTED, stream, 42);
    assert_int_equal(task_end(&t), 0);
    memcpy(ret_id, t.id, ID_SIZE);
    return stream;
}

/* Attaches; the client has taken its first stdin window and the agent the ATTACH. */
static void attach_client(struct fixture *f, const char *id, struct peer *client)
{
    struct err err;
    int fd;

    peer_pair(client, &fd);
    assert_int_equal(session_attach(f->sessions, VM, id, fd, NULL, 0, &err), 0);
}

static void assert_state(struct fixture *f, const char *id, const char *state)
{
    _cleanup_json_ json_t *o = NULL;
    struct err err;

    assert_int_equal(session_show(f->sessions, VM, id, &o, &err), 0);
    assert_string_equal(json_str(o, "state", ""), state);
}

/* Returns once the loop has looked at all that was written to it. It takes what is ready in turns:
 * what was ready before the second turn has had its own. */
static void settle(struct fixture *f)
{
    for (int i = 0; i < 3; i++) {
        (void)guest_link_is_up(f->link);
    }
}

/* The link works, and has handled all that was sent before. */
static void assert_link_up(struct fixture *f)
{
    struct task t = {0};
    struct frame ping;

    ping_begin(&t, f);
    ping = peer_expect(&f->agent, FRAME_PING);
    peer_send(&f->agent, &(struct frame){.type = FRAME_PONG, .stream = ping.stream});
    assert_int_equal(ping_end(&t), 0);
    assert_true(guest_link_is_up(f->link));
}

static void assert_broken(struct fixture *f, const char *why)
{
    wait_for(f, NOTED_BROKEN);
    assert_string_equal(f->why, why);
    assert_false(guest_link_is_up(f->link));
}

/* ---- the link ---- */

static void hello_is_found_behind_garbage(void **state)
{
    struct fixture *f = *state;
    static const uint8_t other[FRAME_NONCE_SIZE] = {1, 2, 3};
    _cleanup_buf_ struct buf out;
    struct err err;

    buf_init(&out, 8 * FRAME_MAX);
    assert_int_equal(frame_put_resync(&out), 0);
    for (unsigned i = 0; i < 3 * FRAME_MAX; i++) {
        assert_int_equal(buf_append_u8(&out, i % 7 ? (uint8_t)(i * 37) : FRAME_MAGIC), 0);
    }
    (void)put_hello_ok(&out, other, 0);
    /* The end of a frame of the old host, with a nonce like ours where no hello begins. */
    assert_int_equal(buf_append(&out, f->nonce, sizeof(f->nonce)), 0);
    assert_int_equal(buf_append_str(&out, "and what was behind it, of no meaning here"), 0);
    peer_write(&f->agent, buf_head(&out), out.len);
    assert_false(guest_link_is_up(f->link));
    buf_consume(&out, out.len);
    (void)put_hello_ok(&out, f->nonce, 0);
    for (size_t i = 0; i < out.len; i += 7) { /* and in small pieces */
        peer_write(&f->agent, buf_head(&out) + i, out.len - i < 7 ? out.len - i : 7);
    }
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    assert_link_up(f);
}

static void an_adopted_port_is_resynchronised_first(void **state)
{
    struct fixture *f = *state;
    struct peer *agent = &f->agent;
    struct err err;

    open_link(f, true);
    while (agent->in.len < FRAME_MAX) {
        assert_true(peer_fill(agent) > 0);
    }
    for (size_t i = 0; i < FRAME_MAX; i++) {
        assert_int_equal(buf_head(&agent->in)[i], 0);
    }
    buf_consume(&agent->in, FRAME_MAX);
    agent_take_hello(f);
    agent_hello_ok(f, 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
}

static void listed_sessions_take_their_numbers(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct err err;

    agent_hello_ok(f, 2);
    agent_send_session(f, 7, FRAME_SESSION_RUNNING, 0, 0);
    assert_false(guest_link_is_up(f->link)); /* the second one is still to come */
    agent_send_session(f, 3, FRAME_SESSION_EXITED, 0, 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    assert_int_equal(start_session(f, "closed", id), 8);
}

static void a_link_that_lists_too_much_does_not_come_up(void **state)
{
    struct fixture *f = *state;
    struct err err;

    agent_hello_ok(f, SESSIONS_PER_VM_MAX + 1);
    agent_send_u32(f, FRAME_FATAL, 0, 0);
    assert_int_equal(shutdown(f->agent.fd, SHUT_WR), 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), -1);
    assert_int_equal(err.code, ERR_GUEST);
}

static void waiting_for_hello_ends_at_deadline_or_cancel(void **state)
{
    _cleanup_cancel_ struct cancel *cancel = cancel_new();
    struct fixture *f = *state;
    struct err err;

    assert_int_equal(guest_link_wait_hello(f->link, NULL, clock_mono_ms(), &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_string_equal(err.message, "the guest did not answer in time: hello");
    cancel_trigger(cancel);
    assert_int_equal(guest_link_wait_hello(f->link, cancel, -1, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
}

static void the_agents_last_words_before_hello_are_told(void **state)
{
    static const char words[] = "no root disk: /dev/vda\x1b[31m is not there, whatever was tried";
    static const char want[] =
        "the guest's agent gave up: no root disk: /dev/vda\\x1b[31m is not there, whatever was tried";
    struct fixture *f = *state;
    _cleanup_buf_ struct buf out;
    char whole[300];
    struct err err;

    buf_init(&out, FRAME_MAX);
    assert_int_equal(frame_put(&out, &(struct frame){.type = FRAME_FATAL,
                                                     .payload = (const uint8_t *)words,
                                                     .length = strlen(words)}),
                     0);
    /* In pieces: the link has read the first one before the second comes. */
    peer_write(&f->agent, buf_head(&out), out.len - 10);
    settle(f);
    assert_false(was_noted(f, NOTED_BROKEN));
    peer_write(&f->agent, buf_head(&out) + out.len - 10, 10);
    assert_broken(f, want);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), -1);
    assert_int_equal(err.code, ERR_GUEST);
    (void)snprintf(whole, sizeof(whole), "the guest's agent is not there: %s", want);
    assert_string_equal(err.message, whole);
}

static void the_agents_last_words_later_are_told(void **state)
{
    struct fixture *f = *state;

    peer_send(&f->agent, &(struct frame){.type = FRAME_FATAL,
                                         .payload = (const uint8_t *)"out of memory",
                                         .length = 13});
    assert_broken(f, "the guest's agent gave up: out of memory");
}

static void requests_are_answered(void **state)
{
    struct fixture *f = *state;
    struct task t = {0}, t2 = {0};
    struct frame_reader r;
    const uint8_t *value;
    struct frame req;
    uint32_t len, sync_id;
    uint8_t tag;

    task_begin(&t, f, do_configure);
    req = peer_expect(&f->agent, FRAME_CONFIGURE);
    r = frame_reader(&req);
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 1);
    assert_int_equal(tag, FRAME_TAG_ENTROPY);
    assert_int_equal(len, 64);
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 1);
    assert_int_equal(tag, FRAME_TAG_TIME);
    assert_memory_equal(value, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 1);
    assert_int_equal(tag, FRAME_TAG_HOSTNAME);
    assert_int_equal(len, 2);
    assert_memory_equal(value, "vm", 2);
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 0);
    agent_send_u32(f, FRAME_REPLY, req.stream, 0);
    assert_int_equal(task_end(&t), 0);

    /* Two at once, answered the other way round; one is refused. */
    task_begin(&t, f, do_sync);
    sync_id = peer_expect(&f->agent, FRAME_SYNC).stream;
    task_begin(&t2, f, do_poweroff);
    req = peer_expect(&f->agent, FRAME_POWEROFF);
    assert_int_not_equal(req.stream, sync_id);
    agent_send_u32(f, FRAME_REPLY, 999, 5); /* nobody's */
    agent_send_u32(f, FRAME_REPLY, req.stream, 0);
    assert_int_equal(task_end(&t2), 0);
    peer_send(&f->agent, &(struct frame){.type = FRAME_REPLY,
                                         .stream = sync_id,
                                         .payload = (const uint8_t *)"\x05\0\0\0I/O \x07 error",
                                         .length = 15});
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_GUEST);
    assert_string_equal(t.err.message, "sync: the guest answered: I/O \\x07 error");
    peer_send(&f->agent, &(struct frame){.type = FRAME_GOING_DOWN});
    wait_for(f, NOTED_DOWN);
    assert_link_up(f);
}

static void a_request_ends_at_deadline_or_cancel_and_its_late_answer_is_dropped(void **state)
{
    struct fixture *f = *state;
    _cleanup_cancel_ struct cancel *cancel = cancel_new();
    struct task t = {.deadline_ms = clock_mono_ms()};
    struct frame req;

    task_begin(&t, f, do_sync);
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_TIMEOUT);
    assert_string_equal(t.err.message, "the guest did not answer in time: sync");
    req = peer_expect(&f->agent, FRAME_SYNC);
    agent_send_u32(f, FRAME_REPLY, req.stream, 0);
    t = (struct task){.cancel = cancel};
    task_begin(&t, f, do_sync);
    req = peer_expect(&f->agent, FRAME_SYNC);
    cancel_trigger(cancel);
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_CANCELLED);
    agent_send_u32(f, FRAME_REPLY, req.stream, 0);
    assert_link_up(f);
}

static void the_end_of_the_stream_breaks_the_link(void **state)
{
    struct fixture *f = *state;
    struct task t = {0};

    task_begin(&t, f, do_sync);
    (void)peer_expect(&f->agent, FRAME_SYNC);
    close_p(&f->agent.fd);
    assert_broken(f, "the VM went down");
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_GUEST);
    assert_string_equal(t.err.message, "sync: the VM went down");
    t = (struct task){0};
    task_begin(&t, f, do_sync); /* and later ones */
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_GUEST);
    ping_begin(&t, f);
    assert_int_equal(ping_end(&t), -1);
    assert_string_equal(t.err.message, "ping: the VM went down");
}

static void a_ping_is_forgotten_once_or_answered_once(void **state)
{
    struct fixture *f = *state;
    struct task t = {0};
    struct frame ping;

    ping_begin(&t, f);
    ping = peer_expect(&f->agent, FRAME_PING);
    assert_true(guest_link_forget_ping(f->link, t.ping));
    assert_false(guest_link_forget_ping(f->link, t.ping));
    peer_send(&f->agent, &(struct frame){.type = FRAME_PONG, .stream = ping.stream});
    assert_link_up(f); /* which came behind the late answer */
    assert_false(latch_is_set(&t.pinged));
    latch_done(&t.pinged);
    ping_begin(&t, f);
    ping = peer_expect(&f->agent, FRAME_PING);
    peer_send(&f->agent, &(struct frame){.type = FRAME_PONG, .stream = ping.stream});
    assert_int_equal(ping_end(&t), 0);
    assert_false(guest_link_forget_ping(f->link, t.ping));
}

static void count_ping(void *arg, int64_t us, const struct err *err)
{
    (void)us;
    atomic_fetch_add((atomic_uint *)arg, err ? 0 : 1);
}

static void a_guest_that_answers_none_is_asked_no_more(void **state)
{
    struct fixture *f = *state;
    static uint32_t ids[LINK_REQUESTS_MAX];
    atomic_uint answered = 0;
    uint32_t id = 0;
    struct err err;

    for (unsigned i = 0; i < LINK_REQUESTS_MAX; i++) {
        assert_int_equal(guest_link_ping(f->link, count_ping, &answered, &ids[i], &err), 0);
        assert_int_equal(peer_expect(&f->agent, FRAME_PING).stream, ids[i]);
    }
    assert_int_equal(guest_link_ping(f->link, count_ping, &answered, &id, &err), -1);
    assert_string_equal(err.message, "ping: the guest takes no more requests");
    for (unsigned i = 0; i < LINK_REQUESTS_MAX; i++) {
        peer_send(&f->agent, &(struct frame){.type = FRAME_PONG, .stream = ids[i]});
        /* The first answer makes room for one more. */
        while (i == 0 && guest_link_ping(f->link, count_ping, &answered, &id, &err) < 0) {
            settle(f);
        }
    }
    assert_int_equal(peer_expect(&f->agent, FRAME_PING).stream, id);
    peer_send(&f->agent, &(struct frame){.type = FRAME_PONG, .stream = id});
    assert_link_up(f);
    assert_int_equal(atomic_load(&answered), LINK_REQUESTS_MAX + 1);
}

static void a_ping_is_lost_with_the_link(void **state)
{
    struct fixture *f = *state;
    struct task t;

    ping_begin(&t, f);
    (void)peer_expect(&f->agent, FRAME_PING);
    guest_link_end(f->link, "the VM has stopped");
    assert_int_equal(ping_end(&t), -1);
    assert_int_equal(t.err.code, ERR_GUEST);
    assert_string_equal(t.err.message, "ping: the VM has stopped");
}

static void break_with(struct fixture *f, const struct frame *frame, const char *why)
{
    struct err err;

    if (!f->link) {
        open_link(f, false);
        agent_take_hello(f);
        agent_hello_ok(f, 0);
        assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    }
    peer_send(&f->agent, frame);
    assert_broken(f, why);
    guest_link_free(f->link);
    f->link = NULL;
    peer_done(&f->agent);
}

static void what_is_no_protocol_breaks_the_link(void **state)
{
    struct fixture *f = *state;
    static const uint8_t byte = 0;
    struct task t = {0};
    struct err err;

    break_with(f, &(struct frame){.type = 99}, "the agent broke the protocol: frame type 99");
    break_with(f, &(struct frame){.type = FRAME_EXEC},
               "the agent broke the protocol: frame type 16");
    open_link(f, false);
    agent_take_hello(f);
    agent_hello_ok(f, 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    peer_write(&f->agent, "x", 1);
    assert_broken(f, "the agent broke the protocol: malformed frame");
    guest_link_free(f->link);
    f->link = NULL;
    peer_done(&f->agent);
    open_link(f, false);
    agent_take_hello(f);
    agent_hello_ok(f, 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    task_begin(&t, f, do_sync);
    peer_send(&f->agent, &(struct frame){.type = FRAME_REPLY,
                                         .stream = peer_expect(&f->agent, FRAME_SYNC).stream,
                                         .payload = &byte,
                                         .length = 1});
    assert_broken(f, "the agent sent a malformed reply");
    assert_int_equal(task_end(&t), -1);
}

static void session_frames_are_checked(void **state)
{
    struct fixture *f = *state;
    static const uint8_t u64[8] = {5};
    static const uint8_t bad_how[5] = {2, 1}, bad_signal[5] = {1, 128}, bad_code[5] = {0, 0, 1};
    static const uint8_t bad_session[6] = {FRAME_SESSION_EXITED, 9};
    static const struct {
        struct frame frame;
        const char *why;
    } cases[] = {
        {{.type = FRAME_EXITED, .payload = bad_how, .length = 5}, "malformed session frame"},
        {{.type = FRAME_EXITED, .payload = bad_signal, .length = 5}, "malformed session frame"},
        {{.type = FRAME_EXITED, .payload = bad_code, .length = 5}, "malformed session frame"},
        {{.type = FRAME_EXITED, .payload = bad_how, .length = 4}, "malformed session frame"},
        {{.type = FRAME_FAILED, .payload = u64, .length = 7}, "malformed session frame"},
        {{.type = FRAME_SESSION, .payload = bad_session, .length = 6}, "malformed session frame"},
        {{.type = FRAME_END, .channel = FRAME_STDIN}, "malformed session frame"},
        {{.type = FRAME_DATA, .channel = FRAME_STDIN, .payload = u64, .length = 1},
         "session bytes beyond the window"},
        {{.type = FRAME_DATA, .channel = FRAME_STDOUT, .payload = u64, .length = 1},
         "session bytes beyond the window"},
        {{.type = FRAME_DATA,
          .channel = FRAME_STDERR,
          .offset = UINT64_MAX,
          .payload = u64,
          .length = 2},
         "session bytes beyond the window"},
        {{.type = FRAME_WINDOW, .channel = FRAME_STDOUT, .payload = u64, .length = 8},
         "a window that goes backwards or too far"},
        {{.type = FRAME_WINDOW, .offset = 1, .payload = u64, .length = 8},
         "a window that goes backwards or too far"}, /* acknowledges what was not sent */
        {{.type = FRAME_WINDOW, .payload = (const uint8_t *)"\1\0\x10\0\0\0\0\0", .length = 8},
         "a window that goes backwards or too far"}, /* 1 MiB and a byte */
        {{.type = FRAME_WINDOW, .payload = u64, .length = 7},
         "a window that goes backwards or too far"},
    };

    guest_link_free(f->link);
    f->link = NULL;
    peer_done(&f->agent);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct frame frame = cases[i].frame;
        char id[ID_SIZE], why[128];
        struct err err;

        open_link(f, false);
        agent_take_hello(f);
        agent_hello_ok(f, 0);
        assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
        frame.stream = start_session(f, "pipe", id);
        (void)snprintf(why, sizeof(why), "the agent broke the protocol: %s", cases[i].why);
        break_with(f, &frame, why);
        assert_state(f, id, "lost");
    }
}

/* ---- sessions ---- */

/* Then there is the record (test_guest_resume.c), and nothing else. */
static void assert_is_record(struct frame_reader *r)
{
    const uint8_t *value;
    uint32_t len;
    uint8_t tag;

    assert_int_equal(frame_take_tlv(r, &tag, &value, &len), 1);
    assert_int_equal(tag, FRAME_TAG_RECORD);
    assert_in_range(len, 2, FRAME_RECORD_MAX);
    assert_int_equal(r->left, 0);
}

static void exec_carries_the_whole_spec(void **state)
{
    struct fixture *f = *state;
    struct task t = {.spec = json_pack("{s:[s,{s:s},s], s:[s], s:s, s:s, s:s, s:{s:i,s:i}}",
                                       "command", "printf", "base64", "/w==", "", "env", "A=b",
                                       "cwd", "/tmp", "user", "ann:users", "stdin", "pipe", "tty",
                                       "rows", 300, "columns", 80)};
    static const struct {
        uint8_t tag;
        const char *value;
        uint32_t len;
    } want[] = {
        {FRAME_TAG_ARG, "printf", 6}, {FRAME_TAG_ARG, "\xff", 1},
        {FRAME_TAG_ARG, "", 0},       {FRAME_TAG_ENV, "A=b", 3},
        {FRAME_TAG_CWD, "/tmp", 4},   {FRAME_TAG_USER, "ann:users", 9},
        {FRAME_TAG_STDIN, "\1", 1},   {FRAME_TAG_TTY, "\x2c\x01\x50\x00", 4},
    };
    struct frame_reader r;
    struct frame exec;

    task_begin(&t, f, do_start);
    exec = peer_expect(&f->agent, FRAME_EXEC);
    assert_int_equal(exec.stream, 1);
    assert_int_equal(exec.flags, 0);
    r = frame_reader(&exec);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        const uint8_t *value;
        uint32_t len;
        uint8_t tag;

        assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 1);
        assert_int_equal(tag, want[i].tag);
        assert_int_equal(len, want[i].len);
        assert_memory_equal(value, want[i].value, len);
    }
    assert_is_record(&r);
    agent_send_u32(f, FRAME_STARTED, exec.stream, 42);
    assert_int_equal(task_end(&t), 0);
    assert_state(f, t.id, "running");
    assert_int_equal(session_count_running(f->sessions, VM), 1);
    assert_int_equal(session_count_running(f->sessions, "other"), 0);
}

static void a_large_exec_comes_in_pieces(void **state)
{
    struct fixture *f = *state;
    struct task t = {.spec = json_pack("{s:[s]}", "command", "x")};
    char *large = malloc(100001);
    _cleanup_buf_ struct buf got;
    struct frame_reader r;
    struct frame exec;

    memset(large, 'a', 100000);
    large[100000] = '\0';
    json_array_append_new(json_object_get(t.spec, "command"), json_string(large));
    free(large);
    buf_init(&got, FRAME_SPEC_MAX);
    task_begin(&t, f, do_start);
    do {
        exec = peer_expect(&f->agent, FRAME_EXEC);
        assert_int_equal(buf_append(&got, exec.payload, exec.length), 0);
    } while (exec.flags & FRAME_MORE);
    buf_consume(&got, 6 + 5 + 100000 + 6);
    r = (struct frame_reader){.p = buf_head(&got), .left = got.len};
    assert_is_record(&r);
    agent_send_u32(f, FRAME_STARTED, exec.stream, 42);
    assert_int_equal(task_end(&t), 0);
}

static void too_large_and_empty_commands_are_refused(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *empty = json_pack("{s:[]}", "command");
    _cleanup_json_ json_t *large = json_pack("{s:[s]}", "command", "x");
    char *text = malloc(FRAME_SPEC_MAX + 1), id[ID_SIZE];
    struct err err;

    memset(text, 'a', FRAME_SPEC_MAX);
    text[FRAME_SPEC_MAX] = '\0';
    json_array_append_new(json_object_get(large, "command"), json_string(text));
    free(text);
    assert_int_equal(start_refused(f, empty, id, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(start_refused(f, large, id, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_string_equal(err.message, "command and environment are larger than 512 KiB together");
    assert_link_up(f);
}

static void a_command_that_cannot_start_is_a_failed_session(void **state)
{
    struct fixture *f = *state;
    struct task t = {.spec = spec_new("closed")};
    _cleanup_json_ json_t *o = NULL;
    struct peer client;
    uint32_t stream;
    struct frame end;
    struct err err;

    task_begin(&t, f, do_start);
    stream = peer_expect(&f->agent, FRAME_EXEC).stream;
    agent_send_failed(f, stream, 127, ENOENT, "no 'echo'\n");
    assert_int_equal(task_end(&t), 0);
    assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
    wait_for(f, NOTED_ENDED);
    assert_int_equal(session_show(f->sessions, VM, t.id, &o, &err), 0);
    assert_string_equal(json_str(o, "state", ""), "failed");
    assert_string_equal(json_str(o, "error", ""), "no 'echo'\\n");
    assert_int_equal(json_int(json_object_get(o, "exit"), "code", -1), 127);
    assert_int_equal(session_wait(f->sessions, VM, t.id, NULL, test_deadline(), &err), 0);
    /* Who attaches now is told. */
    attach_client(f, t.id, &client);
    end = peer_expect(&client, FRAME_FAILED);
    assert_int_equal(end.payload[0], 127);
    assert_memory_equal(end.payload + 8, "no 'echo'\\n", end.length - 8);
    peer_expect_eof(&client);
    wait_for(f, NOTED_DELIVERED);
    peer_done(&client);
    assert_link_up(f);
}

static void a_start_ends_at_deadline_or_cancel_and_is_taken_back(void **state)
{
    struct fixture *f = *state;
    _cleanup_cancel_ struct cancel *cancel = cancel_new();
    struct task t = {.spec = spec_new("closed"), .deadline_ms = clock_mono_ms()};
    uint32_t stream;

    task_begin(&t, f, do_start);
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_TIMEOUT);
    stream = peer_expect(&f->agent, FRAME_EXEC).stream;
    assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
    agent_send_u32(f, FRAME_STARTED, stream, 1); /* too late, and harmless */
    t = (struct task){.spec = spec_new("closed"), .cancel = cancel};
    task_begin(&t, f, do_start);
    stream = peer_expect(&f->agent, FRAME_EXEC).stream;
    cancel_trigger(cancel);
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_CANCELLED);
    assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
    assert_int_equal(session_count_running(f->sessions, VM), 0);
    assert_link_up(f);
}

static void no_session_starts_before_hello_or_after_the_end(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *spec = spec_new("closed"), *list = NULL;
    char id[ID_SIZE];
    struct err err;

    assert_int_equal(start_refused(f, spec, id, &err), -1);
    assert_int_equal(err.code, ERR_GUEST);
    guest_link_end(f->link, "stopped");
    assert_int_equal(start_refused(f, spec, id, &err), -1);
    list = session_list(f->sessions, VM);
    assert_int_equal(json_array_size(list), 0);
}

static void output_reaches_the_client_and_the_end_releases(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *o = NULL;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "closed", id);
    struct frame end;
    struct err err;

    attach_client(f, id, &client);
    peer_expect_window(&client, FRAME_STDIN, 0, 0);
    assert_int_equal(peer_expect(&f->agent, FRAME_ATTACH).stream, stream);
    agent_send_u32(f, FRAME_STARTED, stream, 42); /* again, as ATTACH asks for; not passed on */
    peer_send_window(&client, 0, FRAME_STDOUT, 0, 8);
    peer_send_window(&client, 0, FRAME_STDERR, 0, 8);
    peer_expect_window(&f->agent, FRAME_STDOUT, 0, 8);
    peer_expect_window(&f->agent, FRAME_STDERR, 0, 8);
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 0, "hello");
    peer_send_data(&f->agent, stream, FRAME_STDERR, 0, "oops");
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 5, "you");
    peer_expect_data(&client, FRAME_STDOUT, 0, "hello");
    peer_expect_data(&client, FRAME_STDERR, 0, "oops");
    peer_expect_data(&client, FRAME_STDOUT, 5, "you");
    peer_send_window(&client, 0, FRAME_STDOUT, 8, 16);
    peer_expect_window(&f->agent, FRAME_STDOUT, 8, 16);
    peer_send_end(&f->agent, stream, FRAME_STDOUT, 8);
    peer_send_end(&f->agent, stream, FRAME_STDERR, 4);
    agent_send_exited(f, stream, 0, 3);
    assert_int_equal(peer_expect(&client, FRAME_END).offset, 8);
    assert_int_equal(peer_expect(&client, FRAME_END).offset, 4);
    end = peer_expect(&client, FRAME_EXITED);
    assert_memory_equal(end.payload, "\0\3\0\0\0", 5);
    peer_expect_eof(&client);
    peer_done(&client);
    assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
    wait_for(f, NOTED_ENDED);
    wait_for(f, NOTED_DELIVERED);
    assert_int_equal(session_show(f->sessions, VM, id, &o, &err), 0);
    assert_string_equal(json_str(o, "state", ""), "exited");
    assert_int_equal(json_int(json_object_get(o, "bytes"), "out", -1), 8);
    assert_int_equal(json_int(json_object_get(o, "bytes"), "err", -1), 4);
    assert_int_equal(json_int(json_object_get(o, "exit"), "code", -1), 3);
    assert_int_equal(json_int(o, "readers", -1), 0);
    assert_link_up(f);
    assert_false(was_noted(f, NOTED_DELIVERED));
    assert_false(was_noted(f, NOTED_ENDED));
}

static void an_end_nobody_sees_waits_for_the_next_client(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "closed", id);
    struct frame end;

    peer_send_end(&f->agent, stream, FRAME_STDOUT, 0);
    peer_send_end(&f->agent, stream, FRAME_STDERR, 0);
    agent_send_exited(f, stream, 1, 9);
    wait_for(f, NOTED_ENDED);
    assert_link_up(f); /* nothing but the ping came: no RELEASE */
    attach_client(f, id, &client);
    peer_expect_window(&client, FRAME_STDIN, 0, 0);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&client, 0, FRAME_STDOUT, 0, 100);
    peer_expect_window(&f->agent, FRAME_STDOUT, 0, 100);
    peer_send_end(&f->agent, stream, FRAME_STDOUT, 0);
    peer_send_end(&f->agent, stream, FRAME_STDERR, 0);
    agent_send_exited(f, stream, 1, 9);
    (void)peer_expect(&client, FRAME_END);
    (void)peer_expect(&client, FRAME_END);
    end = peer_expect(&client, FRAME_EXITED);
    assert_memory_equal(end.payload, "\1\x09\0\0\0", 5);
    peer_expect_eof(&client);
    peer_done(&client);
    assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
    /* And from the record, now that the agent has forgotten it. */
    attach_client(f, id, &client);
    end = peer_expect(&client, FRAME_EXITED);
    assert_memory_equal(end.payload, "\1\x09\0\0\0", 5);
    peer_expect_eof(&client);
    peer_done(&client);
}

static void output_beyond_the_window_breaks_the_link(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "closed", id);

    attach_client(f, id, &client);
    peer_expect_window(&client, FRAME_STDIN, 0, 0);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&client, 0, FRAME_STDOUT, 0, 5);
    (void)peer_expect(&f->agent, FRAME_WINDOW);
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 0, "hello");
    peer_expect_data(&client, FRAME_STDOUT, 0, "hello");
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 5, "!");
    assert_broken(f, "the agent broke the protocol: session bytes beyond the window");
    peer_expect_text(&client, FRAME_FATAL,
                     "the agent broke the protocol: session bytes beyond the window");
    peer_expect_eof(&client);
    peer_done(&client);
    assert_state(f, id, "lost");
}

static void an_exit_is_known_before_the_output_is_read(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "closed", id);
    struct err err;

    assert_int_equal(session_wait(f->sessions, VM, id, NULL, clock_mono_ms(), &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    agent_send_session(f, stream, FRAME_SESSION_RUNNING, 0, 0);
    agent_send_session(f, stream, FRAME_SESSION_EXITED, 0, 7);
    assert_int_equal(session_wait(f->sessions, VM, id, NULL, test_deadline(), &err), 0);
    wait_for(f, NOTED_ENDED);
    assert_state(f, id, "exited");
    assert_int_equal(session_count_running(f->sessions, VM), 0);
    attach_client(f, id, &client);
    peer_expect_window(&client, FRAME_STDIN, 0, 0);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&client, 0, FRAME_STDOUT, 0, 5);
    (void)peer_expect(&f->agent, FRAME_WINDOW);
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 0, "still");
    peer_expect_data(&client, FRAME_STDOUT, 0, "still");
    peer_send_end(&f->agent, stream, FRAME_STDOUT, 5);
    peer_send_end(&f->agent, stream, FRAME_STDERR, 0);
    agent_send_exited(f, stream, 0, 7);
    (void)peer_expect(&client, FRAME_END);
    (void)peer_expect(&client, FRAME_END);
    assert_int_equal(peer_expect(&client, FRAME_EXITED).payload[1], 7);
    peer_expect_eof(&client);
    peer_done(&client);
    assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
}

static void the_next_client_takes_over_where_the_last_was(void **state)
{
    struct fixture *f = *state;
    struct peer first, second;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);

    attach_client(f, id, &first);
    peer_expect_window(&first, FRAME_STDIN, 0, 0);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&f->agent, stream, FRAME_STDIN, 0, 100);
    peer_expect_window(&first, FRAME_STDIN, 0, 100);
    peer_send_data(&first, 0, FRAME_STDIN, 0, "in1");
    peer_expect_data(&f->agent, FRAME_STDIN, 0, "in1");
    peer_send_window(&first, 0, FRAME_STDOUT, 0, 100);
    (void)peer_expect(&f->agent, FRAME_WINDOW);
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 0, "hello");
    peer_expect_data(&first, FRAME_STDOUT, 0, "hello");
    peer_send_window(&first, 0, FRAME_STDOUT, 2, 100);
    peer_expect_window(&f->agent, FRAME_STDOUT, 2, 100);

    attach_client(f, id, &second);
    peer_expect_text(&first, FRAME_FATAL, "another client took over the session");
    peer_expect_eof(&first);
    peer_done(&first);
    /* Its stdin begins behind what others have written. */
    peer_expect_window(&second, FRAME_STDIN, 3, 100);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&second, 0, FRAME_STDOUT, 0, 100);
    peer_expect_window(&f->agent, FRAME_STDOUT, 0, 100);
    /* What the first acknowledged is gone; the rest comes again. */
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 2, "llo");
    peer_expect_data(&second, FRAME_STDOUT, 2, "llo");
    peer_send_data(&second, 0, FRAME_STDIN, 3, "in2");
    peer_expect_data(&f->agent, FRAME_STDIN, 3, "in2");
    peer_send_window(&f->agent, stream, FRAME_STDIN, 5, 110);
    peer_expect_window(&second, FRAME_STDIN, 5, 110);
    peer_done(&second);
}

static void stdin_keeps_to_the_window_and_ends(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);

    attach_client(f, id, &client);
    peer_expect_window(&client, FRAME_STDIN, 0, 0);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&f->agent, stream, FRAME_STDIN, 0, 5);
    peer_expect_window(&client, FRAME_STDIN, 0, 5);
    peer_send_data(&client, 0, FRAME_STDIN, 0, "hello");
    peer_expect_data(&f->agent, FRAME_STDIN, 0, "hello");
    peer_send_window(&f->agent, stream, FRAME_STDIN, 5, 10);
    peer_expect_window(&client, FRAME_STDIN, 5, 10);
    peer_send_end(&client, 0, FRAME_STDIN, 5);
    assert_int_equal(peer_expect(&f->agent, FRAME_END).offset, 5);
    /* Nothing may come behind the end. */
    peer_send_data(&client, 0, FRAME_STDIN, 5, "x");
    peer_expect_text(&client, FRAME_FATAL, "the client broke the protocol");
    peer_expect_eof(&client);
    peer_done(&client);
    assert_link_up(f);
    assert_state(f, id, "running");
}

static void the_clients_signal_and_size_reach_the_agent(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);
    struct frame got;

    attach_client(f, id, &client);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send(&client, &(struct frame){.type = FRAME_SIGNAL,
                                       .payload = (const uint8_t *)"\x0f\0\0\0",
                                       .length = 4});
    got = peer_expect(&f->agent, FRAME_SIGNAL);
    assert_int_equal(got.stream, stream);
    assert_int_equal(got.payload[0], 15);
    peer_send(&client, &(struct frame){.type = FRAME_RESIZE,
                                       .payload = (const uint8_t *)"\x18\0\x50\0",
                                       .length = 4});
    got = peer_expect(&f->agent, FRAME_RESIZE);
    assert_memory_equal(got.payload, "\x18\0\x50\0", 4);
    peer_done(&client);
    session_signal(f->sessions, VM, id, 9);
    got = peer_expect(&f->agent, FRAME_SIGNAL);
    assert_int_equal(got.stream, stream);
    assert_int_equal(got.payload[0], 9);
    session_signal(f->sessions, VM, "ffffffffffff", 9); /* nothing */
    assert_link_up(f);
}

static void a_clients_garbage_ends_only_the_client(void **state)
{
    struct fixture *f = *state;
    static const uint8_t zero[8];
    static const uint8_t far[8] = {[3] = 1};
    static const struct frame bad[] = {
        {.type = FRAME_HELLO},
        {.type = FRAME_EXEC},
        {.type = FRAME_DATA, .channel = FRAME_STDOUT},
        {.type = FRAME_DATA, .payload = zero, .length = 1}, /* beyond the window */
        {.type = FRAME_DATA, .offset = 3},                  /* not what is next */
        {.type = FRAME_END, .payload = zero, .length = 1},  /* with bytes */
        {.type = FRAME_SIGNAL, .payload = zero, .length = 3},
        {.type = FRAME_RESIZE, .payload = zero, .length = 8},
        {.type = FRAME_WINDOW, .payload = zero, .length = 8}, /* of stdin */
        {.type = FRAME_WINDOW, .channel = FRAME_STDOUT, .payload = far, .length = 8},
        {.type = FRAME_WINDOW, .channel = FRAME_STDOUT, .payload = zero, .length = 7},
        {.type = FRAME_WINDOW, .channel = FRAME_STDERR, .offset = 9, .payload = zero, .length = 8},
    };
    struct peer client;
    char id[ID_SIZE];

    (void)start_session(f, "pipe", id);
    for (size_t i = 0; i <= ARRAY_LEN(bad); i++) {
        attach_client(f, id, &client);
        (void)peer_expect(&client, FRAME_WINDOW);
        (void)peer_expect(&f->agent, FRAME_ATTACH);
        if (i < ARRAY_LEN(bad)) {
            peer_send(&client, &bad[i]);
        } else {
            peer_write(&client, "GET / HTTP/1.1\r\n", 16);
        }
        peer_expect_text(&client, FRAME_FATAL, "the client broke the protocol");
        peer_expect_eof(&client);
        peer_done(&client);
        assert_link_up(f);
    }
    /* One that just goes away, in the middle of a frame. */
    attach_client(f, id, &client);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_write(&client, "\xB5\x20", 2);
    peer_done(&client);
    assert_link_up(f);
    assert_state(f, id, "running");
}

static unsigned count_readers(struct fixture *f, const char *id)
{
    _cleanup_json_ json_t *o = NULL;
    struct err err;

    assert_int_equal(session_show(f->sessions, VM, id, &o, &err), 0);
    return (unsigned)json_int(o, "readers", 9);
}

static void a_client_that_grants_without_reading_ends_alone(void **state)
{
    struct fixture *f = *state;
    static uint8_t bytes[16000];
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);
    uint64_t at = 0;
    int round;

    attach_client(f, id, &client);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    for (round = 0; round < 16 && count_readers(f, id) > 0; round++) {
        peer_send_window(&client, 0, FRAME_STDOUT, at, at + FRAME_WINDOW_MAX);
        peer_expect_window(&f->agent, FRAME_STDOUT, at, at + FRAME_WINDOW_MAX);
        for (int i = 0; i < 64; i++) {
            peer_send(&f->agent, &(struct frame){.type = FRAME_DATA,
                                                 .stream = stream,
                                                 .channel = FRAME_STDOUT,
                                                 .offset = at,
                                                 .payload = bytes,
                                                 .length = sizeof(bytes)});
            at += sizeof(bytes);
        }
        assert_link_up(f);
    }
    assert_true(round < 16);
    peer_done(&client);
    assert_link_up(f);
}

static void a_drained_session_never_waits_for_a_reader(void **state)
{
    struct fixture *f = *state;
    struct task t = {.spec = spec_new("closed"), .drain = true};
    uint64_t half = FRAME_WINDOW_MAX / 2;
    struct peer client;
    uint32_t stream;

    task_begin(&t, f, do_start);
    stream = peer_expect(&f->agent, FRAME_EXEC).stream;
    peer_expect_window(&f->agent, FRAME_STDOUT, 0, half);
    peer_expect_window(&f->agent, FRAME_STDERR, 0, half);
    agent_send_u32(f, FRAME_STARTED, stream, 42);
    assert_int_equal(task_end(&t), 0);
    for (uint64_t at = 0; at < FRAME_ACK_EVERY / 2; at += 8192) {
        static const uint8_t bytes[8192];

        peer_send(&f->agent, &(struct frame){.type = FRAME_DATA,
                                             .stream = stream,
                                             .channel = FRAME_STDOUT,
                                             .offset = at,
                                             .payload = bytes,
                                             .length = sizeof(bytes)});
    }
    peer_expect_window(&f->agent, FRAME_STDOUT, FRAME_ACK_EVERY / 2, FRAME_ACK_EVERY / 2 + half);
    /* A client that goes away leaves it as it was before it came. */
    attach_client(f, t.id, &client);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&client, 0, FRAME_STDOUT, 0, FRAME_ACK_EVERY / 2 + 3);
    (void)peer_expect(&f->agent, FRAME_WINDOW);
    peer_send_data(&f->agent, stream, FRAME_STDOUT, FRAME_ACK_EVERY / 2, "abc");
    (void)peer_expect(&client, FRAME_WINDOW);
    peer_expect_data(&client, FRAME_STDOUT, FRAME_ACK_EVERY / 2, "abc");
    peer_done(&client);
    peer_expect_window(&f->agent, FRAME_STDOUT, FRAME_ACK_EVERY / 2 + 3,
                       FRAME_ACK_EVERY / 2 + 3 + half);
    peer_expect_window(&f->agent, FRAME_STDERR, 0, half);
    assert_link_up(f);
}

static void early_bytes_of_a_client_count(void **state)
{
    struct fixture *f = *state;
    _cleanup_buf_ struct buf early;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "closed", id);
    struct err err;
    int fd;

    buf_init(&early, FRAME_MAX);
    assert_int_equal(frame_put_window(&early, 0, FRAME_STDOUT, 0, 5), 0);
    peer_pair(&client, &fd);
    assert_int_equal(session_attach(f->sessions, VM, id, fd, buf_head(&early), early.len - 4, &err),
                     0);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_write(&client, buf_head(&early) + early.len - 4, 4);
    peer_expect_window(&f->agent, FRAME_STDOUT, 0, 5);
    peer_expect_window(&client, FRAME_STDIN, 0, 0);
    peer_send_data(&f->agent, stream, FRAME_STDOUT, 0, "early");
    peer_expect_data(&client, FRAME_STDOUT, 0, "early");
    peer_done(&client);
}

static void the_end_of_the_link_is_told_to_everybody(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    struct task t = {0};
    _cleanup_json_ json_t *o = NULL;
    struct frame end;
    struct err err;

    (void)start_session(f, "pipe", id);
    attach_client(f, id, &client);
    (void)peer_expect(&client, FRAME_WINDOW);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    task_begin(&t, f, do_sync);
    (void)peer_expect(&f->agent, FRAME_SYNC);
    guest_link_end(f->link, "the VM was stopped");
    guest_link_end(f->link, "again");
    assert_int_equal(task_end(&t), -1);
    peer_expect_text(&client, FRAME_FATAL, "the VM was stopped");
    peer_expect_eof(&client);
    peer_done(&client);
    wait_for(f, NOTED_ENDED);
    assert_false(was_noted(f, NOTED_BROKEN)); /* who ends it needs no telling */
    assert_int_equal(session_show(f->sessions, VM, id, &o, &err), 0);
    assert_string_equal(json_str(o, "state", ""), "lost");
    assert_string_equal(json_str(o, "error", ""), "the VM was stopped");
    assert_int_equal(session_wait(f->sessions, VM, id, NULL, test_deadline(), &err), 0);
    attach_client(f, id, &client); /* a late one */
    end = peer_expect(&client, FRAME_FAILED);
    assert_int_equal(end.payload[0], 125);
    assert_memory_equal(end.payload + 8, "the VM was stopped", end.length - 8);
    peer_expect_eof(&client);
    peer_done(&client);
    session_signal(f->sessions, VM, id, 15); /* nothing */
    session_forget_vm(f->sessions, VM);
    assert_int_equal(session_show(f->sessions, VM, id, &o, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

struct writer {
    struct peer *client;
    size_t total;
    pthread_t thread;
    int failed;
};

/* Not peer_write: assertions are for the main thread. */
static void *write_stdin(void *arg)
{
    struct writer *w = arg;
    static uint8_t bytes[8192];

    for (size_t at = 0; at < w->total && !w->failed; at += sizeof(bytes)) {
        _cleanup_buf_ struct buf out;

        buf_init(&out, FRAME_MAX);
        memset(bytes, (int)(at / sizeof(bytes)), sizeof(bytes));
        w->failed = frame_put(
            &out, &(struct frame){
                      .type = FRAME_DATA, .offset = at, .payload = bytes, .length = sizeof(bytes)});
        while (out.len > 0 && !w->failed) {
            ssize_t n = buf_write_fd(&out, w->client->fd);

            w->failed = n == -EAGAIN ? cancel_wait_fd(NULL, w->client->fd, POLLOUT, test_deadline())
                        : n < 0      ? (int)n
                                     : 0;
        }
    }
    return NULL;
}

static void a_client_waits_while_the_agent_does_not_read(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);
    struct writer w = {.client = &client, .total = 1024 * 1024};

    attach_client(f, id, &client);
    (void)peer_expect(&client, FRAME_WINDOW);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&f->agent, stream, FRAME_STDIN, 0, w.total);
    (void)peer_expect(&client, FRAME_WINDOW);
    assert_int_equal(thread_start(&w.thread, "writer", 256, write_stdin, &w), 0);
    for (size_t at = 0; at < w.total; at += 8192) {
        struct frame data = peer_expect(&f->agent, FRAME_DATA);

        assert_int_equal(data.offset, at);
        assert_int_equal(data.length, 8192);
        assert_int_equal(data.payload[0], (uint8_t)(at / 8192));
    }
    pthread_join(w.thread, NULL);
    assert_int_equal(w.failed, 0);
    peer_done(&client);
    assert_link_up(f);
}

/* Sends `total` bytes of stdin, which sockets and buffers must be able to hold. */
static void send_stdin(struct fixture *f, struct peer *client, size_t total)
{
    struct writer w = {.client = client, .total = total};

    assert_int_equal(thread_start(&w.thread, "writer", 256, write_stdin, &w), 0);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.failed, 0);
    settle(f);
}

static void clients_with_much_take_turns_and_a_key_press_passes_them(void **state)
{
    enum { FIRST, SECOND, KEYS, COUNT };
    const size_t much = 160 * 1024;
    struct fixture *f = *state;
    struct peer clients[COUNT];
    uint32_t streams[COUNT];
    char id[ID_SIZE];
    size_t before_key = 0, in_a_row = 0, got[COUNT] = {0};

    for (int i = 0; i < COUNT; i++) {
        streams[i] = start_session(f, "pipe", id);
        attach_client(f, id, &clients[i]);
        (void)peer_expect(&clients[i], FRAME_WINDOW);
        (void)peer_expect(&f->agent, FRAME_ATTACH);
        peer_send_window(&f->agent, streams[i], FRAME_STDIN, 0, much);
        (void)peer_expect(&clients[i], FRAME_WINDOW);
    }
    /* Nobody reads what the link sends. */
    send_stdin(f, &clients[FIRST], much);
    send_stdin(f, &clients[SECOND], much);
    peer_send_data(&clients[KEYS], 0, FRAME_STDIN, 0, "x");
    settle(f);
    while (got[FIRST] + got[SECOND] < 2 * much || !got[KEYS]) {
        struct frame data = peer_expect(&f->agent, FRAME_DATA);
        int from = data.stream == streams[FIRST]    ? FIRST
                   : data.stream == streams[SECOND] ? SECOND
                                                    : KEYS;

        before_key += got[KEYS] ? 0 : data.length;
        got[from] += data.length;
        /* Once the second waits too, the first has no more at once than the link holds. */
        in_a_row = from == SECOND ? 0 : in_a_row + data.length;
        assert_true(!got[SECOND] || in_a_row <= LINK_DATA_HIGH);
    }
    /* Ahead of the key were what the link and the socket held. */
    assert_true(before_key <= (size_t)LINK_DATA_HIGH + 4 * FRAME_MAX);
    for (int i = 0; i < COUNT; i++) {
        peer_done(&clients[i]);
    }
    assert_link_up(f);
}

/* The port takes a part of a frame, then nothing: pings go as soon as that frame is whole. */
static void a_ping_overtakes_session_bytes_and_splits_no_frame(void **state)
{
    struct fixture *f = *state;
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);
    struct writer w = {.client = &client, .total = 1024 * 1024};
    struct task pings[8];
    unsigned pinged = 0;

    attach_client(f, id, &client);
    (void)peer_expect(&client, FRAME_WINDOW);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&f->agent, stream, FRAME_STDIN, 0, w.total);
    (void)peer_expect(&client, FRAME_WINDOW);
    assert_int_equal(thread_start(&w.thread, "writer", 256, write_stdin, &w), 0);
    (void)peer_expect(&f->agent, FRAME_DATA);
    for (unsigned i = 0; i < ARRAY_LEN(pings); i++) {
        ping_begin(&pings[i], f);
    }
    for (uint64_t at = 8192; at < w.total;) {
        struct frame got = peer_next(&f->agent);

        if (got.type == FRAME_PING) {
            pinged++;
            peer_send(&f->agent, &(struct frame){.type = FRAME_PONG, .stream = got.stream});
            continue;
        }
        assert_int_equal(got.type, FRAME_DATA);
        assert_int_equal(got.offset, at);
        at += got.length;
        /* Sockets and buffers on the way hold some; a megabyte they do not. */
        assert_true(pinged == ARRAY_LEN(pings) || at < w.total / 2);
    }
    pthread_join(w.thread, NULL);
    assert_int_equal(w.failed, 0);
    for (unsigned i = 0; i < ARRAY_LEN(pings); i++) {
        assert_int_equal(ping_end(&pings[i]), 0);
    }
    peer_done(&client);
    assert_link_up(f);
}

/* A client that waits for room on the link, and does not read: its session ends and is released,
 * then the link goes; nothing may point to it any more when the client goes. */
static void a_waiting_client_outlives_the_link(void **state)
{
    struct fixture *f = *state;
    static uint8_t bytes[16000];
    struct peer client;
    char id[ID_SIZE];
    uint32_t stream = start_session(f, "pipe", id);
    struct writer w = {.client = &client, .total = 192 * 1024};

    attach_client(f, id, &client);
    (void)peer_expect(&client, FRAME_WINDOW);
    (void)peer_expect(&f->agent, FRAME_ATTACH);
    peer_send_window(&client, 0, FRAME_STDOUT, 0, FRAME_WINDOW_MAX);
    (void)peer_expect(&f->agent, FRAME_WINDOW);
    peer_send_window(&f->agent, stream, FRAME_STDIN, 0, w.total);
    (void)peer_expect(&client, FRAME_WINDOW);
    /* All that it may, so that its socket is full and bytes for it are kept. */
    for (uint64_t at = 0; at + sizeof(bytes) <= FRAME_WINDOW_MAX; at += sizeof(bytes)) {
        peer_send(&f->agent, &(struct frame){.type = FRAME_DATA,
                                             .stream = stream,
                                             .channel = FRAME_STDOUT,
                                             .offset = at,
                                             .payload = bytes,
                                             .length = sizeof(bytes)});
    }
    assert_int_equal(thread_start(&w.thread, "writer", 256, write_stdin, &w), 0);
    pthread_join(w.thread, NULL); /* the link's buffer and the client's socket take it */
    assert_int_equal(w.failed, 0);
    settle(f);
    peer_send_end(&f->agent, stream, FRAME_STDOUT, FRAME_WINDOW_MAX / 16000 * 16000);
    peer_send_end(&f->agent, stream, FRAME_STDERR, 0);
    agent_send_exited(f, stream, 0, 0);
    wait_for(f, NOTED_ENDED);
    guest_link_free(f->link);
    f->link = NULL;
    while (peer_fill(&client) > 0) {
        buf_consume(&client.in, client.in.len);
        client.taken = 0;
    }
    peer_done(&client);
}

static void sessions_are_found_by_unique_prefix(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *o = NULL, *list = NULL;
    char ids[17][ID_SIZE], prefix[2];
    unsigned first[16] = {0};
    struct peer peer;
    struct err err;
    int fd;

    /* 17 ids share 16 first digits. */
    for (int i = 0; i < 17; i++) {
        const char *digits = "0123456789abcdef";

        (void)start_session(f, "closed", ids[i]);
        first[strchr(digits, ids[i][0]) - digits]++;
    }
    assert_int_equal(session_show(f->sessions, VM, ids[3], &o, &err), 0);
    for (int i = 0; i < 16; i++) {
        if (first[i] > 1) {
            (void)snprintf(prefix, sizeof(prefix), "%x", i);
        }
    }
    peer_pair(&peer, &fd);
    assert_int_equal(session_attach(f->sessions, VM, prefix, fd, NULL, 0, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    (void)peer_expect(&peer, FRAME_FATAL); /* it is told why */
    peer_expect_eof(&peer);
    peer_done(&peer);
    peer_pair(&peer, &fd);
    assert_int_equal(session_attach(f->sessions, "other", ids[0], fd, NULL, 0, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    peer_done(&peer);
    list = session_list(f->sessions, VM);
    assert_int_equal(json_array_size(list), 17);
    assert_string_equal(json_str(json_array_get(list, 16), "id", ""), ids[16]);
}

static void the_oldest_ended_session_makes_room(void **state)
{
    struct fixture *f = *state;
    _cleanup_json_ json_t *list = NULL;
    char first[ID_SIZE], id[ID_SIZE];
    struct err err;
    json_t *o = NULL;
    uint32_t stream = start_session(f, "closed", first);

    for (int i = 1; i < SESSIONS_PER_VM_MAX; i++) {
        (void)start_session(f, "closed", id);
    }
    {
        _cleanup_json_ json_t *spec = spec_new("closed");

        assert_int_equal(start_refused(f, spec, id, &err), -1);
        assert_int_equal(err.code, ERR_LIMIT);
    }
    agent_send_session(f, stream, FRAME_SESSION_EXITED, 0, 0);
    wait_for(f, NOTED_ENDED);
    {
        struct task t = {.spec = spec_new("closed")};
        uint32_t started;

        task_begin(&t, f, do_start);
        assert_int_equal(peer_expect(&f->agent, FRAME_RELEASE).stream, stream);
        started = peer_expect(&f->agent, FRAME_EXEC).stream;
        agent_send_u32(f, FRAME_STARTED, started, 42);
        assert_int_equal(task_end(&t), 0);
    }
    assert_int_equal(session_show(f->sessions, VM, first, &o, &err), -1);
    list = session_list(f->sessions, VM);
    assert_int_equal(json_array_size(list), SESSIONS_PER_VM_MAX);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_FRESH(name) cmocka_unit_test_setup_teardown(name, set_up_fresh, tear_down)
#define TEST_NARROW(name) cmocka_unit_test_setup_teardown(name, set_up_narrow, tear_down)
#define TEST_BARE(name) cmocka_unit_test_setup_teardown(name, set_up_bare, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_FRESH(hello_is_found_behind_garbage),
        TEST_BARE(an_adopted_port_is_resynchronised_first),
        TEST_FRESH(listed_sessions_take_their_numbers),
        TEST_FRESH(a_link_that_lists_too_much_does_not_come_up),
        TEST_FRESH(waiting_for_hello_ends_at_deadline_or_cancel),
        TEST_FRESH(the_agents_last_words_before_hello_are_told),
        TEST(the_agents_last_words_later_are_told),
        TEST(requests_are_answered),
        TEST(a_request_ends_at_deadline_or_cancel_and_its_late_answer_is_dropped),
        TEST(a_ping_is_forgotten_once_or_answered_once),
        TEST(a_guest_that_answers_none_is_asked_no_more),
        TEST(a_ping_is_lost_with_the_link),
        TEST(the_end_of_the_stream_breaks_the_link),
        TEST_BARE(what_is_no_protocol_breaks_the_link),
        TEST(session_frames_are_checked),
        TEST(exec_carries_the_whole_spec),
        TEST(a_large_exec_comes_in_pieces),
        TEST(too_large_and_empty_commands_are_refused),
        TEST(a_command_that_cannot_start_is_a_failed_session),
        TEST(a_start_ends_at_deadline_or_cancel_and_is_taken_back),
        TEST_FRESH(no_session_starts_before_hello_or_after_the_end),
        TEST(output_reaches_the_client_and_the_end_releases),
        TEST(an_end_nobody_sees_waits_for_the_next_client),
        TEST(output_beyond_the_window_breaks_the_link),
        TEST(an_exit_is_known_before_the_output_is_read),
        TEST(the_next_client_takes_over_where_the_last_was),
        TEST(stdin_keeps_to_the_window_and_ends),
        TEST(the_clients_signal_and_size_reach_the_agent),
        TEST(a_clients_garbage_ends_only_the_client),
        TEST(a_client_that_grants_without_reading_ends_alone),
        TEST(a_drained_session_never_waits_for_a_reader),
        TEST(early_bytes_of_a_client_count),
        TEST(the_end_of_the_link_is_told_to_everybody),
        TEST(a_client_waits_while_the_agent_does_not_read),
        TEST_NARROW(clients_with_much_take_turns_and_a_key_press_passes_them),
        TEST_NARROW(a_waiting_client_outlives_the_link),
        TEST_NARROW(a_ping_overtakes_session_bytes_and_splits_no_frame),
        TEST(sessions_are_found_by_unique_prefix),
        TEST(the_oldest_ended_session_makes_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
