"""forward: services of a guest, reached through its agent."""

import contextlib
import hashlib
import random
import re
import signal
import socket
import subprocess
import threading

import pytest
from banger import BUILD
from steps import SHARED_VM, assert_error, broken_agent, fake_banger, kill_daemon, sh_ok

MEBIBYTE = random.Random(7).randbytes(1 << 20)


def read_all(s):
    data = b""
    while piece := s.recv(65536):
        data += piece
    return data


# The agent's part, alone.

def connect(target, **kwargs):
    return subprocess.Popen([f"{BUILD}/banger-agent", "--files", "connect", "0", target],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            **kwargs)


def listen(family, address):
    s = socket.socket(family)
    s.bind(address)
    s.listen()
    return s


def test_agent_connects_by_address_name_and_path(tmp_path):
    path = str(tmp_path / "socket")
    for family, address, target in ((socket.AF_INET, ("127.0.0.1", 0), "127.0.0.1:%d"),
                                    (socket.AF_INET, ("127.0.0.1", 0), "localhost:%d"),
                                    (socket.AF_INET6, ("::1", 0), "[::1]:%d"),
                                    (socket.AF_INET6, ("::1", 0), "localhost:%d"),
                                    (socket.AF_UNIX, path, path)):
        with listen(family, address) as server:
            if "%d" in target:
                target %= server.getsockname()[1]
            child = connect(target)
            peer, _ = server.accept()
            with peer:
                child.stdin.write(b"question")
                child.stdin.close()  # is the service's end of input alone
                assert read_all(peer) == b"question"
                peer.sendall(b"answer")
            assert child.stdout.read() == b"answer"
            assert child.wait() == 0 and child.stderr.read() == b""


def test_agent_passes_on_that_a_service_has_ended_first():
    with listen(socket.AF_INET, ("127.0.0.1", 0)) as server:
        child = connect("127.0.0.1:%d" % server.getsockname()[1])
        peer, _ = server.accept()
        peer.sendall(b"all there is")
        peer.shutdown(socket.SHUT_WR)
        assert child.stdout.read() == b"all there is"
        child.stdin.write(b"and yet")
        child.stdin.close()
        assert read_all(peer) == b"and yet"
        peer.close()
        assert child.wait() == 0


def test_agent_ends_with_a_service_that_breaks():
    with listen(socket.AF_INET, ("127.0.0.1", 0)) as server:
        child = connect("127.0.0.1:%d" % server.getsockname()[1])
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()  # a reset
        assert child.wait() == 0 and child.stdout.read() == b""
        child.stdin.close()


@pytest.mark.parametrize("target, why", [
    ("127.0.0.1:1", b"Connection refused"), ("localhost:1", b"Connection refused"),
    ("/nowhere", b"No such file or directory"), ("/" + "x" * 108, b"Filename too long"),
    ("example:80", b"Invalid argument"), ("127.0.0.1", b"Invalid argument"),
    ("127.0.0.1:0", b"Invalid argument"), ("127.0.0.1:65536", b"Invalid argument"),
    (":80", b"Invalid argument"), ("[::1:80", b"Invalid argument"), ("", b"Invalid argument")])
def test_agent_tells_why_it_cannot_connect(target, why):
    child = connect(target)
    out, err = child.communicate()
    assert (child.returncode, out) == (1, b"")
    hint = b"nobody listens there; who listens where: banger vm ports VM" if b"refused" in why else b""
    assert err.split(b"\0") == [target.encode(), why, hint, b""]


# The whole.

@contextlib.contextmanager
def forwarding(banger, *args):
    """The local addresses, and the process."""
    count = len(args) - 1
    child = banger.spawn("forward", "-q", *args)
    child.read_until(re.compile(rb"(.+\n){%d}" % count))
    addresses = [line.rsplit(":", 1) for line in child.output["stdout"].decode().splitlines()]
    child.close_stdin()
    yield addresses, child
    child.signal(signal.SIGINT)
    child.result = child.finish()
    assert child.result.returncode == 130, child.result


def dial(address):
    return socket.create_connection((address[0].strip("[]"), int(address[1])))


def fetch(address):
    with dial(address) as s:
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return read_all(s)


@pytest.fixture(scope="module")
def served(shared):
    """The shared VM with a web server on each kind of address and a server that echoes."""
    pids = sh_ok(shared, """mkdir -p /srv/www && echo hello >/srv/www/index.html
for server in "httpd -f -h /srv/www -p 127.0.0.1:7080" "httpd -f -h /srv/www -p [::1]:7081" \\
        "nc -ll -p 7082 -e cat"; do
    $server >/dev/null 2>&1 &
    echo $!
done
until [ "$(netstat -ltn | grep -c ":708[0-2] ")" = 3 ]; do :; done""").split()
    yield shared
    sh_ok(shared, f"kill {' '.join(pids)}")


