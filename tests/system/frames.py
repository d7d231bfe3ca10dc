"""The frames between host and guest agent (src/codec/frame.h), and a small host that speaks them.

Client drives an agent over any connected stream socket: of a socketpair, or of a guest's port.
"""

import fcntl
import ipaddress
import os
import select
import socket
import struct
import termios
import time

MAGIC = 0xB5
HEADER = struct.Struct("<BBBBIQI")
TRAILER = struct.pack("<I", 0x5DA7C3E1)
FRAME_MAX = 16384
PAYLOAD_MAX = FRAME_MAX - HEADER.size - len(TRAILER)
NONCE_SIZE = 16

HELLO, HELLO_OK, FATAL, PING, PONG = 1, 2, 3, 4, 5
CONFIGURE, SYNC, POWEROFF, REPLY, GOING_DOWN, GROW = 8, 9, 10, 11, 12, 13
EXEC, SIGNAL, RESIZE, ATTACH, RELEASE = 16, 17, 18, 19, 20
STARTED, FAILED, EXITED, SESSION = 24, 25, 26, 27
DATA, END, WINDOW = 32, 33, 34

STDIN, STDOUT, STDERR = 0, 1, 2
RUNNING, STATE_EXITED, STATE_FAILED = 1, 2, 3
MORE = 1

TAG_ARG, TAG_ENV, TAG_CWD, TAG_USER, TAG_STDIN, TAG_TTY, TAG_RECORD = 1, 2, 3, 4, 5, 6, 7
TAG_HOSTNAME, TAG_TIME, TAG_ENTROPY, TAG_MACHINE_ID, TAG_BOOT_ID, TAG_INIT = 16, 17, 18, 19, 20, 21
TAG_NETWORK, TAG_RESOLVER = 22, 23

WINDOW_BYTES = 256 * 1024
ACK_EVERY = 65536


class Frame:
    """One frame; the payload is bytes."""

    def __init__(self, kind, stream=0, payload=b"", channel=0, offset=0, flags=0):
        self.kind, self.stream, self.payload = kind, stream, bytes(payload)
        self.channel, self.offset, self.flags = channel, offset, flags

    def __repr__(self):
        return (f"Frame(kind={self.kind}, stream={self.stream}, channel={self.channel}, "
                f"offset={self.offset}, flags={self.flags}, payload={self.payload[:60]!r})")

    def encode(self):
        return HEADER.pack(MAGIC, self.kind, self.channel, self.flags, self.stream, self.offset,
                           len(self.payload)) + self.payload + TRAILER


def decode(data):
    """Returns (frame, size), or (None, 0) when more bytes are needed; ValueError: no frame."""
    if data and data[0] != MAGIC:
        raise ValueError("bad magic")
    if len(data) < HEADER.size:
        return None, 0
    _, kind, channel, flags, stream, offset, length = HEADER.unpack_from(data)
    if length > PAYLOAD_MAX or channel > STDERR or flags & ~MORE:
        raise ValueError("bad header")
    size = HEADER.size + length + len(TRAILER)
    if len(data) < size:
        return None, 0
    if data[size - len(TRAILER):size] != TRAILER:
        raise ValueError("bad trailer")
    return Frame(kind, stream, data[HEADER.size:HEADER.size + length], channel, offset,
                 flags), size


def tlv(tag, value):
    return struct.pack("<BI", tag, len(value)) + value


def network(ipv4, gateway4, ipv6, mac, gateway_mac, mtu):
    """The value of a TAG_NETWORK; None: zeros."""
    def packed(address, size):
        return bytes(size) if address is None else ipaddress.ip_address(address).packed

    return (packed(ipv4, 4) + packed(gateway4, 4) + packed(ipv6, 16) +
            bytes.fromhex((mac or "00" * 6).replace(":", "")) +
            bytes.fromhex((gateway_mac or "00" * 6).replace(":", "")) + struct.pack("<H", mtu))


