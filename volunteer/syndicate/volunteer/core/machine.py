"""The volunteer as a machine: `handle(event, now) -> effects` is the only mutator.

It holds no clock and does nothing: the edges tell it what happened and do what it wants, in order. `story`
retells what happened on a slot, `validate` asserts what must always hold.
"""

from __future__ import annotations

from . import barrier_news, commands, events, keeper_side, link_side, operations, rebooting, release
from .answers import AnswerBook
from .effects import Effect
from .events import Event
from .figures import Figures, figures
from .invariants import check
from .model import AnswerCode, Config, HeldTask, Role, Stamp, TaskRef
from .state import Slot, Step, StoryLine
from .transitions import SlotState
from .turn import State, Turn


class Volunteer:
    """One volunteer's part of the protocol: towards its managers, and towards its keeper."""

    def __init__(self, config: Config) -> None:
        self._state = State(config, AnswerBook(config.max_answers))
        self._state.cluster_of_link = dict(config.memory.clusters)
        memory = Turn(self._state, Stamp("", 0, 0))
        for cluster_id, epoch in config.memory.epochs:
            memory.cluster(cluster_id).epoch = epoch

    def handle(self, event: Event, now: Stamp) -> list[Effect]:
        """Takes in one event; what is wanted in return is to be done in order."""
        turn = Turn(self._state, now)
        self._dispatch(turn, event)
        if self._state.worn:
            rebooting.advance(turn)
        return turn.effects

    def next_wake(self) -> int | None:
        """CLOCK_BOOTTIME in nanoseconds at which a `Tick` is due; None where nothing is waited for."""
        state, config = self._state, self._state.config
        turn = Turn(state, Stamp("", 0, 0))
        times: list[int] = []
        for link in state.links.values():
            dead = link_side.dead_ns(turn, link)
            if dead is not None:
                times.append(dead)
                if link.welcomed:
                    times.append(link.next_heartbeat_ns)
        times += [cluster.resend_ns for cluster in state.clusters.values() if cluster.resend_ns]
        if state.worn:
            times += rebooting.wakes(state)
        for slot in state.slots.values():
            times += _slot_times(state, slot, config)
        return min(times, default=None)

    # ---- what may be asked ------------------------------------------------------------------------------

    def story(self, slot: int) -> list[StoryLine]:
        """What happened on a slot, oldest first; the last lines only."""
        found = self._state.slots.get(slot)
        return list(found.lines) if found else []

    def caller(self, slot: int) -> TaskRef | None:
        """The client task on a slot, with its generation at this moment; None where no client is there."""
        found = self._state.slots.get(slot)
        return found.ref() if found and found.task and found.role is Role.CLIENT else None

    def link_of(self, cluster_id: str) -> str | None:
        """The link over which a cluster is reached now; None while it is not."""
        return Turn(self._state, Stamp("", 0, 0)).link_of(cluster_id)

    def held(self) -> tuple[HeldTask, ...]:
        """Every task that is held, of every cluster."""
        return link_side.held(Turn(self._state, Stamp("", 0, 0)), "")

    def figures(self, now: Stamp) -> Figures:
        """What it has, in numbers."""
        return figures(self._state, now)

    def slot_state(self, slot: int) -> SlotState:
        """How far a slot is. Raises KeyError where there is none."""
        return self._state.slots[slot].state

    def validate(self) -> None:
        """Asserts what must always hold. Raises BrokenInvariant."""
        check(self._state)

    # ---- events -----------------------------------------------------------------------------------------

    def _dispatch(self, turn: Turn, event: Event) -> None:
        match event:
            case events.CommandReceived():
                link = self._state.links.get(event.link)
                if link is not None and link.welcomed:
                    commands.receive(turn, link, event.command)
            case events.KeeperReplied():
                keeper_side.replied(turn, event.call, event.reply)
            case events.KeeperTold():
                keeper_side.told(turn, event.event)
            case events.HeartbeatAcked():
                link_side.heartbeat_acked(turn, event.link, event.sequence)
            case events.Tick():
                self._tick(turn)
            case events.SourceReady() | events.SourceFailed():
                self._fetched(turn, event)
            case events.RelayOpened():
                self._relay_opened(turn, event)
            case events.LogsDrained():
                slot = self._waiting_for(event.slot, Step.DRAIN)
                if slot is not None and slot.task == event.task:
                    release.step_done(turn, slot)
            case events.DiskSent():
                slot = self._waiting_for(event.slot, Step.KEEP)
                if slot is not None and slot.task == event.task:
                    release.step_done(turn, slot)
            case _:
                self._dispatch_rare(turn, event)

    def _dispatch_rare(self, turn: Turn, event: Event) -> None:
        match event:
            case events.LinkOpened():
                link_side.opened(turn, event.link)
            case events.LinkLost():
                link_side.lost(turn, event.link)
            case events.Welcomed():
                link_side.welcomed(turn, event.link, event.welcome)
            case events.DrainReceived():
                link = self._state.links.get(event.link)
                if link is not None and link.welcomed:
                    turn.cluster(link.cluster_id).draining = event.draining
            case events.EventAcked():
                self._state.events.pop(event.event_id, None)
                barrier_news.acknowledged(turn, event.event_id)
            case events.KeeperSynced():
                self._synced(turn, event)
            case events.KeeperLost():
                turn.lose_keeper()
            case _:
                raise TypeError(f"not an event of the volunteer: {event!r}")

    def _synced(self, turn: Turn, event: events.KeeperSynced) -> None:
        keeper_side.synced(turn, event.synced)
        for link in self._state.links.values():
            if link.opened and link.hello_at is None:
                link_side.say_hello(turn, link)

    def _waiting_for(self, number: int, step: Step) -> Slot | None:
        slot = self._state.slots.get(number)
        waits = slot is not None and slot.operation is not None and slot.operation.step is step
        return slot if waits else None

    def _fetched(self, turn: Turn, event: events.SourceReady | events.SourceFailed) -> None:
        slot = self._waiting_for(event.slot, Step.FETCH)
        if slot is None or _wanted_source(slot) != event.sha256:
            return
        if isinstance(event, events.SourceReady):
            commands.prepare_in_keeper(turn, slot)
        else:
            operations.fail(turn, slot, AnswerCode.FAILED, event.detail)
            commands.proceed(turn, slot)

    def _relay_opened(self, turn: Turn, event: events.RelayOpened) -> None:
        slot = self._waiting_for(event.slot, Step.RELAY)
        if slot is None or slot.task != event.task:
            if event.error:
                turn.note("relay.failed", slot=event.slot, detail=event.error)
            return
        if event.error:
            operations.fail(turn, slot, AnswerCode.FAILED, event.error)
        else:
            operations.relay_stands(turn, slot)
        commands.proceed(turn, slot)

    # ---- time -------------------------------------------------------------------------------------------

    def _tick(self, turn: Turn) -> None:
        for link in self._state.links.values():
            link_side.tick(turn, link)
        for cluster in self._state.clusters.values():
            if cluster.resend_ns and turn.ns >= cluster.resend_ns:
                turn.send_events(cluster)
        for slot in list(self._state.slots.values()):
            self._tick_slot(turn, slot)

    def _tick_slot(self, turn: Turn, slot: Slot) -> None:
        operation = slot.operation
        if operation is not None:
            if operation.retry_ns is not None and turn.ns >= operation.retry_ns:
                operations.issue(turn, slot)
            elif turn.ns >= operation.deadline_ns:
                self._overdue(turn, slot)
        elif slot.task is not None and slot.state is not SlotState.RELEASING:
            lapsed = slot.state is SlotState.RESERVED and turn.ns >= slot.lapse_ns
            if lapsed or turn.ns >= _abandon_ns(self._state, slot):
                turn.note("reservation.lapsed" if lapsed else "task.abandoned", slot=slot.number)
                release.begin_release(turn, slot, None, abandoned=True)

    def _overdue(self, turn: Turn, slot: Slot) -> None:
        operation = slot.work
        asked = operation.call is not None
        if asked and operation.step is Step.REVIVE and not operations.taken_back(operation):
            operations.take_back(turn, slot)
            return
        detail = (
            "no answer from the keeper in time" if operation.request else f"{operation.step} took too long"
        )
        if operation.step is Step.REMOVE:
            release.release_failed(turn, slot, detail)
        elif operation.step in release.RELEASE_STEPS:
            release.step_done(turn, slot)
        else:
            operations.fail(turn, slot, AnswerCode.FAILED, detail)
        if asked:
            turn.reset_keeper(detail)
        commands.proceed(turn, slot)


def _wanted_source(slot: Slot) -> str | None:
    waiting = slot.operation.waiting if slot.operation else None
    action = waiting.command.action if waiting else None
    source = getattr(action, "source", None)
    return source.sha256 if source is not None else None


def _abandon_ns(state: State, slot: Slot) -> int:
    """When a task whose lease has run out is given up."""
    return state.abandon_ns(slot.holds.cluster_id)


def _slot_times(state: State, slot: Slot, config: Config) -> list[int]:
    operation = slot.operation
    if operation is not None:
        return [operation.deadline_ns if operation.retry_ns is None else operation.retry_ns]
    if slot.task is None or slot.state is SlotState.RELEASING:
        return []
    times = [_abandon_ns(state, slot)]
    if slot.state is SlotState.RESERVED:
        times.append(slot.lapse_ns)
    return times
