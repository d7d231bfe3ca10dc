#!/usr/bin/python3
"""Measures banger's speed against floors; `make bench` is this. It never says pass or fail.

A floor is the least that gives the same result, made by the program build/bench-floor (floor.c).
Floor and banger run in turn in the same call, so that both see the same machine; a figure is the
ratio of each such pair: its median and, in brackets, the least and the most. Where a target is
absolute, the figure itself is what counts.

What is measured (docs/PERFORMANCE.md says how to read it):
  cold      banger run --rm --quiet -- true, until the VM and its QEMU are gone, against the same
            QEMU started by hand until its agent has run the same command and it is reaped
  ping      vm.ping through the daemon against the same frames straight on a guest's agent port
  version   banger version against /bin/true
  memory    what is private and dirty of an idle daemon
  phases    where the time of a start goes, from the VM's own timeline
  exec      banger exec VM -- true against fork, exec and wait within the guest
  streams   bytes out of and into exec against the same through the bare port, by blocking calls
  cp        one large file and a tree of small ones, both ways, against tar through the bare port
  fairness  an echo beside a command that prints without end and 48 others
  imports   kernel import and image register
  forks     VMs that are forked from a template: from the pool, by restore, many at once
  density   300 VMs alive together
  scale     a daemon with 1,000 VMs of the fake VMM: listings, memory, its start, idle, RPC

Usage: bench.py [--only NAME[,NAME...]] [--pairs N] [--quick] [--full-size] [--json FILE]
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "system"))

import rootfs  # noqa: E402
from banger import IMAGE, KERNEL, Instance  # noqa: E402
from forks import measure_density, measure_forks  # noqa: E402
from line import Line  # noqa: E402
from measuring import (FLOOR_SECONDS, Figure, FloorFailed, Series, floor, load,  # noqa: E402
                       machine, milliseconds, table)
from scale import measure_scale  # noqa: E402

CACHE = ROOT / ".cache"
BUSYBOX = CACHE / "busybox" / "bin" / "busybox"
DEBIAN_TAR = CACHE / "debian.tar"  # there after `make try`
# It probes for KVM once, as out of the box; what boots is measured, but for the forks.
CONFIG = 'templates = "off"\n'
QUICK_PAIRS = 1


# Measurements: each takes the bench and returns figures ------------------------------------------

class Bench:
    """One run: an instance of banger with kernel and image, and how much to measure."""

    def __init__(self, instance, pairs, quick, full_size=False):
        self.instance = instance
        self.pairs = pairs
        self.quick = quick
        self.full_size = full_size
        self.raw = {}
        self.problems = []
        self.accel = ""

    def many(self, count):
        return 2 if self.quick else count

    @contextlib.contextmanager
    def vm(self, name, *options):
        self.instance.ok("vm", "create", "--quiet", "--name", name, *options, timeout=120)
        try:
            yield name
        finally:
            self.instance.run("vm", "delete", "--force", name, timeout=60)

    def line(self, *options):
        with self.vm("line", *options) as vm:
            self.accel = self.instance.json("vm", "show", vm)["vmm"]["accel"]
            return Line(self.instance, vm)


def measure_cold(bench):
    banger = bench.instance
    line = bench.line()
    floors, runs = [], []
    command = [banger.program(), "run", "--rm", "--quiet", "--", "true"]

    def by_hand():
        floors.append(floor(banger, "boot", *line.arguments()))

    def by_banger():
        runs.append(floor(banger, "run", banger.vmm_parent_pid(), "--", *command))
        left = banger.run("vm", "list", "-q").out
        if left:
            raise FloorFailed(f"the VM is still listed: {left}")

    for i in range(bench.pairs):
        # A B B A: neither is always the one that comes after the other.
        for start in (by_hand, by_banger) if i % 2 == 0 else (by_banger, by_hand):
            start()
        if runs[-1]["status"] != 0 or floors[-1]["status"] != 0:
            raise FloorFailed(f"'true' has failed: {floors[-1]} {runs[-1]}")
    bench.raw["boot"], bench.raw["run"] = floors, runs
    return [Figure("cold run --rm -- true", milliseconds((r["gone_ms"] for r in runs), 0),
                   milliseconds((f["reaped_ms"] for f in floors), 0), target=1.10),
            Figure("of that floor: until the agent answers",
                   milliseconds((f["hello_ms"] for f in floors), 0))]


def measure_ping(bench):
    banger = bench.instance
    line = bench.line()
    with bench.vm("pinged") as vm:
        raw = floor(banger, "ping", banger.socket_path, vm, bench.many(40), bench.many(200),
                    *line.arguments())
    bench.raw["ping"] = raw

    def us(name):
        return Series((1000 * v for v in raw[name]), "µs", 0)

    return [Figure("vm.ping", us("vm_ping_ms"), us("agent_ms"), target=1.3),
            Figure("vm.ping, one straight after the other", us("vm_ping_burst_ms"),
                   us("agent_burst_ms")),
            Figure("daemon.ping (no guest)", us("daemon_ping_ms"))]


def measure_version(bench):
    banger = bench.instance
    raw = floor(banger, "spawn", bench.many(200), "--", "/bin/true", "--", banger.program(),
                "version")
    bench.raw["version"] = raw
    return [Figure("banger version", milliseconds(raw["b_ms"], 2), milliseconds(raw["a_ms"], 2),
                   target=5, absolute=True)]


def private_dirty_mib(banger):
    """Of all processes of the daemon."""
    kib = 0
    for pid in banger.pids("bangerd") + banger.pids("banger-helper"):
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        kib += int(re.search(r"^Private_Dirty:\s*(\d+) kB", text, re.M)[1])
    return kib / 1024


def run_at_once(banger, count):
    children = [banger.spawn("run", "--rm", "--quiet", "--", "true") for _ in range(count)]
    for child in children:
        if child.finish(300).returncode:
            raise FloorFailed("one of the VMs at once has failed")


def measure_memory(bench):
    banger = bench.instance
    many = bench.many(20)
    fresh, once, crowd = [], [], []
    for _ in range(1 if bench.quick else 3):
        if banger.daemon_pid():
            banger.ok("daemon", "stop")
        banger.ok("image", "list")
        fresh.append(private_dirty_mib(banger))
        with bench.vm("once"):
            pass
        once.append(private_dirty_mib(banger))
        run_at_once(banger, many)
        crowd.append(private_dirty_mib(banger))
    return [Figure(f"daemon idle, private dirty: {when}", Series(values, "MiB", 2), target=5,
                   absolute=True)
            for when, values in (("after its start", fresh), ("after one VM", once),
                                 (f"after {many} VMs at once", crowd))]


def measure_phases(bench):
    phases = {}
    for i in range(bench.many(5)):
        with bench.vm(f"phases-{i}") as vm:
            for phase in bench.instance.json("vm", "show", vm)["timeline"]:
                phases.setdefault(phase["phase"], []).append(phase["ms"])
    return [Figure(f"start: {name}", milliseconds(values, 0)) for name, values in phases.items()]


def put_floor(banger, vm):
    with open(banger.program("guest-floor"), "rb") as program:
        banger.ok("exec", "-i", vm, "--", "sh", "-c", "cat >/floor; chmod 755 /floor",
                  stdin=program.read())


def measure_exec(bench):
    banger = bench.instance
    with bench.vm("executing") as vm:
        put_floor(banger, vm)
        own = banger.ok("exec", vm, "--", "/floor", "spawn", str(bench.many(50)), "true").out
        raw = floor(banger, "spawn", bench.many(50), "--", "/bin/true", "--", banger.program(),
                    "exec", vm, "--", "true")
    bench.raw["exec"] = raw
    return [Figure("banger exec VM -- true", milliseconds(raw["b_ms"], 2),
                   milliseconds(map(float, own.split()), 2))]


STREAM_BYTES = 64 * 1024 * 1024


def speed(milliseconds_, count, digits=0):
    return Series((count / 1000 / ms for ms in milliseconds_), "MB/s", digits)


def measure_streams(bench):
    banger = bench.instance
    line = bench.line()
    pieces = 16 if bench.quick else STREAM_BYTES >> 16
    count = pieces << 16
    with bench.vm("streaming") as vm:
        # The same program makes and takes the bytes on both sides.
        put_floor(banger, vm)
        exec_ = [banger.program(), "exec"]
        raw = floor(banger, bench.many(10), count,
                    *line.arguments(init=banger.program("guest-floor")),
                    "--out", *exec_, vm, "--", "/floor", "produce", str(count),
                    "--in", *exec_, "-i", vm, "--", "/floor", "consume", str(count),
                    program="bench-stream")
    bench.raw["streams"] = raw
    return [Figure(f"bytes {what} exec, {floor_}", speed(raw[f"{way}_ms"], count),
                   speed(raw[f"{kind}_{way}_ms"], count), target=0.7, least=True)
            for way, what in (("out", "out of"), ("in", "into"))
            for kind, floor_ in (("raw", "bare port"), ("pipe", "port behind a pipe"))]


SMALL_BYTES = 4096
SMALL_PER_DIRECTORY = 100


def make_tree(path, count, size):
    """`count` files of `size` bytes that are not zeros, so that none is a hole."""
    for i in range(count):
        directory = path / f"d{i // SMALL_PER_DIRECTORY}"
        directory.mkdir(parents=True, exist_ok=True)
        with open(directory / f"f{i}", "wb") as f:
            for done in range(0, size, 1 << 20):
                f.write(os.urandom(min(1 << 20, size - done)))


def measure_copies(bench, line, vm, count, size):
    """Both ways, in turn with tar; both guests keep the files in a tmpfs of the same size."""
    banger = bench.instance
    here = banger.root / "copies"
    tree, tar, by_tar, by_banger = here / "tree", here / "tar", here / "by-tar", here / "by-banger"
    make_tree(tree, count, size)
    # Numbers only: the guest's tar would look every file's owner up by name, in files it has not.
    subprocess.run(["tar", "--numeric-owner", "-cf", tar, "-C", here, "tree"], check=True)
    program = banger.program()
    clean = f"rm -rf {by_tar} {by_banger} && mkdir {by_tar} && " \
            f"{program} exec {vm} -- rm -rf /files/tree"
    return floor(banger, 1 if bench.quick else 2 if bench.full_size else 7, tar,
                 *line.arguments(init=banger.program("guest-floor"), files={"busybox": BUSYBOX}),
                 "--clean", "sh", "-c", clean,
                 "--in", program, "cp", "-r", tree, f"{vm}:/files/tree",
                 "--out", program, "cp", "-r", f"{vm}:/files/tree", by_banger,
                 "--unpack", "tar", "-xf", "-", "-C", by_tar,
                 program="bench-copy", seconds=3600 if bench.full_size else FLOOR_SECONDS)


def measure_cp(bench):
    banger = bench.instance
    mib, many = (1, 20) if bench.quick else (1024, 20000) if bench.full_size else (128, 2000)
    memory = ("--memory", "3G" if bench.full_size else "1G")
    line = bench.line(*memory)
    figures = []
    with bench.vm("copying", *memory) as vm:
        banger.ok("exec", vm, "--", "sh", "-c",
                  "mkdir /files && mount -t tmpfs -o size=90% tmpfs /files")
        for what, count, size in ((f"one file of {mib} MiB", 1, mib << 20),
                                  (f"{many} files of 4 KiB", many, SMALL_BYTES)):
            shutil.rmtree(banger.root / "copies", ignore_errors=True)
            raw = measure_copies(bench, line, vm, count, size)
            bench.raw[f"cp, {what}"] = raw
            figures += [Figure(f"cp, {what}, {way} the VM", *(
                speed(raw[f"{by}{key}_ms"], count * size, 1) for by in ("", "tar_")),
                target=0.7, least=True) for way, key in (("into", "in"), ("out of", "out"))]
    return figures


def echo_ms(child, count):
    """How long a byte takes through `cat` in the guest and back, each."""
    times = []
    for _ in range(count):
        begin = time.monotonic()
        child.send(b"x")
        if not os.read(child.process.stdout.fileno(), 1):
            raise FloorFailed("the echo has ended")
        times.append(1000 * (time.monotonic() - begin))
    return times


def measure_fairness(bench):
    """One that echoes beside one that prints without end and 48 that wait, in one VM."""
    banger = bench.instance
    many = bench.many(200)
    with bench.vm("crowded") as vm:
        echo = banger.spawn("exec", "-i", vm, "--", "cat")
        echo_ms(echo, 5)
        idle = echo_ms(echo, many)
        figures = []
        for what, command in (("yes", ["yes"]), ("64 KiB writes", ["dd", "if=/dev/zero", "bs=64k"])):
            crowd = [banger.spawn("exec", "-i", vm, "--", "cat") for _ in range(48)]
            for child in crowd:
                echo_ms(child, 1)
            with open("/dev/null", "wb") as null:
                noise = subprocess.Popen([banger.program(), "exec", vm, "--", *command],
                                         env=banger.environment, stdin=subprocess.DEVNULL,
                                         stdout=null, stderr=null)
            crowded = echo_ms(echo, many)
            noise.kill()
            noise.wait()
            for child in crowd:
                child.kill()
                child.close()
            more = [c - statistics.median(idle) for c in crowded]
            bench.raw[f"echo beside {what}"] = {"idle_ms": idle, "crowded_ms": crowded}
            figures.append(Figure(f"echo beside {what} and 48 more, over idle",
                                  milliseconds(more), target=20, absolute=True))
        echo.kill()
    return [Figure("echo of one byte, idle", milliseconds(idle)), *figures]


def measure_imports(bench):
    times = {"kernel import": [], "image register (2 MB)": [], "image register (Debian)": []}
    for _ in range(1 if bench.quick else 3):
        other = Instance(CONFIG)
        try:
            import_assets(other, times)
        finally:
            other.stop()
            other.leftovers()
            other.remove()
    return [Figure(name, milliseconds(values, 0)) for name, values in times.items() if values]


def measure_many(bench):
    """On an instance of its own, whose daemon knows the fake VMM."""
    other = Instance(CONFIG)
    try:
        import_assets(other)
        return measure_scale(other, bench)
    finally:
        bench.problems += other.stop() + other.leftovers()
        other.remove()


MEASUREMENTS = {
    "cold": measure_cold,
    "ping": measure_ping,
    "version": measure_version,
    "memory": measure_memory,
    "phases": measure_phases,
    "forks": measure_forks,
    "density": measure_density,
    "exec": measure_exec,
    "streams": measure_streams,
    "cp": measure_cp,
    "fairness": measure_fairness,
    "imports": measure_imports,
    "scale": measure_many,
}


# The whole -------------------------------------------------------------------------------------

def prepare_assets():
    """The kernel and the small image of the tests. Returns their paths."""
    subprocess.run([ROOT / "tools/fetch-kernel.sh", ".cache/kernel"], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run([ROOT / "tools/fetch-deb.sh", "busybox-static", ".cache/busybox"], cwd=ROOT,
                   check=True, stdout=subprocess.DEVNULL)
    tar = CACHE / "bench-rootfs.tar"
    rootfs.build(BUSYBOX, tar)
    return CACHE / "kernel", tar


def import_assets(banger, times=None):
    kernel, tar = prepare_assets()
    commands = {"kernel import": ("kernel", "import", KERNEL, kernel),
                "image register (2 MB)": ("image", "register", IMAGE, tar)}
    if times is not None and DEBIAN_TAR.exists():
        commands["image register (Debian)"] = ("image", "register", "full", DEBIAN_TAR)
    banger.ok("image", "list")  # the daemon's own start is no part of it
    for what, command in commands.items():
        begin = time.monotonic()
        banger.ok(*map(str, command), timeout=120)
        if times is not None:
            times[what].append(1000 * (time.monotonic() - begin))


def measure(bench, names):
    figures = []
    for name in names:
        print(f"measuring: {name} ({load()})", file=sys.stderr, flush=True)
        figures += MEASUREMENTS[name](bench)
    return figures


def report(bench, figures, before):
    accel = f", {bench.accel.upper()}" if bench.accel else ""
    lines = machine()
    print("\n".join([lines[0], lines[1] + accel, f"load:    {before} at the start, {load()} at "
                     f"the end; {time.strftime('%Y-%m-%d')}", "", table(figures)]))


@contextlib.contextmanager
def runtime_on_tmpfs(banger):
    """Its runtime directory is on a tmpfs, as /run and $XDG_RUNTIME_DIR are with systemd."""
    with tempfile.TemporaryDirectory(prefix="bgt-", dir="/dev/shm") as path:
        banger.runtime_dir = pathlib.Path(path) / "r"
        banger.socket_path = banger.runtime_dir / "banger.sock"
        banger.environment["BANGER_RUNTIME_DIR"] = str(banger.runtime_dir)
        yield


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="comma-separated names")
    parser.add_argument("--pairs", type=int, default=15, help="cold starts of each kind")
    parser.add_argument("--quick", action="store_true", help="everything once or twice, as a test")
    parser.add_argument("--full-size", action="store_true",
                        help="cp: 1 GiB and 20,000 files instead of 128 MiB and 2,000")
    parser.add_argument("--json", metavar="FILE", help="also write all values there")
    args = parser.parse_args()
    names = args.only.split(",")
    if unknown := set(names) - set(MEASUREMENTS):
        parser.error(f"unknown measurement: {', '.join(sorted(unknown))}")
    before = load()
    banger = Instance(CONFIG)
    bench = Bench(banger, QUICK_PAIRS if args.quick else max(args.pairs, 1), args.quick,
                  args.full_size)
    with runtime_on_tmpfs(banger):
        try:
            import_assets(banger)
            figures = measure(bench, names)
        finally:
            problems = bench.problems + banger.stop() + banger.leftovers()
            banger.remove()
    report(bench, figures, before)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(
            {"machine": machine(), "load": before, "figures": [f.as_json() for f in figures],
             "raw": bench.raw}, indent=1))
    if problems:
        sys.exit("left behind: " + "; ".join(problems))


if __name__ == "__main__":
    main()
