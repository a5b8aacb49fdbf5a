"""Faults as a client calls them: beside an empty call over the same relay, and of four members at once.

In clear text; `disconnect_tls` is the first of them with TLS on all listeners, beside an empty call there.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import replace

from syndicate.client_api import job_has_ended
from syndicate.v1.scheduler_pb2 import Job

from tests.bench.figure import Figure, of
from tests.bench.floor import bare_kills
from tests.bench.place import JOBS, cluster
from tests.support.cluster import Cluster, ended, eventually, output

NAMES = ("disconnect", "reconnect", "kill4_keeper", "kill4_caller", "kill4_calls")
NAMES_TLS = ("disconnect_tls",)
KILL = 1
FLOOR_ROUNDS = 8
FLOOR = "bare cgroup.kill of as many sleeping processes"
PING = "empty ChaosControl call over the same relay"


def kills_at_keeper(faults: list[object]) -> list[float]:
    """Milliseconds from the first kill's begin to the last one's end, for each round of four."""
    kills = [fault for fault in faults if fault.kind == KILL]  # type: ignore[attr-defined]  # a Fault message
    spans = []
    for first in range(0, len(kills), 4):
        four = kills[first : first + 4]
        begin = min(fault.applied_at.monotonic_ns - fault.duration_ns for fault in four)
        spans.append((max(fault.applied_at.monotonic_ns for fault in four) - begin) / 1e6)
    return spans


def measure() -> Iterator[Figure]:
    """One job of a master, four slaves and the measuring client."""
    with cluster(10, tls=False) as place:
        # Half before and half after: a shared machine is not equally fast at all times.
        floor = bare_kills(FLOOR_ROUNDS)
        figures = list(measured(place))
        floor += bare_kills(FLOOR_ROUNDS)
    for figure in figures:
        if figure.name == "kill4_keeper":
            figure = replace(figure, against=FLOOR, against_value=statistics.median(floor))
        yield figure


def measure_tls() -> Iterator[Figure]:
    """The same job on a cluster with TLS."""
    with cluster(10, tls=True) as place:
        _, times = ran(place)
    yield of("disconnect_tls", "ms", times["disconnect"], f"{PING}, with TLS", times["ping"])


def ran(place: Cluster) -> tuple[Job, dict[str, list[float]]]:
    """One run of the measuring client: the job, and what it timed in milliseconds."""
    job_id = place.submit(JOBS / "daemons", machines=5, client=JOBS / "measure", time_limit_s=120)
    # Looked at now and then: a watcher is sent the whole job at each fault, and would be measured too.
    eventually(
        "its end", lambda: job_has_ended(next(place.users.jobs(page_size=1)).state), 180.0, every_s=0.25
    )
    job = place.users.job(job_id)
    text = output(place, job, "client-0")
    if ended(job) != "succeeded":
        raise RuntimeError(f"the measuring client failed:\n{text}\n{place.daemon_logs()}")
    times: dict[str, list[float]] = json.loads(text.splitlines()[-1])
    return job, times


def measured(place: Cluster) -> Iterator[Figure]:
    """The figures of one run of the measuring client."""
    job, times = ran(place)
    yield of("disconnect", "ms", times["disconnect"], PING, times["ping"])
    yield of("reconnect", "ms", times["reconnect"], PING, times["ping"])
    at_keeper = kills_at_keeper(list(job.faults))
    by_one_call, by_four = at_keeper[::2], at_keeper[1::2]  # they take turns
    yield of("kill4_keeper", "ms", by_one_call, "", [])
    yield of("kill4_caller", "ms", times["kill4_caller"], "at the keeper's clock", by_one_call)
    yield of("kill4_calls", "ms", times["kill4_calls"], "four calls at once, at the keeper's clock", by_four)
