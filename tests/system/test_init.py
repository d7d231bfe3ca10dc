"""VMs whose process 1 is the image's own init (--init image)."""

import io
import subprocess
import tarfile

import frames
import pytest

from banger import OUTSIDE, ROOT
from steps import assert_error, await_ready, configure_guest, sh, sh_ok, vms, wait_vm

CACHE = ROOT / ".cache"
IMAGE = "own-init"
BUSYBOX = {"sbin/init": "/bin/busybox"}
INITTAB = """::sysinit:/etc/rc
::respawn:/bin/service
::shutdown:/etc/rc.stop
"""
# What a service writes while it is stopped must be there at the next boot.
FILES = {
    "etc/inittab": INITTAB,
    "etc/rc": "#!/bin/sh\nmkfifo /run/up\necho up >/run/up &\n",
    "bin/service": "#!/bin/sh\ntrap 'echo ended >>/root/service; exit' TERM\n"
                   "echo begun >>/root/service\nsleep 100000 & wait\n",
    "etc/rc.stop": "#!/bin/sh\npidof banger-agent >/root/rc.stop\n",
}


@pytest.fixture
def make_image(banger, rootfs_tar, tmp_path):
    """Registers the small image with these files and symlinks as IMAGE, without the named ones."""
    def make(files=(), links=(), without=()):
        out = tmp_path / "own-init.tar"
        with tarfile.open(rootfs_tar) as base, \
                tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
            for member in base:
                if member.name not in without:
                    tar.addfile(member, base.extractfile(member) if member.isreg() else None)
            for name, text in dict(files).items():
                info = tarfile.TarInfo(name)
                info.mode, info.size = 0o755, len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
            for name, target in dict(links).items():
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, target
                tar.addfile(info)
        banger.ok("image", "register", IMAGE, str(out))
    return make


def create(banger, name="x", *args):
    return banger.run("vm", "create", "--name", name, "--image", IMAGE, "--init", "image", *args)


def test_an_images_init_is_process_1_and_the_agent_serves(banger, make_image, tmp_path):
    make_image(FILES, BUSYBOX)
    assert create(banger).returncode == 0
    assert vms(banger)["x"]["init"] == "image"
    # The init's own word that it has done what it does at boot.
    assert sh_ok(banger, "until [ -p /run/up ]; do usleep 10000; done; cat /run/up", vm="x") == "up\n"
    assert sh_ok(banger, "cat /proc/1/comm; hostname; cat /proc/$PPID/comm", vm="x").split() == \
        ["init", "x", "banger-agent"]
    (tmp_path / "f").write_text("there and back")
    banger.ok("cp", str(tmp_path / "f"), "x:/root/f")
    banger.ok("cp", "x:/root/f", str(tmp_path / "g"))
    assert (tmp_path / "g").read_text() == "there and back"
    # A signal to all processes that is not init's is none to the agent.
    assert sh(banger, "trap '' TERM; kill -TERM -1; echo said", vm="x").out == "said\n"
    # The next daemon finds the agent, and asks init as well.
    banger.ok("daemon", "stop")
    assert sh_ok(banger, "echo alive", vm="x") == "alive\n"
    # It may become another boot: for init as for commands, and for a service in a namespace of its
    # own where init shares its mounts, as systemd does.
    sh_ok(banger, "mount --make-rshared /; mkfifo /run/in; "
          "unshare -m --propagation slave sh -c 'echo $$ >/run/in; exec sleep 1000' "
          ">/dev/null 2>&1 & cat /run/in >/run/service", vm="x")
    for given in ("c0ffee00-0123-4567-89ab-cdef01234567", "c0ffee01-0123-4567-89ab-cdef01234567"):
        told = frames.tlv(frames.TAG_BOOT_ID, given.encode())
        assert configure_guest(banger, "x", told) == (0, told.decode())
        assert sh_ok(banger, "for p in 1 $(cat /run/service); do "
                     "cat /proc/$p/root/proc/sys/kernel/random/boot_id; "
                     "grep -c boot_id /proc/$p/mountinfo; done", vm="x") == f"{given}\n1\n" * 2
    banger.ok("stop", "x")
    assert (vms(banger)["x"]["state"], vms(banger)["x"]["reason"]) == ("stopped", "user")

    banger.ok("start", "x")
    assert sh_ok(banger, "cat /root/f; test -s /root/rc.stop && echo; head -n 2 /root/service",
                 vm="x").split("\n")[:3] == ["there and back", "begun", "ended"]
    # From within: the machine ends, and nobody asked for it outside.
    sh(banger, "poweroff; exec sleep 1000", vm="x")
    wait_vm(banger, "x", "stopped")
    assert vms(banger)["x"]["reason"] == "guest_poweroff"
    assert "reboot: Power down" in banger.ok("logs", "x").out


