"""Each call of the daemon that may fail (FAULT_POINT in the sources) is made to fail, one after the
other: the operation then succeeds or has a clean error, the daemon goes on, nothing is lost, nothing
is left behind, and the next try succeeds.

For builds with test points (build-asan, build-tsan). The daemon counts the calls from the moment at
which the test says which one is to fail; a test goes on to the next call until there are no more.
"""

import errno
import itertools
import os
import re

import pytest
from banger import ROOT
from steps import (QUICK_BOOT, assert_error, assert_networks, call, fake_banger,
                   fake_banger_with_network, fake_main_pids, fake_qemu, needs_root, qemu_main_pids,
                   read_limits, vms)

pytestmark = [pytest.mark.points, pytest.mark.deadline(900)]

POINT = re.compile(r'FAULT_POINT\("([a-z_.]+)"\)')
FAILED = re.compile(r"fault point '([a-z_.]+)' fails")


class Faults:
    """A banger whose daemon's calls fail on demand, with a VM that has nothing to do with it."""

    vmm = "fake"
    points = "*"  # those that are to fail
    main_pids = staticmethod(fake_main_pids)

    def __init__(self, banger):
        self.banger = banger
        self.child = None
        self.file = banger.root / "faults"
        self.file.write_text("")
        self.log = banger.root / "faults.log"
        self.log_at = 0
        self.start_daemon()
        self.create("bystander")
        self.bystander = vms(banger)["bystander"]
        self.bystander_pid = self.main_pids(banger)["bystander"]

    def create(self, name, *flags):
        self.banger.ok("vm", "create", "-q", "--vmm", self.vmm, "--name", name, *flags)

    def try_create(self, name):
        """With a command, where its agent can run one."""
        return self.run("run", "-d", "-q", "--vmm", "fake", "--name", name, "--", "sleep", "1000")

    def assert_up(self, name):
        assert self.banger.ok("exec", name, "--", "echo", "up").out == "up\n"

    def start_daemon(self):
        """Ours, so that only its calls fail and not the client's. False when it did not start. The
        end of the one before is that of a daemon that is killed."""
        if self.child:
            self.child.kill()
            self.child.close()
        self.child = self.banger.spawn_argv(
            ["sh", "-c", 'exec "$0" --ready-fd 1 2>>"$1"', self.banger.program("bangerd"), self.log],
            env={"BANGER_FAULTS": str(self.file)})
        try:
            self.child.read_until(b"ok\n")
        except AssertionError:
            assert self.child.finish().returncode == 1
            return False
        return True

    def arm(self, number, error, on=False):
        self.log_at = self.log.stat().st_size
        self.file.write_text(f"{self.points} {number}{'+' if on else ''} {error}\n")

    def disarm(self):
        """The points that failed."""
        self.file.write_text("")
        return FAILED.findall(self.said())

    def said(self):
        """What the daemon logged since something was to fail."""
        with self.log.open("rb") as log:
            log.seek(self.log_at)
            return log.read().decode(errors="replace")

    def run(self, *args):
        """A command, which ends in order: with an error of two lines at most, if any."""
        result = self.banger.run(*args, timeout=120)
        assert result.returncode in (0, 1, 125), repr(result)
        assert (result.returncode == 0) == (not result.err), repr(result)
        if result.err:
            assert result.err.startswith("banger: "), repr(result)
        return result.returncode == 0

    def check(self):
        """What holds in any case, once nothing fails any more."""
        banger = self.banger
        assert self.child.process.poll() is None, self.said()
        now = vms(banger)
        for key in ("id", "state", "incarnation", "started_at"):
            assert now["bystander"][key] == self.bystander[key], now["bystander"]
        return now

    def check_clean(self):
        """And what holds once an operation has been repeated with success."""
        banger = self.banger
        now = self.check()
        assert call(banger, "daemon.reconcile", dry_run=True) == []
        assert call(banger, "daemon.verify_store")["problems"] == []
        running = {name for name, vm in now.items() if vm["state"] == "running"}
        pids = self.main_pids(banger)
        assert set(pids) == running
        assert pids["bystander"] == self.bystander_pid
        assert {p.name for p in (banger.runtime_dir / "vms").iterdir()} == \
            {now[n]["id"] for n in running}
        assert {p.name for p in (banger.state_dir / "vms").iterdir()} == \
            {vm["id"] for vm in now.values()}
        for base in (banger.state_dir, banger.cache_dir, banger.runtime_dir):
            assert [p for p in base.rglob("*tmp*")] == []
        return now


