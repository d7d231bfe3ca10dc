#!/usr/bin/python3
"""Builds and runs every test this machine can run; `make test` is this.

Phases, in order (each can be chosen with --only NAME[,NAME...]):
  build       the programs (build), with ASan+UBSan (build-asan), with TSan by clang (build-tsan)
  lint        checks of the sources: layout, include layers, lone headers, clang-tidy, scripts
  unit        tests/unit (cmocka) in build-asan and build-tsan
  replay      tests/fuzz: corpora and regressions replayed in build-asan
  system      tests/system (pytest) with the programs of build
  sanitized   the system tests marked `sanitize` with the programs of build-asan and build-tsan
              (--full: all of them)
  fuzzing     each libFuzzer target for --fuzz-seconds (only with --full or by name)

The last line is `N passed, N failed`, with `, N skipped` when something was; each skip's reason
stands above. Exit status 0 only when something passed and nothing failed.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "test-results"
PYTHON = "/usr/bin/python3"
PHASES = ("build", "lint", "unit", "replay", "system", "sanitized", "fuzzing")
CPUS = os.cpu_count() or 1
UNIT_TIMEOUT = 180
FETCH_TIMEOUT = 300
SYSTEM_TIMEOUT = 1800
KERNEL = ROOT / ".cache" / "kernel"
SUPPRESSIONS = ROOT / "tests" / "tsan.supp"


class Tally:
    """Counts of one run."""

    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = []

    def passes(self, count=1):
        self.passed += count

    def fails(self, name, output=""):
        self.failed.append(name)
        if output:
            print(f"--- {name}\n{output.rstrip()}\n---", flush=True)
        print(f"FAILED {name}", flush=True)

    def skips(self, name, reason):
        self.skipped.append((name, reason))

    def last_line(self):
        line = f"{self.passed} passed, {len(self.failed)} failed"
        return line + (f", {len(self.skipped)} skipped" if self.skipped else "")


def say(text):
    print(text, flush=True)


def environment():
    """What every test program is started with."""
    env = dict(os.environ)
    for name in [n for n in env if n.startswith(("BANGER_", "MAKE", "MFLAGS"))]:
        del env[name]
    env.update({
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "BANGER_TEST_KERNEL_DIR": str(KERNEL),
        "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:"
                        "allocator_may_return_null=1:handle_abort=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "TSAN_OPTIONS": "halt_on_error=0:exitcode=66:second_deadlock_stack=1" +
                        (f":suppressions={SUPPRESSIONS}" if SUPPRESSIONS.exists() else ""),
    })
    if shutil.which("llvm-symbolizer-19"):
        path = shutil.which("llvm-symbolizer-19")
        for name in ("ASAN_OPTIONS", "TSAN_OPTIONS"):
            env[name] += f":external_symbolizer_path={path}"
    return env


def run(command, timeout=None, capture=True, env=None):
    """Runs a command in a session of its own; returns (status, output). Never leaves children."""
    pipe = subprocess.PIPE if capture else None
    with subprocess.Popen(command, cwd=ROOT, env=env or environment(), stdin=subprocess.DEVNULL,
                          stdout=pipe, stderr=subprocess.STDOUT if capture else None,
                          start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
            status = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output = (output or b"") + f"\nkilled: took longer than {timeout} s\n".encode()
            status = -signal.SIGKILL
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return status, (output or b"").decode(errors="replace")


# Building ----------------------------------------------------------------------------------------

BUILT = {}


def build(tally, directory):
    """Builds once a run; returns whether the directory can be used. Counts as one test."""
    if directory not in BUILT:
        start = time.monotonic()
        status, output = run(["tools/build.sh", directory, "--quiet"])
        BUILT[directory] = status == 0
        if status == 0:
            tally.passes()
            say(f"  {directory}: built in {time.monotonic() - start:.0f} s")
        else:
            tally.fails(f"build {directory}", output)
    return BUILT[directory]


def phase_build(tally, _args):
    for directory in ("build", "build-tsan", "build-asan"):
        build(tally, directory)


# Sources -----------------------------------------------------------------------------------------

def tree(*patterns):
    """The project's own files that match; build directories and caches left out."""
    found = set()
    for pattern in patterns:
        found.update(p for p in ROOT.glob(pattern) if p.is_file())
    return sorted(p.relative_to(ROOT).as_posix() for p in found)


def lint_format():
    status, output = run(["clang-format-19", "--dry-run", "-Werror",
                          *tree("src/**/*.[ch]", "tests/**/*.[ch]")])
    places = re.findall(r"^(\S+?:\d+):\d+: error", output, re.MULTILINE)
    if not places:
        return status, output
    return status, "\n".join(sorted(set(places))) + "\n`make format` lays them out"


