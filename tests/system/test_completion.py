"""Completion: what is offered where, and that bash, zsh and fish show it."""

import json
import os
import re
import shutil
import socket
import subprocess

import mock_daemon
import pytest
from banger import Child
from mock_daemon import SESSION, VM, VM_ID, MockDaemon, Operation

OTHER = VM | {"id": "f" * 32, "name": "second", "state": "stopped"}
IMAGE = mock_daemon.IMAGE | {"names": ["debian", "evil name", "a;b", "\x1b[2J", "deb:12"]}
KERNEL = mock_daemon.KERNEL | {"names": ["debian-cloud"]}
OP = Operation({"vm": VM, "session": SESSION}).show("done")
EVIL = SESSION | {"command": ["sh", "-c", "\x1b[31m\n:files"]}


@pytest.fixture
def daemon(bare):
    with MockDaemon(bare.socket_path) as mock:
        mock.answers |= {"vm.list": lambda params: [VM, OTHER], "image.list": lambda params: [IMAGE],
                         "kernel.list": lambda params: [KERNEL], "op.list": lambda params: [OP],
                         "session.list": lambda params: [EVIL],
                         "template.list": lambda params: [mock_daemon.TEMPLATE]}
        yield mock


def offers(banger, *words, **kwargs):
    """The candidates for the last of the words, and the directives."""
    out = banger.ok("internal", "complete", "--", *words, **kwargs).out
    return [line.split("\t")[0] for line in out.splitlines()]


# What is offered ------------------------------------------------------------------------------------

@pytest.mark.parametrize("line, expected", [
    ("vers", ["version"]),
    ("s", ["start", "stats", "stop", "session"]),
    ("vm st", ["start", "stats", "stop"]),
    ("vm rem", ["remove"]),
    ("--debug vm lo", ["logs"]),
    ("--format j", ["json", "jsonl"]),
    ("--format=t", ["--format=table"]),
    ("ps --format json --a", ["--all"]),
    ("run --vmm ", ["auto", "qemu", "firecracker", "fake"]),
    ("run --vmm=q", ["--vmm=qemu"]),
    ("run -iq --vm", ["--vmm"]),
    ("run --image ", ["debian", "deb:12"]),
    ("run --image=deb", ["--image=debian", "--image=deb:12"]),
    ("run --kernel d", ["debian-cloud"]),
    ("run --workdir ", []),
    ("run -m ", []),
    ("run -m 1G --im", ["--image"]),
    ("run -m1G --im", ["--image"]),
    ("run -- l", []),
    ("run -- --im", []),
    ("exec ", ["quiet-fox", "second"]),
    ("exec --env A=B s", ["second"]),
    ("exec second l", []),
    ("exec second -- l", []),
    ("exec second -", ["--interactive", "--env", "--workdir", "--user", "--tty", "--format",
                       "--quiet", "--debug", "--socket", "--help"]),
    ("exec second ls -", []),
    ("rm -f quiet-fox ", ["second"]),
    ("cp ", [":nospace", ":files", "quiet-fox:", "second:"]),
    ("cp -r quiet-fox:/etc ./a s", [":nospace", ":files", "second:"]),
    ("cp quiet-fox:/e", [":nospace", ":files"]),
    ("vm remove --force=", []),
    ("vm show " + VM_ID[:4], [VM_ID[:12]]),
    ("vm show x", []),
    ("vm list ", []),
    ("logs --source ", ["agent", "console", "vmm"]),
    ("logs second ", []),
    ("image register name ", [":files"]),
    ("image register ", []),
    ("kernel import name ", [":dirs"]),
    ("--socket ", [":files"]),
    ("--socket=", [":files"]),
    ("session wait second ", [SESSION["id"][:12]]),
    ("session wait second x", []),
    ("op show ", [OP["id"][:12]]),
    ("template show ", ["a1b2c3d4e5f6"]),
    ("template rm a1b2c3d4e5f6 ", []),
    ("template verify a1", ["a1b2c3d4e5f6"]),
    ("template verify b", []),
    ("template verify a1b2c3d4e5f6 ", []),
    ("template ", ["create", "delete", "list", "pool", "prune", "show", "verify"]),
    ("template create --image ", ["debian", "deb:12"]),
    ("completion ", ["bash", "zsh", "fish"]),
    ("help im", ["image"]),
    ("help vm sh", ["show"]),
    ("help vm list ", []),
    ("internal ", []),
    ("inter", []),
    ("nonsense ", []),
    ("vm nonsense ", []),
    ("ps --nonsense --a", ["--all"]),
])
def test_what_is_offered(bare, daemon, line, expected):
    found = offers(bare, *line.split(" "))
    if "--tty" not in found and "--tty" in expected:
        expected.remove("--tty")
    assert sorted(found) == sorted(expected)


