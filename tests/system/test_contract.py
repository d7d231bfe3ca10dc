"""What programs rely on: exit codes, tables, JSON keys, and the socket's protocol."""

import json
import re
import threading

import frames
import pytest
from banger import IMAGE, KERNEL, ROOT
from steps import SHARED_VM, assert_error, call, never_boots, redirected, sh

# The promised keys of every object. What banger has beyond them is listed apart.
VM = set("""id name state reason incarnation image kernel vmm vcpus memory_mib disk_bytes init
    labels network sessions created_at started_at exit auto_remove workspace timeline""".split())
VM_MORE = {"state_since", "pending", "description", "restart", "restart_count", "restart_at", "autostart",
           "auto_stop_after_ms", "expires_after_ms", "expires_at", "start"}
SESSION = set("""id vm name state command cwd user tty stdin tags exit started_at ended_at readers
    writer bytes""".split())
SESSION_MORE = {"command_shortened", "error"}
OPERATION = set("id kind target state stage stages error result".split())
OPERATION_MORE = {"message"}
IMAGE_KEYS = set("id names size_bytes created_at managed config".split())
IMAGE_MORE = {"digest"}
STATUS = set("pid version socket state_dir dns web_url owner helper network vms started_at".split())
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ID = re.compile(r"[0-9a-f]{32}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
CODES = {"invalid": -32602, "not_found": -32001, "already_exists": -32002, "conflict": -32003,
         "not_running": -32004, "busy": -32005, "unsupported": -32006, "limit": -32007,
         "timeout": -32008, "cancelled": -32009, "no_space": -32010, "guest": -32011,
         "vmm": -32012, "io": -32016, "internal": -32603}

# Parsers and threads at work, and hardly a boot.
pytestmark = pytest.mark.sanitize


def error_of(banger, method, params=None):
    """(data.code, message, hint) of a call that must fail; the number must fit the code."""
    with banger.rpc() as rpc:
        reply = rpc.call(method, params)
    error = reply["error"]
    assert set(error) == {"code", "message", "data"}
    assert set(error["data"]) == {"code", "hint", "op", "object"}
    assert error["code"] == CODES[error["data"]["code"]], error
    return error["data"]["code"], error["message"], error["data"]["hint"]


# Objects ------------------------------------------------------------------------------------------

def test_keys_of_a_vm(shared):
    vm = shared.json("vm", "show", SHARED_VM)
    assert set(vm) == VM | VM_MORE
    assert set(vm["image"]) == set(vm["kernel"]) == {"name", "digest"}
    assert set(vm["vmm"]) == {"name", "version", "accel", "why"}
    assert set(vm["start"]) == {"how", "template", "why"}
    assert set(vm["network"]) == {"mode", "ipv4", "ipv6", "dns_name", "ports"}
    assert all(set(phase) == {"phase", "ms"} for phase in vm["timeline"]) and vm["timeline"]
    assert ID.fullmatch(vm["id"]) and vm["name"] == SHARED_VM
    assert vm["image"]["name"] == IMAGE and DIGEST.fullmatch(vm["image"]["digest"])
    assert vm["kernel"]["name"] == KERNEL and DIGEST.fullmatch(vm["kernel"]["digest"])
    assert (vm["state"], vm["reason"], vm["init"], vm["exit"]) == ("running", None, "agent", None)
    assert (vm["vcpus"], vm["memory_mib"], vm["disk_bytes"]) == (1, 512, 8 << 30)
    assert vm["vmm"]["name"] == "qemu" and vm["vmm"]["accel"] in ("kvm", "tcg")
    assert (vm["labels"], vm["workspace"], vm["auto_remove"]) == ({}, None, False)
    for key in ("created_at", "started_at", "state_since"):
        assert TIME.fullmatch(vm[key]), key


def test_keys_of_a_session(shared):
    assert sh(shared, "echo out; echo errors >&2; exit 3").returncode == 3
    for session in shared.json("session", "list", SHARED_VM):
        assert set(session) == SESSION | SESSION_MORE
    assert ID.fullmatch(session["id"]) and ID.fullmatch(session["vm"])
    assert session["state"] == "exited"
    assert session["exit"] == {"code": 3, "signal": None}
    assert session["bytes"] == {"out": 4, "err": 7}
    assert session["command"][:2] == ["sh", "-c"]
    assert (session["user"], session["tty"], session["tags"]) == ("root", False, {})
    assert TIME.fullmatch(session["started_at"]) and TIME.fullmatch(session["ended_at"])
    lost = shared.run("exec", SHARED_VM, "nothing")
    assert lost.returncode == 127
    session = call(shared, "session.list", vm=SHARED_VM)[-1]
    assert (session["state"], session["exit"]["code"]) == ("failed", 127)


def test_arguments_that_are_not_utf8_are_objects_with_base64(shared):
    shared.ok("exec", SHARED_VM, "--", "echo", b"\xff\xfe", "text")
    session = call(shared, "session.list", vm=SHARED_VM)[-1]
    assert session["command"] == ["echo", {"base64": "//4="}, "text"]


def test_keys_of_an_operation(shared):
    for operation in shared.json("op", "list"):
        assert set(operation) == OPERATION | OPERATION_MORE
        assert all(set(s) == {"name", "ms", "bytes", "total"} for s in operation["stages"])
    created = [o for o in call(shared, "op.list") if o["target"] == SHARED_VM][0]
    assert (created["kind"], created["state"], created["error"]) == ("vm.create", "done", None)
    assert created["result"]["vm"]["name"] == SHARED_VM
    assert call(shared, "op.status", op=created["id"]) == created


def test_keys_of_images_and_kernels(shared):
    image, = shared.json("image", "list")
    assert set(image) == IMAGE_KEYS | IMAGE_MORE
    assert image["names"] == [IMAGE] and DIGEST.fullmatch(image["id"])
    assert image["id"] == image["digest"] and image["size_bytes"] > 1 << 20
    kernel, = shared.json("kernel", "list")
    assert kernel["names"] == [KERNEL] and DIGEST.fullmatch(kernel["digest"])
    assert re.match(r"\d+\.\d+", kernel["version"])


def test_keys_of_the_daemon_status(shared):
    status = shared.json("daemon", "status")
    assert set(status) == STATUS
    assert status["pid"] == shared.daemon_pid()
    assert (status["socket"], status["state_dir"]) == (str(shared.socket_path),
                                                       str(shared.state_dir))
    assert set(status["helper"]) == {"mode"}
    assert status["vms"] == {"running": 1}
    assert TIME.fullmatch(status["started_at"])
    assert status["version"] == shared.json("version")["version"]


# Commands -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("args, header", [
    (["ps"], "ID NAME STATE REASON IMAGE VCPU MEM CREATED"),
    (["ps", "--all"], "ID NAME STATE REASON IMAGE VCPU MEM CREATED"),
    (["vm", "list"], "ID NAME STATE REASON IMAGE VCPU MEM CREATED"),
    (["vm", "ls"], "ID NAME STATE REASON IMAGE VCPU MEM CREATED"),
    (["image", "list"], "DIGEST NAME SIZE CREATED"),
    (["kernel", "list"], "DIGEST NAME VERSION CREATED"),
    (["session", "list", SHARED_VM], "ID STATE EXIT COMMAND"),
    (["op", "list"], None),
])
def test_listings_as_table_json_jsonl_and_ids(shared, args, header):
    sh(shared, "true")
    rows = shared.json(*args)
    assert isinstance(rows, list) and rows
    lines = shared.ok(*args).out.splitlines()
    assert len(lines) == len(rows) + 1
    if header:
        assert lines[0].split() == header.split()
    assert not any(line != line.rstrip() or "\x1b" in line for line in lines[:1])
    jsonl = [json.loads(line) for line in
             shared.ok(*args, "--format", "jsonl").out.splitlines()]
    assert [r.get("id") for r in jsonl] == [r.get("id") for r in rows]
    assert shared.ok(*args, "-q").out.split() == [r.get("id") or r["digest"] for r in rows]


