"""Terminals and signals: run -t, exec -t, login shells, raw mode, and clients that go away."""

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import termios
import threading

import frames
import pytest
from frames import STDOUT
from mock_daemon import SESSION, VM, Gone, MockDaemon, Operation
from steps import SHARED_VM, assert_error, assert_nothing_left, call, redirected, sh, sh_ok, wait_vm
from tmux import Screen

TTY = ("stdin", "stdout", "stderr")
MIB = 1 << 20
PROMPT = re.compile(rb"[#$] (\x1b\[6n)?$")
# A script says when it is there: the two halves are not together in what the terminal echoes.
READY = "echo rea''dy; "


@pytest.fixture
def daemon(bare):
    with MockDaemon(bare.socket_path) as mock:
        mock.operation = Operation({"vm": VM, "session": SESSION})
        yield mock


def on_terminal(banger, script, flags=("-it",), size=(24, 80), **kwargs):
    """A script in the shared VM, on a terminal of its own and of ours."""
    return banger.spawn("exec", *flags, SHARED_VM, "--", "sh", "-c", script, tty=TTY, size=size,
                        **kwargs)


def shell(banger, *args):
    """A login shell in the shared VM, at its prompt."""
    child = banger.spawn("exec", *args, SHARED_VM, tty=TTY, size=(24, 80))
    child.read_until(PROMPT)
    return child


def say(child, line, answer):
    """Types a line and waits for what comes of it, with the next prompt."""
    child.output["stdout"] = b""
    child.send(line.encode() + b"\r")
    child.read_until(answer)
    return child.read_until(PROMPT)


def close_stdin(child):
    child.close_stdin()
    child.process.stdin = None


def await_end(banger, command):
    """Waits until no process of the shared VM has this command line."""
    sh_ok(banger, f"while ps | grep -q '[{command[0]}]{command[1:]}'; do :; done")


def last_session(banger, vm=SHARED_VM):
    return call(banger, "session.list", vm=vm)[-1]


# What a command finds ------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_run_on_a_terminal_without_a_command_is_a_login_shell(banger):
    child = banger.spawn("run", "--rm", "--name", "shell", tty=TTY, size=(31, 97))
    before = child.modes_before
    child.read_until(PROMPT)
    assert child.is_raw()
    say(child, 'echo "[$0 $(pwd) $(stty size) $(hostname)]"', b"\r\n[-sh /root 31 97 shell]\r\n")
    child.send(b"exit 7\r")
    assert child.finish().returncode == 7
    assert before[3] & termios.ICANON
    assert_nothing_left(banger)


@pytest.mark.sanitize
def test_exec_on_a_terminal_without_a_command_is_a_login_shell(shared):
    child = shell(shared)
    say(child, "echo [$0 $TERM $SHELL $HOME]", b"\r\n[-sh xterm /bin/sh /root]\r\n")
    say(child, "cat /proc/self/stat | cut -d' ' -f 7 >/tmp/ctty; echo [$(cat /tmp/ctty)]",
        re.compile(rb"\r\n\[34816\]|\r\n\[3481\d\]"))
    assert last_session(shared)["command"] == [] and last_session(shared)["tty"]
    child.send(b"\x04")
    assert child.finish().returncode == 0


def test_login_shell_is_the_users_or_bin_sh(shared):
    child = shell(shared, "--user", "user")
    say(child, "echo [$0 $(id -un) $(pwd)]", b"\r\n[-sh user /home/user]\r\n")
    child.send(b"exit\r")
    assert child.finish().returncode == 0
    # The image has no /usr/sbin/nologin, which is the shell of nobody.
    child = shell(shared, "--user", "nobody")
    say(child, "echo [$0 $SHELL]", b"\r\n[-sh /bin/sh]\r\n")
    child.send(b"exit\r")
    assert child.finish().returncode == 0


def test_exec_without_a_command_and_without_a_terminal_is_an_error(shared):
    assert_error(shared.run("exec", SHARED_VM), "COMMAND is missing", status=2, hint="shell")
    assert_error(shared.run("exec", "-i", SHARED_VM), "COMMAND is missing", status=2)


