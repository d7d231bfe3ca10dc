"""The socket's protocol, held against its own description: every method, every parameter, odd lines.

Each reply that these tests read is validated (banger.Rpc): what they say beyond that is what a
schema cannot.
"""

import copy
import json
import os
import re
import socket
import subprocess

import jsonschema
import pytest
from banger import Rpc
from schema import protocol
from steps import SHARED_VM, call, needs_root

pytestmark = pytest.mark.sanitize

NOBODY = 65534


class SocatRpc(Rpc):
    """As Rpc, through socat: a client that shares nothing with us but the socket."""

    def __init__(self, path):
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(["socat", "-t", "60", "-", f"UNIX-CONNECT:{path}"],
                                            stdin=theirs, stdout=theirs)
        super().__init__(path, connected=ours)

    def __exit__(self, *_):
        self.socket.close()
        self.process.wait(60)


# The document --------------------------------------------------------------------------------------

def test_discover_answers_what_the_program_prints(shared):
    assert call(shared, "rpc.discover") == protocol().document


def walk(value):
    """All objects of a JSON value."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from walk(item)


def test_document_is_openrpc_with_valid_schemas():
    """https://spec.open-rpc.org: what its meta-schema asks of the parts that are used here."""
    document = protocol().document
    assert set(document) == {"openrpc", "info", "methods", "components", "x-notifications"}
    assert document["openrpc"] == "1.2.6" and set(document["info"]) == {"title", "version"}
    names = [m["name"] for m in document["methods"]]
    assert len(names) == len(set(names))
    for method in document["methods"]:
        extra = {key for key in method if not key.startswith("x-")} - \
            {"name", "description", "paramStructure", "params", "result"}
        assert not extra and method["description"], method
        assert set(method["result"]) == {"name", "schema"}
        for param in method["params"]:
            assert set(param) == {"name", "description", "required", "schema"}, param
            assert param["description"]
        # All references lead somewhere, or these raise.
        protocol().validator(method["result"]["schema"]).is_valid({})
        protocol().validator(protocol().params_schema(method["name"])).is_valid({})
    schemas = document["components"]["schemas"]
    for reference in [o["$ref"] for o in walk(document) if "$ref" in o]:
        prefix, _, name = reference.rpartition("/")
        assert prefix == "#/components/schemas" and name in schemas, reference
    for name, schema in schemas.items():
        jsonschema.Draft7Validator.check_schema(schema)
        if "properties" in schema:
            assert schema["additionalProperties"] is False, name


# Every method --------------------------------------------------------------------------------------

class Drive:
    """Calls methods on connections of one kind, and remembers which."""

    def __init__(self, banger, client):
        self.banger, self.client = banger, client
        self.called = set()

    def connect(self):
        return self.client(self.banger.socket_path)

    def on(self, rpc, method, **params):
        self.called.add(method)
        reply = rpc.call(method, params)
        assert "result" in reply, (method, reply)
        return reply["result"]

    def __call__(self, method, **params):
        with self.connect() as rpc:
            return self.on(rpc, method, **params)

    def finish(self, operation):
        """The result of an operation, as op.watch tells its end."""
        ended = self("op.watch", op=operation["id"])
        assert ended["state"] == "done", ended
        assert self("op.status", op=operation["id"]) == ended
        return ended["result"]


def drive_daemon(drive):
    assert drive("rpc.discover")["openrpc"]
    assert drive("daemon.ping") == {}
    assert drive("daemon.status")["socket"] == str(drive.banger.socket_path)
    assert {s["key"]: s["value"] for s in drive("config.show")["settings"]}["accel"] == "tcg"


def drive_store(drive):
    assert drive("daemon.reconcile", dry_run=True) == []
    assert drive("daemon.reconcile") == []
    assert drive("daemon.verify_store") == {"problems": []}
    assert {f["id"]: f["status"] for f in drive("doctor")}["store"] == "pass"


def drive_catalogue(drive, kernel_dir, rootfs_tar):
    kernel = drive.finish(drive("kernel.import.begin", name="again", path=str(kernel_dir)))
    assert kernel in drive("kernel.list") and "again" in kernel["names"]
    image = drive.finish(drive("image.register.begin", name="again", path=str(rootfs_tar)))
    assert image in drive("image.list") and "again" in image["names"]


