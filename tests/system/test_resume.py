"""Sessions outlive the daemon: their clients go on with the next one, and lose and repeat nothing."""

import hashlib
import os
import random
import signal
import subprocess
import threading

import frames
import pytest
from banger import SLOWNESS, wait_pid_gone
from steps import assert_error, assert_nothing_left, call, sh_ok, vms, wait_vm

MIB = 1 << 20
GOES_ON = "banger: the daemon ended; going on with the new one\n"
LINES, ROUNDS = 150_000, 55  # 50 MB
PRINT = f"seq {LINES} >/tmp/numbers; for i in $(seq {ROUNDS}); do echo $i; cat /tmp/numbers; done; "


@pytest.fixture
def running(banger):
    """One with a running VM named `one`."""
    banger.ok("vm", "create", "--quiet", "--name", "one")
    return banger


def kill_daemon(banger):
    """Ends it as a crash would. It is gone, its sockets closed, when this returns."""
    pid = banger.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    assert wait_pid_gone(pid)


def stop_daemon(banger):
    banger.ok("daemon", "stop")


def kill_with_client(banger, child):
    """Ends daemon and client, neither of which sees the other one's end."""
    daemon = banger.daemon_pid()
    os.kill(daemon, signal.SIGSTOP)
    child.kill()
    os.kill(daemon, signal.SIGKILL)
    assert wait_pid_gone(daemon)


def read_all(child, marks=(), act=None):
    """(hash, length) of the child's stdout; act() is called at each number of bytes in marks."""
    digest, length, marks = hashlib.sha256(), 0, list(marks)
    while data := os.read(child.process.stdout.fileno(), 65536):
        digest.update(data)
        length += len(data)
        if marks and length >= marks[0]:
            marks.pop(0)
            act()
    assert not marks, f"{length} bytes are too few"
    return digest.hexdigest(), length


def printed():
    """(hash, length) of what PRINT prints."""
    text = b"".join(b"%d\n" % n for n in range(1, LINES + 1))
    digest = hashlib.sha256()
    for i in range(1, ROUNDS + 1):
        digest.update(b"%d\n" % i + text)
    return digest.hexdigest(), sum(len(b"%d\n" % i) + len(text) for i in range(1, ROUNDS + 1))


def only_session(banger, vm="one"):
    sessions = call(banger, "session.list", vm=vm)
    assert len(sessions) == 1, sessions
    return sessions[0]


def attach(rpc, vm, session, received=0, stdin_sent=None):
    """A raw client that has so many bytes of stdout: (frames.Client, frames.Session)."""
    reply = rpc.call("session.attach", {"vm": vm, "session": session})
    assert "error" not in reply, reply
    client = frames.Client(rpc.socket, timeout=60 * SLOWNESS)
    client.incoming += rpc.pending
    mine = frames.Session(0)
    mine.pid, mine.window_size = 1, frames.WINDOW_BYTES
    mine.received[frames.STDOUT] = received
    client.sessions[0] = mine
    client.send(*client._window_frames(mine))
    if stdin_sent is not None:
        client.wait(lambda: mine.stdin_limit > 0)
        mine.stdin_sent = mine.stdin_acked
    return client, mine


# Output, input, status ----------------------------------------------------------------------------

@pytest.mark.parametrize("end", [kill_daemon, stop_daemon])
def test_output_goes_on_where_it_was_when_the_daemon_ends(running, end):
    child = running.spawn("exec", "one", "--", "sh", "-c", PRINT + "echo done >&2; exit 7")
    got = read_all(child, [20 * MIB], lambda: end(running))
    result = child.finish()
    assert got == printed()
    assert (result.returncode, result.err) == (7, GOES_ON + "done\n")


def test_output_survives_several_daemons(running):
    child = running.spawn("exec", "--quiet", "one", "--", "sh", "-c", PRINT + "kill -TERM $$")
    got = read_all(child, [n * MIB for n in (1, 2, 11, 24, 37, 46)], lambda: kill_daemon(running))
    result = child.finish()
    assert got == printed()
    assert (result.returncode, result.err) == (128 + signal.SIGTERM, "")


def test_input_and_output_of_cat_survive_several_daemons(running):
    data = random.Random(1).randbytes(24 * MIB)
    child = running.spawn("exec", "-q", "-i", "one", "--", "cat")

    def feed():
        child.process.stdin.write(data)
        child.process.stdin.close()
    feeder = threading.Thread(target=feed)
    feeder.start()
    got = read_all(child, [n * MIB for n in (1, 5, 14, 22)], lambda: kill_daemon(running))
    feeder.join()
    assert got == (hashlib.sha256(data).hexdigest(), len(data))
    assert child.finish().returncode == 0


