"""What breaks: disks, QEMU, guests, agents, clients. The error says so, and nothing is left."""

import os
import shutil
import signal

import pytest
from banger import ROOT
from steps import (QUICK_BOOT, SHARED_VM, assert_daemon_ends, assert_error, assert_nothing_left,
                   broken_agent, call, needs_root, never_boots, own_programs, sh, sh_ok, vms,
                   wait_vm)

RUN = ["run", "--rm", "--name", "x"]


@pytest.fixture
def running(banger):
    """One with a running VM named `one`."""
    banger.ok("vm", "create", "--quiet", "--name", "one")
    return banger


def started(banger, *args):
    """A `run` whose guest boots: QEMU runs."""
    child = banger.spawn(*args)
    child.read_until(b"banger: boot...", "stderr")
    return child


def test_tools_of_the_system_need_not_be_in_the_path(bare, rootfs_tar, kernel_dir):
    bare.environment["PATH"] = "/usr/bin:/bin"  # as an ordinary user's
    bare.ok("kernel", "import", "k", str(kernel_dir))
    bare.ok("image", "register", "debian", str(rootfs_tar))
    bare.ok("vm", "create", "-q", "--no-start", "--name", "x")
    bare.ok("rm", "x")


# QEMU ---------------------------------------------------------------------------------------------

def test_missing_qemu_is_told_with_its_package(banger):
    # All but QEMU is there.
    mke2fs = shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin")
    (banger.home / "mke2fs").symlink_to(mke2fs)
    banger.environment["PATH"] = str(banger.home)
    result = banger.run(*RUN, "--", "true")
    assert_error(result, "qemu-system-x86_64", status=125, hint="apt-get install qemu-system-x86")
    assert_nothing_left(banger)


def test_qemu_that_does_not_start_gives_its_own_words(banger):
    # Static, so that it runs where there are QEMU's files alone, and does not know its name.
    shutil.copy2(ROOT / ".cache/busybox/bin/busybox", banger.home / "qemu-system-x86_64")
    banger.environment["PATH"] = f"{banger.home}:{banger.environment['PATH']}"
    result = banger.run(*RUN, "--", "true")
    assert_error(result, "ended with status 127 while booting",
                 "qemu-system-x86_64: applet not found", status=125, hint=False)
    assert_nothing_left(banger)


def test_qemu_killed_while_booting(make_banger):
    banger = never_boots(make_banger)
    child = started(banger, *RUN, "--", "true")
    os.kill(banger.qemu_pids()[0], signal.SIGKILL)
    assert_error(child.finish(), "killed by signal 9 while booting", status=125, hint=False)
    assert_nothing_left(banger)


@pytest.mark.sanitize
def test_qemu_killed_while_running(running):
    child = running.spawn("exec", "one", "--", "sh", "-c", "echo ready; exec sleep 1000")
    child.read_until(b"ready\n")
    os.kill(running.qemu_pids()[0], signal.SIGKILL)
    result = child.finish()
    assert_error(result, status=125, hint=False)
    assert result.stdout == b"ready\n"
    wait_vm(running, "one", "stopped")
    vm = vms(running)["one"]
    assert vm["reason"].startswith("vmm_died") and vm["exit"]["signal"] == 9, vm
    assert_error(sh(running, "true", vm="one"), "not running", status=125, hint="banger start")
    running.ok("start", "one")
    assert sh_ok(running, "echo again", vm="one") == "again\n"


# The guest ----------------------------------------------------------------------------------------

def test_kernel_panic_stops_the_vm_with_that_reason(running):
    child = running.spawn("exec", "one", "--", "sh", "-c", "echo ready; read x; "
                                                          "echo c > /proc/sysrq-trigger; sleep 100")
    child.read_until(b"ready\n")
    child.send(b"go\n")
    assert_error(child.finish(), status=125, hint=False)
    wait_vm(running, "one", "stopped")
    assert vms(running)["one"]["reason"] == "guest_panic"
    assert "sysrq triggered crash" in running.ok("logs", "one").out
    running.ok("start", "one")
    assert sh_ok(running, "echo again", vm="one") == "again\n"