class NetFaults(Faults):
    """What a VM's network takes of the host, which a fake VM takes, too."""

    points = "host.net*,host.tap*,host.nic*"

    def check_clean(self):
        now = super().check_clean()
        assert_networks(self.banger, now)
        return now


class QemuFaults(Faults):
    """The same of what a VM in QEMU has and a fake one has not: who starts and ends it, and QMP."""

    vmm = "qemu"
    main_pids = staticmethod(qemu_main_pids)

    def try_create(self, name):
        return self.run("vm", "create", "-q", "--name", name)

    def assert_up(self, name):
        call(self.banger, "vm.ping", vm=name)


@pytest.fixture
def faults(make_banger):
    return Faults(fake_banger(make_banger))


@pytest.fixture
def net_faults(make_banger):
    return NetFaults(fake_banger_with_network(make_banger))


@pytest.fixture
def qemu_faults(make_banger):
    return QemuFaults(fake_qemu(make_banger))


def fail_each(faults, error, prepare, act, recover, on=False):
    """recover(done) gets whether the command succeeded, with nothing failing any more. The points
    that failed, for each try."""
    found = []
    while True:
        prepare()
        faults.arm(len(found) + 1, error, on)
        done = act()
        failed = faults.disarm()
        try:
            faults.check()
            recover(done)
            faults.check_clean()
        except (AssertionError, TimeoutError) as problem:
            raise AssertionError(f"with failing {failed}, call {len(found) + 1}: {problem}\n"
                                 f"{faults.said()}") from problem
        if not failed:
            assert done
            return found
        found.append(set(failed))


def write_disk(banger, name):
    disk = banger.state_dir / "vms" / vms(banger)[name]["id"] / "data.ext4"
    with disk.open("r+b") as file:
        file.write(b"work")
    return disk


def assert_disk(disk):
    with disk.open("rb") as file:
        assert file.read(4) == b"work"


def force_stop(banger, name):
    """As a user does whose VM is stuck in an error."""
    if vms(banger)[name]["state"] in ("running", "error", "stopping", "starting"):
        banger.ok("stop", "--force", name)
    assert vms(banger)[name]["state"] in ("stopped", "created")


def of_create(faults):
    banger = faults.banger

    def recover(done):
        there = "x" in vms(banger)
        assert there or not done
        if there and not done:
            # Its undoing failed as well: it says so, and can be repeated.
            assert vms(banger)["x"]["state"] in ("error", "stopped", "running"), vms(banger)["x"]
            banger.ok("rm", "--force", "x")
        if not done:
            assert faults.try_create("x")
        faults.assert_up("x")
        banger.ok("rm", "--force", "x")

    return lambda: None, lambda: faults.try_create("x"), recover


def of_start(faults):
    banger = faults.banger
    faults.create("x", "--no-start")
    disk = write_disk(banger, "x")

    def recover(done):
        assert_disk(disk)
        state = vms(banger)["x"]["state"]
        assert state == "running" if done else state in ("stopped", "created", "error"), state
        if not done:
            banger.ok("start", "x")
        faults.assert_up("x")
        banger.ok("stop", "x")

    return lambda: None, lambda: faults.run("start", "x"), recover