def test_empty_listings_are_a_header_or_an_empty_array(bare):
    for args in (["ps"], ["vm", "list"], ["image", "list"], ["kernel", "list"], ["op", "list"]):
        assert len(bare.ok(*args).out.splitlines()) == 1, args
        assert bare.json(*args) == []
        assert bare.ok(*args, "--format", "jsonl").out == ""
        assert bare.ok(*args, "-q").out == ""


def test_show_of_one_is_an_object_and_of_several_an_array(shared):
    assert isinstance(shared.json("vm", "show", SHARED_VM), dict)
    assert [vm["name"] for vm in shared.json("vm", "show", SHARED_VM, SHARED_VM)] == [SHARED_VM]
    result = shared.run("vm", "show", SHARED_VM, "nothing", "--format", "json")
    assert result.returncode == 1 and len(json.loads(result.stdout)) == 1
    fields = dict(line.split(None, 1) for line in
                  shared.ok("vm", "show", SHARED_VM).out.splitlines())
    assert fields["name"] == SHARED_VM and fields["image.name"] == IMAGE


def test_refs_are_names_ids_and_unique_prefixes(shared):
    vm = shared.json("vm", "show", SHARED_VM)
    for ref in (vm["id"], vm["id"][:12], vm["id"][:6]):
        assert shared.json("vm", "show", ref)["name"] == SHARED_VM
    other = "0" if vm["id"][0] != "0" else "1"
    assert shared.run("vm", "show", other + vm["id"][1:]).returncode == 1


