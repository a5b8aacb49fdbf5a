"""Merges the logs of several tasks by time."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path

from syndicate.v1 import scheduler_pb2

from .files import Cursor, read_dropped


class LogReader:
    """Reads log files side by side. Owns their handles until `close`. Its methods block."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._cursors = [Cursor(path) for path in paths]
        self._heads: list[tuple[int, int, scheduler_pb2.ReadLogsResponse]] = []
        self._without_head = set(range(len(paths)))

    def next_batch(self, max_bytes: int = 512 << 10) -> list[scheduler_pb2.ReadLogsResponse]:
        """What is stored and was not read yet, oldest first; at most about `max_bytes`. Empty: nothing yet.

        Each task's pieces keep their order; between tasks the manager's clock decides. UTC does for that:
        what is merged may span several boots of the manager, between which no other clock goes on.
        """
        batch: list[scheduler_pb2.ReadLogsResponse] = []
        size = 0
        for index in list(self._without_head):
            self._advance(index)
        while self._heads and size < max_bytes:
            _, index, entry = heapq.heappop(self._heads)
            batch.append(entry)
            size += len(entry.piece.data)
            self._advance(index)
        return batch

    def dropped(self) -> list[scheduler_pb2.ReadLogsResponse]:
        """For each task whose log reached its cap: an entry without data that tells how much is missing."""
        return [entry for path in self._paths if (entry := read_dropped(path)) is not None]

    def close(self) -> None:
        """Let go of the files."""
        for cursor in self._cursors:
            cursor.close()

    def _advance(self, index: int) -> None:
        entry = self._cursors[index].next()
        if entry is None:
            self._without_head.add(index)
        else:
            self._without_head.discard(index)
            heapq.heappush(self._heads, (entry.at.utc_ns, index, entry))
