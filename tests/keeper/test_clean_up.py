"""Cleaning up after a task that left as much as it may, as deep as it could, and tried to keep it there."""

from __future__ import annotations

import time

import pytest
from keeper.harness import Link, makefile
from syndicate.volunteer.local import Limits

pytestmark = pytest.mark.system  # a minute of work

_INODES = 1_100_000
_LIMITS = Limits(disk_bytes=4 << 30, disk_inodes=_INODES)
_MOST_SECONDS = 120.0

# FS_IOC_SETFLAGS (0x40086602) with FS_IMMUTABLE_FL or FS_APPEND_FL is what chattr +i and +a do.
_LEAVES = """
import fcntl, os, struct
for folder in ("/", "/tmp", "/dev/shm"):
    os.chdir(folder)
    for _ in range(20_000):
        os.mkdir("deep")
        os.chdir("deep")
os.chdir("/")
os.makedirs("/many")
for number in range(10):
    os.mkdir(f"/many/{number}")
    folder = os.open(f"/many/{number}", os.O_RDONLY)
    for file in range(100_000):
        os.mknod(str(file), 0o100000, dir_fd=folder)
    os.fchmod(folder, 0)
for path in ("/", "/many", "/tmp", "/dev/shm", "/Makefile"):
    for flag in (0x10, 0x20):
        try:
            fcntl.ioctl(os.open(path, os.O_RDONLY), 0x40086602, struct.pack("l", flag))
            print("immutable", path)
        except OSError:
            pass
print("up", flush=True)
os.execlp("sleep", "sleep", "1000")
"""
_AGAIN = "if [ -e many ]; then echo up; exec sleep 1000; fi; exec python3 leaves.py"


async def test_a_million_files_and_the_deepest_folders_go(link: Link) -> None:
    """With the disk kept /tmp and /dev/shm are emptied, without it all goes; nothing is left at the end."""
    task = link.task({"Makefile": makefile(f"@{_AGAIN}"), "leaves.py": _LEAVES})
    await link.renew(600.0)
    await task.begin(_LIMITS)
    await task.said("up", 1, seconds=200.0)
    await task.kill()
    assert "immutable" not in await task.output()

    began = time.monotonic()
    await task.revive(2)
    await task.said("up", 2)
    await task.kill(2)
    await task.release()

    assert time.monotonic() - began < _MOST_SECONDS
    assert (await link.audit()).left == ()
    next_one = link.task({"Makefile": makefile("@ls -A / /tmp /dev/shm | grep -c deep; true")})
    _, output = await next_one.run()
    assert output.split() == ["0"]
