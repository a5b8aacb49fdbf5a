"""Going to the background, as daemons of its time do."""

from __future__ import annotations

import os
import sys


def to_background(announcement: str) -> bool:
    """Go on in a process of a session of its own, without a terminal.

    Returns True there, and False in the process that was called, which has said `announcement` and the
    number of the one that goes on.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with open(reading, encoding="ascii") as told:
            number = told.read()
        os.waitpid(child, 0)
        sys.stdout.write(f"{announcement}{number}\n")
        return False
    os.close(reading)
    os.setsid()
    # Forked once more: the leader of a session could be given a terminal again.
    if os.fork():
        os._exit(0)
    with open(writing, "w", encoding="ascii") as tell:
        tell.write(str(os.getpid()))
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    if nothing > 2:
        os.close(nothing)
    return True
