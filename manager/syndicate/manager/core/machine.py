"""The manager as one value that takes events and makes steps: records to save, then effects to perform.

    machine = Machine(config)
    step = machine.handle(event, now)      # the only mutator
    ...save step.saves, then perform step.effects...
    machine.next_wake()                    # when it wants a Tick

Everything else reads (`reading`). The same events at the same times give the same steps: the core has no
clock and no chance.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from . import (
    asked,
    barriers,
    calls,
    commands,
    faults,
    gang,
    ledger,
    nodes,
    recovery,
    replaying,
    scheduler,
    stopping,
    users,
    validate,
)
from .effects import AckEvent, Prepare, Release, Reserve, Start, Step
from .effects import DropBarriers as DropOrder
from .errors import CoreError
from .events import (
    AnswerReceived,
    BarriersTold,
    CallGone,
    CancelJob,
    ChaosRequest,
    ClientsRequested,
    DrainNode,
    DropBarriers,
    Event,
    FinishRequested,
    HealRequested,
    HeartbeatReceived,
    LinesRequested,
    MembersRequested,
    OnMembers,
    PartitionRequested,
    SubmitJob,
    TaskExited,
    Tick,
    VolunteerAttached,
    VolunteerDetached,
)
from .lives import exited
from .model import Config, JobState, Stamp
from .reading import Readable
from .records import Record
from .state import LiveJob, LiveTask, Node
from .timers import TimerKey
from .user_events import (
    Audited,
    CreateToken,
    FirstToken,
    PublishJob,
    PutTeam,
    PutUsers,
    RevokeToken,
    TokensUsed,
    WriteAudit,
)
from .verdict import verdict

# Of what a volunteer says of a failure, for people.
LONGEST_DETAIL = 1000


class Machine(Readable):
    """The manager's core. Not for several threads at once."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._to_resume = False

    @classmethod
    def restore(
        cls,
        config: Config,
        records: Iterable[Record],
        now: Stamp,
        requests: Iterable[tuple[str, int, str]] = (),
    ) -> Machine:
        """The machine after a restart, from what was saved. `config.epoch` must be larger than before.

        `requests` are those of jobs that have ended, oldest first, as (request id, job id, owner): a repeat
        of one gets its job, though nothing else of it need be among the records.

        What recovery changes comes out with the first step; `next_wake` asks for it at once. Raises
        InvariantError where the records contradict each other.
        """
        machine = cls(config)
        recovery.load(machine._world, records, now, requests)
        machine._to_resume = True
        return machine

    def handle(self, event: Event, now: Stamp) -> Step:
        """Takes one event in; returns what is to be saved and then done. `now` is the manager's clock.

        Raises InvariantError where the core itself is wrong: the manager must then stop, and restore.
        """
        world = self._world
        world.set_clock(now)
        if self._to_resume:
            self._to_resume = False
            recovery.resume(world)
            self._settle()
        self._take(event)
        self._settle()
        return world.take_step()

    def next_wake(self) -> int | None:
        """When the machine wants a Tick, on the manager's monotonic clock; None for not by itself."""
        return self._world.ns if self._to_resume else self._world.timers.next()

    def validate(self) -> None:
        """Raises InvariantError, with the story of the job concerned, where something does not hold.

        Between `restore` and the first event nothing is checked: what is to hold comes with the first step.
        """
        if not self._to_resume:
            validate.validate(self._world)

    # ---- events --------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        world = self._world
        match event:
            case HeartbeatReceived():
                nodes.heard(world, event)
            case AnswerReceived():
                self._answer(event)
            case OnMembers() | PartitionRequested() | HealRequested():
                self._fault(event)
            case TaskExited():
                self._exited(event)
            case BarriersTold():
                self._barriers_told(event)
            case SubmitJob() | CancelJob() | DrainNode():
                calls.answer(world, event)
            case DropBarriers():
                self._drop(event)
            case FinishRequested() | MembersRequested() | LinesRequested() | ClientsRequested():
                calls.answer(world, event)
            case PutUsers() | PutTeam() | CreateToken() | RevokeToken() | PublishJob():
                calls.answer(world, event)
            case TokensUsed():
                users.used(world, event)
            case FirstToken():
                users.first_token(world, event)
            case WriteAudit():
                world.write_audit()
            case Audited():
                world.save_audit(
                    event.who,
                    event.token_id,
                    event.peer,
                    event.method,
                    event.subject,
                    event.allowed,
                    event.reason,
                    event.job_id,
                )
            case Tick():
                for key in world.timers.pop_due(world.ns):
                    self._timer(key)
            case CallGone():
                asked.leave(world, event.call)
                replaying.leave(world, event.call)
            case VolunteerAttached():
                nodes.attached(world, event)
            case VolunteerDetached():
                nodes.detached(world, event.session)
            case _:
                assert_never(event)

    def _drop(self, event: DropBarriers) -> None:
        try:
            barriers.drop(self._world, self._world.job(event.job_id), event)
        except CoreError as error:
            self._world.reply(event.call, error)

    def _fault(self, event: ChaosRequest) -> None:
        try:
            if not replaying.requested(self._world, event):
                faults.requested(self._world, event)
        except CoreError as error:
            self._world.reply(event.call, error)

    def _answer(self, event: AnswerReceived) -> None:
        """Answers through a stream that was replaced mean nothing: the command was sent again."""
        world = self._world
        node = world.node_of_session(event.session)
        pending = node.pending.pop(event.command_id, None) if node is not None else None
        if node is None or pending is None:
            return
        code, detail, at = event.code, event.detail[:LONGEST_DETAIL], event.applied_at
        match pending.command.action:
            case Reserve():
                gang.reserve_answered(world, node, pending, code, event.address, detail)
            case Prepare():
                gang.prepare_answered(world, pending, code, detail)
            case Start():
                gang.start_answered(world, node, pending, code, detail, at)
            case Release():
                stopping.released(world, node, pending, code, at)
            case DropOrder():
                barriers.dropped(world, pending, code, detail, event.dropped)
            case _:
                faults.answered(world, node, pending, code, detail, event.processes, at, event.duration_ns)

    def _barriers_told(self, event: BarriersTold) -> None:
        found = self._acknowledged(event)
        if found is not None:
            node, job, _ = found
            barriers.told(self._world, node, job, event)

    def _exited(self, event: TaskExited) -> None:
        found = self._acknowledged(event)
        if found is not None:
            _, job, task = found
            exited(self._world, job, task, event.ref.generation, event.exit, event.at)

    def _acknowledged(self, event: BarriersTold | TaskExited) -> tuple[Node, LiveJob, LiveTask] | None:
        """Whom a volunteer's event is about, where that still means something.

        It is acknowledged whether it does or not, else it would be told for ever.
        """
        world = self._world
        node = world.node_of_session(event.session)
        if node is None:
            return None
        world.emit(AckEvent(event.session, event.event_id))
        found = world.find(event.ref)
        if found is None or found[1].record.volunteer_id != node.record.volunteer_id:
            return None
        return node, *found

    # ---- time ----------------------------------------------------------------------------------------------

    def _timer(self, key: TimerKey) -> None:
        world = self._world
        match key:
            case ("job", int(job_id)):
                self._job_timer(world.jobs[job_id])
            case ("node", str(name)):
                nodes.overdue(world, name)
            case ("forget", str(name)):
                nodes.forget(world, name)
            case ("resend", str(name)):
                commands.resend_late(world, name)
            case ("slot", str(name), int(number)):
                nodes.slot_back(world, name, number)
            case ("audit",):
                world.write_audit()
            case ("fault", int(number)):
                ledger.overdue(world, number)
            case ("lease", int(job_id), int(number)):
                ledger.lease_over(world, job_id, number)
            case ("replay", int(job_id)):
                world.touch(world.jobs[job_id])
            case ("drop", int(job_id), str(command_id)):
                barriers.overdue(world, world.jobs[job_id], command_id)

    def _job_timer(self, job: LiveJob) -> None:
        match job.record.state:
            case JobState.RESERVING | JobState.PREPARING:
                gang.overdue(self._world, job)
            case JobState.RUNNING:
                stopping.time_out(self._world, job)
            case JobState.STOPPING:
                stopping.overdue(self._world, job)

    # ---- what follows --------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Lets every job that was touched go on, and places what can be placed, until all is still."""
        world = self._world
        while world.touched or world.plan_all or world.plan_new:
            while world.touched:
                job_id = next(iter(world.touched))
                del world.touched[job_id]
                job = world.jobs.get(job_id)
                if job is not None:
                    self._advance(job)
            scheduler.run(world)

    def _advance(self, job: LiveJob) -> None:
        world = self._world
        match job.record.state:
            case JobState.RESERVING | JobState.PREPARING:
                gang.advance(world, job)
            case JobState.RUNNING:
                replaying.advance(world, job)
                end = verdict([task.record for task in job.tasks.values()])
                if end is not None:
                    stopping.stop(world, job, end.state, end.reason, end.detail, end.result)
            case JobState.STOPPING:
                stopping.advance(world, job)
