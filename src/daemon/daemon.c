#include "daemon/daemon_priv.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/temp_file.h"
#include "boot/tsc.h"
#include "daemon/supervisor.h"
#include "version.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/sysinfo.h>

#define CREATES_MAX 512
#define IMAGE_OPS_MAX 16
#define HOLDER_END_MS 10000
/* A pid, and the path of a socket. */
#define LOCK_TEXT_SIZE (32 + PATH_MAX)

/* Whether the lock's holder, who does not listen any more, has ended. It takes a moment to let go
 * of everything, and who starts a daemon in that moment is not to be told that one runs. */
static bool holder_has_ended(const char *pid_text, const char *socket)
{
    _cleanup_close_ int socket_fd = fs_unix_connect(AT_FDCWD, socket);
    _cleanup_close_ int pidfd = -1;
    uint64_t pid;

    if (socket_fd >= 0 || str_to_u64(pid_text, INT32_MAX, &pid) < 0) {
        return false;
    }
    pidfd = pidfd_open((pid_t)pid, 0);
    if (pidfd < 0) {
        return errno == ESRCH;
    }
    return cancel_wait_fd(NULL, pidfd, POLLIN, clock_mono_ms() + HOLDER_END_MS) == 0;
}

/* What the lock's holder has written: text becomes its pid, and where it listens is returned, which
 * may be elsewhere than we are to. Before it has written, or if its version does not, that is taken
 * to be the same. */
static const char *read_holder(const struct daemon *d, char text[LOCK_TEXT_SIZE])
{
    ssize_t n = pread(d->lock_fd, text, LOCK_TEXT_SIZE - 1, 0);
    char *socket = text;

    text[n > 0 ? n : 0] = '\0';
    (void)strsep(&socket, "\n");
    if (socket) {
        socket[strcspn(socket, "\n")] = '\0';
    }
    return socket && socket[0] ? socket : d->params.paths->socket;
}

static int refuse(const struct daemon *d, const char *pid_text, const char *socket, struct err *err)
{
    const struct paths *p = d->params.paths;

    /* One that has just begun has not written it yet. */
    if (!pid_text[0]) {
        return err_set(err, ERR_BUSY, "a daemon for '%s' is already starting", p->state_dir);
    }
    return str_eq(socket, p->socket)
               ? err_set(err, ERR_BUSY, "a daemon for '%s' is already running (pid %s)",
                         p->state_dir, pid_text)
               : err_set(err, ERR_BUSY,
                         "a daemon for '%s' is already running (pid %s), and listens on '%s'",
                         p->state_dir, pid_text, socket);
}

/* A kernel lock, which dies with its holder; what is inside is for finding and naming it. */
static int take_lock(struct daemon *d, struct err *err)
{
    _cleanup_free_ char *ours = NULL;
    char text[LOCK_TEXT_SIZE];
    size_t len;

    d->lock_fd = openat(d->state_fd, "daemon.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock_fd < 0) {
        err_set_errno(err, ERR_IO, errno, "cannot open the lock of '%s'",
                      d->params.paths->state_dir);
        return err_hint(err, "the state directory must be writable and have free space");
    }
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        const char *socket = read_holder(d, text);

        if (!holder_has_ended(text, socket) || flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0) {
            return refuse(d, text, socket, err);
        }
    }
    ours = x_asprintf("%d\n%s\n", getpid(), d->params.paths->socket);
    len = strlen(ours);
    /* Written over, and then cut: a full disk has no room for it once it is empty. */
    if (pwrite(d->lock_fd, ours, len, 0) != (ssize_t)len || ftruncate(d->lock_fd, (off_t)len) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot write the lock of '%s'",
                             d->params.paths->state_dir);
    }
    return 0;
}

/* Other daemons of this owner may be writing there: theirs are left alone. */
static void sweep_cache(const struct daemon *d)
{
    int n = temp_file_sweep(d->cache_fd);

    if (n != 0) {
        log_info("cache: %d unfinished files of dead daemons removed%s%s", n > 0 ? n : 0,
                 n < 0 ? ": " : "", n < 0 ? strerror(-n) : "");
    }
}

