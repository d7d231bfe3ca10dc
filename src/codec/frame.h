/*
 * The byte stream between host and guest (docs/ARCHITECTURE.md §7), and, for one session, between
 * a client and the daemon. Pure: bytes <-> structs, no I/O, libc only; the agent and the daemon
 * share this file. Everything is little endian. Every parser here is bounded and fuzzed: the peer
 * is hostile.
 *
 * A frame is a header of FRAME_HEADER_SIZE bytes, at most FRAME_PAYLOAD_MAX bytes of payload, and
 * the four bytes of FRAME_TRAILER:
 *
 *     0  u8  magic (FRAME_MAGIC)         4  u32 stream      16  u32 payload length
 *     1  u8  type (enum frame_type)      8  u64 offset
 *     2  u8  channel (enum frame_channel, else 0)
 *     3  u8  flags (FRAME_MORE or 0)
 *
 * The trailer tells a frame from half a frame of a host that died, which the next host's bytes have
 * completed: a virtio port joins the two without a mark when the guest did not run in between. So a
 * new host first sends FRAME_MAX zeros (frame_put_resync), which end whatever was begun, and then
 * HELLO; the agent drops that frame and what is not a HELLO behind it.
 *
 * Stream 0 is the link itself. On a request (ping, configure, sync, poweroff) `stream` is the
 * request's number, which its reply repeats. On session frames it is the session's number, chosen
 * by the host and never used twice in a boot.
 *
 * Session bytes have absolute offsets, counted from 0 on each channel. DATA carries the offset of
 * its first byte, END the channel's total. WINDOW says: "I hold all bytes before `offset` for good
 * (they may be dropped), and you may send up to `limit`". A sender starts with limit 0 and never
 * sends past the limit; after a break the receiver says ATTACH, and a WINDOW with its own offsets,
 * and the sender goes on from there: nothing is lost or repeated. The agent holds only
 * so many bytes of a channel (FRAME_ACK_EVERY or more) until they are acknowledged, whatever the
 * window: who has as many, gets no more, and does not acknowledge them waits for ever.
 */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define FRAME_MAGIC 0xB5
#define FRAME_HEADER_SIZE 20
#define FRAME_MAX 16384
#define FRAME_TRAILER 0x5DA7C3E1U /* little endian, like all else */
#define FRAME_TRAILER_SIZE 4
#define FRAME_PAYLOAD_MAX (FRAME_MAX - FRAME_HEADER_SIZE - FRAME_TRAILER_SIZE)

/* Protocol range that this build speaks; HELLO picks the highest common one. */
#define FRAME_PROTO_MIN 1
#define FRAME_PROTO_MAX 4
#define FRAME_PROTO_GROW 2      /* the first that knows GROW */
#define FRAME_PROTO_READ_BACK 2 /* the first that answers CONFIGURE with what is so */
#define FRAME_PROTO_BOOT_ID 3   /* the first that takes a boot_id in CONFIGURE */
#define FRAME_PROTO_INIT 4      /* the first whose init waits for FRAME_TAG_INIT */
#define FRAME_PROTO_NETWORK 4   /* the first that takes a network in CONFIGURE */

#define FRAME_NONCE_SIZE 16
#define FRAME_HELLO_MAX 256 /* most payload of a HELLO or HELLO_OK */

enum frame_type {
    /* Link. HELLO: host -> agent, payload nonce[16], u16 min, u16 max. Whatever came before a
     * HELLO_OK with the same nonce belongs to an earlier host and is discarded. A HELLO starts a
     * new generation: the agent drops half a frame of the old host, but no session. */
    FRAME_HELLO = 1,
    /* agent -> host: nonce[16], u16 version, u32 number of sessions, then the agent's version
     * string (rest). A SESSION frame for each session follows, with its record. What comes before
     * it may begin in the middle of an old frame: a host finds it with frame_scan, and checks the
     * nonce. */
    FRAME_HELLO_OK = 2,
    /* agent -> host, stream 0: the agent cannot go on (no root disk, mount failed, no common
     * protocol version); payload: the reason as text. It is the answer to HELLO, in the place of
     * HELLO_OK, and may also come before any HELLO. */
    FRAME_FATAL = 3,
    /* host -> agent: payload up to FRAME_PING_MAX bytes, echoed in PONG. */
    FRAME_PING = 4,
    FRAME_PONG = 5,

