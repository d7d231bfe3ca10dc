"""What the documents list is what there is."""

import re
import shlex
import subprocess

import pytest

from banger import ROOT

DOCS = ROOT / "docs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("tests/**/*.md")])
CODE = re.compile(r"`([^`]+)`")
UNNAMED = "(to be named)"


def tables(path, heading=None):
    """The rows of all tables of a document (or of those under a heading), as lists of cells."""
    rows, here = [], heading is None
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            here = heading is None or line.strip("# ") == heading
        elif here and line.startswith("|") and not re.fullmatch(r"[|\s:-]+", line):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def codes(cell):
    return set(CODE.findall(cell))


# Dependencies -------------------------------------------------------------------------------------

def test_dependencies_are_those_of_the_build():
    # meson's own "threads" is the C library.
    wanted = set(re.findall(r"dependency\('([^']+)'\)", (ROOT / "meson.build").read_text()))
    named = {n for row in tables(DOCS / "DEPENDENCIES.md", "Libraries")[1:] for n in codes(row[0])}
    assert named == wanted - {"threads"}


def test_dependencies_are_the_packages_of_the_list():
    lines = (ROOT / "packaging/packages.txt").read_text().splitlines()
    wanted = dict(reversed(line.split()) for line in lines if line and line[0] != "#")
    libraries = tables(DOCS / "DEPENDENCIES.md", "Libraries")[1:]
    others = tables(DOCS / "DEPENDENCIES.md", "Programs and other packages")[1:]
    assert {n for row in libraries for n in codes(row[1])} | \
        {n for row in others for n in codes(row[0])} == set(wanted)
    for row in others:
        assert {wanted[n] for n in codes(row[0])} == {row[1]}, row[0]


# Configuration, protocol --------------------------------------------------------------------------

def test_configuration_document_is_what_the_program_prints(bare):
    assert bare.ok("internal", "config").out == (DOCS / "CONFIG.md").read_text()


def test_protocol_document_is_what_the_program_prints(bare):
    assert bare.ok("internal", "protocol").out == (DOCS / "PROTOCOL.md").read_text()


# Examples and links -------------------------------------------------------------------------------

def examples():
    """The commands of the README's examples, as lists of words."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^<!-- examples.*?-->$(.*?)^<!-- end of examples -->$", text,
                        re.MULTILINE | re.DOTALL)
    assert blocks
    for line in re.findall(r"^    (.+)$", "\n".join(blocks), re.MULTILINE):
        words = [[]]
        for word in shlex.shlex(line, posix=True, punctuation_chars=True):
            if set(word) <= set("();<>|&"):
                words.append([])
            elif word not in ("$", "sudo"):
                words[-1].append(word)
        yield from (w for w in words if w)


def flags_of(bare, verb):
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", bare.ok("help", *verb).out))


def test_examples_of_the_readme_exist(bare):
    verbs = {tuple(name.split()) for line in re.findall(r"^  ([a-z].*?)  ", bare.ok("help").out,
                                                        re.MULTILINE) for name in line.split(" | ")}
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    count = 0
    for words in examples():
        if words[0] == "make":
            assert set(words[1:]) <= targets, words
        elif words[0] == "banger":
            verb = next((v for v in (tuple(words[1:3]), tuple(words[1:2])) if v in verbs), None)
            assert verb, words
            own = words[:words.index("--")] if "--" in words else words
            given = {w for w in own if w.startswith("-")}
            # -it is -i and -t.
            given = {f for w in given for f in ([w] if w[1] == "-" else ["-" + c for c in w[1:]])}
            unknown = given - flags_of(bare, verb)
            assert not unknown, words
            count += 1
    assert count > 10


PROSE = {"again", "installed"}  # "is banger installed completely?"


def test_hints_and_fixes_name_commands_that_exist(bare):
    named = [command["path"] for command in bare.json("help")["commands"]]
    named += [alias for command in bare.json("help")["commands"] for alias in command["aliases"]]
    wrong, count = [], 0
    for path in sorted((ROOT / "src").rglob("*.c")):
        source = re.sub(r'"\s*"', "", path.read_text())
        for call in re.findall(r'\b(?:err_hint|doctor_fix)\(\w+,\s*"((?:[^"\\]|\\.)*)"', source):
            for first, second in re.findall(r"\bbanger ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", call):
                count += 1
                if first not in PROSE and not {first, f"{first} {second}"} & set(named):
                    wrong.append((path.name, call))
    assert not wrong and count > 40


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_relative_links_resolve(document):
    links = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", document.read_text())
    broken = [link for link in links
              if "://" not in link and not (document.parent / link).exists()]
    assert not broken


# Status -------------------------------------------------------------------------------------------

def is_defined(reference):
    """Whether `path::function` (path below tests/ or the root) is a function that exists."""
    path, _, name = reference.partition("::")
    file = next((p for p in (ROOT / "tests" / path, ROOT / path) if p.is_file()), None)
    if not file or not name:
        return False
    pattern = rf"^ *def {name}\(" if file.suffix == ".py" else rf"^[a-z].*\b{name}\("
    return re.search(pattern, file.read_text(), re.MULTILINE) is not None


def test_status_names_tests_that_exist():
    rows = [row for row in tables(DOCS / "STATUS.md") if row[1] != "test"]
    wrong = []
    for row in rows:
        promise, tests, state = row
        if not re.match(r"works$|partly: .|not yet", state):
            wrong.append(f"state of '{promise}': {state}")
        if UNNAMED in tests and not state.startswith("not yet"):
            wrong.append(f"no test, but a state: '{promise}'")
        if not codes(tests) and UNNAMED not in tests:
            wrong.append(f"neither a test nor {UNNAMED}: '{promise}'")
        wrong += [f"no such test: {t}" for t in sorted(codes(tests)) if not is_defined(t)]
    assert rows and not wrong, "\n".join(wrong)
