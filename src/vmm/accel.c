#include "vmm/accel.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "codec/frame.h"
#include "codec/json.h"
#include "host/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#define PROBE_NAME "kvm-probe"
#define PROBE_MEMORY_MIB 256
#define PROBE_TIMEOUT_MS 5000
#define KILL_TIMEOUT_MS 10000
#define CACHE_FILE_MAX 65536
#define LOG_TAIL_BYTES 100

struct verdict {
    enum vmm_accel accel;
    char why[ACCEL_WHY_SIZE];
};

static void set_tcg(struct verdict *v, const char *fmt, ...) _printf_(2, 3);

static void set_tcg(struct verdict *v, const char *fmt, ...)
{
    va_list ap;

    v->accel = VMM_ACCEL_TCG;
    va_start(ap, fmt);
    (void)vsnprintf(v->why, sizeof(v->why), fmt, ap);
    va_end(ap);
    /* Cut anywhere, it stays valid UTF-8. */
    for (char *p = v->why; *p; p++) {
        *p = (unsigned char)*p < 0x80 ? *p : '?';
    }
}

/* Cache --------------------------------------------------------------------------------------- */

/* What the verdict depends on; the caller frees it. */
static char *cache_key(const struct vmm_ops *ops, const struct vmm_probe_params *params,
                       const char *version)
{
    struct vmm_process self;

    if (process_identify(getpid(), &self) < 0) {
        return NULL;
    }
    return x_asprintf("%s %s %s %s", self.boot_id, ops->name, version, params->kernel_key);
}

/* What the cache file says, and for which key: that or NULL. A damaged file is as good as none. */
static char *cache_load(int dir_fd, struct verdict *ret)
{
    _cleanup_json_ json_t *root = NULL;
    _cleanup_free_ char *text = NULL;
    const char *accel;
    struct err err;
    size_t len;

    if (fs_read_file(dir_fd, ACCEL_CACHE_FILE, CACHE_FILE_MAX, &text, &len) < 0 ||
        json_parse(text, len, &root, &err) < 0) {
        return NULL;
    }
    accel = json_str(root, "accel", "");
    if (str_eq(accel, vmm_accel_name(VMM_ACCEL_KVM))) {
        *ret = (struct verdict){.accel = VMM_ACCEL_KVM};
    } else if (str_eq(accel, vmm_accel_name(VMM_ACCEL_TCG))) {
        set_tcg(ret, "%s", json_str(root, "why", ""));
    } else {
        return NULL;
    }
    return x_strdup(json_str(root, "key", NULL));
}

/* Whether there is a verdict for the key. */
static bool cache_read(int dir_fd, const char *key, struct verdict *ret)
{
    struct verdict v;
    _cleanup_free_ char *found = cache_load(dir_fd, &v);

    if (!str_eq(found, key)) {
        return false;
    }
    *ret = v;
    return true;
}

bool vmm_accel_cached(const char *cache_dir, const struct vmm_ops *ops, enum vmm_accel *ret_accel,
                      char ret_why[ACCEL_WHY_SIZE])
{
    _cleanup_close_ int fd = fs_open_dir(AT_FDCWD, cache_dir, false);
    _cleanup_free_ char *key = NULL, *prefix = NULL;
    struct vmm_process self;
    struct verdict v = {.accel = VMM_ACCEL_TCG};

    if (fd < 0 || process_identify(getpid(), &self) < 0) {
        return false;
    }
    key = cache_load(fd, &v);
    prefix = x_asprintf("%s %s ", self.boot_id, ops->name);
    if (!key || !str_starts_with(key, prefix)) {
        return false;
    }
    *ret_accel = v.accel;
    memcpy(ret_why, v.why, sizeof(v.why));
    return true;
}

/* A cache that cannot be written costs the next start a probe, nothing else. */
static void cache_write(int dir_fd, const char *key, const struct verdict *v)
{
    _cleanup_json_ json_t *root = json_object();
    _cleanup_free_ char *text = NULL;

    json_put_str(root, "key", key);
    json_put_str(root, "accel", vmm_accel_name(v->accel));
    json_put_str(root, "why", v->why);
    text = json_print(root);
    (void)fs_write_atomic(dir_fd, ACCEL_CACHE_FILE, text, strlen(text), 0600, false);
}

/* Probe --------------------------------------------------------------------------------------- */

static void ignore_event(void *arg, enum vmm_event event)
{
    (void)arg;
    (void)event;
}

/* Waits for a byte from the guest. 1 = it answered, 0 = the VMM ended, or -errno. */
static int wait_for_guest(int run_dir_fd, struct cancel *cancel, int64_t deadline_ms)
{
    _cleanup_close_ int fd = fs_unix_connect(run_dir_fd, "agent.sock");
    uint8_t nonce[FRAME_NONCE_SIZE], byte;
    _cleanup_buf_ struct buf hello = {.max = FRAME_MAX};
    int r;

    if (fd < 0) {
        return fd == -ECONNREFUSED ? 0 : fd; /* it listened before the launch */
    }
    random_bytes(nonce, sizeof(nonce));
    r = frame_put_hello(&hello, nonce);
    if (r == 0 && buf_write_fd(&hello, fd) < 0) {
        return 0;
    }
    r = cancel_wait_fd(cancel, fd, POLLIN, deadline_ms);
    return r < 0 ? r : read(fd, &byte, 1) == 1;
}

