"""What VMs do with nobody asking: start again, start with the host, stop when idle, expire."""

import json
import os
import re
import signal
import sqlite3
import time

import pytest
from steps import (assert_error, assert_nothing_left, call, edit_store, fake_banger, kill_daemon, sh,
                   sh_ok, vm_main_pid, vms, wait_vm)

CREATE = ["vm", "create", "-q", "--vmm", "fake", "--name"]
DIES_AT_BOOT = "banger.fake=die@boot"
HANGS_AT_BOOT = "banger.fake=hang@boot"


@pytest.fixture
def fake(make_banger):
    return fake_banger(make_banger, silence=60)


def kill_vmm(banger, name, real=False):
    """Its end, as by a bug of its own. Returns its pid."""
    pid = banger.qemu_pids()[0] if real else vm_main_pid(banger, name)
    os.kill(pid, signal.SIGKILL)
    banger.wait_gone(pid)
    return pid


def last_number(banger):
    return max([e["number"] for e in banger.json("events")], default=0)


def wait_event(banger, name, kind, since, reason=None):
    """The first such event after that number."""
    with banger.rpc() as rpc:
        rpc.request("events.subscribe", {"since": since})
        while True:
            event = json.loads(rpc.read_line()).get("params", {})
            if (event.get("name"), event.get("kind")) == (name, kind) and \
                    reason in (None, event["reason"]):
                return event


def kinds(banger, name, since=0):
    return [(e["kind"], e["reason"]) for e in banger.json("events", "--since", str(since))
            if e["name"] == name]


# Restart -------------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_vm_that_dies_is_started_again(fake):
    fake.ok(*CREATE, "a", "--restart", "on-failure")
    fake.ok(*CREATE, "plain")
    number = last_number(fake)
    kill_vmm(fake, "plain")
    kill_vmm(fake, "a")
    wait_event(fake, "a", "vm.running", number)
    vm = vms(fake)["a"]
    assert (vm["state"], vm["reason"], vm["incarnation"], vm["restart"], vm["restart_count"],
            vm["restart_at"]) == ("running", None, 2, "on-failure", 1, None)
    assert kinds(fake, "a", number) == [
        ("vm.stopped", "vmm_died: killed by signal 9"), ("vm.starting", None), ("vm.running", None)]
    assert fake.ok("exec", "a", "--", "echo", "up").out == "up\n"
    assert vms(fake)["plain"]["state"] == "stopped"
    # The user's word is the last one.
    fake.ok("stop", "a")
    vm = vms(fake)["a"]
    assert (vm["state"], vm["reason"], vm["restart_at"]) == ("stopped", "user", None)
    fake.ok("start", "a")
    fake.ok("kill", "a")
    assert (vms(fake)["a"]["state"], vms(fake)["a"]["restart_at"]) == ("stopped", None)
    # One that is started by hand begins anew.
    assert vms(fake)["a"]["restart_count"] == 0


def test_wait_for_the_next_start_is_told_grows_and_can_be_ended(fake):
    fake.ok(*CREATE, "a", "--restart", "on-failure")
    fake.ok("vm", "set", "a", "--label", DIES_AT_BOOT)
    number = last_number(fake)
    kill_vmm(fake, "a")
    for _ in range(2):
        number = wait_event(fake, "a", "vm.starting", number)["number"]
    failed = wait_event(fake, "a", "vm.stopped", number)
    assert failed["reason"].startswith("start failed: "), failed
    vm = vms(fake)["a"]
    assert vm["restart_count"] == 2
    since, at = (time.strptime(vm[k][:19], "%Y-%m-%dT%H:%M:%S") for k in ("state_since", "restart_at"))
    assert 3 <= time.mktime(at) - time.mktime(since) <= 5
    fake.ok("stop", "a")
    assert (vms(fake)["a"]["reason"], vms(fake)["a"]["restart_at"]) == ("user", None)
    # A start by hand that fails is the user's to see.
    assert fake.run("start", "a").returncode == 1
    vm = vms(fake)["a"]
    assert vm["reason"].startswith("start failed: ") and vm["restart_at"] is None
    fake.ok("vm", "set", "a", "--unlabel", "banger.fake")
    fake.ok("start", "a")


