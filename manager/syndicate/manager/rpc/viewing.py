"""What of a job a caller is shown: students nothing that its clients print, unless it is published.

A client's `Result` is what its author has for students: score, metrics and text are shown. Its output is not,
nor make's last line in the account of its end, which quotes it. The digest of its source, which would let it
be run as somebody's own job, they are never shown; that of the job's own source the owner and the team are.
"""

from __future__ import annotations

import hashlib

from syndicate.v1 import common_pb2
from syndicate.v1 import scheduler_pb2 as pb

from ..core.access import Caller, sees
from ..core.errors import NotAllowed
from ..core.model import Source
from ..core.records import JobRecord


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


def default_client(caller: Caller, client: Source | None) -> str:
    """What a caller is told of the default client; empty for none.

    Students are told the digest's digest: one sees that the client changed, and it names no source. The real
    one would let them run the client as a job once it is the default no more.
    """
    if client is None or caller.is_staff:
        return "" if client is None else client.sha256
    return hashlib.sha256(bytes.fromhex(client.sha256)).hexdigest()


def shown_tasks(tasks: list[str], named: bool) -> list[str]:
    """Of a job's tasks those whose output a student sees. Raises NotAllowed where a client is asked for."""
    shown = [task for task in tasks if not task.startswith("client-")]
    if named and len(shown) < len(tasks):
        raise NotAllowed(
            "NOT_PUBLISHED",
            "what clients print is for staff until the job is published; their results are in the job",
        )
    return shown
