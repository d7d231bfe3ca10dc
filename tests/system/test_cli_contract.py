"""The contract of the command line as one table: commands, other names, flags, what they call, what
they print in each format, and how they end. A command or flag that is not in it fails the test."""

import json
import os
import re

import pytest
from banger import ROOT
from frames import STDOUT
from mock_daemon import (CONFIGURATION, IMAGE, KERNEL, SESSION, STATUS, TEMPLATE, VM, VM_ID, MockDaemon,
                         Operation, RpcError)

# Each command with its operands; other names behind "="; its flags. Flags of every command first.
TABLE = """
* -q/--quiet --debug --socket=PATH -h/--help --format=FORMAT(table|json|jsonl)
run [-- COMMAND...]
    --rm -d/--detach -i/--interactive -t/--tty -e/--env=NAME=VALUE -w/--workdir=DIR -u/--user=USER
    --name=NAME --image=IMAGE --kernel=KERNEL --vmm=VMM(auto|qemu|firecracker|fake)
    --init=INIT(agent|image) --vcpus=N
    -m/--memory=SIZE --disk=SIZE --label=NAME=VALUE --description=TEXT --timeout=TIME
    --restart=POLICY --autostart --auto-stop-after=TIME --expires-after=TIME --cold
    --net=MODE(auto|nat|none)
exec VM [[--] COMMAND...]
    -i/--interactive -t/--tty -e/--env=NAME=VALUE -w/--workdir=DIR -u/--user=USER
cp SRC... DST
    -r/--recursive -a/--archive -u/--user=USER
forward VM FORWARD...
ps
    -a/--all --filter=KEY=PATTERN --sort=KEY --reverse
vm list = vm ls
    --filter=KEY=PATTERN --sort=KEY --reverse
vm show VM... = vm inspect
vm create
    --name=NAME --image=IMAGE --kernel=KERNEL --vmm=VMM(auto|qemu|firecracker|fake)
    --init=INIT(agent|image) --vcpus=N
    -m/--memory=SIZE --disk=SIZE --label=NAME=VALUE --description=TEXT --timeout=TIME
    --restart=POLICY --autostart --auto-stop-after=TIME --expires-after=TIME --no-start --rm
    --cold --net=MODE(auto|nat|none)
vm start VM... = start
vm stop VM... = stop
    -f/--force --timeout=TIME
vm restart VM... = restart
    -f/--force --timeout=TIME
vm kill VM... = kill
    -s/--signal=SIGNAL
vm pause VM... = pause
vm resume VM... = resume
vm wait VM... = wait
    --until=STATE(running|stopped|deleted) --timeout=TIME
vm set VM... = vm update
    --name=NAME --description=TEXT --label=NAME=VALUE --unlabel=NAME --vcpus=N -m/--memory=SIZE
    --disk=SIZE --restart=POLICY --autostart=yes|no(yes|no) --auto-stop-after=TIME
    --expires-after=TIME --net=MODE(nat|none) --dry-run
vm prune = prune
    --stopped-for=TIME --dry-run
vm touch VM... = touch
vm timeline VM
vm rename VM NAME
vm delete VM... = rm, vm rm, vm remove
    -f/--force
vm stats [VM...] = stats
    --watch --interval=TIME --timeout=TIME
vm top VM = top
    --timeout=TIME
vm ports VM
    --timeout=TIME
vm logs VM = logs
    -f/--follow --console --vmm --agent --source=SOURCE(console|vmm|agent) --tail=SIZE
image list = image ls
    --filter=KEY=PATTERN --sort=KEY --reverse
image register NAME PATH
kernel list = kernel ls
    --filter=KEY=PATTERN --sort=KEY --reverse
kernel import NAME DIRECTORY
template list = template ls
    --filter=KEY=PATTERN --sort=KEY --reverse
template show TEMPLATE... = template inspect
template create
    --image=IMAGE --kernel=KERNEL --vmm=VMM(auto|qemu|firecracker|fake) --init=INIT(agent|image)
    --vcpus=N -m/--memory=SIZE --disk=SIZE
template delete TEMPLATE... = template rm, template remove
template pool TEMPLATE...
    --size=N
template verify [TEMPLATE]
template prune
    --unused-for=TIME --keep-storage=SIZE --dry-run
session list VM = session ls
    --filter=KEY=PATTERN --sort=KEY --reverse
session wait VM SESSION
    --timeout=TIME
events
    --since=N --filter=KEY=PATTERN -f/--follow
op list = op ls
    --filter=KEY=PATTERN --sort=KEY --reverse
op show OP... = op inspect
op wait OP...
op cancel OP...
config show = config inspect
config list = config ls
daemon status
daemon stop
daemon reconcile
    --dry-run
daemon verify-store
doctor [CHECK...]
    -v/--verbose
debug-bundle [FILE]
version
help [COMMAND...]
completion bash|zsh|fish
internal complete [-- WORD...]
internal man
internal config
internal protocol
"""

