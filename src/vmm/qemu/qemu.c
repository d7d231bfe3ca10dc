/*
 * The QEMU back end. One QEMU per VM, in a session of its own, so that it outlives us; we hold its
 * pidfd and one connection to its QMP socket. QEMU takes the next client on the same sockets when
 * this one goes, which is what adoption rests on.
 */
#include "vmm/vmm.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/spawn.h"
#include "base/str.h"
#include "codec/json.h"
#include "host/process.h"
#include "vmm/qemu/qemu_cmdline.h"
#include "vmm/qemu/qemu_launch.h"
#include "vmm/qemu/qmp.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* How long QEMU may take to answer that it quits, and to end when it has not answered. */
#define QUIT_MS 5000
#define LAST_BREATH_MS 500

struct vmm {
    /* immutable */
    struct loop *loop;
    vmm_event_fn fn;
    void *arg;
    struct host *host;
    char *run_dir;
    struct vmm_process process;
    int pidfd;

    /* loop thread only */
    int exit_fd;                     /* struct host_vmm; -1 once it has told */
    struct loop_source *exit_source; /* NULL once it has exited */
    struct qmp *qmp;                 /* NULL: the socket could not be connected to */
    bool starting;                   /* the RESUME that comes next is the start's */
    bool port_open;                  /* the guest holds the agent's port open */
    bool write_failed;               /* and the STOP that this causes has not come yet */
    bool restores;                   /* the guest goes on by itself once it is restored */
    bool saving;
    bool in_event;
    char version[VMM_VERSION_SIZE];

    /* written on the loop's thread before `started` is set, not after */
    int start_result;
    struct err start_err;
    struct latch started;

    /* the same, before `saved` is set */
    int save_result;
    struct latch saved;

    /* the same, before `exited` is set */
    struct vmm_exit exit;
    struct latch exited;
};

/* Events -------------------------------------------------------------------------------------- */

static void emit(struct vmm *vmm, enum vmm_event event)
{
    vmm->in_event = true;
    vmm->fn(vmm->arg, event);
    vmm->in_event = false;
}

static void on_port_change(struct vmm *vmm, bool open)
{
    bool was_open = vmm->port_open;

    vmm->port_open = open;
    if (was_open && !open) {
        emit(vmm, VMM_PORT_CLOSED);
    }
}

static void on_greeting(void *arg, const json_t *data)
{
    struct vmm *vmm = arg;
    const json_t *v = json_object_get(json_object_get(data, "version"), "qemu");

    (void)snprintf(vmm->version, sizeof(vmm->version), "%lld.%lld.%lld", json_int(v, "major", 0),
                   json_int(v, "minor", 0), json_int(v, "micro", 0));
}

static void on_qmp_event(void *arg, const char *name, const json_t *data)
{
    struct vmm *vmm = arg;

    if (str_eq(name, "VSERPORT_CHANGE")) {
        if (str_eq(json_str(data, "id", ""), "agent")) {
            on_port_change(vmm, json_flag(data, "open", false));
        }
    } else if (str_eq(name, "SHUTDOWN")) {
        /* Otherwise it was told to end by a signal. */
        if (json_flag(data, "guest", false)) {
            emit(vmm, str_eq(json_str(data, "reason", ""), "guest-shutdown") ? VMM_GUEST_POWEROFF
                                                                             : VMM_GUEST_RESET);
        }
    } else if (str_eq(name, "BLOCK_IO_ERROR")) {
        /* Several may come before the CPUs are stopped, and none is followed by a STOP when they
         * were stopped already. */
        vmm->write_failed |= str_eq(json_str(data, "action", ""), "stop");
    } else if (str_eq(name, "STOP")) {
        if (vmm->write_failed) {
            vmm->write_failed = false;
            emit(vmm, VMM_IO_STOPPED);
        }
    } else if (str_eq(name, "RESUME")) {
        vmm->write_failed = false;
        if (vmm->restores && !latch_is_set(&vmm->started)) {
            latch_set(&vmm->started);
        } else if (vmm->starting) {
            vmm->starting = false;
        } else {
            emit(vmm, VMM_RESUMED);
        }
    } else if (str_eq(name, "MIGRATION") && !vmm->restores && !latch_is_set(&vmm->saved)) {
        const char *status = json_str(data, "status", "");

        if (str_eq(status, "completed") || str_eq(status, "failed")) {
            vmm->save_result = str_eq(status, "completed") ? 0 : -1;
            latch_set(&vmm->saved);
        }
    }
}

