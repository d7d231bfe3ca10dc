"""Each call of the daemon that may fail (FAULT_POINT in the sources) is made to fail, one after the
other: the operation then succeeds or has a clean error, the daemon goes on, nothing is lost, nothing
is left behind, and the next try succeeds.

For builds with test points (build-asan, build-tsan). The daemon counts the calls from the moment at
which the test says which one is to fail; a test goes on to the next call until there are no more.
"""

import errno
import re

import pytest
from banger import ROOT
from steps import fake_banger, fake_main_pids, vms

pytestmark = [pytest.mark.points, pytest.mark.deadline(900)]

POINT = re.compile(r'FAULT_POINT\("([a-z_.]+)"\)')
FAILED = re.compile(r"fault point '([a-z_.]+)' fails")


class Faults:
    """A banger whose daemon's calls fail on demand, with a VM that has nothing to do with it."""

    def __init__(self, banger):
        self.banger = banger
        self.file = banger.root / "faults"
        self.file.write_text("")
        self.log = banger.root / "faults.log"
        self.log_at = 0
        self.start_daemon()
        banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", "bystander")
        self.bystander = vms(banger)["bystander"]
        self.bystander_pid = fake_main_pids(banger)["bystander"]

    def start_daemon(self):
        """Ours, so that only its calls fail and not the client's. False when it did not start."""
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
        self.file.write_text(f"* {number}{'+' if on else ''} {error}\n")

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
        assert fake_main_pids(banger)["bystander"] == self.bystander_pid
        return now

    def check_clean(self):
        """And what holds once an operation has been repeated with success."""
        banger = self.banger
        now = self.check()
        assert banger.ok("daemon", "reconcile", "--dry-run").out == ""
        assert banger.ok("daemon", "verify-store").out == ""
        running = {name for name, vm in now.items() if vm["state"] == "running"}
        assert set(fake_main_pids(banger)) == running
        assert {p.name for p in (banger.runtime_dir / "vms").iterdir()} == \
            {now[n]["id"] for n in running}
        assert {p.name for p in (banger.state_dir / "vms").iterdir()} == \
            {vm["id"] for vm in now.values()}
        for base in (banger.state_dir, banger.cache_dir, banger.runtime_dir):
            assert [p for p in base.rglob("*tmp*")] == []


@pytest.fixture
def faults(make_banger):
    return Faults(fake_banger(make_banger))


def fail_each(faults, error, prepare, act, recover, on=False):
    """recover(done) gets whether the command succeeded, with nothing failing any more."""
    number = 1
    while True:
        prepare()
        faults.arm(number, error, on)
        done = act()
        failed = faults.disarm()
        try:
            faults.check()
            recover(done)
            faults.check_clean()
        except (AssertionError, TimeoutError) as problem:
            raise AssertionError(f"with failing {failed}, call {number}: {problem}\n"
                                 f"{faults.said()}") from problem
        if not failed:
            assert done
            return number - 1
        number += 1


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

    def act():
        return faults.run("run", "-d", "-q", "--vmm", "fake", "--name", "x", "--", "sleep", "1000")

    def recover(done):
        there = "x" in vms(banger)
        assert there or not done
        if there and not done:
            # Its undoing failed as well: it says so, and can be repeated.
            assert vms(banger)["x"]["state"] in ("error", "stopped", "running"), vms(banger)["x"]
            banger.ok("rm", "--force", "x")
        if not done:
            assert act()
        assert banger.ok("exec", "x", "--", "echo", "up").out == "up\n"
        banger.ok("rm", "--force", "x")

    return lambda: None, act, recover


def of_start(faults):
    banger = faults.banger
    banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", "x", "--no-start")
    disk = write_disk(banger, "x")

    def recover(done):
        assert_disk(disk)
        state = vms(banger)["x"]["state"]
        assert state == "running" if done else state in ("stopped", "created", "error"), state
        if not done:
            banger.ok("start", "x")
        assert banger.ok("exec", "x", "--", "echo", "up").out == "up\n"
        banger.ok("stop", "x")

    return lambda: None, lambda: faults.run("start", "x"), recover


def of_stop(faults, *flags):
    banger = faults.banger
    banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", "x")
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

    return (lambda: banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", "x"),
            lambda: faults.run("rm", "--force", "x"), recover)


OPERATIONS = {"create": of_create, "start": of_start, "stop": of_stop, "kill": of_kill,
              "delete": of_delete}


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_any_call_of_an_operation_may_fail(faults, name):
    calls = fail_each(faults, errno.EIO, *OPERATIONS[name](faults))
    assert calls > 3


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_from_any_call_on_the_disk_may_be_full(faults, name):
    calls = fail_each(faults, errno.ENOSPC, *OPERATIONS[name](faults), on=True)
    assert calls > 3


def test_any_call_of_a_daemon_that_starts_may_fail(faults):
    """It serves or says why not; VMs that run go on, and are there once nothing fails."""
    banger = faults.banger
    banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", "down", "--no-start")
    number, failed = 1, True
    while failed:
        # Its end is that of a daemon that is killed.
        faults.child.kill()
        faults.arm(number, errno.EIO)
        serves = faults.start_daemon()
        failed = faults.disarm()
        try:
            assert serves or failed
            if not serves:
                assert faults.start_daemon()
            banger.ok("ps")
            # What could not be taken over is, when asked once more.
            assert banger.run("daemon", "reconcile").returncode == 0
            faults.check_clean()
            assert vms(banger)["down"]["state"] == "created"
            assert banger.ok("exec", "bystander", "--", "echo", "up").out == "up\n"
        except AssertionError as problem:
            raise AssertionError(f"with failing {failed}, call {number}: {problem}\n"
                                 f"{faults.said()}") from problem
        number += 1
    assert number > 10


def test_vm_that_cannot_be_taken_over_is_told_and_runs_on_until_it_can(faults):
    banger = faults.banger
    faults.child.kill()
    faults.file.write_text(f"process 1+ {errno.EIO}\n")
    assert faults.start_daemon()
    vm = vms(banger)["bystander"]
    assert vm["state"] == "error" and vm["reason"].startswith("cannot be taken over: ")
    result = banger.run("daemon", "reconcile")
    assert result.returncode == 1 and ": not " in result.out, repr(result)
    assert fake_main_pids(banger)["bystander"] == faults.bystander_pid
    faults.file.write_text("")
    assert banger.ok("daemon", "reconcile").out.endswith("runs without us: adopted\n")
    faults.check_clean()


def test_every_fault_point_is_known():
    """What the tests above come by, by the name; a new one is to be thought about."""
    found = set()
    for path in (ROOT / "src").rglob("*.c"):
        found |= set(POINT.findall(path.read_text()))
    assert found == {"agent.hello", "agent.request", "agent.start", "copy", "fs.connect", "fs.listen",
                     "fs.open_dir", "fs.read", "fs.remove", "fs.write", "process", "spawn", "store"}
