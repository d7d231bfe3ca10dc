"""What a daemon with many VMs takes: listings, memory, its start, idle, creating, RPC.

The VMs are of the fake VMM (docs/HACKING.md), so that there can be a thousand: what is measured is
the daemon. Floors are made by bench-scale (scale.c).
"""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time

from measuring import Figure, FloorFailed, Series, floor, milliseconds

COUNT = 1000
QUICK_COUNT = 12
LISTINGS = 10
IDLE_SECONDS = 10
IDLE_QUICK_SECONDS = 1
PROGRAM = "banger-fakevmm"
# What `ps` asks of a VM (src/cli/cmd_vm.c).
COLUMNS = ("id", "name", "state", "reason", "image", "vcpus", "memory_mib", "created_at")


def name(i):
    return f"v{i}"


def private_dirty_mib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Private_Dirty:\s*(\d+) kB", text, re.M)[1]) / 1024


def cpu_ms(pid):
    """CPU time of a process and of all threads that it has had, without its children."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e6  # what clock_getcpuclockid(3) makes of it


def create(banger, vm):
    banger.ok("vm", "create", "--quiet", "--vmm", "fake", "--name", vm)


def delete(banger, vm):
    banger.ok("vm", "delete", "--force", vm)


def calls(banger, method, params, count, depth):
    return floor(banger, "calls", banger.socket_path, method, params, count, depth,
                 program="bench-scale")


# Listings --------------------------------------------------------------------------------------

class Echo:
    """A socket that answers each line that comes with the same text."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.listening.accept()
                with peer:
                    if peer.recv(4096):
                        peer.sendall(self.text)

    def close(self):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listening.close()
        self.path.unlink()


def measure_listing(banger, bench, count):
    table = banger.ok("ps", "-a").stdout
    if table.count(b"\n") != count + 1:
        raise FloorFailed(f"ps -a shows {table.count(10)} lines, and there are {count} VMs")
    # As many bytes as the daemon sends to `ps`: of a VM what its columns are made of.
    vms = [{k: vm[k] for k in COLUMNS} | {"image": {"name": vm["image"]["name"]}}
           for vm in banger.json("vm", "list")]
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "result": vms}, separators=(",", ":"))
    echo = Echo(banger.root / "echo", line.encode() + b"\n")
    try:
        raw = floor(banger, "spawn", bench.many(100), "--", banger.program("bench-scale"), "fetch",
                    echo.path, len(table), "--", banger.program(), "ps", "-a")
    finally:
        echo.close()
    bench.raw["ps -a"] = raw
    return Figure(f"banger ps -a, {count} VMs", milliseconds(raw["b_ms"]),
                  milliseconds(raw["a_ms"]), target=15, absolute=True)


# Start -----------------------------------------------------------------------------------------

class Daemon:
    """Starts the next daemon as the CLI does, and knows when it says that it serves."""

    def __init__(self, banger):
        self.banger = banger
        self.process = None

    def start(self):
        ready, theirs = os.pipe()
        with open(self.banger.state_dir / "bangerd.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.banger.program("bangerd"), "--ready-fd", str(theirs)], pass_fds=[theirs],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.banger.environment,
                cwd="/", start_new_session=True)
        os.close(theirs)
        with open(ready, "rb") as pipe:
            said = pipe.read()
        if said != b"ok\n":
            raise FloorFailed(f"bangerd did not start: {said.decode()}")

    def stop(self):
        self.banger.ok("daemon", "stop")
        if self.process:
            self.process.wait(60)


