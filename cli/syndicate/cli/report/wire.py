"""Reads what the manager tells of a job into a `Run`."""

from __future__ import annotations

from datetime import UTC, datetime

from syndicate.cli.render import words
from syndicate.cli.render.fault_words import what_text
from syndicate.cli.render.faults import fault_line
from syndicate.cli.render.neutralise import neutralise_lines, neutralise_text
from syndicate.cli.render.plain import enum_word
from syndicate.cli.render.quantities import seconds_between
from syndicate.cli.render.timeline import Lane, fault_time, in_order, job_start, timeline
from syndicate.cli.report.run import (
    FaultLine,
    Run,
    Said,
    Suffering,
    TaskLane,
    TaskTime,
    Verdict,
)
from syndicate.client_api import job_has_ended
from syndicate.v1.common_pb2 import Fault, FaultKind, Reason, Role, Stamp
from syndicate.v1.scheduler_pb2 import Job, Task, TaskRun

_NS = 1e9


def read_run(job: Job, now: Stamp) -> Run:
    """A job as it stands at ``now``, without output and histories; one that has no slots yet has length 0."""
    start = job_start(job) or now
    line = timeline(job, now)
    end = job.ended_at if job.HasField("ended_at") else now
    lanes = {lane.task: lane for lane in line.lanes} if line is not None else {}
    return Run(
        job_id=job.job_id,
        name=neutralise_text(job.spec.name),
        owner=neutralise_text(job.owner),
        team=neutralise_text(job.team),
        attempt=job.attempt,
        submitted=_utc_text(job.submitted_at),
        submitted_utc_s=job.submitted_at.utc_ns / _NS,
        waited_s=max(0.0, seconds_between(job.submitted_at, start)),
        length_s=max(0.001, seconds_between(start, end)) if line is not None else 0.0,
        ended=job_has_ended(job.state),
        verdict=_verdict(job, start),
        lanes=tuple(_lane(task, lanes[task.ref.task], start) for task in in_order(job.tasks) if lanes),
        faults=tuple(_fault(job, fault, start) for fault in sorted(job.faults, key=lambda one: one.fault_id)),
        lose_unsynced=job.spec.lose_unsynced,
        replay_of=job.spec.replay_of,
    )


def since(start: Stamp, at: Stamp) -> float:
    """Seconds since the job's start; what was before it, is at it."""
    return max(0.0, seconds_between(start, at))


def _utc_text(stamp: Stamp) -> str:
    return datetime.fromtimestamp(stamp.utc_ns / _NS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _verdict(job: Job, start: Stamp) -> Verdict:
    result = job.result if job.HasField("result") else None
    score = result.score if result is not None and result.HasField("score") else None
    text = tuple(neutralise_lines(result.text)) if result is not None else ()
    detail = neutralise_text(job.detail)
    return Verdict(
        state=words.job_state(job.state),
        outcome=words.outcome(result.outcome) if result is not None else "",
        reason=words.reason(job.reason),
        # Of a client's failure it is the client's name and first line.
        detail="" if text and text[0] and detail.endswith(text[0]) else detail,
        score=score,
        text=text,
        metrics=tuple((neutralise_text(name), value) for name, value in sorted(result.metrics.items()))
        if result is not None
        else (),
        clients=tuple(_said(task, start) for task in in_order(job.tasks) if task.role == Role.ROLE_CLIENT),
    )


def _said(task: Task, start: Stamp) -> Said:
    result = task.result if task.HasField("result") else None
    ends = [run.ended_at for run in task.runs if run.HasField("ended_at")]
    end = task.finished_at if task.HasField("finished_at") else ends[-1] if ends else None
    return Said(
        task=neutralise_text(task.ref.task),
        outcome=(words.outcome(result.outcome) or "pass") if result is not None else "",
        score=result.score if result is not None and result.HasField("score") else None,
        text=tuple(neutralise_lines(result.text)) if result is not None else (),
        duration_s=since(start, end) if end is not None else 0.0,
    )


def _lane(task: Task, lane: Lane, start: Stamp) -> TaskLane:
    return TaskLane(
        task=neutralise_text(lane.task),
        address=neutralise_text(task.address),
        volunteer=neutralise_text(task.volunteer_id),
        times=tuple(_time(run, start) for run in task.runs if run.HasField("started_at")),
        sufferings=tuple(
            Suffering(span.start_s, span.end_s, span.what.value, span.text) for span in lane.spans
        ),
        kills_s=tuple(lane.kills_s),
        revivals=tuple((at, "disk kept" if kept else "fresh disk") for at, kept in lane.revivals),
        signals=tuple(lane.signals),
        ended_s=lane.ended_s,
        ending=lane.ending,
    )


def _time(run: TaskRun, start: Stamp) -> TaskTime:
    ended = run.HasField("ended_at")
    return TaskTime(
        run.generation,
        since(start, run.started_at),
        since(start, run.ended_at) if ended else None,
        _ending(run) if ended else "",
    )


def _ending(run: TaskRun) -> str:
    by_reason = {
        Reason.REASON_KILLED_BY_FAULT: "killed by a fault",
        Reason.REASON_STOPPED: "stopped with the job",
        Reason.REASON_EXITED_ZERO: "exited 0",
        Reason.REASON_EXITED_NONZERO: f"exited {run.exit.exit_status}",
    }
    return by_reason.get(run.exit.reason, words.reason(run.exit.reason).lower().replace("_", " ") or "ended")


def _fault(job: Job, fault: Fault, start: Stamp) -> FaultLine:
    at = fault_time(fault)
    healed = fault.healed_at_manager if fault.HasField("healed_at_manager") else None
    return FaultLine(
        fault_id=fault.fault_id,
        call_id=fault.call_id or fault.fault_id,
        kind=enum_word(FaultKind.DESCRIPTOR, fault.kind),
        what=neutralise_text(what_text(fault)),
        text=neutralise_text(fault_line(job, fault)),
        task=neutralise_text(fault.task),
        by=neutralise_text(fault.requested_by),
        requested_s=since(start, fault.requested_at),
        applied_s=None if at is None else since(start, at),
        error_s=fault.applied_error_ns / _NS,
        duration_s=fault.duration_ns / _NS,
        healed_s=None if healed is None else since(start, healed),
        healed_error_s=fault.healed_error_ns / _NS,
        healed_by=neutralise_text(fault.healed_by),
        failure=neutralise_text(fault.error),
    )
