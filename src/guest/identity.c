/* Who a guest is: it is told, and reads it back. */
#include "guest/guest_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#include <string.h>

/* How far a guest's clock may be ahead of ours after it was set: both are read at any moment. */
#define CLOCK_SLACK_MS 1000

static bool is_text(const uint8_t *value, uint32_t len, const char *text)
{
    return len == strlen(text) && memcmp(value, text, len) == 0;
}

/* What is not as it was asked for in what a guest reads back, or NULL. took_ms: how long ago it was
 * asked. *ret_has_id: its machine-id was among it. */
static const char *find_difference(const struct guest_configure *c, const struct buf *told,
                                   int64_t took_ms, bool *ret_has_id)
{
    struct frame_reader r = {.p = buf_head(told), .left = told->len};
    bool has_name = false, has_time = false, has_boot_id = !c->boot_id;
    bool has_init = !c->begin_init;
    const uint8_t *value;
    uint64_t time_ns;
    uint32_t len;
    uint8_t tag;
    int n;

    while ((n = frame_take_tlv(&r, &tag, &value, &len)) > 0) {
        struct frame_reader v = {.p = value, .left = len};

        if (tag == FRAME_TAG_HOSTNAME) {
            has_name = is_text(value, len, c->hostname);
        } else if (tag == FRAME_TAG_MACHINE_ID) {
            if (!c->machine_id || !is_text(value, len, c->machine_id)) {
                return "its machine-id";
            }
            *ret_has_id = true;
        } else if (tag == FRAME_TAG_BOOT_ID) {
            if (!c->boot_id || !is_text(value, len, c->boot_id)) {
                return "its boot_id";
            }
            has_boot_id = true;
        } else if (tag == FRAME_TAG_INIT) {
            has_init = true;
        } else if (tag == FRAME_TAG_TIME && frame_take_u64(&v, &time_ns) == 0) {
            has_time = time_ns >= c->time_ns &&
                       time_ns - c->time_ns <= ((uint64_t)took_ms + CLOCK_SLACK_MS) * 1000000;
        }
    }
    return n < 0          ? "what it says"
           : !has_name    ? "its name"
           : !has_time    ? "its clock"
           : !has_boot_id ? "its boot_id"
           : !has_init    ? "its init"
                          : NULL;
}

static int check_identity(const struct guest_link *link, const struct guest_configure *c,
                          const struct buf *told, int64_t took_ms, struct err *err)
{
    bool has_id = false;
    const char *wrong;

    if (link->proto < FRAME_PROTO_READ_BACK) {
        return 0;
    }
    wrong = find_difference(c, told, took_ms, &has_id);
    if (wrong) {
        return err_set(err, ERR_GUEST, "configure: the guest is not who it is to be: %s", wrong);
    }
    if (c->machine_id && !has_id) {
        log_warn("VM %.12s: the guest could not write its machine-id", link->vm_id);
    }
    return 0;
}

static int check_known(const struct guest_link *link, const struct guest_configure *c,
                       struct err *err)
{
    unsigned proto = latch_is_set(&link->hello) ? link->proto : 0;
    const char *what = c->boot_id && proto < FRAME_PROTO_BOOT_ID   ? "be given a boot_id"
                       : c->begin_init && proto < FRAME_PROTO_INIT ? "begin an init"
                                                                   : NULL;

    return what ? err_set(err, ERR_UNSUPPORTED, "configure: the guest's agent is too old to %s",
                          what)
                : 0;
}

int guest_link_configure(struct guest_link *link, const struct guest_configure *params,
                         struct cancel *cancel, int64_t deadline_ms, struct err *err)
{
    _cleanup_buf_ struct buf body, told;
    int64_t start_ms = clock_mono_ms();
    uint8_t entropy[64], time[8];
    int r;

    buf_init(&told, GUEST_TOLD_MAX);
    buf_init(&body, 1024);
    if (check_known(link, params, err) < 0) {
        return -1;
    }
    link->random(entropy, sizeof(entropy));
    for (int i = 0; i < 8; i++) {
        time[i] = (uint8_t)(params->time_ns >> (8 * i));
    }
    if (frame_put_tlv(&body, FRAME_TAG_ENTROPY, entropy, sizeof(entropy)) < 0 ||
        frame_put_tlv(&body, FRAME_TAG_TIME, time, sizeof(time)) < 0 ||
        (params->machine_id && frame_put_tlv(&body, FRAME_TAG_MACHINE_ID, params->machine_id,
                                             strlen(params->machine_id)) < 0) ||
        (params->boot_id &&
         frame_put_tlv(&body, FRAME_TAG_BOOT_ID, params->boot_id, strlen(params->boot_id)) < 0) ||
        (params->begin_init && frame_put_tlv(&body, FRAME_TAG_INIT, "", 0) < 0) ||
        frame_put_tlv(&body, FRAME_TAG_HOSTNAME, params->hostname, strlen(params->hostname)) < 0) {
        return err_set(err, ERR_INVALID, "host name '%s' is too long", params->hostname);
    }
    r = guest_link_call(link, FRAME_CONFIGURE, "configure", buf_head(&body), body.len, &told,
                        cancel, deadline_ms, err);
    explicit_bzero(entropy, sizeof(entropy));
    return r < 0 ? r : check_identity(link, params, &told, clock_mono_ms() - start_ms, err);
}