# Written by init itself, before anything that the agent is asked to do later.
WHO = ("cat /etc/hostname /etc/machine-id /proc/sys/kernel/random/boot_id /proc/sys/kernel/hostname; "
       "head -c 16 /dev/urandom | md5sum")


def begun_as(banger, name):
    """Who the guest was when its init began: name, machine-id, boot_id, random number."""
    sh_ok(banger, "until [ -p /run/up ]; do usleep 10000; done", vm=name)
    file_name, machine_id, boot_id, kernel_name, number = sh_ok(
        banger, "cat /root/who", vm=name).splitlines()
    assert file_name == kernel_name == name
    assert machine_id == vms(banger)[name]["id"]
    assert boot_id == sh_ok(banger, "cat /proc/sys/kernel/random/boot_id", vm=name).strip()
    return boot_id, number


def test_init_of_a_fork_begins_in_it_and_finds_who_it_is(banger, make_image):
    """It is saved before its init begins."""
    make_image({**FILES, "etc/rc": f"#!/bin/sh\n({WHO}) >/root/who\nmkfifo /run/up\n",
                "etc/hostname": "of-the-image\n"}, BUSYBOX)
    assert create(banger, "booted").returncode == 0
    people = [begun_as(banger, "booted")]
    made = banger.ok("template", "create", "--image", IMAGE, "--init", "image").out.strip()
    for name, how in (("restored", "fork"), ("claimed", "pool"), ("claimed-too", "pool")):
        if how == "pool":
            banger.ok("template", "pool", made, "--size", "1")
            await_ready(banger, 1)
        assert create(banger, name).returncode == 0
        start = vms(banger)[name]["start"]
        assert (start["how"], start["template"]) == (how, made)
        people.append(begun_as(banger, name))
    assert all(len(set(what)) == 4 for what in zip(*people))
    # Without --init image it is another machine.
    banger.ok("vm", "create", "--name", "other", "--image", IMAGE)
    assert vms(banger)["other"]["start"]["how"] == "boot"
    # Init has its say in what follows.
    banger.ok("vm", "rename", "restored", "renamed")
    assert sh_ok(banger, "hostname; cat /etc/hostname", vm="renamed") == "renamed\nrenamed\n"
    banger.ok("stop", "renamed")
    assert vms(banger)["renamed"]["reason"] == "user"
    banger.ok("start", "renamed")
    assert begun_as(banger, "renamed") not in people
    assert sh_ok(banger, "test -s /root/rc.stop; head -n 2 /root/service",
                 vm="renamed").splitlines() == ["begun", "ended"]
    sh(banger, "poweroff; exec sleep 1000", vm="claimed")
    wait_vm(banger, "claimed", "stopped")
    assert vms(banger)["claimed"]["reason"] == "guest_poweroff"


def test_an_image_without_init_is_told_before_anything_is_made(banger):
    assert_error(banger.run("vm", "create", "--init", "image"),
                 "image 'debian' has no init", hint="--init agent")
    assert_error(banger.run("run", "--init", "image", "--", "true"),
                 "image 'debian' has no init", status=125, hint="--init agent")
    assert vms(banger) == {}


def test_a_fake_vm_boots_no_init(make_banger):
    banger = make_banger()
    banger.environment["BANGER_FAKE_VMM"] = "1"
    assert_error(banger.run("vm", "create", "--vmm", "fake", "--init", "image"),
                 "'fake' VMs boot no init", hint="--init agent")
    assert vms(banger) == {}


def test_an_init_that_cannot_be_run_is_told(banger, make_image):
    make_image({"sbin/init": "#!/nonexistent/shell\n"})
    assert_error(create(banger), "cannot run the image's init '/sbin/init': No such file")
    assert vms(banger) == {} and banger.qemu_pids() == []


def test_an_init_that_does_not_listen_keeps_running(banger, make_image):
    # busybox's poweroff sends a signal to process 1, and this one has no handler for it.
    make_image({"etc/init": "#!/bin/sh\nsleep 100000\n"})
    assert create(banger).returncode == 0
    assert_error(banger.run("stop", "--timeout", "2s", "x"), "the VM keeps running",
                 hint="--force")
    assert sh_ok(banger, "cat /proc/1/comm", vm="x") == "init\n"
    banger.ok("stop", "--force", "x")
    assert vms(banger)["x"]["state"] == "stopped"


