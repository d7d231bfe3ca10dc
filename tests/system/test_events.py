"""Events: what became of VMs, images, kernels and templates; numbered, kept, followed, bounded."""

import json
import os
import re
import signal
import sqlite3

import pytest
from steps import assert_error, call, fake_banger

CREATE = ["vm", "create", "-q", "--vmm", "fake", "--name"]
KEPT = 10000


@pytest.fixture
def fake(make_banger):
    return fake_banger(make_banger)


def events(banger, *args):
    return banger.json("events", *args)


def of(banger, name):
    return [(e["kind"], e["reason"]) for e in events(banger) if e["name"] == name]


def insert(banger, count):
    """As many more, as if they had happened."""
    with sqlite3.connect(banger.state_dir / "banger.db") as db:
        db.executemany("INSERT INTO event (kind, object, name, reason) VALUES ('vm.set', ?, ?, '')",
                       [("0" * 32, f"n{i}") for i in range(count)])
    db.close()


def test_life_of_a_vm_is_told_in_order(fake):
    fake.ok(*CREATE, "a", "--label", "x=y")
    fake.ok("vm", "set", "a", "--description", "new")
    fake.ok("vm", "rename", "a", "b")
    fake.ok("pause", "b")
    fake.ok("resume", "b")
    fake.ok("stop", "b")
    fake.ok("start", "b")
    fake.ok("rm", "--force", "b")
    all_events = events(fake)
    ids = {e["object"] for e in all_events if e["kind"].startswith("vm.")}
    assert len(ids) == 1 and len(ids.pop()) == 32
    assert of(fake, "a")[0] == ("vm.created", None)
    assert of(fake, "a")[-2:] == [("vm.running", None), ("vm.set", None)]
    assert [kind for kind, _ in of(fake, "b")] == [
        "vm.set", "vm.paused", "vm.running", "vm.stopping", "vm.stopped", "vm.starting",
        "vm.running", "vm.stopped", "vm.deleted"]
    assert ("vm.stopped", "user") in of(fake, "b") and ("vm.paused", "user") in of(fake, "b")
    # None is left out, and time does not go back.
    numbers = [e["number"] for e in all_events]
    assert numbers == list(range(1, len(numbers) + 1))
    times = [e["time"] for e in all_events]
    assert times == sorted(times)


def test_own_end_of_a_vm_is_told_with_its_reason(fake):
    fake.ok(*CREATE, "a", "--label", "banger.fake=die@exec")
    fake.run("exec", "a", "--", "true")
    call(fake, "vm.wait", vm="a", until="stopped")
    assert of(fake, "a")[-1] == ("vm.stopped", "vmm_died: killed by signal 9")


def test_names_of_images_and_kernels_are_told(fake):
    images = {name for i in fake.json("image", "list") for name in i["names"]}
    found = {(e["kind"], e["name"]) for e in events(fake)}
    assert images and {("image.named", name) for name in images} <= found
    assert [e for e in events(fake, "--filter", "kind=kernel.*")][0]["object"].startswith("sha256:")


def test_templates_are_told_and_not_the_machines_they_were(banger):
    last = events(banger)[-1]["number"]
    made = banger.ok("template", "create", "-q").out.strip()
    banger.ok("template", "delete", made)
    since = events(banger, "--since", str(last))
    assert [(e["kind"], e["object"], e["name"], e["reason"]) for e in since] == [
        ("template.created", made, "debian", None), ("template.deleted", made, "debian", None)]
    line = banger.ok("events", "--filter", "kind=template.*").out.splitlines()[-1]
    assert re.fullmatch(rf" *\d+  \S+Z  template\.deleted +debian +{made[:12]}", line), line


