"""What a nemesis does next: one generator that neither waits nor calls, for threads and for asyncio.

It yields ``Do`` (make a call; its answer is sent back, or its error thrown in) and ``Wait`` (until a time;
True is sent back once the nemesis is to stop). However it goes on, it ends by taking back all that it did.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from syndicate.client_api import _calls
from syndicate.client_api._calls import Call, Exchange, monotonic_now
from syndicate.client_api._errors import (
    AttemptEnded,
    ChaosError,
    ClientFinished,
    DeadlineExceeded,
    FaultFailed,
    JobNotRunning,
    NotHealed,
    SyndicateError,
    TaskAlive,
    TaskDead,
    TooManyFaults,
    Unavailable,
)
from syndicate.client_api._nemesis_calls import LEASE_BEYOND_S, call_of, timed
from syndicate.client_api._nemesis_clock import FRESH_NS, OwnClock
from syndicate.client_api._nemesis_plan import Event, Schedule
from syndicate.client_api._results import Applied, MemberState

_TRY_S = 5.0
"""One try to take something back, so that others have their turn while the manager is away."""
_LONGEST_START_S = 10.0
_PAUSE_NS = 500_000_000
_SETTLE_NS = 250_000_000
"""Whom a signal ends is alive for a moment, and until its end is told a revival finds nothing to do."""
_PINGS = 3
_MAY_HOLD = (Unavailable, DeadlineExceeded)
_NOT_NOW = (TaskDead, FaultFailed, TooManyFaults, *_MAY_HOLD)
_LIVES = ("kill", "signal")


@dataclass(frozen=True, slots=True)
class Do:
    """Make a call; it is tried for so many seconds."""

    call: Call[Any]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until a time of ``monotonic_now``; with ``stops`` no longer than until the nemesis is to stop."""

    until_ns: int
    stops: bool = True


Step = Do | Wait
Script = Generator[Step, Any, None]


@dataclass(frozen=True, slots=True)
class Window:
    """When a fault of a nemesis held, on this process's CLOCK_BOOTTIME (``time.clock_gettime_ns``)."""

    kind: str
    """``kill``, ``pause``, ``partition`` and so on."""
    targets: tuple[str, ...]
    """The members, by their names."""
    start_ns: int
    """When it began to hold at the first of them."""
    end_ns: int | None
    """When it was taken back at the last of them; None while it is in force."""
    error_ns: int
    """Both are right to within plus or minus so many nanoseconds."""
    number: int
    """Which event of the schedule."""
    fault_ids: tuple[int, ...] = ()
    """Its lines in the job's ledger."""
    certain: bool = True
    """False where it is not known whether it held: no call about it was answered."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A fault that did not take hold."""

    kind: str
    targets: tuple[str, ...]
    number: int
    why: str


@dataclass(slots=True)
class _Strike:
    """An event that was begun and is not over."""

    number: int
    event: Event
    call: Call[tuple[Applied, Exchange]]
    sent_ns: int
    due_ns: int
    """When it is to be taken back, or tried again to be."""
    give_up_ns: int
    answer: Applied | None = None
    why: str = ""
    failed_call: int = 0
    """The call's first line where it failed, and may hold all the same."""
    settled_ns: int = 0
    """Before that it is not taken back, however late it was begun."""


@dataclass(slots=True)
class Played:
    """What became of a schedule so far. Written by the script alone."""

    started_ns: int = 0
    windows: dict[int, Window] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    unhealed: list[str] = field(default_factory=list)


