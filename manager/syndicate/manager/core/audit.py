"""What goes into the audit log of calls that are denied: a flood makes few lines, and hides no other's.

Denials of one kind are those of one caller from one host to one method for one reason. The first is told at
once; the others of the next minute are counted, and told in one line when it is over, which names some of
what they were about and counts the rest. So a kind makes two lines a minute at most. What a call is about
makes no kind of its own: whoever tries one job after another would use up his kinds with that, and hide
what else he tries. Beyond `MOST_KINDS` of one caller at a time, and beyond `KINDS_A_DAY`, all further ones
of that caller are one kind together. All whom nobody knows are one caller: they choose their hosts and what
they say, so they could push everything else out of a log that holds so many lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from .bucket import Bucket
from .user_events import Audited
from .words import count

WINDOW_NS: Final = 60 * 1_000_000_000
MOST_KINDS: Final = 256
# As many lines, at two a kind, as a student's calls may make that change something.
KINDS_A_DAY: Final = 2_500
# What the calls of one kind were about: so much is known apart, and so much named.
MOST_SUBJECTS: Final = 100
SUBJECTS_NAMED: Final = 3
_DAY_S: Final = 86_400.0

_Kind = tuple[str, str, str, str, str]


@dataclass(slots=True)
class _Seen:
    """A kind of denial: when its window is over, and what was not told since it began."""

    until_ns: int
    last: Audited
    untold: int = 0
    subjects: dict[str, None] = field(default_factory=dict)
    """Of those not told, in the order in which they came."""

    def add(self, denial: Audited) -> None:
        """One more, which is not told by itself."""
        self.untold += 1
        self.last = denial
        if len(self.subjects) < MOST_SUBJECTS:
            self.subjects[denial.subject] = None

    def told(self) -> Audited:
        """One line for all of them."""
        subject = self.last.subject
        more = f"{self.untold:,} more like this"
        text = f"{subject}, and {more}" if subject else more
        if others := [other for other in self.subjects if other not in ("", subject)]:
            text += f", also of {', '.join(others[:SUBJECTS_NAMED])}"
        if (left := len(others) - SUBJECTS_NAMED) > 0:
            least = "at least " if len(self.subjects) == MOST_SUBJECTS else ""
            text += f" and {least}{count(left, 'other')}"
        return replace(self.last, subject=text)


@dataclass(slots=True)
class _Share:
    """What one caller has of the log: kinds that are open, and what it used of a day's."""

    kinds: int
    used: Bucket


class Denials:
    """The denials of the last minute."""

    def __init__(self) -> None:
        # In the order of their windows' ends, which are all as long.
        self._seen: dict[_Kind, _Seen] = {}
        self._shares: dict[str, _Share] = {}

    def note(self, denial: Audited, now_ns: int) -> list[Audited]:
        """A call was denied; what is to be written now."""
        lines = self.due(now_ns)
        kind = (denial.who, denial.token_id, denial.peer, denial.method, denial.reason)
        if kind not in self._seen and not self._has_room(denial.who, now_ns):
            kind = (denial.who, "", "", "", "")
            denial = Audited(denial.who, "", "", "", "of many kinds", False, denial.reason)
        seen = self._seen.get(kind)
        if seen is None:
            self._seen[kind] = _Seen(now_ns + WINDOW_NS, denial)
            self._shares[denial.who].kinds += 1
            return [*lines, denial]
        seen.add(denial)
        return lines

    def due(self, now_ns: int) -> list[Audited]:
        """What is to be written of kinds whose minute is over."""
        over = []
        for kind, seen in self._seen.items():
            if seen.until_ns > now_ns:
                break
            over.append(kind)
        return self._end(over)

    def rest(self) -> list[Audited]:
        """What is to be written before the manager stops."""
        return self._end(list(self._seen))

    def _has_room(self, who: str, now_ns: int) -> bool:
        """Whether another kind of this caller is told by itself; it is counted then."""
        # One of each user and volunteer that was ever denied: there are no more than there are of these.
        share = self._shares.setdefault(who, _Share(0, Bucket()))
        if share.kinds >= MOST_KINDS:
            return False
        return not share.used.take(now_ns, KINDS_A_DAY / _DAY_S, KINDS_A_DAY)

    def _end(self, over: list[_Kind]) -> list[Audited]:
        lines = []
        for kind in over:
            seen = self._seen.pop(kind)
            self._shares[seen.last.who].kinds -= 1
            if seen.untold:
                lines.append(seen.told())
        return lines
