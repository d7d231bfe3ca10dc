"""VMs and daemons that come and go: create, stop, start, delete, and what survives what."""

import os
import signal

import pytest
from banger import BUILD
from steps import (SHARED_VM, assert_error, assert_nothing_left, call, needs_root, never_boots,
                   own_programs, sh, sh_ok, vms, wait_vm)


@pytest.fixture
def running(banger):
    """One with a running VM named `one`."""
    banger.ok("vm", "create", "--quiet", "--name", "one")
    return banger


def qemu_pid(banger):
    pids = banger.qemu_pids()
    assert len(pids) == 1
    return pids[0]


# Stop and start -----------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_files_survive_stop_and_start_without_a_sync(running):
    random = "head -c 16 /dev/urandom | md5sum; cat /proc/sys/kernel/random/boot_id"
    first = sh_ok(running, "echo kept > /root/file; mv /home/user /home/moved; rm /etc/os-release;" +
                  random, vm="one")
    before = vms(running)["one"]
    assert before["incarnation"] == 1 and before["state"] == "running"
    running.ok("stop", "one")
    vm = vms(running)["one"]
    assert (vm["state"], vm["reason"], vm["exit"]["code"]) == ("stopped", "user", 0)
    assert running.qemu_pids() == []
    assert not list((running.runtime_dir / "vms").iterdir())
    running.ok("stop", "one")  # is fine twice

    assert_error(sh(running, "true", vm="one"), "not running", status=125, hint="banger start")
    assert running.ok("ps", "-q").out == ""

    running.ok("start", "one")
    running.ok("start", "one")
    vm = vms(running)["one"]
    assert (vm["state"], vm["reason"], vm["incarnation"]) == ("running", None, 2)
    second = sh_ok(running, random, vm="one")
    assert set(first.split()) & set(second.split()) <= {"-"}
    assert sh_ok(running, "cat /root/file; ls /home; hostname", vm="one") == "kept\nmoved\none\n"
    assert sh(running, "test -e /etc/os-release", vm="one").returncode == 1

    assert_error(running.run("vm", "delete", "one"), "is running", hint="--force")
    running.ok("vm", "delete", "--force", "one")
    assert_nothing_left(running)


def test_frozen_guest_is_not_killed_by_stop_but_by_force(running):
    pid = qemu_pid(running)
    os.kill(pid, signal.SIGSTOP)
    result = running.run("stop", "--timeout", "1s", "one")
    assert_error(result, "cannot stop 'one'", "keeps running", hint="--force")
    assert vms(running)["one"]["state"] == "running"
    os.kill(pid, signal.SIGCONT)
    # It was only asked too early: what it was asked for, it may do now.
    os.kill(pid, signal.SIGSTOP)
    running.ok("stop", "--force", "one")
    assert vms(running)["one"]["state"] == "stopped"
    assert running.qemu_pids() == []
    running.ok("start", "one")
    assert sh_ok(running, "echo alive", vm="one") == "alive\n"


def test_stop_ends_a_command_that_runs(running):
    child = running.spawn("exec", "one", "--", "sh", "-c", "echo ready; exec sleep 1000")
    child.read_until(b"ready\n")
    running.ok("stop", "one")
    result = child.finish()
    # Killed by the guest's own shutdown, or told that the VM is gone.
    assert result.returncode in (125, 129, 137, 143), repr(result)
    if result.returncode == 125:
        assert_error(result, status=125, hint=False)


def test_several_refs_proceed_past_one_that_fails(banger):
    for name in ("first", "second"):
        banger.ok("vm", "create", "-q", "--no-start", "--name", name)
    result = banger.run("rm", "first", "nothing", "second")
    assert_error(result, "cannot delete 'nothing'", "no VM 'nothing'", hint="banger ps -a")
    assert_nothing_left(banger)


def test_created_vm_starts_by_a_prefix_of_its_id(banger):
    assert banger.ok("vm", "create", "-q", "--no-start", "--name", "later").out == "later\n"
    vm = vms(banger)["later"]
    assert (vm["state"], vm["incarnation"], vm["started_at"]) == ("created", 0, None)
    banger.ok("vm", "start", vm["id"][:8])
    assert sh_ok(banger, "echo on", vm=vm["id"]) == "on\n"
    assert banger.json("vm", "inspect", vm["id"][:12])["state"] == "running"


