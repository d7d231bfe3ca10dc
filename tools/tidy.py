#!/usr/bin/python3
"""Runs clang-tidy over the sources of a build directory's compilation database.

A source that passed is not looked at again until its preprocessed text, .clang-tidy or clang-tidy
itself changes; what passed is remembered in DIR/tidy-cache/.

Usage: tidy.py DIR [SOURCE...]
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIDY = "clang-tidy-19"


def plain_args(entry):
    """The compiler arguments of one entry without its output, dependency file and source."""
    args, skip = [], False
    for arg in shlex.split(entry["command"])[1:]:
        if skip:
            skip = False
        elif arg in ("-o", "-MF", "-MQ", "-MT"):
            skip = True
        elif arg not in ("-c", "-MD", "-MMD", entry["file"]) and not arg.startswith("-fsanitize"):
            args.append(arg)
    return args


def key_of(entry, source, salt):
    """Names everything that decides about the result."""
    text = subprocess.run(["clang-19", *plain_args(entry), "-E", "-P", entry["file"]],
                          cwd=entry["directory"], capture_output=True, check=False)
    if text.returncode:
        return None, text.stderr.decode(errors="replace")
    # Line numbers and NOLINT comments are not in the preprocessed text; the source itself has both.
    own = pathlib.Path(source).read_bytes()
    return hashlib.sha256(salt + text.stdout + own).hexdigest(), ""


def check(entry, source, salt, cache):
    """Returns clang-tidy's complaint, or None."""
    key, complaint = key_of(entry, source, salt)
    if key is None:
        return complaint
    if (cache / key).exists():
        return None
    result = subprocess.run([TIDY, "--quiet", source, "--", *plain_args(entry)],
                            cwd=entry["directory"], capture_output=True, text=True, check=False)
    if result.returncode:
        return result.stdout + (result.stderr if not result.stdout else "")
    (cache / key).touch()
    return None


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    wanted = {str((ROOT / s).resolve()) for s in sys.argv[2:]}
    cache = build / "tidy-cache"
    cache.mkdir(exist_ok=True)
    version = subprocess.run([TIDY, "--version"], capture_output=True, check=True).stdout
    salt = version + (ROOT / ".clang-tidy").read_bytes()
    jobs = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        source = os.path.realpath(os.path.join(entry["directory"], entry["file"]))
        if source.startswith(str(ROOT / "src")) and (not wanted or source in wanted):
            jobs.setdefault(source, entry)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda job: check(job[1], job[0], salt, cache), sorted(jobs.items()))
        problems = [r for r in results if r]
    print("\n".join(problems + [f"tidy: {len(jobs)} sources, {len(problems)} with problems"]))
    sys.exit(1 if problems else 0)


main()
