"""What can be changed of a VM, from when on, and what is refused: vm set, vm rename."""

import json

import pytest
from steps import assert_error, call, fake_banger, sh_ok, vms

GIB = 1 << 30


@pytest.fixture
def fake(make_banger):
    return fake_banger(make_banger)


def create(banger, *names, flags=()):
    for name in names:
        banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", name, *flags)


def plan(result):
    """{field: when it applies} of a VMSet object."""
    return {change["field"]: change["applies"] for change in result["changes"]}


# Live ---------------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_labels_and_description_change_at_once(fake):
    create(fake, "a", flags=["--label", "x=1", "--label", "y=2", "--description", "first"])
    assert vms(fake)["a"]["description"] == "first"
    result = fake.json("vm", "set", "a", "--label", "x=3", "--label", "z=4", "--unlabel", "y",
                       "--unlabel", "not-there", "--description", "second, 'quoted'\x1b[2J")
    assert plan(result) == {"labels": "live", "description": "live"}
    vm = vms(fake)["a"]
    assert vm == result["vm"]
    assert (vm["labels"], vm["description"]) == ({"x": "3", "z": "4"}, "second, 'quoted'\x1b[2J")
    said = fake.ok("vm", "set", "a", "--description", "", "--unlabel", "z")
    assert "\x1b" not in said.out
    assert said.out.splitlines()[1] == "a: labels '{\"x\":\"3\",\"z\":\"4\"}' -> '{\"x\":\"3\"}'"
    # It is the next daemon's, too.
    fake.ok("daemon", "stop")
    fake.ok("ps")
    vm = vms(fake)["a"]
    assert (vm["labels"], vm["description"]) == ({"x": "3"}, "")


def test_what_is_so_already_is_no_change(fake):
    create(fake, "a", flags=["--label", "x=1"])
    before = vms(fake)["a"]
    result = fake.json("vm", "set", "a", "--label", "x=1", "--name", "a", "--vcpus", "1",
                       "--memory", "512", "--disk", "8G", "--description", "")
    assert result == {"vm": before, "changes": []}
    assert fake.ok("vm", "set", "a", "--vcpus", "1").out == ""


def test_name_is_the_guests_as_well(banger):
    banger.ok("vm", "create", "-q", "--name", "one")
    banger.ok("vm", "rename", "one", "two")
    assert sh_ok(banger, "hostname; grep -c two /etc/hosts", vm="two") == "two\n1\n"
    assert_error(banger.run("vm", "show", "one"), "no VM 'one'")
    banger.ok("vm", "create", "-q", "--name", "one", "--no-start")  # it is free
    # Its run directory, its process and its disk are as they were.
    assert banger.ok("daemon", "reconcile", "--dry-run").out == ""
    banger.ok("pause", "two")
    result = banger.json("vm", "set", "two", "--name", "three")
    assert "calls itself 'two' until its next start" in result["changes"][0]["note"]
    banger.ok("resume", "three")
    banger.ok("restart", "three")
    assert sh_ok(banger, "hostname", vm="three") == "three\n"


# At the next start --------------------------------------------------------------------------------

MEASURE = "nproc; awk '/MemTotal/ {print $2}' /proc/meminfo; df -k / | awk 'END {print $2}'"


def measure(banger, vm="one"):
    """Processors, KiB of memory, KiB of the filesystem."""
    return list(map(int, sh_ok(banger, MEASURE, vm=vm).split()))


@pytest.mark.sanitize
def test_machine_changes_with_the_next_start(banger):
    banger.ok("vm", "create", "-q", "--name", "one", "--disk", "256M")
    sh_ok(banger, "echo kept >/root/file", vm="one")
    cpus, memory, disk = measure(banger)
    banger.ok("pause", "one")
    said = banger.ok("vm", "set", "one", "--vcpus", "2", "--memory", "768M", "--disk", "1G").out
    assert said.splitlines() == [
        "one: vcpus '1' -> '2', from its next start on",
        "one: memory_mib '512' -> '768', from its next start on",
        f"one: disk_bytes '{GIB // 4}' -> '{GIB}', from its next start on"]
    banger.ok("resume", "one")
    vm = vms(banger)["one"]
    assert (vm["vcpus"], vm["memory_mib"], vm["disk_bytes"]) == (2, 768, GIB)
    assert vm["pending"] == ["vcpus", "memory_mib", "disk_bytes"]
    assert measure(banger) == [cpus, memory, disk]
    banger.ok("restart", "one")
    assert vms(banger)["one"]["pending"] == []
    now = measure(banger)
    assert (cpus, now[0]) == (1, 2)
    assert now[1] - memory == pytest.approx(256 << 10, rel=0.1)
    assert now[2] - disk == pytest.approx(768 << 10, rel=0.1)
    # The filesystem has the new room, and what was there.
    assert sh_ok(banger, "dd if=/dev/zero of=/root/large bs=1M count=300 2>/dev/null && "
                         "cat /root/file; rm /root/large", vm="one") == "kept\n"


