"""What CONFIGURE takes, and what it refuses. The agent is that of agent_process: no guest, so that it
changes nothing."""

import socket
import struct

import frames
from agent_process import fixture_agent, fixture_host  # noqa: F401

BOOT_ID = b"c0ffee00-0123-4567-89ab-cdef01234567"
GUEST_MAC, GATEWAY_MAC = "02:ba:17:00:00:02", "02:ba:17:00:00:01"
NETWORK = {"ipv4": "10.201.1.7", "gateway4": "10.201.0.1", "ipv6": "fd00:201::107", "mac": GUEST_MAC,
           "gateway_mac": GATEWAY_MAC, "mtu": 1500}


def bad_networks():
    """Each of them has one thing wrong."""
    for field, values in {"ipv4": (None, "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.201.0.1"),
                          "gateway4": (None, "127.0.0.1", "239.0.0.1", "10.201.1.7"),
                          "ipv6": ("::7", "::1", "ff02::1", "fe80::2", "febf::1"),
                          "mac": (None, "03:ba:17:00:00:02", GATEWAY_MAC),
                          "gateway_mac": (None, "01:00:5e:00:00:01", GUEST_MAC),
                          "mtu": (0, 68, 1279)}.items():
        for value in values:
            yield frames.network(**{**NETWORK, field: value})
    good = frames.network(**NETWORK)
    yield from (b"", good[:-1], good + b"\0")


def test_configure_checks_its_values(host):
    tlv = frames.tlv
    good = (tlv(frames.TAG_ENTROPY, bytes(64)) + tlv(frames.TAG_TIME, struct.pack("<Q", 10**18)) +
            tlv(frames.TAG_HOSTNAME, b"my-vm.example") + tlv(200, b"from the future") +
            tlv(frames.TAG_MACHINE_ID, b"0123456789abcdef" * 2) + tlv(frames.TAG_BOOT_ID, BOOT_ID) +
            tlv(frames.TAG_RESOLVER, b"10.201.0.1") + tlv(frames.TAG_RESOLVER, b"fd00:201::1") +
            tlv(frames.TAG_NETWORK, frames.network(**NETWORK)) + tlv(frames.TAG_INIT, b""))
    error, told = host.request(frames.CONFIGURE, good)
    # Without the entropy. Here it is no guest, and changes nothing.
    assert (error, told.encode("latin-1")) == (
        0, tlv(frames.TAG_TIME, struct.pack("<Q", 10**18)) +
        tlv(frames.TAG_HOSTNAME, b"my-vm.example") +
        tlv(frames.TAG_MACHINE_ID, b"0123456789abcdef" * 2) + tlv(frames.TAG_BOOT_ID, BOOT_ID) +
        tlv(frames.TAG_NETWORK, frames.network(**NETWORK)) +
        tlv(frames.TAG_RESOLVER, b"10.201.0.1") + tlv(frames.TAG_RESOLVER, b"fd00:201::1") +
        tlv(frames.TAG_INIT, b""))
    assert host.request(frames.CONFIGURE, b"") == (0, "")
    name = socket.gethostname()
    for bad in (tlv(frames.TAG_ENTROPY, bytes(31)), tlv(frames.TAG_ENTROPY, bytes(513)),
                tlv(frames.TAG_TIME, bytes(7)), tlv(frames.TAG_TIME, b"\xff" * 8),
                tlv(frames.TAG_HOSTNAME, b""), tlv(frames.TAG_HOSTNAME, b"a" * 64),
                tlv(frames.TAG_HOSTNAME, b"-a"), tlv(frames.TAG_HOSTNAME, b"a b"),
                tlv(frames.TAG_HOSTNAME, b"a..b"), tlv(frames.TAG_HOSTNAME, b"a\0"), good[:-1],
                tlv(frames.TAG_MACHINE_ID, b"0" * 31), tlv(frames.TAG_MACHINE_ID, b"0" * 33),
                tlv(frames.TAG_MACHINE_ID, b"A" * 32), tlv(frames.TAG_MACHINE_ID, b""),
                *(tlv(frames.TAG_BOOT_ID, value) for value in (
                    b"", BOOT_ID[:-1], BOOT_ID + b"\n", BOOT_ID.upper(), BOOT_ID.replace(b"-", b"0"),
                    BOOT_ID.replace(b"a", b"g"), b"-" * 36, b"a" * 36, BOOT_ID[1:] + b"0"))):
        error, text = host.request(frames.CONFIGURE, bad)
        assert error in (22, 71) and text.startswith("configure: "), bad
    for bad in bad_networks():
        assert host.request(frames.CONFIGURE, tlv(frames.TAG_NETWORK, bad)) == (
            22, "configure: network: Invalid argument"), bad
    one = tlv(frames.TAG_RESOLVER, b"10.201.0.1")
    for bad in (*(tlv(frames.TAG_RESOLVER, value) for value in (
            b"", b"10.201.0", b"10.201.0.1\n", b"10.201.0.1\0", b"fe80::1%eth0", b"host",
            b"1" * 45, b"1" * 100)), 4 * one):
        assert host.request(frames.CONFIGURE, bad) == (
            22, "configure: resolver: Invalid argument"), bad
    assert host.request(frames.CONFIGURE, 3 * one) == (0, (3 * one).decode("latin-1"))
    assert socket.gethostname() == name
