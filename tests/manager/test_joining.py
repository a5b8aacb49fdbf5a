"""Machines that join by a token: who is let in, who is not, and what each is told."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import registry_pb2_grpc as registry_grpc

from tests.manager.authorities import of_bundle, request
from tests.manager.certified import Place, running
from tests.manager.conftest import Start
from tests.manager.scripted import WAIT_S, reason, stamp, trailer


@pytest.fixture
async def place(start: Start, tmp_path: Path) -> AsyncIterator[Place]:
    """A manager with TLS on an empty state directory."""
    async with running(start, tmp_path) as made:
        yield made


def asked(token: str, name: str = "node-j", **fields: Any) -> registry.JoinRequest:
    """A request to join."""
    values: dict[str, Any] = {
        "request_id": str(uuid.uuid4()), "token": token, "volunteer_id": name,
        "signing_request": request().decode(), "sent_at": stamp(),
    }  # fmt: skip
    return registry.JoinRequest(**{**values, **fields})


async def test_a_machine_joins_by_a_token_without_any_other_credential(place: Place) -> None:
    """On the users' listener; a repeat of the request gets the same certificate."""
    _, text = place.office.create_token(1, 3600)
    async with place.users() as channel:
        stub: Any = registry_grpc.RegistryStub(channel)
        wish = asked(text)
        answer = await stub.Join(wish, timeout=WAIT_S)
        assert (await stub.Join(wish, timeout=WAIT_S)) == answer
    assert answer.authority.encode() == place.ca
    assert [one.name for one in place.office.folder.register().issued if one.token_id] == ["node-j"]


async def test_a_machine_that_ends_its_call_without_a_request_is_told(place: Place) -> None:
    """It has no credential, and its call takes no more room than others do."""
    async with place.users() as channel:
        begin: Any = channel.stream_stream("/syndicate.v1.Registry/Join")
        call = begin(timeout=WAIT_S)
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await call.read()
    assert (told.value.code(), reason(told)) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD")