def of_stop(faults, *flags):
    banger = faults.banger
    faults.create("x")
    disk = write_disk(banger, "x")

    def recover(done):
        assert_disk(disk)
        state = vms(banger)["x"]["state"]
        assert state == "stopped" if done else state in ("running", "stopped", "error"), state
        if state == "running":
            banger.ok("stop", "x")
        force_stop(banger, "x")

    return lambda: banger.ok("start", "x"), lambda: faults.run("stop", *flags, "x"), recover


def of_kill(faults):
    return of_stop(faults, "--force")


def of_delete(faults):
    banger = faults.banger

    def recover(done):
        assert ("x" in vms(banger)) != done
        if not done:
            banger.ok("rm", "--force", "x")

    return lambda: faults.create("x"), lambda: faults.run("rm", "--force", "x"), recover


def of_pause(faults):
    banger = faults.banger
    faults.create("x")

    def recover(done):
        state = vms(banger)["x"]["state"]
        assert state == "paused" if done else state in ("running", "paused"), state
        banger.ok("pause", "x")
        banger.ok("resume", "x")
        faults.assert_up("x")

    return lambda: None, lambda: faults.run("pause", "x"), recover


def of_resume(faults):
    banger = faults.banger
    faults.create("x")

    def recover(done):
        state = vms(banger)["x"]["state"]
        assert state == "running" if done else state in ("running", "paused"), state
        banger.ok("resume", "x")
        faults.assert_up("x")

    return lambda: banger.ok("pause", "x"), lambda: faults.run("resume", "x"), recover


def of_restart(faults):
    banger = faults.banger
    faults.create("x")
    disk = write_disk(banger, "x")

    def recover(done):
        assert_disk(disk)
        state = vms(banger)["x"]["state"]
        assert state == "running" if done else state in ("running", "stopped", "error"), state
        banger.ok("start", "x")
        faults.assert_up("x")

    return lambda: None, lambda: faults.run("restart", "x"), recover


def of_set(faults):
    """All of it or nothing."""
    banger = faults.banger
    faults.create("x")

    def act():
        return faults.run("vm", "set", "x", "--name", "y", "--label", "a=b", "--vcpus", "2")

    def recover(done):
        (vm,) = [vm for name, vm in vms(banger).items() if name in ("x", "y")]
        assert (vm["name"], vm["labels"], vm["vcpus"], vm["pending"]) == (
            ("y", {"a": "b"}, 2, ["vcpus"]) if done else ("x", {}, 1, []))
        if not done:
            assert act()
        banger.ok("vm", "set", "y", "--name", "x", "--unlabel", "a", "--vcpus", "1")
        faults.assert_up("x")

    return lambda: None, act, recover


def of_net(faults):
    """Connected or not, as the VM says; then the other way around."""
    banger = faults.banger
    faults.create("x")
    modes = itertools.cycle(("none", "nat"))

    def recover(done):
        if not done:
            banger.ok("vm", "set", "x", "--net", "none")
        banger.ok("vm", "set", "x", "--net", "nat")
        assert vms(banger)["x"]["network"]["mode"] == "nat"
        faults.assert_up("x")

    def act():
        return faults.run("vm", "set", "x", "--net", next(modes)) and \
            faults.run("vm", "set", "x", "--net", next(modes))

    return lambda: None, act, recover


def of_touch(faults):
    banger = faults.banger
    faults.create("x", "--expires-after", "1h")

    def recover(done):
        before = vms(banger)["x"]["expires_at"]
        banger.ok("touch", "x")
        assert vms(banger)["x"]["expires_at"] > before
        faults.assert_up("x")

    return lambda: None, lambda: faults.run("touch", "x"), recover


def of_prune(faults):
    banger = faults.banger

    def recover(done):
        assert ("x" in vms(banger)) != done
        if not done:
            banger.ok("rm", "--force", "x")
        assert "x" not in vms(banger)

    return lambda: faults.create("x", "--no-start"), \
        lambda: faults.run("prune", "--stopped-for", "0"), recover


