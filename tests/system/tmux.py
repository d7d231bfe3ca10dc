"""A terminal that can be looked at: tmux with one window, on a socket and a server of its own.

    with Screen(banger, banger.program(), "exec", "x") as screen:
        screen.wait(lambda text: "$" in text)
        screen.type("less file", "Enter")

What tmux is told by the program also comes through a pipe: a test looks at the screen when something
was written, and sleeps in between.
"""

import os
import select
import shlex
import subprocess
import time

from banger import SLOWNESS, wait_pid_gone

# Of whatever runs in it nothing should be known but what it writes.
DROPPED = ("TMUX", "TMUX_PANE", "TMUX_TMPDIR")


class Screen:
    """A program on an 80x24 screen. Names of keys are tmux's: Enter, Escape, C-c, PPage."""

    def __init__(self, banger, *argv, columns=80, rows=24, env=None):
        self.socket = banger.root / "tmux"
        self.pipe_path = banger.root / "tmux.pipe"
        self.env = {k: v for k, v in banger.environment.items() if k not in DROPPED} | (env or {})
        os.mkfifo(self.pipe_path)
        self.pipe = os.open(self.pipe_path, os.O_RDWR | os.O_NONBLOCK)
        command = " ".join(shlex.quote(str(arg)) for arg in argv)
        self.tmux("-f", "/dev/null", "new-session", "-d", "-s", "s", "-x", str(columns), "-y",
                  str(rows), "-c", str(banger.home), f"{command}; echo \"[ended $?]\"; exec cat")
        self.server = int(self.tmux("display-message", "-p", "#{pid}"))
        self.tmux("set-option", "-g", "status", "off", ";", "pipe-pane", "-O",
                  f"exec cat >{self.pipe_path}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tmux("kill-server")
        os.close(self.pipe)
        assert wait_pid_gone(self.server)
        self.pipe_path.unlink()

    def tmux(self, *args):
        done = subprocess.run(["tmux", "-u", "-S", self.socket, *args], env=self.env,
                              capture_output=True, check=False, timeout=60 * SLOWNESS)
        assert done.returncode == 0, (args, done.stderr)
        return done.stdout.decode()

    def text(self):
        return self.tmux("capture-pane", "-p")

    def lines(self):
        return self.text().splitlines()

    def wait(self, condition, timeout=60):
        """Waits until condition(text of the screen) is true; returns the text."""
        deadline = time.monotonic() + timeout * SLOWNESS
        while not condition(text := self.text()):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.pipe], [], [], left)[0]:
                raise TimeoutError(f"the screen stayed:\n{text}")
            os.read(self.pipe, 1 << 20)
        return text

    def wait_end(self, status=0):
        """Waits for the program's end."""
        return self.wait(lambda text: f"[ended {status}]" in text)

    def type(self, *keys):
        """A text, or several texts and names of keys."""
        self.tmux("send-keys", *keys)

    def resize(self, columns, rows):
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def cursor(self):
        """(column, row) from 0."""
        return tuple(map(int, self.tmux("display-message", "-p", "#{cursor_x} #{cursor_y}").split()))
