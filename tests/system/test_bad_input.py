"""Input that is wrong: the status, what went wrong and what to do about it, and nothing left."""

import os
import shutil
import subprocess

import pytest
from steps import (SHARED_VM, assert_daemon_ends, assert_error, assert_nothing_left, call,
                   needs_root, vms)

RUN = ["run", "--rm", "--quiet"]
# Parsers at work, and hardly a boot.
pytestmark = pytest.mark.sanitize


def everything(banger):
    """All there is of a banger: its objects, processes and files but for logs and locks."""
    files = {path for base in (banger.state_dir, banger.cache_dir, banger.runtime_dir)
             for path in base.rglob("*") if not path.name.startswith(("bangerd.log", "start.lock"))}
    return {
        "vms": sorted(vms(banger)),
        "images": call(banger, "image.list"),
        "kernels": call(banger, "kernel.list"),
        "templates": call(banger, "template.list"),
        "qemu": banger.qemu_pids(),
        # SQLite makes and removes these as it likes.
        "files": sorted(str(f) for f in files if not f.name.endswith(("-wal", "-shm"))),
    }


@pytest.fixture
def unchanged(shared):
    """The shared one, which must be the same afterwards."""
    before = everything(shared)
    yield shared
    assert everything(shared) == before


# Flags and values ---------------------------------------------------------------------------------

@pytest.mark.parametrize("args, status, said, hint", [
    ([*RUN, "--name", "Bad_Name", "--", "true"], 125, "'Bad_Name' is not a name", "a-z 0-9"),
    ([*RUN, "--name", "-x", "--", "true"], 125, "'-x' is not a name", "a-z 0-9"),
    ([*RUN, "--name", "x" * 64, "--", "true"], 2, "--name must have 1 to 63 bytes", True),
    ([*RUN, "--name", "", "--", "true"], 2, "--name must have 1 to 63 bytes", True),
    ([*RUN, "--name", b"\xff", "--", "true"], 2, "is not UTF-8", True),
    ([*RUN, "--disk", "huge", "--", "true"], 2, "--disk must be a size", True),
    ([*RUN, "--disk", "1K", "--", "true"], 2, "--disk must be 64M to 64T, not '1K'", True),
    ([*RUN, "--disk", "9000000T", "--", "true"], 2, "--disk must be", True),
    ([*RUN, "--disk", "-8G", "--", "true"], 2, "--disk must be", True),
    ([*RUN, "--memory", "lots", "--", "true"], 2, "--memory must be MiB, or a size", True),
    ([*RUN, "--memory", "0", "--", "true"], 2, "--memory must be 64M to 1T", True),
    ([*RUN, "--memory", "99999999999999999999", "--", "true"], 2, "--memory must be", True),
    ([*RUN, "--vcpus", "0", "--", "true"], 2, "--vcpus must be 1 to 64", True),
    ([*RUN, "--vcpus", "1000", "--", "true"], 2, "--vcpus must be 1 to 64", True),
    ([*RUN, "--vcpus", "1.5", "--", "true"], 2, "--vcpus must be a number", True),
    ([*RUN, "--image", "nothing", "--", "true"], 125, "no image 'nothing'", True),
    ([*RUN, "--image", "debain", "--", "true"], 125, "no image 'debain'", True),
    ([*RUN, "--kernel", "nothing", "--", "true"], 125, "no kernel 'nothing'", True),
    ([*RUN, "--vmm", "firecracker", "--", "true"], 125, "firecracker", "--vmm qemu"),
    ([*RUN, "--env", "NOVALUE", "--", "true"], 2, "--env must be NAME=VALUE", True),
    ([*RUN, "--env", "=value", "--", "true"], 2, "--env must be NAME=VALUE", True),
    ([*RUN, "--workdir", "relative", "--", "true"], 125, "absolute path", False),
    ([*RUN, "--timeout", "never", "--", "true"], 2, "--timeout must be a time", True),
    ([*RUN, "--label", "x", "--", "true"], 2, "--label must be NAME=VALUE", True),
    ([*RUN, "--nmae", "x", "--", "true"], 2, "unknown flag '--nmae'", "did you mean '--name'?"),
    ([*RUN], 125, "no command given", "after --"),
    (["run", "true"], 2, "unexpected argument 'true'", "banger run -- true"),
    (["runn"], 2, "unknown command 'runn'", "did you mean 'banger run'?"),
    (["vm", "strat", "x"], 2, "unknown command 'vm strat'", "banger vm start"),
    (["vm", "show", "nothing"], 1, "no VM 'nothing'", "banger ps -a"),
    (["vm", "start", "nothing"], 1, "no VM 'nothing'", "banger ps -a"),
    (["stop", "nothing"], 1, "no VM 'nothing'", "banger ps -a"),
    (["logs", "nothing"], 1, "no VM 'nothing'", "banger ps -a"),
    (["exec", "nothing", "true"], 125, "no VM 'nothing'", "banger ps -a"),
    (["session", "list", "nothing"], 1, "no VM 'nothing'", "banger ps -a"),
    (["template", "show", "nothing"], 1, "no template 'nothing'", "banger template list"),
    (["template", "delete", "0"], 1, "no template '0'", "banger template list"),
    (["template", "create", "--memory", "1K"], 2, "--memory must be 64M to 1T", True),
    (["template", "create", "--name", "x"], 2, "unknown flag '--name'", True),
    (["template", "prune", "--keep-storage", "lots"], 2, "--keep-storage must be a size", True),
    (["template", "prune", "--unused-for", "400d"], 2, "--unused-for must be", True),
    ([*RUN, "--cold=yes", "--", "true"], 2, "--cold takes no value", True),
    (["rm", SHARED_VM], 1, "is running", "--force"),
    ([*RUN, "--name", SHARED_VM, "--", "true"], 125,
     f"VM '{SHARED_VM}' exists already", "choose another --name"),
    (["exec", SHARED_VM, "--"], 2, "COMMAND is missing", True),
])
def test_bad_value_is_refused_with_reason_and_hint(unchanged, args, status, said, hint):
    result = unchanged.run(*args)
    assert_error(result, said, status=status, hint=hint)
    assert result.stdout == b""


