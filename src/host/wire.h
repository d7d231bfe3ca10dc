/*
 * What the daemon and its helper say to each other, over a SOCK_SEQPACKET: a packet is a request,
 * and the first descriptor with it is the socket on which its one reply goes out. So requests of
 * many threads need no order, number or lock. Both are of the same build. Pure; the decoder trusts
 * nothing.
 */
#pragma once

#include "base/buf.h"
#include "host/host.h"

#include <stdint.h>

#define WIRE_REQUEST_MAX 65536U
/* The socket for the reply, and those of a VMM. */
#define WIRE_FDS_MAX (1U + SPAWN_FDS_MAX)

enum wire_verb {
    WIRE_STATUS = 1,
    WIRE_LAUNCH,
    WIRE_KILL,
    WIRE_ALLOW_DISK,
    WIRE_PSS,
    WIRE_NET_OPEN,
    WIRE_NET_REFRESH,
    WIRE_NET_CLOSE,
    WIRE_NET_DNS,
    WIRE_TAP_OPEN,
    WIRE_TAP_DELETE,
    WIRE_TAP_LIST,
    WIRE_NIC_ATTACH,
    WIRE_NIC_DETACH,
    WIRE_VERB_END,
};

/* A request as the helper has it: the texts are in the packet. */
struct wire_request {
    enum wire_verb verb;
    struct host_launch launch; /* of LAUNCH: argv and fds point into what follows */
    const char *argv[HOST_ARGS_MAX + 1];
    struct spawn_fd fds[SPAWN_FDS_MAX]; /* `as` from the packet; `fd` is the caller's to fill in */
    const char *run_dir;                /* of LAUNCH, KILL, ALLOW_DISK, PSS; else NULL */
    struct vmm_process process;         /* of these as well, but LAUNCH */
    uint64_t disk_bytes;                /* of ALLOW_DISK; else 0 */
    struct host_subnet subnet;          /* of NET_OPEN */
    struct host_nic nic;                /* of NIC_* */
    unsigned taps[HOST_TAPS_AT_ONCE];   /* of TAP_OPEN (one) and TAP_DELETE */
    size_t tap_count;
};

/* Appends a request; -ENOBUFS when it is too large. put_plain: of STATUS, NET_REFRESH,
 * NET_CLOSE, NET_DNS and TAP_LIST, which have no more to say. */
int wire_put_plain(struct buf *b, enum wire_verb verb);
int wire_put_launch(struct buf *b, const struct host_launch *params);
/* KILL, PSS (disk_bytes is 0) or ALLOW_DISK. */
int wire_put_vmm(struct buf *b, enum wire_verb verb, const struct vmm_process *process,
                 const char *run_dir, uint64_t disk_bytes);

int wire_put_subnet(struct buf *b, const struct host_subnet *subnet);
/* TAP_OPEN, with one, or TAP_DELETE. */
int wire_put_taps(struct buf *b, enum wire_verb verb, const unsigned *taps, size_t count);
int wire_put_nic(struct buf *b, enum wire_verb verb, const struct host_nic *nic);

/* Reads a whole packet, of whose texts ret has pointers. -EPROTO for anything but exactly one
 * request. What it asks for is checked elsewhere (host_check). */
int wire_parse(const uint8_t *packet, size_t len, struct wire_request *ret);

/* The reply; with a started VMM come two descriptors: its pidfd, and a pipe that struct wire_exit
 * can be read from when it has ended. With TAP_OPEN comes the TAP's, with
 * NET_DNS two or four. */
struct wire_reply {
    int32_t result; /* 0, or -1 with err */
    struct host_status status;
    struct vmm_process process;
    uint64_t pss_bytes;
    uint32_t mtu;                    /* of NET_OPEN, NET_REFRESH */
    uint8_t taps[HOST_TAPS_MAX / 8]; /* of TAP_LIST: a bit each, the lowest first */
    struct err err;
};

struct wire_exit {
    int32_t code, signal; /* struct vmm_exit */
};

/* One packet with descriptors (borrowed). 0 or -errno. Never SIGPIPE. */
int wire_send(int fd, const void *data, size_t len, const int *fds, size_t fd_count);

/* One packet; the descriptors are the caller's. The count of bytes, 0 at the end, or -errno;
 * -EPROTO, with nothing received, when more came than there is room for. */
ssize_t wire_receive(int fd, void *data, size_t size, int *ret_fds, size_t *fd_count);
