"""banger-mkroot: what is in the tar is in the image, exactly; nothing half done is ever published.

Images are looked at with e2fsprogs only (debugfs, dumpe2fs, e2fsck -fn): nothing is mounted.
"""

import gzip
import hashlib
import io
import lzma
import os
import pathlib
import re
import resource
import shutil
import signal
import stat
import subprocess
import tarfile
import threading

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]
MKROOT = REPO / os.environ.get("BANGER_BUILD", "build") / "banger-mkroot"
SBIN = "/usr/sbin:/sbin:" + os.environ.get("PATH", "/usr/bin:/bin")
MTIME = 1700000000
CAP_NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")


def tool(*argv, **kwargs):
    env = dict(os.environ, PATH=SBIN, LC_ALL="C", TZ="UTC", DEBUGFS_PAGER="__none__", PAGER="cat")
    return subprocess.run(argv, env=env, capture_output=True, timeout=60, **kwargs)


class Tar:
    """Builds a tar in memory."""

    def __init__(self, fmt=tarfile.PAX_FORMAT):
        self.stream = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.stream, mode="w", format=fmt)

    def add(self, name, kind=tarfile.REGTYPE, data=b"", mode=0o644, **fields):
        info = tarfile.TarInfo(name)
        info.type = kind
        info.mode = mode
        info.mtime = MTIME
        info.size = len(data)
        for key, value in fields.items():
            setattr(info, key, value)
        self.tar.addfile(info, io.BytesIO(data))
        return self

    def dir(self, name, mode=0o755, **fields):
        return self.add(name, tarfile.DIRTYPE, mode=mode, **fields)

    def symlink(self, name, target, **fields):
        return self.add(name, tarfile.SYMTYPE, linkname=target, mode=0o777, **fields)

    def hardlink(self, name, target, **fields):
        return self.add(name, tarfile.LNKTYPE, linkname=target, **fields)

    def bytes(self):
        self.tar.close()
        return self.stream.getvalue()


class Image:
    def __init__(self, path):
        self.path = path

    def debugfs(self, command):
        result = tool("debugfs", "-R", command, str(self.path))
        return result.stdout

    def stat(self, path):
        """None, or the fields that debugfs's stat prints."""
        text = self.debugfs(f'stat "{path}"').decode("utf-8", "surrogateescape")
        if "Inode:" not in text:
            return None

        def field(pattern, default=None):
            match = re.search(pattern, text)
            return match.group(1) if match else default

        return {
            "ino": int(field(r"Inode: (\d+)")),
            "type": field(r"Type: (\w+)"),
            "mode": int(field(r"Mode: +0?(\d+)"), 8),
            "uid": int(field(r"User: +(-?\d+)")) % 2**32,
            "gid": int(field(r"Group: +(-?\d+)")) % 2**32,
            "size": int(field(r"Size: (\d+)", "0")),
            "links": int(field(r"Links: (\d+)")),
            "blockcount": int(field(r"Blockcount: (\d+)")),
            "flags": int(field(r"Flags: (0x[0-9a-f]+)"), 16),
            "mtime": field(r"mtime: 0x([0-9a-f]+:[0-9a-f]+)"),
            "target": field(r'Fast link dest: "(.*)"'),
            "device": field(r"Device major/minor number: (\d+:\d+)"),
        }

    def names(self, path="/"):
        found = set()
        for line in self.debugfs(f'ls -p "{path}"').split(b"\n"):
            parts = line.split(b"/")
            if len(parts) > 6 and parts[1] != b"0" and parts[5] not in (b".", b".."):
                found.add(parts[5])
        return found

    def cat(self, path):
        return self.debugfs(f'cat "{path}"')

    def xattr(self, path, name):
        out = pathlib.Path(str(self.path) + ".xattr")
        result = tool("debugfs", "-R", f'ea_get -f {out} "{path}" {name}', str(self.path))
        value = out.read_bytes()
        out.unlink()
        return None if b"not found" in result.stderr else value


