"""What can happen to the manager: the one vocabulary that goes into `Machine.handle`.

`call` names the RPC that waits for a `Reply`; the edges make it up and keep it. `session` names one stream of
one volunteer. Every stamp in an event is of the machine that made it; the manager's own `now` is an argument
of `handle`.
"""

from __future__ import annotations

from .access import Origin
from .frozen import frozen
from .model import (
    NO_LIMITS,
    AnswerCode,
    BarrierNews,
    Degradation,
    Hello,
    Limits,
    Resources,
    Result,
    Source,
    Stamp,
    TaskExit,
    TaskRef,
)
from .user_events import UserEvent
from .views import JobView


@frozen
class SubmitJob:
    """A user submits. Reply: SubmitReply.

    Errors: BadRequest, Refused(TOO_LARGE, NO_SLOTS, JOB_NOT_ENDED, NOTHING_TO_REPLAY),
    Exhausted(QUEUE_FULL, QUOTA_…).

    `source` and `client` are known blobs (the edge has looked them up). `clients` None means: not said; so
    does 0 in `time_limit_s` and in each of `limits`, and an empty `sync_server`.

    `replays` is the job whose faults are to come again,
    whole; that the caller may, the edge has found. What is not said is as there, 0 in `machines` included.
    """

    call: int
    request_id: str
    owner: str
    name: str
    source: Source
    machines: int
    client: Source | None = None
    clients: int | None = None
    no_client: bool = False
    time_limit_s: float = 0.0
    limits: Limits = NO_LIMITS
    keep_disks: bool = False
    sync_server: str = ""
    origin: Origin | None = None
    replays: JobView | None = None
    lose_unsynced: bool = False


@frozen
class CancelJob:
    """A user cancels. Reply: CancelReply. Errors: NotFound."""

    call: int
    request_id: str
    job_id: int
    by: str
    origin: Origin | None = None


@frozen
class DropBarriers:
    """Have a job's sync server drop a barrier, or all (""). Reply: DropReply, once it was asked for it.

    Errors: NotFound, Refused (JOB_NOT_RUNNING, NO_SYNC_SERVER), Away (VOLUNTEER_AWAY), TooLate
    (DROP_UNANSWERED), Ended (ATTEMPT_ENDED), FaultFailed (DROP_FAILED), Exhausted (TOO_MANY_DROPS),
    BadRequest.
    """

    call: int
    request_id: str
    job_id: int
    barrier: str
    origin: Origin | None = None


@frozen
class DrainNode:
    """Take a volunteer out of use, or back. Reply: DrainReply. Errors: NotFound."""

    call: int
    request_id: str
    volunteer_id: str
    draining: bool
    origin: Origin | None = None


@frozen
class VolunteerAttached:
    """A stream's Hello came. Effects: Welcome, or Close with a Conflict/Refused."""

    session: str
    hello: Hello


@frozen
class VolunteerDetached:
    """A stream ended. The volunteer is lost only when `lost_after_s` have passed without another."""

    session: str


@frozen
class HeartbeatReceived:
    """A volunteer lives. The edge has acknowledged it already, with its own stamps.

    `exchange` holds the four stamps of the last complete exchange, for the clock bound: sent by the
    volunteer, received by the manager, ack sent by the manager, ack received by the volunteer; None before
    the first. `worn`: the machine is booted again before it takes another job.
    """

    session: str
    free: Resources
    exchange: tuple[Stamp, Stamp, Stamp, Stamp] | None = None
    worn: bool = False


@frozen
class AnswerReceived:
    """A volunteer answers a command."""

    session: str
    command_id: str
    code: AnswerCode
    detail: str = ""
    address: str = ""
    processes: int = 0
    applied_at: Stamp | None = None
    duration_ns: int = 0
    dropped: int | None = None


@frozen
class TaskExited:
    """A generation ended by itself or by the keeper. Repeated until acknowledged (AckEvent)."""

    session: str
    event_id: int
    ref: TaskRef
    at: Stamp
    exit: TaskExit


@frozen
class BarriersTold:
    """Something happened at the barriers that a task's slot serves. Repeated until acknowledged."""

    session: str
    event_id: int
    ref: TaskRef
    at: Stamp
    news: BarrierNews