def of_grow(faults):
    """Whatever fails, the disk is to be that large: now, or from the next start on."""
    banger = faults.banger
    faults.create("x", "--disk", "1G")
    sizes = itertools.count(2)
    size = None

    def act():
        nonlocal size
        size = next(sizes) << 30
        return faults.run("vm", "set", "x", "--disk", str(size))

    def recover(done):
        vm = vms(banger)["x"]
        disk = banger.state_dir / "vms" / vm["id"] / "data.ext4"
        assert done and vm["disk_bytes"] == size
        if vm["pending"]:
            assert vm["pending"] == ["disk_bytes"]
            banger.ok("vm", "set", "x", "--disk", str(next(sizes) << 30))
            vm = vms(banger)["x"]
        assert vm["pending"] == [] and disk.stat().st_size == vm["disk_bytes"]
        limit, _ = read_limits(faults.main_pids(banger)["x"])["file size"]
        assert int(limit) == vm["disk_bytes"]
        faults.assert_up("x")

    return lambda: None, act, recover


def of_template(faults):
    """Made or not, it can be made then, and what there is is whole."""
    banger = faults.banger

    def recover(_):
        made = banger.ok("template", "create").out.strip()
        assert banger.ok("template", "list", "-q").out.split() == [made]
        assert [p.name for p in (banger.state_dir / "templates").iterdir()] == [made]
        banger.ok("template", "verify")
        banger.ok("template", "delete", made)

    return lambda: None, lambda: faults.run("template", "create", "--quiet"), recover


def of_fork(faults):
    """It is forked, or boots, or does not start; the template is whole, or is gone."""
    banger = faults.banger

    def prepare():
        banger.ok("template", "create")
        # From its files.
        assert faults.start_daemon()

    def recover(done):
        assert done == ("x" in vms(banger)) or vms(banger)["x"]["state"] != "running"
        if done:
            assert vms(banger)["x"]["start"]["how"] in ("boot", "fork")
            faults.assert_up("x")
        if "x" in vms(banger):
            banger.ok("rm", "--force", "x")
        banger.ok("template", "verify")
        banger.ok("template", "create")
        assert faults.try_create("x")
        assert vms(banger)["x"]["start"]["how"] == "fork"
        banger.ok("rm", "--force", "x")

    return prepare, lambda: faults.try_create("x"), recover


def of_template_delete(faults):
    banger = faults.banger

    def recover(_):
        made = banger.ok("template", "list", "-q").out.split()
        assert len(made) <= 1
        if made:
            banger.ok("template", "delete", made[0])
        assert faults.start_daemon()
        banger.ok("ps")
        assert list((banger.state_dir / "templates").iterdir()) == []

    return lambda: banger.ok("template", "create"), \
        lambda: faults.run("template", "prune", "--unused-for", "0"), recover


OPERATIONS = {"create": of_create, "start": of_start, "stop": of_stop, "kill": of_kill,
              "delete": of_delete, "pause": of_pause, "resume": of_resume}


# Which come by nothing of the host's or QEMU's that those above do not.
OTHERS = {"restart": of_restart, "set": of_set, "touch": of_touch, "prune": of_prune}
ALL = OPERATIONS | OTHERS
# The fake VMM's disk does not grow while it runs.
OF_QEMU_ALONE = {"grow": of_grow}

SHORT = ("pause", "resume", "set", "touch", "prune")  # a store, a signal or a command


@pytest.mark.parametrize("name", list(ALL))
def test_any_call_of_an_operation_may_fail(faults, name):
    assert len(fail_each(faults, errno.EIO, *ALL[name](faults))) > (0 if name in SHORT else 3)


@pytest.mark.parametrize("name", list(ALL))
def test_from_any_call_on_the_disk_may_be_full(faults, name):
    found = fail_each(faults, errno.ENOSPC, *ALL[name](faults), on=True)
    assert len(found) > (0 if name in SHORT else 3)


