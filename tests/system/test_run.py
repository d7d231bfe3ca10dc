"""run and exec on real guests: status, streams, arguments, and what is told on the way."""

import hashlib
import re
import signal
import threading

import pytest
from steps import (SHARED_VM, assert_error, assert_nothing_left, call, redirected, sh, sh_ok, vms,
                   wait_vm)

ALL_BYTES = bytes(range(256))
MIB = ALL_BYTES * 4096
AWKWARD = [b"a b", b"", b"'", b'"', b"\\", b"$HOME `id`", b"*", b"two\nlines\n", b"\xff\xfe\x80",
           "grüße".encode(), b"--rm", b"-", b"\x01\x7f\t", b"x" * 5000]


# run ----------------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_run_rm_gives_output_and_status_and_leaves_nothing(banger):
    result = banger.run("run", "--rm", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert result.returncode == 7
    assert result.stdout == b"out\n"
    said = result.err.splitlines()
    assert said.count("err") == 1
    assert all(line.startswith("banger: ") for line in said if line != "err"), result
    assert_nothing_left(banger)
    # The name of a deleted VM is free again; --quiet says nothing of its own.
    for _ in range(2):
        result = banger.run("run", "--rm", "--quiet", "--name", "again", "--", "sh", "-c",
                            "echo out; echo err >&2; kill -9 $$")
        assert (result.returncode, result.stdout, result.stderr) == (137, b"out\n", b"err\n")
        assert_nothing_left(banger)


def test_run_rm_of_a_missing_command_ends_with_127_and_leaves_nothing(banger):
    result = banger.run("run", "--rm", "-q", "--", "no-such-command")
    assert_error(result, "'no-such-command'", "not found", status=127, hint=False)
    assert_nothing_left(banger)


def test_run_shows_stages_as_lines_when_stderr_is_no_terminal(banger):
    result = banger.ok("run", "--rm", "--name", "plain", "--", "echo", "hi")
    assert result.stdout == b"hi\n"
    lines = result.err.splitlines()
    for stage in ("disk", "boot", "configure", "session"):
        assert f"banger: {stage}..." in lines
    assert re.fullmatch(r"banger: created plain in \d+\.\d s", lines[-1])
    assert b"\r" not in result.stderr and b"\x1b" not in result.stderr


def test_run_shows_stages_with_elapsed_time_on_a_terminal(banger):
    child = banger.spawn("run", "--rm", "--", "echo", "hi", tty=("stdin", "stderr"))
    result = child.finish()
    assert result.returncode == 0
    assert result.stdout == b"hi\n"
    elapsed = re.findall(r"\r\x1b\[Kbanger: boot (\d+\.\d) s", result.err)
    assert len(elapsed) > 2 and elapsed == sorted(elapsed, key=float), result
    # The line is gone before the command's output may come, and nothing else was said.
    assert result.err.endswith("\r\x1b[K"), result
    assert "\n" not in result.err, result


@pytest.mark.sanitize
def test_run_without_rm_keeps_the_vm_running(banger):
    assert banger.run("run", "-q", "--name", "kept", "--", "sh", "-c", "exit 3").returncode == 3
    listing = banger.ok("ps").out.splitlines()
    assert len(listing) == 2 and "kept" in listing[1] and "running" in listing[1]
    assert sh(banger, "exit 4", vm="kept").returncode == 4
    banger.ok("stop", "kept")
    assert len(banger.ok("ps").out.splitlines()) == 1
    assert "kept" in banger.ok("ps", "-a").out
    banger.ok("rm", "kept")
    assert_nothing_left(banger)


def test_run_on_a_terminal_says_that_the_vm_goes_on(banger):
    child = banger.spawn("run", "--name", "kept", "--", "true", tty=("stdin", "stderr"))
    result = child.finish()
    assert "VM 'kept' is still running: banger exec kept -- COMMAND | banger stop kept" \
        in result.err


def test_run_detach_prints_the_name_while_the_command_runs_on(banger):
    script = "mkfifo /tmp/gate; read word < /tmp/gate; exit 6"
    result = banger.ok("run", "-d", "--name", "later", "--", "sh", "-c", script)
    assert result.stdout == b"later\n"
    session = call(banger, "session.list", vm="later")[0]
    assert session["state"] == "running"
    assert vms(banger)["later"]["sessions"] == 1
    sh_ok(banger, "until [ -p /tmp/gate ]; do :; done; echo go > /tmp/gate", vm="later")
    ended = call(banger, "session.wait", vm="later", session=session["id"])
    assert ended["exit"] == {"code": 6, "signal": None}


def test_run_detach_rm_deletes_the_vm_when_the_command_ends(banger):
    name = banger.ok("run", "-d", "--rm", "--", "true").out.strip()
    wait_vm(banger, name, "deleted")
    assert_nothing_left(banger)


def test_run_detach_of_a_missing_command_says_so(banger):
    result = banger.run("run", "-d", "-q", "--rm", "--", "/etc/not-executable")
    assert_error(result, "not-executable", status=126, hint=False)
    wait_vm(banger, "x", "deleted")


def test_run_sizes_show_in_the_guest(banger):
    script = "hostname; nproc; grep MemTotal /proc/meminfo; df -k / | tail -n 1"
    out = banger.ok("run", "--rm", "-q", "--name", "sized", "--vcpus", "2", "--memory", "256",
                    "--disk", "1G", "--", "sh", "-c", script).out.splitlines()
    assert out[0] == "sized"
    assert out[1] == "2"
    total = int(out[2].split()[1]) >> 10
    assert 190 <= total <= 256, out
    size, free = int(out[3].split()[1]) >> 10, int(out[3].split()[3]) >> 10
    assert 850 <= size <= 1024 and free > 800, out


def test_run_of_an_image_name_hints_at_the_flag(shared):
    result = shared.run("run", "debian", "bash")
    assert_error(result, "debian is an image: use --image debian", status=2,
                 hint="banger run --image debian -- COMMAND")


def test_run_without_a_command_says_what_to_do(shared):
    assert_error(shared.run("run", "-q"), "no command given", status=125, hint="after --")


def test_run_timeout_ends_a_create_that_takes_longer(banger):
    result = banger.run("run", "--rm", "--timeout", "100ms", "--", "true")
    assert_error(result, "not done within 0.1 s", status=125, hint="--timeout")
    assert_nothing_left(banger)


# Exit status --------------------------------------------------------------------------------------

@pytest.mark.parametrize("command, status", [
    (["true"], 0),
    (["false"], 1),
    (["sh", "-c", "exit 42"], 42),
    (["sh", "-c", "exit 255"], 255),
    (["sh", "-c", "kill -9 $$"], 137),
    (["sh", "-c", "kill -TERM $$"], 143),
    (["sh", "-c", "kill -SEGV $$"], 139),
])
def test_status_is_the_commands_own(shared, command, status):
    result = shared.run("exec", SHARED_VM, "--", *command)
    assert (result.returncode, result.stdout, result.stderr) == (status, b"", b"")


@pytest.mark.parametrize("command, status, said", [
    ("nonexistent", 127, "not found in PATH"),
    ("/nonexistent", 127, "'/nonexistent'"),
    ("", 127, "''"),
    ("/etc/not-executable", 126, "'/etc/not-executable'"),
    ("/etc", 126, "'/etc'"),
    ("not-a-program", 126, "'not-a-program'"),
    ("broken-interpreter", 126, "interpreter is missing"),
])
def test_command_that_cannot_run_has_its_status_and_a_reason(shared, command, status, said):
    result = shared.run("exec", SHARED_VM, "--", command)
    assert_error(result, said, status=status)
    assert not result.stdout


@pytest.mark.parametrize("args, said", [
    (["exec", "no-such-vm", "--", "true"], "no VM 'no-such-vm'"),
    (["exec", "--user", "stranger", SHARED_VM, "--", "true"], "stranger"),
    (["exec", "--user", "user:strangers", SHARED_VM, "--", "true"], "strangers"),
    (["exec", "--workdir", "/nonexistent", SHARED_VM, "--", "true"], "/nonexistent"),
    (["exec", "--workdir", "relative", SHARED_VM, "--", "true"], "absolute path"),
])
def test_failure_of_bangers_own_ends_with_125(shared, args, said):
    assert_error(shared.run(*args), said, status=125)


# Streams ------------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_streams_are_separate_and_byte_exact_both_ways(shared):
    result = shared.run("exec", SHARED_VM, "--", "tee", "/dev/stderr", stdin=MIB)
    assert result.returncode == 0
    assert result.stdout == MIB
    assert result.stderr == MIB


def test_large_output_is_complete_before_the_status(shared):
    script = "head -c 8000000 /dev/zero; head -c 300000 /dev/zero >&2; exit 9"
    result = sh(shared, script)
    assert result.returncode == 9
    assert result.stdout == bytes(8000000)
    assert result.stderr == bytes(300000)


def test_output_arrives_while_the_command_runs(shared):
    child = shared.spawn("exec", SHARED_VM, "--", "cat")
    for word in (b"one", b"two"):
        child.send(word)
        child.read_until(word)
    child.close_stdin()
    child.process.stdin = None
    result = child.finish()
    assert (result.returncode, result.stdout) == (0, b"onetwo")


def test_stdin_from_a_file_is_byte_exact(shared):
    path = shared.root / "input"
    path.write_bytes(MIB[:300001])
    result = redirected(shared, f"<{path}", "exec", SHARED_VM, "--", "cat")
    assert result.stdout == MIB[:300001]


@pytest.mark.parametrize("redirection", ["</dev/null", "<&-"])
def test_stdin_that_is_no_data_reads_as_empty(shared, redirection):
    result = redirected(shared, redirection, "exec", SHARED_VM, "--", "sh", "-c",
                        "cat; readlink /proc/self/fd/0")
    assert (result.returncode, result.stdout) == (0, b"/dev/null\n")


def test_stdin_of_a_terminal_is_left_alone_without_i(shared):
    child = shared.spawn("exec", SHARED_VM, "--", "cat", tty=("stdin",))
    assert child.finish().returncode == 0


def test_command_that_does_not_read_its_stdin_ends_normally(shared):
    assert shared.run("exec", SHARED_VM, "--", "true", stdin=MIB).returncode == 0
    assert shared.run("exec", SHARED_VM, "--", "head", "-c", "3", stdin=MIB).stdout == MIB[:3]


def test_closed_output_ends_the_command(shared):
    """`banger exec vm -- yes | head -n 1` ends."""
    result = redirected(shared, "| head -n 1", "exec", SHARED_VM, "--", "yes")
    assert result.stdout == b"y\n"


# Arguments, environment, place, user --------------------------------------------------------------

def test_arguments_are_byte_exact(shared):
    command = [b"sh", b"-c", b"cat /proc/$$/cmdline; :", *AWKWARD]
    result = shared.run("exec", SHARED_VM, "--", *command)
    assert result.stdout == b"".join(word + b"\0" for word in command)


def test_many_and_long_arguments_arrive(shared):
    words = [b"%d" % n for n in range(2000)] + [b"y" * 100000]
    result = sh(shared, 'printf "%s\\n" "$@" | md5sum; echo $#', *words)
    want = hashlib.md5(b"".join(w + b"\n" for w in words)).hexdigest()
    assert result.out.split() == [want, "-", str(len(words))], result


def test_environment_is_byte_exact_and_added_to_a_sane_one(shared):
    given = [b"V%d=%s" % (n, word) for n, word in enumerate(AWKWARD)] + [b"HOME=/srv"]
    flags = [part for entry in given for part in (b"--env", entry)]
    result = shared.run("exec", *flags, SHARED_VM, "--", "cat", "/proc/self/environ")
    entries = result.stdout.split(b"\0")[:-1]
    assert set(given) <= set(entries)
    names = [entry.partition(b"=")[0] for entry in entries]
    assert len(names) == len(set(names)), names
    assert {b"PATH"} <= set(names)
    # Nothing of the host's comes along.
    assert not [n for n in names if n.startswith(b"BANGER") or n in (b"LC_ALL", b"ASAN_OPTIONS")]


def test_workdir(shared):
    assert sh_ok(shared, "pwd", flags=["--workdir", "/usr/local"]) == "/usr/local\n"
    assert sh_ok(shared, "pwd") == "/root\n"


@pytest.mark.parametrize("user, ids, home", [
    (None, "0 0 0", "/root"),
    ("user", "1000 1000 1000 1001", "/home/user"),
    ("1000", "1000 1000 1000 1001", "/home/user"),
    ("user:extra", "1000 1001", "/home/user"),
    ("nobody", "65534 65534 65534", "/"),
    ("4321", "4321", "/"),
])
def test_user(shared, user, ids, home):
    flags = ["--user", user] if user else []
    out = sh_ok(shared, "id -u; id -G; pwd", flags=flags).splitlines()
    assert out[0] == ids.split()[0]
    assert out[2] == home
    groups = out[1].split()
    if len(ids.split()) > 1:
        assert groups[0] == ids.split()[1]
        assert set(groups) >= set(ids.split()[1:])


# Signals and clients ------------------------------------------------------------------------------

@pytest.mark.parametrize("number, status", [
    (signal.SIGINT, 9), (signal.SIGTERM, 9), (signal.SIGHUP, 9)])
def test_signal_to_the_client_reaches_the_command(shared, number, status):
    name = signal.Signals(number).name.removeprefix("SIG")
    # The shell's wait is interrupted by the trap; its child goes with the session.
    child = shared.spawn("exec", SHARED_VM, "--", "sh", "-c",
                         f"trap 'echo got {name}; exit 9' {name}; echo ready; "
                         "cat /dev/zero >/dev/null & wait; exit 1")
    child.read_until(b"ready\n")
    child.signal(number)
    result = child.finish()
    assert (result.returncode, result.out) == (status, f"ready\ngot {name}\n")
    sh(shared, "killall cat")


@pytest.mark.sanitize
def test_interrupt_of_run_rm_ends_command_and_vm(banger):
    child = banger.spawn("run", "--rm", "-q", "--", "sh", "-c", "echo ready; exec sleep 1000")
    child.read_until(b"ready\n")
    child.signal(signal.SIGINT)
    assert child.finish().returncode == 130
    assert_nothing_left(banger)


@pytest.mark.sanitize
def test_commands_in_one_vm_run_at_the_same_time(shared):
    """Each waits for the next one's word: they can only end together."""
    count = 8
    sh_ok(shared, f"mkdir /tmp/ring; cd /tmp/ring; for n in $(seq 0 {count}); do mkfifo $n; done")
    results = {}

    def run(n):
        results[n] = sh(shared, 'read word < /tmp/ring/$1; echo "$word" > /tmp/ring/$2; '
                                'echo "$1 $word"; exit $1', str(n), str(n + 1))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    out = sh_ok(shared, f"echo begin > /tmp/ring/0; cat /tmp/ring/{count}")
    for thread in threads:
        thread.join()
    sh_ok(shared, "rm -r /tmp/ring")
    assert out == "begin\n"
    assert {n: (r.returncode, r.out) for n, r in results.items()} == \
        {n: (n, f"{n} begin\n") for n in range(count)}


def test_killed_client_hangs_its_command_up(shared):
    child = shared.spawn("exec", SHARED_VM, "--", "sh", "-c", "echo ready; exec sleep 1001")
    child.read_until(b"ready\n")
    session = [s for s in call(shared, "session.list", vm=SHARED_VM)
               if "sleep 1001" in str(s["command"][-1])][-1]
    child.kill()
    ended = call(shared, "session.wait", vm=SHARED_VM, session=session["id"])
    assert ended["exit"] == {"code": None, "signal": signal.SIGHUP}
    assert "sleep 1001" not in sh_ok(shared, "ps")