def exec_body(argv, env=(), cwd=None, user=None, stdin=False, tty=None, record=None):
    """The TLVs of an EXEC. Strings or bytes; tty is (rows, columns)."""
    body = b"".join(tlv(TAG_ARG, os.fsencode(a)) for a in argv)
    body += b"".join(tlv(TAG_ENV, os.fsencode(e)) for e in env)
    if cwd is not None:
        body += tlv(TAG_CWD, os.fsencode(cwd))
    if user is not None:
        body += tlv(TAG_USER, os.fsencode(user))
    body += tlv(TAG_STDIN, bytes([1 if stdin else 0]))
    if tty:
        body += tlv(TAG_TTY, struct.pack("<HH", *tty))
    if record is not None:
        body += tlv(TAG_RECORD, record)
    return body


def body_frames(kind, stream, body):
    pieces = [body[i:i + PAYLOAD_MAX] for i in range(0, len(body), PAYLOAD_MAX)] or [b""]
    return [Frame(kind, stream, p, flags=MORE if i < len(pieces) - 1 else 0)
            for i, p in enumerate(pieces)]


class Listing:
    """What an agent tells a new host of a session."""

    def __init__(self, payload):
        self.state, killed, value, *offsets = struct.unpack_from("<BBI5Q", payload)
        self.status = -value if killed else value
        self.stdin = offsets[0]
        self.held = {STDOUT: tuple(offsets[1:3]), STDERR: tuple(offsets[3:5])}
        self.record = payload[46:]


class Session:
    """What the client knows of one session."""

    def __init__(self, number):
        self.number = number
        self.pid = None
        self.failed = None              # (status, errno, text)
        self.exited = None              # exit status, or -signal
        self.told = None                # the same, as it comes ahead of the output
        self.output = {STDOUT: bytearray(), STDERR: bytearray()}
        self.received = {STDOUT: 0, STDERR: 0}
        self.ended = {STDOUT: False, STDERR: False}
        self.window = {STDOUT: 0, STDERR: 0}
        self.on_data = None             # called with (channel, bytes) instead of collecting
        self.auto_window = True
        self.stdin_limit = 0
        self.stdin_acked = 0
        self.stdin_sent = 0

    @property
    def stdout(self):
        return bytes(self.output[STDOUT])

    @property
    def stderr(self):
        return bytes(self.output[STDERR])

    @property
    def over(self):
        return self.exited is not None or self.failed is not None