def drive_templates(drive):
    template = drive.finish(drive("template.create.begin", memory_mib=128))
    assert (template["image"]["name"], template["memory_mib"]) == ("debian", 128)
    assert (template["uses"], template["loaded"], template["init"]) == (0, True, "agent")
    # The same again is that one.
    assert drive.finish(drive("template.create.begin", memory_mib=128)) == template
    assert drive("template.list") == [template]
    assert drive("template.show", template=template["id"][:12]) == template
    sound = [{"id": template["id"], "image": "debian", "problem": None}]
    assert drive("template.verify") == drive("template.verify", template=template["id"]) == sound
    assert drive("template.prune") == drive("template.prune", keep_bytes=1 << 40) == []
    assert drive("template.prune", keep_bytes=0, dry_run=True) == [template]
    assert drive("template.prune", unused_for_ms=0, dry_run=True) == [template]
    assert drive("template.pool", template=template["id"], size=0)["pool_size"] == 0
    assert drive("template.delete", template=template["id"]) == {}
    assert drive("template.list") == []


def drive_vm(drive):
    created = drive.finish(drive("vm.create.begin", name="driven", main={"command": ["true"]},
                                 labels={"a": "b"}))
    assert created["session"]["command"] == ["true"] and created["vm"]["labels"] == {"a": "b"}
    vm = created["vm"]["id"]
    assert drive("vm.show", vm="driven")["id"] == vm
    assert [v["id"] for v in drive("vm.list", all=False)] == [vm]
    place = drive("vm.list", members=["created_at"], limit=1)[0]
    assert sorted(place) == ["created_at", "id"] and drive("vm.list", after=place) == []
    assert drive("vm.ping", vm=vm, timeout_ms=60000)["us"] > 0
    log = drive("vm.logs", vm=vm, tail_bytes=100)
    assert log["text"] and log["position"] > 0
    assert drive("vm.logs", vm=vm, source="vmm", after=0, wait=True)["text"]
    assert drive("vm.stats", vm=vm, interval_ms=10, timeout_ms=60000)["guest"]["disks"]
    assert drive("vm.top", vm=vm, timeout_ms=60000)["processes"]
    assert drive("vm.ports", vm=vm, timeout_ms=60000)["more"] == 0
    assert drive("vm.wait", vm=vm, until="running") == {}
    assert drive("vm.set", vm=vm, labels={"c": "d"})["vm"]["labels"] == {"a": "b", "c": "d"}
    assert drive("vm.touch", vm=vm)["id"] == vm
    assert [s["incarnation"] for s in drive("vm.timeline", vm=vm)] == [1]
    assert drive("vm.prune", stopped_for_ms=0, dry_run=True) == []
    assert drive("vm.pause", vm=vm)["state"] == "paused"
    assert drive("vm.resume", vm=vm)["state"] == "running"
    assert drive("vm.kill", vm=vm, signal="SIGKILL")["state"] == "stopped"
    assert drive("vm.restart", vm=vm, force=True)["incarnation"] == 2


def drive_events(drive):
    listed = drive("events.list", limit=2)
    assert [e["number"] for e in listed] == [1, 2]
    with drive.connect() as rpc:
        following = rpc.request("events.subscribe", {"since": 1})
        drive.called.add("events.subscribe")
        assert drive.on(rpc, "rpc.cancel", id=following) == {"cancelled": True}


def drive_sessions(drive):
    session = drive("session.start", vm="driven", command=["sh", "-c", "read x; exit 3"],
                    stdin="pipe")["id"]
    with drive.connect() as rpc:
        waiting = rpc.request("session.wait", {"vm": "driven", "session": session})
        assert drive.on(rpc, "rpc.cancel", id=waiting) == {"cancelled": True}
    with drive.connect() as rpc:
        assert drive.on(rpc, "session.attach", vm="driven", session=session)["state"] == "running"
    assert session in [s["id"] for s in drive("session.list", vm="driven")]
    with drive.connect() as rpc:
        assert drive.on(rpc, "session.hold", vm="driven", session=session)["id"] == session
    # The connection that held it is gone: it was hung up.
    assert drive("session.wait", vm="driven", session=session)["exit"] == {"code": None, "signal": 1}


