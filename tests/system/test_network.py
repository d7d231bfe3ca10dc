"""Networks of VMs, with real guests: what they reach and what they do not, and what is left."""

import ipaddress
import shutil

import lan
import pytest
from steps import assert_error, await_ready, edit_store, kill_daemon, sh, sh_ok, vms

CONFIG = 'accel = "tcg"\nnetwork = "auto"\n'

pytestmark = [
    pytest.mark.deadline(300),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed"),
]


@pytest.fixture
def net():
    made = lan.Lan()
    yield made
    made.remove()


@pytest.fixture
def make_on(net, make_banger):
    def make(config=CONFIG):
        banger = make_banger(config=config)
        banger.prefix = net.host.prefix
        return banger
    return make


@pytest.fixture
def banger(make_on):
    return make_on()


def addresses(banger, name):
    network = vms(banger)[name]["network"]
    return network["ipv4"], network["ipv6"]


def fetch(banger, vm, address, port):
    """What a server says, or "" when it cannot be reached."""
    return sh(banger, f"nc -w 5 {address} {port} </dev/null", vm=vm).out


def taps(space):
    return [line.split()[0] for line in space.run("ip", "-br", "link").splitlines()
            if line.startswith("bgr-")]


def test_a_guest_reaches_what_is_beyond_and_neither_the_host_nor_other_vms(banger, net):
    ports = {a: net.serve(net.beyond, a) for a in (lan.WEB4, lan.WEB6)}
    service = {a: net.serve(net.host, a) for a in (lan.HOST4, lan.HOST6)}
    for name in ("a", "b"):
        banger.ok("vm", "create", "-q", "--name", name)
    a4, a6 = addresses(banger, "a")
    b4, b6 = addresses(banger, "b")
    assert len({a4, b4}) == len({a6, b6}) == 2
    assert sh_ok(banger, "ip -o addr show dev eth0 | awk '{print $4}'", vm="a").split() == [
        f"{a4}/32", f"{a6}/128"]
    # As the host, by both families.
    assert fetch(banger, "a", lan.WEB4, ports[lan.WEB4]) == f"you are {lan.HOST4}\n"
    assert fetch(banger, "a", lan.WEB6, ports[lan.WEB6]) == f"you are {lan.HOST6}\n"
    assert " 0% packet loss" in sh_ok(banger, f"ping -c 2 -s 3000 {lan.WEB4}", vm="a")
    assert " 0% packet loss" in sh_ok(banger, f"ping -c 2 -s 3000 {lan.WEB6}", vm="a")
    # Not the host, by any of its addresses, nor the other VM, nor what clouds tell secrets on.
    for address, port in service.items():
        assert fetch(banger, "a", address, port) == ""
    sh_ok(banger, "(while :; do echo reached | nc -l -p 99; done) >/dev/null 2>&1 &", vm="b")
    for address in (b4, b6, "169.254.169.254"):
        assert fetch(banger, "a", address, 99) == ""
    # The host reaches them.
    for address in (a4, a6, b4, b6):
        assert " 0% packet loss" in net.host.run("ping", "-c", "1", "-W", "10", address)
    # Somebody else's addresses get nowhere: replies would come back.
    sh_ok(banger, f"ip addr add 10.201.77.77/32 dev eth0; ip addr add {b4}/32 dev eth0", vm="a")
    for address in ("10.201.77.77", b4):
        assert "100% packet loss" in sh(banger, f"ping -c 1 -W 1 -I {address} {lan.WEB4}",
                                        vm="a").out
    assert fetch(banger, "b", lan.WEB4, ports[lan.WEB4]) == f"you are {lan.HOST4}\n"


