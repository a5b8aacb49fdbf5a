"""The kinds of fault in `show`, `follow` and `logs`: named, placed, and healed by whom."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from syndicate.cli.render.follow import FollowView
from syndicate.cli.render.lanes import ASCII_GLYPHS, draw_lanes
from syndicate.cli.render.log_marks import LogMarks
from syndicate.cli.render.ordering import Ordering
from syndicate.cli.render.show import Page, show_job, story_lines
from syndicate.cli.render.timeline import timeline
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import FakeManager, ended_job, fault, log, running_job, stamp

HALVES = {"call_id": 1, "shape": "halves", "text": "master | slave-0, slave-1"}


def line(
    number: int, kind: str, who: str, at: float, healed: float | None = None, **values: Any
) -> common.Fault:
    """A line of the ledger; of one that was healed ``by`` says by whom."""
    by = values.pop("by", "client-0")
    made = fault(number, common.FaultKind.Value(f"FAULT_KIND_{kind}"), who, at, **values)
    if healed is not None:
        made.healed_at_manager.CopyFrom(stamp(healed))
        made.healed_by = by
    return made


def broken_job(*faults: common.Fault) -> scheduler.Job:
    job = ended_job()
    del job.faults[:]
    del job.tasks[1].runs[1:]
    job.tasks[1].runs[0].ended_at.CopyFrom(stamp(15.4))
    job.faults.extend(faults)
    return job


def lane(job: scheduler.Job, number: int, width: int = 120) -> str:
    drawn = timeline(job, stamp(99))
    assert drawn is not None
    return draw_lanes(drawn, width, ASCII_GLYPHS)[1 + number]


def test_a_partition_is_one_row_and_a_cut_in_each_lane() -> None:
    """Its lines are of one call: it is told once, with who was on which side."""
    job = broken_job(
        *(line(n, "PARTITION", who, 3, 6, **HALVES) for n, who in enumerate(("master", "slave-0"), 1))
    )
    told = [row for row in story_lines(job) if "partition" in row]
    assert len(told) == 1
    assert "job        partition halves: master | slave-0, slave-1  by client-0" in told[0]
    assert "partition halves 3.00-6.00" in lane(job, 0)
    assert lane(job, 1).count("-") > 5
    assert [row.split("   ")[1] for row in FollowView(120).see(job) if "partition" in row] == [
        "partition halves: master | slave-0, slave-1"
    ]


def test_a_degradation_says_how_to_whom_and_what_ended_it() -> None:
    """With its lease, where that is what ended it."""
    worse = line(
        1,
        "DEGRADE",
        "slave-0",
        2,
        7,
        by="lease",
        text="loss 10 %",
        peers=["slave-1"],
        one_way=True,
        lease_s=5,
    )
    healed = line(2, "HEAL", "slave-0", 7)
    healed.requested_by = "lease"
    job = broken_job(worse, healed)
    story = "\n".join(story_lines(job))
    assert "degraded: loss 10 % to slave-1, lease 5.0 s  by client-0" in story
    assert "healed  by lease" in story
    assert "loss 10 % to slave-1 2.00-7.00 (lease)" in lane(job, 1)
    assert any("healed    slave-0 (lease)" in row for row in FollowView(120).see(job))


def test_a_pause_a_full_disk_and_a_signal() -> None:
    """Each has its own sign in the lane, and its word behind it."""
    job = broken_job(
        line(1, "PAUSE", "slave-0", 2, 4),
        line(2, "RESUME", "slave-0", 4),
        line(3, "SIGNAL", "slave-0", 6, signal=3, processes=2),
        line(4, "DISK_FULL", "slave-0", 8, 12),
    )
    drawn = lane(job, 1)
    assert all(sign in drawn for sign in (":", "!", "_"))
    assert drawn.endswith("paused 2.00-4.00, signal QUIT 6.00, disk full 8.00-12.00")
    story = "\n".join(story_lines(job))
    assert "slave-0    signal QUIT (2 processes)  by client-0" in story
    assert "slave-0    resumed" in story


def test_cuts_that_overlap_are_both_told() -> None:
    """A reset within a partition, and one that is still in force."""
    split = line(1, "PARTITION", "slave-0", 2, 9, **HALVES)
    job = broken_job(split, line(2, "RESET", "slave-0", 3, 5), line(3, "DISCONNECT", "slave-0", 11))
    assert lane(job, 1).endswith("partition halves 2.00-9.00, reset 3.00-5.00, cut 11.00-")


def test_what_could_not_be_done_reads_well() -> None:
    """Whatever the kind."""
    job = broken_job(
        line(1, "PAUSE", "master", 1, error="no freezer"), line(2, "DISK_FULL", "master", 2, error="no")
    )
    story = "\n".join(story_lines(job))
    assert "could not be paused  by client-0: no freezer" in story
    assert "could not be given a full disk  by client-0: no" in story


def test_a_kind_that_is_not_known_is_a_fault() -> None:
    """Of a newer manager."""
    odd = fault(1, common.FAULT_KIND_KILL, "master", 1)
    odd.kind = 99  # type: ignore[assignment]  # what no enum of today has
    assert "fault" in "\n".join(show_job(broken_job(odd), stamp(99), Page()))


def test_many_kinds_are_counted() -> None:
    """Where there is no room for every fault's time."""
    kinds = ("PAUSE", "RESET") * 19
    faults = [
        line(number, kind, "slave-0", number / 4, number / 4 + 0.1) for number, kind in enumerate(kinds, 1)
    ]
    assert "paused 19 times, cut 19 times" in lane(broken_job(*faults), 1, 80)


