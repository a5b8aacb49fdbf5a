"""Runs as a client of a job of twenty: times faults beside an empty call over the same relay, interleaved.

Prints one JSON object: lists of milliseconds by name; `NAME_held` are those from the call until the fault
held, by the stamp of the machine that has the member, which is this one.
"""

import json
import time

from syndicate.client_api import Chaos

SINGLES = 400  # so that a 99th percentile is not the worst of all
TOGETHER = 60
WARM = 10
HELD = {"disconnect", "pause"}


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)  # that of the stamps


def timed(name: str, call) -> dict[str, float]:
    start = now_ns()
    answer = call()
    took = {name: (now_ns() - start) / 1e6}
    if name in HELD:
        took[f"{name}_held"] = (answer.applied_at.monotonic_ns - start) / 1e6
    return took


def interleaved(rounds: int, steps: dict) -> dict[str, list[float]]:
    """Each step in turn, so many times."""
    times = {}
    for round_ in range(WARM + rounds):
        for name, step in steps.items():
            sample = timed(name, step)
            if round_ >= WARM:  # the first ones warm caches and connections
                for figure, took in sample.items():
                    times.setdefault(figure, []).append(took)
    return times


with Chaos.from_env() as chaos:
    members = [member.address for member in chaos.members() if member.role != "client"]
    assert len(members) == 20, members
    one, halves = members[7], [members[:10], members[10:]]
    singles = {
        "ping": chaos.ping,
        "disconnect": lambda: chaos.disconnect(one),
        "reconnect": lambda: chaos.reconnect(one),
        "pause": lambda: chaos.pause(one),
        "resume": lambda: chaos.resume(one),
    }
    together = {
        "settle": chaos.ping,  # what a heal of twenty leaves to do is not of the next
        "one": lambda: chaos.disconnect(one),
        "one_back": lambda: chaos.reconnect(one),
        "partition": lambda: chaos.partition(halves),
        "heal": chaos.heal,
    }
    times = interleaved(SINGLES, singles) | interleaved(TOGETHER, together)
    print(json.dumps(times), flush=True)
    chaos.finish("pass")
