/*
 * A guest's /init that misbehaves, in the place of the agent. How is the last word of its own file:
 * a test appends it to a copy of the program ("...ELF... mode=silent").
 *
 *   silent     never opens the port                 exit       ends: the kernel panics
 *   chatty     never opens the port, and prints without end
 *
 * or one of those of fakevmm/liar.h.
 */
#include "fakevmm/liar.h"
#include "port.h"

#include <stdbool.h>

static char mode[32];
static int port = -1;

static bool is(const char *name)
{
    return strcmp(mode, name) == 0;
}

static void read_mode(void)
{
    char tail[64] = "";
    int fd = open("/init", O_RDONLY | O_CLOEXEC);
    const char *at;
    ssize_t n;

    (void)lseek(fd, -(off_t)(sizeof(tail) - 1), SEEK_END);
    n = read(fd, tail, sizeof(tail) - 1);
    (void)close(fd);
    /* The program before the word is full of zeros. */
    for (ssize_t i = 0; i < n; i++) {
        tail[i] = tail[i] ? tail[i] : ' ';
    }
    at = strstr(tail, "mode=");
    (void)snprintf(mode, sizeof(mode), "%s", at ? at + strlen("mode=") : "silent");
}

int main(void)
{
    read_mode();
    mount_devices();
    dprintf(STDOUT_FILENO, "broken agent: %s\n", mode);
    if (is("exit")) {
        return 0;
    }
    while (is("chatty")) {
        dprintf(STDOUT_FILENO, "just a moment\n");
        (void)nanosleep(&(struct timespec){.tv_nsec = 500 * 1000 * 1000}, NULL);
    }
    if (!is("silent")) {
        load_modules();
        port = open_port();
    }
    if (is("silent")) {
        for (;;) {
            (void)pause();
        }
    }
    liar_serve(port, false, mode);
}
