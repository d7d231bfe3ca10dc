"""What a daemon finds on its host: what is ours and should be gone is removed, at its start and when
asked; what is not ours, or may be somebody's work, is left alone."""

import json
import os
import signal

import pytest
from steps import assert_error, edit_store, fake_banger, kill_daemon, vm_main_pid, vm_files, vms

CREATE = ["vm", "create", "-q", "--vmm", "fake"]
FAKE = "banger-fakevmm"
STRANGER = "0123456789abcdef0123456789abcdef"
# Descriptor 3 listens, 4 is the console: what the program is started with.
EXEC_FAKE = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind("")
listener.listen(1)
os.dup2(1, 4)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def fake(make_banger):
    return fake_banger(make_banger)


def reconcile(banger, *flags):
    """What it tells; status 1 says that some of it is for people to mend."""
    result = banger.run("daemon", "reconcile", *flags, "--format", "json")
    found = json.loads(result.out)
    for_people = not flags and any(d["action"] == "none" or d["error"] for d in found)
    assert result.returncode == int(for_people), repr(result)
    return found


def brief(found):
    return sorted((d["object"].split()[0], d["vm"], d["action"]) for d in found)


@pytest.mark.sanitize
def test_nothing_is_told_when_all_is_well(fake):
    fake.ok(*CREATE, "--name", "up")
    fake.ok(*CREATE, "--name", "down")
    fake.ok(*CREATE, "--name", "new", "--no-start")
    fake.ok("stop", "down")
    assert reconcile(fake, "--dry-run") == []
    assert fake.ok("daemon", "reconcile").out == ""
    assert [vms(fake)[n]["state"] for n in ("up", "down", "new")] == ["running", "stopped", "created"]
    assert fake.ok("daemon", "verify-store").out == ""


@pytest.mark.sanitize
def test_process_that_no_vm_has_is_told_and_then_killed(fake):
    fake.ok(*CREATE, "--name", "kept")
    run_dir = fake.runtime_dir / "vms" / STRANGER
    run_dir.mkdir()
    # As a daemon leaves it that dies between the start of a VMM and the note of it.
    stray = fake.spawn_argv(["/usr/bin/python3", "-c", EXEC_FAKE, fake.program(FAKE), "stray", run_dir])
    stray.read_until(b"serves")
    told = reconcile(fake, "--dry-run")
    assert ("process", None, "kill") in brief(told) and ("directory", None, "remove") in brief(told)
    assert stray.process.poll() is None and run_dir.exists()
    assert brief(reconcile(fake)) == brief(told)
    assert stray.finish().returncode == -signal.SIGKILL and not run_dir.exists()
    assert reconcile(fake) == []
    assert fake.ok("exec", "kept", "--", "echo", "here").out == "here\n"


def test_program_that_only_reads_our_files_is_left_alone(fake):
    fake.ok(*CREATE, "--name", "x")
    run_dir = fake.runtime_dir / "vms" / STRANGER
    run_dir.mkdir()
    (run_dir / "file").touch()
    reader = fake.spawn_argv(["tail", "-f", str(run_dir / "file")])
    assert brief(reconcile(fake)) == [("directory", None, "remove")]
    assert reader.process.poll() is None
    reader.kill()


def test_disk_of_an_unknown_vm_is_told_and_kept(fake):
    fake.ok(*CREATE, "--name", "x")
    disk = fake.state_dir / "vms" / STRANGER / "data.ext4"
    disk.parent.mkdir()
    disk.write_text("work")
    found = reconcile(fake, "--dry-run")
    assert brief(found) == [("directory", None, "none")] and "kept" in found[0]["problem"]
    result = fake.run("daemon", "reconcile")
    assert result.returncode == 1 and "left as it is" in result.out
    kill_daemon(fake)
    fake.ok("ps")
    assert disk.read_text() == "work"
    disk.unlink()
    disk.parent.rmdir()


def test_disk_that_is_missing_is_told(fake):
    fake.ok(*CREATE, "--name", "x", "--no-start")
    (fake.state_dir / "vms" / vms(fake)["x"]["id"] / "data.ext4").unlink()
    assert brief(reconcile(fake)) == [("data", "x", "none")]


def test_what_is_being_worked_on_is_left_out(fake):
    child = fake.spawn("vm", "create", "--vmm", "fake", "--name", "slow", "--label",
                       "banger.fake=wait@boot")
    child.read_until(b"banger: boot...", "stderr")
    assert reconcile(fake) == []
    fake.ok("rm", "--force", "slow")
    assert child.finish().returncode == 1