def test_restarts_in_a_row_have_a_limit(fake):
    fake.ok(*CREATE, "a", "--restart", "on-failure:1")
    number = last_number(fake)
    kill_vmm(fake, "a")
    number = wait_event(fake, "a", "vm.running", number)["number"]
    kill_vmm(fake, "a")
    wait_vm(fake, "a", "stopped")
    vm = vms(fake)["a"]
    assert (vm["restart_count"], vm["restart_at"]) == (1, None)
    # Another policy counts from now on.
    fake.ok("vm", "set", "a", "--restart", "on-failure:2")
    wait_event(fake, "a", "vm.running", number)
    fake.ok("vm", "set", "a", "--restart", "no")
    kill_vmm(fake, "a")
    wait_vm(fake, "a", "stopped")
    assert vms(fake)["a"]["restart_at"] is None


@pytest.mark.sanitize
def test_next_daemon_starts_what_has_died_without_one(fake):
    fake.ok(*CREATE, "a", "--restart", "always")
    fake.ok(*CREATE, "b")
    number = last_number(fake)
    kill_daemon(fake)
    kill_vmm(fake, "a")
    kill_vmm(fake, "b")
    fake.ok("ps")
    wait_event(fake, "a", "vm.running", number)
    assert vms(fake)["b"]["state"] == "stopped"
    # So does the one after a daemon that died while the VM waited for its turn.
    number = last_number(fake)
    kill_vmm(fake, "a")
    wait_vm(fake, "a", "stopped")
    kill_daemon(fake)
    fake.ok("ps")
    wait_event(fake, "a", "vm.running", number)


@pytest.mark.sanitize
def test_start_that_hangs_holds_up_neither_the_daemons_end_nor_the_user(fake):
    fake.ok(*CREATE, "a", "--restart", "always")
    fake.ok("vm", "set", "a", "--label", HANGS_AT_BOOT)
    number = last_number(fake)
    kill_vmm(fake, "a")
    number = wait_event(fake, "a", "vm.starting", number)["number"]
    fake.ok("daemon", "stop")
    fake.ok("ps")
    # It is still to be started.
    wait_event(fake, "a", "vm.starting", number)
    fake.ok("stop", "--force", "a")
    vm = vms(fake)["a"]
    assert (vm["state"], vm["reason"], vm["restart_at"]) == ("stopped", "user", None)
    fake.ok("rm", "a")
    assert_nothing_left(fake)


def test_policies_that_cannot_be_are_refused(fake):
    assert_error(fake.run(*CREATE, "a", "--restart", "sometimes"), "'sometimes'",
                 hint="on-failure:N")
    assert_error(fake.run(*CREATE, "a", "--rm", "--restart", "always"), "restart: ", "--rm")
    assert_error(fake.run(*CREATE, "a", "--rm", "--autostart"), "autostart: ", "--rm")
    assert_error(fake.run(*CREATE, "a", "--expires-after", "400d"), "--expires-after", "at most a year",
                 status=2)
    assert_error(fake.run(*CREATE, "a", "--auto-stop-after", "soon"), "--auto-stop-after", status=2)
    assert vms(fake) == {}
    fake.ok(*CREATE, "a", "--rm")
    assert_error(fake.run("vm", "set", "a", "--restart", "always"), "restart: ", "--rm")
    assert_error(fake.run("vm", "set", "a", "--autostart", "yes"), "autostart: ", "--rm")
    assert_error(fake.run("vm", "set", "a", "--autostart", "perhaps"), "--autostart", "yes|no", status=2)
    assert_error(fake.run("touch", "nobody"), "no VM 'nobody'")


