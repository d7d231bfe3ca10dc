"""A daemon that a test scripts: real JSON-RPC and frames on a real socket, no VMs.

    with MockDaemon(path) as daemon:
        daemon.answers["vm.list"] = lambda params: [VM]
        daemon.session = lambda s: s.output(STDOUT, b"hello") or s.exit(0)

Unscripted methods answer not_found. `daemon.calls` has (method, params) of every request. Requests
and answers are held against the protocol's schema: the client is not tested with what no daemon
sends, unless a test says daemon.checks = False.
"""

import json
import os
import queue
import socket
import struct
import threading

import frames
from frames import Frame
from schema import protocol

VM_ID = "0123456789abcdef0123456789abcdef"
DIGEST = "sha256:" + "ab" * 32
TIME = "2026-11-23T16:02:03.004Z"
VM = {
    "id": VM_ID, "name": "quiet-fox", "state": "running", "reason": None, "state_since": TIME,
    "incarnation": 1, "image": {"name": "debian", "digest": DIGEST},
    "kernel": {"name": "debian-cloud", "digest": DIGEST},
    "vmm": {"name": "qemu", "version": "7.2.0", "accel": "tcg", "why": "accel in the configuration"},
    "vcpus": 1, "memory_mib": 512, "disk_bytes": 8 << 30, "pending": [], "init": "agent", "labels": {},
    "description": "",
    "network": {"mode": "none", "ipv4": None, "ipv6": None, "dns_name": None, "ports": []},
    "sessions": 1, "created_at": TIME, "started_at": TIME,
    "start": {"how": "boot", "template": None, "why": "it was to boot (cold)"},
    "exit": None, "auto_remove": False,
    "restart": "no", "restart_count": 0, "restart_at": None, "autostart": False,
    "auto_stop_after_ms": 0, "expires_after_ms": 0, "expires_at": None,
    "workspace": None, "timeline": [{"phase": "boot", "ms": 700}],
}
SESSION = {
    "id": "fedcba9876543210fedcba9876543210", "vm": VM_ID, "name": None, "state": "running",
    "command": ["true"], "command_shortened": False, "cwd": None, "user": "root", "tty": False,
    "stdin": "closed", "tags": {}, "exit": None, "error": None, "started_at": TIME,
    "ended_at": None, "readers": 0, "writer": False,
    "bytes": {"out": 0, "err": 0},
}
IMAGE = {"id": DIGEST, "digest": DIGEST, "names": ["debian"], "size_bytes": 300 << 20,
         "created_at": TIME, "managed": True, "config": {}}
KERNEL = {"id": "sha256:" + "cd" * 32, "digest": "sha256:" + "cd" * 32, "names": ["k"],
          "size_bytes": 30 << 20, "created_at": TIME, "version": "6.1.0"}
TEMPLATE = {"id": "a1b2c3d4e5f60718293a4b5c6d7e8f90", "image": {"name": "debian", "digest": DIGEST},
            "kernel": "sha256:" + "cd" * 32, "vmm": "qemu", "vcpus": 1, "memory_mib": 512,
            "disk_bytes": 8 << 30, "init": "agent", "tsc_khz": 2500000, "size_bytes": 90 << 20,
            "loaded": True, "pool_size": 1, "ready": 1, "uses": 3, "created_at": TIME, "used_at": TIME}
STATUS = {"pid": 1, "version": "1", "socket": "/run/banger/banger.sock",
          "state_dir": "/var/lib/banger", "dns": None, "web_url": None, "owner": 0,
          "helper": {"mode": "in process"}, "vms": {"running": 1}, "started_at": TIME,
          "network": {"mode": "none", "why": "x", "ipv4": None, "ipv6": None, "addresses": 0,
                      "addresses_used": 0, "taps_ready": 0, "taps_used": 0}}
CONFIGURATION = {
    "settings": [{"key": "accel", "value": "tcg", "default": "auto", "origin": "file",
                  "source": "/etc/banger/config.toml:1"},
                 {"key": "boot_slots", "value": 0, "default": 0, "origin": "default",
                  "source": None}],
    "paths": [{"key": "socket", "value": "/run/banger/banger.sock",
               "default": "/run/banger/banger.sock", "origin": "default", "source": None}],
}

TAKES_OVER = ("session.attach", "file.get", "file.put", "session.connect")


