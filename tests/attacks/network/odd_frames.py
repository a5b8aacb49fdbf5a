"""Frames that are neither IPv4 nor ARP: tagged ones with IPv4 within, and kinds that nobody knows."""

import os
import struct
import time

from attacker import FACTS, attempt, note
from wire import ADDRESS, IPV4, MASTER, frame, ipv4, macs_nearby, own_mac, packet_socket, udp

MARK, PORT = b"synattack ", 4000
wire = attempt("a packet socket", packet_socket)
if wire is None or os.environ["SYNDICATE_TASK"] != "slave-0":
    time.sleep(1.0)
    os._exit(0)
mac = own_mac()
others = sorted(FACTS["bystander"].values())


def payloads(target):
    """Kinds of frame, and what is in them."""
    inner = struct.pack("!H", IPV4) + ipv4(ADDRESS, target, udp(MARK, PORT))
    for name, kind in (("802.1Q", 0x8100), ("802.1ad", 0x88A8), ("QinQ", 0x9100)):
        for number in (0, 1, 100, 4095):
            yield name, kind, struct.pack("!H", number) + inner
        twice = struct.pack("!HHH", 0, 0x8100, 0) + inner
        yield name, kind, twice
    yield "MPLS", 0x8847, struct.pack("!I", 1 << 12 | 0x1FF) + inner[2:]
    yield "PPPoE", 0x8864, b"\x11\0\0\1" + struct.pack("!HH", len(inner), 0x21) + inner[2:]
    for kind in (0x86DD, 0x88B5, 0x88CC, 0x8892, 0x0842, 0x8902, 0x88F7, 0x0000, 0x05DC, 0xFFFF):
        yield f"{kind:#06x}", kind, b""


sent = 0
for _ in range(4):
    for target in (MASTER, *others):
        for name, kind, inner in payloads(target):
            for hardware in [b"\xff" * 6, *(macs_nearby(mac))]:
                sent += wire.send(frame(mac, kind, inner + MARK + name.encode(), hardware)) > 0
    time.sleep(0.1)
note(f"{sent} frames sent")