def lint_python():
    wrong = []
    for path in tree("tools/*.py", "tests/**/*.py"):
        try:
            compile((ROOT / path).read_text(), path, "exec")
        except SyntaxError as error:
            wrong.append(str(error))
    return len(wrong), "\n".join(wrong)


def lint_shell():
    wrong = []
    for path in tree("tools/*.sh", "tests/**/*.sh", ".ci/run"):
        shell = (ROOT / path).read_text().split("\n", 1)[0].removeprefix("#!").split()
        status, output = run([*shell, "-n", path])
        if status:
            wrong.append(output)
    return len(wrong), "\n".join(wrong)


def lint_size():
    """A file over 800 lines wants to be split along a noun."""
    wrong = []
    for path in tree("src/**/*.[ch]"):
        lines = (ROOT / path).read_bytes().count(b"\n")
        if lines > 800:
            wrong.append(f"{path}: {lines} lines, more than 800")
    return len(wrong), "\n".join(wrong)


def phase_lint(tally, _args):
    checks = {
        "format": lint_format,
        "layers": lambda: run(["tools/layers.py"]),
        "headers": lambda: run(["tools/headers.py"]),
        "size": lint_size,
        "shell": lint_shell,
        "python": lint_python,
    }
    # clang with -Wthread-safety is the compiler of build-tsan; that it builds is a check.
    if build(tally, "build-tsan"):
        checks["tidy"] = lambda: run(["tools/tidy.py", "build-tsan"])
    else:
        tally.fails("lint tidy: needs build-tsan")
    for name, check in checks.items():
        status, output = check()
        if status:
            tally.fails(f"lint {name}", output)
        else:
            tally.passes()


# Unit tests and replays --------------------------------------------------------------------------

CMOCKA = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] (\S+)$", re.MULTILINE)
SANITIZER = re.compile(r"(ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:)")


def sources(group):
    output = subprocess.run(["tools/list-sources.py", group], cwd=ROOT, capture_output=True,
                            text=True, check=True).stdout
    return [pathlib.Path(line).stem for line in output.split()]


def count_unit(tally, directory, name, status, output):
    """Counts the tests of one cmocka program; a crash is one more failure."""
    verdicts = {}
    # cmocka repeats failures and skips in its summary: one verdict a test.
    for verdict, test in CMOCKA.findall(output):
        if verdicts.get(test) != "FAILED":
            verdicts[test] = verdict
    failed = sorted(t for t, v in verdicts.items() if v == "FAILED")
    for test, verdict in sorted(verdicts.items()):
        if verdict == "SKIPPED":
            reason = re.search(rf"^skip {re.escape(test)}: (.+)$", output, re.MULTILINE)
            tally.skips(f"{directory}/{name} {test}", reason[1] if reason else "see the test")
        elif verdict == "OK":
            tally.passes()
    if failed:
        tally.fails(f"{directory}/{name} {failed[0]}", output)
        for test in failed[1:]:
            tally.fails(f"{directory}/{name} {test}")
    elif status or SANITIZER.search(output):
        tally.fails(f"{directory}/{name} (status {status})", output)
    elif not verdicts:
        tally.fails(f"{directory}/{name}: ran no test", output)


def phase_unit(tally, _args):
    names = sources("unit")
    if not names:
        tally.fails("unit: there are no tests")
    status, output = run(["tools/fetch-kernel.sh", KERNEL], FETCH_TIMEOUT)
    if status != 0:
        tally.fails("unit: the kernel to test with cannot be fetched", output)
    for directory in ("build-asan", "build-tsan"):
        if not build(tally, directory):
            tally.fails(f"unit: {directory} does not build")
            continue
        with concurrent.futures.ThreadPoolExecutor(CPUS) as pool:
            jobs = [(n, pool.submit(run, [f"{directory}/{n}"], UNIT_TIMEOUT)) for n in names]
            for name, job in jobs:
                count_unit(tally, directory, name, *job.result())


def replay_arguments(target):
    stem = target.removeprefix("fuzz_")
    return [f"tests/fuzz/corpus/{stem}", f"tests/fuzz/regression/{stem}"]


def phase_replay(tally, _args):
    names = sources("fuzz")
    if not names or not build(tally, "build-asan"):
        tally.fails("replay: there are no targets" if not names else "replay: nothing is built")
        return
    with concurrent.futures.ThreadPoolExecutor(CPUS) as pool:
        jobs = [(n, pool.submit(run, [f"build-asan/{n}", *replay_arguments(n)], UNIT_TIMEOUT))
                for n in names]
        for name, job in jobs:
            status, output = job.result()
            if status or SANITIZER.search(output):
                tally.fails(f"replay {name} (status {status})", output)
            else:
                tally.passes()
                say(f"  {name}: {output.strip().splitlines()[-1]}")


