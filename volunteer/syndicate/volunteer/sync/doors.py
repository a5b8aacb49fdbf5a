"""The two sockets of a server: one number for TCP and UDP."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Final

_BACKLOG: Final = 65_535  # the kernel takes what net.core.somaxconn allows
_BUFFER_BYTES: Final = 4 << 20  # of UDP: a burst of ten thousand requests
_TRIES: Final = 20
# Many rather than few: where every third packet is lost some of them come through all the same.
_PROBES: Final = 9


@dataclass(frozen=True, slots=True)
class Keepalive:
    """When a silent peer is taken for gone: after `idle_s`, and then `probes` unanswered probes."""

    idle_s: int = 10
    interval_s: int = 1
    probes: int = _PROBES

    @classmethod
    def after(cls, idle_s: int) -> Keepalive:
        """One that probes after so long, and takes the peer for gone in twice the time or a little more."""
        probes = min(_PROBES, 3 * idle_s)
        return cls(idle_s, max(1, idle_s // probes), probes)


@dataclass(frozen=True, slots=True)
class Doors:
    """A listening TCP socket and a UDP socket on one port, both non-blocking. The holder closes them."""

    tcp: socket.socket
    udp: socket.socket
    port: int

    def close(self) -> None:
        """Idempotent."""
        self.tcp.close()
        self.udp.close()


def opened(address: str, port: int, keepalive: Keepalive) -> Doors:
    """Listen on an IPv4 address; port 0 takes one that is free for both. Raises OSError."""
    for _ in range(_TRIES - 1):
        try:
            return _pair(address, port, keepalive)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE:
                raise
    return _pair(address, port, keepalive)


def _pair(address: str, port: int, keepalive: Keepalive) -> Doors:
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What is set here is each accepted connection's, too.
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive.idle_s)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive.interval_s)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.probes)
        tcp.bind((address, port))
        taken: int = tcp.getsockname()[1]
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        udp.bind((address, taken))
        tcp.listen(_BACKLOG)
    except OSError:
        tcp.close()
        udp.close()
        raise
    return Doors(tcp, udp, taken)
