"""How VMs start that are forked from a template: from the pool, and by a restore, beside a boot of the
same VM. The whole of `banger run --rm -- true`, until the VM is gone: the CLI by posix_spawn, and
`vm list` is empty after each.
"""

import concurrent.futures
import pathlib
import re
import subprocess
import time

from line import ForkLine, children
from measuring import Figure, FloorFailed, Series, floor, milliseconds
from scale import cpu_ms

AT_ONCE = 50
DENSITY = 300
CREATES = 20


def configure(banger, pool_size):
    """A daemon with a template that is loaded, and a pool that is full."""
    banger.run("daemon", "stop")
    banger.configure(f'templates = "manual"\npool_size = {pool_size}\n')
    banger.ok("template", "create", timeout=120)
    await_ready(banger, pool_size)


def await_ready(banger, number):
    with banger.rpc() as rpc:
        while rpc.call("template.list", {})["result"][0]["ready"] < number:
            pass


def run_ms(banger, *flags):
    begin = time.monotonic()
    subprocess.run([banger.program(), "run", "--rm", "--quiet", *flags, "--", "true"],
                   env=banger.environment, check=True)
    took = 1000 * (time.monotonic() - begin)
    if left := banger.run("vm", "list", "-q").out:
        raise FloorFailed(f"the VM is still listed: {left}")
    return took


def measure_runs(bench, pool_size):
    """(Forks, boots), by turns."""
    forks, boots = [], []
    for i in range(bench.pairs):
        for what in ("fork", "boot") if i % 2 == 0 else ("boot", "fork"):
            await_ready(bench.instance, pool_size)
            if what == "fork":
                forks.append(run_ms(bench.instance))
            else:
                boots.append(run_ms(bench.instance, "--cold"))
    return forks, boots


def measure_restores(bench):
    """(By banger, by hand), by turns, until QEMU is gone."""
    banger = bench.instance
    by_banger, by_hand = [], []
    with bench.vm("fork") as vm:
        line = ForkLine(banger, vm)
    command = [banger.program(), "run", "--rm", "--quiet", "--", "true"]
    for i in range(bench.pairs):
        for what in ("banger", "hand") if i % 2 == 0 else ("hand", "banger"):
            if what == "banger":
                by_banger.append(floor(banger, "run", banger.vmm_parent_pid(), "--", *command))
            else:
                by_hand.append(floor(banger, "boot", *line.arguments()))
        if by_banger[-1]["status"] != 0 or by_hand[-1]["status"] != 0:
            raise FloorFailed(f"'true' has failed: {by_hand[-1]} {by_banger[-1]}")
    bench.raw["restore"], bench.raw["restore by hand"] = by_banger, by_hand
    return by_banger, by_hand, line


def answer(banger, name):
    banger.ok("vm", "create", "--quiet", "--name", name, timeout=300)
    banger.ok("exec", name, "--", "true", timeout=300)


def measure_alone(bench):
    banger, alone = bench.instance, []
    for i in range(bench.many(5)):
        begin = time.monotonic()
        answer(banger, f"alone-{i}")
        alone.append(1000 * (time.monotonic() - begin))
        banger.ok("rm", "--force", f"alone-{i}")
    return alone


def measure_crowd(bench, count):
    """Until all that were created at once answer an exec."""
    banger = bench.instance
    names = [f"crowd-{i}" for i in range(count)]
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda name: answer(banger, name), names))
    took = 1000 * (time.monotonic() - begin)
    banger.ok("rm", "--force", *names, timeout=120)
    return took


def share_mib(banger, name):
    return banger.json("stats", name, "--interval", "10ms")[0]["pss_bytes"] / 2**20


def measure_share(bench, line):
    """Memory by share of one fork that has run a command, and of one that was restored by hand."""
    banger, ours, by_hand = bench.instance, [], []
    for _ in range(bench.many(3)):
        answer(banger, "shares")
        ours.append(share_mib(banger, "shares"))
        banger.ok("rm", "--force", "shares")
        by_hand.append(floor(banger, "share", *line.arguments())["pss_kib"] / 1024)
    return ours, by_hand


def available_mib():
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(r"^MemAvailable:\s*(\d+) kB", text, re.M)[1]) / 1024


