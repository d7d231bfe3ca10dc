/*
 * Stands in for QEMU where a test is about who starts it and about QMP: no machine, and on the
 * agent's socket one that agrees to all. It has QEMU's descriptors and command line, and is found
 * as qemu-system-x86_64 in the daemon's PATH.
 *
 * A VM's name may say which of its answers goes wrong: "COMMAND-HOW", such as "cont-error".
 *
 *   error      the command fails             close      the connection ends instead
 *   garbage    a line that is no JSON        silence    no answer, now or later
 *
 * It can be saved and restored: what it writes for that is "saved", and what it is restored from
 * must be so.
 *
 * "greeting" is a command as well, which a new connection stands for. With "full-" before it, the
 * guest is configured and then stopped for want of space on the host, and what goes wrong does so
 * from there on.
 */
#include "base/attr.h"
#include "base/buf.h"
#include "codec/frame.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* src/vmm/qemu/qemu_cmdline.h */
#define QMP_FD 8
#define AGENT_FD 9
#define MEMORY_FD 10
#define STATE_FD 11
#define LINE_MAX_BYTES 4096

static struct {
    char wrong[64];     /* "COMMAND-HOW" */
    bool full;          /* will be */
    const char *always; /* what went wrong first, or NULL */
    int qmp, agent;     /* connected, or -1 */
    char line[LINE_MAX_BYTES];
    size_t line_len;
    struct buf in;
    int sent; /* the last descriptor that came, or -1 */
    enum { PRELAUNCH, RUNNING, PAUSED, IO_ERROR, INMIGRATE, POSTMIGRATE } state;
} me = {.qmp = -1, .agent = -1, .sent = -1, .in = {.max = 4 * FRAME_MAX}};

static void hang_up(int *fd)
{
    (void)close(*fd);
    *fd = -1;
}

/* QMP ------------------------------------------------------------------------------------------ */

/* Whether the answer to this command is to go wrong in that way. */
static bool is_wrong(const char *command, const char *how)
{
    size_t len = strlen(command);

    return !me.full && strncmp(me.wrong, command, len) == 0 && me.wrong[len] == '-' &&
           strcmp(me.wrong + len + 1, how) == 0;
}

/* Whether it did. A server with which there is no agreement on how to talk goes on so. */
static bool go_wrong(const char *asked, long id)
{
    static const char *const first[] = {"greeting", "qmp-capabilities"};
    const char *command = me.always ? me.always : asked;

    for (size_t i = 0; i < ARRAY_LEN(first); i++) {
        if (strcmp(command, first[i]) == 0 &&
            (is_wrong(command, "error") || is_wrong(command, "silence"))) {
            me.always = first[i];
        }
    }
    if (is_wrong(command, "error")) {
        (void)dprintf(me.qmp,
                      "{\"error\": {\"class\": \"GenericError\", \"desc\": \"the test wants it "
                      "so\"}, \"id\": %ld}\r\n",
                      id);
    } else if (is_wrong(command, "garbage")) {
        (void)dprintf(me.qmp, "these are no words of QEMU's\r\n");
    } else if (is_wrong(command, "close")) {
        hang_up(&me.qmp);
    } else {
        return is_wrong(command, "silence");
    }
    return true;
}

static void save(void)
{
    bool done = pwrite(MEMORY_FD, "memory", 6, 4096) == 6 && write(me.sent, "saved", 5) == 5;

    me.state = POSTMIGRATE;
    (void)dprintf(me.qmp, "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"%s\"}}\r\n",
                  done ? "completed" : "failed");
}

/* As QEMU it ends when it finds something else. */
static void restore(void)
{
    char state[8] = "", memory[8] = "";

    if (read(STATE_FD, state, sizeof(state)) != 5 || strcmp(state, "saved") != 0 ||
        pread(MEMORY_FD, memory, 6, 4096) != 6 || strcmp(memory, "memory") != 0) {
        (void)fputs("load of migration failed\n", stderr);
        exit(1);
    }
    me.state = RUNNING;
    (void)dprintf(me.qmp, "{\"event\": \"RESUME\"}\r\n");
}