@pytest.mark.sanitize
def test_disk_of_a_vm_that_runs_grows_at_once(banger):
    """Under a guest that writes all the time, twice, and once more by a daemon that has adopted it."""
    banger.ok("vm", "create", "-q", "--name", "one", "--disk", "256M")
    boot_id = sh_ok(banger, "cat /proc/sys/kernel/random/boot_id", vm="one")
    sh_ok(banger, "echo kept >/root/file; (while sleep 0.05; do echo x >>/root/log; done) "
                  ">/dev/null 2>&1 &", vm="one")
    _, _, before = measure(banger)
    said = banger.ok("vm", "set", "one", "--disk", "512M", "--dry-run").out
    assert said == f"one: disk_bytes '{GIB // 4}' -> '{GIB // 2}'\n"
    for mib in (512, 768):
        assert banger.ok("vm", "set", "one", "--disk", f"{mib}M").out.endswith(f"-> '{mib << 20}'\n")
        assert measure(banger)[2] - before == pytest.approx((mib - 256) << 10, rel=0.1)
        vm = vms(banger)["one"]
        assert (vm["disk_bytes"], vm["pending"]) == (mib << 20, [])
    # What is written lies beyond the size that QEMU was started with.
    written = sh_ok(banger, "head -c 10M /dev/urandom >/root/part; cd /root; for i in $(seq 30); do "
                            "cat part; done >large; sync; md5sum large", vm="one")
    banger.ok("daemon", "stop")
    banger.ok("ps")
    assert plan(banger.json("vm", "set", "one", "--disk", "1G")) == {"disk_bytes": "live"}
    assert measure(banger)[2] - before == pytest.approx(768 << 10, rel=0.1)
    assert sh_ok(banger, "cat /proc/sys/kernel/random/boot_id", vm="one") == boot_id
    banger.ok("restart", "one")
    assert sh_ok(banger, "cd /root; cat file; md5sum large", vm="one") == "kept\n" + written


def test_change_of_a_stopped_vm_is_not_pending(fake):
    create(fake, "a", flags=["--no-start"])
    fake.ok("vm", "set", "a", "--vcpus", "4")
    vm = vms(fake)["a"]
    assert (vm["vcpus"], vm["pending"]) == (4, [])
    fake.ok("start", "a")
    assert vms(fake)["a"]["pending"] == []
    fake.ok("vm", "set", "a", "--vcpus", "2")
    assert vms(fake)["a"]["pending"] == ["vcpus"]
    fake.ok("vm", "set", "a", "--vcpus", "4")
    assert vms(fake)["a"]["pending"] == []
    fake.ok("vm", "set", "a", "--vcpus", "3")
    fake.ok("stop", "a")
    assert vms(fake)["a"]["pending"] == []


# Refused ------------------------------------------------------------------------------------------

def test_all_or_nothing(fake):
    create(fake, "a", "b")
    before = vms(fake)
    for flags, said in ((["--disk", "64M"], "cannot shrink"),
                        (["--name", "b"], "'b' exists already"),
                        (["--name", "No!"], "'No!' is not a name")):
        assert_error(fake.run("vm", "set", "a", "--vcpus", "3", "--label", "x=1", *flags),
                     "cannot change 'a'", said)
        assert vms(fake) == before
    many = [f"--label=l{i}=x" for i in range(64)]
    fake.ok("vm", "set", "b", *many)
    assert_error(fake.run("vm", "set", "b", "--label", "one=more", "--vcpus", "2"), "64 labels",
                 hint="--unlabel")
    assert vms(fake)["b"]["vcpus"] == 1
    fake.ok("vm", "set", "b", "--label", "one=more", "--unlabel", "l7")
    assert_error(fake.run("vm", "set", "a"), "nothing to set", hint="vm set VM")
    # Two VMs cannot both have the name; the one that can has it.
    result = fake.run("vm", "set", "a", "b", "--name", "c")
    assert_error(result, "cannot change", "'c' exists already")
    assert len(set(vms(fake)) & {"a", "b"}) == 1 and "c" in vms(fake)


def test_dry_run_says_what_would_be_done_and_does_nothing(fake):
    create(fake, "a", "b")
    before = vms(fake)
    result = fake.json("vm", "set", "a", "--dry-run", "--name", "b", "--vcpus", "2", "--disk", "64M",
                       "--label", "x=1")
    assert plan(result) == {"name": "refused", "labels": "live", "vcpus": "next_start",
                            "disk_bytes": "refused"}
    assert result["vm"] == before["a"] and vms(fake) == before
    lines = fake.ok("vm", "set", "a", "--dry-run", "--name", "b", "--vcpus", "2").out.splitlines()
    assert lines == ["a: name 'a' -> 'b', refused: VM 'b' exists already",
                     "a: vcpus '1' -> '2', from its next start on"]


def test_set_of_several_is_told_of_each(fake):
    create(fake, "a", "b", flags=["--no-start"])
    result = fake.run("vm", "update", "b", "nothing", "a", "--vcpus", "2", "--format", "json")
    assert result.returncode == 1 and "no VM 'nothing'" in result.err
    assert [one["vm"]["name"] for one in json.loads(result.out)] == ["b", "a"]
    assert fake.ok("vm", "set", "-q", "a", "--vcpus", "3").out == ""


def test_bad_values_are_refused_by_name(fake):
    create(fake, "a")
    before = vms(fake)
    for params, said in (({"vcpus": 0}, "vcpus"), ({"memory_mib": 1}, "memory_mib"),
                         ({"disk_bytes": 1}, "disk_bytes"), ({"labels": {"x": 1}}, "labels"),
                         ({"description": "x" * 1025}, "description"), ({"unlabel": "x"}, "unlabel"),
                         ({"name": ""}, "name")):
        with fake.rpc() as rpc:
            rpc.checks = False
            error = rpc.call("vm.set", {"vm": "a"} | params)["error"]
        assert error["data"]["code"] == "invalid" and said in error["message"], params
    assert vms(fake) == before
    assert call(fake, "vm.set", vm="a", description="x" * 1024)["vm"]["description"] == "x" * 1024