def test_terminal_is_the_users_and_the_commands_own(shared):
    script = ('stat -c "%U %a" $(tty); echo >$(tty); '
              '[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && readlink /proc/$$/fd/0; '
              'cut -d" " -f 1,5,6,8 /proc/$$/stat')
    result = on_terminal(shared, script, ("-it", "--user", "user")).finish()
    owner, empty, name, ids = result.out.split("\r\n")[:4]
    assert (owner, empty, name[:9]) == ("user 620", "", "/dev/pts/")
    # It leads session and group, and its group is in the foreground.
    assert len(set(ids.split())) == 1, ids


def test_stderr_of_a_terminal_comes_with_stdout(shared):
    child = shared.spawn("exec", "-t", SHARED_VM, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    close_stdin(child)
    result = child.finish()
    assert (result.returncode, result.stdout, result.stderr) == (3, b"out\r\nerr\r\n", b"")


@pytest.mark.parametrize("given, flags, found", [
    ({"TERM": "vt220", "COLORTERM": "truecolor"}, [], "vt220 truecolor C.UTF-8 -"),
    ({"LC_ALL": "", "LC_CTYPE": "", "LANG": "de_DE.utf8@euro"}, [], "xterm - C.UTF-8 -"),
    ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, [], "xterm - - -"),
    ({}, ["-e", "TERM=dumb", "-e", "LANG=C"], "dumb - - C"),
    ({"TERM": "no\x1bsense"}, [], "xterm - C.UTF-8 -"),
])
def test_variables_that_describe_the_terminal_are_passed(shared, given, flags, found):
    script = "echo ${TERM:--} ${COLORTERM:--} ${LC_CTYPE:--} ${LANG:--}"
    result = on_terminal(shared, script, ["-it", *flags], env=given).finish()
    assert result.out == found + "\r\n"
    assert sh(shared, script).out == "- - - -\n" or flags


# Size -------------------------------------------------------------------------------------------------

def test_size_is_followed(shared):
    child = on_terminal(shared, f"trap 'stty size; exit 4' WINCH; stty size; {READY}"
                                "while :; do sleep 0.1; done", size=(33, 77))
    child.read_until(b"33 77\r\nready\r\n")
    child.resize(50, 132)
    child.read_until(b"50 132\r\n")
    assert child.finish().returncode == 4


def test_size_without_one_is_24_by_80(shared):
    assert shared.run("exec", "-t", SHARED_VM, "--", "stty", "size").out == "24 80\r\n"
    assert on_terminal(shared, "stty size", size=None).finish().out == "24 80\r\n"


# Keys -------------------------------------------------------------------------------------------------

def test_keys_are_signals_of_the_job_in_the_foreground(shared):
    child = shell(shared)
    for key, status in ((b"\x03", 130), (b"\x1c", 131)):
        child.output["stdout"] = b""
        child.send(f"({READY}exec sleep 1000)\r".encode())
        child.read_until(b"ready\r\n")
        child.send(key)
        child.read_until(PROMPT)
        say(child, "echo st=$?", b"\r\nst=%d\r\n" % status)
    child.send(b"exit\r")
    child.finish()


def test_jobs_stop_go_on_in_the_background_and_come_back(shared):
    child = shell(shared)
    child.send(f"sh -c \"{READY}exec sleep 1002\"\r".encode())
    child.read_until(b"ready\r\n")
    child.send(b"\x1a")
    child.read_until(b"Stopped")
    child.read_until(PROMPT)
    say(child, "jobs", re.compile(rb"Stopped +sh -c"))
    say(child, "bg", b"sh -c")
    say(child, "jobs", re.compile(rb"Running +sh -c"))
    # Not this one's keys: the job is in the background.
    child.send(b"\x03")
    child.read_until(PROMPT)
    say(child, "jobs", re.compile(rb"Running +sh -c"))
    child.output["stdout"] = b""
    child.send(b"fg\r")
    child.read_until(b"sh -c")
    child.send(b"\x03")
    child.read_until(PROMPT)
    say(child, "echo st=$?", b"\r\nst=130\r\n")
    child.send(b"exit\r")
    assert child.finish().returncode == 0


