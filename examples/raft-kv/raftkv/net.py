"""Lines of JSON over TCP: one outgoing link to each peer, and whoever connects.

A message to a peer is sent once and may be lost: Raft says it again. A cut gives silence, not an error, so
each wait has a deadline: connecting (CONNECT_S), data that stays unacknowledged (UNACKED_S, watched by the
kernel), a connection that says nothing (KEEPALIVE). After any of these the link starts again with a fresh
connection, because TCP's own retries back off for as long as the cut lasted.
"""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Callable
from typing import Any

from raftkv.values import Message, decode

CONNECT_S = 0.3
REDIAL_S = 0.1
UNACKED_S = 0.8
MAX_LINE = 8 << 20  # bytes; a longer line ends its connection
MAX_CONNECTIONS = 512  # one more is closed at once
MAX_QUEUE = 4 << 20  # bytes waiting for one connection; past it the connection is ended


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNACKED_S * 1000))


class Connection:
    """One socket with what waits to leave and what has come of a line. Any error ends it."""

    def __init__(self, selector: selectors.BaseSelector, sock: socket.socket, connecting: bool) -> None:
        self._selector = selector
        self._sock = sock
        self._in = bytearray()
        self._out = bytearray()
        self.connecting = connecting
        self.open = True
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connecting else 0)
        selector.register(sock, events, self)

    def send(self, data: bytes) -> None:
        """Sends now what the kernel takes, and the rest when it can."""
        if not self.open:
            return
        self._out += data
        if len(self._out) > MAX_QUEUE:
            self.close()
        elif not self.connecting:
            self._flush()

    def ready(self, mask: int) -> list[bytes]:
        """Does what the selector says is possible; returns the whole lines that came."""
        if mask & selectors.EVENT_WRITE:
            self.connecting = False
            self._flush()
        if self.open and mask & selectors.EVENT_READ:
            return self._receive()
        return []

    def close(self) -> None:
        """Ends it; what waits is lost."""
        if self.open:
            self.open = False
            self._selector.unregister(self._sock)
            self._sock.close()

    def _flush(self) -> None:
        try:
            if self._out:
                del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            pass  # the selector says when there is room
        except OSError:
            self.close()
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        if self._selector.get_key(self._sock).events != wanted:
            self._selector.modify(self._sock, wanted, self)

    def _receive(self) -> list[bytes]:
        try:
            data = self._sock.recv(1 << 18)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        self._in += data
        if not data or len(self._in) > MAX_LINE:
            self.close()
            return []
        if b"\n" not in data:
            return []
        *lines, rest = bytes(self._in).split(b"\n")
        self._in = bytearray(rest)
        return lines


class Network:
    """The listener, the links to the peers, and everybody who connected. One thread owns it.

    Args:
        on_message: gets each message of a peer (an array).
        on_request: gets each request of a client (an object), with the connection to answer on.
    """

    def __init__(
        self,
        address: str,
        port: int,
        peers: tuple[str, ...],
        on_message: Callable[[Message], None],
        on_request: Callable[[Connection, dict[str, Any]], None],
    ) -> None:
        self._address = address
        self._port = port
        self._on_message = on_message
        self._on_request = on_request
        self._selector = selectors.DefaultSelector()
        self._links: dict[str, Connection | None] = dict.fromkeys(peers)
        self._dialled: dict[str, float] = dict.fromkeys(peers, float("-inf"))
        self._listener = socket.create_server((address, port), backlog=128)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def send(self, now: float, peer: str, data: bytes) -> None:
        """Sends to a peer, or drops it where there is no link and none can be tried yet."""
        link = self._links[peer]
        if link is not None and link.open and link.connecting and now - self._dialled[peer] > CONNECT_S:
            link.close()
        if link is None or not link.open:
            if now - self._dialled[peer] < REDIAL_S:
                return
            link = self._links[peer] = self._dial(now, peer)
        if link is not None:
            link.send(data)

    def poll(self, timeout: float) -> None:
        """Waits for up to `timeout` seconds, and hands over what came."""
        for key, mask in self._selector.select(timeout):
            if key.data is None:
                self._accept()
            elif key.data.open:
                for line in key.data.ready(mask):
                    self._take(key.data, line)

    def close(self) -> None:
        """Ends all connections."""
        for key in list(self._selector.get_map().values()):
            if key.data is None:
                self._selector.unregister(key.fileobj)
            else:
                key.data.close()
        self._listener.close()
        self._selector.close()

    def _dial(self, now: float, peer: str) -> Connection | None:
        self._dialled[peer] = now
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            _prepare(sock)
            sock.bind((self._address, 0))
            sock.connect((peer, self._port))
        except BlockingIOError:
            return Connection(self._selector, sock, connecting=True)
        except OSError:
            sock.close()
            return None
        return Connection(self._selector, sock, connecting=False)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it went away again
        if len(self._selector.get_map()) > MAX_CONNECTIONS:
            sock.close()
            return
        _prepare(sock)
        Connection(self._selector, sock, connecting=False)

    def _take(self, connection: Connection, line: bytes) -> None:
        try:
            value = json.loads(line)
            message = decode(value) if isinstance(value, list) else None
        except (ValueError, RecursionError):
            connection.close()  # whoever talks nonsense is not talked to
            return
        if message is not None:
            self._on_message(message)
        elif isinstance(value, dict):
            self._on_request(connection, value)
        else:
            connection.close()