def test_logs_of_console_and_vmm(shared):
    sh(shared, "echo hello from the console > /dev/console")
    assert "hello from the console" in shared.ok("logs", SHARED_VM).out
    assert shared.run("vm", "logs", SHARED_VM, "--source", "vmm").returncode == 0
    assert_error(shared.run("logs", SHARED_VM, "--source", "x"), "console|vmm|agent", status=2)


def test_console_is_escaped_on_a_terminal(shared):
    sh(shared, r"printf 'evil \033]0;title\007 text\n' > /dev/console")
    child = shared.spawn("logs", SHARED_VM, tty=("stdout",))
    shown = child.finish().stdout
    assert b"evil" in shown and b"\x1b" not in shown and b"\x07" not in shown
    assert b"\x1b]0;title\x07" in shared.ok("logs", SHARED_VM).stdout


def test_daemon_status_and_stop_without_a_daemon(bare):
    result = bare.run("daemon", "status")
    assert_error(result, "no daemon listens", status=1)
    assert bare.run("daemon", "stop").returncode == 0
    assert not bare.state_dir.exists()
    bare.ok("ps")
    assert bare.run("daemon", "status").returncode == 0
    bare.ok("daemon", "stop")
    assert bare.daemon_pid() is None and not bare.socket_path.exists()


def test_socket_flag_and_variable_name_the_daemon(shared, bare):
    socket = str(shared.socket_path)
    assert bare.ok("--socket", socket, "ps", "-q").out == shared.ok("ps", "-q").out
    assert bare.ok("ps", "-q", env={"BANGER_SOCKET": socket}).out == shared.ok("ps", "-q").out
    assert bare.daemon_pid() is None


def test_debug_shows_the_calls_on_stderr_alone(shared):
    plain, debug = shared.ok("ps", "-q"), shared.ok("--debug", "ps", "-q")
    assert debug.stdout == plain.stdout
    assert "vm.list" in debug.err and not plain.err


def test_closed_stdout_is_not_a_success(shared):
    result = redirected(shared, ">/dev/full", "vm", "list")
    assert result.returncode == 1 and "No space left" in result.err, repr(result)


# The protocol -------------------------------------------------------------------------------------

def test_protocol_document_is_what_the_program_prints(shared):
    assert shared.ok("internal", "protocol").out == (ROOT / "docs" / "PROTOCOL.md").read_text()


