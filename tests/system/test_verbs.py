"""Verbs on VMs, one and several at a time: restart, kill, pause, resume, wait."""

import os
import shutil
import signal

import pytest
from banger import BUILD
from steps import (assert_error, assert_nothing_left, call, fake_banger, fake_main_pids,
                   own_programs, sh_ok, vms, wait_vm)

HANG = "banger.fake=hang@boot"


@pytest.fixture
def fake(make_banger):
    return fake_banger(make_banger, silence=300)


def create(banger, *names, flags=()):
    for name in names:
        banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", name, *flags)


def states(banger):
    return {name: vm["state"] for name, vm in vms(banger).items()}


# Several ------------------------------------------------------------------------------------------

def test_a_vm_that_hangs_does_not_hold_up_the_others(fake):
    create(fake, "a", "b", flags=["--no-start"])
    create(fake, "hung", flags=["--no-start", "--label", HANG])
    child = fake.spawn("start", "hung", "a", "b")
    wait_vm(fake, "a", "running")
    wait_vm(fake, "b", "running")
    assert states(fake)["hung"] == "starting"
    fake.ok("kill", "hung")
    result = child.finish()
    assert_error(result, "cannot start 'hung'", hint=False)
    assert states(fake) == {"a": "running", "b": "running", "hung": "stopped"}


@pytest.mark.sanitize
def test_what_is_named_twice_is_done_once(fake):
    create(fake, "a", "b")
    ids = {name: vm["id"] for name, vm in vms(fake).items()}
    shown = fake.json("vm", "show", "b", ids["a"], "a", ids["b"][:14], "b")
    assert [vm["name"] for vm in shown] == ["b", "a"]
    restarted = fake.json("restart", "a", ids["a"][:14], "b")
    assert [(vm["name"], vm["incarnation"]) for vm in restarted] == [("a", 2), ("b", 2)]
    # Deleted once: a second time would be an error.
    fake.ok("rm", "--force", "a", "b", ids["a"], "b")
    assert_nothing_left(fake)


def test_errors_come_in_the_order_of_the_names(fake):
    create(fake, "a", "b")
    result = fake.run("vm", "show", "no", "b", "nix", "a", "--format", "json")
    errors = [line for line in result.err.splitlines() if line.startswith("banger: ")]
    assert [line.split("'")[1] for line in errors] == ["no", "nix"]
    assert result.returncode == 1
    assert [vm["name"] for vm in fake.json("vm", "show", "b", "a")] == ["b", "a"]


def test_more_vms_than_a_connection_may_ask_for_at_once(fake):
    names = [f"v{i}" for i in range(300)]
    fake.ok("ps")
    for name in names:
        call(fake, "op.watch", op=call(fake, "vm.create.begin", name=name, vmm="fake",
                                       start=False)["id"])
    assert [vm["name"] for vm in fake.json("vm", "show", *names)] == names
    fake.ok("rm", *names, timeout=300)
    assert_nothing_left(fake)


# Restart ------------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_restart_keeps_the_disk_and_boots_anew(banger):
    banger.ok("vm", "create", "-q", "--name", "one")
    sh_ok(banger, "echo kept >/root/file; echo gone >/dev/shm/file", vm="one")
    banger.ok("restart", "one")
    assert sh_ok(banger, "cat /root/file; ls /dev/shm", vm="one") == "kept\n"
    vm = vms(banger)["one"]
    assert (vm["state"], vm["reason"], vm["incarnation"]) == ("running", None, 2)
    banger.ok("stop", "one")
    banger.ok("restart", "one")  # one that is stopped is started
    assert vms(banger)["one"]["incarnation"] == 3


def test_end_of_the_run_before_is_not_taken_for_that_of_the_next(banger):
    banger.ok("vm", "create", "-q", "--name", "one")
    banger.ok("restart", "one")
    # Whoever looks after an end has waited for the restart, and does so before the next one.
    banger.ok("vm", "set", "one", "--description", "behind it")
    vm = vms(banger)["one"]
    assert (vm["state"], vm["reason"]) == ("running", None)
    assert "agent_lost" not in (banger.state_dir / "bangerd.log").read_text()


def test_restart_does_not_delete_what_goes_when_it_stops(fake):
    create(fake, "short", flags=["--rm"])
    assert_error(fake.run("restart", "short"), "deleted when it stops", hint="without --rm")
    assert states(fake) == {"short": "running"}