    /* Requests host -> agent, each answered by REPLY. */
    /* TLVs FRAME_TAG_HOSTNAME, _MACHINE_ID, _TIME, _ENTROPY, from version 3 on _BOOT_ID, and from
     * version 4 on _NETWORK, _RESOLVER and _INIT. From version 2 on a REPLY with errno 0 has TLVs
     * with what the guest reads back of all but _ENTROPY; _MACHINE_ID and _RESOLVER are missing
     * where they could not be written. */
    FRAME_CONFIGURE = 8,
    FRAME_SYNC = 9,      /* sync(2) */
    FRAME_POWEROFF = 10, /* end sessions, sync, REPLY, GOING_DOWN, reset the machine */
    FRAME_GROW = 13,     /* u64 bytes: the data disk has them now, its filesystem is to use them */
    FRAME_REPLY = 11,    /* agent -> host: u32 errno (0 = done), then text, or TLVs */
    FRAME_GOING_DOWN = 12, /* agent -> host: the machine ends on purpose (not a crash) */

    /* Sessions, host -> agent. */
    FRAME_EXEC = 16,    /* TLVs; FRAME_MORE set on all but the last piece, FRAME_SPEC_MAX in all;
                         * no other EXEC may come between the pieces */
    FRAME_SIGNAL = 17,  /* u32 signal number (guest's numbering), to the session's process group */
    FRAME_RESIZE = 18,  /* u16 rows, u16 columns */
    FRAME_ATTACH = 19,  /* empty: (re)send every state frame of this session: STARTED or FAILED,
                         * unacknowledged data as windows allow, END, EXITED. EXEC attaches; a
                         * HELLO detaches every session, which then sends nothing until ATTACH.
                         * ATTACH sets the limits of stdout and stderr back to 0, and brings a
                         * WINDOW for stdin. An unknown session is answered by FAILED, ESRCH. */
    FRAME_RELEASE = 20, /* forget an ended session; a running one gets SIGKILL first */

    /* Sessions, agent -> host. */
    FRAME_STARTED = 24, /* u32 guest pid */
    FRAME_FAILED = 25,  /* not started: u32 exit status (125, 126, 127), u32 errno, text */
    FRAME_EXITED = 26,  /* u8 0 = exited / 1 = killed by signal, u32 status or signal. Sent after
                         * both ENDs. */
    FRAME_SESSION = 27, /* u8 state (enum frame_session_state), u8 how, u32 status as in EXITED.
                         * At once when a process ends: unlike EXITED it does not wait for the
                         * output before it. And after HELLO_OK for each session, and then with
                         * u64 bytes of stdin received, u64 first byte held and u64 end of stdout,
                         * the same of stderr, and the host's record of FRAME_TAG_RECORD (rest).
                         * (Agents before these were known stop behind the status.) */

    /* Sessions, both directions. */
    FRAME_DATA = 32,
    FRAME_END = 33,    /* offset = total bytes of the channel. stdin's END closes the pipe, or types
                        * VEOF on the terminal */
    FRAME_WINDOW = 34, /* offset = acknowledged; payload u64 limit (absolute) */
};

enum frame_channel {
    FRAME_STDIN = 0,  /* host -> guest */
    FRAME_STDOUT = 1, /* guest -> host; a terminal's output too */
    FRAME_STDERR = 2,
    FRAME_CHANNELS = 3,
};

enum frame_session_state {
    FRAME_SESSION_RUNNING = 1,
    FRAME_SESSION_EXITED = 2,
    FRAME_SESSION_FAILED = 3,
};

#define FRAME_MORE 0x01

#define FRAME_PING_MAX 64
#define FRAME_SPEC_MAX (512 * 1024)    /* TLV bytes of one EXEC */
#define FRAME_ARGS_MAX 4096            /* arguments, and environment entries, of one EXEC */
#define FRAME_RECORD_MAX 4096          /* bytes of a host's record of a session */
#define FRAME_ACK_EVERY (64 * 1024)    /* so much output is acknowledged when no more comes */
#define FRAME_ACK_BULK (128 * 1024)    /* and so much at once: each WINDOW interrupts the guest */
#define FRAME_ACK_QUIET_MS 5           /* no more has come for this long */
#define FRAME_WINDOW_MAX (1024 * 1024) /* most bytes that a WINDOW may open beyond its offset */

