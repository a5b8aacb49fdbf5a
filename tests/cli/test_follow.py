"""``follow``, ``submit --follow`` and ``wait``: a job as it goes on, to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from syndicate.cli.merge import Item, Merged
from syndicate.cli.render.ordering import Ordering
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1.common_pb2 import JobState, Reason

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import TOKEN, FakeManager, ended_job, log, queued_job, running_job, stamp


def failed_job() -> scheduler.Job:
    job = running_job(14)
    job.state = JobState.JOB_STATE_FAILED
    job.reason = Reason.REASON_NOTHING_RUN
    job.detail = (
        "master: make said “'master' is up to date” and ran nothing. A file or folder named `master` hides "
        "the target. Add to the Makefile:  .PHONY: master slave"
    )
    job.ended_at.CopyFrom(stamp(0.2))
    return job


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is printed before the job's end: however late a stream is, the times alone decide."""
    monkeypatch.setattr("syndicate.cli.follow.Ordering", partial(Ordering, hold_s=60.0))


@pytest.mark.usefixtures("unhurried")
def test_follow_prints_the_story_and_ends_as_the_job(ctl: Ctl, lab: Path, manager: FakeManager) -> None:
    """submit --follow: queue, start, members, faults and output on one time line, then the result."""
    fake = manager.scheduler
    fake.jobs[12] = ended_job()
    broken = running_job()
    broken.faults.extend(ended_job().faults[:2])
    fake.watches[12] = [[queued_job(), running_job(), broken, ended_job()]]
    fake.logs[12] = [
        [log("client-0", 0, b"3 writers, seed 4711\n", 0.0), log("slave-1", 0, b"leader\n", 5.31)]
    ]
    ended = ctl("submit", str(lab), "-n", "3", "-f")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == (
        "job 12     queued, place 2 of 3: waits for 2 of 4 slots (job 9 ends in ≤ 4 min 10 s)"
    )
    assert "job 12     reserved 4 slots, prepared, started in 19 ms" in lines
    assert any(line.startswith("           master 10.77.0.11 node-a   slave-0 10.77.0.12") for line in lines)
    assert "  0.00 s   client-0  | 3 writers, seed 4711" in lines
    assert any("cut       slave-1 from master, slave-0" in line for line in lines)
    assert any(line.startswith("  5.10 s   killed    slave-0 (4 processes)") for line in lines)
    assert any("revived   slave-0, disk kept, generation 2" in line for line in lines)
    assert sum("killed " in line for line in lines) == 1
    assert lines[-1] == "job 12     SUCCEEDED  pass  score 0.97   15.4 s   syndicatectl show 12"


def test_follow_in_json_is_json_lines(ctl: Ctl, lab: Path, manager: FakeManager) -> None:
    """--follow --json: one document a line; the last one is the job as it ended."""
    manager.scheduler.jobs[12] = ended_job()
    manager.scheduler.logs[12] = [[log("client-0", 0, b"\x1b[31m\xff\n", 1.0)]]
    ended = ctl("submit", str(lab), "--follow", "--json")
    events = [document["event"] for document in ended.documents]
    assert events[0] == "submitted"
    assert events[-1] == "end"
    assert ended.documents[-1]["job"]["state"] == "succeeded"
    assert "\x1b" not in ended.out


def test_follow_goes_on_when_the_streams_break(ctl: Ctl, manager: FakeManager) -> None:
    """A manager that restarts in the middle costs no line and repeats none."""
    fake = manager.scheduler
    fake.jobs[12] = ended_job()
    fake.watches[12] = [[running_job(), None], [running_job(), ended_job()]]
    pieces = [log("master", 0, b"one\n", 1.0), log("master", 4, b"two\n", 2.0)]
    fake.logs[12] = [[*pieces, None], [*pieces, log("master", 8, b"three\n", 3.0)]]
    ended = ctl("follow", "12")
    assert ended.code == 0
    shown = [line.partition("| ")[2] for line in ended.out.splitlines() if "| " in line]
    assert shown == ["one", "two", "three"]


