"""What a running manager writes into its audit log."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import pytest
from syndicate.manager.rpc import upload as uploading
from syndicate.manager.store import SqliteStore
from syndicate.v1 import scheduler_pb2 as pb

from tests.manager.conftest import Running
from tests.manager.people import (
    STUDENT,
    audit,
    join,
    new_id,
    publish,
    put,
    running_job,
    until,
)
from tests.manager.scripted import WAIT_S, bearer, tarball, upload

ERROR = grpc.aio.AioRpcError


async def test_changes_are_in_the_audit_log(manager: Running) -> None:
    """Who, what, about what, from where; what only looks is not."""
    alice = await join(manager, "alice")
    async with running_job(manager, alice) as (job_id, _):
        await alice.jobs()
        await publish(manager, job_id)
        await publish(manager, job_id, published=False)
        for draining in (True, False):
            drain = pb.DrainNodeRequest(request_id=new_id(), volunteer_id="node-a", draining=draining)
            await manager.scheduler.DrainNode(drain, **manager.credentials)
        request = pb.CancelJobRequest(request_id=new_id(), job_id=job_id)
        await alice.stub.CancelJob(request, **alice.says)
        await alice.stub.CancelJob(request, **alice.says)
        lines = await audit(manager, job_id=job_id)
        everything = await audit(manager)

    assert [(line.who, line.method, line.subject) for line in lines] == [
        ("alice", "CancelJob", f"job {job_id}"),
        ("admin", "PublishJob", f"job {job_id} (not published)"),
        ("admin", "PublishJob", f"job {job_id} (published)"),
        ("alice", "Submit", f"job {job_id}"),
    ]
    assert [line.subject for line in everything if line.method == "DrainNode"] == [
        "node node-a (resumed)",
        "node node-a (drained)",
    ]
    assert all(line.allowed and line.peer == "127.0.0.1" and line.token_id for line in lines)
    assert {"PutUsers", "CreateToken", "UploadSource"} <= {line.method for line in everything}
    assert not {"ListJobs", "WatchJob"} & {line.method for line in everything}


async def test_a_source_is_in_the_audit_log_also_where_its_sender_has_gone(
    manager: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept all the same: nobody stores what is written down nowhere."""
    checking, go_on = threading.Event(), threading.Event()
    calls: list[asyncio.Task[Any] | None] = []
    take = uploading.Uploads.take

    def slow(path: Any) -> None:
        checking.set()
        go_on.wait(WAIT_S)

    async def taken(*call: Any) -> Any:
        calls.append(asyncio.current_task())
        return await take(*call)

    async def heard_of_it() -> bool:
        return calls[0] is not None and calls[0].cancelling() > 0

    monkeypatch.setattr(uploading, "check_source", slow)
    monkeypatch.setattr(uploading.Uploads, "take", taken)
    alice = await join(manager, "alice")
    sending = asyncio.create_task(upload(alice.stub, tarball(), alice.token))
    await asyncio.to_thread(checking.wait, WAIT_S)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await until(heard_of_it)
    go_on.set()

    async def look() -> list[pb.AuditLine]:
        return [line for line in await audit(manager) if line.method == "UploadSource"]

    (line,) = await until(look)
    assert (line.who, line.allowed) == ("alice", True)
    assert (await upload(alice.stub, tarball(), alice.token)).already_known


async def test_the_audit_log_comes_in_pages(manager: Running) -> None:
    """Newest first, each line once."""
    for number in range(7):
        await put(manager, pb.User(name=f"user-{number}", role=STUDENT))
    lines: list[pb.AuditLine] = []
    token = ""
    while token or not lines:
        request = pb.ListAuditRequest(page_size=3, page_token=token)
        answer = await manager.scheduler.ListAudit(request, **manager.credentials)
        lines += answer.lines
        token = answer.next_page_token

    assert [line.subject for line in lines] == [f"user user-{number} (new)" for number in range(6, -1, -1)]
    assert [line.line for line in lines] == list(range(7, 0, -1))


async def test_the_store_is_not_asked_for_whom_there_cannot_be(
    manager: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of jobs: its prepared statements would keep a megabyte each of who calls with many filters."""

    async def never(*_: object) -> list[object]:
        raise AssertionError

    monkeypatch.setattr(SqliteStore, "list_audit", never)
    assert await audit(manager, user="a" * 1_000_000) == []


async def test_a_flood_of_denied_calls_makes_few_lines(manager: Running) -> None:
    """The first at once; the rest are counted, and told when the manager stops at the latest."""
    alice = await join(manager, "alice")
    for _ in range(50):
        with pytest.raises(ERROR):
            await alice.stub.ListAudit(pb.ListAuditRequest(), **alice.says)
        with pytest.raises(ERROR):
            await alice.stub.WhoAmI(pb.WhoAmIRequest(), metadata=bearer("no-token"), timeout=WAIT_S)

    lines = await audit(manager, denied=True)
    assert sorted((line.who, line.method, line.reason) for line in lines) == [
        ("", "WhoAmI", "BAD_TOKEN"),
        ("alice", "ListAudit", "ROLE_TOO_LOW"),
    ]


async def test_who_has_no_token_writes_nothing_of_his_own_into_the_log(manager: Running) -> None:
    """Neither a method that there is not, nor the name of somebody whose token's id he knows."""
    alice = await join(manager, "alice")
    call = manager.channel.unary_unary("/x/admin-was-here", lambda data: data, lambda data: data)
    for token in ("no-token", f"syn_{alice.token_id}_wrong"):
        with pytest.raises(ERROR):
            await call(b"", metadata=bearer(token), timeout=WAIT_S)
        with pytest.raises(ERROR):
            await alice.stub.WhoAmI(pb.WhoAmIRequest(), metadata=bearer(token), timeout=WAIT_S)

    lines = await audit(manager, denied=True)
    assert {(line.who, line.token_id, line.method) for line in lines} == {
        ("", "", "unknown"),
        ("", "", "WhoAmI"),
    }


async def test_of_a_revoked_token_the_log_tells_whose_it_was(manager: Running) -> None:
    """Its secret was right, so its user, or whoever has it from there, did call."""
    alice = await join(manager, "alice")
    request = pb.RevokeTokenRequest(request_id=new_id(), token_id=alice.token_id)
    await alice.stub.RevokeToken(request, **alice.says)
    with pytest.raises(ERROR):
        await alice.stub.WhoAmI(pb.WhoAmIRequest(), **alice.says)

    (line,) = await audit(manager, denied=True)
    assert (line.who, line.token_id, line.reason) == ("alice", alice.token_id, "BAD_TOKEN")
