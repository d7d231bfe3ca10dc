"""Templates with real guests: a VM is forked from a machine that was saved, is somebody else, and is
then a VM as any; what is broken, or does not fit, is never run."""

import concurrent.futures
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import time

import pytest
from banger import SLOWNESS
from steps import (assert_all_differ, assert_clock_is_right, assert_error, await_ready, call,
                   data_offsets, edit_store, flip, kill_daemon, origin, sh_ok, templates, vms, who_is)

pytestmark = pytest.mark.deadline(300)


@pytest.fixture(scope="module")
def shared_template(request, guest_assets):
    """One instance with a template for all tests that leave it whole."""
    from conftest import Instance, end
    instance = Instance(template=guest_assets)
    instance.made = instance.ok("template", "create").out.strip()
    yield instance
    problems = end(instance, request.node)
    if problems:
        pytest.fail("left behind:\n" + "\n".join(problems), pytrace=False)


@pytest.fixture
def banger_with_template(banger):
    banger.made = banger.ok("template", "create").out.strip()
    return banger


def boots(banger, name, *flags):
    """Creates a VM that is no fork, and returns the reason."""
    banger.ok("vm", "create", "-q", "--name", name, *flags)
    how, template, why = origin(banger, name)
    assert (how, template) == ("boot", None)
    banger.ok("rm", "--force", name)
    return why


def forks(banger, name, *flags):
    banger.ok("vm", "create", "-q", "--name", name, *flags)
    assert origin(banger, name) == ("fork", banger.made, f"template {banger.made[:12]}")


def test_forks_are_somebody_else_each(shared_template):
    """One after the other, and at once."""
    banger = shared_template
    for name in ("fork-0", "fork-1"):
        forks(banger, name)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: forks(banger, f"fork-{i}"), range(2, 6)))
    names = [f"fork-{i}" for i in range(6)]
    people = [who_is(banger, name) for name in names]
    assert_all_differ(people)
    now = vms(banger)
    for name, person in zip(names, people):
        assert person[0] == name and person[1] == now[name]["id"]
        assert [p["phase"] for p in now[name]["timeline"]][-3:] == ["vmm", "restore", "configure"]
        assert_clock_is_right(banger, name)
    # The template has seen nothing of them, nor has the next fork.
    sh_ok(banger, "echo mine >/root/mine", vm="fork-0")
    forks(banger, "later")
    assert sh_ok(banger, "ls -A /root", vm="later") == ""
    assert templates(banger)[banger.made]["uses"] >= 7
    banger.ok("rm", "--force", *names, "later")


def test_a_fork_is_a_vm_as_any(shared_template):
    banger = shared_template
    forks(banger, "any", "--disk", "8G")
    assert banger.run("exec", "any", "--", "sh", "-c", "exit 7").returncode == 7
    data = os.urandom(300_000)
    assert banger.ok("exec", "-i", "any", "--", "cat", stdin=data).stdout == data
    sh_ok(banger, "echo kept >/root/kept; sync", vm="any")
    banger.ok("pause", "any")
    banger.ok("resume", "any")
    kill_daemon(banger)
    assert sh_ok(banger, "cat /root/kept", vm="any") == "kept\n"
    before = int(sh_ok(banger, "df -k / | awk 'NR==2{print $2}'", vm="any"))
    banger.ok("vm", "set", "any", "--disk", "9G")
    assert int(sh_ok(banger, "df -k / | awk 'NR==2{print $2}'", vm="any")) > before
    sh_ok(banger, "echo late >/root/late", vm="any")
    banger.ok("stop", "any")
    banger.ok("start", "any")
    assert origin(banger, "any") == ("boot", None, "the VM was there already, with its disk")
    assert sh_ok(banger, "cat /root/kept /root/late", vm="any") == "kept\nlate\n"
    banger.ok("rm", "--force", "any")


def test_what_has_no_template_boots_and_says_why(shared_template):
    banger = shared_template
    assert boots(banger, "x", "--cold") == "it was to boot (cold)"
    none = "no template of this image, kernel, machine and host"
    for other in (("--memory", "320"), ("--vcpus", "2"), ("--disk", "7G")):
        assert boots(banger, "x", *other) == none
    banger.ok("vm", "create", "-q", "--name", "x", "--no-start")
    assert vms(banger)["x"]["start"] is None
    banger.ok("rm", "x")