def drive_files(drive):
    """Each has a connection of its own, which then carries frames; its end is theirs."""
    for method, params in (("file.get", {"paths": ["etc"]}), ("file.put", {"path": "tmp"}),
                           ("session.connect", {"port": 80})):
        with drive.connect() as rpc:
            session = drive.on(rpc, method, vm="driven", **params)
            # What it has to say may fit into a pipe: then it can be over before the answer.
            assert session["state"] in ("running", "exited")


def drive_end(drive):
    assert drive("vm.stop", vm="driven", force=True)["state"] == "stopped"
    assert drive("vm.start", vm="driven")["state"] == "running"
    assert drive("vm.delete", vm="driven", force=True) == {}
    operations = drive("op.list")
    with drive.connect() as rpc:
        drive.called.add("op.cancel")
        reply = rpc.call("op.cancel", {"op": operations[0]["id"]})
        # One that has ended is as it was.
        assert reply.get("result", operations[0]) == operations[0]
    assert drive("daemon.stop") == {}


@pytest.mark.parametrize("client", [Rpc, SocatRpc], ids=["python", "socat"])
def test_raw_client_drives_every_method(banger, kernel_dir, rootfs_tar, client):
    banger.ok("ps")
    drive = Drive(banger, client)
    drive_daemon(drive)
    drive_store(drive)
    drive_catalogue(drive, kernel_dir, rootfs_tar)
    drive_templates(drive)
    drive_vm(drive)
    drive_events(drive)
    drive_sessions(drive)
    drive_files(drive)
    drive_end(drive)
    assert drive.called == set(protocol().methods), "a method without a step here"


# Every parameter -----------------------------------------------------------------------------------

EXAMPLES = [None, True, 7, 1.5, -3, "x", "", [], ["x"], [7], {}, {"x": "y"}, {"base64": "??"}]


def resolve(schema):
    name = schema.get("$ref", "").rpartition("/")[2]
    return protocol().document["components"]["schemas"][name] if name else schema


def example(schema):
    """A value that is valid, or nearly: the shortest string, the least number."""
    schema = resolve(schema)
    if "enum" in schema:
        return schema["enum"][0]
    if "pattern" in schema:
        return next(text for text in ("0" * 32, "2026-11-23T16:02:03.004Z")
                    if re.match(schema["pattern"], text))
    if "oneOf" in schema or "anyOf" in schema:
        return example(schema.get("oneOf", schema.get("anyOf"))[0])
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: example(schema["properties"][name]) for name in schema.get("required", [])}
    if kind == "array":
        return [example(schema["items"])] * schema.get("minItems", 0)
    return {"string": "x", "integer": schema.get("minimum", 0), "boolean": False}[kind]


def beyond_bounds(schema):
    """Values just outside of what a schema allows."""
    if "minimum" in schema:
        yield from (schema["minimum"] - 1, schema["maximum"] + 1)
    if "maxLength" in schema:
        yield "x" * (schema["maxLength"] + 1)
        yield from [""] * schema["minLength"]
    if "maxItems" in schema:
        yield ["x"] * (schema["maxItems"] + 1)
        yield from [[]] * (schema["minItems"] > 0)
    if "maxProperties" in schema:
        yield {f"name{n}": "x" for n in range(schema["maxProperties"] + 1)}
        yield {"": "x"}
        yield {"n" * 65: "x"}
        yield {"name": "v" * 257}
        yield {"name": 7}
    if "enum" in schema:
        yield from ("x" + schema["enum"][0], schema["enum"][0].upper(), "|".join(schema["enum"]))


def wrong_members(schema, where):
    """(object, what must be named) for each way to spoil an object of this schema."""
    good = example(schema)
    for name, member in schema["properties"].items():
        for value in wrong_values(member):
            yield good | {name: value}, name
        if name in schema["required"]:
            yield {k: v for k, v in good.items() if k != name}, name
        nested = resolve(member)
        if "properties" in nested:
            for value, inner in wrong_members(nested, name):
                yield good | {name: value}, inner
    for stranger in ("no such parameter", "\x1b[2J", ""):
        yield good | {stranger: 1}, where


