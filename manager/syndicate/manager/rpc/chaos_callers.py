"""Who calls ChaosControl, about which job: client tasks by their volunteers' word, users by tokens."""

from __future__ import annotations

from ..core import effects
from ..core.access import CHAOS_RULES, CLIENTS_ONLY, check_chaos, check_job, no_such_job, sees_job
from ..core.errors import Away, BadRequest, NotAllowed, Refused
from ..core.events import ChaosCaller, UserCaller, WhoCalls
from ..core.model import JobState, Member, TaskRef
from ..core.records import JobRecord
from ..core.views import JobView
from ..engine import Engine
from ..store import Store
from . import caller as callers
from .chaos import ChaosControl
from .peers import Peers
from .shelves import Shelves
from .types import Context


class Relayed:
    """On the volunteers' listener: the client task that its volunteer attests."""

    def __init__(self, engine: Engine, peers: Peers | None = None) -> None:
        """Without `peers` the listener is in clear text, and a volunteer is whoever its stream says it is."""
        self._engine = engine
        self._peers = peers

    async def who(self, context: Context, method: str) -> WhoCalls:
        """The client task. The core checks that the volunteer holds it.

        The volunteer is the one whose live stream the call names, and whose certificate it shows. Raises
        NotAllowed, and Away where the stream has ended: there may be another one already, which the next call
        names.
        """
        session = task = ""
        for key, value in context.invocation_metadata() or ():
            if key == "syndicate-session":
                session = str(value)
            elif key == "syndicate-task":
                task = str(value)
        ref = _ref(task) if session else None
        if ref is None:
            raise NotAllowed(
                "NOT_A_CLIENT",
                "ChaosControl is for client tasks: call it through the socket in SYNDICATE_CHAOS",
            )
        volunteer_id = self._engine.machine.volunteer_of(session)
        if volunteer_id is None:
            raise Away("MANAGER_AWAY", "the volunteer's stream to the manager has ended; try again")
        if self._peers is not None:
            self._peers.must_be(context, volunteer_id)
        return ChaosCaller(volunteer_id, ref)


class ByUsers:
    """On the users' listener: the user, about the job that the metadata names."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self._engine = engine
        self._store = store

    async def who(self, context: Context, method: str) -> WhoCalls:
        """The user. Raises BadRequest, NotFound, NotAllowed, and Refused for a job that does not run."""
        origin, rule = callers.origin(context), CHAOS_RULES[method]
        if method in CLIENTS_ONLY:
            raise NotAllowed("NOT_A_CLIENT", f"only a client of the job may call {method}")
        job_id = callers.job_named(context)
        if job_id is None:
            text = "the metadata `syndicate-job` is to name the job, by its number"
            raise BadRequest("BAD_FIELD", text, field="syndicate-job")
        record = await self._record(job_id)
        if not sees_job(origin.caller, record):
            raise no_such_job(job_id, hidden=True)
        check_job(origin.caller, job_id, record.owner, rule.whose)
        if rule.changes:
            check_chaos(origin.caller, job_id, record.spec, self._engine.config.default_client)
            if record.state > JobState.STOPPING:
                # The machine may have let it go.
                raise Refused("JOB_NOT_RUNNING", f"job {job_id} is {record.state.name}")
        return UserCaller(job_id, origin.caller.name, origin)

    async def ended(self, caller: WhoCalls) -> JobView | None:
        """The job as the store has it, where it has ended."""
        if not isinstance(caller, UserCaller):
            return None
        record = self._engine.machine.record(caller.job_id)
        if record is not None and record.state <= JobState.STOPPING:
            return None
        await self._engine.durable()
        return await self._store.load_job(caller.job_id)

    async def _record(self, job_id: int) -> JobRecord:
        record = self._engine.machine.record(job_id)
        if record is not None:
            await self._engine.durable()
            return record
        view = await self._store.load_job(job_id)
        if view is None:
            raise no_such_job(job_id)
        return view.job


class UsersChaosControl(ChaosControl):
    """For users, who look at jobs that ended long ago, too."""

    def __init__(self, engine: Engine, by: ByUsers, shelves: Shelves) -> None:
        super().__init__(engine, by, shelves)
        self._by = by

    async def _lines(self, caller: WhoCalls, in_force: bool, after: int, most: int) -> effects.LinesReply:
        view = await self._by.ended(caller)
        if view is None:
            return await super()._lines(caller, in_force, after, most)
        lines = () if in_force else tuple(line for line in view.faults if line.fault_id > after)
        return effects.LinesReply(lines[:most], len(lines) > most)

    async def _members(self, caller: WhoCalls) -> effects.MembersReply:
        view = await self._by.ended(caller)
        if view is None:
            return await super()._members(caller)
        return effects.MembersReply(
            tuple(
                effects.MemberView(
                    Member(task.task, task.role, task.address), task.state, task.generation, False
                )
                for task in sorted(view.tasks, key=lambda task: (task.role, len(task.task), task.task))
            )
        )


def _ref(text: str) -> TaskRef | None:
    """`cluster/job/attempt/task/generation`; None where it is not that."""
    try:
        cluster_id, job_id, attempt, name, generation = text.split("/")
        return TaskRef(cluster_id, int(job_id), int(attempt), name, int(generation))
    except ValueError:
        return None