@frozen
class ChaosCaller:
    """The client task that calls, as its volunteer attests; the core checks that the volunteer holds it."""

    volunteer_id: str
    ref: TaskRef


@frozen
class UserCaller:
    """A user who may do this to the job, as the edge has found; `origin` for the audit log."""

    job_id: int
    name: str
    origin: Origin


WhoCalls = ChaosCaller | UserCaller


@frozen
class OnMembers:
    """A call of ChaosControl about members, named by their addresses.

    Reply, here and below: FaultReply, or FaultsReply where several are named.
    """

    call: int
    request_id: str
    caller: WhoCalls
    ips: tuple[str, ...]


@frozen
class Lasting(OnMembers):
    """One whose effect lasts; `lease_s` is None for no end, here and below."""

    lease_s: float | None = None


@frozen
class KillRequested(OnMembers):
    """ChaosControl.Kill."""


@frozen
class ReviveRequested(OnMembers):
    """ChaosControl.Revive."""

    with_disk: bool


@frozen
class DisconnectRequested(Lasting):
    """ChaosControl.Disconnect."""


@frozen
class ReconnectRequested(OnMembers):
    """ChaosControl.Reconnect."""


@frozen
class ResetRequested(Lasting):
    """ChaosControl.Reset."""


@frozen
class PartitionRequested:
    """ChaosControl.Partition, by groups or by a shape's number (0 for none). Reply: FaultsReply."""

    call: int
    request_id: str
    caller: WhoCalls
    groups: tuple[tuple[str, ...], ...] = ()
    shape: int = 0
    ip: str = ""
    one_way: bool = False
    seed: int = 0
    lease_s: float | None = None


@frozen
class DegradeRequested(OnMembers):
    """ChaosControl.Degrade."""

    degradation: Degradation
    peers: tuple[str, ...] = ()
    one_way: bool = False
    lease_s: float | None = None


@frozen
class PauseRequested(Lasting):
    """ChaosControl.Pause."""


@frozen
class ResumeRequested(OnMembers):
    """ChaosControl.Resume."""


@frozen
class DiskFullRequested(Lasting):
    """ChaosControl.DiskFull."""


@frozen
class SignalRequested(OnMembers):
    """ChaosControl.Signal."""

    signal: int


@frozen
class HealRequested:
    """ChaosControl.Heal: everything, or what the calls of these lines did. Reply: FaultsReply."""

    call: int
    request_id: str
    caller: WhoCalls
    fault_ids: tuple[int, ...] = ()


@frozen
class LinesRequested:
    """ChaosControl.ListFaults: at most `most` lines, 1 or more, above the line `after`. Reply: LinesReply."""

    call: int
    caller: WhoCalls
    in_force: bool
    after: int
    most: int


@frozen
class FinishRequested:
    """ChaosControl.Finish. Reply: FinishReply."""

    call: int
    request_id: str
    caller: ChaosCaller
    result: Result


@frozen
class MembersRequested:
    """ChaosControl.ListMembers. Reply: MembersReply."""

    call: int
    caller: WhoCalls


@frozen
class ClientsRequested:
    """What calls about histories ask: who the clients of the caller's job are. Reply: ClientsReply.

    With `acts` the caller must be one that may still act. Without `everybody` only that is asked: the answer
    names nobody, and costs the same however many there are.
    """

    call: int
    caller: ChaosCaller
    acts: bool
    everybody: bool = True


@frozen
class CallGone:
    """The caller of an RPC went away or its deadline passed: no Reply is wanted any more."""

    call: int


@frozen
class Tick:
    """Time has come to `Machine.next_wake`, or passes."""


ChaosRequest = (
    KillRequested
    | ReviveRequested
    | DisconnectRequested
    | ReconnectRequested
    | ResetRequested
    | PartitionRequested
    | DegradeRequested
    | PauseRequested
    | ResumeRequested
    | DiskFullRequested
    | SignalRequested
    | HealRequested
)
Event = (
    SubmitJob
    | UserEvent
    | CancelJob
    | DrainNode
    | DropBarriers
    | VolunteerAttached
    | VolunteerDetached
    | HeartbeatReceived
    | AnswerReceived
    | TaskExited
    | BarriersTold
    | ChaosRequest
    | FinishRequested
    | MembersRequested
    | LinesRequested
    | ClientsRequested
    | CallGone
    | Tick
)
