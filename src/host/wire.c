#include "host/wire.h"

#include "base/str.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Says that the packet is one of ours at all. */
#define MAGIC 0x62687031U

/* Texts are NUL-terminated. */
static int put_text(struct buf *b, const char *text)
{
    return buf_append(b, text, strlen(text) + 1);
}

static int put_head(struct buf *b, enum wire_verb verb)
{
    return buf_append_le32(b, MAGIC) ?: buf_append_le32(b, verb);
}

int wire_put_plain(struct buf *b, enum wire_verb verb)
{
    return put_head(b, verb);
}

static int put_places(struct buf *b, const struct host_launch *p)
{
    int r = buf_append_u8(b, (uint8_t)p->fd_count);

    for (size_t i = 0; i < p->fd_count && r == 0; i++) {
        r = buf_append_u8(b, (uint8_t)p->fds[i].as);
    }
    return r;
}

int wire_put_launch(struct buf *b, const struct host_launch *p)
{
    size_t argc = 0;
    int r;

    while (p->argv[argc]) {
        argc++;
    }
    if (argc > HOST_ARGS_MAX || p->fd_count > SPAWN_FDS_MAX) {
        return -ENOBUFS;
    }
    r = put_head(b, WIRE_LAUNCH)
            ?: buf_append_le64(b, p->memory_mib)
            ?: buf_append_le64(b, p->disk_bytes)
            ?: buf_append_le32(b, p->vcpus)
            ?: buf_append_u8(b, p->kvm)
            ?: put_text(b, p->run_dir)
            ?: put_places(b, p)
            ?: buf_append_u8(b, (uint8_t)argc);
    for (size_t i = 0; i < argc && r == 0; i++) {
        r = put_text(b, p->argv[i]);
    }
    return r;
}

int wire_put_vmm(struct buf *b, enum wire_verb verb, const struct vmm_process *process,
                 const char *run_dir, uint64_t disk_bytes)
{
    return put_head(b, verb)
               ?: buf_append_le32(b, (uint32_t)process->pid)
               ?: buf_append_le64(b, process->start_ticks)
               ?: put_text(b, process->boot_id)
               ?: put_text(b, run_dir)
               ?: buf_append_le64(b, disk_bytes);
}

int wire_put_subnet(struct buf *b, const struct host_subnet *s)
{
    return put_head(b, WIRE_NET_OPEN)
               ?: buf_append_le32(b, s->ipv4)
               ?: buf_append_le32(b, s->ipv4_bits)
               ?: buf_append(b, s->ipv6, sizeof(s->ipv6));
}

int wire_put_taps(struct buf *b, enum wire_verb verb, const unsigned *taps, size_t count)
{
    int r;

    if (count > HOST_TAPS_AT_ONCE) {
        return -ENOBUFS;
    }
    r = put_head(b, verb) ?: buf_append_le32(b, (uint32_t)count);
    for (size_t i = 0; i < count && r == 0; i++) {
        r = buf_append_le32(b, taps[i]);
    }
    return r;
}

int wire_put_nic(struct buf *b, enum wire_verb verb, const struct host_nic *nic)
{
    return put_head(b, verb)
               ?: buf_append_le32(b, nic->tap)
               ?: buf_append_le32(b, nic->ipv4)
               ?: buf_append(b, nic->ipv6, sizeof(nic->ipv6))
               ?: buf_append_u8(b, nic->nat);
}

/* Reading -------------------------------------------------------------------------------------- */

struct reader {
    const uint8_t *at;
    size_t left;
    bool failed; /* for good: whatever is taken then is 0 or "" */
};

static uint64_t take_number(struct reader *r, size_t bytes)
{
    uint64_t value = 0;

    if (r->left < bytes) {
        r->failed = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++) {
        value |= (uint64_t)r->at[i] << (8 * i);
    }
    r->at += bytes;
    r->left -= bytes;
    return value;
}

static const char *take_text(struct reader *r)
{
    const char *text = (const char *)r->at;
    const uint8_t *end = r->left > 0 ? memchr(r->at, '\0', r->left) : NULL;

    if (!end) {
        r->failed = true;
        return "";
    }
    r->left -= (size_t)(end + 1 - r->at);
    r->at = end + 1;
    return text;
}

static void take_launch(struct reader *r, struct wire_request *q)
{
    struct host_launch *p = &q->launch;
    uint64_t kvm, argc;

    p->memory_mib = take_number(r, 8);
    p->disk_bytes = take_number(r, 8);
    p->vcpus = (unsigned)take_number(r, 4);
    kvm = take_number(r, 1);
    p->run_dir = q->run_dir = take_text(r);
    p->fd_count = take_number(r, 1);
    if (kvm > 1 || p->fd_count > SPAWN_FDS_MAX) {
        r->failed = true;
        return;
    }
    p->kvm = kvm == 1;
    for (size_t i = 0; i < p->fd_count; i++) {
        q->fds[i] = (struct spawn_fd){.fd = -1, .as = (int)take_number(r, 1)};
    }
    argc = take_number(r, 1);
    if (argc > HOST_ARGS_MAX) {
        r->failed = true;
        return;
    }
    for (size_t i = 0; i < argc; i++) {
        q->argv[i] = take_text(r);
    }
    q->argv[argc] = NULL;
    p->argv = q->argv;
    p->fds = q->fds;
}

