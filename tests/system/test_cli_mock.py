"""The command line against a scripted daemon: what it prints, how it ends, how it carries bytes."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import termios
import time

import frames
import pytest
from banger import ROOT
from frames import STDERR, STDOUT
from mock_daemon import IMAGE, SESSION, VM, VM_ID, Gone, MockDaemon, Operation, RpcError


@pytest.fixture
def daemon(bare):
    with MockDaemon(bare.socket_path) as mock:
        mock.operation = Operation({"vm": VM, "session": SESSION})
        mock.answers["vm.list"] = lambda params: []  # for those that look up several names
        yield mock


def close_stdin(child):
    child.close_stdin()
    child.process.stdin = None


# Usage --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("args, said, hint", [
    (["runn"], "unknown command 'runn'", "banger run"),
    (["vm", "shwo", "x"], "unknown command 'vm shwo'", "banger vm show"),
    (["image", "frobnicate"], "unknown command 'image frobnicate'", "banger image --help"),
    (["ps", "--al"], "unknown flag '--al'", "--all"),
    (["run", "-Z"], "unknown flag '-Z'", "banger run --help"),
    (["--formt", "json", "ps"], "unknown flag '--formt'", "--format"),
    (["ps", "--format", "xml"], "--format must be one of table|json|jsonl", None),
    (["ps", "--format"], "--format wants a value", None),
    (["run", "--rm=yes"], "--rm takes no value", None),
    (["run", "--vcpus", "99"], "--vcpus must be 1 to 64", None),
    (["run", "--vcpus", "two"], "--vcpus must be a number", None),
    (["run", "--memory", "1M"], "--memory must be 64M to 1T, not '1M'", None),
    (["run", "--vmm", "xen"], "--vmm must be one of auto|qemu|firecracker|fake", None),
    (["run", "--timeout", "soon"], "--timeout must be a time", None),
    (["run", "--env", "NOVALUE"], "--env must be NAME=VALUE", None),
    (["run", "-di", "--", "sh"], "exclude each other", None),
    (["exec"], "exec: VM [[--] COMMAND...] is missing", None),
    (["exec", "x"], "exec: COMMAND is missing", None),
    (["vm", "stop"], "VM... is missing", None),
    (["image", "register", "a", "b", "c"], "unexpected argument 'c'", None),
    (["help", "nothing"], "unknown command 'nothing'", None),
])
def test_usage_error_ends_with_2_and_a_hint(bare, args, said, hint):
    result = bare.run(*args)
    assert result.returncode == 2, repr(result)
    lines = result.err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("banger: ") and said in lines[0], repr(result)
    assert lines[1].startswith("hint: ") and (hint or "") in lines[1], repr(result)
    assert not result.stdout


def test_help_needs_no_daemon_and_knows_every_command(bare):
    listing = bare.ok("--help").out
    commands = re.findall(r"^  ([a-z]+(?: [a-z]+)?)(?: \| ([a-z]+))? +[A-Z]", listing, re.M)
    assert len(commands) > 15
    for path, short in commands:
        text = bare.ok(*path.split(), "--help").out
        assert text.startswith(f"Usage: banger {path}"), text
        assert text == bare.ok("help", *path.split()).out
        if short:
            assert text == bare.ok("help", short).out
    assert "internal" not in listing
    assert bare.run().returncode == 2
    assert bare.run("vm").returncode == 2
    assert not bare.socket_path.exists()


def test_help_shows_defaults_of_the_api_table(bare):
    text = " ".join(bare.ok("run", "--help").out.split())
    assert "Default: 512M." in text and "Default: 8G." in text


def test_version(bare):
    assert re.fullmatch(r"banger \d+\.\d+\.\d+\S*\n", bare.ok("version").out)
    assert bare.json("version")["version"] in bare.ok("version").out


def test_protocol_document_is_up_to_date(bare):
    assert bare.ok("internal", "protocol").out == (ROOT / "docs" / "PROTOCOL.md").read_text()


# Listings and objects -------------------------------------------------------------------------------

def test_listing_formats(bare, daemon):
    daemon.answers["vm.list"] = lambda params: [VM, VM | {"name": "second", "id": "f" * 32}]
    lines = bare.ok("vm", "ls").out.splitlines()
    assert lines[0].split() == ["ID", "NAME", "STATE", "REASON", "IMAGE", "VCPU", "MEM", "CREATED"]
    assert lines[1].split()[:2] == [VM_ID[:12], "quiet-fox"] and "512M" in lines[1]
    assert bare.json("vm", "list") == daemon.answers["vm.list"](None)
    jsonl = bare.ok("vm", "list", "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["name"] for line in jsonl] == ["quiet-fox", "second"]
    assert bare.ok("vm", "list", "-q").out.split() == [VM_ID, "f" * 32]
    # Of each page: what the columns need, everything, everything, ids.
    assert [p.get("members", [None])[0] for p in daemon.called("vm.list") if "after" not in p] == \
        ["name", None, None, "created_at"]


def test_listing_goes_on_until_a_page_is_empty(bare, daemon):
    vms = [VM | {"name": f"v{i}", "id": f"{i:032x}"} for i in range(7)]

    def page(params):
        behind = [vm for vm in vms if vm["id"] > params.get("after", {"id": ""})["id"]]
        return behind[:2]  # fewer than were asked for: they did not fit
    daemon.pages = True
    daemon.answers["vm.list"] = page
    assert bare.ok("ps", "-a", "-q").out.split() == [vm["id"] for vm in vms]
    assert len(daemon.called("vm.list")) == 5


def test_ps_shows_running_ones_and_with_a_all(bare, daemon):
    daemon.answers["vm.list"] = lambda params: []
    assert bare.ok("ps").out.split()[0] == "ID"
    assert bare.json("ps", "-a") == []
    assert [p["all"] for p in daemon.called("vm.list")] == [False, True]


def test_table_escapes_guest_text(bare, daemon):
    evil = SESSION | {"command": ["echo", "\x1b[31mred\x07", {"base64": "/w=="}]}
    daemon.answers["session.list"] = lambda params: [evil]
    out = bare.ok("session", "list", "x").stdout
    assert b"\\x1b[31mred\\x07 \\xff" in out and b"\x1b" not in out


def test_show_one_is_an_object_and_several_are_an_array(bare, daemon):
    daemon.answers["vm.show"] = lambda params: VM | {"name": params["vm"]}
    assert bare.json("vm", "show", "a")["name"] == "a"
    assert [v["name"] for v in bare.json("vm", "inspect", "a", "b")] == ["a", "b"]
    text = bare.ok("vm", "show", "a").out
    assert re.search(r"^image\.name +debian$", text, re.M)


def test_stop_goes_on_after_a_failure(bare, daemon):
    def stop(params):
        if params["vm"] == "b":
            raise RpcError("not_found", "no VM 'b'", "see: banger ps -a")
        return VM
    daemon.answers["vm.stop"] = stop
    result = bare.run("stop", "a", "b", "c", "--timeout", "90s", "--force")
    assert result.returncode == 1
    assert result.err == "banger: cannot stop 'b': no VM 'b'\nhint: see: banger ps -a\n"
    assert daemon.called("vm.stop") == [
        {"vm": v, "timeout_ms": 90000, "force": True} for v in "abc"]


def test_several_names_of_a_vm_are_one_call_by_its_id(bare, daemon):
    other = VM | {"id": "1" * 32, "name": "0123"}
    daemon.answers["vm.list"] = lambda params: [] if "after" in params else [VM, other]
    known = {vm["id"]: vm for vm in (VM, other)}

    def show(params):
        if params["vm"] not in known:
            raise RpcError("not_found", "no such VM")
        return known[params["vm"]]
    daemon.answers["vm.show"] = show
    # A name that is the beginning of another's id is that name; one that is of none is the daemon's
    # to explain.
    result = bare.run("vm", "show", "quiet-fox", VM["id"][:8], "0123", "11", "nothing", "nothing",
                      "--format", "jsonl")
    assert [params["vm"] for params in daemon.called("vm.show")] == [*known, "nothing"]
    assert [json.loads(line) for line in result.out.splitlines()] == [VM, other]
    assert result.err == "banger: cannot show 'nothing': no such VM\n"


def test_daemon_that_ends_while_several_are_asked_for_is_told_once(bare, daemon):
    def show(params):
        if params["vm"] == "b":
            raise Gone
        return VM
    daemon.answers["vm.show"] = show
    result = bare.run("vm", "show", "a", "b", "c", "--format", "jsonl")
    assert result.returncode == 1 and len(result.out.splitlines()) == 1
    assert result.err.count("banger: ") == 1 and "cannot show 'b'" in result.err


def test_operation_that_failed_is_the_failure_of_who_waits_for_it(bare, daemon):
    daemon.operation.error = RpcError("guest", "it did not boot", "look").object
    result = bare.run("op", "wait", daemon.operation.id)
    assert result.returncode == 1
    assert result.err == f"banger: cannot finish '{daemon.operation.id}': it did not boot\n" \
        "hint: look\n"
    result = bare.run("op", "wait", daemon.operation.id, "--format", "json")
    assert result.returncode == 1 and json.loads(result.out)["state"] == "failed"


@pytest.mark.parametrize("words", [["rm"], ["vm", "rm"], ["vm", "remove"], ["vm", "delete"]])
def test_delete_has_aliases(bare, daemon, words):
    daemon.answers["vm.delete"] = lambda params: {}
    assert bare.ok(*words, "a", "-f").out == ""
    assert daemon.called("vm.delete") == [{"vm": "a", "force": True}]


def test_logs_are_raw_in_a_pipe_and_escaped_on_a_terminal(bare, daemon):
    text = "line\r\n\x1b[2Jclear\n"
    daemon.answers["vm.logs"] = lambda params: {"text": text, "position": 9, "skipped": 0}
    assert bare.ok("logs", "x").out == text
    child = bare.spawn("logs", "x", tty=("stdout",))
    close_stdin(child)
    shown = child.finish().stdout
    assert b"\x1b" not in shown and b"\\x1b[2Jclear" in shown
    daemon.answers["vm.logs"] = lambda params: {"text": {"base64": "/wA="}, "position": 9,
                                                 "skipped": 0}
    assert bare.ok("logs", "x", "--tail", "1K").stdout == b"\xff\x00"
    assert daemon.called("vm.logs")[-1] == {"vm": "x", "tail_bytes": 1024}


def test_full_device_for_output_is_an_error(bare, daemon):
    daemon.answers["vm.list"] = lambda params: [VM]
    with open("/dev/full", "wb") as full:
        done = subprocess.run([bare.program(), "ps", "--format", "json"], stdout=full,
                              stderr=subprocess.PIPE, env=bare.environment, check=False)
    assert done.returncode == 1 and b"No space left" in done.stderr


# The daemon misbehaves ------------------------------------------------------------------------------

GARBAGE = [b"\x00\xff\xfe\n", b"hello\n", b"[]\n", b"{}\n", b"[" * 100000 + b"\n",
           b"x" * (1 << 20) + b"xx", b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}\n', b"",
           b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"no\\u001b[2J"}}\n']


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_from_the_daemon_is_a_clear_error(bare, data):
    def raw(connection):
        connection.read_request()
        connection.send(data)
        connection.socket.shutdown(socket.SHUT_WR)
    with MockDaemon(bare.socket_path, raw):
        result = bare.run("ps")
        assert result.returncode == 1 and result.err.startswith("banger: "), repr(result)
        assert b"\x1b" not in result.stderr


@pytest.mark.parametrize("reply", [None, 7, "x", [1], [None, "x"], {"a": {}}, [{"id": 7}]])
def test_results_of_wrong_shape_do_not_crash(bare, daemon, reply):
    daemon.checks = False
    for method in ("vm.list", "vm.show", "vm.logs", "session.list", "image.list", "op.list",
                   "template.list", "template.show", "template.verify", "template.create.begin",
                   "daemon.status", "session.start", "vm.create.begin", "op.watch"):
        daemon.answers[method] = lambda params: reply
    for args in (["ps"], ["vm", "show", "x"], ["logs", "x"], ["session", "list", "x"],
                 ["template", "ls"], ["template", "show", "x"], ["template", "verify"],
                 ["template", "create"],
                 ["image", "ls"], ["op", "ls"], ["daemon", "status"], ["exec", "x", "true"],
                 ["run", "--", "true"], ["ps", "-q"], ["run", "x"], ["ps", "--format", "jsonl"]):
        result = bare.run(*args)
        assert result.returncode in (0, 1, 2, 125), repr(result)


def test_debug_names_the_operation_and_never_parameters(bare, daemon):
    def begin(_):
        raise RpcError("limit", "too many VMs", op="0badcafe")
    daemon.answers["vm.create.begin"] = begin
    result = bare.run("run", "--debug", "--env", "TOKEN=hunter2", "--", "true")
    assert result.returncode == 125 and "operation 0badcafe" in result.err
    assert "vm.create.begin" in result.err and "hunter2" not in result.err


def test_socket_of_somebody_else_is_refused(bare, daemon):
    if os.geteuid() != 0:
        pytest.skip("needs root to be another user")
    os.chmod(bare.root, 0o777)
    os.chmod(bare.runtime_dir, 0o777)
    os.chmod(bare.socket_path, 0o777)
    # Root's daemon serves everybody, so the listener here must be neither root's nor ours.
    code = (f"import os, socket; os.setuid(12345); s = socket.socket(socket.AF_UNIX);"
            f"s.bind({str(bare.root / 'other.sock')!r}); s.listen(); print('up', flush=True);"
            f"s.accept()")
    with subprocess.Popen(["/usr/bin/python3", "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"up\n"
        result = bare.run("--socket", str(bare.root / "other.sock"), "ps")
        other.kill()
    assert result.returncode == 1 and "socket of user 12345" in result.err, repr(result)


def test_socket_flag_may_be_relative_and_longer_than_an_address(bare):
    deep = bare.root / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    short = bare.root / "sock"
    with MockDaemon(short) as mock:
        os.rename(short, deep / "banger.sock")
        mock.path = deep / "banger.sock"
        mock.answers["vm.list"] = lambda params: []
        bare.ok("ps", "--socket", "banger.sock", cwd=deep)
        bare.ok("--socket=" + str(deep / "banger.sock"), "ps")


# run and exec ---------------------------------------------------------------------------------------

def test_run_sends_what_was_asked_for(bare, daemon):
    daemon.session = lambda s: s.exit(0)
    bare.ok("run", "--rm", "--name", "n1", "--image", "i", "--kernel=k", "--vcpus", "2", "-m", "1G",
            "--disk", "100M", "--label", "a=b=c", "--label", "d=", "-eX=1", "--env", "Y=2 3",
            "-w", "/tmp", "-u", "nobody", "--", "sh", "-c", "echo $X", "--", "-x", "")
    assert daemon.called("vm.create.begin") == [{
        "name": "n1", "image": "i", "kernel": "k", "vcpus": 2, "memory_mib": 1024,
        "disk_bytes": 100 << 20, "labels": {"a": "b=c", "d": ""}, "auto_remove": True, "hold": True,
        "main": {"command": ["sh", "-c", "echo $X", "--", "-x", ""], "env": ["X=1", "Y=2 3"],
                 "cwd": "/tmp", "user": "nobody", "stdin": "pipe"}}]
    assert daemon.called("vm.wait") == [{"vm": VM_ID, "until": "deleted", "timeout_ms": 10000}]
    assert daemon.called("session.attach") == [{"vm": VM_ID, "session": SESSION["id"]}]


def test_arguments_are_any_bytes(bare, daemon):
    daemon.session = lambda s: s.exit(0)
    bare.ok("exec", "x", b"\xff\xfe", b"a\nb", "-q", "--", "--rm")
    assert daemon.called("session.start")[0]["command"] == \
        [{"base64": "//4="}, "a\nb", "-q", "--", "--rm"]


@pytest.mark.parametrize("status, killed, expected",
                         [(0, False, 0), (1, False, 1), (255, False, 255), (9, True, 137)])
def test_exit_status_is_the_commands(bare, daemon, status, killed, expected):
    daemon.session = lambda s: s.exit(status, killed)
    assert bare.run("exec", "x", "--", "true").returncode == expected
    assert bare.run("run", "--", "true").returncode == expected


@pytest.mark.parametrize("status, expected", [(126, 126), (127, 127), (125, 125), (0, 125)])
def test_command_that_cannot_start(bare, daemon, status, expected):
    daemon.session = lambda s: s.fail(status, "nosuch: not found\x1b[2J")
    result = bare.run("exec", "x", "nosuch")
    assert result.returncode == expected
    assert result.err.splitlines()[0] == "banger: nosuch: not found\\x1b[2J"
    assert ("hint: " in result.err) == (status in (126, 127))


def test_error_of_the_daemon_is_125(bare, daemon):
    def start(_):
        raise RpcError("not_running", "VM 'x' is stopped", "banger start x")
    daemon.answers["session.start"] = start
    result = bare.run("exec", "x", "true")
    assert result.returncode == 125
    assert result.err == "banger: VM 'x' is stopped\nhint: banger start x\n"


def test_operation_that_fails_is_125_with_its_reason(bare, daemon):
    error = {"code": -32012, "message": "the guest did not boot\nlast: \x1b[2Jpanic",
             "data": {"code": "vmm", "hint": "banger logs", "op": None, "object": None}}
    daemon.operation = Operation(None, error=error)
    result = bare.run("run", "-q", "--", "true")
    assert result.returncode == 125
    assert result.err == "banger: the guest did not boot\n  last: \\x1b[2Jpanic\nhint: banger logs\n"


def test_progress_is_plain_lines_without_a_terminal(bare, daemon):
    daemon.operation = Operation({"vm": VM, "session": SESSION}, stages=("disk", "boot"),
                                 note="trying once more")
    daemon.session = lambda s: s.exit(0)
    lines = bare.ok("run", "--", "true").err.splitlines()
    assert lines[:3] == ["banger: disk...", "banger: trying once more", "banger: boot..."]
    assert re.fullmatch(r"banger: created quiet-fox in \d+\.\d s", lines[3]) and len(lines) == 4
    assert bare.ok("run", "-q", "--", "true").err == ""


def test_progress_on_a_terminal_leaves_no_trace_with_rm(bare, daemon):
    daemon.session = lambda s: s.exit(0)
    child = bare.spawn("run", "--rm", "--", "true", tty=("stderr",))
    close_stdin(child)
    assert re.fullmatch(rb"\r\x1b\[K(banger: boot \d\.\d s\r\x1b\[K)+", child.finish().stderr)


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}])
def test_progress_on_a_plain_terminal_is_lines(bare, daemon, env):
    daemon.session = lambda s: s.exit(0)
    child = bare.spawn("run", "--", "true", tty=("stderr",), env=env)
    close_stdin(child)
    shown = child.finish().stderr
    assert b"banger: boot...\r\n" in shown and b"\x1b" not in shown


def test_run_on_a_terminal_says_that_the_vm_stays(bare, daemon):
    daemon.session = lambda s: s.exit(0)
    child = bare.spawn("run", "--", "true", tty=("stderr",))
    close_stdin(child)
    assert b"VM 'quiet-fox' is still running" in child.finish().stderr
    assert "still running" not in bare.ok("run", "--", "true").err


def test_detach_prints_the_name(bare, daemon):
    assert bare.ok("run", "-d", "--", "sleep", "9").out == "quiet-fox\n"
    request = daemon.called("vm.create.begin")[0]
    assert "hold" not in request and request["main"]["stdin"] == "closed"
    result = bare.ok("run", "-d", "--format=json", "--", "sleep", "9")
    assert json.loads(result.out)["id"] == VM_ID
    failed = SESSION | {"state": "failed", "exit": {"code": 127, "signal": None},
                        "error": "sleep: not found"}
    daemon.operation.result = {"vm": VM, "session": failed}
    result = bare.run("run", "-d", "--", "sleep", "9")
    assert result.returncode == 127 and "banger: sleep: not found\n" in result.err


def test_image_as_first_argument_is_explained(bare, daemon):
    daemon.answers["image.list"] = lambda params: [IMAGE]
    result = bare.run("run", "debian", "bash")
    assert result.returncode == 2
    assert result.err.splitlines()[0] == "banger: debian is an image: use --image debian"
    result = bare.run("run", "bash")
    assert "unexpected argument 'bash': put the command after --" in result.err
    result = bare.run("run", ".")
    assert result.returncode == 2 and "not supported yet" in result.err
    assert bare.run("run", "./src", "--", "make").returncode == 2


def test_vm_create_prints_the_name_and_may_not_start(bare, daemon):
    daemon.operation = Operation({"vm": VM, "session": None})
    assert bare.ok("vm", "create", "--no-start", "-q").out == "quiet-fox\n"
    assert daemon.called("vm.create.begin") == [{"start": False}]


def test_register_sends_an_absolute_path(bare, daemon):
    daemon.operation = Operation(IMAGE)
    (bare.root / "h" / "root.tar").write_bytes(b"")
    assert bare.ok("image", "register", "debian", "root.tar").out == IMAGE["id"] + "\n"
    assert daemon.called("image.register.begin") == [
        {"name": "debian", "path": str(bare.root / "h" / "root.tar")}]
    result = bare.run("image", "register", "debian", "nothing.tar")
    assert result.returncode == 1 and "cannot find 'nothing.tar'" in result.err


# Bytes ----------------------------------------------------------------------------------------------

def test_streams_are_byte_exact(bare, daemon):
    data = os.urandom(3_000_000)

    def echo(s):
        stdin = s.read_stdin()
        s.output(STDERR, b"\x00err\xff")
        s.output(STDOUT, stdin)
        s.exit(7)
        # Windows are not sent for every frame.
        assert s.windows < 2 * len(data) // (64 * 1024) + 10, s.windows
    daemon.session = echo
    result = bare.run("exec", "x", "--", "cat", stdin=data)
    assert result.returncode == 7
    assert result.stdout == data and result.stderr == b"\x00err\xff"


def test_output_and_input_flow_at_the_same_time(bare, daemon):
    data = os.urandom(1_000_000)

    def cat(s):
        done = 0
        while not s.stdin_ended or done < len(s.stdin):
            if done < len(s.stdin):
                piece = s.stdin[done:]
                done = len(s.stdin)
                s.output(STDOUT, piece)
            else:
                s.step()
        s.exit(0)
    daemon.session = cat
    assert bare.ok("run", "-q", "--", "cat", stdin=data).stdout == data


def test_stdin_may_be_a_file_and_output_one_too(bare, daemon):
    data = os.urandom(500_000)
    (bare.root / "in").write_bytes(data)

    def echo(s):
        s.output(STDOUT, s.read_stdin())
        s.exit(0)
    daemon.session = echo
    with open(bare.root / "in", "rb") as source, open(bare.root / "out", "wb") as out:
        subprocess.run([bare.program(), "exec", "x", "cat"], stdin=source, stdout=out, check=True,
                       env=bare.environment, timeout=60)
    assert (bare.root / "out").read_bytes() == data


@pytest.mark.parametrize("kind, expected", [("null", "closed"), ("closed", "closed"),
                                            ("pipe", "pipe"), ("socket", "pipe")])
def test_which_stdin_is_forwarded(bare, daemon, kind, expected):
    daemon.session = lambda s: s.exit(0)
    args = {"stdin": subprocess.DEVNULL}
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            args["stdin"] = subprocess.PIPE
        elif kind == "socket":
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            args["stdin"] = stack.enter_context(theirs)
        elif kind == "closed":
            args = {"preexec_fn": lambda: os.close(0)}
        done = subprocess.run([bare.program(), "exec", "x", "true"], env=bare.environment,
                              timeout=60, check=False, **args)
    assert done.returncode == 0
    assert daemon.called("session.start")[0]["stdin"] == expected


def test_terminal_as_stdin_is_forwarded_with_i_alone(bare, daemon):
    daemon.session = lambda s: s.exit(0)
    assert bare.spawn("exec", "x", "true", tty=("stdin",)).finish().returncode == 0
    assert bare.spawn("exec", "-i", "x", "true", tty=("stdin",)).finish().returncode == 0
    assert [c["stdin"] for c in daemon.called("session.start")] == ["closed", "pipe"]


def test_stdin_stops_at_the_window(bare, daemon):
    def refuse(s):
        # Nothing beyond the first window may come; stdin of the client is endless.
        while len(s.stdin) < s.stdin_window:
            s.step()
        s.exit(0)
    daemon.session = refuse
    with open("/dev/zero", "rb") as zero:
        done = subprocess.run([bare.program(), "exec", "x", "true"], stdin=zero, timeout=60,
                              env=bare.environment, check=False)
    assert done.returncode == 0


def test_reader_that_goes_away_is_sigpipe_for_the_command(bare, daemon):
    def yes(s):
        while signal.SIGPIPE not in s.signals:
            s.output(STDOUT, b"y\n" * 1000)
            if s.limit[STDOUT] == s.sent[STDOUT]:
                s.step()
        s.exit(signal.SIGPIPE, killed=True)
    daemon.session = yes
    child = bare.spawn("exec", "x", "yes")
    child.read_until(b"y\ny\n")
    child.process.stdout.close()
    child.sources.clear()
    assert child.finish().returncode == 128 + signal.SIGPIPE


def test_full_device_is_an_error_for_the_command(bare, daemon):
    def chatter(s):
        s.output(STDOUT, b"x" * 1000)
        s.await_signal(signal.SIGPIPE)
        s.exit(0)
    daemon.session = chatter
    with open("/dev/full", "wb") as full:
        done = subprocess.run([bare.program(), "exec", "x", "true"], stdout=full,
                              stderr=subprocess.PIPE, env=bare.environment, timeout=60, check=False)
    assert done.returncode == 125 and b"No space left" in done.stderr


def test_slow_reader_holds_up_nothing_but_its_stream(bare, daemon):
    """Both outputs in one pipe that nobody reads: signals still get through."""
    def chatter(s):
        for _ in range(4):
            s.output(STDOUT, b"o" * 40000)
            s.output(STDERR, b"e" * 40000)
        s.await_signal(signal.SIGTERM)
        s.exit(signal.SIGTERM, killed=True)
    daemon.session = chatter
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([bare.program(), "exec", "x", "true"], stdin=subprocess.DEVNULL,
                               stdout=writer, stderr=writer, env=bare.environment)
    os.close(writer)
    time_limit = time.monotonic() + 30
    while struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"\0" * 4))[0] < 4096:
        assert time.monotonic() < time_limit
        os.sched_yield()
    process.send_signal(signal.SIGTERM)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert sorted(data) == [ord("e")] * 160000 + [ord("o")] * 160000


def two_lives(daemon, first, second):
    """Attached twice: the first connection breaks after its part, as when a daemon ends."""
    lives = [first, second]

    def life(s):
        part = lives.pop(0)
        part(s)
        if part is first:
            s.connection.socket.shutdown(socket.SHUT_RDWR)
    daemon.session = life
    daemon.answers["session.hold"] = lambda params: SESSION


def test_broken_connection_is_taken_up_where_both_sides_are(bare, daemon):
    def first(s):
        s.give_window = lambda: None  # nothing of stdin is acknowledged
        s.output(STDOUT, b"half")
        s.end()
        while s.stdin != b"input":
            s.step()

    def second(s):
        s.sent[STDOUT] = 4
        while s.windows < 2:
            s.step()
        assert s.acked == {STDOUT: 4, STDERR: 0}
        assert s.read_stdin() == b"input"
        s.output(STDOUT, b" and half")
        s.exit(4)
    two_lives(daemon, first, second)
    result = bare.run("exec", "x", "-i", "--", "cat", stdin=b"input")
    assert (result.returncode, result.out) == (4, "half and half")
    assert result.err == "banger: the daemon ended; going on with the new one\n"
    assert daemon.called("session.hold") == [{"vm": "x", "session": SESSION["id"]}]
    assert len(daemon.called("session.start")) == 1


def test_stdin_that_goes_on_elsewhere_is_125(bare, daemon):
    def first(s):
        while s.stdin != b"input":
            s.step()
        s.output(STDOUT, b"x" * 100_000)  # so that the acknowledgement was read

    def second(s):
        s.sent[STDOUT] = 100_000
        s.read_stdin()
    two_lives(daemon, first, second)
    result = bare.run("exec", "--quiet", "-i", "x", "--", "cat", stdin=b"input")
    assert result.returncode == 125 and "elsewhere in stdin" in result.err, result


def test_daemon_that_dies_in_the_middle_is_125(bare, daemon):
    def die(s):
        s.output(STDOUT, b"half")
        s.connection.socket.shutdown(socket.SHUT_RDWR)
    daemon.session = die
    result = bare.run("exec", "x", "true")
    assert result.returncode == 125 and result.stdout == b"half"
    assert "the daemon closed the connection before the command ended" in result.err


@pytest.mark.parametrize("frame", [
    b"\x00" * 20, b"not a frame at all.........",
    frames.Frame(frames.DATA, channel=STDOUT, offset=5, payload=b"x").encode(),
    frames.Frame(frames.DATA, stream=1, channel=STDOUT, payload=b"x").encode(),
    frames.Frame(frames.DATA, channel=0, payload=b"x").encode(),
    frames.Frame(frames.END, channel=STDOUT, offset=9).encode(),
    frames.Frame(frames.EXITED, payload=b"\x02").encode(),
    frames.Frame(frames.EXITED, payload=b"\x00\x00\x01\x00\x00").encode(),
    frames.Frame(frames.FAILED, payload=b"\x00").encode(),
    frames.Frame(frames.WINDOW, channel=0, offset=99, payload=struct.pack("<Q", 100)).encode(),
    frames.Frame(frames.WINDOW, channel=1, payload=struct.pack("<Q", 100)).encode(),
    frames.Frame(99).encode(),
])
def test_frames_that_break_the_protocol_are_125(bare, daemon, frame):
    def broken(s):
        s.connection.send(frame)
        while True:
            s.step()
    daemon.session = broken
    result = bare.run("exec", "x", "true")
    assert result.returncode == 125 and "the daemon broke the protocol" in result.err, repr(result)


def test_data_beyond_the_window_is_refused(bare, daemon):
    def flood(s):
        offset = 0
        while True:
            s.put(frames.Frame(frames.DATA, channel=STDOUT, offset=offset, payload=b"x" * 16000))
            offset += 16000
    daemon.session = flood
    reader, writer = os.pipe()
    process = subprocess.Popen([bare.program(), "exec", "x", "true"], stdin=subprocess.DEVNULL,
                               stdout=writer, stderr=subprocess.PIPE, env=bare.environment)
    os.close(writer)
    # It says so only once what came before is written: somebody has to read that.
    with open(reader, "rb") as pipe:
        assert set(pipe.read()) == {ord("x")}
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 125 and b"more data than was asked for" in stderr


def test_output_is_acknowledged_when_no_more_comes(bare, daemon):
    def wait(s):
        # All that an agent holds that is short of memory: it waits now.
        s.output(STDOUT, bytes(64 * 1024))
        while s.acked[STDOUT] < 64 * 1024:
            s.step()
        s.exit(0)
    daemon.session = wait
    result = bare.run("exec", "x", "true")
    assert result.returncode == 0 and len(result.stdout) == 64 * 1024, result.err


def test_fatal_from_the_daemon_tells_why(bare, daemon):
    daemon.session = lambda s: s.put(frames.Frame(frames.FATAL, payload=b"another client came"))
    result = bare.run("exec", "x", "true")
    assert result.returncode == 125 and "another client came" in result.err


# Signals --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_go_to_the_command(bare, daemon, number):
    def wait(s):
        s.output(STDOUT, b"ready\n")
        s.await_signal(number)
        s.output(STDOUT, b"bye\n")
        s.exit(3)
    daemon.session = wait
    child = bare.spawn("exec", "x", "sleep", "9")
    child.read_until(b"ready")
    child.signal(number)
    result = child.finish()
    assert result.returncode == 3 and result.stdout == b"ready\nbye\n"


def test_second_interrupt_leaves_a_deaf_command(bare, daemon):
    def deaf(s):
        s.output(STDOUT, b"ready\n")
        s.await_signal(signal.SIGINT)
        s.output(STDOUT, b"once\n")
        while True:
            s.step()
    daemon.session = deaf
    child = bare.spawn("run", "--", "sleep", "9")
    child.read_until(b"ready")
    child.signal(signal.SIGINT)
    child.read_until(b"once")
    child.signal(signal.SIGINT)
    assert child.finish().returncode == 130


@pytest.mark.parametrize("state", ["cancelled", "failed"])
def test_interrupt_while_creating_cancels_and_waits(bare, daemon, state):
    daemon.operation.waits_for_cancel = True
    daemon.operation.cancelled_state = state
    child = bare.spawn("run", "--", "true")
    daemon.operation.watched.get(timeout=30)
    child.signal(signal.SIGINT)
    result = child.finish()
    assert result.returncode == 130 and result.err.endswith("banger: cancelled\n"), repr(result)
    assert daemon.called("op.cancel") == [{"op": daemon.operation.id}]


def test_second_interrupt_while_creating_leaves_at_once(bare, daemon):
    daemon.operation.outlives_cancel = True
    child = bare.spawn("run", "--", "true")
    daemon.operation.watched.get(timeout=30)
    child.signal(signal.SIGINT)
    child.read_until(b"cancelling", stream="stderr")
    child.signal(signal.SIGINT)
    assert child.finish().returncode == 130


def test_timeout_cancels_the_creation(bare, daemon):
    daemon.operation.waits_for_cancel = True
    result = bare.run("run", "--timeout", "100ms", "--", "true")
    assert result.returncode == 125 and "not done within 0.1 s" in result.err, repr(result)
    assert daemon.operation.cancelled.is_set()


def test_ignored_signals_stay_ignored(bare, daemon):
    """nohup banger run ... survives the end of its terminal."""
    def wait(s):
        s.output(STDOUT, b"ready\n")
        s.await_signal(signal.SIGTERM)
        assert s.signals == [signal.SIGTERM]
        s.exit(0)
    daemon.session = wait
    process = subprocess.Popen(
        [bare.program(), "exec", "x", "true"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        env=bare.environment, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    process.stdout.close()
