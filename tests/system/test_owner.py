"""Whose files and processes they are."""

import os
import subprocess

from steps import assert_nothing_left, needs_root, own_programs, wait_vm

NOBODY = 65534


def uids(pid):
    """Real, effective, saved and filesystem uid."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        line = next(line for line in status if line.startswith("Uid:"))
    return {int(field) for field in line.split()[1:]}


@needs_root
def test_under_sudo_everything_is_the_users(banger):
    # Anybody may reach the programs, wherever the tree lies.
    own_programs(banger)
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", banger.root], check=True)
    banger.environment["SUDO_UID"] = str(NOBODY)
    child = banger.spawn("run", "--rm", "--name", "mine", "--", "sh", "-c", "echo up; sleep 1000")
    child.read_until(b"up\n")
    for pid in [banger.daemon_pid(), *banger.qemu_pids()]:
        assert uids(pid) == {NOBODY}
    strangers = [path for top, dirs, files in os.walk(banger.root) for path in
                 (os.path.join(top, name) for name in dirs + files)
                 if os.lstat(path).st_uid != NOBODY]
    assert strangers == []
    child.kill()
    wait_vm(banger, "mine", "deleted")
    assert_nothing_left(banger)
