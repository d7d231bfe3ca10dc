/* Parameters that several methods have, for api.c only. */
#pragma once

#include "codec/api.h"

/* Shared parameters. */
#define P_VM                                                                                       \
    {.name = "vm",                                                                                 \
     .type = API_STRING,                                                                           \
     .required = true,                                                                             \
     .min = 1,                                                                                     \
     .max = 64,                                                                                    \
     .doc = "Name, id or unique id prefix of a VM."}
#define P_SESSION                                                                                  \
    {.name = "session",                                                                            \
     .type = API_STRING,                                                                           \
     .required = true,                                                                             \
     .min = 1,                                                                                     \
     .max = 64,                                                                                    \
     .doc = "Id of a session."}
#define P_OP                                                                                       \
    {.name = "op",                                                                                 \
     .type = API_STRING,                                                                           \
     .required = true,                                                                             \
     .min = 1,                                                                                     \
     .max = 64,                                                                                    \
     .doc = "Id of an operation."}
#define P_SINCE                                                                                    \
    {.name = "since",                                                                              \
     .type = API_INT,                                                                              \
     .min = 0,                                                                                     \
     .max = 1LL << 53, /* what a number is exact to in JavaScript */                               \
     .fallback = "0",                                                                              \
     .doc = "Only events with a greater number."}
#define P_TIMEOUT(ms, text)                                                                        \
    {.name = "timeout_ms", .type = API_INT, .min = 0, .max = 86400000, .fallback = ms, .doc = text}

/* What a VM is made of: vm.create.begin, template.create.begin. */
#define P_IMAGE                                                                                    \
    {.name = "image",                                                                              \
     .type = API_STRING,                                                                           \
     .min = 1,                                                                                     \
     .max = 128,                                                                                   \
     .doc = "Image name or digest. Default: default_image of the configuration."}
#define P_KERNEL                                                                                   \
    {.name = "kernel",                                                                             \
     .type = API_STRING,                                                                           \
     .min = 1,                                                                                     \
     .max = 128,                                                                                   \
     .doc = "Kernel name or digest. Default: default_kernel of the configuration."}
#define P_VMM                                                                                      \
    {.name = "vmm",                                                                                \
     .type = API_STRING,                                                                           \
     .max = 16,                                                                                    \
     .choices = "auto|qemu|firecracker|fake",                                                      \
     .fallback = "auto",                                                                           \
     .doc = "Program that runs the VM."}
#define P_INIT                                                                                     \
    {.name = "init",                                                                               \
     .type = API_STRING,                                                                           \
     .max = 16,                                                                                    \
     .choices = "agent|image",                                                                     \
     .fallback = "agent",                                                                          \
     .doc = "What is process 1 in it: banger's agent, or the image's own init, which "             \
            "starts its services."}
#define P_NET                                                                                      \
    {.name = "net",                                                                                \
     .type = API_STRING,                                                                           \
     .max = 16,                                                                                    \
     .choices = "auto|nat|none",                                                                   \
     .fallback = "auto",                                                                           \
     .doc = "How it is connected: nat = it reaches what the host reaches, but neither the host "   \
            "nor other VMs; none; auto = nat where the host allows it."}
#define P_VCPUS                                                                                    \
    {.name = "vcpus", .type = API_INT, .min = 1, .max = 64, .fallback = "1", .doc = "Virtual CPUs."}
#define P_MEMORY                                                                                   \
    {.name = "memory_mib",                                                                         \
     .type = API_INT,                                                                              \
     .min = 64,                                                                                    \
     .max = 1048576,                                                                               \
     .fallback = "512",                                                                            \
     .doc = "Memory in MiB."}
#define P_DISK                                                                                     \
    {.name = "disk_bytes",                                                                         \
     .type = API_INT,                                                                              \
     .min = 67108864,                                                                              \
     .max = 70368744177664,                                                                        \
     .fallback = "8589934592",                                                                     \
     .doc = "Size of the data disk in bytes; it occupies what is written to it."}
