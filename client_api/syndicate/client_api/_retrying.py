"""Calls and streams that are tried again: while the manager is away, and when it says that it is busy."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc
from syndicate.client_api._error_table import busy_pause_s, read_failure
from syndicate.client_api._errors import Failure, Unreachable
from syndicate.client_api._presence import Presence
from syndicate.client_api._retry import RetryPolicy
from syndicate.client_api._unreachable import error_of, is_broken, is_distrust

T = TypeVar("T")

_PAUSES = RetryPolicy(first_pause_s=0.05, longest_pause_s=0.5)


class Retrying:
    """How one client tries, on its connection to ``address``. Usable from several threads.

    Calls are tried for ``connect_for`` seconds (half as long again where the first try hangs until then),
    streams that ran and broke for ``reconnect_for``; a stream waits for a busy manager for ``turn_within``
    seconds at most. ``presence`` is told whether it is there.
    """

    def __init__(
        self, address: str, connect_for: float, reconnect_for: float, turn_within: float, presence: Presence
    ) -> None:
        self._address = address
        self._connect_for = connect_for
        self._reconnect_for = reconnect_for
        self._turn_within = turn_within
        self._presence = presence
        self._closed = threading.Event()

    def close(self) -> None:
        """Nothing is tried again from now on, and no pause is waited out."""
        self._closed.set()

    def call(self, once: Callable[[float], T], timeout: float) -> T:
        """Does a call, again while the manager is away, for as long as ``connect_for``.

        Also again after the pause that a busy manager asks for, all in all for as long as ``timeout``.
        """
        started = time.monotonic()
        tries, put_off_s, budget = 0, 0.0, self._connect_for
        while True:
            tries += 1
            try:
                return once(timeout)
            except grpc.RpcError as error:
                failure = read_failure(error)
            tried_for = time.monotonic() - started - put_off_s
            if self._waited_its_turn(failure, put_off_s, timeout):
                put_off_s = time.monotonic() - started - tried_for
                continue
            if tries == 1:
                budget = _after_the_first(budget, tried_for)
            if failure.code != "UNAVAILABLE" or is_distrust(failure) or tried_for >= budget:
                raise error_of(failure, self._address, tried_for)
            self._pause(tries, budget - tried_for)

    def _waited_its_turn(self, failure: Failure, put_off_s: float, timeout: float) -> bool:
        """Waits as long as a busy manager asks for; False where it does not, or asks for too long."""
        pause = busy_pause_s(failure)
        if pause is None or put_off_s + pause > timeout or self._closed.is_set():
            return False
        # Callers that were put off together must not come back together.
        spread = min(_PAUSES.longest_pause_s, timeout - put_off_s - pause)
        self._closed.wait(pause + spread * _dice())
        return True

    def stream(self, open_stream: Callable[[], Any], until_end: bool = False) -> Iterator[Any]:
        """The answers of a stream that is opened again when it breaks; None stands for each new opening.

        A stream that the server closes cleanly is over if ``until_end``, else it counts as broken. How long
        it is tried counts from when one that stood broke, however long that had said nothing.
        """
        budget, ran, put_off_s = self._connect_for, False, 0.0
        away_since = time.monotonic()
        tries = 0
        self._presence.asks(open_stream)
        try:
            while True:
                tries += 1
                call = open_stream()
                stood = False
                failure = Failure("UNAVAILABLE", "the stream ended")
                try:
                    yield None
                    stood = self._await_open(open_stream, call)
                    for answer in call:
                        stood = True
                        yield answer
                    if until_end:
                        self._presence.found(open_stream)
                        return
                except grpc.RpcError as error:
                    failure = read_failure(error)
                finally:
                    call.cancel()
                if stood:
                    budget, tries, ran = self._reconnect_for, 1, True
                    away_since = time.monotonic()
                tried_for = time.monotonic() - away_since
                if tries == 1 and not stood:
                    budget = _after_the_first(budget, tried_for)
                if self._waited_its_turn(failure, put_off_s, self._turn_within):
                    waited_s = time.monotonic() - away_since - tried_for
                    put_off_s, away_since = put_off_s + waited_s, away_since + waited_s
                    continue
                if (
                    not is_broken(failure)
                    or is_distrust(failure)
                    or self._closed.is_set()
                    or tried_for >= budget
                ):
                    raise error_of(failure, self._address, tried_for)
                if ran:
                    self._lost(open_stream, failure, tried_for)
                self._pause(tries, budget - tried_for)
        finally:
            self._presence.gave_up(open_stream)

    def _await_open(self, key: object, call: Any) -> bool:
        """Waits until the manager has taken the stream or refused it; returns whether it stands.

        Its first answer may be long in coming: a task that says nothing has no log.
        """
        call.initial_metadata()
        stands: bool = call.is_active()
        if stands:
            self._presence.found(key)
        return stands

    def _lost(self, key: object, failure: Failure, tried_for: float) -> None:
        error = error_of(failure, self._address, tried_for)
        if isinstance(error, Unreachable):
            self._presence.lost(key, error, self._reconnect_for)

    def _pause(self, tries: int, at_most: float) -> None:
        self._closed.wait(min(_PAUSES.pause_s(tries, _dice()), max(0.0, at_most)))


def _after_the_first(budget: float, tried_for: float) -> float:
    """How long to try in all where the first try has failed after so many seconds.

    One that hung says little: this machine, or the manager, may have stood still while they connected. Nor
    does what follows at once, since gRPC tells the last error until it has connected: there must be a while.
    """
    return max(budget, tried_for + budget / 2)


def _dice() -> float:
    return random.random()  # noqa: S311 - jitter, no secret
