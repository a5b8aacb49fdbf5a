"""The volunteer's machine: its keeper, and the volunteer process around the real `Volunteer`.

Three things end at different times: a stream (the link opens another), the process (a new one starts on what
was remembered, and the keeper tells it what there is), and the machine (new boot id, nothing is left).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from syndicate.volunteer import local
from syndicate.volunteer.core import Volunteer, effects, events, model
from syndicate.volunteer.core.model import AnswerCode

from . import convert
from .clock import MS, SECOND, Clock
from .keeper_model import Keeper, Machine, MakeProcess
from .keeper_socket import Connection
from .link import Stream, Weather
from .manager_host import ManagerHost
from .truth import Truth
from .world import Timer, Violation, World

MOST_TICKS_AT_ONCE = 200


@dataclass
class HostTroubles:
    """How the machine's edges behave; the nemesis changes it."""

    fetch_fails: float = 0.0
    refuses: float = 0.0


class Life:
    """What a crash of the volunteer process ends."""

    def __init__(self, core: Volunteer) -> None:
        self.core = core
        self.links: dict[str, Stream] = {}
        self.keeper: Connection | None = None
        self.fetches: dict[int, Timer] = {}
        self.relays: dict[int, local.TaskId] = {}
        self.inbox: deque[Callable[[], None]] = deque()
        self.wake: Timer | None = None
        self.epochs: dict[str, int] = {}
        self.heard: dict[str, bool] = {}  # by command id: whether it was of an epoch that was over


