"""UploadSource over a real channel: what is taken, what is refused, and how soon."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, BinaryIO

import grpc
import pytest
from syndicate.manager.rpc import upload as upload_module
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import registry_pb2_grpc as registry_grpc
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.conftest import Running, Start
from tests.manager.people import join, until
from tests.manager.scripted import WAIT_S, bearer, reason, tarball, trailer, upload

GOOD = tarball()
MOST_TRIES = 40


def header(data: bytes = GOOD) -> scheduler.UploadSourceRequest:
    """The header of a source."""
    return scheduler.UploadSourceRequest(
        header=scheduler.UploadHeader(
            request_id=str(uuid.uuid4()), sha256=hashlib.sha256(data).hexdigest(), size=len(data)
        )
    )


def chunk(data: bytes) -> scheduler.UploadSourceRequest:
    """A chunk."""
    return scheduler.UploadSourceRequest(chunk=data)


async def test_a_source_is_stored_once(manager: Running) -> None:
    """The first upload stores, the second is answered as already known."""
    first = await upload(manager.scheduler, GOOD, manager.token)
    again = await upload(manager.scheduler, GOOD, manager.token)

    assert (first.already_known, again.already_known) == (False, True)
    assert first.sha256 == again.sha256 == hashlib.sha256(GOOD).hexdigest()
    assert first.size == again.size == len(GOOD)


async def test_a_known_source_need_not_be_sent(manager: Running) -> None:
    """The header alone is answered at once, while the caller still could send."""
    await upload(manager.scheduler, GOOD, manager.token)
    call = manager.scheduler.UploadSource(**manager.credentials)
    await call.write(header())
    answer = await call

    assert answer.already_known


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "EMPTY_SOURCE"),
        (b"not a tarball" * 100, "NOT_A_TAR"),
        (gzip.compress(GOOD)[:-8], "TRUNCATED_SOURCE"),
        (tarball(readme="hello"), "NO_MAKEFILE"),
    ],
)
async def test_bad_sources_are_told_apart(manager: Running, data: bytes, word: str) -> None:
    """Each mistake has its reason, and what was sent is not kept."""
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await upload(manager.scheduler, data, manager.token)
        assert (refused.value.code(), reason(refused)) == (grpc.StatusCode.INVALID_ARGUMENT, word)

    assert list((manager.state_dir / "blobs" / "incoming").iterdir()) == []


async def test_other_bytes_than_the_digest_says_are_refused(manager: Running) -> None:
    """A damaged upload is told as such."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await upload(manager.scheduler, GOOD, manager.token, sha256="0" * 64)

    assert reason(refused) == "DIGEST_MISMATCH"


async def test_too_large_a_source_is_refused_by_its_header(start: Start) -> None:
    """A size over the bound is refused before a byte is sent, with the bound."""
    async with start(max_source_bytes=5000) as manager:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await upload(manager.scheduler, tarball(Makefile="x" * 20_000), manager.token)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "5,000" in str(refused.value.details())


async def test_too_large_a_source_is_refused_while_it_comes(start: Start) -> None:
    """A header that lies does not help: the first byte too many ends the upload."""
    async with start(max_source_bytes=5000) as manager:
        more = asyncio.Event()

        async def endless() -> AsyncIterator[scheduler.UploadSourceRequest]:
            lie = header()
            lie.header.size = 4000
            yield lie
            while not more.is_set():
                yield chunk(b"x" * 3000)

        async def attempt() -> None:
            await manager.scheduler.UploadSource(endless(), **manager.credentials)

        refused = await refusal(attempt)
        more.set()

    assert refused.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT)


async def test_an_upload_that_stalls_is_ended(start: Start) -> None:
    """A caller that stops sending is told after the deadline, and what came is forgotten."""
    async with start(upload_timeout_s=20.0) as manager:
        call = manager.scheduler.UploadSource(**manager.credentials)
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):  # where that is over already
            await call.write(header())
            await call.write(chunk(GOOD[:100]))
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await call
        left = list((manager.state_dir / "blobs" / "incoming").iterdir())

    assert (told.value.code(), reason(told)) == (grpc.StatusCode.DEADLINE_EXCEEDED, "UPLOAD_TOO_SLOW")
    assert left == []


