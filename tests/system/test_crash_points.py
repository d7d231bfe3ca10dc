"""A daemon that dies at any of its crash points (CRASH_POINT in the sources) leaves what the next one
can mend: each VM is wholly there or wholly gone, what ran goes on, nothing is left behind, and the
next operation succeeds.

For builds with test points (build-asan, build-tsan). Which points a scenario passes, and how often,
is what a daemon says that is told to crash at "?"; then it is killed at each of them.
"""

import collections
import json
import os
import re
import signal
import sqlite3
import time

import pytest
from banger import ROOT, SLOWNESS
from steps import (FAKE_CONFIG, assert_networks, fake_banger, fake_banger_with_network, fake_main_pids,
                   qemu_main_pids, store_of_version_2, vms, with_fake_qemu)

pytestmark = [pytest.mark.points, pytest.mark.deadline(900)]

POINT = re.compile(r'CRASH_POINT\("([a-z_.]+)"\)')
PASSED = re.compile(r"crash point '([a-z_.]+)' passed")
REACHED = re.compile(r"crash point '([a-z_.]+)' reached")
STRAY = "0123456789abcdef0123456789abcdef"


def points_of_the_sources():
    found = []
    for path in (ROOT / "src").rglob("*.c"):
        found += POINT.findall(path.read_text())
    return found


class World:
    """One banger with a VM that has nothing to do with the scenario, and a conversation in it."""

    def __init__(self, banger):
        self.banger = banger
        self.crashing = None
        banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", "bystander")
        self.bystander = vms(banger)["bystander"]
        self.bystander_pid = fake_main_pids(banger)["bystander"]
        self.talk = banger.spawn("exec", "-i", "bystander", "--", "cat")
        self.said = 0
        self.speak()

    def speak(self):
        """The conversation goes on: no word is lost, none comes twice."""
        self.said += 1
        self.talk.send(b"word %d\n" % self.said)
        self.talk.read_until(b"word %d\n" % self.said)
        words = self.talk.output["stdout"].decode().splitlines()
        assert words == [f"word {i + 1}" for i in range(self.said)]

    def kill_daemon(self):
        pid = self.banger.daemon_pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
            self.banger.wait_gone(pid)

    def start_daemon(self, crash_at):
        """One that is to die. It may do so before it serves: then it is not waited for."""
        # The client of the conversation would start a daemon of its own.
        self.talk.signal(signal.SIGSTOP)
        self.kill_daemon()
        self.crashing = self.banger.spawn(
            "--ready-fd", "1", program="bangerd", env={"BANGER_CRASH_AT": crash_at})
        try:
            self.crashing.read_until(b"ok\n")
        except AssertionError:
            pass

    def daemon_ended(self):
        """Whether it died at its point; what it said."""
        log = self.crashing.output["stderr"].decode()
        if self.crashing.process.poll() is None:
            self.banger.run("daemon", "stop")
        result = self.crashing.finish()
        log = result.err
        assert "Sanitizer" not in log, log
        return REACHED.search(log) is not None, log

    def check(self, scenario):
        """What must hold whatever happened, under a daemon that was started for this."""
        banger = self.banger
        if scenario is Pool:
            scenario.settle(self)
        banger.ok("ps")
        if scenario is ByItself:
            scenario.act(self)  # it may be at it right now
        self.talk.signal(signal.SIGCONT)
        assert banger.ok("daemon", "reconcile", "--dry-run").out == ""
        assert banger.ok("daemon", "verify-store").out == ""
        now = vms(banger)
        for key in ("id", "state", "incarnation", "created_at", "started_at"):
            assert now["bystander"][key] == self.bystander[key]
        assert fake_main_pids(banger)["bystander"] == self.bystander_pid
        self.speak()
        running = {name for name, vm in now.items() if vm["state"] in ("running", "paused")}
        assert {vm["state"] for vm in now.values()} <= {"running", "paused", "stopped", "created"}
        # A fork that was ready has the name that it had then, which is its id.
        names = {vm["id"]: name for name, vm in now.items()}
        qemus = {names.get(name, name) for name in qemu_main_pids(banger)}
        assert set(fake_main_pids(banger)) | qemus == running
        runs = banger.runtime_dir / "vms"
        assert {p.name for p in runs.iterdir()} == {now[name]["id"] for name in running}
        disks = banger.state_dir / "vms"
        assert {p.name for p in disks.iterdir()} == {vm["id"] for vm in now.values()}
        for base in (banger.state_dir, banger.cache_dir, banger.runtime_dir):
            assert [p for p in base.rglob("*tmp*")] == []
        return now