def call(banger, method):
    """One call on a connection of its own, without the schema's check: that takes its time."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(str(banger.socket_path))
        s.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            more = s.recv(1 << 20)
            if not more:
                raise FloorFailed(f"{method}: no answer")
            data += more
    return json.loads(data)["result"]


def vm_pids(banger):
    """Each fake VM is two processes: it, and its child, which keeps its commands."""
    found = set(banger.pids(PROGRAM))
    return sorted(pid for pid in found if parent(pid) not in found)


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def measure_start(banger, bench, daemon, count):
    pids = banger.root / "pids"
    pids.write_text("".join(f"{pid}\n" for pid in vm_pids(banger)))
    serves, reached, floors = [], [], []
    for _ in range(bench.many(7)):
        floors += floor(banger, "spawn", 1, "--", "/bin/true", "--", banger.program("bench-scale"),
                        "processes", pids)["b_ms"]
        daemon.stop()
        begin = time.monotonic()
        daemon.start()
        states = call(banger, "daemon.status")["vms"]
        serves.append(1000 * (time.monotonic() - begin))
        if states != {"running": count}:
            raise FloorFailed(f"not all were adopted: {states}")
        calls(banger, "vm.ping", '{"vm":"v%"}', count, 64)
        reached.append(1000 * (time.monotonic() - begin))
    bench.raw["start"] = {"serves_ms": serves, "floor_ms": floors}
    return [Figure(f"next daemon serves, {count} VMs adopted", milliseconds(serves, 0),
                   milliseconds(floors), target=500, absolute=True),
            Figure("  until each guest has answered a ping", milliseconds(reached, 0))]


# The rest --------------------------------------------------------------------------------------

def measure_idle(banger, bench):
    pid = banger.daemon_pid()
    shares = []
    for _ in range(bench.many(3)):
        begin, cpu = time.monotonic(), cpu_ms(pid)
        time.sleep(IDLE_QUICK_SECONDS if bench.quick else IDLE_SECONDS)
        shares.append((cpu_ms(pid) - cpu) / (time.monotonic() - begin) / 10)
    return Figure("daemon idle, of a core", Series(shares, "%", 3), target=0.5, absolute=True)


def measure_memory(banger, count):
    pid = banger.daemon_pid()
    before = private_dirty_mib(pid)
    for _ in range(LISTINGS):
        banger.ok("ps", "-a")
    after_ps = private_dirty_mib(pid)
    for _ in range(LISTINGS):
        banger.ok("vm", "list", "--format", "json")
    after = private_dirty_mib(pid)
    return [Figure(f"private dirty, {count} VMs{when}", Series([mib], "MiB", 2), target=16,
                   absolute=True)
            for when, mib in (("", before), (f", after {LISTINGS} of ps -a", after_ps),
                              (f", after {LISTINGS} of vm list --format json", after))]


def measure_creates(banger, bench):
    pid = banger.daemon_pid()
    each = bench.many(20)
    values = []
    for _ in range(bench.many(7)):
        cpu = cpu_ms(pid)
        for i in range(each):
            create(banger, f"more-{i}")
            delete(banger, f"more-{i}")
        values.append((cpu_ms(pid) - cpu) / each)
    return Figure("daemon's CPU time of a create and a delete", milliseconds(values, 2), target=3,
                  absolute=True)


def percentile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def measure_calls(banger, bench, count):
    figures = []
    for method, params in (("daemon.ping", "{}"), ("vm.ping", '{"vm":"v%"}')):
        for depth, what in ((1, "one by one"), (64, "64 at once")):
            rates, ends = [], []
            for _ in range(bench.many(7)):
                raw = calls(banger, method, params, count, min(depth, count))
                rates.append(1000 * count / raw["all_ms"])
                ends.append(1000 * percentile(raw["each_ms"], 0.99))
            figures += [Figure(f"{method}, {what}", Series(rates, "/s", 0)),
                        Figure(f"{method}, {what}, p99", Series(ends, "µs", 0))]
    return figures


def measure_scale(banger, bench):
    count = QUICK_COUNT if bench.quick else COUNT
    banger.environment["BANGER_FAKE_VMM"] = "1"
    banger.ok("daemon", "stop")
    daemon = Daemon(banger)
    daemon.start()
    try:
        for i in range(count):
            create(banger, name(i))
        figures = [measure_listing(banger, bench, count),
                   *measure_start(banger, bench, daemon, count),
                   measure_idle(banger, bench),
                   *measure_memory(banger, count),
                   measure_creates(banger, bench),
                   *measure_calls(banger, bench, count)]
        banger.ok("vm", "delete", "--force", *map(name, range(count)), timeout=300)
        left = banger.pids(PROGRAM)
        if left:
            raise FloorFailed(f"{len(left)} processes of deleted VMs are left")
    finally:
        banger.run("daemon", "stop")
        daemon.process.wait(60)
    return figures