OP_ID = "00112233445566778899aabbccddeeff"
ENDED = SESSION | {"state": "exited", "exit": {"code": 5, "signal": None}}
OP = Operation({"vm": VM, "session": SESSION}).show("done")
MADE = OP | {"kind": "template.create", "target": "debian", "result": TEMPLATE}

STATS = {"id": VM["id"], "name": "quiet-fox", "interval_ms": 500, "cpu_permille": 12, "cpu_ms": 900,
         "rss_bytes": 1 << 20, "pss_bytes": None, "pss_why": "no", "disk": None, "net": None,
         "guest": None, "guest_why": "silent"}
TOP = {"processes": [{"pid": 1, "ppid": 0, "user": "root", "state": "S", "cpu_permille": 1,
                      "cpu_ms": 5, "age_ms": 900, "rss_bytes": 4096, "command": "init"}], "more": 0}
PORTS = {"listeners": [{"protocol": "tcp", "address": "::", "port": 22, "pid": 7, "user": "root",
                        "command": "sshd"},
                       {"protocol": "udp", "address": "127.0.0.1", "port": 53, "pid": None,
                        "user": "101", "command": None}], "more": 2}
START = {"incarnation": 3, "started_at": VM["created_at"], "accel": "tcg", "ms": 12,
         "timeline": [{"phase": "boot", "ms": 12}]}
PRUNED = {"id": VM["id"], "name": "quiet-fox", "state": "stopped", "state_since": VM["created_at"],
          "bytes": 4096, "error": None}
CHECK = {"id": TEMPLATE["id"], "image": "debian", "problem": None}
LOG = {"text": "said\n", "position": 5, "skipped": 0}
SET = {"vm": VM, "changes": [{"field": "name", "from": "a", "to": "b", "applies": "live",
                              "note": "said\x1b"}]}

# Words; the method they call with which params and what it answers; what they print: a "listing",
# "rows" of one object, "one" object or "each" (one object, or an array for several operands), "silence" (an object for
# programs), "lines" of what is changed, the "name", "digest" or "id" of what was made, the bytes of a
# "log", or "text" of our own.
PAGE = {"limit": 200, "members": ["name", "state", "reason", "image.name", "vcpus", "memory_mib",
                                   "created_at"]}
