"""One call of `handle`: the state, the instant, the effects so far, and what every part needs of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .. import local
from .answers import AnswerBook
from .effects import CallKeeper, Effect, Note, Remember, ResetKeeper, SendAnswer, SendTaskEvent
from .model import (
    Answer,
    AnswerCode,
    Config,
    Memory,
    Network,
    Stamp,
    TaskEvent,
    TaskExit,
    TaskId,
    TaskRef,
)
from .state import SECOND, Cluster, Link, PendingEvent, Slot, Waiting


@dataclass(slots=True)
class State:
    """All that the machine knows."""

    config: Config
    answers: AnswerBook
    links: dict[str, Link] = field(default_factory=dict)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    slots: dict[int, Slot] = field(default_factory=dict)
    events: dict[int, PendingEvent] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)
    known: bool = False  # the keeper has told what there is, at least once
    synced: bool = False  # and the connection still stands
    network: Network = Network.FABRIC
    capabilities: tuple[str, ...] = ()
    unsafe: tuple[str, ...] = ()
    cannot: tuple[local.Incapability, ...] = ()
    reboots: bool = False  # the machine is booted again after a job
    worn: bool = False  # and one has left it, in part at least
    unheard: dict[str, int] = field(default_factory=dict)  # by cluster: when its last task left
    reboot_ns: int = 0  # when it is asked for again; 0 where it was not asked for
    last_call: int = 0
    last_event: int = 0
    cluster_of_link: dict[str, str] = field(default_factory=dict)

    def abandon_ns(self, cluster_id: str) -> int:
        """When a cluster's manager is given up: so long after the lease of its tasks has run out."""
        return self.clusters[cluster_id].lease_until_ns + round(self.config.abandon_after_s * SECOND)