static void take_vmm(struct reader *r, struct wire_request *q)
{
    const char *boot_id;
    uint32_t pid = (uint32_t)take_number(r, 4);

    q->process.start_ticks = take_number(r, 8);
    boot_id = take_text(r);
    q->run_dir = take_text(r);
    q->disk_bytes = take_number(r, 8);
    if (pid == 0 || pid > INT32_MAX || strlen(boot_id) >= sizeof(q->process.boot_id)) {
        r->failed = true;
        return;
    }
    q->process.pid = (pid_t)pid;
    (void)snprintf(q->process.boot_id, sizeof(q->process.boot_id), "%s", boot_id);
}

static void take_bytes(struct reader *r, uint8_t *ret, size_t len)
{
    if (r->left < len) {
        r->failed = true;
        return;
    }
    memcpy(ret, r->at, len);
    r->at += len;
    r->left -= len;
}

static void take_subnet(struct reader *r, struct wire_request *q)
{
    q->subnet.ipv4 = (uint32_t)take_number(r, 4);
    q->subnet.ipv4_bits = (unsigned)take_number(r, 4);
    take_bytes(r, q->subnet.ipv6, sizeof(q->subnet.ipv6));
}

static void take_taps(struct reader *r, struct wire_request *q, bool one)
{
    uint64_t count = take_number(r, 4);

    if (count > HOST_TAPS_AT_ONCE || (one && count != 1)) {
        r->failed = true;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        q->taps[i] = (unsigned)take_number(r, 4);
    }
    q->tap_count = count;
}

static void take_nic(struct reader *r, struct wire_request *q)
{
    uint64_t nat;

    q->nic.tap = (unsigned)take_number(r, 4);
    q->nic.ipv4 = (uint32_t)take_number(r, 4);
    take_bytes(r, q->nic.ipv6, sizeof(q->nic.ipv6));
    nat = take_number(r, 1);
    r->failed |= nat > 1;
    q->nic.nat = nat == 1;
}

int wire_parse(const uint8_t *packet, size_t len, struct wire_request *ret)
{
    struct reader r = {.at = packet, .left = len};
    struct wire_request *q = ret;
    uint64_t verb;

    memset(q, 0, sizeof(*q));
    if (take_number(&r, 4) != MAGIC) {
        return -EPROTO;
    }
    verb = take_number(&r, 4);
    switch (verb) {
    case WIRE_STATUS:
    case WIRE_NET_REFRESH:
    case WIRE_NET_CLOSE:
    case WIRE_NET_DNS:
    case WIRE_TAP_LIST:
        break;
    case WIRE_LAUNCH:
        take_launch(&r, q);
        break;
    case WIRE_KILL:
    case WIRE_ALLOW_DISK:
    case WIRE_PSS:
        take_vmm(&r, q);
        break;
    case WIRE_NET_OPEN:
        take_subnet(&r, q);
        break;
    case WIRE_TAP_OPEN:
    case WIRE_TAP_DELETE:
        take_taps(&r, q, verb == WIRE_TAP_OPEN);
        break;
    case WIRE_NIC_ATTACH:
    case WIRE_NIC_DETACH:
        take_nic(&r, q);
        break;
    default:
        return -EPROTO;
    }
    q->verb = (enum wire_verb)verb;
    return r.failed || r.left > 0 ? -EPROTO : 0;
}

/* Packets -------------------------------------------------------------------------------------- */

union control {
    struct cmsghdr header; /* for its alignment */
    char bytes[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
};

int wire_send(int fd, const void *data, size_t len, const int *fds, size_t fd_count)
{
    struct iovec part = {.iov_base = (void *)data, .iov_len = len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    union control control;
    struct cmsghdr *c;

    if (fd_count > WIRE_FDS_MAX) {
        return -EINVAL;
    }
    if (fd_count > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* The descriptors of a message, as many as there are. */
static size_t take_fds(struct msghdr *message, int ret_fds[WIRE_FDS_MAX])
{
    size_t n = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

            memcpy(ret_fds + n, CMSG_DATA(c), count * sizeof(int));
            n += count;
        }
    }
    return n;
}

ssize_t wire_receive(int fd, void *data, size_t size, int *ret_fds, size_t *fd_count)
{
    struct iovec part = {.iov_base = data, .iov_len = size};
    union control control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    int fds[WIRE_FDS_MAX];
    ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    size_t count;

    if (n < 0) {
        return -errno;
    }
    count = take_fds(&message, fds);
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || count > *fd_count) {
        for (size_t i = 0; i < count; i++) {
            (void)close(fds[i]);
        }
        return -EPROTO;
    }
    for (size_t i = 0; i < count; i++) {
        ret_fds[i] = fds[i];
    }
    *fd_count = count;
    return n;
}
