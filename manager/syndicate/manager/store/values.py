"""Values of records as they stand in documents: ends, results, specifications, degradations."""

from __future__ import annotations

from math import isfinite
from typing import Any

from ..core.model import (
    NO_SYNC,
    Annotation,
    Degradation,
    JobSpec,
    Limits,
    Outcome,
    Reason,
    Result,
    Source,
    TaskExit,
)
from .documents import Doc


def exit_out(e: TaskExit) -> list[Any]:
    """An end as a list."""
    return [int(e.reason), e.exit_status, e.recipe_status, e.detail, [int(a) for a in e.annotations]]


def exit_in(v: list[Any] | None) -> TaskExit | None:
    """An end from a list; None where there is none."""
    if v is None:
        return None
    met = v[4] if len(v) > 4 else ()  # rows of an older manager have none
    return TaskExit(Reason(v[0]), v[1], v[2], v[3], tuple(Annotation(a) for a in met))


def number_out(x: float) -> float | str:
    """A number, or its name where JSON has none for it."""
    # JSON has no word for these, and a client may well report a rate of infinity.
    return x if isfinite(x) else str(x)


def result_out(r: Result) -> Doc:
    """What a client said, as a document."""
    doc: Doc = {
        "outcome": int(r.outcome),
        "text": r.text,
        "metrics": [[k, number_out(x)] for k, x in r.metrics],
    }
    if r.score is not None:
        doc["score"] = number_out(r.score)
    return doc


def result_in(v: Doc | None) -> Result | None:
    """What a client said; None where it said nothing."""
    if v is None:
        return None
    score = v.get("score")
    return Result(
        outcome=Outcome(v["outcome"]),
        score=None if score is None else float(score),
        metrics=tuple((k, float(x)) for k, x in v["metrics"]),
        text=v["text"],
    )


def spec_out(s: JobSpec) -> Doc:
    """What a job runs, as a document."""
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
    if s.graded:
        doc["graded"] = True
    if s.keep_disks:
        doc["keep_disks"] = True
    if s.replay_of:
        doc["replay_of"] = s.replay_of
    if s.lose_unsynced:
        doc["lose_unsynced"] = True
    if s.sync_server != NO_SYNC:
        doc["sync_server"] = s.sync_server
    return doc


def spec_in(v: Doc) -> JobSpec:
    """What a job runs, from a document."""
    client = v.get("client")
    return JobSpec(
        name=v["name"],
        source=Source(*v["source"]),
        machines=v["machines"],
        client=None if client is None else Source(*client),
        clients=v.get("clients", 0),
        time_limit_s=v["time_limit_s"],
        limits=Limits(*v["limits"]),
        graded=v.get("graded", False),
        keep_disks=v.get("keep_disks", False),
        replay_of=v.get("replay_of", 0),
        lose_unsynced=v.get("lose_unsynced", False),
        sync_server=v.get("sync_server", NO_SYNC),  # jobs of older managers had none
    )


def degradation_out(x: Degradation) -> list[Any]:
    """A degradation as a list."""
    return [
        *(x.loss_percent, x.rate_bps, x.delay_ms, x.jitter_ms),
        *(x.duplicate_percent, x.corrupt_percent, x.reorder_percent),
    ]