def test_discover_lists_every_method_with_its_parameters(shared):
    document = call(shared, "rpc.discover")
    assert document["openrpc"].startswith("1.")
    assert document["info"]["title"] and document["info"]["version"]
    methods = {m["name"]: m for m in document["methods"]}
    promised = set(re.findall(r"^#+ `?([a-z]+(?:\.[a-z._]+)?)`?$",
                              (ROOT / "docs" / "PROTOCOL.md").read_text(), re.M))
    assert promised and promised == set(methods)
    for method in methods.values():
        assert set(method) >= {"name", "params", "result"}, method
        for param in method["params"]:
            assert param["name"] and "schema" in param, (method["name"], param)
    create = {p["name"]: p for p in methods["vm.create.begin"]["params"]}
    assert {"name", "image", "vcpus", "memory_mib", "disk_bytes", "main"} <= set(create)
    # Each of them is there: it complains about parameters, never that it is unknown.
    with shared.rpc() as rpc:
        for name in methods:
            reply = rpc.call(name, {"no such parameter": 1})
            assert reply["error"]["data"]["code"] == "invalid", name
            assert "unknown method" not in reply["error"]["message"], name
            assert "no such parameter" in reply["error"]["message"], (name, reply)


@pytest.mark.parametrize("method, params, code, said, hint", [
    ("vm.lsit", None, "invalid", "unknown method 'vm.lsit'", "vm.list"),
    ("nothing.like.it", {}, "invalid", "unknown method", "rpc.discover"),
    ("vm.show", {"vm": "x", "nmae": 1}, "invalid", "'nmae'", None),
    ("vm.list", {"al": True}, "invalid", "'al'", "all"),
    ("vm.show", {}, "invalid", "'vm'", None),
    ("vm.show", {"vm": 7}, "invalid", "'vm'", None),
    ("vm.show", {"vm": ""}, "invalid", "'vm'", None),
    ("vm.show", {"vm": "x" * 65}, "invalid", "'vm'", None),
    ("vm.show", {"vm": None}, "invalid", "'vm'", None),
    ("vm.show", {"vm": "nothing"}, "not_found", "no VM 'nothing'", "banger ps -a"),
    ("vm.list", {"all": 1}, "invalid", "'all'", None),
    ("vm.create.begin", {"vcpus": 0}, "invalid", "'vcpus'", None),
    ("vm.create.begin", {"vcpus": 10**18}, "invalid", "'vcpus'", None),
    ("vm.create.begin", {"vcpus": 1.5}, "invalid", "'vcpus'", None),
    ("vm.create.begin", {"main": {"command": ["x"], "x": 1}}, "invalid", "'x'", None),
    ("vm.create.begin", {"main": {"command": "x"}}, "invalid", "'command'", None),
    ("vm.create.begin", {"vmm": "xen"}, "invalid", "auto|qemu|firecracker|fake", None),
    ("vm.create.begin", {"labels": {"a": 1}}, "invalid", "'labels'", None),
    ("session.start", {"vm": SHARED_VM, "command": []}, "invalid", "no command", None),
    ("session.start", {"vm": SHARED_VM, "command": ["true"], "env": ["x"]}, "invalid",
     "environment entry 1", None),
    ("session.wait", {"vm": SHARED_VM, "session": "f" * 32}, "not_found", "session", None),
    ("session.attach", {"vm": SHARED_VM, "session": "f" * 32}, "not_found", "session", None),
    ("session.connect", {"vm": SHARED_VM}, "invalid", "either port or path", None),
    ("session.connect", {"vm": SHARED_VM, "port": 1, "path": "/x"}, "invalid", "either port or path",
     None),
    ("session.connect", {"vm": SHARED_VM, "port": 65536}, "invalid", "'port'", None),
    ("session.connect", {"vm": SHARED_VM, "path": "x"}, "invalid", "absolute", None),
    ("session.connect", {"vm": SHARED_VM, "port": 1, "host": "example.com"}, "invalid",
     "neither localhost nor an address", "IPv4 or IPv6"),
    ("op.status", {"op": "f" * 32}, "not_found", "operation", None),
    ("op.cancel", {"op": "zz"}, "not_found", "operation", None),
    ("vm.wait", {"vm": SHARED_VM, "until": "tomorrow"}, "invalid", "running|stopped|deleted",
     None),
    ("vm.wait", {"vm": SHARED_VM, "until": "stopped", "timeout_ms": 20}, "timeout",
     "still running", None),
    ("image.register.begin", {"name": "x"}, "invalid", "'path'", None),
    ("vm.show", [SHARED_VM], "invalid", "params must be an object", None),
])
def test_error_of_a_call_has_code_message_and_hint(shared, method, params, code, said, hint):
    got, message, hinted = error_of(shared, method, params)
    assert got == code and said in message, (got, message)
    if hint:
        assert hinted and hint in hinted, hinted


