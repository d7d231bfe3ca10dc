#include "boot/cmdline.h"

#include "base/buf.h"
#include "boot/tsc.h"

#include <string.h>

/* For every guest. */
static const char always[] =
    /* A panic ends the VM (QEMU -no-reboot) instead of hanging it. Triple fault: the one way to
     * restart that needs no firmware. */
    "panic=-1 reboot=t"
    /* The host sees a stuck guest better than a timer in it, which costs each idle VM 0.1 % CPU. */
    " nowatchdog"
    /* RDRAND is the host's getrandom here: else the pool starts empty and readers block. */
    " random.trust_cpu=on"
    /* An image's udev must not rename the interface that the agent has configured. */
    " net.ifnames=0"
    /* Without udev systemd would wait 90 s for the serial port's device. */
    " systemd.getty_auto=0";

/* For emulated ones. tsc_early_khz goes with them. */
static const char emulated[] =
    /* Guest and host count the same TSC: no clock source must watch it. */
    " tsc=reliable"
    /* The self-tests of all ciphers take 0.35 s. */
    " cryptomgr.notests"
    /* Taking the lock prefixes out of a one-CPU kernel takes 0.14 s, and TCG ignores them. */
    " noreplace-smp";

/* Start-up functions not to call. Certificates check module signatures, which the host vouches
 * for here (0.1 s of RSA); kdf108 is a self-test alone (0.03 s). */
static const char skipped[] = " initcall_blacklist=load_system_certificate_list,crypto_kdf108_init";
static const char skipped_tracing[] = ",tracer_init_tracefs";

static int check(const struct cmdline_params *p, struct err *err)
{
    if (p->vcpus < 1 || p->vcpus > CMDLINE_VCPUS_MAX) {
        return err_set(err, ERR_INVALID, "%u CPUs, must be 1 to %u", p->vcpus, CMDLINE_VCPUS_MAX);
    }
    if (p->tsc_khz ? p->tsc_khz < TSC_KHZ_MIN || p->tsc_khz > TSC_KHZ_MAX : p->emulated) {
        return err_set(err, ERR_INVALID, "an emulated guest cannot boot with a TSC rate of %u kHz",
                       p->tsc_khz);
    }
    for (size_t i = 0; i < p->extra_count; i++) {
        const char *word = p->extra[i];
        size_t n = strnlen(word, CMDLINE_SIZE);
        bool ok = n > 0 && n < CMDLINE_SIZE && strcmp(word, "--") != 0;

        for (size_t k = 0; k < n && ok; k++) {
            ok = word[k] > ' ' && word[k] < 0x7f && word[k] != '"';
        }
        if (!ok) {
            return err_set(err, ERR_INVALID, "'%.80s' cannot be a kernel parameter", word);
        }
    }
    return 0;
}

static int put_all(struct buf *b, const struct cmdline_params *p)
{
    int r = buf_append_str(b, always);

    if (r == 0 && p->console) {
        r = buf_append_str(b, " console=ttyS0");
    }
    if (r == 0 && !p->verbose) {
        r = buf_append_str(b, " quiet");
    }
    if (r == 0 && p->tsc_khz) {
        r = buf_printf(b, " tsc_early_khz=%u", p->tsc_khz);
    }
    if (r == 0 && p->emulated) {
        r = buf_printf(b, "%s%s%s", emulated, skipped, p->no_tracing ? skipped_tracing : "");
    }
    for (size_t i = 0; i < p->extra_count && r == 0; i++) {
        r = buf_printf(b, " %s", p->extra[i]);
    }
    return r;
}

int cmdline_build(const struct cmdline_params *params, char ret_cmdline[CMDLINE_SIZE],
                  struct err *err)
{
    _cleanup_buf_ struct buf b;

    buf_init(&b, CMDLINE_SIZE);
    if (check(params, err) < 0) {
        return -1;
    }
    if (put_all(&b, params) < 0 || b.len >= CMDLINE_SIZE) {
        err_set(err, ERR_LIMIT, "the kernel command line has more than %u bytes", CMDLINE_SIZE - 1);
        return err_hint(err, "give fewer or shorter extra parameters");
    }
    memcpy(ret_cmdline, buf_head(&b), b.len);
    ret_cmdline[b.len] = '\0';
    return 0;
}