def test_follow_of_a_failed_job_says_first_what_to_mend(ctl: Ctl, manager: FakeManager) -> None:
    """A job that failed ends the command with 1, the reason and the remedy."""
    manager.scheduler.jobs[14] = failed_job()
    ended = ctl("follow", "14")
    assert ended.code == 1
    assert ended.out.splitlines()[-2:] == [
        "job 14     FAILED  NOTHING_RUN  master: make said “'master' is up to date” and ran nothing   200 ms"
        "   syndicatectl show 14",
        " " * 11
        + "A file or folder named `master` hides the target. Add to the Makefile:  .PHONY: master slave",
    ]


@pytest.mark.parametrize(
    ("state", "code"),
    [("SUCCEEDED", 0), ("FAILED", 1), ("UNKNOWN", 2), ("CANCELLED", 1), ("TIMED_OUT", 1), ("LOST", 1)],
)
def test_wait_ends_as_the_job_does(ctl: Ctl, manager: FakeManager, state: str, code: int) -> None:
    """The exit code of wait tells how the job ended."""
    job = ended_job()
    job.state = JobState.Value(f"JOB_STATE_{state}")
    manager.scheduler.jobs[12] = job
    ended = ctl("wait", "12")
    assert ended.code == code
    assert state in ended.out


def test_wait_gives_up_after_its_timeout(
    ctl: Ctl, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait that runs out ends with 75, and the job goes on."""

    class Begun(Merged):
        """What comes first is waited for however late it is: the time does not run out before."""

        begun = False

        def next(self, timeout: float | None = None) -> Item | None:
            item = super().next(timeout if self.begun else 60.0)
            self.begun = True
            return item

    monkeypatch.setattr("syndicate.cli.job_commands.Merged", Begun)
    manager.scheduler.jobs[12] = running_job()
    ended = ctl("wait", "12", "--timeout", "2s")
    assert ended.code == 75
    assert "job 12 has not ended in 2 s (RUNNING)" in ended.err


def test_wait_in_json_is_the_job(ctl: Ctl, manager: FakeManager) -> None:
    """wait --json prints the ended job, whole numbers as numbers and enums as plain words."""
    manager.scheduler.jobs[12] = ended_job()
    job = ctl("wait", "12", "--json").document
    assert job["state"] == "succeeded"
    assert job["result"]["metrics"] == {"lost": 0.0, "operations": 42310.0}
    assert job["faults"][1]["kind"] == "kill"
    assert job["started_at"]["monotonic_ns"] == 1_000_000_000_000
    assert job["spec"]["clients"] == 1


def test_ctrl_c_says_that_the_job_goes_on(manager: FakeManager, tmp_path: Path) -> None:
    """Ctrl-C while following: 130, the job goes on, and how to end it."""
    manager.scheduler.jobs[12] = running_job()
    manager.scheduler.logs[12] = [[log("master", 0, b"hello\n", 1.0)]]
    process = subprocess.Popen(
        [sys.executable, "-m", "syndicate.cli", "follow", "12"],
        env={
            **os.environ,
            "SYNDICATE_MANAGER": manager.address,
            "SYNDICATE_TOKEN": TOKEN,
            "SYNDICATE_INSECURE": "1",
            "XDG_STATE_HOME": str(tmp_path),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if "hello" in line:
                break
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - started < 30  # the stream itself goes on for a minute
    assert "job 12 goes on" in err
    assert "syndicatectl cancel 12" in err


@pytest.mark.parametrize("words", [("follow", "12"), ("wait", "12"), ("logs", "12", "-f")])
def test_a_manager_that_goes_away_is_told(ctl: Ctl, manager: FakeManager, words: tuple[str, ...]) -> None:
    """One line on standard error when the manager is lost, one when it is back; standard output has none."""
    fake = manager.scheduler
    fake.jobs[12] = ended_job()
    fake.watches[12] = [[running_job(), None], [running_job(), ended_job()]]
    fake.logs[12] = [[log("master", 0, b"one\n", 1.0), None], [log("master", 4, b"two\n", 2.0)]]
    fake.together = threading.Barrier(2) if words[0] == "follow" else None  # the others have one stream
    ended = ctl(*words)
    assert ended.code == 0
    away, back = ended.err.splitlines()
    assert away == "manager    away (connection lost), retrying for up to 60 s"
    assert back.startswith("manager    back after ")
    assert "manager" not in ended.out