def test_panic_of_the_guest_of_run_rm_removes_the_vm(banger):
    result = banger.run(*RUN, "-q", "--", "sh", "-c", "echo c > /proc/sysrq-trigger; sleep 100")
    assert_error(result, status=125, hint=False)
    wait_vm(banger, "x", "deleted")
    assert_nothing_left(banger)


def test_guest_without_enough_memory_to_boot_is_told_with_its_console(make_banger):
    banger = make_banger(config=QUICK_BOOT.format(silence=5, timeout=30))
    result = banger.run(*RUN, "-q", "--memory", "64", "--", "true")
    if result.returncode == 0:
        pytest.skip("this kernel boots in 64 MiB")
    assert_error(result, "console ends with", status=125, hint="--memory")
    assert_nothing_left(banger)


# Agents -------------------------------------------------------------------------------------------

@pytest.fixture
def broken(make_banger):
    """Makes one whose agent misbehaves: broken("silent")."""

    def make(mode, **times):
        return broken_agent(make_banger, mode, **times)

    return make


@pytest.mark.parametrize("mode", ["silent", "deaf"])
def test_guest_that_never_answers_is_tried_once_more_and_then_told(broken, mode):
    banger = broken(mode, silence=5)
    result = banger.run(*RUN, "--", "true")
    assert "banger: the guest went silent while booting: trying once more\n" in result.err
    assert result.err.count("banger: boot...") == 2
    error = result.err.splitlines()[-2:]
    assert result.returncode == 125
    assert "the guest went silent while booting (5 s)" in error[0]
    assert f"broken agent: {mode}" in error[0], error
    assert error[1].startswith("hint: ")
    assert_nothing_left(banger)


def test_guest_that_is_not_silent_but_never_ready_meets_the_deadline(broken):
    banger = broken("chatty", timeout=12)  # it must have come up that far, on a busy host too
    result = banger.run(*RUN, "--", "true")
    assert "trying once more" not in result.err
    assert_error(result, "did not come up within 12 s", "just a moment", status=125,
                 hint="banger logs")
    assert_nothing_left(banger)


def test_guest_that_greets_and_says_nothing_more_meets_the_clients_deadline(broken):
    banger = broken("dumb")
    result = banger.run(*RUN, "--timeout", "5s", "-q", "--", "true")
    assert_error(result, "not done within 5.0 s", status=125, hint="--timeout")
    assert_nothing_left(banger)


@pytest.mark.parametrize("mode, said", [
    ("exit", "the guest ended while booting"),
    ("garbage", "silent while booting"),
    ("fatal", "the test wants it so"),
    ("malformed", "malformed frame"),
    ("unknown", "frame type 99"),
])
def test_agent_that_breaks_the_protocol_while_booting(broken, mode, said):
    banger = broken(mode, silence=5)
    result = banger.run(*RUN, "-q", "--", "true")
    assert_error(result, said, status=125, hint="banger logs")
    assert b"\x1b" not in result.stderr
    assert_nothing_left(banger)
    assert call(banger, "daemon.ping") == {}


@pytest.mark.parametrize("mode, said", [
    pytest.param("greedy", "session bytes beyond the window", marks=pytest.mark.sanitize),
    ("backwards", "a window that goes backwards or too far"),
    pytest.param("gap", "session frames out of order", marks=pytest.mark.sanitize),
    ("late", "session frames out of order"),
    ("early-end", "session frames out of order"),
    ("early-exit", "session frames out of order"),
    ("inward", "session bytes beyond the window"),
    ("short", "a window that goes backwards or too far"),
    ("shrinking", "a window that goes backwards or too far"),
    ("status", "malformed session frame"),
    ("endless", "malformed frame"),
])
def test_agent_that_lies_about_a_session_loses_its_vm(broken, mode, said):
    banger = broken(mode)
    banger.ok("vm", "create", "-q", "--name", "liar")
    result = banger.run("exec", "liar", "--", "true")
    assert_error(result, said, status=125, hint=False)
    banger.ok("stop", "--force", "liar")
    assert vms(banger)["liar"]["state"] == "stopped"
    banger.ok("rm", "liar")
    assert_nothing_left(banger)