def test_everything_that_is_offered_is_accepted(bare, daemon):
    """Each command of the table can be found by completion alone, and each of its flags."""
    for command in bare.json("help")["commands"]:
        if command["hidden"]:
            continue
        words = command["path"].split()
        for i, word in enumerate(words):
            assert word in offers(bare, *words[:i], ""), command["path"]
        flags = offers(bare, *words, "--")
        assert set(flags) == {"--" + f["name"] for f in command["flags"]} | \
            {"--format", "--quiet", "--debug", "--socket", "--help"}


def test_candidates_say_what_they_are(bare, daemon):
    out = bare.ok("internal", "complete", "--", "vm", "show", "").out
    assert out == "quiet-fox\trunning\nsecond\tstopped\n"
    out = bare.ok("internal", "complete", "--", "vm", "sh").out
    assert out == "show\tShow VMs.\n"
    out = bare.ok("internal", "complete", "--", "template", "show", "").out
    assert out == "a1b2c3d4e5f6\tdebian, 512M\n"


def test_text_of_guests_is_escaped(bare, daemon):
    out = bare.ok("internal", "complete", "--", "session", "wait", "second", "").stdout
    assert out.count(b"\n") == 1 and b"\x1b" not in out and b"\\x1b[31m\\n:files" in out


def test_no_daemon_is_started_and_nothing_said(bare):
    result = bare.run("internal", "complete", "--", "vm", "show", "")
    assert (result.returncode, result.out, result.err) == (0, "", "")
    assert not bare.socket_path.exists() and not bare.state_dir.exists()
    assert offers(bare, "vm", "sho") == ["show"]


def test_daemon_that_does_not_answer_holds_nobody_up(bare):
    bare.runtime_dir.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bare.socket_path))
        os.chmod(bare.socket_path, 0o600)
        listener.listen(8)
        # Its own limit ends it, long before that of a call.
        result = bare.run("internal", "complete", "--", "vm", "show", "", timeout=20)
        assert (result.returncode, result.out, result.err) == (0, "", "")


@pytest.mark.parametrize("reply", [None, 7, [7], [{"name": 7}], {"a": 1}, [{"names": {"x": 1}}]])
def test_nonsense_from_the_daemon_is_nothing(bare, daemon, reply):
    daemon.checks = False
    for method in list(daemon.answers):
        daemon.answers[method] = lambda params: reply
    for words in (["vm", "show", ""], ["run", "--image", ""], ["op", "show", ""],
                  ["template", "show", ""], ["session", "wait", "a", ""]):
        result = bare.run("internal", "complete", "--", *words)
        assert (result.returncode, result.out, result.err) == (0, "", "")


def test_socket_on_the_line_is_the_one_that_is_asked(bare, daemon):
    moved = bare.root / "elsewhere"
    bare.socket_path.rename(moved)
    daemon.path = moved
    assert offers(bare, "vm", "show", "") == []
    assert offers(bare, "--socket", str(moved), "vm", "show", "se") == ["second"]
    assert offers(bare, f"--socket={moved}", "vm", "show", "se") == ["second"]


# The shells -----------------------------------------------------------------------------------------

LINES = [
    ("banger vers", "banger version "),
    ("banger vm sho", "banger vm show "),
    ("banger vm show qu", "banger vm show quiet-fox "),
    ("banger --format=tab", "banger --format=table "),
    ("banger run --image=debi", "banger run --image=debian "),
    ("banger run --image deb:", "banger run --image deb:12 "),
    ("banger run --deta", "banger run --detach "),
    ("banger cp quie", "banger cp quiet-fox:"),
    ("banger cp x some-f", "banger cp x some-file"),
    ("banger image register x ./some-f", "banger image register x ./some-file "),
    ("banger kernel import x ./some-d", "banger kernel import x ./some-dir/"),
]


