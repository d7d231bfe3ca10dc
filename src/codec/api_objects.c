/* The table of objects: what requests take and replies return. Public names; see codec/api.h. */
#include "codec/api.h"

#define MEMBERS(...)                                                                               \
    (const struct api_param[])                                                                     \
    {                                                                                              \
        __VA_ARGS__, {0}                                                                           \
    }

/* A member that is always there, and one that may be null. */
#define HAS(member, kind, ...) {.name = member, .type = kind, .required = true, __VA_ARGS__}
#define MAY(member, kind, ...)                                                                     \
    {.name = member, .type = kind, .required = true, .nullable = true, __VA_ARGS__}
#define COUNT .min = 0, .max = INT64_MAX

#define VM_STATES                                                                                  \
    "created|starting|restoring|running|paused|suspended|stopping|stopped|pooled|error"

static const struct api_object anything = {
    .name = "Anything",
    .doc = "An object that this document says nothing about.",
};

const struct api_object api_document = {
    .name = "OpenRPC",
    .doc = "A document as of https://spec.open-rpc.org, version 1.2.",
};

const struct api_object api_nothing = {
    .name = "Nothing",
    .members = (const struct api_param[]){{0}},
    .doc = "An empty object.",
};

const struct api_object api_terminal = {
    .name = "Terminal",
    .members =
        MEMBERS(HAS("rows", API_INT, .min = 1, .max = 65535, .doc = "Height in characters."),
                HAS("columns", API_INT, .min = 1, .max = 65535, .doc = "Width in characters.")),
    .doc = "The size of a terminal.",
};

static const struct api_object error_data = {
    .name = "ErrorData",
    .members = MEMBERS(HAS("code", API_STRING, .doc = "Name of the error; see Errors."),
                       MAY("hint", API_STRING, .doc = "What to do about it."),
                       MAY("op", API_STRING, .doc = "Operation that failed."),
                       MAY("object", API_STRING, .doc = "What it was about.")),
    .doc = "What programs look at.",
};

static const struct api_object error = {
    .name = "Error",
    .members =
        MEMBERS(HAS("code", API_INT, .min = INT32_MIN, .max = 0, .doc = "Number of it."),
                HAS("message", API_STRING, .doc = "What went wrong, for people."),
                HAS("data", API_OBJECT, .object = &error_data, .doc = "The same for programs.")),
    .doc = "Why a request or an operation failed.",
};

static const struct api_object exit_status = {
    .name = "Exit",
    .members = MEMBERS(
        MAY("code", API_INT, .min = 0, .max = 255, .doc = "Exit status."),
        MAY("signal", API_INT, .min = 1, .max = 64, .doc = "Number of the signal that killed it.")),
    .doc = "How a command ended. One of both is null.",
};

/* VMs -------------------------------------------------------------------------------------------*/

static const struct api_object artifact_ref = {
    .name = "ArtifactRef",
    .members = MEMBERS(HAS("name", API_STRING, .doc = "What the VM was created with."),
                       HAS("digest", API_DIGEST, .doc = "What that was then.")),
    .doc = "The image or kernel of a VM.",
};

static const struct api_object vmm = {
    .name = "Vmm",
    .members =
        MEMBERS(HAS("name", API_STRING, .choices = "qemu|firecracker|fake", .doc = "Program."),
                MAY("version", API_STRING, .doc = "Its version; null before the first start."),
                MAY("accel", API_STRING, .choices = "kvm|tcg|none",
                    .doc = "How the guest runs; null before the first start."),
                MAY("why", API_STRING, .doc = "Why so.")),
    .doc = "The program that runs a VM.",
};

static const struct api_object network = {
    .name = "Network",
    .members = MEMBERS(
        HAS("mode", API_STRING, .choices = "none|nat", .doc = "How the VM is connected."),
        MAY("ipv4", API_STRING, .doc = "IPv4 address."),
        MAY("ipv6", API_STRING, .doc = "IPv6 address."),
        MAY("dns_name", API_STRING, .doc = "Name that leads to it."),
        HAS("ports", API_LIST, .object = &anything, .doc = "Published ports; none so far.")),
    .doc = "The network of a VM.",
};

static const struct api_object phase = {
    .name = "Phase",
    .members = MEMBERS(HAS("phase", API_STRING, .doc = "Name of it."),
                       HAS("ms", API_INT, COUNT, .doc = "How long it took.")),
    .doc = "A step of a VM's start.",
};

