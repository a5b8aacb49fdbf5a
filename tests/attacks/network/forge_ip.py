"""Datagrams in the name of another member, to a member; and in the name of the bystander's, to the other."""

import os
import socket
import time

from attacker import FACTS, attempt, note
from wire import ADDRESS, IPV4, MASTER, SLAVES, frame, ipv4, own_mac, packet_socket, udp

PORT = 5100
IP_PKTINFO, IP_FREEBIND, IP_TRANSPARENT = 8, 15, 19
if os.environ["SYNDICATE_TASK"] != "slave-0":
    time.sleep(1.4)
    os._exit(0)
others = list(FACTS["bystander"].values())
FORGED = [(SLAVES[1], MASTER, PORT), (others[0], MASTER, PORT), (others[0], others[1], 4000)]
FORGED += [(others[1], others[0], 4000), (MASTER, others[0], 4000), ("127.0.0.1", MASTER, PORT)]


def by_option(option, source, target, port):
    """Bound to an address that it does not have."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        if option:
            made.setsockopt(socket.IPPROTO_IP, option, 1)
        made.bind((source, 4001))
        made.sendto(b"forged", (target, port))


def by_control(source, target, port):
    """With the source told for this one message."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        info = bytes(4) + socket.inet_aton(source) + bytes(4)
        made.sendmsg([b"forged"], [(socket.IPPROTO_IP, IP_PKTINFO, info)], 0, (target, port))


def raw(source, target, port):
    """With a header of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 255) as made:
        made.sendto(ipv4(source, target, udp(b"forged", port)), (target, 0))


until = time.monotonic() + 0.8
wire = attempt("a packet socket", packet_socket)
while time.monotonic() < until:
    for one in FORGED:
        for option in (0, IP_FREEBIND, IP_TRANSPARENT):
            attempt(f"option {option}", by_option, option, *one)
        attempt("control", by_control, *one)
        attempt("raw", raw, *one)
        if wire is not None:
            source, target, port = one
            wire.send(frame(own_mac(), IPV4, ipv4(source, target, udp(b"forged", port))))
    time.sleep(0.1)
honest = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(3):
    honest.sendto(b"done", (MASTER, PORT))
note(f"{ADDRESS} is done")