@pytest.mark.sanitize
def test_conversation_goes_on_after_a_daemons_end(running):
    """Single lines, so that nothing is on its way when the daemon ends; then the end of stdin."""
    child = running.spawn("exec", "-i", "one", "--", "sh", "-c",
                          "while read line; do echo got $line; done; echo end; exit 3")
    for n, end in enumerate((kill_daemon, stop_daemon, kill_daemon)):
        child.send(b"%d\n" % n)
        child.read_until(b"got %d\n" % n)
        end(running)
    child.close_stdin()
    result = child.finish()
    assert (result.returncode, result.out) == (3, "got 0\ngot 1\ngot 2\nend\n")
    assert result.err == GOES_ON * 3
    session = only_session(running)
    assert session["command"][0] == "sh" and session["stdin"] == "pipe"


def test_terminal_of_the_cli_goes_on(running):
    child = running.spawn("exec", "-it", "one", "--", "sh", tty=("stdin", "stdout", "stderr"))
    for n, end in enumerate((kill_daemon, stop_daemon)):
        child.send(b"echo got''%d; stty size\n" % n)
        child.read_until(b"got%d\r\n" % n)
        end(running)
    child.send(b"echo bye''bye; exit 6\n")
    result = child.finish()
    assert result.returncode == 6 and "byebye\r\n" in result.out, result


def test_signals_reach_the_command_by_the_next_daemon(running):
    child = running.spawn("exec", "one", "--", "sh", "-c",
                          "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.1; done")
    child.read_until(b"ready\n")
    kill_daemon(running)
    child.read_until(GOES_ON.encode(), "stderr")
    child.signal(signal.SIGTERM)
    result = child.finish()
    assert (result.returncode, result.out) == (9, "ready\ncaught\n")


def test_status_of_a_command_that_ended_without_a_daemon(running):
    """And the output that it left."""
    vm = vms(running)["one"]["id"]
    child = running.spawn("exec", "one", "--", "sh", "-c", """
        me=$$; echo ready
        (while kill -0 $me; do sleep 0.1; done; echo it-is-over >/dev/console) >/dev/null 2>&1 &
        sleep 2; echo last words; exit 5""")
    child.read_until(b"ready\n")
    child.signal(signal.SIGSTOP)
    kill_daemon(running)
    with subprocess.Popen(["tail", "-n", "+1", "-F", running.state_dir / "vms" / vm / "console.log"],
                          stdout=subprocess.PIPE) as tail:
        for line in tail.stdout:
            if b"it-is-over" in line:
                break
        tail.kill()
    child.signal(signal.SIGCONT)
    result = child.finish()
    assert (result.returncode, result.out) == (5, "ready\nlast words\n")
    assert only_session(running)["exit"] == {"code": 5, "signal": None}


def test_client_whose_session_is_gone_says_so(running):
    child = running.spawn("exec", "one", "--", "sh", "-c", "echo ready; exec sleep 1000")
    child.read_until(b"ready\n")
    child.signal(signal.SIGSTOP)
    kill_daemon(running)
    running.ok("vm", "delete", "--force", "one")
    child.signal(signal.SIGCONT)
    assert_error(child.finish(), "closed the connection before the command ended",
                 "no VM 'one'", status=125, hint="daemon status")


# VMs that go with their command -------------------------------------------------------------------

@pytest.mark.sanitize
@pytest.mark.parametrize("end", [kill_daemon, stop_daemon])
def test_run_rm_survives_its_daemon_and_leaves_nothing(banger, end):
    child = banger.spawn("run", "--rm", "-q", "-i", "--", "sh", "-c",
                         "echo ready; read line; echo got $line; exit 4")
    child.read_until(b"ready\n")
    end(banger)
    child.send(b"it\n")
    result = child.finish()
    assert (result.returncode, result.out, result.err) == (4, "ready\ngot it\n", "")
    banger.ok("ps")
    assert_nothing_left(banger)


def test_run_rm_whose_client_died_with_the_daemon_is_removed_after_a_while(banger):
    child = banger.spawn("run", "--rm", "-q", "--name", "box", "--",
                         "sh", "-c", "echo ready; exec sleep 1000")
    child.read_until(b"ready\n")
    kill_with_client(banger, child)
    banger.ok("ps")
    session = only_session(banger, "box")
    assert (session["state"], session["command"]) == \
        ("running", ["sh", "-c", "echo ready; exec sleep 1000"])
    wait_vm(banger, "box", "deleted")
    assert_nothing_left(banger)
    assert "nobody came back" in "".join(banger.logs().values())


def test_detached_run_rm_goes_when_its_command_ends_under_the_next_daemon(banger):
    banger.ok("run", "-d", "--rm", "--name", "box", "--", "sh", "-c",
              "yes | head -c 3000000; until test -e /tmp/end; do sleep 0.1; done")
    kill_daemon(banger)
    banger.ok("ps")
    assert only_session(banger, "box")["state"] == "running"
    sh_ok(banger, "touch /tmp/end", vm="box")
    wait_vm(banger, "box", "deleted")
    assert_nothing_left(banger)