static const struct api_object vm_origin = {
    .name = "Origin",
    .members =
        MEMBERS(HAS("how", API_STRING, .choices = "boot|fork|pool",
                    .doc = "Whether it booted, is a fork of a template, or one that was ready."),
                MAY("template", API_ID, .doc = "Of which; it may be gone by now."),
                MAY("why", API_STRING, .doc = "Why so; null where there are no templates.")),
    .doc = "What a VM's last start was made of.",
};

const struct api_object api_vm = {
    .name = "VM",
    .members = MEMBERS(
        HAS("id", API_ID, .doc = "Never changes, and is never given to another VM."),
        HAS("name", API_STRING, .doc = "A DNS label; free again once the VM is deleted."),
        HAS("state", API_STRING, .choices = VM_STATES, .doc = "What it does."),
        MAY("reason", API_STRING, .doc = "Why it is in that state, such as `user` or `vmm_died`."),
        MAY("state_since", API_TIME, .doc = "Since when."),
        HAS("incarnation", API_INT, COUNT, .doc = "How many times it was started."),
        HAS("image", API_OBJECT, .object = &artifact_ref, .doc = "What is on its root disk."),
        HAS("kernel", API_OBJECT, .object = &artifact_ref, .doc = "What it boots."),
        HAS("vmm", API_OBJECT, .object = &vmm, .doc = "What runs it."),
        HAS("vcpus", API_INT, COUNT, .doc = "Virtual CPUs."),
        HAS("memory_mib", API_INT, COUNT, .doc = "Memory in MiB."),
        HAS("disk_bytes", API_INT, COUNT, .doc = "Size of the data disk."),
        HAS("pending", API_STRINGS,
            .doc = "Which of the last three were changed since it was started, and count from its "
                   "next start on."),
        HAS("init", API_STRING, .choices = "agent|image", .doc = "What is process 1 in it."),
        HAS("description", API_STRING, .doc = "For people; empty when there is none."),
        HAS("labels", API_LABELS, .max = API_VM_LABELS_MAX, .doc = "Labels, names to values."),
        HAS("network", API_OBJECT, .object = &network, .doc = "How it is connected."),
        HAS("sessions", API_INT, COUNT, .doc = "Sessions that run."),
        HAS("created_at", API_TIME, .doc = "When it was created."),
        MAY("started_at", API_TIME, .doc = "When it was last started."),
        MAY("start", API_OBJECT, .object = &vm_origin,
            .doc = "What it was started from; null before its first start."),
        MAY("exit", API_OBJECT, .object = &exit_status, .doc = "How its main session ended."),
        HAS("auto_remove", API_BOOL, .doc = "Deleted when its main session ends, or it stops."),
        HAS("restart", API_STRING,
            .doc = "When it is started again: no, on-failure, on-failure:N or always."),
        HAS("restart_count", API_INT, COUNT,
            .doc = "How often it was started again without running for 10 s."),
        MAY("restart_at", API_TIME, .doc = "When it is started again, if it is going to be."),
        HAS("autostart", API_BOOL, .doc = "Started when the host was."),
        HAS("auto_stop_after_ms", API_INT, COUNT,
            .doc = "Stopped when nobody has used it for so long; 0: never."),
        HAS("expires_after_ms", API_INT, COUNT, .doc = "How long it is kept; 0: for ever."),
        MAY("expires_at", API_TIME, .doc = "When it is deleted."),
        MAY("workspace", API_STRING, .doc = "Always null so far."),
        HAS("timeline", API_LIST, .object = &phase, .doc = "Steps of its last start.")),
    .doc = "A microVM.",
};

