"""Waiters over TCP: one small object for each, and an epoll of their own.

asyncio's transports are not used for them. A transport of one connection takes some kilobytes, and its end
two turns of the loop and a system call more than the end of a socket; measured with ten thousand waiters,
see docs/barriers.md. An epoll is a file that can be waited for itself: the loop waits for this one, and for
the listening socket, as for any other.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from .core import wire
from .core.events import Why

READ_DEADLINE_S: Final = 5.0

_ACCEPTS: Final = 256  # in one turn of the loop
_EVENTS: Final = 1_024
_READ_BYTES: Final = 4_096
_SPARE_BYTES: Final = 65_536  # what may come after a request; the original server reads on, too
_INTEREST: Final = select.EPOLLIN | select.EPOLLRDHUP
_BROKEN: Final = select.EPOLLHUP | select.EPOLLERR
_PAUSE_S: Final = 0.1
# ENOSPC: the user of this process watches as many files as it may, here or in its task.
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC})
# The kernel keeps the answer until the close, and sends both in one packet.
_WITH_THE_END: Final = socket.MSG_MORE | socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_ABORT: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


class Connection:
    """One peer over TCP; the party at its barrier.

    `heard` is what came of its request, None once it is whole; `spare` how many bytes came after it.
    """

    __slots__ = ("heard", "socket", "source", "spare")

    def __init__(self, peer: socket.socket, source: str) -> None:
        self.socket = peer
        self.source = source
        self.heard: bytes | None = b""
        self.spare = 0


class Tcp:
    """Accepts connections, reads their requests, and tells when one ends.

    `arrived` is called with the 76 bytes of a request; it may `release` or `close` the connection at once,
    and must where its last argument says that the peer has ended its side by then.
    `gone` is called when a peer ends a connection whose request came. At most `most` connections stand:
    for a newer one the oldest without a whole request is closed, and where there is none the newer one is,
    and `full` is called with where it came from.
    """

    def __init__(
        self,
        listening: socket.socket,
        most: int,
        arrived: Callable[[Connection, bytes, bool], None],
        gone: Callable[[Connection, Why], None],
        full: Callable[[str], None],
        *,
        read_deadline_s: float = READ_DEADLINE_S,
    ) -> None:
        self._listening = listening
        self._most = most
        self._arrived = arrived
        self._gone = gone
        self._full = full
        self._read_deadline_s = read_deadline_s
        self._epoll = select.epoll()
        self._standing: dict[int, Connection] = {}
        self._idle: dict[Connection, float] = {}  # until when it may be; the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listening, self._accept)
        self._loop.add_reader(self._epoll, self._turn)

    def __len__(self) -> int:
        """How many connections stand."""
        return len(self._standing)

    def release(self, connection: Connection, answer: bytes) -> None:
        """Send the answer and end the connection."""
        # Where the peer ended it first, its answer is nobody's.
        with suppress(OSError):
            connection.socket.send(answer, _WITH_THE_END)
        self.close(connection)

    def close(self, connection: Connection) -> None:
        """End a connection; the kernel takes it out of the epoll."""
        del self._standing[connection.socket.fileno()]
        self._idle.pop(connection, None)
        connection.socket.close()

    def stop(self) -> None:
        """End all connections at once, without waiting for what they have not received."""
        self._loop.remove_reader(self._listening)
        self._loop.remove_reader(self._epoll)
        for timer in (self._timer, self._pause):
            if timer is not None:
                timer.cancel()
        for connection in list(self._standing.values()):
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            self.close(connection)
        self._epoll.close()

    # ---- connections ------------------------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            # Who has left is heard before who comes: it must not be counted at what the other one opens.
            self._turn()
            try:
                peer, (source, _) = self._listening.accept()
                self._take(Connection(peer, source))
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # it was gone again
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._rest()
                return

    def _rest(self) -> None:
        """The machine has no room for a connection now: a loop that asked on would only turn."""
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(_PAUSE_S, self._loop.add_reader, self._listening, self._accept)

    def _take(self, connection: Connection) -> None:
        if len(self._standing) >= self._most:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                connection.socket.close()
                self._full(connection.source)
                return
            self.close(oldest)
        try:
            self._epoll.register(connection.socket, _INTEREST)
        except OSError:
            connection.socket.close()
            raise
        self._standing[connection.socket.fileno()] = connection
        self._idle[connection] = self._loop.time() + self._read_deadline_s
        if self._timer is None:
            self._watch()

    def _turn(self) -> int:
        """Hear what has happened, to _EVENTS connections at most; gives to how many."""
        events = self._epoll.poll(0, _EVENTS)
        asking = []
        for number, event in events:
            connection = self._standing.get(number)
            if connection is None:
                continue  # it was ended earlier in this turn
            if event & _BROKEN or (event & select.EPOLLRDHUP and connection.heard is None):
                # Whatever it has said before: nobody is there any more.
                self._end(connection, Why.LOST if event & select.EPOLLERR else Why.CLOSED)
            else:
                asking.append((connection, bool(event & select.EPOLLRDHUP)))
        for connection, ended in asking:
            if connection.socket.fileno() >= 0:
                self._hear(connection, ended)
        return len(events)

    def _hear(self, connection: Connection, ended: bool) -> None:
        try:
            data = connection.socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._end(connection, Why.LOST)
            return
        if not data:
            self._end(connection, Why.CLOSED)
        elif connection.heard is None:
            self._hear_more(connection, len(data))
        else:
            self._hear_request(connection, connection.heard + data, ended)

    def _hear_request(self, connection: Connection, heard: bytes, ended: bool) -> None:
        if len(heard) < wire.REQUEST.size:
            connection.heard = heard
            if ended:
                self._end(connection, Why.CLOSED)
            return
        connection.heard = None
        connection.spare = len(heard) - wire.REQUEST.size
        del self._idle[connection]
        self._arrived(connection, heard[: wire.REQUEST.size], ended)

    def _hear_more(self, connection: Connection, size: int) -> None:
        connection.spare += size
        if connection.spare > _SPARE_BYTES:
            self._end(connection, Why.CLOSED)

    def _end(self, connection: Connection, why: Why) -> None:
        asked = connection.heard is None
        self.close(connection)
        if asked:
            self._gone(connection, why)

    # ---- the read deadline ------------------------------------------------------------------------------

    def _watch(self) -> None:
        until = next(iter(self._idle.values()), None)
        self._timer = None if until is None else self._loop.call_at(until, self._too_late)

    def _too_late(self) -> None:
        now = self._loop.time()
        # What lies here came in time, however late this process had a processor to look at it: so it is heard
        # first, and who has left before it. What goes on talking must not keep it here for ever.
        for _ in range(len(self._standing) // _EVENTS + 1):
            if self._turn() < _EVENTS:
                break
        for connection, until in list(self._idle.items()):
            if until > now:
                break
            if connection in self._idle:
                self._hear(connection, False)
            if connection in self._idle:
                self.close(connection)
        self._watch()
