/* Doctor: what networks of VMs need. VMs run without, so nothing here is a failure. */
#include "host/doctor.h"

#include "base/spawn.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* 10.201.0.0/16 */
#define SUBNET 0x0AC90000U
#define SUBNET_MASK 0xFFFF0000U
#define SUBNET_TEXT "10.201.0.0/16"
#define DNS_PORT 53U

static void check_tun(const void *ctx, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *path = x_asprintf("%s/dev/net/tun", h->root);

    if (access(path, F_OK) < 0) {
        doctor_evidence(f, "/dev/net/tun: %s", strerror(errno));
        doctor_warn(f, "there is no /dev/net/tun, which networks of VMs need");
        doctor_fix(f, "modprobe tun");
    } else if (!h->has_root && access(path, R_OK | W_OK) < 0) {
        doctor_evidence(f, "/dev/net/tun: %s", strerror(errno));
        doctor_warn(f, "/dev/net/tun cannot be opened, which networks of VMs need");
        doctor_fix(f, "chmod 0666 /dev/net/tun");
    } else {
        doctor_evidence(f, "/dev/net/tun");
        doctor_pass(f, "/dev/net/tun is there");
    }
}

/* Built in, loaded, or known to modprobe. */
static bool has_module(const struct host_doctor *h, const char *name)
{
    static const char *const lists[] = {"modules.builtin", "modules.dep"};
    _cleanup_free_ char *loaded = doctor_read(h->root, "/proc/modules");
    _cleanup_free_ char *release = doctor_read(h->root, "/proc/sys/kernel/osrelease");
    _cleanup_free_ char *file = x_asprintf("/%s.ko", name);

    if (loaded && strstr(loaded, name)) {
        return true;
    }
    for (size_t i = 0; release && i < ARRAY_LEN(lists); i++) {
        _cleanup_free_ char *path = x_asprintf("/lib/modules/%s/%s", release, lists[i]);
        _cleanup_free_ char *text = doctor_read(h->root, path);

        if (text && strstr(text, file)) {
            return true;
        }
    }
    return false;
}

static void check_nft(const void *ctx, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *program = spawn_find_program("nft");
    bool kernel = has_module(h, "nf_tables") || doctor_exists(h->root, "/proc/net/netfilter");

    doctor_evidence(f, "nft: %s; kernel: %s", program ? program : "not in PATH",
                    kernel ? "netfilter" : "no nf_tables, no /proc/net/netfilter");
    if (!kernel) {
        doctor_warn(f, "the kernel has no nf_tables, which networks of VMs need");
        doctor_fix(f, "modprobe nf_tables");
    } else if (!program) {
        doctor_warn(f, "nft is not installed: rules cannot be looked at");
        doctor_fix(f, "apt-get install nftables");
    } else {
        doctor_pass(f, "nftables are there");
    }
}

static void check_forwarding(const void *ctx, struct doctor_finding *f)
{
    static const char file[] = "/proc/sys/net/ipv4/conf/all/forwarding";
    const struct host_doctor *h = ctx;
    uint64_t value;

    if (!doctor_read_number(h->root, file, &value)) {
        doctor_evidence(f, "%s: %s", file, strerror(errno));
        doctor_warn(f, "the kernel has no IPv4 forwarding, which networks of VMs need");
        doctor_fix(f, "mount /proc: mount -t proc proc /proc");
        return;
    }
    doctor_evidence(f, "%s: %llu", file, (unsigned long long)value);
    doctor_pass(f, value ? "IPv4 is forwarded" : "IPv4 can be forwarded, per interface");
}

/* Lines "IFACE DESTINATION GATEWAY FLAGS REFCNT USE METRIC MASK …", numbers in hex, addresses in
 * the order of the network. */
static bool find_conflict(char *routes, char ret_iface[32], unsigned *ret_address)
{
    char *rest = routes, *line;

    while ((line = strsep(&rest, "\n"))) {
        unsigned address, mask;

        if (sscanf(line, "%31s %x %*s %*s %*s %*s %*s %x", ret_iface, &address, &mask) != 3) {
            continue;
        }
        address = __builtin_bswap32(address);
        mask = __builtin_bswap32(mask);
        if (mask != 0 && !str_starts_with(ret_iface, "bgr-") &&
            (address & mask & SUBNET_MASK) == (SUBNET & mask)) {
            *ret_address = address;
            return true;
        }
    }
    return false;
}

static void check_subnet(const void *ctx, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *routes = doctor_read(h->root, "/proc/net/route");
    char iface[32];
    unsigned a;

    if (routes && find_conflict(routes, iface, &a)) {
        doctor_evidence(f, "/proc/net/route: %u.%u.%u.%u by %s", a >> 24, a >> 16 & 255,
                        a >> 8 & 255, a & 255, iface);
        doctor_warn(f,
                    "the first choice for VMs' addresses, " SUBNET_TEXT
                    ", is in use on '%s': they are "
                    "of another subnet",
                    iface);
        doctor_fix(f, "give '%s' other addresses, or route less to it: ip route show dev %s", iface,
                   iface);
        return;
    }
    doctor_evidence(f, "/proc/net/route: nothing in " SUBNET_TEXT);
    doctor_pass(f, "the addresses of VMs, " SUBNET_TEXT ", are free");
}

