"""config.toml as people meet it: what is used and why, and what is said about mistakes."""

import json

import pytest
from mock_daemon import CONFIGURATION, MockDaemon
from steps import assert_daemon_ends, assert_error, call

pytestmark = pytest.mark.sanitize


def settings(config):
    """{key: (value, origin, source)} of all settings and paths."""
    return {s["key"]: (s["value"], s["origin"], s["source"])
            for s in config["settings"] + config["paths"]}


def test_show_tells_each_value_and_its_origin(make_banger):
    bare = make_banger(config='# Slow.\naccel = "tcg"\n\nboot_slots = 3\n', assets=False)
    shown = bare.json("config", "show")
    found = settings(shown)
    assert found["accel"] == ("tcg", "file", f"{bare.config_file}:2")
    assert found["boot_slots"] == (3, "file", f"{bare.config_file}:4")
    assert found["boot_timeout_s"] == (120, "default", None)
    assert found["default_kernel"] == ("", "default", None)
    assert found["config"] == (str(bare.config_file), "environment", "BANGER_CONFIG")
    assert found["state_dir"] == (str(bare.state_dir), "environment", "BANGER_STATE_DIR")
    # The client that started the daemon told it the socket, and it is where it would be anyhow.
    assert found["socket"] == (str(bare.socket_path), "default", None)
    assert [s["default"] for s in shown["settings"] if s["key"] == "accel"] == ["auto"]
    assert call(bare, "config.show") == shown


def test_show_tells_what_flags_of_the_daemon_say(make_banger):
    bare = make_banger(assets=False)
    other = bare.root / "other.toml"
    other.write_text("boot_silence_s = 7\n")
    child = bare.spawn("--config", str(other), "--socket", str(bare.root / "x.sock"), "--ready-fd",
                       "1", program="bangerd")
    child.read_until(b"ok\n")
    found = settings(bare.json("--socket", str(bare.root / "x.sock"), "config", "show"))
    assert found["config"] == (str(other), "flag", "--config")
    assert found["socket"] == (str(bare.root / "x.sock"), "flag", "--socket")
    assert found["boot_silence_s"] == (7, "file", f"{other}:1")
    assert found["accel"] == ("auto", "default", None)
    bare.ok("--socket", str(bare.root / "x.sock"), "daemon", "stop")
    assert child.finish().returncode == 0


def test_show_is_what_the_daemon_has_read_not_what_the_file_says_now(bare):
    assert settings(bare.json("config", "show"))["accel"][0] == "tcg"
    bare.configure('accel = "auto"\n')
    assert settings(bare.json("config", "show"))["accel"][0] == "tcg"
    bare.ok("daemon", "stop")
    assert settings(bare.json("config", "show"))["accel"][0] == "auto"


def test_show_and_list_as_tables_and_for_programs(bare):
    with MockDaemon(bare.socket_path) as daemon:
        daemon.answers["config.show"] = lambda params: CONFIGURATION
        rows = [line.split() for line in bare.ok("config", "show").out.splitlines()]
        assert rows == [["KEY", "VALUE", "ORIGIN"],
                        ["accel", "tcg", "/etc/banger/config.toml:1"],
                        ["boot_slots", "0", "default"],
                        ["socket", "/run/banger/banger.sock", "default"]]
        assert bare.json("config", "inspect") == CONFIGURATION
        assert bare.json("config", "ls") == CONFIGURATION["settings"]
        assert [line.split() for line in bare.ok("config", "list").out.splitlines()] == rows[:3]
        lines = bare.ok("config", "list", "--format", "jsonl").out.splitlines()
        assert [json.loads(line) for line in lines] == CONFIGURATION["settings"]
        assert bare.ok("config", "list", "-q").out.split() == ["accel", "boot_slots"]


def test_a_secret_is_only_told_to_be_set(bare):
    """None exists yet; the client shows what a daemon would send of one."""
    secret = {"key": "token", "value": "(set)", "default": None, "origin": "file", "source": "/c:1"}
    unset = secret | {"value": None, "origin": "default", "source": None}
    with MockDaemon(bare.socket_path) as daemon:
        daemon.answers["config.show"] = lambda params: {"settings": [secret, unset], "paths": []}
        lines = bare.ok("config", "show").out.splitlines()
    assert lines[1].split() == ["token", "(set)", "/c:1"]
    assert lines[2].split() == ["token", "default"]


