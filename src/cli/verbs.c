/* The table of verbs and flags. */
#include "cli/cli.h"
#include "cli/verbs_flags.h"

static const struct cli_flag template_flags[] = {
    FLAGS_MACHINE("template.create.begin"),
    END,
};

static const struct cli_flag template_pool_flags[] = {
    {.name = "size", .value = "N", .method = "template.pool", .param = "size"},
    END,
};

static const struct cli_flag template_prune_flags[] = {
    {.name = "unused-for",
     .value = "TIME",
     .method = "template.prune",
     .param = "unused_for_ms",
     .unit = UNIT_MS,
     .doc = "Only those that no VM was forked from for so long, such as 30m or 7d; 0: all."},
    {.name = "keep-storage",
     .value = "SIZE",
     .method = "template.prune",
     .param = "keep_bytes",
     .unit = UNIT_BYTES,
     .doc = "And of the rest those that were not used for longest, until what is left occupies at "
            "most so much, such as 2G."},
    {.name = "dry-run", .method = "template.prune", .param = "dry_run"},
    END,
};

static const struct cli_flag reconcile_flags[] = {
    {.name = "dry-run", .method = "daemon.reconcile", .param = "dry_run"},
    END,
};

static const struct cli_flag doctor_flags[] = {
    {.name = "verbose", .letter = 'v', .doc = "Show what was looked at also where all is well."},
    END,
};

static const struct cli_flag run_flags[] = {
    {.name = "rm",
     .method = "vm.create.begin",
     .param = "auto_remove",
     .doc = "Delete the VM when the command ends, or when it stops."},
    {.name = "detach",
     .letter = 'd',
     .doc = "Return once the command has started, and print the VM's name."},
    FLAG_STDIN,
    FLAG_TTY,
    FLAG_ENV,
    FLAG_WORKDIR,
    FLAG_USER,
    FLAGS_VM,
    END,
};

static const struct cli_flag create_flags[] = {
    FLAGS_VM,
    {.name = "no-start", .doc = "Do not start it."},
    {.name = "rm",
     .method = "vm.create.begin",
     .param = "auto_remove",
     .doc = "Delete the VM when it stops."},
    END,
};

static const struct cli_flag exec_flags[] = {FLAG_STDIN,   FLAG_TTY,  FLAG_ENV,
                                             FLAG_WORKDIR, FLAG_USER, END};

static const struct cli_flag cp_flags[] = {
    {.name = "recursive",
     .letter = 'r',
     .method = "file.put",
     .param = "recursive",
     .doc = "Copy directories with all in them, and symlinks, FIFOs and devices as what they are."},
    {.name = "archive",
     .letter = 'a',
     .method = "file.put",
     .param = "archive",
     .doc = "As -r, and keep owners (on a side where we are root), set-id bits, capabilities and "
            "ACLs."},
    {.name = "user", .letter = 'u', .value = "USER", .method = "file.put", .param = "user"},
    END,
};

static const struct cli_flag ps_flags[] = {
    {.name = "all", .letter = 'a', .doc = "Also stopped VMs."},
    FLAGS_SELECT,
    END,
};

static const struct cli_flag list_flags[] = {FLAGS_SELECT, END};

static const struct cli_flag events_flags[] = {
    {.name = "follow", .letter = 'f', .doc = "Go on with those that come, until interrupted."},
    {.name = "since",
     .value = "N",
     .method = "events.list",
     .param = "since",
     .doc = "Only those with a greater number."},
    FLAG_FILTER,
    END,
};

static const struct cli_flag stop_flags[] = {
    FLAG_FORCE("vm.stop"),
    FLAG_TIMEOUT("vm.stop"),
    END,
};

static const struct cli_flag restart_flags[] = {
    FLAG_FORCE("vm.restart"),
    FLAG_TIMEOUT("vm.restart"),
    END,
};

static const struct cli_flag kill_flags[] = {
    {.name = "signal", .letter = 's', .value = "SIGNAL", .method = "vm.kill", .param = "signal"},
    END,
};

static const struct cli_flag wait_flags[] = {
    {.name = "until", .value = "STATE", .method = "vm.wait", .param = "until"},
    FLAG_TIMEOUT("vm.wait"),
    END,
};

