"""The volunteer's side of the keeper's socket: requests with answers, and the events in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType

from . import frames
from .local import Event, EventFrame, Reply, ReplyFrame, Request, RequestFrame

_MAX_EVENTS = 4096


class KeeperGone(ConnectionError):
    """The connection to the keeper ended; connect again and send Sync. One line that says why."""


class KeeperClient:
    """One connection to a keeper; used on one loop. Making a new one after KeeperGone is the caller's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(_MAX_EVENTS)
        self._gone: KeeperGone | None = None
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, path: Path, timeout: float = 5.0) -> KeeperClient:
        """Connect to the socket at `path`; raises KeeperGone if nobody answers there within `timeout` s."""
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_unix_connection(path)
        except (OSError, TimeoutError) as error:
            raise KeeperGone(f"no keeper at {path}: {error or 'no answer'}") from error
        return cls(reader, writer)

    async def __aenter__(self) -> KeeperClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def request(self, request: Request, timeout: float) -> Reply:
        """The keeper's answer, `Refused` included; raises KeeperGone, or TimeoutError after `timeout` s.

        After a TimeoutError the request may still be done: send it again, or Sync.
        """
        if self._gone is not None:
            raise KeeperGone(str(self._gone))
        self._number += 1
        number = self._number
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(frames.encode(RequestFrame(number, request)))
                await self._writer.drain()
                return await answer
        except ConnectionError as error:
            raise KeeperGone(f"the keeper is gone: {error}") from error
        finally:
            del self._waiting[number]

    async def events(self) -> AsyncIterator[Event]:
        """Events as they come, until the connection ends; for one reader.

        At most 4,096 wait; with one more the connection is ended: what was missed is in the next Synced.
        """
        while True:
            event = await self._events.get()
            if event is None:
                return
            yield event

    async def close(self) -> None:
        """End the connection; requests that wait raise KeeperGone. Idempotent."""
        self._reading.cancel()
        await asyncio.wait({self._reading})
        self._writer.close()

    async def _read(self) -> None:
        why = "the connection was closed"
        try:
            while True:
                prefix = await self._reader.readexactly(frames.PREFIX_BYTES)
                self._take(frames.decode(await self._reader.readexactly(frames.body_length(prefix))))
        except asyncio.IncompleteReadError:
            why = "the keeper closed the connection"
        except (ConnectionError, frames.FrameError, asyncio.QueueFull) as error:
            why = str(error) or "more than 4,096 events wait"
        finally:
            self._end(KeeperGone(why))

    def _take(self, frame: object) -> None:
        match frame:
            case ReplyFrame(number, reply):
                answer = self._waiting.get(number)
                if answer is not None and not answer.done():
                    answer.set_result(reply)
            case EventFrame(event):
                self._events.put_nowait(event)
            case _:
                raise frames.FrameError("the keeper sent a request")

    def _end(self, gone: KeeperGone) -> None:
        self._gone = gone
        self._writer.transport.abort()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(KeeperGone(str(gone)))
        if self._events.full():
            self._events.get_nowait()  # makes room for the end; the rest is told by the next Synced
        self._events.put_nowait(None)


__all__ = ["KeeperClient", "KeeperGone"]
