#!/usr/bin/python3
"""Sorts the project's C sources into the targets of meson.build, so that no new file is forgotten.

Prints one `GROUP PATH` a line, sorted. meson.build runs it when it configures; tools/build.sh runs
it before every build and reconfigures when the answer has changed. A file that defines main() is a
program's and goes to `main:PROGRAM`; the rest of its folder is a library that tests link as well.

Usage: list-sources.py            all groups
       list-sources.py GROUP      just the paths of one group
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAIN = re.compile(rb"^int main\(|^int\nmain\(", re.MULTILINE)

# What the program of a folder is called; folders without a line here have none.
PROGRAMS = {
    "src/cli": "banger",
    "src/daemon": "bangerd",
    "src/agent": "banger-agent",
    "src/disk": "banger-mkroot",
    "src/launch": "banger-launch",
    "src/host": "banger-helper",
    "src/fakevmm": "banger-fakevmm",
}
# The agent is static and shares only these with the rest (tools/layers.txt says the same); so is the
# fake VMM, which shares the agent too.
AGENT_SHARED = ("src/base/buf.c", "src/codec/frame.c", "src/codec/tar.c",
                "src/codec/tar_number.c", "src/codec/tar_write.c")


def group_of(path):
    """The group of one source, given relative to the project's root."""
    folder, stem = path.parent.as_posix(), path.stem
    top = path.parts[1] if len(path.parts) > 2 else ""
    has_main = MAIN.search((ROOT / path).read_bytes()) is not None
    if folder == "tests/unit":
        return "unit" if stem.startswith("test_") else "unit-lib"
    if folder == "tests/fuzz":
        return "fuzz" if stem.startswith("fuzz_") else "fuzz-main" if has_main else "fuzz-lib"
    if folder == "tests/guest":
        return "guest"
    if folder == "tests/lint":
        return "lint"  # compiled by tests alone
    if path.parts[0] == "tests":
        return "other" if folder != "tests/bench" else "bench" if has_main else "bench-lib"
    if has_main:
        if folder not in PROGRAMS:
            raise SystemExit(f"{path}: defines main(), but {sys.argv[0]} knows no program for it")
        return "main:" + PROGRAMS[folder]
    if top in ("base", "codec", "archive", "doctor"):
        return "base"
    if top in ("agent", "client", "cli", "fakevmm", "launch"):
        return top
    if folder == "src/disk" and stem.startswith("rootdisk"):
        return "rootdisk"
    return "daemon"


def groups():
    """Yields (group, path) of every source and header."""
    for top in ("src", "tests"):
        for path in sorted((ROOT / top).rglob("*.[ch]")):
            rel = path.relative_to(ROOT)
            if rel.name.startswith("."):
                continue
            if rel.suffix == ".h":
                if rel.parts[:2] in (("src", "agent"), ("src", "base"), ("src", "codec"),
                                    ("src", "archive"), ("src", "fakevmm"), ("src", "launch"),
                                    ("src", "vmm"), ("tests", "guest")):
                    yield "agent-header", rel.as_posix()
                continue
            yield group_of(rel), rel.as_posix()
            if rel.as_posix() in AGENT_SHARED or rel.parts[:2] == ("src", "archive"):
                yield "agent-shared", rel.as_posix()


def main():
    found = sorted(groups())
    if len(sys.argv) > 1:
        found = [p for g, p in found if g == sys.argv[1]]
        sys.stdout.write("".join(p + "\n" for p in found))
    else:
        sys.stdout.write("".join(f"{g} {p}\n" for g, p in found))


main()
