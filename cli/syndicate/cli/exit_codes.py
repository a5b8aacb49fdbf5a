"""How ``syndicatectl`` ends: stable numbers for scripts. ``--help`` and docs/cli.md hold the same table."""

from __future__ import annotations

from syndicate.cli.render.fit import hung
from syndicate.v1.common_pb2 import JobState, Outcome
from syndicate.v1.scheduler_pb2 import Job

OK = 0
JOB_FAILED = 1
JOB_UNKNOWN = 2
USAGE = 64
REFUSED = 65
NOT_FOUND = 66
MANAGER_AWAY = 69
INTERNAL = 70
BAD_MACHINE = 71
CANNOT_WRITE = 73
TRY_AGAIN = 75
NOT_ALLOWED = 77
INTERRUPTED = 130

_HELP = 76
"""Columns: a help is indented, and has 80 in the narrowest terminal."""

MEANINGS = {
    OK: "done; the job succeeded",
    JOB_FAILED: "the job failed: FAILED, TIMED_OUT, CANCELLED or LOST",
    JOB_UNKNOWN: "the job's result is unknown: UNKNOWN",
    USAGE: "wrong usage of a command",
    REFUSED: "refused, nothing was done: source, targets, machines, roster, user, certificate, fault",
    NOT_FOUND: "no such job, task, fault, barrier, node, user, team, token, certificate or context",
    MANAGER_AWAY: "the manager does not answer",
    INTERNAL: "an error of syndicatectl, of the manager itself, or of a volunteer",
    BAD_MACHINE: "a tool or the authority's key is missing here, a port is in use, the clock is off",
    CANNOT_WRITE: "a file cannot be written, or is there already",
    TRY_AGAIN: "the time to wait ran out, the job has not ended, or a quota is used up; try again",
    NOT_ALLOWED: "not authenticated or not allowed; `up` and `down` need root",
    INTERRUPTED: "Ctrl-C; a job that was submitted goes on",
}


def of_job(job: Job) -> int:
    """How a command that waits for a job ends when the job has ended so."""
    if job.state == JobState.JOB_STATE_SUCCEEDED:
        return OK
    return JOB_UNKNOWN if job.state == JobState.JOB_STATE_UNKNOWN else JOB_FAILED


def of_result(job: Job) -> int:
    """How ``result`` ends: by what the clients said, or by the job's end where they said nothing."""
    by_outcome = {
        Outcome.OUTCOME_PASS: OK,
        Outcome.OUTCOME_FAIL: JOB_FAILED,
        Outcome.OUTCOME_UNKNOWN: JOB_UNKNOWN,
    }
    # A job that was cut off has no verdict, whatever some of its clients said before.
    judged = job.state in (
        JobState.JOB_STATE_SUCCEEDED,
        JobState.JOB_STATE_FAILED,
        JobState.JOB_STATE_UNKNOWN,
    )
    if judged and job.HasField("result") and job.result.outcome in by_outcome:
        return by_outcome[job.result.outcome]
    return of_job(job)


def table() -> str:
    """The table for ``--help``, in the columns that a help has."""
    return "\n".join(line for code, text in MEANINGS.items() for line in hung(f"{code:>4}  ", text, _HELP))