const struct api_object api_template = {
    .name = "Template",
    .members = MEMBERS(
        HAS("id", API_ID, .doc = "Follows from all that VMs must have in common with it."),
        HAS("image", API_OBJECT, .object = &artifact_ref, .doc = "What is on its root disk."),
        HAS("kernel", API_DIGEST, .doc = "What it booted."),
        HAS("vmm", API_STRING, .choices = "qemu|firecracker|fake", .doc = "What runs it."),
        HAS("vcpus", API_INT, COUNT, .doc = "Virtual CPUs."),
        HAS("memory_mib", API_INT, COUNT, .doc = "Memory in MiB."),
        HAS("disk_bytes", API_INT, COUNT, .doc = "Size of the data disk."),
        HAS("init", API_STRING, .choices = "agent|image", .doc = "What is process 1 in it."),
        HAS("tsc_khz", API_INT, COUNT, .doc = "Rate of the time stamp counter it was made at."),
        HAS("size_bytes", API_INT, COUNT, .doc = "What its files occupy."),
        HAS("loaded", API_BOOL, .doc = "Whether its memory is at hand for the next fork."),
        HAS("pool_size", API_INT, COUNT,
            .doc = "How many forks are kept ready while it is in use."),
        HAS("ready", API_INT, COUNT, .doc = "Forks in its pool, for the next VMs."),
        HAS("uses", API_INT, COUNT, .doc = "How many VMs were forked from it."),
        HAS("created_at", API_TIME, .doc = "When it was made."),
        HAS("used_at", API_TIME, .doc = "When a VM was last forked from it, else when made.")),
    .doc = "A machine that was saved, from which VMs are forked.",
};

const struct api_object api_template_check = {
    .name = "TemplateCheck",
    .members =
        MEMBERS(HAS("id", API_ID, .doc = "Of the template."),
                HAS("image", API_STRING, .doc = "What its image was called."),
                MAY("problem", API_STRING,
                    .doc = "What is wrong with it, for which it was removed; null: nothing.")),
    .doc = "What became of the check of a template.",
};

const struct api_object api_vm_start = {
    .name = "Start",
    .members =
        MEMBERS(HAS("incarnation", API_INT, COUNT, .doc = "Which start of the VM it was."),
                HAS("started_at", API_TIME, .doc = "When the VM ran."),
                MAY("accel", API_STRING, .choices = "kvm|tcg|none", .doc = "How the guest ran."),
                HAS("ms", API_INT, COUNT, .doc = "How long it took."),
                HAS("timeline", API_LIST, .object = &phase, .doc = "Its steps.")),
    .doc = "A start of a VM that went well.",
};

const struct api_object api_pruned = {
    .name = "Pruned",
    .members =
        MEMBERS(HAS("id", API_ID, .doc = "Of the VM."), HAS("name", API_STRING, .doc = "Its name."),
                HAS("state", API_STRING, .choices = VM_STATES, .doc = "What it was."),
                HAS("state_since", API_TIME, .doc = "Since when."),
                HAS("bytes", API_INT, COUNT, .doc = "What its files occupied."),
                MAY("error", API_STRING, .doc = "Why it could not be deleted.")),
    .doc = "A VM that vm.prune has deleted, or would delete.",
};

static const struct api_object vm_change = {
    .name = "VMChange",
    .members = MEMBERS(
        HAS("field", API_STRING, .doc = "What is changed: a parameter of vm.set."),
        HAS("from", API_STRING, .doc = "What it was, as text."),
        HAS("to", API_STRING, .doc = "What it becomes."),
        HAS("applies", API_STRING, .choices = "live|next_start|refused",
            .doc = "From when on: now, or the next start of the VM. Or not at all, see note."),
        MAY("note", API_STRING, .doc = "Why it is refused, or what went not as it should.")),
    .doc = "What vm.set does, or would do, to one field.",
};

const struct api_object api_vm_set = {
    .name = "VMSet",
    .members = MEMBERS(HAS("vm", API_OBJECT, .object = &api_vm, .doc = "The VM as it is now."),
                       HAS("changes", API_LIST, .object = &vm_change,
                           .doc = "Fields whose value is another now, or would be.")),
    .doc = "Result of vm.set.",
};

const struct api_object api_vm_position = {
    .name = "VMPosition",
    .members = MEMBERS(HAS("created_at", API_TIME, .doc = "As the VM says."),
                       HAS("id", API_ID, .doc = "Of the VM.")),
    .doc = "Where a VM stands in the list of all.",
};

/* Sessions --------------------------------------------------------------------------------------*/

static const struct api_object byte_counts = {
    .name = "ByteCounts",
    .members = MEMBERS(HAS("out", API_INT, COUNT, .doc = "Standard output, or the terminal's."),
                       HAS("err", API_INT, COUNT, .doc = "Standard error.")),
    .doc = "How much a session has written.",
};