/* Signs of what has rules of its own: our accept does not win over its drop. */
static void check_firewall(const void *ctx, struct doctor_finding *f)
{
    static const struct {
        const char *path, *content, *name, *fix;
    } signs[] = {
        {"/sys/class/net/docker0", NULL, "Docker",
         "iptables -I DOCKER-USER -i bgr-+ -j ACCEPT; iptables -I DOCKER-USER -o bgr-+ -j ACCEPT"},
        {"/run/firewalld", NULL, "firewalld", "firewall-cmd --zone=trusted --add-interface=bgr-+"},
        {"/etc/ufw/ufw.conf", "ENABLED=yes", "ufw",
         "ufw route allow in on bgr-+; ufw route allow out on bgr-+"},
        {"/proc/net/ip_tables_names", "filter", "legacy iptables",
         "iptables-legacy -I FORWARD -i bgr-+ -j ACCEPT; "
         "iptables-legacy -I FORWARD -o bgr-+ -j ACCEPT"},
    };
    const struct host_doctor *h = ctx;

    for (size_t i = 0; i < ARRAY_LEN(signs); i++) {
        _cleanup_free_ char *text = signs[i].content ? doctor_read(h->root, signs[i].path) : NULL;

        if (signs[i].content ? text && strstr(text, signs[i].content)
                             : doctor_exists(h->root, signs[i].path)) {
            doctor_evidence(f, "%s%s%s", signs[i].path, signs[i].content ? ": " : "",
                            signs[i].content ? signs[i].content : "");
            doctor_warn(f, "%s may drop what VMs send and get", signs[i].name);
            doctor_fix(f, "%s", signs[i].fix);
            return;
        }
    }
    doctor_evidence(f, "none of docker0, firewalld, ufw, legacy iptables");
    doctor_pass(f, "no sign of a firewall of others");
}

/* Lines "SL ADDRESS:PORT …" in hex: somebody has the port on all addresses. */
static bool port_is_taken(const struct host_doctor *h, const char *file, unsigned port)
{
    _cleanup_free_ char *text = doctor_read(h->root, file);
    char *rest = text, *line;

    while ((line = strsep(&rest, "\n"))) {
        char address[40];
        unsigned at;

        if (sscanf(line, " %*[0-9]: %39[0-9A-Fa-f]:%x ", address, &at) == 2 && at == port &&
            strspn(address, "0") == strlen(address)) {
            return true;
        }
    }
    return false;
}

static void check_dns_port(const void *ctx, struct doctor_finding *f)
{
    static const char *const files[] = {"/proc/net/udp", "/proc/net/udp6"};
    const struct host_doctor *h = ctx;

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        if (port_is_taken(h, files[i], DNS_PORT)) {
            doctor_evidence(f, "%s: port %u on all addresses", files[i], DNS_PORT);
            doctor_warn(f, "another program serves DNS on all addresses: VMs could not have ours");
            doctor_fix(f,
                       "bind it to the addresses that it is for; who it is: ss -lunp sport = :%u",
                       DNS_PORT);
            return;
        }
    }
    doctor_evidence(f, "%s, %s: port %u is free", files[0], files[1], DNS_PORT);
    doctor_pass(f, "the port of DNS is free");
}

static void check_resolver(const void *ctx, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;

    if (!doctor_exists(h->root, "/run/systemd/resolve/io.systemd.Resolve")) {
        doctor_evidence(f, "/run/systemd/resolve/io.systemd.Resolve: missing");
        doctor_warn(f, "programs of the host do not find VMs' names unless their resolver is told");
        doctor_fix(
            f, "dnsmasq, or NetworkManager's: a line server=/vm/127.0.0.1#5354 (dns_port of the "
               "configuration)");
        return;
    }
    doctor_evidence(f, "/run/systemd/resolve/io.systemd.Resolve");
    doctor_pass(f,
                "systemd-resolved runs; it is not told of VMs' names, which port 5354 of 127.0.0.1 "
                "answers");
}

static void check_pasta(const void *ctx, struct doctor_finding *f)
{
    const struct host_doctor *h = ctx;
    _cleanup_free_ char *program = spawn_find_program("pasta");

    doctor_evidence(f, "pasta: %s", program ? program : "not in PATH");
    if (h->has_root) {
        doctor_pass(f, "with root pasta is not needed");
    } else {
        doctor_warn(f, "without root VMs have no network, with pasta or without");
        doctor_fix(f, "start the daemon with root: banger daemon stop; sudo banger ps");
    }
}

const struct doctor_check host_network_checks[] = {
    {"tun", "TAP devices", 0, check_tun},
    {"nft", "nftables", 0, check_nft},
    {"forwarding", "Forwarding of IPv4", 0, check_forwarding},
    {"subnet", "Addresses of VMs", 0, check_subnet},
    {"firewall", "Firewalls of others", 0, check_firewall},
    {"dns-port", "The port of DNS", 0, check_dns_port},
    {"resolver", "Names of VMs on the host", 0, check_resolver},
    {"pasta", "Networks without root", 0, check_pasta},
    {0},
};