#define P_TEMPLATE                                                                                 \
    {.name = "template",                                                                           \
     .type = API_STRING,                                                                           \
     .required = true,                                                                             \
     .min = 1,                                                                                     \
     .max = 64,                                                                                    \
     .doc = "Id of the template, or a unique prefix of it."}

/* What a VM does by itself: vm.create.begin, vm.set. `...` says what is so when it is left out. */
#define YEAR_MS 31622400000
#define P_RESTART(...)                                                                             \
    {.name = "restart",                                                                            \
     .type = API_STRING,                                                                           \
     .min = 1,                                                                                     \
     .max = 23,                                                                                    \
     .doc = "When to start the VM again: no; on-failure, when it or its guest has died or the "    \
            "guest reboots; on-failure:N, so often in a row at most; always, also when the guest " \
            "has powered off. Never after it was stopped or killed.",                              \
     __VA_ARGS__}
#define P_AUTOSTART_DOC                                                                            \
    "Start the VM when the daemon is first started after the host was, however the VM ended."
#define P_AUTO_STOP(...)                                                                           \
    {.name = "auto_stop_after_ms",                                                                 \
     .type = API_INT,                                                                              \
     .min = 0,                                                                                     \
     .max = YEAR_MS,                                                                               \
     .doc = "Stop the VM when no session has been in it for so long; 0: never.",                   \
     __VA_ARGS__}
#define P_EXPIRES(...)                                                                             \
    {.name = "expires_after_ms",                                                                   \
     .type = API_INT,                                                                              \
     .min = 0,                                                                                     \
     .max = YEAR_MS,                                                                               \
     .doc = "Delete the VM, running or not, so long after it was created, touched or set; 0: "     \
            "never.",                                                                              \
     __VA_ARGS__}

/* What runs in a guest: session.start, and vm.create.begin's main. */
#define P_SESSION_SPEC                                                                             \
    {.name = "command",                                                                            \
     .type = API_BYTES_LIST,                                                                       \
     .min = 0,                                                                                     \
     .max = 4096,                                                                                  \
     .required = true,                                                                             \
     .doc = "The program and its arguments, byte-exact; no shell. None, with tty: the user's "     \
            "login shell."},                                                                       \
        {.name = "env",                                                                            \
         .type = API_BYTES_LIST,                                                                   \
         .max = 4096,                                                                              \
         .doc = "NAME=value entries, added to the user's usual environment."},                     \
        {.name = "cwd",                                                                            \
         .type = API_BYTES,                                                                        \
         .max = 4095,                                                                              \
         .doc = "Absolute working directory in the guest. Default: the user\'s home."},            \
        {.name = "user",                                                                           \
         .type = API_STRING,                                                                       \
         .max = 128,                                                                               \
         .fallback = "root",                                                                       \
         .doc = "Name or uid in the guest, with :group if wanted."},                               \
        {.name = "stdin",                                                                          \
         .type = API_STRING,                                                                       \
         .max = 16,                                                                                \
         .choices = "closed|pipe",                                                                 \
         .fallback = "closed",                                                                     \
         .doc = "closed: the command reads /dev/null, or nothing on its terminal; pipe: an "       \
                "attached client may write."},                                                     \
        {.name = "tty",                                                                            \
         .type = API_OBJECT,                                                                       \
         .object = &api_terminal,                                                                  \
         .doc = "Run on a terminal of this size; stderr is stdout."}

/* What file.put and file.get share. */
#define P_FILES                                                                                    \
    {.name = "recursive",                                                                          \
     .type = API_BOOL,                                                                             \
     .fallback = "false",                                                                          \
     .doc = "Directories, symlinks, FIFOs and devices as well, not only regular files."},          \
        {.name = "archive",                                                                        \
         .type = API_BOOL,                                                                         \
         .fallback = "false",                                                                      \
         .doc = "Keep owners, set-id bits, capabilities, ACLs and devices."},                      \
        {.name = "user",                                                                           \
         .type = API_STRING,                                                                       \
         .max = 128,                                                                               \
         .fallback = "root",                                                                       \
         .doc = "Who reads or writes in the guest: name or uid, with :group if wanted."}
