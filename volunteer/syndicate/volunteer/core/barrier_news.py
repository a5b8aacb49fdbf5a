"""What happens at barriers, on its way to the manager: one message at a time, the rest joined.

So a job that opens a million barriers keeps no event of another task from being told, and fills no memory.
"""

from __future__ import annotations

from dataclasses import replace

from .. import local
from .state import Slot
from .turn import Turn


def take_news(turn: Turn, slot: Slot, news: local.BarriersTold) -> None:
    """Tells it, or keeps it until the manager has acknowledged what was told before; the last goes now."""
    slot.news = news if slot.news is None else joined(slot.news, news)
    if news.last or slot.news_told not in turn.state.events:
        _tell(turn, slot, slot.news)


def acknowledged(turn: Turn, event_id: int) -> None:
    """An event was acknowledged; where it was of barriers, what came meanwhile is told."""
    for slot in turn.state.slots.values():
        if slot.news_told == event_id and slot.news is not None:
            _tell(turn, slot, slot.news)


def tell_again(turn: Turn, cluster_id: str) -> None:
    """To a manager that has just welcomed the volunteer, and may know nothing of what is open.

    Not where something newer waits, which goes out by itself, and not the last: nothing is open then.
    """
    for slot in turn.state.slots.values():
        known = slot.news_known
        if known is None or slot.task is None or slot.task.cluster_id != cluster_id:
            continue
        if slot.news is None and not known.last:
            take_news(turn, slot, replace(known, rounds=(), trouble=""))


def joined(first: local.BarriersTold, second: local.BarriersTold) -> local.BarriersTold:
    """Both in one; rounds beyond the most that are told at once are known by `total` alone."""
    return replace(
        second,
        rounds=(first.rounds + second.rounds)[: local.MAX_ROUNDS],
        trouble=second.trouble or first.trouble,
    )


def _tell(turn: Turn, slot: Slot, news: local.BarriersTold) -> None:
    slot.news, slot.news_known = None, news
    slot.news_told = turn.report(slot.ref(), turn.now, barriers=news)
