"""Runs as a client of a job of twenty: times faults beside an empty call over the same relay, interleaved.

Prints one JSON object: lists of milliseconds by name.
"""

import json
import time

from syndicate.client_api import Chaos

SINGLES = 400  # so that a 99th percentile is not the worst of all
TOGETHER = 60
WARM = 10


def timed(call) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def interleaved(rounds: int, steps: dict) -> dict[str, list[float]]:
    """Each step in turn, so many times."""
    times = {name: [] for name in steps}
    for round_ in range(WARM + rounds):
        sample = {name: timed(step) for name, step in steps.items()}
        if round_ >= WARM:  # the first ones warm caches and connections
            for name, took in sample.items():
                times[name].append(took)
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
