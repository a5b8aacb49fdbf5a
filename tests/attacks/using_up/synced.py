"""Has a disk that is a file system of its own: looks what is below it, breaks it, uses it up, syncs."""

import fcntl
import os
import stat
import struct
import time

from attacker import FACTS, attempt, end, got_it, note

WRITERS, SECONDS, MOST_FILES = 8, 6.0, 100_000
WORDS = ("/dev/loop", FACTS["run_dir"], FACTS["state_dir"], "/image", "/volume")
# Shut the file system down, freeze it, resize it, swap its boot loader's inode, trim it.
CALLS = (0x8004587D, 0xC0045877, 0x40086610, 0x6611, 0xC0185879)

for name in ("mountinfo", "mounts", "mountstats"):
    for process in ("self", "1"):
        for line in attempt(name, open, f"/proc/{process}/{name}") or ():
            if any(word in line for word in WORDS):
                got_it(f"{name} tells {line.strip()}")
# Not /proc/fs and /proc/diskstats: that there are such disks, and how busy they are, is the machine's.
for folder in ("/sys/block", "/sys/class/block", "/sys/fs/ext4", "/sys/dev/block"):
    for name in attempt(folder, os.listdir, folder) or ():
        got_it(f"{folder} has {name}")
for number in range(16):
    device = os.makedev(7, number)
    attempt("mknod", os.mknod, f"/loop-{number}", stat.S_IFBLK | 0o600, device)
    for path in (f"/dev/loop{number}", f"/loop-{number}"):
        if attempt(path, os.open, path, os.O_RDWR) is not None:
            got_it(f"opened {path}")
for path in ("/", "/tmp", "/dev/shm"):
    held = os.open(path, os.O_RDONLY)
    for call in CALLS:
        what = f"ioctl {call:#x} on {path}"
        if attempt(what, fcntl.ioctl, held, call, struct.pack("@Q", 2) + bytes(16)) is not None:
            got_it(what)


def storm(number):
    """Writes and syncs, over and over, and the folder with it."""
    file = os.open(f"/synced-{number}", os.O_CREAT | os.O_RDWR)
    folder = os.open("/", os.O_RDONLY)
    until = time.monotonic() + SECONDS
    count = 0
    while time.monotonic() < until:
        os.pwrite(file, os.urandom(4096), (count % 64) << 12)
        os.fsync(file)
        os.fsync(folder)
        os.sync()
        count += 1
    note(f"{count} times")


pids = []
for number in range(WRITERS):
    pid = os.fork()
    if not pid:
        storm(number)
        os._exit(0)
    pids.append(pid)
for pid in pids:
    os.waitpid(pid, 0)
made = 0
try:
    while made < MOST_FILES:
        os.mknod(f"/file-{made}", 0o600)
        made += 1
except OSError as error:
    note(error)
note(f"{made} files")
if made == MOST_FILES:
    got_it("as many files as it likes")
held = os.open("/synced-0", os.O_RDWR)
try:
    for at in range(96):
        os.pwrite(held, bytes(1 << 20), at << 20)
except OSError as error:
    note(error)
note(f"{os.fstat(held).st_size >> 20} MiB")
if os.fstat(held).st_size >= 96 << 20:
    got_it("as many bytes as it likes")
time.sleep(1.2)
end()
