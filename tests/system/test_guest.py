"""What a command finds in a guest: the agent as PID 1, mounts, devices, name, clock, randomness."""

import hashlib
import time
import uuid

import frames
from steps import SHARED_VM, call, configure_guest, sh, sh_ok, vms


def mounts(banger):
    """{where: (what, type, options)} of the guest."""
    table = {}
    for line in sh_ok(banger, "cat /proc/mounts").splitlines():
        what, where, kind, options = line.split()[:4]
        table[where] = (what, kind, options.split(","))
    return table


def test_agent_is_pid_1_and_the_only_process_of_ours(shared):
    assert sh_ok(shared, "tr '\\0' ' ' < /proc/1/cmdline") == "/init "
    # Every other process is the kernel's, or a command's.
    own = sh_ok(shared, "for p in /proc/[0-9]*; do [ -s $p/cmdline ] && echo ${p#/proc/}; done; "
                        "echo shell $$").split()
    shell = own[-1]
    assert set(own[:-2]) <= {"1", shell}, own


def test_hostname_is_the_vms_name(shared):
    assert sh_ok(shared, "hostname; uname -n") == f"{SHARED_VM}\n{SHARED_VM}\n"


def test_machine_id_is_the_vms_id(banger):
    """In the place of the image's, also of a VM that cannot write it at first, or not at all."""
    for name in ("one", "two"):
        banger.ok("vm", "create", "-q", "--name", name, "--disk", "64M")
    ids = {name: vm["id"] for name, vm in vms(banger).items()}
    read = "stat -c '%a %u' /etc/machine-id; cat /etc/machine-id"
    for name in ("one", "two"):
        assert sh_ok(banger, read, vm=name) == f"444 0\n{ids[name]}\n"
    # What somebody wrote there is somebody else's.
    sh_ok(banger, f"echo {ids['two']} >/etc/machine-id", vm="one")
    # No room for another: the old one would be known by its file.
    sh_ok(banger, "rm /etc/machine-id; dd if=/dev/zero of=/fill bs=1M 2>/dev/null; "
                  "while dd if=/dev/zero bs=512 count=1 >>/fill 2>/dev/null; do :; done; sync; true",
          vm="two")
    for name in ("one", "two"):
        banger.ok("restart", name)
    assert sh_ok(banger, read, vm="one") == f"444 0\n{ids['one']}\n"
    said = sh_ok(banger, "cat /etc/machine-id 2>&1; rm /fill", vm="two")
    if ids["two"] not in said:
        assert "could not write its machine-id" in (banger.state_dir / "bangerd.log").read_text()
    # It is no file at all: the VM comes up, and keeps what it has.
    sh_ok(banger, "rm -f /etc/machine-id; mkdir /etc/machine-id", vm="one")
    banger.ok("restart", "one", "two")
    assert sh_ok(banger, "test -d /etc/machine-id && hostname", vm="one") == "one\n"
    assert sh_ok(banger, read, vm="two") == f"444 0\n{ids['two']}\n"


BOOT_ID = "/proc/sys/kernel/random/boot_id"


def give_boot_id(banger, vm, value):
    return configure_guest(banger, vm, frames.tlv(frames.TAG_BOOT_ID, value.encode()))


def assert_boot_id(banger, vm, value):
    """It is read as the kernel's own, has one mount over it, and nothing of it lies about."""
    assert sh_ok(banger, f"cat {BOOT_ID}; stat -c %a {BOOT_ID}", vm=vm) == f"{value}\n444\n"
    # Fields 5 and 6: where, and how.
    found = sh_ok(banger, f"grep ' {BOOT_ID} ' /proc/self/mountinfo", vm=vm).splitlines()
    assert [line.split()[5] for line in found] == ["ro,nosuid,nodev,noexec,relatime"], found
    assert sh_ok(banger, "find / -xdev -name '*banger.boot*'; ls -A /dev | grep banger; true",
                 vm=vm) == ""
    assert sh(banger, f"echo x >{BOOT_ID}", vm=vm).returncode != 0


