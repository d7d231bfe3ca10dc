"""What a VM's QEMU is confined to, read from /proc of real guests."""

import os
import re
import stat
import subprocess

import pytest
from banger import BUILD, DEFAULT_CONFIG
from steps import (NOBODY, assert_error, call, needs_root, own_programs, read_limits,
                   read_status, start, uids, vms, without_root)

UID_FIRST, UID_COUNT = 2100000000, 1048576  # the configuration's defaults
NO_CAPABILITIES = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}


def uid_of(pid):
    (uid,) = uids(pid)
    return uid


def namespaces(pid, *names):
    return [os.readlink(f"/proc/{pid}/ns/{name}") for name in names]


def opens(uid, path, mode="r"):
    """Whether a process of that uid, with no group, can open path."""
    script = "import sys; open(sys.argv[1], sys.argv[2]).close()"
    done = subprocess.run(["/usr/bin/python3", "-c", script, path, mode], user=uid, group=uid,
                          extra_groups=[], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "PermissionError" in done.stderr, done.stderr
    return done.returncode == 0


def files_of(banger, vm):
    id = vms(banger)[vm]["id"]
    return banger.state_dir / "vms" / id, banger.runtime_dir / "vms" / id


def assert_confined(pid):
    """Whoever it runs as: what is true of every VMM."""
    status = read_status(pid)
    assert {key: int(status[key], 16) for key in NO_CAPABILITIES} == dict.fromkeys(
        NO_CAPABILITIES, 0)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Seccomp_filters"] == "2"  # the launcher's and QEMU's
    assert not set(namespaces(pid, "mnt", "ipc", "net")) & set(
        namespaces("self", "mnt", "ipc", "net"))
    with open(f"/proc/{pid}/environ", "rb") as environ:
        names = [variable.split(b"=")[0] for variable in environ.read().split(b"\0")]
    assert names == [b"PATH", b""]
    assert os.getsid(pid) == pid


def assert_sees_only_its_files(pid):
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as mountinfo:
        mounts = {line.split()[4]: line.split() for line in mountinfo}
    assert all("ro" in fields[5].split(",") for fields in mounts.values())
    assert all("nosuid" in fields[5].split(",") for fields in mounts.values())
    assert mounts["/"][mounts["/"].index("-") + 1] == "tmpfs"
    root = f"/proc/{pid}/root"
    assert set(os.listdir(root)) <= {"etc", "lib", "lib64", "proc", "usr"}
    assert os.listdir(f"{root}/etc") == ["ld.so.cache"]
    assert os.listdir(f"{root}/usr/bin") == ["qemu-system-x86_64"]
    # Of all processes it sees itself.
    assert os.listdir(f"{root}/proc") == ["self"]
    assert mounts["/proc/self"][3] == f"/{pid}"


@needs_root
@pytest.mark.sanitize
def test_a_vmm_runs_under_a_uid_of_its_own_without_any_privilege(banger):
    one, two = start(banger, "one"), start(banger, "two")
    for pid in (one, two):
        status = read_status(pid)
        assert UID_FIRST <= uid_of(pid) < UID_FIRST + UID_COUNT
        assert set(status["Gid"].split()) == {str(uid_of(pid))}
        assert status["Groups"].strip() == ""
        assert_confined(pid)
        assert_sees_only_its_files(pid)
    assert uid_of(one) != uid_of(two)


@needs_root
def test_a_vmm_has_limits(banger):
    pid = start(banger, "limited", "--memory", "300M", "--vcpus", "2", "--disk", "1G")
    address_space = (300 + 8192 + 2 * 128) << 20
    want = {"core file size": 0, "locked memory": 0, "msgqueue size": 0, "open files": 256,
            "file size": 1 << 30, "processes": 130, "address space": address_space}
    have = read_limits(pid)
    # The size of a file is the host's to raise, when the disk grows.
    assert {what: have[what] for what in want} == {
        what: (str(most), "unlimited" if what == "file size" else str(most))
        for what, most in want.items()}
    # And they leave room: threads, descriptors and address space as it runs.
    status = read_status(pid)
    assert int(status["Threads"]) < 130 / 2
    assert int(status["VmPeak"].split()[0]) << 10 < address_space / 2
    assert len(os.listdir(f"/proc/{pid}/fd")) < 256 / 2


@needs_root
def test_a_vmm_has_the_descriptors_that_it_needs_and_no_others(banger):
    pid = start(banger, "one")
    state, run = files_of(banger, "one")
    targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    paths = {target for target in targets if target.startswith("/")}
    (image,), (kernel,), (initramfs,) = (
        {path for path in paths if re.fullmatch(pattern, path)} for pattern in (
            rf"{banger.state_dir}/images/\w+\.ext4", rf"{banger.state_dir}/kernels/\w+/vmlinux",
            rf"{banger.cache_dir}/initramfs-[\w-]+\.cpio"))
    assert paths == {"/dev/null", f"{state}/vmm.log", f"{state}/data.ext4", f"{state}/console.log",
                     image, kernel, initramfs}
    # The agent's and QMP's, and the daemon's connection to each.
    assert sum(target.startswith("socket:") for target in targets) == 4
    assert all(re.match(r"/|socket:|anon_inode:\[?(eventfd|eventpoll|signalfd)", target)
               for target in targets), targets


@needs_root
def test_a_vmm_uid_reaches_no_file_by_its_path(banger):
    one, two = start(banger, "one"), start(banger, "two")
    uid = uid_of(one)
    for vm in ("one", "two"):
        state, run = files_of(banger, vm)
        for path in (state / "data.ext4", state / "console.log", state / "vmm.log",
                     banger.state_dir / "banger.db", *banger.state_dir.glob("images/*.ext4")):
            assert path.exists()
            assert not opens(uid, path)
        assert not opens(uid, run / "new", "w")
    # Nor through the other one's process.
    for fd in os.listdir(f"/proc/{two}/fd"):
        if os.readlink(f"/proc/{two}/fd/{fd}").endswith("data.ext4"):
            assert not opens(uid, f"/proc/{two}/fd/{fd}")
    # Modes and owners alone forbid it as well, should it get hold of a directory.
    for path in (banger.state_dir, banger.cache_dir, banger.runtime_dir):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    state, run = files_of(banger, "two")
    for path in (state / "data.ext4", state / "console.log", state / "vmm.log"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert path.stat().st_uid == os.geteuid()


@needs_root
def test_a_vm_keeps_its_uid_when_it_starts_again(banger):
    uid = uid_of(start(banger, "again"))
    banger.ok("vm", "stop", "--force", "again")
    banger.ok("vm", "start", "again")
    assert uid_of(*banger.qemu_pids()) == uid


@needs_root
def test_daemons_with_the_same_uids_do_not_share_one(make_banger):
    config = DEFAULT_CONFIG + f"vmm_uid_first = {UID_FIRST - 10}\nvmm_uid_count = 2\n"
    a, b = make_banger(config), make_banger(config)
    assert {uid_of(start(a, "a")), uid_of(start(b, "b"))} == {UID_FIRST - 10, UID_FIRST - 9}
    third = a.run("vm", "create", "--name", "third")
    assert_error(third, "cannot confine 'qemu-system-x86_64'", "another process has the uid",
                 hint="a larger vmm_uid_count")
    assert "third" not in vms(a)


@needs_root
def test_a_uid_that_somebody_has_is_not_used(make_banger):
    uid = UID_FIRST - 20
    banger = make_banger(DEFAULT_CONFIG + f"vmm_uid_first = {uid}\nvmm_uid_count = 1\n")
    with subprocess.Popen(["sleep", "1000"], user=uid, group=uid) as other:
        result = banger.run("run", "--rm", "--", "true")
        other.kill()
    assert_error(result, "another process has the uid", status=125, hint="a larger vmm_uid_count")
    banger.ok("run", "--rm", "--", "true")


@needs_root
@pytest.mark.parametrize("first, count, said", [
    (2**32 - 3, 2, "go beyond 4294967293"), (NOBODY - 5, 10, "include the daemon's owner")])
def test_uids_that_cannot_be_used_are_refused(make_banger, first, count, said):
    banger = make_banger(f"vmm_uid_first = {first}\nvmm_uid_count = {count}\n", assets=False)
    without_root(banger)
    assert_error(banger.run("ps"), f"'vmm_uid_first' and 'vmm_uid_count' {said}", hint=False)


@needs_root
def test_without_root_a_vmm_is_the_users_in_namespaces_of_its_own(banger):
    without_root(banger)
    pid = start(banger, "one")
    assert uids(banger.daemon_pid()) == uids(pid) == {NOBODY}
    assert_confined(pid)
    assert_sees_only_its_files(pid)
    assert namespaces(pid, "user") != namespaces("self", "user")
    assert read_limits(pid)["core file size"] == ("0", "0")
    assert banger.ok("exec", "one", "--", "echo", "there").out == "there\n"


@needs_root
def test_a_users_vmm_writes_to_nothing_that_vms_share(banger):
    without_root(banger)
    pid = start(banger, "one")
    shared = [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")
              if re.search(r"/(images|kernels)/|/initramfs-", os.readlink(f"/proc/{pid}/fd/{fd}"))]
    assert len(shared) >= 3
    for fd in shared:
        assert stat.S_IMODE(os.stat(fd).st_mode) & 0o222 == 0
        assert opens(NOBODY, os.readlink(fd)) and not opens(NOBODY, os.readlink(fd), "r+")


@needs_root
def test_without_root_and_user_namespaces_vms_run_and_the_log_says_what_is_missing(banger):
    programs = without_root(banger)
    # In a user namespace where there can be no further one.
    script = "echo 0 >/proc/sys/user/max_user_namespaces; " \
             "exec setpriv --ambient-caps=-all --inh-caps=-all \"$0\" \"$@\""
    banger.spawn_argv(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                       "unshare", "--user", "--map-user=65534", "--map-group=65534", "--keep-caps",
                       "sh", "-c", script, str(programs / "banger"), "ps"]).finish()
    pid = start(banger, "one")
    status = read_status(pid)
    assert uids(pid) == {NOBODY}
    assert (int(status["CapEff"], 16), status["NoNewPrivs"], status["Seccomp"]) == (0, "1", "2")
    assert namespaces(pid, "mnt") == namespaces("self", "mnt")
    banger.ok("vm", "create", "--name", "two")
    log = (banger.state_dir / "bangerd.log").read_text()
    assert log.count("no user namespace: No space left on device") == 1


def test_a_missing_launcher_is_named(banger):
    (own_programs(banger) / "banger-launch").unlink()
    assert_error(banger.run("run", "--rm", "--", "true"), "banger-launch' is not installed",
                 status=125, hint="../libexec/banger")
    assert call(banger, "vm.list") == []