def test_control_characters_of_input_do_not_reach_the_terminal(unchanged):
    for args in ([*RUN, "--name", "a\x1b[31m", "--", "true"], ["vm", "show", "\x1b]0;x\x07"],
                 ["template", "show", "\x1b]0;x\x07"],
                 ["ru\x1bn"], [*RUN, "--image", "x\x1b[2J", "--", "true"],
                 [*RUN, "--\x1b[1m", "--", "true"], ["image", "register", "x\x1b[1m", "/dev/null"]):
        result = unchanged.run(*args)
        assert result.returncode in (1, 2, 125)
        assert b"\x1b" not in result.stderr and b"\x07" not in result.stderr, result


def test_too_many_arguments_are_an_error_of_their_own(unchanged):
    result = unchanged.run("exec", SHARED_VM, "--", "echo", *["x"] * 5000)
    assert_error(result, "4096", status=125, hint=False)
    result = unchanged.run("exec", SHARED_VM, "--", "true", *["y" * 100000] * 6)
    assert_error(result, "512 KiB", status=125, hint="stdin")


def test_vm_without_a_kernel_or_image_says_what_to_do(bare, rootfs_tar):
    assert_error(bare.run(*RUN, "--", "true"), "no image 'debian'", status=125,
                 hint="banger image register")
    bare.ok("image", "register", "debian", str(rootfs_tar))
    assert_error(bare.run(*RUN, "--", "true"), "no kernel", status=125,
                 hint="banger kernel import")
    assert_nothing_left(bare)


# Kernels ------------------------------------------------------------------------------------------

@pytest.fixture
def package(kernel_dir, tmp_path):
    """A copy of the kernel package that may be damaged; modules are links."""
    (tmp_path / "k" / "boot").mkdir(parents=True)
    for path in (kernel_dir / "boot").iterdir():
        shutil.copy(path, tmp_path / "k" / "boot")
    os.symlink(kernel_dir / "lib", tmp_path / "k" / "lib")
    return tmp_path / "k"


def vmlinuz(package):
    return next((package / "boot").glob("vmlinuz-*"))


def test_kernel_import_of_a_missing_directory(unchanged):
    result = unchanged.run("kernel", "import", "x", "/nonexistent")
    assert_error(result, "'/nonexistent'", "No such file", hint="--help")


def test_kernel_import_of_a_file(unchanged, rootfs_tar):
    assert_error(unchanged.run("kernel", "import", "x", str(rootfs_tar), "-q"), "directory",
                 hint="dpkg-deb")


def test_kernel_import_of_a_directory_without_a_kernel(unchanged, tmp_path):
    assert_error(unchanged.run("kernel", "import", "x", str(tmp_path), "-q"),
                 "boot/vmlinuz-VERSION", hint="dpkg-deb -x")


def test_kernel_import_of_two_kernels(unchanged, package):
    shutil.copy(vmlinuz(package), package / "boot" / "vmlinuz-other")
    assert_error(unchanged.run("kernel", "import", "x", str(package), "-q"), "more than one",
                 hint="one kernel package")


def test_kernel_import_without_modules(unchanged, package):
    (package / "lib").unlink()
    assert_error(unchanged.run("kernel", "import", "x", str(package), "-q"), "no modules at",
                 "lib/modules", hint="dpkg-deb")


def test_kernel_import_with_half_the_modules(unchanged, package, kernel_dir):
    (package / "lib").unlink()
    version = vmlinuz(package).name.removeprefix("vmlinuz-")
    target = package / "lib" / "modules" / version
    target.mkdir(parents=True)
    for path in (kernel_dir / "lib" / "modules" / version).glob("modules.*"):
        shutil.copy(path, target)
    result = unchanged.run("kernel", "import", "x", str(package), "-q")
    assert_error(result, "neither built in nor a file", hint="whole lib/modules")


