/* Places in the address plan. */
#include "net/net_priv.h"

#include "base/attr.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <string.h>

/* Of 256 addresses, those that end with 0 and 255 are nobody's: there are programs that take them
 * for a network's, or a broadcast's. The first one is the gateway's. */
#define PER_BLOCK 254U

void nets_slots_init(struct nets *net)
{
    unsigned blocks = 1U << (24 - net->subnet.ipv4_bits);
    unsigned all = blocks > NET_SLOTS_MAX / PER_BLOCK ? NET_SLOTS_MAX : blocks * PER_BLOCK - 1;

    struct in_addr gateway = {.s_addr = htonl(nets_gateway(net).ipv4)};

    net->slots = all;
    (void)inet_ntop(AF_INET, &gateway, net->gateway, sizeof(net->gateway));
    net->slot_used = x_calloc(all / 8 + 1, 1);
}

void nets_slots_done(struct nets *net)
{
    free(net->slot_used);
    free(net->free_slots);
}

static bool is_used(const struct nets *net, unsigned slot)
{
    return net->slot_used[slot / 8] & (1U << (slot % 8));
}

static void mark(struct nets *net, unsigned slot, bool used)
{
    uint8_t bit = (uint8_t)(1U << (slot % 8));

    net->slot_used[slot / 8] =
        (uint8_t)(used ? net->slot_used[slot / 8] | bit : net->slot_used[slot / 8] & ~bit);
    net->slots_used += used ? 1 : -1U;
}

/* Behind the last one that is in use, so that what was given back before this daemon is not the
 * first to be taken again. */
static void fill_ring(struct nets *net)
{
    net->free_slots = x_calloc(net->slots, sizeof(*net->free_slots));
    for (unsigned i = 0; i < net->slots; i++) {
        unsigned slot = (net->last_slot + i) % net->slots + 1;

        if (!is_used(net, slot)) {
            net->free_slots[net->free_count++] = slot;
        }
    }
}

unsigned nets_slot_take(struct nets *net)
{
    unsigned slot = 0;

    if (net->why_not) {
        return 0;
    }
    leaf_lock(&net->lock);
    if (!net->free_slots) {
        fill_ring(net);
    }
    if (net->free_count > 0) {
        slot = net->free_slots[net->free_head];
        net->free_head = (net->free_head + 1) % net->slots;
        net->free_count--;
        mark(net, slot, true);
    }
    leaf_unlock(&net->lock);
    return slot;
}

void nets_slot_give(struct nets *net, unsigned slot)
{
    if (net->why_not || slot == 0 || slot > net->slots) {
        return;
    }
    leaf_lock(&net->lock);
    if (is_used(net, slot)) {
        mark(net, slot, false);
        if (net->free_slots) {
            net->free_slots[(net->free_head + net->free_count++) % net->slots] = slot;
        }
    }
    leaf_unlock(&net->lock);
}

bool nets_slot_keep(struct nets *net, unsigned slot)
{
    if (net->why_not || slot == 0) {
        return true;
    }
    if (slot > net->slots) {
        return false;
    }
    leaf_lock(&net->lock);
    if (!is_used(net, slot)) {
        mark(net, slot, true);
    }
    net->last_slot = slot > net->last_slot ? slot : net->last_slot;
    leaf_unlock(&net->lock);
    return true;
}

struct host_nic nets_slot_nic(const struct nets *net, unsigned slot)
{
    struct host_nic nic = {.ipv4 =
                               net->subnet.ipv4 + slot / PER_BLOCK * 256 + slot % PER_BLOCK + 1};

    memcpy(nic.ipv6, net->subnet.ipv6, sizeof(nic.ipv6));
    nic.ipv6[13] = (uint8_t)((slot + 1) >> 16);
    nic.ipv6[14] = (uint8_t)((slot + 1) >> 8);
    nic.ipv6[15] = (uint8_t)(slot + 1);
    return nic;
}

struct host_nic nets_gateway(const struct nets *net)
{
    return nets_slot_nic(net, 0);
}

bool nets_has_ipv6(const struct nets *net)
{
    return net->has_ipv6;
}

const char *nets_gateway_text(const struct nets *net)
{
    return net->gateway;
}
