/* Booting one VM. The caller holds its token. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"
#include "boot/cmdline.h"
#include "codec/json.h"
#include "vmm/accel.h"
#include "vmm/fake/fake_process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define HELLO_STEP_MS 1000
#define CONFIGURE_MS 15000

/* What one boot works with; all owned. */
struct boot {
    struct vms *v;
    struct op *op; /* or NULL; borrowed */
    struct cancel *cancel;
    struct vm_row row;
    const struct vmm_ops *ops;
    int kernel_fd, initramfs_fd, root_fd, data_fd;
    int console_fd, console_write_fd; /* ours to read and shorten; the VMM's to append to */
    enum vmm_accel accel;
    char cmdline[CMDLINE_SIZE];
    struct vm_run *run;
    struct vm_run *up; /* the same, once the table has it */
    bool silent;       /* the last attempt ended because nothing happened at all */
    int64_t phase_start_ms;
    struct vm_phase phases[STORE_PHASES_MAX];
    unsigned phase_count;
};

static void boot_done(struct boot *b)
{
    vm_row_done(&b->row);
    close_p(&b->kernel_fd);
    close_p(&b->initramfs_fd);
    close_p(&b->root_fd);
    close_p(&b->data_fd);
    close_p(&b->console_fd);
    close_p(&b->console_write_fd);
    vm_run_put(b->run);
}

/* Ends the phase before and begins `name`; NULL only ends. */
static void phase(struct boot *b, const char *name)
{
    int64_t now = clock_mono_ms();

    if (b->phase_count > 0) {
        b->phases[b->phase_count - 1].ms = now - b->phase_start_ms;
    }
    b->phase_start_ms = now;
    if (name && b->phase_count < STORE_PHASES_MAX) {
        (void)snprintf(b->phases[b->phase_count].name, sizeof(b->phases[0].name), "%s", name);
        b->phases[b->phase_count++].ms = 0;
        if (b->op) {
            op_stage(b->op, name);
        }
    }
}

/* ---- preparing ---- */

int vm_find_vmm(const struct vms *v, const char *name, const struct vmm_ops **ret_ops,
                struct err *err)
{
    const struct vmm_ops *ops = str_eq(name, "auto") ? v->params.vmm : vmm_ops_find(name);

    if (!ops) {
        err_set(err, ERR_UNSUPPORTED, "this build cannot run VMs with '%s'", name);
        return err_hint(err, "use --vmm %s", v->params.vmm->name);
    }
    if (ops == &vmm_fake_ops && !v->params.fakevmm_path) {
        err_set(err, ERR_UNSUPPORTED,
                "'fake' VMs are no machines and isolate nothing: they are for tests of banger");
        return err_hint(err, "use --vmm %s", v->params.vmm->name);
    }
    *ret_ops = ops;
    return 0;
}

/* To what vm.set has made of its size; the agent grows the filesystem. */
static int grow_disk(struct boot *b, struct err *err)
{
    struct stat st;

    if (fstat(b->data_fd, &st) < 0 || ((uint64_t)st.st_size < b->row.disk_bytes &&
                                       ftruncate(b->data_fd, (off_t)b->row.disk_bytes) < 0)) {
        return err_set_errno(err, ERR_IO, errno, "the VM's data disk cannot be grown");
    }
    return 0;
}

/* What a machine boots from. */
static int open_guest(struct boot *b, struct err *err)
{
    struct vms *v = b->v;
    char path[64];

    if (kernel_open(v->params.images, b->row.kernel_digest, &b->kernel_fd, &b->initramfs_fd, err) <
            0 ||
        image_open_disk(v->params.images, b->row.image_digest, &b->root_fd, err) < 0) {
        return -1;
    }
    (void)snprintf(path, sizeof(path), "vms/%s/data.ext4", b->row.id);
    b->data_fd = openat(v->params.state_fd, path, O_RDWR | O_CLOEXEC);
    if (b->data_fd < 0) {
        return err_set_errno(err, ERR_IO, errno, "the VM's data disk cannot be opened");
    }
    return grow_disk(b, err);
}

