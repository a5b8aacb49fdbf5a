"""The manager as one value that takes events and makes steps: records to save, then effects to perform.

    machine = Machine(config)
    step = machine.handle(event, now)      # the only mutator
    ...save step.saves, then perform step.effects...
    machine.next_wake()                    # when it wants a Tick

Everything else reads. The same events at the same times give the same steps: the core has no clock and no
chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from . import (
    admission,
    asked,
    clients,
    commands,
    faults,
    figures,
    gang,
    ledger,
    nodes,
    recovery,
    replaying,
    scheduler,
    show,
    stopping,
    story,
    users,
    validate,
)
from . import (
    quota as quotas,
)
from .effects import (
    AckEvent,
    Answer,
    CancelReply,
    DrainReply,
    Prepare,
    PublishReply,
    Release,
    Reserve,
    Start,
    Step,
    SubmitReply,
)
from .errors import BadRequest, CoreError, NotFound
from .events import (
    AnswerReceived,
    CallGone,
    CancelJob,
    ChaosRequest,
    ClientsRequested,
    DrainNode,
    Event,
    FinishRequested,
    HeartbeatReceived,
    LinesRequested,
    MembersRequested,
    SubmitJob,
    TaskExited,
    Tick,
    VolunteerAttached,
    VolunteerDetached,
)
from .figures import Figures
from .lives import exited
from .model import ClockBound, Config, JobState, Stamp, TaskRef
from .records import JobRecord, Record, TeamRecord, TokenRecord, UserRecord
from .state import LiveJob
from .timers import TimerKey
from .transitions import FINAL_TASK_STATES
from .user_events import (
    Audited,
    CreateToken,
    FirstToken,
    PublishJob,
    PutTeam,
    PutUsers,
    RevokeToken,
    TokensUsed,
    UserCall,
    WriteAudit,
)
from .verdict import verdict
from .views import ClusterView, JobView, NodeView
from .world import REMEMBERED_ANSWERS, World

_Call = (
    SubmitJob
    | CancelJob
    | DrainNode
    | FinishRequested
    | MembersRequested
    | LinesRequested
    | ClientsRequested
    | UserCall
)


# Of what a volunteer says of a failure, for people.
LONGEST_DETAIL = 1000


class Machine:
    """The manager's core. Not for several threads at once."""

    def __init__(self, config: Config) -> None:
        self._world = World(config)
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
        world.now = now
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

    # ---- for readers ---------------------------------------------------------------------------------------

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

    def story(self, job_id: int) -> str:
        """The job's history as text, for a crash message or a failing test."""
        job = self._world.jobs.get(job_id)
        return f"job {job_id}: not in memory" if job is None or not job.whole else story.retell(job)

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
            case TaskExited():
                self._exited(event)
            case SubmitJob() | CancelJob() | DrainNode():
                self._answer_call(event)
            case FinishRequested() | MembersRequested() | LinesRequested() | ClientsRequested():
                self._answer_call(event)
            case PutUsers() | PutTeam() | CreateToken() | RevokeToken() | PublishJob():
                self._answer_call(event)
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
                self._fault(event)

    def _answer_call(self, event: _Call) -> None:
        try:
            self._world.reply(event.call, self._call(event))
        except CoreError as error:
            self._world.reply(event.call, error)

    def _call(self, event: _Call) -> Answer:
        world = self._world
        match event:
            case SubmitJob():
                return SubmitReply(admission.submitted(world, event))
            case CancelJob():
                return self._once(event.request_id, ("cancel", event.job_id), lambda: self._cancel(event))
            case DrainNode():
                question = "drain", event.volunteer_id, event.draining
                return self._once(event.request_id, question, lambda: self._drain(event))
            case FinishRequested():
                return clients.finish(world, event)
            case MembersRequested():
                return clients.members(world, event)
            case LinesRequested():
                return clients.lines(world, event)
            case ClientsRequested():
                return clients.clients(world, event)
            case _:
                return self._user_call(event)

    def _user_call(self, event: UserCall) -> Answer:
        world, origin = self._world, event.origin
        asked = origin.caller.name

        def audit(subject: str) -> None:
            world.audit(origin, type(event).__name__, subject)

        match event:
            case PutUsers():
                question: tuple[object, ...] = asked, event.users, event.only_new
                return self._once(event.request_id, question, lambda: self._put_users(event))
            case PutTeam():
                question = asked, event.name, event.quota
                return self._once(event.request_id, question, lambda: self._put_team(event))
            case CreateToken():
                return users.create_token(world, event, audit)
            case RevokeToken():
                return users.revoke_token(world, event, audit)
            case PublishJob():
                question = "publish", event.job_id, event.published
                return self._once(event.request_id, question, lambda: self._publish(event))

    def _put_users(self, event: PutUsers) -> Answer:
        reply = users.put_users(self._world, event)
        names = ", ".join(user.name for user in event.users[:5])
        more = f" and {len(event.users) - 5:,} more" if len(event.users) > 5 else ""
        what = "user" if len(event.users) == 1 else "users"
        self._world.audit(event.origin, "PutUsers", f"{what} {names}{more}")
        return reply

    def _put_team(self, event: PutTeam) -> Answer:
        reply = users.put_team(self._world, event)
        self._world.audit(event.origin, "PutTeam", f"team {event.name}")
        return reply

    def _publish(self, event: PublishJob) -> PublishReply:
        world = self._world
        job = world.jobs.get(event.job_id)
        if event.stored is not None:
            world.save_stored(replace(event.stored, published=event.published))
            if job is not None:
                job.record = replace(job.record, published=event.published)
        elif job is not None:
            world.save_job(job, replace(job.record, published=event.published))
        else:
            raise NotFound("NO_SUCH_JOB", f"there is no job {event.job_id}")
        world.audit(event.origin, "PublishJob", f"job {event.job_id}", event.job_id)
        return PublishReply(event.published)

    def _drain(self, event: DrainNode) -> DrainReply:
        reply = DrainReply(nodes.drain(self._world, event))
        self._world.audit(event.origin, "DrainNode", f"node {event.volunteer_id}")
        return reply

    def _once(self, request_id: str, question: tuple[object, ...], answer: Callable[[], Answer]) -> Answer:
        """The first answer again where the request is repeated: it may have been taken back meanwhile."""
        answers = self._world.answers
        first = answers.get(request_id)
        if first is None:
            first = question, answer()
            if request_id:
                answers[request_id] = first
            if len(answers) > REMEMBERED_ANSWERS:
                del answers[next(iter(answers))]
        elif first[0] != question:
            raise BadRequest("BAD_FIELD", "request_id was used for another call", field="request_id")
        return first[1]

    def _cancel(self, event: CancelJob) -> CancelReply:
        job = self._job(event.job_id)
        stopping.cancel(self._world, job, event.by)
        self._world.audit(event.origin, "CancelJob", f"job {event.job_id}", event.job_id)
        return CancelReply(job.record.state)

    def _fault(self, event: ChaosRequest) -> None:
        try:
            if not replaying.requested(self._world, event):
                faults.requested(self._world, event)
        except CoreError as error:
            self._world.reply(event.call, error)

    def _job(self, job_id: int) -> LiveJob:
        job = self._world.jobs.get(job_id)
        if job is None:
            raise NotFound("NO_SUCH_JOB", f"there is no job {job_id}")
        return job

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
            case _:
                faults.answered(world, node, pending, code, detail, event.processes, at, event.duration_ns)

    def _exited(self, event: TaskExited) -> None:
        """An end is acknowledged whether it still means something or not, else it would be told for ever."""
        world = self._world
        node = world.node_of_session(event.session)
        if node is None:
            return
        world.emit(AckEvent(event.session, event.event_id))
        found = world.find(event.ref)
        if found is not None and found[1].record.volunteer_id == node.record.volunteer_id:
            exited(world, *found, event.ref.generation, event.exit, event.at)

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
