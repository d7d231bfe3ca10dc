"""The host's disk is full: who goes on, who waits, what is refused, and what comes back by itself."""

import hashlib
import os
import sqlite3

import pytest
from namespace import ext4, tmpfs, used_mib
from steps import assert_error, assert_nothing_left, call, needs_root, sh, sh_ok, vms, wait_vm

RUN = ["run", "--rm", "-q", "--name", "x"]
FAKE = ["vm", "create", "-q", "--vmm", "fake", "--name"]
WRITE = "head -c 8000000 /dev/urandom >/root/big; sync; sha256sum </root/big"
FULL = "paused because the host's disk is full"


def small(banger, namespace, mib=40, kind=tmpfs):
    """Starts the daemon with so much room for more than what is there."""
    assert namespace.start(kind(used_mib(banger) + mib)) == "ok\n"


def wait_paused(banger, vm="a"):
    """Its state is not waited for by any call: each look is a question to the daemon."""
    while vms(banger)[vm]["state"] != "paused":
        pass
    assert vms(banger)[vm]["reason"] == "disk_full"


# Guests --------------------------------------------------------------------------------------------

@needs_root
@pytest.mark.parametrize("kind", [tmpfs, ext4])
def test_guest_that_fills_the_disk_goes_on_by_itself_when_there_is_room(banger, namespace, kind):
    small(banger, namespace, kind=kind)
    for name in ("a", "b"):
        banger.ok("run", "-q", "--name", name, "--", "sync")
    namespace.fill()
    child = banger.spawn("exec", "a", "--", "sh", "-c", WRITE)
    wait_paused(banger)
    # The daemon and the other guest do not mind.
    assert sh_ok(banger, "echo here", vm="b") == "here\n"
    assert "paused" in banger.ok("ps").out
    assert vms(banger)["b"]["state"] == "running"
    namespace.empty()
    wait_vm(banger, "a", "running")
    result = child.finish()
    assert result.returncode == 0 and len(result.stdout) > 64, repr(result)
    assert vms(banger)["a"]["reason"] is None
    banger.ok("stop", "a")
    banger.ok("start", "a")
    assert sh_ok(banger, "sha256sum </root/big", vm="a").encode() == result.stdout
    banger.ok("rm", "--force", "a", "b")
    assert vms(banger) == {}


@needs_root
def test_start_lets_a_paused_guest_go_on_before_there_is_room(banger, namespace):
    small(banger, namespace)
    banger.ok("run", "-q", "--name", "a", "--", "true")
    namespace.fill()
    child = banger.spawn("exec", "a", "--", "sh", "-c", WRITE)
    wait_paused(banger)
    # It is stopped again at once, and waits for room as before.
    banger.ok("start", "a")
    wait_paused(banger)
    namespace.empty()
    assert child.finish().returncode == 0
    wait_vm(banger, "a", "running")


@needs_root
@pytest.mark.sanitize
def test_guest_that_waits_for_room_goes_on_under_the_next_daemon(banger, namespace):
    small(banger, namespace)
    banger.ok("run", "-q", "--name", "a", "--", "true")
    namespace.fill()
    session = call(banger, "session.start", vm="a", stdin="closed",
                   command=["sh", "-c", WRITE + " >/root/sum"])
    wait_paused(banger)
    assert namespace.restart() == "ok\n"
    # Nothing can be written, and all is as it was; where the daemon that is gone could not note the
    # pause, the next one has to ask the VMM.
    wait_paused(banger)
    namespace.empty()
    wait_vm(banger, "a", "running")
    ended = call(banger, "session.wait", vm="a", session=session["id"])
    assert ended["exit"]["code"] == 0, ended
    assert sh_ok(banger, "sha256sum </root/big", vm="a") == \
        sh_ok(banger, "cat /root/sum", vm="a")


