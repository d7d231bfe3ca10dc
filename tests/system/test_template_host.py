"""Templates and what changes around them: another processor, another time, another daemon, and files
that go or change while they are used."""

import concurrent.futures
import datetime
import hashlib
import json
import math
import os
import pathlib
import signal
import sqlite3
import time

import pytest
from banger import BUILD, SLOWNESS
from steps import (assert_all_differ, assert_clock_is_right, assert_error, assert_nothing_left,
                   await_ready, data_offsets, edit_store, flip, kill_daemon, origin, sh_ok,
                   templates, vms, who_is)

pytestmark = pytest.mark.deadline(300)

HOUR = 3600
DAY = 24 * HOUR
NONE = "no template of this image, kernel, machine and host"
POOL = 'accel = "tcg"\ntemplates = "manual"\npool_size = {size}\n'


def forks(banger, name, made, how="fork"):
    banger.ok("vm", "create", "-q", "--name", name)
    assert origin(banger, name)[:2] == (how, made)


def at_once(what, items):
    """The results, in the order of items; what fails fails the test."""
    with concurrent.futures.ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(what, items))


# Another processor ---------------------------------------------------------------------------------

def id_of(ingredients):
    text = json.dumps(ingredients, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def stored(banger, template):
    """The ingredients and when it was used, as the store has them."""
    with sqlite3.connect(banger.state_dir / "banger.db") as db:
        row = db.execute("SELECT ingredients, used_ms FROM template WHERE id = ?", [template])
        ingredients, used_ms = row.fetchone()
    db.close()
    return json.loads(ingredients), used_ms


def turn_into(banger, template, changes, used_ms):
    """As if it had been made, and last been used then, where these ingredients are others."""
    ingredients, _ = stored(banger, template)
    assert changes.keys() <= ingredients.keys()
    ingredients |= changes
    other = id_of(ingredients)
    edit_store(banger, "UPDATE template SET id = ?, ingredients = ?, used_ms = ? WHERE id = ?", other,
               json.dumps(ingredients), used_ms, template)
    os.rename(banger.state_dir / "templates" / template, banger.state_dir / "templates" / other)
    return other


def test_template_of_another_processor_is_not_used_and_another_made(make_banger):
    """Another model; the same with other features. Of those that nobody uses the oldest makes room,
    and the other can be pruned."""
    auto = 'accel = "tcg"\ntemplates = "auto"\n'
    banger = make_banger(config=auto)
    made = banger.ok("template", "create").out.strip()
    size = templates(banger)[made]["size_bytes"]
    # Room for two and a half.
    banger.configure(f"{auto}template_disk_mib = {math.ceil(2.5 * size / (1 << 20))}\n")
    others = []
    for number, changes in enumerate(({"cpu": "Another CPU @ 2.00GHz"},
                                      {"cpu_features": "0123456789abcdef"})):
        banger.ok("template", "create")
        banger.ok("daemon", "stop")
        ingredients, used_ms = stored(banger, made)
        # Of what the daemon has taken down itself this is the id.
        assert id_of(ingredients) == made
        assert all(ingredients[key] != value for key, value in changes.items())
        others.append(turn_into(banger, made, changes, used_ms - (2 - number) * DAY * 1000))
    assert len({made, *others}) == 3
    assert set(templates(banger)) == set(others)
    follower = banger.spawn("events", "-f", "--format", "jsonl")
    banger.ok("vm", "create", "-q", "--name", "first")
    assert origin(banger, "first") == ("boot", None, NONE)
    follower.read_until(b'"template.created"')
    # That was the last thing it did before it made room.
    follower.read_until(b'"template.deleted"')
    follower.kill()
    forks(banger, "second", made)
    assert sh_ok(banger, "hostname", vm="second") == "second\n"
    now = templates(banger)
    assert set(now) == {others[1], made} and now[others[1]]["uses"] == 0
    (pruned,) = banger.json("template", "prune", "--unused-for", "1h")
    assert pruned["id"] == others[1]
    assert os.listdir(banger.state_dir / "templates") == [made]


# Another time --------------------------------------------------------------------------------------

def faketime():
    found = list(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is not installed: make deps-test"
    return str(found[0])


def set_wall_clock(banger, seconds):
    """How far ahead a daemon's wall clock is, from now on; its other clocks are those of the host."""
    new = banger.root / "wall-clock.new"
    new.write_text(f"{seconds:+d}\n")
    new.rename(banger.root / "wall-clock")


# The library does not go with those of the sanitizers.
without_sanitizer = pytest.mark.skipif("-" in BUILD.name, reason="libfaketime hangs under sanitizers")


def with_wall_clock(banger, seconds):
    """The environment of a daemon with a wall clock of its own. Its VMMs do not inherit it."""
    set_wall_clock(banger, seconds)
    return {"LD_PRELOAD": faketime(), "FAKETIME_TIMESTAMP_FILE": str(banger.root / "wall-clock"),
            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}


def seconds_of(timestamp):
    return datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


# In the guest: how long half a second takes, when a file is written, what time it is.
HOW_TIME_GOES_ON = """
from=$(cut -d' ' -f1 /proc/uptime); sleep 0.5; to=$(cut -d' ' -f1 /proc/uptime)
echo $from $to $(date +%s) $(touch /root/now; stat -c %Y /root/now) $(stat -c %Y /dev)"""


@without_sanitizer
@pytest.mark.parametrize("age", [HOUR, 7 * DAY, -HOUR], ids=["hour", "week", "of-tomorrow"])
def test_fork_of_an_old_template_knows_the_time(banger, age):
    """Also of one that was made before the host's clock was set back."""
    environment = with_wall_clock(banger, -age)
    made = banger.ok("template", "create", env=environment).out.strip()
    banger.ok("daemon", "stop", env=environment)
    begin = time.time()
    shown = banger.json("template", "show", made)
    created = seconds_of(shown["created_at"])
    assert shown["used_at"] == shown["created_at"] and abs(begin - age - created) < 60 * SLOWNESS
    if age == 7 * DAY:
        assert banger.ok("template", "list").out.splitlines()[1].endswith("7 d ago")
    people = []
    for name in ("x", "y"):
        forks(banger, name, made)
        assert_clock_is_right(banger, name)
        people.append(who_is(banger, name))
        assert people[-1][:2] == [name, vms(banger)[name]["id"]]
    assert_all_differ(people)
    before = int(time.time())
    said = sh_ok(banger, HOW_TIME_GOES_ON, vm="x").split()
    after = time.time()
    up, later = map(float, said[:2])
    assert 0.48 <= later - up <= after - before and later < 60 * SLOWNESS
    date, written, booted = map(int, said[2:])
    within = math.ceil(0.05 * SLOWNESS)
    assert before - within <= date <= written + 1 <= after + 1 + within
    # That its clock was another, once, can still be seen.
    assert abs(booted - created) < 60 * SLOWNESS
    # And it keeps the time.
    assert_clock_is_right(banger, "x")
    assert seconds_of(templates(banger)[made]["used_at"]) >= int(begin)


@without_sanitizer
def test_forks_that_were_ready_when_the_hosts_clock_was_set_know_the_time(make_banger):
    """By less than would make the template one that is not used any more."""
    banger = make_banger(config=POOL.format(size=2))
    made = banger.ok("template", "create", env=with_wall_clock(banger, -9 * 60)).out.strip()
    await_ready(banger, 2)
    set_wall_clock(banger, 0)
    forks(banger, "x", made, how="pool")
    assert_clock_is_right(banger, "x")


# Another daemon ------------------------------------------------------------------------------------

def test_two_daemons_leave_each_other_alone(make_banger):
    one, two = make_banger(config=POOL.format(size=2)), make_banger(config=POOL.format(size=2))
    made, also = at_once(lambda b: b.ok("template", "create").out.strip(), [one, two])
    # Of the same ingredients, and yet each has its own.
    assert made == also
    for banger in (one, two):
        await_ready(banger, 2)
    at_once(lambda job: job[0].ok("vm", "create", "-q", "--name", job[1]),
            [(banger, name) for banger in (one, two) for name in ("x", "y")])
    people = [who_is(banger, name) for banger in (one, two) for name in ("x", "y")]
    # Of the names each has an x.
    assert_all_differ([person[1:] for person in people])
    for banger in (one, two):
        assert {origin(banger, name)[1] for name in ("x", "y")} == {made}
        await_ready(banger, 2)
    theirs, files = sorted(two.qemu_pids()), files_of(two, made)
    assert len(theirs) == 2 + 2
    # The template of the one, with its pool.
    one.ok("template", "delete", made)
    assert len(one.qemu_pids()) == 2
    assert_untouched(two, made, theirs, files)
    # Its daemon: once with a pool, which the next one gives back and fills again.
    one.ok("template", "create")
    await_ready(one, 2)
    members = set(one.qemu_pids())
    kill_daemon(one)
    assert_untouched(two, made, theirs, files)
    one.ok("ps")
    assert {vm["state"] for vm in vms(one).values()} == {"running"}
    await_ready(one, 2)
    assert len(members & set(one.qemu_pids())) == 2 and len(one.qemu_pids()) == 4
    assert_untouched(two, made, theirs, files)
    for banger in (one, two):
        assert sh_ok(banger, "hostname", vm="x") == "x\n"
        forks(banger, "z", made, how="pool")


def files_of(banger, template):
    directory = banger.state_dir / "templates" / template
    return {p.name: (p.stat().st_ino, p.stat().st_size, p.stat().st_mtime_ns)
            for p in directory.iterdir()}


def assert_untouched(banger, made, pids, files):
    """Its VMs and the forks that are ready are the same processes, its template the same files."""
    assert sorted(banger.qemu_pids()) == pids
    assert files_of(banger, made) == files
    assert templates(banger)[made]["ready"] == 2
    for name in ("x", "y"):
        assert sh_ok(banger, "hostname", vm=name) == f"{name}\n"


def test_second_daemon_of_a_state_directory_leaves_template_and_pool(make_banger):
    """Whatever else it was given is its own."""
    banger = make_banger(config=POOL.format(size=1))
    made = banger.ok("template", "create").out.strip()
    await_ready(banger, 1)
    pids, files = banger.qemu_pids(), files_of(banger, made)
    other = {"BANGER_RUNTIME_DIR": str(banger.root / "r2"),
             "BANGER_CACHE_DIR": str(banger.root / "c2")}
    runs = f"a daemon for '{banger.state_dir}' is already running (pid {banger.daemon_pid()})"
    elsewhere = f"{runs}, and listens on '{banger.socket_path}'"
    for env, said in (({}, runs), (other, elsewhere)):
        refused = banger.run(program="bangerd", env=env)
        assert refused.returncode == 1 and said in refused.err, refused
    assert_error(banger.run("vm", "create", "-q", "--name", "x", env=other), elsewhere)
    assert (banger.qemu_pids(), files_of(banger, made)) == (pids, files)
    assert templates(banger)[made]["ready"] == 1
    assert len(banger.json("template", "verify")) == 1
    forks(banger, "x", made, how="pool")
    assert sh_ok(banger, "hostname", vm="x") == "x\n"


# Files that go, or change, while VMs are created -------------------------------------------------------

AT_ONCE = 8
# What forks say of themselves, and what VMs say that boot in their place.
WHY_NOT = ("no template of this image", "template {}: its ", "template {} is broken: ")


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def change(path):
    flip(path, data_offsets(path)[1])


def delete(banger, made, _):
    banger.ok("template", "delete", made)


def to_file(name, damage):
    return lambda banger, made, directory: damage(directory / name)


def to_disk(damage):
    """At one moment for all that are being created: of those some have just compared it, and are going
    to copy it."""
    def stop_and_damage(banger, _, directory):
        pid = banger.daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        damage(directory / "disk.ext4")
        os.kill(pid, signal.SIGCONT)
    return stop_and_damage


def loss(name, lose, event, *marks):
    """What is done when: upon this event of a VM, or as a daemon that has loaded nothing begins to
    create."""
    return pytest.param(lose, event, id=name, marks=marks)


EACH_LOSS = [
    loss("deleted-as-one-is-created", delete, b'"vm.created"'),
    loss("deleted-as-one-runs", delete, b'"vm.running"', pytest.mark.sanitize),
    loss("memory-cut", to_file("memory", cut), None),
    loss("memory-changed", to_file("memory", change), None, pytest.mark.full),
    loss("devices-gone", to_file("devices", os.unlink), None, pytest.mark.full),
    loss("disk-cut", to_disk(cut), b'"vm.created"', pytest.mark.sanitize),
    loss("disk-changed", to_disk(change), b'"vm.created"', pytest.mark.full),
]


def await_create(banger):
    with banger.rpc() as rpc:
        while not rpc.call("op.list", {})["result"]:
            pass


@pytest.mark.parametrize("lose, event", EACH_LOSS)
def test_template_that_is_lost_while_vms_are_created_is_no_matter(banger, lose, event):
    """Each of eight at once is a fork or boots, is whole, and leaves nothing."""
    made = banger.ok("template", "create").out.strip()
    directory = banger.state_dir / "templates" / made
    if event is None:
        # It has loaded nothing, and so reads the files while they change.
        banger.ok("daemon", "stop")
        banger.ok("ps")
    follower = banger.spawn("events", "-f", "--format", "jsonl", "--filter", "kind=vm.*")
    names = [f"x{i}" for i in range(AT_ONCE)]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        creating = [pool.submit(banger.ok, "vm", "create", "-q", "--name", name)
                    for name in names]
        if event:
            follower.read_until(event)
        else:
            await_create(banger)
        lose(banger, made, directory)
        for one in creating:
            one.result()
    follower.kill()
    how = [origin(banger, name) for name in names]
    reasons = tuple(why.format(made[:12]) for why in WHY_NOT)
    for kind, template, why in how:
        assert (kind, template) == ("fork", made) if kind == "fork" else \
            (template is None and why.startswith(reasons)), how
    people = at_once(lambda name: who_is(banger, name), names)
    assert [person[0] for person in people] == names
    assert_all_differ(people)
    for name in names:
        # Its disk is one, and its own.
        assert sh_ok(banger, "echo $1 >/root/mine; sync; cat /root/mine; dmesg | grep -c 'EXT4-fs e'"
                             " || true", name, vm=name) == f"{name}\n0\n"
    # What is broken and was not used since is found when it is looked for.
    banger.run("template", "verify")
    assert templates(banger) == {}
    assert os.listdir(banger.state_dir / "templates") == []
    banger.ok("rm", "--force", *names)
    assert_nothing_left(banger)
