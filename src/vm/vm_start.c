/* Booting one VM. The caller holds its token. */
#include "vm/vm_priv.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"
#include "codec/json.h"
#include "vmm/fake/fake_process.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HELLO_STEP_MS 1000
#define CONFIGURE_MS 15000

/* What one boot works with; all owned. */
struct boot {
    struct vms *v;
    struct op *op; /* or NULL; borrowed, as the next two are */
    struct cancel *cancel;
    const struct vm_fork *fork; /* NULL: it boots */
    int memory_fd;              /* of a machine that is going to be saved, or -1; borrowed */
    struct vm_row row;
    const struct vmm_ops *ops;
    struct vm_caps caps; /* until the run has them */
    struct vm_machine machine;
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
    vm_run_put(b->run);
}

static struct vm_hook hook(const struct boot *b)
{
    return (struct vm_hook){
        .vms = b->v, .row = &b->row, .ops = b->ops, .run = b->run, .cancel = b->cancel};
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
    const struct vmm_ops *ops = str_eq(name, "auto") ? v->params.vmm : vm_ops(v, name);

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

static int choose_accel(struct boot *b, struct err *err)
{
    struct vmm_spec *spec = &b->machine.spec;
    char why[ACCEL_WHY_SIZE];

    if (!(b->ops->features & VMM_BOOTS_KERNEL)) {
        (void)snprintf(b->row.accel, sizeof(b->row.accel), "none");
        (void)snprintf(b->row.accel_why, sizeof(b->row.accel_why),
                       "for tests: no machine and no isolation, commands run on the host");
        return 0;
    }
    if (!vm_accel_get(b->v, &spec->accel, why)) {
        phase(b, "probe KVM");
        if (vm_accel_find(b->v, b->ops, spec, b->row.kernel_digest, b->cancel, err) < 0) {
            return -1;
        }
        (void)vm_accel_get(b->v, &spec->accel, why);
        if (spec->accel == VMM_ACCEL_TCG && b->op) {
            /* A long reason is a crash's text: VM show and the log have it. */
            op_note(b->op, "KVM does not work here%s%s: using emulation, which is slower",
                    strlen(why) <= 60 ? ": " : "", strlen(why) <= 60 ? why : "");
        }
    }
    (void)snprintf(b->row.accel, sizeof(b->row.accel), "%s", vmm_accel_name(spec->accel));
    (void)snprintf(b->row.accel_why, sizeof(b->row.accel_why), "%s", why);
    spec->cmdline = b->cmdline;
    return vm_cmdline(b->v, spec->accel, &b->machine, b->cmdline, err);
}

/* What no machine can start without here: those checks of `banger doctor` that gate it. */
static int preflight(const struct boot *b, struct err *err)
{
    const struct doctor *doctor = b->v->params.doctor;
    const struct vm_hook h = hook(b);

    if (doctor && (b->ops->features & VMM_BOOTS_KERNEL) &&
        doctor_gate(doctor, DOCTOR_GATES_START, err) < 0) {
        return -1;
    }
    return vm_caps_start_preflight(b->v->params.capabilities, &h, err);
}

/* What the machine needs of the host is there, and the machine is known. */
static int prepare(struct boot *b, struct err *err)
{
    const struct vm_hook h = hook(b);

    b->machine.spec = (struct vmm_spec){
        .host = b->v->params.host,
        .name = b->row.name,
        .vcpus = b->row.vcpus,
        .memory_mib = b->row.memory_mib,
        .kernel_fd = -1,
        .initramfs_fd = -1,
        .root_disk_fd = -1,
        .data_disk_fd = -1,
        .memory_fd = b->memory_fd,
        .state_fd = -1,
        .tap_fd = -1,
        .console_fd = -1,
        .log_fd = -1,
        .program = b->v->params.fakevmm_path,
    };
    if (vm_caps_prepare_host(&b->caps, &h, err) < 0 ||
        vm_caps_machine_config(&b->caps, &h, &b->machine, err) < 0) {
        return -1;
    }
    return choose_accel(b, err);
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
    struct vm_run *run = vm_run_new(v, &b->row, b->ops);
    _cleanup_free_ char *faults = read_faults(&b->row);
    struct vmm_spec spec = b->machine.spec;
    int fd;

    b->run = run;
    if (make_run_dir(b, run_dir, &run->run_fd, err) < 0) {
        return -1;
    }
    if (b->fork) {
        spec.memory_fd = b->fork->memory_fd;
        spec.state_fd = b->fork->devices_fd;
        spec.kernel_fd = spec.initramfs_fd = -1;
    }
    spec.run_dir = run_dir;
    spec.run_dir_fd = run->run_fd;
    spec.faults = faults;
    CRASH_POINT("start.run_dir");
    if (run->ops->launch(v->params.control_loop, &spec, vm_on_vmm_event, run, &run->vmm, err) < 0) {
        return -1;
    }
    CRASH_POINT("start.launched");
    /* Written down with the state that follows. Until then the ledger has a process whose name is
     * not known, and the next daemon finds it by its run directory: vm_undo.c. */
    vm_note(v, run->vm_id, note_process, b);
    fd = v->seams.dial(run->run_fd);
    if (fd < 0) {
        return err_set_errno(err, ERR_VMM, fd, "cannot connect to the VM's agent port");
    }
    vm_run_link(run, fd, false);
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

static off_t console_size(const struct boot *b)
{
    struct stat st;

    return fstat(b->machine.spec.console_fd, &st) == 0 ? st.st_size : 0;
}

/* Waits for the agent. A guest that neither answers nor prints for boot_silence_ms hangs. */
static int wait_for_agent(struct boot *b, struct err *err)
{
    const struct vms_params *p = &b->v->params;
    int64_t give_up = clock_mono_ms() + p->boot_timeout_ms;
    int64_t last_sign = clock_mono_ms();
    off_t size = console_size(b);

    for (;;) {
        int64_t now = clock_mono_ms();
        int64_t until = now + HELLO_STEP_MS;
        off_t grown;

        until = until < give_up ? until : give_up;
        if (b->v->seams.wait_agent(b->run->link, b->cancel, until, err) == 0) {
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
        grown = console_size(b);
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

int vm_configure(struct vm_run *run, const struct vm_row *row, struct cancel *cancel,
                 struct err *err)
{
    const struct vm_hook h = {
        .vms = run->vms, .row = row, .ops = run->ops, .run = run, .cancel = cancel};
    struct guest_configure c = {0};

    if (vm_caps_guest_config(&run->caps, &h, &c, err) < 0) {
        return -1;
    }
    return guest_link_configure(run->link, &c, cancel, clock_mono_ms() + CONFIGURE_MS, err);
}

static int configure(struct boot *b, struct err *err)
{
    const struct vm_hook h = hook(b);
    struct guest_configure c = {0};

    if (vm_caps_guest_config(&b->caps, &h, &c, err) < 0) {
        return -1;
    }
    return guest_link_configure(b->run->link, &c, b->cancel, clock_mono_ms() + CONFIGURE_MS, err);
}

static int post_start(struct boot *b, struct err *err)
{
    const struct vm_hook h = hook(b);

    return vm_caps_post_start(&b->caps, &h, err);
}

/* The last lines of a log since the start on one line, for an error. Free it. */
static char *last_words(const struct boot *b, const char *log, size_t most)
{
    _cleanup_free_ char *all = vm_log_tail(b->v, b->row.id, log, most);
    char *tail = x_strdup(console_since_boot(all));
    size_t len = strlen(tail);

    while (len > 0 && tail[len - 1] == '\n') {
        tail[--len] = '\0';
    }
    for (char *p = tail; (p = strchr(p, '\n')); p++) {
        *p = '|';
    }
    return tail;
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
        _cleanup_free_ char *said = last_words(b, VM_LOG_VMM, 400);

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
        _cleanup_free_ char *tail = last_words(b, VM_LOG_CONSOLE, 600);

        if (tail[0]) {
            err_append(err, "; the console ends with: %s", tail);
        }
        err_hint(err,
                 "banger logs %s shows more where the VM was kept; a smaller --memory or a "
                 "broken image or kernel are common causes",
                 b->row.name);
    }
    vm_run_put(STEAL_PTR(b->run));
}

/* So that readers of the logs, and console_since_boot, know where this boot begins. */
static void mark_logs(const struct boot *b)
{
    char time[CLOCK_RFC3339_SIZE];
    _cleanup_free_ char *line = NULL;

    clock_format_rfc3339(b->v->seams.clock->real_ms(), time);
    line =
        x_asprintf(CONSOLE_MARK "boot %llu at %s\n", (unsigned long long)b->row.incarnation, time);
    /* A log: the boot matters more. */
    (void)fs_write_all(b->machine.spec.console_fd, line, strlen(line));
    (void)fs_write_all(b->machine.spec.log_fd, line, strlen(line));
}

static int attempt(struct boot *b, struct err *err)
{
    b->silent = false;
    mark_logs(b);
    phase(b, "vmm");
    if (launch(b, err) < 0) {
        return -1;
    }
    phase(b, b->fork ? "restore" : "boot");
    if (wait_for_cpus(b, err) < 0 || wait_for_agent(b, err) < 0) {
        return -1;
    }
    CRASH_POINT("start.greeted");
    phase(b, "configure");
    if (configure(b, err) < 0) {
        return -1;
    }
    CRASH_POINT("start.configured");
    return post_start(b, err);
}

static void set_state_starting(struct vm_row *row, void *arg)
{
    (void)arg;
    row->state = VM_STARTING;
}

/* The disk is one that a machine had mounted: the guest that boots mounts it as after a crash. */
static int restore(struct boot *b, struct err *err)
{
    const struct vm_templates *t = &b->v->templates;
    bool began;

    if (attempt(b, err) == 0) {
        return 0;
    }
    began = b->run && b->run->vmm;
    abandon(b, err);
    if (err->code == ERR_CANCELLED) {
        return -1;
    }
    log_warn("VM %.12s: it is booted, as template %.12s could not be restored: %s", b->row.id,
             b->fork->id, err->message);
    if (b->op) {
        op_note(b->op, "the template could not be restored: booting");
    }
    (void)snprintf(b->row.start_why, sizeof(b->row.start_why), "template %.12s is broken: %.100s",
                   b->fork->id, err->message);
    /* That no process can be started is no fault of the template's. */
    if (began) {
        t->broken(t->arg, b->fork->id, err);
    }
    /* What is to be a fork and nothing else. */
    if (b->row.role == VM_ROLE_POOL) {
        return -1;
    }
    b->fork = NULL;
    b->row.template_id[0] = '\0';
    vm_note(b->v, b->row.id, set_state_starting, NULL);
    return -1;
}

static int start_machine(struct boot *b, struct err *err)
{
    if (b->fork) {
        int r = restore(b, err);

        /* Without it any more: it boots. */
        if (b->fork) {
            return r;
        }
    }
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

    row->state = b->fork ? VM_RESTORING : VM_STARTING;
    /* A create keeps its mark until the VM runs: vm_load.c removes what a dead daemon left of it.
     */
    if (!b->op) {
        row->reason[0] = '\0';
    }
    row->state_since_ms = b->v->seams.clock->real_ms();
    row->incarnation++;
    row->exit_code = -1;
    row->exit_signal = 0;
    row->run_vcpus = row->vcpus;
    row->run_memory_mib = row->memory_mib;
    row->run_disk_bytes = row->disk_bytes;
    row->net_slot = b->row.net_slot;
    vm_row_enter_run(row);
    b->row.incarnation = row->incarnation;
}

static void set_running(struct vm_row *row, void *arg)
{
    const struct boot *b = arg;

    row->state = VM_RUNNING;
    row->reason[0] = '\0';
    row->state_since_ms = row->started_ms = b->v->seams.clock->real_ms();
    memcpy(row->accel, b->row.accel, sizeof(row->accel));
    memcpy(row->accel_why, b->row.accel_why, sizeof(row->accel_why));
    memcpy(row->vmm_version, b->row.vmm_version, sizeof(row->vmm_version));
    memcpy(row->template_id, b->row.template_id, sizeof(row->template_id));
    memcpy(row->start_why, b->row.start_why, sizeof(row->start_why));
    memcpy(row->timeline, b->phases, sizeof(row->timeline));
    row->phase_count = b->phase_count;
    memcpy(row->host_boot, b->v->boot_id, sizeof(row->host_boot));
    vm_mark_paused_locked(b->up, row);
}

/* The store has one row for each start, by its incarnation: with the next one it is not to see this
 * one's time. */
static void forget_started(struct vm_row *row, void *arg)
{
    const struct boot *b = arg;

    row->started_ms = b->row.started_ms;
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

static void publish(struct vms *v, struct boot *b)
{
    struct vm_entry *e;

    b->run->caps = b->caps;
    b->caps.held = 0;
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
    r = start_machine(b, err);
    boot_slots_release(b->v->slots);
    return r;
}

static int boot_all(struct boot *b, struct err *err)
{
    CRASH_POINT("start.begun");
    phase(b, "prepare");
    if (vm_find_vmm(b->v, b->row.vmm, &b->ops, err) < 0 || preflight(b, err) < 0 ||
        prepare(b, err) < 0) {
        return -1;
    }
    return boot_in_slot(b, err);
}

/* Nothing is left but the reason: no process any more, so what it needed can go. */
static void end_start(struct boot *b, const struct err *err) REQUIRES(rank_vm)
{
    _cleanup_free_ char *reason = x_asprintf("start failed: %.200s", err->message);
    const struct vm_ending end = {.reason = reason, .exit = {.code = -1}};
    struct err left; /* the first error is the one to tell */

    if (vm_caps_cleanup(&b->caps, &left) < 0) {
        log_error("VM %.12s: %s", b->row.id, left.message);
    }
    if (vm_clean_up(b->v, b->row.id, &end, &left) < 0) {
        log_error("VM %.12s: %s", b->row.id, left.message);
    }
}

static void copy_origin(struct boot *b)
{
    (void)snprintf(b->row.template_id, sizeof(b->row.template_id), "%s",
                   b->fork ? b->fork->id : "");
    /* An op is of a create, which has said why; templates are for those. */
    if (!b->op && b->v->templates.take) {
        (void)snprintf(b->row.start_why, sizeof(b->row.start_why),
                       "the VM was there already, with its disk");
    }
}

int vm_boot_plain(struct vms *v, const char *id, struct cancel *cancel, struct err *err)
{
    return vm_boot(v, id, &(struct vm_boot_params){.cancel = cancel, .memory_fd = -1}, err);
}

int vm_boot(struct vms *v, const char *id, const struct vm_boot_params *params, struct err *err)
{
    struct cancel *cancel = params->cancel;
    _cleanup_(boot_done) struct boot b = {
        .v = v,
        .op = params->op,
        .cancel = cancel,
        .fork = params->fork,
        .memory_fd = params->memory_fd,
        .caps.list = v->params.capabilities,
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
    /* One that has none yet, having been created where there was no network. */
    if (vm_take_slot(v, &b.row, err) < 0) {
        return -1;
    }
    copy_origin(&b);
    if (begin(&b, err) < 0 || boot_all(&b, err) < 0) {
        end_start(&b, err);
        return -1;
    }
    phase(&b, NULL);
    b.run->ops->running_version(b.run->vmm, b.row.vmm_version);
    publish(v, &b);
    CRASH_POINT("start.published");
    if (vm_update(v, id, set_running, &b, err) < 0) {
        vm_note(v, id, forget_started, &b);
        (void)vm_kill(v, id, "start failed: the store cannot be written", &ignored);
        return -1;
    }
    CRASH_POINT("start.done");
    return 0;
}
