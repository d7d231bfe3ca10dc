"""Steps that several system tests take, and what they look at."""

import math
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import frames
import pytest
from banger import BUILD, ROOT, SLOWNESS, Result

SHARED_VM = "shared"
FAKE_PROGRAM = "banger-fakevmm"
NOBODY = 65534

QUICK_BOOT = 'accel = "tcg"\nboot_silence_s = {silence}\nboot_timeout_s = {timeout}\n'
FAKE_CONFIG = 'accel = "tcg"\nboot_silence_s = {silence}\nboot_slots = {slots}\n'
STAGE = re.compile(r"banger: [a-z ]+\.\.\.")

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="mounts in a namespace of its own: needs root")


def sh(banger, script, *args, flags=(), vm=SHARED_VM, **kwargs):
    """Runs a shell script in a running VM."""
    return banger.run("exec", *flags, vm, "--", "sh", "-c", script, "sh", *args, **kwargs)


def sh_ok(banger, script, *args, **kwargs):
    """As sh, must succeed; returns its output as text."""
    result = sh(banger, script, *args, **kwargs)
    assert result.returncode == 0, repr(result)
    return result.out


def redirected(banger, redirection, *args, timeout=60):
    """Runs banger from a shell with a redirection: "<file", "<&-"."""
    argv = ["sh", "-c", f'exec "$0" "$@" {redirection}', banger.program(), *args]
    done = subprocess.run(argv, env=banger.environment, cwd=banger.home, capture_output=True,
                          timeout=timeout * SLOWNESS, check=False)
    return Result(argv, done.returncode, done.stdout, done.stderr)


def call(banger, method, **params):
    """The result of one RPC that must succeed. `banger ps` has started the daemon before."""
    with banger.rpc() as rpc:
        reply = rpc.call(method, params)
    assert "error" not in reply, reply
    return reply["result"]


def wait_vm(banger, vm, until):
    """Waits until a VM is running, stopped or deleted."""
    call(banger, "vm.wait", vm=vm, until=until)


def vms(banger):
    return {vm["name"]: vm for vm in call(banger, "vm.list")}


def assert_error(result, *said, status=1, hint=True):
    """The two lines of an error: what and why, and what to do."""
    assert result.returncode == status, repr(result)
    lines = [line for line in result.err.splitlines() if not STAGE.fullmatch(line)]
    assert lines and lines[0].startswith("banger: "), repr(result)
    for text in said:
        assert text in lines[0], f"{text!r} is not in: {result!r}"
    if hint:
        assert len(lines) > 1 and lines[-1].startswith("hint: "), repr(result)
        if isinstance(hint, str):
            assert hint in lines[-1], repr(result)


def assert_daemon_ends(banger):
    """Of a daemon that could not start: its word comes before its end."""
    for pid in banger.pids("bangerd"):
        banger.wait_gone(pid)


def vm_files(banger):
    """What VMs, and unfinished work, have on the host's disk."""
    found = set()
    for base in (banger.state_dir, banger.runtime_dir):
        found |= {path for path in (base / "vms").glob("*")}
    for base in (banger.state_dir, banger.cache_dir):
        found |= {path for path in base.rglob("*tmp*")}
    return sorted(str(path.relative_to(banger.root)) for path in found)


def assert_nothing_left(banger):
    """No VM, no process of one, no file of one."""
    assert call(banger, "vm.list") == []
    assert banger.qemu_pids() == []
    assert vm_files(banger) == []


def own_programs(banger, agent=None):
    """Gives an instance copies of the programs, so that a test can exchange the agent's."""
    directory = banger.root / "bin"
    directory.mkdir()
    for name in ("banger", "bangerd", "banger-agent", "banger-mkroot", "banger-launch",
                 "banger-helper"):
        shutil.copy2(BUILD / name, directory / name)
    if agent is not None:
        (directory / "banger-agent").write_bytes(agent)
    banger.program = lambda name="banger": str(directory / name)
    return directory


def start(banger, name, *flags):
    """A VM that runs for as long as nobody ends it; the pid of its QEMU."""
    before = set(banger.qemu_pids())
    banger.ok("vm", "create", "--name", name, *flags)
    (pid,) = set(banger.qemu_pids()) - before
    return pid


