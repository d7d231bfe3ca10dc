/* banger forward: listens here, and each connection is carried to a service in a VM. */
#include "base/str.h"
#include "base/thread.h"
#include "cli/cli.h"
#include "cli/forward_spec.h"
#include "cli/output.h"
#include "cli/relay.h"
#include "cli/signals.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define SPECS_MAX 64
#define CONNECTIONS_MAX 256 /* at once; more wait until one has ended */
#define BACKLOG 128
#define STARVED_MS 1000 /* when what we lack may be there again */
#define RELAY_STACK_KIB 512
#define ADDRESS_SIZE (INET6_ADDRSTRLEN + sizeof("[]:65535"))

struct listener {
    struct forward_spec spec;
    int fd;
    char local[ADDRESS_SIZE];
    char remote[FORWARD_PATH_SIZE + ADDRESS_SIZE];
};

/* Static, as threads of connections that are still open use it until the process ends. */
static struct forward {
    struct cli *cli;
    const char *vm;
    struct listener listeners[SPECS_MAX];
    size_t count;
    atomic_uint connections;
    int ended_fd; /* an eventfd: a connection has ended */
    bool starved; /* no descriptor or memory was left for one more */
} forward;

struct connection {
    const struct forward_target *target;
    int fd;
};

/* Listening -------------------------------------------------------------------------------------*/

static void address_text(const struct sockaddr *any, char ret[ADDRESS_SIZE])
{
    const struct sockaddr_in *in4 = (const struct sockaddr_in *)(const void *)any;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)any;
    char text[INET6_ADDRSTRLEN];

    if (any->sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &in4->sin_addr, text, sizeof(text));
        (void)snprintf(ret, ADDRESS_SIZE, "%s:%u", text, ntohs(in4->sin_port));
    } else {
        (void)inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
        (void)snprintf(ret, ADDRESS_SIZE, "[%s]:%u", text, ntohs(in6->sin6_port));
    }
}

static void set_remote(struct listener *l)
{
    const struct forward_target *t = &l->spec.target;

    if (t->path[0]) {
        (void)snprintf(l->remote, sizeof(l->remote), "%s", t->path);
    } else {
        (void)snprintf(l->remote, sizeof(l->remote), strchr(t->host, ':') ? "[%s]:%d" : "%s:%d",
                       t->host, t->port);
    }
}

static int refuse(struct listener *l, int error, struct err *err)
{
    address_text(&l->spec.local.any, l->local);
    err_set(err, error == EADDRINUSE ? ERR_CONFLICT : ERR_IO, "cannot listen on %s: %s", l->local,
            strerror(error));
    if (error == EADDRINUSE || error == EACCES) {
        return err_hint(err, "choose another port, such as 0:%s: any that is free", l->remote);
    }
    if (error == EADDRNOTAVAIL) {
        return err_hint(err, "LOCAL is an address of this host; HOST:PORT with a port before it "
                             "is one of the guest's");
    }
    return -1;
}

static int listen_on(struct listener *l, struct err *err)
{
    struct sockaddr *address = &l->spec.local.any;
    socklen_t size =
        address->sa_family == AF_INET ? sizeof(l->spec.local.in4) : sizeof(l->spec.local.in6);
    int one = 1;

    set_remote(l);
    l->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0) {
        return err_set_errno(err, ERR_IO, -errno, "a socket");
    }
    (void)setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (address->sa_family == AF_INET6) {
        (void)setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    }
    if (bind(l->fd, address, size) < 0 || listen(l->fd, BACKLOG) < 0) {
        return refuse(l, errno, err);
    }
    if (getsockname(l->fd, address, &size) < 0) {
        return err_set_errno(err, ERR_IO, -errno, "a socket's address");
    }
    address_text(address, l->local);
    return 0;
}

static void tell(const struct cli *cli)
{
    _cleanup_json_ json_t *all = json_array();

    for (size_t i = 0; i < forward.count; i++) {
        const struct listener *l = &forward.listeners[i];
        json_t *one = json_object();

        json_put_str(one, "local", l->local);
        json_put_str(one, "vm", forward.vm);
        json_put_str(one, "remote", l->remote);
        json_array_append_new(all, one);
        if (cli->format == FORMAT_TABLE) {
            (void)(cli->quiet ? printf("%s\n", l->local)
                              : printf("%s -> %s %s\n", l->local, forward.vm, l->remote));
        }
    }
    if (cli->format != FORMAT_TABLE) {
        out_json(cli, all);
    }
    (void)fflush(stdout);
}

