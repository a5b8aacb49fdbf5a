"""One thread that makes records durable in groups.

While a group is being committed the next one gathers, so the cost of an fsync is shared by all who wait for
it. What is submitted is committed in order; a group is a prefix of what was waiting.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from ..core.records import Record

# Where so many came together they come from many callers, and more are on their way: then the next group is
# given this long to gather. It costs a caller a millisecond at most and saves a fifth of the processor time
# of each submission; who is alone never waits. (PostgreSQL's commit_delay and commit_siblings.)
CROWD: Final = 8
GATHER_S: Final = 0.001

# Bounds one transaction, and so how long the first of a group waits for the last.
GROUP_RECORDS: Final = 4096

# A batch is one `submit`: its ticket and its records. None ends the thread.
_Batch = tuple[int, Sequence[Record]]


class GroupWriter:
    """Owns the writer thread. `commit` runs in it, once per group, and returns when the group is durable.

    `done(ticket, records)` and `failed(error)` are called in the thread too: they must hand over by
    themselves. After a failure nothing more is committed.
    """

    def __init__(
        self,
        commit: Callable[[list[Record]], None],
        done: Callable[[int, int], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._commit = commit
        self._done = done
        self._failed = failed
        # Unbounded by itself: the loop looks at the number of records that wait before it takes new work.
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, ticket: int, records: Sequence[Record]) -> None:
        """Queue one batch. Costs about a microsecond."""
        self._queue.put((ticket, records))

    def finish(self, timeout_s: float) -> bool:
        """Commit what was put, end the thread; blocks. False when it did not end in time."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        last = False
        while not last:
            batch = self._queue.get()
            group: list[Record] = []
            ticket = batches = 0
            while batch is not None:
                ticket, records = batch
                group.extend(records)
                batches += 1
                if len(group) >= GROUP_RECORDS or self._queue.empty():
                    break
                batch = self._queue.get()
            last = batch is None
            if not ticket:
                continue
            try:
                self._commit(group)
            except BaseException as error:  # noqa: BLE001 - whatever it is, nothing may be acknowledged after it
                self._failed(error)
                return
            self._done(ticket, len(group))
            if batches >= CROWD and not last:
                time.sleep(GATHER_S)
