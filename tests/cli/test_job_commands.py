"""``show``, ``jobs``, ``logs``, ``result`` and ``cancel``."""

from __future__ import annotations

import pytest
from syndicate.v1 import common_pb2 as common

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import FakeManager, ended_job, fault, log, queued_job, running_job


@pytest.mark.parametrize(("outcome", "code"), [("PASS", 0), ("FAIL", 1), ("UNKNOWN", 2)])
def test_result_ends_with_the_outcome(ctl: Ctl, manager: FakeManager, outcome: str, code: int) -> None:
    """result: pass, fail and unknown are 0, 1 and 2."""
    job = ended_job()
    job.result.outcome = common.Outcome.Value(f"OUTCOME_{outcome}")
    manager.scheduler.jobs[12] = job
    ended = ctl("result", "12")
    assert ended.code == code
    assert ended.out.splitlines()[0] == f"outcome    {outcome.lower()}"
    assert "operations  42,310" in ended.out


def test_a_seed_is_shown_with_all_of_its_digits(ctl: Ctl, manager: FakeManager) -> None:
    """So that it can be given again."""
    job = ended_job()
    job.result.metrics["nemesis_seed"] = 9007199254740991
    manager.scheduler.jobs[12] = job
    assert "nemesis_seed  9,007,199,254,740,991" in ctl("result", "12").out


def test_result_of_a_running_job_says_to_wait(ctl: Ctl, manager: FakeManager) -> None:
    """A job that goes on has no result: 75, and the command that waits."""
    manager.scheduler.jobs[12] = running_job()
    ended = ctl("result", "12")
    assert ended.code == 75
    assert "syndicatectl wait 12" in ended.err


def test_show_has_lanes_members_and_story(ctl: Ctl, manager: FakeManager) -> None:
    """show draws the time line, and tells who asked for each fault and when it held."""
    manager.scheduler.jobs[12] = ended_job()
    ended = ctl("show", "12")
    assert ended.code == 0
    assert ended.out.startswith("job 12  raft-kv  alice  SUCCEEDED (pass)   submitted ")
    assert "waited 3.1 s, ran 15.4 s, attempt 1" in ended.out
    assert "killed 5.10, revived 7.00 (disk kept)" in ended.out
    assert (
        "5.100 s   slave-0    killed (4 processes)  by client-0, applied in 0.9 ms (at ± 0.2 ms)" in ended.out
    )
    assert "submitted by alice" in ended.out


def test_show_of_a_queued_job_says_what_it_waits_for(ctl: Ctl, manager: FakeManager) -> None:
    """A waiting job has its place and what it waits for."""
    manager.scheduler.jobs[12] = queued_job()
    ended = ctl("show", "12")
    assert "queued, place 2 of 3: waits for 2 of 4 slots" in ended.out


def test_show_of_an_unknown_job(ctl: Ctl) -> None:
    """An unknown job is 66 and says where to look."""
    ended = ctl("show", "99")
    assert ended.code == 66
    assert ended.err == "error: no job 99\n  Which are there?  syndicatectl jobs --all\n"


def test_jobs_is_a_table_of_all_pages(ctl: Ctl, manager: FakeManager) -> None:
    """jobs lists every page, newest first, aligned, without boxes."""
    for number in (3, 4, 5, 6, 7):
        manager.scheduler.jobs[number] = ended_job(number)
    manager.scheduler.jobs[8] = queued_job(8)
    ended = ctl("jobs")
    rows = [line.split() for line in ended.out.splitlines()]
    assert rows[0][:4] == ["ID", "NAME", "OWNER", "STATE"]
    assert [row[0] for row in rows[1:]] == ["8", "7", "6", "5", "4", "3"]
    assert rows[2][3:7] == ["SUCCEEDED", "3+1", "pass", "0.97"]


def test_jobs_of_a_state_and_an_owner(ctl: Ctl, manager: FakeManager) -> None:
    """--state and --owner choose; a state that there is not names those that there are."""
    manager.scheduler.jobs = {7: ended_job(7), 8: queued_job(8)}
    assert [job["job_id"] for job in ctl("jobs", "--state", "queued,running", "--json").document["jobs"]] == [
        8
    ]
    assert ctl("jobs", "--owner", "bob").out == "no jobs\n"
    wrong = ctl("jobs", "--state", "done")
    assert wrong.code == 64
    assert "timed_out" in wrong.err


def test_jobs_shows_the_newest_unless_asked_for_all(ctl: Ctl, manager: FakeManager) -> None:
    """More than 20 jobs: the newest, with a word on how to see the rest."""
    manager.scheduler.jobs = {number: ended_job(number) for number in range(1, 26)}
    few = ctl("jobs")
    assert len(few.out.splitlines()) == 21
    assert "syndicatectl jobs --all" in few.err
    assert len(ctl("jobs", "--all").out.splitlines()) == 26


