#include "agent/spec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

int failure_set(struct failure *f, uint32_t status, int error, const char *fmt, ...)
{
    va_list ap;
    int n;

    f->status = status;
    f->error = (uint32_t)error;
    va_start(ap, fmt);
    n = vsnprintf(f->text, sizeof(f->text), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(f->text)) {
        (void)snprintf(f->text + n, sizeof(f->text) - (size_t)n, ": %s", strerror(error));
    }
    return -error;
}

static int invalid(struct failure *f, const char *what)
{
    return failure_set(f, FAILURE_AGENT, EINVAL, "the request to start a command: %s", what);
}

/* Are the tags and their sizes right? Counts what memory they need. */
static int spec_check(const uint8_t *body, size_t len, size_t *ret_args, size_t *ret_vars,
                      struct failure *f)
{
    struct frame_reader r = {.p = body, .left = len};
    size_t args = 0, vars = 0, paths = 0;
    bool files = false, report = false;
    const uint8_t *value;
    bool tty = false;
    uint32_t size;
    uint8_t tag;
    int n;

    while ((n = frame_take_tlv(&r, &tag, &value, &size)) > 0) {
        if (((tag >= FRAME_TAG_ARG && tag <= FRAME_TAG_USER) || tag == FRAME_TAG_PATH) &&
            memchr(value, 0, size)) {
            return invalid(f, "a string with a NUL byte");
        }
        if (tag == FRAME_TAG_ARG) {
            args++;
        } else if (tag == FRAME_TAG_PATH) {
            paths++;
        } else if (tag == FRAME_TAG_FILES) {
            if (size != 2 || value[0] < FRAME_FILES_GET || value[0] > FRAME_FILES_CONNECT) {
                return invalid(f, "a value of the wrong size or range");
            }
            files = true;
            report = frame_files_is_report(value[0]);
        } else if (tag == FRAME_TAG_ENV) {
            const uint8_t *sign = memchr(value, '=', size);

            if (!sign || sign == value) {
                return invalid(f, "a variable without a name or '='");
            }
            vars++;
        } else if (tag == FRAME_TAG_CWD && (size == 0 || value[0] != '/')) {
            return invalid(f, "the working directory is not absolute");
        } else if ((tag == FRAME_TAG_STDIN && (size != 1 || value[0] > FRAME_STDIN_PIPE)) ||
                   (tag == FRAME_TAG_TTY && size != 4) ||
                   (tag == FRAME_TAG_RECORD && size > FRAME_RECORD_MAX)) {
            return invalid(f, "a value of the wrong size or range");
        }
        tty |= tag == FRAME_TAG_TTY;
    }
    if (n < 0) {
        return invalid(f, "cut short");
    }
    if (files ? args > 0 || (paths == 0) != report : (args == 0 && !tty) || paths > 0) {
        return invalid(f, "no command");
    }
    args += files ? paths + SPEC_FILES_ARGS : 0;
    if (args > FRAME_ARGS_MAX || vars > FRAME_ARGS_MAX) {
        return failure_set(f, FAILURE_AGENT, E2BIG, "more than %d arguments or variables",
                           FRAME_ARGS_MAX);
    }
    *ret_args = args;
    *ret_vars = vars;
    return 0;
}

/* The program itself, as files.c wants to be called; the paths follow. */
static size_t set_files(struct spec *spec, const uint8_t value[2])
{
    static char name[] = "banger-agent", arg[] = SPEC_FILES_ARG;
    static char get[] = "get", put[] = "put", stats[] = "stats", processes[] = "processes",
                listeners[] = "listeners", connect[] = "connect";
    static char *const verbs[] = {[FRAME_FILES_GET] = get,
                                  [FRAME_FILES_PUT] = put,
                                  [FRAME_FILES_STATS] = stats,
                                  [FRAME_FILES_PROCESSES] = processes,
                                  [FRAME_FILES_LISTENERS] = listeners,
                                  [FRAME_FILES_CONNECT] = connect};

    (void)snprintf(spec->flags, sizeof(spec->flags), "%u", value[1]);
    spec->files = true;
    spec->argv[0] = name;
    spec->argv[1] = arg;
    spec->argv[2] = verbs[value[0]];
    spec->argv[3] = spec->flags;
    spec->cwd = "/";
    return SPEC_FILES_ARGS;
}