class VolunteerHost:
    """One machine of the cluster."""

    def __init__(
        self,
        world: World,
        truth: Truth,
        config: model.Config,
        machine: Machine,
        clock: Clock,
        managers: Mapping[str, ManagerHost],
        make: Callable[[VolunteerHost], MakeProcess],
    ) -> None:
        self.name = config.volunteer_id
        self.clock = clock
        self.weather = {link: Weather() for link in managers}
        self.managers = managers
        self.troubles = HostTroubles()
        self.paused = False
        self.life: Life | None = None
        self.bad_sources: set[str] = set()
        self._world, self._truth = world, truth
        self._config = config
        self._memory = config.memory
        self._machine = machine
        truth.domains[machine.name] = machine.domain
        self._make = make
        self._boots = 0
        self._last_tick = (0, 0)
        self.keeper = self._new_keeper()

    # ---- lives ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the volunteer process."""
        if self.life is not None:
            return
        self._world.note(self.name, "start")
        start = self.clock.monotonic(self._world.now) // SECOND
        core = Volunteer(replace(self._config, memory=self._memory, address_start=start))
        life = self.life = Life(core)
        self._connect_keeper(life)
        for link in self.managers:
            self._connect_later(life, link)
        self._schedule(life)

    def crash(self) -> None:
        """Ends the volunteer process; the keeper and its tasks go on."""
        life, self.life = self.life, None
        if life is None:
            return
        self._world.note(self.name, "crash")
        self.paused = False
        for stream in life.links.values():
            stream.left.close()
        if life.keeper is not None:
            life.keeper.close()
        for fetch in life.fetches.values():
            fetch.cancel()

    def reboot(self, down_ns: int) -> None:
        """Ends everything on the machine; it comes back after `down_ns` with another boot id."""
        self._world.note(self.name, "reboot")
        self.crash()
        self.keeper.die()

        def back() -> None:
            if not self.keeper.alive:
                self._boots += 1
                now = self._world.now
                self.clock = Clock(
                    f"{self.name}-boot-{self._boots}",
                    SECOND - now,
                    self.clock.rate_ppb,
                    self.clock.utc_skew_ns,
                )
                self.keeper = self._new_keeper()
            self.start()

        self._world.after(down_ns, back)

    def restart_keeper(self) -> None:
        """The keeper dies with all tasks and starts anew, in the same boot of the machine."""
        if not self.keeper.alive:
            return
        self._world.note(self.name, "keeper restart")
        self.keeper.die()
        self.keeper = self._new_keeper()

    def resume(self) -> None:
        """Ends a pause; what came meanwhile is taken in now."""
        self.paused = False
        life = self.life
        while life is not None and life is self.life and life.inbox and not self.paused:
            life.inbox.popleft()()
        if life is not None and life is self.life:
            self._tick(life)

    def _new_keeper(self) -> Keeper:
        keeper = Keeper(self._world, self._truth, self._machine, self.clock, self._make(self))
        keeper.bad_sources = self.bad_sources
        return keeper

    # ---- links to the managers --------------------------------------------------------------------------

    def streams(self) -> list[Stream]:
        """The streams that stand, as far as this side knows."""
        return list(self.life.links.values()) if self.life is not None else []

    def relayed(self, task: local.TaskId) -> tuple[str, model.TaskRef] | None:
        """The relay of a client's socket: which link leads to its manager, and whom to name as the caller."""
        life = self.life
        if life is None or self.paused:
            return None
        slot = next((number for number, served in life.relays.items() if served == task), None)
        caller = None if slot is None else life.core.caller(slot)
        link = life.core.link_of(task.cluster_id)
        return None if caller is None or link is None or caller.id != task else (link, caller)

    def stamp(self) -> local.Stamp:
        """Now, on the machine's clock."""
        now = self._world.now
        return local.Stamp(self.clock.boot_id, self.clock.monotonic(now), self.clock.utc(now))

    def _connect_later(self, life: Life, link: str) -> None:
        wait = self._world.between(20 * MS, 2 * SECOND)
        self._world.after(wait, lambda: self._guard(life, lambda: self._connect(life, link)))

    def _connect(self, life: Life, link: str) -> None:
        if link in life.links:
            return
        weather = self.weather[link]
        stream = Stream(self._world, weather)
        refused = weather.cut or self._world.chance(self.troubles.refuses)
        if refused or not self.managers[link].accept(link, stream.right):
            self._connect_later(life, link)
            return
        life.links[link] = stream
        stream.left.on_message = lambda message: self._guard(
            life, lambda: self._message(life, link, stream, message)
        )
        stream.left.on_closed = lambda: self._guard(life, lambda: self._lost(life, link, stream))
        self._handle(life, events.LinkOpened(link))

    def _message(self, life: Life, link: str, stream: Stream, message: object) -> None:
        if life.links.get(link) is not stream:
            return
        match message:
            case model.Welcome():
                life.epochs[message.cluster_id] = max(message.epoch, life.epochs.get(message.cluster_id, 0))
                self._handle(life, events.Welcomed(link, message))
            case convert.HeartbeatAck():
                self._handle(life, events.HeartbeatAcked(link, message.sequence))
            case model.Command():
                over = message.epoch < life.epochs.get(message.ref.cluster_id, 0)
                life.heard.setdefault(message.command_id, over)
                self._handle(life, events.CommandReceived(link, message))
            case convert.Drain():
                self._handle(life, events.DrainReceived(link, message.draining))
            case convert.EventAck():
                self._handle(life, events.EventAcked(link, message.event_id))
            case _:
                raise TypeError(f"a manager sent {message!r}")

    def _lost(self, life: Life, link: str, stream: Stream) -> None:
        if life.links.get(link) is stream:
            del life.links[link]
            self._handle(life, events.LinkLost(link))
            self._connect_later(life, link)

    # ---- the keeper -------------------------------------------------------------------------------------

    def _connect_keeper(self, life: Life) -> None:
        if life is not self.life or life.keeper is not None:
            return
        if not self.keeper.alive:
            self._world.after(100 * MS, lambda: self._guard(life, lambda: self._connect_keeper(life)))
            return
        connection = life.keeper = self.keeper.connect()
        connection.on_reply = lambda number, reply: self._guard(
            life, lambda: self._keeper_replied(life, connection, number, reply)
        )
        connection.on_event = lambda event: self._guard(
            life, lambda: self._keeper_told(life, connection, event)
        )
        connection.on_lost = lambda: self._guard(life, lambda: self._keeper_lost(life, connection))
        connection.call(0, local.Sync())

    def _keeper_replied(self, life: Life, connection: Connection, number: int, reply: local.Reply) -> None:
        if life.keeper is not connection:
            return
        if isinstance(reply, local.Synced):
            self._handle(life, events.KeeperSynced(reply))
        else:
            self._handle(life, events.KeeperReplied(number, reply))

    def _keeper_told(self, life: Life, connection: Connection, event: local.Event) -> None:
        if life.keeper is connection and isinstance(event, local.Exited):
            self._handle(life, events.KeeperTold(event))

    def _keeper_lost(self, life: Life, connection: Connection) -> None:
        if life.keeper is not connection:
            return
        connection.close()
        life.keeper = None
        self._handle(life, events.KeeperLost())
        self._world.after(
            self._world.between(MS, 200 * MS), lambda: self._guard(life, lambda: self._connect_keeper(life))
        )

    # ---- the loop ---------------------------------------------------------------------------------------

    def _guard(self, life: Life, do: Callable[[], None]) -> None:
        if life is not self.life:
            return
        if self.paused:
            life.inbox.append(do)
        else:
            do()

    def _handle(self, life: Life, event: events.Event) -> None:
        if life is not self.life:
            return
        self._world.note(self.name, "event", event)
        for effect in life.core.handle(event, self.stamp()):
            self._perform(life, effect)
        try:
            life.core.validate()
        except Exception as error:
            raise Violation(f"{self.name}: validate: {error!r}") from error
        self._schedule(life)

    def _perform(self, life: Life, effect: effects.Effect) -> None:
        match effect:
            case effects.SendHello(link=link, hello=hello):
                self._world.note(self.name, "hello", hello)
                self._send(life, link, hello)
            case effects.SendHeartbeat(link=link, heartbeat=heartbeat):
                self._send(life, link, heartbeat)
            case effects.SendAnswer(link=link, answer=answer):
                self._world.note(self.name, "answer", answer)
                if life.heard[answer.command_id] and answer.code in (AnswerCode.DONE, AnswerCode.READY):
                    raise Violation(f"{self.name} obeyed a command of an epoch that is over: {answer}")
                self._send(life, link, answer)
            case effects.SendTaskEvent(link=link, event=event):
                self._send(life, link, event)
            case effects.CloseLink(link=link, detail=detail):
                self._world.note(self.name, "close link", detail)
                self._close_link(life, link)
            case effects.CallKeeper(call=call, request=request):
                self._world.note(self.name, "keeper", request)
                if life.keeper is not None:
                    life.keeper.call(call, request)
            case effects.ResetKeeper(detail=detail):
                self._world.note(self.name, "reset keeper", detail)
                if life.keeper is not None:
                    connection = life.keeper
                    self._world.after(
                        0, lambda: self._guard(life, lambda: self._keeper_lost(life, connection))
                    )
            case effects.Remember(memory=memory):
                self._memory = memory
            case effects.Note(event=event, fields=fields):
                self._world.note(self.name, "note", f"{event} {dict(fields)}")
            case _:
                self._other_edges(life, effect)

    def _other_edges(self, life: Life, effect: effects.Effect) -> None:
        match effect:
            case effects.FetchSource():
                self._fetch(life, effect)
            case effects.ReleaseSource(slot=slot):
                fetch = life.fetches.pop(slot, None)
                if fetch is not None:
                    fetch.cancel()
            case effects.OpenRelay(slot=slot, task=task):
                life.relays[slot] = task
                self._soon(life, events.RelayOpened(slot, task))
            case effects.CloseRelay(slot=slot):
                life.relays.pop(slot, None)
            case effects.DrainLogs(slot=slot, task=task):
                if not self._world.chance(self.troubles.fetch_fails):
                    self._soon(life, events.LogsDrained(slot, task))
            case effects.SendDisk(slot=slot, task=ref):
                if not self._world.chance(self.troubles.fetch_fails):
                    self._soon(life, events.DiskSent(slot, ref.id))
            case effects.WarmSource() | effects.ForgetLogs():
                pass
            case _:
                raise TypeError(f"unknown effect {effect!r}")

    def _fetch(self, life: Life, effect: effects.FetchSource) -> None:
        event: events.Event = events.SourceReady(effect.slot, effect.source.sha256)
        if self._world.chance(self.troubles.fetch_fails):
            event = events.SourceFailed(effect.slot, effect.source.sha256, "connection reset")

        def fetched() -> None:
            life.fetches.pop(effect.slot, None)
            self._guard(life, lambda: self._handle(life, event))

        old = life.fetches.pop(effect.slot, None)
        if old is not None:
            old.cancel()
        life.fetches[effect.slot] = self._world.after(self._world.between(100_000, 50 * MS), fetched)

    def _soon(self, life: Life, event: events.Event) -> None:
        self._world.after(
            self._world.between(20_000, 2 * MS), lambda: self._guard(life, lambda: self._handle(life, event))
        )

    @staticmethod
    def _send(life: Life, link: str, message: object) -> None:
        stream = life.links.get(link)
        if stream is not None:
            stream.left.send(message)

    def _close_link(self, life: Life, link: str) -> None:
        stream = life.links.get(link)
        if stream is not None:
            stream.left.close()
            self._world.after(0, lambda: self._guard(life, lambda: self._lost(life, link, stream)))

    # ---- the wake-up timer ------------------------------------------------------------------------------

    def _schedule(self, life: Life) -> None:
        if life is not self.life:
            return
        if life.wake is not None:
            life.wake.cancel()
            life.wake = None
        wake = life.core.next_wake()
        if wake is not None:
            life.wake = self._world.at(
                self.clock.when(wake), lambda: self._guard(life, lambda: self._tick(life))
            )

    def _tick(self, life: Life) -> None:
        wake = life.core.next_wake()
        if wake is None or wake > self.clock.monotonic(self._world.now):
            return
        at, count = self._last_tick
        self._last_tick = (self._world.now, count + 1 if at == self._world.now else 1)
        if self._last_tick[1] > MOST_TICKS_AT_ONCE:
            raise Violation(f"{self.name} wakes again and again without getting on: next_wake is {wake}")
        self._handle(life, events.Tick())
