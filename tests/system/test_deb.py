"""The Debian package: built, and installed, used, removed and purged in a clean Debian."""

import fcntl
import hashlib
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from banger import OUTSIDE, ROOT

pytestmark = [pytest.mark.full, pytest.mark.deadline(900), pytest.mark.xdist_group("deb")]

CACHE = ROOT / ".cache"
# What dpkg notes of any package, and whoever it runs.
NOTES = re.compile(r"/var/lib/dpkg/(status|status-old|available|available-old|lock|lock-frontend|"
                   r"triggers/\w+)|/var/log/(dpkg|alternatives)\.log|/var/cache/ldconfig/aux-cache|"
                   r"/tmp/given(/.*)?|/proc")

SCRIPT = r"""
set -eu
step() { echo "== $1"; }
trap 'echo "== failed"; tail -n 20 /var/lib/banger/bangerd.log 2>/dev/null || true' EXIT
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
deb=$1

step install
dpkg -i "$deb"
mkdir -p /etc/banger
echo 'accel = "tcg"' >/etc/banger/config.toml
step version
banger version
step use
banger --quiet kernel import debian /tmp/given/kernel
banger --quiet image register debian /tmp/given/rootfs.tar
banger --quiet run --rm -- sh -c 'echo "hello from $(uname -s)"; exit 3' || echo "status $?"
banger --quiet vm create --name kept
step refuse
if dpkg -r banger; then echo "removed with a VM that runs"; exit 1; fi
banger exec kept -- echo still there
banger stop kept
step remove
dpkg -r banger
for process in /proc/[0-9]*/comm; do cat "$process" 2>/dev/null || true; done | grep banger && exit 1
test -s /var/lib/banger/banger.db
test -s /etc/banger/config.toml
if [ -e /usr/bin/banger ]; then exit 1; fi
step again
dpkg -i "$deb"
banger vm list
step purge
dpkg -P banger
trap - EXIT
step done
"""


@pytest.fixture(scope="module")
def deb():
    done = subprocess.run([*OUTSIDE, "tools/build-deb.sh"], cwd=ROOT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.split()[-1])


def fields(deb, *names):
    text = subprocess.run(["dpkg-deb", "-f", deb, *names], capture_output=True, text=True,
                          check=True).stdout
    return text.strip()


@pytest.fixture
def clean_debian(deb, tmp_path):
    """Debian's essential packages and what ours depends on: what apt would have installed."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for chroot and devices")
    packages = ",".join(re.sub(r" *\([^)]*\)", "", fields(deb, "Depends")).split(", "))
    tar = CACHE / f"deb-chroot-{hashlib.sha256(packages.encode()).hexdigest()[:12]}.tar"
    with open(CACHE / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tar.exists():
            for old in CACHE.glob("deb-chroot-*"):
                old.unlink()
            subprocess.run([*OUTSIDE, "tools/build-image.sh", tar, packages], cwd=ROOT, check=True,
                           stdin=subprocess.DEVNULL)
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["tar", "-xf", tar, "-C", root, "--numeric-owner", "-p"], check=True)
    yield root
    shutil.rmtree(root)


def files(root):
    """Path to kind, mode, owner and, of files, contents."""
    found = {}
    for directory, names, others in os.walk(root):
        for name in names + others:
            path = Path(directory, name)
            inside = "/" + str(path.relative_to(root))
            st = path.lstat()
            value = (stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid)
            if stat.S_ISREG(st.st_mode):
                value += (hashlib.sha256(path.read_bytes()).hexdigest(),)
            elif stat.S_ISLNK(st.st_mode):
                value += (os.readlink(path),)
            if not NOTES.fullmatch(inside):
                found[inside] = value
    return found


def test_package_is_used_removed_and_purged_and_nothing_is_left(deb, clean_debian, kernel_dir,
                                                                 rootfs_tar):
    given = clean_debian / "tmp/given"
    given.mkdir()
    shutil.copy(deb, given)
    shutil.copy(rootfs_tar, given / "rootfs.tar")
    shutil.copytree(kernel_dir, given / "kernel", symlinks=True)
    before = files(clean_debian)
    # A root of its own, as VMMs get another one, which a chroot does not allow; and a process
    # namespace, with which all of it ends.
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--propagation", "private",
         "sh", "-c", 'set -e; mount --bind "$0" "$0"; cd "$0"; mount -t proc proc proc; '
                     'pivot_root . mnt; umount -n -l mnt; exec chroot . sh -c "$1" sh "$2"',
         clean_debian, SCRIPT, f"/tmp/given/{deb.name}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env={"PATH": os.environ["PATH"]},
        check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and done.stdout.endswith("== done\n"), said
    parts = dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])
    assert re.match(r"banger 0\.1\.0", parts["version"]), said
    assert "hello from Linux\nstatus 3\n" in parts["use"], said
    assert "still there\n" in parts["refuse"] and "VMs that run: 1" in done.stderr, said
    assert "kept" in parts["again"], said
    after = files(clean_debian)
    assert {path: (before.get(path), after.get(path)) for path in before.keys() | after.keys()
            if before.get(path) != after.get(path)} == {}


def listed(group):
    lines = (ROOT / "packaging/packages.txt").read_text().splitlines()
    return {line.split()[1] for line in lines if line.startswith(group + " ")}


def test_package_needs_what_the_list_of_packages_has(deb):
    control = (ROOT / "debian/control").read_text()
    build = re.search(r"^Build-Depends:\n((?: .*\n)+)", control, re.MULTILINE)[1]
    names = {re.split(r"[ ,(]", line.strip())[0] for line in build.splitlines()}
    # The compiler and libc are essential to every build.
    assert names - {"debhelper-compat"} == listed("build") - {"gcc", "libc6-dev"}
    assert listed("run") <= set(re.sub(r" *\([^)]*\)", "", fields(deb, "Depends")).split(", "))
    assert set(fields(deb, "Recommends").split(", ")) == listed("image")
    version = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text())[1]
    assert fields(deb, "Version") == version
