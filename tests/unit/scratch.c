#include "scratch.h"

#include "base/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define NOBODY 65534

int64_t test_deadline(void)
{
    return clock_mono_ms() + TEST_PATIENCE_MS;
}

struct scratch scratch_new(void)
{
    struct scratch s = {.path = "/tmp/banger-test-XXXXXX"};

    if (!mkdtemp(s.path)) {
        abort();
    }
    s.fd = open(s.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.fd < 0) {
        abort();
    }
    return s;
}

void scratch_done(struct scratch *s)
{
    close_p(&s->fd);
    (void)fs_remove_tree(AT_FDCWD, s->path);
}

void scratch_write(const struct scratch *s, const char *name, const char *text)
{
    if (fs_write_atomic(s->fd, name, text, strlen(text), 0600, false) < 0) {
        abort();
    }
}

int test_child(int (*fn)(void *arg), void *arg, bool drop)
{
    int status = -1;
    pid_t pid = fork();

    if (pid < 0) {
        abort();
    }
    if (pid == 0) {
        /* What dies here dies on purpose: no core file, no report. */
        (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        if (drop && geteuid() == 0 &&
            (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)) {
            _exit(99);
        }
        _exit(fn(arg));
    }
    if (waitpid(pid, &status, 0) != pid) {
        abort();
    }
    return status;
}
