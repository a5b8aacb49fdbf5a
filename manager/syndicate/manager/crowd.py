"""Submissions of many callers at once: handled one right after the other, and made durable by one commit.

Each of a crowd asks again as soon as it is answered. So those who come after a commit wait until as many are
there as are known to come, or until that takes too long. It costs each some milliseconds and saves a sixth of
the processor time of a submission: what has just run for another one is in the processor's caches. Who is
alone never waits. (PostgreSQL's commit_delay and commit_siblings, a step earlier.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from .core.events import Event

# Where so many come within so short a time they come from many callers, and more are on their way.
CROWD: Final = 8
CROWD_WITHIN_S: Final = 0.004
# How long those who are expected may take: so long each, and no longer than this together.
EACH_S: Final = 0.0002
LONGEST_S: Final = 0.012
# So many are handled without a break, which takes some 2 ms where their jobs wait, 20 where each can start.
# As soon as so many are there they go on, also while the disk is busy: nothing is gained by more.
MOST: Final = 64


class Crowd:
    """Those who wait for others, by the number of their call. Made and used on one event loop.

    `handle` is given events that are to be handled together; once they are answered, `answered` is to be
    called.
    """

    def __init__(self, handle: Callable[[list[Event]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._handle = handle
        self._came: deque[float] = deque(maxlen=CROWD)
        # Fewer than MOST.
        self._waiting: dict[int, Event] = {}
        # As soon as so many wait they are handled; 0 where there is no crowd.
        self._expected = 0
        # How many were handled last, and whether they are still to be answered: nobody is expected before.
        self._handled = 0
        self._unanswered = False
        self._timer: asyncio.TimerHandle | None = None

    def takes(self, call: int, event: Event) -> bool:
        """Whether the event waits for others, or was handled with them; else it is to be handled at once."""
        if not self._expected:
            now_s, came = self._loop.time(), self._came
            came.append(now_s)
            if len(came) < CROWD or now_s - came[0] > CROWD_WITHIN_S:
                return False
            came.clear()
            self._expect(CROWD)
        self._waiting[call] = event
        self._look()
        return True

    def leave(self, call: int) -> bool:
        """Forget a call that waits; False where none does under this number."""
        return self._waiting.pop(call, None) is not None

    def answered(self) -> None:
        """All that were handled have their answers: they will be back, behind those who came meanwhile."""
        self._unanswered = False
        if self._expected:
            self._expect(self._handled + len(self._waiting))

    def _expect(self, count: int) -> None:
        self._end()
        self._expected = min(count, MOST)
        self._timer = self._loop.call_later(min(count * EACH_S, LONGEST_S), self._go)

    def _look(self) -> None:
        if len(self._waiting) >= (MOST if self._unanswered else self._expected):
            self._go()

    def _go(self) -> None:
        events, self._waiting = list(self._waiting.values()), {}
        expected = self._expected
        self._end()
        self._handled = len(events)
        if len(events) >= CROWD:
            self._expected = expected  # it goes on
        if events:
            self._unanswered = True
            self._handle(events)

    def _end(self) -> None:
        self._expected = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
