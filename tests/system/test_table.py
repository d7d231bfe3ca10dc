"""Tables on terminals: they fit, ids and names stay whole, and what guests wrote is harmless."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import unicodedata

import pytest
from mock_daemon import IMAGE, SESSION, VM, MockDaemon, Operation

LONG = VM | {"name": "a-name-that-is-quite-long-but-within-the-63-that-are-allowed-xy",
             "id": "a1" * 16, "reason": "vmm_died", "state": "stopped",
             "image": {"name": "registry.example.org/team/project/some-image:2026-11-23",
                       "digest": "sha256:" + "ab" * 32}}
# Two columns a character, one with a combining accent, an emoji.
WIDE = [SESSION | {"command": ["echo", text]} for text in ("漢字漢字", "e\u0301e\u0301", "🦊", "plain")]
EVIL = "\x1b[31mred\x07\x9b2J\u202eevil\u2066\r\n\tend"


@pytest.fixture
def daemon(bare):
    with MockDaemon(bare.socket_path) as mock:
        mock.answers["vm.list"] = lambda params: [VM, LONG]
        yield mock


def on_terminal(banger, columns, *args, env=None):
    """What a command writes to a terminal of that many columns, as lines."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen([banger.program(), *args], stdin=subprocess.DEVNULL, stdout=slave,
                          stderr=slave, env=banger.environment | (env or {})) as process:
        os.close(slave)
        data = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            data += piece
        os.close(master)
        assert process.wait() == 0, data
    return data.decode().replace("\r\n", "\n").splitlines()


def width(text):
    """Columns of a terminal that the text takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
               for c in text)


@pytest.mark.parametrize("columns", [40, 60, 80, 81, 100, 132, 200, 500])
def test_table_fits_the_terminal(bare, daemon, columns):
    daemon.answers["vm.list"] = lambda params: [VM | {"image": LONG["image"]}]
    for args, env in (((columns, "ps"), {}), ((10, "ps"), {"COLUMNS": str(columns)})):
        lines = on_terminal(bare, *args, env=env)
        assert len(lines) == 2 and all(width(line) <= columns for line in lines), lines
        assert lines[1].startswith(VM["id"][:12] + " quiet-fox running")
    # The room is used, and nothing is cut or left out for no reason.
    if columns >= 132:
        assert LONG["image"]["name"] in lines[1]
    if columns >= 80:
        assert lines[0].split()[-1] == "CREATED" and "regist" in lines[1]
    assert lines[0].split()[:3] == ["ID", "NAME", "STATE"]


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_ids_and_names_are_never_cut(bare, daemon, columns):
    lines = on_terminal(bare, columns, "ps")
    assert LONG["id"][:12] in lines[2] and LONG["name"] in lines[2]
    operation = Operation(None).show("failed") | {
        "target": LONG["name"], "message": "the guest did not boot and so on and so on"}
    daemon.answers["op.list"] = lambda params: [operation]
    assert LONG["name"] in on_terminal(bare, columns, "op", "list")[1]


def test_what_is_cut_ends_with_an_ellipsis(bare, daemon):
    image = LONG["image"]["name"]
    daemon.answers["vm.list"] = lambda params: [VM | {"image": LONG["image"]}]
    cut = on_terminal(bare, 80, "ps")[1].split()[3]
    assert cut.endswith("…") and image.startswith(cut[:-1])
    cut = on_terminal(bare, 80, "ps", env={"LC_ALL": "C"})[1].split()[3]
    assert cut.endswith("~") and image.startswith(cut[:-1])


def test_a_pipe_gets_all_of_it_unless_columns_says_otherwise(bare, daemon):
    assert LONG["image"]["name"] in bare.ok("ps").out
    lines = bare.ok("vm", "list", env={"COLUMNS": "70"}).out.splitlines()
    assert "CREATED" not in lines[0] and width(lines[0]) <= 76
    for nonsense in ("", "0", "-5", "wide", "99999999999"):
        assert LONG["image"]["name"] in bare.ok("ps", env={"COLUMNS": nonsense}).out


@pytest.mark.parametrize("locale", ["C.UTF-8", "C", "nowhere"])
def test_wide_characters_are_aligned(bare, daemon, locale):
    daemon.answers["image.list"] = lambda params: [
        IMAGE | {"names": [session["command"][1]], "size_bytes": 1} for session in WIDE]
    lines = on_terminal(bare, 80, "image", "list", env={"LC_ALL": locale})
    sizes = {width(line[:line.index("1B")]) for line in lines[1:]}
    assert len(sizes) == 1 and width(lines[0][:lines[0].index("SIZE")]) + 2 == sizes.pop(), lines


def test_wide_characters_are_not_cut_in_half(bare, daemon):
    daemon.answers["session.list"] = lambda params: [SESSION | {"command": ["漢" * 60]}]
    for columns in range(44, 52):
        line = on_terminal(bare, columns, "session", "list", "x")[1]
        assert columns - 1 <= width(line) <= columns and line.endswith("…"), line


@pytest.mark.sanitize
@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_text_of_guests_cannot_move_the_cursor(bare, daemon, columns, env):
    daemon.checks = False
    vm = VM | {"name": EVIL, "state": EVIL, "reason": EVIL, "image": {"name": EVIL}, "created_at": EVIL}
    session = SESSION | {"command": [EVIL, {"base64": "G1szMW0="}], "state": EVIL}
    daemon.answers |= {
        "vm.list": lambda params: [vm], "vm.show": lambda params: vm | {EVIL: EVIL},
        "session.list": lambda params: [session],
        "op.list": lambda params: [{"id": EVIL, "kind": EVIL, "error": {"message": EVIL}}],
        "vm.logs": lambda params: {"text": EVIL, "position": 9, "skipped": 0}}
    for args in (["ps"], ["vm", "show", "x"], ["session", "list", "x"], ["op", "list"],
                 ["logs", "x"], ["ps", "--format", "json"], ["vm", "show", "x", "--format", "jsonl"]):
        for line in on_terminal(bare, columns, *args, env=env):
            assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line), (args, line)


def test_nothing_is_coloured(bare, daemon):
    for env in ({}, {"NO_COLOR": "1"}):
        assert not any("\x1b" in line for line in on_terminal(bare, 80, "ps", env=env))
        assert "\x1b" not in bare.ok("ps", env=env).out
