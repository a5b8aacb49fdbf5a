"""Faults in a job of twenty: one beside an empty call, and all of them in one call beside one.

A Disconnect and a Pause are timed from the client's call until they hold, by the keeper's stamp, and once
more until the client has its answer (`_answered`). In clear text, on one machine that has all the slots.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator

from syndicate.client_api import job_has_ended

from tests.bench.figure import Figure, of, p99
from tests.bench.place import JOBS, cluster
from tests.support.cluster import ended, eventually, output

NAMES = (
    "disconnect20",
    "disconnect20_p99",
    "disconnect20_p99_of_median",
    "disconnect20_answered",
    "partition20",
    "pause",
    "pause_answered",
)
MACHINES = 20
PING = "empty ChaosControl call over the same relay"


def measure() -> Iterator[Figure]:
    """One job of a master, nineteen slaves and the measuring client."""
    times = ran()
    cuts, pings = times["disconnect_held"], times["ping"]
    slowest = p99(cuts)
    yield of("disconnect20", "ms", cuts, PING, pings)
    yield Figure("disconnect20_p99", slowest, "ms", None, f"p99 of an {PING}", p99(pings), len(cuts))
    # The harder reading of the same bound: what the machine itself does to one call in a hundred counts too.
    median = statistics.median(pings)
    yield Figure("disconnect20_p99_of_median", slowest, "ms", None, f"median of an {PING}", median, len(cuts))
    yield of("disconnect20_answered", "ms", times["disconnect"], PING, pings)
    yield of("partition20", "ms", times["partition"], "Disconnect of one of them", times["one"])
    yield of("pause", "ms", times["pause_held"], PING, pings)
    yield of("pause_answered", "ms", times["pause"], PING, pings)


def ran() -> dict[str, list[float]]:
    """What the client timed, in milliseconds."""
    with cluster(MACHINES + 1, tls=False) as place:
        job_id = place.submit(JOBS / "still", machines=MACHINES, client=JOBS / "strikes", time_limit_s=180)
        # Looked at now and then: a watcher is sent the whole job at each fault, and would be measured too.
        eventually(
            "its end", lambda: job_has_ended(next(place.users.jobs(page_size=1)).state), 240.0, every_s=0.25
        )
        job = place.users.job(job_id)
        text = output(place, job, "client-0")
        if ended(job) != "succeeded":
            raise RuntimeError(f"the measuring client failed:\n{text}\n{place.daemon_logs()}")
        times: dict[str, list[float]] = json.loads(text.splitlines()[-1])
        return times
