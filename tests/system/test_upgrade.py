"""What goes on while things are killed or replaced around it: real guests, their files and sessions."""

import os
import random
import signal

import pytest
from banger import BUILD, wait_pid_gone
from steps import own_programs, vms, wait_vm

FILES = "for f in /root/round-*; do echo $(basename $f) $(cat $f); done"


def newer(program):
    """The program of a later version: the same but for what it says it is."""
    data = (BUILD / program).read_bytes()
    assert b"0.1.0" in data
    return data.replace(b"0.1.0", b"9.9.9")


def test_daemon_is_replaced_by_a_new_build_under_vms_and_sessions(banger):
    directory = own_programs(banger)
    banger.ok("vm", "create", "-q", "--name", "old")
    talk = banger.spawn("exec", "-i", "old", "--", "cat")
    talk.send(b"before\n")
    talk.read_until(b"before\n")
    pid = banger.qemu_pids()[0]
    for program in ("bangerd", "banger", "banger-agent"):
        # As an installer does: the file of a program that runs is not written to.
        (directory / "new").write_bytes(newer(program))
        (directory / "new").chmod(0o755)
        (directory / "new").rename(directory / program)
    banger.ok("daemon", "stop")
    # The client is of the old version, too, and starts the daemon that lies there by now.
    talk.send(b"after\n")
    talk.read_until(b"after\n")
    assert banger.json("daemon", "status")["version"].startswith("9.9.9")
    assert banger.qemu_pids() == [pid]
    assert vms(banger)["old"]["state"] == "running"
    # A new daemon and the agent that the VM booted with.
    assert banger.ok("exec", "old", "--", "echo", "here").out == "here\n"
    (banger.home / "file").write_text("copied")
    banger.ok("cp", "file", "old:/root/file")
    assert banger.ok("exec", "old", "--", "cat", "/root/file").out == "copied"
    talk.close_stdin()
    result = talk.finish()
    assert (result.returncode, result.stdout) == (0, b"before\nafter\n"), repr(result)
    banger.ok("run", "--rm", "-q", "--", "true")
    banger.ok("stop", "old")
    banger.ok("start", "old")
    assert banger.ok("exec", "old", "--", "cat", "/root/file").out == "copied"


@pytest.mark.deadline(600)
def test_ten_kills_at_any_moment_lose_no_synced_file_and_no_byte(banger):
    seed = random.randrange(1 << 30)
    dice = random.Random(seed)
    print(f"seed {seed}")
    banger.ok("vm", "create", "-q", "--name", "x")
    for number in range(10):
        banger.ok("exec", "x", "--", "sh", "-c", f"echo {number} >/root/round-{number}; sync")
        lines = dice.randrange(1, 3000)
        talk = banger.spawn("exec", "x", "--", "sh", "-c",
                            "i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); echo $i; done")
        talk.read_until(b"\n%d\n" % lines if lines > 1 else b"1\n")
        if number % 3 == 2:
            pid = banger.qemu_pids()[0]
            os.kill(pid, signal.SIGKILL)
            assert wait_pid_gone(pid)
            wait_vm(banger, "x", "stopped")
            assert talk.finish().returncode in (0, 125)
            banger.ok("start", "x")
        else:
            # Without root there is no helper.
            helpers = banger.pids("banger-helper") if number % 3 == 1 else []
            os.kill(helpers[0] if helpers else banger.daemon_pid(), signal.SIGKILL)
            result = talk.finish()
            assert result.returncode == 0, repr(result)
            assert result.stdout.split() == [b"%d" % (i + 1) for i in range(3000)]
        kept = banger.ok("exec", "x", "--", "sh", "-c", FILES).out.split("\n")
        assert sorted(kept[:-1]) == sorted(f"round-{i} {i}" for i in range(number + 1))
    assert banger.ok("daemon", "reconcile", "--dry-run").out == ""