def wrong_values(schema):
    validator = protocol().validator(schema)
    candidates = [*EXAMPLES, *beyond_bounds(resolve(schema)), 10**18]
    return [v for v in candidates if not validator.is_valid(v)]


def wrong_params(method):
    return list(wrong_members(protocol().params_schema(method), method))


def test_wrong_values_are_found_for_every_kind_of_parameter():
    """The generator's own test: it knows what the table says by hand elsewhere."""
    wrong = [params for params, _ in wrong_params("vm.create.begin")]
    for params in ({"vcpus": 0}, {"vcpus": 65}, {"vcpus": "x"}, {"vcpus": 1.5}, {"vmm": "xauto"},
                   {"name": "x" * 64}, {"name": ""}, {"labels": {"name": 7}}, {"start": 7},
                   {"main": {}}, {"main": []}, {"main": {"command": [7]}},
                   {"main": {"command": [], "tty": {"rows": 0, "columns": 1}}},
                   {"no such parameter": 1}):
        assert params in wrong, params
    assert {} in [params for params, _ in wrong_params("vm.show")]
    assert len(wrong) > 100


@pytest.mark.parametrize("method", sorted(protocol().methods))
def test_wrong_params_are_refused_and_named(shared, method):
    """Type, bounds, unknown and missing names: what the schema forbids, the daemon refuses."""
    cases = wrong_params(method)
    assert cases
    with shared.rpc() as rpc:
        for params, named in cases:
            reply = rpc.call(method, params)
            assert reply.get("error", {}).get("data", {}).get("code") == "invalid", (params, reply)
            assert f"'{named}'" in reply["error"]["message"], (params, reply)
            assert "\x1b" not in reply["error"]["message"]
        assert rpc.call("daemon.ping")["result"] == {}


@pytest.mark.parametrize("method", sorted(protocol().methods))
def test_misspelt_parameter_is_told_the_nearest(shared, method):
    schema = protocol().params_schema(method)
    with shared.rpc() as rpc:
        for name in [n for n in schema["properties"] if len(n) > 3]:
            params = copy.deepcopy(example(schema))
            params[name[:-1] + "_"] = 1
            error = rpc.call(method, params)["error"]
            assert error["data"]["hint"] == f"did you mean '{name}'?", error


# Odd lines -----------------------------------------------------------------------------------------

PING = b'{"jsonrpc":"2.0","id":%s,"method":"daemon.ping"}'


@pytest.mark.parametrize("number", [b"0", b"-1", b"9007199254740993", b"9223372036854775807",
                                    b"-9223372036854775808", b'"\\u0001\\ud83d\\ude00"', b'""'])
def test_id_comes_back_as_it_was(shared, number):
    with shared.rpc() as rpc:
        rpc.send_line(PING % number)
        assert json.loads(rpc.read_line())["id"] == json.loads(number)


@pytest.mark.parametrize("number", [b"null", b"true", b"1.5", b"1e3", b"[]", b"[1]", b"{}",
                                    b"9223372036854775808", b'"a\\u0000b"x', b"01", b"+1", b"NaN"])
def test_id_of_an_odd_type_is_refused(shared, number):
    with shared.rpc() as rpc:
        rpc.send_line(PING % number)
        reply = json.loads(rpc.read_line())
        assert reply["id"] is None and reply["error"]["data"]["code"] == "invalid", reply
        assert rpc.call("daemon.ping")["result"] == {}


@pytest.mark.parametrize("line", [
    b'{"jsonrpc":"2.0","id":1,"method":"vm.show","params":{"vm":"\xff"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"vm.show","params":{"vm":"\xed\xa0\x80"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"vm.show","params":{"vm":"\\ud800"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"vm.show","params":{"vm":"a","vm":"b"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"vm.show","params":{"vm":"a"}} {}',
    b'{"jsonrpc":"2.0","id":1,"method":"vm.show","params":{"vm":"a"},}',
    b'{"jsonrpc":"2.0","id":1,"method":"daemon.ping","params":' + b"[" * 40 + b"]" * 40 + b"}",
    b'{"jsonrpc":"2.0","id":1,"result":{},"method":"daemon.ping"}',
    b'{"jsonrpc":"2.0","id":1,"result":{}}',
    b'{"jsonrpc":2.0,"id":1,"method":"daemon.ping"}',
    b"", b" ", b"\0", b"\xef\xbb\xbf" + PING % b"1",
], ids=range(14))
def test_line_that_is_no_request_is_answered_with_invalid(shared, line):
    with shared.rpc() as rpc:
        rpc.send_line(line)
        assert json.loads(rpc.read_line())["error"]["data"]["code"] == "invalid"
        rpc.last_id = 100
        assert rpc.call("daemon.ping")["result"] == {}


