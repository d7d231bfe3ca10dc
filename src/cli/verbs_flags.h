/* Flags and texts that several verbs have, for verbs.c only. */
#pragma once

#define FORMAT_HELP "Print a table (the default), or JSON."
#define STDIN_HELP                                                                                  \
    "The command reads our standard input with -i, or when that is a pipe, a file or a socket; "    \
    "otherwise it reads /dev/null. The command's output is ours, byte for byte. It ends with the "  \
    "command, even when processes that it left behind hold it open; what those write is lost. "     \
    "With -t the command has a terminal; with -it that is ours, keys and all, and the end of "      \
    "piped input is typed as Ctrl-D. TERM, COLORTERM and, in a UTF-8 locale, LC_CTYPE=C.UTF-8 are " \
    "passed on. Without COMMAND a terminal gets the user's login shell, as with -it. "              \
    "SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 go to the command; SIGINT or SIGTERM "   \
    "for the second time kills it. When banger itself is killed, a command that reads our input "   \
    "is hung up (SIGHUP) and any other goes on."
#define RESTART_HELP                                                                               \
    "When to start the VM again: no, on-failure (it died, or its guest reboots), on-failure:N (N " \
    "times in a row at most), or always (also when its guest has powered off)."
#define AUTO_STOP_HELP "Stop the VM when no session was in it for so long, such as 30m; 0: never."
#define EXPIRES_HELP                                                                               \
    "Delete the VM, running or not, after this time, such as 7d, unless it is touched; 0: never."

#define END {0}

/* clang-format off */
#define FLAGS_MACHINE(m) \
    {.name = "image", .value = "IMAGE", .method = m, .param = "image"}, \
    {.name = "kernel", .value = "KERNEL", .method = m, .param = "kernel"}, \
    {.name = "vmm", .value = "VMM", .method = m, .param = "vmm"}, \
    {.name = "init", .value = "INIT", .method = m, .param = "init"}, \
    {.name = "vcpus", .value = "N", .method = m, .param = "vcpus"}, \
    {.name = "memory", .letter = 'm', .value = "SIZE", .method = m, \
     .param = "memory_mib", .unit = UNIT_MIB, .doc = "Memory, in MiB or such as 2G."}, \
    {.name = "disk", .value = "SIZE", .method = m, .param = "disk_bytes", \
     .unit = UNIT_BYTES, \
     .doc = "Size of the data disk, such as 8G; it occupies what is written to it."}
#define FLAG_ENV     {.name = "env", .letter = 'e', .value = "NAME=VALUE", \
                      .method = "session.start", .param = "env", \
                      .doc = "Set a variable for the command; may be repeated."}
#define FLAG_WORKDIR {.name = "workdir", .letter = 'w', .value = "DIR", \
                      .method = "session.start", .param = "cwd"}
#define FLAG_USER    {.name = "user", .letter = 'u', .value = "USER", \
                      .method = "session.start", .param = "user"}
#define FLAG_STDIN   {.name = "interactive", .letter = 'i', \
                      .doc = "Give the command our standard input, also from a terminal."}
#define FLAG_TTY     {.name = "tty", .letter = 't', \
                      .doc = "Run the command on a terminal, the size of ours; with -i ours is " \
                             "that terminal. Its errors come with its output."}
#define FLAGS_VM \
    {.name = "name", .value = "NAME", .method = "vm.create.begin", .param = "name"}, \
    FLAGS_MACHINE("vm.create.begin"), \
    {.name = "cold", .method = "vm.create.begin", .param = "cold", \
     .doc = "Boot the VM, also where there is a template to fork it from."}, \
    {.name = "label", .value = "NAME=VALUE", .method = "vm.create.begin", .param = "labels", \
     .doc = "Label the VM; may be repeated."}, \
    {.name = "net", .value = "MODE", .method = "vm.create.begin", .param = "net"}, \
    {.name = "description", .value = "TEXT", .method = "vm.create.begin", \
     .param = "description"}, \
    {.name = "restart", .value = "POLICY", .method = "vm.create.begin", .param = "restart", \
     .doc = RESTART_HELP}, \
    {.name = "autostart", .method = "vm.create.begin", .param = "autostart"}, \
    {.name = "auto-stop-after", .value = "TIME", .method = "vm.create.begin", \
     .param = "auto_stop_after_ms", .unit = UNIT_MS, .doc = AUTO_STOP_HELP}, \
    {.name = "expires-after", .value = "TIME", .method = "vm.create.begin", \
     .param = "expires_after_ms", .unit = UNIT_MS, .doc = EXPIRES_HELP}, \
    {.name = "timeout", .value = "TIME", .unit = UNIT_MS, \
     .doc = "How long creating and starting the VM may take, such as 90s or 5m. Default: as " \
            "long as it makes progress."}
/* cli/select.h */
#define FLAG_FILTER \
    {.name = "filter", .value = "KEY=PATTERN", \
     .doc = "Only what has such a value, as in --filter state=running; KEY!=PATTERN: only what " \
            "has not. May be repeated."}
#define FLAGS_SELECT FLAG_FILTER, \
    {.name = "sort", .value = "KEY", .doc = "In the order of these values."}, \
    {.name = "reverse", .doc = "In the opposite order."}
#define MORE_SELECT \
    "A KEY is a member of the JSON form, such as name, image.name or labels.team. A PATTERN may " \
    "have *, ? and [...]. Patterns for one key are alternatives."
#define FLAG_FORCE(m) {.name = "force", .letter = 'f', .method = m, .param = "force"}
#define FLAG_TIMEOUT(m) \
    {.name = "timeout", .value = "TIME", .method = m, .param = "timeout_ms", .unit = UNIT_MS}
/* clang-format on */