def test_boot_id_is_the_one_that_the_guest_was_given_last(banger):
    banger.ok("vm", "create", "-q", "--name", "x", "--disk", "64M")
    kernels = sh_ok(banger, f"cat {BOOT_ID}", vm="x")
    assert "boot_id" not in sh_ok(banger, "cat /proc/self/mountinfo", vm="x")
    # No room on the disk, and a command that has it open.
    sh_ok(banger, "dd if=/dev/zero of=/fill bs=1M 2>/dev/null; sync; true", vm="x")
    for _ in range(3):
        given = str(uuid.uuid4())
        assert give_boot_id(banger, "x", given) == (
            0, frames.tlv(frames.TAG_BOOT_ID, given.encode()).decode())
        assert_boot_id(banger, "x", given)
        sh_ok(banger, f"sleep 1000 <{BOOT_ID} >/dev/null 2>&1 &", vm="x")
    # What is no id changes nothing; neither does who says nothing of it.
    for bad in ("", given[:-1], given.upper(), given.replace("-", "0"), given + "\n"):
        assert give_boot_id(banger, "x", bad) == (22, "configure: boot_id: Invalid argument")
    assert configure_guest(banger, "x", b"") == (0, "")
    assert_boot_id(banger, "x", given)
    # What somebody else mounts there is theirs.
    sh_ok(banger, f"echo theirs >/run/id; mount --bind /run/id {BOOT_ID}", vm="x")
    again = str(uuid.uuid4())
    assert give_boot_id(banger, "x", again)[0] == 0
    assert sh_ok(banger, f"cat {BOOT_ID}; umount -l {BOOT_ID}; cat {BOOT_ID}; umount -l {BOOT_ID}; "
                         f"cat {BOOT_ID}; umount -l {BOOT_ID}; cat {BOOT_ID}", vm="x") == \
        f"{again}\ntheirs\n{given}\n{kernels}"


def test_boot_id_that_cannot_be_set_is_told(banger):
    banger.ok("vm", "create", "-q", "--name", "x")
    sh_ok(banger, ">/dev/.banger.boot_id", vm="x")
    error, text = give_boot_id(banger, "x", str(uuid.uuid4()))
    assert (error, text) == (20, "configure: boot_id: Not a directory")
    assert "boot_id" not in sh_ok(banger, "cat /proc/self/mountinfo", vm="x")


def test_loopback_is_up_and_there_is_no_other_interface(shared):
    assert sh_ok(shared, "ls /sys/class/net") == "lo\n"
    assert "0% packet loss" in sh_ok(shared, "ping -c 1 -w 5 127.0.0.1")


def test_kernel_filesystems_are_mounted(shared):
    table = mounts(shared)
    kinds = {where: table[where][1] for where in table}
    assert kinds["/"] == "overlay"
    assert {"redirect_dir=on", "metacopy=on", "xino=on"} <= set(table["/"][2])
    for where, kind in {"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs",
                        "/dev/pts": "devpts", "/dev/shm": "tmpfs", "/run": "tmpfs",
                        "/sys/fs/cgroup": "cgroup2"}.items():
        assert kinds.get(where) == kind, (where, table)
        assert "rw" in table[where][2], where
    for where in ("/proc", "/sys", "/dev/shm", "/run"):
        assert {"nosuid", "nodev"} <= set(table[where][2]), table[where]
    assert sh_ok(shared, "stat -c '%a %n' /tmp /dev/shm /run /var/tmp").splitlines() == \
        ["1777 /tmp", "1777 /dev/shm", "755 /run", "1777 /var/tmp"]


def test_devices_that_programs_expect_work(shared):
    script = """
        set -e
        echo x > /dev/null; head -c 4 /dev/zero | od -An -tx1; head -c 8 /dev/urandom | wc -c
        for name in fd stdin stdout stderr; do readlink /dev/$name; done
        echo on | cat /dev/stdin; echo out > /dev/stdout
        test -c /dev/ptmx; test -c /dev/tty; mkdir /dev/shm/d; rmdir /dev/shm/d
        touch /run/f /tmp/f; rm /run/f /tmp/f
        """
    assert sh_ok(shared, script).split() == \
        ["00"] * 4 + ["8"] + ["/proc/self/fd", *(f"/proc/self/fd/{n}" for n in range(3))] + \
        ["on", "out"]