def run(out, data, *args, **kwargs):
    return subprocess.run(
        [str(MKROOT), *args, str(out)], input=data, capture_output=True, timeout=60, **kwargs
    )


@pytest.fixture
def out(tmp_path):
    return tmp_path / "root.img"


@pytest.fixture
def build(out):
    """Builds an image from tar bytes, and checks it."""

    def do(data, *args, **kwargs):
        data = data.bytes() if isinstance(data, Tar) else data
        result = run(out, data, *args, **kwargs)
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
        check = tool("e2fsck", "-fn", str(out))
        assert check.returncode == 0, check.stdout.decode()
        assert out.stat().st_size % 4096 == 0
        assert [p.name for p in out.parent.iterdir()] == [out.name]
        return Image(out)

    return do


@pytest.fixture
def refuse(out):
    """Expects one line of error that matches, exit status 1, and nothing left behind."""

    def do(data, pattern, *args, **kwargs):
        data = data.bytes() if isinstance(data, Tar) else data
        before = {p: p.read_bytes() for p in out.parent.iterdir()}
        result = run(out, data, *args, **kwargs)
        message = result.stderr.decode()
        assert result.returncode == 1, message
        assert result.stdout == b""
        assert message.startswith("banger-mkroot: ") and message.count("\n") == 1
        assert re.search(pattern, message), message
        assert {p: p.read_bytes() for p in out.parent.iterdir()} == before

    return do