CALLS = [
    ("ps", "vm.list", PAGE | {"all": False}, [VM], "listing"),
    ("ps -a", "vm.list", PAGE | {"all": True}, [VM], "listing"),
    ("vm list", "vm.list", PAGE | {"all": True}, [VM], "listing"),
    ("vm show a", "vm.show", {"vm": "a"}, VM, "each"),
    ("vm create", "vm.create.begin", {}, OP, "name"),
    ("vm create --no-start --rm --name n", "vm.create.begin",
     {"start": False, "auto_remove": True, "name": "n"}, OP, "name"),
    ("vm create --restart always --autostart --auto-stop-after 2h --expires-after 7d", "vm.create.begin",
     {"restart": "always", "autostart": True, "auto_stop_after_ms": 7200000,
      "expires_after_ms": 604800000}, OP, "name"),
    ("run -d -- true", "vm.create.begin",
     {"main": {"command": ["true"], "stdin": "closed"}}, OP, "name"),
    ("vm create --cold --net nat", "vm.create.begin", {"cold": True, "net": "nat"}, OP, "name"),
    ("run -d --cold -- true", "vm.create.begin",
     {"cold": True, "main": {"command": ["true"], "stdin": "closed"}}, OP, "name"),
    ("vm start a", "vm.start", {"vm": "a"}, VM, "silence"),
    ("vm stop a", "vm.stop", {"vm": "a"}, VM, "silence"),
    ("vm stop -f --timeout 2m a", "vm.stop", {"vm": "a", "force": True, "timeout_ms": 120000}, VM,
     "silence"),
    ("vm restart a", "vm.restart", {"vm": "a"}, VM, "silence"),
    ("vm restart -f --timeout 2m a", "vm.restart",
     {"vm": "a", "force": True, "timeout_ms": 120000}, VM, "silence"),
    ("vm kill a", "vm.kill", {"vm": "a"}, VM, "silence"),
    ("vm kill -s TERM a", "vm.kill", {"vm": "a", "signal": "TERM"}, None, "silence"),
    ("vm pause a", "vm.pause", {"vm": "a"}, VM, "silence"),
    ("vm resume a", "vm.resume", {"vm": "a"}, VM, "silence"),
    ("vm wait a", "vm.wait", {"vm": "a"}, {}, "silence"),
    ("vm wait --until running --timeout 5s a", "vm.wait",
     {"vm": "a", "until": "running", "timeout_ms": 5000}, {}, "silence"),
    ("vm set --name=b --description= --label x=1 --label y= --unlabel z --vcpus 2 -m 1G --disk 16G "
     "--dry-run a", "vm.set",
     {"vm": "a", "name": "b", "description": "", "labels": {"x": "1", "y": ""}, "unlabel": ["z"],
      "vcpus": 2, "memory_mib": 1024, "disk_bytes": 16 << 30, "dry_run": True}, SET, "lines"),
    ("vm set --net none a", "vm.set", {"vm": "a", "net": "none"}, SET, "lines"),
    ("vm set --restart no --autostart no --auto-stop-after 0 --expires-after 1d a", "vm.set",
     {"vm": "a", "restart": "no", "autostart": False, "auto_stop_after_ms": 0,
      "expires_after_ms": 86400000}, SET, "lines"),
    ("vm prune --stopped-for 7d --dry-run", "vm.prune", {"stopped_for_ms": 604800000, "dry_run": True},
     [PRUNED], "listing"),
    ("vm touch a", "vm.touch", {"vm": "a"}, VM, "silence"),
    ("vm timeline a", "vm.timeline", {"vm": "a"}, [START], "listing"),
    ("vm rename a b", "vm.set", {"vm": "a", "name": "b"}, SET, "silence"),
    ("vm delete a", "vm.delete", {"vm": "a"}, {}, "silence"),
    ("vm delete --force a", "vm.delete", {"vm": "a", "force": True}, {}, "silence"),
    ("vm logs a", "vm.logs", {"vm": "a"}, LOG, "log"),
    ("vm logs --agent a", "vm.logs", {"vm": "a", "source": "agent"}, LOG, "log"),
    ("vm logs --source=vmm --tail=1K a", "vm.logs",
     {"vm": "a", "source": "vmm", "tail_bytes": 1024}, LOG, "log"),
    ("vm stats a", "vm.stats", {"vm": "a"}, STATS, "rows"),
    ("vm stats --interval=1s --timeout 9s a", "vm.stats",
     {"vm": "a", "interval_ms": 1000, "timeout_ms": 9000}, STATS, "rows"),
    ("vm top --timeout 9s a", "vm.top", {"vm": "a", "timeout_ms": 9000}, TOP, "rows"),
    ("vm ports --timeout 9s a", "vm.ports", {"vm": "a", "timeout_ms": 9000}, PORTS, "rows"),
    ("image list", "image.list", {}, [IMAGE], "listing"),
    ("image register n /", "image.register.begin", {"name": "n", "path": "/"},
     OP | {"result": IMAGE}, "digest"),
    ("kernel list", "kernel.list", {}, [KERNEL], "listing"),
    ("kernel import n /", "kernel.import.begin", {"name": "n", "path": "/"},
     OP | {"result": KERNEL}, "digest"),
    ("template list", "template.list", {}, [TEMPLATE], "listing"),
    ("template show a1", "template.show", {"template": "a1"}, TEMPLATE, "each"),
    ("template create", "template.create.begin", {}, MADE, "id"),
    ("template create --image i --kernel k --vmm qemu --init image --vcpus 2 -m 1G --disk 16G",
     "template.create.begin", {"image": "i", "kernel": "k", "vmm": "qemu", "init": "image", "vcpus": 2,
                               "memory_mib": 1024, "disk_bytes": 16 << 30}, MADE, "id"),
    ("template delete a1", "template.delete", {"template": "a1"}, {}, "silence"),
    ("template verify", "template.verify", {}, [CHECK], "listing"),
    ("template pool a1 --size 2", "template.pool", {"template": "a1", "size": 2}, TEMPLATE,
     "silence"),
    ("template verify a1", "template.verify", {"template": "a1"}, [CHECK], "listing"),
    ("template prune", "template.prune", {}, [TEMPLATE], "listing"),
    ("template prune --unused-for 30m --keep-storage 2G --dry-run", "template.prune",
     {"unused_for_ms": 1800000, "keep_bytes": 2 << 30, "dry_run": True}, [TEMPLATE], "listing"),
    ("session list a", "session.list", {"vm": "a"}, [SESSION], "listing"),
    ("op list", "op.list", {}, [OP], "listing"),
    ("op show " + OP_ID, "op.status", {"op": OP_ID}, OP, "each"),
    ("op wait " + OP_ID, "op.watch", {"op": OP_ID}, OP, "silence"),
    ("op cancel " + OP_ID, "op.cancel", {"op": OP_ID}, OP, "silence"),
    ("config show", "config.show", {}, CONFIGURATION, "one"),
    ("daemon status", "daemon.status", {}, STATUS, "one"),
    ("version", None, None, None, "text"),
    ("help", None, None, None, "text"),
    ("completion bash", None, None, None, "text"),
]
# Those that carry a command's status and streams, or have no output, have their own tests below.
APART = {"run", "exec", "cp", "forward", "session wait", "daemon stop", "config list", "internal config",
         "internal protocol", "internal complete", "internal man", "daemon reconcile",
         "daemon verify-store", "doctor", "debug-bundle", "events"}

