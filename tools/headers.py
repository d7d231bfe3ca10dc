#!/usr/bin/python3
"""Checks that every header below src/ compiles on its own, twice over, with gcc and with clang.

Usage: headers.py [HEADER...]
"""

import concurrent.futures
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMPILERS = {
    "gcc": ["-Wconversion", "-Wno-sign-conversion"],
    "clang-19": ["-Wthread-safety", "-Wthread-safety-beta"],
}
FLAGS = ["-std=gnu17", "-D_GNU_SOURCE", "-Isrc", "-include", "base/banned.h", "-Wall", "-Wextra",
         "-Wshadow", "-Wstrict-prototypes", "-Werror", "-fsyntax-only", "-x", "c", "-"]
LIBRARIES = ["libsystemd", "jansson", "sqlite3", "smartcols", "ext2fs", "libarchive"]


def check(compiler, header, cflags):
    """Returns the compiler's complaint, or None."""
    result = subprocess.run(
        [compiler, *cflags, *COMPILERS[compiler], *FLAGS],
        input=f'#include "{header}"\n#include "{header}"\n',
        capture_output=True, text=True, cwd=ROOT, check=False)
    return f"{header}: not self-contained with {compiler}\n{result.stderr}" \
        if result.returncode else None


def main():
    headers = sys.argv[1:] or [p.relative_to(ROOT / "src").as_posix()
                               for p in sorted((ROOT / "src").rglob("*.h"))]
    cflags = subprocess.run(["pkg-config", "--cflags", *LIBRARIES], capture_output=True, text=True,
                            check=False).stdout.split()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(check, c, h, cflags) for h in headers for c in COMPILERS]
        problems = [p for p in (job.result() for job in jobs) if p]
    print("\n".join(problems + [f"headers: {len(headers)} headers, {len(problems)} problems"]))
    sys.exit(1 if problems else 0)


main()
