"""Metrics over HTTP for Prometheus: GET /metrics, in OpenMetrics where the scraper takes it.

A server of few words on the daemon's own loop: it takes a picture there, which costs as little as the picture
does, and writes it out as text in a thread. It reads no more than a request's head, serves few at a time, and
gives each so many seconds in all, so that nobody holds it up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

PATH: Final = "/metrics"
MOST_CONNECTIONS: Final = 8
DEADLINE_S: Final = 10.0
LONGEST_HEAD_BYTES: Final = 8192

# A picture is taken on the loop; what it gives is made into metrics in a thread.
Picture = Callable[[], "Families"]


class Families(Protocol):
    """A moment's values, which nobody changes any more."""

    def collect(self) -> Iterable[Metric]:
        """As metrics; called in a thread."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: str
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    more: str = ""


class BadRequest(Exception):
    """What came is no request that could be answered."""


class MetricsServer:
    """Serves on one address. `address` is where, once `open` has returned."""

    def __init__(self, picture: Picture) -> None:
        self.address = ""
        self._picture = picture
        self._server: asyncio.Server | None = None
        self._open = 0
        self._serving: set[asyncio.Task[None]] = set()

    async def open(self, address: str) -> None:
        """Takes the address (HOST:PORT, port 0 for any) and serves. Raises OSError."""
        host, _, port = address.rpartition(":")
        self._server = await asyncio.start_server(
            self._accept, host.strip("[]"), int(port), limit=LONGEST_HEAD_BYTES
        )
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Serves nobody any more."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._connection(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._serve(reader, writer)
        except (TimeoutError, ConnectionError):
            return  # a scraper that is slow or gone asks again by itself
        finally:
            self._open -= 1
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # it does not read: what it was to get would be kept for ever
            else:
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = ""
        try:
            if self._open > MOST_CONNECTIONS:
                answer = _Answer("503 Service Unavailable", b"too many scrape at once\n")
            else:
                method, path, accept = _parse(await reader.readuntil(b"\r\n\r\n"))
                answer = await self._answer(method, path, accept)
        except (BadRequest, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            answer = _Answer("400 Bad Request", b"no request that is understood here\n")
        head = (
            f"HTTP/1.1 {answer.status}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\n{answer.more}Connection: close\r\n\r\n"
        )
        writer.write(head.encode("ascii") + (b"" if method == "HEAD" else answer.body))
        await writer.drain()

    async def _answer(self, method: str, path: str, accept: str) -> _Answer:
        if method not in ("GET", "HEAD"):
            text = b"metrics are read with GET\n"
            return _Answer("405 Method Not Allowed", text, more="Allow: GET, HEAD\r\n")
        if path.partition("?")[0] != PATH:
            return _Answer("404 Not Found", b"metrics are at /metrics\n")
        families = self._picture()
        body, content_type = await asyncio.to_thread(_text, families, accept)
        return _Answer("200 OK", body, content_type)


class LoopLag:
    """How late the loop is with what is due: the worst of the last minute, in seconds."""

    EVERY_S: Final = 0.25
    _KEPT: Final = 240

    def __init__(self) -> None:
        self._late: list[float] = [0.0] * self._KEPT
        self._next = 0

    @property
    def worst_s(self) -> float:
        """The worst of the last minute."""
        return max(self._late)

    async def watch(self) -> None:
        """Looks until it is cancelled."""
        while True:
            due = time.monotonic() + self.EVERY_S
            await asyncio.sleep(self.EVERY_S)
            self._late[self._next] = max(time.monotonic() - due, 0.0)
            self._next = (self._next + 1) % self._KEPT


def _parse(head: bytes) -> tuple[str, str, str]:
    """Method, path, and what is accepted. Raises BadRequest."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(first)
    accept = ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "accept":
            accept = value.strip()
    return words[0], words[1], accept


def _text(families: Families, accept: str) -> tuple[bytes, str]:
    try:
        encode, content_type = choose_encoder(accept)
    except ValueError:  # a version that is none
        encode, content_type = choose_encoder("")
    return encode(families), content_type