CODES = {"invalid": -32602, "not_found": -32001, "already_exists": -32002, "conflict": -32003,
         "not_running": -32004, "busy": -32005, "unsupported": -32006, "limit": -32007,
         "timeout": -32008, "cancelled": -32009, "no_space": -32010, "guest": -32011,
         "vmm": -32012, "registry": -32013, "auth": -32014, "denied": -32015, "io": -32016,
         "internal": -32603}


def parse_table():
    """{path: (operands, set of other names, set of flags)}; the flags of all are under "*"."""
    table = {}
    for line in TABLE.strip().splitlines():
        if line.startswith(" "):
            table[path][2].update(line.split())  # pylint: disable=used-before-assignment
            continue
        words, _, names = line.partition(" = ")
        match = re.match(r"(\*|[a-z-]+(?: [a-z-]+)?)(?: (.*))?$", words)
        path, rest = match[1], match[2] or ""
        table[path] = ("", set(), set(rest.split())) if path == "*" else \
            (rest, set(names.split(", ")) if names else set(), set())
    return table


COMMANDS = parse_table()


def flags_of(flags):
    """A command's flags as the table writes them."""
    return {("-" + f["letter"] + "/" if f["letter"] else "") + "--" + f["name"]
            + ("=" + f["value"] if f["value"] else "")
            + ("(" + "|".join(f["choices"]) + ")" if f["choices"] else "") for f in flags}


@pytest.fixture
def daemon(bare):
    with MockDaemon(bare.socket_path) as mock:
        mock.operation = Operation({"vm": VM, "session": SESSION})
        mock.answers["vm.list"] = lambda params: []  # for those that look up several names
        yield mock


def answer(daemon, method, result):
    """Scripts one method; one that begins an operation answers with that, which ends at once."""
    if method and method.endswith(".begin"):
        daemon.operation = Operation(result["result"])
    elif method:
        daemon.answers[method] = lambda params: result


def fail_all(daemon, error):
    def fail(_):
        raise error
    for method in {m for _, m, *_ in CALLS if m} | {
            "session.start", "session.wait", "daemon.stop", "daemon.reconcile", "daemon.verify_store"}:
        daemon.answers[method] = fail


# Names ----------------------------------------------------------------------------------------------

def test_table_lists_every_command_and_flag(bare):
    program = bare.json("help")
    assert flags_of(program["flags"]) == COMMANDS["*"][2]
    found = {c["path"]: (c["operands"], set(c["aliases"]), flags_of(c["flags"]))
             for c in program["commands"]}
    assert found == {path: row for path, row in COMMANDS.items() if path != "*"}
    assert {c["path"] for c in program["commands"] if c["hidden"]} == \
        {path for path in COMMANDS if path.startswith("internal ")}


def test_every_command_is_tried():
    tried = {path for path in COMMANDS for words, *_ in CALLS
             if (words + " ").startswith(path + " ")}
    assert tried | APART == set(COMMANDS) - {"*"}