NETWORKS = {"create": of_create, "start": of_start, "stop": of_stop, "delete": of_delete, "net": of_net}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_any_call_about_a_network_may_fail(net_faults, name):
    assert len(fail_each(net_faults, errno.EIO, *NETWORKS[name](net_faults))) > 0


# What each operation comes by when its VM is QEMU's: calls of its own thread, and QMP, which is read
# on another. Counted apart, as the threads come by theirs in no order.
TEMPLATES = {"template": of_template, "fork": of_fork, "template delete": of_template_delete}
FILES = "store,copy,template.*,fs.read,fs.write,fs.remove,fs.open_dir"
OWN, QMP = "host.*,fs.listen,fs.connect", "qmp.*"
STARTS = {OWN: {"fs.connect", "fs.listen", "host.launch", "host.reply"},
          QMP: {"qmp.read", "qmp.reply", "qmp.write"}}
KILLS = {OWN: {"host.kill", "host.reply"}, QMP: {"qmp.read"}}
COMMANDS = {OWN: set(), QMP: {"qmp.read", "qmp.reply", "qmp.write"}}
OF_QEMU = {"create": STARTS, "start": STARTS, "stop": {OWN: set(), QMP: {"qmp.read"}},
           "kill": KILLS, "delete": KILLS, "pause": COMMANDS, "resume": COMMANDS,
           "grow": {OWN: {"host.allow_disk", "host.reply"}, QMP: COMMANDS[QMP]}}


def fail_each_of_qemu(faults, name, error, on):
    """The points that failed, by what they were counted with."""
    found = {}
    prepare, act, recover = (OPERATIONS | OF_QEMU_ALONE)[name](faults)
    for faults.points in (OWN, QMP):
        found[faults.points] = set().union(
            *fail_each(faults, error, prepare, act, recover, on))
    return found


@needs_root
@pytest.mark.parametrize("points", [FILES, OWN, QMP])
@pytest.mark.parametrize("name", list(TEMPLATES))
@pytest.mark.parametrize("on", [False, True])
def test_any_call_of_a_template_may_fail(qemu_faults, name, points, on):
    qemu_faults.points = points
    found = fail_each(qemu_faults, errno.ENOSPC if on else errno.EIO, *TEMPLATES[name](qemu_faults),
                      on=on)
    assert found or name == "template delete"


@needs_root
def test_forks_are_given_back_when_the_host_has_little_memory(make_banger):
    banger = fake_qemu(make_banger)
    banger.configure(QUICK_BOOT.format(silence=20, timeout=60) + "pool_size = 2\n")
    faults = QemuFaults(banger)

    def await_ready(number):
        with banger.rpc() as rpc:
            while rpc.call("template.list", {})["result"][0]["ready"] != number:
                pass

    banger.ok("template", "create")
    await_ready(2)
    assert len(qemu_main_pids(banger)) == 3
    faults.file.write_text(f"pool.memory 1+ {errno.ENOMEM}\n")
    # Somebody takes one, which is when it is looked at.
    faults.create("x")
    await_ready(0)
    assert set(qemu_main_pids(banger)) >= {"bystander"} and vms(banger)["x"]["start"]["how"] == "pool"
    assert len(qemu_main_pids(banger)) == 2
    with banger.rpc() as rpc:
        while rpc.call("template.list", {})["result"][0]["loaded"]:
            pass
    faults.file.write_text("")
    faults.create("y")
    assert vms(banger)["y"]["start"]["how"] == "fork"


