"""What must stop a manager: a core that finds itself wrong, a disk that takes nothing more."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from syndicate.manager.core.errors import InvariantError
from syndicate.manager.core.events import SubmitJob
from syndicate.manager.core.machine import Machine
from syndicate.manager.rpc.session import Session
from syndicate.manager.store import CommitFailed, SqliteStore
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.conftest import Start
from tests.manager.scripted import WAIT_S, reason


async def assert_a_submission_stops_it(start: Start, error: type[Exception], story: str) -> None:
    """The caller is told to try again, the volunteer's stream ends, and the manager with this error."""
    async with start(stop_grace_s=WAIT_S) as manager, manager.volunteer().attached() as volunteer:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await manager.submit()
        async with asyncio.timeout(WAIT_S):
            await volunteer.ended
        with pytest.raises(error, match=story):
            await asyncio.wait_for(manager.serving, WAIT_S)
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_core_that_is_wrong_stops_the_manager(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is told to try again, and the manager ends with the story."""
    handle = Machine.handle

    def wrong(self: Machine, event: Any, now: Any) -> Any:
        if isinstance(event, SubmitJob):
            raise InvariantError("job 1: the story of it")
        return handle(self, event, now)

    monkeypatch.setattr(Machine, "handle", wrong)
    await assert_a_submission_stops_it(start, InvariantError, "the story of it")


async def test_an_effect_that_fails_stops_the_manager(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was to be done after a commit is not half done in silence: who waits is told to try again."""

    def wrong(self: Session, effect: Any) -> None:
        raise RuntimeError("no way to say it")

    monkeypatch.setattr(Session, "drain", wrong)
    async with start(stop_grace_s=WAIT_S) as manager, manager.volunteer().attached():
        request = scheduler.DrainNodeRequest(
            request_id=str(uuid.uuid4()), volunteer_id="node-a", draining=True
        )
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await manager.scheduler.DrainNode(request, **manager.credentials)
        with pytest.raises(RuntimeError, match="no way"):
            await asyncio.wait_for(manager.serving, WAIT_S)
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_disk_that_fails_stops_the_manager(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be made durable is not acknowledged: the caller is told to try again."""
    commit = SqliteStore._commit

    def failing(self: SqliteStore, group: Any) -> None:
        if any(table == "job" for table, _, _ in group):
            raise OSError("no space left on device")
        commit(self, group)

    monkeypatch.setattr(SqliteStore, "_commit", failing)
    await assert_a_submission_stops_it(start, CommitFailed, "no space left")


async def test_a_store_that_is_full_takes_no_new_work(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """While too much waits for the disk submissions are refused, to be tried again."""
    async with start() as manager, manager.volunteer().attached():
        monkeypatch.setattr(SqliteStore, "full", True)
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await manager.submit()
        monkeypatch.undo()
        job_id = await manager.submit()
        await manager.reaches(job_id, common.JOB_STATE_RUNNING)

    assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(told) == "MANAGER_BUSY"


async def test_nothing_goes_out_before_it_is_durable(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the commit has ended a submission has no answer; only reservations may overtake it."""
    import threading

    gate = threading.Event()
    gate.set()
    commit = SqliteStore._commit

    def gated(self: SqliteStore, group: Sequence[Any]) -> None:
        assert gate.wait(WAIT_S)
        commit(self, list(group))

    monkeypatch.setattr(SqliteStore, "_commit", gated)
    async with start() as manager, manager.volunteer().attached() as volunteer:
        volunteer.beat()  # a volunteer that was not heard since its Welcome is told nothing early
        await manager.submit()
        await volunteer.until(lambda: bool(volunteer.commands("start")))
        gate.clear()
        answer = asyncio.ensure_future(manager.submit())
        await volunteer.until(lambda: len(volunteer.commands("reserve")) == 2)
        before = (answer.done(), len(volunteer.commands("prepare")))
        gate.set()
        await answer
        await volunteer.until(lambda: len(volunteer.commands("prepare")) == 2)

    assert before == (False, 1)