def test_logs_are_labelled_and_harmless(ctl: Ctl, manager: FakeManager) -> None:
    """Each line has its task; escapes, markup and bad bytes come out as text."""
    manager.scheduler.jobs[12] = running_job()
    nasty = b"\x1b]0;owned\x07\x1b[2J[bold]hi[/bold] \xff \xe2\x80\xaeevil\r\n"
    manager.scheduler.logs[12] = [[log("master", 0, nasty, 1.0), log("slave-0", 0, b"no newline", 2.0)]]
    ended = ctl("logs", "12")
    assert ended.out.splitlines() == [
        r"master    | \x1b]0;owned\x07\x1b[2J[bold]hi[/bold] \xff \u202eevil",
        "slave-0   | no newline",
    ]


def test_logs_that_dropped_bytes_say_so(ctl: Ctl, manager: FakeManager) -> None:
    """A hole in a log is a line of its own."""
    manager.scheduler.jobs[12] = ended_job()
    pieces = [log("master", 0, b"begin\n", 1.0), log("master", 1_200_006, b"end\n", 2.0, dropped=1_200_000)]
    manager.scheduler.logs[12] = [pieces]
    assert ctl("logs", "12").out.splitlines()[1].startswith("master    | (1.2 MB of output dropped here")


def test_logs_of_some_tasks(ctl: Ctl, manager: FakeManager) -> None:
    """--task chooses; a task that the job does not have is named, with those that it has."""
    manager.scheduler.jobs[12] = running_job()
    manager.scheduler.logs[12] = [[log("master", 0, b"a\n", 1.0), log("slave-0", 0, b"b\n", 1.0)]]
    assert ctl("logs", "12", "--task", "slave-0").out == "slave-0   | b\n"
    wrong = ctl("logs", "12", "--task", "slave-9")
    assert wrong.code == 66
    assert "Its tasks: master, slave-0, slave-1, client-0." in wrong.err


def test_cancel_ends_a_job_once(ctl: Ctl, manager: FakeManager) -> None:
    """cancel asks the manager; of a job that has ended it only says so."""
    manager.scheduler.jobs = {12: running_job(), 7: ended_job(7)}
    assert "STOPPING" in ctl("cancel", "12").out
    assert "had ended already: SUCCEEDED" in ctl("cancel", "7").out
    assert manager.scheduler.cancelled == [12]


def test_cancel_in_json(ctl: Ctl, manager: FakeManager) -> None:
    """The job's state now, and whether it had ended before."""
    manager.scheduler.jobs = {12: running_job(), 7: ended_job(7)}
    assert ctl("cancel", "12", "--json").document == {"job_id": 12, "state": "stopping", "had_ended": False}
    assert ctl("cancel", "7", "--json").document == {"job_id": 7, "state": "succeeded", "had_ended": True}


def test_a_pipe_gets_every_word(ctl: Ctl, manager: FakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cut or broken where no terminal reads."""
    monkeypatch.setenv("COLUMNS", "40")
    job = ended_job()
    job.spec.name, job.owner = "n" * 63, "o" * 63
    job.story[0].text = "word " * 40
    manager.scheduler.jobs[12] = job
    assert "n" * 63 in ctl("jobs").out and "o" * 63 in ctl("jobs").out
    assert ("word " * 40).strip() in ctl("show", "12").out


def test_fault_that_failed_is_told(ctl: Ctl, manager: FakeManager) -> None:
    """A fault that the volunteer could not apply stands in the story with its reason."""
    job = ended_job()
    job.faults.append(fault(5, common.FAULT_KIND_KILL, "master", 9.0, error="no such cgroup"))
    manager.scheduler.jobs[12] = job
    assert "could not be killed  by client-0: no such cgroup" in ctl("show", "12").out


def test_logs_of_an_attempt_that_was_not(ctl: Ctl, manager: FakeManager) -> None:
    """It is 66, as a task that was not, and names the latest."""
    manager.scheduler.jobs[12] = ended_job()
    ended = ctl("logs", "12", "--attempt", "4")
    assert (ended.code, ended.err) == (66, "error: job 12 has no attempt 4\n  Its only attempt is 1.\n")


def test_an_unknown_end_is_said_once(ctl: Ctl, manager: FakeManager) -> None:
    """Neither the reason nor the outcome repeats what the state says."""
    job = ended_job()
    job.state, job.reason = common.JOB_STATE_UNKNOWN, common.REASON_CLIENT_UNKNOWN
    job.result.outcome = common.OUTCOME_UNKNOWN
    job.detail = "client-0 ended without a result"
    manager.scheduler.jobs[12] = job
    said = ctl("wait", "12").out.splitlines()[0]
    assert said.startswith("job 12     UNKNOWN  client-0 ended without a result  score 0.97   15.4 s")