def test_held_session_whose_client_died_with_the_daemon_is_hung_up(running):
    child = running.spawn("exec", "one", "--", "sh", "-c", "echo ready; exec sleep 1000")
    child.read_until(b"ready\n")
    kill_with_client(running, child)
    running.ok("ps")
    session = only_session(running)
    assert session["state"] == "running"
    ended = call(running, "session.wait", vm="one", session=session["id"])
    assert ended["exit"] == {"code": None, "signal": signal.SIGHUP}
    assert vms(running)["one"]["state"] == "running"


# Without the CLI ----------------------------------------------------------------------------------

def start(banger, **params):
    return call(banger, "session.start", vm="one", **params)["id"]


@pytest.mark.sanitize
def test_session_is_listed_by_the_next_daemon_as_it_was(running):
    command = ["sh", "-c", "cat; exit 2", {"base64": "/w=="}]
    first = call(running, "session.start", vm="one", command=command, cwd="/tmp", user="root",
                 stdin="pipe", env=["SECRET=1"])
    long = call(running, "session.start", vm="one", command=["true", "x" * 100_000])
    call(running, "session.wait", vm="one", session=long["id"])
    kill_daemon(running)
    running.ok("ps")
    again, again_long = call(running, "session.list", vm="one")
    assert again == first
    assert (again_long["state"], again_long["exit"]) == ("exited", {"code": 0, "signal": None})
    assert again_long["command_shortened"] and again_long["command"][0] == "true"
    assert set(again_long["command"][1]) == {"x"} and len(again_long["command"][1]) > 1000
    # A new one gets a number of its own.
    assert sh_ok(running, "echo new", vm="one") == "new\n"


def test_raw_client_attaches_from_its_offset(running):
    session = start(running, command=["sh", "-c", "seq 1000; cat; exit 6"], stdin="pipe")
    text = b"".join(b"%d\n" % n for n in range(1, 1001))
    with running.rpc() as rpc:
        client, mine = attach(rpc, "one", session)
        mine.auto_window = False
        client.write(mine, b"first ", end=False)
        client.wait(lambda: len(mine.stdout) == len(text) + 6)
        kill_daemon(running)
    running.ok("ps")
    with running.rpc() as rpc:
        # It says that it wrote 100 bytes before it crashed.
        client, mine = attach(rpc, "one", session, received=100, stdin_sent=6)
        assert mine.stdin_sent == 6
        client.write(mine, b"second")
        client.wait(lambda: mine.over)
    assert (mine.exited, mine.stdout) == (6, text[100:] + b"first second")


def test_client_that_claims_bytes_that_never_were_is_refused(running):
    session = start(running, command=["sh", "-c", "echo hello; exec sleep 1000"])
    kill_daemon(running)
    running.ok("ps")
    with running.rpc() as rpc:
        client, mine = attach(rpc, "one", session, received=1 << 40)
        assert b"broke the protocol" in client.wait_other(frames.FATAL).payload
    with running.rpc() as rpc:
        client, mine = attach(rpc, "one", session)
        client.wait(lambda: mine.stdout == b"hello\n")


def test_terminal_session_goes_on(running):
    session = start(running, command=["sh"], stdin="pipe", tty={"rows": 24, "columns": 80})
    with running.rpc() as rpc:
        client, mine = attach(rpc, "one", session, stdin_sent=0)
        client.write(mine, b"stty size; tty\n", end=False)
        client.wait(lambda: b"24 80" in mine.stdout and b"/dev/pts/" in mine.stdout)
        received, sent = mine.received[frames.STDOUT], mine.stdin_sent
        kill_daemon(running)
    running.ok("ps")
    assert only_session(running)["tty"]
    with running.rpc() as rpc:
        client, mine = attach(rpc, "one", session, received, sent)
        assert mine.stdin_sent == sent
        client.resize(mine, 40, 100)
        client.write(mine, b"stty size; exit 8\n", end=False)
        client.wait(lambda: mine.over)
        assert b"40 100" in mine.stdout and mine.exited == 8


def test_hold_is_taken_over_and_then_holds(running):
    with running.rpc() as rpc:
        session = rpc.call("session.start", {"vm": "one", "command": ["sleep", "1000"],
                                             "stdin": "pipe", "hold": True})["result"]["id"]
        kill_daemon(running)
    running.ok("ps")
    with running.rpc() as rpc:
        assert rpc.call("session.hold", {"vm": "one", "session": session})["result"]["id"] == session
        assert only_session(running)["state"] == "running"
    ended = call(running, "session.wait", vm="one", session=session)
    assert ended["exit"] == {"code": None, "signal": signal.SIGHUP}