const struct api_object api_session = {
    .name = "Session",
    .members = MEMBERS(
        HAS("id", API_ID, .doc = "Id of the session."), HAS("vm", API_ID, .doc = "Id of its VM."),
        MAY("name", API_STRING, .doc = "Always null so far."),
        HAS("state", API_STRING, .choices = "starting|running|exited|failed|lost",
            .doc = "failed: it could not be started; lost: its guest is gone."),
        HAS("command", API_BYTES_LIST, .max = 4096,
            .doc =
                "Program and arguments; empty for the login shell, and when a guest did not keep "
                "them for a new daemon."),
        HAS("command_shortened", API_BOOL,
            .doc =
                "Whether command is only the beginning: it was long, and the daemon that started "
                "it has ended."),
        MAY("cwd", API_BYTES, .doc = "Working directory that was asked for."),
        HAS("user", API_STRING, .doc = "User that was asked for."),
        HAS("tty", API_BOOL, .doc = "Whether it runs on a terminal."),
        HAS("stdin", API_STRING, .choices = "closed|pipe", .doc = "What it reads."),
        HAS("tags", API_LABELS, .max = 64, .doc = "Always empty so far."),
        MAY("exit", API_OBJECT, .object = &exit_status, .doc = "How it ended; null before."),
        MAY("error", API_STRING, .doc = "Why it could not be started."),
        HAS("started_at", API_TIME, .doc = "When it was started."),
        MAY("ended_at", API_TIME, .doc = "When it ended."),
        HAS("readers", API_INT, COUNT, .doc = "Clients that are attached."),
        HAS("writer", API_BOOL, .doc = "Whether one of them may write."),
        HAS("bytes", API_OBJECT, .object = &byte_counts, .doc = "What came out of it.")),
    .doc = "A command that runs, or ran, in a VM.",
};

/* Images and kernels ----------------------------------------------------------------------------*/

#define ARTIFACT                                                                                   \
    HAS("id", API_DIGEST, .doc = "The digest."),                                                   \
        HAS("digest", API_DIGEST, .doc = "Of the content."),                                       \
        HAS("names", API_STRINGS, .doc = "All names it has."),                                     \
        HAS("size_bytes", API_INT, COUNT, .doc = "Size."),                                         \
        HAS("created_at", API_TIME, .doc = "When it was made.")

const struct api_object api_image = {
    .name = "Image",
    .members = MEMBERS(ARTIFACT, HAS("managed", API_BOOL, .doc = "Whether banger keeps its disk."),
                       HAS("config", API_OBJECT, .object = &anything,
                           .doc = "What the image says about itself; empty for local files.")),
    .doc = "What VMs have on their root disk.",
};

const struct api_object api_kernel = {
    .name = "Kernel",
    .members = MEMBERS(ARTIFACT, HAS("version", API_STRING, .doc = "Release, as of uname -r.")),
    .doc = "What VMs boot.",
};

/* Operations ------------------------------------------------------------------------------------*/

static const struct api_object stage = {
    .name = "Stage",
    .members = MEMBERS(HAS("name", API_STRING, .doc = "What is done."),
                       HAS("ms", API_INT, COUNT, .doc = "For how long."),
                       HAS("bytes", API_INT, COUNT, .doc = "How much is done, where it is bytes."),
                       HAS("total", API_INT, COUNT, .doc = "Of how much; 0 = unknown.")),
    .doc = "A step of an operation.",
};

static const struct api_object created = {
    .name = "Created",
    .members = MEMBERS(HAS("vm", API_OBJECT, .object = &api_vm, .doc = "The new VM."),
                       MAY("session", API_OBJECT, .object = &api_session,
                           .doc = "Its main session, when one was asked for.")),
    .doc = "Result of vm.create.begin's operation.",
};

const struct api_object api_operation = {
    .name = "Operation",
    .members = MEMBERS(
        HAS("id", API_ID, .doc = "Id of the operation."),
        HAS("kind", API_STRING, .choices = "vm.create|image.register|kernel.import|template.create",
            .doc = "What it does."),
        HAS("target", API_STRING, .doc = "What it does it to; empty until that has a name."),
        HAS("state", API_STRING, .choices = "running|done|failed|cancelled", .doc = "How it goes."),
        MAY("stage", API_STRING, .doc = "Name of the last stage."),
        HAS("stages", API_LIST, .object = &stage, .doc = "All stages so far."),
        MAY("message", API_STRING, .doc = "What people should know."),
        MAY("error", API_OBJECT, .object = &error, .doc = "Why it failed."),
        MAY("result", API_ONE_OF,
            .objects = (const struct api_object *const[]){&created, &api_image, &api_kernel,
                                                          &api_template, NULL},
            .doc = "What it made; null until it is done.")),
    .doc = "A long job.",
};

