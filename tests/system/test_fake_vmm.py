"""VMs of the fake VMM: what they do like real ones, what goes wrong in them on demand."""

import json
import os
import signal

import pytest
from banger import BUILD, SLOWNESS
from steps import (FAKE_PROGRAM, assert_error, assert_nothing_left, call, fake_banger, parent_pid,
                   vm_main_pid, vms, wait_vm)

RUN = ["run", "--rm", "-q", "--vmm", "fake", "--name", "x"]
CREATE = ["vm", "create", "-q", "--vmm", "fake", "--name", "x"]
PROGRAM = FAKE_PROGRAM


def faulty(fault):
    return ["--label", f"banger.fake={fault}"]


def end_left(banger):
    """No VM and no file of one, and then no process either."""
    assert_nothing_left(banger)
    for pid in banger.pids(PROGRAM):
        banger.wait_gone(pid)


def control(banger, text, name="x"):
    """Writes to the control FIFO of a VM."""
    path = banger.runtime_dir / "vms" / vms(banger)[name]["id"] / "control"
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, text)
    os.close(fd)


@pytest.fixture
def make_fake(make_banger):
    def make(silence=20, slots=0):
        return fake_banger(make_banger, silence, slots)

    return make


@pytest.fixture
def fake(make_fake):
    return make_fake()


# Like real ones -----------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_run_has_the_commands_output_and_status(fake):
    result = fake.run(*RUN, "--", "sh", "-c", "cat; echo out; echo err >&2; exit 7", stdin=b"in\n")
    assert (result.returncode, result.stdout, result.stderr) == (7, b"in\nout\n", b"err\n")
    end_left(fake)


def test_fake_vms_are_refused_by_a_daemon_that_is_not_for_tests(banger):
    result = banger.run(*RUN, "--", "true")
    assert_error(result, "isolate nothing", status=125, hint="--vmm qemu")
    assert_nothing_left(banger)


def test_no_template_is_made_of_a_fake_vm(fake):
    fake.ok("daemon", "stop")
    # Also where its program is found like any.
    result = fake.run("template", "create", "-q", "--vmm", "fake",
                      env={"PATH": f"{BUILD}:{os.environ['PATH']}"})
    assert_error(result, "VMs of 'fake' cannot be saved", hint="--vmm qemu")
    assert fake.json("template", "list") == [] and fake.daemon_pid()
    # Nor does one say where it might have come from.
    fake.ok(*CREATE)
    assert fake.json("vm", "show", "x")["start"] == {"how": "boot", "template": None, "why": None}


def test_fake_vm_says_that_it_isolates_nothing(fake):
    fake.ok(*CREATE)
    vm = fake.json("vm", "show", "x")
    assert vm["vmm"]["name"] == "fake"
    assert vm["vmm"]["accel"] == "none"
    assert "no isolation" in vm["vmm"]["why"]
    assert vm["vmm"]["version"] in fake.ok("version").out


def test_no_kernel_is_prepared_for_a_fake_vm(fake):
    before = sorted(os.listdir(fake.cache_dir)) if fake.cache_dir.exists() else []
    for path in fake.state_dir.glob("kernels/*/vmlinux"):
        path.unlink()
    fake.ok(*CREATE)
    assert sorted(os.listdir(fake.cache_dir)) == before
    assert fake.qemu_pids() == []


@pytest.mark.sanitize
def test_life_of_a_fake_vm(fake):
    fake.ok(*CREATE)
    assert vms(fake)["x"]["state"] == "running"
    assert fake.ok("exec", "x", "--", "echo", "one").out == "one\n"
    fake.ok("stop", "x")
    vm = vms(fake)["x"]
    assert (vm["state"], vm["reason"]) == ("stopped", "user")
    assert fake.pids(PROGRAM) == []
    fake.ok("start", "x")
    assert vms(fake)["x"]["incarnation"] == 2
    assert fake.ok("exec", "x", "--", "echo", "two").out == "two\n"
    assert "x boots" in fake.ok("logs", "x").out
    assert_error(fake.run("rm", "x"), "is running")
    fake.ok("rm", "--force", "x")
    end_left(fake)


