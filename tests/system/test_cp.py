"""cp on real guests: what a copy is like, tars of others, and archives that mean harm."""

import io
import os
import pathlib
import random
import shutil
import signal
import stat
import subprocess
import tarfile

import pytest
from banger import SLOWNESS
from mock_daemon import MockDaemon
from frames import STDERR, STDOUT
from steps import SHARED_VM, assert_error, broken_agent, call, needs_root, redirected, sh_ok

DAY = 86400 * 10**9
LONG = "n" * 255
DEEP = "/".join(["directory-with-a-name"] * 30)


@pytest.fixture
def guest(shared):
    """An empty directory in the shared VM; its path."""
    path = sh_ok(shared, "mktemp -d /root/cp-XXXXXX").strip()
    yield path
    left = sh_ok(shared, 'find / -xdev -name ".banger-*"; chmod -R u+rwx "$1"; rm -rf "$1"', path)
    assert left == "", "temporary files are left in the guest"


@pytest.fixture
def here(shared, tmp_path):
    """A directory of the host; afterwards nothing temporary is in it."""
    yield tmp_path
    assert not [p for p in tmp_path.rglob(".banger-*")]


def put(path, data=b"", mode=0o644, mtime_ns=None):
    path.write_bytes(data)
    path.chmod(mode)
    if mtime_ns is not None:
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
    return path


def make_tree(root):
    """One of everything that an ordinary user can have."""
    root.mkdir()
    put(root / "empty", mode=0o600, mtime_ns=1)
    put(root / "one", b"1", 0o755, 1_600_000_000_123_456_789)
    put(root / "read-only", b"x" * 511, 0o400)
    put(root / "block", b"b" * 512, 0o640, DAY)
    put(root / "block-and-one", b"c" * 513)
    put(root / "old", b"before 1970", mtime_ns=-1_500 * 10**9)
    put(root / "late", b"after 2242", mtime_ns=9_000_000_000 * 10**9 + 7)
    put(root / "megabytes", random.Random(1).randbytes(3 * 1024 * 1024 + 17), 0o664)
    put(root / "script", b"#!/bin/sh\n", 0o711)
    put(root / LONG, b"a long name")
    put(root / "two\nlines", b"newline")
    put(root / "gr\u00fc\u00dfe", b"utf-8")
    path = os.fsencode(root) + b"/\xff\xfe-not-utf-8"
    with open(path, "wb") as file:
        file.write(b"bytes")
    put(root / "-rf", b"a flag")
    put(root / "a:b", b"a colon")
    (root / "no").mkdir(mode=0o700)
    (root / "closed").mkdir()
    put(root / "closed" / "inside", b"in a directory that may not be written")
    deep = root / DEEP
    deep.mkdir(parents=True)
    put(deep / LONG, b"deep", mtime_ns=2 * DAY + 5)
    os.symlink("one", root / "link")
    os.symlink("/nowhere/" + "t" * 200, root / "dangling")
    os.symlink("../" * 20 + "etc/passwd", root / "outward")
    os.symlink("no", root / "link-to-directory")
    os.utime(root / "link", ns=(3 * DAY, 3 * DAY + 42), follow_symlinks=False)
    os.link(root / "one", root / "one-again")
    os.link(root / "one", root / "no" / "one-more")
    os.mkfifo(root / "fifo", 0o640)
    os.setxattr(root / "one", "user.short", b"\0binary=\n\xff")
    os.setxattr(root / "one", "user.empty", b"")
    os.setxattr(root / "no", "user.of-a-directory", b"d" * 1000)
    with open(root / "sparse", "wb") as file:
        file.truncate(64 * 1024 * 1024)
        for at in (0, 5_000_000, 40_000_000):
            file.seek(at)
            file.write(b"data at %d" % at)
    with open(root / "hole", "wb") as file:
        file.truncate(10_000_000)
    (root / "closed").chmod(0o555)
    for path, ns in ((root / "no", 4 * DAY + 1), (root / "closed", 5 * DAY), (root, 6 * DAY + 9)):
        os.utime(path, ns=(ns, ns))


