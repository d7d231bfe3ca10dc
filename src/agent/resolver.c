#include "agent/resolver.h"

#include "agent/replace.h"
#include "base/attr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define KEYWORD "nameserver "
/* All that we write, and what is read of a file of somebody else's. */
#define TEXT_MAX 4096

bool resolvers_add(struct resolvers *r, const uint8_t *text, size_t len)
{
    uint8_t ignored[16];
    char *address;

    if (r->count == FRAME_RESOLVERS_MAX || len >= FRAME_RESOLVER_SIZE || memchr(text, 0, len)) {
        return false;
    }
    address = r->address[r->count];
    memcpy(address, text, len);
    address[len] = 0;
    if (inet_pton(AF_INET, address, ignored) != 1 && inet_pton(AF_INET6, address, ignored) != 1) {
        return false;
    }
    r->count++;
    return true;
}

/* The text, and its length. */
static size_t compose(const struct resolvers *r, char ret[TEXT_MAX])
{
    size_t len = 0;

    ret[0] = 0;
    for (unsigned i = 0; i < r->count; i++) {
        len += (size_t)snprintf(ret + len, TEXT_MAX - len, KEYWORD "%s\n", r->address[i]);
    }
    return len;
}

/* Its length, of which TEXT_MAX - 1 bytes are read; or -errno. */
static ssize_t read_file(const char *path, char ret[TEXT_MAX])
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, ret, TEXT_MAX - 1);

    if (n < 0) {
        return -errno;
    }
    ret[n] = 0;
    return n;
}

int resolvers_set(const char *path, const struct resolvers *r)
{
    char text[TEXT_MAX], now[TEXT_MAX];
    size_t len = compose(r, text);
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && stat(path, &st) == 0) {
        return -EEXIST;
    }
    if (read_file(path, now) == (ssize_t)len && memcmp(now, text, len) == 0) {
        return 0;
    }
    return replace_file(path, text, len, 0644);
}

int resolvers_get(const char *path, struct resolvers *ret)
{
    char text[TEXT_MAX];
    ssize_t n = read_file(path, text);
    char *rest = text, *line;

    if (n < 0) {
        return (int)n;
    }
    ret->count = 0;
    while ((line = strsep(&rest, "\n"))) {
        const char *address = line + sizeof(KEYWORD) - 1;

        if (strncmp(line, KEYWORD, sizeof(KEYWORD) - 1) == 0) {
            (void)resolvers_add(ret, (const uint8_t *)address, strlen(address));
        }
    }
    return 0;
}
