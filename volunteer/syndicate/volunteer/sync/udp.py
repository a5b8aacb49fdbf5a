"""Waiters over UDP: the socket and the clock around `core.sessions`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from .core.effects import Room
from .core.events import Why
from .core.sessions import Garbage, Join, Leave, Send, Session, SessionEffect, Sessions
from .core.wire import Request

_PACKETS: Final = 256  # in one turn of the loop
_PACKET_BYTES: Final = 128  # one byte more than a request tells that it is none


class Udp:
    """Reads packets and sends answers. What it is given to call is as Tcp's, and `garbage` besides."""

    def __init__(
        self,
        bound: socket.socket,
        sessions: Sessions,
        arrived: Callable[[Session, str, Request], None],
        gone: Callable[[Session, Why], None],
        garbage: Callable[[str, str, Room | None], None],
    ) -> None:
        self._socket = bound
        self._sessions = sessions
        self._arrived = arrived
        self._gone = gone
        self._garbage = garbage
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(bound, self._turn)

    def release(self, session: Session, value: int) -> None:
        """Answer a session, now and until it has the answer."""
        self._perform(self._sessions.answered(session, value, self._loop.time()))
        self._watch()

    def stop(self) -> None:
        """Hear and say no more."""
        self._loop.remove_reader(self._socket)
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        now = self._loop.time()
        for _ in range(_PACKETS):
            try:
                data, peer = self._socket.recvfrom(_PACKET_BYTES)
            except BlockingIOError:
                break
            except ConnectionError:
                continue  # the kernel tells that some peer's port is closed; its silence tells the same
            self._perform(self._sessions.received(peer, data, now))
        self._watch()

    def _tick(self) -> None:
        self._timer = None
        # Not as a list: tick goes on when what it yielded last was performed.
        self._perform(self._sessions.tick(self._loop.time()))
        self._watch()

    def _watch(self) -> None:
        due = self._sessions.next_due()
        if self._timer is not None:
            if due is not None and self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = None if due is None else self._loop.call_at(due, self._tick)

    def _perform(self, effects: Iterable[SessionEffect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, data):
                    self._send(peer, data)
                case Join(session, request):
                    self._arrived(session, session.peer[0], request)
                case Leave(session, why):
                    self._gone(session, why)
                case Garbage(peer, why, room):
                    self._garbage(peer[0], why, room)

    def _send(self, peer: tuple[str, int], data: bytes) -> None:
        # A packet that is not sent is a packet that is lost: what matters is sent again.
        with suppress(OSError):
            self._socket.sendto(data, peer)
