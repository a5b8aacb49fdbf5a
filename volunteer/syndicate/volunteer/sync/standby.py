"""Standing by: a server that has started, and is handed its sockets when its job is there.

A start takes a tenth of a second, which no job should wait for. The owner makes both sockets, in whatever
network namespace they shall serve, and sends their descriptors with one line:
`{"ask": "serve", "members": {IP: TASK}}`. With `"uid"` the server is that user from then on, with `"fold_ms"`
it tells accounts of rounds, so often at most, and not each notice.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .doors import Doors

_LINE_BYTES: Final = 65_536


class BadHandover(Exception):
    """What the owner sent is no line with two sockets."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What the owner wants: to serve at these doors, with the tasks by address; `uid` None for no other."""

    doors: Doors
    members: Mapping[str, str]
    uid: int | None = None
    fold_s: float = 0.0


def handed_over(link: socket.socket) -> Handover | None:
    """Wait for the sockets and the tasks by address; None where the owner ends. Raises BadHandover.

    It waits as long as the owner does; the caller closes the doors.
    """
    line, descriptors, _, _ = socket.recv_fds(link, _LINE_BYTES, 2)
    while line and not line.endswith(b"\n") and len(line) < _LINE_BYTES:
        more = link.recv(_LINE_BYTES - len(line))
        line = line + more if more else b""
    try:
        order = _order(line) if line else None
        if order is not None and len(descriptors) != 2:
            raise BadHandover(f"{len(descriptors)} sockets came instead of two")
    except BadHandover:
        _let_go(descriptors)
        raise
    if order is None:
        _let_go(descriptors)
        return None
    tcp, udp = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    for each in (tcp, udp):
        each.setblocking(False)
    doors = Doors(tcp, udp, tcp.getsockname()[1])
    return Handover(doors, order.members, order.uid, order.fold_ms / 1000)


def _let_go(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Order:
    members: Mapping[str, str]
    uid: int | None
    fold_ms: int


def _order(line: bytes) -> _Order:
    try:
        ask = json.loads(line)
    except ValueError as error:
        raise BadHandover("no line of JSON came") from error
    match ask:
        case {"ask": "serve", "members": dict(members)}:
            names = {str(address): str(task) for address, task in members.items()}
            uid, fold_ms = ask.get("uid"), ask.get("fold_ms", 0)
            if (uid is None or isinstance(uid, int)) and isinstance(fold_ms, int):
                return _Order(names, uid, fold_ms)
    raise BadHandover("what came is no order to serve")