def test_addresses_stay_with_a_vm_and_taps_go_with_its_run(make_on, net):
    before = net.host.state()
    banger = make_on(CONFIG + "tap_pool_size = 0\n")
    port = net.serve(net.beyond, lan.WEB4)
    banger.ok("vm", "create", "-q", "--name", "first")
    mine = addresses(banger, "first")
    assert all(ipaddress.ip_address(a).is_private for a in mine)
    assert len(taps(net.host)) == 1
    banger.ok("stop", "first")
    banger.ok("vm", "create", "-q", "--name", "second")
    assert addresses(banger, "second") != mine
    banger.ok("start", "first")
    assert addresses(banger, "first") == mine
    assert fetch(banger, "first", lan.WEB4, port)
    # Freed ones are the last to be used again.
    banger.ok("rm", "--force", "first")
    banger.ok("vm", "create", "-q", "--name", "third", "--no-start")
    assert addresses(banger, "third") != mine
    banger.ok("rm", "--force", "second", "third")
    banger.ok("daemon", "stop")
    # Nothing is left of it: no device, route, rule or table.
    for what, text in net.host.state().items():
        assert text.splitlines() == before[what].splitlines(), what


def test_packets_go_on_while_the_daemon_dies_and_comes_back(banger, net):
    port = net.serve(net.beyond, lan.WEB4)
    banger.ok("vm", "create", "-q", "--name", "x")
    x4, _ = addresses(banger, "x")
    ping = banger.spawn_argv(["ping", "-i", "0.05", "-W", "5", x4])
    ping.read_until(b"icmp_seq=5 ")
    kill_daemon(banger)
    ping.read_until(b"icmp_seq=20 ")
    banger.ok("ps")
    assert fetch(banger, "x", lan.WEB4, port)
    ping.read_until(b"icmp_seq=60 ")
    ping.signal(2)
    assert " 0% packet loss" in ping.finish().out
    banger.ok("rm", "--force", "x")


def test_a_fork_has_its_own_address_before_anybody_uses_it(banger, net):
    port = net.serve(net.beyond, lan.WEB4)
    made = banger.ok("template", "create").out.strip()
    banger.ok("template", "pool", made, "--size", "1")
    seen = set()
    for name in ("a", "b", "c"):
        await_ready(banger, 1)
        banger.ok("vm", "create", "-q", "--name", name)
        assert vms(banger)[name]["start"]["how"] == "pool"
        mine = addresses(banger, name)
        assert sh_ok(banger, "ip -o addr show dev eth0 | awk '{print $4}'", vm=name).split() == [
            f"{mine[0]}/32", f"{mine[1]}/128"]
        assert fetch(banger, name, lan.WEB4, port) == f"you are {lan.HOST4}\n"
        seen.add(mine)
    assert len(seen) == 3
    # Who wants none gets no member that is connected already.
    await_ready(banger, 1)
    banger.ok("vm", "create", "-q", "--name", "alone", "--net", "none")
    assert vms(banger)["alone"]["start"]["how"] == "fork"
    assert "inet" not in sh_ok(banger, "ip -o addr show dev eth0", vm="alone")


def test_a_network_comes_and_goes_while_a_vm_runs(banger, net):
    port = net.serve(net.beyond, lan.WEB4)
    banger.ok("vm", "create", "-q", "--name", "x", "--net", "none")
    assert vms(banger)["x"]["network"] == {
        "mode": "none", "ipv4": None, "ipv6": None, "dns_name": None, "ports": []}
    assert fetch(banger, "x", lan.WEB4, port) == ""
    banger.ok("vm", "set", "x", "--net", "nat")
    x4, _ = addresses(banger, "x")
    assert fetch(banger, "x", lan.WEB4, port) == f"you are {lan.HOST4}\n"
    banger.ok("vm", "set", "x", "--net", "none")
    assert fetch(banger, "x", lan.WEB4, port) == ""
    banger.ok("vm", "set", "x", "--net", "nat")
    assert addresses(banger, "x")[0] == x4
    assert fetch(banger, "x", lan.WEB4, port) == f"you are {lan.HOST4}\n"


