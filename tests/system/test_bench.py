"""The floors that `make bench` measures against do what they claim. No times are looked at."""

import json
import os
import subprocess
import sys

import pytest

from banger import BUILD, OUTSIDE, ROOT
from steps import vm_files

sys.path.insert(0, str(ROOT / "tests" / "bench"))

import bench  # noqa: E402
import scale  # noqa: E402

TRUE = ("run", "--rm", "--quiet", "--", "true")
QEMU = "qemu-system-x86_64"


def head(path):
    with open(path, "rb") as f:
        return f.read(4096)


@pytest.fixture
def measuring(banger):
    return bench.Bench(banger, pairs=1, quick=True)


def test_boot_floor_runs_true_in_a_guest_and_leaves_nothing(measuring):
    banger = measuring.instance
    with measuring.vm("line") as vm:
        line = bench.Line(banger, vm)
        qemu = banger.qemu_pids()
        with open(f"/proc/{qemu[0]}/cmdline", "rb") as f:
            original = f.read().decode().rstrip("\0").split("\0")
    done = bench.floor(banger, "boot", *line.arguments())
    # The agent that answered is the one that was built.
    assert done["agent"] == banger.json("version")["version"]
    assert done["status"] == 0
    assert done["pid"] not in qemu
    assert not os.path.exists(f"/proc/{done['pid']}")
    assert banger.qemu_pids() == []
    assert 0 < done["hello_ms"] < done["configured_ms"] < done["exited_ms"] < done["reaped_ms"]
    # The guest wrote to its own copy of the disk (its superblock), not to what copies are made of.
    assert head(line.fresh_disk) != head(line.unused_disk)
    # It was the machine that banger starts.
    original.remove("-S")
    original[original.index("-L") + 1] = str(line.directory)
    assert line.argv == original
    assert sorted(what.split(":")[0] for what in line.fds.values()) == \
        ["a", "agent", "listen", "r", "r", "r", "w"]


def test_boot_floor_that_fails_leaves_no_qemu(bare):
    for message, *args in (
            ("the other side has ended|reset", "9=agent", "--", QEMU, "-no-such-option"),
            ("no descriptor is the agent's", "--", QEMU),
            ("/nonexistent", "9=agent", "3=r:/nonexistent", "--", QEMU),
            ("cannot start", "9=agent", "--", "/nonexistent")):
        with pytest.raises(bench.FloorFailed, match=message):
            bench.floor(bare, "boot", *args)
    assert bare.processes() == []


def test_ping_floor_asks_both_guests_and_reaps_its_own(measuring):
    banger = measuring.instance
    with measuring.vm("pinged") as vm:
        line = bench.Line(banger, vm)
        qemu = banger.qemu_pids()
        done = bench.floor(banger, "ping", banger.socket_path, vm, 2, 5, *line.arguments())
        assert banger.qemu_pids() == qemu
        with pytest.raises(bench.FloorFailed, match="vm.ping: .*not_found"):
            bench.floor(banger, "ping", banger.socket_path, "nobody", 1, 1, *line.arguments())
        assert banger.qemu_pids() == qemu
    assert sorted(done) == ["agent_burst_ms", "agent_ms", "daemon_ping_ms", "vm_ping_burst_ms",
                            "vm_ping_ms"]
    assert all(len(values) == 2 and min(values) > 0 for values in done.values())


def test_run_floor_waits_until_the_vm_is_gone(measuring):
    banger = measuring.instance
    banger.ok("image", "list")
    done = bench.floor(banger, "run", banger.vmm_parent_pid(), "--", banger.program(), *TRUE)
    assert done["status"] == 0 and done["exited_ms"] <= done["gone_ms"]
    assert banger.qemu_pids() == []
    # A command that leaves its VM running for a moment: the daemon removes it.
    done = bench.floor(banger, "run", banger.vmm_parent_pid(), "--", banger.program(), "run",
                       "--rm", "--detach", "--quiet", "--", "true")
    assert done["status"] == 0
    assert banger.qemu_pids() == []


def test_spawn_floor_starts_both_in_turn(measuring):
    banger = measuring.instance
    log = banger.root / "log"
    done = bench.floor(banger, "spawn", 3, "--", "/bin/sh", "-c", f"echo a >> {log}",
                       "--", "/bin/sh", "-c", f"echo b >> {log}")
    assert log.read_text().split() == ["a", "b"] * 3
    assert len(done["a_ms"]) == len(done["b_ms"]) == 3
    with pytest.raises(bench.FloorFailed, match="ended with status 1"):
        bench.floor(banger, "spawn", 3, "--", "/bin/true", "--", "/bin/false")


