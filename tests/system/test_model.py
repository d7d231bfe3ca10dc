"""A model of VMs, and a banger that does the same: verbs, lies and deaths of VMs, deaths of the daemon,
reboots of the host, in any order. After each step the two agree, and nothing else is on the host.

`make test` takes the same 500 steps each time; `make soak` takes 100,000 that differ from run to run
(BANGER_MODEL_STEPS).
"""

import json
import os
import signal
import sqlite3

import hypothesis.strategies as st
import pytest
from banger import Rpc, wait_pid_gone
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (RuleBasedStateMachine, invariant, precondition, rule,
                                 run_state_machine_as_test)
from steps import FAKE_PROGRAM, fake_banger, fake_main_pids

STEPS = int(os.environ.get("BANGER_MODEL_STEPS", "500"))
STEPS_AT_ONCE = 50
SHORT_EXAMPLES = 12
# None is the beginning of an id.
NAMES = st.sampled_from(["w", "x", "y", "z"])
# What a VM does wrong: nothing; ends instead of powering off; does not power off; ends when asked to
# run something.
FAULTS = st.sampled_from([None, None, "die@poweroff", "ignore@poweroff", "die@exec"])
STOPPED = ("stopped", "created")


class Vm:
    """What the model knows of one."""

    def __init__(self, state, fault):
        self.state = state
        self.fault = fault
        self.boots = int(state == "running")
        self.disk = None