static void on_started(void *arg, const json_t *result, const struct err *err)
{
    struct vmm *vmm = arg;

    (void)result;
    if (err) {
        vmm->start_err = *err;
        vmm->start_result = -1;
    }
    latch_set(&vmm->started);
}

static json_t *capabilities(void)
{
    /* QEMU leaves the memory to the file, and tells by events how far it is. */
    return json_pack("{s:[{s:s, s:b}, {s:s, s:b}]}", "capabilities", "capability",
                     "x-ignore-shared", "state", 1, "capability", "events", "state", 1);
}

/* A step of a restore. The last has no other answer, when all goes well, than that the guest runs.
 */
static void on_restoring(void *arg, const json_t *result, const struct err *err)
{
    struct vmm *vmm = arg;

    (void)result;
    if (err && !latch_is_set(&vmm->started)) {
        vmm->start_err = *err;
        vmm->start_result = -1;
        latch_set(&vmm->started);
    }
}

/* All in one write; QEMU reads it when it is ready. It was saved while it ran, and so it runs when
 * it is restored. It is not to announce the address of the machine that was saved. */
static void restore(struct vmm *vmm)
{
    char uri[16];
    struct {
        const char *command;
        json_t *arguments;
    } steps[] = {
        {"migrate-set-capabilities", capabilities()},
        {"migrate-set-parameters", json_pack("{s:i}", "announce-rounds", 0)},
        {"migrate-incoming", NULL},
    };

    (void)snprintf(uri, sizeof(uri), "fd:%d", QEMU_FD_STATE);
    steps[2].arguments = json_pack("{s:s}", "uri", uri);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct err err;

        if (qmp_execute(vmm->qmp, steps[i].command, steps[i].arguments, on_restoring, vmm, &err) <
            0) {
            on_restoring(vmm, NULL, &err);
        }
    }
}

/* The CPUs wait for this, so that the guest does nothing before we are told of its events. */
static void start_cpus(struct vmm *vmm)
{
    struct err err;

    vmm->starting = true;
    if (qmp_execute(vmm->qmp, "cont", NULL, on_started, vmm, &err) < 0) {
        on_started(vmm, NULL, &err);
    }
}

/* What happened before this connection was made: the events of that time went to somebody else. */
static void on_chardevs(void *arg, const json_t *result, const struct err *err)
{
    struct vmm *vmm = arg;
    size_t i;
    json_t *dev;

    (void)err;
    json_array_foreach (result, i, dev) {
        if (str_eq(json_str(dev, "label", ""), "agent")) {
            on_port_change(vmm, json_flag(dev, "frontend-open", false));
        }
    }
}

static void on_status(void *arg, const json_t *result, const struct err *err)
{
    const char *status = json_str(result, "status", "");
    struct vmm *vmm = arg;

    (void)err;
    if (str_eq(status, "io-error")) {
        emit(vmm, VMM_IO_STOPPED);
    } else if (str_eq(status, "prelaunch") && !latch_is_set(&vmm->started)) {
        start_cpus(vmm); /* the launching daemon died too early */
    }
}

/* What is waited for as an event comes to nobody any more. */
static void on_qmp_closed(void *arg, const struct err *why)
{
    struct vmm *vmm = arg;

    if (vmm->restores) {
        on_restoring(vmm, NULL, why);
    }
    if (vmm->saving && !latch_is_set(&vmm->saved)) {
        vmm->save_result = -1;
        latch_set(&vmm->saved);
    }
}

static void on_exit_readable(void *arg, uint32_t events);

static void watch_exit(struct vmm *vmm)
{
    vmm->exit_source = loop_add_io(vmm->loop, vmm->exit_fd >= 0 ? vmm->exit_fd : vmm->pidfd,
                                   EPOLLIN, on_exit_readable, vmm);
}

static void on_exit_readable(void *arg, uint32_t events)
{
    struct vmm *vmm = arg;
    bool told = vmm->exit_fd >= 0 && host_take_exit(vmm->exit_fd, &vmm->exit);

    (void)events;
    loop_source_free(vmm->exit_source);
    vmm->exit_source = NULL;
    if (vmm->exit_fd >= 0) {
        close_p(&vmm->exit_fd);
        if (!told) {
            watch_exit(vmm);
            return;
        }
    }
    if (vmm->qmp) {
        qmp_drain(vmm->qmp);
    }
    if (!told) {
        process_collect(vmm->pidfd, &vmm->exit);
    }
    if (!latch_is_set(&vmm->started)) {
        vmm->start_result = err_set(&vmm->start_err, ERR_VMM, "QEMU has ended");
        latch_set(&vmm->started);
    }
    if (!latch_is_set(&vmm->saved)) {
        vmm->save_result = -1;
        latch_set(&vmm->saved);
    }
    latch_set(&vmm->exited);
    emit(vmm, VMM_EXITED);
}

