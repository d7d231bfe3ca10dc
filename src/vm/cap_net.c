/* A VM's network card: a TAP while it runs, and the place in the address plan that it has. */
#include "vm/capability.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/test_point.h"
#include "vm/vm_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ether.h>
#include <stdio.h>
#include <string.h>

#define CONFIGURE_MS 5000

struct card {
    struct vms *v;
    char id[ID_SIZE]; /* of the VM */
    unsigned tap;
    int fd; /* until the machine has it; -1 of an adopted one */
    struct guest_network network;
};

/* NULL where VMs have no network. */
static struct nets *net_of(const struct vms *v)
{
    return v->params.net && !nets_why_not(v->params.net) ? v->params.net : NULL;
}

bool vm_has_cards(const struct vms *v)
{
    return net_of(v) != NULL;
}

/* Members of pools are as most VMs are, and connected already. */
bool vms_pool_fits(const struct vms *v, const struct vm_row *row)
{
    return !vm_has_cards(v) || str_eq(row->net_mode, VM_NET_NAT);
}

bool vm_has_nat(const struct vm_row *row)
{
    return row->net_slot > 0 && str_eq(row->net_mode, VM_NET_NAT);
}

static struct host_nic nic_of(const struct vms *v, const struct vm_row *row, unsigned tap)
{
    struct host_nic nic = nets_slot_nic(v->params.net, row->net_slot);

    nic.tap = tap;
    nic.nat = vm_has_nat(row);
    return nic;
}

/* -1: there is none, or it is not known yet. */
static int parse_tap(const struct vm_object *o, unsigned *ret)
{
    uint64_t tap;

    if (!o || str_to_u64(o->name, HOST_TAPS_MAX - 1, &tap) < 0) {
        return -1;
    }
    *ret = (unsigned)tap;
    return 0;
}

/* ---- creating ---- */

int vm_choose_net(const struct vms *v, const char *wanted, struct vm_row *row, struct err *err)
{
    const char *why = v->params.net ? nets_why_not(v->params.net) : "this daemon has none";
    bool nat = str_eq(wanted, VM_NET_NAT) || (str_eq(wanted, "auto") && !why);

    if (nat && why) {
        err_set(err, ERR_UNSUPPORTED, "VMs have no network here: %s", why);
        return err_hint(err, "use --net none; banger doctor tells what is missing");
    }
    (void)snprintf(row->net_mode, sizeof(row->net_mode), "%s", nat ? VM_NET_NAT : VM_NET_NONE);
    return 0;
}

int vm_take_slot(struct vms *v, struct vm_row *row, struct err *err)
{
    struct nets *net = net_of(v);

    if (!net || row->net_slot > 0) {
        return 0;
    }
    row->net_slot = nets_slot_take(net);
    if (row->net_slot == 0 && str_eq(row->net_mode, VM_NET_NAT)) {
        err_set(err, ERR_LIMIT, "all addresses of the VMs' subnet are taken");
        return err_hint(err, "delete VMs, or configure a larger subnet");
    }
    return 0;
}

void vm_keep_net(struct vms *v, struct vm_row *row)
{
    struct nets *net = net_of(v);
    unsigned tap;

    if (net && !nets_slot_keep(net, row->net_slot)) {
        row->net_slot = 0; /* its next start gives it another */
    }
    if (net && parse_tap(vm_row_object(row, OBJECT_TAP), &tap) == 0) {
        nets_tap_keep(net, tap);
    }
}

void vm_give_slot(struct vms *v, const struct vm_row *row)
{
    struct nets *net = net_of(v);

    if (net) {
        nets_slot_give(net, row->net_slot);
    }
}

/* ---- running ---- */

static void note_tap(struct vm_row *row, void *arg)
{
    const struct card *c = arg;
    struct vm_object o = {.kind = OBJECT_TAP, .incarnation = row->incarnation};

    (void)snprintf(o.name, sizeof(o.name), "%u", c->tap);
    vm_row_put_object(row, &o);
}

