"""Merges several blocking streams into one, in the order in which their items arrive."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

QUEUE_ITEMS = 256
"""A reader that is slower than its streams makes them wait: gRPC's flow control then slows the manager."""
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a stream, or its end."""

    stream: str
    value: Any = None
    ended: bool = False
    error: Exception | None = None


class Merged:
    """Runs each stream in a thread of its own while its ``with`` block lasts.

    Leaving the block asks the threads to stop and does not wait for one that hangs in a call: it ends when
    the connection is closed.
    """

    def __init__(self, streams: Mapping[str, Callable[[], Iterator[Any]]]) -> None:
        self._queue: queue.Queue[Item] = queue.Queue(QUEUE_ITEMS)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._pump, args=(name, make), name=name, daemon=True)
            for name, make in streams.items()
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()

    def next(self, timeout: float | None = None) -> Item | None:
        """The next item of any stream; None when none came in ``timeout`` seconds."""
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    def _pump(self, name: str, make: Callable[[], Iterator[Any]]) -> None:
        try:
            for value in make():
                if not self._put(Item(name, value)):
                    return
        except Exception as error:  # noqa: BLE001 - carried to the reader, which raises it
            self._put(Item(name, ended=True, error=error))
        else:
            self._put(Item(name, ended=True))

    def _put(self, item: Item) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False
