#include "agent/connect.h"

#include "base/buf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BUFFER_SIZE ((size_t)64 * 1024)
#define HOST_SIZE 64 /* more than INET6_ADDRSTRLEN */

/* Making the connection ------------------------------------------------------------------------ */

/* The socket, or -errno. */
static int connect_address(const struct sockaddr *address, socklen_t size)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error;

    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, address, size) == 0) {
        return fd;
    }
    error = errno;
    (void)close(fd);
    return -error;
}

static int connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    return connect_address((const struct sockaddr *)&address, sizeof(address));
}

static int connect_ip(const char *host, uint16_t port)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

    if (inet_pton(AF_INET, host, &in4.sin_addr) == 1) {
        return connect_address((const struct sockaddr *)&in4, sizeof(in4));
    }
    if (inet_pton(AF_INET6, host, &in6.sin6_addr) == 1) {
        return connect_address((const struct sockaddr *)&in6, sizeof(in6));
    }
    return -EINVAL;
}

/* Splits "HOST:PORT" and "[HOST]:PORT". 0 or -EINVAL. */
static int split(const char *to, char host[HOST_SIZE], uint16_t *ret_port)
{
    const char *colon = strrchr(to, ':');
    size_t len = colon ? (size_t)(colon - to) : 0;
    unsigned long port;
    char *end;

    if (len >= 2 && to[0] == '[' && to[len - 1] == ']') {
        to++;
        len -= 2;
    }
    if (len == 0 || len >= HOST_SIZE) {
        return -EINVAL;
    }
    memcpy(host, to, len);
    host[len] = 0;
    port = strtoul(colon + 1, &end, 10);
    if (end == colon + 1 || *end || port == 0 || port > UINT16_MAX) {
        return -EINVAL;
    }
    *ret_port = (uint16_t)port;
    return 0;
}

static int connect_to(const char *to)
{
    char host[HOST_SIZE];
    uint16_t port;
    int fd;

    if (to[0] == '/') {
        return connect_unix(to);
    }
    if (split(to, host, &port) < 0) {
        return -EINVAL;
    }
    if (strcmp(host, "localhost") != 0) {
        return connect_ip(host, port);
    }
    /* A static program has no resolver: the name that every guest has is looked up here. */
    fd = connect_ip("127.0.0.1", port);
    if (fd == -ECONNREFUSED) {
        int second = connect_ip("::1", port);

        return second >= 0 ? second : fd;
    }
    return fd;
}

/* Carrying bytes ------------------------------------------------------------------------------- */

/* From one descriptor to another; from is -1 once its end was read, to once that was passed on. */
struct way {
    int from, to;
    struct buf data;
};

static void way_end(struct way *w, bool broken)
{
    /* A socket's other direction goes on; a pipe's end is its close. */
    if (shutdown(w->to, SHUT_WR) < 0 && errno == ENOTSOCK) {
        (void)close(w->to);
    }
    if (broken && shutdown(w->from, SHUT_RD) < 0 && errno == ENOTSOCK) {
        (void)close(w->from); /* who writes there learns that nobody reads */
    }
    w->from = w->to = -1;
}

static void way_serve(struct way *w, short from_events, short to_events)
{
    ssize_t n;

    if (w->from >= 0 && from_events && buf_room(&w->data) > 0) {
        n = buf_read_fd(&w->data, w->from, buf_room(&w->data));
        if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR)) {
            w->from = -1;
        }
    }
    while (w->to >= 0 && w->data.len > 0) {
        n = buf_write_fd(&w->data, w->to);
        if (n == -EAGAIN) {
            break;
        }
        if (n < 0 && n != -EINTR) {
            way_end(w, true);
            return;
        }
    }
    if (w->to >= 0 && ((w->from < 0 && w->data.len == 0) || (to_events & (POLLERR | POLLNVAL)))) {
        way_end(w, to_events & (POLLERR | POLLNVAL));
    }
}

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static void carry(int fd)
{
    struct way ways[2] = {{.from = STDIN_FILENO, .to = fd}, {.from = fd, .to = STDOUT_FILENO}};

    buf_init(&ways[0].data, BUFFER_SIZE);
    buf_init(&ways[1].data, BUFFER_SIZE);
    while (ways[0].to >= 0 || ways[1].to >= 0) {
        struct pollfd p[4];

        for (size_t i = 0; i < 2; i++) {
            const struct way *w = &ways[i];

            p[2 * i] =
                (struct pollfd){.fd = buf_room(&w->data) > 0 ? w->from : -1, .events = POLLIN};
            p[2 * i + 1] = (struct pollfd){.fd = w->to, .events = w->data.len > 0 ? POLLOUT : 0};
        }
        if (poll(p, 4, -1) < 0) {
            if (errno == EINTR) {
                continue;
            }
            break;
        }
        for (size_t i = 0; i < 2; i++) {
            way_serve(&ways[i], p[2 * i].revents, p[2 * i + 1].revents);
        }
    }
    buf_done(&ways[0].data);
    buf_done(&ways[1].data);
}

int connect_and_carry(const char *to)
{
    int one = 1;
    int fd;

    (void)signal(SIGPIPE, SIG_IGN);
    fd = connect_to(to);
    if (fd < 0) {
        return -fd;
    }
    /* What comes has been gathered already; a keystroke must not wait for more. (No TCP: fails.) */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (set_nonblocking(fd) < 0 || set_nonblocking(STDIN_FILENO) < 0 ||
        set_nonblocking(STDOUT_FILENO) < 0) {
        int error = errno;

        (void)close(fd);
        return error;
    }
    (void)close(STDERR_FILENO); /* tells that the connection was made */
    carry(fd);
    (void)close(fd);
    return 0;
}
