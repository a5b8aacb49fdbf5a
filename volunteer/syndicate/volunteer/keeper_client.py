"""The volunteer's side of the keeper's socket: requests with answers, and the events in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from . import frames
from .frame_protocol import FrameProtocol
from .local import Event, EventFrame, Frame, Reply, ReplyFrame, Request, RequestFrame

_MAX_UNSENT_BYTES = 16 << 20  # a keeper that reads nothing is not worth waiting for


class KeeperGone(ConnectionError):
    """The connection to the keeper ended; connect again and send Sync. One line that says why."""


class KeeperClient(FrameProtocol):
    """One connection to a keeper; used on one loop. Making a new one after KeeperGone is the caller's.

    `told` gets each event and `send` hands each answer over, in the order in which the keeper sent them.
    """

    def __init__(self, told: Callable[[Event], None]) -> None:
        super().__init__()
        self._told = told
        self._number = 0
        self._waiting: dict[int, Callable[[Reply], None]] = {}
        # What is asked in one turn of the loop goes out and is begun together: what kills begin takes all
        # processors for milliseconds, in which the next would wait.
        self._unsent: list[bytes] = []
        self._why = ""
        self._failure: Exception | None = None  # of `told` or `answered`: no fault of the keeper's
        self._gone: asyncio.Future[KeeperGone] = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(
        cls, path: Path, told: Callable[[Event], None] = lambda event: None, timeout: float = 5.0
    ) -> KeeperClient:
        """Connect to the socket at `path`; raises KeeperGone if nobody answers there within `timeout` s."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, client = await loop.create_unix_connection(lambda: cls(told), str(path))
        except (OSError, TimeoutError) as error:
            raise KeeperGone(f"no keeper at {path}: {error or 'no answer'}") from error
        return client

    async def __aenter__(self) -> KeeperClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def send(self, request: Request, answered: Callable[[Reply], None]) -> None:
        """Ask; the answer, `Refused` included, is handed over when it comes: never where the connection ends.

        Raises KeeperGone.
        """
        if self._gone.done():
            raise KeeperGone(str(self._gone.result()))
        self._number += 1
        self._waiting[self._number] = answered
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsent.append(frames.encode(RequestFrame(self._number, request)))

    def flush(self) -> None:
        """What was asked goes out now, rather than behind whatever else this turn of the loop has to do."""
        if not self._unsent:
            return
        self.transport.write(b"".join(self._unsent))
        self._unsent.clear()
        if self.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self._break("the keeper does not read")

    async def request(self, request: Request, timeout: float) -> Reply:
        """The keeper's answer, `Refused` included; raises KeeperGone, or TimeoutError after `timeout` s.

        After a TimeoutError the request may still be done: send it again, or Sync.
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answered(reply: Reply) -> None:
            if not answer.done():
                answer.set_result(reply)

        self.send(request, answered)
        ends: tuple[asyncio.Future[Any], ...] = (answer, self._gone)
        async with asyncio.timeout(timeout):
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise KeeperGone(str(self._gone.result()))

    async def gone(self) -> KeeperGone:
        """Why the connection ended, once it has; raises what `told` or an `answered` raised."""
        return await asyncio.shield(self._gone)

    async def close(self) -> None:
        """End the connection; requests that wait raise KeeperGone. Idempotent."""
        self._break("the connection was closed")
        await self.gone()

    # ---- for the loop

    def took(self, frame: Frame) -> None:
        """Hand an answer or an event over."""
        try:
            match frame:
                case ReplyFrame(number, reply):
                    answered = self._waiting.pop(number, None)
                    if answered is not None:
                        answered(reply)
                case EventFrame(event):
                    self._told(event)
                case RequestFrame():
                    self._break("the keeper sent a request")
        except Exception as error:  # noqa: BLE001 - it is raised by `gone`, to who owns the connection
            self._failure = self._failure or error
            self._break(f"what it said could not be handled: {error}")

    def malformed(self, error: frames.FrameError) -> None:
        """The peer is no keeper that this volunteer understands."""
        self._break(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._waiting.clear()
        if self._gone.done():
            return
        if self._failure is None:
            self._gone.set_result(KeeperGone(self._why or str(exc or "the keeper closed the connection")))
        else:
            self._gone.set_exception(self._failure)

    def _break(self, why: str) -> None:
        self._why = self._why or why
        self.transport.abort()


__all__ = ["KeeperClient", "KeeperGone"]