def test_an_image_without_poweroff_is_ended_by_the_agent(banger, make_image):
    make_image({"bin/init": "#!/bin/sh\ntrap '' TERM\nsleep 100000\n"}, without=["bin/poweroff"])
    assert create(banger).returncode == 0
    sh_ok(banger, "echo kept >/root/f", vm="x")
    banger.ok("stop", "x")
    assert (vms(banger)["x"]["state"], vms(banger)["x"]["reason"]) == ("stopped", "user")
    banger.ok("start", "x")
    assert sh_ok(banger, "cat /root/f", vm="x") == "kept\n"


UNIT = """[Unit]
Description=says when it begins and ends
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'mkfifo /run/up; echo up >/run/up &'
ExecStop=/bin/sh -c 'echo ended >>/root/unit'
[Install]
WantedBy=multi-user.target
"""


@pytest.mark.full
@pytest.mark.deadline(600)
def test_systemd_boots_serves_and_goes_down_both_ways(banger):
    """The default image, Debian with systemd."""
    tar = CACHE / "debian.tar"
    if not tar.exists():
        subprocess.run([*OUTSIDE, ROOT / "tools/build-image.sh", tar], check=True, stdin=subprocess.DEVNULL)
    banger.ok("image", "register", IMAGE, str(tar), timeout=120)
    made = banger.ok("template", "create", "--image", IMAGE, "--init", "image", "--memory", "1G",
                     timeout=300).out.strip()
    # A fork begins as who it is: what systemd and its journal take an id for is asked once.
    for name in ("fork-0", "fork-1"):
        assert create(banger, name, "--memory", "1G").returncode == 0
        assert vms(banger)[name]["start"]["template"] == made
    for name in ("fork-0", "fork-1"):
        machine_id = vms(banger)[name]["id"]
        said = sh_ok(banger, "until systemctl is-system-running --wait 2>&1 | grep -qE 'running|degraded'; do sleep 0.2; "
                     "done; cat /etc/machine-id; hostname; "
                     "systemd-id128 boot-id -u; cat /proc/sys/kernel/random/boot_id; "
                     "ls -d /run/log/journal/* /var/log/journal/* 2>/dev/null; "
                     "journalctl -b -n 1 -o export _PID=1 | grep -a _MACHINE_ID", vm=name, timeout=300).splitlines()
        assert said[:2] == [machine_id, name] and said[2] == said[3]
        assert {line.rsplit("/", 1)[1] for line in said[4:-1]} == {machine_id}
        assert said[-1] == f"_MACHINE_ID={machine_id}"
    banger.ok("rm", "--force", "fork-0", "fork-1")
    assert create(banger, "x", "--memory", "1G", "--cold").returncode == 0
    sh_ok(banger, 'printf %s "$1" >/etc/systemd/system/say.service; cd /etc/systemd/system; '
          "mkdir -p multi-user.target.wants; ln -s ../say.service multi-user.target.wants; sync",
          UNIT, vm="x")
    # While it boots: the signal comes before systemd has a handler, and is told again.
    banger.ok("stop", "--timeout", "2m", "x", timeout=180)

    for ending, reason in (("stop", "user"), ("poweroff", "guest_poweroff"),
                           ("reboot", "guest_reset")):
        banger.ok("start", "x", timeout=120)
        assert sh_ok(banger, "until [ -p /run/up ]; do sleep 0.1; done; cat /run/up", vm="x",
                     timeout=120) == "up\n"
        assert sh_ok(banger, "cat /proc/1/comm; hostname; systemctl is-active say.service; "
                     "cat /etc/machine-id", vm="x").split() == [
                         "systemd", "x", "active", vms(banger)["x"]["id"]]
        if ending == "stop":
            banger.ok("stop", "--timeout", "2m", "x", timeout=180)
        else:
            sh(banger, f"systemctl {ending}; exec sleep 1000", vm="x", timeout=120)
            wait_vm(banger, "x", "stopped")
        assert (vms(banger)["x"]["state"], vms(banger)["x"]["reason"]) == ("stopped", reason)

    banger.ok("start", "x", timeout=120)
    assert sh_ok(banger, "cat /root/unit", vm="x") == "ended\n" * 3
