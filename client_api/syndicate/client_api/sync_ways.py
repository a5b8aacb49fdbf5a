"""The ways to a sync server: over TCP, as the original client goes, and over UDP."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable

from syndicate.client_api import sync_wire as wire
from syndicate.client_api.sync_wire import NoAnswer, Request, TimedOut

Say = Callable[[str], None]

TOO_LATE = "not all came in time"

_GRACE_S = 1.0  # the server ends a time-out itself, so that nobody is counted who has given up
_CONNECT_S = 5.0
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 1.0
_FIRST_REPEAT_S, _LAST_REPEAT_S = 0.05, 1.0
_AWAY = frozenset({errno.ECONNREFUSED, errno.ETIMEDOUT})


def over_tcp(request: Request, place: tuple[str, int], until: float | None, say: Say) -> int:
    """The server's value, by `until` (monotonic). Raises TimedOut and NoAnswer; neither names the server."""
    extended = len(request.name) <= wire.NAME_BYTES_WITH_EXTENSION
    try:
        with _connected(place, until, say) as peer:
            left = _left(until)
            peer.settimeout(left)
            peer.sendall(wire.packed(request, 0, wire.ABANDON if request.abandon else 0, left))
            heard = b""
            end = None if until is None else until + (_GRACE_S if extended else 0.0)
            # The original server's clients read until the end of the connection, and so does this one.
            while data := _heard(peer, end):
                heard += data
                if len(heard) > wire.ANSWER.size:
                    break
    except TimedOut:
        raise
    except OSError as error:
        raise NoAnswer(error.strerror or str(error)) from error
    if len(heard) != wire.ANSWER.size:
        raise NoAnswer(
            "the server ended the connection without an answer: it refused the request, or ended itself"
        )
    (value,) = wire.ANSWER.unpack(heard)
    return int(value)


def _connected(place: tuple[str, int], until: float | None, say: Say) -> socket.socket:
    """A connection, tried for again while nobody listens there."""
    pause = _FIRST_PAUSE_S
    late = TOO_LATE
    while True:
        left = _left(until, late)
        try:
            peer = socket.create_connection(place, _CONNECT_S if left is None else min(left, _CONNECT_S))
        except TimeoutError as error:
            why = str(error)
        except OSError as error:
            if error.errno not in _AWAY:
                raise
            why = str(error.strerror)
        else:
            _keep_alive(peer)
            return peer
        say(f"no connection: {why}")
        late = f"no connection in time: {why}"
        left = _left(until, late)
        time.sleep(pause if left is None else min(left, pause))
        pause = min(2 * pause, _LAST_PAUSE_S)


def _keep_alive(peer: socket.socket) -> None:
    """A server that is cut off must not keep anybody for ever: it is taken for gone after some 20 s."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 9)


def _heard(peer: socket.socket, end: float | None) -> bytes:
    """What comes next; raises TimedOut at `end`."""
    peer.settimeout(_left(end))
    try:
        return peer.recv(64)
    except TimeoutError as error:
        # The kernel's own, for a peer that does not answer, has a number.
        if error.errno is not None:
            raise
        raise TimedOut(TOO_LATE) from error


# ---- over UDP -------------------------------------------------------------------------------------------


def over_udp(request: Request, place: tuple[str, int], until: float | None, say: Say) -> int:
    """As over_tcp.

    The request is sent again until the answer is there: soon at first, once a second when it is counted.
    """
    request_id = int.from_bytes(os.urandom(8), "little")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect(place)
        try:
            value = _asked_again(peer, request, request_id, until, say)
        except BaseException:  # also an interrupt: who leaves says so
            _send(peer, wire.packed(request, request_id, wire.LEAVE, None))
            raise
        _send(peer, wire.packed(request, request_id, wire.ACKNOWLEDGE, None))
        return value


def _asked_again(
    peer: socket.socket, request: Request, request_id: int, until: float | None, say: Say
) -> int:
    pause = _FIRST_REPEAT_S
    flags = wire.ABANDON if request.abandon else 0
    end = None if until is None else until + _GRACE_S
    late = "no answer in time"
    while True:
        _left(end, late)
        left = None if until is None else max(0.001, until - time.monotonic())
        _send(peer, wire.packed(request, request_id, flags, left))
        again = time.monotonic() + pause
        while (rest := again - time.monotonic()) > 0:
            said = _reply(peer, request_id, rest)
            if said is None:
                continue
            kind, value = said
            if kind == wire.ANSWERED:
                return value
            if kind == wire.WAITING and pause < _LAST_REPEAT_S:
                say("the server has counted the request")
                late, pause = TOO_LATE, _LAST_REPEAT_S
                again = time.monotonic() + pause
        pause = min(2 * pause, _LAST_REPEAT_S)


def _reply(peer: socket.socket, request_id: int, within_s: float) -> tuple[int, int] | None:
    """Kind and value of a reply to this request; None for nothing, and for what is not about it."""
    peer.settimeout(within_s)
    try:
        data = peer.recv(64)
    except TimeoutError:
        return None
    except ConnectionError:
        # Nobody listens there now. Told at once, so the rest of the pause is waited out here.
        time.sleep(within_s)
        return None
    except OSError as error:
        raise NoAnswer(error.strerror or str(error)) from error
    if len(data) != wire.REPLY.size:
        return None
    magic, version, kind, about, value = wire.REPLY.unpack(data)
    if (magic, version, about) != (wire.MAGIC, wire.VERSION, request_id):
        return None
    return kind, value


def _send(peer: socket.socket, data: bytes) -> None:
    # What is not sent is as what was lost.
    with contextlib.suppress(OSError):
        peer.send(data)


# ---- time -----------------------------------------------------------------------------------------------


def _left(until: float | None, late: str = TOO_LATE) -> float | None:
    """Seconds until then; raises TimedOut, of this text, where there are none."""
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimedOut(late)
    return left
