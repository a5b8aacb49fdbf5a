"""The manager process around the real `Machine`: streams, calls, one store writer, and crashes.

The order is the product's: handle → one commit for everything that waits → effects. Only effects that say
`before_commit` overtake their commit. A crash may come at any moment between those: saves that were not
durable and effects that were not sent are lost, and the next life starts from exactly the durable records,
one epoch later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from syndicate.manager.core import effects, errors, events, model
from syndicate.manager.core.machine import Machine
from syndicate.volunteer.core import model as vmodel

from . import convert
from .clock import MS, SECOND, Clock
from .link import End
from .rpc import Failure, Outcome
from .store import Store
from .world import Timer, Violation, World

MOST_TICKS_AT_ONCE = 200


@dataclass
class StoreTroubles:
    """How the disk behaves; the nemesis changes it. `crash`: the chance of a crash in a commit."""

    slowest_commit_ns: int = 5 * MS
    stall: float = 0.0
    crash: float = 0.0


def overtakes(effect: effects.Effect) -> bool:
    """Whether an effect may go out before its step's saves are durable."""
    return isinstance(effect, effects.Send | effects.Reply) and effect.before_commit


class Session:
    """One stream at the manager's edge, with the stamps of heartbeats that were acknowledged."""

    def __init__(self, name: str, end: End) -> None:
        self.name, self.end = name, end
        self.heartbeats: dict[int, tuple[model.Stamp, model.Stamp]] = {}