def measure_density(bench):
    """As many alive together, each of which has run a command."""
    banger = bench.instance
    count = 3 if bench.quick else DENSITY
    configure(banger, 0)
    names = [f"dense-{i}" for i in range(count)]
    before = available_mib()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: answer(banger, name), names))
    each_mib = (before - available_mib()) / count
    pids = children(banger.vmm_parent_pid())
    if len(pids) != count:
        raise FloorFailed(f"{len(pids)} VMMs of {count} run")
    seconds = 1 if bench.quick else 20
    used = sum(map(cpu_ms, pids))
    time.sleep(seconds)
    idle = (sum(map(cpu_ms, pids)) - used) / seconds / 10 / count
    times = []
    for name in names:
        begin = time.monotonic()
        banger.ok("exec", name, "--", "true")
        times.append(1000 * (time.monotonic() - begin))
    banger.ok("rm", "--force", *names, timeout=600)
    bench.raw["density"] = {"exec_ms": times, "idle_percent": idle, "each_mib": each_mib}
    banger.run("daemon", "stop")
    banger.configure('templates = "off"\n')
    times.sort()
    return [Figure(f"{count} VMs alive: exec, p99",
                   milliseconds([times[(len(times) * 99 - 1) // 100]], 0), target=2000, absolute=True),
            Figure(f"{count} VMs alive: exec", milliseconds(times, 1)),
            Figure(f"{count} VMs alive: idle, of a core each", Series([idle], "%", 3), target=0.25,
                   absolute=True),
            Figure(f"{count} VMs alive: memory of the host for each", Series([each_mib], "MiB", 1))]


def measure_cpu(bench):
    """The daemon's, without its children, for each fork that is made and deleted."""
    banger, values = bench.instance, []
    for _ in range(bench.many(5)):
        count = 2 if bench.quick else CREATES
        before = cpu_ms(banger.daemon_pid())
        for i in range(count):
            banger.ok("vm", "create", "--quiet", "--name", f"cpu-{i}")
            banger.ok("rm", "--force", f"cpu-{i}")
        values.append((cpu_ms(banger.daemon_pid()) - before) / count)
    return values


def measure_forks(bench):
    banger = bench.instance
    count = 3 if bench.quick else AT_ONCE
    configure(banger, 1)
    pooled, boots = measure_runs(bench, 1)
    configure(banger, count)
    crowd_of_pool = measure_crowd(bench, count)
    configure(banger, 0)
    restored, others = measure_runs(bench, 0)
    by_banger, by_hand, line = measure_restores(bench)
    alone, crowd = measure_alone(bench), measure_crowd(bench, count)
    ours, shares = measure_share(bench, line)
    cpu = measure_cpu(bench)
    banger.run("daemon", "stop")
    banger.configure('templates = "off"\n')
    bench.raw["forks"] = {"pool_ms": pooled, "pool_boot_ms": boots, "restore_ms": restored,
                          "restore_boot_ms": others, "alone_ms": alone, "crowd_ms": crowd,
                          "crowd_of_pool_ms": crowd_of_pool}
    return [Figure("run --rm -- true from the pool, over a boot", milliseconds(pooled),
                   milliseconds(boots, 0), target=0.03),
            Figure("the same by restore, over a boot", milliseconds(restored, 0),
                   milliseconds(others, 0), target=0.12),
            Figure("the same by restore, over a restore by hand",
                   milliseconds((r["gone_ms"] for r in by_banger), 0),
                   milliseconds((f["reaped_ms"] for f in by_hand), 0), target=1.3),
            Figure("of that by hand: until the agent answers",
                   milliseconds((f["hello_ms"] for f in by_hand), 0)),
            Figure("of that by hand: until it is configured",
                   milliseconds((f["configured_ms"] for f in by_hand), 0)),
            Figure(f"{count} forks at once by restore, over one", milliseconds([crowd] * len(alone), 0),
                   milliseconds(alone, 0), target=45),
            Figure(f"{count} forks at once of a pool of {count}, over one by restore",
                   milliseconds([crowd_of_pool] * len(alone), 0), milliseconds(alone, 0), target=10),
            Figure("daemon's CPU time of a fork and its deletion", milliseconds(cpu, 2), target=3,
                   absolute=True),
            Figure("memory by share (PSS) of a fork, over one restored by hand",
                   Series(ours, "MiB", 1), Series(shares, "MiB", 1), target=1.05)]