def test_plan_of_a_change_tells_and_does_nothing(fake):
    fake.ok(*CREATE, "a", "--no-start")
    flags = ["--restart", "on-failure:3", "--autostart", "yes", "--auto-stop-after", "90m",
             "--expires-after", "7d"]
    before = vms(fake)["a"]
    plan = fake.json("vm", "set", "a", "--dry-run", *flags)
    assert {c["field"]: (c["from"], c["to"], c["applies"]) for c in plan["changes"]} == {
        "restart": ("no", "on-failure:3", "live"), "autostart": ("no", "yes", "live"),
        "auto_stop_after_ms": ("0", "5400000", "live"),
        "expires_after_ms": ("0", "604800000", "live")}
    assert plan["vm"] == before == vms(fake)["a"]
    fake.ok("vm", "set", "a", *flags)
    vm = vms(fake)["a"]
    assert (vm["restart"], vm["autostart"], vm["auto_stop_after_ms"], vm["expires_after_ms"]) == \
        ("on-failure:3", True, 5400000, 604800000)
    assert vm["expires_at"] > vm["created_at"]
    # All of it is the next daemon's.
    fake.ok("daemon", "stop")
    fake.ok("ps")
    assert vms(fake)["a"] == vm
    fake.ok("vm", "set", "a", "--restart", "no", "--autostart", "no", "--auto-stop-after", "0",
            "--expires-after", "0")
    assert vms(fake)["a"] == before


# A real guest --------------------------------------------------------------------------------------

@pytest.mark.deadline(300)
def test_real_guest_that_panics_comes_back_with_its_disk(banger):
    banger.ok("vm", "create", "-q", "--name", "a", "--restart", "on-failure")
    sh_ok(banger, "echo kept >/root/file; sync", vm="a")
    number = last_number(banger)
    sh(banger, "echo c >/proc/sysrq-trigger", vm="a")
    assert wait_event(banger, "a", "vm.stopped", number)["reason"] == "guest_panic"
    number = wait_event(banger, "a", "vm.running", number)["number"]
    assert sh_ok(banger, "cat /root/file", vm="a") == "kept\n"
    # A guest that goes down on purpose stays down, unless it is to be up always.
    sh(banger, "poweroff -f", vm="a")
    wait_vm(banger, "a", "stopped")
    assert (vms(banger)["a"]["reason"], vms(banger)["a"]["restart_at"]) == ("guest_poweroff", None)
    banger.ok("vm", "set", "a", "--restart", "always")
    wait_event(banger, "a", "vm.running", number)
    assert sh_ok(banger, "cat /root/file", vm="a") == "kept\n"
    starts = banger.json("vm", "timeline", "a")
    assert [s["incarnation"] for s in starts] == [1, 2, 3]
    assert all({"boot", "configure"} <= {p["phase"] for p in s["timeline"]} for s in starts)


@pytest.mark.deadline(300)
def test_real_guest_that_nobody_uses_is_stopped_in_order_and_keeps_what_it_wrote(banger):
    banger.ok("vm", "create", "-q", "--name", "a", "--auto-stop-after", "2s")
    # A command that nobody waits for is use as well. What it writes is not synced.
    call(banger, "session.start", vm="a", stdin="closed",
         command=["sh", "-c", "sleep 4; echo late >/root/file"])
    wait_vm(banger, "a", "stopped")
    assert vms(banger)["a"]["reason"] == "idle"
    banger.ok("vm", "set", "a", "--auto-stop-after", "0")
    banger.ok("start", "a")
    assert sh_ok(banger, "cat /root/file", vm="a") == "late\n"


# With the host -------------------------------------------------------------------------------------

def reboot_host(banger):
    """All processes are gone, and the next daemon is of another boot."""
    kill_daemon(banger)
    for pid in banger.pids("banger-fakevmm") + banger.qemu_pids():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        banger.wait_gone(pid)
    edit_store(banger, "UPDATE object SET boot_id = 'an earlier one' WHERE boot_id <> ''")
    edit_store(banger, "UPDATE vm SET host_boot = 'an earlier one'")


@pytest.mark.sanitize
def test_vms_start_with_the_host_once(fake):
    for name in ("up", "down", "fails"):
        fake.ok(*CREATE, name, "--autostart")
    fake.ok(*CREATE, "plain", "--restart", "always")
    fake.ok(*CREATE, "new", "--autostart", "--no-start")
    fake.ok("stop", "down")
    fake.ok("vm", "set", "fails", "--label", DIES_AT_BOOT)
    number = last_number(fake)
    reboot_host(fake)
    fake.ok("ps")
    for name in ("up", "down", "new"):
        wait_event(fake, name, "vm.running", number)
    failed = wait_event(fake, "fails", "vm.starting", number)["number"]
    assert wait_event(fake, "fails", "vm.stopped", failed)["reason"].startswith("start failed: ")
    assert (vms(fake)["plain"]["state"], vms(fake)["plain"]["reason"]) == ("stopped", "host_reboot")
    fake.ok("stop", "down")
    # Not with each daemon.
    fake.ok("daemon", "stop")
    number = last_number(fake)
    fake.ok(*CREATE, "last")
    now = vms(fake)
    assert {n: now[n]["state"] for n in ("up", "down", "new", "fails")} == {
        "up": "running", "down": "stopped", "new": "running", "fails": "stopped"}
    assert [e for e in fake.json("events", "--since", str(number)) if e["name"] != "last"] == []