@pytest.mark.parametrize("line, said", [
    (b"{", ""),
    (b"not json", ""),
    (b"\xff\xfe", ""),
    (b"[]", "no batches"),
    (b'[{"jsonrpc":"2.0","id":1,"method":"daemon.ping"}]', "no batches"),
    (b"7", "object"),
    (b'{"id":1,"method":"daemon.ping"}', "2.0"),
    (b'{"jsonrpc":"1.0","id":1,"method":"daemon.ping"}', "2.0"),
    (b'{"jsonrpc":"2.0","method":"daemon.ping"}', "id"),
    (b'{"jsonrpc":"2.0","id":{},"method":"daemon.ping"}', "id"),
    (b'{"jsonrpc":"2.0","id":1,"method":7}', ""),
    (b'{"jsonrpc":"2.0","id":1,"method":"vm.show","params":{"vm":"a\\u0000b"}}', ""),
    (b'{"jsonrpc":"2.0","id":1}', ""),
    (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"daemon.ping"}', ""),
    (b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 100 + b'"}', ""),
    (b"[" * 5000, ""),
    (b'{"jsonrpc":"2.0","id":1,"method":"daemon.ping","params":' + b'{"a":' * 3000, ""),
], ids=range(17))
def test_malformed_line_is_answered_and_the_connection_goes_on(shared, line, said):
    with shared.rpc() as rpc:
        rpc.send_line(line)
        error = json.loads(rpc.read_line())["error"]
        assert error["data"]["code"] == "invalid" and said in error["message"], error
        rpc.last_id = 100
        assert rpc.call("daemon.ping")["result"] == {}


def test_line_of_a_mebibyte_is_read_and_a_longer_one_refused(shared):
    head, tail = b'{"jsonrpc":"2.0","id":1,"method":"vm.show","params":{"vm":"', b'"}}'
    with shared.rpc() as rpc:
        rpc.send_line(head + b"x" * ((1 << 20) - len(head) - len(tail)) + tail)
        error = json.loads(rpc.read_line())["error"]
        assert error["data"]["code"] == "invalid" and "'vm'" in error["message"]
        assert rpc.call("daemon.ping")["result"] == {}
    with shared.rpc() as rpc:
        # The refusal may come, and the connection end, before all is sent.
        try:
            rpc.send_line(head + b"x" * (3 << 20) + tail)
            answer = rpc.read_line()
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        assert not answer or json.loads(answer)["error"]["data"]["code"] == "limit"
    assert call(shared, "daemon.ping") == {}


def test_answers_come_in_any_order_and_a_slow_call_can_be_cancelled(shared):
    with shared.rpc() as rpc:
        slow = rpc.request("vm.wait", {"vm": SHARED_VM, "until": "stopped"})
        other = rpc.request("vm.wait", {"vm": SHARED_VM, "until": "deleted"})
        assert rpc.call("daemon.ping")["result"] == {}
        assert rpc.call("rpc.cancel", {"id": 12345})["result"] == {"cancelled": False}
        cancel = rpc.request("rpc.cancel", {"id": slow})
        replies = {}
        for _ in range(2):
            reply = json.loads(rpc.read_line())
            replies[reply["id"]] = reply
        assert replies[cancel]["result"] == {"cancelled": True}
        assert replies[slow]["error"]["data"]["code"] == "cancelled"
        assert rpc.call("rpc.cancel", {"id": other})["result"] == {"cancelled": True}


def test_ids_may_be_strings_and_come_back_as_they_were(shared):
    with shared.rpc() as rpc:
        for name in ("a", "", "ü", "x" * 200):
            rpc.send_line(json.dumps({"jsonrpc": "2.0", "id": name, "method": "daemon.ping"})
                          .encode())
            assert json.loads(rpc.read_line()) == {"jsonrpc": "2.0", "id": name, "result": {}}


