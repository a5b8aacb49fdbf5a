"""The owner of a server: whoever started it hears JSON lines of what happens, and may ask.

Both over one Unix stream socket. The server tells `ready` first, then each notice with `at_ns`
(CLOCK_BOOTTIME). It may be asked `{"ask": "list"}`, which is answered by one `list`;
`{"ask": "members", "members": {IP: TASK}}`, which names the tasks from then on and is answered by `members`;
and `{"ask": "drop"}`, answered by the `dropped` of each barrier, or of the one alone that `"barrier"` names,
and then by one `drop`, which says how many these were and bears the `"number"` of the question.
It ends when the owner ends the connection.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Final

from .notices import Document

BACKLOG_BYTES: Final = 1 << 20
_READ_BYTES: Final = 4_096
_LINE_BYTES: Final = 65_536  # a thousand members in one line


class Owner:
    """Tells the owner, without ever waiting for it: what it does not read in time is counted, not kept."""

    def __init__(
        self, link: socket.socket, asked: Callable[[Document], Document], left: Callable[[], None]
    ) -> None:
        self._link = link
        self._asked = asked
        self._left = left
        self._backlog = bytearray()
        self._unread = bytearray()
        self._lost = 0
        self._loop = asyncio.get_running_loop()
        link.setblocking(False)
        self._loop.add_reader(link, self._hear)

    def tell(self, document: Document) -> None:
        """Send one line, or count it as lost where a mebibyte waits to be read."""
        if len(self._backlog) >= BACKLOG_BYTES:
            self._lost += 1
            return
        waiting = bool(self._backlog)
        self._backlog += _line(document)
        if not waiting:
            self._write()

    def stop(self) -> None:
        """Say no more."""
        self._loop.remove_reader(self._link)
        self._loop.remove_writer(self._link)
        self._link.close()

    def _write(self) -> None:
        try:
            sent = self._link.send(self._backlog)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._left()
            return
        del self._backlog[:sent]
        if self._lost and not self._backlog:
            lost, self._lost = self._lost, 0
            self._backlog += _line({"event": "lost", "lines": lost})
        if self._backlog:
            self._loop.add_writer(self._link, self._write)
        else:
            self._loop.remove_writer(self._link)

    def _hear(self) -> None:
        try:
            data = self._link.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._unread += data
        if not data or len(self._unread) > _LINE_BYTES:
            self._loop.remove_reader(self._link)
            self._left()
            return
        *lines, rest = self._unread.split(b"\n")
        self._unread = bytearray(rest)
        for line in lines:
            self._answer(bytes(line))

    def _answer(self, line: bytes) -> None:
        try:
            ask = json.loads(line)
        except ValueError:  # also of bytes that are no text
            ask = None
        self.tell(self._asked(ask if isinstance(ask, dict) else {}))


def _line(document: Document) -> bytes:
    stamped = {**document, "at_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME)}
    return json.dumps(stamped, separators=(",", ":")).encode() + b"\n"
