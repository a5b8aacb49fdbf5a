"""Networks of several slots changed at once: what is asked for in one turn of the loop is done together.

Nothing waits for more to come: a call about many slots brings its requests in one read, and they reach this
in one call, or in one turn where they have to wait for their slots. One transaction of the kernel for all of
them takes little longer than one for a single slot. What takes the kernel some tenths of a millisecond is
made on the loop: to hand it to a thread and back takes as long, and longer where both processors are busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from ..local import NetworkState
from .errors import KeeperError, failed
from .network import Network, NetworkError, SlotNetwork
from .worker import Worker

_State = tuple[SlotNetwork, NetworkState]


@dataclass(frozen=True, eq=False)
class _Change:
    """One slot's; `made` is done when it holds, or has the KeeperError."""

    worker: Worker
    network: SlotNetwork
    state: NetworkState
    made: asyncio.Future[None]


class Together:
    """Changes of the networks of a keeper's slots. One for all of them; used on the loop."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._asked: list[_Change] = []

    async def set_state(self, worker: Worker, network: SlotNetwork, state: NetworkState) -> None:
        """Let a slot's network suffer exactly this; raises KeeperError, and then it is as it was.

        To be called in the slot's turn: nothing else uses its network until the return. `worker` is the
        slot's; a change that is not brief is made by that of the first slot of those that come together.
        """
        loop = asyncio.get_running_loop()
        change = _Change(worker, network, state, loop.create_future())
        self._asked.append(change)
        if len(self._asked) == 1:
            loop.call_soon(self._begin)
        await change.made

    def set_at_once(self, states: Sequence[_State]) -> list[KeeperError | None] | None:
        """`set_state` of several without waiting, and what came of each; None if they are not brief.

        To be called while nothing uses these slots' networks.
        """
        if not self._network.is_brief(states):
            return None
        return self._make(states)

    def _begin(self) -> None:
        changes, self._asked = self._asked, []
        states = [(change.network, change.state) for change in changes]
        try:
            outcomes = self.set_at_once(states)
        except Exception as error:  # noqa: BLE001 - one of this code's own: it goes on in each who waits
            _tell(changes, [error] * len(changes))
            return
        if outcomes is not None:
            _tell(changes, outcomes)
            return
        made = changes[0].worker.submit(lambda: self._make(states))
        made.add_done_callback(lambda done: _tell_when(changes, done))

    def _make(self, states: Sequence[_State]) -> list[KeeperError | None]:
        """What came of each. Where not all can be made each is made by itself: one refused stops no other."""
        try:
            self._network.set_states(states)
        except (NetworkError, OSError) as error:
            if len(states) == 1:
                return [failed(str(error))]
            return [self._make([state])[0] for state in states]
        return [None] * len(states)


def _tell_when(changes: Sequence[_Change], done: asyncio.Future[list[KeeperError | None]]) -> None:
    error = done.exception()  # one of this code's own, as above
    _tell(changes, [error] * len(changes) if error is not None else done.result())


def _tell(changes: Sequence[_Change], outcomes: Sequence[BaseException | None]) -> None:
    for change, outcome in zip(changes, outcomes, strict=True):
        if change.made.done():  # its request was given up
            continue
        if outcome is None:
            change.made.set_result(None)
        else:
            change.made.set_exception(outcome)
