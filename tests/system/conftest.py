"""Fixtures of the system tests. What a test can do with an instance is in banger.py.

  banger        an isolated banger with the default kernel and a small image named `debian`
  bare          the same without kernel and image
  make_banger   a function that makes further ones: make_banger(config=..., assets=True)
  shared        one banger for many tests, with a running VM named `shared` (SHARED_VM): for those
                that leave both as they were
  namespace     a mount namespace for the daemon of `banger` (namespace.py)
  kernel_dir    Debian's boot kernel, unpacked       rootfs_tar   the small image as a tar

After each test nothing of it may be left: processes, mounts, sanitizer reports, replies that the
daemon kept back because they break the protocol; after the run no network interface and no nft rule
that was not there before. A failed test's logs and consoles are
kept in <build>/test-artifacts/<test>/.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

import rootfs
from banger import BUILD, DEFAULT_CONFIG, IMAGE, KERNEL, OUTSIDE, ROOT, SLOWNESS, Instance
from namespace import Namespace
from steps import SHARED_VM

CACHE = ROOT / ".cache"
SHARED = "BANGER_TEST_SHARED"
CLONE_NEWNET = 0x40000000
TEST_SECONDS = 180


# The run as a whole --------------------------------------------------------------------------------

def is_worker(config):
    return hasattr(config, "workerinput")


def network_state():
    """What no test may change for good."""
    state = {f"interface {name}" for name in os.listdir("/sys/class/net")}
    if shutil.which("nft") and os.geteuid() == 0:
        rules = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True,
                               check=False)
        state |= {f"nft {line}" for line in rules.stdout.splitlines()}
    return state


def own_network():
    """A network namespace for this process and all that the tests start, with lo up: what one of
    them does to it, no other sees, nor does the machine."""
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)  # for as long as we are
    if os.geteuid() == 0 and libc.unshare(CLONE_NEWNET) == 0:
        OUTSIDE[:] = [shutil.which("nsenter"), f"--net=/proc/{os.getpid()}/fd/{outside}", "--"]
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def pytest_configure(config):
    if is_worker(config) or not config.getoption("numprocesses", None):
        own_network()
    if not is_worker(config):
        # Workers inherit the environment, and so agree on what is prepared once for all of them.
        config.banger_shared = tempfile.mkdtemp(prefix="bgs-", dir="/tmp")
        os.environ[SHARED] = config.banger_shared
        config.banger_network = network_state()


def pytest_sessionfinish(session):
    config = session.config
    if is_worker(config):
        return
    changes = network_state() ^ config.banger_network
    if changes:
        print(f"\nthe tests changed the host's network: {sorted(changes)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config):
    if not is_worker(config) and hasattr(config, "banger_shared"):
        shutil.rmtree(config.banger_shared, ignore_errors=True)


# One test ------------------------------------------------------------------------------------------

def pytest_collection_modifyitems(config, items):
    """What needs test points is for the builds that have them, which is where it is run."""
    if "-" not in BUILD.name:
        without = [item for item in items if item.get_closest_marker("points")]
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if not item.get_closest_marker("points")]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    setattr(item, f"report_{report.when}", report)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """A test that hangs fails by itself and its evidence is saved."""
    mark = item.get_closest_marker("deadline")
    seconds = (mark.args[0] if mark else TEST_SECONDS) * SLOWNESS

    def too_long(*_):
        raise TimeoutError(f"the test took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def has_failed(node):
    """A test: whether it failed. The session: whether one of its tests did."""
    if isinstance(node, pytest.Session):
        return node.testsfailed > 0
    call = getattr(node, "report_call", None)
    return call is None or call.failed


def end(instance, node):
    """Ends an instance; fails the test when something of it is left."""
    processes = instance.processes()
    problems = instance.stop()
    problems += instance.leftovers()
    reports = instance.sanitizer_reports() + instance.broken_replies()
    if problems or reports or has_failed(node):
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", node.nodeid.rpartition("/")[2])
        name = name or f"shared-{os.environ.get('PYTEST_XDIST_WORKER', 'all')}"
        directory = BUILD / "test-artifacts" / name
        with contextlib.suppress(OSError):
            instance.save_evidence(directory, processes)
        print(f"logs, consoles and processes are in {directory}/")
        for path, text in instance.logs().items():
            print(f"--- the end of {path}")
            print("\n".join(text.splitlines()[-40:]))
    instance.remove()
    return problems + reports


@pytest.fixture
def make_banger(request):
    """Makes instances that end with the test: make_banger(config=TEXT, assets=True)."""
    instances = []

    def make(config=DEFAULT_CONFIG, assets=True):
        template = request.getfixturevalue("guest_assets") if assets else None
        instance = Instance(config, template)
        instances.append(instance)
        return instance

    yield make
    problems = [p for instance in instances for p in end(instance, request.node)]
    if problems:
        pytest.fail("left behind:\n" + "\n".join(problems), pytrace=False)


@pytest.fixture
def banger(make_banger):
    return make_banger()


@pytest.fixture
def bare(make_banger):
    return make_banger(assets=False)


@pytest.fixture
def namespace(banger):
    made = Namespace(banger)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def shared(request, guest_assets):
    """One for all tests of this worker that only look, or run commands."""
    instance = Instance(template=guest_assets)
    result = instance.run("vm", "create", "--name", SHARED_VM)
    if result.returncode:
        problems = [repr(result), *end(instance, request.node)]
        pytest.fail("no shared VM:\n" + "\n".join(problems), pytrace=False)
    yield instance
    problems = end(instance, request.node)
    if problems:
        pytest.fail("left behind:\n" + "\n".join(problems), pytrace=False)


# Prepared once -------------------------------------------------------------------------------------

@contextlib.contextmanager
def locked(path):
    """One process at a time; the lock goes with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def command(*args):
    done = subprocess.run([*OUTSIDE, *args], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, args))} failed:\n{done.stdout}{done.stderr}", False)