static int open_layout(struct daemon *d, struct err *err)
{
    const struct paths *p = d->params.paths;

    d->state_fd = paths_open_dir(p, p->state_dir, err);
    if (d->state_fd < 0 || take_lock(d, err) < 0) {
        return -1;
    }
    d->cache_fd = paths_open_dir(p, p->cache_dir, err);
    if (d->cache_fd < 0) {
        return -1;
    }
    sweep_cache(d);
    d->runtime_fd = paths_open_dir(p, p->runtime_dir, err);
    if (d->runtime_fd < 0) {
        return -1;
    }
    d->run_dir = x_asprintf("%s/vms", p->runtime_dir);
    d->run_fd = fs_open_dir(d->runtime_fd, "vms", true);
    if (d->run_fd < 0) {
        return err_set_errno(err, ERR_IO, d->run_fd, "cannot make '%s'", d->run_dir);
    }
    return 0;
}

static enum vm_accel_choice accel_choice(const char *name)
{
    return str_eq(name, "kvm") ? VM_ACCEL_KVM : str_eq(name, "tcg") ? VM_ACCEL_TCG : VM_ACCEL_AUTO;
}

static int open_templates(struct daemon *d, uint32_t tsc_khz, struct err *err)
{
    const struct config *c = d->params.config;
    const struct templates_params p = {
        .store = d->store,
        .space = d->space,
        .vms = d->vms,
        .state_fd = d->state_fd,
        .tsc_khz = tsc_khz,
        .automatic = str_eq(c->templates, "auto"),
        .budget_bytes = (uint64_t)c->template_disk_mib << 20,
        .pool_size = (unsigned)c->pool_size,
        .clock = d->params.seams.vm.clock,
    };
    struct vm_templates source;

    if (str_eq(c->templates, "off")) {
        return 0;
    }
    if (templates_new(&p, &d->templates, err) < 0) {
        return -1;
    }
    source = templates_for_vms(d->templates);
    vms_set_templates(d->vms, &source);
    return 0;
}

static int open_vms(struct daemon *d, struct err *err)
{
    const struct config *c = d->params.config;
    struct vms_params p = {
        .store = d->store,
        .images = d->images,
        .space = d->space,
        .vmm = d->params.vmm,
        .host = d->params.host,
        .net = d->net,
        .dns = d->dns,
        .fakevmm_path = d->params.fakevmm_path,
        .control_loop = d->control_loop,
        .guest_loop = d->guest_loop,
        .state_fd = d->state_fd,
        .cache_fd = d->cache_fd,
        .run_fd = d->run_fd,
        .run_dir = d->run_dir,
        .accel = accel_choice(c->accel),
        .default_image = c->default_image,
        .default_kernel = c->default_kernel[0] ? c->default_kernel : NULL,
        .boot_slots = c->boot_slots > 0 ? (unsigned)c->boot_slots : (unsigned)get_nprocs(),
        .boot_timeout_ms = c->boot_timeout_s * 1000,
        .boot_silence_ms = c->boot_silence_s * 1000,
        .seams = d->params.seams.vm,
    };
    struct daemon_doctor_params checks = {
        .paths = d->params.paths,
        .config = c,
        .vmm = d->params.vmm,
        .helper = d->params.helper_path,
        .launcher = d->params.launcher_path,
        .agent = d->agent_path,
        .mkroot = d->mkroot_path,
        .has_root = d->params.has_root,
        .store = d->store,
    };
    int r = tsc_host_khz(&p.tsc_khz);

    if (r < 0) {
        p.tsc_khz = 0;
        log_warn("the host's TSC rate cannot be told (%s): emulated guests cannot boot",
                 strerror(-r));
    }
    checks.tsc_khz = p.tsc_khz;
    d->doctor = daemon_doctor_new(&checks);
    p.doctor = daemon_doctor_list(d->doctor);
    d->vms = vms_new(&p);
    daemon_doctor_set_vms(d->doctor, d->vms);
    if (open_templates(d, p.tsc_khz, err) < 0 || vms_load(d->vms, err) < 0) {
        return -1;
    }
    if (nets_start(d->net, d->control_loop, err) < 0) {
        return -1;
    }
    return d->templates ? templates_start_pools(d->templates, err) : 0;
}

/* The socket is in its own directory, which may be named by BANGER_SOCKET. */
static int listen_fd(const struct daemon *d, struct err *err)
{
    _cleanup_free_ char *for_dir = x_strdup(d->params.paths->socket);
    _cleanup_free_ char *for_name = x_strdup(d->params.paths->socket);
    const char *dir = dirname(for_dir);
    _cleanup_close_ int dir_fd = paths_open_dir(d->params.paths, dir, err);
    int fd;

    if (dir_fd < 0) {
        return -1;
    }
    fd = fs_unix_listen(dir_fd, basename(for_name), 512);
    return fd < 0 ? err_set_errno(err, ERR_IO, fd, "cannot listen on '%s'", d->params.paths->socket)
                  : fd;
}