def describe(root, times=True):
    """{relative path: all that must survive a copy}, as bytes."""
    root = os.fsencode(root)
    found, inodes = {}, {}
    for directory, names, files in os.walk(root):
        for name in [b"."] * (directory == root) + names + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            what = [stat.S_IFMT(st.st_mode), st.st_mtime_ns if times else None]
            if stat.S_ISLNK(st.st_mode):
                what.append(os.readlink(path))
            else:
                what.append(stat.S_IMODE(st.st_mode))
                what.append(sorted((n, os.getxattr(path, n)) for n in os.listxattr(path)
                                   if n.startswith("user.")))
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as file:
                    what.append((st.st_size, hash(file.read())))
                what.append(inodes.setdefault(st.st_ino, os.path.relpath(path, root))
                            if st.st_nlink > 1 else None)
            found[os.path.relpath(path, root)] = what
    return found


def names_of_links(found):
    """Which names are one file, however the directories were walked."""
    groups = {}
    for path, what in found.items():
        if what[0] == stat.S_IFREG and what[-1] is not None:
            groups.setdefault(what[-1], set()).add(path)
            what[-1] = None
    return sorted(sorted(g) for g in groups.values())


def assert_same(one, other, times=True):
    a, b = describe(one, times), describe(other, times)
    assert names_of_links(a) == names_of_links(b)
    assert a.keys() == b.keys()
    for path in a:
        assert a[path] == b[path], path


# What a copy is like ------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_tree_comes_back_as_it_was(shared, guest, here):
    make_tree(here / "tree")
    shared.ok("cp", "-r", str(here / "tree"), f"{SHARED_VM}:{guest}")
    shared.ok("cp", "-r", f"{SHARED_VM}:{guest}/tree", str(here / "back"))
    assert_same(here / "tree", here / "back")
    for name in ("sparse", "hole"):
        before, after = (here / "tree" / name).stat(), (here / "back" / name).stat()
        assert after.st_size == before.st_size
        assert after.st_blocks * 512 < 100_000
    allocated = sh_ok(shared, 'du -k "$1/tree/sparse" "$1/tree/hole"', guest)
    assert all(int(line.split()[0]) < 100 for line in allocated.splitlines()), allocated
    (here / "tree" / "closed").chmod(0o755)
    (here / "back" / "closed").chmod(0o755)


def test_guest_sees_modes_times_links_and_root_as_owner(shared, guest, here):
    make_tree(here / "tree")
    if os.geteuid() == 0:
        os.chown(here / "tree" / "script", 1234, 1234)
    put(here / "tree" / "set-id", b"s", 0o6755)
    shared.ok("cp", "-r", str(here / "tree"), f"{SHARED_VM}:{guest}/as")
    seen = sh_ok(shared, 'cd "$1/as" && stat -c "%n %a %u:%g %s %F" one script set-id no closed '
                 'fifo read-only && readlink outward && stat -c %h one && cat no/one-more', guest)
    assert seen.splitlines() == [
        "one 755 0:0 1 regular file", "script 711 0:0 10 regular file",
        "set-id 755 0:0 1 regular file", "no 700 0:0 4096 directory",
        "closed 555 0:0 4096 directory", "fifo 640 0:0 0 fifo",
        "read-only 400 0:0 511 regular file", "../" * 20 + "etc/passwd", "3", "1"], seen
    (here / "tree" / "closed").chmod(0o755)


