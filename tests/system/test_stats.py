"""stats and top: what the host measures, what guests say, and guests that say nothing."""

import json
import re
import subprocess

import pytest
from banger import BUILD
from steps import SHARED_VM, assert_error, call, fake_banger, needs_root, sh_ok, vms

CREATE = ["vm", "create", "-q", "--vmm", "fake", "--name"]


@pytest.fixture
def fake(make_banger):
    return fake_banger(make_banger)


@pytest.mark.sanitize
def test_stats_of_a_real_guest(shared):
    (stats,) = [row for row in shared.json("stats", SHARED_VM, "--interval", "100ms",
                                           "--timeout", "60s")]
    assert stats["name"] == SHARED_VM and stats["net"] is None
    assert stats["cpu_ms"] > 0 and stats["cpu_permille"] >= 0 and stats["interval_ms"] >= 100
    assert stats["rss_bytes"] > 1 << 20
    # With root the VMM is another user's, and only root may look.
    assert 0 < stats["pss_bytes"] <= stats["rss_bytes"] and stats["pss_why"] is None
    assert stats["disk"]["apparent_bytes"] >= stats["disk"]["allocated_bytes"] > 0
    guest = stats["guest"]
    assert guest["memory_total_bytes"] > guest["memory_available_bytes"] > 0
    root = [disk for disk in guest["disks"] if disk["mount"] == "/"]
    assert len(root) == 1 and root[0]["size_bytes"] > root[0]["used_bytes"]
    assert not any("banger-agent" in s["command"] for s in shared.json("session", "list", SHARED_VM))


@pytest.mark.sanitize
def test_processes_of_a_real_guest(shared):
    pid = int(sh_ok(shared, "sleep 1000 >/dev/null 2>&1 & echo $!",
                    flags=("--user", "user")))
    processes = shared.json("top", SHARED_VM, "--timeout", "60s")
    by_pid = {p["pid"]: p for p in processes}
    assert by_pid[1]["ppid"] == 0 and by_pid[1]["user"] == "root" and by_pid[1]["cpu_ms"] >= 0
    assert (by_pid[pid]["user"], by_pid[pid]["command"]) == ("user", "sleep 1000")
    sh_ok(shared, f"kill {pid}")
    assert any(p["command"].startswith("[k") for p in processes)
    assert any("processes" in p["command"] for p in processes)  # the one that asks
    table = shared.ok("top", SHARED_VM, "--timeout", "60s").out
    assert table.split("\n")[0].split() == ["PID", "USER", "STATE", "CPU", "CPU", "TIME", "MEM",
                                            "COMMAND"]


def test_ports_of_a_real_guest(shared):
    sh_ok(shared, "httpd -p 127.0.0.1:8081 && httpd -p 8080 && httpd -p [::1]:8082",
          flags=("--user", "user"))
    listeners = shared.json("vm", "ports", SHARED_VM, "--timeout", "60s")
    assert [(x["port"], x["protocol"], x["address"]) for x in listeners] == [
        (8080, "tcp", "::"), (8081, "tcp", "127.0.0.1"), (8082, "tcp", "::1")]
    assert {x["user"] for x in listeners} == {"user"}
    assert [x["command"] for x in listeners] == [
        "httpd -p 8080", "httpd -p 127.0.0.1:8081", "httpd -p [::1]:8082"]
    pids = [str(x["pid"]) for x in listeners]
    table = shared.ok("vm", "ports", SHARED_VM, "--timeout", "60s").out.splitlines()
    assert table[0].split() == ["PORT", "PROTOCOL", "ADDRESS", "PID", "USER", "COMMAND"]
    assert table[2].split() == ["8081", "tcp", "127.0.0.1", pids[1], "user", "httpd", "-p",
                                "127.0.0.1:8081"]
    assert shared.ok("vm", "ports", "-q", SHARED_VM, "--timeout", "60s").out.split() == [
        "8080", "8081", "8082"]
    sh_ok(shared, f"kill {' '.join(pids)}; while kill -0 {pids[0]} {pids[1]} {pids[2]}; do :; done")
    assert shared.json("vm", "ports", SHARED_VM, "--timeout", "60s") == []


