"""What can happen to the volunteer: the one vocabulary that goes into `Volunteer.handle`.

`link` names the stream to one manager (its `HOST:PORT` in the app); it keeps its name over reconnects. Every
event is handled at a `now` of the volunteer's own clock, which is an argument of `handle`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import local
from .model import Command, TaskId, Welcome

# ---- from the links to the managers ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A stream was opened. Effect: SendHello, as soon as the keeper has told what there is."""

    link: str


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The stream ended, whoever ended it."""

    link: str


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The manager's first message."""

    link: str
    welcome: Welcome


@dataclass(frozen=True, slots=True)
class HeartbeatAcked:
    """The manager heard a heartbeat."""

    link: str
    sequence: int


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """The manager wants something. Effect, sooner or later: one SendAnswer."""

    link: str
    command: Command


@dataclass(frozen=True, slots=True)
class DrainReceived:
    """Take no new reservation of this cluster, or take them again."""

    link: str
    draining: bool


@dataclass(frozen=True, slots=True)
class EventAcked:
    """The manager has written a TaskEvent down."""

    link: str
    event_id: int


# ---- from the keeper ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeeperSynced:
    """A connection to the keeper stands, and this is what it holds."""

    synced: local.Synced


@dataclass(frozen=True, slots=True)
class KeeperLost:
    """The connection to the keeper is gone; answers to calls that are under way will not come."""


@dataclass(frozen=True, slots=True)
class KeeperReplied:
    """The answer to a CallKeeper."""

    call: int
    reply: local.Reply


@dataclass(frozen=True, slots=True)
class KeeperTold:
    """A generation ended. (`local.LogGrew` goes to the log pump, not to the core.)"""

    event: local.Exited


# ---- from the other edges -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceReady:
    """The source that FetchSource wanted for a slot lies in the cache and stays until ReleaseSource."""

    slot: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SourceFailed:
    """It could not be fetched: the machine's or the manager's fault, never the job's."""

    slot: int
    sha256: str
    detail: str


@dataclass(frozen=True, slots=True)
class RelayOpened:
    """OpenRelay was done; `error` says why not, empty when it was."""

    slot: int
    task: TaskId
    error: str = ""


@dataclass(frozen=True, slots=True)
class LogsDrained:
    """DrainLogs was done: all output of the task is stored by the manager."""

    slot: int
    task: TaskId


@dataclass(frozen=True, slots=True)
class DiskSent:
    """SendDisk was done, as far as it went."""

    slot: int
    task: TaskId


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has come to `Volunteer.next_wake`, or passes."""


Event = (
    LinkOpened
    | LinkLost
    | Welcomed
    | HeartbeatAcked
    | CommandReceived
    | DrainReceived
    | EventAcked
    | KeeperSynced
    | KeeperLost
    | KeeperReplied
    | KeeperTold
    | SourceReady
    | SourceFailed
    | RelayOpened
    | LogsDrained
    | DiskSent
    | Tick
)