static void answer(const char *command, long id)
{
    static const char *const states[] = {"prelaunch", "running",   "paused",
                                         "io-error",  "inmigrate", "postmigrate"};

    if (strcmp(command, "query-status") == 0) {
        (void)dprintf(me.qmp, "{\"return\": {\"status\": \"%s\"}, \"id\": %ld}\r\n",
                      states[me.state], id);
        return;
    }
    if (strcmp(command, "query-chardev") == 0) {
        (void)dprintf(me.qmp,
                      "{\"return\": [{\"label\": \"agent\", \"frontend-open\": true}], \"id\": "
                      "%ld}\r\n",
                      id);
        return;
    }
    if (strcmp(command, "cont") == 0) {
        me.state = RUNNING;
        (void)dprintf(me.qmp, "{\"event\": \"RESUME\"}\r\n");
    } else if (strcmp(command, "stop") == 0) {
        me.state = PAUSED;
    }
    (void)dprintf(me.qmp, "{\"return\": {}, \"id\": %ld}\r\n", id);
    if (strcmp(command, "quit") == 0) {
        exit(0);
    } else if (strcmp(command, "migrate") == 0) {
        save();
    } else if (strcmp(command, "migrate-incoming") == 0) {
        restore();
    }
}

static void on_line(const char *line)
{
    const char *id = strstr(line, "\"id\":");
    char command[32], *dash;

    /* The blank is what a descriptor comes with. */
    if (sscanf(line, " {\"execute\":\"%31[^\"]", command) != 1 || !id) {
        hang_up(&me.qmp);
        return;
    }
    /* In a VM's name there is no other. */
    while ((dash = strchr(command, '_'))) {
        *dash = '-';
    }
    if (!go_wrong(command, strtol(id + strlen("\"id\":"), NULL, 10))) {
        answer(command, strtol(id + strlen("\"id\":"), NULL, 10));
    }
}

