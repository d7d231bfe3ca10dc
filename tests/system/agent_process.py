"""A banger-agent that serves a socketpair (--test-fd), without a VM, and the host at its other end."""

import os
import pathlib
import socket
import subprocess

import pytest
from frames import Client

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
AGENT = ROOT / os.environ.get("BANGER_BUILD", "build") / "banger-agent"


class Agent:
    """A banger-agent with a client on the other end."""

    def __init__(self, binary=AGENT):
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [str(binary), "--test-fd", str(theirs.fileno())], pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL)
        theirs.close()
        self.client = Client(ours)

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        self.client.close()
        try:
            assert self.process.wait(5) == 0, "the agent did not end well"
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


@pytest.fixture(name="agent")
def fixture_agent():
    assert AGENT.exists(), f"{AGENT} is not built"
    agent = Agent()
    yield agent
    agent.stop()


@pytest.fixture(name="host")
def fixture_host(agent):
    agent.client.hello()
    return agent.client