# In a network of its own, whose sockets are its, it asks the agent.
SOCKETS = r"""
import os, socket as s, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
def at(family, kind, address, port):
    one = s.socket(family, kind)
    one.bind((address, port))
    return one
all = [at(s.AF_INET, s.SOCK_STREAM, "0.0.0.0", 8080), at(s.AF_INET6, s.SOCK_STREAM, "::1", 8080),
       at(s.AF_INET6, s.SOCK_DGRAM, "::1", 53), at(s.AF_INET, s.SOCK_DGRAM, "127.0.0.1", 53)]
for one in all[:2]:
    one.listen()
bound = at(s.AF_INET, s.SOCK_STREAM, "127.0.0.1", 9000)  # and does not listen
talks = s.create_connection(("127.0.0.1", 8080))
sends = at(s.AF_INET, s.SOCK_DGRAM, "127.0.0.1", 9001)  # to one alone
sends.connect(("127.0.0.1", 53))
many = [at(s.AF_INET, s.SOCK_DGRAM, f"127.1.{i // 250}.1", 10000 + i) for i in range(int(sys.argv[2]))]
print(os.getpid(), flush=True)
subprocess.run([sys.argv[1], "--files", "listeners", "0"], check=True)
"""


@needs_root
@pytest.mark.parametrize("more", [0, 1200])
def test_agent_tells_listeners_from_other_sockets(tmp_path, more):
    script = tmp_path / "sockets.py"
    script.write_text(SOCKETS)
    told = subprocess.run(["prlimit", "--nofile=4096", "unshare", "--net", "/usr/bin/python3", script,
                           BUILD / "banger-agent", str(more)], capture_output=True, text=True,
                          timeout=60, check=True).stdout.splitlines()
    assert told[-1] == f"more {max(0, more + 4 - 1000)}"
    if more:
        assert len(told) == 1 + 1000 + 1
        return
    command = f"/usr/bin/python3 {script} {BUILD}/banger-agent {more}"[:128]
    who = f"{told[0]} root"
    assert told[1:-1] == [f"listener {what} {command}" for what in (
        f"udp 53 {who} ::1", f"udp 53 {who} 127.0.0.1", f"tcp 8080 {who} 0.0.0.0",
        f"tcp 8080 {who} ::1")]


def test_stats_of_all_that_run(fake):
    for name in ("a", "b", "c"):
        fake.ok(*CREATE, name)
    fake.ok("stop", "b")
    rows = fake.json("stats")
    assert [row["name"] for row in rows] == ["a", "c"]
    assert all(row["guest"]["memory_total_bytes"] > 0 for row in rows)
    assert_error(fake.run("stats", "b"), "'b' is not running")
    assert_error(fake.run("top", "b"), "'b' is not running")
    assert_error(fake.run("vm", "ports", "b"), "'b' is not running")
    lines = fake.ok("stats", "a", "c").out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "a", "c"]
    assert vms(fake)["a"]["sessions"] == 0


@pytest.mark.sanitize
def test_silent_guest_holds_up_nobody(fake):
    fake.ok(*CREATE, "good")
    fake.ok(*CREATE, "silent", "--label", "banger.fake=hang@exec")
    rows = fake.json("stats", "--timeout", "1s", "--interval", "10ms", "silent", "good")
    silent, good = rows
    assert (silent["guest"], good["guest_why"]) == (None, None)
    assert "in time" in silent["guest_why"] and silent["rss_bytes"] > 0
    assert good["interval_ms"] < 1000 <= silent["interval_ms"]
    assert_error(fake.run("top", "--timeout", "1s", "silent"), "in time", hint=False)
    assert "in time" in fake.ok("stats", "--timeout", "100ms", "silent").out


def test_paused_guest_is_not_asked(fake):
    fake.ok(*CREATE, "x")
    fake.ok("pause", "x")
    stats = call(fake, "vm.stats", vm="x", interval_ms=10)
    assert stats["guest"] is None and "paused" in stats["guest_why"]


def test_watch_prints_rows_again(fake):
    fake.ok(*CREATE, "x")
    child = fake.spawn("stats", "--watch", "--interval", "20ms", "--format", "jsonl", "x")
    child.read_until(re.compile(rb"(.*\n){3}"))
    assert [json.loads(line)["name"] for line in child.output["stdout"].splitlines()[:3]] == \
        ["x", "x", "x"]
    fake.ok("rm", "-f", "x")
    assert_error(child.finish(), "cannot measure 'x'", hint=False)


def test_watch_refreshes_a_terminal(fake):
    fake.ok(*CREATE, "x")
    child = fake.spawn("stats", "--watch", "--interval", "20ms", tty=("stdin", "stdout", "stderr"))
    child.read_until(b"\x1b[H\x1b[2JNAME")
    child.output["stdout"] = b""
    child.read_until(b"\x1b[H\x1b[2JNAME")
    child.send(b"\x03")
    child.finish()
