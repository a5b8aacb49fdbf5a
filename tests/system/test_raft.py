"""The Raft example on a real cluster: true as it is, false with each of the bugs that can be switched on."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from syndicate.client_api.checkers import fault_windows
from syndicate.client_api.history import Outcome, read
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.examples.verdicts import LOST_WRITE, ROW, WINDOWS, prepared
from tests.support.cluster import Cluster, ended, output

# A run takes 20 s, on a busy machine several times as long: its clients wait for a minute for each thing.
DEADLINE_S = 600.0
pytestmark = [pytest.mark.system, pytest.mark.timeout(3 * DEADLINE_S)]

REVIVE = common.FAULT_KIND_REVIVE
LASTING = {common.FAULT_KIND_DISCONNECT, common.FAULT_KIND_PARTITION, common.FAULT_KIND_PAUSE}


def run(cluster: Cluster, folder: Path, **settings: str) -> scheduler.Job:
    """Runs the example with other defaults in the Makefiles of the job and its client."""
    job, client = prepared("raft-kv", folder, settings)
    return cluster.wait(cluster.submit(job, machines=5, client=client), DEADLINE_S)


def test_a_right_store_comes_out_true(cluster: Cluster, tmp_path: Path) -> None:
    """Three elections, a leader isolated, each kind of operation in each window, all faults healed."""
    job = run(cluster, tmp_path, SEED="1")

    text = output(cluster, job, "client-0")
    assert ended(job) == "succeeded" and job.result.outcome == common.OUTCOME_PASS, text
    assert job.result.text.startswith("true: all hold: linearizable, completed, available, tested\n"), text
    metrics = job.result.metrics
    assert metrics["elections"] >= 3 and metrics["leaders_isolated"] >= 1, text
    assert (metrics["terms_with_two_leaders"], metrics["seed"]) == (0, 1), text
    rows = ROW.findall(job.result.text)
    assert {name for name, *_ in rows} == WINDOWS, text
    assert all(float(seconds) >= 1.0 and min(map(int, counts)) >= 1 for _, seconds, *counts in rows), text
    assert not any(fault.error for fault in job.faults), text
    assert {fault.requested_by for fault in job.faults} == {"client-0"}
    kinds = {fault.kind for fault in job.faults}
    assert {common.FAULT_KIND_PARTITION, common.FAULT_KIND_PAUSE} <= kinds, text
    lasting = [fault for fault in job.faults if fault.kind in LASTING]
    assert {fault.healed_by for fault in lasting} == {"client-0"}, "not all healed"
    last = {fault.task: fault.kind for fault in job.faults if fault.kind in (common.FAULT_KIND_KILL, REVIVE)}
    assert set(last.values()) == {REVIVE}, "not all live again"
    served = [kinds for seconds, kinds in successes(cluster, job, tmp_path) if seconds >= 1.0]
    assert sum(kinds == {"get", "append", "put"} for kinds in served) >= len(WINDOWS), served


def successes(cluster: Cluster, job: scheduler.Job, folder: Path) -> list[tuple[float, set[str]]]:
    """How long each fault of the ledger held, and what succeeded in it by the history handed over."""
    fetched = cluster.ctl("fetch", str(job.job_id), str(folder / "store"))
    assert fetched.returncode == 0, fetched.stderr
    (path,) = (folder / "store" / "latest" / "history" / "client-0").iterdir()
    recorded = read(path)
    with cluster.users.chaos(job.job_id) as chaos:
        windows = fault_windows(chaos.faults(), recorded)
    found = []
    for _, start, end in windows:
        assert end is not None
        inside = {
            one.kind
            for one in recorded.operations
            if one.outcome is Outcome.OK and start <= one.invoked_ns and (one.completed_ns or end) <= end
        }
        found.append(((end - start) / 1e9, inside))
    return found


def test_a_replay_ends_in_a_verdict(cluster: Cluster, tmp_path: Path) -> None:
    """Who leads is another one: what the client asks for may be in no ledger, and it says so in a line."""
    first = run(cluster, tmp_path, SEED="1")

    second = cluster.wait(cluster.users.replay(first.job_id), DEADLINE_S)

    text = output(cluster, second, "client-0")
    assert "Traceback" not in text
    assert second.result.text.startswith(("unknown: ", "true: ")), text


@pytest.mark.parametrize("seed", ["2", "3"])
def test_stale_reads_come_out_false(cluster: Cluster, tmp_path: Path, seed: str) -> None:
    """STALE_READS: a leader that was cut off answers, and the counterexample is a read of what is old."""
    job = run(cluster, tmp_path, SEED=seed, STALE_READS="1")

    text = output(cluster, job, "client-0")
    assert ended(job) == "failed" and cluster.reason(job) == "client_failed", text
    assert re.match(r"false: linearizable: get \w+ returned ", job.result.text), text
    assert job.result.metrics["terms_with_two_leaders"] == 0, text


@pytest.mark.parametrize("seed", ["4", "5"])
def test_a_forgotten_vote_comes_out_false(cluster: Cluster, tmp_path: Path, seed: str) -> None:
    """FORGET_VOTE: two leaders of one term, and a write that was acknowledged is missing."""
    job = run(cluster, tmp_path, SEED=seed, FORGET_VOTE="1")

    text = output(cluster, job, "client-0")
    assert ended(job) == "failed" and cluster.reason(job) == "client_failed", text
    # A try for which the machine had no time shows nothing: the client says so, and tries again.
    tries = 1 + text.count(", which shows nothing")
    twice = job.result.metrics["terms_with_two_leaders"]
    assert 1 <= twice <= tries <= 5, text
    assert LOST_WRITE.match(job.result.text), text
    kinds = Counter(common.FaultKind.Name(fault.kind) for fault in job.faults)
    # A leader and a follower before, and the voter of each try.
    assert 2 + twice <= kinds["FAULT_KIND_KILL"] == kinds["FAULT_KIND_REVIVE"] <= 2 + tries, text
