"""What happens at the barriers, as flat documents: for the owner's JSON lines and for the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from .core.barriers import Standing
from .core.effects import Abandoned, Came, Dropped, Initialised, Left, Notice, Opened, Refused, TurnedAway
from .core.rounds import MOST_TASKS, Account, Round
from .core.transitions import BarrierState

Document = dict[str, object]

_SHOWN: Final = tuple(
    chr(byte) if 0x20 <= byte <= 0x7E and chr(byte) not in "'\\" else f"\\x{byte:02x}" for byte in range(256)
)


def document(notice: Notice, names: Mapping[str, str]) -> Document:
    """One notice. `names` has the task of each address; of others the address itself is told."""
    match notice:
        case Initialised(barrier, source, count, waits, remaining):
            told: Document = {"count": count, "waits": waits, "remaining": remaining}
            return _about("init", barrier, names.get(source, source), told)
        case Came(barrier, source, remaining):
            return _about("came", barrier, names.get(source, source), {"remaining": remaining})
        case Left(barrier, source, why, owner, remaining):
            told = {"why": why.value, "owner": owner, "remaining": remaining}
            return _about("left", barrier, names.get(source, source), told)
        case Abandoned(barrier, source, count):
            return _about("abandoned", barrier, names.get(source, source), {"told": count})
        case TurnedAway(barrier, source):
            return _about("turned-away", barrier, names.get(source, source), {})
        case Opened(barrier, error, tasks):
            return {"event": "opened", "barrier": text(barrier), "error": error, "tasks": named(tasks, names)}
        case Dropped(barrier, tasks):
            return {"event": "dropped", "barrier": text(barrier), "tasks": named(tasks, names)}
        case Refused(source, why, _):
            return {"event": "refused", "task": names.get(source, source), "why": why}


def listing(barriers: Iterable[Standing], names: Mapping[str, str]) -> list[Document]:
    """The open barriers. `missing`: the named tasks that neither wait there nor initialised it."""
    return [_listed(each, names) for each in barriers]


def _listed(barrier: Standing, names: Mapping[str, str]) -> Document:
    missing = _missing(barrier, names)
    return {
        "barrier": text(barrier.barrier),
        "state": barrier.state.value,
        "remaining": barrier.remaining,
        "held": barrier.held,
        "holders": named(barrier.holders, names),
        "owners": named(barrier.owners, names),
        "waiters": named(barrier.waiters, names),
        "missing": missing,
    }


def account(
    told: Account, open_now: Iterable[tuple[Standing, int]], more_open: int, names: Mapping[str, str]
) -> Document:
    """The rounds since the last account, and what is open now with when it began. Each list is bounded."""
    return {
        "event": "rounds",
        "rounds": [_round(each, names) for each in told.rounds],
        "more": told.more,
        "total": told.total,
        "open": [_open(each, since_ns, names) for each, since_ns in open_now],
        "more_open": more_open,
        "full": [room.value for room in told.full],
    }


def _round(ended: Round, names: Mapping[str, str]) -> Document:
    return {
        "barrier": text(ended.barrier),
        "end": ended.end.value,
        "began_ns": ended.began_ns,
        "ended_ns": ended.ended_ns,
        "error": ended.error,
        "inits": named(ended.inits, names),
        "tasks": named(ended.tasks, names),
        "others": ended.others,
        "left": ended.left,
        "rounds": ended.rounds,
    }


def _open(barrier: Standing, since_ns: int, names: Mapping[str, str]) -> Document:
    missing = _missing(barrier, names)
    return {
        "barrier": text(barrier.barrier),
        "since_ns": since_ns,
        "remaining": barrier.remaining,
        "inits": _some(named(barrier.owners, names)),
        "tasks": _some(named(barrier.waiters, names)),
        "others": max(0, len(barrier.waiters) - MOST_TASKS),
        "missing": missing[:MOST_TASKS],
        "more_missing": max(0, len(missing) - MOST_TASKS),
        "abandoned": barrier.state is BarrierState.ABANDONED,
        "held": _some(named(barrier.holders, names)),
    }


def _some(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(islice(counts.items(), MOST_TASKS))


def _missing(barrier: Standing, names: Mapping[str, str]) -> list[str]:
    """The tasks of none of whose addresses anybody is there."""
    sources = (*barrier.owners, *barrier.waiters, *barrier.holders)
    there = {names.get(source, source) for source in sources}
    return [task for task in dict.fromkeys(names.values()) if task not in there]


def named(counts: Mapping[str, int], names: Mapping[str, str]) -> dict[str, int]:
    """Counts by task instead of address."""
    found: dict[str, int] = {}
    for source, number in counts.items():
        task = names.get(source, source)
        found[task] = found.get(task, 0) + number
    return found


def text(name: bytes) -> str:
    """A barrier's name for people: printable ASCII, with all else escaped byte by byte.

    What is printable beyond ASCII is a matter of the version of Python that looks at it. Quotation marks and
    backslashes are escaped, too: so the name ends where it is quoted, and no two names are shown alike.
    """
    return "".join([_SHOWN[byte] for byte in name])


def _about(event: str, barrier: bytes, task: str, more: Document) -> Document:
    return {"event": event, "barrier": text(barrier), "task": task, **more}
