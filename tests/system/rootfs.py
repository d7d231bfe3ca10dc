"""The guest image of the tests: busybox and the few files a Unix expects, as one small tar.

The same input gives the same bytes. Usage: rootfs.py BUSYBOX OUT.tar
"""

import io
import os
import subprocess
import sys
import tarfile

DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700,
    "run": 0o755, "sbin": 0o755, "srv": 0o755, "sys": 0o755, "tmp": 0o1777, "usr": 0o755,
    "usr/bin": 0o755, "usr/sbin": 0o755, "usr/local": 0o755, "usr/local/bin": 0o755,
    "var": 0o755, "var/tmp": 0o1777, "var/lib": 0o755,
}
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
                  "user:x:1000:1000:A User:/home/user:/bin/sh\n"
                  "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\ntty:x:5:\nuser:x:1000:\nextra:x:1001:user\nnogroup:x:65534:\n",
    "etc/os-release": 'ID=banger-test\nPRETTY_NAME="banger test image"\n',
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/not-executable": "just text\n",
}
SCRIPTS = {
    "usr/local/bin/not-a-program": "neither a script nor ELF\n",
    "usr/local/bin/broken-interpreter": "#!/nonexistent/interpreter\n",
}


def build(busybox, out):
    """Writes the tar; it appears only when it is complete."""
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True,
                             check=True).stdout.split()
    partial = f"{out}.{os.getpid()}"
    with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
        def add(name, mode, kind=tarfile.REGTYPE, data=b"", owner=0, target=""):
            info = tarfile.TarInfo(name)
            info.mode, info.type, info.size, info.linkname = mode, kind, len(data), target
            info.uid = info.gid = owner
            info.mtime = 1700000000
            tar.addfile(info, io.BytesIO(data))

        for name, mode in DIRECTORIES.items():
            add(name, mode, tarfile.DIRTYPE)
        add("home/user", 0o755, tarfile.DIRTYPE, owner=1000)
        for name, text in FILES.items():
            add(name, 0o644, data=text.encode())
        for name, text in SCRIPTS.items():
            add(name, 0o755, data=text.encode())
        with open(busybox, "rb") as program:
            add("bin/busybox", 0o755, data=program.read())
        for applet in sorted(set(applets) - {"busybox", "init", "linuxrc"}):
            add(f"bin/{applet}", 0o777, tarfile.SYMTYPE, target="busybox")
    os.rename(partial, out)


if __name__ == "__main__":
    build(sys.argv[1], sys.argv[2])