/* Connections -----------------------------------------------------------------------------------*/

static void *connection_main(void *arg)
{
    struct connection *c = arg;
    uint64_t one = 1;

    relay_run(forward.cli, forward.vm, c->target, c->fd);
    free(c);
    atomic_fetch_sub(&forward.connections, 1);
    (void)!write(forward.ended_fd, &one, sizeof(one));
    return NULL;
}

static void accept_on(const struct listener *l)
{
    struct connection *c;
    struct err err;
    int fd, r;

    fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        forward.starved = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
        return; /* else it has left already */
    }
    c = x_calloc(1, sizeof(*c));
    *c = (struct connection){.target = &l->spec.target, .fd = fd};
    atomic_fetch_add(&forward.connections, 1);
    r = thread_start_detached("relay", RELAY_STACK_KIB, connection_main, c);
    if (r < 0) {
        err_set_errno(&err, ERR_LIMIT, r, "cannot take a connection");
        (void)out_error(forward.cli, NULL, forward.vm, &err);
        atomic_fetch_sub(&forward.connections, 1);
        (void)close(fd);
        free(c);
    }
}

/* Until a signal, whose number it returns. */
static int serve(int signals_fd)
{
    struct pollfd p[SPECS_MAX + 2];

    for (;;) {
        bool room = !forward.starved && atomic_load(&forward.connections) < CONNECTIONS_MAX;
        uint64_t ended;
        int signal;

        p[0] = (struct pollfd){signals_fd, POLLIN, 0};
        p[1] = (struct pollfd){forward.ended_fd, POLLIN, 0};
        for (size_t i = 0; i < forward.count; i++) {
            p[i + 2] = (struct pollfd){room ? forward.listeners[i].fd : -1, POLLIN, 0};
        }
        if (poll(p, forward.count + 2, forward.starved ? STARVED_MS : -1) < 0) {
            continue; /* EINTR */
        }
        forward.starved = false;
        signal = p[0].revents ? signals_read(signals_fd) : 0;
        if (signal) {
            return signal;
        }
        if (p[1].revents) {
            (void)!read(forward.ended_fd, &ended, sizeof(ended));
        }
        for (size_t i = 0; i < forward.count; i++) {
            if (p[i + 2].revents & POLLIN) {
                accept_on(&forward.listeners[i]);
            }
        }
    }
}

/* The VM is there and its agent answers: who cannot connect learns it now. */
static int check_vm(struct cli *cli, struct err *err)
{
    _cleanup_json_ json_t *answer = NULL;
    json_t *params = json_object();

    json_put_str(params, "vm", forward.vm);
    return cli_call(cli, "vm.ping", params, &answer, err);
}

int cmd_forward(struct cli *cli, const struct cli_args *args)
{
    int signals_fd;
    struct err err;

    forward.cli = cli;
    forward.vm = args->operands[0];
    forward.count = args->operand_count - 1;
    if (forward.count > SPECS_MAX) {
        err_set(&err, ERR_INVALID, "at most %d can be forwarded at once", SPECS_MAX);
        return out_usage(cli, "forward", &err);
    }
    for (size_t i = 0; i < forward.count; i++) {
        if (forward_spec_parse(args->operands[i + 1], &forward.listeners[i].spec, &err) < 0) {
            return out_usage(cli, "forward", &err);
        }
    }
    signals_fd = signals_open();
    forward.ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (signals_fd < 0 || forward.ended_fd < 0) {
        err_set_errno(&err, ERR_IO, -errno, "a descriptor");
        return out_error(cli, NULL, NULL, &err);
    }
    if (check_vm(cli, &err) < 0) {
        return out_error(cli, NULL, NULL, &err);
    }
    for (size_t i = 0; i < forward.count; i++) {
        if (listen_on(&forward.listeners[i], &err) < 0) {
            return out_error(cli, NULL, NULL, &err);
        }
    }
    tell(cli);
    return 128 + serve(signals_fd);
}
