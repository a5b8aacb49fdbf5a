"""The loop of event, machine, store and effects: what waits for what, and what is written together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

import pytest
from syndicate.manager.clock import Clock
from syndicate.manager.core.effects import Changed, Command, FaultReply, Kill, Reply, Send, Step
from syndicate.manager.core.errors import Away, TooLate
from syndicate.manager.core.events import CallGone, Event, Tick
from syndicate.manager.core.machine import Machine
from syndicate.manager.core.model import Config, Stamp, TaskRef
from syndicate.manager.core.records import EpochRecord, Record
from syndicate.manager.engine import Engine, Link
from syndicate.manager.store import Store

from tests.manager.scripted import WAIT_S

JOB = 7
REF = TaskRef("c-1", JOB, 1, "slave-0", 1)
SEND = Send("session", Command("c-1-1", 1, REF, 0, Kill()))
HELD = Reply(1, FaultReply(1, False, None, None, 0, 1), before_commit=True)


class Script:
    """A machine that answers each event with the next step of its own."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def handle(self, event: Event, now: Stamp) -> Step:
        return Step([], []) if isinstance(event, Tick) else self.steps.pop(0)

    def next_wake(self) -> int | None:
        return None


class Disk:
    """A store that makes durable what it is told to."""

    def __init__(self) -> None:
        self.submitted = self.durable = 0
        self.full = False
        self.groups: list[list[Record]] = []
        self.came = asyncio.Event()
        self.trouble: Exception | None = None
        self.tell: Callable[[int], None] = lambda ticket: None

    def start(self, on_durable: Callable[[int], None], on_failure: Callable[[BaseException], None]) -> None:
        self.tell = on_durable

    def submit(self, records: Sequence[Record], patience_s: float = 0.0) -> int:
        if self.trouble is not None:
            raise self.trouble
        self.submitted += 1
        self.groups.append(list(records))
        self.came.set()
        return self.submitted

    def sync(self) -> None:
        """All that came is durable."""
        self.durable = self.submitted
        self.tell(self.durable)


class Wire:
    """A link that notes what is pushed."""

    def __init__(self) -> None:
        self.prepared: list[Send] = []
        self.pushed: list[Send] = []

    def prepare(self, effect: Send) -> Callable[[], None]:
        self.prepared.append(effect)
        return lambda: self.pushed.append(effect)

    def send(self, effect: Send) -> None:
        self.pushed.append(effect)

    def close(self, error: object) -> None:
        """Nothing is to be ended."""


class Bench:
    """An engine with all of these, in the test's loop."""

    def __init__(self) -> None:
        self.script, self.disk, self.wire = Script(), Disk(), Wire()
        self.engine = Engine(cast(Machine, self.script), cast(Config, None), cast(Store, self.disk), Clock())
        self.engine.links["session"] = cast(Link, self.wire)
        self.engine.start()

    def step(self, saves: Sequence[Record], *effects: Changed | Reply | Send) -> None:
        """An event whose step is this."""
        self.script.steps.append(Step(list(saves), list(effects)))
        self.engine.handle(CallGone(0))


def records(*epochs: int) -> list[Record]:
    """Some that can be told apart."""
    return [EpochRecord(epoch) for epoch in epochs]


async def test_what_nobody_waits_for_is_written_with_what_somebody_does() -> None:
    """The answers of one turn, and the intent behind them, are one submission, in their order."""
    bench = Bench()

    bench.step(records(1), Changed(JOB))
    bench.step(records(2), HELD, Changed(JOB))
    assert bench.disk.groups == []
    bench.step(records(3), SEND)

    assert bench.disk.groups == [records(1, 2, 3)]


