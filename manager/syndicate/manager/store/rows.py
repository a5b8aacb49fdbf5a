"""Records to rows and back.

A row is a list: the key and what is queried first, then one JSON document with the rest, in the order of the
columns in `schema`. Stamps are `[boot id, monotonic ns, UTC ns]`; what is empty is left out of the document,
so that most documents stay short and a field that is added later reads as its default.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, Final

from ..core.model import (
    Annotation,
    FaultKind,
    JobSpec,
    JobState,
    Limits,
    Outcome,
    Quota,
    Reason,
    Resources,
    Result,
    Role,
    Source,
    Stamp,
    TaskExit,
    TaskState,
    TokenScope,
    UserRole,
)
from ..core.records import (
    AuditRecord,
    EpochRecord,
    FaultRecord,
    JobRecord,
    NodeRecord,
    Record,
    RunRecord,
    StoryRecord,
    TaskRecord,
    TeamRecord,
    TokenRecord,
    UserRecord,
)

Doc = dict[str, Any]
Row = list[Any]


# ---- values ---------------------------------------------------------------------------------------------


def _stamp(s: Stamp) -> list[Any]:
    return [s.boot_id, s.monotonic_ns, s.utc_ns]


def _read_stamp(v: list[Any]) -> Stamp:
    return Stamp(v[0], v[1], v[2])


def _read_stamp_or_none(v: list[Any] | None) -> Stamp | None:
    return None if v is None else Stamp(v[0], v[1], v[2])


def _exit(e: TaskExit) -> list[Any]:
    return [int(e.reason), e.exit_status, e.recipe_status, e.detail, [int(a) for a in e.annotations]]


def _read_exit(v: list[Any] | None) -> TaskExit | None:
    if v is None:
        return None
    met = v[4] if len(v) > 4 else ()  # rows of an older manager have none
    return TaskExit(Reason(v[0]), v[1], v[2], v[3], tuple(Annotation(a) for a in met))


def _number(x: float) -> float | str:
    # JSON has no word for these, and a client may well report a rate of infinity.
    return x if isfinite(x) else str(x)


def _result(r: Result) -> Doc:
    doc: Doc = {"outcome": int(r.outcome), "text": r.text, "metrics": [[k, _number(x)] for k, x in r.metrics]}
    if r.score is not None:
        doc["score"] = _number(r.score)
    return doc


def _read_result(v: Doc | None) -> Result | None:
    if v is None:
        return None
    score = v.get("score")
    return Result(
        outcome=Outcome(v["outcome"]),
        score=None if score is None else float(score),
        metrics=tuple((k, float(x)) for k, x in v["metrics"]),
        text=v["text"],
    )


def _spec(s: JobSpec) -> Doc:
    x = s.limits
    doc: Doc = {
        "name": s.name,
        "source": [s.source.sha256, s.source.size],
        "machines": s.machines,
        "time_limit_s": s.time_limit_s,
        "limits": [
            *(x.disk_bytes, x.disk_inodes, x.log_head_bytes, x.log_tail_bytes, x.memory_bytes, x.pids),
            *(x.cpu_millis, x.open_files, x.file_bytes),
        ],
    }
    if s.client is not None:
        doc["client"] = [s.client.sha256, s.client.size]
        doc["clients"] = s.clients
    return doc


def _read_spec(v: Doc) -> JobSpec:
    client = v.get("client")
    return JobSpec(
        name=v["name"],
        source=Source(*v["source"]),
        machines=v["machines"],
        client=None if client is None else Source(*client),
        clients=v.get("clients", 0),
        time_limit_s=v["time_limit_s"],
        limits=Limits(*v["limits"]),
    )


# ---- records --------------------------------------------------------------------------------------------


def _job(r: JobRecord) -> Row:
    doc: Doc = {
        "spec": _spec(r.spec),
        "attempt": r.attempt,
        "submitted_at": _stamp(r.submitted_at),
    }
    if r.queued_at != r.submitted_at:
        doc["queued_at"] = _stamp(r.queued_at)
    if r.reason:
        doc["reason"] = int(r.reason)
    if r.detail:
        doc["detail"] = r.detail
    if r.verdict is not None:
        doc["verdict"] = int(r.verdict)
    if r.result is not None:
        doc["result"] = _result(r.result)
    for name in ("reserved_at", "started_at", "ended_at"):
        stamp = getattr(r, name)
        if stamp is not None:
            doc[name] = _stamp(stamp)
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
    submitted_at = _read_stamp(doc["submitted_at"])
    return JobRecord(
        job_id=job_id,
        request_id=request_id,
        owner=owner,
        spec=_read_spec(doc["spec"]),
        state=JobState(state),
        attempt=doc["attempt"],
        submitted_at=submitted_at,
        queued_at=_read_stamp_or_none(doc.get("queued_at")) or submitted_at,
        reason=Reason(doc.get("reason", 0)),
        detail=doc.get("detail", ""),
        verdict=None if verdict is None else JobState(verdict),
        result=_read_result(doc.get("result")),
        reserved_at=_read_stamp_or_none(doc.get("reserved_at")),
        started_at=_read_stamp_or_none(doc.get("started_at")),
        ended_at=_read_stamp_or_none(doc.get("ended_at")),
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
    if r.disconnected:
        doc["disconnected"] = True
    if r.exit is not None:
        doc["exit"] = _exit(r.exit)
    if r.result is not None:
        doc["result"] = _result(r.result)
    if r.finished_at is not None:
        doc["finished_at"] = _stamp(r.finished_at)
    if r.finish_request_id:
        doc["finish_request_id"] = r.finish_request_id
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
        disconnected=doc.get("disconnected", False),
        exit=_read_exit(doc.get("exit")),
        result=_read_result(doc.get("result")),
        finished_at=_read_stamp_or_none(doc.get("finished_at")),
        finish_request_id=doc.get("finish_request_id", ""),
    )


def _run(r: RunRecord) -> Row:
    doc: Doc = {"started_at": _stamp(r.started_at)}
    if r.ended_at is not None:
        doc["ended_at"] = _stamp(r.ended_at)
    if r.exit is not None:
        doc["exit"] = _exit(r.exit)
    return [r.job_id, r.attempt, r.task, r.generation, doc]


def _read_run(job_id: int, attempt: int, task: str, generation: int, doc: Doc) -> RunRecord:
    return RunRecord(
        job_id=job_id,
        attempt=attempt,
        task=task,
        generation=generation,
        started_at=_read_stamp(doc["started_at"]),
        ended_at=_read_stamp_or_none(doc.get("ended_at")),
        exit=_read_exit(doc.get("exit")),
    )


def _fault(r: FaultRecord) -> Row:
    doc: Doc = {
        "request_id": r.request_id,
        "kind": int(r.kind),
        "task": r.task,
        "requested_by": r.requested_by,
        "requested_at": _stamp(r.requested_at),
        "with_disk": r.with_disk,
        "generation": r.generation,
        "processes": r.processes,
        "applied_error_ns": r.applied_error_ns,
        "duration_ns": r.duration_ns,
        "already": r.already,
        "error": r.error,
    }
    if r.applied_at is not None:
        doc["applied_at"] = _stamp(r.applied_at)
    if r.applied_at_manager is not None:
        doc["applied_at_manager"] = _stamp(r.applied_at_manager)
    return [r.job_id, r.fault_id, r.attempt, doc]


def _read_fault(job_id: int, fault_id: int, attempt: int, doc: Doc) -> FaultRecord:
    return FaultRecord(
        job_id=job_id,
        fault_id=fault_id,
        attempt=attempt,
        request_id=doc["request_id"],
        kind=FaultKind(doc["kind"]),
        task=doc["task"],
        requested_by=doc["requested_by"],
        requested_at=_read_stamp(doc["requested_at"]),
        with_disk=doc["with_disk"],
        generation=doc["generation"],
        processes=doc["processes"],
        applied_at=_read_stamp_or_none(doc.get("applied_at")),
        applied_at_manager=_read_stamp_or_none(doc.get("applied_at_manager")),
        applied_error_ns=doc["applied_error_ns"],
        duration_ns=doc["duration_ns"],
        already=doc["already"],
        error=doc["error"],
    )


def _story(r: StoryRecord) -> Row:
    return [
        r.job_id,
        r.sequence,
        r.attempt,
        {"at": _stamp(r.at), "task": r.task, "event": r.event, "text": r.text},
    ]


def _read_story(job_id: int, sequence: int, attempt: int, doc: Doc) -> StoryRecord:
    return StoryRecord(
        job_id, sequence, attempt, _read_stamp(doc["at"]), doc["task"], doc["event"], doc["text"]
    )


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
        "last_seen_at": _stamp(r.last_seen_at),
    }
    if r.forgotten:
        doc["forgotten"] = True
    if r.unsafe:
        doc["unsafe"] = list(r.unsafe)
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
        last_seen_at=_read_stamp(doc["last_seen_at"]),
        forgotten=doc.get("forgotten", False),
        unsafe=tuple(doc.get("unsafe", ())),
    )


def _epoch(r: EpochRecord) -> Row:
    return ["epoch", str(r.epoch)]


def _quota(q: Quota) -> list[int]:
    return [q.running_jobs, q.queued_jobs, q.submissions_per_day, q.machines]


def _user(r: UserRecord) -> Row:
    doc: Doc = {
        "role": int(r.role),
        "team": r.team,
        "disabled": r.disabled,
        "quota": _quota(r.quota),
        "created_at": _stamp(r.created_at),
    }
    return [r.name, doc]


def _read_user(name: str, doc: Doc) -> UserRecord:
    return UserRecord(
        name=name,
        role=UserRole(doc["role"]),
        team=doc["team"],
        disabled=doc["disabled"],
        quota=Quota(*doc["quota"]),
        created_at=_read_stamp(doc["created_at"]),
    )


def _team(r: TeamRecord) -> Row:
    return [r.name, {"quota": _quota(r.quota)}]


def _read_team(name: str, doc: Doc) -> TeamRecord:
    return TeamRecord(name, Quota(*doc["quota"]))


def _token(r: TokenRecord) -> Row:
    doc: Doc = {
        "user": r.user,
        "note": r.note,
        "scope": int(r.scope),
        "digest": r.digest,
        "created_at": _stamp(r.created_at),
        "expires_utc_ns": r.expires_utc_ns,
    }
    for name in ("revoked_at", "last_used_at"):
        stamp = getattr(r, name)
        if stamp is not None:
            doc[name] = _stamp(stamp)
    if r.forgotten:
        doc["forgotten"] = True
    return [r.token_id, doc]


def _read_token(token_id: str, doc: Doc) -> TokenRecord:
    return TokenRecord(
        token_id=token_id,
        user=doc["user"],
        note=doc["note"],
        scope=TokenScope(doc["scope"]),
        digest=doc["digest"],
        created_at=_read_stamp(doc["created_at"]),
        expires_utc_ns=doc["expires_utc_ns"],
        revoked_at=_read_stamp_or_none(doc.get("revoked_at")),
        last_used_at=_read_stamp_or_none(doc.get("last_used_at")),
        forgotten=doc.get("forgotten", False),
    )


def _audit(r: AuditRecord) -> Row:
    doc: Doc = {
        "at": _stamp(r.at),
        "token_id": r.token_id,
        "peer": r.peer,
        "method": r.method,
        "subject": r.subject,
        "reason": r.reason,
    }
    return [r.line, r.who, r.job_id, int(r.allowed), doc]


def _read_audit(line: int, who: str, job_id: int, allowed: int, doc: Doc) -> AuditRecord:
    return AuditRecord(
        line=line,
        at=_read_stamp(doc["at"]),
        who=who,
        token_id=doc["token_id"],
        peer=doc["peer"],
        method=doc["method"],
        subject=doc["subject"],
        allowed=bool(allowed),
        reason=doc["reason"],
        job_id=job_id,
    )


# The table of each record kind, how many of its columns are the key, and the two directions. What is in meta
# is written here, but read by the store itself.
TABLE_OF: Final[dict[type[Any], str]] = {
    JobRecord: "job",
    TaskRecord: "task",
    RunRecord: "run",
    FaultRecord: "fault",
    StoryRecord: "story",
    NodeRecord: "node",
    EpochRecord: "meta",
    UserRecord: "user",
    TeamRecord: "team",
    TokenRecord: "token",
    AuditRecord: "audit",
}
KEY_LENGTH: Final = {
    **{"job": 1, "task": 3, "run": 4, "fault": 2, "story": 2, "node": 1, "meta": 1},
    **{"user": 1, "team": 1, "token": 1, "audit": 1},
}
ENCODE: Final[dict[str, Callable[[Any], Row]]] = {
    "job": _job,
    "task": _task,
    "run": _run,
    "fault": _fault,
    "story": _story,
    "node": _node,
    "meta": _epoch,
    "user": _user,
    "team": _team,
    "token": _token,
    "audit": _audit,
}
DECODE: Final[dict[str, Callable[..., Record]]] = {
    "job": _read_job,
    "task": _read_task,
    "run": _read_run,
    "fault": _read_fault,
    "story": _read_story,
    "node": _read_node,
    "user": _read_user,
    "team": _read_team,
    "token": _read_token,
    "audit": _read_audit,
}


def to_row(record: Record) -> tuple[str, Row]:
    """The record's table and its row; the last column is the document, not yet JSON text."""
    table = TABLE_OF[type(record)]
    return table, ENCODE[table](record)


def from_row(table: str, columns: Row) -> Record:
    """The record of a row whose last column is its document as a dict."""
    return DECODE[table](*columns)
