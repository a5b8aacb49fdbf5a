"""Leaves in /tmp and /dev/shm what is hard to remove, is killed, and looks in its next life what is left."""

import ctypes
import fcntl
import os
import socket
import time

from attacker import attempt, got_it, note

DEEP, WIDE = 10_000, 20_000
FS_IOC_SETFLAGS, IMMUTABLE, APPEND = 0x40086602, 0x10, 0x20


def make_deep(top):
    """Folders in folders, deeper than any path can name."""
    os.chdir(top)
    for _ in range(DEEP):
        os.mkdir("d")
        os.chdir("d")
    with open("end", "wb") as file:
        held.append(os.dup(file.fileno()))
    os.chdir("/")


def keep(path, flag):
    """A file that nobody may change, if that were granted."""
    with open(path, "wb") as file:
        fcntl.ioctl(file.fileno(), FS_IOC_SETFLAGS, ctypes.c_long(flag))


held = []
if os.path.exists("/was"):
    for folder in ("/tmp", "/dev/shm"):
        for name in os.listdir(folder):
            got_it(f"{folder}/{name!r} outlived the Kill")
else:
    for folder in ("/tmp", "/dev/shm"):
        os.mkdir(f"{folder}/deep")
        make_deep(f"{folder}/deep")
        for flag in (IMMUTABLE, APPEND):
            attempt("FS_IOC_SETFLAGS", keep, f"{folder}/kept-{flag}", flag)
        for name in (b"\xff\n\x1b[31m", b"-rf", b" ", b"x" * 255, b"*"):
            os.mkdir(os.fsencode(folder) + b"/" + name)
        os.mkdir(f"{folder}/closed")
        open(f"{folder}/closed/in", "wb").close()
        os.chmod(f"{folder}/closed", 0)
        os.mkfifo(f"{folder}/pipe")
        held.append(open(f"{folder}/closed-over", "wb"))
    os.mkdir("/tmp/wide")
    for number in range(WIDE):
        os.close(os.open(f"/tmp/wide/{number}", os.O_CREAT | os.O_WRONLY))
    open("/was", "wb").close()
    note("all is laid out")
door = socket.create_server(("", 4100))
door.accept()
time.sleep(600)