def test_stop_ends_what_runs_in_a_fake_vm(fake):
    fake.ok(*CREATE)
    child = fake.spawn("exec", "x", "--", "sh", "-c", "trap 'echo told; exit 5' TERM HUP; "
                                                      "echo ready; sleep 1000 & wait")
    child.read_until(b"ready\n")
    fake.ok("stop", "x")
    result = child.finish()
    assert (result.returncode, result.stdout) == (5, b"ready\ntold\n"), repr(result)


def test_copy_into_and_out_of_a_fake_vm(fake):
    fake.ok(*CREATE)
    data = os.urandom(200000)
    (fake.home / "here").write_bytes(data)
    inside = fake.root / "there"
    fake.ok("cp", "here", f"x:{inside}")
    assert inside.read_bytes() == data
    fake.ok("cp", f"x:{inside}", "back")
    assert (fake.home / "back").read_bytes() == data


@pytest.mark.parametrize("how", ["stop", "force", "delete", "vmm killed"])
def test_nothing_outlives_a_fake_vm(fake, how):
    fake.ok(*CREATE)
    # The environment names the instance's directory: its list of processes has them.
    background = "sh -c 'echo up; exec sleep 1000 >&- 2>&- <&-'"
    child = fake.spawn("exec", "--env", f"MARK={fake.root}", "x", "--", "sh", "-c",
                       f"setsid {background} & {background} & read end")
    child.read_until(b"up\nup\n")
    child.send(b"\n")
    assert child.finish().returncode == 0
    # As in a guest, what goes on in the background does so until the VM ends.
    commands = [p.pid for p in fake.processes() if not p.program.startswith("banger")]
    assert len(commands) == 2
    left = commands + fake.pids(PROGRAM)
    if how == "stop":
        fake.ok("stop", "x")
    elif how == "force":
        fake.ok("stop", "--force", "x")
    elif how == "vmm killed":
        os.kill(vm_main_pid(fake), signal.SIGKILL)
        wait_vm(fake, "x", "stopped")
        assert vms(fake)["x"]["exit"] == {"code": None, "signal": signal.SIGKILL}
    else:
        fake.ok("rm", "--force", "x")
    for pid in left:
        fake.wait_gone(pid)


@pytest.mark.sanitize
def test_fake_vms_are_adopted_by_the_next_daemon(fake):
    fake.ok(*CREATE)
    pid = vm_main_pid(fake)
    fake.ok("daemon", "stop")
    assert fake.ok("exec", "x", "--", "echo", "one").out == "one\n"
    daemon = fake.daemon_pid()
    os.kill(daemon, signal.SIGKILL)
    fake.wait_gone(daemon)
    assert fake.ok("exec", "x", "--", "echo", "two").out == "two\n"
    assert vm_main_pid(fake) == pid
    assert vms(fake)["x"]["incarnation"] == 1
    # Nobody tells a process that is not its parent how it ended.
    os.kill(pid, signal.SIGKILL)
    wait_vm(fake, "x", "stopped")
    assert vms(fake)["x"]["exit"] is None


def test_adopted_fake_vms_can_be_ended_by_a_daemon_that_starts_none(fake):
    fake.ok(*CREATE)
    fake.ok("daemon", "stop")
    del fake.environment["BANGER_FAKE_VMM"]
    assert fake.ok("exec", "x", "--", "echo", "one").out == "one\n"
    fake.ok("stop", "x")
    assert_error(fake.run("start", "x"), "isolate nothing")
    fake.ok("rm", "x")
    end_left(fake)


