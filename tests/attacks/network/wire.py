"""Frames made by hand, and how to send them: for attackers that may."""

import fcntl
import os
import socket
import struct

BROADCAST = b"\xff" * 6
ARP, IPV4 = 0x0806, 0x0800
_SIOCGIFHWADDR = 0x8927

ADDRESS = os.environ["SYNDICATE_ADDRESS"]
MASTER = os.environ["SYNDICATE_MASTER"]
SLAVES = os.environ["SYNDICATE_SLAVES"].split(",")


def own_mac():
    """The hardware address that eth0 has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, b"eth0".ljust(40, b"\0"))
    return answer[18:24]


def macs_nearby(own):
    """Those of the slots made shortly before and after: their numbers follow each other."""
    number = int.from_bytes(own[2:], "big")
    return [own[:2] + near.to_bytes(4, "big") for near in range(max(0, number - 16), number + 16)]


def packet_socket():
    """One that sends whole frames by eth0, and hears all that come in. Raises OSError."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    made.bind(("eth0", 0))
    return made


def frame(source, kind, payload, target=BROADCAST):
    """Ethernet."""
    return target + source + struct.pack("!H", kind) + payload


def checksum(data):
    """Of IPv4's header."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source, target, payload, protocol=17, number=1, fragment=0):
    """A packet; `fragment` is the word of flags and offset in eights of bytes."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), number, fragment, 64, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp(data, port):
    """A datagram without a checksum."""
    return struct.pack("!HHHH", 4001, port, 8 + len(data), 0) + data


def arp(kind, mac, address, target):
    """Who says that it has an address: a request (1) or a reply (2) to `target`."""
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, kind)
    return head + mac + socket.inet_aton(address) + BROADCAST + socket.inet_aton(target)