class NetWorld(World):
    """One in which VMs have networks: a fake VM takes of the host what others take."""

    def check(self, scenario):
        now = super().check(scenario)
        assert_networks(self.banger, now)
        return now


class Create:
    """A VM with a command; --no-start has its own last commit."""

    @staticmethod
    def prepare(world):
        pass

    @staticmethod
    def act(world):
        world.banger.run("run", "-d", "-q", "--vmm", "fake", "--name", "x", "--", "sleep", "1000")
        world.banger.run("vm", "create", "-q", "--vmm", "fake", "--name", "y", "--no-start")

    @staticmethod
    def verify(world, now):
        if "x" in now:
            assert now["x"]["state"] == "running"
            assert world.banger.ok("exec", "x", "--", "echo", "up").out == "up\n"
        if "y" in now:
            assert now["y"]["state"] == "created"
            world.banger.ok("start", "y")


class CreateToRemove:
    """A VM with --rm whose client is still there goes on with it, or is gone."""

    @staticmethod
    def prepare(world):
        pass

    @staticmethod
    def act(world):
        world.banger.run("run", "--rm", "-q", "--vmm", "fake", "--name", "x", "--", "echo", "said")

    @staticmethod
    def verify(world, now):
        assert "x" not in now or now["x"]["auto_remove"]


class OfAStoppedVm:
    """The disk of a VM that is there is what it was."""

    @staticmethod
    def prepare(world):
        world.banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", "x", "--no-start")
        world.disk = world.banger.state_dir / "vms" / vms(world.banger)["x"]["id"] / "data.ext4"
        with world.disk.open("r+b") as disk:
            disk.write(b"work")

    @staticmethod
    def verify(world, now):
        with world.disk.open("rb") as disk:
            assert disk.read(4) == b"work"
        world.banger.ok("start", "x")
        assert world.banger.ok("exec", "x", "--", "echo", "up").out == "up\n"
        world.banger.ok("stop", "x")


class Start(OfAStoppedVm):
    @staticmethod
    def act(world):
        world.banger.run("start", "x")

    @staticmethod
    def verify(world, now):
        assert now["x"]["state"] in ("running", "stopped", "created")
        OfAStoppedVm.verify(world, now)


class Stop(OfAStoppedVm):
    @staticmethod
    def prepare(world):
        OfAStoppedVm.prepare(world)
        world.banger.ok("start", "x")

    @staticmethod
    def act(world):
        world.banger.run("stop", "x")

    @staticmethod
    def verify(world, now):
        vm = now["x"]
        # Nothing may take it for one that has died, and start it again.
        assert vm["state"] == "running" or (vm["state"], vm["reason"]) == ("stopped", "user")
        OfAStoppedVm.verify(world, now)


class Kill(Stop):
    @staticmethod
    def act(world):
        world.banger.run("stop", "--force", "x")


class Pause(Stop):
    """And resume. Whatever it says that it is, it goes on when it is told to."""

    @staticmethod
    def act(world):
        world.banger.run("pause", "x")
        world.banger.run("resume", "x")

    @staticmethod
    def verify(world, now):
        assert now["x"]["state"] in ("running", "paused")
        assert now["x"]["incarnation"] == 1
        world.banger.ok("resume", "x")
        assert world.banger.ok("exec", "x", "--", "echo", "up").out == "up\n"
        OfAStoppedVm.verify(world, now)


class Restart(Stop):
    @staticmethod
    def act(world):
        world.banger.run("restart", "x")

    @staticmethod
    def verify(world, now):
        vm = now["x"]
        assert vm["state"] == "running" or vm["reason"] in ("user", "start interrupted")
        OfAStoppedVm.verify(world, now)


class Change(OfAStoppedVm):
    """All of it or nothing."""

    @staticmethod
    def act(world):
        world.banger.run("vm", "set", "x", "--vcpus", "2", "--label", "a=b", "--description", "new")

    @staticmethod
    def verify(world, now):
        vm = now["x"]
        assert (vm["vcpus"], vm["labels"], vm["description"]) in \
            ((1, {}, ""), (2, {"a": "b"}, "new"))
        OfAStoppedVm.verify(world, now)