def test_restart_by_force_cuts_through_a_boot(fake):
    create(fake, "hung", flags=["--no-start", "--label", HANG])
    child = fake.spawn("start", "hung")
    wait_hung = fake.spawn("restart", "--force", "hung")
    assert_error(child.finish(), "cannot start 'hung'", hint=False)
    fake.ok("kill", "hung")  # and that one hangs again
    assert wait_hung.finish().returncode == 1
    assert states(fake) == {"hung": "stopped"}


# Kill ---------------------------------------------------------------------------------------------

def test_kill_ends_a_vm_at_once(fake):
    create(fake, "a", "b")
    vm = fake.json("kill", "a")
    assert (vm["state"], vm["reason"]) == ("stopped", "user")
    assert list(fake_main_pids(fake)) == ["b"]
    create(fake, "short", flags=["--rm"])
    assert fake.json("kill", "short") is None
    assert states(fake) == {"a": "stopped", "b": "running"}


@pytest.mark.parametrize("name", ["TERM", "SIGTERM", "term", "15"])
def test_kill_sends_the_main_session_a_signal(fake, name):
    child = fake.spawn("run", "-q", "--vmm", "fake", "--name", "a", "--", "sh", "-c",
                       "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    child.read_until(b"ready\n")
    fake.ok("kill", "--signal", name, "a")
    result = child.finish()
    assert (result.returncode, result.out) == (3, "ready\ntold\n")
    assert states(fake) == {"a": "running"}


def test_signal_without_a_session_or_a_meaning_is_an_error(fake):
    create(fake, "a")
    assert_error(fake.run("kill", "-s", "HUP", "a"), "no main session", hint="--signal")
    for name in ("nonsense", "0", "65", "-1", "SIG", "15x", "999999999999"):
        assert_error(fake.run("kill", f"--signal={name}", "a"), f"'{name}'", hint="kill -l")
    assert states(fake) == {"a": "running"}
    fake.ok("stop", "a")
    assert_error(fake.run("kill", "-s", "TERM", "a"), "not running", hint="banger start")


# Pause and resume ---------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_paused_guest_stands_still_and_goes_on(banger):
    banger.ok("vm", "create", "-q", "--name", "one")
    child = banger.spawn("exec", "one", "--", "sh", "-c",
                         "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")
    child.read_until(b"\n3\n")
    banger.ok("pause", "one")
    banger.ok("pause", "one")
    vm = vms(banger)["one"]
    assert (vm["state"], vm["reason"]) == ("paused", "user")
    assert_error(banger.run("exec", "one", "--", "true"), "'one' is paused", status=125,
                 hint="banger resume one")
    with banger.rpc() as rpc:
        assert rpc.call("vm.ping", {"vm": "one"})["error"]["data"]["code"] == "not_running"
    # Its CPUs take no time any more.
    (pid,) = banger.qemu_pids()
    before = cpu_time(pid)
    for _ in range(50):
        banger.ok("vm", "show", "one")
    assert cpu_time(pid) - before <= 0.05
    banger.ok("resume", "one")
    banger.ok("resume", "one")
    vm = vms(banger)["one"]
    assert (vm["state"], vm["reason"]) == ("running", None)
    child.read_until(b"\n8\n")
    child.signal(signal.SIGINT)
    child.finish()
    assert sh_ok(banger, "echo well", vm="one") == "well\n"


def cpu_time(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.sanitize
@pytest.mark.parametrize("how", [["stop"], ["kill"], ["stop", "--force"], ["rm", "--force"],
                                 ["restart"], ["start"]])
def test_paused_vm_can_be_ended_and_started(fake, how):
    create(fake, "a")
    fake.ok("pause", "a")
    fake.ok(*how, "a")
    expected = {"rm": {}, "restart": {"a": "running"}, "start": {"a": "running"}}
    assert states(fake) == expected.get(how[0], {"a": "stopped"})
    for name in states(fake):
        fake.ok("start", name)
        assert fake.ok("exec", name, "--", "echo", "up").out == "up\n"


def test_paused_guest_stops_in_order(banger):
    banger.ok("vm", "create", "-q", "--name", "one")
    sh_ok(banger, "echo kept >/root/file", vm="one")
    banger.ok("pause", "one")
    banger.ok("stop", "one")
    banger.ok("start", "one")
    assert sh_ok(banger, "cat /root/file", vm="one") == "kept\n"


@pytest.mark.sanitize
def test_paused_vm_stays_paused_for_the_next_daemon(banger):
    banger.ok("vm", "create", "-q", "--name", "one")
    child = banger.spawn("exec", "-i", "one", "--", "cat")
    child.send(b"before\n")
    child.read_until(b"before\n")
    banger.ok("pause", "one")
    pid = banger.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    banger.wait_gone(pid)
    banger.ok("ps")
    vm = vms(banger)["one"]
    assert (vm["state"], vm["reason"]) == ("paused", "user")
    assert_error(banger.run("exec", "one", "--", "true"), "is paused", status=125)
    assert banger.ok("daemon", "reconcile").out == ""
    banger.ok("resume", "one")
    child.send(b"after\n")
    child.read_until(b"after\n")
    child.close_stdin()
    assert child.finish().returncode == 0


def test_what_does_not_run_is_not_paused(fake):
    create(fake, "a", flags=["--no-start"])
    for verb in ("pause", "resume"):
        assert_error(fake.run(verb, "a"), f"cannot {verb} 'a'", "not running", hint="banger start")
    assert states(fake) == {"a": "created"}


# Wait ---------------------------------------------------------------------------------------------

def test_wait_ends_when_all_are_stopped(fake):
    create(fake, "a", "b")
    child = fake.spawn("wait", "a", "b")
    fake.ok("stop", "a")
    fake.ok("stop", "b")
    assert child.finish().returncode == 0
    fake.ok("wait", "a", "b")
    assert_error(fake.run("wait", "--until", "running", "--timeout", "50ms", "a"),
                 "cannot wait for 'a'", "still stopped", hint=False)
    fake.ok("wait", "--until", "deleted", "nothing")


# Prune ----------------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_prune_deletes_what_was_stopped_long_enough_and_tells_it(fake):
    create(fake, "runs", "stopped", "waits")
    create(fake, "new", flags=["--no-start"])
    create(fake, "starts", flags=["--no-start", "--autostart"])
    fake.ok("stop", "stopped", "waits")
    fake.ok("start", "waits")
    # None has been stopped for a day.
    assert fake.json("prune") == []
    plan = fake.json("prune", "--stopped-for", "0", "--dry-run")
    assert [(p["name"], p["state"], p["error"]) for p in plan] == [
        ("stopped", "stopped", None), ("new", "created", None)]
    assert plan[0]["bytes"] > plan[1]["bytes"] == 0  # a log; and a disk that is one hole
    assert len(vms(fake)) == 5
    assert fake.ok("prune", "--stopped-for", "0").out.splitlines()[1].split()[1] == "stopped"
    assert set(vms(fake)) == {"runs", "waits", "starts"}
    assert fake.json("prune", "--stopped-for", "0") == []
    fake.ok("rm", "--force", "runs", "waits", "starts")
    assert_nothing_left(fake)


def test_prune_leaves_alone_what_somebody_works_on(fake):
    create(fake, "a", flags=["--no-start", "--label", HANG])
    starting = fake.spawn("start", "a")
    while states(fake)["a"] != "starting":
        pass
    assert fake.json("prune", "--stopped-for", "0") == []
    starting.signal(signal.SIGINT)
    assert starting.finish().returncode != 0


# Images and VMs --------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_stalled_image_and_stalled_boot_hold_up_nothing(make_banger, kernel_dir, rootfs_tar):
    """Whoever makes an image, and whoever boots, waits for nobody but himself."""
    banger = fake_banger(make_banger, silence=600)
    programs = own_programs(banger)
    shutil.copy2(BUILD / "banger-fakevmm", programs / "banger-fakevmm")
    (programs / "banger-mkroot").unlink()
    (programs / "banger-mkroot").write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    (programs / "banger-mkroot").chmod(0o755)
    banger.ok("ps")
    stalled = [call(banger, "image.register.begin", name="stalled", path=str(rootfs_tar))["id"],
               call(banger, "vm.create.begin", name="hangs", vmm="fake",
                    labels={"banger.fake": "hang@boot"})["id"]]
    while [call(banger, "op.status", op=op)["stage"] for op in stalled] != ["unpack", "boot"]:
        pass
    # Each of these would have to wait for one of the two, if there were a lock to wait for.
    create(banger, "a")
    banger.ok("exec", "a", "--", "true")
    banger.ok("vm", "set", "a", "--label", "x=y")
    banger.ok("restart", "a")
    banger.ok("kernel", "import", "-q", "another", str(kernel_dir))
    assert {vm["name"]: vm["state"] for vm in banger.json("ps")} == {"a": "running", "hangs": "starting"}
    assert banger.json("image", "list") and banger.json("kernel", "list")
    banger.ok("daemon", "reconcile")
    banger.ok("rm", "--force", "a")
    assert [call(banger, "op.status", op=op)["state"] for op in stalled] == ["running", "running"]
    for op in stalled:
        banger.ok("op", "cancel", op)
        assert banger.run("op", "wait", op).returncode == 1
    assert vms(banger) == {}
    assert_nothing_left(banger)
