"""Verbs on the same VMs at the same time: each is done or refused as a whole, and what is left is what
the daemon says there is."""

import concurrent.futures
import os
import signal

import pytest
from steps import call, fake_banger, fake_main_pids, fake_mains, vms

NAMES = ["x", "y", "z"]
EXPECTED = {"not_found", "already_exists", "conflict", "cancelled", "not_running", "busy", "guest",
            "vmm"}


def one(banger, method, params):
    """The error's code, or None."""
    with banger.rpc() as rpc:
        reply = rpc.call(method, params)
        if "error" in reply:
            return reply["error"]["data"]["code"]
        if method == "vm.create.begin":
            ended = rpc.call("op.watch", {"op": reply["result"]["id"]})["result"]
            return ended["error"]["data"]["code"] if ended["error"] else None
        return None


@pytest.mark.sanitize
def test_stop_and_delete_race_start_and_create(make_banger):
    banger = fake_banger(make_banger)
    banger.ok("ps")
    work = []
    for _ in range(6):
        for name in NAMES:
            work += [("vm.create.begin", {"name": name, "vmm": "fake"}), ("vm.start", {"vm": name}),
                     ("vm.stop", {"vm": name}), ("vm.stop", {"vm": name, "force": True}),
                     ("vm.start", {"vm": name}), ("session.start", {"vm": name, "command": ["true"]}),
                     ("vm.delete", {"vm": name, "force": True}), ("vm.list", {}),
                     ("daemon.reconcile", {})]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        codes = list(pool.map(lambda job: one(banger, *job), work))
    assert {c for c in codes if c} <= EXPECTED
    # Nothing was forgotten by whoever came first.
    now = vms(banger)
    assert set(now) <= set(NAMES)
    running = {name for name, vm in now.items() if vm["state"] == "running"}
    assert {vm["state"] for vm in now.values()} <= {"running", "stopped", "created"}
    assert set(fake_main_pids(banger)) == running
    assert banger.ok("daemon", "reconcile", "--dry-run").out == ""
    assert banger.ok("daemon", "verify-store").out == ""
    for name in now:
        banger.ok("start", name)
        assert banger.ok("exec", name, "--", "echo", "up").out == "up\n"


# Pairs ----------------------------------------------------------------------------------------------

# How often each pair is raced; `make test-full` does it 50 times.
ROUNDS = int(os.environ.get("BANGER_RACE_ROUNDS", "1"))
STATES = ("running", "stopped", "paused")
STABLE = {"running", "stopped", "paused", "created"}


def dies(pair):
    """Its VMM's own end."""
    for _, pid in fake_mains(pair.banger):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        pair.banger.wait_gone(pid)


def by_id(method, **params):
    return lambda pair: pair.call(method, vm=pair.id, **params)


VERBS = {
    "create": lambda pair: pair.create(),
    "start": by_id("vm.start"),
    "stop": by_id("vm.stop"),
    "stop by force": by_id("vm.stop", force=True),
    "restart": by_id("vm.restart"),
    "restart by force": by_id("vm.restart", force=True),
    "signal": by_id("vm.kill", signal="TERM"),
    "delete": by_id("vm.delete"),
    "delete by force": by_id("vm.delete", force=True),
    "pause": by_id("vm.pause"),
    "resume": by_id("vm.resume"),
    "set": by_id("vm.set", memory_mib=256, labels={"a": "b"}, restart="on-failure:3"),
    "rename": lambda pair: pair.call("vm.set", vm=pair.id, name="other"),
    "touch": by_id("vm.touch"),
    "exec": by_id("session.start", command=["true"], stdin="closed"),
    "stats": by_id("vm.stats", interval_ms=10),
    "dies": dies,
}


class Pair:
    """Two verbs and the VM that both are about."""

    def __init__(self, banger):
        self.banger = banger
        self.id = None

    def call(self, method, **params):
        return one(self.banger, method, params)

    def create(self):
        return self.call("vm.create.begin", name="x", vmm="fake")

    def prepare(self, state):
        now = vms(self.banger)
        if "x" not in now:
            if now:
                self.banger.ok("rm", "--force", *now)
            assert self.create() is None
        self.id = vms(self.banger)["x"]["id"]
        # A rule that starts it again would do so at any moment.
        call(self.banger, "vm.set", vm="x", restart="no")
        call(self.banger, "vm.start", vm="x")
        if state != "running":
            call(self.banger, "vm.pause" if state == "paused" else "vm.stop", vm="x")

    def settled(self):
        """What there is once what died has been seen to have died."""
        while True:
            now = vms(self.banger)
            up = {name for name, vm in now.items() if vm["state"] in ("running", "paused")}
            if {vm["state"] for vm in now.values()} <= STABLE and \
                    len(fake_mains(self.banger)) == len(up):
                return now

    def check(self, what):
        now = self.settled()
        assert set(now) <= {"x", "other"}, what
        assert call(self.banger, "daemon.reconcile", dry_run=True) == [], what
        assert call(self.banger, "daemon.verify_store")["problems"] == [], what


@pytest.mark.sanitize
@pytest.mark.deadline(120 + 60 * ROUNDS)
@pytest.mark.parametrize("first", list(VERBS))
def test_any_two_verbs_at_once_are_each_done_or_refused(make_banger, first):
    banger = fake_banger(make_banger)
    banger.ok("ps")
    pair = Pair(banger)
    names = list(VERBS)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for number, second in enumerate(names[names.index(first):]):
            for turn in range(ROUNDS):
                state = STATES[(number + turn) % len(STATES)]
                what = (first, second, state)
                pair.prepare(state)
                order = (first, second) if turn % 2 == 0 else (second, first)
                codes = list(pool.map(lambda verb: VERBS[verb](pair), order))
                # A guest that is paused while it is asked cannot answer.
                expected = EXPECTED | ({"timeout"} if "pause" in what else set())
                assert {c for c in codes if c} <= expected, (what, codes)
                pair.check(what)
