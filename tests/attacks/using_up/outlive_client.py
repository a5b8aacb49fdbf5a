"""Kills the slave, and listens whether one of its daemons still speaks."""

import os
import select
import socket
import time

from attacker import got_it
from syndicate.client_api import Chaos

door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
door.bind(("", 4200))
slave = os.environ["SYNDICATE_SLAVES"]
assert select.select([door], [], [], 60)[0], "the daemons never spoke"


def drain(seconds):
    """What the slave's said within so long."""
    until, heard = time.monotonic() + seconds, 0
    while (left := until - time.monotonic()) > 0:
        if select.select([door], [], [], left)[0] and door.recvfrom(64)[1][0] == slave:
            heard += 1
    return heard


def empty():
    """Takes all that is there, however long this stood still."""
    while select.select([door], [], [], 0)[0]:
        door.recvfrom(64)


with Chaos.from_env() as chaos:
    chaos.kill(slave)
    drain(0.1)  # what was on its way
    empty()
    if heard := drain(0.5):
        got_it(f"{heard} words after the Kill")
    chaos.finish("pass")