def test_where_there_can_be_no_network_it_is_said(make_on):
    banger = make_on()
    # One daemon has the network of a host.
    banger.ok("ps")
    other = make_on()
    other.ok("vm", "create", "-q", "--name", "x")
    assert vms(other)["x"]["network"]["mode"] == "none"
    assert_error(other.run("vm", "create", "--net", "nat", "-q"),
                 "VMs have no network here: another daemon has", hint="--net none")
    assert "another daemon has" in other.json("daemon", "status")["network"]["why"]
    # A configuration that wants one fails.
    third = make_on('accel = "tcg"\nnetwork = "nat"\n')
    assert "another daemon has" in third.run("ps").err


def dig(space, *question):
    """What the host's nameserver says, as short as can be."""
    return space.run("dig", "+short", "+timeout=5", "@127.0.0.1", "-p", "5354", *question).split()


def status_of(space, *question):
    said = space.run("dig", "+timeout=5", "@127.0.0.1", "-p", "5354", *question)
    return said.split("status: ")[1].split(",")[0]


def test_vms_have_names_while_they_run(make_on, net):
    banger = make_on()
    for name in ("a", "b"):
        banger.ok("vm", "create", "-q", "--name", name)
    a4, a6 = addresses(banger, "a")
    assert banger.json("daemon", "status")["dns"] == "127.0.0.1:5354"
    assert vms(banger)["a"]["network"]["dns_name"] == "a.vm"
    host = net.host
    assert dig(host, "a.vm") == dig(host, "any.thing.A.VM") == dig(host, "+tcp", "a.vm") == [a4]
    assert dig(host, "a.vm", "AAAA") == [a6]
    assert dig(host, "-x", a4) == dig(host, "-x", a6) == ["a.vm."]
    assert status_of(host, "a.vm", "MX") == "NOERROR" and dig(host, "a.vm", "MX") == []
    assert status_of(host, "nobody.vm") == status_of(host, "-x", "10.201.99.99") == "NXDOMAIN"
    # Not for the host what it can ask others.
    assert status_of(host, "example.test") == "REFUSED"
    # By guests as well, of one another, which they cannot reach.
    b4, _ = addresses(banger, "b")
    assert b4 in sh_ok(banger, "nslookup b.vm", vm="a")
    banger.ok("vm", "rename", "a", "new")
    assert dig(host, "new.vm") == [a4] and status_of(host, "a.vm") == "NXDOMAIN"
    kill_daemon(banger)
    banger.ok("ps")
    assert dig(host, "new.vm") == [a4]
    banger.ok("vm", "set", "new", "--net", "none")
    assert status_of(host, "new.vm") == "NXDOMAIN"
    banger.ok("stop", "b")
    assert status_of(host, "b.vm") == "NXDOMAIN"


def test_guests_reach_what_is_beyond_by_name(make_on, net):
    banger = make_on()
    server = lan.Nameserver(net.beyond, lan.WEB4, "203.0.113.5")
    net.servers.append(server)
    port = net.serve(net.beyond, "203.0.113.5")
    (banger.root / "resolv.conf").write_text(f"nameserver {lan.WEB4}\n")
    banger.configure(CONFIG + f'resolv_conf = "{banger.root}/resolv.conf"\n')
    banger.ok("vm", "create", "-q", "--name", "x")
    assert fetch(banger, "x", "www.example.test", port) == f"you are {lan.HOST4}\n"
    asked = len(server.questions)
    assert "www.example.test" in server.questions
    # From the cache.
    assert fetch(banger, "x", "www.example.test", port)
    assert [q for q in server.questions[asked:] if q == "www.example.test"] == []
    # Names of VMs are nobody else's business.
    sh(banger, "nslookup gone.vm", vm="x")
    assert "gone.vm" not in server.questions