@needs_root
def test_stop_of_a_guest_that_waits_for_room_says_so_and_force_ends_it(banger, namespace):
    small(banger, namespace)
    banger.ok("run", "-q", "--name", "a", "--", "true")
    namespace.fill()
    child = banger.spawn("exec", "a", "--", "sh", "-c", WRITE)
    wait_paused(banger)
    assert_error(banger.run("stop", "a"), FULL, hint="banger stop --force")
    assert (vms(banger)["a"]["state"], vms(banger)["a"]["reason"]) == ("paused", "disk_full")
    banger.ok("stop", "--force", "a")
    assert child.finish().returncode == 125
    assert (vms(banger)["a"]["state"], vms(banger)["a"]["reason"]) == ("stopped", "user")
    # Without any room it does not start; what is said is why, and the VM stays.
    assert_error(banger.run("start", "a"), "too full for the start of a VM", "1.0 MiB needed")
    assert vms(banger)["a"]["state"] == "stopped"
    namespace.empty()
    # Below the reserve it does: what is in it must stay within reach.
    namespace.fill(leave=2 << 20)
    assert_error(banger.run(*RUN, "--", "true"), "too full for VM 'x'", "kept free", status=125,
                 hint="min_free_mib")
    banger.ok("start", "a")
    assert sh_ok(banger, "cat /etc/hostname; echo up", vm="a").endswith("up\n")


@needs_root
def test_guest_that_has_room_again_can_be_stopped_at_once(banger, namespace):
    small(banger, namespace)
    banger.ok("run", "-q", "--name", "a", "--", "true")
    namespace.fill()
    banger.spawn("exec", "a", "--", "sh", "-c", WRITE)
    wait_paused(banger)
    namespace.empty()
    banger.ok("stop", "a")
    assert (vms(banger)["a"]["state"], vms(banger)["a"]["reason"]) == ("stopped", "user")


def writes_when_told_to_end(banger, vm):
    """A command that has something to write when its VM is stopped, and nothing before."""
    # SIGHUP follows, which would end the shell before its trap has run.
    child = banger.spawn("exec", vm, "--", "sh", "-c",
                         "trap 'head -c 4000000 /dev/urandom >/x; exit' TERM; trap '' HUP; sync; "
                         "echo ready; sleep 1000 & wait")
    child.read_until(b"ready\n")


@needs_root
def test_stop_whose_guest_finds_no_room_ends_when_there_is_some(banger, namespace):
    small(banger, namespace)
    for name in ("a", "b"):
        banger.ok("vm", "create", "-q", "--name", name)
        writes_when_told_to_end(banger, name)
    namespace.fill()
    # The guest must write it before it ends, and cannot.
    assert_error(banger.run("stop", "--timeout", "15s", "a"), FULL,
                 hint="goes on when there is room")
    assert (vms(banger)["a"]["state"], vms(banger)["a"]["reason"]) == ("paused", "disk_full")
    stop = banger.spawn("stop", "--timeout", "100s", "b")
    log = banger.root / "namespace.log"
    while log.read_text().count("a disk write failed on the host") < 2:
        assert stop.process.poll() is None
    namespace.empty()
    assert stop.finish().returncode == 0
    assert (vms(banger)["b"]["state"], vms(banger)["b"]["reason"]) == ("stopped", "user")
    # The other one had been told to end, and does.
    wait_vm(banger, "a", "stopped")
    assert vms(banger)["a"]["reason"] == "guest_poweroff"


def disks_on(size):
    """As tmpfs, but the VMs' directories are on another one: a full disk that does not look so."""
    return lambda mib: tmpfs(mib) + f'; mkdir "$S/vms"; mount -t tmpfs -o size={size} none "$S/vms"'


@needs_root
def test_guest_that_is_stopped_again_and_again_can_be_looked_at_and_deleted(banger, namespace):
    small(banger, namespace, kind=disks_on("1m"))
    banger.ok("run", "-q", "--name", "a", "--", "true")
    banger.spawn("exec", "a", "--", "sh", "-c", WRITE)
    log = banger.root / "namespace.log"
    while log.read_text().count("it goes on") < 3:
        assert vms(banger)["a"]["state"] in ("running", "paused")
    banger.ok("rm", "--force", "a")
    assert vms(banger) == {}