class Actor:
    """Plays schedules, one at a time."""

    def __init__(self, boot_id: str, patience_s: float) -> None:
        self.played = Played()
        self._boot_id = boot_id
        self._patience_ns = round(patience_s * 1e9)
        self._addresses: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._open: list[_Strike] = []
        self._clock = OwnClock(boot_id)

    def script(self, schedule: Schedule, members: Sequence[MemberState]) -> Script:
        """Plays a schedule upon the job's members, of whom it must be; heals whatever happens meanwhile.

        Raises NotHealed, and what no later event could do better: CannotDoIt, NoSuchMember, JobNotRunning.
        """
        self.played, self._open = Played(), []
        failed: Exception | None = None
        try:
            self._know(members)
            yield from self._play(schedule)
        except Exception as error:  # noqa: BLE001 - raised again below, once all is healed
            failed = error
        for strike in self._open:
            strike.due_ns, strike.give_up_ns = strike.settled_ns, monotonic_now() + self._patience_ns
        while self._open:
            yield from self._take_back_what_is_due()
            if self._open:
                yield Wait(min(strike.due_ns for strike in self._open), stops=False)
        if failed is not None:
            for text in self.played.unhealed:
                failed.add_note(f"not healed: {text}")
            raise failed
        if self.played.unhealed:
            raise NotHealed(tuple(self.played.unhealed))

    def _know(self, members: Sequence[MemberState]) -> None:
        self._names = {member.address: member.task for member in members}
        self._addresses = {member.task: member.address for member in members}
        self._addresses.update((address, address) for address in self._names)

    def _play(self, schedule: Schedule) -> Script:
        for _ in range(_PINGS):
            yield from self._ping()
        self.played.started_ns = zero = monotonic_now()
        waiting = list(enumerate(schedule))
        while waiting or self._open:
            yield from self._take_back_what_is_due()
            if waiting and zero + waiting[0][1].at_ms * 1_000_000 <= monotonic_now():
                yield from self._begin(*waiting.pop(0), zero)
                continue
            times = [strike.due_ns for strike in self._open]
            times += [zero + event.at_ms * 1_000_000 for _, event in waiting[:1]]
            if times and (yield Wait(min(times))):
                return

    def _begin(self, number: int, event: Event, zero: int) -> Script:
        length_s = (event.until_ms - event.at_ms) / 1e3
        call = timed(call_of(event, self._addresses, length_s + LEASE_BEYOND_S))
        due = zero + event.until_ms * 1_000_000
        strike = _Strike(number, event, call, monotonic_now(), due, due + self._patience_ns)
        self._open.append(strike)
        try:
            answer, exchange = yield Do(call, min(_LONGEST_START_S, max(1.0, length_s)))
        except _NOT_NOW as error:
            strike.why = str(error)
            self._let_settle(strike, monotonic_now())
            if self._may_hold_though_failed(strike, error):
                return
            # At a single member these say that nothing was done: one that ended by itself is to stay so.
            nothing = len(event.targets) == 1 and isinstance(error, TaskDead | TooManyFaults)
            if isinstance(error, _MAY_HOLD) or (event.kind in _LIVES and not nothing):
                return  # a half-failed kill, or one that nobody knows of, is taken back as a whole one
            self._over(strike)
            self._refuse(strike)
        except BaseException:
            self._over(strike)
            self._refuse(strike)
            raise
        else:
            if answer.already:  # by somebody else: nothing of ours is to be taken back
                strike.why = "it was so already"
                self._over(strike)
                self._refuse(strike)
                return
            self._held(strike, answer, exchange)
            self._let_settle(strike, exchange.received_ns)
            yield from self._ping(FRESH_NS)

    def _let_settle(self, strike: _Strike, over_ns: int) -> None:
        """Leaves whom a signal may end a moment for it, from when its call was answered or failed."""
        event = strike.event
        if event.kind == "signal":
            half_ns = (event.until_ms - event.at_ms) * 500_000
            strike.settled_ns = over_ns + min(_SETTLE_NS, half_ns)
            strike.due_ns = max(strike.due_ns, strike.settled_ns)

    def _may_hold_though_failed(self, strike: _Strike, error: SyndicateError) -> bool:
        """Whether the call that failed is to be healed, as soon as may be: nobody says it holds nowhere."""
        if isinstance(error, FaultFailed) and error.metadata.get("call_id", "").isdecimal():
            strike.failed_call = int(error.metadata["call_id"])
            strike.due_ns, strike.why = strike.settled_ns, str(error)
        return bool(strike.failed_call)

    def _take_back_what_is_due(self) -> Script:
        for strike in sorted(self._open, key=lambda strike: strike.due_ns):
            if strike.due_ns > monotonic_now():
                continue
            try:
                yield from self._take_back(strike)
            except (JobNotRunning, AttemptEnded):
                self._end(strike, None, monotonic_now(), 0)  # the job's end heals all
            except _NOT_NOW as error:
                self._try_again(strike, error)
            except SyndicateError as error:  # ClientFinished, and what nobody expects
                self._give_up(strike, error)

    def _try_again(self, strike: _Strike, error: ChaosError) -> None:
        now = monotonic_now()
        if now >= strike.give_up_ns:
            self._give_up(strike, error)
        else:
            strike.due_ns = now + _PAUSE_NS

    def _give_up(self, strike: _Strike, error: SyndicateError) -> None:
        self._over(strike)
        names = ", ".join(self._named(strike.event.targets))
        self.played.unhealed.append(f"{strike.event.kind} of {names} ({error})")

    def _take_back(self, strike: _Strike) -> Script:
        """Takes back what an event did, or may have done."""
        if strike.event.kind in _LIVES:
            yield from self._revive(strike)
            return
        if strike.failed_call:
            yield from self._heal_what_failed(strike)
            return
        if strike.answer is None:
            # The same request again tells what became of it: it happens once. A refusal says that nothing
            # holds.
            try:
                answer, exchange = yield Do(strike.call, _TRY_S)
            except (*_MAY_HOLD, JobNotRunning, AttemptEnded, ClientFinished):
                raise
            except SyndicateError as error:
                if self._may_hold_though_failed(strike, error):
                    yield from self._heal_what_failed(strike)
                    return
                strike.why = str(error)
                self._over(strike)
                self._refuse(strike)
                return
            self._held(strike, answer, exchange)
        answer = strike.answer
        assert answer is not None  # noqa: S101 - for the type checker: it was asked for above
        if not answer.fault_ids:
            self._end(strike, None, monotonic_now(), 0)
            return
        sent = monotonic_now()
        healed, exchange = yield Do(timed(_calls.heal(_calls.new_id(), answer.fault_ids)), _TRY_S)
        self._end(strike, healed, sent, exchange.received_ns - sent)

    def _heal_what_failed(self, strike: _Strike) -> Script:
        """Takes back what is left of a call that failed: it held for a while, nobody knows since when."""
        sent = monotonic_now()
        heal = timed(_calls.heal(_calls.new_id(), (strike.failed_call,)))
        healed, exchange = yield Do(heal, _TRY_S)
        if healed.members:
            self._end(strike, healed, sent, exchange.received_ns - sent)
        else:
            self._over(strike)
        self._refuse(strike)

    def _revive(self, strike: _Strike) -> Script:
        addresses = [self._addresses[name] for name in strike.event.targets]
        with_disk = bool(strike.event.options.get("with_disk", True))
        sent = monotonic_now()
        try:
            revived, exchange = yield Do(timed(_calls.revive(_calls.new_id(), addresses, with_disk)), _TRY_S)
        except TaskAlive:
            # Some live, as after a half-failed kill: the others one by one.
            for address in addresses:
                try:
                    yield Do(_calls.revive(_calls.new_id(), address, with_disk), _TRY_S)
                except TaskAlive:
                    continue
            self._end(strike, None, sent, monotonic_now() - sent)
            return
        self._end(strike, revived, sent, exchange.received_ns - sent)

    def _held(self, strike: _Strike, answer: Applied, exchange: Exchange) -> None:
        strike.answer = answer
        took = exchange.received_ns - strike.sent_ns
        times = [self._clock.when_held(member, strike.sent_ns, took) for member in answer.members]
        start, error = min(times, default=(strike.sent_ns + took // 2, took // 2 + 1))
        struck = strike.event.targets
        if strike.event.kind == "partition":
            struck = tuple(member.ip for member in answer.members) or struck
        self.played.windows[strike.number] = Window(
            strike.event.kind, self._named(struck), start, None, error, strike.number, answer.fault_ids
        )

    def _end(self, strike: _Strike, answer: Applied | None, sent_ns: int, took_ns: int) -> None:
        self._over(strike)
        begun = self.played.windows.get(strike.number)
        if begun is None:  # no call about it was answered, and now it holds no more
            begun = Window(
                strike.event.kind, self._named(strike.event.targets), strike.sent_ns, None, 0, strike.number,
                certain=False,
            )  # fmt: skip
        members = answer.members if answer is not None else ()
        times = [self._clock.when_held(member, sent_ns, took_ns) for member in members if not member.already]
        end, error = max(times, default=(sent_ns + took_ns // 2, took_ns // 2 + 1))
        self.played.windows[strike.number] = replace(
            begun, end_ns=max(end, begun.start_ns), error_ns=max(error, begun.error_ns)
        )

    def _over(self, strike: _Strike) -> None:
        self._open.remove(strike)

    def _refuse(self, strike: _Strike) -> None:
        names = self._named(strike.event.targets)
        self.played.refused.append(Refused(strike.event.kind, names, strike.number, strike.why))

    def _named(self, targets: Sequence[str]) -> tuple[str, ...]:
        return tuple(self._names.get(target, target) for target in targets)

    def _ping(self, every_ns: int = 0) -> Script:
        """Learns how this clock stands to the manager's, unless it did so lately."""
        if not self._clock.is_older_than(every_ns):
            return
        try:
            pong = yield Do(_calls.ping(self._boot_id), 1.0)
        except _MAY_HOLD:
            return  # the ends of each call bound its effect too
        self._clock.learn(pong.clock)


def seconds_until(ns: int) -> float:
    """From now to a time of ``monotonic_now``; 0 where it is over."""
    return max(0.0, (ns - monotonic_now()) / 1e9)


__all__ = [
    "Actor",
    "Do",
    "Played",
    "Refused",
    "Script",
    "Wait",
    "Window",
    "seconds_until",
]