def test_template_is_listed_shown_and_deleted_and_forks_go_on(banger_with_template):
    banger = banger_with_template
    (listed,) = templates(banger).values()
    assert listed == banger.json("template", "show", banger.made[:6])
    assert listed["image"]["name"] == "debian" and listed["loaded"] and listed["uses"] == 0
    # It is there already.
    assert banger.ok("template", "create").out.strip() == banger.made
    assert len(banger.json("template", "verify")) == 1
    forks(banger, "x")
    assert banger.json("template", "prune", "--unused-for", "1h") == []
    (would,) = banger.json("template", "prune", "--unused-for", "0", "--dry-run")
    assert would["id"] == banger.made and banger.made in templates(banger)
    banger.ok("template", "delete", banger.made[:12])
    assert templates(banger) == {}
    assert os.listdir(banger.state_dir / "templates") == []
    assert_error(banger.run("template", "show", banger.made), f"no template '{banger.made}'")
    assert sh_ok(banger, "echo on", vm="x") == "on\n"
    boots(banger, "y")
    events = [e["kind"] for e in banger.json("events") if e["kind"].startswith("template.")]
    assert events == ["template.created", "template.deleted"]
    # Its machine was nobody's VM.
    assert {e["name"] for e in banger.json("events") if e["kind"] == "vm.created"} == {"x", "y"}


def test_first_vm_boots_and_has_a_template_made_without_its_secrets(make_banger):
    banger = make_banger(config='accel = "tcg"\ntemplates = "auto"\n')
    secret = "s3cr3t" + os.urandom(8).hex()
    banger.ok("run", "--rm", "-q", "--name", "first", "--env", f"TOKEN={secret}", "--", "sh", "-c",
              "echo $TOKEN")
    follower = banger.spawn("events", "-f", "--format", "jsonl")
    follower.read_until(b'"template.created"', timeout=60 * SLOWNESS)
    follower.kill()
    (made,) = templates(banger).values()
    assert made["memory_mib"] == 512
    banger.made = made["id"]
    forks(banger, "second")
    directory = banger.state_dir / "templates" / made["id"]
    assert sorted(p.name for p in directory.iterdir()) == ["devices", "disk.ext4", "memory"]
    for path in directory.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert secret.encode() not in (directory / "memory").read_bytes()


def test_templates_can_be_off(make_banger):
    banger = make_banger(config='accel = "tcg"\ntemplates = "off"\n')
    assert_error(banger.run("template", "list"), "templates are off")
    assert boots(banger, "x") is None


