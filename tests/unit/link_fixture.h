/*
 * A link to a guest whose agent a test plays, with sessions and clients. Callbacks of the loop only
 * note what they are told; each wait is for a frame, an event or the end of a stream.
 */
#pragma once

#include "frame_peer.h"
#include "guest/guest_priv.h"
#include "scratch.h"

#define VM "0123456789abcdef0123456789abcdef"

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

void wait_for(struct fixture *f, enum noted what);
bool was_noted(struct fixture *f, enum noted what);
void agent_take_hello(struct fixture *f);
size_t put_hello_ok(struct buf *out, const uint8_t *nonce, uint32_t listed);
void agent_hello_ok(struct fixture *f, uint32_t listed);
void agent_send_u32(struct fixture *f, uint8_t type, uint32_t stream, uint32_t value);
void agent_send_session(struct fixture *f, uint32_t stream, uint8_t state, uint8_t how,
                        uint8_t status);
void agent_send_exited(struct fixture *f, uint32_t stream, uint8_t how, uint8_t status);
void agent_send_failed(struct fixture *f, uint32_t stream, uint8_t status, uint8_t errnum,
                       const char *text);
void open_link(struct fixture *f, bool adopted);
int link_set_up_bare(void **state);
int link_set_up_fresh(void **state);
int link_set_up(void **state);

/* The agent's end holds little of what the link sends: it is soon kept back. */
int link_set_up_narrow(void **state);
int link_tear_down(void **state);

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

void task_begin(struct task *t, struct fixture *f, int (*fn)(struct task *t));
int task_end(struct task *t);
int do_start(struct task *t);

/* A ping needs no thread. */
void ping_begin(struct task *t, struct fixture *f);
int ping_end(struct task *t);
int do_sync(struct task *t);
int do_poweroff(struct task *t);
#define CONFIGURED_ID "0123456789abcdef0123456789abcdef"
int do_configure(struct task *t);
json_t *spec_new(const char *stdin_mode);

/* For what is refused at once, without the agent. */
int start_refused(struct fixture *f, const json_t *spec, char ret_id[ID_SIZE], struct err *err);

/* A running session; its stream. */
uint32_t start_session(struct fixture *f, const char *stdin_mode, char ret_id[ID_SIZE]);

/* Attaches; the client has taken its first stdin window and the agent the ATTACH. */
void attach_client(struct fixture *f, const char *id, struct peer *client);
void assert_state(struct fixture *f, const char *id, const char *state);

/* Returns once the loop has looked at all that was written to it. It takes what is ready in turns:
 * what was ready before the second turn has had its own. */
void settle(struct fixture *f);

/* The link works, and has handled all that was sent before. */
void assert_link_up(struct fixture *f);
void assert_broken(struct fixture *f, const char *why);

#define TEST(name) cmocka_unit_test_setup_teardown(name, link_set_up, link_tear_down)
#define TEST_FRESH(name) cmocka_unit_test_setup_teardown(name, link_set_up_fresh, link_tear_down)
#define TEST_NARROW(name) cmocka_unit_test_setup_teardown(name, link_set_up_narrow, link_tear_down)
#define TEST_BARE(name) cmocka_unit_test_setup_teardown(name, link_set_up_bare, link_tear_down)
