"""What a nemesis will do and when: drawn from a seed, the same bytes everywhere. Pure."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from syndicate.client_api._dice import Dice

FORMAT = 1
"""Of the JSON of a schedule."""
MOST_SEED = (1 << 53) - 1
"""The largest whole number that a metric of a result holds exactly."""
_EACH_TARGET_ONCE = {"kill": "life", "pause": "life", "signal": "life", "partition": "partition"}
"""Kinds that keep out of each other's way at one target; others only of themselves."""
_KIND = re.compile(r"[a-z][a-z-]*")
_WHOM = ("one", "minority", "majority", "all")
Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Planned:
    """A kind of fault that a nemesis may inject, how often, how long, and at how many at once."""

    kind: str
    rate: float
    """How often a second it begins while it does not hold, on average: after 1 / rate seconds."""
    least_ms: int
    most_ms: int
    """How long it holds, in milliseconds."""
    whom: str | int = "one"
    """``one``, ``minority``, ``majority`` or ``all`` of the targets, or how many."""
    options: Mapping[str, Value] = field(default_factory=dict, hash=False)
    """Arguments of the call, as JSON values."""

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"the rate of {self.kind} is {self.rate:g}: it must be above 0")
        if not 0 < self.least_ms <= self.most_ms:
            raise ValueError(f"{self.kind} must hold for at least 1 ms, and at most as long as at most")
        if isinstance(self.whom, str) and self.whom not in _WHOM:
            raise ValueError(f"{self.whom!r} is nobody: there are {', '.join(_WHOM)}, and numbers")

    def count(self, targets: int) -> int:
        """At how many of so many targets. Raises ValueError for more than there are."""
        counts = {
            "one": 1,
            "minority": max(1, (targets - 1) // 2),
            "majority": targets // 2 + 1,
            "all": targets,
        }
        count = counts[self.whom] if isinstance(self.whom, str) else self.whom
        if not 1 <= count <= targets:
            raise ValueError(f"{self.kind} is for {count} at once, and there are {targets} targets")
        return count


@dataclass(frozen=True, slots=True)
class Event:
    """One fault of a schedule."""

    at_ms: int
    """When it begins, in milliseconds since the schedule's start."""
    until_ms: int
    """When it is taken back."""
    kind: str
    """``kill``, ``pause``, ``partition`` and so on: the method of ``Chaos``, with dashes."""
    targets: tuple[str, ...]
    """Names of members, or their addresses where those were given."""
    options: Mapping[str, Value] = field(default_factory=dict, hash=False)
    """Arguments of the call."""


@dataclass(frozen=True, slots=True)
class Schedule(Sequence[Event]):
    """A tuple of events in the order in which they begin, with what they were drawn from."""

    seed: int
    duration_ms: int
    targets: tuple[str, ...]
    events: tuple[Event, ...]

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __getitem__(self, index: Any) -> Any:
        return self.events[index]

    def to_json(self) -> str:
        """One line of ASCII, always the same bytes for the same schedule."""
        return to_json(self.as_plain())

    def as_plain(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "format": FORMAT,
            "seed": self.seed,
            "duration_ms": self.duration_ms,
            "targets": list(self.targets),
            "events": [
                {
                    "at_ms": event.at_ms,
                    "until_ms": event.until_ms,
                    "kind": event.kind,
                    "targets": list(event.targets),
                    "options": dict(event.options),
                }
                for event in self.events
            ],
        }

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """Reads what ``to_json`` wrote. Raises ValueError, which names what is wrong."""
        plain = json.loads(text)
        if not isinstance(plain, dict) or plain.get("format") != FORMAT:
            raise ValueError(f"this is no schedule of format {FORMAT}")
        try:
            events = tuple(
                Event(
                    int(event["at_ms"]),
                    int(event["until_ms"]),
                    str(event["kind"]),
                    tuple(map(str, event["targets"])),
                    dict(event["options"]),
                )
                for event in plain["events"]
            )
            targets = tuple(map(str, plain["targets"]))
            schedule = cls(int(plain["seed"]), int(plain["duration_ms"]), targets, events)
        except (KeyError, TypeError) as error:
            raise ValueError(f"the schedule lacks or garbles {error}") from None
        for number, event in enumerate(events):
            if not 0 <= event.at_ms < event.until_ms <= schedule.duration_ms:
                raise ValueError(f"event {number} of the schedule does not lie within it")
            if not _KIND.fullmatch(event.kind):
                raise ValueError(f"event {number} of the schedule has no kind")
        return schedule


def to_json(plain: Any) -> str:
    """The one way in which plain values are written."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def plan(seed: int, faults: Sequence[Planned], targets: Sequence[str], duration_ms: int) -> Schedule:
    """Draws a schedule.

    Each fault occurs at least once, none begins twice at a target before it ended there, and all have ended
    by ``duration_ms``. A fault that is added behind the others changes none of theirs. Raises ValueError
    where one does not fit in.
    """
    if not faults:
        raise ValueError("a nemesis without faults does nothing")
    if not targets or len(set(targets)) < len(targets):
        raise ValueError("targets must be named, each once")
    events: list[Event] = []
    for number, fault in enumerate(faults):
        dice = Dice(seed, "nemesis", number, fault.kind)
        drawn = _drawn(fault, dice, tuple(targets), duration_ms, events)
        if not drawn:
            text = f"{fault.kind} never finds a free target: fewer faults, shorter ones, or a longer duration"
            raise ValueError(text)
        events += drawn
    events.sort(key=lambda event: event.at_ms)  # stable: at one time, in the order of the faults
    return Schedule(seed, duration_ms, tuple(targets), tuple(events))


def _drawn(
    fault: Planned, dice: Dice, targets: tuple[str, ...], duration_ms: int, others: Sequence[Event]
) -> list[Event]:
    """The events of one fault, between those that are there."""
    latest = duration_ms - fault.least_ms
    if latest < 0:
        text = (
            f"{fault.kind} holds for {fault.least_ms} ms at least, and the schedule is over in {duration_ms}"
        )
        raise ValueError(text)
    count = len(targets) if fault.kind == "partition" else fault.count(len(targets))
    gap_ms = max(1, round(1000 / fault.rate))
    in_the_way = _InTheWay(fault.kind, others)
    events: list[Event] = []
    at = dice.between(0, min(2 * gap_ms, latest))
    while at <= latest:
        until = at + min(dice.between(fault.least_ms, fault.most_ms), duration_ms - at)
        busy = in_the_way.between(at, until)
        taken = {target for event in busy for target in event.targets}
        free = [target for target in targets if target not in taken]
        if len(free) < count:
            at = min(event.until_ms for event in busy) + 1
            continue
        chosen = set(dice.shuffled(free)[:count])
        options = {**fault.options, **_option_draws(fault, dice, targets)}
        struck = tuple(target for target in targets if target in chosen)
        events.append(Event(at, until, fault.kind, struck, options))
        at = until + dice.between(1, 2 * gap_ms)
    return events


class _InTheWay:
    """Events that a fault of one kind must keep clear of, asked for in the order of time."""

    def __init__(self, kind: str, events: Sequence[Event]) -> None:
        group = _EACH_TARGET_ONCE.get(kind, kind)
        same = [event for event in events if _EACH_TARGET_ONCE.get(event.kind, event.kind) == group]
        self._ahead = deque(sorted(same, key=lambda event: event.at_ms))
        self._near: list[Event] = []

    def between(self, at: int, until: int) -> list[Event]:
        """Those that hold at some time of these; ``at`` never goes back."""
        while self._ahead and self._ahead[0].at_ms <= until:
            self._near.append(self._ahead.popleft())
        self._near = [event for event in self._near if event.until_ms >= at]
        return [event for event in self._near if event.at_ms <= until]


def _option_draws(fault: Planned, dice: Dice, targets: tuple[str, ...]) -> dict[str, Value]:
    """What of a call's arguments is drawn too: a partition's own seed, and its one member."""
    if fault.kind != "partition":
        return {}
    drawn: dict[str, Value] = {"seed": dice.below(1 << 31)}
    if fault.options.get("shape") in ("bridge", "isolate-one"):
        drawn["ip"] = targets[dice.below(len(targets))]
    return drawn