/* Tags of the TLVs: u8 tag, u32 length, value. Unknown tags are ignored (newer host). */
enum frame_tag {
    FRAME_TAG_ARG = 1,    /* one argument, bytes without NUL; repeated, in order. None, on a
                           * terminal: the user's login shell */
    FRAME_TAG_ENV = 2,    /* NAME=value, bytes without NUL; repeated */
    FRAME_TAG_CWD = 3,    /* absolute path; default: the user's home, else / */
    FRAME_TAG_USER = 4,   /* name or uid, optionally :group or :gid; default root */
    FRAME_TAG_STDIN = 5,  /* u8 enum frame_stdin */
    FRAME_TAG_TTY = 6,    /* u16 rows, u16 columns: run on a pseudo-terminal of this size */
    FRAME_TAG_RECORD = 7, /* what the host wants to know of the session later, up to
                           * FRAME_RECORD_MAX bytes: the agent keeps them and lists them */
    /* u8 enum frame_files, u8 flags (FRAME_FILES_*): no command, but the agent's own part of
     * `banger cp`, as FRAME_TAG_USER and in /. Instead of ARG there are paths; an agent that does
     * not know this finds no command and fails with EINVAL. Standard input is, or standard output
     * becomes, a tar stream; standard error has for each failure path, reason and hint, each with a
     * NUL. The exit status is 0 or 1. SIGHUP, SIGINT and SIGTERM end it and leave no temporary
     * file. */
    FRAME_TAG_FILES = 8,
    /* GET: what to pack, repeated. PUT: first the destination, then the names that may come, by
     * first component (none: any). Bytes without NUL. */
    FRAME_TAG_PATH = 9,
    FRAME_TAG_HOSTNAME = 16,
    FRAME_TAG_TIME = 17,       /* u64 nanoseconds since 1970, CLOCK_REALTIME */
    FRAME_TAG_ENTROPY = 18,    /* 32 to 512 bytes for the guest's random pool */
    FRAME_TAG_MACHINE_ID = 19, /* 32 lower-case hex digits, for /etc/machine-id */
    /* 36 characters, a lower-case UUID as the kernel prints one: in the place of that in
     * /proc/sys/kernel/random/boot_id. Only in CONFIGURE, and only when it is to be another. */
    FRAME_TAG_BOOT_ID = 20,
    /* No value. The image's own init (banger.init= on the kernel's command line) begins once all
     * else in this CONFIGURE is so; until then PID 1 waits. Of no effect where it has begun. */
    FRAME_TAG_INIT = 21,
    /* struct frame_network: what the guest's card has from now on, and nothing else. In an answer
     * it is what the kernel says that the card has: gateway4 and gateway_mac are not told, and 0;
     * ipv6 is 0 where the kernel has no IPv6, or the guest wants none on this card; and when it is
     * to have none. */
    FRAME_TAG_NETWORK = 22,
    /* The address of a nameserver as text (inet_pton(3)), without NUL; repeated, in order,
     * FRAME_RESOLVERS_MAX at most: /etc/resolv.conf has these and nothing else. */
    FRAME_TAG_RESOLVER = 23,
};

/* resolv.conf(5): more are not looked at. */
#define FRAME_RESOLVERS_MAX 3
#define FRAME_RESOLVER_SIZE 46 /* with a NUL: INET6_ADDRSTRLEN */

/*
 * What a guest is told of its network. The link has two ends, and each knows the other's address:
 * both of the guest's are the only ones of their prefix (/32, /128), and the gateway is reached by
 * them alone. Its IPv6 address on the link is always fe80::1. On the wire, FRAME_NETWORK_SIZE
 * bytes; addresses as on any wire, first byte first:
 *
 *     0  u8[4]   ipv4                    24  u8[6]  mac, of the card, by which it is found
 *     4  u8[4]   gateway4                30  u8[6]  gateway_mac
 *     8  u8[16]  ipv6                    36  u16    mtu, in bytes
 */
#define FRAME_NETWORK_SIZE 38
struct frame_network {
    uint8_t ipv4[4], gateway4[4];
    uint8_t ipv6[16];
    uint8_t mac[6], gateway_mac[6];
    uint16_t mtu;
};

enum frame_files {
    FRAME_FILES_GET = 1, /* pack to stdout */
    FRAME_FILES_PUT = 2, /* unpack stdin */
    /* Not files at all, and no PATH, but a report on stdout (codec/report.h). */
    FRAME_FILES_STATS = 3,
    FRAME_FILES_PROCESSES = 4,
    FRAME_FILES_LISTENERS = 5,
    /* One PATH: "HOST:PORT", with HOST "localhost" or an IPv4 address or an IPv6 address in
     * brackets, or the absolute path of a Unix socket. Standard input and output are the connection
     * to it, each ending by itself; standard error ends, empty, once that is made. */
    FRAME_FILES_CONNECT = 6,
};

