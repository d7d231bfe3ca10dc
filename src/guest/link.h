/*
 * The daemon's end of the byte stream to one VM's agent (codec/frame.h), for one incarnation.
 * All state is the guest loop's; the functions may be called from any thread, and block until
 * their cancel or deadline. The guest is hostile: what breaks the protocol ends the link with
 * GUEST_LINK_BROKEN and a reason, never the daemon. Failure: ERR_GUEST, ERR_TIMEOUT,
 * ERR_CANCELLED, ERR_NOT_RUNNING after the link ended.
 */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/id.h"
#include "base/loop.h"

#include <stdint.h>

struct guest_link;
struct session_registry;

enum guest_link_event {
    GUEST_LINK_LISTED, /* of an adopted one: the sessions of the earlier daemon are registered */
    GUEST_LINK_GOING_DOWN, /* the guest ends on purpose; its exit follows */
    GUEST_LINK_BROKEN,     /* the last one; text says why: end of stream, broken protocol, or the
                            * agent's own last words */
};

/* On the loop's thread. text is the guest's or ours, already escaped. */
typedef void (*guest_link_fn)(void *arg, enum guest_link_event event, const char *text);

struct guest_link_params {
    struct loop *loop;
    int fd;            /* the connected socket; taken */
    bool adopted;      /* an earlier daemon spoke on the port: half a frame of its may be there, and
                        * the sessions that the agent lists are registered */
    const char *vm_id; /* of those sessions */
    struct session_registry *sessions; /* where sessions started on the link go */
    guest_link_fn fn;
    void *arg;
    random_fn random; /* nonces and the guest's entropy; NULL = random_bytes */
};

/* Sends HELLO. Not on the loop's thread. */
struct guest_link *guest_link_open(const struct guest_link_params *params);

/* Ends the link: running sessions become `lost`, attached clients are told `why`, pending calls
 * fail; no event comes after it returns. May be repeated. Not on the loop's thread. NULL: the
 * daemon ends, but not the VM; clients see their connection end, and may come back to the next
 * daemon. */
void guest_link_end(struct guest_link *link, const char *why);

/* Frees an ended link that nobody calls into any more. Accepts NULL. */
void guest_link_free(struct guest_link *link);

/* Waits for the agent's HELLO_OK. */
int guest_link_wait_hello(struct guest_link *link, struct cancel *cancel, int64_t deadline_ms,
                          struct err *err);

/* The same, without an opinion on whether it came: returns at once when that is decided. */
void guest_link_wait_decided(struct guest_link *link, struct cancel *cancel, int64_t deadline_ms);

/* True once HELLO_OK came. */
bool guest_link_is_up(struct guest_link *link);

/* The version that the agent says it has: the guest's word. "" until HELLO_OK came. Never waits. */
#define GUEST_VERSION_SIZE 64
void guest_link_agent_version(const struct guest_link *link, char ret[GUEST_VERSION_SIZE]);

/* What a guest has at its card's end of the link, and where the other end is. */
#define GUEST_RESOLVERS_MAX 3
struct guest_network {
    uint32_t ipv4, gateway4; /* host byte order */
    uint8_t ipv6[16];        /* its gateway is fe80::1; 0 = none */
    uint8_t mac[6];          /* of the card, which is found by it */
    uint8_t gateway_mac[6];
    uint16_t mtu;                               /* bytes, 1280 or more */
    const char *resolvers[GUEST_RESOLVERS_MAX]; /* addresses as text, the first NULL ends them */
};

struct guest_configure {
    const char *hostname;
    const char *machine_id; /* 32 hex digits; NULL = as it is */
    const char *boot_id;    /* as the kernel prints one; NULL = as it is */
    uint64_t time_ns;       /* CLOCK_REALTIME */
    bool begin_init;        /* the image's, which waits until the guest knows who it is */
    const struct guest_network *network; /* NULL: none, or as it is */
};

/* Gives the guest its identity, the time, and fresh entropy, and makes sure that it has them: what
 * it reads back is compared, unless its agent is too old for that. A machine-id that the guest
 * could not write, its disk being full, is said in the log, and so are resolvers, and an IPv6
 * address where it has no IPv6. A boot_id, a network or an init that its agent is too old for is
 * ERR_UNSUPPORTED, and then nothing was sent: call it once HELLO_OK came. */
int guest_link_configure(struct guest_link *link, const struct guest_configure *params,
                         struct cancel *cancel, int64_t deadline_ms, struct err *err);

int guest_link_sync(struct guest_link *link, struct cancel *cancel, int64_t deadline_ms,
                    struct err *err);

/* Tells the guest that its data disk has so many bytes; returns when its filesystem has grown to
 * them. For agents that know how: can_grow_disk, which never waits. */
bool guest_link_can_grow_disk(const struct guest_link *link);
int guest_link_grow_disk(struct guest_link *link, uint64_t bytes, struct cancel *cancel,
                         int64_t deadline_ms, struct err *err);

/* Asks the guest to sync and end; returns once it has agreed. */
int guest_link_poweroff(struct guest_link *link, struct cancel *cancel, int64_t deadline_ms,
                        struct err *err);

/* us: the round trip to the agent; err: NULL, or why there is none. On the loop's thread. */
typedef void (*guest_ping_fn)(void *arg, int64_t us, const struct err *err);

/* Sends a ping and returns at once, unlike all else here, from any thread: fn is called once, at
 * the latest when the link ends, and maybe before this returns. */
int guest_link_ping(struct guest_link *link, guest_ping_fn fn, void *arg, uint32_t *ret_id,
                    struct err *err);

/* True: fn will not be called any more. False: it is being called, or has been. */
bool guest_link_forget_ping(struct guest_link *link, uint32_t id);
