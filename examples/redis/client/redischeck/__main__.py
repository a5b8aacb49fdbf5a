"""`python3 -m redischeck`: runs the plan, has the history judged, and says what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from syndicate.client_api import Chaos
from syndicate.client_api.history import History, read

from redischeck.judge import judge
from redischeck.plan import Plan, UndecidedError


def stopwatch() -> Callable[[str], None]:
    """Prints lines with the seconds since now."""
    start = time.monotonic()
    return lambda text: print(f"{time.monotonic() - start:6.2f} s  {text}", flush=True)


def main() -> None:
    """Takes the members from ChaosControl."""
    with Chaos.from_env() as chaos, History.open() as history:
        names = {member.address: member.task for member in chaos.members() if member.role != "client"}
        history.set_clock(chaos.ping())
        try:
            plan = Plan(chaos, names, history, stopwatch())
            plan.run()
        except UndecidedError as error:
            print(f"unknown: {error}", flush=True)
            chaos.finish(outcome="unknown", text=str(error))
            sys.exit(1)
        verdict = judge(read(history.path).operations, plan.windows)
        print(verdict.text(), flush=True)
        chaos.hand_over(history)  # for the report
        chaos.finish(**verdict.finish_arguments())


main()
