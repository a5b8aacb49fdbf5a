"""A volunteer whose manager DNS tells: asked until there is an answer, and again while that manager is away.

No answer is believed for good, since it may be an old one, or a stranger's. What a stranger gains by it is
that the machine is away for a while: the manager is known by its certificate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

import structlog

from .retelling import Retelling
from .settled import BadSettings, Settled
from .whereabouts import NOBODY, NoAnswer, from_dns

_log = structlog.get_logger()


class Serving(Protocol):
    """A volunteer with its settings."""

    @property
    def is_welcomed(self) -> bool:
        """Whether its manager has welcomed it, and the stream stands."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set."""
        ...


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom to ask; how often at most, in seconds, until there is an answer, and `again_s` later."""

    ask: Callable[[], tuple[str, ...]] = from_dns
    pause_s: float = 10.0
    again_s: float = 30.0


async def serve(
    settings: Settled,
    stop: asyncio.Event,
    make: Callable[[Settled], Serving],
    waits: Callable[[], object],
    asking: Asking | None = None,
) -> None:
    """Serves until `stop` is set, at the manager that DNS names. `waits` is called where nobody answers yet.

    Where DNS names another one while there is no stream, the volunteer ends as it does when it is stopped,
    and begins anew: tasks run on in the keeper. Raises BadSettings where DNS knows no manager at the start,
    and what `run` raises.
    """
    asking = asking or Asking()
    # Only jitter is drawn from it; no secret is.
    random = Random()  # noqa: S311
    found = await _first(stop, asking, random, waits)
    while found and not stop.is_set():
        _log.info("manager.found", manager=found[0])
        found = await _serve_at(make(settings.at(found)), found, stop, asking, random)


async def _first(
    stop: asyncio.Event, asking: Asking, random: Random, waits: Callable[[], object]
) -> tuple[str, ...]:
    """Empty where it was stopped meanwhile."""
    trouble, waited = Retelling(), False
    while not stop.is_set():
        why = NOBODY
        try:
            found = await asyncio.to_thread(asking.ask)
            if found:
                return found
            if not waited:
                raise BadSettings(NOBODY)
        except NoAnswer as error:
            why += f", which does not answer: {error}"
        if not waited:
            waits()
            waited = True
        if trouble.tell(why, asyncio.get_running_loop().time()) is not None:
            _log.warning("manager.unknown", detail=why)
        try:
            async with asyncio.timeout(random.uniform(asking.pause_s / 2, asking.pause_s)):
                await stop.wait()
        except TimeoutError:
            continue
    return ()


async def _serve_at(
    volunteer: Serving, manager: tuple[str, ...], stop: asyncio.Event, asking: Asking, random: Random
) -> tuple[str, ...]:
    """Where it is to serve next; empty where it was stopped."""
    end = asyncio.Event()
    running = asyncio.create_task(volunteer.run(end))
    looking = asyncio.create_task(_another(volunteer, manager, asking, random))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        end.set()
        await running
        return looking.result() if looking.done() else ()
    finally:
        for task in (running, looking, stopping):
            task.cancel()
        await asyncio.wait({running, looking, stopping})


async def _another(
    volunteer: Serving, manager: tuple[str, ...], asking: Asking, random: Random
) -> tuple[str, ...]:
    """Another manager than this one, once DNS names it at a time when there is no stream."""
    while True:
        await asyncio.sleep(random.uniform(asking.again_s / 2, asking.again_s))
        if volunteer.is_welcomed:
            continue
        try:
            found = await asyncio.to_thread(asking.ask)
        except NoAnswer:
            continue  # as is said of the manager that is away
        if found and found != manager:
            _log.warning("manager.moved", manager=manager[0], now=found[0])
            return found
