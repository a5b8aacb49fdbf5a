"""Looks everywhere for what a task before left."""

import ctypes
import glob
import os

from attacker import attempt, got_it

MARK = "left-by-a-task"
KEY = 0x53594E41
WORD = 12345

for folder in (
    "/",
    "/tmp",
    "/dev",
    "/etc",
    "/lib",
    "/bin",
    "/sbin",
    "/lib64",
    "/var",
    "/run",
    "/job",
    "/home",
    "/root",
):
    for name in attempt(folder, os.listdir, folder) or []:
        if MARK in name:
            got_it(f"{folder}/{name!r}")
for name in os.listdir("/dev/shm"):
    got_it(f"/dev/shm/{name!r}")
for name in os.listdir("/dev"):
    if os.path.exists(f"/dev/{name}") and os.stat(f"/dev/{name}").st_mtime == WORD:
        got_it(f"a word in the times of /dev/{name}")
if (terminals := os.listdir("/dev/pts")) != ["ptmx"]:
    got_it(f"terminals: {terminals}")
libc = ctypes.CDLL(None)
found = (
    libc.shmget(KEY, 1, 0),
    libc.msgget(KEY, 0),
    libc.semget(KEY, 1, 0),
    libc.mq_open(f"/{MARK}".encode(), os.O_RDONLY),
)
if found != (-1, -1, -1, -1):
    got_it(f"System V or POSIX objects: {found}")
own = {os.getpid(), os.getppid(), 1}
for path in glob.glob("/proc/[0-9]*/cmdline"):
    command = open(path, "rb").read()
    if b"sleep" in command and int(path.split("/")[2]) not in own:
        got_it(f"a process: {command!r}")
