"""`banger debug-bundle`: what is in it, who may read it, and that no secret is. What counts as a secret is
in unit/test_redact.c."""

import io
import json
import pathlib
import tarfile

import pytest
from mock_daemon import STATUS, MockDaemon, RpcError
from steps import assert_error, call
from test_doctor import FINE

SECRET = "hunter2Xyz"
PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n"
ASKED = {"daemon-status.json", "vms.json", "operations.json", "images.json", "kernels.json", "templates.json",
         "config.json", "store-check.json", "reconcile.json"}


def unpack(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        assert all(m.isfile() and m.mode == 0o600 for m in members)
        return {m.name.removeprefix("banger-debug/"): tar.extractfile(m).read().decode(errors="replace")
                for m in members}


def bundle(banger, *args, env=None):
    """The files of a bundle, by name."""
    path = banger.root / "bundle.tar"
    path.unlink(missing_ok=True)
    result = banger.run("debug-bundle", *args, str(path), env=env)
    assert result.returncode == 0, repr(result)
    assert path.stat().st_mode & 0o777 == 0o600
    return unpack(path.read_bytes()), result.out


@pytest.mark.sanitize
def test_bundle_has_what_is_needed_and_no_secret(banger):
    config = pathlib.Path(banger.environment["BANGER_CONFIG"])
    config.write_text(config.read_text() + f'default_image = "https://joe:{SECRET}@host/debian"\n')
    banger.ok("vm", "create", "--no-start", "--name", "a", "--image", "debian", "--label",
              f"registry_password={SECRET}", "--label", f"url=http://joe:{SECRET}@host",
              "--label", "team=red", "--description", f"curl -H 'Authorization: Bearer {SECRET}' x")
    vm = call(banger, "vm.show", vm="a")["id"]
    with open(banger.state_dir / "bangerd.log", "a", encoding="utf-8") as log:
        log.write(f"TOKEN={SECRET} and from-the-environment\n{PEM.format(SECRET)}the last line\n")
    (banger.state_dir / "vms" / vm / "console.log").write_bytes(
        b"kernel\0 says\xff\n--password " + SECRET.encode() + b" run\n")
    files, out = bundle(banger, env={"DEPLOY_TOKEN": "from-the-environment"})
    assert set(files) == {"versions.json", "doctor.json", "bangerd.log",
                          f"vms/{vm}/console.log"} | ASKED
    everything = "".join(files.values())
    assert SECRET not in everything and "from-the-environment" not in everything
    (shown,) = json.loads(files["vms.json"])
    assert shown["labels"] == {"registry_password": "[redacted]", "url": "http://[redacted]@host",
                               "team": "red"}
    assert shown["description"] == "curl -H 'Authorization: [redacted]' x"
    settings = {s["key"]: s["value"] for s in json.loads(files["config.json"])["settings"]}
    assert settings["default_image"] == "https://[redacted]@host/debian" and settings["accel"] == "tcg"
    assert files["bangerd.log"].endswith("TOKEN=[redacted] and [redacted]\n[redacted]\nthe last line\n")
    assert "--password [redacted] run\n" in files[f"vms/{vm}/console.log"]
    doctor = {f["id"]: f["status"] for f in json.loads(files["doctor.json"])}
    assert doctor["store"] == "pass" and len(doctor) >= 50
    assert json.loads(files["store-check.json"]) == {"problems": []}
    assert json.loads(files["daemon-status.json"])["pid"] == banger.daemon_pid()
    assert json.loads(files["versions.json"])["banger"] == banger.ok("version").out.split()[1]
    for name in files:
        assert f"  {name}\n" in out


def test_bundle_without_a_daemon_says_what_is_missing(bare):
    files, out = bundle(bare)
    assert set(files) == {"versions.json", "doctor.json", "config.json", "missing.json"}
    missing = {m["name"]: m["why"] for m in json.loads(files["missing.json"])}
    assert set(missing) == ASKED - {"config.json"}
    assert all("no daemon listens" in why for why in missing.values())
    assert "missing  vms.json: no daemon listens" in out
    assert not bare.state_dir.exists()


def test_bundle_of_a_configuration_that_is_wrong(bare):
    pathlib.Path(bare.environment["BANGER_CONFIG"]).write_text(f'token = "{SECRET}"\n')
    files, _ = bundle(bare)
    assert SECRET not in "".join(files.values())
    missing = {m["name"]: m["why"] for m in json.loads(files["missing.json"])}
    assert "unknown key 'token'" in missing["config.json"]
    assert "unknown key 'token'" in files["doctor.json"]


def test_one_answer_that_fails_does_not_cost_the_others(bare):
    def refuse(_):
        raise RpcError("io", f"http://joe:{SECRET}@host is gone")
    with MockDaemon(bare.socket_path) as daemon:
        daemon.answers["daemon.status"] = lambda params: STATUS
        daemon.answers["doctor"] = lambda params: [FINE]
        daemon.answers["op.list"] = refuse
        files, _ = bundle(bare)
    assert json.loads(files["daemon-status.json"]) == STATUS
    missing = {m["name"]: m["why"] for m in json.loads(files["missing.json"])}
    assert missing["operations.json"] == "http://[redacted]@host is gone"


def test_a_file_that_exists_is_left_alone(bare):
    path = bare.root / "there"
    path.write_text("mine")
    assert_error(bare.run("debug-bundle", str(path)), "File exists", hint="name another file")
    (bare.root / "link").symlink_to(bare.root / "elsewhere")
    assert_error(bare.run("debug-bundle", str(bare.root / "link")), "File exists")
    assert path.read_text() == "mine" and not (bare.root / "elsewhere").exists()
    assert_error(bare.run("debug-bundle", str(bare.root / "no" / "dir")), "No such file", hint=False)


def test_standard_output_and_json(bare):
    result = bare.run("debug-bundle", "-")
    assert result.returncode == 0 and "doctor.json" in unpack(result.stdout)
    assert "look into it before you give it away" in result.err
    made = bare.json("debug-bundle", "one.tar")
    assert made["path"] == "one.tar"
    files = unpack((bare.home / "one.tar").read_bytes())
    assert {f["name"]: f["bytes"] for f in made["files"]} == {
        name: len(text.encode()) for name, text in files.items()}
    assert bare.ok("debug-bundle", "--quiet").out == ""
    (default,) = bare.home.glob("banger-debug-*.tar")
    assert default.stat().st_mode & 0o777 == 0o600


def test_a_terminal_gets_no_archive(bare):
    child = bare.spawn("debug-bundle", "-", tty=("stdout",))
    assert child.finish().returncode == 1
    assert b"a terminal cannot take an archive" in child.output["stderr"]


def test_long_logs_are_cut_at_a_line(bare):
    bare.state_dir.mkdir(mode=0o700)
    line = "x" * 97 + "\n"
    with open(bare.state_dir / "bangerd.log", "w", encoding="utf-8") as log:
        log.write("first " + line * 30000 + "last\n")
    files, _ = bundle(bare)
    assert len(files["bangerd.log"]) <= 1 << 20
    assert files["bangerd.log"].startswith(line) and files["bangerd.log"].endswith(line + "last\n")
    (bare.state_dir / "bangerd.log").write_text("y" * (3 << 20))
    assert bundle(bare)[0]["bangerd.log"] == ""
