"""Verbs on the same VMs at the same time: each is done or refused as a whole, and what is left is what
the daemon says there is."""

import concurrent.futures

import pytest
from steps import fake_banger, fake_main_pids, vms

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
