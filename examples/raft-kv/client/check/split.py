"""Two candidates of one term, and a voter that dies after it has voted for the first.

Raft's safety rests on one vote a member and term, so a vote must outlive its voter. Chance seldom shows a
store that forgets it; this schedule does each time, with kills and cuts alone. Five members, all logs equal:

1. Only `first` and `voter` are linked. `first` stands in term T and gets the vote: two of five.
2. `voter` is killed, `first_helper` is linked: it votes too. `first` leads T by right, and writes an entry
   that only it and its helper have.
3. These two are cut off. `second`, which has never heard of T, stands in T and is linked to `voter`, which is
   alive again. A vote that was kept is refused now. One that was lost is given a second time.
4. `voter` is killed again, so that it takes no part in what follows; `second_helper` is linked and votes.
   With a vote that was given twice `second` leads T as well.
5. `voter` comes back. `second` (or, where the store is right, somebody in a later term) commits a write.

Two leaders of one term write different entries of the same index and term, which the others cannot tell
apart: when all are linked again, what was acknowledged in step 5 is missing at `first` for ever. `compare`
has `first` elected in a later term and reads there. A store that keeps its votes passes all that.

No step but the last depends on luck: in each only as many members are linked as must act, too few for any
other election, and each candidate stands long enough (STANDS_S) for the kills and cuts to happen meanwhile.
Where `second` has lost its office before the write of step 5, as on a machine that has no time for it, that
write is of another term and shows nothing: `missed` tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from syndicate.client_api.history import History

from check.cluster import DEADLINE_S, Cluster
from check.kv import UnansweredError

KEY = "split"
STANDS_S = 10.0  # as an election timeout that is drawn long; nothing in Raft depends on how long it is
UNANSWERED_S = 0.3


class Split:
    """One such schedule.

    Args:
        roles: first, first_helper, voter, second, second_helper.
    """

    def __init__(
        self,
        chaos: Any,
        cluster: Cluster,
        history: History,
        say: Callable[[str], None],
        roles: Sequence[str],
    ) -> None:
        self._chaos = chaos
        self._cluster = cluster
        self._history = history
        self._say = say
        self._first, self._first_helper, self._voter, self._second, self._second_helper = roles
        self._twice = 0  # the term that has two leaders
        self.missed = False

    def vote(self) -> None:
        """Steps 1 to 5."""
        self._elect_first()
        self._write_at_first()
        self._let_second_ask()
        self._write_elsewhere()

    def compare(self) -> None:
        """Links all, makes `first` the leader, and reads there what step 5 wrote."""
        self._chaos.reconnect([self._first, self._first_helper])
        self._cluster.until_all_vote()
        self._cluster.until_settled()
        term = self._cluster.stand(self._first, STANDS_S)
        self._cluster.until("first to lead again", lambda: self._cluster.leads(self._first))
        self._say(f"{self._name(self._first)} leads, term {term}")
        self._read()

    def _elect_first(self) -> None:
        self._chaos.disconnect([self._first_helper, self._second, self._second_helper])
        term = self._cluster.stand(self._first, STANDS_S)
        self._cluster.until("the first vote", lambda: self._voter in self._votes(self._first, "granted"))
        self._chaos.kill(self._voter)
        self._say(f"{self._name(self._voter)} votes for {self._name(self._first)} in term {term}; killed it")
        self._chaos.reconnect(self._first_helper)
        self._cluster.until("the first candidate to lead", lambda: self._cluster.leads(self._first))
        self._say(f"{self._name(self._first)} leads, term {term}")

    def _write_at_first(self) -> None:
        """Two of five are no majority: that this write gets no answer is right, and it is in the log."""
        before = self._cluster.status(self._first).get("last", 0)
        session = self._cluster.session(f"first/{time.time_ns()}", [self._first])
        try:
            with self._history.operation("at first", "append", KEY, "first") as operation:
                session.append(KEY, "first", UNANSWERED_S)
                operation.ok()
        except UnansweredError:
            pass  # the history has it as an operation whose end nobody knows
        session.close()
        self._cluster.until("its entry", lambda: self._cluster.status(self._first).get("last", 0) > before)

    def _let_second_ask(self) -> None:
        self._chaos.disconnect([self._first, self._first_helper])
        term = self._cluster.stand(self._second, STANDS_S)
        self._chaos.reconnect(self._second)
        self._chaos.revive(self._voter, with_disk=True)
        self._cluster.until("the second answer", lambda: self._voter in self._votes(self._second))
        given = self._voter in self._votes(self._second, "granted")
        self._chaos.kill(self._voter)
        answer = (
            f"votes for {self._name(self._second)} too" if given else f"refuses {self._name(self._second)}"
        )
        self._say(f"{self._name(self._voter)}, revived, {answer} in term {term}; killed it")
        self._chaos.reconnect(self._second_helper)
        if given:
            self._cluster.until("the second candidate to lead", lambda: self._cluster.leads(self._second))
            self._say(f"{self._name(self._second)} leads, term {term}: two leaders of one term")
            self._twice = term
        self._chaos.revive(self._voter, with_disk=True)

    def _write_elsewhere(self) -> None:
        linked = (self._second, self._second_helper, self._voter)
        session = self._cluster.session(f"second/{time.time_ns()}", linked)
        with self._history.operation("elsewhere", "append", KEY, "second") as operation:
            session.append(KEY, "second", DEADLINE_S)
            operation.ok()
        session.close()
        status = self._cluster.status(self._second)
        in_office = (status.get("role"), status.get("term")) == ("leader", self._twice)
        self.missed = bool(self._twice) and not in_office

    def _read(self) -> None:
        session = self._cluster.session("reader")
        with self._history.operation("at first", "get", KEY) as operation:
            operation.ok(session.get(KEY, DEADLINE_S, first=self._first))
        session.close()

    def _votes(self, member: str, *which: str) -> list[str]:
        status = self._cluster.status(member)
        return [vote for name in which or ("granted", "refused") for vote in status.get(name, [])]

    def _name(self, member: str) -> str:
        return self._cluster.named(member)