def test_agent_that_speaks_of_strangers_is_not_believed(broken):
    banger = broken("stranger")
    banger.ok("vm", "create", "-q", "--name", "liar")
    assert banger.ok("exec", "liar", "--", "true").stdout == b"fine\n"
    assert len(call(banger, "session.list", vm="liar")) == 1


def test_agent_that_floods_does_not_hold_the_daemon_up(broken):
    banger = broken("flood")
    banger.ok("vm", "create", "-q", "--name", "liar")
    child = banger.spawn("exec", "liar", "--", "true")
    for _ in range(20):
        assert call(banger, "daemon.ping") == {}
    banger.ok("rm", "--force", "liar")
    assert_error(child.finish(), status=125, hint=False)
    assert_nothing_left(banger)


def test_missing_agent_program_is_told(banger):
    (own_programs(banger) / "banger-agent").unlink()
    assert_error(banger.run(*RUN, "-q", "--", "true"), "cannot read the guest agent", status=125,
                 hint="install banger again")
    assert_nothing_left(banger)


def test_guests_root_cannot_write_to_the_agents_port(shared):
    script = "for port in /dev/vport*p*; do test -c $port; head -c 99 /dev/urandom > $port; done"
    result = sh(shared, script)
    assert result.returncode == 1 and "busy" in result.err, repr(result)
    assert sh_ok(shared, "echo fine") == "fine\n"


# Clients ------------------------------------------------------------------------------------------

@pytest.mark.sanitize
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_of_a_create_leaves_nothing(make_banger, number):
    banger = never_boots(make_banger)
    child = started(banger, "run", "--name", "x", "--", "true")
    child.signal(number)
    result = child.finish()
    assert_error(result, "cancelling", status=128 + number, hint=False)
    assert result.err.splitlines()[-1] == "banger: cancelled", result
    assert result.stdout == b""
    assert_nothing_left(banger)


def test_interrupt_of_a_terminal_cancels_a_create(make_banger):
    banger = never_boots(make_banger)
    child = banger.spawn("run", "--name", "x", "--", "true", tty=("stdin", "stdout", "stderr"))
    child.read_until(b"banger: boot ")
    child.send(b"\x03")
    assert child.finish().returncode == 130
    assert_nothing_left(banger)


@pytest.mark.sanitize
def test_killed_client_of_a_create_leaves_nothing(make_banger):
    banger = never_boots(make_banger)
    child = started(banger, "run", "--name", "x", "--", "true")
    child.kill()
    wait_vm(banger, "x", "deleted")
    assert_nothing_left(banger)
    # The VM is gone a moment before its operation has ended.
    operation = call(banger, "op.watch", op=call(banger, "op.list")[-1]["id"])
    assert (operation["state"], operation["target"]) == ("cancelled", "x"), operation


@pytest.mark.sanitize
def test_killed_client_of_run_rm_takes_the_vm_with_it(banger):
    child = banger.spawn(*RUN, "--", "sh", "-c", "echo ready; trap '' HUP TERM; sleep 1000")
    child.read_until(b"ready\n")
    child.kill()
    wait_vm(banger, "x", "deleted")
    assert_nothing_left(banger)


