"""What QEMU may answer in the place of what it was asked: an error, no JSON, nothing, or the end of the
connection, to each command that a start, an adoption, a resumption and a kill send. The QEMU is
tests/guest/qemu.c, to which a VM's name says what is to go wrong.
"""

import pytest
from steps import assert_error, assert_nothing_left, call, fake_qemu, kill_daemon, qemu_main_pids, vms

HOWS = ("error", "garbage", "close")


def create(banger, name):
    return banger.run("vm", "create", "-q", "--name", name)


@pytest.mark.sanitize
@pytest.mark.parametrize("command", ["greeting", "qmp-capabilities", "cont"])
def test_start_that_qemu_does_not_agree_to_is_told_and_leaves_nothing(make_banger, command):
    banger = fake_qemu(make_banger)
    for how in HOWS:
        assert_error(create(banger, f"{command}-{how}"), "QEMU did not start the guest: Q", hint=False)
        assert_nothing_left(banger)
    # It was no fault of the daemon's.
    banger.ok("vm", "create", "-q", "--name", "x")
    banger.ok("vm", "stop", "x")


@pytest.mark.parametrize("command", ["greeting", "qmp-capabilities", "cont"])
def test_qemu_that_does_not_answer_at_the_start_is_tried_once_more_and_told(make_banger, command):
    banger = fake_qemu(make_banger, silence=1)
    result = create(banger, f"{command}-silence")
    assert_error(result, "QEMU has not started the guest: ")
    log = (banger.state_dir / "bangerd.log").read_text()
    assert log.count("trying once more") == 1
    assert_nothing_left(banger)


@pytest.mark.sanitize
def test_vm_is_taken_over_whatever_qemu_answers(make_banger):
    banger = fake_qemu(make_banger)
    names = [f"{command}-{how}" for command in ("query-chardev", "query-status")
             for how in (*HOWS, "silence")]
    for name in names:
        banger.ok("vm", "create", "-q", "--name", name)
    pids = qemu_main_pids(banger)
    assert set(pids) == set(names)
    kill_daemon(banger)
    banger.ok("ps")
    assert {vm["state"] for vm in vms(banger).values()} == {"running"}
    for name in names:
        call(banger, "vm.ping", vm=name)
    assert qemu_main_pids(banger) == pids
    banger.ok("stop", *names[::2])
    banger.ok("stop", "--force", *names[1::2])
    assert qemu_main_pids(banger) == {}
    banger.ok("rm", *names)
    assert_nothing_left(banger)


@pytest.mark.parametrize("how", (*HOWS, "silence"))
def test_vm_that_cannot_be_paused_goes_on(make_banger, how):
    banger = fake_qemu(make_banger)
    name = f"stop-{how}"
    banger.ok("vm", "create", "-q", "--name", name)
    assert_error(banger.run("pause", name), "the VM goes on: 'stop': Q" if how != "silence" else
                 "the VM goes on: QEMU has not answered 'stop'", hint=False)
    assert vms(banger)[name]["state"] == "running"
    call(banger, "vm.ping", vm=name)
    banger.ok("stop", name)


@pytest.mark.parametrize("how", HOWS)
def test_vm_that_cannot_go_on_stays_paused_and_can_be_ended(make_banger, how):
    banger = fake_qemu(make_banger)
    name = f"full-cont-{how}"
    banger.ok("vm", "create", "-q", "--name", name)
    while vms(banger)[name]["state"] != "paused":
        call(banger, "daemon.ping")
    result = banger.run("start", name)
    assert_error(result, "'cont': Q", hint=False)
    assert vms(banger)[name]["state"] == "paused"
    banger.ok("stop", "--force", name)
    banger.ok("rm", name)
    assert_nothing_left(banger)
