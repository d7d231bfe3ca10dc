#include "doctor/doctor.h"

#include "base/fs.h"
#include "base/str.h"
#include "version.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX (256U * 1024)
#define PROGRAM_MAX (256U << 20)

struct entry {
    const struct doctor_check *check;
    const void *ctx;
};

struct doctor {
    struct entry *entries;
    size_t count;
};

const char *doctor_status_name(enum doctor_status status)
{
    static const char *const names[] = {"pass", "warn", "fail"};

    return names[status];
}

struct doctor *doctor_new(void)
{
    return x_calloc(1, sizeof(struct doctor));
}

void doctor_free(struct doctor *d)
{
    if (d) {
        free(d->entries);
        free(d);
    }
}

static bool knows(const struct doctor *d, const char *id)
{
    for (size_t i = 0; i < d->count; i++) {
        if (str_eq(d->entries[i].check->id, id)) {
            return true;
        }
    }
    return false;
}

void doctor_add(struct doctor *d, const struct doctor_check *table, const void *ctx)
{
    for (const struct doctor_check *c = table; c->id; c++) {
        assert(!knows(d, c->id));
        d->entries = reallocarray(d->entries, d->count + 1, sizeof(*d->entries));
        if (!d->entries) {
            abort();
        }
        d->entries[d->count++] = (struct entry){.check = c, .ctx = ctx};
    }
}

const struct doctor_check *doctor_at(const struct doctor *d, size_t index)
{
    return index < d->count ? d->entries[index].check : NULL;
}

void doctor_run(const struct doctor *d, size_t index, struct doctor_finding *ret)
{
    *ret = (struct doctor_finding){0};
    d->entries[index].check->fn(d->entries[index].ctx, ret);
    assert(ret->summary[0]);
}

int doctor_gate(const struct doctor *d, unsigned flag, struct err *err)
{
    for (size_t i = 0; i < d->count; i++) {
        struct doctor_finding f;

        if (!(d->entries[i].check->flags & flag)) {
            continue;
        }
        doctor_run(d, i, &f);
        if (f.status == DOCTOR_FAIL) {
            err_set(err, f.code ? f.code : ERR_UNSUPPORTED, "%s", f.summary);
            return f.fix[0] ? err_hint(err, "%s", f.fix) : -1;
        }
    }
    return 0;
}

/* For checks ------------------------------------------------------------------------------------*/

static void put(char *field, size_t size, const char *fmt, va_list ap) _printf_(3, 0);
static void put(char *field, size_t size, const char *fmt, va_list ap)
{
    _cleanup_free_ char *text = NULL;
    _cleanup_free_ char *safe = NULL;

    if (vasprintf(&text, fmt, ap) < 0) {
        abort();
    }
    /* Paths and files have a say in it. */
    safe = str_escape(text, strlen(text), strlen(text));
    if (snprintf(field, size, "%s", safe) >= (int)size) {
        size_t len = size - 1;

        /* str_escape has made it UTF-8: back to the start of the character that was cut. */
        while (len > 0 && ((unsigned char)safe[len] & 0xC0) == 0x80) {
            len--;
        }
        field[len] = '\0';
    }
}

#define PUT_FIELD(f, field)                                                                        \
    do {                                                                                           \
        va_list ap;                                                                                \
        va_start(ap, fmt);                                                                         \
        put((f)->field, sizeof((f)->field), fmt, ap);                                              \
        va_end(ap);                                                                                \
    } while (0)

void doctor_pass(struct doctor_finding *f, const char *fmt, ...)
{
    f->status = DOCTOR_PASS;
    PUT_FIELD(f, summary);
}

void doctor_warn(struct doctor_finding *f, const char *fmt, ...)
{
    f->status = DOCTOR_WARN;
    PUT_FIELD(f, summary);
}

void doctor_fail(struct doctor_finding *f, const char *fmt, ...)
{
    f->status = DOCTOR_FAIL;
    PUT_FIELD(f, summary);
}

void doctor_evidence(struct doctor_finding *f, const char *fmt, ...)
{
    PUT_FIELD(f, evidence);
}

void doctor_fix(struct doctor_finding *f, const char *fmt, ...)
{
    PUT_FIELD(f, fix);
}

void doctor_fail_err(struct doctor_finding *f, const struct err *err)
{
    doctor_fail(f, "%s", err->message);
    f->code = err->code;
    if (err->hint[0]) {
        doctor_fix(f, "%s", err->hint);
    }
}

/* The kernel's files have no size, so fs_read_file's limits are what bounds them. */
char *doctor_read(const char *root, const char *path)
{
    _cleanup_free_ char *full = x_asprintf("%s%s", root, path);
    char *text;
    size_t len;
    int r = fs_read_file(AT_FDCWD, full, FILE_MAX, &text, &len);

    if (r < 0) {
        errno = -r;
        return NULL;
    }
    while (len > 0 && text[len - 1] == '\n') {
        text[--len] = '\0';
    }
    return text;
}

bool doctor_read_number(const char *root, const char *path, uint64_t *ret)
{
    _cleanup_free_ char *text = doctor_read(root, path);

    return text && str_to_u64(text, UINT64_MAX, ret) == 0;
}

bool doctor_exists(const char *root, const char *path)
{
    _cleanup_free_ char *full = x_asprintf("%s%s", root, path);

    return access(full, F_OK) == 0;
}

char *doctor_program_version(const char *path)
{
    _cleanup_free_ char *data = NULL;
    const char *at;
    size_t len;

    if (fs_read_file(AT_FDCWD, path, PROGRAM_MAX, &data, &len) < 0) {
        return NULL;
    }
    /* The key alone, without a version, is this file's. */
    at = memmem(data, len, BANGER_VERSION_KEY, strlen(BANGER_VERSION_KEY));
    while (at && !at[strlen(BANGER_VERSION_KEY)]) {
        at++;
        at = memmem(at, len - (size_t)(at - data), BANGER_VERSION_KEY, strlen(BANGER_VERSION_KEY));
    }
    return at ? x_strndup(at + strlen(BANGER_VERSION_KEY), 64) : NULL;
}
