"""The log in memory: entries from index 1, and the latest disk that each member was admitted with."""

from __future__ import annotations

from collections.abc import Iterable

from raftkv.values import Entry


class Log:
    """Entries from index 1 on; index 0 stands for the empty log, of term 0."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: list[Entry] = []
        self._admits: list[tuple[int, str, str]] = []  # index, node, incarnation; in the order of the log
        for entry in entries:
            self.append(entry)

    @property
    def last_index(self) -> int:
        """The index of the last entry; 0 for none."""
        return len(self._entries)

    @property
    def last_term(self) -> int:
        """The term of the last entry; 0 for none."""
        return self.term_at(self.last_index)

    def term_at(self, index: int) -> int:
        """The term of the entry at `index`, which must exist or be 0."""
        return self._entries[index - 1].term if index else 0

    def slice(self, start: int, stop: int) -> tuple[Entry, ...]:
        """The entries from `start` up to and without `stop`."""
        return tuple(self._entries[start - 1 : stop - 1])

    def append(self, entry: Entry) -> int:
        """Adds an entry and returns its index."""
        self._entries.append(entry)
        if entry.body["kind"] == "admit":
            self._admits.append((self.last_index, entry.body["node"], entry.body["incarnation"]))
        return self.last_index

    def truncate(self, first: int) -> None:
        """Drops the entry at `first` and all after it."""
        del self._entries[first - 1 :]
        while self._admits and self._admits[-1][0] >= first:
            self._admits.pop()

    def agrees(self, index: int, term: int) -> bool:
        """Whether the entry at `index` is there and of `term`; then all before it agree too."""
        return index <= self.last_index and self.term_at(index) == term

    def first_of_term(self, index: int) -> int:
        """The lowest index whose entry is of the same term as the one at `index`, in one run."""
        term = self.term_at(index)
        while index > 1 and self.term_at(index - 1) == term:
            index -= 1
        return index

    def last_of_term(self, term: int, below: int) -> int:
        """The highest index under `below` whose entry is of `term`; 0 for none."""
        index = min(below - 1, self.last_index)
        while index and self.term_at(index) > term:
            index -= 1
        return index if index and self.term_at(index) == term else 0

    def admitted(self, node: str) -> tuple[int, str] | None:
        """The latest entry that admits a disk of `node`: its index and the incarnation; None for none."""
        for index, admitted, incarnation in reversed(self._admits):
            if admitted == node:
                return index, incarnation
        return None
