"""State directories on filesystems of their own: small ones, full ones, in a mount namespace."""

import contextlib
import os
import subprocess

from banger import SLOWNESS, wait_pid_gone


class Namespace:
    """A mount namespace in which the state directory is what the test makes it."""

    def __init__(self, banger):
        self.banger = banger
        self.daemon = None
        self.mounts_fd = -1

    def enter(self, script, *command):
        """Popen of a command in the namespace, after a shell script that changes mounts."""
        return ["unshare", "-m", "--propagation", "private", "sh", "-c",
                f'set -e; S="{self.banger.state_dir}"; {script}; exec "$@"', "sh", *command]

    def _start(self, wrap):
        read, write = os.pipe()
        with open(self.banger.root / "namespace.log", "ab") as log:
            self.daemon = subprocess.Popen(
                wrap(self.banger.program("bangerd"), "--ready-fd", str(write)),
                env=self.banger.environment, pass_fds=[write], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, cwd="/")
        os.close(write)
        with os.fdopen(read, "rb") as ready:
            return ready.read().decode()

    def start(self, script):
        """Starts the daemon in a namespace; waits until it listens, or has ended."""
        said = self._start(lambda *command: self.enter(script, *command))
        if said == "ok\n":
            self.mounts_fd = os.open(f"/proc/{self.daemon.pid}/ns/mnt", os.O_RDONLY)
        return said

    def restart(self):
        """Kills the daemon with -9 and starts the next one in the same namespace."""
        self.daemon.kill()
        self.daemon.wait(60)
        mounts = f"--mount=/proc/{os.getpid()}/fd/{self.mounts_fd}"
        return self._start(lambda *command: ["nsenter", mounts, *command])

    def inside(self, *argv):
        """Runs a command of the system in the daemon's namespace."""
        subprocess.run(["nsenter", f"--mount=/proc/{os.getpid()}/fd/{self.mounts_fd}", *argv],
                       check=True, cwd="/")

    def run(self, script, *args):
        """Runs banger in a namespace of its own."""
        done = subprocess.run(self.enter(script, self.banger.program(), *args),
                              env=self.banger.environment, capture_output=True, check=False,
                              cwd="/", timeout=60 * SLOWNESS)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def path(self, name):
        """A file of the state directory as the daemon sees it."""
        return f"/proc/{self.daemon.pid}/root{self.banger.state_dir}/{name}"

    def fill(self, leave=0):
        """Leaves no free block, or about so many bytes."""
        with open(self.path("fill"), "ab", buffering=0) as fill:
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        fill.write(bytes(size))
            # Where blocks are given to data late, not all that was free was so for writers.
            with contextlib.suppress(OSError):
                os.fsync(fill.fileno())
                while True:
                    fill.write(bytes(1 << 12))
                    os.fsync(fill.fileno())
            if leave:
                os.ftruncate(fill.fileno(), os.fstat(fill.fileno()).st_size - leave)

    def empty(self):
        """Room again."""
        os.unlink(self.path("fill"))

    def stop(self):
        """Ends what VMs there are, and the daemon."""
        if self.daemon and self.daemon.poll() is None:
            vms = self.banger.run("vm", "list", "-q").out.split()
            if vms:
                self.banger.ok("vm", "delete", "--force", *vms)
            self.daemon.terminate()
            wait_pid_gone(self.daemon.pid)
            self.daemon.wait(60)
        if self.mounts_fd >= 0:
            os.close(self.mounts_fd)


def used_mib(banger):
    """What the state takes once all of it has been read: holes of a tmpfs are filled by that."""
    return sum(p.stat().st_size for p in banger.state_dir.rglob("*") if p.is_file()) >> 20


def move_to(mount):
    """A script that mounts something in the place of the state, with what the template has."""
    return (f'mv "$S" "$S.real"; mkdir "$S"; {mount}; '
            'cp -a "$S.real/." "$S/"; umount -l "$S.real" 2>/dev/null || :; '
            'mv "$S.real" "${S%/s}/real"')


def tmpfs(mib):
    return move_to(f'mount -t tmpfs -o size={mib}m,mode=700 none "$S"')


def ext4(mib):
    return move_to(f'truncate -s {mib}M "${{S%/s}}/fs"; mkfs.ext4 -q -m 0 "${{S%/s}}/fs"; '
                   'mount -o loop "${S%/s}/fs" "$S"; rmdir "$S/lost+found"; chmod 700 "$S"')
