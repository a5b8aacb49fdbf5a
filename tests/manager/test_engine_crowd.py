"""Calls that may wait for others: a crowd is handled together, who is alone at once, nobody for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest
from syndicate.manager import crowd, engine
from syndicate.manager.clock import Clock
from syndicate.manager.core.effects import FaultReply, Reply, Step
from syndicate.manager.core.errors import Away, TooLate
from syndicate.manager.core.events import CallGone, Event, Tick
from syndicate.manager.core.machine import Machine
from syndicate.manager.core.model import Config, Stamp
from syndicate.manager.core.records import EpochRecord, Record
from syndicate.manager.engine import Engine
from syndicate.manager.store import Store

from tests.manager.scripted import WAIT_S
from tests.manager.test_engine import Disk


@dataclass
class Ask:
    """What calls ask here."""

    call: int


class Answering:
    """A machine that answers each, and saves the number of the call where `saves` is set."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.gone: list[int] = []
        self.saves = True
        self.broken_at = 0

    def handle(self, event: Event, now: Stamp) -> Step:
        if isinstance(event, Tick):
            return Step([], [])
        if isinstance(event, CallGone):
            self.gone.append(event.call)
            return Step([], [])
        call = cast(Ask, event).call
        if call == self.broken_at:
            raise AssertionError("the machine found itself wrong")
        self.asked.append(call)
        saves = [EpochRecord(call)] if self.saves else []
        return Step(list(saves), [Reply(call, FaultReply(call, False, None, None, 0, 1))])

    def next_wake(self) -> int | None:
        return None


class Callers:
    """Those who call an engine; `written` has the calls of each submission to the store."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.machine, self.disk = Answering(), Disk()
        self.engine = Engine(cast(Machine, self.machine), cast(Config, None), cast(Store, self.disk), Clock())
        self.engine.start()
        self._tasks = tasks

    async def come(self, count: int, within_s: float | None = None) -> list[asyncio.Task[object]]:
        """So many call now, one after the other, and have come as far as they get."""
        calls = [self._tasks.create_task(self._call(within_s)) for _ in range(count)]
        await asyncio.sleep(0)
        return calls

    async def _call(self, within_s: float | None) -> object:
        try:
            return await self.engine.call(lambda call: cast(Event, Ask(call)), within_s, in_crowd=True)
        except (Away, TooLate) as error:
            return error

    @property
    def written(self) -> list[list[int]]:
        """Calls of each submission to the store."""
        return [[cast(EpochRecord, record).epoch for record in group] for group in self.disk.groups]


@asynccontextmanager
async def callers() -> AsyncIterator[Callers]:
    """Some; at the end the manager stops, and each has an answer."""
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
        found = Callers(tasks)
        yield found
        found.engine.stop()


@pytest.fixture(autouse=True)
def _no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is let go on by time, but where a test asks for it."""
    monkeypatch.setattr(crowd, "EACH_S", WAIT_S)
    monkeypatch.setattr(crowd, "LONGEST_S", WAIT_S)
    # All of a test's calls come at once, whatever the machine does meanwhile.
    monkeypatch.setattr(crowd, "CROWD_WITHIN_S", WAIT_S)


def numbers(first: int, last: int) -> list[int]:
    """Those of calls."""
    return list(range(first, last + 1))


async def test_a_few_are_handled_as_they_come() -> None:
    """Each by itself."""
    async with callers() as found:
        calls = await found.come(crowd.CROWD - 1)
        assert found.written == [[number] for number in numbers(1, 7)]

        found.disk.sync()
        await asyncio.wait(calls)


async def test_those_who_come_slowly_are_no_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are: eight count where they come within some milliseconds."""
    monkeypatch.setattr(crowd, "CROWD_WITHIN_S", -1.0)
    async with callers() as found:
        await found.come(20)
        assert found.written == [[number] for number in numbers(1, 20)]


async def test_a_crowd_is_handled_together_and_then_all_of_it() -> None:
    """The first eight of those who wait; then, once these are answered, as many as were seen."""
    async with callers() as found:
        await found.come(7 + 20)
        assert found.written == [*([n] for n in numbers(1, 7)), numbers(8, 15)]

        # Twelve wait, and eight were answered: nothing goes on before the twentieth.
        found.disk.sync()
        await found.come(7)
        assert len(found.written) == 8
        await found.come(1)
        assert found.written[8:] == [numbers(16, 35)]
        assert found.machine.asked == numbers(1, 35)


async def test_who_comes_while_the_disk_is_busy_waits_for_the_answers_of_the_others() -> None:
    """However many they are: what they are handled for cannot be written yet."""
    async with callers() as found:
        await found.come(7 + 8)
        await found.come(50)
        assert len(found.written) == 8

        found.disk.sync()
        await found.come(8)
        assert found.written[8:] == [numbers(16, 73)]


async def test_so_many_wait_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are handled while the disk is busy: a thousand open calls are no row of commits."""
    monkeypatch.setattr(crowd, "MOST", 10)
    async with callers() as found:
        await found.come(7 + 8 + 25)
        assert found.written[8:] == [numbers(16, 25), numbers(26, 35)]

        # Five wait until all of those are answered, and then for five more.
        found.disk.sync()
        assert len(found.written) == 10
        await found.come(5)
        assert found.written[10:] == [numbers(36, 45)]