def awkward():
    tar = Tar()
    tar.dir("./", mode=0o711, uid=3, gid=4)
    tar.dir("./etc", mode=0o1777)
    tar.add("./etc/passwd", data=b"root\n", mode=0o4755, uid=1000, gid=100)
    tar.add("./etc/huge-id", uid=2**31 + 5, gid=70000)
    tar.add("./etc/empty", mode=0)
    tar.add("./etc/big", data=os.urandom(64) * 20000)
    tar.symlink("./etc/fast", "passwd")
    tar.symlink("./etc/fast59", "x" * 59)
    tar.symlink("./etc/slow60", "y" * 60)
    tar.symlink("./etc/slow4095", "z/" * 2047 + "z", uid=7)
    tar.hardlink("./etc/passwd2", "./etc/passwd")
    tar.hardlink("./etc/fast-link", "etc/fast")
    tar.add("./null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    tar.add("./disk", tarfile.BLKTYPE, devmajor=300, devminor=70000, mode=0o660)
    tar.add("./fifo", tarfile.FIFOTYPE, mode=0o600)
    tar.add("./ping", data=b"elf", mode=0o755,
            pax_headers={"SCHILY.xattr.security.capability": CAP_NET_RAW.decode("latin-1")})
    tar.add("./" + "n" * 255, data=b"long")
    return tar.bytes()


def test_same_tar_gives_same_bytes(build, out, tmp_path):
    data = awkward()
    build(data)
    first = out.read_bytes()
    out.unlink()
    build(data, env={"LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"}, cwd="/")
    assert out.read_bytes() == first


def test_compression_does_not_matter(build, out):
    data = awkward()
    build(data)
    plain = hashlib.sha256(out.read_bytes()).digest()
    variants = [gzip.compress(data), lzma.compress(data)]
    variants.append(tool("zstd", "-q", "-c", input=data).stdout if shutil.which("zstd") else data)
    for variant in variants:
        build(variant)
        assert hashlib.sha256(out.read_bytes()).digest() == plain


def test_ordinary_user_makes_the_same_image(build, out, tmp_path):
    data = awkward()
    build(data)
    first = out.read_bytes()
    out.unlink()
    if os.geteuid() == 0:
        for directory in [tmp_path, *tmp_path.parents]:
            if directory == pathlib.Path("/tmp") or directory == pathlib.Path("/"):
                break
            directory.chmod(directory.stat().st_mode | 0o011)
        os.chown(tmp_path, 65534, 65534)
        with open(MKROOT, "rb"):
            program = tmp_path / "mkroot"
            shutil.copy(MKROOT, program)
        program.chmod(0o755)
        result = subprocess.run([str(program), str(out)], input=data, capture_output=True,
                                user=65534, group=65534, extra_groups=[], timeout=60)
        assert result.returncode == 0, result.stderr
        assert out.stat().st_uid == 65534
    else:
        build(data)
    assert out.read_bytes() == first


def test_modes_ids_and_kinds(build):
    image = build(awkward())
    assert image.stat("/")["mode"] == 0o711
    assert (image.stat("/")["uid"], image.stat("/")["gid"]) == (3, 4)
    assert image.stat("/etc")["mode"] == 0o1777
    assert image.stat("/etc")["links"] == 2
    passwd = image.stat("/etc/passwd")
    assert (passwd["type"], passwd["mode"], passwd["uid"], passwd["gid"]) == (
        "regular", 0o4755, 1000, 100)
    assert passwd["mtime"] == f"{MTIME:08x}:00000000"
    assert image.cat("/etc/passwd") == b"root\n"
    huge = image.stat("/etc/huge-id")
    assert (huge["uid"], huge["gid"]) == (2**31 + 5, 70000)
    empty = image.stat("/etc/empty")
    assert (empty["mode"], empty["size"], empty["blockcount"]) == (0, 0, 0)
    assert image.cat("/" + "n" * 255) == b"long"
    assert image.stat("/fifo")["type"] == "FIFO"
    null, disk = image.stat("/null"), image.stat("/disk")
    assert (null["type"], null["mode"]) == ("character", 0o666)
    assert [int(n) for n in null["device"].split(":")] == [1, 3]
    assert (disk["type"], disk["mode"]) == ("block", 0o660)
    assert [int(n) for n in disk["device"].split(":")] == [300, 70000]
    assert b"lost+found" not in image.names("/")


def test_symlinks_and_hard_links(build):
    image = build(awkward())
    assert image.stat("/etc/fast")["target"] == "passwd"
    assert image.stat("/etc/fast59")["target"] == "x" * 59
    assert image.stat("/etc/fast59")["blockcount"] == 0
    slow = image.stat("/etc/slow60")
    assert (slow["type"], slow["size"], slow["blockcount"]) == ("symlink", 60, 8)
    assert image.cat("/etc/slow4095") == b"z/" * 2047 + b"z"
    assert image.stat("/etc/slow4095")["uid"] == 7
    first, second = image.stat("/etc/passwd"), image.stat("/etc/passwd2")
    assert first["ino"] == second["ino"] and first["links"] == 2
    link = image.stat("/etc/fast-link")
    assert (link["type"], link["links"], link["ino"]) == (
        "symlink", 2, image.stat("/etc/fast")["ino"])


def test_extended_attributes(build):
    value = "v" * 3000
    tar = Tar()
    tar.dir("d", pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y"})
    tar.symlink("l", "d", pax_headers={"SCHILY.xattr.trusted.t": "link"})
    tar.add("f", pax_headers={
        "SCHILY.xattr.user.big": value,
        "SCHILY.xattr.user.empty": "",
        "SCHILY.xattr.security.capability": CAP_NET_RAW.decode("latin-1"),
        "SCHILY.xattr.com.apple.provenance": "dropped",
    })
    tar.add("acl", mode=0o640, pax_headers={
        "SCHILY.acl.access": "user::rw-,user:ann:r--:1000,group::r--,mask::r--,other::---"})
    tar.add("many", pax_headers={f"SCHILY.xattr.user.k{i}": str(i) for i in range(80)})
    image = build(tar)
    assert image.xattr("/d", "trusted.overlay.opaque") == b"y"
    assert image.xattr("/l", "trusted.t") == b"link"
    assert image.xattr("/f", "user.big") == value.encode()
    assert image.xattr("/f", "security.capability") == CAP_NET_RAW
    assert image.xattr("/f", "com.apple.provenance") is None
    assert image.xattr("/many", "user.k79") == b"79"
    acl = image.xattr("/acl", "system.posix_acl_access")
    # ids that mean nothing are not kept on disk, and debugfs shows them as 0
    entries = [(1, 6, 0), (2, 4, 1000), (4, 4, 0), (16, 4, 0), (32, 0, 0)]
    expected = (2).to_bytes(4, "little") + b"".join(
        t.to_bytes(2, "little") + p.to_bytes(2, "little") + i.to_bytes(4, "little")
        for t, p, i in entries)
    assert acl == expected


def test_attributes_that_do_not_fit_are_refused(refuse):
    refuse(Tar().add("f", pax_headers={"SCHILY.xattr.user.a": "v" * 4100}),
           r"'f': attribute 'user.a': its attributes do not fit")
    refuse(Tar().add("f", pax_headers={"SCHILY.xattr.system.posix_acl_access": "nonsense"}),
           r"not an access control list")


def test_times(build):
    tar = Tar()
    for name, when in [("ns", "1700000000.123456789"), ("far", "4102444800"), ("neg", "-1.5"),
                       ("old", "-9999999999"), ("late", "99999999999")]:
        tar.add(name, pax_headers={"mtime": when})
    image = build(tar)
    assert image.stat("/ns")["mtime"] == f"{MTIME:08x}:{123456789 << 2:08x}"
    assert image.stat("/far")["mtime"] == "f4865700:00000001"
    assert image.stat("/old")["mtime"] == "80000000:00000000"  # clamped to 1901
    assert image.stat("/late")["mtime"] == "7fffffff:00000002"  # clamped to 2310


@pytest.mark.parametrize("fmt", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_deep_and_long_paths(build, fmt):
    tar = Tar(fmt)
    parts = ["d" * 250] * 18
    tar.add("/".join(parts) + "/end", data=b"deep")
    tar.hardlink("short", "/".join(parts) + "/end")
    tar.add("abs//./x/", tarfile.DIRTYPE, mode=0o700)
    tar.add("/abs/file", data=b"abs")
    image = build(tar)
    assert image.cat("/short") == b"deep"
    assert image.cat("/".join([""] + parts + ["end"])) == b"deep"
    assert image.stat("/abs/x")["mode"] == 0o700
    assert image.cat("/abs/file") == b"abs"


def test_names_are_bytes_even_in_a_utf8_locale(build):
    names = ["\u00e9", "e\u0301", "b\udcff\udcfe", "tab\tq\"uote", "-n", "sp ace"]
    tar = Tar(tarfile.GNU_FORMAT)
    tar.tar.encoding = "utf-8"
    tar.tar.errors = "surrogateescape"
    for name in names:
        tar.add(name, data=name.encode("utf-8", "surrogateescape"))
    expected = {name.encode("utf-8", "surrogateescape") for name in names}
    image = build(tar, env={"LC_ALL": "C.UTF-8"})
    assert image.names() == expected
    pax = Tar()
    for name in names[:2]:
        pax.add(name, data=name.encode())
    image = build(pax, env={"LC_ALL": "C.UTF-8"})
    assert image.names() == {n.encode() for n in names[:2]}
    for name in names[:2]:
        assert image.cat("/" + name) == name.encode()


def test_large_directories_get_an_index(build):
    tar = Tar(tarfile.GNU_FORMAT)
    for i in range(20000):
        tar.add(f"short/{i}")
    for i in range(8000):  # more than 507 leaves: two levels
        tar.add("long/" + f"{i:06d}" * 42)
    image = build(tar)
    assert image.stat("/short")["flags"] & 0x1000
    assert image.names("/short") == {str(i).encode() for i in range(20000)}
    assert image.names("/long") == {(f"{i:06d}" * 42).encode() for i in range(8000)}
    assert b"Indirect levels: 0" in image.debugfs("htree_dump /short")
    assert b"Indirect levels: 1" in image.debugfs("htree_dump /long")
    assert image.stat("/short/19999")["type"] == "regular"


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_sparse_files_stay_sparse(build, tmp_path, form):
    source = tmp_path.parent / f"{tmp_path.name}-src"
    source.mkdir()
    with open(source / "big", "wb") as f:
        f.seek(3 << 30)
        f.write(b"middle")
        f.truncate(5 << 30)
    with open(source / "comb", "wb") as f:  # more pieces than an inode has room for
        for i in range(400):
            f.seek(i * 16384 + 100)
            f.write(b"tooth%d" % i)
        f.truncate(400 * 16384 + 7)
    data = tool("tar", "-cSf", "-", f"--format={form}", "-C", str(source), "big", "comb").stdout
    image = build(data)
    big = image.stat("/big")
    assert big["size"] == 5 << 30 and 0 < big["blockcount"] <= 64
    copy = source / "copy"
    image.debugfs(f"dump /comb {copy}")
    assert copy.read_bytes() == (source / "comb").read_bytes()
    with open(source / "big", "rb") as f:
        f.seek(3 << 30)
    assert image.path.stat().st_blocks * 512 < 32 << 20
    shutil.rmtree(source)


def test_symlinked_parents_are_followed_inside_the_image(build):
    tar = Tar()
    tar.symlink("lib", "usr/lib")  # before its target
    tar.add("lib/a", data=b"a")
    tar.dir("usr/lib", mode=0o750)
    tar.symlink("abs", "/usr/lib")
    tar.add("abs/b", data=b"b")
    tar.symlink("usr/up", "../../../../../usr/lib/../lib")
    tar.add("usr/up/new/c", data=b"c")
    tar.symlink("etc", "/../../etc-real")
    tar.add("etc/passwd", data=b"inside")
    tar.hardlink("hard", "lib/a")
    image = build(tar)
    assert image.names("/") == {b"lib", b"abs", b"usr", b"etc", b"etc-real", b"hard"}
    assert image.names("/usr/lib") == {b"a", b"b", b"new"}
    assert image.stat("/usr/lib")["mode"] == 0o750
    assert image.cat("/usr/lib/new/c") == b"c"
    assert image.cat("/etc-real/passwd") == b"inside"
    assert image.stat("/usr/lib/a")["links"] == 2


def test_missing_parents_are_made(build):
    image = build(Tar().add("a/b/c/d", data=b"x"))
    made = image.stat("/a/b")
    assert (made["type"], made["mode"], made["uid"], made["links"]) == ("directory", 0o755, 0, 3)
    assert image.stat("/")["mode"] == 0o755


def test_empty_tar_gives_an_empty_root(build):
    assert build(Tar()).names() == set()


def test_later_entry_wins(build, out):
    tar = Tar()
    tar.add("f", data=os.urandom(1 << 20))
    tar.add("f", data=b"second", mode=0o600)
    tar.add("keep", data=b"kept")
    tar.hardlink("keep2", "keep")
    tar.add("keep", data=b"other")
    tar.dir("d")
    for i in range(100):
        tar.add(f"d/sub/{i}", data=os.urandom(100000))
    tar.hardlink("saved", "d/sub/7")
    tar.add("d", data=b"now a file")
    tar.add("x", data=b"file")
    tar.dir("x")
    tar.add("x/y", data=b"y")
    tar.symlink("s", "x")
    tar.dir("s", mode=0o700)
    tar.dir("x", mode=0o2755, pax_headers={"SCHILY.xattr.user.big": "v" * 3000})
    tar.dir("x", mode=0o2755, pax_headers={"SCHILY.xattr.user.other": "w" * 3000})
    tar.hardlink("x/y", "x/y")
    image = build(tar)
    assert image.cat("/f") == b"second" and image.stat("/f")["mode"] == 0o600
    assert (image.cat("/keep"), image.cat("/keep2")) == (b"other", b"kept")
    assert image.stat("/keep2")["links"] == 1
    assert image.cat("/d") == b"now a file"
    assert image.stat("/saved")["size"] == 100000 and image.stat("/saved")["links"] == 1
    assert image.cat("/x/y") == b"y"
    assert (image.stat("/s")["type"], image.stat("/s")["mode"]) == ("directory", 0o700)
    assert image.stat("/x")["mode"] == 0o2755
    assert image.xattr("/x", "user.big") is None
    assert image.xattr("/x", "user.other") == b"w" * 3000
    assert out.stat().st_blocks * 512 < 2 << 20  # what was replaced is given back


@pytest.mark.parametrize("tar,pattern", [
    (lambda: Tar().add("../evil"), r"'\.\./evil': '\.\.' in a path"),
    (lambda: Tar().add("a/../../b"), r"'\.\.' in a path"),
    (lambda: Tar().dir(".."), r"'\.\.' in a path"),
    (lambda: Tar().add("f").hardlink("l", "../f"), r"'\.\.' in a path"),
    (lambda: Tar().add("f").add("f/g"), r"'f/g': its parent 'f' is not a directory"),
    (lambda: Tar().dir("d").hardlink("l", "d"), r"'l': hard link to a directory"),
    (lambda: Tar().hardlink("l", "./"), r"'l': hard link to a directory"),
    (lambda: Tar().hardlink("l", "gone"), r"'l': hard link to 'gone', which does not exist"),
    (lambda: Tar().hardlink("l", "no/such"), r"no such file"),
    (lambda: Tar().symlink("a", "b").symlink("b", "a").add("a/x"), r"too many symlinks"),
    (lambda: Tar().add("n" * 256), r"longer than 255"),
    (lambda: Tar().symlink("s", "t" * 4096), r"symlink target"),
    (lambda: Tar().symlink("./", "x"), r"the root is not a directory"),
    (lambda: Tar().add("dev", tarfile.CHRTYPE, devmajor=5000, devminor=1), r"device number"),
    (lambda: Tar().add("esc\x1b[31m/../x"), r"esc\\x1b\[31m"),
    (lambda: Tar().add("u", pax_headers={"uid": "4294967296"}), r"owner 4294967296:0 out of range"),
])
def test_bad_entries_are_refused_by_name(refuse, tar, pattern):
    refuse(tar(), pattern)


def test_a_cut_stream_is_refused(refuse, build):
    tar = Tar()
    tar.dir("d").add("d/f", data=b"x" * 1500).symlink("d/l", "f" * 200)
    data = tar.bytes()
    used = len(data.rstrip(b"\0"))
    used += -used % 512
    for length in [*range(0, used + 1, 512), 100, 700, used - 1]:
        refuse(data[:length], r"bad tar stream|[Tt]runcated")
    packed = gzip.compress(data)
    for length in (5, len(packed) // 2, len(packed) - 20):
        refuse(packed[:length], r"bad tar stream")
    build(data[:used + 512])  # one block of the end mark is enough


def test_garbage_is_refused_and_an_old_image_survives(refuse, build, out):
    for data in (b"", b"hello\n", os.urandom(100000), gzip.compress(b"no tar")):
        refuse(data, r"bad tar stream")
    build(Tar().add("f", data=b"good"))
    refuse(b"garbage" * 1000, r"bad tar stream")
    assert Image(out).cat("/f") == b"good"


def test_a_full_image_is_refused(refuse, build):
    size = str(16 << 20)
    refuse(Tar().add("f", data=bytes(20 << 20)), r"'f': file data: the image is full", "--size",
           size)
    many = Tar(tarfile.GNU_FORMAT)
    for i in range(5000):
        many.add(f"f{i}")
    refuse(many, r"more than \d+ files do not fit", "--size", size)
    build(Tar().add("f", data=bytes(10 << 20)), "--size", size)


def test_a_file_size_limit_is_reported(refuse):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    refuse(Tar().add("f"), r"File too large", preexec_fn=limit)


def test_unwritable_places_are_reported(tmp_path):
    result = run(tmp_path / "none" / "root.img", awkward())
    assert result.returncode == 1
    assert b"No such file or directory" in result.stderr
    (tmp_path / "dir").mkdir()
    result = run(tmp_path / "dir", awkward())
    assert result.returncode == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dir"]


def test_usage_errors(tmp_path):
    for args in ([], ["a", "b"], ["--size", "x", "a"], ["--size", "-1", "a"], ["--bogus", "a"],
                 [""]):
        result = subprocess.run([str(MKROOT), *args], input=b"", capture_output=True, cwd=tmp_path,
                                timeout=60)
        assert result.returncode == 2, args
    result = run(tmp_path / "x", b"", "--size", "100")
    assert result.returncode == 1 and b"image size" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(out, number):
    data = Tar().add("f", data=bytes(1 << 20)).bytes()
    child = subprocess.Popen([str(MKROOT), str(out)], stdin=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    # More than the pipe holds, so that all but the last 64 KiB are read when write returns: the
    # build is in its middle and waits for more.
    child.stdin.write(data[:900000])
    child.stdin.flush()
    guard = threading.Timer(30, child.kill)
    guard.start()
    child.send_signal(number)
    assert child.wait() == 1
    guard.cancel()
    assert child.stderr.read().startswith(b"banger-mkroot: ")
    assert list(out.parent.iterdir()) == []
    child.stdin.close()


def test_the_image_is_private_and_cut_to_size(build, out):
    image = build(awkward())
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert out.stat().st_size < 16 << 20
    header = tool("dumpe2fs", "-h", str(image.path)).stdout.decode()
    assert re.search(r"Block count: +%d\n" % (out.stat().st_size // 4096), header)
    assert re.search(r"Reserved block count: +0\n", header)
    assert "has_journal" not in header


def find_init(image, *args):
    with open(image, "rb") as disk:
        return subprocess.run([MKROOT, "--find-init", *args], stdin=disk, capture_output=True,
                              timeout=60)


@pytest.mark.parametrize(("tar", "init"), [
    (Tar().dir("usr").dir("usr/lib").dir("usr/lib/systemd").dir("usr/sbin").symlink("sbin", "usr/sbin")
     .symlink("lib", "usr/lib").add("usr/lib/systemd/systemd", mode=0o755)
     .symlink("usr/sbin/init", "/lib/systemd/systemd"), "/sbin/init"),
    (Tar().dir("usr").dir("usr/lib").dir("usr/lib/systemd").symlink("lib", "usr/lib")
     .add("usr/lib/systemd/systemd", mode=0o755), "/lib/systemd/systemd"),
    (Tar().dir("bin").add("bin/init", mode=0o700), "/bin/init"),
    (Tar().dir("sbin").add("sbin/init", mode=0o644), None),            # not a program
    (Tar().dir("sbin").dir("sbin/init").symlink("bin", "sbin"), None),
    (Tar().dir("sbin").symlink("sbin/init", "../sbin/init"), None),    # round and round
    (Tar().dir("sbin").symlink("sbin/init", "/nowhere"), None),
])
def test_the_init_of_an_image_is_found(build, tar, init):
    image = build(tar)
    found = find_init(image.path)
    assert (found.returncode, found.stdout, found.stderr) == \
        (0, f"{init}\n".encode() if init else b"", b"")


def test_what_is_no_image_has_no_init(tmp_path):
    (tmp_path / "none").write_bytes(b"no image at all" * 1000)
    found = find_init(tmp_path / "none")
    assert found.returncode == 1 and found.stderr.startswith(b"banger-mkroot: cannot read")
    assert find_init(tmp_path / "none", "surplus").returncode == 2
