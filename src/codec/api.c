#include "codec/api.h"
#include "codec/api_params.h"

#define PARAMS(...)                                                                                \
    (const struct api_param[])                                                                     \
    {                                                                                              \
        __VA_ARGS__, {0}                                                                           \
    }
#define NO_PARAMS                                                                                  \
    (const struct api_param[])                                                                     \
    {{0}}

/* Results: an object of api_objects.c, or an array of them. */
#define ONE(name) {.object = &api_##name}
#define LIST(name) {.object = &api_##name, .list = true}
#define PARTIAL_LIST(name) {.object = &api_##name, .list = true, .partial = true}

const struct api_object api_session_spec = {
    .name = "SessionSpec",
    .members = PARAMS(P_SESSION_SPEC),
    .doc = "What to run in a guest, and how.",
};

const struct api_method api_methods[] = {
    {
        .name = "rpc.discover",
        .params = NO_PARAMS,
        .result = ONE(document),
        .doc = "Describes all methods.",
    },
    {
        .name = "rpc.cancel",
        .params = PARAMS({.name = "id",
                          .type = API_CALL_ID,
                          .required = true,
                          .doc = "Id of a request sent earlier on this connection."}),
        .result = ONE(cancelled),
        .doc = "Cancels a request that is still running; that request answers with `cancelled`.",
    },
    {
        .name = "daemon.ping",
        .params = NO_PARAMS,
        .result = ONE(nothing),
        .doc = "Answers.",
    },
    {
        .name = "daemon.status",
        .params = NO_PARAMS,
        .result = ONE(daemon_status),
        .doc = "Tells version, paths, owner and how many VMs are in which state.",
    },
    {
        .name = "daemon.stop",
        .params = NO_PARAMS,
        .result = ONE(nothing),
        .doc = "Ends the daemon. Running VMs go on; the next daemon adopts them.",
    },
    {
        .name = "daemon.reconcile",
        .flags = API_SLOW,
        .params = PARAMS({.name = "dry_run",
                          .type = API_BOOL,
                          .fallback = "false",
                          .doc = "Only tell what would be done."}),
        .result = LIST(discrepancy),
        .doc = "Compares the store and its ledger with the host, and mends what differs. Only what "
               "is banger's own is touched; a disk whose VM is not known is told and kept.",
    },
    {
        .name = "daemon.verify_store",
        .flags = API_SLOW,
        .params = NO_PARAMS,
        .result = ONE(store_check),
        .doc = "Checks the database: its pages, its references, and what its rows say.",
    },
    {
        .name = "config.show",
        .params = NO_PARAMS,
        .result = ONE(configuration),
        .doc = "Shows the configuration that the daemon has read, with the origin of each value.",
    },
    {
        .name = "doctor",
        .flags = API_SLOW,
        .params = NO_PARAMS,
        .result = LIST(finding),
        .doc = "Checks what banger needs of the host, its own files and its VMs. Changes nothing.",
    },
    {
        .name = "vm.create.begin",
        .params = PARAMS(
            {.name = "name",
             .type = API_STRING,
             .min = 1,
             .max = 63,
             .doc = "Name of the new VM, a DNS label (a-z 0-9 -). Default: a generated one."},
            P_IMAGE, P_KERNEL, P_VMM, P_INIT, P_VCPUS, P_MEMORY, P_DISK, P_NET,
            {.name = "labels",
             .type = API_LABELS,
             .max = API_VM_LABELS_MAX,
             .doc = "Labels, names to values."},
            {.name = "description",
             .type = API_STRING,
             .max = 1024,
             .fallback = "",
             .doc = "Text about it, for people."},
            P_RESTART(.fallback = "no"),
            {.name = "autostart", .type = API_BOOL, .fallback = "false", .doc = P_AUTOSTART_DOC},
            P_AUTO_STOP(.fallback = "0"), P_EXPIRES(.fallback = "0"),
            {.name = "start",
             .type = API_BOOL,
             .fallback = "true",
             .doc = "Start the VM after creating it."},
            {.name = "cold",
             .type = API_BOOL,
             .fallback = "false",
             .doc = "Boot it, also where there is a template that it could be forked from."},
            {.name = "auto_remove",
             .type = API_BOOL,
             .fallback = "false",
             .doc = "Delete the VM when its main session ends, or when it stops."},
            {.name = "main",
             .type = API_OBJECT,
             .object = &api_session_spec,
             .doc = "Session to start first: the parameters of session.start without vm."},
            {.name = "hold",
             .type = API_BOOL,
             .fallback = "false",
             .doc = "Bind it to this connection: when the connection ends, the operation is "
                    "cancelled; later the VM is deleted if it is auto_remove, else the main "
                    "session is treated as by session.start."}),
        .result = ONE(operation),
        .doc = "Creates a VM, starts it and its main session. The operation's result is "
               "{vm: VM, session: Session or null}.",
    },
    {
        .name = "vm.list",
        .params = PARAMS(
            {.name = "all",
             .type = API_BOOL,
             .fallback = "true",
             .doc = "false: only those that are not stopped."},
            {.name = "members",
             .type = API_MEMBERS,
             .object = &api_vm,
             .max = 64,
             .doc = "Only these members of each VM, and `id`; `image.name` is a member of one. "
                    "Default: all."},
            {.name = "limit",
             .type = API_INT,
             .min = 0,
             .max = 1000000,
             .fallback = "0",
             .doc = "At most so many; fewer when more do not fit into a line. 0: all, or "
                    "the error `limit` when they do not fit."},
            {.name = "after",
             .type = API_OBJECT,
             .object = &api_vm_position,
             .doc = "Only those behind this VM, the last one of the page before, which "
                    "may be deleted by now. A page without VMs is the end."}),
        .result = PARTIAL_LIST(vm),
        .doc = "Lists VMs, oldest first.",
    },
    {
        .name = "vm.show",
        .params = PARAMS(P_VM),
        .result = ONE(vm),
        .doc = "Shows one VM.",
    },
    {
        .name = "vm.start",
        .flags = API_SLOW,
        .params = PARAMS(P_VM),
        .result = ONE(vm),
        .doc = "Boots a stopped VM. One that runs already is fine.",
    },
    {
        .name = "vm.stop",
        .flags = API_SLOW,
        .params = PARAMS(P_VM,
                         {.name = "force",
                          .type = API_BOOL,
                          .fallback = "false",
                          .doc = "End the VM even if the guest does not agree; unwritten data of "
                                 "the guest is lost."},
                         P_TIMEOUT("30000", "How long the guest may take to sync and go down.")),
        .result = {.object = &api_vm, .nullable = true},
        .doc =
            "Stops a VM: the guest syncs its disks and goes down. Without its agreement the VM "
            "keeps running and the error is `timeout`, or `no_space` when it is paused because the "
            "host's disk is full. The result is null when stopping deleted "
            "it (auto_remove).",
    },
    {
        .name = "vm.restart",
        .flags = API_SLOW,
        .params =
            PARAMS(P_VM,
                   {.name = "force",
                    .type = API_BOOL,
                    .fallback = "false",
                    .doc = "End the VM even if the guest does not agree; unwritten data of the "
                           "guest is lost."},
                   P_TIMEOUT("30000", "How long the guest may take to sync and go down.")),
        .result = ONE(vm),
        .doc = "Stops a VM as vm.stop does, if it runs, and boots it. One with auto_remove is "
               "refused.",
    },
    {
        .name = "vm.kill",
        .flags = API_SLOW,
        .params =
            PARAMS(P_VM, {.name = "signal",
                          .type = API_STRING,
                          .min = 1,
                          .max = 16,
                          .fallback = "KILL",
                          .doc = "KILL ends the VM at once, as vm.stop with force does. Any other "
                                 "signal, such as TERM or 15, goes to its main session."}),
        .result = {.object = &api_vm, .nullable = true},
        .doc = "Ends a VM at once, or sends its main session a signal. The result is null when "
               "the end deleted it (auto_remove).",
    },
    {
        .name = "vm.pause",
        .flags = API_SLOW,
        .params = PARAMS(P_VM),
        .result = ONE(vm),
        .doc = "Stops the CPUs of a VM until vm.resume. What needs its guest is refused "
               "meanwhile. One that is paused already is fine.",
    },
    {
        .name = "vm.resume",
        .flags = API_SLOW,
        .params = PARAMS(P_VM),
        .result = ONE(vm),
        .doc = "Lets a paused VM go on. One that runs already is fine.",
    },
    {
        .name = "vm.set",
        .flags = API_SLOW,
        .params = PARAMS(
            P_VM,
            {.name = "name",
             .type = API_STRING,
             .min = 1,
             .max = 63,
             .doc = "New name, a DNS label that no other VM has; also the guest's host name."},
            {.name = "description",
             .type = API_STRING,
             .max = 1024,
             .doc = "Text about it, for people; empty: none."},
            {.name = "labels",
             .type = API_LABELS,
             .max = API_VM_LABELS_MAX,
             .doc = "Labels to add, or whose value to change."},
            {.name = "unlabel",
             .type = API_BYTES_LIST,
             .max = 64,
             .doc = "Names of labels to remove; one that is not there is fine."},
            {.name = "net",
             .type = API_STRING,
             .max = 16,
             .choices = "nat|none",
             .doc = "How it is connected, from now on."},
            {.name = "vcpus",
             .type = API_INT,
             .nullable = true,
             .min = 1,
             .max = 64,
             .doc = "Virtual CPUs, from the next start on."},
            {.name = "memory_mib",
             .type = API_INT,
             .nullable = true,
             .min = 64,
             .max = 1048576,
             .doc = "Memory in MiB, from the next start on."},
            {.name = "disk_bytes",
             .type = API_INT,
             .nullable = true,
             .min = 67108864,
             .max = 70368744177664,
             .doc = "Size of the data disk in bytes, and of its filesystem: at once in a VM that "
                    "runs, where its VMM and its agent can, else from the next start on. It "
                    "cannot shrink."},
            P_RESTART(.nullable = true),
            {.name = "autostart", .type = API_BOOL, .nullable = true, .doc = P_AUTOSTART_DOC},
            P_AUTO_STOP(.nullable = true), P_EXPIRES(.nullable = true),
            {.name = "dry_run",
             .type = API_BOOL,
             .fallback = "false",
             .doc = "Only tell what would be done."}),
        .result = ONE(vm_set),
        .doc = "Changes a VM: all that is asked for, or nothing and an error. What is left "
               "out, or null, stays as it is.",
    },
    {
        .name = "vm.touch",
        .flags = API_SLOW,
        .params = PARAMS(P_VM),
        .result = ONE(vm),
        .doc = "Says that somebody still wants it: it is not idle, and the time after which it "
               "expires begins anew.",
    },
    {
        .name = "vm.timeline",
        .params = PARAMS(P_VM),
        .result = LIST(vm_start),
        .doc = "Lists a VM's starts, the last hundred, oldest first, with their steps.",
    },
    {
        .name = "vm.prune",
        .flags = API_SLOW,
        .params = PARAMS({.name = "stopped_for_ms",
                          .type = API_INT,
                          .min = 0,
                          .max = YEAR_MS,
                          .fallback = "86400000",
                          .doc = "Only VMs that have been stopped for so long."},
                         {.name = "dry_run",
                          .type = API_BOOL,
                          .fallback = "false",
                          .doc = "Only tell which would be deleted."}),
        .result = LIST(pruned),
        .doc = "Deletes VMs that have been stopped for a while, and do not start by themselves. "
               "What somebody works on is left out.",
    },
    {
        .name = "vm.delete",
        .flags = API_SLOW,
        .params = PARAMS(P_VM, {.name = "force",
                                .type = API_BOOL,
                                .fallback = "false",
                                .doc = "Also when it is running, or somebody works on it."}),
        .result = ONE(nothing),
        .doc = "Deletes a VM and its disk. A running one is refused unless force is set.",
    },
    {
        .name = "vm.wait",
        .flags = API_SLOW,
        .params = PARAMS(P_VM,
                         {.name = "until",
                          .type = API_STRING,
                          .max = 16,
                          .choices = "running|stopped|deleted",
                          .fallback = "stopped",
                          .doc = "What to wait for."},
                         P_TIMEOUT("0", "Give up after this time; 0 = never.")),
        .result = ONE(nothing),
        .doc = "Waits until a VM is in a state, or deleted.",
    },
    {
        .name = "vm.logs",
        .flags = API_SLOW,
        .params = PARAMS(P_VM,
                         {.name = "source",
                          .type = API_STRING,
                          .max = 16,
                          .choices = "console|vmm|agent",
                          .fallback = "console",
                          .doc = "The guest's serial console, what the VMM printed, or what the "
                                 "console has of the agent."},
                         {.name = "tail_bytes",
                          .type = API_INT,
                          .min = 1,
                          .max = 262144,
                          .fallback = "65536",
                          .doc = "How much of the end."},
                         {.name = "after",
                          .type = API_INT,
                          .nullable = true,
                          .min = 0,
                          .max = 9007199254740991, /* what any JSON reader holds */
                          .doc = "Not the end, but the next piece behind this position, which an "
                                 "earlier piece has ended at. It means nothing to another daemon."},
                         {.name = "wait",
                          .type = API_BOOL,
                          .fallback = "false",
                          .doc = "With after: answer when there is something behind it, however "
                                 "long that takes and however often the VM starts; `not_found` "
                                 "when the VM is deleted."}),
        .result = ONE(log),
        .doc = "Reads a VM's log. The text is the guest's: escape it before it reaches a terminal.",
    },
    {
        .name = "vm.stats",
        .flags = API_SLOW,
        .params = PARAMS(P_VM,
                         {.name = "interval_ms",
                          .type = API_INT,
                          .min = 10,
                          .max = 60000,
                          .fallback = "500",
                          .doc = "Time over which the use of CPUs is measured."},
                         P_TIMEOUT("2000", "How long the guest may take to answer.")),
        .result = ONE(vm_stats),
        .doc = "Measures what a running VM uses, and asks its guest. What cannot be told is null.",
    },
    {
        .name = "vm.top",
        .flags = API_SLOW,
        .params = PARAMS(P_VM, P_TIMEOUT("5000", "How long the guest may take to answer.")),
        .result = ONE(processes),
        .doc = "Lists the processes of a VM's guest, as the guest says.",
    },
    {
        .name = "vm.ports",
        .flags = API_SLOW,
        .params = PARAMS(P_VM, P_TIMEOUT("5000", "How long the guest may take to answer.")),
        .result = ONE(listeners),
        .doc = "Lists on which TCP and UDP ports programs in a VM's guest listen, as it says.",
    },
    {
        .name = "vm.ping",
        .flags = API_LATER,
        .params = PARAMS(P_VM, P_TIMEOUT("5000", "Give up after this time.")),
        .result = ONE(ping),
        .doc = "Asks the guest's agent for an answer and tells how long it took, in "
               "microseconds.",
    },
    {
        .name = "session.start",
        .flags = API_SLOW,
        .params = PARAMS(
            P_VM, P_SESSION_SPEC,
            {.name = "hold",
             .type = API_BOOL,
             .fallback = "false",
             .doc = "When this connection ends: with stdin pipe, hang the session up (SIGHUP); "
                    "with stdin closed it goes on. What it writes is dropped while no client "
                    "is attached."}),
        .result = ONE(session),
        .doc = "Starts a command in a running VM. A command that cannot be started is a session "
               "in state `failed`, with exit code 125, 126 or 127 and the reason.",
    },
    {
        .name = "session.hold",
        .flags = API_SLOW,
        .params = PARAMS(P_VM, P_SESSION),
        .result = ONE(session),
        .doc = "Holds a session as `hold` of `session.start` does: it is let go when this "
               "connection ends, and an `auto_remove` VM whose main session it is is deleted. For "
               "a client whose daemon ended: what it held waits for it for 10 seconds.",
    },
    {
        .name = "session.attach",
        .flags = API_TAKES_OVER | API_SLOW,
        .params = PARAMS(P_VM, P_SESSION),
        .result = ONE(session),
        .doc = "Turns the connection into the session's byte streams: frames of session number "
               "0 in both directions (see Frames). The output is sent as the client's WINDOW "
               "frames allow, from the offset on that the first of them names; so a client goes "
               "on where it was, also with the next daemon.",
    },
    {
        .name = "session.list",
        .flags = API_SLOW,
        .params = PARAMS(P_VM),
        .result = LIST(session),
        .doc = "Lists a VM's sessions, oldest first.",
    },
    {
        .name = "session.wait",
        .flags = API_SLOW,
        .params = PARAMS(P_VM, P_SESSION, P_TIMEOUT("0", "Give up after this time; 0 = never.")),
        .result = ONE(session),
        .doc = "Waits until a session has ended.",
    },
    {
        .name = "session.connect",
        .flags = API_SLOW | API_TAKES_OVER,
        .params = PARAMS(P_VM,
                         {.name = "host",
                          .type = API_STRING,
                          .min = 1,
                          .max = 45,
                          .fallback = "localhost",
                          .doc = "With port: localhost, or an IPv4 or IPv6 address, as the guest "
                                 "knows it."},
                         {.name = "port",
                          .type = API_INT,
                          .min = 1,
                          .max = 65535,
                          .nullable = true,
                          .doc = "A TCP port."},
                         {.name = "path",
                          .type = API_STRING,
                          .min = 1,
                          .max = 107,
                          .doc = "Instead of a port: the absolute path of a Unix socket in the "
                                 "guest."}),
        .result = ONE(session),
        .doc = "Connects to a service in a running VM, through its agent: it needs no network. The "
               "connection becomes the byte streams of a session (see Frames): stdin goes to the "
               "service, stdout comes from it, and each may end by itself; stderr ends once it is "
               "connected. When the service cannot be reached stderr has where, reason and hint, "
               "each ended by NUL, and the exit status is 1. The session ends with the connection "
               "and leaves no record.",
    },
    {
        .name = "file.put",
        .flags = API_SLOW | API_TAKES_OVER,
        .params = PARAMS(P_VM,
                         {.name = "path",
                          .type = API_BYTES,
                          .required = true,
                          .min = 1,
                          .max = 4095,
                          .doc = "Destination in the guest; relative to its root."},
                         {.name = "names",
                          .type = API_BYTES_LIST,
                          .max = 4000,
                          .doc = "What may come, by first component. One alone may become path "
                                 "itself; without any, everything below path, which must be a "
                                 "directory."},
                         {.name = "directory",
                          .type = API_BOOL,
                          .fallback = "false",
                          .doc = "The destination must be a directory."},
                         P_FILES),
        .result = ONE(session),
        .doc = "Unpacks a tar stream in a running VM. The connection becomes the byte streams of a "
               "session (see Frames): stdin takes the tar, stderr has path, reason and hint of "
               "each failure, each ended by NUL, and the exit status is 0, or 1 when something is "
               "missing. Each file appears complete or not at all; ways out of the destination "
               "are refused. The session ends with the connection and leaves no record.",
    },
    {
        .name = "file.get",
        .flags = API_SLOW | API_TAKES_OVER,
        .params = PARAMS(P_VM,
                         {.name = "paths",
                          .type = API_BYTES_LIST,
                          .required = true,
                          .min = 1,
                          .max = 4000,
                          .doc = "What to pack, each under its last component; relative to the "
                                 "guest's root."},
                         P_FILES),
        .result = ONE(session),
        .doc = "Packs files of a running VM as a tar stream. As with file.put, but the tar is "
               "the session's stdout.",
    },
    {
        .name = "op.list",
        .params = NO_PARAMS,
        .result = LIST(operation),
        .doc = "Lists operations, oldest first. Ended ones are kept for a while.",
    },
    {
        .name = "op.status",
        .params = PARAMS(P_OP),
        .result = ONE(operation),
        .doc = "Shows one operation.",
    },
    {
        .name = "op.watch",
        .flags = API_NOTIFIES | API_SLOW,
        .params = PARAMS(P_OP, {.name = "progress",
                                .type = API_BOOL,
                                .fallback = "true",
                                .doc = "false: only the answer."}),
        .result = ONE(operation),
        .doc = "Sends `op.progress` notifications with the operation whenever it changes, and "
               "answers when it has ended.",
    },
    {
        .name = "op.cancel",
        .params = PARAMS(P_OP),
        .result = ONE(operation),
        .doc = "Asks an operation to end; all it made is undone.",
    },
    {
        .name = "events.list",
        .params = PARAMS(P_SINCE, {.name = "limit",
                                   .type = API_INT,
                                   .min = 1,
                                   .max = 1000,
                                   .fallback = "1000",
                                   .doc = "At most so many."}),
        .result = LIST(event),
        .doc = "Lists events, oldest first. When the first one's number is not the next after "
               "`since`, those between are no longer kept.",
    },
    {
        .name = "events.subscribe",
        .flags = API_NOTIFIES | API_SLOW,
        .params = PARAMS(P_SINCE),
        .result = {.object = &api_nothing},
        .doc = "Sends an `events.event` notification for each event that there is and that comes, "
               "until it is cancelled. Who does not read them is cut with `limit` and told from "
               "where to go on.",
    },
    {
        .name = "template.list",
        .params = NO_PARAMS,
        .result = LIST(template),
        .doc = "Lists templates, oldest first.",
    },
    {
        .name = "template.show",
        .params = PARAMS(P_TEMPLATE),
        .result = ONE(template),
        .doc = "Returns one template.",
    },
    {
        .name = "template.create.begin",
        .params = PARAMS(P_IMAGE, P_KERNEL, P_VMM, P_INIT, P_VCPUS, P_MEMORY, P_DISK),
        .result = ONE(operation),
        .doc = "Boots a machine as vm.create.begin would with these parameters, and saves it: VMs "
               "with the same parameters are then forked from it. The operation's result is the "
               "Template, which may have been there already.",
    },
    {
        .name = "template.delete",
        .params = PARAMS(P_TEMPLATE),
        .result = ONE(nothing),
        .doc = "Deletes a template. VMs that were forked from it go on.",
    },
    {
        .name = "template.pool",
        .params =
            PARAMS(P_TEMPLATE, {.name = "size",
                                .type = API_INT,
                                .min = 0,
                                .max = 256,
                                .nullable = true,
                                .doc = "How many forks are kept ready while it is in use. Default: "
                                       "pool_size of the configuration."}),
        .result = ONE(template),
        .doc = "Sets how large a template's pool is.",
    },
    {
        .name = "template.verify",
        .flags = API_SLOW,
        .params = PARAMS({.name = "template",
                          .type = API_STRING,
                          .min = 1,
                          .max = 64,
                          .doc = "Id of one, or a unique prefix of it. Default: all."}),
        .result = LIST(template_check),
        .doc = "Compares the files of templates with what was saved, and removes those that are "
               "broken.",
    },
    {
        .name = "template.prune",
        .flags = API_SLOW,
        .params = PARAMS({.name = "unused_for_ms",
                          .type = API_INT,
                          .min = 0,
                          .max = YEAR_MS,
                          .fallback = "604800000",
                          .doc = "Those that no VM was forked from for so long."},
                         {.name = "keep_bytes",
                          .type = API_INT,
                          .min = 0,
                          .max = 1125899906842624,
                          .nullable = true,
                          .doc = "And of the rest those that were not used for longest, until "
                                 "what is left occupies at most so much of the disk."},
                         {.name = "dry_run",
                          .type = API_BOOL,
                          .fallback = "false",
                          .doc = "Only tell which would be deleted."}),
        .result = LIST(template),
        .doc = "Deletes templates that are not used.",
    },
    {
        .name = "image.list",
        .params = NO_PARAMS,
        .result = LIST(image),
        .doc = "Lists images.",
    },
    {
        .name = "image.register.begin",
        .params = PARAMS({.name = "name",
                          .type = API_STRING,
                          .required = true,
                          .min = 1,
                          .max = 128,
                          .doc = "Name to give it; a name that exists moves to the new image."},
                         {.name = "path",
                          .type = API_BYTES,
                          .required = true,
                          .max = 4095,
                          .doc = "Absolute path of a root filesystem: a tar (plain, gzip, xz, "
                                 "zstd) or an ext4 image."}),
        .result = ONE(operation),
        .doc = "Makes an image of a local file. The operation's result is the Image.",
    },
    {
        .name = "kernel.list",
        .params = NO_PARAMS,
        .result = LIST(kernel),
        .doc = "Lists kernels.",
    },
    {
        .name = "kernel.import.begin",
        .params = PARAMS({.name = "name",
                          .type = API_STRING,
                          .required = true,
                          .min = 1,
                          .max = 128,
                          .doc = "Name to give it; a name that exists moves to the new kernel."},
                         {.name = "path",
                          .type = API_BYTES,
                          .required = true,
                          .max = 4095,
                          .doc = "Absolute path of an unpacked kernel package: a directory with "
                                 "boot/vmlinuz-VERSION and lib/modules/VERSION."}),
        .result = ONE(operation),
        .doc = "Imports a boot kernel and the modules that a guest needs. The operation's result "
               "is the Kernel.",
    },
    {0},
};

const struct api_notification api_notifications[] = {
    {
        .name = "events.event",
        .method = "events.subscribe",
        .params = &api_event,
        .doc = "An event.",
    },
    {
        .name = "op.progress",
        .method = "op.watch",
        .params = &api_operation,
        .doc = "The operation as it is now.",
    },
    {0},
};
