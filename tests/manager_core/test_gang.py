"""Gangs: reserved whole or not at all, prepared, then started in order."""

from __future__ import annotations

import itertools

import pytest
from manager_core.harness import CLIENT, SECOND, SOURCE, Cluster, running
from manager_core.volunteer import Volunteer
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.model import (
    AnswerCode,
    JobState,
    Reason,
    Role,
    Stamp,
    TaskExit,
    TaskRef,
    TaskState,
)
from syndicate.manager.core.records import JobRecord, RunRecord, TaskRecord


def refusing(kind: str, code: AnswerCode, detail: str = "", task: str = "") -> object:
    """A volunteer's way to refuse one kind of command, of one task or of all."""

    def refuse(command: fx.Command) -> tuple[AnswerCode, str] | None:
        hit = type(command.action).__name__ == kind and task in ("", command.ref.task)
        return (code, detail) if hit else None

    return refuse


def test_the_reservation_may_overtake_its_commit_and_nothing_else_may() -> None:
    """Reserve goes out before the commit, every other command after."""
    cluster = Cluster()
    cluster.heartbeat(cluster.volunteer())
    cluster.submit(2, 1)
    cluster.deliver()
    cluster.finish()
    cluster.deliver()
    sends = [effect for step in cluster.steps for effect in step.effects if isinstance(effect, fx.Send)]
    assert {type(send.command.action) for send in sends if send.before_commit} == {fx.Reserve}
    assert {type(send.command.action) for send in sends if not send.before_commit} == {
        fx.Prepare,
        fx.Start,
        fx.Release,
    }


def test_a_reservation_does_not_overtake_the_welcome() -> None:
    """Until the volunteer is heard after its Welcome, Reserve waits for the commit as that does."""
    cluster = Cluster()
    cluster.volunteer()
    cluster.submit(1)
    [send] = [effect for effect in cluster.steps[-1].effects if isinstance(effect, fx.Send)]
    assert not send.before_commit


def test_every_command_names_epoch_attempt_task_and_a_fresh_id() -> None:
    """No two commands share an id."""
    cluster = running(3, 1, epoch=7)
    commands = [command for v in cluster.volunteers.values() for command in v.received]
    assert len({command.command_id for command in commands}) == len(commands)
    assert {command.epoch for command in commands} == {7}
    assert {command.ref.task for command in commands} == {"master", "slave-0", "slave-1", "client-0"}


def test_masters_and_slaves_lose_what_is_not_synced_and_clients_do_not() -> None:
    """The order to prepare says so of those that can be killed, and of nobody in a job that did not ask."""
    for asked in (True, False):
        cluster = Cluster()
        cluster.volunteer()
        cluster.submit(2, 1, lose_unsynced=asked)
        cluster.deliver()
        losing = {c.ref.task for c in cluster.sent(fx.Prepare) if c.action.lose_unsynced}
        assert losing == ({"master", "slave-0"} if asked else set())


def test_a_machine_that_came_later_and_cannot_lose_is_not_taken_for_one_that_can() -> None:
    """The job was checked when it was submitted; nothing is prepared where the machine cannot do it."""
    cluster = Cluster()
    cluster.volunteer("node-a")
    cluster.submit(4)
    cluster.deliver()
    job_id = cluster.submit(2, lose_unsynced=True)
    poor = Volunteer("node-b", 4, boot_id="boot-node-b")
    poor.net = 1
    poor.capabilities = tuple(each for each in poor.capabilities if each != "lose-unsynced")
    cluster.volunteers["node-b"] = poor

    cluster.attach(poor)
    cluster.deliver()

    assert not [c for c in poor.received if isinstance(c.action, fx.Prepare)]
    record = cluster.job(job_id).job
    assert (record.state, record.reason) == (JobState.LOST, Reason.INFRASTRUCTURE)
    assert "node-b cannot let a disk lose what is not synced" in record.detail


def test_prepare_carries_source_role_and_all_members() -> None:
    """Machines get the job's source, clients the client's; everybody knows everybody's address."""
    cluster = running(2, 1)
    prepares = {c.ref.task: c.action for c in cluster.sent(fx.Prepare)}
    assert [prepares[name].source for name in ("master", "slave-0", "client-0")] == [SOURCE, SOURCE, CLIENT]
    members = prepares["slave-0"].members
    assert [(m.task, m.role) for m in members] == [
        ("master", Role.MASTER),
        ("slave-0", Role.SLAVE),
        ("client-0", Role.CLIENT),
    ]
    assert [m.address for m in members] == [cluster.address(m.task) for m in members]


