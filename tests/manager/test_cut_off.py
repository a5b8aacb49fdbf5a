"""What is cut off, and when: streams of volunteers whose certificates are revoked, or run out."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from syndicate.manager import certs_command
from syndicate.manager.control import ManagerStuck
from syndicate.manager.pki import Certificate, Kind, Register
from syndicate.manager.pki.register import Issued
from syndicate.manager.rpc.peers import Peers
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import registry_pb2_grpc as registry_grpc
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.authorities import DAY, Pair, of_bundle, request, signed
from tests.manager.certified import Place, attach, running
from tests.manager.conftest import Start
from tests.manager.scripted import WAIT_S, ScriptedVolunteer, reason, stamp, tarball, upload

# Of a certificate that runs out. The longer ones are for machines that stood still until a shorter one had.
SHORT_LIVES_S = (6, 12, 24, 48)


@pytest.fixture
async def place(start: Start, tmp_path: Path) -> AsyncIterator[Place]:
    """A manager with TLS on an empty state directory."""
    async with running(start, tmp_path) as made:
        yield made


async def test_a_revoked_volunteer_is_cut_off_at_once(place: Place) -> None:
    """Its stream ends, its next one is refused, and so is any other call on the connection that stands."""
    pair = of_bundle(place.office.add("node-a", ()).identity)
    await place.reload()
    volunteer = place.volunteer("node-a", pair)
    async with volunteer.attached(), place.volunteers(pair) as channel:
        stub: Any = registry_grpc.RegistryStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as known:
            await read_all(stub.FetchSource(registry.FetchSourceRequest(sha256="0" * 64), timeout=WAIT_S))
        assert reason(known) == "NO_SUCH_BLOB"

        place.office.revoke("node-a")
        assert await place.reload() == ["node-a"]

        async with asyncio.timeout(WAIT_S):
            error = await volunteer.ended
        assert error is not None and error.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_all(stub.FetchSource(registry.FetchSourceRequest(sha256="0" * 64), timeout=WAIT_S))
        assert reason(caught) == "CERTIFICATE_REVOKED"
    with pytest.raises(grpc.aio.AioRpcError) as again:
        await attach(place, pair)
    assert reason(again) == "CERTIFICATE_REVOKED"


async def test_a_damaged_authority_keeps_nobody_attached(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command revokes, the manager that runs cuts off at once, and both say what is wrong."""
    pairs = {name: of_bundle(place.office.add(name, ()).identity) for name in ("node-a", "node-b")}
    await place.reload()
    gone, stays = (place.volunteer(name, pair) for name, pair in pairs.items())
    state_dir, ca = place.office.folder.path.parent, place.office.folder.path / "ca.pem"
    async with gone.attached(), stays.attached():
        ca.write_bytes(b"garbage")
        words = ["revoke", "--state-dir", str(state_dir), "node-a"]
        assert await asyncio.to_thread(certs_command.main, words) == 0
        async with asyncio.timeout(WAIT_S):
            error = await gone.ended
        assert not stays.ended.done()
        said = capsys.readouterr().out
        with pytest.raises(ManagerStuck, match="read only what was revoked"):
            await place.reload()
        # A repeat is told as one, though the manager still has its trouble.
        assert await asyncio.to_thread(certs_command.main, words) == 66
        ca.write_bytes(place.ca)
        assert await place.reload() == []
    assert error is not None and "is revoked" in (error.details() or "")
    assert "node-a   revoked; cut off" in said.splitlines()
    (line,) = (line for line in said.splitlines() if line.startswith("Not as it should be:"))
    assert f"{ca}: not a certificate" in line and line.endswith("Put the file back from a copy.")
    with pytest.raises(grpc.aio.AioRpcError) as again:
        await attach(place, pairs["node-a"])
    assert reason(again) == "CERTIFICATE_REVOKED"


@pytest.mark.parametrize("begun", ["before", "after"])
async def test_a_revoked_volunteer_holds_no_call_open(place: Place, begun: str) -> None:
    """One that has not sent its request is refused without it; one begun before, when it sends that."""
    pair = of_bundle(place.office.add("node-a", ()).identity)
    await place.reload()
    async with place.volunteers(pair) as channel:
        begin: Any = channel.stream_stream("/syndicate.v1.Registry/FetchSource")
        held = begin(timeout=WAIT_S)
        # Over the same connection, so that the headers before it were read.
        stub: Any = registry_grpc.RegistryStub(channel)
        wish = registry.FetchSourceRequest(sha256="0" * 64)
        with pytest.raises(grpc.aio.AioRpcError) as known:
            await read_all(stub.FetchSource(wish, timeout=WAIT_S))
        place.office.revoke("node-a")
        await place.reload()
        if begun == "before":
            await held.write(wish.SerializeToString())
        else:
            held.cancel()
            held = begin(timeout=WAIT_S)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await held.read()

    assert (reason(known), reason(caught)) == ("NO_SUCH_BLOB", "CERTIFICATE_REVOKED")


async def test_a_revoked_volunteer_is_sent_no_more_of_a_source(place: Place) -> None:
    """It may read slowly."""
    pair = of_bundle(place.office.add("node-a", ()).identity)
    await place.reload()
    data = tarball(Makefile="run:\n", data="0" * (9 << 20))
    sha256 = (await upload(place.manager.scheduler, data, place.manager.token)).sha256
    async with place.volunteers(pair) as channel:
        stub: Any = registry_grpc.RegistryStub(channel)
        call = stub.FetchSource(registry.FetchSourceRequest(sha256=sha256), timeout=WAIT_S)
        await call.read()
        place.office.revoke("node-a")
        await place.reload()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to_the_end(call)
    assert reason(caught) == "CERTIFICATE_REVOKED"