def test_auto_remove_vm_goes_when_it_is_stopped(banger):
    banger.ok("vm", "create", "-q", "--rm", "--name", "short")
    banger.ok("stop", "short")
    assert_nothing_left(banger)


# Logs ---------------------------------------------------------------------------------------------

def test_console_of_a_vm_can_be_read_after_its_end(running):
    sh_ok(running, "echo 'from the guest' > /dev/console", vm="one")
    running.ok("stop", "one")
    assert "from the guest" in running.ok("logs", "one").out
    text = running.json("vm", "logs", "one", "--tail", "30")["text"]
    assert len(text) <= 30


# The daemon ---------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_vm_survives_a_stop_of_the_daemon(running):
    pid, daemon = qemu_pid(running), running.daemon_pid()
    sh_ok(running, "echo kept > /dev/shm/file", vm="one")
    running.ok("daemon", "stop")
    assert running.daemon_pid() is None
    assert not running.socket_path.exists()
    assert qemu_pid(running) == pid
    assert running.run("daemon", "status").returncode == 1
    # The next command starts the next daemon, which adopts.
    assert sh_ok(running, "cat /dev/shm/file", vm="one") == "kept\n"
    assert running.daemon_pid() not in (None, daemon)
    vm = vms(running)["one"]
    assert (vm["state"], vm["incarnation"]) == ("running", 1)
    assert qemu_pid(running) == pid
    running.ok("stop", "one")
    running.ok("rm", "one")
    assert_nothing_left(running)


@pytest.mark.sanitize
def test_vm_survives_a_killed_daemon(running):
    pid, daemon = qemu_pid(running), running.daemon_pid()
    os.kill(daemon, signal.SIGKILL)
    running.wait_gone(daemon)
    assert sh_ok(running, "echo adopted", vm="one") == "adopted\n"
    assert qemu_pid(running) == pid
    assert vms(running)["one"]["state"] == "running"
    running.ok("stop", "one")
    assert vms(running)["one"]["reason"] == "user"


def test_vm_that_died_without_a_daemon_is_stopped_for_the_next(running):
    running.ok("daemon", "stop")
    pid = qemu_pid(running)
    os.kill(pid, signal.SIGKILL)
    running.wait_gone(pid)
    vm = running.json("vm", "show", "one")
    assert (vm["state"], vm["reason"]) == ("stopped", "vmm_died")
    running.ok("start", "one")
    assert sh_ok(running, "echo again", vm="one") == "again\n"


def test_create_that_lost_its_daemon_leaves_nothing(make_banger):
    banger = never_boots(make_banger)
    child = banger.spawn("run", "--name", "half", "--", "true")
    child.read_until(b"banger: boot...", "stderr")
    daemon = banger.daemon_pid()
    os.kill(daemon, signal.SIGKILL)
    banger.wait_gone(daemon)
    assert child.finish().returncode == 125
    banger.ok("ps")
    assert_nothing_left(banger)


def test_start_that_lost_its_daemon_loses_nothing(banger):
    programs = own_programs(banger)
    banger.ok("run", "-q", "--name", "box", "--", "sh", "-c", "echo kept >/root/note")
    banger.ok("stop", "box")
    agent = (programs / "banger-agent").read_bytes()
    (programs / "banger-agent").write_bytes(
        (BUILD / "guest-broken_agent").read_bytes() + b" mode=silent")
    child = banger.spawn("start", "box")
    while not (vms(banger)["box"]["state"] == "starting" and banger.qemu_pids()):
        assert child.returncode is None
    daemon = banger.daemon_pid()
    os.kill(daemon, signal.SIGKILL)
    banger.wait_gone(daemon)
    assert child.finish().returncode == 1
    (programs / "banger-agent").write_bytes(agent)
    banger.ok("ps")
    assert vms(banger)["box"]["state"] == "stopped"
    assert banger.qemu_pids() == []
    banger.ok("start", "box")
    assert banger.ok("exec", "box", "--", "cat", "/root/note").out == "kept\n"