@pytest.mark.sanitize
def test_process_of_a_vm_that_the_store_calls_stopped_is_ended(fake):
    fake.ok(*CREATE, "--name", "x")
    pid = vm_main_pid(fake)
    kill_daemon(fake)
    edit_store(fake, "UPDATE vm SET state = 'stopped'")
    edit_store(fake, "DELETE FROM object WHERE kind <> 'state_dir'")
    fake.ok("ps")
    fake.wait_gone(pid)
    assert vms(fake)["x"]["state"] == "stopped"
    assert list((fake.runtime_dir / "vms").iterdir()) == []
    fake.ok("start", "x")
    assert fake.ok("exec", "x", "--", "echo", "up").out == "up\n"


def test_process_that_nobody_noted_is_ended_before_its_vm_starts_again(fake):
    """A daemon that died between launch and note: the ledger has the intention only."""
    fake.ok(*CREATE, "--name", "x")
    pid = vm_main_pid(fake)
    kill_daemon(fake)
    edit_store(fake, "UPDATE vm SET state = 'starting'")
    edit_store(fake, "UPDATE object SET name = '', boot_id = '' WHERE kind = 'process'")
    fake.ok("ps")
    fake.wait_gone(pid)
    vm = vms(fake)["x"]
    assert (vm["state"], vm["reason"]) == ("stopped", "start interrupted")
    assert reconcile(fake) == []
    fake.ok("start", "x")


@pytest.mark.sanitize
def test_deletion_that_fails_says_what_remains_and_the_next_daemon_goes_on_with_it(fake):
    fake.ok(*CREATE, "--name", "x")
    directory = fake.state_dir / "vms" / vms(fake)["x"]["id"]
    directory.chmod(0o500)
    assert_error(fake.run("rm", "--force", "x"), "cannot remove its files", hint="next daemon")
    vm = vms(fake)["x"]
    assert vm["state"] == "error" and vm["reason"].startswith("deleting: cannot remove its files")
    assert brief(reconcile(fake, "--dry-run")) == [("vm", "x", "remove")]
    kill_daemon(fake)
    directory.chmod(0o700)
    fake.ok("ps")
    assert vms(fake) == {} and vm_files(fake) == []


def test_leftovers_of_a_test_of_kvm_are_removed(fake):
    fake.ok("ps")
    left = fake.runtime_dir / "vms" / "kvm-probe.0123456789ab"
    left.mkdir()
    (left / "console.log").touch()
    kill_daemon(fake)
    fake.ok("ps")
    assert not left.exists()


@pytest.mark.sanitize
def test_host_that_rebooted_has_no_running_vms_and_all_disks(banger):
    """With another boot id nothing of the last boot is there, whatever has its pid now."""
    instance = banger
    instance.environment["BANGER_FAKE_VMM"] = "1"
    for name in ("up", "down", "gone"):
        instance.ok(*CREATE, "--name", name, *(["--rm"] if name == "gone" else []))
    instance.ok("stop", "down")
    ids = {name: vm["id"] for name, vm in vms(instance).items()}
    kill_daemon(instance)
    for pid in instance.pids(FAKE):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        instance.wait_gone(pid)
    # The test's own process has the pid that the store noted.
    edit_store(instance, "UPDATE object SET name = ?, boot_id = 'of-an-earlier-boot'"
               " WHERE kind = 'process'", f"{os.getpid()}:1")
    instance.ok("ps")
    after = vms(instance)
    assert set(after) == {"up", "down"}
    assert (after["up"]["state"], after["up"]["reason"]) == ("stopped", "host_reboot")
    assert vm_files(instance) == sorted(f"s/vms/{ids[n]}" for n in ("up", "down"))
    instance.ok("start", "up")
    assert instance.ok("exec", "up", "--", "echo", "back").out == "back\n"


def test_store_that_verify_finds_wrong_is_told(fake):
    fake.ok(*CREATE, "--name", "x", "--no-start")
    fake.ok("daemon", "stop")
    edit_store(fake, "DELETE FROM object")
    result = fake.run("daemon", "verify-store")
    assert result.returncode == 1 and "VM x" in result.out, repr(result)


def test_real_vm_whose_daemon_died_before_the_note_is_ended_and_keeps_its_disk(banger):
    banger.ok("vm", "create", "-q", "--name", "x")
    banger.ok("exec", "x", "--", "sh", "-c", "echo kept >/root/file; sync")
    pid = banger.qemu_pids()[0]
    kill_daemon(banger)
    edit_store(banger, "UPDATE vm SET state = 'starting'")
    edit_store(banger, "UPDATE object SET name = '', boot_id = '' WHERE kind = 'process'")
    banger.ok("ps")
    banger.wait_gone(pid)
    banger.ok("start", "x")
    assert banger.ok("exec", "x", "--", "cat", "/root/file").out == "kept\n"