static char *take_string(char **at, const uint8_t *value, uint32_t size)
{
    char *s = *at;

    memcpy(s, value, size);
    s[size] = 0;
    *at += size + 1;
    return s;
}

int spec_parse(struct spec *spec, const uint8_t *body, size_t len, struct failure *ret_failure)
{
    struct frame_reader r = {.p = body, .left = len};
    size_t args = 0, vars = 0, argc = 0;
    const uint8_t *value;
    uint32_t size;
    uint8_t tag;
    char *at;
    int n = spec_check(body, len, &args, &vars, ret_failure);

    if (n < 0) {
        return n;
    }
    *spec = (struct spec){0};
    /* A TLV is larger than its string with a NUL: len bytes hold all strings. */
    spec->memory = malloc((args + 1 + vars + SPEC_DEFAULTS + 1) * sizeof(char *) + len);
    if (!spec->memory) {
        return failure_set(ret_failure, FAILURE_AGENT, ENOMEM, "cannot start a command");
    }
    spec->argv = (char **)(void *)spec->memory;
    spec->envp = spec->argv + args + 1;
    at = (char *)(spec->envp + vars + SPEC_DEFAULTS + 1);
    while (frame_take_tlv(&r, &tag, &value, &size) > 0) {
        if (tag == FRAME_TAG_FILES && !spec->files) {
            /* It may stand behind paths. */
            memmove(spec->argv + SPEC_FILES_ARGS, spec->argv, argc * sizeof(char *));
            argc += set_files(spec, value);
        } else if (tag == FRAME_TAG_ARG || tag == FRAME_TAG_PATH) {
            spec->argv[argc++] = take_string(&at, value, size);
        } else if (tag == FRAME_TAG_ENV) {
            spec->envp[spec->envc++] = take_string(&at, value, size);
        } else if (tag == FRAME_TAG_CWD) {
            spec->cwd = take_string(&at, value, size);
        } else if (tag == FRAME_TAG_USER) {
            spec->user = take_string(&at, value, size);
        } else if (tag == FRAME_TAG_STDIN) {
            spec->stdin_pipe = value[0] == FRAME_STDIN_PIPE;
        } else if (tag == FRAME_TAG_TTY) {
            spec->tty = true;
            spec->rows = (uint16_t)(value[0] | value[1] << 8);
            spec->columns = (uint16_t)(value[2] | value[3] << 8);
        } else if (tag == FRAME_TAG_RECORD) {
            spec->record = value;
            spec->record_len = size;
        }
    }
    spec->argv[argc] = NULL;
    spec->envp[spec->envc] = NULL;
    return 0;
}

void spec_done(struct spec *spec)
{
    for (size_t i = 0; i < SPEC_DEFAULTS; i++) {
        free(spec->defaults[i]);
    }
    free(spec->memory);
    *spec = (struct spec){0};
}

const char *spec_getenv(const struct spec *spec, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < spec->envc; i++) {
        if (strncmp(spec->envp[i], name, len) == 0 && spec->envp[i][len] == '=') {
            return spec->envp[i] + len + 1;
        }
    }
    return NULL;
}

void spec_set_defaults(struct spec *spec, const struct user *user)
{
    const struct {
        const char *name;
        const char *value;
    } defaults[SPEC_DEFAULTS] = {
        {"PATH", DEFAULT_PATH},  {"HOME", user->home},   {"USER", user->name},
        {"LOGNAME", user->name}, {"SHELL", user->shell}, {"TERM", spec->tty ? "xterm" : ""},
    };

    for (size_t i = 0; i < SPEC_DEFAULTS; i++) {
        char *variable;

        if (!defaults[i].value[0] || spec_getenv(spec, defaults[i].name) ||
            asprintf(&variable, "%s=%s", defaults[i].name, defaults[i].value) < 0) {
            continue;
        }
        spec->defaults[i] = variable;
        spec->envp[spec->envc++] = variable;
        spec->envp[spec->envc] = NULL;
    }
}
