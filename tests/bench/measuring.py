"""What the parts of bench.py share: figures and their table, the machine, floors."""

import contextlib
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess

from banger import SLOWNESS

FLOOR_SECONDS = 300

# Figures ---------------------------------------------------------------------------------------

class Series:
    """Values of one thing, with what the table shows of them."""

    def __init__(self, values, unit, digits):
        self.values = list(values)
        self.unit = unit
        self.digits = digits

    @property
    def median(self):
        return statistics.median(self.values)

    def __str__(self):
        text = f"{self.median:.{self.digits}f}"
        if len(self.values) > 1:
            text += f" ({min(self.values):.{self.digits}f}..{max(self.values):.{self.digits}f})"
        return f"{text} {self.unit}".strip()


class Figure:
    """One line of the table. floor and target may be None; `absolute`: the target is not a ratio;
    `least`: more is better."""

    def __init__(self, name, value, floor=None, target=None, absolute=False, least=False):
        self.name = name
        self.value = value
        self.floor = floor
        self.target = target
        self.absolute = absolute
        self.least = least

    @property
    def ratio(self):
        if self.floor is None:
            return None
        return Series([v / f for v, f in zip(self.value.values, self.floor.values)], "", 2)

    @property
    def met(self):
        if self.target is None:
            return None
        median = (self.value if self.absolute else self.ratio).median
        return median >= self.target if self.least else median <= self.target

    def row(self):
        target = "" if self.target is None else \
            f"{'≥' if self.least else '≤'} {self.target:g} {self.value.unit if self.absolute else '×'}"
        return [self.name, str(self.value), str(self.floor or ""),
                f"{self.ratio} ×" if self.floor else "", target,
                {None: "", True: "met", False: "missed"}[self.met], str(len(self.value.values))]

    def as_json(self):
        series = {"value": self.value, "floor": self.floor, "ratio": self.ratio}
        return {"name": self.name, "unit": self.value.unit, "target": self.target,
                "met": self.met} | {k: s.values for k, s in series.items() if s}


def milliseconds(values, digits=1):
    return Series(values, "ms", digits)


def table(figures):
    rows = [["what", "banger", "floor", "ratio", "target", "", "runs"]]
    rows += [f.row() for f in figures]
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    rows.insert(1, ["-" * w for w in widths])
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(r, widths)) + " |" for r in rows)


# Machine ---------------------------------------------------------------------------------------

def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or [""])[0]


def machine():
    """What the figures hold for, as lines of text."""
    cpu = re.search(r"^model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    with contextlib.suppress(OSError):
        release = re.search(r'PRETTY_NAME="(.*)"', pathlib.Path("/etc/os-release").read_text())
    return [f"machine: {cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, "
            f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 30} GiB",
            f"system:  {release[1] if release else 'unknown'}, kernel {platform.release()}, "
            f"{first_line('qemu-system-x86_64', '--version')}"]


def load():
    return "load %.2f %.2f %.2f" % os.getloadavg()


# The floor -------------------------------------------------------------------------------------

class FloorFailed(Exception):
    """The floor program said something unexpected; its message."""


def floor(instance, *args, program="bench-floor", seconds=FLOOR_SECONDS):
    """Runs a floor program and returns what it measured. Nothing of it outlives this."""
    process = subprocess.Popen([instance.program(program), *map(str, args)],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=instance.environment,
                               cwd=instance.home, text=True, start_new_session=True)
    try:
        out, err = process.communicate(timeout=seconds * SLOWNESS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)  # with its QEMU
            process.communicate()
    if process.returncode:
        raise FloorFailed(err.strip())
    return json.loads(out)