def test_container_engines_find_a_real_filesystem(shared):
    table = mounts(shared)
    for name in ("docker", "containerd", "containers", "buildkit"):
        assert table[f"/var/lib/{name}"][1] == "ext4", name


def test_cgroup2_can_be_used(shared):
    script = """
        set -e
        mkdir /sys/fs/cgroup/t
        sh -c 'echo 0 > /sys/fs/cgroup/t/cgroup.procs; cat /proc/self/cgroup'
        cat /sys/fs/cgroup/t/cgroup.events | grep populated
        rmdir /sys/fs/cgroup/t
        """
    assert sh_ok(shared, script) == "0::/t\npopulated 0\n"


def test_orphans_go_to_the_agent_and_are_reaped(shared):
    # The orphan's parent is gone when it may read: then it tells who its parent is, and ends.
    script = """
        mkfifo /tmp/gate
        sh -c '(sh -c "read x < /tmp/gate; grep PPid /proc/\\$\\$/status") & exit 0'
        for n in 1 2 3 4 5; do sh -c '(true) & exit 0'; done
        echo > /tmp/gate
        rm /tmp/gate
        while grep -q '^State:.*zombie' /proc/[0-9]*/status 2>/dev/null; do :; done
        """
    assert sh_ok(shared, script).split() == ["PPid:", "1"]


def test_clock_is_the_hosts(shared):
    before = time.time()
    guest = float(sh_ok(shared, "date +%s"))
    assert before - 3 <= guest <= time.time() + 3


def test_random_numbers_come_at_once_and_differ(shared):
    first = sh_ok(shared, "head -c 32 /dev/random | sha256sum")
    assert first != sh_ok(shared, "head -c 32 /dev/random | sha256sum")


def test_directory_of_the_image_can_be_renamed(shared):
    script = """
        set -e
        mv /usr/local /usr/moved
        ls /usr/moved/bin/not-a-program; ! ls /usr/local 2>/dev/null
        mv /usr/moved /usr/local
        chmod 700 /usr/local/bin/not-a-program; stat -c %a /usr/local/bin/not-a-program
        chmod 755 /usr/local/bin/not-a-program
        """
    assert sh_ok(shared, script) == "/usr/moved/bin/not-a-program\n700\n"


def test_guests_do_not_change_the_image(shared):
    digest = vms(shared)[SHARED_VM]["image"]["digest"].removeprefix("sha256:")
    image = shared.state_dir / "images" / f"{digest}.ext4"
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    script = """
        echo changed >> /etc/passwd; rm /etc/os-release; echo new > /etc/new; sync
        for disk in /dev/vd?; do
            case $(cat /sys/block/${disk#/dev/}/serial) in
            banger-root) cat /sys/block/${disk#/dev/}/ro
                dd if=/dev/zero of=$disk bs=4096 count=1 conv=fsync 2>/dev/null && echo written;;
            esac
        done
        """
    assert sh_ok(shared, script + "true") == "1\n"
    assert hashlib.sha256(image.read_bytes()).hexdigest() == before
    sh_ok(shared, "sed -i '$d' /etc/passwd; rm /etc/new")


def test_limits_and_signals_of_a_command_are_ordinary(shared):
    assert sh_ok(shared, "ulimit -n; umask") == "1024\n0022\n"
    masks = shared.ok("exec", SHARED_VM, "grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status").out
    assert [int(mask, 16) for mask in masks.split()[1::2]] == [0, 0, 0]
    # The last one is that of ls itself.
    assert shared.ok("exec", SHARED_VM, "ls", "/proc/self/fd").out.split() == ["0", "1", "2", "3"]


def test_ping_answers(shared):
    assert call(shared, "vm.ping", vm=SHARED_VM)["us"] > 0


def test_guest_output_with_control_characters_is_passed_on_as_it_is(shared):
    assert sh(shared, r"printf '\033]0;title\007\377'").stdout == b"\x1b]0;title\x07\xff"
