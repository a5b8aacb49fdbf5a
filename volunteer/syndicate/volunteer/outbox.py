"""What waits to be written to one stream: two bounded lanes, answers before logs.

gRPC allows one write at a time on a stream, so one writer empties both. Answers, events and heartbeats go
first: a task that writes much cannot delay the answer to a fault.
"""

from __future__ import annotations

import asyncio
from collections import deque

from syndicate.v1 import registry_pb2 as pb

MAX_WAITING = 10_000
MAX_LOG_CHUNKS = 8
MAX_ANSWERS = 32  # in one message


class OutboxFull(Exception):
    """The peer has not read for so long that the stream is worth nothing any more."""


class Outbox:
    """The two lanes of one stream; used on one loop."""

    def __init__(self, max_waiting: int = MAX_WAITING, max_log_chunks: int = MAX_LOG_CHUNKS) -> None:
        self._max_waiting = max_waiting
        self._max_log_chunks = max_log_chunks
        self._first: deque[pb.AttachRequest] = deque()
        self._logs: deque[pb.AttachRequest] = deque()
        self._idle: asyncio.Future[None] | None = None  # of `get`, while there is nothing
        self._room = asyncio.Event()
        self._room.set()
        self.closed = False

    def put(self, message: pb.AttachRequest) -> None:
        """Queues a message in front of all logs. Raises OutboxFull; dropped where the stream has ended."""
        if self.closed:
            return
        if len(self._first) >= self._max_waiting:
            raise OutboxFull(f"{len(self._first):,} messages wait unread")
        self._first.append(message)
        self._wake()

    async def put_log(self, message: pb.AttachRequest) -> bool:
        """Queues a piece of log when there is room; False where the stream has ended."""
        while len(self._logs) >= self._max_log_chunks and not self.closed:
            self._room.clear()
            await self._room.wait()
        if self.closed:
            return False
        self._logs.append(message)
        self._wake()
        return True

    async def get(self) -> pb.AttachRequest:
        """The next message, when there is one."""
        while not self._first and not self._logs:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        if self._first:
            first = self._first.popleft()
            # Each write costs the stream its turn: what is ready goes together.
            while first.answers.answers and self._first and self._first[0].HasField("answers"):
                if len(first.answers.answers) >= MAX_ANSWERS:
                    break
                first.answers.answers.extend(self._first.popleft().answers.answers)
            return first
        self._room.set()
        return self._logs.popleft()

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def close(self) -> None:
        """The stream has ended: what waits is dropped, who waits is woken."""
        self.closed = True
        self._first.clear()
        self._logs.clear()
        self._room.set()