/* Nobody can give us another one: root is gone from here. VMs go on, and so do clients with the
 * next daemon, which has a helper again when root starts it. */
static void on_helper_gone(void *arg, uint32_t events)
{
    struct daemon *d = arg;

    (void)events;
    loop_source_free(STEAL_PTR(d->helper_source));
    atomic_store(&d->helper_gone, true);
    cancel_trigger(d->stop);
}

static void watch_helper(void *arg)
{
    struct daemon *d = arg;
    struct host *host = d->params.host;
    int fd = host->ops->watch_fd(host);

    if (fd >= 0) {
        d->helper_source = loop_add_io(d->control_loop, fd, EPOLLIN, on_helper_gone, d);
    }
}

static void unwatch_helper(void *arg)
{
    struct daemon *d = arg;

    loop_source_free(STEAL_PTR(d->helper_source));
}

static int open_events(struct daemon *d, struct err *err)
{
    uint64_t first, last;

    if (store_event_range(d->store, &first, &last, err) < 0) {
        return -1;
    }
    d->events = events_new(last);
    store_on_event(d->store, events_note, d->events);
    return 0;
}

static int open_images(struct daemon *d, struct err *err)
{
    return image_registry_new(&(struct image_registry_params){.store = d->store,
                                                              .space = d->space,
                                                              .state_fd = d->state_fd,
                                                              .cache_fd = d->cache_fd,
                                                              .agent_path = d->agent_path,
                                                              .mkroot_path = d->mkroot_path,
                                                              .build = d->params.seams.build_image,
                                                              .spawn = d->params.seams.vm.spawn,
                                                              .clock = d->params.seams.vm.clock},
                              &d->images, err);
}

static int open_net(struct daemon *d, struct err *err)
{
    const struct config *c = d->params.config;

    return nets_new(&(struct nets_params){.host = d->params.host,
                                          .store = d->store,
                                          .mode = c->network,
                                          .subnet = c->subnet,
                                          .tap_pool_size = (unsigned)c->tap_pool_size,
                                          .random = d->params.seams.vm.random},
                    &d->net, err);
}

/* One that the host's programs can ask, too; without it guests can. */
static void listen_for_host(struct daemon *d)
{
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)d->params.config->dns_port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct err err;

    if (at.sin_port &&
        dns_listen(d->dns, (const struct sockaddr *)&at, DNS_HOST, &d->dns_port, &err) < 0) {
        log_warn("no VMs' names for programs of the host: %s", err.message);
    }
}

static int serve_guests(struct daemon *d, struct err *err)
{
    int fds[HOST_DNS_SOCKETS];

    if (host_net_dns(d->params.host, fds, err) < 0) {
        return -1;
    }
    if (dns_serve(d->dns, fds[0], fds[1], DNS_GUEST, err) < 0) {
        close_p(&fds[2]);
        close_p(&fds[3]);
        return -1;
    }
    return fds[2] < 0 ? 0 : dns_serve(d->dns, fds[2], fds[3], DNS_GUEST, err);
}

static void find_ranges(const struct host_subnet *subnet, struct dns_range ret[2])
{
    struct in_addr in = {.s_addr = htonl(subnet->ipv4)};

    ret[0] = (struct dns_range){.address.family = AF_INET, .prefix = subnet->ipv4_bits};
    memcpy(ret[0].address.bytes, &in, sizeof(in));
    ret[1] = (struct dns_range){.address.family = AF_INET6, .prefix = 64};
    memcpy(ret[1].address.bytes, subnet->ipv6, sizeof(subnet->ipv6));
}

/* Who has no names reaches addresses all the same. */
static int open_dns(struct daemon *d, struct err *err)
{
    struct dns_range ranges[2];
    int r;

    if (nets_why_not(d->net)) {
        return 0;
    }
    find_ranges(nets_subnet(d->net), ranges);
    r = loop_new("dns", &d->dns_loop);
    if (r < 0) {
        return err_set_errno(err, ERR_INTERNAL, r, "cannot start a loop");
    }
    if (dns_open(&(struct dns_params){.loop = d->dns_loop,
                                      .domain = VM_DOMAIN,
                                      .ranges = ranges,
                                      .range_count = ARRAY_LEN(ranges),
                                      .resolv_conf = d->params.config->resolv_conf},
                 &d->dns, err) < 0) {
        return -1;
    }
    if (serve_guests(d, err) < 0) {
        log_warn("guests cannot ask for names: %s", err->message);
    }
    listen_for_host(d);
    return 0;
}

