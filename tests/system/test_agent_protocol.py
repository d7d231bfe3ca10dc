"""banger-agent against a host that speaks frames, over a socketpair (--test-fd), without a VM."""

import hashlib
import os
import pathlib
import pwd
import random
import select
import signal
import struct
import time

import pytest

import frames
from agent_process import fixture_agent, fixture_host  # noqa: F401
from frames import Frame


# The link ----------------------------------------------------------------------------------------

def test_hello_repeats_the_nonce_and_names_the_version(agent):
    assert agent.client.hello() == {}
    assert agent.client.version == 1
    assert agent.client.agent_version


def test_frames_before_hello_are_ignored(agent):
    agent.client.send(Frame(frames.PING, payload=b"early"))
    agent.client.hello()
    agent.client.ping(b"late")
    assert [k for k, _ in agent.client.log].count(frames.PONG) == 1


def test_hello_without_a_common_version_is_answered_with_the_reason(agent):
    with pytest.raises(RuntimeError, match="no common protocol version"):
        agent.client.hello(low=5, high=9)
    agent.client.hello(low=1, high=9)
    assert agent.client.version == 4


def test_ping_is_echoed_and_too_long_ones_are_not(host):
    host.send(Frame(frames.PING, payload=bytes(65)))
    host.ping(bytes(range(64)))
    host.ping(b"")
    assert [k for k, _ in host.log].count(frames.PONG) == 2


def test_garbage_then_hello_works(agent):
    rng = random.Random(1)
    client = agent.client
    hello_like = Frame(frames.HELLO, payload=bytes(20)).encode()
    for i in range(60):
        client.hello()
        client.ping()
        junk = bytearray(rng.randbytes(rng.randrange(1, 40000)))
        if i % 3 == 0:
            junk[0] = 0xB5
        if i % 4 == 0:
            junk += hello_like[:rng.randrange(1, 16)]
        client.send_bytes(junk)


def test_mutated_frames_do_not_end_the_agent(agent):
    rng = random.Random(2)
    client = agent.client
    good = [Frame(frames.PING, payload=b"x" * 20), Frame(frames.ATTACH, 3),
            Frame(frames.WINDOW, 3, bytes(8), 1, 5), Frame(frames.DATA, 3, b"abc", 0, 0),
            Frame(frames.RELEASE, 3), Frame(frames.SIGNAL, 3, struct.pack("<I", 0)),
            Frame(frames.EXEC, 3, frames.exec_body(["true"])), Frame(frames.RESIZE, 3, bytes(4)),
            Frame(frames.CONFIGURE, 9, frames.tlv(frames.TAG_HOSTNAME, b"a")),
            Frame(frames.SYNC, 9), Frame(frames.END, 3)]
    for _ in range(40):
        client.hello()
        data = bytearray()
        for _ in range(30):
            frame = bytearray(rng.choice(good).encode())
            if rng.random() < 0.3:
                # Not the type: a POWEROFF made by chance would end the agent, rightly.
                frame[rng.randrange(2, len(frame))] ^= 1 << rng.randrange(8)
            data += frame
        client.send_bytes(data)
    client.hello()
    client.ping()


def test_a_host_that_does_not_read_is_not_served_without_bound(agent, host):
    sent = 0
    ping = Frame(frames.PING, payload=bytes(64)).encode() * 700
    while sent < 64 * 1024 * 1024:
        try:
            sent += host.sock.send(ping)
        except BlockingIOError:
            if not host.outgoing:
                break
    status = pathlib.Path(f"/proc/{agent.process.pid}/status").read_text()
    rss = int(status.split("VmRSS:")[1].split()[0])
    assert sent < 16 * 1024 * 1024
    assert rss < 32768


