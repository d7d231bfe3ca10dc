"""Whose files and processes they are."""

import os
import subprocess

import pytest
from steps import (NOBODY, assert_error, assert_nothing_left, call, needs_root, own_programs, start,
                   uids, wait_vm, without_root, wrap_for_nobody)


def files(banger):
    """{path: uid}"""
    return {path: os.lstat(path).st_uid for top, dirs, names in os.walk(banger.root)
            for path in (os.path.join(top, name) for name in dirs + names)}


def give_to_nobody(banger):
    # The kernel lets nobody look into a process that has changed its uid, LeakSanitizer neither.
    banger.environment["ASAN_OPTIONS"] = banger.environment.get("ASAN_OPTIONS", "") + \
        ":detect_leaks=0"
    # Anybody may reach the programs, wherever the tree lies.
    own_programs(banger)
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", banger.root], check=True)


def assert_split(banger):
    """Root is in the helper alone, and no file is root's."""
    assert uids(banger.daemon_pid()) == {NOBODY}
    (helper,) = banger.pids("banger-helper")
    assert uids(helper) == {0}
    for pid in banger.qemu_pids():
        assert not uids(pid) & {0, NOBODY}
    assert [path for path, uid in files(banger).items() if uid != NOBODY] == []


@needs_root
def test_under_sudo_everything_but_the_helper_is_the_users(banger):
    give_to_nobody(banger)
    banger.environment["SUDO_UID"] = str(NOBODY)
    child = banger.spawn("run", "--rm", "--name", "mine", "--", "sh", "-c", "echo up; sleep 1000")
    child.read_until(b"up\n")
    assert_split(banger)
    # The command, too, can but go back to start a daemon.
    assert uids(child.pid) == {NOBODY, 0}
    assert call(banger, "daemon.status")["helper"] == {"mode": "root helper"}
    child.kill()
    wait_vm(banger, "mine", "deleted")
    assert_nothing_left(banger)


@needs_root
@pytest.mark.parametrize("owner", [str(NOBODY), "nobody"])
def test_daemon_that_root_starts_for_an_owner_is_the_owners(banger, owner):
    give_to_nobody(banger)
    banger.spawn("--owner", owner, "--debug", program="bangerd").read_until(b"listens", "stderr")
    banger.environment["SUDO_UID"] = str(NOBODY)
    start(banger, "one")
    assert_split(banger)


def test_owners_that_cannot_be_are_refused(bare):
    result = bare.run("--owner", "no-such-user", program="bangerd")
    assert result.returncode == 2 and "no user 'no-such-user'" in result.err, result


@needs_root
def test_an_ordinary_user_is_nobody_elses_owner(bare):
    without_root(bare)
    result = bare.run("--owner", "0", program="bangerd")
    assert result.returncode == 2 and "only root" in result.err, result


@needs_root
def test_a_client_under_sudo_goes_on_with_a_daemon_that_has_root_again(banger):
    give_to_nobody(banger)
    banger.environment["SUDO_UID"] = str(NOBODY)
    start(banger, "one")
    child = banger.spawn("exec", "one", "--", "sh", "-c", "echo up; read line; echo $line")
    child.read_until(b"up\n")
    pid = banger.daemon_pid()
    os.kill(*banger.pids("banger-helper"), 9)
    banger.wait_gone(pid)
    child.read_until(b"going on with the new one", "stderr")
    child.send(b"there\n")
    assert child.finish().out == "up\nthere\n"
    assert_split(banger)


@needs_root
def test_a_daemon_without_root_can_end_the_vms_of_one_that_had_it(banger):
    give_to_nobody(banger)
    banger.environment["SUDO_UID"] = str(NOBODY)
    for name in ("one", "two"):
        start(banger, name)
    banger.ok("daemon", "stop")
    del banger.environment["SUDO_UID"]
    wrap_for_nobody(banger, banger.root / "bin")
    assert banger.ok("exec", "one", "--", "echo", "there").out == "there\n"
    assert call(banger, "daemon.status")["helper"] == {"mode": "in process"}
    banger.ok("vm", "stop", "--force", "one")
    banger.ok("vm", "delete", "--force", "one", "two")
    assert_nothing_left(banger)


@needs_root
def test_under_sudo_vms_get_kvm_though_the_user_may_not_open_it(make_banger):
    """Whether it works or not, it is tried."""
    if not os.path.exists("/dev/kvm") or os.stat("/dev/kvm").st_mode & 0o006:
        pytest.skip("no /dev/kvm that others may not open")
    banger = make_banger('accel = "auto"\n')
    give_to_nobody(banger)
    banger.environment["SUDO_UID"] = str(NOBODY)
    start(banger, "one")
    vmm = banger.json("vm", "show", "one")["vmm"]
    assert vmm["accel"] == "kvm" or "under KVM" in vmm["why"], vmm


@needs_root
def test_a_users_configuration_does_not_choose_whose_uids_vms_get(make_banger):
    banger = make_banger("vmm_uid_first = 100000\n", assets=False)
    give_to_nobody(banger)
    banger.environment["SUDO_UID"] = str(NOBODY)
    assert_error(banger.run("ps"), "others than root can write to it", hint="chown root")
    os.chown(banger.config_file, 0, 0)
    os.chmod(banger.config_file, 0o644)
    banger.ok("ps")