@pytest.mark.parametrize("path", [p for p in COMMANDS if p != "*"])
def test_other_names_are_the_same_command(bare, path):
    text = bare.ok(*path.split(), "--help").out
    assert text.startswith(f"Usage: banger {path}")
    assert bare.ok("help", *path.split()).out == text
    assert bare.ok(*path.split(), "-h").out == text
    for name in COMMANDS[path][1]:
        assert bare.ok(*name.split(), "--help").out == text, name
        assert bare.ok("help", *name.split()).out == text, name


def test_help_of_a_noun_lists_its_commands(bare):
    for noun in {path.split()[0] for path in COMMANDS if " " in path}:
        text = bare.ok("help", noun).out
        assert text == bare.ok(noun, "--help").out
        listed = set(re.findall(rf"^  ({noun} [a-z-]+)", text, re.M))
        assert listed == {p for p in COMMANDS if p.startswith(noun + " ")
                          and not p.startswith("internal ")}
        assert {c["path"] for c in bare.json("help", noun)["commands"]} >= listed
        without = bare.run(noun)
        assert (without.returncode, without.out, without.err) == (2, "", text)


def test_help_is_short_and_fits_80_columns(bare):
    pages = [path.split() for path in COMMANDS if path != "*"]
    for words in [[], ["vm"], *pages]:
        lines = bare.ok("help", *words).out.split("\n")
        # The overview has a line or two for each command.
        assert lines[-1] == "" and len(lines) < (80 if words else 90), words
        for line in lines:
            assert len(line) <= 80 and line == line.rstrip() and "\t" not in line, (words, line)
    assert not bare.socket_path.exists()


def test_names_and_texts_in_help_are_apart(bare):
    for words in ([], ["vm"], ["session"], ["daemon"]):
        lines = bare.ok("help", *words).out.split("Commands:\n")[1].split("\n\n")[0].splitlines()
        for line in lines:
            assert re.fullmatch(r"  [a-z| -]*[a-z]  +[A-Z].*|   +\S.*", line), line


def test_help_of_a_command_reads_well(bare):
    assert bare.ok("stop", "--help").out == """\
Usage: banger vm stop [FLAGS] VM...
       banger stop [FLAGS] VM...

Stop VMs; their guests sync and go down.

Flags:
  -f, --force              End the VM even if the guest does not agree;
                           unwritten data of the guest is lost.
      --timeout TIME       How long the guest may take to sync and go down.
                           Default: 30s.

Flags of every command:
      --format FORMAT      Print a table (the default), or JSON. One of table,
                           json, jsonl.
  -q, --quiet              In listings: only ids. Else: no progress.
      --debug              Show calls to the daemon, and the operation of an
                           error.
      --socket PATH        The daemon's socket.
  -h, --help               Show help.
"""


# What was meant -------------------------------------------------------------------------------------

@pytest.mark.parametrize("line, said, meant", [
    ("rnu", "unknown command 'rnu'", "banger run"),
    ("exce x", "unknown command 'exce'", "banger exec"),
    ("vm lsit", "unknown command 'vm lsit'", "banger vm list"),
    ("vm inspcet x", "unknown command 'vm inspcet'", "banger vm inspect"),
    ("vn list", "unknown command 'vn'", "banger vm list"),
    ("imgae lst", "unknown command 'imgae'", "banger image list"),
    ("imgae", "unknown command 'imgae'", "banger image"),
    ("create --name x", "unknown command 'create'", "banger vm create"),
    ("inspect x", "unknown command 'inspect'", "banger vm show"),
    ("register a b", "unknown command 'register'", "banger image register"),
    ("vers", "unknown command 'vers'", "banger version"),
    ("help vm lsit", "unknown command 'vm lsit'", "banger help vm list"),
    ("run --detahc -- x", "unknown flag '--detahc'", "--detach"),
    ("run --inter -- x", "unknown flag '--inter'", "--interactive"),
    ("run --imgae=x -- x", "unknown flag '--imgae=x'", "--image"),
    ("run -name x", "unknown flag '-name'", "--name"),
    ("ps --fromat json", "unknown flag '--fromat'", "--format"),
    ("ps --format jsno", "--format must be one of table|json|jsonl, not 'jsno'", "json"),
    ("run --vmm qmeu -- x", "--vmm must be one of auto|qemu|firecracker|fake, not 'qmeu'", "qemu"),
    ("completion zhs", "completion must be one of bash|zsh|fish, not 'zhs'", "zsh"),
    ("logs --source consol x", "--source must be one of console|vmm|agent, not 'consol'", "console"),
])
def test_nearest_word_is_suggested(bare, line, said, meant):
    result = bare.run(*line.split())
    assert result.returncode == 2 and not result.stdout
    assert result.err == f"banger: {said}\nhint: did you mean '{meant}'?\n"