def each_damage(whole):
    """(What it is, the file's name, what does it to a copy of the file)."""
    for name in ("memory", "devices", "disk.ext4"):
        size = (whole / name).stat().st_size
        yield f"no {name}", name, os.unlink
        for at in data_offsets(whole / name):
            yield f"{name} flipped at {at}", name, lambda path, at=at: flip(path, at)
        for to in (0, size // 2, size - 1, size + 4096):
            yield f"{name} of {to} bytes", name, lambda path, to=to: os.truncate(path, to)


def test_broken_template_is_found_before_it_is_used(banger_with_template):
    """Each file, at several places; what is broken goes, and a VM boots in its place."""
    banger = banger_with_template
    directory = banger.state_dir / "templates" / banger.made
    whole = banger.root / "whole"
    banger.ok("daemon", "stop")
    shutil.copytree(directory, whole, copy_function=sparse_copy)
    with sqlite3.connect(banger.state_dir / "banger.db") as db:
        row = db.execute("SELECT * FROM template").fetchone()
    db.close()
    for number, (what, name, damage) in enumerate(each_damage(whole)):
        shutil.copytree(whole, directory, copy_function=sparse_copy, dirs_exist_ok=True)
        edit_store(banger, f"REPLACE INTO template VALUES ({','.join('?' * len(row))})", *row)
        damage(directory / name)
        if number % 8 == 0:
            why = boots(banger, f"x{number}")
            assert why.startswith(f"template {banger.made[:12]}: its "), (what, why)
        else:
            checked = banger.run("template", "verify", "--format", "json")
            assert checked.returncode == 1, what
            (check,) = json.loads(checked.stdout)
            assert check["problem"].startswith("its "), (what, check)
        assert templates(banger) == {}, what
        assert os.listdir(banger.state_dir / "templates") == [], what
        banger.ok("daemon", "stop")


def sparse_copy(source, target):
    """With its holes: what is a hole makes no difference, but much work."""
    os.spawnlp(os.P_WAIT, "cp", "cp", "--sparse=always", source, target)


def test_template_that_breaks_under_a_daemon_is_found(banger_with_template):
    """Its memory nobody can change any more; its disk is looked at before each fork."""
    banger = banger_with_template
    directory = banger.state_dir / "templates" / banger.made
    flip(directory / "memory", 0)
    forks(banger, "one")
    assert sh_ok(banger, "echo fine", vm="one") == "fine\n"
    os.utime(directory / "disk.ext4")
    forks(banger, "two")
    flip(directory / "disk.ext4", data_offsets(directory / "disk.ext4")[0])
    assert "its disk.ext4 is not what was saved" in boots(banger, "three")
    assert templates(banger) == {}


def test_template_of_a_host_with_another_clock_is_not_used(banger_with_template):
    banger = banger_with_template
    banger.ok("daemon", "stop")
    edit_store(banger, "UPDATE template SET tsc_khz = tsc_khz * 21 / 20")
    assert "another TSC rate" in boots(banger, "x")
    assert templates(banger) == {}


def test_template_whose_devices_cannot_be_loaded_is_booted_around(banger_with_template):
    """As far as its digests tell it is whole: QEMU refuses it, and the VM boots all the same."""
    banger = banger_with_template
    directory = banger.state_dir / "templates" / banger.made
    banger.ok("daemon", "stop")
    (directory / "devices").write_bytes(b"no devices of QEMU's")
    digest = hashlib.sha256(b"no devices of QEMU's").hexdigest()
    edit_store(banger, "UPDATE template SET devices_digest = ?", digest)
    banger.ok("vm", "create", "-q", "--name", "x")
    how, _, why = origin(banger, "x")
    assert how == "boot" and f"template {banger.made[:12]} is broken: qemu ended with status 1" in why
    assert sh_ok(banger, "hostname", vm="x") == "x\n"
    assert templates(banger) == {}


def test_making_one_can_be_cancelled_and_leaves_nothing(banger):
    making = banger.spawn("template", "create")
    making.read_until(b"boot...", stream="stderr")
    (op,) = [o for o in banger.json("op", "list") if o["kind"] == "template.create"]
    # Nobody's VM, and in nobody's way.
    assert vms(banger) == {} and call(banger, "daemon.status")["vms"] == {}
    assert banger.ok("daemon", "reconcile", "--dry-run").out == ""
    banger.ok("op", "cancel", op["id"])
    assert making.finish().returncode == 1
    assert os.listdir(banger.state_dir / "templates") == []
    assert os.listdir(banger.state_dir / "vms") == []
    assert os.listdir(banger.runtime_dir / "vms") == []
    banger.ok("template", "create")


def qemus(banger):
    return [p.pid for p in banger.processes() if p.program == "qemu-system-x86_64"]


def await_qemus(banger, number):
    """One that is given back is not ready any more before it has ended."""
    deadline = time.monotonic() + 60 * SLOWNESS
    while len(qemus(banger)) != number:
        assert time.monotonic() < deadline, banger.processes()


def test_pool_has_forks_ready_that_become_somebody_new(make_banger):
    banger = make_banger(config='accel = "tcg"\ntemplates = "manual"\npool_size = 2\n')
    banger.made = banger.ok("template", "create").out.strip()
    await_ready(banger, 2)
    # They are nobody's, and counted all the same.
    assert vms(banger) == {} and call(banger, "daemon.status")["vms"] == {"pooled": 2}
    assert banger.ok("daemon", "reconcile", "--dry-run").out == ""
    people = []
    for i in range(4):
        name = f"new-{i}"
        banger.ok("vm", "create", "-q", "--name", name, "--label", f"n={i}")
        assert origin(banger, name) == ("pool", banger.made, f"pool of template {banger.made[:12]}")
        people.append(who_is(banger, name))
        assert people[-1][:2] == [name, vms(banger)[name]["id"]]
        assert_clock_is_right(banger, name)
        await_ready(banger, 2)
    assert_all_differ(people)
    now = vms(banger)
    assert [vm["labels"] for vm in now.values()] == [{"n": str(i)} for i in range(4)]
    assert [p["phase"] for p in now["new-0"]["timeline"]] == ["claim", "configure"]
    # A name that is taken is no reason to lose one.
    before = set(qemus(banger))
    assert_error(banger.run("vm", "create", "--name", "new-1"), "VM 'new-1' exists already")
    assert set(qemus(banger)) == before
    assert banger.run("run", "--rm", "--", "sh", "-c", "exit 5").returncode == 5
    sh_ok(banger, "echo kept >/root/kept; sync", vm="new-0")
    kill_daemon(banger)
    assert sh_ok(banger, "cat /root/kept", vm="new-0") == "kept\n"
    await_ready(banger, 2)
    assert len(qemus(banger)) == 4 + 2
    banger.ok("restart", "new-0")
    assert sh_ok(banger, "cat /root/kept", vm="new-0") == "kept\n"
    events = [(e["kind"], e["name"]) for e in banger.json("events") if e["name"] == "new-3"]
    assert events == [("vm.created", "new-3"), ("vm.running", "new-3")]
    # Another size for this one, which is kept; and what the configuration says.
    for size in (3, 1):
        assert banger.json("template", "pool", banger.made, "--size", str(size))["pool_size"] == size
        await_ready(banger, size)
        await_qemus(banger, 4 + size)
    banger.ok("daemon", "stop")
    assert len(qemus(banger)) == 4
    banger.ok("ps")
    await_ready(banger, 1)
    assert banger.json("template", "pool", banger.made)["pool_size"] == 2
    await_ready(banger, 2)
    # Those that nobody has end with the daemon, or the template.
    banger.ok("daemon", "stop")
    assert len(qemus(banger)) == 4
    banger.ok("ps")
    await_ready(banger, 2)
    banger.ok("template", "delete", banger.made)
    assert len(qemus(banger)) == 4


def test_member_of_a_pool_that_has_died_is_passed_over(make_banger):
    banger = make_banger(config='accel = "tcg"\ntemplates = "manual"\npool_size = 1\n')
    banger.made = banger.ok("template", "create").out.strip()
    await_ready(banger, 1)
    (member,) = qemus(banger)
    os.kill(member, signal.SIGKILL)
    banger.wait_gone(member)
    forks(banger, "x")
    assert sh_ok(banger, "hostname", vm="x") == "x\n"


def test_one_is_made_once_and_the_oldest_make_room(make_banger):
    banger = make_banger(config='accel = "tcg"\ntemplates = "manual"\ntemplate_disk_mib = 120\n')
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        made = {r.out for r in pool.map(lambda _: banger.ok("template", "create"), range(3))}
    (banger.made,) = (m.strip() for m in made)
    assert [e["kind"] for e in banger.json("events")].count("template.created") == 1
    other = banger.ok("template", "create", "--memory", "320M").out.strip()
    assert list(templates(banger)) == [other]
    assert os.listdir(banger.state_dir / "templates") == [other]
    banger.ok("daemon", "stop")
    banger.configure('accel = "tcg"\ntemplates = "manual"\ntemplate_disk_mib = 50\n')
    assert_error(banger.run("template", "create", "--quiet", "--memory", "256M"),
                 "MiB, and all may take 50", hint="template_disk_mib")
    assert os.listdir(banger.state_dir / "templates") == [other]


@pytest.mark.full
@pytest.mark.deadline(1800)
def test_200_forks_in_a_row_and_50_at_once(banger_with_template):
    banger = banger_with_template
    people = []
    for i in range(200):
        forks(banger, f"row-{i}")
        people.append(who_is(banger, f"row-{i}"))
        banger.ok("rm", "--force", f"row-{i}")
    names = [f"at-once-{i}" for i in range(50)]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda name: forks(banger, name), names))
    people += [who_is(banger, name) for name in names]
    assert_all_differ(people)
    banger.ok("rm", "--force", *names)
