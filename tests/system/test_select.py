"""Which rows listings show, and in which order: --filter, --sort, --reverse."""

import pytest
from mock_daemon import IMAGE, SESSION, TEMPLATE, VM, MockDaemon, Operation
from steps import assert_error


def vm(number, name, **members):
    return VM | {"id": f"{number:032x}", "name": name} | members


VMS = [
    vm(1, "web-1", state="running", vcpus=2, labels={"team": "a", "a.b": "dotted"}),
    vm(2, "web-2", state="stopped", vcpus=10, labels={"team": "b"}, reason="user"),
    vm(3, "db", state="running", vcpus=1, auto_remove=True, labels={"team": "b"}),
    vm(4, "idle", state="paused", vcpus=2, reason="user", started_at=None,
       image={"name": "other", "digest": VM["image"]["digest"]}),
]


@pytest.fixture
def daemon(bare):
    with MockDaemon(bare.socket_path) as mock:
        # As the daemon does: only the members that were asked for.
        mock.answers["vm.list"] = lambda params: [
            {key: value for key, value in row.items()
             if key == "id" or key in params.get("members", row)} for row in VMS]
        yield mock


def names(bare, *flags):
    """By JSON, by the table and by -q, which must agree."""
    rows = bare.json("ps", "-a", *flags)
    table = bare.ok("ps", "-a", *flags).out.splitlines()[1:]
    assert [line.split()[1] for line in table] == [row["name"] for row in rows]
    assert bare.ok("ps", "-a", "-q", *flags).out.split() == [row["id"] for row in rows]
    return [row["name"] for row in rows]


@pytest.mark.parametrize("flags, shown", [
    (["state=running"], ["web-1", "db"]),
    (["state!=running"], ["web-2", "idle"]),
    (["name=web-*"], ["web-1", "web-2"]),
    (["name=web-[2-9]"], ["web-2"]),
    (["name=w?b-1"], ["web-1"]),
    (["name=web"], []),
    (["image.name=other"], ["idle"]),
    (["labels.team=b"], ["web-2", "db"]),
    (["labels.team=*"], ["web-1", "web-2", "db", "idle"]),
    (["labels.team=?*"], ["web-1", "web-2", "db"]),
    (["labels.a.b=dotted"], ["web-1"]),
    (["labels.none="], ["web-1", "web-2", "db", "idle"]),
    (["vcpus=2"], ["web-1", "idle"]),
    (["auto_remove=true"], ["db"]),
    (["reason="], ["web-1", "db"]),
    (["started_at="], ["idle"]),
    # Of one key any, of several keys each.
    (["state=paused", "state=stopped"], ["web-2", "idle"]),
    (["state=running", "labels.team=b"], ["db"]),
    (["state!=paused", "state!=stopped", "name!=db"], ["web-1"]),
    (["name=*=*"], []),
])
def test_filters_choose_by_what_json_shows(bare, daemon, flags, shown):
    assert names(bare, *(f"--filter={flag}" for flag in flags)) == shown


@pytest.mark.parametrize("flags, shown", [
    (["--sort", "name"], ["db", "idle", "web-1", "web-2"]),
    (["--sort", "name", "--reverse"], ["web-2", "web-1", "idle", "db"]),
    (["--sort", "vcpus"], ["db", "web-1", "idle", "web-2"]),  # as numbers; equals as they came
    (["--reverse"], ["idle", "db", "web-2", "web-1"]),
    (["--sort", "labels.team"], ["idle", "web-1", "web-2", "db"]),
    (["--sort", "state", "--filter", "labels.team=b"], ["db", "web-2"]),
])
def test_rows_come_in_the_order_that_is_asked_for(bare, daemon, flags, shown):
    assert names(bare, *flags) == shown


def test_a_filter_for_states_looks_at_stopped_vms_too(bare, daemon):
    bare.ok("ps", "--filter", "name=web-*")
    bare.ok("ps", "--filter", "state=stopped")
    assert [params["all"] for params in daemon.called("vm.list") if "after" not in params] == \
        [False, True]


def test_only_what_is_shown_or_looked_at_is_asked_of_the_daemon(bare, daemon):
    bare.ok("ps", "-q", "--filter", "labels.team=b", "--sort", "vcpus", "--filter", "labels.x=y")
    assert daemon.called("vm.list")[0]["members"] == ["created_at", "labels", "vcpus"]


def test_other_listings_have_the_same_flags(bare, daemon):
    daemon.answers["image.list"] = lambda params: [IMAGE, IMAGE | {"names": ["a", "b"]}]
    assert [row["names"] for row in bare.json("image", "ls", "--filter", "names=b")] == [["a", "b"]]
    daemon.answers["session.list"] = lambda params: [SESSION, SESSION | {"state": "exited"}]
    assert [row["state"] for row in bare.json("session", "ls", "x", "--filter", "state!=running")] \
        == ["exited"]
    daemon.answers["template.list"] = lambda params: [TEMPLATE, TEMPLATE | {"memory_mib": 64}]
    assert [row["memory_mib"] for row in bare.json("template", "ls", "--sort", "memory_mib")] == [64, 512]
    assert bare.json("template", "ls", "--filter", "image.name=alpine") == []
    operation = Operation({"vm": VM, "session": None}).show("done")
    daemon.answers["op.list"] = lambda params: [operation]
    assert bare.json("op", "ls", "--filter", "kind=kernel.import") == []
    assert bare.json("op", "ls", "--filter", "kind=vm.create") == [operation]


@pytest.mark.parametrize("flags, said, hint", [
    (["--filter", "stat=x"], "'stat'", "'state'"),
    (["--filter", "image.nme=x"], "'nme'", "'name'"),
    (["--filter", "state.x=y"], "'state.x'", "'state'"),
    (["--filter", "zzzzzzzzzzzzzzz=x"], "'zzzzzzzzzzzzzzz'", "json"),
    (["--filter", "state"], "'state' is not KEY=PATTERN", "state=running"),
    (["--filter", "=x"], "'=x' is not KEY=PATTERN", True),
    (["--filter", "!=x"], "''", True),
    (["--filter", "a\x1b=x"], "\\x1b", True),
    (["--sort", "nme"], "'nme'", "'name'"),
    (["--sort", ""], "''", True)])
def test_bad_keys_are_errors_of_usage(bare, daemon, flags, said, hint):
    for words in (["ps"], ["vm", "ls"]):
        assert_error(bare.run(*words, *flags), said, status=2, hint=hint)
    assert daemon.called("vm.list") == []
