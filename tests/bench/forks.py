"""How VMs start that are forked from a template: from the pool, and by a restore, beside a boot of the
same VM. The whole of `banger run --rm -- true`, until the VM is gone: the CLI by posix_spawn, and
`vm list` is empty after each.
"""

import concurrent.futures
import subprocess
import time

from line import ForkLine
from measuring import Figure, FloorFailed, Series, floor, milliseconds
from scale import cpu_ms

AT_ONCE = 50
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
    return by_banger, by_hand


def measure_crowd(bench):
    """Until all that were created at once answer an exec, over one alone."""
    banger = bench.instance
    count = 3 if bench.quick else AT_ONCE

    def answer(name):
        banger.ok("vm", "create", "--quiet", "--name", name, timeout=300)
        banger.ok("exec", name, "--", "true", timeout=300)

    alone = []
    for i in range(bench.many(5)):
        begin = time.monotonic()
        answer(f"alone-{i}")
        alone.append(1000 * (time.monotonic() - begin))
        banger.ok("rm", "--force", f"alone-{i}")
    names = [f"crowd-{i}" for i in range(count)]
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        list(pool.map(answer, names))
    took = 1000 * (time.monotonic() - begin)
    shares = [banger.json("stats", name, "--interval", "10ms")[0]["pss_bytes"] / 2**20
              for name in names]
    banger.ok("rm", "--force", *names, timeout=120)
    return count, took, alone, shares


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
    configure(banger, 1)
    pooled, boots = measure_runs(bench, 1)
    configure(banger, 0)
    restored, others = measure_runs(bench, 0)
    by_banger, by_hand = measure_restores(bench)
    count, took, alone, shares = measure_crowd(bench)
    cpu = measure_cpu(bench)
    banger.run("daemon", "stop")
    banger.configure('templates = "off"\n')
    bench.raw["forks"] = {"pool_ms": pooled, "pool_boot_ms": boots, "restore_ms": restored,
                          "restore_boot_ms": others, "alone_ms": alone, "crowd_ms": took}
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
            Figure(f"{count} forks at once by restore, over one", milliseconds([took] * len(alone), 0),
                   milliseconds(alone, 0), target=45),
            Figure("daemon's CPU time of a fork and its deletion", milliseconds(cpu, 2), target=3,
                   absolute=True),
            Figure(f"memory by share (PSS) of each of {count} forks", Series(shares, "MiB", 1))]
