"""Daemons that want to live on: in sessions of their own, deaf to signals, some of which flee."""

import contextlib
import os
import signal
import socket
import time

from attacker import end

LIFE_S = 40.0  # where nothing ends them, they end themselves
CLIENT = (os.environ["SYNDICATE_CLIENTS"], 4200)
until = time.monotonic() + LIFE_S


def call_home(flees):
    """Tell the client that one lives; one that flees has a new pid each time."""
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            link.sendto(b"alive", CLIENT)
        time.sleep(0.02)
        if flees and os.fork():
            end()
    end()


for number in range(12):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            end()
        for each in range(1, signal.NSIG):
            if each not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
                signal.signal(each, signal.SIG_IGN)
        os.closerange(0, 4096)
        if number == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        call_home(flees=number % 3 == 1)
time.sleep(600)
