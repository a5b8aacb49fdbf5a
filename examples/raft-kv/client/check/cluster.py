"""What can be asked of the members from outside, and waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from check.kv import Session

POLL_S = 0.02
DEADLINE_S = 60.0
LEAST_TRIES = 10  # also of a client that stood still until the deadline was over
MOST_TRIES = 10  # of a member that may be dead: it is not waited for longer


class UndecidedError(Exception):
    """A step did not come to its end in time, so nothing can be said about the rest."""


class Cluster:
    """The members by their addresses, and what each is called.

    Args:
        names: what each address is called, the master's first.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self.members = list(names)
        self._names = names
        self._waiting = threading.Event()  # never set: its wait is the pause between two questions
        self._session = Session(self.members, "plan", self._waiting.wait)

    def named(self, member: str) -> str:
        """What people call a member."""
        return self._names[member]

    def session(self, name: str, members: Iterable[str] = ()) -> Session:
        """A client of its own; of these members only, where some are named."""
        return Session(list(members) or self.members, name, self._waiting.wait)

    def status(self, member: str) -> dict[str, Any]:
        """What a member says about itself; nothing when it does not answer."""
        return self._session.status(member) or {}

    def answer(self, member: str) -> dict[str, Any]:
        """Waits for what a member says about itself."""
        told: dict[str, Any] = {}

        def answers() -> bool:
            told.update(self.status(member))
            return bool(told)

        self.until(f"{self.named(member)} to answer", answers)
        return told

    def leads(self, member: str) -> bool:
        """Whether a member says that it leads."""
        return bool(self.status(member).get("role") == "leader")

    def leader(self, among: Iterable[str] = (), above: int = 0) -> tuple[str, int]:
        """Waits for a leader of a term above this one; its address and term."""
        found: list[tuple[int, str]] = []

        def found_one() -> bool:
            for member in among or self.members:
                status = self.status(member)
                if status.get("role") == "leader" and status["term"] > above:
                    found.append((status["term"], member))
            return bool(found)

        self.until("a leader", found_one)
        term, leader = max(found)
        return leader, term

    def stand(self, member: str, seconds: float) -> int:
        """Has a member stand for election for so long; the term in which it stands."""
        terms: list[int] = []

        def stands() -> bool:
            term = self._session.stand(member, seconds)
            terms.extend([] if term is None else [term])
            return bool(terms)

        self.until(f"{self.named(member)} to stand for election", stands)
        return terms[-1]

    def until_all_vote(self) -> None:
        """Waits until every member is a voter."""
        self.until("all to vote", lambda: all(self.status(member).get("voter") for member in self.members))

    def until_caught_up(self, member: str) -> None:
        """Waits until a member has applied all that the leader has applied by now."""
        goal = self.answer(self.leader()[0])["applied"]
        self.until(
            f"{self.named(member)} to catch up", lambda: self.status(member).get("applied", -1) >= goal
        )

    def until_settled(self) -> None:
        """Waits until all logs are equally long and applied; only when nobody writes."""

        def settled() -> bool:
            seen = [self.status(member) for member in self.members]
            ends = {status.get(name, -1) for status in seen for name in ("last", "applied")}
            return len(ends) == 1 and -1 not in ends

        self.until("all logs to be equal", settled)

    def elections(self) -> set[tuple[int, str]]:
        """Each leader that committed something, with its term, by all that the members have applied."""
        told: dict[str, list[tuple[int, str]]] = {}
        for _ in range(MOST_TRIES):  # where the plan stopped one may be dead
            for member in set(self.members) - told.keys():
                if status := self.status(member):
                    told[member] = status.get("elections", [])
            if len(told) == len(self.members):
                break
            self._waiting.wait(POLL_S)
        return {(int(term), str(leader)) for elections in told.values() for term, leader in elections}

    def until(self, what: str, reached: Callable[[], bool]) -> None:
        """Asks again and again. Raises UndecidedError when it takes too long."""
        end, tries = time.monotonic() + DEADLINE_S, 0
        while time.monotonic() < end or tries < LEAST_TRIES:
            if reached():
                return
            tries += 1
            self._waiting.wait(POLL_S)
        raise UndecidedError(f"waited for {what} for {DEADLINE_S:g} s")

    def wait(self, seconds: float) -> None:
        """Lets time pass."""
        self._waiting.wait(seconds)

    def close(self) -> None:
        """Gives the connections up."""
        self._session.close()
