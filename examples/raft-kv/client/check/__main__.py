"""`python3 -m check`: runs the plan, prints the report, and says what came out."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time

from check.kv import Session, UnansweredError
from check.plan import ChaosCalls, Plan, UndecidedError
from check.record import Record
from check.verdict import Verdict, judge, summary, table
from check.workload import Workload

WRITERS = 3
READERS = 2
FINAL_READ_S = 15.0


class Run:
    """One run from start to verdict.

    Args:
        names: what each member's address is called, master first.
    """

    def __init__(self, chaos: ChaosCalls, names: dict[str, str], successes: int, pace: float) -> None:
        self._start = time.monotonic()
        self._members = list(names)
        self._names = names
        self._pace = pace
        self.record = Record(self.clock)
        self._plan = Plan(chaos, self._members, names, self.record, self.say, successes)
        self.elections: list[int] = []

    def clock(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """Prints a line with the time since the start."""
        print(f"{self.clock():6.2f} s  {text}", flush=True)

    def work(self) -> Verdict:
        """Runs the whole plan under load.

        Raises:
            UndecidedError: it cannot be said what became of the store.
        """
        name, seed = secrets.token_hex(4), secrets.randbelow(10_000)
        workload = Workload(self._members, self.record, name, seed, self._pace)
        self._plan.await_birth()
        self.say(f"{WRITERS} writers, {READERS} readers, seed {seed}")
        workload.start(WRITERS, READERS)
        try:
            self._plan.run()
        finally:
            workload.stop()
        self.elections = self._plan.elections()
        self._plan.close()
        return judge(self.record, self._read_all())

    def _read_all(self) -> dict[str, list[str]]:
        session = Session(self._members, "final", threading.Event().wait)
        try:
            return {key: session.values(key, FINAL_READ_S) for key in self.record.keys}
        except UnansweredError as error:
            raise UndecidedError(f"the last read was not answered: {error}") from error
        finally:
            session.close()


def main() -> None:
    """Reads the job's members from the chaos socket's answer and the knobs from the environment."""
    from syndicate.client_api import Chaos  # only here: the rest can be tried without a cluster

    with Chaos.from_env() as chaos:
        names = {member.address: member.task for member in chaos.members() if member.role != "client"}
        run = Run(chaos, names, int(os.environ["SUCCESSES"]), float(os.environ["PACE"]))
        try:
            verdict = run.work()
        except UndecidedError as error:
            print(f"cannot tell: {error}", flush=True)
            chaos.finish(outcome="unknown", text=str(error))
            sys.exit(1)
        windows = table(run.record)
        lines = summary(run.record, verdict, len(run.elections))
        print("\n".join([*windows, *lines]), flush=True)
        chaos.finish(
            outcome=verdict.outcome,
            score=0.0 if verdict.broken else 1.0,
            metrics=metrics(run, verdict),
            text="\n".join([*lines, *windows]),
        )


def metrics(run: Run, verdict: Verdict) -> dict[str, float]:
    """The run in numbers."""
    record = run.record
    numbers = {
        "operations": record.writes + record.reads,
        "writes": record.writes,
        "reads": record.reads,
        "elections": len(run.elections),
        "stale_reads": verdict.stale,
        "lost_writes": len(verdict.lost),
        "longest_write_gap_s": round(record.longest_gap, 3),
    }
    for window in record.windows:
        name = window.name.replace(" ", "_")
        numbers[f"{name}_elections"] = window.elections
        numbers[f"{name}_writes"] = window.writes
        numbers[f"{name}_reads"] = window.reads
    return {name: float(number) for name, number in numbers.items()}


if __name__ == "__main__":
    main()
