/*
 * An RPC server with its socket, handlers that do what tests are about, and clients. Handlers run
 * on the server's threads: they only note.
 */
#pragma once

#include "base/buf.h"
#include "codec/json.h"
#include "rpc/server.h"
#include "scratch.h"

#include <pthread.h>
#include <stdatomic.h>

#define VM_PARAMS "{\"vm\":\"x\"}"
#define WAIT_PARAMS "{\"vm\":\"x\",\"until\":\"stopped\"}"
#define ATTACH_PARAMS "{\"vm\":\"x\",\"session\":\"abc\"}"

struct fixture {
    struct scratch dir;
    struct loop *loop;
    struct rpc_server *server;
    int entered; /* eventfd, a semaphore: a waiting handler has begun */
    int closed;  /* the same: a connection's hook ran */
    int over;    /* the same: a take-over ran */
    int go;      /* handlers of vm.stop wait for it */
    atomic_int cancelled;
    atomic_int later_done;
    pthread_t answerer;
    int taken_fd; /* before `over` */
    char early[64];
    size_t early_len;
};

struct client {
    int fd;
    struct buf in;
};

void take(int fd);
int do_nothing(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
               struct err *err);
int rpc_set_up(void **state);
int rpc_tear_down(void **state);

void client_done(struct client *c);
#define _cleanup_client_ _cleanup_(client_done)

struct client client_new(struct fixture *f);
void send_bytes(struct client *c, const char *bytes, size_t len);
void send_text(struct client *c, const char *text);
void request(struct client *c, int id, const char *method, const char *params);

/* The count, or 0 at the end. */
ssize_t fill(struct client *c);
json_t *next_message(struct client *c);
json_t *expect_result(struct client *c, int id);
void expect_empty(struct client *c, int id);
void expect_answer(struct client *c, int id);
void expect_error(struct client *c, int id, const char *code, const char *message,
                  const char *hint);
void expect_eof(struct client *c);

#define TEST(name) cmocka_unit_test_setup_teardown(name, rpc_set_up, rpc_tear_down)