def test_autostart_that_is_switched_on_counts_from_the_next_boot_on(fake):
    fake.ok(*CREATE, "a")
    fake.ok("stop", "a")
    reboot_host(fake)
    fake.ok("vm", "set", "a", "--autostart", "yes")
    fake.ok("daemon", "stop")
    number = last_number(fake)
    assert vms(fake)["a"]["state"] == "stopped"
    reboot_host(fake)
    fake.ok("ps")
    wait_event(fake, "a", "vm.running", number)


@pytest.mark.deadline(300)
def test_real_guests_start_with_the_host_are_touched_expire_and_are_pruned(banger):
    banger.ok("vm", "create", "-q", "--name", "a", "--autostart", "--expires-after", "1h")
    sh_ok(banger, "echo kept >/root/file; sync", vm="a")
    number = last_number(banger)
    reboot_host(banger)
    banger.ok("ps")
    wait_event(banger, "a", "vm.running", number)
    assert sh_ok(banger, "cat /root/file", vm="a") == "kept\n"
    before = vms(banger)["a"]["expires_at"]
    banger.ok("touch", "a")
    assert vms(banger)["a"]["expires_at"] > before
    banger.ok("vm", "set", "a", "--expires-after", "1ms")
    banger.ok("wait", "--until", "deleted", "a")
    assert banger.qemu_pids() == []
    banger.ok("vm", "create", "-q", "--name", "b")
    assert banger.json("prune", "--stopped-for", "0") == []  # it runs
    banger.ok("stop", "b")
    assert [p["name"] for p in banger.json("prune", "--stopped-for", "0")] == ["b"]
    assert_nothing_left(banger)


# Idle ----------------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_vm_is_stopped_when_nobody_uses_it_and_not_before(fake):
    fake.ok(*CREATE, "used", "--auto-stop-after", "500ms")
    talk = fake.spawn("exec", "-i", "used", "--", "cat")
    talk.send(b"hello\n")
    talk.read_until(b"hello\n")
    # Created later, stopped earlier.
    fake.ok(*CREATE, "unused", "--auto-stop-after", "1s", "--restart", "always")
    fake.ok("wait", "unused")
    assert vms(fake)["unused"]["reason"] == "idle"
    assert vms(fake)["unused"]["restart_at"] is None
    assert vms(fake)["used"]["state"] == "running"
    talk.send(b"still\n")
    talk.read_until(b"still\n")
    # Nor by the next daemon, before the agent has told it of the session.
    kill_daemon(fake)
    fake.ok("start", "unused")
    fake.ok("wait", "unused")
    talk.send(b"here\n")
    talk.read_until(b"here\n")
    talk.close_stdin()
    assert talk.finish().returncode == 0
    fake.ok("wait", "used")
    assert vms(fake)["used"]["reason"] == "idle"


@pytest.mark.sanitize
def test_vm_whose_sessions_are_not_known_is_left_alone(fake):
    """Its agent does not answer the next daemon: somebody may be at work in there."""
    fake.ok(*CREATE, "a", "--auto-stop-after", "1h")
    talk = fake.spawn("exec", "-i", "a", "--", "cat")
    talk.send(b"hello\n")
    talk.read_until(b"hello\n")
    pid = vm_main_pid(fake, "a")
    os.kill(pid, signal.SIGSTOP)
    talk.signal(signal.SIGSTOP)  # it would start a daemon of its own
    kill_daemon(fake)
    edit_store(fake, "UPDATE vm SET auto_stop_after_ms = 1")
    fake.ok("ps")
    while "cannot be told" not in (fake.state_dir / "bangerd.log").read_text():
        pass
    assert vms(fake)["a"]["state"] == "running"
    os.kill(pid, signal.SIGCONT)
    talk.signal(signal.SIGCONT)
    talk.send(b"still\n")
    talk.read_until(b"still\n")
    assert vms(fake)["a"]["state"] == "running"
    talk.close_stdin()
    assert talk.finish().returncode == 0


