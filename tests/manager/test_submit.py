"""How submissions come to the engine."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from syndicate.manager.core.access import Caller
from syndicate.manager.core.effects import Answer, SubmitReply
from syndicate.manager.core.events import Event
from syndicate.manager.core.model import Source, TokenScope, UserRole
from syndicate.manager.rpc import caller as callers
from syndicate.manager.rpc.desk import Desk
from syndicate.manager.rpc.scheduler import Scheduler
from syndicate.manager.rpc.types import Context
from syndicate.v1 import scheduler_pb2 as pb

from tests.manager.people import new_id

SOURCE = Source("a" * 64, 1)


class Asked:
    """An engine that notes what may wait for others."""

    def __init__(self) -> None:
        self.in_crowd: list[bool] = []

    async def call(self, make: Callable[[int], Event], in_crowd: bool = False) -> Answer:
        self.in_crowd.append(in_crowd)
        return SubmitReply(len(self.in_crowd))


async def test_replays_do_not_wait_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """To plan one takes up to 0.1 s: a hundred in a row would hold everybody up for seconds."""

    async def replayed(_self: Scheduler, _job_id: int) -> object:
        return SimpleNamespace(job=SimpleNamespace(spec=SimpleNamespace(source=SOURCE)))

    async def source(_self: Scheduler, _sha256: str, _field: str) -> Source:
        return SOURCE

    monkeypatch.setattr(Scheduler, "_replayed", replayed)
    monkeypatch.setattr(Scheduler, "_source", source)
    engine = Asked()
    scheduler = Scheduler(cast(Desk, SimpleNamespace(engine=engine, store=None, shelves=None)))
    context = cast(Context, SimpleNamespace(peer=lambda: "unix:"))
    callers.enter(Caller("alice", UserRole.STUDENT, TokenScope.ALL, "", "t-1"), "")
    specs = [pb.JobSpec(source_sha256=SOURCE.sha256, machines=1), pb.JobSpec(replay_of=7)]
    for spec in specs:
        await scheduler.Submit(pb.SubmitRequest(request_id=new_id(), spec=spec), context)

    assert engine.in_crowd == [True, False]
