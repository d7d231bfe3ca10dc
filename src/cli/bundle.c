#include "cli/bundle.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUNDLE_MAX ((size_t)64 << 20)
#define END_BYTES 65536 /* for what is added at the end */
#define FOLDER "banger-debug/"

extern char **environ;

void bundle_init(struct bundle *b)
{
    *b = (struct bundle){.redact = redact_new((const char *const *)environ),
                         .files = json_array(),
                         .missing = json_array()};
    buf_init(&b->tar, BUNDLE_MAX + END_BYTES);
}

void bundle_done(struct bundle *b)
{
    buf_done(&b->tar);
    redact_free(b->redact);
    json_decref(b->files);
    json_decref(b->missing);
}

void bundle_missing(struct bundle *b, const char *name, const char *why)
{
    _cleanup_free_ char *text = redact_text(b->redact, why, strlen(why));
    _cleanup_free_ char *safe = str_escape(text, strlen(text), strlen(text));
    json_t *o = json_object();

    json_put_str(o, "name", name);
    json_put_str(o, "why", safe);
    json_array_append_new(b->missing, o);
}

/* As it is. */
static void add(struct bundle *b, const char *name, const char *text, size_t len, size_t most)
{
    _cleanup_free_ char *path = x_asprintf(FOLDER "%s", name);
    struct tar_entry e = {.type = TAR_FILE,
                          .path = path,
                          .target = "",
                          .mode = 0600,
                          .mtime_s = clock_real_ms() / 1000,
                          .size = len};
    json_t *o;

    if (len + 4 * (size_t)TAR_BLOCK > most || b->tar.len > most - len - 4 * (size_t)TAR_BLOCK) {
        bundle_missing(b, name, "the bundle is full");
        return;
    }
    if (tar_put_entry(&b->tar, &e) < 0 || buf_append(&b->tar, text, len) < 0 ||
        tar_put_padding(&b->tar, len) < 0) {
        abort(); /* there is room, and names are ours */
    }
    o = json_object();
    json_put_str(o, "name", name);
    json_put_int(o, "bytes", (long long)len);
    json_array_append_new(b->files, o);
}

void bundle_text(struct bundle *b, const char *name, const char *text, size_t len)
{
    _cleanup_free_ char *safe = redact_text(b->redact, text, len);

    add(b, name, safe, strlen(safe), BUNDLE_MAX);
}

void bundle_json(struct bundle *b, const char *name, const json_t *value)
{
    _cleanup_json_ json_t *safe = redact_json(b->redact, value);
    char *text = json_dumps(safe, JSON_INDENT(2) | JSON_ENCODE_ANY);

    if (!text) {
        abort();
    }
    add(b, name, text, strlen(text), BUNDLE_MAX);
    free(text);
}

/* NUL ends strings, and a guest may write any byte. */
static size_t without_nul(char *text, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (text[i]) {
            text[n++] = text[i];
        }
    }
    text[n] = '\0';
    return n;
}

void bundle_tail(struct bundle *b, const char *name, int dir_fd, const char *path, size_t most)
{
    _cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    _cleanup_free_ char *text = NULL;
    const char *from;
    struct stat st;
    off_t start;
    ssize_t n;
    size_t len;

    if (fd < 0 && errno == ENOENT) {
        return;
    }
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        bundle_missing(b, name, fd < 0 ? strerror(errno) : "it is no regular file");
        return;
    }
    start = st.st_size > (off_t)most ? st.st_size - (off_t)most : 0;
    text = x_calloc(most + 1, 1);
    n = pread(fd, text, most, start);
    if (n < 0) {
        bundle_missing(b, name, strerror(errno));
        return;
    }
    len = without_nul(text, (size_t)n);
    /* A line whose beginning is cut off may be the rest of a secret. */
    from = start > 0 ? strchr(text, '\n') : text;
    from = from && start > 0 ? from + 1 : from;
    bundle_text(b, name, from ? from : "", from ? len - (size_t)(from - text) : 0);
}

void bundle_end(struct bundle *b)
{
    char *text = json_dumps(b->missing, JSON_INDENT(2));

    if (!text) {
        abort();
    }
    if (json_array_size(b->missing) > 0) {
        add(b, "missing.json", text, strlen(text), BUNDLE_MAX + END_BYTES / 2);
    }
    free(text);
    if (tar_put_end(&b->tar) < 0) {
        abort();
    }
}
