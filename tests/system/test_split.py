"""A daemon with root is two processes: a helper that keeps it, and one that serves and has none."""

import array
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess

import pytest
from banger import BUILD, ROOT
from steps import (assert_error, assert_nothing_left, call, needs_root, never_boots, own_programs,
                   read_limits, read_status, start, vms)
from test_fake_vmm import CREATE, end_left, faulty, make_fake  # noqa: F401 (a fixture)

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# linux/capability.h: CHOWN, DAC_READ_SEARCH, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_ADMIN,
# SYS_ADMIN, MKNOD
KEPT = sum(1 << number for number in (0, 2, 5, 6, 7, 8, 10, 12, 21, 27))
GONE = "the helper that has root is gone"

pytestmark = needs_root


def helper_pid(banger):
    (pid,) = banger.pids("banger-helper")
    return pid


def kill_helper(banger):
    """And waits until its daemon has ended, too."""
    daemon = banger.daemon_pid()
    os.kill(helper_pid(banger), signal.SIGKILL)
    banger.wait_gone(daemon)


def capabilities(pid):
    status = read_status(pid)
    return {name: int(status[name], 16) for name in CAPABILITIES}


def descriptors(pid):
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]


@pytest.mark.sanitize
def test_root_is_in_the_helper_and_only_what_it_needs_of_it(banger):
    start(banger, "one")
    main, helper = banger.daemon_pid(), helper_pid(banger)
    assert call(banger, "daemon.status")["helper"] == {"mode": "root helper"}
    assert call(banger, "daemon.status")["pid"] == main
    assert capabilities(main) == dict.fromkeys(CAPABILITIES, 0)
    assert capabilities(helper) == dict.fromkeys(CAPABILITIES, 0) | dict.fromkeys(
        ("CapPrm", "CapEff", "CapBnd"), KEPT)
    for pid in (main, helper):
        assert read_status(pid)["NoNewPrivs"] == "1"
    assert read_status(helper)["Threads"] == "1" or "tsan" in BUILD.name


def test_the_helper_has_no_file_but_the_log_and_a_pipe_for_each_vm(banger):
    banger.ok("ps")
    log = str(banger.state_dir / "bangerd.log")
    for count, name in enumerate(("one", "two", None)):
        fds = sorted(descriptors(helper_pid(banger)))
        assert [fd for fd in fds if fd.startswith("/")] == ["/dev/null", "/dev/null", log]
        others = [fd.split(":")[0] for fd in fds if not fd.startswith("/")]
        assert sorted(others) == sorted(["socket", "anon_inode"] + ["pipe"] * count)
        if name:
            start(banger, name)
    banger.ok("vm", "delete", "--force", "one", "two")
    assert not any(fd.startswith("pipe:") for fd in descriptors(helper_pid(banger)))


def test_the_helper_ends_with_the_daemon_and_vms_go_on(banger):
    qemu = start(banger, "one")
    for end in ("stop", "kill"):
        helper, daemon = helper_pid(banger), banger.daemon_pid()
        if end == "kill":
            os.kill(daemon, signal.SIGKILL)
        else:
            banger.ok("daemon", "stop")
        banger.wait_gone(helper)
        assert banger.qemu_pids() == [qemu]
        assert banger.ok("exec", "one", "--", "echo", "there").out == "there\n"
        assert helper_pid(banger) != helper
    # Adopted, it is nobody's child any more, and is ended all the same.
    os.kill(qemu, signal.SIGSTOP)
    banger.ok("vm", "delete", "--force", "one")
    assert_nothing_left(banger)


@pytest.mark.sanitize
def test_a_killed_helper_ends_the_daemon_and_clients_go_on_with_the_next_pair(banger):
    qemu = start(banger, "one")
    child = banger.spawn("exec", "one", "--", "sh", "-c", "echo up; read line; echo $line")
    child.read_until(b"up\n")
    kill_helper(banger)
    child.read_until(b"going on with the new one", "stderr")
    child.send(b"there\n")
    assert child.finish().out == "up\nthere\n"
    assert banger.qemu_pids() == [qemu]
    assert GONE in (banger.state_dir / "bangerd.log").read_text()
    assert helper_pid(banger)
    banger.ok("vm", "stop", "one")
    assert_stopped(banger, "one", "user")


def assert_stopped(banger, vm, reason):
    found = vms(banger)[vm] if vm in vms(banger) else banger.json("vm", "show", vm)
    assert (found["state"], found["reason"]) == ("stopped", reason)


