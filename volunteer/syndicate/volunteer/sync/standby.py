"""Standing by: a server that has started, and is handed its sockets when its job is there.

A start takes a tenth of a second, which no job should wait for. The owner makes both sockets, in whatever
network namespace they shall serve, and sends their descriptors with one line:
`{"ask": "serve", "members": {IP: TASK}}`.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Final

from .doors import Doors

_LINE_BYTES: Final = 65_536


class BadHandover(Exception):
    """What the owner sent is no line with two sockets."""


def handed_over(link: socket.socket) -> tuple[Doors, dict[str, str]] | None:
    """Wait for the sockets and the tasks by address; None where the owner ends. Raises BadHandover.

    It waits as long as the owner does; the caller closes the doors.
    """
    line, descriptors, _, _ = socket.recv_fds(link, _LINE_BYTES, 2)
    while line and not line.endswith(b"\n") and len(line) < _LINE_BYTES:
        more = link.recv(_LINE_BYTES - len(line))
        line = line + more if more else b""
    try:
        names = _members(line) if line else None
        if names is not None and len(descriptors) != 2:
            raise BadHandover(f"{len(descriptors)} sockets came instead of two")
    except BadHandover:
        _let_go(descriptors)
        raise
    if names is None:
        _let_go(descriptors)
        return None
    tcp, udp = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    for each in (tcp, udp):
        each.setblocking(False)
    return Doors(tcp, udp, tcp.getsockname()[1]), names


def _let_go(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _members(line: bytes) -> dict[str, str]:
    try:
        ask = json.loads(line)
    except ValueError as error:
        raise BadHandover("no line of JSON came") from error
    match ask:
        case {"ask": "serve", "members": dict(members)}:
            return {str(address): str(task) for address, task in members.items()}
    raise BadHandover("what came is no order to serve")
