#include "vmm/doctor.h"

#include "base/spawn.h"
#include "base/str.h"
#include "vmm/accel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* The one that the tests run with. */
#define QEMU_MAJOR 7
#define QEMU_MINOR 2

static void check_vmm(const void *ctx, struct doctor_finding *f)
{
    const struct vmm_doctor *v = ctx;
    _cleanup_free_ char *program = spawn_find_program(v->ops->program);

    doctor_evidence(f, "%s: %s", v->ops->program, program ? program : "not in PATH");
    if (program) {
        doctor_pass(f, "%s is installed", v->ops->program);
    } else {
        doctor_fail(f, "'%s' is not installed", v->ops->program);
        doctor_fix(f, "install qemu-system-x86 (apt-get install qemu-system-x86)");
    }
}

static void check_version(const void *ctx, struct doctor_finding *f)
{
    const struct vmm_doctor *v = ctx;
    char version[VMM_VERSION_SIZE];
    unsigned major = 0, minor = 0;
    struct err err;

    if (v->ops->version(version, &err) < 0) {
        doctor_fail_err(f, &err);
        doctor_evidence(f, "%s --version", v->ops->program);
        if (!f->fix[0]) {
            doctor_fix(f, "see what it says: %s --version", v->ops->program);
        }
        return;
    }
    doctor_evidence(f, "%s --version: %s", v->ops->program, version);
    (void)sscanf(version, "%u.%u", &major, &minor);
    if (major < QEMU_MAJOR || (major == QEMU_MAJOR && minor < QEMU_MINOR)) {
        doctor_warn(f, "%s %s is older than what banger is tested with, %u.%u", v->ops->name,
                    version, QEMU_MAJOR, QEMU_MINOR);
        doctor_fix(f, "install a newer one: apt-get install qemu-system-x86");
    } else {
        doctor_pass(f, "%s %s", v->ops->name, version);
    }
}

static void no_kvm(const struct vmm_doctor *v, const char *why, struct doctor_finding *f)
{
    if (str_eq(v->accel, "kvm")) {
        doctor_fail(f, "the configuration wants KVM, which does not work here");
        doctor_fix(f, "accel = \"auto\" in config.toml");
    } else {
        doctor_warn(f, "KVM does not work here: VMs are emulated, which is slower");
    }
    doctor_evidence(f, "%s", why);
}

/* Only the verdict of a start that tried it: a probe boot takes up to five seconds. */
static void check_kvm(const void *ctx, struct doctor_finding *f)
{
    const struct vmm_doctor *v = ctx;
    _cleanup_free_ char *path = x_asprintf("%s/dev/kvm", v->root);
    _cleanup_close_ int fd = -1;
    char why[ACCEL_WHY_SIZE];
    _cleanup_free_ char *text = NULL;
    enum vmm_accel accel;

    if (str_eq(v->accel, "tcg")) {
        doctor_evidence(f, "accel = \"tcg\" in config.toml");
        doctor_pass(f, "KVM is not wanted");
        return;
    }
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && !(errno == EACCES && v->has_root)) {
        text = x_asprintf("/dev/kvm: %s", strerror(errno));
        no_kvm(v, text, f);
        doctor_fix(f, "%s",
                   errno == EACCES   ? "add the user to the group kvm: usermod -aG kvm USER"
                   : errno == ENOENT ? "modprobe kvm_intel (or kvm_amd), after virtualisation is "
                                       "enabled in the firmware"
                                     : "see dmesg | grep -i kvm");
        return;
    }
    if (!vmm_accel_cached(v->cache_dir, v->ops, &accel, why)) {
        doctor_evidence(f, "/dev/kvm opens; no verdict in %s/" ACCEL_CACHE_FILE, v->cache_dir);
        doctor_pass(f, "the first start of a VM will try whether KVM works");
    } else if (accel == VMM_ACCEL_KVM) {
        doctor_evidence(f, "%s/" ACCEL_CACHE_FILE ": a guest answered", v->cache_dir);
        doctor_pass(f, "KVM works: a guest was booted with it");
    } else {
        text = x_asprintf("/dev/kvm opens, but a guest was tried with it: %s", why);
        no_kvm(v, text, f);
        doctor_fix(f,
                   "use a host with working (nested) virtualisation; \"auto\" in config.toml "
                   "emulates. To try again: rm %s/" ACCEL_CACHE_FILE,
                   v->cache_dir);
    }
}

static void check_tsc(const void *ctx, struct doctor_finding *f)
{
    const struct vmm_doctor *v = ctx;

    doctor_evidence(f, "rate measured: %u kHz", v->tsc_khz);
    if (v->tsc_khz > 0) {
        doctor_pass(f, "the host's time stamp counter is constant");
        return;
    }
    doctor_fix(f, "run on a host whose /proc/cpuinfo has constant_tsc, or with working KVM");
    if (str_eq(v->accel, "tcg")) {
        doctor_fail(f, "this host's time stamp counter is not constant, and emulated guests need "
                       "one that is");
    } else {
        doctor_warn(f, "this host's time stamp counter is not constant: no VM without KVM");
    }
}

const struct doctor_check vmm_checks[] = {
    {"vmm", "The program that runs VMs", DOCTOR_GATES_START, check_vmm},
    {"vmm-version", "Version of the VMM", 0, check_version},
    {"kvm", "KVM, by a guest that was booted with it", 0, check_kvm},
    {"tsc", "The time stamp counter", 0, check_tsc},
    {0},
};
