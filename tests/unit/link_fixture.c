#include "link_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static void note(int fd)
{
    (void)eventfd_write(fd, 1);
}

void wait_for(struct fixture *f, enum noted what)
{
    eventfd_t value;

    assert_int_equal(cancel_wait_fd(NULL, f->noted[what], POLLIN, test_deadline()), 0);
    assert_int_equal(eventfd_read(f->noted[what], &value), 0);
}

bool was_noted(struct fixture *f, enum noted what)
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

void agent_take_hello(struct fixture *f)
{
    struct frame hello = peer_expect(&f->agent, FRAME_HELLO);

    assert_int_equal(hello.length, FRAME_NONCE_SIZE + 4);
    memcpy(f->nonce, hello.payload, FRAME_NONCE_SIZE);
}

size_t put_hello_ok(struct buf *out, const uint8_t *nonce, uint32_t listed)
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

void agent_hello_ok(struct fixture *f, uint32_t listed)
{
    _cleanup_buf_ struct buf out;

    buf_init(&out, FRAME_MAX);
    (void)put_hello_ok(&out, f->nonce, listed);
    peer_write(&f->agent, buf_head(&out), out.len);
}

void agent_send_u32(struct fixture *f, uint8_t type, uint32_t stream, uint32_t value)
{
    uint8_t p[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                    (uint8_t)(value >> 24)};

    peer_send(&f->agent,
              &(struct frame){.type = type, .stream = stream, .payload = p, .length = 4});
}

void agent_send_session(struct fixture *f, uint32_t stream, uint8_t state, uint8_t how,
                        uint8_t status)
{
    uint8_t p[6] = {state, how, status};

    peer_send(&f->agent,
              &(struct frame){.type = FRAME_SESSION, .stream = stream, .payload = p, .length = 6});
}

void agent_send_exited(struct fixture *f, uint32_t stream, uint8_t how, uint8_t status)
{
    uint8_t p[5] = {how, status};

    peer_send(&f->agent,
              &(struct frame){.type = FRAME_EXITED, .stream = stream, .payload = p, .length = 5});
}

void agent_send_failed(struct fixture *f, uint32_t stream, uint8_t status, uint8_t errnum,
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

void open_link(struct fixture *f, bool adopted)
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

int link_set_up_bare(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    for (int i = 0; i < NOTED_COUNT; i++) {
        f->noted[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    }
    assert_int_equal(loop_new("guest", &f->loop), 0);
    f->sessions = session_registry_new(
        &(struct session_registry_params){.loop = f->loop, .fn = on_session, .arg = f});
    f->agent.fd = -1;
    buf_init(&f->agent.in, FRAME_MAX);
    *state = f;
    return 0;
}

int link_set_up_fresh(void **state)
{
    (void)link_set_up_bare(state);
    open_link(*state, false);
    agent_take_hello(*state);
    return 0;
}

int link_set_up(void **state)
{
    struct fixture *f;
    struct err err;

    (void)link_set_up_fresh(state);
    f = *state;
    agent_hello_ok(f, 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    return 0;
}

int link_set_up_narrow(void **state)
{
    struct fixture *f;
    struct err err;

    (void)link_set_up_bare(state);
    f = *state;
    f->send_buffer = 8192;
    open_link(f, false);
    agent_take_hello(f);
    agent_hello_ok(f, 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    return 0;
}

int link_tear_down(void **state)
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

static void *task_main(void *arg)
{
    struct task *t = arg;

    t->result = t->fn(t);
    return NULL;
}

void task_begin(struct task *t, struct fixture *f, int (*fn)(struct task *t))
{
    *t = (struct task){.f = f,
                       .fn = fn,
                       .cancel = t->cancel,
                       .spec = t->spec,
                       .drain = t->drain,
                       .deadline_ms = t->deadline_ms ? t->deadline_ms : test_deadline()};
    assert_int_equal(thread_start(&t->thread, "task", 256, task_main, t), 0);
}

int task_end(struct task *t)
{
    pthread_join(t->thread, NULL);
    json_decref(t->spec);
    return t->result;
}

int do_start(struct task *t)
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

void ping_begin(struct task *t, struct fixture *f)
{
    *t = (struct task){.f = f};
    latch_init(&t->pinged);
    t->result = guest_link_ping(f->link, on_ping, t, &t->ping, &t->err);
}

int ping_end(struct task *t)
{
    if (t->ping != 0) {
        assert_int_equal(latch_wait(&t->pinged, NULL, test_deadline()), 0);
    }
    latch_done(&t->pinged);
    return t->result;
}

int do_sync(struct task *t)
{
    return guest_link_sync(t->f->link, t->cancel, t->deadline_ms, &t->err);
}

int do_poweroff(struct task *t)
{
    return guest_link_poweroff(t->f->link, t->cancel, t->deadline_ms, &t->err);
}

int do_configure(struct task *t)
{
    return guest_link_configure(t->f->link,
                                &(struct guest_configure){.hostname = "vm",
                                                          .machine_id = CONFIGURED_ID,
                                                          .time_ns = 0x0102030405060708},
                                t->cancel, t->deadline_ms, &t->err);
}

json_t *spec_new(const char *stdin_mode)
{
    return json_pack("{s:[s,s], s:s}", "command", "echo", "hi", "stdin", stdin_mode);
}

int start_refused(struct fixture *f, const json_t *spec, char ret_id[ID_SIZE], struct err *err)
{
    return session_start(f->sessions,
                         &(struct session_start_params){
                             .link = f->link, .vm_id = VM, .spec = spec, .deadline_ms = -1},
                         ret_id, err);
}

uint32_t start_session(struct fixture *f, const char *stdin_mode, char ret_id[ID_SIZE])
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

void attach_client(struct fixture *f, const char *id, struct peer *client)
{
    struct err err;
    int fd;

    peer_pair(client, &fd);
    assert_int_equal(session_attach(f->sessions, VM, id, fd, NULL, 0, &err), 0);
}

void assert_state(struct fixture *f, const char *id, const char *state)
{
    _cleanup_json_ json_t *o = NULL;
    struct err err;

    assert_int_equal(session_show(f->sessions, VM, id, &o, &err), 0);
    assert_string_equal(json_str(o, "state", ""), state);
}

void settle(struct fixture *f)
{
    for (int i = 0; i < 3; i++) {
        (void)guest_link_is_up(f->link);
    }
}

void assert_link_up(struct fixture *f)
{
    struct task t = {0};
    struct frame ping;

    ping_begin(&t, f);
    ping = peer_expect(&f->agent, FRAME_PING);
    peer_send(&f->agent, &(struct frame){.type = FRAME_PONG, .stream = ping.stream});
    assert_int_equal(ping_end(&t), 0);
    assert_true(guest_link_is_up(f->link));
}

void assert_broken(struct fixture *f, const char *why)
{
    wait_for(f, NOTED_BROKEN);
    assert_string_equal(f->why, why);
    assert_false(guest_link_is_up(f->link));
}