def test_second_daemon_is_refused_and_told_who_runs(shared):
    result = shared.run(program="bangerd")
    assert result.returncode == 1
    assert f"already running (pid {shared.daemon_pid()})" in result.err
    assert shared.daemon_pid() == call(shared, "daemon.status")["pid"]
    assert sh_ok(shared, "echo fine") == "fine\n"


def test_daemon_that_is_ending_is_waited_for(banger):
    """It has stopped listening, and still has its lock: SIGSTOP holds that moment."""
    banger.ok("ps")
    pid = banger.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    banger.socket_path.unlink()
    # It cannot start before that one has gone, and is not refused.
    ps = banger.spawn("ps")
    while len(banger.pids("bangerd")) < 2:
        assert ps.process.poll() is None, repr(ps.finish())
    os.kill(pid, signal.SIGKILL)
    result = ps.finish()
    assert result.returncode == 0, repr(result)
    assert banger.daemon_pid() != pid


def test_daemon_does_not_hold_the_callers_directory_or_terminal(shared):
    pid = shared.daemon_pid()
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid
    for fd in (0, 1, 2):
        assert os.readlink(f"/proc/{pid}/fd/{fd}") in \
            ("/dev/null", str(shared.state_dir / "bangerd.log"))


def test_many_first_commands_start_one_daemon(bare):
    children = [bare.spawn("daemon", "status") for _ in range(3)] + \
        [bare.spawn("ps") for _ in range(12)]
    results = [child.finish() for child in children]
    assert [r.returncode for r in results[3:]] == [0] * 12, results
    assert len(bare.pids("bangerd")) == 1


def test_directories_and_sockets_are_private(shared):
    assert shared.state_dir.stat().st_mode & 0o777 == 0o700
    assert shared.runtime_dir.stat().st_mode & 0o777 == 0o700
    assert shared.socket_path.stat().st_mode & 0o777 == 0o600
    for base in (shared.state_dir, shared.runtime_dir):
        for path in base.rglob("*"):
            if not path.is_symlink():
                # QEMU, which has a uid of its own, opens the kernel once more, by a descriptor.
                readable = 0o044 if path.name == "vmlinux" else 0
                assert path.stat().st_mode & 0o077 & ~readable == 0, path


@needs_root
def test_other_users_are_refused(shared):
    """The socket's directory keeps them out; the daemon looks at who asks as well."""
    for directory in (shared.root, shared.runtime_dir):
        directory.chmod(0o755)
    shared.socket_path.chmod(0o666)
    try:
        script = (f"import os, socket; os.setgid(65534); os.setuid(65534); "
                  f"s = socket.socket(socket.AF_UNIX); s.connect('{shared.socket_path}'); "
                  "s.sendall(b'{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.ping\"}\\n'); "
                  "print(s.recv(100))")
        done = shared.run("-c", script, program="/usr/bin/python3")
    finally:
        shared.root.chmod(0o700)
        shared.runtime_dir.chmod(0o700)
        shared.socket_path.chmod(0o600)
    assert done.stdout == b"b''\n" or "reset" in done.err or "Broken pipe" in done.err, repr(done)


def test_vm_wait_waits_for_what_it_is_told(banger):
    banger.ok("vm", "create", "-q", "--no-start", "--name", "watched")
    with banger.rpc() as rpc:
        running = rpc.request("vm.wait", {"vm": "watched", "until": "running"})
        deleted = rpc.request("vm.wait", {"vm": "watched", "until": "deleted"})
        assert rpc.call("daemon.ping")["result"] == {}
        banger.ok("start", "watched")
        assert f'"id":{running},' in rpc.read_line().decode().replace(" ", "")
        banger.ok("rm", "-f", "watched")
        assert f'"id":{deleted},' in rpc.read_line().decode().replace(" ", "")
    wait_vm(banger, "watched", "deleted")
    with banger.rpc() as rpc:
        error = rpc.call("vm.wait", {"vm": "watched", "until": "stopped"})["error"]
    assert error["data"]["code"] == "not_found"
    assert SHARED_VM not in vms(banger)
