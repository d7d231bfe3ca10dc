/*
 * A guest's /init that misbehaves, in the place of the agent. How is the last word of its own file:
 * a test appends it to a copy of the program ("...ELF... mode=silent").
 *
 *   silent     never opens the port                 exit       ends: the kernel panics
 *   deaf       opens the port and never answers     garbage    writes noise instead of answers
 *   fatal      says that it cannot go on            malformed  greets, then sends what is no frame
 *   unknown    greets, then sends an unknown type   dumb       greets, and answers nothing more
 *   greedy     sends output that nobody asked for   backwards  acknowledges stdin that never was
 *   chatty     never opens the port, and prints without end
 *   flood      sends states of sessions that are not there, without end
 */
#include "base/buf.h"
#include "codec/frame.h"
#include "port.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

static char mode[32];
static int port = -1;

static bool is(const char *name)
{
    return strcmp(mode, name) == 0;
}

static void read_mode(void)
{
    char tail[64] = "";
    int fd = open("/init", O_RDONLY | O_CLOEXEC);
    const char *at;
    ssize_t n;

    (void)lseek(fd, -(off_t)(sizeof(tail) - 1), SEEK_END);
    n = read(fd, tail, sizeof(tail) - 1);
    (void)close(fd);
    /* The program before the word is full of zeros. */
    for (ssize_t i = 0; i < n; i++) {
        tail[i] = tail[i] ? tail[i] : ' ';
    }
    at = strstr(tail, "mode=");
    (void)snprintf(mode, sizeof(mode), "%s", at ? at + strlen("mode=") : "silent");
}

static void send_frame(struct frame f)
{
    static struct buf out = {.max = 4 * FRAME_MAX};

    if (frame_put(&out, &f) < 0) {
        _exit(1);
    }
    write_all(port, buf_head(&out), out.len);
    buf_consume(&out, out.len);
}

static void send_text(uint8_t type, const char *text)
{
    send_frame((struct frame){
        .type = type, .payload = (const uint8_t *)text, .length = (uint32_t)strlen(text)});
}

static void greet(const struct frame *hello)
{
    uint8_t payload[FRAME_NONCE_SIZE + 6 + 4] = {0};

    memcpy(payload, hello->payload, FRAME_NONCE_SIZE);
    payload[FRAME_NONCE_SIZE] = FRAME_PROTO_MAX;
    memcpy(payload + FRAME_NONCE_SIZE + 6, "liar", 4);
    send_frame(
        (struct frame){.type = FRAME_HELLO_OK, .payload = payload, .length = sizeof(payload)});
    if (is("malformed")) {
        write_all(port, "this is no frame at all, whatever its length", 44);
    } else if (is("unknown")) {
        send_frame((struct frame){.type = 99});
    }
}

static void on_exec(const struct frame *f)
{
    static uint8_t piece[FRAME_PAYLOAD_MAX];
    uint8_t pid[4] = {42};

    send_frame((struct frame){
        .type = FRAME_STARTED, .stream = f->stream, .payload = pid, .length = sizeof(pid)});
    for (uint64_t offset = 0; is("greedy"); offset += sizeof(piece)) {
        send_frame((struct frame){.type = FRAME_DATA,
                                  .channel = FRAME_STDOUT,
                                  .stream = f->stream,
                                  .offset = offset,
                                  .payload = piece,
                                  .length = sizeof(piece)});
    }
    if (is("backwards")) {
        uint8_t limit[8] = {0xff, 0xff};

        send_frame((struct frame){.type = FRAME_WINDOW,
                                  .stream = f->stream,
                                  .offset = 0xfff0,
                                  .payload = limit,
                                  .length = sizeof(limit)});
    }
    for (uint32_t stream = 1000; is("flood"); stream++) {
        uint8_t state[6] = {FRAME_SESSION_EXITED};

        send_frame((struct frame){
            .type = FRAME_SESSION, .stream = stream, .payload = state, .length = sizeof(state)});
    }
}

static void on_frame(const struct frame *f)
{
    uint8_t done[4] = {0};

    if (f->type == FRAME_HELLO) {
        greet(f);
    } else if (is("dumb")) {
        return;
    } else if (f->type == FRAME_EXEC) {
        on_exec(f);
    } else if (f->type == FRAME_CONFIGURE || f->type == FRAME_SYNC || f->type == FRAME_POWEROFF) {
        send_frame((struct frame){
            .type = FRAME_REPLY, .stream = f->stream, .payload = done, .length = sizeof(done)});
    }
}

static void serve(void)
{
    static uint8_t in[4 * FRAME_MAX];
    size_t len = 0;

    for (;;) {
        ssize_t n = read(port, in + len, sizeof(in) - len);
        size_t used = 0;
        struct frame f;
        int size;

        len += n > 0 ? (size_t)n : 0;
        while (used < len) {
            /* The zeros before HELLO are no frame. */
            size = in[used] == FRAME_MAGIC ? frame_parse(in + used, len - used, &f) : -EPROTO;
            if (size == 0) {
                break;
            }
            if (size > 0) {
                on_frame(&f);
            }
            used += size > 0 ? (size_t)size : 1;
        }
        memmove(in, in + used, len - used);
        len -= used;
    }
}

int main(void)
{
    read_mode();
    mount_devices();
    dprintf(STDOUT_FILENO, "broken agent: %s\n", mode);
    if (is("exit")) {
        return 0;
    }
    while (is("chatty")) {
        dprintf(STDOUT_FILENO, "just a moment\n");
        (void)nanosleep(&(struct timespec){.tv_nsec = 500 * 1000 * 1000}, NULL);
    }
    if (!is("silent")) {
        load_modules();
        port = open_port();
    }
    if (is("silent") || is("deaf")) {
        for (;;) {
            (void)pause();
        }
    }
    if (is("fatal")) {
        send_text(FRAME_FATAL, "the test wants it so \033[31m");
    }
    for (unsigned noise = 1; is("garbage"); noise = noise * 1103515245 + 12345) {
        write_all(port, &noise, sizeof(noise));
    }
    serve();
}
