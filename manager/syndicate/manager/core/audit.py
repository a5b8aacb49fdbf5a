"""What goes into the audit log of calls that are denied: a flood of them makes few lines.

Denials of one kind are those of one caller from one host to one method for one reason. The first is told at
once; the others of the next minute are counted, and told in one line when it is over. So a kind makes two
lines a minute at most. Beyond `MOST_KINDS` at a time, all further ones are one kind together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from .user_events import Audited

WINDOW_NS: Final = 60 * 1_000_000_000
MOST_KINDS: Final = 256
_OTHERS: Final = Audited("", "", "", "", "", False, "")

_Kind = tuple[str, str, str, str, str]


@dataclass(slots=True)
class _Seen:
    """A kind of denial: when its window is over, and what was not told since it began."""

    until_ns: int
    last: Audited
    untold: int = 0


class Denials:
    """The denials of the last minute."""

    def __init__(self) -> None:
        self._seen: dict[_Kind, _Seen] = {}

    def note(self, denial: Audited, now_ns: int) -> list[Audited]:
        """A call was denied; what is to be written now."""
        lines = self.due(now_ns)
        kind = (denial.who, denial.token_id, denial.peer, denial.method, denial.reason)
        if kind not in self._seen and len(self._seen) >= MOST_KINDS:
            kind, denial = (
                ("", "", "", "", ""),
                replace(_OTHERS, subject="of many kinds", reason=denial.reason),
            )
        seen = self._seen.get(kind)
        if seen is None:
            self._seen[kind] = _Seen(now_ns + WINDOW_NS, denial)
            return [*lines, denial]
        seen.untold += 1
        seen.last = denial
        return lines

    def due(self, now_ns: int) -> list[Audited]:
        """What is to be written of kinds whose minute is over."""
        return self._end([kind for kind, seen in self._seen.items() if seen.until_ns <= now_ns])

    def rest(self) -> list[Audited]:
        """What is to be written before the manager stops."""
        return self._end(list(self._seen))

    def _end(self, over: list[_Kind]) -> list[Audited]:
        lines = []
        for kind in over:
            seen = self._seen.pop(kind)
            if seen.untold:
                more = f"{seen.untold:,} more like this"
                subject = f"{seen.last.subject}, and {more}" if seen.last.subject else more
                lines.append(replace(seen.last, subject=subject))
        return lines