@needs_root
def test_guest_that_cannot_write_while_it_boots_is_told_as_that(banger, namespace):
    small(banger, namespace, kind=disks_on("16m"))
    banger.ok("run", "-q", "--name", "a", "--", "sh", "-c",
              "cd /root; for n in $(seq 500); do mkdir $n; done; "
              "echo yes | dd of=500/x conv=fsync")
    banger.ok("stop", "--force", "a")
    # Its journal, which has it all, is to be replayed, for which there is no room.
    st = os.statvfs(namespace.path("vms"))
    used = (st.f_blocks - st.f_bfree) * st.f_frsize >> 10
    namespace.inside("mount", "-o", f"remount,size={used + 4}k", banger.state_dir / "vms")
    assert_error(banger.run("start", "a"), "the host's disk is full", hint="make room")
    vm = vms(banger)["a"]
    assert vm["state"] == "stopped" and "disk is full" in vm["reason"]
    namespace.inside("mount", "-o", "remount,size=16m", banger.state_dir / "vms")
    banger.ok("start", "a")
    assert sh_ok(banger, "cat /root/500/x", vm="a") == "yes\n"


@needs_root
def test_vm_that_filled_the_host_disk_can_be_deleted(banger, namespace):
    small(banger, namespace)
    banger.ok("run", "-q", "--name", "a", "--", "true")
    child = banger.spawn("exec", "a", "--", "sh", "-c",
                         "while :; do head -c 8000000 /dev/urandom >>/root/big; sync; done")
    wait_paused(banger)
    namespace.fill()
    banger.ok("rm", "--force", "a")
    assert child.finish().returncode == 125
    assert vms(banger) == {}
    assert os.listdir(namespace.path("vms")) == []


# What is written down -------------------------------------------------------------------------------

@pytest.fixture
def fake(banger):
    banger.environment["BANGER_FAKE_VMM"] = "1"
    return banger


@needs_root
@pytest.mark.sanitize
@pytest.mark.parametrize("kind", [tmpfs, ext4])
def test_stop_and_delete_are_written_down_on_a_full_disk(fake, namespace, kind):
    small(fake, namespace, kind=kind)
    names = [f"v{n}" for n in range(20)]
    for name in names:
        fake.ok(*FAKE, name)
    namespace.fill()
    fake.ok("stop", *names[:8])
    fake.ok("stop", "--force", *names[8:14])
    fake.ok("rm", "--force", *names[14:18])
    fake.ok("rm", *names[:2])
    expected = {name: ("stopped", "user") for name in names[2:14]} | \
        {name: ("running", None) for name in names[18:]}
    for _ in range(2):
        found = vms(fake)
        assert {name: (vm["state"], vm["reason"]) for name, vm in found.items()} == expected
        assert sh_ok(fake, "echo here", vm="v18") == "here\n"
        # The next daemon starts on the full disk, and finds what this one knew.
        assert namespace.restart() == "ok\n"
    namespace.empty()
    fake.ok("rm", "--force", *expected)
    assert vms(fake) == {}
    # What was lent is there again.
    fake.ok(*FAKE, "y")
    assert os.stat(namespace.path("banger.reserve")).st_blocks * 512 >= 1 << 20


@needs_root
def test_changes_of_state_go_on_for_long_on_a_full_disk(fake, namespace):
    small(fake, namespace)
    fake.ok(*FAKE, "v")
    namespace.fill()
    # Each stop and start is several commits: more than the reserve could hold one after the other.
    for _ in range(60):
        fake.ok("stop", "v")
        fake.ok("start", "v")
    assert os.stat(namespace.path("banger.reserve")).st_blocks == 0
    assert namespace.restart() == "ok\n"
    assert (vms(fake)["v"]["state"], vms(fake)["v"]["incarnation"]) == ("running", 61)


# Before work begins ---------------------------------------------------------------------------------

@needs_root
def test_full_state_directory_is_told_and_leaves_no_half_vm(banger, namespace):
    small(banger, namespace)
    namespace.fill()
    result = banger.run(*RUN, "--", "true")
    assert_error(result, f"the filesystem of '{banger.state_dir}' is too full for VM 'x'",
                 " free", status=125, hint="min_free_mib")
    assert vms(banger) == {}
    assert not os.path.exists(namespace.path("vms")) or not os.listdir(namespace.path("vms"))
    namespace.empty()
    # With room again all is well, without a restart.
    assert banger.ok(*RUN, "--", "echo", "fine").out == "fine\n"
    assert vms(banger) == {}


