"""Barriers between the protos and the core's values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from syndicate.v1 import common_pb2, registry_pb2, scheduler_pb2

from ..core import model
from ..core.barriers import Barriers
from ..core.errors import BadRequest
from . import convert
from .errors import short

_MOST_ROUNDS: Final = 64
_MOST_OPEN: Final = 32
_MOST_TASKS: Final = 64
_LONGEST_NAME: Final = 1024
_LONGEST_TASK: Final = 63


def news_in(pb: registry_pb2.BarrierNews) -> model.BarrierNews:
    """What a volunteer tells, cut to what it may tell: a name that a task chose never ends a stream.

    Which characters are printable two versions of Python see differently. Raises BadRequest (BAD_FIELD) for
    stamps and ends that make no sense.
    """
    return model.BarrierNews(
        tuple(_round_in(one) for one in pb.rounds[:_MOST_ROUNDS]),
        max(0, pb.total),
        tuple(_open_in(one) for one in pb.open[:_MOST_OPEN]),
        max(0, pb.more_open) + len(pb.open[_MOST_OPEN:]),
        short(_line(pb.trouble), convert.MAX_DETAIL_BYTES),
        pb.last,
    )


def barrier_in(name: str) -> str:
    """What a user names; "" for all. Raises BadRequest (BAD_FIELD)."""
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise BadRequest("BAD_FIELD", "barrier is no name that a barrier is told by", field="barrier")
    return name


def _round_in(pb: common_pb2.BarrierRound) -> model.BarrierRound:
    tasks, more = _tasks_in(pb.tasks)
    return model.BarrierRound(
        _line(pb.barrier)[:_LONGEST_NAME],
        convert.known(model.BarrierEnd, pb.end, "barriers.rounds.end"),
        convert.stamp_in(pb.began_at),
        convert.stamp_in(pb.ended_at),
        pb.error,
        _tasks_in(pb.inits)[0],
        tasks,
        pb.others + more,
        pb.left,
        pb.rounds,
    )


def _open_in(pb: common_pb2.OpenBarrier) -> model.OpenBarrier:
    tasks, more = _tasks_in(pb.tasks)
    return model.OpenBarrier(
        _line(pb.barrier)[:_LONGEST_NAME],
        convert.stamp_in(pb.since),
        pb.remaining,
        _tasks_in(pb.inits)[0],
        tasks,
        pb.others + more,
        tuple(_line(task)[:_LONGEST_TASK] for task in pb.missing[:_MOST_TASKS]),
        pb.more_missing + len(pb.missing[_MOST_TASKS:]),
        pb.abandoned,
        _tasks_in(pb.held)[0],
    )


def _tasks_in(tasks: Sequence[common_pb2.BarrierTask]) -> tuple[tuple[tuple[str, int], ...], int]:
    """So many as there is room for, and how many the others are."""
    found = tuple((_line(one.task)[:_LONGEST_TASK], one.count) for one in tasks[:_MOST_TASKS])
    return found, sum(one.count for one in tasks[_MOST_TASKS:])


def _line(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def barriers_out(found: Barriers) -> scheduler_pb2.ListBarriersResponse:
    """The open barriers of a job."""
    return scheduler_pb2.ListBarriersResponse(
        server=found.server,
        member=found.member,
        barriers=[_open_out(one) for one in found.open],
        more=found.more,
        rounds=found.rounds,
        as_of=convert.stamp_out(found.as_of),
        current_at=convert.stamp_out(found.current_at),
        away=found.away,
    )


def _open_out(one: model.OpenBarrier) -> common_pb2.OpenBarrier:
    return common_pb2.OpenBarrier(
        barrier=one.barrier,
        since=convert.stamp_out(one.since),
        remaining=one.remaining,
        inits=_tasks_out(one.inits),
        tasks=_tasks_out(one.tasks),
        others=one.others,
        missing=one.missing,
        more_missing=one.more_missing,
        abandoned=one.abandoned,
        held=_tasks_out(one.held),
    )


def _tasks_out(tasks: Iterable[tuple[str, int]]) -> list[common_pb2.BarrierTask]:
    return [common_pb2.BarrierTask(task=task, count=number) for task, number in tasks]
