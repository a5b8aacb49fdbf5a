"""The socket: who may connect, requests in, answers and events out."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from .. import frames
from ..frame_protocol import FrameProtocol
from ..local import (
    Audit,
    ErrorCode,
    Event,
    EventFrame,
    Frame,
    Refused,
    Renew,
    Reply,
    ReplyFrame,
    Request,
    RequestFrame,
    SetNetwork,
    Sync,
)
from .errors import KeeperError, one_line
from .log import Log

_MAX_UNSENT_BYTES = 16 << 20  # several of the largest frames; a volunteer that reads nothing is dropped
_MAX_CONNECTIONS = 16  # the volunteer's, the one it replaces, and people's audits
# Requests of the volunteer under way; more wait unread in the socket, a Renew among them: so there is room
# for more than a volunteer ever asks of its slots at once.
_MAX_AT_ONCE = 128
_MAX_AT_ONCE_PER_SLOT = 16
_WAITING = 128  # connections that are not taken in yet; a connect beyond them waits
_LONGEST_REQUEST = 2 << 20  # a SetNetwork about ten thousand members; a Prepare with as many has half of it
_LONGEST_FIRST = 4096  # Sync, Audit: before it a connection is anybody's who may open one
_CREDENTIALS = struct.Struct("3i")

Answer = Callable[[Request], Awaitable[Reply]]
AtOnce = Callable[[Sequence[SetNetwork]], list[Reply] | None]


class Connection(FrameProtocol):
    """One peer's connection: the volunteer's, or that of a person's audit."""

    def __init__(self, server: Server, tasks: asyncio.TaskGroup) -> None:
        super().__init__()
        self.longest = _LONGEST_FIRST
        self._server = server
        self._tasks = tasks
        self._is_volunteer = False
        self._under_way = 0
        self._changes: list[tuple[int, SetNetwork]] = []  # of this read, by their numbers
        self._unsent: list[bytes] = []  # of this turn of the loop: it goes out in one write
        self.synced = False  # events are told after the first Synced only: it tells what was before

    def send(self, frame: ReplyFrame | EventFrame) -> None:
        """Send a frame; the connection is dropped if too much waits to be read."""
        if self.transport.is_closing():
            return
        try:
            data = frames.encode(frame)
        except frames.FrameError as error:
            if not isinstance(frame, ReplyFrame):
                raise
            self._server.log.error("reply.not_sent", detail=str(error))
            detail = one_line(f"the answer cannot be told: {error}")
            data = frames.encode(ReplyFrame(frame.number, Refused(ErrorCode.FAILED, detail)))
        self._unsent.append(data)
        if isinstance(frame, ReplyFrame) and not self._under_way:
            self._flush()  # no other answer is on its way that could go with it
        elif len(self._unsent) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if not self._unsent or self.transport.is_closing():
            return
        self.transport.write(b"".join(self._unsent))
        self._unsent.clear()
        if self.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self._server.log.warning("connection.dropped", reason="the volunteer does not read")
            self.drop()

    @property
    def idle(self) -> bool:
        """Whether nobody would miss it: not the volunteer's, and nothing is under way."""
        return not self._is_volunteer and not self._under_way

    @property
    def _most_at_once(self) -> int:
        return self._server.most_at_once if self._is_volunteer else 1

    def drop(self) -> None:
        """Close at once, without sending what waits."""
        self.transport.abort()

    # ---- for the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        why = self._server.admit(self, _peer_uid(transport))
        if why:
            self._server.log.warning("connection.refused", reason=why)
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. The volunteer went away; its tasks, and what it asked for, go on."""
        self._server.forget(self)
        if exc is not None and not isinstance(exc, OSError):
            self._tasks.create_task(_raise(exc))  # one of this code's own: the keeper ends with it, loudly

    def took(self, frame: Frame) -> None:
        """Have a request answered in a task of its own; changes of networks wait for the end of the read."""
        if not isinstance(frame, RequestFrame):
            raise frames.FrameError("only requests are taken here")
        if isinstance(frame.request, Sync):
            self._is_volunteer = True
            self.longest = _LONGEST_REQUEST
            self._server.activate(self)
        elif not self._is_volunteer and not isinstance(frame.request, Audit):
            raise frames.FrameError("the first request must be Sync, or Audit")
        if not isinstance(frame.request, SetNetwork):
            self._change_networks(at_once=False)  # those before it
        if _counts(frame.request):
            self._under_way += 1
        if self._under_way >= self._most_at_once:
            self.pause()
        if isinstance(frame.request, SetNetwork):
            self._changes.append((frame.number, frame.request))
        else:
            self._tasks.create_task(self._handle(frame.number, frame.request))

    def read_ended(self) -> None:
        """See FrameProtocol."""
        self._change_networks(at_once=True)

    def _change_networks(self, at_once: bool) -> None:
        """Have the networks changed as this read asks: at once where nothing is before that, else in tasks.

        Who asks for a cut waits for every step, and a task takes several. But once in a read: each holds the
        loop up.
        """
        if not self._changes:
            return
        changes, self._changes = self._changes, []
        replies = None
        if at_once and self._under_way == len(changes):
            try:
                replies = self._server.at_once([request for _, request in changes])
            except Exception as error:  # noqa: BLE001 - this code's own: the keeper ends with it, as of a task
                self._tasks.create_task(_raise(error))
                return
        if replies is None:
            for number, request in changes:
                self._tasks.create_task(self._handle(number, request))
        else:
            for (number, request), reply in zip(changes, replies, strict=True):
                self._answered(number, request, reply)

    def malformed(self, error: frames.FrameError) -> None:
        """Say what is wrong, and end the connection."""
        self._server.log.warning("connection.malformed", detail=str(error))
        self.send(ReplyFrame(error.number or 0, Refused(ErrorCode.MALFORMED, one_line(str(error)))))
        self._flush()
        self.transport.close()

    async def _handle(self, number: int, request: Request) -> None:
        try:
            reply = await self._server.answer(request)
        except KeeperError as error:
            reply = error.refused()
        self._answered(number, request, reply)

    def _answered(self, number: int, request: Request, reply: Reply) -> None:
        if _counts(request):
            self._under_way -= 1
        self.send(ReplyFrame(number, reply))
        if isinstance(request, Sync):
            self.synced = True
        if self._under_way < self._most_at_once:
            self.resume()


class Server:
    """Listens at `path`; the newest connection that syncs gets the events and replaces an older one.

    A connection that only audits, as a person's command does, disturbs nobody. What `at_once` answers needs
    no task; it says None where anything has to be waited for, and then has done nothing.
    """

    def __init__(
        self,
        path: Path,
        volunteer_uid: int,
        volunteer_gid: int,
        slots: int,
        answer: Answer,
        at_once: AtOnce,
        log: Log,
    ) -> None:
        self.answer = answer
        self.at_once = at_once
        self.log = log
        self.most_at_once = _MAX_AT_ONCE + _MAX_AT_ONCE_PER_SLOT * slots
        self._path = path
        self._uid = volunteer_uid
        self._gid = volunteer_gid
        self._active: Connection | None = None
        self._open: dict[Connection, None] = {}  # the oldest first
        self._server: asyncio.Server | None = None

    async def open(self, tasks: asyncio.TaskGroup) -> None:
        """Listen; requests are answered in `tasks`. Raises OSError."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._path))
        os.chown(self._path, 0, self._gid)
        self._path.chmod(0o660)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: Connection(self, tasks), sock=listener, backlog=_WAITING
        )

    def admit(self, connection: Connection, uid: int) -> str:
        """Take a connection of this user in, or say why not.

        Where there are too many it takes the place of the oldest one that only stands about: connections
        that say nothing keep nobody out.
        """
        if uid not in (0, self._uid):
            return f"uid {uid} is neither the volunteer's nor root's"
        if len(self._open) >= _MAX_CONNECTIONS:
            oldest = next((each for each in self._open if each.idle), None)
            if oldest is None:
                return "too many connections"
            del self._open[oldest]
            oldest.drop()
        self._open[connection] = None
        return ""

    def forget(self, connection: Connection) -> None:
        """A connection is over."""
        self._open.pop(connection, None)
        if self._active is connection:
            self._active = None

    def activate(self, connection: Connection) -> None:
        """The volunteer speaks here from now on."""
        if self._active is not None and self._active is not connection:
            self._active.drop()
        self._active = connection

    def tell(self, event: Event) -> None:
        """Send an event to the volunteer, if one is there; else it is in the next Synced."""
        if self._active is not None and self._active.synced:
            self._active.send(EventFrame(event))

    async def close(self) -> None:
        """Stop listening and end the connection."""
        if self._server is not None:
            self._server.close()
        for connection in self._open:
            connection.drop()
        self._path.unlink(missing_ok=True)


def _counts(request: Request) -> bool:
    """Whether it may take time; a Renew is answered at once."""
    return not isinstance(request, Renew)


async def _raise(error: Exception) -> None:
    raise error


def _peer_uid(transport: asyncio.BaseTransport) -> int:
    link: socket.socket = transport.get_extra_info("socket")
    _, uid, _ = _CREDENTIALS.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