def phase_fuzzing(tally, args):
    names = sources("fuzz")
    if not names or not build(tally, "build-fuzz"):
        tally.fails("fuzzing: there are no targets" if not names else "fuzzing: nothing is built")
        return

    def fuzz(name):
        found = ROOT / "build-fuzz" / "found" / name
        work = ROOT / "build-fuzz" / "corpus" / name
        found.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        known = [d for d in replay_arguments(name) if (ROOT / d).is_dir()]
        return run([f"build-fuzz/{name}", f"-max_total_time={args.fuzz_seconds}", "-timeout=10",
                    "-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={found}/",
                    str(work), *known], args.fuzz_seconds + 120)

    with concurrent.futures.ThreadPoolExecutor(CPUS) as pool:
        jobs = [(n, pool.submit(fuzz, n)) for n in names]
        for name, job in jobs:
            status, output = job.result()
            if status:
                tally.fails(f"fuzzing {name} (the input is in build-fuzz/found/{name}/)",
                            output[-8000:])
            else:
                tally.passes()
                runs = re.search(r"number_of_executed_units: (\d+)", output)
                say(f"  {name}: {runs[1] if runs else '?'} runs")


# System tests ------------------------------------------------------------------------------------

def count_junit(tally, phase, path):
    """Counts one pytest report; returns how many tests it has."""
    verdicts = {}
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        name = f"{phase} {case.get('classname', '').split('.')[-1]}::{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            verdicts[name] = "failed"
        elif skipped is not None and verdicts.get(name) != "failed":
            verdicts[name] = "skipped"
            tally.skips(name, skipped.get("message") or "no reason given")
        else:
            verdicts.setdefault(name, "passed")
    tally.passes(sum(v == "passed" for v in verdicts.values()))
    for name, verdict in verdicts.items():
        if verdict == "failed":
            tally.fails(name)
    return len(verdicts)


def system_tests(tally, phase, directory, extra, full=False):
    """Runs tests/system with the programs of one build directory."""
    if not build(tally, directory):
        tally.fails(f"{phase}: {directory} does not build")
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    report = RESULTS / f"{phase.replace(' ', '-')}.xml"
    report.unlink(missing_ok=True)
    env = environment() | {"BANGER_BUILD": directory}
    if full:
        env["BANGER_RACE_ROUNDS"] = "50"
    workers = str(max(2, min(CPUS, 8)))
    status, _ = run([PYTHON, "-m", "pytest", "-q", "-n", workers, "--dist", "loadgroup",
                     f"--junit-xml={report}",
                     *extra, "tests/system"], SYSTEM_TIMEOUT, capture=False, env=env)
    count = count_junit(tally, phase, report) if report.exists() else 0
    if status not in (0, 1) or count == 0:
        tally.fails(f"{phase}: pytest ended with status {status} after {count} tests")
    elif status == 1 and not any(f.startswith(phase) for f in tally.failed):
        tally.fails(f"{phase}: pytest reports a failure outside of the tests (see above)")


def phase_system(tally, args):
    chosen = args.pytest if args.full else ["-m", "not full", *args.pytest]
    system_tests(tally, "system", "build", chosen)


def phase_sanitized(tally, args):
    marks = {"asan": "sanitize or points", "tsan": "sanitize"}
    for kind, mark in marks.items():
        chosen = ["-m", "not full" if args.full else f"({mark}) and not full", *args.pytest]
        system_tests(tally, f"system {kind}", f"build-{kind}", chosen, args.full and kind == "tsan")


# The run -----------------------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description=__doc__)
    parser.add_argument("--only", metavar="PHASES", help="run just these, comma-separated")
    parser.add_argument("--full", action="store_true", help="what takes long as well")
    parser.add_argument("--fuzz-seconds", type=int, default=60, metavar="N")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    args = parser.parse_args()
    chosen = args.only.split(",") if args.only else \
        [p for p in PHASES if p != "fuzzing" or args.full]
    for name in chosen:
        if name not in PHASES:
            parser.error(f"no phase '{name}': they are {', '.join(PHASES)}")
    tally = Tally()
    start = time.monotonic()
    try:
        for name in PHASES:
            if name not in chosen:
                continue
            began = time.monotonic()
            before = tally.passed, len(tally.failed)
            say(f"== {name}")
            globals()[f"phase_{name}"](tally, args)
            say(f"== {name}: {tally.passed - before[0]} passed, "
                f"{len(tally.failed) - before[1]} failed in {time.monotonic() - began:.0f} s")
    except KeyboardInterrupt:
        tally.fails("interrupted")
    say("")
    for name, reason in tally.skipped:
        say(f"skipped: {name}: {reason}")
    for name in tally.failed:
        say(f"failed: {name}")
    say(f"total time {time.monotonic() - start:.0f} s")
    if tally.passed == 0 and not tally.failed:
        tally.fails("nothing ran")
    say(tally.last_line())
    sys.exit(0 if not tally.failed else 1)


if __name__ == "__main__":
    main()
