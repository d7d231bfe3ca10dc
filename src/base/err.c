#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int number;
} codes[ERR_CODE_COUNT] = {
    [ERR_NONE] = {"none", 0},
    [ERR_INVALID] = {"invalid", -32602},
    [ERR_NOT_FOUND] = {"not_found", -32001},
    [ERR_ALREADY_EXISTS] = {"already_exists", -32002},
    [ERR_CONFLICT] = {"conflict", -32003},
    [ERR_NOT_RUNNING] = {"not_running", -32004},
    [ERR_BUSY] = {"busy", -32005},
    [ERR_UNSUPPORTED] = {"unsupported", -32006},
    [ERR_LIMIT] = {"limit", -32007},
    [ERR_TIMEOUT] = {"timeout", -32008},
    [ERR_CANCELLED] = {"cancelled", -32009},
    [ERR_NO_SPACE] = {"no_space", -32010},
    [ERR_GUEST] = {"guest", -32011},
    [ERR_VMM] = {"vmm", -32012},
    [ERR_REGISTRY] = {"registry", -32013},
    [ERR_AUTH] = {"auth", -32014},
    [ERR_DENIED] = {"denied", -32015},
    [ERR_IO] = {"io", -32016},
    [ERR_INTERNAL] = {"internal", -32603},
};

/* Cuts an overlong text so that it does not end inside a UTF-8 sequence. */
static void trim_utf8(char *s, size_t size)
{
    size_t n = strnlen(s, size);

    if (n + 1 < size) {
        return;
    }
    while (n > 0 && ((unsigned char)s[n - 1] & 0xC0) == 0x80) {
        n--;
    }
    if (n > 0 && ((unsigned char)s[n - 1] & 0x80)) {
        n--;
    }
    s[n] = '\0';
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    err->code = code;
    err->errnum = 0;
    err->hint[0] = '\0';
    va_start(ap, fmt);
    (void)vsnprintf(err->message, sizeof(err->message), fmt, ap);
    va_end(ap);
    trim_utf8(err->message, sizeof(err->message));
    return -1;
}

int err_set_errno(struct err *err, enum err_code code, int errnum, const char *fmt, ...)
{
    va_list ap;
    size_t n;

    errnum = errnum < 0 ? -errnum : errnum;
    if (code == ERR_IO && (errnum == ENOSPC || errnum == EDQUOT)) {
        code = ERR_NO_SPACE;
    } else if (errnum == ECANCELED) {
        code = ERR_CANCELLED;
    } else if (errnum == ETIMEDOUT) {
        code = ERR_TIMEOUT;
    }
    err->code = code;
    err->errnum = errnum;
    err->hint[0] = '\0';
    va_start(ap, fmt);
    (void)vsnprintf(err->message, sizeof(err->message), fmt, ap);
    va_end(ap);
    n = strlen(err->message);
    (void)snprintf(err->message + n, sizeof(err->message) - n, ": %s", strerror(errnum));
    trim_utf8(err->message, sizeof(err->message));
    return -1;
}

int err_hint(struct err *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
    va_end(ap);
    trim_utf8(err->hint, sizeof(err->hint));
    return -1;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    char inner[sizeof(err->message)];
    va_list ap;
    size_t n;

    memcpy(inner, err->message, sizeof(inner));
    va_start(ap, fmt);
    (void)vsnprintf(err->message, sizeof(err->message), fmt, ap);
    va_end(ap);
    n = strlen(err->message);
    (void)snprintf(err->message + n, sizeof(err->message) - n, ": %s", inner);
    trim_utf8(err->message, sizeof(err->message));
    return -1;
}

int err_append(struct err *err, const char *fmt, ...)
{
    size_t n = strlen(err->message);
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(err->message + n, sizeof(err->message) - n, fmt, ap);
    va_end(ap);
    trim_utf8(err->message, sizeof(err->message));
    return -1;
}

const char *err_code_name(enum err_code code)
{
    return (unsigned)code < ERR_CODE_COUNT ? codes[code].name : codes[ERR_INTERNAL].name;
}

int err_code_number(enum err_code code)
{
    return (unsigned)code < ERR_CODE_COUNT ? codes[code].number : codes[ERR_INTERNAL].number;
}

enum err_code err_code_from_name(const char *name)
{
    for (unsigned i = 1; i < ERR_CODE_COUNT; i++) {
        if (name && strcmp(codes[i].name, name) == 0) {
            return (enum err_code)i;
        }
    }
    return ERR_INTERNAL;
}