@pytest.mark.parametrize("text, said, hint", [
    ("acel = 'tcg'\n", "{file}:1:1: unknown key 'acel'", "did you mean 'accel'?"),
    ("accel = 'tcg'\nboot_slot = 1\n", "{file}:2:1: unknown key 'boot_slot'",
     "did you mean 'boot_slots'?"),
    ("\n[net]\nmode = 'nat'\n", "{file}:2:2: unknown table 'net'", "docs/CONFIG.md lists the keys"),
    ("[net]\n", "{file}:1:2: unknown table 'net'", "docs/CONFIG.md lists the keys"),
    ("boot_slots = 'two'\n", "{file}:1:14: 'boot_slots' must be a whole number from 0 to 256",
     "docs/CONFIG.md lists the keys"),
    ("accel = 7\n", "{file}:1:9: 'accel' must be a string", "docs/CONFIG.md lists the keys"),
    ("templates = 'always'\n", "{file}:1:13: 'templates' must be one of auto|manual|off",
     "docs/CONFIG.md lists the keys"),
    ("template_disk_mib = -1\n",
     "{file}:1:21: 'template_disk_mib' must be a whole number from 0 to 16777216",
     "docs/CONFIG.md lists the keys"),
    ("accel = 'kvm'\nacel = 1\nboot_slots = 999\n",
     "{file}:2:1: unknown key 'acel' (did you mean 'accel'?)\n"
     "  {file}:3:14: 'boot_slots' must be a whole number from 0 to 256",
     "docs/CONFIG.md lists the keys"),
], ids=["key", "later", "table", "empty-table", "type", "string", "choice", "negative", "several"])
@pytest.mark.parametrize("args", [["ps"], ["config", "show"]], ids=["ps", "show"])
def test_mistakes_are_told_once_with_place_and_suggestion(bare, args, text, said, hint):
    bare.configure(text)
    result = bare.run(*args)
    assert result.returncode == 1 and not result.out, repr(result)
    assert result.err == (f"banger: the daemon did not start: {said.format(file=bare.config_file)}\n"
                          f"hint: {hint}\n")
    assert_daemon_ends(bare)
    bare.configure('accel = "tcg"\n')
    bare.ok("ps")


def test_templates_that_are_off_are_no_methods_of_the_daemon(make_banger):
    bare = make_banger(config='accel = "tcg"\ntemplates = "off"\n', assets=False)
    assert settings(bare.json("config", "show"))["templates"] == \
        ("off", "file", f"{bare.config_file}:2")
    for words in ("list", "show x", "create", "delete x", "verify", "prune"):
        assert_error(bare.run("template", *words.split()), "templates are off",
                     hint="banger daemon stop")
    assert not (bare.state_dir / "templates").exists()
    bare.configure('accel = "tcg"\ntemplates = "manual"\n')
    bare.ok("daemon", "stop")
    assert bare.json("template", "list") == []


def test_daemon_by_hand_tells_mistakes_too_and_ends_with_2(bare):
    bare.configure("acel = 1\n")
    result = bare.run(program="bangerd")
    assert result.returncode == 2
    assert result.err.count(f"{bare.config_file}:1:1: unknown key 'acel'") == 1, repr(result)


def test_configuration_that_cannot_be_read_is_told(bare):
    bare.config_file.unlink()
    bare.config_file.mkdir()
    assert_error(bare.run("ps"), "the daemon did not start", "cannot read the configuration",
                 str(bare.config_file))
    bare.config_file.rmdir()
    bare.ok("ps")


def test_no_configuration_is_an_empty_one(bare):
    bare.config_file.unlink()
    found = settings(bare.json("config", "show"))
    assert found["accel"] == ("auto", "default", None)
    assert found["config"] == (str(bare.config_file), "environment", "BANGER_CONFIG")
