#include "dns/upstreams.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>

#define FILE_MAX 65536

struct dns_upstreams {
    char *path;
    uint16_t port;
    struct stat seen; /* all 0: no file */
    union dns_endpoint servers[DNS_UPSTREAMS_MAX];
    unsigned count, first;
};

struct dns_upstreams *dns_upstreams_new(const char *path, uint16_t port)
{
    struct dns_upstreams *u = x_calloc(1, sizeof(*u));

    u->path = x_strdup(path);
    u->port = port;
    return u;
}

void dns_upstreams_free(struct dns_upstreams *u)
{
    if (u) {
        free(u->path);
        free(u);
    }
}

static int parse_scope(const char *text, uint32_t *ret_scope)
{
    uint64_t number = if_nametoindex(text);

    if (number == 0 && (str_to_u64(text, UINT32_MAX, &number) < 0 || number == 0)) {
        return -EINVAL;
    }
    *ret_scope = (uint32_t)number;
    return 0;
}

static int parse_server(char *text, uint16_t port, union dns_endpoint *ret)
{
    union dns_endpoint e;
    char *scope = strchr(text, '%');

    memset(&e, 0, sizeof(e));
    if (inet_pton(AF_INET, text, &e.in.sin_addr) == 1) {
        e.in.sin_family = AF_INET;
        e.in.sin_port = htons(port);
        *ret = e;
        return 0;
    }
    if (scope) {
        *scope++ = '\0';
    }
    if (inet_pton(AF_INET6, text, &e.in6.sin6_addr) != 1 ||
        (scope && parse_scope(scope, &e.in6.sin6_scope_id) < 0)) {
        return -EINVAL;
    }
    e.in6.sin6_family = AF_INET6;
    e.in6.sin6_port = htons(port);
    *ret = e;
    return 0;
}

unsigned dns_upstreams_parse(const char *text, uint16_t port,
                             union dns_endpoint ret_servers[DNS_UPSTREAMS_MAX])
{
    _cleanup_free_ char *copy = x_strdup(text);
    char *rest = copy, *line;
    unsigned count = 0;

    while (count < DNS_UPSTREAMS_MAX && (line = strsep(&rest, "\n"))) {
        char *word = strsep(&line, " \t\r");

        if (!line || !str_eq(word, "nameserver")) {
            continue;
        }
        do {
            word = strsep(&line, " \t\r");
        } while (word && !word[0]);
        if (word && parse_server(word, port, &ret_servers[count]) == 0) {
            count++;
        }
    }
    return count;
}

/* The time of change is another with each write, chmod and rename. */
static bool is_seen(const struct dns_upstreams *u, const struct stat *now)
{
    return now->st_dev == u->seen.st_dev && now->st_ino == u->seen.st_ino &&
           now->st_size == u->seen.st_size && now->st_ctim.tv_sec == u->seen.st_ctim.tv_sec &&
           now->st_ctim.tv_nsec == u->seen.st_ctim.tv_nsec;
}

bool dns_upstreams_refresh(struct dns_upstreams *u)
{
    union dns_endpoint servers[DNS_UPSTREAMS_MAX];
    _cleanup_free_ char *text = NULL;
    struct stat now = {0};
    unsigned count = 0;
    bool is_same;
    size_t len;
    int r = 0;

    if (!u->path) {
        return false;
    }
    if (stat(u->path, &now) < 0) {
        r = -errno;
        now = (struct stat){0};
    }
    if (is_seen(u, &now)) {
        return false;
    }
    u->seen = now;
    if (r == 0) {
        r = fs_read_file(AT_FDCWD, u->path, FILE_MAX, &text, &len);
    }
    if (r < 0) {
        log_warn("dns: read '%s': %s", u->path, strerror(-r));
    } else {
        count = dns_upstreams_parse(text, u->port, servers);
    }
    is_same = count == u->count;
    for (unsigned i = 0; i < count && is_same; i++) {
        is_same = dns_endpoint_eq(&servers[i], &u->servers[i]);
    }
    if (is_same) {
        return false;
    }
    memcpy(u->servers, servers, count * sizeof(servers[0]));
    u->count = count;
    u->first = 0;
    return true;
}

unsigned dns_upstreams_get(const struct dns_upstreams *u,
                           union dns_endpoint ret_servers[DNS_UPSTREAMS_MAX])
{
    for (unsigned i = 0; i < u->count; i++) {
        ret_servers[i] = u->servers[(u->first + i) % u->count];
    }
    return u->count;
}

void dns_upstreams_failed(struct dns_upstreams *u, const union dns_endpoint *server)
{
    if (u->count > 0 && dns_endpoint_eq(&u->servers[u->first], server)) {
        u->first = (u->first + 1) % u->count;
    }
}
