"""Answers that were given, so that a command repeated is answered and not done again."""

from __future__ import annotations

from collections import OrderedDict

from .model import Answer
from .state import Waiting

Key = tuple[str, str]
"""Cluster and command id: ids are unique in their cluster only."""


class AnswerBook:
    """The last `limit` answers, and the commands that are not answered yet.

    Beyond the limit the oldest answer is forgotten. A command repeated after that is taken for a new one, and
    the state of its slot answers for it: a start that was made is not made again, because its generation was;
    a task that was released is not held; a slot that is reserved once more for nobody lapses.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._given: OrderedDict[Key, Answer] = OrderedDict()
        self._open: dict[Key, Waiting] = {}

    def given(self, key: Key) -> Answer | None:
        """The answer that a command got."""
        return self._given.get(key)

    def opened(self, key: Key) -> Waiting | None:
        """The command, where it was taken and not answered yet."""
        return self._open.get(key)

    def open(self, key: Key, waiting: Waiting) -> None:
        """A command was taken."""
        self._open[key] = waiting

    def close(self, key: Key, answer: Answer) -> None:
        """A command was answered."""
        self._open.pop(key, None)
        self._given[key] = answer
        if len(self._given) > self._limit:
            self._given.popitem(last=False)

    def __len__(self) -> int:
        return len(self._given)

    def open_commands(self) -> list[Waiting]:
        """All that are not answered yet."""
        return list(self._open.values())
