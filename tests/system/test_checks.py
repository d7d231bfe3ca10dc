"""The checks of `make lint` find what they are for."""

import importlib.util
import os
import re
import subprocess

import pytest

from banger import BUILD, ROOT
from mock_daemon import VM, RpcError
from schema import protocol

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


INSTALLED = {f"bin/{name}": 0o755 for name in ("banger", "bangerd")} | {
    f"libexec/banger/banger-{name}": 0o755
    for name in ("agent", "helper", "launch", "mkroot")} | dict.fromkeys((
        "share/man/man1/banger.1", "share/man/man5/banger.toml.5", "share/man/man8/bangerd.8",
        "share/bash-completion/completions/banger", "share/zsh/site-functions/_banger",
        "share/fish/vendor_completions.d/banger.fish",
        "lib/systemd/system/banger.service", "lib/systemd/system/banger.socket",
        "lib/systemd/user/banger.service", "lib/systemd/user/banger.socket"), 0o644)


def files_below(directory):
    return {str(path.relative_to(directory)): path.stat().st_mode & 0o7777
            for path in directory.rglob("*") if not path.is_dir()}


def test_install_and_uninstall_leave_nothing(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    args = [f"DESTDIR={tmp_path}", "PREFIX=/opt/b"]
    # -o all: what is installed is what the run has built.
    subprocess.run(["make", "-o", "all", "install", *args], cwd=ROOT, env=env, check=True)
    assert files_below(tmp_path) == {f"opt/b/{name}": mode for name, mode in INSTALLED.items()}
    for kind in ("system", "user"):
        unit = (tmp_path / f"opt/b/lib/systemd/{kind}/banger.service").read_text()
        assert "\nExecStart=/opt/b/bin/bangerd\n" in unit and "@" not in unit
    subprocess.run(["make", "uninstall", *args], cwd=ROOT, env=env, check=True)
    assert files_below(tmp_path) == {}


def compile_c(text, compiler, *flags):
    """What the compiler says of a source of the project's kind."""
    done = subprocess.run([compiler, "-std=gnu17", "-D_GNU_SOURCE", "-I", ROOT / "src", "-include",
                           "base/banned.h", "-Werror", "-fsyntax-only", *flags, "-xc", "-"],
                          input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("compiler", ["gcc", "clang-19"])
@pytest.mark.parametrize("call", ["strcpy(a, b)", "sprintf(a, b)", "strtok(a, b)", "system(b)",
                                  "atoi(b)", "sleep(1)"])
def test_banned_functions_do_not_compile(compiler, call):
    function = "void f(char *a, const char *b); void f(char *a, const char *b) { (void)a; (void)b; "
    assert compile_c(function + "}\n", compiler) == (0, "")
    status, said = compile_c(function + f"(void){call}; }}\n", compiler)
    assert status != 0 and "poisoned" in said


@pytest.mark.parametrize("body, said", [
    ("leaf_lock(a); leaf_unlock(a);", None),
    ("create_lock(a); leaf_lock(b); leaf_unlock(b); create_unlock(a);", None),
    ("leaf_lock(a); leaf_lock(b); leaf_unlock(b); leaf_unlock(a);", "already held"),
    ("leaf_lock(a); create_lock(b); create_unlock(b); leaf_unlock(a);", "must be acquired before"),
    ("leaf_lock(a); (void)b;", "still held"),
])
def test_wrong_orders_of_locks_do_not_compile(body, said):
    text = ('#include "base/thread.h"\nvoid f(struct lock *a, struct lock *b);\n'
            "void f(struct lock *a, struct lock *b) { (void)b; " + body + " }\n")
    status, words = compile_c(text, "clang-19", "-Wthread-safety", "-Wthread-safety-beta")
    assert (status == 0) == (said is None), words
    assert said is None or said in words


def test_agent_is_small_static_and_needs_no_library():
    agent = BUILD / "banger-agent"
    assert agent.stat().st_size < 300 * 1024
    said = subprocess.run(["readelf", "-ld", agent], capture_output=True, text=True, check=True)
    assert "INTERP" not in said.stdout and "NEEDED" not in said.stdout


def load_driver():
    spec = importlib.util.spec_from_file_location("run_tests", ROOT / "tools/run-tests.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_last_line_of_make_test_is_the_count(monkeypatch, capsys):
    driver = load_driver()

    def phase(tally, _args):
        tally.passes(3)
        tally.skips("a_test", "no such hardware")

    monkeypatch.setattr(driver, "phase_unit", phase)
    monkeypatch.setattr("sys.argv", ["run-tests.py", "--only", "unit"])
    with pytest.raises(SystemExit) as ended:
        driver.main()
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    assert lines[-1] == "3 passed, 0 failed, 1 skipped"
    assert "skipped: a_test: no such hardware" in lines


def test_a_failure_and_a_run_of_nothing_fail(monkeypatch, capsys):
    driver = load_driver()
    for phase, last in ((lambda tally, _: tally.fails("a_test", "why"), "0 passed, 1 failed"),
                        (lambda tally, _: None, "0 passed, 1 failed")):
        monkeypatch.setattr(driver, "phase_unit", phase)
        monkeypatch.setattr("sys.argv", ["run-tests.py", "--only", "unit"])
        with pytest.raises(SystemExit) as ended:
            driver.main()
        assert ended.value.code == 1
        assert capsys.readouterr().out.splitlines()[-1] == last


def test_ci_runs_make_test():
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "exec make test </dev/null"
    said = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True,
                          check=True, env={k: v for k, v in os.environ.items()
                                           if not k.startswith("MAKE")})
    assert "tools/deps.sh" in said.stdout and "tools/run-tests.py" in said.stdout


# Defaults -----------------------------------------------------------------------------------------

def test_handlers_have_no_defaults_of_their_own():
    """They read params with api_str, api_int, api_flag; the defaults stand in the method table."""
    names = r"(?:\w+->)?(?:params|spec|main|tty)|p"
    own = re.compile(rf"json_(?:str|int|flag)\(\s*(?:{names}),\s*\"\w+\",[^)]*\)")
    assert own.search('x = json_int(params, "timeout_ms", 5000);')
    sources = [ROOT / "src/vm/vm_create.c", *ROOT.glob("src/daemon/rpc_*.c"),
               *ROOT.glob("src/guest/*.c")]
    assert len(sources) > 5
    assert not [f"{path.name}: {m}" for path in sources for m in own.findall(path.read_text())]


# Fixtures -----------------------------------------------------------------------------------------

def test_reply_that_was_kept_back_fails_the_test_that_saw_it(bare):
    """What the daemon logs of it is what the fixtures look for."""
    phrase = re.search(r'"the %s \'%s\' (.*?)"', (ROOT / "src/codec/api_check.c").read_text())[1]
    bare.ok("ps")
    assert bare.broken_replies() == []
    log = bare.state_dir / "bangerd.log"
    before = log.read_bytes()
    with log.open("a") as out:
        out.write(f"error the reply to 'vm.show' {phrase}: member 'x'\nmore\n")
    assert bare.broken_replies() == [f"error the reply to 'vm.show' {phrase}: member 'x'"]
    log.write_bytes(before)


def test_reply_that_is_no_reply_is_refused_by_the_tests_schema():
    """The validators of the tests are no rubber stamp."""
    schema = protocol()
    good = {"jsonrpc": "2.0", "id": 1, "result": VM}
    schema.check_reply("vm.show", good)
    for method, bad in [
            ("vm.list", good), ("vm.show", good | {"result": [VM]}), ("vm.show", good | {"x": 1}),
            ("vm.show", good | {"result": VM | {"x": 1}}),
            ("vm.show", good | {"result": VM | {"state": "flying"}}),
            ("vm.show", good | {"result": VM | {"exit": {"code": 1}}}),
            ("vm.show", good | {"result": {k: v for k, v in VM.items() if k != "labels"}}),
            ("vm.show", {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}}),
            ("vm.show", {"jsonrpc": "2.0", "id": 1, "error": RpcError("busy", "x", number=1).object}),
            ("vm.shw", good)]:
        with pytest.raises(AssertionError):
            schema.check_reply(method, bad)
    with pytest.raises(AssertionError):
        schema.check_notification({"jsonrpc": "2.0", "method": "op.progress", "params": VM})


def test_nothing_is_left_of_a_merge():
    marks = subprocess.run(["git", "grep", "-nE", "^(<{7} |>{7} |={7}$)"], cwd=ROOT, check=False,
                           capture_output=True, text=True)
    assert marks.returncode in (0, 1), marks.stderr
    assert marks.stdout == ""


# Locks ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("violation, said", [
    (0, None),
    (1, "'rank_create' must be acquired before 'rank_leaf'"),
    (2, "acquiring rank 'rank_leaf' that is already held"),
    (3, "cannot call function 'takes_leaf' while rank 'rank_leaf' is held"),
    (4, "'rank_leaf' is not held on every path"),
    (5, "releasing rank 'rank_image' that was not held"),
    (6, "'rank_vm' must be acquired before 'rank_image'"),
    (7, "'needs_token' requires holding rank 'rank_vm'"),
])
def test_broken_lock_order_does_not_compile(violation, said):
    """With the flags of build-tsan, which is a check of its own in `make lint`."""
    flags = [f for f in ("-Wthread-safety", "-Wthread-safety-beta")
             if f in (ROOT / "meson.build").read_text()]
    done = subprocess.run(
        ["clang-19", "-std=gnu17", "-fsyntax-only", "-D_GNU_SOURCE", "-Werror", *flags,
         f"-I{ROOT / 'src'}", f"-DVIOLATION={violation}", ROOT / "tests/lint/lock_order.c"],
        capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (said is None), done.stderr
    assert not said or said in done.stderr, done.stderr
