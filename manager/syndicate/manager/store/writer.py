"""One thread that makes records durable in groups.

While a group is being committed the next one gathers, so the cost of an fsync is shared by all who wait for
it. What is submitted is committed in order; a group is a prefix of what was waiting. A batch may have
patience: then the group waits so long for one more, until one comes that has none.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

# A row of batches with patience waits no longer than this in all.
LONGEST_WAIT_S: Final = 0.003

# Bounds one transaction, and so how long the first of a group waits for the last.
GROUP_RECORDS: Final = 4096

Row = tuple[Any, ...]

# A row that is to be saved: its table, its key, and all its values.
Saved = tuple[str, Row, Row]

# A batch is one `submit`: its ticket, its records, and how long it can wait. None ends the thread.
_Batch = tuple[int, Sequence[Saved], float]


class GroupWriter:
    """Owns the writer thread. `commit` runs in it, once per group, and returns when the group is durable.

    `done(ticket, records)` and `failed(error)` are called in the thread too: they must hand over by
    themselves. After a failure nothing more is committed. `took(seconds, records)` is told of each commit.
    """

    def __init__(
        self,
        commit: Callable[[list[Saved]], None],
        done: Callable[[int, int], None],
        failed: Callable[[BaseException], None],
        took: Callable[[float, int], None] | None = None,
    ) -> None:
        self._took = took
        self._commit = commit
        self._done = done
        self._failed = failed
        # Unbounded by itself: the loop looks at the number of records that wait before it takes new work.
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, ticket: int, records: Sequence[Saved], patience_s: float = 0.0) -> None:
        """Queue one batch, which can wait so long for others. Costs about a microsecond."""
        self._queue.put((ticket, records, patience_s))

    def finish(self, timeout_s: float) -> bool:
        """Commit what was put, end the thread; blocks. False when it did not end in time."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        last = False
        while not last:
            batch = self._queue.get()
            group: list[Saved] = []
            ticket = 0
            until = began = time.monotonic()
            patient = True
            while batch is not None:
                ticket, records, patience = batch
                group.extend(records)
                patient = patient and patience > 0
                if patient:
                    until = min(time.monotonic() + patience, began + LONGEST_WAIT_S)
                try:
                    if len(group) >= GROUP_RECORDS:
                        break
                    batch = self._next(until if patient else 0.0)
                except queue.Empty:
                    break
            last = batch is None
            if not ticket:
                continue
            begun = time.monotonic()
            try:
                self._commit(group)
            except BaseException as error:  # noqa: BLE001 - whatever it is, nothing may be acknowledged after it
                self._failed(error)
                return
            self._done(ticket, len(group))
            if self._took is not None:
                self._took(time.monotonic() - begun, len(group))

    def _next(self, until: float) -> _Batch | None:
        """One more for the group. Raises queue.Empty where none comes until then."""
        wait_s = until - time.monotonic() if until else 0.0
        return self._queue.get(timeout=wait_s) if wait_s > 0 else self._queue.get_nowait()