async def test_many_records_are_told_when_the_last_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch may be more than one submission to the store: all of it is answered before others go."""
    monkeypatch.setattr(engine, "_MOST_GATHERED", 6)
    async with callers() as found:
        calls = await found.come(7 + 8)
        assert found.written[7:] == [numbers(8, 13), numbers(14, 15)]

        found.disk.durable = 8
        found.disk.tell(8)
        await found.come(8)
        assert [call.done() for call in calls] == [True] * 13 + [False] * 2
        assert len(found.written) == 9
        found.disk.sync()
        await found.come(8)
        assert found.machine.asked == numbers(1, 31)


@pytest.mark.parametrize(("bound", "s"), [("EACH_S", 0.0001), ("LONGEST_S", 0.001)])
async def test_those_who_stay_away_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, bound: str, s: float
) -> None:
    """Some milliseconds later those who are there are handled, and the crowd is over."""
    monkeypatch.setattr(crowd, bound, s)
    async with callers() as found:
        await found.come(7 + 8 + 3)
        found.disk.came.clear()
        found.disk.sync()

        await found.disk.came.wait()
        assert found.written[8:] == [numbers(16, 18)]
        monkeypatch.setattr(crowd, bound, WAIT_S)
        found.disk.sync()
        await found.come(1)
        assert found.written[9:] == [[19]]


async def test_what_others_write_keeps_nobody_waiting() -> None:
    """Nor does it let anybody go: only the answers of a crowd say who is expected, once."""
    async with callers() as found:
        await found.come(7 + 8)
        found.disk.sync()
        await found.come(4)
        found.engine.handle(cast(Event, Ask(100)))
        found.disk.sync()
        await found.come(4)
        assert found.written[8:] == [[100], numbers(16, 23)]


async def test_a_crowd_that_is_handled_has_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would let the next one go before its time."""
    loop, timers = asyncio.get_running_loop(), list[asyncio.TimerHandle]()
    later = loop.call_later

    def noted(delay: float, call: Callable[..., object], *told: Any, **more: Any) -> asyncio.TimerHandle:
        timer = later(delay, call, *told, **more)
        if isinstance(getattr(call, "__self__", None), crowd.Crowd):
            timers.append(timer)
        return timer

    monkeypatch.setattr(loop, "call_later", noted)
    async with callers() as found:
        for count in (7 + 8, 8):
            await found.come(count)
            assert all(timer.cancelled() for timer in timers)
            found.disk.sync()
            assert [timer.cancelled() for timer in timers[-2:]] == [True, False]


async def test_refusals_hold_nobody_up() -> None:
    """Where nothing is to be written the answers are there at once, and the crowd goes on."""
    async with callers() as found:
        found.machine.saves = False
        first = await found.come(7 + 8)
        await asyncio.wait(first)
        assert found.machine.asked == numbers(1, 15)

        await found.come(7)
        assert found.machine.asked == numbers(1, 15)
        await asyncio.wait(await found.come(1))
        assert found.machine.asked == numbers(1, 23)
        assert found.written == []


async def test_who_leaves_was_never_there() -> None:
    """Nothing is handled of a call that ended while it waited, and the machine is not told of it."""
    async with callers() as found:
        await found.come(7 + 8)
        found.disk.sync()
        leaving = (await found.come(4))[1]
        leaving.cancel()
        await asyncio.wait([leaving])
        await found.come(5)

        assert found.machine.asked == [*numbers(1, 16), *numbers(18, 24)]
        assert found.machine.gone == []


async def test_who_leaves_after_it_was_handled_is_gone() -> None:
    """The machine hears of it, as of any other call."""
    async with callers() as found:
        calls = await found.come(7 + 8)
        calls[10].cancel()
        await asyncio.wait([calls[10]])

        assert found.machine.gone == [11]


async def test_who_waits_too_long_was_never_there() -> None:
    """It is told so, and nothing of it is handled later."""
    async with callers() as found:
        await found.come(7 + 8)
        late = (await found.come(1, within_s=0.001))[0]
        await asyncio.wait([late])
        assert cast(TooLate, late.result()).reason == "NO_ANSWER"

        found.disk.sync()
        await found.come(8)
        assert found.machine.asked == [*numbers(1, 15), *numbers(17, 24)]
        assert found.machine.gone == []


async def test_a_stop_answers_who_waits() -> None:
    """With the remedy; nothing of it is handled any more, and what was is written."""
    async with callers() as found:
        handled = await found.come(7 + 8)
        found.disk.sync()
        await asyncio.wait(handled)
        waiting = await found.come(5)

        found.engine.stop()

        await asyncio.wait(waiting)
        assert {cast(Away, call.result()).reason for call in waiting} == {"MANAGER_AWAY"}
        late = await found.come(20)
        assert {cast(Away, call.result()).reason for call in late} == {"MANAGER_AWAY"}
        assert found.machine.asked == numbers(1, 15)


async def test_a_machine_that_is_wrong_stops_all_of_them() -> None:
    """Those before and behind: who was not answered asks the next manager again, by the same request id."""
    async with callers() as found:
        found.machine.broken_at = 11
        calls = await found.come(7 + 8)
        await asyncio.wait(calls)

        assert isinstance(found.engine.failed.result(), AssertionError)
        assert {cast(Away, call.result()).reason for call in calls} == {"MANAGER_AWAY"}
        assert found.machine.asked == numbers(1, 10)


async def test_whatever_else_goes_wrong_stops_all_of_them_too() -> None:
    """Those behind would else wait for ever, and so would everybody who comes later."""
    async with callers() as found:
        trouble = OSError("the log cannot be written")

        def tell(records: Sequence[Record], _: Stamp) -> None:
            if records == [EpochRecord(11)]:
                raise trouble

        found.engine.watchers.append(tell)
        calls = await found.come(7 + 8 + 3)
        await asyncio.wait(calls)

        assert found.engine.failed.result() is trouble
        assert {cast(Away, call.result()).reason for call in calls} == {"MANAGER_AWAY"}