class ByItself:
    """A VM that has died starts again, one that nobody uses stops, one whose time is over goes."""

    names = ("dies", "idle", "old")

    @staticmethod
    def prepare(world):
        banger = world.banger
        for name in ByItself.names:
            banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", name)
        world.talk.signal(signal.SIGSTOP)
        world.kill_daemon()
        dies = fake_main_pids(banger)["dies"]
        os.kill(dies, signal.SIGKILL)
        banger.wait_gone(dies)
        with sqlite3.connect(banger.state_dir / "banger.db") as db:
            db.execute("UPDATE vm SET restart = 'always' WHERE name = 'dies'")
            db.execute("UPDATE vm SET auto_stop_after_ms = 1 WHERE name = 'idle'")
            db.execute("UPDATE vm SET expires_after_ms = 1, expires_ms = 1 WHERE name = 'old'")
        db.close()

    @staticmethod
    def act(world):
        """Until all of it is done, or the daemon is dead."""
        for name, until in (("dies", "running"), ("idle", "stopped"), ("old", "deleted")):
            world.banger.run("wait", "--until", until, name)

    @staticmethod
    def verify(world, now):
        assert now["dies"]["state"] == "running" and now["dies"]["incarnation"] >= 2
        assert (now["idle"]["state"], now["idle"]["reason"]) == ("stopped", "idle")
        assert "old" not in now


class Delete(Stop):
    """One that runs, and one that is stopped."""

    @staticmethod
    def prepare(world):
        Stop.prepare(world)
        world.banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", "y", "--no-start")

    @staticmethod
    def act(world):
        world.banger.run("rm", "--force", "x")
        world.banger.run("prune", "--stopped-for", "0")

    @staticmethod
    def verify(world, now):
        # Begun is done: the next daemon goes on with it. So what is there has lost no more than its
        # process.
        if "x" in now:
            assert now["x"]["state"] in ("running", "stopped")
            OfAStoppedVm.verify(world, now)
        if "y" in now:
            world.banger.ok("start", "y")


class Mend:
    """What a daemon finds that starts: a VM that runs, one that does not any more, one whose start,
    one whose creation and one whose deletion was interrupted, a VMM and a directory of nobody."""

    names = ("runs", "ended", "starts", "half", "deleted", "stray")

    @staticmethod
    def prepare(world):
        banger = world.banger
        for name in Mend.names:
            banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", name)
        world.ids = {name: vm["id"] for name, vm in vms(banger).items()}
        world.stray = fake_main_pids(banger)["stray"]
        world.talk.signal(signal.SIGSTOP)
        world.kill_daemon()
        ended = fake_main_pids(banger)["ended"]
        os.kill(ended, signal.SIGKILL)
        banger.wait_gone(ended)
        with sqlite3.connect(banger.state_dir / "banger.db") as db:
            db.execute("UPDATE vm SET state = 'starting' WHERE name IN ('starts', 'half')")
            db.execute("UPDATE object SET name = '', boot_id = '' WHERE kind = 'process' AND"
                       " vm_id = ?", (world.ids["starts"],))
            db.execute("UPDATE vm SET reason = 'creating' WHERE name = 'half'")
            db.execute("UPDATE vm SET state = 'stopped', reason = 'deleting' WHERE name = 'deleted'")
            db.execute("DELETE FROM object WHERE vm_id = ?", (world.ids["stray"],))
            db.execute("DELETE FROM vm_start WHERE vm_id = ?", (world.ids["stray"],))
            db.execute("DELETE FROM vm WHERE name = 'stray'")
        db.close()
        for path in (banger.state_dir / "vms" / world.ids["stray"]).iterdir():
            path.unlink()
        (banger.state_dir / "vms" / world.ids["stray"]).rmdir()
        (banger.runtime_dir / "vms" / STRAY).mkdir()
        (banger.runtime_dir / "vms" / "kvm-probe.0123456789ab").mkdir()

    @staticmethod
    def act(world):
        """Its start is all."""
        world.banger.run("daemon", "stop")

    @staticmethod
    def verify(world, now):
        assert set(now) == {"bystander", "runs", "ended", "starts"}
        assert now["runs"]["state"] == "running"
        assert now["ended"]["state"] == now["starts"]["state"] == "stopped"
        for name in ("ended", "starts"):
            world.banger.ok("start", name)
        assert world.banger.ok("exec", "runs", "--", "echo", "up").out == "up\n"
        world.banger.wait_gone(world.stray)


class Template:
    """A template is made, a VM forked from it, and it is deleted. There is it or it is not; what there
    is is whole, and can be made again."""

    @staticmethod
    def prepare(world):
        for made in world.banger.json("template", "list"):
            world.banger.ok("template", "delete", made["id"])

    @staticmethod
    def act(world):
        banger = world.banger
        banger.run("template", "create")
        banger.run("vm", "create", "-q", "--name", "fork")
        made = banger.run("template", "list", "-q").out.split()
        if made:
            banger.run("template", "delete", made[0])

    @staticmethod
    def verify(world, now):
        banger = world.banger
        made = [t["id"] for t in banger.json("template", "list")]
        assert [p.name for p in (banger.state_dir / "templates").iterdir()] == made
        banger.ok("template", "verify")
        made = banger.ok("template", "create").out.strip()
        banger.ok("vm", "create", "-q", "--name", "another")
        assert vms(banger)["another"]["start"]["template"] == made
        if "fork" in now:
            assert now["fork"]["state"] == "running"