def test_master_then_slaves_then_clients_each_group_together() -> None:
    """A group's starts are in one step, and that step comes after the last one's acknowledgements."""
    cluster = running(3, 2)
    groups = [[c.ref.task for c in cluster.sent(fx.Start, step)] for step in cluster.steps]
    assert [group for group in groups if group] == [
        ["master"],
        ["slave-0", "slave-1"],
        ["client-0", "client-1"],
    ]


def test_nothing_is_started_before_all_is_prepared() -> None:
    """One member that is not prepared keeps the whole gang waiting."""
    cluster = Cluster()
    volunteer = cluster.volunteer()
    volunteer.mute.add("Prepare")
    cluster.submit(3)
    cluster.deliver()
    for command in [c for c in volunteer.received if isinstance(c.action, fx.Prepare)][:2]:
        cluster.do(ev.AnswerReceived(volunteer.session, command.command_id, AnswerCode.DONE))
    assert cluster.sent(fx.Start) == []
    assert cluster.state() is JobState.PREPARING


def test_a_machine_alone_is_a_gang() -> None:
    """machines = 1: a master without slaves."""
    assert [task.task for task in running(1).job().tasks] == ["master"]


def test_running_says_how_long_the_gang_took() -> None:
    """From the queue until all were exec'd, on the manager's clock."""
    cluster = Cluster()
    cluster.volunteer()
    cluster.submit(2)
    cluster.ns += 19_000_000
    cluster.deliver()
    job = cluster.job().job
    assert (job.gang_start_ns, job.started_at) == (19_000_000, cluster.now)
    assert any("19 ms after it was queued" in line.text for line in cluster.job().story)


def test_a_busy_slot_takes_the_whole_gang_back() -> None:
    """BUSY: the others are released, the job waits again as another attempt that costs it nothing."""
    cluster = Cluster()
    cluster.volunteer("node-a", 2)
    busy = cluster.volunteer("node-b", 2)
    busy.refuse = refusing("Reserve", AnswerCode.BUSY)  # type: ignore[assignment]
    cluster.submit(4)
    cluster.deliver()
    job = cluster.job().job
    assert (job.state, job.attempt) == (JobState.QUEUED, 2)
    assert {c.ref.attempt for c in cluster.sent(fx.Release)} == {1}
    assert all(not volunteer.held for volunteer in cluster.volunteers.values())
    assert cluster.machine.cluster().free_slots == 3


def test_a_busy_slot_is_asked_again_after_its_backoff_which_grows() -> None:
    """0.5 s, then 1 s; the job starts as soon as the slot is free, and no attempt is burnt."""
    cluster = Cluster(max_attempts=1)
    volunteer = cluster.volunteer(slots=1)
    volunteer.refuse = refusing("Reserve", AnswerCode.BUSY)  # type: ignore[assignment]
    cluster.submit(1)
    cluster.deliver()
    asked = []
    for _ in range(16):
        before = len(cluster.sent(fx.Reserve))
        cluster.advance(0.25)
        asked += [cluster.ns] * (len(cluster.sent(fx.Reserve)) - before)
    assert [(b - a) / SECOND for a, b in itertools.pairwise(asked)] == [1.0, 2.0]
    volunteer.refuse = lambda command: None
    cluster.advance(16)
    assert cluster.state() is JobState.RUNNING
    assert cluster.events().count("job.refused") == 1


def test_a_job_that_is_refused_for_hours_says_so_once() -> None:
    """Whichever of the busy slots it is."""
    cluster = Cluster()
    volunteer = cluster.volunteer(slots=4)
    volunteer.refuse = refusing("Reserve", AnswerCode.BUSY)  # type: ignore[assignment]
    cluster.submit(1)
    cluster.advance(600)
    assert cluster.events().count("job.refused") == 1


@pytest.mark.parametrize(
    ("said", "why"), [("", "has no address"), ("fe80::1", "has no IPv4 address ('fe80::1')")]
)
def test_a_slot_without_a_usable_address_is_no_slot(said: str, why: str) -> None:
    """The reservation is taken back, and the story says why."""
    cluster = Cluster()
    cluster.volunteer(slots=1)
    cluster.submit(1)
    [(session, command)] = cluster.inbox
    cluster.inbox.clear()
    cluster.do(ev.AnswerReceived(session, command.command_id, AnswerCode.READY, address=said))
    assert cluster.state() is JobState.QUEUED
    assert cluster.job().story[-1].text == f"slot 0 of node-a {why}"


