"""`banger doctor`: with a daemon, without one, and when none can start. What each of the daemon's checks
finds is in unit/test_doctor_checks.c; those of the user's side are here."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
from banger import BUILD
from mock_daemon import STATUS, MockDaemon, RpcError
from schema import protocol
from steps import NOBODY, assert_error, call, needs_root, own_programs, start

# The checks that the command line makes itself; each has a test below that breaks it.
OURS = ["daemon", "daemon-version", "ssh", "ssh-key"]
FINE = {"id": "store", "status": "pass", "summary": "sound", "evidence": "e", "fix": None}


def findings(banger, *args, status=0):
    result = banger.run("doctor", "--format", "json", *args)
    assert result.returncode == status, repr(result)
    found = json.loads(result.out)
    schema = protocol().document["components"]["schemas"]["Finding"]
    for finding in found:
        assert set(finding) == set(schema["properties"])
        assert finding["status"] == "pass" or finding["evidence"], finding
    return {f["id"]: f for f in found}


def fails(found):
    return {i for i, f in found.items() if f["status"] == "fail"}


@pytest.fixture
def mock(bare):
    with MockDaemon(bare.socket_path) as daemon:
        version = bare.ok("version").out.split()[1]
        daemon.answers["daemon.status"] = lambda params: STATUS | {"version": version}
        daemon.answers["doctor"] = lambda params: [FINE]
        yield daemon


# With a daemon and without -------------------------------------------------------------------------

@pytest.mark.sanitize
def test_daemon_and_program_without_one_make_the_same_checks(banger):
    without = findings(banger)
    assert "no daemon runs" in without["daemon"]["summary"]
    banger.ok("ps")
    found = findings(banger)
    assert list(without) == list(found) and len(found) >= 50
    assert list(found)[:len(OURS)] == OURS
    assert [f["id"] for f in call(banger, "doctor")] == list(found)[len(OURS):]
    assert fails(found) == fails(without) == set()
    for check in ("daemon", "store", "kernel", "modules", "image", "vmm", "socket", "state-dir",
                  "daemon-version", "programs-version", "agent"):
        assert found[check]["status"] == "pass", found[check]
    assert f"process {banger.daemon_pid()}," in found["daemon"]["evidence"]


def test_without_a_daemon_nothing_is_made(bare):
    found = findings(bare)
    assert not fails(found)
    assert found["kernel"]["status"] == found["image"]["status"] == "warn"
    for path in (bare.state_dir, bare.cache_dir, bare.runtime_dir):
        assert not path.exists()


def test_a_daemon_that_cannot_start_is_explained(bare):
    config = pathlib.Path(bare.environment["BANGER_CONFIG"])
    config.write_text('acel = "tcg"\n')
    found = findings(bare, status=1)
    assert fails(found) == {"config"}
    assert "unknown key 'acel'" in found["config"]["summary"]
    config.write_text("")
    bare.state_dir.mkdir(mode=0o777)
    bare.state_dir.chmod(0o777)
    found = findings(bare, status=1)
    assert fails(found) == {"state-dir"}
    subprocess.run(found["state-dir"]["fix"], shell=True, check=True)
    assert not fails(findings(bare))


def test_a_store_of_a_newer_banger_is_told(banger):
    banger.ok("ps")
    banger.ok("daemon", "stop")
    subprocess.run(["/usr/bin/python3", "-c", "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
                    "c.execute('PRAGMA user_version = 999')", banger.state_dir / "banger.db"], check=True)
    found = findings(banger, status=1)
    assert fails(found) == {"store"} and "newer banger" in found["store"]["summary"]


@needs_root
def test_an_ordinary_user_gets_findings_of_his_own(bare):
    bare.home.chmod(0o755)
    bare.root.chmod(0o755)
    env = bare.environment | {name: str(bare.root / "own" / name.lower()) for name in (
        "BANGER_STATE_DIR", "BANGER_CACHE_DIR", "BANGER_RUNTIME_DIR")}
    (bare.root / "own").mkdir()
    os.chown(bare.root / "own", NOBODY, NOBODY)
    done = subprocess.run(
        ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups",
         bare.program(), "--socket", str(bare.root / "own" / "socket"), "doctor", "--format", "json"],
        env=env, capture_output=True, text=True, check=False, timeout=60, cwd="/")
    found = {f["id"]: f for f in json.loads(done.stdout)}
    assert f"owner {NOBODY} (nobody)" in found["owner"]["evidence"]
    assert found["vmm-uids"]["evidence"] == "no root"
    assert not list((bare.root / "own").iterdir())


def test_agent_of_another_version_in_a_vm_that_runs_is_told(banger):
    """An upgrade while a VM runs: the next daemon has another agent beside it."""
    data = (BUILD / "banger-agent").read_bytes()
    version = banger.ok("version").out.split()[1].encode()
    assert data.count(version) >= 1
    programs = own_programs(banger, data.replace(version, b"9" * len(version)))
    start(banger, "one")
    found = findings(banger)
    assert found["programs-version"]["status"] == "warn"
    assert found["agents"]["status"] == "warn"
    assert f"VM 'one': agent {'9' * len(version)}; daemon: {version.decode()}" in \
        found["agents"]["evidence"]
    assert "banger restart one" in found["agents"]["fix"]
    shutil.copy2(BUILD / "banger-agent", programs / "banger-agent")
    banger.ok("restart", "one")
    found = findings(banger)
    assert found["agents"]["status"] == found["programs-version"]["status"] == "pass"
    assert found["agents"]["evidence"] == "VMs that run: 1"


# What is shown -------------------------------------------------------------------------------------

def test_table_tells_evidence_and_fix_of_what_does_not_pass(bare, mock):
    mock.answers["doctor"] = lambda params: [
        FINE, FINE | {"id": "b", "status": "warn", "summary": "so\x1b", "evidence": "w", "fix": "do w"},
        FINE | {"id": "c", "status": "fail", "evidence": "f", "fix": "do f"}]
    result = bare.run("doctor", "c", "store", "b", "c")
    assert result.returncode == 1
    assert result.out == ("fail  c                 sound\n      seen: f\n      fix: do f\n"
                          "pass  store             sound\n"
                          "warn  b                 so\\x1b\n      seen: w\n      fix: do w\n"
                          "1 passed, 1 warned, 1 failed\n")
    assert bare.ok("doctor", "store", "b").out.endswith("1 passed, 1 warned, 0 failed\n")
    assert "      seen: e\n" in bare.ok("doctor", "-v", "store").out
    lines = bare.run("doctor", "--format", "jsonl", "store", "c").out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["store", "c"]


def test_unknown_check_is_an_error_of_usage(bare, mock):
    assert_error(bare.run("doctor", "stoer"), "there is no check 'stoer'", status=2, hint="'store'")
    assert_error(bare.run("doctor", "store", "xyzzy"), "there is no check 'xyzzy'", status=2,
                 hint="banger doctor -q")
    assert bare.ok("doctor", "-q").out.split() == OURS + ["store"]
    assert ("doctor", {}) in mock.calls


# The checks of the user's side ---------------------------------------------------------------------

def broken_daemon(bare, mock):
    def refuse(_):
        raise RpcError("io", "the disk is gone")
    mock.answers["doctor"] = refuse
    return findings(bare, "daemon", status=1), "fail", "the disk is gone", "banger daemon stop"


def older_daemon(bare, mock):
    mock.answers["daemon.status"] = lambda params: STATUS | {"version": "0.0.1"}
    return findings(bare, "daemon-version"), "warn", "the daemon 0.0.1", "banger daemon stop"


def no_ssh(bare, mock):
    os.makedirs(bare.root / "bin")
    bare.environment["PATH"] = str(bare.root / "bin")
    return findings(bare, "ssh"), "warn", "ssh: not in PATH", "apt-get install openssh-client"


def no_key(bare, mock):
    return findings(bare, "ssh-key"), "warn", "/.ssh/id_*.pub: none", "ssh-keygen"


BREAKS = {"daemon": broken_daemon, "daemon-version": older_daemon, "ssh": no_ssh, "ssh-key": no_key}


def test_every_check_of_the_user_has_a_test():
    assert list(BREAKS) == OURS


@pytest.mark.parametrize("check", OURS)
def test_what_is_broken_on_the_users_side_is_told(bare, mock, check):
    found, status, evidence, fix = BREAKS[check](bare, mock)
    finding = found[check]
    assert finding["status"] == status, finding
    assert evidence in finding["evidence"] and fix in finding["fix"], finding


def test_users_checks_pass_where_all_is_well(bare, mock):
    (bare.root / "bin").mkdir()
    (bare.root / "bin" / "ssh").symlink_to("/bin/true")
    bare.environment["PATH"] = str(bare.root / "bin")
    (pathlib.Path(bare.environment["HOME"]) / ".ssh").mkdir()
    (pathlib.Path(bare.environment["HOME"]) / ".ssh" / "id_x.pub").write_text("")
    assert {f["status"] for f in findings(bare, *OURS).values()} == {"pass"}


def test_installed_daemon_of_another_version_is_told(bare):
    programs = bare.root / "bin"
    programs.mkdir()
    for program in ("banger", "bangerd"):
        shutil.copy(BUILD / program, programs)
    data = (programs / "bangerd").read_bytes()
    mark = b"banger-version=" + bare.ok("version").out.split()[1].encode()
    assert data.count(mark) == 1
    (programs / "bangerd").write_bytes(data.replace(mark, b"banger-version=9" + mark[16:]))
    done = subprocess.run([programs / "banger", "doctor", "daemon-version", "--format", "json"],
                          env=bare.environment, capture_output=True, text=True, check=False,
                          timeout=60, cwd=bare.home)
    (finding,) = json.loads(done.stdout)
    assert finding["status"] == "warn" and "bangerd 9" in finding["evidence"], finding


def test_a_missing_daemon_program_is_an_error(bare):
    (bare.root / "bin").mkdir()
    shutil.copy(BUILD / "banger", bare.root / "bin")
    bare.environment["PATH"] = "/nonexistent"
    done = subprocess.run([bare.root / "bin" / "banger", "doctor"], env=bare.environment,
                          capture_output=True, text=True, check=False, timeout=60, cwd=bare.home)
    assert done.returncode == 1 and "cannot start the daemon's program 'bangerd'" in done.stderr


# The start of a VM ---------------------------------------------------------------------------------

def test_a_start_fails_by_the_check_and_its_fix(banger):
    """As `doctor` says it."""
    programs = banger.root / "bin"
    programs.mkdir()
    for name in os.listdir("/usr/bin"):
        if name != "qemu-system-x86_64":
            (programs / name).symlink_to(f"/usr/bin/{name}")
    banger.environment["PATH"] = str(programs)
    if shutil.which("qemu-system-x86_64", path="/usr/local/sbin:/usr/sbin:/sbin"):
        pytest.skip("QEMU lies where the daemon always looks")
    banger.ok("vm", "create", "--no-start", "--name", "a")
    result = banger.run("start", "a")
    finding = findings(banger, "vmm", status=1)["vmm"]
    assert finding["status"] == "fail"
    assert_error(result, finding["summary"], hint=finding["fix"])
    assert call(banger, "vm.show", vm="a")["reason"].startswith("start failed: 'qemu-system")