@pytest.mark.parametrize("line", ["xyzzy", "vm xyzzy", "ps --xyzzy", "ps -Z", "ps --format xyzzy",
                                  "run --vmm xyzzy -- x", "help xyzzy", "help vm xyzzy"])
def test_what_is_near_nothing_gets_a_way_to_help(bare, line):
    result = bare.run(*line.split())
    assert result.returncode == 2
    assert re.fullmatch(r"banger: .*\nhint: see: banger .*--help\n", result.err), repr(result)


def test_internal_commands_are_never_suggested(bare):
    assert "internal" not in bare.run("interna").err
    assert "protocol" not in bare.run("internal", "protocl").err


# Calls and formats ----------------------------------------------------------------------------------

@pytest.mark.parametrize("words, method, params, result, prints", CALLS,
                         ids=[words for words, *_ in CALLS])
def test_command_calls_and_prints(bare, daemon, words, method, params, result, prints):
    answer(daemon, method, result)
    words = words.split()
    plain = bare.ok(*words)
    if method:
        pages = [params | {"after": {key: VM[key] for key in ("created_at", "id")}}]
        assert daemon.called(method) == [params] + (pages if method == "vm.list" else [])
    made = result.get("result") if isinstance(result, dict) else None
    expected = {
        "listing": None, "rows": None, "one": None, "each": None, "text": None,
        "lines": "quiet-fox: name 'a' -> 'b': said\\x1b\n",
        "silence": "", "name": "quiet-fox\n", "log": "said\n",
        "digest": f"{(made or {}).get('digest')}\n", "id": f"{(made or {}).get('id')}\n",
    }[prints]
    assert plain.out == expected if expected is not None else plain.out.endswith("\n")
    if prints == "text":
        if not words[0].startswith("completion"):
            assert isinstance(json.loads(bare.ok("--format", "json", *words).out), dict)
        return
    if prints == "rows":
        result = result.get("processes", result.get("listeners", [result]))
    whole = made["vm"] if prints == "name" else made if prints in ("digest", "id") else result
    assert json.loads(bare.ok("--format", "json", *words).out) == whole
    lines = bare.ok("--format", "jsonl", *words).out.splitlines()
    assert [json.loads(line) for line in lines] == (whole if prints in ("listing", "rows") else [whole])
    if prints == "listing":
        ids = f"{whole[0].get('id', whole[0].get('incarnation'))}\n"
        assert bare.ok(*words, "-q").out == ids
        assert bare.ok(*words, "--quiet", "--format", "json").out == ids
        answer(daemon, method, [])
        assert bare.json(*words) == [] and bare.ok(*words, "--format", "jsonl").out == ""
        assert len(bare.ok(*words).out.splitlines()) == 1 and bare.ok(*words, "-q").out == ""


@pytest.mark.parametrize("words, method, key, shown", [
    ("vm show", "vm.show", "vm", VM), ("start", "vm.start", "vm", VM),
    ("stop", "vm.stop", "vm", VM), ("rm", "vm.delete", "vm", None),
    ("restart", "vm.restart", "vm", VM), ("kill", "vm.kill", "vm", VM),
    ("pause", "vm.pause", "vm", VM), ("resume", "vm.resume", "vm", VM),
    ("op show", "op.status", "op", OP), ("op cancel", "op.cancel", "op", OP),
    ("template show", "template.show", "template", TEMPLATE),
    ("template rm", "template.delete", "template", None)])
def test_several_operands_are_an_array_and_valid_ones_proceed(bare, daemon, words, method, key,
                                                              shown):
    def one(params):
        if params[key] == "bad":
            raise RpcError("not_found", "no such thing", "look elsewhere")
        named = {"vm": {"name": params[key]}, "op": {"target": params[key]}, "template": {}}
        return shown | named[key] if shown else {}
    daemon.answers[method] = one
    first, second = one({key: "a"}), one({key: "b"})
    assert bare.json(*words.split(), "a", "b") == [first, second]
    result = bare.run(*words.split(), "a", "bad", "b", "--format", "jsonl")
    assert result.returncode == 1
    assert [json.loads(line) for line in result.out.splitlines()] == [first, second]
    assert re.fullmatch(r"banger: cannot \w+ 'bad': no such thing\nhint: look elsewhere\n",
                        result.err)
    result = bare.run(*words.split(), "a", "bad", "--format", "json")
    assert result.returncode == 1 and json.loads(result.out) == [first]