@needs_root
def test_what_would_not_leave_the_reserve_is_refused_before_anything_is_made(
        fake, namespace, rootfs_tar, kernel_dir):
    small(fake, namespace)
    before = {d: sorted(os.listdir(namespace.path(d))) for d in ("images", "kernels")}
    # Enough for what is to be made, but not beside the twentieth that is kept.
    namespace.fill(leave=2500 << 10)
    refused = [fake.run(*FAKE, "x"), fake.run("image", "register", "-q", "more", str(rootfs_tar)),
               fake.run("kernel", "import", "-q", "more", str(kernel_dir))]
    for result, what in zip(refused, ("VM 'x'", "image 'more'", "kernel 'more'")):
        assert_error(result, f"too full for {what}: ", " needed at least, ", " MiB kept free, and ",
                     hint="min_free_mib")
    assert {d: sorted(os.listdir(namespace.path(d))) for d in before} == before
    assert_nothing_left(fake)
    assert [n for image in call(fake, "image.list") for n in image["names"]] == ["debian"]
    # The owner decides what is kept.
    fake.configure('accel = "tcg"\nmin_free_mib = 0\n')
    assert namespace.restart() == "ok\n"
    fake.ok(*FAKE, "x")
    # A kernel is far larger than what there is.
    assert_error(fake.run("kernel", "import", "-q", "more", str(kernel_dir)), "too full for")


@needs_root
def test_image_register_that_runs_out_of_space_is_told_and_leaves_nothing(banger, namespace):
    small(banger, namespace, mib=24)
    before = sorted(os.listdir(namespace.path("images")))
    # A packed tar does not say how much it holds.
    tar = banger.root / "zeros"
    tar.mkdir()
    (tar / "big").write_bytes(hashlib.shake_256(b"x").digest(1 << 20) * 64)
    packed = banger.root / "rootfs.tar.xz"
    os.system(f"tar -C {tar} -cJf {packed} .")
    assert packed.stat().st_size < 8 << 20
    result = banger.run("image", "register", "-q", "more", str(packed))
    assert_error(result, "No space left", hint=True)
    assert sorted(os.listdir(namespace.path("images"))) == before
    assert [n for image in call(banger, "image.list") for n in image["names"]] == ["debian"]


# What the dead leave --------------------------------------------------------------------------------

def test_content_without_a_row_is_removed_at_the_next_start(banger):
    banger.ok("ps")
    banger.ok("daemon", "stop")
    images, kernels = banger.state_dir / "images", banger.state_dir / "kernels"
    known = sorted(p.name for d in (images, kernels) for p in d.iterdir())
    (images / f"{'0' * 64}.ext4").write_bytes(b"a daemon died before it could write the row")
    (images / f"tmp-{'1' * 32}.ext4.tmp-abcdef").write_bytes(b"")
    (kernels / ("2" * 64)).mkdir()
    (kernels / ("2" * 64) / "vmlinux").write_bytes(b"x")
    # What is not ours stays.
    for name in (f"{'3' * 63}.ext4", f"{'4' * 64}.img", "notes"):
        (images / name).write_bytes(b"")
    banger.ok("ps")
    for name in (f"{'3' * 63}.ext4", f"{'4' * 64}.img", "notes"):
        (images / name).unlink()
    assert sorted(p.name for d in (images, kernels) for p in d.iterdir()) == known
    assert call(banger, "image.list") and call(banger, "kernel.list")


def test_image_whose_row_was_lost_can_be_registered_again(banger, rootfs_tar):
    banger.ok("ps")
    banger.ok("daemon", "stop")
    with sqlite3.connect(banger.state_dir / "banger.db") as db:
        db.execute("PRAGMA foreign_keys = ON")
        assert db.execute("DELETE FROM image").rowcount == 1
    db.close()
    assert_error(banger.run(*RUN, "--", "true"), "no image 'debian'", status=125)
    assert list((banger.state_dir / "images").iterdir()) == []
    banger.ok("image", "register", "-q", "debian", str(rootfs_tar))
    assert banger.ok(*RUN, "--", "echo", "fine").out == "fine\n"


def test_killed_daemon_leaves_no_unfinished_file_in_the_cache(banger):
    banger.cache_dir.mkdir(mode=0o700, exist_ok=True)
    dead = banger.cache_dir / "data-disk-67108864.ext4.0123456789ab.tmp"
    dead.write_bytes(b"of a daemon that was killed")
    other = banger.cache_dir / "of-somebody-else.tmp"
    other.write_bytes(b"")
    banger.ok("ps")
    assert not dead.exists() and other.exists()
    other.unlink()