def test_stream_floor_moves_the_bytes_both_ways(measuring):
    qemu = measuring.instance.qemu_pids()
    figures = bench.measure_streams(measuring)
    assert measuring.instance.qemu_pids() == qemu
    raw = measuring.raw["streams"]
    assert sorted(raw) == ["in_ms", "out_ms", "pipe_in_ms", "pipe_out_ms", "raw_in_ms",
                           "raw_out_ms"]
    assert all(len(values) == 2 and min(values) > 0 for values in raw.values())
    assert len(figures) == 4 and all(f.least for f in figures)


def contents(directory):
    return {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_copy_floor_brings_the_files_there_and_back(measuring):
    banger = measuring.instance
    figures = bench.measure_cp(measuring)
    assert banger.qemu_pids() == []
    assert len(figures) == 4 and all(f.least for f in figures)
    for raw in measuring.raw.values():
        assert sorted(raw) == ["in_ms", "out_ms", "tar_in_ms", "tar_out_ms"]
        assert all(len(values) == 1 and values[0] > 0 for values in raw.values())
    # What either has brought back is what it had brought there: the guests share nothing.
    copies = banger.root / "copies"
    tree = contents(copies / "tree")
    assert len(tree) == 20
    assert contents(copies / "by-tar" / "tree") == tree
    assert contents(copies / "by-banger") == tree


def test_copy_floor_fails_when_the_guest_cannot_unpack(measuring):
    banger = measuring.instance
    line = measuring.line()
    no_tar = banger.root / "no-tar"
    no_tar.write_bytes(b"x" * 10240)
    with pytest.raises(bench.FloorFailed, match="the guest cannot unpack"):
        bench.floor(banger, 1, no_tar,
                    *line.arguments(init=banger.program("guest-floor"),
                                    files={"busybox": bench.BUSYBOX}),
                    "--clean", "true", "--in", "true", "--out", "true", "--unpack", "true",
                    program="bench-copy")
    assert banger.qemu_pids() == []


def test_fairness_is_measured_beside_a_crowd(measuring):
    idle, *crowded = bench.measure_fairness(measuring)
    assert len(idle.value.values) == 2 and len(crowded) == 2
    assert measuring.instance.run("vm", "list", "-q").out == ""


def test_exec_is_measured_beside_the_guests_own(measuring):
    figure, = bench.measure_exec(measuring)
    assert min(figure.value.values) > 0 and min(figure.floor.values) > 0


def test_scale_is_measured_on_many_vms_and_leaves_nothing(measuring, make_banger):
    other = make_banger()
    figures = bench.measure_scale(other, measuring)
    assert [f.target for f in figures if f.target] == [15, 500, 0.5, 16, 16, 16, 3]
    assert all(f.absolute for f in figures if f.target)
    assert all(min(f.value.values) > 0 for f in figures if f.value.unit != "%")
    assert [p.program for p in other.processes()] == []
    assert vm_files(other) == []


def test_floor_of_listings_prints_what_it_was_sent(bare):
    echo = scale.Echo(bare.root / "echo", b"0123456789" * 100000 + b"\n")
    try:
        done = subprocess.run([BUILD / "bench-scale", "fetch", echo.path, "123456"],
                              capture_output=True, timeout=60, check=True)
    finally:
        echo.close()
    assert done.stdout == (b"0123456789" * 100000)[:123456]


def test_calls_that_fail_are_no_measurement(banger):
    banger.ok("image", "list")
    assert len(scale.calls(banger, "daemon.ping", "{}", 50, 7)["each_ms"]) == 50
    with pytest.raises(bench.FloorFailed, match="vm.ping: .*not_found"):
        scale.calls(banger, "vm.ping", '{"vm":"v%"}', 5, 2)


def test_forks_are_measured_beside_boots_and_leave_nothing(measuring):
    figures = bench.measure(measuring, ["forks"])
    assert [f.target for f in figures] == [0.03, 0.12, 1.3, None, None, 45, 10, 3, 1.05]
    assert measuring.instance.qemu_pids() == []


def test_vms_alive_together_are_measured_and_gone(measuring):
    assert [f.target for f in bench.measure(measuring, ["density"])] == [2000, None, 0.25, None]
    assert measuring.instance.qemu_pids() == []


def test_bench_prints_a_table_and_names_the_machine(tmp_path):
    values = tmp_path / "values.json"
    done = subprocess.run([*OUTSIDE, sys.executable, ROOT / "tests/bench/bench.py", "--quick",
                           "--only", "version", "--json", values], capture_output=True, text=True,
                          env=os.environ | {"BANGER_BUILD": str(BUILD)}, check=False)
    assert done.returncode == 0, done.stderr
    assert "machine: " in done.stdout and "QEMU emulator" in done.stdout
    row = next(line for line in done.stdout.splitlines() if "banger version" in line)
    assert "≤ 5 ms" in row
    figure = json.loads(values.read_text())["figures"][0]
    assert len(figure["value"]) == len(figure["floor"]) == len(figure["ratio"]) == 2