static const struct cli_flag set_flags[] = {
    {.name = "name", .value = "NAME", .method = "vm.set", .param = "name"},
    {.name = "description", .value = "TEXT", .method = "vm.set", .param = "description"},
    {.name = "label",
     .value = "NAME=VALUE",
     .method = "vm.set",
     .param = "labels",
     .doc = "Add a label, or change its value; may be repeated."},
    {.name = "unlabel",
     .value = "NAME",
     .method = "vm.set",
     .param = "unlabel",
     .doc = "Remove a label; may be repeated."},
    {.name = "vcpus", .value = "N", .method = "vm.set", .param = "vcpus"},
    {.name = "memory",
     .letter = 'm',
     .value = "SIZE",
     .method = "vm.set",
     .param = "memory_mib",
     .unit = UNIT_MIB,
     .doc = "Memory, in MiB or such as 2G, from the next start on."},
    {.name = "disk",
     .value = "SIZE",
     .method = "vm.set",
     .param = "disk_bytes",
     .unit = UNIT_BYTES,
     .doc = "Size of the data disk, such as 16G: at once in a VM that runs. It cannot shrink."},
    {.name = "restart",
     .value = "POLICY",
     .method = "vm.set",
     .param = "restart",
     .doc = RESTART_HELP},
    {.name = "net", .value = "MODE", .method = "vm.set", .param = "net"},
    {.name = "autostart",
     .value = "yes|no",
     .choices = "yes|no",
     .method = "vm.set",
     .param = "autostart"},
    {.name = "auto-stop-after",
     .value = "TIME",
     .method = "vm.set",
     .param = "auto_stop_after_ms",
     .unit = UNIT_MS,
     .doc = AUTO_STOP_HELP},
    {.name = "expires-after",
     .value = "TIME",
     .method = "vm.set",
     .param = "expires_after_ms",
     .unit = UNIT_MS,
     .doc = EXPIRES_HELP},
    {.name = "dry-run", .method = "vm.set", .param = "dry_run"},
    END,
};

static const struct cli_flag prune_flags[] = {
    {.name = "stopped-for",
     .value = "TIME",
     .method = "vm.prune",
     .param = "stopped_for_ms",
     .unit = UNIT_MS,
     .doc = "Only VMs that have been stopped for so long; 0: all."},
    {.name = "dry-run", .method = "vm.prune", .param = "dry_run"},
    END,
};

static const struct cli_flag delete_flags[] = {FLAG_FORCE("vm.delete"), END};

static const struct cli_flag logs_flags[] = {
    {.name = "follow",
     .letter = 'f',
     .doc = "Go on with what comes, until the VM is deleted. A stopped VM may start again."},
    {.name = "console", .doc = "The guest's serial console; the default."},
    {.name = "vmm", .doc = "What the program that runs the VM printed."},
    {.name = "agent", .doc = "What the console has of banger's agent in the guest."},
    {.name = "source", .value = "SOURCE", .method = "vm.logs", .param = "source"},
    {.name = "tail",
     .value = "SIZE",
     .method = "vm.logs",
     .param = "tail_bytes",
     .unit = UNIT_BYTES},
    END,
};

static const struct cli_flag stats_flags[] = {
    {.name = "watch", .doc = "Again and again: in place on a terminal, else as further rows."},
    {.name = "interval",
     .value = "TIME",
     .method = "vm.stats",
     .param = "interval_ms",
     .unit = UNIT_MS,
     .doc = "Time over which the use of CPUs is measured; with --watch 2s, unless given."},
    FLAG_TIMEOUT("vm.stats"),
    END,
};

static const struct cli_flag top_flags[] = {FLAG_TIMEOUT("vm.top"), END};
static const struct cli_flag ports_flags[] = {FLAG_TIMEOUT("vm.ports"), END};

static const struct cli_flag session_wait_flags[] = {
    FLAG_TIMEOUT("session.wait"),
    END,
};

const struct cli_flag cli_global_flags[] = {
    {.name = "format", .value = "FORMAT", .choices = "table|json|jsonl", .doc = FORMAT_HELP},
    {.name = "quiet", .letter = 'q', .doc = "In listings: only ids. Else: no progress."},
    {.name = "debug", .doc = "Show calls to the daemon, and the operation of an error."},
    {.name = "socket", .value = "PATH", .doc = "The daemon's socket."},
    {.name = "help", .letter = 'h', .doc = "Show help."},
    END,
};