static int open_files(struct boot *b, struct err *err)
{
    struct vms *v = b->v;
    char path[64];

    if ((b->ops->features & VMM_BOOTS_KERNEL) && open_guest(b, err) < 0) {
        return -1;
    }
    (void)snprintf(path, sizeof(path), "vms/%s/console.log", b->row.id);
    b->console_write_fd =
        openat(v->params.state_fd, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    b->console_fd = openat(v->params.state_fd, path, O_RDWR | O_APPEND | O_CLOEXEC);
    if (b->console_fd < 0 || b->console_write_fd < 0) {
        return err_set_errno(err, ERR_IO, errno, "the VM's console file cannot be opened");
    }
    return 0;
}

static int build_cmdline(const struct vms *v, enum vmm_accel accel, unsigned vcpus,
                         char ret_cmdline[CMDLINE_SIZE], struct err *err)
{
    /* For the agent: a data disk that is missing is an error, not a reason to use memory. */
    static const char *const extra[] = {"banger.data=disk"};
    struct cmdline_params p = {
        .extra = extra,
        .extra_count = ARRAY_LEN(extra),
        .emulated = accel == VMM_ACCEL_TCG,
        .tsc_khz = v->params.tsc_khz,
        .vcpus = vcpus,
        .console = true,
    };

    if (p.emulated && p.tsc_khz == 0) {
        return err_set(err, ERR_UNSUPPORTED,
                       "this host's time stamp counter is not constant, and emulated guests need "
                       "one that is");
    }
    return cmdline_build(&p, ret_cmdline, err);
}

/* One probe at a time: whoever waits finds its verdict. */
static int probe_accel(struct boot *b, struct err *err)
{
    struct vms *v = b->v;
    struct vmm_probe_params p = {
        .host = v->params.host,
        .kernel_fd = b->kernel_fd,
        .initramfs_fd = b->initramfs_fd,
        .kernel_key = b->row.kernel_digest,
        .cache_dir_fd = v->params.cache_fd,
        .work_dir = v->run_dir,
        .work_dir_fd = v->params.run_fd,
    };
    char cmdline[CMDLINE_SIZE], why[ACCEL_WHY_SIZE] = "";
    enum vmm_accel accel;

    if (build_cmdline(v, VMM_ACCEL_KVM, 1, cmdline, err) < 0) {
        return -1;
    }
    p.cmdline = cmdline;
    if (vmm_accel_probe(v->params.control_loop, b->ops, &p, b->cancel, &accel, why, err) < 0) {
        return -1;
    }
    if (accel == VMM_ACCEL_TCG) {
        log_info("KVM is not used: %s", why);
    }
    leaf_lock(&v->table);
    v->accel = accel;
    (void)snprintf(v->accel_why, sizeof(v->accel_why), "%s", why);
    v->accel_known = true;
    leaf_unlock(&v->table);
    return 0;
}

static bool copy_accel(struct boot *b, char why[160])
{
    struct vms *v = b->v;
    bool known = true;

    why[0] = '\0';
    switch (v->params.accel) {
    case VM_ACCEL_KVM:
        b->accel = VMM_ACCEL_KVM;
        break;
    case VM_ACCEL_TCG:
        b->accel = VMM_ACCEL_TCG;
        (void)snprintf(why, 160, "accel = \"tcg\" in the configuration");
        break;
    case VM_ACCEL_AUTO:
        leaf_lock(&v->table);
        known = v->accel_known;
        b->accel = v->accel;
        memcpy(why, v->accel_why, sizeof(v->accel_why));
        leaf_unlock(&v->table);
        break;
    }
    return known;
}

static int choose_accel(struct boot *b, struct err *err)
{
    char why[160];
    int r = 0;

    if (!(b->ops->features & VMM_BOOTS_KERNEL)) {
        (void)snprintf(b->row.accel, sizeof(b->row.accel), "none");
        (void)snprintf(b->row.accel_why, sizeof(b->row.accel_why),
                       "for tests: no machine and no isolation, commands run on the host");
        return 0;
    }
    if (!copy_accel(b, why)) {
        phase(b, "probe KVM");
        r = boot_slots_acquire(b->v->probe, b->cancel, -1);
        if (r < 0) {
            return err_set_errno(err, ERR_CANCELLED, r, "probing KVM");
        }
        r = copy_accel(b, why) ? 0 : probe_accel(b, err);
        boot_slots_release(b->v->probe);
        if (r < 0) {
            return -1;
        }
        (void)copy_accel(b, why);
        if (b->accel == VMM_ACCEL_TCG && b->op) {
            /* A long reason is a crash's text: VM show and the log have it. */
            op_note(b->op, "KVM does not work here%s%s: using emulation, which is slower",
                    strlen(why) <= 60 ? ": " : "", strlen(why) <= 60 ? why : "");
        }
    }
    (void)snprintf(b->row.accel, sizeof(b->row.accel), "%s", vmm_accel_name(b->accel));
    (void)snprintf(b->row.accel_why, sizeof(b->row.accel_why), "%s", why);
    return build_cmdline(b->v, b->accel, b->row.vcpus, b->cmdline, err);
}

/* ---- one attempt ---- */

/* The run directory of an attempt starts empty. */
static int make_run_dir(struct boot *b, char ret_path[4096], int *ret_fd, struct err *err)
{
    struct vms *v = b->v;
    int fd = fs_remove_tree(v->params.run_fd, b->row.id);

    if (fd < 0) {
        return err_set_errno(err, ERR_IO, fd, "cannot empty the VM's run directory");
    }
    fd = fs_open_dir(v->params.run_fd, b->row.id, true);
    if (fd < 0) {
        return err_set_errno(err, ERR_IO, fd, "cannot make the VM's run directory");
    }
    if (snprintf(ret_path, 4096, "%s/%s", v->run_dir, b->row.id) >= 4096) {
        close_p(&fd);
        return err_set(err, ERR_INVALID, "the path of the runtime directory is too long");
    }
    *ret_fd = fd;
    return 0;
}

static void note_process(struct vm_row *row, void *arg)
{
    const struct boot *b = arg;
    const struct vmm_process *p = b->run->ops->process(b->run->vmm);
    struct vm_object o = {.kind = OBJECT_PROCESS, .incarnation = b->row.incarnation};

    vm_process_name(p, o.name);
    memcpy(o.boot_id, p->boot_id, sizeof(o.boot_id));
    vm_row_put_object(row, &o);
}

static struct guest_link *open_link(struct vm_run *run, int fd, bool adopted)
{
    return guest_link_open(&(struct guest_link_params){.loop = run->vms->params.guest_loop,
                                                       .fd = fd,
                                                       .adopted = adopted,
                                                       .vm_id = run->vm_id,
                                                       .sessions = run->vms->sessions,
                                                       .fn = vm_on_link_event,
                                                       .arg = run});
}

/* What a fake VM is to do wrong, "" = nothing. Free it. */
static char *read_faults(const struct vm_row *row)
{
    _cleanup_json_ json_t *labels = NULL;
    struct err ignored; /* our own text */

    (void)json_parse(row->labels, strlen(row->labels), &labels, &ignored);
    return x_strdup(json_str(labels, FAKE_LABEL, ""));
}

static int launch(struct boot *b, struct err *err)
{
    struct vms *v = b->v;
    char run_dir[4096];
    struct vm_run *run = x_calloc(1, sizeof(*run));
    _cleanup_free_ char *faults = read_faults(&b->row);
    struct vmm_spec spec = {
        .host = v->params.host,
        .name = b->row.name,
        .run_dir = run_dir,
        .accel = b->accel,
        .vcpus = b->row.vcpus,
        .memory_mib = b->row.memory_mib,
        .kernel_fd = b->kernel_fd,
        .initramfs_fd = b->initramfs_fd,
        .cmdline = b->cmdline,
        .root_disk_fd = b->root_fd,
        .data_disk_fd = b->data_fd,
        .program = v->params.fakevmm_path,
        .faults = faults,
        .console_fd = b->console_write_fd,
    };
    int fd;

    run->vms = v;
    run->ops = b->ops;
    run->refs = 1;
    run->run_fd = -1;
    memcpy(run->vm_id, b->row.id, ID_SIZE);
    run->incarnation = b->row.incarnation;
    b->run = run;
    if (make_run_dir(b, run_dir, &run->run_fd, err) < 0) {
        return -1;
    }
    spec.run_dir_fd = run->run_fd;
    CRASH_POINT("start.run_dir");
    if (run->ops->launch(v->params.control_loop, &spec, vm_on_vmm_event, run, &run->vmm, err) < 0) {
        return -1;
    }
    CRASH_POINT("start.launched");
    /* Written down with the state that follows. Until then the ledger has a process whose name is
     * not known, and the next daemon finds it by its run directory: vm_undo.c. */
    vm_note(v, run->vm_id, note_process, b);
    fd = fs_unix_connect(run->run_fd, "agent.sock");
    if (fd < 0) {
        return err_set_errno(err, ERR_VMM, fd, "cannot connect to the VM's agent port");
    }
    run->link = open_link(run, fd, false);
    return 0;
}

/* A VMM that does not answer for boot_silence_ms is taken for a guest that hangs. */
static int wait_for_cpus(struct boot *b, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + b->v->params.boot_silence_ms;

    if (b->run->ops->wait_started(b->run->vmm, b->cancel, deadline_ms, err) < 0) {
        b->silent = err->code == ERR_TIMEOUT;
        return -1;
    }
    return 0;
}

/* Waits for the agent. A guest that neither answers nor prints for boot_silence_ms hangs. */
static int wait_for_agent(struct boot *b, struct err *err)
{
    const struct vms_params *p = &b->v->params;
    int64_t give_up = clock_mono_ms() + p->boot_timeout_ms;
    int64_t last_sign = clock_mono_ms();
    off_t size = lseek(b->console_fd, 0, SEEK_END);

    for (;;) {
        int64_t now = clock_mono_ms();
        int64_t until = now + HELLO_STEP_MS;
        off_t grown;

        until = until < give_up ? until : give_up;
        if (guest_link_wait_hello(b->run->link, b->cancel, until, err) == 0) {
            return 0;
        }
        if (err->code != ERR_TIMEOUT) {
            return -1;
        }
        if (vm_is_io_stopped(b->run)) {
            err_set(err, ERR_NO_SPACE,
                    "the host's disk is full: the guest cannot write what it "
                    "has to while it boots");
            return err_hint(err, "make room on the filesystem of the state directory");
        }
        now = clock_mono_ms();
        grown = lseek(b->console_fd, 0, SEEK_END);
        if (grown != size) {
            size = grown;
            last_sign = now;
        }
        if (now - last_sign >= p->boot_silence_ms) {
            b->silent = true;
            return err_set(err, ERR_TIMEOUT, "the guest went silent while booting (%lld s)",
                           (long long)p->boot_silence_ms / 1000);
        }
        if (now >= give_up) {
            return err_set(err, ERR_TIMEOUT, "the guest did not come up within %lld s",
                           (long long)p->boot_timeout_ms / 1000);
        }
    }
}

static int configure(struct boot *b, struct err *err)
{
    struct guest_configure c = {
        .hostname = b->row.name,
        .time_ns = (uint64_t)clock_real_ms() * 1000000,
    };

    return guest_link_configure(b->run->link, &c, b->cancel, clock_mono_ms() + CONFIGURE_MS, err);
}

/* The last lines of the console on one line, for an error. */
static void append_console(struct boot *b, struct err *err)
{
    _cleanup_free_ char *all = console_tail(b->console_fd, 600);
    char *tail = (char *)console_since_boot(all);
    size_t len = strlen(tail);

    while (len > 0 && tail[len - 1] == '\n') {
        tail[--len] = '\0';
    }
    for (char *p = tail; (p = strchr(p, '\n')); p++) {
        *p = '|';
    }
    if (len > 0) {
        err_append(err, "; the console ends with: %s", tail);
    }
}

/* Ends what an attempt started, and makes the error say what the VMM said. */
static void abandon(struct boot *b, struct err *err)
{
    struct vmm_exit ended = {.code = -1};
    struct vm_run *run = b->run;
    bool by_itself = false;
    struct err left;

    if (run->vmm) {
        by_itself = run->ops->wait_exit(run->vmm, NULL, clock_mono_ms() + 200, &ended) == 0;
        if (!by_itself && vm_end_vmm(run->ops, run->vmm, &ended, &left) < 0) {
            log_error("VM %.12s: %s", b->row.id, left.message);
        }
    }
    if (run->link) {
        guest_link_end(run->link, "the VM did not start");
    }
    if (by_itself && (ended.code > 0 || ended.signal != 0) && err->code != ERR_CANCELLED) {
        _cleanup_free_ char *said = vmm_log_tail(run->run_fd, 400);

        err_set(err, ERR_VMM,
                ended.signal ? "%s was killed by signal %d while booting%s%s"
                             : "%s ended with status %d while booting%s%s",
                run->ops->name, ended.signal ? ended.signal : ended.code, said[0] ? ": " : "",
                said);
        if (strstr(said, "Cannot allocate memory")) {
            err_hint(err, "the host has not that much memory to give: a smaller --memory");
        }
    } else if (by_itself && err->code == ERR_GUEST && !strstr(err->message, "gave up")) {
        err_set(err, ERR_GUEST, "the guest ended while booting");
    }
    if (err->code == ERR_GUEST || err->code == ERR_TIMEOUT) {
        append_console(b, err);
        err_hint(err,
                 "banger logs %s shows more where the VM was kept; a smaller --memory or a "
                 "broken image or kernel are common causes",
                 b->row.name);
    }
    vm_run_put(STEAL_PTR(b->run));
}

/* So that readers of the log, and console_since_boot, know where this boot begins. */
static void mark_console(const struct boot *b)
{
    char time[CLOCK_RFC3339_SIZE];
    _cleanup_free_ char *line = NULL;

    clock_format_rfc3339(clock_real_ms(), time);
    line =
        x_asprintf(CONSOLE_MARK "boot %llu at %s\n", (unsigned long long)b->row.incarnation, time);
    (void)fs_write_all(b->console_fd, line, strlen(line)); /* a log: the boot matters more */
}

static int attempt(struct boot *b, struct err *err)
{
    b->silent = false;
    mark_console(b);
    phase(b, "vmm");
    if (launch(b, err) < 0) {
        return -1;
    }
    phase(b, "boot");
    if (wait_for_cpus(b, err) < 0 || wait_for_agent(b, err) < 0) {
        return -1;
    }
    CRASH_POINT("start.greeted");
    phase(b, "configure");
    if (configure(b, err) < 0) {
        return -1;
    }
    CRASH_POINT("start.configured");
    return 0;
}

static int attempt_twice(struct boot *b, struct err *err)
{
    if (attempt(b, err) == 0) {
        return 0;
    }
    abandon(b, err);
    if (!b->silent) {
        return -1;
    }
    log_warn("VM %.12s: %s: trying once more", b->row.id, err->message);
    if (b->op) {
        op_note(b->op, "the guest went silent while booting: trying once more");
    }
    if (attempt(b, err) == 0) {
        return 0;
    }
    abandon(b, err);
    return -1;
}

/* ---- the whole ---- */

static void set_starting(struct vm_row *row, void *arg)
{
    struct boot *b = arg;

    row->state = VM_STARTING;
    /* A create keeps its mark until the VM runs: vm_load.c removes what a dead daemon left of it.
     */
    if (!b->op) {
        row->reason[0] = '\0';
    }
    row->state_since_ms = clock_real_ms();
    row->incarnation++;
    row->exit_code = -1;
    row->exit_signal = 0;
    row->run_vcpus = row->vcpus;
    row->run_memory_mib = row->memory_mib;
    row->run_disk_bytes = row->disk_bytes;
    vm_row_enter_run(row);
    b->row.incarnation = row->incarnation;
}

static void set_running(struct vm_row *row, void *arg)
{
    const struct boot *b = arg;

    row->state = VM_RUNNING;
    row->reason[0] = '\0';
    row->state_since_ms = row->started_ms = clock_real_ms();
    memcpy(row->accel, b->row.accel, sizeof(row->accel));
    memcpy(row->accel_why, b->row.accel_why, sizeof(row->accel_why));
    memcpy(row->vmm_version, b->row.vmm_version, sizeof(row->vmm_version));
    memcpy(row->timeline, b->phases, sizeof(row->timeline));
    row->phase_count = b->phase_count;
    vm_mark_paused_locked(b->up, row);
}

/* A create has entered its run and its mark already (vm_create.c), and nothing else matters to the
 * next daemon, which removes the VM. */
static int begin(struct boot *b, struct err *err)
{
    if (b->op) {
        vm_note(b->v, b->row.id, set_starting, b);
        return 0;
    }
    return vm_update(b->v, b->row.id, set_starting, b, err);
}

/* The VMM's own log is bounded like the console: a guest can make it warn as often as it likes. */
static void watch_logs(struct vm_run *run, int console_fd)
{
    struct console_watcher *watcher = run->vms->consoles;
    int log_fd = openat(run->run_fd, "vmm.log", O_RDWR | O_APPEND | O_CLOEXEC);

    run->console = console_fd < 0 ? NULL : console_watch_new(watcher, console_fd);
    run->vmm_log = log_fd < 0 ? NULL : console_watch_new(watcher, log_fd);
}

static void publish(struct vms *v, struct boot *b)
{
    struct vm_entry *e;

    watch_logs(b->run, STEAL_FD(b->console_fd));
    leaf_lock(&v->table);
    e = vm_find_locked(v, b->row.id); /* there: we hold its token */
    b->up = b->run;
    e->run = STEAL_PTR(b->run);
    leaf_unlock(&v->table);
}

static int boot_in_slot(struct boot *b, struct err *err)
{
    int r;

    phase(b, "queue");
    r = boot_slots_acquire(b->v->slots, b->cancel, -1);
    if (r < 0) {
        return err_set_errno(err, ERR_CANCELLED, r, "waiting for a boot slot");
    }
    r = attempt_twice(b, err);
    boot_slots_release(b->v->slots);
    return r;
}

static int boot_all(struct boot *b, struct err *err)
{
    CRASH_POINT("start.begun");
    phase(b, "prepare");
    if (vm_find_vmm(b->v, b->row.vmm, &b->ops, err) < 0 ||
        (!b->op && vm_admit_start(b->v, &b->row, b->ops, err) < 0) || open_files(b, err) < 0 ||
        choose_accel(b, err) < 0) {
        return -1;
    }
    return boot_in_slot(b, err);
}

int vm_boot(struct vms *v, const char *id, struct op *op, struct cancel *cancel, struct err *err)
{
    _cleanup_(boot_done) struct boot b = {
        .v = v,
        .op = op,
        .cancel = cancel,
        .kernel_fd = -1,
        .initramfs_fd = -1,
        .root_fd = -1,
        .data_fd = -1,
        .console_fd = -1,
        .console_write_fd = -1,
    };
    struct err ignored; /* the first error is the one to tell */

    if (vm_get_row(v, id, &b.row, err) < 0) {
        return -1;
    }
    if (b.row.state == VM_RUNNING) {
        return 0;
    }
    if (b.row.state == VM_PAUSED) {
        return vm_go_on(v, id, cancel, err);
    }
    /* Nothing of an earlier run may be left, a process least of all: it has the disk. */
    if (b.row.state == VM_ERROR && vm_undo(v, id, VM_UNDO_RUN, err) < 0) {
        return -1;
    }
    if (begin(&b, err) < 0 || boot_all(&b, err) < 0) {
        _cleanup_free_ char *reason = x_asprintf("start failed: %.200s", err->message);
        const struct vm_ending end = {.reason = reason, .exit = {.code = -1}};

        if (vm_clean_up(v, id, &end, &ignored) < 0) {
            log_error("VM %.12s: %s", id, ignored.message);
        }
        return -1;
    }
    phase(&b, NULL);
    b.run->ops->running_version(b.run->vmm, b.row.vmm_version);
    publish(v, &b);
    CRASH_POINT("start.published");
    if (vm_update(v, id, set_running, &b, err) < 0) {
        (void)vm_kill(v, id, "start failed: the store cannot be written", &ignored);
        return -1;
    }
    CRASH_POINT("start.done");
    return 0;
}

int vm_adopt(struct vms *v, const char *id, struct err *err)
{
    _cleanup_vm_row_ struct vm_row row = {0};
    _cleanup_vm_run_ struct vm_run *run = NULL;
    _cleanup_free_ char *run_dir = NULL;
    struct vmm_process process = {0};
    char console[64];
    struct vm_entry *e;
    int fd;

    if (vm_get_row(v, id, &row, err) < 0) {
        return -1;
    }
    if (!vm_process_from_object(vm_row_object(&row, OBJECT_PROCESS), &process)) {
        return err_set(err, ERR_NOT_FOUND, "its process was not noted");
    }
    if (!vmm_ops_find(row.vmm)) {
        return err_set(err, ERR_UNSUPPORTED, "this build cannot run VMs with '%s'", row.vmm);
    }
    run = x_calloc(1, sizeof(*run));
    run->vms = v;
    run->ops = vmm_ops_find(row.vmm); /* also one that is refused by now */
    run->refs = 1;
    memcpy(run->vm_id, id, ID_SIZE);
    run->incarnation = row.incarnation;
    run->run_fd = fs_open_dir(v->params.run_fd, id, false);
    if (run->run_fd < 0) {
        return err_set_errno(err, run->run_fd == -ENOENT ? ERR_NOT_FOUND : ERR_IO, run->run_fd,
                             "the run directory cannot be opened");
    }
    run_dir = x_asprintf("%s/%s", v->run_dir, id);
    if (run->ops->adopt(v->params.control_loop, v->params.host, run_dir, run->run_fd, &process,
                        vm_on_vmm_event, run, &run->vmm, err) < 0) {
        return -1;
    }
    fd = fs_unix_connect(run->run_fd, "agent.sock");
    if (fd == -ENOENT || fd == -ECONNREFUSED) {
        struct vmm_exit unused;

        /* Somebody removed its socket: nobody will ever reach it, and it must not go on without an
         * owner. */
        if (vm_end_vmm(run->ops, run->vmm, &unused, err) < 0) {
            return -1;
        }
        return err_set_errno(err, ERR_NOT_FOUND, fd,
                             "cannot connect to the VM's agent port, so its process was ended");
    }
    if (fd < 0) {
        return err_set_errno(err, ERR_VMM, fd, "cannot connect to the VM's agent port");
    }
    vm_begin_grace(run);
    run->link = open_link(run, fd, true);
    (void)snprintf(console, sizeof(console), "vms/%s/console.log", id);
    fd = openat(v->params.state_fd, console, O_RDWR | O_APPEND | O_CLOEXEC);
    watch_logs(run, fd);
    vm_adopt_paused(run, &row);
    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    e->run = STEAL_PTR(run);
    leaf_unlock(&v->table);
    return 0;
}