# How they end ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("words", [words for words, method, *_ in CALLS if method])
def test_failure_is_1_and_two_lines(bare, daemon, words):
    fail_all(daemon, RpcError("conflict", "somebody has it", "wait"))
    result = bare.run(*words.split())
    # run and exec tell a failure of their own from one of the command's.
    assert result.returncode == (125 if words.startswith("run") else 1)
    assert not result.stdout
    assert re.fullmatch(r"banger: (cannot .*: )?somebody has it\nhint: wait\n", result.err)


@pytest.mark.parametrize("code", CODES)
def test_error_codes_end_with_1_and_with_125_where_a_command_runs(bare, daemon, code):
    fail_all(daemon, RpcError(code, "no", "hint", CODES[code]))
    for words, status in (("ps", 1), ("vm create", 1), ("run -- true", 125), ("exec a true", 125),
                          ("session wait a b", 125)):
        result = bare.run(*words.split())
        assert result.returncode == status, repr(result)
        assert re.fullmatch(r"banger: (cannot .*: )?no\nhint: hint\n", result.err), repr(result)


def test_error_codes_are_those_of_the_protocol():
    text = (ROOT / "docs" / "PROTOCOL.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \| (-\d+) \|", text, re.M)
    assert {name: int(number) for name, number in rows} == CODES


@pytest.mark.parametrize("end, status", [
    ({"code": 0, "signal": None}, 0), ({"code": 7, "signal": None}, 7),
    ({"code": None, "signal": 15}, 143), ({"code": 127, "signal": None}, 127)])
def test_session_wait_ends_as_the_command_did(bare, daemon, end, status):
    daemon.answers["session.wait"] = lambda params: ENDED | {"exit": end}
    result = bare.run("session", "wait", "a", "5e55", "--timeout", "3s")
    assert (result.returncode, result.out, result.err) == (status, "", "")
    assert daemon.called("session.wait") == [{"vm": "a", "session": "5e55", "timeout_ms": 3000}]
    result = bare.run("session", "wait", "a", "5e55", "--format", "json")
    assert result.returncode == status and json.loads(result.out)["exit"] == end