class Life:
    """What a crash ends: the machine, its sessions, calls and whatever waits for the disk."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.sessions: dict[str, Session] = {}
        self.calls: dict[int, Callable[[Outcome], None]] = {}
        self.uncommitted: deque[effects.Step] = deque()
        self.committing: list[effects.Step] | None = None
        self.inbox: deque[Callable[[], None]] = deque()
        self.wake: Timer | None = None


class ManagerHost:
    """A manager's machine over all its lives. `config` is the operator's, with the first life's epoch."""

    def __init__(
        self, world: World, name: str, config: model.Config, clock: Clock, two_addresses: bool
    ) -> None:
        self.name = name
        self.config = config
        self.clock = clock
        self.addresses = (name, f"{name}-2") if two_addresses else (name,)
        self.address = name
        self.store = Store(world, name)
        self.troubles = StoreTroubles()
        self.paused = False
        self.ambush: Callable[[Callable[[], None]], None] | None = None
        self.life: Life | None = None
        self.lives = 0
        self._world = world
        self._epoch = config.epoch - 1
        self._calls = 0
        self._sessions = 0
        self._last_tick = (0, 0)

    # ---- lives ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the process on what is durable."""
        if self.life is not None:
            return
        self._epoch += 1
        self.lives += 1
        config = replace(self.config, epoch=self._epoch, boot_id=self.clock.boot_id)
        records = self.store.records()
        self._world.note(self.name, "start", f"epoch {self._epoch}, {len(records)} records")
        machine = Machine.restore(config, records, self.stamp()) if self.lives > 1 else Machine(config)
        self.life = Life(machine)
        self._schedule(self.life)

    def crash(self, reboot: bool = False, moves: bool = False) -> None:
        """Ends the process: what is not durable is lost, and what was not sent will not be.

        One that moves falls silent without a last word: its streams hang, what is under way in them still
        arrives, and the next life listens at its other address.
        """
        life, self.life = self.life, None
        if life is None:
            return
        self._world.note(self.name, "crash", "reboot" if reboot else "process")
        self.paused = False
        if life.committing is not None and self._world.chance(0.5):
            self._commit(life.committing)  # the disk had it already, only nobody heard
        if moves:
            self.address = next(each for each in self.addresses if each != self.address)
            self._world.note(self.name, "moves", self.address)
        for session in life.sessions.values():
            if not moves:
                session.end.close()
        for answered in life.calls.values():
            self._world.after(self._world.between(MS, 100 * MS), partial(answered, Failure.UNAVAILABLE))
        if reboot:
            boot = f"{self.name}-boot-{self._world.random.getrandbits(32):08x}"
            self.clock = Clock(
                boot,
                self._world.between(SECOND - self._world.now, SECOND),
                self.clock.rate_ppb,
                self.clock.utc_skew_ns,
            )

    def resume(self) -> None:
        """Ends a pause; what came meanwhile is taken in now."""
        self.paused = False
        life = self.life
        while life is not None and life is self.life and life.inbox and not self.paused:
            life.inbox.popleft()()
        if life is not None and life is self.life:
            self._tick(life)

    # ---- from outside -----------------------------------------------------------------------------------

    def accept(self, address: str, end: End) -> bool:
        """A volunteer opens a stream; False when nobody listens there."""
        life = self.life
        if life is None or self.paused or address != self.address:
            return False
        self._sessions += 1
        session = Session(f"{self.name}-s{self._sessions}", end)
        end.on_message = lambda message: self._guard(life, lambda: self._message(life, session, message))
        end.on_closed = lambda: self._guard(life, lambda: self._closed(life, session))
        return True

    def call(self, make: Callable[[int], events.Event], answered: Callable[[Outcome], None]) -> int | None:
        """A unary call to where it is now; its number, or None when nobody listens."""
        life = self.life
        if life is None:
            return None
        self._calls += 1
        number = self._calls
        life.calls[number] = answered
        self._guard(life, lambda: self._handle(life, make(number)))
        return number

    def gone(self, number: int) -> None:
        """The caller hung up."""
        life = self.life
        if life is not None and life.calls.pop(number, None) is not None:
            self._guard(life, lambda: self._handle(life, events.CallGone(number)))

    def stamp(self) -> model.Stamp:
        """Now, on the manager's clock."""
        now = self._world.now
        return model.Stamp(self.clock.boot_id, self.clock.monotonic(now), self.clock.utc(now))

    def _guard(self, life: Life, do: Callable[[], None]) -> None:
        if life is not self.life:
            return
        if self.paused:
            life.inbox.append(do)
        else:
            do()

    # ---- the edge of the streams ------------------------------------------------------------------------

    def _message(self, life: Life, session: Session, message: object) -> None:
        match message:
            case vmodel.Hello():
                life.sessions[session.name] = session
                self._handle(
                    life,
                    events.VolunteerAttached(session.name, convert.hello(message)),
                )
            case _ if session.name not in life.sessions:
                return
            case vmodel.Heartbeat():
                self._heartbeat(life, session, message)
            case vmodel.Answer():
                self._handle(life, convert.answer(session.name, message))
            case vmodel.TaskEvent():
                self._handle(life, convert.task_event(session.name, message))
            case _:
                raise TypeError(f"a volunteer sent {message!r}")

    def _heartbeat(self, life: Life, session: Session, said: vmodel.Heartbeat) -> None:
        now, sent = self.stamp(), convert.stamp(said.sent_at)
        last = session.heartbeats.get(said.last_ack_sequence)
        exchange = None
        if last is not None and said.last_ack_received_at is not None:
            exchange = (last[0], last[1], last[1], convert.stamp(said.last_ack_received_at))
        session.heartbeats[said.sequence] = (sent, now)
        session.heartbeats.pop(said.sequence - 50, None)
        session.end.send(convert.HeartbeatAck(said.sequence))
        beat = events.HeartbeatReceived(session.name, model.Resources(), exchange, said.worn)
        self._handle(life, beat)

    def _closed(self, life: Life, session: Session) -> None:
        if life.sessions.pop(session.name, None) is not None:
            self._handle(life, events.VolunteerDetached(session.name))

    # ---- the loop ---------------------------------------------------------------------------------------

    def _handle(self, life: Life, event: events.Event) -> None:
        if life is not self.life:
            return
        self._world.note(self.name, "event", event)
        step = life.machine.handle(event, self.stamp())
        self._checked(life.machine)
        early = [e for e in step.effects if overtakes(e)]
        late = [e for e in step.effects if not overtakes(e)]
        self._perform(life, early)
        life.uncommitted.append(effects.Step(step.saves, late))
        self._flush(life)
        self._schedule(life)

    def _flush(self, life: Life) -> None:
        """Group commit: one writer, and everything that waits goes with the next transaction."""
        if life.committing is not None or life is not self.life:
            return
        while life.uncommitted and not life.uncommitted[0].saves:
            self._perform(life, life.uncommitted.popleft().effects)
            if life is not self.life:
                return
        if not life.uncommitted:
            return
        life.committing = list(life.uncommitted)
        life.uncommitted.clear()
        stalls = self._world.chance(self.troubles.stall)
        takes = self._world.between(100_000, 5 * SECOND if stalls else self.troubles.slowest_commit_ns)
        self._world.after(takes, lambda: self._committed(life))

    def _committed(self, life: Life) -> None:
        if life is not self.life:
            return
        if self._world.chance(self.troubles.crash):
            self._world.note(self.name, "crash point", "in the middle of a commit")
            self.crash()
            return
        batch, life.committing = life.committing or [], None
        self._commit(batch)
        self._guard(
            life, lambda: self._after_commit(life, [effect for step in batch for effect in step.effects])
        )

    def _commit(self, batch: list[effects.Step]) -> None:
        self.store.commit(record for step in batch for record in step.saves)

    def _after_commit(self, life: Life, pending: list[effects.Effect]) -> None:
        if self.ambush is not None and any(isinstance(effect, effects.Send) for effect in pending):
            spring, self.ambush = self.ambush, None
            spring(lambda: self._perform(life, pending))
            return
        if self._world.chance(self.troubles.crash):
            sent = self._world.random.randint(0, len(pending))
            self._world.note(
                self.name, "crash point", f"{sent} of {len(pending)} effects after a commit were sent"
            )
            self._perform(life, pending[:sent])
            self.crash()
            return
        self._perform(life, pending)
        self._flush(life)

    def _perform(self, life: Life, wanted: Iterable[effects.Effect]) -> None:
        for effect in wanted:
            if life is not self.life:
                return
            match effect:
                case effects.Reply():
                    self._reply(life, effect)
                case effects.Changed():
                    pass
                case _:
                    self._to_volunteer(life, effect)

    def _reply(self, life: Life, effect: effects.Reply) -> None:
        answered = life.calls.pop(effect.call, None)
        if answered is not None:
            value = effect.value
            self._world.note(
                self.name, "reply", repr(value) if isinstance(value, errors.CoreError) else value
            )
            answered(value)

    def _to_volunteer(self, life: Life, effect: effects.Effect) -> None:
        session = life.sessions.get(effect.session)  # type: ignore[union-attr]  # all others are dealt with above
        if session is None:
            return
        match effect:
            case effects.Send():
                self._world.note(self.name, "send", effect.command)
                session.end.send(convert.command(effect.command))
            case effects.SendWelcome():
                session.end.send(self._welcome(effect))
            case effects.SendDrain():
                session.end.send(convert.Drain(effect.draining))
            case effects.AckEvent():
                session.end.send(convert.EventAck(effect.event_id))
            case effects.Close():
                self._world.note(self.name, "close", f"{effect.session}: {effect.error.reason}")
                del life.sessions[session.name]
                session.end.close()
            case _:
                raise TypeError(f"unknown effect {effect!r}")

    def _welcome(self, effect: effects.SendWelcome) -> vmodel.Welcome:
        return vmodel.Welcome(
            effect.session,
            self.config.cluster_id,
            self._epoch,
            effect.prefix,
            tuple(convert.source(s) for s in effect.warm),
            self.config.heartbeat_interval_s,
            self.config.orphan_after_s,
        )

    def _checked(self, machine: Machine) -> None:
        try:
            machine.validate()
        except Exception as error:
            raise Violation(f"{self.name}: validate: {error!r}") from error

    # ---- the wake-up timer ------------------------------------------------------------------------------

    def _schedule(self, life: Life) -> None:
        wake = life.machine.next_wake()
        if life.wake is not None:
            life.wake.cancel()
            life.wake = None
        if wake is not None:
            life.wake = self._world.at(
                self.clock.when(wake), lambda: self._guard(life, lambda: self._tick(life))
            )

    def _tick(self, life: Life) -> None:
        wake = life.machine.next_wake()
        if wake is None or wake > self.clock.monotonic(self._world.now):
            return
        at, count = self._last_tick
        self._last_tick = (self._world.now, count + 1 if at == self._world.now else 1)
        if self._last_tick[1] > MOST_TICKS_AT_ONCE:
            raise Violation(f"{self.name} wakes again and again without getting on: next_wake is {wake}")
        self._handle(life, events.Tick())
