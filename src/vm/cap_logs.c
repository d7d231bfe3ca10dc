/* The files that a VM's console and its VMM's output go to, and what keeps them short. */
#include "vm/capability.h"

#include "base/fs.h"
#include "base/str.h"
#include "vm/vm_priv.h"

#include <errno.h>
#include <fcntl.h>

struct logs {
    int console_fd, vmm_fd; /* until the VMM has them */
    struct console_watch *console, *vmm;
};

static void logs_free(struct logs *l)
{
    if (l) {
        close_p(&l->console_fd);
        close_p(&l->vmm_fd);
        console_watch_free(l->console);
        console_watch_free(l->vmm);
        free(l);
    }
}
DEFINE_CLEANUP(struct logs *, logs_free);

static struct logs *logs_new(void)
{
    struct logs *l = x_calloc(1, sizeof(*l));

    l->console_fd = l->vmm_fd = -1;
    return l;
}

static int open_log(const struct vms *v, const char *id, const char *name, int *ret_fd,
                    struct err *err)
{
    char path[VM_LOG_PATH_SIZE];

    vm_log_path(id, name, path);
    *ret_fd = openat(v->params.state_fd, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    return *ret_fd < 0 ? err_set_errno(err, ERR_IO, errno, "the VM's %s cannot be opened", name)
                       : 0;
}

static int open_logs(const struct vm_hook *h, struct err *err)
{
    _cleanup_(logs_free_p) struct logs *l = logs_new();

    if (open_log(h->vms, h->row->id, VM_LOG_CONSOLE, &l->console_fd, err) < 0 ||
        open_log(h->vms, h->row->id, VM_LOG_VMM, &l->vmm_fd, err) < 0) {
        return -1;
    }
    *h->state = STEAL_PTR(l);
    return 0;
}

static int add_logs(const struct vm_hook *h, struct vm_machine *m, struct err *err)
{
    const struct logs *l = *h->state;

    (void)err;
    m->spec.console_fd = l->console_fd;
    m->spec.log_fd = l->vmm_fd;
    return 0;
}

/* NULL: it cannot be watched, and grows. */
static struct console_watch *watch_log(struct vms *v, const char *id, const char *name)
{
    struct log_file *log = vm_log_get(v, id, name);
    struct console_watch *watch = NULL;
    char path[VM_LOG_PATH_SIZE];
    int fd;

    vm_log_path(id, name, path);
    fd = openat(v->params.state_fd, path, O_RDWR | O_APPEND | O_CLOEXEC);
    if (log && fd >= 0) {
        watch = console_watch_new(v->consoles, log, fd);
    } else {
        close_p(&fd);
    }
    log_file_put(log);
    return watch;
}

/* The VMM's own log is bounded like the console: a guest can make it warn as often as it likes. */
static void watch_logs(struct logs *l, const struct vm_hook *h)
{
    l->console = watch_log(h->vms, h->row->id, VM_LOG_CONSOLE);
    l->vmm = watch_log(h->vms, h->row->id, VM_LOG_VMM);
}

static int watch_started(const struct vm_hook *h, struct err *err)
{
    struct logs *l = *h->state;

    (void)err;
    close_p(&l->console_fd);
    close_p(&l->vmm_fd);
    watch_logs(l, h);
    return 0;
}

static int watch_adopted(const struct vm_hook *h, struct err *err)
{
    struct logs *l = logs_new();

    (void)err;
    watch_logs(l, h);
    *h->state = l;
    return 0;
}

static int let_go(void *state, struct err *err)
{
    (void)err;
    logs_free(state);
    return 0;
}

const struct vm_capability vm_cap_logs = {
    .name = "logs",
    .prepare_host = open_logs,
    .machine_config = add_logs,
    .post_start = watch_started,
    .adopt = watch_adopted,
    .cleanup = let_go,
};