@pytest.mark.parametrize("missing", [1, 4, 5, 30, 60, 5000])
def test_half_a_frame_of_an_old_host_is_never_completed(host, missing):
    """A virtio port may join an old host's half frame with the bytes of the next one."""
    session = host.start(["cat"], stdin=True)
    host.wait(lambda: session.stdin_limit > 0)
    fake = Frame(frames.HELLO, payload=bytes(16) + b"\1\0\1\0").encode()
    fake += Frame(frames.SIGNAL, session.number, struct.pack("<I", 9)).encode()
    payload = (fake * 100)[:6000]
    host.send_bytes(Frame(frames.DATA, session.number, payload).encode()[:-missing])
    assert host.hello() == {session.number: 1}
    session.stdin_limit = session.stdin_acked = 0
    host.attach(session)
    host.wait(lambda: session.stdin_limit > 0)
    assert session.stdin_acked == 0
    host.write(session, payload)
    assert host.finish(session) == 0
    assert session.stdout == payload


# Commands ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("command, status", [
    (["true"], 0), (["false"], 1), (["sh", "-c", "exit 255"], 255),
    (["sh", "-c", "kill -9 $$"], -9), (["sh", "-c", "kill -TERM $$"], -15)])
def test_exit_status_is_told(host, command, status):
    session = host.run(command)
    assert session.exited == status
    assert (session.stdout, session.stderr) == (b"", b"")


def test_arguments_arrive_byte_exact(host):
    args = ["sh", "-c", "cat /proc/$$/cmdline", "", b"\xff\xfe", "a b\n", "'\"$x", "é"]
    session = host.run(args)
    assert session.stdout == b"".join(os.fsencode(a) + b"\0" for a in args)


def test_environment_is_what_was_given_and_defaults(host):
    session = host.run(["cat", "/proc/self/environ"], env=[b"X=\xff\n=1", "HOME=/nowhere", "E="])
    got = session.stdout.split(b"\0")[:-1]
    root = pwd.getpwuid(0)
    assert got[:3] == [b"X=\xff\n=1", b"HOME=/nowhere", b"E="]
    assert set(got[3:]) == {
        b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", b"USER=root",
        b"LOGNAME=root", b"SHELL=" + os.fsencode(root.pw_shell)}


def test_long_command_lines_come_in_pieces(host):
    args = ["echo", "-n"] + ["x" * 1000 + str(i) for i in range(300)]
    assert host.run(args).stdout == " ".join(args[2:]).encode()


def test_too_long_command_lines_are_refused(host):
    session = host.run(["echo"] + ["x" * 100000] * 6)
    assert session.failed[0] == 125
    session = host.run(["echo"] + ["x"] * 4097)
    assert session.failed[0] == 125
    assert host.run(["true"]).exited == 0


def test_child_has_a_clean_process_state(host):
    script = "ls /proc/self/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status; umask; ulimit -n"
    session = host.run(["sh", "-c", script])
    lines = session.stdout.decode().split("\n")
    assert lines[:3] == ["0", "1", "2"]
    assert "SigBlk:\t0000000000000000" in lines and "SigIgn:\t0000000000000000" in lines
    assert "0022" in lines


def test_child_leads_a_session_of_its_own(host):
    session = host.run(["sh", "-c", "cut -d' ' -f1,5,6 /proc/$$/stat"])
    assert session.stdout.decode().split() == [str(session.pid)] * 3


def test_default_directory_is_the_home(host):
    assert host.run(["pwd"]).stdout.decode().strip() == pwd.getpwuid(0).pw_dir
    assert host.run(["pwd"], cwd="/usr").stdout == b"/usr\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_user_and_group_are_looked_up(host):
    nobody = pwd.getpwnam("nobody")
    script = ["sh", "-c", "id -u; id -g; echo $USER"]
    expected = f"{nobody.pw_uid}\n{nobody.pw_gid}\nnobody\n".encode()
    assert host.run(script, user="nobody").stdout == expected
    assert host.run(script, user=str(nobody.pw_uid)).stdout == expected
    assert host.run(["id", "-G"], user="nobody:daemon").stdout == b"1\n"
    assert host.run(["id", "-G"], user="12345:54321").stdout == b"54321\n"
    assert host.run(["sh", "-c", "id -u; id -g; pwd"], user="12345").stdout == b"12345\n0\n/\n"
    assert host.run(["sh", "-c", "echo x >/dev/stderr"], user="nobody").stderr == b"x\n"
    for who in ("nosuchuser", "nobody:nosuchgroup", "x" * 300, "4294967295"):
        assert host.run(["true"], user=who).failed[0] == 125