@pytest.mark.deadline(300)
def test_two_hundred_creates_at_once_all_succeed(make_fake):
    fake = make_fake(slots=8)
    fake.ok("ps")
    count = 200
    with fake.rpc() as rpc:
        ids = [rpc.request("vm.create.begin", {"name": f"n{n}", "vmm": "fake"})
               for n in range(count)]
        replies = rpc_replies(rpc, ids)
        ids = [rpc.request("op.watch", {"op": reply["id"]}) for reply in replies]
        ended = rpc_replies(rpc, ids, timeout=240)
        assert {op["state"] for op in ended} == {"done"}, ended
        assert len(vms(fake)) == count
        assert {vm["state"] for vm in vms(fake).values()} == {"running"}
        assert len({vm["id"] for vm in vms(fake).values()}) == count
        ids = [rpc.request("vm.delete", {"vm": f"n{n}", "force": True}) for n in range(count)]
        rpc_replies(rpc, ids, timeout=240)
    end_left(fake)


def rpc_replies(rpc, ids, timeout=60):
    """The results of calls that were sent at once, in their order."""
    rpc.socket.settimeout(timeout * SLOWNESS)
    found = {}
    while len(found) < len(ids):
        reply = json.loads(rpc.read_line())
        if "id" in reply:
            assert "result" in reply, reply
            found[reply["id"]] = reply["result"]
    return [found[i] for i in ids]


# What goes wrong ----------------------------------------------------------------------------------

@pytest.mark.parametrize("fault, said", [
    ("exit@boot", "fake ended with status 3 while booting: told to exit at boot"),
    ("die@boot", "killed by signal 9 while booting"),
    ("exit@hello", "fake ended with status 3 while booting: told to exit at hello"),
    ("die@hello", "killed by signal 9 while booting"),
    ("die@configure", "killed by signal 9 while booting"),
    ("fatal", "the test wants it so"),
    ("garbage", "the agent"),
    ("name", "the guest is not who it is to be: its name"),
    ("nobody", "the guest is not who it is to be: its name"),
    ("machine-id", "the guest is not who it is to be: its machine-id"),
    ("clock", "the guest is not who it is to be: its clock"),
    ("half", "the guest is not who it is to be: what it says"),
    ("nonsense", "'nonsense' names no faults"),
    ("ignore@boot", "'ignore@boot' names no faults"),
])
def test_fault_at_boot_is_told_and_leaves_nothing(make_fake, fault, said):
    fake = make_fake(silence=2)
    result = fake.run(*RUN, *faulty(fault), "--", "true")
    assert_error(result, said, status=125, hint=False)
    end_left(fake)


@pytest.mark.parametrize("fault", ["hang@boot", "hang@hello", "deaf"])
def test_boot_that_hangs_is_tried_once_more_and_told(make_fake, fault):
    fake = make_fake(silence=1)
    result = fake.run(*RUN, *faulty(fault), "--", "true")
    assert_error(result, "went silent while booting", status=125)
    end_left(fake)


@pytest.mark.parametrize("fault", ["malformed", "unknown", "greedy", "backwards",
                                   "die@greeted", "die@configured", "die@exec", "exit@exec"])
def test_fault_of_a_command_is_told_and_leaves_nothing(fake, fault):
    assert_error(fake.run(*RUN, *faulty(fault), "--", "cat"), status=125, hint=False)
    wait_vm(fake, "x", "deleted")
    end_left(fake)


def test_agent_that_floods_holds_up_no_other_vm(fake):
    fake.ok(*CREATE, *faulty("flood"))
    fake.ok("vm", "create", "-q", "--vmm", "fake", "--name", "y")
    child = fake.spawn("exec", "x", "--", "true")
    for n in range(20):
        assert fake.ok("exec", "y", "--", "echo", str(n)).out == f"{n}\n"
    fake.ok("rm", "--force", "x", "y")
    assert_error(child.finish(), status=125, hint=False)
    end_left(fake)