/* Making and freeing -------------------------------------------------------------------------- */

struct attaching {
    struct vmm *vmm;
    int qmp_fd;
    bool adopted;
};

static void open_qmp(struct vmm *vmm, int fd)
{
    const struct qmp_handler handler = {
        .greeting = on_greeting, .event = on_qmp_event, .closed = on_qmp_closed, .arg = vmm};
    uint32_t first_id;

    random_bytes(&first_id, sizeof(first_id));
    /* Far from those of other connections, and below what is exact in any JSON parser, 2^53. */
    vmm->qmp = qmp_new(vmm->loop, fd, ((uint64_t)first_id << 20) + 1, &handler);
}

static void ask_how_it_is(struct vmm *vmm)
{
    struct err err;

    (void)qmp_execute(vmm->qmp, "query-chardev", NULL, on_chardevs, vmm, &err);
    (void)qmp_execute(vmm->qmp, "query-status", NULL, on_status, vmm, &err);
}

static void attach(void *arg)
{
    struct attaching *a = arg;
    struct vmm *vmm = a->vmm;

    watch_exit(vmm);
    if (a->qmp_fd >= 0) {
        open_qmp(vmm, a->qmp_fd);
        if (a->adopted) {
            ask_how_it_is(vmm);
        } else if (vmm->restores) {
            restore(vmm);
        } else {
            start_cpus(vmm);
        }
    }
}

