"""What a sync server tells, as values of the local protocol.

It has parsed what tasks sent, so nothing that it says is believed before it was looked at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from .. import frames
from ..local import (
    MAX_ROUNDS,
    BarrierEnd,
    BarrierRound,
    BarriersTold,
    BarrierTask,
    EventFrame,
    OpenBarrier,
    Stamp,
    TaskId,
)
from ..sync.core.barriers import BARRIERS_MAX
from ..sync.core.effects import Room

_FULL: Final = {
    Room.TCP: "no room for more who wait over TCP: they get 76 until somebody leaves",
    Room.UDP: "no room for more who wait over UDP: they are not heard until somebody leaves",
    Room.BARRIERS: "no room for more barriers: who names another gets 76 until one has ended",
}


class BadAccount(ValueError):
    """A line that no server of ours tells, or its last, for what it fails."""


def told(line: bytes, slot: int, task: TaskId, now: Stamp) -> BarriersTold | None:
    """An account, None for any other event but the server's own failure. Raises BadAccount."""
    try:
        document = json.loads(line)
        if document["event"] == "failed":
            why = f"{document['why']!a:.200}"
            raise BadAccount(f"the sync server failed, all its barriers are gone: {why}")
        if document["event"] != "rounds":
            return None
        account = BarriersTold(
            slot,
            task,
            tuple(_round(each, now) for each in document["rounds"]),
            document["total"],
            tuple(_open(each, now) for each in document["open"]),
            document["more_open"],
            _trouble([Room(each) for each in document["full"]]),
        )
        if len(account.rounds) > MAX_ROUNDS or len(account.open) > MAX_ROUNDS:
            raise ValueError("it names more than any server of ours does")
        frames.encode(EventFrame(account))  # which knows what each field may hold
    except BadAccount:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadAccount(f"the sync server told what is no account: {error!r:.200}") from error
    return account


def drop_done(line: bytes, number: int) -> int | None:
    """How many barriers the order to drop of this number came to; None for any other line.

    Raises BadAccount. The line is one that `told` took.
    """
    document = json.loads(line)
    if document["event"] != "drop" or document.get("number") != number:
        return None
    dropped = document.get("dropped")
    if type(dropped) is not int or not 0 <= dropped <= BARRIERS_MAX:
        raise BadAccount(f"the sync server told what is no answer to a drop: {dropped!r:.200}")
    return dropped


def is_answer(line: bytes) -> bool:
    """Whether an account is what was asked for, and not told of the server's own accord."""
    return json.loads(line).get("asked") is True


def _round(given: dict[str, Any], now: Stamp) -> BarrierRound:
    return BarrierRound(
        given["barrier"],
        BarrierEnd(given["end"]),
        _stamp(given["began_ns"], now),
        _stamp(given["ended_ns"], now),
        given["error"],
        _tasks(given["inits"]),
        _tasks(given["tasks"]),
        given["others"],
        given["left"],
        given["rounds"],
    )


def _open(given: dict[str, Any], now: Stamp) -> OpenBarrier:
    return OpenBarrier(
        given["barrier"],
        _stamp(given["since_ns"], now),
        given["remaining"],
        _tasks(given["inits"]),
        _tasks(given["tasks"]),
        given["others"],
        tuple(given["missing"]),
        given["more_missing"],
        given["abandoned"],
        _tasks(given["held"]),
    )


def _trouble(full: Sequence[Room]) -> str:
    return f"the sync server has {', and '.join(_FULL[room] for room in full[: len(Room)])}" if full else ""


def _tasks(given: dict[str, int]) -> tuple[BarrierTask, ...]:
    return tuple(BarrierTask(task, count) for task, count in given.items())


def _stamp(at_ns: int, now: Stamp) -> Stamp:
    """An instant of the past, of the keeper's own clocks."""
    at_ns = min(max(at_ns, 0), now.monotonic_ns)
    return Stamp(now.boot_id, at_ns, now.utc_ns - (now.monotonic_ns - at_ns))
