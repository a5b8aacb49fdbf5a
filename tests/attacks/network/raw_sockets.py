"""Sockets that write headers themselves, or change what the slot is on the network."""

import fcntl
import os
import socket
import struct

from attacker import attempt, got_it

SOL_IP, SOL_SOCKET = socket.IPPROTO_IP, socket.SOL_SOCKET
IP_HDRINCL, IP_TRANSPARENT, SO_MARK, SO_RCVBUFFORCE = 3, 19, 36, 33

for family in (socket.AF_INET, socket.AF_INET6):
    for protocol in (1, 6, 17, 58, 132, 255):
        if attempt(f"raw {family} {protocol}", socket.socket, family, socket.SOCK_RAW, protocol):
            got_it(f"a raw socket of family {family}, protocol {protocol}")
for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM, 10):
    for protocol in (3, 0x0806, 0x8100, 0):
        if attempt(f"packet {kind} {protocol:#x}", socket.socket, 17, kind, socket.htons(protocol)):
            got_it(f"a packet socket of kind {kind}")
plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for level, name, value in (
    (SOL_IP, IP_TRANSPARENT, 1),
    (SOL_SOCKET, SO_MARK, 7),
    (SOL_SOCKET, SO_RCVBUFFORCE, 1),
):
    attempt(
        f"option {level} {name}", lambda *o: plain.setsockopt(*o) or got_it(f"option {o}"), level, name, value
    )
address = struct.pack("16sH2s4s8s", b"eth0:1", socket.AF_INET, b"", socket.inet_aton("10.9.9.9"), b"")
hardware = struct.pack("16sH6s8s", b"eth0", 1, b"\x02\0\0\0\0\1", b"")
flags = struct.pack("16sH14s", b"eth0", 0x1143, b"")
for name, number, request in (
    ("an address", 0x8916, address),
    ("a hardware address", 0x8924, hardware),
    ("promiscuity", 0x8914, flags),
    ("an ARP entry", 0x8955, bytes(68)),
):
    if attempt(name, fcntl.ioctl, plain, number, request) is not None:
        got_it(name)
for path in ("/dev/net/tun", "/dev/tap0", "/dev/vhost-net"):
    if attempt(path, os.open, path, os.O_RDWR) is not None:
        got_it(path)