/* Those that are reports: nobody's work, and without a PATH. */
static inline bool frame_files_is_report(int what)
{
    return what >= FRAME_FILES_STATS && what <= FRAME_FILES_LISTENERS;
}

#define FRAME_FILES_RECURSIVE 0x01 /* else only regular files */
#define FRAME_FILES_KEEP_IDS 0x02  /* owners, set-id bits, devices */
#define FRAME_FILES_DIRECTORY 0x04 /* PUT: the destination must be a directory */

enum frame_stdin {
    FRAME_STDIN_CLOSED = 0, /* reads /dev/null */
    FRAME_STDIN_PIPE = 1,
};

struct frame {
    uint8_t type;
    uint8_t channel;
    uint8_t flags;
    uint32_t stream;
    uint64_t offset;
    uint32_t length;        /* of the payload */
    const uint8_t *payload; /* borrowed from the input */
};

/* Reads the frame at data. Returns its size in bytes, 0 when more bytes are needed, or -EPROTO
 * when this is no frame (bad magic, length, channel or flags): the stream cannot be followed any
 * more. -EBADMSG: the trailer is wrong, another host's bytes have completed this frame; *ret_frame
 * is set, but must only be used to skip it (frame_size). The type is not checked: a receiver
 * refuses types that it does not know. */
int frame_parse(const uint8_t *data, size_t len, struct frame *ret_frame);

/* What a frame with this payload takes on the wire. */
static inline size_t frame_size(uint32_t length)
{
    return (size_t)FRAME_HEADER_SIZE + length + FRAME_TRAILER_SIZE;
}

/* For a stream that cannot be followed: how many bytes to drop, so that the rest begins with the
 * header of a HELLO or HELLO_OK (`type`), or with what may become one when more bytes arrive. */
size_t frame_scan(const uint8_t *data, size_t len, uint8_t type);

/* Appends a frame. payload may be NULL when length is 0. 0 or -ENOBUFS; asserts the length. */
int frame_put(struct buf *out, const struct frame *frame) _must_check_;

/* Makes a frame of a payload that lies FRAME_HEADER_SIZE bytes behind `place`: writes the header in
 * front of it and the trailer behind it. frame->payload is not looked at. */
void frame_seal(uint8_t *place, const struct frame *frame);

/* Short forms for the payload shapes above; 0 or -ENOBUFS. */
int frame_put_u32(struct buf *out, uint8_t type, uint32_t stream, uint32_t value) _must_check_;
int frame_put_window(struct buf *out, uint32_t stream, uint8_t channel, uint64_t acked,
                     uint64_t limit) _must_check_;
/* The zeros that go before HELLO on a connection that another host may have used before. */
int frame_put_resync(struct buf *out) _must_check_;
int frame_put_hello(struct buf *out, const uint8_t nonce[FRAME_NONCE_SIZE]) _must_check_;

/* A little-endian reader over a payload: each call takes from the front and returns 0, or -EPROTO
 * when too little is left, and then *ret is unchanged. */
struct frame_reader {
    const uint8_t *p;
    size_t left;
};

static inline struct frame_reader frame_reader(const struct frame *f)
{
    return (struct frame_reader){.p = f->payload, .left = f->length};
}

int frame_take_u8(struct frame_reader *r, uint8_t *ret) _must_check_;
int frame_take_u16(struct frame_reader *r, uint16_t *ret) _must_check_;
int frame_take_u32(struct frame_reader *r, uint32_t *ret) _must_check_;
int frame_take_u64(struct frame_reader *r, uint64_t *ret) _must_check_;
int frame_take_bytes(struct frame_reader *r, size_t len, const uint8_t **ret) _must_check_;

/* Takes one TLV. 1, 0 at the end, -EPROTO. *ret_value is borrowed. */
int frame_take_tlv(struct frame_reader *r, uint8_t *ret_tag, const uint8_t **ret_value,
                   uint32_t *ret_len) _must_check_;
int frame_put_tlv(struct buf *out, uint8_t tag, const void *value, size_t len) _must_check_;

/* Sends a TLV body as one or more frames of the type, FRAME_MORE on all but the last. */
int frame_put_body(struct buf *out, uint8_t type, uint32_t stream, const uint8_t *body,
                   size_t len) _must_check_;

/* FRAME_TAG_NETWORK. take: -EPROTO when the length is another; what it says is not checked. */
int frame_put_network(struct buf *out, const struct frame_network *network) _must_check_;
int frame_take_network(const uint8_t *value, uint32_t len, struct frame_network *ret) _must_check_;
