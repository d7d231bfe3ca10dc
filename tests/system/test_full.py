"""What takes a minute: the first of README's two commands, in a fresh clone, and its image."""

import filecmp
import json
import os
import pwd
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from banger import OUTSIDE, ROOT
from tmux import Screen

pytestmark = [pytest.mark.full, pytest.mark.deadline(900)]

PACKAGES = {"systemd-sysv", "openssh-server", "iproute2", "iputils-ping", "git", "curl",
            "ca-certificates", "procps", "less", "vim-tiny"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A fresh clone, and the environment of a banger that nobody else uses."""
    top = tmp_path_factory.mktemp("t")
    subprocess.run(["git", "clone", "-q", f"file://{ROOT}", top / "banger"], check=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("BANGER_", "MAKE"))}
    env |= {f"BANGER_{name}_DIR": str(top / name.lower()) for name in ("STATE", "CACHE", "RUNTIME")}
    env["BANGER_CONFIG"] = str(top / "config.toml")
    (top / "config.toml").write_text('network = "none"\n')
    yield top / "banger", env
    subprocess.run([top / "banger/build/banger", "daemon", "stop"], env=env, check=True)


def make_try(directory, env):
    done = subprocess.run([*OUTSIDE, "make", "try"], cwd=directory, env=env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^Linux \S+ 6\.1\.", done.stdout, re.MULTILINE)
    assert "\nDebian GNU/Linux 12 (bookworm)\n" in done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def tried(clone):
    """The clone after its first `make try`, and what that printed."""
    return *clone, make_try(*clone)


@pytest.mark.xdist_group("try")
def test_make_try_twice_in_a_fresh_clone(tried):
    directory, env, first = tried
    steps = re.findall(r"^\[(\d)/6\] ", first, re.MULTILINE)
    assert steps == ["1", "2", "3", "4", "5", "6"]
    second = make_try(directory, env)
    assert second.count("already there, seen") == 2
    assert "mmdebstrap" not in second


@pytest.mark.xdist_group("try")
def test_image_built_again_has_the_same_bytes(tried, tmp_path):
    directory, env, _ = tried
    again = tmp_path / "again.tar"
    subprocess.run([*OUTSIDE, directory / "tools/build-image.sh", again], env=env, check=True,
                   stdin=subprocess.DEVNULL, capture_output=True)
    assert filecmp.cmp(directory / ".cache/debian.tar", again, shallow=False)
    with tarfile.open(again) as tar:
        names = {name.removeprefix("./") for name in tar.getnames()}
        status = tar.extractfile("./var/lib/dpkg/status").read().decode()
    assert PACKAGES <= set(re.findall(r"^Package: (\S+)$", status, re.MULTILINE))
    assert not [name for name in names if re.fullmatch(r"etc/ssh/ssh_host_.*", name)]


@pytest.fixture
def sudoer():
    """A user of its own with sudo, gone afterwards with its daemon and all that it has."""
    if os.geteuid() != 0 or not shutil.which("sudo") or not shutil.which("useradd"):
        pytest.skip("needs root, sudo and useradd, to make a user with sudo")
    name = f"banger-try-{os.getpid()}"
    rights = Path("/etc/sudoers.d") / name
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
    runtime = Path(f"/tmp/banger-{pwd.getpwnam(name).pw_uid}")
    try:
        rights.write_text(f"{name} ALL=(ALL) NOPASSWD: ALL\n")
        rights.chmod(0o440)
        yield name
    finally:
        rights.unlink(missing_ok=True)
        shutil.rmtree(runtime, ignore_errors=True)
        subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)


def test_make_try_as_a_user_with_sudo(sudoer):
    """One of the packages is missing, and the user's rights install it."""
    if subprocess.run(["dpkg", "-s", "hello"], capture_output=True, check=False).returncode == 0:
        pytest.skip("Debian's package 'hello' is installed, and is to be the one that is missing")

    def as_user(command):
        done = subprocess.run([*OUTSIDE, "su", "-", sudoer, "-c", command], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    bundle = Path(f"/tmp/{sudoer}.bundle")
    try:
        subprocess.run(["git", "bundle", "create", "-q", bundle, "HEAD"], cwd=ROOT, check=True)
        bundle.chmod(0o644)
        as_user(f"git clone -q {bundle} banger && echo 'run hello' >>banger/packaging/packages.txt")
        out = as_user("cd banger && make try")
        assert "deps: installing hello\n" in out
        assert "\nDebian GNU/Linux 12 (bookworm)\n" in out
        # The daemon is the user's, and so is all that it has made.
        status = json.loads(as_user("banger/build/banger daemon status --format json"))
        assert status["owner"] == int(as_user("id -u"))
        strangers = as_user("find . ! -user $(id -un) ! -path './banger/.cache/*'")
        assert strangers == ""
    finally:
        bundle.unlink(missing_ok=True)
        subprocess.run([*OUTSIDE, "su", "-", sudoer, "-c", "banger/build/banger daemon stop"], check=False,
                       capture_output=True)
        subprocess.run(["apt-get", "purge", "-y", "-q", "hello"], check=False,
                       capture_output=True)


class Place:
    """What a Screen wants to know of a banger."""

    def __init__(self, root, env):
        self.root, self.home, self.environment = root, root, env


@pytest.mark.xdist_group("try")
def test_vim_less_and_top_of_the_image_draw(tried, tmp_path):
    directory, env, _ = tried
    banger = directory / "build/banger"
    place = Place(tmp_path, env | {"LANG": "C.UTF-8"})
    subprocess.run([banger, "vm", "create", "--name", "screen"], env=env, check=True)
    with Screen(place, banger, "exec", "-it", "screen", "--", "vim.tiny", "-u", "NONE", "text") as s:
        s.wait(lambda text: text.count("\n~") > 15)
        s.type("i", "gr\u00fc\u00dfe", "Enter", "zwei")
        s.wait(lambda text: text.startswith("gr\u00fc\u00dfe\nzwei\n~"))
        s.resize(100, 30)
        s.wait(lambda text: text.count("\n~") > 20)
        s.type("Escape")
        s.wait(lambda text: "INSERT" not in text)
        s.type(":wq", "Enter")
        s.wait_end()
    done = subprocess.run([banger, "exec", "screen", "--", "cat", "text"], env=env, check=True,
                          stdin=subprocess.DEVNULL, capture_output=True)
    assert done.stdout.decode() == "gr\u00fc\u00dfe\nzwei\n"
    with Screen(place, banger, "exec", "-it", "screen", "--", "less", "/var/lib/dpkg/status") as s:
        first = s.wait(lambda text: "dpkg/status" in text.splitlines()[-1]).splitlines()[0]
        s.type("Space")
        s.wait(lambda text: not text.startswith(first))
        s.type("q")
        s.wait_end()
    with Screen(place, banger, "exec", "-it", "screen", "--", "top") as s:
        s.wait(lambda text: re.search(r"PID +USER", text) and "load average" in text)
        s.resize(120, 12)
        s.wait(lambda text: len(text.splitlines()) <= 12 and "load average" in text)
        s.type("q")
        s.wait_end()
    # A login shell: bash, with job control and its prompt.
    with Screen(place, banger, "exec", "screen") as s:
        s.wait(lambda text: text.rstrip().endswith("#"))
        # The job says that it has the terminal: before, C-z would be for the shell, which ignores it.
        s.type("shopt login_shell; (echo the''re; exec sleep 1000)", "Enter")
        s.wait(lambda text: re.search(r"login_shell\s+on", text) and "\nthere" in text)
        s.type("C-z")
        s.wait(lambda text: "Stopped" in text)
        s.type("kill %1; wait; exit 5", "Enter")
        s.wait_end(5)
    subprocess.run([banger, "rm", "--force", "screen"], env=env, check=True)
