"""What happens at the barriers, as flat documents: for the owner's JSON lines and for the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .core.barriers import Standing
from .core.effects import Abandoned, Came, Dropped, Initialised, Left, Notice, Opened, Refused

Document = dict[str, object]


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
        case Opened(barrier, error, tasks):
            return {"event": "opened", "barrier": text(barrier), "error": error, "tasks": named(tasks, names)}
        case Dropped(barrier, tasks):
            return {"event": "dropped", "barrier": text(barrier), "tasks": named(tasks, names)}
        case Refused(source, why):
            return {"event": "refused", "task": names.get(source, source), "why": why}


def listing(barriers: Iterable[Standing], names: Mapping[str, str]) -> list[Document]:
    """The open barriers. `missing`: the named tasks that neither wait there nor initialised it."""
    return [_listed(each, names) for each in barriers]


def _listed(barrier: Standing, names: Mapping[str, str]) -> Document:
    there = {*barrier.owners, *barrier.waiters}
    return {
        "barrier": text(barrier.barrier),
        "state": barrier.state.value,
        "remaining": barrier.remaining,
        "held": barrier.held,
        "owners": named(barrier.owners, names),
        "waiters": named(barrier.waiters, names),
        "missing": [task for address, task in names.items() if address not in there],
    }


def named(counts: Mapping[str, int], names: Mapping[str, str]) -> dict[str, int]:
    """Counts by task instead of address."""
    return {names.get(source, source): number for source, number in counts.items()}


def text(name: bytes) -> str:
    """A barrier's name for people: what is no UTF-8, or no character to print, is escaped."""
    shown = name.decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown)


def _about(event: str, barrier: bytes, task: str, more: Document) -> Document:
    return {"event": event, "barrier": text(barrier), "task": task, **more}