def test_a_silent_slot_takes_the_gang_back_before_its_lock_lapses() -> None:
    """Within `reserve_ttl_s` the job waits again; the silent slot is not used before it has answered."""
    cluster = Cluster()
    cluster.volunteer("node-a", 1)
    silent = cluster.volunteer("node-b", 1)
    silent.mute = {"Reserve", "Release"}
    cluster.submit(2)
    cluster.advance(10)
    assert cluster.state() is JobState.QUEUED
    assert cluster.job().job.attempt == 2
    silent.mute = set()
    cluster.advance(20)
    assert cluster.state() is JobState.RUNNING


def test_a_release_that_comes_late_cannot_hit_the_next_reservation() -> None:
    """Commands of the two reservations name different attempts."""
    cluster = Cluster()
    volunteer = cluster.volunteer(slots=2)
    volunteer.refuse = refusing("Reserve", AnswerCode.BUSY, task="slave-0")  # type: ignore[assignment]
    cluster.submit(2)
    cluster.deliver()
    volunteer.refuse = lambda command: None
    cluster.advance(1)
    assert cluster.state() is JobState.RUNNING
    [late] = cluster.sent(fx.Release)
    assert (late.ref.attempt, cluster.job().job.attempt) == (1, 2)


def test_two_slots_with_one_address_are_the_infrastructures_failure() -> None:
    """The gang is taken apart before anything is prepared, and the line names both slots."""
    cluster = Cluster(max_attempts=1)
    cluster.volunteer("node-a", 1)
    cluster.volunteer("node-b", 1).net = 0
    cluster.submit(2)
    cluster.deliver()
    assert cluster.state() is JobState.LOST
    assert cluster.sent(fx.Prepare) == []
    assert any("is the address of" in line.text for line in cluster.job().story)


@pytest.mark.parametrize("name", ["BAD_SOURCE", "OUT_OF_MEMORY", "DISK_FULL"])
def test_a_bad_source_is_the_jobs_own_failure(name: str) -> None:
    """A source that cannot be unpacked, or not within its bounds: FAILED so, and no other attempt."""
    cluster = Cluster()
    cluster.volunteer().refuse = refusing("Prepare", AnswerCode[name], "not a tar")  # type: ignore[assignment]
    cluster.submit(2)
    cluster.deliver()
    job = cluster.job().job
    assert (job.state, job.reason, job.detail) == (JobState.FAILED, Reason[name], "master: not a tar")


def test_a_clients_bad_source_is_not_the_students() -> None:
    """UNKNOWN: nobody can tell what the job is worth."""
    cluster = Cluster()
    cluster.volunteer().refuse = refusing("Prepare", AnswerCode.BAD_SOURCE, task="client-0")  # type: ignore[assignment]
    cluster.submit(1, 1)
    cluster.deliver()
    assert (cluster.state(), cluster.job().job.reason) == (JobState.UNKNOWN, Reason.BAD_SOURCE)


@pytest.mark.parametrize("kind", ["Prepare", "Start"])
def test_a_machine_that_fails_costs_an_attempt_and_the_last_one_is_lost(kind: str) -> None:
    """FAILED is the infrastructure's: queued again twice, then LOST with the reason."""
    cluster = Cluster(max_attempts=3)
    cluster.volunteer().refuse = refusing(kind, AnswerCode.FAILED, "disk is full")  # type: ignore[assignment]
    cluster.submit(2)
    cluster.advance(10)
    job = cluster.job().job
    assert (job.state, job.attempt, job.reason) == (JobState.LOST, 3, Reason.INFRASTRUCTURE)
    assert "failed 3 times, last: master could not be" in job.detail
    assert "disk is full" in job.detail
    assert cluster.events().count("job.requeued") == 2


@pytest.mark.parametrize(("kind", "seconds"), [("Prepare", 61), ("Start", 31)])
def test_a_machine_that_does_not_answer_costs_an_attempt(kind: str, seconds: int) -> None:
    """A command without an answer is sent again, then the gang is given up."""
    cluster = Cluster()
    volunteer = cluster.volunteer()
    volunteer.mute.add(kind)
    cluster.submit(1)
    cluster.deliver()
    cluster.advance(seconds)
    assert "job.requeued" in cluster.events()
    sent = [c for c in volunteer.received if type(c.action).__name__ == kind and c.ref.attempt == 1]
    assert len(sent) >= 2
    assert len({command.command_id for command in sent}) == 1


