/*
 * main() of a fuzz target outside libFuzzer: gives it, once each, the files named on the command
 * line and the files of the directories named there. A directory that does not exist is empty.
 * Prints how many inputs there were; the input that a sanitizer stops at is named on stderr.
 */
#include "base/attr.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

static char current[4096];
static unsigned replayed;

static void name_current(void)
{
    dprintf(STDERR_FILENO, "replay: the input was %s\n", current);
}

static void on_abort(int sig)
{
    name_current();
    signal(sig, SIG_DFL);
    raise(sig);
}

static int replay_file(const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *copy;
    struct stat st;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0) {
        fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        return 0;
    }
    /* On the heap and exactly as large, so that ASan sees the first byte read behind it. */
    copy = malloc(st.st_size > 0 ? (size_t)st.st_size : 1);
    n = copy ? read(fd, copy, (size_t)st.st_size) : -1;
    if (n != st.st_size) {
        fprintf(stderr, "replay: %s: cannot be read in one piece\n", path);
        free(copy);
        return -1;
    }
    (void)snprintf(current, sizeof(current), "%s", path);
    (void)LLVMFuzzerTestOneInput(copy, (size_t)n);
    free(copy);
    replayed++;
    return 0;
}

static int replay_directory(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    int r = 0;

    if (count < 0) {
        return errno == ENOENT ? 0 : -1;
    }
    for (int i = 0; i < count; i++) {
        char file[4096];

        (void)snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && replay_file(file) < 0) {
            r = -1;
        }
        free(entries[i]);
    }
    free(entries);
    return r;
}

int main(int argc, char **argv)
{
    int r = 0;

    if (LLVMFuzzerInitialize) {
        (void)LLVMFuzzerInitialize(&argc, &argv);
    }
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(name_current);
    }
    signal(SIGABRT, on_abort);
    /* Every parser meets the empty input, whatever the corpus has. */
    (void)snprintf(current, sizeof(current), "(empty)");
    (void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        struct stat st;

        if (stat(argv[i], &st) == 0 && !S_ISDIR(st.st_mode)) {
            r |= replay_file(argv[i]);
        } else {
            r |= replay_directory(argv[i]);
        }
    }
    printf("%u inputs replayed\n", replayed);
    return r < 0 ? 1 : 0;
}
