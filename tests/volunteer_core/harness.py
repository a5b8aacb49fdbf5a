"""One volunteer core between a manager that is a list and a keeper that is a model; time is a number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from syndicate.volunteer import local
from syndicate.volunteer.core import Config, Volunteer, effects, events
from syndicate.volunteer.core.model import (
    Action,
    Answer,
    Command,
    Kill,
    Limits,
    Member,
    Prepare,
    Release,
    Reserve,
    Revive,
    Role,
    Source,
    Stamp,
    Start,
    TaskEvent,
    TaskRef,
    Welcome,
)
from volunteer_core.keeper_model import KeeperModel

SECOND = 1_000_000_000
LINK = "manager:7001"
CLUSTER = "c1"
SOURCE = Source("ab" * 32, 100)
T = TypeVar("T")


def ref(
    task: str = "master", generation: int = 1, *, job: int = 7, attempt: int = 1, cluster: str = CLUSTER
) -> TaskRef:
    """A task of job 7."""
    return TaskRef(cluster, job, attempt, task, generation)


def role_of(task: str) -> Role:
    """The role that a task's name says."""
    return Role[task.split("-")[0].upper()]


class Harness:
    """Drives the core; what it wants of the edges is done at once unless `hold` names the kind of effect."""

    def __init__(self, config: Config | None = None, keeper: KeeperModel | None = None) -> None:
        self.core = Volunteer(config or Config("node-a", version="1"))
        self.keeper = keeper or KeeperModel()
        self.now_ns = 1_000 * SECOND
        self.hold: set[type] = set()
        self.held: list[effects.Effect] = []
        self.done: list[effects.Effect] = []
        self.fetch_error = ""
        self._count = 0
        self._events: deque[events.Event] = deque()
        self._busy = False

    # ---- time and events --------------------------------------------------------------------------------

    @property
    def now(self) -> Stamp:
        """Now, on the volunteer's clock."""
        return Stamp("boot", self.now_ns, self.now_ns)

    def tell(self, event: events.Event) -> None:
        """One event, all that comes of it, and the invariants.

        What the doing of an effect tells waits until all effects before it are done, as in the app.
        """
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                self.keeper.now_ns = self.now_ns
                wanted = self.core.handle(self._events.popleft(), self.now)
                self.core.validate()
                for effect in wanted:
                    self.done.append(effect)
                    if type(effect) in self.hold:
                        self.held.append(effect)
                    else:
                        self.perform(effect)
        finally:
            self._busy = False
            self._events.clear()

    def perform(self, effect: effects.Effect) -> None:
        """Does what an edge would."""
        match effect:
            case effects.CallKeeper():
                reply = self.keeper.ask(effect.request)
                self.tell_keeper_events()
                self.tell(events.KeeperReplied(effect.call, reply))
            case effects.FetchSource() if self.fetch_error:
                self.tell(events.SourceFailed(effect.slot, effect.source.sha256, self.fetch_error))
            case effects.FetchSource():
                self.tell(events.SourceReady(effect.slot, effect.source.sha256))
            case effects.OpenRelay():
                self.tell(events.RelayOpened(effect.slot, effect.task))
            case effects.DrainLogs():
                self.tell(events.LogsDrained(effect.slot, effect.task))
            case effects.SendDisk():
                self.tell(events.DiskSent(effect.slot, effect.task.id))
            case effects.ResetKeeper():
                self.held = [one for one in self.held if not isinstance(one, effects.CallKeeper)]
                self.tell(events.KeeperLost())
                self.tell(events.KeeperSynced(self.keeper.synced()))

    def perform_held(self) -> None:
        """Does what was held back."""
        held, self.held = self.held, []
        self.hold = set()
        for effect in held:
            self.perform(effect)

    def tell_keeper_events(self) -> None:
        """What the keeper tells unasked."""
        told, self.keeper.events = self.keeper.events, []
        for event in told:
            if isinstance(event, local.Exited):
                self.tell(events.KeeperTold(event))

    def advance(self, seconds: float) -> None:
        """Lets time pass, waking the core whenever it wants."""
        end = self.now_ns + round(seconds * SECOND)
        while (wake := self.core.next_wake()) is not None and wake <= end:
            self.now_ns = max(self.now_ns, wake)
            self.tell(events.Tick())
        self.now_ns = end

    # ---- a manager --------------------------------------------------------------------------------------

    def attach(
        self, *, link: str = LINK, cluster: str = CLUSTER, epoch: int = 1, prefix: str = "10.77.0.0/24"
    ) -> None:
        """Keeper synced, stream opened, welcomed."""
        self.tell(events.KeeperSynced(self.keeper.synced()))
        self.connect(link=link, cluster=cluster, epoch=epoch, prefix=prefix)

    def connect(
        self, *, link: str = LINK, cluster: str = CLUSTER, epoch: int = 1, prefix: str = "10.77.0.0/24"
    ) -> None:
        """Stream opened and welcomed."""
        self.tell(events.LinkOpened(link))
        self.tell(events.Welcomed(link, Welcome("s", cluster, epoch, prefix)))

    def ack_heartbeats(self, link: str = LINK) -> None:
        """The manager hears the last heartbeat."""
        sent = self.wanted(effects.SendHeartbeat)
        self.tell(events.HeartbeatAcked(link, sent[-1].heartbeat.sequence))

    def send(
        self,
        action: Action,
        to: TaskRef | None = None,
        *,
        slot: int = 0,
        epoch: int = 1,
        command_id: str = "",
        link: str = LINK,
    ) -> str:
        """One command; its id."""
        self._count += 1
        name = command_id or f"command-{self._count}"
        command = Command(name, epoch, to or ref(), slot, action)
        self.tell(events.CommandReceived(link, command))
        return name

    def ask(
        self, action: Action, to: TaskRef | None = None, *, slot: int = 0, epoch: int = 1, link: str = LINK
    ) -> Answer:
        """One command and its answer."""
        return self.answer_to(self.send(action, to, slot=slot, epoch=epoch, link=link))

    def answers_to(self, command_id: str) -> list[Answer]:
        """All answers that a command got."""
        return [e.answer for e in self.wanted(effects.SendAnswer) if e.answer.command_id == command_id]

    def answer_to(self, command_id: str) -> Answer:
        """The last answer that a command got."""
        found = self.answers_to(command_id)
        assert found, f"{command_id} was not answered"
        return found[-1]

    def prepared(self, task: str = "master", *, slot: int = 0, job: int = 7) -> TaskRef:
        """A task brought to PREPARED."""
        whole = ref(task, job=job)
        self.ask(Reserve(10_000), whole, slot=slot)
        self.ask(prepare(task), whole, slot=slot)
        return whole

    def running(self, task: str = "master", *, slot: int = 0, job: int = 7) -> TaskRef:
        """A task brought to RUNNING."""
        whole = self.prepared(task, slot=slot, job=job)
        self.ask(Start(), whole, slot=slot)
        return whole

    def wanted(self, kind: type[T]) -> list[T]:
        """All effects of a kind so far."""
        return [effect for effect in self.done if isinstance(effect, kind)]

    def exits(self) -> list[TaskEvent]:
        """The task events sent so far."""
        return [effect.event for effect in self.wanted(effects.SendTaskEvent)]


def prepare(task: str = "master") -> Prepare:
    """What the manager prepares a task with."""
    members = (Member("master", Role.MASTER, "10.77.0.2"), Member("slave-0", Role.SLAVE, "10.77.0.3"))
    return Prepare(SOURCE, role_of(task), members, Limits(), "demo")


ACTIONS: dict[str, Callable[[], Action]] = {
    "prepare": prepare,
    "start": Start,
    "kill": Kill,
    "revive": lambda: Revive(True),
    "release": Release,
}
