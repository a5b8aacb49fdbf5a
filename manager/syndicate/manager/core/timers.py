"""Deadlines by name: one due time for each key, the next one at hand.

A heap that forgets lazily: setting a key again leaves the old entry behind, and it is skipped when it comes
up.
"""

from __future__ import annotations

import heapq

# ("job", id), ("node", "forget" or "resend", volunteer id), ("slot", volunteer id, number), ("fault", number)
# of what was asked for, ("lease", job id, line of the ledger), ("replay", job id), ("audit",) and
# ("drop", job id, command id)
TimerKey = tuple[str | int, ...]


class Timers:
    """Which deadline comes next."""

    def __init__(self) -> None:
        self._due: dict[TimerKey, int] = {}
        self._heap: list[tuple[int, int, TimerKey]] = []
        self._count = 0

    def set(self, key: TimerKey, due_ns: int) -> None:
        """Let the key come due at `due_ns`, and at no other time."""
        if self._due.get(key) == due_ns:
            return
        self._due[key] = due_ns
        self._count += 1
        heapq.heappush(self._heap, (due_ns, self._count, key))
        if len(self._heap) > 2 * len(self._due) + 1000:
            self._compact()

    def cancel(self, key: TimerKey) -> None:
        """Forget the key."""
        self._due.pop(key, None)

    def is_set(self, key: TimerKey) -> bool:
        """Whether the key will come due."""
        return key in self._due

    def next(self) -> int | None:
        """When the next key is due."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due:
                return due
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now_ns: int) -> list[TimerKey]:
        """The keys that are due by now, earliest first; they are forgotten."""
        keys: list[TimerKey] = []
        while (due := self.next()) is not None and due <= now_ns:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            keys.append(key)
        return keys

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)
