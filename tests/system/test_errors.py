"""Common mistakes and what is said about them: two lines, what and why, and what to do."""

import re

import pytest
from steps import SHARED_VM

OFF = "off"

# Words (split at spaces); status; what and why; what to do.
SHARED = [
    ("exec nothing true", 125, "no VM 'nothing'", "banger ps -a"),
    (f"exec {SHARED_VM} nosuch", 127, "'nosuch': not found in PATH: No such file or directory",
     "the image must have it"),
    (f"exec {SHARED_VM} /no/such", 127, "'/no/such': No such file or directory",
     "the image must have it"),
    (f"exec {SHARED_VM} /etc/passwd", 126, "'/etc/passwd': Permission denied", "executable"),
    (f"exec {SHARED_VM} -u nobodyx true", 125, "'nobodyx': the guest knows no such user",
     "--user 1000:1000"),
    (f"exec {SHARED_VM} -u root:nogrp true", 125, "'root:nogrp': the guest knows no such group",
     "--user 1000:1000"),
    (f"exec {SHARED_VM} -w /no/such true", 125,
     "working directory '/no/such': No such file or directory", "another --workdir"),
    (f"exec {SHARED_VM} -w here true", 125, "the working directory must be an absolute path",
     "--workdir /root"),
    (f"exec {SHARED_VM}", 2, "exec: COMMAND is missing", f"banger exec {SHARED_VM} -- COMMAND"),
    ("run -q --image nosuch -- true", 125, "no image 'nosuch'", "banger image list"),
    ("run -q --kernel nosuch -- true", 125, "no kernel 'nosuch'", "banger kernel list"),
    ("run -q --vmm firecracker -- true", 125, "this build cannot run VMs with 'firecracker'",
     "--vmm qemu"),
    (f"run -q --name {SHARED_VM} -- true", 125, f"VM '{SHARED_VM}' exists already", "--name"),
    ("run -q --name Bad_Name -- true", 125, "'Bad_Name' is not a name for a VM", "a-z 0-9 and -"),
    ("run debian sh", 2, "debian is an image: use --image debian", "banger run --image debian --"),
    ("run sh", 2, "unexpected argument 'sh': put the command after --", "banger run -- sh"),
    ("vm show nothing", 1, "cannot show 'nothing': no VM 'nothing'", "banger ps -a"),
    ("start nothing", 1, "cannot start 'nothing': no VM 'nothing'", "banger ps -a"),
    ("stop nothing", 1, "cannot stop 'nothing': no VM 'nothing'", "banger ps -a"),
    (f"rm {SHARED_VM}", 1, f"cannot delete '{SHARED_VM}': VM '{SHARED_VM}' is running",
     f"banger stop {SHARED_VM}"),
    ("logs nothing", 1, "cannot read the log of 'nothing': no VM 'nothing'", "banger ps -a"),
    ("session list nothing", 1, "no VM 'nothing'", "banger ps -a"),
    (f"session wait {SHARED_VM} ffff", 125, "cannot wait for session 'ffff': no session 'ffff'",
     "banger session list "),
    ("op show ffff", 1, "cannot show 'ffff': no operation 'ffff'", "banger op list"),
    ("op cancel ffff", 1, "cannot cancel 'ffff': no operation 'ffff'", "banger op list"),
    ("template show ffff", 1, "cannot show 'ffff': no template 'ffff'", "banger template list"),
    ("template delete ffff", 1, "cannot delete 'ffff': no template 'ffff'", "banger template list"),
    ("template verify ffff", 1, "cannot verify templates: no template 'ffff'", "banger template list"),
    ("template create -q --image nosuch", 1, "no image 'nosuch'", "banger image list"),
    ("template create -q --vmm firecracker", 1, "this build cannot run VMs with 'firecracker'",
     "--vmm qemu"),
    ("template prune --unused-for soon", 2, "--unused-for must be a time such as 12h or 7d",
     "banger template prune --help"),
    ("image register x /etc", 1, "'/etc' is not a regular file", "tar -C DIR"),
    ("image register x /no/such", 1, "cannot find '/no/such': No such file or directory", "--help"),
    ("image register BAD /etc/passwd", 1, "'BAD' is not a name for an image", "lower-case"),
    ("image register x /etc/passwd", 1, "cannot make an image of '/etc/passwd': ", "whole tar"),
    ("kernel import x /etc", 1, "no '/etc/boot/vmlinuz-VERSION'", "dpkg-deb -x"),
    ("run -q --memory 1 -- true", 2, "--memory must be 64M to 1T, not '1'", "--help"),
    ("run -q -e =x -- true", 2, "--env must be NAME=VALUE", "banger run --help"),
    ("stop --timeout soon x", 2, "--timeout must be a time such as 90s or 5m", "banger vm stop"),
    ("run -di -- true", 2, "--detach and --interactive exclude each other", "banger run --help"),
]


def two_lines(result, what):
    """Checks the form of an error; returns the two lines without their beginnings."""
    lines = [line for line in result.err.splitlines() if not re.match(r"banger: [a-z ]+\.\.\.", line)]
    assert len(lines) == 2 and lines[1].startswith("hint: "), repr(result)
    assert lines[0].startswith("banger: " + what), repr(result)
    first, hint = lines[0].removeprefix("banger: "), lines[1].removeprefix("hint: ")
    for text in (first, hint):
        # Lower case but for names (VM, KVM) and quoted things, no full stop, no run-on blanks.
        assert not re.match(r"[A-Z][a-z]", text) and not re.search(r"\w[.!]$|  ", text), repr(text)
    return first, hint


@pytest.mark.parametrize("words, status, what, hint", SHARED, ids=[row[0] for row in SHARED])
def test_common_mistake_is_two_lines(shared, words, status, what, hint):
    result = shared.run(*words.split())
    assert result.returncode == status, repr(result)
    assert not result.stdout
    assert hint in two_lines(result, what)[1]


def test_vm_that_does_not_run_is_named_with_the_command_that_starts_it(banger):
    banger.ok("vm", "create", "--name", OFF, "--no-start", "-q")
    result = banger.run("exec", OFF, "true")
    assert result.returncode == 125
    assert two_lines(result, "VM 'off' is not running (it is created)")[1] == \
        "start it with: banger start off"


def test_beginning_of_two_ids_is_ambiguous(banger):
    names = [f"a{n}" for n in range(17)]
    first = {}
    for name in names:
        banger.ok("vm", "create", "--name", name, "--no-start", "-q")
        digit = banger.json("vm", "show", name)["id"][0]
        if digit in first:
            break
        first[digit] = name
    result = banger.run("vm", "show", digit)
    assert result.returncode == 1
    assert "of the id" in two_lines(
        result, f"cannot show '{digit}': '{digit}' is ambiguous: 2 VM ids start so")[1]


@pytest.mark.parametrize("words, status, what, hint", [
    ("run -q -- true", 125, "no image 'debian'", "banger image register"),
    ("daemon status", 1, "no daemon listens on ", "start it"),
    ("--socket /etc/passwd daemon status", 1, "no daemon listens on '/etc/passwd'", "start it"),
    ("--socket= ps", 1, "--socket wants a path", "--socket"),
])
def test_mistakes_without_anything(bare, words, status, what, hint):
    result = bare.run(*words.split())
    assert result.returncode == status and hint in two_lines(result, what)[1]
