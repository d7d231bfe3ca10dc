"""Sessions' streams at size and under stress: bytes both ways, clients that lie or stop, memory."""

import contextlib
import hashlib
import os
import pathlib
import random
import re
import signal
import struct
import subprocess

import frames
import pytest
from banger import SLOWNESS
from frames import Frame
from steps import SHARED_VM, call, redirected, sh, sh_ok

MIB = 1 << 20
SANITIZED = SLOWNESS > 1
# What one client makes the daemon hold: its window, and a frame that is being read.
PER_CLIENT = 256 * 1024 + 64 * 1024


# Bytes --------------------------------------------------------------------------------------------

def through_cat(banger, size, timeout):
    """Sends `size` bytes through `cat` in the guest and back; returns both hashes."""
    block = random.Random(3).randbytes(MIB)
    sent, received = hashlib.sha256(), hashlib.sha256()
    child = subprocess.Popen([banger.program(), "exec", "-i", SHARED_VM, "--", "cat"],
                             env=banger.environment, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    pid = os.fork()
    if pid == 0:
        try:
            for i in range(size // MIB):
                child.stdin.write(struct.pack("<Q", i) + block[8:])
            child.stdin.close()
        finally:
            os._exit(0)
    try:
        child.stdin.close()
        for i in range(size // MIB):
            sent.update(struct.pack("<Q", i) + block[8:])
        while data := child.stdout.read(MIB):
            received.update(data)
        assert child.wait(timeout * SLOWNESS) == 0
    finally:
        child.kill()
        child.wait()
        os.waitpid(pid, 0)
    return sent.digest(), received.digest()


def test_48_mib_through_cat_and_back(shared):
    sent, received = through_cat(shared, 48 * MIB, 120)
    assert sent == received


@pytest.mark.full
@pytest.mark.deadline(900)
def test_1_gib_through_cat_and_back(shared):
    sent, received = through_cat(shared, 1024 * MIB, 600)
    assert sent == received


def test_output_goes_on_after_stdin_has_ended(shared):
    """Half-close: the command counts what it got, and only then has something to say."""
    data = os.urandom(3 * MIB)
    result = shared.run("exec", "-i", SHARED_VM, "--", "sh", "-c",
                        "sha256sum; head -c 3000000 /dev/zero", stdin=data)
    assert result.stdout == hashlib.sha256(data).hexdigest().encode() + b"  -\n" + bytes(3000000)


@pytest.mark.parametrize("redirection", ["<&-", "</dev/null"])
def test_interactive_with_a_stdin_that_is_not_there(shared, redirection):
    result = redirected(shared, redirection, "exec", "-i", SHARED_VM, "--", "wc", "-c")
    assert (result.returncode, result.stdout) == (0, b"0\n"), repr(result)


def test_background_child_that_keeps_the_output_open_does_not_hold_exec_up(shared):
    """As docker does, and unlike ssh: exec ends with its command; what a child that stays behind
    writes later is read and thrown away, so that it does not die of SIGPIPE."""
    script = """echo started
        sh -c 'while [ ! -e /tmp/go ]; do sleep 0.05; done; yes | head -c 1000000 && echo >/tmp/ok' &
        exit 3"""
    result = sh(shared, script)
    assert (result.returncode, result.stdout) == (3, b"started\n")
    sh_ok(shared, "touch /tmp/go; while [ ! -e /tmp/ok ]; do sleep 0.05; done; rm /tmp/go /tmp/ok")


# Clients without manners ---------------------------------------------------------------------------

class RawClient:
    """A session of its own, and a connection to it that speaks frames as the test likes."""

    def __init__(self, banger, *command, stdin="closed", session=None):
        self.rpc = banger.rpc()
        if session is None:
            started = self.rpc.call("session.start", {
                "vm": SHARED_VM, "command": list(command), "stdin": stdin})
            session = started["result"]["id"]
        self.session = session
        reply = self.rpc.call("session.attach", {"vm": SHARED_VM, "session": session})
        assert "result" in reply, reply
        self.socket = self.rpc.socket
        self.pending = self.rpc.pending

    def send(self, *some):
        """Frames or bytes. The daemon may have had enough of us: it has said so, then."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(b"".join(f if isinstance(f, bytes) else f.encode() for f in some))

    def window(self, channel, acked, limit):
        self.send(Frame(frames.WINDOW, 0, struct.pack("<Q", limit), channel, acked))

    def next(self):
        """The next frame, or None at the end."""
        while True:
            frame, size = frames.decode(self.pending)
            if frame:
                self.pending = self.pending[size:]
                return frame
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.pending += data

    def to_the_end(self):
        """All frames that still come."""
        return list(iter(self.next, None))

    def output(self):
        """Reads to the command's end; its output and exit status."""
        data = b""
        for channel in (frames.STDOUT, frames.STDERR):
            self.window(channel, 0, MIB)
        while frame := self.next():
            if frame.kind == frames.DATA:
                data += frame.payload if frame.channel == frames.STDOUT else b""
                # The agent holds only so much that nobody has acknowledged.
                at = frame.offset + len(frame.payload)
                self.window(frame.channel, at, at + MIB)
            elif frame.kind == frames.EXITED:
                return data, struct.unpack("<BI", frame.payload)[1]
        raise AssertionError("no end of the command")

    def close(self):
        self.socket.close()


def limit(value):
    return struct.pack("<Q", value)


LIES = {
    "a window of stdin": Frame(frames.WINDOW, 0, limit(100), frames.STDIN, 0),
    "a window below itself": Frame(frames.WINDOW, 0, limit(5), frames.STDOUT, 6),
    "a window without end": Frame(frames.WINDOW, 0, limit(1 << 40), frames.STDOUT, 0),
    "half a window": Frame(frames.WINDOW, 0, b"\1\0\0", frames.STDOUT, 0),
    "bytes that never came": Frame(frames.WINDOW, 0, limit(5000), frames.STDOUT, 4999),
    "stdin from nowhere": Frame(frames.DATA, 0, b"x", frames.STDIN, 1),
    "stdin of the future": Frame(frames.DATA, 0, b"x", frames.STDIN, 1 << 63),
    "stdin on another channel": Frame(frames.DATA, 0, b"x", frames.STDOUT, 0),
    "an end with bytes": Frame(frames.END, 0, b"x", frames.STDIN, 0),
    "an end elsewhere": Frame(frames.END, 0, b"", frames.STDIN, 7),
    "another session": Frame(frames.SIGNAL, 1, struct.pack("<I", 9)),
    "half a signal": Frame(frames.SIGNAL, 0, b"\0\0"),
    "a release": Frame(frames.RELEASE, 0),
    "a power-off": Frame(frames.POWEROFF, 0),
    "a type that is none": Frame(99, 0),
    "a length of 4 GiB": frames.HEADER.pack(frames.MAGIC, frames.DATA, 0, 0, 0, 0, 0xffffffff),
    "noise": bytes(range(256)),
    "stdin beyond the window": b"".join(
        Frame(frames.DATA, 0, bytes(frames.PAYLOAD_MAX), frames.STDIN,
              i * frames.PAYLOAD_MAX).encode() for i in range(80)),
}


@pytest.mark.sanitize
def test_client_that_lies_loses_its_connection_and_nothing_else(shared):
    for name, lie in LIES.items():
        # Not a shell's read, which takes each of a window's bytes by itself: half a minute.
        client = RawClient(shared, "head", "-n", "1", stdin="pipe")
        client.send(lie)
        last = client.to_the_end()[-1]
        assert last.kind == frames.FATAL and b"broke the protocol" in last.payload, name
        client.close()
        # The session is as it was.
        again = RawClient(shared, session=client.session)
        while (frame := again.next()).kind != frames.WINDOW or frame.payload == limit(0):
            assert frame, name
        again.send(Frame(frames.DATA, 0, b"fine\n", frames.STDIN, frame.offset))
        output, status = again.output()
        assert (output.replace(b"\0", b""), status) == (b"fine\n", 0), name
        again.close()
    assert sh_ok(shared, "echo here") == "here\n"


def running(banger):
    return {s["id"] for s in call(banger, "session.list", vm=SHARED_VM) if s["state"] == "running"}


@pytest.mark.sanitize
def test_mutated_frames_of_a_client_end_only_its_connection(shared):
    rng = random.Random(5)
    good = [Frame(frames.WINDOW, 0, limit(5000), frames.STDOUT, 0),
            Frame(frames.WINDOW, 0, limit(5000), frames.STDERR, 0),
            Frame(frames.DATA, 0, b"some words\n" * 9, frames.STDIN, 0),
            Frame(frames.SIGNAL, 0, struct.pack("<I", 18)), Frame(frames.END, 0),
            Frame(frames.RESIZE, 0, bytes(4))]
    client = None
    for _ in range(60):
        client = RawClient(shared, "cat", stdin="pipe") if client is None else \
            RawClient(shared, session=client.session)
        data = bytearray()
        for _ in range(12):
            frame = bytearray(rng.choice(good).encode())
            for _ in range(rng.choice((0, 0, 1, 3))):
                frame[rng.randrange(len(frame))] = rng.randrange(256)
            data += frame[:rng.randrange(len(frame))] if rng.random() < 0.1 else frame
        client.send(bytes(data))
        client.close()
        if client.session not in running(shared):
            client = None
    assert sh_ok(shared, "echo here") == "here\n"


# Memory -------------------------------------------------------------------------------------------

def daemon_memory(banger):
    """Private and dirty, of all processes of the daemon, in bytes."""
    kib = 0
    for pid in banger.pids("bangerd"):
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        kib += int(re.search(r"^Private_Dirty:\s*(\d+) kB", text, re.M)[1])
    return 1024 * kib


def agent_memory(banger):
    return 1024 * int(sh_ok(banger, "grep VmRSS /proc/1/status").split()[1])


def wait_stopped_growing(banger, ids):
    """Waits until the sessions' output counts stand still."""
    before = None
    while before != (before := {s["id"]: s["bytes"]
                                for s in call(banger, "session.list", vm=SHARED_VM)
                                if s["id"] in ids}):
        sh_ok(banger, "true")  # a turn through daemon and agent


@pytest.mark.sanitize
def test_clients_that_stop_reading_cost_their_windows_and_slow_nobody(shared):
    count = 20
    sh_ok(shared, "true")
    daemon, agent = daemon_memory(shared), agent_memory(shared)
    stalled = [RawClient(shared, "yes") for _ in range(count)]
    for client in stalled:
        client.window(frames.STDOUT, 0, 256 * 1024)
    wait_stopped_growing(shared, {c.session for c in stalled})
    sent = [s["bytes"]["out"] for s in call(shared, "session.list", vm=SHARED_VM)
            if s["id"] in {c.session for c in stalled}]
    assert sent == [256 * 1024] * count
    # Everybody else is served.
    assert sh(shared, "head -c 3000000 /dev/zero").stdout == bytes(3000000)
    if not SANITIZED:
        assert daemon_memory(shared) - daemon < count * PER_CLIENT + 2 * MIB
    assert agent_memory(shared) - agent < count * PER_CLIENT + 2 * MIB
    for client in stalled:
        client.send(Frame(frames.SIGNAL, 0, struct.pack("<I", signal.SIGKILL)))
        client.close()
    sh_ok(shared, "while pidof yes >/dev/null; do sleep 0.02; done")


def daemon_counts(banger):
    """Descriptors and threads of the daemon."""
    return [len(os.listdir(f"/proc/{banger.daemon_pid()}/{what}")) for what in ("fd", "task")]


def guest_counts(banger):
    """Descriptors and threads of the agent, and processes: only a kernel's thread has no command
    line. The shell's own are among them, each time."""
    return [int(n) for n in
            sh_ok(banger, "ls /proc/1/fd | wc -l; ls /proc/1/task | wc -l; "
                          "set -- $(grep -l . /proc/[0-9]*/cmdline 2>/dev/null); echo $#").split()]


def wait_for_counts(counts, banger, before):
    """What the last calls had, or those of an earlier test, goes a moment after their replies. What
    has leaked never goes."""
    while any(now > then for now, then in zip(counts(banger), before, strict=True)):
        call(banger, "daemon.ping")


def run_true(banger):
    client = RawClient(banger, "true")
    assert client.output() == (b"", 0)
    client.close()


def execute_many(banger, count):
    for _ in range(30):
        run_true(banger)  # what is allocated once
    guest, daemon, agent = guest_counts(banger), daemon_memory(banger), agent_memory(banger)
    before = daemon_counts(banger)
    for _ in range(count):
        run_true(banger)
    wait_for_counts(guest_counts, banger, guest)
    wait_for_counts(daemon_counts, banger, before)
    assert agent_memory(banger) - agent < 256 * 1024
    if not SANITIZED:
        # Each is remembered until there are 1,024 of them.
        assert daemon_memory(banger) - daemon < count * 2048 + 256 * 1024


def test_300_commands_leave_no_descriptor_thread_or_memory(shared):
    execute_many(shared, 300)


@pytest.mark.full
def test_1000_commands_leave_no_descriptor_thread_or_memory(shared):
    execute_many(shared, 1000)
