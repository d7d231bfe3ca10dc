/* A host in a network namespace of a test's own, and what tests do with it: failures are the
 * test's. 10.201.0.0/16 and fd00:201::/64 are the VMs'. */
#pragma once

#include "host/host.h"
#include "net_fixture.h"
#include "scratch.h"

#define GUEST_A "10.201.0.5"
#define GUEST_B "10.201.0.6"
#define GUEST_A6 "fd00:201::5"
#define GATEWAY "10.201.0.1"
#define GATEWAY6 "fd00:201::1"

extern const struct host_subnet world_subnet;

struct world {
    struct scratch scratch; /* its runtime directory */
    struct host *host;
    unsigned mtu; /* that the last open said */
};

/* False, with the reason printed, where there can be none: the test is to be skipped. */
bool world_init(struct world *w, bool uplink);
void world_done(struct world *w);
#define WORLD(w, uplink)                                                                           \
    struct world w;                                                                                \
    (void)state;                                                                                   \
    if (!world_init(&w, uplink)) {                                                                 \
        skip();                                                                                    \
    }

/* Another host for it, as the one of a daemon that comes next. */
struct host *world_host(const struct world *w);
void must(int r, const struct err *err);
void world_open(struct world *w);
void world_close(struct world *w);
/* The caller closes it. */
int world_tap(struct world *w, unsigned tap);
/* 10.201.0.NUMBER and fd00:201::NUMBER. */
struct host_nic world_nic(unsigned tap, unsigned number, bool nat);
void world_attach(struct world *w, unsigned tap, unsigned number, bool nat);
void world_detach(struct world *w, unsigned tap, unsigned number);
/* "1 7 ": those that there are. */
void assert_taps(struct world *w, const char *expected);
/* What is in a file of /proc/sys. */
void assert_switch(const char *path, const char *expected);