def read_status(pid):
    """{key: value} of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        return dict(line.rstrip("\n").split(":\t", 1) for line in status)


def read_limits(pid):
    """{what: (soft, hard)} of /proc/PID/limits, as they stand there."""
    with open(f"/proc/{pid}/limits", encoding="ascii") as limits:
        lines = [re.split(r"  +", line.strip()) for line in list(limits)[1:]]
    return {line[0].removeprefix("Max "): (line[1], line[2]) for line in lines}


def uids(pid):
    return {int(uid) for uid in read_status(pid)["Uid"].split()}


def wrap_for_nobody(banger, programs):
    """From now on the instance's commands are run by nobody."""
    wrappers = banger.root / "nobody"
    wrappers.mkdir(mode=0o755)
    for program in programs.iterdir():
        wrapper = wrappers / program.name
        wrapper.write_text("#!/bin/sh\nexec setpriv --reuid 65534 --regid 65534 --clear-groups "
                           f"{program} \"$@\"\n")
        wrapper.chmod(0o755)
    banger.program = lambda name="banger": str(wrappers / name)


def without_root(banger):
    """Everything of the instance is nobody's, and so are the commands. Where the programs are."""
    programs = own_programs(banger)
    wrap_for_nobody(banger, programs)
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", banger.root], check=True)
    return programs


def broken_agent(make_banger, mode, silence=15, timeout=60):
    """One whose guests run tests/guest/broken_agent.c, and how they are waited for."""
    banger = make_banger(config=QUICK_BOOT.format(silence=silence, timeout=timeout))
    own_programs(banger, (BUILD / "guest-broken_agent").read_bytes() + f" mode={mode}".encode())
    return banger


def fake_banger(make_banger, silence=20, slots=0):
    """One whose daemon may run fake VMs."""
    instance = make_banger(config=FAKE_CONFIG.format(silence=silence, slots=slots))
    instance.environment["BANGER_FAKE_VMM"] = "1"
    return instance