class RpcError(Exception):
    """What a scripted method raises to answer with an error."""

    def __init__(self, code, message, hint=None, number=None, op=None):
        super().__init__(message)
        self.object = {"code": number or protocol().errors[code], "message": message,
                       "data": {"code": code, "hint": hint, "op": op, "object": None}}


class Gone(Exception):
    """The client closed the connection."""


class Connection:
    """One client."""

    def __init__(self, daemon, sock):
        self.daemon = daemon
        self.socket = sock
        self.pending = b""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone from error

    def send_object(self, obj):
        self.send(json.dumps({"jsonrpc": "2.0"} | obj).encode() + b"\n")

    def notify(self, method, params):
        message = {"method": method, "params": params}
        if self.daemon.checks:
            protocol().check_notification({"jsonrpc": "2.0"} | message)
        self.send_object(message)

    def reply(self, method, answer):
        if self.daemon.checks:
            protocol().check_reply(method, {"jsonrpc": "2.0"} | answer)
        self.send_object(answer)

    def receive(self):
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self.pending += data

    def read_request(self):
        while b"\n" not in self.pending:
            self.receive()
        line, _, self.pending = self.pending.partition(b"\n")
        return json.loads(line)


class Session:
    """The daemon's end of an attached session."""

    def __init__(self, connection, window=64 * 1024):
        self.connection = connection
        self.sent = {frames.STDOUT: 0, frames.STDERR: 0}
        self.limit = {frames.STDOUT: 0, frames.STDERR: 0}
        self.acked = {frames.STDOUT: 0, frames.STDERR: 0}
        self.stdin = b""
        self.stdin_ended = False
        self.stdin_window = window
        self.signals = []
        self.sizes = []                 # (rows, columns) of each RESIZE
        self.windows = 0
        self.put(Frame(frames.STARTED, payload=struct.pack("<I", 42)))
        self.give_window()

    def put(self, frame):
        self.connection.send(frame.encode())

    def give_window(self):
        at = len(self.stdin)
        self.put(Frame(frames.WINDOW, channel=frames.STDIN, offset=at,
                       payload=struct.pack("<Q", at + self.stdin_window)))

    def step(self):
        """Takes one frame of the client's."""
        while True:
            frame, size = frames.decode(self.connection.pending)
            if frame:
                break
            self.connection.receive()
        self.connection.pending = self.connection.pending[size:]
        assert frame.stream == 0, frame
        if frame.kind == frames.WINDOW:
            limit, = struct.unpack("<Q", frame.payload)
            assert frame.offset >= self.acked[frame.channel], frame
            assert frame.offset <= self.sent[frame.channel], frame
            assert limit - frame.offset <= 1024 * 1024, frame
            self.acked[frame.channel] = frame.offset
            self.limit[frame.channel] = limit
            self.windows += 1
        elif frame.kind == frames.DATA:
            assert frame.channel == frames.STDIN and frame.offset == len(self.stdin), frame
            assert not self.stdin_ended
            self.stdin += frame.payload
            self.give_window()
        elif frame.kind == frames.END:
            assert frame.offset == len(self.stdin), frame
            self.stdin_ended = True
        elif frame.kind == frames.SIGNAL:
            self.signals.append(struct.unpack("<I", frame.payload)[0])
        elif frame.kind == frames.RESIZE:
            self.sizes.append(struct.unpack("<HH", frame.payload))
        else:
            raise AssertionError(f"unexpected {frame}")
        return frame

    def output(self, channel, data):
        """Sends all of data as the client's windows allow."""
        while data:
            room = self.limit[channel] - self.sent[channel]
            if not room:
                self.step()
                continue
            piece = data[:min(room, frames.PAYLOAD_MAX)]
            self.put(Frame(frames.DATA, channel=channel, offset=self.sent[channel], payload=piece))
            self.sent[channel] += len(piece)
            data = data[len(piece):]

    def read_stdin(self):
        while not self.stdin_ended:
            self.step()
        return self.stdin

    def read_stdin_until(self, data):
        while data not in self.stdin:
            self.step()
        return self.stdin

    def await_size(self, rows, columns):
        while not self.sizes or self.sizes[-1] != (rows, columns):
            self.step()

    def await_signal(self, number):
        while number not in self.signals:
            self.step()

    def end(self):
        for channel in (frames.STDOUT, frames.STDERR):
            self.put(Frame(frames.END, channel=channel, offset=self.sent[channel]))

    def exit(self, status, killed=False):
        self.end()
        self.put(Frame(frames.EXITED, payload=struct.pack("<BI", int(killed), status)))

    def fail(self, status, text):
        self.put(Frame(frames.FAILED, payload=struct.pack("<II", status, 2) + text.encode()))


