"""What the machine wants done: the one vocabulary that comes out of `Machine.handle`.

`Step.saves` are committed first. An effect goes out only when every save so far is durable, except where
`before_commit` is True: a Reserve may overtake its commit, since a reservation that nobody remembers lapses
by itself; and so may the reply to a fault that holds, since its intent is durable already: a manager that
crashes in between sends the command again under its old id and is told the same. One that held already has no
intent of its own; what made it hold has one, or is an event that is told again until it is acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import CoreError
from .frozen import frozen
from .model import (
    UNDEGRADED,
    ClockBound,
    Degradation,
    JobState,
    Limits,
    Member,
    NodeState,
    Role,
    Source,
    Stamp,
    TaskRef,
    TaskState,
)
from .records import FaultRecord, Record, TokenRecord

# ---- commands to a volunteer ----------------------------------------------------------------------------


@frozen
class Reserve:
    """Lock the slot; the lock lapses after `ttl_s` seconds without a Prepare."""

    ttl_s: float


@frozen
class Prepare:
    """Fetch, unpack, mount, connect. `sync_server` is the job's (`HOST:PORT`); `serve_sync`: on this slot."""

    source: Source
    role: Role
    members: tuple[Member, ...]
    limits: Limits
    job_name: str
    lose_unsynced: bool = False
    sync_server: str = ""
    serve_sync: bool = False


@frozen
class Start:
    """Exec make."""


@frozen
class Kill:
    """End every process of the task."""


@frozen
class Revive:
    """Start the generation of the command's task."""

    with_disk: bool


@frozen
class LinkState:
    """What packets suffer that a slot sends to `peer` and hears from it; "" for all members together."""

    peer: str
    sent: Degradation = UNDEGRADED
    heard: Degradation = UNDEGRADED


@frozen
class SetNetwork:
    """All that the slot's network suffers: addresses, each tuple in ascending order of its texts.

    With those in `cut` nothing is exchanged, to those in `cut_out` nothing is sent, from those in `cut_in`
    nothing is heard, all in silence; with those in `reset` nothing is exchanged, and TCP is told. No address
    is in two of the first three, nor in `cut` and `reset`.
    """

    cut: tuple[str, ...] = ()
    cut_out: tuple[str, ...] = ()
    cut_in: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    links: tuple[LinkState, ...] = ()


@frozen
class SetTask:
    """All that a task suffers beside its network."""

    paused: bool = False
    disk_full: bool = False


@frozen
class Signal:
    """Send a signal to the task's processes."""

    number: int


@frozen
class DropBarriers:
    """Have the slot's sync server drop a barrier, or all ("")."""

    barrier: str


@frozen
class Release:
    """Leave nothing of the task and unlock the slot; with `keep_disk` its disk is handed over first."""

    keep_disk: bool = False


Action = Reserve | Prepare | Start | Kill | Revive | SetNetwork | SetTask | Signal | DropBarriers | Release


@frozen
class Command:
    """One command; sent again under the same id until it is answered."""

    command_id: str
    epoch: int
    ref: TaskRef
    slot: int
    action: Action


# ---- answers to callers ---------------------------------------------------------------------------------


@frozen
class SubmitReply:
    """It is queued."""

    job_id: int


@frozen
class CancelReply:
    """Its state now."""

    state: JobState


@frozen
class DrainReply:
    """Its state now."""

    state: NodeState


@frozen
class FaultReply:
    """It holds; `fault_id` 0 and `already` True where nothing had to be done.

    `applied_at` is the volunteer's stamp; None where it gave none, and where it held before the call came.
    `healed` are the lines that it took back. It was `taken_back` itself where the call failed elsewhere.
    """

    fault_id: int
    already: bool
    applied_at: Stamp | None
    clock: ClockBound | None
    processes: int = 0
    generation: int = 0
    healed: tuple[int, ...] = ()
    taken_back: bool = False


@frozen
class FaultsReply:
    """It holds at each of several members; in the order in which they were named.

    `addresses` are theirs; `groups` are addresses, of a partition.
    """

    members: tuple[FaultReply, ...]
    addresses: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()


@frozen
class FinishReply:
    """It is written down."""

    finished_at: Stamp
    clients_left: int


@frozen
class MemberView:
    """A member and its state."""

    member: Member
    state: TaskState
    generation: int
    disconnected: bool
    paused: bool = False
    faults: tuple[int, ...] = ()


@frozen
class MembersReply:
    """master, slaves, clients, in this order."""

    members: tuple[MemberView, ...]


@frozen
class ClientView:
    """A client: its latest generation, and whether nothing more will come of that."""

    task: str
    generation: int
    over: bool


@frozen
class ClientsReply:
    """The clients of a job, in their order."""

    clients: tuple[ClientView, ...]


@frozen
class LinesReply:
    """Lines of the ledger, in the order of their ids, and whether there are more."""

    lines: tuple[FaultRecord, ...]
    more: bool


@frozen
class PutUsersReply:
    """They are so."""

    added: int
    changed: int


@frozen
class PutTeamReply:
    """It is so."""

    added: bool


@frozen
class TokenReply:
    """The token as it is now; `again` where the request was answered before."""

    token: TokenRecord
    again: bool = False


@frozen
class DropReply:
    """The sync server has dropped so many barriers; None where its volunteer cannot say."""

    dropped: int | None = None


@frozen
class PublishReply:
    """It is so."""

    published: bool


Answer = (
    SubmitReply
    | CancelReply
    | DrainReply
    | FaultReply
    | FaultsReply
    | FinishReply
    | MembersReply
    | ClientsReply
    | LinesReply
    | PutUsersReply
    | PutTeamReply
    | TokenReply
    | PublishReply
    | DropReply
)


# ---- effects --------------------------------------------------------------------------------------------


@frozen
class Send:
    """Push a command to a volunteer's stream."""

    session: str
    command: Command
    before_commit: bool = False
    together: bool = False  # others of this moment should take effect at the same time: worth a millisecond


@frozen
class SendWelcome:
    """Accept a volunteer."""

    session: str
    prefix: str
    warm: tuple[Source, ...]


@frozen
class SendDrain:
    """Tell a volunteer to take no new reservation, or to take them again."""

    session: str
    draining: bool


@frozen
class AckEvent:
    """An event is written down."""

    session: str
    event_id: int


@frozen
class Close:
    """End a stream, with its reason."""

    session: str
    error: CoreError


@frozen
class Reply:
    """Answer an RPC."""

    call: int
    value: Answer | CoreError
    before_commit: bool = False


@frozen
class Changed:
    """Something of a job changed: wake those who watch it."""

    job_id: int


@frozen
class AccessChanged:
    """Users or tokens changed: streams that would not be let in any more end."""


Effect = Send | SendWelcome | SendDrain | AckEvent | Close | Reply | Changed | AccessChanged


@dataclass(slots=True)
class Step:
    """What one event came to: records to save, in order, then effects, in order."""

    saves: list[Record] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
