#include "fakevmm/fault.h"

#include "base/attr.h"
#include "fakevmm/liar.h"

#include <errno.h>
#include <string.h>

static const char *const actions[] = {
    [FAULT_HANG] = "hang", [FAULT_WAIT] = "wait",     [FAULT_EXIT] = "exit",
    [FAULT_DIE] = "die",   [FAULT_IGNORE] = "ignore",
};

static const char *const points[FAULT_POINT_COUNT] = {
    [FAULT_AT_BOOT] = "boot",
    [FAULT_AT_HELLO] = "hello",
    [FAULT_AT_GREETED] = "greeted",
    [FAULT_AT_CONFIGURE] = "configure",
    [FAULT_AT_CONFIGURED] = "configured",
    [FAULT_AT_EXEC] = "exec",
    [FAULT_AT_STARTED] = "started",
    [FAULT_AT_SYNC] = "sync",
    [FAULT_AT_POWEROFF] = "poweroff",
    [FAULT_AT_FAREWELL] = "farewell",
};

const char *fault_point_name(enum fault_point point)
{
    return points[point];
}

/* The index of the word, which need not end with NUL; 0 is "not found" for actions, whose first
 * is FAULT_NONE, and count for points. */
static size_t find(const char *const *words, size_t count, const char *word, size_t len)
{
    for (size_t i = 0; i < count; i++) {
        if (words[i] && strlen(words[i]) == len && memcmp(words[i], word, len) == 0) {
            return i;
        }
    }
    return count;
}

static bool has_frame(enum fault_point point)
{
    return point == FAULT_AT_CONFIGURE || point == FAULT_AT_EXEC || point == FAULT_AT_SYNC ||
           point == FAULT_AT_POWEROFF;
}

static int parse_one(const char *text, size_t len, struct faults *f)
{
    const char *at = memchr(text, '@', len);
    size_t action, point;

    if (!at) {
        char word[FAULT_LIE_SIZE] = "";

        if (len == 0 || len >= sizeof(word) || f->lie[0]) {
            return -EINVAL;
        }
        memcpy(word, text, len);
        if (!liar_knows(word)) {
            return -EINVAL;
        }
        memcpy(f->lie, word, sizeof(word));
        return 0;
    }
    action = find(actions, ARRAY_LEN(actions), text, (size_t)(at - text));
    point = find(points, FAULT_POINT_COUNT, at + 1, len - (size_t)(at + 1 - text));
    if (action == ARRAY_LEN(actions) || point == FAULT_POINT_COUNT ||
        (action == FAULT_IGNORE && !has_frame((enum fault_point)point))) {
        return -EINVAL;
    }
    if (f->count == FAULTS_MAX) {
        return -E2BIG;
    }
    f->list[f->count++] = (struct fault){(enum fault_action)action, (enum fault_point)point};
    return 0;
}

int faults_parse(const char *text, struct faults *ret_faults)
{
    struct faults f = {.count = 0};

    for (const char *p = text, *end; p; p = *end ? end + 1 : NULL) {
        int r;

        end = strchrnul(p, ',');
        r = parse_one(p, (size_t)(end - p), &f);
        if (r < 0) {
            return r;
        }
    }
    *ret_faults = f;
    return 0;
}