def test_helper_killed_while_a_guest_boots_leaves_nothing(make_banger):
    banger = never_boots(make_banger)
    child = banger.spawn("run", "--rm", "--name", "x", "--", "true")
    child.read_until(b"banger: boot...", "stderr")
    kill_helper(banger)
    assert child.finish().returncode == 125
    banger.ok("ps")
    assert_nothing_left(banger)


def test_helper_killed_while_a_fake_vm_boots_leaves_nothing(make_fake):  # noqa: F811
    banger = make_fake()
    child = banger.spawn(*CREATE, *faulty("wait@boot"))
    banger.ok("ps")
    while not banger.pids("banger-fakevmm"):
        call(banger, "daemon.ping")
    kill_helper(banger)
    assert child.finish().returncode == 1
    banger.ok("ps")
    end_left(banger)


def test_fake_vms_outlive_a_killed_helper(make_fake):  # noqa: F811
    banger = make_fake()
    banger.ok(*CREATE)
    kill_helper(banger)
    assert banger.ok("exec", "x", "--", "echo", "there").out == "there\n"
    banger.ok("vm", "delete", "--force", "x")
    end_left(banger)


def test_the_exit_of_a_helpers_vm_is_told_with_its_reason(banger):
    os.kill(start(banger, "one"), signal.SIGSEGV)
    call(banger, "vm.wait", vm="one", until="stopped")
    assert_stopped(banger, "one", "vmm_died: killed by signal 11")


def test_a_missing_helper_is_named(bare):
    (own_programs(bare) / "banger-helper").unlink()
    assert_error(bare.run("ps"), "cannot start", "banger-helper': No such file or directory",
                 hint="../libexec/banger")


def test_the_helper_stays_small():
    sources = [path for name in ("helper*", "host", "local", "check", "wire", "cgroup")
               for path in (ROOT / "src/host").glob(f"{name}.c")]
    networks = [path for name in ("host/*net*", "sys/netlink", "sys/rtnl", "sys/nft", "sys/conntrack",
                                  "sys/tap")
                for path in (ROOT / "src").glob(f"{name}.c") if "doctor" not in path.name]
    assert len(sources) == 7 and len(networks) == 15
    # 1,500 for what starts VMs, and the verbs about networks.
    assert sum(path.read_bytes().count(b"\n") for path in sources) <= 1500 + 350
    assert sum(path.read_bytes().count(b"\n") for path in networks) <= 3300


# The helper alone ---------------------------------------------------------------------------------

MAGIC = struct.pack("<I", 0x62687031)
STATUS, LAUNCH, KILL, ALLOW_DISK, PSS = 1, 2, 3, 4, 5
REPLY_TIMEOUT = 60
ARGUMENTS = """qemu-system-x86_64 -L RUN_DIR
    -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
    -nodefaults -no-user-config -display none -machine microvm,acpi=on -accel tcg,tb-size=32"""


def text(value):
    return os.fsencode(value) + b"\0"


