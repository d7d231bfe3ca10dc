#!/usr/bin/python3
"""Checks that includes follow the DAG of tools/layers.txt.

A line there is `FOLDER: DEPENDENCY...`; a dependency is a folder (its public headers) or
`folder/file.h` (just that header). Sub-folders (vmm/qemu) count as their parent. A `*_priv.h` is for
its own folder, and for tests. Includes are written in full from src/ ("base/buf.h"); the generated
"version.h" is everybody's.

Usage: layers.py [SRC-DIRECTORY [LAYERS-FILE]]
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)
GENERATED = {"version.h"}


def read_layers(path, problems):
    """Returns {folder: set of dependencies}."""
    layers = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        folder, colon, deps = line.partition(":")
        if not colon or folder in layers:
            problems.append(f"{path}:{number}: expected one 'FOLDER: DEPENDENCY...' a folder")
        layers[folder.strip()] = set(deps.split())
    for folder, deps in layers.items():
        for dep in deps:
            if dep.split("/")[0] not in layers:
                problems.append(f"{path}: '{folder}' depends on '{dep}', which has no line")
    return layers


def find_cycle(layers):
    """Returns a list of folders that go in a circle, or None."""
    done, path = set(), []

    def visit(folder):
        if folder in path:
            return path[path.index(folder):] + [folder]
        if folder in done:
            return None
        path.append(folder)
        for dep in sorted(layers.get(folder, ())):
            cycle = visit(dep.split("/")[0])
            if cycle:
                return cycle
        path.pop()
        done.add(folder)
        return None

    for folder in sorted(layers):
        cycle = visit(folder)
        if cycle:
            return cycle
    return None


def check_include(source, folder, target, src, layers):
    """Returns what is wrong with one include, or None."""
    if target in GENERATED:
        return None
    if not (src / target).is_file():
        return f'"{target}" is not a file below src/ (write includes as "folder/file.h")'
    top = target.split("/")[0]
    if top == folder:
        return None
    if target.endswith("_priv.h"):
        return f'"{target}" is private to {top}/'
    allowed = layers.get(folder)
    if allowed is None:
        return f"folder '{folder}' has no line in the layers file"
    if top not in allowed and target not in allowed:
        return f'"{target}": {folder}/ may not include {top}/ (tools/layers.txt)'
    return None


def main():
    src = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "src"
    layers_file = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "tools/layers.txt"
    problems = []
    layers = read_layers(layers_file, problems)
    cycle = find_cycle(layers)
    if cycle:
        problems.append(f"{layers_file}: a circle: {' -> '.join(cycle)}")
    count = 0
    for source in sorted(src.rglob("*.[ch]")):
        rel = source.relative_to(src)
        if len(rel.parts) < 2:
            problems.append(f"{source}: sources live in a folder of src/")
            continue
        text = source.read_text(errors="replace")
        for match in INCLUDE.finditer(text):
            count += 1
            wrong = check_include(source, rel.parts[0], match[1], src, layers)
            if wrong:
                line = text.count("\n", 0, match.start()) + 1
                problems.append(f"{source}:{line}: {wrong}")
    for problem in problems:
        print(problem)
    print(f"layers: {count} includes, {len(problems)} problems")
    sys.exit(1 if problems else 0)


main()