def test_vm_with_rm_that_nobody_uses_is_deleted(fake):
    fake.ok(*CREATE, "a", "--rm", "--auto-stop-after", "300ms")
    fake.ok("wait", "--until", "deleted", "a")
    assert_nothing_left(fake)


def test_idle_guest_that_does_not_go_down_can_be_ended_meanwhile(fake):
    fake.ok(*CREATE, "a", "--label", "banger.fake=ignore@poweroff", "--auto-stop-after", "300ms")
    wait_event(fake, "a", "vm.stopping", 0, reason="idle")
    fake.ok("kill", "a")
    assert vms(fake)["a"]["reason"] == "user"


# Expiry --------------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_vm_is_deleted_when_its_time_is_over(fake):
    fake.ok(*CREATE, "a", "--expires-after", "700ms")
    fake.ok(*CREATE, "stopped", "--expires-after", "10m", "--no-start")
    fake.ok(*CREATE, "kept", "--expires-after", "10m")
    fake.ok("wait", "--until", "deleted", "a")
    fake.ok("vm", "set", "stopped", "--expires-after", "1ms")
    fake.ok("wait", "--until", "deleted", "stopped")
    before = vms(fake)["kept"]["expires_at"]
    fake.ok("touch", "kept")
    assert vms(fake)["kept"]["expires_at"] > before
    # What was too late for one daemon is done by the next.
    fake.ok("daemon", "stop")
    edit_store(fake, "UPDATE vm SET expires_ms = 1 WHERE name = 'kept'")
    fake.ok("ps")
    fake.ok("wait", "--until", "deleted", "kept")
    assert_nothing_left(fake)


def test_expiry_can_be_taken_back(fake):
    fake.ok(*CREATE, "a", "--expires-after", "10m")
    fake.ok("vm", "set", "a", "--expires-after", "0")
    assert vms(fake)["a"]["expires_at"] is None
    fake.ok("touch", "a")
    assert vms(fake)["a"]["expires_at"] is None


# Starts --------------------------------------------------------------------------------------------

def test_each_start_is_kept_the_last_hundred(fake):
    fake.ok(*CREATE, "a", "--no-start")
    assert fake.json("vm", "timeline", "a") == []
    fake.ok("start", "a")
    fake.ok("restart", "a")
    fake.ok("pause", "a")
    fake.ok("resume", "a")
    starts = fake.json("vm", "timeline", "a")
    assert [s["incarnation"] for s in starts] == [1, 2]
    assert starts[-1]["timeline"] == vms(fake)["a"]["timeline"]
    assert starts[-1]["started_at"] == vms(fake)["a"]["started_at"]
    assert all(s["ms"] == sum(p["ms"] for p in s["timeline"]) for s in starts)
    table = fake.ok("vm", "timeline", "a").out.splitlines()
    assert table[0].split() == ["START", "STARTED", "ACCEL", "MS", "STEPS"] and len(table) == 3
    assert re.search(r"\bboot \d+", table[1]), table
    assert fake.ok("-q", "vm", "timeline", "a").out == "1\n2\n"
    fake.ok("daemon", "stop")
    edit_store(fake, "UPDATE vm SET incarnation = 101")
    edit_store(fake, "UPDATE vm_start SET incarnation = 3 WHERE incarnation = 2")
    fake.ok("ps")
    fake.ok("restart", "a")
    assert [s["incarnation"] for s in fake.json("vm", "timeline", "a")] == [3, 102]
    fake.ok("rm", "--force", "a")
    assert_error(fake.run("vm", "timeline", "a"), "no VM 'a'")
    fake.ok("daemon", "stop")
    with sqlite3.connect(fake.state_dir / "banger.db") as db:
        assert db.execute("SELECT count(*) FROM vm_start").fetchone() == (0,)
    db.close()
