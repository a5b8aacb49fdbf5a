"""Whether the manager is there, as the calls of one client notice it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from syndicate.client_api._errors import Unreachable


class Presence:
    """Tells once that the manager is away and once that it is back, however many calls notice.

    ``tell(error, seconds)`` gets the error and how long the call tries, or None and how long it was away. It
    is called in the thread of the call. Usable from several threads.
    """

    def __init__(self, tell: Callable[[Unreachable | None, float], None] | None) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._missed_by: set[object] = set()
        self._since = 0.0

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
        with self._lock:
            self._missed_by.discard(call)
