"""Records to rows and back.

A row is a list: the key and what is queried first, then one JSON document with the rest, in the order of the
columns in `schema`. Stamps are `[boot id, monotonic ns, UTC ns]`; what is empty is left out of the document,
so that most documents stay short and a field that is added later reads as its default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..core.model import (
    Degradation,
    FaultKind,
    JobState,
    Reason,
    Resources,
    Role,
    TaskState,
)
from ..core.records import (
    AuditRecord,
    EpochRecord,
    FaultRecord,
    JobRecord,
    NodeRecord,
    PlannedPart,
    PlanRecord,
    Record,
    RunRecord,
    StoryRecord,
    TaskRecord,
    TeamRecord,
    TokenRecord,
    UserRecord,
)
from .documents import Doc, Row, stamp_in, stamp_or_none_in, stamp_out
from .people_rows import (
    audit_in,
    audit_out,
    team_in,
    team_out,
    token_in,
    token_out,
    user_in,
    user_out,
)
from .values import degradation_out, exit_in, exit_out, result_in, result_out, spec_in, spec_out


def _job(r: JobRecord) -> Row:
    doc: Doc = {
        "spec": spec_out(r.spec),
        "attempt": r.attempt,
        "submitted_at": stamp_out(r.submitted_at),
    }
    if r.queued_at != r.submitted_at:
        doc["queued_at"] = stamp_out(r.queued_at)
    if r.reason:
        doc["reason"] = int(r.reason)
    if r.detail:
        doc["detail"] = r.detail
    if r.verdict is not None:
        doc["verdict"] = int(r.verdict)
    if r.result is not None:
        doc["result"] = result_out(r.result)
    for name in ("reserved_at", "started_at", "ended_at"):
        stamp = getattr(r, name)
        if stamp is not None:
            doc[name] = stamp_out(stamp)
    if r.gang_start_ns:
        doc["gang_start_ns"] = r.gang_start_ns
    if r.submitter is not None:
        doc["submitter"] = r.submitter
    head = [r.job_id, r.request_id, r.owner, int(r.state), r.submitted_at.utc_ns]
    return [*head, r.team, int(r.published), doc]


def _read_job(
    job_id: int,
    request_id: str,
    owner: str,
    state: int,
    _submitted: int,
    team: str,
    published: int,
    doc: Doc,
) -> JobRecord:
    verdict = doc.get("verdict")
    submitted_at = stamp_in(doc["submitted_at"])
    return JobRecord(
        job_id=job_id,
        request_id=request_id,
        owner=owner,
        spec=spec_in(doc["spec"]),
        state=JobState(state),
        attempt=doc["attempt"],
        submitted_at=submitted_at,
        queued_at=stamp_or_none_in(doc.get("queued_at")) or submitted_at,
        reason=Reason(doc.get("reason", 0)),
        detail=doc.get("detail", ""),
        verdict=None if verdict is None else JobState(verdict),
        result=result_in(doc.get("result")),
        reserved_at=stamp_or_none_in(doc.get("reserved_at")),
        started_at=stamp_or_none_in(doc.get("started_at")),
        ended_at=stamp_or_none_in(doc.get("ended_at")),
        gang_start_ns=doc.get("gang_start_ns", 0),
        team=team,
        published=bool(published),
        submitter=None if (by := doc.get("submitter")) is None else (by[0], by[1], by[2]),
    )


def _task(r: TaskRecord) -> Row:
    doc: Doc = {
        "role": int(r.role),
        "volunteer_id": r.volunteer_id,
        "boot_id": r.boot_id,
        "slot": r.slot,
        "address": r.address,
        "generation": r.generation,
    }
    if r.exit is not None:
        doc["exit"] = exit_out(r.exit)
    if r.result is not None:
        doc["result"] = result_out(r.result)
    if r.finished_at is not None:
        doc["finished_at"] = stamp_out(r.finished_at)
    if r.finish_request_id:
        doc["finish_request_id"] = r.finish_request_id
    if r.barriers_told:
        doc["barriers_told"] = r.barriers_told
    return [r.job_id, r.attempt, r.task, int(r.state), doc]


def _read_task(job_id: int, attempt: int, task: str, state: int, doc: Doc) -> TaskRecord:
    return TaskRecord(
        job_id=job_id,
        attempt=attempt,
        task=task,
        role=Role(doc["role"]),
        volunteer_id=doc["volunteer_id"],
        boot_id=doc["boot_id"],
        slot=doc["slot"],
        state=TaskState(state),
        address=doc["address"],
        generation=doc["generation"],
        exit=exit_in(doc.get("exit")),
        result=result_in(doc.get("result")),
        finished_at=stamp_or_none_in(doc.get("finished_at")),
        finish_request_id=doc.get("finish_request_id", ""),
        barriers_told=doc.get("barriers_told", 0),
    )


def _run(r: RunRecord) -> Row:
    doc: Doc = {"started_at": stamp_out(r.started_at)}
    if r.ended_at is not None:
        doc["ended_at"] = stamp_out(r.ended_at)
    if r.exit is not None:
        doc["exit"] = exit_out(r.exit)
    return [r.job_id, r.attempt, r.task, r.generation, doc]


def _read_run(job_id: int, attempt: int, task: str, generation: int, doc: Doc) -> RunRecord:
    return RunRecord(
        job_id=job_id,
        attempt=attempt,
        task=task,
        generation=generation,
        started_at=stamp_in(doc["started_at"]),
        ended_at=stamp_or_none_in(doc.get("ended_at")),
        exit=exit_in(doc.get("exit")),
    )


# Fields that stand in the document as they are, where they say something.
_FAULT_WORDS: Final = (
    *("call_id", "lease_s", "heals", "cut_out", "cut_in", "peers", "one_way", "signal", "shape", "seed"),
    "text",
)


def _fault(r: FaultRecord) -> Row:
    doc: Doc = {
        "request_id": r.request_id,
        "kind": int(r.kind),
        "task": r.task,
        "requested_by": r.requested_by,
        "requested_at": stamp_out(r.requested_at),
        "with_disk": r.with_disk,
        "generation": r.generation,
        "processes": r.processes,
        "applied_error_ns": r.applied_error_ns,
        "duration_ns": r.duration_ns,
        "already": r.already,
        "error": r.error,
    }
    if r.applied_at is not None:
        doc["applied_at"] = stamp_out(r.applied_at)
    if r.applied_at_manager is not None:
        doc["applied_at_manager"] = stamp_out(r.applied_at_manager)
    if r.healed_at_manager is not None:
        doc["healed"] = [stamp_out(r.healed_at_manager), r.healed_error_ns, r.healed_by]
    for name in _FAULT_WORDS:
        if value := getattr(r, name):
            doc[name] = value
    if r.degradation is not None:
        doc["degradation"] = degradation_out(r.degradation)
    return [r.job_id, r.fault_id, r.attempt, doc]


def _read_fault(job_id: int, fault_id: int, attempt: int, doc: Doc) -> FaultRecord:
    healed_at, healed_error_ns, healed_by = doc.get("healed", (None, 0, ""))
    degradation = doc.get("degradation")
    return FaultRecord(
        job_id=job_id,
        fault_id=fault_id,
        attempt=attempt,
        request_id=doc["request_id"],
        kind=FaultKind(doc["kind"]),
        task=doc["task"],
        requested_by=doc["requested_by"],
        requested_at=stamp_in(doc["requested_at"]),
        with_disk=doc["with_disk"],
        generation=doc["generation"],
        processes=doc["processes"],
        applied_at=stamp_or_none_in(doc.get("applied_at")),
        applied_at_manager=stamp_or_none_in(doc.get("applied_at_manager")),
        applied_error_ns=doc["applied_error_ns"],
        duration_ns=doc["duration_ns"],
        already=doc["already"],
        error=doc["error"],
        call_id=doc.get("call_id", 0),
        lease_s=doc.get("lease_s", 0.0),
        healed_at_manager=stamp_or_none_in(healed_at),
        healed_error_ns=healed_error_ns,
        healed_by=healed_by,
        heals=tuple(doc.get("heals", ())),
        cut_out=tuple(doc.get("cut_out", ())),
        cut_in=tuple(doc.get("cut_in", ())),
        degradation=None if degradation is None else Degradation(*degradation),
        peers=tuple(doc.get("peers", ())),
        one_way=doc.get("one_way", False),
        signal=doc.get("signal", 0),
        shape=doc.get("shape", ""),
        seed=doc.get("seed", 0),
        text=doc.get("text", ""),
    )


_PLAN_WORDS: Final = (
    *("lease_s", "one_way", "signal", "shape", "seed", "text", "heals", "everything"),
    *("over_in", "claimed_in", "claimed_by"),
)


def _plan(r: PlanRecord) -> Row:
    doc: Doc = {
        "offset_ns": r.offset_ns,
        "asked_by": r.asked_by,
        "kind": int(r.kind),
        "parts": [[part.task, part.held_ns, part.cut_out, part.cut_in, part.peers] for part in r.parts],
        "with_disk": r.with_disk,
    }
    for name in _PLAN_WORDS:
        if value := getattr(r, name):
            doc[name] = value
    if r.degradation is not None:
        doc["degradation"] = degradation_out(r.degradation)
    return [r.job_id, r.number, doc]


def _read_plan(job_id: int, number: int, doc: Doc) -> PlanRecord:
    degradation = doc.get("degradation")
    return PlanRecord(
        job_id=job_id,
        number=number,
        offset_ns=doc["offset_ns"],
        asked_by=doc["asked_by"],
        kind=FaultKind(doc["kind"]),
        parts=tuple(
            PlannedPart(task, held_ns, tuple(cut_out), tuple(cut_in), tuple(peers))
            for task, held_ns, cut_out, cut_in, peers in doc["parts"]
        ),
        with_disk=doc["with_disk"],
        lease_s=doc.get("lease_s", 0.0),
        degradation=None if degradation is None else Degradation(*degradation),
        one_way=doc.get("one_way", False),
        signal=doc.get("signal", 0),
        shape=doc.get("shape", ""),
        seed=doc.get("seed", 0),
        text=doc.get("text", ""),
        heals=tuple(doc.get("heals", ())),
        everything=doc.get("everything", False),
        over_in=doc.get("over_in", 0),
        claimed_in=doc.get("claimed_in", 0),
        claimed_by=doc.get("claimed_by", ""),
    )


def _story(r: StoryRecord) -> Row:
    return [
        r.job_id,
        r.sequence,
        r.attempt,
        {"at": stamp_out(r.at), "task": r.task, "event": r.event, "text": r.text},
    ]


def _read_story(job_id: int, sequence: int, attempt: int, doc: Doc) -> StoryRecord:
    return StoryRecord(job_id, sequence, attempt, stamp_in(doc["at"]), doc["task"], doc["event"], doc["text"])


def _node(r: NodeRecord) -> Row:
    doc: Doc = {
        "boot_id": r.boot_id,
        "slots": [[number, address] for number, address in r.slots],
        "prefix": r.prefix,
        "network": r.network,
        "reach_domain": r.reach_domain,
        "capabilities": list(r.capabilities),
        "version": r.version,
        "resources": [r.resources.cpus, r.resources.memory_bytes, r.resources.disk_bytes],
        "drained": r.drained,
        "last_seen_at": stamp_out(r.last_seen_at),
    }
    if r.forgotten:
        doc["forgotten"] = True
    if r.unsafe:
        doc["unsafe"] = list(r.unsafe)
    if r.cannot:
        doc["cannot"] = [list(one) for one in r.cannot]
    return [r.volunteer_id, doc]


def _read_node(volunteer_id: str, doc: Doc) -> NodeRecord:
    return NodeRecord(
        volunteer_id=volunteer_id,
        boot_id=doc["boot_id"],
        slots=tuple((number, address) for number, address in doc["slots"]),
        prefix=doc["prefix"],
        network=doc["network"],
        reach_domain=doc["reach_domain"],
        capabilities=tuple(doc["capabilities"]),
        version=doc["version"],
        resources=Resources(*doc["resources"]),
        drained=doc["drained"],
        last_seen_at=stamp_in(doc["last_seen_at"]),
        forgotten=doc.get("forgotten", False),
        unsafe=tuple(doc.get("unsafe", ())),
        cannot=tuple((name, why) for name, why in doc.get("cannot", ())),
    )


def _epoch(r: EpochRecord) -> Row:
    return ["epoch", str(r.epoch)]


# The table of each record kind, how many of its columns are the key, and the two directions. What is in meta
# is written here, but read by the store itself.
TABLE_OF: Final[dict[type[Any], str]] = {
    JobRecord: "job",
    TaskRecord: "task",
    RunRecord: "run",
    FaultRecord: "fault",
    PlanRecord: "plan",
    StoryRecord: "story",
    NodeRecord: "node",
    EpochRecord: "meta",
    UserRecord: "user",
    TeamRecord: "team",
    TokenRecord: "token",
    AuditRecord: "audit",
}
KEY_LENGTH: Final = {
    **{"job": 1, "task": 3, "run": 4, "fault": 2, "plan": 2, "story": 2, "node": 1, "meta": 1},
    **{"user": 1, "team": 1, "token": 1, "audit": 1},
}
ENCODE: Final[dict[str, Callable[[Any], Row]]] = {
    "job": _job,
    "task": _task,
    "run": _run,
    "fault": _fault,
    "plan": _plan,
    "story": _story,
    "node": _node,
    "meta": _epoch,
    "user": user_out,
    "team": team_out,
    "token": token_out,
    "audit": audit_out,
}
DECODE: Final[dict[str, Callable[..., Record]]] = {
    "job": _read_job,
    "task": _read_task,
    "run": _read_run,
    "fault": _read_fault,
    "plan": _read_plan,
    "story": _read_story,
    "node": _read_node,
    "user": user_in,
    "team": team_in,
    "token": token_in,
    "audit": audit_in,
}


def to_row(record: Record) -> tuple[str, Row]:
    """The record's table and its row; the last column is the document, not yet JSON text."""
    table = TABLE_OF[type(record)]
    return table, ENCODE[table](record)


def from_row(table: str, columns: Row) -> Record:
    """The record of a row whose last column is its document as a dict."""
    return DECODE[table](*columns)
