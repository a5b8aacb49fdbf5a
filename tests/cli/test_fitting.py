"""What is shown in a terminal's columns: tables that fit, texts that are broken between words."""

from __future__ import annotations

import pytest
from syndicate.cli.render.fit import elided, hung
from syndicate.cli.render.follow import FollowView
from syndicate.cli.render.job_lines import end_lines
from syndicate.cli.render.palette import PLAIN, Palette
from syndicate.cli.render.show import Page, show_job
from syndicate.cli.render.tables import jobs_table, nodes_table
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1.common_pb2 import JobState, Reason

from tests.cli.fake_scheduler import ended_job, fault, node, queued_job, running_job, stamp


def widest(lines: list[str]) -> int:
    return max(map(len, lines))


def wide_job() -> scheduler.Job:
    """One whose every text is long."""
    job = ended_job()
    job.spec.name, job.owner = "a-long-name-" * 4, "somebody-" * 4
    job.detail = "client-0 passed: " + "all is well " * 20
    job.result.text = "every acknowledged write was there " * 8
    job.faults.append(fault(9, common.FAULT_KIND_KILL, "master", 9.0, error="no such cgroup " * 10))
    job.story.append(
        scheduler.StoryLine(at=stamp(6), task="slave-0", event="x", text="it went on and on " * 12, attempt=1)
    )
    return job


def test_a_long_text_hangs_below_its_beginning() -> None:
    """Later lines are indented as far as the text; a word is never broken; all of it is there."""
    assert hung("reason     ", "x" * 40 + " one two three", 50) == [
        "reason     " + "x" * 40, " " * 11 + "one two three",
    ]  # fmt: skip
    assert hung("a ", "text that fits", 80) == ["a text that fits"]


def test_what_belongs_together_is_not_broken() -> None:
    """Numbers keep their units, and commands in backquotes can be copied."""
    assert hung("", "applied in 0.7 ms (at ± 1.2 ms), ended by `node resume x`", 40) == [
        "applied in 0.7 ms (at ± 1.2 ms), ended", "by `node resume x`",
    ]  # fmt: skip
    assert hung("", "applied within something like 12.25 ms", 34)[1] == "12.25 ms"
    assert hung("", "it is drained, until `node resume x`", 30)[1] == "`node resume x`"


def test_what_is_cut_off_is_marked() -> None:
    """A text that is too long ends with the sign for more."""
    assert (elided("raft-kv", 7), elided("raft-kv", 6), elided("raft-kv", 6, "~")) == (
        "raft-kv", "raft-…", "raft-~",
    )  # fmt: skip


@pytest.mark.parametrize("width", [80, 100])
def test_a_page_fits_the_terminal(width: int) -> None:
    """Headline, reason, result and story are broken; nothing of them is lost."""
    job = wide_job()
    lines = show_job(job, stamp(20), Page(width=width, room=width))
    assert widest(lines) <= width
    words = " ".join(lines).split()
    for text in (job.spec.name, job.owner, "submitted", "waited"):
        assert text in words
    assert words.count("write") == 8
    for state in (JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_FAILED):
        job.state, job.reason, job.waits_for = state, Reason.REASON_NOTHING_RUN, "very much " * 12
        assert widest(show_job(job, stamp(20), Page(width=width, room=width))) <= width


def test_the_end_of_a_job_fits() -> None:
    """What is long goes below the state, the time and the command that tells more."""
    job = wide_job()
    job.state, job.reason = JobState.JOB_STATE_FAILED, Reason.REASON_CLIENT_FAILED
    job.detail = "client-0 failed: " + "a write was lost " * 10
    lines = end_lines(job, PLAIN, "syndicatectl show 12", 80)
    assert lines[0] == "job 12     FAILED  pass  score 0.97   15.4 s   syndicatectl show 12"
    assert widest(lines) <= 80 and len(lines) > 2


def test_follow_fits() -> None:
    """Faults, their peers and failures are broken at the terminal's width; colour takes no column."""
    job = wide_job()
    for palette in (PLAIN, Palette(enabled=True)):
        lines = FollowView(80, palette, 80).see(job)
        plain = [line.replace("\x1b[33m", "").replace("\x1b[0m", "") for line in lines]
        assert widest(plain) <= 80
        assert sum("applied in 0.9 ms" in line for line in lines) == 4


@pytest.mark.parametrize("job_ids", [range(3), range(30)])
def test_nodes_fit(job_ids: range) -> None:
    """At 80 columns the jobs of a node are counted and columns of less worth go; ids stay whole."""
    long = node("volunteer-07.lab.example.org", scheduler.NODE_STATE_READY, 32)
    for job_id in job_ids:
        long.slots[job_id].job_id = 1200 + job_id
    for lines in (nodes_table([long], stamp(2), 80), nodes_table([long] * 3, stamp(2), 100)):
        assert widest(lines) <= 100
        assert all("volunteer-07.lab.example.org" in line for line in lines[1:])
    assert widest(nodes_table([long], stamp(2), 80)) <= 80
    assert "1200, 1201, 1202" in nodes_table([long], stamp(2), 80)[1]
    assert "VERSION" in nodes_table([long], stamp(2))[0]


def test_slots_are_taken_by_jobs_that_one_may_not_see() -> None:
    """They count as such, and the jobs that one sees come first; an older manager tells by a job alone."""
    one = node("node-a", scheduler.NODE_STATE_READY, 6)

    def told() -> str:
        return " ".join(nodes_table([one], stamp(2), 80)[1].split())

    one.slots[0].busy, one.slots[1].job_id = True, 12
    assert told().startswith("node-a READY 4 of 6 free 12, others 2 ")
    one.slots[1].job_id = 0
    assert told().startswith("node-a READY 5 of 6 free others 2 ")
    for number in range(1, 6):
        one.slots[number].job_id = number
    assert told().startswith("node-a READY 0 of 6 free 1, 2, 3 +2, others 2 ")


def test_usual_nodes_lose_nothing() -> None:
    """A plain node's row fits 80 columns whole."""
    lines = nodes_table([node("node-a", scheduler.NODE_STATE_DRAINED, 10)], stamp(2), 80)
    assert lines[0].split() == ["ID", "STATE", "SLOTS", "JOBS", "CPUS", "MEMORY", "HEARD", "VERSION"]
    assert widest(lines) <= 80


def test_a_machine_that_waits_for_its_boot_says_so() -> None:
    """In the column of states."""
    lines = nodes_table([node("node-a", scheduler.NODE_STATE_WORN, 1)], stamp(2), 80)
    assert lines[1].split()[:2] == ["node-a", "WORN"]


def test_jobs_fit() -> None:
    """Long names and owners are cut with a mark, as little as need be."""
    lines = jobs_table([wide_job(), queued_job(3)], stamp(20), PLAIN, 80)
    assert widest(lines) == 80
    assert "a-long-name-" in lines[1] and "somebody-" in lines[1] and lines[1].count("…") == 2
    assert "raft-kv" in lines[2] and "alice" in lines[2]


def test_a_wait_that_changes_its_cause_is_told() -> None:
    """A volunteer that is drained meanwhile is news to who follows; a time that runs down is none."""
    view = FollowView(room=120)
    job = queued_job()
    job.waits_for = "2 of 4 slots (job 9 ends in at most 4 min 10 s)"
    view.see(job)
    job.waits_for = "2 of 4 slots (node-a is drained, until `syndicatectl node resume node-a`)"
    assert len(view.see(job)) == 1
    job.waits_for = "2 of 4 slots (job 8 is ending)"
    assert len(view.see(job)) == 1
    assert view.see(running_job())
