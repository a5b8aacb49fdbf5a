"""What may be read of the core between two steps: jobs, volunteers, users, the cluster in numbers."""

from __future__ import annotations

from collections import Counter

from . import admission, barriers, figures, ledger, show, story
from . import quota as quotas
from .events import SubmitJob
from .figures import Figures
from .model import ClockBound, Config, JobState, Stamp, TaskRef
from .records import JobRecord, TeamRecord, TokenRecord, UserRecord
from .transitions import FINAL_TASK_STATES
from .views import ClusterView, JobView, NodeView
from .world import World


class Readable:
    """The core for readers: nothing here changes it."""

    def __init__(self, config: Config) -> None:
        self._world = World(config)

    def job(self, job_id: int) -> JobView | None:
        """A job whole; None where it never was, or has ended and only the store has all of it."""
        job = self._world.jobs.get(job_id)
        return None if job is None or not job.whole else show.job_whole(self._world, job)

    def record(self, job_id: int) -> JobRecord | None:
        """A job's row, ended or not; None where it is not in memory. Its result may be in the store alone."""
        job = self._world.jobs.get(job_id)
        return None if job is None else job.record

    def place(self, job_id: int) -> tuple[int, int]:
        """A waiting job's place in the queue, from 1, and the queue's length; zeros if it does not wait."""
        queue = self._world.queue
        return (queue.place(job_id), len(queue)) if job_id in queue else (0, 0)

    def barriers(self, job_id: int) -> barriers.Barriers:
        """The open barriers of a job. Raises NotFound, or Refused (JOB_NOT_RUNNING, NO_SYNC_SERVER)."""
        return barriers.listed(self._world, self._world.job(job_id))

    def nodes(self) -> list[NodeView]:
        """The volunteers that are known, by id."""
        return [show.node_view(self._world, node) for _, node in sorted(self._world.nodes.items())]

    def cluster(self) -> ClusterView:
        """The cluster in numbers."""
        return show.cluster(self._world)

    def figures(self, now: Stamp) -> Figures:
        """The cluster in numbers, for whoever watches it."""
        return figures.figures(self._world, now)

    @property
    def next_job_id(self) -> int:
        """The id that the next job gets."""
        return self._world.next_job_id

    def check_submit(self, event: SubmitJob) -> None:
        """Raises what this Submit would be refused with (BadRequest, Refused, Exhausted); queues nothing."""
        admission.check(self._world, event)

    def user(self, name: str) -> UserRecord | None:
        """A user; None where there is none of this name."""
        return self._world.users.get(name)

    def token(self, token_id: str) -> TokenRecord | None:
        """A token; None where there is none of this id."""
        return self._world.tokens.get(token_id)

    def users(self) -> list[UserRecord]:
        """All users, by name."""
        return [user for _, user in sorted(self._world.users.items())]

    def teams(self) -> list[tuple[TeamRecord, int]]:
        """All teams by name, each with how many users are in it."""
        sizes = Counter(user.team for user in self._world.users.values())
        return [(team, sizes[name]) for name, team in sorted(self._world.teams.items())]

    def tokens(self) -> list[TokenRecord]:
        """All tokens, newest first."""
        return sorted(self._world.tokens.values(), key=lambda t: (-t.created_at.utc_ns, t.token_id))

    def parties(self, owner: str, team: str, now: Stamp) -> list[tuple[quotas.Party, quotas.Usage]]:
        """Whose bounds hold for a user's jobs, the user first, and what they have of them."""
        found = quotas.parties(self._world, owner, team)
        return [(party, quotas.usage(self._world, party, now.monotonic_ns)) for party in found]

    def volunteer_of(self, session: str) -> str | None:
        """Whose live stream a session names; None where it is none, or was replaced by another."""
        return self._world.sessions.get(session)

    def clock(self, volunteer_id: str) -> ClockBound | None:
        """How a volunteer's clock stands to the manager's, as of the last event."""
        node = self._world.nodes.get(volunteer_id)
        return None if node is None else ledger.clock_of(self._world, node)

    def may_log(self, session: str, ref: TaskRef) -> bool:
        """Whether the volunteer of this stream holds the task, or held it in this attempt."""
        node, found = self._world.node_of_session(session), self._world.find(ref)
        return (
            node is not None
            and found is not None
            and found[1].record.volunteer_id == node.record.volunteer_id
        )

    def may_put_disk(self, session: str, ref: TaskRef) -> bool:
        """Whether the volunteer of this stream gives the task's slot back now, and hands its disk over."""
        if not self.may_log(session, ref):
            return False
        found = self._world.find(ref)
        if found is None:
            return False
        job, task = found
        ends = job.record.state is JobState.STOPPING and job.record.verdict is not JobState.QUEUED
        return ends and job.record.spec.keep_disks and task.record.state not in FINAL_TASK_STATES

    def owner_of(self, job_id: int) -> str:
        """Whose job it is; empty for one that is not in memory."""
        job = self._world.jobs.get(job_id)
        return "" if job is None else job.record.owner

    def story(self, job_id: int) -> str:
        """The job's history as text, for a crash message or a failing test."""
        job = self._world.jobs.get(job_id)
        return f"job {job_id}: not in memory" if job is None or not job.whole else story.retell(job)
