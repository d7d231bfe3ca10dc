/*
 * What `banger forward` is told to forward: [LOCAL:]REMOTE, where LOCAL is [IP:]PORT and REMOTE is
 * [HOST:]PORT or the absolute path of a Unix socket in the guest; an IPv6 address is in brackets.
 * As with ssh -L, a first word that is a number is the local port. Threads: any.
 */
#pragma once

#include "base/err.h"

#include <netinet/in.h>

#define FORWARD_HOST_SIZE 64
#define FORWARD_PATH_SIZE 108 /* of struct sockaddr_un */

/* Where to connect to in the guest. */
struct forward_target {
    char host[FORWARD_HOST_SIZE];
    int port;
    char path[FORWARD_PATH_SIZE]; /* or "" */
};

struct forward_spec {
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } local; /* port 0: any that is free; default 127.0.0.1 and the port of REMOTE, or any */
    struct forward_target target;
};

/* ERR_INVALID with what is wrong with it. */
int forward_spec_parse(const char *text, struct forward_spec *ret, struct err *err) _must_check_;