/* Events ----------------------------------------------------------------------------------------*/

const struct api_object api_event = {
    .name = "Event",
    .members = MEMBERS(
        HAS("number", API_INT, .min = 1, .max = INT64_MAX,
            .doc = "One more than the last one's. Ten thousand are kept."),
        HAS("time", API_TIME, .doc = "When it happened."),
        HAS("kind", API_STRING,
            .doc = "`vm.created`, `vm.set` and `vm.deleted`; `vm.` and the state that a VM came "
                   "into, or whose reason changed; `image.named` and `kernel.named`: a name leads "
                   "to another digest than before; `template.created` and `template.deleted`."),
        MAY("object", API_STRING, .doc = "Id of the VM or template, or digest."),
        MAY("name", API_STRING, .doc = "Its name then; of a template its image's."),
        MAY("reason", API_STRING, .doc = "Why.")),
    .doc = "What became of something.",
};

/* The daemon ------------------------------------------------------------------------------------*/

static const struct api_object helper = {
    .name = "Helper",
    .members = MEMBERS(HAS("mode", API_STRING, .choices = "root helper|in process",
                           .doc = "Who starts VMs: a process that kept root, or the daemon.")),
    .doc = "What the daemon has for what only root may do.",
};

static const struct api_object networking = {
    .name = "Networking",
    .members = MEMBERS(HAS("mode", API_STRING, .choices = "nat|none", .doc = "What VMs can have."),
                       MAY("why", API_STRING, .doc = "Why none."),
                       MAY("ipv4", API_STRING, .doc = "Subnet of VMs' IPv4 addresses."),
                       MAY("ipv6", API_STRING, .doc = "Subnet of VMs' IPv6 addresses."),
                       HAS("addresses", API_INT, COUNT, .doc = "How many VMs there is room for."),
                       HAS("addresses_used", API_INT, COUNT, .doc = "How many VMs have one."),
                       HAS("taps_ready", API_INT, COUNT, .doc = "Devices that wait for a VM."),
                       HAS("taps_used", API_INT, COUNT, .doc = "Devices of VMs that run.")),
    .doc = "The network that VMs can have.",
};

const struct api_object api_daemon_status = {
    .name = "DaemonStatus",
    .members =
        MEMBERS(HAS("pid", API_INT, .min = 1, .max = INT32_MAX, .doc = "Process id."),
                HAS("version", API_STRING, .doc = "Version of the program."),
                HAS("socket", API_STRING, .doc = "Where it listens."),
                HAS("state_dir", API_STRING, .doc = "Where it keeps what must last."),
                MAY("dns", API_STRING, .doc = "Where programs of the host can ask for VMs' names."),
                MAY("web_url", API_STRING, .doc = "Always null so far."),
                HAS("owner", API_INT, COUNT, .doc = "uid that it serves, besides root."),
                HAS("helper", API_OBJECT, .object = &helper, .doc = "Its helper."),
                HAS("network", API_OBJECT, .object = &networking, .doc = "VMs' network."),
                HAS("vms", API_COUNTS, .choices = VM_STATES, .doc = "States to numbers of VMs."),
                HAS("started_at", API_TIME, .doc = "When it was started.")),
    .doc = "A daemon that runs.",
};

const struct api_object api_discrepancy = {
    .name = "Discrepancy",
    .members =
        MEMBERS(HAS("object", API_STRING, .doc = "What it is: a process, a directory, a VM."),
                MAY("vm", API_STRING, .doc = "Name of the VM that it is of."),
                HAS("problem", API_STRING, .doc = "What is wrong with it."),
                HAS("action", API_STRING, .choices = "adopt|stop|remove|kill|none",
                    .doc = "What mends it; none: it is for people to decide."),
                MAY("error", API_STRING, .doc = "Why it could not be mended.")),
    .doc = "Something of ours on the host that is not as it should be.",
};

const struct api_object api_store_check = {
    .name = "StoreCheck",
    .members = MEMBERS(HAS("problems", API_STRINGS, .doc = "What is wrong, in words.")),
    .doc = "What was found in the database.",
};

