"""Neighbours by IPv6, which finds its own addresses; and turning it on where it is off."""

import errno
import os
import socket
import struct
import time

from attacker import FACTS, attempt, got_it, note

ECHO = struct.pack("!BBHHH", 128, 0, 0, 1, 0)


def link_local(mac):
    """The address that a device gives itself."""
    octets = bytes.fromhex(mac.replace(":", ""))
    told = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return socket.inet_ntop(socket.AF_INET6, b"\xfe\x80" + bytes(6) + told)


def has_address():
    """Whether eth0 has one that can be used."""
    lines = (
        [line.split() for line in open("/proc/net/if_inet6")] if os.path.exists("/proc/net/if_inet6") else []
    )
    return any(words[5] == "eth0" and not int(words[4], 16) & 0x40 for words in lines)


for name in ("all", "default", "eth0"):
    path = f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6"
    attempt(path, lambda path=path: open(path, "w").write("0"))
until = time.monotonic() + 3.0
while os.path.exists("/proc/net/if_inet6") and open("/proc/net/if_inet6").read().count("eth0"):
    if has_address() or time.monotonic() > until:
        break
    time.sleep(0.05)
note(f"an address: {has_address()}")
index = socket.if_nametoindex("eth0")
targets = ["ff02::1", "ff02::2"] + [link_local(mac) for mac in FACTS["macs"].values()]
pings = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6)
pings.settimeout(0.1)
own = (
    {line.split()[0] for line in open("/proc/net/if_inet6")}
    if os.path.exists("/proc/net/if_inet6")
    else set()
)
until = time.monotonic() + 1.5
while time.monotonic() < until:
    for target in targets:
        attempt(f"ping {target}", pings.sendto, ECHO, (target, 0, 0, index))
    try:
        while True:
            _, sender = pings.recvfrom(2000)
            address = socket.inet_pton(socket.AF_INET6, sender[0].partition("%")[0]).hex()
            if address not in own:
                got_it(f"{sender[0]} answers a ping")
                os._exit(0)
    except OSError:
        pass
for target in targets[2:]:
    with socket.socket(socket.AF_INET6) as made:
        made.settimeout(0.2)
        error = made.connect_ex((target, 4000, 0, index))
        if error in (0, errno.ECONNREFUSED):
            got_it(f"{target} answers: {errno.errorcode.get(error, 'connected')}")
