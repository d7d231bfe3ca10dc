/* What the helper lets its daemon have of networks. */
#include "base/attr.h"
#include "host/host_priv.h"

#include <string.h>

/* RFC 1918, and RFC 6598's, which carriers and overlays use. */
static const struct {
    uint32_t address;
    unsigned bits;
} private_ranges[] = {
    {0x0A000000, 8},  /* 10.0.0.0/8 */
    {0xAC100000, 12}, /* 172.16.0.0/12 */
    {0xC0A80000, 16}, /* 192.168.0.0/16 */
    {0x64400000, 10}, /* 100.64.0.0/10 */
};

static uint32_t mask_of(unsigned bits)
{
    return ~0U << (32 - bits);
}

static bool is_private(const struct host_subnet *s)
{
    for (size_t i = 0; i < ARRAY_LEN(private_ranges); i++) {
        if (s->ipv4_bits >= private_ranges[i].bits &&
            (s->ipv4 & mask_of(private_ranges[i].bits)) == private_ranges[i].address) {
            return true;
        }
    }
    return false;
}

const char *host_check_subnet(const struct host_subnet *s)
{
    static const uint8_t none[8];

    if (s->ipv4_bits < 8 || s->ipv4_bits > 24 || (s->ipv4 & ~mask_of(s->ipv4_bits)) != 0 ||
        !is_private(s)) {
        return "the IPv4 subnet";
    }
    return s->ipv6[0] == 0xfd && memcmp(s->ipv6 + 8, none, sizeof(none)) == 0 ? NULL
                                                                              : "the IPv6 subnet";
}

const char *host_check_tap(unsigned tap)
{
    return tap < HOST_TAPS_MAX ? NULL : "the number of the TAP";
}

const char *host_check_nic(const struct host_nic *nic, const struct host_subnet *s)
{
    static const uint8_t none[8], gateway[8] = {0, 0, 0, 0, 0, 0, 0, 1};
    uint32_t mask = mask_of(s->ipv4_bits), own = nic->ipv4 & ~mask;

    if (host_check_tap(nic->tap)) {
        return host_check_tap(nic->tap);
    }
    /* Not the network's, the gateway's, or the one for all. */
    if ((nic->ipv4 & mask) != s->ipv4 || own < 2 || own == ~mask) {
        return "the IPv4 address";
    }
    return memcmp(nic->ipv6, s->ipv6, 8) == 0 && memcmp(nic->ipv6 + 8, none, 8) != 0 &&
                   memcmp(nic->ipv6 + 8, gateway, 8) != 0
               ? NULL
               : "the IPv6 address";
}