def test_requests_in_one_write_and_in_single_bytes(shared):
    with shared.rpc() as rpc:
        lines = [json.dumps({"jsonrpc": "2.0", "id": n, "method": "daemon.ping"}).encode()
                 for n in range(50)]
        rpc.send_bytes(b"\n".join(lines) + b"\n")
        assert {json.loads(rpc.read_line())["id"] for _ in lines} == set(range(50))
        rpc.asked[7] = "daemon.ping"
        for byte in lines[7] + b"\n":
            rpc.socket.sendall(bytes([byte]))
        assert json.loads(rpc.read_line())["id"] == 7


def test_too_many_calls_at_once_are_refused_not_queued_for_ever(shared):
    with shared.rpc() as rpc:
        ids = [rpc.request("vm.wait", {"vm": SHARED_VM, "until": "stopped"}) for _ in range(300)]
        refused = json.loads(rpc.read_line())
        assert refused["id"] in ids and refused["error"]["data"]["code"] == "limit", refused
    assert call(shared, "daemon.ping") == {}


def test_many_clients_at_once_are_served(shared):
    failures = []

    def client():
        with shared.rpc() as rpc:
            for _ in range(50):
                if rpc.call("vm.show", {"vm": SHARED_VM})["result"]["name"] != SHARED_VM:
                    failures.append(1)

    threads = [threading.Thread(target=client) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_operation_can_be_watched_and_cancelled(make_banger):
    banger = never_boots(make_banger)
    banger.ok("ps")
    with banger.rpc() as rpc:
        operation = rpc.call("vm.create.begin", {"name": "watched"})["result"]
        assert operation["state"] in ("running", "pending"), operation
        watch = rpc.request("op.watch", {"op": operation["id"]})
        states = []
        while True:
            message = json.loads(rpc.read_line())
            if message.get("method") == "op.progress":
                states.append(message["params"]["stage"])
                if states[-1] == "boot":
                    rpc.request("op.cancel", {"op": operation["id"]})
            elif message.get("id") == watch:
                break
        assert "boot" in states
        assert message["result"]["state"] == "cancelled", message
        assert rpc.call("vm.list")["result"] == []
    assert banger.qemu_pids() == []


def test_session_over_the_socket_alone(shared):
    """start, attach, frames both ways: all that the CLI does."""
    with shared.rpc() as rpc:
        session = rpc.call("session.start", {
            "vm": SHARED_VM, "command": ["sh", "-c", "cat; echo end >&2; exit 5"],
            "stdin": "pipe"})["result"]
        attached = rpc.call("session.attach", {"vm": SHARED_VM, "session": session["id"]})
        assert attached["result"]["id"] == session["id"]
        rest = rpc.pending
        client = frames.Client(rpc.socket, timeout=30)
        client.incoming += rest
        mine = frames.Session(0)
        mine.pid, mine.window_size = 1, frames.WINDOW_BYTES
        client.sessions[0] = mine
        client.send(*client._window_frames(mine))
        client.wait(lambda: mine.stdin_limit > 0)
        client.write(mine, b"through the socket")
        client.wait(lambda: mine.over)
        assert (mine.exited, mine.stdout, mine.stderr) == (5, b"through the socket", b"end\n")


def test_attach_wants_a_connection_of_its_own(shared):
    with shared.rpc() as rpc:
        rpc.request("vm.wait", {"vm": SHARED_VM, "until": "stopped"})
        reply = rpc.call("session.attach", {"vm": SHARED_VM, "session": "x"})
        assert reply["error"]["data"]["code"] == "conflict"


@pytest.mark.parametrize("garbage", [b"\x00" * 4096, b"\xb5" * 4096, b"GET / HTTP/1.0\n\n"])
def test_client_that_sends_no_frames_loses_its_connection_alone(shared, garbage):
    with shared.rpc() as rpc:
        session = rpc.call("session.start", {"vm": SHARED_VM, "command": ["sleep", "1000"],
                                             "stdin": "pipe", "hold": False})["result"]
        rpc.call("session.attach", {"vm": SHARED_VM, "session": session["id"]})
        rpc.socket.sendall(garbage)
        while rpc.socket.recv(65536):
            pass
    assert sh(shared, "echo fine").out == "fine\n"
    sh(shared, "killall sleep")
    call(shared, "session.wait", vm=SHARED_VM, session=session["id"])
