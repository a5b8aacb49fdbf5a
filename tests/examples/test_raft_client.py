"""The Raft example's client, against members that run, and its judgement of what it saw."""

from __future__ import annotations

from pathlib import Path

from check.__main__ import Run, metrics
from check.record import Record
from check.verdict import judge, summary, table
from raft_cluster import Cluster, LocalChaos


def _run(cluster: Cluster, chaos: LocalChaos) -> Run:
    names = {member: f"n{number}" for number, member in enumerate(cluster.members)}
    return Run(chaos, names, successes=25, pace=0.004)


def test_the_whole_plan_passes_on_a_sound_store(tmp_path: Path) -> None:
    """Leader and follower are cut, killed and revived; each window has successes, nothing is lost."""
    with Cluster(tmp_path, "127.77.1") as cluster:
        chaos = LocalChaos(cluster)
        run = _run(cluster, chaos)

        verdict = run.work()

    report = "\n".join([*table(run.record), *summary(run.record, verdict, len(run.elections))])
    assert verdict.outcome == "pass", report
    assert len(run.elections) >= 3, report  # the first, and one for each leader that was taken away
    assert all(window.writes >= 25 and window.reads >= 25 for window in run.record.windows), report
    assert report.endswith("stale reads: 0\nlost acknowledged writes: 0")
    assert [call.rpc for call in chaos.job.calls] == [
        "Disconnect", "Reconnect", "Kill", "Revive", "Kill", "Revive", "Disconnect", "Reconnect",
    ]  # fmt: skip
    assert metrics(run, verdict)["lost_writes"] == 0


def test_stale_reads_are_found(tmp_path: Path) -> None:
    """With the bug STALE_READS a leader that is cut off answers with what is old, and the client sees it."""
    with Cluster(tmp_path, "127.77.2", stale_reads=True) as cluster:
        run = _run(cluster, LocalChaos(cluster))

        verdict = run.work()

    assert verdict.outcome == "fail"
    assert {stale.window for stale in run.record.stale} >= {"leader cut off"}
    assert verdict.lost == ()


def _record(*acknowledged: str) -> Record:
    record = Record(lambda: 0.0)
    window = record.open("no fault", 1)
    for number, value in enumerate(acknowledged, 1):
        record.attempt("k", value)
        record.wrote("k", value, number, window)
        record.read("k", number, number, window)
    return record


def test_a_lost_write_is_a_failure() -> None:
    """An acknowledged value that the last read does not show is lost."""
    verdict = judge(_record("a", "b"), {"k": ["a"]})

    assert verdict.outcome == "fail"
    assert verdict.lost == ("k b",)


def test_an_unanswered_write_may_be_there_or_not() -> None:
    """A write without an answer is neither lost nor invented."""
    record = _record("a")
    record.attempt("k", "b")
    record.unanswered()

    assert judge(record, {"k": ["a"]}).outcome == "pass"
    assert judge(record, {"k": ["a", "b"]}).outcome == "pass"


def test_values_written_twice_never_or_in_another_order_are_failures() -> None:
    """Each value is there at most once, was written by somebody, and stands in its writer's order."""
    record = _record("a", "b")

    assert judge(record, {"k": ["a", "b", "b"]}).doubled == ("k b",)
    assert judge(record, {"k": ["a", "b", "c"]}).invented == ("k c",)
    assert judge(record, {"k": ["b", "a"]}).disordered == ("k",)


def test_a_window_without_success_leaves_it_open() -> None:
    """A store that did not work under a fault has not shown that it keeps its word."""
    record = _record("a")
    record.open("leader killed", 1)

    verdict = judge(record, {"k": ["a"]})

    assert verdict.outcome == "unknown"
    assert verdict.idle == ("leader killed",)


def test_a_read_behind_an_acknowledged_write_is_stale() -> None:
    """A read that shows less than was acknowledged when it began is stale; showing more is not."""
    record = _record("a", "b")

    record.read("k", seen=1, known=2, window=None)
    record.read("k", seen=3, known=2, window=None)

    assert [(stale.seen, stale.known) for stale in record.stale] == [(1, 2)]
    assert judge(record, {"k": ["a", "b"]}).outcome == "fail"
