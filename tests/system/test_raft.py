"""The Raft example on a real cluster: its client's figures, and a bug of its own that it must find."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.support.cluster import EXAMPLES, Cluster, ended, output

pytestmark = pytest.mark.system

WINDOWS = (
    "no fault", "leader cut off", "leader killed",
    "follower killed", "follower without disk", "follower cut off",
)  # fmt: skip
LEADER_TAKEN = ("leader cut off", "leader killed")
CUT = (common.FAULT_KIND_DISCONNECT, common.FAULT_KIND_RECONNECT)
KILLED = (common.FAULT_KIND_KILL, common.FAULT_KIND_REVIVE)
ROW = re.compile(r"^(\S[\w ]*?) +([\d.]+) s +([\d.]+) s +(\d+) +(\d+) +(\d+)$", re.MULTILINE)


def copied(folder: Path, **settings: str) -> tuple[Path, Path]:
    """The job and its client, with other defaults in their Makefiles."""
    job = shutil.copytree(
        EXAMPLES / "raft-kv", folder / "raft-kv", ignore=shutil.ignore_patterns("__pycache__")
    )
    client = shutil.move(job / "client", folder / "client")
    for makefile in (job / "Makefile", client / "Makefile"):
        text = makefile.read_text()
        for name, value in settings.items():
            text = re.sub(rf"^{name} \?= .*$", f"{name} ?= {value}", text, flags=re.MULTILINE)
        makefile.write_text(text)
    return job, client


def windows(report: str) -> dict[str, tuple[float, float, int, int, int]]:
    """The table of a report: window to begin, end (seconds), elections, writes, reads."""
    return {
        name: (float(begin), float(end), int(elections), int(writes), int(reads))
        for name, begin, end, elections, writes, reads in ROW.findall(report)
    }


def held_on_manager(fault: scheduler.Fault) -> int:
    """When a fault held, in nanoseconds of the manager's clock."""
    assert fault.applied_at_manager.monotonic_ns, fault
    return fault.applied_at_manager.monotonic_ns


def test_each_fault_window_has_its_elections_and_successes(cluster: Cluster, tmp_path: Path) -> None:
    """A new leader wherever the old one was taken, writes and reads in every window, nothing lost."""
    source, client = copied(tmp_path, SUCCESSES="40")

    job = cluster.run(source, machines=5, client=client, time_limit_s=120)

    text = output(cluster, job, "client-0")
    assert ended(job) == "succeeded" and job.result.outcome == common.OUTCOME_PASS, text
    metrics = job.result.metrics
    assert (metrics["lost_writes"], metrics["stale_reads"]) == (0, 0), text
    told = windows(job.result.text)
    assert tuple(told) == WINDOWS and told == windows(text), text
    for name, (begin, end, elections, writes, reads) in told.items():
        word = name.replace(" ", "_")
        figures = (metrics[f"{word}_elections"], metrics[f"{word}_writes"], metrics[f"{word}_reads"])
        assert figures == (elections, writes, reads), name
        assert begin < end and writes >= 40 and reads >= 40, (name, text)
        assert elections >= (1 if name in LEADER_TAKEN else 0), (name, text)
    in_windows = sum(elections for _, _, elections, _, _ in told.values())
    assert in_windows <= metrics["elections"] >= 3  # the first leader, and one for each that was taken
    assert metrics["writes"] >= sum(writes for _, _, _, writes, _ in told.values())
    assert "lost acknowledged writes: 0" in job.result.text


def test_its_faults_stand_in_the_ledger_in_the_order_of_its_windows(cluster: Cluster, tmp_path: Path) -> None:
    """Who led was cut and killed, then a follower; one revival keeps the disk, the other takes it."""
    source, client = copied(tmp_path, SUCCESSES="10")

    job = cluster.run(source, machines=5, client=client, time_limit_s=120)

    faults = list(job.faults)
    assert tuple(fault.kind for fault in faults) == (*CUT, *KILLED, *KILLED, *CUT), output(
        cluster, job, "client-0"
    )
    assert [fault.with_disk for fault in faults if fault.kind == common.FAULT_KIND_REVIVE] == [True, False]
    assert not any(fault.error for fault in faults) and {fault.requested_by for fault in faults} == {
        "client-0"
    }
    for broken, mended in zip(faults[::2], faults[1::2], strict=True):
        assert broken.task == mended.task and held_on_manager(broken) < held_on_manager(mended)
    text = output(cluster, job, "client-0")
    for fault, word in zip(faults[::2], ("cut", "killed", "killed", "cut"), strict=True):
        assert f"{word} {fault.task} " in text, (fault, text)


def test_a_leader_that_answers_without_asking_is_found_out(cluster: Cluster, tmp_path: Path) -> None:
    """With the bug STALE_READS a leader cut off shows what is old: the client says fail, and where."""
    source, client = copied(tmp_path, SUCCESSES="40", STALE_READS="1")

    job = cluster.run(source, machines=5, client=client, time_limit_s=120)

    text = output(cluster, job, "client-0")
    assert ended(job) == "failed" and cluster.reason(job) == "client_failed", text
    assert job.result.metrics["stale_reads"] > 0 and job.result.metrics["lost_writes"] == 0, text
    assert "(leader cut off)" in job.result.text