@needs_root
def test_archive_keeps_owners_set_id_bits_and_devices(shared, guest, here):
    tree = here / "tree"
    tree.mkdir()
    put(tree / "his", b"x")
    os.chown(tree / "his", 1000, 1001)
    (tree / "his").chmod(0o4755)
    os.mknod(tree / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    (tree / "null").chmod(0o666)
    os.symlink("his", tree / "link")
    os.chown(tree / "link", 1000, 1000, follow_symlinks=False)
    os.chown(tree, 1000, 1000)
    shared.ok("cp", "-a", str(tree), f"{SHARED_VM}:{guest}")
    seen = sh_ok(shared, 'cd "$1" && stat -c "%n %a %u:%g %F" tree tree/his tree/null tree/link',
                 guest)
    assert seen.splitlines() == [
        "tree 755 1000:1000 directory", "tree/his 4755 1000:1001 regular file",
        "tree/null 666 0:0 character special file",
        "tree/link 777 1000:1000 symbolic link"], seen
    shared.ok("cp", "-a", f"{SHARED_VM}:{guest}/tree", str(here / "back"))
    for name in (".", "his", "null", "link"):
        a, b = os.lstat(tree / name), os.lstat(here / "back" / name)
        assert (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) == (b.st_mode, b.st_uid, b.st_gid,
                                                              b.st_rdev), name
    # Without -a a device is refused, and the rest still comes.
    result = shared.run("cp", "-r", f"{SHARED_VM}:{guest}/tree", str(here / "plain"))
    assert_error(result, "plain/null", "device", hint=False)
    assert (here / "plain" / "his").stat().st_uid == os.geteuid()
    assert stat.S_IMODE((here / "plain" / "his").stat().st_mode) == 0o755


def test_user_owns_what_is_copied_for_him(shared, guest, here):
    put(here / "f", b"x")
    sh_ok(shared, 'chmod 755 "$1"; mkdir "$1/mine"; chown user "$1/mine"', guest)
    # root's directories are closed to others: only the way down to it is opened here
    home = sh_ok(shared, "mktemp -d /home/user/cp-XXXXXX; chown user /home/user/cp-*").strip()
    try:
        shared.ok("cp", "--user", "user", str(here / "f"), f"{SHARED_VM}:{home}")
        assert sh_ok(shared, 'stat -c %U "$1/f"', home) == "user\n"
        result = shared.run("cp", "--user", "user", str(here / "f"), f"{SHARED_VM}:/etc/f")
        assert_error(result, "shared:/etc/f", "Permission denied", hint=False)
    finally:
        sh_ok(shared, 'rm -rf "$1"', home)


# Where it goes ------------------------------------------------------------------------------------

def test_destination_is_as_with_cp(shared, guest, here):
    vm = f"{SHARED_VM}:{guest}"
    put(here / "f", b"file")
    (here / "d").mkdir()
    put(here / "d" / "in", b"in d")
    for args in (
            ("f", "/name"), ("f", ""), ("-r", "d", "/d2"), ("-r", "d", "/d2"), ("-r", "d/.", "/d3"),
            ("-r", "d/", "/d4/"), ("f", "d/in", "/d3/")):
        shared.ok("cp", *[a if a.startswith("-") else str(here) + "/" + a for a in args[:-1]],
                  vm + args[-1])
    assert sh_ok(shared, 'cd "$1" && find . -type f | sort', guest).split() == [
        "./d2/d/in", "./d2/in", "./d3/f", "./d3/in", "./d4/in", "./f", "./name"]
    os.chdir(here)
    shared.ok("cp", f"{vm}/name", ".", cwd=here)
    shared.ok("cp", f"{vm}/f", f"{vm}/d2/in", "new-name/", cwd=(here / "new-name").mkdir() or here)
    shared.ok("cp", "-r", f"{vm}/d2/.", "contents", cwd=here)
    assert (here / "name").read_bytes() == b"file"
    assert sorted(p.name for p in (here / "new-name").iterdir()) == ["f", "in"]
    assert (here / "contents" / "d" / "in").read_bytes() == b"in d"


def test_mistakes_are_told_with_what_and_why(shared, guest, here):
    vm = f"{SHARED_VM}:{guest}"
    put(here / "f", b"x")
    (here / "d").mkdir()
    cases = (
        ((str(here / "no"), vm), (str(here / "no"), "No such file"), 1),
        ((str(here / "d"), vm), ("is a directory",), 1),
        ((f"{vm}/no", "."), (f"{vm}/no", "No such file"), 1),
        ((f"{SHARED_VM}:/etc", "."), (f"{SHARED_VM}:/etc", "is a directory"), 1),
        ((str(here / "f"), f"{vm}/no/such"), (f"{vm}/no/such", "No such file"), 1),
        ((str(here / "f"), f"{vm}/f/"), ("No such file",), 1),
        ((str(here / "f"), f"{SHARED_VM}:/dev/null"), ("/dev/null", "neither a file"), 1),
        ((str(here / "f"), str(here / "g")), ("neither",), 2),
        (("-r", f"{vm}", f"{vm}/below"), ("into itself",), 2),
        ((str(here / "f"), "no-such-vm:/x"), ("no-such-vm",), 1),
    )
    for args, said, status in cases:
        result = shared.run("cp", *args, cwd=here)
        assert_error(result, *said, status=status, hint=False)
        assert result.stdout == b""
    assert "hint: copy directories with -r" in shared.run("cp", str(here / "d"), vm).err


def test_one_bad_file_does_not_keep_the_rest(shared, guest, here):
    sh_ok(shared, 'cd "$1"; mkdir t t/no; echo a >t/a; echo z >t/z; echo s >t/s; chmod 0 t/s t/no; '
          'chmod 755 . t; chown -R user t; chmod 755 /root', guest)
    try:
        result = shared.run("cp", "-r", "--user", "nobody", f"{SHARED_VM}:{guest}/t", str(here))
    finally:
        sh_ok(shared, "chmod 700 /root")
    assert result.returncode == 1
    assert result.err.count("Permission denied") == 2, result
    assert {p.name for p in (here / "t").iterdir()} == {"a", "z"}


def test_file_is_replaced_whole_and_links_are_not_followed_by_names_inside(shared, guest, here):
    sh_ok(shared, 'cd "$1"; echo outside >outside; mkdir d; ln -s ../outside d/f; echo old >d/g; '
          'ln d/g d/g2; mkdir d/h; ln -s d/g top', guest)
    (here / "d").mkdir()
    put(here / "d" / "f", b"new f\n")
    put(here / "d" / "g", b"new g\n")
    put(here / "d" / "h", b"no directory\n")
    put(here / "d" / "z", b"last\n")
    result = shared.run("cp", "-r", str(here / "d"), f"{SHARED_VM}:{guest}")
    assert_error(result, "d/h", "Is a directory", hint=False)
    assert sh_ok(shared, 'cd "$1"; cat outside d/f d/g d/g2 d/z; test -L d/f || echo file', guest) \
        == "outside\nnew f\nnew g\nold\nlast\nfile\n"
    # The destination itself is what the user says: a symlink to a file stays one, as with cp.
    shared.ok("cp", str(here / "d" / "z"), f"{SHARED_VM}:{guest}/top")
    assert sh_ok(shared, 'cd "$1"; test -L top && cat d/g', guest) == "last\n"


def test_files_without_a_size_come_with_what_is_in_them(shared, here):
    shared.ok("cp", f"{SHARED_VM}:/proc/version", str(here))
    assert b"Linux version" in (here / "version").read_bytes()
    shared.ok("cp", f"{SHARED_VM}:/sys/power/state", str(here))
    assert len((here / "state").read_bytes()) < 100


# Streams ------------------------------------------------------------------------------------------

def tar_of(*entries):
    """A tar of (name, kind, target or data, further fields)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, what, *more in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
            for key, value in (more[0] if more else {}).items():
                setattr(info, key, value)
            data = what if kind == tarfile.REGTYPE else b""
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = what
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def file(name, data=b"x", **fields):
    return (name, tarfile.REGTYPE, data, fields)


def link(name, target):
    return (name, tarfile.SYMTYPE, target)


@pytest.mark.parametrize("tool", [
    ["tar", "--format=gnu", "--sparse"], ["tar", "--format=posix", "--sparse", "--xattrs"],
    ["tar", "--format=posix", "--sparse", "--sparse-version=0.0"],
    ["tar", "--format=posix", "--sparse", "--sparse-version=0.1"],
    ["bsdtar", "--format=pax"], ["bsdtar", "--format=gnutar"]], ids=" ".join)
def test_tar_of_others_is_unpacked(shared, guest, here, tool):
    make_tree(here / "tree")
    if "gnutar" in tool[-1]:
        (here / "tree" / "late").unlink()
    tar = subprocess.run([*tool, "-cf", "-", "-C", here, "tree"], stdout=subprocess.PIPE, check=True)
    shared.ok("cp", "-", f"{SHARED_VM}:{guest}", stdin=tar.stdout)
    shared.ok("cp", "-r", f"{SHARED_VM}:{guest}/tree", str(here / "back"))
    exact = "posix" in tool[1] or "pax" in tool[1]
    a, b = describe(here / "tree", exact), describe(here / "back", exact)
    assert names_of_links(a) == names_of_links(b)
    if "--xattrs" not in tool and "bsdtar" not in tool:
        for what in a.values():
            if what[0] != stat.S_IFLNK:
                what[3] = []
    if "gnutar" in tool[-1]:
        for what in (*a.values(), *b.values()):
            if what[0] != stat.S_IFLNK:
                what[3] = []
    assert a == b
    for tree in ("tree", "back"):
        (here / tree / "closed").chmod(0o755)


@pytest.mark.parametrize("tool", [["tar", "--xattrs"], ["bsdtar"], ["python"]], ids=" ".join)
def test_our_tar_is_read_by_others(shared, guest, here, tool):
    make_tree(here / "tree")
    shared.ok("cp", "-r", str(here / "tree"), f"{SHARED_VM}:{guest}")
    tar = shared.ok("cp", f"{SHARED_VM}:{guest}/tree", "-").stdout
    (here / "out").mkdir()
    if tool == ["python"]:
        with tarfile.open(fileobj=io.BytesIO(tar), errorlevel=2) as archive:
            archive.extractall(here / "out")  # made by us
    else:
        result = subprocess.run([*tool, "-xpf", "-", "-C", here / "out"], input=tar,
                                capture_output=True, check=False)
        assert result.returncode == 0, result.stderr
    exact = tool != ["python"]
    a, b = describe(here / "tree", exact), describe(here / "out" / "tree", exact)
    assert names_of_links(a) == names_of_links(b)
    if tool == ["python"]:
        for what in (*a.values(), *b.values()):
            if what[0] != stat.S_IFLNK:
                what[3] = []
    assert a == b
    for tree in (here / "tree", here / "out" / "tree"):
        (tree / "closed").chmod(0o755)


def test_stream_goes_on_through_a_pipe_and_back(shared, guest, here):
    put(here / "f", random.Random(2).randbytes(5_000_000))
    with open(here / "t.tar", "wb") as out:
        subprocess.run(["tar", "-cf", "-", "-C", here, "f"], stdout=out, check=True)
    result = redirected(shared, f"<{here}/t.tar", "cp", "-", f"{SHARED_VM}:{guest}")
    assert result.returncode == 0, result
    result = redirected(shared, f">{here}/back.tar", "cp", f"{SHARED_VM}:{guest}/f", "-")
    assert result.returncode == 0, result
    with tarfile.open(here / "back.tar") as tar:
        assert tar.extractfile("f").read() == (here / "f").read_bytes()
    result = shared.run("cp", "-", f"{SHARED_VM}:{guest}/f", stdin=b"")
    assert_error(result, "Not a directory", hint=False)
    result = shared.run("cp", "-", f"{SHARED_VM}:{guest}", stdin=b"")
    assert_error(result, "ends too early", hint=False)


def test_reader_that_goes_away_ends_the_copy(shared, here):
    result = redirected(shared, "| head -c 1000 | wc -c", "cp", f"{SHARED_VM}:/bin", "-")
    assert result.stdout.strip() == b"1000", result
    assert "Broken pipe" in result.err


# Archives that mean harm --------------------------------------------------------------------------

def hostile(outside):
    """name: (tar, what must be said, or None when it is harmless but must not lead out)."""
    return {
        "dots": (tar_of(file("../evil")), "leads out"),
        "dots inside": (tar_of(file("d/../../evil")), "leads out"),
        "absolute": (tar_of(file(f"{outside}/evil")), "leads out"),
        "symlink": (tar_of(link("l", outside), file("l/evil")), "symlinks are not followed"),
        "symlink of dots": (tar_of(link("l", ".."), file("l/evil")), "symlinks are not followed"),
        "symlink, then a directory": (
            tar_of(link("l", outside), ("l", tarfile.DIRTYPE, ""), file("l/evil")),
            "is no directory"),
        "chain": (tar_of(("d", tarfile.DIRTYPE, ""), link("d/l", outside), link("m", "d/l"),
                         file("m/evil")), "symlinks are not followed"),
        "hard link to outside": (
            tar_of(("h", tarfile.LNKTYPE, f"{outside}/secret")), "leads out"),
        "hard link of dots": (tar_of(("h", tarfile.LNKTYPE, "../secret")), "leads out"),
        "hard link through a symlink": (
            tar_of(link("l", outside), ("h", tarfile.LNKTYPE, "l/secret")), "cannot be linked"),
        "file through a hard link to a symlink": (
            tar_of(link("l", f"{outside}/evil"), ("h", tarfile.LNKTYPE, "l"), file("h")), None),
        "file over a symlink": (tar_of(link("l", f"{outside}/evil"), file("l")), None),
        "the destination itself": (tar_of(link(".", outside)), "destination itself"),
        "device": (tar_of(("dev", tarfile.CHRTYPE, "", {"devmajor": 1, "devminor": 1})), "device"),
        "truncated": (tar_of(file("f", b"x" * 5000))[:2000], "ends too early"),
        "truncated header": (tar_of(file("f"))[:300], "ends too early"),
        "no tar": (b"just text, and quite a lot of it " * 100, "not a tar archive"),
        "damaged": (tar_of(file("f", b"x" * 512), file("g"))[:1024] + b"\x01" * 1024, "damaged"),
    }


def huge_size():
    info = tarfile.TarInfo("huge")
    info.size = 2**62
    return info.tobuf(tarfile.GNU_FORMAT) + b"x" * 10000


@pytest.mark.parametrize("case", [*hostile("/"), "huge"])
def test_hostile_archive_stays_inside_the_guests_directory(shared, guest, case):
    sh_ok(shared, 'mkdir "$1/out" "$1/in"; echo secret >"$1/out/secret"', guest)
    tar, said = (huge_size(), "ends too early") if case == "huge" else hostile(f"{guest}/out")[case]
    result = shared.run("cp", "-", f"{SHARED_VM}:{guest}/in", stdin=tar)
    if said:
        assert_error(result, said, hint=False)
    else:
        assert result.returncode == 0, result
    assert sh_ok(shared, 'cd "$1"; find out; ls -A . ; cat out/secret; stat -c %h out/secret',
                 guest) == "out\nout/secret\nin\nout\nsecret\n1\n"


@pytest.mark.parametrize("case", [*hostile("/"), "huge"])
@pytest.mark.sanitize
def test_hostile_guest_stays_inside_the_hosts_directory(bare, here, case):
    (here / "out").mkdir()
    (here / "in").mkdir()
    put(here / "out" / "secret", b"secret")
    tar, said = (huge_size(), "ends too early") if case == "huge" else hostile(str(here / "out"))[case]
    with MockDaemon(bare.socket_path) as daemon:
        daemon.session = lambda s: s.output(STDOUT, tar) or s.exit(0)
        result = bare.run("cp", "-r", "quiet-fox:/x/.", str(here / "in"))
    if said:
        assert_error(result, said, hint=False)
    else:
        assert result.returncode == 0, result
    assert sorted(os.listdir(here)) == ["in", "out"] and os.listdir(here / "out") == ["secret"]
    assert os.stat(here / "out" / "secret").st_nlink == 1


def test_guest_may_send_nothing_but_what_was_asked_for(bare, here):
    put(here / ".bashrc", b"mine")
    with MockDaemon(bare.socket_path) as daemon:
        daemon.session = lambda s: s.output(
            STDOUT, tar_of(file(".bashrc"), file("x/y"), file("x"), file("wanted", b"w"))) or s.exit(0)
        result = bare.run("cp", "quiet-fox:/etc/wanted", str(here))
        assert result.returncode == 1
        assert result.err.count("nobody asked for it") == 3, result
        daemon.session = lambda s: s.output(
            STDOUT, tar_of(("wanted", tarfile.DIRTYPE, ""), link("wanted", "/etc"))) or s.exit(0)
        result = bare.run("cp", "quiet-fox:/etc/wanted", str(here / "new"))
        assert_error(result, "a file was asked for", hint=False)
    assert (here / ".bashrc").read_bytes() == b"mine"
    assert sorted(p.name for p in here.iterdir()) == [".bashrc", "wanted"]


def test_guest_that_talks_nonsense_is_told_about(bare, here):
    put(here / "f", b"x" * 1_000_000)
    with MockDaemon(bare.socket_path) as daemon:
        daemon.session = lambda s: s.output(STDERR, b"x" * 1_000_000) or s.exit(0)
        result = bare.run("cp", "quiet-fox:/f", str(here))
        assert_error(result, "quiet-fox", "language of errors", hint=False)
        daemon.session = lambda s: s.output(STDERR, b"/a\x1b[2J\0why\x07\0\0") or s.exit(1)
        result = bare.run("cp", str(here / "f"), "quiet-fox:/f")
        assert_error(result, "quiet-fox:/a\\x1b[2J", "why\\x07", hint=False)
        daemon.session = lambda s: s.exit(9, killed=True)
        result = bare.run("cp", str(here / "f"), "quiet-fox:/f")
        assert_error(result, "killed by signal 9", hint=False)


@pytest.mark.parametrize("args", [("f", "old:/f"), ("old:/f", ".")], ids=" ".join)
def test_vm_with_an_older_agent_says_that_it_cannot_copy(make_banger, here, args):
    banger = broken_agent(make_banger, "old")
    put(here / "f", b"x")
    banger.ok("vm", "create", "-q", "--name", "old")
    assert_error(banger.run("cp", *args, cwd=here), "older than this banger",
                 hint="stop and start the VM")
    assert call(banger, "session.list", vm="old") == []
    banger.ok("rm", "--force", "old")


# Ends in the middle -------------------------------------------------------------------------------

def begin_copy(banger, guest, *args):
    """A copy into the guest that waits for the rest of its tar; its temporary file is there."""
    child = banger.spawn("cp", *args, "-", f"{SHARED_VM}:{guest}")
    child.send(tar_of(file("f", b"n" * 1_000_000))[:600_000])
    sh_ok(banger, 'cd "$1"; until ls -A | grep -q "^.banger-"; do :; done', guest)
    return child


def wait_no_transfer(banger):
    """Until the guest has no process of a copy."""
    sh_ok(banger, """while :; do
        found=
        for exe in /proc/[0-9]*/exe; do
            case "$exe" in /proc/1/*) continue; esac
            if [ "$(stat -Lc %i "$exe" 2>/dev/null)" = "$(stat -Lc %i /proc/1/exe)" ]; then
                found=1
            fi
        done
        [ "$found" ] || exit 0
    done""")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=str)
def test_interrupted_copy_leaves_the_old_file_and_nothing_else(shared, guest, how):
    sh_ok(shared, 'echo old >"$1/f"', guest)
    child = begin_copy(shared, guest)
    child.signal(how)
    result = child.finish()
    assert result.returncode == (-9 if how == signal.SIGKILL else 128 + how), result
    wait_no_transfer(shared)
    assert sh_ok(shared, 'cd "$1"; ls -A; cat f', guest) == "f\nold\n"
    sessions = call(shared, "session.list", vm=SHARED_VM)
    assert not [s for s in sessions if s["command"][0] == "banger-agent"]


def test_copy_ends_with_its_daemon(make_banger, tmp_path):
    banger = make_banger()
    banger.ok("vm", "create", "--name", SHARED_VM)
    guest = sh_ok(banger, "mktemp -d /root/cp-XXXXXX").strip()
    child = begin_copy(banger, guest)
    pid = banger.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    banger.wait_gone(pid)
    assert_error(child.finish(), "the daemon closed the connection", hint=False)
    # The next daemon finds the VM; the agent has ended the transfer with the host that began it.
    wait_no_transfer(banger)
    assert sh_ok(banger, 'ls -A "$1"', guest) == ""


def test_interrupted_copy_to_the_host_leaves_the_old_file(shared, here):
    put(here / "busybox", b"old")
    with MockDaemon(pathlib.Path(here / "r" / "s")) as daemon:
        sent = tar_of(file("busybox", b"n" * 500_000))[:200_000]
        daemon.session = lambda s: s.output(STDOUT, sent) or s.await_signal(signal.SIGHUP) or s.exit(1)
        child = shared.spawn("cp", "--socket", str(here / "r" / "s"), "vm:/bin/busybox", str(here))
        wait_for(lambda: any(p.name.startswith(".banger-") for p in here.iterdir()), here)
        child.signal(signal.SIGINT)
        assert child.finish().returncode == 130
    assert (here / "busybox").read_bytes() == b"old"
    shutil.rmtree(here / "r", ignore_errors=True)
    assert [p.name for p in here.iterdir()] == ["busybox"]


def wait_for(condition, directory):
    """Looks again at every change of the directory."""
    with subprocess.Popen(["python3", "-c", "import sys; sys.stdin.read()"],
                          stdin=subprocess.PIPE) as idle:
        while not condition():
            os.stat(directory)
        idle.stdin.close()


def test_full_disk_in_the_guest_is_told_once_and_leaves_nothing(shared, guest, here):
    sh_ok(shared, 'mkdir "$1/small"; mount -t tmpfs -o size=1m tmpfs "$1/small"', guest)
    try:
        (here / "d").mkdir()
        for i in range(40):
            put(here / "d" / f"f{i}", b"x" * 100_000)
        result = shared.run("cp", "-r", str(here / "d"), f"{SHARED_VM}:{guest}/small")
        assert_error(result, "No space left on device", hint=False)
        assert result.err.count("No space left") == 1
        assert ".banger-" not in sh_ok(shared, 'ls -A "$1/small/d"', guest)
    finally:
        sh_ok(shared, 'umount "$1/small"', guest)


def test_host_directory_without_permission_is_told(shared, here):
    if os.geteuid() == 0:
        result = shared.run("cp", f"{SHARED_VM}:/etc/passwd", "/proc/no-way")
        assert_error(result, "/proc/no-way", hint=False)
        return
    (here / "closed").mkdir(mode=0o500)
    result = shared.run("cp", f"{SHARED_VM}:/etc/passwd", str(here / "closed"))
    assert_error(result, "closed/passwd", "Permission denied", hint=False)


# From VM to VM, and large ones --------------------------------------------------------------------

def test_copy_from_vm_to_vm(shared, guest, here):
    shared.ok("vm", "create", "--name", "second")
    try:
        make_tree(here / "tree")
        shared.ok("cp", "-r", str(here / "tree"), f"{SHARED_VM}:{guest}")
        shared.ok("cp", "-r", f"{SHARED_VM}:{guest}/tree", "second:/root/other")
        shared.ok("cp", "-r", "second:/root/other", str(here / "back"))
        assert_same(here / "tree", here / "back")
        result = shared.run("cp", f"{SHARED_VM}:{guest}/no", "second:/root")
        assert_error(result, f"{SHARED_VM}:{guest}/no", "No such file", hint=False)
        result = shared.run("cp", f"{SHARED_VM}:/etc/passwd", "second:/no/such")
        assert_error(result, "second:/no/such", hint="make the directory first")
    finally:
        shared.ok("vm", "delete", "--force", "second")
        for tree in ("tree", "back"):
            if (here / tree / "closed").exists():
                (here / tree / "closed").chmod(0o755)


@pytest.mark.deadline(300)
def test_many_small_files_and_a_large_one(shared, guest, here):
    many = here / "many"
    rng = random.Random(3)
    for d in range(20):
        (many / str(d)).mkdir(parents=True)
        for f in range(100):
            put(many / str(d) / f"file-{f}", rng.randbytes(rng.randrange(3000)))
    put(many / "large", rng.randbytes(64 * 1024 * 1024))
    shared.ok("cp", "-r", str(many), f"{SHARED_VM}:{guest}", timeout=120)
    shared.ok("cp", "-r", f"{SHARED_VM}:{guest}/many", str(here / "back"), timeout=120)
    assert_same(many, here / "back")