async def to_the_end(call: Any) -> None:
    """Reads on, message by message."""
    while await call.read() is not grpc.aio.EOF:
        continue


async def test_a_stream_that_outlived_its_certificate_is_cut_off_at_once_too() -> None:
    """It stands by a newer one: when that is revoked, and not while its own line is merely forgotten."""
    now, ended = 1000, list[Any]()
    old = Issued("1", Kind.VOLUNTEER, "node-a", 0, 2000)
    new = Issued("2", Kind.VOLUNTEER, "node-a", 900, 9000)
    peers = Peers("c-test", Register((old, new)), lambda: now)
    certificate = Certificate(Kind.VOLUNTEER, "c-test", "node-a", "1", 0, 2000, (), "", True, b"")
    renewed = replace(certificate, serial="2", not_after=9000)
    with peers.attached(certificate, ended.append):
        peers.renewed(renewed)
        now = 3000
        assert peers.update(Register((new,))) == [] and not ended
        assert peers.update(Register((replace(new, revoked_at=3000),))) == ["node-a"]
        assert [error.reason for error in ended] == ["CERTIFICATE_REVOKED"]
    now, ended[:] = 1000, []
    with peers.attached(certificate, ended.append):
        peers.renewed(renewed)
        gone = Register((old, replace(new, revoked_at=1000)))
        assert peers.update(gone) == [] and peers.until("node-a") == 2000
        third = Issued(
            "3", Kind.VOLUNTEER, "node-a", 900, 9500
        )  # made by an operator, and nobody has it here
        now = 2000
        assert peers.update(Register((*gone.issued, third))) == ["node-a"]
    now = 3000
    peers.update(Register((old, new)))
    with peers.attached(renewed, ended.append):
        revoked, _ = Register((old, new)).without("node-a", now)
        assert peers.update(revoked) == ["node-a"]


@asynccontextmanager
async def attached_briefly(
    place: Place, in_time: Callable[[Pair], Awaitable[bool]]
) -> AsyncIterator[tuple[ScriptedVolunteer, float]]:
    """Attached by a certificate that runs out soon, and in how many seconds it does.

    Before it has `in_time` does what it must do, and says whether that was so.
    """
    for life_s in SHORT_LIVES_S:
        pair = signed(place.office.folder, end=life_s)
        await place.reload()
        volunteer = place.volunteer("node-a", pair)
        async with volunteer.attached():
            if volunteer.welcome.session and await in_time(pair):
                yield volunteer, life_s
                return
    raise AssertionError("every one of them had run out before")


async def test_a_stream_ends_when_its_certificate_does(place: Place) -> None:
    """A connection that stands is no way around the date."""

    async def nothing(_: Pair) -> bool:
        return True

    async with attached_briefly(place, nothing) as (volunteer, _), asyncio.timeout(WAIT_S):
        error = await volunteer.ended
    assert error is not None and "has expired" in (error.details() or "")


async def test_a_stream_goes_on_where_its_volunteer_has_renewed(place: Place) -> None:
    """The manager has signed for it: the stream outlives the certificate that it began with."""
    asked = registry.RenewRequest(
        request_id=str(uuid.uuid4()), signing_request=request().decode(), sent_at=stamp()
    )

    async def renew(pair: Pair) -> bool:
        async with place.volunteers(pair) as channel:
            stub: Any = registry_grpc.RegistryStub(channel)
            try:
                answer = await stub.Renew(asked, timeout=WAIT_S)
                assert (await stub.Renew(asked, timeout=WAIT_S)) == answer
            except grpc.aio.AioRpcError as error:
                # Once it has run out it is refused, by the manager or by the handshake.
                if error.code() is not grpc.StatusCode.UNAVAILABLE and "expired" not in str(error.details()):
                    raise
                return False
            return True

    async with attached_briefly(place, renew) as (volunteer, life_s):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(life_s + 1.0):
                await asyncio.shield(volunteer.ended)
    issued = place.office.folder.register().live("node-a", int(time.time()))
    assert len(issued) == 1 and issued[0].not_after > time.time() + 80 * DAY


async def test_what_a_volunteer_has_is_told_and_not_what_lies_elsewhere(place: Place) -> None:
    """By its stream while it is attached, and what it was given for that; else by the newest of its name."""

    async def expires() -> float:
        asked = scheduler.ListNodesRequest()
        (node,) = (await place.manager.scheduler.ListNodes(asked, **place.manager.credentials)).nodes
        return float(node.certificate_expires_at.utc_ns / 1e9)

    async def elsewhere(_: Pair) -> bool:
        place.office.renew("node-a", ())
        await place.reload()
        # Once it has run out its stream is over, and the newest is told.
        return await expires() <= time.time() + max(SHORT_LIVES_S)

    async with attached_briefly(place, elsewhere) as (volunteer, _):
        async with asyncio.timeout(WAIT_S):
            error = await volunteer.ended
        assert error is not None and "has expired" in (error.details() or "")
    assert await expires() > time.time() + 80 * DAY


async def read_all(call: Any) -> None:
    """To its end."""
    async for _ in call:
        pass