@pytest.mark.sanitize
def test_vm_that_dies_under_a_command_is_told_and_can_be_started(fake):
    fake.ok(*CREATE, *faulty("wait@started,die@started"))
    child = fake.spawn("exec", "x", "--", "sh", "-c", "sleep 1000")
    session = None
    while not session:
        session = call(fake, "session.list", vm="x")
        assert child.process.poll() is None
    control(fake, b"go\n")
    assert_error(child.finish(), status=125, hint=False)
    wait_vm(fake, "x", "stopped")
    assert vms(fake)["x"]["reason"] == "vmm_died: killed by signal 9"
    fake.ok("start", "x")
    assert vms(fake)["x"]["state"] == "running"


@pytest.mark.sanitize
def test_slow_boot_goes_on_when_it_is_told_to(fake):
    fake.ok("ps")
    child = fake.spawn("vm", "create", "--vmm", "fake", "--name", "x", *faulty("wait@boot"))
    child.read_until(b"banger: boot...", "stderr")
    assert vms(fake)["x"]["state"] == "starting"
    control(fake, b"whatever\ngo\n")
    assert child.finish().returncode == 0
    log = fake.ok("logs", "x").out
    assert "waits at boot" in log and "goes on at boot" in log


@pytest.mark.sanitize
def test_cancel_cuts_through_a_slow_boot(fake):
    fake.ok("ps")
    child = fake.spawn("vm", "create", "--vmm", "fake", "--name", "x", *faulty("wait@boot"))
    child.read_until(b"banger: boot...", "stderr")
    child.signal(signal.SIGINT)
    assert child.finish().returncode == 130
    end_left(fake)


def test_forced_delete_cuts_through_a_slow_boot(fake):
    fake.ok("ps")
    child = fake.spawn("vm", "create", "--vmm", "fake", "--name", "x", *faulty("wait@hello"))
    child.read_until(b"banger: boot...", "stderr")
    fake.ok("rm", "--force", "x")
    assert child.finish().returncode == 1
    end_left(fake)


@pytest.mark.parametrize("fault", ["ignore@poweroff", "hang@poweroff"])
def test_vm_that_ignores_poweroff_keeps_running_until_it_is_forced(fake, fault):
    fake.ok(*CREATE, *faulty(fault))
    result = fake.run("stop", "--timeout", "500ms", "x")
    assert_error(result, "keeps running", hint="--force")
    assert vms(fake)["x"]["state"] == "running"
    fake.ok("stop", "--force", "x")
    assert vms(fake)["x"]["state"] == "stopped"


def test_vm_that_has_said_farewell_but_does_not_end_is_killed(fake):
    fake.ok(*CREATE, *faulty("hang@farewell"))
    fake.ok("stop", "x")
    assert vms(fake)["x"]["state"] == "stopped"
    assert fake.pids(PROGRAM) == []


def test_vm_that_dies_at_poweroff_is_stopped(fake):
    fake.ok(*CREATE, *faulty("die@poweroff"))
    assert_error(fake.run("stop", "x"), "before its guest had written everything", "vmm_died",
                 "signal 9", hint="synced")
    vm = vms(fake)["x"]
    assert (vm["state"], vm["reason"]) == ("stopped", "vmm_died: killed by signal 9")
    assert fake.pids(PROGRAM) == []
    fake.ok("start", "x")
    assert_error(fake.run("restart", "x"), "before its guest had written everything")
    assert vms(fake)["x"]["state"] == "stopped"
    fake.ok("rm", "x")
    child = fake.spawn("run", "--rm", "-q", "--vmm", "fake", "--name", "x", *faulty("die@poweroff"),
                       "--", "sh", "-c", "echo up; exec sleep 1000")
    child.read_until(b"up")
    assert_error(fake.run("stop", "x"), "before its guest had written everything")
    assert vms(fake) == {}
    assert child.finish().returncode == 125
