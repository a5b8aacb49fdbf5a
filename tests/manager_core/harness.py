"""A manager's core with volunteers around it that do what they are told, on a clock that the test moves.

`Cluster` carries commands and answers between them and the machine, keeps what was saved as a store would,
and validates the machine after every event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from manager_core.volunteer import SECOND, UTC_NS, Held, Volunteer
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.machine import Machine
from syndicate.manager.core.model import (
    BarrierNews,
    Config,
    JobState,
    Outcome,
    Reason,
    Resources,
    Result,
    Role,
    Source,
    Stamp,
    TaskExit,
    TaskRef,
    TaskState,
)
from syndicate.manager.core.records import (
    AuditRecord,
    EpochRecord,
    FaultRecord,
    JobRecord,
    NodeRecord,
    PlanRecord,
    Record,
    RunRecord,
    StoryRecord,
    TaskRecord,
    TeamRecord,
    TokenRecord,
    UserRecord,
)
from syndicate.manager.core.show import picture
from syndicate.manager.core.views import JobView

START_NS = 1_000 * SECOND
SOURCE = Source("a" * 64, 1000)
CLIENT = Source("c" * 64, 500)
CLUSTER_ID = "test"


def config(**changes: Any) -> Config:
    """A configuration with short names; the durations are the defaults."""
    return Config(**{"cluster_id": CLUSTER_ID, "epoch": 1, "boot_id": "manager-boot", **changes})


def key_of(record: Record) -> tuple[object, ...]:
    """The key under which a store keeps a record."""
    match record:
        case JobRecord():
            return "job", record.job_id
        case TaskRecord():
            return "task", record.job_id, record.attempt, record.task
        case RunRecord():
            return "run", record.job_id, record.attempt, record.task, record.generation
        case FaultRecord():
            return "fault", record.job_id, record.fault_id
        case PlanRecord():
            return "plan", record.job_id, record.number
        case StoryRecord():
            return "story", record.job_id, record.sequence
        case NodeRecord():
            return "node", record.volunteer_id
        case EpochRecord():
            return ("epoch",)
        case UserRecord() | TeamRecord():
            return type(record).__name__, record.name
        case TokenRecord():
            return "token", record.token_id
        case AuditRecord():
            return "audit", record.line


class Cluster:
    """One manager and its volunteers."""

    def __init__(self, **changes: Any) -> None:
        self.config = config(**changes)
        self.machine = Machine(self.config)
        self.ns = START_NS
        self.store: dict[tuple[object, ...], Record] = {}
        self.volunteers: dict[str, Volunteer] = {}
        self.replies: dict[int, Any] = {}
        self.closed: dict[str, Any] = {}
        self.acked: list[tuple[str, int]] = []
        self.inbox: list[tuple[str, fx.Command]] = []
        self.steps: list[fx.Step] = []
        self._calls = 0
        self._sessions = 0
        self._events = 0

    # ---- events ----------------------------------------------------------------------------------------

    @property
    def now(self) -> Stamp:
        """The manager's clock."""
        return Stamp(self.config.boot_id, self.ns, UTC_NS + self.ns)

    def do(self, event: ev.Event) -> fx.Step:
        """One event; what it saves is saved, what it sends lies in the inbox."""
        step = self.machine.handle(event, self.now)
        self.machine.validate()
        self.steps.append(step)
        for record in step.saves:
            self.store[key_of(record)] = record
        for effect in step.effects:
            match effect:
                case fx.Send():
                    self.inbox.append((effect.session, effect.command))
                case fx.Reply():
                    assert effect.call not in self.replies, "a call was answered twice"
                    self.replies[effect.call] = effect.value
                case fx.Close():
                    self.closed[effect.session] = effect.error
                    for volunteer in self.volunteers.values():
                        if volunteer.session == effect.session:
                            volunteer.session = ""
                case fx.AckEvent():
                    self.acked.append((effect.session, effect.event_id))
                case _:
                    pass
        return step

    def call(self, make: Callable[[int], ev.Event]) -> int:
        """An event that wants a reply; returns the number of the call."""
        self._calls += 1
        self.do(make(self._calls))
        return self._calls

    def ask(self, make: Callable[[int], ev.Event]) -> Any:
        """An event that is answered at once."""
        return self.replies[self.call(make)]

    def submit(self, machines: int = 2, clients: int | None = None, **fields: Any) -> int:
        """Submits a job that must be accepted; returns its id."""
        reply = self.try_submit(machines, clients, **fields)
        assert isinstance(reply, fx.SubmitReply), repr(reply)
        return reply.job_id

    def try_submit(self, machines: int = 2, clients: int | None = None, **fields: Any) -> Any:
        """Submits a job; returns the reply, whatever it is."""
        fields = {
            "request_id": f"submit-{self._calls}",
            "owner": "alice",
            "name": "job",
            "source": SOURCE,
            **fields,
        }
        if clients is not None:
            fields = {"clients": clients, **({"client": CLIENT} if clients else {}), **fields}
        return self.ask(lambda call: ev.SubmitJob(call=call, machines=machines, **fields))

    # ---- volunteers ------------------------------------------------------------------------------------

    def volunteer(self, name: str = "node-a", slots: int = 4, **fields: Any) -> Volunteer:
        """One more volunteer, attached."""
        volunteer = Volunteer(name, slots, **{"boot_id": f"boot-{name}", **fields})
        volunteer.net = len(self.volunteers)
        self.volunteers[name] = volunteer
        self.attach(volunteer)
        return volunteer

    def attach(self, volunteer: Volunteer) -> str:
        """The volunteer opens a stream; returns the stream's name."""
        self._sessions += 1
        session = f"session-{self._sessions}"
        volunteer.session, volunteer.renewed_ns = session, self.ns
        self.do(ev.VolunteerAttached(session, volunteer.hello()))
        return session

    def detach(self, volunteer: Volunteer) -> None:
        """The volunteer's stream ends; what was under way to it is lost."""
        session, volunteer.session = volunteer.session, ""
        self.inbox = [(to, command) for to, command in self.inbox if to != session]
        self.do(ev.VolunteerDetached(session))

    def heartbeat(self, volunteer: Volunteer, delay_ns: int = 1_000_000) -> None:
        """The volunteer lives; `delay_ns` is what a message takes each way."""
        ns = volunteer.renewed_ns = self.ns
        exchange = (
            volunteer.stamp(ns - delay_ns),
            self.now,
            self.now,
            volunteer.stamp(ns + delay_ns),
        )
        self.do(ev.HeartbeatReceived(volunteer.session, Resources(), exchange))

    def deliver_one(self) -> None:
        """Takes the oldest command to its volunteer, and its answer back."""
        session, command = self.inbox.pop(0)
        volunteer = next((v for v in self.volunteers.values() if v.session == session), None)
        if volunteer is None:
            return
        volunteer.received.append(command)
        answer = volunteer.carry_out(command, self.ns)
        if type(command.action).__name__ not in volunteer.mute:
            self.do(ev.AnswerReceived(session, command.command_id, **answer))

    def deliver(self) -> None:
        """Takes commands and answers back and forth until there are none."""
        while self.inbox:
            self.deliver_one()

    def exit(self, task: str, reason: Reason = Reason.EXITED_ZERO, *, job_id: int = 1, **fields: Any) -> None:
        """The task's latest generation ends, and its volunteer says so."""
        volunteer, held = self.holder(task, job_id)
        status = {Reason.EXITED_ZERO: 0, Reason.EXITED_NONZERO: 2}.get(reason, 0)
        held.exit = TaskExit(reason, **{"exit_status": status, **fields})
        held.state = TaskState.EXITED
        self.tell_exit(volunteer, held.ref, held.exit)
        self.deliver()

    def tell_exit(self, volunteer: Volunteer, ref: TaskRef, end: TaskExit) -> None:
        """A volunteer tells an end."""
        self._events += 1
        at = volunteer.stamp(self.ns)
        self.do(ev.TaskExited(volunteer.session, self._events, ref, at, end))

    def tell_barriers(self, task: str, news: BarrierNews, *, job_id: int = 1, event_id: int = 0) -> int:
        """The volunteer that holds a task tells of its barriers; the event's id."""
        volunteer, held = self.holder(task, job_id)
        self._events += 1
        number = event_id or self._events
        at = volunteer.stamp(self.ns)
        self.do(ev.BarriersTold(volunteer.session, number, held.ref, at, news))
        return number

    def holder(self, task: str, job_id: int = 1) -> tuple[Volunteer, Held]:
        """The volunteer that holds a task, and what it holds."""
        for volunteer in self.volunteers.values():
            for held in volunteer.held.values():
                if (held.ref.job_id, held.ref.task) == (job_id, task):
                    return volunteer, held
        raise AssertionError(f"nobody holds {task} of job {job_id}")

    # ---- time ------------------------------------------------------------------------------------------

    def advance(self, seconds: float, *, heartbeats: bool = True, deliver: bool = True) -> None:
        """Lets time pass: Ticks when the machine wants them, and heartbeats of those attached."""
        end = self.ns + int(seconds * SECOND)
        beat = int(self.config.heartbeat_interval_s * SECOND)
        next_beat = self.ns + beat
        while True:
            wake = self.machine.next_wake()
            due = min(end, next_beat, end if wake is None else max(wake, self.ns))
            self.ns = due
            for volunteer in self.volunteers.values():
                volunteer.expire(due)
            if due == next_beat:
                next_beat += beat
                for volunteer in self.volunteers.values() if heartbeats else ():
                    if volunteer.session:
                        self.heartbeat(volunteer)
            if wake is not None and due >= wake:
                self.do(ev.Tick())
            if deliver:
                self.deliver()
            wake = self.machine.next_wake()
            if due >= end and (wake is None or wake > self.ns):
                return

    def restart(self, **changes: Any) -> None:
        """The manager dies and starts again from what was saved; every stream ends."""
        values = {name: getattr(self.config, name) for name in self.config.__dataclass_fields__}
        self.config = Config(**{**values, "epoch": self.config.epoch + 1, **changes})
        self.inbox.clear()
        for volunteer in self.volunteers.values():
            volunteer.session = ""
        self.machine = Machine.restore(self.config, list(self.store.values()), self.now)
        self.machine.validate()

    # ---- looking ---------------------------------------------------------------------------------------

    def job(self, job_id: int = 1) -> JobView:
        """The job; one that ended long ago as the store shows it."""
        view = self.machine.job(job_id)
        if view is not None:
            return view
        rows = [row for row in self.store.values() if getattr(row, "job_id", 0) == job_id]

        def of(kind: type) -> list[Any]:
            return [row for row in rows if isinstance(row, kind)]

        [record] = of(JobRecord)
        return picture(record, of(TaskRecord), of(RunRecord), of(FaultRecord), of(StoryRecord))

    def waits_for(self, job_id: int) -> str:
        """What a waiting job waits for, as who sees all jobs is told it."""
        return self.job(job_id).waits_for.told(lambda _: True)

    def jobs(self) -> list[JobView]:
        """All jobs, newest first."""
        ids = {row.job_id for row in self.store.values() if isinstance(row, JobRecord)}
        return [self.job(job_id) for job_id in sorted(ids, reverse=True)]

    def state(self, job_id: int = 1) -> JobState:
        """The job's state."""
        return self.job(job_id).job.state

    def task(self, name: str, job_id: int = 1) -> TaskRecord:
        """The task's row."""
        return next(task for task in self.job(job_id).tasks if task.task == name)

    def is_cut(self, name: str) -> bool:
        """Whether a client of job 1 is told that the task is cut off."""
        members = self.ask(lambda n: ev.MembersRequested(n, self.caller())).members
        return next(view.disconnected for view in members if view.member.task == name)

    def address(self, name: str, job_id: int = 1) -> str:
        """The task's address."""
        return self.task(name, job_id).address

    def events(self, job_id: int = 1) -> list[str]:
        """The words of the job's story."""
        return [line.event for line in self.job(job_id).story]

    def sent(self, kind: type, step: fx.Step | None = None) -> list[fx.Command]:
        """Commands of a kind, of one step or of all."""
        steps = self.steps if step is None else [step]
        return [
            effect.command
            for one in steps
            for effect in one.effects
            if isinstance(effect, fx.Send) and isinstance(effect.command.action, kind)
        ]

    # ---- a client --------------------------------------------------------------------------------------

    def caller(self, task: str = "client-0", job_id: int = 1) -> ev.ChaosCaller:
        """A client as its volunteer attests it."""
        record = self.task(task, job_id)
        ref = TaskRef(self.config.cluster_id, job_id, record.attempt, task, max(record.generation, 1))
        return ev.ChaosCaller(record.volunteer_id, ref)

    def fault(self, kind: str, ip: str | Sequence[str], request_id: str = "", **fields: Any) -> int:
        """A client asks for a fault (`kill`, `revive`, …) at an address or at several; returns the call."""
        make: Any = {
            "kill": ev.KillRequested,
            "revive": ev.ReviveRequested,
            "disconnect": ev.DisconnectRequested,
            "reconnect": ev.ReconnectRequested,
            "reset": ev.ResetRequested,
            "degrade": ev.DegradeRequested,
            "pause": ev.PauseRequested,
            "resume": ev.ResumeRequested,
            "disk_full": ev.DiskFullRequested,
            "signal": ev.SignalRequested,
        }[kind]
        if kind == "revive":
            fields = {"with_disk": True, **fields}
        caller = fields.pop("caller", None) or self.caller()
        request_id = request_id or f"fault-{self._calls}"
        ips = (ip,) if isinstance(ip, str) else tuple(ip)
        return self.call(lambda n: make(call=n, request_id=request_id, caller=caller, ips=ips, **fields))

    def partition(self, *groups: Sequence[str], request_id: str = "", **fields: Any) -> int:
        """A client asks for a partition of members by name, or by other fields; returns the call."""
        caller = fields.pop("caller", None) or self.caller()
        ips = tuple(tuple(self.address(name) for name in group) for group in groups)
        request_id = request_id or f"fault-{self._calls}"
        return self.call(lambda n: ev.PartitionRequested(n, request_id, caller, ips, **fields))

    def heal(self, *fault_ids: int, request_id: str = "", caller: ev.WhoCalls | None = None) -> int:
        """A client asks to heal everything, or these; returns the call."""
        who = caller or self.caller()
        request_id = request_id or f"fault-{self._calls}"
        return self.call(lambda n: ev.HealRequested(n, request_id, who, fault_ids))

    def finish(self, task: str = "client-0", result: Result | None = None, request_id: str = "done") -> Any:
        """A client calls Finish; returns the reply."""
        caller = self.caller(task)
        result = result or Result(Outcome.PASS)
        return self.ask(lambda n: ev.FinishRequested(n, request_id, caller, result))


def running(machines: int = 2, clients: int = 0, slots: int = 6, **changes: Any) -> Cluster:
    """A cluster of one volunteer on which job 1 runs."""
    cluster = Cluster(**changes)
    cluster.volunteer("node-a", slots)
    cluster.submit(machines, clients)
    cluster.deliver()
    assert cluster.state() is JobState.RUNNING, cluster.machine.story(1)
    return cluster


__all__ = ["CLIENT", "SOURCE", "Cluster", "Held", "Role", "Volunteer", "config", "key_of", "running"]