def test_a_vm_that_was_made_without_a_network_gets_one(make_on, net):
    """By a daemon that had none, or in a subnet that was larger."""
    port = net.serve(net.beyond, lan.WEB4)
    banger = make_on('accel = "tcg"\nnetwork = "none"\n')
    banger.ok("vm", "create", "-q", "--name", "old")
    banger.ok("daemon", "stop")
    banger.configure(CONFIG)
    assert "next_start" in banger.ok("vm", "set", "old", "--net", "nat").out.replace("next start",
                                                                                    "next_start")
    assert vms(banger)["old"]["network"] == {
        "mode": "nat", "ipv4": None, "ipv6": None, "dns_name": "old.vm", "ports": []}
    banger.ok("restart", "old")
    assert fetch(banger, "old", lan.WEB4, port) == f"you are {lan.HOST4}\n"
    banger.ok("stop", "old")
    banger.ok("daemon", "stop")
    edit_store(banger, "UPDATE vm SET net_slot = 5000")
    banger.configure(CONFIG + 'subnet = "10.77.0.0/24"\n')
    banger.ok("start", "old")
    assert addresses(banger, "old")[0].startswith("10.77.0.")
    assert fetch(banger, "old", lan.WEB4, port) == f"you are {lan.HOST4}\n"


def test_a_host_without_ipv6_gives_none(make_on, net):
    port = net.serve(net.beyond, lan.WEB4)
    net.host.call(lambda: lan.write_switch("net.ipv6.conf.all.disable_ipv6", "1"))
    banger = make_on()
    banger.ok("vm", "create", "-q", "--name", "x")
    x4, x6 = addresses(banger, "x")
    assert x6 is None
    assert sh_ok(banger, "ip -o addr show dev eth0 | awk '{print $4}'", vm="x") == f"{x4}/32\n"
    assert fetch(banger, "x", lan.WEB4, port) == f"you are {lan.HOST4}\n"
    assert dig(net.host, "x.vm") == [x4] and dig(net.host, "x.vm", "AAAA") == []


def test_who_wants_no_network_any_more_has_none(make_on, net):
    """Also of a VM that runs."""
    before = net.host.state()
    banger = make_on()
    port = net.serve(net.beyond, lan.WEB4)
    banger.ok("vm", "create", "-q", "--name", "x")
    assert fetch(banger, "x", lan.WEB4, port)
    banger.ok("daemon", "stop")
    assert taps(net.host) != []
    banger.configure('accel = "tcg"\nnetwork = "none"\n')
    banger.ok("ps")
    for what, text in net.host.state().items():
        assert text.splitlines() == before[what].splitlines(), what
    assert fetch(banger, "x", lan.WEB4, port) == ""
    assert sh_ok(banger, "echo on", vm="x") == "on\n"
    banger.ok("stop", "x")


def test_another_uplink_takes_the_place_of_the_first(banger, net):
    port = net.serve(net.beyond, lan.WEB4)
    banger.ok("vm", "create", "-q", "--name", "x")
    assert fetch(banger, "x", lan.WEB4, port) == f"you are {lan.HOST4}\n"
    net.host.run("ip", "link", "add", "up1", "type", "veth", "peer", "name", "down1", "netns",
                 net.beyond.name)
    for space, name, address in ((net.host, "up1", "198.18.0.2/24"),
                                 (net.beyond, "down1", "198.18.0.1/24")):
        space.run("ip", "addr", "add", address, "dev", name)
        space.run("ip", "link", "set", name, "up")
    net.host.run("ip", "route", "replace", "default", "via", "198.18.0.1")
    # The kernel tells the daemon, which tells the rules.
    while fetch(banger, "x", lan.WEB4, port) != "you are 198.18.0.2\n":
        pass
    # What was switched on for the first is off again; its IPv6 stays.
    forwards = "/proc/sys/net/ipv4/conf/{}/forwarding"
    assert net.host.run("cat", forwards.format("up1")) == "1\n"
    net.host.run("ip", "link", "delete", "up1")
    net.host.run("ip", "route", "add", "default", "via", "192.0.2.1")
    while fetch(banger, "x", lan.WEB4, port) != f"you are {lan.HOST4}\n":
        pass