def test_killed_client_of_run_hangs_the_command_up_and_leaves_the_vm(banger):
    child = banger.spawn("run", "--name", "x", "--", "sh", "-c", "echo ready; exec sleep 1000")
    child.read_until(b"ready\n")
    child.kill()
    session = call(banger, "session.list", vm="x")[0]
    ended = call(banger, "session.wait", vm="x", session=session["id"])
    assert ended["exit"] == {"code": None, "signal": signal.SIGHUP}
    assert vms(banger)["x"]["state"] == "running"


def test_client_that_does_not_read_holds_up_nobody(shared):
    child = shared.spawn("exec", SHARED_VM, "--", "sh", "-c", "echo ready; exec cat /dev/zero")
    child.read_until(b"ready\n")
    assert sh(shared, "head -c 3000000 /dev/zero").stdout == bytes(3000000)
    child.kill()
    sh_ok(shared, "while pidof cat > /dev/null; do :; done")


# Many ---------------------------------------------------------------------------------------------

@pytest.mark.deadline(300)
def test_twenty_runs_at_once_all_succeed(banger):
    count = 20
    banger.ok("ps")
    children = [banger.spawn("run", "--rm", "-q", "--memory", "128", "--name", f"n{n}", "--", "sh",
                             "-c", f"hostname; head -c 16 /dev/urandom | md5sum; exit {n}")
                for n in range(count)]
    random = set()
    for child in children:
        child.close_stdin()
        child.process.stdin = None
    for n, child in enumerate(children):
        result = child.finish(timeout=280)
        assert result.returncode == n, repr(result)
        name, number, _ = result.out.split()
        assert name == f"n{n}"
        random.add(number)
    assert len(random) == count
    assert_nothing_left(banger)


@pytest.mark.sanitize
def test_fifty_commands_at_once_in_one_vm(shared):
    data = os.urandom(20000)
    children = [shared.spawn("exec", SHARED_VM, "--", "sh", "-c", f"cat; exit {n}")
                for n in range(50)]
    for child in children:
        child.send(data)
        child.close_stdin()
        child.process.stdin = None
    for n, child in enumerate(children):
        result = child.finish()
        assert result.returncode == n, repr(result)
        assert result.stdout == data and result.stderr == b""


# The host's disk ----------------------------------------------------------------------------------

@needs_root
def test_daemon_does_not_start_on_a_full_state_directory(banger, namespace):
    shutil.rmtree(banger.state_dir)
    banger.state_dir.mkdir(mode=0o700)
    full = ('mount -t tmpfs -o size=16k,mode=700 none "$S"; '
            'cat /dev/zero > "$S/fill" 2>/dev/null || :')
    status, out, err = namespace.run(full, "ps")
    assert (status, out) == (1, "")
    lines = err.splitlines()
    assert lines[0].startswith("banger: ") and lines[1].startswith("hint: "), err
    assert "No space left" in lines[0], err
    assert_daemon_ends(banger)


@needs_root
def test_daemon_does_not_start_on_a_read_only_state_directory(banger, namespace):
    status, out, err = namespace.run(
        'mount --bind "$S" "$S"; mount -o remount,ro,bind "$S"', "ps")
    assert (status, out) == (1, "")
    lines = err.splitlines()
    assert lines[0].startswith("banger: ") and "Read-only" in lines[0], err
    assert lines[1].startswith("hint: "), err
    # The log existed: then it is the daemon that finds out.
    banger.ok("ps")
    banger.ok("daemon", "stop")
    status, out, err = namespace.run(
        'mount --bind "$S" "$S"; mount -o remount,ro,bind "$S"', "ps")
    assert status == 1 and "ead-only" in err, err
    assert_daemon_ends(banger)


def test_state_directory_that_cannot_be_made_is_told(bare):
    file = bare.root / "file"
    file.write_text("")
    bare.environment["BANGER_STATE_DIR"] = str(file / "below")
    result = bare.run("ps")
    assert_error(result, str(file), hint="BANGER_STATE_DIR")
    assert_daemon_ends(bare)