@pytest.mark.parametrize(
    ("fields", "code", "why"),
    [
        ({"token": "abcd1234.nonsense"}, grpc.StatusCode.PERMISSION_DENIED, "BAD_JOIN_TOKEN"),
        ({"token": ""}, grpc.StatusCode.PERMISSION_DENIED, "BAD_JOIN_TOKEN"),
        ({"volunteer_id": "Node J"}, grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD"),
        ({"volunteer_id": ""}, grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD"),
        ({"signing_request": "nonsense"}, grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD"),
        ({"signing_request": "x" * 9000}, grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD"),
        ({"request_id": "x"}, grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD"),
        ({"volunteer_id": "node-a"}, grpc.StatusCode.ALREADY_EXISTS, "VOLUNTEER_EXISTS"),
        ({"sent_at": None}, grpc.StatusCode.FAILED_PRECONDITION, "CLOCK_OFF"),
    ],
)
async def test_who_may_not_join(
    place: Place, fields: dict[str, Any], code: grpc.StatusCode, why: str
) -> None:
    """Each with its reason; the token is not used up by it."""
    place.office.add("node-a", ())
    _, text = place.office.create_token(1, 3600)
    async with place.users() as channel:
        stub: Any = registry_grpc.RegistryStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Join(asked(**{"token": text, **fields}), timeout=WAIT_S)
        assert (caught.value.code(), reason(caught)) == (code, why)
        assert text not in (caught.value.details() or "")
        assert (await stub.Join(asked(text), timeout=WAIT_S)).certificate


async def test_more_calls_than_machines_that_join_are_refused(place: Place) -> None:
    """All callers together: wrong tokens use the same bound up, and who waits as told gets in."""
    _, text = place.office.create_token(500, 3600)
    numbers = itertools.count()

    async def ask(stub: Any, token: str) -> tuple[str | None, float]:
        try:
            await stub.Join(asked(token, f"node-{next(numbers)}"), timeout=WAIT_S)
        except grpc.aio.AioRpcError as error:
            told = dict(error.trailing_metadata() or ())
            return str(told["syndicate-reason"]), float(told.get("syndicate-meta-retry_after_s", 0))
        return None, 0.0

    async with place.users() as channel:
        stub: Any = registry_grpc.RegistryStub(channel)
        began = time.monotonic()
        wrong = await asyncio.gather(*(ask(stub, "abcd1234.nonsense") for _ in range(400)))
        right = await asyncio.gather(*(ask(stub, text) for _ in range(200)))
        took_s = time.monotonic() - began
        why, wait_s = await ask(stub, text)
        if why is not None:  # where the machine stood still for a moment there is room already
            await asyncio.sleep(wait_s + 0.001)  # told in milliseconds
            assert await ask(stub, text) == (None, 0.0)

    reasons = [why for why, _ in wrong]
    assert {*reasons} == {"BAD_JOIN_TOKEN", "TOO_MANY_CALLS"}
    assert 200 <= reasons.count("BAD_JOIN_TOKEN") <= 201 + 20 * took_s
    assert "TOO_MANY_CALLS" in {why for why, _ in right}
    assert all((wait_s > 0) == (why == "TOO_MANY_CALLS") for why, wait_s in wrong + right)


async def test_one_machine_is_given_so_many_certificates(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever joins or renews on and on fills neither the register nor the audit log; others get theirs."""
    monkeypatch.setattr("syndicate.manager.rpc.join._SIGNED_BURST", 6.0)  # each is synced to the disk
    _, text = place.office.create_token(2, 3600)

    async def ask(stub: Any, name: str, token: str = text) -> str | None:
        try:
            await stub.Join(asked(token, name), timeout=WAIT_S)
        except grpc.aio.AioRpcError as error:
            return str(dict(error.trailing_metadata() or ())["syndicate-reason"])
        return None

    async with place.users() as channel:
        stub: Any = registry_grpc.RegistryStub(channel)
        wrong = await asyncio.gather(*(ask(stub, "node-k", "abcd1234.nonsense") for _ in range(16)))
        given = [await ask(stub, "node-j") for _ in range(16)]
        other = await ask(stub, "node-k")
        identity = place.office.renew("node-m", ()).identity
        await place.reload()
        async with place.volunteers(of_bundle(identity)) as own:
            renewed = [await _renewed(registry_grpc.RegistryStub(own)) for _ in range(16)]

    assert set(wrong) == {"BAD_JOIN_TOKEN"} and other is None
    for answers in (given, renewed):
        assert set(answers) == {None, "TOO_MANY_CALLS"} and 6 <= answers.count(None) <= 8


async def _renewed(stub: Any) -> str | None:
    wish = registry.RenewRequest(
        request_id=str(uuid.uuid4()), signing_request=request().decode(), sent_at=stamp()
    )
    try:
        await stub.Renew(wish, timeout=WAIT_S)
    except grpc.aio.AioRpcError as error:
        return str(dict(error.trailing_metadata() or ())["syndicate-reason"])
    return None


async def test_a_clock_that_is_off_is_told_with_the_offset(place: Place) -> None:
    """In words, and as a number for programs."""
    _, text = place.office.create_token(1, 3600)
    began, late = time.time(), stamp()
    late.utc_ns -= 7200 * 10**9
    async with place.users() as channel:
        stub: Any = registry_grpc.RegistryStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Join(asked(text, sent_at=late), timeout=WAIT_S)
    behind_s = -int(trailer(caught.value)["syndicate-meta-offset_s"])
    assert 7200 <= behind_s <= 7200 + math.ceil(time.time() - began)  # with the way there
    assert f"{behind_s:,} s behind the manager's" in (caught.value.details() or "")


async def test_without_its_key_the_authority_signs_for_nobody(place: Place) -> None:
    """The manager serves on; who asks is told that it cannot sign, and no path of it."""
    _, text = place.office.create_token(1, 3600)
    (place.office.folder.path / "ca.key").unlink()
    async with place.users() as channel:
        stub: Any = registry_grpc.RegistryStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Join(asked(text), timeout=WAIT_S)
    assert reason(caught) == "CANNOT_SIGN"
    assert os.fspath(place.office.folder.path) not in (caught.value.details() or "")
