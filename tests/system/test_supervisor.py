"""A daemon that is started as systemd does it: its socket is passed, and what it does is told."""

import contextlib
import ctypes
import os
import select
import shutil
import socket
import subprocess

import pytest

from banger import ROOT, SLOWNESS
from steps import assert_error, sh_ok

PR_SET_NAME = 15
UNITS = ROOT / "packaging/systemd"


class Supervisor:
    """In the place of systemd: passes sockets to bangerd, and hears what it says."""

    def __init__(self, banger):
        self.banger = banger
        self.heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.heard.settimeout(30 * SLOWNESS)
        self.heard.bind(str(banger.root / "notify"))
        self.closing = [self.heard]
        self.daemon = None

    def listen(self, path=None):
        path = path or self.banger.socket_path
        path.parent.mkdir(mode=0o700, exist_ok=True)
        made = self.socket(socket.AF_UNIX, str(path))
        made.listen()
        return made

    def socket(self, family, address, kind=socket.SOCK_STREAM):
        made = socket.socket(family, kind | socket.SOCK_CLOEXEC)
        made.bind(address)
        self.closing.append(made)
        return made

    def start(self, *sockets, pid="$$"):
        def pass_on():
            for i, fd in enumerate(copies):
                os.dup2(fd, 3 + i)

        # Out of the way of 3 and the next ones.
        copies = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(sockets)]
        variables = f"LISTEN_FDS={len(sockets)} LISTEN_PID={pid} " if sockets else ""
        argv = ["sh", "-c", variables + 'exec "$0"', self.banger.program("bangerd")]
        self.daemon = subprocess.Popen(
            argv, env=self.banger.environment | {"NOTIFY_SOCKET": str(self.banger.root / "notify")},
            preexec_fn=pass_on, pass_fds=range(3, 3 + len(sockets)), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for fd in copies:
            os.close(fd)
        return self.daemon

    def read(self):
        text = self.heard.recv(4096).decode()
        return dict(line.split("=", 1) for line in text.splitlines())

    def fails(self, *sockets):
        """What the daemon says when it does not start with these; it says so here as well."""
        _, said = self.start(*sockets).communicate(timeout=30 * SLOWNESS)
        said = said.decode()
        assert self.daemon.returncode == 2, said
        status = self.read()
        assert "READY" not in status and status["STATUS"] in said
        return status["STATUS"]

    def stop(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.terminate()
        if self.daemon:
            self.daemon.communicate(timeout=30 * SLOWNESS)
        for s in self.closing:
            s.close()


@pytest.fixture
def supervisor(bare):
    with supervising(bare) as made:
        yield made


@contextlib.contextmanager
def named(name):
    """This thread is called so, as far as others can see by its process id."""
    libc = ctypes.CDLL(None)
    with open("/proc/self/comm", encoding="ascii") as comm:
        before = comm.read().strip()
    libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
    yield
    libc.prctl(PR_SET_NAME, before.encode(), 0, 0, 0)


@contextlib.contextmanager
def supervising(banger):
    # What clients see behind a socket that no daemon has taken over yet.
    with named("systemd"):
        made = Supervisor(banger)
        try:
            yield made
        finally:
            made.stop()


def test_daemon_serves_the_socket_that_it_is_given(supervisor):
    banger = supervisor.banger
    given = supervisor.listen()
    inode = banger.socket_path.stat().st_ino
    # A client that came before there was a daemon: what systemd starts it for.
    early = banger.rpc()
    supervisor.start(given)
    with early:
        assert early.call("daemon.status")["result"]["pid"] == supervisor.daemon.pid
    ready = supervisor.read()
    assert ready["READY"] == "1" and "serves" in ready["STATUS"]
    assert banger.json("daemon", "status")["pid"] == supervisor.daemon.pid

    banger.ok("daemon", "stop")
    assert supervisor.read()["STOPPING"] == "1"
    assert supervisor.daemon.wait(30 * SLOWNESS) == 0
    # The socket is systemd's: the next command finds it, and gets the next daemon.
    assert banger.socket_path.stat().st_ino == inode
    supervisor.start(given)
    assert banger.json("daemon", "status")["pid"] == supervisor.daemon.pid
    assert supervisor.read()["READY"] == "1"


def test_command_that_activates_the_daemon_knows_it(supervisor):
    """The kernel shows systemd behind its connection, whose end nobody should wait for."""
    banger = supervisor.banger
    given = supervisor.listen()
    stopping = banger.spawn("daemon", "stop")
    assert select.select([given], [], [], 30 * SLOWNESS)[0]
    supervisor.start(given)
    assert stopping.finish().returncode == 0
    assert supervisor.daemon.wait(30 * SLOWNESS) == 0


def test_ready_is_said_when_clients_are_served_and_not_before(supervisor):
    supervisor.start()
    assert supervisor.read()["READY"] == "1"
    # Made by the daemon itself, as no socket was passed.
    with supervisor.banger.rpc() as rpc:
        assert rpc.call("daemon.status")["result"]["pid"] == supervisor.daemon.pid
    supervisor.daemon.terminate()
    assert supervisor.read() == {"STOPPING": "1", "STATUS": "Stopping: signal; VMs go on"}
    supervisor.daemon.communicate(timeout=30 * SLOWNESS)
    assert not supervisor.banger.socket_path.exists()


def test_sockets_for_another_process_are_not_taken(supervisor):
    with socket.socket(socket.AF_INET) as other:
        supervisor.start(other, pid="1")
        assert supervisor.read()["READY"] == "1"


def test_wrong_sockets_are_refused_by_what_is_wrong(supervisor, tmp_path):
    banger = supervisor.banger
    good = supervisor.listen()
    tcp = supervisor.socket(socket.AF_INET, ("127.0.0.1", 0))
    tcp.listen()
    assert "2 sockets were passed" in supervisor.fails(good, good)
    assert "it is not a Unix socket" in supervisor.fails(tcp)
    assert "it does not listen" in supervisor.fails(
        supervisor.socket(socket.AF_UNIX, str(banger.root / "deaf")))
    assert "it is not a stream socket" in supervisor.fails(
        supervisor.socket(socket.AF_UNIX, str(banger.root / "datagrams"), socket.SOCK_DGRAM))
    with open("/dev/null", "rb") as no_socket:
        assert "it is not a socket" in supervisor.fails(no_socket)
    elsewhere = banger.root / "elsewhere"
    assert f"'{elsewhere}', and clients look for '{banger.socket_path}'" in supervisor.fails(
        supervisor.listen(elsewhere))
    assert banger.socket_path.exists()


def test_daemon_that_cannot_start_says_why(supervisor):
    supervisor.banger.configure("accel = 7\n")
    assert "accel" in supervisor.fails()


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="no systemd-socket-activate")
def test_systemds_own_tool_starts_the_daemon(bare):
    bare.runtime_dir.mkdir(mode=0o700)
    environment = [f"--setenv={name}" for name in bare.environment]
    child = bare.spawn_argv(["systemd-socket-activate", *environment, "-l", str(bare.socket_path),
                             bare.program("bangerd")])
    child.read_until(b"Listening on", stream="stderr")
    assert bare.json("daemon", "status")["pid"] == child.pid
    bare.ok("daemon", "stop")
    assert child.finish().returncode == 0


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
@pytest.mark.parametrize("kind", ["system", "user"])
def test_units_are_correct(kind, tmp_path):
    (tmp_path / "bangerd").symlink_to("/bin/true")
    for unit in (UNITS / kind).iterdir():
        text = unit.read_text().replace("@bindir@", str(tmp_path))
        (tmp_path / unit.name.removesuffix(".in")).write_text(text)
    done = subprocess.run(["systemd-analyze", f"--{kind}", "--man=no", "verify",
                           *map(str, tmp_path.glob("banger.*"))],
                          env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    service = (UNITS / kind / "banger.service.in").read_text()
    assert "\nKillMode=process\n" in service and "\nType=notify\n" in service


def test_vm_goes_on_when_only_the_daemon_is_stopped(make_banger):
    """What KillMode=process does: SIGTERM to the main process, and nothing else."""
    banger = make_banger()
    with supervising(banger) as supervisor:
        given = supervisor.listen()
        supervisor.start(given)
        supervisor.read()
        banger.ok("vm", "create", "--name", "x")
        qemu = banger.qemu_pids()
        supervisor.daemon.terminate()
        supervisor.daemon.communicate(timeout=30 * SLOWNESS)
        supervisor.read()
        supervisor.start(given)
        assert sh_ok(banger, "echo alive", vm="x") == "alive\n"
        assert banger.qemu_pids() == qemu and len(qemu) == 1
        banger.ok("vm", "delete", "--force", "x")
