#include "fakevmm/liar.h"

#include "base/attr.h"
#include "base/buf.h"
#include "codec/frame.h"

#include <errno.h>
#include <string.h>

static const char *const modes[] = {
    "deaf",       "garbage", "fatal",     "malformed", "unknown",  "dumb",       "greedy",
    "backwards",  "flood",   "gap",       "early-end", "late",     "early-exit", "inward",
    "endless",    "short",   "shrinking", "status",    "stranger", "old",        "name",
    "machine-id", "clock",   "nobody",    "half",      "boot-id",  "network",
};

struct liar {
    int fd;
    bool socket;
    bool gone; /* the host */
    const char *mode;
};

bool liar_knows(const char *mode)
{
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        if (strcmp(modes[i], mode) == 0) {
            return true;
        }
    }
    return false;
}

static bool is(const struct liar *l, const char *mode)
{
    return strcmp(l->mode, mode) == 0;
}

/* A guest's port fails while no host is there, and takes as much as it likes. */
static void write_all(struct liar *l, const void *data, size_t len)
{
    const uint8_t *p = data;

    while (len > 0 && !l->gone) {
        ssize_t n = write(l->fd, p, len);

        if (n > 0) {
            p += n;
            len -= (size_t)n;
        } else if (n < 0 && errno != EINTR) {
            l->gone = l->socket;
        }
    }
}

static void send_frame(struct liar *l, struct frame f)
{
    static struct buf out = {.max = 4 * FRAME_MAX};

    if (frame_put(&out, &f) < 0) {
        _exit(1);
    }
    write_all(l, buf_head(&out), out.len);
    buf_consume(&out, out.len);
}

static void greet(struct liar *l, const struct frame *hello)
{
    static const char noise[] = "this is no frame at all, whatever its length";
    uint8_t payload[FRAME_NONCE_SIZE + 6 + 4] = {0};

    memcpy(payload, hello->payload, FRAME_NONCE_SIZE);
    payload[FRAME_NONCE_SIZE] = FRAME_PROTO_MAX;
    memcpy(payload + FRAME_NONCE_SIZE + 6, "liar", 4);
    send_frame(
        l, (struct frame){.type = FRAME_HELLO_OK, .payload = payload, .length = sizeof(payload)});
    if (is(l, "malformed")) {
        write_all(l, noise, sizeof(noise) - 1);
    } else if (is(l, "unknown")) {
        send_frame(l, (struct frame){.type = 99});
    }
}

static void on_exec(struct liar *l, const struct frame *f)
{
    static uint8_t piece[FRAME_PAYLOAD_MAX];
    static const uint8_t no_command[] =
        "\175\0\0\0\026\0\0\0the request: no command"; /* 125, EINVAL */
    uint8_t pid[4] = {42};

    if (is(l, "old")) {
        send_frame(l, (struct frame){.type = FRAME_FAILED,
                                     .stream = f->stream,
                                     .payload = no_command,
                                     .length = sizeof(no_command) - 1});
        return;
    }
    send_frame(
        l, (struct frame){
               .type = FRAME_STARTED, .stream = f->stream, .payload = pid, .length = sizeof(pid)});
    for (uint64_t offset = 0; is(l, "greedy") && !l->gone; offset += sizeof(piece)) {
        send_frame(l, (struct frame){.type = FRAME_DATA,
                                     .channel = FRAME_STDOUT,
                                     .stream = f->stream,
                                     .offset = offset,
                                     .payload = piece,
                                     .length = sizeof(piece)});
    }
    if (is(l, "backwards")) {
        uint8_t limit[8] = {0xff, 0xff};

        send_frame(l, (struct frame){.type = FRAME_WINDOW,
                                     .stream = f->stream,
                                     .offset = 0xfff0,
                                     .payload = limit,
                                     .length = sizeof(limit)});
    }
    for (uint32_t stream = 1000; is(l, "flood") && !l->gone; stream++) {
        uint8_t state[6] = {FRAME_SESSION_EXITED};

        send_frame(l, (struct frame){.type = FRAME_SESSION,
                                     .stream = stream,
                                     .payload = state,
                                     .length = sizeof(state)});
    }
}

