"""The faults, one after the other. Each step ends on an event, and has a deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from check.kv import Session
from check.record import Record, Window

POLL_S = 0.05
DEADLINE_S = 20.0


class ChaosCalls(Protocol):
    """What the plan needs of `syndicate.client_api.Chaos`."""

    def kill(self, ip: str) -> Any: ...
    def revive(self, ip: str, with_disk: bool | None = None) -> Any: ...
    def disconnect(self, ip: str) -> Any: ...
    def reconnect(self, ip: str) -> Any: ...


class UndecidedError(Exception):
    """A step did not come to its end in time, so nothing can be said about the rest."""


class Plan:
    """Breaks the store in each of the ways and waits until it works again.

    Args:
        names: what each address is called in the report.
        say: prints a line.
        successes: of each kind, before a window closes.
    """

    def __init__(
        self,
        chaos: ChaosCalls,
        members: Sequence[str],
        names: dict[str, str],
        record: Record,
        say: Callable[[str], None],
        successes: int,
    ) -> None:
        self._chaos = chaos
        self._members = list(members)
        self._names = names
        self._record = record
        self._say = say
        self._successes = successes
        self._broken: set[str] = set()
        self._waiting = threading.Event()  # never set: its wait is the pause between two questions
        self._session = Session(members, "plan", self._waiting.wait)

    def await_birth(self) -> None:
        """Waits until every member votes and one leads."""
        self._until("every member to vote", lambda: all(self._voter(member) for member in self._members))
        leader, term = self._leader()
        self._say(f"{self._named(leader)} leads, term {term}")

    def run(self) -> None:
        """All steps.

        Raises:
            UndecidedError: one of them did not come to its end.
        """
        with self._window("no fault"):
            pass
        self._cut_leader()
        self._kill_leader()
        self._lose_follower_disk()
        self._cut_follower()

    def elections(self) -> list[int]:
        """The terms that had a leader who committed something."""
        known = [status.get("elections", []) for status in self._statuses(self._members).values()]
        longest: list[Any] = max(known, key=len, default=[])
        return sorted({int(term) for term, _ in longest})

    def close(self) -> None:
        """Gives its connections up."""
        self._session.close()

    # Steps.

    def _cut_leader(self) -> None:
        leader, term = self._leader()
        with self._window("leader cut off"):
            self._chaos.disconnect(leader)
            self._say(f"cut {self._named(leader)}, the leader of term {term}")
            self._new_leader(besides=leader, above=term)
        self._chaos.reconnect(leader)
        self._caught_up(leader, "reconnected")

    def _kill_leader(self) -> None:
        leader, term = self._leader()
        with self._window("leader killed"):
            self._chaos.kill(leader)
            self._say(f"killed {self._named(leader)}, the leader of term {term}")
            self._new_leader(besides=leader, above=term)
        self._chaos.revive(leader, with_disk=True)
        self._caught_up(leader, "revived with its disk")

    def _lose_follower_disk(self) -> None:
        follower = self._follower()
        with self._window("follower killed"):
            self._chaos.kill(follower)
            self._say(f"killed {self._named(follower)}, a follower")
        with self._window("follower without disk"):
            self._chaos.revive(follower, with_disk=False)
            self._say(f"revived {self._named(follower)} without its disk")
            self._until(f"{self._named(follower)} to vote again", lambda: self._voter(follower))
            self._say(f"{self._named(follower)} votes again")
        self._caught_up(follower, "revived without its disk")

    def _cut_follower(self) -> None:
        follower = self._follower()
        with self._window("follower cut off"):
            self._chaos.disconnect(follower)
            self._say(f"cut {self._named(follower)}, a follower")
        self._chaos.reconnect(follower)
        self._caught_up(follower, "reconnected")

    # What they wait for.

    @contextmanager
    def _window(self, name: str) -> Iterator[None]:
        window = self._record.open(name, max(self.elections(), default=0))
        yield
        self._succeed(window)
        window.elections = sum(term > window.term for term in self.elections())
        self._record.close(window)

    def _succeed(self, window: Window) -> None:
        if not self._record.wait(window, self._successes, DEADLINE_S):
            raise UndecidedError(
                f"{window.name}: {window.writes} writes and {window.reads} reads within {DEADLINE_S:g} s, "
                f"{self._successes} of each were waited for"
            )

    def _new_leader(self, besides: str, above: int) -> None:
        others = [member for member in self._members if member != besides]
        leader, term = self._leader(others, above)
        self._say(f"{self._named(leader)} leads, term {term}")

    def _caught_up(self, member: str, how: str) -> None:
        self._broken.add(member)
        leader, _ = self._leader()
        status = self._session.status(leader) or {}
        goal = int(status.get("applied", 0))
        self._until(f"{self._named(member)} to catch up", lambda: self._applied(member) >= goal)
        self._say(f"{self._named(member)} caught up, {how}")

    def _leader(self, among: Sequence[str] | None = None, above: int = 0) -> tuple[str, int]:
        found: list[tuple[int, str]] = []

        def leads() -> bool:
            for member, status in self._statuses(among or self._members).items():
                if status["role"] == "leader" and status["term"] > above:
                    found.append((status["term"], member))
            return bool(found)

        self._until("a leader", leads)
        term, leader = max(found)
        return leader, term

    def _follower(self) -> str:
        """One that was not broken yet, if there is one left."""
        leader, _ = self._leader()
        followers = [member for member in self._members if member != leader]
        return next((member for member in followers if member not in self._broken), followers[-1])

    def _voter(self, member: str) -> bool:
        status = self._session.status(member)
        return status is not None and bool(status["voter"])

    def _applied(self, member: str) -> int:
        status = self._session.status(member)
        return -1 if status is None or status["role"] == "leader" else int(status["applied"])

    def _statuses(self, members: Sequence[str]) -> dict[str, dict[str, Any]]:
        asked = ((member, self._session.status(member)) for member in members)
        return {member: status for member, status in asked if status is not None}

    def _until(self, what: str, reached: Callable[[], bool]) -> None:
        for _ in range(int(DEADLINE_S / POLL_S)):
            if reached():
                return
            self._waiting.wait(POLL_S)
        raise UndecidedError(f"waited for {what} for {DEADLINE_S:g} s")

    def _named(self, member: str) -> str:
        return f"{self._names.get(member, '?')} {member}"
