"""What the manager tells, read into a run."""

from __future__ import annotations

import pytest
from syndicate.cli.report.logs import LogGatherer
from syndicate.cli.report.windows import windows
from syndicate.cli.report.wire import read_run
from syndicate.v1 import common_pb2 as common

from tests.cli.fake_scheduler import ended_job, fault, log, queued_job, running_job, stamp


def test_a_job_is_read_whole() -> None:
    """Verdict, lanes and faults, in seconds since the start."""
    run = read_run(ended_job(), stamp(99))
    assert (run.job_id, run.name, run.owner, run.ended) == (12, "raft-kv", "alice", True)
    assert (run.length_s, run.waited_s) == pytest.approx((15.4, 3.1))
    assert (run.verdict.outcome, run.verdict.score) == ("pass", 0.97)
    assert [lane.task for lane in run.lanes] == ["master", "slave-0", "slave-1", "client-0"]
    broken = run.lanes[1]
    assert [time.generation for time in broken.times] == [1, 2]
    assert (broken.kills_s, broken.revivals) == (pytest.approx((5.1,)), ((pytest.approx(7.0), "disk kept"),))
    assert [one.kind for one in run.faults] == ["disconnect", "kill", "revive", "reconnect"]
    assert [one.healed for one in windows(run)] == [True, True]


def test_a_fault_with_all_that_a_ledger_tells() -> None:
    """Shape, heal, its error and who healed."""
    job = ended_job()
    job.faults.append(
        fault(
            5,
            common.FAULT_KIND_PARTITION,
            "slave-1",
            9.0,
            shape="majority-ring",
            text="majority-ring",
            call_id=5,
            healed_at_manager=stamp(11.0),
            healed_error_ns=300_000,
            healed_by="lease",
        )
    )
    told = read_run(job, stamp(99)).faults[-1]
    assert (told.what, told.healed_s, told.healed_by) == (
        "partition majority-ring",
        pytest.approx(11.0),
        "lease",
    )
    assert (told.error_s, told.healed_error_s) == (0.0002, 0.0003)


def test_a_running_job_lasts_until_now() -> None:
    """It is drawn as far as it has come."""
    run = read_run(running_job(), stamp(20))
    assert (run.ended, run.length_s) == (False, pytest.approx(20.0))


def test_a_waiting_job_has_nothing_to_draw() -> None:
    """No lane, no length, and no error."""
    run = read_run(queued_job(), stamp(20))
    assert (run.length_s, run.lanes) == (0.0, ())


def test_names_and_texts_cannot_steer() -> None:
    """Controls are escapes wherever somebody else chose the words."""
    job = ended_job()
    job.spec.name = "a\x1b[2J"
    job.result.text = "one\x07\ntwo\u202e"
    job.faults.append(fault(5, common.FAULT_KIND_DEGRADE, "slave-1", 9.0, text="loss\x1b"))
    run = read_run(job, stamp(99))
    assert run.name == "a\\x1b[2J"
    assert run.verdict.text == ("one\\x07", "two\\u202e")
    assert "\x1b" not in run.faults[-1].what + run.faults[-1].text


def test_a_detail_that_repeats_the_client_is_left_out() -> None:
    """The manager's detail of a failed client is its name and its first line; another one stays."""
    job = ended_job()
    job.result.text = "false: a stale read\nmore"
    job.detail = "client-0: false: a stale read"
    assert read_run(job, stamp(99)).verdict.detail == ""
    job.detail = "it ran out of memory"
    assert read_run(job, stamp(99)).verdict.detail == "it ran out of memory"


def test_output_becomes_lines_with_equal_shares() -> None:
    """A task that says much does not push out one that says little; what is left out is counted."""
    gatherer = LogGatherer(stamp(0), tasks=2, most=20)
    for place in range(100):
        gatherer.feed(log("master", place * 8, b"line %02d\n" % place, place / 10))
    gatherer.feed(log("slave-0", 0, b"\x1b]0;alone\n", 5.0))
    told = gatherer.logs()
    assert [line.text for line in told.lines if line.task == "slave-0"] == ["\\x1b]0;alone"]
    assert len(told.lines) <= 11
    assert len(told.lines) + told.left_out == 101