@pytest.fixture
def shell(bare, daemon):
    """Returns a function that starts a shell on a terminal, with banger in its PATH."""
    programs = bare.root / "bin"
    programs.mkdir()
    (programs / "banger").symlink_to(bare.program())
    (bare.home / "some-file").write_text("")
    (bare.home / "some-dir").mkdir()
    environment = bare.environment | {
        "PATH": f"{programs}:{bare.environment['PATH']}", "INPUTRC": "/dev/null",
        "TERM": "dumb", "LINES": "50", "COLUMNS": "200"}

    def start(*args):
        if not shutil.which(args[0]):
            pytest.fail(f"{args[0]} is not installed: make deps-test")
        child = Child([shutil.which(args[0]), *args[1:]], environment, bare.home,
                      tty=("stdin", "stdout", "stderr"))
        bare.children.append(child)
        return child

    return start


def type_and_complete(child, line, expected):
    """Types a line and a tab, waits for what must appear, and clears the line."""
    child.output["stdout"] = b""
    child.send(line.encode() + b"\t")
    typed = re.escape(expected.encode())
    child.read_until(re.compile(typed), timeout=20)
    child.send(b"\x15")


def test_bash_completes(shell):
    child = shell("bash", "--norc", "--noprofile", "-i")
    child.send(b"PS1='re''ady '; bind 'set enable-bracketed-paste off'; set -u\n")
    child.read_until(b"ready ")
    child.send(b'eval "$(banger completion bash)"; PS1="load""ed "\n')
    child.read_until(b"loaded ")
    for line, expected in LINES:
        type_and_complete(child, line, expected)
    # Several candidates are listed at the second tab.
    child.send(b"banger vm st\t\t")
    child.read_until(re.compile(rb"start +stats +stop"))


def test_zsh_completes(shell):
    child = shell("zsh", "-f", "-i")
    child.send(b"PS1='re''ady '; setopt no_beep; autoload -U compinit; compinit -u -D; unsetopt zle_bracketed_paste;"
               b"source <(banger completion zsh); unset zle_bracketed_paste; PS1='load''ed '\n")
    child.read_until(b"loaded ")
    for line, expected in LINES:
        type_and_complete(child, line, expected)
    child.send(b"banger vm st\t\t")
    child.read_until(re.compile(rb"Start stopped VMs"))


def test_zsh_finds_the_installed_script(shell, bare):
    functions = bare.root / "functions"
    functions.mkdir()
    (functions / "_banger").write_text(bare.ok("completion", "zsh").out)
    child = shell("zsh", "-f", "-i")
    child.send(f"fpath=({functions} $fpath); autoload -U compinit; compinit -u -D;"
               "PS1='load''ed '\n".encode())
    child.read_until(b"loaded ")
    type_and_complete(child, "banger vm sho", "banger vm show ")
    type_and_complete(child, "banger vm show qu", "banger vm show quiet-fox ")


@pytest.mark.parametrize("line, expected", [
    *[(line, expected.rstrip(" ").rpartition(" ")[2]) for line, expected in LINES],
    ("banger vm st", "start\tStart stopped VMs."),
    ("banger vm show ", "second\tstopped"),
    ("banger --socket=./some-f", "--socket=./some-file"),
])
def test_fish_completes(shell, bare, daemon, line, expected):
    environment = bare.environment | {"PATH": f"{bare.root}/bin:{bare.environment['PATH']}"}
    done = subprocess.run(
        ["fish", "--no-config", "-c",
         f"banger completion fish | source; complete -C {json.dumps(line)}"],
        env=environment, cwd=bare.home, capture_output=True, text=True, check=True, timeout=60)
    assert any(candidate == expected or candidate.startswith(expected + "\t")
               for candidate in done.stdout.splitlines()), done


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_scripts_are_valid(bare, name):
    script = bare.root / "script"
    script.write_text(bare.ok("completion", name).out)
    subprocess.run([name, "-n", script], check=True)