static int open_all(struct daemon *d, struct err *err)
{
    const struct daemon_seams *seams = &d->params.seams;
    int fd, r;

    fs_raise_limit(); /* a VM takes about ten */
    d->space = space_new((uint64_t)d->params.config->min_free_mib << 20);
    if (open_layout(d, err) < 0 || store_open(d->state_fd, &d->store, err) < 0 ||
        open_events(d, err) < 0 || open_images(d, err) < 0) {
        return -1;
    }
    r = loop_new("control", &d->control_loop);
    if (r == 0) {
        r = loop_new("guest", &d->guest_loop);
    }
    if (r < 0) {
        return err_set_errno(err, ERR_INTERNAL, r, "cannot start a loop");
    }
    loop_call(d->control_loop, watch_helper, d);
    d->vm_creates = op_registry_new("vm.create", CREATES_MAX);
    d->image_ops = op_registry_new("image.register", IMAGE_OPS_MAX);
    d->kernel_ops = op_registry_new("kernel.import", IMAGE_OPS_MAX);
    if (open_net(d, err) < 0 || open_dns(d, err) < 0 || open_vms(d, err) < 0) {
        return -1;
    }
    fd = d->params.listen_fd >= 0 ? STEAL_FD(d->params.listen_fd) : listen_fd(d, err);
    return fd < 0 ? -1
                  : rpc_server_new(d->control_loop, fd, d->params.paths->owner_uid, BANGER_VERSION,
                                   seams->handlers ? seams->handlers : daemon_handlers, d,
                                   &d->server, err);
}

int daemon_open(const struct daemon_params *params, struct daemon **ret_daemon, struct err *err)
{
    struct daemon *d = x_calloc(1, sizeof(*d));

    d->params = *params;
    d->passed_socket = params->listen_fd >= 0;
    json_incref(d->params.path_settings);
    d->agent_path = x_strdup(params->agent_path);
    d->mkroot_path = x_strdup(params->mkroot_path);
    d->started_ms = (params->seams.vm.clock ? params->seams.vm.clock : &clock_system)->real_ms();
    d->state_fd = d->cache_fd = d->runtime_fd = d->run_fd = d->lock_fd = -1;
    d->stop = cancel_new();
    if (open_all(d, err) < 0) {
        daemon_close(d);
        return -1;
    }
    *ret_daemon = d;
    return 0;
}

int daemon_serve(struct daemon *d, struct err *err)
{
    _cleanup_close_ int fd = -1;
    sigset_t set;
    int r;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot wait for signals");
    }
    r = cancel_wait_fd(d->stop, fd, POLLIN, -1);
    if (atomic_load(&d->helper_gone)) {
        supervisor_stopping("the helper is gone");
        return err_set(err, ERR_VMM, "stopping: the helper that has root is gone");
    }
    supervisor_stopping(r == -ECANCELED ? "daemon.stop" : "signal");
    log_info("stopping: %s", r == -ECANCELED ? "daemon.stop" : "signal");
    return 0;
}

void daemon_close(struct daemon *d)
{
    if (!d) {
        return;
    }
    if (d->vms) {
        vms_stop_serving(d->vms);
    }
    rpc_server_free(d->server);
    op_registry_free(d->vm_creates);
    templates_stop(d->templates);
    op_registry_free(d->image_ops);
    op_registry_free(d->kernel_ops);
    vms_free(d->vms);
    dns_close(d->dns);
    loop_free(d->dns_loop);
    nets_free(d->net);
    templates_free(d->templates);
    daemon_doctor_free(d->doctor);
    if (d->control_loop) {
        loop_call(d->control_loop, unwatch_helper, d);
    }
    loop_free(d->guest_loop);
    loop_free(d->control_loop);
    image_registry_free(d->images);
    space_free(d->space);
    store_close(d->store);
    events_free(d->events);
    if (d->server && !d->passed_socket) {
        (void)unlink(d->params.paths->socket);
    }
    close_p(&d->params.listen_fd);
    close_p(&d->state_fd);
    close_p(&d->cache_fd);
    close_p(&d->runtime_fd);
    close_p(&d->run_fd);
    close_p(&d->lock_fd);
    cancel_put(d->stop);
    json_decref(d->params.path_settings);
    free(d->agent_path);
    free(d->mkroot_path);
    free(d->run_dir);
    free(d);
}
