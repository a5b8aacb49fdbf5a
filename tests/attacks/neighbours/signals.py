"""Signals to the bystander and the daemons, by every way there is to send one."""

import ctypes
import fcntl
import os
import signal
import socket
import time

from attacker import FACTS, attempt, got_it, syscall

TGKILL, TKILL, QUEUE, PIDFD_OPEN, PIDFD_SEND = (234, 131), (200, 130), (129, 138), 434, 424
SIGNAL = signal.SIGCONT  # the bystander counts it, and it ends nobody
F_SETSIG = 10

others = [pid for pids in FACTS["bystander_pids"].values() for pid in pids] + list(FACTS["daemons"].values())
for pid in others:
    for what, call in {
        "kill": lambda pid=pid: os.kill(pid, SIGNAL) or True,
        "killpg": lambda pid=pid: os.kill(-pid, SIGNAL) or True,
        "tkill": lambda pid=pid: syscall(TKILL, pid, int(SIGNAL)),
        "tgkill": lambda pid=pid: syscall(TGKILL, pid, pid, int(SIGNAL)),
        "sigqueue": lambda pid=pid: syscall(QUEUE, pid, int(SIGNAL), ctypes.create_string_buffer(128)),
    }.items():
        if attempt(f"{what} {pid}", call) is not None:
            got_it(f"{what} {pid}")
    held = attempt(f"pidfd_open {pid}", syscall, PIDFD_OPEN, pid, 0)
    if (
        held is not None
        and attempt("pidfd_send", syscall, PIDFD_SEND, held, int(SIGNAL), None, 0) is not None
    ):
        got_it(f"pidfd {pid}")
    # A signal that the kernel sends for this process when something can be read.
    ours, theirs = socket.socketpair()
    if attempt(f"own {pid}", fcntl.fcntl, ours, fcntl.F_SETOWN, pid) is not None:
        fcntl.fcntl(ours, F_SETSIG, SIGNAL)
        fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC)
        theirs.send(b"x")
attempt("kill all", os.kill, -1, SIGNAL)
time.sleep(0.2)  # the bystander says five times a second what it counted
