"""Networks of several slots that are changed in one turn of the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from keeper.harness import SECONDS, KeeperProcess, linked, makefile, network_instance
from syndicate.volunteer.keeper.errors import KeeperError
from syndicate.volunteer.keeper.ground import Ground
from syndicate.volunteer.keeper.network import Network, NetworkError, SlotNetwork
from syndicate.volunteer.keeper.ordeal import Ordeal
from syndicate.volunteer.keeper.runs import Runs
from syndicate.volunteer.keeper.together import Together
from syndicate.volunteer.keeper.worker import Worker
from syndicate.volunteer.local import WHOLE, Kill, NetworkState, Release, Role, SetNetwork, TaskId

_CUT = NetworkState(cut=("10.88.0.9",))
_TASK = TaskId("c1", 7, 1, "master")
_THREE = [(cast(SlotNetwork, f"slot-{number}"), _CUT) for number in range(3)]
# A fabric whose kernel takes a change and does not say so, while a file is there.
_UNSURE = """
import os
from syndicate.volunteer.keeper.network import FabricNetwork, NetworkError

set_states = FabricNetwork.set_states

def unsure(self, changes):
    set_states(self, changes)
    if os.path.exists({path!r}):
        raise NetworkError("the kernel does not answer", 5)

FabricNetwork.set_states = unsure
"""
_SOURCE = {"Makefile": makefile("@exec sleep 1000") + "slave:\n\t@exec sleep 1000\n"}


class Kernel:
    """A network that notes what it was asked for at once, and refuses some slots."""

    def __init__(self, refused: Sequence[str] = (), brief: bool = False) -> None:
        self.refused = refused
        self.brief = brief
        self.asked: list[list[str]] = []
        self.threads: set[int] = set()

    def is_brief(self, changes: Sequence[tuple[str, NetworkState]]) -> bool:
        return self.brief

    def set_states(self, changes: Sequence[tuple[str, NetworkState]]) -> None:
        self.threads.add(threading.get_ident())
        self.asked.append([slot for slot, _ in changes])
        for slot, _ in changes:
            if slot in self.refused:
                raise NetworkError(f"{slot} is refused")


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    """One for each of three slots."""
    made = [Worker(f"syn-test-{number}") for number in range(3)]
    yield made
    for worker in made:
        worker.close()


async def _set_all(kernel: Kernel, workers: list[Worker], state: NetworkState = _CUT) -> list[str]:
    """What each of three slots is told that are asked for in one turn; empty for done."""
    together = Together(cast(Network, kernel))

    async def told(number: int) -> str:
        network = cast(SlotNetwork, f"slot-{number}")
        try:
            await together.set_state(workers[number], network, state)
        except KeeperError as error:
            return error.detail
        return ""

    async with asyncio.timeout(SECONDS):
        return await asyncio.gather(*(told(number) for number in range(3)))


async def test_what_is_asked_for_in_one_turn_is_made_at_once(workers: list[Worker]) -> None:
    """Three slots are one change of the kernel's."""
    kernel = Kernel()

    told = await _set_all(kernel, workers)

    assert kernel.asked == [["slot-0", "slot-1", "slot-2"]]
    assert told == ["", "", ""]
    assert threading.get_ident() not in kernel.threads


async def test_what_is_brief_is_made_on_the_loop(workers: list[Worker]) -> None:
    """No thread is woken for it, and one that is refused stops no other there either."""
    kernel = Kernel(refused=["slot-1"], brief=True)

    told = await _set_all(kernel, workers)

    assert kernel.asked == [["slot-0", "slot-1", "slot-2"], ["slot-0"], ["slot-1"], ["slot-2"]]
    assert told == ["", "slot-1 is refused", ""]
    assert kernel.threads == {threading.get_ident()}


def test_what_is_brief_is_made_without_waiting() -> None:
    """All in one change; where one is refused each is made by itself."""
    kernel = Kernel(refused=["slot-1"], brief=True)

    outcomes = Together(cast(Network, kernel)).set_at_once(_THREE)

    assert outcomes is not None
    assert [error.detail if error else "" for error in outcomes] == ["", "slot-1 is refused", ""]
    assert kernel.asked == [["slot-0", "slot-1", "slot-2"], ["slot-0"], ["slot-1"], ["slot-2"]]


def test_what_is_not_brief_is_left_alone_by_who_does_not_wait() -> None:
    """Nothing is made; it is to be asked for by who can wait."""
    kernel = Kernel(brief=False)

    assert Together(cast(Network, kernel)).set_at_once(_THREE) is None
    assert kernel.asked == []


