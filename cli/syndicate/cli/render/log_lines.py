"""Cuts the pieces of tasks' outputs into lines, and labels them. No clock, no connection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from syndicate.cli.render.neutralise import neutralise
from syndicate.cli.render.quantities import bytes_text
from syndicate.v1.common_pb2 import Stamp
from syndicate.v1.scheduler_pb2 import ReadLogsResponse

MAX_LINE_BYTES = 16 * 1024
"""A line longer than this is shown in parts: a job may write gigabytes without a newline."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a task's output, fit for display."""

    task: str
    at: Stamp
    """On the manager's clock."""
    text: str
    is_note: bool = False
    """True for a line about the log, for instance of dropped bytes, that the task did not write."""


@dataclass(slots=True)
class _Open:
    """A line that has not ended yet."""

    at: Stamp
    data: bytearray = field(default_factory=bytearray)


class LineCutter:
    """Takes pieces, gives whole lines. Each stream of each generation of a task is cut by itself."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int, int], _Open] = {}

    def feed(self, answer: ReadLogsResponse) -> Iterator[LogLine]:
        """The lines that end in this piece."""
        key = (answer.task, answer.generation, answer.piece.stream)
        if answer.piece.dropped_before:
            yield from self._close(key)
            dropped = bytes_text(answer.piece.dropped_before)
            note = f"({dropped} of output dropped here: the log keeps its beginning and its end)"
            yield LogLine(answer.task, answer.at, note, is_note=True)
        *whole, rest = answer.piece.data.split(b"\n")
        for part in whole:
            pending = self._open.pop(key, None)
            at, data = (pending.at, bytes(pending.data) + part) if pending else (answer.at, part)
            yield from _line(answer.task, at, data)
        if rest:
            pending = self._open.setdefault(key, _Open(answer.at))
            pending.data += rest
            while len(pending.data) > MAX_LINE_BYTES:
                yield from _line(answer.task, pending.at, bytes(pending.data[:MAX_LINE_BYTES]))
                del pending.data[:MAX_LINE_BYTES]

    def rest(self) -> Iterator[LogLine]:
        """The lines that never ended."""
        for key in list(self._open):
            yield from self._close(key)

    def _close(self, key: tuple[str, int, int]) -> Iterator[LogLine]:
        pending = self._open.pop(key, None)
        if pending is not None and pending.data:
            yield from _line(key[0], pending.at, bytes(pending.data))


def _line(task: str, at: Stamp, data: bytes) -> Iterator[LogLine]:
    for start in range(0, max(1, len(data)), MAX_LINE_BYTES):
        yield LogLine(task, at, neutralise(data[start : start + MAX_LINE_BYTES]))