class Client:
    """A host. Every wait has a deadline; every frame of the agent is checked on arrival."""

    def __init__(self, sock, timeout=10):
        self.sock = sock
        self.sock.setblocking(False)
        self.timeout = timeout
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.sessions = {}
        self.other = []                 # frames that belong to no session
        self.log = []                   # every (kind, stream) in order of arrival
        self.next_number = 1
        self.closed = False
        self.listed = {}

    # Bytes

    def send(self, *frames):
        self.send_bytes(b"".join(f.encode() for f in frames))

    def send_bytes(self, data):
        self.outgoing += data
        self._flush()

    def _flush(self):
        while self.outgoing:
            try:
                n = self.sock.send(self.outgoing[:262144])
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                self.closed = True
                return
            del self.outgoing[:n]

    def pump(self, timeout):
        """Moves bytes once; returns whether anything came."""
        readable, writable, _ = select.select(
            [self.sock], [self.sock] if self.outgoing else [], [], timeout)
        if writable:
            self._flush()
        if not readable:
            return False
        try:
            data = self.sock.recv(262144)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return False
        self.incoming += data
        return True

    def unread(self):
        """Bytes that wait in the socket."""
        return struct.unpack("i", fcntl.ioctl(self.sock, termios.FIONREAD, bytes(4)))[0]

    def next_frame(self):
        """Takes one frame out of what has come, or None."""
        frame, size = decode(self.incoming)
        if frame:
            del self.incoming[:size]
            self.log.append((frame.kind, frame.stream))
        return frame

    def wait(self, condition, timeout=None, what="the agent"):
        """Handles frames until condition() is true."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            while True:
                if condition():
                    return
                frame = self.next_frame()
                if not frame:
                    break
                self._handle(frame)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer of {what} in time")
            if self.closed:
                raise EOFError(f"the connection has ended, waiting for {what}")
            self.pump(left)

    def wait_other(self, kind, stream=0, timeout=None):
        found = []

        def match():
            for f in self.other:
                if f.kind == kind and f.stream == stream:
                    found.append(f)
                    self.other.remove(f)
                    return True
            return False
        self.wait(match, timeout, f"frame {kind}")
        return found[0]

    # The link

    def hello(self, low=1, high=1, timeout=None):
        """Says HELLO and finds the answer, whatever lies before it. Returns {session: state};
        more of each is in self.listed."""
        nonce = os.urandom(NONCE_SIZE)
        head = bytes([MAGIC, HELLO_OK]) + bytes(14)
        self.send_bytes(bytes(FRAME_MAX))
        self.send(Frame(HELLO, payload=nonce + struct.pack("<HH", low, high)))
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            at = self.incoming.find(nonce)
            if at >= HEADER.size and self.incoming[at - HEADER.size:].startswith(head):
                del self.incoming[:at - HEADER.size]
                break
            if self.incoming.startswith(bytes([MAGIC, FATAL])):
                frame, size = decode(self.incoming)
                if frame:
                    del self.incoming[:size]
                    raise RuntimeError(frame.payload.decode())
            if time.monotonic() > deadline or self.closed:
                raise TimeoutError("no HELLO_OK")
            self.pump(0.2)
        self.wait(lambda: decode(self.incoming)[0] is not None)
        frame = self.next_frame()
        self.version, count = struct.unpack_from("<HI", frame.payload, NONCE_SIZE)
        self.agent_version = frame.payload[NONCE_SIZE + 6:].decode()
        states = {}
        self.listed = {}
        while len(states) < count:
            self.wait(lambda: decode(self.incoming)[0] is not None)
            frame = self.next_frame()
            assert frame.kind == SESSION, frame
            states[frame.stream] = frame.payload[0]
            self.listed[frame.stream] = Listing(frame.payload)
        self.next_number = max([self.next_number, *(n + 1 for n in states)])
        return states

    def ping(self, payload=b"ping", timeout=None):
        self.send(Frame(PING, stream=7, payload=payload))
        assert self.wait_other(PONG, 7, timeout).payload == payload

    def request(self, kind, payload=b"", stream=77, timeout=None):
        """Sends a request; returns (errno, text) of its reply."""
        self.send(Frame(kind, stream, payload))
        reply = self.wait_other(REPLY, stream, timeout)
        return struct.unpack_from("<I", reply.payload)[0], reply.payload[4:].decode("latin-1")

    # Sessions

    def start(self, argv, window=WINDOW_BYTES, **options):
        """Sends an EXEC and opens the windows; does not wait."""
        session = Session(self.next_number)
        self.next_number += 1
        self.sessions[session.number] = session
        frames = body_frames(EXEC, session.number, exec_body(argv, **options))
        session.window_size = window
        self.send(*frames, *self._window_frames(session))
        return session

    def attach(self, session):
        """After a break: goes on where the session object stands."""
        session.ended = {STDOUT: False, STDERR: False}
        session.pid = session.exited = None
        self.sessions[session.number] = session
        session.window = {STDOUT: 0, STDERR: 0}
        self.send(Frame(ATTACH, session.number), *self._window_frames(session))

    def _window_frames(self, session):
        frames = []
        for channel in (STDOUT, STDERR):
            limit = session.received[channel] + session.window_size
            if limit - session.window[channel] >= max(1, min(session.window_size // 2, ACK_EVERY)):
                session.window[channel] = limit
                frames.append(self.window_frame(session, channel, limit))
        return frames

    @staticmethod
    def window_frame(session, channel, limit):
        return Frame(WINDOW, session.number, struct.pack("<Q", limit), channel,
                     session.received[channel])

    def _handle(self, frame):
        session = self.sessions.get(frame.stream)
        if frame.kind < EXEC or session is None:
            self.other.append(frame)
            return
        if frame.kind == STARTED:
            assert session.pid is None
            session.pid = struct.unpack("<I", frame.payload)[0]
        elif frame.kind == FAILED:
            status, errno = struct.unpack_from("<II", frame.payload)
            session.failed = (status, errno, frame.payload[8:].decode())
        elif frame.kind == DATA:
            self._data(session, frame)
        elif frame.kind == END:
            assert not session.ended[frame.channel], frame
            assert frame.offset == session.received[frame.channel], frame
            session.ended[frame.channel] = True
        elif frame.kind == EXITED:
            assert session.ended[STDOUT] and session.ended[STDERR], frame
            killed, value = struct.unpack("<BI", frame.payload)
            session.exited = -value if killed else value
            assert session.told in (None, session.exited), frame
        elif frame.kind == SESSION:
            state, killed, value = struct.unpack("<BBI", frame.payload)
            assert state == STATE_EXITED and session.told is None, frame
            session.told = -value if killed else value
        elif frame.kind == WINDOW:
            assert frame.channel == STDIN
            limit = struct.unpack("<Q", frame.payload)[0]
            assert limit >= session.stdin_limit and frame.offset >= session.stdin_acked
            session.stdin_limit, session.stdin_acked = limit, frame.offset
        else:
            raise AssertionError(f"unexpected {frame}")

    def _data(self, session, frame):
        channel = frame.channel
        assert session.pid is not None and not session.ended[channel], frame
        assert frame.payload and frame.offset == session.received[channel], frame
        session.received[channel] += len(frame.payload)
        assert session.received[channel] <= session.window[channel], "beyond the window"
        if session.on_data:
            session.on_data(channel, frame.payload)
        else:
            session.output[channel] += frame.payload
        if session.auto_window:
            self.send(*self._window_frames(session))

    def write(self, session, data, end=True):
        """Sends stdin as the agent's window allows, handling what comes meanwhile."""
        data = memoryview(data)
        while data:
            self.wait(lambda: session.stdin_limit > session.stdin_sent or session.over,
                      what="window for stdin")
            if session.over:
                return
            n = min(len(data), PAYLOAD_MAX, session.stdin_limit - session.stdin_sent)
            self.send(Frame(DATA, session.number, data[:n], STDIN, session.stdin_sent))
            session.stdin_sent += n
            data = data[n:]
        if end:
            self.send(Frame(END, session.number, b"", STDIN, session.stdin_sent))

    def finish(self, session, timeout=None, release=True):
        """Waits for the end; returns the exit status, or -signal."""
        self.wait(lambda: session.over, timeout, "a command")
        if release:
            self.release(session)
        return session.failed[0] if session.failed else session.exited

    def release(self, session):
        self.send(Frame(RELEASE, session.number))
        self.sessions.pop(session.number, None)

    def run(self, argv, stdin=None, timeout=None, **options):
        """Runs a command to its end; returns its Session."""
        session = self.start(argv, stdin=stdin is not None, **options)
        if stdin is not None:
            self.write(session, stdin)
        self.finish(session, timeout)
        return session

    def signal(self, session, number):
        self.send(Frame(SIGNAL, session.number, struct.pack("<I", number)))

    def resize(self, session, rows, columns):
        self.send(Frame(RESIZE, session.number, struct.pack("<HH", rows, columns)))

    def close(self):
        self.sock.close()


def connect(path, timeout=10):
    """A client of the guest port behind this Unix socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    sock.connect(os.fspath(path))
    return Client(sock, timeout)
