"""When a fault held, on this process's clock: what its volunteer's stamp says, and the ends of its call."""

from __future__ import annotations

from typing import Any

from syndicate.client_api._calls import monotonic_now
from syndicate.client_api._results import ClockBound, Stamp

FRESH_NS = 10_000_000_000
"""A bound is asked for again after so long, and then taken though it be looser: clocks drift apart."""


class OwnClock:
    """This process's clock, and how it stands to the manager's: by that to those of its volunteers."""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id
        self._bound: ClockBound | None = None
        self._learned_ns = 0

    def is_older_than(self, ns: int) -> bool:
        """Whether the bound was learned so long ago, or longer."""
        return monotonic_now() - self._learned_ns >= ns

    def learn(self, bound: ClockBound) -> None:
        """Takes a bound that a ping has told, if it is a closer one, or the last is old."""
        if self._bound is None or self.is_older_than(FRESH_NS) or bound.error_ns < self._bound.error_ns:
            self._bound, self._learned_ns = bound, monotonic_now()

    def when_held(self, member: Any, sent_ns: int, took_ns: int) -> tuple[int, int]:
        """When a fault held at a member, and how far off that may be: the closer of two bounds.

        It held between the call and its answer; its volunteer's stamp, over both clocks' offsets, may tell
        more.
        """
        middle, half = sent_ns + took_ns // 2, took_ns // 2 + 1
        at: Stamp | None = member.applied_at
        if at is None:
            return middle, half
        told = None
        if at.boot_id == self._boot_id and at.boot_id:
            told = at.monotonic_ns, 0
        elif member.clock is not None and self._bound is not None:
            ours = at.monotonic_ns - member.clock.offset_ns + self._bound.offset_ns
            told = ours, member.clock.error_ns + self._bound.error_ns
        if told is None or told[1] >= half or abs(told[0] - middle) > half + told[1]:
            return middle, half
        return told