class Helper:
    """A helper whose daemon is this test."""

    def __init__(self, banger, *arguments):
        self.runtime_dir = banger.runtime_dir
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(REPLY_TIMEOUT)
        self.child = banger.spawn_argv(
            ["bash", "-c", f"exec \"$0\" \"$@\" 3<&{theirs.fileno()}",
             banger.program("banger-helper"),
             *(arguments or ("65534", str(self.runtime_dir), "2100000000", "100"))],
            keep=[theirs.fileno()])
        theirs.close()

    def send(self, packet, fds=()):
        """One request. The socket for its reply, which comes with it unless fds are given."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.settimeout(REPLY_TIMEOUT)
        fds = array.array("i", [theirs.fileno(), *fds])
        self.socket.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        theirs.close()
        return mine

    def ask(self, packet, fds=()):
        """The result of a request, and what is in the reply; None when the helper hung up."""
        with self.send(packet, fds) as mine:
            try:
                reply = mine.recv(65536)
            except ConnectionResetError:
                return None
        return (struct.unpack("<i", reply[:4])[0], reply) if reply else None

    def launch(self, run_dir=None, arguments=ARGUMENTS, memory=64, vcpus=1, numbers=(), fds=()):
        run_dir = run_dir or f"{self.runtime_dir}/vms/a"
        arguments = [a.replace("RUN_DIR", run_dir) for a in arguments.split()]
        return self.ask(MAGIC + struct.pack("<IQQIB", LAUNCH, memory, 0, vcpus, 0) + text(run_dir) +
                        bytes([len(numbers), *numbers, len(arguments)]) +
                        b"".join(map(text, arguments)), fds)

    def kill(self, pid, run_dir=None, start_ticks=None, boot_id=None, verb=KILL, disk_bytes=0):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot_id = boot_id or pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return self.ask(MAGIC + struct.pack("<IIQ", verb, pid, start_ticks or int(fields[19])) +
                        text(boot_id) + text(run_dir or f"{self.runtime_dir}/vms/a") +
                        struct.pack("<Q", disk_bytes))

    def allow_disk(self, pid, disk_bytes, **what):
        return self.kill(pid, verb=ALLOW_DISK, disk_bytes=disk_bytes, **what)

    def status(self):
        return self.ask(MAGIC + struct.pack("<I", STATUS))

    def assert_ended(self, said, status=3):
        result = self.child.finish()
        assert (result.returncode, said in result.err) == (status, True), result

    def end(self):
        self.socket.close()
        result = self.child.finish()
        assert result.returncode == 0, result


@pytest.mark.sanitize
def test_a_helper_serves_and_ends_with_its_socket(bare):
    helper = Helper(bare)
    assert helper.status()[0] == 0
    result, reply = helper.launch(arguments=ARGUMENTS + " -cpu max")
    assert result == 0, reply
    assert helper.status()[0] == 0
    helper.end()
    for pid in bare.qemu_pids():
        os.kill(pid, signal.SIGKILL)
        bare.wait_gone(pid)


@pytest.mark.parametrize("what", [
    {"arguments": ARGUMENTS + " -fsdev local,path=/"}, {"arguments": "sh -c id"},
    {"arguments": ARGUMENTS.replace("spawn=deny,", "")},
    {"arguments": ARGUMENTS + " -blockdev driver=raw,file.filename=/etc/shadow"},
    {"run_dir": "/etc"}, {"run_dir": "RUNTIME/vms/../x"}, {"run_dir": "RUNTIME/vms/a/b"},
    {"memory": 0}, {"vcpus": 1000}, {"numbers": [3]}, {"numbers": [3, 3], "fds": [1, 2]},
    {"numbers": [0], "fds": [1]}, {"numbers": [64], "fds": [1]}, {"fds": [1]}],
    ids=lambda what: "-".join(what) if isinstance(what, dict) else str(what))
def test_a_launch_that_must_not_be_ends_the_helper(bare, what):
    helper = Helper(bare)
    if "run_dir" in what:
        what = what | {"run_dir": what["run_dir"].replace("RUNTIME", str(helper.runtime_dir))}
    assert helper.launch(**what) is None
    helper.assert_ended("the daemon may not ask for this")
    assert bare.processes() == []


@pytest.mark.parametrize("packet", [
    b"", b"x", MAGIC, MAGIC + struct.pack("<I", 0), MAGIC + struct.pack("<I", 6),
    MAGIC + struct.pack("<I", STATUS) + b"more", b"\0" * 4 + struct.pack("<I", STATUS),
    MAGIC + struct.pack("<IQQIB", LAUNCH, 64, 0, 1, 0),
    MAGIC + struct.pack("<I", KILL) + b"\xff" * 60, MAGIC + struct.pack("<I", ALLOW_DISK),
    b"a" * 66000],
    ids=lambda packet: f"{len(packet)}-bytes")
def test_what_is_no_request_ends_the_helper(bare, packet):
    helper = Helper(bare)
    if not packet:
        helper.end()  # an empty packet is how the end of a socket looks
        return
    assert helper.ask(packet) is None
    helper.assert_ended("what the daemon sent is no request")


def test_the_helper_kills_no_process_but_that_of_a_vm(bare):
    helper = Helper(bare)
    run_dir = f"{helper.runtime_dir}/vms/a"
    # Each has the run directory on its command line.
    with subprocess.Popen(["sh", "-c", "read line", run_dir], stdin=subprocess.PIPE) as stranger, \
            subprocess.Popen(["sh", "-c", "read line", run_dir], stdin=subprocess.PIPE,
                             user=2100000005, group=2100000005, cwd="/") as ours:
        result, reply = helper.kill(stranger.pid)
        assert result == -1 and b"cannot end process" in reply and b"not permitted" in reply
        # What is not that process is gone already.
        assert helper.kill(ours.pid, start_ticks=1)[0] == 0
        assert helper.kill(ours.pid, boot_id="0" * 36)[0] == 0
        assert helper.kill(ours.pid, run_dir=f"{helper.runtime_dir}/vms/b")[0] == 0
        assert stranger.poll() is None and ours.poll() is None
        assert helper.kill(ours.pid)[0] == 0
        assert ours.wait(60) == -signal.SIGKILL
        stranger.stdin.close()
    assert helper.kill(os.getpid(), run_dir="/etc") is None
    helper.assert_ended("the daemon may not ask for this: the run directory")


def test_the_helper_measures_vms_alone(bare):
    helper = Helper(bare)
    run_dir = f"{helper.runtime_dir}/vms/a"
    script = ["bash", "-c", "x=$(printf %8000000s); echo; read line; : $x", run_dir]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(script, **pipes) as stranger, \
            subprocess.Popen(script, **pipes, user=2100000005, group=2100000005, cwd="/") as ours:
        for process in (stranger, ours):
            process.stdout.readline()
        result, reply = helper.kill(stranger.pid, verb=PSS)
        assert result == -1 and b"not permitted" in reply
        result, reply = helper.kill(ours.pid, verb=PSS, start_ticks=1)
        assert result == -1 and b"No such process" in reply
        result, measured = helper.kill(ours.pid, verb=PSS)
        assert result == 0
        text = subprocess.run(["cat", f"/proc/{ours.pid}/smaps_rollup"], user=2100000005,
                              group=2100000005, capture_output=True, text=True, check=True).stdout
        kib = int(re.search(r"^Pss: +(\d+) kB", text, re.M)[1])
        # Its share of what others map, too, may change.
        assert any(abs(struct.unpack_from("<Q", measured, at)[0] - kib * 1024) < 2 << 20
                   for at in range(0, 200, 8))
        assert kib > 7000
        # It is root as before.
        assert helper.kill(ours.pid)[0] == 0 and ours.wait(60) == -signal.SIGKILL
        stranger.stdin.close()
    helper.end()


def test_the_helper_raises_the_limit_of_a_vm_alone(bare):
    """It only raises it, and not beyond what the process was given for good."""
    helper = Helper(bare)
    run_dir = f"{helper.runtime_dir}/vms/a"
    script = ["bash", "-c", "ulimit -S -f 1024; ulimit -H -f 2097152; echo; read line", run_dir]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}

    def limit(process):
        return [int(bound) >> 20 for bound in read_limits(process.pid)["file size"]]

    with subprocess.Popen(script, **pipes) as stranger, \
            subprocess.Popen(script, **pipes, user=2100000005, group=2100000005, cwd="/") as ours:
        for process in (stranger, ours):
            process.stdout.readline()
            assert limit(process) == [1, 2048]
        result, reply = helper.allow_disk(stranger.pid, 1 << 30)
        assert result == -1 and b"not permitted" in reply
        result, reply = helper.allow_disk(ours.pid, 1 << 30, start_ticks=1)
        assert result == -1 and b"No such process" in reply
        assert limit(ours) == limit(stranger) == [1, 2048]
        for mib in (1024, 100):
            assert helper.allow_disk(ours.pid, mib << 20)[0] == 0
            assert limit(ours) == [1024, 2048]
        result, reply = helper.allow_disk(ours.pid, 4096 << 20)
        assert result == -1 and b"not permitted" in reply and limit(ours) == [1024, 2048]
        stranger.stdin.close()
        ours.stdin.close()
    # The helper is root as before, and can start VMs.
    assert helper.launch(arguments=ARGUMENTS + " -cpu max")[0] == 0
    for pid in bare.qemu_pids():
        os.kill(pid, signal.SIGKILL)
        bare.wait_gone(pid)
    assert helper.allow_disk(os.getpid(), 1 << 63) is None
    helper.assert_ended("the daemon may not ask for this: the disk")


@pytest.mark.parametrize("arguments", [
    ("0",), ("0", "relative", "1", "1"), ("0", "/run", "0", "1"), ("0", "/run", "1", "0"),
    ("0", "/run", "4294967293", "2"), ("65534", "/run", "60000", "10000"), ("x", "/run", "1", "1")])
def test_a_helper_with_other_arguments_does_not_start(bare, arguments):
    helper = Helper(bare, *arguments)
    helper.assert_ended("bangerd starts it", status=2)


def test_a_launcher_that_others_can_change_is_warned_of(bare):
    launcher = own_programs(bare) / "banger-launch"
    bare.ok("ps")
    log = bare.state_dir / "bangerd.log"
    assert "can be changed by others" not in log.read_text()
    bare.ok("daemon", "stop")
    os.chown(launcher, 65534, 65534)
    bare.ok("ps")
    assert f"'{launcher}' can be changed by others than root" in log.read_text()


