"""logs: following, what is cut off, whose log it is."""

import ctypes
import os
import re
import select
import signal

import pytest
from banger import SLOWNESS
from steps import (SHARED_VM, assert_error, call, fake_banger, sh, vm_main_pid, vms, wait_vm)

CREATE = ["vm", "create", "-q", "--vmm", "fake", "--name", "x"]
LOG_MAX = 1 << 20
IN_MODIFY = 2


@pytest.fixture
def fake(make_banger):
    instance = fake_banger(make_banger)
    instance.ok(*CREATE)
    return instance


def console_of(banger, vm="x", name="console.log"):
    return banger.state_dir / "vms" / vms(banger)[vm]["id"] / name


def write(path, text):
    """As a VMM does it."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, text if isinstance(text, bytes) else text.encode())
    os.close(fd)


def await_shorter(path, size):
    """Waits until the daemon has cut the file."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert libc.inotify_add_watch(fd, os.fsencode(path), IN_MODIFY) >= 0
    try:
        while not 0 < path.stat().st_size <= size:
            assert select.select([fd], [], [], 60 * SLOWNESS)[0], "the log is not cut"
            os.read(fd, 4096)
    finally:
        os.close(fd)


@pytest.mark.sanitize
def test_follower_sees_what_comes_over_stops_and_starts_until_the_vm_is_deleted(fake):
    child = fake.spawn("logs", "-f", "x")
    child.read_until(b"x boots")
    write(console_of(fake), "one\r\n")
    child.read_until(b"one\r\n")
    write(console_of(fake), "no end of ")
    child.read_until(b"no end of ")
    fake.ok("stop", "x")
    fake.ok("start", "x")
    child.read_until(b"--- banger: boot 2")
    # It is the VM that is followed, not its name.
    fake.ok("vm", "rename", "x", "y")
    write(console_of(fake, "y"), "renamed\n")
    child.read_until(b"renamed\n")
    fake.ok("rm", "-f", "y")
    result = child.finish()
    assert result.returncode == 0 and result.err == "", repr(result)
    assert result.stdout.count(b"one\r\n") == 1


def test_log_of_a_vm_that_never_ran_is_waited_for(fake):
    fake.ok(*CREATE[:-1], "later", "--no-start")
    assert fake.ok("logs", "later").out == ""
    child = fake.spawn("logs", "-f", "later")
    never = fake.spawn("logs", "-f", "--vmm", "later")
    fake.ok("start", "later")
    child.read_until(b"later boots")
    never.read_until(b"boot 1")
    fake.ok("rm", "-f", "later")
    assert (child.finish().returncode, never.finish().returncode) == (0, 0)