def test_reconcile_prints_a_line_for_each_and_nothing_when_clean(bare, daemon):
    killed = {"object": "process 7", "vm": None, "problem": "no VM has it", "action": "kill",
              "error": None}
    failed = killed | {"object": "directory x", "vm": "a", "action": "remove", "error": "it is busy"}
    kept = killed | {"action": "none"}
    daemon.answers["daemon.reconcile"] = lambda params: [killed]
    result = bare.ok("daemon", "reconcile")
    assert result.out == "process 7: no VM has it: killed\n"
    daemon.answers["daemon.reconcile"] = lambda params: [killed, failed]
    result = bare.run("daemon", "reconcile")
    assert (result.returncode, result.out) == (1, "process 7: no VM has it: killed\n"
                                               "directory x of VM a: no VM has it: not removed: "
                                               "it is busy\n")
    assert bare.run("daemon", "reconcile", "--format", "json").returncode == 1
    daemon.answers["daemon.reconcile"] = lambda params: [kept]
    result = bare.run("daemon", "reconcile")
    assert (result.returncode, result.out) == (1, "process 7: no VM has it: left as it is\n")
    assert bare.run("daemon", "reconcile", "-q").out == ""
    daemon.answers["daemon.reconcile"] = lambda params: [killed, kept]
    result = bare.ok("daemon", "reconcile", "--dry-run")
    assert result.out == ("process 7: no VM has it: would be killed\n"
                          "process 7: no VM has it: left as it is\n")
    assert daemon.called("daemon.reconcile")[-1] == {"dry_run": True}
    assert bare.json("daemon", "reconcile", "--dry-run") == [killed, kept]
    lines = bare.ok("daemon", "reconcile", "--dry-run", "--format", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == [killed, kept]
    daemon.answers["daemon.reconcile"] = lambda params: []
    assert bare.ok("daemon", "reconcile").out == ""
    assert bare.json("daemon", "reconcile") == []


def test_verify_store_prints_problems_and_nothing_when_sound(bare, daemon):
    daemon.answers["daemon.verify_store"] = lambda params: {"problems": []}
    assert bare.ok("daemon", "verify-store").out == ""
    assert bare.json("daemon", "verify-store") == {"problems": []}
    daemon.answers["daemon.verify_store"] = lambda params: {"problems": ["one", "two"]}
    result = bare.run("daemon", "verify-store")
    assert (result.returncode, result.out) == (1, "one\ntwo\n")
    result = bare.run("daemon", "verify-store", "--format", "json")
    assert (result.returncode, json.loads(result.out)) == (1, {"problems": ["one", "two"]})


def test_template_verify_is_1_when_one_was_broken(bare, daemon):
    broken = CHECK | {"id": "f" * 32, "problem": "its memory is not what was saved"}
    daemon.answers["template.verify"] = lambda params: [CHECK, broken]
    result = bare.run("template", "verify")
    assert (result.returncode, result.err) == (1, "")
    lines = result.out.splitlines()
    assert lines[0].split() == ["ID", "IMAGE", "PROBLEM"]
    assert re.fullmatch(r"a1b2c3d4e5f6 +debian +none", lines[1])
    assert lines[2].endswith(broken["problem"])
    result = bare.run("template", "verify", "--format", "json")
    assert result.returncode == 1 and json.loads(result.out) == [CHECK, broken]


def test_help_has_defaults_as_people_write_them(bare):
    defaults = {(c["path"], f["name"]): f["default"] for c in bare.json("help")["commands"]
                for f in c["flags"]}
    for path, name, default in (
            ("vm prune", "stopped-for", "1d"), ("template prune", "unused-for", "7d"),
            ("template prune", "keep-storage", None), ("vm stats", "interval", "500ms"),
            ("vm stop", "timeout", "30s"), ("run", "memory", "512M"), ("vm logs", "tail", "64K")):
        assert defaults[path, name] == default, (path, name)
    # Said once: by what the text says, or by what is put behind it.
    for command in bare.json("help")["commands"]:
        for flag in command["flags"]:
            assert not (flag["default"] and "Default" in flag["doc"]), (command["path"], flag)


def test_session_wait_for_a_lost_command_is_125(bare, daemon):
    daemon.answers["session.wait"] = lambda params: SESSION | {"state": "lost"}
    result = bare.run("session", "wait", "a", "b")
    assert result.returncode == 125
    assert re.fullmatch(r"banger: session '\w+' is lost: .*\nhint: banger session list .*\n",
                        result.err)


@pytest.mark.parametrize("status, killed, ends", [(0, False, 0), (9, False, 9), (15, True, 143)])
@pytest.mark.parametrize("words", ["run -q -- x", "run --rm -q -- x", "exec a x"])
def test_command_gives_its_status(bare, daemon, words, status, killed, ends):
    def session(s):
        s.output(STDOUT, b"out")
        s.exit(status, killed)
    daemon.session = session
    result = bare.run(*words.split())
    assert (result.returncode, result.stdout, result.err) == (ends, b"out", "")


@pytest.mark.parametrize("words", [
    *[path for path, row in COMMANDS.items() if re.match(r"[A-Z]", row[0])],  # operands missing
    *[path + " --no-such-flag" for path in COMMANDS if path != "*"],
    *[path + " a b c d e" for path, row in COMMANDS.items() if path != "*" and "..." not in row[0]],
    "help vm list x",
    "exec a", "run x", "vm stop --timeout", "vm stop --force=yes x",
])
def test_wrong_usage_is_2_with_a_hint_and_no_call(bare, daemon, words):
    result = bare.run(*words.split())
    assert result.returncode == 2 and not result.stdout, repr(result)
    assert re.fullmatch(r"banger: .*\nhint: .*\n", result.err), repr(result)
    assert not [m for m, _ in daemon.calls if m != "image.list"]


def test_commands_without_a_daemon(bare):
    """status 1, nothing to stop, and those that need none."""
    assert bare.run("daemon", "status").returncode == 1
    assert bare.run("daemon", "stop").returncode == 0
    for words in ("version", "help", "internal protocol"):
        assert bare.ok(*words.split()).out
    assert not os.path.exists(bare.socket_path)


def test_ids_are_those_of_the_objects(bare, daemon):
    daemon.answers["vm.list"] = lambda params: [VM]
    assert bare.ok("ps", "-q").out == VM_ID + "\n"
