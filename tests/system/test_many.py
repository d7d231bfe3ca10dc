"""Many VMs: none is lost in a listing, however long it is."""

import pytest
from steps import assert_error, call

FAKE = ["--vmm", "fake"]


@pytest.fixture
def fake(make_banger):
    instance = make_banger()
    instance.environment["BANGER_FAKE_VMM"] = "1"
    return instance


def create(banger, name, *options):
    banger.ok("vm", "create", "-q", "--vmm", "fake", "--name", name, *options)


def pages(banger, **params):
    """All VMs, page by page."""
    got = []
    while page := call(banger, "vm.list", **params):
        assert len(page) <= params["limit"]
        got += page
        params["after"] = {key: page[-1][key] for key in ("created_at", "id")}
    return got


@pytest.mark.sanitize
def test_listing_has_each_vm_as_it_is_shown(fake):
    names = [f"v{i}" for i in range(40)]
    for i, name in enumerate(names):
        create(fake, name, "--label", f"n={i}", *([] if i % 4 else ["--no-start"]))
    for name in names[1::8]:
        fake.ok("stop", name)
    listed = call(fake, "vm.list")
    assert [vm["name"] for vm in listed] == names
    assert listed == fake.json("vm", "show", *names)
    assert fake.json("ps", "-a") == listed
    assert fake.json("ps") == [vm for vm in listed if vm["state"] != "stopped"]
    assert len(fake.ok("ps", "-a").out.splitlines()) == 1 + len(names)
    for limit in (1, 7, 32, 33, 1000):
        assert pages(fake, limit=limit) == listed
        assert pages(fake, limit=limit, all=False) == fake.json("ps")
    # The next daemon lists them in the same order.
    fake.ok("daemon", "stop")
    assert [vm["id"] for vm in fake.json("ps", "-a")] == [vm["id"] for vm in listed]


def test_members_that_are_asked_for_are_those_of_the_whole(fake):
    create(fake, "a", "--label", "x=y")
    whole = call(fake, "vm.list")[0]
    for member in whole:
        part = call(fake, "vm.list", members=[member])[0]
        assert part == {key: whole[key] for key in {"id", member}}, member
        for inner in whole[member] if member in ("image", "vmm", "network") else ():
            part = call(fake, "vm.list", members=[f"{member}.{inner}"])[0]
            assert part == {"id": whole["id"], member: {inner: whole[member][inner]}}, inner
    assert call(fake, "vm.list", members=["vmm.name", "vmm"])[0]["vmm"] == whole["vmm"]
    assert call(fake, "vm.list", members=[]) == [{"id": whole["id"]}]
    with fake.rpc() as rpc:
        error = rpc.call("vm.list", {"members": ["stat"]})["error"]
        assert error["data"]["code"] == "invalid" and "'state'" in error["data"]["hint"]
        for name in ("image.nam", "image.", ".name", "name.x", "image.name.x", "labels.x"):
            error = rpc.call("vm.list", {"members": [name]})["error"]
            assert error["data"]["code"] == "invalid" and name in error["message"], error


def test_page_goes_on_behind_a_vm_that_is_deleted(fake):
    for name in "abcd":
        create(fake, name, "--no-start")
    first = call(fake, "vm.list", limit=2)
    fake.ok("rm", "a", "b")
    after = {key: first[-1][key] for key in ("created_at", "id")}
    assert [vm["name"] for vm in call(fake, "vm.list", limit=2, after=after)] == ["c", "d"]


@pytest.mark.sanitize
def test_more_vms_than_fit_into_a_line_are_listed(fake):
    # Each is 20 KB in a listing.
    labels = [word for i in range(60) for word in ("--label", f"label-{i}={'x' * 250}")]
    names = [f"v{i}" for i in range(70)]
    for name in names:
        create(fake, name, "--no-start", *labels)
    assert [vm["name"] for vm in fake.json("vm", "list")] == names
    assert [line.split()[1] for line in fake.ok("ps", "-a").out.splitlines()[1:]] == names
    assert len(call(fake, "vm.list", members=["name", "state"])) == len(names)
    assert [vm["name"] for vm in pages(fake, limit=1000)] == names
    with fake.rpc() as rpc:
        error = rpc.call("vm.list")["error"]
        assert error["data"]["code"] == "limit" and "limit and after" in error["data"]["hint"]
        assert rpc.call("daemon.ping")["result"] == {}


def test_reply_that_is_longer_than_a_line_is_an_error(fake):
    create(fake, "a")
    for _ in range(12):
        fake.ok("exec", "a", "--", "true", "x" * 100000)
    assert_error(fake.run("session", "list", "a"), "longer than a line", hint=None)
    assert fake.ok("exec", "a", "--", "echo", "on").out == "on\n"