@pytest.mark.sanitize
def test_reader_that_keeps_up_misses_nothing_when_the_log_is_cut(fake):
    path = console_of(fake)
    child = fake.spawn("logs", "-f", "x")
    child.read_until(b"serves")
    before = len(child.output["stdout"])
    lines = b"".join(b"%07d\n" % n for n in range(LOG_MAX // 8 + 100))
    write(path, lines)
    child.read_until(lines[-8:])
    await_shorter(path, LOG_MAX // 2)
    write(path, "behind the cut\n")
    child.read_until(b"behind the cut\n")
    assert child.output["stdout"][before:] == lines + b"behind the cut\n"
    child.kill()


def test_reader_that_is_too_slow_is_told_how_much_it_missed(fake):
    path = console_of(fake)
    child = fake.spawn("logs", "-f", "x")
    child.read_until(b"serves\n")
    child.signal(signal.SIGSTOP)
    before = path.stat().st_size
    whole = b"".join(b"%07d\n" % n for n in range(2 * LOG_MAX // 8))
    write(path, whole)
    # What the pipe and its one call hold it has got.
    await_shorter(path, LOG_MAX // 2)
    child.signal(signal.SIGCONT)
    child.read_until(whole[-8:])
    skipped = int(child.read_until(re.compile(rb"banger: (\d+) bytes skipped\n"), "stderr")[1])
    got = len(child.output["stdout"]) - before
    assert got + skipped == len(whole) and skipped > LOG_MAX // 2
    child.kill()


def test_place_in_the_log_is_told_and_taken(fake):
    first = call(fake, "vm.logs", vm="x", tail_bytes=4)
    assert len(first["text"]) == 4 and first["skipped"] == 0
    write(console_of(fake), "more\n")
    page = call(fake, "vm.logs", vm="x", after=first["position"])
    assert (page["text"], page["position"]) == ("more\n", first["position"] + 5)
    empty = call(fake, "vm.logs", vm="x", after=page["position"])
    assert (empty["text"], empty["position"]) == ("", page["position"])
    with fake.rpc() as rpc:
        error = rpc.call("vm.logs", {"vm": "x", "after": 1 << 40})["error"]
    assert error["data"]["code"] == "invalid" and "no position" in error["message"]


@pytest.mark.sanitize
def test_many_followers_of_one_vm(fake):
    children = [fake.spawn("logs", "-f", "x") for _ in range(20)]
    for child in children:
        child.read_until(b"serves")
    write(console_of(fake), "for all\n")
    for child in children:
        child.read_until(b"for all\n")
    fake.ok("rm", "-f", "x")
    assert [child.finish().returncode for child in children] == [0] * 20


def test_follower_ends_as_others_do(fake):
    child = fake.spawn_argv(["sh", "-c", f'{fake.program()} logs -f x; echo "=$?"'],
                            tty=("stdin", "stdout"))
    child.read_until(b"serves")
    child.send(b"\x03")
    child.finish()
    child = fake.spawn("logs", "-f", "x")
    child.read_until(b"serves")
    child.signal(signal.SIGINT)
    assert child.finish().returncode == -signal.SIGINT  # 130 to a shell
    # A reader that is gone is noticed before there is something to write.
    result = fake.spawn_argv(["bash", "-c", f'{fake.program()} logs -f x | head -n 1; '
                                            'echo "${PIPESTATUS[0]}"']).finish()
    assert result.out.endswith(f"\n{128 + signal.SIGPIPE}\n"), repr(result)
    child = fake.spawn("logs", "-f", "x")
    child.read_until(b"serves")
    fake.ok("daemon", "stop")
    assert_error(child.finish(), "cannot read the log of 'x'", "the daemon ended",
                 hint=False)


def test_terminal_of_a_follower_is_safe_from_the_guest(fake):
    child = fake.spawn("logs", "-f", "x", tty=("stdout",))
    child.read_until(b"serves")
    write(console_of(fake), b"prompt \x1b[2J\xc3")
    child.read_until(b"prompt \\x1b[2J")
    write(console_of(fake), b"\xa4 ok\r")
    child.read_until("ä ok".encode())
    write(console_of(fake), b"\nend\r\n")
    child.read_until(b"ok\r\nend\r\n")  # the terminal makes them of newlines
    assert b"\x1b" not in child.output["stdout"]
    child.kill()


def test_pages_of_a_follower_as_json(fake):
    child = fake.spawn("logs", "-f", "x", "--format", "jsonl")
    child.read_until(b'"position"')
    write(console_of(fake), "more\n")
    child.read_until(rb'{"text":"more\n","position":')
    child.kill()


def test_agents_lines_are_told_from_the_guests(fake):
    child = fake.spawn("logs", "-f", "--agent", "x")
    write(console_of(fake), "noise\nbanger-agent: first\nmy banger-agent: no\nbanger-ag")
    child.read_until(b"banger-agent: first\n")
    write(console_of(fake), "ent: second\n")
    child.read_until(b"banger-agent: second\n")
    assert child.output["stdout"] == b"banger-agent: first\nbanger-agent: second\n"
    child.kill()
    assert fake.ok("logs", "--agent", "x").out == "banger-agent: first\nbanger-agent: second\n"


def test_vmms_last_words_outlive_it(fake):
    fake.ok(*CREATE[:-1], "z", "--label", "banger.fake=exit@exec")
    child = fake.spawn("logs", "-f", "--vmm", "z")
    fake.run("exec", "z", "--", "true")
    child.read_until(b"told to exit at exec\n")
    wait_vm(fake, "z", "stopped")
    assert "told to exit at exec" in fake.ok("logs", "--vmm", "z").out
    fake.ok("start", "z")
    child.read_until(b"boot 2")
    child.kill()


def test_next_daemon_keeps_logs_short(fake):
    path = console_of(fake)
    pid = vm_main_pid(fake)
    fake.ok("daemon", "stop")
    fake.ok("ps")
    assert vm_main_pid(fake) == pid
    write(path, b"x" * (LOG_MAX + 1))
    await_shorter(path, LOG_MAX // 2)
    assert len(call(fake, "vm.logs", vm="x", tail_bytes=262144)["text"]) == 262144


def test_two_logs_at_once_are_an_error_of_usage(fake):
    assert_error(fake.run("logs", "--vmm", "--agent", "x"), "one log at a time", status=2)


def test_follower_of_a_real_guest(shared):
    child = shared.spawn("logs", "-f", SHARED_VM)
    child.read_until(b"is up")
    sh(shared, "echo said while followed > /dev/console")
    child.read_until(b"said while followed")
    child.kill()
    assert shared.ok("logs", "--agent", SHARED_VM).out.startswith("banger-agent: ")
