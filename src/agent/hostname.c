#include "agent/hostname.h"

#include "agent/replace.h"
#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define HOSTS_MAX ((size_t)256 * 1024)
#define HOSTS_PATH "/etc/hosts"
#define NAME_PATH "/etc/hostname"
#define PAD_MAX 1024
#define OWN_ADDRESS "127.0.1.1" /* Debian's for the host's own name */
#define HOSTS_DEFAULT "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

bool hostname_valid(const uint8_t *name, size_t len)
{
    if (len == 0 || len > HOSTNAME_LEN_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        uint8_t c = name[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        bool inner = i > 0 && i + 1 < len && name[i - 1] != '.' && name[i + 1] != '.';

        if (!word && !(c == '-' && inner) && !(c == '.' && inner && name[i - 1] != '-')) {
            return false;
        }
    }
    return true;
}

/* Is the word one of those of the line, after the address and before a comment? */
static bool line_has(const char *line, size_t len, const char *word)
{
    size_t word_len = strlen(word);
    size_t at = 0;

    for (bool first = true; at < len && line[at] != '#'; first = false) {
        size_t n = strcspn(line + at, " \t#\r\n");

        if (!first && n == word_len && memcmp(line + at, word, n) == 0) {
            return true;
        }
        at += n;
        at += strspn(line + at, " \t\r\n");
    }
    return false;
}

char *hostname_hosts(const char *old, const char *name)
{
    _cleanup_buf_ struct buf b;

    buf_init(&b, strlen(old) + HOSTNAME_LEN_MAX + sizeof(OWN_ADDRESS) + 4);
    for (const char *line = old; *line;) {
        size_t len = strcspn(line, "\n");

        if (line_has(line, len, name)) {
            return NULL;
        }
        /* The line of an earlier name goes. */
        if (strncmp(line, OWN_ADDRESS, strlen(OWN_ADDRESS)) != 0 ||
            strcspn(line, " \t") != strlen(OWN_ADDRESS)) {
            (void)!buf_append(&b, line, len);
            (void)!buf_append_str(&b, "\n");
        }
        line += len + (line[len] == '\n');
    }
    (void)!buf_printf(&b, "%s\t%s\n", OWN_ADDRESS, name);
    return buf_steal_str(&b);
}

/* Of a text that is shorter than what is there, the last line ends with blanks, so that it can be
 * written over: a fork's name comes in the place of its template's, which is long. */
static void write_hosts(const char *text, size_t old_len)
{
    size_t len = strlen(text), size = len < old_len && old_len <= PAD_MAX ? old_len : len;
    _cleanup_free_ char *padded = malloc(size + 1);

    if (padded) {
        memset(padded, ' ', size);
        memcpy(padded, text, len - 1);
        padded[size - 1] = '\n';
        (void)replace_file(HOSTS_PATH, padded, size, 0644);
    }
}

static void update_hosts(const char *name)
{
    _cleanup_close_ int fd = open(HOSTS_PATH, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    _cleanup_free_ char *text = NULL;
    _cleanup_buf_ struct buf old;
    ssize_t n = 0;

    buf_init(&old, HOSTS_MAX);
    if (fd < 0 && errno == ENOENT) {
        (void)!buf_append_str(&old, HOSTS_DEFAULT);
    }
    while (fd >= 0 && (n = buf_read_fd(&old, fd, HOSTS_MAX)) > 0) {
    }
    /* Too large, or not readable: nothing of ours. */
    if (n == 0 && (fd >= 0 || old.len > 0)) {
        _cleanup_free_ char *before = buf_steal_str(&old);

        text = hostname_hosts(before, name);
        if (text) {
            write_hosts(text, fd >= 0 ? strlen(before) : 0);
        }
    }
}

/* hostname(5), which any init sets the name from when it begins. */
static void write_name(const char *name)
{
    char line[HOSTNAME_LEN_MAX + 2];

    (void)snprintf(line, sizeof(line), "%s\n", name);
    (void)replace_file(NAME_PATH, line, strlen(line), 0644);
}

int hostname_set(const char *name)
{
    if (sethostname(name, strlen(name)) < 0) {
        return -errno;
    }
    update_hosts(name);
    write_name(name);
    return 0;
}