static void send_session_frame(struct liar *l, uint32_t stream, uint8_t type, uint8_t channel,
                               uint64_t offset, const char *payload, uint32_t len)
{
    send_frame(l, (struct frame){.type = type,
                                 .stream = stream,
                                 .channel = channel,
                                 .offset = offset,
                                 .payload = (const uint8_t *)payload,
                                 .length = len});
}

static void serve_well(struct liar *l, uint32_t stream)
{
    send_session_frame(l, stream, FRAME_DATA, FRAME_STDOUT, 0, "fine\n", 5);
    send_session_frame(l, stream, FRAME_END, FRAME_STDOUT, 5, NULL, 0);
    send_session_frame(l, stream, FRAME_END, FRAME_STDERR, 0, NULL, 0);
    send_session_frame(l, stream, FRAME_EXITED, 0, 0, "\0\0\0\0\0", 5);
}

static void speak_of_strangers(struct liar *l)
{
    for (uint32_t stream = 1000; stream < 1003; stream++) {
        send_session_frame(l, stream, FRAME_DATA, FRAME_STDOUT, 0, "bytes", 5);
        send_session_frame(l, stream, FRAME_WINDOW, FRAME_STDIN, 0, "", 0);
        send_session_frame(l, stream, FRAME_EXITED, 0, 0, "", 0);
    }
}

/* A client has opened the window of the last channel. */
static void on_listener(struct liar *l, uint32_t stream)
{
    if (is(l, "gap")) {
        send_session_frame(l, stream, FRAME_DATA, FRAME_STDOUT, 5, "bytes", 5);
    } else if (is(l, "early-end")) {
        send_session_frame(l, stream, FRAME_END, FRAME_STDOUT, 5, NULL, 0);
    } else if (is(l, "late")) {
        send_session_frame(l, stream, FRAME_END, FRAME_STDOUT, 0, NULL, 0);
        send_session_frame(l, stream, FRAME_DATA, FRAME_STDOUT, 0, "bytes", 5);
    } else if (is(l, "early-exit")) {
        send_session_frame(l, stream, FRAME_EXITED, 0, 0, "\0\0\0\0\0", 5);
    } else if (is(l, "inward")) {
        send_session_frame(l, stream, FRAME_DATA, FRAME_STDIN, 0, "bytes", 5);
    } else if (is(l, "short")) {
        send_session_frame(l, stream, FRAME_WINDOW, FRAME_STDIN, 0, "\1\0\0", 3);
    } else if (is(l, "shrinking")) {
        send_session_frame(l, stream, FRAME_WINDOW, FRAME_STDIN, 0, "\2\0\0\0\0\0\0\0", 8);
        send_session_frame(l, stream, FRAME_WINDOW, FRAME_STDIN, 0, "\1\0\0\0\0\0\0\0", 8);
    } else if (is(l, "status")) {
        send_session_frame(l, stream, FRAME_END, FRAME_STDOUT, 0, NULL, 0);
        send_session_frame(l, stream, FRAME_END, FRAME_STDERR, 0, NULL, 0);
        send_session_frame(l, stream, FRAME_EXITED, 0, 0, "\0\350\3\0\0", 5);
    } else if (is(l, "endless")) {
        static const uint8_t header[FRAME_HEADER_SIZE] = {
            FRAME_MAGIC, FRAME_DATA, FRAME_STDOUT, [16] = 0xff, 0xff, 0xff, 0xff};

        write_all(l, header, sizeof(header));
    } else if (is(l, "stranger")) {
        speak_of_strangers(l);
        serve_well(l, stream);
    }
}