/* As read, and takes a descriptor that comes along. */
static ssize_t receive(char *into, size_t size)
{
    struct iovec data = {.iov_base = into, .iov_len = size};
    union {
        struct cmsghdr header;
        uint8_t room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(me.qmp, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;

    if (c && c->cmsg_type == SCM_RIGHTS) {
        memcpy(&me.sent, CMSG_DATA(c), sizeof(me.sent));
    }
    return n;
}

static void on_qmp(void)
{
    ssize_t n = receive(me.line + me.line_len, sizeof(me.line) - 1 - me.line_len);
    char *end;

    if (n <= 0) {
        hang_up(&me.qmp);
        return;
    }
    me.line_len += (size_t)n;
    me.line[me.line_len] = '\0';
    while (me.qmp >= 0 && (end = strchr(me.line, '\n'))) {
        *end = '\0';
        on_line(me.line);
        me.line_len -= (size_t)(end + 1 - me.line);
        memmove(me.line, end + 1, me.line_len + 1);
    }
}

static void on_monitor(void)
{
    me.qmp = accept4(QMP_FD, NULL, NULL, SOCK_CLOEXEC);
    me.line_len = 0;
    if (me.qmp >= 0 && !go_wrong("greeting", 0)) {
        (void)dprintf(me.qmp,
                      "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7, \"minor\": 2, \"micro\": "
                      "22}}, \"capabilities\": []}}\r\n");
    }
}

static void fill_up(void)
{
    me.full = false;
    me.state = IO_ERROR;
    if (me.qmp >= 0) {
        (void)dprintf(me.qmp, "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": "
                              "\"stop\"}}\r\n{\"event\": \"STOP\"}\r\n");
    }
}

/* The agent ------------------------------------------------------------------------------------ */

static void send_frame(struct frame f)
{
    struct buf out = {.max = FRAME_MAX};

    if (frame_put(&out, &f) < 0 || write(me.agent, buf_head(&out), out.len) < 0) {
        hang_up(&me.agent);
    }
    buf_done(&out);
}

static void greet(const struct frame *hello)
{
    static const char version[] = "none";
    uint8_t payload[FRAME_NONCE_SIZE + 6 + sizeof(version) - 1] = {0};

    memcpy(payload, hello->payload, FRAME_NONCE_SIZE);
    payload[FRAME_NONCE_SIZE] = FRAME_PROTO_MAX;
    memcpy(payload + FRAME_NONCE_SIZE + 6, version, sizeof(version) - 1);
    send_frame(
        (struct frame){.type = FRAME_HELLO_OK, .payload = payload, .length = sizeof(payload)});
}

/* It is who it is told to be. */
static void read_back(const struct frame *f)
{
    uint8_t reply[4 + 256] = {0};
    struct frame_reader r = frame_reader(f);
    const uint8_t *value;
    size_t len = 4;
    uint32_t size;
    uint8_t tag;

    while (frame_take_tlv(&r, &tag, &value, &size) > 0) {
        if (tag != FRAME_TAG_ENTROPY) {
            memcpy(reply + len, value - 5, 5 + size);
            len += 5 + size;
        }
    }
    send_frame((struct frame){
        .type = FRAME_REPLY, .stream = f->stream, .payload = reply, .length = (uint32_t)len});
}

/* It had nothing to say. */
static void end_session(uint32_t stream)
{
    static const uint8_t exited[5];

    send_frame((struct frame){.type = FRAME_END, .stream = stream, .channel = FRAME_STDOUT});
    send_frame((struct frame){.type = FRAME_END, .stream = stream, .channel = FRAME_STDERR});
    send_frame((struct frame){
        .type = FRAME_EXITED, .stream = stream, .payload = exited, .length = sizeof(exited)});
}

static void on_frame(const struct frame *f)
{
    static const uint8_t done[4];

    switch (f->type) {
    case FRAME_HELLO:
        greet(f);
        break;
    case FRAME_PING:
        send_frame((struct frame){
            .type = FRAME_PONG, .stream = f->stream, .payload = f->payload, .length = f->length});
        break;
    case FRAME_CONFIGURE:
        read_back(f);
        break;
    case FRAME_SYNC:
    case FRAME_GROW:
    case FRAME_POWEROFF:
        send_frame((struct frame){
            .type = FRAME_REPLY, .stream = f->stream, .payload = done, .length = sizeof(done)});
        break;
    case FRAME_EXEC:
        send_frame((struct frame){
            .type = FRAME_STARTED, .stream = f->stream, .payload = done, .length = sizeof(done)});
        break;
    case FRAME_ATTACH:
        end_session(f->stream);
        break;
    default:
        break;
    }
    if (f->type == FRAME_CONFIGURE && me.full) {
        fill_up();
    } else if (f->type == FRAME_POWEROFF && me.agent >= 0) {
        send_frame((struct frame){.type = FRAME_GOING_DOWN});
        exit(0);
    }
}

static void on_agent(void)
{
    ssize_t n = buf_read_fd(&me.in, me.agent, FRAME_MAX);

    if (n <= 0) {
        hang_up(&me.agent);
        return;
    }
    while (me.agent >= 0 && me.in.len > 0) {
        const uint8_t *head = buf_head(&me.in);
        struct frame f;
        /* The zeros before HELLO are no frame. */
        int size = head[0] == FRAME_MAGIC ? frame_parse(head, me.in.len, &f) : -1;

        if (size == 0) {
            break;
        }
        if (size > 0) {
            on_frame(&f);
        }
        buf_consume(&me.in, size > 0 ? (size_t)size : 1);
    }
}

int main(int argc, char **argv)
{
    static const char guest[] = "guest=", full[] = "full-";
    struct pollfd fds[2] = {{.events = POLLIN}, {.events = POLLIN}};

    (void)signal(SIGPIPE, SIG_IGN);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-incoming") == 0) {
            me.state = INMIGRATE;
        }
        if (strncmp(argv[i], guest, strlen(guest)) == 0) {
            (void)snprintf(me.wrong, sizeof(me.wrong), "%.*s",
                           (int)strcspn(argv[i] + strlen(guest), ","), argv[i] + strlen(guest));
        }
    }
    if (strncmp(me.wrong, full, strlen(full)) == 0) {
        me.full = true;
        memmove(me.wrong, me.wrong + strlen(full), strlen(me.wrong + strlen(full)) + 1);
    }
    for (;;) {
        fds[0].fd = me.qmp >= 0 ? me.qmp : QMP_FD;
        /* A guest whose CPUs stand still hears nothing. */
        fds[1].fd = me.state != RUNNING ? -1 : me.agent >= 0 ? me.agent : AGENT_FD;
        if (poll(fds, ARRAY_LEN(fds), -1) < 0) {
            return 1;
        }
        if (fds[0].revents && me.qmp >= 0) {
            on_qmp();
        } else if (fds[0].revents) {
            on_monitor();
        }
        if (fds[1].revents && me.agent >= 0) {
            on_agent();
        } else if (fds[1].revents) {
            me.agent = accept4(AGENT_FD, NULL, NULL, SOCK_CLOEXEC);
            buf_consume(&me.in, me.in.len);
        }
    }
}
