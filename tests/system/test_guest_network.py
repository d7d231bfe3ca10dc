"""A guest's card, with a real guest and without a daemon between: the test starts the machine that
the daemon has started, once more and with a card, at whose other end is a namespace of the test's own.
"""

import ctypes
import fcntl
import os
import queue
import shutil
import socket
import struct
import subprocess
import threading

import frames
import pytest
from banger import SLOWNESS
from frames import tlv
from steps import configure_guest, needs_root, sh_ok

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x2, 0x1000, 0x4000
# src/vmm/qemu/qemu_cmdline.h, src/host/net.h
KERNEL_FD, INITRAMFS_FD, ROOT_DISK_FD, DATA_DISK_FD, CONSOLE_FD, QMP_FD, AGENT_FD = range(3, 10)
TAP_FD = 12
GUEST_MAC, GATEWAY_MAC = "02:ba:17:00:00:02", "02:ba:17:00:00:01"
CARD = ["-netdev", f"tap,id=net,fd={TAP_FD},vhost=off",
        "-device", f"virtio-net-device,netdev=net,mac={GUEST_MAC}"]
NETWORK = {"ipv4": "10.201.1.7", "gateway4": "10.201.0.1", "ipv6": "fd00:201::107", "mac": GUEST_MAC,
           "gateway_mac": GATEWAY_MAC, "mtu": 1400}


class Thread:
    """A thread in a network namespace of its own, and what is called in it."""

    def __init__(self):
        self.calls, self.results = queue.Queue(), queue.Queue()
        self.thread = threading.Thread(target=self._main, daemon=True)
        self.thread.start()
        assert self.call(ctypes.CDLL(None, use_errno=True).unshare, CLONE_NEWNET) == 0

    def _main(self):
        for function, args in iter(self.calls.get, None):
            try:
                self.results.put((function(*args), None))
            except Exception as error:  # pylint: disable=broad-exception-caught
                self.results.put((None, error))

    def call(self, function, *args):
        self.calls.put((function, args))
        result, error = self.results.get(timeout=60 * SLOWNESS)
        if error:
            raise error
        return result

    def ip(self, arguments):
        self.call(lambda: subprocess.run(["ip", *arguments.split()], check=True))

    def end(self):
        self.calls.put(None)
        self.thread.join()


def open_tap():
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"bgr-0",
                                            IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    return tap


def attach_guest(host, ipv4="10.201.1.7", ipv6="fd00:201::107"):
    """The host's side: what it knows of this one guest."""
    for address, gateway in ((ipv4, "10.201.0.1"), (ipv6, "fd00:201::1")):
        host.ip(f"route replace {address} dev bgr-0 src {gateway}")
        host.ip(f"neigh replace {address} lladdr {GUEST_MAC} dev bgr-0 nud permanent")


@pytest.fixture
def network_host():
    if shutil.which("ip") is None or not os.path.exists("/dev/net/tun"):
        pytest.skip("needs ip(8) and /dev/net/tun")
    host = Thread()
    host.tap = host.call(open_tap)
    for arguments in (f"link set bgr-0 address {GATEWAY_MAC} addrgenmode none", "link set lo up",
                      "addr add 10.201.0.1/32 dev lo", "addr add fd00:201::1/128 dev lo nodad",
                      "addr add fe80::1/64 dev bgr-0 nodad", "link set bgr-0 up"):
        host.ip(arguments)
    attach_guest(host)
    yield host
    os.close(host.tap)
    host.end()


