"""`python3 -m check`: breaks the store while it is used, and says whether it kept its word."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence

from syndicate.client_api import Chaos, ChaosError
from syndicate.client_api.checkers import (
    Answer,
    AvailableAgain,
    Budget,
    FaultWindow,
    KeyValue,
    Linearizable,
    NotVacuous,
    Verdict,
    compose,
    fault_windows,
)
from syndicate.client_api.history import History, Operation, Outcome, read

from check.cluster import DEADLINE_S, Cluster, UndecidedError
from check.kv import UnansweredError
from check.plan import ChaosCalls, Plan
from check.workload import KEYS, Workload

CLIENTS = 5
AVAILABLE_AGAIN_S = 30.0  # an election takes a second; a busy machine may stand still for longer
CHECK_S = 120.0  # each of the four checkers has its share; they take a second


class Completed:
    """Turns the pass of a plan that did not come to its end into unknown; what is false stays false."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def check(
        self, operations: Sequence[Operation], budget: Budget | None = None, *, overlap_ns: int = 0
    ) -> Verdict:
        """See `syndicate.client_api.checkers.Checker`."""
        if self._error is not None:
            return Verdict(Answer.UNKNOWN, str(self._error))
        return Verdict(Answer.TRUE, "every step came to its end")


class Run:
    """One run from start to verdict.

    Args:
        names: what each member's address is called, master first.
        successes: of each kind of operation, in each window of a fault.
        pace: seconds between the operations of one client.
    """

    def __init__(
        self,
        chaos: ChaosCalls,
        names: Mapping[str, str],
        history: History,
        seed: int,
        successes: int,
        pace: float,
    ) -> None:
        self._start = time.monotonic()
        self._chaos = chaos
        self._history = history
        self._seed = seed
        self._cluster = Cluster(names)
        self._workload = Workload(self._cluster.members, history, seed, pace)
        self._plan = Plan(chaos, self._cluster, self._workload, history, seed, self.say, successes)
        self._elections: set[tuple[int, str]] = set()
        self._windows: list[FaultWindow] = []

    def say(self, text: str) -> None:
        """Prints a line with the time since the start."""
        print(f"{time.monotonic() - self._start:6.2f} s  {text}", flush=True)

    def work(self) -> Verdict:
        """Breaks the store under load, and judges what its clients saw."""
        stopped: Exception | None = None
        try:
            self._cluster.until_all_vote()
            leader, term = self._cluster.leader()
            self.say(
                f"{self._cluster.named(leader)} leads, term {term}; {CLIENTS} clients, seed {self._seed}"
            )
            self._workload.start(CLIENTS)
            self._plan.run()
            self._workload.stop()
            self._read_all()
        except (UndecidedError, UnansweredError, ChaosError) as error:  # NotInReplay among them
            self.say(f"stopped: {error}")
            stopped = error
            self._workload.stop()
        self._elections = self._cluster.elections()
        self._cluster.close()
        return self._judge(stopped)

    def metrics(self) -> dict[str, float]:
        """The run in numbers."""
        operations = read(self._history.path).operations
        return {
            "seed": self._seed,
            "operations": len(operations),
            "successes": sum(one.outcome is Outcome.OK for one in operations),
            "elections": len(self._elections),
            "terms_with_two_leaders": len(self._elections) - len({term for term, _ in self._elections}),
            "leaders_isolated": self._plan.isolated,
            "fault_windows": len(self._windows),
        }

    def table(self) -> list[str]:
        """How many operations of each kind began, ended and succeeded in each window of a fault."""
        operations = read(self._history.path).operations
        lines = []
        last = max((one.completed_ns or one.invoked_ns for one in operations), default=0)
        for name, start, healed in self._windows:
            end = max(start, last) if healed is None else healed
            inside = [
                one.kind
                for one in operations
                if one.outcome is Outcome.OK and start <= one.invoked_ns and (one.completed_ns or end) <= end
            ]
            counts = ", ".join(f"{inside.count(kind)} {kind}" for kind in ("get", "append", "put"))
            lines.append(f"{name}, {(end - start) / 1e9:.1f} s: {counts}")
        return lines

    def _judge(self, stopped: Exception | None) -> Verdict:
        recorded, faults = read(self._history.path), self._chaos.faults()
        self._windows = self._plan.windows(faults, recorded)
        checker = compose(
            {
                "linearizable": Linearizable(KeyValue([])),  # a key that nobody wrote is an empty list
                "completed": Completed(stopped),
                "available": AvailableAgain(AVAILABLE_AGAIN_S, fault_windows(faults, recorded)),
                "tested": NotVacuous(self._windows),
            }
        )
        return checker.check(recorded.operations, Budget(seconds=CHECK_S))

    def _read_all(self) -> None:
        """A last read of each key, so that no write is lost unseen."""
        session = self._cluster.session("final")
        for key in KEYS:
            with self._history.operation("final", "get", key) as operation:
                operation.ok(session.get(key, DEADLINE_S))
        session.close()


def main() -> None:
    """Takes the members from ChaosControl, and seed and knobs from the environment (see the Makefile)."""
    env = os.environ
    seed = int(env["SEED"] or secrets.randbelow(10_000))
    with Chaos.from_env() as chaos, History.open() as history:
        names = {member.address: member.task for member in chaos.members() if member.role != "client"}
        history.set_clock(chaos.ping())
        run = Run(chaos, names, history, seed, int(env["SUCCESSES"]), float(env["PACE"]))
        verdict = run.work()
        chaos.hand_over(history)  # for the report
        told = verdict.finish_arguments()
        told["text"] = "\n".join([told["text"], *run.table(), f"seed {seed}: run again with SEED={seed}"])
        told["metrics"] |= run.metrics()
        print(told["text"], flush=True)
        chaos.finish(**told)


if __name__ == "__main__":
    main()
