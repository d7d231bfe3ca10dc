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

extern const struct host_subnet site_subnet;

struct site {
    struct scratch scratch; /* its runtime directory */
    struct host *host;
    unsigned mtu; /* that the last open said */
};

/* False, with the reason printed, where there can be none: the test is to be skipped. */
bool site_init(struct site *w, bool uplink);
void site_done(struct site *w);
#define SITE(w, uplink)                                                                            \
    struct site w;                                                                                 \
    (void)state;                                                                                   \
    if (!site_init(&w, uplink)) {                                                                  \
        skip();                                                                                    \
    }

/* Another host for it, as the one of a daemon that comes next. */
struct host *site_host(const struct site *w);
void must(int r, const struct err *err);
void site_open(struct site *w);
void site_close(struct site *w);
/* The caller closes it. */
int site_tap(struct site *w, unsigned tap);
/* 10.201.0.NUMBER and fd00:201::NUMBER. */
struct host_nic site_nic(unsigned tap, unsigned number, bool nat);
void site_attach(struct site *w, unsigned tap, unsigned number, bool nat);
void site_detach(struct site *w, unsigned tap, unsigned number);
/* "1 7 ": those that there are. */
void assert_taps(struct site *w, const char *expected);
/* What is in a file of /proc/sys. */
void assert_switch(const char *path, const char *expected);
