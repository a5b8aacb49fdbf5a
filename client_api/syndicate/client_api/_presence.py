"""Whether the manager is there, as the calls of one client notice it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from syndicate.client_api._errors import Unreachable

LATE_S = 1.0
"""An answer that takes longer is waited for: people begin to wonder."""


class Presence:
    """Tells once that the manager is away and once that it is back, however many calls notice.

    ``tell(error, seconds)`` gets the error and how long the call tries, or None and how long it was away. It
    is called in the thread of the call. ``tell_late`` gets True as soon as calls have waited for the manager
    for ``late_s`` seconds, in a thread of its own, and then False when none waits any more. Usable from
    several threads.
    """

    def __init__(
        self,
        tell: Callable[[Unreachable | None, float], None] | None,
        tell_late: Callable[[bool], None] | None = None,
        late_s: float = LATE_S,
    ) -> None:
        self._tell = tell
        self._tell_late = tell_late
        self._late_s = late_s
        self._lock = threading.RLock()  # what is told may lead to a call of the same client
        self._missed_by: set[object] = set()
        self._since = 0.0
        self._asked_by: set[object] = set()
        self._timer: threading.Timer | None = None
        self._is_late = False

    def asks(self, call: object) -> None:
        """This call waits for the manager, until it has found it or gives up."""
        if self._tell_late is None:
            return
        with self._lock:
            self._asked_by.add(call)
            if self._timer is None:
                self._timer = threading.Timer(self._late_s, self._late)
                self._timer.daemon = True
                self._timer.start()

    def lost(self, call: object, error: Unreachable, tries_for_s: float) -> None:
        """This call does not reach the manager, and tries again."""
        with self._lock:
            first = not self._missed_by
            self._missed_by.add(call)
            if first:
                self._since = time.monotonic()
        if first and self._tell is not None:
            self._tell(error, tries_for_s)

    def found(self, call: object) -> None:
        """This call reaches the manager, again or as before."""
        self._answered(call)
        with self._lock:
            if call not in self._missed_by:
                return
            self._missed_by.remove(call)
            last = not self._missed_by
            away_s = time.monotonic() - self._since
        if last and self._tell is not None:
            self._tell(None, away_s)

    def gave_up(self, call: object) -> None:
        """This call is over; whether the manager is there is none of its business any more."""
        self._answered(call)
        with self._lock:
            self._missed_by.discard(call)

    def close(self) -> None:
        """All calls are over, also those that hang in another thread."""
        with self._lock:
            calls = tuple(self._asked_by)
        for call in calls:
            self._answered(call)

    def _late(self) -> None:
        with self._lock:
            # One that was cancelled too late tells nothing about calls that came after it.
            if self._tell_late is not None and self._timer is threading.current_thread():
                self._is_late = True
                self._tell_late(True)

    def _answered(self, call: object) -> None:
        with self._lock:
            self._asked_by.discard(call)
            if self._asked_by or self._timer is None:
                return
            self._timer.cancel()
            self._timer = None
            if self._is_late and self._tell_late is not None:
                self._is_late = False
                self._tell_late(False)