const struct api_object api_finding = {
    .name = "Finding",
    .members = MEMBERS(
        HAS("id", API_STRING, .doc = "Name of the check."),
        HAS("status", API_STRING, .choices = "pass|warn|fail",
            .doc = "warn: something is worse than it could be; fail: something cannot work."),
        HAS("summary", API_STRING, .doc = "What was found, in one line."),
        MAY("evidence", API_STRING, .doc = "What was looked at: paths and values."),
        MAY("fix", API_STRING, .doc = "A command or a setting that mends it.")),
    .doc = "Result of one check.",
};

static const struct api_object setting = {
    .name = "Setting",
    .members = MEMBERS(
        HAS("key", API_STRING, .doc = "Name of it."),
        MAY("value", API_SCALAR, .doc = "What the daemon uses; a secret is only `(set)` or null."),
        MAY("default", API_SCALAR, .doc = "What it would be otherwise."),
        HAS("origin", API_STRING, .choices = "default|file|environment|flag",
            .doc = "Where the value comes from."),
        MAY("source", API_STRING, .doc = "Where exactly: FILE:LINE, the variable or the flag.")),
    .doc = "One value of the configuration.",
};

const struct api_object api_configuration = {
    .name = "Configuration",
    .members = MEMBERS(
        HAS("settings", API_LIST, .object = &setting, .doc = "All keys of config.toml."),
        HAS("paths", API_LIST, .object = &setting, .doc = "The daemon's files and directories.")),
    .doc = "What a daemon goes by; read when it starts.",
};

/* Small ones ------------------------------------------------------------------------------------*/

const struct api_object api_cancelled = {
    .name = "Cancelled",
    .members = MEMBERS(HAS("cancelled", API_BOOL, .doc = "Whether such a request was running.")),
    .doc = "Result of rpc.cancel.",
};

const struct api_object api_log = {
    .name = "Log",
    .members =
        MEMBERS(HAS("text", API_BYTES, .doc = "The guest's or the VMM's bytes."),
                HAS("position", API_INT, COUNT, .doc = "Where it ends; for `after`."),
                HAS("skipped", API_INT, COUNT,
                    .doc = "Bytes between `after` and this piece that are gone: logs are cut "
                           "to their last 256 KiB when they pass 1 MiB.")),
    .doc = "A piece of a log.",
};

#define BYTES API_INT, COUNT

static const struct api_object disk_use = {
    .name = "DiskUse",
    .members = MEMBERS(HAS("apparent_bytes", BYTES, .doc = "Size of the file."),
                       HAS("allocated_bytes", BYTES, .doc = "What it occupies on the host.")),
    .doc = "A VM's data disk, as the host sees it.",
};

static const struct api_object mounted = {
    .name = "Mounted",
    .members =
        MEMBERS(HAS("mount", API_BYTES, .doc = "Where."), HAS("size_bytes", BYTES, .doc = "Size."),
                HAS("used_bytes", BYTES, .doc = "What is used of it."),
                HAS("available_bytes", BYTES, .doc = "What users may still write.")),
    .doc = "A filesystem in a guest.",
};

static const struct api_object guest_stats = {
    .name = "GuestStats",
    .members = MEMBERS(
        HAS("load1_permille", API_INT, COUNT, .doc = "Load of the last minute, in thousandths."),
        HAS("load5_permille", API_INT, COUNT, .doc = "Of the last 5 minutes."),
        HAS("load15_permille", API_INT, COUNT, .doc = "Of the last 15 minutes."),
        HAS("memory_total_bytes", BYTES, .doc = "Memory of the guest."),
        HAS("memory_available_bytes", BYTES, .doc = "What programs could still get of it."),
        HAS("disks", API_LIST, .object = &mounted, .doc = "The root, and what has a device.")),
    .doc = "What a guest says of itself. It may lie.",
};

