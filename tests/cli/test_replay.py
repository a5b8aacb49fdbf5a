"""``replay``: what is asked for, what is said, and how the new job is shown."""

from __future__ import annotations

import grpc
import pytest
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import FakeManager, ended_job, running_job, stamp

WORDS = "replay of job 9: 7 of 8 faults applied, worst offset 3.1 ms asked, 4.2 ms held"


def replayed(job: scheduler.Job, words: str = WORDS) -> scheduler.Job:
    """The job, as a replay of job 9."""
    job.spec.replay_of = 9
    if words:
        job.story.append(
            scheduler.StoryLine(at=stamp(15), event="replay.ended", text=words, attempt=job.attempt)
        )
    return job


def test_it_leaves_the_rest_to_the_manager(ctl: Ctl, manager: FakeManager) -> None:
    """It names the job and nothing else; a script gets the new id, a person what is not reproduced."""
    ended = ctl("replay", "9")
    assert (ended.code, ended.out) == (0, "12\n")
    assert "the timing of its own processes is not reproduced" in ended.err
    assert manager.scheduler.submitted[0].spec == scheduler.JobSpec(replay_of=9)


def test_what_is_given_is_passed_on(ctl: Ctl, manager: FakeManager) -> None:
    """Name, time limit, disks; JSON names what is replayed."""
    ended = ctl("replay", "9", "--name", "again", "--time-limit", "5m", "--keep-disks", "--json")
    assert ended.document == {"job_id": 12, "replay_of": 9}
    assert manager.scheduler.submitted[0].spec == scheduler.JobSpec(
        replay_of=9, name="again", time_limit_s=300, keep_disks=True
    )


def test_it_is_followed_to_its_end(ctl: Ctl, manager: FakeManager) -> None:
    """With -f it ends as the job does."""
    manager.scheduler.jobs[12] = replayed(ended_job())
    ended = ctl("replay", "9", "-f")
    assert ended.code == 0
    assert "SUCCEEDED" in ended.out


def test_a_name_that_is_none_is_refused_at_once(bare_ctl: Ctl) -> None:
    """Before anything is asked."""
    ended = bare_ctl("replay", "9", "--name", "No Name")
    assert ended.code == 64
    assert "no name of a job" in ended.err


@pytest.mark.parametrize(
    ("reason", "code"), [("JOB_NOT_ENDED", 75), ("NOTHING_TO_REPLAY", 65), ("CLIENT_CHANGED", 65)]
)
def test_what_cannot_be_replayed_is_told_with_the_way_out(
    ctl: Ctl, manager: FakeManager, reason: str, code: int
) -> None:
    """In the manager's words; what can be waited for is to be tried again."""
    manager.scheduler.submit_error = (
        grpc.StatusCode.FAILED_PRECONDITION,
        reason,
        "job 9 is otherwise",
        {"hint": "Do something"},
    )
    ended = ctl("replay", "9")
    assert ended.code == code
    assert ended.err == "error: job 9 is otherwise\n  Do something. Nothing was submitted.\n"


def test_show_tells_how_true_it_is(ctl: Ctl, manager: FakeManager) -> None:
    """One line below the head: what of the faults came, and how far off."""
    manager.scheduler.jobs[12] = replayed(ended_job())
    assert f"\nreplay     {WORDS.removeprefix('replay ')}\n" in ctl("show", "12").out
    manager.scheduler.jobs[12] = replayed(running_job(), "")
    assert "\nreplay     of job 9: its faults at their times\n" in ctl("show", "12").out


def test_result_says_that_it_is_a_replay(ctl: Ctl, manager: FakeManager) -> None:
    """For people and for programs; of other jobs it is null."""
    manager.scheduler.jobs[12] = replayed(ended_job())
    assert f"\nreplay     {WORDS.removeprefix('replay ')}\n" in ctl("result", "12").out
    document = ctl("result", "12", "--json").document
    assert (document["replay_of"], document["replay"]) == (9, WORDS.removeprefix("replay "))
    manager.scheduler.jobs[12] = ended_job()
    document = ctl("result", "12", "--json").document
    assert (document["replay_of"], document["replay"]) == (None, None)
