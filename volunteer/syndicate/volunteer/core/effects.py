"""What the volunteer wants done, in order: the one vocabulary that comes out of `Volunteer.handle`."""

from __future__ import annotations

from dataclasses import dataclass

from .. import local
from .model import Answer, Heartbeat, Hello, Memory, Source, TaskEvent, TaskId, TaskRef

# ---- to the managers; nothing comes of it where the stream is down --------------------------------------


@dataclass(frozen=True, slots=True)
class SendHello:
    """First message of a stream."""

    link: str
    hello: Hello


@dataclass(frozen=True, slots=True)
class SendHeartbeat:
    """A sign of life; the edge adds what is free."""

    link: str
    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """The answer to a command."""

    link: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class SendTaskEvent:
    """Something happened to a task; comes again until EventAcked."""

    link: str
    event: TaskEvent


@dataclass(frozen=True, slots=True)
class CloseLink:
    """End this stream and open another. The edge answers with LinkLost."""

    link: str
    detail: str


# ---- to the keeper --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallKeeper:
    """Ask the keeper; the edge answers with KeeperReplied, or with KeeperLost for all that are under way.

    Calls go out in order. `call` numbers are never used twice.
    """

    call: int
    request: local.Request


@dataclass(frozen=True, slots=True)
class ResetKeeper:
    """The keeper did not answer in time: connect anew. Answers: KeeperLost, later KeeperSynced."""

    detail: str


# ---- to the other edges ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FetchSource:
    """Bring a source into the cache through `link` and hold it for the slot. SourceReady or SourceFailed."""

    link: str
    slot: int
    source: Source


@dataclass(frozen=True, slots=True)
class ReleaseSource:
    """Give up what FetchSource fetches or holds for the slot. Harmless where there is nothing."""

    slot: int


@dataclass(frozen=True, slots=True)
class WarmSource:
    """Bring a source into the cache; nobody waits for it."""

    link: str
    source: Source


@dataclass(frozen=True, slots=True)
class OpenRelay:
    """Serve ChaosControl to the client task on a slot. Answer: RelayOpened. Repeated: RelayOpened."""

    slot: int
    task: TaskId


@dataclass(frozen=True, slots=True)
class CloseRelay:
    """Serve it no more. Harmless where there is none."""

    slot: int


@dataclass(frozen=True, slots=True)
class DrainLogs:
    """Tell when all output of these generations is stored by the manager. Answer: LogsDrained, or never."""

    slot: int
    task: TaskId
    generations: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SendDisk:
    """Hand a task's disk over to its manager, or tell it why there is none. Answer: DiskSent, or never.

    With `missing` there is none, and that is why.
    """

    slot: int
    task: TaskRef
    missing: str = ""


@dataclass(frozen=True, slots=True)
class ForgetLogs:
    """The task's output is gone, or nobody wants it any more."""

    slot: int
    task: TaskId


@dataclass(frozen=True, slots=True)
class Remember:
    """Write this down, whole, before what follows is done; it comes back in `Config.memory`."""

    memory: Memory


@dataclass(frozen=True, slots=True)
class Note:
    """One line for the machine's log: a short constant event, and fields; `routine` where all is well."""

    event: str
    fields: tuple[tuple[str, str], ...] = ()
    routine: bool = False


Effect = (
    SendHello
    | SendHeartbeat
    | SendAnswer
    | SendTaskEvent
    | CloseLink
    | CallKeeper
    | ResetKeeper
    | FetchSource
    | ReleaseSource
    | WarmSource
    | OpenRelay
    | CloseRelay
    | DrainLogs
    | SendDisk
    | ForgetLogs
    | Remember
    | Note
)
