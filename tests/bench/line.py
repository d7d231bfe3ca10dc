"""A QEMU that is started by hand as banger starts it: the floors of what VMs do."""

import os
import pathlib
import re
import shutil
import subprocess


def children(pid):
    return [int(child) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()]


class Line:
    """The command line and the files of a VM's QEMU, to start the same one by hand.

    It is taken from the running VM, so it is what banger starts whatever that becomes. Only what
    belongs to the one VM is replaced: the run directory, the console and the data disk, of which each
    start gets a fresh copy. Without -S: the CPUs need not wait for anybody.
    """

    def __init__(self, instance, vm):
        pid = self.find_qemu(instance, vm)
        self.directory = instance.root / "floor"
        self.directory.mkdir(exist_ok=True)
        self.unused_disk = self.directory / "unused.ext4"
        self.fresh_disk = self.directory / "data.ext4"
        args = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        self.argv = [a.decode() for a in args]
        self.fds = self.read_fds(pid)
        if "-S" in self.argv:
            self.argv.remove("-S")
        self.argv[self.argv.index("-L") + 1] = str(self.directory)
        self.save_unused_disk(instance)

    @staticmethod
    def find_qemu(instance, vm):
        id = instance.json("vm", "show", vm)["id"]
        return next(pid for pid in children(instance.vmm_parent_pid())
                    if f"/vms/{id}\0".encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())

    def read_fds(self, pid):
        """{number: what the floor program is to make of it}."""
        text = "\n".join(self.argv)
        fds = {int(n): f"r:{os.readlink(f'/proc/{pid}/fd/{n}')}"
               for n in re.findall(r"/proc/self/fd/(\d+)", text)}
        # QEMU keeps what it is given for /dev/fdset/N under other numbers.
        for arg in self.argv:
            if member := re.search(r"/dev/fdset/(\d+)", arg):
                fds[int(member[1])] = \
                    f"a:{self.directory / 'console'}" if "append=on" in arg else \
                    f"r:{self.open_image(pid)}" if "read-only=on" in arg else \
                    f"w:{self.fresh_disk}"
            elif member := re.search(r"^socket,id=(\w+),fd=(\d+)", arg):
                fds[int(member[2])] = self.name_socket(member[1])
        return fds

    def name_socket(self, name):
        return "agent" if name == "agent" else "listen"

    @staticmethod
    def open_image(pid):
        files = {os.readlink(fd) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
        return next(f for f in files if f.endswith(".ext4") and "/images/" in f)

    def save_unused_disk(self, instance):
        """A data disk that no guest has seen: that of a VM which never starts."""
        instance.ok("vm", "create", "--no-start", "--name", "unused")
        id = instance.json("vm", "show", "unused")["id"]
        shutil.move(self.copy_disk(next(instance.state_dir.glob(f"vms/{id}*/data.ext4"))),
                    self.unused_disk)
        instance.ok("vm", "delete", "unused")

    def copy_disk(self, source):
        subprocess.run(["cp", "--sparse=always", source, self.fresh_disk], check=True)
        return self.fresh_disk

    def arguments(self, init=None, files=None):
        """For the floor programs; makes the fresh copy. `init` is a program in the agent's place,
        `files` are others that it finds: {name: path}."""
        self.copy_disk(self.unused_disk)
        fds = dict(self.fds)
        if init:
            number = int(re.search(r"\d+$", self.argv[self.argv.index("-initrd") + 1])[0])
            path = self.with_programs(fds[number].removeprefix("r:"), {"init": init} | (files or {}))
            fds[number] = f"r:{path}"
        return [*(f"{n}={what}" for n, what in fds.items()), "--", *self.argv]

    def with_programs(self, initramfs, programs):
        """A copy of the initramfs with another /init and more: of two archives the later counts."""
        path = self.directory / "initramfs"
        entries = b""
        for name, mode, content in (*((name, 0o100755, pathlib.Path(program).read_bytes())
                                      for name, program in programs.items()),
                                    ("TRAILER!!!", 0, b"")):
            fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
            entry = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
            entries += entry + bytes(-len(entry) % 4) + content + bytes(-len(content) % 4)
        path.write_bytes(pathlib.Path(initramfs).read_bytes() + entries)
        return path


class ForkLine(Line):
    """The same of a VM that was forked from a template: restored, from the template's files."""

    def __init__(self, instance, vm):
        self.template = instance.state_dir / "templates" / \
            instance.json("vm", "show", vm)["start"]["template"]
        super().__init__(instance, vm)

    def read_fds(self, pid):
        memory = int(re.search(r"mem-path=/proc/self/fd/(\d+)", " ".join(self.argv))[1])
        return super().read_fds(pid) | {memory: f"w:{self.template / 'memory'}",
                                        memory + 1: f"r:{self.template / 'devices'}"}

    def name_socket(self, name):
        return {"agent": "agent", "qmp": "restore"}[name]

    def save_unused_disk(self, instance):
        self.unused_disk = self.template / "disk.ext4"