@pytest.mark.sanitize
def test_services_of_a_guest_are_reached(served):
    with forwarding(served, SHARED_VM, "0:7080", "0:[::1]:7081", "[::1]:0:127.0.0.1:7080",
                    "0:7081") as (addresses, _):
        for address in addresses:
            assert fetch(address).endswith(b"hello\n")
        assert addresses[2][0] == "[::1]"


@pytest.mark.sanitize
def test_bytes_come_whole_both_ways_at_once(served):
    def both_ways(address, results, at):
        with dial(address) as s:
            writer = threading.Thread(
                target=lambda: (s.sendall(MEBIBYTE), s.shutdown(socket.SHUT_WR)))
            writer.start()
            results[at] = hashlib.sha256(read_all(s)).digest()
            writer.join()

    with forwarding(served, SHARED_VM, "0:7082") as ((address,), _):
        results = [None] * 4
        threads = [threading.Thread(target=both_ways, args=(address, results, i))
                   for i in range(len(results))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert results == [hashlib.sha256(MEBIBYTE).digest()] * len(results)


def test_what_cannot_be_reached_is_told_and_reset(served):
    with forwarding(served, SHARED_VM, "0:7083", "0:7080") as ((wrong, right), child):
        for _ in range(8):
            with dial(wrong) as s, pytest.raises(ConnectionResetError):
                s.recv(1)
        assert fetch(right).endswith(b"hello\n")
    assert f"banger: {SHARED_VM}:localhost:7083: Connection refused\nhint: nobody listens there" \
        in child.result.err


def test_a_guest_keeps_nothing_of_who_has_left(served):
    with forwarding(served, SHARED_VM, "0:7082") as ((address,), _):
        with dial(address) as s:
            s.sendall(b"ping")
            assert s.recv(4) == b"ping"
            connects = [x for x in served.json("session", "list", SHARED_VM)
                        if "connect" in x["command"]]
            assert [x["command"] for x in connects] == [
                ["banger-agent", "connect", "localhost:7082"]]
            session = connects[0]["id"]
        served.run("session", "wait", SHARED_VM, session, "--timeout", "60s")
    assert not [x for x in served.json("session", "list", SHARED_VM) if x["id"] == session]


def test_connections_are_made_again_by_the_next_daemon(banger):
    banger.ok("vm", "create", "--name", "box")
    sh_ok(banger, "mkdir /www && echo still >/www/index.html && httpd -h /www -p 127.0.0.1:7080",
          vm="box")
    with forwarding(banger, "box", "0:7080") as ((address,), _):
        assert fetch(address).endswith(b"still\n")
        kill_daemon(banger)
        assert fetch(address).endswith(b"still\n")


def test_vm_with_an_older_agent_says_that_it_cannot_connect(make_banger):
    banger = broken_agent(make_banger, "old")
    banger.ok("vm", "create", "-q", "--name", "old")
    with forwarding(banger, "old", "0:80") as ((address,), child):
        with dial(address) as s, pytest.raises(ConnectionResetError):
            s.recv(1)
    assert_error(child.result, "older than this banger", status=130, hint="stop and start the VM")
    banger.ok("rm", "--force", "old")


@pytest.mark.parametrize("spec, why", [
    ("0", "port from 1"), ("x", "not a port"), ("80:x", "not a port"), ("65536", "not a port"),
    ("1:2:3:4:5", "not [LOCAL:]REMOTE"), ("", "not [LOCAL:]REMOTE"), ("80:", "not [LOCAL:]REMOTE"),
    ("[::1:80", "bracket"), ("[::1]80", "colon"), ("80:example.com:80", "neither localhost"),
    ("host:80:80", "not an address of this host"), ("1:2:3:/run/x", "not [LOCAL:]REMOTE"),
    ("80:/" + "x" * 107, "at most 107")])
def test_bad_forwards_are_errors_of_usage(bare, spec, why):
    result = bare.run("forward", "box", spec)
    assert result.returncode == 2 and why in result.err and "hint:" in result.err


def test_who_cannot_be_forwarded_to_is_told_at_once(make_banger):
    banger = fake_banger(make_banger)
    assert_error(banger.run("forward", "nobody", "8080"), "nobody")
    banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", "box")
    banger.ok("stop", "box")
    assert_error(banger.run("forward", "box", "8080"), "not running", hint="banger start box")
    banger.ok("start", "box")
    with listen(socket.AF_INET, ("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_error(banger.run("forward", "box", str(port)), "Address already in use",
                     hint=f"0:localhost:{port}")
    assert_error(banger.run("forward", "box", "192.0.2.1:8080:80"), "Cannot assign")