@pytest.mark.parametrize("damage, said", [
    (lambda data: data[:len(data) // 2], "cut short"),
    (lambda data: data[:600], ""),
    (lambda data: b"", ""),
    (lambda data: b"just some text\n" * 1000, "no kernel image"),
    (lambda data: data[:40000] + bytes(len(data) - 40000), ""),
    (lambda data: data[:len(data) // 2] + bytes(4096) + data[len(data) // 2 + 4096:], ""),
], ids=["half", "head", "empty", "text", "zeros", "hole"])
def test_kernel_import_of_a_damaged_kernel(unchanged, package, damage, said):
    path = vmlinuz(package)
    path.write_bytes(damage(path.read_bytes()))
    result = unchanged.run("kernel", "import", "x", str(package), "-q")
    assert_error(result, path.name, said)


def test_kernel_import_of_an_unreadable_kernel(unchanged, package):
    vmlinuz(package).unlink()
    # Root may read everything, but not a directory as a file.
    (package / "boot" / "vmlinuz-1.2.3").mkdir()
    result = unchanged.run("kernel", "import", "x", str(package), "-q")
    assert_error(result, "vmlinuz-1.2.3", hint=False)


@pytest.mark.parametrize("name", ["", "A", "a b", "../x", ".hidden", b"\xff\xfe", "x" * 129,
                                  "sha256:abc"], ids=range(8))
def test_bad_names_of_images_and_kernels(unchanged, kernel_dir, rootfs_tar, name):
    for args in (["kernel", "import", name, str(kernel_dir)],
                 ["image", "register", name, str(rootfs_tar)]):
        assert_error(unchanged.run(*args, "-q"), hint=True)


# Images -------------------------------------------------------------------------------------------

def register(banger, path):
    return banger.run("image", "register", "x", str(path), "-q")


def test_image_register_of_a_missing_file(unchanged):
    assert_error(register(unchanged, "/nonexistent.tar"), "'/nonexistent.tar'", "No such file",
                 hint=False)


def test_image_register_of_a_directory(unchanged, tmp_path):
    assert_error(register(unchanged, tmp_path), "not a regular file", hint="tar -C")


def test_image_register_of_a_fifo_does_not_hang(unchanged, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert_error(register(unchanged, tmp_path / "fifo"), "not a regular file", hint="tar -C")


def test_image_register_of_a_text_file(unchanged, tmp_path):
    (tmp_path / "text").write_text("Lorem ipsum\n" * 1000)
    assert_error(register(unchanged, tmp_path / "text"), "cannot make an image", hint="tar")


def test_image_register_of_an_empty_file(unchanged, tmp_path):
    (tmp_path / "empty").touch()
    assert_error(register(unchanged, tmp_path / "empty"), "cannot make an image", hint="tar")


@pytest.mark.parametrize("compress", [None, ["gzip", "-1"], ["xz", "-0"], ["zstd", "-q", "-1"]],
                         ids=["plain", "gzip", "xz", "zstd"])
def test_image_register_of_a_truncated_tar(unchanged, rootfs_tar, tmp_path, compress):
    if compress and not shutil.which(compress[0]):
        pytest.skip(f"{compress[0]} is not installed")
    data = rootfs_tar.read_bytes()
    if compress:
        data = subprocess.run(compress, input=data, capture_output=True, check=True).stdout
    (tmp_path / "t.tar").write_bytes(data[:len(data) // 2])
    assert_error(register(unchanged, tmp_path / "t.tar"), "cannot make an image", hint="whole tar")


def test_image_register_of_a_truncated_ext4(unchanged, tmp_path):
    image = next((unchanged.state_dir / "images").glob("*.ext4"))
    with image.open("rb") as source:
        (tmp_path / "t.ext4").write_bytes(source.read(image.stat().st_size // 2))
    assert_error(register(unchanged, tmp_path / "t.ext4"), "t.ext4", hint=False)


@needs_root
def test_image_register_of_a_file_that_cannot_be_read(unchanged, tmp_path):
    # Its first bytes are fine, then comes an error: a file that is longer than its disk.
    path = tmp_path / "mem"
    os.symlink("/proc/self/mem", path)
    result = register(unchanged, path)
    assert_error(result, hint=False)


def test_image_without_a_shell_gives_a_failed_run(banger, tmp_path):
    """Registered is not yet usable: the run says what is missing, and leaves nothing."""
    (tmp_path / "only").write_text("x")
    subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "t.tar", "only"], check=True)
    banger.ok("image", "register", "empty", str(tmp_path / "t.tar"))
    result = banger.run(*RUN, "--image", "empty", "--", "sh")
    assert_error(result, "sh", status=127, hint=False)
    assert_nothing_left(banger)


# Configuration ------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, said", [
    ("acell = 'tcg'\n", "config.toml:1:"),
    ('accel = "xen"\n', "must be one of auto|kvm|tcg"),
    ('accel = "tcg"\nboot_slots = -1\n', "config.toml:2:"),
    ("accel = [\n", "config.toml:"),
    ("\x00\xff", "config.toml:"),
], ids=["key", "choice", "range", "syntax", "binary"])
def test_bad_configuration_is_told_by_the_command_that_starts_the_daemon(bare, text, said):
    bare.config_file.write_bytes(text.encode("latin-1"))
    result = bare.run("ps")
    assert_error(result, "the daemon did not start", said)
    assert_daemon_ends(bare)