def make_machine(banger, counter):
    """The state machine for this instance, which all examples share. counter: [steps so far]."""

    class Machine(RuleBasedStateMachine):
        steps = counter

        def __init__(self):
            super().__init__()
            self.vms = {}
            self.rpc = None

        # The daemon -----------------------------------------------------------------------------

        def connect(self):
            if self.rpc is None:
                banger.ok("ps")
                self.rpc = Rpc(banger.socket_path)
            return self.rpc

        def hang_up(self):
            if self.rpc is not None:
                self.rpc.socket.close()
                self.rpc = None

        def call(self, method, **params):
            """The result, or the error's code."""
            reply = self.connect().call(method, params)
            return reply["result"] if "result" in reply else reply["error"]["data"]["code"]

        def finish(self, operation):
            if isinstance(operation, str):
                return operation
            rpc = self.connect()
            wanted = rpc.request("op.watch", {"op": operation["id"]})
            while True:
                reply = json.loads(rpc.read_line())
                if reply.get("id") == wanted:
                    ended = reply["result"]
                    return ended["result"] if ended["state"] == "done" else ended["error"]["data"]["code"]

        def kill_daemon(self):
            pid = banger.daemon_pid()
            self.hang_up()
            if pid:
                os.kill(pid, signal.SIGKILL)
                banger.wait_gone(pid)

        # Verbs ----------------------------------------------------------------------------------

        @rule(name=NAMES, fault=FAULTS, start=st.booleans())
        def create(self, name, fault, start):
            labels = {"banger.fake": fault} if fault else {}
            result = self.finish(self.call("vm.create.begin", name=name, vmm="fake", start=start,
                                           labels=labels))
            if name in self.vms:
                assert result == "already_exists"
            else:
                assert result["vm"]["name"] == name
                self.vms[name] = Vm("running" if start else "created", fault)

        @rule(name=NAMES)
        def start(self, name):
            result = self.call("vm.start", vm=name)
            vm = self.vms.get(name)
            if vm is None:
                assert result == "not_found"
            else:
                assert result["state"] == "running"
                vm.boots += vm.state != "running"
                vm.state = "running"

        @rule(name=NAMES, force=st.booleans())
        def stop(self, name, force):
            vm = self.vms.get(name)
            deaf = vm is not None and vm.state == "running" and vm.fault == "ignore@poweroff"
            result = self.call("vm.stop", vm=name, force=force, timeout_ms=300 if deaf else 60000)
            if vm is None:
                assert result == "not_found"
            elif deaf and not force:
                assert result == "timeout"
            elif vm.state == "running" and vm.fault == "die@poweroff" and not force:
                assert result == "guest"
                vm.state = "stopped"
            elif vm.state == "running":
                assert result["state"] == "stopped"
                vm.state = "stopped"
            else:
                assert result["state"] == vm.state

        @rule(name=NAMES, force=st.booleans())
        def delete(self, name, force):
            result = self.call("vm.delete", vm=name, force=force)
            vm = self.vms.get(name)
            if vm is None:
                assert result == "not_found"
            elif vm.state == "running" and not force:
                assert result == "conflict"
            else:
                assert result == {}
                del self.vms[name]

        @rule(name=NAMES)
        def execute(self, name):
            result = self.call("session.start", vm=name, command=["true"])
            vm = self.vms.get(name)
            if vm is None:
                assert result == "not_found"
            elif vm.state != "running":
                assert result == "not_running"
            elif vm.fault == "die@exec":
                assert (result["state"], result["exit"]["code"]) == ("lost", None)
                assert self.call("vm.wait", vm=name, until="stopped") == {}
                vm.state = "stopped"
            else:
                ended = self.call("session.wait", vm=name, session=result["id"])
                assert ended["exit"] == {"code": 0, "signal": None}

        @precondition(lambda self: any(vm.state in STOPPED for vm in self.vms.values()))
        @rule(data=st.data(), text=st.binary(min_size=1, max_size=8))
        def write_disk(self, data, text):
            """Work on the disk of one that does not run. What is there stays there."""
            name = data.draw(st.sampled_from(sorted(n for n, vm in self.vms.items()
                                                    if vm.state in STOPPED)))
            with self.disk_of(name).open("r+b") as disk:
                disk.write(text)
            self.vms[name].disk = text

        # Deaths ---------------------------------------------------------------------------------

        @rule()
        def daemon_is_killed(self):
            self.kill_daemon()

        @rule()
        def daemon_ends(self):
            self.connect()
            self.hang_up()
            banger.ok("daemon", "stop")

        @precondition(lambda self: any(vm.state == "running" for vm in self.vms.values()))
        @rule(data=st.data(), unseen=st.booleans())
        def vmm_is_killed(self, data, unseen):
            name = data.draw(st.sampled_from(sorted(n for n, vm in self.vms.items()
                                                    if vm.state == "running")))
            pid = fake_main_pids(banger)[name]
            if unseen:
                self.kill_daemon()
            os.kill(pid, signal.SIGKILL)
            assert wait_pid_gone(pid)
            assert self.call("vm.wait", vm=name, until="stopped") == {}
            self.vms[name].state = "stopped"

        @rule()
        def host_reboots(self):
            """All processes are gone, and what was noted of them is of another boot."""
            self.kill_daemon()
            for pid in banger.pids(FAKE_PROGRAM):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                assert wait_pid_gone(pid)
            with sqlite3.connect(banger.state_dir / "banger.db") as db:
                db.execute("UPDATE object SET boot_id = 'an earlier one' WHERE boot_id <> ''")
            db.close()
            for vm in self.vms.values():
                vm.state = "stopped" if vm.state == "running" else vm.state

        # What holds after each step --------------------------------------------------------------

        def disk_of(self, name):
            found = [vm for vm in self.call("vm.list") if vm["name"] == name]
            return banger.state_dir / "vms" / found[0]["id"] / "data.ext4"

        @invariant()
        def model_and_daemon_agree(self):
            self.steps[0] += 1
            now = {vm["name"]: vm for vm in self.call("vm.list")}
            assert {n: vm["state"] for n, vm in now.items()} == \
                {n: vm.state for n, vm in self.vms.items()}
            for name, vm in self.vms.items():
                assert now[name]["incarnation"] == vm.boots
                if vm.disk is not None:
                    with (banger.state_dir / "vms" / now[name]["id"] / "data.ext4").open("rb") as disk:
                        assert disk.read(len(vm.disk)) == vm.disk
            running = {n for n, vm in self.vms.items() if vm.state == "running"}
            assert set(fake_main_pids(banger)) == running
            assert {p.name for p in (banger.runtime_dir / "vms").iterdir()} == \
                {now[n]["id"] for n in running}
            disks = banger.state_dir / "vms"
            assert ({p.name for p in disks.iterdir()} if disks.exists() else set()) == \
                {vm["id"] for vm in now.values()}
            assert self.call("daemon.reconcile", dry_run=True) == []

        def teardown(self):
            assert self.call("daemon.verify_store") == {"problems": []}
            # Also what a step made that failed: the next example must not find it.
            for vm in self.call("vm.list"):
                assert self.call("vm.delete", vm=vm["id"], force=True) == {}
            self.hang_up()

    return Machine


@pytest.mark.deadline(max(300, STEPS // 2))
def test_banger_does_what_the_model_does(make_banger):
    steps = [0]
    machine = make_machine(fake_banger(make_banger), steps)
    # Hypothesis begins with some examples of a few steps.
    run_state_machine_as_test(machine, settings=settings(
        # Some of the others, one in a hundred, end early as well.
        max_examples=SHORT_EXAMPLES + STEPS // STEPS_AT_ONCE + STEPS // 2000,
        stateful_step_count=STEPS_AT_ONCE,
        deadline=None, derandomize="BANGER_MODEL_STEPS" not in os.environ, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink]))
    assert steps[0] >= STEPS
