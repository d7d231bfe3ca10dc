"""Commands and the daemon that they start, or do not: what they say when it does not come up."""

import os
import subprocess


def fake_bangerd(bare, script):
    """A directory with the real banger and a bangerd that is a script."""
    bin_dir = bare.root / "bin"
    bin_dir.mkdir()
    os.link(bare.program(), bin_dir / "banger") if os.stat(bare.program()).st_dev == \
        os.stat(bin_dir).st_dev else subprocess.run(["cp", bare.program(), bin_dir], check=True)
    (bin_dir / "bangerd").write_text(script)
    (bin_dir / "bangerd").chmod(0o755)
    return bin_dir / "banger"


def run_program(bare, program, *args):
    return subprocess.run([program, *args], env=bare.environment, capture_output=True, text=True,
                          timeout=60, check=False, cwd=bare.home)


def test_reason_of_a_daemon_that_does_not_start_is_shown(bare):
    program = fake_bangerd(bare, "#!/bin/sh\necho to the log\n"
                                 "echo \"cannot read 'x': no\" >&3\nexit 1\n")
    done = run_program(bare, program, "ps")
    assert done.returncode == 1
    assert done.stderr == ("banger: the daemon did not start: cannot read 'x': no\n"
                           f"hint: see {bare.state_dir}/bangerd.log\n")
    log = bare.state_dir / "bangerd.log"
    assert log.read_text() == "to the log\n"
    for path, mode in ((log, 0o600), (bare.state_dir, 0o700), (bare.runtime_dir, 0o700)):
        assert path.stat().st_mode & 0o777 == mode
    done = run_program(bare, fake_path(
        program, "#!/bin/sh\nprintf 'config.toml:1:2: what?\\nhint: mend it\\n' >&3\n"), "ps")
    assert done.stderr == ("banger: the daemon did not start: config.toml:1:2: what?\n"
                           "hint: mend it\n")
    done = run_program(bare, fake_path(program, "#!/bin/sh\n"), "ps")
    assert "the daemon did not start: it ended without a word" in done.stderr
    done = run_program(bare, fake_path(program, "#!/nonexistent\n"), "ps")
    assert done.returncode == 1 and "cannot start the daemon" in done.stderr


def fake_path(program, script):
    (program.parent / "bangerd").write_text(script)
    return program


PYTHON_DAEMON = """#!/usr/bin/python3
import json, os, socket, sys
assert sys.argv[1:] == ["--ready-fd", "3"], sys.argv
path = os.environ["BANGER_SOCKET"]
with open(os.path.dirname(path) + "/started", "a") as f:
    f.write(f"{os.getpid()} {os.getsid(0) == os.getpid()} {os.getcwd()} "
            f"{os.readlink('/proc/self/fd/0')} {sorted(map(int, os.listdir('/proc/self/fd')))[:4]}\\n")
s = socket.socket(socket.AF_UNIX)
s.bind(path)
s.listen(64)
os.write(3, b"ok\\n")
os.close(3)
served = 0
while served < 8:
    c, _ = s.accept()
    line = c.makefile("rb").readline()
    if line:
        served += 1
        c.sendall(json.dumps({"jsonrpc": "2.0", "id": json.loads(line)["id"], "result": []}
                             ).encode() + b"\\n")
"""


def test_commands_at_once_start_one_daemon(bare):
    program = fake_bangerd(bare, PYTHON_DAEMON)
    processes = [subprocess.Popen([program, "ps", "-q"], env=bare.environment, cwd=bare.home,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                 for _ in range(8)]
    for process in processes:
        stdout, stderr = process.communicate(timeout=60)
        assert (process.returncode, stdout, stderr) == (0, b"", b"")
    started = (bare.runtime_dir / "started").read_text().splitlines()
    assert len(started) == 1
    pid, *rest = started[0].split(" ", 4)
    assert rest == ["True", "/", "/dev/null", "[0, 1, 2, 3]"]
    bare.wait_gone(int(pid))


def test_daemon_that_runs_on_another_socket_is_explained(bare):
    program = fake_bangerd(bare, "#!/bin/sh\necho 'already running (pid 7)' >&3\n")
    done = run_program(bare, program, "ps")
    assert done.returncode == 1
    assert "does not listen on" in done.stderr and "already running (pid 7)" in done.stderr


def test_daemon_commands_start_none(bare):
    result = bare.run("daemon", "status")
    assert result.returncode == 1 and "no daemon listens" in result.err
    assert bare.ok("daemon", "stop").err == "banger: the daemon is not running\n"
    assert not bare.runtime_dir.exists()


def test_runtime_directory_that_others_may_write_is_refused(bare):
    bare.runtime_dir.mkdir()
    bare.runtime_dir.chmod(0o777)
    result = bare.run("ps")
    assert result.returncode == 1 and "others may write to directory" in result.err