@needs_root
def test_template_that_breaks_beside_forks_that_are_ready_takes_them_along(make_banger):
    banger = fake_qemu(make_banger)
    banger.configure(QUICK_BOOT.format(silence=20, timeout=60) + "pool_size = 1\n")
    faults = QemuFaults(banger)
    made = banger.ok("template", "create").out.strip()
    with banger.rpc() as rpc:
        while rpc.call("template.list", {})["result"][0]["ready"] != 1:
            pass
        assert len(qemu_main_pids(banger)) == 2
        # The next one for the pool cannot be restored.
        faults.file.write_text(f"qmp.reply 2 {errno.EIO}\n")
        banger.ok("template", "pool", made, "--size", "2")
        while rpc.call("template.list", {})["result"]:
            pass
        while len(qemu_main_pids(banger)) != 1:
            pass
    faults.file.write_text("")
    assert list((banger.state_dir / "templates").iterdir()) == []
    faults.check_clean()


@needs_root
@pytest.mark.parametrize("name", list(OF_QEMU))
def test_any_call_to_the_host_or_to_qemu_may_fail(qemu_faults, name):
    found = fail_each_of_qemu(qemu_faults, name, errno.EIO, on=False)
    assert found[OWN] == OF_QEMU[name][OWN]
    # How often QMP is read for one answer differs from try to try.
    assert found[QMP] <= OF_QEMU[name][QMP] <= found[QMP] | {"qmp.read", "qmp.reply"}


@needs_root
@pytest.mark.parametrize("name", list(OF_QEMU))
def test_from_any_call_on_neither_host_nor_qemu_may_do_anything(qemu_faults, name):
    found = fail_each_of_qemu(qemu_faults, name, errno.ENOSPC, on=True)
    # What is undone comes by others.
    assert found[OWN] >= OF_QEMU[name][OWN]
    assert found[QMP] >= OF_QEMU[name][QMP] - {"qmp.read", "qmp.reply"}


@needs_root
@pytest.mark.parametrize("point", ["host.pss", "host.reply"])
def test_memory_that_cannot_be_measured_is_told(qemu_faults, point):
    qemu_faults.points = point
    qemu_faults.arm(1, errno.EIO)
    (stats,) = qemu_faults.banger.json("stats", "bystander", "--interval", "10ms")
    assert qemu_faults.disarm() == [point]
    assert stats["pss_bytes"] is None and "Input/output error" in stats["pss_why"]
    assert stats["rss_bytes"] > 0 and stats["cpu_ms"] is not None
    (stats,) = qemu_faults.banger.json("stats", "bystander", "--interval", "10ms")
    assert stats["pss_bytes"] > 0 and stats["pss_why"] is None


def fail_each_at_start(faults):
    """The points that failed while daemons started, each for one of them."""
    faults.create("down", "--no-start")
    return fail_each_call_at_start(faults)


def fail_each_call_at_start(faults):
    """Of faults.points, in the order in which they come."""
    banger = faults.banger
    found, failed = [], True
    while failed:
        faults.arm(len(found) + 1, errno.EIO)
        serves = faults.start_daemon()
        failed = faults.disarm()
        try:
            assert serves or failed
            if not serves:
                assert faults.start_daemon()
            banger.ok("ps")
            # What could not be taken over is, when asked once more.
            assert banger.run("daemon", "reconcile").returncode == 0
            assert faults.check_clean()["down"]["state"] == "created"
            faults.assert_up("bystander")
        except AssertionError as problem:
            raise AssertionError(f"with failing {failed}, call {len(found) + 1}: {problem}\n"
                                 f"{faults.said()}") from problem
        found += failed
    return found


def test_any_call_of_a_daemon_that_starts_may_fail(faults):
    """It serves or says why not; VMs that run go on, and are there once nothing fails."""
    wanted = {"fs.connect", "fs.listen", "fs.read", "process", "process.find", "spawn", "store"}
    wanted |= {"host.reply", "host.status"} if os.geteuid() == 0 else set()
    # Threads of a start change places from one daemon to the next, and a call may be passed over.
    for point in wanted - set(fail_each_at_start(faults)):
        faults.points = point
        assert set(fail_each_call_at_start(faults)) == {point}