/* A connection that broke is made anew when there is something to say. */
static void reconnect(struct vmm *vmm)
{
    _cleanup_close_ int dir_fd = open(vmm->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = dir_fd < 0 ? -errno : fs_unix_connect(dir_fd, QEMU_QMP_SOCKET);

    if (fd >= 0) {
        qmp_free(vmm->qmp);
        open_qmp(vmm, fd);
        ask_how_it_is(vmm);
    }
}

static void detach(void *arg)
{
    struct vmm *vmm = arg;

    assert(!vmm->in_event);
    loop_source_free(vmm->exit_source);
    vmm->exit_source = NULL;
    qmp_free(vmm->qmp);
    vmm->qmp = NULL;
}

/* What a handle is made of: taken over are the two descriptors, of which qmp_fd may be -1. */
struct making {
    struct loop *loop;
    struct host *host;
    const char *run_dir;
    struct host_vmm process;
    int qmp_fd;
    bool adopted, restores;
    vmm_event_fn fn;
    void *arg;
};

static struct vmm *vmm_new(const struct making *m)
{
    struct vmm *vmm = x_calloc(1, sizeof(*vmm));
    struct attaching a = {.vmm = vmm, .qmp_fd = m->qmp_fd, .adopted = m->adopted};

    vmm->loop = m->loop;
    vmm->fn = m->fn;
    vmm->arg = m->arg;
    vmm->host = m->host;
    vmm->run_dir = x_strdup(m->run_dir);
    vmm->process = m->process.process;
    vmm->pidfd = m->process.pidfd;
    vmm->exit_fd = m->process.exit_fd;
    vmm->restores = m->restores;
    latch_init(&vmm->started);
    latch_init(&vmm->saved);
    latch_init(&vmm->exited);
    loop_call(vmm->loop, attach, &a);
    return vmm;
}

static void qemu_free(struct vmm *vmm)
{
    struct vmm_exit unused;

    if (!vmm) {
        return;
    }
    loop_call(vmm->loop, detach, vmm);
    if (!latch_is_set(&vmm->exited)) {
        process_collect(vmm->pidfd, &unused); /* in case it ended just now: leave no zombie */
    }
    close_p(&vmm->pidfd);
    close_p(&vmm->exit_fd);
    latch_done(&vmm->started);
    latch_done(&vmm->saved);
    latch_done(&vmm->exited);
    free(vmm->run_dir);
    free(vmm);
}

/* Launch -------------------------------------------------------------------------------------- */

static int qemu_launch(struct loop *loop, const struct vmm_spec *spec, vmm_event_fn fn, void *arg,
                       struct vmm **ret_vmm, struct err *err)
{
    struct making m = {
        .loop = loop,
        .host = spec->host,
        .run_dir = spec->run_dir,
        .restores = spec->state_fd >= 0,
        .fn = fn,
        .arg = arg,
    };

    if (qemu_start(spec, &m.process, &m.qmp_fd, err) < 0) {
        return -1;
    }
    *ret_vmm = vmm_new(&m);
    return 0;
}

static int qemu_adopt(struct loop *loop, struct host *host, const char *run_dir, int run_dir_fd,
                      const struct vmm_process *process, vmm_event_fn fn, void *arg,
                      struct vmm **ret_vmm, struct err *err)
{
    int pidfd = process_open(process, run_dir);
    int qmp_fd;

    if (pidfd == -ESRCH) {
        return err_set(err, ERR_NOT_FOUND, "no process %d of '%s'", process->pid, run_dir);
    }
    if (pidfd < 0) {
        return err_set_errno(err, ERR_VMM, pidfd, "cannot take over process %d", process->pid);
    }
    /* Without its socket (somebody removed it) the VM still can be watched and killed. */
    qmp_fd = fs_unix_connect(run_dir_fd, QEMU_QMP_SOCKET);
    *ret_vmm =
        vmm_new(&(struct making){.loop = loop,
                                 .host = host,
                                 .run_dir = run_dir,
                                 .process = {.process = *process, .pidfd = pidfd, .exit_fd = -1},
                                 .qmp_fd = qmp_fd < 0 ? -1 : qmp_fd,
                                 .adopted = true,
                                 .fn = fn,
                                 .arg = arg});
    return 0;
}

/* Control ------------------------------------------------------------------------------------- */

static const struct vmm_process *qemu_process(const struct vmm *vmm)
{
    return &vmm->process;
}

struct version_query {
    const struct vmm *vmm;
    char *version;
};

static void copy_version(void *arg)
{
    struct version_query *q = arg;

    memcpy(q->version, q->vmm->version, VMM_VERSION_SIZE);
}

static void qemu_running_version(struct vmm *vmm, char ret_version[VMM_VERSION_SIZE])
{
    loop_call(vmm->loop, copy_version, &(struct version_query){.vmm = vmm, .version = ret_version});
}

/* One command and its answer; shared by the waiting thread and the loop, as the wait may end first.
 */
struct command {
    atomic_int refs;
    /* for send_command only */
    struct vmm *vmm;
    const char *name;
    json_t *arguments;
    int fd; /* to be sent first; -1 = none */

    /* written on the loop's thread before `answered` is set, not after */
    int result;
    struct err err;
    struct latch answered;
};

static void command_put(struct command *c)
{
    if (atomic_fetch_sub(&c->refs, 1) == 1) {
        json_decref(c->arguments);
        latch_done(&c->answered);
        free(c);
    }
}
DEFINE_CLEANUP(struct command *, command_put);

/* Consumes the loop's reference. */
static void on_answer(void *arg, const json_t *result, const struct err *err)
{
    struct command *c = arg;

    (void)result;
    if (err) {
        c->err = *err;
        c->result = -1;
    }
    latch_set(&c->answered);
    command_put(c);
}

static void send_command(void *arg)
{
    struct command *c = arg;
    struct err err;

    if (c->vmm->exit_source && (!c->vmm->qmp || qmp_has_ended(c->vmm->qmp))) {
        reconnect(c->vmm);
    }
    if (!c->vmm->exit_source) {
        (void)err_set(&err, ERR_NOT_RUNNING, "QEMU has ended");
        on_answer(c, NULL, &err);
    } else if (!c->vmm->qmp) {
        (void)err_set(&err, ERR_VMM, "QEMU's control socket is gone");
        on_answer(c, NULL, &err);
    } else if ((c->fd >= 0 && qmp_send_fd(c->vmm->qmp, c->fd, &err) < 0) ||
               qmp_execute(c->vmm->qmp, c->name, STEAL_PTR(c->arguments), on_answer, c, &err) < 0) {
        on_answer(c, NULL, &err);
    }
}

static int execute_with_fd(struct vmm *vmm, const char *name, json_t *arguments, int fd,
                           struct cancel *cancel, int64_t deadline_ms, struct err *err)
{
    _cleanup_(command_put_p) struct command *c = x_calloc(1, sizeof(*c));
    int r;

    assert(!loop_is_current(vmm->loop));
    atomic_init(&c->refs, 2);
    c->vmm = vmm;
    c->name = name;
    c->arguments = arguments;
    c->fd = fd;
    latch_init(&c->answered);
    loop_call(vmm->loop, send_command, c);
    r = latch_wait(&c->answered, cancel, deadline_ms);
    if (r < 0) {
        return err_set_errno(err, ERR_VMM, r, "QEMU has not answered '%s'", name);
    }
    if (c->result < 0) {
        *err = c->err;
        return err_wrap(err, "'%s'", name);
    }
    return 0;
}

/* Takes over the arguments, which may be NULL. */
static int execute(struct vmm *vmm, const char *name, json_t *arguments, struct cancel *cancel,
                   int64_t deadline_ms, struct err *err)
{
    return execute_with_fd(vmm, name, arguments, -1, cancel, deadline_ms, err);
}

static int qemu_pause(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms, struct err *err)
{
    return execute(vmm, "stop", NULL, cancel, deadline_ms, err);
}

static int qemu_resume(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms, struct err *err)
{
    return execute(vmm, "cont", NULL, cancel, deadline_ms, err);
}

/* QEMU looks at the file's size by itself only when it opens it. */
static int qemu_grow_disk(struct vmm *vmm, uint64_t bytes, struct cancel *cancel,
                          int64_t deadline_ms, struct err *err)
{
    if (host_allow_disk(vmm->host, &vmm->process, vmm->run_dir, bytes, err) < 0) {
        return err_hint(err, "it has the size at its next start: banger restart");
    }
    return execute(vmm, "block_resize",
                   json_pack("{s:s, s:I}", "node-name", QEMU_NODE_DATA, "size", (json_int_t)bytes),
                   cancel, deadline_ms, err);
}

static void begin_saving(void *arg)
{
    struct vmm *vmm = arg;

    vmm->saving = true;
}

/* The guest is stopped for the write, and stays so: its clones may have its disk from now on. */
static int qemu_save(struct vmm *vmm, int state_fd, struct cancel *cancel, int64_t deadline_ms,
                     struct err *err)
{
    int r;

    loop_call(vmm->loop, begin_saving, vmm);
    if (execute(vmm, "migrate-set-capabilities", capabilities(), cancel, deadline_ms, err) < 0 ||
        execute_with_fd(vmm, "getfd", json_pack("{s:s}", "fdname", "state"), state_fd, cancel,
                        deadline_ms, err) < 0 ||
        execute(vmm, "migrate", json_pack("{s:s}", "uri", "fd:state"), cancel, deadline_ms, err) <
            0) {
        return -1;
    }
    r = latch_wait(&vmm->saved, cancel, deadline_ms);
    if (r < 0) {
        return err_set_errno(err, ERR_VMM, r, "QEMU has not saved the machine");
    }
    return vmm->save_result < 0 ? err_set(err, ERR_VMM, "QEMU could not save the machine") : 0;
}

static int qemu_wait_started(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms,
                             struct err *err)
{
    int r = latch_wait(&vmm->started, cancel, deadline_ms);

    if (r < 0) {
        return err_set_errno(err, ERR_VMM, r, "QEMU has not started the guest");
    }
    if (vmm->start_result < 0) {
        *err = vmm->start_err;
        return err_wrap(err, "QEMU did not start the guest");
    }
    return 0;
}

/* It may run as another uid than ours. A host that has no rights over it (a daemon without root,
 * after one with it) can still ask, and a QEMU that does not hang obeys, whether or not its answer
 * comes before its end. */
static int qemu_kill(struct vmm *vmm, struct err *err)
{
    struct err quit;

    if (pidfd_send_signal(vmm->pidfd, SIGKILL, NULL, 0) == 0 || errno == ESRCH ||
        host_kill(vmm->host, &vmm->process, vmm->run_dir, err) == 0) {
        return 0;
    }
    log_warn("%s: asking it to quit", err->message);
    if (execute(vmm, "quit", NULL, NULL, clock_mono_ms() + QUIT_MS, &quit) < 0 &&
        latch_wait(&vmm->exited, NULL, clock_mono_ms() + LAST_BREATH_MS) < 0) {
        return err_append(err, "; %s", quit.message);
    }
    return 0;
}

static int qemu_wait_exit(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms,
                          struct vmm_exit *ret_exit)
{
    int r = latch_wait(&vmm->exited, cancel, deadline_ms);

    if (r < 0) {
        return r;
    }
    *ret_exit = vmm->exit;
    return 0;
}

const struct vmm_ops vmm_qemu_ops = {
    .name = "qemu",
    .program = QEMU_PROGRAM,
    .features = VMM_BOOTS_KERNEL | VMM_RESTORES,
    .version = qemu_version,
    .launch = qemu_launch,
    .adopt = qemu_adopt,
    .process = qemu_process,
    .running_version = qemu_running_version,
    .describe = qemu_cmdline_describe,
    .wait_started = qemu_wait_started,
    .pause = qemu_pause,
    .resume = qemu_resume,
    .grow_disk = qemu_grow_disk,
    .save = qemu_save,
    .kill = qemu_kill,
    .wait_exit = qemu_wait_exit,
    .free = qemu_free,
};