def test_half_a_line_holds_nobody_up_and_does_nothing(shared):
    line = b'{"jsonrpc":"2.0","id":1,"method":"vm.delete","params":{"vm":"%s","force":true}}' % \
        SHARED_VM.encode()
    with shared.rpc() as rpc, shared.rpc() as other:
        rpc.socket.sendall(line)
        assert other.call("daemon.ping")["result"] == {}
        # The end of the connection is not the end of a line.
        rpc.socket.shutdown(socket.SHUT_WR)
        assert rpc.read_line() == b""
    assert call(shared, "vm.show", vm=SHARED_VM)["state"] == "running"


def test_pipelined_requests_are_all_answered_each_with_its_own_id(shared):
    methods = ["daemon.ping", "vm.list", "vm.ping", "vm.show", "session.list", "op.list",
               "image.list", "vm.wait"]
    params = {"vm.ping": {"vm": SHARED_VM}, "vm.show": {"vm": SHARED_VM},
              "session.list": {"vm": SHARED_VM}, "vm.wait": {"vm": SHARED_VM, "until": "running"}}
    requests = [{"jsonrpc": "2.0", "id": n, "method": methods[n % len(methods)],
                 "params": params.get(methods[n % len(methods)], {})} for n in range(200)]
    with shared.rpc() as rpc:
        rpc.send_bytes(b"".join(json.dumps(r).encode() + b"\n" for r in requests))
        replies = [json.loads(rpc.read_line()) for _ in requests]
    assert sorted(r["id"] for r in replies) == list(range(200))
    assert all("result" in r for r in replies)


def test_request_with_a_string_as_its_id_can_be_cancelled(shared):
    with shared.rpc() as rpc:
        rpc.send_line(json.dumps({"jsonrpc": "2.0", "id": "mine", "method": "vm.wait",
                                  "params": {"vm": SHARED_VM, "until": "deleted"}}).encode())
        cancel = rpc.request("rpc.cancel", {"id": "mine"})
        replies = {r["id"]: r for r in (json.loads(rpc.read_line()) for _ in range(2))}
        assert replies[cancel]["result"] == {"cancelled": True}
        assert replies["mine"]["error"]["data"]["code"] == "cancelled"


@needs_root
def test_other_users_are_hung_up_on_whatever_the_modes_say(shared, bare):
    """The socket's mode keeps them out, and if it did not, the daemon looks who is there."""
    bare.ok("ps")
    # `bare` is root's; another user's process reaches its socket once all modes are open.
    for path in (bare.root, bare.runtime_dir):
        os.chmod(path, 0o755)
    code = ("import os, socket, sys; os.setgid(%d); os.setuid(%d); s = socket.socket(socket.AF_UNIX)\n"
            "try:\n s.connect(sys.argv[1])\nexcept PermissionError:\n print('kept out'); sys.exit()\n"
            "try:\n s.sendall(b'{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.ping\"}\\n')\n"
            " print('answered' if s.recv(100) else 'hung up')\n"
            "except (BrokenPipeError, ConnectionResetError):\n print('hung up')\n") % (NOBODY, NOBODY)

    def stranger():
        done = subprocess.run(["/usr/bin/python3", "-c", code, str(bare.socket_path)],
                              stdout=subprocess.PIPE, check=True, timeout=60)
        return done.stdout.strip()

    assert stranger() == b"kept out"
    os.chmod(bare.socket_path, 0o666)
    assert stranger() == b"hung up"
    with bare.rpc() as rpc:
        assert rpc.call("daemon.ping")["result"] == {}
