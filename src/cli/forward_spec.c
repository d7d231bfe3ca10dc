#include "cli/forward_spec.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define WORDS_MAX 4 /* IP:PORT:HOST:PORT */
#define WORD_SIZE FORWARD_HOST_SIZE

struct words {
    char word[WORDS_MAX][WORD_SIZE];
    size_t count;
    const char *path; /* what begins with a slash, to the end */
};

static int bad(struct err *err, const char *text, const char *what)
{
    err_set(err, ERR_INVALID, "'%s': %s", text, what);
    return err_hint(err, "8080, 8080:80, 127.0.0.1:8080:80, 8080:10.0.0.7:80 or 8080:/run/x.sock");
}

static int split(const char *text, struct words *ret, struct err *err)
{
    const char *at = text;

    *ret = (struct words){0};
    while (*at != '/') {
        bool bracket = *at == '[';
        size_t len = bracket ? strcspn(at, "]") - 1 : strcspn(at, ":");
        const char *word = at + bracket;

        if (bracket && word[len] != ']') {
            return bad(err, text, "a bracket is not closed");
        }
        if (len == 0 || len >= WORD_SIZE || ret->count == WORDS_MAX) {
            return bad(err, text, "this is not [LOCAL:]REMOTE");
        }
        memcpy(ret->word[ret->count++], word, len);
        at = word + len + bracket;
        if (!*at) {
            return 0;
        }
        if (*at != ':') {
            return bad(err, text, "a colon is missing behind a bracket");
        }
        at++;
    }
    ret->path = at;
    return 0;
}

static bool is_number(const char *word)
{
    return word[strspn(word, "0123456789")] == 0;
}

/* 0 stands for any, where that is allowed. */
static int parse_port(const char *text, const char *word, int least, int *ret, struct err *err)
{
    long port = is_number(word) && strlen(word) <= 5 ? strtol(word, NULL, 10) : -1;

    if (port < least || port > UINT16_MAX) {
        err_set(err, ERR_INVALID, "'%s': '%s' is not a port from %d to %d", text, word, least,
                UINT16_MAX);
        return err_hint(err, "give a number, or a host and a number");
    }
    *ret = (int)port;
    return 0;
}

static int set_local(const char *text, const char *ip, int port, struct forward_spec *ret,
                     struct err *err)
{
    const char *address = !ip || str_eq(ip, "localhost") ? "127.0.0.1" : ip;

    ret->local.in4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &ret->local.in4.sin_addr) == 1) {
        return 0;
    }
    ret->local.in6 =
        (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET6, address, &ret->local.in6.sin6_addr) == 1) {
        return 0;
    }
    err_set(err, ERR_INVALID, "'%s': '%s' is not an address of this host", text, ip);
    return err_hint(err, "give an IPv4 address, an IPv6 address in brackets, or localhost");
}

static int set_host(const char *text, const char *host, struct forward_spec *ret, struct err *err)
{
    struct in6_addr unused;

    if (!str_eq(host, "localhost") && inet_pton(AF_INET, host, &unused) != 1 &&
        inet_pton(AF_INET6, host, &unused) != 1) {
        err_set(err, ERR_INVALID, "'%s': '%s' is neither localhost nor an address", text, host);
        return err_hint(err, "give the IPv4 or IPv6 address of HOST as the guest knows it");
    }
    (void)snprintf(ret->target.host, sizeof(ret->target.host), "%s", host);
    return 0;
}

static int set_path(const char *text, const char *path, struct forward_spec *ret, struct err *err)
{
    if (strlen(path) >= sizeof(ret->target.path)) {
        return bad(err, text, "the path of a socket has at most 107 bytes");
    }
    (void)snprintf(ret->target.path, sizeof(ret->target.path), "%s", path);
    return 0;
}

int forward_spec_parse(const char *text, struct forward_spec *ret, struct err *err)
{
    const char *local_ip = NULL, *local_port = NULL, *host = "localhost", *port = NULL;
    struct words w;
    size_t local = 0; /* words of LOCAL */
    int number = 0;

    *ret = (struct forward_spec){0};
    if (split(text, &w, err) < 0) {
        return -1;
    }
    if (w.path) {
        local = w.count;
    } else if (w.count > 1) {
        local = w.count == 4 || (w.count == 3 && !is_number(w.word[0])) ? 2
                : is_number(w.word[0])                                  ? 1
                                                                        : 0;
    }
    if (local > 2) {
        return bad(err, text, "this is not [LOCAL:]REMOTE");
    }
    local_ip = local == 2 ? w.word[0] : NULL;
    local_port = local > 0 ? w.word[local - 1] : NULL;
    if (w.path) {
        if (set_path(text, w.path, ret, err) < 0) {
            return -1;
        }
    } else {
        host = w.count - local == 2 ? w.word[local] : host;
        port = w.word[w.count - 1];
        if (parse_port(text, port, 1, &ret->target.port, err) < 0 ||
            set_host(text, host, ret, err) < 0) {
            return -1;
        }
        number = ret->target.port;
    }
    if (local_port && parse_port(text, local_port, 0, &number, err) < 0) {
        return -1;
    }
    return set_local(text, local_ip, number, ret, err);
}
