"""What of a job a caller is shown: students nothing that its clients print, unless it is published.

A client's `Result` is what its author has for students: score, metrics and text are shown. Its output is not,
nor make's last line in the account of its end, which quotes it. The digest of its source, which would let it
be run as somebody's own job, they are never shown; that of the job's own source the owner and the team are.

What else tells of a job, a volunteer's slots and what another one waits for, does not say which it is to whom
does not see it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from syndicate.v1 import common_pb2
from syndicate.v1 import scheduler_pb2 as pb

from ..core.access import Caller, may_have_source, role_too_low, sees, sees_job
from ..core.errors import BadRequest, NotAllowed
from ..core.model import Source, UserRole
from ..core.records import JobRecord
from ..core.views import Wait


def hides_clients(caller: Caller, job: JobRecord, published: bool) -> bool:
    """Whether the job's clients are hidden; `published` where the operator publishes all clients' output."""
    return not (caller.is_staff or job.published or published)


def hide_words(job: pb.Job) -> None:
    """Takes what clients say beside their results out of a picture."""
    for task in job.tasks:
        if task.role == common_pb2.ROLE_CLIENT:
            for end in (task.exit, *(run.exit for run in task.runs)):
                if end.reason == common_pb2.REASON_EXITED_NONZERO:
                    end.ClearField("detail")


def hide_sources(caller: Caller, job: JobRecord, picture: pb.Job) -> None:
    """Takes the digests of sources that the caller is not to run out of a picture."""
    if caller.is_staff:
        return
    picture.spec.ClearField("client_sha256")
    if not sees(caller, job.owner, job.team, published=False):
        picture.spec.ClearField("source_sha256")


def wait_text(caller: Caller, wait: Wait) -> str:
    """What a waiting job waits for, as far as the caller sees whom."""
    return wait.told(lambda job: sees_job(caller, job))


def hide_jobs(caller: Caller, node: pb.Node, record: Callable[[int], JobRecord | None]) -> None:
    """Takes the jobs that the caller does not see out of a volunteer's slots, which stay busy.

    A job that is not in memory any more is nobody's but staff's.
    """
    if caller.is_staff:
        return
    for slot in node.slots:
        job = record(slot.job_id) if slot.job_id else None
        if job is None or not sees_job(caller, job):
            slot.ClearField("job_id")
            slot.ClearField("task")


def default_client(caller: Caller, client: Source | None) -> str:
    """What a caller is told of the default client; empty for none.

    Students are told the digest's digest: one sees that the client changed, and it names no source. The real
    one would let them run the client as a job once it is the default no more.
    """
    if client is None or caller.is_staff:
        return "" if client is None else client.sha256
    return hashlib.sha256(bytes.fromhex(client.sha256)).hexdigest()


def tasks_of(job: JobRecord, named: Sequence[str]) -> list[str]:
    """The job's tasks that are named, or all. Raises BadRequest (BAD_FIELD) for one that it has not."""
    spec = job.spec
    members = ["master"]
    members += [f"slave-{i}" for i in range(spec.machines - 1)]
    members += [f"client-{i}" for i in range(spec.clients)]
    if not named:
        return members
    wanted, known = set(named), set(members)
    for task in named:
        if task not in known:
            raise BadRequest(
                "BAD_FIELD", f"job {job.job_id} has no task {task[:64]!r}: {', '.join(members[:8])}"
            )
    return [m for m in members if m in wanted]


def shown_tasks(tasks: list[str], named: bool) -> list[str]:
    """Of a job's tasks those whose output a student sees. Raises NotAllowed where a client is asked for."""
    shown = [task for task in tasks if not task.startswith("client-")]
    if named and len(shown) < len(tasks):
        raise not_published()
    return shown


def tasks_with_disks(caller: Caller, job: JobRecord, tasks: list[str], named: bool) -> list[str]:
    """Of these tasks those whose disks, with the sources on them, the caller may have.

    Raises NotAllowed where there is none, and where one that may not be had is asked for.
    """
    shown = [task for task in tasks if may_have_source(caller, job, task.startswith("client-"))]
    if not shown or (named and len(shown) < len(tasks)):
        refused = next(task for task in tasks if task not in shown)
        raise role_too_low(UserRole.STAFF, f"the source of {refused} lies on its disk: to have that")
    return shown


def not_published() -> NotAllowed:
    """What a student is told who asks for what clients print or hand over."""
    return NotAllowed(
        "NOT_PUBLISHED",
        "what clients print and record is for staff until the job is published; their results are in the job",
    )
