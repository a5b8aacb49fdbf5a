"""Barriers between the protos and the core's values."""

from __future__ import annotations

from collections.abc import Iterable
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
    """What a volunteer tells. Raises BadRequest (BAD_FIELD) for more than it may."""
    if len(pb.rounds) > _MOST_ROUNDS or len(pb.open) > _MOST_OPEN or pb.total < 0 or pb.more_open < 0:
        raise BadRequest("BAD_FIELD", "barriers says more than it may, or counts below nothing")
    return model.BarrierNews(
        tuple(_round_in(one) for one in pb.rounds),
        pb.total,
        tuple(_open_in(one) for one in pb.open),
        pb.more_open,
        short(_line(pb.trouble), convert.MAX_DETAIL_BYTES),
        pb.last,
    )


def barrier_in(name: str) -> str:
    """What a user names; "" for all. Raises BadRequest (BAD_FIELD)."""
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise BadRequest("BAD_FIELD", "barrier is no name that a barrier is told by", field="barrier")
    return name


def _round_in(pb: common_pb2.BarrierRound) -> model.BarrierRound:
    return model.BarrierRound(
        _name_in(pb.barrier),
        convert.known(model.BarrierEnd, pb.end, "barriers.rounds.end"),
        convert.stamp_in(pb.began_at),
        convert.stamp_in(pb.ended_at),
        pb.error,
        _tasks_in(pb.inits),
        _tasks_in(pb.tasks),
        pb.others,
        pb.left,
        pb.rounds,
    )


def _open_in(pb: common_pb2.OpenBarrier) -> model.OpenBarrier:
    if len(pb.missing) > _MOST_TASKS or not all(_is_task(task) for task in pb.missing):
        raise BadRequest("BAD_FIELD", f"barriers.open.missing must be at most {_MOST_TASKS} tasks")
    return model.OpenBarrier(
        _name_in(pb.barrier),
        convert.stamp_in(pb.since),
        pb.remaining,
        _tasks_in(pb.inits),
        _tasks_in(pb.tasks),
        pb.others,
        tuple(pb.missing),
        pb.more_missing,
        pb.abandoned,
    )


def _tasks_in(tasks: Iterable[common_pb2.BarrierTask]) -> tuple[tuple[str, int], ...]:
    found = tuple((one.task, one.count) for one in tasks)
    if len(found) > _MOST_TASKS or not all(_is_task(task) for task, _ in found):
        raise BadRequest("BAD_FIELD", f"barriers names more than {_MOST_TASKS} tasks, or what is none")
    return found


def _is_task(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_TASK and text.isprintable()


def _name_in(text: str) -> str:
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise BadRequest("BAD_FIELD", "barriers has a barrier with a name that cannot be")
    return text


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
    )


def _tasks_out(tasks: Iterable[tuple[str, int]]) -> list[common_pb2.BarrierTask]:
    return [common_pb2.BarrierTask(task=task, count=number) for task, number in tasks]