@pytest.fixture
def ordeal(workers: list[Worker]) -> Ordeal:
    """Of a slot whose network takes everything."""
    ground = SimpleNamespace(network=cast(SlotNetwork, "slot-0"))
    networks = Together(cast(Network, Kernel(brief=True)))
    return Ordeal(workers[0], cast(Ground, ground), cast(Runs, None), networks)


async def test_a_change_that_is_only_thought_of_leaves_all_as_it_was(ordeal: Ordeal) -> None:
    """Whose network it would be is asked before it is known whether it is made at once."""
    asked = SetNetwork(0, _TASK, _CUT)
    assert not (await ordeal.undergo(asked)).already

    assert ordeal.network_for(WHOLE) is not None

    assert (await ordeal.undergo(asked)).already


async def test_after_a_change_that_failed_nothing_is_taken_for_granted(ordeal: Ordeal) -> None:
    """The kernel may have taken it all the same: what held is made again."""
    asked = SetNetwork(0, _TASK, _CUT)
    await ordeal.undergo(asked)

    ordeal.doubt_network()

    assert not (await ordeal.undergo(asked)).already


async def test_one_that_is_refused_stops_no_other(workers: list[Worker]) -> None:
    """Each is made by itself then, and has its own answer."""
    kernel = Kernel(refused=["slot-1"])

    told = await _set_all(kernel, workers)

    assert kernel.asked == [["slot-0", "slot-1", "slot-2"], ["slot-0"], ["slot-1"], ["slot-2"]]
    assert told == ["", "slot-1 is refused", ""]


async def test_an_error_of_this_code_is_told_to_each(workers: list[Worker]) -> None:
    """A broken invariant is no refusal: it goes on in all who wait."""
    together = Together(cast(Network, object()))

    async with asyncio.timeout(SECONDS):
        outcomes = await asyncio.gather(
            *(together.set_state(worker, cast(SlotNetwork, "slot"), WHOLE) for worker in workers),
            return_exceptions=True,
        )

    assert [type(outcome) for outcome in outcomes] == [AttributeError] * 3


async def test_one_that_is_given_up_keeps_no_other_from_its_answer(workers: list[Worker]) -> None:
    """The change is made all the same."""
    kernel = Kernel()
    together = Together(cast(Network, kernel))
    networks = [cast(SlotNetwork, f"slot-{number}") for number in range(2)]
    first, second = (
        asyncio.create_task(together.set_state(workers[0], network, _CUT)) for network in networks
    )
    await asyncio.sleep(0)  # both have asked

    first.cancel()
    async with asyncio.timeout(SECONDS):
        await second

    assert kernel.asked == [["slot-0", "slot-1"]]
    assert first.cancelled()


@pytest.fixture
def own(folder: Path) -> Iterator[KeeperProcess]:
    """A keeper with two slots of the test's own."""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=2)
    keeper.start()
    yield keeper
    keeper.stop()


async def test_requests_that_come_together_keep_their_slots_order(own: KeeperProcess) -> None:
    """Cuts of two slots, a kill, a heal and a release, sent in one write: each slot's in their order."""
    async with linked(own) as link:
        await link.renew()
        master = link.task(_SOURCE)
        slave = link.task(_SOURCE, Role.SLAVE, slot=1)
        for task in (master, slave):
            await task.begin()
        stranger = TaskId("c1", 99, 1, "slave-0")

        replies = await asyncio.gather(
            link.ask(SetNetwork(0, master.id, NetworkState(cut=(slave.address,)))),
            link.ask(SetNetwork(1, stranger, WHOLE)),
            link.ask(SetNetwork(1, slave.id, NetworkState(cut=(master.address,)))),
            link.ask(Kill(0, master.id, 1)),
            link.ask(SetNetwork(0, master.id, NetworkState(cut=(slave.address,)))),
            link.ask(SetNetwork(1, slave.id, WHOLE)),
            link.ask(Release(0, master.id)),
        )
        suffered = (await link.sync()).slots[1].network

    told = [getattr(reply, "already", type(reply).__name__) for reply in replies]
    assert told == [False, "Refused", False, False, True, False, False]
    assert suffered == WHOLE


async def test_what_held_before_a_change_that_failed_is_made_again(folder: Path) -> None:
    """It was asked for at once, and it is not known what the kernel made of it."""
    hindrance = folder / "hindrance"
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=1)
    keeper.start_changed(_UNSURE.format(path=str(hindrance)))
    try:
        async with linked(keeper) as link:
            task = link.task(_SOURCE)
            await task.begin()
            cut, heal = SetNetwork(0, task.id, _CUT), SetNetwork(0, task.id, WHOLE)
            await link.do(cut)
            hindrance.touch()
            await link.refused(heal)
            hindrance.unlink()

            again = await link.do(cut)
            repeated = await link.do(cut)
    finally:
        keeper.stop()

    assert (again.already, repeated.already) == (False, True)