def test_any_call_of_a_daemon_that_takes_qemu_over_may_fail(qemu_faults):
    """What QMP says may come when it serves already, and so is not always among it:
    test_qmp_answers.py has that."""
    assert "fs.connect" in fail_each_at_start(qemu_faults)


@needs_root
@pytest.mark.parametrize("how", ["error", "garbage", "close", "silence"])
def test_vm_that_can_neither_be_killed_nor_told_to_quit_is_told_and_ended_later(qemu_faults, how):
    banger, name = qemu_faults.banger, f"quit-{how}"
    qemu_faults.create(name)
    pid = qemu_main_pids(banger)[name]
    qemu_faults.file.write_text(f"host.kill 1+ {errno.EIO}\n")
    for command in (("stop", "--force"), ("rm", "--force")):
        result = banger.run(*command, name)
        assert_error(result, f"process {pid} does not end: cannot end process {pid}", hint=False)
        assert vms(banger)[name]["state"] == "error"
        assert qemu_main_pids(banger)[name] == pid
    # One that can be told ends all the same.
    banger.ok("stop", "--force", "bystander")
    assert qemu_main_pids(banger) == {name: pid}
    qemu_faults.file.write_text("")
    banger.ok("start", "bystander")
    banger.ok("rm", "--force", name)
    assert set(qemu_main_pids(banger)) == {"bystander"}


def test_vm_that_cannot_be_taken_over_is_told_and_runs_on_until_it_can(faults):
    banger = faults.banger
    faults.file.write_text(f"process 1+ {errno.EIO}\n")
    assert faults.start_daemon()
    vm = vms(banger)["bystander"]
    assert vm["state"] == "error" and vm["reason"].startswith("cannot be taken over: ")
    result = banger.run("daemon", "reconcile")
    assert result.returncode == 1 and ": not " in result.out, repr(result)
    assert faults.main_pids(banger)["bystander"] == faults.bystander_pid
    faults.file.write_text("")
    assert banger.ok("daemon", "reconcile").out.endswith("runs without us: adopted\n")
    faults.check_clean()


# What the tests above come by, by the name.
KNOWN = {"agent.hello", "agent.request", "agent.start", "capability.adopt", "capability.apply",
         "capability.post_start", "capability.prepare", "copy", "fs.connect", "fs.listen",
         "fs.open_dir", "fs.read", "fs.remove", "fs.write", "host.allow_disk", "host.kill",
         "host.launch", "host.net_close", "host.net_dns", "host.net_open", "host.net_refresh",
         "host.nic_attach", "host.nic_detach", "host.pss", "host.reply", "host.status", "host.tap_delete", "host.tap_list",
         "host.tap_open", "process", "process.find", "qmp.read", "qmp.reply", "qmp.write", "spawn",
         "pool.memory", "store", "template.open", "template.read", "template.sync"}


def test_every_fault_point_is_known():
    """A new one is to be thought about; HACKING.md has their number."""
    found = set()
    for path in (ROOT / "src").rglob("*.c"):
        found |= set(POINT.findall(path.read_text()))
    assert found == KNOWN
    assert f"fault points: {len(KNOWN)} " in (ROOT / "docs/HACKING.md").read_text()


def test_every_verb_of_the_host_is_a_fault_point():
    """Those that may fail; nobody goes around the place where they do."""
    ops = re.search(r"struct host_ops \{(.*?)\n\};", (ROOT / "src/host/host.h").read_text(), re.S)[1]
    verbs = {verb for verb, params in re.findall(r"\(\*(\w+)\)\(([^)]*)\)", ops) if "err" in params}
    assert {"launch", "kill", "status"} <= verbs
    assert {f"host.{verb}" for verb in verbs} <= set(
        POINT.findall((ROOT / "src/host/host.c").read_text())) & KNOWN
    for path in (ROOT / "src").rglob("*.c"):
        if path.name != "host.c":
            assert not set(re.findall(r"host->ops->(\w+)\(", path.read_text())) & verbs, path