def test_a_job_that_cannot_start_within_its_limit_is_timed_out() -> None:
    """The limit counts from the reservation where a job never runs, plus the time that preparing may take."""
    cluster = Cluster(prepare_timeout_s=60.0, command_timeout_s=600.0)
    cluster.volunteer().mute.add("Start")
    cluster.submit(1, time_limit_s=30)
    cluster.deliver()
    cluster.advance(91)
    assert (cluster.state(), cluster.job().job.reason) == (JobState.TIMED_OUT, Reason.TIME_LIMIT)


def test_a_fast_task_may_end_before_its_start_is_answered() -> None:
    """The end proves the start; the answer that follows corrects when it was."""
    cluster = Cluster()
    volunteer = cluster.volunteer()
    volunteer.mute.add("Start")
    cluster.submit(1)
    cluster.deliver()
    [start] = cluster.sent(fx.Start)
    cluster.ns += 5_000_000
    cluster.tell_exit(volunteer, start.ref, TaskExit(Reason.EXITED_ZERO))
    assert cluster.state() is JobState.STOPPING
    begun = cluster.ns - 4_000_000
    cluster.do(
        ev.AnswerReceived(
            volunteer.session, start.command_id, AnswerCode.DONE, applied_at=volunteer.stamp(begun)
        )
    )
    cluster.deliver()
    assert cluster.state() is JobState.SUCCEEDED
    [run] = cluster.job().runs
    assert run.ended_at is not None
    assert run.started_at.monotonic_ns <= run.ended_at.monotonic_ns


def test_a_task_may_end_before_the_others_are_started() -> None:
    """The rest of the gang is started all the same."""
    cluster = Cluster()
    volunteer = cluster.volunteer()
    cluster.submit(2)
    while not cluster.sent(fx.Start):
        cluster.deliver_one()
    cluster.deliver_one()
    cluster.tell_exit(volunteer, TaskRef("test", 1, 1, "master", 1), TaskExit(Reason.EXITED_ZERO))
    cluster.deliver()
    assert cluster.state() is JobState.RUNNING
    assert [task.state for task in cluster.job().tasks] == [TaskState.EXITED, TaskState.RUNNING]


def test_an_end_is_acknowledged_each_time_it_is_told() -> None:
    """Told twice it is acknowledged twice, and changes nothing the second time."""
    cluster = running(2)
    volunteer, held = cluster.holder("master")
    for _ in range(2):
        cluster.tell_exit(volunteer, held.ref, TaskExit(Reason.EXITED_ZERO))
    assert len(cluster.acked) == 2
    assert cluster.steps[-1].saves == []


def test_an_end_of_an_unknown_task_is_acknowledged() -> None:
    """Else it would be told for ever."""
    cluster = Cluster()
    volunteer = cluster.volunteer()
    cluster.tell_exit(volunteer, TaskRef("test", 99, 1, "master", 1), TaskExit(Reason.EXITED_ZERO))
    assert cluster.acked == [(volunteer.session, 1)]


def test_a_mere_reservation_saves_the_job_alone() -> None:
    """Tasks are saved with their addresses when all slots are ready."""
    cluster = Cluster()
    cluster.volunteer()
    cluster.submit(2)
    assert {type(record) for record in cluster.steps[-1].saves} == {JobRecord}
    cluster.deliver()
    tasks = [r for step in cluster.steps for r in step.saves if isinstance(r, TaskRecord)]
    assert all(record.address for record in tasks)


def test_runs_are_kept_on_the_managers_clock() -> None:
    """Start and end of a generation are converted from the volunteer's clock."""
    cluster = Cluster()
    volunteer = cluster.volunteer()
    cluster.heartbeat(volunteer, delay_ns=1000)
    cluster.submit(1)
    cluster.deliver()
    started = cluster.ns
    cluster.ns += SECOND
    cluster.exit("master")
    [run] = cluster.job().runs
    assert isinstance(run, RunRecord)
    assert abs(run.started_at.monotonic_ns - started) <= 1000
    assert run.ended_at is not None
    assert abs(run.ended_at.monotonic_ns - cluster.ns) <= 200_000 + 1000
    assert isinstance(run.started_at, Stamp)
    assert run.started_at.boot_id == "manager-boot"