def test_logs_place_faults_among_the_lines(ctl: Ctl, manager: FakeManager) -> None:
    """By their times; of chosen tasks only theirs."""
    manager.scheduler.jobs[12] = ended_job()
    pieces = [log("slave-0", 0, b"one\n", 4.0), log("slave-0", 4, b"two\n", 7.5)]
    manager.scheduler.logs[12] = [pieces, pieces]
    assert ctl("logs", "12").out.splitlines() == [
        "*         * cut slave-1 from master, slave-0",
        "slave-0   | one",
        "*         * killed slave-0 (4 processes)",
        "*         * revived slave-0, disk kept, generation 2",
        "slave-0   | two",
        "*         * healed slave-1",
    ]
    assert "slave-1" not in ctl("logs", "12", "--task", "slave-0").out


def test_followed_logs_place_faults_too(
    ctl: Ctl, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they happen, until the job has ended."""
    # However late one of the two streams is: nothing is printed before the end.
    monkeypatch.setattr("syndicate.cli.follow.Ordering", partial(Ordering, hold_s=60.0))
    manager.scheduler.jobs[12] = running_job()
    manager.scheduler.watches[12] = [[running_job(), ended_job()]]
    manager.scheduler.logs[12] = [[log("slave-0", 0, b"one\n", 4.0), log("slave-0", 4, b"two\n", 7.5)]]
    rows = ctl("logs", "12", "--follow").out.splitlines()
    assert rows[:3] == [
        "*         * cut slave-1 from master, slave-0",
        "slave-0   | one",
        "*         * killed slave-0 (4 processes)",
    ]
    assert len(rows) == 6


def test_one_heal_of_several_members_is_one_row() -> None:
    """In `show`, `follow` and `logs`, with all their names; one of a single member stands under its own."""
    job = broken_job(
        *(line(n, "HEAL", who, 6, call_id=1) for n, who in enumerate(("master", "slave-0"), 1)),
        line(3, "HEAL", "slave-0", 7, call_id=3),
    )
    told = [row.split("  by ")[0].split(maxsplit=2)[2] for row in story_lines(job) if "healed" in row]
    assert told == ["job        healed master, slave-0", "slave-0    healed"]
    followed = [row for row in FollowView(120).see(job) if "healed" in row]
    assert ["healed    master, slave-0" in row for row in followed] == [True, False]
    assert [text for _, text in LogMarks().see(job)] == ["healed master, slave-0", "healed slave-0"]
    assert next(text for _, text in LogMarks(["slave-0"]).see(job)) == "healed master, slave-0"
    assert LogMarks(["client-0"]).see(job) == []