const struct api_object api_vm_stats = {
    .name = "VMStats",
    .members = MEMBERS(
        HAS("id", API_ID, .doc = "Of the VM."), HAS("name", API_STRING, .doc = "Its name."),
        HAS("interval_ms", API_INT, COUNT, .doc = "Time over which cpu_permille was measured."),
        MAY("cpu_permille", API_INT, COUNT, .doc = "Use of CPUs; 1000 is one that is always busy."),
        MAY("cpu_ms", API_INT, COUNT, .doc = "CPU time since the start."),
        MAY("rss_bytes", BYTES, .doc = "Memory of the VMM that is resident, shared parts whole."),
        MAY("pss_bytes", BYTES, .doc = "The same with shared parts by share."),
        MAY("pss_why", API_STRING, .doc = "Why pss_bytes is null."),
        MAY("disk", API_OBJECT, .object = &disk_use, .doc = "Its data disk."),
        MAY("net", API_OBJECT, .object = &anything, .doc = "Always null so far."),
        MAY("guest", API_OBJECT, .object = &guest_stats, .doc = "What its guest says."),
        MAY("guest_why", API_STRING, .doc = "Why guest is null.")),
    .doc = "What a VM uses.",
};

static const struct api_object process = {
    .name = "GuestProcess",
    .members =
        MEMBERS(HAS("pid", API_INT, COUNT, .doc = "Its number in the guest."),
                HAS("ppid", API_INT, COUNT, .doc = "Its parent's."),
                HAS("user", API_BYTES, .doc = "Whose it is: a name, or a uid without one."),
                HAS("state", API_STRING, .doc = "R, S, D, Z, …; see proc(5)."),
                HAS("cpu_permille", API_INT, COUNT,
                    .doc = "Share of one CPU over its life, in thousandths."),
                HAS("cpu_ms", API_INT, COUNT, .doc = "CPU time."),
                HAS("age_ms", API_INT, COUNT, .doc = "Time since its start."),
                HAS("rss_bytes", BYTES, .doc = "Resident memory."),
                HAS("command", API_BYTES, .doc = "Its arguments; or its name, in brackets.")),
    .doc = "A process of a guest.",
};

const struct api_object api_processes = {
    .name = "Processes",
    .members = MEMBERS(HAS("processes", API_LIST, .object = &process, .doc = "1,000 at most."),
                       HAS("more", API_INT, COUNT, .doc = "How many are not told.")),
    .doc = "The processes of a guest, as it says.",
};

static const struct api_object listener = {
    .name = "GuestListener",
    .members = MEMBERS(HAS("protocol", API_STRING, .choices = "tcp|udp", .doc = "How."),
                       HAS("address", API_STRING, .doc = "At which address; 0.0.0.0 or :: is any."),
                       HAS("port", API_INT, COUNT, .doc = "At which port."),
                       MAY("pid", API_INT, COUNT, .doc = "The process; null: it is not known."),
                       HAS("user", API_BYTES, .doc = "Whose: a name, or a uid without one."),
                       MAY("command", API_BYTES, .doc = "As of a GuestProcess.")),
    .doc = "A socket of a guest that takes what comes.",
};

const struct api_object api_listeners = {
    .name = "Listeners",
    .members =
        MEMBERS(HAS("listeners", API_LIST, .object = &listener, .doc = "By port; 1,000 at most."),
                HAS("more", API_INT, COUNT, .doc = "How many are not told.")),
    .doc = "Who listens in a guest, as it says.",
};

const struct api_object api_ping = {
    .name = "Ping",
    .members = MEMBERS(HAS("us", API_INT, COUNT, .doc = "Time to the answer, in microseconds.")),
    .doc = "An answer of a guest's agent.",
};

/* In the order of the documents. */
const struct api_object *const api_objects[] = {
    &api_vm,
    &vm_origin,
    &api_template,
    &api_template_check,
    &api_vm_position,
    &artifact_ref,
    &vmm,
    &network,
    &phase,
    &api_session,
    &byte_counts,
    &exit_status,
    &api_session_spec,
    &api_terminal,
    &api_operation,
    &api_event,
    &stage,
    &created,
    &api_image,
    &api_kernel,
    &api_daemon_status,
    &helper,
    &networking,
    &api_discrepancy,
    &api_store_check,
    &api_finding,
    &api_configuration,
    &setting,
    &api_log,
    &api_vm_set,
    &api_vm_start,
    &api_pruned,
    &vm_change,
    &api_ping,
    &api_vm_stats,
    &disk_use,
    &guest_stats,
    &mounted,
    &api_processes,
    &api_listeners,
    &listener,
    &process,
    &api_cancelled,
    &error,
    &error_data,
    &api_document,
    &api_nothing,
    &anything,
    NULL,
};