@dataclass(slots=True)
class Turn:
    """One event being handled."""

    state: State
    now: Stamp
    effects: list[Effect] = field(default_factory=list)

    @property
    def ns(self) -> int:
        """CLOCK_BOOTTIME now."""
        return self.now.monotonic_ns

    def after(self, seconds: float) -> int:
        """CLOCK_BOOTTIME so many seconds from now."""
        return self.now.monotonic_ns + round(seconds * SECOND)

    def emit(self, effect: Effect) -> None:
        """Wants something done."""
        self.effects.append(effect)

    def note(self, event: str, *, routine: bool = False, **fields: object) -> None:
        """Wants a line in the machine's log; one about a slot says which task of whom is on it."""
        slot = self.state.slots.get(number) if isinstance(number := fields.get("slot"), int) else None
        if slot is not None and (task := slot.task) is not None:
            cluster = self.state.clusters.get(task.cluster_id)
            ids = {"job_id": task.job_id, "attempt": task.attempt, "task": task.task}
            fields = {**ids, **({"epoch": cluster.epoch} if cluster else {}), **fields}
        self.emit(Note(event, tuple((name, str(value)) for name, value in fields.items()), routine))

    # ---- clusters -----------------------------------------------------------------------------------

    def cluster(self, cluster_id: str) -> Cluster:
        """The cluster, made where it is new."""
        found = self.state.clusters.get(cluster_id)
        if found is None:
            found = Cluster(cluster_id, cursor=self.state.config.address_start)
            self.state.clusters[cluster_id] = found
        return found

    def link_of(self, cluster_id: str) -> str | None:
        """The welcomed link over which the cluster is reached."""
        found = self.state.clusters.get(cluster_id)
        return found.links[-1] if found and found.links else None

    def raise_epoch(self, cluster: Cluster, epoch: int) -> None:
        """The highest epoch seen of a cluster only grows, also over restarts."""
        if epoch > cluster.epoch:
            cluster.epoch = epoch
            self.remember()

    def remember(self) -> None:
        """Has epochs and clusters written down."""
        epochs = tuple((c.cluster_id, c.epoch) for c in self.state.clusters.values() if c.epoch)
        self.emit(Remember(Memory(epochs, tuple(self.state.cluster_of_link.items()))))

    # ---- answers ------------------------------------------------------------------------------------

    def answer(
        self,
        waiting: Waiting,
        code: AnswerCode,
        detail: str = "",
        *,
        address: str = "",
        processes: int = 0,
        dropped: int | None = None,
        done: local.Done | None = None,
    ) -> None:
        """Answers a command, once: the answer is kept for a repeat.

        `applied_at` and the duration are the keeper's where it did something, else this instant's.
        """
        command = waiting.command
        holds = code in (AnswerCode.DONE, AnswerCode.READY)
        applied_at = (done.at if done else self.now) if holds else None
        took = done.took_ns if done and done.took_ns else self.ns - waiting.received.monotonic_ns
        answer = Answer(command.command_id, code, detail, address, processes, applied_at, took, dropped)
        self.state.answers.close((command.ref.cluster_id, command.command_id), answer)
        self.send_answer(waiting.link, command.ref.cluster_id, answer)

    def send_answer(self, link_name: str, cluster_id: str, answer: Answer) -> None:
        """Sends it where the command came from, or where its cluster is reached now, or not at all.

        An answer that finds no stream is not lost: the manager repeats the command and the answer is
        remembered.
        """
        link = self.state.links.get(link_name)
        name = link_name if link is not None and link.welcomed else self.link_of(cluster_id)
        if name is not None:
            self.emit(SendAnswer(name, answer))

    # ---- events -------------------------------------------------------------------------------------

    def report_exit(self, ref: TaskRef, at: Stamp, ended: TaskExit) -> None:
        """Tells the manager how a generation ended, until it has acknowledged it."""
        self.report(ref, at, ended)

    def report(
        self,
        ref: TaskRef,
        at: Stamp,
        ended: TaskExit | None = None,
        barriers: local.BarriersTold | None = None,
    ) -> int:
        """Tells the manager of something until it has acknowledged it; returns the event's id.

        Ids start from the boot clock, so that a volunteer restarted within one boot never repeats one. The
        bound is far above what the slots can hold; past it the oldest is forgotten, and Hello tells its end
        anyway.
        """
        state = self.state
        state.last_event = max(state.last_event + 1, self.ns)
        event = TaskEvent(state.last_event, ref, at, ended, barriers)
        state.events[event.event_id] = PendingEvent(ref.cluster_id, event)
        if len(state.events) > state.config.max_events:
            oldest = min(state.events)
            del state.events[oldest]
            self.note("event.forgotten", event_id=oldest)
        cluster = self.cluster(ref.cluster_id)
        if link := self.link_of(ref.cluster_id):
            self.emit(SendTaskEvent(link, event))
        if not cluster.resend_ns:
            cluster.resend_ns = self.after(state.config.event_resend_s)
        return event.event_id

    def send_events(self, cluster: Cluster) -> None:
        """Says all that was not acknowledged again."""
        pending = [held.event for held in self.state.events.values() if held.cluster_id == cluster.cluster_id]
        link = self.link_of(cluster.cluster_id)
        if link is not None:
            for event in pending:
                self.emit(SendTaskEvent(link, event))
        cluster.resend_ns = self.after(self.state.config.event_resend_s) if pending else 0

    # ---- keeper -------------------------------------------------------------------------------------

    def call(self, request: local.Request, slot: int | None) -> int:
        """Asks the keeper; the answer is led to the slot."""
        state = self.state
        state.last_call += 1
        if slot is not None:
            state.calls[state.last_call] = slot
        self.emit(CallKeeper(state.last_call, request))
        return state.last_call

    def reset_keeper(self, detail: str) -> None:
        """Gives the connection up for a new one, whose first answer says what is true."""
        if self.state.synced:
            self.emit(ResetKeeper(detail))
            self.lose_keeper()

    def lose_keeper(self) -> None:
        """No answer will come to what is under way: it is asked again after the next Synced, for a while."""
        state = self.state
        state.synced = False
        state.calls.clear()
        limit = self.after(state.config.keeper_wait_s)
        for slot in state.slots.values():
            if slot.operation is not None and slot.operation.request is not None:
                slot.operation.call = None
                slot.operation.deadline_ns = min(slot.operation.deadline_ns, limit)

    def holder(self, task: TaskId) -> Slot | None:
        """The slot that holds a task."""
        return next((slot for slot in self.state.slots.values() if slot.task == task), None)
