"""Waiting on the loop until every process of a cgroup is frozen."""

from __future__ import annotations

import asyncio
import os

from .cgroups import Cgroup
from .patience import Patience

_LOOKS = 20  # one after the other, between which the loop does what else there is
_LOOK_SECONDS = 0.001
_LONGEST_SECONDS = 0.016
_MOST_SECONDS = 0.1  # that a look which comes late uses up


async def frozen(cgroup: Cgroup, seconds: float, stop: asyncio.Event) -> bool:
    """Whether all of it is frozen, waiting so long (see Patience), or until `stop`; so is one that is empty.

    By looking: the kernel tells changes of cgroup.events at most every 10 ms, and most processes freeze in a
    tenth of one. One that waits for a device cannot before that is done. Raises OSError.
    """
    events = os.open(cgroup.path / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(_LOOKS):
            if _is_frozen(events):
                return True
            await asyncio.sleep(0)
        return await _look_on(events, Patience(seconds, _MOST_SECONDS), stop)
    finally:
        os.close(events)


async def _look_on(events: int, patience: Patience, stop: asyncio.Event) -> bool:
    pause = _LOOK_SECONDS
    while not _is_frozen(events):
        if stop.is_set() or patience.left() <= 0:
            return False
        try:
            async with asyncio.timeout(pause):
                await stop.wait()
        except TimeoutError:
            pause = min(pause * 2, _LONGEST_SECONDS)
    return True


def _is_frozen(events: int) -> bool:
    try:
        return b"frozen 1" in os.pread(events, 256, 0)
    except OSError:  # ENODEV: it was removed meanwhile, and so had no process left
        return True