/* A good guest reads back what it was given; here it is the same bytes. */
static void on_configure(struct liar *l, const struct frame *f)
{
    uint8_t reply[4 + 512] = {0};
    struct frame_reader r = frame_reader(f);
    size_t len = 4;
    const uint8_t *value;
    uint32_t size;
    uint8_t tag;

    while (frame_take_tlv(&r, &tag, &value, &size) > 0) {
        bool other = (is(l, "name") && tag == FRAME_TAG_HOSTNAME) ||
                     (is(l, "machine-id") && tag == FRAME_TAG_MACHINE_ID) ||
                     (is(l, "boot-id") && tag == FRAME_TAG_BOOT_ID) ||
                     (is(l, "network") && tag == FRAME_TAG_NETWORK) ||
                     (is(l, "clock") && tag == FRAME_TAG_TIME);

        if (tag == FRAME_TAG_ENTROPY || (is(l, "nobody") && tag != FRAME_TAG_TIME)) {
            continue;
        }
        memcpy(reply + len, value - 5, 5 + size);
        reply[len + 5 + (tag == FRAME_TAG_TIME ? 6 : 0)] ^= other; /* by days */
        len += 5 + size;
    }
    if (is(l, "half")) {
        len--;
    }
    send_frame(l, (struct frame){.type = FRAME_REPLY,
                                 .stream = f->stream,
                                 .payload = reply,
                                 .length = (uint32_t)len});
}

static void on_frame(struct liar *l, const struct frame *f)
{
    uint8_t done[4] = {0};

    if (f->type == FRAME_HELLO) {
        if (f->length >= FRAME_NONCE_SIZE) {
            greet(l, f);
        }
    } else if (is(l, "dumb")) {
        return;
    } else if (f->type == FRAME_EXEC || f->type == FRAME_ATTACH) {
        on_exec(l, f);
    } else if (f->type == FRAME_WINDOW && f->channel == FRAME_STDERR) {
        on_listener(l, f->stream);
    } else if (f->type == FRAME_PING && is(l, "old")) {
        send_frame(l, (struct frame){.type = FRAME_PONG,
                                     .stream = f->stream,
                                     .payload = f->payload,
                                     .length = f->length});
    } else if (f->type == FRAME_CONFIGURE) {
        on_configure(l, f);
    } else if (f->type == FRAME_SYNC || f->type == FRAME_GROW || f->type == FRAME_POWEROFF) {
        send_frame(l, (struct frame){.type = FRAME_REPLY,
                                     .stream = f->stream,
                                     .payload = done,
                                     .length = sizeof(done)});
    }
}

/* Handles the frames at the beginning of in; returns the bytes that they were. */
static size_t take(struct liar *l, const uint8_t *in, size_t len)
{
    size_t used = 0;

    while (used < len) {
        struct frame f;
        /* The zeros before HELLO are no frame. */
        int size = in[used] == FRAME_MAGIC ? frame_parse(in + used, len - used, &f) : -EPROTO;

        if (size == 0) {
            break;
        }
        if (size > 0 && !is(l, "deaf")) {
            on_frame(l, &f);
        }
        used += size > 0 ? (size_t)size : 1;
    }
    return used;
}

void liar_serve(int fd, bool socket, const char *mode)
{
    static uint8_t in[4 * FRAME_MAX];
    static const char sorry[] = "the test wants it so \033[31m";
    struct liar l = {.fd = fd, .socket = socket, .mode = mode};
    size_t len = 0, used;

    if (is(&l, "fatal")) {
        send_frame(&l, (struct frame){.type = FRAME_FATAL,
                                      .payload = (const uint8_t *)sorry,
                                      .length = sizeof(sorry) - 1});
    }
    for (unsigned noise = 1; is(&l, "garbage") && !l.gone; noise = noise * 1103515245 + 12345) {
        write_all(&l, &noise, sizeof(noise));
    }
    while (!l.gone) {
        ssize_t n = read(fd, in + len, sizeof(in) - len);

        if (n == 0 || (n < 0 && errno != EINTR)) {
            l.gone = socket;
        }
        len += n > 0 ? (size_t)n : 0;
        used = take(&l, in, len);
        memmove(in, in + used, len - used);
        len -= used;
    }
}
