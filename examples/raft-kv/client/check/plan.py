"""The faults, one after the other. Each step ends on an event, and has a deadline.

The seed decides the order of the steps, who is hit where it may be anyone, and how long each fault holds. Who
leads at a moment is the store's own affair, so two runs of one seed break the same things in the same order,
but not always the same machines.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from syndicate.client_api import Fault, FaultKind
from syndicate.client_api.checkers import FaultWindow, fault_windows
from syndicate.client_api.history import History, Recorded

from check.cluster import DEADLINE_S, Cluster, UndecidedError
from check.kv import Session
from check.split import MissedError, Split
from check.workload import Workload

MOST_SPLITS = 5
PROBE = "probe"  # a key that only the plan uses


class ChaosCalls(Protocol):
    """What the plan needs of `syndicate.client_api.Chaos`."""

    def kill(self, ip: Any) -> Any: ...
    def revive(self, ip: Any, with_disk: bool | None = None) -> Any: ...
    def disconnect(self, ip: Any) -> Any: ...
    def reconnect(self, ip: Any) -> Any: ...
    def partition(self, groups: Any = None, *, shape: Any = None) -> Any: ...
    def heal(self, *fault_ids: int) -> Any: ...
    def pause(self, ip: Any) -> Any: ...
    def resume(self, ip: Any) -> Any: ...
    def faults(self) -> Sequence[Fault]: ...


class Plan:
    """Breaks the store in each of the ways and waits until it works again.

    Args:
        say: prints a line.
        successes: of each kind of operation, before a fault is healed.
    """

    def __init__(
        self,
        chaos: ChaosCalls,
        cluster: Cluster,
        workload: Workload,
        history: History,
        seed: int,
        say: Callable[[str], None],
        successes: int,
    ) -> None:
        self._chaos = chaos
        self._cluster = cluster
        self._workload = workload
        self._history = history
        self._dice = random.Random(seed)
        self._say = say
        self._successes = successes
        self._held: list[tuple[str, tuple[int, ...]]] = []  # what it is called, its lines of the ledger
        self.isolated = 0  # leaders that were cut off from a majority

    def windows(self, faults: Sequence[Fault], history: Recorded) -> list[FaultWindow]:
        """When each fault held under which the store must serve, on the history's clock.

        By the ledger, and not by when calls were answered: in a replay that says nothing of when they held.
        """
        found = []
        for name, lines in self._held:
            mine = [one for one in faults if one.fault_id in lines or one.kind is FaultKind.REVIVE]
            found += [window._replace(kind=name) for window in fault_windows(mine, history)]
        return found

    def run(self) -> None:
        """All steps. Raises UndecidedError when one of them does not come to its end, and ChaosError."""
        steps = [self._cut_leader, self._kill_leader, self._lose_disk, self._cut_follower]
        steps += [self._halve, self._ring, self._pause_leader]
        self._dice.shuffle(steps)
        # Last, as a store with a bug is not to be trusted with anything after it.
        for step in (*steps, self._split_vote):
            step()
            self._serve("no fault", 5)

    # Steps.

    def _cut_leader(self) -> None:
        """Another is elected, and the one that was cut off must not answer reads any more."""
        leader, term = self._cluster.leader()
        with self._probes() as session:
            cut = self._chaos.disconnect(leader)
            self._say(f"cut {self._cluster.named(leader)} off, the leader of term {term}")
            self.isolated += 1
            with self._window("leader cut off", cut):
                self._new_leader(leader, term)
                self._overwrite(session)
                # A right leader has stepped down, or waits for a majority in vain: then others are asked.
                self._read_at(session, leader)
            self._chaos.reconnect(leader)
            self._healed(leader, "reconnected")

    def _halve(self) -> None:
        """The leader is left with less than a majority, and the others elect another."""
        leader, term = self._cluster.leader()
        others = [member for member in self._cluster.members if member != leader]
        self._dice.shuffle(others)
        with_leader = others[: (len(others) + 1) // 2 - 1]
        smaller, larger = [leader, *with_leader], others[len(with_leader) :]
        with self._probes() as session:
            cut = self._chaos.partition([smaller, larger])
            self._say(f"cut {self._names(smaller)} from {self._names(larger)}; the first led term {term}")
            self.isolated += 1
            with self._window("leader in the smaller half", cut):
                self._new_leader(leader, term)
                self._overwrite(session)
                self._read_at(session, leader)
            self._chaos.heal(*cut.fault_ids)
            for member in smaller:
                self._healed(member, "one network again")

    def _ring(self) -> None:
        """Each reaches a majority, and no two the same one: who leads goes on, nobody else is elected."""
        if len(self._cluster.members) < 5:
            self._say("no ring: that takes five members")
            return
        cut = self._chaos.partition(shape="majority-ring")
        self._say("each reaches a majority, and no two the same")
        with self._window("majority ring", cut):
            pass
        self._chaos.heal(*cut.fault_ids)
        for member in self._cluster.members:
            self._healed(member, "one network again")

    def _pause_leader(self) -> None:
        """It stands still and then goes on where it was, while another one leads."""
        leader, term = self._cluster.leader()
        with self._probes() as session:
            pause = self._chaos.pause(leader)
            self._say(f"paused {self._cluster.named(leader)}, the leader of term {term}")
            with self._window("leader paused", pause):
                self._new_leader(leader, term)
                self._overwrite(session)
            self._chaos.resume(leader)
            self._read_at(session, leader)
            self._healed(leader, "resumed")

    def _kill_leader(self) -> None:
        leader, term = self._cluster.leader()
        kill = self._chaos.kill(leader)
        self._say(f"killed {self._cluster.named(leader)}, the leader of term {term}")
        with self._window("leader killed", kill):
            self._new_leader(leader, term)
        self._chaos.revive(leader, with_disk=True)
        self._healed(leader, "revived with its disk")

    def _lose_disk(self) -> None:
        """What a lost disk had promised must not be forgotten by all: see raftkv/rejoin.py."""
        follower = self._follower()
        kill = self._chaos.kill(follower)
        self._say(f"killed {self._cluster.named(follower)}, a follower")
        with self._window("follower killed", kill):
            pass
        self._chaos.revive(follower, with_disk=False)
        self._cluster.until_all_vote()
        self._healed(follower, "revived without its disk")

    def _cut_follower(self) -> None:
        follower = self._follower()
        cut = self._chaos.disconnect(follower)
        self._say(f"cut {self._cluster.named(follower)} off, a follower")
        with self._window("follower cut off", cut):
            pass
        self._chaos.reconnect(follower)
        self._healed(follower, "reconnected")

    def _split_vote(self) -> None:
        """Two candidates ask one voter in one term, and it dies in between: see `check.split`."""
        if len(self._cluster.members) != 5:
            self._say("no vote is split: that takes five members")
            return
        for number in range(1, MOST_SPLITS + 1):
            if not (missed := self._split_once(number)):
                return
            self._say(f"{missed}, which shows nothing")
            # The next try breaks the store again: that it serves after this one's heal must be seen before.
            self._serve("no fault", 5)
        raise UndecidedError(f"the split vote showed nothing in {MOST_SPLITS} tries: {missed}")

    def _split_once(self, number: int) -> str:
        """Why nothing was shown, so that it should be tried again; empty where something was."""
        self._rest()
        self._cluster.until_settled()
        roles = self._dice.sample(self._cluster.members, 5)
        key = "split" if number == 1 else f"split{number}"
        split = Split(self._chaos, self._cluster, self._history, self._say, roles, key)
        try:
            # No window of other faults: for most of it no majority is linked, so nothing needs to succeed.
            cut = split.vote()
        except MissedError as missed:
            split.mend()
            self._workload.resume()
            return str(missed)
        self._workload.resume()
        with self._window("first candidate cut off", cut):
            pass
        self._rest()
        split.compare()
        self._workload.resume()
        return split.missed

    # What they have in common.

    @contextmanager
    def _window(self, name: str, call: Any) -> Iterator[None]:
        """A call's fault holds: for a while, and until each kind of operation has succeeded."""
        start, hold = _now_ns(), self._dice.uniform(1.0, 1.2)
        yield
        self._serve(name, self._successes)
        self._cluster.wait(hold - (_now_ns() - start) / 1e9)
        self._held.append((name, call.fault_ids))

    def _rest(self) -> None:
        if not self._workload.pause():
            raise UndecidedError("the workload does not come to rest")

    def _serve(self, name: str, successes: int) -> None:
        if not self._workload.succeed(successes, DEADLINE_S):
            raise UndecidedError(f"{name}: not {successes} successes of each kind in {DEADLINE_S:g} s")

    @contextmanager
    def _probes(self) -> Iterator[Session]:
        """A session of the plan's own; the probe's key is old."""
        session = self._cluster.session(f"probe/{time.time_ns()}")
        self._probe("put", ["old"], lambda: session.put(PROBE, "old", DEADLINE_S))
        yield session
        session.close()

    def _overwrite(self, session: Session) -> None:
        self._probe("put", ["new"], lambda: session.put(PROBE, "new", DEADLINE_S))

    def _read_at(self, session: Session, member: str) -> None:
        """A read that a member is asked for first, which led before."""
        self._probe("get", None, lambda: session.get(PROBE, DEADLINE_S, first=member))

    def _names(self, members: Sequence[str]) -> str:
        return ", ".join(map(self._cluster.named, members))

    def _probe(self, kind: str, argument: Any, call: Callable[[], Any]) -> None:
        with self._history.operation("plan", kind, PROBE, argument) as operation:
            operation.ok(call())

    def _new_leader(self, besides: str, above: int) -> None:
        others = [member for member in self._cluster.members if member != besides]
        leader, term = self._cluster.leader(others, above)
        self._say(f"{self._cluster.named(leader)} leads, term {term}")

    def _healed(self, member: str, how: str) -> None:
        self._cluster.until_caught_up(member)
        self._say(f"{self._cluster.named(member)} caught up, {how}")

    def _follower(self) -> str:
        leader, _ = self._cluster.leader()
        return self._dice.choice([member for member in self._cluster.members if member != leader])


def _now_ns() -> int:
    """The history's clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
