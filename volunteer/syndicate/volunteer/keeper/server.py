"""The socket: who may connect, requests in, answers and events out."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from .. import frames
from ..local import (
    Audit,
    ErrorCode,
    Event,
    EventFrame,
    Refused,
    Reply,
    ReplyFrame,
    Request,
    RequestFrame,
    Sync,
)
from .errors import KeeperError, one_line

_MAX_UNSENT_BYTES = 16 << 20  # several of the largest frames; a volunteer that reads nothing is dropped
_MAX_CONNECTIONS = 16  # the volunteer's, the one it replaces, and people's audits
_MAX_AT_ONCE = 128  # requests of one connection; more wait unread in the socket
_CREDENTIALS = struct.Struct("3i")

Answer = Callable[[Request], Awaitable[Reply]]
_log = structlog.get_logger("keeper.server")


class Connection:
    """One volunteer's connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Answer,
        activate: Callable[[Connection], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._activate = activate
        self._is_volunteer = False
        self._room = asyncio.Semaphore(_MAX_AT_ONCE)
        self.synced = False  # events are told after the first Synced only: it tells what was before

    def send(self, frame: ReplyFrame | EventFrame) -> None:
        """Send a frame; the connection is dropped if too much waits to be read."""
        if self._writer.is_closing():
            return
        try:
            data = frames.encode(frame)
        except frames.FrameError as error:
            if not isinstance(frame, ReplyFrame):
                raise
            _log.error("reply.not_sent", detail=str(error))
            detail = one_line(f"the answer cannot be told: {error}")
            data = frames.encode(ReplyFrame(frame.number, Refused(ErrorCode.FAILED, detail)))
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            _log.warning("connection.dropped", reason="the volunteer does not read")
            self.drop()

    def drop(self) -> None:
        """Close at once, without sending what waits."""
        self._writer.transport.abort()

    async def serve(self, tasks: asyncio.TaskGroup) -> None:
        """Read requests until the connection ends; each is answered in a task of its own."""
        try:
            while True:
                prefix = await self._reader.readexactly(frames.PREFIX_BYTES)
                body = await self._reader.readexactly(frames.body_length(prefix))
                frame = frames.decode(body)
                if not isinstance(frame, RequestFrame):
                    raise frames.FrameError("only requests are taken here")
                if isinstance(frame.request, Sync):
                    self._is_volunteer = True
                    self._activate(self)
                elif not self._is_volunteer and not isinstance(frame.request, Audit):
                    raise frames.FrameError("the first request must be Sync, or Audit")
                await self._room.acquire()
                tasks.create_task(self._handle(frame))
        except frames.FrameError as error:
            # What follows a frame that is not understood cannot be trusted to be one.
            _log.warning("connection.malformed", detail=str(error))
            self.send(ReplyFrame(error.number or 0, Refused(ErrorCode.MALFORMED, one_line(str(error)))))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the volunteer went away; its tasks go on
        finally:
            self._writer.close()

    async def _handle(self, frame: RequestFrame) -> None:
        try:
            reply = await self._answer(frame.request)
        except KeeperError as error:
            reply = error.refused()
        finally:
            self._room.release()
        self.send(ReplyFrame(frame.number, reply))
        if isinstance(frame.request, Sync):
            self.synced = True


class Server:
    """Listens at `path`; the newest connection that syncs gets the events and replaces an older one.

    A connection that only audits, as a person's command does, disturbs nobody.
    """

    def __init__(self, path: Path, volunteer_uid: int, volunteer_gid: int, answer: Answer) -> None:
        self._path = path
        self._uid = volunteer_uid
        self._gid = volunteer_gid
        self._answer = answer
        self._active: Connection | None = None
        self._open: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def open(self, tasks: asyncio.TaskGroup) -> None:
        """Listen; connections live in `tasks`. Raises OSError."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._path))
        os.chown(self._path, 0, self._gid)
        self._path.chmod(0o660)

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.create_task(self._connected(reader, writer, tasks))

        self._server = await asyncio.start_unix_server(connected, sock=listener, backlog=8)

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tasks: asyncio.TaskGroup
    ) -> None:
        uid = _peer_uid(writer)
        if uid not in (0, self._uid):
            _log.warning("connection.refused", uid=uid)
            writer.transport.abort()
            return
        if len(self._open) >= _MAX_CONNECTIONS:
            _log.warning("connection.refused", reason="too many connections")
            writer.transport.abort()
            return
        connection = Connection(reader, writer, self._answer, self._activate)
        self._open.add(connection)
        try:
            await connection.serve(tasks)
        finally:
            self._open.discard(connection)
            if self._active is connection:
                self._active = None

    def _activate(self, connection: Connection) -> None:
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


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    link: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = _CREDENTIALS.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
