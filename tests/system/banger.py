"""One isolated banger for one test: own directories, own daemon, real programs.

    def test_true(banger):
        assert banger.run("run", "--rm", "--", "true").returncode == 0

A test waits on what happens (output, an exit), never on the clock: Child.read_until, Child.finish,
Instance.wait_gone. Every wait has a deadline, longer when the programs run under a sanitizer.
"""

import errno
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
import time

from schema import BUILD, ROOT, protocol

# How much longer anything may take with these programs.
SLOWNESS = 4 if "tsan" in BUILD.name else 3 if "asan" in BUILD.name else 1
# What a command begins with that fetches something: tests run in a network of their own
# (conftest.own_network).
OUTSIDE = []
DEFAULT_CONFIG = 'accel = "tcg"\n'
KERNEL = "debian-cloud"
IMAGE = "debian"
SANITIZER = re.compile(
    r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|FATAL: ThreadSanitizer")
# What the daemon logs when it keeps back a reply or notification that its own tables do not allow.
BROKEN_REPLY = re.compile(r"^.*breaks the protocol.*$", re.MULTILINE)
# Files of an instance that are worth keeping when its test failed, and how much of each.
EVIDENCE_BYTES = 256 * 1024


class Result:
    """What a finished command left: returncode, stdout and stderr as bytes, out and err as text."""

    def __init__(self, args, returncode, stdout, stderr):
        self.args = args
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr

    @property
    def out(self):
        return self.stdout.decode(errors="replace")

    @property
    def err(self):
        return self.stderr.decode(errors="replace")

    def __repr__(self):
        return (f"{' '.join(map(printable, self.args))}: status {self.returncode}\n"
                f"stdout: {self.out[-4000:]}\nstderr: {self.err[-4000:]}")


def printable(arg):
    return arg.decode(errors="replace") if isinstance(arg, bytes) else str(arg)


class Child:
    """A running command. `tty` names the streams that are one pseudo-terminal (its controlling one),
    of `size` rows and columns."""

    def __init__(self, args, env, cwd, tty=(), size=None, keep=()):
        self.args = args
        self.output = {"stdout": b"", "stderr": b""}
        self.master = -1
        slave = -1
        if tty:
            self.master, slave = pty.openpty()
            if size:
                self.resize(*size)
            self.modes_before = self.modes()
        streams = {s: slave if s in tty else subprocess.PIPE for s in ("stdin", "stdout", "stderr")}

        def own_terminal():
            os.setsid()
            if slave >= 0:
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(args, env=env, cwd=cwd, preexec_fn=own_terminal,
                                        pass_fds=keep, **streams)
        if slave >= 0:
            os.close(slave)
        self.sources = {}
        for name in ("stdout", "stderr"):
            pipe = getattr(self.process, name)
            if pipe:
                self.sources[pipe.fileno()] = name
        if self.master >= 0:
            # What the terminal shows is found under the stream's name, and of both under stdout.
            self.sources[self.master] = "stderr" if "stderr" in tty and "stdout" not in tty \
                else "stdout"

    @property
    def pid(self):
        return self.process.pid

    @property
    def returncode(self):
        return self.process.returncode

    def send(self, data):
        """Writes all of data to its stdin (or types it on its terminal)."""
        fd = self.process.stdin.fileno() if self.process.stdin else self.master
        while data:
            data = data[os.write(fd, data):]

    def resize(self, rows, columns):
        """Changes the size of its terminal."""
        termios.tcsetwinsize(self.master, (rows, columns))

    def modes(self):
        """Its terminal's modes, all of them."""
        return termios.tcgetattr(self.master)

    def is_raw(self):
        return not self.modes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def hang_up(self):
        """Closes the terminal's window: the modem has lost the carrier."""
        self.sources.pop(self.master)
        os.close(self.master)
        self.master = -1

    def close_stdin(self):
        self.process.stdin.close()

    def signal(self, number):
        self.process.send_signal(number)

    def _pump(self, deadline):
        """Takes in output once; False when there is nothing more to come."""
        if not self.sources:
            return False
        left = deadline - time.monotonic()
        ready = select.select(list(self.sources), [], [], max(left, 0))[0]
        if not ready:
            raise TimeoutError(f"no end in sight: {Result(self.args, None, *self.output.values())}")
        for fd in ready:
            try:
                data = os.read(fd, 65536)
            except OSError as error:
                # How Linux says that a terminal's other end is gone.
                if error.errno != errno.EIO:
                    raise
                data = b""
            if data:
                self.output[self.sources[fd]] += data
            else:
                del self.sources[fd]
        return True

    def read_until(self, marker, stream="stdout", timeout=60, after=b""):
        """Waits until the stream's output so far has marker (bytes or a compiled pattern), behind
        the last `after` if that is given."""
        pattern = re.compile(re.escape(marker)) if isinstance(marker, bytes) else marker
        deadline = time.monotonic() + timeout * SLOWNESS
        while not (match := pattern.search(self.output[stream].rpartition(after)[2] if after
                                           else self.output[stream])):
            if not self._pump(deadline):
                raise AssertionError(f"ended without {marker!r}: {self.finish()}")
        return match

    def finish(self, timeout=60, keep=False):
        """Waits for its end; the rest of its output is in the result. keep: its terminal stays open,
        to be looked at."""
        deadline = time.monotonic() + timeout * SLOWNESS
        try:
            while self._pump(deadline):
                pass
            self.process.wait(max(deadline - time.monotonic(), 0))
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            self.kill()
            raise TimeoutError(
                f"killed after {timeout * SLOWNESS} s: "
                f"{Result(self.args, None, *self.output.values())}") from error
        if not keep:
            self.close()
        return Result(self.args, self.returncode, self.output["stdout"], self.output["stderr"])

    def kill(self):
        """kill -9, unless it has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def close(self):
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


class Rpc:
    """A plain connection to the daemon's socket: one JSON object a line.

    Every line that is read is held against the protocol's schema.
    """

    def __init__(self, path, timeout=60, connected=None):
        self.socket = connected or socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout * SLOWNESS)
        if not connected:
            self.socket.connect(str(path))
        self.pending = b""
        self.last_id = 0
        self.asked = {}  # id -> method, of what was sent and not answered

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send_line(self, data):
        self._note(data)
        self.socket.sendall(data + b"\n")

    def send_bytes(self, data):
        """Sends whole lines in one write."""
        for line in data.splitlines():
            self._note(line)
        self.socket.sendall(data)

    def _note(self, line):
        """Remembers a request, if it is one."""
        try:
            message = json.loads(line)
            self.asked[message["id"]] = message["method"]
        except (ValueError, TypeError, KeyError, RecursionError):
            pass

    def _check(self, line):
        message = json.loads(line)
        if "id" in message:
            protocol().check_reply(self.asked.pop(message["id"], None), message)
        else:
            protocol().check_notification(message)

    def read_line(self):
        """The next line without its end; b"" when the daemon has closed."""
        while b"\n" not in self.pending:
            data = self.socket.recv(65536)
            if not data:
                return b""
            self.pending += data
        line, _, self.pending = self.pending.partition(b"\n")
        self._check(line)
        return line

    def request(self, method, params=None):
        """Sends one call and returns its id."""
        self.last_id += 1
        message = {"jsonrpc": "2.0", "id": self.last_id, "method": method}
        if params is not None:
            message["params"] = params
        self.send_line(json.dumps(message).encode())
        return self.last_id

    def call(self, method, params=None):
        """The reply to one call, a dict with "result" or "error". What cannot be read as a request
        is answered without an id."""
        wanted = self.request(method, params)
        while True:
            line = self.read_line()
            assert line, f"{method}: the daemon closed the connection"
            reply = json.loads(line)
            if reply.get("id") == wanted or ("error" in reply and reply["id"] is None):
                return reply


class Process:
    """One line of the process list."""

    def __init__(self, pid, command, program):
        self.pid = pid
        self.command = command
        self.program = program

    def __repr__(self):
        return f"{self.pid} {self.program}: {self.command}"


def wait_pid_gone(pid, timeout=30):
    """Waits for the end of a process that need not be our child; False when it outlives that."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(int(timeout * SLOWNESS * 1000)))
    finally:
        os.close(fd)


class Instance:
    """Directories, environment and life of one banger."""

    def __init__(self, config=DEFAULT_CONFIG, template=None, root=None):
        # The path is short because a socket's is limited to 107 bytes.
        self.root = pathlib.Path(root or tempfile.mkdtemp(prefix="bgt-", dir="/tmp"))
        self.root.mkdir(exist_ok=True, mode=0o700)
        self.state_dir = self.root / "s"
        self.cache_dir = self.root / "c"
        self.runtime_dir = self.root / "r"
        self.config_file = self.root / "config.toml"
        self.socket_path = self.runtime_dir / "banger.sock"
        self.home = self.root / "h"
        self.home.mkdir(mode=0o700)
        self.children = []
        # What commands begin with, such as what enters a namespace.
        self.prefix = []
        # Tests may change what commands, and so a daemon they start, find in the environment.
        self.environment = self._environment()
        self.configure(config)
        if template:
            for name in ("s", "c"):
                if (template / name).exists():
                    subprocess.run(["cp", "-a", "--sparse=always", "--reflink=auto",
                                    template / name, self.root / name], check=True)

    def _environment(self):
        env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm",
            "BANGER_STATE_DIR": str(self.state_dir),
            "BANGER_CACHE_DIR": str(self.cache_dir),
            "BANGER_RUNTIME_DIR": str(self.runtime_dir),
            "BANGER_CONFIG": str(self.config_file),
        }
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
            options = os.environ.get(name, "")
            env[name] = options + (":" if options else "") + f"log_path={self.root}/san"
        return env

    def configure(self, text):
        """Writes the configuration file; a running daemon does not notice. Where the machine is a
        guest of this one, no template is made in the background; and VMs have no network: tests of
        them ask for it."""
        if 'accel = "tcg"' in text and "templates" not in text:
            text += 'templates = "manual"\n'
        if 'accel = "tcg"' in text and "\npool_size" not in text:
            text += "pool_size = 0\n"
        if "network" not in text:
            text += 'network = "none"\n'
        self.config_file.write_text(text)

    # Commands

    def program(self, name="banger"):
        path = BUILD / name
        assert path.exists(), f"{path} is not built"
        return str(path)

    def spawn(self, *args, tty=(), size=None, env=None, cwd=None, program="banger"):
        """Starts a command and returns its Child; it is killed with the test if it still runs."""
        return self.spawn_argv([self.program(program), *args], tty, size, env, cwd)

    def spawn_argv(self, argv, tty=(), size=None, env=None, cwd=None, keep=()):
        """The same with another program, such as a shell."""
        child = Child([*self.prefix, *argv], self.environment | (env or {}), cwd or self.home, tty, size, keep)
        self.children.append(child)
        return child

    def run(self, *args, stdin=b"", timeout=60, env=None, cwd=None, program="banger"):
        """Runs a command to its end. Arguments and stdin may be bytes; nothing is checked."""
        args = [*self.prefix, self.program(program), *args]
        if isinstance(stdin, str):
            stdin = stdin.encode()
        try:
            done = subprocess.run(args, env=self.environment | (env or {}), cwd=cwd or self.home,
                                  input=stdin, capture_output=True, timeout=timeout * SLOWNESS,
                                  check=False)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{Result(args, None, error.stdout or b'', error.stderr or b'')}"
                               f"\nkilled after {timeout * SLOWNESS} s") from None
        return Result(args, done.returncode, done.stdout, done.stderr)

    def ok(self, *args, **kwargs):
        """As run, and the status must be 0."""
        result = self.run(*args, **kwargs)
        assert result.returncode == 0, repr(result)
        return result

    def json(self, *args, **kwargs):
        """What a command that must succeed prints with --format json."""
        return json.loads(self.ok(*args, "--format", "json", **kwargs).stdout)

    def rpc(self):
        """A raw connection; the daemon must be running."""
        return Rpc(self.socket_path)

    # Processes

    def processes(self):
        """All processes whose command line or environment names this instance's directory."""
        # The runtime directory may be elsewhere, and some have nothing else.
        marks = (os.fsencode(self.root), os.fsencode(self.runtime_dir))
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            base = pathlib.Path("/proc", entry)
            try:
                command = (base / "cmdline").read_bytes()
                if not any(mark in text for mark in marks
                           for text in (command, (base / "environ").read_bytes())):
                    continue
                if (base / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                    continue
                program = os.readlink(base / "exe").removesuffix(" (deleted)")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            text = command.replace(b"\0", b" ").decode(errors="replace").strip()
            found.append(Process(int(entry), text, os.path.basename(program)))
        return found

    def pids(self, program):
        """Process ids of this instance's processes of one program, e.g. "qemu-system-x86_64"."""
        return [p.pid for p in self.processes() if p.program == program]

    def vmm_parent_pid(self):
        """Whose child a QEMU is that is started now: the helper's when the daemon has one."""
        return (self.pids("banger-helper") or [self.daemon_pid()])[0]

    def daemon_pid(self):
        """The process that serves, or None."""
        pids = self.pids("bangerd")
        return min(pids) if pids else None

    def qemu_pids(self):
        return self.pids("qemu-system-x86_64")

    def wait_gone(self, pid, timeout=30):
        assert wait_pid_gone(pid, timeout), f"{pid} is still there: {self.processes()}"

    def mounts(self):
        """Lines of the mount table that name the instance's directory."""
        return [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
                if str(self.root) in line]

    def logs(self):
        """{path: text} of its log and console files."""
        files = [p for d in (self.state_dir, self.cache_dir, self.runtime_dir) if d.exists()
                 for p in d.rglob("*.log")]
        return {p: p.read_bytes()[-EVIDENCE_BYTES:].decode(errors="replace")
                for p in files if p.is_file()}

    # The end

    def stop(self):
        """Ends VMs and daemon the way a user would. Returns complaints."""
        problems = []
        for child in self.children:
            child.kill()
            child.close()
        if not self.processes():
            return problems
        try:
            vms = self.run("vm", "list", "-q", timeout=30).out.split()
            if vms:
                self.run("vm", "delete", "--force", *vms, timeout=60)
            if self.daemon_pid():
                result = self.run("daemon", "stop", timeout=30)
                if result.returncode:
                    problems.append(f"daemon stop failed: {result!r}")
        except TimeoutError as error:
            problems.append(str(error))
        return problems

    def leftovers(self):
        """What is still there after stop(); ends it by force."""
        problems = []
        deadline = time.monotonic() + 10 * SLOWNESS
        for process in self.processes():
            left = max(deadline - time.monotonic(), 0) / SLOWNESS
            if not wait_pid_gone(process.pid, left):
                problems.append(f"process left: {process!r}")
        for process in self.processes():
            os.kill(process.pid, signal.SIGKILL)
            wait_pid_gone(process.pid)
        for line in self.mounts():
            problems.append(f"mount left: {line}")
            subprocess.run(["umount", "-l", line.split()[4]], check=False, capture_output=True)
        return problems

    def sanitizer_reports(self):
        """What sanitizers said, in their own files or in the daemon's log."""
        reports = [p.read_text(errors="replace")[:20000] for p in self.root.glob("san.*")]
        reports += [f"{path}: {text[m.start():][:20000]}" for path, text in self.logs().items()
                    if "console" not in path.name and (m := SANITIZER.search(text))]
        return reports

    def broken_replies(self):
        """Replies that the daemon did not send because they break the protocol."""
        log = self.state_dir / "bangerd.log"
        return BROKEN_REPLY.findall(log.read_text(errors="replace")) if log.exists() else []

    def save_evidence(self, directory, processes):
        """Copies logs, consoles and small files to a directory that outlives the test."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        (directory / "processes").write_text("".join(f"{p!r}\n" for p in processes))
        for path in self.root.rglob("*"):
            if not path.is_file() or path.is_symlink():
                continue
            wanted = path.suffix in (".log", ".toml") or path.name.startswith("san.") or \
                ".db" in path.name or ".sqlite" in path.name
            if wanted:
                copy = directory / path.relative_to(self.root)
                copy.parent.mkdir(parents=True, exist_ok=True)
                size = path.stat().st_size
                with path.open("rb") as source:
                    if ".db" not in path.name and ".sqlite" not in path.name:
                        source.seek(max(0, size - EVIDENCE_BYTES))
                    copy.write_bytes(source.read())

    def remove(self):
        # A test may have taken permissions away.
        subprocess.run(["chmod", "-R", "u+rwX", self.root], check=False, capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)
