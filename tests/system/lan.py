"""A small internet for tests of networks: the host of a banger, which has an uplink to what is
beyond it. Each is a network namespace; what a test does in one, no other test sees.

    host      192.0.2.2, 2001:db8:1::2; its uplink is `up0`
    beyond    192.0.2.1, 198.51.100.10, 203.0.113.5; 2001:db8:1::1, 2001:db8:2::10
"""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading

CLONE_NEWNET = 0x40000000
HOST4, HOST6 = "192.0.2.2", "2001:db8:1::2"
WEB4, WEB6 = "198.51.100.10", "2001:db8:2::10"


def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def write_switch(name, value="0"):
    """In the namespace of the thread."""
    with open("/proc/sys/" + name.replace(".", "/"), "w", encoding="ascii") as file:
        file.write(value)


class Space:
    """A network namespace."""

    def __init__(self, name):
        self.name = f"bgt-{os.getpid()}-{name}"
        run("ip", "netns", "add", self.name)
        self.prefix = [shutil.which("nsenter"), f"--net=/run/netns/{self.name}", "--"]
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *argv):
        return run(*self.prefix, *argv)

    def call(self, function):
        """What a function returns, or raises, on a thread that is in there: sockets stay there."""
        results = []

        def inside():
            with open(f"/run/netns/{self.name}", "rb") as file:
                if ctypes.CDLL(None).setns(file.fileno(), CLONE_NEWNET) != 0:
                    raise OSError("setns")
            try:
                results.append((True, function()))
            except OSError as error:
                results.append((False, error))

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        good, value = results[0]
        if not good:
            raise value
        return value

    def state(self):
        """All that banger could have changed, as text."""
        return {what: self.run(*argv) for what, argv in {
            "links": ("ip", "-br", "link"), "addresses": ("ip", "-br", "addr"),
            "routes": ("ip", "route", "show", "table", "all"),
            "routes6": ("ip", "-6", "route", "show", "table", "all"),
            "rules": ("ip", "rule"), "rules6": ("ip", "-6", "rule"),
            "neighbours": ("ip", "neigh", "show", "nud", "permanent"),
            "nft": ("nft", "list", "ruleset"),
        }.items()}

    def remove(self):
        subprocess.run(["ip", "netns", "delete", self.name], check=False)


class Server:
    """Listens on TCP in a namespace; says to each client who it takes it for."""

    def __init__(self, space, address, port):
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = space.call(lambda: self._listen(address, port))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _listen(self, address, port):
        listener = socket.socket(self.family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(16)
        return listener

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, peer = self.socket.accept()
                with client, contextlib.suppress(OSError):
                    client.sendall(f"you are {peer[0]}\n".encode())

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


class Lan:
    """All of it."""

    def __init__(self):
        self.host, self.beyond = Space("host"), Space("beyond")
        self.servers = []
        self.host.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "down0",
                      "netns", self.beyond.name)
        self.host.run("ip", "addr", "add", f"{HOST4}/24", "dev", "up0")
        self.host.run("ip", "addr", "add", f"{HOST6}/64", "dev", "up0", "nodad")
        # Else they get one of their own a second later.
        self.host.run("ip", "link", "set", "up0", "addrgenmode", "none")
        self.beyond.run("ip", "link", "set", "down0", "addrgenmode", "none")
        self.host.run("ip", "link", "set", "up0", "up")
        for address in ("192.0.2.1/24", f"{WEB4}/32", "203.0.113.5/32"):
            self.beyond.run("ip", "addr", "add", address, "dev", "down0")
        for address in ("2001:db8:1::1/64", f"{WEB6}/128"):
            self.beyond.run("ip", "addr", "add", address, "dev", "down0", "nodad")
        self.beyond.run("ip", "link", "set", "down0", "up")
        self.host.run("ip", "route", "add", "default", "via", "192.0.2.1")
        self.host.run("ip", "-6", "route", "add", "default", "via", "2001:db8:1::1")
        # Not what this machine happens to have.
        for key in ("net.ipv4.ip_forward", "net.ipv4.conf.up0.forwarding",
                    "net.ipv4.conf.default.forwarding"):
            self.host.call(lambda key=key: write_switch(key))

    def serve(self, space, address, port=0):
        server = Server(space, address, port)
        self.servers.append(server)
        return server.port

    def remove(self):
        for server in self.servers:
            server.close()
        self.host.remove()
        self.beyond.remove()


class Nameserver:
    """Answers any question for an IPv4 address with one; keeps these questions. UDP, port 53."""

    def __init__(self, space, address, answer):
        self.questions = []
        self.answer = socket.inet_aton(answer)
        self.socket = space.call(lambda: self._bind(address))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @staticmethod
    def _bind(address):
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((address, 53))
        return bound

    @staticmethod
    def _name(query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        return ".".join(labels), query[at + 1:at + 3]

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                query, peer = self.socket.recvfrom(4096)
                if not query:
                    return
                name, kind = self._name(query)
                if kind == b"\0\x01":
                    self.questions.append(name)
                question = query[12:12 + len(name) + 2 + 4]
                record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + self.answer
                records = [record] if kind == b"\0\x01" else []
                self.socket.sendto(query[:2] + b"\x81\x80\0\x01" + bytes([0, len(records)]) +
                                   b"\0\0\0\0" + question + b"".join(records), peer)

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()