class Pool:
    """A fork is kept ready, and becomes somebody's; the next daemon has none of an earlier one's."""

    config = FAKE_CONFIG.format(silence=20, slots=0)

    @staticmethod
    def prepare(world):
        world.banger.configure(Pool.config + "pool_size = 1\n")
        Template.prepare(world)

    @staticmethod
    def await_ready(world):
        """Until there is one, if there is a template at all."""
        deadline = time.monotonic() + 60 * SLOWNESS
        while time.monotonic() < deadline:
            result = world.banger.run("template", "list", "--format", "json")
            listed = json.loads(result.stdout) if result.returncode == 0 else None
            if listed == [] or (listed and listed[0]["ready"]):
                return
        raise AssertionError("no fork becomes ready")

    @staticmethod
    def act(world):
        banger = world.banger
        banger.run("template", "create")
        Pool.await_ready(world)
        banger.run("vm", "create", "-q", "--name", "fork")
        Pool.await_ready(world)

    @staticmethod
    def settle(world):
        """A daemon without pools removes what one with them had."""
        world.banger.run("daemon", "stop")
        world.banger.configure(Pool.config)

    @staticmethod
    def verify(world, now):
        world.banger.ok("template", "verify")
        if "fork" in now:
            assert now["fork"]["state"] == "running"
            assert now["fork"]["start"]["how"] in ("pool", "fork", "boot")


SCENARIOS = {"pool": Pool, "template": Template, "create": Create, "create to remove": CreateToRemove, "start": Start, "stop": Stop,
             "kill": Kill, "pause": Pause, "restart": Restart, "change": Change,
             "delete": Delete, "mend": Mend, "by itself": ByItself}


def clean(world):
    names = [n for n in vms(world.banger) if n != "bystander"]
    if names:
        world.banger.ok("rm", "--force", *names)


def passed_by(world, scenario):
    """{point: how often} in the scenario, without a crash."""
    scenario.prepare(world)
    world.start_daemon("?")
    scenario.act(world)
    _, log = world.daemon_ended()
    counts = collections.Counter(PASSED.findall(log))
    scenario.verify(world, world.check(scenario))
    clean(world)
    return counts


def crash_everywhere(world, scenario):
    counts = passed_by(world, scenario)
    assert counts
    for point, times in sorted(counts.items()):
        for n in range(1, times + 1):
            where = f"{point}:{n}"
            scenario.prepare(world)
            world.start_daemon(where)
            scenario.act(world)
            reached, log = world.daemon_ended()
            try:
                assert reached, "did not come by"
                scenario.verify(world, world.check(scenario))
                clean(world)
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(f"after a crash at {where}: {error}\n{log}") from error


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_crash_leaves_nothing_that_the_next_daemon_does_not_mend(make_banger, name):
    crash_everywhere(World(with_fake_qemu(fake_banger(make_banger))), SCENARIOS[name])


@pytest.mark.parametrize("name", ["create", "start", "stop", "kill", "restart", "delete"])
def test_crash_leaves_no_network_that_the_next_daemon_does_not_mend(make_banger, name):
    crash_everywhere(NetWorld(fake_banger_with_network(make_banger)), SCENARIOS[name])


def test_every_crash_point_is_reached(make_banger):
    points = points_of_the_sources()
    reached = set(passed_by(NetWorld(fake_banger_with_network(make_banger)), Restart))
    world = World(with_fake_qemu(fake_banger(make_banger)))
    for scenario in SCENARIOS.values():
        reached |= set(passed_by(world, scenario))
    # Has a test of its own below.
    assert reached | {"store.migrate"} == set(points)
    documented = json.loads(re.search(r"Crash points: (\d+)", (ROOT / "docs" / "HACKING.md")
                                      .read_text())[1])
    assert documented == len(set(points))


def test_crash_while_migrating_leaves_the_old_store_or_the_new(make_banger):
    banger = fake_banger(make_banger)
    store_of_version_2(banger)
    crashing = banger.spawn(program="bangerd", env={"BANGER_CRASH_AT": "store.migrate"})
    assert crashing.finish().returncode == -signal.SIGKILL
    with sqlite3.connect(banger.state_dir / "banger.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()
    banger.ok("ps")
    assert banger.ok("daemon", "verify-store").out == ""
    assert (banger.state_dir / "banger.db.v2").exists()
