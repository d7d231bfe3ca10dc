"""The checks of `make lint` find what they are for."""

import os
import subprocess

import pytest

from banger import ROOT

LAYERS = "base:\nvmm: base\nvm: base vmm\nagent: base/buf.h\n"


@pytest.fixture
def layers(tmp_path):
    """Returns a function: {path: text} below src/ -> what tools/layers.py prints, and its status."""

    def check(files, layers=LAYERS):
        (tmp_path / "layers.txt").write_text(layers)
        headers = ("base/buf.h", "base/err.h", "vmm/vmm.h", "vmm/qemu/qmp_priv.h", "vm/vm.h")
        for name, text in ({name: "" for name in headers} | files).items():
            path = tmp_path / "src" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        done = subprocess.run([ROOT / "tools/layers.py", tmp_path / "src", tmp_path / "layers.txt"],
                              capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    return check


def test_layers_accept_what_is_allowed(layers):
    status, out = layers({
        "vm/vm.c": '#include "vm/vm.h"\n#include "vmm/vmm.h"\n#include "version.h"\n',
        "vmm/qemu/qmp.c": '#include "vmm/qemu/qmp_priv.h"\n#include "vmm/vmm.h"\n',
        "agent/main.c": '#include "base/buf.h"\n#include <stdio.h>\n',
    })
    assert status == 0, out


@pytest.mark.parametrize("path, include, complaint", [
    ("base/x.c", "vm/vm.h", "base/ may not include vm/"),
    ("vmm/x.c", "vm/vm.h", "vmm/ may not include vm/"),
    ("vm/x.c", "vmm/qemu/qmp_priv.h", "is private to vmm/"),
    ("agent/x.c", "base/err.h", "agent/ may not include base/"),
    ("vm/x.c", "vm.h", "is not a file below src/"),
    ("new/x.c", "base/buf.h", "folder 'new' has no line"),
])
def test_layers_refuse_a_forbidden_include(layers, path, include, complaint):
    status, out = layers({path: f'\n#include "{include}"\n'})
    assert status == 1
    assert f"{path}:2: " in out and complaint in out


def test_layers_refuse_a_circle(layers):
    status, out = layers({}, "base:\nvm: vmm base\nvmm: vm\n")
    assert status == 1
    assert "a circle: vm -> vmm -> vm" in out


def test_every_source_belongs_to_a_target():
    listed = subprocess.run([ROOT / "tools/list-sources.py"], capture_output=True, text=True,
                            check=True).stdout.splitlines()
    groups = {}
    for line in listed:
        group, path = line.split()
        groups.setdefault(path, set()).add(group)
    assert groups["src/base/err.c"] == {"base"}
    assert {str(p.relative_to(ROOT)) for p in (ROOT / "src").rglob("*.c")} <= set(groups)
    assert not any("other" in g for g in groups.values())


def test_make_help_lists_the_targets():
    # Without make's own variables: the tests may have been started by make.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    out = subprocess.run(["make", "help"], cwd=ROOT, env=env, capture_output=True, text=True,
                         check=True).stdout
    for target in ("try", "test", "lint", "bench", "install", "help"):
        assert f"make {target} " in out


def test_install_and_uninstall_leave_nothing(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    args = [f"DESTDIR={tmp_path}", "PREFIX=/opt/b"]
    # -o all: what is installed is what the run has built.
    subprocess.run(["make", "-o", "all", "install", *args], cwd=ROOT, env=env, check=True)
    for program in ("bin/banger", "bin/bangerd", "libexec/banger/banger-agent",
                    "libexec/banger/banger-mkroot"):
        assert os.access(tmp_path / "opt/b" / program, os.X_OK), program
    subprocess.run(["make", "uninstall", *args], cwd=ROOT, env=env, check=True)
    assert not [p for p in tmp_path.rglob("*") if not p.is_dir()]
