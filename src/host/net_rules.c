/*
 * The two tables of ours, `inet banger` and `arp banger`. A VM is elements of their sets and no
 * rule (docs/ARCHITECTURE.md, "Network"). They are loaded by nft once; what changes later goes by
 * sys/nft.h, and a daemon that finds those of the same text leaves them and their elements as they
 * are: packets go on. No `policy` of theirs drops: what is not from or to our TAPs is not our
 * business.
 */
#include "base/buf.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "host/host_priv.h"
#include "host/net_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define NFT_DEADLINE_MS 20000
#define COMPLAINT_MAX 400U
#define MARK_SIZE 32

/*
 * Order matters in these:
 * - `guard` is before connection tracking, so that what is forged makes no entry there. A guest has
 *   its /32 and its /128 and nothing else, no link-local address either: whatever is from another
 *   is dropped, as are the probes of such an address (from ::).
 * - Link-local addresses are where clouds keep their metadata; fd00:ec2::254 is Amazon's.
 * - A guest asks for its IPv6 gateway's MAC, by neighbour solicitation (RFC 4861) to that address
 * or the multicast address that belongs to it. It need not be asked itself: its entries are
 * permanent.
 * - A connection beyond the host has its VM's mark, by which it is found when it must end.
 * - Refusals are answered, so that guests notice at once; but not those of packets that belong to
 * no connection (invalid), as a reset could end one.
 */
static const char tables[] =
    "table inet banger {\n"
    "    set guard4 { type ifname . ipv4_addr; }\n"
    "    set guard6 { type ifname . ipv6_addr; }\n"
    "    set nat { type ifname; }\n"
    "    set uplinks { type ifname; }\n"
    "    map marks { type ifname : mark; }\n"
    "    chain guard {\n"
    "        type filter hook prerouting priority raw;\n"
    "        iifname $tap jump guard_guest\n"
    "    }\n"
    "    chain guard_guest {\n"
    "        ether saddr $mac iifname . ip saddr @guard4 return\n"
    "        ether saddr $mac iifname . ip6 saddr @guard6 return\n"
    "        counter drop\n"
    "    }\n"
    "    chain input {\n"
    "        type filter hook input priority filter;\n"
    "        iifname $tap jump to_host\n"
    "    }\n"
    "    chain to_host {\n"
    "        ct state established,related accept\n"
    "        ct state invalid drop\n"
    "        ip daddr $gateway4 meta l4proto { tcp, udp } th dport $dns accept\n"
    "        ip6 daddr $gateway6 meta l4proto { tcp, udp } th dport $dns accept\n"
    "        ip daddr $gateway4 icmp type echo-request accept\n"
    "        ip6 daddr $gateway6 icmpv6 type echo-request accept\n"
    "        ip6 daddr { fe80::1, ff02::1:ff00:1 } icmpv6 type nd-neighbor-solicit accept\n"
    "        goto refuse\n"
    "    }\n"
    "    chain forward {\n"
    "        type filter hook forward priority filter;\n"
    "        iifname $tap jump from_guest\n"
    "        oifname $tap jump to_guest\n"
    "    }\n"
    "    chain from_guest {\n"
    "        ct state established,related accept\n"
    "        ct state invalid drop\n"
    "        oifname $tap goto refuse\n"
    "        ip daddr { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 } goto refuse\n"
    "        ip6 daddr { fe80::/10, ff00::/8, fd00:ec2::254 } goto refuse\n"
    "        iifname != @nat goto refuse\n"
    "        oifname != @uplinks goto refuse\n"
    "        jump bound_flows\n"
    "        ct mark set iifname map @marks\n"
    "        accept\n"
    "    }\n"
    "    chain to_guest {\n"
    "        ct state established,related accept\n"
    "        ct status dnat ct mark set oifname map @marks\n"
    "        ct status dnat accept\n"
    "        goto refuse\n"
    "    }\n"
    "    chain refuse {\n"
    "        counter\n"
    "        meta l4proto tcp reject with tcp reset\n"
    "        reject with icmpx admin-prohibited\n"
    "    }\n"
    "    chain postrouting {\n"
    "        type nat hook postrouting priority srcnat;\n"
    "        ip saddr $subnet4 oifname @uplinks masquerade\n"
    "        ip6 saddr $subnet6 oifname @uplinks masquerade\n"
    "    }\n"
    "}\n"
    "table arp banger {\n"
    "    set guard4 { type ifname . ipv4_addr; }\n"
    "    chain input {\n"
    "        type filter hook input priority filter;\n"
    "        iifname $tap jump guard_guest\n"
    "    }\n"
    "    chain guard_guest {\n"
    "        arp operation request arp saddr ether $mac arp daddr ip $gateway4"
    " iifname . arp saddr ip @guard4 accept\n"
    "        counter drop\n"
    "    }\n"
    "}\n";

static const char *address_text(const struct rtnl_prefix *p, char ret[INET6_ADDRSTRLEN])
{
    (void)inet_ntop(p->family, p->bytes, ret, INET6_ADDRSTRLEN);
    return ret;
}