def test_formats_filters_and_numbers(fake):
    for name in ("a", "b"):
        fake.ok(*CREATE, name, "--no-start")
    whole = events(fake)
    last = whole[-1]["number"]
    assert fake.ok("events", "-q").out.split() == [str(e["number"]) for e in whole]
    lines = fake.ok("events", "--format", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == whole
    line = fake.ok("events").out.splitlines()[-1]
    assert re.fullmatch(rf" *{last}  \S+Z  vm\.created +b +[0-9a-f]{{12}}", line), line
    assert events(fake, "--since", str(last)) == []
    assert [e["number"] for e in events(fake, "--since", str(last - 1))] == [last]
    assert {e["name"] for e in events(fake, "--filter", "name=a", "--filter", "kind=vm.*")} == {"a"}
    assert {e["name"] for e in events(fake, "--since", "0", "--filter", "kind!=image.*",
                                      "--filter", "kind!=kernel.*")} == {"a", "b"}
    assert len(call(fake, "events.list", limit=2)) == 2
    assert_error(fake.run("events", "--filter", "nam=a"), "'nam'", status=2, hint="'name'")
    assert_error(fake.run("events", "--since", "x"), "since", status=2)
    assert_error(fake.run("events", "--since", "-1"), "since", status=2)
    assert_error(fake.run("events", "-f", "--format", "json"), "--follow", status=2, hint="jsonl")


def test_follower_sees_what_was_and_what_comes(fake):
    fake.ok(*CREATE, "a")
    child = fake.spawn("events", "-f", "--format", "jsonl", "--filter", "kind=vm.*")
    child.read_until(b'"vm.running"')
    fake.ok("stop", "a")
    child.read_until(b'"vm.stopped"')
    fake.ok("rm", "a")
    child.read_until(b'"vm.deleted"')
    child.signal(signal.SIGINT)
    result = child.finish()
    assert result.returncode in (-signal.SIGINT, 130), repr(result)
    assert [json.loads(line) for line in result.out.splitlines()] == \
        events(fake, "--filter", "kind=vm.*")


def test_numbers_go_on_under_the_next_daemon_and_none_is_lost(fake):
    fake.ok(*CREATE, "a")
    child = fake.spawn("events", "-f", "--format", "jsonl")
    child.read_until(b'"vm.running"')
    before = events(fake)
    pid = fake.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    fake.wait_gone(pid)
    result = child.finish()
    assert_error(result, hint=f"--since {before[-1]['number']}")
    assert [json.loads(line) for line in result.out.splitlines()] == before
    fake.ok("stop", "a")
    whole = events(fake)
    assert whole[:len(before)] == before
    assert events(fake, "--since", str(before[-1]["number"])) == whole[len(before):]
    assert [e["number"] for e in whole] == list(range(1, len(whole) + 1))


@pytest.mark.sanitize
def test_subscriber_that_does_not_read_is_cut_and_loses_nothing(fake):
    fake.ok("daemon", "stop")
    insert(fake, KEPT)
    fake.ok("ps")
    seen = [e["number"] for e in events(fake)]
    with fake.rpc() as rpc:
        wanted = rpc.request("events.subscribe", {"since": 0})
        # The others are served meanwhile; it is cut while nobody reads here.
        with fake.rpc() as other:
            assert other.call("daemon.ping")["result"] == {}
        wait_cut(fake)
        got, error = [], None
        while error is None:
            reply = json.loads(rpc.read_line())
            if reply.get("id") == wanted:
                error = reply["error"]
            else:
                assert reply["method"] == "events.event"
                got.append(reply["params"]["number"])
        assert error["data"]["code"] == "limit" and f"since {got[-1]}" in error["data"]["hint"]
        assert 0 < len(got) < len(seen)
        # From there on it misses none, and repeats none.
        rpc.request("events.subscribe", {"since": got[-1]})
        while got[-1] < seen[-1]:
            reply = json.loads(rpc.read_line())
            if "params" in reply:
                got.append(reply["params"]["number"])
            else:
                rpc.request("events.subscribe", {"since": got[-1]})
        assert got == seen


def wait_cut(banger):
    while b"a subscriber of events" not in (banger.state_dir / "bangerd.log").read_bytes():
        call(banger, "daemon.ping")


def test_follower_whose_reader_is_slow_misses_none(fake):
    fake.ok("daemon", "stop")
    insert(fake, KEPT)
    fake.ok("ps")
    first = events(fake)[0]["number"]
    script = f"{fake.program()} events -f -q | (read first; kill -STOP $$; echo $first; exec cat)"
    child = fake.spawn_argv(["sh", "-c", script])
    stopped = child.pid
    while open(f"/proc/{stopped}/stat", encoding="ascii").read().rpartition(")")[2].split()[0] != "T":
        pass
    fake.ok(*CREATE, "a", "--no-start")
    os.kill(stopped, signal.SIGCONT)
    last = events(fake)[-1]["number"]
    child.read_until(f"\n{last}\n".encode())
    for pid in fake.pids("banger"):
        if pid != fake.daemon_pid():
            os.kill(pid, signal.SIGTERM)
    result = child.finish()
    assert [int(n) for n in result.out.split()] == list(range(first, last + 1))


def test_ten_thousand_are_kept_and_a_gap_is_told(fake):
    fake.ok("daemon", "stop")
    insert(fake, KEPT + 50)
    result = fake.ok("events", "-q", "--since", "10")
    numbers = [int(n) for n in result.out.split()]
    assert len(numbers) == KEPT and numbers[-1] - numbers[0] == KEPT - 1
    assert f"{numbers[0] - 11} events after 10 are no longer kept" in result.err
    fake.ok(*CREATE, "a", "--no-start")
    assert [e["number"] for e in events(fake)][0] == numbers[0] + 1


def test_guests_words_are_escaped(fake):
    with sqlite3.connect(fake.state_dir / "banger.db") as db:
        db.execute("INSERT INTO event (kind, object, name, reason)"
                   " VALUES ('vm.error', '', 'x', 'agent_lost: \x1b[2Jgone')")
    db.close()
    assert fake.ok("events").out.splitlines()[-1].endswith(r"agent_lost: \x1b[2Jgone")


def test_each_vm_is_where_its_last_event_says_after_any_death(fake):
    for name in ("a", "b", "c"):
        fake.ok(*CREATE, name)
    for name in ("a", "b", "c"):
        stopping = fake.spawn("stop", name)
        pid = fake.daemon_pid()
        os.kill(pid, signal.SIGKILL)
        fake.wait_gone(pid)
        stopping.finish()
        state = {vm["name"]: vm["state"] for vm in fake.json("ps", "-a")}
        for vm in state:
            assert of(fake, vm)[-1][0] == f"vm.{state[vm]}", vm