static void card_free(struct card *c)
{
    if (c) {
        close_p(&c->fd);
        free(c);
    }
}
DEFINE_CLEANUP(struct card *, card_free);

static void parse_mac(const char *text, uint8_t ret[6])
{
    struct ether_addr mac = {0};

    (void)ether_aton_r(text, &mac);
    memcpy(ret, &mac, sizeof(mac));
}

static struct card *card_new(struct vms *v, const struct vm_row *row)
{
    struct card *c = x_calloc(1, sizeof(*c));
    struct host_nic nic = nets_slot_nic(v->params.net, row->net_slot);
    struct host_nic gateway = nets_gateway(v->params.net);

    c->v = v;
    memcpy(c->id, row->id, sizeof(c->id));
    c->fd = -1;
    c->network = (struct guest_network){
        .ipv4 = nic.ipv4,
        .gateway4 = gateway.ipv4,
        .mtu = (uint16_t)nets_mtu(v->params.net),
        .resolvers = {nets_gateway_text(v->params.net)},
    };
    if (nets_has_ipv6(v->params.net)) {
        memcpy(c->network.ipv6, nic.ipv6, sizeof(c->network.ipv6));
    }
    parse_mac(HOST_GUEST_MAC, c->network.mac);
    parse_mac(HOST_TAP_MAC, c->network.gateway_mac);
    return c;
}

static int attach(const struct vms *v, const struct vm_row *row, unsigned tap, struct err *err)
{
    struct host_nic nic = nic_of(v, row, tap);

    return host_nic_attach(v->params.host, &nic, err);
}

/* A machine of nobody's that is made into a template has a card, as its forks do, and no address.
 */
static bool is_connected(const struct vm_row *row)
{
    return vm_has_nat(row) && row->role != VM_ROLE_TEMPLATE;
}

void vm_publish_name(struct vms *v, const struct vm_row *row)
{
    struct dns *dns = v->params.dns;
    struct host_nic nic;
    struct in6_addr ipv6;
    struct err err;

    if (!dns || row->role != VM_ROLE_USER) {
        return;
    }
    if (!vm_has_nat(row)) {
        dns_remove_name(dns, row->id);
        return;
    }
    nic = nets_slot_nic(v->params.net, row->net_slot);
    memcpy(&ipv6, nic.ipv6, sizeof(ipv6));
    if (dns_set_name(dns, row->id, row->name, (struct in_addr){htonl(nic.ipv4)},
                     nets_has_ipv6(v->params.net) ? &ipv6 : NULL, &err) < 0) {
        log_warn("VM %.12s '%s': it has no name in DNS: %s", row->id, row->name, err.message);
    }
}

/* What fails is taken back by what the ledger says. */
static int take_card(const struct vm_hook *h, struct err *err)
{
    struct nets *net = net_of(h->vms);
    _cleanup_(card_free_p) struct card *c = NULL;

    if (!net || h->row->net_slot == 0) {
        return 0;
    }
    c = card_new(h->vms, h->row);
    if (nets_tap_take(net, &c->tap, &c->fd, err) < 0) {
        return -1;
    }
    CRASH_POINT("net.taken");
    vm_note(h->vms, h->row->id, note_tap, c);
    if (is_connected(h->row) && attach(h->vms, h->row, c->tap, err) < 0) {
        return -1;
    }
    CRASH_POINT("net.attached");
    *h->state = STEAL_PTR(c);
    return 0;
}

static int add_card(const struct vm_hook *h, struct vm_machine *m, struct err *err)
{
    const struct card *c = *h->state;

    (void)err;
    m->spec.tap_fd = c ? c->fd : -1;
    return 0;
}

static int add_addresses(const struct vm_hook *h, struct guest_configure *g, struct err *err)
{
    const struct card *c = *h->state;

    (void)err;
    g->network = c && is_connected(h->row) ? &c->network : NULL;
    return 0;
}

static int machine_has_it(const struct vm_hook *h, struct err *err)
{
    struct card *c = *h->state;

    (void)err;
    if (c) {
        close_p(&c->fd);
        vm_publish_name(h->vms, h->row);
    }
    return 0;
}