static char *make_text(const struct host_subnet *s)
{
    struct rtnl_prefix four = net_gateway4(s), six = net_gateway6(s);
    struct rtnl_prefix subnet4 = net_subnet4(s), subnet6 = net_subnet6(s);
    char gateway4[INET6_ADDRSTRLEN], gateway6[INET6_ADDRSTRLEN];
    char text4[RTNL_PREFIX_SIZE], text6[RTNL_PREFIX_SIZE];

    return x_asprintf("define tap = \"" HOST_TAP_PREFIX "*\"\n"
                      "define mac = " HOST_GUEST_MAC "\n"
                      "define gateway4 = %s\n"
                      "define gateway6 = %s\n"
                      "define subnet4 = %s\n"
                      "define subnet6 = %s\n"
                      "define dns = %u\n"
                      "table inet banger\n"
                      "delete table inet banger\n"
                      "table arp banger\n"
                      "delete table arp banger\n"
                      "table inet banger {\n"
                      "    set flows { type ifname; size %u; flags dynamic; }\n"
                      "    chain refuse { }\n"
                      "    chain bound_flows {\n"
                      "        add @flows { iifname ct count over %u } counter goto refuse\n"
                      "    }\n"
                      "}\n"
                      "%s",
                      address_text(&four, gateway4), address_text(&six, gateway6),
                      rtnl_prefix_text(&subnet4, text4), rtnl_prefix_text(&subnet6, text6),
                      NET_DNS_PORT, HOST_TAPS_MAX, NET_FLOWS_MAX, tables);
}

/* Named after the text, so that tables of another text, or for another subnet, do not have it. */
static void mark_of(const char *text, char ret_mark[MARK_SIZE])
{
    (void)snprintf(ret_mark, MARK_SIZE, "rules_%016llx", (unsigned long long)host_hash(text));
}

/* nft ------------------------------------------------------------------------------------------ */

/* Administrators' programs are not in everybody's PATH. */
static char *find_nft(void)
{
    static const char *const places[] = {"/usr/sbin/nft", "/sbin/nft"};
    char *found = spawn_find_program("nft");

    for (size_t i = 0; i < ARRAY_LEN(places) && !found; i++) {
        found = access(places[i], X_OK) == 0 ? x_strdup(places[i]) : NULL;
    }
    return found;
}

/* Its end status, or -errno. */
static int await_end(pid_t pid, int pidfd)
{
    int r = cancel_wait_fd(NULL, pidfd, POLLIN, clock_mono_ms() + NFT_DEADLINE_MS);

    if (r < 0) {
        (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        (void)spawn_reap(pid);
        return r;
    }
    return spawn_reap(pid);
}

static int complain(int fd, struct err *err)
{
    char text[COMPLAINT_MAX];
    ssize_t n = pread(fd, text, sizeof(text), 0);
    _cleanup_free_ char *shown = str_escape(text, n > 0 ? (size_t)n : 0, sizeof(text));

    (void)err_set(err, ERR_UNSUPPORTED, "nft does not take the rules for VMs: %s", shown);
    return err_hint(err, "does the kernel have nf_tables, with NAT, connection tracking and "
                         "'ct count' (nft_connlimit)?");
}

static int run_nft(struct net *n, const char *program, const char *text, struct err *err)
{
    const char *const argv[] = {program, "-f", "-", NULL};
    _cleanup_close_ int in = memfd_create("nft-rules", MFD_CLOEXEC);
    _cleanup_close_ int out = memfd_create("nft-says", MFD_CLOEXEC);
    _cleanup_close_ int pidfd = -1;
    const struct spawn_fd fds[] = {{in, STDIN_FILENO}, {out, STDERR_FILENO}};
    pid_t pid;
    int r = in < 0 || out < 0 ? -errno : fs_write_all(in, text, strlen(text));

    if (r == 0 && lseek(in, 0, SEEK_SET) < 0) {
        r = -errno;
    }
    if (r == 0) {
        r = n->spawn(&(struct spawn_params){.argv = argv, .fds = fds, .fd_count = ARRAY_LEN(fds)},
                     &pid, &pidfd);
    }
    if (r == 0) {
        r = await_end(pid, pidfd);
    }
    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot run '%s'", program);
    }
    return r == 0 ? 0 : complain(out, err);
}

int net_load_rules(struct net *n, const struct host_subnet *subnet, bool *ret_kept, struct err *err)
{
    _cleanup_free_ char *text = make_text(subnet), *all = NULL, *program = NULL;
    char mark[MARK_SIZE];
    int r;

    mark_of(text, mark);
    r = nft_has_set(n->filter, NFT_INET, NET_TABLE, mark);
    if (r < 0) {
        return net_refused(n->filter, r, err, "cannot look for the rules for VMs");
    }
    *ret_kept = r == 1;
    if (*ret_kept) {
        return 0;
    }
    all = x_asprintf("%stable inet banger {\n    set %s { type ifname; }\n}\n", text, mark);
    program = find_nft();
    if (!program) {
        (void)err_set(err, ERR_UNSUPPORTED, "'nft' is not installed, which VMs' networks need");
        return err_hint(err, "install nftables (apt-get install nftables)");
    }
    return run_nft(n, program, all, err);
}

int net_drop_rules(struct net *n, struct err *err)
{
    int r = nft_delete_table(n->filter, NFT_INET, NET_TABLE);

    if (r == 0) {
        r = nft_delete_table(n->filter, NFT_ARP, NET_TABLE);
    }
    return r < 0 ? net_refused(n->filter, r, err, "cannot delete the rules for VMs") : 0;
}

struct nft_element net_element(enum nft_family family, const char *set, const char *interface,
                               const uint8_t *address, size_t len, bool remove)
{
    struct nft_element e = {.family = family,
                            .table = NET_TABLE,
                            .set = set,
                            .key_len = IFNAMSIZ + len,
                            .remove = remove};

    (void)snprintf((char *)e.key, IFNAMSIZ, "%s", interface);
    if (len > 0) {
        memcpy(e.key + IFNAMSIZ, address, len);
    }
    return e;
}