def fake_banger_with_network(make_banger):
    """The same, whose VMs have TAPs, in the network namespace of this process."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun") or not shutil.which("nft"):
        pytest.skip("networks of VMs need root, /dev/net/tun and nft")
    instance = fake_banger(make_banger)
    instance.configure(FAKE_CONFIG.format(silence=20, slots=4) +
                       'network = "nat"\ntap_pool_size = 0\n')
    return instance


def assert_networks(banger, now):
    """What there is of networks is that of the VMs in `now`, and of nobody else."""
    running = [vm for vm in now.values() if vm["state"] in ("running", "paused")]
    network = banger.json("daemon", "status")["network"]
    assert network["mode"] == "nat", network
    assert (network["addresses_used"], network["taps_used"]) == (len(now), len(running))
    # Those that nobody has go a moment later.
    deadline = time.monotonic() + 60 * SLOWNESS
    while len(taps := [name for _, name in socket.if_nameindex()
                       if name.startswith("bgr-")]) != len(running):
        assert time.monotonic() < deadline, taps
    elements = subprocess.run(["nft", "list", "set", "inet", "banger", "guard4"], check=True,
                              capture_output=True, text=True).stdout
    assert set(re.findall(r'"(bgr-\d+)" \.', elements)) <= set(taps)
    assert set(re.findall(r"\d+\.\d+\.\d+\.\d+", elements)) == {
        vm["network"]["ipv4"] for vm in running if vm["network"]["mode"] == "nat"}


def fake_qemu(make_banger, silence=20):
    """One whose QEMU is tests/guest/qemu.c: a process that speaks QMP and no machine."""
    return with_fake_qemu(make_banger(config=QUICK_BOOT.format(silence=silence, timeout=60)))


def with_fake_qemu(banger):
    shutil.copy2(BUILD / "guest-qemu", banger.home / "qemu-system-x86_64")
    banger.environment["PATH"] = f"{banger.home}:{banger.environment['PATH']}"
    return banger


def qemu_main_pids(banger):
    """{VM name: pid} of those that QEMU runs."""
    found = [(re.search(r" guest=([^,]+)", p.command), p.pid) for p in banger.processes()
             if p.program == "qemu-system-x86_64"]
    return {match[1]: pid for match, pid in found if match}


def parent_pid(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


def fake_mains(banger):
    """(Name, pid) of each fake VM, without the processes that keep their commands; the name is that
    which it was started with."""
    found = {p.pid: p.command.split()[1] for p in banger.processes()
             if p.program == FAKE_PROGRAM and len(p.command.split()) in (3, 4)}
    mains = []
    for pid, name in found.items():
        try:
            if parent_pid(pid) not in found:
                mains.append((name, pid))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
    return mains


def fake_main_pids(banger):
    return dict(fake_mains(banger))


def vm_main_pid(banger, name="x"):
    return fake_main_pids(banger)[name]


def configure_guest(banger, vm, body):
    """What the agent of a running VM answers to this CONFIGURE: (errno, text). In the place of the
    daemon, which is ended; the next command has one again, which finds the VM as it is."""
    vm_id = banger.json("vm", "show", vm)["id"]
    banger.ok("daemon", "stop")
    client = frames.connect(banger.runtime_dir / "vms" / vm_id / "agent.sock", 60 * SLOWNESS)
    try:
        client.hello(low=1, high=4)
        assert client.version == 4
        return client.request(frames.CONFIGURE, body)
    finally:
        client.close()


def await_ready(banger, number):
    """Until the pool of the one template has so many."""
    with banger.rpc() as rpc:
        while rpc.call("template.list", {})["result"][0]["ready"] != number:
            pass


def kill_daemon(banger):
    """Ends it as a crash would; it is gone when this returns."""
    pid = banger.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    banger.wait_gone(pid)


def edit_store(banger, sql, *values):
    """Changes the store behind the back of a daemon, which must not run."""
    with sqlite3.connect(banger.state_dir / "banger.db") as db:
        db.execute(sql, values)
    db.close()


def store_of_version_2(banger):
    """The state directory as an earlier version left it."""
    banger.state_dir.joinpath("banger.db").unlink(missing_ok=True)
    banger.state_dir.mkdir(mode=0o700, exist_ok=True)
    with sqlite3.connect(banger.state_dir / "banger.db") as db:
        db.executescript((ROOT / "tests" / "data" / "store-v2.sql").read_text())
    db.close()


def never_boots(make_banger):
    """One whose guests boot as long as a test likes."""
    return broken_agent(make_banger, "silent", silence=300, timeout=300)


# Templates -----------------------------------------------------------------------------------------

# What no two guests may have in common.
WHO = ("hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid;"
       " head -c 16 /dev/urandom | md5sum; mktemp -u")


def templates(banger):
    return {t["id"]: t for t in banger.json("template", "list")}


def origin(banger, name):
    """How a VM was started, of what, why."""
    start = vms(banger)[name]["start"]
    return start["how"], start["template"], start["why"]


def who_is(banger, name):
    return sh_ok(banger, WHO, vm=name).splitlines()


def assert_all_differ(people):
    for what in zip(*people):
        assert len(set(what)) == len(what), what


def look_at_clock(banger, vm):
    """Between which two values the guest's clock is ahead of ours, in seconds: it was read at some
    moment between the command's beginning and its end."""
    before = time.time()
    said = dict(re.findall(r"time\.tv_(\w+): +(\d+)", sh_ok(banger, "busybox adjtimex", vm=vm)))
    after = time.time()
    guest = int(said["sec"]) + int(said["usec"]) / 1e6
    return guest - after, guest - before


def assert_clock_is_right(banger, vm):
    """Within 50 ms, whatever a command takes: each look leaves less of what it may be, and what all of
    them leave has to lie within that."""
    within = 0.05 * SLOWNESS
    low, high = -math.inf, math.inf
    for _ in range(20):
        ahead = look_at_clock(banger, vm)
        assert ahead[0] <= within and ahead[1] >= -within, ahead
        low, high = max(low, ahead[0]), min(high, ahead[1])
        if -within <= low and high <= within:
            return
    pytest.fail(f"the clock of '{vm}' is between {low} and {high} s ahead")


def flip(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1)
        file.seek(at)
        file.write(bytes([old[0] ^ 0xFF]))


def data_offsets(path):
    """Of bytes that are data, at the beginning and further on."""
    size = path.stat().st_size
    if size < 1 << 20:
        return [0, size // 2, size - 1]
    fd, found = os.open(path, os.O_RDONLY), [0]
    try:
        for _ in range(3):
            found.append(os.lseek(fd, found[-1] + 16384, os.SEEK_DATA))
    finally:
        os.close(fd)
    return found[1:]