class Operation:
    """An operation that is done at once, or, with `done` replaced, when the test says so."""

    def __init__(self, result, stages=("boot",), error=None, note=None):
        self.id = "00112233445566778899aabbccddeeff"
        self.result, self.stages, self.error, self.note = result, stages, error, note
        self.cancelled = threading.Event()
        self.waits_for_cancel = False
        self.outlives_cancel = False
        self.cancelled_state = "cancelled"
        self.watched = queue.Queue()

    def show(self, state="running", stage=None):
        return {"id": self.id, "kind": "vm.create", "target": "quiet-fox", "state": state,
                "stage": stage or self.stages[0],
                "stages": [{"name": s, "ms": 1, "bytes": 0, "total": 0} for s in self.stages],
                "message": self.note, "error": self.error if state in ("failed", "cancelled") else None,
                "result": self.result if state == "done" else None}

    def watch(self, connection):
        for stage in self.stages:
            connection.notify("op.progress", self.show(stage=stage))
        self.watched.put(True)
        if self.outlives_cancel:
            threading.Event().wait(60)
        if self.waits_for_cancel:
            assert self.cancelled.wait(60)
            self.error = RpcError("cancelled", "boot: Operation canceled").object
            return self.show(self.cancelled_state)
        return self.show("failed" if self.error else "done")


class MockDaemon:
    """Listens on path until the with statement ends."""

    def __init__(self, path, raw=None):
        self.path = path
        self.raw = raw          # fn(connection): what to do instead of JSON-RPC
        self.pages = False      # whether vm.list's answer is for any page, not only for the first
        self.checks = True      # whether answers must keep the protocol
        self.answers = {}       # method -> fn(params) -> result
        self.session = None     # fn(Session): the attached session's life
        self.operation = None
        self.calls = []
        self.failures = []
        self.threads = []
        self.sockets = []

    def __enter__(self):
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        os.chmod(self.path, 0o600)
        self.listener.listen(64)
        self._thread(self._accept)
        return self

    def __exit__(self, kind, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(10)
        self.path.unlink(missing_ok=True)
        assert kind or not self.failures, self.failures

    def called(self, method):
        return [params for m, params in self.calls if m == method]

    def _thread(self, fn, *args):
        thread = threading.Thread(target=fn, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.sockets.append(sock)
            self._thread(self._serve, Connection(self, sock))

    def _serve(self, connection):
        try:
            if self.raw:
                self.raw(connection)
            while True:
                self._answer(connection, connection.read_request())
        except Gone:
            pass
        except Exception as error:  # pylint: disable=broad-except
            self.failures.append(repr(error))
        finally:
            connection.socket.close()

    def _answer(self, connection, request):
        method, params = request["method"], request["params"]
        self.calls.append((method, params))
        if self.checks:
            protocol().check_params(method, params)
        # As the daemon does, so that cancelling reaches an operation that is being watched.
        if method == "op.watch" and method not in self.answers:
            self._thread(self._watch, connection, request)
            return
        try:
            result = self._result(method, params)
        except RpcError as error:
            connection.reply(method, {"id": request["id"], "error": error.object})
            return
        connection.reply(method, {"id": request["id"], "result": result})
        if method in TAKES_OVER:
            session = Session(connection)
            self.session(session)
            while True:
                session.step()

    def _watch(self, connection, request):
        try:
            connection.reply("op.watch", {"id": request["id"],
                                          "result": self.operation.watch(connection)})
        except Gone:
            pass
        except Exception as error:  # pylint: disable=broad-except
            self.failures.append(repr(error))
            connection.socket.shutdown(socket.SHUT_RDWR)

    def _result(self, method, params):
        if method == "vm.list" and "after" in params and not self.pages:
            return []
        if method in self.answers:
            return self.answers[method](params)
        if method.endswith(".begin") and self.operation:
            return self.operation.show()
        if method == "op.cancel" and self.operation:
            self.operation.cancelled.set()
            return self.operation.show()
        if method in ("session.start", *TAKES_OVER) and self.session:
            return SESSION
        if method == "vm.wait":
            return {}
        raise RpcError("not_found", f"nothing is scripted for {method}")