/* Boots the guest in run_dir and says how it went. */
static int try_kvm(struct loop *loop, const struct vmm_ops *ops, const struct vmm_spec *spec,
                   int64_t timeout_ms, struct cancel *cancel, struct verdict *ret, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    _cleanup_free_ char *tail = NULL;
    struct vmm_exit unused;
    struct vmm *vmm;
    struct err left;
    int r;

    if (ops->launch(loop, spec, ignore_event, NULL, &vmm, err) < 0) {
        return -1;
    }
    r = wait_for_guest(spec->run_dir_fd, cancel, deadline_ms);
    if (ops->kill(vmm, &left) < 0) {
        log_error("the test guest of KVM is left: %s", left.message);
    } else {
        (void)ops->wait_exit(vmm, NULL, clock_mono_ms() + KILL_TIMEOUT_MS, &unused);
    }
    ops->free(vmm);
    if (r == -ETIMEDOUT) {
        set_tcg(ret, "a test guest under KVM did not answer within %.3g s",
                (double)timeout_ms / 1000);
    } else if (r < 0) {
        return err_set_errno(err, ERR_VMM, r, "the test of KVM");
    } else if (r == 0) {
        tail = vmm_log_tail(spec->log_fd, LOG_TAIL_BYTES);
        set_tcg(ret, "%s ended under KVM%s%s", ops->name, *tail ? ": " : "", tail);
    } else {
        *ret = (struct verdict){.accel = VMM_ACCEL_KVM};
    }
    return 0;
}

/* try_kvm with a run directory of its own. */
static int probe(struct loop *loop, const struct vmm_ops *ops,
                 const struct vmm_probe_params *params, struct cancel *cancel, struct verdict *ret,
                 struct err *err)
{
    _cleanup_close_ int run_dir_fd = -1, console_fd = -1, log_fd = -1;
    _cleanup_free_ char *run_dir = NULL;
    char id[ID_SIZE];
    const char *name;
    int r;

    id_generate(id);
    run_dir = x_asprintf("%s/" PROBE_NAME ".%.*s", params->work_dir, ID_SHORT, id);
    name = run_dir + strlen(params->work_dir) + 1;
    run_dir_fd = fs_open_dir(params->work_dir_fd, name, true);
    if (run_dir_fd < 0) {
        return err_set_errno(err, ERR_IO, run_dir_fd, "'%s'", run_dir);
    }
    console_fd =
        openat(run_dir_fd, "console.log", O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    log_fd = openat(run_dir_fd, "vmm.log", O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (console_fd < 0 || log_fd < 0) {
        r = err_set_errno(err, ERR_IO, errno, "logs in '%s'", run_dir);
    } else {
        const struct vmm_spec spec = {
            .host = params->host,
            .name = PROBE_NAME,
            .run_dir = run_dir,
            .run_dir_fd = run_dir_fd,
            .accel = VMM_ACCEL_KVM,
            .vcpus = 1,
            .memory_mib = PROBE_MEMORY_MIB,
            .kernel_fd = params->kernel_fd,
            .initramfs_fd = params->initramfs_fd,
            .cmdline = params->cmdline,
            .root_disk_fd = -1,
            .data_disk_fd = -1,
            .memory_fd = -1,
            .state_fd = -1,
            .tap_fd = -1,
            .console_fd = console_fd,
            .log_fd = log_fd,
        };

        r = try_kvm(loop, ops, &spec,
                    params->timeout_ms > 0 ? params->timeout_ms : PROBE_TIMEOUT_MS, cancel, ret,
                    err);
    }
    (void)fs_remove_tree(params->work_dir_fd, name);
    return r;
}

static int decide(struct loop *loop, const struct vmm_ops *ops,
                  const struct vmm_probe_params *params, struct cancel *cancel, struct verdict *ret,
                  struct err *err)
{
    const char *kvm_path = params->kvm_path ? params->kvm_path : "/dev/kvm";
    _cleanup_close_ int kvm_fd = open(kvm_path, O_RDWR | O_CLOEXEC);
    _cleanup_free_ char *key = NULL;
    char version[32];

    if (kvm_fd < 0 && !(errno == EACCES && params->host && params->host->ops->gives_kvm)) {
        set_tcg(ret, "%s: %s", kvm_path, strerror(errno));
        return 0;
    }
    if (ops->version(version, err) < 0) {
        return -1;
    }
    key = cache_key(ops, params, version);
    if (key && cache_read(params->cache_dir_fd, key, ret)) {
        return 0;
    }
    if (probe(loop, ops, params, cancel, ret, err) < 0) {
        return -1;
    }
    if (key) {
        cache_write(params->cache_dir_fd, key, ret);
    }
    return 0;
}

int vmm_accel_probe(struct loop *loop, const struct vmm_ops *ops,
                    const struct vmm_probe_params *params, struct cancel *cancel,
                    enum vmm_accel *ret_accel, char ret_why[ACCEL_WHY_SIZE], struct err *err)
{
    struct verdict v = {.accel = VMM_ACCEL_TCG};

    if (decide(loop, ops, params, cancel, &v, err) < 0) {
        return -1;
    }
    *ret_accel = v.accel;
    memcpy(ret_why, v.why, sizeof(v.why));
    return 0;
}