def test_characters_are_erased_whole(shared):
    """IUTF8: one key, one character, whatever its bytes."""
    child = on_terminal(shared, f"{READY}read x; echo \"[$x]\"")
    child.read_until(b"ready\r\n")
    child.send("aä€😀\x7f\x7fö\r".encode())
    child.read_until("[aäö]\r\n".encode())
    assert child.finish().returncode == 0


@pytest.mark.parametrize("modes", ["-echo", "raw -echo"])
def test_paste_of_a_mebibyte_arrives_whole(shared, modes):
    if modes == "raw -echo":
        data = bytes(range(256)) * 4096
    else:
        data = (b"x" * 63 + b"\n") * (MIB // 64)
    child = on_terminal(shared, f"stty {modes}; {READY}head -c {len(data)} | md5sum")
    child.read_until(re.compile(rb"ready\r?\n"))
    child.send(data)
    child.read_until(hashlib.md5(data).hexdigest().encode())
    assert child.finish().returncode == 0


def test_paste_with_echo_arrives_whole(shared):
    """What it echoes the kernel may shorten, as on any terminal."""
    data = (b"0123456789abcdef" * 3 + b"\r") * 4096
    child = on_terminal(shared, f"{READY}head -c {len(data)} | md5sum")
    child.read_until(b"ready\r\n")
    typist = threading.Thread(target=child.send, args=(data,))
    typist.start()
    child.read_until(hashlib.md5(data.replace(b"\r", b"\n")).hexdigest().encode())
    assert child.finish().returncode == 0
    typist.join()


def test_output_before_the_exit_is_complete(shared):
    size = 3000001
    result = on_terminal(shared, f"stty -opost; head -c {size} /dev/zero; exit 5").finish()
    assert (result.returncode, len(result.stdout)) == (5, size)


def test_background_jobs_do_not_delay_the_exit(shared):
    """Those of the command's own group are hung up with the terminal, others go on."""
    script = ("mkfifo /tmp/up; sleep 1003 & setsid sh -c 'echo >/tmp/up; exec sleep 1004' & "
              "read x </tmp/up; rm /tmp/up; echo front; exit 6")
    result = on_terminal(shared, script).finish()
    assert (result.returncode, result.out) == (6, "front\r\n")
    await_end(shared, "sleep 1003")
    assert "sleep 1004" in sh_ok(shared, "ps; killall sleep")


# Without a terminal of ours ----------------------------------------------------------------------------

@pytest.mark.parametrize("data, shown", [
    (b"one\ntwo\n", "one\r\ntwo\r\none\r\ntwo\r\n"), (b"", "")])
def test_end_of_piped_input_is_typed(shared, data, shown):
    result = shared.run("exec", "-it", SHARED_VM, "--", "cat", stdin=data)
    assert result.returncode == 0
    assert sorted(result.out.splitlines()) == sorted(shown.splitlines())


def test_end_of_piped_input_in_the_middle_of_a_line_is_typed(shared):
    child = shared.spawn("exec", "-it", SHARED_VM, "--", "sh", "-c", f"stty -echo; {READY}cat")
    child.read_until(b"ready\r\n")
    child.send(b"a\nb")
    close_stdin(child)
    result = child.finish()
    assert (result.returncode, result.out) == (0, "ready\r\na\r\nb")


def test_script_can_be_piped_into_a_login_shell(shared):
    result = shared.run("exec", "-t", SHARED_VM, stdin=b"cat\nexpr 20 + 22\n")
    assert result.returncode == 0
    assert "\r\n42\r\n" in result.out or "\r\nexpr 20 + 22\r\n" in result.out


def test_t_alone_reads_no_keys(shared):
    child = on_terminal(shared, f"{READY}exec sleep 1007", ("-t",))
    child.read_until(b"ready\r")
    assert not child.is_raw()
    child.send(b"\x03")
    assert child.finish().returncode == 130


# Raw mode ends ------------------------------------------------------------------------------------------

def ready(s):
    s.output(STDOUT, b"ready\n")


def served(*steps):
    """A session of the mock daemon: ready, then what the steps do."""
    def session(s):
        ready(s)
        for step in steps:
            step(s)
    return session


def forever(s):
    while True:
        s.step()


def attached(bare, verb=("exec", "-it", "x", "--", "sh"), **kwargs):
    """A client in raw mode, and the modes from before."""
    child = bare.spawn(*verb, tty=TTY, size=(24, 80), **kwargs)
    child.read_until(b"ready")
    assert child.is_raw()
    return child, child.modes_before


ENDS = {
    "exit": (lambda s: s.exit(3), 3),
    "failure": (lambda s: s.fail(127, "not there"), 127),
    "daemon dies": (lambda s: s.connection.socket.shutdown(socket.SHUT_RDWR), 125),
    "garbage": (lambda s: s.connection.send(bytes(64)) or forever(s), 125),
    "fatal": (lambda s: s.put(frames.Frame(frames.FATAL, payload=b"no")), 125),
}


@pytest.mark.parametrize("end", ENDS)
def test_raw_mode_ends_with_the_session(bare, daemon, end):
    act, status = ENDS[end]
    daemon.session = served(lambda s: s.await_size(25, 81), act)
    child, before = attached(bare)
    child.resize(25, 81)
    result = child.finish(keep=True)
    assert result.returncode == status
    assert child.modes() == before
    if status >= 125:
        # The terminal is itself again before an error is shown on it.
        assert result.out.endswith("\r\n") and "\r\nbanger: " in result.out.replace("ready\n", "\r\n")


@pytest.mark.parametrize("number, status", [
    (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGALRM, -signal.SIGALRM),
    (signal.SIGSEGV, -signal.SIGSEGV), (signal.SIGABRT, -signal.SIGABRT),
    (signal.SIGRTMIN + 3, -(signal.SIGRTMIN + 3)), (signal.SIGXCPU, -signal.SIGXCPU)])
def test_raw_mode_ends_when_a_signal_ends_the_client(bare, daemon, number, status):
    killed = threading.Event()

    def deaf(s):
        ready(s)
        with contextlib.suppress(Gone):
            s.await_signal(number)
            s.output(STDOUT, b"once")
            s.await_signal(signal.SIGKILL)
            killed.set()
    daemon.session = deaf
    for name in ("ASAN_OPTIONS", "TSAN_OPTIONS"):
        # A sanitizer would take the signal for a defect of the program.
        bare.environment[name] = bare.environment.get(name, "") + ":handle_segv=0:handle_abort=0"
    child, before = attached(bare)
    child.signal(number)
    if status > 0:
        child.read_until(b"once")
        assert child.is_raw()
        child.signal(number)
    result = child.finish(keep=True)
    assert result.returncode == status
    assert child.modes() == before
    if status > 0:
        assert killed.wait(60)
        assert f"SIG{'TERM' if status == 143 else 'INT'} for the second time: killed" in result.out


def test_client_that_is_stopped_gives_the_terminal_back_and_takes_it_again(bare, daemon):
    """Within a shell with job control, which leaves the modes as they are."""
    def session(s):
        ready(s)
        s.await_size(40, 100)
        s.output(STDOUT, b"again")
        assert s.read_stdin_until(b"typed") == b"typed"
        s.exit(9)
    daemon.session = session
    child = bare.spawn_argv(["sh", "-i"], tty=TTY, size=(24, 80), env={"PS1": "prompt$ "})
    child.read_until(b"prompt$ ")
    before = child.modes_before
    child.send(f"{bare.program()} exec -it x -- sh\r".encode())
    child.read_until(b"ready")
    assert child.is_raw()
    client, = bare.pids("banger")
    os.kill(client, signal.SIGTSTP)
    child.read_until(b"prompt$ ", after=b"ready")
    assert child.modes() == before
    child.resize(40, 100)
    child.send(b"fg\r")
    child.read_until(b"again")
    assert child.is_raw()
    child.send(b"typed")
    child.read_until(b"prompt$ ", after=b"again")
    assert child.modes() == before
    child.send(b"echo st=$?\r")
    child.read_until(b"st=9")
    child.send(b"exit\r")
    child.finish()


def test_client_whose_terminal_hangs_up_ends(bare, daemon):
    told = threading.Event()

    def session(s):
        ready(s)
        s.await_signal(signal.SIGHUP)
        told.set()
        forever(s)
    daemon.session = session
    child, _ = attached(bare)
    child.hang_up()
    assert child.process.wait(60) == 129
    assert told.wait(60)


def test_terminal_that_nobody_reads_does_not_hold_the_client(bare, daemon):
    """Whoever drives the terminal is stuck: the client can still be told to end."""
    told = threading.Event()

    def flood(s):
        ready(s)
        # More than fits into the terminal: the client has no use for another window.
        s.output(STDOUT, b"x" * (s.limit[STDOUT] - s.sent[STDOUT]))
        s.await_signal(signal.SIGTERM)
        told.set()
        forever(s)
    daemon.session = flood
    child, _ = attached(bare)
    child.signal(signal.SIGTERM)
    assert told.wait(60)
    child.signal(signal.SIGTERM)
    assert child.process.wait(60) == 143


def test_terminal_goes_on_with_the_next_daemon(banger):
    child = banger.spawn("run", "--rm", "-q", "-it", "--", "sh", "-c",
                         f"stty -echo; {READY}read x; echo \"[$x]\"; stty size; exit 4",
                         tty=TTY, size=(24, 80))
    before = child.modes_before
    child.read_until(b"ready\r\n")
    assert before[3] & termios.ICANON and child.is_raw()
    os.kill(banger.daemon_pid(), signal.SIGKILL)
    child.resize(41, 99)
    child.send(b"typed\r")
    child.read_until(b"[typed]\r\n41 99\r\n")
    result = child.finish(keep=True)
    assert result.returncode == 4 and b"banger" not in result.stdout
    assert child.modes() == before
    assert_nothing_left(banger)


# Signals without a terminal ------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_are_passed_on_every_time(shared, number):
    script = (f"trap 'echo got; n=x$n; [ $n != xx ] || exit 5' {number - 0}; echo ready; "
              "while :; do sleep 1004 & wait; done")
    child = shared.spawn("exec", SHARED_VM, "--", "sh", "-c", script)
    child.read_until(b"ready\n")
    child.signal(number)
    child.read_until(b"got\n")
    child.signal(number)
    assert child.finish().returncode == 5
    sh(shared, "killall sleep")


@pytest.mark.sanitize
def test_second_interrupt_kills_a_deaf_command(shared):
    child = shared.spawn("exec", SHARED_VM, "--", "sh", "-c",
                         "trap 'echo deaf' INT; echo ready; while :; do sleep 0.1; done")
    child.read_until(b"ready\n")
    child.signal(signal.SIGINT)
    child.read_until(b"deaf\n")
    child.signal(signal.SIGINT)
    result = child.finish()
    assert result.returncode == 130
    assert result.err == "banger: SIGINT for the second time: killed the command\n"
    session = last_session(shared)
    ended = call(shared, "session.wait", vm=SHARED_VM, session=session["id"])
    assert ended["exit"] == {"code": None, "signal": signal.SIGKILL}


def test_second_interrupt_of_run_rm_deletes_the_vm(banger):
    child = banger.spawn("run", "--rm", "-q", "--name", "x", "--", "sh", "-c",
                         "trap 'echo deaf' INT; echo ready; while :; do sleep 0.1; done")
    child.read_until(b"ready\n")
    child.signal(signal.SIGINT)
    child.read_until(b"deaf\n")
    child.signal(signal.SIGINT)
    assert child.finish().returncode == 130
    wait_vm(banger, "x", "deleted")
    assert_nothing_left(banger)


def test_stopped_client_does_not_stop_the_guest(shared):
    child = shared.spawn("exec", SHARED_VM, "--", "sh", "-c",
                         "echo ready; read x; echo $x >/tmp/went-on; echo done")
    child.read_until(b"ready\n")
    child.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    child.send(b"yes\n")
    child.signal(signal.SIGCONT)
    close_stdin(child)
    assert child.finish().returncode == 0
    assert sh_ok(shared, "cat /tmp/went-on; rm /tmp/went-on") == "yes\n"


def test_status_of_a_pipeline_is_the_local_one(shared):
    """Closed output is SIGPIPE for the command, and for whoever asks for the statuses."""
    script = 'eval "$@" | head -n 1; echo ${PIPESTATUS[*]}'
    results = []
    for command in (["yes"], [shared.program(), "exec", SHARED_VM, "--", "yes"]):
        done = subprocess.run(["bash", "-c", script, "bash", *command], env=shared.environment,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False,
                              timeout=60)
        results.append((done.stdout, done.stderr))
    assert results == [(b"y\n141 0\n", b"")] * 2


# The client is killed --------------------------------------------------------------------------------------

def kill_and_wait(shared, child):
    """Kills the client and returns how its session ended."""
    session = last_session(shared)
    assert session["state"] == "running"
    child.kill()
    return call(shared, "session.wait", vm=SHARED_VM, session=session["id"])["exit"]


def test_killed_client_with_stdin_open_hangs_the_command_up(shared):
    child = shared.spawn("exec", "-i", SHARED_VM, "--", "sh", "-c", "echo ready; exec sleep 1005")
    child.read_until(b"ready\n")
    assert kill_and_wait(shared, child) == {"code": None, "signal": signal.SIGHUP}


def test_killed_client_of_a_terminal_hangs_shell_and_job_up(shared):
    child = shell(shared)
    child.send(f"sh -c \"{READY}exec sleep 1006\"\r".encode())
    child.read_until(b"ready\r\n")
    assert kill_and_wait(shared, child)["signal"] in (None, signal.SIGHUP)
    await_end(shared, "sleep 1006")


def test_killed_client_with_stdin_closed_leaves_the_command_alone(shared):
    """It goes on, and does not wait for a reader: what it writes is dropped."""
    script = "mkfifo /tmp/go; echo ready; read x </tmp/go; head -c 3000000 /dev/zero; exit 8"
    child = shared.spawn("exec", SHARED_VM, "--", "sh", "-c", script, tty=("stdin",))
    child.read_until(b"ready\n")
    session = last_session(shared)
    child.kill()
    sh_ok(shared, "echo go >/tmp/go; rm /tmp/go")
    ended = call(shared, "session.wait", vm=SHARED_VM, session=session["id"])
    assert ended["exit"] == {"code": 8, "signal": None}


# Programs that draw ------------------------------------------------------------------------------------------

def test_vi_edits_and_saves(shared):
    with Screen(shared, shared.program(), "exec", "-it", SHARED_VM, "--", "vi", "/tmp/text") as s:
        s.wait(lambda text: "/tmp/text" in text and text.count("\n~") > 15)
        s.type("i", "first line", "Enter", "secnd")
        s.wait(lambda text: text.startswith("first line\nsecnd\n~"))
        # A key behind Escape would make the two another key.
        s.type("Escape")
        s.wait(lambda text: "\n- /tmp/text" in text)
        s.type("h", "i", "o")
        s.wait(lambda text: text.startswith("first line\nsecond\n~"))
        s.type("Escape")
        s.wait(lambda text: "\n- /tmp/text" in text)
        assert s.cursor() == (3, 1)
        s.resize(60, 12)
        s.type(":wq", "Enter")
        s.wait_end()
    assert sh_ok(shared, "cat /tmp/text; rm /tmp/text") == "first line\nsecond\n"


def test_less_scrolls_and_searches(shared):
    with Screen(shared, shared.program(), "exec", "-it", SHARED_VM, "--", "sh", "-c",
                "seq 1 200 >/tmp/numbers; less /tmp/numbers") as s:
        s.wait(lambda text: text.startswith("1\n2\n") and "\n23\n" in text)
        s.type("Space")
        s.wait(lambda text: text.startswith("24\n25\n"))
        s.type("/150", "Enter")
        s.wait(lambda text: text.startswith("150\n"))
        s.type("q")
        s.wait_end()
    sh_ok(shared, "rm /tmp/numbers")


def test_top_draws_and_follows_the_size(shared):
    with Screen(shared, shared.program(), "exec", "-it", SHARED_VM, "--", "top", "-d", "1") as s:
        text = s.wait(lambda text: "PID" in text and "banger-agent" in text or "init" in text)
        assert "Mem:" in text.splitlines()[0]
        s.resize(100, 10)
        s.wait(lambda text: len(text.splitlines()) == 10 and "Mem:" in text.splitlines()[0])
        s.type("q")
        s.wait_end()
