"""Two candidates of one term, and a voter that dies after it has voted for the first.

Raft's safety rests on one vote a member and term, so a vote must outlive its voter. Chance seldom shows a
store that forgets it; this schedule does each time, with kills, pauses and cuts alone. Five members, all logs
equal:

1. Only `first` and `voter` are linked. `first` stands in term T and gets the vote: two of five.
2. `voter` is killed, `first_helper` is linked: it votes too. `first` leads T by right, and writes an entry
   that only it and its helper have.
3. These two are cut off. `second`, which has never heard of T, stands in T and is linked to `voter`, which is
   alive again. A vote that was kept is refused now. One that was lost is given a second time.
4. `voter` is paused, so that it does not stand itself; `second_helper` is linked and votes. With a vote that
   was given twice `second` leads T as well.
5. `voter` goes on. `second` (or, where the store is right, somebody in a later term) commits a write.

Two leaders of one term write different entries of the same index and term, which the others cannot tell
apart: when all are linked again, what was acknowledged in step 5 is missing at `first` for ever. `compare`
has `first` elected in a later term and reads there. A store that keeps its votes passes all that.

In each step only as many members are linked as must act, too few for any other election, and each candidate
stands long enough (STANDS_S) for the kills and cuts to happen meanwhile. A leader keeps its office for some
election timeouts without a majority: that is the time in which `first` must get its entry, and `voter` go on.
Where a machine stands still for so long, or its members hold an election while they are cut off, the schedule
is broken off (MissedError); where `second` has lost its office before the write of step 5, that write is of
another term and shows nothing (`missed`). Both are tried again, a few times: a run in which none of them
showed anything is unknown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from syndicate.client_api.history import History

from check.cluster import DEADLINE_S, Cluster
from check.kv import UnansweredError

STANDS_S = 30.0  # as an election timeout that is drawn long; nothing in Raft depends on how long it is
UNANSWERED_S = 0.3


class MissedError(Exception):
    """Who stood or led does so no more, before its part was done: what comes would show nothing."""


class Split:
    """One such schedule.

    Args:
        roles: first, first_helper, voter, second, second_helper.
        key: one that nobody else uses, an earlier schedule neither.
    """

    def __init__(
        self,
        chaos: Any,
        cluster: Cluster,
        history: History,
        say: Callable[[str], None],
        roles: Sequence[str],
        key: str,
    ) -> None:
        self._chaos = chaos
        self._cluster = cluster
        self._history = history
        self._say = say
        self._first, self._first_helper, self._voter, self._second, self._second_helper = roles
        self._key = key
        self._term = 0  # of whoever stands or leads
        self._has_two = False  # leaders of one term
        self._off: set[str] = set()
        self._is_dead = self._is_still = False  # the voter
        self.missed = ""
        """Why nothing was shown."""

    def vote(self) -> Any:
        """Steps 1 to 5. Gives the call that has cut the first candidate off, which it still is.

        Raises MissedError where it had to be broken off.
        """
        self._elect_first()
        self._write_at_first()
        cut = self._let_second_ask()
        self._write_elsewhere()
        return cut

    def compare(self) -> None:
        """Links all, makes `first` the leader, and reads there what step 5 wrote."""
        self._reconnect(self._first, self._first_helper)
        self._cluster.until_all_vote()
        self._cluster.until_settled()
        self._cluster.until("the first to lead again, and to be read", self._is_read_at_first)

    def mend(self) -> None:
        """Takes back what is left of a schedule that was broken off."""
        if self._is_still:
            self._resume()
        if self._is_dead:
            self._revive()
        if self._off:
            self._reconnect(*sorted(self._off))
        self._cluster.until_all_vote()

    # Steps.

    def _elect_first(self) -> None:
        self._disconnect(self._first_helper, self._second, self._second_helper)
        self._term = self._cluster.stand(self._first, STANDS_S)
        if not self._voted("the first vote", self._first):
            raise MissedError(f"{self._name(self._voter)} has heard of a later leader")
        self._kill()
        voter, first = self._name(self._voter), self._name(self._first)
        self._say(f"{voter} votes for {first} in term {self._term}; killed it")
        self._reconnect(self._first_helper)
        self._led("the first candidate to lead", self._first)
        self._say(f"{first} leads, term {self._term}")

    def _write_at_first(self) -> None:
        """Two of five are no majority: that this write gets no answer is right, and it is in the log."""
        before = self._cluster.answer(self._first)["last"]
        session = self._cluster.session(f"first/{time.time_ns()}", [self._first])
        try:
            with self._history.operation("at first", "append", self._key, "first") as operation:
                session.append(self._key, "first", UNANSWERED_S)
                operation.ok()
        except UnansweredError:
            pass  # the history has it as an operation whose end nobody knows
        session.close()
        self._until("its entry", self._first, lambda status: status["last"] > before)

    def _let_second_ask(self) -> Any:
        cut = self._disconnect(self._first, self._first_helper)
        while (term := self._cluster.stand(self._second, STANDS_S)) < self._term:
            self._say(f"{self._name(self._second)} stands in term {term}, and again")
        if term > self._term:
            raise MissedError(f"{self._name(self._second)} has heard of a later leader")
        self._reconnect(self._second)
        self._revive()
        is_given = self._voted("the second answer", self._second)
        self._pause()
        second = self._name(self._second)
        answer = f"votes for {second} too" if is_given else f"refuses {second}"
        self._say(f"{self._name(self._voter)}, revived, {answer} in term {term}; paused it")
        self._reconnect(self._second_helper)
        if is_given:
            self._led("the second candidate to lead", self._second)
            self._has_two = True
        self._resume()
        if is_given:
            self._say(f"{second} leads, term {term}: two leaders of one term")
        return cut

    def _write_elsewhere(self) -> None:
        linked = (self._second, self._second_helper, self._voter)
        session = self._cluster.session(f"second/{time.time_ns()}", linked)
        with self._history.operation("elsewhere", "append", self._key, "second") as operation:
            session.append(self._key, "second", DEADLINE_S)
            operation.ok()
        session.close()
        status = self._cluster.answer(self._second)
        if self._has_two and (status["role"], status["term"]) != ("leader", self._term):
            self.missed = "the second leader lost its office before it wrote"

    def _is_read_at_first(self) -> bool:
        """Has the first elected again and reads there; False where it did not lead all the time."""
        self._term = self._cluster.stand(self._first, STANDS_S)
        try:
            self._led("first to lead again", self._first)
            self._say(f"{self._name(self._first)} leads, term {self._term}")
            session = self._cluster.session("reader")
            with self._history.operation("at first", "get", self._key) as operation:
                operation.ok(session.get(self._key, DEADLINE_S, first=self._first))
            session.close()
            self._led("first to lead still", self._first)
        except MissedError as missed:
            self._say(str(missed))
            return False
        return True

    # What is waited for.

    def _until(self, what: str, member: str, reached: Callable[[dict[str, Any]], bool]) -> None:
        """Waits for something of a member that stands or leads in this term. Raises MissedError."""

        def looked() -> bool:
            status = self._cluster.status(member)
            if not status:
                return False
            if status["term"] == self._term and reached(status):
                return True
            if status["term"] != self._term or not (status["role"] == "leader" or status["granted"]):
                raise MissedError(f"{self._name(member)} has lost term {self._term}, waiting for {what}")
            return False

        self._cluster.until(what, looked)

    def _led(self, what: str, member: str) -> None:
        self._until(what, member, lambda status: bool(status["role"] == "leader"))

    def _voted(self, what: str, candidate: str) -> bool:
        """Waits for the voter's answer to a candidate: whether it has its vote."""
        given: list[bool] = []

        def answered(status: dict[str, Any]) -> bool:
            given[:] = [name == "granted" for name in ("granted", "refused") if self._voter in status[name]]
            return bool(given)

        self._until(what, candidate, answered)
        return given[0]

    # The faults, and what is left of them.

    def _disconnect(self, *members: str) -> Any:
        self._off.update(members)
        return self._chaos.disconnect(list(members))

    def _reconnect(self, *members: str) -> None:
        self._chaos.reconnect(list(members))
        self._off.difference_update(members)

    def _kill(self) -> None:
        self._is_dead = True
        self._chaos.kill(self._voter)

    def _revive(self) -> None:
        self._chaos.revive(self._voter, with_disk=True)
        self._is_dead = False

    def _pause(self) -> None:
        self._is_still = True
        self._chaos.pause(self._voter)

    def _resume(self) -> None:
        self._chaos.resume(self._voter)
        self._is_still = False

    def _name(self, member: str) -> str:
        return self._cluster.named(member)
