"""Another job's addresses, all that an ordinary program can send there, and any answer."""

import errno
import select
import socket
import struct
import time

from attacker import FACTS, attempt, got_it

PORT, IP_RECVERR = 4000, 11
ECHO = struct.pack("!BBHHH", 8, 0, 0xF7FE, 1, 0)
TARGETS = sorted(FACTS["bystander"].values())
EVERYBODY = ["255.255.255.255", TARGETS[0].rsplit(".", 2)[0] + ".255.255", "224.0.0.1"]
ANSWERED = (errno.ECONNREFUSED, errno.ECONNRESET)


def sockets():
    """Of each kind one for each way out: by the routes, and past them by the device."""
    for target in TARGETS + EVERYBODY:
        for kind, protocol in ((socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, 0), (socket.SOCK_DGRAM, 1)):
            for device in (b"", b"eth0"):
                made = socket.socket(socket.AF_INET, kind, protocol)
                made.setblocking(False)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                made.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
                if device:
                    attempt("by device", made.setsockopt, socket.SOL_SOCKET, 25, device)
                yield made, target, kind, protocol


asked = list(sockets())
until = time.monotonic() + 1.2
for made, target, kind, _ in asked:
    if kind == socket.SOCK_STREAM:
        attempt(f"connect to {target}", made.connect, (target, PORT))
while time.monotonic() < until:
    for made, target, kind, protocol in asked:
        if kind == socket.SOCK_DGRAM:
            try:
                made.sendto(ECHO if protocol else b"here", (target, PORT))
            except OSError as error:
                if error.errno in ANSWERED:
                    got_it(f"{target} answers: {error}")
    by_socket = {made: target for made, target, _, _ in asked}
    heard, _, _ = select.select(list(by_socket), [], [], 0.1)
    for made in heard:
        try:
            data = made.recv(2048)
            got_it(f"{by_socket[made]} answers: {data[:20]}")
        except OSError as error:
            if error.errno in ANSWERED:
                got_it(f"{by_socket[made]} answers: {error}")
    for made, _, kind, _ in asked:
        if kind == socket.SOCK_STREAM:
            try:
                got_it(f"connected to {made.getpeername()}")
            except OSError:
                continue