/* Packets went on all the while. */
static int adopt(const struct vm_hook *h, struct err *err)
{
    struct nets *net = net_of(h->vms);
    _cleanup_(card_free_p) struct card *c = NULL;
    unsigned tap;

    if (!net || h->row->net_slot == 0 || parse_tap(vm_row_object(h->row, OBJECT_TAP), &tap) < 0) {
        return 0;
    }
    c = card_new(h->vms, h->row);
    c->tap = tap;
    if (is_connected(h->row) && attach(h->vms, h->row, tap, err) < 0) {
        /* Its guest's work is not lost with its network. */
        log_warn("VM %.12s '%s': it has no network: %s", h->row->id, h->row->name, err->message);
    }
    vm_publish_name(h->vms, h->row);
    *h->state = STEAL_PTR(c);
    return 0;
}

static int forget(void *state, struct err *err)
{
    struct card *c = state;

    (void)err;
    if (c && c->v->params.dns) {
        dns_remove_name(c->v->params.dns, c->id);
    }
    card_free(c);
    return 0;
}

int vm_undo_tap(struct vms *v, const struct vm_row *row, const struct vm_object *o, struct err *err)
{
    struct nets *net = net_of(v);
    struct host_nic nic;
    unsigned tap;

    if (!net || parse_tap(o, &tap) < 0) {
        return 0;
    }
    /* Whoever opens or deletes a TAP detaches it, too: for want of a place that has to do. */
    if (row->net_slot > 0) {
        nic = nic_of(v, row, tap);
        if (host_nic_detach(v->params.host, &nic, err) < 0) {
            return err_wrap(err, "cannot disconnect " HOST_TAP_PREFIX "%u", tap);
        }
    }
    CRASH_POINT("net.detached");
    nets_tap_give(net, tap);
    return 0;
}

/* ---- vm.set ---- */

static void plan_mode(struct vm_plan *p)
{
    const char *wanted = api_str(p->params, "net");
    json_t *change;
    struct err err;

    if (!wanted || str_eq(wanted, p->row.net_mode)) {
        return;
    }
    /* One that was started where there was no network has no card. */
    change = vm_plan_change(p, "net", p->row.net_mode, wanted,
                            p->row.net_slot > 0 ? "live" : "next_start");
    if (vm_choose_net(p->v, wanted, &p->row, &err) < 0) {
        vm_plan_refuse(p, change, &err);
    }
}

static int connect_guest(const struct vm_hook *h, struct card *c, struct err *err)
{
    struct guest_configure g = {.network = &c->network};
    _cleanup_vm_run_ struct vm_run *run = vm_run_get_awake(h->vms, h->row->id, err);

    if (!run || attach(h->vms, h->row, c->tap, err) < 0) {
        return -1;
    }
    vm_tell_identity(h, &g);
    return guest_link_configure(run->link, &g, h->cancel, clock_mono_ms() + CONFIGURE_MS, err);
}

static int change_mode(const struct vm_hook *h, const struct vm_row *was, struct vm_plan *p,
                       struct err *err)
{
    struct card *c = h->state ? *h->state : NULL;
    struct host_nic nic;

    (void)p;
    if (!h->run || !c) {
        return 0;
    }
    vm_publish_name(h->vms, h->row);
    if (str_eq(h->row->net_mode, was->net_mode)) {
        return 0;
    }
    if (vm_has_nat(h->row)) {
        return connect_guest(h, c, err);
    }
    nic = nic_of(h->vms, h->row, c->tap);
    return host_nic_detach(h->vms->params.host, &nic, err);
}

const struct vm_capability vm_cap_net = {
    .name = "net",
    .prepare_host = take_card,
    .machine_config = add_card,
    .guest_config = add_addresses,
    .post_start = machine_has_it,
    .adopt = adopt,
    .cleanup = forget,
    .plan_config_change = plan_mode,
    .apply_config_change = change_mode,
};