class Machine:
    """The machine of a running VM, booted once more, with a card."""

    def __init__(self, banger, vm, host, directory):
        pid, = banger.qemu_pids()
        with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
            argv = cmdline.read().decode().split("\0")[:-1]
        fds = {}
        for fd, place, pattern in ((KERNEL_FD, banger.state_dir, "kernels/*/vmlinux"),
                                   (INITRAMFS_FD, banger.cache_dir, "initramfs-*.cpio"),
                                   (ROOT_DISK_FD, banger.state_dir, "images/*.ext4")):
            path, = place.glob(pattern)
            fds[fd] = os.open(path, os.O_RDONLY)
        banger.ok("stop", vm)
        data, = (banger.state_dir / "vms").glob("*/data.ext4")
        shutil.copy(data, directory / "data")
        fds[DATA_DISK_FD] = os.open(directory / "data", os.O_RDWR)
        self.console = directory / "console"
        fds[CONSOLE_FD] = os.open(self.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for fd, name in ((QMP_FD, "qmp"), (AGENT_FD, "agent")):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(directory / name))
            listener.listen(1)
            fds[fd] = listener.detach()
        fds[TAP_FD] = os.dup(host.tap)
        argv.remove("-S")
        self.process = subprocess.Popen(
            ["python3", "-c", self.placing(fds), *argv, *CARD],
            pass_fds=list(fds.values()), stdin=subprocess.DEVNULL)
        for fd in fds.values():
            os.close(fd)
        self.client = frames.connect(directory / "agent", 60 * SLOWNESS)
        self.client.hello(low=1, high=4)

    @staticmethod
    def placing(fds):
        """A program that gives each descriptor its number and becomes what its arguments say."""
        # First out of the way of each other.
        return ("import fcntl, os, sys\n"
                f"fds = {fds!r}.items()\n"
                "high = {n: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for n, fd in fds}\n"
                "for n, fd in high.items():\n"
                "    os.dup2(fd, n)\n"
                "os.execvp(sys.argv[1], sys.argv[1:])\n")

    def sh(self, script):
        session = self.client.run(["sh", "-c", script])
        assert session.exited == 0, (script, session.stdout, session.stderr)
        return session.stdout.decode()

    def configure(self, *resolvers, **changes):
        body = tlv(frames.TAG_NETWORK, frames.network(**{**NETWORK, **changes}))
        body += b"".join(tlv(frames.TAG_RESOLVER, r.encode()) for r in resolvers)
        error, told = self.client.request(frames.CONFIGURE, body)
        return error, told.encode("latin-1")

    def end(self):
        self.client.close()
        self.process.kill()
        self.process.wait()


def told(*resolvers, **changes):
    """What a guest reads back: nothing of the other end."""
    return 0, tlv(frames.TAG_NETWORK, frames.network(
        **{**NETWORK, **changes, "gateway4": None, "gateway_mac": None})) + b"".join(
            tlv(frames.TAG_RESOLVER, r.encode()) for r in resolvers)


def assert_reaches_the_host(machine):
    for program, address in (("ping", "10.201.0.1"), ("ping6", "fd00:201::1")):
        assert " 0% packet loss" in machine.sh(f"{program} -c 1 -W 10 {address}")


@needs_root
def test_guest_has_the_network_that_it_is_told(banger, network_host, tmp_path):
    banger.ok("vm", "create", "-q", "--name", "x", "--disk", "64M")
    machine = Machine(banger, "x", network_host, tmp_path)
    try:
        # The card was there before anybody was told of it, and is silent until then.
        assert machine.sh("cat /sys/class/net/eth0/address; ip addr show dev eth0 | grep -c inet; "
                          "true") == f"{GUEST_MAC}\n0\n"
        resolvers = ("10.201.0.1", "fd00:201::1")
        assert machine.configure(*resolvers) == told(*resolvers)
        assert machine.sh("cat /etc/resolv.conf") == \
            "nameserver 10.201.0.1\nnameserver fd00:201::1\n"
        assert_reaches_the_host(machine)
        assert machine.configure(*resolvers) == told(*resolvers)
        # Somebody has given it another address: it is the only one still.
        machine.sh("ip link set eth0 address 02:00:00:00:00:99; ip addr add 192.0.2.1/24 dev eth0")
        second = {"ipv4": "10.201.1.8", "ipv6": "fd00:201::108", "mtu": 1300}
        attach_guest(network_host, second["ipv4"], second["ipv6"])
        assert machine.configure("::1", **second) == told("::1", **second)
        assert_reaches_the_host(machine)
        shown = machine.sh("ip addr show dev eth0; ip route; ip -6 route; cat /etc/resolv.conf")
        for gone in ("10.201.1.7", "::107", "192.0.2.1", "02:00:00:00:00:99", "1400", "fe80::2"):
            assert gone not in shown
        # A link to a file is somebody else's, one to nothing is nobody's.
        machine.sh("cd /etc; rm resolv.conf; ln -s ../run/stub resolv.conf; echo theirs >/run/stub")
        assert machine.configure("10.201.0.1") == told()
        assert machine.sh("cat /etc/resolv.conf; rm /run/stub") == "theirs\n"
        assert machine.configure("10.201.0.1") == told("10.201.0.1")
        assert machine.sh("ls /run/stub 2>/dev/null; cat /etc/resolv.conf") == \
            "nameserver 10.201.0.1\n"
        # None, where the guest wants none.
        machine.sh("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
        assert machine.configure() == told(ipv6=None)
        machine.sh("echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
        assert machine.configure() == told()
        attach_guest(network_host)
        assert_reaches_the_host(machine)
    finally:
        machine.end()


def test_guest_without_a_card_says_so(banger):
    banger.ok("vm", "create", "-q", "--name", "x")
    body = tlv(frames.TAG_NETWORK, frames.network(**NETWORK))
    assert configure_guest(banger, "x", body) == (19, "configure: network: card: No such device")
    assert sh_ok(banger, "ls /sys/class/net", vm="x") == "lo\n"
