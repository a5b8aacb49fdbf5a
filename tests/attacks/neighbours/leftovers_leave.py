"""Leaves whatever can be left, everywhere: files, sockets, pipes, objects, processes, strange names."""

import ctypes
import os
import socket
import subprocess

from attacker import attempt

MARK = "left-by-a-task"
FOLDERS = (
    "/",
    "/tmp",
    "/dev/shm",
    "/etc",
    "/lib",
    "/bin",
    "/sbin",
    "/lib64",
    "/var/tmp",
    "/run",
    "/job",
    "/dev",
)
KEY = 0x53594E41
WORD = 12345  # a time that nothing has by itself

for folder in FOLDERS:
    for name in (
        MARK,
        f"{MARK}\nwith a line",
        f".{MARK}",
        f"-{MARK}",
        "\x1b[31m" + MARK,
        MARK.ljust(255, "x"),
    ):
        attempt(f"{folder}/{name!r}", lambda path=f"{folder}/{name}": open(path, "w").write("secret"))
    attempt(folder, os.makedirs, f"{folder}/{MARK}-folder/a/b/c")
    attempt(folder, os.mkfifo, f"{folder}/{MARK}-pipe")
    attempt(folder, os.symlink, "/etc/passwd", f"{folder}/{MARK}-link")
    attempt(folder, lambda folder=folder: socket.socket(socket.AF_UNIX).bind(f"{folder}/{MARK}-socket"))
    attempt(folder, os.chmod, f"{folder}/{MARK}-folder", 0)
for name in os.listdir("/dev"):
    attempt(f"times of {name}", os.utime, f"/dev/{name}", (WORD, WORD))
    attempt(f"mode of {name}", os.chmod, f"/dev/{name}", 0o600)
main, side = os.openpty()
attempt("mode of a terminal", os.fchmod, side, 0o666)
libc = ctypes.CDLL(None)
libc.shmget(KEY, 4096, 0o1666)
libc.msgget(KEY, 0o1666)
libc.semget(KEY, 1, 0o1666)
libc.mq_open(f"/{MARK}".encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
for _ in range(5):
    subprocess.Popen(
        ["sh", "-c", "trap '' TERM HUP INT; exec sleep 600"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
