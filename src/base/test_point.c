#include "base/test_point.h"

#ifdef BANGER_TEST_POINTS

#include "base/attr.h"
#include "base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPEC_SIZE 128

/* What is to fail; under the mutex. */
static struct {
    bool opened;
    int fd;
    char text[SPEC_SIZE]; /* of the file, as last seen */
    char name[SPEC_SIZE];
    unsigned long at, seen;
    bool from_then_on;
    int errnum;
} faults = {.fd = -1};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned long crash_seen; /* under the mutex */

void test_point_crash(const char *name)
{
    const char *spec = getenv("BANGER_CRASH_AT");
    size_t len = strlen(name);
    unsigned long at, seen;

    if (spec && strcmp(spec, "?") == 0) {
        log_info("crash point '%s' passed", name);
        return;
    }
    if (!spec || strncmp(spec, name, len) != 0 || (spec[len] != '\0' && spec[len] != ':')) {
        return;
    }
    at = spec[len] == ':' ? strtoul(spec + len + 1, NULL, 10) : 1;
    (void)pthread_mutex_lock(&mutex);
    seen = ++crash_seen;
    (void)pthread_mutex_unlock(&mutex);
    if (seen == at) {
        log_warn("crash point '%s' reached", name);
        (void)kill(getpid(), SIGKILL);
        (void)pause();
    }
}

/* Reads the file again; what it says counts from the moment it says so. */
static void look_locked(void)
{
    const char *path = getenv("BANGER_FAULTS");
    char text[SPEC_SIZE] = "", count[24] = "";
    ssize_t n;

    if (!faults.opened) {
        faults.opened = true;
        faults.fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    }
    n = faults.fd < 0 ? 0 : pread(faults.fd, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    if (strcmp(text, faults.text) == 0) {
        return;
    }
    memcpy(faults.text, text, sizeof(text));
    faults.seen = 0;
    faults.name[0] = '\0';
    if (sscanf(text, "%95s %23s %d", faults.name, count, &faults.errnum) == 3) {
        faults.at = strtoul(count, NULL, 10);
        faults.from_then_on = strchr(count, '+') != NULL;
    } else {
        faults.name[0] = '\0';
    }
}

/* Whether one of the words, with commas between, is the name, or its beginning and "*". */
static bool is_meant(const char *words, const char *name)
{
    for (const char *word = words, *end; *word; word = *end ? end + 1 : end) {
        size_t len;

        end = strchrnul(word, ',');
        len = (size_t)(end - word);
        if (len > 0 && word[len - 1] == '*' ? strncmp(word, name, len - 1) == 0
                                            : strlen(name) == len && memcmp(word, name, len) == 0) {
            return true;
        }
    }
    return false;
}

int test_point_fault(const char *name)
{
    int r = 0;

    (void)pthread_mutex_lock(&mutex);
    look_locked();
    if (is_meant(faults.name, name)) {
        faults.seen++;
        if (faults.seen == faults.at || (faults.from_then_on && faults.seen > faults.at)) {
            r = -faults.errnum;
        }
    }
    (void)pthread_mutex_unlock(&mutex);
    if (r < 0) {
        log_warn("fault point '%s' fails: %s", name, strerror(-r));
    }
    return r;
}

const char *test_point_boot_id(void)
{
    return getenv("BANGER_BOOT_ID");
}

#endif