async def test_uploads_that_stall_hold_up_nobody(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many callers stop sending, another one's source is stored before any of them is ended."""
    monkeypatch.setattr(upload_module, "_GRACE_S", 10 * WAIT_S)
    async with start(upload_timeout_s=100 * WAIT_S) as manager:
        stalled = [manager.scheduler.UploadSource(**manager.credentials) for _ in range(20)]
        for call in stalled:
            await call.write(header())
            await call.write(chunk(GOOD[:100]))
        async with asyncio.timeout(WAIT_S):
            await upload(manager.scheduler, tarball(Makefile="master:\n"), manager.token)
        for call in stalled:
            call.cancel()


async def test_a_chunk_has_a_deadline_of_its_own(start: Start) -> None:
    """Whoever sends nothing for a tenth of the time that an upload may take is told so."""
    async with start(upload_timeout_s=8.0) as manager:  # which a machine that stands still does not reach
        call = manager.scheduler.UploadSource(**manager.credentials)
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):  # where that is over already
            await call.write(header())
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await call

    assert (reason(told), told.value.details()) == ("UPLOAD_TOO_SLOW", "nothing of the source came for 0.8 s")


async def test_too_many_uploads_at_once_are_put_off(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a caller is told to try again, and there is room when one of the others has ended."""
    arrived = threading.Event()
    monkeypatch.setattr("syndicate.manager.rpc.upload._MOST_AT_ONCE", 1)
    monkeypatch.setattr("syndicate.manager.blobs.directory.Upload.add", lambda self, data: arrived.set())
    monkeypatch.setattr(upload_module, "_GRACE_S", 10 * WAIT_S)
    async with start(upload_timeout_s=100 * WAIT_S) as manager:
        first = manager.scheduler.UploadSource(**manager.credentials)
        await first.write(header())
        await first.write(chunk(GOOD[:100]))
        assert await asyncio.to_thread(arrived.wait, WAIT_S)
        with pytest.raises(grpc.aio.AioRpcError) as put_off:
            await upload(manager.scheduler, GOOD, manager.token)
        first.cancel()

        async def taken() -> Any:
            """Why the next one is refused, once there is room: the manager hears of an end a moment later."""
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await upload(manager.scheduler, GOOD, manager.token)
            return reason(refused) != "MANAGER_BUSY" and reason(refused)

        assert await until(taken) == "EMPTY_SOURCE"

    assert (put_off.value.code(), reason(put_off)) == (grpc.StatusCode.UNAVAILABLE, "MANAGER_BUSY")


async def test_sources_are_fetched_while_others_are_checked(
    manager: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check takes seconds of a thread; volunteers that fetch a source do not wait behind it."""
    known = await upload(manager.scheduler, GOOD, manager.token)
    gate, begun = threading.Event(), threading.Event()

    def slow(file: BinaryIO) -> None:
        begun.set()
        assert gate.wait(WAIT_S)

    monkeypatch.setattr("syndicate.manager.rpc.upload.check_source", slow)
    sources = [tarball(Makefile=f"master:{' ' * number}\n") for number in range(8)]
    uploads = [asyncio.ensure_future(upload(manager.scheduler, data, manager.token)) for data in sources]
    async with grpc.aio.insecure_channel(manager.volunteers) as channel, asyncio.timeout(WAIT_S):
        await asyncio.to_thread(begun.wait, WAIT_S)
        request = registry.FetchSourceRequest(sha256=known.sha256)
        for _ in range(20):
            call = registry_grpc.RegistryStub(channel).FetchSource(request, **manager.volunteer_credentials)
            assert b"".join([answer.chunk async for answer in call]) == GOOD
        gate.set()
        await asyncio.gather(*uploads)


@pytest.mark.parametrize(
    "parts", [[], [chunk(b"x")], [header(), header()], [header(), chunk(b"x" * (600 << 10))]]
)
async def test_parts_in_a_wrong_order_are_refused(
    manager: Running, parts: list[scheduler.UploadSourceRequest]
) -> None:
    """First the header, then chunks of at most 512 KiB."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await manager.scheduler.UploadSource(iter(parts), metadata=bearer(manager.token), timeout=WAIT_S)

    assert (refused.value.code(), reason(refused)) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD")


async def test_many_uploads_of_one_source_at_once_agree(manager: Running) -> None:
    """Callers who upload the same bytes at the same time all get the same answer."""
    answers = await asyncio.gather(*(upload(manager.scheduler, GOOD, manager.token) for _ in range(20)))

    assert {answer.sha256 for answer in answers} == {hashlib.sha256(GOOD).hexdigest()}


async def test_a_byte_now_and_then_is_no_upload(manager: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often something comes: who does not get on at a least rate gives up the place."""
    monkeypatch.setattr(upload_module, "_GRACE_S", 0.2)

    async def attempt() -> None:
        call = manager.scheduler.UploadSource(**manager.credentials)
        await call.write(header(b"something that takes long to come" * 10_000))
        await drip(call)

    slow = await refusal(attempt)

    assert slow.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason(slow) == "UPLOAD_TOO_SLOW"


async def refusal(attempt: Callable[[], Awaitable[None]]) -> pytest.ExceptionInfo[grpc.aio.AioRpcError]:
    """How a call ends that goes on sending; where a message meets its end gRPC tells of that alone: anew."""
    for _ in range(MOST_TRIES):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await attempt()
        if "SendMessageOperation" not in (refused.value.debug_error_string() or ""):
            return refused
    raise AssertionError(f"{MOST_TRIES} times, at last: {refused.value.debug_error_string()}")


async def drip(call: Any) -> None:
    """A byte at a time, until the call is over."""
    with suppress(asyncio.InvalidStateError):
        while not call.done():
            await call.write(chunk(b"x"))
            await asyncio.sleep(0.01)
    await call


async def test_a_header_that_does_not_come(manager: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens an upload and says nothing is told so soon."""
    monkeypatch.setattr(upload_module, "_HEADER_WITHIN_S", 0.1)
    with pytest.raises(grpc.aio.AioRpcError) as slow:
        await manager.scheduler.UploadSource(**manager.credentials)

    assert reason(slow) == "UPLOAD_TOO_SLOW"


async def test_uploads_of_one_user_are_bounded(start: Start) -> None:
    """So many at once; another user's are not hindered."""
    async with start(user_uploads=2) as manager:
        alice, bob = await join(manager, "alice"), await join(manager, "bob")
        open_ = [manager.scheduler.UploadSource(**alice.says) for _ in range(2)]
        for call in open_:
            await call.write(header(b"something else"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await upload(manager.scheduler, GOOD, alice.token)
        await upload(manager.scheduler, GOOD, bob.token)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(refused) == "TOO_MANY_STREAMS"


async def test_a_fast_upload_is_slowed_down(start: Start) -> None:
    """It takes as long as its bytes at the user's rate, less the first second's, and arrives."""
    data = tarball(Makefile="master:\n\ttrue\nslave:\n\ttrue\n", ballast="x" * 900_000)
    async with start(user_upload_bytes_per_s=600_000) as manager:
        alice = await join(manager, "alice")
        began = asyncio.get_running_loop().time()
        answer = await upload(manager.scheduler, data, alice.token)
        took_s = asyncio.get_running_loop().time() - began

    assert answer.size == len(data)
    assert took_s >= len(data) / 600_000 - 1.0


async def test_what_one_user_sends_in_a_day_is_bounded(start: Start) -> None:
    """Sources are kept: one too many is refused with when to come again; one that is known costs nothing."""
    data = tarball(Makefile="master:\n\ttrue\nslave:\n\ttrue\n", ballast="x" * 50_000)
    async with start(user_upload_bytes_per_day=80_000) as manager:
        alice = await join(manager, "alice")
        await upload(manager.scheduler, data, alice.token)
        again = await upload(manager.scheduler, data, alice.token)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await upload(manager.scheduler, tarball(Makefile="x:\n", other="y" * 50_000), alice.token)
        left = list((manager.state_dir / "blobs" / "incoming").iterdir())

    assert again.already_known
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(refused) == "QUOTA_UPLOADS"
    assert float(trailer(refused.value)["syndicate-meta-retry_after_s"]) > 1000
    assert left == []