@pytest.fixture(scope="session")
def kernel_dir():
    with locked(CACHE / ".lock"):
        command("tools/fetch-kernel.sh", ".cache/kernel")
    return CACHE / "kernel"


@pytest.fixture(scope="session")
def rootfs_tar():
    recipe = hashlib.sha256(pathlib.Path(rootfs.__file__).read_bytes()).hexdigest()[:12]
    out = CACHE / f"test-rootfs-{recipe}.tar"
    with locked(CACHE / ".lock"):
        command("tools/fetch-deb.sh", "busybox-static", ".cache/busybox")
        if not out.exists():
            for old in CACHE.glob("test-rootfs-*"):
                old.unlink()
            rootfs.build(CACHE / "busybox" / "bin" / "busybox", out)
    return out


@pytest.fixture(scope="session")
def guest_assets(kernel_dir, rootfs_tar):
    """A state with kernel and image, made once a run by the programs under test, to be copied."""
    shared = pathlib.Path(os.environ[SHARED])
    template, ready, broken = shared / "t", shared / "ready", shared / "broken"
    with locked(shared / "lock"):
        if broken.exists():
            pytest.fail(broken.read_text(), False)
        if not ready.exists():
            prepare(template, kernel_dir, rootfs_tar, broken)
            ready.touch()
    return template


def prepare(template, kernel_dir, rootfs_tar, broken):
    instance = Instance(root=template)
    problems = []
    try:
        instance.ok("kernel", "import", KERNEL, str(kernel_dir), timeout=120)
        instance.ok("image", "register", IMAGE, str(rootfs_tar), timeout=120)
    except (AssertionError, TimeoutError) as error:
        problems.append(f"kernel and image could not be prepared: {error}")
        problems += [f"{p}:\n{text[-4000:]}" for p, text in instance.logs().items()]
    problems += instance.stop() + instance.leftovers() + instance.sanitizer_reports() + \
        instance.broken_replies()
    if problems:
        broken.write_text("\n".join(problems))
        pytest.fail(broken.read_text(), False)
