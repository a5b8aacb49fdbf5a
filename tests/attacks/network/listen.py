"""The victim of what a slave forges: it tells of each datagram that another slave never sent."""

import select
import socket
import time

from attacker import got_it, note
from wire import SLAVES

PORT = 5100
door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
door.bind(("", PORT))
pings = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
known = {}  # hardware addresses by address: no member's ever changes
EVERYBODY = "ff:ff:ff:ff:ff:ff"
until = time.monotonic() + 8.0
while time.monotonic() < until:
    for slave in SLAVES:  # so that it knows their hardware addresses, and could be made to know others
        pings.sendto(b"hello", (slave, 9))
    if not select.select([door], [], [], 0.1)[0]:
        continue
    data, (sender, _) = door.recvfrom(2000)
    if data.startswith(b"forged"):
        got_it(f"heard {data!r} from {sender}")
        break
    macs = {}
    for line in open("/proc/net/arp").read().splitlines()[1:]:
        words = line.split()
        if not int(words[2], 16) & 2:
            continue
        if words[3] in macs:
            got_it(f"{words[0]} and {macs[words[3]]} have one hardware address, {words[3]}")
        if words[3] == EVERYBODY or known.setdefault(words[0], words[3]) != words[3]:
            got_it(f"{words[0]} was at {known.get(words[0])} and is at {words[3]}")
        macs[words[3]] = words[0]
    if data == b"done":
        break
note("listened")
