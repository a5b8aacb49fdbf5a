"""`python3 -m redischeck`: runs the plan, prints what it finds, and says what came out."""

from __future__ import annotations

import os
import sys

from syndicate.client_api import Chaos

from redischeck.plan import Plan, Report, UndecidedError, story


def say(at: float, text: str) -> None:
    """Prints a line with the seconds since the start."""
    print(f"{at:6.2f} s  {text}", flush=True)


def finish(chaos: Chaos, report: Report) -> None:
    """Prints the end of the report and hands it in; a stale read or a lost write is a failure."""
    stale, lost = report.count("stale"), report.count("lost")
    lines = story(report)
    print("\n".join(lines), flush=True)
    metrics = {"operations": report.operations, "stale_reads": stale, "lost_writes": lost}
    chaos.finish(
        outcome="fail" if stale or lost else "pass",
        score=0.0 if stale or lost else 1.0,
        metrics={name: float(number) for name, number in metrics.items()},
        text="\n".join(lines),
    )


def main() -> None:
    """Takes the members from ChaosControl and the number of writes from the environment."""
    with Chaos.from_env() as chaos:
        names = {member.address: member.task for member in chaos.members() if member.role != "client"}
        try:
            report = Plan(chaos, names, say, int(os.environ["WRITES"])).run()
        except UndecidedError as error:
            print(f"cannot tell: {error}", flush=True)
            chaos.finish(outcome="unknown", text=str(error))
            sys.exit(1)
        finish(chaos, report)


main()