const struct cli_verb cli_verbs[] = {
    {
        .path = "run",
        .operands = "[-- COMMAND...]",
        .command = COMMAND_AFTER_DASHES,
        .flags = run_flags,
        .doc = "Create a VM and run a command in it.",
        .more = "The exit status is the command's own; 128+n when signal n killed it; 125 when "
                "banger failed, 126 when the command cannot be run, 127 when it was not found. "
                "The VM stays running afterwards, unless --rm was given. " STDIN_HELP,
        .run = cmd_run,
    },
    {
        .path = "exec",
        .operands = "VM [[--] COMMAND...]",
        .min = 1,
        .max = 1,
        .command = COMMAND_AFTER_OPERANDS,
        .flags = exec_flags,
        .doc = "Run a command in a running VM.",
        .more = "The exit status is as with run. " STDIN_HELP,
        .run = cmd_exec,
    },
    {
        .path = "cp",
        .operands = "SRC... DST",
        .min = 2,
        .max = UINT32_MAX,
        .flags = cp_flags,
        .doc = "Copy files into a VM, out of one, or from one to another.",
        .more = "VM:PATH is in a VM, relative to its root; other operands are local (write ./a:b "
                "for a local name with a colon). When DST is a directory SRC goes into it, else "
                "DST is its new name; SRC/. means what is in SRC. A file appears under its name "
                "when it is complete. Modes, times, holes, hard links and user attributes are "
                "kept; files belong to root (or --user) in a VM and to the caller outside. With - "
                "as SRC a tar is read from standard input and unpacked below DST; with - as DST a "
                "tar is written to standard output. The exit status is 1 when something could not "
                "be copied.",
        .run = cmd_cp,
    },
    {
        .path = "forward",
        .operands = "VM FORWARD...",
        .min = 2,
        .max = UINT32_MAX,
        .doc = "Reach services in a VM from here, until interrupted.",
        .more = "FORWARD is [LOCAL:]REMOTE. LOCAL is [IP:]PORT, where we listen: by default on "
                "127.0.0.1 and REMOTE's port; port 0 is any that is free, which is printed. REMOTE "
                "is [HOST:]PORT, by default on the guest's localhost, or the absolute path of a "
                "Unix socket in the guest. 8080:80 forwards port 8080 here to port 80 there; "
                "127.0.0.1:8080:10.0.0.7:80 to port 80 of an address that the guest reaches. An "
                "IPv6 address is in brackets. Connections go through the guest's agent: the VM "
                "needs no network. They end with this command; new ones work again after a "
                "restart of the VM or the daemon.",
        .run = cmd_forward,
    },
    {
        .path = "ps",
        .operands = "",
        .flags = ps_flags,
        .doc = "List VMs that are not stopped.",
        .more = "With a filter for state also those that are. " MORE_SELECT,
        .run = cmd_ps,
    },
    {
        .path = "vm list",
        .operands = "",
        .flags = list_flags,
        .doc = "List all VMs.",
        .more = MORE_SELECT,
        .run = cmd_vm_list,
    },
    {
        .path = "vm show",
        .operands = "VM...",
        .min = 1,
        .max = UINT32_MAX,
        .doc = "Show VMs.",
        .run = cmd_vm_show,
    },
    {
        .path = "vm create",
        .operands = "",
        .flags = create_flags,
        .doc = "Create a VM and start it, and print its name.",
        .run = cmd_vm_create,
    },
    {
        .path = "vm start",
        .alias = "start",
        .operands = "VM...",
        .min = 1,
        .max = UINT32_MAX,
        .doc = "Start stopped VMs.",
        .run = cmd_vm_start,
    },
    {
        .path = "vm stop",
        .alias = "stop",
        .operands = "VM...",
        .min = 1,
        .max = UINT32_MAX,
        .flags = stop_flags,
        .doc = "Stop VMs; their guests sync and go down.",
        .run = cmd_vm_stop,
    },
    {
        .path = "vm restart",
        .alias = "restart",
        .operands = "VM...",
        .min = 1,
        .max = UINT32_MAX,
        .flags = restart_flags,
        .doc = "Stop VMs, if they run, and start them.",
        .run = cmd_vm_restart,
    },
    {
        .path = "vm kill",
        .alias = "kill",
        .operands = "VM...",
        .min = 1,
        .max = UINT32_MAX,
        .flags = kill_flags,
        .doc = "End VMs at once, or send their main sessions a signal.",
        .more = "What a guest has not written yet is lost when its VM is ended at once.",
        .run = cmd_vm_kill,
    },
    {
        .path = "vm pause",
        .alias = "pause",
        .operands = "VM...",
        .min = 1,
        .max = UINT32_MAX,
        .doc = "Stop the CPUs of VMs.",
        .more = "Nothing in a paused VM goes on, and its memory stays taken.",
        .run = cmd_vm_pause,
    },
    {
        .path = "vm resume",
        .alias = "resume",
        .operands = "VM...",
        .min = 1,
        .max = UINT32_MAX,
        .doc = "Let paused VMs go on.",
        .run = cmd_vm_resume,
    },
    {
        .path = "vm wait",
        .alias = "wait",
        .operands = "VM...",
        .min = 1,
        .max = UINT32_MAX,
        .flags = wait_flags,
        .doc = "Wait until VMs are stopped, or in another state.",
        .run = cmd_vm_wait,
    },
    {
        .path = "vm set",
        .operands = "VM...",
        .min = 1,
        .max = UINT32_MAX,
        .flags = set_flags,
        .doc = "Change VMs.",
        .more = "Prints a line for each change: what it was, what it is, and from when on. All "
                "that is asked for a VM is done, or nothing of it.",
        .run = cmd_vm_set,
    },
    {
        .path = "vm touch",
        .alias = "touch",
        .operands = "VM...",
        .min = 1,
        .max = UINT32_MAX,
        .doc = "Keep VMs from being stopped as idle, and from expiring, for another while.",
        .run = cmd_vm_touch,
    },
    {
        .path = "vm timeline",
        .operands = "VM",
        .min = 1,
        .max = 1,
        .doc = "Show how long the steps of a VM's starts took, in ms.",
        .more = "The last hundred starts are kept.",
        .run = cmd_vm_timeline,
    },
    {
        .path = "vm rename",
        .operands = "VM NAME",
        .min = 2,
        .max = 2,
        .doc = "Give a VM another name.",
        .run = cmd_vm_rename,
    },
    {
        .path = "vm delete",
        .alias = "rm",
        .operands = "VM...",
        .min = 1,
        .max = UINT32_MAX,
        .flags = delete_flags,
        .doc = "Delete VMs and their disks.",
        .run = cmd_vm_delete,
    },
    {
        .path = "vm prune",
        .alias = "prune",
        .operands = "",
        .flags = prune_flags,
        .doc = "Delete VMs that have been stopped for a day, and their disks.",
        .more = "Not those that start by themselves (--autostart, --restart), nor those that "
                "somebody works on. Lists what is deleted; status 1 when something could not be.",
        .run = cmd_vm_prune,
    },
    {
        .path = "vm logs",
        .alias = "logs",
        .operands = "VM",
        .min = 1,
        .max = 1,
        .flags = logs_flags,
        .doc = "Print the end of a VM's log, and with -f what comes.",
        .more = "On a terminal control characters are escaped; elsewhere the bytes are as the "
                "guest wrote them. Following ends with status 0 when the VM is deleted, and with "
                "1 when the daemon ends. Logs are cut to their last 256 KiB when they pass 1 MiB; "
                "a follower that was so slow that it missed some is told how many bytes. The "
                "agent's lines are those of the console that begin with 'banger-agent: '; a guest "
                "can write such lines, too.",
        .run = cmd_vm_logs,
    },
    {
        .path = "vm stats",
        .alias = "stats",
        .operands = "[VM...]",
        .min = 0,
        .max = UINT32_MAX,
        .flags = stats_flags,
        .doc = "Tell what VMs use: CPU, memory and disk, and what their guests say.",
        .more =
            "Without a VM: all that are running. LOAD, GUEST MEM and GUEST DISK (of the root) are "
            "the guest's word. What cannot be told is empty in the table, and null with a reason "
            "in JSON.",
        .run = cmd_vm_stats,
    },
    {
        .path = "vm top",
        .alias = "top",
        .operands = "VM",
        .min = 1,
        .max = 1,
        .flags = top_flags,
        .doc = "List the processes in a VM.",
        .run = cmd_vm_top,
    },
    {
        .path = "vm ports",
        .operands = "VM",
        .min = 1,
        .max = 1,
        .flags = ports_flags,
        .doc = "List on which TCP and UDP ports programs in a VM listen.",
        .more = "It is the guest's word. --quiet prints the ports alone.",
        .run = cmd_vm_ports,
    },
    {
        .path = "image list",
        .operands = "",
        .flags = list_flags,
        .doc = "List images.",
        .more = MORE_SELECT,
        .run = cmd_image_list,
    },
    {
        .path = "image register",
        .operands = "NAME PATH",
        .min = 2,
        .max = 2,
        .doc = "Make an image of a root filesystem in a file.",
        .more = "PATH is a tar (plain, gzip, xz or zstd) or an ext4 image.",
        .run = cmd_image_register,
    },
    {
        .path = "template list",
        .operands = "",
        .flags = list_flags,
        .doc = "List templates.",
        .more =
            "New VMs are forked from the template that has all in common with them, which takes "
            "a tenth of the time of a boot; the first VM of its kind boots, and has one made "
            "(templates in config.toml). " MORE_SELECT,
        .run = cmd_template_list,
    },
    {
        .path = "template show",
        .operands = "TEMPLATE...",
        .min = 1,
        .max = UINT32_MAX,
        .doc = "Show templates.",
        .run = cmd_template_show,
    },
    {
        .path = "template create",
        .operands = "",
        .flags = template_flags,
        .doc = "Make a template for VMs that are created with these flags.",
        .more = "Prints its id; when there is one already, that is it.",
        .run = cmd_template_create,
    },
    {
        .path = "template delete",
        .operands = "TEMPLATE...",
        .min = 1,
        .max = UINT32_MAX,
        .doc = "Delete templates. VMs that were forked from them go on.",
        .run = cmd_template_delete,
    },
    {
        .path = "template pool",
        .operands = "TEMPLATE...",
        .min = 1,
        .max = UINT32_MAX,
        .flags = template_pool_flags,
        .doc = "Set how many forks of templates are kept ready.",
        .more =
            "A fork that is ready becomes the next VM, and another takes its place. Those that are "
            "too many are given back.",
        .run = cmd_template_pool,
    },
    {
        .path = "template verify",
        .operands = "[TEMPLATE]",
        .max = 1,
        .doc = "Compare the files of templates with what was saved.",
        .more = "Those that are broken are removed. Status 1 when there was one. This is done by "
                "itself before a template is used.",
        .run = cmd_template_verify,
    },
    {
        .path = "template prune",
        .operands = "",
        .flags = template_prune_flags,
        .doc = "Delete templates that were not used for a week.",
        .more = "Lists what is deleted.",
        .run = cmd_template_prune,
    },
    {
        .path = "kernel list",
        .operands = "",
        .flags = list_flags,
        .doc = "List kernels.",
        .more = MORE_SELECT,
        .run = cmd_kernel_list,
    },
    {
        .path = "kernel import",
        .operands = "NAME DIRECTORY",
        .min = 2,
        .max = 2,
        .doc = "Import a boot kernel and its modules.",
        .more = "DIRECTORY is an unpacked kernel package, with boot/vmlinuz-VERSION and "
                "lib/modules/VERSION.",
        .run = cmd_kernel_import,
    },
    {
        .path = "session list",
        .operands = "VM",
        .min = 1,
        .max = 1,
        .flags = list_flags,
        .doc = "List a VM's sessions.",
        .more = MORE_SELECT,
        .run = cmd_session_list,
    },
    {
        .path = "session wait",
        .operands = "VM SESSION",
        .min = 2,
        .max = 2,
        .flags = session_wait_flags,
        .doc = "Wait for the end of a session, and end as its command did.",
        .more = "The exit status is as with run.",
        .run = cmd_session_wait,
    },
    {
        .path = "op list",
        .operands = "",
        .flags = list_flags,
        .doc = "List operations.",
        .more = MORE_SELECT,
        .run = cmd_op_list,
    },
    {
        .path = "op show",
        .operands = "OP...",
        .min = 1,
        .max = UINT32_MAX,
        .doc = "Show operations.",
        .run = cmd_op_show,
    },
    {
        .path = "op wait",
        .operands = "OP...",
        .min = 1,
        .max = UINT32_MAX,
        .doc = "Wait for the end of operations; status 1 when one failed.",
        .run = cmd_op_wait,
    },
    {
        .path = "op cancel",
        .operands = "OP...",
        .min = 1,
        .max = UINT32_MAX,
        .doc = "Ask operations to end; all they made is undone.",
        .run = cmd_op_cancel,
    },
    {
        .path = "events",
        .operands = "",
        .flags = events_flags,
        .doc = "Print what became of VMs, images, kernels and templates, numbered.",
        .more = "The last ten thousand events are kept. " MORE_SELECT,
        .run = cmd_events,
    },
    {
        .path = "config show",
        .operands = "",
        .doc = "Show the configuration that the daemon uses, and where each value is from.",
        .more =
            "docs/CONFIG.md describes the keys. The daemon reads the file when it starts: after "
            "a change, banger daemon stop.",
        .run = cmd_config_show,
    },
    {
        .path = "config list",
        .operands = "",
        .doc = "List the keys of the configuration, with value and origin.",
        .run = cmd_config_list,
    },
    {
        .path = "daemon status",
        .operands = "",
        .doc = "Show the daemon; status 1 when none runs.",
        .run = cmd_daemon_status,
    },
    {
        .path = "daemon stop",
        .operands = "",
        .doc = "End the daemon; VMs go on, and the next daemon finds them.",
        .run = cmd_daemon_stop,
    },
    {
        .path = "daemon reconcile",
        .operands = "",
        .flags = reconcile_flags,
        .doc = "Mend what is not as the daemon knows it: processes, directories, VMs.",
        .more = "Prints a line for each, and nothing when all is well. The daemon does the same "
                "when it starts. Status 1 when something could not be mended, or is for you to "
                "decide. A disk whose VM is not known is told and kept.",
        .run = cmd_daemon_reconcile,
    },
    {
        .path = "daemon verify-store",
        .operands = "",
        .doc = "Check the daemon's database; status 1 when something is wrong with it.",
        .run = cmd_daemon_verify_store,
    },
    {
        .path = "doctor",
        .operands = "[CHECK...]",
        .max = UINT32_MAX,
        .flags = doctor_flags,
        .doc =
            "Check what banger needs of this machine, its own files and its VMs; status 1 when a "
            "check fails.",
        .more = "Changes nothing, and works without a daemon. A line for each check, or for each "
                "CHECK that is named: pass, warn (something is worse than it could be) or fail "
                "(something cannot work). Below those that do not pass stand what was looked at "
                "and what mends it. What VMs cannot start without is checked at each start as "
                "well.",
        .run = cmd_doctor,
    },
    {
        .path = "debug-bundle",
        .operands = "[FILE]",
        .max = 1,
        .doc = "Collect what is needed to find out what is wrong, without secrets, in a tar.",
        .more =
            "The findings of doctor, versions, configuration, the daemon's status, VMs, "
            "operations, images, kernels, templates, what verify-store and reconcile "
            "--dry-run say, and the ends of the logs of daemon, VMMs and guests. FILE must not exist, and is only "
            "its owner's; - is standard output. Works without a daemon. Passwords, tokens and "
            "keys are taken out where names or form tell them; look into it before you give it "
            "away.",
        .run = cmd_debug_bundle,
    },
    {
        .path = "version",
        .operands = "",
        .doc = "Print the version.",
        .run = cmd_version,
    },
    {
        .path = "help",
        .operands = "[COMMAND...]",
        .max = 2,
        .doc = "Show help.",
        .run = cmd_help,
    },
    {
        .path = "completion",
        .operands = "bash|zsh|fish",
        .min = 1,
        .max = 1,
        .doc = "Print a shell's completion script.",
        .more = "bash: eval \"$(banger completion bash)\"; zsh: source <(banger completion zsh), "
                "behind compinit; fish: banger completion fish | source.",
        .run = cmd_completion,
    },
    {
        .path = "internal complete",
        .operands = "[-- WORD...]",
        .command = COMMAND_AFTER_DASHES,
        .run = cmd_complete,
    },
    {
        .path = "internal man",
        .operands = "",
        .run = cmd_man,
    },
    {
        .path = "internal config",
        .operands = "",
        .run = cmd_internal_config,
    },
    {
        .path = "internal protocol",
        .operands = "",
        .run = cmd_protocol,
    },
    {0},
};
