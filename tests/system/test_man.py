"""The manual pages: no warnings, and all that the programs have is in them."""

import re
import subprocess

import pytest
from banger import BUILD, ROOT

PAGES = ["banger.1", "bangerd.8", "banger.toml.5"]
# Programs of other builds (sanitizers) have no pages of their own.
DIRECTORY = BUILD if (BUILD / PAGES[0]).exists() else ROOT / "build"


def render(page):
    """The page as 80 columns of plain text, and what man says about it."""
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "--no-hyphenation", "--no-justification", "-l",
         DIRECTORY / page], capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANPAGER": "cat"})
    return re.sub(".\b", "", done.stdout), done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_no_warnings(page):
    text, said = render(page)
    assert said == ""
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "\\" not in text.replace("\\xNN", "")
    name, section = page.rsplit(".", 1)
    assert text.startswith(f"{name}({section})") and f"       {name} - " in text


def test_every_command_and_flag_is_in_the_page(bare):
    text, _ = render("banger.1")
    sections = dict(re.findall(r"^   ([a-z][a-z -]+)\n(.*?)(?=^   [a-z]|^[A-Z])", text, re.M | re.S))
    program = bare.json("help")
    assert set(sections) == {c["path"] for c in program["commands"] if not c["hidden"]}
    for command in program["commands"]:
        if command["hidden"]:
            continue
        section = sections[command["path"]]
        flat = " ".join(section.split())
        flags = set(re.findall(r"^       (?:-\w, )?--([a-z-]+)", section, re.M))
        assert flags == {f["name"] for f in command["flags"]}, command["path"]
        assert f"banger {command['path']}" in flat and command["doc"] in flat
        for flag in command["flags"]:
            assert flag["doc"] in flat, flag
    for flag in program["flags"]:
        assert re.search(rf"^       (-{flag['letter']}, )?--{flag['name']}\b", text, re.M)


def test_page_is_what_the_program_prints(bare):
    roff = subprocess.run(["scdoc"], input=bare.ok("internal", "man").stdout, capture_output=True,
                          check=True).stdout

    def body(data):
        # The heading has the date of the build.
        return [line for line in data.splitlines() if not line.startswith(b".TH")]
    assert body(roff) == body((DIRECTORY / "banger.1").read_bytes())


def test_flags_of_the_daemon_are_in_its_page(bare):
    text, _ = render("bangerd.8")
    wanted = set(re.findall(r"--[a-z-]+", bare.ok("--help", program="bangerd").out))
    assert set(re.findall(r"^       (--[a-z-]+)", text, re.M)) == wanted


def test_keys_of_the_configuration_are_in_its_page():
    text, _ = render("banger.toml.5")
    wanted = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "CONFIG.md").read_text(), re.M)
    assert wanted and re.findall(r"^       (\w+) \(", text, re.M) == wanted