def test_commands_that_do_not_start_say_why(host, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("data")
    script = tmp_path / "script"
    script.write_text("#!/nonexistent/interpreter\n")
    script.chmod(0o755)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x7fELF no")
    binary.chmod(0o755)

    def failure(*argv, **options):
        return host.run(argv, **options).failed

    assert failure("no-such-command")[:2] == (127, 2)
    assert "'no-such-command'" in failure("no-such-command")[2]
    assert failure("/no/such/command")[:2] == (127, 2)
    assert failure("")[:2] == (127, 2)
    assert failure(plain)[:2] == (126, 13)
    assert failure(tmp_path)[:2] == (126, 13)
    assert failure(binary)[:2] == (126, 8)
    assert failure(script)[:2] == (126, 2)
    assert failure("plain", env=[f"PATH=/usr/bin:{tmp_path}"])[:2] == (126, 13)
    assert failure("true", cwd="/no/such")[:2] == (125, 2)
    assert failure("true", cwd="/no/such")[2] == (
        "working directory '/no/such': No such file or directory")
    assert failure("true", cwd=plain)[:2] == (125, 20)
    assert failure("true", cwd="relative")[:2] == (125, 22)
    assert failure("true", env=["no sign"])[:2] == (125, 22)
    assert failure()[:2] == (125, 22)


def test_path_of_the_session_is_searched(host, tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho found $0\n")
    tool.chmod(0o755)
    session = host.run(["tool"], env=[f"PATH=/nonexistent:/etc/passwd:{tmp_path}:/bin"])
    assert session.stdout.decode() == f"found {tool}\n"


# Streams -----------------------------------------------------------------------------------------

def test_closed_stdin_reads_nothing(host):
    session = host.run(["sh", "-c", "cat; readlink /proc/self/fd/0"])
    assert session.stdout == b"/dev/null\n"
    assert session.stdin_limit == 0


def test_half_close_ends_stdin_only(host):
    session = host.run(["sh", "-c", "cat; echo done"], stdin=b"abc")
    assert session.stdout == b"abcdone\n"


def test_command_that_does_not_read_its_stdin(host):
    session = host.run(["sh", "-c", "exec <&-; sleep 0.2; echo ok"], stdin=bytes(1000000))
    assert session.stdout == b"ok\n"
    assert host.run(["true"], stdin=bytes(1000000)).exited == 0


def test_stdin_offsets_repeat_nothing_and_skip_nothing(host):
    session = host.start(["cat"], stdin=True)
    host.wait(lambda: session.stdin_limit > 0)
    data = lambda offset, payload: Frame(frames.DATA, session.number, payload, 0, offset)
    host.send(data(0, b"abc"), data(5, b"gap"), data(0, b"abcd"), data(2, b"cdef"), data(1, b"b"),
              Frame(frames.END, session.number, b"", 0, 5), Frame(frames.END, session.number, b"", 0, 6), data(6, b"after the end"))
    host.finish(session)
    assert session.stdout == b"abcdef"


def test_stdin_beyond_the_window_is_ignored(host, tmp_path):
    go = tmp_path / "go"
    session = host.start(["sh", "-c", f"while [ ! -e {go} ]; do sleep 0.01; done; wc -c"],
                         stdin=True)
    host.wait(lambda: session.stdin_limit > 0)
    host.send(*(Frame(frames.DATA, session.number, bytes(16000), 0, 16000 * i) for i in range(80)))
    host.ping()
    host.hello()
    session.stdin_limit = session.stdin_acked = 0
    host.attach(session)
    host.wait(lambda: session.stdin_limit > 0)
    taken = session.stdin_acked
    assert 256000 <= taken <= 3 * 262144 and taken % 16000 == 0
    go.touch()
    host.send(Frame(frames.END, session.number, b"", 0, taken))
    host.finish(session)
    assert int(session.stdout) == taken


def test_stderr_is_separate(host):
    session = host.run(["sh", "-c", "echo out; echo err >&2"])
    assert (session.stdout, session.stderr) == (b"out\n", b"err\n")


def test_large_data_through_cat_is_unchanged(host):
    block = random.Random(3).randbytes(1 << 20)
    total = 64
    session = host.start(["cat"], stdin=True)
    digest = hashlib.sha256()
    session.on_data = lambda channel, data: digest.update(data)
    expected = hashlib.sha256()
    for _ in range(total):
        expected.update(block)
        host.write(session, block, end=False)
    host.send(Frame(frames.END, session.number, b"", 0, session.stdin_sent))
    assert host.finish(session, timeout=60) == 0
    assert session.received[1] == total << 20
    assert digest.digest() == expected.digest()


@pytest.mark.parametrize("window", [65536, 0])
def test_output_that_is_closed_has_ended_while_the_command_goes_on(agent, host, tmp_path, window):
    """Also when its last bytes and its end are found at once, or there is no room for the bytes."""
    go, gone = (str(tmp_path / name) for name in ("go", "gone"))
    for path in (go, gone):
        os.mkfifo(path)
    bytes_ = 400 << 10 if window == 0 else 5  # more than the ring and less than the pipe and it
    session = host.start(["sh", "-c", 'read x <$1; head -c $3 /dev/zero; exec >&-; echo x >$2; read x <$1',
                          "sh", go, gone, str(bytes_)], window=window)
    host.wait(lambda: session.pid)
    if window:
        agent.process.send_signal(signal.SIGSTOP)
    pathlib.Path(go).write_text("x\n")
    assert pathlib.Path(gone).read_text() == "x\n"
    agent.process.send_signal(signal.SIGCONT)
    if not window:
        host.ping()
        session.auto_window, session.window_size = True, 65536
        session.window[1] = 0
        host.send(*host._window_frames(session))
    host.wait(lambda: session.ended[frames.STDOUT])
    assert session.received[1] == bytes_ and not session.over
    pathlib.Path(go).write_text("x\n")
    assert host.finish(session) == 0


def test_nothing_is_sent_beyond_the_window(agent, host):
    session = host.start(["cat", "/dev/zero"], window=0)
    host.wait(lambda: session.pid)
    host.ping()
    assert session.received[1] == 0
    session.auto_window = False
    session.window[1] = 1000
    host.send(host.window_frame(session, 1, 1000))
    host.ping()
    host.wait(lambda: session.received[1] == 1000)
    # These cannot be true, and are ignored: acknowledged what never was, a window without end.
    host.send(Frame(frames.WINDOW, session.number, struct.pack("<Q", 1 << 40), 1, 1 << 39),
              Frame(frames.WINDOW, session.number, struct.pack("<Q", 1 << 40), 1, 1000),
              Frame(frames.WINDOW, session.number, struct.pack("<Q", 10), 1, 1000),
              Frame(frames.WINDOW, session.number, b"short", 1, 1000))
    host.ping()
    host.ping()
    assert session.received[1] == 1000
    # The ring holds 20 frames that were not acknowledged, the pipe 256 KiB, and that is all.
    written, ring = 0, 20 * frames.PAYLOAD_MAX
    deadline = time.monotonic() + 5
    while written < ring and time.monotonic() < deadline:
        host.ping()
        io = pathlib.Path(f"/proc/{session.pid}/io").read_text()
        written = int(io.split("wchar: ")[1].split()[0])
    assert ring <= written <= 768 << 10
    host.signal(session, signal.SIGKILL)
    session.auto_window, session.window_size = True, 65536
    session.window[1] = 0
    host.send(*host._window_frames(session))
    assert host.finish(session) == -9
    assert session.received[1] >= 200 * 1024


def test_two_talkers_and_a_ping_take_turns(host):
    talkers = [host.start(["cat", "/dev/zero"]) for _ in range(2)]
    for t in talkers:
        t.on_data = lambda channel, data: None
    host.wait(lambda: all(t.received[1] > 4 << 20 for t in talkers))
    quiet = host.run(["echo", "hello"])
    assert quiet.stdout == b"hello\n"
    host.log.clear()
    counts = [t.received[1] for t in talkers]
    host.wait(lambda: all(t.received[1] > c + (8 << 20) for t, c in zip(talkers, counts)))
    order = [stream for kind, stream in host.log if kind == frames.DATA]
    shares = [order.count(t.number) for t in talkers]
    assert min(shares) * 4 > max(shares), shares
    for t in talkers:
        host.release(t)
    host.ping()


def has_blocked(pid):
    """The agent has one thread, which sleeps only when there is nothing that it could do."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize("talkers", [1, 40])
def test_quiet_session_overtakes_talkers_when_the_port_is_blocked(agent, host, talkers):
    echo = host.start(["cat"], stdin=True)
    host.write(echo, b"a", end=False)
    host.wait(lambda: echo.stdout == b"a")
    noise = [host.start(["cat", "/dev/zero"]) for _ in range(talkers)]
    for t in noise:
        t.on_data = lambda channel, data: None
    host.wait(lambda: all(t.received[1] > 1 << 20 for t in noise))
    # From here on nobody reads.
    host.write(echo, b"b", end=False)
    deadline = time.monotonic() + 20
    while "wchar: 2\n" not in pathlib.Path(f"/proc/{echo.pid}/io").read_text() or \
            not has_blocked(agent.process.pid):
        assert time.monotonic() < deadline, "the agent is busy, or cat has nothing to write"
    queued = len(host.incoming) + host.unread()
    host.log.clear()
    host.wait(lambda: echo.stdout == b"ab")
    ahead = [stream for kind, stream in host.log if kind == frames.DATA]
    # What the socket held and what the agent had put into its buffer before; not a frame of each.
    assert len(ahead) <= (queued + 64 * 1024) // frames.FRAME_MAX + 2
    for t in noise:
        host.release(t)
    host.ping()


# Ends --------------------------------------------------------------------------------------------

def test_background_child_neither_delays_the_exit_nor_gets_sigpipe(host, tmp_path):
    for name in ("go", "done"):
        os.mkfifo(tmp_path / name)
    go, done = (os.open(tmp_path / name, os.O_RDWR | os.O_NONBLOCK) for name in ("go", "done"))
    # It writes more than a pipe holds, and goes on after the command has ended.
    script = (f"cd {tmp_path}; (i=0; while [ $i -lt 40 ]; do printf '%65536s' x || echo $? >pipe; "
              "i=$((i+1)); done; read x <go; echo late; echo all >done) & echo front; exit 3")
    session = host.start(["sh", "-c", script])
    assert host.finish(session) == 3
    assert b"front\n" in session.stdout
    os.write(go, b"\n")
    assert select.select([done], [], [], 30)[0] and os.read(done, 10) == b"all\n"
    assert not (tmp_path / "pipe").exists()
    os.close(go)
    os.close(done)


def test_output_before_the_exit_is_complete(host):
    for size in (1, 4096, 65536, 200000, 1000000):
        session = host.run(["sh", "-c", f"head -c {size} /dev/zero; echo end >&2"])
        assert len(session.stdout) == size
        assert session.stderr == b"end\n"


def test_end_of_a_process_is_told_ahead_of_its_output(host):
    session = host.start(["sh", "-c", "echo hi; exit 5"], window=0)
    host.wait(lambda: session.told is not None)
    assert (session.told, session.exited, session.stdout) == (5, None, b"")
    session.window_size = 100
    host.send(*host._window_frames(session))
    assert host.finish(session) == 5
    assert session.stdout == b"hi\n"


def test_signal_reaches_the_process_group(host):
    session = host.start(["sh", "-c", "sleep 100 & sleep 100; echo never"])
    host.wait(lambda: session.pid)
    host.signal(session, 0)
    host.signal(session, 1000)
    host.signal(session, signal.SIGTERM)
    assert host.finish(session) == -15
    session = host.start(["sh", "-c", "trap 'echo got; exit 4' USR1; echo ready; while :; do "
                          "sleep 0.01; done"])
    host.wait(lambda: session.stdout == b"ready\n")
    host.signal(session, signal.SIGUSR1)
    assert host.finish(session) == 4
    assert session.stdout == b"ready\ngot\n"


def test_release_kills_what_still_runs(host):
    session = host.start(["sleep", "100"])
    host.wait(lambda: session.pid)
    host.release(session)
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{session.pid}") and time.monotonic() < deadline:
        host.ping()
    assert not os.path.exists(f"/proc/{session.pid}")
    assert host.hello() == {}


def test_limit_of_sessions_is_told(host):
    sessions = [host.start(["/no/such/command"]) for _ in range(1024)]
    host.wait(lambda: all(s.failed for s in sessions))
    extra = host.run(["true"])
    assert extra.failed[:2] == (125, 11)
    assert len(host.hello()) == 1024
    for s in sessions:
        host.release(s)
    assert host.run(["true"]).exited == 0


def test_a_thousand_commands_leave_no_descriptor(agent, host):
    host.run(["true"])
    host.ping()
    before = agent.fds()
    for start in range(0, 1000, 50):
        batch = [host.start(["true"], stdin=bool(i % 2)) for i in range(start, start + 50)]
        for session in batch:
            assert host.finish(session) == 0
    host.ping()
    assert agent.fds() == before


# Terminals ---------------------------------------------------------------------------------------

def test_terminal_has_the_size_and_follows_it(host):
    script = "stty size; tty; read x; stty size; echo $TERM; echo err >&2"
    session = host.start(["sh", "-c", script], tty=(33, 77), stdin=True)
    host.wait(lambda: b"/dev/pts/" in session.stdout)
    assert session.stdout.startswith(b"33 77\r\n")
    host.resize(session, 44, 132)
    host.write(session, b"\n", end=True)
    assert host.finish(session) == 0
    assert session.stdout.endswith(b"44 132\r\nxterm\r\nerr\r\n")
    assert session.stderr == b""


def test_terminal_control_characters_act(host):
    session = host.start(["cat"], tty=(24, 80), stdin=True)
    host.write(session, b"x\n", end=False)
    host.wait(lambda: session.stdout == b"x\r\nx\r\n")
    host.write(session, b"\x03", end=False)
    assert host.finish(session) == -signal.SIGINT


def test_terminal_hangs_up_when_its_command_ends(host, tmp_path):
    for name in ("up", "never", "hup"):
        os.mkfifo(tmp_path / name)
    hup = os.open(tmp_path / "hup", os.O_RDWR | os.O_NONBLOCK)
    # The background shell says nothing on the terminal itself.
    script = (f"cd {tmp_path}; (trap 'echo hup >hup; exit' HUP; exec 3<>never; echo >up; "
              "read x <&3) 2>/dev/null & read x <up; head -c 3000 /dev/zero; exit 6")
    session = host.start(["sh", "-c", script], tty=(24, 80))
    assert host.finish(session) == 6
    assert session.stdout == bytes(3000)
    assert select.select([hup], [], [], 30)[0] and os.read(hup, 10) == b"hup\n"
    os.close(hup)


def test_terminal_output_is_complete(host):
    session = host.run(["sh", "-c", "head -c 100000 /dev/zero"], tty=(24, 80))
    assert session.stdout == bytes(100000)


def test_terminal_erases_characters_whole(host):
    session = host.run(["stty", "-a"], tty=(24, 80))
    assert b" iutf8" in session.stdout and b"-iutf8" not in session.stdout


def test_no_command_on_a_terminal_is_the_users_login_shell(host, tmp_path):
    shell = pwd.getpwuid(0).pw_shell
    session = host.start([], tty=(24, 80), stdin=True, env=[f"HOME={tmp_path}"])
    host.write(session, b"echo [$0] [$SHELL]; exit 4\n", end=False)
    assert host.finish(session) == 4
    assert f"[-{os.path.basename(shell)}] [{shell}]\r\n".encode() in session.stdout
    # Elsewhere a command must be named.
    assert host.run([]).failed[0] == 125


def test_end_of_input_is_typed_on_a_terminal(host):
    for script, data, status in (
            ("cat >/dev/null; exit 3", b"", 3),
            ("cat >/dev/null; exit 4", b"line\n", 4),
            ("stty -echo; head -n 1; cat; exit 5", b"line\nhalf", 5),
            # An end is found again by whoever reads next, as that of a file.
            ("cat; cat; read x || exit 6", b"line\n", 6)):
        session = host.start(["sh", "-c", script], tty=(24, 80), stdin=True)
        host.write(session, data, end=True)
        assert host.finish(session) == status
    assert session.stdout.count(b"line\r\n") == 2


def test_end_of_input_is_not_typed_for_ever(host):
    """A program that takes it for a key gets a bounded number of them."""
    script = "stty raw -echo; echo ready; exec cat -v"
    session = host.start(["sh", "-c", script], tty=(24, 80), stdin=True)
    host.wait(lambda: b"ready\n" in session.stdout)
    host.write(session, b"x", end=True)
    host.wait(lambda: session.stdout.count(b"^D") == 16)
    host.ping()
    host.signal(session, signal.SIGKILL)
    assert host.finish(session) == -signal.SIGKILL
    assert session.stdout.count(b"^D") == 16


def test_released_session_hangs_its_terminal_up(host, tmp_path):
    os.mkfifo(tmp_path / "hup")
    hup = os.open(tmp_path / "hup", os.O_RDWR | os.O_NONBLOCK)
    # A job of its own in the foreground, as a shell with job control makes it.
    script = (f"cd {tmp_path}; set -m; "
              "sh -c \"trap 'echo hup >hup; exit' HUP; echo ready; while :; do sleep 0.1; done\"; :")
    session = host.start(["sh", "-c", script], tty=(24, 80), stdin=True)
    host.wait(lambda: b"ready\r\n" in session.stdout)
    host.release(session)
    assert select.select([hup], [], [], 30)[0] and os.read(hup, 10) == b"hup\n"
    os.close(hup)


# Breaks ------------------------------------------------------------------------------------------

def test_hello_lists_sessions_and_detaches_them(host):
    running = host.start(["sleep", "100"])
    failed = host.start(["/no/such"])
    ended = host.start(["echo", "hi"])
    host.wait(lambda: running.pid and failed.over and ended.over)
    assert host.hello() == {running.number: 1, failed.number: 3, ended.number: 2}
    host.log.clear()
    host.signal(running, signal.SIGKILL)
    host.ping()
    assert host.log == [(frames.PONG, 7)]
    host.attach(running)
    host.wait(lambda: running.exited == -9)
    fresh = frames.Session(ended.number)
    fresh.window_size = 65536
    fresh.received = dict(ended.received)
    host.attach(fresh)
    host.wait(lambda: fresh.exited == 0)


def test_list_has_the_hosts_record_and_where_the_streams_are(host):
    record = bytes(range(256)) * 16
    cat = host.start(["sh", "-c", "echo error >&2; exec cat"], stdin=True, record=record)
    failed = host.start(["/no/such"], record=b"x")
    bare = host.start(["sh", "-c", "exit 3"])  # of a host that has no records
    host.write(cat, b"0123456789", end=False)
    host.wait(lambda: len(cat.stdout) == 10 and len(cat.stderr) == 6 and failed.over and bare.over)
    cat.window_size = 4  # stdout acknowledged up to 4
    host.send(Frame(frames.WINDOW, cat.number, struct.pack("<Q", 1000), frames.STDOUT, 4))
    for _ in range(2):
        host.hello()
        listed = host.listed[cat.number]
        assert (listed.state, listed.record, listed.stdin) == (frames.RUNNING, record, 10)
        assert listed.held == {frames.STDOUT: (4, 10), frames.STDERR: (0, 6)}
        assert (host.listed[failed.number].state, host.listed[failed.number].record) == \
            (frames.STATE_FAILED, b"x")
        ended = host.listed[bare.number]
        assert (ended.state, ended.status, ended.record) == (frames.STATE_EXITED, 3, b"")
    host.release(cat)
    host.ping()
    assert host.hello().keys() == {failed.number, bare.number}


def test_record_that_is_too_large_is_refused(host):
    session = host.start(["true"], record=bytes(4097))
    host.wait(lambda: session.over)
    assert session.failed[0] == 125 and "wrong size" in session.failed[2]


def test_list_may_be_larger_than_the_agents_buffer(host):
    """And a new HELLO in the middle of it begins it anew."""
    sessions = [host.start(["/no/such"], record=b"%4d" % n * 1000) for n in range(200)]
    host.wait(lambda: all(s.over for s in sessions))
    host.send(Frame(frames.HELLO, payload=bytes(16) + struct.pack("<HH", 1, 1)))
    assert len(host.hello()) == 200
    for n, session in enumerate(sessions):
        assert host.listed[session.number].record == b"%4d" % n * 1000
    host.ping()


def test_attach_to_an_unknown_session_fails(host):
    host.send(Frame(frames.ATTACH, 4711))
    reply = host.wait_other(frames.FAILED, 4711)
    assert struct.unpack_from("<II", reply.payload) == (125, 3)


@pytest.mark.parametrize("ended", [False, True])
def test_break_loses_and_repeats_nothing(host, ended):
    count = 60000
    session = host.start(["sh", "-c", f"seq {count}; seq 10 >&2" + ("" if ended else "; cat")],
                         stdin=True, window=32768)
    for _ in range(12):
        base = session.received[1]
        host.wait(lambda: session.received[1] > base + 10000)
        # What is on its way to the old host is lost: dropped here, unseen.
        host.outgoing.clear()
        host.hello()
        host.attach(session)
    if not ended:
        host.write(session, b"tail\n")
    else:
        host.send(Frame(frames.END, session.number))
    assert host.finish(session, timeout=20) == 0
    expected = "".join(f"{i}\n" for i in range(1, count + 1)) + ("" if ended else "tail\n")
    assert session.stdout.decode() == expected
    assert session.stderr.decode() == "".join(f"{i}\n" for i in range(1, 11))


def test_attach_sends_again_what_was_not_acknowledged(host):
    session = host.start(["sh", "-c", "head -c 100000 /dev/urandom"])
    session.auto_window = False
    host.wait(lambda: session.exited == 0)
    first = session.stdout
    for acked in (0, 40000, 99999, 100000):
        host.hello()
        session.output[1] = bytearray(first[:acked])
        session.received[1] = acked
        session.received[2] = 0
        host.attach(session)
        host.wait(lambda: session.exited == 0)
        assert session.stdout == first


def test_stdin_goes_on_after_a_break(host):
    session = host.start(["sha256sum"], stdin=True)
    data = random.Random(4).randbytes(400000)
    host.write(session, data[:150000], end=False)
    host.outgoing.clear()
    host.hello()
    session.stdin_limit = session.stdin_acked = 0
    host.attach(session)
    host.wait(lambda: session.stdin_limit > 0)
    session.stdin_sent = session.stdin_acked
    host.write(session, data[session.stdin_acked:])
    assert host.finish(session) == 0
    assert session.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


# Requests ----------------------------------------------------------------------------------------

def test_sync_is_answered(host):
    assert host.request(frames.SYNC) == (0, "")


def test_disk_that_is_not_there_does_not_grow(host):
    assert host.request(frames.GROW, struct.pack("<Q", 1 << 30)) == (19, "there is no data disk")


def test_poweroff_ends_sessions_and_says_goodbye(agent, host):
    session = host.start(["sleep", "100"])
    host.wait(lambda: session.pid)
    host.send(Frame(frames.POWEROFF, 5))
    host.wait_other(frames.REPLY, 5)
    host.wait_other(frames.GOING_DOWN)
    assert session.exited == -15
    assert agent.process.wait(5) == 0


def test_poweroff_without_sessions_is_quick(agent, host):
    start = time.monotonic()
    host.send(Frame(frames.POWEROFF, 5), *frames.body_frames(
        frames.EXEC, 9, frames.exec_body(["true"])))
    assert host.wait_other(frames.REPLY, 5).payload == bytes(4)
    host.wait_other(frames.GOING_DOWN)
    assert agent.process.wait(5) == 0
    assert time.monotonic() - start < 1.5, "it waited for a time-out"


def test_poweroff_does_not_wait_for_the_stubborn(agent, host):
    session = host.start(["sh", "-c", "trap '' TERM HUP; echo ready; while :; do sleep 0.1; done"])
    host.wait(lambda: session.stdout == b"ready\n")
    host.send(Frame(frames.POWEROFF, 5))
    host.wait_other(frames.GOING_DOWN)
    assert session.exited == -9
    assert agent.process.wait(5) == 0