async def test_it_is_written_soon_where_nobody_comes() -> None:
    """By a timer, all of it together; effects that wait for it come when it is durable."""
    bench = Bench()
    with bench.engine.changed.watch(JOB) as changed:
        bench.step(records(1), Changed(JOB))
        bench.step(records(2), Changed(JOB))
        await asyncio.wait_for(bench.disk.came.wait(), WAIT_S)

        assert bench.disk.groups == [records(1, 2)]
        assert not changed.is_set()
        bench.disk.sync()
        assert changed.is_set()


async def test_who_asks_for_what_is_durable_has_it_written() -> None:
    """A reader does not wait for the timer."""
    bench = Bench()
    bench.step(records(1), Changed(JOB))

    reader = asyncio.create_task(bench.engine.durable())
    await asyncio.sleep(0)

    assert bench.disk.groups == [records(1)]
    assert not reader.done()
    bench.disk.sync()
    await asyncio.wait_for(reader, WAIT_S)


async def test_a_command_waits_for_all_that_was_saved_before_it() -> None:
    """Also where its own step saves nothing; it is encoded meanwhile."""
    bench = Bench()
    bench.step(records(1), Changed(JOB))
    bench.step([], SEND)

    await asyncio.sleep(0)

    assert bench.disk.groups == [records(1)]
    assert (bench.wire.prepared, bench.wire.pushed) == ([SEND], [])
    bench.disk.sync()
    assert bench.wire.pushed == [SEND]


async def test_a_command_of_a_stream_that_ended_meanwhile_is_not_prepared() -> None:
    """Nothing is pushed to nobody; the next stream is told by the machine."""
    bench = Bench()
    bench.step(records(1), SEND)
    del bench.engine.links["session"]

    await asyncio.sleep(0)
    bench.disk.sync()

    assert (bench.wire.prepared, bench.wire.pushed) == ([], [])


async def test_much_of_it_is_written_at_once() -> None:
    """What is gathered has a bound."""
    bench = Bench()

    bench.step(records(*range(1, 1000)), Changed(JOB))

    assert [len(group) for group in bench.disk.groups] == [999]


async def test_a_stop_leaves_nothing_unwritten() -> None:
    """The store has all of it before it is closed."""
    bench = Bench()
    bench.step(records(1), Changed(JOB))

    bench.engine.stop()

    assert bench.disk.groups == [records(1)]


async def test_what_cannot_be_saved_is_not_told() -> None:
    """A record that is no row ends the manager; the command behind it stays."""
    bench = Bench()
    bench.disk.trouble = ValueError("no JSON")

    with pytest.raises(Away):
        bench.step(records(1), SEND)
    await asyncio.sleep(0)

    assert bench.engine.failed.result() is bench.disk.trouble
    with pytest.raises(Away):
        await bench.engine.durable()
    assert (bench.wire.prepared, bench.wire.pushed) == ([], [])


async def test_what_cannot_be_saved_ends_the_manager_by_the_timer_too() -> None:
    """Nobody waits for it, and nobody else would find out."""
    bench = Bench()
    bench.disk.trouble = ValueError("no JSON")
    bench.step(records(1), Changed(JOB))

    failed = await asyncio.wait_for(asyncio.shield(bench.engine.failed), WAIT_S)

    assert failed is bench.disk.trouble


async def test_a_call_that_is_never_answered_is_told_so() -> None:
    """After its time, and the machine hears that nobody waits for it any more."""
    bench = Bench()
    bench.script.steps += [Step([], []), Step([], [])]

    with pytest.raises(TooLate) as late:
        await asyncio.wait_for(bench.engine.call(CallGone, within_s=0.01), WAIT_S)

    assert late.value.reason == "NO_ANSWER"
    assert bench.script.steps == []


async def test_a_call_that_was_answered_is_not_late() -> None:
    """The machine hears nothing more of it."""
    bench = Bench()
    bench.script.steps += [Step([], [HELD]), Step([], [])]

    assert await asyncio.wait_for(bench.engine.call(CallGone, within_s=0.01), WAIT_S) == HELD.value
    await asyncio.sleep(0.05)

    assert bench.script.steps == [Step([], [])]
